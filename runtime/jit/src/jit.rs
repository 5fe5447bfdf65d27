//! The code cache with what is compiled into it: fixed code, blocks, links between them, and the way in.

use std::sync::Arc;

use ir::{Cond, NativeTrap, Width};

use crate::abi;
use crate::asm::{Alu, Asm, Mem, state};
use crate::compile::{CompileError, Compiled, EXIT_LEN, Exit, Far, Request};
use crate::compiler::{BLOCK_ROOM, Compiler, Piece, Space};
use crate::layout::{Calls, StateLayout};
use crate::signal::{self, Registration, Sites, TRAPS};
use crate::thunks::{OnDemand, Thunks, Wish};
use crate::{CodeBuf, CodeBufError};

/// The code cache with a compiler of its own.
pub struct Jit {
    _traps: Registration,
    sites: Arc<Sites>,
    buf: CodeBuf,
    compiler: Compiler,
    on_demand: OnDemand,
    pristine: usize,
}

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
            compiler: Compiler::new(layout, thunks, Arc::clone(&sites)),
            sites,
            buf,
            on_demand: OnDemand::default(),
            pristine,
        })
    }
    /// A compiler for this cache that may go to another thread.
    pub fn compiler(&self) -> Compiler {
        self.compiler.another()
    }
    /// The code cache.
    pub fn buf(&self) -> &CodeBuf {
        &self.buf
    }
    /// Prologue and epilogue, for `-d out_asm`.
    pub fn prologue(&self) -> &[u8] {
        self.buf.bytes(0, self.compiler.thunks.prologue_len)
    }
    /// Cache offset, length and name of each stretch of fixed code.
    pub fn fixed_code(&self) -> Vec<(usize, usize, &'static str)> {
        let names = self.compiler.thunks.names();
        let ends = names.iter().map(|&(at, _)| at).skip(1).chain([self.pristine]);
        names.iter().zip(ends).map(|(&(at, name), end)| (at, end - at, name)).collect()
    }
    /// Drops all blocks.
    pub fn flush(&mut self) {
        self.sites.clear();
        self.on_demand.forget_all();
        self.buf.truncate(self.pristine);
    }
    /// Where the next code goes, if there is room for it.
    fn room(&self) -> Option<usize> {
        (self.buf.capacity() - self.buf.used() >= BLOCK_ROOM).then(|| self.buf.used())
    }
    /// Links a direct exit to the entry at cache offset `target`.
    pub fn link(&mut self, site: u32, target: usize) {
        self.buf.patch(site as usize, 0xE9, target);
    }
    /// Has the backward exit of a compact block go to `target`, counting its turns: each takes `step` off the byte at `counter` from
    /// the state. When there is not more left, or the run loop was asked for, it leaves as if it were not linked. False
    /// when the cache is full.
    pub fn count_turns(&mut self, exit: &Exit, target: usize, counter: i32, step: u8) -> bool {
        let Some(start) = self.room() else { return false };
        let mask = self.compiler.layout().jump_mask;
        let mut asm = Asm::new(self.buf.free_space());
        asm.alu_mi(Alu::Cmp, Width::W32, state(mask), 0);
        let asked = asm.jcc8(Cond::E);
        asm.alu_mi(Alu::Cmp, Width::W8, state(counter), i32::from(step));
        let done = asm.jcc8(Cond::Be);
        asm.alu_mi(Alu::Sub, Width::W8, state(counter), i32::from(step));
        let go = asm.jmp();
        asm.fix_cache(go, start, target);
        let here = asm.pos();
        asm.fix8(asked, here);
        asm.fix8(done, here);
        let site = asm.lea_rip(abi::PC);
        asm.fix_cache(site, start, (exit.site + EXIT_LEN) as usize);
        asm.push_reg(abi::PC);
        let out = asm.jmp();
        asm.fix_cache(out, start, self.compiler.thunks.exit_link);
        let len = asm.pos();
        self.buf.advance(len);
        self.link(exit.site, start);
        true
    }
    /// Has a direct exit go by the jump table, as an indirect jump does. False when the cache is full.
    pub fn look_up(&mut self, exit: &Exit, pc_width: Width) -> bool {
        let Some(start) = self.room() else { return false };
        let layout = self.compiler.layout();
        let mut asm = Asm::new(self.buf.free_space());
        asm.load(Width::W64, abi::PC, state(layout.pc_base));
        asm.lea(pc_width, abi::PC, Mem::base(abi::PC, exit.page_offset as i32));
        self.compiler.thunks.jump_table(&mut asm, layout, start);
        let len = asm.pos();
        self.buf.advance(len);
        self.link(exit.site, start);
        true
    }
    /// Makes a direct exit leave to the run loop again.
    pub fn unlink(&mut self, site: u32) {
        self.buf.patch(site as usize, 0xE8, self.compiler.thunks.exit_link);
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
        let start = self.room().ok_or(CompileError::Full)?;
        let asm = Asm::new(self.buf.free_space());
        let len = self.compiler.far_head(asm, start, (page_offset, far), counter, Some(entry));
        self.buf.advance(len);
        Ok(start)
    }
    /// Host address of what leaves as an indirect jump does that misses.
    pub fn miss(&self) -> u64 {
        self.buf.address(self.compiler.thunks.exit_miss(Width::W64))
    }
    /// Makes the entry for indirect jumps at cache offset `far` leave to the run loop: its block is gone. Returns what undoes that.
    pub fn close_far_entry(&mut self, far: usize, pc_width: Width) -> [u8; 5] {
        let mut bytes = [0; 5];
        bytes.copy_from_slice(self.buf.bytes(far, 5));
        self.buf.patch(far, 0xE9, self.compiler.thunks.exit_miss(pc_width));
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
        unsafe { self.compiler.thunks.enter(&self.buf, state, self.buf.address(entry)) }
    }
    /// Runs generated code from the entry for indirect jumps at host address `far`; the state's `pc` says where the guest is.
    ///
    /// # Safety
    /// As for [`Jit::enter`]; `far` is the address of what [`Jit::far_entry`] returned since the last flush.
    #[expect(unsafe_code, reason = "enters generated code")]
    pub unsafe fn enter_far(&self, state: *mut u8, far: u64) -> u32 {
        // SAFETY: passed on from this function's contract.
        unsafe { self.compiler.thunks.enter(&self.buf, state, far) }
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
        let at = self.buf.used();
        let space = Space { bytes: self.buf.free_space(), at, outward: None };
        let len = self.compiler.compile_to(request, space, out)?;
        let (buf, compiler) = (&mut self.buf, &self.compiler);
        let end = finish(buf, compiler, &mut self.on_demand, len, compiler.wants())?;
        for (site, stub) in compiler.traps() {
            self.sites.add(site, stub);
        }
        out.end = end;
        Ok(())
    }
    /// Puts a block that was compiled elsewhere into the cache; `out` says where.
    ///
    /// # Errors
    /// [`CompileError::Full`]; nothing is kept then, and `out` means nothing.
    pub fn install(&mut self, piece: &Piece, out: &mut Compiled) -> Result<(), CompileError> {
        let has_room = piece.traps().is_empty() || self.sites.has_room();
        if self.buf.capacity() - self.buf.used() < BLOCK_ROOM || !has_room {
            return Err(CompileError::Full);
        }
        let (start, code) = (self.buf.used(), piece.code());
        let space = self.buf.free_space();
        let Some(place) = space.get_mut(..code.len()) else { return Err(CompileError::Full) };
        place.copy_from_slice(code);
        for at in piece.outward() {
            if let Some(rel) = place.get_mut(at..at + 4).and_then(|rel| rel.first_chunk_mut()) {
                // As many bytes nearer as the code stands further behind.
                *rel = i32::from_le_bytes(*rel).wrapping_sub(start as i32).to_le_bytes();
            }
        }
        piece.describe(start, out);
        let (buf, compiler) = (&mut self.buf, &self.compiler);
        out.end = finish(buf, compiler, &mut self.on_demand, code.len(), piece.wants(start))?;
        for &(site, stub) in piece.traps() {
            self.sites.add(start + site, start + stub);
        }
        Ok(())
    }
}

/// Takes `len` bytes of code at the cache's end, with the thunks they want behind; returns the offset of the end.
fn finish(
    buf: &mut CodeBuf,
    compiler: &Compiler,
    on_demand: &mut OnDemand,
    len: usize,
    wants: impl Iterator<Item = (Wish, usize)>,
) -> Result<usize, CompileError> {
    let start = buf.used();
    let mut asm = Asm::behind(buf.free_space(), len);
    on_demand.emit_wanted(&mut asm, start, (&compiler.thunks, &compiler.layout), wants);
    let (len, is_full) = (asm.pos(), asm.overflowed());
    if is_full {
        on_demand.forget_fresh();
        return Err(CompileError::Full);
    }
    buf.advance(len);
    Ok(start + len)
}
