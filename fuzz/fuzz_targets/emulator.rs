//! `stamp_fuzz::emulator` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stamp_fuzz::emulator(data));
