//! Versions that fail again and again: given up, rolled back, or mended.

use millrace_abi::{Capability, Reason};
use millrace_dataplane::control::StageError;
use millrace_dataplane::control::request::{Load, StageTerms};
use millrace_dataplane::control::status::{MetricStatus, StageState};
use millrace_dataplane::counters::Fate;
use millrace_dataplane::stage::{Mode, OnFault};
use millrace_dataplane::worker::WorkerSettings;
use millrace_packet_tests::guests::{self, Guest, egress, to_port, when};
use millrace_packet_tests::{Plane, load, module_as, plane_with};

use super::{
    BADLY, BOTH, MISDEEDS, MOST, POISON, WELL, between, burst_from, dropped, faults, ill_set,
    poisoned, to, wrong_answers,
};

#[test]
fn a_stage_that_fails_again_and_again_is_ejected_and_its_terms_stay_in_force() {
    for on_fault in BOTH {
        for (what, misdeed, class) in MISDEEDS {
            let mut plane = between(&ill_set(misdeed), BADLY, on_fault);
            let open = on_fault == OnFault::Open;
            for n in 0..6 {
                assert_eq!(plane.pass("a", &[to(100 + n)]).is_empty(), !open, "it {what}");
            }
            let ejected = plane.stage("guest");
            assert_eq!(ejected.state, StageState::Ejected, "it {what}, {on_fault}");
            assert_eq!(faults(&plane, "guest"), [(class.to_owned(), 6)]);
            assert_eq!(ejected.counters.absent, 0);

            for n in 0..6 {
                assert_eq!(plane.pass("a", &[to(200 + n)]).is_empty(), !open, "it {what}");
            }
            let status = plane.stage("guest");
            assert_eq!((status.state, status.counters.absent), (StageState::Ejected, 6));
            assert_eq!(faults(&plane, "guest"), [(class.to_owned(), 6)], "it is not called");
            assert_eq!(dropped(&plane, Reason::FilterAbsent), if open { 0 } else { 6 });
            assert_eq!(plane.pass("b", &[to(1)]).len(), 1, "others are not concerned");
        }
    }
}

#[test]
fn an_ejected_stage_is_back_with_another_configuration_or_module() {
    type Revive = fn(&mut Plane) -> Result<(), StageError>;
    let revivals: [(&str, Revive); 3] = [
        ("another configuration", |plane| plane.stages.configure("guest", WELL)),
        ("another module", |plane| plane.stages.swap("guest", &guests::silent().build(), None)),
        ("both", |plane| plane.stages.swap("guest", &guests::silent().build(), Some(WELL))),
    ];
    for (what, revive) in revivals {
        let mut plane = between(&ill_set("unreachable"), BADLY, OnFault::Closed);
        for n in 0..6 {
            plane.pass("a", &[to(100 + n)]);
        }
        assert_eq!(plane.stage("guest").state, StageState::Ejected);
        revive(&mut plane).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(plane.pass("a", &burst_from(300, 20)).len(), 20, "{what}");
        let status = plane.stage("guest");
        assert_eq!((status.state, status.filter.number), (StageState::Running, 2), "{what}");
        assert_eq!(faults(&plane, "guest"), [("trap".to_owned(), 6)], "{what}");
        assert_eq!(status.counters.absent, 0);
    }
}

#[test]
fn a_version_that_fails_again_and_again_is_rolled_back_to_the_one_before() {
    let good = ill_set("unreachable");
    let bad = Guest::new().flow_batch("unreachable");
    type Spoil = fn(&mut Plane, &[u8]) -> Result<(), StageError>;
    let spoils: [(&str, Spoil); 2] = [
        ("a bad configuration", |plane, _| plane.stages.configure("guest", BADLY)),
        ("a bad module", |plane, bad| plane.stages.swap("guest", bad, Some(r#"{"n":5}"#))),
    ];
    for (what, spoil) in spoils {
        let mut plane = between(&good, WELL, OnFault::Closed);
        let before = plane.stage("guest").filter;
        spoil(&mut plane, &bad.build()).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(plane.stage("guest").filter.number, 2);
        for n in 0..6 {
            assert_eq!(plane.pass("a", &[to(100 + n)]).len(), 0, "{what}");
        }
        let status = plane.stage("guest");
        assert_eq!(status.state, StageState::RolledBack, "{what}");
        assert_eq!(status.filter.number, before.number);
        assert_eq!((status.filter.digest, status.filter.config), (before.digest, before.config));
        assert!(status.previous.is_none());
        assert_eq!(plane.pass("a", &burst_from(300, 20)).len(), 20, "{what}");
        assert_eq!(faults(&plane, "guest"), [("trap".to_owned(), 6)]);

        // a new configuration is a new start
        plane.stages.configure("guest", r#"{"n":9}"#).expect("it takes any");
        assert_eq!(plane.stage("guest").state, StageState::Running, "{what}");
    }
}

#[test]
fn a_new_configuration_does_not_answer_for_the_faults_of_the_old_one() {
    let guest = poisoned("unreachable");
    let mut plane = between(&guest, "", OnFault::Closed);
    for n in 1..=5 {
        plane.pass("a", &[to(POISON)]);
        assert_eq!(faults(&plane, "guest"), [("trap".to_owned(), n)]);
    }
    plane.stages.configure("guest", r#"{"n":2}"#).expect("it takes any");
    plane.pass("a", &[to(POISON)]);
    let status = plane.stage("guest");
    assert_eq!((status.state, status.filter.number), (StageState::Running, 2));
}

#[test]
fn the_faults_of_a_canary_are_its_own() {
    let mut plane = between(&poisoned("unreachable"), "", OnFault::Closed);
    let bad = Guest::new().flow_batch("unreachable").build();
    plane.stages.try_on("guest", 99, &bad, None).expect("it starts");
    assert_eq!(plane.stage("guest").canary.expect("it is tried").filter.number, 2);

    // some of the version in force, one less than it may have, with some of the canary between
    let mut flows = (1000..).map(to);
    for _ in 0..4 {
        plane.stages.end_trial("guest", false).expect("it is tried");
        plane.pass("a", &[to(POISON)]);
        plane.stages.try_on("guest", 99, &bad, None).expect("it starts");
        plane.pass("a", &[flows.next().expect("there are many")]);
    }
    let status = plane.stage("guest");
    assert_eq!((status.state, status.filter.number), (StageState::Running, 1));
    assert!(status.canary.is_some(), "nor does it answer for the other's");

    while plane.stage("guest").canary.is_some() {
        plane.pass("a", &[flows.next().expect("there are many")]);
    }
    let status = plane.stage("guest");
    assert_eq!((status.state, status.filter.number), (StageState::Running, 1));
    assert!(status.previous.is_none());
    let all: u64 = faults(&plane, "guest").iter().map(|(_, n)| n).sum();
    assert!((4 + 6..=4 + 6 + 4).contains(&all), "it was dismissed after six of its own, not {all}");
    assert_eq!(plane.pass("a", &burst_from(40_000, 50)).len(), 50, "all flows are well again");
}

#[test]
fn a_shadow_that_fails_changes_nothing_and_is_ejected_all_the_same() {
    for (what, misdeed, class) in MISDEEDS {
        let mut plane = between(&ill_set(misdeed), BADLY, OnFault::Closed);
        plane.stages.set_mode("guest", Mode::Shadow).expect("it is there");
        for n in 0..10 {
            assert_eq!(plane.pass("a", &[to(100 + n)]).len(), 1, "it {what}");
        }
        assert_eq!(plane.tally(), [(Fate::Forwarded, 10)]);
        let status = plane.stage("guest");
        assert_eq!(status.state, StageState::Ejected, "it {what}");
        assert_eq!(faults(&plane, "guest"), [(class.to_owned(), 6)]);
        let counted = &status.counters;
        assert_eq!(
            (counted.shadow_same, counted.shadow_stricter, counted.shadow_looser),
            (0, 0, 0)
        );
    }
}

#[test]
fn a_wrong_answer_of_a_shadow_changes_nothing() {
    for (what, answer, complaint) in wrong_answers() {
        let guest = Guest::new().wants(&MOST).flow(&answer);
        let mut plane = between(&guest, "", OnFault::Closed);
        plane.stages.set_mode("guest", Mode::Shadow).expect("it is there");
        assert_eq!(plane.pass("a", &burst_from(1, 3)).len(), 3, "{what}");
        assert_eq!(faults(&plane, "guest"), [("answer".to_owned(), 1)], "{what}");
        let detail = plane.stage("guest").last_fault.expect("it is named").detail;
        assert!(detail.contains(complaint), "{what}: {detail}");
    }
}

#[test]
fn a_fault_of_a_stage_that_is_gone_is_not_laid_at_the_door_of_its_namesake() {
    let bad = Guest::new().wants(&[Capability::Drop]).counts();
    let bad = bad.flow(&(guests::count().to_owned() + &when(&to_port(POISON), "unreachable")));
    let mut plane = between(&bad, "", OnFault::Closed);
    let port = plane.port("a").expect("there is such a port");
    plane.run(move |worker| {
        worker.io.feed(port, &to(POISON));
        worker.round()
    });
    plane.stages.remove("guest").expect("it is there");
    load(&mut plane, module_as("guest", Guest::new().counts().flow("").build(), ""));
    plane.mend();
    let status = plane.stage("guest");
    assert!(status.last_fault.is_none());
    assert_eq!(status.counters.metrics["slots"], MetricStatus::Counter(0));
}

#[test]
fn a_fault_that_nobody_could_be_told_of_is_mended_all_the_same() {
    // one packet per burst, so that wrong answers fill the desk of those who mend
    let settings = WorkerSettings { burst: 1, ..WorkerSettings::default() };
    let mut plane = plane_with(&["a", "b"], settings);
    load(&mut plane, module_as("way", guests::forwarder(2).build(), ""));
    let babbling = Guest::new().wants(&MOST).flow(&when(&to_port(7), &egress(0)));
    let terms = StageTerms { on_fault: OnFault::Open, ..StageTerms::default() };
    load(&mut plane, Load { terms, ..module_as("babbling", babbling.build(), "") });
    load(&mut plane, module_as("guest", poisoned("unreachable").build(), ""));

    let mut packets = vec![to(7); 300];
    packets.extend([to(POISON), to(POISON), to(1)]);
    assert_eq!(plane.pass("a", &packets).len(), 300);
    assert_eq!(plane.stage("babbling").state, StageState::Ejected);
    let status = plane.stage("guest");
    assert_eq!(
        (status.counters.absent, faults(&plane, "guest")),
        (1, vec![("trap".to_owned(), 2)])
    );
    assert!(status.last_fault.is_none(), "the desk was full");

    assert_eq!(plane.pass("a", &[to(1)]).len(), 1);
    assert_eq!(plane.pass("a", &[to(1), to(POISON), to(2)]).len(), 2, "guest and twin are back");
    assert_eq!(plane.stage("guest").counters.absent, 1);
}
