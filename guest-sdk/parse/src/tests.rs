extern crate std;

use core::net::{Ipv4Addr, Ipv6Addr};
use std::vec;
use std::vec::Vec;

use millrace_abi::{Class, Reason, ReasonGroup, Slot, slot_flag};
use millrace_wire::builder::{self, Ethernet, Ip};
use millrace_wire::vlan::{Tci, Vid};
use millrace_wire::{IpProtocol, MacAddr, Ports, arp, icmpv4, icmpv6, ipv4, ipv6, sctp, tcp};
use proptest::prelude::*;

use crate::{Layers, flow_hash, long_way, mark, parse, plain, repeats};

const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const A4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const B4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const A6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const B6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
const PORTS: Ports = Ports { source: 4000, destination: 53 };

fn built(build: impl FnOnce(&mut [u8]) -> Result<usize, builder::BuildError>) -> Vec<u8> {
    let mut buffer = [0; 512];
    let len = build(&mut buffer).expect("it fits");
    buffer[..len].to_vec()
}

fn ethernet() -> Ethernet {
    Ethernet::new(A, B)
}

fn udp(ip: Ip) -> Vec<u8> {
    built(|buffer| builder::udp(buffer, &ethernet(), &ip, PORTS, b"payload"))
}

fn plain_tcp(ip: Ip) -> Vec<u8> {
    built(|buffer| builder::tcp(buffer, &ethernet(), &ip, &tcp_repr(), b"data"))
}

/// One good frame of every kind, with the class it is and where its headers are.
fn specimens() -> Vec<(&'static str, Vec<u8>, Class, Layers)> {
    let tagged = ethernet().tagged(Tci::of(Vid::new(7).expect("7 is a VLAN")));
    let syn = tcp::Repr { flags: tcp::Flags::SYN, max_segment_size: Some(1460), ..tcp_repr() };
    let v4 = ipv4::Repr::new(A4, B4);
    let v6 = ipv6::Repr::new(A6, B6);
    let solicit = icmpv6::Repr::NeighborSolicitation { target: B6 };
    let echo = icmpv4::Repr::EchoRequest { ident: 77, sequence: 1 };
    let echo6 = icmpv6::Repr::EchoRequest { ident: 77, sequence: 1 };
    let layers = |network, transport| Layers { network, transport };
    vec![
        ("udp", udp(Ip::v4(A4, B4)), Class::Flow, layers(14, 34)),
        ("udp6", udp(Ip::v6(A6, B6)), Class::Flow, layers(14, 54)),
        (
            "tagged tcp",
            built(|b| builder::tcp(b, &tagged, &Ip::v4(A4, B4), &syn, b"")),
            Class::Flow,
            layers(18, 38),
        ),
        (
            "sctp",
            built(|b| builder::sctp(b, &ethernet(), &Ip::v6(A6, B6), &sctp_repr(), &[0; 4])),
            Class::Flow,
            layers(14, 54),
        ),
        (
            "echo",
            built(|b| builder::icmpv4(b, &ethernet(), &v4, &echo, b"ping")),
            Class::Icmp,
            layers(14, 34),
        ),
        (
            "echo6",
            built(|b| builder::icmpv6(b, &ethernet(), &v6, &echo6, b"ping")),
            Class::Icmp,
            layers(14, 54),
        ),
        (
            "nd",
            built(|b| {
                let v6 = ipv6::Repr { hop_limit: 255, ..v6 };
                builder::icmpv6(b, &ethernet(), &v6, &solicit, b"")
            }),
            Class::Nd,
            layers(14, 54),
        ),
        (
            "arp",
            built(|b| builder::arp(b, &ethernet(), &arp::Repr::request(A, A4, B4))),
            Class::Arp,
            layers(0, 0),
        ),
        (
            "gre",
            built(|b| builder::ip(b, &ethernet(), &Ip::v4(A4, B4), IpProtocol::GRE, b"gre")),
            Class::OtherIp,
            layers(14, 0),
        ),
        ("lldp", [&B.0[..], &A.0, &[0x88, 0xcc, 2, 7]].concat(), Class::NonIp, layers(0, 0)),
        ("tcp", plain_tcp(Ip::v4(A4, B4)), Class::Flow, layers(14, 34)),
        ("tcp6", plain_tcp(Ip::v6(A6, B6)), Class::Flow, layers(14, 54)),
    ]
}

fn tcp_repr() -> tcp::Repr {
    tcp::Repr { seq: 1, flags: tcp::Flags::ACK, window: 1000, ports: PORTS, ..tcp::Repr::default() }
}

fn sctp_repr() -> sctp::Repr {
    sctp::Repr { ports: PORTS, tag: 9 }
}

#[test]
fn every_kind_of_frame_gets_its_class_and_layers() {
    for (kind, frame, class, layers) in specimens() {
        let mut slot = Slot::ZERO;
        assert_eq!(parse(&frame, &mut slot), Ok(layers), "{kind}");
        assert_eq!(slot.class(), class, "{kind}");
        assert_eq!(slot.len as usize, frame.len(), "{kind}");
        assert_eq!((slot.src_mac, slot.dst_mac), (A.0, B.0), "{kind}");
    }
}

#[test]
fn a_slot_holds_what_the_frame_says_and_keeps_its_ingress() {
    let specimens = specimens();
    let mut slot = Slot { ingress: 9, now_ns: 5, origin: 1, egress: 3, ..Slot::ZERO };
    parse(&specimens[2].1, &mut slot).expect("it is well-formed");
    let expected = Slot {
        src_addr: A4.to_ipv6_mapped().octets(),
        dst_addr: B4.to_ipv6_mapped().octets(),
        src_port: 4000,
        dst_port: 53,
        ip_version: 4,
        protocol: 6,
        ttl: 64,
        src_mac: A.0,
        dst_mac: B.0,
        ethertype: 0x0800,
        vlan: 7,
        ingress: 9,
        origin: 1,
        tcp_flags: tcp::Flags::SYN.0,
        flags: slot_flag::TAGGED,
        hash: slot.hash,
        now_ns: 5,
        to_addr: B4.to_ipv6_mapped().octets(),
        to_port: 53,
        len: 62,
        ..Slot::ZERO
    };
    assert_eq!(slot, expected);
}

#[test]
fn every_truncation_of_every_header_is_malformed_for_a_reason() {
    for (kind, frame, class, layers) in specimens() {
        // headers end where the shortest payload may begin
        let headers = match class {
            Class::Arp | Class::NonIp => 14,
            _ => usize::from(layers.network.max(layers.transport)) + 8,
        };
        for len in 0..frame.len() {
            let mut slot = Slot::ZERO;
            match parse(&frame[..len], &mut slot) {
                Err(reason) => assert_eq!(reason.group(), ReasonGroup::Malformed, "{kind} {len}"),
                Ok(_) => assert!(len >= headers && class == Class::NonIp, "{kind} cut to {len}"),
            }
        }
    }
}

#[test]
fn lengths_that_lie_are_named() {
    let reason = |frame: &[u8]| parse(frame, &mut Slot::ZERO.clone()).expect_err("it lies");
    let edit = |mut frame: Vec<u8>, at: usize, value: u16| {
        frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
        if frame[12..14] == [8, 0] {
            ipv4::Packet::new_unchecked(&mut frame[14..]).fill_checksum();
        }
        frame
    };
    let v4 = || udp(Ip::v4(A4, B4));
    let v6 = || udp(Ip::v6(A6, B6));
    assert_eq!(reason(&edit(v4(), 16, 9000)), Reason::BadIpv4Length);
    assert_eq!(reason(&edit(v4(), 16, 19)), Reason::BadIpv4Length);
    assert_eq!(reason(&edit(v4(), 38, 7)), Reason::BadTransport);
    assert_eq!(reason(&edit(v4(), 38, 9000)), Reason::BadTransport);
    assert_eq!(reason(&edit(v6(), 18, 9000)), Reason::BadIpv6Length);
    assert_eq!(reason(&edit(v6(), 18, 3)), Reason::TruncatedTransport);
    let mut options = v4();
    options[14] = 0x4f;
    assert_eq!(reason(&options), Reason::TruncatedIpv4);
    let mut checksum = v4();
    checksum[24] ^= 1;
    assert_eq!(reason(&checksum), Reason::BadIpv4Checksum);
}

#[test]
fn addresses_that_must_not_be_on_a_link_are_martians() {
    for (source, destination) in [
        ([224, 0, 0, 1], [10, 0, 0, 2]),
        ([255, 255, 255, 255], [10, 0, 0, 2]),
        ([127, 0, 0, 1], [10, 0, 0, 2]),
        ([10, 0, 0, 1], [127, 0, 0, 1]),
        ([10, 0, 0, 1], [0, 0, 0, 0]),
    ] {
        let frame = udp(Ip::v4(source, destination));
        assert_eq!(parse(&frame, &mut Slot::ZERO.clone()), Err(Reason::Martian), "{source:?}");
    }
    for (source, destination) in [
        (Ipv6Addr::LOCALHOST, B6),
        (A6, Ipv6Addr::UNSPECIFIED),
        (A4.to_ipv6_mapped(), B6),
        (A6, B4.to_ipv6_mapped()),
        (Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), B6),
    ] {
        let frame = udp(Ip::v6(source, destination));
        assert_eq!(parse(&frame, &mut Slot::ZERO.clone()), Err(Reason::Martian), "{source}");
    }
    // a client without an address yet (RFC 2131) is none
    let discover = udp(Ip::v4([0, 0, 0, 0], [255, 255, 255, 255]));
    assert!(parse(&discover, &mut Slot::ZERO.clone()).is_ok());
}

/// A part of a datagram with a multiple of eight octets in it, as all but the last have.
fn fragment(offset: u16, more: bool) -> Vec<u8> {
    let mut frame = udp(Ip::v4(A4, B4));
    frame.push(0);
    let len = (frame.len() - 14) as u16;
    frame[16..18].copy_from_slice(&len.to_be_bytes());
    let mut packet = ipv4::Packet::new_unchecked(&mut frame[14..]);
    packet.set_fragment_offset(offset);
    packet.set_more_fragments(more);
    packet.fill_checksum();
    frame
}

#[test]
fn fragments_and_options_are_classes_of_their_own() {
    let fragment = |offset, more| {
        let frame = fragment(offset, more);
        let mut slot = Slot::ZERO;
        let layers = parse(&frame, &mut slot).expect("it is well-formed");
        (slot, layers)
    };
    let (first, layers) = fragment(0, true);
    assert_eq!((first.class(), first.dst_port), (Class::Fragment, 53));
    assert_eq!(first.flags, slot_flag::FIRST_FRAGMENT);
    assert_eq!(layers.transport, 34);
    let (later, layers) = fragment(8, false);
    assert_eq!((later.class(), later.dst_port), (Class::Fragment, 0));
    assert_eq!(later.flags, slot_flag::LATER_FRAGMENT);
    assert_eq!(layers.transport, 0);

    // an empty hop-by-hop header (RFC 8200 section 4.3) in front of UDP
    let mut frame = udp(Ip::v6(A6, B6));
    frame[20] = 0;
    frame.splice(54..54, [17, 0, 1, 4, 0, 0, 0, 0]);
    frame[18..20].copy_from_slice(&23u16.to_be_bytes());
    let mut slot = Slot::ZERO;
    assert_eq!(parse(&frame, &mut slot), Ok(Layers { network: 14, transport: 62 }));
    assert_eq!((slot.class(), slot.dst_port), (Class::OtherIp, 53));
    assert_eq!(slot.flags, slot_flag::OPTIONS);
}

#[test]
fn the_first_fragment_of_a_large_datagram_is_no_lie() {
    let mut frame = fragment(0, true);
    frame[38..40].copy_from_slice(&3000u16.to_be_bytes());
    assert!(parse(&frame, &mut Slot::ZERO.clone()).is_ok());
}

#[test]
fn a_fragment_that_has_no_place_in_a_datagram_is_refused() {
    let mut odd = fragment(0, true);
    let len = (odd.len() - 14 - 1) as u16;
    odd[16..18].copy_from_slice(&len.to_be_bytes());
    ipv4::Packet::new_unchecked(&mut odd[14..]).fill_checksum();
    for frame in [odd, fragment(65_528, false)] {
        assert_eq!(parse(&frame, &mut Slot::ZERO.clone()), Err(Reason::BadFragment));
    }
}

#[test]
fn a_frame_with_three_tags_is_refused() {
    let tag = [0x81, 0x00, 0, 5];
    let frame =
        |tags: usize| [&B.0[..], &A.0, &tag.repeat(tags), &udp(Ip::v4(A4, B4))[12..]].concat();
    let mut slot = Slot::ZERO;
    assert_eq!(parse(&frame(2), &mut slot), Ok(Layers { network: 22, transport: 42 }));
    assert_eq!(slot.vlan, 5);
    assert_eq!(parse(&frame(3), &mut slot), Err(Reason::BadVlan));
}

#[test]
fn neighbour_discovery_from_beyond_the_link_is_refused() {
    let mut frame = specimens().swap_remove(6).1;
    frame[21] = 254;
    assert_eq!(parse(&frame, &mut Slot::ZERO.clone()), Err(Reason::BadNd));
}

#[test]
fn a_group_address_as_source_is_refused() {
    let mut frame = udp(Ip::v4(A4, B4));
    frame[6] |= 1;
    assert_eq!(parse(&frame, &mut Slot::ZERO.clone()), Err(Reason::MulticastSource));
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Err(reason) = parse(&bytes, &mut Slot::ZERO.clone()) {
            prop_assert_eq!(reason.group(), ReasonGroup::Malformed);
        }
    }

    #[test]
    fn damaged_frames_are_read_or_refused(
        which in 0..12usize,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let mut frame = specimens().swap_remove(which).1;
        for (index, value) in edits {
            let at = index.index(frame.len());
            frame[at] = value;
        }
        let mut slot = Slot::ZERO;
        match parse(&frame, &mut slot) {
            Ok(layers) => {
                prop_assert!(usize::from(layers.network) < frame.len());
                prop_assert!(usize::from(layers.transport) <= frame.len());
            }
            Err(reason) => prop_assert_eq!(reason.group(), ReasonGroup::Malformed),
        }
    }

    #[test]
    fn the_short_way_says_what_the_long_way_says(
        which in prop_oneof![prop::sample::select(vec![0, 1, 10, 11]), 0..12usize],
        padding in 0..3usize,
        edits in prop::collection::vec((0..60usize, any::<u8>()), 0..3),
    ) {
        let mut frame = specimens().swap_remove(which).1;
        frame.resize(frame.len() + padding, 0xa5);
        for (at, value) in edits {
            if let Some(octet) = frame.get_mut(at) {
                *octet = value;
            }
        }
        // most edits of an IPv4 header would end at its checksum
        if frame[12..15] == [8, 0, 0x45] {
            ipv4::Packet::new_unchecked(&mut frame[14..]).fill_checksum();
        }
        let (mut short, mut long) = (Slot::ZERO, Slot::ZERO);
        if let Some(layers) = plain::read(&frame, &mut short) {
            prop_assert_eq!(long_way(&frame, &mut long), Ok(layers));
            prop_assert_eq!(short, long);
        } else {
            prop_assert_eq!(short, Slot::ZERO);
        }
    }

    #[test]
    fn a_frame_that_repeats_the_one_before_is_read_as_that_is(
        which in prop_oneof![prop::sample::select(vec![0, 1, 10, 11]), 0..12usize],
        ident in any::<u16>(),
        is_summed_up in any::<bool>(),
        edits in prop::collection::vec((0..70usize, any::<u8>()), 0..2),
    ) {
        let before = specimens().swap_remove(which).1;
        let mut frame = before.clone();
        for (at, value) in edits {
            if let Some(octet) = frame.get_mut(at) {
                *octet = value;
            }
        }
        if frame[12..15] == [8, 0, 0x45] && is_summed_up {
            let mut packet = ipv4::Packet::new_unchecked(&mut frame[14..]);
            packet.set_ident(ident);
            packet.fill_checksum();
        }
        if repeats(&frame, &before) {
            prop_assert_eq!(mark(&frame), mark(&before));
            let (mut slot, mut slot_before) = (Slot::ZERO, Slot::ZERO);
            let layers = long_way(&before, &mut slot_before);
            prop_assert!(layers.is_ok());
            prop_assert_eq!(long_way(&frame, &mut slot), layers);
            prop_assert_eq!(slot, slot_before);
        }
    }

    #[test]
    fn both_directions_of_a_flow_have_one_hash(
        a in any::<[u8; 16]>(), b in any::<[u8; 16]>(), sport in any::<u16>(), dport in any::<u16>(),
    ) {
        let slot = |src_addr, src_port, dst_addr, dst_port| {
            let slot = Slot { src_addr, dst_addr, src_port, dst_port, ip_version: 6, ..Slot::ZERO };
            flow_hash(&slot)
        };
        prop_assert_eq!(slot(a, sport, b, dport), slot(b, dport, a, sport));
    }

    #[test]
    fn an_echo_and_its_reply_have_one_hash(
        a in any::<[u8; 16]>(), b in any::<[u8; 16]>(), ident in any::<u16>(),
        (ip_version, protocol) in prop_oneof![Just((4, 1)), Just((6, 58))],
    ) {
        let slot = |src_addr, dst_addr, src_port| {
            flow_hash(
                &Slot { src_addr, dst_addr, src_port, ip_version, protocol, ..Slot::ZERO }
            )
        };
        prop_assert_eq!(slot(a, b, ident), slot(b, a, ident));
        prop_assert_ne!(slot(a, b, ident), slot(a, b, ident.wrapping_add(1)));
    }
}

#[test]
fn plain_tcp_and_udp_go_the_short_way_and_nothing_else_does() {
    let is_plain = |frame: &[u8]| plain::read(frame, &mut Slot::ZERO.clone()).is_some();
    for (kind, frame, ..) in specimens() {
        assert_eq!(is_plain(&frame), ["udp", "udp6", "tcp", "tcp6"].contains(&kind), "{kind}");
    }
    assert!(!is_plain(&fragment(0, true)) && !is_plain(&fragment(8, false)));
}

#[test]
fn datagrams_and_segments_of_a_flow_are_a_train() {
    for (kind, before, ..) in specimens() {
        let mut frame = before.clone();
        let len = frame.len();
        frame[len - 1] ^= 1;
        if frame[12..14] == [8, 0] {
            let mut packet = ipv4::Packet::new_unchecked(&mut frame[14..]);
            packet.set_ident(0xfffe);
            packet.fill_checksum();
        }
        let is_train = ["udp", "udp6", "tcp", "tcp6"].contains(&kind);
        assert_eq!(repeats(&frame, &before), is_train, "{kind}");
        assert!(!is_train || mark(&frame) == mark(&before), "{kind}");

        frame.push(0);
        assert!(!repeats(&frame, &before), "{kind}");
    }
}

#[test]
fn a_frame_with_a_wrong_header_checksum_repeats_nothing() {
    let before = udp(Ip::v4(A4, B4));
    for at in [18, 19, 24, 25] {
        let mut frame = before.clone();
        frame[at] ^= 0x10;
        assert!(!repeats(&frame, &before), "octet {at}");
    }
}

#[test]
fn hashes_of_neighbouring_flows_spread() {
    let mut buckets = [0u32; 64];
    for port in 0..6400u16 {
        let slot = Slot {
            src_addr: A4.to_ipv6_mapped().octets(),
            dst_addr: B4.to_ipv6_mapped().octets(),
            src_port: port,
            dst_port: 80,
            ip_version: 4,
            protocol: 6,
            ..Slot::ZERO
        };
        buckets[flow_hash(&slot) as usize % 64] += 1;
    }
    // 100 each on average; six standard deviations are 60
    assert!(buckets.iter().all(|n| (40..160).contains(n)), "{buckets:?}");
}
