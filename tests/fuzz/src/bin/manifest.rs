//! libFuzzer's way into [`millrace_fuzz::manifest`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| millrace_fuzz::manifest::run(input));
