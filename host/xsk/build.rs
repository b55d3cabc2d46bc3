//! Compiles the BPF program.

#[path = "../bpf.rs"]
mod bpf;

fn main() {
    bpf::compile("bpf/direct.bpf.c", "direct.bpf.o");
}
