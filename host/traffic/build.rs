//! Compiles the BPF program.

#[path = "../bpf.rs"]
mod bpf;

fn main() {
    bpf::compile("bpf/sink.bpf.c", "sink.bpf.o");
}
