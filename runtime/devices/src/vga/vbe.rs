//! The Bochs VBE extension: an index and a data register that set modes beyond VGA's.

use mem::Size;

use super::Vga;
use crate::state::{StateError, ensure};

const ID: usize = 0;
const XRES: usize = 1;
const YRES: usize = 2;
const BPP: usize = 3;
const ENABLE: usize = 4;
const BANK: usize = 5;
const VIRT_WIDTH: usize = 6;
const VIRT_HEIGHT: usize = 7;
const X_OFFSET: usize = 8;
const Y_OFFSET: usize = 9;
const VRAM_64K: usize = 10;

/// The newest interface version we speak.
const ID_NEWEST: u16 = 0xb0c5;
const ID_OLDEST: u16 = 0xb0c0;

const ENABLED: u16 = 0x01;
const GET_CAPS: u16 = 0x02;
const DAC_8_BIT: u16 = 0x20;
const NO_CLEAR: u16 = 0x80;

const MAX_X: u16 = 2560;
const MAX_Y: u16 = 1600;
const MAX_BPP: u16 = 32;

impl Vga {
    pub(super) fn reset_vbe(&mut self) {
        self.vbe_index = 0;
        self.vbe = [0; 16];
        self.vbe[ID] = ID_NEWEST;
        self.vbe[BPP] = 8;
    }

    pub(super) fn check_vbe(&mut self) -> Result<(), StateError> {
        let v = &self.vbe;
        ensure(v[XRES] <= MAX_X && v[YRES] <= MAX_Y && v[BPP] <= MAX_BPP, "video mode")?;
        ensure(u64::from(v[BANK]) << 16 < self.vram.len().max(1), "video bank")
    }

    /// Is a mode of the extension on?
    pub fn is_vbe_enabled(&self) -> bool {
        self.vbe[ENABLE] & ENABLED != 0
    }

    pub(super) fn is_dac_8_bit(&self) -> bool {
        self.vbe[ENABLE] & DAC_8_BIT != 0
    }

    /// Where the window at A0000h begins in video memory.
    pub(super) fn bank_base(&self) -> u64 {
        if self.is_vbe_enabled() { u64::from(self.vbe[BANK]) << 16 } else { 0 }
    }

    /// Width, height and bits per pixel of the extension's mode, if one is on.
    pub fn vbe_mode(&self) -> Option<(u16, u16, u16)> {
        self.is_vbe_enabled().then(|| (self.vbe[XRES], self.vbe[YRES], self.vbe[BPP]))
    }

    /// Reads the index register (offset 0) or the data register (others).
    pub fn vbe_read(&self, offset: u16) -> u16 {
        if offset == 0 {
            return self.vbe_index;
        }
        let caps = self.vbe[ENABLE] & GET_CAPS != 0;
        match usize::from(self.vbe_index) {
            XRES if caps => MAX_X,
            YRES if caps => MAX_Y,
            BPP if caps => MAX_BPP,
            VRAM_64K => (self.vram.len() >> 16) as u16,
            i => self.vbe.get(i).copied().unwrap_or(0),
        }
    }

    /// Writes the index register (offset 0) or the data register (others).
    pub fn vbe_write(&mut self, offset: u16, value: u16) {
        if offset == 0 {
            self.vbe_index = value;
            return;
        }
        match usize::from(self.vbe_index) {
            ID if (ID_OLDEST..=ID_NEWEST).contains(&value) => self.vbe[ID] = value,
            XRES if value <= MAX_X => self.vbe[XRES] = value & !7,
            YRES if value <= MAX_Y => self.vbe[YRES] = value,
            BPP if matches!(value, 0 | 4 | 8 | 15 | 16 | 24 | 32) => {
                self.vbe[BPP] = if value == 0 { 8 } else { value };
            }
            BANK if u64::from(value) << 16 < self.vram.len() => self.vbe[BANK] = value,
            ENABLE => self.vbe_enable(value),
            VIRT_WIDTH => self.set_virtual_width(value),
            X_OFFSET => self.vbe[X_OFFSET] = value.min(self.slack(VIRT_WIDTH, XRES)),
            Y_OFFSET => self.vbe[Y_OFFSET] = value.min(self.slack(VIRT_HEIGHT, YRES)),
            _ => {}
        }
    }

    /// How far the screen can move within its virtual size.
    fn slack(&self, virtual_size: usize, shown: usize) -> u16 {
        self.vbe[virtual_size].saturating_sub(self.vbe[shown])
    }

    /// Bytes from one line to the next.
    fn line_bytes(&self) -> u64 {
        let pixels = u64::from(self.vbe[VIRT_WIDTH]);
        match self.vbe[BPP] {
            4 => pixels / 2,
            bpp => pixels * u64::from(bpp).div_ceil(8),
        }
    }

    /// Where the picture begins, in pixels, and how far its lines are apart: in bytes, with 4 bits per pixel in bytes of
    /// each plane.
    pub(super) fn vbe_view(&self) -> (u64, u64, u64) {
        let pitch = match self.vbe[BPP] {
            4 => u64::from(self.vbe[VIRT_WIDTH]) / 8,
            _ => self.line_bytes(),
        };
        (self.vbe[X_OFFSET].into(), self.vbe[Y_OFFSET].into(), pitch)
    }

    fn set_virtual_width(&mut self, value: u16) {
        self.vbe[VIRT_WIDTH] = value.max(self.vbe[XRES]);
        let lines = self.vram.len().checked_div(self.line_bytes()).unwrap_or(0);
        self.vbe[VIRT_HEIGHT] = lines.min(0xffff) as u16;
        self.crtc[0x13] = (self.line_bytes() >> 3) as u8;
    }

    fn vbe_enable(&mut self, value: u16) {
        let turns_on = value & ENABLED != 0 && !self.is_vbe_enabled();
        let [x, y] = [XRES, YRES].map(|i| u64::from(self.vbe[i]));
        let bytes = x * y * u64::from(self.vbe[BPP]).div_ceil(8);
        if turns_on && (bytes == 0 || bytes > self.vram.len()) {
            log::warn!("guest sets an impossible video mode x={x} y={y} bpp={}", self.vbe[BPP]);
            return;
        }
        self.vbe[ENABLE] = value;
        self.vbe[BANK] = 0;
        if turns_on {
            (self.vbe[X_OFFSET], self.vbe[Y_OFFSET]) = (0, 0);
            self.set_virtual_width(self.vbe[XRES]);
            self.set_vga_for_vbe();
            if value & NO_CLEAR == 0 {
                self.clear(y * self.line_bytes());
            }
        }
    }

    /// The VGA registers follow, so that the window works as the mode needs.
    fn set_vga_for_vbe(&mut self) {
        // Graphics, window of 64 KiB at A0000h.
        self.gfx[6] = self.gfx[6] & !0x0c | 0x05;
        self.crtc[0x0c] = 0;
        self.crtc[0x0d] = 0;
        self.crtc[0x17] |= 3;
        self.crtc[1] = (self.vbe[XRES] / 8).wrapping_sub(1) as u8;
        if self.vbe[BPP] == 4 {
            self.gfx[5] &= !0x60;
            self.seq[4] &= !8;
        } else {
            self.gfx[5] = self.gfx[5] & !0x60 | 0x40;
            self.seq[4] |= 8;
            self.seq[2] = 0x0f;
        }
    }

    fn clear(&self, bytes: u64) {
        let zeros = [0; 4096];
        let end = bytes.min(self.vram.len());
        let mut at = 0;
        while at < end {
            let n = (end - at).min(4096);
            self.vram.write_bytes(at, &zeros[..n as usize]);
            at += n;
        }
    }

    /// Reads the memory-mapped registers: VGA ports at 400h, the extension at 500h.
    pub fn registers_read(&mut self, offset: u64, size: Size) -> u64 {
        use mem::PortDevice;
        match offset {
            0x400..=0x41f => (0..size.bytes())
                .map(|i| {
                    let port = (offset - 0x400 + 0x10 + i) as u16;
                    self.port_read(port, Size::B1) << (8 * i)
                })
                .fold(0, |all, byte| all | byte),
            0x500..=0x515 => {
                let value = u64::from(self.register(offset));
                value >> (8 * (offset & 1)) & size.mask()
            }
            _ => size.mask(),
        }
    }

    /// Writes the memory-mapped registers.
    pub fn registers_write(&mut self, offset: u64, size: Size, value: u64) {
        use mem::PortDevice;
        match offset {
            0x400..=0x41f => {
                for i in 0..size.bytes() {
                    let port = (offset - 0x400 + 0x10 + i) as u16;
                    self.port_write(port, Size::B1, value >> (8 * i) & 0xff);
                }
            }
            0x500..=0x515 if offset & 1 == 0 && size >= Size::B2 => {
                let saved = std::mem::replace(&mut self.vbe_index, ((offset - 0x500) >> 1) as u16);
                self.vbe_write(1, value as u16);
                self.vbe_index = saved;
            }
            _ => {}
        }
    }

    fn register(&mut self, offset: u64) -> u16 {
        let saved = std::mem::replace(&mut self.vbe_index, ((offset - 0x500) >> 1) as u16);
        let value = self.vbe_read(1);
        self.vbe_index = saved;
        value
    }
}
