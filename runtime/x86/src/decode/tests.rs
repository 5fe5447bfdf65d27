//! Rules of the decoder that no table row can state; which bytes are instructions is compared with iced-x86 in
//! `tests/tests/decode_iced.rs`.
use super::*;
use crate::insn::CodeSize::{Bits16, Bits32, Bits64};

fn one(bytes: &[u8], size: CodeSize) -> Result<Insn, DecodeError> {
    decode(bytes, size, &Features::ALL)
}

fn undefined(bytes: &[u8], size: CodeSize) -> bool {
    matches!(one(bytes, size), Err(DecodeError::Undefined { .. }))
}

#[test]
fn a_short_slice_is_truncated_and_a_long_one_too_long() {
    assert_eq!(one(&[], Bits32), Err(DecodeError::Truncated));
    assert_eq!(one(&[0x66; 14], Bits32), Err(DecodeError::Truncated));
    for len in [15, 16, 39, 40, 100] {
        assert_eq!(one(&vec![0x66; len], Bits32), Err(DecodeError::TooLong), "{len}");
    }
    // Every cut of an instruction is truncated, whatever follows in memory.
    let bytes = [0x2E, 0x66, 0xC7, 0x84, 0x88, 1, 2, 3, 4, 5, 6];
    assert_eq!(one(&bytes, Bits32).unwrap().len, 11);
    for len in 0..bytes.len() {
        assert_eq!(one(&bytes[..len], Bits32), Err(DecodeError::Truncated), "{len}");
    }
}

#[test]
fn fifteen_bytes_are_legal_and_sixteen_are_not() {
    let mut bytes = [0x2E; 20];
    bytes[8..16].copy_from_slice(&[0xC7, 0x80, 0, 0, 0, 0, 1, 0]);
    assert_eq!(one(&bytes, Bits32), Err(DecodeError::TooLong)); // 18 bytes
    bytes[5..15].copy_from_slice(&[0xC7, 0x80, 0, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(one(&bytes, Bits32).unwrap().len, 15);
    assert_eq!(one(&bytes[..14], Bits32), Err(DecodeError::Truncated));
}

#[test]
fn the_last_prefix_of_a_group_wins() {
    let insn = one(&[0x2E, 0x65, 0xF2, 0xF3, 0xA4], Bits32).unwrap();
    assert_eq!(insn.prefixes, prefix::SEG | prefix::REP);
    assert_eq!((insn.seg, insn.len), (5, 5));
}

#[test]
fn lock_needs_a_memory_destination() {
    assert!(one(&[0xF0, 0x01, 0x00], Bits32).is_ok());
    assert!(undefined(&[0xF0, 0x01, 0xC0], Bits32), "register form");
    assert!(undefined(&[0xF0, 0x39, 0x00], Bits32), "CMP writes nothing");
    assert!(undefined(&[0xF0, 0x90], Bits32), "no ModRM");
}

#[test]
fn registers_that_do_not_exist_are_undefined() {
    for (reg, exists) in
        [(0, true), (1, false), (2, true), (3, true), (4, true), (5, false), (7, false)]
    {
        assert_eq!(!undefined(&[0x0F, 0x20, 0xC0 | reg << 3], Bits32), exists, "CR{reg}");
    }
    for (reg, loads, stores) in
        [(0, true, true), (1, false, true), (5, true, true), (6, false, false)]
    {
        assert_eq!(!undefined(&[0x8E, 0xC0 | reg << 3], Bits32), loads, "mov seg{reg}, ax");
        assert_eq!(!undefined(&[0x8C, 0xC0 | reg << 3], Bits32), stores, "mov ax, seg{reg}");
    }
}

#[test]
fn control_register_moves_ignore_mod() {
    let insn = one(&[0x0F, 0x22, 0x05, 1, 2, 3, 4], Bits32).unwrap();
    assert_eq!((insn.len, insn.operand(1)), (3, Operand::Reg { num: 5, bits: 32 }));
}

#[test]
fn an_older_processor_lacks_newer_rows() {
    let cmov = [0x0F, 0x44, 0xC1];
    assert!(decode(&cmov, Bits32, &Features::named(Level::P6, &["TSC", "CMOV"])).is_ok());
    assert!(decode(&cmov, Bits32, &Features::named(Level::P6, &["TSC"])).is_err());
    let error = decode(&cmov, Bits32, &Features::plain(Level::P5));
    assert_eq!(error, Err(DecodeError::Undefined { len: 2 }));
    assert!(decode(&[0x0F, 0xC8], Bits32, &Features::plain(Level::I386)).is_err(), "BSWAP");
    assert!(decode(&[0x60], Bits16, &Features::plain(Level::I8086)).is_err(), "PUSHA");
    assert!(decode(&[0x01, 0xC0], Bits16, &Features::plain(Level::I8086)).is_ok(), "ADD");
}

#[test]
fn makers_differ_on_pause_with_rex_b() {
    let mnemonic = |bytes: &[u8], maker| {
        let features = Features { maker, ..Features::ALL };
        decode(bytes, Bits64, &features).unwrap().info().mnemonic
    };
    for (bytes, of_intel, of_amd) in [
        (&[0xF3, 0x90][..], "pause", "pause"),
        (&[0xF3, 0x41, 0x90], "pause", "xchg"),
        (&[0xF3, 0x42, 0x90], "pause", "pause"),
        (&[0xF2, 0x41, 0x90], "xchg", "xchg"),
    ] {
        assert_eq!(mnemonic(bytes, Maker::Intel), of_intel, "{bytes:x?}");
        assert_eq!(mnemonic(bytes, Maker::Amd), of_amd, "{bytes:x?}");
    }
}

#[test]
fn operands_follow_the_address_forms() {
    let memory = |bytes: &[u8], size| match one(bytes, size).unwrap().operand(0) {
        Operand::Mem(m) => m,
        other => panic!("{other:?}"),
    };
    let m = memory(&[0x89, 0x44, 0xA5, 0xFC], Bits32); // mov [ebp + eiz*4 - 4], eax
    assert_eq!((m.seg, m.base, m.index, m.disp, m.bits), (2, Some(5), None, -4, 32));
    let m = memory(&[0x88, 0x04, 0x6D, 0, 0, 0, 0x80], Bits32); // mov [ebp*2 + disp], al
    assert_eq!((m.seg, m.base, m.index, m.scale), (3, None, Some(5), 1));
    assert_eq!((m.disp, m.bits), (-0x8000_0000, 8));
    let m = memory(&[0x89, 0x06, 0x00, 0xF0], Bits16); // mov [0xf000], ax
    assert_eq!((m.seg, m.base, m.disp, m.asz), (3, None, -0x1000, 16));
    let m = memory(&[0x89, 0x46, 0x00], Bits16); // mov [bp], ax
    assert_eq!((m.seg, m.base, m.index), (2, Some(5), None));
    let m = memory(&[0xA3, 0x00, 0xF0], Bits16); // mov [0xf000], ax by moffs
    assert_eq!((m.seg, m.base, m.disp), (3, None, 0xF000));
    let insn = one(&[0x88, 0xE3], Bits32).unwrap(); // mov bl, ah
    assert_eq!(insn.operand(0), Operand::Reg { num: 3, bits: 8 });
    assert_eq!(insn.operand(1), Operand::High { num: 0 });
}

#[test]
fn two_immediates_bind_in_order() {
    let insn = one(&[0xC8, 0x34, 0x12, 0x85], Bits32).unwrap();
    assert_eq!(insn.operand(0), Operand::Imm { value: 0x1234, bits: 16 });
    assert_eq!(insn.operand(1), Operand::Imm { value: 0x85, bits: 8 });
    let insn = one(&[0xEA, 0x5B, 0xE0, 0x00, 0xF0], Bits16).unwrap();
    assert_eq!(insn.operand(0), Operand::Far { sel: 0xF000, off: 0xE05B });
}

#[test]
fn sixty_four_bit_rules_hold() {
    let insn = one(&[0x48, 0x01, 0xD8], Bits64).unwrap();
    assert_eq!((insn.osz, insn.operand(0)), (64, Operand::Reg { num: 0, bits: 64 }));
    let insn = one(&[0x45, 0x88, 0xE0], Bits64).unwrap(); // mov r8b, r12b
    assert_eq!(insn.operand(1), Operand::Reg { num: 12, bits: 8 });
    let insn = one(&[0x40, 0x66, 0x01, 0xD8], Bits64).unwrap(); // a REX byte before a prefix is lost
    assert_eq!((insn.osz, insn.rex), (16, 0));
    let insn = one(&[0x8B, 0x05, 1, 0, 0, 0], Bits64).unwrap();
    assert!(matches!(insn.operand(1), Operand::Mem(m) if m.rip && m.asz == 64));
    assert!(undefined(&[0x60], Bits64), "PUSHA");
    assert_eq!(one(&[0x2E, 0x8B, 0x00], Bits64).unwrap().prefixes & prefix::SEG, 0);
}

#[test]
fn vex_prefixes_are_taken_apart() {
    // vpaddb xmm9, xmm10, [r12 + r13]
    let found = one(&[0xC4, 0x01, 0x29, 0xFC, 0x0C, 0x2C], Bits64).unwrap();
    assert_eq!((found.vl, found.vvvv, found.rex, found.modrm_reg()), (1, 10, 0x47, 9));
    assert_eq!(found.operand(0), Operand::Vec { num: 9, bits: 128 });
    assert_eq!(found.operand(1), Operand::Vec { num: 10, bits: 128 });
    // vpaddb ymm1, ymm2, ymm0
    let found = one(&[0xC5, 0xED, 0xFC, 0xC8], Bits32).unwrap();
    assert_eq!(found.operand(2), Operand::Vec { num: 0, bits: 256 });
    // 32-bit code: without 11 on top it is LDS
    assert_eq!(one(&[0xC5, 0x00], Bits32).unwrap().vl, 0);
}

#[test]
fn prefixes_that_vex_stands_for_are_undefined_before_it() {
    for prefix in [0x66, 0xF2, 0xF3, 0xF0, 0x48] {
        assert!(undefined(&[prefix, 0xC5, 0xED, 0xFC, 0xC8], Bits64), "{prefix:#x}");
    }
    // vvvv where no operand uses it (vpabsb xmm1, xmm0), map 0, L = 1 for a 128-bit row (vmovd)
    assert!(undefined(&[0xC4, 0xE2, 0x71, 0x1C, 0xC8], Bits64));
    assert!(undefined(&[0xC4, 0xE0, 0x79, 0x1C, 0xC8], Bits64));
    assert!(undefined(&[0xC5, 0xFD, 0x6E, 0xC0], Bits64));
    assert!(!undefined(&[0xC4, 0xE2, 0x79, 0x1C, 0xC8], Bits64));
}

#[test]
fn gathers_ask_for_an_index_and_distinct_registers() {
    // vpgatherdd xmm1, [rax + xmm2], xmm3; then without SIB, and with equal registers
    let found = one(&[0xC4, 0xE2, 0x61, 0x90, 0x0C, 0x10], Bits64).unwrap();
    let Operand::Mem(m) = found.operand(1) else { panic!("{found:?}") };
    assert_eq!((m.base, m.index, m.vector_index), (Some(0), None, Some(2)));
    assert!(undefined(&[0xC4, 0xE2, 0x61, 0x90, 0x08], Bits64));
    assert!(undefined(&[0xC4, 0xE2, 0x61, 0x90, 0x0C, 0x18], Bits64));
    assert!(undefined(&[0xC4, 0xE2, 0x61, 0x90, 0x1C, 0x10], Bits64));
}
