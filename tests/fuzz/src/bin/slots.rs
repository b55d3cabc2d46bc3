//! libFuzzer's way into [`millrace_fuzz::slots`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| millrace_fuzz::slots::run(input));
