//! The uplink: the host's own interface to other nodes; and all those by which it reaches what is
//! outside.
//!
//! Owns which of their packets are for pods, and what goes out by them as it is. They stay the host's.

use std::collections::BTreeMap;
use std::net::IpAddr;

use clap::Args;
use ipnetwork::IpNetwork;
use millrace_abi::PortKind;
use millrace_control::compile::NodePortAddresses;
use millrace_dataplane::control::request::{self, AddPort, Beyond};
use millrace_dataplane::port::{Gateway, Hold, Station, Vlans};
use millrace_netns::{Address, Link, Netlink, NetlinkError, Route, RouteKind, RouteTable};

use crate::node::link::{GATEWAY_MAC, HOST_LINK, is_of_pod};
use crate::node::tunnel::{self, prefix};

/// How pods reach what is outside the cluster.
#[derive(Args, Clone, Debug)]
pub(crate) struct OutsideArgs {
    /// Destinations outside that pods send to from their own addresses; to all others they send
    /// from that of the node's interface that leads there. Who is there has to know the way back.
    #[arg(long = "non-masquerade", value_name = "CIDR")]
    plain: Vec<IpNetwork>,

    /// Serve node ports at those of the node's addresses that these prefixes have, those of the
    /// loopback included; by default at the InternalIPs of the Node, and for processes of the node at
    /// 127.0.0.1 and ::1.
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    nodeport_addresses: Vec<IpNetwork>,
}

/// What a node knows of the network around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Surroundings {
    /// The interface that has the node's addresses, if there is one.
    uplink: Option<Uplink>,
    /// Other interfaces that pods send by.
    others: Vec<Uplink>,
    /// The subnets that the node is a neighbour in by its addresses.
    pub(crate) subnets: Vec<IpNetwork>,
    /// All addresses of the host.
    pub(crate) here: Vec<IpAddr>,
    /// How pods reach what is outside.
    pub(crate) ways: Vec<Way>,
}

/// An interface of the host's that leads outside, and what pods send from there: the host's first
/// address of each family.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Uplink {
    link: Link,
    own: Vec<IpAddr>,
}

/// How pods reach a prefix outside: as the host does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    /// The prefix; of length 0 for all that no other way says.
    pub(crate) to: IpNetwork,
    /// The interface; without one it is for the host to route.
    pub(crate) by: Option<String>,
    /// Whether they send from the interface's address, and not from their own.
    pub(crate) masquerade: bool,
}

impl OutsideArgs {
    /// Looks around, from a node with these addresses, in a cluster whose pods have those of these
    /// prefixes: whichever interfaces lead there are other networks' of the cluster's, not outside.
    pub(crate) fn look_around(
        &self,
        net: &Netlink,
        addresses: &[IpAddr],
        pods: &[IpNetwork],
    ) -> Result<Surroundings, NetlinkError> {
        let all = net.addresses()?;
        let own: Vec<_> = all.iter().filter(|it| addresses.contains(&it.network.ip())).collect();
        let uplink = own.first().map(|address| net.link_by_index(address.link)).transpose()?;
        let by_it = |it: &&&Address| uplink.as_ref().is_some_and(|link| it.link == link.index);
        let subnets: Vec<_> = own.iter().filter(by_it).map(|it| it.network).collect();
        let uplink = uplink.map(|link| Uplink::new(link, subnets.iter().map(|it| it.ip())));
        let global = all.iter().map(|it| (it.link, it.network));
        let global: Vec<_> = global.filter(|(_, it)| !is_link_local(*it)).collect();
        let is_other = |link: &Link| {
            let is_own = link.name == HOST_LINK || link.name == tunnel::LINK;
            let is_uplink = uplink.as_ref().is_some_and(|uplink| uplink.link.index == link.index);
            link.ethernet && !is_own && !is_of_pod(&link.name) && !is_uplink
        };
        let others = net.links()?.into_iter().filter(is_other).map(|link| {
            let index = link.index;
            let own = global.iter().filter(|(on, _)| *on == index).map(|(_, it)| it.ip());
            Uplink::new(link, own.collect::<Vec<_>>())
        });
        let mut others: Vec<_> = others.collect();
        let mut routes = net.routes(RouteTable::MAIN)?;
        routes.retain(|route| {
            route.kind == RouteKind::Unicast
                && route.link.as_deref().is_some_and(|link| link != HOST_LINK)
                && !is_link_local(route.destination)
                && !pods.iter().any(|pods| covers(pods, &route.destination))
        });
        let masquerades = |link: &str, to: &IpNetwork| {
            let mut uplinks = uplink.iter().chain(&others);
            uplinks.any(|it| it.link.name == link && it.masquerades(to))
        };
        let name = uplink.as_ref().map(|uplink| &*uplink.link.name);
        let ways = ways(name, masquerades, &routes, &self.plain);
        others.retain(|other| ways.iter().any(|way| way.by.as_ref() == Some(&other.link.name)));
        let here = global.iter().map(|(_, network)| network.ip()).collect();
        Ok(Surroundings { uplink, others, subnets, here, ways })
    }

    /// Which of a host's addresses, and of those that its Node states, have node ports.
    pub(crate) fn node_ports(&self, host: &[IpAddr], stated: &[IpAddr]) -> NodePortAddresses {
        NodePortAddresses::of(&self.nodeport_addresses, host, stated)
    }
}

impl Surroundings {
    /// The uplink, if there is one.
    pub(crate) fn link(&self) -> Option<&Link> {
        self.uplink.as_ref().map(|uplink| &uplink.link)
    }

    /// The name of its port.
    pub(crate) fn uplink(&self) -> Option<&str> {
        self.link().map(|link| &*link.name)
    }

    /// Bytes of the largest IP packet that the uplink carries.
    pub(crate) fn mtu(&self) -> Option<u32> {
        self.link().map(|link| link.mtu)
    }

    /// The names of the ports outside.
    pub(crate) fn uplinks(&self) -> impl Iterator<Item = &str> {
        self.uplink.iter().chain(&self.others).map(|uplink| &*uplink.link.name)
    }

    /// The ports outside, on a node whose pods have addresses of these prefixes.
    pub(crate) fn ports(&self, pods: &[IpNetwork], tunnel_port: u16) -> Vec<AddPort> {
        let uplinks = self.uplink.iter().chain(&self.others);
        uplinks.map(|uplink| uplink.port(pods, tunnel_port)).collect()
    }
}

impl Uplink {
    fn new(link: Link, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        let mut own: Vec<IpAddr> = Vec::new();
        for address in addresses {
            if own.iter().all(|it| it.is_ipv4() != address.is_ipv4()) {
                own.push(address);
            }
        }
        Self { link, own }
    }

    /// Whether pods can send from its address in the family of this one.
    fn masquerades(&self, of: &IpNetwork) -> bool {
        self.own.iter().any(|own| own.is_ipv4() == of.is_ipv4())
    }

    fn port(&self, pods: &[IpNetwork], tunnel_port: u16) -> AddPort {
        let mut gateway = Gateway { mac: GATEWAY_MAC, v4: None, v6: None };
        for address in &self.own {
            match address {
                IpAddr::V4(v4) => gateway.v4 = Some(*v4),
                IpAddr::V6(v6) => gateway.v6 = Some(*v6),
            }
        }
        let pods = pods.iter().copied().map(prefix).collect();
        let uplink = request::Uplink { pods, tunnel_port: Some(tunnel_port) };
        AddPort {
            interface: self.link.name.clone(),
            kind: PortKind::Uplink,
            vlans: Vlans::access(0),
            hold: Hold::Cached(Station { mac: GATEWAY_MAC, gateway }),
            beyond: Some(Beyond::Uplink(uplink)),
        }
    }
}

/// How pods reach what is outside: by the interface that the host's routes name, from its address;
/// by one without an address, or that is none of Ethernet's, as the host forwards it. A way that a
/// shorter prefix says anyway is left out.
fn ways(
    uplink: Option<&str>,
    masquerades: impl Fn(&str, &IpNetwork) -> bool,
    routes: &[Route],
    plain: &[IpNetwork],
) -> Vec<Way> {
    let mut best: BTreeMap<(u8, IpNetwork), &Route> = BTreeMap::new();
    for route in routes {
        let to = whole(route.destination);
        let known = best.entry((to.prefix(), to)).or_insert(route);
        if route.metric.unwrap_or(0) < known.metric.unwrap_or(0) {
            *known = route;
        }
    }
    let by = |to: IpNetwork, link: Option<&str>| {
        let by = link.filter(|link| masquerades(link, &to)).map(str::to_owned);
        let masquerade = by.is_some() && !plain.iter().any(|plain| covers(plain, &to));
        Way { to, by, masquerade }
    };
    let everywhere = ["0.0.0.0/0", "::/0"].map(|it| it.parse().expect("it is a prefix"));
    let ways = everywhere.map(|to: IpNetwork| match best.get(&(0, to)) {
        Some(route) => by(to, route.link.as_deref()),
        // who is asked for what nobody knows the way to may know better
        None => by(to, uplink),
    });
    let mut ways = ways.to_vec();
    let says = |ways: &[Way], to: &IpNetwork| {
        let over = ways.iter().filter(|way| covers(&way.to, to));
        over.max_by_key(|way| way.to.prefix()).cloned()
    };
    let routed = best.into_iter().filter(|((length, _), _)| *length > 0);
    let routed = routed.map(|((_, to), route)| by(to, route.link.as_deref()));
    for way in routed {
        let anyway = says(&ways, &way.to).map(|it| (it.by, it.masquerade));
        if anyway.as_ref() != Some(&(way.by.clone(), way.masquerade)) {
            ways.push(way);
        }
    }
    for to in plain.iter().map(|to| whole(*to)) {
        if let Some(way) = says(&ways, &to).filter(|way| way.masquerade) {
            ways.push(Way { to, masquerade: false, ..way });
        }
    }
    ways
}

/// A prefix without host bits.
fn whole(prefix: IpNetwork) -> IpNetwork {
    IpNetwork::new(prefix.network(), prefix.prefix()).expect("the length is that of a prefix")
}

fn covers(wide: &IpNetwork, narrow: &IpNetwork) -> bool {
    wide.prefix() <= narrow.prefix() && wide.contains(narrow.network())
}

/// Whether addresses of the prefix mean something on one link alone.
fn is_link_local(prefix: IpNetwork) -> bool {
    match prefix.network() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local() || v6.is_multicast(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNetwork {
        text.parse().unwrap()
    }

    fn route(to: &str, link: &str, metric: u32) -> Route {
        Route { link: Some(link.to_owned()), metric: Some(metric), ..Route::to(net(to)) }
    }

    /// The ways of a host with addresses of IPv4 on `eth0`, its uplink, and on `eth1`.
    fn ways_of(routes: &[Route], plain: &[&str]) -> Vec<String> {
        let plain: Vec<_> = plain.iter().map(|it| net(it)).collect();
        let masquerades = |link: &str, to: &IpNetwork| to.is_ipv4() && link.starts_with("eth");
        let ways = ways(Some("eth0"), masquerades, routes, &plain);
        let text = |way: &Way| {
            let masqueraded = if way.masquerade { " masqueraded" } else { "" };
            format!("{} by {}{masqueraded}", way.to, way.by.as_deref().unwrap_or("the host"))
        };
        ways.iter().map(text).collect()
    }

    const BY_UPLINK: &str = "0.0.0.0/0 by eth0 masqueraded";
    /// No interface has an address of that family.
    const V6: &str = "::/0 by the host";

    #[test]
    fn f9_without_a_route_everything_goes_by_the_uplink_from_the_nodes_address() {
        assert_eq!(ways_of(&[], &[]), [BY_UPLINK, V6]);
        let routes = [route("0.0.0.0/0", "eth0", 0), route("192.0.2.0/24", "eth0", 0)];
        assert_eq!(ways_of(&routes, &[]), [BY_UPLINK, V6], "said already");
    }

    #[test]
    fn f9_what_is_behind_another_interface_is_sent_by_that_and_from_its_address() {
        let routes = [
            route("10.9.0.0/16", "eth0", 0),
            route("10.0.0.0/8", "eth1", 0),
            route("10.9.9.0/24", "wg0", 0),
            route("fd09::/64", "eth1", 0),
        ];
        let expected = [
            BY_UPLINK,
            V6,
            "10.0.0.0/8 by eth1 masqueraded",
            "10.9.0.0/16 by eth0 masqueraded",
            "10.9.9.0/24 by the host",
        ];
        assert_eq!(ways_of(&routes, &[]), expected);
    }

    #[test]
    fn f9_of_several_routes_to_a_prefix_the_one_that_the_host_prefers_counts() {
        let routes = [route("0.0.0.0/0", "eth0", 200), route("0.0.0.0/0", "eth1", 100)];
        assert_eq!(ways_of(&routes, &[]), ["0.0.0.0/0 by eth1 masqueraded", V6]);
        let routes = [route("192.0.2.0/24", "eth0", 0), route("0.0.0.0/0", "eth1", 0)];
        let expected = ["0.0.0.0/0 by eth1 masqueraded", V6, "192.0.2.0/24 by eth0 masqueraded"];
        assert_eq!(ways_of(&routes, &[]), expected);
    }

    #[test]
    fn f9_where_pods_are_known_they_send_from_their_own_addresses_whichever_way() {
        let routes = [route("10.1.0.0/16", "eth1", 0), route("172.16.0.0/16", "eth1", 0)];
        let expected = [
            BY_UPLINK,
            V6,
            "10.1.0.0/16 by eth1",
            "172.16.0.0/16 by eth1 masqueraded",
            "10.0.0.0/8 by eth0",
            "172.16.1.0/24 by eth1",
        ];
        assert_eq!(ways_of(&routes, &["10.0.0.0/8", "172.16.1.0/24"]), expected);
    }
}
