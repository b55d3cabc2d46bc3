//! What the document says of the host, held against the host. What it says of layouts and
//! constants is held against their declarations in `guest-sdk/abi/tests`.

use std::collections::BTreeSet;

use millrace_abi::{Reason, limits};
use millrace_dataplane::counters::Fate;
use millrace_dataplane::verdict::{MAX_STAGES, Terms};
use millrace_dataplane::worker::WorkerSettings;
use millrace_filter::testing::frames::{self, Flags};
use millrace_packet_tests::{built_in, load, module_as, plane, sandbox};
use millrace_sandbox::{FaultClass, Grant, Hook, Manifest, Sandbox};

const TEXT: &str = include_str!("../../../../guest-sdk/abi/ABI.md");

/// The rows of the table whose first column is called `column`, with their lines.
fn rows(column: &str) -> Vec<(usize, Vec<&'static str>)> {
    let cells = |text: &'static str| -> Option<Vec<&'static str>> {
        let cells = text.strip_prefix('|')?.strip_suffix('|')?;
        Some(cells.split('|').map(str::trim).collect())
    };
    let mut lines = (1..).zip(TEXT.lines().map(cells));
    let is_heading = |cells: &Option<Vec<&str>>| cells.as_ref().is_some_and(|c| c[0] == column);
    lines
        .find(|(_, cells)| is_heading(cells))
        .unwrap_or_else(|| panic!("ABI.md has no table of `{column}`"));
    lines.skip(1).map_while(|(line, cells)| Some((line, cells?))).collect()
}

/// A cell without its backticks.
fn plain(cell: &str) -> &str {
    cell.trim_matches('`')
}

/// A module with a manifest in which `manifest` is put, and whatever else `parts` are.
fn module(manifest: &str, parts: &str) -> Vec<u8> {
    let manifest = manifest.replace('"', "\\\"");
    let text = format!("(module (@custom \"millrace\" \"{manifest}\") {parts})");
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

const MANIFEST: &str = r#"{"abi":1,"name":"guest","hooks":["flow"]}"#;
const FLOW: &str =
    r#"(func (export "millrace_flow") (param i32 i32 i32) (result i32) (i32.const 0))"#;

/// What a module exports beside its hooks, with what its allocator and configuration do.
fn frame(alloc: &str, configure: &str) -> String {
    format!(
        r#"(memory (export "memory") 4)
        (global $free (mut i32) (i32.const 1024))
        (func (export "millrace_alloc") (param $len i32) (result i32) (local $at i32)
            (local.set $at (global.get $free))
            (global.set $free (i32.and (i32.const -16)
                (i32.add (i32.add (local.get $at) (local.get $len)) (i32.const 15))))
            {alloc})
        (func (export "millrace_configure") (param i32 i32) (result i32) {configure})"#
    )
}

fn usual() -> String {
    frame("(local.get $at)", "(i32.const 0)")
}

/// What the host says when `bytes` are loaded and started; nothing if all is well.
fn complaint(sandbox: &Sandbox, bytes: &[u8]) -> String {
    match sandbox.load(bytes, limits::DEFAULT_MEMORY) {
        Err(error) => error.to_string(),
        Ok(module) => match module.instantiate(&Grant::new("stage"), "{}") {
            Err(error) => error.to_string(),
            Ok(_) => String::new(),
        },
    }
}

#[test]
fn the_smallest_guest_is_whole() {
    let (_, text) = TEXT.split_once("```wat\n").expect("it is there");
    let (text, _) = text.split_once("```").expect("it has an end");
    let module = wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"));
    let mut plane = plane(&["a", "b"]);
    load(&mut plane, built_in("bridge", "bridge", "{}"));
    load(&mut plane, module_as("no-telnet", module, ""));
    let to = |port| frames::tcp("10.0.0.1:9", &format!("10.0.0.2:{port}"), Flags::SYN, b"");
    // all in one batch, and with other configurations after it
    for config in ["{}", r#"{"x":[1,2,3]}"#] {
        plane.stages.configure("no-telnet", config).expect("it takes every configuration");
        assert_eq!(plane.pass("a", &[to(22), to(23), to(24), to(23)]).len(), 2);
    }
    assert_eq!(plane.count(Fate::Dropped(Reason::Denied)), 4);
}

#[test]
fn every_import_is_offered_with_the_signature_that_it_says() {
    let sandbox = sandbox();
    let manifest = MANIFEST.replace('}', r#","capabilities":["emit"]}"#);
    let rows = rows("import");
    assert!(rows.len() > 10);
    for (line, cells) in rows {
        let (parameters, returns) = plain(cells[1]).split_once(')').expect("a signature");
        let types: Vec<_> = parameters
            .split([' ', '(', ','])
            .filter(|word| matches!(*word, "i32" | "i64"))
            .collect();
        let result = match returns.strip_prefix(" -> ") {
            Some(ty) => format!("(result {ty})"),
            None => String::new(),
        };
        let import = format!(
            r#"(import "millrace" "{}" (func (param {}) {result}))"#,
            plain(cells[0]),
            types.join(" ")
        );
        let said = complaint(&sandbox, &module(&manifest, &(import + &usual() + FLOW)));
        assert_eq!(said, "", "ABI.md:{line}");
    }
}

#[test]
fn every_key_of_a_manifest_is_there_and_each_default_is_right() {
    let everything = r#"{"abi":1,"name":"a","version":"1","description":"d","hooks":["packet","update"],
        "classes":["arp"],"capabilities":["inspect"],"tables":["services/0"],"snap":64,"config":{},
        "rules":[{"id":1,"name":"r","help":"h"}],
        "maps":[{"name":"m","key":[{"name":"k","type":"u8"}],"value":[{"name":"v","type":"u8"}]}]}"#;
    let keys = |manifest: &Manifest| -> serde_json::Map<String, serde_json::Value> {
        let json = serde_json::to_value(manifest).expect("a manifest is JSON");
        json.as_object().expect("an object").clone()
    };
    let full = Manifest::parse(everything.as_bytes()).expect("all of it is right");
    let known: BTreeSet<String> = keys(&full).into_iter().map(|(key, _)| key).collect();
    let rows = rows("key");
    let written: BTreeSet<String> =
        rows.iter().map(|(_, cells)| plain(cells[0]).to_owned()).collect();
    assert_eq!(written, known);

    let least = keys(&Manifest::parse(MANIFEST.as_bytes()).expect("it is enough"));
    for (line, cells) in rows {
        let (key, default) = (plain(cells[0]), cells[2]);
        match default {
            "required" => {
                let mut without: serde_json::Value =
                    serde_json::from_str(MANIFEST).expect("it is JSON");
                without.as_object_mut().expect("an object").remove(key);
                assert!(
                    Manifest::parse(without.to_string().as_bytes()).is_err(),
                    "ABI.md:{line}: `{key}` is not required"
                );
            }
            "absent" => assert_eq!(least.get(key), None, "ABI.md:{line}"),
            // at least one has to be there
            _ if key == "hooks" => {}
            _ => assert_eq!(least[key].to_string(), plain(default), "ABI.md:{line}"),
        }
    }
    let hooks: Vec<_> =
        [Hook::Flow, Hook::Packet, Hook::Tick, Hook::Update].map(Hook::label).into();
    assert!(TEXT.contains(&format!("`{}`: at least one", hooks.join("`, `"))));
}

#[test]
fn every_type_of_a_field_has_the_length_that_it_says() {
    for (kind, len) in [
        ("u8", 1),
        ("u16", 2),
        ("u32", 4),
        ("u64", 8),
        ("mac", 6),
        ("ip", 16),
        ("port", 2),
        ("time", 8),
        ("bytes12", 12),
    ] {
        assert!(TEXT.contains(&format!("`{kind}`")), "{kind}");
        let field = millrace_sandbox::MapField { name: "f".to_owned(), kind: kind.to_owned() };
        assert_eq!(field.bytes(), Some(len), "{kind}");
    }
}

#[test]
fn faults_have_their_classes() {
    let written: Vec<_> = rows("fault").iter().map(|(_, cells)| plain(cells[0])).collect();
    assert_eq!(written, FaultClass::ALL.map(FaultClass::label));
}

#[test]
fn bounds_are_what_the_host_is_built_with() {
    let written: Vec<u64> = rows("bound")
        .iter()
        .map(|(line, cells)| {
            cells[1].parse().unwrap_or_else(|_| panic!("ABI.md:{line}: no number"))
        })
        .collect();
    let worker = WorkerSettings::default();
    let built = [
        MAX_STAGES as u64,
        Grant::DEADLINE.as_millis() as u64,
        Terms::DEFAULT.idle_ms.into(),
        worker.flows as u64,
        worker.burst as u64,
    ];
    assert_eq!(written[..built.len()], built);
    // the last one is the sandbox's own affair
    let sandbox = sandbox();
    let with_table = |elements: u64| {
        module(MANIFEST, &(usual() + FLOW + &format!("(table {elements} funcref)")))
    };
    assert_eq!(complaint(&sandbox, &with_table(written[5])), "");
    assert!(complaint(&sandbox, &with_table(written[5] + 1)).contains("table"));
}

#[test]
fn what_may_be_used_is_taken_and_what_is_refused_is_not() {
    let sandbox = sandbox();
    let said = |part: &str| complaint(&sandbox, &module(MANIFEST, &(usual() + FLOW + part)));
    for part in [
        r#"(global (export "g") (mut i32) (i32.const 0))"#,
        "(func (result i32) (i32.extend8_s (i32.const 1)))",
        "(func (result i32) (i32.trunc_sat_f64_s (f64.const 1e99)))",
        "(func (result i32 i32) (i32.const 1) (i32.const 2))",
        "(func (memory.fill (i32.const 0) (i32.const 0) (i32.const 0)))",
        "(table 1 funcref) (table 1 funcref)",
        "(func (result v128) (v128.const i32x4 0 0 0 0))",
        "(func $f (return_call $f))",
        r#"(func (export "_start") unreachable)"#,
    ] {
        assert_eq!(said(part), "", "{part}");
    }
    for part in [
        "(func (atomic.fence))",
        "(func (param v128 v128) (result v128)
            (i8x16.relaxed_swizzle (local.get 0) (local.get 1)))",
        "(memory 1)",
        "(memory i64 1)",
        "(global i32 (i32.add (i32.const 1) (i32.const 2)))",
        "(tag $t)",
        "(type (struct (field i32)))",
        "(type $t (func)) (func (param (ref $t)))",
        "(func (param externref))",
        "(func (param i64 i64) (result i64 i64) (i64.mul_wide_s (local.get 0) (local.get 1)))",
    ] {
        assert_ne!(said(part), "", "{part}");
    }
}

#[test]
fn a_start_function_may_ask_the_time_and_nothing_else() {
    let sandbox = sandbox();
    let starts = |import: &str, call: &str| {
        let parts = usual() + FLOW + &format!("(func $s {call}) (start $s)");
        complaint(&sandbox, &module(MANIFEST, &(import.to_owned() + &parts)))
    };
    let now = r#"(import "millrace" "now" (func $now (result i64)))"#;
    assert_eq!(starts(now, "(drop (call $now))"), "");
    let fail = r#"(import "millrace" "fail" (func $fail (param i32 i32)))"#;
    let said = starts(fail, "(call $fail (i32.const 0) (i32.const 0))");
    assert!(said.contains("failed while starting"), "{said}");
}

#[test]
fn the_shape_of_a_map_is_aligned_to_eight() {
    let sandbox = sandbox();
    let opens = |shape: u32| {
        let parts = format!(
            r#"(import "millrace" "map_open" (func $open (param i32 i32 i32) (result i32)))
            {}{FLOW}
            (data (i32.const 16) "map")
            (data (i32.const {shape}) "\01\00\00\00\01\00\00\00\01\00\00\00")"#,
            frame(
                "(local.get $at)",
                &format!("(call $open (i32.const 16) (i32.const 3) (i32.const {shape}))")
            )
        );
        complaint(&sandbox, &module(MANIFEST, &parts))
    };
    assert_eq!(opens(64), "");
    assert!(opens(68).contains("out of bounds"));
}

/// For each line of the table of refusals, a module that is refused so.
fn refused() -> Vec<(&'static str, Vec<u8>)> {
    let with = |manifest: &str, parts: &str| module(manifest, &(parts.to_owned() + FLOW));
    let text = |text: &str| wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"));
    let bad_alloc = |alloc: &str| with(MANIFEST, &frame(alloc, "(i32.const 0)"));
    // opens the map `m` with room for one entry, and then for two
    let two_shapes = {
        let open =
            |shape: u32| format!("(call $open (i32.const 16) (i32.const 1) (i32.const {shape}))");
        let configure = format!("(drop {}) (i32.lt_s {} (i32.const 0))", open(32), open(64));
        let parts = format!(
            r#"(import "millrace" "map_open" (func $open (param i32 i32 i32) (result i32)))
            {} (data (i32.const 16) "m")
            (data (i32.const 32) "\01\00\00\00\01\00\00\00\01\00\00\00")
            (data (i32.const 64) "\01\00\00\00\01\00\00\00\02\00\00\00")"#,
            frame("(local.get $at)", &configure)
        );
        with(MANIFEST, &parts)
    };
    vec![
        ("it has no custom section", text(r#"(module (memory (export "memory") 1))"#)),
        ("it was built for version", with(r#"{"abi":7}"#, &usual())),
        ("unknown field", with(&MANIFEST.replace("name", "nom"), &usual())),
        ("make the two agree", with(&MANIFEST.replace("flow", "tick"), &usual())),
        (
            "which the host does not offer",
            with(
                MANIFEST,
                &(r#"(import "env" "memcpy" (func (param i32 i32 i32) (result i32)))"#.to_owned()
                    + &usual()),
            ),
        ),
        ("filters are core modules", text("(component)")),
        (
            "it is not a valid module",
            with(MANIFEST, &(usual() + "(global i32 (i32.add (i32.const 1) (i32.const 2)))")),
        ),
        (
            "its memory starts with",
            with(MANIFEST, &usual().replace(r#"(export "memory") 4"#, r#"(export "memory") 2000"#)),
        ),
        ("says that there is no memory", bad_alloc("(i32.const 0)")),
        ("is not aligned to 16", bad_alloc("(i32.add (local.get $at) (i32.const 8))")),
        (
            "it refuses its configuration",
            with(MANIFEST, &frame("(local.get $at)", "(i32.const 1)")),
        ),
        ("give the new one another name", two_shapes),
        ("failed while starting", with(MANIFEST, &(usual() + "(func $s unreachable) (start $s)"))),
    ]
}

#[test]
fn refusals_say_what_the_document_says_they_do() {
    let sandbox = sandbox();
    let refused = refused();
    let written: Vec<_> = rows("the host says").iter().map(|(_, cells)| cells[0]).collect();
    let known: Vec<_> = refused.iter().map(|(said, _)| *said).collect();
    assert_eq!(written, known);
    for (expected, bytes) in refused {
        let said = complaint(&sandbox, &bytes);
        assert!(said.contains(expected), "{expected}: {said}");
    }
}
