//! State of the x87 FPU and the vector unit as instructions store it: environments, FXSAVE and XSAVE areas,
//! masked moves and gathers. Arithmetic is not here: it runs on the host's own unit.
//!
//! While Rust runs, vector registers and MXCSR are in [`CpuState`](crate::state::CpuState); x87 state is fetched by `park_fpu`
//! first. Instruction and operand pointers, opcode and selectors are kept apart (`fpu_ip` …), for those in
//! the host's unit are the host's. Sources: SDM Vol. 1, "Programming with the x87 FPU" and "Managing State Using
//! the XSAVE Feature Set"; Vol. 2, FSTENV, FSAVE, FXSAVE, XSAVE.

mod area;
mod environment;
mod fxsave;
mod masked;
mod order;
mod pins;
mod xsave;

#[cfg(test)]
mod tests;

pub(crate) use xsave::Save;

use mem::Access;

use crate::access::Span;
use crate::cpu::Cpu;
use crate::fault::Fault;

/// MXCSR bits that exist: exceptions, DAZ, masks, rounding, FTZ.
const MXCSR_MASK: u32 = 0xFFFF;
/// MXCSR after reset.
const MXCSR_INIT: u32 = 0x1F80;

/// A checked and translated operand of a helper.
struct Operand {
    span: Span,
}

impl Operand {
    /// Checks `bytes` at `seg:off`, aligned to `align` or #GP(0).
    fn aligned(
        cpu: &mut Cpu,
        seg: u64,
        off: u64,
        bytes: u32,
        align: u64,
        access: Access,
    ) -> Result<Self, Fault> {
        let lin = cpu.seg_lin(seg as u8, off, bytes, access)?;
        if lin.0 & (align - 1) != 0 {
            return Err(Fault::gp(0));
        }
        Self::plain(cpu, seg, off, bytes, access)
    }

    /// Checks `bytes` at `seg:off`.
    fn plain(cpu: &mut Cpu, seg: u64, off: u64, bytes: u32, access: Access) -> Result<Self, Fault> {
        Ok(Self { span: cpu.seg_span(seg as u8, off, bytes, access)? })
    }

    /// Fills `to` from displacement `at` on.
    fn read(&self, cpu: &mut Cpu, at: usize, to: &mut [u8]) {
        if cpu.span_read_bytes(&self.span, at as u32, to) {
            return;
        }
        for (at, bytes, piece) in pieces(at, to.len()) {
            let value = cpu.span_read(&self.span, at, bytes).to_le_bytes();
            to[piece].iter_mut().zip(value).for_each(|(to, b)| *to = b);
        }
    }

    /// Writes `from` at displacement `at`.
    fn write(&self, cpu: &mut Cpu, at: usize, from: &[u8]) {
        if cpu.span_write_bytes(&self.span, at as u32, from) {
            return;
        }
        for (at, bytes, piece) in pieces(at, from.len()) {
            let mut value = [0; 8];
            value.iter_mut().zip(&from[piece]).for_each(|(to, b)| *to = *b);
            cpu.span_write(&self.span, at, bytes, u64::from_le_bytes(value));
        }
    }
}

/// Cuts `len` bytes at displacement `at` into accesses of 8, 4, 2 and 1 bytes: displacement, size, place in the
/// bytes.
fn pieces(at: usize, len: usize) -> impl Iterator<Item = (u32, u32, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let bytes = match len - done {
            0 => return None,
            8.. => 8,
            4.. => 4,
            2.. => 2,
            _ => 1,
        };
        let piece = done..done + bytes;
        done += bytes;
        Some(((at + piece.start) as u32, bytes as u32, piece)) // areas are far below 4 GiB
    })
}

/// MXCSR.
impl Cpu {
    /// LDMXCSR.
    pub(crate) fn load_mxcsr(&mut self, v: u32) -> Result<(), Fault> {
        if v & !MXCSR_MASK != 0 {
            return Err(Fault::gp(0));
        }
        self.state.mxcsr = v;
        Ok(())
    }
}
