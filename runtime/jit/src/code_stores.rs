//! Writes to pages that also hold translated code, to other lines of them than the code's: data beside code, which a program
//! may write as often as any. At the head of the slow path, for all of it, so that no access is longer for it.
//!
//! The page's entry is in a third table of tags, which inline checks do not know; whether the line holds code is asked of the very
//! bitmap that the runtime keeps, at each store. A bitmap without any bit is the runtime's, too: the page may have a write entry again.

use dynasmrt::{DynasmApi, dynasm};
use ir::{Cond, Width};

use crate::abi::{self, STATE_BIAS, TLB, reg};
use crate::asm::{Alu, Asm, Mem, state};
use crate::layout::StateLayout;
use crate::memory::SlowKind;

/// Bits of an address in a line.
const LINE_SHIFT: i8 = 6;
const PAGE_SHIFT: i8 = 12;
const RET: u8 = 0xC3;

/// Longest operand: it reaches into two lines at most.
const LONGEST: i8 = 64;

/// Does the store that the state describes, or makes the pointer for writing, and returns; or goes on behind with all registers as they
/// were, flags excepted.
pub(crate) fn emit(asm: &mut Asm<'_>, layout: &StateLayout) {
    if layout.code_lines.words == 0 {
        return;
    }
    let (meta, scratch) = (layout.meta - STATE_BIAS, layout.scratch);
    // What makes or does a store has an odd number.
    dynasm!(asm ; .arch x64 ; test BYTE [r14 + meta], 1);
    let other = asm.jcc(Cond::E);
    dynasm!(asm ; .arch x64 ; push r8 ; push r9 ; push r10 ; push r11 ; push r12);
    let slow = find(asm, layout);
    let value = state(scratch + 8);
    dynasm!(asm ; .arch x64 ; cmp BYTE [r14 + meta], SlowKind::Store as i8);
    let is_store = asm.jcc8(Cond::E);
    asm.store(Width::W64, value, reg::R9);
    bring_back(asm);
    asm.byte(RET);
    let here = asm.pos();
    asm.fix8(is_store, here);
    asm.load(Width::W64, reg::R10, value);
    for (w, bytes) in [(Width::W8, 1), (Width::W16, 2), (Width::W32, 4), (Width::W64, 8)] {
        asm.alu_ri(Alu::Cmp, Width::W32, reg::R11, bytes);
        let is_wider = asm.jcc8(Cond::Ne);
        asm.store(w, Mem::base(reg::R9, 0), reg::R10);
        bring_back(asm);
        asm.byte(RET);
        let here = asm.pos();
        asm.fix8(is_wider, here);
    }
    for hole in slow {
        let here = asm.pos();
        asm.fix32(hole, here);
    }
    bring_back(asm);
    let here = asm.pos();
    asm.fix32(other, here);
}

/// Is the operand within its segment's window? Its linear address is in r8, its bytes in r11. The holes of branches to be taken where it is not.
/// What can reach the slow path only by way of the TLB, as the sign of the segment's number says, is not asked.
fn limits(asm: &mut Asm<'_>, layout: &StateLayout) -> [usize; 2] {
    let meta = layout.meta - STATE_BIAS;
    let window = &layout.window;
    let field = |at: i32| Mem::index(abi::STATE, reg::R10, 0, at - STATE_BIAS);
    // Where only the TLB is asked, the window is not.
    dynasm!(asm ; .arch x64 ; movsx r10d, BYTE [r14 + meta + 2] ; test r10d, r10d);
    let is_unlimited = asm.jcc8(Cond::S);
    asm.alu_ri(Alu::Cmp, Width::W32, reg::R10, window.len() as i32);
    let is_none = asm.jcc(Cond::Ae);
    asm.imul_rri(Width::W32, reg::R10, reg::R10, window[1].base - window[0].base);
    asm.mov_rr(Width::W32, reg::R9, reg::R8);
    asm.alu_rm(Alu::Sub, Width::W32, reg::R9, field(window[0].base));
    asm.alu_rr(Alu::Add, Width::W64, reg::R9, reg::R11);
    asm.alu_rm(Alu::Cmp, Width::W64, reg::R9, field(window[0].write_end));
    let is_beyond = asm.jcc(Cond::A);
    let here = asm.pos();
    asm.fix8(is_unlimited, here);
    [is_none, is_beyond]
}

/// The host address of the operand in r9, its bytes in r11; the holes of branches to be taken where it is not for generated code.
fn find(asm: &mut Asm<'_>, layout: &StateLayout) -> [usize; 7] {
    let (meta, lines) = (layout.meta - STATE_BIAS, layout.code_lines);
    // One that must be aligned looks longer.
    dynasm!(asm ; .arch x64 ; movzx r11d, BYTE [r14 + meta + 1] ; cmp r11d, LONGEST as i32);
    let is_long = asm.jcc(Cond::A);
    asm.load(Width::W64, reg::R8, state(layout.scratch));
    let [is_none, is_beyond] = limits(asm, layout);
    asm.pext_m(Width::W64, reg::R9, reg::R8, state(layout.tlb_mask));
    asm.load(Width::W64, reg::R10, Mem::index(TLB, reg::R9, 3, abi::TLB_CODE));
    dynasm!(asm ; .arch x64 ; xor r10, r8 ; add r10, r11 ; cmp r10, 0x1000);
    let is_elsewhere = asm.jcc(Cond::A);
    let addend = abi::TLB_WRITE + abi::TLB_READ_ADDEND;
    asm.load(Width::W64, reg::R9, Mem::index(TLB, reg::R9, 3, addend));
    asm.mov_ri(Width::W64, reg::R10, lines.ram.wrapping_neg());
    asm.mov_ri(Width::W64, reg::R12, lines.words);
    dynasm!(asm
        ; .arch x64
        ; add r9, r8
        ; add r10, r9
        ; shr r10, PAGE_SHIFT
        ; mov r12, [r12 + r10 * 8]
        ; test r12, r12
    );
    let is_free = asm.jcc(Cond::E);
    dynasm!(asm ; .arch x64 ; mov r10, r8 ; shr r10, LINE_SHIFT ; bt r12, r10);
    let begins_in_code = asm.jcc(Cond::B);
    dynasm!(asm ; .arch x64 ; lea r10, [r8 + r11 - 1] ; shr r10, LINE_SHIFT ; bt r12, r10);
    let ends_in_code = asm.jcc(Cond::B);
    [is_long, is_none, is_beyond, is_elsewhere, is_free, begins_in_code, ends_in_code]
}

/// The registers as they were.
fn bring_back(asm: &mut Asm<'_>) {
    dynasm!(asm ; .arch x64 ; pop r12 ; pop r11 ; pop r10 ; pop r9 ; pop r8);
}
