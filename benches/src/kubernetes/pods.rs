//! What pods of a cluster send each other: to a pod on their node and on the other one, by its own
//! address and by a Service's, with a tunnel between nodes and without.

use std::time::Duration;

use anyhow::{Context, Result};
use millrace_traffic::exchange::Over;

use super::cluster::Cluster;
use super::findings::Kind;
use super::{Clusters, Samples, side_by_side};
use crate::nodes::peer::Between;
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::samples::in_turns;
use crate::services::measure::To;
use crate::traffic::{Lanes, Measure, Places, Spot};

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

/// Measures a pair of clusters with a tunnel, then one without.
///
/// # Errors
/// If a cluster does not come up, or its network does not work.
pub fn run(plan: &Plan, outcome: &mut Outcome) -> Result<()> {
    outcome.notes.push(NOTE.to_owned());
    let places = Places::available()?;
    for between in [Between::Vxlan, Between::Native] {
        side_by_side(plan, between, outcome, |clusters, samples, _| {
            measure(plan, clusters, places, samples)
        })?;
    }
    Ok(())
}

fn measure(plan: &Plan, clusters: &Clusters, places: Places, samples: &mut Samples) -> Result<()> {
    let time = plan.much(Duration::from_millis(400), Duration::from_millis(150));
    for measure in MEASURES {
        for way in Way::ALL {
            for run in 0..plan.runs(12, 6) {
                for (peer, cluster) in in_turns(clusters, run) {
                    let found = measure.sample(&way.spot(cluster, places, time));
                    let what = || format!("`{}`: {measure:?} {}", peer.label(), way.label());
                    for (quantity, value) in found.with_context(what)? {
                        samples.note((Kind::Traffic(quantity, way), *peer), value);
                    }
                }
            }
        }
    }
    Ok(())
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

    fn spot(self, cluster: &Cluster, places: Places, time: Duration) -> Spot<'_> {
        let (client, server) = (cluster.client(), cluster.server(self));
        let (discard, sink) = cluster.discard(self);
        Spot { client, server, discard, sink, places, time }
    }
}

/// What is measured, in this order.
const MEASURES: [Measure; 5] = [
    Measure::SmallPackets,
    Measure::Stream,
    Measure::Exchange(Over::Tcp),
    Measure::Exchange(Over::Udp),
    Measure::Connect(Lanes::One),
];
/// What a reader of the numbers has to know.
const NOTE: &str = "Two clusters are up at a time, each with an etcd, a control plane, and two nodes with containerd \
     and kubelet of its own: what these do at rest slows both down. Nodes are joined by veths and a \
     bridge. Senders are on the first core, receivers on the last, ends of an exchange and of \
     connections both on the first. CPU is what all cores together were busy, both ends included.";
