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
//! - [`handover`]: whether flows keep their order when the kernel takes them over

pub mod handover;
pub mod measure;
pub mod peer;
pub mod population;
pub mod redecide;
pub mod routed;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use millrace_traffic::Core;
use millrace_traffic::sink::Sink;

use self::measure::{Lanes, Measure, Quantity, Spot};
use self::peer::{Peer, Places, Workers};
use crate::outcome::{Chart, Line, Outcome, Style};
use crate::plan::Plan;
use crate::promise::{Bound, Promise};
use crate::statistics::Estimate;
use crate::unit::Unit;
use crate::veth::ground::Ground;

/// Small packets of offloaded flows.
pub const SMALL: Promise =
    at_least("offloaded flow against the kernel's bridge, 64 B packets", 1.2);

/// Offloaded streams.
pub const STREAM: Promise =
    at_least("offloaded flow against the kernel's bridge, TCP stream", 1.05);

/// Offloaded round trips.
pub const ROUND_TRIP: Promise = Promise {
    what: "offloaded flow against the kernel's bridge, round trip p50",
    bound: Bound::AtMost(1.0),
    unit: Unit::Ratio,
    aim: None,
};

/// New connections.
pub const CONNECTIONS: Promise =
    at_least("new connections per second against routing with connection tracking", 1.0);

/// What of a connection comes to user space, and a few packets of the neighbours beside.
pub const PUNTS: Promise = Promise {
    what: "packets in user space for 100 connections between pods",
    bound: Bound::AtMost(101.0),
    unit: Unit::Count,
    aim: None,
};

const fn at_least(what: &'static str, bound: f64) -> Promise {
    Promise { what, bound: Bound::AtLeast(bound), unit: Unit::Ratio, aim: None }
}

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
    for measure in Measure::ALL {
        let peers: Vec<_> =
            Peer::ALL.into_iter().filter(|&peer| measure.applies_to(peer)).collect();
        for run in 0..plan.runs(15, 6) {
            // nobody always comes behind the same one
            for turn in 0..peers.len() {
                let peer = peers[(run + turn) % peers.len()];
                let found = bench.sample(peer, measure);
                let found = found.with_context(|| format!("measuring `{}`", peer.label()))?;
                samples.note(peer, found);
            }
        }
    }
    report(&samples, outcome);
    outcome.notes.push(note(bench.places));
    Ok(())
}

struct Bench<'p> {
    ground: Ground,
    sink: Sink,
    places: Places,
    time: Duration,
    cache: &'p Path,
}

impl Bench<'_> {
    fn sample(&self, peer: Peer, measure: Measure) -> Result<Vec<(Quantity, f64)>> {
        let Self { ground, sink, places, time, cache } = self;
        let placed = peer.start(ground, cache, *places)?;
        measure.sample(&Spot { ground, sink, placed: &placed, places: *places, time: *time })
    }
}

impl Places {
    /// The first core and the last.
    ///
    /// # Errors
    /// If they are one.
    pub fn available() -> Result<Self> {
        let cores = Core::available();
        ensure!(cores.len() >= 2, "pods are measured on two cores at least");
        Ok(Self { near: cores[0], apart: cores[cores.len() - 1] })
    }
}

/// The samples of each peer, by quantity.
#[derive(Default)]
struct Samples(BTreeMap<(Quantity, &'static str), Vec<f64>>);

impl Samples {
    fn note(&mut self, peer: Peer, found: Vec<(Quantity, f64)>) {
        for (quantity, value) in found {
            self.0.entry((quantity, peer.label())).or_default().push(value);
        }
    }

    fn of(&self, peer: Peer, quantity: Quantity) -> Option<&[f64]> {
        self.0.get(&(quantity, peer.label())).map(Vec::as_slice)
    }

    fn ratio(&self, a: Peer, b: Peer, quantity: Quantity) -> Option<Estimate> {
        let (a, b) = (self.of(a, quantity)?, self.of(b, quantity)?);
        Some(Estimate::of_pairs(a, b, |a, b| a / b))
    }
}

fn report(samples: &Samples, outcome: &mut Outcome) {
    for quantity in Quantity::ALL {
        for peer in Peer::ALL {
            if let Some(samples) = samples.of(peer, quantity) {
                outcome.sampled(quantity.label(), peer.label(), quantity.unit(), samples);
            }
        }
    }
    for quantity in Quantity::ALL {
        for ours in Peer::ALL.into_iter().filter(|peer| matches!(peer, Peer::Millrace(_))) {
            if !quantity.is_compared() {
                if let Some(found) = samples.of(ours, quantity) {
                    let what = format!("{}, {}", quantity.label(), ours.label());
                    state(
                        outcome,
                        what,
                        promise(ours, None, quantity),
                        quantity,
                        Estimate::of(found),
                    );
                }
                continue;
            }
            for other in [Peer::KernelBridge, Peer::Routed] {
                if let Some(ratio) = samples.ratio(ours, other, quantity) {
                    let what =
                        format!("{}, {} / {}", quantity.label(), ours.label(), other.label());
                    state(outcome, what, promise(ours, Some(other), quantity), quantity, ratio);
                }
            }
        }
    }
    outcome.charts.extend([
        chart(samples, "Packets of 64 B between pods", &[Quantity::SmallRate]),
        chart(samples, "TCP between pods", &[Quantity::StreamRate, Quantity::StreamsRate]),
        chart(samples, "Round trips between pods", &[Quantity::TcpMedian, Quantity::UdpMedian]),
        chart(samples, "Connections between pods", &CONNECTING),
    ]);
}

/// Notes what was found, held to a promise if there is one.
fn state(
    outcome: &mut Outcome,
    what: String,
    promise: Option<Promise>,
    quantity: Quantity,
    estimate: Estimate,
) {
    match promise {
        Some(promise) => outcome.held(what, &promise, estimate),
        None if quantity.is_compared() => outcome.found(what, Unit::Ratio, estimate),
        None => outcome.found(what, quantity.unit(), estimate),
    }
}

/// What is promised of a quantity, beside another peer or by itself: about workers where a node
/// has them.
fn promise(ours: Peer, other: Option<Peer>, quantity: Quantity) -> Option<Promise> {
    let bridge = Some(Peer::KernelBridge);
    match quantity {
        _ if ours != Peer::Millrace(Workers::Everywhere) => None,
        Quantity::SmallRate if other == bridge => Some(SMALL),
        Quantity::StreamRate if other == bridge => Some(STREAM),
        Quantity::TcpMedian | Quantity::UdpMedian if other == bridge => Some(ROUND_TRIP),
        Quantity::Connections(_) if other == Some(Peer::Routed) => Some(CONNECTIONS),
        Quantity::Punts(_) => Some(PUNTS),
        _ => None,
    }
}

fn chart(samples: &Samples, title: &str, quantities: &[Quantity]) -> Chart {
    let whole = |peer: &Peer| quantities.iter().all(|&q| samples.of(*peer, q).is_some());
    let peers: Vec<_> = Peer::ALL.into_iter().filter(whole).collect();
    let line = |quantity: &Quantity| {
        let points = peers.iter().filter_map(|&peer| samples.of(peer, *quantity));
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

const CONNECTING: [Quantity; 2] =
    [Quantity::Connections(Lanes::One), Quantity::Connections(Lanes::Many)];

/// The interface of a pod.
pub(crate) const POD_LINK: &str = "eth0";

/// Of the network of the pods, and none of theirs.
pub(crate) const GATEWAY_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 254);
