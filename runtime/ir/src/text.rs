//! The text form of ops: TCG's spelling, printed for logs and parsed for tests.
//!
//! `add_i32 eax,eax,ebx` · `subf_i32 _,eax,$0x5` (`f`: defines flags) · `brcond_i32 tmp0,$0x0,eq,$L0` ·
//! `jccf ne,$L1` · `ld_i32 tmp0,env,$0x40` (state) · `qemu_ld_i32 tmp1,tmp0,ss` (guest memory; `a16`/`a64`
//! follows an address size other than 32) · `guest_ptr_i64 tmp2,tmp0,ds,4,rw` · `ld_h_i32 tmp3,tmp2,$0x0` ·
//! ` ---- 0000000000000ff0 len=2 may_fault` (insn at a page offset). Registers are named at the width they
//! are used with. Notes follow the op: `flags: def z live cpazso` gives the flags really wanted where they are
//! not all the op can define, and those to be recoverable behind it; `dead: tmp0` the temporaries read last here.

mod native;
mod parse;
mod print;

pub use parse::{ParseError, parse};
pub use print::{OpText, print, print_with_deaths};

use crate::{Code, Cond};

/// Names of what this crate does not know: state fields, helpers, faults. Every method may decline, then a
/// number stands in the text.
pub trait Names {
    /// Name of the state field at a byte offset.
    fn env(&self, off: u32) -> Option<&str> {
        let _ = off;
        None
    }
    /// Name of a helper.
    fn helper(&self, id: u32) -> Option<&str> {
        let _ = id;
        None
    }
    /// Name of a fault `raise` makes.
    fn fault(&self, what: u32) -> Option<&str> {
        let _ = what;
        None
    }
    /// Offset of the state field with this name.
    fn env_named(&self, name: &str) -> Option<u32> {
        let _ = name;
        None
    }
    /// Number of the helper with this name.
    fn helper_named(&self, name: &str) -> Option<u32> {
        let _ = name;
        None
    }
    /// Number of the fault with this name.
    fn fault_named(&self, name: &str) -> Option<u32> {
        let _ = name;
        None
    }
}

/// Numbers only.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoNames;

impl Names for NoNames {}

/// General registers by width, then by number.
const GPR: [[&str; 16]; 4] = [
    [
        "al", "cl", "dl", "bl", "spl", "bpl", "sil", "dil", "r8b", "r9b", "r10b", "r11b", "r12b",
        "r13b", "r14b", "r15b",
    ],
    [
        "ax", "cx", "dx", "bx", "sp", "bp", "si", "di", "r8w", "r9w", "r10w", "r11w", "r12w",
        "r13w", "r14w", "r15w",
    ],
    [
        "eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "r8d", "r9d", "r10d", "r11d",
        "r12d", "r13d", "r14d", "r15d",
    ],
    [
        "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12",
        "r13", "r14", "r15",
    ],
];
const HIGH: [&str; 4] = ["ah", "ch", "dh", "bh"];
const SEGMENTS: [&str; 6] = ["es", "cs", "ss", "ds", "fs", "gs"];
/// Condition codes of flag consumers, by encoding.
const CC: [&str; 16] =
    ["o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g"];
/// Comparisons of two integers, TCG's names.
const COMPARE: [(Cond, &str); 10] = [
    (Cond::E, "eq"),
    (Cond::Ne, "ne"),
    (Cond::L, "lt"),
    (Cond::Ge, "ge"),
    (Cond::Le, "le"),
    (Cond::G, "gt"),
    (Cond::B, "ltu"),
    (Cond::Ae, "geu"),
    (Cond::Be, "leu"),
    (Cond::A, "gtu"),
];
/// Flags in `FlagMask` bit order.
const FLAG_LETTERS: [char; 6] = ['c', 'p', 'a', 'z', 's', 'o'];

/// The op's name without flags mark and width.
const fn mnemonic(code: Code) -> &'static str {
    match code {
        Code::InsnStart => "----",
        Code::Label => "set_label",
        Code::Br => "br",
        Code::Brcond => "brcond",
        Code::Jccf => "jccf",
        Code::Mov => "mov",
        Code::Extu => "extu",
        Code::Exts => "exts",
        Code::Bswap => "bswap",
        Code::Lea => "lea",
        Code::Setcond => "setcond",
        Code::Movcond => "movcond",
        Code::Setccf => "setccf",
        Code::Cmovf => "cmovf",
        Code::Getf => "getf",
        Code::Putf => "putf",
        Code::Add => "add",
        Code::Sub => "sub",
        Code::Adc => "adc",
        Code::Sbb => "sbb",
        Code::And => "and",
        Code::Or => "or",
        Code::Xor => "xor",
        Code::Not => "not",
        Code::Neg => "neg",
        Code::Inc => "inc",
        Code::Dec => "dec",
        Code::Shl => "shl",
        Code::Shr => "shr",
        Code::Sar => "sar",
        Code::Rol => "rol",
        Code::Ror => "ror",
        Code::Rcl => "rcl",
        Code::Rcr => "rcr",
        Code::Shld => "shld",
        Code::Shrd => "shrd",
        Code::Imul => "imul",
        Code::Mulu2 => "mulu2",
        Code::Muls2 => "muls2",
        Code::Divu2 => "divu2",
        Code::Divs2 => "divs2",
        Code::Bt => "bt",
        Code::Bts => "bts",
        Code::Btr => "btr",
        Code::Btc => "btc",
        Code::Bsf => "bsf",
        Code::Bsr => "bsr",
        Code::Clz => "clz",
        Code::Ctz => "ctz",
        Code::Popcnt => "ctpop",
        Code::LdEnv => "ld",
        Code::StEnv => "st",
        Code::ReadPc => "read_pc",
        Code::Ticks => "ticks",
        Code::Ld => "qemu_ld",
        Code::St => "qemu_st",
        Code::Ptr => "guest_ptr",
        Code::Span => "guest_span",
        Code::LdH => "ld_h",
        Code::StH => "st_h",
        Code::SimdEnter => "simd_enter",
        Code::Native => "native",
        Code::Bulk => "bulk",
        Code::Call => "call",
        Code::Look => "look",
        Code::Raise => "raise",
        Code::GotoTb => "goto_tb",
        Code::GotoPtr => "goto_ptr",
        Code::ExitTb => "exit_tb",
    }
}

/// Is the op printed without a width?
const fn is_widthless(code: Code) -> bool {
    matches!(
        code,
        Code::InsnStart | Code::Label | Code::Br | Code::Jccf | Code::GotoTb | Code::SimdEnter
    )
}
