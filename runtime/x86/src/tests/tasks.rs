//! Task switches.

use mem::Size;

use crate::cpu::Cpu;
use crate::fault::Fault;
use crate::flags;
use crate::lower::helpers::Helpers;
use crate::testing::{at, gate, peek2, peek4, place, poke, protected, sel, set_gate};

/// Fills TSS2: EIP 0x6000, flat level-0 segments, ESP 0xA000.
fn with_tss2() -> Cpu {
    let (cpu, _) = protected();
    let put = |off: u64, v: u64| poke(&cpu, at::TSS2 + off, Size::B4, v);
    put(0x1C, 0x12_3000);
    put(0x20, 0x6000);
    put(0x24, 0x246);
    for i in 0..8 {
        put(0x28 + 4 * i, 0x1000 + i);
    }
    put(0x38, 0xA000);
    for (i, s) in (0..).zip([sel::DATA, sel::CODE, sel::DATA, sel::DATA, 0, sel::USER_DATA]) {
        put(0x48 + 4 * i, u64::from(s));
    }
    cpu
}

fn descriptor_type(cpu: &Cpu, selector: u16) -> u64 {
    peek4(cpu, at::GDT + u64::from(selector) + 4) >> 8 & 15
}

#[test]
fn jump_to_a_task() {
    let mut cpu = with_tss2();
    cpu.state.gpr[0] = 0xAABB_CCDD;
    cpu.state.set_eflags(flags::CF | flags::DF);
    cpu.far_jmp(u64::from(sel::TSS2), 0, 32, 0x4007).unwrap();
    assert_eq!(place(&cpu), (0x08, 0x6000, 0));
    assert_eq!(cpu.state.eflags(), 0x246);
    assert_eq!(cpu.state.gpr[..5], [0x1000, 0x1001, 0x1002, 0x1003, 0xA000]);
    assert_eq!(cpu.state.seg[5].selector, sel::USER_DATA);
    assert_eq!(cpu.state.seg[4].attr, 0);
    assert_eq!((cpu.str_(), cpu.state.tr.base), (0x78, at::TSS2));
    assert_eq!(cpu.state.cr0 & 8, 8);
    assert_eq!((descriptor_type(&cpu, sel::TSS), descriptor_type(&cpu, sel::TSS2)), (9, 11));
    assert_eq!((peek4(&cpu, at::TSS + 0x20), peek4(&cpu, at::TSS + 0x24)), (0x4007, 0x403));
    assert_eq!((peek4(&cpu, at::TSS + 0x28), peek4(&cpu, at::TSS + 0x4C)), (0xAABB_CCDD, 8));
    assert_eq!(peek4(&cpu, at::TSS2), 0);
}

#[test]
fn call_links_and_iret_returns() {
    let mut cpu = with_tss2();
    cpu.far_call(u64::from(sel::TASK_GATE), 0, 32, 0x4007).unwrap();
    assert_eq!(place(&cpu), (0x08, 0x6000, 0));
    assert_eq!(cpu.state.eflags(), 0x246 | flags::NT);
    assert_eq!(peek2(&cpu, at::TSS2), u64::from(sel::TSS));
    assert_eq!((descriptor_type(&cpu, sel::TSS), descriptor_type(&cpu, sel::TSS2)), (11, 11));
    assert_eq!(cpu.far_call(u64::from(sel::TASK_GATE), 0, 32, 0), Err(Fault::gp(0x78)));
    cpu.iret(32, 0x6002).unwrap();
    assert_eq!((place(&cpu), cpu.str_()), ((0x08, 0x4007, 0), 0x28));
    assert_eq!((descriptor_type(&cpu, sel::TSS), descriptor_type(&cpu, sel::TSS2)), (11, 9));
    assert_eq!((peek4(&cpu, at::TSS2 + 0x20), peek4(&cpu, at::TSS2 + 0x24)), (0x6002, 0x246));
    assert_eq!(cpu.state.gpr[4], 0x9000);
}

#[test]
fn sixteen_bit_task() {
    let (mut cpu, _) = protected();
    let put = |off: u64, v: u64| poke(&cpu, at::TSS16 + off, Size::B2, v);
    put(0x0E, 0x6000);
    put(0x10, 0x3);
    for i in 0..8 {
        put(0x12 + 2 * i, 0x2000 + i);
    }
    for (i, s) in (0..).zip([sel::DATA, sel::CODE16, sel::DATA16, sel::DATA]) {
        put(0x22 + 2 * i, u64::from(s));
    }
    cpu.far_call(u64::from(sel::TSS16), 0, 32, 0x1_4007).unwrap();
    assert_eq!(place(&cpu), (0x88, 0x6000, 0));
    assert_eq!(cpu.state.gpr[7], 0x2007);
    assert_eq!((cpu.state.seg[4].selector, cpu.state.seg[4].attr), (0, 0));
    assert_eq!(cpu.state.eflags(), 0x4003);
    cpu.iret(16, 0x6002).unwrap();
    assert_eq!(place(&cpu), (0x08, 0x1_4007, 0));
    assert_eq!(peek2(&cpu, at::TSS16 + 0x0E), 0x6002);
}

#[test]
fn refusals_leave_the_old_task() {
    let mut cpu = with_tss2();
    poke(&cpu, at::GDT + 0x78, Size::B8, crate::testing::descriptor(at::TSS2, 0x66, 0x89));
    assert_eq!(cpu.far_jmp(0x78, 0, 32, 0), Err(Fault::ts(0x78)));
    poke(&cpu, at::GDT + 0x78, Size::B8, crate::testing::descriptor(at::TSS2, 0x67, 0x09));
    assert_eq!(cpu.far_jmp(0x78, 0, 32, 0), Err(Fault::np(0x78)));
    cpu.state.eflags |= flags::NT;
    for (link, fault) in [(0, Fault::ts(0)), (0x0C, Fault::ts(0x0C)), (0x80, Fault::ts(0x80))] {
        poke(&cpu, at::TSS, Size::B2, link);
        assert_eq!(cpu.iret(32, 0), Err(fault));
    }
    assert_eq!((place(&cpu), cpu.str_()), ((0x08, 0x4000, 0), 0x28));
}

#[test]
fn bad_segments_fault_in_the_new_task() {
    for (field, selector, vector, code) in [
        (0x4C, 0, 10, 0),
        (0x4C, sel::DATA, 10, 0x10),
        (0x50, sel::USER_DATA, 10, 0x20),
        (0x50, sel::ABSENT, 12, 0x40),
        (0x54, sel::EXECUTE_ONLY, 10, 0x58),
        (0x54, sel::ABSENT, 11, 0x40),
        (0x60, sel::DATA, 10, 0x10),
    ] {
        let mut cpu = with_tss2();
        set_gate(&cpu, vector, gate(sel::TSS16, 0, 0x85, 0));
        poke(&cpu, at::TSS2 + field, Size::B4, u64::from(selector));
        for (i, s) in (0..).zip([0, sel::CODE, sel::DATA, 0]) {
            poke(&cpu, at::TSS16 + 0x22 + 2 * i, Size::B2, u64::from(s));
        }
        poke(&cpu, at::TSS16 + 0x1A, Size::B2, 0xB000);
        cpu.far_jmp(u64::from(sel::TSS2), 0, 32, 0x4007).unwrap();
        assert_eq!(cpu.str_(), u64::from(sel::TSS16), "field {field:#x} selector {selector:#x}");
        assert_eq!(peek2(&cpu, at::TSS16), u64::from(sel::TSS2));
        assert_eq!((peek2(&cpu, 0xAFFE), cpu.state.gpr[4]), (code, 0xAFFE));
        assert_eq!(peek4(&cpu, at::TSS2 + 0x20), 0x6000);
    }
}

#[test]
fn exception_through_a_task_gate() {
    let mut cpu = with_tss2();
    set_gate(&cpu, 8, gate(sel::TSS2, 0, 0x85, 0));
    cpu.deliver_fault(Fault::gp(0));
    assert_eq!((place(&cpu), cpu.str_()), ((0x08, 0x6000, 0), 0x78));
    assert_eq!((cpu.state.gpr[4], peek4(&cpu, 0x9FFC)), (0x9FFC, 0));
    assert_eq!(cpu.state.eflags() & flags::NT, flags::NT);
    assert_eq!((peek4(&cpu, at::TSS + 0x20), peek4(&cpu, at::TSS + 0x24)), (0x4000, 0x1_0002));
    assert_eq!(cpu.iret(32, 0x6001), Ok(()));
    assert_eq!(place(&cpu), (0x08, 0x4000, 0));
}

#[test]
fn a_fault_in_the_task_of_a_handler_combines() {
    for (first, vector, handler) in [
        (Fault::gp(0), 13, Some(0x7800)),
        (Fault::de(), 0, Some(0x7800)),
        (Fault::pf(0, 0), 14, Some(0x7800)),
        (Fault::ud(), 6, Some(0x7000)),
        (Fault::df(), 8, None),
    ] {
        let mut cpu = with_tss2();
        set_gate(&cpu, 10, gate(sel::CODE, 0x7000, 0x8E, 0));
        set_gate(&cpu, 8, gate(sel::CODE, 0x7800, 0x8E, 0));
        set_gate(&cpu, vector, gate(sel::TSS2, 0, 0x85, 0));
        poke(&cpu, at::TSS2 + 0x48, Size::B4, 0xFFF8);
        cpu.deliver_fault(first);
        assert_eq!(cpu.shutdown, handler.is_none(), "vector {vector}");
        if let Some(handler) = handler {
            assert_eq!(
                (cpu.state.pc, cpu.str_()),
                (handler, u64::from(sel::TSS2)),
                "vector {vector}"
            );
        }
    }
}

#[test]
fn a_return_unblocks_nmi_by_a_task_and_with_a_fault() {
    let mut cpu = with_tss2();
    cpu.far_call(u64::from(sel::TASK_GATE), 0, 32, 0x4007).unwrap();
    cpu.nmi_blocked = true;
    cpu.iret(32, 0x6002).unwrap();
    assert!(!cpu.nmi_blocked);
    cpu.nmi_blocked = true;
    poke(&cpu, cpu.state.gpr[4] + 4, Size::B4, 0xFFF8);
    assert_eq!(cpu.iret(32, 0x4008), Err(Fault::gp(0xFFF8)));
    assert!(!cpu.nmi_blocked);
}

#[test]
fn trap_bit_raises_debug() {
    let mut cpu = with_tss2();
    set_gate(&cpu, 1, gate(sel::CODE, 0x7000, 0x8E, 0));
    poke(&cpu, at::TSS2 + 0x64, Size::B2, 1);
    cpu.state.dr[7] = 0x555;
    cpu.far_jmp(u64::from(sel::TSS2), 0, 32, 0x4007).unwrap();
    assert_eq!((cpu.state.pc, peek4(&cpu, 0x9FF4)), (0x7000, 0x6000));
    assert_eq!((cpu.state.dr[6], cpu.state.dr[7]), (0xFFFF_8FF0, 0x400));
}

#[test]
fn endless_faults_in_new_tasks_stop() {
    let mut cpu = with_tss2();
    poke(&cpu, at::TSS2 + 0x4C, Size::B4, 0);
    set_gate(&cpu, 10, gate(sel::TSS16, 0, 0x85, 0));
    cpu.far_jmp(u64::from(sel::TSS2), 0, 32, 0x4007).unwrap();
    assert!(cpu.shutdown);
}

#[test]
fn new_address_space() {
    let mut cpu = with_tss2();
    let dir = 0x12_3000;
    for (page, base) in [(0x20_0000, dir), (0x20_1000, 0x12_5000)] {
        for i in 0..1024 {
            poke(&cpu, page + 4 * i, Size::B4, i << 12 | 3);
        }
        poke(&cpu, base, Size::B4, page | 3);
    }
    poke(&cpu, 0x20_0000 + 4 * 0x50, Size::B4, 0x6_0003);
    poke(&cpu, 0x6_0004, Size::B4, 0x99);
    cpu.write_cr(3, 0x12_5000).unwrap();
    cpu.write_cr(0, cpu.state.cr0 | 0x8000_0000).unwrap();
    assert_eq!(cpu.load(3, 0x5_0004, 4), Ok(0));
    cpu.far_jmp(u64::from(sel::TSS2), 0, 32, 0x4007).unwrap();
    assert_eq!(cpu.state.cr3, dir);
    assert_eq!(cpu.load(3, 0x5_0004, 4), Ok(0x99));
}
