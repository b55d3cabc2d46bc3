//! What the rules say. Deliberately plain: each is read where it is needed, for one connection, and
//! nothing is shared with what compiles them.

use std::net::IpAddr;

use millrace_control::policy::{
    NetworkPolicy, Operator, Peers, PolicyDirection, PolicyPeer, PortRange, Ports, Selector,
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
    // N10: a pod and its own node are not kept from each other
    if from.node.is_some() && from.node == to.node && (from.pod.is_none() || to.pod.is_none()) {
        return true;
    }
    // N2: both have to allow
    one_way(world, &from, &to, &to, PolicyDirection::Egress, traffic)
        && one_way(world, &to, &from, &to, PolicyDirection::Ingress, traffic)
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
) -> bool {
    let Some(pod) = own.pod else { return true };
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
                return true;
            }
        }
    }
    !is_isolated
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
