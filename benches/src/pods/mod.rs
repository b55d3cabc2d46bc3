//! Between pods: the dataplane with the kernel's flow cache, and what the kernel has for the same,
//! on the same veths, in turns.
//!
//! Every sample puts its peer in place and takes it away again, as on other interfaces; flows are
//! new to it then, and in the cache after their first packet.
//!
//! - [`peer`]: who carries packets; [`routed`]: one of them
//! - [`measure`]: what is measured, and on which cores
//! - [`redecide`]: how soon live flows follow a change
//! - [`population`]: what few busy flows notice of many others
//! - [`bandwidth`]: whether limits of pods are kept to
//! - [`hostile`]: what pods notice of one that scans
//! - [`handover`]: whether flows keep their order when the kernel takes them over

pub mod bandwidth;
pub mod handover;
pub mod hostile;
pub mod measure;
pub mod peer;
pub mod population;
pub mod redecide;
pub mod routed;

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use millrace_traffic::exchange::Over;
use millrace_traffic::sink::Sink;

use self::measure::{Measure, Quantity, Spot};
use self::peer::{Peer, Workers};
use crate::outcome::{Chart, Line, Outcome, Style};
use crate::plan::Plan;
use crate::promise::Promise;
use crate::samples::in_turns;
use crate::statistics::Estimate;
use crate::traffic::Quantity::{Connections, RoundTripMedian, SmallRate, StreamRate, StreamsRate};
use crate::traffic::{self, Lanes, Places};
use crate::unit::Unit;
use crate::veth::ground::Ground;

/// Small packets of offloaded flows.
pub const SMALL: Promise =
    Promise::at_least("offloaded flow against the kernel's bridge, 64 B packets", 1.2, Unit::Ratio);

/// Offloaded streams.
pub const STREAM: Promise =
    Promise::at_least("offloaded flow against the kernel's bridge, TCP stream", 1.05, Unit::Ratio);

/// Offloaded round trips.
pub const ROUND_TRIP: Promise = Promise::at_most(
    "offloaded flow against the kernel's bridge, round trip p50",
    1.0,
    Unit::Ratio,
);

/// New connections.
pub const CONNECTIONS: Promise = Promise::at_least(
    "new connections per second against routing with connection tracking",
    1.0,
    Unit::Ratio,
);

/// What of a connection comes to user space, and a few packets of the neighbours beside.
pub const PUNTS: Promise =
    Promise::at_most("packets in user space for 100 connections between pods", 101.0, Unit::Count);

/// Measures all peers.
///
/// # Errors
/// If the pods cannot be had, or a peer does not work.
pub fn run(plan: &Plan, outcome: &mut Outcome) -> Result<()> {
    let ground = Ground::new(None)?;
    let bench = Bench {
        sink: ground.sink()?,
        ground,
        places: Places::available()?,
        time: plan.much(Duration::from_millis(600), Duration::from_millis(150)),
        cache: &plan.cache,
    };
    let mut samples = Samples::default();
    let measured = bench.measure(plan, &mut samples);
    // what was measured counts, whatever has happened to the rest
    report(&samples, outcome);
    outcome.notes.push(note(bench.places));
    measured
}

struct Bench<'p> {
    ground: Ground,
    sink: Sink,
    places: Places,
    time: Duration,
    cache: &'p Path,
}

impl Bench<'_> {
    fn measure(&self, plan: &Plan, samples: &mut Samples) -> Result<()> {
        for measure in Measure::ALL {
            let peers: Vec<_> =
                Peer::ALL.into_iter().filter(|&peer| measure.applies_to(peer)).collect();
            for run in 0..plan.runs(15, 6) {
                for &peer in in_turns(&peers, run) {
                    let found = self.sample(peer, measure);
                    let found = found.with_context(|| format!("measuring `{}`", peer.label()))?;
                    for (quantity, value) in found {
                        samples.note((quantity, peer), value);
                    }
                }
            }
        }
        Ok(())
    }

    fn sample(&self, peer: Peer, measure: Measure) -> Result<Vec<(Quantity, f64)>> {
        let Self { ground, sink, places, time, cache } = self;
        let placed = peer.start(ground, cache, *places)?;
        measure.sample(&Spot { ground, sink, placed: &placed, places: *places, time: *time })
    }
}

/// The samples of each peer, by quantity.
type Samples = crate::samples::Samples<(Quantity, Peer)>;

fn report(samples: &Samples, outcome: &mut Outcome) {
    for ((quantity, peer), found) in samples.iter() {
        outcome.sampled(quantity.label(), peer.label(), quantity.unit(), found);
    }
    for quantity in samples.each(|(quantity, _)| *quantity) {
        for ours in Peer::ALL.into_iter().filter(|peer| matches!(peer, Peer::Millrace(_))) {
            if !quantity.is_compared() {
                if let Some(found) = samples.of(&(quantity, ours)) {
                    let what = format!("{}, {}", quantity.label(), ours.label());
                    let promise = promise(ours, None, quantity);
                    let estimate = Estimate::of(found);
                    outcome.state(what, promise, quantity.unit(), estimate);
                }
                continue;
            }
            for other in [Peer::KernelBridge, Peer::Routed] {
                if let Some(ratio) = samples.ratio(&(quantity, ours), &(quantity, other)) {
                    let what =
                        format!("{}, {} / {}", quantity.label(), ours.label(), other.label());
                    let promise = promise(ours, Some(other), quantity);
                    outcome.state(what, promise, Unit::Ratio, ratio);
                }
            }
        }
    }
    outcome.charts.extend([
        chart(samples, "Packets of 64 B between pods", &[SmallRate]),
        chart(samples, "TCP between pods", &[StreamRate, StreamsRate]),
        chart(samples, "Round trips between pods", &[Over::Tcp, Over::Udp].map(RoundTripMedian)),
        chart(samples, "Connections between pods", &[Lanes::One, Lanes::Many].map(Connections)),
    ]);
}

/// What is promised of a quantity, beside another peer or by itself: about workers where a node
/// has them.
fn promise(ours: Peer, other: Option<Peer>, quantity: Quantity) -> Option<&'static Promise> {
    let bridge = Some(Peer::KernelBridge);
    match quantity {
        _ if ours != Peer::Millrace(Workers::Everywhere) => None,
        Quantity::Traffic(SmallRate) if other == bridge => Some(&SMALL),
        Quantity::Traffic(StreamRate) if other == bridge => Some(&STREAM),
        Quantity::Traffic(RoundTripMedian(_)) if other == bridge => Some(&ROUND_TRIP),
        Quantity::Traffic(Connections(_)) if other == Some(Peer::Routed) => Some(&CONNECTIONS),
        Quantity::Punts(_) => Some(&PUNTS),
        _ => None,
    }
}

fn chart(samples: &Samples, title: &str, quantities: &[traffic::Quantity]) -> Chart {
    let of = |quantity, peer| samples.of(&(Quantity::Traffic(quantity), peer));
    let whole = |peer: &Peer| quantities.iter().all(|&quantity| of(quantity, *peer).is_some());
    let peers: Vec<_> = Peer::ALL.into_iter().filter(whole).collect();
    let line = |quantity: &traffic::Quantity| {
        let points = peers.iter().filter_map(|&peer| of(*quantity, peer));
        Line { name: quantity.label().to_owned(), points: points.map(Estimate::of).collect() }
    };
    Chart {
        title: title.to_owned(),
        across: String::new(),
        cases: peers.iter().map(|peer| peer.label().to_owned()).collect(),
        style: Style::Apart,
        unit: quantities[0].unit(),
        bound: None,
        lines: quantities.iter().map(line).collect(),
    }
}

fn note(places: Places) -> String {
    format!(
        "Pods are namespaces on veths. Senders and clients are on core {}, receivers of streams and \
         servers of parallel connections on core {}, all other servers on their client's core. \
         millrace has a worker on each core, asleep, as a node has; \"apart\" is a single one on \
         core {}. CPU is what all cores together were busy, both ends included.",
        places.near.number(),
        places.apart.number(),
        places.apart.number()
    )
}

/// The interface of a pod.
pub(crate) const POD_LINK: &str = "eth0";

/// Of the network of the pods, and none of theirs.
pub(crate) const GATEWAY_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 254);
