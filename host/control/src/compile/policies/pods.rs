//! Pods, as policies see them: by namespace, labels and the names of their ports; and nodes, which
//! have a namespace to themselves that no pod is in.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;

use crate::policy::{ClusterNetworkPolicy, ClusterTier, NetworkPolicy, PolicyDirection, Selector};
use crate::{Labels, Life, Node, Pod, PodName, PodNetwork, Protocol, World};

use super::Local;

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
#[derive(Debug)]
pub(super) struct Alike {
    pub(super) likeness: Likeness,
    pub(super) addresses: Vec<IpAddr>,
}

/// A pod of this node.
#[derive(Debug)]
pub(super) struct Here<'w> {
    pub(super) name: &'w PodName,
    pub(super) addresses: &'w [IpAddr],
    /// What is known of it; nothing, if it is attached and its manifest has not come yet (N14).
    pub(super) likeness: Option<Likeness>,
}

/// The policies that are for a pod in a direction, in the order in which they are asked.
#[derive(Default)]
pub(super) struct PoliciesFor<'w> {
    pub(super) admin: Vec<&'w ClusterNetworkPolicy>,
    /// By name: their order says nothing.
    pub(super) namespaced: Vec<&'w NetworkPolicy>,
    /// None where there is a NetworkPolicy.
    pub(super) baseline: Vec<&'w ClusterNetworkPolicy>,
}

/// The pods of a world.
pub(super) struct Pods<'w> {
    pub(super) world: &'w World,
    /// In order; those of a namespace are one behind the other.
    pub(super) alike: Vec<Alike>,
    pub(super) here: Vec<Here<'w>>,
}

impl<'w> Pods<'w> {
    /// The pods, seen from a node.
    pub(super) fn new(world: &'w World, node: &str, local: &'w Local) -> Self {
        let mut alike: BTreeMap<Likeness, Vec<IpAddr>> = BTreeMap::new();
        let mut here = Vec::new();
        for (name, pod) in &world.pods {
            // those in their node's network are that node to others (N12)
            if pod.network == PodNetwork::Host || pod.status.life == Life::Over {
                continue;
            }
            let attached = local.pods.get(name);
            let addresses = attached.unwrap_or(&pod.status.addresses);
            let likeness = Likeness::of(pod);
            if attached.is_some() || pod.node.as_deref() == Some(node) {
                here.push(Here { name, addresses, likeness: Some(likeness.clone()) });
            }
            alike.entry(likeness).or_default().extend(addresses);
        }
        for node in world.nodes.values() {
            let addresses = node.addresses.iter().chain(&node.external);
            alike.entry(Likeness::of_node(node)).or_default().extend(addresses);
        }
        for (name, addresses) in &local.pods {
            let is_known = world
                .pods
                .get(name)
                .is_some_and(|pod| pod.network == PodNetwork::Own && pod.status.life != Life::Over);
            if !is_known {
                here.push(Here { name, addresses, likeness: None });
            }
        }
        let alike = alike.into_iter().map(|(likeness, addresses)| Alike { likeness, addresses });
        Self { world, alike: alike.collect(), here }
    }

    /// The policies that are for a pod of this node in a direction. Of a pod that is not known all
    /// are that may be.
    pub(super) fn policies_for(
        &self,
        pod: &Here<'_>,
        direction: PolicyDirection,
    ) -> PoliciesFor<'w> {
        let namespace = &pod.name.namespace;
        let selects = |selector: &Selector| {
            pod.likeness.as_ref().is_none_or(|likeness| selector.selects(&likeness.labels))
        };
        let first = crate::QualifiedName::new(namespace.clone(), "");
        let policies = self.world.policies.range(first..).map(|(_, policy)| policy);
        let policies = policies.take_while(|policy| policy.name.namespace == *namespace);
        let policies = policies.filter(|it| it.rules(direction).is_some() && selects(&it.pods));
        let namespaced: Vec<_> = policies.collect();

        let labels = self.world.namespaces.get(namespace).map(|it| &it.labels);
        let mut of_cluster: Vec<_> = self
            .world
            .cluster_policies
            .values()
            .filter(|policy| {
                !policy.rules(direction).is_empty()
                    && labels.is_none_or(|it| policy.subject.namespaces.selects(it))
                    && selects(&policy.subject.pods)
            })
            .collect();
        of_cluster.sort_by_key(|policy| policy.order());
        let (admin, mut baseline): (Vec<_>, Vec<_>) =
            of_cluster.into_iter().partition(|policy| policy.tier == ClusterTier::Admin);
        if !namespaced.is_empty() {
            baseline.clear();
        }
        PoliciesFor { admin, namespaced, baseline }
    }

    /// Where in the list those of a namespace are.
    pub(super) fn alike_in(&self, namespace: &str) -> Range<usize> {
        let start = self.alike.partition_point(|it| *it.likeness.namespace < *namespace);
        let end = self.alike.partition_point(|it| *it.likeness.namespace <= *namespace);
        start..end
    }

    /// Where in the list those are that are like this.
    pub(super) fn place_of(&self, likeness: &Likeness) -> Option<usize> {
        self.alike.binary_search_by(|it| it.likeness.cmp(likeness)).ok()
    }

    /// The namespaces with labels like these.
    pub(super) fn namespaces(&self, selector: &Selector) -> impl Iterator<Item = &str> {
        let selected = self.world.namespaces.values().filter(|it| selector.selects(&it.labels));
        selected.map(|it| it.name.as_str())
    }
}

impl PoliciesFor<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.admin.is_empty() && self.namespaced.is_empty() && self.baseline.is_empty()
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
