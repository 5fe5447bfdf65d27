//! Instructions that work on a whole cache line: CLFLUSH and its kin, CLZERO, MOVDIR64B.
//!
//! There are no caches here, so that only checks and contents are left (SDM Vol. 2; AMD APM Vol. 3, CLZERO).

use mem::{Access, Lin};

use crate::cpu::Cpu;
use crate::fault::Fault;
use crate::state::seg;

/// Bytes of a line, as CPUID tells.
const LINE: u32 = 64;

impl Cpu {
    /// CLFLUSH and its kin: nothing is cached here, but the operand is checked. An execute-only segment will do.
    pub(crate) fn flush_operand(&mut self, segment: u64, off: u64) -> Result<(), Fault> {
        let lin = self.seg_lin(segment as u8, off, 1, Access::Fetch)?;
        self.span(lin, 1, Access::Read, self.data_view()).map(|_| ())
    }

    /// CLZERO: a line of zeros. Lines are counted from linear address 0, also where a segment's base is odd, and all of it must lie in
    /// the segment (Zen 5; the manual says less).
    pub(crate) fn store_empty_line(&mut self, segment: u64, off: u64) -> Result<(), Fault> {
        let n = segment as u8;
        let is_based = !self.is_code64() || n >= seg::FS;
        let base = if is_based { self.state.seg[usize::from(n) % seg::COUNT].base } else { 0 };
        let inside = base.wrapping_add(off) & u64::from(LINE - 1);
        let start = off.wrapping_sub(inside);
        let start = if self.is_code64() { start } else { start & 0xFFFF_FFFF };
        let lin = self.seg_lin(n, start, LINE, Access::Write)?;
        self.store_line(lin, [0; 8])
    }

    /// MOVDIR64B: 64 bytes to ES:to, whose linear address must be a line's.
    pub(crate) fn copy_line(&mut self, segment: u64, off: u64, to: u64) -> Result<(), Fault> {
        let to = self.seg_lin(seg::ES, to, LINE, Access::Write)?;
        if to.0 & u64::from(LINE - 1) != 0 {
            return Err(Fault::gp(0));
        }
        let from = self.seg_lin(segment as u8, off, LINE, Access::Read)?;
        // As of a vector (Zen 5).
        if self.checks_alignment() && self.caps.is_amd && from.0 & 15 != 0 {
            return Err(Fault::ac());
        }
        let span = self.span(from, LINE, Access::Read, self.data_view())?;
        self.watch(from, LINE, Access::Read);
        let mut line = [0; 8];
        for (at, word) in (0..LINE).step_by(8).zip(&mut line) {
            *word = self.span_read(&span, at, 8);
        }
        self.store_line(to, line)
    }

    fn store_line(&mut self, at: Lin, line: [u64; 8]) -> Result<(), Fault> {
        let span = self.span(at, LINE, Access::Write, self.data_view())?;
        self.watch(at, LINE, Access::Write);
        for (at, word) in (0..LINE).step_by(8).zip(line) {
            self.span_write(&span, at, 8, word);
        }
        Ok(())
    }
}
