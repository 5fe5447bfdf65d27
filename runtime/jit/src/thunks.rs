//! Fixed code: prologue, epilogue, ways out, calls into the runtime, and the memory slow-path thunks.
//!
//! All thunks are position-fixed in the cache and reached by rel32. Guest registers are spilled to the state here and
//! nowhere else.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use dynasmrt::{DynasmApi, dynasm};
use ir::{Cond, Width, exit};

use crate::abi::{self, PINNED, STATE_BIAS, TLB, reg};
use crate::asm::{Alu, Asm, Mem, Rm, state};
use crate::jit::Jit;
use crate::layout::{Calls, StateLayout};
use crate::mem_thunk::ThunkKey;
use crate::signal::TRAPS;
use crate::simd::{self, SimdThunks, forget_vectors};
use crate::{CodeBuf, code_stores, trampoline};

/// A thunk emitted when first wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wish {
    /// A memory access.
    Memory(ThunkKey),
    /// A call of the helper with this number.
    Helper(u32),
    /// A check of a jump's target, which raises this fault.
    Target(u32),
}

impl Hash for Wish {
    /// One number of all fields, because each access of a block asks for a thunk.
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(match self {
            Self::Helper(id) => u64::from(*id) << 8 | 0xFF,
            Self::Target(what) => u64::from(*what) << 8 | 0xFE,
            Self::Memory(key) => key.number(),
        });
    }
}

/// A multiplicative hash for wishes.
#[derive(Default)]
struct WishHasher(u64);

impl Hasher for WishHasher {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 29
    }
    fn write(&mut self, bytes: &[u8]) {
        for &b in bytes {
            self.write_u64(u64::from(b));
        }
    }
    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0.rotate_left(7) ^ n).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

/// Offsets of the fixed code.
#[derive(Clone)]
pub(crate) struct Thunks {
    pub(crate) prologue_len: usize,
    load_stub: usize,
    epilogue: usize,
    common_memory: usize,
    pub(crate) helper: usize,
    pub(crate) exit_link: usize,
    pub(crate) exit_poll_direct: usize,
    pub(crate) exit_budget: usize,
    /// By width of the instruction pointer: 32, 64 bits.
    exit_miss: [usize; 2],
    /// Where a jump goes on that has met another's entry of the jump table.
    pub(crate) second_look: usize,
    pub(crate) exit_tb: usize,
    pub(crate) exit_raise: usize,
    pub(crate) save_flags: usize,
    pub(crate) restore_flags: usize,
    /// The compact indirect jump.
    pub(crate) goto_ptr: usize,
    pub(crate) resync: usize,
    pub(crate) simd: SimdThunks,
    /// Where an exception of a native instruction goes on.
    pub(crate) traps: [usize; TRAPS.len()],
}

/// Thunks emitted when they were first wanted.
#[derive(Default)]
pub(crate) struct OnDemand {
    /// Cache offset of each that exists.
    known: HashMap<Wish, usize, BuildHasherDefault<WishHasher>>,
    /// Those emitted with the last block.
    fresh: Vec<Wish>,
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
            exit_budget: 0,
            exit_miss: [0; 2],
            second_look: 0,
            exit_tb: 0,
            exit_raise: 0,
            save_flags: 0,
            restore_flags: 0,
            goto_ptr: 0,
            resync: 0,
            simd: SimdThunks::default(),
            traps: [0; TRAPS.len()],
        };
        let mut asm = Asm::new(buf.free_space());
        let early = t.trampoline(&mut asm, layout);
        t.simd.emit_moves(&mut asm, layout, early);
        t.load_stub = asm.pos();
        load_state(&mut asm, layout);
        t.ways_out(&mut asm, layout);
        t.emit_second_look(&mut asm, layout);
        t.flag_moves(&mut asm, layout);
        t.goto_ptr = asm.pos();
        t.jump_table(&mut asm, layout, 0);
        t.emit_resync(&mut asm, layout);
        t.common_memory = asm.pos();
        code_stores::emit(&mut asm, layout);
        call_out(&mut asm, layout, &t.simd, calls.slow_memory, true, t.epilogue);
        t.helper = asm.pos();
        call_out(&mut asm, layout, &t.simd, calls.helper, false, t.epilogue);
        t.simd.emit_enter(&mut asm, layout, calls, t.epilogue);
        asm.align(64, 0xCC);
        let len = asm.pos();
        buf.advance(len);
        t
    }

    /// Prologue and epilogue; returns the hole of a call of the thunk that saves vector state.
    fn trampoline(&mut self, ops: &mut Asm<'_>, layout: &StateLayout) -> usize {
        dynasm!(ops
            ; .arch x64
            ; push rbp
            ; push rbx
            ; push r12
            ; push r13
            ; push r14
            ; push r15
            ; lea r14, [rdi + STATE_BIAS]
            ; sub rsp, DWORD abi::FRAME
            ; jmp rsi
        );
        self.epilogue = ops.pos();
        let early = simd::leave(ops, layout);
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
        early
    }

    fn ways_out(&mut self, asm: &mut Asm<'_>, layout: &StateLayout) {
        let epilogue = self.epilogue;
        let host_ret = layout.host_ret;
        let with_site = |asm: &mut Asm<'_>, code: u32| {
            let at = asm.pos();
            dynasm!(asm ; .arch x64 ; pop QWORD [r14 + (host_ret - STATE_BIAS)]);
            leave(asm, layout, code, epilogue);
            at
        };
        self.exit_link = with_site(asm, Jit::LINK);
        self.exit_poll_direct = with_site(asm, Jit::POLL_DIRECT);
        self.exit_budget = with_site(asm, Jit::BUDGET);
        self.exit_raise = with_site(asm, exit::FAULT);
        for n in 0..TRAPS.len() {
            self.traps[n] = with_site(asm, Jit::TRAP + n as u32);
        }
        let with_pc = |asm: &mut Asm<'_>, code: u32| {
            asm.store(Width::W64, state(layout.pc), abi::PC);
            leave(asm, layout, code, epilogue);
        };
        self.exit_miss[0] = asm.pos();
        asm.mov_rr(Width::W32, abi::PC, abi::PC);
        self.exit_miss[1] = asm.pos();
        with_pc(asm, Jit::MISS);
        self.exit_tb = asm.pos();
        spill(asm, layout);
        asm.mov_rr(Width::W32, reg::RAX, abi::PC);
        let hole = asm.jmp();
        asm.fix32(hole, epilogue);
    }

    /// The jump table's annex, for a jump to [`abi::PC`] that found another's entry, unless the loop was asked for. Then out.
    fn emit_second_look(&mut self, asm: &mut Asm<'_>, layout: &StateLayout) {
        let (index, table) = (reg::R9, reg::R10);
        let entry = |at: i32| Mem::index(table, index, abi::JUMP_SCALE, abi::ANNEX + at);
        let out = self.exit_miss(Width::W64);
        self.second_look = asm.pos();
        asm.alu_mi(Alu::Cmp, Width::W32, state(layout.jump_mask), 0);
        let asked = asm.jcc(Cond::E);
        asm.imul_rri(Width::W32, index, abi::PC, abi::ANNEX_FACTOR);
        asm.shift_ri(5, Width::W32, Rm::R(index), abi::ANNEX_SHIFT);
        asm.alu_rr(Alu::Add, Width::W32, index, index); // an entry is two words
        asm.load(Width::W64, table, state(layout.jump_base));
        asm.alu_mr(Alu::Cmp, Width::W64, entry(0), abi::PC);
        let other = asm.jcc(Cond::Ne);
        asm.jmp_m(entry(abi::JUMP_HOST));
        asm.fix32(asked, out);
        asm.fix32(other, out);
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

    /// The fixed code's places and names, ascending.
    pub(crate) fn names(&self) -> Vec<(usize, &'static str)> {
        let mut names = vec![
            (0, "prologue"),
            (self.load_stub, "enter"),
            (self.epilogue, "epilogue"),
            (self.common_memory, "slow-memory"),
            (self.helper, "helper"),
            (self.exit_link, "exit-link"),
            (self.exit_poll_direct, "exit-poll-direct"),
            (self.exit_budget, "exit-budget"),
            (self.exit_miss[0], "exit-miss"),
            (self.second_look, "second-look"),
            (self.exit_tb, "exit"),
            (self.exit_raise, "raise"),
            (self.save_flags, "save-flags"),
            (self.restore_flags, "restore-flags"),
            (self.goto_ptr, "goto-ptr"),
            (self.resync, "resync"),
        ];
        names.sort_unstable();
        names
    }
    /// Where an instruction leaves that has raised #XM, all state being home.
    pub(crate) fn trap_simd(&self) -> usize {
        let n = TRAPS.iter().position(|t| t.0 == ir::NativeTrap::Simd).unwrap_or(0);
        self.traps[n]
    }
    /// Is the jump target in `scratch[0]` one, its bits 47 to 63 all equal? If not, leaves with the fault `what`, error code 0.
    fn target_check(&self, asm: &mut Asm<'_>, start: usize, layout: &StateLayout, what: u32) {
        dynasm!(asm ; .arch x64 ; push rax);
        asm.load(Width::W64, reg::RAX, state(layout.scratch));
        dynasm!(asm ; .arch x64 ; sar rax, 47 ; inc rax ; cmp rax, 1 ; pop rax);
        let bad = asm.jcc8(Cond::A);
        asm.byte(0xC3);
        let here = asm.pos();
        asm.fix8(bad, here);
        asm.store_i(Width::W32, state(layout.fault), what as i32);
        asm.store_i(Width::W32, state(layout.fault_code), 0);
        let hole = asm.jmp();
        asm.fix_cache(hole, start, self.exit_raise);
    }

    /// Flags home and back, called from compact code.
    fn flag_moves(&mut self, asm: &mut Asm<'_>, layout: &StateLayout) {
        let home = state(layout.cc);
        self.save_flags = asm.pos();
        dynasm!(asm ; .arch x64 ; push rax ; lahf ; seto al);
        asm.store(Width::W32, home, reg::RAX);
        dynasm!(asm ; .arch x64 ; pop rax ; ret);
        self.restore_flags = asm.pos();
        dynasm!(asm ; .arch x64 ; push rax);
        asm.load(Width::W32, reg::RAX, home);
        dynasm!(asm ; .arch x64 ; add al, 0x7F ; sahf ; pop rax ; ret);
    }

    /// After an insn that may have changed modes or mappings, the state's pc set: goes on by the jump table, which covers all
    /// that can have changed, unless the state says that the run loop must have a look.
    fn emit_resync(&mut self, asm: &mut Asm<'_>, layout: &StateLayout) {
        self.resync = asm.pos();
        let mut holes = [0; 2];
        for (hole, field) in holes.iter_mut().zip([layout.leave, layout.shadow]) {
            asm.alu_mi(Alu::Cmp, Width::W32, state(field), 0);
            *hole = asm.jcc(Cond::Ne);
        }
        asm.load(Width::W64, TLB, state(layout.tlb_base));
        asm.load(Width::W64, abi::PC, state(layout.pc));
        self.jump_table(asm, layout, 0);
        let here = asm.pos();
        for hole in holes {
            asm.fix32(hole, here);
        }
        leave(asm, layout, exit::RESYNC, self.epilogue);
    }

    /// Leaves for want of the code at the instruction pointer, of width `w`, in [`abi::PC`].
    pub(crate) const fn exit_miss(&self, w: Width) -> usize {
        self.exit_miss[matches!(w, Width::W64) as usize]
    }

    /// The indirect jump: by the jump table, or out. The instruction pointer, of width `w`, is in [`abi::PC`], zero-extended.
    /// While other threads hold the mask at 0, entry 0 is looked at and does not match; code it leads to looks at the mask
    /// itself ([`Jit::far_entry`]).
    pub(crate) fn jump_table(&self, asm: &mut Asm<'_>, layout: &StateLayout, start: usize) {
        let (index, table) = (reg::R9, reg::R10);
        let hole = look_up(asm, layout, abi::PC, index, table);
        asm.fix_cache(hole, start, self.second_look);
        asm.jmp_m(Mem::index(table, index, abi::JUMP_SCALE, abi::JUMP_HOST));
    }
}

impl OnDemand {
    /// Fills the calls wanted of the code that begins at cache offset `start`, emitting thunks behind it where they are new. Each call is
    /// a wish and the cache offset of its hole.
    pub(crate) fn emit_wanted(
        &mut self,
        asm: &mut Asm<'_>,
        start: usize,
        (thunks, layout): (&Thunks, &StateLayout),
        wanted: impl Iterator<Item = (Wish, usize)>,
    ) {
        self.fresh.clear();
        for (wish, hole) in wanted {
            let target = match self.known.get(&wish) {
                Some(&at) => at,
                None => {
                    let at = start + asm.pos();
                    match wish {
                        Wish::Memory(key) => key.emit(asm, start, layout, thunks.common_memory),
                        Wish::Target(what) => thunks.target_check(asm, start, layout, what),
                        Wish::Helper(id) => {
                            asm.store_i(Width::W32, state(layout.meta), id as i32);
                            let hole = asm.jmp();
                            asm.fix_cache(hole, start, thunks.helper);
                        }
                    }
                    self.known.insert(wish, at);
                    self.fresh.push(wish);
                    at
                }
            };
            asm.fix_cache(hole - start, start, target);
        }
    }
    /// Forgets the thunks of code that did not fit.
    pub(crate) fn forget_fresh(&mut self) {
        for wish in self.fresh.drain(..) {
            self.known.remove(&wish);
        }
    }
    /// Forgets all thunks: the cache is flushed.
    pub(crate) fn forget_all(&mut self) {
        self.fresh.clear();
        self.known.clear();
    }
}

/// Compares the entry of the jump table for `target` with it, by way of two other registers; returns the hole of the branch to be
/// taken if it is another's.
pub(crate) fn look_up(
    asm: &mut Asm<'_>,
    layout: &StateLayout,
    target: u8,
    index: u8,
    table: u8,
) -> usize {
    asm.mov_rr(Width::W32, index, target);
    asm.alu_rm(Alu::And, Width::W32, index, state(layout.jump_mask));
    asm.load(Width::W64, table, state(layout.jump_base));
    asm.alu_mr(Alu::Cmp, Width::W64, Mem::index(table, index, abi::JUMP_SCALE, 0), target);
    asm.jcc(Cond::Ne)
}

/// Guest registers home.
fn spill(asm: &mut Asm<'_>, layout: &StateLayout) {
    for (n, &r) in PINNED.iter().enumerate() {
        asm.store(Width::W64, state(layout.gpr + 8 * n as i32), r);
    }
}
fn reload(asm: &mut Asm<'_>, layout: &StateLayout, caller_saved_only: bool) {
    for (n, &r) in PINNED.iter().enumerate() {
        if !caller_saved_only || matches!(r, reg::RAX | reg::RCX | reg::RDX | reg::RSI | reg::RDI) {
            asm.load(Width::W64, r, state(layout.gpr + 8 * n as i32));
        }
    }
}
fn leave(asm: &mut Asm<'_>, layout: &StateLayout, code: u32, epilogue: usize) {
    spill(asm, layout);
    asm.mov_ri(Width::W32, reg::RAX, u64::from(code));
    let hole = asm.jmp();
    asm.fix32(hole, epilogue);
}

/// Entry behind the prologue: rdx = target. Loads everything pinned, and the instruction pointer for a target that expects it, and
/// goes there.
fn load_state(asm: &mut Asm<'_>, layout: &StateLayout) {
    asm.mov_rr(Width::W64, reg::R9, reg::RDX);
    asm.load(Width::W64, abi::PC, state(layout.pc));
    asm.load(Width::W64, TLB, state(layout.tlb_base));
    reload(asm, layout, false);
    dynasm!(asm ; .arch x64 ; jmp r9);
}

/// Calls `target(state)` with all guest registers home, keeping the scratch registers. `memory`: called through a memory thunk
/// (two return addresses deep, registers not changed by the callee). The callee returns 0 to go on, or an exit code + 1.
pub(crate) fn call_out(
    asm: &mut Asm<'_>,
    layout: &StateLayout,
    simd: &SimdThunks,
    target: usize,
    memory: bool,
    epilogue: usize,
) {
    let pad = if memory { 0 } else { 8 };
    let returns = if memory { 16 } else { 8 };
    spill(asm, layout);
    dynasm!(asm ; .arch x64 ; push r8 ; push r9 ; push r10 ; push r11);
    asm.load(Width::W64, reg::RAX, Mem::base(reg::RSP, 32 + returns - 8));
    asm.store(Width::W64, state(layout.host_ret), reg::RAX);
    if pad != 0 {
        dynasm!(asm ; .arch x64 ; sub rsp, BYTE 8);
    }
    simd.save_if_ready(asm, layout);
    asm.lea(Width::W64, reg::RDI, state(0));
    asm.mov_ri(Width::W64, reg::RAX, target as u64);
    dynasm!(asm ; .arch x64 ; call rax);
    if pad != 0 {
        dynasm!(asm ; .arch x64 ; add rsp, BYTE 8);
    }
    dynasm!(asm ; .arch x64 ; pop r11 ; pop r10 ; pop r9 ; pop r8);
    asm.test_rr(Width::W32, reg::RAX, reg::RAX);
    let gone = asm.jcc(Cond::Ne);
    simd.load_if_ready(asm, layout);
    reload(asm, layout, memory);
    asm.byte(0xC3);
    let here = asm.pos();
    asm.fix32(gone, here);
    forget_vectors(asm, layout);
    dynasm!(asm ; .arch x64 ; dec eax ; add rsp, BYTE returns as i8);
    let hole = asm.jmp();
    asm.fix32(hole, epilogue);
}
