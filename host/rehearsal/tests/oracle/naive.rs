//! What the rules say. Deliberately plain: each is read where it is needed, for one connection, and
//! nothing is shared with what compiles them.

use std::net::IpAddr;

use millrace_control::policy::{
    ClusterAction, ClusterNetworkPolicy, ClusterPeer, ClusterPort, ClusterRule, ClusterTier,
    ClusterTraffic, NetworkPolicy, Operator, Peers, PodSelector, PolicyDirection, PolicyMode,
    PolicyPeer, PortRange, Ports, Selector,
};
use millrace_control::{Labels, Pod, PodNetwork, Protocol, World};
use millrace_rehearsal::{End, Traffic};

/// An end, as rules know it.
struct Party<'w> {
    /// Only one with a network of its own is a pod to policies (N12).
    pod: Option<&'w Pod>,
    node: Option<&'w str>,
    address: IpAddr,
}

/// The world as it is if policies that are audited are not looked at.
pub(crate) fn without_audited(world: &World) -> World {
    let mut enforced = world.clone();
    enforced.policies.retain(|_, policy| policy.terms.mode == PolicyMode::Enforce);
    enforced.cluster_policies.retain(|_, policy| policy.terms.mode == PolicyMode::Enforce);
    enforced
}

/// Whether a connection is made.
pub(crate) fn allows(
    world: &World,
    (source, destination): (IpAddr, IpAddr),
    (from, to): (&End, &End),
    traffic: Traffic,
) -> bool {
    // N10: nobody is kept from itself
    if source == destination {
        return true;
    }
    let (from, to) = (party(world, from, source), party(world, to, destination));
    // N10: a node reaches its own pods
    let are_neighbours = from.node.is_some() && from.node == to.node;
    if are_neighbours && from.pod.is_none() {
        return true;
    }
    let is_to_own_node = are_neighbours && to.pod.is_none();
    // N2: both have to allow
    one_way(world, &from, &to, &to, PolicyDirection::Egress, traffic, is_to_own_node)
        && one_way(world, &to, &from, &to, PolicyDirection::Ingress, traffic, false)
}

fn party<'w>(world: &'w World, end: &'w End, address: IpAddr) -> Party<'w> {
    match end {
        End::Pod(name) => {
            let pod = &world.pods[name];
            let pod_too = (pod.network == PodNetwork::Own).then_some(pod);
            Party { pod: pod_too, node: pod.node.as_deref(), address }
        }
        End::Node(name) => Party { pod: None, node: Some(name), address },
        End::Address(_) => Party { pod: None, node: None, address },
    }
}

fn one_way(
    world: &World,
    own: &Party<'_>,
    other: &Party<'_>,
    server: &Party<'_>,
    direction: PolicyDirection,
    traffic: Traffic,
    is_to_own_node: bool,
) -> bool {
    let Some(pod) = own.pod else { return true };
    // K1: the tiers, in order
    let ask = |tier| of_cluster(world, tier, pod, other, server, direction, traffic);
    if let Some(answer) = ask(ClusterTier::Admin) {
        return answer;
    }
    if let Some(answer) = of_namespace(world, pod, other, server, direction, traffic) {
        // N10: NetworkPolicies are not about a pod's own node
        return answer || is_to_own_node;
    }
    ask(ClusterTier::Baseline).unwrap_or(true)
}

/// What NetworkPolicies say, if one is for the pod.
fn of_namespace(
    world: &World,
    pod: &Pod,
    other: &Party<'_>,
    server: &Party<'_>,
    direction: PolicyDirection,
    traffic: Traffic,
) -> Option<bool> {
    let mut is_isolated = false;
    for policy in world.policies.values() {
        let is_for_it = policy.name.namespace == pod.name.namespace
            && selects(&policy.pods, &pod.labels)
            && policy.rules(direction).is_some();
        if !is_for_it {
            continue;
        }
        // N1: the first policy isolates, N2: any of them may allow
        is_isolated = true;
        for rule in policy.rules(direction).unwrap_or_default() {
            let peer = match &rule.peers {
                Peers::All => true,
                Peers::AnyOf(peers) => peers.iter().any(|it| is_peer(world, policy, it, other)),
            };
            let port = match &rule.ports {
                Ports::All => true,
                Ports::AnyOf(ports) => {
                    ports.iter().any(|it| is_port(it.protocol, &it.ports, server, traffic))
                }
            };
            if peer && port {
                return Some(true);
            }
        }
    }
    is_isolated.then_some(false)
}

/// What the ClusterNetworkPolicies of a tier say, if they say anything (K1, K2, K3).
fn of_cluster(
    world: &World,
    tier: ClusterTier,
    pod: &Pod,
    other: &Party<'_>,
    server: &Party<'_>,
    direction: PolicyDirection,
    traffic: Traffic,
) -> Option<bool> {
    let mut policies: Vec<&ClusterNetworkPolicy> = Vec::new();
    for policy in world.cluster_policies.values() {
        if policy.tier == tier && is_one_of(world, &policy.subject, pod) {
            policies.push(policy);
        }
    }
    policies.sort_by_key(|policy| (policy.priority, &policy.name));
    for policy in policies {
        for rule in policy.rules(direction) {
            // K6
            let is_unclear = rule.about == ClusterTraffic::NotUnderstood;
            match rule.action {
                ClusterAction::Accept if is_unclear => {}
                ClusterAction::Deny | ClusterAction::Pass if is_unclear => return Some(false),
                _ if !is_about(world, rule, other, server, traffic) => {}
                ClusterAction::Accept => return Some(true),
                ClusterAction::Deny => return Some(false),
                ClusterAction::Pass => return None,
            }
        }
    }
    None
}

/// K4, K5.
fn is_about(
    world: &World,
    rule: &ClusterRule,
    other: &Party<'_>,
    server: &Party<'_>,
    traffic: Traffic,
) -> bool {
    let ClusterTraffic::With { peers, ports } = &rule.about else { return false };
    let is_peer = |peer: &ClusterPeer| match peer {
        ClusterPeer::Pods(pods) => other.pod.is_some_and(|pod| is_one_of(world, pods, pod)),
        ClusterPeer::Nodes(labels) => world.nodes.values().any(|node| {
            selects(labels, &node.labels)
                && (node.addresses.contains(&other.address)
                    || node.external.contains(&other.address))
        }),
        ClusterPeer::Networks(prefixes) => prefixes.iter().any(|it| it.contains(other.address)),
        // nobody has asked for any name
        ClusterPeer::Domains(_) => false,
    };
    let is_wanted = |port: &ClusterPort| match port {
        ClusterPort::Of(port) => is_port(port.protocol, &port.ports, server, traffic),
        ClusterPort::Named(name) => Protocol::ALL
            .into_iter()
            .any(|protocol| is_port(protocol, &PortRange::Named(name.clone()), server, traffic)),
    };
    peers.iter().any(is_peer) && (ports.is_empty() || ports.iter().any(is_wanted))
}

fn is_one_of(world: &World, selector: &PodSelector, pod: &Pod) -> bool {
    selects(&selector.namespaces, &world.namespaces[&pod.name.namespace].labels)
        && selects(&selector.pods, &pod.labels)
}

/// N3, N4, N5.
fn is_peer(world: &World, policy: &NetworkPolicy, peer: &PolicyPeer, other: &Party<'_>) -> bool {
    match peer {
        PolicyPeer::Block { prefix, except } => {
            prefix.contains(other.address) && !except.iter().any(|it| it.contains(other.address))
        }
        PolicyPeer::Pods { namespaces, pods } => {
            let Some(pod) = other.pod else { return false };
            let is_there = match namespaces {
                None => pod.name.namespace == policy.name.namespace,
                Some(selector) => selects(selector, &world.namespaces[&pod.name.namespace].labels),
            };
            is_there && selects(pods, &pod.labels)
        }
    }
}

/// N6, N7, N9.
fn is_port(protocol: Protocol, ports: &PortRange, server: &Party<'_>, traffic: Traffic) -> bool {
    let number = match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    };
    if number != traffic.protocol {
        return false;
    }
    match ports {
        PortRange::All => true,
        PortRange::Numbers(first, last) => *first <= traffic.port && traffic.port <= *last,
        PortRange::Named(name) => server.pod.is_some_and(|pod| {
            pod.containers.iter().flat_map(|it| &it.ports).any(|port| {
                port.name.as_ref() == Some(name)
                    && port.protocol == protocol
                    && port.port == traffic.port
            })
        }),
    }
}

fn selects(selector: &Selector, labels: &Labels) -> bool {
    for (key, value) in &selector.labels {
        if labels.get(key) != Some(value) {
            return false;
        }
    }
    for requirement in &selector.expressions {
        let value = labels.get(&requirement.key);
        let holds = match (&requirement.operator, value) {
            (Operator::In(values), Some(value)) => values.contains(value),
            (Operator::In(_), None) => false,
            (Operator::NotIn(values), Some(value)) => !values.contains(value),
            (Operator::NotIn(_), None) => true,
            (Operator::Exists, value) => value.is_some(),
            (Operator::DoesNotExist, value) => value.is_none(),
        };
        if !holds {
            return false;
        }
    }
    true
}
