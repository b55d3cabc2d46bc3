//! Gives a packet the ends that its connection has.
//!
//! Checksums change by what they cover (RFC 1624) and are never computed anew: one that was wrong
//! stays wrong. SCTP has a CRC, of the ports alone among what is rewritten here: it is computed
//! anew if it was right.

mod error;

use std::net::{Ipv4Addr, Ipv6Addr};

use millrace_abi::{Reason, Slot, slot_flag};
use millrace_parse::Layers;
use millrace_wire::checksum::Delta;
use millrace_wire::{IpProtocol, Ports, icmpv4, icmpv6, ipv4, ipv6, sctp, tcp, udp};

use crate::connections::{Endpoint, Translation};

/// Rewrites the ends of a packet that belongs to a connection: TCP, UDP, SCTP, an echo, an ICMP
/// error about one of these, or a fragment of such a packet.
///
/// # Errors
/// If a filter has made something else of the packet.
#[inline]
pub(crate) fn packet(
    frame: &mut [u8],
    slot: &Slot,
    layers: Layers,
    translation: &Translation,
) -> Result<(), Reason> {
    if *translation == Translation::default() {
        return Ok(());
    }
    let is = |flag| slot.flags & flag != 0;
    if is(slot_flag::LATER_FRAGMENT) {
        // what its checksum says of it is in the first fragment
        addresses(&mut frame[usize::from(layers.network)..], slot.ip_version, translation);
        return Ok(());
    }
    // of a part of the packet no checksum can be verified, and no CRC computed
    let has_new_crc = slot.protocol == IpProtocol::SCTP.0 && !keeps_ports(slot, translation);
    let needs_all = is(slot_flag::ICMP_ERROR) || has_new_crc;
    if layers.transport == 0 || (is(slot_flag::FIRST_FRAGMENT) && needs_all) {
        return Err(Reason::Unsupported);
    }
    let (head, segment) = frame.split_at_mut(usize::from(layers.transport));
    let network = &mut head[usize::from(layers.network)..];
    let len = match slot.ip_version {
        4 => ipv4::Packet::new_unchecked(&*network).total_len(),
        _ => ipv6::HEADER_LEN + ipv6::Packet::new_unchecked(&*network).payload_len(),
    };
    // the parser has seen that the packet's length fits the frame
    let segment = &mut segment[..len - network.len()];
    match (slot.ip_version, slot.flags & slot_flag::ICMP_ERROR != 0) {
        (4, true) => error::error_v4(network, segment, translation),
        (_, true) => error::error_v6(network, segment, translation),
        (version, false) => {
            let addresses = addresses(network, version, translation);
            transport(segment, IpProtocol(slot.protocol), addresses, translation);
        }
    }
    Ok(())
}

fn keeps_ports(slot: &Slot, translation: &Translation) -> bool {
    let is_kept = |end: &Option<Endpoint>, port| end.is_none_or(|end| end.port == port);
    is_kept(&translation.source, slot.src_port) && is_kept(&translation.destination, slot.dst_port)
}

fn addresses(header: &mut [u8], ip_version: u8, translation: &Translation) -> Delta {
    match ip_version {
        4 => addresses_v4(header, translation),
        _ => addresses_v6(header, translation),
    }
}

/// Rewrites the addresses of an IPv4 header, and its checksum.
fn addresses_v4(header: &mut [u8], translation: &Translation) -> Delta {
    let mut packet = ipv4::Packet::new_unchecked(header);
    let mut delta = Delta::NONE;
    if let Some(source) = translation.source.as_ref().map(v4) {
        delta = delta.ipv4(packet.source(), source);
        packet.set_source(source);
    }
    if let Some(destination) = translation.destination.as_ref().map(v4) {
        delta = delta.ipv4(packet.destination(), destination);
        packet.set_destination(destination);
    }
    packet.set_checksum(delta.apply(packet.checksum()));
    delta
}

/// Rewrites the addresses of an IPv6 header.
fn addresses_v6(header: &mut [u8], translation: &Translation) -> Delta {
    let mut packet = ipv6::Packet::new_unchecked(header);
    let mut delta = Delta::NONE;
    if let Some(source) = translation.source.as_ref().map(v6) {
        delta = delta.ipv6(packet.source(), source);
        packet.set_source(source);
    }
    if let Some(destination) = translation.destination.as_ref().map(v6) {
        delta = delta.ipv6(packet.destination(), destination);
        packet.set_destination(destination);
    }
    delta
}

/// Rewrites the ports, or the identifier of an echo, and the checksum, which covers the addresses
/// too, but for SCTP's and ICMP's.
fn transport(
    segment: &mut [u8],
    protocol: IpProtocol,
    addresses: Delta,
    translation: &Translation,
) {
    match protocol {
        IpProtocol::TCP => {
            let delta = addresses.and(ports(segment, translation));
            let mut segment = tcp::Segment::new_unchecked(segment);
            segment.set_checksum(delta.apply(segment.checksum()));
        }
        IpProtocol::UDP => {
            let delta = addresses.and(ports(segment, translation));
            let mut datagram = udp::Datagram::new_unchecked(segment);
            datagram.set_checksum(delta.apply_udp(datagram.checksum()));
        }
        IpProtocol::SCTP => {
            let old = Ports::parse(segment);
            let is_right = sctp::Packet::new_unchecked(&*segment).verify_checksum();
            ports(segment, translation);
            if is_right && Ports::parse(segment) != old {
                sctp::Packet::new_unchecked(segment).fill_checksum();
            }
        }
        IpProtocol::ICMPV4 => {
            let mut echo = icmpv4::Packet::new_unchecked(segment);
            if let Some(ident) = ident(translation) {
                let delta = Delta::NONE.u16(echo.ident(), ident);
                echo.set_ident(ident);
                echo.set_checksum(delta.apply(echo.checksum()));
            }
        }
        IpProtocol::ICMPV6 => {
            let mut echo = icmpv6::Packet::new_unchecked(segment);
            let mut delta = addresses;
            if let Some(ident) = ident(translation) {
                delta = delta.u16(echo.ident(), ident);
                echo.set_ident(ident);
            }
            echo.set_checksum(delta.apply(echo.checksum()));
        }
        _ => {}
    }
}

/// Rewrites the ports at the start of a header.
fn ports(segment: &mut [u8], translation: &Translation) -> Delta {
    let Some(old) = Ports::parse(segment) else { return Delta::NONE };
    let new = Ports {
        source: translation.source.map_or(old.source, |end| end.port),
        destination: translation.destination.map_or(old.destination, |end| end.port),
    };
    new.emit(segment);
    Delta::NONE.u16(old.source, new.source).u16(old.destination, new.destination)
}

/// The identifier an echo gets: it is at both ends.
fn ident(translation: &Translation) -> Option<u16> {
    translation.source.or(translation.destination).map(|end| end.port)
}

fn v4(end: &Endpoint) -> Ipv4Addr {
    let [.., a, b, c, d] = end.address;
    Ipv4Addr::new(a, b, c, d)
}

fn v6(end: &Endpoint) -> Ipv6Addr {
    Ipv6Addr::from(end.address)
}

#[cfg(test)]
mod tests;
