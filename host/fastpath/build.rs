//! Compiles the BPF programs: the flow cache, and what its tests put at its edges.

#[path = "../bpf.rs"]
mod bpf;

fn main() {
    bpf::compile("bpf/flow_cache.bpf.c", "flow_cache.bpf.o");
    bpf::compile("tests/bpf/edges.bpf.c", "edges.bpf.o");
}
