//! What of nodes is behind what Services and pods have become: whom a change of a node concerns.
//!
//! A Node changes often, and most of what it says is nothing to them. What its own node says of
//! itself is in all of them; who is ready, and has an agent, decides who answers for load balancers' addresses; the
//! addresses of others are those of pods in their networks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::announced::is_able;
use super::endpoints::ZONE_LABEL;
use crate::changes::Changes;
use crate::{Agents, Node, World};

/// Nodes, as they were when all that they concern was compiled.
#[derive(Clone, Debug, Default)]
pub(super) struct Nodes {
    facts: BTreeMap<String, Facts>,
    agents: Agents,
}

/// What of a node anybody makes something of.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Facts {
    addresses: Vec<IpAddr>,
    pod_cidrs: Vec<IpNetwork>,
    zone: Option<String>,
    is_able: bool,
}

/// Whom changes of nodes concern.
#[derive(Clone, Debug, Default)]
pub(super) struct Concerned {
    /// All there are.
    pub(super) everybody: bool,
    /// Services with addresses that nodes answer for.
    pub(super) announced: bool,
    /// Pods in the networks of these nodes.
    pub(super) moved: BTreeSet<String>,
}

impl Nodes {
    /// Follows changes, as the node with this name is concerned by them.
    pub(super) fn follow(&mut self, world: &World, this: &str, changes: &Changes) -> Concerned {
        let announced = self.agents.follow(world, changes.pods.iter());
        let mut concerned = Concerned { announced, ..Concerned::default() };
        for name in &changes.nodes {
            let now = world.nodes.get(name).map(Facts::of);
            let before = match now.clone() {
                Some(now) => self.facts.insert(name.clone(), now),
                None => self.facts.remove(name),
            };
            if name == this && before.as_ref().map(Facts::own) != now.as_ref().map(Facts::own) {
                concerned.everybody = true;
            }
            let addresses = |it: &Option<Facts>| it.as_ref().map(|it| it.addresses.clone());
            if addresses(&before) != addresses(&now) {
                concerned.moved.insert(name.clone());
            }
            let able = |it: &Option<Facts>| it.as_ref().is_some_and(|it| it.is_able);
            concerned.announced |= able(&before) != able(&now);
        }
        concerned
    }

    /// Which of them have an agent.
    pub(super) fn agents(&self) -> &Agents {
        &self.agents
    }
}

impl Facts {
    fn of(node: &Node) -> Self {
        Self {
            addresses: node.addresses.clone(),
            pod_cidrs: node.pod_cidrs.clone(),
            zone: node.labels.get(ZONE_LABEL).cloned(),
            is_able: is_able(node),
        }
    }

    /// What a node makes something of that it says of itself.
    fn own(&self) -> (&[IpAddr], &[IpNetwork], Option<&str>) {
        (&self.addresses, &self.pod_cidrs, self.zone.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Readiness;

    fn node(name: &str) -> Node {
        Node {
            name: name.into(),
            addresses: vec![[192, 0, 2, 1].into()],
            readiness: Readiness::Ready,
            ..Node::default()
        }
    }

    /// Whom it concerns on the node `a` that a node is another one now: everybody, those that are
    /// announced, and those that have moved.
    fn concerned(change: impl Fn(&mut Node), name: &str) -> (bool, bool, bool) {
        let (mut nodes, mut world) = (Nodes::default(), World::default());
        let changes = Changes { nodes: [name.to_owned()].into(), ..Changes::default() };
        world.nodes.insert(name.into(), node(name));
        nodes.follow(&world, "a", &changes);
        change(world.nodes.get_mut(name).expect("it is there"));
        let Concerned { everybody, announced, moved } = nodes.follow(&world, "a", &changes);
        (everybody, announced, moved.contains(name))
    }

    #[test]
    fn what_nobody_makes_anything_of_concerns_nobody() {
        let label = |node: &mut Node| drop(node.labels.insert("kernel".into(), "6.1".into()));
        for name in ["a", "b"] {
            assert_eq!(concerned(label, name), (false, false, false));
        }
        let zone = |node: &mut Node| drop(node.labels.insert(ZONE_LABEL.into(), "z".into()));
        assert_eq!(concerned(zone, "a"), (true, false, false));
        assert_eq!(concerned(zone, "b"), (false, false, false));
        let fails = |node: &mut Node| node.readiness = Readiness::NotReady;
        assert_eq!(concerned(fails, "b"), (false, true, false));
        let moves = |node: &mut Node| node.addresses = vec![[192, 0, 2, 9].into()];
        assert_eq!(concerned(moves, "b"), (false, false, true));
        assert_eq!(concerned(moves, "a"), (true, false, true));
    }
}
