//! libFuzzer's way into [`millrace_fuzz::wire`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| millrace_fuzz::wire::run(input));
