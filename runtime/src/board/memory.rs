//! The memory map: where RAM, firmware, shadow segments and the VGA card's memory are.
//!
//! Offsets in guest RAM: RAM below 4 GiB (offset = address), RAM above 4 GiB, then the firmware
//! image, the video memory, the video option ROM and the cells of text modes, each on a page boundary.

use std::ops::Range;

use devices::i440fx::{PAM_SEGMENTS, PamAttributes};
use devices::vga::{CELLS_LEN, REGISTERS_LEN};
use mem::{GuestRam, MmioDevice, PAGE_SIZE, Phys, PhysMap, Size};

use super::{Board, BoardConfig, BoardError};

const MIB: u64 = 1 << 20;
const KIB: u64 = 1 << 10;
/// RAM below 4 GiB ends here at most; what is above is for PCI.
const LOW_RAM_MAX: u64 = 0xc000_0000;
/// PCI memory ends here: above are interrupt controllers and firmware.
const PCI_HOLE_END: u64 = 0xfec0_0000;
const FOUR_GIB: u64 = 1 << 32;
const RAM_MAX: u64 = 512 << 30;
const FIRMWARE_MAX: usize = 16 << 20;
const ROM_MAX: usize = 16 << 20;
/// The video window, and the memory behind it that SMRAM opens.
pub(super) const VIDEO: Range<u64> = 0xa_0000..0xc_0000;
const SHADOW: u64 = 0xc_0000;
const LEGACY_FIRMWARE: u64 = 0xe_0000;
const VRAM_BYTES: u64 = 16 * MIB;

/// How much of `ram_bytes` of guest memory lies below 4 GiB.
pub fn low_ram(ram_bytes: u64) -> u64 {
    ram_bytes.min(LOW_RAM_MAX)
}

/// A part of guest RAM's offset space.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) off: u64,
    pub(super) len: u64,
}

/// Where everything is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) low_ram: u64,
    pub(super) high_ram: u64,
    pub(super) firmware: Part,
    pub(super) vram: Part,
    pub(super) vga_rom: Part,
    /// What is lent to the CPU in text modes.
    pub(super) cells: Part,
}

/// Where the VGA card's memory is mapped now.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Bars {
    pub(super) framebuffer: Option<u64>,
    pub(super) registers: Option<u64>,
    pub(super) rom: Option<u64>,
}

impl Layout {
    /// Plans the memory of a board.
    pub(super) fn new(config: &BoardConfig) -> Result<Self, BoardError> {
        let ram = config.ram_bytes;
        if !(MIB..=RAM_MAX).contains(&ram) || !ram.is_multiple_of(MIB) {
            return Err(BoardError::RamSize(ram));
        }
        let firmware = config.firmware.len();
        let whole = firmware.is_multiple_of(64 << 10);
        if firmware == 0 || firmware > FIRMWARE_MAX || !whole {
            return Err(BoardError::FirmwareSize(firmware));
        }
        let rom = config.vga_rom.as_ref().map_or(0, Vec::len);
        if rom > ROM_MAX {
            return Err(BoardError::RomSize(rom));
        }
        let mut end = ram;
        let mut part = |len: u64| {
            let part = Part { off: end, len };
            end += len;
            part
        };
        let rom_len = if rom == 0 { 0 } else { (rom as u64).next_power_of_two().max(PAGE_SIZE) };
        let low_ram = low_ram(ram);
        Ok(Self {
            low_ram,
            high_ram: ram - low_ram,
            firmware: part(firmware as u64),
            vram: part(if config.vga { VRAM_BYTES } else { 0 }),
            vga_rom: part(if config.vga { rom_len } else { 0 }),
            cells: part(if config.vga { CELLS_LEN } else { 0 }),
        })
    }

    /// Bytes of guest RAM in all.
    pub(super) fn total(&self) -> u64 {
        self.cells.off + self.cells.len
    }

    /// Where PCI memory may be.
    pub(super) fn pci_hole(&self) -> Range<u64> {
        self.low_ram.max(MIB)..PCI_HOLE_END
    }

    /// The map of this layout at power-on, but for the legacy segments.
    pub(super) fn map(&self) -> PhysMap {
        let map = PhysMap::new(self.low_ram, self.high_ram);
        map.map_ram(Phys(0), VIDEO.start.min(self.low_ram), 0, true);
        map.map_ram(Phys(MIB), self.low_ram - MIB, MIB, true);
        let firmware = self.firmware;
        map.map_ram(Phys(FOUR_GIB - firmware.len), firmware.len, firmware.off, false);
        map
    }

    /// Copies the images into guest RAM.
    pub(super) fn fill(&self, ram: &GuestRam, config: &BoardConfig) {
        ram.write_bytes(self.firmware.off, &config.firmware);
        if let Some(rom) = config.vga_rom.as_ref().filter(|_| self.vga_rom.len > 0) {
            ram.write_bytes(self.vga_rom.off, rom);
        }
    }

    /// The offset of the firmware byte that is seen at a legacy address below 1 MiB, if any.
    fn legacy_firmware(&self, at: u64) -> Option<u64> {
        let shown = self.firmware.len.min(MIB - LEGACY_FIRMWARE);
        let below_end = MIB.checked_sub(at).filter(|&n| n > 0 && n <= shown)?;
        Some(self.firmware.off + self.firmware.len - below_end)
    }
}

/// First address and length of shadow segment `i`.
fn segment(i: usize) -> (u64, u64) {
    match i {
        12.. => (0xf_0000, 64 * KIB),
        _ => (SHADOW + i as u64 * 16 * KIB, 16 * KIB),
    }
}

impl Board {
    /// Maps what lies between 640 KiB and 1 MiB as the host bridge's registers say. Nothing moves
    /// if they say what they said before.
    pub(super) fn map_legacy(&mut self) {
        self.unmap_video();
        let bridge = &self.chips.host_bridge;
        let window = VIDEO.end - VIDEO.start;
        match bridge.is_smram_open() {
            true => self.map.map_ram(Phys(VIDEO.start), window, VIDEO.start, true),
            false => self.map.unmap(Phys(VIDEO.start), window),
        }
        for i in 0..PAM_SEGMENTS {
            let (at, len) = segment(i);
            match bridge.pam(i) {
                PamAttributes { read_ram: true, write_ram } => {
                    self.map.map_ram(Phys(at), len, at, write_ram);
                }
                // Reads of ROM with writes to RAM behind it need the bus for both.
                PamAttributes { write_ram: true, .. } => self.map.unmap(Phys(at), len),
                PamAttributes { .. } => match self.layout.legacy_firmware(at) {
                    Some(off) => self.map.map_ram(Phys(at), len, off, false),
                    None => self.map.unmap(Phys(at), len),
                },
            }
        }
    }

    /// Maps the VGA card's memory at new places.
    pub(super) fn map_bars(&mut self, new: Bars) {
        let old = std::mem::replace(&mut self.bars, new);
        if old == new {
            return;
        }
        self.bars = old;
        self.unmap_video();
        self.bars = new;
        let (vram, rom) = (self.layout.vram, self.layout.vga_rom);
        for (base, part) in [(old.framebuffer, vram), (old.rom, rom)] {
            if let Some(at) = base {
                self.map.unmap(Phys(at), part.len);
            }
        }
        if let Some(at) = old.registers {
            self.map.unmap(Phys(at), REGISTERS_LEN);
        }
        for (base, part, writable) in [(new.framebuffer, vram, true), (new.rom, rom, false)] {
            if let Some(at) = base {
                self.map.map_ram(Phys(at), part.len, part.off, writable);
            }
        }
        if let Some(at) = new.registers {
            self.map.unmap_delicate(Phys(at), REGISTERS_LEN);
        }
    }

    /// Gives a page that a register page covered back to what is behind it.
    pub(super) fn uncover(&mut self, at: u64) {
        if at < VIDEO.start || (MIB..self.layout.low_ram).contains(&at) {
            self.map.map_ram(Phys(at), PAGE_SIZE, at, true);
        } else if at < MIB {
            self.map_legacy();
        } else {
            let bars = std::mem::take(&mut self.bars);
            self.map_bars(bars);
        }
    }

    pub(super) fn read_mmio(&mut self, at: Phys, size: Size) -> u64 {
        if VIDEO.contains(&at.0)
            && let Some(vga) = &mut self.chips.vga
        {
            let value = vga.mmio_read(at.0 - VIDEO.start, size) & size.mask();
            self.follow_video();
            return value;
        }
        if let Some((offset, vga)) = self.vga_registers(at) {
            return vga.registers_read(offset, size) & size.mask();
        }
        if let Some(value) = self.read_system(at, size) {
            return value;
        }
        if let Some(value) = self.read_virtio(at, size) {
            return value;
        }
        if let Some(off) = self.hidden_framebuffer(at) {
            return self.ram.read(off, size).unwrap_or(size.mask());
        }
        // Memory reaches here when an access straddles a page, or by shadow segments.
        let byte = |i: u64| {
            let at = at.add(i);
            let off = self.map.ram_offset(at).or_else(|| self.layout.legacy_firmware(at.0));
            let byte = off.and_then(|off| self.ram.read(off, Size::B1));
            byte.unwrap_or(0xff) << (8 * i)
        };
        (0..size.bytes()).map(byte).fold(0, |all, byte| all | byte)
    }

    pub(super) fn write_mmio(&mut self, at: Phys, size: Size, value: u64) {
        if VIDEO.contains(&at.0)
            && let Some(vga) = &mut self.chips.vga
        {
            vga.mmio_write(at.0 - VIDEO.start, size, value);
            return self.follow_video();
        }
        if let Some((offset, vga)) = self.vga_registers(at) {
            vga.registers_write(offset, size, value);
            return self.check_video();
        }
        if self.write_system(at, size, value) || self.write_virtio(at, size, value) {
            return;
        }
        if (SHADOW..MIB).contains(&at.0) {
            self.write_shadow(at, size, value);
        } else if let Some(off) = self.hidden_framebuffer(at) {
            self.ram.write(off, size, value);
        }
    }

    /// A write to a shadow segment reaches the RAM behind it if the segment allows writes.
    fn write_shadow(&mut self, at: Phys, size: Size, value: u64) {
        let i = ((at.0 - SHADOW) / (16 * KIB)) as usize;
        if self.chips.host_bridge.pam(i).write_ram {
            self.ram.write(at.0, size, value);
        }
    }

    /// The VGA card, if `at` is one of its memory-mapped registers.
    fn vga_registers(&mut self, at: Phys) -> Option<(u64, &mut devices::vga::Vga)> {
        let offset = at.0.checked_sub(self.bars.registers?)?;
        let vga = self.chips.vga.as_mut()?;
        (offset < REGISTERS_LEN).then_some((offset, vga))
    }
}
