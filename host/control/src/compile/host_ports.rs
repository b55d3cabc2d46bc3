//! Ports of the node that lead to pods on it: like node ports of a Service with one endpoint (S27).

use std::net::IpAddr;

use millrace_tables::{
    Endpoint, EndpointSet, Frontend, FrontendKind, Service, SourceSet, TrafficPolicy,
};

use super::Numbered;
use super::endpoints::Backing;
use super::services::{number, protocol};
use crate::service::Family;
use crate::{ContainerPort, Life, Pod, PodNetwork, QualifiedName};

/// The rows of the node's pods.
pub(super) fn rows<'w>(
    backing: &Backing<'w>,
    sets: &mut Numbered,
) -> Vec<(&'w Pod, Frontend, Service)> {
    let mut rows = Vec::new();
    let here = backing.pods().filter(|pod| pod.network == PodNetwork::Own);
    for pod in here.filter(|pod| pod.status.life != Life::Over) {
        for port in pod.containers.iter().flat_map(|container| &container.ports) {
            for address in places(backing, port) {
                let of_family = |it: &&IpAddr| Family::of(**it) == Family::of(address);
                let Some(to) = pod.status.addresses.iter().find(of_family) else { continue };
                let endpoint = Endpoint { address: *to, port: port.port };
                rows.extend(row(pod, port, address, endpoint, sets));
            }
        }
    }
    rows
}

/// The addresses of the node that have a port.
fn places<'b>(backing: &'b Backing<'_>, port: &ContainerPort) -> impl Iterator<Item = IpAddr> + 'b {
    let stated = port.host.and_then(|host| host.address);
    let has = port.host.is_some();
    backing.node_addresses().filter(move |it| has && stated.is_none_or(|stated| stated == *it))
}

fn row<'w>(
    pod: &'w Pod,
    port: &ContainerPort,
    address: IpAddr,
    endpoint: Endpoint,
    sets: &mut Numbered,
) -> Option<(&'w Pod, Frontend, Service)> {
    let host = port.host?;
    let set = EndpointSet(sets.endpoints.number(vec![endpoint]));
    let name = QualifiedName::new(pod.name.namespace.clone(), format!("pod {}", pod.name.name));
    let service = Service {
        number: number(&name),
        port: host.port,
        kind: FrontendKind::NodePort,
        // who connects is to be seen
        policy: TrafficPolicy::Local,
        cluster: set,
        local: set,
        affinity_s: 0,
        sources: SourceSet::NONE,
    };
    let protocol = protocol(port.protocol);
    Some((pod, Frontend { address, port: host.port, protocol }, service))
}
