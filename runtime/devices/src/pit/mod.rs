//! The 8254 programmable interval timer: three counters, six modes, latch and read-back.
//!
//! Source: Intel 8254 datasheet (order 231164). Nothing counts here: a counter remembers when its
//! current run began and derives value and output from the virtual time. Counter 0's output is a
//! wire, with an alarm at each rising edge; counter 1 (refresh) and 2 (speaker) are asked. Edges
//! missed while virtual time jumped are merged into one.

mod counter;

use mem::{Ns, PortDevice, Size};

use counter::Counter;

use crate::state::StateError;
use crate::{Alarm, Wire, state_fields};

/// Input clock in hertz: 14.318 MHz / 12.
pub const PIT_HZ: u64 = 1_193_182;

/// Input clock ticks until `ns`.
fn ticks_at(ns: Ns) -> u64 {
    (u128::from(ns) * u128::from(PIT_HZ) / 1_000_000_000) as u64
}

/// The first nanosecond at which `ticks` ticks have passed.
fn ns_of(ticks: u64) -> Ns {
    (u128::from(ticks) * 1_000_000_000).div_ceil(u128::from(PIT_HZ)) as Ns
}

/// The chip. Port offsets 0–2 are the counters, 3 the control word.
pub struct Pit {
    counters: [Counter; 3],
    /// Rising edges of OUT 0 already given to the wire in the current run.
    seen_rises: u64,
    timer: Alarm,
    out0: Wire,
}

state_fields!(Pit, 2, [counters, seen_rises]);

impl Pit {
    /// A timer whose counter 0 drives `out0`; `timer` must call [`expired`](Self::expired).
    pub fn new(timer: Alarm, out0: Wire) -> Self {
        let mut pit = Self { counters: Default::default(), seen_rises: 0, timer, out0 };
        pit.reset();
        pit
    }

    /// Back to power-on. The datasheet leaves the state undefined; all counters stand still.
    pub fn reset(&mut self) {
        self.counters = [Counter::new(true), Counter::new(true), Counter::new(false)];
        self.seen_rises = 0;
        self.out0.set(false);
        self.timer.arm(None);
    }

    fn check_state(&mut self) -> Result<(), StateError> {
        self.out0.set(self.counters[0].out(self.now()));
        self.arm();
        Ok(())
    }

    /// The gate input of counter 2.
    pub fn set_gate2(&mut self, gate: bool) {
        let now = self.now();
        self.counters[2].set_gate(gate, now);
    }

    /// The level of counter 2's output.
    pub fn out2(&mut self) -> bool {
        let now = self.now();
        self.counters[2].sync(now);
        self.counters[2].out(now)
    }

    /// The alarm: OUT 0 has risen.
    pub fn expired(&mut self) {
        self.update0();
    }

    fn now(&self) -> u64 {
        ticks_at(self.timer.now())
    }

    /// Gives counter 0's edges up to now to the wire, and arms the alarm for the next.
    fn update0(&mut self) {
        let now = self.now();
        let counter = &mut self.counters[0];
        let rises = counter.rises(now);
        if rises > self.seen_rises {
            self.out0.set(false);
            self.out0.set(true);
            self.seen_rises = rises;
        }
        if counter.null_count {
            counter.sync(now);
            self.seen_rises = counter.rises(now);
        }
        self.arm();
    }

    fn arm(&mut self) {
        let next = self.counters[0].next_rise(self.now());
        self.timer.arm(next.map(ns_of));
    }

    fn write_control(&mut self, value: u8, now: u64) {
        let select = usize::from(value >> 6);
        if select == 3 {
            for (i, counter) in self.counters.iter_mut().enumerate() {
                if value & (2 << i) != 0 {
                    // Active low: bit 5 latches the count, bit 4 the status.
                    if value & 0x20 == 0 {
                        counter.latch_count(now);
                    }
                    if value & 0x10 == 0 {
                        counter.latch_status(now);
                    }
                }
            }
        } else if value & 0x30 == 0 {
            self.counters[select].latch_count(now);
        } else {
            self.counters[select].set_mode(value);
            if select == 0 {
                self.restarted0();
            }
        }
    }

    /// Counter 0 was given a mode or its first count: its output jumps.
    fn restarted0(&mut self) {
        let now = self.now();
        self.seen_rises = self.counters[0].rises(now);
        self.out0.set(self.counters[0].out(now));
        self.arm();
    }
}

impl PortDevice for Pit {
    fn port_read(&mut self, offset: u16, _size: Size) -> u64 {
        let now = self.now();
        match self.counters.get_mut(usize::from(offset)) {
            Some(counter) => {
                counter.sync(now);
                u64::from(counter.read(now))
            }
            None => 0xff,
        }
    }

    fn port_write(&mut self, offset: u16, _size: Size, value: u64) {
        let now = self.now();
        self.update0();
        self.counters.iter_mut().for_each(|counter| counter.sync(now));
        let Some(counter) = self.counters.get_mut(usize::from(offset)) else {
            return self.write_control(value as u8, now);
        };
        let run = (counter.start, counter.count);
        counter.write(value as u8, now);
        if offset == 0 && run != (counter.start, counter.count) {
            self.restarted0();
        }
    }
}

#[cfg(test)]
mod tests;
