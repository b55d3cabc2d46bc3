//! How the nodes are wired, and where: addresses of the underlay.
//!
//! Owns the plan, and never touches the kernel. Segment `s` is 172.30.`s`.0/24 and
//! fd30:0:0:`s`::/64; `.1` is the router, `.2` the outside host, nodes begin with `.11`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::LabError;

/// How the nodes are wired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Topology {
    /// One switch for all nodes and the outside host, which is the nodes' default gateway.
    #[default]
    Flat,
    /// Two switches, with every other node on each; a router joins them, and the outside host.
    Routed,
}

/// Who has which place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The nodes', in their order.
    pub(crate) nodes: Vec<Seat>,
    /// The outside host's.
    pub(crate) outside: Seat,
    /// The router's, on each segment; none in a flat underlay.
    pub(crate) router: Vec<Seat>,
}

/// A place on a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    pub(crate) segment: u8,
    /// IPv4, then IPv6.
    pub(crate) addresses: [IpNetwork; 2],
    /// Who carries what is for elsewhere; nobody does for the router and in the end for the
    /// outside host.
    pub(crate) gateways: Option<[IpAddr; 2]>,
}

impl Topology {
    /// Gives `nodes` nodes and all others their places.
    pub(crate) fn layout(self, nodes: usize) -> Result<Layout, LabError> {
        if nodes > MOST_NODES {
            return Err(LabError::TooManyNodes { nodes, most: MOST_NODES });
        }
        let hosts = FIRST_NODE..FIRST_NODE + nodes as u8;
        Ok(match self {
            Self::Flat => Layout {
                nodes: hosts.map(|host| Seat::new(0, host, Some(OUTSIDE))).collect(),
                outside: Seat::new(0, OUTSIDE, None),
                router: Vec::new(),
            },
            Self::Routed => {
                let node = |host| Seat::new((host - FIRST_NODE) % 2, host, Some(ROUTER));
                Layout {
                    nodes: hosts.map(node).collect(),
                    outside: Seat::new(2, OUTSIDE, Some(ROUTER)),
                    router: (0..=2).map(|segment| Seat::new(segment, ROUTER, None)).collect(),
                }
            }
        })
    }
}

impl Layout {
    /// The segments there are.
    pub(crate) fn segments(&self) -> std::ops::RangeInclusive<u8> {
        0..=self.outside.segment
    }
}

impl Seat {
    fn new(segment: u8, host: u8, gateway: Option<u8>) -> Self {
        let network = |ip: IpAddr, length| IpNetwork::new(ip, length).expect("a length that fits");
        let [v4, v6] = addresses(segment, host);
        Self {
            segment,
            addresses: [network(v4, 24), network(v6, 64)],
            gateways: gateway.map(|host| addresses(segment, host)),
        }
    }

    /// Without the lengths of their prefixes.
    pub(crate) fn ips(&self) -> [IpAddr; 2] {
        self.addresses.map(|address| address.ip())
    }
}

/// What the outside host is known as beyond the underlay: addresses that no node has a route to
/// but the default one (RFC 5737, RFC 3849).
pub(crate) fn world_wide() -> [IpNetwork; 2] {
    let v4 = IpAddr::from([198, 51, 100, 1]);
    let v6 = IpAddr::from([0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 1]);
    [IpNetwork::from(v4), IpNetwork::from(v6)]
}

fn addresses(segment: u8, host: u8) -> [IpAddr; 2] {
    let (segment6, host6) = (segment.into(), host.into());
    [
        Ipv4Addr::new(172, 30, segment, host).into(),
        Ipv6Addr::new(0xfd30, 0, 0, segment6, 0, 0, 0, host6).into(),
    ]
}

const ROUTER: u8 = 1;
const OUTSIDE: u8 = 2;
const FIRST_NODE: u8 = 11;
const MOST_NODES: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(seat: &Seat) -> (u8, String) {
        (seat.segment, seat.addresses[0].to_string())
    }

    #[test]
    fn nodes_of_a_flat_underlay_are_neighbours_and_the_outside_host_is_their_way_out() {
        let layout = Topology::Flat.layout(2).unwrap();
        let nodes: Vec<_> = layout.nodes.iter().map(v4).collect();
        assert_eq!(nodes, [(0, "172.30.0.11/24".into()), (0, "172.30.0.12/24".into())]);
        assert_eq!(layout.nodes[1].addresses[1].to_string(), "fd30::c/64");
        assert_eq!(layout.nodes[0].gateways, Some(layout.outside.ips()));
        assert_eq!((layout.router.len(), layout.segments()), (0, 0..=0));
    }

    #[test]
    fn nodes_of_a_routed_underlay_are_on_two_segments_by_turns() {
        let layout = Topology::Routed.layout(3).unwrap();
        let segments: Vec<_> = layout.nodes.iter().map(|node| node.segment).collect();
        assert_eq!((segments, layout.segments()), (vec![0, 1, 0], 0..=2));
        for seat in layout.nodes.iter().chain([&layout.outside]) {
            assert_eq!(seat.gateways, Some(layout.router[usize::from(seat.segment)].ips()));
        }
    }

    #[test]
    fn no_two_places_have_one_address() {
        for topology in [Topology::Flat, Topology::Routed] {
            let layout = topology.layout(MOST_NODES).unwrap();
            let seats = layout.nodes.iter().chain([&layout.outside]).chain(&layout.router);
            let mut addresses: Vec<_> = seats.flat_map(Seat::ips).collect();
            let all = addresses.len();
            addresses.sort_unstable();
            addresses.dedup();
            assert_eq!(addresses.len(), all);
        }
    }

    #[test]
    fn more_nodes_than_there_are_addresses_for_are_refused() {
        let error = Topology::Flat.layout(MOST_NODES + 1).unwrap_err();
        assert!(matches!(error, LabError::TooManyNodes { .. }), "{error}");
    }
}
