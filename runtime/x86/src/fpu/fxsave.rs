//! FXSAVE, FXRSTOR, and the legacy region that XSAVE shares with them (SDM Vol. 1, "Legacy Region of an XSAVE Area").

use mem::Access;

use super::area::{Pointers, at};
use super::{MXCSR_MASK, Operand};
use crate::cpu::Cpu;
use crate::fault::Fault;

/// Bytes of an FXSAVE area.
const FXSAVE_BYTES: u32 = 512;
/// Its alignment.
const FXSAVE_ALIGN: u64 = 16;

/// Bytes of 16 halves of vector registers.
pub(super) const VECTORS: usize = 256;

/// The low (0) or high (2) halves of the vector registers, one behind the other.
pub(super) fn halves(registers: &[[u64; 4]; 16], half: usize) -> [u8; VECTORS] {
    let mut image = [0; VECTORS];
    let words = registers.iter().flat_map(|register| &register[half..half + 2]);
    for (place, word) in image.as_chunks_mut().0.iter_mut().zip(words) {
        *place = word.to_le_bytes();
    }
    image
}

/// The other way round.
pub(super) fn set_halves(registers: &mut [[u64; 4]], half: usize, image: &[u8; VECTORS]) {
    let words = registers.iter_mut().flat_map(|register| &mut register[half..half + 2]);
    for (word, bytes) in words.zip(image.as_chunks().0) {
        *word = u64::from_le_bytes(*bytes);
    }
}

impl Cpu {
    /// XMM registers that the mode has.
    pub(super) fn vector_registers(&self) -> usize {
        if self.is_code64() { 16 } else { 8 }
    }

    /// The 24 bytes of control words and pointers. `wide`: pointers of 64 bits, no selectors.
    pub(super) fn x87_head(&self, wide: bool) -> [u8; 24] {
        let p = if self.saves_pointers() { self.fpu_pointers() } else { Pointers::default() };
        let mut head = [0; 24];
        head[at::FCW..][..2].copy_from_slice(&self.fcw().to_le_bytes());
        head[at::FSW..][..2].copy_from_slice(&self.fsw().to_le_bytes());
        head[at::FTW] = self.full_tags();
        head[at::FOP..][..2].copy_from_slice(&p.op.to_le_bytes());
        let narrow = |offset: u64, selector: u16| offset & 0xFFFF_FFFF | u64::from(selector) << 32;
        let (ip, dp) = if wide { (p.ip, p.dp) } else { (narrow(p.ip, p.cs), narrow(p.dp, p.ds)) };
        head[at::FIP..][..8].copy_from_slice(&ip.to_le_bytes());
        head[at::FDP..][..8].copy_from_slice(&dp.to_le_bytes());
        head
    }

    /// Takes the first 160 bytes of a legacy region but for MXCSR.
    pub(super) fn set_x87(&mut self, region: &[u8; 160], wide: bool) {
        let word = |at: usize| u16::from_le_bytes([region[at], region[at + 1]]);
        let pointer = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&region[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        let (ip, dp, op) = (pointer(at::FIP), pointer(at::FDP), word(at::FOP));
        self.set_fpu_words(word(at::FCW), word(at::FSW), region[at::FTW]);
        self.set_fpu_pointers(if wide {
            Pointers { ip, dp, op, cs: 0, ds: 0 }
        } else {
            let (cs, ds) = (word(at::FIP + 4), word(at::FDP + 4));
            Pointers { ip: ip & 0xFFFF_FFFF, dp: dp & 0xFFFF_FFFF, op, cs, ds }
        });
        for (i, value) in region[at::ST..].chunks_exact(16).enumerate() {
            if let Some(value) = value.first_chunk() {
                self.set_st(i, value);
            }
        }
    }

    /// ST0 to ST7 as the region has them, six bytes of zeros behind each.
    pub(super) fn x87_registers(&self) -> [u8; 128] {
        let mut image = [0; 128];
        for (i, place) in image.chunks_exact_mut(16).enumerate() {
            place[..10].copy_from_slice(&self.st(i));
        }
        image
    }

    /// Are the x87 pointers stored by FXSAVE and XSAVE? Intel's processors always do, AMD's when an unmasked
    /// exception is pending (AMD APM Vol. 2, "FXSAVE and FXRSTOR Instructions").
    fn saves_pointers(&self) -> bool {
        !self.caps.is_amd || self.fsw() & 0x80 != 0
    }

    /// The low halves of the first `count` vector registers, of which there are 16.
    pub(super) fn write_xmm(&mut self, operand: &Operand, count: usize) {
        let image = halves(&self.state.ymm, 0);
        operand.write(self, at::XMM, &image[..16 * count]);
    }

    pub(super) fn read_xmm(&mut self, operand: &Operand, count: usize) {
        let mut image = [0; VECTORS];
        operand.read(self, at::XMM, &mut image[..16 * count]);
        set_halves(&mut self.state.ymm[..count], 0, &image);
    }

    pub(super) fn write_mxcsr(&mut self, operand: &Operand) {
        let v = self.state.mxcsr.to_le_bytes();
        operand.write(self, at::MXCSR, &v);
        operand.write(self, at::MXCSR_MASK, &MXCSR_MASK.to_le_bytes());
    }

    /// MXCSR of a region, or #GP(0) for a reserved bit.
    pub(super) fn read_mxcsr(&mut self, operand: &Operand) -> Result<u32, Fault> {
        let mut v = [0; 4];
        operand.read(self, at::MXCSR, &mut v);
        let v = u32::from_le_bytes(v);
        if v & !MXCSR_MASK != 0 { Err(Fault::gp(0)) } else { Ok(v) }
    }

    /// FXSAVE.
    pub(crate) fn fx_save(&mut self, seg: u64, off: u64, osz: u64) -> Result<(), Fault> {
        self.park_fpu();
        let area = Operand::aligned(self, seg, off, FXSAVE_BYTES, FXSAVE_ALIGN, Access::Write)?;
        let (head, registers) = (self.x87_head(osz == 64), self.x87_registers());
        area.write(self, 0, &head);
        self.write_mxcsr(&area);
        area.write(self, at::ST, &registers);
        self.write_xmm(&area, self.vector_registers());
        Ok(())
    }

    /// FXRSTOR.
    pub(crate) fn fx_restore(&mut self, seg: u64, off: u64, osz: u64) -> Result<(), Fault> {
        self.park_fpu();
        let area = Operand::aligned(self, seg, off, FXSAVE_BYTES, FXSAVE_ALIGN, Access::Read)?;
        let mxcsr = self.read_mxcsr(&area)?;
        let mut region = [0; 160];
        area.read(self, 0, &mut region);
        self.set_x87(&region, osz == 64);
        self.state.mxcsr = mxcsr;
        self.read_xmm(&area, self.vector_registers());
        Ok(())
    }
}
