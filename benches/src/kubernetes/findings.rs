//! What follows from the samples of a pair, and what is promised of it.

use super::Samples;
use super::measure::{Quantity, Way};
use super::peer::Peer;
use crate::outcome::Outcome;
use crate::promise::{Bound, Promise};
use crate::statistics::Estimate;
use crate::unit::Unit;

/// What arrives.
pub const THROUGHPUT: Promise = Promise {
    what: "in a cluster, packets of 64 B and TCP streams to pods and Services, against the bridge plugin and kube-proxy's nftables",
    bound: Bound::AtLeast(1.0),
    unit: Unit::Ratio,
    aim: None,
};

/// How long an answer takes.
pub const ROUND_TRIP: Promise = at_most(
    "in a cluster, round trip p50 to pods and Services, against the bridge plugin and kube-proxy's nftables",
    1.0,
    Unit::Ratio,
);

/// How long a pod waits for its network.
pub const ATTACHING: Promise = at_most(
    "in a cluster, ADD p99, against the plugins bridge, host-local and portmap",
    1.0,
    Unit::Ratio,
);

/// Whether many pods at once are as good as one.
pub const AT_ONCE: Promise = at_most(
    "in a cluster, 100 containers attached and detached at once: calls failed, links left",
    0.0,
    Unit::Count,
);

/// How soon the network is as the API server has it.
pub const CHANGE: Promise = at_most(
    "in a cluster, from a new Service's request to its answers on both nodes, p99",
    100.0,
    Unit::Milliseconds,
);

/// What an agent has in memory.
pub const MEMORY: Promise = at_most(
    "heap and compiled code of an agent, in a cluster of 1,000 Services and 1,000 pods",
    100e6,
    Unit::Bytes,
);

/// What it does at rest.
pub const AT_REST: Promise = at_most(
    "CPU of an agent at rest, in a cluster of 1,000 Services and 1,000 pods",
    1.0,
    Unit::PercentOfCore,
);

const fn at_most(what: &'static str, bound: f64, unit: Unit) -> Promise {
    Promise { what, bound: Bound::AtMost(bound), unit, aim: None }
}

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
    /// What went wrong with many containers at once.
    AtOnce,
    /// Half of all changes are in effect in this time.
    ChangeMedian,
    /// 99 of 100 are.
    ChangeTail,
    /// Many Services are in effect in this time.
    Many,
    /// They are after the last one was made.
    AfterMany,
    /// What the node's process did for them.
    Work,
    /// What it does at rest.
    AtRest,
    /// What it has made itself in memory.
    Memory,
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
            Self::AtOnce => "100 containers at once: calls failed, links left",
            Self::ChangeMedian => "a new Service to its answers on both nodes p50",
            Self::ChangeTail => "a new Service to its answers on both nodes p99",
            Self::Many => "1,000 new Services to the answers of all",
            Self::AfterMany => {
                "1,000 new Services, from the last one's creation to the answers of all"
            }
            Self::Work => "CPU of the node's process for 1,000 new Services",
            Self::AtRest => "CPU of the node's process at rest, 1,000 Services and pods",
            Self::Memory => "heap and compiled code of the node's process, 1,000 Services and pods",
            Self::Resident => "RSS of the node's process but for packets, 1,000 Services and pods",
        };
        text.to_owned()
    }

    const fn unit(self) -> Unit {
        match self {
            Self::Traffic(quantity, _) => quantity.unit(),
            Self::AtOnce => Unit::Count,
            Self::AtRest => Unit::PercentOfCore,
            Self::Memory | Self::Resident => Unit::Bytes,
            _ => Unit::Milliseconds,
        }
    }

    /// What is promised of a peer's, beside another one's.
    const fn ratio_held_to(self) -> Option<Promise> {
        match self {
            Self::Traffic(Quantity::SmallRate | Quantity::StreamRate, _) => Some(THROUGHPUT),
            Self::Traffic(Quantity::RoundTripMedian(_), _) => Some(ROUND_TRIP),
            Self::AttachTail => Some(ATTACHING),
            _ => None,
        }
    }

    /// What is promised of it by itself.
    const fn held_to(self) -> Option<Promise> {
        match self {
            Self::AtOnce => Some(AT_ONCE),
            Self::ChangeTail => Some(CHANGE),
            Self::Memory => Some(MEMORY),
            Self::AtRest => Some(AT_REST),
            _ => None,
        }
    }

    /// The estimate of what was sampled, or counted once.
    fn estimate(self, samples: &[f64]) -> Estimate {
        match (self, samples) {
            (Self::AtOnce | Self::Memory | Self::Resident, [one]) => Estimate::exact(*one),
            _ => Estimate::of(samples),
        }
    }
}

/// Notes everything.
pub(super) fn report(samples: &Samples, [ours, other]: [Peer; 2], outcome: &mut Outcome) {
    for kind in samples.kinds() {
        for peer in [ours, other] {
            if let Some(samples) = samples.of(kind, peer) {
                outcome.sampled(&kind.label(), peer.label(), kind.unit(), samples);
            }
        }
        let (Some(a), Some(b)) = (samples.of(kind, ours), samples.of(kind, other)) else {
            continue;
        };
        if let Some(promise) = kind.held_to() {
            outcome.held(kind.label(), &promise, kind.estimate(a));
            continue;
        }
        let ratio = Estimate::of_pairs(a, b, |a, b| a / b);
        let what = format!("{}, {} / {}", kind.label(), ours.label(), other.label());
        match kind.ratio_held_to() {
            Some(promise) => outcome.held(what, &promise, ratio),
            None => outcome.found(what, Unit::Ratio, ratio),
        }
    }
}

/// What a reader of the numbers has to know.
pub(super) const NOTE: &str = "Two clusters are up at a time, each with an etcd, a control plane, and two nodes with containerd \
     and kubelet of its own: what these do at rest slows both down. Nodes are joined by veths and a \
     bridge. Senders are on the first core, receivers on the last, ends of an exchange and of \
     connections both on the first. CPU is what all cores together were busy, both ends included. \
     Plugins are called as runtimes do it, one container after the other. A Service's clock starts \
     with the request that makes it.";
