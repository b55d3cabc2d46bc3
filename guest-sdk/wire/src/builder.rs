//! Whole frames, composed in a caller's buffer: Ethernet, perhaps a VLAN tag, IP, transport and
//! payload, with all lengths and checksums filled in.
//!
//! Each function takes the layers from the outside in, writes the frame to the start of the
//! buffer and returns its length. Protocol and length fields of the IP representation are the
//! builder's: whatever they hold is replaced. Frames are not padded to Ethernet's minimum.

use core::error::Error;
use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};

use crate::checksum::Pseudo;
use crate::ethernet::{self, EtherType};
use crate::ip::IpProtocol;
use crate::vlan::{self, Tci};
use crate::{MacAddr, Ports, arp, icmpv4, icmpv6, ipv4, ipv6, sctp, tcp, udp};

/// The Ethernet layer of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ethernet {
    /// The station that sends it.
    pub source: MacAddr,
    /// The station or group it is for.
    pub destination: MacAddr,
    /// An 802.1Q tag.
    pub vlan: Option<Tci>,
}

impl Ethernet {
    /// An untagged frame from `source` to `destination`.
    pub const fn new(source: MacAddr, destination: MacAddr) -> Ethernet {
        Ethernet { source, destination, vlan: None }
    }

    /// The same with a tag.
    #[must_use]
    pub const fn tagged(self, tci: Tci) -> Ethernet {
        Ethernet { vlan: Some(tci), ..self }
    }

    const fn header_len(&self) -> usize {
        ethernet::HEADER_LEN + if self.vlan.is_some() { vlan::HEADER_LEN } else { 0 }
    }

    /// Writes the header and returns what is behind it.
    fn emit<'b>(&self, frame: &'b mut [u8], payload: EtherType) -> &'b mut [u8] {
        let (header, rest) = frame.split_at_mut(self.header_len());
        let ether_type = if self.vlan.is_some() { EtherType::VLAN } else { payload };
        let mut outer = ethernet::Frame::new_unchecked(header);
        ethernet::Repr { destination: self.destination, source: self.source, ether_type }
            .emit(&mut outer);

        if let Some(tci) = self.vlan {
            let mut inner = vlan::Frame::new_unchecked(outer.payload_mut());
            vlan::Repr { tci, ether_type: payload }.emit(&mut inner);
        }
        rest
    }
}

/// The IP layer of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ip {
    /// IPv4.
    V4(ipv4::Repr),
    /// IPv6.
    V6(ipv6::Repr),
}

impl Ip {
    /// IPv4 with the fields of [`ipv4::Repr::new`].
    pub fn v4(source: impl Into<Ipv4Addr>, destination: impl Into<Ipv4Addr>) -> Ip {
        Ip::V4(ipv4::Repr::new(source.into(), destination.into()))
    }

    /// IPv6 with the fields of [`ipv6::Repr::new`].
    pub fn v6(source: impl Into<Ipv6Addr>, destination: impl Into<Ipv6Addr>) -> Ip {
        Ip::V6(ipv6::Repr::new(source.into(), destination.into()))
    }

    /// The same with another TTL or hop limit.
    #[must_use]
    pub const fn hops(self, hops: u8) -> Ip {
        match self {
            Ip::V4(repr) => Ip::V4(ipv4::Repr { ttl: hops, ..repr }),
            Ip::V6(repr) => Ip::V6(ipv6::Repr { hop_limit: hops, ..repr }),
        }
    }

    const fn ether_type(&self) -> EtherType {
        match self {
            Ip::V4(_) => EtherType::IPV4,
            Ip::V6(_) => EtherType::IPV6,
        }
    }

    const fn header_len(&self) -> usize {
        match self {
            Ip::V4(repr) => repr.buffer_len(),
            Ip::V6(repr) => repr.buffer_len(),
        }
    }

    /// The longest payload the length field can state.
    const fn max_payload_len(&self) -> usize {
        match self {
            Ip::V4(repr) => u16::MAX as usize - repr.buffer_len(),
            Ip::V6(_) => u16::MAX as usize,
        }
    }

    fn pseudo(&self) -> Pseudo {
        match self {
            Ip::V4(repr) => Pseudo::v4(repr.source, repr.destination),
            Ip::V6(repr) => Pseudo::v6(repr.source, repr.destination),
        }
    }

    /// Writes the header of a packet that ends with the buffer, and returns its payload.
    fn emit<'b>(&self, packet: &'b mut [u8], protocol: IpProtocol) -> &'b mut [u8] {
        let (header, payload) = packet.split_at_mut(self.header_len());
        let payload_len = payload.len() as u16;
        match *self {
            Ip::V4(repr) => ipv4::Repr { protocol, payload_len, ..repr }
                .emit(&mut ipv4::Packet::new_unchecked(header)),
            Ip::V6(repr) => ipv6::Repr { next_header: protocol, payload_len, ..repr }
                .emit(&mut ipv6::Packet::new_unchecked(header)),
        }
        payload
    }
}

impl From<ipv4::Repr> for Ip {
    fn from(repr: ipv4::Repr) -> Ip {
        Ip::V4(repr)
    }
}

impl From<ipv6::Repr> for Ip {
    fn from(repr: ipv6::Repr) -> Ip {
        Ip::V6(repr)
    }
}

/// Why a frame was not built. The buffer is left as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildError {
    /// The buffer is too short.
    NoRoom {
        /// Octets of the whole frame.
        needed: usize,
    },
    /// The payload does not fit the length field of an IP header.
    PayloadTooLong,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::NoRoom { needed } => write!(f, "buffer: {needed} octets needed"),
            BuildError::PayloadTooLong => f.write_str("payload: too long for an IP packet"),
        }
    }
}

impl Error for BuildError {}

/// An ARP packet.
pub fn arp(buffer: &mut [u8], ethernet: &Ethernet, arp: &arp::Repr) -> Result<usize, BuildError> {
    let needed = ethernet.header_len() + arp.buffer_len();
    let frame = buffer.get_mut(..needed).ok_or(BuildError::NoRoom { needed })?;
    let packet = ethernet.emit(frame, EtherType::ARP);
    arp.emit(&mut arp::Packet::new_unchecked(packet));
    Ok(needed)
}

/// An IP packet whose `payload` is complete, or is none of the protocols below.
pub fn ip(
    buffer: &mut [u8],
    ethernet: &Ethernet,
    ip: &Ip,
    protocol: IpProtocol,
    payload: &[u8],
) -> Result<usize, BuildError> {
    let outer = outer(buffer, ethernet, ip, protocol, payload.len())?;
    outer.payload.copy_from_slice(payload);
    Ok(outer.frame_len)
}

/// A UDP datagram, always with a checksum.
///
/// ```
/// use millrace_wire::builder::{self, Ethernet, Ip};
/// use millrace_wire::{MacAddr, Ports};
///
/// let mut buffer = [0; 128];
/// let ethernet = Ethernet::new(MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
/// let ip = Ip::v4([10, 0, 0, 1], [10, 0, 0, 2]);
/// let ports = Ports { source: 40_000, destination: 53 };
///
/// let len = builder::udp(&mut buffer, &ethernet, &ip, ports, b"query")?;
/// assert_eq!(len, 14 + 20 + 8 + 5);
/// # Ok::<(), builder::BuildError>(())
/// ```
pub fn udp(
    buffer: &mut [u8],
    ethernet: &Ethernet,
    ip: &Ip,
    ports: Ports,
    payload: &[u8],
) -> Result<usize, BuildError> {
    let payload_len = u16::try_from(payload.len()).map_err(|_| BuildError::PayloadTooLong)?;
    let udp = udp::Repr { ports, payload_len };
    let outer = outer(buffer, ethernet, ip, IpProtocol::UDP, udp.buffer_len() + payload.len())?;

    let mut datagram = udp::Datagram::new_unchecked(outer.payload);
    udp.emit(&mut datagram);
    datagram.payload_mut().copy_from_slice(payload);
    datagram.fill_checksum(outer.pseudo);
    Ok(outer.frame_len)
}

/// A TCP segment.
pub fn tcp(
    buffer: &mut [u8],
    ethernet: &Ethernet,
    ip: &Ip,
    tcp: &tcp::Repr,
    payload: &[u8],
) -> Result<usize, BuildError> {
    let outer = outer(buffer, ethernet, ip, IpProtocol::TCP, tcp.buffer_len() + payload.len())?;

    let mut segment = tcp::Segment::new_unchecked(outer.payload);
    tcp.emit(&mut segment);
    segment.payload_mut().copy_from_slice(payload);
    segment.fill_checksum(outer.pseudo);
    Ok(outer.frame_len)
}

/// An SCTP packet with the given `chunks`.
pub fn sctp(
    buffer: &mut [u8],
    ethernet: &Ethernet,
    ip: &Ip,
    sctp: &sctp::Repr,
    chunks: &[u8],
) -> Result<usize, BuildError> {
    let outer = outer(buffer, ethernet, ip, IpProtocol::SCTP, sctp.buffer_len() + chunks.len())?;

    let mut packet = sctp::Packet::new_unchecked(outer.payload);
    sctp.emit(&mut packet);
    packet.payload_mut().copy_from_slice(chunks);
    packet.fill_checksum();
    Ok(outer.frame_len)
}

/// An ICMP message: an echo with `payload` as data, or an error with a
/// [`quote`](icmpv4::quote).
pub fn icmpv4(
    buffer: &mut [u8],
    ethernet: &Ethernet,
    ip: &ipv4::Repr,
    icmp: &icmpv4::Repr,
    payload: &[u8],
) -> Result<usize, BuildError> {
    let (ip, len) = (Ip::V4(*ip), icmp.buffer_len() + payload.len());
    let outer = outer(buffer, ethernet, &ip, IpProtocol::ICMPV4, len)?;

    let mut message = icmpv4::Packet::new_unchecked(outer.payload);
    icmp.emit(&mut message);
    message.payload_mut().copy_from_slice(payload);
    message.fill_checksum();
    Ok(outer.frame_len)
}

/// An ICMPv6 message: an echo with `payload` as data, an error with a
/// [`quote`](icmpv6::quote), or neighbour discovery with options, for which the hop limit has to
/// be [`icmpv6::ND_HOP_LIMIT`].
pub fn icmpv6(
    buffer: &mut [u8],
    ethernet: &Ethernet,
    ip: &ipv6::Repr,
    icmp: &icmpv6::Repr,
    payload: &[u8],
) -> Result<usize, BuildError> {
    let (ip, len) = (Ip::V6(*ip), icmp.buffer_len() + payload.len());
    let outer = outer(buffer, ethernet, &ip, IpProtocol::ICMPV6, len)?;

    let mut message = icmpv6::Packet::new_unchecked(outer.payload);
    icmp.emit(&mut message);
    message.payload_mut().copy_from_slice(payload);
    message.fill_checksum(outer.pseudo);
    Ok(outer.frame_len)
}

/// A frame whose Ethernet and IP headers are written.
struct Outer<'b> {
    payload: &'b mut [u8],
    pseudo: Pseudo,
    frame_len: usize,
}

fn outer<'b>(
    buffer: &'b mut [u8],
    ethernet: &Ethernet,
    ip: &Ip,
    protocol: IpProtocol,
    payload_len: usize,
) -> Result<Outer<'b>, BuildError> {
    if payload_len > ip.max_payload_len() {
        return Err(BuildError::PayloadTooLong);
    }

    let needed = ethernet.header_len() + ip.header_len() + payload_len;
    let frame = buffer.get_mut(..needed).ok_or(BuildError::NoRoom { needed })?;
    let packet = ethernet.emit(frame, ip.ether_type());
    let payload = ip.emit(packet, protocol);
    Ok(Outer { payload, pseudo: ip.pseudo(), frame_len: needed })
}

#[cfg(test)]
mod tests;
