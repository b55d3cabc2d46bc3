//! Compiles BPF programs with clang: a part of the build scripts of all crates that have some.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Compiles `source`, a path in the crate, to an object of this name in `OUT_DIR`, again whenever
/// a file beside it changes.
pub(crate) fn compile(source: &str, object: &str) {
    let folder = Path::new(source).parent().expect("the source is in a folder of its own");
    println!("cargo::rerun-if-changed={}", folder.display());
    println!("cargo::rerun-if-env-changed=CLANG");

    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let object = out.join(object);
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    let target = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets the target");
    let output = Command::new(&clang)
        .args(["-O2", "-g", "-Wall", "-Werror", "-target", "bpf", "-c", source, "-o"])
        .arg(&object)
        // where Debian and Ubuntu keep the kernel's `asm/` headers
        .arg(format!("-I/usr/include/{target}-linux-gnu"))
        // no path of the build machine in the object
        .arg(format!("-ffile-prefix-map={}/=", folder.display()))
        .output()
        .unwrap_or_else(|error| {
            panic!("`{clang}` cannot be run ({error}); install clang, or name it in CLANG")
        });
    assert!(
        output.status.success(),
        "{clang} could not compile {source}; it needs the headers of libbpf (libbpf-dev) and the \
         kernel (linux-libc-dev):\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(fs::metadata(object).is_ok_and(|object| object.len() > 0));
}
