//! Pods, as policies see them: by namespace, labels and the names of their ports.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;

use crate::policy::{NetworkPolicy, PolicyDirection, Selector};
use crate::{Labels, Life, Pod, PodName, PodNetwork, Protocol, World};

use super::Local;

/// What pods have in common that no policy tells apart.
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

/// Pods that are alike.
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

    /// The policies that are for a pod of this node in a direction, by name.
    pub(super) fn policies_for(
        &self,
        pod: &Here<'_>,
        direction: PolicyDirection,
    ) -> impl Iterator<Item = &'w NetworkPolicy> {
        let first = crate::QualifiedName::new(pod.name.namespace.clone(), "");
        let policies = self.world.policies.range(first..).map(|(_, policy)| policy);
        let namespace = pod.name.namespace.clone();
        let policies = policies.take_while(move |policy| policy.name.namespace == namespace);
        let labels = pod.likeness.as_ref().map(|it| it.labels.clone());
        policies.filter(move |policy| {
            // of one that is not known any may be
            policy.rules(direction).is_some()
                && labels.as_ref().is_none_or(|labels| policy.pods.selects(labels))
        })
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

impl Likeness {
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
