//! Virtual-8086 mode: entry, exit, IOPL rules.

use mem::Size;

use crate::fault::Fault;
use crate::flags;
use crate::lower::helpers::Helpers;
use crate::mode::Mode;
use crate::testing::{enter_vm86, gate, peek4, place, poke, protected, sel, set_gate};

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
    assert_eq!(cpu.popf(0, 16), Err(Fault::gp(0)));
    assert_eq!(cpu.iret(16, 0), Err(Fault::gp(0)));
    cpu.soft_int(3, 0x21, 1).unwrap();
    assert_eq!(place(&cpu), (0x08, 0x7100, 0));
    enter_vm86(&mut cpu, 3);
    cpu.popf(0x0203, 16).unwrap();
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
