//! Builtin functions and flag kinds of the bodies: names, argument counts, and the flags they
//! touch.
//!
//! LANGUAGE.md, "Body", is the prose; this table is what the parser and the checks go by.

/// What a builtin gives and takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Builtin {
    /// Name as written.
    pub name: &'static str,
    /// Number of expression arguments (a width argument not counted).
    pub args: usize,
    /// Takes a width as its last argument.
    pub width: bool,
    /// What it gives.
    pub gives: Gives,
}

/// What a builtin gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gives {
    /// A number of the width argument.
    Width,
    /// A number as wide as its first argument.
    Same,
    /// A number as wide as the operand (`W`).
    Operand,
    /// A number as wide as an address (`A`).
    Address,
    /// A number of so many bits.
    Bits(u32),
    /// Half as wide as its argument.
    Half,
    /// Twice as wide as its arguments.
    Double,
    /// A pair, each as wide as the first argument: `let (a, b) = …`.
    Pair,
    /// A truth value.
    Bool,
    /// Nothing: a statement.
    Nothing,
}

const fn b(name: &'static str, args: usize, width: bool, gives: Gives) -> Builtin {
    Builtin { name, args, width, gives }
}

/// Every builtin function but `load`, `store` and `cond`, whose arguments are special.
pub const BUILTINS: &[Builtin] = &[
    b("zext", 1, true, Gives::Width),
    b("sext", 1, true, Gives::Width),
    b("trunc", 1, true, Gives::Width),
    b("b2i", 1, true, Gives::Width),
    b("port_in", 1, true, Gives::Width),
    b("sar", 2, false, Gives::Same),
    b("rol", 2, false, Gives::Same),
    b("ror", 2, false, Gives::Same),
    b("rcl", 2, false, Gives::Same),
    b("rcr", 2, false, Gives::Same),
    b("shld", 3, false, Gives::Same),
    b("shrd", 3, false, Gives::Same),
    b("adc", 3, false, Gives::Same),
    b("sbb", 3, false, Gives::Same),
    b("imul", 2, false, Gives::Same),
    b("bswap", 1, false, Gives::Same),
    b("ctz", 1, false, Gives::Same),
    b("clz", 1, false, Gives::Same),
    b("popcnt", 1, false, Gives::Same),
    b("bsf", 2, false, Gives::Same),
    b("bsr", 2, false, Gives::Same),
    b("bts", 2, false, Gives::Same),
    b("btr", 2, false, Gives::Same),
    b("btc", 2, false, Gives::Same),
    b("bit", 2, false, Gives::Bool),
    b("slt", 2, false, Gives::Bool),
    b("sle", 2, false, Gives::Bool),
    b("sgt", 2, false, Gives::Bool),
    b("sge", 2, false, Gives::Bool),
    b("cond_sub", 2, false, Gives::Bool),
    b("mulu", 2, false, Gives::Pair),
    b("muls", 2, false, Gives::Pair),
    b("divu", 3, false, Gives::Pair),
    b("divs", 3, false, Gives::Pair),
    b("high", 1, false, Gives::Half),
    b("low", 1, false, Gives::Half),
    b("cat", 2, false, Gives::Double),
    b("pop", 0, false, Gives::Operand),
    b("addr", 1, false, Gives::Address),
    b("seg_of", 1, false, Gives::Bits(8)),
    b("seg_num", 1, false, Gives::Bits(8)),
    b("num", 1, false, Gives::Bits(8)),
    b("pair", 2, false, Gives::Bits(16)),
    b("vsib", 1, false, Gives::Bits(16)),
    b("arith_flags", 0, false, Gives::Bits(32)),
    b("host_ticks", 0, false, Gives::Bits(64)),
    b("alone", 0, false, Gives::Bool),
    b("is_cpl0", 0, false, Gives::Bool),
    b("virtual_if", 0, false, Gives::Bool),
    b("push", 1, false, Gives::Nothing),
    b("port_out", 2, false, Gives::Nothing),
];

/// Finds a builtin.
pub fn builtin(name: &str) -> Option<&'static Builtin> {
    BUILTINS.iter().find(|b| b.name == name)
}

/// A flag kind: `cc = KIND(args);`. Masks are `ir::FlagMask` bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Name as written.
    pub name: &'static str,
    /// Number of arguments.
    pub args: usize,
    /// Flags it writes.
    pub writes: u8,
    /// Flags it may leave undefined, beside those it writes.
    pub may: u8,
    /// Flags it reads by itself (CF of RCL/RCR).
    pub reads: u8,
}

const C: u8 = 1;
const Z: u8 = 8;
const O: u8 = 32;
const ALL: u8 = 0x3F;

const fn k(name: &'static str, args: usize, writes: u8, may: u8, reads: u8) -> Kind {
    Kind { name, args, writes, may, reads }
}

/// Every flag kind.
pub const KINDS: &[Kind] = &[
    k("add", 2, ALL, 0, 0),
    k("adc", 3, ALL, 0, 0),
    k("sub", 2, ALL, 0, 0),
    k("sbb", 3, ALL, 0, 0),
    k("logic", 1, ALL, 0, 0),
    k("neg", 1, ALL, 0, 0),
    k("inc", 1, ALL & !C, 0, 0),
    k("dec", 1, ALL & !C, 0, 0),
    k("shl", 2, ALL, 0, 0),
    k("shr", 2, ALL, 0, 0),
    k("sar", 2, ALL, 0, 0),
    k("rol", 2, O | C, 0, 0),
    k("ror", 2, O | C, 0, 0),
    k("rcl", 2, O | C, 0, C),
    k("rcr", 2, O | C, 0, C),
    k("shld", 3, ALL, 0, 0),
    k("shrd", 3, ALL, 0, 0),
    k("mulu", 2, O | C, ALL, 0),
    k("muls", 2, O | C, ALL, 0),
    k("imul", 2, O | C, ALL, 0),
    k("bt", 2, C, ALL & !Z, 0),
    k("bts", 2, C, ALL & !Z, 0),
    k("btr", 2, C, ALL & !Z, 0),
    k("btc", 2, C, ALL & !Z, 0),
    k("bsf", 1, Z, ALL, 0),
    k("bsr", 1, Z, ALL, 0),
    k("set", 1, 0, ALL, 0),
];

/// Finds a flag kind.
pub fn kind(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|k| k.name == name)
}
