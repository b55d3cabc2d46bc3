//! What the host does for a guest that keeps to the contract.

use crate::guest::{DECISION, Guest, for_each, sandbox};
use millrace_abi::{Origin, PacketVerdict, Slot, limits, packet_flag};
use millrace_sandbox::{
    Grant, Instance, Level, MetricValue, Origin as CodeOrigin, Sandbox, Settings,
};

fn start(sandbox: &Sandbox, guest: &Guest, grant: &Grant, config: &str) -> Instance {
    sandbox
        .load(&guest.build(), limits::DEFAULT_MEMORY)
        .unwrap_or_else(|error| panic!("the module is valid: {error}"))
        .instantiate(grant, config)
        .unwrap_or_else(|error| panic!("it starts: {error}"))
}

#[test]
fn slots_reach_the_guest_and_decisions_the_host() {
    // the egress is the slot's destination port
    let copy = for_each(&format!(
        "(i32.store16 offset=6 {DECISION}
            (i32.load16_u offset=34 (i32.add (local.get $slots)
                (i32.mul (local.get $i) (i32.const 128)))))
         (i32.store16 offset=2 {DECISION} (i32.const 1))"
    ));
    let mut instance = start(&sandbox(), &Guest::with_flow(&copy), &Grant::new("copy"), "{}");
    for (index, slot) in instance.slots_mut(limits::MAX_BATCH).iter_mut().enumerate() {
        *slot = Slot { dst_port: index as u16 + 7, ..Slot::ZERO };
    }
    let decisions = instance.flow(limits::MAX_BATCH, Origin::New, 1).expect("it answers");
    for (index, decision) in decisions.iter().enumerate() {
        assert_eq!((decision.egress, decision.fields), (index as u16 + 7, 1));
    }
}

#[test]
fn a_configuration_arrives_whole_and_can_be_replaced() {
    let guest =
        Guest::with_flow(&for_each(&format!("(i32.store offset=8 {DECISION} (global.get $seen))")))
            .part("(global $seen (mut i32) (i32.const 0))")
            .configure("(global.set $seen (i32.load8_u offset=2 (local.get $json))) i32.const 0");
    let mut instance = start(&sandbox(), &guest, &Grant::new("s"), "abc");
    assert_eq!(instance.flow(1, Origin::New, 1).expect("it answers")[0].rule, u32::from(b'c'));
    instance.configure("xyz").expect("it takes another");
    assert_eq!(instance.flow(1, Origin::New, 1).expect("it answers")[0].rule, u32::from(b'z'));
}

const COUNTING: &str = "(i64.store (i32.const 64) (i64.add (i64.load (i32.const 64)) \
                        (i64.extend_i32_u (local.get $n))))
    (drop (call $add (i32.const 0) (i32.const 80) (i64.const 1) (i32.const 96)))
    (call $log (i32.const 2) (i32.const 16) (i32.const 4))
    i32.const 0";

fn counting() -> Guest {
    Guest::with_flow(COUNTING)
        .import(
            r#"(import "millrace" "metric" (func $metric (param i32 i32 i32 i32) (result i32)))"#,
        )
        .import(r#"(import "millrace" "map_open" (func $open (param i32 i32 i32) (result i32)))"#)
        .import(r#"(import "millrace" "map_add" (func $add (param i32 i32 i64 i32) (result i32)))"#)
        .import(r#"(import "millrace" "log" (func $log (param i32 i32 i32)))"#)
        .part(r#"(data (i32.const 16) "hits")"#)
        .part(&map_shape(4, 0))
        .configure(
            "(drop (call $metric (i32.const 1) (i32.const 16) (i32.const 4) (i32.const 64)))
             (call $open (i32.const 16) (i32.const 4) (i32.const 128))",
        )
}

/// A map shape at address 128: keys of `key_len` bytes, values of 8, 100 entries.
fn map_shape(key_len: u8, flags: u8) -> String {
    format!(
        r#"(data (i32.const 128) "\{key_len:02x}\00\00\00\08\00\00\00\64\00\00\00\00\00\00\00\{flags:02x}")"#
    )
}

#[test]
fn dry_calls_count_nothing_write_no_map_and_say_nothing() {
    let sandbox = sandbox();
    let grant = Grant::new("counting");
    let mut instance = start(&sandbox, &counting(), &grant, "{}");
    let (_, map) = sandbox.maps().owned_by("counting").pop().expect("it opened a map");
    let state = |instance: &Instance| {
        let mut value = [0; 8];
        map.get(&[0; 4], &mut value, 1);
        let MetricValue::Counter(hits) = instance.metrics()[0].value else {
            panic!("it declared a counter")
        };
        (hits, u64::from_le_bytes(value), grant.log.since(0).len())
    };

    instance.flow(5, Origin::New, 1).expect("it answers");
    assert_eq!(state(&instance), (5, 1, 1));
    for origin in [Origin::Redecide, Origin::Shadow] {
        instance.flow(5, origin, 1).expect("it answers");
        assert_eq!(state(&instance), (5, 1, 1), "{origin:?}");
    }
    instance.flow(2, Origin::New, 1).expect("it answers");
    assert_eq!(state(&instance), (7, 2, 2));
}

#[test]
fn host_maps_outlive_instances_and_are_private_to_a_stage() {
    let sandbox = sandbox();
    for expected in 1..=3u64 {
        let mut instance = start(&sandbox, &counting(), &Grant::new("counting"), "{}");
        instance.flow(1, Origin::New, 1).expect("it answers");
        let (_, map) = sandbox.maps().owned_by("counting").pop().expect("it opened a map");
        let mut value = [0; 8];
        assert!(map.get(&[0; 4], &mut value, 1));
        assert_eq!(u64::from_le_bytes(value), expected);
    }
    let mut other = start(&sandbox, &counting(), &Grant::new("other"), "{}");
    other.flow(1, Origin::New, 1).expect("it answers");
    let (_, map) = sandbox.maps().owned_by("other").pop().expect("it opened a map");
    let mut value = [0; 8];
    assert!(map.get(&[0; 4], &mut value, 1));
    assert_eq!(u64::from_le_bytes(value), 1);
}

#[test]
fn a_map_with_another_shape_is_refused_with_a_reason() {
    let sandbox = sandbox();
    let _first = start(&sandbox, &counting(), &Grant::new("s"), "{}");
    let other = counting().part(&map_shape(6, 0));
    let error = sandbox
        .load(&other.build(), limits::DEFAULT_MEMORY)
        .expect("it loads")
        .instantiate(&Grant::new("s"), "{}")
        .err()
        .expect("the shape differs");
    let text = error.to_string();
    assert!(text.contains("host map `hits`: it exists as 100 entries of 4 + 8 bytes"), "{text}");
}

#[test]
fn a_shared_map_needs_the_capability() {
    let guest = counting().part(&map_shape(4, 1));
    let sandbox = sandbox();
    let module = sandbox.load(&guest.build(), limits::DEFAULT_MEMORY).expect("it loads");
    let without =
        Grant { capabilities: millrace_abi::CapabilitySet::EMPTY, ..Grant::new("without") };
    let error = module.instantiate(&without, "{}").err().expect("it must be refused").to_string();
    assert!(error.contains("capability `share`"), "{error}");
    assert!(module.instantiate(&Grant::new("with"), "{}").is_ok());
}

#[test]
fn what_a_filter_says_is_kept_with_its_level() {
    let grant = Grant::new("counting");
    let mut instance = start(&sandbox(), &counting(), &grant, "{}");
    instance.flow(1, Origin::New, 1).expect("it answers");
    let line = grant.log.since(0).pop().expect("it said something");
    assert_eq!((line.level, line.text.as_str()), (Level::Warn, "hits"));
}

const PACKET_MANIFEST: &str = r#"{"abi":1,"name":"p","hooks":["packet"],
    "capabilities":["inspect","rewrite","emit"],"snap":64}"#;

/// A guest with the packet hook alone.
fn with_packet(body: &str) -> Guest {
    Guest::with_flow("i32.const 0")
        .manifest(&PACKET_MANIFEST.replace(r#"["packet"]"#, r#"["flow","packet"]"#))
        .part(&format!(
            r#"(func (export "millrace_packet") (param $slots i32) (param $packets i32)
                (param $n i32) (result i32) (local $i i32) {body})"#
        ))
}

#[test]
fn packets_are_shown_up_to_the_snap_length_and_answers_come_back() {
    // answers the first packet with its first byte changed, drops all others
    let body = "(i32.store8 (i32.load (local.get $packets)) (i32.const 0xee))
        (i32.store8 offset=20 (local.get $packets) (i32.const 2))
        (i32.store offset=28 (local.get $packets) (i32.const 20))
        (i32.store8 offset=52 (local.get $packets) (i32.const 1))
        (i32.store8 offset=53 (local.get $packets) (i32.const 2))
        i32.const 0";
    let mut instance = start(&sandbox(), &with_packet(body), &Grant::new("p"), "{}");
    assert!(instance.push_packet(&Slot::ZERO, &[7; 40]));
    assert!(instance.push_packet(&Slot::ZERO, &[8; 1500]));
    let mut seen = Vec::new();
    instance
        .show_packets(Origin::New, 1, &mut |index, record, bytes| {
            seen.push((index, record.verdict, record.flags, record.len, record.wire_len, bytes[0]));
        })
        .expect("it answers");
    let answer = PacketVerdict::Answer as u8;
    let drop = PacketVerdict::Drop as u8;
    assert_eq!(seen, [(0, answer, 0, 40, 40, 0xee), (1, drop, packet_flag::RELEASE, 64, 1500, 8)]);
}

#[test]
fn a_batch_of_packets_says_when_it_is_full() {
    let mut instance = start(&sandbox(), &with_packet("i32.const 0"), &Grant::new("p"), "{}");
    for expected in [limits::MAX_BATCH, 0] {
        let mut shown = 0;
        if expected > 0 {
            while instance.push_packet(&Slot::ZERO, &[0; 1500]) {}
        }
        let mut count = |_, _: &_, _: &_| shown += 1;
        instance.show_packets(Origin::New, 1, &mut count).expect("it answers");
        assert_eq!(shown, expected, "each batch begins empty");
    }
}

#[test]
fn emitted_frames_are_handed_over_once_and_only_when_allowed() {
    let guest = Guest::with_flow(
        "(drop (call $emit (i32.const 3) (i32.const 16) (i32.const 14)))
         (drop (call $emit (i32.const 5000) (i32.const 16) (i32.const 14)))
         (drop (call $emit (i32.const 3) (i32.const 16) (i32.const 13)))
         i32.const 0",
    )
    .manifest(r#"{"abi":1,"name":"x","hooks":["flow"],"capabilities":["emit"]}"#)
    .import(r#"(import "millrace" "emit" (func $emit (param i32 i32 i32) (result i32)))"#)
    .part(r#"(data (i32.const 16) "fourteen bytes")"#);
    let sandbox = sandbox();
    let taken = |grant: &Grant, origin| {
        let mut instance = start(&sandbox, &guest, grant, "{}");
        instance.flow(1, origin, 1).expect("it answers");
        let mut taken = Vec::new();
        instance.take_emitted(|port, frame| taken.push((port, frame.to_vec())));
        instance.take_emitted(|_, _| panic!("a frame is handed over once"));
        taken
    };
    let frame = (3, b"fourteen bytes".to_vec());
    assert_eq!(taken(&Grant::new("e"), Origin::New), [frame]);
    assert_eq!(taken(&Grant::new("e"), Origin::Shadow), []);
    let without = Grant { capabilities: millrace_abi::CapabilitySet::EMPTY, ..Grant::new("e") };
    assert_eq!(taken(&without, Origin::New), []);
}

#[test]
fn compiled_code_is_kept_and_damage_to_it_is_noticed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = Settings { cache: Some(folder.path().join("code")) };
    let bytes = Guest::with_flow("i32.const 0").build();
    let load = || {
        let sandbox = Sandbox::new(&settings).expect("the engine starts");
        let module = sandbox.load(&bytes, limits::DEFAULT_MEMORY).expect("it loads");
        let mut instance = module.instantiate(&Grant::new("s"), "{}").expect("it starts");
        instance.flow(1, Origin::New, 1).expect("it answers");
        module.origin()
    };
    assert!(matches!(load(), CodeOrigin::Compiled(_)));
    assert!(matches!(load(), CodeOrigin::Cached(_)));

    let file = std::fs::read_dir(folder.path().join("code"))
        .expect("the cache folder is there")
        .next()
        .expect("it holds a file")
        .expect("which can be read")
        .path();
    let mut code = std::fs::read(&file).expect("the cached code can be read");
    let middle = code.len() / 2;
    code[middle] ^= 1;
    std::fs::write(&file, code).expect("and written");
    assert!(matches!(load(), CodeOrigin::Compiled(_)));
    assert!(matches!(load(), CodeOrigin::Cached(_)));
}

#[test]
fn a_cache_that_others_may_write_to_is_not_used() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777))
        .expect("permissions can be set");
    let error = millrace_sandbox::CodeCache::open(folder.path()).expect_err("it is open to all");
    assert!(error.to_string().contains("chmod 700"), "{error}");
}
