//! Printing ops.

use super::{CC, COMPARE, FLAG_LETTERS, GPR, HIGH, Names, SEGMENTS, is_widthless, mnemonic};
use crate::{AccessKind, Block, Code, Cond, FlagMask, Op, Role, Val, Width};
use std::fmt::{self, Display, Formatter};

/// Column at which notes begin.
const NOTE_COLUMN: usize = 48;

/// The whole block, one op a line.
pub fn print(block: &Block, names: &dyn Names) -> String {
    let mut text = String::new();
    for op in &block.ops {
        text.push_str(&OpText { block, op, names }.to_string());
        text.push('\n');
    }
    text
}

/// The same with a note at each op that reads a temporary for the last time.
pub fn print_with_deaths(block: &Block, names: &dyn Names) -> String {
    let last_uses = last_uses(block);
    let mut text = String::new();
    for (n, op) in block.ops.iter().enumerate() {
        let mut line = OpText { block, op, names }.to_string();
        let dying: Vec<String> = (0..last_uses.len())
            .filter(|&t| last_uses[t] == Some(n))
            .map(|t| format!("tmp{t}"))
            .collect();
        if !dying.is_empty() {
            line = format!("{line:NOTE_COLUMN$}  dead: {}", dying.join(" "));
        }
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// The op after which each temporary is not read again; one read in a loop lives to the loop's end.
fn last_uses(block: &Block) -> Vec<Option<usize>> {
    let mut last = vec![None; block.temps.len()];
    let mut labels = vec![None; block.labels as usize];
    for (n, op) in block.ops.iter().enumerate() {
        op.for_each_source(|v, _| {
            if let Some(slot) = v.as_temp().and_then(|t| last.get_mut(usize::from(t))) {
                *slot = Some(n);
            }
        });
        let Some(label) = labels.get_mut(op.imm as usize) else { continue };
        if op.code == Code::Label {
            *label = Some(n);
        } else if op.code.is_branch()
            && let Some(start) = *label
        {
            last.iter_mut().flatten().filter(|at| **at >= start).for_each(|at| *at = n);
        }
    }
    last
}

/// One op, without a line end.
#[derive(Clone, Copy)]
pub struct OpText<'a> {
    /// The block, for its constants.
    pub block: &'a Block,
    /// The op.
    pub op: &'a Op,
    /// Names of state fields, helpers and faults.
    pub names: &'a dyn Names,
}

impl Display for OpText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let op = self.op;
        let mut line = String::from(" ");
        line.push_str(&self.name());
        if op.code == Code::InsnStart {
            line.push_str(&format!(" {:016x} len={}", op.imm, op.x));
            if op.y != 0 {
                line.push_str(" may_fault");
            }
        } else {
            line.push(' ');
            line.push_str(&self.operands().join(","));
        }
        match self.notes() {
            Some(notes) => write!(f, "{line:NOTE_COLUMN$}  {notes}"),
            None => f.write_str(&line),
        }
    }
}

impl OpText<'_> {
    fn name(&self) -> String {
        let op = self.op;
        let bits = op.w.bits();
        match op.code {
            Code::Extu => return format!("ext{}u_i{bits}", Width::from_code(op.x).bits()),
            Code::Exts => return format!("ext{}s_i{bits}", Width::from_code(op.x).bits()),
            _ => {}
        }
        let mut name = String::from(mnemonic(op.code));
        if !matches!(op.code, Code::Putf | Code::Native) && !op.flags_asked().is_empty() {
            name.push('f');
        }
        if !is_widthless(op.code) {
            name.push_str(&format!("_i{bits}"));
        }
        name
    }

    fn operands(&self) -> Vec<String> {
        let op = self.op;
        let shape = op.code.shape();
        let mut out = Vec::new();
        match op.code {
            Code::LdEnv => out = vec![self.val(op.d, shape.d), "env".into(), self.field()],
            Code::StEnv => out = vec![self.val(op.a, shape.a), "env".into(), self.field()],
            Code::St | Code::StH => {
                out.push(self.val(op.b, shape.b));
                out.push(self.val(op.a, shape.a));
            }
            Code::Call => return self.call(),
            Code::Raise => {
                let fault = self.names.fault(op.imm).map(str::to_owned);
                out.push(fault.unwrap_or_else(|| hex(op.imm.into())));
                out.push(self.val(op.a, shape.a));
            }
            Code::Look => {
                self.in_order(&mut out);
                let fault = self.names.fault(op.imm).map(str::to_owned);
                out.push(fault.unwrap_or_else(|| hex(op.imm.into())));
            }
            Code::GotoPtr => {
                out.push(self.val(op.a, shape.a));
                if !op.b.is_none() {
                    out.push(self.val(op.b, shape.b));
                }
            }
            Code::ExitTb => {
                out.push(hex(op.imm.into()));
                if !op.a.is_none() {
                    out.push(self.val(op.a, shape.a));
                }
            }
            _ => self.in_order(&mut out),
        }
        self.immediates(&mut out);
        out
    }

    /// Results, then sources.
    fn in_order(&self, out: &mut Vec<String>) {
        let op = self.op;
        let shape = op.code.shape();
        let last = if shape.e_is_result { Role::No } else { shape.e };
        let second = if shape.e_is_result { shape.e } else { Role::No };
        for (v, role) in [
            (op.d, shape.d),
            (op.e, second),
            (op.a, shape.a),
            (op.b, shape.b),
            (op.c, shape.c),
            (op.e, last),
        ] {
            if role != Role::No {
                out.push(self.val(v, role));
            }
        }
    }

    /// What follows the operands.
    fn immediates(&self, out: &mut Vec<String>) {
        let op = self.op;
        match op.code {
            Code::Label | Code::Br => out.push(format!("$L{}", op.imm)),
            Code::Brcond => out.extend([compare(op.cond()), format!("$L{}", op.imm)]),
            Code::Jccf => out.extend([cc(op.cond()), format!("$L{}", op.imm)]),
            Code::Setcond | Code::Movcond => out.push(compare(op.cond())),
            Code::Setccf | Code::Cmovf => out.push(cc(op.cond())),
            Code::Lea => out.extend([hex(op.x.into()), signed(op.imm.cast_signed())]),
            Code::Putf => out.push(letters(FlagMask(op.x))),
            Code::ReadPc | Code::LdH | Code::StH => out.push(signed(op.imm.cast_signed())),
            Code::Ld | Code::St => {
                out.push(segment(op.x));
                out.extend(address_size(op.y));
            }
            Code::Span => {
                out.push(segment(op.x));
                out.push(op.span_bytes().to_string());
                out.push(if op.span_writes() { "rw" } else { "r" }.into());
                if op.span_align() != 0 {
                    out.push(format!("align{}", 1 << op.span_align()));
                }
                out.extend(address_size(op.y));
            }
            Code::Ptr => {
                out.push(segment(op.x));
                out.push(op.access_bytes().to_string());
                out.push(kind(op.access_kind()).into());
                if op.is_locked() {
                    out.push("lock".into());
                }
                if op.is_aligned() {
                    out.push("aligned".into());
                }
                out.extend(address_size(op.y));
            }
            Code::Bulk => out.extend([op.x.into(), op.y.into(), u64::from(op.imm)].map(hex)),
            Code::SimdEnter => {
                out.push(super::native::parts(op.x));
                out.extend((op.y != 0).then(|| "anywhere".into()));
            }
            Code::Native => out.extend(super::native::words(self.block, op)),
            Code::GotoTb => {
                out.extend([hex(op.x.into()), hex(op.imm.into())]);
                if op.y != 0 {
                    out.push("back".into());
                }
            }
            _ => {}
        }
    }

    fn call(&self) -> Vec<String> {
        let op = self.op;
        let name = self.names.helper(op.imm).map(str::to_owned);
        let mut out = vec![name.unwrap_or_else(|| hex(op.imm.into())), self.val(op.d, Role::Opt)];
        let args = [op.a, op.b, op.c, op.e];
        let count = args.iter().rposition(|v| !v.is_none()).map_or(0, |last| last + 1);
        out.extend(args[..count].iter().map(|&v| self.val(v, Role::Arg)));
        out
    }

    fn field(&self) -> String {
        match self.names.env(self.op.imm) {
            Some(name) => format!("${name}"),
            None => hex(self.op.imm.into()),
        }
    }

    fn val(&self, v: Val, role: Role) -> String {
        let w = self.op.width_of(role);
        if v.is_none() {
            "_".into()
        } else if let Some(n) = v.as_gpr() {
            GPR[w as usize][usize::from(n)].into()
        } else if let Some(n) = v.as_high() {
            HIGH[usize::from(n)].into()
        } else if let Some(n) = v.as_temp() {
            format!("tmp{n}")
        } else if let Some(c) = self.block.const_of(v) {
            hex(c & w.mask())
        } else {
            format!("?{}", v.0)
        }
    }

    fn notes(&self) -> Option<String> {
        let op = self.op;
        let asked = op.flags_asked();
        let mut note = String::new();
        let says = !asked.is_empty() || op.code == Code::Native;
        if op.code != Code::Putf && says && asked != op.can_define() {
            note.push_str(&format!(" def {}", letters(asked)));
        }
        if !op.flive.is_empty() {
            note.push_str(&format!(" live {}", letters(op.flive)));
        }
        if note.is_empty() { None } else { Some(format!("flags:{note}")) }
    }
}

fn hex(v: u64) -> String {
    format!("${v:#x}")
}

fn signed(v: i32) -> String {
    let sign = if v < 0 { "-" } else { "" };
    format!("${sign}{:#x}", v.unsigned_abs())
}

fn cc(cond: Cond) -> String {
    CC[cond as usize].into()
}

fn compare(cond: Cond) -> String {
    COMPARE.iter().find(|(c, _)| *c == cond).map_or_else(|| cc(cond), |(_, name)| (*name).into())
}

pub(super) fn letters(mask: FlagMask) -> String {
    if mask.is_empty() {
        return "-".into();
    }
    let held = |n: &usize| mask.0 >> n & 1 != 0;
    (0..FLAG_LETTERS.len()).filter(held).map(|n| FLAG_LETTERS[n]).collect()
}

fn segment(n: u8) -> String {
    SEGMENTS.get(usize::from(n)).map_or_else(|| format!("seg{n}"), |s| (*s).into())
}

fn address_size(y: u8) -> Option<String> {
    match Width::from_code(y) {
        Width::W32 => None,
        w => Some(format!("a{}", w.bits())),
    }
}

pub(super) fn kind(kind: AccessKind) -> &'static str {
    match kind {
        AccessKind::R => "r",
        AccessKind::W => "w",
        AccessKind::Rw => "rw",
    }
}
