//! XSAVE, XSAVEOPT, XSAVEC, XRSTOR, XGETBV, XSETBV (SDM Vol. 1, "Managing State Using the XSAVE Feature Set").
//!
//! Components: x87 (0), SSE (1), AVX (2). The x87 component always counts as in use; the others are in use when they differ
//! from their initial values.

use mem::Access;

use super::area::at;
use super::fxsave::{VECTORS, halves, set_halves};
use super::{MXCSR_INIT, Operand};
use crate::cpu::{Cpu, cr0, cr4};
use crate::fault::Fault;

const X87: u64 = 1;
const SSE: u64 = 2;
const AVX: u64 = 4;
/// The legacy region and the header.
const HEADER: usize = 512;
const AVX_AT: usize = HEADER + 64;
const AVX_BYTES: usize = 16;
/// XCOMP_BV: the compacted format.
const COMPACT: u64 = 1 << 63;
const ALIGN: u64 = 64;

/// Which of the saving instructions.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Save {
    /// Every component asked for.
    Plain,
    /// Those in use.
    Optimised,
    /// Those in use, in the compacted format.
    Compacted,
}

/// Bytes of an area with these components, which are where the standard format has them.
const fn area_bytes(components: u64) -> u32 {
    let avx = if components & AVX != 0 { 16 * AVX_BYTES } else { 0 };
    (AVX_AT + avx) as u32 // below 1 KiB
}

impl Cpu {
    /// #UD without CR4.OSXSAVE, #NM with CR0.TS.
    fn check_xsave(&self) -> Result<(), Fault> {
        if self.state.cr4 & cr4::OSXSAVE == 0 {
            return Err(Fault::ud());
        }
        if self.state.cr0 & cr0::TS != 0 { Err(Fault::nm()) } else { Ok(()) }
    }

    /// EDX:EAX, limited to what is enabled.
    const fn requested(&self) -> u64 {
        let mask = self.state.gpr[0] & 0xFFFF_FFFF | self.state.gpr[2] << 32;
        mask & self.state.xcr0
    }

    /// Components that are not in their initial state.
    fn in_use(&self) -> u64 {
        let registers = &self.state.ymm;
        let sse = self.state.mxcsr != MXCSR_INIT || registers.iter().any(|r| r[0] | r[1] != 0);
        let avx = registers.iter().any(|r| r[2] | r[3] != 0);
        X87 | if sse { SSE } else { 0 } | if avx { AVX } else { 0 }
    }

    /// XSAVE, XSAVEOPT, XSAVEC.
    pub(crate) fn x_save(&mut self, seg: u64, off: u64, osz: u64, how: Save) -> Result<(), Fault> {
        self.check_xsave()?;
        self.park_fpu();
        let asked = self.requested();
        let area = Operand::aligned(self, seg, off, area_bytes(asked), ALIGN, Access::Write)?;
        let used = asked & self.in_use();
        let stored = if how == Save::Plain { asked } else { used };
        if stored & X87 != 0 {
            let (head, registers) = (self.x87_head(osz == 64), self.x87_registers());
            area.write(self, 0, &head);
            area.write(self, at::ST, &registers);
        }
        let with_mxcsr = if how == Save::Compacted { stored & SSE } else { asked & (SSE | AVX) };
        if with_mxcsr != 0 {
            self.write_mxcsr(&area);
        }
        if stored & SSE != 0 {
            self.write_xmm(&area, self.vector_registers());
        }
        if stored & AVX != 0 {
            self.write_upper(&area);
        }
        self.write_header(&area, asked, used, how);
        Ok(())
    }

    fn write_header(&mut self, area: &Operand, asked: u64, used: u64, how: Save) {
        if how == Save::Compacted {
            area.write(self, HEADER, &used.to_le_bytes());
            area.write(self, HEADER + 8, &(asked | COMPACT).to_le_bytes());
            return;
        }
        let mut old = [0; 8];
        area.read(self, HEADER, &mut old);
        let present = u64::from_le_bytes(old) & !asked | used;
        area.write(self, HEADER, &present.to_le_bytes());
    }

    /// XRSTOR.
    pub(crate) fn x_restore(&mut self, seg: u64, off: u64, osz: u64) -> Result<(), Fault> {
        self.check_xsave()?;
        self.park_fpu();
        let asked = self.requested();
        let area = Operand::aligned(self, seg, off, area_bytes(asked), ALIGN, Access::Read)?;
        let mut header = [0; 64];
        area.read(self, HEADER, &mut header);
        let (present, compact) = check_header(&header, self.state.xcr0)?;
        let load = asked & present;
        let mxcsr = match (compact, asked & (SSE | AVX)) {
            (false, 0) => None,
            (false, _) => Some(self.read_mxcsr(&area)?),
            (true, _) if load & SSE != 0 => Some(self.read_mxcsr(&area)?),
            (true, _) => (asked & SSE != 0).then_some(MXCSR_INIT),
        };
        self.state.mxcsr = mxcsr.unwrap_or(self.state.mxcsr);
        if load & X87 != 0 {
            let mut region = [0; 160];
            area.read(self, 0, &mut region);
            self.set_x87(&region, osz == 64);
        } else if asked & X87 != 0 {
            self.init_x87(true);
        }
        self.restore_vectors(&area, asked, load);
        Ok(())
    }

    fn restore_vectors(&mut self, area: &Operand, asked: u64, load: u64) {
        let count = self.vector_registers();
        if load & SSE != 0 {
            self.read_xmm(area, count);
        } else if asked & SSE != 0 {
            self.state.ymm[..count].iter_mut().for_each(|r| (r[0], r[1]) = (0, 0));
        }
        if load & AVX != 0 {
            self.read_upper(area);
        } else if asked & AVX != 0 {
            self.state.ymm[..count].iter_mut().for_each(|r| (r[2], r[3]) = (0, 0));
        }
    }

    fn write_upper(&mut self, area: &Operand) {
        let image = halves(&self.state.ymm, 2);
        area.write(self, AVX_AT, &image[..AVX_BYTES * self.vector_registers()]);
    }

    fn read_upper(&mut self, area: &Operand) {
        let (mut image, count) = ([0; VECTORS], self.vector_registers());
        area.read(self, AVX_AT, &mut image[..AVX_BYTES * count]);
        set_halves(&mut self.state.ymm[..count], 2, &image);
    }

    /// XGETBV.
    pub(crate) fn read_xcr(&mut self, n: u32) -> Result<u64, Fault> {
        if self.state.cr4 & cr4::OSXSAVE == 0 {
            return Err(Fault::ud());
        }
        match n {
            0 => Ok(self.state.xcr0),
            1 => Ok(self.in_use() & self.state.xcr0),
            _ => Err(Fault::gp(0)),
        }
    }

    /// XSETBV. The privilege level is the row's business.
    pub(crate) fn write_xcr(&mut self, n: u32, v: u64) -> Result<(), Fault> {
        if self.state.cr4 & cr4::OSXSAVE == 0 {
            return Err(Fault::ud());
        }
        let is_bad = v & X87 == 0 || v & (SSE | AVX) == AVX || v & !self.caps.xcr0 != 0;
        if n != 0 || is_bad {
            return Err(Fault::gp(0));
        }
        self.state.xcr0 = v;
        self.state.ready = 0;
        Ok(())
    }
}

/// XSTATE_BV and whether the format is compacted, or #GP(0).
fn check_header(header: &[u8; 64], xcr0: u64) -> Result<(u64, bool), Fault> {
    let word = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&header[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    let (present, format) = (word(0), word(8));
    let compact = format & COMPACT != 0;
    let is_bad = if compact {
        format & !COMPACT & !xcr0 != 0
            || present & !(format & !COMPACT) != 0
            || header[16..].iter().any(|b| *b != 0)
    } else {
        present & !xcr0 != 0 || format != 0 || header[16..24].iter().any(|b| *b != 0)
    };
    if is_bad { Err(Fault::gp(0)) } else { Ok((present, compact)) }
}
