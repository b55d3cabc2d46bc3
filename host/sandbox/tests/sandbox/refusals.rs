//! What is refused before it is compiled, and what the refusal says.

use crate::guest::{Guest, sandbox};
use millrace_abi::limits;

/// What loading `bytes` says.
fn refusal(bytes: &[u8]) -> String {
    sandbox()
        .load(bytes, limits::DEFAULT_MEMORY)
        .expect_err("the module must be refused")
        .to_string()
}

#[test]
fn bytes_that_are_no_module_are_named_so() {
    assert!(refusal(b"").contains("not a WebAssembly module"));
    assert!(refusal(b"\x7fELF").contains("not a WebAssembly module"));
    let component = wat::parse_str("(component)").expect("a component is valid text");
    assert!(refusal(&component).contains("core modules"));
}

#[test]
fn a_module_of_a_hundred_megabytes_is_refused_by_its_size() {
    let text = refusal(&vec![0; 100 << 20]);
    assert!(text.contains("104857600 bytes") && text.contains("strip"), "{text}");
}

#[test]
fn a_module_cut_off_anywhere_is_refused() {
    let whole = Guest::with_flow("i32.const 0").build();
    // without its last section, the names of its functions, it is whole as well
    let names = whole.windows(5).rposition(|bytes| bytes == b"\x04name").expect("it has names");
    let sandbox = sandbox();
    for len in (0..whole.len()).filter(|&len| len != names - 2) {
        assert!(sandbox.load(&whole[..len], limits::DEFAULT_MEMORY).is_err(), "cut at {len}");
    }
    assert!(sandbox.load(&whole, limits::DEFAULT_MEMORY).is_ok());
}

#[test]
fn each_breach_of_the_contract_says_what_to_do() {
    let good = || Guest::with_flow("i32.const 0");
    let cases: [(&str, Vec<u8>, &[&str]); 14] = [
        (
            "no manifest",
            wat::parse_str(r#"(module (memory (export "memory") 1))"#).expect("valid text"),
            &["no custom section `millrace`", "SDK"],
        ),
        (
            "two manifests",
            good().part(r#"(@custom "millrace" "{}")"#).build(),
            &["more than one custom section"],
        ),
        (
            "another ABI",
            good().manifest(r#"{"abi":9,"name":"x"}"#).build(),
            &["version 9", "rebuild"],
        ),
        (
            "no memory",
            wat::parse_str(
                r#"(module (@custom "millrace" "{\"abi\":1,\"name\":\"x\",\"hooks\":[\"flow\"]}"))"#,
            )
            .expect("valid text"),
            &["does not export `memory`"],
        ),
        (
            "no allocator",
            wat::parse_str(
                r#"(module (@custom "millrace" "{\"abi\":1,\"name\":\"x\",\"hooks\":[\"flow\"]}")
                    (memory (export "memory") 1))"#,
            )
            .expect("valid text"),
            &["does not export `millrace_alloc` (i32) -> i32"],
        ),
        (
            "hook named and not exported",
            good().manifest(r#"{"abi":1,"name":"x","hooks":["flow","tick"]}"#).build(),
            &["names the hook `tick`", "does not export `millrace_tick`"],
        ),
        (
            "hook exported and not named",
            good().manifest(r#"{"abi":1,"name":"x","hooks":["packet"],"capabilities":["inspect"]}"#).build(),
            &["does not name the hook `flow`"],
        ),
        (
            "hook with another signature",
            good()
                .manifest(r#"{"abi":1,"name":"x","hooks":["flow","tick"]}"#)
                .part(r#"(func (export "millrace_tick") (param i32) (result i32) i32.const 0)"#)
                .build(),
            &["`millrace_tick` has the signature (i32) -> i32", "(i64) -> i32"],
        ),
        (
            "hook that is no function",
            good()
                .manifest(r#"{"abi":1,"name":"x","hooks":["flow","tick"]}"#)
                .part(r#"(global (export "millrace_tick") i32 (i32.const 0))"#)
                .build(),
            &["does not export `millrace_tick`"],
        ),
        (
            "unknown import",
            good().import(r#"(import "wasi_snapshot_preview1" "fd_write" (func (param i32)))"#).build(),
            &["`wasi_snapshot_preview1.fd_write`", "no WASI", "`millrace.log`"],
        ),
        (
            "import of another kind",
            good().import(r#"(import "millrace" "log" (global i32))"#).build(),
            &["`millrace.log`, which the host does not offer"],
        ),
        (
            "import with another signature",
            good().import(r#"(import "millrace" "now" (func (result i32)))"#).build(),
            &["imports `now` as () -> i32", "() -> i64"],
        ),
        (
            "import beyond its capabilities",
            good()
                .import(r#"(import "millrace" "emit" (func (param i32 i32 i32) (result i32)))"#)
                .build(),
            &["imports `emit`", "capability `emit`"],
        ),
        (
            "too much memory",
            good().pages(65536).build(),
            &["4294967296 bytes", "--initial-memory"],
        ),
    ];
    for (case, module, expected) in cases {
        let text = refusal(&module);
        for part in expected {
            assert!(text.contains(part), "{case}: {text:?} lacks {part:?}");
        }
    }
}

#[test]
fn features_that_filters_do_not_have_are_refused() {
    for (what, part) in [
        ("shared memory", "(memory 1 1 shared)"),
        ("memory64", "(memory i64 1)"),
        ("a second memory", "(memory 1)"),
        ("exceptions", "(tag $t)"),
    ] {
        let text = refusal(&Guest::with_flow("i32.const 0").part(part).build());
        assert!(text.contains("not a valid module"), "{what}: {text}");
    }
}

#[test]
fn names_that_a_module_gives_cannot_write_to_the_terminal() {
    let module =
        Guest::with_flow("i32.const 0").import(r#"(import "millrace" "\1b[2J" (func))"#).build();
    assert!(refusal(&module).contains(r"\u{1b}[2J"));
}
