use proptest::collection::vec;
use proptest::prelude::*;
use std::string::ToString;
use std::vec::Vec;

use super::*;

const SYN: [u8; 32] = [
    0x9c, 0x40, 0x01, 0xbb, 0x01, 0x02, 0x03, 0x04, 0x00, 0x00, 0x00, 0x00, // ports, numbers
    0x70, 0xc2, 0xfa, 0xf0, 0x00, 0x00, 0x00, 0x00, // flags, window, checksum
    2, 4, 0x05, 0xb4, 4, 2, 1, 0, // MSS 1460, SACK permitted
    b'd', b'a', b't', b'a',
];

fn pseudo() -> Pseudo {
    Pseudo::v4([10, 0, 0, 1].into(), [10, 0, 0, 2].into())
}

/// A SYN with `options`, padded with end-of-options marks, and a right checksum.
fn syn_with(options: &[u8]) -> Vec<u8> {
    let mut bytes = SYN[..HEADER_LEN].to_vec();
    bytes.extend(options);
    bytes.resize(bytes.len().next_multiple_of(4), 0);

    let header_len = bytes.len();
    let mut segment = Segment::new_unchecked(&mut bytes[..]);
    segment.set_header_len(header_len);
    segment.fill_checksum(pseudo());
    bytes
}

fn options(octets: &[u8]) -> Vec<Result<TcpOption<'_>, Malformed>> {
    TcpOptions::new(octets).collect()
}

#[test]
fn fields_are_read_where_they_lie() {
    let segment = Segment::new_checked(&SYN[..]).unwrap();
    assert_eq!(segment.ports(), Ports { source: 40_000, destination: 443 });
    assert_eq!((segment.seq(), segment.ack()), (0x0102_0304, 0));
    assert_eq!((segment.header_len(), segment.window(), segment.urgent()), (28, 0xfaf0, 0));
    assert_eq!(segment.flags(), Flags::SYN | Flags::ECE | Flags::CWR);
    assert_eq!(segment.payload(), b"data");
    assert_eq!(segment.into_payload(), b"data");
}

#[test]
fn a_truncated_header_is_refused() {
    for len in 0..28 {
        let refused = Segment::new_checked(&SYN[..len]).unwrap_err();
        assert_eq!(refused, Malformed::TruncatedTcp);
    }
    assert!(Segment::new_checked(&SYN[..28]).unwrap().payload().is_empty());

    let bare = syn_with(&[]);
    assert_eq!(bare.len(), HEADER_LEN);
    assert_eq!(Segment::new_checked(&bare[..]).unwrap().options().next(), None);
}

#[test]
fn a_data_offset_below_the_header_is_refused() {
    for words in 0..5 {
        let mut segment = SYN;
        segment[12] = words << 4;
        assert_eq!(Segment::new_checked(segment).unwrap_err(), Malformed::BadTcpDataOffset);
    }
}

#[test]
fn flags_name_themselves() {
    assert_eq!((Flags::SYN | Flags::ACK).to_string(), "SYN|ACK");
    assert_eq!(Flags::NONE.to_string(), "none");
    assert_eq!(std::format!("{:?}", Flags::FIN), "Flags(FIN)");
    assert_eq!(Flags(0xff).to_string(), "FIN|SYN|RST|PSH|ACK|URG|ECE|CWR");
}

#[test]
fn only_a_bare_syn_opens_a_connection() {
    assert!(Flags::SYN.is_opening());
    assert!((Flags::SYN | Flags::ECE | Flags::CWR).is_opening(), "with ECN");
    assert!((Flags::SYN | Flags::PSH).is_opening(), "with data");
    for other in [Flags::NONE, Flags::ACK, Flags::SYN | Flags::ACK, Flags::SYN | Flags::RST] {
        assert!(!other.is_opening(), "{other}");
    }
}

#[test]
fn flags_are_a_set() {
    let both = Flags::SYN | Flags::ACK;
    assert_eq!(both | Flags::ACK, both);
    assert_eq!(both & !Flags::SYN, Flags::ACK);
    assert!(both.contains(Flags::ACK) && !Flags::ACK.contains(both));
    assert!(both.intersects(Flags::ACK | Flags::RST) && !both.intersects(Flags::RST));
    assert!(!Flags::NONE.intersects(both));
}

#[test]
fn options_are_walked_over_their_padding() {
    let octets = [
        1, 1, 2, 4, 0x05, 0xb4, // no-operations, MSS
        3, 3, 7, 4, 2, // window scale, SACK permitted
        8, 10, 0, 0, 0, 1, 0, 0, 0, 2, // timestamps
        5, 4, 0xab, 0xcd, 34, 2, // a stub of SACK, Fast Open
        0, 99, 99,
    ];
    assert_eq!(
        options(&octets),
        [
            Ok(TcpOption::MaxSegmentSize(1460)),
            Ok(TcpOption::WindowScale(7)),
            Ok(TcpOption::SackPermitted),
            Ok(TcpOption::Timestamps(Timestamps { value: 1, echo: 2 })),
            Ok(TcpOption::Other { kind: 5, data: &[0xab, 0xcd] }),
            Ok(TcpOption::Other { kind: 34, data: &[] }),
        ]
    );
}

#[test]
fn a_known_option_of_another_length_is_unknown() {
    assert_eq!(options(&[2, 3, 9]), [Ok(TcpOption::Other { kind: 2, data: &[9] })]);
    assert_eq!(options(&[4, 3, 9]), [Ok(TcpOption::Other { kind: 4, data: &[9] })]);
}

#[test]
fn broken_options_end_the_walk() {
    let rows: [(&str, &[u8]); 4] = [
        ("no length", &[2]),
        ("length 0", &[2, 0, 4, 2]),
        ("length 1", &[2, 1, 4, 2]),
        ("past the header", &[2, 6, 0, 0]),
    ];
    for (what, octets) in rows {
        assert_eq!(options(octets), [Err(Malformed::BadTcpOption)], "{what}");
        let bytes = syn_with(&[&[1, 1, 1], octets].concat());
        let segment = Segment::new_checked(bytes).unwrap();
        assert_eq!(Repr::parse(&segment), Err(Malformed::BadTcpOption), "{what}");
    }
}

#[test]
fn a_larger_segment_size_is_lowered() {
    let mut bytes = syn_with(&[2, 4, 0x05, 0xb4]);
    let mut segment = Segment::new_unchecked(&mut bytes[..]);
    assert_eq!(segment.clamp_mss(1410), Some(1460));
    assert_eq!(segment.options().next(), Some(Ok(TcpOption::MaxSegmentSize(1410))));
    assert!(segment.verify_checksum(pseudo()));
}

#[test]
fn whatever_need_not_be_lowered_is_left_alone() {
    let mut established = syn_with(&[2, 4, 0x05, 0xb4]);
    established[13] = Flags::ACK.0;
    let rows = [
        ("smaller", syn_with(&[2, 4, 0x02, 0x18])),
        ("equal", syn_with(&[2, 4, 0x05, 0x82])),
        ("absent", syn_with(&[4, 2])),
        ("behind the end of options", syn_with(&[0, 0, 2, 4, 0x05, 0xb4])),
        ("behind a broken option", syn_with(&[3, 0, 2, 4, 0x05, 0xb4])),
        ("no SYN", established),
    ];
    for (what, bytes) in rows {
        let mut segment = Segment::new_unchecked(bytes.clone());
        assert_eq!(segment.clamp_mss(1410), None, "{what}");
        assert_eq!(segment.into_inner(), bytes, "{what}");
    }
}

fn repr() -> impl Strategy<Value = Repr> {
    let numbers = any::<(u16, u16, u32, u32, u8, u16, u16)>();
    let options = any::<(Option<u16>, Option<u8>, bool, Option<(u32, u32)>)>();
    (numbers, options).prop_map(|(numbers, options)| Repr {
        ports: Ports { source: numbers.0, destination: numbers.1 },
        seq: numbers.2,
        ack: numbers.3,
        flags: Flags(numbers.4),
        window: numbers.5,
        urgent: numbers.6,
        max_segment_size: options.0,
        window_scale: options.1,
        sack_permitted: options.2,
        timestamps: options.3.map(|(value, echo)| Timestamps { value, echo }),
    })
}

proptest! {
    #[test]
    fn what_was_emitted_parses_back(repr in repr(), payload in vec(any::<u8>(), 0..20)) {
        let mut bytes = std::vec![0xff; repr.buffer_len()];
        bytes.extend(&payload);
        let mut segment = Segment::new_unchecked(bytes);
        repr.emit(&mut segment);

        prop_assert_eq!(Repr::parse(&segment), Ok(repr));
        prop_assert_eq!(segment.header_len(), repr.buffer_len());
        prop_assert_eq!(segment.payload(), &payload[..]);
    }

    #[test]
    fn an_emitted_option_is_read_back(kind in 20u8.., data in vec(any::<u8>(), 0..30)) {
        let option = TcpOption::Other { kind, data: &data };
        let mut octets = std::vec![0xff; option.buffer_len()];
        option.emit(&mut octets);
        prop_assert_eq!(options(&octets), [Ok(option)]);
    }

    #[test]
    fn a_filled_checksum_verifies_until_an_octet_changes(
        payload in vec(any::<u8>(), 0..50), at in any::<prop::sample::Index>(), flip in 1u8..,
    ) {
        let mut bytes = [&SYN[..], &payload].concat();
        Segment::new_unchecked(&mut bytes[..]).fill_checksum(pseudo());
        prop_assert!(Segment::new_unchecked(&bytes[..]).verify_checksum(pseudo()));

        bytes[at.index(SYN.len() + payload.len())] ^= flip;
        prop_assert!(!Segment::new_unchecked(&bytes[..]).verify_checksum(pseudo()));
    }

    #[test]
    fn clamping_at_any_offset_keeps_the_checksum_right(
        padding in 0usize..8, announced: u16, limit: u16, payload in vec(any::<u8>(), 0..9),
    ) {
        let mut mss = [1; 12];
        mss[padding..padding + 2].copy_from_slice(&[2, 4]);
        mss[padding + 2..padding + 4].copy_from_slice(&announced.to_be_bytes());
        let mut bytes = syn_with(&mss);
        bytes.extend(&payload);
        let mut segment = Segment::new_unchecked(&mut bytes[..]);
        segment.fill_checksum(pseudo());

        let lowered = segment.clamp_mss(limit);
        prop_assert_eq!(lowered, (announced > limit).then_some(announced));
        let now = segment.options().next();
        prop_assert_eq!(now, Some(Ok(TcpOption::MaxSegmentSize(announced.min(limit)))));

        let carried_over = segment.checksum();
        segment.fill_checksum(pseudo());
        prop_assert_eq!(carried_over, segment.checksum());
    }
}
