//! What a monitor would show: the screen as pixels, in every mode.
//!
//! Source: IBM VGA Technical Reference, "Attribute Controller", "CRT Controller", "Video Digital-to-Analog Converter"; the
//! Bochs VBE_DISPI description for the linear modes. Nothing here trusts a register: sizes are bounded, and video memory
//! is read through the window, beyond whose end there are zeros.

use mem::Size;

use super::Vga;

/// Most pixels of a line and most lines: beyond every mode of the chip.
const MAX_WIDTH: usize = 4096;
const MAX_HEIGHT: usize = 2048;

const ATTR_MODE: usize = 0x10;
const ATTR_PLANE_ENABLE: usize = 0x12;
const ATTR_PANNING: usize = 0x13;
const ATTR_COLOR_SELECT: usize = 0x14;
const ATTR_MODE_LINE_GRAPHICS: u8 = 0x04;
const ATTR_MODE_BLINK: u8 = 0x08;
const ATTR_MODE_P54: u8 = 0x80;

const SEQ_CLOCKING_SCREEN_OFF: u8 = 0x20;
const GFX_MODE_256: u8 = 0x40;
const GFX_MODE_SHIFT: u8 = 0x20;

/// A picture: rows of red, green, blue.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Picture {
    /// Pixels of a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Three bytes per pixel.
    pub rgb: Vec<u8>,
}

impl Picture {
    fn black(width: usize, height: usize) -> Self {
        let (width, height) = (width.clamp(1, MAX_WIDTH), height.clamp(1, MAX_HEIGHT));
        Self { width, height, rgb: vec![0; width * height * 3] }
    }

    fn set(&mut self, x: usize, y: usize, color: [u8; 3]) {
        if x < self.width
            && let Some(place) = self.rgb.get_mut((y * self.width + x) * 3..)
            && let Some(place) = place.get_mut(..3)
        {
            place.copy_from_slice(&color);
        }
    }

    /// The colour of a pixel; black outside.
    pub fn at(&self, x: usize, y: usize) -> [u8; 3] {
        let start = (y * self.width + x) * 3;
        self.rgb.get(start..start + 3).map_or([0; 3], |rgb| [rgb[0], rgb[1], rgb[2]])
    }
}

impl Vga {
    /// The picture now. Before a mode is set it is black.
    pub fn picture(&self) -> Picture {
        if self.seq[1] & SEQ_CLOCKING_SCREEN_OFF != 0 {
            return Picture::black(640, 400);
        }
        if let Some((width, height, bpp)) = self.vbe_mode() {
            return self.vbe_picture(width.into(), height.into(), bpp);
        }
        if self.is_graphics() { self.graphics_picture() } else { self.text_picture() }
    }

    /// A DAC entry as eight-bit colour.
    fn dac_color(&self, index: u8) -> [u8; 3] {
        let start = usize::from(index & self.dac_mask) * 3;
        [0, 1, 2].map(|i| {
            let value = self.dac[start + i];
            if self.is_dac_8_bit() { value } else { value << 2 | value >> 4 & 3 }
        })
    }

    /// The colour of a pixel of four planes, those of them that are enabled.
    fn planar_color(&self, pixel: u8) -> [u8; 3] {
        self.palette_color(pixel & self.attr[ATTR_PLANE_ENABLE])
    }

    /// The colour of a four-bit value: by the palette registers, then the DAC. Text is made of such values, not of planes: QEMU's and
    /// Bochs's card show it whatever planes are enabled, and GRUB as firmware enables none.
    fn palette_color(&self, value: u8) -> [u8; 3] {
        let entry = self.attr[usize::from(value & 15)];
        let select = self.attr[ATTR_COLOR_SELECT];
        let index = match self.attr[ATTR_MODE] & ATTR_MODE_P54 {
            0 => entry & 0x3f | select << 4 & 0xc0,
            _ => entry & 0x0f | select << 4,
        };
        self.dac_color(index)
    }

    fn byte_at(&self, at: u64) -> u8 {
        self.vram.read(at, Size::B1) as u8
    }

    /// Scan lines shown, of the CRTC.
    fn scan_lines(&self) -> usize {
        let c = &self.crtc;
        let overflow = usize::from(c[7]);
        (usize::from(c[0x12]) | (overflow & 0x02) << 7 | (overflow & 0x40) << 3) + 1
    }

    /// Address of the picture's first character or byte.
    fn start_address(&self) -> usize {
        usize::from(self.crtc[0x0c]) << 8 | usize::from(self.crtc[0x0d])
    }

    /// The scan line from which the picture starts over at address 0.
    fn line_compare(&self) -> usize {
        let c = &self.crtc;
        let (overflow, max_scan) = (usize::from(c[7]), usize::from(c[9]));
        usize::from(c[0x18]) | (overflow & 0x10) << 4 | (max_scan & 0x40) << 3
    }

    fn text_picture(&self) -> Picture {
        let Some(screen) = self.text_screen() else { return Picture::black(640, 400) };
        let cell_height = usize::from(self.crtc[9] & 0x1f) + 1;
        let cell_width = if self.seq[1] & 1 != 0 { 8 } else { 9 };
        let mut picture = Picture::black(screen.cols * cell_width, screen.rows * cell_height);
        let blink = self.attr[ATTR_MODE] & ATTR_MODE_BLINK != 0;
        for (n, cell) in screen.cells.iter().enumerate() {
            let (col, row) = (n % screen.cols.max(1), n / screen.cols.max(1));
            let foreground = self.palette_color(cell.attr & 15);
            let background = cell.attr >> 4 & if blink { 7 } else { 15 };
            let background = self.palette_color(background);
            for line in 0..cell_height {
                let bits = self.glyph_line(cell.ch, cell.attr, line);
                for x in 0..cell_width {
                    let lit = match x {
                        0..8 => bits << x & 0x80 != 0,
                        _ => self.continues_ninth(cell.ch) && bits & 1 != 0,
                    };
                    let color = if lit { foreground } else { background };
                    picture.set(col * cell_width + x, row * cell_height + line, color);
                }
            }
        }
        if let Some((col, row)) = screen.cursor {
            let (first, last) = (self.crtc[0x0a] & 0x1f, self.crtc[0x0b] & 0x1f);
            let attr = screen.cells.get(row * screen.cols + col).map_or(7, |cell| cell.attr);
            let color = self.palette_color(attr & 15);
            for line in usize::from(first)..=usize::from(last).min(cell_height - 1) {
                for x in 0..cell_width {
                    picture.set(col * cell_width + x, row * cell_height + line, color);
                }
            }
        }
        picture
    }

    /// Do line-drawing characters go on into the ninth column?
    fn continues_ninth(&self, ch: u8) -> bool {
        self.attr[ATTR_MODE] & ATTR_MODE_LINE_GRAPHICS != 0 && (0xc0..=0xdf).contains(&ch)
    }

    /// Eight pixels of a character: its font is in plane 2; attribute bit 3 picks one of two fonts.
    fn glyph_line(&self, ch: u8, attr: u8, line: usize) -> u8 {
        let map = self.seq[3];
        let a = map >> 2 & 3 | map >> 3 & 4;
        let b = map & 3 | map >> 2 & 4;
        let font = if attr & 8 != 0 { a } else { b };
        // Fonts lie at 0, 16, 32, 48, 8, 24, 40, 56 KiB.
        let base = u64::from(font & 3) * 0x4000 + u64::from(font >> 2) * 0x2000;
        let at = base + u64::from(ch) * 32 + line as u64;
        self.byte_at(at * 4 + 2)
    }

    fn graphics_picture(&self) -> Picture {
        let columns = usize::from(self.crtc[1]) + 1;
        let is_256 = self.gfx[5] & GFX_MODE_256 != 0;
        // 256-colour modes take two clocks per pixel.
        let width = if is_256 { columns * 4 } else { columns * 8 };
        let doubled = if self.crtc[9] & 0x80 != 0 { 2 } else { 1 };
        let repeat = (usize::from(self.crtc[9] & 0x1f) + 1) * doubled;
        let lines = self.scan_lines();
        // CGA's modes use the row counter as an address bit: the lines of a row differ.
        let interleaved = self.crtc[0x17] & 1 == 0;
        let repeat_rows = if interleaved { doubled } else { repeat };
        let mut picture = Picture::black(width, lines / repeat_rows.max(1));
        let pitch = usize::from(self.crtc[0x13]) * 2;
        // 8 KiB to the CPU, which in odd/even addressing are half as many addresses.
        let bank_cells = if self.is_odd_even() { 0x1000 } else { 0x2000 };
        let compare = self.line_compare();
        let panning = usize::from(self.attr[ATTR_PANNING] & 7);
        for y in 0..picture.height {
            let scan = y * repeat_rows;
            let (row, base) = match scan.checked_sub(compare + 1) {
                Some(below) => (below / repeat_rows, 0),
                None => (y, self.start_address()),
            };
            let (row, bank) = if interleaved { (row / 2, row & 1) } else { (row, 0) };
            let address = base + row * pitch + bank * bank_cells;
            for x in 0..picture.width {
                let color = self.graphics_pixel(address, x, is_256, panning);
                picture.set(x, y, color);
            }
        }
        picture
    }

    fn graphics_pixel(&self, address: usize, x: usize, is_256: bool, panning: usize) -> [u8; 3] {
        let cell = |n: usize| {
            // The counter has 16 bits.
            let address = (address + n) as u64 & 0xffff;
            (self.vram.read(address << 2, Size::B4) as u32).to_le_bytes()
        };
        if is_256 {
            let x = x + panning / 2;
            return self.dac_color(cell(x / 4)[x % 4]);
        }
        let x = x + panning;
        if self.gfx[5] & GFX_MODE_SHIFT != 0 {
            // Two bits per pixel: planes 0 and 1 follow each other, then 2 and 3 add their bits.
            let [a, b, c, d] = cell(x / 8);
            let (low, high) = if x & 4 == 0 { (a, c) } else { (b, d) };
            let shift = 6 - 2 * (x & 3);
            return self.planar_color(low >> shift & 3 | (high >> shift & 3) << 2);
        }
        let planes = cell(x / 8);
        let bit = 7 - (x & 7);
        let pixel = (0..4).map(|p| (planes[p] >> bit & 1) << p).fold(0, |all, bit| all | bit);
        self.planar_color(pixel)
    }

    fn vbe_picture(&self, width: usize, height: usize, bpp: u16) -> Picture {
        let mut picture = Picture::black(width, height);
        let (x0, y0, pitch) = self.vbe_view();
        for y in 0..picture.height {
            let line = (y0 + y as u64) * pitch;
            for x in 0..picture.width {
                let color = self.vbe_pixel(line, x0 + x as u64, bpp);
                picture.set(x, y, color);
            }
        }
        picture
    }

    fn vbe_pixel(&self, line: u64, x: u64, bpp: u16) -> [u8; 3] {
        let wide = |value: u64, bits: u32| {
            let value = value as u32 & ((1 << bits) - 1);
            (value << (8 - bits) | value >> (2 * bits - 8)) as u8
        };
        match bpp {
            4 => {
                // Four planes: a byte of each holds eight pixels.
                let planes = self.vram.read((line + x / 8) << 2, Size::B4) as u32;
                let planes = planes.to_le_bytes();
                let bit = 7 - (x & 7);
                let pixel = (0..4).map(|p| (planes[p] >> bit & 1) << p).fold(0, |a, b| a | b);
                self.planar_color(pixel)
            }
            8 => self.dac_color(self.byte_at(line + x)),
            15 => {
                let v = self.vram.read(line + 2 * x, Size::B2);
                [wide(v >> 10, 5), wide(v >> 5, 5), wide(v, 5)]
            }
            16 => {
                let v = self.vram.read(line + 2 * x, Size::B2);
                [wide(v >> 11, 5), wide(v >> 5, 6), wide(v, 5)]
            }
            24 => [2, 1, 0].map(|i| self.byte_at(line + 3 * x + i)),
            _ => [2, 1, 0].map(|i| self.byte_at(line + 4 * x + i)),
        }
    }
}
