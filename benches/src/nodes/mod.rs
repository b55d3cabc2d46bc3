//! Between nodes: the dataplane with the kernel's flow cache, and what the kernel has for the same,
//! in turns; in VXLAN tunnels, and as the underlay routes it.
//!
//! - [`ground`]: two nodes with a pod each, for each peer its own
//! - [`peer`]: who carries packets

pub mod ground;
pub mod peer;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use millrace_traffic::blast::Handing;
use millrace_traffic::cpu::CpuMeter;
use millrace_traffic::exchange::{ExchangeSettings, Over, exchange};
use millrace_traffic::sink::{Sink, discard_at};
use millrace_traffic::stream::{StreamSettings, stream};

use self::ground::Ground;
use self::peer::{Between, Peer};
use crate::outcome::{Chart, Line, Outcome, Style};
use crate::plan::Plan;
use crate::pods::peer::Places;
use crate::promise::{Bound, Promise};
use crate::statistics::Estimate;
use crate::unit::Unit;
use crate::veth::measure::{Placement, blast};

/// What a packet costs.
pub const PACKET: Promise =
    at_most("across nodes, CPU per packet against bridge, VXLAN and routing of the kernel", 0.85);

/// What a stream costs.
pub const STREAM: Promise =
    at_most("across nodes, CPU per Gbit against bridge, VXLAN and routing of the kernel", 0.9);

const fn at_most(what: &'static str, bound: f64) -> Promise {
    Promise { what, bound: Bound::AtMost(bound), unit: Unit::Ratio, aim: None }
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measure {
    /// As many packets of 64 bytes as a pod can send.
    SmallPackets,
    /// One TCP connection in bulk.
    Stream,
    /// A byte there and back, again and again.
    Exchange(Over),
}

/// What is learned by that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Quantity {
    SmallRate,
    CpuPerPacket,
    StreamRate,
    CpuPerGigabit,
    RoundTripMedian(Over),
    RoundTripTail(Over),
}

/// Measures all peers.
///
/// # Errors
/// If the nodes cannot be had, or a peer does not work.
pub fn run(plan: &Plan, outcome: &mut Outcome) -> Result<()> {
    let places = Places::available()?;
    let time = plan.much(Duration::from_millis(600), Duration::from_millis(150));
    let mut placed = Vec::new();
    for peer in Peer::ALL {
        let there = peer.start(&plan.cache)?;
        let sink = there.ground.sink()?;
        placed.push((peer, there, sink));
    }
    let mut samples = Samples::default();
    for measure in Measure::ALL {
        for run in 0..plan.runs(15, 6) {
            // nobody always comes behind the same one
            for turn in 0..placed.len() {
                let (peer, there, sink) = &placed[(run + turn) % placed.len()];
                let found = measure.sample(&there.ground, sink, places, time);
                let found = found.with_context(|| format!("measuring `{}`", peer.label()))?;
                for (quantity, value) in found {
                    samples.0.entry((quantity, peer.label())).or_default().push(value);
                }
            }
        }
    }
    report(&samples, outcome);
    Ok(())
}

impl Measure {
    const ALL: [Self; 4] =
        [Self::SmallPackets, Self::Stream, Self::Exchange(Over::Tcp), Self::Exchange(Over::Udp)];

    fn sample(
        self,
        ground: &Ground,
        sink: &Sink,
        places: Places,
        time: Duration,
    ) -> Result<Vec<(Quantity, f64)>> {
        let Places { near, apart } = places;
        let ends = [ground.near(), ground.far()];
        Ok(match self {
            Self::SmallPackets => {
                let cores = Placement { sender: near, carrier: apart, receiver: apart };
                let to = discard_at(ends[1]);
                let blasted = blast(ends[0], to, sink, cores, time, SMALL, Handing::Singly)?;
                vec![(Quantity::SmallRate, blasted.rate), (Quantity::CpuPerPacket, blasted.cpu)]
            }
            Self::Stream => {
                let (sender, receiver) = (Some(near), Some(apart));
                let settings = StreamSettings { streams: 1, time, sender, receiver };
                let meter = CpuMeter::start()?;
                let streamed = stream(ends[0], ends[1], settings)?;
                let used = meter.stop()?;
                let gigabits = streamed.bytes as f64 * 8.0 / 1e9;
                let cpu = used.busy().as_nanos() as f64 / gigabits / 1e6;
                let rate = streamed.bits_per_second();
                vec![(Quantity::StreamRate, rate), (Quantity::CpuPerGigabit, cpu)]
            }
            Self::Exchange(over) => {
                let core = Some(near);
                let settings = ExchangeSettings { over, time, client: core, server: core };
                let latencies = exchange(ends[0], ends[1], settings)?;
                let micros = |percent| -> Result<f64> {
                    let time = latencies.percentile(percent).context("nothing came back")?;
                    Ok(time.as_nanos() as f64 / 1e3)
                };
                let (median, tail) = (micros(50.0)?, micros(99.0)?);
                vec![
                    (Quantity::RoundTripMedian(over), median),
                    (Quantity::RoundTripTail(over), tail),
                ]
            }
        })
    }
}

/// The samples of each peer, by quantity.
#[derive(Default)]
struct Samples(BTreeMap<(Quantity, &'static str), Vec<f64>>);

impl Samples {
    fn of(&self, peer: Peer, quantity: Quantity) -> Option<&[f64]> {
        self.0.get(&(quantity, peer.label())).map(Vec::as_slice)
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
    for between in [Between::Vxlan, Between::Native] {
        let (ours, kernel) = (Peer::Millrace(between), Peer::Kernel(between));
        for quantity in Quantity::ALL {
            let (Some(a), Some(b)) = (samples.of(ours, quantity), samples.of(kernel, quantity))
            else {
                continue;
            };
            let ratio = Estimate::of_pairs(a, b, |a, b| a / b);
            let what = format!("{}, {} / {}", quantity.label(), ours.label(), kernel.label());
            match (between, quantity) {
                (Between::Vxlan, Quantity::CpuPerPacket) => outcome.held(what, &PACKET, ratio),
                (Between::Vxlan, Quantity::CpuPerGigabit) => outcome.held(what, &STREAM, ratio),
                _ => outcome.found(what, Unit::Ratio, ratio),
            }
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
    let points = Peer::ALL.into_iter().filter_map(|peer| samples.of(peer, quantity));
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

impl Quantity {
    const ALL: [Self; 8] = [
        Self::SmallRate,
        Self::CpuPerPacket,
        Self::StreamRate,
        Self::CpuPerGigabit,
        Self::RoundTripMedian(Over::Tcp),
        Self::RoundTripTail(Over::Tcp),
        Self::RoundTripMedian(Over::Udp),
        Self::RoundTripTail(Over::Udp),
    ];

    const fn label(self) -> &'static str {
        match self {
            Self::SmallRate => "packets of 64 B",
            Self::CpuPerPacket => "CPU per packet of 64 B",
            Self::StreamRate => "TCP stream",
            Self::CpuPerGigabit => "CPU per Gbit of a TCP stream",
            Self::RoundTripMedian(Over::Tcp) => "TCP round trip p50",
            Self::RoundTripTail(Over::Tcp) => "TCP round trip p99",
            Self::RoundTripMedian(Over::Udp) => "UDP round trip p50",
            Self::RoundTripTail(Over::Udp) => "UDP round trip p99",
        }
    }

    const fn unit(self) -> Unit {
        match self {
            Self::SmallRate => Unit::PacketsPerSecond,
            Self::CpuPerPacket => Unit::Nanoseconds,
            Self::StreamRate => Unit::BitsPerSecond,
            Self::CpuPerGigabit => Unit::Milliseconds,
            Self::RoundTripMedian(_) | Self::RoundTripTail(_) => Unit::Microseconds,
        }
    }
}

/// Bytes of a small frame.
const SMALL: usize = 64;
