//! The clock by its datasheet: calendar, codes, alarms, rates, divider.

use super::*;
use crate::State;
use crate::testing::{FakeTimer, FakeWire};

/// 2024-02-29 23:59:58 UTC, a Thursday.
const LEAP: i64 = 1_709_251_198;

fn clock() -> (Rtc, FakeTimer, FakeWire) {
    let (timer, irq) = (FakeTimer::default(), FakeWire::default());
    (Rtc::new(timer.boxed(), irq.boxed(), LEAP), timer, irq)
}

fn read(rtc: &mut Rtc, index: u64) -> u64 {
    rtc.port_write(0, Size::B1, index);
    rtc.port_read(1, Size::B1)
}

fn write(rtc: &mut Rtc, index: u64, value: u64) {
    rtc.port_write(0, Size::B1, index);
    rtc.port_write(1, Size::B1, value);
}

#[test]
fn the_calendar_in_bcd_and_over_a_leap_day() {
    let (mut rtc, timer, _) = clock();
    let show = |rtc: &mut Rtc| [0x32, 9, 8, 7, 6, 4, 2, 0].map(|i| read(rtc, i));
    assert_eq!(show(&mut rtc), [0x20, 0x24, 0x02, 0x29, 5, 0x23, 0x59, 0x58]);
    timer.set_now(2 * SECOND_NS);
    assert_eq!(show(&mut rtc), [0x20, 0x24, 0x03, 0x01, 6, 0, 0, 0]);
    write(&mut rtc, 0x0b, 0x04);
    timer.set_now(13 * 3600 * SECOND_NS + 2 * SECOND_NS);
    assert_eq!(read(&mut rtc, 4), 0x81, "1 pm, binary, 12 hours");
}

#[test]
fn setting_the_time() {
    let (mut rtc, timer, _) = clock();
    timer.set_now(5 * SECOND_NS);
    write(&mut rtc, 0x0b, 0x82);
    for (index, value) in [(0, 0x30), (2, 0x45), (4, 0x12), (7, 0x31), (8, 0x12), (9, 0x99)] {
        write(&mut rtc, index, value);
    }
    write(&mut rtc, 0x32, 0x19);
    write(&mut rtc, 0x0b, 0x02);
    timer.set_now(35 * SECOND_NS);
    assert_eq!(
        [0x32, 9, 8, 7, 4, 2, 0].map(|i| read(&mut rtc, i)),
        [0x19, 0x99, 0x12, 0x31, 0x12, 0x46, 0]
    );
    write(&mut rtc, 2, 0x07);
    assert_eq!(read(&mut rtc, 2), 0x07, "a write without SET takes effect at once");
}

#[test]
fn periodic_update_and_alarm_interrupts() {
    let (mut rtc, timer, irq) = clock();
    write(&mut rtc, 0x0b, 0x42);
    let mut count = 0;
    let end = timer.deadline().unwrap() * 4 + 10;
    while timer.deadline().is_some_and(|d| d <= end) {
        let at = timer.deadline().unwrap();
        timer.set_now(at);
        rtc.expired();
        count += 1;
        assert!(irq.level());
        assert_eq!(read(&mut rtc, 0x0c), 0xc0);
        assert!(!irq.level());
    }
    assert_eq!(count, 4, "1024 Hz");
    for (index, value) in [(1, 0x00), (3, 0xff), (5, 0xc0), (0x0b, 0x22)] {
        write(&mut rtc, index, value);
    }
    let start = irq.rises();
    timer.run_to(3 * SECOND_NS, || rtc.expired());
    assert_eq!(irq.rises() - start, 1, "alarm at second 00");
    assert_eq!(read(&mut rtc, 0x0c), 0xf0, "AF, UF and PF are flagged");
}

#[test]
fn uip_before_an_update() {
    let (mut rtc, timer, _) = clock();
    timer.set_now(SECOND_NS - UPDATE_NS - 1);
    assert_eq!(read(&mut rtc, 0x0a), 0x26);
    timer.set_now(SECOND_NS - UPDATE_NS);
    assert_eq!(read(&mut rtc, 0x0a), 0xa6);
    assert_eq!(read(&mut rtc, 0x0d), 0x80);
}

#[test]
fn the_divider_in_reset_holds_the_time() {
    let (mut rtc, timer, irq) = clock();
    timer.set_now(300_000_000);
    write(&mut rtc, 0x0b, 0x52);
    write(&mut rtc, 0x0a, 0x76);
    read(&mut rtc, 0x0c);
    timer.set_now(9 * SECOND_NS + 200_000_000);
    assert_eq!([0x32, 7, 4, 2, 0].map(|i| read(&mut rtc, i)), [0x20, 0x29, 0x23, 0x59, 0x58]);
    assert_eq!((read(&mut rtc, 0x0a), read(&mut rtc, 0x0c), irq.level()), (0x76, 0, false));
    write(&mut rtc, 0, 0x10);
    write(&mut rtc, 0x0a, 0x26);
    timer.run_to(9 * SECOND_NS + 699_999_999, || rtc.expired());
    assert_eq!(read(&mut rtc, 0), 0x10);
    assert_eq!(read(&mut rtc, 0x0a), 0xa6, "an update is near");
    timer.set_now(9 * SECOND_NS + 700_000_000);
    assert_eq!(read(&mut rtc, 0), 0x11, "half a second after the release");
    let (mut other, other_timer, _) = clock();
    other_timer.set_now(9 * SECOND_NS + 700_000_000);
    other.load(&rtc.save()).unwrap();
    assert_eq!(read(&mut other, 0), 0x11);
}

#[test]
fn periodic_rates() {
    let (mut rtc, timer, irq) = clock();
    write(&mut rtc, 0x0b, 0x42);
    // Interrupts in two seconds by rate; 1 and 2 are 8 and 9.
    let rates = [0, 512, 256, 16384, 8192, 4096, 2048, 1024, 512, 256, 128, 64, 32, 16, 8, 4];
    let mut now = 0;
    for (rate, expect) in rates.into_iter().enumerate() {
        write(&mut rtc, 0x0a, 0x20 | rate as u64);
        read(&mut rtc, 0x0c);
        let before = irq.rises();
        now += 2 * SECOND_NS;
        timer.run_to(now, || {
            rtc.expired();
            read(&mut rtc, 0x0c);
        });
        let rises = irq.rises() - before;
        assert!(rises.abs_diff(expect) <= 1, "rate {rate}: {rises} of {expect}");
    }
}

#[test]
fn alarms_by_the_second_minute_hour_and_with_dont_cares() {
    // From 23:59:58 on: the alarm's bytes, and after how many seconds it comes first.
    for (alarm, expect) in [
        ([0x00, 0x00, 0x00], 2),
        ([0x59, 0x59, 0x23], 1),
        ([0x05, 0xc0, 0xff], 7),
        ([0x30, 0x01, 0xc0], 92),
        ([0x00, 0x00, 0x13], 2 + 13 * 3600),
    ] {
        let (mut rtc, timer, irq) = clock();
        for (index, value) in [1, 3, 5].into_iter().zip(alarm) {
            write(&mut rtc, index, value);
        }
        write(&mut rtc, 0x0b, 0x22);
        timer.run_to(expect * SECOND_NS - 1, || rtc.expired());
        assert!(!irq.level(), "{alarm:x?}");
        timer.run_to(expect * SECOND_NS, || rtc.expired());
        assert!(irq.level(), "{alarm:x?}");
    }
    // 12 hours: 1 pm in BCD.
    let (mut rtc, timer, irq) = clock();
    for (index, value) in [(1, 0), (3, 0), (5, 0x81), (0x0b, 0x20)] {
        write(&mut rtc, index, value);
    }
    timer.run_to((2 + 13 * 3600) * SECOND_NS, || rtc.expired());
    assert!(irq.level());
}

#[test]
fn hours_of_twelve_in_both_codes() {
    let (mut rtc, timer, _) = clock();
    timer.set_now(2 * SECOND_NS);
    for (hour, bcd, binary) in
        [(0, 0x12, 12), (1, 1, 1), (11, 0x11, 11), (12, 0x92, 0x8c), (23, 0x91, 0x8b)]
    {
        write(&mut rtc, 0x0b, 2);
        write(&mut rtc, 4, ((hour / 10) << 4) | (hour % 10));
        write(&mut rtc, 0x0b, 0);
        assert_eq!(read(&mut rtc, 4), bcd, "{hour}");
        write(&mut rtc, 0x0b, 4);
        assert_eq!(read(&mut rtc, 4), binary, "{hour}");
        write(&mut rtc, 4, binary);
        write(&mut rtc, 0x0b, 6);
        assert_eq!(read(&mut rtc, 4), hour, "{hour}");
    }
}

#[test]
fn set_daylight_saving_weekday_and_reset() {
    let (mut rtc, timer, irq) = clock();
    // SET clears UIE; UIP and UF stay away while it is one.
    write(&mut rtc, 0x0b, 0x9b);
    assert_eq!(read(&mut rtc, 0x0b), 0x8b);
    timer.set_now(SECOND_NS - 1);
    assert_eq!(read(&mut rtc, 0x0a), 0x26);
    timer.set_now(5 * SECOND_NS);
    assert_eq!(read(&mut rtc, 0x0c), 0x40, "only the periodic flag");
    assert!(!irq.level());
    // A weekday is what software says, and goes on from there.
    write(&mut rtc, 6, 3);
    write(&mut rtc, 0x0b, 0x7b);
    assert_eq!(read(&mut rtc, 6), 3);
    timer.set_now(8 * SECOND_NS);
    assert_eq!(read(&mut rtc, 6), 4, "after midnight");
    // DSE is kept and does nothing: 2:00 on the last Sunday of April is 2:00.
    for (index, value) in [(9, 0x24), (8, 4), (7, 0x28), (4, 1), (2, 0x59), (0, 0x59)] {
        write(&mut rtc, index, value);
    }
    timer.set_now(9 * SECOND_NS);
    assert_eq!((read(&mut rtc, 4), read(&mut rtc, 0x0b)), (2, 0x7b));
    rtc.reset();
    assert_eq!(read(&mut rtc, 0x0b), 0x03, "enables and the square wave are off");
    assert_eq!(read(&mut rtc, 7), 0x28, "the battery keeps the time");
}

#[test]
fn memory_is_memory_and_saves() {
    let (mut rtc, ..) = clock();
    write(&mut rtc, 0x40, 0x5a);
    let (mut other, ..) = clock();
    other.load(&rtc.save()).unwrap();
    assert_eq!(other.cmos(0x40), 0x5a);
}

#[test]
fn any_bytes_as_time() {
    let (mut rtc, timer, _) = clock();
    for value in 0..=255 {
        for index in [0, 2, 4, 6, 7, 8, 9, 0x32] {
            write(&mut rtc, 0x0b, value);
            write(&mut rtc, index, value);
            read(&mut rtc, index);
        }
        timer.set_now(timer.deadline().unwrap_or(0) + value * 1_000_000_000_000);
        rtc.expired();
    }
}
