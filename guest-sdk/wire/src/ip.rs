//! What both IP versions share: protocol numbers, ECN, and where the transport header is.
//!
//! [`Upper`] is what a forwarding path asks of either version:
//! [`ipv4::Packet::upper`](crate::ipv4::Packet::upper) and
//! [`ipv6::Packet::upper`](crate::ipv6::Packet::upper) answer in the same terms.

use core::fmt;

use crate::{EtherType, ethernet, ipv4, ipv6, vlan};

/// The two versions of IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpVersion {
    /// IPv4, RFC 791.
    V4,
    /// IPv6, RFC 8200.
    V6,
}

/// An IP protocol number: IPv4's protocol field, IPv6's next header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct IpProtocol(pub u8);

impl IpProtocol {
    /// IPv6 hop-by-hop options, RFC 8200 §4.3.
    pub const HOP_BY_HOP: IpProtocol = IpProtocol(0);
    /// ICMP for IPv4, RFC 792.
    pub const ICMPV4: IpProtocol = IpProtocol(1);
    /// IGMP, RFC 3376.
    pub const IGMP: IpProtocol = IpProtocol(2);
    /// IPv4 in IP, RFC 2003.
    pub const IPV4: IpProtocol = IpProtocol(4);
    /// TCP, RFC 9293.
    pub const TCP: IpProtocol = IpProtocol(6);
    /// UDP, RFC 768.
    pub const UDP: IpProtocol = IpProtocol(17);
    /// IPv6 in IP, RFC 2473.
    pub const IPV6: IpProtocol = IpProtocol(41);
    /// IPv6 routing header, RFC 8200 §4.4.
    pub const ROUTING: IpProtocol = IpProtocol(43);
    /// IPv6 fragment header, RFC 8200 §4.5.
    pub const FRAGMENT: IpProtocol = IpProtocol(44);
    /// GRE, RFC 2784.
    pub const GRE: IpProtocol = IpProtocol(47);
    /// Encapsulating security payload, RFC 4303.
    pub const ESP: IpProtocol = IpProtocol(50);
    /// Authentication header, RFC 4302.
    pub const AUTHENTICATION: IpProtocol = IpProtocol(51);
    /// ICMP for IPv6, RFC 4443.
    pub const ICMPV6: IpProtocol = IpProtocol(58);
    /// IPv6's "nothing follows", RFC 8200 §4.7.
    pub const NO_NEXT_HEADER: IpProtocol = IpProtocol(59);
    /// IPv6 destination options, RFC 8200 §4.6.
    pub const DESTINATION_OPTIONS: IpProtocol = IpProtocol(60);
    /// SCTP, RFC 9260.
    pub const SCTP: IpProtocol = IpProtocol(132);
    /// The reserved number: what a header says before anyone chose.
    pub const RESERVED: IpProtocol = IpProtocol(255);

    /// Whether this is an IPv6 extension header that can be stepped over to find what follows:
    /// hop-by-hop, routing, fragment, authentication or destination options.
    ///
    /// ESP is not: what follows it is encrypted.
    #[inline]
    pub const fn is_extension(self) -> bool {
        matches!(
            self,
            Self::HOP_BY_HOP
                | Self::ROUTING
                | Self::FRAGMENT
                | Self::AUTHENTICATION
                | Self::DESTINATION_OPTIONS
        )
    }

    /// Whether the header starts with a source and a destination [port](crate::Ports), as those
    /// of TCP, UDP and SCTP do.
    #[inline]
    pub const fn has_ports(self) -> bool {
        matches!(self, Self::TCP | Self::UDP | Self::SCTP)
    }
}

impl fmt::Display for IpProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::ICMPV4 => "ICMP",
            Self::ICMPV6 => "ICMPv6",
            Self::TCP => "TCP",
            Self::UDP => "UDP",
            Self::SCTP => "SCTP",
            IpProtocol(number) => return write!(f, "protocol {number}"),
        };
        f.write_str(name)
    }
}

/// Explicit congestion notification, RFC 3168 §5: the low two bits of the DS field or traffic
/// class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Ecn {
    /// The sender does not take part (00).
    #[default]
    NotCapable,
    /// ECT(1) (01).
    Capable1,
    /// ECT(0) (10).
    Capable0,
    /// Congestion was met on the way (11).
    CongestionExperienced,
}

impl Ecn {
    /// Reads the low two bits of `bits`, ignoring the others.
    #[inline]
    pub const fn from_bits(bits: u8) -> Ecn {
        match bits & 0b11 {
            0b00 => Ecn::NotCapable,
            0b01 => Ecn::Capable1,
            0b10 => Ecn::Capable0,
            _ => Ecn::CongestionExperienced,
        }
    }

    /// The two-bit code point.
    #[inline]
    pub const fn bits(self) -> u8 {
        self as u8
    }
}

/// Where a packet's upper-layer header is, behind IPv4 options or IPv6 extension headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upper {
    /// The protocol of what is at `offset`.
    pub protocol: IpProtocol,
    /// Octets from the start of the IP header to the upper-layer header; past the end of the
    /// fixed IP header when there are options or extension headers.
    pub offset: usize,
    /// Octets from `offset` to the end of the packet, as its length field states, or to the end
    /// of the buffer if a quoted packet ends before that.
    pub len: usize,
    /// Set when the packet is a fragment.
    pub fragment: Option<Fragment>,
}

impl Upper {
    /// Whether a header of `protocol` is really at `offset`.
    ///
    /// False for every fragment but the first: the octets there are the middle of a payload. In
    /// IPv6 `protocol` is then what the first fragment starts with, which may be an extension
    /// header.
    #[inline]
    pub fn starts_here(&self) -> bool {
        self.fragment.is_none_or(|fragment| fragment.offset == 0)
    }
}

/// A packet's place in the datagram it is a fragment of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fragment {
    /// Octets of the fragmentable part that precede this fragment; a multiple of 8.
    pub offset: u16,
    /// Whether fragments follow.
    pub more: bool,
    /// The datagram's identification: 16 bits in IPv4, 32 in IPv6.
    pub id: u32,
}

impl Fragment {
    /// Whether the "fragment" is the whole datagram: an IPv6 packet with a fragment header that
    /// was never split (RFC 6946). Such packets need no reassembly and no fragment state.
    #[inline]
    pub const fn is_atomic(self) -> bool {
        self.offset == 0 && !self.more
    }
}

/// The header of `protocol` and what follows it in a frame, of either IP version, tagged or not: as far
/// as that is there, for the octets may be the first ones of a frame. Nothing if it does not begin
/// there.
pub(crate) fn upper_in(frame: &[u8], protocol: IpProtocol) -> Option<&[u8]> {
    let frame = ethernet::Frame::new_checked(frame).ok()?;
    let (mut ether_type, mut packet) = (frame.ether_type(), frame.into_payload());
    if ether_type.is_vlan() {
        let tag = vlan::Frame::new_checked(packet).ok()?;
        (ether_type, packet) = (tag.ether_type(), tag.into_payload());
    }
    let upper = match ether_type {
        EtherType::IPV4 => ipv4::Packet::new_quoted(packet).ok()?.upper(),
        EtherType::IPV6 => ipv6::Packet::new_quoted(packet).ok()?.upper().ok()?,
        _ => return None,
    };
    let is_here = upper.protocol == protocol && upper.starts_here();
    packet.get(upper.offset..upper.offset + upper.len).filter(|_| is_here)
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    const ALL: std::ops::RangeInclusive<u8> = 0..=255;

    #[test]
    fn protocols_name_themselves() {
        let named = [1, 6, 17, 58, 132, 47].map(|number| IpProtocol(number).to_string());
        assert_eq!(named, ["ICMP", "TCP", "UDP", "ICMPv6", "SCTP", "protocol 47"]);
    }

    #[test]
    fn ports_and_extension_headers_are_told_by_protocol() {
        assert!(ALL.filter(|number| IpProtocol(*number).has_ports()).eq([6, 17, 132]));
        assert!(ALL.filter(|number| IpProtocol(*number).is_extension()).eq([0, 43, 44, 51, 60]));
    }

    #[test]
    fn congestion_bits_go_in_and_out() {
        for bits in ALL {
            assert_eq!(Ecn::from_bits(bits).bits(), bits & 0b11);
        }
    }

    #[test]
    fn only_a_fragment_that_is_all_is_atomic() {
        let atomic = |offset, more| Fragment { offset, more, id: 1 }.is_atomic();
        assert!(atomic(0, false));
        assert!(!atomic(0, true) && !atomic(8, false) && !atomic(8, true));
    }
}
