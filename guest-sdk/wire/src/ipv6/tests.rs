use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::vec::Vec;

use super::*;
use crate::ip::Fragment;

const SOURCE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const DESTINATION: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);

const HOP_BY_HOP: u8 = 0;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const ESP: u8 = 50;
const AH: u8 = 51;
const NO_NEXT_HEADER: u8 = 59;
const OPTIONS: u8 = 60;
const MOBILITY: u8 = 135;

/// A packet whose payload starts with `next` and is exactly `payload`.
fn packet(next: u8, payload: &[u8]) -> Vec<u8> {
    let repr = Repr {
        next_header: IpProtocol(next),
        payload_len: payload.len() as u16,
        ..Repr::new(SOURCE, DESTINATION)
    };
    let mut bytes = [&[0; HEADER_LEN], payload].concat();
    repr.emit(&mut Packet::new_unchecked(&mut bytes[..]));
    bytes
}

fn upper(next: u8, payload: &[u8]) -> Result<Upper, Malformed> {
    Packet::new_checked(&packet(next, payload)[..]).unwrap().upper()
}

/// An extension header of eight octets.
fn short(next: u8) -> [u8; 8] {
    [next, 0, 1, 4, 0, 0, 0, 0]
}

fn fragment(next: u8, offset: u16, more: bool) -> [u8; 8] {
    let [high, low] = (offset | u16::from(more)).to_be_bytes();
    [next, 0xff, high, low, 0xde, 0xad, 0xbe, 0xef]
}

#[test]
fn fields_are_read_where_they_lie() {
    let mut bytes = packet(TCP, b"data");
    bytes[..4].copy_from_slice(&[0x6b, 0xad, 0xca, 0xfe]);
    bytes.extend([0xee; 2]);

    let packet = Packet::new_checked(&bytes[..]).unwrap();
    assert_eq!((packet.version(), packet.dscp(), packet.ecn()), (6, 46, Ecn::Capable0));
    assert_eq!(packet.flow_label(), 0xdcafe);
    assert_eq!((packet.payload_len(), packet.hop_limit()), (4, 64));
    assert_eq!(packet.next_header(), IpProtocol::TCP);
    assert_eq!((packet.source(), packet.destination()), (SOURCE, DESTINATION));
    assert_eq!(packet.payload(), b"data", "without the padding");
    assert_eq!(packet.into_payload(), b"data");
}

#[test]
fn a_truncated_packet_is_refused_unless_quoted() {
    let bytes = packet(TCP, b"data");
    for len in 0..bytes.len() {
        let refused = Packet::new_checked(&bytes[..len]).unwrap_err();
        match Packet::new_quoted(&bytes[..len]) {
            Ok(quoted) => {
                assert_eq!(refused, Malformed::BadIpv6PayloadLength);
                assert_eq!(quoted.payload(), &bytes[HEADER_LEN..len]);
            }
            Err(too_short) => {
                assert!(len < HEADER_LEN);
                assert_eq!((refused, too_short), (Malformed::TruncatedIpv6, refused));
            }
        }
    }
}

#[test]
fn another_version_is_refused() {
    let mut bytes = packet(TCP, b"");
    bytes[0] = 0x45;
    assert_eq!(Packet::new_checked(bytes).unwrap_err(), Malformed::BadIpv6Version);
}

#[test]
fn chains_are_walked_to_their_end() {
    let routing = [&[OPTIONS, 2, 4, 1][..], &[0; 20]].concat();
    let authentication = [&[UDP, 4, 0, 0][..], &[0; 20]].concat();
    let rows: [(&str, u8, Vec<u8>, u8, usize); 10] = [
        ("no extension header", UDP, b"8 octets".to_vec(), UDP, 40),
        ("nothing at all", NO_NEXT_HEADER, Vec::new(), NO_NEXT_HEADER, 40),
        ("nothing behind options", OPTIONS, short(NO_NEXT_HEADER).to_vec(), NO_NEXT_HEADER, 48),
        ("encryption ends the walk", ESP, [OPTIONS; 16].to_vec(), ESP, 40),
        ("so does an unknown header", MOBILITY, short(UDP).to_vec(), MOBILITY, 40),
        ("hop-by-hop", HOP_BY_HOP, short(TCP).to_vec(), TCP, 48),
        ("routing with two segments", ROUTING, [&routing, &short(TCP)[..]].concat(), TCP, 72),
        ("authentication counts words", AH, authentication, UDP, 64),
        ("the shortest authentication", AH, [UDP, 1, 0, 0].repeat(3), UDP, 52),
        ("an atomic fragment", FRAGMENT, fragment(TCP, 0, false).to_vec(), TCP, 48),
    ];
    for (what, next, payload, protocol, offset) in rows {
        let upper = upper(next, &payload).unwrap();
        assert_eq!((upper.protocol, upper.offset), (IpProtocol(protocol), offset), "{what}");
        assert_eq!(upper.len, 40 + payload.len() - offset, "{what}");
        assert!(upper.starts_here(), "{what}");
    }
}

#[test]
fn every_header_of_a_chain_is_shown() {
    let chain = [short(ROUTING), short(FRAGMENT), fragment(OPTIONS, 0, true), short(UDP)].concat();
    let bytes = packet(HOP_BY_HOP, &chain);
    let packet = Packet::new_checked(&bytes[..]).unwrap();

    let headers: Vec<_> = packet.extension_headers().map(Result::unwrap).collect();
    let seen: Vec<_> = headers.iter().map(|header| (header.protocol.0, header.offset)).collect();
    assert_eq!(seen, [(HOP_BY_HOP, 40), (ROUTING, 48), (FRAGMENT, 56), (OPTIONS, 64)]);
    assert!(headers.iter().map(|header| header.octets).eq(chain.chunks(8)));
}

#[test]
fn a_first_fragment_is_walked_through() {
    let chain = [fragment(OPTIONS, 0, true), short(TCP)].concat();
    let upper = upper(FRAGMENT, &chain).unwrap();
    assert_eq!((upper.protocol, upper.offset), (IpProtocol::TCP, 56));
    let expected = Fragment { offset: 0, more: true, id: 0xdead_beef };
    assert_eq!(upper.fragment, Some(expected));
    assert!(upper.starts_here() && !expected.is_atomic());
}

#[test]
fn the_walk_ends_in_a_later_fragment() {
    // what follows looks like an endless header, and is payload
    let chain = [fragment(OPTIONS, 1448, false), [OPTIONS, 0xff, 0, 0, 0, 0, 0, 0]].concat();
    let upper = upper(FRAGMENT, &chain).unwrap();
    assert_eq!((upper.protocol, upper.offset, upper.len), (IpProtocol(OPTIONS), 48, 8));
    assert_eq!(upper.fragment, Some(Fragment { offset: 1448, more: false, id: 0xdead_beef }));
    assert!(!upper.starts_here());
}

#[test]
fn broken_chains_are_refused() {
    let long = |next| [next, 1, 0, 0, 0, 0, 0, 0];
    let rows: [(&str, u8, Vec<u8>, Malformed); 9] = [
        (
            "nothing where a header should be",
            ROUTING,
            Vec::new(),
            Malformed::TruncatedExtensionHeader,
        ),
        ("seven octets", OPTIONS, short(UDP)[..7].to_vec(), Malformed::TruncatedExtensionHeader),
        ("length past the end", OPTIONS, long(UDP).to_vec(), Malformed::TruncatedExtensionHeader),
        (
            "a later header past the end",
            OPTIONS,
            [short(OPTIONS), long(UDP)].concat(),
            Malformed::TruncatedExtensionHeader,
        ),
        ("half a fragment header", FRAGMENT, [0; 4].to_vec(), Malformed::TruncatedExtensionHeader),
        (
            "authentication of length 0",
            AH,
            short(UDP).to_vec(),
            Malformed::BadExtensionHeaderLength,
        ),
        (
            "late hop-by-hop options",
            OPTIONS,
            [short(HOP_BY_HOP), short(UDP)].concat(),
            Malformed::MisplacedHopByHop,
        ),
        (
            "hop-by-hop twice",
            HOP_BY_HOP,
            [short(HOP_BY_HOP), short(UDP)].concat(),
            Malformed::MisplacedHopByHop,
        ),
        (
            "a fragment of a fragment",
            FRAGMENT,
            [fragment(FRAGMENT, 0, true), fragment(UDP, 0, true)].concat(),
            Malformed::RepeatedFragmentHeader,
        ),
    ];
    for (what, next, payload, expected) in rows {
        assert_eq!(upper(next, &payload), Err(expected), "{what}");
    }
}

#[test]
fn the_number_of_headers_is_bounded() {
    let chain = |headers: usize| {
        let mut chain = short(OPTIONS).repeat(headers);
        chain[8 * (headers - 1)] = UDP;
        upper(OPTIONS, &chain)
    };
    let longest = chain(MAX_EXTENSION_HEADERS).unwrap();
    assert_eq!((longest.protocol, longest.offset), (IpProtocol::UDP, 104));
    assert_eq!(chain(MAX_EXTENSION_HEADERS + 1), Err(Malformed::TooManyExtensionHeaders));
}

#[test]
fn the_walk_is_over_after_an_error() {
    let bytes = packet(OPTIONS, &[short(HOP_BY_HOP), short(UDP)].concat());
    let packet = Packet::new_checked(&bytes[..]).unwrap();
    let mut headers = packet.extension_headers();
    assert!(headers.next().unwrap().is_ok());
    assert_eq!(headers.next(), Some(Err(Malformed::MisplacedHopByHop)));
    assert_eq!(headers.next(), None);
}

#[test]
fn a_chain_ends_where_the_payload_length_says() {
    let mut bytes = packet(OPTIONS, &short(UDP));
    bytes.extend([0; 8]);
    bytes[41] = 1;
    let padded = Packet::new_checked(&bytes[..]).unwrap();
    assert_eq!(padded.upper(), Err(Malformed::TruncatedExtensionHeader));
}

#[test]
fn a_solicited_node_group_ends_like_the_address() {
    let address: Ipv6Addr = "2001:db8::1:800:200e:8c6c".parse().unwrap();
    let expected: Ipv6Addr = "ff02::1:ff0e:8c6c".parse().unwrap();
    assert_eq!(solicited_node(address), expected);
}

#[test]
fn the_last_hop_is_not_taken_twice() {
    let mut packet = Packet::new_unchecked(packet(UDP, b""));
    packet.set_hop_limit(2);
    let left = [(); 3].map(|()| packet.decrement_hop_limit());
    assert_eq!(left, [1, 0, 0]);
}

proptest! {
    #[test]
    fn what_was_emitted_parses_back(
        addresses: ([u8; 16], [u8; 16]), next_header: u8, payload_len in 0u16..40, hop_limit: u8,
        dscp in 0u8..64, ecn: u8, flow_label in 0u32..1 << 20,
    ) {
        let repr = Repr {
            source: addresses.0.into(),
            destination: addresses.1.into(),
            next_header: IpProtocol(next_header),
            payload_len,
            hop_limit,
            dscp,
            ecn: Ecn::from_bits(ecn),
            flow_label,
        };
        let mut packet = Packet::new_unchecked([0xff; 80]);
        repr.emit(&mut packet);
        prop_assert_eq!(Repr::parse(&packet), Ok(repr));
        prop_assert_eq!(&packet.into_inner()[40..], [0xff; 40], "the payload is not touched");
    }

    #[test]
    fn any_chain_ends_within_the_packet(
        next in select(&[0u8, 43, 44, 51, 60][..]),
        payload in vec(select(&[0u8, 1, 2, 6, 43, 44, 51, 60][..]), 0..160),
    ) {
        let bytes = packet(next, &payload);
        let packet = Packet::new_checked(&bytes[..]).unwrap();

        let mut at = HEADER_LEN;
        for header in packet.extension_headers().map_while(Result::ok) {
            prop_assert_eq!(header.offset, at);
            prop_assert!(header.octets.len() >= 8);
            at += header.octets.len();
        }
        if let Ok(upper) = packet.upper() {
            prop_assert_eq!(upper.offset, at);
            prop_assert_eq!(upper.offset + upper.len, bytes.len());
        }
    }
}
