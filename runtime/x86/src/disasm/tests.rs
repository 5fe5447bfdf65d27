//! Spellings, as QEMU's `-d in_asm` shows them.
use super::*;
use crate::decode::{Features, decode};
use crate::insn::CodeSize;

#[track_caller]
fn check(hex: &str, size: CodeSize, pc: u64, att: &str, intel: &str) {
    let bytes: Vec<u8> = (0..hex.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap())
        .collect();
    let insn = decode(&bytes, size, &Features::ALL).unwrap_or_else(|e| panic!("{hex}: {e:?}"));
    assert_eq!(usize::from(insn.len), bytes.len(), "{hex}");
    assert_eq!(format(&insn, pc, Syntax::Att), att, "{hex}");
    assert_eq!(format(&insn, pc, Syntax::Intel), intel, "{hex}");
}

#[test]
fn immediates_are_signed_only_when_extended() {
    check("83f8f0", CodeSize::Bits32, 0, "cmpl     $-0x10, %eax", "cmp      eax, -0x10");
    check("04ff", CodeSize::Bits32, 0, "addb     $0xff, %al", "add      al, 0xff");
    check(
        "81c0ffffffff",
        CodeSize::Bits32,
        0,
        "addl     $0xffffffff, %eax",
        "add      eax, 0xffffffff",
    );
}
