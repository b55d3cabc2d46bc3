//! What a set of policies allows, one rule of Kubernetes after the other (N1 to N7).

use ipnetwork::IpNetwork;
use millrace_tables::{Block, Identity, Peer, Permit, Protocol, Selector};

use super::pods::{Alike, Likeness, NamedPort, Pods};
use super::{Registry, Rule};
use crate::policy::{self, NetworkPolicy, Peers, PolicyDirection, PolicyPeer, PortRange, Ports};
use crate::{PodName, QualifiedName};

/// The policies that are for some pods in a direction, which tells a set from others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SetKey {
    pub(super) direction: PolicyDirection,
    pub(super) policies: Vec<QualifiedName>,
    /// The names of the pods' ports, if the policies ask for them.
    pub(super) ports: Vec<NamedPort>,
    /// A pod whose labels are not known yet: nothing is allowed to it.
    pub(super) unknown: Option<PodName>,
}

/// Pods that a policy's peer selects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Selection {
    pub(super) scope: Scope,
    pub(super) pods: policy::Selector,
}

/// The namespaces that pods are selected from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    Namespace(String),
    Labelled(policy::Selector),
}

/// A block of addresses: a prefix, and what of it does not count.
pub(super) type BlockKey = (IpNetwork, Vec<IpNetwork>);

/// What the permits of a set are made with.
pub(super) struct Maker<'m, 'w> {
    pub(super) pods: &'m Pods<'w>,
    pub(super) registry: &'m mut Registry,
    pub(super) direction: PolicyDirection,
    /// The pods that the set is for.
    pub(super) target: &'m Likeness,
}

/// Ports, as tables have them: protocol, the first, the last.
type Plain = (Option<Protocol>, u16, u16);

impl Maker<'_, '_> {
    /// What a policy allows.
    pub(super) fn permits(&mut self, policy: &NetworkPolicy) -> Vec<Permit> {
        let mut permits = Vec::new();
        let rules = policy.rules(self.direction).unwrap_or_default();
        for (index, rule) in rules.iter().enumerate() {
            let named =
                Rule::Allows { policy: policy.name.clone(), direction: self.direction, index };
            let number = self.registry.rules.number(named);
            let mut add = |peer, (protocol, first, last): Plain| {
                permits.push(Permit { peer, protocol, first, last, rule: number });
            };
            for peer in peers(&rule.peers) {
                for port in ports(&rule.ports) {
                    match port {
                        Asked::Plain(plain) => add(self.peer(policy, peer), plain),
                        Asked::Named(name, protocol) => {
                            for (peer, port) in self.named(policy, peer, name, protocol) {
                                add(peer, (Some(of_tables(protocol)), port, port));
                            }
                        }
                    }
                }
            }
        }
        permits
    }

    fn peer(&mut self, policy: &NetworkPolicy, peer: Option<&PolicyPeer>) -> Peer {
        match peer {
            None => Peer::Any,
            Some(PolicyPeer::Pods { namespaces, pods }) => {
                let selection = Selection::of(policy, namespaces.as_ref(), pods);
                Peer::Selected(Selector(self.registry.selections.number(selection)))
            }
            Some(PolicyPeer::Block { prefix, except }) => {
                Peer::Within(self.block((*prefix, except.clone())))
            }
        }
    }

    fn block(&mut self, key: BlockKey) -> Block {
        Block(self.registry.blocks.number(key))
    }

    /// Who calls a port so, and its number there: the pod that a connection is for says which it is.
    fn named(
        &mut self,
        policy: &NetworkPolicy,
        peer: Option<&PolicyPeer>,
        name: &str,
        protocol: crate::Protocol,
    ) -> Vec<(Peer, u16)> {
        if self.direction == PolicyDirection::Ingress {
            let numbers: Vec<_> = self.target.named(name, protocol).collect();
            return numbers.into_iter().map(|it| (self.peer(policy, peer), it)).collect();
        }
        let mut found = Vec::new();
        let pods = self.pods;
        let selection = match peer {
            Some(PolicyPeer::Pods { namespaces, pods }) => {
                Some(Selection::of(policy, namespaces.as_ref(), pods))
            }
            _ => None,
        };
        for Alike { likeness, addresses } in &pods.alike {
            for number in likeness.named(name, protocol) {
                match (&selection, peer) {
                    (Some(selection), _) if !selection.has(pods, likeness) => {}
                    (_, Some(PolicyPeer::Block { prefix, except })) => {
                        let is_within = |address: &&std::net::IpAddr| {
                            prefix.contains(**address)
                                && !except.iter().any(|it| it.contains(**address))
                        };
                        for address in addresses.iter().filter(is_within) {
                            let block = self.block((IpNetwork::from(*address), Vec::new()));
                            found.push((Peer::Within(block), number));
                        }
                    }
                    _ => {
                        let identity = self.registry.identities.number(likeness.clone());
                        found.push((Peer::Is(Identity(identity)), number));
                    }
                }
            }
        }
        found
    }
}

impl Selection {
    fn of(
        policy: &NetworkPolicy,
        namespaces: Option<&policy::Selector>,
        pods: &policy::Selector,
    ) -> Self {
        let scope = match namespaces {
            None => Scope::Namespace(policy.name.namespace.clone()),
            Some(selector) => Scope::Labelled(selector.clone()),
        };
        Self { scope, pods: pods.clone() }
    }

    /// The kinds of pods that it selects, by where they are in the list.
    pub(super) fn of_pods(&self, pods: &Pods<'_>) -> Vec<usize> {
        let namespaces: Vec<&str> = match &self.scope {
            Scope::Namespace(name) => vec![name],
            Scope::Labelled(selector) => pods.namespaces(selector).collect(),
        };
        let places = namespaces.into_iter().flat_map(|namespace| pods.alike_in(namespace));
        places.filter(|at| self.pods.selects(&pods.alike[*at].likeness.labels)).collect()
    }

    fn has(&self, pods: &Pods<'_>, likeness: &Likeness) -> bool {
        let is_there = match &self.scope {
            Scope::Namespace(name) => likeness.namespace == *name,
            Scope::Labelled(selector) => {
                let namespace = pods.world.namespaces.get(&likeness.namespace);
                namespace.is_some_and(|it| selector.selects(&it.labels))
            }
        };
        is_there && self.pods.selects(&likeness.labels)
    }
}

/// What a rule asks of a port.
enum Asked<'p> {
    Plain(Plain),
    Named(&'p str, crate::Protocol),
}

/// Whether a policy asks for ports by their names.
pub(super) fn asks_for_names(policy: &NetworkPolicy, direction: PolicyDirection) -> bool {
    let rules = policy.rules(direction).unwrap_or_default();
    let mut asked = rules.iter().flat_map(|rule| ports(&rule.ports));
    asked.any(|it| matches!(it, Asked::Named(..)))
}

/// The peers of a rule; nothing in particular for everybody.
fn peers(peers: &Peers) -> Vec<Option<&PolicyPeer>> {
    match peers {
        Peers::All => vec![None],
        Peers::AnyOf(peers) => peers.iter().map(Some).collect(),
    }
}

/// The ports of a rule.
fn ports(ports: &Ports) -> Vec<Asked<'_>> {
    let Ports::AnyOf(ports) = ports else { return vec![Asked::Plain((None, 0, u16::MAX))] };
    let asked = |port: &'_ policy::PolicyPort| {
        let protocol = Some(of_tables(port.protocol));
        match &port.ports {
            PortRange::All => (protocol, 0, u16::MAX),
            PortRange::Numbers(first, last) => (protocol, *first, *last),
            PortRange::Named(_) => (protocol, 0, 0),
        }
    };
    let each = ports.iter().map(|port| match &port.ports {
        PortRange::Named(name) => Asked::Named(name, port.protocol),
        _ => Asked::Plain(asked(port)),
    });
    each.collect()
}

fn of_tables(protocol: crate::Protocol) -> Protocol {
    match protocol {
        crate::Protocol::Tcp => Protocol::Tcp,
        crate::Protocol::Udp => Protocol::Udp,
        crate::Protocol::Sctp => Protocol::Sctp,
    }
}
