//! Virtual-8086 mode: entry, exit, IOPL rules.

use mem::Size;

use crate::cpu::Cpu;
use crate::fault::Fault;
use crate::flags;
use crate::lower::helpers::Helpers;
use crate::mode::Mode;
use crate::testing::{at, enter_vm86, gate, peek4, place, poke, protected, sel, set_gate};

#[test]
fn mode_and_windows() {
    let (mut cpu, _) = protected();
    enter_vm86(&mut cpu, 3);
    let mode = cpu.mode();
    assert!(mode.has(Mode::VM86) && mode.has(Mode::ALL_64K) && mode.cpl() == 3);
    cpu.load_seg(3, 0x2000).unwrap();
    assert_eq!((cpu.state.seg[3].base, cpu.state.seg[3].attr), (0x2_0000, 0xF3));
    assert_eq!(cpu.load(3, 0xFFFF, 2), Err(Fault::gp(0)));
    cpu.far_jmp(0x3000, 0x44, 16, 0).unwrap();
    assert_eq!(place(&cpu), (0x3000, 0x44, 3));
}

#[test]
fn interrupt_leaves_to_level_0_and_iret_returns() {
    let (mut cpu, log) = protected();
    set_gate(&cpu, 0x20, gate(sel::CODE, 0x7000, 0x8E, 0));
    enter_vm86(&mut cpu, 0);
    cpu.state.seg[3].selector = 0x1234;
    log.borrow_mut().irq = Some(0x20);
    assert!(cpu.service());
    assert_eq!(place(&cpu), (0x08, 0x7000, 0));
    let sp = cpu.state.gpr[4];
    assert_eq!(sp, 0x8000 - 36);
    let pushed: Vec<u64> = (0..9).map(|i| peek4(&cpu, sp + 4 * i)).collect();
    assert_eq!(pushed, [0x20, 0x1000, 0x2_0202, 0x100, 0x900, 0x1000, 0x1234, 0x1000, 0x1000]);
    assert!([0, 3, 4, 5].iter().all(|&n| cpu.state.seg[n].attr == 0));
    assert_eq!(cpu.state.eflags(), 2);
    cpu.iret(32, 0).unwrap();
    assert_eq!(place(&cpu), (0x1000, 0x20, 3));
    assert_eq!(cpu.state.seg[3].base, 0x1_2340);
    assert_eq!((cpu.state.seg[2].selector, cpu.state.gpr[4]), (0x900, 0x100));
    assert!(cpu.mode().has(Mode::VM86));
}

#[test]
fn handlers_must_be_at_level_0() {
    let (mut cpu, _) = protected();
    set_gate(&cpu, 0x20, gate(sel::USER_CODE, 0x7000, 0xEE, 0));
    set_gate(&cpu, 0x21, gate(sel::CONFORMING, 0x7000, 0xEE, 0));
    enter_vm86(&mut cpu, 3);
    assert_eq!(cpu.soft_int(0x20, 0x22, 0), Err(Fault::gp(0x18)));
    assert_eq!(cpu.soft_int(0x21, 0x22, 0), Err(Fault::gp(0x38)));
}

#[test]
fn iopl_guards_the_interrupt_flag() {
    let (mut cpu, _) = protected();
    set_gate(&cpu, 0x80, gate(sel::CODE, 0x7000, 0xEE, 0));
    set_gate(&cpu, 3, gate(sel::CODE, 0x7100, 0xEE, 0));
    enter_vm86(&mut cpu, 2);
    assert_eq!(cpu.soft_int(0x80, 0x22, 0), Err(Fault::gp(0)));
    assert_eq!(cpu.popf(0, 16, 16, 0), Err(Fault::gp(0)));
    assert_eq!(cpu.iret(16, 0), Err(Fault::gp(0)));
    cpu.soft_int(3, 0x21, 1).unwrap();
    assert_eq!(place(&cpu), (0x08, 0x7100, 0));
    enter_vm86(&mut cpu, 3);
    cpu.popf(0x0203, 16, 16, 0).unwrap();
    assert_eq!(cpu.state.eflags(), flags::VM | 0x3203);
    cpu.soft_int(0x80, 0x22, 0).unwrap();
    assert_eq!(place(&cpu), (0x08, 0x7000, 0));
}

#[test]
fn iret_stays_inside_with_iopl_3() {
    let (mut cpu, _) = protected();
    enter_vm86(&mut cpu, 3);
    poke(&cpu, 0x9100, Size::B2, 0x55);
    poke(&cpu, 0x9102, Size::B2, 0x2000);
    poke(&cpu, 0x9104, Size::B2, 0x0001);
    cpu.iret(16, 0).unwrap();
    assert_eq!(place(&cpu), (0x2000, 0x55, 3));
    assert_eq!(cpu.state.eflags(), flags::VM | 0x3003);
}

#[test]
fn ports_always_ask_the_map() {
    let (mut cpu, _) = protected();
    enter_vm86(&mut cpu, 3);
    poke(&cpu, crate::testing::at::TSS + 0x66, Size::B2, 0x68);
    assert!(cpu.port_in(0x80, 1).is_ok());
    poke(&cpu, crate::testing::at::TSS + 0x68 + 0x10, Size::B1, 1);
    assert_eq!(cpu.port_in(0x80, 1), Err(Fault::gp(0)));
}

#[test]
fn iret_at_level_3_cannot_enter() {
    let (mut cpu, _) = protected();
    crate::testing::enter_level(&mut cpu, 3);
    poke(&cpu, 0x9000, Size::B4, 0x10);
    poke(&cpu, 0x9004, Size::B4, u64::from(sel::USER_CODE));
    poke(&cpu, 0x9008, Size::B4, u64::from(flags::VM));
    cpu.iret(32, 0).unwrap();
    assert_eq!(place(&cpu), (sel::USER_CODE, 0x10, 3));
    assert!(!cpu.mode().has(Mode::VM86));
}

/// A virtual-8086 program under CR4.VME with IOPL 0; the bitmap is at 68h of the TSS.
fn with_vme() -> Cpu {
    let (mut cpu, _) = protected();
    cpu.write_cr(4, 1).unwrap();
    enter_vm86(&mut cpu, 0);
    cpu.state.tr.limit = 0x87;
    poke(&cpu, at::TSS + 0x66, Size::B2, 0x88);
    for word in 0..8 {
        poke(&cpu, at::TSS + 0x68 + 4 * word, Size::B4, 0);
    }
    cpu.sync_mode();
    assert!(cpu.mode().has(Mode::VIRTUAL));
    cpu
}

#[test]
fn vif_stands_for_if() {
    let mut cpu = with_vme();
    cpu.state.eflags |= flags::IF;
    assert_eq!(cpu.virtual_flags(16), Ok(0x3002));
    cpu.set_vif(1).unwrap();
    assert_eq!(cpu.virtual_flags(16), Ok(0x3202));
    assert_eq!(cpu.virtual_flags(32), Err(Fault::gp(0)));
    cpu.popf(0x41, 16, 16, 0).unwrap();
    assert_eq!(cpu.state.eflags(), flags::VM | flags::IF | 0x43);
    assert_eq!(cpu.popf(0x100, 16, 16, 0), Err(Fault::gp(0)));
    assert_eq!(cpu.popf(0, 32, 32, 0), Err(Fault::gp(0)));
    cpu.state.eflags |= flags::VIP;
    assert_eq!(cpu.set_vif(1), Err(Fault::gp(0)));
    assert_eq!(cpu.popf(0x200, 16, 16, 0), Err(Fault::gp(0)));
    cpu.popf(0, 16, 16, 0).unwrap();
    cpu.set_vif(0).unwrap();
    assert_eq!(cpu.state.eflags(), flags::VM | flags::VIP | flags::IF | 2);
    assert!(!cpu.service());
    set_gate(&cpu, 13, gate(sel::CODE, 0x7100, 0x8E, 0));
    cpu.state.eflags |= flags::VIF;
    assert!(cpu.service());
    assert_eq!(place(&cpu), (0x08, 0x7100, 0));
}

#[test]
fn interrupts_are_redirected() {
    let mut cpu = with_vme();
    set_gate(&cpu, 0x80, gate(sel::CODE, 0x7000, 0xEE, 0));
    poke(&cpu, 4 * 0x80, Size::B4, 0x2000_0055);
    cpu.state.eflags |= flags::VIF | flags::IF;
    cpu.soft_int(0x80, 0x22, 0).unwrap();
    assert_eq!(place(&cpu), (0x2000, 0x55, 3));
    assert_eq!(cpu.state.eflags(), flags::VM | flags::IF | 2);
    let sp = cpu.state.gpr[4];
    let pushed: Vec<u64> = (0..3).map(|i| peek4(&cpu, 0x9000 + sp + 2 * i) & 0xFFFF).collect();
    assert_eq!(pushed, [0x22, 0x1000, 0x3202]);
    cpu.iret(16, 0).unwrap();
    assert_eq!(place(&cpu), (0x1000, 0x22, 3));
    assert_eq!(cpu.state.eflags(), flags::VM | flags::VIF | flags::IF | 2);
    // The bitmap sends it to the IDT, which IOPL guards.
    poke(&cpu, at::TSS + 0x68 + 0x10, Size::B1, 1);
    assert_eq!(cpu.soft_int(0x80, 0x22, 0), Err(Fault::gp(0)));
    cpu.state.eflags |= flags::IOPL;
    cpu.soft_int(0x80, 0x22, 0).unwrap();
    assert_eq!(place(&cpu), (0x08, 0x7000, 0));
}
