//! The local APIC of one processor: priorities, local interrupts, interprocessor messages.
//!
//! Source: SDM Vol. 3A, "Advanced Programmable Interrupt Controller (APIC)". Registers and their
//! two faces (memory page, x2APIC MSRs) are in `regs`, the timer is in `timer`. One choice: LINT0
//! comes up unmasked as ExtINT, so that firmware which knows no APIC gets its 8259's interrupts
//! (the MP specification's PIC mode). INIT and start-up messages have no one to go to on a machine
//! with one processor and are dropped; there is no SMI.

mod regs;
mod report;
mod timer;

pub use timer::TIMER_HZ;

use mem::Ns;

use crate::message::{Delivery, Message};
use crate::state::StateError;
use crate::{Alarm, state_fields};

/// Bytes of the register page.
pub const LAPIC_LEN: u64 = 0x1000;
/// IA32_APIC_BASE after reset of the bootstrap processor.
pub const BASE_RESET: u64 = 0xfee0_0900;

/// IA32_APIC_BASE: the APIC is on.
const BASE_ENABLE: u64 = 1 << 11;
/// IA32_APIC_BASE: registers are MSRs, not memory.
const BASE_X2APIC: u64 = 1 << 10;

/// IA32_APIC_BASE: the page's address.
const BASE_ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Spurious-interrupt vector register: the APIC is enabled by software.
const SVR_ENABLE: u32 = 1 << 8;
const SVR_RESET: u32 = 0xff;

const LVT_MASKED: u32 = 1 << 16;
/// LVT of LINT0 after reset: ExtINT, unmasked.
const LINT0_RESET: u32 = 0x700;
const LVT_COUNT: usize = 6;

/// Error status register bits.
const ERROR_SEND_VECTOR: u32 = 1 << 5;
const ERROR_RECEIVE_VECTOR: u32 = 1 << 6;
const ERROR_REGISTER: u32 = 1 << 7;

// Local vector table entries, in the order of their registers; 1 and 2 are thermal and performance.
const LVT_TIMER: usize = 0;
const LVT_LINT0: usize = 3;
const LVT_ERROR: usize = 5;

/// A set of vectors: ISR, TMR or IRR.
type VectorSet = [u32; 8];

fn bit_of(vector: u8) -> (usize, u32) {
    (usize::from(vector >> 5), 1 << (vector & 31))
}

fn highest(set: &VectorSet) -> Option<u8> {
    let (i, word) = set.iter().enumerate().rev().find(|(_, word)| **word != 0)?;
    Some((i as u32 * 32 + 31 - word.leading_zeros()) as u8)
}

fn is_in(set: &VectorSet, vector: u8) -> bool {
    let (i, bit) = bit_of(vector);
    set[i] & bit != 0
}

fn put(set: &mut VectorSet, vector: u8, is_on: bool) {
    let (i, bit) = bit_of(vector);
    set[i] = if is_on { set[i] | bit } else { set[i] & !bit };
}

/// What an interrupt acknowledge gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acknowledge {
    /// This vector.
    Vector(u8),
    /// The vector that the 8259 gives.
    External,
}

/// The APIC. Its outputs are [`intr`](Self::intr) and [`take_nmi`](Self::take_nmi); what it sends
/// waits in [`take_message`](Self::take_message) and [`take_end`](Self::take_end).
pub struct Lapic {
    /// IA32_APIC_BASE; 0 for a processor without local APIC.
    base: u64,
    /// The number the processor has from the board.
    number: u32,
    /// The xAPIC ID register's byte.
    id: u8,
    tpr: u8,
    ldr: u32,
    dfr: u32,
    svr: u32,
    isr: VectorSet,
    tmr: VectorSet,
    irr: VectorSet,
    /// Errors since the status register was last written, and what it shows.
    errors: u32,
    esr: u32,
    icr: u64,
    lvt: [u32; LVT_COUNT],
    initial: u32,
    divide: u32,
    /// When the timer expires next.
    next: Option<Ns>,
    /// IA32_TSC_DEADLINE in the bus's count, 0 if disarmed.
    deadline: u64,
    /// Levels of LINT0 and LINT1.
    lint: [bool; 2],
    nmi: bool,
    /// An ExtINT message waits for its acknowledge.
    external: bool,
    message: Option<Message>,
    /// Vector of a level-triggered interrupt that has ended.
    end: Option<u8>,
    timer: Alarm,
}

state_fields!(
    Lapic,
    1,
    [
        base, id, tpr, ldr, dfr, svr, isr, tmr, irr, errors, esr, icr, lvt, initial, divide, next,
        deadline, lint, nmi, external,
    ]
);

impl Lapic {
    /// The APIC of processor `number`; `timer` must call [`expired`](Self::expired).
    pub fn new(number: u32, timer: Alarm) -> Self {
        let mut lapic = Self {
            base: 0,
            number,
            id: 0,
            tpr: 0,
            ldr: 0,
            dfr: 0,
            svr: 0,
            isr: [0; 8],
            tmr: [0; 8],
            irr: [0; 8],
            errors: 0,
            esr: 0,
            icr: 0,
            lvt: [0; LVT_COUNT],
            initial: 0,
            divide: 0,
            next: None,
            deadline: 0,
            lint: [false; 2],
            nmi: false,
            external: false,
            message: None,
            end: None,
            timer,
        };
        lapic.reset();
        lapic
    }

    /// Back to power-on; the LINT pins keep their levels.
    pub fn reset(&mut self) {
        self.base = BASE_RESET;
        self.clear();
    }

    /// The registers as after power-on.
    fn clear(&mut self) {
        self.id = self.number as u8;
        (self.tpr, self.ldr, self.dfr, self.svr) = (0, 0, u32::MAX, SVR_RESET);
        (self.isr, self.tmr, self.irr) = ([0; 8], [0; 8], [0; 8]);
        (self.errors, self.esr, self.icr) = (0, 0, 0);
        self.lvt = [LVT_MASKED; LVT_COUNT];
        self.lvt[LVT_LINT0] = LINT0_RESET;
        (self.initial, self.divide, self.next, self.deadline) = (0, 0, None, 0);
        (self.nmi, self.external, self.message, self.end) = (false, false, None, None);
        self.arm();
    }

    fn check_state(&mut self) -> Result<(), StateError> {
        (self.message, self.end) = (None, None);
        self.svr &= regs::SVR_WRITABLE;
        for (entry, mask) in self.lvt.iter_mut().zip(regs::LVT_WRITABLE) {
            *entry &= mask;
        }
        self.divide &= 0xb;
        self.arm();
        Ok(())
    }

    /// Takes a new value of IA32_APIC_BASE. Switching the APIC off resets it.
    pub fn set_base(&mut self, base: u64) {
        let old = std::mem::replace(&mut self.base, base);
        if old & BASE_ENABLE != 0 && base & BASE_ENABLE == 0 {
            self.clear();
        }
        if self.is_x2apic() && old & BASE_X2APIC == 0 {
            self.icr &= 0xffff_ffff;
        }
    }

    /// Where the register page is, if registers are in memory.
    pub fn page(&self) -> Option<u64> {
        let is_memory = self.base & (BASE_ENABLE | BASE_X2APIC) == BASE_ENABLE;
        is_memory.then_some(self.base & BASE_ADDRESS)
    }

    fn is_on(&self) -> bool {
        self.base & BASE_ENABLE != 0
    }

    fn is_x2apic(&self) -> bool {
        self.base & BASE_X2APIC != 0
    }

    fn is_enabled(&self) -> bool {
        self.is_on() && self.svr & SVR_ENABLE != 0
    }
}

/// Pins and messages.
impl Lapic {
    /// Drives LINT0 (the 8259s' output) or LINT1 (NMI).
    pub fn set_lint(&mut self, pin: usize, level: bool) {
        let pin = pin & 1;
        let was = std::mem::replace(&mut self.lint[pin], level);
        let rises = level && !was;
        if !self.is_on() {
            // The pins are the processor's INTR and NMI then.
            self.nmi |= pin == 1 && rises;
            return;
        }
        let entry = self.lvt[LVT_LINT0 + pin];
        if !rises || entry & LVT_MASKED != 0 {
            return;
        }
        match Delivery::from_bits(entry >> 8) {
            Delivery::Nmi => self.nmi = true,
            Delivery::Fixed => self.accept(entry as u8, false),
            // ExtINT follows the pin's level.
            _ => {}
        }
    }

    /// Is a message meant for this APIC?
    pub fn is_addressed(&self, message: &Message) -> bool {
        let (to, ldr) = (message.destination, self.logical_id());
        match (message.is_logical, self.is_x2apic()) {
            (false, false) => to & 0xff == 0xff || to == u32::from(self.id),
            (false, true) => to == 0xff || to == u32::MAX || to == self.number,
            (true, true) => to == u32::MAX || (to >> 16 == ldr >> 16 && to & ldr & 0xffff != 0),
            (true, false) => {
                let (to, mine) = (to & 0xff, ldr >> 24);
                let is_flat = self.dfr >> 28 == 0xf;
                let is_cluster = to >> 4 == mine >> 4 || to >> 4 == 0xf;
                if is_flat { to & mine != 0 } else { is_cluster && to & mine & 0xf != 0 }
            }
        }
    }

    /// Takes a message that is meant for this APIC; true if it could be taken.
    pub fn deliver(&mut self, message: &Message) -> bool {
        if !self.is_on() {
            return false;
        }
        match message.delivery {
            Delivery::Fixed | Delivery::LowestPriority => {
                if !self.is_enabled() {
                    return false;
                }
                self.accept(message.vector, message.is_level);
            }
            Delivery::Nmi => self.nmi = true,
            Delivery::ExtInt => self.external = true,
            Delivery::Smi | Delivery::Init | Delivery::StartUp | Delivery::Reserved => {
                log::debug!("interrupt message without effect delivery={:?}", message.delivery);
            }
        }
        true
    }

    /// A message that this APIC sends.
    pub fn take_message(&mut self) -> Option<Message> {
        self.message.take()
    }

    /// The vector of a level-triggered interrupt that has ended, for IOAPICs.
    pub fn take_end(&mut self) -> Option<u8> {
        self.end.take()
    }

    fn accept(&mut self, vector: u8, is_level: bool) {
        if vector < 16 {
            return self.error(ERROR_RECEIVE_VECTOR);
        }
        put(&mut self.irr, vector, true);
        put(&mut self.tmr, vector, is_level);
    }

    /// Raises a local interrupt whose mode may be fixed or NMI.
    fn raise(&mut self, i: usize) {
        let entry = self.lvt[i];
        if entry & LVT_MASKED != 0 || !self.is_enabled() {
            return;
        }
        match Delivery::from_bits(entry >> 8) {
            Delivery::Nmi => self.nmi = true,
            _ => self.accept(entry as u8, false),
        }
    }

    fn error(&mut self, bit: u32) {
        let is_new = self.errors & bit == 0;
        self.errors |= bit;
        // An error interrupt with a bad vector is an error, too, and raises no other.
        if is_new && self.lvt[LVT_ERROR] & 0xf0 != 0 {
            self.raise(LVT_ERROR);
        }
    }
}

/// The processor's side.
impl Lapic {
    /// Has an error been noted since the error register was last written?
    pub fn has_errors(&self) -> bool {
        self.errors != 0
    }

    /// Is an interrupt to be taken?
    pub fn intr(&self) -> bool {
        if !self.is_on() {
            return self.lint[0];
        }
        self.is_external() || (self.is_enabled() && self.pending().is_some())
    }

    /// Acknowledges the interrupt; spurious if there is none any more.
    pub fn acknowledge(&mut self) -> Acknowledge {
        if !self.is_on() {
            return Acknowledge::External;
        }
        if self.is_enabled()
            && let Some(vector) = self.pending()
        {
            put(&mut self.irr, vector, false);
            put(&mut self.isr, vector, true);
            return Acknowledge::Vector(vector);
        }
        if self.is_external() {
            self.external = false;
            return Acknowledge::External;
        }
        Acknowledge::Vector(self.svr as u8)
    }

    /// Takes a pending NMI.
    pub fn take_nmi(&mut self) -> bool {
        std::mem::take(&mut self.nmi)
    }

    /// Is an NMI pending?
    pub fn has_nmi(&self) -> bool {
        self.nmi
    }

    /// CR8: the upper half of the task priority.
    pub fn task_priority(&self) -> u8 {
        self.tpr >> 4
    }

    /// Writes CR8.
    pub fn set_task_priority(&mut self, class: u8) {
        self.tpr = class << 4;
    }

    fn is_external(&self) -> bool {
        let entry = self.lvt[LVT_LINT0];
        let is_through = Delivery::from_bits(entry >> 8) == Delivery::ExtInt;
        self.external || (self.lint[0] && is_through && entry & LVT_MASKED == 0)
    }

    /// The processor priority.
    fn ppr(&self) -> u8 {
        let serving = highest(&self.isr).unwrap_or(0) & 0xf0;
        if self.tpr & 0xf0 >= serving { self.tpr } else { serving }
    }

    /// The interrupt that would be acknowledged.
    fn pending(&self) -> Option<u8> {
        highest(&self.irr).filter(|vector| vector & 0xf0 > self.ppr() & 0xf0)
    }

    fn end_of_interrupt(&mut self) {
        let Some(vector) = highest(&self.isr) else { return };
        put(&mut self.isr, vector, false);
        if is_in(&self.tmr, vector) {
            self.end = Some(vector);
        }
    }
}

#[cfg(test)]
mod tests;
