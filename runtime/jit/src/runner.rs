//! Native instructions one at a time, for the evaluator: each by a small piece of generated code that loads all state, runs it, and stores
//! the state back.
//!
//! The pieces are kept by instruction; general registers that an instruction names are `r8` to `r10` in it, its memory operand is a
//! buffer.
//!
// UNSAFETY: calls generated code; stores the host's x87 state.
#![expect(unsafe_code, reason = "runs single instructions")]

use std::collections::HashMap;
use std::mem::offset_of;

use dynasmrt::{DynasmApi, dynasm};
use ir::{Native, NativeIo, NativeRunner, NativeState, NativeTrap, Width, simd};

use crate::abi::{STATE_BIAS, reg};
use crate::asm::{Alu, Asm, Mem, state};
use crate::layout::StateLayout;
use crate::native::{Places, encode};
use crate::signal::{self, Registration, TRAPS};
use crate::{CodeBuf, CodeBufError, simd as moves, trampoline};

/// Bytes of code; when they are used up all pieces are dropped.
const CODE: usize = 64 << 10;
/// Bytes a piece may need at most.
const PIECE: usize = 64;
/// Flag bits an instruction may read or write.
const ARITHMETIC: u32 = 0x8D5;

/// What generated code and Rust hand each other.
#[repr(C, align(64))]
struct Context {
    fpu: Area,
    ymm: [[u64; 4]; 16],
    operand: [u8; 64],
    gpr: [u64; 16],
    inputs: [u64; 2],
    out: u64,
    flags: u64,
    mxcsr: u32,
    x87: u32,
    /// 0, or 1 + index of the trap.
    trap: u32,
    /// Unused; the layout names them.
    ready: u32,
    fpu_host: u32,
}

/// An XSAVE area.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Area([u8; 576]);

/// Runs single instructions.
pub struct Runner {
    _traps: Registration,
    buf: CodeBuf,
    known: HashMap<Native, u64>,
    pristine: usize,
    /// Cache offset of the code behind each instruction.
    done: usize,
    context: Box<Context>,
}

impl Runner {
    /// Maps a little code memory.
    ///
    /// # Errors
    /// When it cannot be mapped or the handlers for traps cannot be installed.
    pub fn new() -> Result<Self, CodeBufError> {
        let mut buf = CodeBuf::new(CODE)?;
        let mut asm = Asm::new(buf.free_space());
        emit_in(&mut asm);
        let done = asm.pos();
        let leave = emit_out(&mut asm);
        let mut stubs = [0; TRAPS.len()];
        for (n, stub) in stubs.iter_mut().enumerate() {
            *stub = asm.pos();
            dynasm!(asm ; .arch x64 ; lea rsp, [rsp + 8]);
            asm.store_i(Width::W32, field(offset_of!(Context, trap)), n as i32 + 1);
            let hole = asm.jmp();
            asm.fix32(hole, leave);
        }
        let pristine = asm.pos();
        buf.advance(pristine);
        let (start, end) = (buf.address(0), buf.address(CODE));
        let traps = signal::register(start, end, stubs.map(|at| buf.address(at)), None)?;
        // SAFETY: every field is plain numbers.
        let context: Box<Context> = unsafe { Box::<Context>::new_zeroed().assume_init() };
        Ok(Self { _traps: traps, buf, known: HashMap::new(), pristine, done, context })
    }

    /// Address of the piece for `native`.
    fn piece(&mut self, native: &Native) -> u64 {
        if let Some(&at) = self.known.get(native) {
            return at;
        }
        if self.buf.capacity() - self.buf.used() < PIECE {
            self.buf.truncate(self.pristine);
            self.known.clear();
        }
        let start = self.buf.used();
        let mut asm = Asm::new(self.buf.free_space());
        let places = Places {
            out: reg::R10,
            in0: reg::R8,
            in1: reg::R9,
            mem: field(offset_of!(Context, operand)),
        };
        encode(&mut asm, native, &places);
        let hole = asm.jmp();
        asm.fix_cache(hole, start, self.done);
        let len = asm.pos();
        self.buf.advance(len);
        let at = self.buf.address(start);
        self.known.insert(*native, at);
        at
    }
}

impl NativeRunner for Runner {
    fn run(
        &mut self,
        native: &Native,
        io: &mut NativeIo,
        state: NativeState<'_>,
    ) -> Result<(), NativeTrap> {
        let piece = self.piece(native);
        let c = &mut *self.context;
        let uses_x87 = native.uses & (simd::X87 | simd::MMX | simd::WAIT) != 0;
        c.x87 = uses_x87.into();
        if uses_x87 {
            c.fpu.0 = *state.fpu;
        }
        c.ymm = *state.ymm;
        c.operand = *state.operand;
        c.gpr = *state.gpr;
        c.inputs = io.gpr;
        c.out = io.out;
        c.flags = u64::from(io.flags & ARITHMETIC | 0x202);
        c.mxcsr = *state.mxcsr & 0xFFFF;
        c.trap = 0;
        let at = (&raw mut *c).cast::<u8>();
        // SAFETY: the code at offset 0 takes the context and a piece's address, both made here, and returns by the ABI.
        unsafe { trampoline::enter(self.buf.address(0), at, piece, 0) };
        let c = &*self.context;
        *state.ymm = c.ymm;
        *state.mxcsr = c.mxcsr;
        if uses_x87 {
            *state.fpu = c.fpu.0;
            tidy(state.fpu);
        }
        if let Some(trap) = c.trap.checked_sub(1).and_then(|n| TRAPS.get(n as usize)) {
            return Err(trap.0);
        }
        *state.operand = c.operand;
        if io.implicit {
            let old = *state.gpr;
            *state.gpr = c.gpr;
            state.gpr[4] = old[4];
            state.gpr[8..].copy_from_slice(&old[8..]);
        }
        io.out = c.out;
        io.flags = c.flags as u32 & ARITHMETIC;
        Ok(())
    }

    fn park(&mut self, fpu: &mut [u8; 576]) {
        let mut area = Area(*fpu);
        // SAFETY: the area is aligned and as long as XSAVE needs for x87 state; the host has XSAVE, for `Runner::new` and
        // `Jit::new` run generated code that needs newer features. The x87 state is nobody's but the guest's.
        unsafe {
            std::arch::asm!(
                "xsave64 [{area}]", "fninit",
                area = in(reg) &raw mut area,
                in("eax") 1u32, in("edx") 0u32,
                options(nostack),
            );
        }
        *fpu = area.0;
        tidy(fpu);
    }
}

/// Takes the host's instruction and data pointers and opcode out of an XSAVE area, and says that its x87 part counts.
fn tidy(fpu: &mut [u8; 576]) {
    fpu[6..24].fill(0);
    fpu[512..].fill(0);
    fpu[512] = 1;
}

fn field(at: usize) -> Mem {
    state(at as i32)
}

/// The layout that the shared emitters use.
fn layout() -> StateLayout {
    StateLayout {
        ready: offset_of!(Context, ready) as i32,
        mxcsr: offset_of!(Context, mxcsr) as i32,
        fpu_host: offset_of!(Context, fpu_host) as i32,
        fpu: offset_of!(Context, fpu) as i32,
        ymm: offset_of!(Context, ymm) as i32,
        ..StateLayout::default()
    }
}

/// Registers that keep their numbers: all but the stack pointer and those of the code here.
const KEPT: [u8; 7] = [reg::RAX, reg::RCX, reg::RDX, reg::RBX, reg::RBP, reg::RSI, reg::RDI];

fn gpr(n: u8) -> Mem {
    field(offset_of!(Context, gpr) + 8 * usize::from(n))
}

/// Entry: rdi = context, rsi = piece.
fn emit_in(asm: &mut Asm<'_>) {
    let layout = layout();
    dynasm!(asm
        ; .arch x64
        ; push rbp
        ; push rbx
        ; push r12
        ; push r13
        ; push r14
        ; push r15
        ; sub rsp, 8
        ; lea r14, [rdi + STATE_BIAS]
        ; mov r13, rsi
    );
    asm.alu_mi(Alu::Cmp, Width::W32, field(offset_of!(Context, x87)), 0);
    let without = asm.jcc(ir::Cond::E);
    moves::load_x87(asm, &layout);
    let here = asm.pos();
    asm.fix32(without, here);
    moves::load_vectors(asm, &layout);
    asm.load(Width::W64, reg::R8, field(offset_of!(Context, inputs)));
    asm.load(Width::W64, reg::R9, field(offset_of!(Context, inputs) + 8));
    asm.load(Width::W64, reg::R10, field(offset_of!(Context, out)));
    asm.load(Width::W64, reg::R11, field(offset_of!(Context, flags)));
    dynasm!(asm ; .arch x64 ; push r11 ; popfq);
    for r in KEPT {
        asm.load(Width::W64, r, gpr(r));
    }
    dynasm!(asm ; .arch x64 ; jmp r13);
}

/// Behind the instruction; returns where a trap joins.
fn emit_out(asm: &mut Asm<'_>) -> usize {
    let layout = layout();
    asm.store(Width::W64, field(offset_of!(Context, out)), reg::R10);
    for r in KEPT {
        asm.store(Width::W64, gpr(r), r);
    }
    dynasm!(asm ; .arch x64 ; pushfq ; pop r11);
    asm.store(Width::W64, field(offset_of!(Context, flags)), reg::R11);
    let leave = asm.pos();
    moves::save_vectors(asm, &layout);
    asm.alu_mi(Alu::Cmp, Width::W32, field(offset_of!(Context, x87)), 0);
    let without = asm.jcc(ir::Cond::E);
    asm.mov_ri(Width::W32, reg::RAX, 1);
    asm.mov_ri(Width::W32, reg::RDX, 0);
    // xsave64 [r14 + fpu]
    asm.bytes(&[0x49, 0x0F, 0xAE, 0xA6]);
    asm.dword(layout.fpu - STATE_BIAS);
    dynasm!(asm ; .arch x64 ; fninit);
    asm.store_i(Width::W64, state(layout.fpu + 512), 1);
    let here = asm.pos();
    asm.fix32(without, here);
    dynasm!(asm
        ; .arch x64
        ; add rsp, 8
        ; pop r15
        ; pop r14
        ; pop r13
        ; pop r12
        ; pop rbx
        ; pop rbp
        ; ret
    );
    leave
}
