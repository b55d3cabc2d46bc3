//! The uplink: the host's own interface to other nodes, and to all that is outside.
//!
//! Owns which of its packets are for pods, and what goes out by it as it is. It stays the host's.

use std::net::IpAddr;

use clap::Args;
use ipnetwork::IpNetwork;
use millrace_abi::PortKind;
use millrace_dataplane::control::request::{AddPort, Beyond, Uplink};
use millrace_dataplane::port::{Gateway, Hold, Station, Vlans};
use millrace_netns::{Link, Netlink, NetlinkError, RouteKind, RouteTable};

use crate::node::link::{GATEWAY_MAC, HOST_LINK};
use crate::node::tunnel::prefix;

/// How pods reach what is outside the cluster.
#[derive(Args, Clone, Debug)]
pub(crate) struct OutsideArgs {
    /// Destinations outside that pods send to from their own addresses; to all others they send
    /// from the node's. Who is there has to know the way back.
    #[arg(long = "non-masquerade", value_name = "CIDR")]
    plain: Vec<IpNetwork>,
}

/// What a node knows of the network around it.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    /// The interface that has the node's addresses, if there is one.
    uplink: Option<Link>,
    /// The node's addresses that are there.
    own: Vec<IpAddr>,
    /// The subnets that it is a neighbour in by them.
    pub(crate) subnets: Vec<IpNetwork>,
    /// All addresses of the host.
    pub(crate) here: Vec<IpAddr>,
    /// Destinations that the host reaches by other interfaces.
    pub(crate) elsewhere: Vec<IpNetwork>,
    /// Destinations outside that pods send to from their own addresses.
    pub(crate) plain: Vec<IpNetwork>,
}

impl OutsideArgs {
    /// Looks around, from a node with these addresses.
    pub(crate) fn look_around(
        &self,
        net: &Netlink,
        addresses: &[IpAddr],
    ) -> Result<Surroundings, NetlinkError> {
        let all = net.addresses()?;
        let own: Vec<_> =
            all.iter().filter(|it| addresses.contains(&it.network.ip())).cloned().collect();
        let uplink = own.first().map(|address| net.link_by_index(address.link)).transpose()?;
        if uplink.is_none() {
            tracing::warn!(
                ?addresses,
                "no interface has an address of the Node: pods reach what is outside by the host's \
                 own routing"
            );
        }
        let name = uplink.as_ref().map(|link| &*link.name);
        // there is one uplink: an address that another interface has is the host's alone
        let by_it = |it: &&millrace_netns::Address| {
            uplink.as_ref().is_some_and(|link| it.link == link.index)
        };
        let subnets: Vec<_> = own.iter().filter(by_it).map(|it| it.network).collect();
        let mut elsewhere = Vec::new();
        for route in net.routes(RouteTable::MAIN)? {
            let is_away = route.link.as_deref().is_some_and(|link| {
                Some(link) != name && link != HOST_LINK && !is_link_local(route.destination)
            });
            if route.kind == RouteKind::Unicast && is_away && route.destination.prefix() > 0 {
                elsewhere.push(route.destination);
            }
        }
        let here = all.iter().map(|address| address.network).filter(|it| !is_link_local(*it));
        Ok(Surroundings {
            own: subnets.iter().map(|subnet| subnet.ip()).collect(),
            here: here.map(|address| address.ip()).collect(),
            uplink,
            subnets,
            elsewhere,
            plain: self.plain.clone(),
        })
    }
}

impl Surroundings {
    /// The name of the uplink's port, if there is one.
    pub(crate) fn uplink(&self) -> Option<&str> {
        self.uplink.as_ref().map(|link| &*link.name)
    }

    /// The uplink, if there is one.
    pub(crate) fn link(&self) -> Option<&Link> {
        self.uplink.as_ref()
    }

    /// Bytes of the largest IP packet that the uplink carries.
    pub(crate) fn mtu(&self) -> Option<u32> {
        self.uplink.as_ref().map(|link| link.mtu)
    }

    /// Whether pods can send from the node's own address in the family of this one.
    pub(crate) fn masquerades(&self, of: &IpNetwork) -> bool {
        self.own.iter().any(|own| own.is_ipv4() == of.is_ipv4())
    }

    /// The uplink as a port, on a node whose pods have addresses of these prefixes.
    pub(crate) fn port(&self, pods: &[IpNetwork], tunnel_port: u16) -> Option<AddPort> {
        let mut gateway = Gateway { mac: GATEWAY_MAC, v4: None, v6: None };
        for address in &self.own {
            match address {
                IpAddr::V4(v4) => gateway.v4 = Some(*v4),
                IpAddr::V6(v6) => gateway.v6 = Some(*v6),
            }
        }
        let pods = pods.iter().copied().map(prefix).collect();
        let uplink = Uplink { pods, tunnel_port: Some(tunnel_port) };
        Some(AddPort {
            interface: self.uplink()?.to_owned(),
            kind: PortKind::Uplink,
            vlans: Vlans::access(0),
            hold: Hold::Cached(Station { mac: GATEWAY_MAC, gateway }),
            beyond: Some(Beyond::Uplink(uplink)),
        })
    }
}

/// Whether addresses of the prefix mean something on one link alone.
fn is_link_local(prefix: IpNetwork) -> bool {
    match prefix.network() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local() || v6.is_multicast(),
    }
}
