//! FP and vector state between the guest's state and the host's registers: fixed code, and the op that asks for it.
//!
//! XMM and YMM registers are pinned by number, but lazily: the state's `ready` word says which parts are in host registers.
//! A block tests its bit before its first FP or vector instruction (`SimdEnter`) and calls a thunk if it is clear, which asks the runtime
//! once whether the control registers permit the part and then loads it. The permission is remembered in the word's second byte, so that the
//! runtime is asked again only after it has cleared the word.
//!
//! Around every call into the runtime, and at the epilogue, vector registers and MXCSR go home and the host's MXCSR is loaded, because Rust uses
//! them. The x87 part stays in the host's FPU meanwhile, because Rust does not use it; the runtime stores it at the end of a run.

use dynasmrt::{DynasmApi, dynasm};
use ir::{Cond, Op, Width, simd};

use crate::abi::{STATE_BIAS, reg};
use crate::asm::{Alu, Asm, state};
use crate::compile::{CompileError, Emit};
use crate::layout::{Calls, StateLayout};
use crate::thunks::call_out;

/// Parts in vector registers, as bits of `ready`.
pub(crate) const VECTOR: u8 = simd::SSE | simd::AVX;
/// All parts, one bit each.
const PARTS: usize = 5;
/// The host's MXCSR: what the ABI promises Rust.
const HOST_MXCSR: i32 = 0x1F80;

/// Offsets of the fixed code.
#[derive(Clone, Default)]
pub(crate) struct SimdThunks {
    /// Vector state home.
    save: usize,
    /// Vector state to registers.
    load: usize,
    /// A block's check, by bit number of the part; called.
    enter: [usize; PARTS],
    /// The same where the part need not be in registers.
    permit: [usize; PARTS],
}

impl SimdThunks {
    /// Saves and restores; calls of `save` in `early` (holes emitted before it existed) are filled.
    pub(crate) fn emit_moves(&mut self, asm: &mut Asm<'_>, layout: &StateLayout, early: usize) {
        self.save = asm.pos();
        save_vectors(asm, layout);
        asm.byte(0xC3);
        asm.fix32(early, self.save);
        self.load = asm.pos();
        // Reserved bits would fault; the guest cannot set them.
        asm.alu_mi(Alu::And, Width::W32, state(layout.mxcsr), 0xFFFF);
        load_vectors(asm, layout);
        asm.byte(0xC3);
    }

    /// Before a call into the runtime: vector state home, if it is in registers. Clobbers flags.
    pub(crate) fn save_if_ready(&self, asm: &mut Asm<'_>, layout: &StateLayout) {
        call_if(asm, layout, self.save);
    }
    /// Behind a call into the runtime that goes on. Clobbers flags.
    pub(crate) fn load_if_ready(&self, asm: &mut Asm<'_>, layout: &StateLayout) {
        call_if(asm, layout, self.load);
    }

    /// The checks that blocks call.
    pub(crate) fn emit_enter(
        &mut self,
        asm: &mut Asm<'_>,
        layout: &StateLayout,
        calls: Calls,
        epilogue: usize,
    ) {
        let ask = asm.pos();
        call_out(asm, layout, self, calls.simd_enter, true, epilogue);
        for n in 0..PARTS {
            self.enter[n] = asm.pos();
            self.emit_part(asm, layout, 1 << n, ask);
            self.permit[n] = asm.pos();
            ask_if_unknown(asm, layout, 1 << n, ask);
            asm.byte(0xC3);
        }
    }

    fn emit_part(&self, asm: &mut Asm<'_>, layout: &StateLayout, part: u8, ask: usize) {
        let ready = layout.ready - STATE_BIAS;
        let part_i8 = part.cast_signed();
        dynasm!(asm ; .arch x64 ; test BYTE [r14 + ready], BYTE part_i8);
        let missing = asm.jcc8(Cond::E);
        asm.byte(0xC3);
        let here = asm.pos();
        asm.fix8(missing, here);
        ask_if_unknown(asm, layout, part, ask);
        let loaded = if part & VECTOR != 0 {
            dynasm!(asm ; .arch x64 ; test BYTE [r14 + ready], BYTE VECTOR.cast_signed());
            let loaded = asm.jcc(Cond::Ne);
            let hole = asm.call();
            asm.fix32(hole, self.load);
            loaded
        } else {
            asm.alu_mi(Alu::Cmp, Width::W32, state(layout.fpu_host), 0);
            let loaded = asm.jcc(Cond::Ne);
            load_x87(asm, layout);
            loaded
        };
        let here = asm.pos();
        asm.fix32(loaded, here);
        dynasm!(asm ; .arch x64 ; or BYTE [r14 + ready], BYTE part_i8 ; ret);
    }
}

/// Asks the runtime for leave to use a part, by the code at `ask`, unless it has been given.
fn ask_if_unknown(asm: &mut Asm<'_>, layout: &StateLayout, part: u8, ask: usize) {
    let ready = layout.ready - STATE_BIAS;
    dynasm!(asm ; .arch x64 ; test BYTE [r14 + ready + 1], BYTE part.cast_signed());
    let permitted = asm.jcc8(Cond::Ne);
    asm.store_i(Width::W32, state(layout.meta), part.into());
    let hole = asm.call();
    asm.fix32(hole, ask);
    let here = asm.pos();
    asm.fix8(permitted, here);
}

/// Forgets that vector state is in registers: the state's copy is what counts.
pub(crate) fn forget_vectors(asm: &mut Asm<'_>, layout: &StateLayout) {
    let ready = layout.ready - STATE_BIAS;
    dynasm!(asm ; .arch x64 ; and BYTE [r14 + ready], BYTE (!VECTOR).cast_signed());
}

/// In the epilogue: vector state home for good, by the save thunk, whose place is not known yet: a hole for it comes back.
pub(crate) fn leave(asm: &mut Asm<'_>, layout: &StateLayout) -> usize {
    let ready = layout.ready - STATE_BIAS;
    dynasm!(asm ; .arch x64 ; test BYTE [r14 + ready], BYTE VECTOR.cast_signed());
    let nothing = asm.jcc8(Cond::E);
    let hole = asm.call();
    forget_vectors(asm, layout);
    let here = asm.pos();
    asm.fix8(nothing, here);
    hole
}

fn call_if(asm: &mut Asm<'_>, layout: &StateLayout, target: usize) {
    let ready = layout.ready - STATE_BIAS;
    dynasm!(asm ; .arch x64 ; test BYTE [r14 + ready], BYTE VECTOR.cast_signed());
    let nothing = asm.jcc8(Cond::E);
    let hole = asm.call();
    asm.fix32(hole, target);
    let here = asm.pos();
    asm.fix8(nothing, here);
}

/// Vector registers and MXCSR home; the host's MXCSR.
pub(crate) fn save_vectors(asm: &mut Asm<'_>, layout: &StateLayout) {
    let avx = std::arch::is_x86_feature_detected!("avx");
    vector_registers(asm, layout, avx, true);
    mxcsr(asm, layout, true);
    dynasm!(asm ; .arch x64 ; push HOST_MXCSR ; ldmxcsr [rsp] ; lea rsp, [rsp + 8]);
    if avx {
        dynasm!(asm ; .arch x64 ; vzeroupper);
    }
}

/// Vector registers and MXCSR from the state. Clobbers flags.
///
/// Where all upper halves are 0 the host is to know that they are: a legacy SSE instruction keeps the upper half of its
/// destination, so otherwise each would wait for what its destination held before.
#[expect(clippy::useless_conversion, reason = "dynasm! converts register numbers")]
pub(crate) fn load_vectors(asm: &mut Asm<'_>, layout: &StateLayout) {
    mxcsr(asm, layout, false);
    if !std::arch::is_x86_feature_detected!("avx") {
        return vector_registers(asm, layout, false, false);
    }
    for n in 0..16 {
        let upper = layout.ymm + 32 * n + 16 - STATE_BIAS;
        if n == 0 {
            dynasm!(asm ; .arch x64 ; vmovaps xmm0, [r14 + upper]);
        } else {
            dynasm!(asm ; .arch x64 ; vorps xmm0, xmm0, [r14 + upper]);
        }
    }
    dynasm!(asm ; .arch x64 ; vptest xmm0, xmm0);
    let used = asm.jcc(Cond::Ne);
    for n in 0..16u8 {
        let at = layout.ymm + 32 * i32::from(n) - STATE_BIAS;
        dynasm!(asm ; .arch x64 ; vmovaps Rx(n), [r14 + at]);
    }
    dynasm!(asm ; .arch x64 ; vzeroupper);
    let done = asm.jmp();
    let here = asm.pos();
    asm.fix32(used, here);
    vector_registers(asm, layout, true, false);
    let here = asm.pos();
    asm.fix32(done, here);
}

/// x87 state from the state's area into the host's FPU.
pub(crate) fn load_x87(asm: &mut Asm<'_>, layout: &StateLayout) {
    asm.store_i(Width::W64, state(layout.fpu + 512), 1);
    dynasm!(asm ; .arch x64 ; push rax ; push rdx);
    asm.mov_ri(Width::W32, reg::RAX, 1);
    asm.mov_ri(Width::W32, reg::RDX, 0);
    // xrstor64 [r14 + fpu]
    asm.bytes(&[0x49, 0x0F, 0xAE, 0xAE]);
    asm.dword(layout.fpu - STATE_BIAS);
    dynasm!(asm ; .arch x64 ; pop rdx ; pop rax);
    asm.store_i(Width::W32, state(layout.fpu_host), 1);
}

/// All vector registers, whole, to or from the state.
fn vector_registers(asm: &mut Asm<'_>, layout: &StateLayout, avx: bool, store: bool) {
    let op = if store { 0x29 } else { 0x28 };
    for n in 0..16u8 {
        let modrm = 0x86 | (n & 7) << 3;
        if avx {
            // vmovaps, 256 bits, base r14
            asm.bytes(&[0xC4, if n < 8 { 0xC1 } else { 0x41 }, 0x7C, op, modrm]);
        } else {
            asm.bytes(&[0x41 | (n >> 3) << 2, 0x0F, op, modrm]);
        }
        asm.dword(layout.ymm + 32 * i32::from(n) - STATE_BIAS);
    }
}

fn mxcsr(asm: &mut Asm<'_>, layout: &StateLayout, store: bool) {
    asm.bytes(&[0x41, 0x0F, 0xAE, if store { 0x9E } else { 0x96 }]);
    asm.dword(layout.mxcsr - STATE_BIAS);
}

impl Emit<'_> {
    /// The parts in the op's mask are there, or the guest faults.
    pub(crate) fn simd_enter(&mut self, op: &Op) -> Result<(), CompileError> {
        let missing = op.x & !self.simd;
        if missing == 0 {
            return Ok(());
        }
        let redo = self.before_look()?;
        let is_anywhere = op.y != 0;
        if !is_anywhere {
            self.simd |= missing;
        }
        let thunks = &self.thunks.simd;
        let targets = if is_anywhere { thunks.permit } else { thunks.enter };
        for n in (0..PARTS).filter(|n| missing >> n & 1 != 0) {
            let target = targets[n];
            let there = if self.hot {
                let word = self.layout.ready - STATE_BIAS;
                let (ready, part) = (word + i32::from(is_anywhere), 1i8 << n);
                let asm = &mut self.asm;
                dynasm!(asm ; .arch x64 ; test BYTE [r14 + ready], BYTE part);
                Some(self.asm.jcc8(Cond::Ne))
            } else {
                None
            };
            if let Some(redo) = &redo {
                self.save_redone(redo);
            }
            let hole = self.asm.call();
            self.asm.fix_cache(hole, self.start, target);
            if let Some(there) = there {
                let here = self.asm.pos();
                self.asm.fix8(there, here);
            }
        }
        Ok(())
    }
}
