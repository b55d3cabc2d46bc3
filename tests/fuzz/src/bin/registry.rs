//! libFuzzer's way into [`millrace_fuzz::registry`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| millrace_fuzz::registry::run(input));
