//! The slow obvious evaluator: runs a block op by op against a `Guest`.
//!
//! It is the oracle for the optimiser and the JIT, so it does nothing clever: no caching, every flag by
//! its definition (`alu`). Temporaries hold their value zero-extended; guest registers merge by the rules
//! of `Val`. Flags an op was not asked for keep their value.

mod alu;
mod bits;
mod mul;
mod shift;
mod undefined;

pub use alu::{Alu, alu};
pub use undefined::Undefined;

use crate::op::SPAN_SLOT;
use crate::{AccessKind, Block, Code, Cond, Native, NativeIo, Op, Scratch, Val, Width};

/// What the evaluator runs on: the guest's registers, state, memory and helpers.
pub trait Guest {
    /// Why evaluation stopped early: a guest fault or an exit a helper asked for.
    type Stop: Copy;
    /// General register `n` (0..16), all 64 bits.
    fn gpr(&self, n: u8) -> u64;
    /// Sets all 64 bits of general register `n`.
    fn set_gpr(&mut self, n: u8, v: u64);
    /// The six arithmetic flags in EFLAGS positions.
    fn flags(&self) -> u32;
    /// Sets the six arithmetic flags.
    fn set_flags(&mut self, v: u32);
    /// Reads a state field.
    fn ld_env(&self, off: u32, w: Width) -> u64;
    /// Writes a state field.
    fn st_env(&mut self, off: u32, w: Width, v: u64);
    /// The instruction pointer value of a page offset of this block's page.
    fn read_pc(&self, page_off: i32) -> u64;
    /// Loads guest memory.
    fn load(&mut self, seg: u8, off: u64, w: Width) -> Result<u64, Self::Stop>;
    /// Stores to guest memory.
    fn store(&mut self, seg: u8, off: u64, w: Width, v: u64) -> Result<(), Self::Stop>;
    /// Checks `size` bytes for an access and returns an opaque pointer for `ld_ptr` and `st_ptr`.
    fn probe(&mut self, seg: u8, off: u64, size: u32, kind: AccessKind) -> Result<u64, Self::Stop>;
    /// The same for an operand that faults unless its address is a multiple of its size.
    fn probe_aligned(
        &mut self,
        seg: u8,
        off: u64,
        size: u32,
        kind: AccessKind,
    ) -> Result<u64, Self::Stop> {
        unreachable!(
            "a guest without FP state is asked for {size} aligned bytes at {seg}:{off:#x}, {kind:?}"
        )
    }
    /// Loads through a pointer that `probe` returned.
    fn ld_ptr(&mut self, p: u64, disp: i32, w: Width) -> u64;
    /// Stores through a pointer that `probe` returned.
    fn st_ptr(&mut self, p: u64, disp: i32, w: Width, v: u64);
    /// Runs helper `id`.
    fn call(&mut self, id: u32, args: [u64; 4]) -> Result<u64, Self::Stop>;
    /// Makes parts of FP and vector state (bits of `simd`) available, or faults.
    fn simd_enter(&mut self, uses: u8) -> Result<(), Self::Stop> {
        unreachable!("a guest without FP state is asked for {uses:#x}")
    }
    /// Runs a native instruction on the guest's state.
    fn native(&mut self, native: &Native, io: &mut NativeIo) -> Result<(), Self::Stop> {
        unreachable!("a guest without FP state is asked for {native:?} {io:?}")
    }
    /// Makes the fault `what` with an error code.
    fn raise(&mut self, what: u32, code: u64) -> Self::Stop;
    /// A guest insn begins.
    fn insn_start(&mut self, page_off: u32, len: u8) {
        let _ = (page_off, len);
    }
}

/// How a block ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End<S> {
    /// `goto_tb`: continue at a page offset of this page.
    GotoTb {
        /// Slot 0 or 1, `SIDE_SLOT` or `SPAN_SLOT`.
        slot: u8,
        /// Page offset of the next block.
        page_off: u32,
        /// Backward: poll for interrupts.
        backward: bool,
    },
    /// `goto_ptr`: continue at this instruction pointer.
    GotoPtr(u64),
    /// `exit_tb`.
    Exit {
        /// See `exit`.
        code: u32,
        /// The instruction pointer, if the op gave one.
        pc: Option<u64>,
    },
    /// A guest fault, or a helper that leaves.
    Stop(S),
}

/// Runs a block to its end. The block must pass `verify`; one that runs off its end is a bug and panics.
pub fn run<G: Guest>(block: &Block, g: &mut G, scratch: &mut Scratch) -> End<G::Stop> {
    scratch.temps.clear();
    scratch.temps.resize(block.temps.len(), 0);
    find_labels(block, &mut scratch.labels);
    let mut frame =
        Frame { block, g, temps: &mut scratch.temps, labels: &scratch.labels, page_off: 0 };
    let mut at = 0;
    loop {
        let Some(op) = block.ops.get(at) else {
            unreachable!("a verified block has an end on every path");
        };
        match frame.step(op) {
            Step::Next => at += 1,
            Step::Jump(to) => at = to,
            Step::End(end) => return end,
        }
    }
}

/// Fills `labels` with the index of each label's op.
pub(crate) fn find_labels(block: &Block, labels: &mut Vec<u32>) {
    labels.clear();
    labels.resize(block.labels as usize, u32::MAX);
    if block.labels == 0 {
        return;
    }
    for (n, op) in block.ops.iter().enumerate() {
        if op.code == Code::Label
            && let Some(slot) = labels.get_mut(op.imm as usize)
        {
            *slot = n as u32;
        }
    }
}

/// Compares two integers of width `w`.
pub fn compare(cond: Cond, w: Width, a: u64, b: u64) -> bool {
    let flags = alu(Code::Sub, w, a, b, 0, 0).map_or(0, |r| r.flags);
    cond.holds(flags)
}

enum Step<S> {
    Next,
    Jump(usize),
    End(End<S>),
}

struct Frame<'a, G: Guest> {
    block: &'a Block,
    g: &'a mut G,
    temps: &'a mut [u64],
    labels: &'a [u32],
    /// Page offset of the current insn.
    page_off: u32,
}

impl<G: Guest> Frame<'_, G> {
    fn step(&mut self, op: &Op) -> Step<G::Stop> {
        match op.code {
            Code::InsnStart => {
                self.page_off = op.imm;
                self.g.insn_start(op.imm, op.x);
            }
            Code::Label | Code::Bulk => {}
            Code::Br => return self.jump(op),
            Code::Brcond => {
                if compare(op.cond(), op.w, self.read(op.a, op.w), self.read(op.b, op.w)) {
                    return self.jump(op);
                }
            }
            Code::Jccf => {
                if op.cond().holds(self.g.flags()) {
                    return self.jump(op);
                }
            }
            Code::Ld | Code::St | Code::Ptr | Code::LdH | Code::StH | Code::Call => {
                if let Err(stop) = self.access(op) {
                    return Step::End(End::Stop(stop));
                }
            }
            Code::Span => return self.span(op),
            Code::Look => {
                let target = self.read(op.a, op.w);
                if !matches!(target.cast_signed() >> 47, 0 | -1) {
                    return Step::End(End::Stop(self.g.raise(op.imm, 0)));
                }
                self.write(op.d, op.w, 0);
            }
            Code::SimdEnter => {
                if let Err(stop) = self.g.simd_enter(op.x) {
                    return Step::End(End::Stop(stop));
                }
            }
            Code::Native => {
                if let Err(stop) = self.native(op) {
                    return Step::End(End::Stop(stop));
                }
            }
            Code::Raise | Code::GotoTb | Code::GotoPtr | Code::ExitTb => {
                return Step::End(self.end(op));
            }
            Code::LdEnv => {
                let v = self.g.ld_env(op.imm, op.w);
                self.write(op.d, op.w, v);
            }
            Code::StEnv => {
                let v = self.read(op.a, op.w);
                self.g.st_env(op.imm, op.w, v);
            }
            Code::ReadPc => {
                let v = self.g.read_pc(op.imm.cast_signed());
                self.write(op.d, op.w, v);
            }
            // The evaluator has no counter.
            Code::Ticks => self.write(op.d, op.w, u64::MAX),
            _ => self.compute(op),
        }
        Step::Next
    }

    fn jump(&self, op: &Op) -> Step<G::Stop> {
        match self.labels.get(op.imm as usize) {
            Some(&at) if at != u32::MAX => Step::Jump(at as usize + 1),
            _ => unreachable!("a verified block sets every label it jumps to"),
        }
    }

    fn end(&mut self, op: &Op) -> End<G::Stop> {
        match op.code {
            Code::Raise => {
                let code = self.read(op.a, op.w);
                End::Stop(self.g.raise(op.imm, code))
            }
            Code::GotoTb => End::GotoTb { slot: op.x, page_off: op.imm, backward: op.y != 0 },
            Code::GotoPtr => End::GotoPtr(self.read(op.a, op.w)),
            _ => {
                let pc = if op.a.is_none() { None } else { Some(self.read(op.a, op.w)) };
                End::Exit { code: op.imm, pc }
            }
        }
    }

    /// Guest memory and helpers.
    fn access(&mut self, op: &Op) -> Result<(), G::Stop> {
        let shape = op.code.shape();
        let a = self.read(op.a, op.width_of(shape.a));
        match op.code {
            Code::Ld => {
                let v = self.g.load(op.x, a, op.w)?;
                self.write(op.d, op.w, v);
            }
            Code::St => {
                let v = self.read(op.b, op.w);
                self.g.store(op.x, a, op.w, v)?;
            }
            Code::Ptr => {
                let kind = op.access_kind();
                let bytes = op.access_bytes();
                let p = if op.is_aligned() {
                    self.g.probe_aligned(op.x, a, bytes, kind)?
                } else {
                    self.g.probe(op.x, a, bytes, kind)?
                };
                self.write(op.d, Width::W64, p);
            }
            Code::LdH => {
                let v = self.g.ld_ptr(a, op.imm.cast_signed(), op.w);
                self.write(op.d, op.w, v);
            }
            Code::StH => {
                let v = self.read(op.b, op.w);
                self.g.st_ptr(a, op.imm.cast_signed(), op.w, v);
            }
            _ => {
                let args = [op.a, op.b, op.c, op.e].map(|v| self.read(v, Width::W64));
                let v = self.g.call(op.imm, args)?;
                self.write(op.d, op.w, v);
            }
        }
        Ok(())
    }

    /// Bytes that several accesses share: a pointer to all of them, or none of them is accessed here.
    fn span(&mut self, op: &Op) -> Step<G::Stop> {
        let kind = if op.span_writes() { AccessKind::Rw } else { AccessKind::R };
        let a = self.read(op.a, op.width_of(op.code.shape().a));
        let is_aligned = a & ((1 << op.span_align()) - 1) == 0;
        let fits = a % 4096 + u64::from(op.span_bytes()) <= 4096;
        let found = match is_aligned && fits {
            true => self.g.probe(op.x, a, op.span_bytes(), kind).ok(),
            false => None,
        };
        let Some(p) = found else {
            let page_off = self.page_off;
            return Step::End(End::GotoTb { slot: SPAN_SLOT, page_off, backward: false });
        };
        self.write(op.d, Width::W64, p);
        Step::Next
    }

    /// A native instruction: the guest runs it.
    fn native(&mut self, op: &Op) -> Result<(), G::Stop> {
        let Some(native) = self.block.native_of(op) else {
            unreachable!("a verified block has every native instruction it names");
        };
        let pointer = self.read(op.a, Width::W64);
        let mut io = NativeIo {
            gpr: [self.read(op.b, op.w), self.read(op.c, op.w)],
            out: if op.reads_result() { self.read(op.d, Width::W64) } else { 0 },
            flags: self.g.flags(),
            mem: native.has_memory().then_some(pointer),
            kind: native.access,
            size: native.mem_bytes.into(),
            implicit: op.is_implicit(),
        };
        self.g.native(native, &mut io)?;
        self.write(op.d, op.w, io.out);
        self.merge_flags(op, io.flags);
        Ok(())
    }

    /// Ops that only make values and flags.
    fn compute(&mut self, op: &Op) {
        let shape = op.code.shape();
        let a = self.read(op.a, op.width_of(shape.a));
        let b = self.read(op.b, op.width_of(shape.b));
        let c = self.read(op.c, op.width_of(shape.c));
        let flags = self.g.flags();
        let d = match op.code {
            Code::Mov | Code::Extu => a,
            Code::Exts => alu::sign_extend(Width::from_code(op.x), a),
            Code::Lea => op.address(a, b),
            Code::Setcond => u64::from(compare(op.cond(), op.w, a, b)),
            Code::Movcond => {
                if compare(op.cond(), op.w, a, b) {
                    c
                } else {
                    self.read(op.e, op.w)
                }
            }
            Code::Setccf => u64::from(op.cond().holds(flags)),
            Code::Cmovf => {
                if op.cond().holds(flags) {
                    a
                } else {
                    b
                }
            }
            Code::Getf => u64::from(flags & alu::ALL),
            Code::Putf => {
                self.merge_flags(op, a as u32);
                return;
            }
            code => {
                let Some(mut r) = alu(code, op.w, a, b, c, flags) else {
                    unreachable!("every other code is arithmetic");
                };
                if op.b.as_pool().is_some() && Undefined::of_host().tells_constant_rotates(code) {
                    let kept = op.flags_kept(&self.block.pool).eflags();
                    r.flags = r.flags & !kept | flags & kept;
                }
                self.write(op.d, op.d_width(), r.d);
                if let Some(e) = op.second_result() {
                    self.write(e, op.w, r.e);
                }
                self.merge_flags(op, r.flags);
                return;
            }
        };
        self.write(op.d, op.d_width(), d);
    }

    fn merge_flags(&mut self, op: &Op, new: u32) {
        let asked = op.flags_asked().eflags();
        if asked != 0 {
            let old = self.g.flags();
            self.g.set_flags(old & !asked | new & asked);
        }
    }

    fn read(&self, v: Val, w: Width) -> u64 {
        let whole = if let Some(n) = v.as_gpr() {
            self.g.gpr(n)
        } else if let Some(n) = v.as_high() {
            self.g.gpr(n) >> 8 & 0xFF
        } else if let Some(n) = v.as_temp() {
            self.temps.get(usize::from(n)).copied().unwrap_or(0)
        } else {
            self.block.const_of(v).unwrap_or(0)
        };
        whole & w.mask()
    }

    fn write(&mut self, to: Val, w: Width, v: u64) {
        let v = v & w.mask();
        if let Some(n) = to.as_gpr() {
            let old = self.g.gpr(n);
            let merged = match w {
                Width::W8 | Width::W16 => old & !w.mask() | v,
                Width::W32 | Width::W64 => v,
            };
            self.g.set_gpr(n, merged);
        } else if let Some(n) = to.as_high() {
            let old = self.g.gpr(n);
            self.g.set_gpr(n, old & !0xFF00 | (v & 0xFF) << 8);
        } else if let Some(n) = to.as_temp()
            && let Some(slot) = self.temps.get_mut(usize::from(n))
        {
            *slot = v;
        }
    }
}
