//! `stamp_fuzz::body` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stamp_fuzz::body(data));
