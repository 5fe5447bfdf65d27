//! The JIT against the evaluator on random blocks: registers, flags, state, memory, faults and the flags seen at every
//! call out of generated code.
#![allow(unsafe_code, reason = "runs generated code")]

use std::cell::RefCell;
use std::mem::offset_of;

use ir::text::{NoNames, print};
use ir::{
    AccessKind, Block, Code, End, FlagMask, Guest, Native, NativeIo, NativeRunner, NativeState,
    NativeTrap, Scratch, Width, exit, run,
};
use jit::{
    Calls, CompileError, Compiled, Jit, Request, Runner, SegPolicy, StateLayout, Tier,
    WindowLayout, meta_kind, meta_seg, meta_size,
};

#[path = "../../ir/tests/common/random.rs"]
#[allow(dead_code, reason = "shared with the ir crate's tests")]
mod random;

const PAGES: usize = 16;
const PC_BASE: u64 = 0xFFFF_8000_0000_5000;

/// A guest of 64 KiB linear memory: pages 0..8 RAM in the TLB, 8..12 slow, 12..16 fault.
#[repr(C, align(64))]
#[derive(Clone)]
struct State {
    fpu: [u8; 576],
    pad_ymm: [u8; 64],
    ymm: [[u64; 4]; 16],
    ready: u32,
    mxcsr: u32,
    fpu_host: u32,
    cc: u32,
    poll: u32,
    pc_base: u64,
    pc: u64,
    jump_ctx: u64,
    tlb_mask: u64,
    scratch: [u64; 2],
    args: [u64; 4],
    meta: u32,
    pad: u32,
    host_ret: u64,
    tlb_base: u64,
    gpr: [u64; 16],
    window: [u64; 18],
    fault: u32,
    fault_code: u32,
    leave: u32,
    shadow: u32,
    env: [u8; 64],
    memory: Box<[u8; PAGES * 4096]>,
    log: Vec<(u32, u64, u32)>,
    stop: Option<Stop>,
    /// Parts of FP and vector state that fault.
    refused: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stop {
    Fault(u64),
    Raise(u32, u64),
    Helper,
    Trap(NativeTrap),
}

thread_local! {
    static RUNNER: RefCell<Runner> = RefCell::new(Runner::new().expect("maps code"));
}

fn mix(v: u64) -> u64 {
    let v = (v ^ v >> 31).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    v ^ v >> 29
}

impl State {
    fn new(seed: u64) -> Self {
        let mut memory = Box::new([0; PAGES * 4096]);
        for (i, b) in memory.iter_mut().enumerate() {
            *b = mix(seed ^ (i as u64 * 3)) as u8;
        }
        let mut s = Self {
            fpu: initial_fpu(),
            pad_ymm: [0; 64],
            ymm: std::array::from_fn(|n| std::array::from_fn(|i| mix(seed ^ (n * 9 + i) as u64))),
            ready: 0,
            mxcsr: 0x1F80,
            fpu_host: 0,
            cc: 0,
            poll: 0,
            pc_base: PC_BASE,
            pc: PC_BASE,
            jump_ctx: 1 << 48,
            tlb_mask: 0x3FF << 12,
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
    fn at(&self, off: u64) -> usize {
        (off as u32 as usize) % (PAGES * 4096 - 16)
    }
    fn check(&self, off: u64, size: u32) -> Result<usize, Stop> {
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

extern "C" fn slow_memory(state: *mut State) -> u32 {
    // SAFETY: generated code passes the state it was entered with.
    let s = unsafe { &mut *state };
    let (meta, off) = (s.meta, s.scratch[0]);
    let w = Width::from_bits(meta_size(meta) * 8);
    let done = match meta_kind(meta) {
        0 => s.load(meta_seg(meta), off, w),
        1 => s.store(meta_seg(meta), off, w, s.scratch[1]).map(|()| 0),
        _ => s.probe(meta_seg(meta), off, meta_size(meta), AccessKind::Rw),
    };
    finish(s, done, |s, v| s.scratch[1] = v)
}

extern "C" fn helper(state: *mut State) -> u32 {
    // SAFETY: as above.
    let s = unsafe { &mut *state };
    let (id, args) = (s.meta, s.args);
    let done = s.call(id, args);
    finish(s, done, |s, v| s.args[0] = v)
}

extern "C" fn simd_enter(state: *mut State) -> u32 {
    // SAFETY: as above.
    let s = unsafe { &mut *state };
    let done = s.simd_enter(s.meta as u8).map(|()| 0x1F00);
    finish(s, done, |s, v| s.ready = s.ready & 0xFF | v)
}

/// x87 state after FNINIT.
fn initial_fpu() -> [u8; 576] {
    let mut fpu = [0; 576];
    (fpu[0], fpu[1], fpu[512]) = (0x7F, 3, 1);
    fpu
}

fn finish<T>(s: &mut State, done: Result<T, Stop>, put: impl FnOnce(&mut State, T)) -> u32 {
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

fn layout() -> StateLayout {
    let w = |n: usize| {
        let at = (offset_of!(State, window) + n * 24) as i32;
        WindowLayout { base: at, read_end: at + 8, write_end: at + 16 }
    };
    StateLayout {
        cc: offset_of!(State, cc) as i32,
        poll: offset_of!(State, poll) as i32,
        pc_base: offset_of!(State, pc_base) as i32,
        pc: offset_of!(State, pc) as i32,
        jump_ctx: offset_of!(State, jump_ctx) as i32,
        tlb_mask: offset_of!(State, tlb_mask) as i32,
        scratch: offset_of!(State, scratch) as i32,
        args: offset_of!(State, args) as i32,
        meta: offset_of!(State, meta) as i32,
        host_ret: offset_of!(State, host_ret) as i32,
        tlb_base: offset_of!(State, tlb_base) as i32,
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

/// Which registers a block's six become: the low eight, as in 32-bit code, or any of the sixteen.
fn register(n: u8, seed: u64) -> u8 {
    match seed % 3 {
        0 => n & 7,
        _ => n.wrapping_mul(5).wrapping_add((seed >> 2) as u8) & 15,
    }
}

/// Shapes a random block for the guest: registers by `seed`, state fields inside `env`, no overflow in divisions.
fn adapt(block: &mut Block, seed: u64) {
    let (zero, three) = (block.constant(0), block.constant(3));
    let fold = |v: ir::Val| v.as_gpr().map_or(v, |n| ir::Val::gpr(register(n, seed)));
    for op in &mut block.ops {
        (op.d, op.e, op.a, op.b, op.c) =
            (fold(op.d), fold(op.e), fold(op.a), fold(op.b), fold(op.c));
        match op.code {
            Code::LdEnv | Code::StEnv => op.imm += offset_of!(State, env) as u32,
            Code::Ld | Code::St | Code::Ptr => op.x %= 6,
            Code::LdH | Code::StH => op.imm %= 4,
            // No overflow: the tables exclude it before they divide.
            Code::Divu2 | Code::Divs2 => (op.b, op.c) = (zero, three),
            // Undefined flags that the host leaves as they were depend on what came before, which may be optimised away.
            Code::Bt | Code::Bts | Code::Btr | Code::Btc => {
                op.fdef = FlagMask(op.fdef.0 & FlagMask::C.0)
            }
            // The JIT leaves absent arguments as they are.
            Code::Call => {
                for v in [&mut op.a, &mut op.b, &mut op.c, &mut op.e] {
                    if v.is_none() {
                        *v = zero;
                    }
                }
            }
            Code::Imul | Code::Mulu2 | Code::Muls2 => op.fdef = FlagMask(op.fdef.0 & 33),
            Code::Bsf | Code::Bsr => op.fdef = FlagMask(op.fdef.0 & FlagMask::Z.0),
            _ => {}
        }
        if op.code == Code::Ptr {
            op.imm = op.imm & !0xFF | 8;
        }
    }
}

/// Are pointers only used as pointers, each with one definition? (Their values differ between runs.)
fn pointers_are_clean(block: &Block) -> bool {
    let mut pointer = vec![false; block.temps.len()];
    let mut other = vec![false; block.temps.len()];
    for op in &block.ops {
        let is_access = matches!(op.code, Code::LdH | Code::StH);
        for (n, v) in [op.a, op.b, op.c, op.d, op.e].into_iter().enumerate() {
            let Some(t) = v.as_temp().map(usize::from) else {
                if n == 0 && is_access {
                    return false;
                }
                continue;
            };
            if (n == 0 && is_access) || (n == 3 && op.code == Code::Ptr) {
                pointer[t] = true;
            } else {
                other[t] = true;
            }
        }
    }
    pointer.iter().zip(&other).all(|(p, o)| !(*p && *o))
}

fn tlb_for(s: &State) -> Vec<u64> {
    let mut t = vec![0u64; 0xC000 / 8];
    let base = s.memory.as_ptr() as u64;
    for i in 0..1024usize {
        let ram = i < 8;
        let tag = if ram { (i as u64) << 12 } else { ((i ^ 1) as u64) << 12 };
        for table in [0, 0x800] {
            t[table + i] = tag;
            t[table + 0x400 + i] = base;
        }
    }
    t
}

fn trap_code(trap: NativeTrap) -> u32 {
    (0..64).find(|&code| Jit::trap_of(code) == Some(trap)).expect("every trap has a code")
}

/// Control, status and tag words, and the registers.
fn x87(fpu: &[u8; 576]) -> Vec<u8> {
    let registers = (0..8).flat_map(|n| &fpu[32 + 16 * n..][..10]);
    fpu[..5].iter().chain(registers).copied().collect()
}

fn one(
    jit: &mut Jit,
    genes: &[random::Gene],
    seed: u64,
    optimise: bool,
    tier: Tier,
) -> Result<(), CompileError> {
    let mut block = random::random_block(genes);
    adapt(&mut block, seed);
    if !pointers_are_clean(&block) || ir::verify(&block).is_err() {
        return Ok(());
    }
    let mut expect = State::new(seed);
    let end = run(&block, &mut expect, &mut Scratch::new());
    let original = print(&block, &NoNames);
    if optimise {
        ir::opt::optimize(&mut block, &mut Scratch::new(), ir::opt::Passes::ALL, ir::opt::ALL_LIVE);
    }
    if std::env::var_os("JIT_DUMP").is_some() {
        std::fs::write("/tmp/jit.txt", print(&block, &NoNames)).expect("writes");
    }
    let mut compiled = Compiled::default();
    let request = Request {
        block: &block,
        seg: [SegPolicy::Flat; 6],
        page_offset: 0,
        tier,
        exit_flags: [FlagMask::ALL; 2],
    };
    jit.compile(&request, &mut compiled)?;
    let mut got = State::new(seed);
    let tlb = tlb_for(&got);
    got.tlb_base = tlb.as_ptr() as u64;
    // SAFETY: the state matches the layout, its TLB covers its own memory.
    let code = unsafe { jit.enter((&raw mut got).cast(), compiled.entry) };
    let what = match end {
        End::Stop(Stop::Raise(what, c)) => (exit::FAULT, u64::from(what) << 32 | c & 0xFFFF_FFFF),
        End::Stop(Stop::Trap(trap)) => (trap_code(trap), 0),
        End::Stop(_) => (exit::FAULT, 0),
        End::GotoTb { slot, .. } => (Jit::LINK, u64::from(slot)),
        End::GotoPtr(pc) => (Jit::MISS, pc),
        End::Exit { code, pc } => (code, pc.unwrap_or(PC_BASE)),
    };
    let have = match end {
        End::Stop(Stop::Raise(..)) => {
            (code, u64::from(got.fault) << 32 | u64::from(got.fault_code))
        }
        End::Stop(_) => (code, 0),
        End::GotoTb { .. } => {
            let exit = compiled.exits.iter().find(|e| e.stub_ret == got.host_ret);
            (code, exit.map_or(9, |e| u64::from(e.slot)))
        }
        _ => (code, got.pc),
    };
    if std::env::var_os("JIT_DUMP").is_some() {
        std::fs::write(
            "/tmp/jit.bin",
            jit.buf().bytes(compiled.entry, compiled.end - compiled.entry),
        )
        .expect("writes");
    }
    if got.fpu_host != 0 {
        RUNNER.with_borrow_mut(|r| r.park(&mut got.fpu));
    }
    let same = what == have
        && expect.ymm == got.ymm
        && expect.mxcsr == got.mxcsr
        && x87(&expect.fpu) == x87(&got.fpu)
        && expect.gpr == got.gpr
        && expect.flags() == got.flags()
        && expect.env == got.env
        && expect.memory == got.memory
        && expect.log == got.log;
    assert!(
        same,
        "seed {seed:#x} optimise {optimise} {tier:?}\n{original}\n-- compiled:\n{}\nend {end:x?} want {what:x?} have {have:x?} stop {:x?}\nwant {:x?} {:x} {:x?}\nhave {:x?} {:x} {:x?}\nenv {} memory {}",
        print(&block, &NoNames),
        got.stop,
        &expect.gpr,
        expect.flags(),
        expect.log,
        &got.gpr,
        got.flags(),
        got.log,
        expect.env == got.env,
        expect.memory == got.memory,
    );
    Ok(())
}

#[test]
fn random_blocks() {
    let cases: u64 = std::env::var("JIT_CASES").ok().and_then(|v| v.parse().ok()).unwrap_or(2_000);
    let calls = Calls {
        slow_memory: slow_memory as *const () as usize,
        helper: helper as *const () as usize,
        simd_enter: simd_enter as *const () as usize,
    };
    let mut jit = Jit::new(8 << 20, layout(), calls).expect("maps a code cache");
    let base: u64 = std::env::var("JIT_SEED").ok().and_then(|v| v.parse().ok()).unwrap_or(1);
    let (mut refused, mut done) = (0, 0);
    for case in 0..cases {
        let mut r = mix(base * 1_000_003 + case);
        let mut next = || {
            r = mix(r.wrapping_add(0x1234_5678_9ABC_DEF1));
            (r >> 20) as u16
        };
        let len = 1 + next() as usize % 20;
        let genes: Vec<random::Gene> = (0..len).map(|_| std::array::from_fn(|_| next())).collect();
        for (optimise, tier) in
            [(false, Tier::Compact), (false, Tier::Hot), (true, Tier::Compact), (true, Tier::Hot)]
        {
            match one(&mut jit, &genes, case, optimise, tier) {
                Ok(()) => done += 1,
                Err(CompileError::Full) => jit.flush(),
                Err(_) => refused += 1,
            }
        }
    }
    println!("{done} blocks agree, {refused} refused");
    assert!(refused < done, "the JIT refuses too much: {refused} of {}", done + refused);
}
