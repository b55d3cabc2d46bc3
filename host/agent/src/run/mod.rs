//! `millrace run`: a host, from its configuration to its orderly end.
//!
//! Owns the order of things. What can fail cheaply comes first, and the admin socket before
//! the dataplane, so that a second host fails before it touches an interface. Filters are loaded
//! before ports are opened: no packet passes a chain that is not whole. At the end the socket's
//! file goes first, then requests finish, then the dataplane ends and takes its XDP programs
//! along.

pub(crate) mod log;
mod predecessor;
pub(crate) mod privileges;
mod process;

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, bail};
use clap::Args;
use millrace_cni::Departures;
use millrace_control::World;
use millrace_dataplane::control::Dataplane;
use millrace_dataplane::control::request::Load;
use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};

use crate::api::server::{self, Host};
use crate::api::socket::AdminSocket;
use crate::api::types::LoadFilter;
use crate::config::{Config, StartPlan};
use crate::metrics;
use crate::node::cni::CniArgs;
use crate::node::host_maps::KeptMaps;
use crate::node::{Follower, Pods};
use predecessor::{Patience, Predecessor};

/// Forward packets between interfaces, through a chain of filters.
///
/// Says so in one line on standard output once it does, and goes on until it gets SIGINT or
/// SIGTERM. It needs root, or the capabilities it names if it has not got them.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  millrace run --port veth-a --port veth-b --filter bridge
  millrace run --port eth1,kind=uplink --port veth-a,kind=pod \\
      --filter 'deny=deny-list:{\"rules\": [{\"protocol\": \"tcp\", \"port\": 22}]}' \\
      --filter bridge --metrics 127.0.0.1:9310
  millrace run --config millrace.yaml --log debug

A configuration file:
  ports:
    - {name: veth-a, kind: pod}
    - {name: eth1, kind: uplink, vlans: 'trunk:10+20'}
  filters:
    - name: deny
      module: deny-list
      config: {rules: [{protocol: tcp, port: 22}]}
      terms: {kinds: [pod], onFault: closed}
    - {name: bridge, module: bridge}
  metrics: 127.0.0.1:9310")]
pub(crate) struct RunArgs {
    /// Read what flags do not say from this file, in YAML.
    #[arg(long = "config", value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    config: Config,
}

/// Runs a host until it is told to end.
pub(crate) fn run(args: RunArgs) -> anyhow::Result<()> {
    let config = match &args.file {
        Some(path) => args.config.over(Config::read(path)?),
        None => args.config,
    };
    log::start(config.log.as_deref(), config.log_format.unwrap_or_default())?;
    privileges::check()?;
    let plan = StartPlan::read(&config)?;
    host(&config, plan)
}

/// Starts what is planned, and answers requests until it is told to end.
fn host(config: &Config, plan: StartPlan) -> anyhow::Result<()> {
    let doors = Doors::open(config, Succession::None)?;
    let words = Words::of(&plan, &doors.path);
    let plane = start(plan, |_| {})?;
    words.say()?;
    serve(plane, None, doors)
}

/// Starts a node, as [`host`] does; the pods of before go on, with their connections.
pub(crate) fn node(
    plan: StartPlan,
    mut pods: Pods,
    mut follower: Follower,
    mut doors: Doors,
    cni: CniArgs,
    world: &World,
) -> anyhow::Result<()> {
    let words = Words::of(&plan, &doors.path);
    let plane = start(plan, |plane| follower.furnish(plane, world))?;
    pods.open(&plane).context("the pods of before")?;
    let (mut predecessor, patience) = (doors.predecessor.take(), Patience::default());
    let maps = KeptMaps::beside(&doors.path).context("what filters knew")?;
    let drained = || {
        if let Some(predecessor) = &mut predecessor {
            predecessor.drain(patience.drain).context("taking over")?;
        }
        maps.resume(plane.sandbox().maps());
        anyhow::Ok(())
    };
    let resumed = plane.take_over(drained).context("connections of before")?;
    tracing::info!(
        pods = pods.attached().len(),
        connections = resumed.connections,
        ended = resumed.ended,
        "going on with what there is"
    );
    pods.see_off(&plane, &Departures::beside(&doors.path)).context("departures of before")?;
    doors.enter()?;
    cni.install(&doors.path)?;
    words.say()?;
    serve(plane, Some(OfNode { pods, follower, cni, maps }), doors)
}

/// What a node has beside a dataplane.
struct OfNode {
    pods: Pods,
    follower: Follower,
    cni: CniArgs,
    maps: KeptMaps,
}

/// Whether a host takes over from one that lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Succession {
    /// One that answers is left alone.
    None,
    /// It does, if there is one.
    TakeOver,
    /// The same; and once it is taken over from itself, it waits to be told to end.
    TakeOverAndLinger,
}

/// Where requests come in. Until these are open, nothing is touched.
pub(crate) struct Doors {
    runtime: Runtime,
    signals: Signals,
    path: PathBuf,
    socket: AdminSocket,
    admin: UnixListener,
    metrics: Option<SocketAddr>,
    scrapes: Option<TcpListener>,
    predecessor: Option<Predecessor>,
    succession: Succession,
}

impl Doors {
    /// Opens them, unless another host has.
    pub(crate) fn open(config: &Config, succession: Succession) -> anyhow::Result<Self> {
        let runtime = waiter()?;
        let signals = runtime.block_on(async { Signals::listen() }).context("signals")?;
        let path = config.socket();
        let predecessor = match succession {
            Succession::None => None,
            Succession::TakeOver | Succession::TakeOverAndLinger => {
                Predecessor::ask(&path, Patience::default().leave).context("taking over")?
            }
        };
        let (socket, admin) = match &predecessor {
            None => AdminSocket::listen(&path)?,
            Some(_) => AdminSocket::listen_beside(&path)?,
        };
        let metrics = config.metrics;
        let scrapes = None;
        let mut this = Self {
            runtime,
            signals,
            path,
            socket,
            admin,
            metrics,
            scrapes,
            predecessor,
            succession,
        };
        if this.predecessor.is_none() {
            this.scrapes = this.metrics.map(listen).transpose()?;
        }
        Ok(this)
    }

    /// What serves requests, once all have started.
    pub(crate) fn runtime(&self) -> Handle {
        self.runtime.handle().clone()
    }

    /// Takes the place of the host before, which has nothing to say any more.
    fn enter(&mut self) -> anyhow::Result<()> {
        self.socket.replace(&self.path)?;
        let Some(address) = self.metrics.filter(|_| self.scrapes.is_none()) else { return Ok(()) };
        let give_up = Instant::now() + GRACE * 3;
        self.scrapes = loop {
            match listen(address) {
                Ok(listener) => break Some(listener),
                Err(error) if Instant::now() > give_up => return Err(error),
                // the one before is about to close it
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        };
        Ok(())
    }
}

fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    listener.with_context(|| format!("metrics at {address}"))
}

/// Starts the dataplane: filters first, those that `furnish` adds among them, then ports.
fn start(plan: StartPlan, furnish: impl FnOnce(&Dataplane)) -> anyhow::Result<Dataplane> {
    if plan.settings.zero_copy {
        for port in &plan.ports {
            if !Dataplane::can_do_without_copying(&[&port.interface]) {
                bail!(
                    "`--zero-copy`: the driver of `{}` copies; leave the flag out",
                    port.interface
                );
            }
        }
    }
    let plane = Dataplane::start(&plan.settings).context("the dataplane does not start")?;
    for filter in plan.filters {
        let name = filter.name.clone();
        load(&plane, filter).with_context(|| format!("filter `{name}`"))?;
    }
    furnish(&plane);
    for port in plan.ports {
        let name = port.interface.clone();
        plane.add_port(port).with_context(|| format!("port `{name}`"))?;
    }
    Ok(plane)
}

fn load(plane: &Dataplane, filter: LoadFilter) -> anyhow::Result<()> {
    Ok(plane.load(Load::try_from(filter).map_err(Error::msg)?)?)
}

/// Answers requests until a signal comes, or another host has taken over; then ends everything in
/// order.
fn serve(plane: Dataplane, node: Option<OfNode>, doors: Doors) -> anyhow::Result<()> {
    let Doors { runtime, mut signals, socket, admin, scrapes, succession, .. } = doors;
    let (end, ended) = watch::channel(false);
    let address = scrapes.as_ref().map(TcpListener::local_addr).transpose()?;
    let (pods, follower, cni, maps) = match node {
        Some(OfNode { pods, follower, cni, maps }) => {
            (Some(pods), Some(follower), Some(cni), Some(maps))
        }
        None => (None, None, None, None),
    };
    let known = follower.as_ref().map(|follower| follower.publisher().lock().known());
    let host = Arc::new(Host {
        plane,
        pods: pods.map(Mutex::new),
        known,
        cni,
        maps: maps.map(Mutex::new),
        leaving: AtomicBool::new(false),
        relieved: Notify::new(),
        outdated: Notify::new(),
        started: Instant::now(),
        metrics: address.map(|address| address.to_string()),
        looking_on: Mutex::default(),
        ended: ended.clone(),
    });
    let follower = follower.map(|follower| {
        let (host, ended) = (Arc::clone(&host), ended.clone());
        thread::Builder::new()
            .name("millrace-world".to_owned())
            .spawn(move || follower.follow(&host, &|| *ended.borrow()))
    });
    let follower = follower.transpose().context("a thread that follows the cluster")?;
    let keeper = host.maps.is_some().then(|| {
        let (host, ended) = (Arc::clone(&host), ended.clone());
        thread::Builder::new()
            .name("millrace-maps".to_owned())
            .spawn(move || keep_maps(&host, &|| *ended.borrow()))
    });
    let keeper = keeper.transpose().context("a thread that keeps what filters know")?;
    let ending = runtime.block_on(async {
        let until_the_end = |mut ended: watch::Receiver<bool>| async move {
            // the sender is not dropped before it has sent
            let _ = ended.wait_for(|ended| *ended).await;
        };
        let admin = tokio::net::UnixListener::from_std(admin)?;
        let admin = axum::serve(admin, server::routes(Arc::clone(&host)))
            .with_graceful_shutdown(until_the_end(ended.clone()));
        let admin = tokio::spawn(async { admin.await });
        if let Some(listener) = scrapes {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let scrapes = axum::serve(listener, metrics::routes(Arc::clone(&host)))
                .with_graceful_shutdown(until_the_end(ended));
            tokio::spawn(async { scrapes.await });
        }

        let ending = tokio::select! {
            name = signals.next() => {
                tracing::info!(signal = name, "ending");
                Ending::Asked
            }
            () = host.relieved.notified() => {
                tracing::info!("relieved");
                Ending::Relieved
            }
            () = host.outdated.notified() => Ending::Outdated,
        };
        drop(socket);
        let _ = end.send(true);
        // what takes longer is broken off
        let _ = tokio::time::timeout(GRACE, admin).await;
        anyhow::Ok(ending)
    })?;
    runtime.shutdown_timeout(GRACE);
    if follower.is_some_and(|follower| follower.join().is_err()) {
        tracing::error!("the thread that follows the cluster has panicked");
    }
    if keeper.is_some_and(|keeper| keeper.join().is_err()) {
        tracing::error!("the thread that keeps what filters know has panicked");
    }
    // the last one to have it takes the dataplane down
    drop(host);
    match ending {
        Ending::Relieved if succession == Succession::TakeOverAndLinger => linger(&mut signals),
        Ending::Outdated => bail!(
            "the Node has other podCIDRs than when the agent started: it is to be started anew, and gives \
             pods addresses of those then"
        ),
        Ending::Relieved | Ending::Asked => Ok(()),
    }
}

/// Why a host ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// A signal came.
    Asked,
    /// Another host has taken over.
    Relieved,
    /// It serves a node that is another one now.
    Outdated,
}

/// Keeps what filters know for the next host, until it is over and once more.
fn keep_maps(host: &Host, ended: &dyn Fn() -> bool) {
    let Some(maps) = &host.maps else { return };
    let mut next = Instant::now();
    loop {
        let is_over = ended();
        if is_over || Instant::now() >= next {
            next = Instant::now() + maps.lock().keep(host.plane.sandbox().maps());
        }
        if is_over {
            return;
        }
        thread::sleep(HEARTBEAT);
    }
}

/// Does nothing until a signal comes.
pub(crate) fn await_end() -> anyhow::Result<()> {
    let mut signals = waiter()?.block_on(async { Signals::listen() }).context("signals")?;
    linger(&mut signals)
}

/// Does nothing any more until a signal comes, which may have come already.
fn linger(signals: &mut Signals) -> anyhow::Result<()> {
    let name = waiter()?.block_on(signals.next());
    tracing::info!(signal = name, "ending");
    Ok(())
}

/// What waits for requests and signals.
fn waiter() -> anyhow::Result<Runtime> {
    Builder::new_current_thread().enable_all().build().context("an I/O runtime")
}

/// The line that says that packets are forwarded.
struct Words(String);

impl Words {
    fn of(plan: &StartPlan, socket: &Path) -> Self {
        let names = |names: Vec<&str>, none: &str, between: &str| match names.is_empty() {
            true => none.to_owned(),
            false => names.join(between),
        };
        let ports = plan.ports.iter().map(|port| &*port.interface).collect();
        let filters = plan.filters.iter().map(|filter| &*filter.name).collect();
        Self(format!(
            "forwarding between {} through {}; admin socket {}",
            names(ports, "no ports yet", ", "),
            names(filters, "no filters yet", " ▸ "),
            socket.display()
        ))
    }

    fn say(&self) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", self.0).and_then(|()| out.flush()).context("standard output")
    }
}

/// The signals that end a host.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From now on signals wait to be taken, and end nothing by themselves.
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

/// How soon threads notice that they are to end.
const HEARTBEAT: Duration = Duration::from_millis(200);
/// How long requests may take to finish at the end.
const GRACE: Duration = Duration::from_secs(2);
