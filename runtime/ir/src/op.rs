//! One op: code, width, operands. 24 bytes, `Copy`, no heap.

use crate::{Cond, FlagMask};

/// Operation width.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
#[repr(u8)]
pub enum Width {
    /// 8 bits.
    W8,
    /// 16 bits.
    W16,
    /// 32 bits.
    W32,
    /// 64 bits.
    W64,
}

impl Width {
    /// Bytes: 1, 2, 4, 8.
    pub const fn bytes(self) -> u32 {
        1 << self as u32
    }
    /// Bits: 8, 16, 32, 64.
    pub const fn bits(self) -> u32 {
        8 << self as u32
    }
    /// All value bits set.
    pub const fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits())
    }
    /// The width with this many bits (8, 16, 32, else 64).
    pub const fn from_bits(bits: u32) -> Self {
        match bits {
            8 => Self::W8,
            16 => Self::W16,
            32 => Self::W32,
            _ => Self::W64,
        }
    }
}

/// An operand: guest register, high byte register, temporary, constant or nothing.
///
/// - A guest register read at width w gives its low w bits; written at 8/16 bits it merges, at 32
///   bits it zero-extends into 64, at 64 it is replaced. High-byte registers exist at `W8` only.
/// - A temporary has the width of the op that defines it. It may be read at that width or a smaller one;
///   bits above are undefined. Temporaries may be assigned more than once (TCG style), and live to the
///   end of the block (no phi nodes): every path to a use must have assigned it.
/// - A constant is the low w bits of its pool entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Val(pub u16);

impl Val {
    /// No operand (a discarded result prints as `_`).
    pub const NONE: Self = Self(0xFFFF);
    const TEMP0: u16 = 32;
    const CONST0: u16 = 0x8000;

    /// Guest general register 0..16 (rax rcx rdx rbx rsp rbp rsi rdi r8…).
    pub const fn gpr(n: u8) -> Self {
        Self((n & 15) as u16)
    }
    /// Guest high-byte register: 0..4 = ah ch dh bh.
    pub const fn high(n: u8) -> Self {
        Self(16 + (n & 3) as u16)
    }
    /// Temporary `n`.
    pub const fn temp(n: u16) -> Self {
        Self(Self::TEMP0 + n)
    }
    /// Entry `n` of the block's constant pool.
    pub const fn pool(n: u16) -> Self {
        Self(Self::CONST0 + n)
    }
    /// Is it absent?
    pub const fn is_none(self) -> bool {
        self.0 == 0xFFFF
    }
    /// Guest general register number (not for high bytes).
    pub const fn as_gpr(self) -> Option<u8> {
        if self.0 < 16 { Some(self.0 as u8) } else { None }
    }
    /// High-byte register number 0..4.
    pub const fn as_high(self) -> Option<u8> {
        if self.0 >= 16 && self.0 < 20 { Some(self.0 as u8 - 16) } else { None }
    }
    /// Temporary number.
    pub const fn as_temp(self) -> Option<u16> {
        if self.0 >= Self::TEMP0 && self.0 < Self::CONST0 {
            Some(self.0 - Self::TEMP0)
        } else {
            None
        }
    }
    /// Constant pool index.
    pub const fn as_pool(self) -> Option<u16> {
        if self.0 >= Self::CONST0 && self.0 != 0xFFFF { Some(self.0 - Self::CONST0) } else { None }
    }
}

/// What a guest memory access wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
#[repr(u8)]
pub enum AccessKind {
    /// Read.
    #[default]
    R = 1,
    /// Write.
    W = 2,
    /// Read-modify-write (checked as a write).
    Rw = 3,
}

/// Operation codes. Operands are `d` (result), `e` (second result or fifth source), `a b c` (sources),
/// `x`/`y` (small immediates), `imm` (32-bit immediate). "F" = may define flags: op.fdef says which.
/// Shift and rotate counts are `W8` operands, masked by the op to 5 bits (6 at W64) as the hardware does;
/// a masked count of 0 leaves every flag as it was. All flag results are those of the x86 instruction of
/// that name and width, undefined ones included as "unspecified".
///
/// Choices where the table below leaves room (`shape.rs` has the operand widths as data):
/// - All sources are read before the first result is written, `d` before `e`. Any source may be a
///   constant or a guest register, except the pointer of `LdH`/`StH`, which is a temporary.
/// - An op keeps every flag it is not asked to define (`fdef`), as far as that flag is live behind it
///   (`Scratch::flags_after`): a plain `add` between `cmp` and `jccf` keeps the flags, as LEA does.
/// - `Putf` sets exactly the flags in `x`; `fdef` repeats them after liveness, which narrows both.
/// - Unspecified flags are the host's ([`Undefined`](crate::Undefined)): where that may leave flags as they were (a multiply's SF ZF
///   AF PF, a bit test's others), liveness keeps earlier producers of these alive (`Op::flags_kept`).
/// - `Bt` reads `b` at the op's width; bit tests and `Bsf`/`Bsr`, double shifts and `Imul` exist from 16 bits up.
/// - `Ld`/`St`/`Ptr`/`Span` read `a` at 32 bits unless `y` says 64 (a 16-bit `y` only tells the address size).
/// - `Call` arguments and `d`: temporaries at their own width zero-extended, registers and constants
///   at 64 bits; `d` takes the low `w` bits. `Raise`, `GotoPtr`, `ExitTb` read `a` at width w.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "one line each in the table below the name")]
pub enum Code {
    // ---- structure
    /// `---- imm`: start of the guest insn at page offset imm (0..4096); x = its length, y = 1 if it may fault.
    InsnStart,
    /// `set_label L{imm}`
    Label,
    /// `br L{imm}`
    Br,
    /// `brcond_w a, b, cond=x, L{imm}`
    Brcond,
    /// `jccf cond=x, L{imm}`
    Jccf,
    // ---- data movement (never touch flags)
    /// d = a
    Mov,
    /// d(w) = zero-extend a read at width x
    Extu,
    /// d(w) = sign-extend a read at width x
    Exts,
    /// d = byte-swapped a, from 16 bits up
    Bswap,
    /// d = a + (b << x) + imm, no flags; from 32 bits up, x below 4; a may be absent: an address
    Lea,
    /// d(W8) = a `cond x` b ? 1 : 0, comparing at width w
    Setcond,
    /// d = (a `cond x` b) ? c : e; all at width w
    Movcond,
    /// d(W8) = flags satisfy cond x ? 1 : 0
    Setccf,
    /// d = flags satisfy cond x ? a : b
    Cmovf,
    /// d(W32) = the six arithmetic flags in EFLAGS positions, other bits 0
    Getf,
    /// set the flags in mask x (FlagMask bits) from a (W32, EFLAGS positions); others keep
    Putf,
    // ---- arithmetic, F: all six unless noted
    Add,
    Sub,
    /// a + b + CF
    Adc,
    /// a - b - CF
    Sbb,
    And,
    Or,
    Xor,
    /// d = !a, no flags
    Not,
    Neg,
    /// keeps CF
    Inc,
    /// keeps CF
    Dec,
    Shl,
    Shr,
    Sar,
    /// defines C and O only
    Rol,
    Ror,
    Rcl,
    Rcr,
    /// d = a shifted left, filled from the top of b; count c
    Shld,
    Shrd,
    /// d = low half of signed a * b (IMUL with two operands); C and O
    Imul,
    /// d = low, e = high half of unsigned a * b; C and O
    Mulu2,
    /// d = low, e = high half of signed a * b; C and O
    Muls2,
    /// d = quotient, e = remainder of unsigned b:a (b high) / c. The caller has excluded c = 0 and overflow.
    Divu2,
    /// signed Divu2
    Divs2,
    /// CF = bit b of a (b already < width); no d. C only.
    Bt,
    /// d = a with bit b set; CF = old bit
    Bts,
    Btr,
    Btc,
    /// d = index of lowest set bit of a, or b if a = 0; ZF = (a == 0)
    Bsf,
    Bsr,
    /// d = leading zeros (width if a = 0), no flags
    Clz,
    Ctz,
    Popcnt,
    // ---- CPU state
    /// d = state field at byte offset imm, width w
    LdEnv,
    /// state field at byte offset imm, width w = a
    StEnv,
    /// d(W32 or W64) = instruction pointer value of page offset imm (signed, may lie outside the page) of this block's page
    ReadPc,
    /// d(W64) = the host's time-stamp counter; all ones where there is none to be read
    Ticks,
    // ---- guest memory; x = segment number, `a` = offset within the segment at the address width y (Width as u8, W16 values are already zero-extended to W32)
    /// d = load at width w
    Ld,
    /// store b at width w
    St,
    /// d = checked pointer to `imm & 0xff` bytes (up to 64) for access kind `imm >> 8 & 0xff` (AccessKind); bit 16 of imm: LOCK prefix; bit 17: #GP(0) unless aligned to its size
    Ptr,
    /// d = checked pointer to the bytes that several accesses share, as `Op::span` packed them into imm; x, y as for `Ptr`. Where they are not
    /// all in one page of RAM that may be accessed so, nothing has happened: it leaves as `goto_tb` does, by slot `SPAN_SLOT`, for this very
    /// insn, to be run by a translation without spans
    Span,
    /// d = load at width w through pointer a plus displacement imm
    LdH,
    /// store b at width w through pointer a plus displacement imm
    StH,
    // ---- FP and vector state
    /// Makes the parts of FP and vector state in x (bits of `simd`) available, or faults as the control registers demand. y = 1: that they
    /// may be used is all that is asked, a helper takes them where they are.
    SimdEnter,
    /// The native instruction imm of the block; a = pointer of its memory operand, b, c = general registers it reads, d = the one it writes.
    /// x bit 0: it reads and may write general registers by itself; x bit 1: d is read too; x bits 2..8: flags it reads. y bit 0: it may trap.
    Native,
    /// Moves (from rSI in segment x) or fills (x = 255) at rDI in segment 0, rCX elements of 1 << y bytes each, addresses and count being w
    /// wide, and steps the registers; upwards only, so not unless the state's word at imm is 1. May as well do nothing: what the guest
    /// sees must be as if by the ops behind. Never faults. Destroys no guest flags. y bit 2: compares instead, with rAX if x = 255, elements
    /// that are equal (y bit 3: that are not), but leaves the last one, and one that is otherwise, to the ops behind; and only if the state has counted
    /// y >> 4 eights of turns, which it counts from 1 again then.
    Bulk,
    // ---- calls and ends
    /// d(W64) = what `GotoPtr` wants to know of the target a, looked up before the insn commits: host code's own business. Raises guest
    /// fault imm with error code 0 unless bits 47 to 63 of a are all equal.
    Look,
    /// d = helper imm (a, b, c, e); arguments are W64 values (temps W32/W64 zero-extended by the caller), NONE = 0. May fault, may change any state.
    Call,
    /// raise guest fault imm (opaque to everyone but the guest crate), error code a; instruction pointer = this insn's start
    Raise,
    /// end: continue at page offset imm of this same page; x = slot 0/1; y = 1 if the jump goes backward (interrupt check)
    GotoTb,
    /// end: continue at instruction pointer a (indirect; interrupt check); b = what `Look` found, if the block has one
    GotoPtr,
    /// end: leave to the run loop with code imm (see `exit`); instruction pointer = a if given, else already in the state
    ExitTb,
}

/// The slot of a `GotoTb` out of the middle of a block. All flags are live there.
pub const SIDE_SLOT: u8 = 3;

/// The slot by which a `Span` that does not hold leaves.
pub const SPAN_SLOT: u8 = 2;

/// Codes of `ExitTb` and of a finished run of generated code.
pub mod exit {
    /// Look up the block at the state's instruction pointer and go on.
    pub const NEXT: u32 = 0;
    /// A guest fault is recorded in the state.
    pub const FAULT: u32 = 2;
    /// Mode, mapping or code changed: recompute everything derived, then go on.
    pub const RESYNC: u32 = 3;
    /// The guest halted.
    pub const HALT: u32 = 4;
    /// Run the one insn at the instruction pointer on the evaluator, then go on.
    pub const EVAL_ONE: u32 = 5;
}

/// One op.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Op {
    /// What it does.
    pub code: Code,
    /// At which width.
    pub w: Width,
    /// Small immediate (condition, source width, segment …).
    pub x: u8,
    /// Second small immediate.
    pub y: u8,
    /// Flags this op is asked to define. Set by the builder to all it can define when flags are wanted,
    /// NONE when not; narrowed by liveness: a flag not in the set may be left as it was or clobbered.
    pub fdef: FlagMask,
    /// After liveness: flags that must be exact in *some* recoverable place after this op, because an
    /// insn that may fault, a check or an exit follows before they are overwritten.
    pub flive: FlagMask,
    /// Result.
    pub d: Val,
    /// Second result, or fifth source.
    pub e: Val,
    /// Source.
    pub a: Val,
    /// Source.
    pub b: Val,
    /// Source.
    pub c: Val,
    /// 32-bit immediate.
    pub imm: u32,
}

const _: () = assert!(size_of::<Op>() == 20);

impl Op {
    /// An op with no operands.
    pub const fn new(code: Code, w: Width) -> Self {
        Self {
            code,
            w,
            x: 0,
            y: 0,
            fdef: FlagMask::NONE,
            flive: FlagMask::NONE,
            d: Val::NONE,
            e: Val::NONE,
            a: Val::NONE,
            b: Val::NONE,
            c: Val::NONE,
            imm: 0,
        }
    }
    /// What `Lea` makes of its sources, before it is cut to the width.
    pub const fn address(&self, a: u64, b: u64) -> u64 {
        let far = self.imm.cast_signed() as i64;
        a.wrapping_add(b << (self.x & 3)).wrapping_add(far.cast_unsigned())
    }
    /// The condition in `x`.
    pub const fn cond(&self) -> Cond {
        Cond::from_bits(self.x)
    }
}

impl Code {
    /// The flags this op can define (empty = not a flag producer).
    pub const fn can_define(self) -> FlagMask {
        match self {
            Self::Add
            | Self::Sub
            | Self::Adc
            | Self::Sbb
            | Self::And
            | Self::Or
            | Self::Xor
            | Self::Neg => FlagMask::ALL,
            Self::Inc | Self::Dec => FlagMask(63 & !1),
            Self::Shl | Self::Shr | Self::Sar | Self::Shld | Self::Shrd => FlagMask::ALL,
            Self::Rol | Self::Ror | Self::Rcl | Self::Rcr => FlagMask(33),
            Self::Imul | Self::Mulu2 | Self::Muls2 => FlagMask::ALL,
            Self::Bt | Self::Bts | Self::Btr | Self::Btc => FlagMask(63 & !8),
            Self::Bsf | Self::Bsr => FlagMask::ALL,
            Self::Putf | Self::Native => FlagMask::ALL,
            _ => FlagMask::NONE,
        }
    }
    /// Flags read whatever the operands are (`Jccf`, `Setccf`, `Cmovf` read `cond().flags()` instead).
    pub const fn always_reads(self) -> FlagMask {
        match self {
            Self::Adc | Self::Sbb | Self::Rcl | Self::Rcr => FlagMask::C,
            Self::Getf => FlagMask::ALL,
            _ => FlagMask::NONE,
        }
    }
}
