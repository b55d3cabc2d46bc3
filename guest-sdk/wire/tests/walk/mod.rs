//! Reads everything that every protocol can read of given octets.
//!
//! The one thing asked of it is to return: an accessor that panics on a checked view ends the
//! test or the fuzzer that called it.

use std::hint::black_box;

use millrace_wire::checksum::Pseudo;
use millrace_wire::ethernet::EtherType;
use millrace_wire::ip::Upper;
use millrace_wire::{
    IpProtocol, Ports, arp, dns, ethernet, icmpv4, icmpv6, ipv4, ipv6, sctp, tcp, udp, vlan, vxlan,
};

/// Follows a frame from the outside in, as a dataplane does.
pub(crate) fn frame(octets: &[u8]) {
    read(udp::payload_in(octets));
    read(tcp::segment_in(octets).map(|it| it.into_payload()));
    let Ok(frame) = ethernet::Frame::new_checked(octets) else {
        return;
    };
    read((frame.source(), frame.destination(), ethernet::Repr::parse(&frame)));
    payload(frame.ether_type(), frame.into_payload());

    let mut moved = octets.to_vec();
    if let Ok(tag) = vlan::pop(&mut moved) {
        vlan::push(&mut moved, tag).expect("there is room where the tag was");
        assert_eq!(moved, octets);
    }
}

/// Takes the octets for each protocol in turn.
pub(crate) fn all(octets: &[u8]) {
    frame(octets);
    for ether_type in [EtherType::VLAN, EtherType::ARP, EtherType::IPV4, EtherType::IPV6] {
        payload(ether_type, octets);
    }
    quoted(octets);
    for protocol in
        [IpProtocol::TCP, IpProtocol::UDP, IpProtocol::SCTP, IpProtocol::ICMPV4, IpProtocol::ICMPV6]
    {
        transport(protocol, octets, Pseudo::v6([1; 16].into(), [2; 16].into()));
    }
    vxlan(octets);
    names(octets);
}

fn payload(ether_type: EtherType, octets: &[u8]) {
    match ether_type {
        EtherType::VLAN | EtherType::SERVICE_VLAN => {
            if let Ok(frame) = vlan::Frame::new_checked(octets) {
                read((frame.tci(), frame.vid(), vlan::Repr::parse(&frame)));
                payload(frame.ether_type(), frame.into_payload());
            }
        }
        EtherType::ARP => {
            if let Ok(packet) = arp::Packet::new_checked(octets) {
                let arp = arp::Repr::parse(&packet).expect("the view is checked");
                read(arp.answer(packet.target_mac()));
            }
        }
        EtherType::IPV4 => {
            if let Ok(packet) = ipv4::Packet::new_checked(octets) {
                read(ipv4::Repr::parse(&packet));
                ipv4_fields(packet);
            }
        }
        EtherType::IPV6 => {
            if let Ok(packet) = ipv6::Packet::new_checked(octets) {
                read(ipv6::Repr::parse(&packet));
                ipv6_fields(packet);
            }
        }
        _ => {}
    }
}

fn quoted(octets: &[u8]) {
    read(Ports::parse(octets));
    if let Ok(packet) = ipv4::Packet::new_quoted(octets) {
        ipv4_fields(packet);
    }
    if let Ok(packet) = ipv6::Packet::new_quoted(octets) {
        ipv6_fields(packet);
    }
}

fn ipv4_fields(packet: ipv4::Packet<&[u8]>) {
    read((packet.options(), packet.dscp(), packet.ecn(), packet.ident(), packet.ttl()));
    read((packet.checksum(), packet.verify_checksum(), packet.dont_fragment()));
    upper(packet.upper(), packet.into_inner(), packet.into_payload(), packet.pseudo());
}

fn ipv6_fields(packet: ipv6::Packet<&[u8]>) {
    read((packet.dscp(), packet.ecn(), packet.flow_label(), packet.hop_limit()));
    assert!(packet.extension_headers().count() <= ipv6::MAX_EXTENSION_HEADERS + 1);
    if let Ok(found) = packet.upper() {
        upper(found, packet.into_inner(), packet.into_payload(), packet.pseudo());
    }
}

fn upper(upper: Upper, packet: &[u8], payload: &[u8], pseudo: Pseudo) {
    let octets = &packet[upper.offset..][..upper.len];
    assert!(payload.ends_with(octets));
    if upper.starts_here() {
        transport(upper.protocol, octets, pseudo);
    }
}

fn transport(protocol: IpProtocol, octets: &[u8], pseudo: Pseudo) {
    match protocol {
        IpProtocol::TCP => {
            if let Ok(segment) = tcp::Segment::new_checked(octets) {
                read((segment.seq(), segment.ack(), segment.flags(), segment.window()));
                read((segment.urgent(), segment.checksum(), segment.payload()));
                read((segment.verify_checksum(pseudo), tcp::Repr::parse(&segment)));
                assert!(segment.options().count() <= 40);
                let mut clamped = tcp::Segment::new_unchecked(octets.to_vec());
                read(clamped.clamp_mss(536));
            }
        }
        IpProtocol::UDP => {
            if let Ok(datagram) = udp::Datagram::new_checked(octets) {
                read((datagram.verify_checksum(pseudo), udp::Repr::parse(&datagram)));
                vxlan(datagram.into_payload());
                names(datagram.into_payload());
            }
        }
        IpProtocol::SCTP => {
            if let Ok(packet) = sctp::Packet::new_checked(octets) {
                read((packet.verify_checksum(), sctp::Repr::parse(&packet)));
                assert!(packet.chunks().count() <= octets.len() / 4);
            }
        }
        IpProtocol::ICMPV4 => {
            if let Ok(message) = icmpv4::Packet::new_checked(octets) {
                read((message.verify_checksum(), icmpv4::Repr::parse(&message)));
                message.quoted().into_iter().for_each(nested);
            }
        }
        IpProtocol::ICMPV6 => {
            if let Ok(message) = icmpv6::Packet::new_checked(octets) {
                read((message.verify_checksum(pseudo), icmpv6::Repr::parse(&message)));
                assert!(message.options().count() <= octets.len() / 8 + 1);
                message.quoted().into_iter().for_each(nested);
            }
        }
        _ => {}
    }
}

/// A quoted packet may quote another; each is at least eight octets shorter.
fn nested(octets: &[u8]) {
    quoted(octets);
}

fn vxlan(octets: &[u8]) {
    if let Ok(packet) = vxlan::Packet::new_checked(octets) {
        read((packet.vni(), vxlan::Repr::parse(&packet)));
        frame(packet.into_payload());
    }
}

fn names(octets: &[u8]) {
    let mut framed = dns::Framed::new(octets);
    let taken: usize = framed.by_ref().map(|it| it.len() + 2).sum();
    assert_eq!(taken + framed.rest().len(), octets.len());
    if let Some(message) = dns::Message::new(octets) {
        read((message.id(), message.is_answer(), message.is_plain()));
        message.question().into_iter().for_each(|it| assert!(it.name.text().is_ascii()));
        assert!(message.answers().count() <= octets.len() / 11);
    }
}

/// Keeps the optimiser from leaving out what nobody looks at.
fn read<T>(value: T) {
    black_box(value);
}
