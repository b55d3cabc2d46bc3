//! Routes: where packets for a prefix go.
//!
//! Owns adding, replacing, removing and listing in any table. Never writes rules, and lists a
//! route with several next hops without any of them.
//!
//! A reader must not break this: a route that was listed can be removed as it is, so whatever
//! the kernel does not match on removal is left out of that message.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteScope, RouteType,
    RouteVia,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::{Netlink, NetlinkError};

/// One route. Made with [`to`](Route::to), [`blackhole`](Route::blackhole) and the like, then
/// narrowed down by the methods named after its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The prefix it is for; host bits are ignored.
    pub destination: IpNetwork,
    /// What becomes of the packets.
    pub kind: RouteKind,
    /// The next hop; `None` if the destinations are neighbours themselves.
    pub gateway: Option<IpAddr>,
    /// The name of the link to send on; `None` lets the gateway decide.
    pub link: Option<String>,
    /// The source address for packets that have none yet.
    pub source: Option<IpAddr>,
    /// How far away the destinations are. Without meaning for IPv6.
    pub scope: Scope,
    /// The table it is in.
    pub table: RouteTable,
    /// Preference among routes for the same prefix, lowest first. The kernel makes one up for
    /// IPv6 (1024).
    pub metric: Option<u32>,
    /// The path's MTU in bytes, where it is less than the link's.
    pub mtu: Option<u32>,
    /// Whether the gateway is a neighbour although no address of the link says so.
    pub onlink: bool,
    /// Who made it.
    pub protocol: RouteProtocol,
}

/// What becomes of packets that match a route (`RTN_*` in `linux/rtnetlink.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteKind {
    /// They are sent on.
    Unicast,
    /// They are for this host.
    Local,
    /// They are for everybody on the link.
    Broadcast,
    /// They are for this host as one of several.
    Anycast,
    /// They go to a group.
    Multicast,
    /// They vanish.
    Blackhole,
    /// They are answered with "host unreachable".
    Unreachable,
    /// They are answered with "administratively prohibited".
    Prohibit,
    /// This table has no opinion; the next rule's table is asked.
    Throw,
    /// Some other, by the kernel's number.
    Other(u8),
}

/// How far away a route's destinations are (`RT_SCOPE_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Behind a gateway, or anywhere.
    Universe,
    /// On the link.
    Link,
    /// On this host.
    Host,
    /// Some other, by the kernel's number.
    Other(u8),
}

/// A routing table, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteTable(pub u32);

impl RouteTable {
    /// The one everybody means.
    pub const MAIN: Self = Self(254);
    /// The kernel's own, for local and broadcast addresses.
    pub const LOCAL: Self = Self(255);
}

/// Who made a route, by number (`/etc/iproute2/rt_protos`); a program that marks its routes with
/// a number of its own finds them again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteProtocol(pub u8);

impl RouteProtocol {
    /// The kernel, along with an address.
    pub const KERNEL: Self = Self(2);
    /// Somebody who did not say, such as `ip route`.
    pub const BOOT: Self = Self(3);
    /// An administrator.
    pub const STATIC: Self = Self(4);
}

impl Route {
    /// A route to neighbours; [`via`](Route::via) makes it one through a gateway.
    pub fn to(destination: IpNetwork) -> Self {
        Self {
            destination,
            kind: RouteKind::Unicast,
            gateway: None,
            link: None,
            source: None,
            scope: Scope::Link,
            table: RouteTable::MAIN,
            metric: None,
            mtu: None,
            onlink: false,
            protocol: RouteProtocol::STATIC,
        }
    }

    /// A route that drops.
    pub fn blackhole(destination: IpNetwork) -> Self {
        Self::rejecting(destination, RouteKind::Blackhole)
    }

    /// A route that answers "host unreachable".
    pub fn unreachable(destination: IpNetwork) -> Self {
        Self::rejecting(destination, RouteKind::Unreachable)
    }

    /// A route that answers "administratively prohibited".
    pub fn prohibit(destination: IpNetwork) -> Self {
        Self::rejecting(destination, RouteKind::Prohibit)
    }

    /// Through this gateway, which widens the scope to [`Scope::Universe`].
    pub fn via(mut self, gateway: IpAddr) -> Self {
        self.gateway = Some(gateway);
        self.scope = Scope::Universe;
        self
    }

    /// Sets [`link`](Route::link).
    pub fn link(mut self, name: impl Into<String>) -> Self {
        self.link = Some(name.into());
        self
    }

    /// Sets [`source`](Route::source).
    pub fn source(mut self, address: IpAddr) -> Self {
        self.source = Some(address);
        self
    }

    /// Sets [`scope`](Route::scope).
    pub fn scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// Sets [`table`](Route::table).
    pub fn table(mut self, table: RouteTable) -> Self {
        self.table = table;
        self
    }

    /// Sets [`metric`](Route::metric).
    pub fn metric(mut self, metric: u32) -> Self {
        self.metric = Some(metric);
        self
    }

    /// Sets [`mtu`](Route::mtu).
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = Some(mtu);
        self
    }

    /// Sets [`onlink`](Route::onlink).
    pub fn onlink(mut self) -> Self {
        self.onlink = true;
        self
    }

    /// Sets [`protocol`](Route::protocol).
    pub fn protocol(mut self, protocol: RouteProtocol) -> Self {
        self.protocol = protocol;
        self
    }

    fn rejecting(destination: IpNetwork, kind: RouteKind) -> Self {
        Self { kind, scope: Scope::Universe, ..Self::to(destination) }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "route to {}", self.destination)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        if let Some(link) = &self.link {
            write!(f, " on link `{link}`")?;
        }
        Ok(())
    }
}

impl Netlink {
    /// Adds a route.
    ///
    /// # Errors
    /// [`NetlinkError::Exists`] if the table has one for this prefix and metric.
    pub fn add_route(&self, route: &Route) -> Result<(), NetlinkError> {
        let action = format!("adding {route}");
        let message = RouteNetlinkMessage::NewRoute(self.route_message(&action, route)?);
        self.apply(action, message, NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Adds a route, or overwrites the one for this prefix and metric.
    pub fn replace_route(&self, route: &Route) -> Result<(), NetlinkError> {
        let action = format!("replacing {route}");
        let message = RouteNetlinkMessage::NewRoute(self.route_message(&action, route)?);
        self.apply(action, message, NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Removes the route that agrees in table, destination and kind and in whatever else is set;
    /// scope and protocol do not matter.
    ///
    /// # Errors
    /// [`NetlinkError::Missing`] if there is none.
    pub fn remove_route(&self, route: &Route) -> Result<(), NetlinkError> {
        let action = format!("removing {route}");
        let mut message = self.route_message(&action, route)?;
        message.header.scope = RouteScope::NoWhere;
        message.header.protocol = ANY_PROTOCOL.into();
        self.remove(action, RouteNetlinkMessage::DelRoute(message))
    }

    /// The routes of one table, IPv4 and IPv6.
    pub fn routes(&self, table: RouteTable) -> Result<Vec<Route>, NetlinkError> {
        let every = RouteNetlinkMessage::GetRoute(RouteMessage::default());
        let answers = self.dump("listing routes", every)?;
        let names = self.names()?;
        Ok(answers
            .into_iter()
            .filter_map(|answer| read(answer, |index| names.get(&index).cloned()))
            .filter(|route| route.table == table)
            .collect())
    }

    fn route_message(&self, action: &str, route: &Route) -> Result<RouteMessage, NetlinkError> {
        let mixed = || NetlinkError::MixedFamilies { action: action.to_owned() };
        let destination = route.destination;
        let mut builder = RouteMessageBuilder::<IpAddr>::new()
            .table_id(route.table.0)
            .protocol(route.protocol.0.into())
            .scope(route.scope.into())
            .kind(route.kind.into())
            .destination_prefix(destination.network(), destination.prefix())
            .map_err(|_| mixed())?;
        if let Some(gateway) = route.gateway {
            builder = builder.gateway(gateway).map_err(|_| mixed())?;
        }
        if let Some(source) = route.source {
            builder = builder.pref_source(source).map_err(|_| mixed())?;
        }
        if let Some(link) = &route.link {
            builder = builder.output_interface(self.index_of(link)?);
        }
        if let Some(metric) = route.metric {
            builder = builder.priority(metric);
        }
        if route.onlink {
            builder = builder.onlink();
        }
        let mut message = builder.build();
        if let Some(mtu) = route.mtu {
            message.attributes.push(RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)]));
        }
        Ok(message)
    }
}

impl From<RouteKind> for RouteType {
    fn from(kind: RouteKind) -> Self {
        match kind {
            RouteKind::Unicast => Self::Unicast,
            RouteKind::Local => Self::Local,
            RouteKind::Broadcast => Self::Broadcast,
            RouteKind::Anycast => Self::Anycast,
            RouteKind::Multicast => Self::Multicast,
            RouteKind::Blackhole => Self::BlackHole,
            RouteKind::Unreachable => Self::Unreachable,
            RouteKind::Prohibit => Self::Prohibit,
            RouteKind::Throw => Self::Throw,
            RouteKind::Other(number) => Self::from(number),
        }
    }
}

impl From<RouteType> for RouteKind {
    fn from(kind: RouteType) -> Self {
        match kind {
            RouteType::Unicast => Self::Unicast,
            RouteType::Local => Self::Local,
            RouteType::Broadcast => Self::Broadcast,
            RouteType::Anycast => Self::Anycast,
            RouteType::Multicast => Self::Multicast,
            RouteType::BlackHole => Self::Blackhole,
            RouteType::Unreachable => Self::Unreachable,
            RouteType::Prohibit => Self::Prohibit,
            RouteType::Throw => Self::Throw,
            other => Self::Other(other.into()),
        }
    }
}

impl From<Scope> for RouteScope {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::Universe => Self::Universe,
            Scope::Link => Self::Link,
            Scope::Host => Self::Host,
            Scope::Other(number) => Self::from(number),
        }
    }
}

impl From<RouteScope> for Scope {
    fn from(scope: RouteScope) -> Self {
        match scope {
            RouteScope::Universe => Self::Universe,
            RouteScope::Link => Self::Link,
            RouteScope::Host => Self::Host,
            other => Self::Other(other.into()),
        }
    }
}

fn read(message: RouteNetlinkMessage, name_of: impl Fn(u32) -> Option<String>) -> Option<Route> {
    let RouteNetlinkMessage::NewRoute(RouteMessage { header, attributes, .. }) = message else {
        return None;
    };
    let anywhere = match header.address_family {
        AddressFamily::Inet => IpAddr::from([0; 4]),
        AddressFamily::Inet6 => IpAddr::from([0; 16]),
        _ => return None,
    };
    let mut route = Route::to(IpNetwork::new(anywhere, 0).ok()?);
    route.kind = header.kind.into();
    route.scope = header.scope.into();
    route.table = RouteTable(header.table.into());
    route.protocol = RouteProtocol(header.protocol.into());
    route.onlink = header.flags.contains(RouteFlags::Onlink);
    for attribute in attributes {
        match attribute {
            RouteAttribute::Destination(address) => {
                let prefix = header.destination_prefix_length;
                route.destination = IpNetwork::new(ip(address)?, prefix).ok()?;
            }
            RouteAttribute::Gateway(address) => route.gateway = ip(address),
            RouteAttribute::Via(RouteVia::Inet6(address)) => route.gateway = Some(address.into()),
            RouteAttribute::PrefSource(address) => route.source = ip(address),
            RouteAttribute::Oif(index) => route.link = name_of(index),
            RouteAttribute::Table(table) => route.table = RouteTable(table),
            RouteAttribute::Priority(metric) => route.metric = Some(metric),
            RouteAttribute::Metrics(metrics) => {
                route.mtu = metrics.into_iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => Some(mtu),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    // The kernel puts an IPv6 route that rejects on `lo`; it has no link to speak of.
    if matches!(route.kind, RouteKind::Blackhole | RouteKind::Unreachable | RouteKind::Prohibit) {
        route.link = None;
    }
    Some(route)
}

fn ip(address: RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(address.into()),
        RouteAddress::Inet6(address) => Some(address.into()),
        _ => None,
    }
}

/// `RTPROT_UNSPEC`
const ANY_PROTOCOL: u8 = 0;
