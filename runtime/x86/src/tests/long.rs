//! IA-32e mode: entering and leaving it, far transfers, gates, segments, fast system calls.

use mem::Size;

use crate::cpu::{Cpu, efer};
use crate::decode::Features;
use crate::fault::{Fault, pf};
use crate::flags;
use crate::front::{BlockInfo, BuildConfig, CodeBytes, Scratch, build};
use crate::lower::Place;
use crate::lower::helpers::Helpers;
use crate::mode::Mode;
use crate::testing::long::{self, long, peek8};
use crate::testing::{at, place, poke, protected, sel};

const HIGH: u64 = 0xFFFF_8000_0000_5000;

#[test]
fn transitions() {
    let (mut cpu, _) = protected();
    cpu.wrmsr(0xC000_0080, 0x100).unwrap();
    assert_eq!(cpu.write_cr(0, 0x8000_0011), Err(Fault::gp(0)), "needs PAE");
    cpu.write_cr(4, 0x20).unwrap();
    cpu.write_cr(3, long::PML4).unwrap();
    let (mut cpu, _) = long();
    assert_eq!(cpu.rdmsr(0xC000_0080), Ok(0x500));
    assert_eq!(cpu.mode().0, Mode::ALWAYS_64);
    assert_eq!(cpu.write_cr(4, 0), Err(Fault::gp(0)));
    assert_eq!(cpu.write_cr(0, 0x11), Err(Fault::gp(0)), "not from 64-bit code");
    assert_eq!(cpu.wrmsr(0xC000_0080, 0), Err(Fault::gp(0)));
    assert_eq!(cpu.wrmsr(0xC000_0080, 0x2100), Err(Fault::gp(0)));
    cpu.far_jmp(u64::from(sel::CODE), 0x4000, 32, 0).unwrap();
    assert!(!cpu.mode().has(Mode::CODE64) && cpu.mode().has(Mode::CODE32));
    cpu.write_cr(0, 0x11).unwrap();
    assert_eq!(cpu.state.efer & efer::LMA, 0);
}

#[test]
fn canonical_addresses() {
    let (mut cpu, _) = long();
    let bad = 0x8000_0000_0000;
    for (n, fault) in [(3, Fault::gp(0)), (0, Fault::gp(0)), (2, Fault::ss(0)), (4, Fault::gp(0))] {
        assert_eq!(cpu.load(n, bad, 1), Err(fault));
        assert_eq!(cpu.load(n, bad - 4, 8), Err(fault));
    }
    assert_eq!(cpu.load(3, 0xFFFF_8000_0000_0008, 8), Ok(0));
    cpu.wrmsr(0xC000_0100, 0xFFFF_8000_0000_1000).unwrap();
    assert_eq!(cpu.load(4, 8, 8), Ok(peek8(&cpu, at::GDT + 8)));
    assert_eq!(cpu.wrmsr(0xC000_0101, bad), Err(Fault::gp(0)));
    assert_eq!(cpu.lgdt(0, bad), Err(Fault::gp(0)));
    assert_eq!(cpu.fetch_phys(bad), Err(Fault::gp(0)));
    assert_eq!(cpu.far_jmp(u64::from(long::CODE64), bad, 64, 0), Err(Fault::gp(0)));
}

#[test]
fn far_transfers() {
    let (mut cpu, _) = long();
    for (selector, code) in [
        (long::BAD64, long::BAD64),
        (sel::CALL_GATE16, sel::CALL_GATE16),
        (sel::TASK_GATE, sel::TASK_GATE),
        (sel::TSS2, sel::TSS2),
        // The gate of protected mode has no second half.
        (sel::CALL_GATE, sel::CALL_GATE),
    ] {
        let refused = Err(Fault::gp(u32::from(code)));
        assert_eq!(cpu.far_jmp(u64::from(selector), 0x4000, 32, 0), refused, "{selector:#x}");
    }
    cpu.far_call(u64::from(long::GATE64), 0, 64, 0x4007).unwrap();
    assert_eq!((place(&cpu), cpu.state.gpr[4]), ((long::CODE64, HIGH, 0), 0x8FF0));
    assert_eq!((peek8(&cpu, 0x8FF0), peek8(&cpu, 0x8FF8)), (0x4007, u64::from(long::CODE64)));
    cpu.far_ret(64, 16).unwrap();
    assert_eq!((place(&cpu), cpu.state.gpr[4]), ((long::CODE64, 0x4007, 0), 0x9010));
    long::enter(&mut cpu, 3);
    cpu.far_call(u64::from(long::GATE64), 0, 64, 0x4007).unwrap();
    assert_eq!((place(&cpu), cpu.state.gpr[4]), ((long::CODE64, HIGH, 0), long::STACK0 - 32));
    assert_eq!((cpu.state.seg[2].selector, cpu.state.seg[2].attr), (0, 0));
    assert_eq!(peek8(&cpu, long::STACK0 - 8), u64::from(long::USER_DATA));
    cpu.far_ret(64, 0).unwrap();
    assert_eq!((place(&cpu), cpu.state.gpr[4]), ((long::USER_CODE64, 0x4007, 3), 0x9000));
}

#[test]
fn compatibility_mode_takes_half_of_a_64_bit_offset() {
    let wide = 0xFFFF_8123_0000_4100;
    let to = (sel::CODE, 0x4100, 0);
    let (mut cpu, _) = long();
    cpu.far_jmp(u64::from(sel::CODE), wide, 64, 0).unwrap();
    assert_eq!(place(&cpu), to);
    let (mut cpu, _) = long();
    cpu.far_call(u64::from(sel::CODE), wide, 64, 0x4007).unwrap();
    assert_eq!(place(&cpu), to);
    for iret in [false, true] {
        let (mut cpu, _) = long();
        cpu.state.gpr[4] = 0x8F00;
        let frame = [wide, sel::CODE.into(), 2, 0x9000, sel::DATA.into()];
        for (slot, value) in (0..).zip(frame) {
            poke(&cpu, 0x8F00 + 8 * slot, Size::B8, value);
        }
        if iret { cpu.iret(64, 0) } else { cpu.far_ret(64, 0) }.unwrap();
        assert_eq!(place(&cpu), to, "{iret}");
    }
}

#[test]
fn interrupts_by_level_and_by_table() {
    let (mut cpu, _) = long();
    long::set_gate(&cpu, 13, long::CODE64, HIGH, 0x8E, 0);
    long::set_gate(&cpu, 8, long::CODE64, HIGH, 0x8F, 1);
    cpu.state.gpr[4] = 0x9007;
    cpu.deliver_fault(Fault::gp(0x18));
    assert_eq!((place(&cpu), cpu.state.gpr[4]), ((long::CODE64, HIGH, 0), 0x9000 - 48));
    let frame: Vec<u64> = (0..6).map(|i| peek8(&cpu, 0x9000 - 48 + 8 * i)).collect();
    assert_eq!(frame, [0x18, 0x4000, u64::from(long::CODE64), 0x1_0002, 0x9007, 0x10]);
    cpu.state.gpr[4] += 8;
    cpu.iret(64, 0).unwrap();
    assert_eq!((place(&cpu), cpu.state.gpr[4]), ((long::CODE64, 0x4000, 0), 0x9007));
    cpu.deliver_fault(Fault::df());
    assert_eq!(cpu.state.gpr[4], (long::IST1 & !15) - 48);
    long::enter(&mut cpu, 3);
    cpu.deliver_fault(Fault::gp(0));
    assert_eq!(cpu.state.gpr[4], (long::STACK0 & !15) - 48);
    assert_eq!(cpu.state.seg[2].selector, 0);
    cpu.state.gpr[4] += 8;
    cpu.iret(64, 0).unwrap();
    assert_eq!((place(&cpu), cpu.state.gpr[4]), ((long::USER_CODE64, HIGH, 3), 0x9000));
}

#[test]
fn bad_gates() {
    let (mut cpu, _) = long();
    long::set_gate(&cpu, 0x40, sel::CODE, 0x5000, 0xEE, 0);
    long::set_gate(&cpu, 0x41, long::CODE64, 0x5000, 0xE5, 0);
    long::set_gate(&cpu, 0x42, long::CODE64, 0x8000_0000_0000, 0xEE, 0);
    long::set_gate(&cpu, 0x43, long::CODE64, 0x5000, 0x6E, 0);
    long::set_gate(&cpu, 0x44, long::CODE64, 0x5000, 0x8E, 0);
    for (n, fault) in [
        (0x40, Fault::gp(u32::from(sel::CODE))),
        (0x41, Fault::gp(0x41 * 8 + 2)),
        (0x42, Fault::gp(0)),
        (0x43, Fault::np(0x43 * 8 + 2)),
    ] {
        assert_eq!(cpu.soft_int(n, 0x4002, 0), Err(fault), "{n:#x}");
    }
    assert_eq!((place(&cpu), cpu.state.gpr[4]), ((long::CODE64, 0x4000, 0), 0x9000));
    long::enter(&mut cpu, 3);
    assert_eq!(cpu.soft_int(0x44, 0x4002, 0), Err(Fault::gp(0x44 * 8 + 2)));
    cpu.state.eflags |= flags::NT;
    assert_eq!(cpu.iret(64, 0), Err(Fault::gp(0)));
    cpu.state.tr.limit = 0xA;
    long::set_gate(&cpu, 0x45, long::CODE64, 0x5000, 0xEE, 0);
    assert_eq!(cpu.soft_int(0x45, 0, 0), Err(Fault::ts(u32::from(long::TSS64))));
}

#[test]
fn interrupt_from_compatibility_mode() {
    let (mut cpu, _) = long();
    long::set_gate(&cpu, 6, long::CODE64, HIGH, 0x8E, 0);
    cpu.far_jmp(u64::from(sel::CODE), 0x4444, 32, 0).unwrap();
    cpu.state.gpr[4] = 0x9003;
    cpu.deliver_fault(Fault::ud());
    assert!(cpu.mode().has(Mode::CODE64));
    assert_eq!((cpu.state.pc, cpu.state.gpr[4]), (HIGH, 0x9000 - 40));
    cpu.iret(64, 0).unwrap();
    assert_eq!((place(&cpu), cpu.state.gpr[4]), ((sel::CODE, 0x4444, 0), 0x9003));
    assert!(cpu.mode().has(Mode::CODE32));
}

#[test]
fn segment_loads() {
    let (mut cpu, _) = long();
    assert_eq!(cpu.load_seg(2, 0), Ok(()));
    assert_eq!(cpu.load_seg(2, 1), Err(Fault::gp(0)));
    assert_eq!(cpu.load(2, 0x9000, 8), Ok(0), "segments do not matter");
    long::enter(&mut cpu, 3);
    assert_eq!(cpu.load_seg(2, 3), Err(Fault::gp(0)));
    assert_eq!(cpu.load_seg(3, u64::from(sel::DATA)), Err(Fault::gp(0x10)));
    long::enter(&mut cpu, 0);
    cpu.ltr(u64::from(long::TSS64)).unwrap();
    assert_eq!((cpu.state.tr.base, cpu.state.tr.attr), (long::TSS, 0x8B));
    assert_eq!(cpu.ltr(u64::from(sel::TSS16)), Err(Fault::gp(u32::from(sel::TSS16))));
    cpu.lldt(u64::from(long::LDT64)).unwrap();
    assert_eq!(cpu.state.ldtr.base, 0xFFFF_8000_FFFF_0000);
    poke(&cpu, at::GDT + u64::from(long::LDT64) + 8, Size::B8, 0x8000);
    assert_eq!(cpu.lldt(u64::from(long::LDT64)), Err(Fault::gp(u32::from(long::LDT64))));
    poke(&cpu, at::GDT + u64::from(long::LDT64) + 8, Size::B8, 0x1_0000_0000_0000 >> 8);
    assert!(cpu.lldt(u64::from(long::LDT64)).is_err());
    assert_eq!(cpu.lar(u64::from(sel::CALL_GATE16)), Ok(0));
    assert_eq!(cpu.lsl(u64::from(long::TSS64)), Ok(1 << 32 | 0x1FF));
    cpu.load_seg(5, u64::from(sel::DATA)).unwrap();
    cpu.wrmsr(0xC000_0101, HIGH).unwrap();
    cpu.load_seg(5, 0).unwrap();
    assert_eq!(cpu.state.window[5].base, 0, "a null load clears the base");
}

#[test]
fn system_calls() {
    let (mut cpu, _) = long();
    long::enter(&mut cpu, 3);
    assert_eq!(cpu.syscall(0), Err(Fault::ud()));
    cpu.wrmsr(0xC000_0080, 0x501).unwrap();
    cpu.wrmsr(0xC000_0081, 0x00A3_0008_0000_0000).unwrap();
    cpu.wrmsr(0xC000_0082, HIGH).unwrap();
    cpu.wrmsr(0xC000_0084, 0x4_0700).unwrap();
    cpu.state.set_eflags(0x4_0703);
    cpu.syscall(0x4002).unwrap();
    assert_eq!(place(&cpu), (8, HIGH, 0));
    assert_eq!((cpu.state.gpr[1], cpu.state.gpr[11]), (0x4002, 0x4_0703));
    assert_eq!((cpu.state.eflags(), cpu.state.seg[2].selector), (3, 0x10));
    cpu.state.gpr[11] = 0xFFFF_FFFF_FFFF_FEFF;
    cpu.sysret(64).unwrap();
    assert_eq!(place(&cpu), (0xB3, 0x4002, 3));
    assert_eq!(cpu.state.eflags(), 0x003C_7ED7);
    assert_eq!(cpu.state.seg[2].selector, 0xAB);
    assert_eq!(cpu.sysret(64), Err(Fault::gp(0)));
    long::enter(&mut cpu, 0);
    cpu.state.gpr[1] = 0x8000_0000_0000;
    assert_eq!(cpu.sysret(64), Err(Fault::gp(0)));
    cpu.sysret(32).unwrap();
    assert_eq!((place(&cpu), cpu.mode().has(Mode::CODE64)), ((0xA3, 0, 3), false));
    assert_eq!(cpu.syscall(0), Err(Fault::ud()), "Intel has none in compatibility mode");
}

/// Runs one insn on the evaluator.
fn evaluate(cpu: &mut Cpu, bytes: &[u8]) {
    let (ip, at) = (cpu.state.pc, (cpu.state.pc & 0xFFF) as u32);
    let place = Place { mode: cpu.mode(), ip, page_off: at, cs_limit: u32::MAX };
    let config = BuildConfig { features: Features::ALL, max_insns: 1, counted: false };
    let (mut block, mut info) = (ir::Block::default(), BlockInfo::default());
    let code = CodeBytes { page: bytes, next: None };
    build(&code, place, &config, &mut Scratch::default(), &mut block, &mut info).unwrap();
    cpu.state.pc_base = ip - u64::from(at);
    match ir::run(&block, cpu, &mut ir::Scratch::new()) {
        ir::End::GotoPtr(pc) => cpu.state.pc = pc,
        ir::End::GotoTb { page_off, .. } => cpu.state.pc = cpu.state.pc_base + u64::from(page_off),
        ir::End::Exit { .. } => {}
        ir::End::Stop(fault) => panic!("{fault:?}"),
    }
}

#[test]
fn fast_calls_inline_do_what_the_helpers_do() {
    let (mut cpu, _) = long();
    long::enter(&mut cpu, 3);
    cpu.wrmsr(0xC000_0080, 0x501).unwrap();
    cpu.wrmsr(0xC000_0081, 0x00A3_0008_0000_0000).unwrap();
    cpu.wrmsr(0xC000_0082, HIGH).unwrap();
    cpu.wrmsr(0xC000_0084, 0x4_0700).unwrap();
    assert_eq!((cpu.state.to_system.ctx, cpu.state.to_user.ctx), (0, 0));
    let registers = cpu.state.gpr;
    let (mut helped, mut tables) = (Vec::new(), Vec::new());
    for is_inline in [false, true] {
        // The first round goes by the helpers, because nothing is known yet; the second by what they noted.
        cpu.state.gpr = registers;
        cpu.state.set_eflags(0x20_0603);
        cpu.state.pc = 0x4000;
        assert_eq!(cpu.state.to_system.ctx != 0, is_inline);
        evaluate(&mut cpu, &[0x0F, 0x05]);
        assert_eq!(place(&cpu), (8, HIGH, 0));
        let called = (cpu.save_state(), cpu.state.jump_base, cpu.state.tlb_base);
        assert!(!cpu.sync_mode(), "nothing is left to be derived");
        assert_eq!((called.1, called.2), (cpu.state.jump_base, cpu.state.tlb_base));
        evaluate(&mut cpu, &[0x48, 0x0F, 0x07]);
        let returned = (cpu.save_state(), cpu.state.jump_base, cpu.state.tlb_base);
        assert!(!cpu.sync_mode());
        assert_eq!((returned.1, returned.2), (cpu.state.jump_base, cpu.state.tlb_base));
        helped.push((called.0, returned.0));
        tables.push((called.1, returned.1));
    }
    assert_eq!(helped[0], helped[1]);
    assert_eq!(tables[0], tables[1]);
    cpu.flush_tlb();
    assert_eq!((cpu.state.to_system.ctx, cpu.state.to_user.ctx), (0, 0));
    cpu.sync_mode();
    assert_ne!(cpu.state.to_user.ctx, 0);
    cpu.wrmsr(0xC000_0081, 0).unwrap();
    assert_eq!(cpu.state.to_user.ctx, 0);
}

#[test]
fn sysenter_and_sysexit() {
    let (mut cpu, _) = long();
    assert_eq!(cpu.sysenter(), Err(Fault::gp(0)));
    cpu.wrmsr(0x174, 0x08).unwrap();
    cpu.wrmsr(0x175, HIGH).unwrap();
    cpu.wrmsr(0x176, HIGH + 8).unwrap();
    cpu.sysenter().unwrap();
    assert_eq!((place(&cpu), cpu.state.gpr[4]), ((8, HIGH + 8, 0), HIGH));
    (cpu.state.gpr[1], cpu.state.gpr[2]) = (0x9000, 0x1_2345_6789);
    cpu.sysexit(64).unwrap();
    assert_eq!((place(&cpu), cpu.state.gpr[4]), ((0x2B, 0x1_2345_6789, 3), 0x9000));
    assert_eq!(cpu.sysexit(64), Err(Fault::gp(0)));
}

#[test]
fn no_execute_and_reserved_bits() {
    let (mut cpu, _) = long();
    poke(&cpu, long::PT + 8 * 5, Size::B8, 1 << 63 | 0x5007);
    let fetch = pf::PRESENT | pf::RESERVED;
    assert_eq!(cpu.fetch_phys(0x5008), Err(Fault::pf(0x5008, fetch)));
    cpu.wrmsr(0xC000_0080, 0x900).unwrap();
    assert_eq!(cpu.fetch_phys(0x5008), Err(Fault::pf(0x5008, pf::PRESENT | pf::FETCH)));
    assert_eq!(cpu.load(3, 0x5008, 8), Ok(0));
    assert_eq!(cpu.fetch_phys(0x5008), Err(Fault::pf(0x5008, pf::PRESENT | pf::FETCH)));
    assert!(cpu.fetch_phys(0x4008).is_ok());
    poke(&cpu, long::PT + 8 * 6, Size::B8, 1 << 45 | 0x6007);
    assert_eq!(cpu.load(3, 0x6000, 1), Err(Fault::pf(0x6000, 9)));
    poke(&cpu, long::PML4 + 8, Size::B8, 0x20_1087);
    assert_eq!(cpu.load(3, 1 << 39, 1), Err(Fault::pf(1 << 39, 9)));
    poke(&cpu, long::PDPT + 8, Size::B8, 0x83);
    assert_eq!(cpu.load(3, 0x4000_4000, 1), Ok(0));
    poke(&cpu, long::PDPT + 16, Size::B8, 0x2083);
    assert_eq!(cpu.load(3, 0x8000_0000, 1), Err(Fault::pf(0x8000_0000, 9)));
}

#[test]
fn supervisor_mode_protection() {
    let (mut cpu, _) = long();
    poke(&cpu, long::PT + 8 * 4, Size::B8, 0x4003);
    cpu.write_cr(4, 0x20 | 1 << 20).unwrap();
    assert_eq!(cpu.fetch_phys(0x5000), Err(Fault::pf(0x5000, 0x11)));
    assert!(cpu.fetch_phys(0x4000).is_ok());
    assert_eq!(cpu.load(3, 0x5000, 8), Ok(0));
    cpu.write_cr(4, 0x20 | 1 << 21).unwrap();
    assert_eq!(cpu.load(3, 0x5000, 8), Err(Fault::pf(0x5000, 1)));
    assert_eq!(cpu.load_seg(3, u64::from(sel::DATA)), Err(Fault::pf(at::GDT + 0x10, 1)));
    cpu.state.eflags |= flags::AC;
    assert_eq!(cpu.load(3, 0x5000, 8), Ok(0));
    assert!(cpu.load_seg(3, u64::from(sel::DATA)).is_err(), "tables are read without AC");
    cpu.state.eflags &= !flags::AC;
    assert_eq!(cpu.load(3, 0x5000, 8), Err(Fault::pf(0x5000, 1)));
    assert!(cpu.fetch_phys(0x5000).is_ok());
    long::enter(&mut cpu, 3);
    assert_eq!(cpu.load(3, 0x5000, 8), Ok(0));
}

#[test]
fn context_identifiers() {
    let (mut cpu, _) = long();
    cpu.write_cr(4, 0x2_0020).unwrap();
    cpu.write_cr(3, 1 << 63 | long::PML4 | 5).unwrap();
    assert_eq!(cpu.read_cr(3), Ok(long::PML4 | 5));
    assert_eq!(cpu.load(3, 0x5000, 1), Ok(0));
    poke(&cpu, long::PT + 8 * 5, Size::B8, 0);
    assert_eq!(cpu.load(3, 0x5000, 1), Ok(0), "still in the TLB");
    poke(&cpu, 0x7000, Size::B8, 5);
    poke(&cpu, 0x7008, Size::B8, 0x5000);
    cpu.invpcid(0, 3, 0x7000).unwrap();
    assert!(cpu.load(3, 0x5000, 1).is_err());
    assert_eq!(cpu.invpcid(4, 3, 0x7000), Err(Fault::gp(0)));
    poke(&cpu, 0x7000, Size::B8, 0x1000);
    for kind in 0..4 {
        assert_eq!(
            cpu.invpcid(kind, 3, 0x7000),
            Err(Fault::gp(0)),
            "bit 12 is reserved, kind {kind}"
        );
    }
    assert_eq!(cpu.write_cr(3, 1 << 52), Err(Fault::gp(0)));
    assert_eq!(cpu.write_cr(0, 0x11), Err(Fault::gp(0)));
    cpu.write_cr(3, long::PML4 | 5).unwrap();
    cpu.write_cr(4, 0x20).unwrap();
    assert_eq!(cpu.write_cr(4, 0x2_0020), Err(Fault::gp(0)), "CR3 names another than 0");
}

#[test]
fn selectors_of_null_and_unmapped_tables() {
    let (mut cpu, _) = long();
    cpu.state.gdtr.base = 0x7FFF_FFFF_FFF8;
    assert_eq!(cpu.load_seg(3, 8), Err(Fault::gp(0)), "not canonical");
    cpu.state.gdtr.base = 0x60_0000;
    assert_eq!(cpu.load_seg(3, 8), Err(Fault::pf(0x60_0008, 0)));
}
