//! Who is who, where that is not learned but known: the gateway, the host, and pods.
//!
//! A port with an owner speaks for its owner alone, and nobody speaks for a neighbour that
//! is known from elsewhere. Made at configuration; asked once per flow, not per packet.

use std::net::IpAddr;

use millrace_filter::prelude::*;
use millrace_filter::wire::icmpv6::Kind;
use millrace_filter::{Class, Reason};

use crate::settings::{GatewaySettings, HostSettings, PodSettings, Settings};
use crate::{ROUTER_DISCOVERY, SPOOFED};

/// Those who are known.
#[derive(Debug)]
pub(crate) struct Segment {
    /// Who owns a port, by its number.
    owners: Box<[Owner]>,
    /// The same and the gateway, by link-layer address.
    stations: Box<[Neighbour]>,
    by_address: PrefixMap<Neighbour>,
}

/// Somebody whose link-layer address is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Neighbour {
    pub(crate) mac: MacAddr,
    pub(crate) at: At,
}

/// Where a neighbour is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// Behind no port: its frames are routed.
    Gateway,
    /// Behind a port.
    Port(u16),
}

/// The only station behind a port.
#[derive(Debug)]
struct Owner {
    port: u16,
    mac: MacAddr,
    may_use: Addresses,
}

/// Addresses that a station may send from.
#[derive(Debug)]
enum Addresses {
    /// It forwards packets of others.
    Any,
    /// Those that nobody has here.
    Elsewhere,
    /// Its own.
    Own(Box<[IpAddr]>),
}

/// What is known of the two ends of a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meeting {
    /// Whether the source can be nowhere else.
    pub(crate) settled: bool,
    /// Who the destination is, if that is known.
    pub(crate) neighbour: Option<Neighbour>,
}

/// Why something is dropped, and by which rule.
pub(crate) type Refusal = (Reason, Rule);

impl Segment {
    /// The segment of these settings; `None` if they name nobody.
    pub(crate) fn new(settings: &Settings) -> Result<Option<Self>, Error> {
        let Settings { gateway, host, pods, nodes, .. } = settings;
        if gateway.is_none() && host.is_none() && pods.is_empty() && nodes.is_empty() {
            return Ok(None);
        }
        let mut made =
            Self { owners: Box::default(), stations: Box::default(), by_address: PrefixMap::new() };
        let (mut owners, mut stations) = (Vec::new(), Vec::new());
        if let Some(GatewaySettings { mac, addresses }) = gateway {
            let neighbour = Neighbour { mac: *mac, at: At::Gateway };
            stations.push(made.settle("gateway", neighbour, addresses)?);
        }
        if let Some(HostSettings { port, mac }) = *host {
            let neighbour = Neighbour { mac, at: At::Port(port.0) };
            stations.push(made.settle("host", neighbour, &[])?);
            owners.push(Owner { port: port.0, mac, may_use: Addresses::Any });
        }
        for (index, PodSettings { port, mac, addresses }) in pods.iter().enumerate() {
            let neighbour = Neighbour { mac: *mac, at: At::Port(port.0) };
            stations.push(made.settle(&format!("pods[{index}]"), neighbour, addresses)?);
            let own = addresses.iter().copied().chain([mac.link_local().into()]).collect();
            owners.push(Owner { port: port.0, mac: *mac, may_use: Addresses::Own(own) });
        }

        for (index, port) in nodes.iter().enumerate() {
            let Some(GatewaySettings { mac, .. }) = *gateway else {
                return Err(format!("`nodes[{index}]`: other nodes need a `gateway` here").into());
            };
            owners.push(Owner { port: port.0, mac, may_use: Addresses::Elsewhere });
        }

        owners.sort_unstable_by_key(|owner| owner.port);
        stations.sort_unstable_by_key(|station| station.mac);
        if let Some([one, _]) = owners.array_windows().find(|[one, next]| one.port == next.port) {
            return Err(format!("port {} has two owners", one.port).into());
        }
        if let Some([one, _]) = stations.array_windows().find(|[one, next]| one.mac == next.mac) {
            return Err(format!("{} belongs to two stations", one.mac).into());
        }
        Ok(Some(Self { owners: owners.into(), stations: stations.into(), ..made }))
    }

    /// Notes which addresses a neighbour has; `place` is where the settings have it.
    fn settle(
        &mut self,
        place: &str,
        neighbour: Neighbour,
        addresses: &[IpAddr],
    ) -> Result<Neighbour, Error> {
        let Neighbour { mac, .. } = neighbour;
        if !mac.is_unicast() {
            return Err(format!("`{place}.mac`: {mac} is not the address of one station").into());
        }
        for address in addresses.iter().copied().chain([mac.link_local().into()]) {
            if address.is_unspecified() || address.is_multicast() {
                return Err(format!("`{place}.addresses`: {address} is not one station's").into());
            }
            let other = self.by_address.insert(Prefix::from(address), neighbour);
            if other.is_some_and(|other| other != neighbour) {
                return Err(format!("`{place}.addresses`: {address} belongs to another").into());
            }
        }
        Ok(neighbour)
    }

    /// What is known of a packet's source and destination, if it may come in by its port.
    pub(crate) fn meet(&self, slot: &Slot) -> Result<Meeting, Refusal> {
        self.admit(slot)?;
        let (settled, neighbour) =
            (self.is_owned(slot.ingress), self.at_mac(MacAddr(slot.dst_mac)));
        Ok(Meeting { settled, neighbour })
    }

    /// Whether the port has an owner: nothing is learned there.
    pub(crate) fn is_owned(&self, port: u16) -> bool {
        self.owner(port).is_some()
    }

    /// The neighbour with this link-layer address.
    pub(crate) fn at_mac(&self, mac: MacAddr) -> Option<Neighbour> {
        let at = self.stations.binary_search_by_key(&mac, |station| station.mac).ok()?;
        Some(self.stations[at])
    }

    /// Whether a packet may come in by its port, going by its headers.
    fn admit(&self, slot: &Slot) -> Result<(), Refusal> {
        let class = slot.class();
        let address = slot.source().filter(|source| {
            // one that has no address yet may look for others that have it, and for groups
            let is_nobody = source.is_unspecified()
                && slot.ip_version == 6
                && MacAddr(slot.dst_mac).is_multicast()
                && matches!(class, Class::Nd | Class::Icmp);
            !is_nobody
        });
        self.check(slot.ingress, MacAddr(slot.src_mac), address)?;
        let kind = Kind(slot.icmp_type);
        let is_discovery = class == Class::Nd
            && matches!(
                kind,
                Kind::ROUTER_SOLICITATION | Kind::ROUTER_ADVERTISEMENT | Kind::REDIRECT
            );
        if is_discovery && self.is_owned(slot.ingress) {
            return Err((Reason::Denied, ROUTER_DISCOVERY));
        }
        Ok(())
    }

    /// Whether somebody behind `port` may say that it has these addresses.
    pub(crate) fn check(
        &self,
        port: u16,
        mac: MacAddr,
        address: Option<IpAddr>,
    ) -> Result<(), Refusal> {
        let (its_mac, its_address) = match self.owner(port) {
            Some(owner) => {
                (owner.mac == mac, address.is_none_or(|source| self.may_use(owner, source)))
            }
            // a port of others: what is known to be elsewhere is not here
            None => {
                (self.at_mac(mac).is_none(), address.is_none_or(|source| !self.is_known(source)))
            }
        };
        match (its_mac, its_address) {
            (true, true) => Ok(()),
            (false, _) => Err((Reason::SpoofedMac, SPOOFED)),
            (true, false) => Err((Reason::SpoofedAddress, SPOOFED)),
        }
    }

    /// Who has `address`, if somebody behind `port` is to be told: never about an address of its
    /// own, or it would think that another has it too (RFC 5227, RFC 4862 section 5.4).
    pub(crate) fn answer(&self, port: u16, address: IpAddr) -> Option<Neighbour> {
        let neighbour = *self.by_address.longest_match(address)?;
        let is_own = match neighbour.at {
            At::Gateway => self.is_host(port),
            At::Port(at) => at == port,
        };
        (!is_own).then_some(neighbour)
    }

    /// Whether an address is the gateway's: others are not to hear from the host that it has it.
    pub(crate) fn is_gateway(&self, address: IpAddr) -> bool {
        self.by_address.longest_match(address).is_some_and(|one| one.at == At::Gateway)
    }

    /// Whether the host is behind the port.
    pub(crate) fn is_host(&self, port: u16) -> bool {
        self.owner(port).is_some_and(|owner| matches!(owner.may_use, Addresses::Any))
    }

    fn may_use(&self, owner: &Owner, source: IpAddr) -> bool {
        match &owner.may_use {
            Addresses::Any => true,
            Addresses::Elsewhere => !self.is_known(source),
            Addresses::Own(own) => own.contains(&source),
        }
    }

    /// Whether somebody here has the address.
    fn is_known(&self, address: IpAddr) -> bool {
        self.by_address.longest_match(address).is_some()
    }

    fn owner(&self, port: u16) -> Option<&Owner> {
        let at = self.owners.binary_search_by_key(&port, |owner| owner.port).ok()?;
        Some(&self.owners[at])
    }
}
