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

state_fields!(Pit, 1, [counters, seen_rises]);

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
        if counter.null_count && rises > 0 {
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
mod tests {
    use super::*;
    use crate::State;
    use crate::testing::{FakeTimer, FakeWire};

    struct Bench {
        pit: Pit,
        timer: FakeTimer,
        irq: FakeWire,
    }

    impl Bench {
        fn new() -> Self {
            let (timer, irq) = (FakeTimer::default(), FakeWire::default());
            Self { pit: Pit::new(timer.boxed(), irq.boxed()), timer, irq }
        }
        fn out(&mut self, offset: u16, value: u64) {
            self.pit.port_write(offset, Size::B1, value);
        }
        fn read16(&mut self, offset: u16) -> u64 {
            let low = self.pit.port_read(offset, Size::B1);
            self.pit.port_read(offset, Size::B1) << 8 | low
        }
        fn tick_to(&mut self, ticks: u64) {
            let pit = &mut self.pit;
            self.timer.run_to(ns_of(ticks), || pit.expired());
        }
    }

    #[test]
    fn mode_2_ticks_at_its_rate() {
        let mut b = Bench::new();
        b.out(3, 0x34);
        b.out(0, 0);
        b.out(0, 0);
        let before = b.irq.rises();
        b.tick_to(10 * 0x10000 + 10);
        assert_eq!(b.irq.rises() - before, 10);
        b.out(3, 0);
        assert_eq!(b.read16(0), 0x10000 - 9);
    }

    #[test]
    fn jumps_merge_ticks() {
        let mut b = Bench::new();
        b.out(3, 0x34);
        b.out(0, 2);
        b.out(0, 0);
        let before = b.irq.rises();
        b.timer.set_now(1_000_000_000);
        b.pit.expired();
        assert_eq!(b.irq.rises() - before, 1);
        assert!(b.timer.deadline().unwrap() > 1_000_000_000);
    }

    #[test]
    fn mode_0_interrupts_once() {
        let mut b = Bench::new();
        b.out(3, 0x30);
        assert!(!b.irq.level());
        b.out(0, 100);
        b.out(0, 0);
        b.tick_to(100);
        assert!(!b.irq.level());
        b.tick_to(101);
        assert!(b.irq.level());
        b.tick_to(200_000);
        assert_eq!(b.irq.rises(), 1);
        b.out(3, 0xc2);
        assert_eq!(b.pit.port_read(0, Size::B1), 0xb0, "status: OUT high, access 3, mode 0");
    }

    #[test]
    fn counter_2_gate_and_out() {
        let mut b = Bench::new();
        b.out(3, 0xb0);
        b.out(2, 0x10);
        b.out(2, 0);
        b.tick_to(50);
        assert!(!b.pit.out2(), "the gate is low: it does not count");
        b.pit.set_gate2(true);
        b.tick_to(65);
        assert!(!b.pit.out2());
        b.tick_to(66);
        assert!(b.pit.out2());
        b.out(3, 0x80);
        b.tick_to(70);
        assert_eq!(b.read16(2), 0, "latched at terminal count");
        assert_eq!(b.read16(2), 0xfffc, "mode 0 counts on");
    }

    #[test]
    fn mode_3_square_and_mode_1_one_shot() {
        let mut b = Bench::new();
        b.pit.set_gate2(true);
        b.out(3, 0xb6);
        b.out(2, 10);
        b.out(2, 0);
        let levels: Vec<bool> = (1..=12)
            .map(|t| {
                b.tick_to(t);
                b.pit.out2()
            })
            .collect();
        let expect = [1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 1, 1].map(|x| x == 1);
        assert_eq!(levels, expect);
        b.out(3, 0xb2);
        b.out(2, 5);
        b.out(2, 0);
        assert!(b.pit.out2());
        b.pit.set_gate2(false);
        b.pit.set_gate2(true);
        b.tick_to(14);
        assert!(!b.pit.out2());
        b.tick_to(18);
        assert!(b.pit.out2());
    }

    #[test]
    fn mode_4_strobes_and_mode_5_waits_for_its_gate() {
        let mut b = Bench::new();
        let levels = |b: &mut Bench, from: u64| -> Vec<u64> {
            (from..from + 5)
                .map(|t| {
                    b.tick_to(t);
                    u64::from(b.pit.out2())
                })
                .collect()
        };
        b.pit.set_gate2(true);
        b.out(3, 0x98);
        b.out(2, 3);
        assert_eq!(levels(&mut b, 1), [1, 1, 1, 0, 1]);
        b.out(3, 0x9a);
        b.out(2, 3);
        assert_eq!(levels(&mut b, 10), [1; 5], "not triggered");
        b.pit.set_gate2(false);
        b.pit.set_gate2(true);
        assert_eq!(levels(&mut b, 15), [1, 1, 1, 0, 1]);
        b.pit.set_gate2(false);
        b.pit.set_gate2(true);
        b.tick_to(21);
        b.pit.set_gate2(false);
        b.pit.set_gate2(true);
        assert_eq!(levels(&mut b, 22), [1, 1, 1, 0, 1], "a new edge starts again");
    }

    #[test]
    fn read_back_latches_count_and_status_of_several() {
        let mut b = Bench::new();
        b.pit.set_gate2(true);
        b.out(3, 0x36);
        b.out(0, 100);
        assert_eq!(b.pit.port_read(3, Size::B1), 0xff, "the control word cannot be read");
        b.out(3, 0xe2);
        assert_eq!(b.pit.port_read(0, Size::B1), 0xf6, "OUT high, null count, mode 3");
        b.out(0, 0);
        b.out(3, 0x94);
        b.out(2, 50);
        b.tick_to(11);
        b.out(3, 0xca);
        b.tick_to(31);
        assert_eq!(b.pit.port_read(2, Size::B1), 0x94, "status comes first");
        assert_eq!(b.pit.port_read(2, Size::B1), 40, "then the latched count");
        assert_eq!(b.pit.port_read(2, Size::B1), 20, "then the running one");
        assert_eq!(b.pit.port_read(0, Size::B1), 0xb6, "no null count any more");
        assert_eq!(b.read16(0), 80, "mode 3 counts by two");
    }

    #[test]
    fn a_new_period_starts_after_the_old_one() {
        let mut b = Bench::new();
        b.out(3, 0x34);
        b.out(0, 100);
        b.out(0, 0);
        b.tick_to(50);
        b.out(0, 10);
        b.out(0, 0);
        b.tick_to(100);
        assert_eq!(b.irq.rises(), 1, "high since the control word");
        b.tick_to(101);
        assert_eq!(b.irq.rises(), 2);
        b.tick_to(121);
        assert_eq!(b.irq.rises(), 4);
    }

    #[test]
    fn bcd_counts() {
        let mut b = Bench::new();
        b.pit.set_gate2(true);
        b.out(3, 0xb1);
        b.out(2, 0x00);
        b.out(2, 0x10);
        b.tick_to(2);
        assert_eq!(b.read16(2), 0x0999);
    }

    #[test]
    fn hostile_writes_do_no_harm() {
        let mut b = Bench::new();
        let mut seed = 1u64;
        for i in 0..20_000u64 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let (port, value) = ((seed >> 33) as u16 % 4, seed >> 40 & 0xff);
            match seed >> 60 {
                0..4 => drop(b.pit.port_read(port, Size::B1)),
                4 => b.pit.set_gate2(value & 1 != 0),
                5 => b.timer.set_now(i * 10_000),
                6 => b.pit.expired(),
                _ => b.out(port, value),
            }
        }
        let saved = b.pit.save();
        b.pit.load(&saved).unwrap();
        assert_eq!(b.pit.save(), saved);
    }
}
