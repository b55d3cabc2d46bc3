//! Ports of the node that lead to pods on it: like node ports of a Service with one endpoint (S27).

use std::net::IpAddr;

use millrace_tables::{
    Algorithm, Endpoint, EndpointSet, Frontend, FrontendKind, Service, SourceSet, TrafficPolicy,
};

use super::endpoints::Backing;
use super::frontends::Numbered;
use super::services::{Compiled, number, protocol};
use crate::service::Family;
use crate::{ContainerPort, Life, Pod, PodName, PodNetwork, QualifiedName};

/// A container of the node, and ports of the node that lead to it whatever the cluster knows of it: its
/// runtime wants them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// The pod that it is, if anybody says.
    pub pod: Option<PodName>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The ports.
    pub ports: Vec<ContainerPort>,
}

/// Compiles those of a container. Where the cluster says the same of its pod, the rows are the same.
pub(super) fn compile_mapped(
    container: &str,
    mapped: &Mapped,
    backing: &Backing<'_>,
    sets: &mut Numbered,
) -> Option<Compiled> {
    let of_nobody = || QualifiedName::new(String::new(), format!("container {container}"));
    let name = mapped.pod.as_ref().map_or_else(of_nobody, service_of);
    lead(&name, &mapped.addresses, mapped.ports.iter(), backing, sets)
}

/// Compiles a pod's; nothing, if it is elsewhere, has none or has no network of its own.
pub(super) fn compile(pod: &Pod, backing: &Backing<'_>, sets: &mut Numbered) -> Option<Compiled> {
    let is_here = backing.is_here(pod) && pod.network == PodNetwork::Own;
    if !is_here || pod.status.life == Life::Over {
        return None;
    }
    let ports = pod.containers.iter().flat_map(|container| &container.ports);
    lead(&service_of(&pod.name), &pod.status.addresses, ports, backing, sets)
}

/// The Service that ports of a pod are like.
fn service_of(pod: &PodName) -> QualifiedName {
    QualifiedName::new(pod.namespace.clone(), format!("pod {}", pod.name))
}

/// Has ports lead to these addresses.
fn lead<'p>(
    name: &QualifiedName,
    addresses: &[IpAddr],
    ports: impl Iterator<Item = &'p ContainerPort>,
    backing: &Backing<'_>,
    sets: &mut Numbered,
) -> Option<Compiled> {
    let mut compiled = Compiled::default();
    for port in ports {
        for (address, kind) in places(backing, port) {
            let of_family = |it: &&IpAddr| Family::of(**it) == Family::of(address);
            let Some(to) = addresses.iter().find(of_family) else { continue };
            let endpoint = Endpoint { address: *to, port: port.port };
            let set = EndpointSet(compiled.uses.endpoints(vec![endpoint.into()], sets));
            let sources = match kind {
                FrontendKind::OwnNode => compiled.uses.sources(backing.own_sources(), sets),
                _ => SourceSet::NONE.0,
            };
            let place = Place { address, kind, sources: SourceSet(sources) };
            compiled.rows.extend(row(name, port, &place, set));
        }
    }
    (!compiled.rows.is_empty()).then_some(compiled)
}

/// Where a port is.
struct Place {
    address: IpAddr,
    kind: FrontendKind,
    sources: SourceSet,
}

/// The addresses of the node that have a port, and what stands in for them and for the loopback's.
fn places<'b>(
    backing: &'b Backing<'_>,
    port: &ContainerPort,
) -> impl Iterator<Item = (IpAddr, FrontendKind)> + use<'b> {
    let stated = port.host.and_then(|host| host.address);
    let has = port.host.is_some();
    let is_meant = move |own: &IpAddr| has && stated.is_none_or(|stated| stated == *own);
    let own = backing.node_addresses().filter(is_meant).map(|it| (it, FrontendKind::NodePort));
    let stand_ins = backing.stand_ins().into_iter().filter(move |(own, _)| is_meant(own));
    own.chain(stand_ins.map(|(_, it)| (it, FrontendKind::OwnNode)))
}

fn row(
    name: &QualifiedName,
    port: &ContainerPort,
    place: &Place,
    set: EndpointSet,
) -> Option<(Frontend, Service)> {
    let host = port.host?;
    let service = Service {
        number: number(name),
        port: host.port,
        kind: place.kind,
        // who connects is to be seen
        policy: TrafficPolicy::Local,
        cluster: set,
        local: set,
        affinity_s: 0,
        sources: place.sources,
        algorithm: Algorithm::default(),
    };
    let protocol = protocol(port.protocol);
    Some((Frontend { address: place.address, port: host.port, protocol }, service))
}
