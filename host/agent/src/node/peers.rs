//! The other nodes, and how each is reached.
//!
//! Owns which of them are behind a tunnel, and what this node's own stack has to know of all.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clap::ValueEnum;
use ipnetwork::IpNetwork;
use millrace_control::Node;
use millrace_netns::{Namespace, Neighbour, Netlink, NetlinkError, Route, SysctlError};

use crate::node::link::{GATEWAY_MAC, HOST_LINK, LinkError};
use crate::node::state::{NodeState, StateError};

/// How the pods of other nodes are reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// In a tunnel to their node.
    #[default]
    Overlay,
    /// As they are: whoever routes between nodes knows where pods are.
    Native,
    /// In a tunnel to nodes of other subnets, as they are to neighbours.
    Auto,
}

/// Another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Its name.
    pub(crate) name: String,
    /// The prefixes that its pods have addresses of.
    pub(crate) pod_cidrs: Vec<IpNetwork>,
    /// The addresses that other nodes reach it by.
    pub(crate) addresses: Vec<IpAddr>,
    /// The other end of the tunnel to it, if there is one.
    pub(crate) tunnel: Option<IpAddr>,
}

impl Peer {
    /// The prefixes of its pods that this node's own stack can know the way to.
    pub(crate) fn led_to(&self) -> impl Iterator<Item = &IpNetwork> {
        let has = |v4| self.tunnel.is_some() || self.addresses.iter().any(|it| it.is_ipv4() == v4);
        self.pod_cidrs.iter().filter(move |prefix| has(prefix.is_ipv4()))
    }
}

/// Why other nodes are not reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerError {
    /// The kernel refused.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A setting stays as it is.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// A link of tunnels is not made.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// What is changed would be forgotten.
    #[error(transparent)]
    State(#[from] StateError),
}

/// The others of the cluster's nodes.
pub(crate) fn of(
    this: &Node,
    nodes: &BTreeMap<String, Node>,
    mode: Mode,
    here: &[IpNetwork],
) -> Vec<Peer> {
    let others = nodes.values().filter(|node| node.name != this.name);
    let peer = |node: &Node| {
        let end = [true, false].into_iter().find_map(|v4| {
            address(this, v4)?;
            address(node, v4)
        });
        let is_neighbour = |end| here.iter().any(|subnet| subnet.contains(end));
        let tunnel = end.filter(|end| match mode {
            Mode::Overlay => true,
            Mode::Native => false,
            Mode::Auto => !is_neighbour(*end),
        });
        if end.is_none() {
            tracing::warn!(
                node = node.name,
                "its pods are not reached: the Node has no InternalIP of a family that `{}` has",
                this.name
            );
        }
        Peer {
            name: node.name.clone(),
            pod_cidrs: node.pod_cidrs.clone(),
            addresses: node.addresses.clone(),
            tunnel,
        }
    };
    others.map(peer).collect()
}

/// Has this node's own stack forward, and know the dataplane. What is changed for that, and does not
/// go with a link of ours, is remembered first.
pub(crate) fn prepare(
    here: &Namespace,
    gateways: &[IpNetwork],
    state: &mut NodeState,
) -> Result<(), PeerError> {
    for key in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
        let was = here.sysctl(key)?;
        if was != "1" {
            tracing::info!(key, "set to 1: pods are reached through this node");
            state.change(|kept| {
                kept.sysctls.entry(key.to_owned()).or_insert(was);
            })?;
            here.set_sysctl(key, "1")?;
        }
    }
    let net = here.netlink()?;
    let has = |ip: &IpAddr| gateways.iter().any(|gateway| gateway.is_ipv4() == ip.is_ipv4());
    for next_hop in NEXT_HOPS.into_iter().filter(has) {
        net.replace_neighbour(&Neighbour::permanent(HOST_LINK, next_hop, GATEWAY_MAC))?;
    }
    for stranger in strangers(gateways) {
        net.replace_route(&into_dataplane(stranger, gateways))?;
    }
    Ok(())
}

/// Has this node's own stack know the way to a node's pods: into the dataplane where there is a
/// tunnel, from the address that `gateways` has of the family. What does not go with a link of ours
/// is remembered first.
pub(crate) fn lead_to(
    here: &Namespace,
    gateways: &[IpNetwork],
    peer: &Peer,
    state: &mut NodeState,
) -> Result<(), PeerError> {
    let net = here.netlink()?;
    peer.pod_cidrs.iter().try_for_each(|prefix| route_to(&net, gateways, peer, *prefix, state))
}

fn route_to(
    net: &Netlink,
    gateways: &[IpNetwork],
    peer: &Peer,
    prefix: IpNetwork,
    state: &mut NodeState,
) -> Result<(), PeerError> {
    let of_family = |address: &IpAddr| address.is_ipv4() == prefix.is_ipv4();
    if peer.tunnel.is_some() {
        return Ok(net.replace_route(&into_dataplane(prefix, gateways))?);
    }
    match peer.addresses.iter().copied().find(of_family) {
        Some(next_hop) => {
            state.change(|kept| {
                kept.routes.insert(prefix, next_hop);
            })?;
            Ok(net.replace_route(&Route::to(prefix).via(next_hop))?)
        }
        None => {
            let node = &peer.name;
            tracing::warn!(
                node,
                %prefix,
                "its pods are not reached: the Node has no InternalIP of this family"
            );
            Ok(())
        }
    }
}

/// A route of this node's own stack that leads into the dataplane.
pub(crate) fn into_dataplane(prefix: IpNetwork, gateways: &[IpNetwork]) -> Route {
    let of_family = |address: &IpAddr| address.is_ipv4() == prefix.is_ipv4();
    let route = Route::to(prefix).link(HOST_LINK).onlink();
    let route = NEXT_HOPS.into_iter().find(of_family).into_iter().fold(route, Route::via);
    // answers to another address would come back another way
    let source = gateways.iter().map(|gateway| gateway.ip()).find(of_family);
    source.into_iter().fold(route, Route::source)
}

/// Whom this node's own stack takes clients for whose source is hidden from it: of each family that
/// `gateways` has an address of, one that is not its own. From its own it would neither take packets
/// nor answer by a link, where a Service leads it back to itself.
pub(crate) fn strangers(gateways: &[IpNetwork]) -> Vec<IpNetwork> {
    let has = |ip: &IpAddr| gateways.iter().any(|gateway| gateway.is_ipv4() == ip.is_ipv4());
    STRANGERS.into_iter().filter(has).map(IpNetwork::from).collect()
}

fn address(node: &Node, v4: bool) -> Option<IpAddr> {
    node.addresses.iter().copied().find(|address| address.is_ipv4() == v4)
}

/// What the host's own stack knows the dataplane by: link-local addresses that nobody asks for.
const NEXT_HOPS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 77, 114)),
    // what follows from the gateway's link-layer address (RFC 2464 section 5)
    IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0x6d, 0x72ff, 0xfe00, 1)),
];

/// Addresses that nobody else has: link-local (RFC 3927), and of a unique local prefix (RFC 4193).
const STRANGERS: [IpAddr; 2] =
    [NEXT_HOPS[0], IpAddr::V6(Ipv6Addr::new(0xfd6d, 0x696c, 0x6c72, 0x6163, 0x65ff, 0, 0, 1))];

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, addresses: &[&str]) -> Node {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Node { name: name.into(), addresses, ..Node::default() }
    }

    fn ends(mode: Mode, nodes: &[Node]) -> Vec<Option<String>> {
        let nodes: BTreeMap<String, Node> =
            nodes.iter().map(|node| (node.name.clone(), node.clone())).collect();
        let here = ["192.0.2.1/24".parse().unwrap(), "2001:db8::1/64".parse().unwrap()];
        let peers = of(&nodes["a"], &nodes, mode, &here);
        peers.iter().map(|peer| peer.tunnel.map(|end| end.to_string())).collect()
    }

    #[test]
    fn tunnels_lead_to_all_nodes_to_none_or_to_those_of_other_subnets() {
        let nodes = [
            node("a", &["192.0.2.1", "2001:db8::1"]),
            node("b", &["2001:db8::2", "192.0.2.2"]),
            node("c", &["2001:db8:0:1::3"]),
            node("d", &[]),
        ];
        let text = |end: &str| Some(end.to_owned());
        let (b, c) = (text("192.0.2.2"), text("2001:db8:0:1::3"));
        assert_eq!(ends(Mode::Overlay, &nodes), [b, c.clone(), None]);
        assert_eq!(ends(Mode::Native, &nodes), [None, None, None]);
        assert_eq!(ends(Mode::Auto, &nodes), [None, c, None]);
    }
}
