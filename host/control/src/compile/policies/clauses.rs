//! What a set of policies says, one rule of Kubernetes after the other (N1 to N7, K1 to K6).

use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use millrace_tables::{Action, Clause, Peer, PolicySet, Protocol, Tier};

use super::Rule;
use super::people::{Likeness, NamedPort, People};
use super::registry::{Registry, Uses};
use crate::policy::{
    self, ClusterAction, ClusterNetworkPolicy, ClusterPeer, ClusterTier, ClusterTraffic,
    DomainName, NetworkPolicy, Peers, PodSelector, PolicyDirection, PolicyName, PolicyPeer,
    PortRange, Ports,
};
use crate::{PodName, World};

/// The policies that are for some pods in a direction, which tells a set from others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SetKey {
    pub(super) direction: PolicyDirection,
    /// In the order in which they are asked.
    pub(super) policies: Vec<PolicyName>,
    /// Whether what they say counts, and the set that is asked besides.
    pub(super) role: Role,
    /// The names of the pods' ports, if the policies ask for them.
    pub(super) ports: Vec<NamedPort>,
    /// A pod whose labels are not known yet: nothing is allowed to it.
    pub(super) unknown: Option<PodName>,
}

/// What a set is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// What becomes of connections; the set that is audited is asked about those that go on.
    Enforced(PolicySet),
    /// What would become of them if audited policies counted.
    Audited,
}

/// Pods that a policy's peer selects, or nodes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Selection {
    pub(super) scope: Scope,
    pub(super) labels: policy::Selector,
}

/// Where they are selected from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    Namespace(String),
    Labelled(policy::Selector),
    Nodes,
}

/// A block of addresses: a prefix, and what of it does not count.
pub(super) type BlockKey = (IpNetwork, Vec<IpNetwork>);

/// What one rule of a policy says, of whatever kind that is.
pub(super) struct Said {
    pub(super) rule: Rule,
    pub(super) tier: Tier,
    action: Action,
    peers: Vec<Who>,
    ports: Vec<Asked>,
}

/// Other ends of connections.
enum Who {
    Anybody,
    Selected(Selection),
    Within(BlockKey),
    Called(DomainName),
}

/// What a rule asks of a port.
enum Asked {
    Plain(Plain),
    Named(String, crate::Protocol),
}

/// Ports, as tables have them: protocol, the first, the last.
type Plain = (Option<Protocol>, u16, u16);

/// What the clauses of a set are made with.
pub(super) struct Maker<'m> {
    pub(super) world: &'m World,
    pub(super) people: &'m People,
    pub(super) registry: &'m mut Registry,
    pub(super) uses: &'m mut Uses,
    pub(super) direction: PolicyDirection,
    pub(super) role: Role,
    /// The pods that the set is for.
    pub(super) target: &'m Likeness,
}

impl Role {
    /// The rule, by which what it denies is told apart from what it would deny.
    pub(super) fn rule(self, rule: Rule, action: Action) -> Rule {
        match (self, action) {
            (Self::Audited, Action::Deny) => Rule::WouldDeny(Box::new(rule)),
            _ => rule,
        }
    }
}

impl Said {
    /// What a NetworkPolicy says, rule by rule.
    pub(super) fn by(
        policy: &NetworkPolicy,
        direction: PolicyDirection,
    ) -> impl Iterator<Item = Self> {
        let rules = policy.rules(direction).unwrap_or_default();
        rules.iter().enumerate().map(move |(index, rule)| Self {
            rule: Rule::Of {
                policy: PolicyName::Namespaced(policy.name.clone()),
                direction,
                index,
                name: None,
                on_refused: policy.terms.on_refused,
            },
            tier: Tier::Namespace,
            action: Action::Allow,
            peers: match &rule.peers {
                Peers::All => vec![Who::Anybody],
                Peers::AnyOf(peers) => peers.iter().map(|peer| Who::is(policy, peer)).collect(),
            },
            ports: match &rule.ports {
                Ports::All => vec![ANYTHING],
                Ports::AnyOf(ports) => ports.iter().map(Asked::of).collect(),
            },
        })
    }

    /// What a ClusterNetworkPolicy says, rule by rule.
    pub(super) fn by_cluster(
        policy: &ClusterNetworkPolicy,
        direction: PolicyDirection,
    ) -> impl Iterator<Item = Self> {
        let tier = match policy.tier {
            ClusterTier::Admin => Tier::Admin,
            ClusterTier::Baseline => Tier::Baseline,
        };
        policy.rules(direction).iter().enumerate().map(move |(index, rule)| {
            let action = match rule.action {
                ClusterAction::Accept => Action::Allow,
                ClusterAction::Deny => Action::Deny,
                ClusterAction::Pass => Action::Pass,
            };
            let (action, peers, ports) = match &rule.about {
                ClusterTraffic::With { peers, ports } => {
                    let asked = ports.iter().flat_map(|it| it.ports());
                    let mut asked: Vec<_> = asked.map(|port| Asked::of(&port)).collect();
                    if ports.is_empty() {
                        asked.push(ANYTHING);
                    }
                    (action, peers.iter().flat_map(Who::are).collect(), asked)
                }
                // what is not understood accepts nothing, and denies everything (K6)
                ClusterTraffic::NotUnderstood => match action {
                    Action::Allow => (action, Vec::new(), Vec::new()),
                    _ => (Action::Deny, vec![Who::Anybody], vec![ANYTHING]),
                },
            };
            let on_refused = policy.terms.on_refused;
            let (policy, name) = (PolicyName::Cluster(policy.name.clone()), rule.name.clone());
            let rule = Rule::Of { policy, direction, index, name, on_refused };
            Self { rule, tier, action, peers, ports }
        })
    }

    /// Whether it is about ports by their names.
    pub(super) fn asks_for_names(&self) -> bool {
        self.ports.iter().any(|it| matches!(it, Asked::Named(..)))
    }
}

impl Maker<'_> {
    /// What a rule says, as tables have it.
    pub(super) fn clauses(&mut self, said: &Said) -> Vec<Clause> {
        let (tier, action) = (said.tier, said.action);
        let rule = self.role.rule(said.rule.clone(), action);
        let rule = self.uses.rule(rule, self.registry);
        let mut clauses = Vec::new();
        let mut add = |peer, (protocol, first, last): Plain| {
            clauses.push(Clause { tier, action, peer, protocol, first, last, rule });
        };
        for who in &said.peers {
            for port in &said.ports {
                match port {
                    Asked::Plain(plain) => add(self.peer(who), *plain),
                    Asked::Named(name, protocol) => {
                        for (peer, port) in self.named(who, name, *protocol) {
                            add(peer, (Some(of_tables(*protocol)), port, port));
                        }
                    }
                }
            }
        }
        clauses.sort();
        clauses.dedup();
        clauses
    }

    fn peer(&mut self, who: &Who) -> Peer {
        match who {
            Who::Anybody => Peer::Any,
            Who::Selected(selection) => {
                Peer::Selected(self.uses.selection(selection.clone(), self.registry))
            }
            Who::Within(key) => Peer::Within(self.uses.block(key.clone(), self.registry)),
            Who::Called(name) => Peer::Called(self.uses.domain(name.clone(), self.registry)),
        }
    }

    /// Who calls a port so, and its number there: the pod that a connection is for says which it is.
    fn named(&mut self, who: &Who, name: &str, protocol: crate::Protocol) -> Vec<(Peer, u16)> {
        if self.direction == PolicyDirection::Ingress {
            let numbers: Vec<_> = self.target.named(name, protocol).collect();
            return numbers.into_iter().map(|it| (self.peer(who), it)).collect();
        }
        let mut found = Vec::new();
        let Self { world, people, registry, uses, .. } = self;
        for (likeness, kind) in people.kinds() {
            for number in likeness.named(name, protocol) {
                match who {
                    Who::Selected(selection) if !selection.has(world, likeness) => {}
                    // pods alone have ports with names, and nobody asks others for one (K5)
                    Who::Called(_) => {}
                    Who::Within((prefix, except)) => {
                        let is_within = |address: &IpAddr| {
                            prefix.contains(*address)
                                && !except.iter().any(|it| it.contains(*address))
                        };
                        for address in people.addresses(kind).filter(is_within) {
                            let key = (IpNetwork::from(address), Vec::new());
                            let block = uses.block(key, registry);
                            found.push((Peer::Within(block), number));
                        }
                    }
                    Who::Anybody | Who::Selected(_) => {
                        let identity = uses.identity(likeness, registry);
                        found.push((Peer::Is(identity), number));
                    }
                }
            }
        }
        found
    }
}

impl Who {
    fn is(policy: &NetworkPolicy, peer: &PolicyPeer) -> Self {
        match peer {
            PolicyPeer::Pods { namespaces, pods } => {
                let scope = match namespaces {
                    None => Scope::Namespace(policy.name.namespace.clone()),
                    Some(selector) => Scope::Labelled(selector.clone()),
                };
                Self::Selected(Selection { scope, labels: pods.clone() })
            }
            PolicyPeer::Block { prefix, except } => Self::Within((*prefix, except.clone())),
        }
    }

    fn are(peer: &ClusterPeer) -> Vec<Self> {
        let (scope, labels) = match peer {
            ClusterPeer::Pods(PodSelector { namespaces, pods }) => {
                (Scope::Labelled(namespaces.clone()), pods.clone())
            }
            ClusterPeer::Nodes(labels) => (Scope::Nodes, labels.clone()),
            ClusterPeer::Networks(prefixes) => {
                return prefixes.iter().map(|it| Self::Within((*it, Vec::new()))).collect();
            }
            ClusterPeer::Domains(names) => {
                return names.iter().cloned().map(Self::Called).collect();
            }
        };
        vec![Self::Selected(Selection { scope, labels })]
    }
}

impl Selection {
    /// The kinds of pods, or of nodes, that it selects.
    pub(super) fn kinds(&self, world: &World, people: &People) -> Vec<Arc<Likeness>> {
        let namespaces: Vec<&str> = match &self.scope {
            Scope::Namespace(name) => vec![name],
            Scope::Labelled(selector) => {
                let namespaces = world.namespaces.values();
                let selected = namespaces.filter(|it| selector.selects(&it.labels));
                selected.map(|it| it.name.as_str()).collect()
            }
            Scope::Nodes => vec![Likeness::NAMESPACE_OF_NODES],
        };
        let kinds = namespaces.into_iter().flat_map(|namespace| people.kinds_in(namespace));
        let selected = kinds.filter(|(likeness, _)| self.labels.selects(&likeness.labels));
        selected.map(|(likeness, _)| Arc::clone(likeness)).collect()
    }

    /// Whether it selects a kind.
    pub(super) fn has(&self, world: &World, likeness: &Likeness) -> bool {
        let is_there = match &self.scope {
            Scope::Namespace(name) => likeness.namespace == *name,
            Scope::Labelled(selector) => {
                let namespace = world.namespaces.get(&likeness.namespace);
                namespace.is_some_and(|it| selector.selects(&it.labels))
            }
            Scope::Nodes => likeness.namespace == Likeness::NAMESPACE_OF_NODES,
        };
        is_there && self.labels.selects(&likeness.labels)
    }

    /// The first that could be of what is in a namespace alone, and the first that is not.
    pub(super) fn firsts(namespace: &str) -> [Self; 2] {
        let any = policy::Selector::default;
        [Scope::Namespace(namespace.to_owned()), Scope::Labelled(any())]
            .map(|scope| Self { scope, labels: any() })
    }
}

impl Asked {
    fn of(port: &policy::PolicyPort) -> Self {
        let protocol = Some(of_tables(port.protocol));
        match &port.ports {
            PortRange::All => Self::Plain((protocol, 0, u16::MAX)),
            PortRange::Numbers(first, last) => Self::Plain((protocol, *first, *last)),
            PortRange::Named(name) => Self::Named(name.clone(), port.protocol),
        }
    }
}

fn of_tables(protocol: crate::Protocol) -> Protocol {
    match protocol {
        crate::Protocol::Tcp => Protocol::Tcp,
        crate::Protocol::Udp => Protocol::Udp,
        crate::Protocol::Sctp => Protocol::Sctp,
    }
}

/// Any protocol, with any port and without.
const ANYTHING: Asked = Asked::Plain((None, 0, u16::MAX));
