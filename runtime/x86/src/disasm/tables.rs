//! Mnemonic templates, generated from `isa-spec/x86`.

codegen::disasm!();
