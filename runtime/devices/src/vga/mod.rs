//! Standard VGA with the Bochs VBE extension, as PCI function 1234:1111.
//!
//! Sources: IBM VGA Technical Reference ("Video Subsystem") for the registers and the memory data
//! path; the Bochs VBE_DISPI interface description for the extension. The chip draws nothing by
//! itself: a front end asks for [`Vga::text_screen`] when it wants to show something. Video memory
//! is a window of guest RAM, so that the linear frame buffer is plain memory to the CPU.

mod direct;
mod memory;
mod picture;
mod regs;
mod text;
mod vbe;

pub use direct::{CELLS_LEN, CELLS_SPREAD, Direct, LINEAR_LEN};
pub use picture::Picture;
pub use text::{TextCell, TextScreen};

use mem::RamWindow;

use crate::pci::{ConfigSpace, Identity, reg};
use crate::state::StateError;
use crate::{Alarm, state_fields};

/// The BAR of the linear frame buffer.
pub const BAR_FRAMEBUFFER: u8 = reg::BAR0;
/// The BAR of the memory-mapped registers.
pub const BAR_REGISTERS: u8 = reg::BAR0 + 8;
/// Bytes of the register BAR.
pub const REGISTERS_LEN: u64 = 4096;

/// The chip.
pub struct Vga {
    /// Its configuration space.
    pub config: ConfigSpace,
    vram: RamWindow,
    /// A copy of what text modes show of it, to be lent to the CPU.
    cells: RamWindow,
    touches: direct::Touches,
    timer: Alarm,
    misc: u8,
    feature: u8,
    seq_index: u8,
    seq: [u8; 8],
    crtc_index: u8,
    crtc: [u8; 32],
    gfx_index: u8,
    gfx: [u8; 16],
    /// Attribute index with the palette address source bit; the flip-flop picks index or data.
    attr_index: u8,
    attr_data_next: bool,
    attr: [u8; 32],
    dac: [u8; 768],
    dac_mask: u8,
    dac_read: u16,
    dac_write: u16,
    /// Last DAC address written was the read address.
    dac_is_reading: bool,
    /// The four bytes read last, one per plane.
    latch: u32,
    vbe_index: u16,
    vbe: [u16; 16],
}

state_fields!(
    Vga,
    1,
    [
        config,
        misc,
        feature,
        seq_index,
        seq,
        crtc_index,
        crtc,
        gfx_index,
        gfx,
        attr_index,
        attr_data_next,
        attr,
        dac,
        dac_mask,
        dac_read,
        dac_write,
        dac_is_reading,
        latch,
        vbe_index,
        vbe,
    ]
);

impl Vga {
    /// A chip with `vram` (a power of two of at least 1 MiB), a clock for the retrace bits, and
    /// room for an expansion ROM of `rom_len` bytes (0 for none). `cells` are [`CELLS_LEN`] bytes for
    /// [`Direct::Cells`], or empty.
    pub fn new([vram, cells]: [RamWindow; 2], timer: Alarm, rom_len: u32) -> Self {
        let identity = Identity { vendor: 0x1234, device: 0x1111, class: 0x030000, revision: 2 };
        let mut config = ConfigSpace::new(identity);
        config.add_bar(BAR_FRAMEBUFFER, vram.len().next_power_of_two() as u32, 8);
        config.add_bar(BAR_REGISTERS, REGISTERS_LEN as u32, 0);
        if rom_len > 0 {
            config.add_rom(rom_len.next_power_of_two());
        }
        let mut vga = Self {
            config,
            vram,
            cells,
            touches: direct::Touches::default(),
            timer,
            misc: 0,
            feature: 0,
            seq_index: 0,
            seq: [0; 8],
            crtc_index: 0,
            crtc: [0; 32],
            gfx_index: 0,
            gfx: [0; 16],
            attr_index: 0,
            attr_data_next: false,
            attr: [0; 32],
            dac: [0; 768],
            dac_mask: 0xff,
            dac_read: 0,
            dac_write: 0,
            dac_is_reading: false,
            latch: 0,
            vbe_index: 0,
            vbe: [0; 16],
        };
        vga.reset();
        vga
    }

    /// Back to power-on. Video memory keeps its bytes.
    pub fn reset(&mut self) {
        self.config.reset();
        (self.misc, self.feature, self.latch) = (0, 0, 0);
        (self.seq_index, self.crtc_index, self.gfx_index, self.attr_index) = (0, 0, 0, 0);
        self.attr_data_next = false;
        (self.seq, self.crtc, self.gfx) = ([0; 8], [0; 32], [0; 16]);
        (self.attr, self.dac, self.dac_mask) = ([0; 32], [0; 768], 0xff);
        (self.dac_read, self.dac_write, self.dac_is_reading) = (0, 0, false);
        self.reset_vbe();
    }

    fn check_state(&mut self) -> Result<(), StateError> {
        self.dac_read %= 768;
        self.dac_write %= 768;
        self.check_vbe()
    }

    /// The video memory.
    pub fn vram(&self) -> &RamWindow {
        self.put_back();
        &self.vram
    }

    /// Where the linear frame buffer is mapped, if it is.
    pub fn framebuffer_base(&self) -> Option<u64> {
        self.config.mem_base(BAR_FRAMEBUFFER)
    }

    /// Where the memory-mapped registers are, if they are.
    pub fn registers_base(&self) -> Option<u64> {
        self.config.mem_base(BAR_REGISTERS)
    }

    /// Is a graphics mode set?
    pub fn is_graphics(&self) -> bool {
        self.is_vbe_enabled() || self.gfx[6] & 1 != 0
    }
}

#[cfg(test)]
mod tests;
