//! One direction of a connection, as its packets look before anything is rewritten.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use millrace_abi::{PortKind, Slot, limits};
use millrace_wire::IpProtocol;

use crate::port::Port;

/// Where packets come in, as far as telling connections apart goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Zone(u16);

/// What makes packets one direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Whom they are from; addresses are in the form of [`Slot::src_addr`].
    pub source: Endpoint,
    /// Whom they are for.
    pub destination: Endpoint,
    /// Where they come in.
    pub zone: Zone,
    /// The upper-layer protocol's number.
    pub protocol: u8,
}

/// An address and a port; for the port of an ICMP echo, its identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// IPv4 as IPv4-mapped IPv6.
    pub address: [u8; 16],
    /// Zero where the protocol has no ports.
    pub port: u16,
}

/// Which of a connection's two keys a packet has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Direction {
    /// That of the packet that opened it.
    Original,
    /// The other one.
    Reply,
}

impl Zone {
    /// All of the underlay: packets of one connection may come in by any uplink or tunnel.
    pub const UNDERLAY: Self = Self(0);
    /// The node itself.
    pub const HOST: Self = Self(limits::MAX_PORT + 1);
    /// How many zones there are.
    pub(super) const COUNT: usize = limits::MAX_PORT as usize + 2;

    /// All there are.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT as u16).map(Self)
    }

    /// That of a pod or a wire, by its port.
    ///
    /// # Panics
    /// If no port can have this number.
    pub const fn port(number: u16) -> Self {
        assert!(number >= 1 && number <= limits::MAX_PORT, "ports are 1 to 4094");
        Self(number)
    }

    /// That of packets which come in by the port.
    pub(crate) fn of(port: &Port) -> Self {
        match port.kind {
            PortKind::Uplink | PortKind::Remote => Self::UNDERLAY,
            _ => Self::port(port.id.number()),
        }
    }

    /// Whether it is that of one port.
    pub const fn is_port(self) -> bool {
        self.0 >= 1 && self.0 <= limits::MAX_PORT
    }

    /// Its number, below 4096.
    pub const fn number(self) -> u16 {
        self.0
    }
}

impl Endpoint {
    /// An address in the form of [`Slot::src_addr`].
    pub fn address_of(ip: IpAddr) -> [u8; 16] {
        match ip {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        }
    }

    /// Its address.
    pub fn ip(&self) -> IpAddr {
        let v6 = Ipv6Addr::from(self.address);
        v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(socket: SocketAddr) -> Self {
        Self { address: Self::address_of(socket.ip()), port: socket.port() }
    }
}

impl From<&Endpoint> for SocketAddr {
    fn from(end: &Endpoint) -> Self {
        Self::new(end.ip(), end.port)
    }
}

impl Key {
    /// The key of the packet that the slot is about.
    #[inline]
    pub fn of(slot: &Slot, zone: Zone) -> Self {
        // an echo's identifier is at neither end: it stays where it is in the reply
        let destination_port = match IpProtocol(slot.protocol) {
            IpProtocol::ICMPV4 | IpProtocol::ICMPV6 => slot.src_port,
            _ => slot.dst_port,
        };
        Self {
            source: Endpoint { address: slot.src_addr, port: slot.src_port },
            destination: Endpoint { address: slot.dst_addr, port: destination_port },
            zone,
            protocol: slot.protocol,
        }
    }

    /// The key of answers that come in at `zone`, if nothing is translated.
    #[inline]
    pub fn reversed(&self, zone: Zone) -> Self {
        Self { source: self.destination, destination: self.source, zone, protocol: self.protocol }
    }
}

impl Direction {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Original, Self::Reply];

    /// The other one.
    #[inline]
    pub const fn other(self) -> Self {
        match self {
            Self::Original => Self::Reply,
            Self::Reply => Self::Original,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(protocol: u8) -> Slot {
        Slot {
            src_addr: [1; 16],
            dst_addr: [2; 16],
            src_port: 7,
            dst_port: 80,
            protocol,
            ..Slot::ZERO
        }
    }

    #[test]
    fn an_end_of_either_family_is_a_sockets_address() {
        for text in ["10.0.0.1:80", "[2001:db8::1]:443"] {
            let socket: SocketAddr = text.parse().expect("it is one");
            assert_eq!(SocketAddr::from(&Endpoint::from(socket)), socket);
        }
    }

    #[test]
    fn an_answer_has_the_ends_the_other_way_round_and_the_zone_it_comes_from() {
        let key = Key::of(&slot(6), Zone::port(3));
        let answer = key.reversed(Zone::port(4));
        assert_eq!((answer.source, answer.destination), (key.destination, key.source));
        assert_eq!((answer.zone, answer.protocol), (Zone::port(4), 6));
        assert_eq!(answer.reversed(Zone::port(3)), key);
    }

    #[test]
    fn an_echo_has_its_identifier_at_both_ends() {
        for protocol in [1, 58] {
            let echo = Slot { dst_port: 0, ..slot(protocol) };
            let key = Key::of(&echo, Zone::HOST);
            assert_eq!((key.source.port, key.destination.port), (7, 7));
        }
    }

    #[test]
    fn zones_of_ports_are_none_of_the_others() {
        for number in [1, limits::MAX_PORT] {
            assert_eq!(Zone::port(number).number(), number);
            assert!(![Zone::UNDERLAY, Zone::HOST].contains(&Zone::port(number)));
        }
        assert!(usize::from(Zone::HOST.number()) < Zone::COUNT);
    }
}
