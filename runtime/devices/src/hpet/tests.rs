//! Tests of the HPET.

use super::*;
use crate::State;
use crate::testing::{FakeTimer, FakeWire};

struct Bench {
    hpet: Hpet,
    timer: FakeTimer,
    out: [FakeWire; TIMERS],
}

impl Bench {
    fn new() -> Self {
        let (timer, out) = (FakeTimer::default(), [(); TIMERS].map(|()| FakeWire::default()));
        let hpet = Hpet::new(timer.boxed(), out.each_ref().map(FakeWire::boxed));
        Self { hpet, timer, out }
    }
    fn write(&mut self, at: u64, value: u64) {
        self.hpet.mmio_write(at, Size::B8, value);
    }
    fn read(&mut self, at: u64) -> u64 {
        self.hpet.mmio_read(at, Size::B8)
    }
    fn run_to(&mut self, ns: Ns) {
        let hpet = &mut self.hpet;
        self.timer.run_to(ns, || hpet.expired());
    }
}

#[test]
fn identity_and_counter() {
    let mut b = Bench::new();
    assert_eq!(b.read(0), 0x0098_9680_8086_a201);
    assert_eq!(b.hpet.mmio_read(4, Size::B4), 10_000_000, "femtoseconds a tick");
    assert_eq!(b.read(0x100) & 0x8030, 0x30, "periodic and 64 bits, no FSB delivery");
    b.timer.set_now(1000);
    assert_eq!(b.read(0xf0), 0, "it stands");
    b.write(0x10, 1);
    b.timer.set_now(2000);
    assert_eq!(b.read(0xf0), 100);
    b.write(0x10, 0);
    b.timer.set_now(5000);
    assert_eq!(b.read(0xf0), 100);
    b.hpet.mmio_write(0xf4, Size::B4, 1);
    assert_eq!(b.read(0xf0), 1 << 32 | 100);
    b.hpet.mmio_write(0xf0, Size::B2, 7);
    assert_eq!(b.read(0xf0), 1 << 32 | 100, "no narrow writes");
    assert_eq!((b.read(0x3f8), b.read(0x110), b.read(0x160)), (0, 0, 0));
}

#[test]
fn one_shot_edge() {
    let mut b = Bench::new();
    b.write(0x10, 1);
    b.write(0x120, INT_ENABLE);
    b.write(0x128, 50);
    b.run_to(499);
    assert_eq!(b.out[1].rises(), 0);
    b.run_to(10_000);
    assert_eq!((b.out[1].rises(), b.out[1].level()), (1, false));
    assert_eq!(b.timer.deadline(), None);
    b.write(0x128, 40);
    b.run_to(20_000);
    assert_eq!(b.out[1].rises(), 1, "passed: next after the counter's wrap");
    b.write(0x120, INT_ENABLE | MODE_32);
    b.run_to(20_000 + 10 * (1 << 32));
    assert_eq!(b.out[1].rises(), 2, "which 32 bits reach");
}

#[test]
fn periodic_as_systems_start_it() {
    let mut b = Bench::new();
    b.write(0x10, 1);
    b.timer.set_now(1000);
    b.write(0x100, INT_ENABLE | PERIODIC | VALUE_SET | MODE_32);
    b.write(0x108, 200);
    b.write(0x108, 30);
    b.run_to(2000);
    assert_eq!(b.out[0].rises(), 1);
    b.run_to(2000 + 9 * 300);
    assert_eq!((b.out[0].rises(), b.read(0x108)), (10, 500));
    b.timer.set_now(1_000_000);
    b.hpet.expired();
    assert_eq!(b.out[0].rises(), 11, "missed matches are merged");
    assert!(b.timer.deadline().unwrap() > 1_000_000);
    b.write(0x100, INT_ENABLE | PERIODIC | VALUE_SET);
    b.hpet.mmio_write(0x108, Size::B4, 0x10);
    b.hpet.mmio_write(0x10c, Size::B4, 0x20);
    assert_eq!(b.read(0x108), 0x20_0000_0010, "both halves set the comparator");
}

#[test]
fn levels_stay_until_cleared() {
    let mut b = Bench::new();
    b.write(0x10, 3);
    assert!(b.hpet.is_legacy());
    b.write(0x140, INT_ENABLE | LEVEL | 20 << 9);
    assert_eq!(b.hpet.route(2), 20);
    b.write(0x148, 5);
    b.run_to(100);
    assert!(b.out[2].level());
    assert_eq!(b.read(0x20), 4);
    b.write(0x20, 4);
    assert!(!b.out[2].level());
    b.write(0x148, 20);
    b.run_to(300);
    let saved = b.hpet.save();
    b.hpet.reset();
    assert!(!b.out[2].level() && !b.hpet.is_legacy());
    b.hpet.load(&saved).unwrap();
    assert!(b.out[2].level());
    assert_eq!(b.hpet.save(), saved);
}

#[test]
fn hostile_writes_do_no_harm() {
    let mut b = Bench::new();
    let mut seed = 1u64;
    for i in 0..20_000u64 {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let at = seed >> 33 & 0x3ff;
        let value = match seed >> 50 & 3 {
            0 => u64::MAX,
            1 => seed >> 40 & 0xff,
            _ => seed,
        };
        match seed >> 61 {
            0 => b.timer.set_now(i << (seed >> 40 & 15)),
            1 => b.hpet.expired(),
            2 => drop(b.hpet.mmio_read(at, Size::B4)),
            3 => b.hpet.mmio_write(at & !3, Size::B4, value),
            4 => b.write(0x10, 1),
            _ => b.write(at & !7, value),
        }
    }
}
