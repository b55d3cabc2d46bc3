//! Host maps many entries at a time: `map_get_all` and `map_exchange_all`.

use millrace_abi::names::map_status;
use millrace_abi::{Origin, limits};
use millrace_sandbox::{FaultClass, Grant, Instance, Sandbox};

use crate::guest::{Guest, sandbox};

/// A guest with a map of 2 entries, of 4 + 8 bytes. Its keys are at 512, values at 1024, what it
/// finds at 2048, what it expects at 3072, and what was done at 4096. The first byte of its
/// configuration says what is asked: `g`et or `e`xchange, `w`ide for too many, `o`ut for entries
/// that end outside the memory, `d` for statuses that do. The answer of the host is the rule of its decision.
fn guest() -> Guest {
    Guest::with_flow(
        "(local $answer i32) (local $asked i32)
         (local.set $asked (global.get $asked))
         (if (i32.eq (local.get $asked) (i32.const 0x67)) (then
             (local.set $answer (call $get_all (i32.const 0) (i32.const 3)
                 (i32.const 512) (i32.const 1024) (i32.const 2048)))))
         (if (i32.eq (local.get $asked) (i32.const 0x65)) (then
             (local.set $answer (call $exchange_all (i32.const 0) (i32.const 3)
                 (i32.const 512) (i32.const 2048) (i32.const 3072) (i32.const 1024)
                 (i32.const 4096)))))
         (if (i32.eq (local.get $asked) (i32.const 0x77)) (then
             (local.set $answer (call $get_all (i32.const 0) (i32.const 1025)
                 (i32.const 512) (i32.const 1024) (i32.const 2048)))))
         (if (i32.eq (local.get $asked) (i32.const 0x6f)) (then
             (local.set $answer (call $get_all (i32.const 0) (i32.const 3)
                 (i32.const 512) (i32.const 1048560) (i32.const 2048)))))
         (if (i32.eq (local.get $asked) (i32.const 0x64)) (then
             (local.set $answer (call $exchange_all (i32.const 0) (i32.const 3)
                 (i32.const 512) (i32.const 2048) (i32.const 3072) (i32.const 1024)
                 (i32.const 1048574)))))
         (i32.store offset=8 (local.get $decisions) (local.get $answer))
         (i64.store offset=32 (local.get $decisions) (i64.load (i32.const 1024)))
         (i64.store offset=40 (local.get $decisions) (i64.load (i32.const 1040)))
         (i32.store offset=48 (local.get $decisions) (i32.load (i32.const 2048)))
         (i32.store offset=52 (local.get $decisions) (i32.load (i32.const 4096)))
         i32.const 0",
    )
    .import(r#"(import "millrace" "map_open" (func $open (param i32 i32 i32) (result i32)))"#)
    .import(
        r#"(import "millrace" "map_get_all"
            (func $get_all (param i32 i32 i32 i32 i32) (result i32)))"#,
    )
    .import(
        r#"(import "millrace" "map_exchange_all"
            (func $exchange_all (param i32 i32 i32 i32 i32 i32 i32) (result i32)))"#,
    )
    .part("(global $asked (mut i32) (i32.const 0))")
    .part(r#"(data (i32.const 16) "batch")"#)
    // the shape: 4 + 8 bytes, 2 entries
    .part(r#"(data (i32.const 64) "\04\00\00\00\08\00\00\00\02\00\00\00")"#)
    .part(r#"(data (i32.const 512) "key0key1key0")"#)
    .part(r#"(data (i32.const 1024) "value--0value--1value--2")"#)
    // the third is expected to be what the first has become
    .part(r#"(data (i32.const 2050) "\01")"#)
    .part(r#"(data (i32.const 3088) "value--0")"#)
    .part(r#"(data (i32.const 4096) "\7f\7f\7f\7f")"#)
    .configure(
        "(global.set $asked (i32.load8_u (local.get $json)))
         (drop (call $open (i32.const 16) (i32.const 5) (i32.const 64)))
         i32.const 0",
    )
}

fn start(sandbox: &Sandbox, asked: &str) -> Instance {
    sandbox
        .load(&guest().build(), limits::DEFAULT_MEMORY)
        .unwrap_or_else(|error| panic!("the module is valid: {error}"))
        .instantiate(&Grant::new("batch"), asked)
        .unwrap_or_else(|error| panic!("it starts: {error}"))
}

/// The host's answer, two values, and the bytes of what was found and done.
fn ask(instance: &mut Instance, origin: Origin) -> (i32, [u32; 4], [u8; 4], [i8; 4]) {
    let decision = instance.flow(1, origin, 1).expect("it answers")[0];
    let [a, b, c, d, found, done, ..] = decision.tags;
    (
        decision.rule as i32,
        [a, b, c, d],
        found.to_le_bytes(),
        done.to_le_bytes().map(|byte| byte as i8),
    )
}

fn words(texts: [&[u8; 4]; 4]) -> [u32; 4] {
    texts.map(|text| u32::from_le_bytes(*text))
}

#[test]
fn entries_are_exchanged_and_read_in_order() {
    let sandbox = sandbox();
    let (answer, _, _, done) = ask(&mut start(&sandbox, "e"), Origin::New);
    // the second time `key0` is there, as expected
    assert_eq!((answer, done), (map_status::OK, [1, 1, 1, 0x7f]));

    let (answer, values, found, _) = ask(&mut start(&sandbox, "g"), Origin::New);
    assert_eq!((answer, found), (map_status::OK, [1, 1, 1, 0]));
    assert_eq!(values, words([b"valu", b"e--2", b"valu", b"e--2"]), "both are `key0`");
}

#[test]
fn an_entry_that_is_not_as_expected_stays() {
    let sandbox = sandbox();
    ask(&mut start(&sandbox, "e"), Origin::New);
    let (answer, _, _, done) = ask(&mut start(&sandbox, "e"), Origin::New);
    assert_eq!((answer, done), (map_status::OK, [0, 0, 0, 0x7f]), "neither new nor `value--0`");
}

#[test]
fn a_dry_call_writes_no_entries() {
    let sandbox = sandbox();
    let (_, _, _, done) = ask(&mut start(&sandbox, "e"), Origin::Shadow);
    assert_eq!(done, [1, 1, 1, 0x7f], "it is told what it hopes for");
    let (_, values, found, _) = ask(&mut start(&sandbox, "g"), Origin::New);
    assert_eq!(found, [0; 4]);
    assert_eq!(values, words([b"valu", b"e--0", b"valu", b"e--2"]), "values are left alone");
}

#[test]
fn more_than_may_be_asked_at_once_is_refused() {
    let (answer, ..) = ask(&mut start(&sandbox(), "w"), Origin::New);
    assert_eq!(answer, map_status::REFUSED);
}

#[test]
fn entries_that_end_outside_the_memory_are_a_fault() {
    let sandbox = sandbox();
    // 1 MiB of memory: the third value ends 8 bytes behind it
    let fault = start(&sandbox, "o").flow(1, Origin::New, 1).expect_err("it is out of bounds");
    assert_eq!(fault.class, FaultClass::Trap, "{fault:?}");
}

#[test]
fn an_exchange_whose_statuses_end_outside_the_memory_changes_nothing() {
    let sandbox = sandbox();
    let fault = start(&sandbox, "d").flow(1, Origin::New, 1).expect_err("it is out of bounds");
    assert_eq!(fault.class, FaultClass::Trap, "{fault:?}");
    let (_, _, found, _) = ask(&mut start(&sandbox, "g"), Origin::New);
    assert_eq!(found, [0; 4]);
}
