//! A translated packet is, byte by byte, what its sender would have made for the new ends.

use std::net::{IpAddr, SocketAddr};

use millrace_wire::builder::{self, Ethernet, Ip};
use millrace_wire::{MacAddr, ethernet, icmpv4, icmpv6};
use proptest::prelude::*;

use super::*;

const PROTOCOLS: [IpProtocol; 3] = [IpProtocol::TCP, IpProtocol::UDP, IpProtocol::SCTP];

/// A packet between two ends; of an echo, the first one's port is the identifier.
fn packet_of(protocol: IpProtocol, from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let ethernet = Ethernet::new(MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
    let ports = Ports { source: from.port(), destination: to.port() };
    let (ident, sequence) = (from.port(), 7);
    let ip = match (from, to) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => Ip::v4(*from.ip(), *to.ip()),
        (SocketAddr::V6(from), SocketAddr::V6(to)) => Ip::v6(*from.ip(), *to.ip()),
        _ => panic!("two IP versions never meet"),
    };
    let mut frame = vec![0; 2000];
    let len = match protocol {
        IpProtocol::TCP => {
            let tcp = tcp::Repr { ports, ..tcp::Repr::default() };
            builder::tcp(&mut frame, &ethernet, &ip, &tcp, payload)
        }
        IpProtocol::UDP => builder::udp(&mut frame, &ethernet, &ip, ports, payload),
        IpProtocol::SCTP => {
            builder::sctp(&mut frame, &ethernet, &ip, &sctp::Repr { ports, tag: 9 }, payload)
        }
        _ => match &ip {
            Ip::V4(ip) => {
                let echo = icmpv4::Repr::EchoRequest { ident, sequence };
                builder::icmpv4(&mut frame, &ethernet, ip, &echo, payload)
            }
            Ip::V6(ip) => {
                let echo = icmpv6::Repr::EchoRequest { ident, sequence };
                builder::icmpv6(&mut frame, &ethernet, ip, &echo, payload)
            }
        },
    };
    frame.truncate(len.expect("it fits"));
    frame
}

fn translated(mut frame: Vec<u8>, source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let mut slot = Slot::ZERO;
    let layers = millrace_parse::parse(&frame, &mut slot).expect("it is well-formed");
    let translation =
        Translation { source: Some(end(source)), destination: Some(end(destination)) };
    packet(&mut frame, &slot, layers, &translation).expect("it can be translated");
    frame
}

fn end(address: SocketAddr) -> Endpoint {
    let ip = match address {
        SocketAddr::V4(v4) => v4.ip().to_ipv6_mapped(),
        SocketAddr::V6(v6) => *v6.ip(),
    };
    Endpoint { address: ip.octets(), port: address.port() }
}

/// Ends of one IP version: source and destination, before and after.
fn ends() -> impl Strategy<Value = [SocketAddr; 4]> {
    let v4 = (1u8..200, any::<[u8; 3]>(), any::<u16>())
        .prop_map(|(a, [b, c, d], port)| SocketAddr::from(([a % 100 + 1, b, c, d], port)));
    let v6 = (any::<[u16; 7]>(), any::<u16>()).prop_map(|([b, c, d, e, f, g, h], port)| {
        SocketAddr::from(([0x2001, b, c, d, e, f, g, h], port))
    });
    prop_oneof![[v4.clone(), v4.clone(), v4.clone(), v4], [v6.clone(), v6.clone(), v6.clone(), v6]]
}

proptest! {
    #[test]
    fn f10_a_translated_packet_is_as_if_made_for_its_new_ends(
        [from, to, source, destination] in ends(),
        payload in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        for protocol in PROTOCOLS {
            let before = packet_of(protocol, from, to, &payload);
            let after = packet_of(protocol, source, destination, &payload);
            prop_assert_eq!(translated(before, source, destination), after, "{}", protocol);
        }
        let echo = if from.is_ipv4() { IpProtocol::ICMPV4 } else { IpProtocol::ICMPV6 };
        let destination = SocketAddr::new(destination.ip(), source.port());
        let before = packet_of(echo, from, to, &payload);
        let after = packet_of(echo, source, destination, &payload);
        prop_assert_eq!(translated(before, source, destination), after, "{}", echo);
    }

    #[test]
    fn a_checksum_that_was_wrong_stays_wrong([from, to, source, destination] in ends()) {
        for (protocol, (at, len)) in PROTOCOLS.into_iter().zip([(16, 2), (6, 2), (8, 4)]) {
            let mut frame = packet_of(protocol, from, to, b"data");
            let at = at + ethernet::HEADER_LEN + if from.is_ipv4() { 20 } else { 40 };
            frame[at] ^= 0x55;
            let right = packet_of(protocol, source, destination, b"data");
            let result = translated(frame, source, destination);
            prop_assert_ne!(&result[at..at + len], &right[at..at + len], "{}", protocol);
        }
    }
}

#[test]
fn f10_a_datagram_without_a_checksum_stays_without() {
    let [from, to, source, destination] =
        ["10.0.0.1:1000", "10.0.0.2:53", "192.0.2.1:50000", "10.0.0.3:5353"].map(address);
    let without = |mut frame: Vec<u8>| {
        frame[CHECKSUM..CHECKSUM + 2].fill(0);
        frame
    };
    let before = without(packet_of(IpProtocol::UDP, from, to, b"question"));
    let after = without(packet_of(IpProtocol::UDP, source, destination, b"question"));
    assert_eq!(translated(before, source, destination), after);
}

#[test]
fn f10_the_crc_of_sctp_is_not_touched_while_the_ports_stay() {
    let [from, to, source, destination] =
        ["10.0.0.1:1000", "10.0.0.2:53", "192.0.2.1:1000", "10.0.0.3:53"].map(address);
    let mut frame = packet_of(IpProtocol::SCTP, from, to, b"data");
    let segment = frame[SEGMENT..].to_vec();
    frame = translated(frame, source, destination);
    assert_eq!(frame[SEGMENT..], segment);
}

#[test]
fn f5_a_first_fragment_of_sctp_is_translated_if_its_crc_can_stay() {
    let [from, to, source] = ["10.0.0.1:1000", "10.0.0.2:53", "192.0.2.1:1000"].map(address);
    let cut = |from, to| {
        let mut frame = packet_of(IpProtocol::SCTP, from, to, &[7; 64]);
        frame.truncate(SEGMENT + 32);
        let mut packet = ipv4::Packet::new_unchecked(&mut frame[ethernet::HEADER_LEN..]);
        packet.set_total_len(20 + 32);
        packet.set_more_fragments(true);
        packet.fill_checksum();
        frame
    };
    let same_port = address("10.0.0.3:53");
    assert_eq!(translated(cut(from, to), source, same_port), cut(source, same_port));

    let mut frame = cut(from, to);
    let mut slot = Slot::ZERO;
    let layers = millrace_parse::parse(&frame, &mut slot).expect("it is well-formed");
    let to_another = Translation { source: None, destination: Some(end(address("10.0.0.3:54"))) };
    assert_eq!(packet(&mut frame, &slot, layers, &to_another), Err(Reason::Unsupported));
    assert_eq!(frame, cut(from, to), "it is as it was");
}

proptest! {
    #[test]
    fn an_error_quotes_the_packet_that_its_receiver_sent(
        [client, service, seen, backend] in ends(),
        quoted in 8usize..60,
        from_a_router: bool,
    ) {
        for protocol in PROTOCOLS {
            // a packet left as `seen` to `backend`, and was sent by `client` to `service`
            let quote = |from, to| {
                let packet = packet_of(protocol, from, to, b"what was said");
                let end = if from.is_ipv4() { 34 } else { 54 } + quoted;
                packet[ethernet::HEADER_LEN..end.min(packet.len())].to_vec()
            };
            let router = SocketAddr::new(if client.is_ipv4() { V4_ROUTER } else { V6_ROUTER }, 0);
            let [before_by, after_by] = match from_a_router {
                true => [router; 2],
                false => [backend, service],
            };
            let before = error_of(before_by, seen, &quote(seen, backend));
            let mut after = error_of(after_by, client, &quote(client, service));
            let translated = translated(before, service, client);
            // checksums that are cut off stay: who gets the quote has no use for them
            let is_cut = protocol == IpProtocol::TCP && quoted < tcp::HEADER_LEN;
            if protocol == IpProtocol::SCTP || is_cut {
                let (checksum, ports) = if client.is_ipv4() { (36, 66) } else { (56, 106) };
                after[checksum..checksum + 2]
                    .copy_from_slice(&translated[checksum..checksum + 2]);
                after[ports..].copy_from_slice(&translated[ports..]);
            }
            prop_assert_eq!(&translated, &after, "{}", protocol);
            prop_assert!(is_right(&translated), "{}", protocol);
        }
    }
}

/// Port unreachable.
fn error_of(from: SocketAddr, to: SocketAddr, quote: &[u8]) -> Vec<u8> {
    let ethernet = Ethernet::new(MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
    let mut frame = vec![0; 2000];
    let len = match (from, to) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            let ip = ipv4::Repr::new(*from.ip(), *to.ip());
            let error = icmpv4::Repr::DestinationUnreachable {
                code: icmpv4::Unreachable::PORT,
                next_hop_mtu: 0,
            };
            builder::icmpv4(&mut frame, &ethernet, &ip, &error, quote)
        }
        (SocketAddr::V6(from), SocketAddr::V6(to)) => {
            let ip = ipv6::Repr::new(*from.ip(), *to.ip());
            let error = icmpv6::Repr::DestinationUnreachable { code: icmpv6::Unreachable::PORT };
            builder::icmpv6(&mut frame, &ethernet, &ip, &error, quote)
        }
        _ => panic!("two IP versions never meet"),
    };
    frame.truncate(len.expect("it fits"));
    frame
}

/// Whether the checksum of an ICMP message is right.
fn is_right(frame: &[u8]) -> bool {
    let packet = &frame[ethernet::HEADER_LEN..];
    match frame[12] {
        8 => icmpv4::Packet::new_unchecked(&packet[20..]).verify_checksum(),
        _ => {
            let pseudo = ipv6::Packet::new_unchecked(packet).pseudo();
            icmpv6::Packet::new_unchecked(&packet[ipv6::HEADER_LEN..]).verify_checksum(pseudo)
        }
    }
}

#[test]
fn what_follows_a_packet_in_its_frame_is_no_part_of_it() {
    let [from, to, source, destination] =
        ["10.0.0.1:1000", "10.0.0.2:53", "192.0.2.1:50000", "10.0.0.3:5353"].map(address);
    for protocol in PROTOCOLS {
        let padded = |mut frame: Vec<u8>| {
            frame.extend([0xaa; 5]);
            frame
        };
        let before = padded(packet_of(protocol, from, to, b""));
        let after = padded(packet_of(protocol, source, destination, b""));
        assert_eq!(translated(before, source, destination), after, "{protocol}");
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address and a port")
}

const V4_ROUTER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));
const V6_ROUTER: IpAddr = IpAddr::V6(Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 1));

/// Where a segment begins, behind Ethernet and IPv4.
const SEGMENT: usize = 34;
/// Where the checksum of a datagram is.
const CHECKSUM: usize = SEGMENT + 6;
