//! Any code does the same on the evaluator and as host code.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| stele_tests::fuzz::engines(bytes));
