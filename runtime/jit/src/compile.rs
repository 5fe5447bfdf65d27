//! The driver: one block of IR in, one stretch of host code out.

use std::sync::Arc;

use ir::{Block, Code, Cond, FlagMask, NativeTrap, Op, Val, Width};
use thiserror::Error;

use crate::abi;
use crate::asm::{Alu, Asm, Mem, state};
use crate::control::Lost;
use crate::control::PollSite;
use crate::flags::FlagFacts;
use crate::homes::Pending;
use crate::layout::{Calls, SegPolicy, StateLayout};
use crate::memory::{Fused, SlowSite};
use crate::native::TrapSite;
use crate::recipe::{Private, Recipe, Redo};
use crate::regs::{Ahead, Loc, Regs, Spill, slot_mem};
use crate::signal::{self, Registration, Sites, TRAPS};
use crate::thunks::Thunks;
use crate::{CodeBuf, CodeBufError};

/// Why a block was not compiled.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum CompileError {
    /// The code cache is full: flush it and try again.
    #[error("code cache full")]
    Full,
    /// The block needs more scratch registers than there are: evaluate it.
    #[error("out of scratch registers")]
    Registers,
    /// An operand combination the emitter has no form for: evaluate the block.
    #[error("no host form for op {0}")]
    Form(usize),
}

/// One direct exit of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The op's slot number, `ir::SIDE_SLOT` for one out of the middle, `ir::SPAN_SLOT` for a span's exit.
    pub slot: u8,
    /// Page offset it goes to.
    pub page_offset: u32,
    /// Backward: the target must be entered by way of the run loop's interrupt check unless the exit has one itself.
    pub backward: bool,
    /// Cache offset of its five bytes: a call out while unlinked, a jump when linked.
    pub site: usize,
    /// `host_ret` value with which it leaves while unlinked (exit code [`Jit::LINK`]).
    pub stub_ret: u64,
    /// `host_ret` value with which its interrupt check leaves, 0 if it has none.
    pub poll_ret: u64,
}

/// What came out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    /// Takes its insns off the state's budget first, and leaves ([`Jit::BUDGET`]) if they are too many.
    pub counted: bool,
    /// It is known to be jumped to indirectly: an entry for that stands before it.
    pub far: Option<Far>,
    /// State may be brought home when a native instruction traps, and not before.
    pub late_traps: bool,
}

/// How indirect jumps enter a block: they bring the instruction pointer in [`abi::PC`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Far {
    /// Width of the instruction pointer, 32 or 64 bits; bits beyond that do not matter.
    pub pc_width: Width,
    /// Leaves as a miss when other threads ask for it: what entry 0 of a jump table leads to must.
    pub polls: bool,
}

/// The compiler with its code cache and reusable scratch memory.
pub struct Jit {
    _traps: Registration,
    sites: Arc<Sites>,
    buf: CodeBuf,
    pub(crate) layout: StateLayout,
    pub(crate) thunks: Thunks,
    facts: FlagFacts,
    regs: Regs,
    lists: Lists,
    pristine: usize,
}

/// Vectors of a compilation, kept for the next.
#[derive(Default)]
struct Lists {
    labels: Vec<usize>,
    holes: Vec<Hole>,
    slow: Vec<SlowSite>,
    bails: Vec<Bail>,
    lost: Vec<Lost>,
    starts: Vec<u16>,
    polls: Vec<PollSite>,
    traps: Vec<TrapSite>,
    private: Private,
}

impl Lists {
    fn of(emit: &mut Emit<'_>) -> Self {
        let mut lists = Self {
            labels: std::mem::take(&mut emit.labels),
            holes: std::mem::take(&mut emit.holes),
            slow: std::mem::take(&mut emit.slow),
            bails: std::mem::take(&mut emit.bails),
            lost: std::mem::take(&mut emit.lost),
            starts: std::mem::take(&mut emit.starts),
            polls: std::mem::take(&mut emit.polls),
            traps: std::mem::take(&mut emit.traps),
            private: std::mem::take(&mut emit.private),
        };
        lists.labels.clear();
        lists.holes.clear();
        lists.slow.clear();
        lists.bails.clear();
        lists.lost.clear();
        lists.starts.clear();
        lists.polls.clear();
        lists
    }
}

/// Bytes a block may need at most; a block that does not fit in the rest of the cache counts as full.
const BLOCK_ROOM: usize = 64 << 10;

impl Jit {
    /// Exit code: a direct exit is not linked yet; `host_ret` says which.
    pub const LINK: u32 = 16;
    /// Exit code: the jump table has no entry; the state's pc is set.
    pub const MISS: u32 = 17;
    /// Exit code: a direct exit's interrupt check found a request; `host_ret` says which.
    pub const POLL_DIRECT: u32 = 18;
    /// Exit code: the block at `host_ret` has more insns than the budget allows; they are taken off, but none has run.
    pub const BUDGET: u32 = 20;
    /// First of the exit codes of native instructions that raised an exception ([`Jit::trap_of`]); `host_ret` says which instruction.
    pub(crate) const TRAP: u32 = 24;

    /// The exception of a native instruction that this exit code means.
    pub fn trap_of(code: u32) -> Option<NativeTrap> {
        let n = code.checked_sub(Self::TRAP)?;
        TRAPS.get(n as usize).map(|t| t.0)
    }

    /// Maps a code cache of `size` bytes and emits the fixed code.
    ///
    /// # Errors
    /// When the cache cannot be mapped, or the CPU has no BMI2.
    pub fn new(size: usize, layout: StateLayout, calls: Calls) -> Result<Self, CodeBufError> {
        if !std::arch::is_x86_feature_detected!("bmi2") {
            return Err(CodeBufError::Cpu);
        }
        let mut buf = CodeBuf::new(size.max(1 << 20))?;
        let thunks = Thunks::emit(&mut buf, &layout, calls);
        let pristine = buf.used();
        let (start, end) = (buf.address(0), buf.address(buf.capacity()));
        let sites = Sites::new();
        let stubs = thunks.traps.map(|at| buf.address(at));
        let traps = signal::register(start, end, stubs, Some(Arc::clone(&sites)))?;
        Ok(Self {
            _traps: traps,
            sites,
            buf,
            layout,
            thunks,
            facts: FlagFacts::default(),
            regs: Regs::default(),
            lists: Lists::default(),
            pristine,
        })
    }
    /// The code cache.
    pub fn buf(&self) -> &CodeBuf {
        &self.buf
    }
    /// Prologue and epilogue, for `-d out_asm`.
    pub fn prologue(&self) -> &[u8] {
        self.buf.bytes(0, self.thunks.prologue_len)
    }
    /// Cache offset, length and name of each stretch of fixed code.
    pub fn fixed_code(&self) -> Vec<(usize, usize, &'static str)> {
        let names = self.thunks.names();
        let ends = names.iter().map(|&(at, _)| at).skip(1).chain([self.pristine]);
        names.iter().zip(ends).map(|(&(at, name), end)| (at, end - at, name)).collect()
    }
    /// Drops all blocks.
    pub fn flush(&mut self) {
        self.sites.clear();
        self.thunks.forget_all();
        self.buf.truncate(self.pristine);
    }
    /// Links a direct exit to the entry at cache offset `target`.
    pub fn link(&mut self, site: usize, target: usize) {
        self.buf.patch(site, 0xE9, target);
    }
    /// Makes a direct exit leave to the run loop again.
    pub fn unlink(&mut self, site: usize) {
        self.buf.patch(site, 0xE8, self.thunks.exit_link);
    }
    /// Emits an entry for indirect jumps to the block at cache offset `entry`, whose first insn is at `page_offset`. With a `counter`,
    /// the offset of a byte from the state, it counts down, and leaves as a miss when that gets to 0.
    ///
    /// # Errors
    /// When the cache is full.
    pub fn far_entry(
        &mut self,
        entry: usize,
        page_offset: u32,
        far: Far,
        counter: Option<i32>,
    ) -> Result<usize, CompileError> {
        if self.buf.capacity() - self.buf.used() < BLOCK_ROOM {
            return Err(CompileError::Full);
        }
        Ok(self.far_head(page_offset, far, counter, Some(entry)))
    }
    /// The code of such an entry; without `entry` it leads to what is emitted next.
    fn far_head(
        &mut self,
        page_offset: u32,
        far: Far,
        counter: Option<i32>,
        entry: Option<usize>,
    ) -> usize {
        let start = self.buf.used();
        let mut asm = Asm::new(self.buf.free_space());
        let leave_if = |asm: &mut Asm<'_>, cond| {
            let hole = asm.jcc(cond);
            asm.fix_cache(hole, start, self.thunks.exit_miss(far.pc_width));
        };
        if let Some(at) = counter {
            asm.alu_mi(Alu::Sub, Width::W8, state(at), 1);
            leave_if(&mut asm, Cond::E);
        }
        if far.polls {
            asm.alu_mi(Alu::Cmp, Width::W32, state(self.layout.jump_mask), 0);
            leave_if(&mut asm, Cond::E);
        }
        asm.lea(far.pc_width, abi::PC, Mem::base(abi::PC, (page_offset as i32).wrapping_neg()));
        asm.store(Width::W64, state(self.layout.pc_base), abi::PC);
        if let Some(entry) = entry {
            let hole = asm.jmp();
            asm.fix_cache(hole, start, entry);
        }
        let len = asm.pos();
        self.buf.advance(len);
        start
    }
    /// Makes the entry for indirect jumps at cache offset `far` leave to the run loop: its block is gone. Returns what undoes that.
    pub fn close_far_entry(&mut self, far: usize, pc_width: Width) -> [u8; 5] {
        let mut bytes = [0; 5];
        bytes.copy_from_slice(self.buf.bytes(far, 5));
        self.buf.patch(far, 0xE9, self.thunks.exit_miss(pc_width));
        bytes
    }
    /// Makes the entry for indirect jumps at cache offset `far` lead to its block again: `bytes` came back when it was closed.
    pub fn open_far_entry(&mut self, far: usize, bytes: [u8; 5]) {
        self.buf.restore(far, bytes);
    }
    /// Runs generated code from the entry at cache offset `entry`; the state's `pc_base` is that of its page.
    ///
    /// Returns an `ir::exit` code or one of this type's.
    ///
    /// # Safety
    /// `state` points to the guest state this JIT's layout describes, its `tlb_base` to a live TLB whose filled
    /// entries lead to guest RAM, and `entry` is an entry that [`Jit::compile`] returned since the last flush.
    #[expect(unsafe_code, reason = "enters generated code")]
    pub unsafe fn enter(&self, state: *mut u8, entry: usize) -> u32 {
        // SAFETY: passed on from this function's contract.
        unsafe { self.thunks.enter(&self.buf, state, self.buf.address(entry)) }
    }
    /// Runs generated code from the entry for indirect jumps at host address `far`; the state's `pc` says where the guest is.
    ///
    /// # Safety
    /// As for [`Jit::enter`]; `far` is the address of what [`Jit::far_entry`] returned since the last flush.
    #[expect(unsafe_code, reason = "enters generated code")]
    pub unsafe fn enter_far(&self, state: *mut u8, far: u64) -> u32 {
        // SAFETY: passed on from this function's contract.
        unsafe { self.thunks.enter(&self.buf, state, far) }
    }

    /// Compiles a block into `out`, whose memory is reused.
    ///
    /// # Errors
    /// See [`CompileError`]; nothing is kept then, and `out` means nothing.
    pub fn compile(
        &mut self,
        request: &Request<'_>,
        out: &mut Compiled,
    ) -> Result<(), CompileError> {
        if self.buf.capacity() - self.buf.used() < BLOCK_ROOM {
            return Err(CompileError::Full);
        }
        let hot = request.tier == Tier::Hot;
        match self.attempt(request, out, hot) {
            // Operands kept for flags may be what takes the registers.
            Err(CompileError::Registers) if hot => self.attempt(request, out, false),
            done => done,
        }
    }
    /// The same; `remakes`: flags may be made again instead of kept.
    fn attempt(
        &mut self,
        request: &Request<'_>,
        out: &mut Compiled,
        remakes: bool,
    ) -> Result<(), CompileError> {
        self.thunks.begin();
        let hot = request.tier == Tier::Hot;
        let late_traps = hot && remakes && request.late_traps && self.sites.has_room();
        let private = &mut self.lists.private;
        if hot {
            private.prepare(&request.block.ops, request.block.labels as usize);
        }
        let private = hot.then_some(&*private);
        self.facts.compute(request.block, request.exit_flags, late_traps, private);
        let temps = if hot { abi::SCRATCH_MASK } else { abi::COMPACT_TEMPS };
        self.regs.prepare(request.block, temps);
        out.far = request.far.map(|far| self.far_head(request.page_offset, far, None, None));
        let start = self.buf.used();
        let base = self.buf.address(start);
        out.entry = start;
        out.insns.clear();
        out.exits.clear();
        let mut emit = Emit {
            asm: Asm::new(self.buf.free_space()),
            block: request.block,
            layout: &self.layout,
            thunks: &mut self.thunks,
            facts: &self.facts,
            regs: &mut self.regs,
            hot,
            seg: request.seg,
            exit_flags: request.exit_flags,
            start,
            base,
            at: 0,
            flags_home: true,
            flags_host: false,
            out,
            labels: std::mem::take(&mut self.lists.labels),
            holes: std::mem::take(&mut self.lists.holes),
            slow: std::mem::take(&mut self.lists.slow),
            bails: std::mem::take(&mut self.lists.bails),
            lost: std::mem::take(&mut self.lists.lost),
            page_offset: request.page_offset as u16,
            counted: request.counted,
            first_offset: request.page_offset as u16,
            starts: std::mem::take(&mut self.lists.starts),
            polls: std::mem::take(&mut self.lists.polls),
            traps: std::mem::take(&mut self.lists.traps),
            private: std::mem::take(&mut self.lists.private),
            recipe: None,
            prepared: None,
            remakes,
            late_traps,
            behind: 0,
            pending: [None; 2],
            fused: None,
            simd: 0,
        };
        let done = emit.body().and_then(|()| emit.finish());
        let len = emit.asm.pos();
        let full = emit.asm.overflowed();
        let traps = std::mem::take(&mut emit.traps);
        self.lists = Lists::of(&mut emit);
        if full || done.is_err() {
            self.thunks.forget_fresh();
            done?;
            return Err(CompileError::Full);
        }
        for site in &traps {
            self.sites.add(start + site.at, start + site.stub);
        }
        self.lists.traps = traps;
        self.lists.traps.clear();
        out.end = start + len;
        self.buf.advance(len);
        Ok(())
    }
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
    pub(crate) hole: usize,
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
    pub(crate) thunks: &'a mut Thunks,
    pub(crate) facts: &'a FlagFacts,
    pub(crate) regs: &'a mut Regs,
    pub(crate) hot: bool,
    pub(crate) seg: [SegPolicy; 6],
    pub(crate) exit_flags: [FlagMask; 2],
    /// Cache offset of the first byte.
    pub(crate) start: usize,
    /// Executable address of the first byte.
    pub(crate) base: u64,
    /// Index of the current op.
    pub(crate) at: usize,
    /// The state's copy of the flags is current.
    pub(crate) flags_home: bool,
    /// EFLAGS hold the current flags.
    pub(crate) flags_host: bool,
    /// How the current flags can be made again.
    pub(crate) recipe: Option<Recipe>,
    /// How those of the op under way can be, once it is done.
    pub(crate) prepared: Option<Recipe>,
    /// Flags may be made again instead of kept.
    pub(crate) remakes: bool,
    /// See [`Request::late_traps`].
    pub(crate) late_traps: bool,
    pub(crate) out: &'a mut Compiled,
    pub(crate) labels: Vec<usize>,
    pub(crate) holes: Vec<Hole>,
    pub(crate) slow: Vec<SlowSite>,
    pub(crate) bails: Vec<Bail>,
    pub(crate) polls: Vec<PollSite>,
    pub(crate) traps: Vec<TrapSite>,
    pub(crate) private: Private,
    pub(crate) lost: Vec<Lost>,
    pub(crate) page_offset: u16,
    pub(crate) counted: bool,
    /// Page offset of the block's first insn.
    pub(crate) first_offset: u16,
    /// Page offsets of a counted block's insns.
    starts: Vec<u16>,
    /// Insns of a counted block behind the current one.
    pub(crate) behind: u16,
    /// Guest registers without a host register that the current op computes in a scratch register.
    pub(crate) pending: [Option<Pending>; 2],
    /// A load whose memory operand the next op takes directly.
    pub(crate) fused: Option<Fused>,
    /// Parts of FP and vector state that are surely ready here.
    pub(crate) simd: u8,
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
    fn body(&mut self) -> Result<(), CompileError> {
        let labels = self.block.labels as usize;
        self.labels.resize(labels, usize::MAX);
        let hole = self.counted.then(|| self.take_budget());
        for i in 0..self.block.ops.len() {
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
            self.op(&op)?;
            if self.pending[0].is_some() {
                self.store_results(&op);
            }
            self.regs.end_op(i, &op);
            self.end_loans(i);
        }
        if let Some((hole, all)) = hole {
            let here = self.asm.pos();
            self.asm.fix32(hole, here);
            self.mark(self.first_offset, all.saturating_sub(1));
            let hole = self.asm.call();
            self.asm.fix_cache(hole, self.start, self.thunks.exit_budget);
        }
        Ok(())
    }
    /// How many insns of a counted block come behind the one at a page offset.
    fn insns_behind(&self, page_offset: u16) -> u16 {
        (self.starts.len() - self.starts.partition_point(|&at| at <= page_offset)) as u16
    }
    /// Takes the block's insns off the budget; returns the hole of the branch to be taken if they are too many, and their number.
    fn take_budget(&mut self) -> (usize, u16) {
        // Out-of-line parts name their insns again.
        for op in self.block.ops.iter().filter(|op| op.code == Code::InsnStart) {
            if self.starts.last().is_none_or(|&last| last < op.imm as u16) {
                self.starts.push(op.imm as u16);
            }
        }
        let all = self.starts.len() as u16;
        self.asm.alu_mi(Alu::Sub, Width::W32, state(self.layout.budget), i32::from(all));
        (self.asm.jcc(Cond::S), all)
    }
    fn finish(&mut self) -> Result<(), CompileError> {
        self.span_exits();
        self.poll_exits();
        self.trap_stubs();
        self.slow_paths();
        for hole in &self.holes {
            let target = self.labels.get(hole.label as usize).copied().unwrap_or(usize::MAX);
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
            _ => self.alu(op),
        }
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
            self.store_gpr(n, w, from, false);
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
