//! High precision event timers: a 64-bit counter at 100 MHz and three comparators.
//!
//! Source: Intel, "IA-PC HPET (High Precision Event Timers) Specification", revision 1.0a. Nothing
//! counts: the counter is an offset to virtual time, each timer knows when it matches next, and one
//! alarm wakes the chip at the earliest match that can be seen. Matches missed while virtual time
//! jumped are merged into one. Where an output leads (legacy routing, IOAPIC input) the board asks.

use mem::{MmioDevice, Ns, Size};

use crate::state::StateError;
use crate::{Alarm, Wire, state_fields};

/// Comparators.
pub const TIMERS: usize = 3;
/// Bytes of the register block.
pub const HPET_LEN: u64 = 0x400;

/// One tick of the counter.
const TICK_NS: Ns = 10;
/// Revision 1, three timers, 64 bits, legacy routing, vendor 8086h; the period in femtoseconds.
const CAPABILITIES: u64 = 0x0098_9680_8086_a201;

// Register offsets.
const GENERAL_CAPABILITIES: u64 = 0x000;
const GENERAL_CONFIG: u64 = 0x010;
const INTERRUPT_STATUS: u64 = 0x020;
const MAIN_COUNTER: u64 = 0x0f0;
const TIMER0: u64 = 0x100;
const TIMER_STRIDE: u64 = 0x20;

// General configuration bits.
const ENABLE: u64 = 1;
const LEGACY: u64 = 2;

// Timer configuration bits.
const LEVEL: u64 = 1 << 1;
const INT_ENABLE: u64 = 1 << 2;
const PERIODIC: u64 = 1 << 3;
const VALUE_SET: u64 = 1 << 6;
const MODE_32: u64 = 1 << 8;
const CONFIG_WRITABLE: u64 = 0x3f4e;
/// Periodic mode and 64 bits are there; inputs 2, 8 and 16–23 of the IOAPIC can be chosen.
const CONFIG_FIXED: u64 = 0x00ff_0104 << 32 | 0x30;

/// One comparator.
#[derive(Debug, Default)]
struct Comparator {
    config: u64,
    comparator: u64,
    period: u64,
    /// The count of ticks since power-on at which it matches next, while the counter runs.
    next: Option<u64>,
}

state_fields!(Comparator, 1, [config, comparator, period, next]);

/// The chip.
pub struct Hpet {
    config: u64,
    status: u64,
    /// The counter's value while it stands; while it runs, what is added to the ticks since power-on.
    counter: u64,
    timers: [Comparator; TIMERS],
    outputs: [Wire; TIMERS],
    timer: Alarm,
}

state_fields!(Hpet, 1, [config, status, counter, timers]);

impl Comparator {
    fn check_state(&mut self) -> Result<(), StateError> {
        self.config &= CONFIG_WRITABLE;
        Ok(())
    }

    fn mask(&self) -> u64 {
        if self.config & MODE_32 != 0 { 0xffff_ffff } else { u64::MAX }
    }

    fn is_periodic(&self) -> bool {
        self.config & PERIODIC != 0 && self.period & self.mask() != 0
    }

    /// Finds the next match when the counter is `offset` ahead of the ticks since power-on, `now`.
    fn aim(&mut self, now: u64, offset: u64) {
        let left = self.comparator.wrapping_sub(now.wrapping_add(offset)) & self.mask();
        self.next = now.checked_add(left);
    }

    /// Did it match by `now`? Goes on to the match after that.
    fn pass(&mut self, now: u64) -> bool {
        let Some(at) = self.next.filter(|&at| at <= now) else { return false };
        let wrap = match self.is_periodic() {
            true => self.period & self.mask(),
            false if self.config & MODE_32 != 0 => 1 << 32,
            false => {
                self.next = None;
                return true;
            }
        };
        let step = (now - at) / wrap + 1;
        self.next = step.checked_mul(wrap).and_then(|ahead| at.checked_add(ahead));
        if self.is_periodic() {
            let moved = self.comparator.wrapping_add(step.wrapping_mul(wrap));
            self.comparator = moved & self.mask();
        }
        true
    }

    /// Writes `value` in the bits of `bits` to the comparator register.
    fn write(&mut self, value: u64, bits: u64) {
        let merge = |old: u64| old & !bits | value & bits;
        if self.config & PERIODIC == 0 || self.config & VALUE_SET != 0 {
            self.comparator = merge(self.comparator) & self.mask();
        }
        self.period = merge(self.period);
        if bits >> 32 != 0 || self.config & MODE_32 != 0 {
            self.config &= !VALUE_SET;
        }
    }
}

impl Hpet {
    /// The timers with their outputs; `timer` must call [`expired`](Self::expired).
    pub fn new(timer: Alarm, outputs: [Wire; TIMERS]) -> Self {
        let mut hpet =
            Self { config: 0, status: 0, counter: 0, timers: Default::default(), outputs, timer };
        hpet.reset();
        hpet
    }

    /// Back to power-on: the counter stands at 0.
    pub fn reset(&mut self) {
        (self.config, self.status, self.counter) = (0, 0, 0);
        self.timers = Default::default();
        for timer in &mut self.timers {
            timer.comparator = u64::MAX;
        }
        self.update();
    }

    fn check_state(&mut self) -> Result<(), StateError> {
        self.config &= ENABLE | LEGACY;
        self.status &= (1 << TIMERS) - 1;
        self.aim_all();
        self.update();
        Ok(())
    }

    /// Do timers 0 and 1 take the place of the 8254 and the real-time clock?
    pub fn is_legacy(&self) -> bool {
        self.config & LEGACY != 0
    }

    /// The IOAPIC input that timer `i` is routed to.
    pub fn route(&self, i: usize) -> u8 {
        self.timers.get(i).map_or(0, |timer| (timer.config >> 9 & 31) as u8)
    }

    /// The alarm: some timer matches.
    pub fn expired(&mut self) {
        self.sync();
        self.update();
    }

    fn is_running(&self) -> bool {
        self.config & ENABLE != 0
    }

    /// Ticks since power-on.
    fn ticks(&self) -> u64 {
        self.timer.now() / TICK_NS
    }

    fn count(&self) -> u64 {
        if self.is_running() { self.counter.wrapping_add(self.ticks()) } else { self.counter }
    }

    /// Raises what has matched since the last look.
    fn sync(&mut self) {
        let now = self.ticks();
        for (i, timer) in self.timers.iter_mut().enumerate() {
            if !timer.pass(now) {
                continue;
            }
            if timer.config & LEVEL != 0 {
                self.status |= 1 << i;
            } else if timer.config & INT_ENABLE != 0 {
                self.outputs[i].set(true);
                self.outputs[i].set(false);
            }
        }
    }

    fn aim_all(&mut self) {
        let (now, counter, is_running) = (self.ticks(), self.counter, self.is_running());
        for timer in &mut self.timers {
            match is_running {
                true => timer.aim(now, counter),
                false => timer.next = None,
            }
        }
    }

    /// Drives the level-triggered outputs and arms the alarm.
    fn update(&mut self) {
        let mut next = None::<u64>;
        for (i, timer) in self.timers.iter().enumerate() {
            let is_enabled = timer.config & INT_ENABLE != 0;
            self.outputs[i]
                .set(is_enabled && timer.config & LEVEL != 0 && self.status >> i & 1 != 0);
            if let Some(at) = timer.next.filter(|_| is_enabled) {
                next = Some(next.map_or(at, |first| first.min(at)));
            }
        }
        self.timer.arm(next.map(|at| at.saturating_mul(TICK_NS)));
    }

    fn read(&mut self, register: u64) -> u64 {
        match register {
            GENERAL_CAPABILITIES => CAPABILITIES,
            GENERAL_CONFIG => self.config,
            INTERRUPT_STATUS => self.status,
            MAIN_COUNTER => self.count(),
            _ => match timer_register(register) {
                Some((i, 0)) => self.timers[i].config | CONFIG_FIXED,
                Some((i, 8)) => self.timers[i].comparator,
                _ => 0,
            },
        }
    }

    /// Writes the bits of `bits` of a register.
    fn write(&mut self, register: u64, value: u64, bits: u64) {
        let merge = |old: u64| old & !bits | value & bits;
        match register {
            GENERAL_CONFIG => {
                let count = self.count();
                self.config = merge(self.config) & (ENABLE | LEGACY);
                self.set_count(count);
            }
            INTERRUPT_STATUS => self.status &= !(value & bits),
            MAIN_COUNTER => self.set_count(merge(self.count())),
            _ => {
                let Some((i, at)) = timer_register(register) else { return };
                let (now, counter, is_running) = (self.ticks(), self.counter, self.is_running());
                let timer = &mut self.timers[i];
                match at {
                    0 => timer.config = merge(timer.config) & CONFIG_WRITABLE,
                    8 => timer.write(value, bits),
                    _ => return,
                }
                if timer.config & LEVEL == 0 {
                    self.status &= !(1 << i);
                }
                if is_running {
                    timer.aim(now, counter);
                }
            }
        }
    }

    fn set_count(&mut self, count: u64) {
        self.counter = if self.is_running() { count.wrapping_sub(self.ticks()) } else { count };
        self.aim_all();
    }
}

/// The timer and the offset of a register in its block.
fn timer_register(register: u64) -> Option<(usize, u64)> {
    let at = register.checked_sub(TIMER0)?;
    let i = (at / TIMER_STRIDE) as usize;
    (i < TIMERS).then_some((i, at % TIMER_STRIDE))
}

/// Aligned accesses of 32 or 64 bits; narrower ones read their part and write nothing.
impl MmioDevice for Hpet {
    fn mmio_read(&mut self, offset: u64, size: Size) -> u64 {
        self.sync();
        let value = self.read(offset & !7) >> (8 * (offset & 7));
        self.update();
        value & size.mask()
    }

    fn mmio_write(&mut self, offset: u64, size: Size, value: u64) {
        let shift = 8 * (offset & 7);
        if size < Size::B4 || !offset.is_multiple_of(size.bytes()) {
            return;
        }
        self.sync();
        self.write(offset & !7, value << shift, size.mask() << shift);
        self.update();
    }
}

#[cfg(test)]
mod tests;
