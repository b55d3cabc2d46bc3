//! What follows from the samples of a pair, and what is promised of it.

use super::Samples;
use super::peer::Peer;
use super::pods::Way;
use crate::outcome::Outcome;
use crate::promise::Promise;
use crate::statistics::Estimate;
use crate::traffic::Quantity;
use crate::unit::Unit;

/// What arrives.
pub const THROUGHPUT: Promise = Promise::at_least(
    "in a cluster, packets of 64 B and TCP streams to pods and Services, against the bridge plugin and kube-proxy's nftables",
    1.0,
    Unit::Ratio,
);

/// How long an answer takes.
pub const ROUND_TRIP: Promise = Promise::at_most(
    "in a cluster, round trip p50 to pods and Services, against the bridge plugin and kube-proxy's nftables",
    1.0,
    Unit::Ratio,
);

/// How long a pod waits for its network.
pub const ATTACHING: Promise = Promise::at_most(
    "in a cluster, ADD p99, against the plugins bridge, host-local and portmap",
    1.0,
    Unit::Ratio,
);

/// Whether many pods at once are as good as one.
pub const AT_ONCE: Promise = Promise::at_most(
    "in a cluster, 100 containers attached and detached at once: calls failed, links left",
    0.0,
    Unit::Count,
);

/// How soon the network is as the API server has it.
pub const CHANGE: Promise = Promise::at_most(
    "in a cluster, from a new Service's request to its answers on both nodes, p99",
    100.0,
    Unit::Milliseconds,
);

/// How soon a node is as it has heard from there.
pub const EVENT: Promise = Promise::at_most(
    "in a cluster, from the watch's event of a new Service to its answers on both nodes, p99",
    10.0,
    Unit::Milliseconds,
);

/// What an agent has in memory.
pub const MEMORY: Promise = Promise::at_most(
    "heap and compiled code of an agent, in a cluster of 1,000 Services and 1,000 pods",
    100e6,
    Unit::Bytes,
);

/// What it does at rest.
pub const AT_REST: Promise = Promise::at_most(
    "CPU of an agent at rest, in a cluster of 1,000 Services and 1,000 pods",
    1.0,
    Unit::PercentOfCore,
);

/// What is learned of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Of what its pods send.
    Traffic(Quantity, Way),
    /// Half of all containers are attached in this time.
    AttachMedian,
    /// 99 of 100 are.
    AttachTail,
    /// Half of all are detached in this time.
    DetachMedian,
    /// 99 of 100 are.
    DetachTail,
    /// All of many containers at once are attached in this time.
    AllAttached,
    /// All of them are detached in this time.
    AllDetached,
    /// What went wrong with them.
    Amiss,
    /// Half of all changes are in effect in this time.
    ChangeMedian,
    /// 99 of 100 are.
    ChangeTail,
    /// Half of all are in this time from their event on.
    EventMedian,
    /// 99 of 100 are.
    EventTail,
    /// Many Services are in effect in this time.
    Many,
    /// They are after the last one was made.
    AfterMany,
    /// What the node's process did for them.
    Work,
    /// What it does at rest.
    AtRest,
    /// What it does while endpoints change all the time.
    Changing,
    /// What it has made itself in memory.
    Memory,
    /// What it has after all those changes.
    MemoryChanged,
    /// All that it has there but packets.
    Resident,
}

impl Kind {
    fn label(self) -> String {
        let text = match self {
            Self::Traffic(quantity, way) => return format!("{} {}", quantity.label(), way.label()),
            Self::AttachMedian => "ADD p50",
            Self::AttachTail => "ADD p99",
            Self::DetachMedian => "DEL p50",
            Self::DetachTail => "DEL p99",
            Self::AllAttached => "100 containers at once, until all are attached",
            Self::AllDetached => "100 containers at once, until all are detached",
            Self::Amiss => "100 containers at once: calls failed, links left",
            Self::ChangeMedian => "a new Service to its answers on both nodes p50",
            Self::ChangeTail => "a new Service to its answers on both nodes p99",
            Self::EventMedian => "a new Service, from its event to its answers on both nodes p50",
            Self::EventTail => "a new Service, from its event to its answers on both nodes p99",
            Self::Many => "1,000 new Services to the answers of all",
            Self::AfterMany => {
                "1,000 new Services, from the last one's creation to the answers of all"
            }
            Self::Work => "CPU of the node's process for 1,000 new Services",
            Self::AtRest => "CPU of the node's process at rest, 1,000 Services and pods",
            Self::Changing => {
                "CPU of the node's process at 100 changed EndpointSlices a second, 1,000 Services and pods"
            }
            Self::MemoryChanged => {
                "heap and compiled code of the node's process, after these changes"
            }
            Self::Memory => "heap and compiled code of the node's process, 1,000 Services and pods",
            Self::Resident => "RSS of the node's process but for packets, 1,000 Services and pods",
        };
        text.to_owned()
    }

    const fn unit(self) -> Unit {
        match self {
            Self::Traffic(quantity, _) => quantity.unit(),
            Self::Amiss => Unit::Count,
            Self::AtRest | Self::Changing => Unit::PercentOfCore,
            Self::Memory | Self::MemoryChanged | Self::Resident => Unit::Bytes,
            _ => Unit::Milliseconds,
        }
    }

    /// What is promised of a peer's, beside another one's.
    const fn ratio_held_to(self) -> Option<&'static Promise> {
        match self {
            Self::Traffic(Quantity::SmallRate | Quantity::StreamRate, _) => Some(&THROUGHPUT),
            Self::Traffic(Quantity::RoundTripMedian(_), _) => Some(&ROUND_TRIP),
            Self::AttachTail => Some(&ATTACHING),
            _ => None,
        }
    }

    /// What is promised of it by itself.
    const fn held_to(self) -> Option<&'static Promise> {
        match self {
            Self::Amiss => Some(&AT_ONCE),
            Self::ChangeTail => Some(&CHANGE),
            Self::EventTail => Some(&EVENT),
            Self::Memory | Self::MemoryChanged => Some(&MEMORY),
            Self::AtRest => Some(&AT_REST),
            _ => None,
        }
    }

    /// The estimate of what was sampled, or looked at once.
    fn estimate(self, samples: &[f64]) -> Estimate {
        match (self, samples) {
            (Self::Memory | Self::MemoryChanged | Self::Resident, [one]) => Estimate::exact(*one),
            _ => Estimate::of(samples),
        }
    }
}

/// Notes everything.
pub(super) fn report(samples: &Samples, [ours, other]: [Peer; 2], outcome: &mut Outcome) {
    for ((kind, peer), found) in samples.iter() {
        outcome.sampled(&kind.label(), peer.label(), kind.unit(), found);
    }
    for kind in samples.each(|(kind, _)| *kind) {
        if let (Some(promise), Some(found)) = (kind.held_to(), samples.of(&(kind, ours))) {
            let what = format!("{}, {}", kind.label(), ours.label());
            outcome.held(what, promise, kind.estimate(found));
        } else if let Some(ratio) = samples.ratio(&(kind, ours), &(kind, other)) {
            let what = format!("{}, {} / {}", kind.label(), ours.label(), other.label());
            outcome.state(what, kind.ratio_held_to(), Unit::Ratio, ratio);
        }
    }
}
