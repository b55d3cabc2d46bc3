//! What is measured between the pods of a cluster, and how.

use std::time::Duration;

use anyhow::{Context, Result};
use millrace_traffic::Latencies;
use millrace_traffic::blast::Handing;
use millrace_traffic::connect::{ConnectSettings, connect};
use millrace_traffic::cpu::CpuMeter;
use millrace_traffic::exchange::{ExchangeSettings, Over, exchange};
use millrace_traffic::stream::{StreamSettings, stream};

use super::cluster::Cluster;
use crate::pods::peer::Places;
use crate::services::measure::To;
use crate::unit::Unit;
use crate::veth::measure::{Placement, blast};

/// Which way packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Way {
    /// Where the pod is that they are for.
    pub place: Place,
    /// By which of its addresses.
    pub to: To,
}

/// Where a pod is, from who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// On its node.
    SameNode,
    /// On the other one.
    OtherNode,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// As many packets of 64 bytes as a pod can send.
    SmallPackets,
    /// One TCP connection in bulk.
    Stream,
    /// A byte there and back, again and again.
    Exchange(Over),
    /// Connections, one after the other.
    Connect,
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
    /// What half of all round trips do not take.
    RoundTripMedian(Over),
    /// What 99 of 100 of them do not take.
    RoundTripTail(Over),
    /// Connections made and closed.
    Connections,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self { place: Place::SameNode, to: To::Pod },
        Self { place: Place::SameNode, to: To::Service },
        Self { place: Place::OtherNode, to: To::Pod },
        Self { place: Place::OtherNode, to: To::Service },
    ];

    /// What results call it.
    pub const fn label(self) -> &'static str {
        match (self.place, self.to) {
            (Place::SameNode, To::Pod) => "to a pod of its node",
            (Place::SameNode, To::Service) => "to a Service, on its node",
            (Place::OtherNode, To::Pod) => "to a pod of the other node",
            (Place::OtherNode, To::Service) => "to a Service, on the other node",
        }
    }
}

impl Measure {
    /// All of them, in the order in which they are done.
    pub const ALL: [Self; 5] = [
        Self::SmallPackets,
        Self::Stream,
        Self::Exchange(Over::Tcp),
        Self::Exchange(Over::Udp),
        Self::Connect,
    ];

    /// Takes a sample.
    ///
    /// # Errors
    /// If there is no traffic.
    pub fn sample(
        self,
        cluster: &Cluster,
        way: Way,
        places: Places,
        time: Duration,
    ) -> Result<Vec<(Quantity, f64)>> {
        let Places { near, apart } = places;
        let (client, server) = (cluster.client(), cluster.server(way));
        Ok(match self {
            Self::SmallPackets => {
                let cores = Placement { sender: near, carrier: apart, receiver: apart };
                let (to, sink) = cluster.discard(way);
                let blasted = blast(client, to, sink, cores, time, SMALL, Handing::Singly)?;
                vec![(Quantity::SmallRate, blasted.rate), (Quantity::CpuPerPacket, blasted.cpu)]
            }
            Self::Stream => {
                let (sender, receiver) = (Some(near), Some(apart));
                let settings = StreamSettings { streams: 1, time, sender, receiver };
                let meter = CpuMeter::start()?;
                let streamed = stream(client, server, settings)?;
                let used = meter.stop()?;
                let gigabits = streamed.bytes as f64 * 8.0 / 1e9;
                let cpu = used.busy().as_nanos() as f64 / gigabits / 1e6;
                let rate = streamed.bits_per_second();
                vec![(Quantity::StreamRate, rate), (Quantity::CpuPerGigabit, cpu)]
            }
            // both ends on one core: waking up another one costs more than the way there
            Self::Exchange(over) => {
                let core = Some(near);
                let settings = ExchangeSettings { over, time, client: core, server: core };
                let latencies = exchange(client, server, settings)?;
                vec![
                    (Quantity::RoundTripMedian(over), micros(&latencies, 50.0)?),
                    (Quantity::RoundTripTail(over), micros(&latencies, 99.0)?),
                ]
            }
            Self::Connect => {
                let core = Some(near);
                let settings = ConnectSettings { lanes: 1, time, client: core, server: core };
                let connected = connect(client, server, settings)?;
                vec![(Quantity::Connections, connected.per_second())]
            }
        })
    }
}

/// Microseconds that so many of a hundred did not take.
fn micros(latencies: &Latencies, percent: f64) -> Result<f64> {
    let time = latencies.percentile(percent).context("nothing came back")?;
    Ok(time.as_nanos() as f64 / 1e3)
}

impl Quantity {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::SmallRate,
        Self::CpuPerPacket,
        Self::StreamRate,
        Self::CpuPerGigabit,
        Self::RoundTripMedian(Over::Tcp),
        Self::RoundTripTail(Over::Tcp),
        Self::RoundTripMedian(Over::Udp),
        Self::RoundTripTail(Over::Udp),
        Self::Connections,
    ];

    /// What results call it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::SmallRate => "packets of 64 B",
            Self::CpuPerPacket => "CPU per packet of 64 B",
            Self::StreamRate => "TCP stream",
            Self::CpuPerGigabit => "CPU per Gbit of a TCP stream",
            Self::RoundTripMedian(Over::Tcp) => "TCP round trip p50",
            Self::RoundTripTail(Over::Tcp) => "TCP round trip p99",
            Self::RoundTripMedian(Over::Udp) => "UDP round trip p50",
            Self::RoundTripTail(Over::Udp) => "UDP round trip p99",
            Self::Connections => "connections, sequential",
        }
    }

    /// Its unit.
    pub const fn unit(self) -> Unit {
        match self {
            Self::SmallRate => Unit::PacketsPerSecond,
            Self::CpuPerPacket => Unit::Nanoseconds,
            Self::StreamRate => Unit::BitsPerSecond,
            Self::CpuPerGigabit => Unit::Milliseconds,
            Self::RoundTripMedian(_) | Self::RoundTripTail(_) => Unit::Microseconds,
            Self::Connections => Unit::PerSecond,
        }
    }
}

/// Bytes of a small frame.
const SMALL: usize = 64;
