//! MC146818A real-time clock with 128 bytes of CMOS memory.
//!
//! Source: Motorola MC146818A datasheet. The calendar is not stepped: it is an offset in seconds
//! to virtual time, converted when read. While SET is one, software edits a held copy; clearing
//! SET takes it over. Flags are brought up to date when looked at, and one alarm wakes the chip
//! when an enabled interrupt is due.

use mem::{Ns, PortDevice, Size};

use crate::state::StateError;
use crate::{Alarm, Wire, state_fields};

/// Bytes of CMOS memory, the clock's registers included.
pub const CMOS_LEN: usize = 128;
/// The byte that holds the century, by PC convention.
pub const CENTURY: u8 = 0x32;

const SECOND_NS: Ns = 1_000_000_000;
/// UIP is one this long before an update (datasheet, "Update Cycle": 244 µs).
const UPDATE_NS: Ns = 244_000;
const DAY_S: i64 = 86_400;

const REG_A: usize = 0x0a;
const REG_B: usize = 0x0b;
const REG_C: usize = 0x0c;
const REG_D: usize = 0x0d;

const A_UIP: u8 = 0x80;
const B_SET: u8 = 0x80;
const B_PIE: u8 = 0x40;
const B_AIE: u8 = 0x20;
const B_UIE: u8 = 0x10;
const B_BINARY: u8 = 0x04;
const B_24H: u8 = 0x02;
const C_IRQF: u8 = 0x80;
const C_PF: u8 = 0x40;
const C_AF: u8 = 0x20;
const C_UF: u8 = 0x10;
const D_VALID: u8 = 0x80;

/// The clock. Port offset 0 is the index, 1 the data.
pub struct Rtc {
    index: u8,
    /// Registers and memory. Time bytes are valid only while SET is one.
    cmos: [u8; CMOS_LEN],
    /// Calendar seconds since 1970 at virtual time 0.
    base_s: i64,
    /// Up to when the flags in C are right.
    synced: Ns,
    timer: Alarm,
    irq: Wire,
}

state_fields!(Rtc, 1, [index, cmos, base_s, synced]);

/// A broken-down calendar time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Calendar {
    year: i64,
    month: u8,
    day: u8,
    weekday: u8,
    hour: u8,
    minute: u8,
    second: u8,
}

impl Rtc {
    /// A clock that shows `base_s` seconds since 1970 at virtual time 0.
    pub fn new(timer: Alarm, irq: Wire, base_s: i64) -> Self {
        let mut rtc = Self { index: 0, cmos: [0; CMOS_LEN], base_s, synced: 0, timer, irq };
        rtc.cmos[REG_A] = 0x26;
        rtc.cmos[REG_B] = B_24H;
        rtc
    }

    /// The reset pin: interrupts off; time and memory are kept by the battery.
    pub fn reset(&mut self) {
        self.cmos[REG_B] &= !(B_PIE | B_AIE | B_UIE);
        self.cmos[REG_C] = 0;
        self.irq.set(false);
        self.arm();
    }

    /// A byte of CMOS memory, as the board set it or the guest left it.
    pub fn cmos(&self, index: u8) -> u8 {
        self.cmos[usize::from(index) % CMOS_LEN]
    }

    /// Sets a byte of CMOS memory behind the guest's back: memory sizes and the like.
    pub fn set_cmos(&mut self, index: u8, value: u8) {
        self.cmos[usize::from(index) % CMOS_LEN] = value;
    }

    /// The alarm: some flag with an enabled interrupt is due.
    pub fn expired(&mut self) {
        self.sync();
        self.arm();
    }

    fn check_state(&mut self) -> Result<(), StateError> {
        self.index &= 0x7f;
        self.synced = self.synced.min(self.timer.now());
        self.drive_irq();
        self.arm();
        Ok(())
    }

    fn is_set(&self) -> bool {
        self.cmos[REG_B] & B_SET != 0
    }

    /// The divider runs unless held in reset (DV = 11x).
    fn is_running(&self) -> bool {
        self.cmos[REG_A] & 0x60 != 0x60
    }

    /// Calendar seconds at virtual time `now`.
    fn seconds_at(&self, now: Ns) -> i64 {
        self.base_s.wrapping_add((now / SECOND_NS) as i64)
    }

    /// Nanoseconds of one periodic interrupt, if the rate bits ask for one.
    fn period_ns(&self) -> Option<Ns> {
        let rate = match self.cmos[REG_A] & 15 {
            0 => return None,
            // Rates 1 and 2 repeat 8 and 9 (datasheet, "Periodic Interrupt Rate").
            r @ 1..=2 => r + 7,
            r => r,
        };
        Some(SECOND_NS * (1 << (rate - 1)) / 32_768)
    }

    /// Raises the flags of everything that happened since the last look.
    fn sync(&mut self) {
        let (from, now) = (self.synced, self.timer.now());
        self.synced = now;
        if now <= from {
            return;
        }
        if let Some(period) = self.period_ns()
            && now / period > from / period
        {
            self.cmos[REG_C] |= C_PF;
        }
        let updates = now / SECOND_NS - from / SECOND_NS;
        if updates > 0 && !self.is_set() && self.is_running() {
            self.cmos[REG_C] |= C_UF;
            let last = self.seconds_at(now);
            let first = last - (updates.min(DAY_S as u64) as i64 - 1);
            if (first..=last).any(|second| self.alarm_matches(second)) {
                self.cmos[REG_C] |= C_AF;
            }
        }
        self.drive_irq();
    }

    fn drive_irq(&mut self) {
        let raised = self.cmos[REG_C] & self.cmos[REG_B] & (C_PF | C_AF | C_UF) != 0;
        self.cmos[REG_C] = self.cmos[REG_C] & !C_IRQF | if raised { C_IRQF } else { 0 };
        self.irq.set(raised);
    }

    /// Arms the timer for the next event whose interrupt is enabled and not yet flagged.
    fn arm(&mut self) {
        let now = self.timer.now();
        let waiting = self.cmos[REG_B] & !self.cmos[REG_C];
        let mut next: Option<Ns> = None;
        if waiting & B_PIE != 0
            && let Some(period) = self.period_ns()
        {
            next = Some((now / period + 1) * period);
        }
        if waiting & (B_UIE | B_AIE) != 0 && !self.is_set() && self.is_running() {
            let update = (now / SECOND_NS + 1) * SECOND_NS;
            next = Some(next.map_or(update, |at| at.min(update)));
        }
        self.timer.arm(next);
    }

    fn alarm_matches(&self, seconds: i64) -> bool {
        let time = Calendar::at(seconds);
        [(1, time.second), (3, time.minute), (5, self.hour_byte(time.hour))].iter().all(
            |&(reg, now)| {
                let alarm = self.cmos[reg];
                let now = if reg == 5 { now } else { self.encode(now) };
                alarm >= 0xc0 || alarm == now
            },
        )
    }

    fn encode(&self, n: u8) -> u8 {
        if self.cmos[REG_B] & B_BINARY != 0 { n } else { (n / 10) << 4 | (n % 10) }
    }

    fn decode(&self, byte: u8) -> u8 {
        if self.cmos[REG_B] & B_BINARY != 0 { byte } else { (byte >> 4) * 10 + (byte & 15) }
    }

    fn hour_byte(&self, hour: u8) -> u8 {
        if self.cmos[REG_B] & B_24H != 0 {
            return self.encode(hour);
        }
        let twelve = if hour.is_multiple_of(12) { 12 } else { hour % 12 };
        self.encode(twelve) | if hour >= 12 { 0x80 } else { 0 }
    }

    fn hour_of(&self, byte: u8) -> u8 {
        if self.cmos[REG_B] & B_24H != 0 {
            return self.decode(byte);
        }
        self.decode(byte & 0x7f) % 12 + if byte & 0x80 != 0 { 12 } else { 0 }
    }

    /// Writes the current time into the time bytes.
    fn fill_time(&mut self) {
        let time = Calendar::at(self.seconds_at(self.timer.now()));
        for (reg, value) in [(0, time.second), (2, time.minute), (6, time.weekday)] {
            self.cmos[reg] = self.encode(value);
        }
        self.cmos[4] = self.hour_byte(time.hour);
        self.cmos[7] = self.encode(time.day);
        self.cmos[8] = self.encode(time.month);
        self.cmos[9] = self.encode((time.year % 100) as u8);
        self.cmos[usize::from(CENTURY)] = self.encode((time.year / 100) as u8);
    }

    /// Makes the time bytes the current time.
    fn take_time(&mut self) {
        let century = i64::from(self.decode(self.cmos[usize::from(CENTURY)]));
        let time = Calendar {
            year: century * 100 + i64::from(self.decode(self.cmos[9])),
            month: self.decode(self.cmos[8]),
            day: self.decode(self.cmos[7]),
            weekday: 1,
            hour: self.hour_of(self.cmos[4]),
            minute: self.decode(self.cmos[2]),
            second: self.decode(self.cmos[0]),
        };
        let elapsed = (self.timer.now() / SECOND_NS) as i64;
        self.base_s = time.seconds().wrapping_sub(elapsed);
    }

    fn is_time(index: usize) -> bool {
        matches!(index, 0 | 2 | 4 | 6..=9) || index == usize::from(CENTURY)
    }

    fn read_data(&mut self) -> u8 {
        let index = usize::from(self.index);
        match index {
            REG_A => {
                let left = SECOND_NS - self.timer.now() % SECOND_NS;
                let uip = !self.is_set() && self.is_running() && left <= UPDATE_NS;
                self.cmos[REG_A] & !A_UIP | if uip { A_UIP } else { 0 }
            }
            REG_C => {
                self.sync();
                let flags = std::mem::take(&mut self.cmos[REG_C]);
                self.irq.set(false);
                self.arm();
                flags
            }
            REG_D => D_VALID,
            _ if Self::is_time(index) && !self.is_set() => {
                self.fill_time();
                self.cmos[index]
            }
            _ => self.cmos[index],
        }
    }

    fn write_data(&mut self, value: u8) {
        let index = usize::from(self.index);
        self.sync();
        match index {
            REG_A => self.cmos[REG_A] = value & !A_UIP,
            REG_B => self.write_b(value),
            REG_C | REG_D => {}
            _ if Self::is_time(index) && !self.is_set() => {
                self.fill_time();
                self.cmos[index] = value;
                self.take_time();
            }
            _ => self.cmos[index] = value,
        }
        self.arm();
    }

    fn write_b(&mut self, value: u8) {
        let was_set = self.is_set();
        if !was_set && value & B_SET != 0 {
            self.fill_time();
        }
        self.cmos[REG_B] = value;
        if value & B_SET != 0 {
            // SET stops updates and clears the update interrupt's enable.
            self.cmos[REG_B] &= !B_UIE;
        } else if was_set {
            self.take_time();
        }
        self.drive_irq();
    }
}

impl PortDevice for Rtc {
    fn port_read(&mut self, offset: u16, _size: Size) -> u64 {
        // The index register is write-only.
        u64::from(if offset == 0 { 0xff } else { self.read_data() })
    }

    fn port_write(&mut self, offset: u16, _size: Size, value: u64) {
        match offset {
            0 => self.index = value as u8 & 0x7f,
            _ => self.write_data(value as u8),
        }
    }
}

impl Calendar {
    /// The calendar `seconds` after 1970 (proleptic Gregorian, by days in 400-year eras).
    fn at(seconds: i64) -> Self {
        let days = seconds.div_euclid(DAY_S);
        let in_day = seconds.rem_euclid(DAY_S) as u32;
        // Count from 0000-03-01 so that the leap day is the last of its year.
        let z = days.wrapping_add(719_468);
        let era = z.div_euclid(146_097);
        let doe = z.rem_euclid(146_097);
        let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let month = if mp < 10 { mp + 3 } else { mp - 9 };
        let year = era * 400 + yoe + i64::from(month <= 2);
        Self {
            year: year.rem_euclid(10_000),
            month: month as u8,
            day: (doy - (153 * mp + 2) / 5 + 1) as u8,
            weekday: (days + 4).rem_euclid(7) as u8 + 1,
            hour: (in_day / 3600) as u8,
            minute: (in_day / 60 % 60) as u8,
            second: (in_day % 60) as u8,
        }
    }

    /// Seconds since 1970. Fields out of range carry over, as guests may write anything.
    fn seconds(&self) -> i64 {
        let month = i64::from(self.month.clamp(1, 12));
        let year = if month <= 2 { self.year - 1 } else { self.year };
        let era = year.div_euclid(400);
        let yoe = year.rem_euclid(400);
        let mp = (month + 9) % 12;
        let doy = (153 * mp + 2) / 5 + i64::from(self.day) - 1;
        let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
        let days = era * 146_097 + doe - 719_468;
        days * DAY_S
            + i64::from(self.hour) * 3600
            + i64::from(self.minute) * 60
            + i64::from(self.second)
    }
}

#[cfg(test)]
mod tests {
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
}
