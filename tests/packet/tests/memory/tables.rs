//! Tables on their way to filters: told before they serve, changed while they do, and left alone
//! by what one of them refuses.

use millrace_abi::{Capability, Reason};
use millrace_dataplane::control::StageError;
use millrace_dataplane::control::status::MetricStatus;
use millrace_dataplane::counters::Fate;
use millrace_filter::testing::frames;
use millrace_packet_tests::guests::{Guest, SETTING, count, drop_flow, setting_is, to_port, when};
use millrace_packet_tests::{Plane, built_in, load, module_as, plane, try_load};
use millrace_tables::{Delta, Range, Row, Table, Tables};

/// What makes the tables of a generation of those of the one before.
fn step(generation: u64) -> Delta {
    tables(generation - 1).delta(&tables(generation))
}

/// Tables that differ from generation to generation.
fn tables(generation: u64) -> Tables {
    let mut tables = Tables::default();
    for last in 0..generation {
        let address = [10, 96, 0, last as u8].into();
        tables.put(&Row::Range(Range { address, len: 32 }));
    }
    tables
}

/// Remembers the generation of a commit.
const REMEMBER: &str = "(global.set $setting
    (i32.load (i32.sub (i32.add (local.get $changes) (local.get $len)) (i32.const 8))))";

/// A guest that drops everything in odd generations, counts what it is asked, fails on flows to
/// [`POISON`], and does `misdeed` when it is told generation [`BAD`].
fn guest(misdeed: &str) -> Guest {
    let bad = setting_is(BAD as u32);
    let odd = format!("(i32.and {SETTING} (i32.const 1))");
    let flow = [
        when(&to_port(POISON), "unreachable"),
        count().to_owned(),
        when(&odd, &drop_flow(Reason::Denied)),
    ];
    Guest::new()
        .wants(&[Capability::Drop])
        .counts()
        .flow(&flow.concat())
        .told(&[Table::Ranges], &format!("{REMEMBER} {} i32.const 0", when(&bad, misdeed)))
}

fn plane_with(guests: &[(&str, Guest)]) -> Plane {
    let mut plane = plane(&["a", "b"]);
    for (name, guest) in guests {
        load(&mut plane, module_as(name, guest.build(), "{}"));
    }
    load(&mut plane, built_in("bridge", "bridge", "{}"));
    plane
}

fn to(port: u16) -> Vec<u8> {
    frames::udp("10.0.0.1:9", &format!("10.0.0.2:{port}"), b"")
}

/// Whether packets to this port go on.
fn passes(plane: &mut Plane, port: u16) -> bool {
    !plane.pass("a", &[to(port)]).is_empty()
}

fn counted(plane: &Plane, name: &str) -> u64 {
    match plane.stage(name).counters.metrics.get("slots") {
        Some(MetricStatus::Counter(value)) => *value,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_filter_is_told_all_there_is_before_it_serves() {
    let mut plane = plane_with(&[]);
    plane.stages.publish(&step(1), 1, &[]).expect("nobody minds");
    assert!(passes(&mut plane, 1), "nobody asks for it");
    let first = millrace_dataplane::control::request::Position::First;
    let mut request = module_as("guest", guest("").build(), "{}");
    request.position = first;
    try_load(&mut plane, request).expect("it is loaded");
    assert!(!passes(&mut plane, 1));
}

#[test]
fn what_is_published_is_in_force_for_the_next_packet_and_for_every_twin() {
    let mut plane = plane_with(&[("guest", guest(""))]);
    assert!(passes(&mut plane, 1), "there is nothing yet");
    for generation in 1..6 {
        plane.stages.publish(&step(generation), generation, &[]).expect("it is taken");
        let open = generation % 2 == 0;
        assert_eq!(passes(&mut plane, 1), open, "generation {generation}");
        // the guest fails, and its twin takes over
        passes(&mut plane, POISON);
        assert_eq!(passes(&mut plane, 1), open, "the twin in generation {generation}");
    }
    assert_eq!(plane.stages.generation(), 5);
}

#[test]
fn a_new_configuration_and_a_new_module_know_the_tables_there_are() {
    let mut plane = plane_with(&[("guest", guest(""))]);
    plane.stages.publish(&step(1), 1, &[]).expect("it is taken");
    for n in 0..3 {
        // the setting that a configuration brings gives way to the generation
        plane.stages.configure("guest", &format!(r#"{{"n":{}}}"#, 2 * n)).expect("it takes it");
        assert!(!passes(&mut plane, 1), "configuration {n}");
    }
    plane.stages.swap("guest", &guest("").with("").build(), None).expect("it is fine");
    assert!(!passes(&mut plane, 1));
    plane.stages.roll_back("guest").expect("there is a version before");
    assert!(!passes(&mut plane, 1));
}

#[test]
fn what_one_filter_refuses_is_in_force_for_none_and_is_reported() {
    let text = r#"(data (i32.const 32) "too much")"#;
    let refusal = "(call $fail (i32.const 32) (i32.const 8)) (return (i32.const 1))";
    for (misdeed, said) in [(refusal, "too much"), ("unreachable", "unreachable")] {
        let picky = guest(misdeed).with(text);
        let mut plane = plane_with(&[("meek", guest("")), ("picky", picky)]);
        for generation in 1..BAD {
            plane.stages.publish(&step(generation), generation, &[]).expect("it is taken");
        }
        assert!(passes(&mut plane, 1), "generation {} is even", BAD - 1);

        let error = plane.stages.publish(&step(BAD), BAD, &[]).expect_err("it is refused");
        assert!(matches!(&error, StageError::Update { stage, .. } if stage == "picky"), "{error}");
        assert!(error.to_string().contains(said), "{error}");
        assert_eq!(plane.stages.generation(), BAD - 1);
        let last = plane.stage("picky").last_fault.expect("it is reported");
        assert!(last.detail.contains(said), "{}", last.detail);
        for name in ["meek", "picky"] {
            // guests and, after a fault, twins
            assert!(passes(&mut plane, 1), "{name}");
            passes(&mut plane, POISON);
        }

        // the same tables with another number are those that came after what was in force
        plane.stages.publish(&step(BAD), BAD + 2, &[]).expect("this number is fine");
        assert!(!passes(&mut plane, 1));
    }
}

#[test]
fn a_canary_that_does_not_take_tables_is_dismissed_and_the_others_go_on() {
    let mut plane = plane_with(&[("guest", guest(""))]);
    plane.stages.try_on("guest", 99, &guest("unreachable").build(), None).expect("it starts");
    for generation in 1..=BAD {
        assert!(plane.stage("guest").canary.is_some());
        plane
            .stages
            .publish(&step(generation), generation, &[])
            .expect("the one in force takes it");
        assert_eq!(passes(&mut plane, 1), generation % 2 == 0, "generation {generation}");
    }
    assert!(plane.stage("guest").canary.is_none());
}

#[test]
fn what_guests_count_is_kept_once_however_often_they_change_places() {
    let mut plane = plane_with(&[("guest", guest(""))]);
    for generation in 1..8 {
        plane.stages.publish(&step(generation), generation, &[]).expect("it is taken");
        plane.pass("a", &[to(generation as u16)]);
        assert_eq!(counted(&plane, "guest"), generation);
    }
    assert_eq!(plane.count(Fate::Dropped(Reason::Denied)), 4);
}

/// The port that a flow must not have.
const POISON: u16 = 666;
/// The generation that is too much.
const BAD: u64 = 3;
