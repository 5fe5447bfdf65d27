//! Any bytes decode, print and lower without a panic, and mean the same whatever follows them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| stele_tests::fuzz::decoder(bytes));
