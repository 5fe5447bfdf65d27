//! The JIT against the evaluator on random blocks: registers, flags, state, memory, faults and the flags seen at every
//! call out of generated code.
#![allow(unsafe_code, reason = "runs generated code")]

use std::mem::offset_of;

use common::{PC_BASE, RUNNER, State, Stop, calls, layout, mix, tlb_for, trap_code, x87};
use ir::text::{NoNames, print};
use ir::{Block, Code, End, FlagMask, Guest, NativeRunner, Scratch, exit, run};
use jit::{CompileError, Compiled, Jit, Request, SegPolicy, Tier, abi};

mod common;
#[path = "../../ir/tests/common/random.rs"]
#[allow(dead_code, reason = "shared with the ir crate's tests")]
mod random;

/// Which registers a block's six become: the low eight, as in 32-bit code, or any of the sixteen.
/// Puts pages of the memory on the maps, and says what their addend is.
fn show_usual(tlb: &mut [u64], is_shown: impl Fn(u64) -> bool) -> u64 {
    for map in [abi::TLB_USUAL_READS, abi::TLB_USUAL_WRITES] {
        let here = |page: u64| u8::from(page < 8 && is_shown(page));
        let byte = |page| (here(page) * abi::USUAL_HERE) | (here(page + 1) * abi::USUAL_NEXT);
        tlb[map as usize / 8] = u64::from_le_bytes(std::array::from_fn(|n| byte(n as u64)));
    }
    tlb[abi::TLB_READ_ADDEND as usize / 8]
}

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
        if op.code == Code::Ptr && op.access_bytes() < 8 {
            op.imm = op.imm & !0xFF | 8;
        }
    }
}

/// Are pointers only used as pointers, each with one definition? (Their values differ between runs.)
fn pointers_are_clean(block: &Block) -> bool {
    let mut pointer = vec![false; block.temps.len()];
    let mut other = vec![false; block.temps.len()];
    for op in &block.ops {
        let is_access = matches!(op.code, Code::LdH | Code::StH | Code::Native);
        for (n, v) in [op.a, op.b, op.c, op.d, op.e].into_iter().enumerate() {
            let Some(t) = v.as_temp().map(usize::from) else {
                if n == 0 && is_access && op.code != Code::Native {
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
        counted: false,
        far: None,
        late_traps: true,
        guesses: !seed.is_multiple_of(4),
    };
    common::compile(jit, seed % 2 == 1, &request, &mut compiled)?;
    let mut got = State::new(seed);
    let mut tlb = tlb_for(&got);
    // The maps show all pages, some of them, or none.
    got.usual_addend = match seed % 4 {
        1 => show_usual(&mut tlb, |_| true),
        2 => show_usual(&mut tlb, |page| seed >> (8 + page) & 1 != 0),
        _ => seed,
    };
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
            let at = jit.buf().offset_of(got.host_ret);
            let exit = compiled.exits.iter().find(|e| at.is_some_and(|at| e.leaves_at(at)));
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
    let mut jit = Jit::new(8 << 20, layout(), calls()).expect("maps a code cache");
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
