//! Real clusters, whose pods containerd and kubelets have started: as millrace joins them, and as the
//! reference plugins of CNI and kube-proxy do, in turns. Each bench brings up its own.
//!
//! - [`cluster`]: a cluster, brought up and ended; [`peer`]: whose network it has
//! - [`pods`]: what pods send each other
//! - [`attach`]: what it takes to attach them; [`containers`]: as the node's runtime has it done
//! - [`changes`]: from the API server to pods; `api`: how it is asked
//! - [`agents`]: what a node's own process takes
//! - `findings`: what follows from all that, and what is promised

pub mod agents;
mod api;
pub mod attach;
pub mod changes;
pub mod cluster;
pub mod containers;
mod findings;
pub mod peer;
pub mod pods;

use anyhow::{Context, Result};

use self::cluster::Cluster;
use self::findings::Kind;
pub use self::findings::{
    AT_ONCE, AT_REST, ATTACHING, CHANGE, EVENT, MEMORY, ROUND_TRIP, THROUGHPUT,
};
use self::peer::Peer;
use crate::nodes::peer::Between;
use crate::outcome::Outcome;
use crate::plan::Plan;

/// Clusters that are up side by side.
type Clusters = [(Peer, Cluster)];

/// The samples of each peer.
type Samples = crate::samples::Samples<(Kind, Peer)>;

/// Brings up a cluster of each peer, has them measured, and ends them. What was measured is noted
/// whatever comes after it.
fn side_by_side(
    plan: &Plan,
    between: Between,
    outcome: &mut Outcome,
    measure: impl FnOnce(&Clusters, &mut Samples, &mut Vec<String>) -> Result<()>,
) -> Result<()> {
    let image = plan.image.as_deref().context(
        "there is no image of millrace to bring a cluster up with: `make cluster-bench` makes one, \
         and `--image FILE` names one",
    )?;
    let peers = Peer::pair(between);
    let mut clusters = Vec::new();
    for peer in peers {
        let cluster = Cluster::up(peer, image);
        let cluster = cluster.with_context(|| format!("a cluster of `{}`", peer.label()))?;
        clusters.push((peer, cluster));
    }
    let mut samples = Samples::default();
    let measured = measure(&clusters, &mut samples, &mut outcome.notes);
    findings::report(&samples, peers, outcome);
    measured
}
