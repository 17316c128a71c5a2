//! Every target: the name of the program says which one runs.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| casemate_fuzz::run(env!("CARGO_BIN_NAME"), input));
