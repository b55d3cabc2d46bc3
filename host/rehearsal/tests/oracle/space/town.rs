//! Namespaces x, y and z with pods a, b and c each, on two nodes; and the policy that cases vary.

use std::collections::BTreeMap;
use std::net::IpAddr;

use millrace_control::policy::{
    NetworkPolicy, Operator, Peers, PolicyDirection, PolicyPeer, PolicyPort, PolicyRule,
    PolicyTerms, PortRange, Ports, Requirement, Selector,
};
use millrace_control::{
    Bandwidth, Container, ContainerPort, Labels, Namespace, Node, Pod, PodName, PodNetwork,
    PodStatus, Protocol, QualifiedName, World,
};

/// The ports that pods serve, and call `serve-80-tcp` and so on.
const SERVED: [u16; 2] = [80, 81];

pub(super) fn town() -> World {
    let mut world = World::default();
    for name in ["east", "west"] {
        let node = Node { name: name.to_owned(), ..Node::default() };
        world.nodes.insert(name.to_owned(), node);
    }
    for name in ["x", "y", "z"] {
        add_namespace(&mut world, name, &[("ns", name)]);
        for pod in ["a", "b", "c"] {
            add_pod(&mut world, name, pod, &[("pod", pod)]);
        }
    }
    world
}

pub(super) fn add_namespace(world: &mut World, name: &str, labels: &[(&str, &str)]) {
    let mut namespace = Namespace::named(name);
    namespace.labels.extend(owned(labels));
    world.namespaces.insert(name.to_owned(), namespace);
}

pub(super) fn add_pod(world: &mut World, namespace: &str, name: &str, labels: &[(&str, &str)]) {
    // w, x, y, y-2 and z, and of each a to d: far enough apart to be in blocks of their own
    let space = namespace.bytes().map(u32::from).sum::<u32>() % 251;
    let number = u32::from(name.as_bytes()[0] - b'a');
    let addresses = [
        format!("10.1.{space}.{}", number * 16 + 1),
        format!("fd01::{space:x}:{:x}", number * 16 + 1),
    ];
    let port = |(protocol, port): (Protocol, u16)| ContainerPort {
        name: Some(named(protocol, port)),
        protocol,
        port,
        host: None,
    };
    let all = Protocol::ALL.into_iter().flat_map(|it| SERVED.map(|port| (it, port)));
    let pod = Pod {
        name: PodName::new(namespace, name),
        labels: owned(labels),
        node: Some(["east", "west"][number as usize % 2].to_owned()),
        network: PodNetwork::Own,
        bandwidth: Bandwidth::default(),
        weight: <_>::default(),
        containers: vec![Container {
            name: "c".to_owned(),
            command: Vec::new(),
            ports: all.map(port).collect(),
        }],
        status: PodStatus { addresses: addresses.map(address).to_vec(), ..PodStatus::default() },
    };
    world.pods.insert(pod.name.clone(), pod);
}

/// What a port is called.
pub(super) fn named(protocol: Protocol, port: u16) -> String {
    format!("serve-{port}-{}", protocol.to_string().to_lowercase())
}

/// The world with these policies.
pub(super) fn with(mut world: World, policies: impl IntoIterator<Item = NetworkPolicy>) -> World {
    world.policies = policies
        .into_iter()
        .enumerate()
        .map(|(number, mut policy)| {
            policy.name.name = format!("n{number}");
            (policy.name.clone(), policy)
        })
        .collect();
    world
}

/// A policy of a namespace.
pub(super) fn policy(
    namespace: &str,
    pods: Selector,
    ingress: Option<Vec<PolicyRule>>,
    egress: Option<Vec<PolicyRule>>,
) -> NetworkPolicy {
    let (name, terms) = (QualifiedName::new(namespace, ""), PolicyTerms::default());
    NetworkPolicy { name, pods, ingress, egress, terms }
}

/// The policy of which most cases are variations: in both directions, with peers and ports.
pub(super) fn usual() -> NetworkPolicy {
    let ingress = rule(&[of(Some(one_of("ns", &["x", "y"])), one_of("pod", &["b", "c"]))]);
    let egress = rule(&[of(Some(one_of("ns", &["y", "z"])), one_of("pod", &["a", "b"]))]);
    let web = |rule| at(rule, &[tcp(80)]);
    let (ingress, egress) = (vec![web(ingress)], vec![web(egress), dns()]);
    policy("x", label("pod", "a"), Some(ingress), Some(egress))
}

/// The rules of one direction of a policy.
pub(super) fn rules(
    policy: &mut NetworkPolicy,
    direction: PolicyDirection,
) -> &mut Vec<PolicyRule> {
    match direction {
        PolicyDirection::Ingress => policy.ingress.get_or_insert_default(),
        PolicyDirection::Egress => policy.egress.get_or_insert_default(),
    }
}

/// Names are asked for in both directions.
pub(super) fn dns() -> PolicyRule {
    at(PolicyRule::default(), &[numbered(Protocol::Udp, 53, 53), tcp(53)])
}

/// A rule for these peers; for everybody if there is none.
pub(super) fn rule(peers: &[PolicyPeer]) -> PolicyRule {
    let peers = if peers.is_empty() { Peers::All } else { Peers::AnyOf(peers.to_vec()) };
    PolicyRule { peers, ports: Ports::All }
}

/// The rule, for these ports; for all if there is none.
pub(super) fn at(rule: PolicyRule, ports: &[PolicyPort]) -> PolicyRule {
    let ports = if ports.is_empty() { Ports::All } else { Ports::AnyOf(ports.to_vec()) };
    PolicyRule { ports, ..rule }
}

pub(super) fn of(namespaces: Option<Selector>, pods: Selector) -> PolicyPeer {
    PolicyPeer::Pods { namespaces, pods }
}

pub(super) fn block(prefix: &str, except: &[&str]) -> PolicyPeer {
    let read = |text: &str| text.parse().expect("a prefix");
    PolicyPeer::Block { prefix: read(prefix), except: except.iter().map(|it| read(it)).collect() }
}

pub(super) fn tcp(port: u16) -> PolicyPort {
    numbered(Protocol::Tcp, port, port)
}

pub(super) fn numbered(protocol: Protocol, first: u16, last: u16) -> PolicyPort {
    PolicyPort { protocol, ports: PortRange::Numbers(first, last) }
}

/// A port by its name, which need not be of this protocol.
pub(super) fn called(protocol: Protocol, name: &str) -> PolicyPort {
    PolicyPort { protocol, ports: PortRange::Named(name.to_owned()) }
}

pub(super) fn label(key: &str, value: &str) -> Selector {
    Selector { labels: owned(&[(key, value)]), expressions: Vec::new() }
}

pub(super) fn one_of(key: &str, values: &[&str]) -> Selector {
    let values = values.iter().map(|it| (*it).to_owned()).collect();
    let requirement = Requirement { key: key.to_owned(), operator: Operator::In(values) };
    Selector { labels: Labels::new(), expressions: vec![requirement] }
}

pub(super) fn owned(labels: &[(&str, &str)]) -> BTreeMap<String, String> {
    labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn address(text: String) -> IpAddr {
    text.parse().expect("an address")
}
