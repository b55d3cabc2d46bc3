//! `millrace run`: a host, from its configuration to its orderly end.
//!
//! Owns the order of things. What can fail cheaply comes first, and the admin socket before
//! the dataplane, so that a second host fails before it touches an interface. Filters are loaded
//! before ports are opened: no packet passes a chain that is not whole. At the end the socket's
//! file goes first, then requests finish, then the dataplane ends and takes its XDP programs
//! along.

pub(crate) mod log;
pub(crate) mod privileges;

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, bail};
use clap::Args;
use millrace_dataplane::control::Dataplane;
use millrace_dataplane::control::request::Load;
use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::api::server::{self, Host};
use crate::api::socket::AdminSocket;
use crate::api::types::LoadFilter;
use crate::config::{Config, StartPlan};
use crate::metrics;
use crate::node::{Follower, Pods, chain};

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
    host(&config, plan, None)
}

/// Starts what is planned, and answers requests until it is told to end.
pub(crate) fn host(
    config: &Config,
    plan: StartPlan,
    mut node: Option<(Pods, Follower)>,
) -> anyhow::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build().context("an I/O runtime")?;
    let signals = runtime.block_on(async { Signals::listen() }).context("signals")?;
    let path = config.socket();
    let (socket, admin) = AdminSocket::listen(&path)?;
    let metrics = config.metrics.map(|address| {
        let listener = TcpListener::bind(address)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
        listener.with_context(|| format!("metrics at {address}"))
    });
    let metrics = metrics.transpose()?;

    let words = Words::of(&plan, &path);
    let plane = start(plan)?;
    if let Some((pods, follower)) = &mut node {
        chain::publish(&plane, pods).context("telling the chain of the host's port")?;
        follower.tell(&plane);
    }
    words.say()?;
    serve(runtime, plane, node, Doors { socket, admin, metrics }, signals)
}

/// Where requests come in.
struct Doors {
    socket: AdminSocket,
    admin: UnixListener,
    metrics: Option<TcpListener>,
}

/// Starts the dataplane: filters first, then ports.
fn start(plan: StartPlan) -> anyhow::Result<Dataplane> {
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
    for port in plan.ports {
        let name = port.interface.clone();
        plane.add_port(port).with_context(|| format!("port `{name}`"))?;
    }
    Ok(plane)
}

fn load(plane: &Dataplane, filter: LoadFilter) -> anyhow::Result<()> {
    Ok(plane.load(Load::try_from(filter).map_err(Error::msg)?)?)
}

/// Answers requests until a signal comes, then ends everything in order.
fn serve(
    runtime: Runtime,
    plane: Dataplane,
    node: Option<(Pods, Follower)>,
    doors: Doors,
    mut signals: Signals,
) -> anyhow::Result<()> {
    let (end, ended) = watch::channel(false);
    let address = doors.metrics.as_ref().map(TcpListener::local_addr).transpose()?;
    let (pods, follower) = node.unzip();
    let services = follower.as_ref().map(Follower::statuses);
    let host = Arc::new(Host {
        plane,
        pods: pods.map(Mutex::new),
        services,
        started: Instant::now(),
        metrics: address.map(|address| address.to_string()),
        ended: ended.clone(),
    });
    let follower = follower.map(|follower| {
        let (host, ended) = (Arc::clone(&host), ended.clone());
        thread::Builder::new()
            .name("millrace-world".to_owned())
            .spawn(move || follower.follow(&host.plane, &|| *ended.borrow()))
    });
    let follower = follower.transpose().context("a thread that follows the manifests")?;
    runtime.block_on(async {
        let until_the_end = |mut ended: watch::Receiver<bool>| async move {
            // the sender is not dropped before it has sent
            let _ = ended.wait_for(|ended| *ended).await;
        };
        let admin = tokio::net::UnixListener::from_std(doors.admin)?;
        let admin = axum::serve(admin, server::routes(Arc::clone(&host)))
            .with_graceful_shutdown(until_the_end(ended.clone()));
        let admin = tokio::spawn(async { admin.await });
        if let Some(listener) = doors.metrics {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let scrapes = axum::serve(listener, metrics::routes(Arc::clone(&host)))
                .with_graceful_shutdown(until_the_end(ended));
            tokio::spawn(async { scrapes.await });
        }

        let name = signals.next().await;
        tracing::info!(signal = name, "ending");
        drop(doors.socket);
        let _ = end.send(true);
        // what takes longer is broken off
        let _ = tokio::time::timeout(GRACE, admin).await;
        anyhow::Ok(())
    })?;
    runtime.shutdown_timeout(GRACE);
    if follower.is_some_and(|follower| follower.join().is_err()) {
        tracing::error!("the thread that follows the manifests has panicked");
    }
    // the last one to have it takes the dataplane down
    drop(host);
    Ok(())
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

/// How long requests may take to finish at the end.
const GRACE: Duration = Duration::from_secs(2);
