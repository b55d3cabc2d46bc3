//! Addresses that only Services have: the host's own stack has routes to them, into the dataplane.
//!
//! Owns those routes. They go with the host's link; before that, who follows this agent finds them
//! by their protocol.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use millrace_control::World;
use millrace_netns::{Netlink, NetlinkError, RouteTable};

use crate::node::link::{HOST_LINK, PROTOCOL};
use crate::node::peers::into_dataplane;

/// The routes.
pub(crate) struct Virtuals {
    net: Netlink,
    gateways: Vec<IpNetwork>,
    routed: BTreeSet<IpNetwork>,
    grounds: Grounds,
}

/// What else says where routes are to lead.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Grounds {
    /// Ranges of Services' addresses.
    ranges: BTreeSet<IpNetwork>,
    /// The nodes' own.
    nodes: BTreeSet<IpAddr>,
}

impl Virtuals {
    /// Those that are there; others are to be from the addresses of `gateways`.
    pub(crate) fn open(net: Netlink, gateways: Vec<IpNetwork>) -> Result<Self, NetlinkError> {
        let routes = net.routes(RouteTable::MAIN)?.into_iter();
        let ours = routes
            .filter(|route| route.protocol == PROTOCOL && route.link.as_deref() == Some(HOST_LINK));
        let routed = ours.map(|route| route.destination).collect();
        Ok(Self { net, gateways, routed, grounds: Grounds::default() })
    }

    /// Whether it is these that they were last made on.
    pub(crate) fn is_on(&self, grounds: &Grounds) -> bool {
        self.grounds == *grounds
    }

    /// Leads to where Services are reached, and nowhere else any more.
    ///
    /// # Errors
    /// The first thing that the kernel refused; the rest is done.
    pub(crate) fn lead_to(
        &mut self,
        grounds: Grounds,
        frontends: impl Iterator<Item = IpAddr>,
    ) -> Result<(), NetlinkError> {
        let wanted = grounds.prefixes(frontends);
        self.grounds = grounds;
        // one that is refused keeps the others from nothing
        let mut refused = Ok(());
        for gone in self.routed.difference(&wanted).copied().collect::<Vec<_>>() {
            match self.net.remove_route(&into_dataplane(gone, &self.gateways).protocol(PROTOCOL)) {
                Ok(()) | Err(NetlinkError::Missing { .. }) => drop(self.routed.remove(&gone)),
                Err(error) => refused = refused.and(Err(error)),
            }
        }
        for prefix in wanted {
            let has = |it: &IpNetwork| it.is_ipv4() == prefix.is_ipv4();
            if !self.routed.contains(&prefix) && self.gateways.iter().any(has) {
                let route = into_dataplane(prefix, &self.gateways).protocol(PROTOCOL);
                match self.net.replace_route(&route) {
                    Ok(()) => drop(self.routed.insert(prefix)),
                    Err(error) => refused = refused.and(Err(error)),
                }
            }
        }
        refused
    }
}

impl Grounds {
    /// Those of a world.
    pub(crate) fn of(world: &World) -> Self {
        let ranges = world.services.ranges.values().flat_map(|range| &range.prefixes);
        let nodes = world.nodes.values().flat_map(|node| &node.addresses);
        Self { ranges: ranges.copied().collect(), nodes: nodes.copied().collect() }
    }

    /// The ranges, and what is in none of them; a node's own is the node's.
    fn prefixes(&self, frontends: impl Iterator<Item = IpAddr>) -> BTreeSet<IpNetwork> {
        let Self { ranges, nodes } = self;
        let is_alone = |address: &IpAddr| {
            !nodes.contains(address) && !ranges.iter().any(|range| range.contains(*address))
        };
        ranges.iter().copied().chain(frontends.filter(is_alone).map(IpNetwork::from)).collect()
    }
}

#[cfg(test)]
mod tests {
    use millrace_control::{Node, ServiceRange};

    use super::*;

    #[test]
    fn ranges_and_addresses_outside_of_them_are_led_to_but_for_those_that_nodes_have() {
        let mut world = World::default();
        let addresses = vec!["192.0.2.1".parse().unwrap()];
        world.nodes.insert("a".into(), Node { addresses, ..Node::default() });
        let prefixes = vec!["10.96.0.0/12".parse().unwrap()];
        let range = ServiceRange { name: "kubernetes".into(), prefixes };
        world.services.ranges.insert("kubernetes".into(), range);
        let frontends = ["10.96.0.10", "192.0.2.1", "203.0.113.7", "fd96::7"];
        let frontends = frontends.map(|it| it.parse().unwrap());
        let led: Vec<String> = Grounds::of(&world)
            .prefixes(frontends.into_iter())
            .iter()
            .map(IpNetwork::to_string)
            .collect();
        assert_eq!(led, ["10.96.0.0/12", "203.0.113.7/32", "fd96::7/128"]);
    }
}
