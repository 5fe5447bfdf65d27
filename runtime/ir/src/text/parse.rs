//! Parsing ops: the inverse of `print`, for tests and tools.
//!
//! Empty lines and lines that begin with `#` are skipped, `dead:` notes ignored. A temporary has the width it
//! is first assigned with.

use super::{
    CC, COMPARE, FLAG_LETTERS, GPR, HIGH, Names, SEGMENTS, is_widthless, mnemonic, native,
};
use crate::{AccessKind, Block, Code, Cond, FlagMask, Op, Role, Val, Width};

/// Why a text is not a block.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
#[error("line {line}: {what}")]
pub struct ParseError {
    /// Line number, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

/// Parses a block.
pub fn parse(text: &str, names: &dyn Names) -> Result<Block, ParseError> {
    let mut parser = Parser { block: Block::default(), temps: Vec::new(), names };
    for (n, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let op = parser.op(line).map_err(|what| ParseError { line: n + 1, what })?;
        parser.block.ops.push(op);
    }
    parser.block.temps = parser.temps.iter().map(|w| w.unwrap_or(Width::W64)).collect();
    Ok(parser.block)
}

pub(super) type Parsed<T> = Result<T, String>;

struct Parser<'a> {
    block: Block,
    temps: Vec<Option<Width>>,
    names: &'a dyn Names,
}

/// The comma-separated operands of one op.
struct Operands<'t> {
    rest: Vec<&'t str>,
}

impl<'t> Operands<'t> {
    fn next(&mut self) -> Parsed<&'t str> {
        if self.rest.is_empty() { Err("operand missing".into()) } else { Ok(self.rest.remove(0)) }
    }
    /// Takes the next operand if it is `word`.
    fn has(&mut self, word: &str) -> bool {
        let found = self.rest.first() == Some(&word);
        if found {
            self.rest.remove(0);
        }
        found
    }
}

impl Parser<'_> {
    fn op(&mut self, line: &str) -> Parsed<Op> {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap_or_default();
        let mut op = opening(name)?;
        let mut notes: Vec<&str> = words.collect();
        if op.code == Code::InsnStart {
            insn_start(&mut op, &notes)?;
            return Ok(op);
        }
        let has_operands = notes.first().is_some_and(|w| !w.ends_with(':'));
        let operands = if has_operands { notes.remove(0) } else { "" };
        let rest = if operands.is_empty() { Vec::new() } else { operands.split(',').collect() };
        let mut operands = Operands { rest };
        self.operands(&mut op, &mut operands)?;
        if let Some(extra) = operands.rest.first() {
            return Err(format!("`{extra}` is one operand too many"));
        }
        read_notes(&mut op, &notes)?;
        op.for_each_result(|v, w| {
            if let Some(slot) = v.as_temp().and_then(|t| self.temps.get_mut(usize::from(t))) {
                slot.get_or_insert(w);
            }
        });
        Ok(op)
    }

    fn operands(&mut self, op: &mut Op, text: &mut Operands<'_>) -> Parsed<()> {
        let shape = op.code.shape();
        match op.code {
            Code::LdEnv | Code::StEnv => {
                let is_load = op.code == Code::LdEnv;
                let v = self.val(op, text.next()?, Role::W)?;
                *(if is_load { &mut op.d } else { &mut op.a }) = v;
                if !text.has("env") {
                    return Err("`env` missing".into());
                }
                op.imm = number_or(text.next()?, |n| self.names.env_named(n))?;
            }
            Code::St | Code::StH => {
                op.b = self.val(op, text.next()?, shape.b)?;
                let address = text.next()?;
                self.immediates(op, text)?;
                op.a = self.val(op, address, shape.a)?;
                return Ok(());
            }
            Code::Ld | Code::Ptr | Code::Span => {
                op.d = self.val(op, text.next()?, shape.d)?;
                let address = text.next()?;
                self.immediates(op, text)?;
                op.a = self.val(op, address, shape.a)?;
                return Ok(());
            }
            Code::Call => return self.call(op, text),
            Code::Raise => {
                op.imm = number_or(text.next()?, |n| self.names.fault_named(n))?;
                op.a = self.val(op, text.next()?, shape.a)?;
            }
            Code::Look => {
                self.in_order(op, text)?;
                op.imm = number_or(text.next()?, |n| self.names.fault_named(n))?;
            }
            Code::GotoPtr => {
                op.a = self.val(op, text.next()?, shape.a)?;
                if !text.rest.is_empty() {
                    op.b = self.val(op, text.next()?, shape.b)?;
                }
            }
            Code::ExitTb => {
                op.imm = u32_of(text.next()?)?;
                if !text.rest.is_empty() {
                    op.a = self.val(op, text.next()?, shape.a)?;
                }
            }
            _ => self.in_order(op, text)?,
        }
        self.immediates(op, text)
    }

    fn in_order(&mut self, op: &mut Op, text: &mut Operands<'_>) -> Parsed<()> {
        let shape = op.code.shape();
        if shape.d != Role::No {
            op.d = self.val(op, text.next()?, shape.d)?;
        }
        if shape.e_is_result {
            op.e = self.val(op, text.next()?, shape.e)?;
        }
        if shape.a != Role::No {
            op.a = self.val(op, text.next()?, shape.a)?;
        }
        if shape.b != Role::No {
            op.b = self.val(op, text.next()?, shape.b)?;
        }
        if shape.c != Role::No {
            op.c = self.val(op, text.next()?, shape.c)?;
        }
        if shape.e != Role::No && !shape.e_is_result {
            op.e = self.val(op, text.next()?, shape.e)?;
        }
        Ok(())
    }

    fn call(&mut self, op: &mut Op, text: &mut Operands<'_>) -> Parsed<()> {
        op.imm = number_or(text.next()?, |n| self.names.helper_named(n))?;
        op.d = self.val(op, text.next()?, Role::Opt)?;
        let mut args = [Val::NONE; 4];
        for arg in &mut args {
            if !text.rest.is_empty() {
                *arg = self.val(op, text.next()?, Role::Arg)?;
            }
        }
        [op.a, op.b, op.c, op.e] = args;
        Ok(())
    }

    fn immediates(&mut self, op: &mut Op, text: &mut Operands<'_>) -> Parsed<()> {
        match op.code {
            Code::Label | Code::Br => op.imm = self.label(text.next()?)?,
            Code::Brcond | Code::Jccf => {
                op.x = cond(op.code, text.next()?)?;
                op.imm = self.label(text.next()?)?;
            }
            Code::Setcond | Code::Movcond | Code::Setccf | Code::Cmovf => {
                op.x = cond(op.code, text.next()?)?;
            }
            Code::Putf => {
                op.fdef = flags(text.next()?)?;
                op.x = op.fdef.0;
            }
            Code::Lea => {
                op.x = u32_of(text.next()?)? as u8 & 3;
                op.imm = signed(text.next()?)?.cast_unsigned();
            }
            Code::ReadPc | Code::LdH | Code::StH => {
                op.imm = signed(text.next()?)?.cast_unsigned();
            }
            Code::Ld | Code::St => {
                op.x = segment(text.next()?)?;
                op.y = address_size(text);
            }
            Code::Span => {
                op.x = segment(text.next()?)?;
                let bytes: u16 = text.next()?.parse().map_err(|_| "bad byte count".to_owned())?;
                let kind = access(text.next()?)?;
                let align = (1..7).find(|n| text.has(&format!("align{}", 1 << n)));
                *op =
                    Op { x: op.x, ..Op::span(op.d, op.a, bytes.into(), kind, align.unwrap_or(0)) };
                op.y = address_size(text);
            }
            Code::Ptr => {
                op.x = segment(text.next()?)?;
                let bytes: u8 = text.next()?.parse().map_err(|_| "bad byte count".to_owned())?;
                let kind = access(text.next()?)?;
                let lock = u32::from(text.has("lock"));
                let aligned = u32::from(text.has("aligned"));
                op.imm = u32::from(bytes) | (kind as u32) << 8 | lock << 16 | aligned << 17;
                op.y = address_size(text);
            }
            Code::Bulk => {
                op.x = u32_of(text.next()?)? as u8;
                op.y = u32_of(text.next()?)? as u8;
                op.imm = u32_of(text.next()?)?;
            }
            Code::SimdEnter => {
                op.x = native::parts_of(text.next()?)?;
                op.y = u8::from(text.has("anywhere"));
            }
            Code::Native => {
                native::read(&mut self.block, op, &text.rest)?;
                text.rest.clear();
            }
            Code::GotoTb => {
                op.x = u8::try_from(u32_of(text.next()?)?).map_err(|_| "bad slot".to_owned())?;
                op.imm = u32_of(text.next()?)?;
                op.y = u8::from(text.has("back"));
            }
            _ => {}
        }
        Ok(())
    }

    fn label(&mut self, text: &str) -> Parsed<u32> {
        let n = text.strip_prefix("$L").and_then(|n| n.parse::<u16>().ok());
        let n = u32::from(n.ok_or_else(|| format!("`{text}` is no label"))?);
        self.block.labels = self.block.labels.max(n + 1);
        Ok(n)
    }

    fn val(&mut self, op: &Op, text: &str, role: Role) -> Parsed<Val> {
        let w = op.width_of(role);
        if text == "_" {
            return Ok(Val::NONE);
        }
        if let Some(n) = text.strip_prefix("tmp") {
            let n: u16 = n.parse().map_err(|_| format!("`{text}` is no temporary"))?;
            if n >= 0x4000 {
                return Err(format!("`{text}`: temporaries end at 16383"));
            }
            if self.temps.len() <= usize::from(n) {
                self.temps.resize(usize::from(n) + 1, None);
            }
            return Ok(Val::temp(n));
        }
        if text.starts_with('$') {
            let value = number(text)?;
            return Ok(self.block.constant(value & w.mask()));
        }
        if let Some(n) = GPR[w as usize].iter().position(|&name| name == text) {
            return Ok(Val::gpr(n as u8));
        }
        match HIGH.iter().position(|&name| name == text) {
            Some(n) if w == Width::W8 => Ok(Val::high(n as u8)),
            _ => Err(format!("`{text}` is no operand of {} bits", w.bits())),
        }
    }
}

/// Code, width and flags mark from the op's name.
fn opening(name: &str) -> Parsed<Op> {
    let (stem, width) = match name.rsplit_once("_i") {
        Some((stem, bits @ ("8" | "16" | "32" | "64"))) => {
            (stem, Some(Width::from_bits(bits.parse().unwrap_or(64))))
        }
        _ => (name, None),
    };
    let unknown = || format!("unknown op `{name}`");
    let named = |stem: &str| Code::ALL.into_iter().find(|&c| mnemonic(c) == stem);
    let (code, fdef, x) = if let Some((code, from)) = extension(stem) {
        (code, FlagMask::NONE, from as u8)
    } else if let Some(code) = named(stem) {
        (code, FlagMask::NONE, 0)
    } else {
        let code = stem.strip_suffix('f').and_then(named).ok_or_else(unknown)?;
        if code.can_define().is_empty() || code == Code::Native {
            return Err(unknown());
        }
        (code, code.can_define(), 0)
    };
    let is_extension = matches!(code, Code::Extu | Code::Exts);
    if is_extension != (x != 0 || stem.starts_with("ext")) || stem == "extu" || stem == "exts" {
        return Err(unknown());
    }
    if width.is_none() != is_widthless(code) {
        return Err(format!("`{name}`: width missing or out of place"));
    }
    Ok(Op { x, fdef, ..Op::new(code, width.unwrap_or(Width::W32)) })
}

/// `ext8u`, `ext16s` and their like.
fn extension(stem: &str) -> Option<(Code, Width)> {
    let rest = stem.strip_prefix("ext")?;
    let (bits, code) = match rest.strip_suffix('u') {
        Some(bits) => (bits, Code::Extu),
        None => (rest.strip_suffix('s')?, Code::Exts),
    };
    let bits: u32 = bits.parse().ok()?;
    matches!(bits, 8 | 16 | 32 | 64).then(|| (code, Width::from_bits(bits)))
}

fn insn_start(op: &mut Op, words: &[&str]) -> Parsed<()> {
    let off = words.first().ok_or("page offset missing")?;
    op.imm = u32::from_str_radix(off, 16).map_err(|_| format!("`{off}` is no page offset"))?;
    for word in &words[1..] {
        match word.strip_prefix("len=") {
            Some(len) => op.x = len.parse().map_err(|_| format!("`{word}` is no length"))?,
            None if *word == "may_fault" => op.y = 1,
            None => return Err(format!("unknown word `{word}`")),
        }
    }
    Ok(())
}

fn read_notes(op: &mut Op, words: &[&str]) -> Parsed<()> {
    let mut at = words.iter();
    while let Some(word) = at.next() {
        match *word {
            "flags:" | "dead:" => {}
            "def" => op.fdef = flags(at.next().ok_or("flags missing")?)?,
            "live" => op.flive = flags(at.next().ok_or("flags missing")?)?,
            temp if temp.starts_with("tmp") => {}
            other => return Err(format!("unknown note `{other}`")),
        }
    }
    Ok(())
}

fn number(text: &str) -> Parsed<u64> {
    let digits = text.strip_prefix('$').unwrap_or_default();
    let value = match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => digits.parse(),
    };
    value.map_err(|_| format!("`{text}` is no number"))
}

fn signed(text: &str) -> Parsed<i32> {
    let value = match text.strip_prefix("$-") {
        Some(rest) => -i128::from(number(&format!("${rest}"))?),
        None => i128::from(number(text)?),
    };
    i32::try_from(value).map_err(|_| format!("`{text}` does not fit 32 bits"))
}

fn u32_of(text: &str) -> Parsed<u32> {
    u32::try_from(number(text)?).map_err(|_| format!("`{text}` does not fit 32 bits"))
}

/// A number, or a name (with or without `$`) that `lookup` knows.
fn number_or(text: &str, lookup: impl Fn(&str) -> Option<u32>) -> Parsed<u32> {
    match lookup(text.strip_prefix('$').unwrap_or(text)) {
        Some(n) => Ok(n),
        None => u32_of(text),
    }
}

fn cond(code: Code, text: &str) -> Parsed<u8> {
    let compares = matches!(code, Code::Brcond | Code::Setcond | Code::Movcond);
    let found = if compares {
        COMPARE.iter().find(|(_, name)| *name == text).map(|&(cond, _)| cond)
    } else {
        CC.iter().position(|&name| name == text).map(|n| Cond::from_bits(n as u8))
    };
    found.map(|c| c as u8).ok_or_else(|| format!("`{text}` is no condition here"))
}

pub(super) fn flags(text: &str) -> Parsed<FlagMask> {
    if text == "-" {
        return Ok(FlagMask::NONE);
    }
    let mut mask = 0;
    for c in text.chars() {
        let n = FLAG_LETTERS.iter().position(|&l| l == c);
        mask |= 1 << n.ok_or_else(|| format!("`{c}` is no flag"))?;
    }
    Ok(FlagMask(mask))
}

fn segment(text: &str) -> Parsed<u8> {
    let n = SEGMENTS.iter().position(|&s| s == text);
    n.map(|n| n as u8).ok_or_else(|| format!("`{text}` is no segment"))
}

fn address_size(text: &mut Operands<'_>) -> u8 {
    let w = if text.has("a16") {
        Width::W16
    } else if text.has("a64") {
        Width::W64
    } else if text.has("a8") {
        Width::W8
    } else {
        Width::W32
    };
    w as u8
}

pub(super) fn access(text: &str) -> Parsed<AccessKind> {
    match text {
        "r" => Ok(AccessKind::R),
        "w" => Ok(AccessKind::W),
        "rw" => Ok(AccessKind::Rw),
        _ => Err(format!("`{text}` is no access kind")),
    }
}
