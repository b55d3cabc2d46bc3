use proptest::collection::vec;
use proptest::prelude::*;
use std::vec::Vec;

use super::*;

/// RFC 1071 read literally: 16-bit words, one after the other, each carry at once.
fn reference(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        if sum > 0xffff {
            sum -= 0xffff;
        }
    }
    !(sum as u16)
}

/// The octets with the right checksum over all of them in the two at `at`.
fn with_checksum(mut covered: Vec<u8>, at: usize) -> Vec<u8> {
    covered[at..at + 2].fill(0);
    let checksum = reference(&covered);
    covered[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    covered
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

proptest! {
    #[test]
    fn the_sum_is_that_of_the_literal_algorithm(bytes in vec(any::<u8>(), 0..600)) {
        prop_assert_eq!(Sum::of(&bytes).checksum(), reference(&bytes));
    }

    #[test]
    fn runs_of_even_length_add_up(bytes in vec(any::<u8>(), 0..200), cut in any::<usize>()) {
        let cut = (cut % (bytes.len() + 1)) & !1;
        let (head, tail) = bytes.split_at(cut);
        prop_assert_eq!(Sum::of(head).bytes(tail).checksum(), reference(&bytes));
    }

    #[test]
    fn words_count_like_their_octets(words in vec(any::<u16>(), 0..50)) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        let sum = words.iter().fold(Sum::ZERO, |sum, word| sum.word(*word));
        prop_assert_eq!(sum.checksum(), reference(&bytes));
    }

    #[test]
    fn octets_with_their_checksum_sum_to_zero(bytes in vec(any::<u8>(), 4..100)) {
        prop_assert_eq!(Sum::of(&with_checksum(bytes, 2)).checksum(), 0);
    }

    #[test]
    fn the_v4_pseudo_header_is_summed_as_laid_out(
        source: [u8; 4], destination: [u8; 4], protocol: u8, transport in vec(any::<u8>(), 0..90),
    ) {
        let mut laid_out = Vec::new();
        laid_out.extend(source);
        laid_out.extend(destination);
        laid_out.extend([0, protocol]);
        laid_out.extend((transport.len() as u16).to_be_bytes());
        laid_out.extend(&transport);

        let sum = Pseudo::v4(source.into(), destination.into())
            .cover(IpProtocol(protocol), &transport);
        prop_assert_eq!(sum.checksum(), reference(&laid_out));
    }

    #[test]
    fn the_v6_pseudo_header_is_summed_as_laid_out(
        source: [u8; 16], destination: [u8; 16], protocol: u8, len in 0..=u32::MAX,
    ) {
        let mut laid_out = Vec::new();
        laid_out.extend(source);
        laid_out.extend(destination);
        laid_out.extend(len.to_be_bytes());
        laid_out.extend([0, 0, 0, protocol]);

        let sum = Pseudo::v6(source.into(), destination.into())
            .sum(IpProtocol(protocol), len as usize);
        prop_assert_eq!(sum.checksum(), reference(&laid_out));
    }

    #[test]
    fn edits_give_the_checksum_a_full_sum_gives(
        bytes in vec(any::<u8>(), 60..90),
        port: u16, sequence: u32, v4: [u8; 4], v6: [u8; 16],
    ) {
        let mut bytes = with_checksum(bytes, 0);
        let old = bytes.clone();

        bytes[2..4].copy_from_slice(&port.to_be_bytes());
        bytes[6..10].copy_from_slice(&sequence.to_be_bytes());
        bytes[12..16].copy_from_slice(&v4);
        bytes[20..36].copy_from_slice(&v6);

        let old_v4: [u8; 4] = old[12..16].try_into().unwrap();
        let old_v6: [u8; 16] = old[20..36].try_into().unwrap();
        let old_sequence = u32::from_be_bytes(old[6..10].try_into().unwrap());
        let addresses = Delta::NONE.ipv4(old_v4.into(), v4.into()).ipv6(old_v6.into(), v6.into());
        let others = Delta::NONE.u16(u16_at(&old, 2), port).u32(old_sequence, sequence);

        let expected = u16_at(&with_checksum(bytes, 0), 0);
        let checksum = u16_at(&old, 0);
        prop_assert_eq!(addresses.and(others).apply(checksum), expected);
        prop_assert_eq!(others.apply(addresses.apply(checksum)), expected, "one after the other");
    }

    #[test]
    fn udp_edits_follow_the_rules_of_zero(
        bytes in vec(any::<u8>(), 20..40), old: u16, new: u16,
    ) {
        // a word that makes the sum come out as 0xffff, so that the computed checksum is 0
        let mut bytes = bytes;
        bytes[0..2].fill(0);
        bytes[2..4].copy_from_slice(&new.to_be_bytes());
        bytes[4..6].fill(0);
        let filler = reference(&bytes);
        bytes[4..6].copy_from_slice(&filler.to_be_bytes());
        prop_assert_eq!(reference(&bytes), 0);

        bytes[2..4].copy_from_slice(&old.to_be_bytes());
        let before = match reference(&bytes) { 0 => 0xffff, sum => sum };

        prop_assert_eq!(Delta::NONE.u16(old, new).apply_udp(before), 0xffff);
        prop_assert_eq!(Delta::NONE.u16(old, new).apply_udp(0), 0);
        prop_assert_ne!(Delta::NONE.u16(new, old).apply_udp(0xffff), 0);
    }

    #[test]
    fn udp_edits_give_the_checksum_a_full_sum_gives(
        bytes in vec(1u8.., 20..40), new: u16,
    ) {
        let sent = |mut bytes: Vec<u8>| {
            bytes[0..2].fill(0);
            match reference(&bytes) { 0 => 0xffff, sum => sum }
        };
        let (before, old) = (sent(bytes.clone()), u16_at(&bytes, 4));
        let mut bytes = bytes;
        bytes[4..6].copy_from_slice(&new.to_be_bytes());

        prop_assert_eq!(Delta::NONE.u16(old, new).apply_udp(before), sent(bytes));
    }

    #[test]
    fn partial_sums_follow_the_addresses(
        old: ([u8; 4], [u8; 4]), new: ([u8; 4], [u8; 4]),
        old6: ([u8; 16], [u8; 16]), new6: ([u8; 16], [u8; 16]), len in 0..=u16::MAX,
    ) {
        let sum = |pair: ([u8; 4], [u8; 4])| {
            Pseudo::v4(pair.0.into(), pair.1.into()).sum(IpProtocol::TCP, len.into()).partial()
        };
        let delta = Delta::NONE
            .ipv4(old.0.into(), new.0.into())
            .ipv4(old.1.into(), new.1.into());
        prop_assert_eq!(delta.apply_partial(sum(old)), sum(new));

        let sum6 = |pair: ([u8; 16], [u8; 16])| {
            Pseudo::v6(pair.0.into(), pair.1.into()).sum(IpProtocol::UDP, len.into()).partial()
        };
        let delta = Delta::NONE
            .ipv6(old6.0.into(), new6.0.into())
            .ipv6(old6.1.into(), new6.1.into());
        prop_assert_eq!(delta.apply_partial(sum6(old6)), sum6(new6));
    }

    #[test]
    fn no_change_leaves_every_field_as_it_was(field: u16) {
        prop_assert_eq!(Delta::NONE.apply(field), field);
        prop_assert_eq!(Delta::NONE.apply_udp(field), field);
        prop_assert_eq!(Delta::NONE.apply_partial(field), field);
    }
}

#[test]
fn carries_are_added_until_none_is_left() {
    // each step but the last leaves a carry
    assert_eq!(fold(0x0001_0000_ffff_ffff), 1);
    assert_eq!(fold(u64::MAX), 0xffff);
    assert_eq!(fold(0), 0);
}

#[test]
fn the_worked_example_of_rfc_1071_comes_out() {
    let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
    assert_eq!(Sum::of(&bytes).partial(), 0xddf2);
    assert_eq!(Sum::of(&bytes).checksum(), 0x220d);
}

#[test]
fn the_corner_case_of_rfc_1624_comes_out() {
    // §4: the older equation gives 0xffff here
    assert_eq!(Delta::NONE.u16(0x5555, 0x3285).apply(0xdd2f), 0x0000);
}

#[test]
fn long_runs_of_ones_do_not_overflow() {
    let bytes = std::vec![0xff; 1 << 20];
    assert_eq!(Sum::of(&bytes).checksum(), 0);
}
