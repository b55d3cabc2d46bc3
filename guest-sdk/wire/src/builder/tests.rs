use proptest::collection::vec;
use proptest::prelude::*;
use std::vec::Vec;

use super::*;
use crate::arp::Repr as Arp;
use crate::vlan::Vid;

const SOURCE: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const DESTINATION: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

fn ethernet() -> Ethernet {
    Ethernet::new(SOURCE, DESTINATION)
}

fn v4() -> ipv4::Repr {
    ipv4::Repr::new([10, 0, 0, 1].into(), [10, 0, 0, 2].into())
}

fn v6() -> ipv6::Repr {
    ipv6::Repr::new([1; 16].into(), [2; 16].into())
}

type Build = fn(&mut [u8], &Ethernet, &[u8]) -> Result<usize, BuildError>;

const PORTS: Ports = Ports { source: 1, destination: 2 };

/// One of each, with the octets it has in front of its payload when untagged.
const BUILDS: [(&str, Build, usize); 7] = [
    ("udp over IPv4", |buffer, eth, data| udp(buffer, eth, &v4().into(), PORTS, data), 42),
    ("udp over IPv6", |buffer, eth, data| udp(buffer, eth, &v6().into(), PORTS, data), 62),
    (
        "tcp with options",
        |buffer, eth, data| {
            let syn = tcp::Repr { max_segment_size: Some(1460), ..tcp::Repr::default() };
            tcp(buffer, eth, &v4().into(), &syn, data)
        },
        58,
    ),
    (
        "sctp",
        |buffer, eth, data| {
            sctp(buffer, eth, &v6().into(), &sctp::Repr { ports: PORTS, tag: 7 }, data)
        },
        66,
    ),
    (
        "icmp echo",
        |buffer, eth, data| {
            icmpv4(buffer, eth, &v4(), &icmpv4::Repr::EchoRequest { ident: 1, sequence: 2 }, data)
        },
        42,
    ),
    (
        "icmpv6 solicitation",
        |buffer, eth, data| {
            let target = v6().destination;
            let solicitation = icmpv6::Repr::NeighborSolicitation { target };
            icmpv6(buffer, eth, &v6(), &solicitation, data)
        },
        78,
    ),
    (
        "an unknown protocol",
        |buffer, eth, data| ip(buffer, eth, &v4().into(), IpProtocol(253), data),
        34,
    ),
];

#[test]
fn a_tag_lies_between_addresses_and_packet() {
    let tci = Tci::of(Vid::new(42).unwrap());
    for (what, build, header) in BUILDS {
        let (mut plain, mut tagged) = ([0; 128], [0; 128]);
        let plain_len = build(&mut plain, &ethernet(), b"data").unwrap();
        let tagged_len = build(&mut tagged, &ethernet().tagged(tci), b"data").unwrap();

        assert_eq!((plain_len, tagged_len), (header + 4, header + 8), "{what}");
        assert_eq!(tagged[12..16], [0x81, 0x00, 0x00, 42], "{what}");
        assert_eq!(tagged[16..tagged_len], plain[12..plain_len], "{what}");
        assert_eq!(
            plain[plain_len..],
            [0; 128][plain_len..],
            "{what} writes nothing behind itself"
        );
    }
}

#[test]
fn a_frame_fits_exactly_or_not_at_all() {
    for (what, build, header) in BUILDS {
        let mut buffer = std::vec![0xaa; header + 4];
        for len in 0..buffer.len() {
            let refused = build(&mut buffer[..len], &ethernet(), b"data").unwrap_err();
            assert_eq!(refused, BuildError::NoRoom { needed: header + 4 }, "{what}");
        }
        assert!(buffer.iter().all(|octet| *octet == 0xaa), "{what}");
        assert_eq!(build(&mut buffer, &ethernet(), b"data"), Ok(header + 4), "{what}");
    }
}

#[test]
fn lengths_reach_to_the_limit_of_their_fields() {
    let mut buffer = std::vec![0; 70_000];
    let payload = std::vec![0; 66_000];
    let longest = [28, 8, 44, 12, 28, 24, 20].map(|headers| 65_535 - headers);
    for ((what, build, header), longest) in BUILDS.into_iter().zip(longest) {
        let len = build(&mut buffer, &ethernet(), &payload[..longest]);
        assert_eq!(len, Ok(header + longest), "{what}");
        for too_long in [longest + 1, payload.len()] {
            let refused = build(&mut buffer, &ethernet(), &payload[..too_long]);
            assert_eq!(refused, Err(BuildError::PayloadTooLong), "{what}");
        }
    }
}

#[test]
fn an_arp_request_is_built_whole() {
    let request = Arp::request(SOURCE, [10, 0, 0, 1].into(), [10, 0, 0, 2].into());
    let mut buffer = [0; 64];
    let len = arp(&mut buffer, &Ethernet::new(SOURCE, MacAddr::BROADCAST), &request).unwrap();
    assert_eq!(len, 42);

    let frame = ethernet::Frame::new_checked(&buffer[..len]).unwrap();
    assert_eq!((frame.ether_type(), frame.destination()), (EtherType::ARP, MacAddr::BROADCAST));
    assert_eq!(Arp::parse(&arp::Packet::new_unchecked(frame.payload())), Ok(request));
    let refused = arp(&mut buffer[..41], &ethernet(), &request);
    assert_eq!(refused, Err(BuildError::NoRoom { needed: 42 }));
}

#[test]
fn given_ip_fields_are_kept() {
    let mut buffer = [0; 64];
    let given = ipv4::Repr { dscp: 46, ident: 7, ..v4() };
    udp(&mut buffer, &ethernet(), &Ip::from(given).hops(3), PORTS, b"").unwrap();

    let packet = ipv4::Packet::new_checked(&buffer[14..]).unwrap();
    let expected = ipv4::Repr { protocol: IpProtocol::UDP, payload_len: 8, ttl: 3, ..given };
    assert_eq!(ipv4::Repr::parse(&packet), Ok(expected));

    udp(&mut buffer, &ethernet(), &Ip::from(v6()).hops(3), PORTS, b"").unwrap();
    let packet = ipv6::Packet::new_checked(&buffer[14..62]).unwrap();
    let expected =
        ipv6::Repr { next_header: IpProtocol::UDP, payload_len: 8, hop_limit: 3, ..v6() };
    assert_eq!(ipv6::Repr::parse(&packet), Ok(expected));
}

proptest! {
    #[test]
    fn every_frame_parses_with_right_checksums(payload in vec(any::<u8>(), 0..90)) {
        let mut buffer = [0; 256];
        for (what, build, header) in BUILDS {
            let len = build(&mut buffer, &ethernet(), &payload).unwrap();
            let frame = ethernet::Frame::new_checked(&buffer[..len]).unwrap();
            prop_assert_eq!((frame.source(), frame.destination()), (SOURCE, DESTINATION));

            let (pseudo, upper) = match frame.ether_type() {
                EtherType::IPV4 => {
                    let packet = ipv4::Packet::new_checked(frame.payload()).unwrap();
                    prop_assert!(packet.verify_checksum());
                    (packet.pseudo(), packet.upper())
                }
                _ => {
                    let packet = ipv6::Packet::new_checked(frame.payload()).unwrap();
                    (packet.pseudo(), packet.upper().unwrap())
                }
            };
            let transport = &frame.payload()[upper.offset..][..upper.len];
            prop_assert!(verifies(upper.protocol, transport, pseudo), "{}", what);
            prop_assert_eq!(&buffer[header..len], &payload[..], "{}", what);
        }
    }
}

fn verifies(protocol: IpProtocol, transport: &[u8], pseudo: Pseudo) -> bool {
    match protocol {
        IpProtocol::UDP => udp::Datagram::new_checked(transport).unwrap().verify_checksum(pseudo),
        IpProtocol::TCP => tcp::Segment::new_checked(transport).unwrap().verify_checksum(pseudo),
        IpProtocol::SCTP => sctp::Packet::new_checked(transport).unwrap().verify_checksum(),
        IpProtocol::ICMPV4 => icmpv4::Packet::new_checked(transport).unwrap().verify_checksum(),
        IpProtocol::ICMPV6 => {
            icmpv6::Packet::new_checked(transport).unwrap().verify_checksum(pseudo)
        }
        other => other == IpProtocol(253),
    }
}

#[test]
fn errors_say_what_is_missing() {
    let texts: Vec<_> = [BuildError::NoRoom { needed: 42 }, BuildError::PayloadTooLong]
        .iter()
        .map(std::string::ToString::to_string)
        .collect();
    assert_eq!(texts, ["buffer: 42 octets needed", "payload: too long for an IP packet"]);
}
