//! What is measured between pods, and how.

use std::time::Duration;

use anyhow::{Context, Result};
use millrace_traffic::Latencies;
use millrace_traffic::connect::{ConnectSettings, connect};
use millrace_traffic::cpu::CpuMeter;
use millrace_traffic::exchange::{ExchangeSettings, Over, exchange};
use millrace_traffic::sink::Sink;
use millrace_traffic::stream::{StreamSettings, stream};

use super::peer::{Peer, Placed, Places, Workers};
use crate::unit::Unit;
use crate::veth::ground::Ground;
use crate::veth::measure::{self as on_veths, Placement};

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// Nothing.
    Rest,
}

/// How many connections there are at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lanes {
    /// One after the other.
    One,
    /// 64 of them.
    Many,
}

/// What is learned by that.
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
    /// What half of all round trips over TCP do not take.
    TcpMedian,
    /// What 99 of 100 of them do not take.
    TcpTail,
    /// What half of all round trips over UDP do not take.
    UdpMedian,
    /// What 99 of 100 of them do not take.
    UdpTail,
    /// Connections made and closed.
    Connections(Lanes),
    /// What half of them do not take from their beginning to the answer.
    OpeningMedian(Lanes),
    /// Packets that came to user space for a hundred of them.
    Punts(Lanes),
    /// What the host's threads use without traffic.
    IdleCpu,
}

/// Where a sample is taken.
pub struct Spot<'a> {
    /// The pods.
    pub ground: &'a Ground,
    /// What counts at one of them.
    pub sink: &'a Sink,
    /// Who carries packets.
    pub placed: &'a Placed,
    /// The cores.
    pub places: Places,
    /// For how long.
    pub time: Duration,
}

impl Measure {
    /// All of them, in the order in which they are done.
    pub const ALL: [Self; 8] = [
        Self::SmallPackets,
        Self::Stream,
        Self::Streams,
        Self::Exchange(Over::Tcp),
        Self::Exchange(Over::Udp),
        Self::Connect(Lanes::One),
        Self::Connect(Lanes::Many),
        Self::Rest,
    ];

    /// Whether it says something of a peer: where workers are matters to new flows alone, and the
    /// kernel has no threads of its own.
    pub fn applies_to(self, peer: Peer) -> bool {
        match peer {
            Peer::Millrace(Workers::Everywhere) => true,
            Peer::Millrace(_) => matches!(self, Self::Connect(_)),
            Peer::KernelBridge | Peer::Routed => self != Self::Rest,
        }
    }

    /// Takes a sample.
    ///
    /// # Errors
    /// If there is no traffic.
    pub fn sample(self, spot: &Spot<'_>) -> Result<Vec<(Quantity, f64)>> {
        match self {
            Self::SmallPackets => spot.as_on_veths(on_veths::Measure::SmallFrames),
            Self::Rest => spot.as_on_veths(on_veths::Measure::Rest),
            Self::Stream => spot.stream(1),
            Self::Streams => spot.stream(8),
            Self::Exchange(over) => spot.exchange(over),
            Self::Connect(lanes) => spot.connect(lanes),
        }
    }
}

impl Spot<'_> {
    /// What is measured here as it is between wires.
    fn as_on_veths(&self, measure: on_veths::Measure) -> Result<Vec<(Quantity, f64)>> {
        let Places { near, apart } = self.places;
        let cores = Placement { sender: near, carrier: apart, receiver: apart };
        let samples = measure.sample(self.ground, self.sink, cores, self.time)?;
        let same = |(quantity, value)| match quantity {
            on_veths::Quantity::SmallRate => Some((Quantity::SmallRate, value)),
            on_veths::Quantity::CpuPerPacket => Some((Quantity::CpuPerPacket, value)),
            on_veths::Quantity::IdleCpu => Some((Quantity::IdleCpu, value)),
            _ => None,
        };
        Ok(samples.into_iter().filter_map(same).collect())
    }

    fn stream(&self, streams: u32) -> Result<Vec<(Quantity, f64)>> {
        let (sender, receiver) = (Some(self.places.near), Some(self.places.apart));
        let settings = StreamSettings { streams, time: self.time, sender, receiver };
        let meter = CpuMeter::start()?;
        let streamed = stream(self.ground.near(), self.ground.far(), settings)?;
        let used = meter.stop()?;
        let rate = streamed.bits_per_second();
        let cpu = used.busy().as_nanos() as f64 / (streamed.bytes as f64 * 8.0 / 1e9);
        Ok(match streams {
            1 => vec![(Quantity::StreamRate, rate), (Quantity::CpuPerGigabit, cpu / 1e6)],
            _ => vec![(Quantity::StreamsRate, rate)],
        })
    }

    /// Both ends on one core: waking up another one costs more than the way there.
    fn exchange(&self, over: Over) -> Result<Vec<(Quantity, f64)>> {
        let core = Some(self.places.near);
        let settings = ExchangeSettings { over, time: self.time, client: core, server: core };
        let latencies = exchange(self.ground.near(), self.ground.far(), settings)?;
        let (median, tail) = match over {
            Over::Tcp => (Quantity::TcpMedian, Quantity::TcpTail),
            Over::Udp => (Quantity::UdpMedian, Quantity::UdpTail),
        };
        Ok(vec![(median, micros(&latencies, 50.0)?), (tail, micros(&latencies, 99.0)?)])
    }

    /// One after the other on one core, many on both.
    fn connect(&self, lanes: Lanes) -> Result<Vec<(Quantity, f64)>> {
        let Places { near, apart } = self.places;
        let (number, server) = match lanes {
            Lanes::One => (1, near),
            Lanes::Many => (64, apart),
        };
        let settings = ConnectSettings {
            lanes: number,
            time: self.time,
            client: Some(near),
            server: Some(server),
        };
        let before = self.placed.punted()?;
        let connected = connect(self.ground.near(), self.ground.far(), settings)?;
        let after = self.placed.punted()?;
        let made = connected.latencies.len() as f64;
        let mut samples = vec![
            (Quantity::Connections(lanes), connected.per_second()),
            (Quantity::OpeningMedian(lanes), micros(&connected.latencies, 50.0)?),
        ];
        if let (Some(before), Some(after)) = (before, after) {
            samples.push((Quantity::Punts(lanes), (after - before) as f64 * 100.0 / made));
        }
        Ok(samples)
    }
}

/// Microseconds that so many of a hundred did not take.
fn micros(latencies: &Latencies, percent: f64) -> Result<f64> {
    let time = latencies.percentile(percent).context("nothing came back")?;
    Ok(time.as_nanos() as f64 / 1e3)
}

impl Quantity {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::SmallRate,
        Self::CpuPerPacket,
        Self::StreamRate,
        Self::CpuPerGigabit,
        Self::StreamsRate,
        Self::TcpMedian,
        Self::TcpTail,
        Self::UdpMedian,
        Self::UdpTail,
        Self::Connections(Lanes::One),
        Self::Connections(Lanes::Many),
        Self::OpeningMedian(Lanes::One),
        Self::OpeningMedian(Lanes::Many),
        Self::Punts(Lanes::One),
        Self::Punts(Lanes::Many),
        Self::IdleCpu,
    ];

    /// What results call it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::SmallRate => "packets of 64 B",
            Self::CpuPerPacket => "CPU per packet of 64 B",
            Self::StreamRate => "TCP stream",
            Self::CpuPerGigabit => "CPU per Gbit of a TCP stream",
            Self::StreamsRate => "8 TCP streams",
            Self::TcpMedian => "TCP round trip p50",
            Self::TcpTail => "TCP round trip p99",
            Self::UdpMedian => "UDP round trip p50",
            Self::UdpTail => "UDP round trip p99",
            Self::Connections(Lanes::One) => "connections, sequential",
            Self::Connections(Lanes::Many) => "connections, 64 in parallel",
            Self::OpeningMedian(Lanes::One) => "connection p50, sequential",
            Self::OpeningMedian(Lanes::Many) => "connection p50, 64 in parallel",
            Self::Punts(Lanes::One) => "packets in user space for 100 connections, sequential",
            Self::Punts(Lanes::Many) => "packets in user space for 100 connections, 64 in parallel",
            Self::IdleCpu => "idle CPU",
        }
    }

    /// Its unit.
    pub const fn unit(self) -> Unit {
        match self {
            Self::SmallRate => Unit::PacketsPerSecond,
            Self::CpuPerPacket => Unit::Nanoseconds,
            Self::StreamRate | Self::StreamsRate => Unit::BitsPerSecond,
            Self::CpuPerGigabit => Unit::Milliseconds,
            Self::TcpMedian
            | Self::TcpTail
            | Self::UdpMedian
            | Self::UdpTail
            | Self::OpeningMedian(_) => Unit::Microseconds,
            Self::Connections(_) => Unit::PerSecond,
            Self::Punts(_) => Unit::Count,
            Self::IdleCpu => Unit::PercentOfCore,
        }
    }

    /// Whether it makes sense to divide one peer's by another one's.
    pub const fn is_compared(self) -> bool {
        !matches!(self, Self::Punts(_) | Self::IdleCpu)
    }
}
