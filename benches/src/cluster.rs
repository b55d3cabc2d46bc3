//! Clusters of any size: Services with three endpoints each, and a policy for the pods of each.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use millrace_control::manifest::{Kind, Object};
use millrace_control::policy::{
    NetworkPolicy, Peers, PolicyPeer, PolicyPort, PolicyRule, PortRange, Ports, Selector,
};
use millrace_control::service::{
    ClusterIps, Condition, Family, Hints, QualifiedName, Service, ServicePort, SliceEndpoint,
    SlicePort, TargetPort,
};
use millrace_control::{
    Change, EndpointSlice, Labels, Namespace, Node, Pod, PodName, PodStatus, Protocol, World,
};

/// How many Services there are, and policies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size(pub(crate) u32);

/// A change that is made again and again, each time another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kinds {
    /// A Service has an endpoint in place of another.
    Endpoint,
    /// A Service comes, with its endpoints.
    Comes,
    /// It goes.
    Goes,
    /// A policy for pods of this node allows another port.
    Policy,
    /// A pod elsewhere has labels that others' policies ask for.
    Labels,
}

impl Kinds {
    pub(crate) const ALL: [Self; 5] =
        [Self::Endpoint, Self::Comes, Self::Goes, Self::Policy, Self::Labels];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Endpoint => "an endpoint changes",
            Self::Comes => "a Service comes",
            Self::Goes => "a Service goes",
            Self::Policy => "a policy changes",
            Self::Labels => "a pod's labels change",
        }
    }

    /// The `turn`th change of this kind.
    pub(crate) fn change(self, size: Size, turn: u32) -> Vec<Change> {
        let at = turn * STRIDE % size.0;
        let (number, new) = (size.0 + 1, size.0 + 2 + turn);
        match self {
            Self::Endpoint => vec![put(slice(at, ENDPOINTS * new))],
            Self::Comes => {
                vec![put(service(number)), put(slice(number, ENDPOINTS * number))]
            }
            Self::Goes => [Kind::EndpointSlice, Kind::Service]
                .map(|kind| Change::Remove(kind, name(number).to_string()))
                .to_vec(),
            // those of this node's pods
            Self::Policy => vec![put(policy(at / NODES * NODES, 1024 + turn as u16))],
            // those that a policy of this node asks for, and its own again
            Self::Labels => vec![put(pod(2 * ENDPOINTS, 1 + turn % 2))],
        }
    }
}

/// The world.
pub(crate) fn world(size: Size) -> World {
    let mut world = World::default();
    for n in 0..NODES {
        let node = Node { name: format!("node-{n}"), ..Node::default() };
        world.nodes.insert(node.name.clone(), node);
    }
    for n in 0..size.0 {
        let (Object::Service(service), Object::EndpointSlice(slice)) =
            (service(n), slice(n, ENDPOINTS * n))
        else {
            unreachable!("they are made so")
        };
        let namespace = &service.name.namespace;
        world.namespaces.entry(namespace.clone()).or_insert_with(|| Namespace::named(namespace));
        world.services.services.insert(service.name.clone(), service);
        world.services.slices.insert(slice.name.clone(), slice);
        let Object::NetworkPolicy(policy) = policy(n, PORT) else { unreachable!("it is made so") };
        world.policies.insert(policy.name.clone(), policy);
        for at in 0..ENDPOINTS {
            let Object::Pod(pod) = pod(n * ENDPOINTS + at, n) else {
                unreachable!("it is made so")
            };
            world.pods.insert(pod.name.clone(), pod);
        }
    }
    world
}

/// The node that is told.
pub(crate) const HERE: &str = "node-0";
/// The endpoints of each Service.
pub(crate) const ENDPOINTS: u32 = 3;

fn put(object: Object) -> Change {
    Change::Put(Box::new(object))
}

/// What the Service with a number is called, and its policy.
pub(crate) fn name(n: u32) -> QualifiedName {
    QualifiedName::new(format!("team-{}", n / SERVICES_EACH), format!("web-{n}"))
}

/// The address of a Service.
pub(crate) fn service_address(n: u32) -> IpAddr {
    address(11, n)
}

fn address(network: u8, n: u32) -> IpAddr {
    Ipv4Addr::from((u32::from(network) << 24) + n + 1).into()
}

fn service(n: u32) -> Object {
    let port = ServicePort {
        name: String::new(),
        protocol: Protocol::Tcp,
        port: 80,
        target: TargetPort::Number(PORT),
        node_port: None,
    };
    Object::Service(Service {
        name: name(n),
        labels: Labels::new(),
        kind: <_>::default(),
        cluster_ips: ClusterIps::Addresses(vec![service_address(n)]),
        families: Vec::new(),
        family_policy: <_>::default(),
        selector: labels(n),
        ports: vec![port],
        external_ips: Vec::new(),
        load_balancer: Vec::new(),
        source_ranges: Vec::new(),
        load_balancer_class: None,
        node_ports: <_>::default(),
        health_check_node_port: None,
        internal_policy: <_>::default(),
        external_policy: <_>::default(),
        affinity: None,
        publishes: <_>::default(),
        algorithm: <_>::default(),
    })
}

/// A slice whose endpoints are pods from this one on.
fn slice(n: u32, first: u32) -> Object {
    let endpoint = |at| SliceEndpoint {
        pod: None,
        addresses: vec![address(10, at)],
        condition: Condition { ready: true, serving: true, terminating: false },
        node: Some(node(at)),
        hints: Hints::default(),
    };
    let of = (EndpointSlice::SERVICE_LABEL.to_owned(), name(n).name);
    let port = SlicePort { name: String::new(), protocol: Protocol::Tcp, port: PORT };
    Object::EndpointSlice(EndpointSlice {
        name: name(n),
        labels: Labels::from([of]),
        family: Family::V4,
        endpoints: (first..first + ENDPOINTS).map(endpoint).collect(),
        ports: vec![port],
    })
}

/// The pods of a Service are on neighbouring nodes.
fn pod(at: u32, like: u32) -> Object {
    let QualifiedName { namespace, .. } = name(at / ENDPOINTS);
    Object::Pod(Pod {
        name: PodName::new(namespace, format!("pod-{at}")),
        labels: labels(like),
        node: Some(node(at)),
        network: <_>::default(),
        bandwidth: <_>::default(),
        weight: <_>::default(),
        containers: Vec::new(),
        status: PodStatus { addresses: vec![address(10, at)], ..PodStatus::default() },
    })
}

/// A policy lets a Service's pods be reached by those of the next.
fn policy(n: u32, port: u16) -> Object {
    let peer = PolicyPeer::Pods { namespaces: None, pods: selector(n + 1) };
    let port = PolicyPort { protocol: Protocol::Tcp, ports: PortRange::Numbers(port, port) };
    let rule = PolicyRule { peers: Peers::AnyOf(vec![peer]), ports: Ports::AnyOf(vec![port]) };
    Object::NetworkPolicy(NetworkPolicy {
        name: name(n),
        pods: selector(n),
        ingress: Some(vec![rule]),
        egress: None,
        terms: <_>::default(),
    })
}

fn node(at: u32) -> String {
    format!("node-{}", at / ENDPOINTS % NODES)
}

fn labels(n: u32) -> Labels {
    BTreeMap::from([("app".to_owned(), format!("web-{n}"))])
}

fn selector(n: u32) -> Selector {
    Selector { labels: labels(n), expressions: Vec::new() }
}

const NODES: u32 = 300;
const SERVICES_EACH: u32 = 20;
const PORT: u16 = 8080;
/// Changes are all over the cluster.
const STRIDE: u32 = 7919;
