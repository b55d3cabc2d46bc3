//! Changes to a running chain: what they change, and that packets and flows do not notice.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use millrace_abi::{Capability, PortKind, Reason};
use millrace_dataplane::control::StageError;
use millrace_dataplane::control::request::{Load, Position, StageTerms};
use millrace_dataplane::control::status::{MetricStatus, StageState};
use millrace_dataplane::counters::Fate;
use millrace_dataplane::stage::{Mode, OnFault};
use millrace_dataplane::worker::WorkerSettings;
use millrace_filter::testing::frames;
use millrace_packet_tests::guests::{self, Guest, count, drop_flow, to_port, when};
use millrace_packet_tests::{Plane, built_in, load, module_as, plane, plane_with, try_load};

/// The port whose flows make a guest fail.
const POISON: u16 = 666;

/// Configurations with the setting 0 and 1.
const ZERO: &str = r#"{"n":0}"#;
const ONE: &str = r#"{"n":1}"#;

/// A packet from station 1 to station 2.
fn to(port: u16) -> Vec<u8> {
    frames::udp("10.0.0.1:1000", &format!("10.0.0.2:{port}"), b"x")
}

/// A packet from station 2 to station 1.
fn back() -> Vec<u8> {
    frames::udp("10.0.0.2:2000", "10.0.0.1:1000", b"x")
}

/// Ports `a`, `b` and `c` behind a bridge that knows station 1 at `a` and station 2 at `b`.
fn bridged() -> Plane {
    bridged_with(WorkerSettings::default())
}

fn bridged_with(settings: WorkerSettings) -> Plane {
    let mut plane = plane_with(&["a", "b", "c"], settings);
    load(&mut plane, built_in("bridge", "bridge", "{}"));
    plane.pass("a", &[frames::arp_request("10.0.0.1", "10.0.0.2")]);
    plane.pass("b", &[frames::arp_reply("10.0.0.2", "10.0.0.1")]);
    plane
}

/// A guest that drops what goes to the port that it is set to, and fails at the poison.
fn barrier() -> Guest {
    let port = std::mem::offset_of!(millrace_abi::Slot, dst_port);
    let set_to =
        format!("(i32.eq (i32.load16_u offset={port} {}) {})", guests::SLOT, guests::SETTING);
    Guest::new()
        .wants(&[Capability::Drop])
        .flow(&(when(&to_port(POISON), "unreachable") + &when(&set_to, &drop_flow(Reason::Denied))))
}

fn module_of(name: &str) -> &'static [u8] {
    millrace_builtin::find(name).expect("it is built in").bytes
}

fn left(plane: &mut Plane, port: &str, packet: Vec<u8>) -> Vec<String> {
    plane.pass(port, &[packet]).into_iter().map(|(port, _)| port).collect()
}

fn metric(plane: &Plane, stage: &str, name: &str) -> MetricStatus {
    plane.stage(stage).counters.metrics[name].clone()
}

#[test]
fn changes_between_two_bursts_lose_nothing_and_keep_every_flow_on_its_way() {
    type Change = fn(&mut Plane, u64) -> Result<(), StageError>;
    let changes: [(&str, Change); 7] = [
        ("a swap", |plane, _| plane.stages.swap("bridge", module_of("bridge"), None)),
        ("a new configuration", |plane, n| {
            plane.stages.configure("barrier", &format!(r#"{{"n":{}}}"#, 1 + n))
        }),
        ("a swap of another stage", |plane, n| {
            plane.stages.swap("barrier", &barrier().build(), Some(&format!("[{}]", 1 + n)))
        }),
        ("a way back", |plane, _| {
            plane.stages.configure("barrier", ONE)?;
            plane.stages.roll_back("barrier")
        }),
        ("another order", |plane, n| {
            let to = if n % 2 == 0 { Position::First } else { Position::Last };
            plane.stages.move_to("barrier", &to)
        }),
        ("a stage more and one less", |plane, _| {
            try_load(plane, module_as("passing", guests::silent().build(), ""))?;
            plane.stages.remove("passing")
        }),
        ("another version on trial", |plane, _| {
            plane.stages.try_on("barrier", 50, &barrier().build(), None)
        }),
    ];
    for (what, change) in changes {
        let mut plane = bridged_with(WorkerSettings { burst: 8, ..WorkerSettings::default() });
        load(&mut plane, module_as("barrier", barrier().build(), ONE));
        let flooded = plane.count(Fate::Flooded);
        let (a, b) = (plane.port("a").expect("there is"), plane.port("b").expect("there is"));

        // a queue of 20 bursts of three flows, with a change before each of them
        let sent: Vec<_> = (0..160u16)
            .map(|n| {
                let ends = (format!("10.0.0.1:{}", 1 + n % 3), "10.0.0.2:50000");
                frames::udp(&ends.0, ends.1, &n.to_be_bytes())
            })
            .collect();
        let queue = sent.clone();
        plane.run(move |worker| {
            queue.iter().for_each(|packet| assert!(worker.io.feed(a, packet)));
        });
        for n in 0..20 {
            change(&mut plane, n).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(plane.run(|worker| worker.round()), 8, "{what}");
        }
        let received = plane.run(move |worker| worker.io.collect(b));
        assert_eq!(received, sent, "all of them, once, in order: {what}");
        assert_eq!(plane.count(Fate::Flooded), flooded, "{what}");
    }
}

#[test]
fn a_change_is_in_force_for_the_next_packet_of_a_flow_that_is_remembered() {
    let mut plane = bridged();
    let passes = |plane: &mut Plane| -> bool {
        let first = !left(plane, "a", to(80)).is_empty();
        // whatever it is, it is remembered
        assert_eq!(!left(plane, "a", to(80)).is_empty(), first);
        first
    };
    assert!(passes(&mut plane));
    load(&mut plane, module_as("barrier", barrier().build(), r#"{"n":80}"#));
    assert!(!passes(&mut plane), "it was loaded");
    plane.stages.configure("barrier", ZERO).expect("it takes any");
    assert!(passes(&mut plane), "it was configured");
    plane.stages.swap("barrier", &barrier().build(), Some("80")).expect("it starts");
    assert!(!passes(&mut plane), "it was swapped");
    plane.stages.set_mode("barrier", Mode::Shadow).expect("it is there");
    assert!(passes(&mut plane), "it is a shadow");
    plane.stages.set_mode("barrier", Mode::Enforce).expect("it is there");
    assert!(!passes(&mut plane), "it is none");
    plane.stages.roll_back("barrier").expect("there is a version before");
    assert!(passes(&mut plane), "it was rolled back");
    plane.stages.configure("barrier", "80").expect("it takes any");
    assert!(!passes(&mut plane), "it was configured again");
    plane.stages.remove("barrier").expect("it is there");
    assert!(passes(&mut plane), "it was removed");
}

#[test]
fn the_order_of_stages_says_who_drops_first_and_who_is_asked_at_all() {
    let mut plane = bridged();
    load(&mut plane, module_as("one", barrier().build(), "80"));
    load(&mut plane, module_as("two", barrier().build(), "80"));
    for (first, second) in [("one", "two"), ("two", "one"), ("one", "two")] {
        let asked = |plane: &Plane, name| plane.stage(name).counters.asked;
        plane.stages.move_to(first, &Position::Before(second.to_owned())).expect("both are there");
        let before = (asked(&plane, first), asked(&plane, second));
        assert_eq!(left(&mut plane, "a", to(80)), Vec::<String>::new());
        let after = (asked(&plane, first), asked(&plane, second));
        assert_eq!(after, (before.0 + 1, before.1));
    }
    let by = |plane: &Plane, name: &str| -> u64 {
        let fates = plane.fates().into_iter();
        let of = fates.filter(|(key, _)| plane.stages.name_of(key.by) == Some(name));
        of.filter(|(key, _)| key.fate == Fate::Dropped(Reason::Denied)).map(|(_, n)| n).sum()
    };
    assert_eq!((by(&plane, "one"), by(&plane, "two")), (2, 1));
}

#[test]
fn what_a_bridge_has_learned_survives_every_change_but_its_removal() {
    let mut plane = bridged();
    let known = |plane: &mut Plane| left(plane, "a", to(9)) == ["b"];
    plane.stages.swap("bridge", module_of("bridge"), None).expect("it starts");
    assert!(known(&mut plane), "it was swapped");
    plane.stages.configure("bridge", "{}").expect("it is the same");
    assert!(known(&mut plane), "it was configured");
    plane.stages.roll_back("bridge").expect("there is a version before");
    assert!(known(&mut plane), "it was rolled back");
    plane.stages.try_on("bridge", 99, module_of("bridge"), None).expect("it starts");
    assert!(known(&mut plane), "another one is on trial");
    plane.stages.end_trial("bridge", true).expect("it is on trial");
    assert!(known(&mut plane), "the other one is in force");
    assert_eq!(metric(&plane, "bridge", "learned"), MetricStatus::Counter(2));

    plane.stages.remove("bridge").expect("it is there");
    load(&mut plane, built_in("bridge", "bridge", "{}"));
    assert!(!known(&mut plane), "with its stage its table is gone");
}

#[test]
fn a_table_is_its_stages_own() {
    let mut plane = bridged();
    load(&mut plane, built_in("second", "bridge", "{}"));
    assert_eq!(left(&mut plane, "a", to(9)), ["b", "c"], "the second one knows nobody");
    plane.stages.remove("second").expect("it is there");
    assert_eq!(left(&mut plane, "a", to(9)), ["b"], "and took nothing with it");
}

#[test]
fn a_table_of_another_shape_is_refused_and_nothing_is_lost() {
    let mut plane = bridged();
    for outcome in [
        plane.stages.configure("bridge", r#"{"stations": 5}"#),
        plane.stages.swap("bridge", module_of("bridge"), Some(r#"{"aging_seconds": 5}"#)),
    ] {
        let error = outcome.expect_err("it has another shape").to_string();
        assert!(error.contains("stations"), "{error}");
    }
    let status = plane.stage("bridge");
    assert_eq!((status.filter.number, status.state), (1, StageState::Running));
    assert_eq!(left(&mut plane, "a", to(9)), ["b"]);
}

#[test]
fn twins_have_the_same_configuration_whichever_of_them_answers() {
    let mut plane = bridged();
    load(&mut plane, module_as("barrier", barrier().build(), "80"));
    let denied = |plane: &mut Plane, port: u16, what: &str| {
        // each poison makes the twin answer, and one is built anew
        for turn in 0..4 {
            let packets = [to(80), to(81), to(82)];
            let through = plane.pass("a", &packets).len();
            assert_eq!(through, 2, "{what}, turn {turn}");
            assert_eq!(left(plane, "a", to(port)), Vec::<String>::new(), "{what}, turn {turn}");
            plane.pass("a", &[to(POISON)]);
        }
    };
    denied(&mut plane, 80, "as it was loaded");
    plane.stages.configure("barrier", "81").expect("it takes any");
    denied(&mut plane, 81, "configured");
    plane.stages.configure("barrier", "82").expect("it takes any");
    denied(&mut plane, 82, "configured twice");
    plane.stages.roll_back("barrier").expect("there is a version before");
    denied(&mut plane, 81, "rolled back");
    assert_eq!(plane.stage("barrier").counters.absent, 0);
}

#[test]
fn a_refused_configuration_leaves_the_old_one_in_force_on_both_twins() {
    // it takes over its setting first, and refuses then: its standby is spoilt
    let refusing = barrier().accepts("(i32.ge_u (global.get $setting) (i32.const 1000))");
    let mut plane = bridged();
    load(&mut plane, module_as("barrier", refusing.build(), "80"));
    for turn in 1..=4 {
        let error = plane.stages.configure("barrier", "1080").expect_err("it refuses").to_string();
        assert!(error.contains("the configuration before stays in force"), "{error}");
        assert_eq!(left(&mut plane, "a", to(80)), Vec::<String>::new(), "turn {turn}");
        assert_eq!(left(&mut plane, "a", to(1080)), ["b"], "turn {turn}");
        plane.pass("a", &[to(POISON)]);
    }
    let error = plane.stages.configure("barrier", "{").expect_err("it is no JSON").to_string();
    assert!(error.contains("not JSON"), "{error}");
    let status = plane.stage("barrier");
    assert_eq!((status.filter.number, status.counters.absent), (1, 0));
    assert!(status.previous.is_none());
    assert_eq!(status.filter.config, serde_json::json!(80));
}

#[test]
fn a_version_before_can_be_had_back_once() {
    let mut plane = bridged();
    load(&mut plane, module_as("barrier", barrier().build(), "80"));
    let nothing = plane.stages.roll_back("barrier").expect_err("it is the first one").to_string();
    assert!(nothing.contains("`barrier` has no version before"), "{nothing}");

    let first = plane.stage("barrier").filter;
    plane.stages.swap("barrier", &guests::silent().build(), Some("81")).expect("it starts");
    let second = plane.stage("barrier");
    assert_ne!(second.filter.digest, first.digest);
    assert_eq!((second.filter.number, second.filter.config), (2, serde_json::json!(81)));
    assert_eq!(second.previous.expect("it is kept").digest, first.digest);

    plane.stages.roll_back("barrier").expect("there is a version before");
    let third = plane.stage("barrier");
    assert_eq!((third.filter.digest, third.filter.config), (first.digest, first.config));
    assert!(third.previous.is_none());
    assert!(plane.stages.roll_back("barrier").is_err(), "one step, not a history");
    assert_eq!(left(&mut plane, "a", to(80)), Vec::<String>::new());
}

#[test]
fn what_guests_have_counted_is_counted_on() {
    let counting = |body: &str| {
        Guest::new().counts().flow(&(count().to_owned() + &when(&to_port(POISON), body)))
    };
    let mut plane = bridged();
    let terms = StageTerms { on_fault: OnFault::Open, ..StageTerms::default() };
    let guest = module_as("guest", counting("unreachable").build(), "");
    load(&mut plane, Load { terms, ..guest });
    let mut asked = 0;
    let mut one_more = |plane: &mut Plane, what: &str| {
        asked += 1;
        plane.pass("a", &[to(asked)]);
        let counted = metric(plane, "guest", "slots");
        assert_eq!(counted, MetricStatus::Counter(asked.into()), "{what}");
        assert_eq!(plane.stage("guest").counters.asked, u64::from(asked), "{what}");
    };
    one_more(&mut plane, "at first");
    for (what, config) in [("configured", ONE), ("configured twice", ZERO), ("and again", ONE)] {
        plane.stages.configure("guest", config).expect("it takes any");
        one_more(&mut plane, what);
    }
    plane.stages.swap("guest", &counting("").build(), None).expect("it starts");
    one_more(&mut plane, "swapped");
    plane.stages.roll_back("guest").expect("there is a version before");
    one_more(&mut plane, "rolled back");
    plane.stages.try_on("guest", 50, &counting("").build(), None).expect("it starts");
    for _ in 0..8 {
        one_more(&mut plane, "on trial");
    }
    plane.stages.end_trial("guest", false).expect("it is on trial");
    one_more(&mut plane, "not taken");
}

#[test]
fn a_shadow_writes_nothing_that_lasts() {
    let limit = r#"{"flows_per_second": 1, "burst": 5}"#;
    let mut plane = bridged();
    let terms = StageTerms { mode: Mode::Shadow, ..StageTerms::default() };
    load(&mut plane, Load { terms, ..built_in("limit", "rate-limit", limit) });
    for port in 1..=20 {
        assert_eq!(left(&mut plane, "a", to(port)), ["b"]);
    }
    let counted = plane.stage("limit").counters;
    assert_eq!((counted.asked, counted.shadow_same), (20, 20), "the bucket stays full");
    assert_eq!(metric(&plane, "limit", "limited"), MetricStatus::Counter(0));

    plane.stages.set_mode("limit", Mode::Enforce).expect("it is there");
    let passed = (101..=120).filter(|&port| !left(&mut plane, "a", to(port)).is_empty()).count();
    assert_eq!(passed, 5, "all of the bucket was left");
    plane.stages.set_mode("limit", Mode::Shadow).expect("it is there");
    assert_eq!(left(&mut plane, "a", to(200)), ["b"]);
    let counted = plane.stage("limit").counters;
    assert_eq!((counted.shadow_same, counted.shadow_stricter), (20, 1), "now it would be dropped");
}

#[test]
fn a_bridge_in_the_shadow_learns_nobody() {
    let mut plane = plane(&["a", "b", "c"]);
    load(&mut plane, module_as("way", guests::forwarder(2).build(), ""));
    let terms = StageTerms { mode: Mode::Shadow, ..StageTerms::default() };
    load(&mut plane, Load { terms, ..built_in("bridge", "bridge", "{}") });
    plane.pass("a", &[to(1)]);
    plane.pass("c", &[back()]);
    assert_eq!(metric(&plane, "bridge", "learned"), MetricStatus::Counter(0));
    plane.stages.remove("way").expect("it is there");
    plane.stages.set_mode("bridge", Mode::Enforce).expect("it is there");
    assert_eq!(left(&mut plane, "a", to(2)), ["b", "c"], "nobody is known");
}

#[test]
fn a_canary_has_its_share_of_flows_in_both_directions_and_counts_them() {
    let mut plane = plane(&["a", "b"]);
    let other = format!(
        "(i32.sub (i32.const 3) (i32.load16_u offset={} {}))",
        std::mem::offset_of!(millrace_abi::Slot, ingress),
        guests::SLOT
    );
    let way = Guest::new().wants(&[Capability::Redirect]).flow(&guests::egress_by(&other));
    load(&mut plane, module_as("way", way.build(), ""));
    load(&mut plane, module_as("guest", guests::silent().build(), ""));
    let dropping = Guest::new().wants(&[Capability::Drop]).flow(&drop_flow(Reason::Denied));
    for percent in [10, 50, 90] {
        plane.stages.try_on("guest", percent, &dropping.build(), None).expect("it starts");
        let before = plane.stage("guest").counters;
        let mut tried = 0;
        for n in 0..400u16 {
            let (one, other) = (format!("10.0.0.1:{}", 1000 + n), "10.0.0.2:53");
            let there = left(&mut plane, "a", frames::udp(&one, other, b"x")).is_empty();
            let back = left(&mut plane, "b", frames::udp(other, &one, b"x")).is_empty();
            assert_eq!(there, back, "both directions meet the same version");
            tried += u64::from(there);
        }
        let expected = 4 * u64::from(percent);
        assert!(tried.abs_diff(expected) <= 30, "{percent} % of 400 are not {tried}");
        let counted = plane.stage("guest").counters;
        assert_eq!(counted.asked - before.asked, 800);
        assert_eq!(counted.asked_canary - before.asked_canary, 2 * tried);
        assert_eq!(counted.dropped_canary - before.dropped_canary, 2 * tried);
        assert_eq!(plane.stage("guest").canary.expect("it is on trial").percent, percent);
    }
    for percent in [0, 100, 255] {
        let error = plane.stages.try_on("guest", percent, &dropping.build(), None);
        let error = error.expect_err("it is no share").to_string();
        assert!(error.contains("1 to 99"), "{error}");
    }
    plane.stages.end_trial("guest", false).expect("it is on trial");
    assert!(plane.stages.end_trial("guest", false).is_err());
    assert!(plane.stage("guest").previous.is_none(), "it was never in force");
}

#[test]
fn a_stage_is_asked_about_the_ports_and_the_kinds_of_ports_that_it_is_selected_for() {
    let kinds = [("a", PortKind::Wire), ("b", PortKind::Pod), ("c", PortKind::Uplink)];
    for (ports, of_kinds, expected) in [
        (&[][..], &[][..], &["a", "b", "c"][..]),
        (&["a"], &[], &["a"]),
        (&["a", "c"], &[], &["a", "c"]),
        (&[], &[PortKind::Pod], &["b"]),
        (&[], &[PortKind::Pod, PortKind::Wire], &["a", "b"]),
        (&["c"], &[PortKind::Pod], &["b", "c"]),
        (&["b"], &[PortKind::Pod], &["b"]),
        (&["later"], &[PortKind::Uplink], &["c"]),
        (&["later"], &[], &[]),
        (&[], &[PortKind::Host], &[]),
    ] {
        let mut plane = plane(&["a", "b", "c"]);
        plane.run(move |worker| {
            let ids: Vec<_> = worker.ports.iter().map(|held| held.port.id).collect();
            for (id, (_, kind)) in ids.into_iter().zip(kinds) {
                worker.ports.get_mut(id).expect("it is there").port.kind = kind;
            }
        });
        load(&mut plane, built_in("bridge", "bridge", "{}"));
        let terms = StageTerms {
            ports: ports.iter().map(|port| (*port).to_owned()).collect(),
            kinds: of_kinds.to_vec(),
            ..StageTerms::default()
        };
        load(&mut plane, Load { terms, ..module_as("deny", barrier().build(), "80") });
        let denied = kinds.map(|(port, _)| port).into_iter();
        let denied: Vec<_> =
            denied.filter(|port| left(&mut plane, port, to(80)).is_empty()).collect();
        assert_eq!(denied, expected, "selected for {ports:?} and {of_kinds:?}");
    }
}

#[test]
fn a_stage_follows_its_ports_when_they_come_and_go() {
    let mut plane = bridged();
    let terms = StageTerms { ports: ["later".to_owned()].into(), ..StageTerms::default() };
    load(&mut plane, Load { terms, ..module_as("deny", barrier().build(), "80") });
    assert_eq!(left(&mut plane, "a", to(80)), ["b"]);
    let number = plane.port("a").expect("it is there").number();
    let later = |name: &str| (name == "later").then_some(number);
    plane.stages.resolve_ports(&later).expect("the worker answers");
    assert_eq!(left(&mut plane, "a", to(80)), Vec::<String>::new());
    plane.stages.resolve_ports(&|_| None).expect("the worker answers");
    assert_eq!(left(&mut plane, "a", to(80)), ["b"]);
}

#[test]
fn what_leads_to_a_port_that_is_gone_is_counted_until_its_stations_speak_elsewhere() {
    let mut plane = bridged();
    assert_eq!(left(&mut plane, "a", to(80)), ["b"]);
    let b = plane.port("b").expect("it is there");
    plane.counts_more(1);
    plane.run(move |worker| worker.remove_port(b).expect("it is there"));
    for sent in 1..=3 {
        assert_eq!(left(&mut plane, "a", to(80)), Vec::<String>::new());
        assert_eq!(plane.count(Fate::Dropped(Reason::NoSuchPort)), sent);
    }
    // what is for everybody reaches those who are left
    assert_eq!(left(&mut plane, "a", frames::arp_request("10.0.0.1", "10.0.0.2")), ["c"]);
    assert_eq!(left(&mut plane, "c", frames::arp_reply("10.0.0.2", "10.0.0.1")), ["a"]);
    plane.advance(Duration::from_secs(1));
    assert_eq!(left(&mut plane, "a", to(80)), ["c"]);
}

#[test]
fn without_the_cache_every_stage_is_asked_about_every_packet() {
    // within a burst a flow is looked up before any of it is remembered
    for (cache, expected) in [(true, 10), (false, 30)] {
        let settings = WorkerSettings { cache, ..WorkerSettings::default() };
        let mut plane = bridged_with(settings);
        load(&mut plane, module_as("counting", Guest::new().counts().flow(count()).build(), ""));
        load(&mut plane, module_as("barrier", barrier().build(), ZERO));
        for _ in 0..3 {
            assert_eq!(plane.pass("a", &vec![to(80); 10]).len(), 10);
        }
        for stage in ["counting", "barrier"] {
            assert_eq!(plane.stage(stage).counters.asked, expected, "cache: {cache}");
        }
        assert_eq!(metric(&plane, "counting", "slots"), MetricStatus::Counter(expected));
        assert_eq!(plane.counters().flows.load(Relaxed) > 0, cache);
    }
}
