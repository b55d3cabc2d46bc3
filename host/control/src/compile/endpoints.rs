//! Who is behind a port of a Service, and who of them counts on a node (S3 to S6).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use millrace_tables::{Backend, Endpoint, Range};

use super::index::{Index, has_all};
use super::node_ports::NodePortAddresses;
use super::stand_ins::stand_ins;
use super::{ThisNode, range};
use crate::service::{
    Announcement, Condition, EndpointSlice, Family, Hints, Publishes, Service, ServicePort,
    SliceEndpoint, TargetPort,
};
use crate::{Agents, Life, Node, Pod, PodName, PodNetwork, Readiness, Weight, World};

/// What of a world is behind Services, as a node sees it.
pub(super) struct Backing<'w> {
    world: &'w World,
    node: &'w str,
    node_ports: &'w NodePortAddresses,
    zone: Option<&'w str>,
    index: &'w Index,
    agents: &'w Agents,
}

/// An endpoint that may count.
#[derive(Clone, Copy, Debug)]
struct Candidate<'w> {
    endpoint: Endpoint,
    weight: Weight,
    condition: Condition,
    node: Option<&'w str>,
    hints: Option<&'w Hints>,
}

/// Who counts: for all nodes alike, and for those on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Usable {
    pub(super) cluster: Vec<Backend>,
    pub(super) local: Vec<Backend>,
    /// Whether those on this node are ready, and not the last resort.
    pub(super) is_local_ready: bool,
}

impl<'w> Backing<'w> {
    pub(super) fn new(
        world: &'w World,
        this: ThisNode<'w>,
        index: &'w Index,
        agents: &'w Agents,
    ) -> Self {
        let ThisNode { name: node, ports: node_ports } = this;
        let zone = world.nodes.get(node).and_then(|node| node.labels.get(ZONE_LABEL));
        Self { world, node, node_ports, zone: zone.map(String::as_str), index, agents }
    }

    /// Whether a pod is on this node.
    pub(super) fn is_here(&self, pod: &Pod) -> bool {
        pod.node.as_deref() == Some(self.node)
    }

    /// The nodes with an agent, as far as that is known.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &'w Node> {
        self.world.nodes.values().filter(|it| self.agents.have(&it.name, self.node))
    }

    /// Whether an address is of a pool that neighbours are told of.
    pub(super) fn is_of_neighbours(&self, address: IpAddr) -> bool {
        let pools = self.world.services.pools.values();
        let mut pools = pools.filter(|pool| pool.announcement == Announcement::Neighbours);
        pools.any(|pool| pool.prefixes.iter().any(|prefix| prefix.contains(address)))
    }

    /// The node that asks.
    pub(super) fn node(&self) -> &'w str {
        self.node
    }

    /// This node's addresses.
    pub(super) fn node_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.stated().iter().copied()
    }

    fn stated(&self) -> &'w [IpAddr] {
        self.world.nodes.get(self.node).map_or(&[], |node| &node.addresses)
    }

    /// Those of them that have node ports.
    pub(super) fn node_port_addresses(&self) -> Vec<IpAddr> {
        self.node_ports.at(self.stated())
    }

    /// What stands in for those that have node ports.
    pub(super) fn node_port_stand_ins(&self) -> impl Iterator<Item = IpAddr> {
        let node_ports = self.node_ports;
        self.stand_ins().into_iter().filter(|(own, _)| node_ports.has(*own)).map(|(_, it)| it)
    }

    /// By this node's addresses, and those of its loopback, what stands in for each.
    pub(super) fn stand_ins(&self) -> BTreeMap<IpAddr, IpAddr> {
        stand_ins(self.stated(), self.node_ports)
    }

    /// Whom what is sent to those that stand in comes from: the node has no other addresses that it
    /// connects from, and what it forwards is from elsewhere.
    pub(super) fn own_sources(&self) -> Vec<Range> {
        let own: BTreeSet<Range> = self
            .stand_ins()
            .into_keys()
            .chain(self.gateways())
            .map(|it| range(&it.into()))
            .collect();
        own.into_iter().collect()
    }

    /// The addresses that this node's pods know it by: the first of their prefixes.
    pub(super) fn gateways(&self) -> impl Iterator<Item = IpAddr> {
        let node = self.world.nodes.get(self.node);
        let prefixes = node.into_iter().flat_map(|node| &node.pod_cidrs);
        prefixes.filter_map(|prefix| prefix.iter().nth(1))
    }

    /// Who counts for a port of a Service, with addresses of a family.
    pub(super) fn usable(&self, service: &Service, port: &ServicePort, family: Family) -> Usable {
        let candidates = self.candidates(service, port, family);
        let cluster = match self.choose(candidates.iter(), |it| it.ready) {
            ready if ready.is_empty() => {
                endpoints(candidates.iter().filter(|it| is_last_resort(it)))
            }
            ready => ready,
        };
        let local = || candidates.iter().filter(|it| it.node == Some(self.node));
        let ready = endpoints(local().filter(|it| it.condition.ready));
        let is_local_ready = !ready.is_empty();
        let local = match is_local_ready {
            true => ready,
            false => endpoints(local().filter(|it| is_last_resort(it))),
        };
        Usable { cluster, local, is_local_ready }
    }

    /// The nodes that have endpoints of a Service, for themselves.
    pub(super) fn nodes_of(&self, service: &Service, family: Family) -> BTreeSet<&'w str> {
        let candidates = service.ports.iter().flat_map(|it| self.candidates(service, it, family));
        let usable = candidates.filter(|it| it.condition.ready || is_last_resort(it));
        usable.filter_map(|it| it.node).collect()
    }

    fn candidates(
        &self,
        service: &Service,
        port: &ServicePort,
        family: Family,
    ) -> Vec<Candidate<'w>> {
        match self.index.slices(self.world, &service.name) {
            Some(slices) => self.sliced(service, &slices, port, family),
            None => self.selected(service, port, family),
        }
    }

    /// Those with a condition that are nearest to this node, if it is said of each whose they are
    /// (S6).
    fn choose<'c>(
        &self,
        candidates: impl Iterator<Item = &'c Candidate<'w>>,
        condition: impl Fn(&Condition) -> bool,
    ) -> Vec<Backend>
    where
        'w: 'c,
    {
        let all: Vec<_> = candidates.filter(|it| condition(&it.condition)).collect();
        let names = |of: fn(&Hints) -> &Vec<String>, who: Option<&str>| -> Option<Vec<Backend>> {
            let of = |it: &Candidate<'w>| it.hints.map_or(&[][..], |hints| of(hints).as_slice());
            let each_says = all.iter().all(|it| !of(it).is_empty());
            let ours = all.iter().filter(|it| of(it).iter().any(|name| Some(name.as_str()) == who));
            let ours = endpoints(ours.copied());
            (each_says && !ours.is_empty()).then_some(ours)
        };
        names(|hints| &hints.nodes, Some(self.node))
            .or_else(|| names(|hints| &hints.zones, self.zone))
            .unwrap_or_else(|| endpoints(all.iter().copied()))
    }

    /// The pods that a Service selects.
    fn selected(
        &self,
        service: &Service,
        port: &ServicePort,
        family: Family,
    ) -> Vec<Candidate<'w>> {
        if service.selector.is_empty() {
            return Vec::new();
        }
        let candidate = |pod: &'w Pod| {
            let address = self.address(pod, family)?;
            let port = match &port.target {
                TargetPort::Number(number) => *number,
                TargetPort::Name(name) => named_port(pod, name, port)?,
            };
            let serving =
                pod.status.readiness == Readiness::Ready || service.publishes == Publishes::All;
            let terminating = pod.status.life == Life::Ending;
            let ready = serving && (!terminating || service.publishes == Publishes::All);
            Some(Candidate {
                endpoint: Endpoint { address, port },
                weight: pod.weight,
                condition: Condition { ready, serving, terminating },
                node: pod.node.as_deref(),
                hints: None,
            })
        };
        let pods = self.index.pods(self.world, &service.name.namespace, &service.selector);
        let alive = pods.into_iter().filter(|pod| pod.status.life != Life::Over);
        alive.filter_map(candidate).collect()
    }

    /// Endpoints of all slices, whichever says it first: one that moves from slice to slice may be in
    /// two for a while (S3).
    fn sliced(
        &self,
        service: &Service,
        slices: &[&'w EndpointSlice],
        port: &ServicePort,
        family: Family,
    ) -> Vec<Candidate<'w>> {
        let mut seen = BTreeSet::new();
        let mut candidates = Vec::new();
        for slice in slices.iter().filter(|slice| slice.family == family) {
            let same = |name: &str, protocol| name == port.name && protocol == port.protocol;
            let Some(port) = slice.ports.iter().find(|it| same(&it.name, it.protocol)) else {
                continue;
            };
            for known in &slice.endpoints {
                // the addresses of one lead to the same, so the first will do
                let Some(address) = known.addresses.first() else { continue };
                let endpoint = Endpoint { address: *address, port: port.port };
                if seen.insert(endpoint) {
                    candidates.push(Candidate {
                        endpoint,
                        weight: self.weight(service, known),
                        condition: known.condition,
                        node: known.node.as_deref(),
                        hints: Some(&known.hints),
                    });
                }
            }
        }
        candidates
    }

    /// The weight of the pod that a slice says is there, if it is one that the Service asks for.
    fn weight(&self, service: &Service, endpoint: &SliceEndpoint) -> Weight {
        let pod = endpoint.pod.as_ref();
        let pod = pod.map(|name| PodName::new(service.name.namespace.clone(), name.clone()));
        let pod = pod.and_then(|name| self.world.pods.get(&name));
        let asked_for =
            pod.filter(|it| !service.selector.is_empty() && has_all(&it.labels, &service.selector));
        asked_for.map_or_else(Weight::default, |pod| pod.weight)
    }

    /// A pod's address of a family: in its node's network that of the node (S22).
    fn address(&self, pod: &Pod, family: Family) -> Option<IpAddr> {
        let addresses = match pod.network {
            PodNetwork::Own => &pod.status.addresses,
            PodNetwork::Host => &self.world.nodes.get(pod.node.as_deref()?)?.addresses,
        };
        addresses.iter().copied().find(|address| Family::of(*address) == family)
    }
}

/// Who still answers although it ends: better than nobody (S4).
fn is_last_resort(candidate: &Candidate<'_>) -> bool {
    candidate.condition.serving && candidate.condition.terminating
}

/// In order, and each once.
fn endpoints<'c, 'w: 'c>(candidates: impl Iterator<Item = &'c Candidate<'w>>) -> Vec<Backend> {
    let backends: BTreeMap<_, _> = candidates.map(|it| (it.endpoint, it.weight)).collect();
    let backend = |(endpoint, Weight(weight)): (_, Weight)| Backend { endpoint, weight };
    backends.into_iter().map(backend).collect()
}

fn named_port(pod: &Pod, name: &str, port: &ServicePort) -> Option<u16> {
    let mut ports = pod.containers.iter().flat_map(|container| &container.ports);
    let is = |it: &&crate::ContainerPort| {
        it.name.as_deref() == Some(name) && it.protocol == port.protocol
    };
    ports.find(is).map(|it| it.port)
}

/// The label of a node's zone.
pub(super) const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
