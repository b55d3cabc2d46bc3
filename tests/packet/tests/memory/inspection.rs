//! The packet hook: who is shown which packets, and what becomes of them.

use std::slice::from_ref;

use millrace_abi::{Capability, Class, Reason};
use millrace_dataplane::control::request::{Load, StageTerms};
use millrace_dataplane::control::status::StageTotals;
use millrace_dataplane::counters::Fate;
use millrace_dataplane::stage::{Mode, OnFault};
use millrace_dataplane::worker::WorkerSettings;
use millrace_filter::testing::frames;
use millrace_filter::wire::MacAddr;
use millrace_packet_tests::guests::{self, Guest, inspect, to_port, when, write_byte};
use millrace_packet_tests::{Plane, load, module_as, plane, plane_with};

/// The port whose flows are looked into.
const WATCHED: u16 = 9;
/// All packets of a flow.
const ALL: u16 = 0xffff;
/// Where the payload of an untagged UDP packet over IPv4 begins.
const PAYLOAD: usize = 42;

/// What comes in by any port leaves by `b`, and the guest looks into what it asks for.
fn watched_by(guest: &Guest) -> Plane {
    watched_with(guest, WorkerSettings::default())
}

fn watched_with(guest: &Guest, settings: WorkerSettings) -> Plane {
    let mut plane = plane_with(&["a", "b", "c"], settings);
    load(&mut plane, module_as("way", guests::forwarder(2).build(), ""));
    load(&mut plane, module_as("guest", guest.build(), ""));
    plane
}

/// A guest that asks for `packets` packets of the watched flows, and does `body` with each.
fn watching(packets: u16, body: &str) -> Guest {
    Guest::new().flow(&when(&to_port(WATCHED), &inspect(packets))).packet(body)
}

fn udp(source_port: u16, port: u16, payload: &[u8]) -> Vec<u8> {
    frames::udp(&format!("10.0.0.1:{source_port}"), &format!("10.0.0.2:{port}"), payload)
}

fn counted(plane: &Plane) -> StageTotals {
    plane.stage("guest").counters
}

/// Packets and the class that each is of.
fn specimens() -> Vec<(Class, Vec<u8>)> {
    let mut fragment = udp(1, 2, b"12345678");
    fragment[20] = 0x20; // more fragments
    fragment[24..26].fill(0);
    let checksum = internet_checksum(&fragment[14..34]);
    fragment[24..26].copy_from_slice(&checksum.to_be_bytes());
    let mut unknown = frames::arp_request("10.0.0.1", "10.0.0.2");
    unknown[12..14].copy_from_slice(&0x88b5u16.to_be_bytes());
    vec![
        (Class::Flow, udp(1, 2, b"x")),
        (Class::Arp, frames::arp_request("10.0.0.1", "10.0.0.2")),
        (Class::Nd, frames::neighbour_solicitation("2001:db8::1", "2001:db8::2")),
        (Class::Icmp, frames::ping("10.0.0.1", "10.0.0.2")),
        (Class::Fragment, fragment),
        (Class::OtherIp, frames::ip("10.0.0.1", "10.0.0.2", 253, b"x")),
        (Class::NonIp, unknown),
    ]
}

fn internet_checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    !((sum & 0xffff) + (sum >> 16)) as u16
}

#[test]
fn every_packet_of_a_flow_that_is_asked_for_is_shown_and_no_other() {
    for cache in [true, false] {
        let settings = WorkerSettings { cache, ..WorkerSettings::default() };
        let mut plane = watched_with(&watching(ALL, ""), settings);
        for burst in [1, 9, 2] {
            let mut packets = vec![udp(1, WATCHED, b"seen"); burst];
            packets.extend(vec![udp(1, WATCHED + 1, b"unseen"); 5]);
            assert_eq!(plane.pass("a", &packets).len(), burst + 5);
        }
        let counted = counted(&plane);
        assert_eq!(counted.shown, 12, "cache: {cache}");
        assert_eq!(
            (counted.shown_dropped, counted.shown_answered, counted.shown_rewritten),
            (0, 0, 0)
        );
    }
}

#[test]
fn the_first_packets_of_a_flow_are_shown_whether_they_are_asked_about_or_remembered() {
    for first in [0, 1, 2, 3, 5, 100] {
        for bursts in [vec![1; 8], vec![8], vec![2, 6], vec![3, 3, 2], vec![1, 7]] {
            let mut plane = watched_by(&watching(first, ""));
            for &burst in &bursts {
                // two flows, one behind the other and in turns
                let pair = [udp(1, WATCHED, b"x"), udp(2, WATCHED, b"y")];
                let pairs = vec![pair; burst].concat();
                assert_eq!(plane.pass("a", &pairs).len(), 2 * burst);
            }
            let expected = 2 * u64::from(first.min(8));
            assert_eq!(counted(&plane).shown, expected, "the first {first} of {bursts:?}");
        }
    }
}

#[test]
fn a_flow_whose_place_is_taken_takes_nothing_from_who_takes_it() {
    // a map with eight places, and many more flows than that in one burst
    let settings = WorkerSettings { flows: 8, ..WorkerSettings::default() };
    let mut plane = watched_with(&watching(1, ""), settings);
    plane.pass("a", &[udp(1, WATCHED, b"x")]);
    let flows: Vec<_> = (1..60).map(|n| udp(n, WATCHED, b"x")).collect();
    assert_eq!(plane.pass("a", &flows).len(), flows.len());
    assert_eq!(counted(&plane).shown, flows.len() as u64, "the first one of each, once");
}

#[test]
fn a_released_flow_is_shown_no_more_until_it_is_decided_again() {
    let mut plane = watched_by(&watching(ALL, &guests::release()));
    for _ in 0..5 {
        assert_eq!(plane.pass("a", &[udp(1, WATCHED, b"x")]).len(), 1);
    }
    assert_eq!(counted(&plane).shown, 1);
    plane.pass("a", &[udp(2, WATCHED, b"x")]);
    assert_eq!(counted(&plane).shown, 2, "each flow is released by itself");
    plane.stages.configure("guest", "{}").expect("it takes any");
    for _ in 0..5 {
        plane.pass("a", &[udp(1, WATCHED, b"x")]);
    }
    assert_eq!(counted(&plane).shown, 3);
}

#[test]
fn the_classes_that_a_filter_declares_are_shown_and_no_others() {
    for class in Class::ALL {
        if class == Class::Flow {
            continue;
        }
        let mut plane = watched_by(&Guest::new().sees(&[class]).packet(""));
        for (_, packet) in specimens() {
            for _ in 0..2 {
                assert_eq!(plane.pass("a", from_ref(&packet)), [("b".to_owned(), packet.clone())]);
            }
        }
        let classes = specimens().into_iter().filter(|(of, _)| *of == class).count();
        assert_eq!((classes, counted(&plane).shown), (1, 2), "{}", class.label());
    }
}

#[test]
fn the_classes_are_those_of_the_ports_that_the_stage_is_selected_for() {
    let mut plane = plane(&["a", "b", "c"]);
    load(&mut plane, module_as("way", guests::forwarder(2).build(), ""));
    let guest = Guest::new().sees(&[Class::Arp]).packet(&guests::drop_packet(Reason::Denied, 0));
    let guest = guest.wants(&[Capability::Drop]);
    let terms = StageTerms { ports: ["c".to_owned()].into(), ..StageTerms::default() };
    load(&mut plane, Load { terms, ..module_as("guest", guest.build(), "") });
    let arp = frames::arp_request("10.0.0.1", "10.0.0.2");
    assert_eq!(plane.pass("a", from_ref(&arp)).len(), 1);
    assert_eq!(plane.pass("c", &[arp]).len(), 0);
    assert_eq!(counted(&plane).shown, 1);
}

#[test]
fn a_packet_is_changed_as_far_as_it_was_shown() {
    let packet = udp(1, WATCHED, b"abcdefgh");
    let longer = udp(1, WATCHED, b"abcdefgh++++");
    let shorter = udp(1, WATCHED, b"abcd");
    let byte = write_byte(PAYLOAD, "(i32.const 90)");
    // lengths and checksums of the packet as it will be
    let becomes = |target: &[u8]| -> String {
        target
            .iter()
            .enumerate()
            .map(|(at, byte)| write_byte(at, &format!("(i32.const {byte})")))
            .collect()
    };
    let changed = |packet: &[u8]| {
        let mut packet = packet.to_vec();
        packet[PAYLOAD] = 90;
        packet
    };
    for (what, body, sent, expected, rewritten) in [
        ("nothing", byte.clone(), &packet, packet.clone(), 0),
        ("a byte", byte.clone() + &guests::rewritten(0), &packet, changed(&packet), 1),
        (
            "a byte, stating the length",
            byte.clone() + &guests::rewritten(packet.len() as u32),
            &packet,
            changed(&packet),
            1,
        ),
        (
            "the length, upwards",
            becomes(&longer) + &guests::rewritten(longer.len() as u32),
            &packet,
            longer.clone(),
            1,
        ),
        (
            "the length, downwards",
            becomes(&shorter) + &guests::rewritten(shorter.len() as u32),
            &packet,
            shorter.clone(),
            1,
        ),
    ] {
        let guest = watching(ALL, &body).wants(&[Capability::Rewrite]);
        let mut plane = watched_by(&guest);
        for _ in 0..3 {
            let left = plane.pass("a", &[sent.clone(), udp(1, 1, b"other")]);
            let expected = [expected.clone(), udp(1, 1, b"other")].map(|p| ("b".to_owned(), p));
            assert_eq!(left, expected, "it changes {what}");
        }
        let counted = counted(&plane);
        assert_eq!((counted.shown, counted.shown_rewritten), (3, 3 * rewritten), "{what}");
        assert_eq!(counted.faults["answer"], 0, "{what}");
    }
}

#[test]
fn behind_the_snap_length_a_packet_stays_as_it_was() {
    let byte = write_byte(PAYLOAD, "(i32.const 90)");
    let long = udp(1, WATCHED, &[7; 900]);
    let mut changed = long.clone();
    changed[PAYLOAD] = 90;
    for new_len in [0, 64] {
        let guest = watching(ALL, &(byte.clone() + &guests::rewritten(new_len)));
        let mut plane = watched_by(&guest.wants(&[Capability::Rewrite]).snap(64));
        assert_eq!(plane.pass("a", from_ref(&long)), [("b".to_owned(), changed.clone())]);
    }
    // to make it shorter or longer would be to move what was not seen
    for new_len in [60, 63, 65, long.len() as u32] {
        let guest = watching(ALL, &(byte.clone() + &guests::rewritten(new_len)));
        let mut plane = watched_by(&guest.wants(&[Capability::Rewrite]).snap(64));
        assert_eq!(plane.pass("a", from_ref(&long)), []);
        assert_eq!(plane.tally(), [(Fate::Dropped(Reason::BadAnswer), 1)], "{new_len}");
        assert_eq!(counted(&plane).faults["answer"], 1);
    }
}

#[test]
fn what_a_filter_makes_malformed_does_not_leave_and_open_stages_leave_it_as_it_was() {
    let packet = udp(1, WATCHED, &[7; 300]);
    let tagged = frames::tagged(udp(1, WATCHED, &[7; 300]), 5);
    let cases = [
        ("the IP version", &packet, write_byte(14, "(i32.const 0x15)") + &guests::rewritten(0)),
        ("the IP length", &packet, write_byte(17, "(i32.const 0xff)") + &guests::rewritten(0)),
        ("the source MAC", &packet, write_byte(6, "(i32.const 0xff)") + &guests::rewritten(0)),
        ("the end", &packet, guests::rewritten(40)),
        ("the VLAN", &tagged, write_byte(15, "(i32.const 6)") + &guests::rewritten(0)),
        (
            "the VLAN, where there was none",
            &packet,
            write_byte(12, "(i32.const 0x81)")
                + &write_byte(13, "(i32.const 0)")
                + &write_byte(15, "(i32.const 6)")
                + &guests::rewritten(0),
        ),
        ("the answer", &packet, write_byte(14, "(i32.const 0x15)") + &guests::answer(0)),
    ];
    for on_fault in [OnFault::Open, OnFault::Closed] {
        for snap in [64, 2048] {
            for (what, packet, body) in &cases {
                let guest = watching(ALL, body).wants(&[Capability::Rewrite, Capability::Emit]);
                let mut plane = plane(&["a", "b", "c"]);
                load(&mut plane, module_as("way", guests::forwarder(2).build(), ""));
                let terms = StageTerms { on_fault, ..StageTerms::default() };
                let module = guest.snap(snap).build();
                load(&mut plane, Load { terms, ..module_as("guest", module, "") });

                let left = plane.pass("a", &[packet.to_vec(), udp(1, 1, b"other")]);
                let other = ("b".to_owned(), udp(1, 1, b"other"));
                let expected = match on_fault {
                    OnFault::Open => vec![("b".to_owned(), packet.to_vec()), other],
                    OnFault::Closed => vec![other],
                };
                assert_eq!(left, expected, "it breaks {what}, {on_fault}, snap {snap}");
                let dropped = u64::from(on_fault == OnFault::Closed);
                assert_eq!(plane.count(Fate::Dropped(Reason::BadAnswer)), dropped, "{what}");
                let counted = counted(&plane);
                assert_eq!(counted.faults["answer"], 1, "it breaks {what}");
                assert_eq!((counted.shown_rewritten, counted.shown_answered), (0, 0));
            }
        }
    }
}

#[test]
fn later_stages_are_shown_what_earlier_ones_made_of_a_packet() {
    let mut plane = plane(&["a", "b"]);
    load(&mut plane, module_as("way", guests::forwarder(2).build(), ""));
    let first = write_byte(PAYLOAD, "(i32.const 1)") + &guests::rewritten(0);
    let seen = format!("(i32.load8_u offset={PAYLOAD} (i32.load {}))", guests::RECORD);
    let second = write_byte(PAYLOAD + 1, &seen) + &guests::rewritten(0);
    for (name, body) in [("first", first), ("second", second)] {
        let guest = watching(ALL, &body).wants(&[Capability::Rewrite]);
        load(&mut plane, module_as(name, guest.build(), ""));
    }
    let left = plane.pass("a", &[udp(1, WATCHED, b"????")]);
    assert_eq!(left[0].1[PAYLOAD..PAYLOAD + 4], [1, 1, b'?', b'?']);
}

#[test]
fn a_packet_that_one_stage_drops_is_shown_to_none_behind_it() {
    let mut plane = plane(&["a", "b"]);
    load(&mut plane, module_as("way", guests::forwarder(2).build(), ""));
    let drops = guests::drop_packet(Reason::RateLimited, 7);
    let dropping = watching(ALL, &drops).wants(&[Capability::Drop]);
    load(&mut plane, module_as("dropping", dropping.build(), ""));
    load(&mut plane, module_as("guest", watching(ALL, "").build(), ""));
    for _ in 0..3 {
        assert_eq!(plane.pass("a", &[udp(1, WATCHED, b"x"), udp(1, 1, b"x")]).len(), 1);
    }
    assert_eq!(plane.tally(), [(Fate::Forwarded, 3), (Fate::Dropped(Reason::RateLimited), 3)]);
    let by = plane.fates().into_keys().find(|key| key.fate.reason().is_some());
    let by = by.expect("some were dropped").by;
    assert_eq!(plane.stages.name_of(by), Some("dropping"));
    let status = plane.stage("dropping").counters;
    assert_eq!((status.shown, status.shown_dropped, status.dropped), (3, 3, 0));
    assert_eq!(counted(&plane).shown, 0);
}

#[test]
fn an_answer_goes_back_to_where_the_packet_came_from_and_is_shown_to_nobody() {
    let answer = write_byte(PAYLOAD, "(i32.const 33)") + &guests::answer(0);
    let answering = watching(ALL, &answer).wants(&[Capability::Emit]);
    let mut plane = watched_by(&answering);
    load(&mut plane, module_as("behind", watching(ALL, "").build(), ""));
    for _ in 0..3 {
        let left = plane.pass("c", &[udp(1, WATCHED, b"?"), udp(1, 1, b"x")]);
        assert_eq!(
            left,
            [
                ("b".to_owned(), udp(1, 1, b"x")),
                ("c".to_owned(), {
                    let mut answer = udp(1, WATCHED, b"?");
                    answer[PAYLOAD] = 33;
                    answer
                })
            ]
        );
    }
    assert_eq!(plane.tally(), [(Fate::Forwarded, 3), (Fate::Answered, 3)]);
    assert_eq!(counted(&plane).shown_answered, 3);
    assert_eq!(plane.stage("behind").counters.shown, 0);
}

#[test]
fn an_answer_to_a_flooded_question_goes_to_the_asker_alone() {
    let mut plane = plane(&["a", "b", "c"]);
    load(&mut plane, millrace_packet_tests::built_in("bridge", "bridge", "{}"));
    let guest = Guest::new().sees(&[Class::Arp]).wants(&[Capability::Emit]);
    load(&mut plane, module_as("guest", guest.packet(&guests::answer(0)).build(), ""));
    let left = plane.pass("b", &[frames::arp_request("10.0.0.1", "10.0.0.2")]);
    assert_eq!(left, [("b".to_owned(), frames::arp_request("10.0.0.1", "10.0.0.2"))]);
    assert_eq!(plane.tally(), [(Fate::Answered, 1)]);
}

#[test]
fn every_copy_of_a_flooded_packet_is_the_one_that_was_rewritten() {
    let mut plane = plane(&["a", "b", "c", "d"]);
    load(&mut plane, millrace_packet_tests::built_in("bridge", "bridge", "{}"));
    let body = write_byte(PAYLOAD, "(i32.const 90)") + &guests::rewritten(0);
    let guest = watching(ALL, &body).wants(&[Capability::Rewrite]);
    load(&mut plane, module_as("guest", guest.build(), ""));
    let left = plane.pass("a", &[udp(1, WATCHED, b"x")]);
    let expected = ["b", "c", "d"].map(|port| (port.to_owned(), udp(1, WATCHED, b"Z")[PAYLOAD]));
    let found: Vec<_> = left.iter().map(|(port, p)| (port.clone(), p[PAYLOAD])).collect();
    assert_eq!(found, expected);
    assert_eq!(counted(&plane).shown, 1);
}

#[test]
fn what_a_filter_sends_leaves_by_its_port_or_is_counted_there() {
    // the frame it sends is the first packet that it sees
    let send = |port: u32| {
        format!(
            "(drop (call $emit (i32.const {port}) (i32.load {0}) (i32.load offset=4 {0})))",
            guests::RECORD
        )
    };
    let down = |plane: &Plane, name: &str| {
        let port = plane.port(name).expect("there is such a port");
        plane.run(move |worker| {
            worker.ports.get_mut(port).expect("there is such a port").port.up = false;
        });
    };
    for (what, port, ports, lost) in [
        ("a port that is there", 3, vec!["b", "c"], None),
        ("the port it came from", 1, vec!["a", "b"], None),
        ("a port that is not there", 77, vec!["b"], Some(Reason::NoSuchPort)),
        ("a port that is down", 4, vec!["b"], Some(Reason::PortDown)),
        ("no port", 0, vec!["b"], None),
        ("no port by far", 70_000, vec!["b"], None),
    ] {
        let mut plane = plane(&["a", "b", "c", "d"]);
        load(&mut plane, module_as("way", guests::forwarder(2).build(), ""));
        let guest = watching(ALL, &send(port)).wants(&[Capability::Emit]);
        load(&mut plane, module_as("guest", guest.build(), ""));
        down(&plane, "d");
        let left = plane.pass("a", &[udp(1, WATCHED, b"x")]);
        let found: Vec<&str> = left.iter().map(|(port, _)| &**port).collect();
        assert_eq!(found, ports, "it sends by {what}");
        assert!(left.iter().all(|(_, packet)| *packet == udp(1, WATCHED, b"x")));
        assert_eq!(plane.count(Fate::Forwarded), 1, "{what}");
        let sent = u64::from(!matches!(port, 0 | 70_000));
        assert_eq!(counted(&plane).emitted, sent, "{what}");
        if let Some(reason) = lost {
            plane.counts_more(1);
            assert_eq!(plane.count(Fate::Dropped(reason)), 1, "{what}");
        }
    }
}

#[test]
fn what_a_filter_sends_is_no_larger_than_its_port_carries() {
    for (bytes, fits) in [(14, true), (1514, true), (1515, false), (3841, false), (9216, false)] {
        let send = format!(
            "(i32.store8 (i32.const 4102) (i32.const 2))
             (drop (call $emit (i32.const 3) (i32.const 4096) (i32.const {bytes})))"
        );
        let guest = watching(ALL, &send).wants(&[Capability::Emit]);
        let mut plane = watched_by(&guest);
        let left = plane.pass("a", &[udp(1, WATCHED, b"x")]);
        assert_eq!(
            left.iter().filter(|(port, _)| port == "c").count(),
            usize::from(fits),
            "{bytes}"
        );
        if !fits {
            plane.counts_more(1);
            assert_eq!(plane.count(Fate::Dropped(Reason::TooBig)), 1, "{bytes}");
        }
    }
}

#[test]
fn a_shadow_sees_and_changes_nothing() {
    let mut body = write_byte(PAYLOAD, "(i32.const 90)") + &guests::rewritten(0);
    body += "(drop (call $emit (i32.const 3) (i32.const 4096) (i32.const 60)))";
    for body in [body, guests::drop_packet(Reason::Denied, 1), guests::answer(0)] {
        let wants = [Capability::Rewrite, Capability::Drop, Capability::Emit];
        let guest = Guest::new().sees(&[Class::Arp]).packet(&body).wants(&wants);
        let mut plane = watched_by(&guest);
        plane.stages.set_mode("guest", Mode::Shadow).expect("it is there");
        let arp = frames::arp_request("10.0.0.1", "10.0.0.2");
        assert_eq!(plane.pass("a", from_ref(&arp)), [("b".to_owned(), arp)]);
        assert_eq!(plane.tally(), [(Fate::Forwarded, 1)]);
        assert_eq!((counted(&plane).shown, counted(&plane).emitted), (1, 0));
    }
}

#[test]
fn a_canary_is_shown_the_packets_of_its_own_flows() {
    // the version in force lets pass, the canary drops
    let mut plane = watched_by(&watching(ALL, "").sees(&[Class::Arp]).wants(&[Capability::Drop]));
    let drops = guests::drop_packet(Reason::Denied, 0);
    let canary = watching(ALL, &drops).sees(&[Class::Arp]).wants(&[Capability::Drop]);
    plane.stages.try_on("guest", 30, &canary.build(), None).expect("it starts");
    let flows: Vec<_> = (1..=200).map(|n| udp(n, WATCHED, b"x")).collect();
    let passed = |plane: &mut Plane| -> Vec<Vec<u8>> {
        plane.pass("a", &flows).into_iter().map(|(_, packet)| packet).collect()
    };
    let first = passed(&mut plane);
    let asked = counted(&plane).asked_canary;
    assert_eq!(200 - first.len() as u64, asked, "those it was asked about are dropped");
    assert!((20..110).contains(&asked), "{asked} of 200 are about 30 %");
    assert_eq!(passed(&mut plane), first, "the same ones when they are remembered");
    assert_eq!(counted(&plane).shown, 400);

    plane.stages.end_trial("guest", false).expect("it is tried");
    assert_eq!(passed(&mut plane).len(), 200);
}

#[test]
fn a_slot_says_of_a_remembered_packet_what_it_says_of_a_new_one() {
    use std::mem::offset_of;
    // it writes the egress port and the VLAN of the slot into the packet
    let at = |offset: usize| format!("(i32.load16_u offset={offset} {})", guests::SLOT);
    let body = write_byte(PAYLOAD, &at(offset_of!(millrace_abi::Slot, egress)))
        + &write_byte(PAYLOAD + 1, &at(offset_of!(millrace_abi::Slot, vlan)))
        + &guests::rewritten(0);
    let mut plane = watched_by(&watching(ALL, &body).wants(&[Capability::Rewrite]));
    for _ in 0..2 {
        let left = plane.pass("a", &[udp(1, WATCHED, b"????")]);
        assert_eq!(left[0].1[PAYLOAD..PAYLOAD + 2], [2, 0]);
    }
    assert_eq!(counted(&plane).shown, 2);
}

#[test]
fn a_rewritten_time_to_live_is_the_one_that_is_taken_down() {
    use millrace_abi::Field;
    // an IPv4 header whose time to live and checksum are those of another packet
    let with_ttl = |ttl: u8| {
        let mut packet = udp(1, WATCHED, b"x");
        packet[22] = ttl;
        packet[24..26].fill(0);
        let checksum = internet_checksum(&packet[14..34]);
        packet[24..26].copy_from_slice(&checksum.to_be_bytes());
        packet
    };
    for (ttl, expected) in [(0, None), (1, None), (2, Some(1)), (200, Some(199))] {
        let header = with_ttl(ttl);
        let body: String =
            (22..26).map(|at| write_byte(at, &format!("(i32.const {})", header[at]))).collect();
        let guest = Guest::new()
            .wants(&[Capability::Rewrite, Capability::Redirect])
            .flow(&(inspect(ALL) + &guests::stating(Field::DecrementTtl)))
            .packet(&(body + &guests::rewritten(0)));
        let mut plane = watched_by(&guest);
        let left = plane.pass("a", &[udp(1, WATCHED, b"x")]);
        let found = left.first().map(|(_, packet)| packet[22]);
        assert_eq!(found, expected, "{ttl}");
        assert!(left.iter().all(|(_, packet)| *packet == with_ttl(packet[22])), "{ttl}");
        let dropped = u64::from(expected.is_none());
        assert_eq!(plane.count(Fate::Dropped(Reason::TtlExceeded)), dropped);
    }
}

#[test]
fn stations_are_learned_from_what_came_in_and_not_from_what_became_of_it() {
    let mut plane = plane(&["a", "b", "c"]);
    load(&mut plane, millrace_packet_tests::built_in("bridge", "bridge", "{}"));
    let body = write_byte(11, "(i32.const 77)") + &guests::rewritten(0);
    let guest = watching(ALL, &body).wants(&[Capability::Rewrite]);
    load(&mut plane, module_as("guest", guest.build(), ""));
    plane.pass("a", &[udp(1, WATCHED, b"x")]);
    let back = |last: u8| {
        let station = MacAddr([2, 0, 10, 0, 0, last]);
        frames::between(udp(1, 1, b"x"), MacAddr([2, 0, 10, 0, 0, 2]), station)
    };
    assert_eq!(plane.pass("c", &[back(1)]).len(), 1, "it was seen");
    assert_eq!(plane.pass("c", &[back(77)]).len(), 2, "nobody was");
}
