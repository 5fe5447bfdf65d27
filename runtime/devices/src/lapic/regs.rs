//! The local APIC's registers as memory and as x2APIC MSRs.
//!
//! Source: SDM Vol. 3A, "Local APIC Register Address Map", "Extended XAPIC (x2APIC)". A register's
//! MSR is 800h plus its offset in the page divided by 16.

use mem::{MmioDevice, Size};

use super::{
    ERROR_REGISTER, ERROR_SEND_VECTOR, LVT_MASKED, LVT_TIMER, Lapic, SVR_ENABLE, VectorSet,
};
use crate::message::{Delivery, Message};

// Register numbers.
const ID: u32 = 0x02;
const VERSION: u32 = 0x03;
const TPR: u32 = 0x08;
const APR: u32 = 0x09;
const PPR: u32 = 0x0a;
const EOI: u32 = 0x0b;
const RRD: u32 = 0x0c;
const LDR: u32 = 0x0d;
const DFR: u32 = 0x0e;
const SVR: u32 = 0x0f;
const ISR: u32 = 0x10;
const TMR: u32 = 0x18;
const IRR: u32 = 0x20;
const ESR: u32 = 0x28;
const ICR: u32 = 0x30;
const ICR_HIGH: u32 = 0x31;
const LVT: u32 = 0x32;
const LVT_LAST: u32 = 0x37;
const INITIAL: u32 = 0x38;
const CURRENT: u32 = 0x39;
const DIVIDE: u32 = 0x3e;
const SELF_IPI: u32 = 0x3f;

/// Version 14h (integrated APIC), six LVT entries.
const VERSION_VALUE: u32 = 0x0005_0014;
/// Spurious vector, software enable, focus checking.
pub(super) const SVR_WRITABLE: u32 = 0x3ff;
/// LVT bits by entry: vector, mask; mode of the timer; delivery mode; polarity and trigger of pins.
pub(super) const LVT_WRITABLE: [u32; 6] =
    [0x7_00ff, 0x1_07ff, 0x1_07ff, 0x1_a7ff, 0x1_a7ff, 0x1_00ff];
/// LVT bit that only pins have: trigger mode.
const LVT_TRIGGER: u32 = 1 << 15;
/// ICR bits: vector, modes, level, trigger, shorthand.
const ICR_WRITABLE: u64 = 0x000c_cfff;
/// ICR destination shorthand: this processor.
const TO_SELF: u64 = 1 << 18;
/// ICR bits above the low word in an xAPIC and in an x2APIC.
const ICR_TO: u64 = 0xff00_0000 << 32;
const X2_ICR_TO: u64 = 0xffff_ffff << 32;

/// Bits that may be set where an LVT entry is written as an MSR: its own, and what can only be read, as the processor ignores
/// that: delivery status, and remote IRR where the entry is a pin's.
fn lvt_accepted(i: usize) -> u32 {
    let writable = LVT_WRITABLE[i];
    let remote_irr = if writable & LVT_TRIGGER != 0 { 1 << 14 } else { 0 };
    writable | 1 << 12 | remote_irr
}

impl Lapic {
    /// The logical destination register. An x2APIC derives it: cluster, and a bit in it.
    pub(super) fn logical_id(&self) -> u32 {
        match self.is_x2apic() {
            true => self.number >> 4 << 16 | 1 << (self.number & 15),
            false => self.ldr,
        }
    }

    /// A register that can be read and is there in both faces.
    fn read_register(&mut self, n: u32) -> Option<u32> {
        let word = |set: &VectorSet, first: u32| set[(n - first) as usize & 7];
        Some(match n {
            ID if self.is_x2apic() => self.number,
            ID => u32::from(self.id) << 24,
            VERSION => VERSION_VALUE,
            TPR => u32::from(self.tpr),
            PPR => u32::from(self.ppr()),
            LDR => self.logical_id(),
            SVR => self.svr,
            ISR..TMR => word(&self.isr, ISR),
            TMR..IRR => word(&self.tmr, TMR),
            IRR..ESR => word(&self.irr, IRR),
            ESR => self.esr,
            LVT..=LVT_LAST => self.lvt_entry((n - LVT) as usize),
            INITIAL => self.initial,
            CURRENT => self.current_count(),
            DIVIDE => self.divide,
            _ => return None,
        })
    }

    fn lvt_entry(&self, i: usize) -> u32 {
        self.lvt.get(i).copied().unwrap_or(0)
    }

    /// A register that can be written and is there in both faces; false if there is none.
    fn write_register(&mut self, n: u32, value: u32) -> bool {
        match n {
            TPR => self.tpr = value as u8,
            EOI => self.end_of_interrupt(),
            SVR => self.write_svr(value),
            ESR => self.esr = std::mem::take(&mut self.errors),
            LVT..=LVT_LAST => self.write_lvt((n - LVT) as usize, value),
            INITIAL => self.set_initial_count(value),
            DIVIDE => self.set_divide(value),
            _ => return false,
        }
        true
    }

    fn write_svr(&mut self, value: u32) {
        self.svr = value & SVR_WRITABLE;
        if self.svr & SVR_ENABLE == 0 {
            self.sync_timer();
            self.lvt.iter_mut().for_each(|entry| *entry |= LVT_MASKED);
            self.arm();
        }
    }

    fn write_lvt(&mut self, i: usize, value: u32) {
        let Some(mask) = LVT_WRITABLE.get(i) else { return };
        let is_forced = self.svr & SVR_ENABLE == 0;
        let entry = value & mask | if is_forced { LVT_MASKED } else { 0 };
        if i == LVT_TIMER {
            return self.set_timer_lvt(entry);
        }
        self.lvt[i] = entry;
    }

    /// Sends what an interrupt command says.
    fn send(&mut self, command: u64) {
        let low = command as u32;
        let (delivery, vector) = (Delivery::from_bits(low >> 8), low as u8);
        let (asserts, is_level) = (low >> 14 & 1 != 0, low >> 15 & 1 != 0);
        let has_vector = matches!(delivery, Delivery::Fixed | Delivery::LowestPriority);
        if has_vector && vector < 16 {
            return self.error(ERROR_SEND_VECTOR);
        }
        if is_level && !asserts {
            // INIT level de-assert: has no effect on these processors.
            return;
        }
        let to = (command >> 32) as u32;
        let (destination, is_logical) = match low >> 18 & 3 {
            0 if self.is_x2apic() => (to, low >> 11 & 1 != 0),
            0 => (to >> 24, low >> 11 & 1 != 0),
            1 | 2 if self.is_x2apic() => (self.number, false),
            1 | 2 => (u32::from(self.id), false),
            // All others: there are none.
            _ => return,
        };
        let is_to_all_or_self = low >> 18 & 3 != 0;
        // Shorthands name this processor only as target of fixed interrupts (and, all, of NMIs).
        if is_to_all_or_self && !has_vector && delivery != Delivery::Nmi {
            return;
        }
        // Interprocessor interrupts are edge-triggered always.
        let message = Message { destination, is_logical, delivery, vector, is_level: false };
        self.message = Some(message);
    }
}

/// The memory page. Only whole, aligned doublewords are registers.
impl MmioDevice for Lapic {
    fn mmio_read(&mut self, offset: u64, size: Size) -> u64 {
        let (n, lane) = ((offset >> 4) as u32 & 0xff, offset & 15);
        let value = match n {
            _ if lane > 3 => 0,
            DFR => self.dfr,
            ICR => self.icr as u32,
            ICR_HIGH => (self.icr >> 32) as u32,
            APR | EOI | RRD => 0,
            n => self.read_register(n).unwrap_or_else(|| {
                self.error(ERROR_REGISTER);
                0
            }),
        };
        (u64::from(value) >> (8 * (lane & 3))) & size.mask()
    }

    fn mmio_write(&mut self, offset: u64, size: Size, value: u64) {
        if offset & 15 != 0 || size < Size::B4 {
            return;
        }
        let (n, value) = ((offset >> 4) as u32 & 0xff, value as u32);
        match n {
            ID => self.id = (value >> 24) as u8,
            LDR => self.ldr = value & 0xff00_0000,
            DFR => self.dfr = value | 0x0fff_ffff,
            ICR => {
                self.icr = self.icr & !0xffff_ffff | u64::from(value) & ICR_WRITABLE;
                self.send(self.icr);
            }
            ICR_HIGH => {
                self.icr = self.icr & 0xffff_ffff | u64::from(value) << 32 & ICR_TO;
            }
            VERSION | APR | PPR | RRD | ISR..ESR | CURRENT => {}
            n => {
                if !self.write_register(n, value) {
                    self.error(ERROR_REGISTER);
                }
            }
        }
    }
}

/// The MSRs of an x2APIC: `n` is the MSR's number less 800h.
impl Lapic {
    /// Reads an MSR; `None` if there is no such, or it cannot be read.
    pub fn msr_read(&mut self, n: u32) -> Option<u64> {
        match n {
            _ if !self.is_x2apic() => None,
            ICR => Some(self.icr),
            n => self.read_register(n).map(u64::from),
        }
    }

    /// Writes an MSR; false if there is no such, it cannot be written, or not so.
    pub fn msr_write(&mut self, n: u32, value: u64) -> bool {
        let allowed = match n {
            TPR => 0xff,
            EOI | ESR => 0,
            SVR => u64::from(SVR_WRITABLE),
            ICR => ICR_WRITABLE | X2_ICR_TO,
            LVT..=LVT_LAST => u64::from(lvt_accepted((n - LVT) as usize)),
            INITIAL => 0xffff_ffff,
            DIVIDE => 0xb,
            SELF_IPI => 0xff,
            _ => return false,
        };
        if !self.is_x2apic() || value & !allowed != 0 {
            return false;
        }
        match n {
            ICR => {
                self.icr = value;
                self.send(value);
            }
            SELF_IPI => self.send(value | TO_SELF),
            n => return self.write_register(n, value as u32),
        }
        true
    }
}
