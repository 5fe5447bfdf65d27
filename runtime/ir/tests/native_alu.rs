//! The evaluator's arithmetic against the host CPU: every op, every width, edge and random operands.
//!
//! Values and defined flags must agree on any x86-64 host, flags the manual leaves undefined on those that `ir::Undefined` knows;
//! on others they are reported per op.
#![cfg(target_arch = "x86_64")]
#![allow(unsafe_code, reason = "runs single instructions in inline assembly")]

use ir::{Alu, Code, FlagMask, Width, alu};
use std::arch::asm;

/// Operands in rax, rdx, rsi, rcx and flags; returns rax, rdx and flags.
type Native = fn(u64, u64, u64, u64, u64) -> (u64, u64, u64);

macro_rules! native {
    ($($text:expr),+) => {{
        fn run(a: u64, d: u64, s: u64, c: u64, flags: u64) -> (u64, u64, u64) {
            let (mut ra, mut rd, mut f) = (a, d, flags);
            // SAFETY: touches only the named registers, the flags and its own stack slots; division
            // operands are chosen so that it cannot fault.
            unsafe {
                asm!("push {f}", "popfq", $($text,)+ "pushfq", "pop {f}",
                    f = inout(reg) f, inout("rax") ra, inout("rdx") rd, in("rsi") s, inout("rcx") c => _);
            }
            (ra, rd, f)
        }
        run as Native
    }};
}

/// One op at one width on the host. `b` travels in rsi and rdx or, for shift counts, in rcx.
struct Row {
    code: Code,
    w: Width,
    native: Native,
    operands: Operands,
}

#[derive(Clone, Copy, PartialEq)]
enum Operands {
    /// a in rax, b in rsi.
    Two,
    /// a in rax, count in cl.
    Count,
    /// a in rax, b in rsi, count in cl.
    Double,
    /// a in rax, b in rsi, high result in rdx (at 8 bits in ah).
    Wide,
    /// low in rax, high in rdx (at 8 bits in ah), divisor in rsi.
    Divide,
    /// source in rsi, destination in rax: a = rsi, b = rax.
    Scan,
}

macro_rules! rows {
    ($code:ident, $operands:ident, $($w:ident $text:expr),+) => {
        vec![$(Row { code: Code::$code, w: Width::$w, native: native!($text), operands: Operands::$operands }),+]
    };
}
macro_rules! four {
    ($code:ident, $name:literal) => {
        rows!($code, Two, W8 concat!($name, " al, sil"), W16 concat!($name, " ax, si"),
            W32 concat!($name, " eax, esi"), W64 concat!($name, " rax, rsi"))
    };
}
macro_rules! one {
    ($code:ident, $name:literal) => {
        rows!($code, Two, W8 concat!($name, " al"), W16 concat!($name, " ax"),
            W32 concat!($name, " eax"), W64 concat!($name, " rax"))
    };
}
macro_rules! count {
    ($code:ident, $name:literal) => {
        rows!($code, Count, W8 concat!($name, " al, cl"), W16 concat!($name, " ax, cl"),
            W32 concat!($name, " eax, cl"), W64 concat!($name, " rax, cl"))
    };
}
macro_rules! double {
    ($code:ident, $name:literal) => {
        rows!($code, Double, W16 concat!($name, " ax, si, cl"),
            W32 concat!($name, " eax, esi, cl"), W64 concat!($name, " rax, rsi, cl"))
    };
}
macro_rules! wide {
    ($code:ident, $name:literal, $operands:ident) => {
        rows!($code, $operands, W8 concat!($name, " sil"), W16 concat!($name, " si"),
            W32 concat!($name, " esi"), W64 concat!($name, " rsi"))
    };
}
macro_rules! bit {
    ($code:ident, $name:literal) => {
        rows!($code, Two, W16 concat!($name, " ax, si"), W32 concat!($name, " eax, esi"),
            W64 concat!($name, " rax, rsi"))
    };
}
macro_rules! scan {
    ($code:ident, $name:literal) => {
        rows!($code, Scan, W16 concat!($name, " ax, si"), W32 concat!($name, " eax, esi"),
            W64 concat!($name, " rax, rsi"))
    };
}

fn rows() -> Vec<Row> {
    [
        four!(Add, "add"),
        four!(Sub, "sub"),
        four!(Adc, "adc"),
        four!(Sbb, "sbb"),
        four!(And, "and"),
        four!(Or, "or"),
        four!(Xor, "xor"),
        one!(Not, "not"),
        one!(Neg, "neg"),
        one!(Inc, "inc"),
        one!(Dec, "dec"),
        count!(Shl, "shl"),
        count!(Shr, "shr"),
        count!(Sar, "sar"),
        count!(Rol, "rol"),
        count!(Ror, "ror"),
        count!(Rcl, "rcl"),
        count!(Rcr, "rcr"),
        double!(Shld, "shld"),
        double!(Shrd, "shrd"),
        bit!(Imul, "imul"),
        wide!(Mulu2, "mul", Wide),
        wide!(Muls2, "imul", Wide),
        wide!(Divu2, "div", Divide),
        wide!(Divs2, "idiv", Divide),
        bit!(Bt, "bt"),
        bit!(Bts, "bts"),
        bit!(Btr, "btr"),
        bit!(Btc, "btc"),
        scan!(Bsf, "bsf"),
        scan!(Bsr, "bsr"),
        scan!(Clz, "lzcnt"),
        scan!(Ctz, "tzcnt"),
        scan!(Popcnt, "popcnt"),
        rows!(Bswap, Two, W32 "bswap eax", W64 "bswap rax"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Flags this op is documented to define for these operands (the others it sets are undefined).
fn defined(row: &Row, count: u64) -> FlagMask {
    let n = count as u32 & row.w.count_mask();
    let c_o = FlagMask::C.or(FlagMask::O);
    let szp = FlagMask::S.or(FlagMask::Z).or(FlagMask::P);
    match row.code {
        Code::And | Code::Or | Code::Xor => FlagMask::ALL.minus(FlagMask::A),
        Code::Shl | Code::Shr if n > row.w.bits() => szp,
        Code::Shl | Code::Shr | Code::Sar if n == 1 => szp.or(c_o),
        Code::Shl | Code::Shr | Code::Sar if n > 1 => szp.or(FlagMask::C),
        Code::Rol | Code::Ror | Code::Rcl | Code::Rcr if n > 1 => FlagMask::ALL.minus(FlagMask::O),
        Code::Shld | Code::Shrd if n > row.w.bits() => FlagMask::NONE,
        Code::Shld | Code::Shrd if n == 1 => szp.or(c_o),
        Code::Shld | Code::Shrd if n > 1 => szp.or(FlagMask::C),
        Code::Imul | Code::Mulu2 | Code::Muls2 => c_o,
        Code::Divu2 | Code::Divs2 => FlagMask::NONE,
        Code::Bt | Code::Bts | Code::Btr | Code::Btc => FlagMask::C.or(FlagMask::Z),
        Code::Bsf | Code::Bsr => FlagMask::Z,
        // These ops set no flags, the host's instructions do.
        Code::Clz | Code::Ctz | Code::Popcnt => FlagMask::NONE,
        _ => FlagMask::ALL,
    }
}

/// Runs the row on the host and in the evaluator.
fn both(row: &Row, x: &[u64; 4], flags: u64) -> Option<(Alu, Alu)> {
    let w = row.w;
    let [mut a, mut b, s, c] = *x;
    let mut divisor = s;
    if row.operands == Operands::Divide {
        (a, b, divisor) = division(row.code, w, a, b, s)?;
    }
    let wide_8 = w == Width::W8;
    let (rax, rdx, rsi, rcx) = match row.operands {
        Operands::Two | Operands::Wide | Operands::Double => (a, 0, b, c),
        Operands::Count => (a, 0, 0, b),
        Operands::Divide if wide_8 => (a & 0xFF | (b & 0xFF) << 8, 0, divisor, 0),
        Operands::Divide => (a, b, divisor, 0),
        Operands::Scan => (b, 0, a, 0),
    };
    let (ra, rd, f) = (row.native)(rax, rdx, rsi, rcx, flags);
    let two = matches!(row.operands, Operands::Wide | Operands::Divide);
    let host = Alu {
        d: ra & w.mask(),
        e: if !two {
            0
        } else if wide_8 {
            ra >> 8 & 0xFF
        } else {
            rd & w.mask()
        },
        flags: f as u32 & FlagMask::ALL.eflags(),
    };
    let third = if row.operands == Operands::Divide { divisor } else { c };
    let mut ours = alu(row.code, w, a, b, third, flags as u32).expect("arithmetic");
    if !two {
        ours.e = 0;
    }
    Some((ours, host))
}

/// A dividend and divisor whose quotient fits.
fn division(code: Code, w: Width, a: u64, b: u64, s: u64) -> Option<(u64, u64, u64)> {
    let m = w.mask();
    let by = s & m;
    if by == 0 {
        return None;
    }
    if code == Code::Divu2 {
        return Some((a & m, (b & m) % by, by));
    }
    let sign =
        |v: u64| -> i128 { i128::from((v << (64 - w.bits())).cast_signed() >> (64 - w.bits())) };
    let high = sign(b) % (sign(s).unsigned_abs() as i128 / 2 + 1) / 2;
    let n = high << w.bits() | i128::from(a & m);
    let q = n / sign(s);
    let limit = 1i128 << (w.bits() - 1);
    (-limit..limit).contains(&q).then_some((a & m, high as u64 & m, by))
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    /// Edge values often.
    fn operand(&mut self) -> u64 {
        const EDGES: [u64; 14] = [
            0,
            1,
            2,
            0x0F,
            0x10,
            0x7F,
            0x80,
            0xFF,
            0x7FFF,
            0x8000,
            0x7FFF_FFFF,
            0x8000_0000,
            0x7FFF_FFFF_FFFF_FFFF,
            0x8000_0000_0000_0000,
        ];
        let v = self.next();
        match v >> 60 {
            0..=3 => EDGES[(v >> 8) as usize % EDGES.len()],
            4 => EDGES[(v >> 8) as usize % EDGES.len()].wrapping_neg(),
            5 => v & 0x3F,
            6 => 0,
            _ => self.next(),
        }
    }
}

fn is_known() -> bool {
    std::fs::read_to_string("/proc/cpuinfo")
        .is_ok_and(|s| s.contains("AuthenticAMD") || s.contains("GenuineIntel"))
}

#[test]
fn every_op_agrees_with_the_host() {
    const ROUNDS: u32 = 60_000;
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut undefined = Vec::new();
    for row in rows() {
        let mut differs = 0u32;
        for _ in 0..ROUNDS {
            let x = [random.operand(), random.operand(), random.operand(), random.operand()];
            let flags = random.next() & u64::from(FlagMask::ALL.eflags()) | 0x202;
            let Some((ours, host)) = both(&row, &x, flags) else { continue };
            let count = if row.operands == Operands::Double { x[3] } else { x[1] };
            let past = row.operands == Operands::Double
                && count as u32 & row.w.count_mask() > row.w.bits();
            let mask = defined(&row, count).eflags();
            if !past {
                assert_eq!(
                    (ours.d, ours.e, ours.flags & mask),
                    (host.d, host.e, host.flags & mask),
                    "{:?} {:?} on {x:x?} flags {flags:x}: left ours, right host",
                    row.code,
                    row.w,
                );
            }
            let flags_differ = row.code.can_define() != FlagMask::NONE && ours.flags != host.flags;
            if flags_differ || (ours.d, ours.e) != (host.d, host.e) {
                differs += 1;
                if differs < 4 {
                    println!(
                        "{:?} {:?} on {x:x?} flags {flags:x}: ours {ours:x?} host {host:x?}",
                        row.code, row.w
                    );
                }
            }
        }
        println!(
            "{:?} {:?}: undefined flags match host: {}",
            row.code,
            row.w,
            if differs == 0 { "yes" } else { "no" }
        );
        if differs != 0 {
            undefined.push((row.code, row.w));
        }
    }
    assert!(
        !is_known() || undefined.is_empty(),
        "undefined results differ from this CPU: {undefined:?}"
    );
}
