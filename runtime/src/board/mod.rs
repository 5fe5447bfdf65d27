//! The board: the one place that knows PC addresses and interrupt numbers.
//!
//! It builds the chips, gives each its wires, alarm and memory access, decodes ports and memory
//! addresses, keeps virtual time and tells the outer loop what it cannot settle itself. To the CPU
//! it is a [`mem::Bus`]. It never runs by itself: the outer loop calls [`Board::run_timers`] when
//! [`Board::next_deadline`] has come, and [`Board::poll_input`] now and then.
//!
//! ```text
//! loop {
//!     board.run_timers();             // also refreshes virtual time
//!     cpu.run(&mut board, ..);        // until an exit
//!     while let Some(event) = board.take_event() { .. }
//!     // halted: sleep until next_deadline (host time) or advance_to it (instruction count)
//! }
//! ```

mod acpi;
mod apic;
mod chips;
mod clock;
mod config;
mod guide;
mod irq;
mod memory;
mod pci;
mod ports;
mod smbios;
mod snapshot;
mod ticks;
mod video;

pub use clock::ClockKind;
pub use config::{BoardConfig, BoardError, BoardEvent, Change, IdeUnit};
pub use memory::low_ram;
pub use pci::FIRST_FREE_SLOT;
pub use smbios::{SMBIOS_FIELDS, SmbiosFields, parse_uuid};
pub use snapshot::SnapshotError;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use devices::block::BlockDev;
use devices::debugcon::Debugcon;
use devices::vga::{Direct, TextScreen, Vga};
use devices::virtio::VirtioPci;
use mem::{Bus, GuestRam, Ns, Phys, PhysMap, Port, RamDma, Size, TscMap};

use chips::Chips;
use clock::{Alarms, Sleeper, Source};
use irq::Signals;
use memory::{Bars, Layout};
use ports::PortMap;

/// An i440FX-class PC without its CPU.
pub struct Board {
    ram: Arc<GuestRam>,
    map: Arc<PhysMap>,
    layout: Layout,
    bars: Bars,
    ports: PortMap,
    chips: Chips,
    signals: Arc<Signals>,
    alarms: Arc<Alarms>,
    time: Source,
    /// The interrupt controllers' output, as settled after the last access.
    intr: bool,
    /// False if the controllers may have changed without a wire moving.
    irq_settled: bool,
    /// What the VGA card's window is mapped to.
    video: Option<Direct>,
    /// Something is to be mapped there.
    is_video_due: bool,
    /// Where the local APIC's registers are.
    apic_page: Option<u64>,
    /// The A20 gate as the CPU was last told.
    a20: bool,
    /// The boot order from the next reset on, if it changes then.
    next_boot_order: Option<String>,
}

impl Board {
    /// Builds a machine in its power-on state.
    ///
    /// # Errors
    /// Sizes that cannot be, ports claimed twice, or no memory from the host.
    pub fn new(config: BoardConfig) -> Result<Self, BoardError> {
        let layout = Layout::new(&config)?;
        let ram = Arc::new(GuestRam::new(layout.total())?);
        layout.fill(&ram, &config);
        let map = Arc::new(layout.map());
        let (signals, alarms) = (Arc::new(Signals::default()), Alarms::new());
        let time = Source::new(config.clock);
        let mut ports = PortMap::new(config.vga);
        let parts = chips::Parts {
            signals: signals.clone(),
            alarms: alarms.clone(),
            ram: ram.clone(),
            dma: RamDma::new(ram.clone(), map.clone()),
            layout: &layout,
        };
        let next_boot_order = config.boot_once.as_ref().map(|_| config.boot_order.clone());
        let chips = Chips::new(config, &parts, &mut ports)?;
        let mut board = Self {
            ram,
            map,
            layout,
            bars: Bars::default(),
            ports,
            chips,
            signals,
            alarms,
            time,
            intr: false,
            irq_settled: false,
            video: None,
            is_video_due: false,
            apic_page: None,
            a20: true,
            next_boot_order: None,
        };
        board.reset();
        board.next_boot_order = next_boot_order;
        Ok(board)
    }

    /// The hardware reset line: every chip as after power-on. RAM, CMOS memory and virtual time
    /// go on.
    pub fn reset(&mut self) {
        self.time.refresh(self.alarms.clock());
        self.unmap_video();
        self.chips.reset();
        if let Some(order) = self.next_boot_order.take() {
            guide::set_boot_order(&mut self.chips.rtc, &order);
        }
        self.signals.a20.store(true, Relaxed);
        self.signals.reset.store(false, Relaxed);
        self.signals.power_off.store(false, Relaxed);
        self.remap();
        self.settle_all();
    }

    /// Guest memory, shared with CPU and DMA.
    pub fn ram(&self) -> &Arc<GuestRam> {
        &self.ram
    }

    /// The physical map, shared with CPU and DMA. Its generation moves with every change, the A20
    /// gate's included.
    pub fn map(&self) -> &Arc<PhysMap> {
        &self.map
    }

    /// The end of physical memory: 4 GiB, or behind the RAM above it.
    pub fn ram_end(&self) -> u64 {
        (1 << 32) + self.layout.high_ram
    }

    /// What the guest did that the outer loop must act on.
    pub fn take_event(&mut self) -> Option<BoardEvent> {
        if let Some(status) = self.chips.debug_exit.take_status() {
            return Some(BoardEvent::DebugExit(status));
        }
        if self.signals.power_off.swap(false, Relaxed) {
            return Some(BoardEvent::PowerOff);
        }
        self.signals.reset.swap(false, Relaxed).then_some(BoardEvent::Reset)
    }

    /// Would [`take_event`](Self::take_event) give something, or is there an NMI? Cheap: for asking after each exit.
    pub fn has_event(&self) -> bool {
        self.signals.reset.load(Relaxed)
            || self.signals.power_off.load(Relaxed)
            || self.chips.debug_exit.is_requested()
            || self.is_video_due
            || self.chips.lapic.has_nmi()
    }

    /// Puts the chips' state of the wires in force: map, ports and A20.
    fn remap(&mut self) {
        self.map_legacy();
        self.place_ports();
        self.place_bars();
        self.place_apic();
        self.route_irqs();
        self.a20_driven();
    }

    /// Carries wire changes to the interrupt controllers and takes their answer.
    #[inline]
    fn settle(&mut self) {
        let chips = &mut self.chips;
        if self.signals.settle(&mut chips.pic, &mut chips.ioapic) || !self.irq_settled {
            self.irq_settled = true;
            self.exchange();
            self.intr = self.chips.lapic.intr();
        }
    }

    fn settle_all(&mut self) {
        self.irq_settled = false;
        self.settle();
    }

    /// A chip may have moved the A20 gate.
    fn a20_driven(&mut self) {
        let open = self.signals.a20.load(Relaxed);
        self.chips.i8042.follow_a20(open);
        self.chips.port92.follow_a20(open);
        if self.a20 != open {
            self.a20 = open;
            self.map.touch();
        }
    }
}

/// Time.
impl Board {
    /// Virtual time now.
    pub fn now(&self) -> Ns {
        self.time.refresh(self.alarms.clock());
        self.alarms.clock().now()
    }

    /// Moves an instruction-counted clock; with a host clock it does nothing. Alarms wait for
    /// [`run_timers`](Self::run_timers).
    pub fn advance_to(&mut self, now: Ns) {
        self.time.advance_to(self.alarms.clock(), now);
    }

    /// Lets every alarm go off that is due.
    pub fn run_timers(&mut self) {
        self.chips.debugcon.iter_mut().for_each(Debugcon::flush);
        self.map_video();
        self.time.refresh(self.alarms.clock());
        // Each chip's next deadline lies after now, so that this ends; the bound is a safeguard.
        for _ in 0..4 * Sleeper::ALL.len() {
            let Some((sleeper, _)) = self.alarms.take_due() else { break };
            self.chips.wake(sleeper);
            self.irq_settled &= sleeper != Sleeper::Lapic;
        }
        self.settle();
    }

    /// When [`run_timers`](Self::run_timers) is next due.
    pub fn next_deadline(&self) -> Option<Ns> {
        self.alarms.next()
    }

    /// Stops a host-driven clock, as when the user stops the machine.
    pub fn pause(&mut self) {
        self.time.pause(self.alarms.clock());
    }

    /// Lets a stopped clock run on.
    pub fn resume(&mut self) {
        self.time.resume(self.alarms.clock());
    }
}

/// The user's side.
impl Board {
    /// Presses or releases a key: set 1 make code, extended keys with 0xE000 added. False if the
    /// keyboard's buffer is full.
    pub fn key(&mut self, code: u16, down: bool) -> bool {
        let taken = self.chips.i8042.key(code, down);
        self.settle();
        taken
    }

    /// Moves the mouse (right and up positive) and sets its buttons (bit 0 left, 1 right, 2 middle).
    pub fn mouse(&mut self, dx: i16, dy: i16, wheel: i8, buttons: u8) {
        self.chips.i8042.mouse(dx, dy, wheel, buttons);
        self.settle();
    }

    /// Presses the power button.
    pub fn press_power_button(&mut self) {
        self.chips.acpi_pm.press_power_button();
        self.settle();
    }

    /// Takes what has come in on serial lines and network cables, and sends what their far ends had no room for.
    pub fn poll_input(&mut self) {
        self.chips.serial.iter_mut().flatten().for_each(|uart| uart.poll());
        self.chips.virtio.iter_mut().for_each(VirtioPci::poll);
        self.settle();
    }

    /// The text screen, in a text mode.
    pub fn text_screen(&self) -> Option<TextScreen> {
        self.chips.vga.as_ref()?.text_screen()
    }

    /// The VGA card, if there is one.
    pub fn vga(&self) -> Option<&Vga> {
        self.chips.vga.as_ref()
    }

    /// The last byte the guest wrote to port 80h, where firmware reports its progress.
    pub fn post_code(&self) -> u8 {
        self.chips.dma_pages.post_code()
    }

    /// The local APIC's registers as text.
    pub fn describe_lapic(&self) -> String {
        self.chips.lapic.describe()
    }

    /// IRR, ISR and IMR of the interrupt controllers, the slave in the high byte.
    pub fn pic_registers(&self) -> (u16, u16, u16) {
        self.chips.pic.registers()
    }

    /// The IOAPIC's redirection table.
    pub fn ioapic_table(&self) -> &[u64; devices::ioapic::PINS] {
        self.chips.ioapic.table()
    }

    /// Makes everything the guest wrote to disks durable; for the end of the run.
    ///
    /// # Errors
    /// The first error any disk gave; the others were still flushed.
    pub fn flush_disks(&mut self) -> std::io::Result<()> {
        let channels = self.chips.ide.channels.iter_mut();
        let mut results: Vec<_> = channels.map(|channel| channel.flush()).collect();
        let floppies = self.chips.fdc.iter_mut().flat_map(|fdc| fdc.drives());
        results.extend(floppies.map(|(_, drive)| drive.flush()));
        let virtio = self.chips.virtio.iter_mut().filter_map(VirtioPci::disk);
        results.extend(virtio.map(|disk| disk.flush()));
        results.into_iter().collect()
    }

    /// Puts another medium, or none, into a CD drive (IDE place 0–3). A guest that has locked the drive is asked to
    /// let go of it first, unless `force`.
    pub fn change_cd(
        &mut self,
        place: usize,
        medium: Option<Box<dyn BlockDev>>,
        force: bool,
    ) -> Change {
        let channel = self.chips.ide.channels.get_mut(place / 2);
        let drive = channel.and_then(|channel| channel.drive(place % 2)).filter(|d| d.is_cd());
        let Some(drive) = drive else { return Change::NoDrive };
        if !drive.eject(force) {
            return Change::Locked;
        }
        if medium.is_some() {
            drive.change(medium);
        }
        Change::Done
    }

    /// Puts another disk, or none, into a floppy drive.
    pub fn change_floppy(&mut self, drive: usize, disk: Option<Box<dyn BlockDev>>) -> Change {
        match self.chips.fdc.as_mut().and_then(|fdc| fdc.drive(drive)) {
            Some(drive) => {
                drive.change(disk);
                Change::Done
            }
            None => Change::NoDrive,
        }
    }
}

impl Bus for Board {
    fn port_in(&mut self, port: Port, size: Size) -> u64 {
        self.time.refresh(self.alarms.clock());
        let value = self.read_port(port, size);
        self.settle();
        value
    }

    fn port_in_block(&mut self, port: Port, size: Size, buf: &mut [u8]) -> usize {
        let Some(channel) = self.ide_data(port, size) else { return 0 };
        let n = channel.readable().min(buf.len());
        let n = channel.read_block(&mut buf[..n - n % size.bytes() as usize]);
        self.settle();
        n
    }

    fn port_out_block(&mut self, port: Port, size: Size, bytes: &[u8]) -> usize {
        let Some(channel) = self.ide_data(port, size) else { return 0 };
        let n = channel.writable().min(bytes.len());
        let n = channel.write_block(&bytes[..n - n % size.bytes() as usize]);
        self.settle();
        n
    }

    fn port_out(&mut self, port: Port, size: Size, value: u64) {
        self.time.refresh(self.alarms.clock());
        self.write_port(port, size, value);
        self.settle();
    }

    fn mmio_read(&mut self, at: Phys, size: Size) -> u64 {
        self.read_mmio(at, size)
    }

    fn mmio_write(&mut self, at: Phys, size: Size, value: u64) {
        self.write_mmio(at, size, value);
    }

    #[inline]
    fn intr(&self) -> bool {
        self.intr
    }

    fn inta(&mut self) -> u8 {
        self.acknowledge()
    }

    fn take_nmi(&mut self) -> bool {
        self.chips.lapic.take_nmi()
    }

    fn set_apic_base(&mut self, base: u64) {
        self.move_apic(base);
    }

    fn apic_read(&mut self, n: u32) -> Option<u64> {
        self.apic_msr(n)
    }

    fn apic_write(&mut self, n: u32, value: u64) -> bool {
        self.set_apic_msr(n, value)
    }

    fn task_priority(&self) -> u8 {
        self.chips.lapic.task_priority()
    }

    fn set_task_priority(&mut self, class: u8) {
        self.chips.lapic.set_task_priority(class);
        self.settle_all();
    }

    fn tsc_deadline(&mut self) -> Option<u64> {
        self.time.refresh(self.alarms.clock());
        let at = self.chips.lapic.deadline();
        self.settle_all();
        (at != 0).then_some(at)
    }

    fn set_tsc_deadline(&mut self, at: Option<u64>) {
        self.time.refresh(self.alarms.clock());
        let ns = at.map_or(0, clock::ns_of_tsc);
        self.chips.lapic.set_deadline(at.unwrap_or(0), ns);
        self.settle_all();
    }

    fn set_ferr(&mut self, is_on: bool) {
        self.chips.fpu_error.set_ferr(is_on);
        self.settle();
    }

    fn ignne(&self) -> bool {
        self.chips.fpu_error.ignne()
    }

    fn tsc(&mut self) -> u64 {
        clock::tsc_at(self.now())
    }

    fn tsc_map(&self) -> TscMap {
        self.time.tsc_map(self.alarms.clock())
    }

    #[inline]
    fn a20(&self) -> bool {
        self.a20
    }
}

#[cfg(test)]
mod tests;
