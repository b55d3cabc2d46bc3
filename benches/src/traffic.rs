//! Traffic between two ends, and what is measured of it: the same packets on the same cores between
//! pods of a node, between nodes, through Services and in clusters.
//!
//! - [`Measure`]: what is done; [`Quantity`]: what is learned by that
//! - [`Spot`]: between whom; [`Places`]: on which cores
//!
//! Who carries the packets is none of this file's business.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use millrace_traffic::blast::Handing;
use millrace_traffic::connect::{ConnectSettings, Connected, connect};
use millrace_traffic::cpu::CpuMeter;
use millrace_traffic::exchange::{ExchangeSettings, Over, exchange};
use millrace_traffic::sink::{Sink, discard_at};
use millrace_traffic::stream::{StreamSettings, stream};
use millrace_traffic::{Core, End, Latencies, Server};

use crate::unit::Unit;
use crate::veth::measure::{Placement, blast};

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    /// As many packets of 64 bytes as a pod can send.
    SmallPackets,
    /// One TCP connection in bulk.
    Stream,
    /// Eight of them.
    Streams,
    /// A byte there and back, again and again.
    Exchange(Over),
    /// Connections in so many lanes side by side.
    Connect(Lanes),
}

/// How many connections there are at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lanes {
    /// One after the other.
    One,
    /// 64 of them.
    Many,
}

/// What is learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quantity {
    /// Packets of 64 bytes that arrive.
    SmallRate,
    /// What all cores together spend for one of them, its sender included.
    CpuPerPacket,
    /// Bits of a TCP stream that arrive.
    StreamRate,
    /// What all cores together spend for a gigabit of it, both ends included.
    CpuPerGigabit,
    /// Bits of eight TCP streams that arrive.
    StreamsRate,
    /// What half of all round trips do not take.
    RoundTripMedian(Over),
    /// What 99 of 100 of them do not take.
    RoundTripTail(Over),
    /// Connections made and closed.
    Connections(Lanes),
    /// What half of them do not take from their beginning to the answer.
    ConnectionMedian(Lanes),
    /// For how long half of all first packets were not answered.
    OpeningMedian(Lanes),
    /// For how long 99 of 100 of them were not.
    OpeningTail(Lanes),
}

/// Where a sample is taken.
#[derive(Clone, Copy)]
pub struct Spot<'a> {
    /// Who sends, asks and connects.
    pub client: End<'a>,
    /// Who is connected to, and asked.
    pub server: Server<'a>,
    /// Where packets go that are to be counted.
    pub discard: SocketAddr,
    /// What counts them.
    pub sink: &'a Sink,
    /// The cores.
    pub places: Places,
    /// For how long.
    pub time: Duration,
}

/// The cores that matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// Who sends, asks and connects.
    pub near: Core,
    /// Another one, for who works beside them.
    pub apart: Core,
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

    /// A sender on the first one, and all others apart.
    pub(crate) fn placement(self) -> Placement {
        Placement { sender: self.near, carrier: self.apart, receiver: self.apart }
    }
}

impl Measure {
    /// Takes a sample.
    ///
    /// # Errors
    /// If there is no traffic.
    pub fn sample(self, spot: &Spot<'_>) -> Result<Vec<(Quantity, f64)>> {
        match self {
            Self::SmallPackets => spot.small_packets(),
            Self::Stream => spot.streams(1),
            Self::Streams => spot.streams(8),
            Self::Exchange(over) => spot.exchange(over),
            Self::Connect(lanes) => Quantity::of_connections(lanes, &spot.connect(lanes)?),
        }
    }
}

impl<'a> Spot<'a> {
    /// Between two ends that reach each other by their own addresses.
    pub(crate) fn between(
        [client, server]: [End<'a>; 2],
        sink: &'a Sink,
        places: Places,
        time: Duration,
    ) -> Self {
        Self { client, server: server.into(), discard: discard_at(server), sink, places, time }
    }

    fn small_packets(&self) -> Result<Vec<(Quantity, f64)>> {
        let cores = self.places.placement();
        let Self { client, discard, sink, time, .. } = *self;
        let blasted = blast(client, discard, sink, cores, time, SMALL, Handing::Singly)?;
        Ok(vec![(Quantity::SmallRate, blasted.rate), (Quantity::CpuPerPacket, blasted.cpu)])
    }

    fn streams(&self, streams: u32) -> Result<Vec<(Quantity, f64)>> {
        let (sender, receiver) = (Some(self.places.near), Some(self.places.apart));
        let settings = StreamSettings { streams, time: self.time, sender, receiver };
        let meter = CpuMeter::start()?;
        let streamed = stream(self.client, self.server, settings)?;
        let used = meter.stop()?;
        let rate = streamed.bits_per_second();
        let gigabits = streamed.bytes as f64 * 8.0 / 1e9;
        let cpu = used.busy().as_nanos() as f64 / gigabits / 1e6;
        Ok(match streams {
            1 => vec![(Quantity::StreamRate, rate), (Quantity::CpuPerGigabit, cpu)],
            _ => vec![(Quantity::StreamsRate, rate)],
        })
    }

    /// Both ends on one core: waking up another one costs more than the way there.
    fn exchange(&self, over: Over) -> Result<Vec<(Quantity, f64)>> {
        let core = Some(self.places.near);
        let settings = ExchangeSettings { over, time: self.time, client: core, server: core };
        let latencies = exchange(self.client, self.server, settings)?;
        Ok(vec![
            (Quantity::RoundTripMedian(over), micros(&latencies, 50.0)?),
            (Quantity::RoundTripTail(over), micros(&latencies, 99.0)?),
        ])
    }

    /// Makes connections: one after the other on one core, many on both.
    ///
    /// # Errors
    /// If none is made, or more than a few are reset.
    pub(crate) fn connect(&self, lanes: Lanes) -> Result<Connected> {
        let Places { near, apart } = self.places;
        let (number, server) = match lanes {
            Lanes::One => (1, near),
            Lanes::Many => (64, apart),
        };
        let (client, server) = (Some(near), Some(server));
        let settings = ConnectSettings { lanes: number, time: self.time, client, server };
        let made = connect(self.client, self.server, settings)?;
        let few = made.latencies.len() as u64 / 1_000 + 1;
        ensure!(
            made.resets <= few,
            "{} of {} connections were reset",
            made.resets,
            made.latencies.len()
        );
        Ok(made)
    }
}

impl Quantity {
    /// What is learned of connections.
    ///
    /// # Errors
    /// If there are none.
    pub(crate) fn of_connections(lanes: Lanes, made: &Connected) -> Result<Vec<(Self, f64)>> {
        Ok(vec![
            (Self::Connections(lanes), made.per_second()),
            (Self::ConnectionMedian(lanes), micros(&made.latencies, 50.0)?),
            (Self::OpeningMedian(lanes), micros(&made.openings, 50.0)?),
            (Self::OpeningTail(lanes), micros(&made.openings, 99.0)?),
        ])
    }

    /// What results call it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::SmallRate => "packets of 64 B",
            Self::CpuPerPacket => "CPU per packet of 64 B",
            Self::StreamRate => "TCP stream",
            Self::CpuPerGigabit => "CPU per Gbit of a TCP stream",
            Self::StreamsRate => "8 TCP streams",
            Self::RoundTripMedian(Over::Tcp) => "TCP round trip p50",
            Self::RoundTripTail(Over::Tcp) => "TCP round trip p99",
            Self::RoundTripMedian(Over::Udp) => "UDP round trip p50",
            Self::RoundTripTail(Over::Udp) => "UDP round trip p99",
            Self::Connections(Lanes::One) => "connections, sequential",
            Self::Connections(Lanes::Many) => "connections, 64 in parallel",
            Self::ConnectionMedian(Lanes::One) => "connection p50, sequential",
            Self::ConnectionMedian(Lanes::Many) => "connection p50, 64 in parallel",
            Self::OpeningMedian(Lanes::One) => "answer to a first packet p50, sequential",
            Self::OpeningMedian(Lanes::Many) => "answer to a first packet p50, 64 in parallel",
            Self::OpeningTail(Lanes::One) => "answer to a first packet p99, sequential",
            Self::OpeningTail(Lanes::Many) => "answer to a first packet p99, 64 in parallel",
        }
    }

    /// Its unit.
    pub const fn unit(self) -> Unit {
        match self {
            Self::SmallRate => Unit::PacketsPerSecond,
            Self::CpuPerPacket => Unit::Nanoseconds,
            Self::StreamRate | Self::StreamsRate => Unit::BitsPerSecond,
            Self::CpuPerGigabit => Unit::Milliseconds,
            Self::Connections(_) => Unit::PerSecond,
            Self::RoundTripMedian(_)
            | Self::RoundTripTail(_)
            | Self::ConnectionMedian(_)
            | Self::OpeningMedian(_)
            | Self::OpeningTail(_) => Unit::Microseconds,
        }
    }
}

/// Microseconds that so many of a hundred did not take.
fn micros(latencies: &Latencies, percent: f64) -> Result<f64> {
    let time = latencies.percentile(percent).context("nothing came back")?;
    Ok(time.as_nanos() as f64 / 1e3)
}

/// Bytes of a small packet.
const SMALL: usize = 64;
