//! EFLAGS: the stored arithmetic flags (`lahf; seto` layout), the direction step and the rest.
//!
//! Source: SDM Vol. 1, "EFLAGS Register".

use crate::state::CpuState;

/// CF.
pub const CF: u32 = 1;
/// PF.
pub const PF: u32 = 1 << 2;
/// AF.
pub const AF: u32 = 1 << 4;
/// ZF.
pub const ZF: u32 = 1 << 6;
/// SF.
pub const SF: u32 = 1 << 7;
/// TF.
pub const TF: u32 = 1 << 8;
/// IF.
pub const IF: u32 = 1 << 9;
/// DF.
pub const DF: u32 = 1 << 10;
/// OF.
pub const OF: u32 = 1 << 11;
/// IOPL, two bits.
pub const IOPL: u32 = 3 << 12;
/// NT.
pub const NT: u32 = 1 << 14;
/// RF.
pub const RF: u32 = 1 << 16;
/// VM.
pub const VM: u32 = 1 << 17;
/// AC.
pub const AC: u32 = 1 << 18;
/// VIF.
pub const VIF: u32 = 1 << 19;
/// VIP.
pub const VIP: u32 = 1 << 20;
/// ID.
pub const ID: u32 = 1 << 21;

/// The six arithmetic flags.
pub const ARITH: u32 = CF | PF | AF | ZF | SF | OF;
/// What `CpuState::eflags` holds.
pub const SYSTEM: u32 = TF | IF | IOPL | NT | RF | VM | AC | VIF | VIP | ID;
/// The bit that always reads 1.
pub const FIXED: u32 = 2;

impl CpuState {
    /// The six arithmetic flags in EFLAGS positions.
    #[inline]
    pub const fn arith_flags(&self) -> u32 {
        (self.cc >> 8 & 0xD5) | (self.cc & 1) << 11
    }

    /// Sets the six arithmetic flags from EFLAGS positions.
    #[inline]
    pub const fn set_arith_flags(&mut self, v: u32) {
        self.cc = (v & 0xD5) << 8 | (v >> 11 & 1);
    }

    /// The whole of EFLAGS.
    pub const fn eflags(&self) -> u32 {
        let df = if self.df < 0 { DF } else { 0 };
        (self.eflags & SYSTEM) | self.arith_flags() | df | FIXED
    }

    /// Sets the whole of EFLAGS; the caller syncs the mode afterwards.
    pub const fn set_eflags(&mut self, v: u32) {
        self.eflags = v & SYSTEM;
        self.set_arith_flags(v);
        self.df = if v & DF != 0 { -1 } else { 1 };
    }

    /// Sets the EFLAGS bits in `mask` from `v`; the caller syncs the mode afterwards.
    pub(crate) const fn set_eflags_masked(&mut self, v: u32, mask: u32) {
        let old = self.eflags();
        self.set_eflags((old & !mask) | (v & mask));
    }

    /// IOPL.
    pub const fn iopl(&self) -> u32 {
        self.eflags >> 12 & 3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_round_trips() {
        let mut s = CpuState::default();
        for v in [0, !0, ARITH, CF, OF, DF | IF, VM | IOPL, 0x0020_3746] {
            s.set_eflags(v);
            assert_eq!(s.eflags(), v & (ARITH | SYSTEM | DF) | FIXED);
        }
    }

    #[test]
    fn cc_is_lahf_seto() {
        let mut s = CpuState { cc: 0x0001 | 0x2A00, ..CpuState::default() };
        assert_eq!(s.arith_flags(), OF);
        s.cc = 0x8100;
        assert_eq!(s.arith_flags(), SF | CF);
        s.set_arith_flags(ZF | PF | AF | OF);
        assert_eq!(s.cc, 0x5401);
    }
}
