//! Filters that do not start, or are no filters.

use millrace_abi::{Capability, Reason};
use millrace_dataplane::control::status::StageState;
use millrace_dataplane::stage::OnFault;
use millrace_packet_tests::guests::{self, Guest, drop_flow, setting_is, when};
use millrace_packet_tests::{load, module_as, plane, try_load};

use super::{BAD, BADLY, MEANS, POISON, WELL, between, burst_from, faults, ports_of, to};

/// What is no filter, or none that starts, and what is said of it.
fn stillborn() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let whole = guests::silent().build();
    let with = |part: &str| Guest::new().with(MEANS).flow("").with(part).build();
    let mut other_abi = whole.clone();
    let at = other_abi.windows(8).position(|bytes| bytes == br#""abi":1,"#);
    other_abi[at.expect("the manifest says so") + 6] = b'7';
    vec![
        ("nothing", vec![], "not a WebAssembly module"),
        ("a program for Linux", b"\x7fELF and more".to_vec(), "not a WebAssembly module"),
        ("100 MB", vec![0; 100 << 20], "104857600 bytes"),
        ("the first half", whole[..whole.len() / 2].to_vec(), "not a valid module"),
        ("all but the last byte", whole[..whole.len() - 1].to_vec(), "not a valid module"),
        ("another contract", other_abi, "version 7"),
        (
            "a start function that traps",
            with("(func $start unreachable) (start $start)"),
            "failed while starting",
        ),
        ("one that wants all memory there is", with("(start $bomb)"), "memory"),
        (
            "one that calls without end",
            with("(func $start (drop (call $deep (i32.const 1)))) (start $start)"),
            "stack",
        ),
        (
            "data that lies outside its memory",
            with(r#"(data (i32.const -4) "12345678")"#),
            "failed while starting",
        ),
        ("more memory than it may have", with("(memory 1)"), "not a valid module"),
        (
            "a configuration hook that traps",
            Guest::new().flow("").accepts("unreachable").build(),
            "refuses its configuration",
        ),
        (
            "one that has nothing to say",
            Guest::new().flow("").accepts("i32.const 3").build(),
            "refuses its configuration",
        ),
    ]
}

#[test]
fn a_guest_whose_allocator_lies_is_not_let_in_and_its_name_stays_free() {
    for (what, lie) in [
        ("says that there is no memory", "(i32.const 0)"),
        ("is not aligned to 16", "(i32.add (local.get $at) (i32.const 8))"),
        ("lies outside its memory", "(i32.const 0x7ffffff0)"),
        ("lies outside its memory", "(i32.const -16)"),
        ("it gave before", "(i32.const 65536)"),
    ] {
        let mut plane = between(&guests::silent(), "", OnFault::Closed);
        let liar = Guest::new().flow("").packet("").gives(lie);
        let error = try_load(&mut plane, module_as("liar", liar.build(), ""));
        let error = error.expect_err(what).to_string();
        assert!(error.contains(what), "{error}");
        assert_eq!(plane.stages.status().expect("it answers").len(), 3);
        load(&mut plane, module_as("liar", guests::silent().build(), ""));
        assert_eq!(plane.pass("a", &[to(1)]).len(), 1);
    }
}

#[test]
fn an_allocator_that_lies_later_refuses_the_configuration_and_nothing_else() {
    // what it gives first are the buffers of the flow hook and its first configuration
    let liar = Guest::new()
        .wants(&[Capability::Drop])
        .with("(global $given (mut i32) (i32.const 0))")
        .gives(
            "(global.set $given (i32.add (global.get $given) (i32.const 1)))
             (select (i32.const 8) (local.get $at) (i32.gt_u (global.get $given) (i32.const 3)))",
        )
        .flow(&when(&setting_is(BAD), &drop_flow(Reason::Denied)));
    let mut plane = between(&liar, WELL, OnFault::Closed);
    for _ in 0..3 {
        let error = plane.stages.configure("guest", BADLY).expect_err("it lies").to_string();
        assert!(error.contains("not aligned to 16"), "{error}");
        assert_eq!(plane.pass("a", &burst_from(1, 5)).len(), 5);
    }
    let status = plane.stage("guest");
    assert_eq!((status.filter.number, status.counters.absent), (1, 0));
    assert_eq!(status.filter.config, serde_json::json!({"n": 0}));
}

#[test]
fn a_filter_that_did_not_start_leaves_no_table_in_the_way_of_the_next_one() {
    // it opens a table with values of so many bytes, and refuses the setting 1
    let table = |value_len: u32| {
        let shape = [4, value_len, 100, 0, 0, 0, 0, 0].map(u32::to_le_bytes).concat();
        let shape: String = shape.iter().map(|byte| format!("\\{byte:02x}")).collect();
        Guest::new()
            .flow("")
            .with(&format!(r#"(data (i32.const 16) "table") (data (i32.const 32) "{shape}")"#))
            .accepts(&format!(
                "(if (i32.lt_s (call $map_open (i32.const 16) (i32.const 5) (i32.const 32))
                        (i32.const 0)) (then (return (i32.const 1))))
                 {}",
                setting_is(BAD)
            ))
    };
    let mut plane = plane(&["a", "b"]);
    let refused = try_load(&mut plane, module_as("guest", table(8).build(), BADLY));
    refused.expect_err("it refuses this setting");
    load(&mut plane, module_as("guest", table(16).build(), WELL));

    let error = plane.stages.swap("guest", &table(8).build(), None).expect_err("it is in use");
    assert!(error.to_string().contains("exists as 100 entries of 4 + 16 bytes"), "{error}");
    assert_eq!(plane.stage("guest").filter.number, 1);
}

#[test]
fn what_is_no_filter_leaves_everything_as_it_was() {
    let deny = when(&guests::to_port(POISON), &drop_flow(Reason::Denied));
    let guest = Guest::new().wants(&[Capability::Drop]).flow(&deny);
    let mut plane = between(&guest, WELL, OnFault::Closed);
    for (what, module, complaint) in stillborn() {
        let loaded = try_load(&mut plane, module_as("other", module.clone(), ""));
        let swapped = plane.stages.swap("guest", &module, None);
        let tried = plane.stages.try_on("guest", 50, &module, None);
        for (way, outcome) in [("load", loaded), ("swap", swapped), ("try", tried)] {
            let error = outcome.expect_err(what).to_string();
            assert!(error.contains(complaint), "{way} {what}: {error}");
        }
        let names: Vec<_> = plane.stages.status().expect("the worker answers");
        let names: Vec<_> = names.iter().map(|stage| stage.name.as_str()).collect();
        assert_eq!(names, ["way", "guest", "behind"], "{what}");
        let status = plane.stage("guest");
        assert_eq!((status.state, status.filter.number), (StageState::Running, 1), "{what}");
        assert!(status.previous.is_none() && status.canary.is_none(), "{what}");
        assert_eq!(ports_of(&plane.pass("a", &[to(1), to(POISON), to(2)])), [1, 2], "{what}");
    }
    assert_eq!(faults(&plane, "guest"), []);
}

#[test]
fn a_filter_that_never_ends_starting_or_being_configured_is_given_up() {
    let for_ever = "(loop $for_ever (br $for_ever))";
    let setting =
        Guest::new().flow("").accepts(&(when(&setting_is(BAD), for_ever) + "i32.const 0"));
    let mut plane = between(&setting, WELL, OnFault::Closed);
    let starts = format!("(func $start {for_ever}) (start $start)");
    let endless = Guest::new().flow("").with(&starts).build();
    let error = try_load(&mut plane, module_as("endless", endless, "")).expect_err("it never ends");
    assert!(error.to_string().contains("deadline"), "{error}");

    let error = plane.stages.configure("guest", BADLY).expect_err("it never ends").to_string();
    assert!(error.contains("deadline") && error.contains("stays in force"), "{error}");
    let status = plane.stage("guest");
    assert_eq!((status.state, status.filter.number), (StageState::Running, 1));
    assert_eq!(status.filter.config, serde_json::json!({"n": 0}));
    assert_eq!(plane.pass("a", &burst_from(1, 9)).len(), 9);
}
