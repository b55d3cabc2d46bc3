//! VLANs: where a frame belongs, which ports it leaves by, and with which tag.

use std::sync::Arc;

use millrace_abi::Reason;
use millrace_dataplane::counters::Fate;
use millrace_dataplane::port::Vlans;
use millrace_filter::testing::frames;
use millrace_filter::wire::MacAddr;
use millrace_packet_tests::{Plane, built_in, load, plane_of, sandbox, sandbox_with};
use millrace_sandbox::Sandbox;
use proptest::prelude::*;

/// Ports of every kind; `b…` are where frames are seen to leave.
const PORTS: [(&str, &str); 7] = [
    ("a10", "access:10"),
    ("b10", "access:10"),
    ("b20", "access:20"),
    ("trunk", "trunk:10+20"),
    ("native", "trunk:20+native:10"),
    ("all", "transparent"),
    ("clear", "transparent"),
];

/// Customer and service tags.
const C: u16 = 0x8100;
const S: u16 = 0x88a8;

/// A tag as it is in a frame: its EtherType and its 16 bits.
type Tag = (u16, u16);
type Tags = &'static [Tag];

fn bridged(ports: &[(&str, &str)]) -> Plane {
    bridged_in(sandbox(), ports)
}

fn bridged_in(sandbox: Arc<Sandbox>, ports: &[(&str, &str)]) -> Plane {
    let mut plane = plane_of(sandbox, ports);
    load(&mut plane, built_in("bridge", "bridge", "{}"));
    plane
}

fn station(n: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, n])
}

/// A frame from one station to another with these tags, the outer one first.
fn frame(from: u8, to: u8, tags: &[Tag]) -> Vec<u8> {
    let plain = frames::udp("10.0.0.1:1", "10.0.0.2:2", b"payload");
    let mut frame = frames::between(plain, station(from), station(to));
    let tags: Vec<u8> =
        tags.iter().flat_map(|&(kind, bits)| [kind, bits]).flat_map(u16::to_be_bytes).collect();
    frame.splice(12..12, tags);
    frame
}

/// The tags of a frame, and the frame without them.
fn untagged(frame: &[u8]) -> (Vec<Tag>, Vec<u8>) {
    let (mut tags, mut plain) = (Vec::new(), frame.to_vec());
    let word = |frame: &[u8], at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    while [C, S].contains(&word(&plain, 12)) {
        tags.push((word(&plain, 12), word(&plain, 14)));
        plain.drain(12..16);
    }
    (tags, plain)
}

/// Where a frame left and with which tags; the rest of it is as it came in.
fn left(plane: &mut Plane, port: &str, sent: &[u8]) -> Vec<(String, Vec<Tag>)> {
    let (_, plain) = untagged(sent);
    let packets = plane.pass(port, &[sent.to_vec()]);
    let described = packets.into_iter().map(|(port, packet)| {
        let (tags, rest) = untagged(&packet);
        assert_eq!(rest, plain, "only tags change");
        (port, tags)
    });
    described.collect()
}

#[test]
fn a_flooded_frame_leaves_by_the_ports_of_its_vlan_each_with_the_tag_it_wants() {
    /// What comes in by a port, and where it leaves.
    struct Row(
        &'static str,
        &'static str,
        &'static [Tag],
        &'static [(&'static str, &'static [Tag])],
    );
    let rows = [
        Row(
            "an untagged frame belongs to the VLAN of its access port",
            "a10",
            &[],
            &[
                ("all", &[(C, 10)]),
                ("b10", &[]),
                ("clear", &[(C, 10)]),
                ("native", &[]),
                ("trunk", &[(C, 10)]),
            ],
        ),
        Row(
            "so does one whose tag says nothing but a priority, which it keeps where there are tags",
            "a10",
            &[(C, 0xa000)],
            &[
                ("all", &[(C, 0xa00a)]),
                ("b10", &[]),
                ("clear", &[(C, 0xa00a)]),
                ("native", &[]),
                ("trunk", &[(C, 0xa00a)]),
            ],
        ),
        Row(
            "a tagged frame of a trunk belongs to the VLAN of its tag",
            "trunk",
            &[(C, 20)],
            &[("all", &[(C, 20)]), ("b20", &[]), ("clear", &[(C, 20)]), ("native", &[(C, 20)])],
        ),
        Row(
            "priority and eligibility to be dropped stay with a tag",
            "trunk",
            &[(C, 0xf014)],
            &[
                ("all", &[(C, 0xf014)]),
                ("b20", &[]),
                ("clear", &[(C, 0xf014)]),
                ("native", &[(C, 0xf014)]),
            ],
        ),
        Row(
            "an untagged frame of a trunk belongs to its native VLAN",
            "native",
            &[],
            &[
                ("a10", &[]),
                ("all", &[(C, 10)]),
                ("b10", &[]),
                ("clear", &[(C, 10)]),
                ("trunk", &[(C, 10)]),
            ],
        ),
        Row(
            "a tagged frame of a trunk with a native VLAN belongs to the VLAN of its tag",
            "native",
            &[(C, 20)],
            &[("all", &[(C, 20)]), ("b20", &[]), ("clear", &[(C, 20)]), ("trunk", &[(C, 20)])],
        ),
        Row(
            "without any VLAN there are only ports that carry everything",
            "all",
            &[],
            &[("clear", &[])],
        ),
        Row(
            "those carry priorities without a VLAN as they are",
            "all",
            &[(C, 0x6000)],
            &[("clear", &[(C, 0x6000)])],
        ),
        Row("and VLANs that nobody else has", "all", &[(C, 4094)], &[("clear", &[(C, 4094)])]),
        Row(
            "of two tags the outer one counts, and the inner one is payload",
            "all",
            &[(S, 10), (C, 30)],
            &[
                ("a10", &[(C, 30)]),
                ("b10", &[(C, 30)]),
                ("clear", &[(S, 10), (C, 30)]),
                ("native", &[(C, 30)]),
                ("trunk", &[(S, 10), (C, 30)]),
            ],
        ),
        Row(
            "whatever kind of tag it is",
            "all",
            &[(C, 20), (C, 10)],
            &[
                ("b20", &[(C, 10)]),
                ("clear", &[(C, 20), (C, 10)]),
                ("native", &[(C, 20), (C, 10)]),
                ("trunk", &[(C, 20), (C, 10)]),
            ],
        ),
    ];
    for Row(what, port, tags, expected) in rows {
        let mut plane = bridged(&PORTS);
        let found = left(&mut plane, port, &frame(1, 2, tags));
        let expected: Vec<_> =
            expected.iter().map(|(port, tags)| ((*port).to_owned(), tags.to_vec())).collect();
        assert_eq!(found, expected, "{what}");
        assert_eq!(plane.tally(), [(Fate::Flooded, 1)], "{what}");
    }
}

#[test]
fn nobody_hops_to_a_vlan_of_a_trunk_by_a_second_tag_in_its_native_vlan() {
    let mut plane = bridged(&PORTS);
    left(&mut plane, "native", &frame(7, 99, &[]));
    for (inner, expected) in [(20, None), (10, Some(10)), (30, Some(30))] {
        let found = left(&mut plane, "all", &frame(1, 7, &[(C, 10), (C, inner)]));
        let expected = expected.map(|inner| ("native".to_owned(), vec![(C, inner)]));
        assert_eq!(found, Vec::from_iter(expected), "{inner} inside");
    }
    let hop = (Fate::Dropped(Reason::VlanNotAllowed), 1);
    assert_eq!(plane.tally(), [(Fate::Forwarded, 2), (Fate::Flooded, 1), hop]);
}

#[test]
fn a_frame_of_a_vlan_that_its_port_does_not_carry_is_dropped_and_counted() {
    let rows: [(&str, &str, &[Tag]); 9] = [
        ("an access port takes no tag", "a10", &[(C, 20)]),
        ("not even one that says its own VLAN", "a10", &[(C, 10)]),
        ("nor a service tag", "a10", &[(S, 10), (C, 10)]),
        ("a trunk without a native VLAN takes nothing untagged", "trunk", &[]),
        ("nor a tag without a VLAN", "trunk", &[(C, 0xe000)]),
        ("a trunk takes no other VLAN", "trunk", &[(C, 30)]),
        ("whatever the inner tag says", "trunk", &[(S, 30), (C, 10)]),
        ("the native VLAN has no tag", "native", &[(C, 10)]),
        ("the VLAN 4095 is none", "all", &[(C, 0x0fff)]),
    ];
    for (what, port, tags) in rows {
        let mut plane = bridged(&PORTS);
        assert_eq!(left(&mut plane, port, &frame(1, 2, tags)), [], "{what}");
        assert_eq!(plane.tally(), [(Fate::Dropped(Reason::VlanNotAllowed), 1)], "{what}");
        let key = plane.fates().into_keys().next().expect("it was counted");
        assert_eq!(Some(key.port), plane.port(port), "{what}");

        // nor does it teach anybody where its sender is
        let found = left(&mut plane, "all", &frame(2, 1, &[(C, 10)]));
        assert!(found.len() > 1, "{what}: {found:?}");
    }
}

#[test]
fn a_known_station_is_reached_with_the_tag_that_its_port_wants() {
    // the station is behind `at`, and speaks with these tags; it is reached from `from`
    type Row = (&'static str, &'static str, Tags, &'static str, Tags, Tags);
    let rows: [Row; 7] = [
        ("access to access", "b10", &[], "a10", &[], &[]),
        ("trunk to access", "b10", &[], "trunk", &[(C, 10)], &[]),
        ("access to trunk", "trunk", &[(C, 10)], "a10", &[], &[(C, 10)]),
        ("access to native", "native", &[], "a10", &[], &[]),
        ("native to trunk", "trunk", &[(C, 10)], "native", &[], &[(C, 10)]),
        ("priority to trunk", "trunk", &[(C, 10)], "a10", &[(C, 0x8000)], &[(C, 0x800a)]),
        ("transparent to native", "native", &[(C, 20)], "all", &[(C, 20)], &[(C, 20)]),
    ];
    for (what, at, speaks, from, sent, expected) in rows {
        let mut plane = bridged(&PORTS);
        left(&mut plane, at, &frame(7, 99, speaks));
        // once asked about, then remembered
        for _ in 0..3 {
            let found = left(&mut plane, from, &frame(1, 7, sent));
            assert_eq!(found, [(at.to_owned(), expected.to_vec())], "{what}");
        }
        assert_eq!(plane.tally(), [(Fate::Forwarded, 3), (Fate::Flooded, 1)], "{what}");
    }
}

#[test]
fn one_address_in_two_vlans_is_two_stations() {
    let mut plane = bridged(&PORTS);
    left(&mut plane, "b10", &frame(7, 99, &[]));
    left(&mut plane, "b20", &frame(7, 99, &[]));
    assert_eq!(left(&mut plane, "trunk", &frame(1, 7, &[(C, 10)])), [("b10".to_owned(), vec![])]);
    assert_eq!(left(&mut plane, "trunk", &frame(1, 7, &[(C, 20)])), [("b20".to_owned(), vec![])]);
    let elsewhere = left(&mut plane, "all", &frame(1, 7, &[(C, 30)]));
    assert_eq!(elsewhere, [("clear".to_owned(), vec![(C, 30)])], "it is unknown there");
}

#[test]
fn a_decision_for_a_port_that_does_not_carry_the_vlan_is_not_carried_out() {
    let mut plane = plane_of(sandbox(), &PORTS);
    let way = millrace_packet_tests::guests::forwarder(3).build();
    load(&mut plane, millrace_packet_tests::module_as("way", way, ""));
    assert_eq!(left(&mut plane, "a10", &frame(1, 2, &[])), []);
    assert_eq!(plane.tally(), [(Fate::Dropped(Reason::VlanNotAllowed), 1)]);
    assert_eq!(left(&mut plane, "trunk", &frame(1, 2, &[(C, 20)])), [("b20".to_owned(), vec![])]);
}

#[test]
fn a_tag_that_has_no_room_or_makes_a_frame_too_large_is_not_put_on() {
    // an MTU speaks of what is behind the tags
    let full = |payload: usize, tags: &[Tag]| {
        let plain = frames::udp("10.0.0.1:1", "10.0.0.2:2", &vec![7; payload]);
        let mut frame = frames::between(plain, station(1), station(2));
        let tags: Vec<u8> =
            tags.iter().flat_map(|&(kind, bits)| [kind, bits]).flat_map(u16::to_be_bytes).collect();
        frame.splice(12..12, tags);
        frame
    };
    let ports = [("a10", "access:10"), ("trunk", "trunk:10")];
    for (what, payload, sent_by, tags, reached) in [
        ("a full packet gets a tag", 1472, "a10", vec![], true),
        ("one more byte is too many", 1473, "a10", vec![], false),
        ("a full packet loses a tag", 1472, "trunk", vec![(C, 10)], true),
        ("and one too large is too large without it", 1473, "trunk", vec![(C, 10)], false),
        ("two tags count as little as one", 1472, "trunk", vec![(C, 10), (C, 20)], true),
    ] {
        let mut plane = bridged(&ports);
        let found = left(&mut plane, sent_by, &full(payload, &tags));
        assert_eq!(found.len(), usize::from(reached), "{what}");
        let dropped = u64::from(!reached);
        assert_eq!(plane.count(Fate::Dropped(Reason::TooBig)), dropped, "{what}");
    }

    // neither do the tags of a frame that is not IP count
    let mut other = full(1472, &[(C, 10)]);
    other[16..18].copy_from_slice(&0x88b5u16.to_be_bytes());
    let mut plane = bridged(&ports);
    assert_eq!(left(&mut plane, "trunk", &other).len(), 1);
}

#[test]
fn a_rejection_has_the_tag_of_what_it_rejects() {
    let mut plane = bridged(&PORTS);
    let config = r#"{"rules": [{}], "action": "reject"}"#;
    load(&mut plane, built_in("deny", "deny-list", config));
    for (port, tags) in [("a10", vec![]), ("trunk", vec![(C, 20)]), ("native", vec![])] {
        let replies = plane.pass(port, &[frame(1, 2, &tags)]);
        let [(by, reply)] = &replies[..] else { panic!("there is one reply, not {replies:?}") };
        assert_eq!((by.as_str(), untagged(reply).0), (port, tags));
    }
}

/// Ports as somebody might configure them.
fn vlans() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("transparent".to_owned()),
        (1..5u16).prop_map(|vlan| format!("access:{vlan}")),
        prop::collection::btree_set(1..5u16, 1..4).prop_map(|set| {
            let list: Vec<_> = set.iter().map(u16::to_string).collect();
            format!("trunk:{}", list.join("+"))
        }),
        (1..5u16, 1..5u16).prop_map(|(tagged, native)| format!("trunk:{tagged}+native:{native}")),
    ]
}

/// What leaves by a port would belong to the same VLAN if it came in by it, and every port that
/// carries the VLAN gets it.
#[test]
fn no_frame_ever_changes_its_vlan() {
    let names = ["p0", "p1", "p2", "p3"];
    let sent = (any::<prop::sample::Index>(), 0..6u16, any::<bool>());
    let steps = (prop::collection::vec(vlans(), 2..5), prop::collection::vec(sent, 1..12));
    let compiled = tempfile::tempdir().expect("there is room");
    proptest!(ProptestConfig::with_cases(64), |((ports, sent) in steps)| {
        let named: Vec<(&str, &str)> =
            names.into_iter().zip(ports.iter().map(String::as_str)).collect();
        let parsed: Vec<Vlans> =
            ports.iter().map(|text| text.parse().expect("`vlans` makes such")).collect();
        let mut plane = bridged_in(sandbox_with(compiled.path()), &named);
        for (n, (index, vid, tagged)) in (1u8..).zip(sent) {
            let at = index.index(named.len());
            let tags = if tagged { vec![(C, vid)] } else { vec![] };
            let found = left(&mut plane, named[at].0, &frame(n, 200, &tags));
            let vlan = parsed[at].classify(if tagged { vid } else { 0 });
            let expected: Vec<&str> = named
                .iter()
                .zip(&parsed)
                .filter(|((name, _), _)| *name != named[at].0)
                .filter(|(_, vlans)| vlan.is_some_and(|vlan| vlans.tagging(vlan).is_some()))
                .map(|((name, _), _)| *name)
                .collect();
            let reached: Vec<&str> = found.iter().map(|(port, _)| port.as_str()).collect();
            prop_assert_eq!(reached, expected);
            for (port, tags) in &found {
                let by = named.iter().position(|(name, _)| name == port).expect("it is one");
                let tag = tags.first().map_or(0, |(_, bits)| bits & 0xfff);
                prop_assert_eq!(parsed[by].classify(tag), vlan, "at {}", port);
            }
        }
    });
}
