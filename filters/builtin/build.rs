//! Compiles the filters that ship with millrace, and the examples, to WebAssembly.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

use millrace_guest_build::{Build, DebugInfo, compile_c};

/// Filters that every host has, by name.
const BUILT_IN: &[&str] = &["bridge", "policy", "router", "service-lb"];
/// Filters for people to start from; the demo, tests and benches use them too.
const EXAMPLES: &[&str] = &["deny-list", "dns-log", "rate-limit", "static-nat"];
/// The same, in C: the source is `filter.c`.
const EXAMPLES_IN_C: &[&str] = &["port-count"];

fn main() {
    let filters = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"))
        .parent()
        .expect("this crate is in the folder of the filters")
        .to_owned();
    let repository = filters.parent().expect("the filters are a folder of the repository");
    let sdk = repository.join("guest-sdk");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    // as seen from here: clones may share what is built
    for folder in ["..", "../../guest-sdk"] {
        println!("cargo::rerun-if-changed={folder}");
    }
    println!("cargo::rerun-if-env-changed=MILLRACE_GUEST_TOOLCHAIN");

    let rust = |folder: PathBuf| {
        let build = Build {
            crate_folder: folder,
            target_folder: target_folder(&out),
            debug_info: DebugInfo::Names,
            verbose: false,
        };
        build.run().unwrap_or_else(|error| panic!("{error}"))
    };
    let c = |folder: PathBuf| {
        let module = out.join("example.wasm");
        compile_c(&folder.join("filter.c"), &sdk.join("abi/include"), &module)
            .unwrap_or_else(|error| panic!("{error}"));
        module
    };
    let examples = filters.join("examples");
    let built_in = BUILT_IN.iter().map(|name| (*name, rust(filters.join(name))));
    let in_rust = EXAMPLES.iter().map(|name| (*name, rust(examples.join(name))));
    let in_c = EXAMPLES_IN_C.iter().map(|name| (*name, c(examples.join(name))));

    let mut source = String::new();
    embed(&mut source, "BUILT_IN", built_in, &out);
    embed(&mut source, "EXAMPLES", in_rust.chain(in_c), &out);
    fs::write(out.join("modules.rs"), source).expect("cargo's folder can be written to");
}

/// Adds the constant `name`, a list of modules, whose files are copied beside it.
fn embed(
    source: &mut String,
    name: &str,
    modules: impl Iterator<Item = (&'static str, PathBuf)>,
    out: &Path,
) {
    writeln!(source, "/// See the crate's documentation.").expect("a String takes everything");
    writeln!(source, "pub const {name}: &[Module] = &[").expect("a String takes everything");
    for (module, built) in modules {
        let kept = out.join(format!("{module}.embedded.wasm"));
        fs::copy(&built, &kept).expect("cargo's folder can be written to");
        writeln!(source, "    Module {{ name: {module:?}, bytes: include_bytes!({kept:?}) }},")
            .expect("a String takes everything");
    }
    writeln!(source, "];").expect("a String takes everything");
}

/// One folder for all filters, and for every profile of this build: the standard library may have
/// to be compiled along.
fn target_folder(out: &Path) -> PathBuf {
    // OUT_DIR is <target>/<profile>/build/<package>/out
    let target = out.ancestors().nth(4).expect("cargo's folders are this deep");
    target.join("filters")
}
