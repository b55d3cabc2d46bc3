//! Malformed packets: each is dropped for one reason, and nobody else's packet with it.

use std::slice::from_ref;
use std::sync::Arc;

use millrace_abi::{Reason, ReasonGroup};
use millrace_dataplane::counters::Fate;
use millrace_filter::testing::frames::{self, Flags};
use millrace_filter::testing::strategies;
use millrace_filter::wire::{MacAddr, ipv4, ipv6};
use millrace_packet_tests::{Plane, built_in, load, plane, plane_in, sandbox, sandbox_with};
use millrace_sandbox::Sandbox;
use proptest::prelude::*;

/// A good packet, and what it lacks when it is cut off.
struct Specimen {
    what: &'static str,
    frame: Vec<u8>,
    /// Where its headers end, and why a frame that ends earlier is malformed.
    ends: Vec<(usize, Reason)>,
    /// The same behind the IP header, for packets whose IP length says where they are cut off.
    honest_ends: Vec<(usize, Reason)>,
}

/// Ports `a`, `b` and `c`, and filters of every sort: one that learns, one that rejects, one that
/// looks into packets.
fn watchful(sandbox: Arc<Sandbox>) -> Plane {
    let mut plane = plane_in(sandbox, &["a", "b", "c"]);
    load(&mut plane, built_in("bridge", "bridge", "{}"));
    let config = r#"{"rules": [{"port": 22}], "action": "reject"}"#;
    load(&mut plane, built_in("deny", "deny-list", config));
    load(&mut plane, built_in("dns", "dns-log", "{}"));
    plane
}

/// The one fate of a frame that comes in by `a`. One that is not dropped leaves by `b` and `c` as
/// it came.
fn fate(plane: &mut Plane, frame: &[u8]) -> Fate {
    let before = plane.tally();
    let left = plane.pass("a", &[frame.to_vec()]);
    let counted = |tally: &[(Fate, u64)], fate| {
        tally.iter().find(|(other, _)| *other == fate).map_or(0, |(_, packets)| *packets)
    };
    let changed: Vec<(Fate, u64)> = plane
        .tally()
        .into_iter()
        .map(|(fate, packets)| (fate, packets - counted(&before, fate)))
        .filter(|(_, packets)| *packets > 0)
        .collect();
    let [(fate, 1)] = changed[..] else { panic!("{frame:02x?} has the fates {changed:?}") };
    match fate {
        Fate::Flooded => {
            assert_eq!(left, ["b", "c"].map(|port| (port.to_owned(), frame.to_vec())));
        }
        _ => assert_eq!(left, [], "{fate:?}"),
    }
    fate
}

/// What becomes of a frame of `len` bytes: it is dropped if it does not reach the end of a header.
fn expected(ends: &[(usize, Reason)], len: usize) -> Fate {
    let lacking = ends.iter().find(|(end, _)| len < *end);
    lacking.map_or(Fate::Flooded, |(_, reason)| Fate::Dropped(*reason))
}

fn specimens() -> Vec<Specimen> {
    use Reason::*;
    const V4: (&str, &str) = ("10.0.0.1", "10.0.0.2");
    const V6: (&str, &str) = ("2001:db8::1", "2001:db8::2");
    let ethernet = (14, TruncatedEthernet);
    let v4 = |frame: &[u8]| vec![ethernet, (34, TruncatedIpv4), (frame.len(), BadIpv4Length)];
    let v6 = |frame: &[u8]| vec![ethernet, (54, TruncatedIpv6), (frame.len(), BadIpv6Length)];
    let ends = |what, frame: Vec<u8>, honest_ends: &[(usize, Reason)]| {
        let ends = if frame[12] == 0x08 { v4(&frame) } else { v6(&frame) };
        Specimen { what, frame, ends, honest_ends: honest_ends.to_vec() }
    };
    let udp = frames::udp("10.0.0.1:1", "10.0.0.2:53", b"question");
    let udp6 = frames::udp("[2001:db8::1]:1", "[2001:db8::2]:53", b"question");
    let mut all = vec![
        Specimen {
            what: "ARP",
            frame: frames::arp_request(V4.0, V4.1),
            ends: vec![ethernet, (42, BadArp)],
            honest_ends: vec![],
        },
        ends("UDP", udp, &[(42, TruncatedTransport), (50, BadTransport)]),
        ends("UDP over IPv6", udp6, &[(62, TruncatedTransport), (70, BadTransport)]),
        ends(
            "TCP",
            frames::tcp("10.0.0.1:1", "10.0.0.2:80", Flags::SYN, b"data"),
            &[(54, TruncatedTransport)],
        ),
        ends(
            "TCP over IPv6",
            frames::tcp("[2001:db8::1]:1", "[2001:db8::2]:80", Flags::SYN, b"data"),
            &[(74, TruncatedTransport)],
        ),
        ends(
            "SCTP",
            frames::sctp("10.0.0.1:1", "10.0.0.2:2", &[0; 4]),
            &[(46, TruncatedTransport)],
        ),
        ends("ICMP", frames::ping(V4.0, V4.1), &[(42, TruncatedTransport)]),
        ends("ICMPv6", frames::ping(V6.0, V6.1), &[(62, TruncatedTransport)]),
        ends(
            "neighbour discovery",
            frames::neighbour_solicitation(V6.0, V6.1),
            // without its first byte it might be anything
            &[(55, TruncatedTransport), (78, BadNd)],
        ),
        ends("another protocol", frames::ip(V4.0, V4.1, 253, b"anything"), &[]),
        ends(
            "extension headers",
            extended(&[(HOP_BY_HOP, 1), (DESTINATION, 2), (AUTHENTICATION, 2)], UDP, &UDP_HEADER),
            &[(94, BadExtensionHeaders), (102, TruncatedTransport)],
        ),
        ends(
            "a fragment",
            extended(&[(FRAGMENT, 1)], UDP, &UDP_HEADER),
            &[(62, BadExtensionHeaders), (70, TruncatedTransport)],
        ),
    ];

    // and each of them behind a tag, and behind two
    let tagged = |by: usize, specimen: &Specimen| {
        let Specimen { what, frame, ends, honest_ends } = specimen;
        let shifted = |ends: &[(usize, Reason)]| -> Vec<_> {
            ends.iter().map(|(end, reason)| (end + 4 * by, *reason)).collect()
        };
        let mut ends = shifted(ends);
        ends.splice(..1, [ethernet]);
        ends.splice(1..1, (1..=by).map(|tag| (14 + 4 * tag, BadVlan)));
        let frame = (0..by).fold(frame.clone(), |frame, _| frames::tagged(frame, 7));
        Specimen { what, frame, ends, honest_ends: shifted(honest_ends) }
    };
    let more: Vec<_> = [1, 2].iter().flat_map(|&by| all.iter().map(move |s| (by, s))).collect();
    let more: Vec<_> = more.into_iter().map(|(by, specimen)| tagged(by, specimen)).collect();
    all.extend(more);
    all
}

/// An IPv6 packet with these extension headers, each with its length in units of eight bytes.
fn extended(headers: &[(u8, u8)], upper: u8, payload: &[u8]) -> Vec<u8> {
    let followers = headers.iter().skip(1).map(|(kind, _)| *kind).chain([upper]);
    let mut chain = Vec::new();
    for (&(kind, units), next) in headers.iter().zip(followers) {
        let mut header = vec![0; usize::from(units) * 8];
        header[0] = next;
        header[1] = match kind {
            AUTHENTICATION => units * 2 - 2,
            FRAGMENT => 0,
            _ => units - 1,
        };
        chain.extend(header);
    }
    chain.extend_from_slice(payload);
    let first = headers.first().map_or(upper, |(kind, _)| *kind);
    frames::ip("2001:db8::1", "2001:db8::2", first, &chain)
}

/// The frame with these bytes from `at` on.
fn with(mut frame: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    frame
}

/// The frame, whose IPv4 header has a right checksum.
fn summed(mut frame: Vec<u8>) -> Vec<u8> {
    ipv4::Packet::new_unchecked(&mut frame[14..]).fill_checksum();
    frame
}

fn udp() -> Vec<u8> {
    frames::udp("10.0.0.1:1", "10.0.0.2:2", b"payload!")
}

fn udp6() -> Vec<u8> {
    frames::udp("[2001:db8::1]:1", "[2001:db8::2]:2", b"payload!")
}

#[test]
fn a_frame_that_is_cut_off_anywhere_has_one_reason() {
    let mut plane = watchful(sandbox());
    for Specimen { what, frame, ends, .. } in specimens() {
        for len in 0..=frame.len() {
            let found = fate(&mut plane, &frame[..len]);
            assert_eq!(found, expected(&ends, len), "{what} of {} bytes cut at {len}", frame.len());
        }
    }
}

#[test]
fn a_packet_whose_ip_length_says_where_it_is_cut_off_has_one_reason() {
    let mut plane = watchful(sandbox());
    for Specimen { what, frame, ends, honest_ends } in specimens() {
        let Some(&(ip_end, _)) = ends.iter().rev().nth(1) else { continue };
        if honest_ends.is_empty() {
            continue;
        }
        for len in ip_end..=frame.len() {
            let mut cut = frame[..len].to_vec();
            match ends.last() {
                Some((_, Reason::BadIpv4Length)) => {
                    let mut packet = ipv4::Packet::new_unchecked(&mut cut[ip_end - 20..]);
                    packet.set_total_len((len - ip_end + 20) as u16);
                    packet.fill_checksum();
                }
                _ => ipv6::Packet::new_unchecked(&mut cut[ip_end - 40..])
                    .set_payload_len((len - ip_end) as u16),
            }
            let found = fate(&mut plane, &cut);
            assert_eq!(found, expected(&honest_ends, len), "{what} cut at {len}");
        }
    }
}

#[test]
fn lengths_and_fields_that_lie_have_one_reason_each() {
    use Reason::*;
    let mut plane = watchful(sandbox());
    let arp = || frames::arp_request("10.0.0.1", "10.0.0.2");
    let tcp = || frames::tcp("10.0.0.1:1", "10.0.0.2:80", Flags::ACK, b"data");
    let nd = || frames::neighbour_solicitation("2001:db8::1", "2001:db8::2");
    for (what, frame, reason) in [
        ("an IPv4 packet that says it is none", with(udp(), 14, &[0x55]), BadIpv4Header),
        ("one that says it is IPv6", with(udp(), 14, &[0x65]), BadIpv4Header),
        ("a header of 16 bytes", with(udp(), 14, &[0x44]), BadIpv4Header),
        ("a header of no bytes", with(udp(), 14, &[0x40]), BadIpv4Header),
        ("a header longer than the packet", with(udp(), 14, &[0x4f]), TruncatedIpv4),
        ("no length", summed(with(udp(), 16, &[0, 0])), BadIpv4Length),
        ("a length shorter than the header", summed(with(udp(), 16, &[0, 19])), BadIpv4Length),
        ("one byte more than there is", summed(with(udp(), 16, &[0, 37])), BadIpv4Length),
        ("as much as can be", summed(with(udp(), 16, &[0xff, 0xff])), BadIpv4Length),
        ("a wrong checksum", with(udp(), 24, &[0xde, 0xad]), BadIpv4Checksum),
        ("a time to live that its checksum does not know", with(udp(), 22, &[7]), BadIpv4Checksum),
        ("an IPv6 packet that says it is none", with(udp6(), 14, &[0x40]), BadIpv6Header),
        ("one byte more than there is", with(udp6(), 18, &[0, 17]), BadIpv6Length),
        ("as much as can be", with(udp6(), 18, &[0xff, 0xff]), BadIpv6Length),
        ("a payload of nothing", with(udp6(), 18, &[0, 0]), TruncatedTransport),
        ("a datagram of no bytes", with(udp(), 38, &[0, 0]), BadTransport),
        ("one shorter than its header", with(udp(), 38, &[0, 7]), BadTransport),
        ("one longer than its packet", with(udp(), 38, &[0, 17]), BadTransport),
        ("a segment whose header is too short", with(tcp(), 46, &[0x40]), BadTransport),
        ("one whose header is longer than it", with(tcp(), 46, &[0xf0]), TruncatedTransport),
        ("a question from further than this link", with(nd(), 21, &[254]), BadNd),
        ("one with a code", with(nd(), 55, &[1]), BadNd),
        ("ARP for something else than Ethernet", with(arp(), 14, &[0, 6]), BadArp),
        ("ARP for something else than IPv4", with(arp(), 16, &[0x86, 0xdd]), BadArp),
        ("addresses of other lengths", with(arp(), 18, &[8, 16]), BadArp),
        ("a group that sends", with(udp(), 6, &[3]), MulticastSource),
        ("everybody at once", with(udp(), 6, &[0xff; 6]), MulticastSource),
        ("a group of IP that sends", summed(with(udp(), 26, &[224, 0, 0, 1])), Martian),
        ("broadcast that sends", summed(with(udp(), 26, &[255; 4])), Martian),
        ("a loopback that sends", summed(with(udp(), 26, &[127, 0, 0, 1])), Martian),
        ("to a loopback", summed(with(udp(), 30, &[127, 0, 0, 1])), Martian),
        ("to nobody", summed(with(udp(), 30, &[0; 4])), Martian),
        ("a group of IPv6 that sends", with(udp6(), 22, &[0xff]), Martian),
        (
            "an IPv4 address in the disguise of IPv6",
            with(udp6(), 22, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1]),
            Martian,
        ),
    ] {
        assert_eq!(fate(&mut plane, &frame), Fate::Dropped(reason), "{what}");
    }
}

#[test]
fn chains_of_extension_headers_are_followed_as_far_as_they_are_sound() {
    let mut plane = watchful(sandbox());
    let udp = |headers: &[(u8, u8)]| extended(headers, UDP, &UDP_HEADER);
    // what the last header of a packet says of its own length
    let lying = |headers: &[(u8, u8)], length: u8| {
        let last = headers.last().expect("there is one").1;
        let frame = udp(headers);
        let at = frame.len() - UDP_HEADER.len() - usize::from(last) * 8 + 1;
        with(frame, at, &[length])
    };
    let mut jumbogram = extended(&[(HOP_BY_HOP, 1)], UDP, &UDP_HEADER);
    jumbogram[56..62].copy_from_slice(&[0xc2, 4, 0, 1, 0, 0]);
    jumbogram[18..20].fill(0);
    for (what, frame, sound) in [
        ("no header", udp(&[]), true),
        ("one", udp(&[(DESTINATION, 1)]), true),
        ("eight", udp(&[(DESTINATION, 1); 8]), true),
        ("nine", udp(&[(DESTINATION, 1); 9]), false),
        ("a hundred", udp(&[(DESTINATION, 1); 100]), false),
        ("hop-by-hop options in front", udp(&[(HOP_BY_HOP, 1), (ROUTING, 3)]), true),
        ("hop-by-hop options behind", udp(&[(ROUTING, 3), (HOP_BY_HOP, 1)]), false),
        ("hop-by-hop options twice", udp(&[(HOP_BY_HOP, 1); 2]), false),
        ("a fragment", udp(&[(FRAGMENT, 1)]), true),
        ("a fragment of a fragment", udp(&[(FRAGMENT, 1); 2]), false),
        ("a long header", udp(&[(DESTINATION, 150)]), true),
        ("a header that ends behind the packet", lying(&[(DESTINATION, 1)], 2), false),
        ("one that ends far behind it", lying(&[(ROUTING, 1)], 255), false),
        ("authentication that is too short", lying(&[(AUTHENTICATION, 2)], 0), false),
        ("a chain that ends in the middle", extended(&[(ROUTING, 1)], DESTINATION, &[]), false),
        ("half a header", extended(&[(ROUTING, 1)], DESTINATION, &[0; 4]), false),
        ("nothing behind it", extended(&[(DESTINATION, 1)], NOTHING, &[]), true),
        ("something behind it that is encrypted", extended(&[(ROUTING, 1)], ESP, &[9; 8]), true),
        ("a length beyond all packets", jumbogram, false),
    ] {
        let expected =
            if sound { Fate::Flooded } else { Fate::Dropped(Reason::BadExtensionHeaders) };
        assert_eq!(fate(&mut plane, &frame), expected, "{what}");
    }
}

#[test]
fn tags_are_stacked_two_high() {
    let mut plane = watchful(sandbox());
    for outer in [0x8100u16, 0x88a8] {
        for tags in 0..40 {
            let mut frame = udp();
            for tag in 0..tags {
                let ether_type = if tag + 1 == tags { outer } else { 0x8100 };
                let tag = [ether_type.to_be_bytes(), [0, 7]].concat();
                frame.splice(12..12, tag);
            }
            let expected = if tags <= 2 { Fate::Flooded } else { Fate::Dropped(Reason::BadVlan) };
            assert_eq!(fate(&mut plane, &frame), expected, "{tags} tags");
        }
    }
}

#[test]
fn a_frame_is_no_larger_than_the_port_it_leaves_by_carries() {
    for (len, expected) in [
        (1514, Fate::Flooded),
        (1515, Fate::Dropped(Reason::TooBig)),
        (3839, Fate::Dropped(Reason::TooBig)),
        (3840, Fate::Dropped(Reason::TooBig)),
    ] {
        let headers = udp().len() - 8;
        let whole = frames::udp("10.0.0.1:1", "10.0.0.2:2", &vec![7; len - headers]);
        // whether it says so itself, or only its frame is that long
        let padded = [udp(), vec![0; len - headers - 8]].concat();
        let mut other = padded.clone();
        other[12..14].copy_from_slice(&[0x88, 0x70]);
        for (what, frame) in [("whole", whole), ("padded", padded), ("no IP", other)] {
            let mut plane = plane(&["a", "b", "c"]);
            load(&mut plane, built_in("bridge", "bridge", "{}"));
            let left = plane.pass("a", from_ref(&frame));
            let flooded = expected == Fate::Flooded;
            assert_eq!(left.len(), if flooded { 2 } else { 0 }, "{what}, {len} bytes");
            // both copies have their fate, and one of them is the packet's
            plane.counts_more(u64::from(!flooded));
            let fates = if flooded { 1 } else { 2 };
            assert_eq!(plane.tally(), [(expected, fates)], "{what}, {len} bytes");
        }
    }
}

#[test]
fn a_packet_with_any_byte_turned_over_has_one_fate() {
    let mut plane = watchful(sandbox());
    for Specimen { what, frame, .. } in specimens() {
        for at in 0..frame.len() {
            match fate(&mut plane, &with(frame.clone(), at, &[!frame[at]])) {
                Fate::Flooded => {}
                Fate::Dropped(reason) if reason.group() == ReasonGroup::Malformed => {}
                other => panic!("{what} with byte {at} turned over: {other:?}"),
            }
        }
    }
}

/// Whatever comes in beside them, good packets go their way in order; the books say the rest.
#[test]
fn good_packets_go_their_way_among_any_others() {
    let bad = prop_oneof![
        3 => strategies::damaged_frame(),
        1 => prop::collection::vec(any::<u8>(), 0..200),
    ];
    let packet = prop_oneof![2 => bad.prop_map(Some), 1 => Just(None)];
    let compiled = tempfile::tempdir().expect("there is room");
    proptest!(ProptestConfig::with_cases(64), |(packets in prop::collection::vec(packet, 1..150))| {
        let mut plane = watchful(sandbox_with(compiled.path()));
        plane.pass("b", &[frames::between(udp(), STATIONS[1], STATIONS[0])]);
        let (mut sent, mut good) = (Vec::new(), Vec::new());
        for (n, packet) in (0u16..).zip(packets) {
            sent.push(packet.unwrap_or_else(|| {
                let packet = frames::udp("10.9.9.1:1", "10.9.9.2:2", &n.to_be_bytes());
                good.push(frames::between(packet, STATIONS[0], STATIONS[1]));
                good[good.len() - 1].clone()
            }));
        }
        let ends = [STATIONS[1].0, STATIONS[0].0].concat();
        let left = plane.pass("a", &sent).into_iter();
        let ours: Vec<_> = left.filter(|(_, frame)| frame.starts_with(&ends)).collect();
        let good: Vec<_> = good.into_iter().map(|frame| ("b".to_owned(), frame)).collect();
        prop_assert_eq!(ours, good);
        for stage in ["bridge", "deny", "dns"] {
            let faults: u64 = plane.stage(stage).counters.faults.values().sum();
            prop_assert_eq!(faults, 0);
        }
    });
}

/// Two stations that no other packet comes from or goes to.
const STATIONS: [MacAddr; 2] = [MacAddr([6, 9, 9, 9, 9, 1]), MacAddr([6, 9, 9, 9, 9, 2])];

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const ESP: u8 = 50;
const AUTHENTICATION: u8 = 51;
const NOTHING: u8 = 59;
const DESTINATION: u8 = 60;
const UDP: u8 = 17;

/// A UDP header without payload.
const UDP_HEADER: [u8; 8] = [0, 1, 0, 2, 0, 8, 0, 0];
