//! Which nodes have an agent, as far as the pods of agents tell: what one node does for all is for those
//! alone.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Life, Pod, PodName, PodNetwork, World};

/// The nodes that are known to have one.
#[derive(Clone, Debug, Default)]
pub struct Agents {
    pods: BTreeMap<PodName, String>,
    nodes: BTreeSet<String>,
}

impl Agents {
    /// Those of a world.
    pub fn of(world: &World) -> Self {
        let mut agents = Self::default();
        agents.follow(world, world.pods.keys());
        agents
    }

    /// Looks at these pods of a world anew, and says whether other nodes have an agent now.
    pub(crate) fn follow<'p>(
        &mut self,
        world: &World,
        pods: impl Iterator<Item = &'p PodName>,
    ) -> bool {
        let mut is_other = false;
        for name in pods {
            let pod = world.pods.get(name).filter(|pod| is_agent(pod));
            let now = pod.and_then(|pod| pod.node.clone());
            let before = match now.clone() {
                Some(node) => self.pods.insert(name.clone(), node),
                None => self.pods.remove(name),
            };
            is_other |= before != now;
        }
        if is_other {
            let nodes = self.pods.values().cloned().collect();
            is_other = self.nodes != nodes;
            self.nodes = nodes;
        }
        is_other
    }

    /// Whether a node is to be relied on, as far as agents go. Where that of `this` node is no pod that can be
    /// known, nor are others.
    pub fn have(&self, node: &str, this: &str) -> bool {
        !self.nodes.contains(this) || self.nodes.contains(node)
    }
}

/// Whether a pod is the agent of its node.
fn is_agent(pod: &Pod) -> bool {
    let (key, value) = LABEL;
    pod.network == PodNetwork::Host
        && pod.status.life != Life::Over
        && pod.labels.get(key).is_some_and(|it| it == value)
}

/// What the DaemonSet's pods are labelled with.
const LABEL: (&str, &str) = ("app.kubernetes.io/name", "millrace");
