//! TCP, UDP, SCTP and ICMP: ports, flags and types.

use millrace_abi::{Class, Reason, Slot, slot_flag};
use millrace_wire::{IpProtocol, Malformed, icmpv4, icmpv6, sctp, tcp, udp};

/// Reads the upper header at the start of `bytes`, and says what class that makes of a packet
/// without options that is no fragment.
#[inline]
pub(crate) fn read(bytes: &[u8], protocol: IpProtocol, slot: &mut Slot) -> Result<Class, Reason> {
    let fragmented = slot.flags & slot_flag::FIRST_FRAGMENT != 0;
    match protocol {
        IpProtocol::TCP => {
            let segment = tcp::Segment::new_checked(bytes).map_err(reason)?;
            slot.src_port = segment.source_port();
            slot.dst_port = segment.destination_port();
            slot.tcp_flags = segment.flags().0;
            Ok(Class::Flow)
        }
        IpProtocol::UDP => {
            let datagram = match udp::Datagram::new_checked(bytes) {
                // the length is that of the whole datagram, of which this is a part
                Err(Malformed::BadUdpLength) if fragmented => udp::Datagram::new_unchecked(bytes),
                other => other.map_err(reason)?,
            };
            slot.src_port = datagram.source_port();
            slot.dst_port = datagram.destination_port();
            Ok(Class::Flow)
        }
        IpProtocol::SCTP => {
            let packet = sctp::Packet::new_checked(bytes).map_err(reason)?;
            slot.src_port = packet.source_port();
            slot.dst_port = packet.destination_port();
            Ok(Class::Flow)
        }
        IpProtocol::ICMPV4 if slot.ip_version == 4 => icmp(bytes, slot),
        IpProtocol::ICMPV6 if slot.ip_version == 6 => icmp6(bytes, slot),
        _ => Ok(Class::OtherIp),
    }
}

fn icmp(bytes: &[u8], slot: &mut Slot) -> Result<Class, Reason> {
    let packet = icmpv4::Packet::new_checked(bytes).map_err(reason)?;
    let kind = packet.kind();
    slot.icmp_type = kind.0;
    slot.icmp_code = packet.code();
    if kind.is_error() {
        slot.flags |= slot_flag::ICMP_ERROR;
    } else if matches!(kind, icmpv4::Kind::ECHO_REQUEST | icmpv4::Kind::ECHO_REPLY) {
        slot.src_port = packet.ident();
    }
    Ok(Class::Icmp)
}

fn icmp6(bytes: &[u8], slot: &mut Slot) -> Result<Class, Reason> {
    // the type first: a short message of neighbour discovery is its own fault
    let discovery = bytes.first().is_some_and(|&kind| icmpv6::Kind(kind).is_neighbor_discovery());
    if discovery {
        return nd(bytes, slot);
    }
    let packet = icmpv6::Packet::new_checked(bytes).map_err(reason)?;
    let kind = packet.kind();
    slot.icmp_type = kind.0;
    slot.icmp_code = packet.code();
    if kind.is_error() {
        slot.flags |= slot_flag::ICMP_ERROR;
    } else if matches!(kind, icmpv6::Kind::ECHO_REQUEST | icmpv6::Kind::ECHO_REPLY) {
        slot.src_port = packet.ident();
    }
    Ok(Class::Icmp)
}

/// Neighbour discovery as RFC 4861 wants it: from this link (hop limit 255), whole, with code 0
/// and options that fit (sections 6.1 and 7.1).
fn nd(bytes: &[u8], slot: &mut Slot) -> Result<Class, Reason> {
    let packet = icmpv6::Packet::new_checked(bytes).map_err(|_| Reason::BadNd)?;
    slot.icmp_type = packet.kind().0;
    slot.icmp_code = packet.code();
    let whole = slot.flags & slot_flag::FIRST_FRAGMENT == 0;
    let sound = packet.options().all(|option| option.is_ok());
    if slot.ttl == 255 && packet.code() == 0 && whole && sound {
        Ok(Class::Nd)
    } else {
        Err(Reason::BadNd)
    }
}

fn reason(fault: Malformed) -> Reason {
    match fault {
        Malformed::BadTcpDataOffset | Malformed::BadUdpLength => Reason::BadTransport,
        _ => Reason::TruncatedTransport,
    }
}
