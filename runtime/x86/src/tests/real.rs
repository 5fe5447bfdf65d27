//! Reset state and real mode.

use mem::Size;

use crate::fault::Fault;
use crate::flags;
use crate::lower::helpers::Helpers;
use crate::mode::Mode;
use crate::testing::{cpu, machine, peek2, place, poke};

#[test]
fn reset_state() {
    let cpu = cpu();
    let s = &cpu.state;
    assert_eq!((s.cr0, s.pc, s.eflags()), (0x6000_0010, 0xFFF0, 2));
    assert_eq!((s.seg[1].selector, s.seg[1].base, s.seg[1].limit), (0xF000, 0xFFFF_0000, 0xFFFF));
    assert_eq!((s.gpr[2], s.dr[6], s.dr[7]), (0x506E3, 0xFFFF_0FF0, 0x400));
    assert_eq!(cpu.mode(), Mode(Mode::ALL_64K));
    assert_eq!(cpu.lin_pc(s.pc).0, 0xFFFF_FFF0);
    assert!(cpu.dump().contains("EIP=0000fff0 EFL=00000002 [-------] CPL=0"));
}

#[test]
fn far_jump_sets_base_and_offset() {
    let mut cpu = cpu();
    cpu.far_jmp(0xF000, 0x1_E05B, 16, 0).unwrap();
    assert_eq!(place(&cpu), (0xF000, 0xE05B, 0));
    assert_eq!(cpu.state.seg[1].base, 0xF_0000);
    assert_eq!(cpu.far_jmp(0, 0x1_0000, 32, 0), Err(Fault::gp(0)));
    assert_eq!(place(&cpu), (0xF000, 0xE05B, 0));
}

#[test]
fn call_and_return() {
    let mut cpu = cpu();
    cpu.far_jmp(0x100, 0x10, 16, 0).unwrap();
    cpu.load_seg(2, 0x200).unwrap();
    cpu.state.gpr[4] = 0xFFFF_0100;
    cpu.far_call(0x300, 0x44, 16, 0x15).unwrap();
    assert_eq!(place(&cpu), (0x300, 0x44, 0));
    assert_eq!(cpu.state.gpr[4], 0xFFFF_00FC);
    assert_eq!((peek2(&cpu, 0x20FC), peek2(&cpu, 0x20FE)), (0x15, 0x100));
    cpu.far_ret(16, 6).unwrap();
    assert_eq!(place(&cpu), (0x100, 0x15, 0));
    assert_eq!(cpu.state.gpr[4], 0xFFFF_0106);
}

#[test]
fn stack_wraps_between_slots_but_not_inside() {
    let mut cpu = cpu();
    cpu.load_seg(2, 0x1000).unwrap();
    cpu.state.gpr[4] = 0;
    cpu.far_call(0x300, 0, 16, 0x15).unwrap();
    assert_eq!(peek2(&cpu, 0x1_FFFC), 0x15);
    cpu.state.gpr[4] = 1;
    assert_eq!(cpu.far_call(0x300, 0, 16, 0x15), Err(Fault::ss(0)));
    assert_eq!(cpu.state.gpr[4], 1);
}

#[test]
fn interrupt_and_iret() {
    let mut cpu = cpu();
    poke(&cpu, 0x21 * 4, Size::B4, 0x0050_1234);
    cpu.far_jmp(0x100, 0x10, 16, 0).unwrap();
    cpu.load_seg(2, 0x200).unwrap();
    cpu.state.gpr[4] = 0x100;
    cpu.state.set_eflags(flags::IF | flags::TF | flags::CF | flags::DF | flags::AC);
    cpu.soft_int(0x21, 0x12, 0).unwrap();
    assert_eq!(place(&cpu), (0x50, 0x1234, 0));
    assert_eq!(cpu.state.eflags(), flags::CF | flags::DF | 2);
    assert_eq!(
        [peek2(&cpu, 0x20FA), peek2(&cpu, 0x20FC), peek2(&cpu, 0x20FE)],
        [0x12, 0x100, 0x703]
    );
    cpu.state.set_eflags(0);
    cpu.iret(16, 0).unwrap();
    assert_eq!(place(&cpu), (0x100, 0x12, 0));
    assert_eq!(cpu.state.eflags(), 0x703);
    assert_eq!(cpu.state.gpr[4], 0x100);
}

#[test]
fn exceptions_push_no_error_code() {
    let mut cpu = cpu();
    poke(&cpu, 13 * 4, Size::B4, 0x0040_0200);
    cpu.far_jmp(0x100, 0x10, 16, 0).unwrap();
    cpu.state.gpr[4] = 0x100;
    cpu.deliver_fault(Fault::gp(0));
    assert_eq!(place(&cpu), (0x40, 0x200, 0));
    assert_eq!(cpu.state.gpr[4], 0xFA);
    assert_eq!(peek2(&cpu, 0xFA), 0x10);
}

#[test]
fn short_idt_ends_in_shutdown() {
    let mut cpu = cpu();
    cpu.lidt(0, 0).unwrap();
    cpu.deliver_fault(Fault::ud());
    assert!(cpu.shutdown);
}

#[test]
fn external_interrupts_wait_for_if_and_shadow() {
    let (mut cpu, log) = machine();
    poke(&cpu, 8 * 4, Size::B4, 0x0040_0300);
    cpu.state.gpr[4] = 0x100;
    cpu.state.halted = 1;
    log.borrow_mut().irq = Some(8);
    assert!(!cpu.service());
    cpu.sti(0);
    assert!(!cpu.service());
    assert!(cpu.take_shadow());
    assert!(cpu.service());
    assert_eq!(place(&cpu), (0x40, 0x300, 0));
    assert_eq!(cpu.state.halted, 0);
    assert_eq!(log.borrow().irq, None);
}

#[test]
fn nmi_is_held_until_iret() {
    let (mut cpu, log) = machine();
    poke(&cpu, 2 * 4, Size::B4, 0x0040_0300);
    cpu.state.gpr[4] = 0x100;
    log.borrow_mut().nmi = true;
    assert!(cpu.service());
    log.borrow_mut().nmi = true;
    assert!(!cpu.service());
    cpu.iret(16, 0).unwrap();
    assert!(cpu.service());
}

#[test]
fn loads_keep_big_limits() {
    let mut cpu = cpu();
    cpu.state.seg[3].limit = u32::MAX;
    cpu.load_seg(3, 0x10).unwrap();
    assert_eq!(cpu.state.window[3].read_end, 1 << 32);
    assert_eq!(cpu.load(3, 0x20_0000, 4), Ok(0));
    assert_eq!(cpu.load(0, 0x1_0000, 1), Err(Fault::gp(0)));
    assert!(!cpu.mode().has(Mode::ALL_64K));
}

#[test]
fn frames() {
    let mut cpu = cpu();
    cpu.state.gpr[..8].copy_from_slice(&[1, 2, 3, 4, 0x100, 6, 7, 8]);
    cpu.pusha(16).unwrap();
    assert_eq!(cpu.state.gpr[4], 0xF0);
    assert_eq!((peek2(&cpu, 0xF6), peek2(&cpu, 0xFE)), (0x100, 1));
    cpu.state.gpr[..4].fill(0xAAAA_AAAA);
    cpu.popa(16).unwrap();
    assert_eq!(
        cpu.state.gpr[..8],
        [0xAAAA_0001, 0xAAAA_0002, 0xAAAA_0003, 0xAAAA_0004, 0x100, 6, 7, 8]
    );
    cpu.enter(0x10, 3, 16).unwrap();
    assert_eq!(cpu.state.gpr[5], 0xFE);
    assert_eq!(cpu.state.gpr[4], 0xFE - 6 - 0x10);
    assert_eq!((peek2(&cpu, 0xFE), peek2(&cpu, 0xF8)), (6, 0xFE));
}

#[test]
fn pushf_popf_16() {
    let mut cpu = cpu();
    cpu.popf(0xFFFF_FFFF, 16, 16, 0).unwrap();
    assert_eq!(cpu.state.eflags(), 0x7FD7);
    assert_eq!(cpu.state.eflags() >> 16, 0);
    cpu.popf(0xFFFF_FFFF, 32, 32, 0).unwrap();
    assert_eq!(cpu.state.eflags(), 0x24_7FD7);
}

#[test]
fn single_step_traps_after_the_insn() {
    let mut cpu = cpu();
    poke(&cpu, 4, Size::B4, 0x0040_0300);
    cpu.state.gpr[4] = 0x100;
    cpu.state.eflags |= flags::TF;
    assert!(!cpu.mode().has(Mode::TF));
    cpu.sync_mode();
    assert!(cpu.mode().has(Mode::TF));
    cpu.finish_step();
    assert_eq!(place(&cpu), (0x40, 0x300, 0));
    assert_eq!(cpu.state.dr[6], 0xFFFF_4FF0);
    assert_eq!(peek2(&cpu, 0xFE), 0x102);
    cpu.state.eflags |= flags::TF;
    cpu.soft_int(1, 0, 0).unwrap();
    let sp = cpu.state.gpr[4];
    cpu.finish_step();
    assert_eq!(cpu.state.gpr[4], sp);
}

#[test]
fn single_step_after_shadows() {
    let mut cpu = cpu();
    poke(&cpu, 4, Size::B4, 0x0040_0300);
    cpu.state.gpr[4] = 0x100;
    cpu.state.shadow = 1;
    cpu.finish_step();
    assert_eq!(cpu.state.gpr[4], 0x100);
    assert!(cpu.take_shadow());
    cpu.sti(cpu.state.pc);
    cpu.finish_step();
    assert_eq!(place(&cpu), (0x40, 0x300, 0));
}
