//! The APICs on the board: their memory pages, interrupt messages, and the processor's side of the
//! local one. The HPET, which lives beside them, has its routing here, too.
//!
//! Sources: SDM Vol. 3A, "Advanced Programmable Interrupt Controller (APIC)"; 82371AB datasheet,
//! "PIRQ Route Control"; IA-PC HPET specification, "LegacyReplacement Route".

use std::ops::Range;

use devices::hpet::{HPET_LEN, TIMERS};
use devices::ioapic::IOAPIC_LEN;
use devices::lapic::{Acknowledge, LAPIC_LEN};
use devices::pc_testdev;
use devices::pci_testdev::Window;
use mem::{MmioDevice, PAGE_SIZE, Phys, Size};

use super::Board;
use super::irq::IrqSource;

/// Where the IOAPIC and the HPET are, and what messages are written to.
const IOAPIC: u64 = 0xfec0_0000;
const HPET: u64 = 0xfed0_0000;
const MESSAGES: Range<u64> = 0xfee0_0000..0xfef0_0000;
/// Nothing of this file is below, but for a local APIC that software has moved.
pub(super) const SYSTEM_AREA: u64 = IOAPIC;

/// Who answers at an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Target {
    Lapic(u64),
    IoApic(u64),
    Hpet(u64),
    Message,
    PcTestdev(u64),
    PciTestdev(u64),
}

impl Board {
    /// The chip at a bus address, if it is one of these.
    #[inline]
    fn system_target(&self, at: Phys) -> Option<Target> {
        if let Some(page) = self.apic_page
            && at.0.wrapping_sub(page) < LAPIC_LEN
        {
            return Some(Target::Lapic(at.0 - page));
        }
        if let Some(testdev) = &self.chips.pci_testdev
            && let Some(offset) = testdev.decode(at.0)
        {
            return Some(Target::PciTestdev(offset));
        }
        if at.0 < SYSTEM_AREA {
            return None;
        }
        let within = |base: u64, len: u64| at.0.checked_sub(base).filter(|&offset| offset < len);
        if let Some(offset) = within(IOAPIC, IOAPIC_LEN) {
            return Some(Target::IoApic(offset));
        }
        if let Some(offset) = within(HPET, HPET_LEN) {
            return Some(Target::Hpet(offset));
        }
        if self.chips.pc_testdev.is_some()
            && let Some(offset) = within(pc_testdev::MEMORY, pc_testdev::MEMORY_LEN)
        {
            return Some(Target::PcTestdev(offset));
        }
        MESSAGES.contains(&at.0).then_some(Target::Message)
    }

    /// Reads a register of these chips, if the address is one.
    #[inline]
    pub(super) fn read_system(&mut self, at: Phys, size: Size) -> Option<u64> {
        let target = self.system_target(at)?;
        self.time.refresh(self.alarms.clock());
        let value = match target {
            Target::Lapic(offset) => {
                let value = self.chips.lapic.mmio_read(offset, size);
                // A read changes nothing unless it is an error, which may interrupt.
                self.irq_settled &= !self.chips.lapic.has_errors();
                value
            }
            Target::IoApic(offset) => self.chips.ioapic.mmio_read(offset, size),
            Target::Hpet(offset) => self.chips.hpet.mmio_read(offset, size),
            Target::PcTestdev(at) => self.chips.pc_testdev.as_mut()?.mmio_read(at, size),
            Target::PciTestdev(at) => {
                self.chips.pci_testdev.as_ref()?.read(Window::Memory, at, size)
            }
            Target::Message => u64::MAX,
        };
        self.settle();
        Some(value & size.mask())
    }

    /// Writes a register of these chips; false if the address is none.
    #[inline]
    pub(super) fn write_system(&mut self, at: Phys, size: Size, value: u64) -> bool {
        let Some(target) = self.system_target(at) else { return false };
        self.time.refresh(self.alarms.clock());
        match target {
            Target::Lapic(offset) => self.chips.lapic.mmio_write(offset, size, value),
            Target::IoApic(offset) => self.chips.ioapic.mmio_write(offset, size, value),
            Target::Hpet(offset) => {
                self.chips.hpet.mmio_write(offset, size, value);
                self.route_irqs();
            }
            Target::Message => self.signals.send(at.0, value as u32),
            Target::PcTestdev(at) => {
                let testdev = self.chips.pc_testdev.iter_mut();
                testdev.for_each(|testdev| testdev.mmio_write(at, size, value));
            }
            Target::PciTestdev(at) => {
                let testdev = self.chips.pci_testdev.iter_mut();
                testdev.for_each(|testdev| testdev.write(Window::Memory, at, size, value));
            }
        }
        self.settle_all();
        true
    }

    /// Leads sources to lines as the ISA bridge and the HPET say.
    pub(super) fn route_irqs(&self) {
        let chips = &self.chips;
        for slot in 0..32u8 {
            // INTA# of neighbouring slots goes to neighbouring inputs of the bridge.
            let pirq = slot.wrapping_sub(1) & 3;
            self.signals.route(IrqSource::Pci(slot), chips.isa.route(pirq));
        }
        let is_legacy = chips.hpet.is_legacy();
        self.signals.route(IrqSource::Pit, (!is_legacy).then_some(0));
        self.signals.route(IrqSource::Rtc, (!is_legacy).then_some(8));
        for i in 0..TIMERS {
            let line = match i {
                0 | 1 if is_legacy => [0, 8][i],
                _ => chips.hpet.route(i),
            };
            // A route of 0 means that software has chosen none.
            let is_routed = is_legacy && i < 2 || line != 0;
            self.signals.route(IrqSource::Hpet(i), is_routed.then_some(line));
        }
    }

    /// Puts the local APIC's page where its base register says: there the bus answers, not memory.
    /// Memory above 4 GiB cannot be covered.
    pub(super) fn place_apic(&mut self) {
        let new = self.chips.lapic.page();
        let old = std::mem::replace(&mut self.apic_page, new);
        if old == new {
            return;
        }
        if let Some(at) = old {
            self.uncover(at);
        }
        if let Some(at) = new {
            self.map.unmap(Phys(at), PAGE_SIZE);
        }
    }

    /// Something was mapped that the local APIC's registers may cover.
    pub(super) fn recover_apic(&self) {
        if let Some(at) = self.apic_page {
            self.map.unmap(Phys(at), PAGE_SIZE);
        }
    }

    /// Messages and ends of interrupts go where they belong, until nothing moves any more.
    pub(super) fn exchange(&mut self) {
        let chips = &mut self.chips;
        chips.lapic.set_lint(0, chips.pic.intr());
        // A level that stays asserted comes again at once after its end: bounded by the inputs.
        for _ in 0..4 {
            for message in self.signals.take_messages() {
                if chips.lapic.is_addressed(&message) {
                    chips.lapic.deliver(&message);
                }
            }
            if let Some(message) = chips.lapic.take_message()
                && chips.lapic.is_addressed(&message)
            {
                chips.lapic.deliver(&message);
            }
            if let Some(vector) = chips.lapic.take_end() {
                chips.ioapic.end_of_interrupt(vector);
            }
            let lapic = &mut chips.lapic;
            let sent = chips.ioapic.service(|m| lapic.is_addressed(m) && lapic.deliver(m));
            if !sent {
                break;
            }
        }
    }
}

/// What the processor asks of its local APIC.
impl Board {
    pub(super) fn acknowledge(&mut self) -> u8 {
        let vector = match self.chips.lapic.acknowledge() {
            Acknowledge::Vector(vector) => vector,
            Acknowledge::External => self.chips.pic.inta(),
        };
        self.settle_all();
        vector
    }

    pub(super) fn move_apic(&mut self, base: u64) {
        self.time.refresh(self.alarms.clock());
        self.chips.lapic.set_base(base);
        self.place_apic();
        self.settle_all();
    }

    pub(super) fn apic_msr(&mut self, n: u32) -> Option<u64> {
        self.time.refresh(self.alarms.clock());
        let value = self.chips.lapic.msr_read(n);
        self.settle_all();
        value
    }

    pub(super) fn set_apic_msr(&mut self, n: u32, value: u64) -> bool {
        self.time.refresh(self.alarms.clock());
        let is_written = self.chips.lapic.msr_write(n, value);
        self.settle_all();
        is_written
    }
}
