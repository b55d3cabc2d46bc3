//! IPv4 and IPv6: addresses, the way to the upper header, and what must not be on a link.

use core::net::{Ipv4Addr, Ipv6Addr};

use millrace_abi::{Class, Reason, Slot, slot_flag};
use millrace_wire::ip::{Fragment, Upper};
use millrace_wire::{Malformed, ipv4, ipv6};

use crate::{Layers, transport};

/// Reads an IPv4 packet that begins `offset` bytes into its frame.
#[inline]
pub(crate) fn ipv4(bytes: &[u8], offset: usize, slot: &mut Slot) -> Result<Layers, Reason> {
    let packet = ipv4::Packet::new_checked(bytes).map_err(reason)?;
    if !packet.verify_checksum() {
        return Err(Reason::BadIpv4Checksum);
    }
    let (source, destination) = (packet.source(), packet.destination());
    slot.ip_version = 4;
    set_addresses(slot, source.to_ipv6_mapped(), destination.to_ipv6_mapped());
    slot.ttl = packet.ttl();
    slot.traffic_class = packet.dscp() << 2 | packet.ecn().bits();
    if is_martian_v4(source, destination) {
        return Err(Reason::Martian);
    }
    upper(bytes, offset, packet.upper(), IPV4_HEADER, slot)
}

/// Reads an IPv6 packet that begins `offset` bytes into its frame.
#[inline]
pub(crate) fn ipv6(bytes: &[u8], offset: usize, slot: &mut Slot) -> Result<Layers, Reason> {
    let packet = ipv6::Packet::new_checked(bytes).map_err(reason)?;
    let (source, destination) = (packet.source(), packet.destination());
    slot.ip_version = 6;
    set_addresses(slot, source, destination);
    slot.ttl = packet.hop_limit();
    slot.traffic_class = packet.dscp() << 2 | packet.ecn().bits();
    if is_martian_v6(source, destination) {
        return Err(Reason::Martian);
    }
    upper(bytes, offset, packet.upper().map_err(reason)?, IPV6_HEADER, slot)
}

/// Where a packet comes from and where it goes; as long as nobody translates it, it goes to its
/// destination.
#[inline]
pub(crate) fn set_addresses(slot: &mut Slot, source: Ipv6Addr, destination: Ipv6Addr) {
    // not `to_addr` from `dst_addr`: to read at once what was written in parts takes long
    let destination = u128::from(destination).to_be_bytes();
    slot.src_addr = u128::from(source).to_be_bytes();
    slot.dst_addr = destination;
    slot.to_addr = destination;
}

/// Goes on to what `upper` says; `plain` is the length of an IP header without more to it.
#[inline(always)]
fn upper(
    packet: &[u8],
    offset: usize,
    upper: Upper,
    plain: usize,
    slot: &mut Slot,
) -> Result<Layers, Reason> {
    slot.protocol = upper.protocol.0;
    if upper.offset != plain {
        slot.flags |= slot_flag::OPTIONS;
    }
    let mut layers = Layers { network: offset as u16, transport: 0 };
    if upper.fragment.is_some_and(|fragment| !fits(fragment, upper.len)) {
        return Err(Reason::BadFragment);
    }
    match upper.fragment {
        Some(fragment) if fragment.is_atomic() => {}
        Some(_) if upper.starts_here() => slot.flags |= slot_flag::FIRST_FRAGMENT,
        Some(_) => {
            slot.flags |= slot_flag::LATER_FRAGMENT;
            slot.class = Class::Fragment as u8;
            return Ok(layers);
        }
        None => {}
    }

    let class = transport::read(&packet[upper.offset..][..upper.len], upper.protocol, slot)?;
    let fragmented = slot.flags & slot_flag::FIRST_FRAGMENT != 0;
    slot.class = match class {
        Class::Nd => Class::Nd,
        _ if fragmented => Class::Fragment,
        Class::Flow if slot.flags & slot_flag::OPTIONS != 0 => Class::OtherIp,
        class => class,
    } as u8;
    if class != Class::OtherIp {
        layers.transport = (offset + upper.offset) as u16;
    }
    Ok(layers)
}

/// Whether a fragment of `len` bytes can be put in its place (RFC 791 section 3.2, RFC 8200
/// section 4.5).
fn fits(fragment: Fragment, len: usize) -> bool {
    let is_whole = len.is_multiple_of(FRAGMENT_UNIT) || !fragment.more;
    is_whole && usize::from(fragment.offset) + len <= LONGEST
}

/// RFC 1122 section 3.2.1.3: what a source may not be, and what stays inside a host.
fn is_martian_v4(source: Ipv4Addr, destination: Ipv4Addr) -> bool {
    source.is_multicast()
        || source.is_broadcast()
        || source.is_loopback()
        || destination.is_loopback()
        || destination.is_unspecified()
}

/// RFC 4291 sections 2.5.2, 2.5.3, 2.5.5.2 and 2.7. IPv4-mapped addresses stand for IPv4 in
/// slots: on the wire they could only deceive.
fn is_martian_v6(source: Ipv6Addr, destination: Ipv6Addr) -> bool {
    source.is_multicast()
        || source.is_loopback()
        || destination.is_loopback()
        || destination.is_unspecified()
        || source.to_ipv4_mapped().is_some()
        || destination.to_ipv4_mapped().is_some()
}

fn reason(fault: Malformed) -> Reason {
    match fault {
        Malformed::TruncatedIpv4 => Reason::TruncatedIpv4,
        Malformed::BadIpv4TotalLength => Reason::BadIpv4Length,
        Malformed::BadIpv4Version | Malformed::BadIpv4HeaderLength => Reason::BadIpv4Header,
        Malformed::TruncatedIpv6 => Reason::TruncatedIpv6,
        Malformed::BadIpv6Version => Reason::BadIpv6Header,
        Malformed::BadIpv6PayloadLength => Reason::BadIpv6Length,
        // the walk along the extension headers is all that is left
        _ => Reason::BadExtensionHeaders,
    }
}

/// Bytes of an IPv4 header without options.
const IPV4_HEADER: usize = 20;
/// Bytes of an IPv6 header without extension headers.
const IPV6_HEADER: usize = 40;
/// Fragments but the last are so many bytes long, or a multiple.
const FRAGMENT_UNIT: usize = 8;
/// Bytes of the longest datagram, behind its header.
const LONGEST: usize = 65_535;
