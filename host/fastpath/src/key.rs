//! Which packets an entry is for.

use std::net::{IpAddr, SocketAddr};

use crate::layout::{EVENT_FAMILY, Key4, Key6};

/// A port of the dataplane, as the punt's VLAN tag names it: 1 to 4094.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId(u16);

impl PortId {
    /// The largest; 0 and 4095 are reserved (IEEE 802.1Q).
    pub const MAX: u16 = 4094;

    /// The port with this number, if a VLAN tag can carry it.
    pub const fn new(number: u16) -> Option<Self> {
        if number >= 1 && number <= Self::MAX { Some(Self(number)) } else { None }
    }

    /// Its number.
    pub const fn number(self) -> u16 {
        self.0
    }
}

/// What is cached; all else misses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// One direction of a flow, and the port it comes in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(pub(crate) Raw);

/// Each family has a map of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Raw {
    V4(Key4),
    V6(Key6),
}

impl Key {
    /// The key of the packets that come in by `from`, if both addresses are of one family.
    pub fn new(
        from: PortId,
        protocol: Protocol,
        source: SocketAddr,
        destination: SocketAddr,
    ) -> Option<Self> {
        let protocol = match protocol {
            Protocol::Tcp => TCP,
            Protocol::Udp => UDP,
        };
        let source_port = source.port().to_be_bytes();
        let destination_port = destination.port().to_be_bytes();
        let from = from.0;
        match (source.ip(), destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Some(Self(Raw::V4(Key4 {
                source: source.octets(),
                destination: destination.octets(),
                source_port,
                destination_port,
                from,
                protocol,
                zero: 0,
            }))),
            (IpAddr::V6(source), IpAddr::V6(destination)) => Some(Self(Raw::V6(Key6 {
                source: source.octets(),
                destination: destination.octets(),
                source_port,
                destination_port,
                from,
                protocol,
                zero: 0,
            }))),
            _ => None,
        }
    }

    /// The port its packets come in by.
    pub fn from(&self) -> PortId {
        match self.0 {
            Raw::V4(key) => PortId(key.from),
            Raw::V6(key) => PortId(key.from),
        }
    }

    /// Its protocol.
    pub fn protocol(&self) -> Protocol {
        let number = match self.0 {
            Raw::V4(key) => key.protocol,
            Raw::V6(key) => key.protocol,
        };
        if number == TCP { Protocol::Tcp } else { Protocol::Udp }
    }

    /// Whom its packets are from.
    pub fn source(&self) -> SocketAddr {
        match self.0 {
            Raw::V4(key) => address(key.source, key.source_port),
            Raw::V6(key) => address(key.source, key.source_port),
        }
    }

    /// Whom its packets are for.
    pub fn destination(&self) -> SocketAddr {
        match self.0 {
            Raw::V4(key) => address(key.destination, key.destination_port),
            Raw::V6(key) => address(key.destination, key.destination_port),
        }
    }

    /// Reads the key at the beginning of an event.
    pub(crate) fn of_event(event: &[u8]) -> Option<Self> {
        fn part<const N: usize>(event: &[u8], at: usize) -> Option<[u8; N]> {
            event.get(at..)?.first_chunk().copied()
        }
        let tail = if *event.get(EVENT_FAMILY)? == 4 { 8 } else { 32 };
        let source_port = part(event, tail)?;
        let destination_port = part(event, tail + 2)?;
        let from = u16::from_ne_bytes(part(event, tail + 4)?);
        let [protocol] = part(event, tail + 6)?;
        Some(Self(if tail == 8 {
            Raw::V4(Key4 {
                source: part(event, 0)?,
                destination: part(event, 4)?,
                source_port,
                destination_port,
                from,
                protocol,
                zero: 0,
            })
        } else {
            Raw::V6(Key6 {
                source: part(event, 0)?,
                destination: part(event, 16)?,
                source_port,
                destination_port,
                from,
                protocol,
                zero: 0,
            })
        }))
    }
}

fn address(ip: impl Into<IpAddr>, port: [u8; 2]) -> SocketAddr {
    SocketAddr::new(ip.into(), u16::from_be_bytes(port))
}

const TCP: u8 = 6;
const UDP: u8 = 17;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_says_what_it_was_made_of() {
        let port = PortId::new(9).unwrap();
        for (source, destination) in
            [("10.0.0.1:5", "10.0.0.2:600"), ("[fd00::1]:5", "[fd00::2]:600")]
        {
            let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let key = Key::new(port, protocol, source, destination).unwrap();
                assert_eq!((key.from(), key.protocol()), (port, protocol));
                assert_eq!((key.source(), key.destination()), (source, destination));
            }
        }
    }

    #[test]
    fn two_families_make_no_key() {
        let port = PortId::new(1).unwrap();
        let (v4, v6) = ("10.0.0.1:1".parse().unwrap(), "[::1]:1".parse().unwrap());
        assert_eq!(Key::new(port, Protocol::Udp, v4, v6), None);
    }

    #[test]
    fn a_port_is_what_a_tag_can_carry() {
        assert_eq!(PortId::new(0), None);
        assert_eq!(PortId::new(4094).map(PortId::number), Some(4094));
        assert_eq!(PortId::new(4095), None);
    }
}
