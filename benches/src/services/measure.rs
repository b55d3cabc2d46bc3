//! What is measured through a Service, and how.

use std::time::Duration;

use anyhow::{Context, Result};
use millrace_traffic::Latencies;
use millrace_traffic::blast::Handing;
use millrace_traffic::connect::{ConnectSettings, connect};
use millrace_traffic::cpu::CpuMeter;
use millrace_traffic::sink::{Sink, discard_at};
use millrace_traffic::stream::{StreamSettings, stream};

use super::site::Site;
use crate::pods::measure::Lanes;
use crate::pods::peer::Places;
use crate::unit::Unit;
use crate::veth::measure::{Placement, blast};

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// As many packets of 64 bytes as a pod can send.
    SmallPackets(To),
    /// One TCP connection in bulk.
    Stream,
    /// Connections in so many lanes side by side.
    Connect(Lanes),
}

/// Where a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum To {
    /// To the Service's address.
    Service,
    /// To that of a pod behind it.
    Pod,
}

/// What is learned by that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quantity {
    /// Packets of 64 bytes that arrive.
    SmallRate(To),
    /// What all cores together spend for one of them, its sender included.
    CpuPerPacket(To),
    /// Bits of a TCP stream that arrive.
    StreamRate,
    /// What all cores together spend for a gigabit of it, both ends included.
    CpuPerGigabit,
    /// Connections made and closed.
    Connections(Lanes),
    /// For how long half of all first packets were not answered.
    OpeningMedian(Lanes),
    /// For how long 99 of 100 of them were not.
    OpeningTail(Lanes),
}

/// Where a sample is taken.
pub struct Spot<'a> {
    /// The client, and who is behind the Service.
    pub site: &'a Site,
    /// What counts there.
    pub sink: &'a Sink,
    /// The cores.
    pub places: Places,
    /// For how long.
    pub time: Duration,
}

impl Measure {
    /// All of them, in the order in which they are done.
    pub const ALL: [Self; 5] = [
        Self::SmallPackets(To::Service),
        Self::SmallPackets(To::Pod),
        Self::Stream,
        Self::Connect(Lanes::One),
        Self::Connect(Lanes::Many),
    ];

    /// Takes a sample.
    ///
    /// # Errors
    /// If there is no traffic.
    pub fn sample(self, spot: &Spot<'_>) -> Result<Vec<(Quantity, f64)>> {
        match self {
            Self::SmallPackets(to) => spot.small_packets(to),
            Self::Stream => spot.stream(),
            Self::Connect(lanes) => spot.connect(lanes),
        }
    }
}

impl Spot<'_> {
    fn small_packets(&self, to: To) -> Result<Vec<(Quantity, f64)>> {
        let Self { site, sink, places: Places { near, apart }, time } = *self;
        let cores = Placement { sender: near, carrier: apart, receiver: apart };
        let at = match to {
            To::Service => site.discard(),
            To::Pod => discard_at(site.ground.far()),
        };
        let blasted = blast(site.client(), at, sink, cores, time, SMALL, Handing::Singly)?;
        Ok(vec![(Quantity::SmallRate(to), blasted.rate), (Quantity::CpuPerPacket(to), blasted.cpu)])
    }

    fn stream(&self) -> Result<Vec<(Quantity, f64)>> {
        let (sender, receiver) = (Some(self.places.near), Some(self.places.apart));
        let settings = StreamSettings { streams: 1, time: self.time, sender, receiver };
        let meter = CpuMeter::start()?;
        let streamed = stream(self.site.client(), self.site.server(), settings)?;
        let used = meter.stop()?;
        let cpu = used.busy().as_nanos() as f64 / (streamed.bytes as f64 * 8.0 / 1e9) / 1e6;
        let rate = streamed.bits_per_second();
        Ok(vec![(Quantity::StreamRate, rate), (Quantity::CpuPerGigabit, cpu)])
    }

    /// One after the other on one core, many on both.
    fn connect(&self, lanes: Lanes) -> Result<Vec<(Quantity, f64)>> {
        let Places { near, apart } = self.places;
        let (number, server) = match lanes {
            Lanes::One => (1, near),
            Lanes::Many => (64, apart),
        };
        let (client, server) = (Some(near), Some(server));
        let settings = ConnectSettings { lanes: number, time: self.time, client, server };
        let connected = connect(self.site.client(), self.site.server(), settings)?;
        Ok(vec![
            (Quantity::Connections(lanes), connected.per_second()),
            (Quantity::OpeningMedian(lanes), micros(&connected.openings, 50.0)?),
            (Quantity::OpeningTail(lanes), micros(&connected.openings, 99.0)?),
        ])
    }
}

/// Microseconds that so many of a hundred did not take.
fn micros(latencies: &Latencies, percent: f64) -> Result<f64> {
    let time = latencies.percentile(percent).context("nothing came back")?;
    Ok(time.as_nanos() as f64 / 1e3)
}

impl Quantity {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::SmallRate(To::Service),
        Self::CpuPerPacket(To::Service),
        Self::SmallRate(To::Pod),
        Self::CpuPerPacket(To::Pod),
        Self::StreamRate,
        Self::CpuPerGigabit,
        Self::Connections(Lanes::One),
        Self::Connections(Lanes::Many),
        Self::OpeningMedian(Lanes::One),
        Self::OpeningTail(Lanes::One),
        Self::OpeningMedian(Lanes::Many),
        Self::OpeningTail(Lanes::Many),
    ];

    /// What results call it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::SmallRate(To::Service) => "packets of 64 B",
            Self::CpuPerPacket(To::Service) => "CPU per packet of 64 B",
            Self::SmallRate(To::Pod) => "packets of 64 B to a pod itself",
            Self::CpuPerPacket(To::Pod) => "CPU per packet of 64 B to a pod itself",
            Self::StreamRate => "TCP stream",
            Self::CpuPerGigabit => "CPU per Gbit of a TCP stream",
            Self::Connections(Lanes::One) => "connections, sequential",
            Self::Connections(Lanes::Many) => "connections, 64 in parallel",
            Self::OpeningMedian(Lanes::One) => "answer to a first packet p50, sequential",
            Self::OpeningTail(Lanes::One) => "answer to a first packet p99, sequential",
            Self::OpeningMedian(Lanes::Many) => "answer to a first packet p50, 64 in parallel",
            Self::OpeningTail(Lanes::Many) => "answer to a first packet p99, 64 in parallel",
        }
    }

    /// Its unit.
    pub const fn unit(self) -> Unit {
        match self {
            Self::SmallRate(_) => Unit::PacketsPerSecond,
            Self::CpuPerPacket(_) => Unit::Nanoseconds,
            Self::StreamRate => Unit::BitsPerSecond,
            Self::CpuPerGigabit => Unit::Milliseconds,
            Self::Connections(_) => Unit::PerSecond,
            Self::OpeningMedian(_) | Self::OpeningTail(_) => Unit::Microseconds,
        }
    }
}

/// Bytes of a small frame.
const SMALL: usize = 64;
