//! The driver: one block of IR in, one stretch of host code out.

use std::ops::Range;

use ir::{Block, Code, Cond, FlagMask, Op, Val, Width};
use thiserror::Error;

use crate::abi;
use crate::asked::Asked;
use crate::asm::{Alu, Asm, state};
use crate::compiler::Lists;
use crate::flags::FlagFacts;
use crate::homes::Pending;
use crate::layout::{SegPolicy, StateLayout};
use crate::memory::Fused;
use crate::recipe::{Recipe, Redo};
use crate::regs::{Ahead, Loc, Regs, Spill, slot_mem};
use crate::thunks::{Thunks, Wish};

/// Why a block was not compiled.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum CompileError {
    /// The code cache is full: flush it and try again.
    #[error("code cache full")]
    Full,
    /// The block needs more scratch registers than there are: evaluate it.
    #[error("out of scratch registers")]
    Registers,
    /// There are no ops of the unit with this number, and its code is not known: lower it.
    #[error("unit {0} is wanted")]
    Unlowered(usize),
    /// An operand combination the emitter has no form for: evaluate the block.
    #[error("no host form for op {0}")]
    Form(usize),
}

/// One direct exit of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Cache offset of its five bytes: a call out while unlinked, a jump when linked.
    pub site: u32,
    /// Cache offset behind the call with which its interrupt check leaves, 0 if it has none.
    pub poll: u32,
    /// Page offset it goes to.
    pub page_offset: u32,
    /// The op's slot number, `ir::SIDE_SLOT` for one out of the middle, `ir::SPAN_SLOT` for a span's exit.
    pub slot: u8,
    /// Backward: the target must be entered by way of the run loop's interrupt check unless the exit has one itself.
    pub backward: bool,
}

const _: () = assert!(size_of::<Exit>() == 16, "a boot makes a quarter of a million");

/// Bytes of an exit.
pub(crate) const EXIT_LEN: u32 = 5;

impl Exit {
    /// Does it leave with a `host_ret` at this cache offset: unlinked ([`crate::Jit::LINK`]), or by its interrupt check?
    pub fn leaves_at(&self, at: usize) -> bool {
        at == (self.site + EXIT_LEN) as usize || at == self.poll as usize
    }
    /// Must it look for interrupts, and count, on its way to a block, because it does not do so itself?
    pub fn counts_turns(&self) -> bool {
        self.backward && self.poll == 0
    }
}

/// What came out.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    /// Cache offset of the entry. The state's `pc_base` must be that of the block's page.
    pub entry: usize,
    /// Cache offset of the end.
    pub end: usize,
    /// Cache offset of the entry for indirect jumps, if one was asked for.
    pub far: Option<usize>,
    /// Direct exits, in code order.
    pub exits: Vec<Exit>,
    /// Where the code of each guest insn begins, ascending; cold code is marked the same way.
    pub insns: Vec<InsnMark>,
}

impl Clone for Compiled {
    fn clone(&self) -> Self {
        let mut new = Self::default();
        new.clone_from(self);
        new
    }
    // Into the memory that is there.
    fn clone_from(&mut self, from: &Self) {
        let Self { entry, end, far, exits, insns } = from;
        (self.entry, self.end, self.far) = (*entry, *end, *far);
        self.exits.clone_from(exits);
        self.insns.clone_from(insns);
    }
}

/// From here on the host code belongs to this guest insn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InsnMark {
    /// Host offset from the block's entry.
    pub at: u32,
    /// Page offset of the insn.
    pub page_offset: u16,
    /// How many insns of the block come behind it.
    pub behind: u16,
}

/// How much code to spend on a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tier {
    /// Small and quick to make: memory accesses, flag moves and indirect jumps by calls.
    Compact,
    /// All of it inline.
    Hot,
}

/// What to compile.
pub struct Request<'a> {
    /// The ops.
    pub block: &'a Block,
    /// Segment access forms, by segment number.
    pub seg: [SegPolicy; 6],
    /// Page offset of the block's first insn.
    pub page_offset: u32,
    /// How much code to spend.
    pub tier: Tier,
    /// Flags live at the two direct exits.
    pub exit_flags: [FlagMask; 2],
    /// Takes its insns off the state's budget first, and leaves ([`crate::Jit::BUDGET`]) if they are too many.
    pub counted: bool,
    /// It is known to be jumped to indirectly: an entry for that stands before it.
    pub far: Option<Far>,
    /// State may be brought home when a native instruction traps, and not before.
    pub late_traps: bool,
    /// Most of its accesses are to pages whose addend is the usual one.
    pub guesses: bool,
}

/// How indirect jumps enter a block: they bring the instruction pointer in [`abi::PC`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Far {
    /// Width of the instruction pointer, 32 or 64 bits; bits beyond that do not matter.
    pub pc_width: Width,
    /// Leaves as a miss when other threads ask for it: what entry 0 of a jump table leads to must.
    pub polls: bool,
}

/// A rel32 to be filled when its label is known.
pub(crate) struct Hole {
    pub(crate) at: usize,
    pub(crate) label: u32,
    /// One byte instead of four.
    pub(crate) short: bool,
}

/// A check before several accesses, which leaves at the start of its insn if it does not hold.
pub(crate) struct Bail {
    pub(crate) holes: [usize; 2],
    /// The second look whose branch leads here, too.
    pub(crate) second: Option<usize>,
    /// Page offset of the insn, and how many come behind.
    pub(crate) insn: (u16, u16),
    /// The flags, if they are not home.
    pub(crate) flags: Option<Redo>,
    /// Guest registers to be stored first.
    pub(crate) ahead: Ahead,
}

/// One compilation under way.
pub(crate) struct Emit<'a> {
    pub(crate) asm: Asm<'a>,
    pub(crate) block: &'a Block,
    pub(crate) layout: &'a StateLayout,
    pub(crate) thunks: &'a Thunks,
    pub(crate) facts: &'a mut FlagFacts,
    pub(crate) regs: &'a mut Regs,
    pub(crate) hot: bool,
    pub(crate) seg: [SegPolicy; 6],
    pub(crate) exit_flags: [FlagMask; 2],
    /// Cache offset of the first byte.
    pub(crate) start: usize,
    /// Index of the current op.
    pub(crate) at: usize,
    /// Index of the first op that does not belong to what is emitted.
    pub(crate) ops_end: usize,
    /// The state's copy of the flags is current.
    pub(crate) flags_home: bool,
    /// EFLAGS hold the current flags.
    pub(crate) flags_host: bool,
    /// How the current flags can be made again.
    pub(crate) recipe: Option<Recipe>,
    /// How those of the op under way can be, once it is done.
    pub(crate) prepared: Option<Recipe>,
    /// Behind this op EFLAGS hold these flags of its own, but not those it kept.
    pub(crate) partial: Option<(usize, FlagMask)>,
    /// Flags may be made again instead of kept.
    pub(crate) remakes: bool,
    /// See [`Request::late_traps`].
    pub(crate) late_traps: bool,
    /// See [`Request::guesses`].
    pub(crate) guesses: bool,
    pub(crate) out: &'a mut Compiled,
    pub(crate) lists: &'a mut Lists,
    pub(crate) page_offset: u16,
    pub(crate) counted: bool,
    /// Page offset of the block's first insn.
    pub(crate) first_offset: u16,
    /// Insns of a counted block behind the current one.
    pub(crate) behind: u16,
    /// Guest registers without a host register that the current op computes in a scratch register.
    pub(crate) pending: [Option<Pending>; 2],
    /// A load whose memory operand the next op takes directly.
    pub(crate) fused: Option<Fused>,
    /// Parts of FP and vector state that are surely ready here.
    pub(crate) simd: u8,
    /// Code is made unit by unit, and may be kept.
    pub(crate) by_units: bool,
    /// What the code of the unit at hand has rested on so far.
    pub(crate) asked: Asked,
}

/// Where an operand is, ready for an instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Src {
    /// Host register, or 16..20 for AH CH DH BH.
    Reg(u8),
    /// Constant, sign-extended from the op's width.
    Imm(i64),
}

impl Emit<'_> {
    pub(crate) fn body(&mut self) -> Result<(), CompileError> {
        let labels = self.block.labels as usize;
        self.lists.labels.resize(labels, usize::MAX);
        let hole = self.counted.then(|| self.take_budget());
        self.ops(0..self.block.ops.len())?;
        if let Some((hole, all)) = hole {
            let here = self.asm.pos();
            self.asm.fix32(hole, here);
            self.mark(self.first_offset, all.saturating_sub(1));
            let hole = self.asm.call();
            self.asm.fix_cache(hole, self.start, self.thunks.exit_budget);
        }
        Ok(())
    }
    /// Emits some of the block's ops.
    pub(crate) fn ops(&mut self, ops: Range<usize>) -> Result<(), CompileError> {
        self.ops_end = ops.end;
        for i in ops {
            self.at = i;
            let op = self.block.ops[i];
            if op.code == Code::InsnStart {
                self.page_offset = op.imm as u16;
                self.behind = self.insns_behind(self.page_offset);
                self.mark(self.page_offset, self.behind);
                continue;
            }
            if self.regs.is_any_ahead() && (self.looks_at_homes(&op) || self.leads_to_branch(i)) {
                self.store_homes();
            }
            self.keep_fused();
            self.load_whole(&op)?;
            self.op(&op)?;
            if self.pending[0].is_some() {
                self.store_results();
            }
            self.regs.end_op(i, &op);
            self.end_loans(i);
        }
        Ok(())
    }
    /// The address that the op takes over from the one before it stays in its registers, even where a temporary in one of them
    /// lives on and could be put away.
    fn keep_fused(&mut self) {
        if let Some(Fused { mem, .. }) = self.fused {
            self.regs.lock(mem.base);
            self.regs.lock(mem.index.unwrap_or(mem.base));
        }
    }
    /// How many insns of a counted block come behind the one at a page offset.
    fn insns_behind(&self, page_offset: u16) -> u16 {
        (self.lists.starts.len() - self.lists.starts.partition_point(|&at| at <= page_offset))
            as u16
    }
    /// Takes the block's insns off the budget; returns the hole of the branch to be taken if they are too many, and their number.
    fn take_budget(&mut self) -> (usize, u16) {
        // Out-of-line parts name their insns again.
        for op in self.block.ops.iter().filter(|op| op.code == Code::InsnStart) {
            if self.lists.starts.last().is_none_or(|&last| last < op.imm as u16) {
                self.lists.starts.push(op.imm as u16);
            }
        }
        let all = self.lists.starts.len() as u16;
        self.asm.alu_mi(Alu::Sub, Width::W32, state(self.layout.budget), i32::from(all));
        (self.asm.jcc(Cond::S), all)
    }
    pub(crate) fn finish(&mut self) -> Result<(), CompileError> {
        self.second_looks();
        self.span_exits();
        self.poll_exits();
        self.trap_stubs();
        self.slow_paths();
        self.fill_holes(0)
    }
    /// Fills the holes from a number on with the places of their labels.
    pub(crate) fn fill_holes(&mut self, from: usize) -> Result<(), CompileError> {
        for hole in &self.lists.holes[from..] {
            let target = self.lists.labels.get(hole.label as usize).copied().unwrap_or(usize::MAX);
            if target == usize::MAX {
                return Err(CompileError::Form(self.at));
            }
            if hole.short {
                self.asm.fix8(hole.at, target);
            } else {
                self.asm.fix32(hole.at, target);
            }
        }
        Ok(())
    }
    /// The call with its hole here wants a thunk.
    pub(crate) fn want(&mut self, wish: Wish, hole: usize) {
        self.lists.wants.push((wish, hole));
    }
    /// Notes which guest insn the code from here on belongs to.
    pub(crate) fn mark(&mut self, page_offset: u16, behind: u16) {
        let at = self.asm.pos() as u32;
        let new = InsnMark { at, page_offset, behind };
        match self.out.insns.last_mut() {
            Some(last) if last.page_offset == page_offset => {}
            Some(last) if last.at == at => *last = new,
            _ => self.out.insns.push(new),
        }
    }
    fn op(&mut self, op: &Op) -> Result<(), CompileError> {
        self.note_asked(op.code);
        match op.code {
            Code::Label | Code::Br | Code::Brcond | Code::Jccf => self.branch(op),
            Code::GotoTb | Code::GotoPtr | Code::ExitTb | Code::Raise | Code::Call | Code::Look => {
                self.control(op)
            }
            Code::Ld | Code::St | Code::Ptr | Code::Span | Code::LdH | Code::StH => self.memory(op),
            Code::SimdEnter => self.simd_enter(op),
            Code::Native => self.native(op),
            Code::Bulk => self.bulk(op),
            Code::LdEnv | Code::StEnv | Code::ReadPc => self.env(op),
            Code::Shl
            | Code::Shr
            | Code::Sar
            | Code::Rol
            | Code::Ror
            | Code::Rcl
            | Code::Rcr
            | Code::Shld
            | Code::Shrd => self.shift(op),
            Code::Mulu2 | Code::Muls2 | Code::Divu2 | Code::Divs2 => self.muldiv(op),
            Code::Ticks => self.ticks(op),
            _ => self.alu(op),
        }
    }

    /// The op at an index, where that belongs to the same.
    pub(crate) fn op_at(&self, n: usize) -> Option<&Op> {
        self.block.ops.get(n).filter(|_| n < self.ops_end)
    }

    /// A scratch register of the op's own.
    pub(crate) fn take(&mut self) -> Result<u8, CompileError> {
        let (r, spill) = self.regs.take()?;
        self.put_away(r, spill);
        Ok(r)
    }
    fn put_away(&mut self, r: u8, spill: Option<Spill>) {
        match spill {
            None => {}
            Some(Spill::Slot(slot)) => self.asm.store(Width::W64, slot_mem(slot), r),
            Some(Spill::Home(n)) => self.asm.store(Width::W64, self.gpr_home(n), r),
        }
    }
    /// A register for a temporary.
    pub(crate) fn take_temp(&mut self) -> Result<u8, CompileError> {
        let (r, spill) = self.regs.take_temp()?;
        self.put_away(r, spill);
        Ok(r)
    }
    /// Where operand `v` is, read at width `w`. Slots are brought into registers.
    pub(crate) fn src(&mut self, v: Val, w: Width) -> Result<Src, CompileError> {
        if let Some(n) = v.as_gpr() {
            if let Some(&r) = abi::PINNED.get(usize::from(n)) {
                return Ok(Src::Reg(r));
            }
            return self.state_gpr(n).map(Src::Reg);
        }
        if let Some(n) = v.as_high() {
            return Ok(Src::Reg(16 + n));
        }
        if let Some(value) = self.block.const_of(v) {
            let bits = 64 - w.bits();
            return Ok(Src::Imm((value << bits).cast_signed() >> bits));
        }
        let Some(t) = v.as_temp() else { return Err(CompileError::Form(self.at)) };
        match self.regs.loc(t) {
            Loc::Reg(r) => {
                self.regs.lock(r);
                Ok(Src::Reg(r))
            }
            Loc::Slot(slot) => {
                let r = self.take_temp()?;
                self.asm.load(Width::W64, r, slot_mem(slot));
                self.regs.bind(t, r);
                Ok(Src::Reg(r))
            }
            Loc::None => Err(CompileError::Form(self.at)),
        }
    }
    /// Operand `v` in a register (a constant is loaded; high bytes are copied down).
    pub(crate) fn src_reg(&mut self, v: Val, w: Width) -> Result<u8, CompileError> {
        match self.src(v, w)? {
            Src::Reg(r) if r < 16 => Ok(r),
            Src::Reg(high) => {
                let t = self.take()?;
                self.asm.rorx(t, high - 16, 8);
                Ok(t)
            }
            Src::Imm(n) => {
                let t = self.take()?;
                self.asm.mov_ri(
                    if w == Width::W64 { w } else { Width::W32 },
                    t,
                    n as u64 & w.mask(),
                );
                Ok(t)
            }
        }
    }
    /// Operand `v` copied into a scratch register that the op may change.
    pub(crate) fn copy_of(&mut self, v: Val, w: Width) -> Result<u8, CompileError> {
        if let Some(n) = v.as_gpr().filter(|&n| usize::from(n) >= abi::PINNED.len()) {
            let kept = self.regs.kept(n);
            let t = self.take()?;
            match kept {
                Some(r) => self.move_to(t, Src::Reg(r), w),
                None => self.asm.load(w.max(Width::W32), t, self.gpr_home(n)),
            }
            return Ok(t);
        }
        let src = self.src(v, w)?;
        let t = self.take()?;
        self.move_to(t, src, w);
        Ok(t)
    }
    /// Copies `src` into scratch register `t`; upper bits are unspecified.
    pub(crate) fn move_to(&mut self, t: u8, src: Src, w: Width) {
        let wide = if w == Width::W64 { w } else { Width::W32 };
        match src {
            Src::Reg(r) if r == t && w != Width::W32 => {}
            Src::Reg(r) if r < 16 => self.asm.mov_rr(wide, t, r),
            Src::Reg(high) => self.asm.rorx(t, high - 16, 8),
            Src::Imm(n) => self.asm.mov_ri(wide, t, n as u64 & w.mask()),
        }
    }
    /// The host register a result of `d` may be computed in directly: the pinned register, the temporary's, or a new one.
    /// High-byte destinations come back as 16..20.
    pub(crate) fn dst(&mut self, d: Val) -> Result<u8, CompileError> {
        if let Some(n) = d.as_gpr() {
            if let Some(&r) = abi::PINNED.get(usize::from(n)) {
                return Ok(r);
            }
            return self.state_dst(n);
        }
        if let Some(n) = d.as_high() {
            return Ok(16 + n);
        }
        let Some(t) = d.as_temp() else { return self.take() };
        if let Loc::Reg(r) = self.regs.loc(t) {
            self.regs.lock(r);
            return Ok(r);
        }
        let r = self.take_temp()?;
        self.regs.bind(t, r);
        Ok(r)
    }
    /// Puts the value in scratch register `from` (at 32 bits: zero-extended) into destination `d` at width `w`, flags untouched.
    pub(crate) fn write_back(&mut self, d: Val, w: Width, from: u8) -> Result<(), CompileError> {
        if d.is_none() {
            return Ok(());
        }
        if let Some(n) = d.as_high() {
            self.write_high(n, from);
            return Ok(());
        }
        if d.as_temp().is_some() {
            let r = self.dst(d)?;
            self.move_to(r, Src::Reg(from), w);
            return Ok(());
        }
        if let Some(n) = d.as_gpr().filter(|&n| usize::from(n) >= abi::PINNED.len()) {
            self.cancel_pending(n);
            let r = if w < Width::W32 { self.state_gpr(n)? } else { from };
            if r != from {
                self.asm.mov_rr(w, r, from);
            }
            self.store_gpr(n, w, r);
            return Ok(());
        }
        let r = self.dst(d)?;
        if r != from {
            self.asm.mov_rr(w, r, from);
        }
        Ok(())
    }
    /// AH CH DH BH = low byte of scratch register `from`, by way of the low byte's place.
    pub(crate) fn write_high(&mut self, n: u8, from: u8) {
        self.asm.xchg(Width::W8, n, 16 + n);
        self.asm.mov_rr(Width::W8, n, from);
        self.asm.xchg(Width::W8, n, 16 + n);
    }
}

/// Can 8-bit register operands `a` and `b` meet in one instruction without REX?
pub(crate) fn legacy_byte(r: u8) -> bool {
    !(4..16).contains(&r)
}
