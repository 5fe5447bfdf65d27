//! The timer by its datasheet: modes, gates, latches, BCD.

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
fn in_mode_3_a_new_count_waits_for_half_a_period() {
    let mut b = Bench::new();
    b.pit.set_gate2(true);
    for (counter, control) in [(0, 0x16), (2, 0x96)] {
        b.out(3, control);
        b.out(counter, 20);
    }
    b.tick_to(4);
    b.out(0, 6);
    b.out(2, 6);
    b.out(3, 0xe8);
    assert_eq!(b.pit.port_read(2, Size::B1), 0xd6, "it waits");
    // The run began at tick 1: high until 11, then 3 low, 3 high, 3 low ...
    let level = |t| (1..11).contains(&t) || (t >= 14 && (t - 14) % 6 < 3);
    for t in 5..40 {
        b.tick_to(t);
        assert_eq!(b.pit.out2(), level(t), "tick {t}");
    }
    b.out(3, 0xe8);
    assert_eq!(b.pit.port_read(2, Size::B1) & 0x40, 0, "it is taken");
    assert_eq!(b.irq.rises(), 1 + 5, "at 14, 20, 26, 32, 38");
}

#[test]
fn mode_3_reads_even_numbers() {
    let mut b = Bench::new();
    b.pit.set_gate2(true);
    b.out(3, 0x96);
    b.out(2, 5);
    let values: Vec<u64> = (1..=10)
        .map(|t| {
            b.tick_to(t);
            b.pit.port_read(2, Size::B1)
        })
        .collect();
    // High for three ticks, low for two.
    assert_eq!(values, [4, 2, 0, 4, 2, 4, 2, 0, 4, 2]);
}

#[test]
fn a_gate_starts_nothing_without_a_count() {
    let mut b = Bench::new();
    for mode in [0x92, 0x94, 0x96, 0x9a] {
        b.out(3, mode);
        b.pit.set_gate2(false);
        b.pit.set_gate2(true);
        b.tick_to(100);
        assert!(b.pit.out2(), "{mode:#x}");
    }
    // Mode 2: a low gate holds OUT high, the rising edge begins anew.
    b.out(3, 0x94);
    b.out(2, 4);
    b.pit.set_gate2(false);
    b.tick_to(150);
    assert!(b.pit.out2());
    b.pit.set_gate2(true);
    let low: Vec<u64> = (151..160)
        .filter(|&t| {
            b.tick_to(t);
            !b.pit.out2()
        })
        .collect();
    assert_eq!(low, [154, 158]);
}

#[test]
fn a_one_shot_takes_a_new_count_at_its_next_trigger() {
    let mut b = Bench::new();
    b.out(3, 0x92);
    b.out(2, 5);
    b.pit.set_gate2(true);
    b.tick_to(3);
    b.out(2, 20);
    b.out(3, 0xe8);
    assert_eq!(b.pit.port_read(2, Size::B1) & 0xc0, 0x40, "OUT low, the count waits");
    b.tick_to(6);
    assert!(b.pit.out2(), "after the old count");
    b.pit.set_gate2(false);
    b.pit.set_gate2(true);
    b.tick_to(26);
    assert!(!b.pit.out2());
    b.tick_to(27);
    assert!(b.pit.out2(), "after the new one");
}

#[test]
fn bytes_by_each_access_mode_and_a_latch_between_them() {
    let mut b = Bench::new();
    b.pit.set_gate2(true);
    // Low byte only, high byte only.
    b.out(3, 0x98);
    b.out(2, 0x34);
    b.tick_to(1);
    assert_eq!(b.pit.port_read(2, Size::B1), 0x34);
    b.out(3, 0xa8);
    b.out(2, 0x12);
    b.tick_to(2);
    assert_eq!(b.pit.port_read(2, Size::B1), 0x12);
    // Both: a latch holds both bytes; a second latch before they are read changes nothing.
    b.out(3, 0xb8);
    b.out(2, 0x00);
    b.out(2, 0x12);
    b.tick_to(3);
    b.out(3, 0x80);
    b.tick_to(103);
    b.out(3, 0x80);
    assert_eq!((b.read16(2), b.read16(2)), (0x1200, 0x1200 - 100));
}

#[test]
fn mode_0_stops_between_two_bytes() {
    let mut b = Bench::new();
    b.out(3, 0x30);
    b.out(0, 10);
    b.out(0, 0);
    b.tick_to(5);
    b.out(0, 20);
    b.tick_to(100);
    assert!(!b.irq.level(), "disabled by the first byte");
    b.out(0, 0);
    b.tick_to(120);
    assert!(!b.irq.level());
    b.tick_to(121);
    assert!(b.irq.level());
}

#[test]
fn bcd_counts_wrap_at_ten_thousand() {
    let mut b = Bench::new();
    b.pit.set_gate2(true);
    b.out(3, 0xb1);
    b.out(2, 0x02);
    b.out(2, 0x00);
    b.tick_to(4);
    assert!(b.pit.out2());
    assert_eq!(b.read16(2), 0x9999);
    // Zero is the largest count; mode 2 goes from 1 to it.
    b.out(3, 0xb5);
    b.out(2, 0);
    b.out(2, 0);
    b.tick_to(5);
    assert_eq!(b.read16(2), 0, "10,000");
    b.tick_to(6);
    assert_eq!(b.read16(2), 0x9999);
    b.tick_to(5 + 9_999);
    assert_eq!(b.read16(2), 1);
    assert!(!b.pit.out2());
    b.tick_to(5 + 10_000);
    assert!(b.pit.out2());
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
