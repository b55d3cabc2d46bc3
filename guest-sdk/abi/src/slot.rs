//! What a filter is told about a packet or a flow.
//!
//! The host fills slots and copies them into the guest before each call. A
//! guest's writes to them are never read back: the host's copy is the truth.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::decision::{Field, FieldSet};
use crate::{Class, PortKind, layout};

layout! {
    /// What a filter is told about a packet, or about the packet that opened a flow.
    ///
    /// Integers are in host (little endian) order, addresses in network order.
    pub struct Slot as "millrace_slot", 128 bytes {
        /// Source address; IPv4 as IPv4-mapped IPv6 (RFC 4291 section 2.5.5.2). Zero if not IP.
        0 => src_addr: [u8; 16],
        /// Destination address as the packet carries it, in the same form.
        16 => dst_addr: [u8; 16],
        /// Source port of TCP, UDP or SCTP; identifier of an ICMP echo; else 0.
        32 => src_port: u16,
        /// Destination port of TCP, UDP or SCTP; else 0.
        34 => dst_port: u16,
        /// 4 or 6; 0 if not IP.
        36 => ip_version: u8,
        /// Upper-layer protocol number, behind any IPv6 extension headers.
        37 => protocol: u8,
        /// IPv4 time to live or IPv6 hop limit.
        38 => ttl: u8,
        /// IPv4 type of service or IPv6 traffic class: DSCP and ECN.
        39 => traffic_class: u8,
        /// Ethernet source address.
        40 => src_mac: [u8; 6],
        /// Ethernet destination address.
        46 => dst_mac: [u8; 6],
        /// EtherType behind any VLAN tag.
        52 => ethertype: u16,
        /// The VLAN the frame belongs to, 1 to 4094: its tag's or, where it has none, the port's;
        /// 0 if neither.
        54 => vlan: u16,
        /// The port the packet came in by.
        56 => ingress: u16,
        /// What kind of port that is: MILLRACE_PORT_*.
        58 => ingress_kind: u8,
        /// Why the filter is asked: MILLRACE_ORIGIN_*.
        59 => origin: u8,
        /// The packet's class: MILLRACE_CLASS_*.
        60 => class: u8,
        /// TCP flags, as in octet 13 of the header.
        61 => tcp_flags: u8,
        /// ICMP or ICMPv6 type.
        62 => icmp_type: u8,
        /// ICMP or ICMPv6 code.
        63 => icmp_code: u8,
        /// MILLRACE_SLOT_* bits.
        64 => flags: u16,
        /// Zero.
        66 => reserved: u16,
        /// A hash of the flow, the same for both of its directions.
        68 => hash: u32,
        /// When the batch was received: nanoseconds of a clock that never goes back.
        72 => now_ns: u64,
        /// Where the packet is going after the translations decided so far (or, of a
        /// live flow, in force); dst_addr if there are none.
        80 => to_addr: [u8; 16],
        /// The source it will carry, where a stage has stated one; else zero.
        96 => as_addr: [u8; 16],
        /// Destination port to go with to_addr.
        112 => to_port: u16,
        /// Source port to go with as_addr.
        114 => as_port: u16,
        /// The egress port decided so far; 0 if none.
        116 => egress: u16,
        /// Which fields earlier stages have decided: MILLRACE_FIELD_* bits.
        118 => decided: u16,
        /// Length of the frame in bytes, without its checksum.
        120 => len: u32,
        /// Zero.
        124 => reserved2: u32,
    }
}

/// Bits of [`Slot::flags`].
pub mod slot_flag {
    /// The frame came with an 802.1Q or 802.1ad tag.
    pub const TAGGED: u16 = 1 << 0;
    /// The packet is the first fragment of a datagram: it has ports.
    pub const FIRST_FRAGMENT: u16 = 1 << 1;
    /// The packet is a later fragment: it has no ports.
    pub const LATER_FRAGMENT: u16 = 1 << 2;
    /// IPv4 options or IPv6 extension headers are present.
    pub const OPTIONS: u16 = 1 << 3;
    /// The packet is an ICMP or ICMPv6 error message.
    pub const ICMP_ERROR: u16 = 1 << 4;
}

/// Why a filter is asked about a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Origin {
    /// A packet that no decision covers yet.
    New = 0,
    /// A live flow whose decision may have to change; no packet is at hand.
    /// Host maps are not written and metrics do not count.
    Redecide = 1,
    /// The answer will be compared, not applied; writes are ignored likewise.
    Shadow = 2,
}

impl Origin {
    /// Every origin.
    pub const ALL: [Self; 3] = [Self::New, Self::Redecide, Self::Shadow];
}

impl Slot {
    /// Source address, if the packet is IP.
    #[inline]
    pub fn source(&self) -> Option<IpAddr> {
        address(self.ip_version, &self.src_addr)
    }

    /// Destination address as the packet carries it, if the packet is IP.
    #[inline]
    pub fn destination(&self) -> Option<IpAddr> {
        address(self.ip_version, &self.dst_addr)
    }

    /// Destination address after the translations decided so far.
    #[inline]
    pub fn translated_destination(&self) -> Option<IpAddr> {
        address(self.ip_version, &self.to_addr)
    }

    /// The class of the packet; unknown values are [`Class::NonIp`].
    #[inline]
    pub fn class(&self) -> Class {
        Class::from_u8(self.class).unwrap_or(Class::NonIp)
    }

    /// The kind of the ingress port; unknown values are [`PortKind::Wire`].
    #[inline]
    pub fn ingress_kind(&self) -> PortKind {
        PortKind::from_u8(self.ingress_kind).unwrap_or(PortKind::Wire)
    }

    /// Whether the answer is for a packet at hand, rather than for a live flow
    /// or a comparison.
    #[inline]
    pub fn is_new(&self) -> bool {
        self.origin == Origin::New as u8
    }

    /// Whether earlier stages have decided `field`.
    #[inline]
    pub fn has(&self, field: Field) -> bool {
        FieldSet::from_bits(self.decided).contains(field)
    }
}

/// The 16-byte form of an address: IPv4 as IPv4-mapped IPv6.
#[inline]
pub(crate) fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

#[inline]
fn address(version: u8, octets: &[u8; 16]) -> Option<IpAddr> {
    match version {
        4 => Some(IpAddr::V4(Ipv4Addr::new(octets[12], octets[13], octets[14], octets[15]))),
        6 => Some(IpAddr::V6(Ipv6Addr::from(*octets))),
        _ => None,
    }
}
