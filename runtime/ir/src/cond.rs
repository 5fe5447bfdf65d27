//! Conditions and the six arithmetic flags.

/// A condition code as encoded in the low nibble of `Jcc` (SDM Vol. 1, "EFLAGS Condition Codes").
/// `JccF`/`SetccF`/`CmovF` read it against the guest's flags; `Brcond`/`Setcond`/`Movcond` read it
/// as the comparison of two integers (only `B AE E NE BE A L GE LE G` are legal there).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Cond {
    /// Overflow.
    O,
    /// No overflow.
    No,
    /// Below (unsigned).
    B,
    /// Above or equal (unsigned).
    Ae,
    /// Equal.
    E,
    /// Not equal.
    Ne,
    /// Below or equal (unsigned).
    Be,
    /// Above (unsigned).
    A,
    /// Sign.
    S,
    /// No sign.
    Ns,
    /// Parity even.
    P,
    /// Parity odd.
    Np,
    /// Less (signed).
    L,
    /// Greater or equal (signed).
    Ge,
    /// Less or equal (signed).
    Le,
    /// Greater (signed).
    G,
}

impl Cond {
    /// All sixteen, by encoding.
    pub const ALL: [Self; 16] = [
        Self::O,
        Self::No,
        Self::B,
        Self::Ae,
        Self::E,
        Self::Ne,
        Self::Be,
        Self::A,
        Self::S,
        Self::Ns,
        Self::P,
        Self::Np,
        Self::L,
        Self::Ge,
        Self::Le,
        Self::G,
    ];

    /// The condition with encoding `n & 15`.
    pub const fn from_bits(n: u8) -> Self {
        Self::ALL[(n & 15) as usize]
    }
    /// The opposite condition.
    #[must_use]
    pub const fn invert(self) -> Self {
        Self::from_bits(self as u8 ^ 1)
    }
    /// The flags it reads.
    pub const fn flags(self) -> FlagMask {
        match self as u8 >> 1 {
            0 => FlagMask::O,
            1 => FlagMask::C,
            2 => FlagMask::Z,
            3 => FlagMask(FlagMask::C.0 | FlagMask::Z.0),
            4 => FlagMask::S,
            5 => FlagMask::P,
            6 => FlagMask(FlagMask::S.0 | FlagMask::O.0),
            _ => FlagMask(FlagMask::S.0 | FlagMask::O.0 | FlagMask::Z.0),
        }
    }
    /// Evaluates it on flags in EFLAGS layout.
    pub const fn holds(self, eflags: u32) -> bool {
        let (c, p, z) = (eflags & 1 != 0, eflags & 4 != 0, eflags & 0x40 != 0);
        let (s, o) = (eflags & 0x80 != 0, eflags & 0x800 != 0);
        let base = match self as u8 >> 1 {
            0 => o,
            1 => c,
            2 => z,
            3 => c || z,
            4 => s,
            5 => p,
            6 => s != o,
            _ => z || s != o,
        };
        base != (self as u8 & 1 != 0)
    }
}

/// A set of the six arithmetic flags. Bit order: C=1, P=2, A=4, Z=8, S=16, O=32.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash, Debug)]
pub struct FlagMask(pub u8);

impl FlagMask {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// CF.
    pub const C: Self = Self(1);
    /// PF.
    pub const P: Self = Self(2);
    /// AF.
    pub const A: Self = Self(4);
    /// ZF.
    pub const Z: Self = Self(8);
    /// SF.
    pub const S: Self = Self(16);
    /// OF.
    pub const O: Self = Self(32);
    /// All six.
    pub const ALL: Self = Self(63);

    /// Union.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    /// This set without `other`.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
    /// Do the sets share a flag?
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
    /// Is it empty?
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
    /// The same set as bits of EFLAGS (CF 0, PF 2, AF 4, ZF 6, SF 7, OF 11).
    pub const fn eflags(self) -> u32 {
        let m = self.0 as u32;
        (m & 1) | (m & 2) << 1 | (m & 4) << 2 | (m & 8) << 3 | (m & 16) << 3 | (m & 32) << 6
    }
}
