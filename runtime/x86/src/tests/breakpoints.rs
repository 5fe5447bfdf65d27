//! Breakpoints of the debug registers.

use crate::cpu::Cpu;
use crate::fault::Fault;
use crate::flags;
use crate::lower::helpers::Helpers;
use crate::mode::Mode;
use crate::testing::{gate, protected, sel, set_gate};

const DS: u8 = 3;

/// A CPU whose #DB handler is at 0x7000, with DR0 at `at` and `dr7`.
fn armed(at: u64, dr7: u64) -> Cpu {
    let (mut cpu, _) = protected();
    set_gate(&cpu, 1, gate(sel::CODE, 0x7000, 0x8E, 0));
    cpu.write_dr(0, at).unwrap();
    cpu.write_dr(7, dr7).unwrap();
    cpu
}

#[test]
fn code() {
    let mut cpu = armed(0x4000, 2);
    assert!(cpu.mode().has(Mode::BREAK));
    assert!(cpu.service());
    assert_eq!((cpu.state.pc, cpu.state.dr[6] & 0xF), (0x7000, 1));
    assert!(!cpu.service());
    let image = cpu.state.gpr[4] + 8;
    assert_eq!(crate::testing::peek4(&cpu, image), 2, "RF is the handler's to set");
    crate::testing::poke(&cpu, image, mem::Size::B4, 0x1_0002);
    cpu.iret(32, 0).unwrap();
    assert_eq!((cpu.state.pc, cpu.state.eflags & flags::RF), (0x4000, flags::RF));
    cpu.finish_insn();
    assert!(!cpu.service(), "RF holds it off for one insn");
    cpu.state.pc = 0x4001;
    cpu.finish_insn();
    assert_eq!(cpu.state.eflags & flags::RF, 0);
    assert!(!cpu.service());
    cpu.write_dr(7, 0).unwrap();
    assert!(!cpu.mode().has(Mode::BREAK));
}

/// As kvm-unit-tests find it on the processors of either maker.
#[test]
fn code_behind_a_load_of_ss() {
    for is_amd in [false, true] {
        let mut cpu = armed(0x4000, 2);
        cpu.caps.is_amd = is_amd;
        cpu.state.shadow = 1;
        assert_eq!((cpu.service(), cpu.state.shadow), (is_amd, u32::from(!is_amd)));
        assert_eq!(cpu.state.dr[6] & 0xF, u64::from(is_amd));
        let mut cpu = armed(0x4000, 2);
        cpu.caps.is_amd = is_amd;
        (cpu.state.shadow, cpu.shadow_is_sti) = (1, true);
        assert!(cpu.service(), "STI holds off interrupts only");
    }
}

#[test]
fn data() {
    // Write, four bytes.
    let mut cpu = armed(0x5004, 2 | 0xD << 16);
    assert_eq!(cpu.load(DS, 0x5004, 4), Ok(0));
    assert!(!cpu.service());
    assert_eq!(cpu.slow_store(DS, 0x5006, 4, 1), Ok(crate::slow::Slow::EvalOne));
    assert!(cpu.tlb.view(cpu.view()).write_host(mem::Lin(0x5006)).is_none());
    cpu.store(DS, 0x5001, 2, 1).unwrap();
    assert!(!cpu.service());
    cpu.store(DS, 0x5003, 2, 1).unwrap();
    assert!(cpu.service());
    assert_eq!((cpu.state.pc, cpu.state.dr[6] & 0xF), (0x7000, 1));
    // Reads and writes, one byte.
    let mut cpu = armed(0x5004, 2 | 3 << 16);
    cpu.load(DS, 0x5004, 1).unwrap();
    cpu.deliver_fault(Fault::db(0));
    assert!(!cpu.service(), "a fault of the insn takes the trap with it");
}

#[test]
fn ports_need_debug_extensions() {
    let mut cpu = armed(0x80, 2 | 2 << 16);
    cpu.port_out(0x80, 1, 0).unwrap();
    assert!(!cpu.service());
    cpu.write_cr(4, 8).unwrap();
    cpu.port_out(0x80, 1, 0).unwrap();
    assert!(cpu.service());
    assert_eq!(cpu.read_dr(4), Err(Fault::ud()));
}

#[test]
fn a_step_and_a_breakpoint_are_one_trap() {
    let mut cpu = armed(0x5004, 2 | 1 << 16);
    cpu.state.eflags |= flags::TF;
    cpu.store(DS, 0x5004, 1, 1).unwrap();
    cpu.finish_step();
    assert_eq!(cpu.state.dr[6], 0xFFFF_4FF1);
    assert!(!cpu.service());
}

#[test]
fn pushed_frames_are_watched() {
    // Write, four bytes: CS in the frame of the interrupt below.
    let mut cpu = armed(0x8FF8, 2 | 0xD << 16);
    set_gate(&cpu, 0x30, gate(sel::CODE, 0x7100, 0x8E, 0));
    cpu.soft_int(0x30, 0x4002, 0).unwrap();
    assert_eq!(cpu.state.pc, 0x7100);
    assert!(cpu.service());
    assert_eq!((cpu.state.pc, cpu.state.dr[6] & 0xF), (0x7000, 1));
    assert_eq!(crate::testing::peek4(&cpu, cpu.state.gpr[4]), 0x7100);
    let mut cpu = armed(0x8FF8, 2 | 0xD << 16);
    cpu.pusha(32).unwrap();
    assert!(cpu.service());
}

#[test]
fn resume_flag_between_iterations() {
    let mut cpu = armed(0x4000, 0);
    set_gate(&cpu, 0x30, gate(sel::CODE, 0x7100, 0x8E, 0));
    cpu.state.repeating = 1;
    cpu.interrupt(0x30);
    let image = cpu.state.gpr[4] + 8;
    assert_eq!(crate::testing::peek4(&cpu, image), u64::from(flags::RF | 2));
    assert_eq!(cpu.state.repeating, 0);
    cpu.interrupt(0x30);
    let image = cpu.state.gpr[4] + 8;
    assert_eq!(crate::testing::peek4(&cpu, image), 2);
}
