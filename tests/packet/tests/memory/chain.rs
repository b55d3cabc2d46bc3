//! Chains: what stages decide together.

use std::slice::from_ref;

use millrace_abi::Reason;
use millrace_dataplane::control::request::{Load, Position, StageTerms};
use millrace_dataplane::counters::Fate;
use millrace_dataplane::stage::Mode;
use millrace_dataplane::worker::WorkerSettings;
use millrace_filter::testing::frames::{self, Flags};
use millrace_packet_tests::{built_in, guests, load, module_as, plane, plane_with, try_load};

const A: &str = "10.0.0.1:1000";
const B: &str = "10.0.0.2:2000";

/// What left, as port and first payload byte.
fn left(packets: Vec<(String, Vec<u8>)>) -> Vec<String> {
    packets.into_iter().map(|(port, _)| port).collect()
}

#[test]
fn a_bridge_floods_learns_and_forwards() {
    let mut plane = plane(&["a", "b", "c"]);
    load(&mut plane, built_in("bridge", "bridge", "{}"));
    assert_eq!(left(plane.pass("a", &[frames::arp_request("10.0.0.1", "10.0.0.2")])), ["b", "c"]);
    assert_eq!(left(plane.pass("b", &[frames::arp_reply("10.0.0.2", "10.0.0.1")])), ["a"]);
    let packet = frames::udp(A, B, b"hello");
    assert_eq!(plane.pass("a", from_ref(&packet)), [("b".to_owned(), packet)]);
    assert_eq!(plane.count(Fate::Flooded), 1);
    assert_eq!(plane.count(Fate::Forwarded), 2);
}

#[test]
fn a_remembered_flow_is_asked_about_once_and_counted_as_often_as_it_comes() {
    let mut plane = plane(&["a", "b"]);
    load(&mut plane, built_in("bridge", "bridge", "{}"));
    plane.pass("b", &[frames::arp_reply("10.0.0.2", "10.0.0.1")]);
    for _ in 0..10 {
        assert_eq!(left(plane.pass("a", &[frames::udp(A, B, b"x")])), ["b"]);
    }
    let counters = plane.counters();
    assert_eq!(counters.hits.load(std::sync::atomic::Ordering::Relaxed), 9);
    assert_eq!(plane.count(Fate::Forwarded), 10);
}

#[test]
fn without_the_cache_the_chain_is_asked_about_every_packet() {
    let settings = WorkerSettings { cache: false, ..WorkerSettings::default() };
    let mut plane = plane_with(&["a", "b"], settings);
    load(&mut plane, built_in("bridge", "bridge", "{}"));
    plane.pass("b", &[frames::arp_reply("10.0.0.2", "10.0.0.1")]);
    plane.pass("a", &vec![frames::udp(A, B, b"x"); 10]);
    assert_eq!(plane.counters().hits.load(std::sync::atomic::Ordering::Relaxed), 0);
    assert_eq!(plane.count(Fate::Forwarded), 10);
}

#[test]
fn a_bridge_in_front_is_no_way_around_a_policy_behind() {
    for policy_first in [false, true] {
        let mut plane = plane(&["a", "b"]);
        let policy = built_in("policy", "deny-list", r#"{"rules": [{"port": 2000}]}"#);
        let bridge = built_in("bridge", "bridge", "{}");
        let chain = if policy_first { [policy, bridge] } else { [bridge, policy] };
        chain.into_iter().for_each(|stage| load(&mut plane, stage));
        plane.pass("b", &[frames::arp_reply("10.0.0.2", "10.0.0.1")]);
        for _ in 0..3 {
            assert_eq!(left(plane.pass("a", &[frames::udp(A, B, b"x")])), Vec::<String>::new());
        }
        assert_eq!(left(plane.pass("a", &[frames::udp(A, "10.0.0.2:2001", b"x")])), ["b"]);
        assert_eq!(plane.count(Fate::Dropped(Reason::Denied)), 3);
    }
}

#[test]
fn a_chain_that_says_nowhere_drops_with_that_reason() {
    let mut plane = plane(&["a", "b"]);
    assert_eq!(left(plane.pass("a", &[frames::udp(A, B, b"x")])), Vec::<String>::new());
    load(&mut plane, built_in("policy", "deny-list", r#"{"rules": []}"#));
    assert_eq!(left(plane.pass("a", &[frames::udp(A, B, b"x")])), Vec::<String>::new());
    assert_eq!(plane.count(Fate::Dropped(Reason::NoDecision)), 2);
}

#[test]
fn a_rejected_connection_hears_so() {
    let mut plane = plane(&["a", "b"]);
    load(&mut plane, built_in("bridge", "bridge", "{}"));
    let config = r#"{"rules": [{"port": 22}], "action": "reject"}"#;
    load(&mut plane, built_in("policy", "deny-list", config));
    let replies = plane.pass(
        "a",
        &[
            frames::tcp(A, "10.0.0.2:22", Flags::SYN, b""),
            frames::udp(A, "10.0.0.2:22", b"x"),
            frames::udp("[2001:db8::1]:5", "[2001:db8::2]:22", b"x"),
        ],
    );
    let kinds: Vec<(String, u8)> = replies
        .iter()
        .map(|(port, reply)| (port.clone(), reply[if reply[12] == 8 { 23 } else { 20 }]))
        .collect();
    assert_eq!(kinds, [("a".to_owned(), 6), ("a".to_owned(), 1), ("a".to_owned(), 58)]);
    assert_eq!(plane.count(Fate::Rejected(Reason::Denied)), 3);
}

#[test]
fn a_stage_is_asked_only_about_the_ports_it_is_selected_for() {
    let mut plane = plane(&["a", "b"]);
    load(&mut plane, built_in("bridge", "bridge", "{}"));
    let deny = built_in("deny", "deny-list", r#"{"rules": [{}]}"#);
    let terms = StageTerms { ports: ["a".to_owned()].into(), ..StageTerms::default() };
    load(&mut plane, Load { terms, ..deny });
    assert_eq!(left(plane.pass("a", &[frames::udp(A, B, b"x")])), Vec::<String>::new());
    assert_eq!(left(plane.pass("b", &[frames::udp(B, A, b"x")])), ["a"]);
}

#[test]
fn a_stage_selected_for_ports_that_are_not_there_is_asked_about_nothing() {
    let mut plane = plane(&["a", "b"]);
    load(&mut plane, built_in("bridge", "bridge", "{}"));
    let deny = built_in("deny", "deny-list", r#"{"rules": [{}]}"#);
    let terms = StageTerms { ports: ["later".to_owned()].into(), ..StageTerms::default() };
    load(&mut plane, Load { terms, ..deny });
    assert_eq!(left(plane.pass("a", &[frames::udp(A, B, b"x")])), ["b"]);
}

#[test]
fn a_shadow_stage_is_compared_and_changes_nothing() {
    let mut plane = plane(&["a", "b"]);
    let shadow = built_in("shadow", "deny-list", r#"{"rules": [{"port": 2000}]}"#);
    let terms = StageTerms { mode: Mode::Shadow, ..StageTerms::default() };
    load(&mut plane, Load { terms, ..shadow });
    load(&mut plane, built_in("bridge", "bridge", "{}"));
    load(&mut plane, built_in("deny", "deny-list", r#"{"rules": [{"port": 3000}]}"#));
    for port in [2000, 2000, 3000, 4000] {
        plane.pass("a", &[frames::udp(A, &format!("10.0.0.2:{port}"), b"x")]);
        plane.advance(std::time::Duration::from_secs(1));
    }
    let status = plane.stages.status().expect("the worker answers");
    let counted = &status[0].counters;
    assert_eq!(
        (counted.shadow_stricter, counted.shadow_looser, counted.shadow_same),
        (2, 1, 1),
        "two would be dropped that went on, one would go on that was dropped"
    );
    assert_eq!(plane.count(Fate::Flooded), 3);
    assert_eq!(plane.count(Fate::Dropped(Reason::Denied)), 1);
    assert_eq!(counted.metrics["denied"], serde_counter(0), "a shadow counts nothing");

    plane.stages.set_mode("shadow", Mode::Enforce).expect("there is such a stage");
    plane.pass("a", &[frames::udp(A, B, b"x")]);
    assert_eq!(plane.count(Fate::Dropped(Reason::Denied)), 2);
}

fn serde_counter(n: u64) -> millrace_dataplane::control::status::MetricStatus {
    millrace_dataplane::control::status::MetricStatus::Counter(n)
}

#[test]
fn a_stage_runs_on_other_terms_from_then_on_and_on_those_before_if_it_would_not_start() {
    let mut plane = plane(&["a", "b"]);
    load(&mut plane, built_in("bridge", "bridge", "{}"));
    load(&mut plane, built_in("deny", "deny-list", r#"{"rules": []}"#));
    let module = millrace_builtin::find("deny-list").expect("it is an example").bytes;
    let terms = StageTerms { mode: Mode::Shadow, ..StageTerms::default() };
    let none = |_: &str| None;
    let renew =
        |plane: &mut millrace_dataplane::control::MemoryPlane, config, terms: &StageTerms| {
            plane.stages.renew("deny", module, config, terms.clone(), &none)
        };
    renew(&mut plane, r#"{"rules": [{}]}"#, &terms).expect("it starts");
    assert_eq!(left(plane.pass("a", &[frames::udp(A, B, b"x")])), ["b"], "it is a shadow");
    assert_eq!(plane.stage("deny").mode, "shadow");

    let enforced = StageTerms::default();
    renew(&mut plane, "7", &enforced).expect_err("that is no configuration");
    assert_eq!(plane.stage("deny").mode, "shadow");
    renew(&mut plane, r#"{"rules": [{}]}"#, &enforced).expect("it starts");
    assert!(plane.pass("a", &[frames::udp(A, B, b"x")]).is_empty());
    let status = plane.stage("deny");
    assert_eq!((&*status.mode, status.filter.number), ("enforce", 3));
    assert_eq!(plane.stages.order().iter().map(|it| &**it).collect::<Vec<_>>(), ["bridge", "deny"]);
}

#[test]
fn a_canary_gets_the_same_flows_every_time_and_about_its_share() {
    let mut plane = plane(&["a", "b"]);
    load(&mut plane, built_in("bridge", "bridge", "{}"));
    load(&mut plane, built_in("deny", "deny-list", r#"{"rules": []}"#));
    let module = millrace_builtin::find("deny-list").expect("it is an example").bytes;
    let config = Some(r#"{"rules": [{}]}"#);
    plane.stages.try_on("deny", 20, module, config).expect("it starts");

    let passed = |plane: &mut millrace_dataplane::control::MemoryPlane| -> Vec<bool> {
        (0..500u16)
            .map(|n| {
                let packet = frames::udp(&format!("10.0.0.1:{}", 1000 + n), B, b"x");
                !plane.pass("a", &[packet]).is_empty()
            })
            .collect()
    };
    let first = passed(&mut plane);
    let dropped = first.iter().filter(|passed| !**passed).count();
    assert!((60..140).contains(&dropped), "20 % of 500 are about 100, not {dropped}");
    plane.advance(std::time::Duration::from_secs(60));
    assert_eq!(passed(&mut plane), first);

    plane.stages.end_trial("deny", true).expect("there is a canary");
    assert!(passed(&mut plane).iter().all(|passed| !passed));
    plane.stages.roll_back("deny").expect("there is a version before");
    assert!(passed(&mut plane).iter().all(|passed| *passed));
}

#[test]
fn stages_are_moved_and_removed_by_name() {
    let mut plane = plane(&["a", "b"]);
    load(&mut plane, built_in("bridge", "bridge", "{}"));
    load(
        &mut plane,
        Load { position: Position::First, ..built_in("one", "deny-list", r#"{"rules": []}"#) },
    );
    load(
        &mut plane,
        Load {
            position: Position::After("one".to_owned()),
            ..built_in("two", "deny-list", r#"{"rules": []}"#)
        },
    );
    let names = |plane: &millrace_dataplane::control::MemoryPlane| -> Vec<String> {
        plane.stages.status().expect("it answers").into_iter().map(|stage| stage.name).collect()
    };
    assert_eq!(names(&plane), ["one", "two", "bridge"]);
    plane.stages.move_to("one", &Position::Last).expect("there is such a stage");
    assert_eq!(names(&plane), ["two", "bridge", "one"]);
    plane.stages.move_to("one", &Position::Before("bridge".to_owned())).expect("there is");
    assert_eq!(names(&plane), ["two", "one", "bridge"]);
    assert!(plane.stages.move_to("one", &Position::Before("none".to_owned())).is_err());
    assert_eq!(names(&plane), ["two", "one", "bridge"]);
    plane.stages.remove("two").expect("there is such a stage");
    assert_eq!(names(&plane), ["one", "bridge"]);
    assert_eq!(left(plane.pass("a", &[frames::udp(A, B, b"x")])), ["b"]);
}

#[test]
fn what_cannot_be_loaded_leaves_the_chain_as_it_was() {
    let mut plane = plane(&["a", "b"]);
    load(&mut plane, built_in("bridge", "bridge", "{}"));
    for (stage, complaint) in [
        (built_in("bridge", "bridge", "{}"), "a stage `bridge` already"),
        (built_in("no name", "bridge", "{}"), "`no name` is no name"),
        (built_in("x", "bridge", "{"), "not JSON"),
        (built_in("x", "bridge", r#"{"aging_seconds": 0}"#), "must be at least 1"),
        (module_as("x", b"nothing".to_vec(), "{}"), "not a WebAssembly module"),
        (
            Load { position: Position::After("none".to_owned()), ..built_in("x", "bridge", "{}") },
            "no stage `none`; there are: `bridge`",
        ),
    ] {
        let error = try_load(&mut plane, stage).expect_err(complaint).to_string();
        assert!(error.contains(complaint), "{error}");
    }
    assert_eq!(plane.stages.status().expect("it answers").len(), 1);
    assert_eq!(left(plane.pass("a", &[frames::udp(A, B, b"x")])), ["b"]);
}

#[test]
fn a_chain_has_an_end() {
    let mut plane = plane(&["a", "b"]);
    for n in 0..16 {
        load(&mut plane, module_as(&format!("s{n}"), guests::silent().build(), ""));
    }
    let one_more = module_as("one-more", guests::silent().build(), "");
    let error = try_load(&mut plane, one_more).expect_err("16 are enough").to_string();
    assert!(error.contains("at most 16"), "{error}");
}
