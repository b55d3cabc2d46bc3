use proptest::collection::vec;
use proptest::prelude::*;
use std::vec::Vec;

use super::*;

/// 28 octets: options, four octets of payload, then Ethernet padding.
const PACKET: [u8; 30] = [
    0x46, 0xba, 0x00, 28, 0x12, 0x34, 0x40, 0x00, 63, 17, 0, 0, // up to the checksum
    10, 0, 0, 1, 10, 0, 0, 2, 0x94, 4, 0, 0, // addresses, router alert
    b'd', b'a', b't', b'a', 0xee, 0xee,
];

fn with(at: usize, value: u8) -> [u8; 30] {
    let mut packet = PACKET;
    packet[at] = value;
    packet
}

fn refusal(packet: &[u8]) -> Malformed {
    Packet::new_checked(packet).unwrap_err()
}

#[test]
fn fields_are_read_where_they_lie() {
    let packet = Packet::new_checked(&PACKET[..]).unwrap();
    assert_eq!((packet.version(), packet.header_len(), packet.total_len()), (4, 24, 28));
    assert_eq!((packet.dscp(), packet.ecn()), (46, Ecn::Capable0));
    assert_eq!((packet.ident(), packet.ttl()), (0x1234, 63));
    assert!(packet.dont_fragment() && !packet.is_fragment());
    assert_eq!(packet.protocol(), IpProtocol::UDP);
    assert_eq!(packet.source(), Ipv4Addr::new(10, 0, 0, 1));
    assert_eq!(packet.destination(), Ipv4Addr::new(10, 0, 0, 2));
    assert_eq!(packet.options(), [0x94, 4, 0, 0]);
    assert_eq!(packet.payload(), b"data", "without the padding");
    assert_eq!(packet.into_payload(), b"data");
}

#[test]
fn a_truncated_packet_is_refused() {
    for len in 0..28 {
        let expected = match len {
            0..24 => Malformed::TruncatedIpv4,
            _ => Malformed::BadIpv4TotalLength,
        };
        assert_eq!(refusal(&PACKET[..len]), expected, "{len}");
    }
}

#[test]
fn contradicting_headers_are_refused() {
    let rows = [
        ("version 6", with(0, 0x66), Malformed::BadIpv4Version),
        ("four words", with(0, 0x44), Malformed::BadIpv4HeaderLength),
        ("no words", with(0, 0x40), Malformed::BadIpv4HeaderLength),
        ("header past the buffer", with(0, 0x4f), Malformed::TruncatedIpv4),
        ("total length within the header", with(3, 23), Malformed::BadIpv4TotalLength),
        ("total length 0", with(3, 0), Malformed::BadIpv4TotalLength),
        ("total length past the buffer", with(3, 31), Malformed::BadIpv4TotalLength),
    ];
    for (what, packet, expected) in rows {
        assert_eq!(refusal(&packet), expected, "{what}");
    }
}

#[test]
fn a_quoted_packet_may_end_within_its_payload_only() {
    for len in 0..PACKET.len() {
        match Packet::new_quoted(&PACKET[..len]) {
            Err(refused) => {
                assert!(len < 24, "{len}");
                assert_eq!(refused, Malformed::TruncatedIpv4);
            }
            Ok(quoted) => {
                assert_eq!(quoted.total_len(), 28);
                assert_eq!(quoted.payload(), &PACKET[24..len.min(28)]);
                assert_eq!(quoted.upper().len, len.min(28) - 24);
            }
        }
    }
}

#[test]
fn the_upper_layer_is_found_behind_options() {
    let packet = Packet::new_checked(&PACKET[..]).unwrap();
    let upper = packet.upper();
    assert_eq!(upper, Upper { protocol: IpProtocol::UDP, offset: 24, len: 4, fragment: None });
    assert!(upper.starts_here());
}

#[test]
fn only_the_first_fragment_has_the_upper_header() {
    let mut packet = Packet::new_unchecked(PACKET);
    packet.set_more_fragments(true);
    let first = packet.upper();
    assert_eq!(first.fragment, Some(Fragment { offset: 0, more: true, id: 0x1234 }));
    assert!(packet.is_fragment() && first.starts_here());

    packet.set_more_fragments(false);
    packet.set_fragment_offset(1480);
    let last = packet.upper();
    assert_eq!(last.fragment, Some(Fragment { offset: 1480, more: false, id: 0x1234 }));
    assert!(packet.is_fragment() && !last.starts_here());
    assert!(packet.dont_fragment(), "the other bits stay");
}

#[test]
fn the_last_hop_is_not_taken_twice() {
    let mut packet = Packet::new_unchecked(with(8, 1));
    packet.fill_checksum();
    assert_eq!(packet.decrement_ttl(), 0);
    assert_eq!(packet.decrement_ttl(), 0);
    assert!(packet.verify_checksum());
}

fn repr() -> impl Strategy<Value = Repr> {
    let addresses = any::<([u8; 4], [u8; 4])>();
    let small = (any::<u8>(), 0u8..64, any::<u8>(), any::<u8>());
    let fragment = (any::<u16>(), any::<bool>(), any::<bool>(), 0u16..0x2000);
    (addresses, small, fragment, 0u16..40).prop_map(
        |((source, destination), (protocol, dscp, ecn, ttl), fragment, payload_len)| Repr {
            source: source.into(),
            destination: destination.into(),
            protocol: IpProtocol(protocol),
            payload_len,
            ttl,
            dscp,
            ecn: Ecn::from_bits(ecn),
            ident: fragment.0,
            dont_fragment: fragment.1,
            more_fragments: fragment.2,
            fragment_offset: fragment.3 * 8,
        },
    )
}

proptest! {
    #[test]
    fn what_was_emitted_parses_back(repr in repr()) {
        let mut packet = Packet::new_unchecked([0xff; 60]);
        repr.emit(&mut packet);

        prop_assert_eq!(Repr::parse(&packet), Ok(repr));
        prop_assert!(packet.verify_checksum());
        prop_assert_eq!(packet.payload().len(), usize::from(repr.payload_len));
        prop_assert_eq!(&packet.into_inner()[20..], [0xff; 40], "the payload is not touched");
    }

    #[test]
    fn a_changed_bit_breaks_the_checksum(options in vec(any::<u8>(), 0..=10), bit in 0usize..156) {
        let mut bytes: Vec<u8> = PACKET[..20].to_vec();
        bytes.extend(options.iter().flat_map(|option| [*option; 4]));
        let header_len = bytes.len();
        let mut packet = Packet::new_unchecked(&mut bytes[..]);
        packet.set_header_len(header_len);
        packet.fill_checksum();
        prop_assert!(packet.verify_checksum());

        // the four bits of the header length decide what is summed, so they are left out
        let bit = if bit < 4 { bit } else { bit + 4 };
        bytes[bit / 8] ^= 0x80 >> (bit % 8);
        prop_assert!(!Packet::new_unchecked(&bytes[..]).verify_checksum());
    }

    #[test]
    fn a_hop_less_keeps_the_checksum_right(repr in repr()) {
        let mut packet = Packet::new_unchecked([0; 60]);
        repr.emit(&mut packet);
        prop_assert_eq!(packet.decrement_ttl(), repr.ttl.saturating_sub(1));

        let mut expected = Packet::new_unchecked([0; 60]);
        Repr { ttl: repr.ttl.saturating_sub(1), ..repr }.emit(&mut expected);
        prop_assert_eq!(packet.into_inner(), expected.into_inner());
    }
}

#[test]
#[should_panic(expected = "65,515")]
fn a_payload_too_long_for_the_length_field_panics() {
    let repr = Repr { payload_len: 65_516, ..Repr::new(Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST) };
    repr.emit(&mut Packet::new_unchecked([0; 20]));
}
