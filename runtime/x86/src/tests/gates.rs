//! Far transfers in protected mode: direct, through call gates, returns to outer levels.

use mem::Size;

use crate::fault::Fault;
use crate::lower::helpers::Helpers;
use crate::testing::{
    at, descriptor, enter_level, gate, peek2, peek4, place, poke, protected, sel,
};

#[test]
fn direct_jumps() {
    let (mut cpu, _) = protected();
    cpu.far_jmp(u64::from(sel::CODE16), 0x1_2345, 16, 0).unwrap();
    assert_eq!(place(&cpu), (0x88, 0x2345, 0));
    for (selector, fault) in [
        (0, Fault::gp(0)),
        (sel::DATA, Fault::gp(0x10)),
        (sel::USER_CODE, Fault::gp(0x18)),
        (sel::CODE | 1, Fault::gp(0x08)),
        (sel::TSS, Fault::gp(0x28)),
        (sel::LDT, Fault::gp(0x30)),
        (0xF000, Fault::gp(0xF000)),
    ] {
        assert_eq!(cpu.far_jmp(u64::from(selector), 0, 32, 0), Err(fault), "{selector:#x}");
    }
    assert_eq!(cpu.far_jmp(u64::from(sel::CODE16), 0x1_0000, 32, 0), Err(Fault::gp(0)));
    assert_eq!(place(&cpu), (0x88, 0x2345, 0));
    cpu.far_jmp(u64::from(sel::EXECUTE_ONLY), 0xFFFF_FFFF, 32, 0).unwrap();
    assert_eq!(cpu.state.window[1].read_end, 0);
}

#[test]
fn intels_processors_read_half_a_slot_of_a_selector() {
    for (is_amd, result) in [(false, Ok(())), (true, Err(Fault::ss(0)))] {
        let (mut cpu, _) = protected();
        cpu.caps.is_amd = is_amd;
        cpu.load_seg(2, u64::from(sel::DATA16)).unwrap();
        // The upper half of CS's slot lies beyond the segment.
        cpu.state.gpr[4] = 0xFFFA;
        poke(&cpu, 0x1_FFFA, Size::B4, 0x1234);
        poke(&cpu, 0x1_FFFE, Size::B2, sel::CODE.into());
        let before = place(&cpu);
        assert_eq!(cpu.far_ret(32, 0), result);
        assert_eq!(place(&cpu), if is_amd { before } else { (sel::CODE, 0x1234, 0) });
    }
}

#[test]
fn conforming_code_keeps_the_level() {
    let (mut cpu, _) = protected();
    enter_level(&mut cpu, 3);
    cpu.far_jmp(u64::from(sel::CONFORMING), 0x10, 32, 0).unwrap();
    assert_eq!(place(&cpu), (sel::CONFORMING | 3, 0x10, 3));
    assert_eq!(cpu.far_jmp(u64::from(sel::CODE), 0, 32, 0), Err(Fault::gp(0x08)));
}

#[test]
fn absent_code() {
    let (mut cpu, _) = protected();
    poke(&cpu, at::GDT + 0x88, Size::B8, descriptor(0, 0xFFFF, 0x1B));
    assert_eq!(cpu.far_jmp(0x88, 0, 32, 0), Err(Fault::np(0x88)));
}

#[test]
fn call_and_return_at_one_level() {
    let (mut cpu, _) = protected();
    cpu.far_call(u64::from(sel::CONFORMING), 0x5000, 32, 0x4005).unwrap();
    assert_eq!(place(&cpu), (0x38, 0x5000, 0));
    assert_eq!(cpu.state.gpr[4], 0x8FF8);
    assert_eq!((peek4(&cpu, 0x8FF8), peek4(&cpu, 0x8FFC)), (0x4005, 0x08));
    cpu.far_ret(32, 8).unwrap();
    assert_eq!((place(&cpu), cpu.state.gpr[4]), ((0x08, 0x4005, 0), 0x9008));
}

#[test]
fn failed_call_changes_nothing() {
    let (mut cpu, _) = protected();
    cpu.load_seg(2, u64::from(sel::DATA16)).unwrap();
    cpu.state.gpr[4] = 2;
    assert_eq!(cpu.far_call(u64::from(sel::CODE), 0x5000, 32, 0x4005), Err(Fault::ss(0)));
    assert_eq!((place(&cpu), cpu.state.gpr[4]), ((0x08, 0x4000, 0), 2));
}

#[test]
fn gate_to_the_same_level() {
    let (mut cpu, _) = protected();
    cpu.far_call(u64::from(sel::CALL_GATE), 0xDEAD, 32, 0x4007).unwrap();
    assert_eq!(place(&cpu), (0x08, 0x5000, 0));
    assert_eq!(cpu.state.gpr[4], 0x8FF8);
    cpu.far_jmp(u64::from(sel::CALL_GATE16), 0, 32, 0).unwrap();
    assert_eq!(place(&cpu), (0x08, 0x5100, 0));
}

#[test]
fn gate_to_an_inner_level_and_back() {
    let (mut cpu, _) = protected();
    enter_level(&mut cpu, 3);
    poke(&cpu, 0x9000, Size::B4, 0x1111);
    poke(&cpu, 0x9004, Size::B4, 0x2222);
    cpu.far_call(u64::from(sel::CALL_GATE), 0, 32, 0x4007).unwrap();
    assert_eq!(place(&cpu), (0x08, 0x5000, 0));
    assert_eq!((cpu.state.seg[2].selector, cpu.state.gpr[4]), (sel::DATA, 0x7FE8));
    let pushed: Vec<u64> = (0..6).map(|i| peek4(&cpu, 0x7FE8 + 4 * i)).collect();
    assert_eq!(pushed, [0x4007, 0x1B, 0x1111, 0x2222, 0x9000, 0x23]);
    cpu.load_seg(3, u64::from(sel::DATA)).unwrap();
    cpu.load_seg(0, u64::from(sel::CONFORMING)).unwrap();
    cpu.far_ret(32, 8).unwrap();
    assert_eq!(place(&cpu), (0x1B, 0x4007, 3));
    assert_eq!((cpu.state.seg[2].selector, cpu.state.gpr[4]), (0x23, 0x9008));
    assert_eq!((cpu.state.seg[3].selector, cpu.state.seg[3].attr), (0, 0));
    assert_eq!(cpu.state.seg[0].selector, sel::CONFORMING);
}

#[test]
fn sixteen_bit_gate() {
    let (mut cpu, _) = protected();
    enter_level(&mut cpu, 3);
    poke(&cpu, 0x9000, Size::B2, 0x3333);
    cpu.far_call(u64::from(sel::CALL_GATE16), 0, 32, 0x4007).unwrap();
    assert_eq!(cpu.state.gpr[4], 0x7FF6);
    let pushed: Vec<u64> = (0..5).map(|i| peek2(&cpu, 0x7FF6 + 2 * i)).collect();
    assert_eq!(pushed, [0x4007, 0x1B, 0x3333, 0x9000, 0x23]);
}

#[test]
fn bad_gates() {
    let (mut cpu, _) = protected();
    let slot = at::GDT + 0x60;
    enter_level(&mut cpu, 3);
    for (entry, fault) in [
        (gate(sel::CODE, 0, 0x8C, 0), Fault::gp(0x60)),
        (gate(sel::CODE, 0, 0x6C, 0), Fault::np(0x60)),
        (gate(0, 0, 0xEC, 0), Fault::gp(0)),
        (gate(sel::DATA, 0, 0xEC, 0), Fault::gp(0x10)),
        (gate(0x1000, 0, 0xEC, 0), Fault::gp(0x1000)),
    ] {
        poke(&cpu, slot, Size::B8, entry);
        assert_eq!(cpu.far_call(0x60, 0, 32, 0), Err(fault), "{entry:#x}");
    }
    poke(&cpu, slot, Size::B8, gate(sel::CODE, 0x5000, 0xEC, 0));
    assert_eq!(cpu.far_jmp(0x60, 0, 32, 0), Err(Fault::gp(0x08)));
    assert_eq!(place(&cpu).2, 3);
}

#[test]
fn bad_inner_stacks() {
    let (mut cpu, _) = protected();
    enter_level(&mut cpu, 3);
    for (ss, fault) in [
        (0, Fault::ts(0)),
        (0x1000, Fault::ts(0x1000)),
        (sel::USER_DATA, Fault::ts(0x20)),
        (sel::READ_ONLY, Fault::ts(0x48)),
        (sel::ABSENT, Fault::ss(0x40)),
    ] {
        poke(&cpu, at::TSS + 8, Size::B2, u64::from(ss));
        assert_eq!(cpu.far_call(0x60, 0, 32, 0), Err(fault), "{ss:#x}");
    }
    poke(&cpu, at::TSS + 8, Size::B2, u64::from(sel::DATA16));
    poke(&cpu, at::TSS + 4, Size::B2, 8);
    assert_eq!(cpu.far_call(0x60, 0, 32, 0), Ok(()));
    enter_level(&mut cpu, 3);
    cpu.state.tr.limit = 8;
    assert_eq!(cpu.far_call(0x60, 0, 32, 0), Err(Fault::ts(0x28)));
}

#[test]
fn inner_stack_overflow_names_the_selector() {
    let (mut cpu, _) = protected();
    enter_level(&mut cpu, 3);
    poke(&cpu, at::GDT + 0x90, Size::B8, descriptor(0x1_0000, 0xFF, 0x93));
    poke(&cpu, at::TSS + 8, Size::B2, u64::from(sel::DATA16));
    poke(&cpu, at::TSS + 4, Size::B2, 0x8000);
    assert_eq!(cpu.far_call(0x60, 0, 32, 0), Err(Fault::ss(0x90)));
    assert_eq!(place(&cpu).2, 3);
}

#[test]
fn bad_returns() {
    let (mut cpu, _) = protected();
    for (cs, fault) in [
        (0, Fault::gp(0)),
        (sel::DATA, Fault::gp(0x10)),
        (0x18, Fault::gp(0x18)),
        (sel::CODE | 3, Fault::gp(0x08)),
        (0x1000, Fault::gp(0x1000)),
    ] {
        poke(&cpu, 0x9004, Size::B4, u64::from(cs));
        assert_eq!(cpu.far_ret(32, 0), Err(fault), "{cs:#x}");
        assert_eq!(cpu.state.gpr[4], 0x9000);
    }
    poke(&cpu, 0x9004, Size::B4, u64::from(sel::USER_CODE));
    poke(&cpu, 0x900C, Size::B4, u64::from(sel::DATA));
    assert_eq!(cpu.far_ret(32, 0), Err(Fault::gp(0x10)));
    enter_level(&mut cpu, 3);
    poke(&cpu, 0x9004, Size::B4, u64::from(sel::CODE));
    assert_eq!(cpu.far_ret(32, 0), Err(Fault::gp(0x08)));
}
