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
}

impl Virtuals {
    /// Those that are there; others are to be from the addresses of `gateways`.
    pub(crate) fn open(net: Netlink, gateways: Vec<IpNetwork>) -> Result<Self, NetlinkError> {
        let routes = net.routes(RouteTable::MAIN)?.into_iter();
        let ours = routes
            .filter(|route| route.protocol == PROTOCOL && route.link.as_deref() == Some(HOST_LINK));
        let routed = ours.map(|route| route.destination).collect();
        Ok(Self { net, gateways, routed })
    }

    /// Leads to where Services of a world are reached, and nowhere else any more.
    pub(crate) fn lead_to(
        &mut self,
        world: &World,
        frontends: impl Iterator<Item = IpAddr>,
    ) -> Result<(), NetlinkError> {
        let wanted = prefixes(world, frontends);
        for gone in self.routed.difference(&wanted).copied().collect::<Vec<_>>() {
            match self.net.remove_route(&into_dataplane(gone, &self.gateways).protocol(PROTOCOL)) {
                Ok(()) | Err(NetlinkError::Missing { .. }) => self.routed.remove(&gone),
                Err(error) => return Err(error),
            };
        }
        for prefix in wanted {
            let has = |it: &IpNetwork| it.is_ipv4() == prefix.is_ipv4();
            if !self.routed.contains(&prefix) && self.gateways.iter().any(has) {
                let route = into_dataplane(prefix, &self.gateways).protocol(PROTOCOL);
                self.net.replace_route(&route)?;
                self.routed.insert(prefix);
            }
        }
        Ok(())
    }
}

/// Ranges of Services' addresses, and those that are in none; a node's own is the node's.
fn prefixes(world: &World, frontends: impl Iterator<Item = IpAddr>) -> BTreeSet<IpNetwork> {
    let ranges = world.services.ranges.values().flat_map(|range| &range.prefixes);
    let mut prefixes: BTreeSet<IpNetwork> = ranges.copied().collect();
    let ranges: Vec<IpNetwork> = prefixes.iter().copied().collect();
    let nodes: BTreeSet<IpAddr> =
        world.nodes.values().flat_map(|node| &node.addresses).copied().collect();
    let alone = frontends.filter(|address| {
        !nodes.contains(address) && !ranges.iter().any(|range| range.contains(*address))
    });
    prefixes.extend(alone.map(IpNetwork::from));
    prefixes
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
        let led: Vec<String> = super::prefixes(&world, frontends.into_iter())
            .iter()
            .map(IpNetwork::to_string)
            .collect();
        assert_eq!(led, ["10.96.0.0/12", "203.0.113.7/32", "fd96::7/128"]);
    }
}
