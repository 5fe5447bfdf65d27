//! The data path between the CPU and video memory through the window at A0000h–BFFFFh.
//!
//! Video memory is kept interleaved: byte `4 * n + p` is byte `n` of plane `p`. Chain-4 addresses
//! are then linear, and the frame buffer of the VBE modes is the same bytes.

use mem::{MmioDevice, Size};

use super::Vga;

pub(super) const SEQ_MAP_MASK: usize = 2;
pub(super) const SEQ_MODE: usize = 4;
pub(super) const SEQ_MODE_CHAIN4: u8 = 0x08;

const GFX_SET_RESET: usize = 0;
const GFX_ENABLE_SET_RESET: usize = 1;
const GFX_COMPARE: usize = 2;
const GFX_ROTATE: usize = 3;
pub(super) const GFX_READ_MAP: usize = 4;
pub(super) const GFX_MODE: usize = 5;
pub(super) const GFX_MISC: usize = 6;
const GFX_DONT_CARE: usize = 7;
const GFX_BIT_MASK: usize = 8;

const GFX_MODE_ODD_EVEN: u8 = 0x10;
const GFX_MODE_READ_1: u8 = 0x08;

/// One byte per plane: 0xFF where the plane's bit is set.
fn spread(planes: u8) -> u32 {
    u32::from_le_bytes([0, 1, 2, 3].map(|p| if planes >> p & 1 != 0 { 0xff } else { 0 }))
}

impl Vga {
    /// The offset in video memory of an offset in the window at A0000h, if the window that the
    /// memory map register chose covers it.
    fn window(&self, offset: u64) -> Option<u64> {
        match self.gfx[GFX_MISC] >> 2 & 3 {
            0 => (offset < 0x2_0000).then_some(offset),
            1 => (offset < 0x1_0000).then(|| offset + self.bank_base()),
            2 => (0x1_0000..0x1_8000).contains(&offset).then(|| offset - 0x1_0000),
            _ => (0x1_8000..0x2_0000).contains(&offset).then(|| offset - 0x1_8000),
        }
    }

    pub(super) fn byte(&self, at: u64) -> u8 {
        self.vram.read(at, Size::B1) as u8
    }

    fn set_byte(&self, at: u64, value: u8) {
        self.vram.write(at, Size::B1, u64::from(value));
    }

    /// Where a cell of a text screen, character and attribute, is: they are neighbours in planes 0 and 1.
    fn word_at(&self, offset: u64, size: Size) -> Option<u64> {
        let is_cell = size == Size::B2 && offset & 1 == 0;
        let is_chained = self.seq[SEQ_MODE] & SEQ_MODE_CHAIN4 != 0;
        if is_cell && !is_chained { self.window(offset).map(|at| at << 1) } else { None }
    }

    /// Do addresses alternate between even and odd planes? On a VGA the sequencer says so of writes and the graphics controller of reads,
    /// and programs say the same to both. QEMU's card asks the graphics controller alone, which GRUB as firmware needs.
    pub(super) fn is_odd_even(&self) -> bool {
        self.gfx[GFX_MODE] & GFX_MODE_ODD_EVEN != 0
    }

    fn read_cell(&self, offset: u64, size: Size) -> Option<u64> {
        let plane = u64::from(self.gfx[GFX_READ_MAP] & 2);
        let at = self.word_at(offset, size).filter(|_| self.is_odd_even())?;
        Some(self.vram.read(at | plane, Size::B2))
    }

    fn write_cell(&mut self, offset: u64, size: Size, value: u64) -> Option<()> {
        let is_text = self.is_odd_even() && self.seq[SEQ_MAP_MASK] & 15 == 3;
        let at = self.word_at(offset, size).filter(|_| is_text)?;
        self.vram.write(at, Size::B2, value & 0xffff);
        Some(())
    }

    fn read_byte(&mut self, offset: u64) -> u8 {
        let Some(at) = self.window(offset) else { return 0xff };
        if self.seq[SEQ_MODE] & SEQ_MODE_CHAIN4 != 0 {
            return self.byte(at);
        }
        if self.is_odd_even() {
            let plane = u64::from(self.gfx[GFX_READ_MAP] & 2) | at & 1;
            return self.byte((at & !1) << 1 | plane);
        }
        self.latch = self.vram.read(at << 2, Size::B4) as u32;
        if self.gfx[GFX_MODE] & GFX_MODE_READ_1 == 0 {
            return self.latch.to_le_bytes()[usize::from(self.gfx[GFX_READ_MAP] & 3)];
        }
        let differs =
            (self.latch ^ spread(self.gfx[GFX_COMPARE])) & spread(self.gfx[GFX_DONT_CARE]);
        let [a, b, c, d] = differs.to_le_bytes();
        !(a | b | c | d)
    }

    fn write_byte(&mut self, offset: u64, value: u8) {
        let Some(at) = self.window(offset) else { return };
        let map_mask = self.seq[SEQ_MAP_MASK];
        if self.seq[SEQ_MODE] & SEQ_MODE_CHAIN4 != 0 {
            if map_mask >> (at & 3) & 1 != 0 {
                self.set_byte(at, value);
            }
            return;
        }
        if self.is_odd_even() {
            // Even addresses reach planes 0 and 2, odd ones 1 and 3.
            for plane in [at & 1, at & 1 | 2] {
                if map_mask >> plane & 1 != 0 {
                    self.set_byte((at & !1) << 1 | plane, value);
                }
            }
            return;
        }
        let planes = spread(map_mask);
        let old = self.vram.read(at << 2, Size::B4) as u32;
        let new = old & !planes | self.planar_data(value) & planes;
        self.vram.write(at << 2, Size::B4, u64::from(new));
    }

    /// What the graphics controller makes of a CPU byte, for all four planes.
    fn planar_data(&self, value: u8) -> u32 {
        let all = |byte: u8| u32::from(byte) * 0x0101_0101;
        let rotated = value.rotate_right(u32::from(self.gfx[GFX_ROTATE] & 7));
        let set_reset = spread(self.gfx[GFX_SET_RESET]);
        let bit_mask = self.gfx[GFX_BIT_MASK];
        let (data, mask) = match self.gfx[GFX_MODE] & 3 {
            0 => {
                let forced = spread(self.gfx[GFX_ENABLE_SET_RESET]);
                (all(rotated) & !forced | set_reset & forced, all(bit_mask))
            }
            1 => return self.latch,
            2 => (spread(value), all(bit_mask)),
            _ => (set_reset, all(rotated & bit_mask)),
        };
        let data = match self.gfx[GFX_ROTATE] >> 3 & 3 {
            0 => data,
            1 => data & self.latch,
            2 => data | self.latch,
            _ => data ^ self.latch,
        };
        data & mask | self.latch & !mask
    }
}

/// Offsets count from A0000h.
impl MmioDevice for Vga {
    fn mmio_read(&mut self, offset: u64, size: Size) -> u64 {
        self.touches.add();
        if let Some(value) = self.read_cell(offset, size) {
            return value;
        }
        (0..size.bytes())
            .map(|i| u64::from(self.read_byte(offset.wrapping_add(i))) << (8 * i))
            .fold(0, |all, byte| all | byte)
    }

    fn mmio_write(&mut self, offset: u64, size: Size, value: u64) {
        self.touches.add();
        if self.write_cell(offset, size, value).is_some() {
            return;
        }
        for (i, byte) in value.to_le_bytes().into_iter().enumerate().take(size.bytes() as usize) {
            self.write_byte(offset.wrapping_add(i as u64), byte);
        }
    }
}
