//! PCI bus 0: who sits where, configuration cycles, and what a changed register moves.

use mem::{PAGE_SIZE, Phys, Size};

use devices::acpi_pm::PM_PORTS;
use devices::ide::BUS_MASTER_PORTS;
use devices::pci::ConfigSpace;
use devices::pci_testdev;
use devices::virtio::{Bar, VirtioPci};

use super::chips::Chips;
use super::ports::Chip;
use super::{Board, guide};

/// Device and function numbers, as QEMU's i440FX machine has them: firmware knows some by heart.
const HOST_BRIDGE: (u8, u8) = (0, 0);
const ISA_BRIDGE: (u8, u8) = (1, 0);
const IDE: (u8, u8) = (1, 1);
const ACPI_PM: (u8, u8) = (1, 3);
const VGA: (u8, u8) = (2, 0);
/// Where further devices begin.
pub const FIRST_FREE_SLOT: u8 = 3;
/// Where slots end.
pub(super) const PCI_SLOTS: u8 = 32;

impl Board {
    /// A read of the configuration data port at byte `lane`.
    pub(super) fn pci_read(&mut self, lane: u16, size: Size) -> u64 {
        let Some(target) = self.chips.pci_address.target(lane).filter(|t| t.bus == 0) else {
            return u64::MAX;
        };
        if let Some(virtio) = self.virtio_at(target.device, target.function) {
            return u64::from(virtio.config_read(target.register, size));
        }
        let Some(config) = self.pci_config(target.device, target.function) else {
            return u64::MAX;
        };
        u64::from(config.read(target.register, size))
    }

    /// The configuration space of a function, if there is one.
    pub fn pci_config(&self, device: u8, function: u8) -> Option<&ConfigSpace> {
        let c = &self.chips;
        Some(match (device, function) {
            HOST_BRIDGE => &c.host_bridge.config,
            ISA_BRIDGE => &c.isa.config,
            IDE => &c.ide.config,
            ACPI_PM => &c.acpi_pm.config,
            VGA => &c.vga.as_ref()?.config,
            (slot @ FIRST_FREE_SLOT.., 0) => {
                let index = usize::from(slot - FIRST_FREE_SLOT);
                match &c.pci_testdev {
                    Some(testdev) if index == c.virtio.len() => &testdev.config,
                    _ => c.virtio.get(index)?.config(),
                }
            }
            _ => return None,
        })
    }

    /// The test device's slot: behind the virtio devices.
    fn testdev_slot(&self) -> u8 {
        FIRST_FREE_SLOT + self.chips.virtio.len() as u8
    }

    /// The virtio device in a slot.
    fn virtio_at(&mut self, slot: u8, function: u8) -> Option<&mut VirtioPci> {
        let index = usize::from(slot.checked_sub(FIRST_FREE_SLOT)?);
        self.chips.virtio.get_mut(index).filter(|_| function == 0)
    }

    /// A virtio device's memory window at `at`.
    fn virtio_window(&mut self, at: u64) -> Option<(&mut VirtioPci, Bar, u64)> {
        let decode = |virtio: &'_ VirtioPci| virtio.decode(at);
        let index = self.chips.virtio.iter().position(|virtio| decode(virtio).is_some())?;
        let virtio = self.chips.virtio.get_mut(index)?;
        let (bar, offset) = virtio.decode(at)?;
        Some((virtio, bar, offset))
    }

    /// Reads a register of a virtio device in memory, if the address is one.
    pub(super) fn read_virtio(&mut self, at: Phys, size: Size) -> Option<u64> {
        self.time.refresh(self.alarms.clock());
        let (virtio, bar, offset) = self.virtio_window(at.0)?;
        let value = virtio.read(bar, offset, size);
        self.settle();
        Some(value)
    }

    /// Writes such a register; false if the address is none.
    pub(super) fn write_virtio(&mut self, at: Phys, size: Size, value: u64) -> bool {
        self.time.refresh(self.alarms.clock());
        let Some((virtio, bar, offset)) = self.virtio_window(at.0) else { return false };
        virtio.write(bar, offset, size, value);
        self.settle();
        true
    }

    /// A write of the configuration data port at byte `lane`.
    pub(super) fn pci_write(&mut self, lane: u16, size: Size, value: u32) {
        let Some(target) = self.chips.pci_address.target(lane).filter(|t| t.bus == 0) else {
            return;
        };
        let at = target.register;
        let c = &mut self.chips;
        match (target.device, target.function) {
            HOST_BRIDGE => {
                c.host_bridge.config_write(at, size, value);
                self.map_legacy();
            }
            ISA_BRIDGE => {
                c.isa.config.write(at, size, value);
                self.route_irqs();
            }
            IDE => {
                c.ide.config.write(at, size, value);
                self.place_ports();
            }
            ACPI_PM => {
                c.acpi_pm.config.write(at, size, value);
                self.place_ports();
            }
            VGA => {
                if let Some(vga) = &mut c.vga {
                    vga.config.write(at, size, value);
                    self.place_bars();
                }
            }
            (slot, function) => {
                if let Some(virtio) = self.virtio_at(slot, function) {
                    virtio.config_write(at, size, value);
                    self.place_ports();
                } else if (slot, function) == (self.testdev_slot(), 0)
                    && let Some(testdev) = &mut self.chips.pci_testdev
                {
                    testdev.config.write(at, size, value);
                    self.place_ports();
                }
            }
        }
    }

    /// Puts the movable port blocks where their registers say.
    pub(super) fn place_ports(&mut self) {
        let master = self.chips.ide.bus_master_base();
        self.ports.place(Chip::BusMaster, master, BUS_MASTER_PORTS, Size::B4);
        let pm = self.chips.acpi_pm.io_base();
        self.ports.place(Chip::AcpiPm, pm, PM_PORTS, Size::B4);
        self.follow_pm_base(pm);
        if let Some(testdev) = &self.chips.pci_testdev {
            self.ports.place(Chip::PciTestdev, testdev.ports(), pci_testdev::PORTS_LEN, Size::B4);
        }
        for (i, virtio) in self.chips.virtio.iter().enumerate() {
            let (base, len) = virtio.ports();
            self.ports.place(Chip::Virtio(i), base, len, Size::B4);
        }
    }

    /// Lets the ACPI tables, which firmware fetches later, name the place that it has chosen for the PM function's ports.
    fn follow_pm_base(&mut self, pm: Option<u16>) {
        let Chips { acpi: Some(tables), fw_cfg, .. } = &mut self.chips else { return };
        if let Some(base) = pm.filter(|&base| base != tables.pm_base) {
            tables.pm_base = base;
            guide::add_acpi_tables(fw_cfg, tables);
        }
    }

    /// Puts the VGA card's memory where its registers say, inside the PCI hole.
    pub(super) fn place_bars(&mut self) {
        let Some(vga) = &self.chips.vga else { return };
        let layout = &self.layout;
        let inside = |base: Option<u64>, len: u64| {
            base.filter(|&at| layout.pci_hole().contains(&at) && at + len <= layout.pci_hole().end)
        };
        let vram = layout.vram;
        let rom = layout.vga_rom;
        let new = super::memory::Bars {
            framebuffer: inside(vga.framebuffer_base(), vram.len),
            registers: inside(vga.registers_base(), PAGE_SIZE),
            rom: inside(vga.config.rom_base().filter(|_| rom.len > 0), rom.len),
        };
        self.map_bars(new);
    }
}
