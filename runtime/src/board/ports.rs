//! The I/O port map: which chip answers at which port, and how wide it can be accessed.
//!
//! One byte per port leads to a mapping; a chip narrower than an access gets its bytes one by one,
//! as the ISA bus would do it.

use devices::ide::Channel;
use devices::pc_testdev;
use devices::pci_testdev::Window;
use devices::virtio::Bar;
use mem::{Port, PortDevice, Size};

use super::{Board, BoardError};

/// A chip, or a part of one with ports of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Chip {
    Nobody,
    Pic,
    Pit,
    Port61,
    I8042,
    Rtc,
    Dma(usize),
    DmaPages,
    Port92,
    FpuError,
    Serial(usize),
    Ide(usize),
    Fdc,
    BusMaster,
    PciAddress,
    PciData,
    AcpiPm,
    Apm,
    Gpe,
    Vga,
    Vbe,
    Virtio(usize),
    FwCfg,
    Debugcon(usize),
    DebugExit,
    PcTestdev,
    PciTestdev,
}

/// A run of ports of one chip.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mapping {
    chip: Chip,
    base: u16,
    len: u16,
    /// The chip's own offset of the first port.
    offset: u16,
    /// The widest access the chip takes in one piece.
    width: Size,
}

impl Mapping {
    const fn new(chip: Chip, base: u16, len: u16, offset: u16, width: Size) -> Self {
        Self { chip, base, len, offset, width }
    }
}

/// The ports every PC has (PIIX3 datasheet, "I/O Address Map").
const FIXED: &[Mapping] = &[
    Mapping::new(Chip::Dma(0), 0x00, 16, 0, Size::B1),
    Mapping::new(Chip::Pic, 0x20, 2, 0, Size::B1),
    Mapping::new(Chip::Pit, 0x40, 4, 0, Size::B1),
    Mapping::new(Chip::I8042, 0x60, 1, 0, Size::B1),
    Mapping::new(Chip::Port61, 0x61, 1, 0, Size::B1),
    Mapping::new(Chip::I8042, 0x64, 1, 1, Size::B1),
    Mapping::new(Chip::Rtc, 0x70, 2, 0, Size::B1),
    Mapping::new(Chip::DmaPages, 0x80, 16, 0, Size::B1),
    Mapping::new(Chip::Port92, 0x92, 1, 0, Size::B1),
    Mapping::new(Chip::Pic, 0xa0, 2, 2, Size::B1),
    Mapping::new(Chip::Apm, 0xb2, 2, 0, Size::B1),
    Mapping::new(Chip::Dma(1), 0xc0, 32, 0, Size::B1),
    Mapping::new(Chip::FpuError, 0xf0, 1, 0, Size::B1),
    Mapping::new(Chip::Ide(1), 0x170, 1, 0, Size::B4),
    Mapping::new(Chip::Ide(1), 0x171, 7, 1, Size::B1),
    Mapping::new(Chip::Ide(0), 0x1f0, 1, 0, Size::B4),
    Mapping::new(Chip::Ide(0), 0x1f1, 7, 1, Size::B1),
    Mapping::new(Chip::Ide(1), 0x376, 1, 8, Size::B1),
    Mapping::new(Chip::Ide(0), 0x3f6, 1, 8, Size::B1),
    Mapping::new(Chip::Pic, 0x4d0, 2, 4, Size::B1),
    Mapping::new(Chip::FwCfg, 0x510, 1, 0, Size::B2),
    Mapping::new(Chip::FwCfg, 0x511, 1, 1, Size::B1),
    Mapping::new(Chip::FwCfg, 0x514, 8, 4, Size::B4),
    Mapping::new(Chip::Gpe, 0xafe0, 4, 0, Size::B1),
    Mapping::new(Chip::PciAddress, 0xcf8, 4, 0, Size::B4),
    Mapping::new(Chip::PciData, 0xcfc, 4, 0, Size::B4),
];

/// The VGA card's ports, if there is one.
const VGA: &[Mapping] = &[
    Mapping::new(Chip::Vbe, 0x1ce, 3, 0, Size::B2),
    Mapping::new(Chip::Vga, 0x3b4, 2, 0x04, Size::B1),
    Mapping::new(Chip::Vga, 0x3ba, 1, 0x0a, Size::B1),
    Mapping::new(Chip::Vga, 0x3c0, 16, 0x10, Size::B1),
    Mapping::new(Chip::Vga, 0x3d4, 2, 0x24, Size::B1),
    Mapping::new(Chip::Vga, 0x3da, 1, 0x2a, Size::B1),
];

/// COM1–COM4.
const SERIAL_BASES: [u16; 4] = [0x3f8, 0x2f8, 0x3e8, 0x2e8];

/// The map. Entry 0 of `mappings` is nobody.
#[derive(Debug)]
pub(super) struct PortMap {
    table: Vec<u8>,
    mappings: Vec<Mapping>,
    /// Ports about whose absence the log has spoken.
    reported: Vec<u64>,
}

impl PortMap {
    /// A map with the fixed ports.
    pub(super) fn new(has_vga: bool) -> Self {
        let nobody = Mapping::new(Chip::Nobody, 0, 0, 0, Size::B1);
        let mut map =
            Self { table: vec![0; 0x10000], mappings: vec![nobody], reported: vec![0; 1024] };
        FIXED.iter().for_each(|mapping| map.add(*mapping));
        if has_vga {
            VGA.iter().for_each(|mapping| map.add(*mapping));
        }
        map
    }

    /// Adds a serial port.
    pub(super) fn add_serial(&mut self, i: usize) {
        self.add(Mapping::new(Chip::Serial(i), SERIAL_BASES[i & 3], 8, 0, Size::B1));
    }

    /// Adds the floppy controller, around the IDE port in its midst.
    pub(super) fn add_floppy(&mut self) {
        self.add(Mapping::new(Chip::Fdc, 0x3f0, 6, 0, Size::B1));
        self.add(Mapping::new(Chip::Fdc, 0x3f7, 1, 7, Size::B1));
    }

    /// Adds ports of a chip at the user's choice; they must be free.
    pub(super) fn claim(
        &mut self,
        chip: Chip,
        base: u16,
        len: u16,
        width: Size,
        what: &'static str,
    ) -> Result<(), BoardError> {
        self.claim_mapping(Mapping::new(chip, base, len, 0, width), what)
    }

    /// Adds the test device's ports; they must be free.
    pub(super) fn claim_testdev(&mut self) -> Result<(), BoardError> {
        for (base, len, offset, width) in [
            (0xe0, 4, pc_testdev::REGISTER, Size::B4),
            (0xe4, 4, pc_testdev::PAGE, Size::B4),
            (0xe8, 4, pc_testdev::BYTES, Size::B1),
            (0x2000, pc_testdev::LINES as u16, pc_testdev::LINE, Size::B1),
        ] {
            let mapping = Mapping::new(Chip::PcTestdev, base, len, offset, width);
            self.claim_mapping(mapping, "pc-testdev")?;
        }
        Ok(())
    }

    fn claim_mapping(&mut self, mapping: Mapping, what: &'static str) -> Result<(), BoardError> {
        let Mapping { base, len, .. } = mapping;
        let taken = (base..base.saturating_add(len)).find(|&p| self.table[usize::from(p)] != 0);
        if let Some(port) = taken {
            return Err(BoardError::PortTaken(port, what));
        }
        self.add(mapping);
        Ok(())
    }

    /// Moves a chip's movable block: takes it from where it was and puts it at `base`, on ports
    /// that are free.
    pub(super) fn place(&mut self, chip: Chip, base: Option<u16>, len: u16, width: Size) {
        let index = match self.mappings.iter().position(|m| m.chip == chip) {
            Some(index) => index,
            None => {
                self.mappings.push(Mapping::new(chip, 0, 0, 0, width));
                self.mappings.len() - 1
            }
        };
        let old = self.mappings[index];
        if base == (old.len != 0).then_some(old.base) {
            return;
        }
        for port in old.base..old.base.saturating_add(old.len) {
            let entry = &mut self.table[usize::from(port)];
            if usize::from(*entry) == index {
                *entry = 0;
            }
        }
        let len = if base.is_some() { len } else { 0 };
        let base = base.unwrap_or(0);
        self.mappings[index] = Mapping::new(chip, base, len, 0, width);
        self.write_table(index);
    }

    fn add(&mut self, mapping: Mapping) {
        self.mappings.push(mapping);
        self.write_table(self.mappings.len() - 1);
    }

    fn write_table(&mut self, index: usize) {
        let Mapping { base, len, .. } = self.mappings[index];
        for port in base..base.saturating_add(len) {
            let entry = &mut self.table[usize::from(port)];
            if *entry == 0 {
                // Mappings are a few dozen: their number fits a byte.
                *entry = index as u8;
            }
        }
    }

    #[inline]
    fn find(&self, port: Port) -> Mapping {
        self.mappings[usize::from(self.table[usize::from(port.0)])]
    }

    /// Logs an access nobody claims, once per port.
    fn report(&mut self, port: Port, what: &str) {
        let word = &mut self.reported[usize::from(port.0) / 64];
        let bit = 1 << (port.0 % 64);
        if *word & bit == 0 {
            *word |= bit;
            log::debug!("nobody answers a port {what} port={:#06x}", port.0);
        }
    }
}

impl Board {
    pub(super) fn read_port(&mut self, port: Port, size: Size) -> u64 {
        let mapping = self.ports.find(port);
        if size > mapping.width {
            return (0..size.bytes() as u16)
                .map(|i| self.read_port(Port(port.0.wrapping_add(i)), Size::B1) << (8 * i))
                .fold(0, |all, byte| all | byte);
        }
        let offset = port.0.wrapping_sub(mapping.base).wrapping_add(mapping.offset);
        let value = self.read_chip(mapping.chip, offset, size).unwrap_or_else(|| {
            self.ports.report(port, "read");
            u64::MAX
        });
        value & size.mask()
    }

    pub(super) fn write_port(&mut self, port: Port, size: Size, value: u64) {
        let mapping = self.ports.find(port);
        if size > mapping.width {
            for (i, byte) in value.to_le_bytes().into_iter().enumerate().take(size.bytes() as usize)
            {
                self.write_port(Port(port.0.wrapping_add(i as u16)), Size::B1, u64::from(byte));
            }
            return;
        }
        let offset = port.0.wrapping_sub(mapping.base).wrapping_add(mapping.offset);
        if !self.write_chip(mapping.chip, offset, size, value & size.mask()) {
            self.ports.report(port, "write");
        }
    }

    /// The IDE channel whose data register is at a port.
    pub(super) fn ide_data(&mut self, port: Port, size: Size) -> Option<&mut Channel> {
        let mapping = self.ports.find(port);
        match mapping.chip {
            Chip::Ide(i) if mapping.offset == 0 && size <= mapping.width => {
                self.time.refresh(self.alarms.clock());
                self.chips.ide.channels.get_mut(i)
            }
            _ => None,
        }
    }

    /// Reads from a chip; `None` if nobody answers.
    fn read_chip(&mut self, chip: Chip, at: u16, size: Size) -> Option<u64> {
        let c = &mut self.chips;
        Some(match chip {
            Chip::Nobody => return None,
            Chip::Pic => c.pic.port_read(at, size),
            Chip::Pit => c.pit.port_read(at, size),
            Chip::Port61 => {
                let out2 = c.pit.out2();
                u64::from(c.port61.read(out2, self.alarms.clock().now()))
            }
            Chip::I8042 => c.i8042.port_read(at, size),
            Chip::Rtc => c.rtc.port_read(at, size),
            // The 16-bit controller's registers are two ports apart.
            Chip::Dma(i) => c.dma.get_mut(i)?.port_read(at >> i, size),
            Chip::DmaPages => c.dma_pages.port_read(at, size),
            Chip::Port92 => c.port92.port_read(at, size),
            Chip::FpuError => c.fpu_error.port_read(at, size),
            Chip::Serial(i) => c.serial.get_mut(i)?.as_mut()?.port_read(at, size),
            Chip::Ide(i) => c.ide.channels.get_mut(i)?.port_read(at, size),
            Chip::Fdc => c.fdc.as_mut()?.port_read(at, size),
            Chip::BusMaster => c.ide.bus_master_read(at, size),
            Chip::PciAddress if at == 1 && size == Size::B1 => c.isa.port_read(0, size),
            Chip::PciAddress => c.pci_address.read(size).filter(|_| at == 0)?.into(),
            Chip::PciData => self.pci_read(at, size),
            Chip::AcpiPm => {
                self.time.begin_counter_read(self.alarms.clock());
                c.acpi_pm.port_read(at, size)
            }
            Chip::Apm => c.acpi_pm.apm_read(at).into(),
            Chip::Gpe => c.acpi_pm.gpe_read(at).into(),
            Chip::Vga => c.vga.as_mut()?.port_read(at, size),
            Chip::Vbe => c.vga.as_mut()?.vbe_read(at).into(),
            Chip::Virtio(i) => c.virtio.get_mut(i)?.read(Bar::Legacy, at.into(), size),
            Chip::FwCfg => c.fw_cfg.port_read(at, size),
            Chip::Debugcon(i) => c.debugcon.get_mut(i)?.port_read(at, size),
            Chip::DebugExit => c.debug_exit.port_read(at, size),
            Chip::PcTestdev => c.pc_testdev.as_mut()?.port_read(at, size),
            Chip::PciTestdev => c.pci_testdev.as_ref()?.read(Window::Ports, at.into(), size),
        })
    }

    /// Writes to a chip; false if nobody answers.
    fn write_chip(&mut self, chip: Chip, at: u16, size: Size, value: u64) -> bool {
        let c = &mut self.chips;
        match chip {
            Chip::Nobody => return false,
            Chip::Pic => {
                c.pic.port_write(at, size, value);
                self.irq_settled = false;
            }
            Chip::Pit => c.pit.port_write(at, size, value),
            Chip::Port61 => {
                let gate = c.port61.write(value as u8);
                c.pit.set_gate2(gate);
            }
            Chip::I8042 => {
                c.i8042.port_write(at, size, value);
                self.a20_driven();
            }
            Chip::Rtc => c.rtc.port_write(at, size, value),
            Chip::Dma(i) => match c.dma.get_mut(i) {
                Some(dma) => {
                    dma.port_write(at >> i, size, value);
                    c.serve_floppy();
                }
                None => return false,
            },
            Chip::DmaPages => c.dma_pages.port_write(at, size, value),
            Chip::Fdc => match &mut c.fdc {
                Some(fdc) => {
                    fdc.port_write(at, size, value);
                    c.serve_floppy();
                }
                None => return false,
            },
            Chip::Port92 => {
                c.port92.port_write(at, size, value);
                self.a20_driven();
            }
            Chip::FpuError => c.fpu_error.port_write(at, size, value),
            Chip::Serial(i) => match c.serial.get_mut(i) {
                Some(Some(uart)) => uart.port_write(at, size, value),
                _ => return false,
            },
            Chip::Ide(i) => match c.ide.channels.get_mut(i) {
                Some(channel) => channel.port_write(at, size, value),
                None => return false,
            },
            Chip::BusMaster => c.ide.bus_master_write(at, size, value),
            Chip::PciAddress if at == 1 && size == Size::B1 => c.isa.port_write(0, size, value),
            Chip::PciAddress => c.pci_address.write(size, value as u32),
            Chip::PciData => self.pci_write(at, size, value as u32),
            Chip::AcpiPm => c.acpi_pm.port_write(at, size, value),
            Chip::Apm => c.acpi_pm.apm_write(at, value as u8),
            Chip::Gpe => c.acpi_pm.gpe_write(at, value as u8),
            Chip::Vga | Chip::Vbe => return self.write_vga(chip, at, size, value),
            Chip::Virtio(i) => match c.virtio.get_mut(i) {
                Some(virtio) => virtio.write(Bar::Legacy, at.into(), size, value),
                None => return false,
            },
            Chip::FwCfg => c.fw_cfg.port_write(at, size, value),
            Chip::Debugcon(i) => match c.debugcon.get_mut(i) {
                Some(console) => console.port_write(at, size, value),
                None => return false,
            },
            Chip::DebugExit => c.debug_exit.port_write(at, size, value),
            Chip::PcTestdev => match &mut c.pc_testdev {
                Some(testdev) => testdev.port_write(at, size, value),
                None => return false,
            },
            Chip::PciTestdev => match &mut c.pci_testdev {
                Some(testdev) => testdev.write(Window::Ports, at.into(), size, value),
                None => return false,
            },
        }
        true
    }

    fn write_vga(&mut self, chip: Chip, at: u16, size: Size, value: u64) -> bool {
        if chip == Chip::Vbe {
            // It may clear video memory.
            self.unmap_video();
        }
        let Some(vga) = &mut self.chips.vga else { return false };
        match chip {
            Chip::Vbe => vga.vbe_write(at, value as u16),
            _ => vga.port_write(at, size, value),
        }
        self.check_video();
        true
    }
}
