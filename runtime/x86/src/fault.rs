//! Guest faults: small `Copy` values that travel as `Err` until they are delivered.
//!
//! Source: SDM Vol. 3A, "Interrupt and Exception Handling".

/// Exception vectors.
pub mod vector {
    /// Divide error.
    pub const DE: u8 = 0;
    /// Debug.
    pub const DB: u8 = 1;
    /// Non-maskable interrupt.
    pub const NMI: u8 = 2;
    /// Breakpoint (INT3).
    pub const BP: u8 = 3;
    /// Overflow (INTO).
    pub const OF: u8 = 4;
    /// BOUND range exceeded.
    pub const BR: u8 = 5;
    /// Invalid opcode.
    pub const UD: u8 = 6;
    /// Device not available.
    pub const NM: u8 = 7;
    /// Double fault.
    pub const DF: u8 = 8;
    /// Invalid TSS.
    pub const TS: u8 = 10;
    /// Segment not present.
    pub const NP: u8 = 11;
    /// Stack-segment fault.
    pub const SS: u8 = 12;
    /// General protection.
    pub const GP: u8 = 13;
    /// Page fault.
    pub const PF: u8 = 14;
    /// x87 floating-point error.
    pub const MF: u8 = 16;
    /// Alignment check.
    pub const AC: u8 = 17;
    /// SIMD floating-point exception.
    pub const XM: u8 = 19;
}

/// Error-code bit: the event was external to the program, or came up while delivering another.
pub const EXT: u32 = 1;
/// Error-code bit: the selector part is an IDT index.
pub const IDT: u32 = 2;

/// Error-code bits of #PF (SDM Vol. 3A, "Page-Fault Exceptions").
pub mod pf {
    /// The page was present: a protection violation.
    pub const PRESENT: u32 = 1;
    /// The access was a write.
    pub const WRITE: u32 = 2;
    /// The access was made in user mode.
    pub const USER: u32 = 4;
    /// A reserved bit was set in a paging structure.
    pub const RESERVED: u32 = 8;
    /// The access was an instruction fetch.
    pub const FETCH: u32 = 16;
}

/// DR6 bits reported with #DB.
pub mod dr6 {
    /// Breakpoints 0 to 3.
    pub const HITS: u64 = 15;
    /// A debug register was accessed while DR7.GD was set.
    pub const BD: u64 = 1 << 13;
    /// Single step.
    pub const BS: u64 = 1 << 14;
    /// Task switch to a TSS with its T bit set.
    pub const BT: u64 = 1 << 15;
}

/// One exception, not yet delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Vector.
    pub vector: u8,
    /// Error code, for the vectors that have one.
    pub code: Option<u32>,
    /// Linear address of a #PF (becomes CR2), DR6 bits of a #DB; else 0.
    pub info: u64,
    /// A trap: the instruction pointer in the state is already that of the next insn.
    pub is_trap: bool,
}

impl Fault {
    const fn new(vector: u8, code: Option<u32>, info: u64) -> Self {
        Self { vector, code, info, is_trap: false }
    }
    /// #GP.
    pub const fn gp(code: u32) -> Self {
        Self::new(vector::GP, Some(code), 0)
    }
    /// #SS.
    pub const fn ss(code: u32) -> Self {
        Self::new(vector::SS, Some(code), 0)
    }
    /// #NP.
    pub const fn np(code: u32) -> Self {
        Self::new(vector::NP, Some(code), 0)
    }
    /// #TS.
    pub const fn ts(code: u32) -> Self {
        Self::new(vector::TS, Some(code), 0)
    }
    /// #PF at linear address `lin`.
    pub const fn pf(lin: u64, code: u32) -> Self {
        Self::new(vector::PF, Some(code), lin)
    }
    /// #AC.
    pub const fn ac() -> Self {
        Self::new(vector::AC, Some(0), 0)
    }
    /// #DF.
    pub const fn df() -> Self {
        Self::new(vector::DF, Some(0), 0)
    }
    /// #UD.
    pub const fn ud() -> Self {
        Self::new(vector::UD, None, 0)
    }
    /// #DE.
    pub const fn de() -> Self {
        Self::new(vector::DE, None, 0)
    }
    /// #NM.
    pub const fn nm() -> Self {
        Self::new(vector::NM, None, 0)
    }
    /// #MF.
    pub const fn mf() -> Self {
        Self::new(vector::MF, None, 0)
    }
    /// #XM.
    pub const fn xm() -> Self {
        Self::new(vector::XM, None, 0)
    }
    /// #DB before an insn (general detect).
    pub const fn db(dr6: u64) -> Self {
        Self::new(vector::DB, None, dr6)
    }
    /// #DB after an insn (single step, task switch).
    pub const fn db_trap(dr6: u64) -> Self {
        Self { vector: vector::DB, code: None, info: dr6, is_trap: true }
    }
    /// From the encoding of `ir` op `Raise` and `CpuState::fault`: vector, `| 0x100` with an error code.
    pub const fn from_raise(what: u32, code: u32) -> Self {
        let code = if what & 0x100 != 0 { Some(code) } else { None };
        Self::new(what as u8, code, 0)
    }
    /// The encoding of [`Fault::from_raise`].
    pub const fn raise_bits(self) -> u32 {
        self.vector as u32 | if self.code.is_some() { 0x100 } else { 0 }
    }

    /// The same fault, with EXT set in a selector error code when it came up during the delivery
    /// of an external event or an exception.
    #[must_use]
    pub(crate) const fn with_ext(mut self, is_ext: bool) -> Self {
        if is_ext
            && matches!(self.vector, vector::TS..=vector::GP)
            && let Some(code) = self.code
        {
            self.code = Some(code | EXT);
        }
        self
    }

    /// What is raised when `self` could not be delivered because of `second`
    /// (SDM Vol. 3A, "Conditions for Generating a Double Fault"); `None` = shutdown.
    pub(crate) const fn combine(self, second: Self) -> Option<Self> {
        let is_contributory = matches!(second.vector, vector::DE | vector::TS..=vector::GP);
        match self.vector {
            vector::DF => None,
            vector::DE | vector::TS..=vector::GP if is_contributory => Some(Self::df()),
            vector::PF if is_contributory || second.vector == vector::PF => Some(Self::df()),
            _ => Some(second),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn double_fault_table() {
        let (gp, pf, ud, df) = (Fault::gp(0), Fault::pf(0, 0), Fault::ud(), Fault::df());
        assert_eq!(ud.combine(gp), Some(gp));
        assert_eq!(gp.combine(gp), Some(df));
        assert_eq!(gp.combine(pf), Some(pf));
        assert_eq!(pf.combine(pf), Some(df));
        assert_eq!(pf.combine(Fault::ts(4)), Some(df));
        assert_eq!(Fault::de().combine(Fault::np(8)), Some(df));
        assert_eq!(gp.combine(ud), Some(ud));
        assert_eq!(df.combine(gp), None);
    }

    #[test]
    fn raise_encoding_round_trips() {
        for f in [Fault::gp(0), Fault::ud(), Fault::ac(), Fault::nm()] {
            assert_eq!(Fault::from_raise(f.raise_bits(), f.code.unwrap_or(0)), f);
        }
    }

    #[test]
    fn ext_only_in_selector_codes() {
        assert_eq!(Fault::gp(8).with_ext(true).code, Some(9));
        assert_eq!(Fault::pf(0, 2).with_ext(true).code, Some(2));
        assert_eq!(Fault::ud().with_ext(true).code, None);
    }
}
