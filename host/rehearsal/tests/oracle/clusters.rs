//! Random clusters: small, so that what policies ask for is often there.

use std::collections::BTreeMap;

use millrace_control::policy::{
    ClusterAction, ClusterNetworkPolicy, ClusterPeer, ClusterPort, ClusterRule, ClusterTier,
    ClusterTraffic, DomainName, NetworkPolicy, Operator, Peers, PodSelector, PolicyMode,
    PolicyPeer, PolicyPort, PolicyRule, PolicyTerms, PortRange, Ports, Requirement, Selector,
};
use millrace_control::{
    Bandwidth, Container, ContainerPort, Labels, Namespace, Node, Pod, PodName, PodNetwork,
    PodStatus, Protocol, QualifiedName, World,
};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

pub(crate) fn world() -> impl Strategy<Value = World> {
    let policies = (vec(policy(), 0..5), vec(cluster_policy(), 0..5));
    (vec(labels(), 2), vec(labels(), 2), vec(pod(), 1..6), policies).prop_map(
        |(of_nodes, of_spaces, pods, (policies, of_cluster))| {
            let mut world = World::default();
            for ((number, name), labels) in NODES.into_iter().enumerate().zip(of_nodes) {
                let address = |text: String| text.parse().expect("an address");
                let addresses =
                    [format!("192.0.2.{}", number + 1), format!("fd00::{}", number + 1)]
                        .map(address);
                let name = name.to_owned();
                let addresses = addresses.to_vec();
                let node = Node { name: name.clone(), labels, addresses, ..Node::default() };
                world.nodes.insert(name, node);
            }
            for (name, labels) in SPACES.into_iter().zip(of_spaces) {
                let mut namespace = Namespace::named(name);
                namespace.labels.extend(labels);
                world.namespaces.insert(name.to_owned(), namespace);
            }
            for (number, mut pod) in pods.into_iter().enumerate() {
                pod.name.name = format!("p{number}");
                if pod.network == PodNetwork::Own {
                    let address = |text: String| text.parse().expect("an address");
                    let number = number + 2;
                    let addresses =
                        [format!("10.1.{}.{number}", number % 2), format!("fd01::{number}")];
                    pod.status.addresses = addresses.map(address).to_vec();
                }
                world.pods.insert(pod.name.clone(), pod);
            }
            for (number, mut policy) in policies.into_iter().enumerate() {
                policy.name.name = format!("n{number}");
                world.policies.insert(policy.name.clone(), policy);
            }
            for (number, mut policy) in of_cluster.into_iter().enumerate() {
                policy.name = format!("c{number}");
                world.cluster_policies.insert(policy.name.clone(), policy);
            }
            world
        },
    )
}

fn pod() -> impl Strategy<Value = Pod> {
    let network = prop_oneof![6 => Just(PodNetwork::Own), 1 => Just(PodNetwork::Host)];
    let port = (select(&NAMES[..]), select(&PROTOCOLS[..]), select(&PORTS[..]));
    let port = port.prop_map(|(name, protocol, port)| ((name, protocol), port));
    // a pod's ports have names of their own
    let ports = vec(port, 0..3).prop_map(|ports| {
        let ports: BTreeMap<_, _> = ports.into_iter().collect();
        let port = |((name, protocol), port): ((&str, Protocol), u16)| ContainerPort {
            name: Some(name.to_owned()),
            protocol,
            port,
            host: None,
        };
        ports.into_iter().map(port).collect()
    });
    (select(&SPACES[..]), select(&NODES[..]), labels(), network, ports).prop_map(
        |(namespace, node, labels, network, ports)| Pod {
            name: PodName::new(namespace, ""),
            labels,
            node: Some(node.to_owned()),
            network,
            bandwidth: Bandwidth::default(),
            weight: <_>::default(),
            containers: vec![Container { name: "c".to_owned(), command: Vec::new(), ports }],
            status: PodStatus::default(),
        },
    )
}

fn policy() -> impl Strategy<Value = NetworkPolicy> {
    let rules = || option::weighted(0.7, vec(rule(), 0..3));
    (select(&SPACES[..]), selector(), rules(), rules(), terms()).prop_map(
        |(namespace, pods, ingress, egress, terms)| NetworkPolicy {
            name: QualifiedName::new(namespace, ""),
            pods,
            ingress,
            egress,
            terms,
        },
    )
}

fn terms() -> impl Strategy<Value = PolicyTerms> {
    let mode = prop_oneof![4 => Just(PolicyMode::Enforce), 1 => Just(PolicyMode::Audit)];
    mode.prop_map(|mode| PolicyTerms { mode, on_refused: None })
}

fn cluster_policy() -> impl Strategy<Value = ClusterNetworkPolicy> {
    let tier = select(&ClusterTier::ALL[..]);
    let ingress = vec(cluster_rule(cluster_peer().boxed()), 0..3);
    let egress = prop_oneof![
        3 => cluster_peer().boxed(),
        1 => selector().prop_map(ClusterPeer::Nodes).boxed(),
        1 => vec(select(&BLOCKS[..]), 1..3).prop_map(|blocks| {
            let prefixes = blocks.into_iter().map(|(text, _)| text.parse().expect("a prefix"));
            ClusterPeer::Networks(prefixes.collect())
        }),
        1 => vec(select(&DOMAINS[..]), 1..3).prop_map(|names| {
            let names = names.into_iter().map(|text| DomainName::new(text).expect("a name"));
            ClusterPeer::Domains(names.collect())
        }),
    ];
    let egress = vec(cluster_rule(egress.boxed()), 0..3);
    // few priorities, so that some are the same
    (tier, 0..4u16, pods(), ingress, egress, terms()).prop_map(
        |(tier, priority, subject, ingress, egress, terms)| ClusterNetworkPolicy {
            name: String::new(),
            tier,
            priority,
            subject,
            ingress,
            egress,
            terms,
        },
    )
}

fn cluster_rule(peer: BoxedStrategy<ClusterPeer>) -> impl Strategy<Value = ClusterRule> {
    let numbers = |(protocol, a, b): (_, u16, u16)| {
        let ports = PortRange::Numbers(a.min(b), a.max(b));
        ClusterPort::Of(PolicyPort { protocol, ports })
    };
    let port = prop_oneof![
        3 => (select(&PROTOCOLS[..]), select(&PORTS[..]), select(&PORTS[..])).prop_map(numbers),
        1 => select(&NAMES[..]).prop_map(|name| ClusterPort::Named(name.to_owned())),
    ];
    let about = (vec(peer, 1..3), vec(port, 0..3))
        .prop_map(|(peers, ports)| ClusterTraffic::With { peers, ports });
    let about = prop_oneof![9 => about, 1 => Just(ClusterTraffic::NotUnderstood)];
    let actions = [ClusterAction::Accept, ClusterAction::Deny, ClusterAction::Pass];
    (select(actions.to_vec()), about).prop_map(|(action, about)| ClusterRule {
        name: None,
        action,
        about,
    })
}

fn cluster_peer() -> impl Strategy<Value = ClusterPeer> {
    pods().prop_map(ClusterPeer::Pods)
}

fn pods() -> impl Strategy<Value = PodSelector> {
    (selector(), selector()).prop_map(|(namespaces, pods)| PodSelector { namespaces, pods })
}

fn rule() -> impl Strategy<Value = PolicyRule> {
    let peers = prop_oneof![
        1 => Just(Peers::All),
        4 => vec(peer(), 1..3).prop_map(Peers::AnyOf),
    ];
    let ports = prop_oneof![
        2 => Just(Ports::All),
        3 => vec(port(), 1..3).prop_map(Ports::AnyOf),
    ];
    (peers, ports).prop_map(|(peers, ports)| PolicyRule { peers, ports })
}

fn peer() -> impl Strategy<Value = PolicyPeer> {
    let prefix = |text: &str| text.parse().expect("a prefix");
    let block = select(&BLOCKS[..]).prop_flat_map(move |(within, parts)| {
        subsequence(parts, 0..=parts.len()).prop_map(move |except| PolicyPeer::Block {
            prefix: prefix(within),
            except: except.into_iter().map(prefix).collect(),
        })
    });
    prop_oneof![
        3 => (option::of(selector()), selector())
            .prop_map(|(namespaces, pods)| PolicyPeer::Pods { namespaces, pods }),
        1 => block,
    ]
}

fn port() -> impl Strategy<Value = PolicyPort> {
    let ports = prop_oneof![
        Just(PortRange::All),
        (select(&PORTS[..]), select(&PORTS[..]))
            .prop_map(|(a, b)| PortRange::Numbers(a.min(b), a.max(b))),
        select(&NAMES[..]).prop_map(|name| PortRange::Named(name.to_owned())),
    ];
    (select(&PROTOCOLS[..]), ports).prop_map(|(protocol, ports)| PolicyPort { protocol, ports })
}

fn selector() -> impl Strategy<Value = Selector> {
    let values = || vec(select(&VALUES[..]).prop_map(str::to_owned), 1..3);
    let operator = prop_oneof![
        values().prop_map(Operator::In),
        values().prop_map(Operator::NotIn),
        Just(Operator::Exists),
        Just(Operator::DoesNotExist),
    ];
    let expression = (select(&KEYS[..]), operator)
        .prop_map(|(key, operator)| Requirement { key: key.to_owned(), operator });
    let label = btree_map(select(&KEYS[..]), select(&VALUES[..]), 0..2).prop_map(owned);
    (label, vec(expression, 0..2))
        .prop_map(|(labels, expressions)| Selector { labels, expressions })
}

fn labels() -> impl Strategy<Value = Labels> {
    btree_map(select(&KEYS[..]), select(&VALUES[..]), 0..3).prop_map(owned)
}

fn owned(labels: BTreeMap<&str, &str>) -> Labels {
    labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

const NODES: [&str; 2] = ["a", "b"];
const SPACES: [&str; 2] = ["x", "y"];
const KEYS: [&str; 2] = ["app", "tier"];
const VALUES: [&str; 2] = ["one", "two"];
const NAMES: [&str; 2] = ["web", "other"];
const DOMAINS: [&str; 2] = ["www.example.com", "*.example.com"];
const PORTS: [u16; 4] = [53, 80, 81, 90];
const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
/// Prefixes, and parts of them.
const BLOCKS: [(&str, &[&str]); 6] = [
    ("0.0.0.0/0", &["10.1.0.0/16", "198.51.100.0/24", "10.1.1.3/32"]),
    ("10.0.0.0/8", &["10.1.0.0/24", "10.1.1.0/24"]),
    ("10.1.0.2/32", &[]),
    ("192.0.2.2/32", &[]),
    ("::/0", &["fd01::/64", "fd01::3/128"]),
    ("fd00::/8", &["fd01::2/128", "fd00::2/128"]),
];
