//! Trains: frames of one flow in a row, which say the same but for what no slot holds.

use millrace_wire::IpProtocol;

/// What frames of a train have in common and others seldom: the cheapest question before
/// [`repeats`]. Of TCP and UDP over IPv4 it has the ports in it.
#[inline(always)]
pub fn mark(frame: &[u8]) -> u64 {
    let (_, behind) = frame.split_first_chunk::<32>().unwrap_or((&[0; 32], &[]));
    behind.first_chunk().map_or(0, |octets| u64::from_le_bytes(*octets))
}

/// Whether `frame` says the same as `before`, which is well-formed: then it is well-formed too, and
/// what [`parse`](crate::parse) makes of both is alike.
///
/// Knows TCP and UDP behind plain IP headers, and says no of anything else. Such frames differ in
/// their payload and its checksum alone, in IPv4's identification and, with that, in the checksum
/// of its header.
#[inline]
pub fn repeats(frame: &[u8], before: &[u8]) -> bool {
    if frame.len() != before.len() {
        return false;
    }
    let (Some(head), Some(head_before)) = (frame.first_chunk(), before.first_chunk()) else {
        return false;
    };
    match head[12..15] {
        [0x08, 0x00, 0x45] => {
            // ports, and UDP's length, are in the head
            is_alike(head, head_before, BUT_IDENT, BUT_CHECKSUM)
                && has_right_sum(head, head_before)
                && match IpProtocol(head[23]) {
                    IpProtocol::UDP => true,
                    IpProtocol::TCP => is_same_at::<2>(34 + TCP_OFFSET, frame, before),
                    _ => false,
                }
        }
        [0x86, 0xdd, version] if version >> 4 == 6 => {
            is_alike(head, head_before, u64::MAX, u64::MAX)
                && is_same_at::<18>(40, frame, before)
                && match IpProtocol(head[20]) {
                    IpProtocol::UDP => is_same_at::<2>(54 + UDP_LENGTH, frame, before),
                    IpProtocol::TCP => is_same_at::<2>(54 + TCP_OFFSET, frame, before),
                    _ => false,
                }
        }
        _ => false,
    }
}

/// Whether two heads are the same, in the third and the fourth word where the masks have ones.
#[inline(always)]
fn is_alike(head: &Head, before: &Head, third: u64, fourth: u64) -> bool {
    let (words, words_before) = (head.as_chunks::<8>().0, before.as_chunks::<8>().0);
    let differences =
        |at: usize| u64::from_le_bytes(words[at]) ^ u64::from_le_bytes(words_before[at]);
    let both_masked = differences(2) & third | differences(3) & fourth;
    differences(0) | differences(1) | both_masked | differences(4) == 0
}

/// Whether the checksum of an IPv4 header is right if that of the one before is, which differs in
/// the identification alone.
#[inline(always)]
fn has_right_sum(head: &Head, before: &Head) -> bool {
    let both = |head: &Head| {
        let word = |at| u32::from(u16::from_be_bytes([head[at], head[at + 1]]));
        word(IDENT) + word(CHECKSUM)
    };
    // in one's complement, 0xffff is nothing (RFC 1071)
    (both(head) + 2 * 0xffff - both(before)).is_multiple_of(0xffff)
}

/// Whether both have the same `LEN` octets from `at` on.
#[inline(always)]
fn is_same_at<const LEN: usize>(at: usize, frame: &[u8], before: &[u8]) -> bool {
    let octets = |frame: &[u8]| frame.get(at..)?.first_chunk::<LEN>().copied();
    octets(frame).is_some_and(|octets_here| Some(octets_here) == octets(before))
}

/// What is compared of every frame: Ethernet, IPv4, ports, UDP's length. Of IPv6 more is to come.
type Head = [u8; 40];

const IDENT: usize = 18;
const CHECKSUM: usize = 24;
/// The third word of a head without the identification.
const BUT_IDENT: u64 = !(0xffff << (8 * (IDENT - 16)));
/// The fourth without the header's checksum.
const BUT_CHECKSUM: u64 = !(0xffff << (8 * (CHECKSUM - 24)));
/// Where UDP has its length.
const UDP_LENGTH: usize = 4;
/// Where TCP has its data offset, and its flags behind that.
const TCP_OFFSET: usize = 12;
