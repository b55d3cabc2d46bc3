//! One call that fails, or answers wrongly.

use std::time::Duration;

use millrace_abi::{Capability, CapabilitySet, Class, PacketRecord, Reason};
use millrace_dataplane::control::request::{Load, StageTerms};
use millrace_dataplane::control::status::StageState;
use millrace_dataplane::stage::OnFault;
use millrace_filter::testing::frames;
use millrace_packet_tests::guests::{
    self, Guest, drop_flow, egress, inspect, setting_is, to_port, when,
};
use millrace_packet_tests::{load, module_as};

use super::{
    BAD, BADLY, BOTH, MEANS, MISDEEDS, MOST, POISON, WELL, between, burst_from, dropped, faults,
    poisoned, ports_of, to, wrong_answers,
};

#[test]
fn a_call_that_fails_takes_its_own_packets_alone_and_the_twin_answers_the_next_one() {
    for on_fault in BOTH {
        for (what, misdeed, class) in MISDEEDS {
            let mut plane = between(&poisoned(misdeed), "", on_fault);
            plane.pass("a", &[to(1)]);

            // in the burst of the poison one is remembered and one is not; behind it comes another
            let mut packets = vec![to(1), to(2), to(POISON)];
            packets.extend(vec![to(1); 61]);
            packets.push(to(3));
            let left = ports_of(&plane.pass("a", &packets));
            let through = |port| left.iter().filter(|&&p| p == port).count();
            let failed = usize::from(on_fault == OnFault::Open);
            assert_eq!(
                (through(1), through(2), through(POISON), through(3)),
                (62, failed, failed, 1),
                "it {what}, {on_fault}"
            );
            assert_eq!(dropped(&plane, Reason::FilterFault), 2 * (1 - failed as u64));

            let status = plane.stage("guest");
            assert_eq!(faults(&plane, "guest"), [(class.to_owned(), 1)], "it {what}");
            assert_eq!((status.state, status.counters.absent), (StageState::Running, 0));
            let last = status.last_fault.expect("it is named");
            assert_eq!((&*last.class, last.version, last.worker), (class, 1, 0));
            assert!(!last.detail.is_empty());
            assert_eq!(faults(&plane, "way"), []);
            assert_eq!(faults(&plane, "behind"), []);
            assert_eq!(plane.stage("behind").counters.asked, 2 + 2 * failed as u64);

            // what the stage is not asked about passes
            assert_eq!(ports_of(&plane.pass("b", &[to(POISON)])), [POISON]);
            assert_eq!(faults(&plane, "guest"), [(class.to_owned(), 1)]);
        }
    }
}

#[test]
fn a_guest_that_says_why_it_fails_is_quoted_once() {
    let says_and_goes_on = when(&to_port(7), "(call $fail (i32.const 512) (i32.const 4))")
        + &when(&to_port(POISON), "unreachable");
    let guest = Guest::new().with(MEANS).flow(&says_and_goes_on);
    let mut plane = between(&guest, "", OnFault::Closed);
    plane.pass("a", &[to(7)]);
    plane.pass("a", &[to(POISON)]);
    let detail = plane.stage("guest").last_fault.expect("it failed").detail;
    assert!(!detail.contains("sour"), "that was said in a call that went well: {detail}");
}

#[test]
fn memory_that_was_refused_in_a_call_that_went_well_is_no_part_of_a_later_fault() {
    let greedy = when(&to_port(7), "(drop (memory.grow (i32.const 60000)))");
    let guest = Guest::new().flow(&(greedy + &when(&to_port(POISON), "unreachable")));
    let mut plane = between(&guest, "", OnFault::Closed);
    plane.pass("a", &[to(7)]);
    plane.pass("a", &[to(POISON)]);
    assert_eq!(faults(&plane, "guest"), [("trap".to_owned(), 1)]);
}

#[test]
fn there_is_a_twin_for_every_fault_and_not_for_every_other_one() {
    let mut plane = between(&poisoned("unreachable"), "", OnFault::Closed);
    for fault in 1..=5 {
        let mut packets = vec![to(POISON); 64];
        // some faults are mended at once; behind others there is a burst before anybody mends
        if fault % 2 == 0 {
            packets.extend(burst_from(fault * 100, 10));
        }
        assert_eq!(plane.pass("a", &packets).len(), packets.len() - 64, "fault {fault}");
    }
    let status = plane.stage("guest");
    assert_eq!((status.counters.absent, status.state), (0, StageState::Running));
    assert_eq!(faults(&plane, "guest"), [("trap".to_owned(), 5)]);
}

#[test]
fn without_guest_and_twin_a_stage_acts_as_its_terms_say_until_it_is_mended() {
    for (on_fault, passed) in [(OnFault::Open, 10), (OnFault::Closed, 0)] {
        let mut plane = between(&poisoned("unreachable"), "", on_fault);
        let mut packets = vec![to(POISON); 128];
        packets.extend(burst_from(100, 10));
        let left = ports_of(&plane.pass("a", &packets));
        assert_eq!(left.iter().filter(|&&port| port != POISON).count(), passed, "{on_fault}");
        assert_eq!(plane.stage("guest").counters.absent, 10);
        assert_eq!(dropped(&plane, Reason::FilterAbsent), 10 - passed as u64);

        assert_eq!(plane.pass("a", &burst_from(200, 10)).len(), 10, "it was mended");
        assert_eq!(plane.stage("guest").counters.absent, 10);
    }
}

#[test]
fn a_wrong_answer_counts_against_its_packet_alone() {
    for on_fault in BOTH {
        for (what, answer, complaint) in wrong_answers() {
            let guest = Guest::new().wants(&MOST).flow(&when(&to_port(POISON), &answer));
            let mut plane = between(&guest, "", on_fault);
            let open = u64::from(on_fault == OnFault::Open);
            for round in 1..=3 {
                let left = ports_of(&plane.pass("a", &[to(1), to(POISON), to(2)]));
                let expected: &[u16] = if open == 1 { &[1, POISON, 2] } else { &[1, 2] };
                assert_eq!(left, expected, "it answers {what}, {on_fault}");
                assert_eq!(dropped(&plane, Reason::BadAnswer), round * (1 - open));
                assert_eq!(faults(&plane, "guest"), [("answer".to_owned(), round)], "{what}");
            }
            let status = plane.stage("guest");
            assert_eq!((status.state, status.counters.absent), (StageState::Running, 0));
            let detail = status.last_fault.expect("it is named").detail;
            assert!(detail.contains(complaint), "{what}: {detail}");
            assert_eq!(plane.stage("way").counters.asked, 5, "two are remembered, and one is not");
        }
    }
}

#[test]
fn what_the_operator_does_not_grant_cannot_be_done() {
    for (capability, act) in [
        (Capability::Drop, drop_flow(Reason::Denied)),
        (Capability::Redirect, egress(1)),
        (Capability::Inspect, inspect(1)),
    ] {
        let guest = Guest::new()
            .wants(&[Capability::Drop, Capability::Redirect])
            .flow(&when(&to_port(POISON), &act))
            .packet(&guests::drop_packet(Reason::Denied, 0));
        let mut plane = between(&guest, "", OnFault::Closed);
        plane.stages.remove("guest").expect("it is there");
        let capabilities = CapabilitySet::ALL.minus([capability].into_iter().collect());
        let terms = StageTerms { capabilities, ..StageTerms::default() };
        load(&mut plane, Load { terms, ..module_as("guest", guest.build(), "") });
        assert_eq!(ports_of(&plane.pass("a", &[to(1), to(POISON)])), [1], "{capability:?}");
        let detail = plane.stage("guest").last_fault.expect("it is named").detail;
        let label = capability.label();
        assert!(detail.contains(&format!("without the capability `{label}`")), "{detail}");
        assert!(!plane.stage("guest").capabilities.iter().any(|granted| granted == label));
    }
}

#[test]
fn a_verdict_found_without_the_stage_that_failed_is_not_remembered() {
    // it drops everything, but fails, open, in the burst that opens a flow
    let guest = Guest::new()
        .wants(&[Capability::Drop])
        .flow(&(when(&to_port(POISON), "unreachable") + &drop_flow(Reason::Denied)));
    let mut plane = between(&guest, "", OnFault::Open);
    assert_eq!(ports_of(&plane.pass("a", &[to(1), to(POISON)])), [1, POISON]);
    assert_eq!(ports_of(&plane.pass("a", &[to(1), to(1)])), [0; 0], "the twin drops it");
    assert_eq!(dropped(&plane, Reason::Denied), 2);

    // the same with an answer that is wrong once
    let guest = Guest::new()
        .wants(&[Capability::Drop])
        .with("(global $asked (mut i32) (i32.const 0))")
        .flow(&format!(
            "(if (global.get $asked) (then {}) (else {}))
             (global.set $asked (i32.const 1))",
            drop_flow(Reason::Denied),
            egress(0)
        ));
    let mut plane = between(&guest, "", OnFault::Open);
    assert_eq!(ports_of(&plane.pass("a", &[to(1)])), [1]);
    assert_eq!(ports_of(&plane.pass("a", &[to(1)])), [0; 0]);
}

#[test]
fn a_packet_hook_that_fails_takes_its_own_packets_alone() {
    let arp = || frames::arp_request("10.0.0.1", "10.0.0.2");
    for on_fault in BOTH {
        for (what, misdeed, class) in MISDEEDS {
            let guest = Guest::new()
                .wants(&[Capability::Inspect])
                .sees(&[Class::Arp])
                .with(MEANS)
                .flow(&when(&to_port(9), &inspect(0xffff)))
                .packet_batch(&(when(&setting_is(BAD), misdeed) + "i32.const 0"));
            let mut plane = between(&guest, BADLY, on_fault);
            let open = usize::from(on_fault == OnFault::Open);
            let left = plane.pass("a", &[to(1), arp(), to(9), to(2)]);
            assert_eq!(left.len(), 2 + 2 * open, "it {what}, {on_fault}");
            assert_eq!(dropped(&plane, Reason::FilterFault), 2 - 2 * open as u64);
            assert_eq!(faults(&plane, "guest"), [(class.to_owned(), 1)], "it {what}");

            // what it does not look at needs no guest; the flow it wants to look at is remembered
            assert_eq!(plane.pass("a", &[to(1), to(2)]).len(), 2);
            assert_eq!(plane.pass("a", &[to(9)]).len(), open, "it {what}");
            assert_eq!(faults(&plane, "guest"), [(class.to_owned(), 2)], "it {what}");

            plane.stages.configure("guest", WELL).expect("it takes any");
            assert_eq!(plane.pass("a", &[to(1), arp(), to(9), to(2)]).len(), 4, "it {what}");
            assert_eq!(faults(&plane, "guest"), [(class.to_owned(), 2)]);
        }
    }
}

#[test]
fn a_wrong_answer_of_the_packet_hook_counts_against_its_packet_alone() {
    use std::mem::offset_of;
    let says = guests::record;
    let answers = [
        (
            "a verdict that is none",
            says(8, offset_of!(PacketRecord, verdict), 3),
            "packet verdict 3",
        ),
        ("flags that mean nothing", says(8, offset_of!(PacketRecord, flags), 0x80), "flags 0x80"),
        ("a reason of the host's", guests::drop_packet(Reason::NoFrame, 0), "reason 71 is not one"),
        ("a length above its room", guests::rewritten(257), "the length 257"),
        ("a length above all bounds", guests::rewritten(u32::MAX), "the length 4294967295"),
        ("less than an Ethernet header", guests::rewritten(13), "the length 13"),
        ("an answer above its room", guests::answer(257), "the length 257"),
        ("an answer without the capability", guests::answer(0), "without the capability `emit`"),
    ];
    for on_fault in BOTH {
        for (what, answer, complaint) in &answers {
            let emit =
                if what.contains("above its room") { vec![Capability::Emit] } else { vec![] };
            let guest = Guest::new()
                .wants(&MOST)
                .wants(&emit)
                .flow(&inspect(0xffff))
                .packet(&when("(i32.eq (local.get $i) (i32.const 1))", answer));
            let mut plane = between(&guest, "", on_fault);
            let left = ports_of(&plane.pass("a", &burst_from(1, 3)));
            let expected: &[u16] = if on_fault == OnFault::Open { &[1, 2, 3] } else { &[1, 3] };
            assert_eq!(left, expected, "it answers {what}, {on_fault}");
            assert_eq!(dropped(&plane, Reason::BadAnswer), 3 - expected.len() as u64);
            assert_eq!(faults(&plane, "guest"), [("answer".to_owned(), 1)], "{what}");
            let status = plane.stage("guest");
            assert_eq!((status.counters.shown, status.counters.shown_dropped), (3, 0));
            let detail = status.last_fault.expect("it is named").detail;
            assert!(detail.contains(complaint), "{what}: {detail}");
        }
    }
}

#[test]
fn a_tick_that_fails_costs_no_packet() {
    for (what, misdeed, class) in MISDEEDS {
        let tick = when(&setting_is(BAD), misdeed) + "i32.const 0";
        let guest = Guest::new().with(MEANS).flow("").tick(&tick);
        let mut plane = between(&guest, BADLY, OnFault::Closed);
        for n in 1..=5 {
            plane.advance(Duration::from_secs(1));
            assert_eq!(plane.pass("a", &[to(n)]).len(), 1, "it {what}");
            assert_eq!(faults(&plane, "guest"), [(class.to_owned(), n.into())], "it {what}");
        }
        plane.advance(Duration::from_secs(1));
        assert_eq!(plane.stage("guest").state, StageState::Ejected, "it {what}");
    }
}
