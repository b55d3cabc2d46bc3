//! Pods and nodes, as policies see them: kinds of them by namespace, labels and the names of their
//! ports, and whose addresses are. Nodes have a namespace to themselves that no pod is in.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use millrace_tables::{Identity, Selector};

use super::Local;
use crate::{Labels, Life, Node, Pod, PodName, PodNetwork, Protocol, World};

/// What pods, or nodes, have in common that no policy tells apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Likeness {
    pub(super) namespace: String,
    pub(super) labels: Labels,
    pub(super) ports: Vec<NamedPort>,
}

/// A port that has a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NamedPort {
    name: String,
    protocol: Protocol,
    number: u16,
}

/// Pods, or nodes, that are alike.
#[derive(Clone, Debug, Default)]
pub(super) struct Kind {
    members: BTreeSet<Member>,
    /// Those in use that select them.
    pub(super) selectors: BTreeSet<Selector>,
    /// Their number, for as long as there are any.
    pub(super) number: Option<u32>,
    /// The number that others are told of, if they are anything to any policy.
    pub(super) identity: Option<Identity>,
}

/// A node, or a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Member {
    Node(String),
    Pod(PodName),
}

/// What is known of a node, or of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Person {
    /// What it is like; nothing, if it is attached and its manifest has not come yet (N14).
    pub(super) likeness: Option<Arc<Likeness>>,
    pub(super) addresses: Vec<IpAddr>,
    /// Whether it is a pod of this node.
    pub(super) is_here: bool,
}

/// Whose an address may be; of several the first it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Holder {
    /// This node, as others know it, or as its pods alone do.
    ThisNode,
    Gateway,
    /// A container here that is no pod.
    Nameless,
    /// A pod of this node.
    Here(PodName),
    Elsewhere(Member),
}

/// What becomes of kinds when somebody moves from one to another.
#[derive(Debug, Default)]
pub(super) struct Moved {
    /// The one that nobody was of before.
    pub(super) new: Option<Arc<Likeness>>,
    /// The one that nobody is of any more,
    pub(super) gone: Option<Arc<Likeness>>,
    /// and its number, if it had one.
    pub(super) number: Option<u32>,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(super) struct People {
    kinds: BTreeMap<Arc<Likeness>, Kind>,
    people: BTreeMap<Member, Person>,
    here: BTreeSet<PodName>,
    holders: BTreeMap<IpAddr, Vec<Holder>>,
    /// Addresses that are nobody's of these.
    own: BTreeSet<(IpAddr, Holder)>,
}

impl Person {
    /// What is known of a pod, if it is one to policies: those in their node's network are that node
    /// to others (N12).
    pub(super) fn pod(name: &PodName, world: &World, node: &str, local: &Local) -> Option<Self> {
        let is_one = |pod: &&Pod| pod.network == PodNetwork::Own && pod.status.life != Life::Over;
        let pod = world.pods.get(name).filter(is_one);
        let attached = local.pods.get(name);
        // the addresses that the node has given it count, not those of its manifest
        let addresses = attached.or(pod.map(|pod| &pod.status.addresses))?.clone();
        let is_here = attached.is_some() || pod.is_some_and(|it| it.node.as_deref() == Some(node));
        Some(Self { likeness: pod.map(|pod| Arc::new(Likeness::of(pod))), addresses, is_here })
    }

    /// What is known of a node.
    pub(super) fn node(node: &Node) -> Self {
        let addresses = node.addresses.iter().chain(&node.external).copied().collect();
        Self { likeness: Some(Arc::new(Likeness::of_node(node))), addresses, is_here: false }
    }
}

impl People {
    /// What is known of somebody.
    pub(super) fn person(&self, member: &Member) -> Option<&Person> {
        self.people.get(member)
    }

    /// The addresses whose owner is another if this is known of somebody.
    pub(super) fn concerned(&self, member: &Member, now: Option<&Person>) -> BTreeSet<IpAddr> {
        let both = self.people.get(member).into_iter().chain(now);
        both.flat_map(|it| it.addresses.iter().copied()).collect()
    }

    /// Takes note of what is known of somebody now.
    pub(super) fn replace(&mut self, member: &Member, now: Option<Person>) -> Moved {
        let before = self.people.remove(member);
        let new = now.as_ref().and_then(|now| now.likeness.as_ref()).and_then(|likeness| {
            let is_new = !self.kinds.contains_key(likeness);
            let kind = self.kinds.entry(Arc::clone(likeness)).or_default();
            kind.members.insert(member.clone());
            is_new.then(|| Arc::clone(likeness))
        });
        let mut moved = Moved { new, ..Moved::default() };
        if let Some(before) = before {
            let holder = before.holder(member);
            before.addresses.iter().for_each(|it| self.let_go(*it, &holder));
            let left = now.as_ref().and_then(|now| now.likeness.as_ref());
            if let Some(likeness) = before.likeness.filter(|it| Some(it) != left)
                && let Some(kind) = self.kinds.get_mut(&likeness)
            {
                kind.members.remove(member);
                if kind.members.is_empty() {
                    moved.number = kind.number;
                    self.kinds.remove(&likeness);
                    moved.gone = Some(likeness);
                }
            }
        }
        if let Member::Pod(name) = member {
            match now.as_ref().is_some_and(|now| now.is_here) {
                true => self.here.insert(name.clone()),
                false => self.here.remove(name),
            };
        }
        if let Some(now) = now {
            let holder = now.holder(member);
            now.addresses.iter().for_each(|it| self.hold(*it, holder.clone()));
            self.people.insert(member.clone(), now);
        }
        moved
    }

    /// The addresses that are others than before, where these are the node's and those of containers
    /// that are no pods.
    pub(super) fn other_own(&self, now: &BTreeSet<(IpAddr, Holder)>) -> Vec<IpAddr> {
        self.own.symmetric_difference(now).map(|(address, _)| *address).collect()
    }

    /// Takes note of them.
    pub(super) fn replace_own(&mut self, now: BTreeSet<(IpAddr, Holder)>) {
        let before = std::mem::take(&mut self.own);
        before.difference(&now).for_each(|(address, holder)| self.let_go(*address, holder));
        now.difference(&before).for_each(|(address, holder)| self.hold(*address, holder.clone()));
        self.own = now;
    }

    /// Whose an address may be; of several the first it is.
    pub(super) fn holders(&self, address: IpAddr) -> &[Holder] {
        self.holders.get(&address).map_or(&[], Vec::as_slice)
    }

    /// The kinds, in order; those of a namespace are one behind the other.
    pub(super) fn kinds(&self) -> impl Iterator<Item = (&Arc<Likeness>, &Kind)> {
        self.kinds.iter()
    }

    /// Those of a namespace.
    pub(super) fn kinds_in<'p>(
        &'p self,
        namespace: &'p str,
    ) -> impl Iterator<Item = (&'p Arc<Likeness>, &'p Kind)> {
        let (labels, ports) = (Labels::new(), Vec::new());
        let first = Likeness { namespace: namespace.to_owned(), labels, ports };
        let kinds = self.kinds.range(Arc::new(first)..);
        kinds.take_while(move |(likeness, _)| likeness.namespace == *namespace)
    }

    /// The kind that is like this.
    pub(super) fn kind(&self, likeness: &Likeness) -> Option<&Kind> {
        self.kinds.get(likeness)
    }

    /// The same, to be changed.
    pub(super) fn kind_mut(&mut self, likeness: &Likeness) -> Option<&mut Kind> {
        self.kinds.get_mut(likeness)
    }

    /// The addresses of those of a kind.
    pub(super) fn addresses<'p>(&'p self, kind: &'p Kind) -> impl Iterator<Item = IpAddr> + 'p {
        let people = kind.members.iter().filter_map(|member| self.people.get(member));
        people.flat_map(|person| person.addresses.iter().copied())
    }

    /// The pods of this node.
    pub(super) fn here(&self) -> impl Iterator<Item = &PodName> {
        self.here.iter()
    }

    /// Those of a namespace.
    pub(super) fn here_in<'p>(&'p self, namespace: &'p str) -> impl Iterator<Item = &'p PodName> {
        let here = self.here.range(PodName::new(namespace, "")..);
        here.take_while(move |name| name.namespace == *namespace)
    }

    fn hold(&mut self, address: IpAddr, holder: Holder) {
        let holders = self.holders.entry(address).or_insert_with(|| Vec::with_capacity(1));
        if let Err(at) = holders.binary_search(&holder) {
            holders.insert(at, holder);
        }
    }

    fn let_go(&mut self, address: IpAddr, holder: &Holder) {
        if let Some(holders) = self.holders.get_mut(&address) {
            holders.retain(|it| it != holder);
            if holders.is_empty() {
                self.holders.remove(&address);
            }
        }
    }
}

impl Person {
    fn holder(&self, member: &Member) -> Holder {
        match member {
            Member::Pod(name) if self.is_here => Holder::Here(name.clone()),
            member => Holder::Elsewhere(member.clone()),
        }
    }
}

impl Likeness {
    /// No pod's namespace is called so.
    pub(super) const NAMESPACE_OF_NODES: &str = "";

    /// What a node is to policies.
    pub(super) fn of_node(node: &Node) -> Self {
        let namespace = Self::NAMESPACE_OF_NODES.to_owned();
        Self { namespace, labels: node.labels.clone(), ports: Vec::new() }
    }

    fn of(pod: &Pod) -> Self {
        let ports = pod.containers.iter().flat_map(|container| &container.ports);
        let named = ports.filter_map(|it| {
            let (name, protocol, number) = (it.name.clone()?, it.protocol, it.port);
            Some(NamedPort { name, protocol, number })
        });
        let mut ports: Vec<_> = named.collect();
        ports.sort();
        Self { namespace: pod.name.namespace.clone(), labels: pod.labels.clone(), ports }
    }

    /// The numbers of a port that it calls so (N6).
    pub(super) fn named(&self, name: &str, protocol: Protocol) -> impl Iterator<Item = u16> {
        let called = self.ports.iter().filter(move |it| it.name == name && it.protocol == protocol);
        called.map(|it| it.number)
    }
}
