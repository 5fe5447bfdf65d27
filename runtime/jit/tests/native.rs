//! Native instructions in generated code and on the evaluator: values, flags, memory, faults, traps, and who holds the state when.
#![allow(unsafe_code, reason = "runs generated code")]

use common::{RUNNER, State, calls, layout, tlb_for, trap_code, x87};
use ir::opt::{ALL_LIVE, Passes, optimize};
use ir::text::{NoNames, parse};
use ir::{Block, End, FlagMask, NativeRunner, NativeTrap, Scratch, run};
use jit::{Compiled, Jit, Request, SegPolicy, Tier};

mod common;

fn jit() -> Jit {
    Jit::new(8 << 20, layout(), calls()).expect("maps a code cache")
}

fn enter(jit: &mut Jit, block: &Block, tier: Tier, s: &mut State) -> u32 {
    let mut compiled = Compiled::default();
    let request = Request {
        block,
        seg: [SegPolicy::Flat; 6],
        page_offset: 0,
        tier,
        exit_flags: [FlagMask::ALL; 2],
        counted: false,
        far: None,
        late_traps: true,
        guesses: false,
    };
    let away = block.ops.len() % 2 == 1;
    common::compile(jit, away, &request, &mut compiled).expect("compiles");
    let tlb = tlb_for(s);
    s.tlb_base = tlb.as_ptr() as u64;
    // SAFETY: the state matches the layout, its TLB covers its own memory.
    let code = unsafe { jit.enter((&raw mut *s).cast(), compiled.entry) };
    if s.fpu_host != 0 {
        RUNNER.with_borrow_mut(|r| r.park(&mut s.fpu));
        s.fpu_host = 0;
        s.ready &= !0x13;
    }
    assert_eq!(s.ready & 12, 0, "vector state stays in registers");
    code
}

/// Runs ops on the evaluator and as both kinds of host code, with and without passes: all agree. Returns the state and
/// the exit code.
#[track_caller]
fn check(text: &str, prepare: impl Fn(&mut State)) -> (State, u32) {
    check_on(&[Tier::Compact, Tier::Hot], text, prepare)
}

/// The same as these kinds of host code only.
#[track_caller]
fn check_on(tiers: &[Tier], text: &str, prepare: impl Fn(&mut State)) -> (State, u32) {
    let block = parse(text, &NoNames).expect("parses");
    ir::verify(&block).unwrap_or_else(|e| panic!("{e:?}"));
    let mut want = State::new(7);
    prepare(&mut want);
    let end = run(&block, &mut want, &mut Scratch::new());
    let mut code = 0;
    for (optimise, &tier) in
        [false, true].into_iter().flat_map(|o| tiers.iter().map(move |t| (o, t)))
    {
        let mut block = block.clone();
        if optimise {
            optimize(&mut block, &mut Scratch::new(), Passes::ALL, ALL_LIVE);
        }
        let mut have = State::new(7);
        prepare(&mut have);
        code = enter(&mut jit(), &block, tier, &mut have);
        let what = format!("{optimise} {tier:?}\n{text}\n{end:?} exit {code}");
        assert_eq!(have.gpr, want.gpr, "general registers {what}");
        assert_eq!(have.cc & 0xD501, want.cc & 0xD501, "flags {what}");
        assert_eq!(have.ymm, want.ymm, "vector registers {what}");
        assert_eq!(have.mxcsr, want.mxcsr, "MXCSR {what}");
        assert_eq!(x87(&have.fpu), x87(&want.fpu), "x87 {what}");
        assert!(have.memory == want.memory, "memory {what}");
        assert_eq!(have.env, want.env, "state {what}");
        if let End::Stop(common::Stop::Trap(trap)) = end {
            assert_eq!(code, trap_code(trap), "exit {what}");
        }
    }
    (want, code)
}

fn singles(v: [f32; 4]) -> [u64; 4] {
    let two = |a: f32, b: f32| u64::from(a.to_bits()) | u64::from(b.to_bits()) << 32;
    [two(v[0], v[1]), two(v[2], v[3]), 0, 0]
}

#[test]
fn vector_arithmetic() {
    let text = "
        ---- 0 len=3
        simd_enter sse
        native_i32 _,_,_,_,0f.58,reg=v1,rm=v9,uses=sse,trap
        goto_tb $0x1,$0x10";
    let (s, _) = check(text, |s| {
        s.ymm[1] = singles([1.0, 2.0, 3.0, 4.0]);
        s.ymm[9] = singles([0.5, 0.25, -3.0, 1e10]);
    });
    assert_eq!(s.ymm[1], singles([1.5, 2.25, 0.0, 4.0 + 1e10]));
}

#[test]
fn memory_operands_and_three_operands() {
    let text = "
        ---- 0 len=3
        simd_enter sse+avx
        guest_ptr_i64 tmp0,$0x1010,ds,16,r,aligned
        native_i32 _,tmp0,_,_,66.0f38.00,reg=v2,rm=mem,r16,uses=sse
        ---- 3 len=5
        guest_ptr_i64 tmp1,esi,ds,32,r
        native_i32 _,tmp1,_,_,vex256.66.0f.fe,reg=v3,vvvv=v2,rm=mem,r32,uses=avx
        guest_ptr_i64 tmp2,$0x2008,ds,16,w
        native_i32 _,tmp2,_,_,0f.11,reg=v3,rm=mem,w16,uses=sse
        native_i32 _,_,_,_,vex128.0f.77,uses=avx
        goto_tb $0x1,$0x10";
    let (s, _) = check(text, |s| s.gpr[6] = 0x1234);
    assert_eq!(s.ymm[3][2..], [0; 2], "VZEROUPPER");
    assert_eq!(s.memory[0x2008..0x2010], s.ymm[3][0].to_le_bytes());
}

#[test]
fn memory_beyond_the_fast_path() {
    let text = "
        ---- 0 len=3
        simd_enter sse
        guest_ptr_i64 tmp0,esi,ds,16,r,aligned
        native_i32 _,tmp0,_,_,66.0f.fe,reg=v2,rm=mem,r16,uses=sse
        add_i32 esi,esi,$0x4
        guest_ptr_i64 tmp1,esi,ds,8,r
        native_i64 _,tmp1,_,_,66.0f3a.w1.22,reg=v2,rm=mem,r8,imm1=0x1,uses=sse
        guest_ptr_i64 tmp2,edi,ds,16,w
        native_i32 _,tmp2,_,_,0f.11,reg=v2,rm=mem,w16,uses=sse
        goto_tb $0x1,$0x10";
    // Pages 8 to 12 are memory that the TLB does not have, those behind fault.
    for (si, di) in [(0x8010, 0x9005), (0x2340, 0x2345), (0x9010, 0xD000), (0x1FF0, 0x1FF8)] {
        check(text, |s| (s.gpr[6], s.gpr[7]) = (si, di));
    }
}

#[test]
fn general_registers() {
    let text = "
        ---- 0 len=3
        simd_enter sse
        native_i64 _,_,r8,_,f2.0f.w1.2a,reg=v1,rm=in0,uses=sse,trap
        native_i32 r9d,_,_,_,0f.50,reg=out,rm=v4,uses=sse
        native_i32 edi,_,_,_,66.0f.d7,reg=out,rm=v5,uses=sse
        native_i64 r12,_,_,_,66.0f.w1.7e,reg=v1,rm=out,uses=sse
        mov_i32 tmp0,$0x12345678
        native_i32 _,_,tmp0,_,66.0f.6e,reg=v6,rm=in0,uses=sse
        goto_tb $0x1,$0x10";
    let (s, _) = check(text, |s| s.gpr[8] = (-5i64).cast_unsigned());
    assert_eq!(s.ymm[1][0], (-5f64).to_bits());
    assert_eq!(s.gpr[12], (-5f64).to_bits());
    assert_eq!(s.ymm[6], [0x1234_5678, 0, s.ymm[6][2], s.ymm[6][3]]);
}

#[test]
fn flags_written() {
    let text = "
        ---- 0 len=3
        simd_enter sse
        native_i32 _,_,_,_,0f.2f,reg=v1,rm=v2,uses=sse,trap,writes=cpazso
        setccf_i8 al,b
        jccf p,$L0
        native_i32 eax,_,ecx,_,f3.0f.b8,reg=out,rm=in0,writes=cpazso
        goto_tb $0x0,$0x20
        set_label $L0
        goto_tb $0x1,$0x10";
    for b in [1.0f32, 2.0, 0.0, f32::NAN] {
        let (s, _) = check(text, |s| {
            s.ymm[1] = singles([1.0, 0.0, 0.0, 0.0]);
            s.ymm[2] = singles([b, 0.0, 0.0, 0.0]);
        });
        if !b.is_nan() {
            assert_eq!(s.gpr[0], u64::from((s.gpr[1] as u32).count_ones()), "{b}");
        }
    }
}

#[test]
fn flags_kept_across_natives() {
    let text = "
        ---- 0 len=3
        simd_enter sse
        subf_i32 _,eax,ecx
        native_i32 _,_,_,_,66.0f.ef,reg=v1,rm=v2,uses=sse
        native_i32 _,_,_,_,0f.59,reg=v1,rm=v2,uses=sse,trap
        setccf_i8 dl,l
        goto_tb $0x1,$0x10";
    check(text, |s| (s.gpr[0], s.gpr[1]) = (5, 6));
    let (s, _) = check(text, |s| (s.gpr[0], s.gpr[1]) = (7, 6));
    assert_eq!(s.gpr[2] & 0xFF, 0);
}

#[test]
fn bit_manipulation_without_simd_state() {
    let text = "
        ---- 0 len=3
        native_i64 r9,_,rbx,rdx,vex128.f2.0f38.w1.f5,reg=out,vvvv=in0,rm=in1
        native_i32 esp,_,ebp,_,f2.0f38.f0,reg=inout,rm=in0,byte
        guest_ptr_i64 tmp0,$0x1004,ds,2,r
        native_i32 r10d,tmp0,_,_,f2.0f38.f1,reg=inout,rm=mem,r2,opsize
        native_i16 si,_,cx,_,f3.0f.b8,reg=out,rm=in0,opsize,writes=cpazso
        goto_tb $0x1,$0x10";
    let (s, _) = check(text, |_| ());
    assert_ne!(s.gpr[9], State::new(7).gpr[9]);
}

#[test]
fn flags_read() {
    let text = "
        ---- 0 len=3
        subf_i32 _,eax,ecx
        guest_ptr_i64 tmp0,$0x1004,ds,8,r
        native_i64 rbx,tmp0,_,_,66.0f38.w1.f6,reg=inout,rm=mem,r8,reads=c,writes=c
        setccf_i8 dl,e
        setccf_i8 dh,b
        goto_tb $0x1,$0x10";
    for (a, b) in [(1, 2), (2, 1), (2, 2)] {
        check(text, |s| (s.gpr[0], s.gpr[1], s.gpr[3]) = (a, b, u64::MAX));
    }
}

#[test]
fn implicit_general_registers() {
    // PCMPESTRI: rax and rdx in, rcx out, flags.
    let text = "
        ---- 0 len=6
        simd_enter sse
        add_i32 eax,eax,$0x1
        native_i32 _,_,_,_,66.0f3a.61,reg=v1,rm=v2,imm1=0xc,uses=sse,implicit,writes=cpazso
        add_i32 ecx,ecx,$0x1
        goto_tb $0x1,$0x10";
    let (s, _) = check(text, |s| {
        (s.gpr[0], s.gpr[2]) = (1, 9);
        s.ymm[1][0] = u64::from_le_bytes(*b"el......");
        s.ymm[2][0] = u64::from_le_bytes(*b"helell..");
        s.ymm[2][1] = u64::from_le_bytes(*b"........");
    });
    assert_eq!(s.gpr[1], 2, "found at 1");
}

#[test]
fn x87_stays_across_instructions_and_calls() {
    let text = "
        ---- 0 len=2
        simd_enter x87
        native_i32 _,_,_,_,d9,reg=/5,rm=/0,uses=x87,trap
        ---- 2 len=2
        simd_enter x87
        native_i32 _,_,_,_,d9,reg=/5,rm=/3,uses=x87,trap
        call_i32 $0x3,_,$0x1,$0x2,$0x3,$0x4
        ---- 4 len=2
        simd_enter x87
        native_i32 _,_,_,_,de,reg=/0,rm=/1,uses=x87,trap
        guest_ptr_i64 tmp0,$0x1003,ds,10,w
        native_i32 _,tmp0,_,_,db,reg=/7,rm=mem,w10,uses=x87,trap
        goto_tb $0x1,$0x10";
    let (s, _) = check(text, |_| ());
    // 1 + pi, rounded to 64 bits of mantissa.
    assert_eq!(s.memory[0x1003..0x100D], [0x1A, 0x61, 0xB4, 0x10, 0x51, 0xED, 0x87, 0x84, 1, 0x40]);
}

#[test]
fn an_address_stays_while_flags_go_home() {
    // Once all registers are taken, that of the address or the last one can be put away: the others' temporaries live beyond a label.
    for live in 1..5 {
        let some = |n: usize, f: fn(usize) -> String| (2..2 + n).map(f).collect::<String>();
        let each = |f| some(live, f);
        let text = format!(
            "
        ---- 0 len=3
        simd_enter x87
        guest_ptr_i64 tmp0,$0x1010,ds,16,r
        {}subf_i32 _,eax,ecx
        jccf e,$L0
        add_i64 tmp1,tmp0,$0x4
        native_i32 _,tmp1,_,_,dd,reg=/0,rm=mem,r8,uses=x87,trap
        setccf_i8 dl,l
        {}ld_h_i32 edi,tmp0,$0x8
        goto_tb $0x1,$0x10
        set_label $L0
        {}goto_tb $0x0,$0x20",
            each(|t| format!("add_i64 tmp{t},rbx,$0x{t}\n        ")),
            each(|t| format!("xor_i64 rsi,rsi,tmp{t}\n        ")),
            some(live - 1, |t| format!("add_i64 rsi,rsi,tmp{t}\n        ")),
        );
        check_on(&[Tier::Hot], &text, |s| (s.gpr[0], s.gpr[1]) = (5, 6));
    }
}

#[test]
fn mmx_and_conversion() {
    let text = "
        ---- 0 len=2
        simd_enter mmx+sse
        native_i32 _,_,_,_,66.0f.2d,reg=v3,rm=v1,uses=mmx+sse,trap
        native_i32 eax,_,_,_,0f.7e,reg=v3,rm=out,uses=mmx,trap
        native_i32 _,_,_,_,0f.77,uses=mmx,trap
        goto_tb $0x1,$0x10";
    let (s, _) = check(text, |s| s.ymm[1] = [42f64.to_bits(), 7f64.to_bits(), 0, 0]);
    assert_eq!(s.gpr[0], 42);
}

#[test]
fn helper_calls_keep_vectors_and_see_them() {
    let text = "
        ---- 0 len=2
        simd_enter sse
        native_i32 _,_,_,_,66.0f.ef,reg=v15,rm=v15,uses=sse
        call_i32 $0x1,_,$0x1,$0x2,$0x3,$0x4
        simd_enter avx
        native_i32 _,_,_,_,vex256.66.0f.fd,reg=v14,vvvv=v15,rm=v13,uses=avx
        call_i32 $0x5,eax,$0x1,$0x2,$0x3,$0x4
        goto_tb $0x1,$0x10";
    let (s, _) = check(text, |_| ());
    assert_eq!(s.ymm[15][..2], [0, 0]);
}

#[test]
fn refused_parts_fault() {
    for (name, bit) in [("x87", 1), ("mmx", 2), ("sse", 4), ("avx", 8), ("wait", 16)] {
        let text = format!(
            "
            ---- 0 len=2
            simd_enter {name}
            goto_tb $0x1,$0x10"
        );
        let (_, code) = check(&text, |s| s.refused = bit);
        assert_eq!(code, ir::exit::FAULT, "{name}");
        let (_, code) = check(&text, |_| ());
        assert_eq!(code, Jit::LINK, "{name}");
    }
}

#[test]
fn unmasked_simd_exceptions_trap() {
    let text = "
        ---- 0 len=2
        simd_enter sse
        subf_i32 _,eax,ecx
        native_i32 _,_,_,_,66.0f.ef,reg=v9,rm=v9,uses=sse
        native_i32 _,_,_,_,0f.5e,reg=v1,rm=v2,uses=sse,trap
        native_i32 _,_,_,_,66.0f.ef,reg=v9,rm=v10,uses=sse
        goto_tb $0x1,$0x10";
    let ones = singles([1.0; 4]);
    let (s, code) = check(text, |s| {
        (s.ymm[1], s.ymm[2]) = (ones, singles([1.0, 0.0, 1.0, 1.0]));
        s.mxcsr = 0x1F80 & !0x200;
    });
    assert_eq!(code, trap_code(NativeTrap::Simd));
    assert_eq!(s.mxcsr & 0x3F, 4, "divide by zero");
    assert_eq!(s.ymm[1], ones);
    assert_eq!(s.ymm[9][..2], [0, 0]);
}

#[test]
fn pending_x87_exceptions_trap_at_the_next_instruction() {
    let text = "
        ---- 0 len=2
        simd_enter x87
        native_i32 _,_,_,_,d9,reg=/5,rm=/0,uses=x87,trap
        native_i32 _,_,_,_,d9,reg=/5,rm=/6,uses=x87,trap
        native_i32 _,_,_,_,de,reg=/6,rm=/1,uses=x87,trap
        mov_i32 edx,$0x77
        native_i32 _,_,_,_,d9,reg=/2,rm=/0,uses=x87,trap
        goto_tb $0x1,$0x10";
    // FLD1; FLDZ; FDIVRP: 0 / 1, exact. With FDIVP's /7: 1 / 0.
    check(text, |s| s.fpu[0] = 0x7B);
    let text = text.replace("de,reg=/6", "de,reg=/7");
    let (s, code) = check(&text, |s| s.fpu[0] = 0x7B);
    assert_eq!(code, trap_code(NativeTrap::X87));
    assert_eq!(s.gpr[2], 0x77, "the next instruction traps, not the division");
}

#[test]
fn what_the_host_refuses_traps() {
    // An opcode that is none.
    let text = "
        ---- 0 len=2
        native_i32 _,_,_,_,0f.0b,trap
        goto_tb $0x1,$0x10";
    let (_, code) = check(text, |_| ());
    assert_eq!(code, trap_code(NativeTrap::Undefined));
}

#[test]
fn misaligned_operands_fault() {
    let text = "
        ---- 0 len=2
        simd_enter sse
        guest_ptr_i64 tmp0,$0x1008,ds,16,r,aligned
        native_i32 _,tmp0,_,_,0f.28,reg=v1,rm=mem,r16,uses=sse
        goto_tb $0x1,$0x10";
    let (_, code) = check(text, |_| ());
    assert_eq!(code, ir::exit::FAULT);
}

#[test]
fn machines_on_one_thread_are_apart() {
    let load = "
        ---- 0 len=2
        simd_enter sse+x87
        native_i32 _,_,_,_,66.0f.ef,reg=v1,rm=v1,uses=sse
        native_i32 _,_,_,_,d9,reg=/5,rm=/0,uses=x87,trap
        goto_tb $0x1,$0x10";
    let use_it = "
        ---- 0 len=2
        simd_enter sse+x87
        native_i32 _,_,_,_,66.0f.6f,reg=v2,rm=v1,uses=sse
        guest_ptr_i64 tmp0,$0x1000,ds,10,w
        native_i32 _,tmp0,_,_,db,reg=/7,rm=mem,w10,uses=x87,trap
        goto_tb $0x1,$0x10";
    let block = |text| parse(text, &NoNames).expect("parses");
    let (mut one, mut two) = (jit(), jit());
    let (mut a, mut b) = (State::new(1), State::new(2));
    b.fpu[4] = 0x80;
    b.fpu[3] = 0x38;
    b.fpu[32..42].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0x40]);
    enter(&mut one, &block(load), Tier::Hot, &mut a);
    enter(&mut two, &block(use_it), Tier::Hot, &mut b);
    assert_eq!(b.ymm[2][..2], State::new(2).ymm[1][..2]);
    assert_eq!(b.memory[0x1000..0x100A], [0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0x40]);
    enter(&mut one, &block(use_it), Tier::Compact, &mut a);
    assert_eq!(a.memory[0x1000..0x100A], [0, 0, 0, 0, 0, 0, 0, 0x80, 0xFF, 0x3F]);
    assert_eq!(a.ymm[2][..2], [0, 0]);
}
