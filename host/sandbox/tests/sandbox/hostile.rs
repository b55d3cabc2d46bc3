//! Guests that mean harm. None takes the host, or another instance, with it.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::guest::{DECISION, Guest, for_each, sandbox};
use millrace_abi::{Decision, Origin, limits};
use millrace_sandbox::{FaultClass, Grant, Instance, InstanceError, Sandbox};

fn start(sandbox: &Sandbox, guest: &Guest) -> Result<Instance, InstanceError> {
    let module = sandbox
        .load(&guest.build(), limits::DEFAULT_MEMORY)
        .unwrap_or_else(|error| panic!("the module is valid: {error}"));
    module.instantiate(&Grant::new("hostile"), "{}")
}

/// The fault of a guest's flow hook, with a well-behaved guest beside it, which goes on.
fn fault_of(guest: &Guest) -> millrace_sandbox::Fault {
    let sandbox = sandbox();
    let mut hostile = start(&sandbox, guest).expect("it starts");
    let mut neighbour = start(&sandbox, &Guest::with_flow("i32.const 0")).expect("it starts");
    hostile.slots_mut(8);
    let fault = hostile.flow(8, Origin::New, 1).expect_err("the call must fail");
    neighbour.slots_mut(8);
    assert_eq!(neighbour.flow(8, Origin::New, 1), Ok(&[Decision::ZERO; 8][..]));
    fault
}

#[test]
fn an_endless_loop_ends_at_its_deadline() {
    let fault = fault_of(&Guest::with_flow("(loop $again (br $again)) i32.const 0"));
    assert_eq!(fault.class, FaultClass::Deadline);
    assert!(fault.detail.contains("deadline"), "{fault}");
}

#[test]
fn a_trap_names_the_function() {
    let guest =
        Guest::with_flow("(call $deep_inside) i32.const 0").part("(func $deep_inside unreachable)");
    let fault = fault_of(&guest);
    assert_eq!(fault.class, FaultClass::Trap);
    assert!(fault.detail.contains("in `deep_inside`"), "{fault}");
}

#[test]
fn the_module_that_traps_in_a_cluster_is_what_its_text_says() {
    let text = include_str!("../../../../tests/cluster/manifests/trap.wat");
    let manifest = include_str!("../../../../tests/cluster/manifests/trap.yaml");
    let module = wat::parse_str(text).expect("it is right WebAssembly text");
    let line = format!("  trap.wasm: {}\n", BASE64.encode(&module));
    assert!(manifest.contains(&line), "trap.yaml is to have this line:\n{line}");

    let module = sandbox().load(&module, limits::DEFAULT_MEMORY).expect("it is valid");
    let mut instance = module.instantiate(&Grant::new("trap"), "{}").expect("it starts");
    instance.slots_mut(1);
    let fault = instance.flow(1, Origin::New, 1).expect_err("the call must fail");
    assert_eq!(fault.class, FaultClass::Trap);
    assert!(fault.detail.contains("in `trapdoor`"), "{fault}");
}

#[test]
fn an_access_out_of_bounds_is_a_trap() {
    let fault = fault_of(&Guest::with_flow("(i32.store (i32.const -8) (i32.const 1)) i32.const 0"));
    assert_eq!(fault.class, FaultClass::Trap);
    assert!(fault.detail.contains("out of bounds"), "{fault}");
}

#[test]
fn a_bulk_access_out_of_bounds_is_a_trap() {
    let fault = fault_of(&Guest::with_flow(
        "(memory.fill (i32.const 0) (i32.const 1) (i32.const -1)) i32.const 0",
    ));
    assert_eq!(fault.class, FaultClass::Trap);
}

#[test]
fn a_stack_overflow_is_its_own_class() {
    let guest = Guest::with_flow("(call $down) i32.const 0").part("(func $down (call $down))");
    assert_eq!(fault_of(&guest).class, FaultClass::Stack);
}

#[test]
fn a_memory_bomb_is_its_own_class() {
    let fault = fault_of(&Guest::with_flow(
        "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 64)) (i32.const -1))))
         unreachable",
    ));
    assert_eq!(fault.class, FaultClass::Memory);
}

#[test]
fn a_hook_that_returns_an_error_is_heard() {
    let guest = Guest::with_flow("(call $fail (i32.const 16) (i32.const 5)) i32.const 3")
        .import(r#"(import "millrace" "fail" (func $fail (param i32 i32)))"#)
        .part(r#"(data (i32.const 16) "ouch!")"#);
    let fault = fault_of(&guest);
    assert_eq!((fault.class, fault.detail.as_str()), (FaultClass::Refused, "ouch!"));
}

#[test]
fn arguments_of_imports_that_point_outside_are_traps() {
    for call in [
        "(call $log (i32.const 1) (i32.const -4) (i32.const 100))",
        "(call $log (i32.const 1) (i32.const 0) (i32.const -1))",
        "(call $fail (i32.const 1048570) (i32.const 100))",
        "(drop (call $emit (i32.const 1) (i32.const 1048570) (i32.const 100)))",
    ] {
        let guest = Guest::with_flow(&format!("{call} i32.const 0"))
            .manifest(r#"{"abi":1,"name":"x","hooks":["flow"],"capabilities":["emit"]}"#)
            .import(r#"(import "millrace" "log" (func $log (param i32 i32 i32)))"#)
            .import(r#"(import "millrace" "fail" (func $fail (param i32 i32)))"#)
            .import(r#"(import "millrace" "emit" (func $emit (param i32 i32 i32) (result i32)))"#);
        let fault = fault_of(&guest);
        assert_eq!(fault.class, FaultClass::Trap, "{call}");
        assert!(fault.detail.contains("out of bounds"), "{call}: {fault}");
    }
}

#[test]
fn a_handle_that_was_never_given_opens_nothing() {
    let guest = Guest::with_flow(
        "(i32.add (call $get (i32.const 7) (i32.const 0) (i32.const 0)) (i32.const 2))",
    )
    .import(r#"(import "millrace" "map_get" (func $get (param i32 i32 i32) (result i32)))"#);
    let sandbox = sandbox();
    let mut instance = start(&sandbox, &guest).expect("it starts");
    instance.slots_mut(1);
    assert!(instance.flow(1, Origin::New, 1).is_ok(), "the call answered REFUSED, -2");
}

#[test]
fn an_allocator_that_lies_is_found_out() {
    for (alloc, expected) in [
        ("i32.const 0", "no memory"),
        ("i32.const 8", "not aligned"),
        ("i32.const -16", "outside its memory"),
        ("i32.const 1048560", "outside its memory"),
        ("i32.const 65536", "gave before"),
    ] {
        let error = start(&sandbox(), &Guest::with_flow("i32.const 0").alloc(alloc))
            .err()
            .unwrap_or_else(|| panic!("{alloc} must be refused"));
        assert!(error.to_string().contains(expected), "{alloc}: {error}");
    }
}

#[test]
fn an_allocator_that_traps_or_loops_is_reported() {
    for alloc in ["unreachable", "(loop $again (br $again)) i32.const 0"] {
        let error = start(&sandbox(), &Guest::with_flow("i32.const 0").alloc(alloc)).err();
        assert!(matches!(error, Some(InstanceError::Start(_))), "{alloc}: {error:?}");
    }
}

#[test]
fn a_start_function_that_loops_ends_at_its_deadline() {
    let guest = Guest::with_flow("i32.const 0")
        .part("(func $forever (loop $again (br $again))) (start $forever)");
    let error = start(&sandbox(), &guest).err().expect("it must not start");
    assert!(
        matches!(&error, InstanceError::Start(fault) if fault.class == FaultClass::Deadline),
        "{error}"
    );
}

#[test]
fn a_start_function_cannot_use_the_host() {
    let guest = Guest::with_flow("i32.const 0")
        .import(r#"(import "millrace" "log" (func $log (param i32 i32 i32)))"#)
        .part("(func $early (call $log (i32.const 1) (i32.const 0) (i32.const 1))) (start $early)");
    assert!(matches!(start(&sandbox(), &guest).err(), Some(InstanceError::Start(_))));
}

#[test]
fn a_configuration_that_is_refused_says_why() {
    let guest = Guest::with_flow("i32.const 0")
        .configure("(call $fail (i32.const 16) (i32.const 9)) i32.const 1")
        .import(r#"(import "millrace" "fail" (func $fail (param i32 i32)))"#)
        .part(r#"(data (i32.const 16) "no limit?")"#);
    let error = start(&sandbox(), &guest).err().expect("it must refuse");
    assert_eq!(error.to_string(), "it refuses its configuration: refused: no limit?");
}

#[test]
fn a_module_that_passes_at_load_and_fails_later_fails_then() {
    let guest = Guest::with_flow(
        "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
         (if (i32.gt_u (global.get $calls) (i32.const 3)) (then unreachable)) i32.const 0",
    )
    .part("(global $calls (mut i32) (i32.const 0))");
    let sandbox = sandbox();
    let mut instance = start(&sandbox, &guest).expect("it starts");
    for _ in 0..3 {
        assert!(instance.flow(1, Origin::New, 1).is_ok());
    }
    assert_eq!(
        instance.flow(1, Origin::New, 1).map(<[_]>::len).unwrap_err().class,
        FaultClass::Trap
    );
    assert!(start(&sandbox, &guest).is_ok(), "a fresh instance starts over");
}

#[test]
fn what_a_guest_writes_to_its_slots_is_its_own_affair() {
    let scribble = for_each(&format!(
        "(memory.fill (local.get $slots) (i32.const 255) (i32.const 128))
         (i32.store16 offset=2 {DECISION} (i32.const 0xffff))
         (i32.store8 {DECISION} (i32.const 77))"
    ));
    let sandbox = sandbox();
    let mut instance = start(&sandbox, &Guest::with_flow(&scribble)).expect("it starts");
    let decisions = instance.flow(2, Origin::New, 1).expect("scribbling is no fault");
    assert_eq!((decisions[1].control, decisions[1].fields), (77, 0xffff));

    // what was left over from the last batch does not leak into the next one
    let quiet = start(&sandbox, &Guest::with_flow("i32.const 0"));
    let mut quiet = quiet.expect("it starts");
    let decisions = quiet.flow(2, Origin::New, 1).expect("it answers");
    assert_eq!((decisions[1].control, decisions[1].fields), (0, 0));
}

#[test]
fn a_grant_of_less_memory_than_the_module_starts_with_is_no_start() {
    let sandbox = sandbox();
    let module = sandbox
        .load(&Guest::with_flow("i32.const 0").build(), limits::DEFAULT_MEMORY)
        .expect("it loads");
    let small = Grant { memory: 1 << 16, ..Grant::new("small") };
    assert!(matches!(module.instantiate(&small, "{}").err(), Some(InstanceError::Start(_))));
}

#[test]
fn a_short_deadline_holds_for_one_stage_alone() {
    let sandbox = sandbox();
    // a billion turns: longer than the clock takes to notice on a busy machine, and well within a minute
    let slow = "(loop $again
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $i) (i32.const 1000000000))))
        i32.const 0";
    let module =
        sandbox.load(&Guest::with_flow(slow).build(), limits::DEFAULT_MEMORY).expect("it loads");
    let hurried = Grant { deadline: Duration::from_millis(1), ..Grant::new("hurried") };
    let patient = Grant { deadline: Duration::from_secs(60), ..Grant::new("patient") };
    let mut hurried = module.instantiate(&hurried, "{}").expect("it starts");
    let mut patient = module.instantiate(&patient, "{}").expect("it starts");
    assert_eq!(
        hurried.flow(1, Origin::New, 1).map(<[_]>::len).unwrap_err().class,
        FaultClass::Deadline
    );
    assert!(patient.flow(1, Origin::New, 1).is_ok());
}
