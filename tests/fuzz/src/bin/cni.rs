//! libFuzzer's way into [`millrace_fuzz::cni`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| millrace_fuzz::cni::run(input));
