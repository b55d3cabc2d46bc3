use proptest::collection::vec;
use proptest::prelude::*;
use std::vec::Vec;

use super::*;
use crate::ipv4;

/// "Fragmentation needed" about a packet of which 8 octets of payload are left.
fn fragmentation_needed() -> Vec<u8> {
    let offending = ipv4::Repr {
        payload_len: 1480,
        ..ipv4::Repr::new([10, 0, 0, 1].into(), [192, 0, 2, 1].into())
    };
    let mut bytes = [0; HEADER_LEN + 20 + 8].to_vec();
    let mut message = Packet::new_unchecked(&mut bytes[..]);
    Repr::DestinationUnreachable { code: Unreachable::FRAGMENTATION_NEEDED, next_hop_mtu: 1450 }
        .emit(&mut message);
    offending.emit(&mut ipv4::Packet::new_unchecked(message.payload_mut()));
    message.fill_checksum();
    bytes
}

#[test]
fn a_reply_is_made_of_a_request_in_place() {
    let mut echo = Packet::new_unchecked(*b"\x08\x00\x00\x00\x12\x34\x00\x07ping");
    echo.fill_checksum();
    assert_eq!((echo.kind(), echo.ident(), echo.sequence()), (Kind::ECHO_REQUEST, 0x1234, 7));
    assert_eq!(echo.quoted(), None, "an echo is about no packet");

    echo.set_kind(Kind::ECHO_REPLY);
    assert!(!echo.verify_checksum());
    echo.set_ident(0x4321);
    echo.set_sequence(8);
    echo.fill_checksum();
    assert!(echo.verify_checksum());
    assert_eq!(echo.checksum().to_be_bytes(), echo.into_inner()[2..4]);
    assert_eq!(Repr::parse(&echo), Ok(Repr::EchoReply { ident: 0x4321, sequence: 8 }));
    assert_eq!(echo.payload(), b"ping");
}

#[test]
fn an_error_quotes_the_packet_it_is_about() {
    let mut bytes = fragmentation_needed();
    let mut message = Packet::new_checked(&mut bytes[..]).unwrap();
    assert!(message.verify_checksum());
    assert_eq!(message.next_hop_mtu(), 1450);

    let quoted = ipv4::Packet::new_quoted(message.quoted().unwrap()).unwrap();
    assert_eq!(quoted.total_len(), 1500);
    assert_eq!(quoted.payload().len(), 8);

    let mut quoted = ipv4::Packet::new_quoted(message.quoted_mut().unwrap()).unwrap();
    quoted.set_source([10, 9, 9, 9].into());
    assert_eq!(bytes[HEADER_LEN + 12..HEADER_LEN + 16], [10, 9, 9, 9]);
}

#[test]
fn a_quote_ends_where_extensions_begin() {
    let mut message = Packet::new_unchecked([0; HEADER_LEN + 40]);
    message.set_kind(Kind::TIME_EXCEEDED);
    for (words, expected) in [(0, 40), (8, 32), (10, 40), (255, 40)] {
        let mut bytes = message.into_inner();
        bytes[QUOTE_WORDS] = words;
        message = Packet::new_unchecked(bytes);
        assert_eq!(message.quoted().unwrap().len(), expected, "{words} words");
    }

    // the octet is a part of the gateway's address here
    message.set_kind(Kind::REDIRECT);
    let mut bytes = message.into_inner();
    bytes[QUOTE_WORDS] = 8;
    assert_eq!(Packet::new_unchecked(bytes).quoted().unwrap().len(), 40);
}

#[test]
fn an_error_about_a_long_packet_stays_within_its_limit() {
    let packet = [0; 1500];
    assert_eq!(20 + HEADER_LEN + quote(&packet).len(), MAX_ERROR_LEN);
    assert_eq!(quote(&packet[..60]).len(), 60);
}

#[test]
fn a_truncated_message_is_refused() {
    let bytes = fragmentation_needed();
    for len in 0..bytes.len() {
        match Packet::new_checked(&bytes[..len]) {
            Err(refused) => {
                assert!(len < HEADER_LEN);
                assert_eq!(refused, Malformed::TruncatedIcmpv4);
            }
            Ok(message) => {
                let quoted = message.quoted().unwrap();
                assert_eq!(quoted, &bytes[HEADER_LEN..len]);
                assert_eq!(ipv4::Packet::new_quoted(quoted).is_ok(), len >= HEADER_LEN + 20);
            }
        }
    }
}

fn repr() -> impl Strategy<Value = Repr> {
    prop_oneof![
        any::<(u16, u16)>().prop_map(|(ident, sequence)| Repr::EchoRequest { ident, sequence }),
        any::<(u16, u16)>().prop_map(|(ident, sequence)| Repr::EchoReply { ident, sequence }),
        any::<(u8, u16)>().prop_map(|(code, next_hop_mtu)| Repr::DestinationUnreachable {
            code: Unreachable(code),
            next_hop_mtu
        }),
        any::<u8>().prop_map(|code| Repr::TimeExceeded { code: TimeExceeded(code) }),
        (12u8.., any::<u8>(), any::<[u8; 4]>()).prop_map(|(kind, code, rest)| Repr::Other {
            kind: Kind(kind),
            code,
            rest
        }),
    ]
}

proptest! {
    #[test]
    fn what_was_emitted_parses_back(repr in repr(), payload in vec(any::<u8>(), 0..20)) {
        let mut message = Packet::new_unchecked([&[0xff; HEADER_LEN], &payload[..]].concat());
        repr.emit(&mut message);
        message.fill_checksum();
        prop_assert_eq!(Repr::parse(&message), Ok(repr));
        prop_assert!(message.verify_checksum());
        prop_assert_eq!(message.payload(), &payload[..]);
    }
}
