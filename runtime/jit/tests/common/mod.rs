//! The tests' guest: a state of their own, 64 KiB of memory, helpers that mix their arguments, FP state.

use std::cell::RefCell;
use std::mem::offset_of;
use std::sync::LazyLock;

use ir::{AccessKind, Guest, Native, NativeIo, NativeRunner, NativeState, NativeTrap, Width, exit};
use jit::{
    Calls, CompileError, Compiled, Jit, Piece, Request, Runner, SlowKind, StateLayout,
    WindowLayout, abi, meta_is_aligned, meta_kind, meta_seg, meta_size,
};

pub(crate) const PAGES: usize = 16;
/// A jump table with its annex, all of it empty.
static NO_TARGETS: LazyLock<Vec<u64>> = LazyLock::new(|| {
    let annex = abi::ANNEX as usize / 8;
    let mut words = vec![0; annex + (2 << (32 - abi::ANNEX_SHIFT))];
    // Where 0 would be looked for is something else.
    (words[0], words[annex]) = (1, 1);
    words
});

/// Compiles a block in its place, or as another thread would: away from the cache, and then moved there.
pub(crate) fn compile(
    jit: &mut Jit,
    away: bool,
    request: &Request<'_>,
    out: &mut Compiled,
) -> Result<(), CompileError> {
    if !away {
        return jit.compile(request, out);
    }
    let mut piece = Piece::default();
    jit.compiler().compile(request, &mut piece)?;
    jit.install(&piece, out)
}

pub(crate) const PC_BASE: u64 = 0xFFFF_8000_0000_5000;

/// A guest of 64 KiB linear memory: pages 0..8 RAM in the TLB, 8..12 slow, 12..16 fault.
#[repr(C, align(64))]
#[derive(Clone)]
pub(crate) struct State {
    pub(crate) fpu: [u8; 576],
    pub(crate) pad_ymm: [u8; 64],
    pub(crate) ymm: [[u64; 4]; 16],
    pub(crate) ready: u32,
    pub(crate) mxcsr: u32,
    pub(crate) fpu_host: u32,
    pub(crate) cc: u32,
    pub(crate) turns: u64,
    pub(crate) jump_mask: u32,
    pub(crate) pc_base: u64,
    pub(crate) pc: u64,
    pub(crate) jump_base: u64,
    pub(crate) tlb_mask: u64,
    pub(crate) usual_addend: u64,
    pub(crate) is_bounced: u64,
    pub(crate) scratch: [u64; 2],
    pub(crate) args: [u64; 4],
    pub(crate) meta: u32,
    pub(crate) pad: u32,
    pub(crate) host_ret: u64,
    pub(crate) tlb_base: u64,
    pub(crate) gpr: [u64; 16],
    pub(crate) window: [u64; 18],
    pub(crate) fault: u32,
    pub(crate) fault_code: u32,
    pub(crate) leave: u32,
    pub(crate) shadow: u32,
    pub(crate) env: [u8; 64],
    pub(crate) memory: Box<[u8; PAGES * 4096]>,
    pub(crate) log: Vec<(u32, u64, u32)>,
    pub(crate) stop: Option<Stop>,
    /// Parts of FP and vector state that fault.
    pub(crate) refused: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    Fault(u64),
    Raise(u32, u64),
    Helper,
    Trap(NativeTrap),
}

thread_local! {
    pub(crate) static RUNNER: RefCell<Runner> = RefCell::new(Runner::new().expect("maps code"));
}

pub(crate) fn mix(v: u64) -> u64 {
    let v = (v ^ v >> 31).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    v ^ v >> 29
}

impl State {
    pub(crate) fn new(seed: u64) -> Self {
        let mut memory = Box::new([0; PAGES * 4096]);
        for (i, b) in memory.iter_mut().enumerate() {
            *b = mix(seed ^ (i as u64 * 3)) as u8;
        }
        let mut s = Self {
            fpu: initial_fpu(seed),
            pad_ymm: [0; 64],
            ymm: std::array::from_fn(|n| std::array::from_fn(|i| mix(seed ^ (n * 9 + i) as u64))),
            ready: 0,
            mxcsr: 0x1F80 & !unmasked(seed, 4, 0x1F80),
            fpu_host: 0,
            cc: 0,
            turns: 0,
            jump_mask: 1,
            pc_base: PC_BASE,
            pc: PC_BASE,
            jump_base: NO_TARGETS.as_ptr() as u64,
            tlb_mask: 0x3FF << 12,
            usual_addend: 0,
            is_bounced: 0,
            scratch: [0; 2],
            args: [0; 4],
            meta: 0,
            pad: 0,
            host_ret: 0,
            tlb_base: 0,
            gpr: std::array::from_fn(|n| {
                mix(seed + n as u64 * 77) >> if n % 2 == 0 { 32 } else { 48 }
            }),
            window: [0; 18],
            fault: 0,
            fault_code: 0,
            leave: 1,
            shadow: 0,
            env: std::array::from_fn(|n| mix(seed ^ n as u64) as u8),
            memory,
            log: Vec::new(),
            stop: None,
            refused: 0,
        };
        s.set_flags(mix(seed ^ 0xF1A6) as u32 & 0x8D5);
        s
    }
    pub(crate) fn at(&self, off: u64) -> usize {
        (off as u32 as usize) % (PAGES * 4096 - 16)
    }
    pub(crate) fn check(&self, off: u64, size: u32) -> Result<usize, Stop> {
        let at = self.at(off);
        if (at + size as usize - 1) / 4096 >= 12 { Err(Stop::Fault(off)) } else { Ok(at) }
    }
}

impl Guest for State {
    type Stop = Stop;
    fn gpr(&self, n: u8) -> u64 {
        self.gpr[usize::from(n)]
    }
    fn set_gpr(&mut self, n: u8, v: u64) {
        self.gpr[usize::from(n)] = v;
    }
    fn flags(&self) -> u32 {
        (self.cc >> 8 & 0xD5) | (self.cc & 1) << 11
    }
    fn set_flags(&mut self, v: u32) {
        self.cc = (v & 0xD5) << 8 | (v >> 11 & 1);
    }
    fn ld_env(&self, off: u32, w: Width) -> u64 {
        let at = off as usize - offset_of!(State, env);
        let mut b = [0; 8];
        b[..w.bytes() as usize].copy_from_slice(&self.env[at..at + w.bytes() as usize]);
        u64::from_le_bytes(b)
    }
    fn st_env(&mut self, off: u32, w: Width, v: u64) {
        let at = off as usize - offset_of!(State, env);
        self.env[at..at + w.bytes() as usize]
            .copy_from_slice(&v.to_le_bytes()[..w.bytes() as usize]);
    }
    fn read_pc(&self, page_off: i32) -> u64 {
        self.pc_base.wrapping_add(i64::from(page_off) as u64)
    }
    fn load(&mut self, _seg: u8, off: u64, w: Width) -> Result<u64, Stop> {
        let at = self.check(off, w.bytes())?;
        let mut b = [0; 8];
        b[..w.bytes() as usize].copy_from_slice(&self.memory[at..at + w.bytes() as usize]);
        Ok(u64::from_le_bytes(b))
    }
    fn store(&mut self, _seg: u8, off: u64, w: Width, v: u64) -> Result<(), Stop> {
        let at = self.check(off, w.bytes())?;
        self.memory[at..at + w.bytes() as usize]
            .copy_from_slice(&v.to_le_bytes()[..w.bytes() as usize]);
        Ok(())
    }
    fn probe(&mut self, _seg: u8, off: u64, size: u32, _kind: AccessKind) -> Result<u64, Stop> {
        let at = self.check(off, size)?;
        Ok(self.memory.as_ptr() as u64 + at as u64)
    }
    fn probe_aligned(
        &mut self,
        seg: u8,
        off: u64,
        size: u32,
        kind: AccessKind,
    ) -> Result<u64, Stop> {
        if off & u64::from(size - 1) != 0 {
            return Err(Stop::Fault(off));
        }
        self.probe(seg, off, size, kind)
    }
    fn ld_ptr(&mut self, p: u64, disp: i32, w: Width) -> u64 {
        let at = (p - self.memory.as_ptr() as u64) as usize + disp as usize;
        let mut b = [0; 8];
        b[..w.bytes() as usize].copy_from_slice(&self.memory[at..at + w.bytes() as usize]);
        u64::from_le_bytes(b)
    }
    fn st_ptr(&mut self, p: u64, disp: i32, w: Width, v: u64) {
        let at = (p - self.memory.as_ptr() as u64) as usize + disp as usize;
        self.memory[at..at + w.bytes() as usize]
            .copy_from_slice(&v.to_le_bytes()[..w.bytes() as usize]);
    }
    fn call(&mut self, id: u32, args: [u64; 4]) -> Result<u64, Stop> {
        let h = args.iter().fold(u64::from(id), |h, &a| mix(h ^ a));
        self.log.push((id, h, self.flags()));
        self.gpr[(h % 16) as usize] ^= h >> 40;
        self.set_flags((h >> 8) as u32 & 0x8D5);
        if h % 17 == 0 { Err(Stop::Helper) } else { Ok(h >> 33) }
    }
    fn simd_enter(&mut self, uses: u8) -> Result<(), Stop> {
        if uses & self.refused != 0 { Err(Stop::Helper) } else { Ok(()) }
    }
    fn native(&mut self, native: &Native, io: &mut NativeIo) -> Result<(), Stop> {
        let mut operand = [0; 64];
        let memory = io.mem.map(|p| {
            let at = (p - self.memory.as_ptr() as u64) as usize;
            at..at + io.size as usize
        });
        if let Some(range) = memory.clone() {
            operand[..range.len()].copy_from_slice(&self.memory[range]);
        }
        let parts = NativeState {
            gpr: &mut self.gpr,
            ymm: &mut self.ymm,
            mxcsr: &mut self.mxcsr,
            fpu: &mut self.fpu,
            operand: &mut operand,
        };
        RUNNER.with_borrow_mut(|r| r.run(native, io, parts)).map_err(Stop::Trap)?;
        if let Some(range) = memory.filter(|_| io.kind != AccessKind::R) {
            let len = range.len();
            self.memory[range].copy_from_slice(&operand[..len]);
        }
        Ok(())
    }
    fn raise(&mut self, what: u32, code: u64) -> Stop {
        Stop::Raise(what, code)
    }
}

pub(crate) extern "C" fn slow_memory(state: *mut State) -> u32 {
    // SAFETY: generated code passes the state it was entered with.
    let s = unsafe { &mut *state };
    let (meta, off) = (s.meta, s.scratch[0]);
    let w = Width::from_bits(meta_size(meta) * 8);
    let misaligned = meta_is_aligned(meta) && off & u64::from(meta_size(meta) - 1) != 0;
    let done = match meta_kind(meta) {
        _ if misaligned => Err(Stop::Fault(off)),
        SlowKind::Load => s.load(meta_seg(meta), off, w),
        SlowKind::Store => s.store(meta_seg(meta), off, w, s.scratch[1]).map(|()| 0),
        _ => s.probe(meta_seg(meta), off, meta_size(meta), AccessKind::Rw),
    };
    finish(s, done, |s, v| s.scratch[1] = v)
}

pub(crate) extern "C" fn helper(state: *mut State) -> u32 {
    // SAFETY: as above.
    let s = unsafe { &mut *state };
    let (id, args) = (s.meta, s.args);
    let done = s.call(id, args);
    finish(s, done, |s, v| s.args[0] = v)
}

pub(crate) extern "C" fn simd_enter(state: *mut State) -> u32 {
    // SAFETY: as above.
    let s = unsafe { &mut *state };
    let done = s.simd_enter(s.meta as u8).map(|()| 0x1F00);
    finish(s, done, |s, v| s.ready = s.ready & 0xFF | v)
}

/// x87 state after FNINIT.
pub(crate) fn initial_fpu(seed: u64) -> [u8; 576] {
    let mut fpu = [0; 576];
    let unmasked = unmasked(seed, 5, 0x3F) as u8;
    (fpu[0], fpu[1], fpu[512]) = (0x7F & !unmasked, 3, 1);
    fpu
}

/// For every `nth` seed some exceptions.
fn unmasked(seed: u64, nth: u64, all: u32) -> u32 {
    if seed.is_multiple_of(nth) { (mix(seed) >> 11) as u32 & all } else { 0 }
}

pub(crate) fn finish<T>(
    s: &mut State,
    done: Result<T, Stop>,
    put: impl FnOnce(&mut State, T),
) -> u32 {
    match done {
        Ok(v) => {
            put(s, v);
            0
        }
        Err(stop) => {
            s.stop = Some(stop);
            exit::FAULT + 1
        }
    }
}

pub(crate) fn layout() -> StateLayout {
    let w = |n: usize| {
        let at = (offset_of!(State, window) + n * 24) as i32;
        WindowLayout { base: at, read_end: at + 8, write_end: at + 16 }
    };
    StateLayout {
        cc: offset_of!(State, cc) as i32,
        jump_mask: offset_of!(State, jump_mask) as i32,
        turns: offset_of!(State, turns) as i32,
        pc_base: offset_of!(State, pc_base) as i32,
        pc: offset_of!(State, pc) as i32,
        jump_base: offset_of!(State, jump_base) as i32,
        tlb_mask: offset_of!(State, tlb_mask) as i32,
        usual_addend: offset_of!(State, usual_addend) as i32,
        is_bounced: offset_of!(State, is_bounced) as i32,
        scratch: offset_of!(State, scratch) as i32,
        args: offset_of!(State, args) as i32,
        meta: offset_of!(State, meta) as i32,
        host_ret: offset_of!(State, host_ret) as i32,
        tlb_base: offset_of!(State, tlb_base) as i32,
        // No block here is counted.
        code_lines: jit::CodeLines::default(),
        budget: 0,
        ahead: 0,
        gpr: offset_of!(State, gpr) as i32,
        fault: offset_of!(State, fault) as i32,
        fault_code: offset_of!(State, fault_code) as i32,
        leave: offset_of!(State, leave) as i32,
        shadow: offset_of!(State, shadow) as i32,
        ready: offset_of!(State, ready) as i32,
        mxcsr: offset_of!(State, mxcsr) as i32,
        fpu_host: offset_of!(State, fpu_host) as i32,
        fpu: offset_of!(State, fpu) as i32,
        ymm: offset_of!(State, ymm) as i32,
        window: std::array::from_fn(w),
    }
}

pub(crate) fn tlb_for(s: &State) -> Vec<u64> {
    let [addends, writes] = [abi::TLB_READ_ADDEND, abi::TLB_WRITE].map(|at| at as usize / 8);
    // The maps, empty: every guess is looked up in the tags.
    let mut t = vec![0u64; (abi::TLB_USUAL_WRITES as usize + (1 << 20)) / 8];
    let base = s.memory.as_ptr() as u64;
    for i in 0..1024usize {
        let ram = i < 8;
        let tag = if ram { (i as u64) << 12 } else { ((i ^ 1) as u64) << 12 };
        for table in [0, writes] {
            t[table + i] = tag;
            t[table + addends + i] = base;
        }
    }
    t
}

pub(crate) fn trap_code(trap: NativeTrap) -> u32 {
    (0..64).find(|&code| Jit::trap_of(code) == Some(trap)).expect("every trap has a code")
}

/// Control, status and tag words, and the registers.
pub(crate) fn x87(fpu: &[u8; 576]) -> Vec<u8> {
    let registers = (0..8).flat_map(|n| &fpu[32 + 16 * n..][..10]);
    fpu[..5].iter().chain(registers).copied().collect()
}

/// The functions generated code calls.
pub(crate) fn calls() -> Calls {
    Calls {
        slow_memory: slow_memory as *const () as usize,
        helper: helper as *const () as usize,
        simd_enter: simd_enter as *const () as usize,
    }
}
