//! What rules are made of: who is reached by which address, and who may connect to whom.
//!
//! Reads the clusters of benches, and no others: a selector there asks for all of a pod's labels.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use millrace_control::policy::{Peers, PolicyPeer, PortRange, Ports};
use millrace_control::service::{ClusterIps, EndpointSlice, QualifiedName};
use millrace_control::{Labels, Protocol, World};

/// A port of a Service.
pub(super) struct Portal {
    /// `namespace/name/protocol/port`.
    pub(super) name: String,
    pub(super) protocol: &'static str,
    pub(super) at: SocketAddr,
    pub(super) endpoints: Vec<SocketAddr>,
}

/// A policy about who connects to some pods.
pub(super) struct Fence {
    pub(super) pods: Vec<IpAddr>,
    pub(super) gates: Vec<Gate>,
}

/// Who may connect, and to what.
pub(super) struct Gate {
    pub(super) peers: Vec<IpAddr>,
    /// Protocols and ports.
    pub(super) ports: Vec<(&'static str, u16)>,
}

/// The Services of a cluster, by their addresses.
pub(super) fn portals(world: &World) -> Vec<Portal> {
    let mut slices: BTreeMap<QualifiedName, Vec<&EndpointSlice>> = BTreeMap::new();
    for slice in world.services.slices.values() {
        let service = slice.labels[EndpointSlice::SERVICE_LABEL].clone();
        let name = QualifiedName::new(&slice.name.namespace, service);
        slices.entry(name).or_default().push(slice);
    }
    let mut portals = Vec::new();
    for service in world.services.services.values() {
        let ClusterIps::Addresses(addresses) = &service.cluster_ips else { continue };
        for port in &service.ports {
            let protocol = word(port.protocol);
            let mut endpoints = Vec::new();
            for slice in slices.get(&service.name).into_iter().flatten() {
                for target in slice.ports.iter().filter(|it| it.name == port.name) {
                    let addresses = slice.endpoints.iter().flat_map(|it| &it.addresses);
                    endpoints.extend(addresses.map(|it| SocketAddr::new(*it, target.port)));
                }
            }
            portals.extend(addresses.iter().map(|address| Portal {
                name: format!("{}/{protocol}/{}", service.name, port.name),
                protocol,
                at: SocketAddr::new(*address, port.port),
                endpoints: endpoints.clone(),
            }));
        }
    }
    portals.sort_by_key(|portal| portal.at);
    portals
}

/// The policies of a cluster.
pub(super) fn fences(world: &World) -> Vec<Fence> {
    let mut pods: BTreeMap<(&str, &Labels), Vec<IpAddr>> = BTreeMap::new();
    for pod in world.pods.values() {
        let alike = pods.entry((&pod.name.namespace, &pod.labels)).or_default();
        alike.extend(&pod.status.addresses);
    }
    let mut fences = Vec::new();
    for policy in world.policies.values() {
        let namespace = policy.name.namespace.as_str();
        let selected = |labels| pods.get(&(namespace, labels)).cloned().unwrap_or_default();
        let gates = policy.ingress.iter().flatten().map(|rule| {
            let (Peers::AnyOf(peers), Ports::AnyOf(ports)) = (&rule.peers, &rule.ports) else {
                return Gate { peers: Vec::new(), ports: Vec::new() };
            };
            let peers = peers.iter().flat_map(|peer| match peer {
                PolicyPeer::Pods { namespaces: None, pods } => selected(&pods.labels),
                PolicyPeer::Pods { .. } | PolicyPeer::Block { .. } => Vec::new(),
            });
            let ports = ports.iter().filter_map(|it| match it.ports {
                PortRange::Numbers(first, _) => Some((word(it.protocol), first)),
                PortRange::All | PortRange::Named(_) => None,
            });
            Gate { peers: peers.collect(), ports: ports.collect() }
        });
        let gates = gates.filter(|gate| !gate.peers.is_empty()).collect();
        fences.push(Fence { pods: selected(&policy.pods.labels), gates });
    }
    fences
}

fn word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}
