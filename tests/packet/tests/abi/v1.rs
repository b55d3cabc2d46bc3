//! A module of version 1.0, which stays as it is, in the host as it is now.

use std::time::Duration;

use millrace_abi::Reason;
use millrace_dataplane::control::status::MetricStatus;
use millrace_dataplane::counters::Fate;
use millrace_filter::testing::frames::{self, Flags};
use millrace_packet_tests::{Plane, load, module_as, plane, try_load};
use millrace_tables::{Range, Row, Tables};

/// Packets, with the ports that they have left by.
type Left = Vec<(String, Vec<u8>)>;

const TEXT: &str = include_str!("v1.wat");

/// Ports `a` and `b`, 1 and 2, with the guest between them.
fn plane_of_v1() -> Plane {
    let mut plane = plane(&["a", "b"]);
    assert_eq!(["a", "b"].map(|port| plane.port(port).map(|it| it.number())), [Some(1), Some(2)]);
    load(&mut plane, module_as("v1", module(), ""));
    plane
}

fn module() -> Vec<u8> {
    wat::parse_str(TEXT).expect("it is right WebAssembly text")
}

fn udp(port: u16, text: &[u8]) -> Vec<u8> {
    frames::udp("10.0.0.1:1000", &format!("10.0.0.2:{port}"), text)
}

/// What left by which ports when a packet to this port came in by `a`, and what became of it.
fn pass(plane: &mut Plane, packet: &[u8]) -> (Left, Vec<(Fate, u64)>) {
    let before = plane.tally();
    let left = plane.pass("a", &[packet.to_vec()]);
    let had = |fate| before.iter().find(|(it, _)| *it == fate).map_or(0, |(_, packets)| *packets);
    let new = plane.tally().into_iter().map(|(fate, packets)| (fate, packets - had(fate)));
    (left, new.filter(|(_, packets)| *packets > 0).collect())
}

#[test]
fn the_module_of_version_1_is_the_one_that_was_frozen() {
    // FNV-1a
    let hash = TEXT.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    assert_eq!(hash, FROZEN, "no change of the host may need one of this module");
}

#[test]
fn every_decision_of_version_1_means_what_it_meant() {
    let mut plane = plane_of_v1();
    let forwarded = Fate::Forwarded;
    for (port, fate, leaves) in [
        (22, forwarded, true),
        (23, Fate::Dropped(Reason::Denied), false),
        (25, Fate::Flooded, true),
        (26, forwarded, true),
        (27, forwarded, true),
        // direct ports translate nothing
        (28, Fate::Dropped(Reason::Unsupported), false),
        (29, Fate::Dropped(Reason::Unsupported), false),
        (32, Fate::Dropped(Reason::BadAnswer), false),
    ] {
        let packet = udp(port, b"r");
        let (left, fates) = pass(&mut plane, &packet);
        assert_eq!(fates, [(fate, 1)], "port {port}");
        let mut expected = packet;
        if port == 27 {
            // one hop less, and a header checksum that is as much more
            expected[22] -= 1;
            expected[24] += 1;
        }
        assert_eq!(left, leaves.then_some(("b".to_owned(), expected)).as_slice(), "port {port}");
    }
    let (left, fates) = pass(&mut plane, &udp(24, b""));
    assert_eq!(fates, [(Fate::Rejected(Reason::NoBackend), 1)]);
    let [(port, answer)] = &left[..] else { panic!("{left:?}") };
    assert_eq!((&**port, &answer[34..36]), ("a", &[3, 3][..]), "ICMP: port unreachable");
    let syn = frames::tcp("10.0.0.1:9", "10.0.0.2:24", Flags::SYN, b"");
    let (left, _) = pass(&mut plane, &syn);
    assert_eq!(left[0].1[47], (Flags::RST | Flags::ACK).0);
    assert_eq!(plane.stage("v1").counters.metrics["flows"], MetricStatus::Counter(10));
}

#[test]
fn every_import_of_version_1_does_what_it_did() {
    let mut plane = plane_of_v1();
    let packet = udp(40, b"");
    let (left, fates) = pass(&mut plane, &packet);
    let said: Vec<_> = plane.stages.log("v1", 0).expect("there is such a stage");
    let said: Vec<_> = said.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(said, ["ready"; 2], "the number of what failed comes last");
    assert_eq!(fates, [(Fate::Forwarded, 1)]);
    let [own, forwarded] = &left[..] else { panic!("{left:?}") };
    let (own, forwarded) = if own.1 == packet { (forwarded, own) } else { (own, forwarded) };
    assert_eq!((&*forwarded.0, &forwarded.1), ("b", &packet));
    assert_eq!((&*own.0, own.1.len(), &own.1[14..28]), ("b", 60, &b"from the guest"[..]));

    let error = try_load(&mut plane, module_as("second", module(), "[1]")).expect_err("it refuses");
    assert!(error.to_string().contains("nothing"), "in its own word: {error}");
}

#[test]
fn the_packet_hook_of_version_1_sees_and_answers_as_it_did() {
    let mut plane = plane_of_v1();
    let request = frames::arp_request("10.0.0.1", "10.0.0.2");
    let mut answer = request.clone();
    answer[..6].copy_from_slice(&request[6..12]);
    answer[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
    let (left, fates) = pass(&mut plane, &request);
    assert_eq!((left, fates), (vec![("a".to_owned(), answer)], vec![(Fate::Answered, 1)]));

    let (left, _) = pass(&mut plane, &udp(26, b"abc"));
    let mut rewritten = udp(26, b"abc");
    rewritten[42] = b'*';
    assert_eq!(left, [("b".to_owned(), rewritten)]);
    let (left, fates) = pass(&mut plane, &udp(26, b"drop"));
    assert_eq!((left, fates), (vec![], vec![(Fate::Dropped(Reason::RateLimited), 1)]));
    let release = udp(26, b"release");
    assert_eq!(pass(&mut plane, &release).0, [("b".to_owned(), release)]);
    let late = udp(26, b"drop");
    assert_eq!(pass(&mut plane, &late).0, [("b".to_owned(), late)], "it sees no more of the flow");
}

#[test]
fn ticks_tables_metrics_and_faults_of_version_1_are_what_they_were() {
    let mut plane = plane_of_v1();
    let no_route = [(Fate::Dropped(Reason::NoRoute), 1)];
    assert_eq!(pass(&mut plane, &udp(30, b"")).1, no_route, "it has been told nothing yet");
    let mut tables = Tables::default();
    tables.put(&Row::Range(Range { address: [10, 96, 0, 0].into(), len: 16 }));
    plane.stages.publish(&Tables::default().delta(&tables), 1, &[]).expect("it takes them");
    assert_eq!(pass(&mut plane, &udp(30, b"")).1, [(Fate::Forwarded, 1)]);

    for _ in 0..3 {
        plane.advance(Duration::from_secs(1));
    }
    let metrics = plane.stage("v1").counters.metrics;
    assert_eq!(metrics["ticks"], MetricStatus::Gauge(3));
    let len = udp(30, b"").len() as u64;
    let MetricStatus::Histogram { buckets, sum } = &metrics["lengths"] else {
        panic!("{metrics:?}")
    };
    assert_eq!((buckets[6], *sum), (2, 2 * len), "{len} is 32 to 63");

    assert_eq!(pass(&mut plane, &udp(31, b"")).1, [(Fate::Dropped(Reason::FilterFault), 1)]);
    assert_eq!(pass(&mut plane, &udp(30, b"")).1, [(Fate::Forwarded, 1)], "its twin serves");
}

/// Of the text.
const FROZEN: u64 = 0xad58_fed5_709e_8492;
