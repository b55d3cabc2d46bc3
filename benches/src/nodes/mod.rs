//! Between nodes: the dataplane with the kernel's flow cache, and what the kernel has for the same,
//! in turns; in VXLAN tunnels, and as the underlay routes it.
//!
//! - [`ground`]: two nodes with a pod each, for each peer its own
//! - [`peer`]: who carries packets

pub mod ground;
pub mod peer;

use std::time::Duration;

use anyhow::{Context, Result};
use millrace_traffic::exchange::Over;
use millrace_traffic::sink::Sink;

use self::peer::{Between, Peer, Placed};
use crate::outcome::{Chart, Line, Outcome, Style};
use crate::plan::Plan;
use crate::promise::Promise;
use crate::samples::in_turns;
use crate::statistics::Estimate;
use crate::traffic::{Measure, Places, Quantity, Spot};
use crate::unit::Unit;

/// What a packet costs.
pub const PACKET: Promise = Promise::at_most(
    "across nodes, CPU per packet against bridge, VXLAN and routing of the kernel",
    0.85,
    Unit::Ratio,
);

/// What a stream costs.
pub const STREAM: Promise = Promise::at_most(
    "across nodes, CPU per Gbit against bridge, VXLAN and routing of the kernel",
    0.9,
    Unit::Ratio,
);

/// Measures all peers.
///
/// # Errors
/// If the nodes cannot be had, or a peer does not work.
pub fn run(plan: &Plan, outcome: &mut Outcome) -> Result<()> {
    let mut placed = Vec::new();
    for peer in Peer::ALL {
        let there = peer.start(&plan.cache)?;
        let sink = there.ground.sink()?;
        placed.push((peer, there, sink));
    }
    let mut samples = Samples::default();
    let measured = measure(plan, &placed, &mut samples);
    // what was measured counts, whatever has happened to the rest
    report(&samples, outcome);
    measured
}

/// The samples of each peer, by quantity.
type Samples = crate::samples::Samples<(Quantity, Peer)>;

fn measure(plan: &Plan, placed: &[(Peer, Placed, Sink)], samples: &mut Samples) -> Result<()> {
    let places = Places::available()?;
    let time = plan.much(Duration::from_millis(600), Duration::from_millis(150));
    for measure in MEASURES {
        for run in 0..plan.runs(15, 6) {
            for (peer, Placed { ground, .. }, sink) in in_turns(placed, run) {
                let spot = Spot::between([ground.near(), ground.far()], sink, places, time);
                let found = measure.sample(&spot);
                let found = found.with_context(|| format!("measuring `{}`", peer.label()))?;
                for (quantity, value) in found {
                    samples.note((quantity, *peer), value);
                }
            }
        }
    }
    Ok(())
}

fn report(samples: &Samples, outcome: &mut Outcome) {
    for ((quantity, peer), found) in samples.iter() {
        outcome.sampled(quantity.label(), peer.label(), quantity.unit(), found);
    }
    for between in [Between::Vxlan, Between::Native] {
        let (ours, kernel) = (Peer::Millrace(between), Peer::Kernel(between));
        for quantity in samples.each(|(quantity, _)| *quantity) {
            let Some(ratio) = samples.ratio(&(quantity, ours), &(quantity, kernel)) else {
                continue;
            };
            let what = format!("{}, {} / {}", quantity.label(), ours.label(), kernel.label());
            let promise = match (between, quantity) {
                (Between::Vxlan, Quantity::CpuPerPacket) => Some(&PACKET),
                (Between::Vxlan, Quantity::CpuPerGigabit) => Some(&STREAM),
                _ => None,
            };
            outcome.state(what, promise, Unit::Ratio, ratio);
        }
    }
    for (title, quantity) in [
        ("CPU of a packet of 64 B between nodes", Quantity::CpuPerPacket),
        ("CPU of a gigabit between nodes", Quantity::CpuPerGigabit),
    ] {
        outcome.charts.push(chart(samples, title, quantity));
    }
    outcome.notes.push(
        "Nodes and pods are namespaces; between nodes is a veth pair. Senders are on the first \
         core, receivers on the last, ends of an exchange both on the first. CPU is what all cores \
         together were busy, both nodes and both ends included. The kernel is set up as Flannel \
         does it, without its rules for masquerading."
            .to_owned(),
    );
}

fn chart(samples: &Samples, title: &str, quantity: Quantity) -> Chart {
    let points = Peer::ALL.into_iter().filter_map(|peer| samples.of(&(quantity, peer)));
    let points = points.map(Estimate::of).collect();
    Chart {
        title: title.to_owned(),
        across: String::new(),
        cases: Peer::ALL.map(|peer| peer.label().to_owned()).to_vec(),
        style: Style::Apart,
        unit: quantity.unit(),
        bound: None,
        lines: vec![Line { name: quantity.label().to_owned(), points }],
    }
}

/// What is measured, in this order.
const MEASURES: [Measure; 4] = [
    Measure::SmallPackets,
    Measure::Stream,
    Measure::Exchange(Over::Tcp),
    Measure::Exchange(Over::Udp),
];
