//! A guest without SDK or compiler, written by hand from the document.

use std::time::Duration;

use millrace_abi::Reason;
use millrace_dataplane::control::status::{MetricStatus, StageStatus};
use millrace_dataplane::counters::Fate;
use millrace_filter::testing::frames::{self, Flags};
use millrace_packet_tests::{Plane, load, module_as, plane, try_load};

const B: &str = "10.0.0.2";
const GATEWAY: &str = "10.0.0.254";

/// Ports `a`, `b` and `c` with a doorman between them.
fn guarded(config: &str) -> Plane {
    let mut plane = plane(&["a", "b", "c"]);
    load(&mut plane, module_as("doorman", module(), config));
    plane
}

fn module() -> Vec<u8> {
    wat::parse_str(include_str!("doorman.wat")).expect("it is right WebAssembly text")
}

/// A packet of the flow number `flow` from host `source`.
fn open(source: u8, flow: u16) -> Vec<u8> {
    let from = format!("10.0.0.{source}:{}", 1000 + flow);
    frames::tcp(&from, &format!("{B}:80"), Flags::SYN, b"")
}

/// By which ports packets that came in by `a` left.
fn left(plane: &mut Plane, packets: &[Vec<u8>]) -> Vec<String> {
    plane.pass("a", packets).into_iter().map(|(port, _)| port).collect()
}

fn status(plane: &Plane) -> StageStatus {
    plane.stages.status().expect("the worker answers").remove(0)
}

fn metric(plane: &Plane, name: &str) -> MetricStatus {
    status(plane).counters.metrics.remove(name).expect("it is declared")
}

#[test]
fn a_source_opens_as_many_flows_as_it_may_and_more_when_its_time_is_over() {
    let mut plane = guarded(r#"{"limit": 2}"#);
    for (flow, expected) in [(0, &["b", "c"][..]), (1, &["b", "c"]), (2, &[])] {
        assert_eq!(left(&mut plane, &[open(1, flow)]), expected, "flow {flow}");
    }
    assert_eq!(left(&mut plane, &[open(1, 0)]), ["b", "c"], "a flow that is open stays so");
    assert_eq!(left(&mut plane, &[open(3, 0)]), ["b", "c"], "another source has its own count");
    assert_eq!(plane.count(Fate::Dropped(Reason::RateLimited)), 1);
    assert_eq!(metric(&plane, "turned_away"), MetricStatus::Counter(1));

    // remembered for a second, asked again and counted once more, forgotten ten seconds later
    assert_eq!(left(&mut plane, &[open(1, 2)]), [""; 0]);
    assert_eq!(metric(&plane, "turned_away"), MetricStatus::Counter(1));
    plane.advance(Duration::from_secs(1));
    assert_eq!(left(&mut plane, &[open(1, 2)]), [""; 0]);
    assert_eq!(metric(&plane, "turned_away"), MetricStatus::Counter(2));
    plane.advance(Duration::from_secs(10));
    assert_eq!(left(&mut plane, &[open(1, 2)]), ["b", "c"]);
    assert_eq!(plane.count(Fate::Dropped(Reason::RateLimited)), 3);
}

#[test]
fn a_packet_at_the_end_of_its_life_is_dropped_and_the_next_one_of_its_flow_is_not() {
    let mut plane = guarded("");
    let mut late = open(1, 0);
    // the time to live is the upper half of a word of the header's checksum
    late[22] = 1;
    let sum = u32::from(u16::from_be_bytes([late[24], late[25]])) + (63 << 8);
    late[24..26].copy_from_slice(&((sum + (sum >> 16)) as u16).to_be_bytes());
    assert_eq!(left(&mut plane, &[late]), [""; 0]);
    assert_eq!(plane.count(Fate::Dropped(Reason::Denied)), 1, "and not for a wrong checksum");
    assert_eq!(left(&mut plane, &[open(1, 0)]), ["b", "c"]);
}

#[test]
fn who_asks_for_the_gateway_is_answered_and_who_asks_for_others_is_heard_by_all() {
    let mut plane = guarded("");
    for vlan in [None, Some(7)] {
        let with_tag = |frame: Vec<u8>| match vlan {
            Some(vlan) => frames::tagged(frame, vlan),
            None => frame,
        };
        let request = with_tag(frames::arp_request("10.0.0.1", GATEWAY));
        let reply = with_tag(frames::arp_reply(GATEWAY, "10.0.0.1"));
        assert_eq!(plane.pass("a", &[request]), [("a".to_owned(), reply)]);
        let other = with_tag(frames::arp_request("10.0.0.1", B));
        assert_eq!(left(&mut plane, &[other]), ["b", "c"]);
    }
    assert_eq!((plane.count(Fate::Answered), plane.count(Fate::Flooded)), (2, 2));
    let counters = status(&plane).counters;
    assert_eq!((counters.shown, counters.shown_answered), (4, 2));
}

#[test]
fn what_it_counts_and_says_reaches_the_operator() {
    let mut plane = guarded(r#"{"limit": 3}"#);
    let packet = open(1, 0);
    let len = packet.len() as u64;
    left(&mut plane, &[packet]);
    plane.advance(Duration::from_secs(1));
    plane.advance(Duration::from_secs(1));
    assert_eq!(metric(&plane, "ticks"), MetricStatus::Gauge(2));
    let MetricStatus::Histogram { buckets, sum } = metric(&plane, "lengths") else {
        panic!("it is declared as a histogram")
    };
    let filled: Vec<_> = (0..32).filter(|&bucket| buckets[bucket] > 0).collect();
    assert_eq!((filled.as_slice(), sum), (&[6][..], len), "{len} is 32 to 63");

    // the instance in service and its twin
    let lines = plane.stages.log("doorman", 0).expect("there is such a stage");
    let said: Vec<_> = lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(said, ["on duty"; 2]);
}

#[test]
fn a_new_configuration_is_taken_or_refused_in_its_own_words_and_counts_stay() {
    let mut plane = guarded(r#"{"limit": 1}"#);
    left(&mut plane, &[open(1, 0)]);
    assert_eq!(left(&mut plane, &[open(1, 1)]), [""; 0]);
    for config in [r#"{"limit": 0}"#, r#"{"limit": 65536}"#] {
        let error = plane.stages.configure("doorman", config).expect_err("it is out of range");
        assert!(error.to_string().contains("`limit`: must be 1 to 65535"), "{error}");
    }
    assert_eq!(left(&mut plane, &[open(1, 1)]), [""; 0], "the one before is in force");

    plane.stages.configure("doorman", r#"{"limit": 9}"#).expect("it takes it");
    assert_eq!(left(&mut plane, &[open(1, 1)]), ["b", "c"], "the third flow counted, of nine");
    assert_eq!(metric(&plane, "turned_away"), MetricStatus::Counter(1));
    let error = try_load(&mut plane, module_as("second", module(), r#"{"limit": 0}"#))
        .expect_err("it is out of range");
    assert!(error.to_string().contains("`limit`: must be 1 to 65535"), "{error}");
}

#[test]
fn without_a_capability_that_it_wants_its_answers_are_wrong() {
    use millrace_abi::{Capability, CapabilitySet};
    use millrace_dataplane::control::request::{Load, StageTerms};

    let mut plane = plane(&["a", "b"]);
    let capabilities: CapabilitySet =
        [Capability::Redirect, Capability::Inspect].into_iter().collect();
    let terms = StageTerms { capabilities, ..StageTerms::default() };
    let load_with = Load { terms, ..module_as("doorman", module(), r#"{"limit": 1}"#) };
    load(&mut plane, load_with);
    assert_eq!(left(&mut plane, &[open(1, 0)]), ["b"]);
    assert_eq!(left(&mut plane, &[open(1, 1)]), [""; 0], "it may not drop, and fails closed");
    assert_eq!(left(&mut plane, &[frames::arp_request("10.0.0.1", GATEWAY)]), [""; 0]);
    assert_eq!(plane.count(Fate::Dropped(Reason::BadAnswer)), 2);
    let last = status(&plane).last_fault.expect("it is reported");
    assert_eq!((&*last.class, last.detail.contains("`emit`")), ("answer", true), "{last:?}");
}
