#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| defrost_pack::fuzzing::gguf_model(input));
