//! The VGA registers behind ports 3B0h–3DFh.

use mem::{PortDevice, Size};

use super::Vga;

/// Misc output: CRTC at 3D4h (colour) rather than 3B4h.
const MISC_COLOUR: u8 = 0x01;
/// Attribute index: the palette belongs to the display, not to the CPU.
const ATTR_INDEX: u8 = 0x3f;
const CRTC_PROTECT: u8 = 0x80;

/// One frame of the 70 Hz text modes: 449 lines of 31.778 µs, 400 of them shown.
const LINE_NS: u64 = 31_778;
const LINES: u64 = 449;
const LINES_SHOWN: u64 = 400;
const RETRACE_LINES: std::ops::Range<u64> = 412..414;
/// The shown part of a line.
const LINE_SHOWN_NS: u64 = 25_422;

/// Bits of each sequencer register that exist.
const SEQ_MASK: [u8; 8] = [0x03, 0x3d, 0x0f, 0x3f, 0x0e, 0, 0, 0xff];
/// Bits of each graphics controller register that exist.
const GFX_MASK: [u8; 16] =
    [0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff, 0, 0, 0, 0, 0, 0, 0];

impl Vga {
    fn is_colour(&self) -> bool {
        self.misc & MISC_COLOUR != 0
    }

    /// Does a port of the 3Bxh or 3Dxh group answer in the present emulation?
    fn group_answers(&self, offset: u16) -> bool {
        match offset {
            0x00..=0x0f => !self.is_colour(),
            0x20..=0x2f => self.is_colour(),
            _ => true,
        }
    }

    fn read_port(&mut self, offset: u16) -> u8 {
        if !self.group_answers(offset) {
            return 0xff;
        }
        match offset {
            0x10 => self.attr_index,
            0x11 => self.attr[usize::from(self.attr_index & 0x1f)],
            // Switch sense: the monitor is colour.
            0x12 => 0x10,
            0x14 => self.seq_index,
            0x15 => self.seq[usize::from(self.seq_index & 7)],
            0x16 => self.dac_mask,
            0x17 => {
                if self.dac_is_reading {
                    3
                } else {
                    0
                }
            }
            0x18 => (self.dac_write / 3) as u8,
            0x19 => self.read_dac(),
            0x1a => self.feature,
            0x1c => self.misc,
            0x1e => self.gfx_index,
            0x1f => self.gfx[usize::from(self.gfx_index & 15)],
            0x04 | 0x24 => self.crtc_index,
            0x05 | 0x25 => self.crtc[usize::from(self.crtc_index & 31)],
            0x0a | 0x2a => {
                self.attr_data_next = false;
                self.input_status_1()
            }
            _ => 0xff,
        }
    }

    fn write_port(&mut self, offset: u16, value: u8) {
        if !self.group_answers(offset) {
            return;
        }
        match offset {
            0x10 => self.write_attr(value),
            0x12 => self.misc = value & !0x10,
            0x14 => self.seq_index = value & 7,
            0x15 => {
                let i = usize::from(self.seq_index & 7);
                self.seq[i] = value & SEQ_MASK[i];
            }
            0x16 => self.dac_mask = value,
            0x17 => {
                self.dac_read = u16::from(value) * 3;
                self.dac_is_reading = true;
            }
            0x18 => {
                self.dac_write = u16::from(value) * 3;
                self.dac_is_reading = false;
            }
            0x19 => self.write_dac(value),
            0x1e => self.gfx_index = value & 15,
            0x1f => {
                let i = usize::from(self.gfx_index & 15);
                self.gfx[i] = value & GFX_MASK[i];
            }
            0x04 | 0x24 => self.crtc_index = value & 31,
            0x05 | 0x25 => self.write_crtc(value),
            0x0a | 0x2a => self.feature = value & 0x10,
            _ => {}
        }
    }

    fn write_attr(&mut self, value: u8) {
        let is_data = self.attr_data_next;
        self.attr_data_next = !is_data;
        if !is_data {
            self.attr_index = value & ATTR_INDEX;
            return;
        }
        let i = usize::from(self.attr_index & 0x1f);
        self.attr[i] = match i {
            0..=15 | 0x12 => value & 0x3f,
            0x10 => value & 0xef,
            0x13 | 0x14 => value & 0x0f,
            _ => value,
        };
    }

    fn write_crtc(&mut self, value: u8) {
        let i = usize::from(self.crtc_index & 31);
        if i <= 7 && self.crtc[0x11] & CRTC_PROTECT != 0 {
            // Only the line compare bit of the overflow register is not protected.
            if i == 7 {
                self.crtc[7] = self.crtc[7] & !0x10 | value & 0x10;
            }
            return;
        }
        self.crtc[i] = value;
    }

    /// DAC bytes are six bits wide unless the VBE extension widened them.
    fn dac_width_mask(&self) -> u8 {
        if self.is_dac_8_bit() { 0xff } else { 0x3f }
    }

    fn read_dac(&mut self) -> u8 {
        let value = self.dac[usize::from(self.dac_read) % 768];
        self.dac_read = (self.dac_read + 1) % 768;
        value
    }

    fn write_dac(&mut self, value: u8) {
        self.dac[usize::from(self.dac_write) % 768] = value & self.dac_width_mask();
        self.dac_write = (self.dac_write + 1) % 768;
    }

    /// Display enable and vertical retrace, from where the beam is at this moment.
    fn input_status_1(&self) -> u8 {
        let now = self.timer.now();
        let line = now / LINE_NS % LINES;
        let blank = line >= LINES_SHOWN || now % LINE_NS >= LINE_SHOWN_NS;
        let retrace = RETRACE_LINES.contains(&line);
        u8::from(blank) | u8::from(retrace) << 3
    }
}

/// Port offsets count from 3B0h.
impl PortDevice for Vga {
    fn port_read(&mut self, offset: u16, _size: Size) -> u64 {
        u64::from(self.read_port(offset))
    }

    fn port_write(&mut self, offset: u16, _size: Size, value: u64) {
        self.write_port(offset, value as u8);
    }
}
