//! Guests in WebAssembly text, for tests that need no compiler.

use millrace_sandbox::{Sandbox, Settings};

/// A guest: a manifest, and parts of a module around a working allocator.
pub(crate) struct Guest {
    manifest: String,
    alloc: String,
    configure: String,
    parts: String,
    imports: String,
    pages: u32,
}

impl Guest {
    /// A guest with the flow hook, whose body is `flow`.
    pub(crate) fn with_flow(flow: &str) -> Self {
        Self {
            manifest: r#"{"abi":1,"name":"guest","hooks":["flow"]}"#.to_owned(),
            alloc: BUMP.to_owned(),
            configure: "i32.const 0".to_owned(),
            parts: format!(
                r#"(func (export "millrace_flow") (param $slots i32) (param $decisions i32)
                    (param $n i32) (result i32) (local $i i32) {flow})"#
            ),
            imports: String::new(),
            pages: 16,
        }
    }

    pub(crate) fn manifest(mut self, manifest: &str) -> Self {
        self.manifest = manifest.to_owned();
        self
    }

    pub(crate) fn alloc(mut self, alloc: &str) -> Self {
        self.alloc = alloc.to_owned();
        self
    }

    pub(crate) fn configure(mut self, configure: &str) -> Self {
        self.configure = configure.to_owned();
        self
    }

    pub(crate) fn part(mut self, part: &str) -> Self {
        self.parts += part;
        self
    }

    pub(crate) fn import(mut self, import: &str) -> Self {
        self.imports += import;
        self
    }

    pub(crate) fn pages(mut self, pages: u32) -> Self {
        self.pages = pages;
        self
    }

    /// The module's bytes.
    pub(crate) fn build(&self) -> Vec<u8> {
        let manifest = self.manifest.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "");
        let text = format!(
            r#"(module
                (@custom "millrace" "{manifest}")
                {}
                (memory (export "memory") {})
                (global $top (mut i32) (i32.const 65536))
                (func (export "millrace_alloc") (param $len i32) (result i32) (local $at i32) {})
                (func (export "millrace_configure") (param $json i32) (param $len i32) (result i32) {})
                {})"#,
            self.imports, self.pages, self.alloc, self.configure, self.parts
        );
        wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }
}

/// A sandbox without a cache.
pub(crate) fn sandbox() -> Sandbox {
    Sandbox::new(&Settings::default()).expect("the engine starts")
}

/// A loop over the batch, `body` once for each slot.
pub(crate) fn for_each(body: &str) -> String {
    format!(
        "(block $done (loop $next
            (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
            {body}
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br $next)))
        i32.const 0"
    )
}

/// The decision of slot `$i`.
pub(crate) const DECISION: &str =
    "(i32.add (local.get $decisions) (i32.mul (local.get $i) (i32.const 128)))";

const BUMP: &str = "
    (local.set $at (global.get $top))
    (global.set $top (i32.and (i32.add (i32.add (global.get $top) (local.get $len))
        (i32.const 15)) (i32.const -16)))
    (local.get $at)";
