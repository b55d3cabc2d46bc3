//! On interfaces: the dataplane, and others that carry packets between the same two, in turns.
//!
//! Every sample puts its peer in place, lets a packet pass in each direction, measures, and takes
//! the peer away again: nobody's threads are about while another one is measured.
//!
//! - [`ground`]: namespaces, interfaces, ends; [`queues`]: sockets on them
//! - [`peer`]: who carries packets; [`plane`], [`l2fwd`], [`redirect`], [`script`]: some of them
//! - [`measure`]: what is measured, and on which cores

pub mod ground;
pub mod l2fwd;
pub mod measure;
pub mod peer;
pub mod plane;
pub mod queues;
pub mod redirect;
pub mod script;

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use millrace_traffic::Core;
use millrace_traffic::sink::Sink;

use self::ground::Ground;
use self::measure::{Measure, Placement, Quantity};
use self::peer::{Peer, Recall, Start};
use crate::outcome::{Chart, Line, Outcome, Style};
use crate::plan::Plan;
use crate::promise::Promise;
use crate::statistics::Estimate;
use crate::unit::Unit;

/// WASM against native, end to end.
pub const END_TO_END: Promise = Promise::at_least(
    "packets of 64 B over veths, the bridge as WASM against native",
    0.97,
    Unit::Ratio,
);

/// What the dataplane adds to the I/O when it remembers flows.
pub const WITH_FLOWS: Promise = Promise::at_least(
    "packets of 64 B over veths with the bridge, against a bare AF_XDP l2fwd, flows remembered",
    0.95,
    Unit::Ratio,
);

/// What it adds when the chain is asked about every packet.
pub const WITH_CHAIN: Promise = Promise::at_least(
    "packets of 64 B over veths with the bridge, against a bare AF_XDP l2fwd, chain on every packet",
    0.90,
    Unit::Ratio,
);

/// What a host without traffic uses.
pub const IDLE: Promise =
    Promise::at_most("CPU of an idle host with two ports and bridge", 1.0, Unit::PercentOfCore);

/// Measures all peers.
///
/// # Errors
/// If the ground cannot be had, or the dataplane or what it is held against does not work.
pub fn run(plan: &Plan, outcome: &mut Outcome) -> Result<()> {
    let ground = Ground::new(plan.named.as_ref())?;
    let bench =
        Bench { sink: ground.sink()?, ground, cores: Placement::of(&Core::available())?, plan };
    let mut peers: Vec<Measured> = Peer::all(&plan.peers).into_iter().map(Measured::new).collect();
    for measure in Measure::ALL {
        for run in 0..measure.extent(plan).0 {
            // nobody always comes behind the same one
            let first = run % peers.len();
            let (behind, before) = peers.split_at_mut(first);
            for peer in before.iter_mut().chain(behind) {
                bench.sample(peer, measure)?;
            }
        }
    }
    report(&peers, outcome);
    outcome.notes.push(note(plan, bench.cores));
    Ok(())
}

struct Bench<'p> {
    ground: Ground,
    sink: Sink,
    cores: Placement,
    plan: &'p Plan,
}

/// A peer, and what was measured of it.
struct Measured {
    peer: Peer,
    samples: BTreeMap<Quantity, Vec<f64>>,
    /// Why it is not measured any more.
    failure: Option<String>,
}

impl Measured {
    fn new(peer: Peer) -> Self {
        Self { peer, samples: BTreeMap::new(), failure: None }
    }
}

impl Bench<'_> {
    /// Takes one sample, and with it all quantities that it gives. A peer that nothing is promised
    /// about may fail, and is left out then.
    fn sample(&self, measured: &mut Measured, measure: Measure) -> Result<()> {
        let peer = &measured.peer;
        let applies = match measure {
            Measure::Rest => peer.has_threads(),
            Measure::SplitFrames => peer.takes_single_frames(),
            _ => true,
        };
        if measured.failure.is_some() || !applies {
            return Ok(());
        }
        match self.sample_peer(peer, measure) {
            Ok(found) => {
                for (quantity, value) in found {
                    measured.samples.entry(quantity).or_default().push(value);
                }
            }
            Err(error) if peer.is_promised() => {
                return Err(error.context(format!("measuring `{}`", peer.label())));
            }
            Err(error) => measured.failure = Some(format!("{error:#}")),
        }
        Ok(())
    }

    fn sample_peer(&self, peer: &Peer, measure: Measure) -> Result<Vec<(Quantity, f64)>> {
        let Self { ground, sink, cores, plan } = self;
        let start = Start { ground, cache: &plan.cache, core: cores.carrier };
        let _in_place = peer.start(&start)?;
        // after it: a program at a port may change what its other end can do; greetings are read
        ground.set_ends(peer.ends(true)).context("preparing the ends")?;
        ground.greet()?;
        ground.set_ends(measure.ends(peer)).context("preparing the ends")?;
        measure.sample(ground, sink, *cores, measure.extent(plan).1)
    }
}

fn report(peers: &[Measured], outcome: &mut Outcome) {
    for quantity in Quantity::ALL {
        for measured in peers {
            if let Some(samples) = measured.samples.get(&quantity) {
                let peer = measured.peer.label();
                outcome.sampled(quantity.label(), peer, quantity.unit(), samples);
            }
        }
    }
    let of = |peer: &Peer, quantity| {
        let measured = peers.iter().find(|measured| measured.peer == *peer)?;
        measured.samples.get(&quantity)
    };
    let ratio = |a: &Peer, b: &Peer, quantity| {
        let (a, b) = (of(a, quantity)?, of(b, quantity)?);
        (a.len() == b.len()).then(|| Estimate::of_pairs(a, b, |a, b| a / b))
    };
    let of_rates = [
        (Peer::Millrace(Recall::Flows), Peer::Native(Recall::Flows), END_TO_END),
        (Peer::Millrace(Recall::Nothing), Peer::Native(Recall::Nothing), END_TO_END),
        (Peer::Millrace(Recall::Flows), Peer::L2fwd, WITH_FLOWS),
        (Peer::Millrace(Recall::Nothing), Peer::L2fwd, WITH_CHAIN),
    ];
    for (ours, other, promise) in of_rates {
        if let Some(estimate) = ratio(&ours, &other, Quantity::SplitRate) {
            let what = format!("split frames of 64 B, {} / {}", ours.label(), other.label());
            // two that keep up with the sender say nothing about each other
            let limits = [&ours, &other].map(|peer| is_all(of(peer, Quantity::SplitShare)));
            if limits.contains(&true) {
                outcome.undecided(what, &promise, estimate);
            } else {
                outcome.held(what, &promise, estimate);
            }
        }
    }
    let ours = Peer::Millrace(Recall::Flows);
    if let Some(samples) = of(&ours, Quantity::IdleCpu) {
        outcome.held("idle CPU, millrace", &IDLE, Estimate::of(samples));
    }
    for quantity in Quantity::ALL {
        let others = peers.iter().filter(|other| other.peer != ours);
        let plain =
            [Quantity::IdleCpu, Quantity::SmallShare, Quantity::SplitShare].contains(&quantity);
        for other in others.filter(|_| !plain) {
            if let Some(estimate) = ratio(&ours, &other.peer, quantity) {
                let what = format!("{}, millrace / {}", quantity.label(), other.peer.label());
                outcome.found(what, Unit::Ratio, estimate);
            }
        }
    }
    for (share, rate) in
        [(Quantity::SmallShare, Quantity::SmallRate), (Quantity::SplitShare, Quantity::SplitRate)]
    {
        let limited = peers.iter().filter(|measured| is_all(measured.samples.get(&share)));
        let limited: Vec<_> = limited.map(|measured| measured.peer.label()).collect();
        if !limited.is_empty() {
            outcome.notes.push(format!(
                "The sender was the limit for {} over {}: all that was sent arrived. That two of \
                 them are alike says no more than that both keep up with it, and decides no \
                 promise.",
                rate.label(),
                limited.join(", ")
            ));
        }
    }
    for measured in peers {
        if let Some(failure) = &measured.failure {
            outcome.notes.push(format!("`{}` was left out: {failure}", measured.peer.label()));
        }
    }
    outcome.charts.extend([
        chart(peers, "Packets over veths", &[Quantity::SmallRate, Quantity::LargeRate]),
        chart(peers, "Split packets over veths", &[Quantity::SplitRate]),
        chart(peers, "TCP over veths", &[Quantity::StreamRate]),
        chart(
            peers,
            "Round trips over veths",
            &[Quantity::RoundTripMedian, Quantity::RoundTripTail],
        ),
        chart(peers, "CPU per packet of 64 B over veths", &[Quantity::CpuPerPacket]),
    ]);
}

/// Whether all that was sent arrived.
fn is_all(share: Option<&Vec<f64>>) -> bool {
    share.is_some_and(|share| Estimate::of(share).median > ALL_OF_IT)
}

fn chart(peers: &[Measured], title: &str, quantities: &[Quantity]) -> Chart {
    // a peer that failed has no samples of something
    let whole = |measured: &&Measured| quantities.iter().all(|q| measured.samples.contains_key(q));
    let peers: Vec<_> = peers.iter().filter(whole).collect();
    let line = |quantity: &Quantity| {
        let points = peers.iter().map(|measured| Estimate::of(&measured.samples[quantity]));
        Line { name: quantity.label().to_owned(), points: points.collect() }
    };
    Chart {
        title: title.to_owned(),
        across: String::new(),
        cases: peers.iter().map(|measured| measured.peer.label().to_owned()).collect(),
        style: Style::Apart,
        unit: quantities[0].unit(),
        bound: None,
        lines: quantities.iter().map(line).collect(),
    }
}

fn note(plan: &Plan, cores: Placement) -> String {
    let ground = match &plan.named {
        None => "veths of their own".to_owned(),
        Some(named) => format!("`{}` and `{}`", named.ports[0], named.ports[1]),
    };
    format!(
        "Over {ground}. A star: the chain is asked about every packet (`--no-cache`). Senders and \
         clients are on core {}, workers and `l2fwd` on core {}, receivers and servers on core {}; \
         the kernel's part runs on whichever core a packet is on. Frames are datagrams of a UDP \
         socket, and are counted at the far interface. Split frames are handed to the kernel 64 \
         at a time and split there (UDP segmentation), which only XDP at a port makes sure of: \
         other peers would hand them on whole, and are left out; their senders complete checksums, so \
         that all are handed the same. CPU per frame is what all cores together \
         were busy, the sender included, so it counts whatever else the machine does. `l2fwd` and \
         XDP redirect complete no checksums: for TCP their ends do it themselves; and for XDP \
         redirect the ends have GRO, which such frames need.",
        cores.sender.number(),
        cores.carrier.number(),
        cores.receiver.number()
    )
}

/// From this share on, what is missing may be on its way.
const ALL_OF_IT: f64 = 0.98;
