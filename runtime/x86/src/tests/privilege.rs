//! Control, debug and model-specific registers; IOPL rules of POPF, CLI and STI; CPUID.

use crate::fault::{Fault, dr6};
use crate::flags;
use crate::lower::helpers::Helpers;
use crate::mode::Mode;
use crate::testing::{cpu, enter_level, protected};

#[test]
fn cr0_checks() {
    let mut cpu = cpu();
    assert_eq!(cpu.write_cr(0, 0x8000_0000), Err(Fault::gp(0)));
    assert_eq!(cpu.write_cr(0, 0x2000_0000), Err(Fault::gp(0)));
    cpu.write_cr(0, 1).unwrap();
    assert_eq!(cpu.read_cr(0), Ok(0x11));
    assert!(cpu.mode().has(Mode::PE));
    assert_eq!(cpu.state.leave, ir::exit::RESYNC + 1);
    cpu.lmsw(0);
    assert_eq!(cpu.smsw(), 0x11);
    cpu.lmsw(0xFFF8);
    assert_eq!(cpu.smsw(), 0x19);
    cpu.clts();
    assert_eq!(cpu.smsw(), 0x11);
    assert_eq!(cpu.read_cr(1), Err(Fault::ud()));
}

#[test]
fn cr4_reserved_bits() {
    let mut cpu = cpu();
    assert_eq!(cpu.write_cr(4, 1 << 12), Err(Fault::gp(0)));
    assert_eq!(cpu.write_cr(4, 1), Err(Fault::gp(0)));
    cpu.write_cr(4, 0xB4).unwrap();
    assert_eq!(cpu.read_cr(4), Ok(0xB4));
}

#[test]
fn leaving_protected_mode_makes_null_segments_usable() {
    let (mut cpu, _) = protected();
    cpu.load_seg(5, 0).unwrap();
    cpu.write_cr(0, 0x10).unwrap();
    assert_eq!(cpu.load(5, 0xFFFF, 1), Ok(0));
    cpu.load_seg(5, 0x20).unwrap();
    assert_eq!(cpu.state.seg[5].limit, 0xFFFF);
    assert_eq!(cpu.state.seg[3].limit, u32::MAX);
}

#[test]
fn debug_registers() {
    let mut cpu = cpu();
    cpu.write_dr(3, 0x1234).unwrap();
    cpu.write_dr(4, 0xFFFF_FFFF).unwrap();
    cpu.write_dr(5, 0).unwrap();
    assert_eq!(
        (cpu.read_dr(3), cpu.read_dr(6), cpu.read_dr(7)),
        (Ok(0x1234), Ok(0xFFFF_EFFF), Ok(0x400))
    );
    cpu.write_dr(7, 0x2000).unwrap();
    assert_eq!(cpu.read_dr(0), Err(Fault::db(dr6::BD)));
    cpu.deliver_fault(Fault::db(dr6::BD));
    assert_eq!(cpu.state.dr[7], 0x400);
}

#[test]
fn flags_under_iopl() {
    let (mut cpu, _) = protected();
    cpu.popf(0x3200, 32).unwrap();
    enter_level(&mut cpu, 3);
    cpu.popf(0, 32).unwrap();
    assert_eq!(cpu.state.eflags(), 0x3002);
    cpu.sti().unwrap();
    assert_eq!((cpu.state.eflags(), cpu.state.shadow), (0x3202, 1));
    cpu.state.eflags = flags::IF | 2 << 12;
    assert_eq!(cpu.cli(), Err(Fault::gp(0)));
    cpu.popf(0, 32).unwrap();
    assert_eq!(cpu.state.eflags(), 0x2202);
    assert_eq!(cpu.pushf(32), Ok(0x2202));
}

#[test]
fn identification() {
    let mut cpu = cpu();
    cpu.state.gpr[0] = 0;
    cpu.cpuid();
    let g = &cpu.state.gpr;
    assert_eq!((g[3], g[2], g[1]), (0x756E_6547, 0x4965_6E69, 0x6C65_746E));
    cpu.state.gpr[0] = 1;
    cpu.cpuid();
    assert_eq!(cpu.state.gpr[0], 0x506E3);
}

#[test]
fn counters_and_msrs() {
    let (mut cpu, _) = protected();
    assert_eq!(cpu.rdtsc(), Ok(1000));
    cpu.wrmsr(0x10, 5).unwrap();
    assert_eq!(cpu.rdtsc(), Ok(5));
    assert_eq!(cpu.rdmsr(0x10), Ok(5));
    assert_eq!(cpu.rdmsr(0xCE), Err(Fault::gp(0)));
    assert_eq!(cpu.wrmsr(0x1234, 0), Err(Fault::gp(0)));
    cpu.write_cr(4, 4).unwrap();
    enter_level(&mut cpu, 3);
    assert_eq!(cpu.rdtsc(), Err(Fault::gp(0)));
    assert_eq!(cpu.rdpmc(0), Err(Fault::gp(0)));
}

#[test]
fn coprocessor_absent() {
    let (mut cpu, _) = protected();
    assert_eq!(cpu.fpu_escape(), Err(Fault::ud()));
    cpu.caps.has_fpu = false;
    assert_eq!(cpu.fpu_escape(), Ok(()));
    cpu.lmsw(0b1001);
    assert_eq!((cpu.fpu_escape(), cpu.fpu_wait()), (Err(Fault::nm()), Ok(())));
    cpu.lmsw(0b1011);
    assert_eq!(cpu.fpu_wait(), Err(Fault::nm()));
    cpu.lmsw(0b0101);
    assert_eq!(cpu.fpu_escape(), Err(Fault::nm()));
}
