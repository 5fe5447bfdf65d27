//! The chips of the board and their wiring.

use std::sync::Arc;

use devices::acpi_pm::AcpiPm;
use devices::debug_exit::DebugExit;
use devices::debugcon::Debugcon;
use devices::dma8237::{Dma8237, DmaPages};
use devices::fdc::{Fdc, FloppyDrive};
use devices::fpu_error::FpuError;
use devices::fw_cfg::FwCfg;
use devices::hpet::{Hpet, TIMERS};
use devices::i440fx::HostBridge;
use devices::i8042::{I8042, Wires};
use devices::ide::{Channel, Drive, IdeFunction};
use devices::ioapic::IoApic;
use devices::lapic::Lapic;
use devices::pc_testdev::PcTestdev;
use devices::pci::ConfigAddress;
use devices::pci_testdev::PciTestdev;
use devices::pic::PicPair;
use devices::piix3::IsaBridge;
use devices::pit::Pit;
use devices::port61::Port61;
use devices::port92::Port92;
use devices::rtc::Rtc;
use devices::uart::Uart;
use devices::vga::Vga;
use devices::virtio::{VirtioDevice, VirtioPci};
use mem::{GuestRam, RamDma, RamWindow, Size};

use super::clock::{Alarms, ClockKind, Sleeper};
use super::irq::{Flag, IrqSource, Signals};
use super::memory::Layout;
use super::pci::{FIRST_FREE_SLOT, PCI_SLOTS};
use super::ports::{Chip, PortMap};
use super::{BoardConfig, BoardError, IdeUnit, acpi, guide};

/// All chips.
pub(super) struct Chips {
    pub(super) pic: PicPair,
    pub(super) lapic: Lapic,
    pub(super) ioapic: IoApic,
    pub(super) hpet: Hpet,
    pub(super) pit: Pit,
    pub(super) port61: Port61,
    pub(super) i8042: I8042,
    pub(super) rtc: Rtc,
    pub(super) dma: [Dma8237; 2],
    pub(super) dma_pages: DmaPages,
    /// Memory as ISA DMA reaches it.
    pub(super) dma_memory: RamDma,
    pub(super) fdc: Option<Fdc>,
    pub(super) port92: Port92,
    pub(super) fpu_error: FpuError,
    pub(super) serial: [Option<Uart>; 4],
    pub(super) pci_address: ConfigAddress,
    pub(super) host_bridge: HostBridge,
    pub(super) isa: IsaBridge,
    pub(super) ide: IdeFunction,
    pub(super) acpi_pm: AcpiPm,
    pub(super) vga: Option<Vga>,
    pub(super) virtio: Vec<VirtioPci>,
    pub(super) fw_cfg: FwCfg,
    /// What the ACPI tables in `fw_cfg` say, unless the user's are there.
    pub(super) acpi: Option<acpi::Machine>,
    pub(super) debugcon: Vec<Debugcon>,
    pub(super) debug_exit: DebugExit,
    pub(super) pc_testdev: Option<PcTestdev>,
    pub(super) pci_testdev: Option<PciTestdev>,
}

/// What chips are connected to.
pub(super) struct Parts<'a> {
    pub(super) signals: Arc<Signals>,
    pub(super) alarms: Arc<Alarms>,
    pub(super) ram: Arc<GuestRam>,
    pub(super) dma: RamDma,
    pub(super) layout: &'a Layout,
}

impl Chips {
    /// Builds all chips; ports at the user's choice are claimed in `ports`.
    pub(super) fn new(
        config: BoardConfig,
        parts: &Parts<'_>,
        ports: &mut PortMap,
    ) -> Result<Self, BoardError> {
        let Parts { signals, alarms, .. } = parts;
        let irq = |source| signals.irq_wire(source);
        let flag = |which| signals.flag_wire(which);
        let mut fw_cfg = FwCfg::new(Box::new(parts.dma.clone()));
        guide::fill_fw_cfg(&mut fw_cfg, parts.layout, &config)?;
        let has_own_tables = config.fw_cfg.iter().any(|(name, _)| acpi::is_file(name));
        let acpi = (!has_own_tables).then(|| guide::acpi_machine(parts.layout, &config));
        let mut rtc = Rtc::new(alarms.alarm(Sleeper::Rtc), irq(IrqSource::Rtc), config.rtc_base);
        guide::fill_cmos(&mut rtc, parts.layout, &config);
        let vga = config.vga.then(|| build_vga(parts, config.clock));
        let serial = build_serial(config.serial, parts, ports);
        let debugcon = build_debugcon(config.debugcon, ports)?;
        if let Some((base, len)) = config.debug_exit {
            ports.claim(Chip::DebugExit, base, len.max(1), Size::B4, "isa-debug-exit")?;
        }
        if config.pc_testdev {
            ports.claim_testdev()?;
        }
        let test_wire = |line| irq(IrqSource::Test(line as u8));
        let wires = Wires {
            kbd_irq: irq(IrqSource::Keyboard),
            aux_irq: irq(IrqSource::Mouse),
            a20: flag(Flag::A20),
            reset: flag(Flag::Reset),
        };
        Ok(Self {
            pic: PicPair::new(),
            lapic: Lapic::new(0, alarms.alarm(Sleeper::Lapic)),
            ioapic: IoApic::new(),
            hpet: Hpet::new(alarms.alarm(Sleeper::Hpet), hpet_outputs(parts)),
            pit: Pit::new(alarms.alarm(Sleeper::Pit), irq(IrqSource::Pit)),
            port61: Port61::default(),
            i8042: I8042::new(wires),
            rtc,
            dma: [Dma8237::new(), Dma8237::new()],
            dma_pages: DmaPages::default(),
            dma_memory: parts.dma.clone(),
            fdc: build_fdc(config.floppies, parts, ports),
            port92: Port92::new(flag(Flag::A20), flag(Flag::Reset)),
            fpu_error: FpuError::new(irq(IrqSource::FpuError)),
            serial,
            pci_address: ConfigAddress::default(),
            host_bridge: HostBridge::new(),
            isa: IsaBridge::new(flag(Flag::Reset)),
            ide: build_ide(config.drives, parts),
            acpi_pm: AcpiPm::new(
                irq(IrqSource::AcpiSci),
                flag(Flag::PowerOff),
                alarms.alarm(Sleeper::AcpiPm),
            ),
            vga,
            virtio: build_virtio(config.virtio, parts),
            fw_cfg,
            acpi,
            debugcon,
            debug_exit: DebugExit::default(),
            pc_testdev: config.pc_testdev.then(|| PcTestdev::new(std::array::from_fn(test_wire))),
            pci_testdev: config.pci_testdev.then(PciTestdev::default),
        })
    }

    /// Every chip as after power-on.
    pub(super) fn reset(&mut self) {
        self.pic.reset();
        self.lapic.reset();
        self.ioapic.reset();
        self.hpet.reset();
        self.pit.reset();
        self.port61.reset();
        self.i8042.reset();
        self.rtc.reset();
        self.dma.iter_mut().for_each(Dma8237::reset);
        self.dma_pages.reset();
        self.fdc.iter_mut().for_each(Fdc::reset);
        self.port92.reset();
        self.fpu_error.reset();
        self.serial.iter_mut().flatten().for_each(Uart::reset);
        self.pci_address.reset();
        self.host_bridge.reset();
        self.isa.reset();
        self.ide.reset();
        self.acpi_pm.reset();
        self.vga.iter_mut().for_each(Vga::reset);
        self.virtio.iter_mut().for_each(VirtioPci::reset);
        self.fw_cfg.reset();
        self.debugcon.iter_mut().for_each(Debugcon::reset);
        self.debug_exit.reset();
        self.pc_testdev.iter_mut().for_each(PcTestdev::reset);
        self.pci_testdev.iter_mut().for_each(PciTestdev::reset);
    }

    /// Lets the floppy controller have the DMA it asks for, on channel 2.
    pub(super) fn serve_floppy(&mut self) {
        if let Some(fdc) = &mut self.fdc {
            let page = self.dma_pages.page(2);
            self.dma[0].serve(2, page, &self.dma_memory, fdc);
        }
    }

    /// An alarm has gone off.
    pub(super) fn wake(&mut self, sleeper: Sleeper) {
        let serial = match sleeper {
            Sleeper::Pit => return self.pit.expired(),
            Sleeper::Rtc => return self.rtc.expired(),
            Sleeper::AcpiPm => return self.acpi_pm.expired(),
            Sleeper::Vga => return,
            Sleeper::Lapic => return self.lapic.expired(),
            Sleeper::Hpet => return self.hpet.expired(),
            Sleeper::Serial0 => 0,
            Sleeper::Serial1 => 1,
            Sleeper::Serial2 => 2,
            Sleeper::Serial3 => 3,
        };
        if let Some(uart) = &mut self.serial[serial] {
            uart.expired();
        }
    }
}

fn build_virtio(devices: Vec<Box<dyn VirtioDevice>>, parts: &Parts<'_>) -> Vec<VirtioPci> {
    let slots = FIRST_FREE_SLOT..PCI_SLOTS;
    let build = |(device, slot)| {
        let irq = parts.signals.irq_wire(IrqSource::Pci(slot));
        let wire = parts.signals.msi_wire();
        let msi: devices::virtio::Msi = Box::new(move |address, data| wire.send(address, data));
        VirtioPci::new(device, parts.dma.clone(), irq, Some(msi))
    };
    devices.into_iter().zip(slots).map(build).collect()
}

fn hpet_outputs(parts: &Parts<'_>) -> [devices::Wire; TIMERS] {
    std::array::from_fn(|i| parts.signals.irq_wire(IrqSource::Hpet(i)))
}

fn build_vga(parts: &Parts<'_>, clock: ClockKind) -> Vga {
    let layout = parts.layout;
    // Counted runs are compared, whenever they look at the screen: nothing is lent there.
    let lent = if clock == ClockKind::Icount { 0 } else { layout.cells.len };
    let [vram, cells] = [(layout.vram.off, layout.vram.len), (layout.cells.off, lent)]
        .map(|(off, len)| RamWindow::new(parts.ram.clone(), off, len));
    Vga::new([vram, cells], parts.alarms.alarm(Sleeper::Vga), layout.vga_rom.len as u32)
}

fn build_serial(
    backends: [Option<Box<dyn devices::chardev::CharBackend>>; 4],
    parts: &Parts<'_>,
    ports: &mut PortMap,
) -> [Option<Uart>; 4] {
    let sleepers = [Sleeper::Serial0, Sleeper::Serial1, Sleeper::Serial2, Sleeper::Serial3];
    let mut i = 0;
    backends.map(|backend| {
        let (index, sleeper) = (i, sleepers[i]);
        i += 1;
        backend.map(|backend| {
            ports.add_serial(index);
            let irq = parts.signals.irq_wire(IrqSource::Serial(index));
            Uart::new(irq, parts.alarms.alarm(sleeper), backend)
        })
    })
}

fn build_debugcon(
    consoles: Vec<(u16, Box<dyn devices::chardev::CharBackend>)>,
    ports: &mut PortMap,
) -> Result<Vec<Debugcon>, BoardError> {
    let mut built = Vec::new();
    for (port, out) in consoles {
        ports.claim(Chip::Debugcon(built.len()), port, 1, Size::B1, "debugcon")?;
        built.push(Debugcon::new(out));
    }
    Ok(built)
}

/// The floppy controller, if there is a drive for it.
fn build_fdc(
    floppies: [Option<FloppyDrive>; 2],
    parts: &Parts<'_>,
    ports: &mut PortMap,
) -> Option<Fdc> {
    if floppies.iter().all(Option::is_none) {
        return None;
    }
    ports.add_floppy();
    let drives = floppies.map(Option::unwrap_or_default);
    Some(Fdc::new(drives, parts.signals.irq_wire(IrqSource::Floppy)))
}

fn build_ide(units: [IdeUnit; 4], parts: &Parts<'_>) -> IdeFunction {
    let mut i = 0;
    let [a, b, c, d] = units.map(|unit| {
        i += 1;
        let serial = format!("STELE{i:05}");
        match unit {
            IdeUnit::Disk(disk) => Drive::new(disk, &serial),
            IdeUnit::Cd(medium) => Drive::cd(medium, &serial),
            IdeUnit::Empty => Drive::absent(),
        }
    });
    let channel = |drives, i| {
        let irq = parts.signals.irq_wire(IrqSource::Ide(i));
        Channel::new(drives, irq, Box::new(parts.dma.clone()))
    };
    IdeFunction::new([channel([a, b], 0), channel([c, d], 1)])
}
