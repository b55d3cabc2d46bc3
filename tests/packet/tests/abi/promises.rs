//! Promises of the document that only a running chain can keep.

use std::mem::offset_of;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use millrace_abi::{Capability, CapabilitySet, Class, Decision, Field, Origin, Reason, Slot};
use millrace_dataplane::control::request::{Load, StageTerms};
use millrace_dataplane::control::status::MetricStatus;
use millrace_dataplane::counters::Fate;
use millrace_dataplane::stage::{Mode, OnFault};
use millrace_filter::testing::frames;
use millrace_packet_tests::guests::{
    self, Guest, count, drop_packet, egress, forwarder, inspect, stating, to_port, when,
};
use millrace_packet_tests::{Plane, load, module_as, plane, plane_of, sandbox};

/// A port of the test's own choice.
const MARK: u16 = 4711;

fn to(port: u16) -> Vec<u8> {
    frames::udp("10.0.0.1:1000", &format!("10.0.0.2:{port}"), b"x")
}

fn request() -> Vec<u8> {
    frames::arp_request("10.0.0.1", "10.0.0.2")
}

fn counted(plane: &Plane, stage: &str) -> MetricStatus {
    let stages = plane.stages.status().expect("the worker answers");
    let stage = stages.into_iter().find(|status| status.name == stage).expect("it is there");
    stage.counters.metrics["slots"].clone()
}

fn faults(plane: &Plane, stage: &str) -> u64 {
    let stages = plane.stages.status().expect("the worker answers");
    let stage = stages.into_iter().find(|status| status.name == stage).expect("it is there");
    stage.counters.faults.values().sum()
}

fn misses(plane: &Plane) -> u64 {
    plane.counters().misses.load(Relaxed)
}

/// Fails the call unless `condition` holds.
fn insist(condition: &str) -> String {
    when(&format!("(i32.eqz {condition})"), "(return (i32.const 1))")
}

/// What a slot has at `offset` is `value`.
fn slot_has(width: u8, offset: usize, value: u32) -> String {
    format!("(i32.eq (i32.load{width}_u offset={offset} {}) (i32.const {value}))", guests::SLOT)
}

#[test]
fn who_may_not_inspect_is_shown_no_class_of_packets() {
    let watcher = Guest::new().sees(&[Class::Arp]).counts().packet(count());
    for (granted, shown) in [(CapabilitySet::ALL, 1), (CapabilitySet::EMPTY, 0)] {
        let mut plane = plane(&["a", "b"]);
        load(&mut plane, module_as("way", forwarder(2).build(), ""));
        let terms = StageTerms { capabilities: granted, ..StageTerms::default() };
        load(&mut plane, Load { terms, ..module_as("watcher", watcher.build(), "") });
        assert_eq!(plane.pass("a", &[request()]).len(), 1);
        assert_eq!(counted(&plane, "watcher"), MetricStatus::Counter(shown));
    }
}

#[test]
fn packets_are_shown_only_if_the_chain_lets_them_go_on() {
    let watcher = Guest::new().sees(&[Class::Arp]).counts().packet(count());
    let mut plane = plane(&["a", "b"]);
    load(&mut plane, module_as("watcher", watcher.build(), ""));
    plane.pass("a", &[request()]);
    assert_eq!(plane.count(Fate::Dropped(Reason::NoDecision)), 1);
    assert_eq!(counted(&plane, "watcher"), MetricStatus::Counter(0));
    load(&mut plane, module_as("way", forwarder(2).build(), ""));
    plane.pass("a", &[request()]);
    assert_eq!(counted(&plane, "watcher"), MetricStatus::Counter(1));
}

#[test]
fn an_answered_packet_is_shown_to_none_behind() {
    let responder =
        Guest::new().wants(&[Capability::Emit]).sees(&[Class::Arp]).packet(&guests::answer(0));
    let dropper = Guest::new()
        .wants(&[Capability::Drop])
        .sees(&[Class::Arp])
        .packet(&drop_packet(Reason::Denied, 0));
    let mut plane = plane(&["a", "b"]);
    load(&mut plane, module_as("way", forwarder(2).build(), ""));
    load(&mut plane, module_as("responder", responder.build(), ""));
    load(&mut plane, module_as("dropper", dropper.build(), ""));
    assert_eq!(plane.pass("a", &[request()]), [("a".to_owned(), request())]);
    assert_eq!(plane.count(Fate::Answered), 1);
}

#[test]
fn the_packet_hook_knows_what_was_decided_whether_it_is_remembered_or_not() {
    let decided = Field::Egress as u32 | Field::Inspect as u32;
    let watcher = Guest::new().counts().flow(&inspect(u16::MAX)).packet(
        &(insist(&slot_has(16, offset_of!(Slot, decided), decided))
            + &insist(&slot_has(16, offset_of!(Slot, egress), 2))
            + count()),
    );
    let mut plane = plane(&["a", "b"]);
    load(&mut plane, module_as("watcher", watcher.build(), ""));
    load(&mut plane, module_as("way", forwarder(2).build(), ""));
    plane.pass("a", &[to(1)]);
    plane.pass("a", &[to(1)]);
    assert_eq!((misses(&plane), faults(&plane, "watcher")), (1, 0));
    assert_eq!(counted(&plane, "watcher"), MetricStatus::Counter(2));
}

#[test]
fn a_stage_in_shadow_mode_is_told_so_in_both_hooks() {
    let told = insist(&slot_has(8, offset_of!(Slot, origin), Origin::Shadow as u32));
    let watcher = Guest::new().sees(&[Class::Arp]).flow(&told).packet(&told);
    let mut plane = plane(&["a", "b"]);
    load(&mut plane, module_as("way", forwarder(2).build(), ""));
    for (mode, expected) in [(Mode::Shadow, 0), (Mode::Enforce, 1)] {
        let terms = StageTerms { mode, ..StageTerms::default() };
        let name = mode.to_string();
        load(&mut plane, Load { terms, ..module_as(&name, watcher.build(), "") });
        plane.pass("a", &[request()]);
        assert_eq!(faults(&plane, &name), expected, "{mode}");
    }
}

#[test]
fn a_rewritten_packet_stays_in_its_vlan_or_as_it_was() {
    // the low byte of the tag
    let retag = |vlan: u8| {
        Guest::new().wants(&[Capability::Rewrite]).sees(&[Class::Arp]).packet(
            &(guests::write_byte(15, &format!("(i32.const {vlan})")) + &guests::rewritten(0)),
        )
    };
    let (open, closed) = (OnFault::Open, OnFault::Closed);
    for (vlan, on_fault, passes) in [(10, closed, true), (20, closed, false), (20, open, true)] {
        let mut plane = plane_of(sandbox(), &[("a", "trunk:10"), ("b", "trunk:10+20")]);
        load(&mut plane, module_as("way", forwarder(2).build(), ""));
        let terms = StageTerms { on_fault, ..StageTerms::default() };
        load(&mut plane, Load { terms, ..module_as("retag", retag(vlan).build(), "") });
        let tagged = frames::tagged(request(), 10);
        let left = plane.pass("a", std::slice::from_ref(&tagged));
        assert_eq!(left, if passes { vec![("b".to_owned(), tagged)] } else { vec![] });
        assert_eq!(plane.count(Fate::Dropped(Reason::BadAnswer)), u64::from(!passes));
    }
}

#[test]
fn flooding_takes_an_egress_back_and_leaves_no_number_in_its_place() {
    let flood =
        stating(Field::Flood) + &guests::decision(16, offset_of!(Decision, egress), MARK.into());
    let flooder = Guest::new().wants(&[Capability::Redirect]).flow(&flood);
    let last = Guest::new().flow(
        &(insist(&slot_has(16, offset_of!(Slot, decided), Field::Flood as u32))
            + &insist(&slot_has(16, offset_of!(Slot, egress), 0))),
    );
    let mut plane = plane(&["a", "b", "c"]);
    load(&mut plane, module_as("way", forwarder(2).build(), ""));
    load(&mut plane, module_as("flooder", flooder.build(), ""));
    load(&mut plane, module_as("last", last.build(), ""));
    assert_eq!(plane.pass("a", &[to(1)]).len(), 2);
    assert_eq!(faults(&plane, "last"), 0);
}

#[test]
fn a_flow_that_went_by_a_failing_stage_is_asked_about_again() {
    let answers_wrongly = when(&to_port(MARK), &egress(0));
    let traps = when(&to_port(MARK), "unreachable");
    for misdeed in [answers_wrongly, traps] {
        let guest = Guest::new().wants(&[Capability::Redirect]).flow(&misdeed);
        let mut plane = plane(&["a", "b"]);
        load(&mut plane, module_as("way", forwarder(2).build(), ""));
        let terms = StageTerms { on_fault: OnFault::Open, ..StageTerms::default() };
        load(&mut plane, Load { terms, ..module_as("guest", guest.build(), "") });
        for asked in 1..=3 {
            assert_eq!(plane.pass("a", &[to(MARK)]).len(), 1);
            assert_eq!(misses(&plane), asked);
        }
        assert_eq!(faults(&plane, "guest"), 3);
    }
}

#[test]
fn idle_makes_a_flow_forgotten_sooner_and_never_later() {
    let idle = |ms: u32| {
        let state = stating(Field::Idle) + &guests::decision(32, offset_of!(Decision, idle_ms), ms);
        Guest::new().flow(&state)
    };
    for (ms, lasts) in [(60_000, 29), (5_000, 4)] {
        let mut plane = plane(&["a", "b"]);
        load(&mut plane, module_as("way", forwarder(2).build(), ""));
        load(&mut plane, module_as("idle", idle(ms).build(), ""));
        plane.pass("a", &[to(1)]);
        for asked in 1..=2 {
            plane.advance(Duration::from_secs(lasts));
            plane.pass("a", &[to(1)]);
            assert_eq!(misses(&plane), asked, "a packet keeps it alive");
            plane.advance(Duration::from_secs(lasts + 1));
            plane.pass("a", &[to(1)]);
            assert_eq!(misses(&plane), asked + 1);
        }
    }
}

#[test]
fn what_all_packets_of_a_flow_share_makes_the_flow_and_nothing_else() {
    let mut plane = plane(&["a", "b"]);
    load(&mut plane, module_as("way", forwarder(2).build(), ""));
    let packet = |payload: &[u8]| frames::udp("10.0.0.1:1", "10.0.0.2:2", payload);
    let ends = |n: u8| millrace_filter::wire::MacAddr([2, 0, 0, 0, 0, n]);
    let tagged = |vlan| frames::tagged(packet(b"x"), vlan);
    let cases = [
        ("the first", packet(b"x"), 1),
        ("another length", packet(b"much longer"), 0),
        ("another source port", frames::udp("10.0.0.1:3", "10.0.0.2:2", b"x"), 1),
        ("the way back", frames::udp("10.0.0.2:2", "10.0.0.1:1", b"x"), 1),
        ("another station", frames::between(packet(b"x"), ends(1), ends(2)), 1),
        ("a VLAN", tagged(7), 1),
        ("another VLAN", tagged(8), 1),
        ("the first again", packet(b"x"), 0),
    ];
    for (what, packet, asked) in cases {
        let before = misses(&plane);
        plane.pass("a", &[packet]);
        assert_eq!(misses(&plane) - before, asked, "{what}");
    }
}

#[test]
fn of_a_flow_as_many_packets_are_shown_as_were_asked_for_and_no_more() {
    let watcher = Guest::new().counts().flow(&inspect(2)).packet(count());
    let mut plane = plane(&["a", "b"]);
    load(&mut plane, module_as("watcher", watcher.build(), ""));
    load(&mut plane, module_as("way", forwarder(2).build(), ""));
    for (packets, shown) in [(1, 1), (5, 2), (3, 2)] {
        plane.pass("a", &vec![to(1); packets]);
        assert_eq!(counted(&plane, "watcher"), MetricStatus::Counter(shown));
    }
}

#[test]
fn a_call_sends_so_many_frames_and_no_more() {
    // as many frames as the setting, out of port 2; those that are taken are counted
    let emit = format!(
        "(loop $again
            {}
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $i) {})))
        i32.const 0",
        when(
            "(i32.eq (i32.const 1) (call $emit (i32.const 2) (i32.const 2048) (global.get $len)))",
            count()
        ),
        guests::SETTING,
    );
    // the second are too long for the port, and no less taken for that
    for (len, wanted, taken, sent) in [(64, 100, 64, 64), (3000, 50, 43, 0)] {
        let emitter = Guest::new()
            .wants(&[Capability::Emit])
            .counts()
            .with(&format!("(global $len i32 (i32.const {len}))"))
            .flow_batch(&emit);
        let mut plane = plane(&["a", "b"]);
        load(&mut plane, module_as("emitter", emitter.build(), &format!(r#"{{"n":{wanted}}}"#)));
        assert_eq!(plane.pass("a", &[request()]).len() as u64, sent);
        assert_eq!(counted(&plane, "emitter"), MetricStatus::Counter(taken));
        assert_eq!(plane.count(Fate::Dropped(Reason::TooBig)), taken - sent);
        plane.counts_more(taken - sent);
    }
}

#[test]
fn what_a_call_said_that_did_not_fail_is_forgotten() {
    let guest = Guest::new()
        .with(r#"(data (i32.const 512) "never mind")"#)
        .flow(&when(&to_port(MARK), "unreachable"))
        .tick("(call $fail (i32.const 512) (i32.const 10)) i32.const 0");
    let mut plane = plane(&["a", "b"]);
    load(&mut plane, module_as("guest", guest.build(), ""));
    plane.advance(Duration::from_secs(1));
    assert_eq!(faults(&plane, "guest"), 0);
    plane.pass("a", &[to(MARK)]);
    let fault = plane.stages.status().expect("it answers").remove(0).last_fault;
    let detail = fault.expect("it is reported").detail;
    assert!(detail.contains("unreachable") && !detail.contains("never mind"), "{detail}");
}
