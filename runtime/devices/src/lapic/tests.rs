//! Tests of the local APIC.

use mem::{MmioDevice, Size};

use super::*;
use crate::State;
use crate::testing::FakeTimer;

fn lapic() -> (Lapic, FakeTimer) {
    let timer = FakeTimer::default();
    let mut lapic = Lapic::new(0, timer.boxed());
    set(&mut lapic, 0xf0, 0x1ff);
    (lapic, timer)
}

fn set(l: &mut Lapic, at: u64, value: u64) {
    l.mmio_write(at, Size::B4, value);
}

fn get(l: &mut Lapic, at: u64) -> u64 {
    l.mmio_read(at, Size::B4)
}

fn fixed(vector: u8, is_level: bool) -> Message {
    Message { destination: 0, is_logical: false, delivery: Delivery::Fixed, vector, is_level }
}

fn take(l: &mut Lapic) -> Option<u8> {
    match l.intr().then(|| l.acknowledge()) {
        Some(Acknowledge::Vector(v)) => Some(v),
        _ => None,
    }
}

#[test]
fn power_on() {
    let mut l = Lapic::new(0, FakeTimer::default().boxed());
    assert_eq!(l.page(), Some(0xfee0_0000));
    assert_eq!((get(&mut l, 0x20), get(&mut l, 0x30)), (0, 0x0005_0014));
    assert_eq!((get(&mut l, 0xe0), get(&mut l, 0xf0)), (0xffff_ffff, 0xff));
    assert_eq!((get(&mut l, 0x320), get(&mut l, 0x350)), (0x1_0000, 0x700));
    assert!(!l.deliver(&fixed(0x40, false)), "not enabled by software");
    l.set_lint(0, true);
    assert!(l.intr());
    assert_eq!(l.acknowledge(), Acknowledge::External, "the 8259 reaches the processor");
    l.set_lint(0, false);
    assert!(!l.intr());
    set(&mut l, 0x320, 0x20);
    assert_eq!(get(&mut l, 0x320), 0x1_0020, "the mask is forced");
}

#[test]
fn priorities() {
    let (mut l, _) = lapic();
    for vector in [0x41, 0x52, 0x45] {
        l.deliver(&fixed(vector, false));
    }
    assert_eq!(take(&mut l), Some(0x52));
    assert_eq!(
        (get(&mut l, 0xa0), take(&mut l)),
        (0x50, None),
        "the class in service holds others off"
    );
    l.deliver(&fixed(0x61, false));
    assert_eq!(take(&mut l), Some(0x61));
    set(&mut l, 0xb0, 0);
    set(&mut l, 0xb0, 0);
    assert_eq!(take(&mut l), Some(0x45));
    set(&mut l, 0xb0, 0);
    l.set_task_priority(4);
    assert_eq!((get(&mut l, 0x80), take(&mut l)), (0x40, None));
    l.set_task_priority(3);
    assert_eq!(get(&mut l, 0x220), 0x2, "IRR of 41h");
    assert_eq!(take(&mut l), Some(0x41));
    assert_eq!(get(&mut l, 0x120), 0x2, "ISR");
    assert_eq!(l.acknowledge(), Acknowledge::Vector(0xff), "spurious");
}

#[test]
fn level_triggered_ends_are_announced() {
    let (mut l, _) = lapic();
    l.deliver(&fixed(0x31, true));
    l.deliver(&fixed(0x91, false));
    assert_eq!(get(&mut l, 0x190), 0x2_0000, "TMR");
    assert_eq!((take(&mut l), take(&mut l)), (Some(0x91), None));
    set(&mut l, 0xb0, 0);
    assert_eq!(l.take_end(), None);
    assert_eq!(take(&mut l), Some(0x31));
    set(&mut l, 0xb0, 0);
    assert_eq!(l.take_end(), Some(0x31));
}

#[test]
fn pins() {
    let (mut l, _) = lapic();
    set(&mut l, 0x350, 0x0000_0045);
    l.set_lint(0, true);
    assert_eq!(take(&mut l), Some(0x45), "fixed");
    set(&mut l, 0x360, 0x400);
    l.set_lint(1, true);
    assert!(l.take_nmi() && !l.take_nmi());
    l.set_lint(1, false);
    set(&mut l, 0x360, 0x1_0400);
    l.set_lint(1, true);
    assert!(!l.has_nmi(), "masked");
    set(&mut l, 0x350, 0x1_0700);
    assert!(!l.intr());
    l.set_base(0);
    assert!(l.intr(), "without APIC the pin is INTR");
    assert_eq!(l.page(), None);
}

#[test]
fn interprocessor_interrupts() {
    let (mut l, _) = lapic();
    set(&mut l, 0x310, 0x0100_0000);
    set(&mut l, 0x300, 0x4031);
    let message = l.take_message().unwrap();
    assert_eq!((message.destination, message.vector), (1, 0x31));
    assert!(!l.is_addressed(&message));
    set(&mut l, 0x300, 0x4_4032);
    assert!(l.take_message().is_some_and(|m| l.is_addressed(&m)), "to self");
    set(&mut l, 0x300, 0xc_4500);
    assert_eq!(l.take_message(), None, "INIT to all others");
    set(&mut l, 0x310, 0xff00_0000);
    set(&mut l, 0x300, 0x4400);
    let nmi = l.take_message().unwrap();
    assert!(l.is_addressed(&nmi) && l.deliver(&nmi) && l.take_nmi());
    assert_eq!(get(&mut l, 0x300), 0x4400, "delivery status is idle");
}

#[test]
fn logical_destinations() {
    let (mut l, _) = lapic();
    let to = |destination| Message { destination, is_logical: true, ..fixed(0x40, false) };
    set(&mut l, 0xd0, 0x0200_0000);
    assert!(l.is_addressed(&to(0x03)) && l.is_addressed(&to(0xff)) && !l.is_addressed(&to(0x05)));
    set(&mut l, 0xe0, 0x0fff_ffff);
    set(&mut l, 0xd0, 0x3200_0000);
    assert!(l.is_addressed(&to(0x36)) && l.is_addressed(&to(0xf2)));
    assert!(!l.is_addressed(&to(0x22)) && !l.is_addressed(&to(0x31)));
    assert_eq!(get(&mut l, 0xe0), 0x0fff_ffff);
}

#[test]
fn one_shot_and_periodic_timer() {
    let (mut l, timer) = lapic();
    set(&mut l, 0x3e0, 0xb);
    set(&mut l, 0x320, 0x50);
    set(&mut l, 0x380, 1000);
    timer.set_now(400);
    assert_eq!(get(&mut l, 0x390), 600);
    set(&mut l, 0x3e0, 0x3);
    assert_eq!((get(&mut l, 0x390), timer.deadline()), (600, Some(400 + 600 * 16)));
    timer.run_to(20_000, || l.expired());
    assert_eq!((take(&mut l), get(&mut l, 0x390), timer.deadline()), (Some(0x50), 0, None));
    set(&mut l, 0xb0, 0);
    set(&mut l, 0x320, 0x2_0060);
    set(&mut l, 0x380, 100);
    let mut n = 0;
    timer.run_to(20_000 + 16 * 1000, || {
        l.expired();
        n += u32::from(take(&mut l).is_some());
        set(&mut l, 0xb0, 0);
    });
    assert_eq!(n, 10);
    timer.set_now(1_000_000);
    l.expired();
    assert_eq!(take(&mut l), Some(0x60), "merged");
    assert!(timer.deadline().unwrap() > 1_000_000);
    set(&mut l, 0x380, 0);
    assert_eq!(timer.deadline(), None);
}

#[test]
fn a_masked_timer_counts_and_is_silent() {
    let (mut l, timer) = lapic();
    set(&mut l, 0x320, 0x1_0050);
    set(&mut l, 0x380, 100);
    assert_eq!(timer.deadline(), None);
    timer.set_now(100);
    assert_eq!(get(&mut l, 0x390), 50, "divided by two after power-on");
    set(&mut l, 0x320, 0x50);
    assert_eq!(timer.deadline(), Some(200));
    timer.set_now(150);
    set(&mut l, 0x320, 0x1_0050);
    timer.set_now(300);
    set(&mut l, 0x320, 0x50);
    assert!(!l.intr() && timer.deadline().is_none(), "it expired while masked");
}

#[test]
fn tsc_deadline() {
    let (mut l, timer) = lapic();
    l.set_deadline(500, 500);
    assert_eq!(l.deadline(), 0, "not in this mode");
    set(&mut l, 0x320, 0x4_0070);
    set(&mut l, 0x380, 100);
    assert_eq!(get(&mut l, 0x380), 0, "the count is ignored");
    l.set_deadline(500, 500);
    assert_eq!((l.deadline(), timer.deadline()), (500, Some(500)));
    timer.run_to(500, || l.expired());
    assert_eq!((l.deadline(), take(&mut l)), (0, Some(0x70)));
    set(&mut l, 0xb0, 0);
    l.set_deadline(400, 400);
    assert_eq!(take(&mut l), Some(0x70), "in the past: at once");
    l.set_deadline(900, 900);
    l.set_deadline(0, 0);
    assert_eq!(timer.deadline(), None);
    l.set_deadline(900, 900);
    set(&mut l, 0x320, 0x70);
    assert_eq!((timer.deadline(), l.deadline()), (None, 0), "another mode stops it");
}

#[test]
fn x2apic() {
    let (mut l, _) = lapic();
    assert_eq!(l.msr_read(0x02), None);
    l.set_base(BASE_RESET | BASE_X2APIC);
    assert_eq!(l.page(), None);
    assert_eq!(
        (l.msr_read(0x02), l.msr_read(0x0d), l.msr_read(0x03)),
        (Some(0), Some(1), Some(0x50014))
    );
    for n in [0x0e, 0x31, 0x0b, 0x3f, 0x09, 0x40, 0xff, 0] {
        assert_eq!(l.msr_read(n), None, "{n:#x}");
    }
    for (n, value) in
        [(0x08, 0x100), (0x0b, 1), (0x28, 1), (0x02, 0), (0x39, 0), (0x0f, 0x1000), (0x10, 0)]
    {
        assert!(!l.msr_write(n, value), "{n:#x}");
    }
    for (n, value, is_taken) in
        [(0x35, 0x5700, true), (0x36, 0x5000, true), (0x32, 0x1030, true), (0x32, 0x4030, false)]
    {
        assert_eq!(l.msr_write(n, value), is_taken, "read-only and reserved bits, {n:#x}");
    }
    assert_eq!(l.msr_read(0x35), Some(0x700), "read-only bits are not taken over");
    assert!(l.msr_write(0x30, 0x4031));
    assert!(l.take_message().is_some_and(|m| l.is_addressed(&m) && l.deliver(&m)));
    assert!(l.msr_write(0x3f, 0x51));
    assert!(l.take_message().is_some_and(|m| l.deliver(&m)));
    assert_eq!(l.msr_read(0x30), Some(0x4031), "self IPIs leave the ICR alone");
    assert_eq!((take(&mut l), l.msr_write(0x0b, 0)), (Some(0x51), true));
    assert_eq!(take(&mut l), Some(0x31));
    let to = |destination| Message { destination, is_logical: true, ..fixed(0x40, false) };
    assert!(l.is_addressed(&to(1)) && !l.is_addressed(&to(0x1_0001)) && !l.is_addressed(&to(2)));
}

#[test]
fn errors() {
    let (mut l, _) = lapic();
    set(&mut l, 0x370, 0xfe);
    set(&mut l, 0x300, 0x4_4005);
    assert_eq!((get(&mut l, 0x280), take(&mut l)), (0, Some(0xfe)));
    set(&mut l, 0x280, 0);
    assert_eq!(get(&mut l, 0x280), 1 << 5, "send illegal vector");
    l.deliver(&fixed(3, false));
    get(&mut l, 0x40);
    set(&mut l, 0x280, 0);
    assert_eq!(get(&mut l, 0x280), 1 << 6 | 1 << 7);
}

#[test]
fn state_and_switching_off() {
    let (mut l, timer) = lapic();
    set(&mut l, 0x320, 0x2_0050);
    set(&mut l, 0x380, 1000);
    l.deliver(&fixed(0x77, true));
    let saved = l.save();
    l.reset();
    assert_eq!((l.intr(), timer.deadline()), (false, None));
    l.load(&saved).unwrap();
    assert_eq!((timer.deadline(), take(&mut l)), (Some(2000), Some(0x77)));
    assert!(l.load(&saved[1..]).is_err());
    l.load(&saved).unwrap();
    l.set_base(0xfee0_0000);
    l.set_base(BASE_RESET);
    assert_eq!((get(&mut l, 0xf0), timer.deadline()), (0xff, None), "as after power-on");
    l.load(&saved).unwrap();
    let mut seed = 7u64;
    for i in 0..20_000u64 {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let at = seed >> 33 & 0xff0;
        match seed >> 61 {
            0 => timer.set_now(i * 1000),
            1 => l.expired(),
            2 => drop(get(&mut l, at)),
            3 => drop((l.msr_write(at as u32 >> 4, seed), l.msr_read(at as u32 >> 4))),
            4 => l.set_base([0, BASE_RESET, BASE_RESET | BASE_X2APIC][i as usize % 3]),
            5 => drop((take(&mut l), l.take_message(), l.take_end())),
            _ => set(&mut l, at, seed),
        }
    }
}
