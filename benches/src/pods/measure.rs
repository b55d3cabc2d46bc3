//! What is measured between pods, beside their traffic.

use std::time::Duration;

use anyhow::Result;
use millrace_traffic::exchange::Over;
use millrace_traffic::sink::Sink;

use super::peer::{Peer, Placed, Workers};
use crate::traffic::{self, Lanes, Places};
use crate::unit::Unit;
use crate::veth::ground::Ground;
use crate::veth::measure::at_rest;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Pods send.
    Traffic(traffic::Measure),
    /// Nothing.
    Rest,
}

/// What is learned by that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quantity {
    /// Of what pods send.
    Traffic(traffic::Quantity),
    /// Packets that came to user space for a hundred connections.
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
        Self::Traffic(traffic::Measure::SmallPackets),
        Self::Traffic(traffic::Measure::Stream),
        Self::Traffic(traffic::Measure::Streams),
        Self::Traffic(traffic::Measure::Exchange(Over::Tcp)),
        Self::Traffic(traffic::Measure::Exchange(Over::Udp)),
        Self::Traffic(traffic::Measure::Connect(Lanes::One)),
        Self::Traffic(traffic::Measure::Connect(Lanes::Many)),
        Self::Rest,
    ];

    /// Whether it says something of a peer: where workers are matters to new flows alone, and the
    /// kernel has no threads of its own.
    pub fn applies_to(self, peer: Peer) -> bool {
        match peer {
            Peer::Millrace(Workers::Everywhere) => true,
            Peer::Millrace(_) => matches!(self, Self::Traffic(traffic::Measure::Connect(_))),
            Peer::KernelBridge | Peer::Routed => self != Self::Rest,
        }
    }

    /// Takes a sample.
    ///
    /// # Errors
    /// If there is no traffic.
    pub fn sample(self, spot: &Spot<'_>) -> Result<Vec<(Quantity, f64)>> {
        let Spot { ground, sink, placed, places, time } = *spot;
        let between = traffic::Spot::between([ground.near(), ground.far()], sink, places, time);
        let of_traffic = |found: Vec<(traffic::Quantity, f64)>| {
            found.into_iter().map(|(quantity, value)| (Quantity::Traffic(quantity), value))
        };
        Ok(match self {
            Self::Traffic(traffic::Measure::Connect(lanes)) => {
                let before = placed.punted()?;
                let connected = between.connect(lanes)?;
                let after = placed.punted()?;
                let found = traffic::Quantity::of_connections(lanes, &connected)?;
                let made = connected.latencies.len() as f64;
                let punts = before.zip(after).map(|(before, after)| {
                    (Quantity::Punts(lanes), (after - before) as f64 * 100.0 / made)
                });
                of_traffic(found).chain(punts).collect()
            }
            Self::Traffic(measure) => of_traffic(measure.sample(&between)?).collect(),
            Self::Rest => vec![(Quantity::IdleCpu, at_rest(time)?)],
        })
    }
}

impl Quantity {
    /// What results call it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Traffic(quantity) => quantity.label(),
            Self::Punts(Lanes::One) => "packets in user space for 100 connections, sequential",
            Self::Punts(Lanes::Many) => "packets in user space for 100 connections, 64 in parallel",
            Self::IdleCpu => "idle CPU",
        }
    }

    /// Its unit.
    pub const fn unit(self) -> Unit {
        match self {
            Self::Traffic(quantity) => quantity.unit(),
            Self::Punts(_) => Unit::Count,
            Self::IdleCpu => Unit::PercentOfCore,
        }
    }

    /// Whether it makes sense to divide one peer's by another one's.
    pub const fn is_compared(self) -> bool {
        matches!(self, Self::Traffic(_))
    }
}
