//! Interrupts and exceptions through the IDT, IRET, double and triple faults.

use mem::Size;

use crate::fault::Fault;
use crate::flags;
use crate::lower::helpers::Helpers;
use crate::testing::{at, enter_level, gate, peek2, peek4, place, poke, protected, sel, set_gate};

const INT32: u64 = 0x8E;
const TRAP32: u64 = 0x8F;
const INT16: u64 = 0x86;

#[test]
fn interrupt_gate_at_one_level() {
    let (mut cpu, log) = protected();
    set_gate(&cpu, 0x20, gate(sel::CODE, 0x7000, INT32, 0));
    cpu.state.set_eflags(flags::IF | flags::NT | flags::CF);
    log.borrow_mut().irq = Some(0x20);
    assert!(cpu.service());
    assert_eq!(place(&cpu), (0x08, 0x7000, 0));
    assert_eq!(cpu.state.eflags(), flags::CF | 2);
    let pushed: Vec<u64> = (0..3).map(|i| peek4(&cpu, 0x8FF4 + 4 * i)).collect();
    assert_eq!(pushed, [0x4000, 0x08, 0x4203]);
    assert_eq!(cpu.state.gpr[4], 0x8FF4);
}

#[test]
fn trap_gate_keeps_if() {
    let (mut cpu, _) = protected();
    set_gate(&cpu, 0x30, gate(sel::CODE, 0x7000, TRAP32, 0));
    cpu.state.set_eflags(flags::IF | flags::TF);
    cpu.soft_int(0x30, 0x4002, 0).unwrap();
    assert_eq!(cpu.state.eflags(), flags::IF | 2);
    assert_eq!(peek4(&cpu, 0x8FF4), 0x4002);
}

#[test]
fn from_user_to_kernel_and_back() {
    let (mut cpu, _) = protected();
    set_gate(&cpu, 0x80, gate(sel::CODE, 0x7000, 0xEE, 0));
    enter_level(&mut cpu, 3);
    cpu.state.set_eflags(flags::IF | flags::ZF);
    cpu.soft_int(0x80, 0x4002, 0).unwrap();
    assert_eq!(place(&cpu), (0x08, 0x7000, 0));
    assert_eq!((cpu.state.seg[2].selector, cpu.state.gpr[4]), (sel::DATA, 0x7FEC));
    let pushed: Vec<u64> = (0..5).map(|i| peek4(&cpu, 0x7FEC + 4 * i)).collect();
    assert_eq!(pushed, [0x4002, 0x1B, 0x242, 0x9000, 0x23]);
    assert_eq!(cpu.state.seg[3].selector, sel::USER_DATA);
    cpu.iret(32, 0).unwrap();
    assert_eq!((place(&cpu), cpu.state.gpr[4]), ((0x1B, 0x4002, 3), 0x9000));
    assert_eq!(cpu.state.eflags(), 0x242);
    assert_eq!(cpu.state.tlb_base, cpu.tlb.base(crate::tlb::ViewId::User));
}

#[test]
fn software_interrupts_need_the_gates_level() {
    let (mut cpu, _) = protected();
    set_gate(&cpu, 0x20, gate(sel::CODE, 0x7000, INT32, 0));
    enter_level(&mut cpu, 3);
    assert_eq!(cpu.soft_int(0x20, 0, 0), Err(Fault::gp(0x20 * 8 + 2)));
    assert_eq!(cpu.soft_int(0x20, 0, 1), Err(Fault::gp(0x20 * 8 + 2)));
    assert_eq!(cpu.soft_int(0x20, 0x4001, 3), Ok(()));
    assert_eq!(place(&cpu), (0x08, 0x7000, 0));
}

#[test]
fn bad_gates() {
    let (mut cpu, _) = protected();
    for (entry, fault) in [
        (gate(sel::CODE, 0, 0x0E, 0), Fault::np(0x22 * 8 + 2)),
        (gate(sel::CODE, 0, 0x8C, 0), Fault::gp(0x22 * 8 + 2)),
        (gate(0, 0, INT32, 0), Fault::gp(0)),
        (gate(sel::DATA, 0, INT32, 0), Fault::gp(0x10)),
        (gate(sel::USER_CODE, 0, INT32, 0), Fault::gp(0x18)),
    ] {
        set_gate(&cpu, 0x22, entry);
        assert_eq!(cpu.soft_int(0x22, 0, 0), Err(fault), "{entry:#x}");
        assert_eq!((place(&cpu), cpu.state.gpr[4]), ((0x08, 0x4000, 0), 0x9000));
    }
    cpu.state.idtr.limit = 0x22 * 8 + 6;
    assert_eq!(cpu.soft_int(0x22, 0, 0), Err(Fault::gp(0x22 * 8 + 2)));
}

#[test]
fn exceptions_push_their_code_and_rf() {
    let (mut cpu, _) = protected();
    set_gate(&cpu, 13, gate(sel::CODE, 0x7000, INT32, 0));
    set_gate(&cpu, 6, gate(sel::CODE, 0x7100, INT16, 0));
    cpu.deliver_fault(Fault::gp(0x1238));
    assert_eq!(cpu.state.gpr[4], 0x8FF0);
    assert_eq!((peek4(&cpu, 0x8FF0), peek4(&cpu, 0x8FFC)), (0x1238, 0x1_0002));
    cpu.deliver_fault(Fault::ud());
    assert_eq!(cpu.state.gpr[4], 0x8FEA);
    assert_eq!((peek2(&cpu, 0x8FEA), cpu.state.pc), (0x7000, 0x7100));
}

#[test]
fn faults_of_external_events_carry_ext() {
    let (mut cpu, log) = protected();
    set_gate(&cpu, 13, gate(sel::CODE, 0x7000, INT32, 0));
    cpu.state.set_eflags(flags::IF);
    log.borrow_mut().irq = Some(0x40);
    assert!(cpu.service());
    assert_eq!(cpu.state.pc, 0x7000);
    assert_eq!(peek4(&cpu, cpu.state.gpr[4]), 0x40 * 8 + 3);
}

#[test]
fn double_and_triple_fault() {
    let (mut cpu, _) = protected();
    set_gate(&cpu, 8, gate(sel::CODE, 0x7800, INT32, 0));
    cpu.deliver_fault(Fault::gp(0));
    assert_eq!(cpu.state.pc, 0x7800);
    assert_eq!(peek4(&cpu, cpu.state.gpr[4]), 0);
    assert!(!cpu.shutdown);
    set_gate(&cpu, 8, 0);
    cpu.deliver_fault(Fault::gp(0));
    assert!(cpu.shutdown);
    assert_eq!(cpu.state.leave, ir::exit::RESYNC + 1);
}

#[test]
fn benign_then_contributory_is_serial() {
    let (mut cpu, _) = protected();
    set_gate(&cpu, 13, gate(sel::CODE, 0x7000, INT32, 0));
    cpu.deliver_fault(Fault::ud());
    assert_eq!(cpu.state.pc, 0x7000);
    assert_eq!(peek4(&cpu, cpu.state.gpr[4]), 6 * 8 + 3);
}

#[test]
fn iret_respects_privilege_over_flags() {
    let (mut cpu, _) = protected();
    enter_level(&mut cpu, 3);
    cpu.state.set_eflags(1 << 12 | flags::IF);
    poke(&cpu, 0x9000, Size::B4, 0x4100);
    poke(&cpu, 0x9004, Size::B4, u64::from(sel::USER_CODE));
    poke(&cpu, 0x9008, Size::B4, 0x0027_3CD5);
    cpu.iret(32, 0).unwrap();
    let kept = 1 << 12 | flags::IF;
    let taken = flags::ID | flags::AC | flags::ARITH | flags::DF;
    assert_eq!(cpu.state.eflags(), kept | taken | 2);
    assert_eq!((cpu.state.pc, cpu.state.gpr[4]), (0x4100, 0x900C));
}

#[test]
fn iret_to_an_outer_level_checks_the_stack() {
    let (mut cpu, _) = protected();
    poke(&cpu, 0x9004, Size::B4, u64::from(sel::USER_CODE));
    poke(&cpu, 0x9008, Size::B4, 2);
    poke(&cpu, 0x900C, Size::B4, 0xA000);
    for (ss, fault) in [(0, Fault::gp(0)), (sel::DATA, Fault::gp(0x10)), (0x43, Fault::gp(0x40))] {
        poke(&cpu, 0x9010, Size::B4, u64::from(ss));
        assert_eq!(cpu.iret(32, 0), Err(fault));
        assert_eq!((place(&cpu), cpu.state.gpr[4]), ((0x08, 0x4000, 0), 0x9000));
    }
    poke(&cpu, 0x9010, Size::B4, u64::from(sel::USER_DATA));
    cpu.iret(32, 0).unwrap();
    assert_eq!((place(&cpu), cpu.state.gpr[4]), ((0x1B, 0, 3), 0xA000));
    assert_eq!(cpu.state.seg[3].attr, 0);
}

#[test]
fn stack_fault_in_delivery_becomes_a_double_fault() {
    let (mut cpu, _) = protected();
    set_gate(&cpu, 13, gate(sel::CODE, 0x7000, INT32, 0));
    set_gate(&cpu, 12, gate(sel::CODE, 0x7100, INT32, 0));
    cpu.load_seg(2, u64::from(sel::DATA16)).unwrap();
    cpu.state.gpr[4] = 6;
    cpu.deliver_fault(Fault::gp(0));
    assert!(cpu.shutdown);
    let _ = at::STACK0;
}

#[test]
fn coprocessor_errors_by_vector_or_by_pin() {
    let (mut cpu, log) = protected();
    set_gate(&cpu, 16, gate(sel::CODE, 0x7000, 0x8E, 0));
    cpu.deliver_fault(Fault::mf());
    assert!(log.borrow().ferr);
    assert_eq!((place(&cpu), cpu.state.gpr[4]), ((sel::CODE, 0x4000, 0), 0x9000));
    log.borrow_mut().ferr = false;
    cpu.write_cr(0, cpu.state.cr0 | 0x20).unwrap();
    cpu.deliver_fault(Fault::mf());
    assert_eq!((place(&cpu), cpu.state.gpr[4]), ((sel::CODE, 0x7000, 0), 0x8FF4));
    assert!(!log.borrow().ferr);
}
