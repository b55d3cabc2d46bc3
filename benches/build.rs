//! Notes which compiler this is, and compiles the BPF program.

#[path = "../host/bpf.rs"]
mod bpf;

use std::env;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    note_compiler();
    bpf::compile("bpf/redirect.bpf.c", "redirect.bpf.o");
}

fn note_compiler() {
    let rustc = env::var_os("RUSTC").expect("cargo sets RUSTC");
    let output = Command::new(rustc).arg("--version").output().expect("the compiler can be run");
    let version = String::from_utf8_lossy(&output.stdout);
    println!("cargo::rustc-env=MILLRACE_RUSTC={}", version.trim());
}
