//! libFuzzer's way into [`millrace_fuzz::path`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| millrace_fuzz::path::run(input));
