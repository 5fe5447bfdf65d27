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
    assert_eq!(cpu.write_cr(4, 1 << 22), Err(Fault::gp(0)));
    cpu.write_cr(4, 0xB7).unwrap();
    assert_eq!(cpu.read_cr(4), Ok(0xB7));
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
    cpu.popf(0x3200, 32, 32, 0).unwrap();
    enter_level(&mut cpu, 3);
    cpu.popf(0, 32, 32, 0).unwrap();
    assert_eq!(cpu.state.eflags(), 0x3002);
    cpu.sti(0);
    assert_eq!((cpu.state.eflags(), cpu.state.shadow), (0x3202, 1));
    cpu.state.eflags = flags::IF | 2 << 12;
    cpu.popf(0, 32, 32, 0).unwrap();
    assert_eq!(cpu.state.eflags(), 0x2202);
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
    assert_eq!((cpu.rdtsc(), cpu.state.tsc.at(8)), (Ok(1000), Some(1002)));
    cpu.wrmsr(0x10, 5).unwrap();
    assert_eq!(cpu.state.tsc.at(8), None);
    assert_eq!((cpu.rdtsc(), cpu.state.tsc.at(8)), (Ok(5), Some(7)));
    assert_eq!(cpu.rdmsr(0x10), Ok(5));
    assert_eq!(cpu.rdmsr(0xCE), Err(Fault::gp(0)));
    assert_eq!(cpu.wrmsr(0x1234, 0), Err(Fault::gp(0)));
    cpu.write_cr(4, 4).unwrap();
    assert_eq!(cpu.state.tsc.at(8), None);
    assert_eq!((cpu.rdtsc(), cpu.state.tsc.at(8)), (Ok(5), None));
    enter_level(&mut cpu, 3);
    assert_eq!(cpu.rdtsc(), Err(Fault::gp(0)));
    assert_eq!(cpu.rdpmc(0), Err(Fault::gp(0)));
}

#[test]
fn amd_says_that_the_counter_keeps_its_rate() {
    let (mut cpu, _) = protected();
    assert_eq!(cpu.rdmsr(0xC001_0015), Err(Fault::gp(0)), "not of this model");
    cpu.set_model(crate::cpuid::Model::named("EPYC", None).unwrap());
    cpu.wrmsr(0xC001_0015, 0x10).unwrap();
    assert_eq!(cpu.rdmsr(0xC001_0015), Ok(0x100_0010), "TscFreqSel");
}

#[test]
fn local_apic_msrs() {
    let (mut cpu, log) = protected();
    assert_eq!(log.borrow().apic_base, 0xFEE0_0900, "told by RESET");
    assert_eq!(cpu.rdmsr(0x1B), Ok(0xFEE0_0900));
    for bad in [0xFEE0_0400, 0xFEE0_0901, 1 << 52] {
        assert_eq!(cpu.wrmsr(0x1B, bad), Err(Fault::gp(0)), "{bad:#x}");
    }
    cpu.wrmsr(0x1B, 0xFEE0_0D00).unwrap();
    assert_eq!(log.borrow().apic_base, 0xFEE0_0D00);
    assert_eq!(cpu.wrmsr(0x1B, 0xFEE0_0900), Err(Fault::gp(0)), "x2APIC to xAPIC");
    cpu.wrmsr(0x1B, 0xFEE0_0000).unwrap();
    assert_eq!(cpu.rdmsr(0x1B), Ok(0xFEE0_0100), "the BSP flag is the hardware's");
    assert_eq!(cpu.wrmsr(0x1B, 0xFEE0_0C00), Err(Fault::gp(0)), "off to x2APIC");
    assert_eq!((cpu.rdmsr(0x802), cpu.rdmsr(0x803)), (Ok(0), Err(Fault::gp(0))));
    cpu.wrmsr(0x80B, 0).unwrap();
    assert_eq!(cpu.wrmsr(0x80C, 7), Err(Fault::gp(0)));
    assert_eq!(log.borrow().apic, Some((0x0C, 7)));
    cpu.set_model(crate::cpuid::Model::named("qemu64", None).unwrap());
    for n in [0x6E0, 0x802] {
        assert_eq!(cpu.rdmsr(n), Err(Fault::gp(0)), "not of this model");
    }
}

#[test]
fn tsc_deadline_is_a_value_of_the_counter() {
    let (mut cpu, log) = protected();
    cpu.wrmsr(0x6E0, 1500).unwrap();
    assert_eq!((log.borrow().tsc_deadline, cpu.rdmsr(0x6E0)), (Some(1500), Ok(1500)));
    cpu.wrmsr(0x10, 100).unwrap();
    assert_eq!((log.borrow().tsc_deadline, cpu.rdmsr(0x6E0)), (Some(2400), Ok(1500)));
    cpu.wrmsr(0x6E0, 50).unwrap();
    assert_eq!(log.borrow().tsc_deadline, Some(1000), "passed: at once");
    cpu.wrmsr(0x6E0, u64::MAX).unwrap();
    assert_eq!(log.borrow().tsc_deadline, Some(u64::MAX));
    cpu.wrmsr(0x6E0, 0).unwrap();
    assert_eq!((log.borrow().tsc_deadline, cpu.rdmsr(0x6E0)), (None, Ok(0)));
}

#[test]
fn task_priority_is_the_local_apics() {
    let (mut cpu, log) = protected();
    cpu.write_cr(8, 9).unwrap();
    assert_eq!((log.borrow().task_priority, cpu.read_cr(8)), (9, Ok(9)));
    assert_eq!(cpu.write_cr(8, 16), Err(Fault::gp(0)));
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
