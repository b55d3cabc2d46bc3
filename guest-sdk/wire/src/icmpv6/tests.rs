use proptest::collection::vec;
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

use super::*;
use crate::{MacAddr, ipv6};

const ALL_KINDS: std::ops::RangeInclusive<u8> = 0..=255;

fn pseudo() -> Pseudo {
    Pseudo::v6([1; 16].into(), [2; 16].into())
}

fn emitted(repr: Repr, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xff; repr.buffer_len()];
    bytes.extend(payload);
    let mut message = Packet::new_unchecked(&mut bytes[..]);
    repr.emit(&mut message);
    message.fill_checksum(pseudo());
    bytes
}

fn options(octets: &[u8]) -> Vec<Result<NdOption<'_>, Malformed>> {
    NdOptions::new(octets).collect()
}

#[test]
fn an_advertisement_is_laid_out_as_in_rfc_4861() {
    let target = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    let repr =
        Repr::NeighborAdvertisement { target, router: true, solicited: true, overrides: true };
    let mac = MacAddr([2, 0, 0, 0, 0, 1]);
    let mut option = [0; 8];
    NdOption::TargetLinkLayer(mac).emit(&mut option);

    let bytes = emitted(repr, &option);
    assert_eq!(bytes[..2], [136, 0]);
    assert_eq!(bytes[4..8], [0xe0, 0, 0, 0]);
    assert_eq!(bytes[8..24], target.octets());
    assert_eq!(bytes[24..], [2, 1, 2, 0, 0, 0, 0, 1]);

    let message = Packet::new_checked(&bytes[..]).unwrap();
    assert!(message.verify_checksum(pseudo()));
    assert!(message.options().eq([Ok(NdOption::TargetLinkLayer(mac))]));
    assert_eq!(message.quoted(), None);
}

#[test]
fn a_reply_is_made_of_a_request_in_place() {
    let mut bytes = emitted(Repr::EchoRequest { ident: 0x1234, sequence: 7 }, b"ping");
    let mut echo = Packet::new_checked(&mut bytes[..]).unwrap();
    assert_eq!((echo.kind(), echo.ident(), echo.sequence()), (Kind::ECHO_REQUEST, 0x1234, 7));

    echo.set_kind(Kind::ECHO_REPLY);
    assert!(!echo.verify_checksum(pseudo()));
    echo.set_ident(0x4321);
    echo.set_sequence(8);
    echo.fill_checksum(pseudo());
    assert!(echo.verify_checksum(pseudo()));
    assert_eq!(Repr::parse(&echo), Ok(Repr::EchoReply { ident: 0x4321, sequence: 8 }));

    echo.set_code(9);
    assert_eq!(echo.code(), 9);
    assert_eq!(echo.payload(), b"ping");
    let checksum = echo.checksum();
    assert_eq!(checksum.to_be_bytes(), bytes[2..4]);
}

#[test]
fn an_error_quotes_the_packet_it_is_about() {
    let offending = ipv6::Repr {
        payload_len: 1460,
        ..ipv6::Repr::new(Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST)
    };
    let mut quote = [0; 48];
    offending.emit(&mut ipv6::Packet::new_unchecked(&mut quote[..]));
    let mut bytes = emitted(Repr::PacketTooBig { mtu: 1450 }, &quote);

    let mut message = Packet::new_checked(&mut bytes[..]).unwrap();
    assert_eq!(message.mtu(), 1450);
    assert_eq!(message.options().next(), None, "errors have no options");
    let quoted = ipv6::Packet::new_quoted(message.quoted().unwrap()).unwrap();
    assert_eq!((quoted.payload_len(), quoted.payload().len()), (1460, 8));

    let mut quoted = ipv6::Packet::new_quoted(message.quoted_mut().unwrap()).unwrap();
    quoted.set_hop_limit(9);
    assert_eq!(bytes[HEADER_LEN + 7], 9);
}

#[test]
fn a_quote_ends_where_extensions_begin() {
    for (units, expected) in [(0, 40), (4, 32), (5, 40), (255, 40)] {
        let code = TimeExceeded::TRANSIT;
        let mut bytes = emitted(Repr::TimeExceeded { code }, &[0; 40]);
        bytes[QUOTE_UNITS] = units;
        assert_eq!(Packet::new_unchecked(&bytes[..]).quoted().unwrap().len(), expected);
    }

    // the octet is a part of the MTU here
    let bytes = emitted(Repr::PacketTooBig { mtu: 0x0400_0000 }, &[0; 40]);
    assert_eq!(Packet::new_unchecked(&bytes[..]).quoted().unwrap().len(), 40);
}

#[test]
fn an_error_about_a_long_packet_stays_within_its_limit() {
    let packet = [0; 1500];
    assert_eq!(40 + HEADER_LEN + quote(&packet).len(), MAX_ERROR_LEN);
    assert_eq!(quote(&packet[..60]).len(), 60);
}

#[test]
fn a_message_shorter_than_its_kind_needs_is_refused() {
    for kind in ALL_KINDS {
        let needed = match kind {
            134 => 16,
            135 | 136 => 24,
            137 => 40,
            _ => 8,
        };
        let bytes = [&[kind], &[0; 50][..]].concat();
        for len in 0..50 {
            match Packet::new_checked(&bytes[..len]) {
                Ok(message) => assert_eq!(message.payload().len(), len - needed, "{kind}"),
                Err(refused) => {
                    assert!(len < needed, "{kind}");
                    assert_eq!(refused, Malformed::TruncatedIcmpv6);
                }
            }
        }
    }
}

#[test]
fn kinds_below_128_are_errors() {
    let errors = ALL_KINDS.filter(|kind| Kind(*kind).is_error()).count();
    assert_eq!(errors, 128);
    let discovery: Vec<_> = ALL_KINDS.filter(|kind| Kind(*kind).is_neighbor_discovery()).collect();
    assert_eq!(discovery, [133, 134, 135, 136, 137]);
}

#[test]
fn options_are_walked_in_units_of_eight() {
    let octets = [
        &[1, 1, 2, 0, 0, 0, 0, 1][..],
        &[5, 1, 0, 0, 0, 0, 0x05, 0xaa],
        &[14, 2, b'n', b'o', b'n', b'c', b'e', 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ]
    .concat();
    assert_eq!(
        options(&octets),
        [
            Ok(NdOption::SourceLinkLayer(MacAddr([2, 0, 0, 0, 0, 1]))),
            Ok(NdOption::Mtu(1450)),
            Ok(NdOption::Other { kind: 14, data: b"nonce\0\0\0\0\0\0\0\0\0" }),
            Ok(NdOption::Other { kind: 1, data: &[0; 14] }),
        ],
        "a link-layer address of 14 octets is not an Ethernet address"
    );
}

#[test]
fn broken_options_end_the_walk() {
    let rows: [(&str, &[u8], Malformed); 4] = [
        ("no length", &[1], Malformed::TruncatedNdOption),
        ("length 0", &[1, 0, 0, 0, 0, 0, 0, 0, 5, 1], Malformed::ZeroNdOption),
        ("seven octets", &[1, 1, 0, 0, 0, 0, 0], Malformed::TruncatedNdOption),
        ("past the end", &[3, 4, 0, 0, 0, 0, 0, 0], Malformed::TruncatedNdOption),
    ];
    for (what, octets, expected) in rows {
        assert_eq!(options(octets), [Err(expected)], "{what}");
    }
    assert_eq!(options(&[]), []);
}

fn repr() -> impl Strategy<Value = Repr> {
    let address = || any::<[u8; 16]>().prop_map(Ipv6Addr::from);
    prop_oneof![
        any::<u8>().prop_map(|code| Repr::DestinationUnreachable { code: Unreachable(code) }),
        any::<u32>().prop_map(|mtu| Repr::PacketTooBig { mtu }),
        any::<u8>().prop_map(|code| Repr::TimeExceeded { code: TimeExceeded(code) }),
        any::<(u8, u32)>().prop_map(|(code, pointer)| Repr::ParameterProblem {
            code: ParameterProblem(code),
            pointer
        }),
        any::<(u16, u16)>().prop_map(|(ident, sequence)| Repr::EchoRequest { ident, sequence }),
        any::<(u16, u16)>().prop_map(|(ident, sequence)| Repr::EchoReply { ident, sequence }),
        Just(Repr::RouterSolicitation),
        any::<(u8, bool, bool, u16, u32, u32)>().prop_map(|fields| Repr::RouterAdvertisement {
            hop_limit: fields.0,
            managed: fields.1,
            other_config: fields.2,
            router_lifetime: fields.3,
            reachable_time: fields.4,
            retrans_timer: fields.5,
        }),
        address().prop_map(|target| Repr::NeighborSolicitation { target }),
        (address(), any::<(bool, bool, bool)>()).prop_map(|(target, flags)| {
            Repr::NeighborAdvertisement {
                target,
                router: flags.0,
                solicited: flags.1,
                overrides: flags.2,
            }
        }),
        (address(), address())
            .prop_map(|(target, destination)| Repr::Redirect { target, destination }),
        (138u8.., any::<u8>(), any::<[u8; 4]>()).prop_map(|(kind, code, rest)| Repr::Other {
            kind: Kind(kind),
            code,
            rest
        }),
    ]
}

fn prefix() -> impl Strategy<Value = PrefixInformation> {
    any::<([u8; 16], u8, bool, bool, u32, u32)>().prop_map(|fields| PrefixInformation {
        prefix: fields.0.into(),
        prefix_len: fields.1,
        on_link: fields.2,
        autonomous: fields.3,
        valid_lifetime: fields.4,
        preferred_lifetime: fields.5,
    })
}

proptest! {
    #[test]
    fn what_was_emitted_parses_back(repr in repr(), payload in vec(any::<u8>(), 0..20)) {
        let bytes = emitted(repr, &payload);
        let message = Packet::new_unchecked(&bytes[..]);
        prop_assert_eq!(Repr::parse(&message), Ok(repr));
        prop_assert_eq!(message.kind(), repr.kind());
        prop_assert!(message.verify_checksum(pseudo()));
        prop_assert_eq!(message.payload(), &payload[..]);
    }

    #[test]
    fn emitted_options_are_read_back(
        mac: [u8; 6], mtu: u32, prefix in prefix(), units in 1usize..9,
    ) {
        let data = vec![0x5a; 8 * units - 2];
        let expected = [
            NdOption::SourceLinkLayer(MacAddr(mac)),
            NdOption::TargetLinkLayer(MacAddr(mac)),
            NdOption::Prefix(prefix),
            NdOption::Mtu(mtu),
            NdOption::Other { kind: 25, data: &data },
        ];

        let mut octets = Vec::new();
        for option in &expected {
            let start = octets.len();
            octets.resize(start + option.buffer_len(), 0xff);
            option.emit(&mut octets[start..]);
        }
        prop_assert_eq!(options(&octets), expected.map(Ok));
    }
}
