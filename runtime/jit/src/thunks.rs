//! Fixed code: prologue, epilogue, ways out, calls into the runtime, and the memory slow-path thunks.
//!
//! All thunks are position-fixed in the cache and reached by rel32. Guest registers are spilled to the state here and
//! nowhere else.

use dynasmrt::{DynasmApi, dynasm};
use ir::{Cond, Width, exit};

use crate::abi::{self, PINNED, STATE, TLB, reg};
use crate::asm::{Asm, Mem};
use crate::compile::Jit;
use crate::layout::{Calls, StateLayout};
use crate::memory::{SlowKind, load_to};
use crate::{CodeBuf, trampoline};

/// A store whose value is already in the state (a constant).
pub(crate) const NO_VALUE: u8 = 31;

/// One shape of memory slow path. `value`: result or value register (16..20 high bytes), [`NO_VALUE`], or 32 + addend register for a
/// load that its consumer takes from memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ThunkKey {
    pub(crate) kind: SlowKind,
    pub(crate) w: Width,
    pub(crate) seg: u8,
    pub(crate) lin: u8,
    pub(crate) value: u8,
    pub(crate) merge: bool,
}

impl ThunkKey {
    const SPACE: usize = 5 * 4 * 8 * 16 * 64 * 2;

    fn index(self) -> usize {
        let mut n = self.kind as usize;
        n = n * 4 + self.w as usize;
        n = n * 8 + usize::from(self.seg & 7);
        n = n * 16 + usize::from(self.lin & 15);
        n = n * 64 + usize::from(self.value & 63);
        n * 2 + usize::from(self.merge)
    }
    fn meta(self) -> u32 {
        self.kind as u32 | self.w.bytes() << 8 | u32::from(self.seg) << 16
    }
}

/// Offsets of the fixed code.
pub(crate) struct Thunks {
    pub(crate) prologue_len: usize,
    load_stub: usize,
    epilogue: usize,
    common_memory: usize,
    pub(crate) helper: usize,
    pub(crate) exit_link: usize,
    pub(crate) exit_poll_direct: usize,
    pub(crate) exit_miss: usize,
    pub(crate) exit_poll: usize,
    pub(crate) exit_tb: usize,
    pub(crate) exit_raise: usize,
    /// Cache offset + 1 of each memory thunk by key, 0 = none yet.
    memory: Vec<u32>,
    wanted: Vec<(ThunkKey, usize)>,
    /// Indexes of thunks emitted with the last block.
    fresh: Vec<usize>,
}

impl Thunks {
    /// Emits everything but the memory thunks at the start of an empty cache.
    pub(crate) fn emit(buf: &mut CodeBuf, layout: &StateLayout, calls: Calls) -> Self {
        let mut t = Self {
            prologue_len: 0,
            load_stub: 0,
            epilogue: 0,
            common_memory: 0,
            helper: 0,
            exit_link: 0,
            exit_poll_direct: 0,
            exit_miss: 0,
            exit_poll: 0,
            exit_tb: 0,
            exit_raise: 0,
            memory: vec![0; ThunkKey::SPACE],
            wanted: Vec::new(),
            fresh: Vec::new(),
        };
        let mut asm = Asm::new(buf.free_space());
        t.trampoline(&mut asm);
        t.load_stub = asm.pos();
        load_state(&mut asm, layout);
        t.ways_out(&mut asm, layout);
        t.common_memory = asm.pos();
        call_out(&mut asm, layout, calls.slow_memory, true, t.epilogue);
        t.helper = asm.pos();
        call_out(&mut asm, layout, calls.helper, false, t.epilogue);
        asm.align(64, 0xCC);
        let len = asm.pos();
        buf.advance(len);
        t
    }

    /// Prologue and epilogue.
    fn trampoline(&mut self, ops: &mut Asm<'_>) {
        dynasm!(ops
            ; .arch x64
            ; push rbp
            ; push rbx
            ; push r12
            ; push r13
            ; push r14
            ; push r15
            ; mov r14, rdi
            ; sub rsp, DWORD abi::FRAME
            ; jmp rsi
        );
        self.epilogue = ops.pos();
        dynasm!(ops
            ; .arch x64
            ; add rsp, DWORD abi::FRAME
            ; pop r15
            ; pop r14
            ; pop r13
            ; pop r12
            ; pop rbx
            ; pop rbp
            ; ret
        );
        self.prologue_len = ops.pos();
    }

    fn ways_out(&mut self, asm: &mut Asm<'_>, layout: &StateLayout) {
        let epilogue = self.epilogue;
        let host_ret = layout.host_ret;
        let with_site = |asm: &mut Asm<'_>, code: u32| {
            let at = asm.pos();
            dynasm!(asm ; .arch x64 ; pop QWORD [r14 + host_ret]);
            leave(asm, layout, code, epilogue);
            at
        };
        self.exit_link = with_site(asm, Jit::LINK);
        self.exit_poll_direct = with_site(asm, Jit::POLL_DIRECT);
        self.exit_raise = with_site(asm, exit::FAULT);
        let with_pc = |asm: &mut Asm<'_>, code: u32| {
            let at = asm.pos();
            asm.mov_rr(Width::W32, abi::PC, abi::PC);
            asm.store(Width::W64, Mem::base(STATE, layout.pc), abi::PC);
            leave(asm, layout, code, epilogue);
            at
        };
        self.exit_miss = with_pc(asm, Jit::MISS);
        self.exit_poll = with_pc(asm, exit::POLL);
        self.exit_tb = asm.pos();
        spill(asm, layout);
        asm.mov_rr(Width::W32, reg::RAX, abi::PC);
        let hole = asm.jmp();
        asm.fix32(hole, epilogue);
    }

    /// Runs from `target` with the state at `state`.
    ///
    /// # Safety
    /// See [`Jit::enter`].
    #[expect(unsafe_code, reason = "enters generated code")]
    pub(crate) unsafe fn enter(&self, buf: &CodeBuf, state: *mut u8, target: u64) -> u32 {
        // SAFETY: the prologue stands at offset 0 and expects exactly these arguments; the rest is the caller's contract.
        unsafe { trampoline::enter(buf.address(0), state, buf.address(self.load_stub), target) }
    }

    /// A compilation begins.
    pub(crate) fn begin(&mut self) {
        self.wanted.clear();
        self.fresh.clear();
    }
    /// A call with its hole at cache offset `at` wants the thunk of `key`.
    pub(crate) fn want(&mut self, key: ThunkKey, at: usize) {
        self.wanted.push((key, at));
    }
    /// Fills the wanted calls, emitting thunks behind the block where they are new.
    pub(crate) fn emit_wanted(&mut self, asm: &mut Asm<'_>, start: usize, layout: &StateLayout) {
        let mut i = 0;
        while i < self.wanted.len() {
            let (key, hole) = self.wanted[i];
            let known = self.memory[key.index()];
            let target = if known != 0 {
                known as usize - 1
            } else {
                let at = start + asm.pos();
                self.memory_thunk(asm, start, layout, key);
                self.memory[key.index()] = at as u32 + 1;
                self.fresh.push(key.index());
                at
            };
            asm.fix_cache(hole - start, start, target);
            i += 1;
        }
        self.wanted.clear();
    }
    /// Forgets the thunks of a compilation that failed, and its wishes.
    pub(crate) fn forget_fresh(&mut self) {
        self.wanted.clear();
        for n in self.fresh.drain(..) {
            self.memory[n] = 0;
        }
    }
    /// Forgets all memory thunks (the cache is flushed).
    pub(crate) fn forget_memory(&mut self) {
        self.wanted.clear();
        self.fresh.clear();
        self.memory.fill(0);
    }

    fn memory_thunk(&self, asm: &mut Asm<'_>, start: usize, layout: &StateLayout, key: ThunkKey) {
        let slot = Mem::base(STATE, layout.scratch + 8);
        asm.store(Width::W64, Mem::base(STATE, layout.scratch), key.lin);
        if key.kind == SlowKind::Store && key.value != NO_VALUE {
            asm.store(Width::W64, slot, key.value);
        }
        asm.store_i(Width::W32, Mem::base(STATE, layout.meta), key.meta() as i32);
        let hole = asm.call();
        asm.fix_cache(hole, start, self.common_memory);
        match key.kind {
            SlowKind::Store => {}
            SlowKind::Load if key.value >= 32 => {
                let addend = key.value - 32;
                asm.lea(Width::W64, addend, slot);
                asm.alu_rr(crate::asm::Alu::Sub, Width::W64, addend, key.lin);
            }
            SlowKind::Load => load_to(asm, key.w, key.value, key.merge, slot),
            _ => asm.load(Width::W64, key.value, slot),
        }
        asm.byte(0xC3);
    }
}

/// Guest registers home.
fn spill(asm: &mut Asm<'_>, layout: &StateLayout) {
    for (n, &r) in PINNED.iter().enumerate() {
        asm.store(Width::W64, Mem::base(STATE, layout.gpr + 8 * n as i32), r);
    }
}
fn reload(asm: &mut Asm<'_>, layout: &StateLayout, caller_saved_only: bool) {
    for (n, &r) in PINNED.iter().enumerate() {
        if !caller_saved_only || matches!(r, reg::RAX | reg::RCX | reg::RDX | reg::RSI | reg::RDI) {
            asm.load(Width::W64, r, Mem::base(STATE, layout.gpr + 8 * n as i32));
        }
    }
}
fn leave(asm: &mut Asm<'_>, layout: &StateLayout, code: u32, epilogue: usize) {
    spill(asm, layout);
    asm.mov_ri(Width::W32, reg::RAX, u64::from(code));
    let hole = asm.jmp();
    asm.fix32(hole, epilogue);
}

/// Entry behind the prologue: rdx = target. Loads everything pinned and goes there.
fn load_state(asm: &mut Asm<'_>, layout: &StateLayout) {
    asm.mov_rr(Width::W64, reg::R9, reg::RDX);
    asm.load(Width::W64, TLB, Mem::base(STATE, layout.tlb_base));
    reload(asm, layout, false);
    asm.load(Width::W64, abi::PC, Mem::base(STATE, layout.pc));
    dynasm!(asm ; .arch x64 ; jmp r9);
}

/// Calls `target(state)` with all guest registers home, keeping the scratch registers. `memory`: called through a memory thunk
/// (two return addresses deep, registers not changed by the callee). The callee returns 0 to go on, or an exit code + 1.
fn call_out(asm: &mut Asm<'_>, layout: &StateLayout, target: usize, memory: bool, epilogue: usize) {
    let pad = if memory { 0 } else { 8 };
    let returns = if memory { 16 } else { 8 };
    spill(asm, layout);
    dynasm!(asm ; .arch x64 ; push r8 ; push r9 ; push r10 ; push r11);
    asm.load(Width::W64, reg::RAX, Mem::base(reg::RSP, 32 + returns - 8));
    asm.store(Width::W64, Mem::base(STATE, layout.host_ret), reg::RAX);
    if pad != 0 {
        dynasm!(asm ; .arch x64 ; sub rsp, BYTE 8);
    }
    dynasm!(asm ; .arch x64 ; mov rdi, r14);
    asm.mov_ri(Width::W64, reg::RAX, target as u64);
    dynasm!(asm ; .arch x64 ; call rax);
    if pad != 0 {
        dynasm!(asm ; .arch x64 ; add rsp, BYTE 8);
    }
    dynasm!(asm ; .arch x64 ; pop r11 ; pop r10 ; pop r9 ; pop r8);
    asm.test_rr(Width::W32, reg::RAX, reg::RAX);
    let gone = asm.jcc(Cond::Ne);
    reload(asm, layout, memory);
    asm.byte(0xC3);
    let here = asm.pos();
    asm.fix32(gone, here);
    dynasm!(asm ; .arch x64 ; dec eax ; add rsp, BYTE returns as i8);
    let hole = asm.jmp();
    asm.fix32(hole, epilogue);
}
