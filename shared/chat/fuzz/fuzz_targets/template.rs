#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| defrost_chat::fuzzing::template(input));
