//! Ports of the node that lead to pods on it: like node ports of a Service with one endpoint (S27).

use std::net::IpAddr;

use millrace_tables::{
    Endpoint, EndpointSet, Frontend, FrontendKind, Service, SourceSet, TrafficPolicy,
};

use super::endpoints::Backing;
use super::frontends::Numbered;
use super::services::{Compiled, number, protocol};
use crate::service::Family;
use crate::{ContainerPort, Life, Pod, PodNetwork, QualifiedName};

/// Compiles a pod's; nothing, if it is elsewhere, has none or has no network of its own.
pub(super) fn compile(pod: &Pod, backing: &Backing<'_>, sets: &mut Numbered) -> Option<Compiled> {
    let is_here = backing.is_here(pod) && pod.network == PodNetwork::Own;
    if !is_here || pod.status.life == Life::Over {
        return None;
    }
    let mut compiled = Compiled::default();
    for port in pod.containers.iter().flat_map(|container| &container.ports) {
        for address in places(backing, port) {
            let of_family = |it: &&IpAddr| Family::of(**it) == Family::of(address);
            let Some(to) = pod.status.addresses.iter().find(of_family) else { continue };
            let endpoint = Endpoint { address: *to, port: port.port };
            let set = EndpointSet(compiled.uses.endpoints(vec![endpoint], sets));
            compiled.rows.extend(row(pod, port, address, set));
        }
    }
    (!compiled.rows.is_empty()).then_some(compiled)
}

/// The addresses of the node that have a port.
fn places<'b>(backing: &'b Backing<'_>, port: &ContainerPort) -> impl Iterator<Item = IpAddr> + 'b {
    let stated = port.host.and_then(|host| host.address);
    let has = port.host.is_some();
    backing.node_addresses().filter(move |it| has && stated.is_none_or(|stated| stated == *it))
}

fn row(
    pod: &Pod,
    port: &ContainerPort,
    address: IpAddr,
    set: EndpointSet,
) -> Option<(Frontend, Service)> {
    let host = port.host?;
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
    Some((Frontend { address, port: host.port, protocol }, service))
}
