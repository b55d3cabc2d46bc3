//! Agents that are killed, and taken over from, under load: is anything of known flows lost, and
//! for how long are new ones not answered?
//!
//! A lab of two nodes, with the program `millrace` beside this one as their agents. Datagrams of
//! known flows go to a pod of the node whose agent comes and goes; a new flow is opened every few
//! milliseconds, and asks the pod's echo once.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use millrace_control::source::Manifests;
use millrace_control::{PodName, World};
use millrace_lab::{AgentCommand, Former, Lab, LabName, NodePlace, Settings, Topology};
use millrace_netns::{Namespace, unique_name};
use millrace_traffic::End;
use millrace_traffic::sequence::{Sequence, SequenceSettings};

use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::promise::Promise;
use crate::statistics::{Estimate, percentile};
use crate::unit::Unit;

/// Known flows do not notice that an agent is killed.
pub const KILLED: Promise =
    Promise::none("packets of known flows lost by killed agents, under load");

/// Nor that another one takes over.
pub const TAKEN_OVER: Promise =
    Promise::none("packets of known flows lost by upgrades, under load");

/// And then neither do new flows.
pub const UNANSWERED: Promise =
    Promise::none("new flows not answered because of upgrades, under load");

/// Kills 100 agents and takes over from 100, or 10 of each quickly.
///
/// # Errors
/// If the program is not there, or a lab is not made of it.
pub fn run(plan: &Plan, outcome: &mut Outcome) -> Result<()> {
    let times = plan.much(100, 10);
    let ground = Cluster::up()?;
    let killed = ground.change(Former::Killed, times)?;
    outcome.held(format!("lost by {times} killed agents"), &KILLED, exact(killed.lost));
    let taken_over = ground.change(Former::TakenOver, times)?;
    outcome.held(format!("lost in {times} upgrades"), &TAKEN_OVER, exact(taken_over.lost));
    let unanswered = taken_over.unanswered;
    outcome.held(format!("unanswered in {times} upgrades"), &UNANSWERED, exact(unanswered));
    for (what, changes) in [("a killed agent", &killed), ("an upgrade", &taken_over)] {
        let mut sorted = changes.gaps.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let gap = format!("new flows not answered around {what}");
        outcome.sampled(&gap, "millrace", Unit::Milliseconds, &changes.gaps);
        for part in [0.5, 0.99] {
            let at = Estimate::exact(percentile(&sorted, part));
            outcome.found(format!("{gap}, p{:.0}", part * 100.0), Unit::Milliseconds, at);
        }
        outcome.notes.push(format!(
            "Around {what}: {} datagrams of known flows and {} new flows, one every \
             {PERIOD:?}; {} of those were not answered.",
            changes.sent, changes.opened, changes.unanswered
        ));
    }
    Ok(())
}

fn exact(count: u64) -> Estimate {
    Estimate::exact(count as f64)
}

/// What became of packets while agents came and went.
struct Changes {
    sent: u64,
    lost: u64,
    opened: u64,
    unanswered: u64,
    /// For how many milliseconds no new flow was answered, around each change.
    gaps: Vec<f64>,
}

/// Two nodes, which go when this is dropped.
struct Cluster {
    lab: Lab,
    folder: PathBuf,
}

impl Cluster {
    fn up() -> Result<Self> {
        let millrace = env::current_exe()?.with_file_name("millrace");
        ensure!(
            millrace.exists(),
            "{} is not there: build it with `cargo build --release -p millrace`",
            millrace.display()
        );
        let name: LabName = unique_name("bench").parse()?;
        let folder = env::temp_dir().join(name.to_string());
        let world = world(&folder)?;
        let settings = Settings {
            name,
            topology: Topology::Flat,
            mtu: 1500,
            server: vec![millrace.clone().into(), "lab".into(), "serve".into()],
        };
        let agent = |place: &NodePlace| AgentCommand {
            command: command(&millrace, place),
            environment: Vec::new(),
        };
        let lab = Lab::up(world, &settings, Some(&agent));
        let lab = lab.inspect_err(|_| drop(fs::remove_dir_all(&folder)))?;
        Ok(Self { lab, folder })
    }

    /// Changes the agent of a node, again and again.
    fn change(&self, former: Former, times: usize) -> Result<Changes> {
        let (shop, cart) = (self.pod("shop")?, self.pod("cart")?);
        let from = End { namespace: &shop.0, address: shop.1 };
        let to = End { namespace: &cart.0, address: cart.1 };
        let sequence = Sequence::start(from, to, SequenceSettings::default())?;
        ensure!(sequence.await_arrivals(1000), "no datagram arrives");
        // a flow is a known one when the kernel carries it, at once or by force
        thread::sleep(PATIENCE);
        let (mut gaps, mut opened, mut unanswered) = (Vec::new(), 0, 0);
        for _ in 0..times {
            let done = AtomicBool::new(false);
            let probes = thread::scope(|scope| {
                let probing = scope.spawn(|| probe(&shop.0, (cart.1, ECHO).into(), &done));
                thread::sleep(PERIOD * 10);
                let changed = Lab::restart(&self.lab.state().name, "east", former);
                thread::sleep(PERIOD * 10);
                done.store(true, Ordering::Release);
                let probes = probing.join().expect("probing does not panic");
                changed?;
                anyhow::Ok(probes?)
            })?;
            opened += probes.len() as u64;
            unanswered += probes.iter().filter(|probe| !probe.answered).count() as u64;
            gaps.push(longest_gap(&probes).as_secs_f64() * 1e3);
        }
        let report = sequence.stop()?;
        Ok(Changes { sent: report.sent, lost: report.lost, opened, unanswered, gaps })
    }

    fn pod(&self, name: &str) -> Result<(Namespace, IpAddr)> {
        let name = PodName::new("default", name);
        let pods = &self.lab.state().pods;
        let pod = pods.iter().find(|pod| pod.name == name).context("the pod")?;
        let address = pod.addresses.first().context("its address")?;
        Ok((Namespace::open(&pod.namespace)?, *address))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(error) = Lab::down(&self.lab.state().name) {
            eprintln!("millrace-bench: the lab stays: {error}");
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A new flow.
struct Probe {
    socket: UdpSocket,
    sent: Instant,
    answered: bool,
}

/// Opens a flow every now and then until told to end.
fn probe(from: &Namespace, to: SocketAddr, done: &AtomicBool) -> Result<Vec<Probe>> {
    let mut probes: Vec<Probe> = Vec::new();
    let mut waiting = Vec::new();
    let mut sockets: Vec<UdpSocket> = Vec::new();
    while !done.load(Ordering::Acquire) {
        if sockets.is_empty() {
            sockets = from.run(|| {
                (0..AT_ONCE)
                    .map(|_| UdpSocket::bind(("0.0.0.0", 0)))
                    .collect::<std::io::Result<_>>()
            })??;
        }
        let socket = sockets.pop().context("there are some")?;
        socket.set_nonblocking(true)?;
        socket.send_to(b"probe", to)?;
        waiting.push(probes.len());
        probes.push(Probe { socket, sent: Instant::now(), answered: false });
        hear(&mut probes, &mut waiting);
        thread::sleep(PERIOD);
    }
    let patience = Instant::now() + PATIENCE;
    while !waiting.is_empty() && Instant::now() < patience {
        hear(&mut probes, &mut waiting);
        thread::sleep(PERIOD);
    }
    Ok(probes)
}

/// Hears what has been answered of those that wait, however old they are.
fn hear(probes: &mut [Probe], waiting: &mut Vec<usize>) {
    waiting.retain(|&at| {
        probes[at].answered = probes[at].socket.recv(&mut [0; 256]).is_ok();
        !probes[at].answered
    });
}

/// The longest time without a flow that is answered.
fn longest_gap(probes: &[Probe]) -> Duration {
    let answered: Vec<_> =
        probes.iter().filter(|probe| probe.answered).map(|probe| probe.sent).collect();
    let gaps = answered.windows(2).map(|pair| pair[1] - pair[0]);
    gaps.max().unwrap_or_default()
}

/// The cluster of the example.
fn world(folder: &Path) -> Result<World> {
    fs::create_dir_all(folder)?;
    for (file, text) in [("nodes.yaml", NODES), ("pods.yaml", PODS)] {
        fs::write(folder.join(file), text)?;
    }
    Ok(Manifests::open(folder)?.read()?.0)
}

/// How `millrace` is a node's agent.
fn command(millrace: &Path, place: &NodePlace) -> Vec<OsString> {
    let mut command: Vec<OsString> = vec![millrace.into(), "node".into(), "--take-over".into()];
    let paths = [
        ("--manifests", &place.manifests),
        ("--socket", &place.socket),
        ("--pins", &place.pins),
        ("--module-cache", &place.folder.join("modules")),
    ];
    for (flag, path) in paths {
        command.extend([flag.into(), path.into()]);
    }
    command.extend(["--name".into(), place.node.name.clone().into()]);
    command
}

const NODES: &str = include_str!("../../examples/lab/nodes.yaml");
const PODS: &str = include_str!("../../examples/lab/pods.yaml");
/// Where a pod's server echoes.
const ECHO: u16 = 7;
/// How often a flow is opened.
const PERIOD: Duration = Duration::from_millis(2);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// Sockets that are opened together.
const AT_ONCE: usize = 100;
