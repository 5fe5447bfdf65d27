//! Segment loads, limits and types, LDT, LAR/LSL/VERR/VERW.

use mem::Size;

use crate::fault::Fault;
use crate::lower::helpers::Helpers;
use crate::mode::Mode;
use crate::testing::{at, descriptor, enter_level, peek4, poke, protected, sel};

#[test]
fn flat_mode_bits() {
    let (mut cpu, _) = protected();
    let flat = Mode::FLAT_CS | Mode::FLAT_SS | Mode::FLAT_DS | Mode::FLAT_ES;
    assert_eq!(cpu.mode(), Mode(Mode::CODE32 | Mode::STACK32 | Mode::PE | flat));
    enter_level(&mut cpu, 3);
    assert_eq!(cpu.mode().cpl(), 3);
}

#[test]
fn data_loads() {
    let (mut cpu, _) = protected();
    for (selector, fault) in [
        (sel::ABSENT, Some(Fault::np(0x40))),
        (sel::EXECUTE_ONLY, Some(Fault::gp(0x58))),
        (sel::TSS, Some(Fault::gp(0x28))),
        (0x1000, Some(Fault::gp(0x1000))),
        (0x0C, Some(Fault::gp(0x0C))),
        (sel::DATA | 3, Some(Fault::gp(0x10))),
        (sel::CODE, None),
        (sel::CONFORMING | 3, None),
        (sel::USER_DATA, None),
        (sel::READ_ONLY, None),
        (0, None),
        (3, None),
    ] {
        let old = cpu.state.seg[3];
        let got = cpu.load_seg(3, u64::from(selector));
        assert_eq!(got.err(), fault, "selector {selector:#x}");
        match fault {
            Some(_) => assert_eq!(cpu.state.seg[3], old),
            None => assert_eq!(cpu.state.seg[3].selector, selector),
        }
    }
    enter_level(&mut cpu, 3);
    assert_eq!(cpu.load_seg(3, u64::from(sel::DATA)), Err(Fault::gp(0x10)));
    assert_eq!(cpu.load_seg(3, u64::from(sel::CONFORMING)), Ok(()));
}

#[test]
fn stack_loads() {
    let (mut cpu, _) = protected();
    for (selector, fault) in [
        (0, Fault::gp(0)),
        (3, Fault::gp(0)),
        (sel::DATA | 1, Fault::gp(0x10)),
        (sel::USER_DATA, Fault::gp(0x20)),
        (sel::READ_ONLY, Fault::gp(0x48)),
        (sel::CODE, Fault::gp(0x08)),
        (sel::ABSENT, Fault::ss(0x40)),
    ] {
        assert_eq!(cpu.load_seg(2, u64::from(selector)), Err(fault), "selector {selector:#x}");
    }
    cpu.load_seg(2, u64::from(sel::DATA16)).unwrap();
    assert_eq!(cpu.state.leave, ir::exit::RESYNC + 1);
    assert!(!cpu.mode().has(Mode::STACK32) && !cpu.mode().has(Mode::FLAT_SS));
}

#[test]
fn loads_set_the_accessed_bit() {
    let (mut cpu, _) = protected();
    poke(&cpu, at::GDT + 0x10, Size::B8, descriptor(0, 0xF_FFFF, 0xC092));
    cpu.load_seg(3, 0x10).unwrap();
    assert_eq!(peek4(&cpu, at::GDT + 0x14) >> 8 & 0xFF, 0x93);
    assert_eq!(cpu.state.seg[3].attr, 0xC093);
}

#[test]
fn types_and_limits_of_accesses() {
    let (mut cpu, _) = protected();
    cpu.load_seg(3, u64::from(sel::READ_ONLY)).unwrap();
    assert_eq!(cpu.store(3, 0x5000, 4, 1), Err(Fault::gp(0)));
    assert_eq!(cpu.load(3, 0x5000, 4), Ok(0));
    assert_eq!((cpu.state.window[3].read_end, cpu.state.window[3].write_end), (1 << 32, 0));
    cpu.load_seg(3, 0).unwrap();
    assert_eq!(cpu.load(3, 0x5000, 1), Err(Fault::gp(0)));
    assert_eq!(cpu.state.window[3].read_end, 0);
    cpu.load_seg(0, u64::from(sel::EXPAND_DOWN)).unwrap();
    assert_eq!(cpu.state.window[0].read_end, 0);
    assert_eq!(cpu.load(0, 0xFFFF, 1), Err(Fault::gp(0)));
    assert_eq!(cpu.load(0, 0x1_0000, 4), Ok(0));
    assert_eq!(cpu.load(0, 0xFFFF_FFFD, 4), Err(Fault::gp(0)));
    cpu.load_seg(5, u64::from(sel::DATA16)).unwrap();
    assert_eq!(cpu.store(5, 0xFFFC, 4, 0x1234_5678), Ok(()));
    assert_eq!(peek4(&cpu, 0x1_FFFC), 0x1234_5678);
    assert_eq!(cpu.store(5, 0xFFFD, 4, 0), Err(Fault::gp(0)));
    cpu.load_seg(2, u64::from(sel::DATA16)).unwrap();
    assert_eq!(cpu.load(2, 0xFFFF, 2), Err(Fault::ss(0)));
    assert_eq!(cpu.store(1, 0x5000, 1, 0), Err(Fault::gp(0)));
}

#[test]
fn local_table() {
    let (mut cpu, _) = protected();
    poke(&cpu, at::LDT + 8, Size::B8, descriptor(0x7000, 0xFF, 0x93));
    assert_eq!(cpu.load_seg(3, 0x0C), Err(Fault::gp(0x0C)));
    assert_eq!(cpu.lldt(u64::from(sel::DATA)), Err(Fault::gp(0x10)));
    assert_eq!(cpu.lldt(0x34), Err(Fault::gp(0x34)));
    cpu.lldt(u64::from(sel::LDT)).unwrap();
    assert_eq!(cpu.sldt(), 0x30);
    cpu.load_seg(3, 0x0C).unwrap();
    assert_eq!((cpu.state.seg[3].base, cpu.state.seg[3].limit), (0x7000, 0xFF));
    assert_eq!(cpu.load_seg(3, 0x44), Err(Fault::gp(0x44)));
    cpu.lldt(0).unwrap();
    assert_eq!(cpu.load_seg(3, 0x0C), Err(Fault::gp(0x0C)));
}

#[test]
fn task_register() {
    let (mut cpu, _) = protected();
    assert_eq!(cpu.ltr(0), Err(Fault::gp(0)));
    assert_eq!(cpu.ltr(u64::from(sel::TSS)), Err(Fault::gp(0x28)));
    assert_eq!(cpu.ltr(0x7C), Err(Fault::gp(0x7C)));
    cpu.ltr(u64::from(sel::TSS2)).unwrap();
    assert_eq!(cpu.str_(), 0x78);
    assert_eq!(cpu.state.tr.attr & 15, 11);
    assert_eq!(peek4(&cpu, at::GDT + 0x7C) >> 8 & 15, 11);
}

#[test]
fn questions() {
    let (mut cpu, _) = protected();
    let valid = 1 << 32;
    assert_eq!(cpu.lar(u64::from(sel::DATA)), Ok(valid | 0xCF_9300));
    assert_eq!(cpu.lar(u64::from(sel::CALL_GATE)), Ok(valid | 0xEC00));
    assert_eq!(cpu.lar(0), Ok(0));
    assert_eq!(cpu.lar(0x800), Ok(0));
    assert_eq!(cpu.lsl(u64::from(sel::DATA)), Ok(valid | 0xFFFF_FFFF));
    assert_eq!(cpu.lsl(u64::from(sel::TSS2)), Ok(valid | 0x67));
    assert_eq!(cpu.lsl(u64::from(sel::CALL_GATE)), Ok(0));
    assert_eq!(cpu.verr(u64::from(sel::READ_ONLY)), Ok(1));
    assert_eq!(cpu.verw(u64::from(sel::READ_ONLY)), Ok(0));
    assert_eq!(cpu.verr(u64::from(sel::EXECUTE_ONLY)), Ok(0));
    assert_eq!(cpu.verw(u64::from(sel::DATA)), Ok(1));
    enter_level(&mut cpu, 3);
    assert_eq!(cpu.verw(u64::from(sel::DATA)), Ok(0));
    assert_eq!(cpu.lar(u64::from(sel::TSS2)), Ok(0));
    assert_eq!(cpu.verr(u64::from(sel::CONFORMING)), Ok(1));
    assert_eq!(cpu.verw(u64::from(sel::USER_READ_ONLY)), Ok(0));
}

#[test]
fn jump_contexts_differ_where_they_must() {
    let (mut cpu, _) = protected();
    let flat = cpu.state.jump_base;
    cpu.far_jmp(u64::from(sel::CODE16), 0, 32, 0).unwrap();
    let other = cpu.state.jump_base;
    assert_ne!(flat, other);
    cpu.far_jmp(u64::from(sel::CODE), 0, 32, 0).unwrap();
    assert_eq!(cpu.state.jump_base, flat);
    cpu.state.pc = 0x1234;
    cpu.enter_jump(0x1234, false, 5, 0);
    assert_eq!(cpu.known_jump(), Some(5));
    cpu.flush_tlb();
    assert_eq!(cpu.known_jump(), None);
}

#[test]
fn dump_describes_segments() {
    let (mut cpu, _) = protected();
    cpu.load_seg(4, u64::from(sel::USER_DATA)).unwrap();
    cpu.lldt(u64::from(sel::LDT)).unwrap();
    let text = cpu.dump();
    for line in [
        "ES =0010 00000000 ffffffff 00cf9300 DPL=0 DS   [-WA]",
        "CS =0008 00000000 ffffffff 00cf9b00 DPL=0 CS32 [-RA]",
        "FS =0023 00000000 ffffffff 00cff300 DPL=3 DS   [-WA]",
        "LDT=0030 00003c00 0000003f 00008200 DPL=0 LDT",
        "TR =0028 00003000 000020ff 00008b00 DPL=0 TSS32-busy",
        "GDT=     00001000 0000009f",
        "CR0=60000011 CR2=00000000 CR3=00000000 CR4=00000000",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
}

#[test]
fn state_hash_sees_every_register() {
    let (mut cpu, _) = protected();
    let first = cpu.state_hash();
    assert_eq!(first, protected().0.state_hash());
    cpu.state.gpr[7] ^= 1;
    let second = cpu.state_hash();
    cpu.state.cc ^= 1;
    assert!(first != second && second != cpu.state_hash());
}
