//! ICMP errors about translated packets: outside and inside, so that who gets one finds the packet
//! that it sent (RFC 5508 section 4.2).

use std::net::{Ipv4Addr, Ipv6Addr};

use millrace_wire::checksum::Delta;
use millrace_wire::{IpProtocol, icmpv4, icmpv6, ipv4, ipv6, sctp, tcp};

use super::{addresses_v4, addresses_v6, ports, transport};
use crate::connections::Translation;

/// Rewrites an error, whose header is `network`, that comes the way of a connection's packets with
/// this translation. Whoever is not the end itself keeps its address.
pub(super) fn error_v4(network: &mut [u8], message: &mut [u8], translation: &Translation) {
    let mut message = icmpv4::Packet::new_unchecked(message);
    let is_right = message.verify_checksum();
    let from = ipv4::Packet::new_unchecked(&*network).source();
    let Some(about) = message.quoted_mut().and_then(|quote| quoted_v4(quote, translation)) else {
        return;
    };
    addresses_v4(network, &outside(translation, from == about));
    if is_right {
        message.fill_checksum();
    }
}

/// The same for IPv6.
pub(super) fn error_v6(network: &mut [u8], message: &mut [u8], translation: &Translation) {
    let header = ipv6::Packet::new_unchecked(&*network);
    let (from, pseudo) = (header.source(), header.pseudo());
    let mut message = icmpv6::Packet::new_unchecked(message);
    let is_right = message.verify_checksum(pseudo);
    let Some(about) = message.quoted_mut().and_then(|quote| quoted_v6(quote, translation)) else {
        return;
    };
    addresses_v6(network, &outside(translation, from == about));
    if is_right {
        message.fill_checksum(ipv6::Packet::new_unchecked(&*network).pseudo());
    }
}

/// Rewrites a quoted packet, and says whom it was for.
fn quoted_v4(quote: &mut [u8], translation: &Translation) -> Option<Ipv4Addr> {
    let packet = ipv4::Packet::new_quoted(&*quote).ok()?;
    let (about, protocol) = (packet.destination(), packet.protocol());
    let (header, segment) = quote.split_at_mut_checked(packet.header_len())?;
    let inside = inside(translation);
    let addresses = addresses_v4(header, &inside);
    quoted_transport(segment, protocol, addresses, &inside);
    Some(about)
}

fn quoted_v6(quote: &mut [u8], translation: &Translation) -> Option<Ipv6Addr> {
    let packet = ipv6::Packet::new_quoted(&*quote).ok()?;
    let (about, upper) = (packet.destination(), packet.upper().ok()?);
    let (header, segment) = quote.split_at_mut_checked(upper.offset)?;
    let inside = inside(translation);
    let addresses = addresses_v6(header, &inside);
    quoted_transport(segment, upper.protocol, addresses, &inside);
    Some(about)
}

/// Rewrites as much of a transport header as is quoted.
fn quoted_transport(
    segment: &mut [u8],
    protocol: IpProtocol,
    addresses: Delta,
    inside: &Translation,
) {
    let whole = match protocol {
        IpProtocol::TCP => tcp::HEADER_LEN,
        IpProtocol::SCTP => sctp::HEADER_LEN,
        _ => QUOTED,
    };
    if segment.len() >= whole {
        transport(segment, protocol, addresses, inside);
    } else if protocol.has_ports() && segment.len() >= 4 {
        ports(segment, inside);
    }
}

/// The quoted packet went the other way.
fn inside(translation: &Translation) -> Translation {
    Translation { source: translation.destination, destination: translation.source }
}

fn outside(translation: &Translation, is_from_the_end: bool) -> Translation {
    let source = translation.source.filter(|_| is_from_the_end);
    Translation { source, destination: translation.destination }
}

/// What of a segment is quoted at least (RFC 792).
const QUOTED: usize = 8;
