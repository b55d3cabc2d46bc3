//! libFuzzer's way into [`millrace_fuzz::tables`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| millrace_fuzz::tables::run(input));
