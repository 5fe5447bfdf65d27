//! MC146818A real-time clock with 128 bytes of CMOS memory.
//!
//! Source: Motorola MC146818A datasheet. The calendar is not stepped: it is an offset in seconds
//! to virtual time, converted when read. While SET is one, or the divider is held in reset, software
//! edits a held copy; afterwards it is taken over, and half a second after the divider's release
//! the next second begins. Daylight saving (DSE) and the square wave's pin are not there. Flags are brought up to date when looked at, and one alarm wakes the chip
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
const B_SQWE: u8 = 0x08;
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
    /// Nanoseconds from virtual time 0 back to the beginning of a second.
    phase: Ns,
    /// What the day of the week, which software sets as it likes, is ahead of the calendar's.
    weekday_ahead: u8,
    /// Up to when the flags in C are right.
    synced: Ns,
    timer: Alarm,
    irq: Wire,
}

state_fields!(Rtc, 2, [index, cmos, base_s, phase, weekday_ahead, synced]);

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
        let cmos = [0; CMOS_LEN];
        let (phase, weekday_ahead) = (0, 0);
        let mut rtc = Self { index: 0, cmos, base_s, phase, weekday_ahead, synced: 0, timer, irq };
        rtc.cmos[REG_A] = 0x26;
        rtc.cmos[REG_B] = B_24H;
        rtc
    }

    /// The reset pin: interrupts off; time and memory are kept by the battery.
    pub fn reset(&mut self) {
        self.cmos[REG_B] &= !(B_PIE | B_AIE | B_UIE | B_SQWE);
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
        self.phase %= SECOND_NS;
        self.weekday_ahead %= 7;
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

    /// Do the time bytes stand still, for software to set them?
    fn is_held(&self) -> bool {
        self.is_set() || !self.is_running()
    }

    /// Time as the divider chain has it: whole seconds are updates.
    fn divided(&self, now: Ns) -> Ns {
        now.saturating_add(self.phase)
    }

    /// Calendar seconds at virtual time `now`.
    fn seconds_at(&self, now: Ns) -> i64 {
        self.base_s.wrapping_add((self.divided(now) / SECOND_NS) as i64)
    }

    /// Nanoseconds of one periodic interrupt, if the rate bits ask for one and the divider runs.
    fn period_ns(&self) -> Option<Ns> {
        if !self.is_running() {
            return None;
        }
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
        let (from, to) = (self.divided(from), self.divided(now));
        if let Some(period) = self.period_ns()
            && to / period > from / period
        {
            self.cmos[REG_C] |= C_PF;
        }
        let updates = to / SECOND_NS - from / SECOND_NS;
        if updates > 0 && !self.is_held() {
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
        let now = self.divided(self.timer.now());
        let waiting = self.cmos[REG_B] & !self.cmos[REG_C];
        let mut next: Option<Ns> = None;
        if waiting & B_PIE != 0
            && let Some(period) = self.period_ns()
        {
            next = Some((now / period + 1) * period);
        }
        if waiting & (B_UIE | B_AIE) != 0 && !self.is_held() {
            let update = (now / SECOND_NS + 1) * SECOND_NS;
            next = Some(next.map_or(update, |at| at.min(update)));
        }
        self.timer.arm(next.map(|at| at.saturating_sub(self.phase)));
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
        let weekday = (time.weekday - 1 + self.weekday_ahead) % 7 + 1;
        for (reg, value) in [(0, time.second), (2, time.minute), (6, weekday)] {
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
        let elapsed = (self.divided(self.timer.now()) / SECOND_NS) as i64;
        self.base_s = time.seconds().wrapping_sub(elapsed);
        let weekday = i64::from(self.decode(self.cmos[6]));
        let by_calendar = Calendar::at(time.seconds()).weekday;
        self.weekday_ahead = (weekday - i64::from(by_calendar)).rem_euclid(7) as u8;
    }

    fn is_time(index: usize) -> bool {
        matches!(index, 0 | 2 | 4 | 6..=9) || index == usize::from(CENTURY)
    }

    fn read_data(&mut self) -> u8 {
        let index = usize::from(self.index);
        match index {
            REG_A => {
                let left = SECOND_NS - self.divided(self.timer.now()) % SECOND_NS;
                let uip = !self.is_held() && left <= UPDATE_NS;
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
            _ if Self::is_time(index) && !self.is_held() => {
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
            REG_A => self.write_a(value & !A_UIP),
            REG_B => self.write_b(value),
            REG_C | REG_D => {}
            _ if Self::is_time(index) && !self.is_held() => {
                self.fill_time();
                self.cmos[index] = value;
                self.take_time();
            }
            _ => self.cmos[index] = value,
        }
        self.arm();
    }

    fn write_a(&mut self, value: u8) {
        let (was_held, was_running) = (self.is_held(), self.is_running());
        if !was_held {
            self.fill_time();
        }
        self.cmos[REG_A] = value;
        if !was_running && self.is_running() {
            // The first update comes half a second after the divider's reset ends.
            let now = self.timer.now() % SECOND_NS;
            self.phase = (SECOND_NS + SECOND_NS / 2 - now) % SECOND_NS;
        }
        if was_held && !self.is_held() {
            self.take_time();
        }
    }

    fn write_b(&mut self, value: u8) {
        let was_held = self.is_held();
        if !was_held {
            self.fill_time();
        }
        self.cmos[REG_B] = value;
        if value & B_SET != 0 {
            // SET stops updates and clears the update interrupt's enable.
            self.cmos[REG_B] &= !B_UIE;
        }
        if was_held && !self.is_held() {
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
mod tests;
