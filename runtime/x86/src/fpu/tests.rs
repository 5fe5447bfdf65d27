//! Images of x87 and vector state; masked moves. Values that hardware decides were taken from an AMD Zen 5.

use super::Save;
use crate::cpu::{Cpu, cr4};
use crate::fault::Fault;
use crate::state::seg;
use crate::testing::{cpu, protected};

const DS: u64 = seg::DS as u64;
const AT: u64 = 0x2_0000;
/// Extended-precision 1.0.
const ONE: [u8; 10] = [0, 0, 0, 0, 0, 0, 0, 0x80, 0xFF, 0x3F];

fn flat() -> Cpu {
    let mut cpu = protected().0;
    cpu.write_cr4(cr4::OSFXSR | cr4::OSXSAVE).unwrap();
    cpu.state.xcr0 = 7;
    cpu.state.mxcsr = 0x1F80;
    cpu.init_x87(true);
    cpu
}

fn bytes(cpu: &mut Cpu, at: u64, len: u64) -> Vec<u8> {
    (at..at + len).map(|at| cpu.load(seg::DS, at, 1).unwrap() as u8).collect()
}

fn words(cpu: &mut Cpu, at: u64, len: u64) -> Vec<u32> {
    (0..len).map(|i| cpu.load(seg::DS, at + 4 * i, 4).unwrap() as u32).collect()
}

/// ST0 = 1, ST1 = 0, ST2 = infinity, and pointers.
fn with_values(cpu: &mut Cpu) {
    cpu.set_fpu_words(0x37F, 5 << 11, 0b1110_0000);
    cpu.set_st(0, &ONE);
    cpu.set_st(1, &[0; 10]);
    cpu.set_st(2, &[0, 0, 0, 0, 0, 0, 0, 0x80, 0xFF, 0x7F]);
    let s = &mut cpu.state;
    (s.fpu_ip, s.fpu_cs, s.fpu_op) = (0x1_2345_6789, 8, 0x505);
    (s.fpu_dp, s.fpu_ds) = (0xABCD, 0x10);
}

#[test]
fn environment_of_protected_mode() {
    let mut cpu = flat();
    with_values(&mut cpu);
    cpu.store_environment(DS, AT, 32).unwrap();
    // Physical registers 5, 6 and 7: valid, zero, special.
    let expect =
        [0xFFFF_037F, 0xFFFF_2800, 0xFFFF_93FF, 0x2345_6789, 0x0505_0008, 0xABCD, 0xFFFF_0010];
    assert_eq!(words(&mut cpu, AT, 7), expect);
    cpu.store_environment(DS, AT, 16).unwrap();
    let expect = [0x7F, 3, 0, 0x28, 0xFF, 0x93, 0x89, 0x67, 8, 0, 0xCD, 0xAB, 0x10, 0];
    assert_eq!(bytes(&mut cpu, AT, 14), expect);
}

#[test]
fn environment_of_real_mode() {
    let mut cpu = cpu();
    with_values(&mut cpu);
    (cpu.state.fpu_ip, cpu.state.fpu_cs) = (0x6789, 0x2000);
    cpu.store_environment(DS, 0x2000, 32).unwrap();
    let image = words(&mut cpu, 0x2000, 7);
    assert_eq!(image[3..], [0xFFFF_6789, 0x2505, 0xFFFF_ACCD, 0]);
    cpu.store_environment(DS, 0x2000, 16).unwrap();
    let image = bytes(&mut cpu, 0x2000, 14);
    assert_eq!(image[6..], [0x89, 0x67, 5, 0x25, 0xCD, 0xAC, 0, 0]);
    cpu.load_environment(DS, 0x2000, 16).unwrap();
    assert_eq!((cpu.state.fpu_ip, cpu.state.fpu_op, cpu.state.fpu_dp), (0x2_6789, 0x505, 0xACCD));
}

#[test]
fn storing_the_environment_masks_exceptions() {
    let mut cpu = flat();
    cpu.set_fpu_words(0x37B, 4, 0);
    assert_eq!(cpu.fsw(), 0x8084, "the summary bits follow");
    assert_eq!(cpu.load_environment(DS, AT, 32), Err(Fault::mf()));
    cpu.store_environment(DS, AT, 32).unwrap();
    assert_eq!((cpu.fcw(), cpu.fsw()), (0x37F, 4));
    cpu.load_environment(DS, AT, 32).unwrap();
    assert_eq!((cpu.fcw(), cpu.fsw()), (0x37B, 0x8084));
}

#[test]
fn a_pending_exception_comes_before_faults_of_the_operand() {
    let fault = Fault::pf(0x40_0000, 4);
    for (code, is_first) in [
        (&[0xD9_u8, 0x03][..], true), // fld dword ptr [ebx]
        (&[0x0F, 0xFC, 0x03], true),  // paddb mm0, [ebx]
        (&[0x0F, 0x2A, 0x03], false), // cvtpi2ps xmm0, [ebx]
        (&[0xDD, 0x33], false),       // fnsave [ebx]
        (&[0x8B, 0x03], false),       // mov eax, [ebx]
    ] {
        let mut cpu = flat();
        cpu.state.pc = 0x3000;
        for (at, byte) in (0x3000..).zip(code) {
            cpu.store(3, at, 1, u64::from(*byte)).unwrap();
        }
        cpu.set_fpu_words(0x37F, 4, 0);
        assert_eq!(cpu.fault_of_insn(fault), fault, "masked: {code:x?}");
        cpu.set_fpu_words(0x37B, 4, 0);
        let expected = if is_first { Fault::mf() } else { fault };
        assert_eq!(cpu.fault_of_insn(fault), expected, "{code:x?}");
        assert_eq!(cpu.fault_of_insn(Fault::ud()), Fault::ud(), "{code:x?}");
    }
}

#[test]
fn save_and_restore_the_whole_unit() {
    let mut cpu = flat();
    with_values(&mut cpu);
    let before = cpu.state.fpu;
    cpu.save_x87(DS, AT, 32).unwrap();
    assert_eq!((cpu.fcw(), cpu.fsw(), cpu.full_tags(), cpu.state.fpu_ip), (0x37F, 0, 0, 0));
    assert_eq!(bytes(&mut cpu, AT + 28, 10), ONE);
    cpu.restore_x87(DS, AT, 32).unwrap();
    assert_eq!(cpu.state.fpu, before);
    assert_eq!(cpu.state.fpu_ip, 0x2345_6789, "the image has 32 bits");
}

#[test]
fn fxsave_round_trip() {
    let mut cpu = flat();
    with_values(&mut cpu);
    cpu.state.ymm[7] = [1, 2, 3, 4];
    cpu.state.ymm[8] = [5, 6, 7, 8];
    assert_eq!(cpu.fx_save(DS, AT + 8, 32), Err(Fault::gp(0)));
    cpu.store(seg::DS, AT + 160 + 8 * 16, 4, 0xEEEE_EEEE).unwrap();
    cpu.fx_save(DS, AT, 32).unwrap();
    assert_eq!(words(&mut cpu, AT + 24, 2), [0x1F80, 0xFFFF]);
    assert_eq!(words(&mut cpu, AT + 160 + 7 * 16, 5), [1, 0, 2, 0, 0xEEEE_EEEE]);
    let before = cpu.state.fpu;
    cpu.init_x87(true);
    cpu.state.ymm[7] = [9; 4];
    cpu.fx_restore(DS, AT, 32).unwrap();
    assert_eq!((cpu.state.fpu, cpu.state.ymm[7]), (before, [1, 2, 9, 9]));
    cpu.store(seg::DS, AT + 24, 4, 0x1_0000).unwrap();
    assert_eq!(cpu.fx_restore(DS, AT, 32), Err(Fault::gp(0)));
}

#[test]
fn pointers_in_fxsave_by_vendor() {
    let mut cpu = flat();
    for (is_amd, fcw, expect) in
        [(false, 0x37F, 0x2345_6789), (true, 0x37F, 0), (true, 0x37B, 0x2345_6789)]
    {
        cpu.caps.is_amd = is_amd;
        with_values(&mut cpu);
        cpu.set_fpu_words(fcw, 4, 0);
        cpu.fx_save(DS, AT, 32).unwrap();
        assert_eq!(words(&mut cpu, AT + 8, 1), [expect], "{is_amd} {fcw:x}");
    }
}

fn ask(cpu: &mut Cpu, components: u64) {
    (cpu.state.gpr[0], cpu.state.gpr[2]) = (components, 0);
}

fn header(cpu: &mut Cpu) -> (u64, u64) {
    let word = |cpu: &mut Cpu, at| cpu.load(seg::DS, AT + 512 + at, 8).unwrap();
    (word(cpu, 0), word(cpu, 8))
}

#[test]
fn xsave_keeps_the_header_of_other_components() {
    let mut cpu = flat();
    cpu.state.ymm[1] = [0, 0, 0, 1];
    ask(&mut cpu, 7);
    cpu.x_save(DS, AT, 32, Save::Plain).unwrap();
    assert_eq!(header(&mut cpu), (5, 0));
    cpu.state.ymm[1] = [1, 0, 0, 0];
    ask(&mut cpu, 2);
    cpu.x_save(DS, AT, 32, Save::Plain).unwrap();
    assert_eq!(header(&mut cpu), (7, 0));
    ask(&mut cpu, 4);
    cpu.x_save(DS, AT, 32, Save::Optimised).unwrap();
    assert_eq!(header(&mut cpu), (3, 0));
    assert_eq!(cpu.load(seg::DS, AT + 576 + 16 + 8, 8), Ok(1), "not in use: not stored");
    ask(&mut cpu, 6);
    cpu.x_save(DS, AT, 32, Save::Compacted).unwrap();
    assert_eq!(header(&mut cpu), (2, 6 | 1 << 63));
}

#[test]
fn xrstor_loads_or_initialises() {
    let mut cpu = flat();
    cpu.state.ymm[1] = [1, 2, 3, 4];
    cpu.state.mxcsr = 0x1FA0;
    with_values(&mut cpu);
    let before = cpu.state.fpu;
    ask(&mut cpu, 7);
    cpu.x_save(DS, AT, 32, Save::Plain).unwrap();
    cpu.state.ymm[1] = [9; 4];
    cpu.state.mxcsr = 0x1F80;
    cpu.init_x87(true);
    ask(&mut cpu, 5);
    cpu.x_restore(DS, AT, 32).unwrap();
    assert_eq!((cpu.state.ymm[1], cpu.state.mxcsr), ([9, 9, 3, 4], 0x1FA0));
    assert_eq!(cpu.state.fpu, before);
    cpu.store(seg::DS, AT + 512, 8, 0).unwrap();
    ask(&mut cpu, 7);
    cpu.x_restore(DS, AT, 32).unwrap();
    assert_eq!((cpu.state.ymm[1], cpu.state.mxcsr), ([0; 4], 0x1FA0));
    assert_eq!((cpu.fsw(), cpu.full_tags(), cpu.st(0)), (0, 0, [0; 10]));
    for (at, v) in [(512, 8), (520, 1), (528, 1)] {
        cpu.store(seg::DS, AT + at, 8, v).unwrap();
        assert_eq!(cpu.x_restore(DS, AT, 32), Err(Fault::gp(0)), "{at}");
        cpu.store(seg::DS, AT + at, 8, 0).unwrap();
    }
}

#[test]
fn xcr0_rules() {
    let mut cpu = flat();
    for (n, v) in [(1, 7), (0, 0), (0, 5), (0, 8 | 3)] {
        assert_eq!(cpu.write_xcr(n, v), Err(Fault::gp(0)), "{n} {v}");
    }
    cpu.write_xcr(0, 3).unwrap();
    assert_eq!((cpu.read_xcr(0), cpu.read_xcr(1)), (Ok(3), Ok(1)));
    assert_eq!(cpu.read_xcr(2), Err(Fault::gp(0)));
    cpu.write_cr4(0).unwrap();
    assert_eq!(cpu.read_xcr(0), Err(Fault::ud()));
}

/// The last element that the data segment holds.
const EDGE: u64 = 0xFFFF_FFFC;

#[test]
fn masked_elements_do_not_fault() {
    let mut cpu = flat();
    cpu.state.ymm[2] = [0x8000_0000, 0, u64::MAX, u64::MAX];
    cpu.load_masked(0x201, 4, DS, EDGE).unwrap();
    assert_eq!(cpu.state.ymm[1][1..], [0, 0, 0]);
    cpu.state.ymm[2][0] = u64::MAX;
    assert_eq!(cpu.load_masked(0x201, 4, DS, EDGE), Err(Fault::gp(0)));
    cpu.store(seg::DS, EDGE - 4, 4, 7).unwrap();
    cpu.state.ymm[2][1] = u64::MAX;
    assert_eq!(cpu.store_masked(0x201, 4, DS, EDGE - 4), Err(Fault::gp(0)));
    assert_eq!(cpu.load(seg::DS, AT, 4), Ok(0), "all or nothing");
    cpu.state.ymm[3] = [0x80_0080, 0, 0, 0];
    cpu.state.ymm[1] = [0x0807_0605_0403_0201, 0, 0, 0];
    cpu.store_bytes(1, 3, DS, AT).unwrap();
    assert_eq!(bytes(&mut cpu, AT, 4), [1, 0, 3, 0]);
}

#[test]
fn a_gather_keeps_what_it_has() {
    let mut cpu = flat();
    cpu.store(seg::DS, AT, 4, 11).unwrap();
    cpu.store(seg::DS, AT + 8, 4, 22).unwrap();
    let (d, index, mask) = (0, 1, 2);
    let pair = d | mask << 8;
    let how = u64::from(seg::DS) | 0x44 << 8;
    cpu.state.ymm[index as usize] = [2 << 32, (EDGE - AT) / 4 + 1, 0, 0];
    cpu.state.ymm[mask as usize] = [0x8000_0000_8000_0000, 0x8000_0000, 5, 5];
    let vsib = index | 2 << 4 | 1 << 6;
    assert_eq!(cpu.gather_elements(pair, vsib, how, AT), Ok(()), "the address wraps at 4 GiB");
    cpu.state.ymm[mask as usize] = [0x8000_0000_8000_0000, 0x8000_0000, 5, 5];
    cpu.state.ymm[0] = [0, u64::MAX, 9, 9];
    let last = (EDGE - AT) / 4;
    cpu.state.ymm[index as usize] = [2 << 32, last, 0, 0];
    let got = cpu.gather_elements(pair, vsib, how, AT + 2);
    assert_eq!(got, Err(Fault::gp(0)));
    assert_eq!(cpu.state.ymm[mask as usize], [0, 0xFFFF_FFFF, 0, 0], "what is left to do");
    assert_eq!(cpu.state.ymm[0][2..], [0, 0]);
    cpu.state.ymm[0] = [0, u64::MAX, 9, 9];
    assert_eq!(cpu.gather_elements(pair, vsib, how, AT + 2), got);
    assert_eq!(cpu.state.ymm[0], [0, u64::MAX, 9, 9], "no element, no write");
    cpu.gather_elements(pair, vsib, how, AT).unwrap();
    assert_eq!(cpu.state.ymm[mask as usize], [0; 4]);
    assert_eq!(cpu.state.ymm[0][2..], [0, 0]);
    assert_eq!(cpu.gather_elements(d | d << 8, vsib, how, AT), Err(Fault::ud()));
}

#[test]
fn a_gather_by_quadwords_expands_its_whole_mask() {
    let mut cpu = flat();
    let (d, index, mask) = (0, 1, 2);
    let how = u64::from(seg::DS) | 0x84 << 8;
    cpu.state.ymm[index as usize] = [EDGE + 1, 0, 0, 0];
    cpu.state.ymm[mask as usize] = [0x8000_0000, 0x8000_0000_0000_0000, 5, 5];
    let got = cpu.gather_elements(d | mask << 8, index | 1 << 6, how, 0);
    assert_eq!(got, Err(Fault::gp(0)));
    assert_eq!(cpu.state.ymm[mask as usize], [0xFFFF_FFFF, 0xFFFF_FFFF_0000_0000, 0, 0]);
}

#[test]
fn mmx_stores_turn_the_stack() {
    let mut cpu = flat();
    with_values(&mut cpu);
    // Physical register 5 is ST0.
    cpu.store_mmx_bytes(5, 5, DS, AT).unwrap();
    assert_eq!((cpu.top(), cpu.full_tags()), (0, 0xFF));
    assert_eq!(cpu.st(5), ONE);
    assert_eq!(bytes(&mut cpu, AT, 8), [0, 0, 0, 0, 0, 0, 0, 0x80]);
}
