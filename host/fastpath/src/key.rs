//! Which packets an entry is for.

use std::net::{IpAddr, SocketAddr};

use crate::layout::{EVENT_FAMILY, RawKey, UNDERLAY};

/// A port of the dataplane, as the punt's VLAN tag names it: 1 to 4094.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId(u16);

impl PortId {
    /// All of the underlay, in keys: packets of other nodes have one, whichever way they come in.
    /// No port has this number.
    pub const UNDERLAY: Self = Self(UNDERLAY);

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
    V4(RawKey<4>),
    V6(RawKey<16>),
}

impl Key {
    /// The key of the packets that come in by `from`, a port or the underlay, if both addresses are of one family.
    pub fn new(
        from: PortId,
        protocol: Protocol,
        source: SocketAddr,
        destination: SocketAddr,
    ) -> Option<Self> {
        let raw = match (source.ip(), destination.ip()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let ports = [source.port(), destination.port()];
                Raw::V4(raw(from, protocol, own.octets(), other.octets(), ports))
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let ports = [source.port(), destination.port()];
                Raw::V6(raw(from, protocol, own.octets(), other.octets(), ports))
            }
            _ => return None,
        };
        Some(Self(raw))
    }

    /// The port its packets come in by, or the underlay.
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
        Self::of_record(event, *event.get(EVENT_FAMILY)?)
    }

    /// Reads a key of this family, 4 or 6.
    pub(crate) fn of_record(bytes: &[u8], family: u8) -> Option<Self> {
        match family {
            4 => Some(Self(Raw::V4(read(bytes)?))),
            6 => Some(Self(Raw::V6(read(bytes)?))),
            _ => None,
        }
    }
}

fn raw<const N: usize>(
    from: PortId,
    protocol: Protocol,
    source: [u8; N],
    destination: [u8; N],
    ports: [u16; 2],
) -> RawKey<N> {
    let [source_port, destination_port] = ports.map(u16::to_be_bytes);
    let protocol = match protocol {
        Protocol::Tcp => TCP,
        Protocol::Udp => UDP,
    };
    let from = from.0;
    RawKey { source, destination, source_port, destination_port, from, protocol, zero: 0 }
}

fn read<const N: usize>(bytes: &[u8]) -> Option<RawKey<N>> {
    let (source, rest) = bytes.split_first_chunk()?;
    let (destination, rest) = rest.split_first_chunk()?;
    let (source_port, rest) = rest.split_first_chunk()?;
    let (destination_port, rest) = rest.split_first_chunk()?;
    let (from, rest) = rest.split_first_chunk()?;
    Some(RawKey {
        source: *source,
        destination: *destination,
        source_port: *source_port,
        destination_port: *destination_port,
        from: u16::from_ne_bytes(*from),
        protocol: *rest.first()?,
        zero: 0,
    })
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
