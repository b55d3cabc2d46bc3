//! libFuzzer's way into [`millrace_fuzz::expression`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| millrace_fuzz::expression::run(input));
