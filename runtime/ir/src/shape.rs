//! The shape of each op: which operands it has, whether they are read or written, and at which width.
//!
//! Everything that walks ops without caring what they compute (verifier, text form, passes, a register
//! assigner) asks here, so that a new op is described once.

use crate::{AccessKind, Code, FlagMask, Native, NativeReg, Op, Undefined, Val, Width};

/// The role of one operand slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Unused: must be `Val::NONE`.
    No,
    /// At the op's width.
    W,
    /// At this width whatever the op's is.
    At(Width),
    /// At the width in `x` (`Extu`, `Exts`).
    X,
    /// A segment offset: at the width in `y`, at least 32 bits.
    Addr,
    /// A checked pointer: a 64-bit temporary that `Ptr` or `Span` made. `Native` may lack it.
    Pointer,
    /// A helper's argument: a temporary at its own width, everything else at 64 bits; may be absent.
    Arg,
    /// At the op's width; may be absent.
    Opt,
}

/// Operand roles of a code.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Role of the result `d`. `Opt` where the value may be discarded.
    pub d: Role,
    /// Role of `e`.
    pub e: Role,
    /// Is `e` a second result (else a source)?
    pub e_is_result: bool,
    /// Role of `a`.
    pub a: Role,
    /// Role of `b`.
    pub b: Role,
    /// Role of `c`.
    pub c: Role,
}

const fn shape(d: Role, a: Role, b: Role, c: Role) -> Shape {
    Shape { d, e: Role::No, e_is_result: false, a, b, c }
}

const fn two_results(a: Role, b: Role, c: Role) -> Shape {
    Shape { d: Role::Opt, e: Role::Opt, e_is_result: true, a, b, c }
}

const fn shape_of(code: Code) -> Shape {
    use Role::{Addr, Arg, At, No, Opt, Pointer, W, X};
    const PTR: Role = At(Width::W64);
    const BYTE: Role = At(Width::W8);
    match code {
        Code::InsnStart
        | Code::Label
        | Code::Br
        | Code::Jccf
        | Code::GotoTb
        | Code::SimdEnter
        | Code::Bulk => shape(No, No, No, No),
        Code::Brcond => shape(No, W, W, No),
        Code::Mov | Code::Bswap | Code::Not | Code::Clz | Code::Ctz | Code::Popcnt => {
            shape(W, W, No, No)
        }
        Code::Extu | Code::Exts => shape(W, X, No, No),
        Code::Lea => shape(W, Opt, W, No),
        Code::Setcond => shape(BYTE, W, W, No),
        Code::Movcond => Shape { d: W, e: W, e_is_result: false, a: W, b: W, c: W },
        Code::Setccf => shape(BYTE, No, No, No),
        Code::Cmovf => shape(W, W, W, No),
        Code::Getf => shape(At(Width::W32), No, No, No),
        Code::Putf => shape(No, At(Width::W32), No, No),
        Code::Add
        | Code::Sub
        | Code::Adc
        | Code::Sbb
        | Code::And
        | Code::Or
        | Code::Xor
        | Code::Imul => shape(Opt, W, W, No),
        Code::Neg | Code::Inc | Code::Dec => shape(Opt, W, No, No),
        Code::Shl | Code::Shr | Code::Sar | Code::Rol | Code::Ror | Code::Rcl | Code::Rcr => {
            shape(Opt, W, BYTE, No)
        }
        Code::Shld | Code::Shrd => shape(Opt, W, W, BYTE),
        Code::Mulu2 | Code::Muls2 => two_results(W, W, No),
        Code::Divu2 | Code::Divs2 => two_results(W, W, W),
        Code::Bt => shape(No, W, W, No),
        Code::Bts | Code::Btr | Code::Btc | Code::Bsf | Code::Bsr => shape(Opt, W, W, No),
        Code::LdEnv | Code::ReadPc | Code::Ticks => shape(W, No, No, No),
        Code::StEnv => shape(No, W, No, No),
        Code::Look => shape(W, W, No, No),
        Code::GotoPtr => shape(No, W, Opt, No),
        Code::Ld => shape(W, Addr, No, No),
        Code::St => shape(No, Addr, W, No),
        Code::Ptr | Code::Span => shape(PTR, Addr, No, No),
        Code::LdH => shape(W, Pointer, No, No),
        Code::StH => shape(No, Pointer, W, No),
        Code::Native => shape(Opt, Pointer, Opt, Opt),
        Code::Call => Shape { d: Opt, e: Arg, e_is_result: false, a: Arg, b: Arg, c: Arg },
        Code::Raise | Code::ExitTb => shape(No, Opt, No, No),
    }
}

impl Code {
    /// All codes in order.
    pub const ALL: [Self; 69] = [
        Self::InsnStart,
        Self::Label,
        Self::Br,
        Self::Brcond,
        Self::Jccf,
        Self::Mov,
        Self::Extu,
        Self::Exts,
        Self::Bswap,
        Self::Lea,
        Self::Setcond,
        Self::Movcond,
        Self::Setccf,
        Self::Cmovf,
        Self::Getf,
        Self::Putf,
        Self::Add,
        Self::Sub,
        Self::Adc,
        Self::Sbb,
        Self::And,
        Self::Or,
        Self::Xor,
        Self::Not,
        Self::Neg,
        Self::Inc,
        Self::Dec,
        Self::Shl,
        Self::Shr,
        Self::Sar,
        Self::Rol,
        Self::Ror,
        Self::Rcl,
        Self::Rcr,
        Self::Shld,
        Self::Shrd,
        Self::Imul,
        Self::Mulu2,
        Self::Muls2,
        Self::Divu2,
        Self::Divs2,
        Self::Bt,
        Self::Bts,
        Self::Btr,
        Self::Btc,
        Self::Bsf,
        Self::Bsr,
        Self::Clz,
        Self::Ctz,
        Self::Popcnt,
        Self::LdEnv,
        Self::StEnv,
        Self::ReadPc,
        Self::Ticks,
        Self::Ld,
        Self::St,
        Self::Ptr,
        Self::Span,
        Self::LdH,
        Self::StH,
        Self::SimdEnter,
        Self::Native,
        Self::Bulk,
        Self::Look,
        Self::Call,
        Self::Raise,
        Self::GotoTb,
        Self::GotoPtr,
        Self::ExitTb,
    ];
}

const SHAPES: [Shape; Code::ALL.len()] = {
    let mut shapes = [shape(Role::No, Role::No, Role::No, Role::No); Code::ALL.len()];
    let mut n = 0;
    while n < shapes.len() {
        assert!(Code::ALL[n] as usize == n, "Code::ALL is out of order");
        shapes[n] = shape_of(Code::ALL[n]);
        n += 1;
    }
    shapes
};

impl Code {
    /// Its operand roles.
    #[inline]
    pub const fn shape(self) -> &'static Shape {
        &SHAPES[self as usize]
    }
    /// Does control never reach the op after it?
    #[inline]
    pub const fn is_end(self) -> bool {
        matches!(self, Self::Raise | Self::GotoTb | Self::GotoPtr | Self::ExitTb)
    }
    /// Does it jump, or may it, to the label in `imm`?
    #[inline]
    pub const fn is_branch(self) -> bool {
        matches!(self, Self::Br | Self::Brcond | Self::Jccf)
    }
    /// May the guest's state be observed here (fault, helper, end of the block)? Then every guest
    /// register and flag must be exact. (A `Native` that cannot trap does not: `Op::exposes_state`.)
    #[inline]
    pub const fn exposes_state(self) -> bool {
        self.is_end()
            || matches!(
                self,
                Self::Ld
                    | Self::St
                    | Self::Ptr
                    | Self::Span
                    | Self::Call
                    | Self::Look
                    | Self::SimdEnter
                    | Self::Native
            )
    }
    /// Is its result all it does, flags aside? Such an op may go when nothing reads what it makes.
    /// Loads are not: they may fault, and a device may notice.
    #[inline]
    pub const fn is_pure(self) -> bool {
        !self.is_branch()
            && !self.exposes_state()
            && !matches!(
                self,
                Self::InsnStart
                    | Self::Label
                    | Self::StEnv
                    | Self::LdH
                    | Self::StH
                    | Self::Putf
                    | Self::Bulk
            )
    }
}

/// Bit of a `Bulk` op's `y`.
const BULK_COMPARES: u8 = 4;

impl Op {
    /// The width at which an operand of this role is read or written. An `Arg` says 64.
    #[inline]
    pub const fn width_of(&self, role: Role) -> Width {
        match role {
            Role::W | Role::Opt | Role::No => self.w,
            Role::At(w) => w,
            Role::X => Width::from_code(self.x),
            Role::Addr => match Width::from_code(self.y) {
                Width::W64 => Width::W64,
                _ => Width::W32,
            },
            Role::Arg | Role::Pointer => Width::W64,
        }
    }
    /// Width of the result `d`.
    #[inline]
    pub const fn d_width(&self) -> Width {
        self.width_of(self.code.shape().d)
    }
    /// The second result, if this op has one and wants it.
    #[inline]
    pub const fn second_result(&self) -> Option<Val> {
        if self.code.shape().e_is_result && !self.e.is_none() { Some(self.e) } else { None }
    }
    /// Calls `f` with each present source and the width it is read at.
    #[inline]
    pub fn for_each_source(&self, mut f: impl FnMut(Val, Width)) {
        let shape = self.code.shape();
        if !self.a.is_none() {
            f(self.a, self.width_of(shape.a));
        }
        if !self.b.is_none() {
            f(self.b, self.width_of(shape.b));
        }
        if !self.c.is_none() {
            f(self.c, self.width_of(shape.c));
        }
        if !self.e.is_none() && !shape.e_is_result {
            f(self.e, self.width_of(shape.e));
        }
        if self.reads_result() {
            f(self.d, self.w);
        }
    }
    /// Replaces each present source by what `f` says, given its role and width. A result that is read too
    /// is left alone.
    #[inline]
    pub fn map_sources(&mut self, mut f: impl FnMut(Val, Role, Width) -> Val) {
        let reader = *self;
        self.map_sources_by_role(|v, role| f(v, role, reader.width_of(role)));
    }
    /// Replaces each present source by what `f` says, given its role.
    #[inline]
    pub fn map_sources_by_role(&mut self, mut f: impl FnMut(Val, Role) -> Val) {
        let shape = self.code.shape();
        if !self.a.is_none() {
            self.a = f(self.a, shape.a);
        }
        if !self.b.is_none() {
            self.b = f(self.b, shape.b);
        }
        if !self.c.is_none() {
            self.c = f(self.c, shape.c);
        }
        if !self.e.is_none() && !shape.e_is_result {
            self.e = f(self.e, shape.e);
        }
    }
    /// Calls `f` with each present result and the width it is written at.
    #[inline]
    pub fn for_each_result(&self, mut f: impl FnMut(Val, Width)) {
        if !self.d.is_none() {
            f(self.d, self.d_width());
        }
        if let Some(e) = self.second_result() {
            f(e, self.w);
        }
    }
}

impl Op {
    /// The op for native instruction number `imm`: flags are those it writes, `traps` says that it may raise
    /// an exception of its own, `implicit` that it touches general registers without naming them.
    pub fn native(
        imm: u32,
        n: &Native,
        w: Width,
        writes: FlagMask,
        traps: bool,
        implicit: bool,
    ) -> Self {
        let reads_result = n.has(NativeReg::InOut);
        Self {
            x: u8::from(implicit) | u8::from(reads_result) << 1 | n.reads.0 << 2,
            y: u8::from(traps) | writes.0 << 2,
            fdef: writes,
            imm,
            ..Self::new(Code::Native, w)
        }
    }
    /// Does it read general registers it does not name, and perhaps write them?
    #[inline]
    pub const fn is_implicit(&self) -> bool {
        matches!(self.code, Code::Native) && self.x & 1 != 0 || matches!(self.code, Code::Bulk)
    }
    /// Is the result `d` a source as well?
    #[inline]
    pub const fn reads_result(&self) -> bool {
        matches!(self.code, Code::Native) && self.x & 2 != 0
    }
    /// `Code::exposes_state` for this op: a native instruction that cannot trap does not expose anything.
    #[inline]
    pub const fn exposes_state(&self) -> bool {
        self.code.exposes_state() && (!matches!(self.code, Code::Native) || self.y & 1 != 0)
    }
    /// A native instruction that stores to memory, and that is all: no other result, no trap.
    pub const fn only_stores(&self) -> bool {
        matches!(self.code, Code::Native)
            && !self.exposes_state()
            && self.d.is_none()
            && self.can_define().is_empty()
    }
    /// The flags it can define: `Code::can_define`, of a native instruction those it writes.
    #[inline]
    pub const fn can_define(&self) -> FlagMask {
        match self.code {
            Code::Native => FlagMask(self.y >> 2),
            code => code.can_define(),
        }
    }
    /// Flags whose value it uses.
    #[inline]
    pub const fn flags_read(&self) -> FlagMask {
        match self.code {
            Code::Jccf | Code::Setccf | Code::Cmovf => self.cond().flags(),
            Code::Native => FlagMask(self.x >> 2),
            code => code.always_reads(),
        }
    }
    /// Flags it is asked to set: `fdef`, for `Putf` the mask in `x`.
    #[inline]
    pub const fn flags_asked(&self) -> FlagMask {
        match self.code {
            Code::Putf => FlagMask(self.x & FlagMask::ALL.0),
            _ => FlagMask(self.fdef.0 & self.can_define().0),
        }
    }
    /// Flags that may come through it unchanged although it defines them: all of a shift or rotate whose
    /// masked count may be 0, and those the host leaves alone where the manual says "undefined".
    /// An earlier producer of such a flag is not dead.
    #[inline]
    pub fn flags_kept(&self, pool: &[u64]) -> FlagMask {
        let count = match self.code {
            Code::Shl | Code::Shr | Code::Sar | Code::Rol | Code::Ror | Code::Rcl | Code::Rcr => {
                self.b
            }
            Code::Shld | Code::Shrd => self.c,
            Code::Imul | Code::Mulu2 | Code::Muls2 => {
                return FlagMask::ALL.minus(FlagMask::C.or(FlagMask::O));
            }
            Code::Bt | Code::Bts | Code::Btr | Code::Btc => {
                return FlagMask::ALL.minus(FlagMask::C);
            }
            _ => return FlagMask::NONE,
        };
        let known = count.as_pool().and_then(|n| pool.get(usize::from(n)));
        match known.map(|n| n & u64::from(self.w.count_mask())) {
            None | Some(0) => FlagMask::ALL,
            Some(n) if Undefined::of_host().keeps_overflow(self.code, self.w, n) => FlagMask::O,
            Some(_) => FlagMask::NONE,
        }
    }
}

impl Width {
    /// The width with this discriminant (0..4; others as 3): what `x` and `y` hold.
    #[inline]
    pub const fn from_code(code: u8) -> Self {
        match code {
            0 => Self::W8,
            1 => Self::W16,
            2 => Self::W32,
            _ => Self::W64,
        }
    }
    /// The mask an x86 shift applies to its count: 31, at 64 bits 63.
    #[inline]
    pub const fn count_mask(self) -> u32 {
        match self {
            Self::W64 => 63,
            _ => 31,
        }
    }
}

impl Op {
    /// `Ptr`: what the access wants.
    pub const fn access_kind(&self) -> AccessKind {
        match self.imm >> 8 & 0xFF {
            1 => AccessKind::R,
            2 => AccessKind::W,
            _ => AccessKind::Rw,
        }
    }
    /// `Ptr`: how many bytes it covers.
    pub const fn access_bytes(&self) -> u32 {
        self.imm & 0xFF
    }
    /// `Ptr`: must the address be a multiple of the size?
    pub const fn is_aligned(&self) -> bool {
        self.imm >> 17 & 1 != 0
    }
    /// A `Span` of `bytes` (at most a page) at `a`, to be accessed by `kind`, whose address must be a multiple of 2 to the power
    /// `align`. Segment and address size are left to the caller.
    pub const fn span(d: Val, a: Val, bytes: u32, kind: AccessKind, align: u32) -> Self {
        let imm = bytes & 0x1FFF | (kind as u32) << 13 | (align & 7) << 16;
        Self { d, a, imm, ..Self::new(Code::Span, Width::W64) }
    }
    /// `Span`: how many bytes it covers.
    pub const fn span_bytes(&self) -> u32 {
        self.imm & 0x1FFF
    }
    /// `Span`: is anything written?
    pub const fn span_writes(&self) -> bool {
        self.imm >> 14 & 1 != 0
    }
    /// `Span`: log2 of what its address must be a multiple of.
    pub const fn span_align(&self) -> u32 {
        self.imm >> 16 & 7
    }
    /// `Bulk`: its `y` for elements of `bytes` that are compared until two are equal (or not), once so many eights of turns are made.
    pub const fn bulk_compare(bytes: u64, until_equal: bool, eights: u8) -> u8 {
        bytes.trailing_zeros() as u8 | BULK_COMPARES | (until_equal as u8) << 3 | eights << 4
    }
    /// `Bulk`: does it compare?
    pub const fn bulk_compares(&self) -> bool {
        self.y & BULK_COMPARES != 0
    }
    /// `Bulk` that compares: until two elements are equal, not while they are?
    pub const fn bulk_is_until_equal(&self) -> bool {
        self.y >> 3 & 1 != 0
    }
    /// `Bulk` that compares: turns that must have been made one by one.
    pub const fn bulk_turns(&self) -> u32 {
        8 * (self.y >> 4) as u32
    }
    /// `Ptr`: is it for a locked access?
    pub const fn is_locked(&self) -> bool {
        self.imm >> 16 & 1 != 0
    }
}
