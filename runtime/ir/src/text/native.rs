//! The text of a native instruction: its encoding, then where its operands are.
//!
//! `native_i32 _,tmp3,_,_,f3.0f.58,reg=v1,rm=mem,r4,uses=sse,trap`: registers of the op first (result,
//! pointer, two general registers read), then prefix, map and opcode (`vex128.66.0f38.w1.00`), roles by their
//! place in the encoding (`v1` vector register, `/3` fixed bits, `out inout in0 in1 mem`), memory access (`r4`:
//! four bytes read), then what else it touches.

use super::parse::{Parsed, access, flags};
use super::print::{kind, letters};
use crate::{Block, FlagMask, Native, NativeReg, Op, simd};

const PARTS: [(u8, &str); 5] = [
    (simd::X87, "x87"),
    (simd::MMX, "mmx"),
    (simd::SSE, "sse"),
    (simd::AVX, "avx"),
    (simd::WAIT, "wait"),
];
const MAPS: [&str; 4] = ["", "0f.", "0f38.", "0f3a."];
const PREFIXES: [&str; 4] = ["", "66.", "f3.", "f2."];
const LENGTHS: [&str; 3] = ["", "vex128.", "vex256."];

/// Parts of FP and vector state, `sse+avx`.
pub(super) fn parts(mask: u8) -> String {
    let named: Vec<&str> = PARTS.iter().filter(|p| mask & p.0 != 0).map(|p| p.1).collect();
    if named.is_empty() { "-".into() } else { named.join("+") }
}

/// The inverse of `parts`.
pub(super) fn parts_of(text: &str) -> Parsed<u8> {
    let mut mask = 0;
    for word in text.split('+').filter(|w| *w != "-") {
        let part = PARTS.iter().find(|p| p.1 == word);
        mask |= part.ok_or_else(|| format!("`{word}` is no part of the state"))?.0;
    }
    Ok(mask)
}

/// The words behind the op's operands.
pub(super) fn words(block: &Block, op: &Op) -> Vec<String> {
    let Some(n) = block.native_of(op) else { return vec![format!("?{}", op.imm)] };
    let name = |names: &[&'static str], at: u8| names.get(usize::from(at)).copied().unwrap_or("?.");
    let mut out = vec![format!(
        "{}{}{}{}{:02x}",
        name(&LENGTHS, n.vl),
        name(&PREFIXES, n.pp),
        name(&MAPS, n.map),
        if n.w { "w1." } else { "" },
        n.opcode
    )];
    for (place, r) in [("reg", n.reg), ("vvvv", n.vvvv), ("rm", n.rm)] {
        if r != NativeReg::None {
            out.push(format!("{place}={}", role(r)));
        }
    }
    if n.imm_len > 0 {
        out.push(format!("imm{}={:#x}", n.imm_len, n.imm));
    }
    if n.mem_bytes != 0 {
        out.push(format!("{}{}", kind(n.access), n.mem_bytes));
    }
    let marks = [
        (n.opsize, "opsize"),
        (n.lock, "lock"),
        (n.byte_rm, "byte"),
        (op.is_implicit(), "implicit"),
        (op.y & 1 != 0, "trap"),
    ];
    out.extend(marks.iter().filter(|m| m.0).map(|m| m.1.to_owned()));
    if n.uses != 0 {
        out.push(format!("uses={}", parts(n.uses)));
    }
    if !n.reads.is_empty() {
        out.push(format!("reads={}", letters(n.reads)));
    }
    if !op.can_define().is_empty() {
        out.push(format!("writes={}", letters(op.can_define())));
    }
    out
}

fn role(r: NativeReg) -> String {
    match r {
        NativeReg::None => "-".into(),
        NativeReg::Digit(n) => format!("/{n}"),
        NativeReg::Vec(n) => format!("v{n}"),
        NativeReg::Out => "out".into(),
        NativeReg::InOut => "inout".into(),
        NativeReg::In0 => "in0".into(),
        NativeReg::In1 => "in1".into(),
        NativeReg::Mem => "mem".into(),
    }
}

/// Reads `words` back: adds the native instruction to the block and fills in the op.
pub(super) fn read(block: &mut Block, op: &mut Op, words: &[&str]) -> Parsed<()> {
    let (opcode, rest) = words.split_first().ok_or("opcode missing")?;
    let mut n = encoding(opcode)?;
    let (mut traps, mut implicit, mut writes) = (false, false, FlagMask::NONE);
    for word in rest {
        match word.split_once('=') {
            None if *word == "opsize" => n.opsize = true,
            None if *word == "lock" => n.lock = true,
            None if *word == "byte" => n.byte_rm = true,
            None if *word == "implicit" => implicit = true,
            None if *word == "trap" => traps = true,
            None => {
                let digits = word.find(|c: char| c.is_ascii_digit()).unwrap_or(word.len());
                let (kind, bytes) = word.split_at(digits);
                n.access = access(kind)?;
                n.mem_bytes = bytes.parse().map_err(|_| format!("`{word}` is no access"))?;
            }
            Some(("reg", r)) => n.reg = role_of(r)?,
            Some(("vvvv", r)) => n.vvvv = role_of(r)?,
            Some(("rm", r)) => n.rm = role_of(r)?,
            Some(("uses", mask)) => n.uses = parts_of(mask)?,
            Some(("reads", mask)) => n.reads = flags(mask)?,
            Some(("writes", mask)) => writes = flags(mask)?,
            Some((imm @ ("imm1" | "imm2"), v)) => {
                n.imm_len = if imm == "imm1" { 1 } else { 2 };
                let hex = v.strip_prefix("0x").unwrap_or(v);
                n.imm =
                    u16::from_str_radix(hex, 16).map_err(|_| format!("`{v}` is no immediate"))?;
            }
            Some(_) => return Err(format!("unknown word `{word}`")),
        }
    }
    let number = block.natives.len() as u32;
    block.natives.push(n);
    let made = Op::native(number, &n, op.w, writes, traps, implicit);
    *op = Op { d: op.d, a: op.a, b: op.b, c: op.c, ..made };
    Ok(())
}

fn encoding(text: &str) -> Parsed<Native> {
    let mut n = Native::default();
    let mut rest = text;
    let mut take = |names: &[&str]| {
        let at = names.iter().rposition(|p| !p.is_empty() && rest.starts_with(p)).unwrap_or(0);
        rest = rest.strip_prefix(names.get(at).copied().unwrap_or_default()).unwrap_or(rest);
        at as u8
    };
    n.vl = take(&LENGTHS);
    n.pp = take(&PREFIXES);
    n.map = take(&MAPS);
    n.w = take(&["", "w1."]) == 1;
    n.opcode = u8::from_str_radix(rest, 16).map_err(|_| format!("`{text}` is no encoding"))?;
    Ok(n)
}

fn role_of(text: &str) -> Parsed<NativeReg> {
    let number = |digits: &str| digits.parse().map_err(|_| format!("`{text}` is no register"));
    Ok(match text {
        "out" => NativeReg::Out,
        "inout" => NativeReg::InOut,
        "in0" => NativeReg::In0,
        "in1" => NativeReg::In1,
        "mem" => NativeReg::Mem,
        _ => match (text.strip_prefix('v'), text.strip_prefix('/')) {
            (Some(n), _) => NativeReg::Vec(number(n)?),
            (_, Some(n)) => NativeReg::Digit(number(n)?),
            _ => return Err(format!("`{text}` is no role")),
        },
    })
}
