//! A cluster all of whose pods are on one node, so that each policy is in force there. The Service in
//! the middle is real: so are the pods behind it, and one of those that its policy lets connect.

use std::net::{IpAddr, SocketAddr};

use millrace_control::policy::{PolicyPort, PortRange, Ports};
use millrace_control::service::{QualifiedName, ServicePort, SlicePort, TargetPort};
use millrace_control::{PodName, Protocol, World};
use millrace_traffic::sink::DISCARD;

use super::site::{CLIENT, ENDPOINTS, HTTP, TARGET};
use crate::cluster::{self, HERE, Size};

/// The cluster.
pub(super) fn world(size: Size) -> World {
    let mut world = cluster::world(size);
    let (asked, asking) = (number(size), number(size) + 1);
    for pod in world.pods.values_mut() {
        pod.node = Some(HERE.to_owned());
    }
    for slice in world.services.slices.values_mut() {
        slice.endpoints.iter_mut().for_each(|endpoint| endpoint.node = Some(HERE.to_owned()));
    }
    let name = cluster::name(asked);
    for (at, address) in (asked * cluster::ENDPOINTS..).zip(ENDPOINTS) {
        move_pod(&mut world, &name, at, address);
    }
    move_pod(&mut world, &cluster::name(asking), asking * cluster::ENDPOINTS, CLIENT);

    let service = world.services.services.get_mut(&name).expect("a cluster has its middle");
    service.ports = PORTS.map(Port::of_service).to_vec();
    let slice = world.services.slices.get_mut(&name).expect("it has one");
    slice.ports = PORTS.map(Port::of_slice).to_vec();
    for (endpoint, address) in slice.endpoints.iter_mut().zip(ENDPOINTS) {
        endpoint.addresses = vec![address];
    }
    let policy = world.policies.get_mut(&name).expect("it has one");
    for rule in policy.ingress.iter_mut().flatten() {
        rule.ports = Ports::AnyOf(PORTS.map(Port::of_policy).to_vec());
    }
    world
}

/// Where the Service is reached that is real, over TCP and UDP.
pub(super) fn through(size: Size) -> [SocketAddr; 2] {
    let address = cluster::service_address(number(size));
    [HTTP, DISCARD].map(|port| SocketAddr::new(address, port))
}

/// Which Service is real.
fn number(size: Size) -> u32 {
    size.0 / 2
}

fn move_pod(world: &mut World, of: &QualifiedName, at: u32, address: IpAddr) {
    let name = PodName::new(&of.namespace, format!("pod-{at}"));
    let pod = world.pods.get_mut(&name).expect("a Service has its pods");
    pod.status.addresses = vec![address];
}

/// A port of the Service that is real.
#[derive(Clone, Copy)]
struct Port {
    name: &'static str,
    protocol: Protocol,
    port: u16,
    target: u16,
}

impl Port {
    fn of_service(self) -> ServicePort {
        let Self { name, protocol, port, target } = self;
        let (name, target) = (name.to_owned(), TargetPort::Number(target));
        ServicePort { name, protocol, port, target, node_port: None }
    }

    fn of_slice(self) -> SlicePort {
        SlicePort { name: self.name.to_owned(), protocol: self.protocol, port: self.target }
    }

    fn of_policy(self) -> PolicyPort {
        let ports = PortRange::Numbers(self.target, self.target);
        PolicyPort { protocol: self.protocol, ports }
    }
}

const PORTS: [Port; 2] = [
    Port { name: "http", protocol: Protocol::Tcp, port: HTTP, target: TARGET },
    Port { name: "discard", protocol: Protocol::Udp, port: DISCARD, target: DISCARD },
];
