//! `stamp_fuzz::amqp_receiver` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stamp_fuzz::amqp_receiver(data));
