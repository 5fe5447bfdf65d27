//! Any instruction of the tables does on our engines what it does on the host.
#![no_main]

use std::cell::RefCell;
use std::path::Path;

use stele_tests::fuzz::HostCheck;

thread_local! {
    static CHECK: RefCell<HostCheck> = RefCell::new({
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../isa-spec/x86");
        let isa = isa_spec::load(&folder).unwrap_or_else(|errors| panic!("{errors}"));
        HostCheck::new(isa).unwrap_or_else(|error| panic!("{error}"))
    });
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| CHECK.with(|check| check.borrow_mut().check(bytes)));
