//! One counter of the timer: value and output as functions of the ticks since its run began.

use crate::state::{StateError, ensure};
use crate::state_fields;

/// One counter. Times are in ticks.
#[derive(Debug, Default)]
pub(super) struct Counter {
    mode: u8,
    bcd: bool,
    /// 1 low byte, 2 high byte, 3 low then high.
    access: u8,
    /// Count register: 1..=0x10000 (BCD 10,000). Takes effect at load, trigger or reload.
    reload: u64,
    /// The count of the current run.
    pub(super) count: u64,
    /// When the current run began; `None` before the first load or trigger.
    pub(super) start: Option<u64>,
    /// Ticks already run when the gate fell, in modes whose gate pauses.
    paused: Option<u64>,
    /// A count was written and not yet taken (status bit NULL COUNT).
    pub(super) null_count: bool,
    /// A count has been written since the mode was: without, a trigger starts nothing.
    armed: bool,
    /// When the count that is not yet taken was written.
    written: u64,
    gate: bool,
    /// The low byte of a two-byte write.
    write_low: Option<u8>,
    /// The next read of a two-byte pair gives the high byte.
    read_high: bool,
    latch: Option<u16>,
    status: Option<u8>,
}

state_fields!(
    Counter,
    2,
    [
        mode, bcd, access, reload, count, start, paused, null_count, armed, written, gate,
        write_low, read_high, latch, status,
    ]
);

impl Counter {
    pub(super) fn new(gate: bool) -> Self {
        Self { access: 3, reload: 0x10000, count: 0x10000, gate, ..Self::default() }
    }

    fn check_state(&mut self) -> Result<(), StateError> {
        let counts = 1..=0x10000;
        ensure(self.mode < 6 && (1..4).contains(&self.access), "timer mode")?;
        ensure(counts.contains(&self.reload) && counts.contains(&self.count), "timer count")
    }

    /// Does the mode repeat by itself?
    fn is_periodic(&self) -> bool {
        matches!(self.mode, 2 | 3)
    }

    /// Is the mode started by the gate's rising edge?
    fn is_triggered(&self) -> bool {
        matches!(self.mode, 1 | 5)
    }

    pub(super) fn set_mode(&mut self, control: u8) {
        self.access = control >> 4 & 3;
        // Modes 6 and 7 are modes 2 and 3: the top bit is "don't care" there.
        let mode = control >> 1 & 7;
        self.mode = if mode > 5 { mode & 3 } else { mode };
        self.bcd = control & 1 != 0;
        self.start = None;
        self.paused = None;
        self.null_count = true;
        self.armed = false;
        self.write_low = None;
        self.read_high = false;
        self.latch = None;
        self.status = None;
    }

    /// Takes a new count that was written while running, at the end of what it waits for: a period in mode 2, half of one
    /// in mode 3.
    pub(super) fn sync(&mut self, now: u64) {
        let Some(end) = self.next_load().filter(|&end| end <= now) else { return };
        let begun = self.start.map_or(0, |start| (end - start) % self.count);
        // In the middle of a period the new count's low half follows.
        let lead = if begun == 0 { 0 } else { self.reload.div_ceil(2) };
        self.start = Some(end.saturating_sub(lead));
        self.count = self.reload;
        self.null_count = false;
    }

    /// When a count that waits is taken.
    fn next_load(&self) -> Option<u64> {
        let start = self.start?;
        if !self.null_count || !self.is_periodic() || self.paused.is_some() || !self.armed {
            return None;
        }
        let done = self.written.saturating_sub(start);
        let (period, half) = (done / self.count * self.count, self.count.div_ceil(2));
        let is_high = done - period < half;
        let step = if self.mode == 3 && is_high { half } else { self.count };
        Some(start + period + step)
    }

    /// A complete count was written.
    fn load(&mut self, written: u16, now: u64) {
        self.reload = match (written, self.bcd) {
            (0, false) => 0x10000,
            (0, true) => 10_000,
            (n, false) => u64::from(n),
            (n, true) => from_bcd(n),
        };
        self.null_count = true;
        self.armed = true;
        self.written = now;
        if self.is_triggered() || (self.is_periodic() && self.start.is_some()) {
            return;
        }
        self.begin(now);
        if !self.gate {
            self.paused = Some(0);
        }
    }

    /// Starts a run on the next tick.
    fn begin(&mut self, now: u64) {
        self.count = self.reload;
        self.start = Some(now + 1);
        self.null_count = false;
        self.paused = None;
    }

    pub(super) fn set_gate(&mut self, gate: bool, now: u64) {
        if self.gate == gate {
            return;
        }
        self.sync(now);
        let rises = gate;
        match (self.mode, rises) {
            (0 | 4, true) => {
                if let Some(done) = self.paused.take() {
                    self.start = Some(now.saturating_sub(done));
                }
            }
            (1 | 2 | 3 | 5, true) if self.armed => {
                self.begin(now);
            }
            (0 | 2 | 3 | 4, false) => self.paused = Some(self.elapsed(now)),
            _ => {}
        }
        self.gate = gate;
    }

    /// Ticks the current run has counted.
    fn elapsed(&self, now: u64) -> u64 {
        self.paused.unwrap_or_else(|| now.saturating_sub(self.start.unwrap_or(now)))
    }

    pub(super) fn out(&self, now: u64) -> bool {
        if self.start.is_none() {
            return self.mode != 0;
        }
        let done = self.elapsed(now);
        match self.mode {
            0 => done >= self.count,
            1 => done >= self.count || now < self.start.unwrap_or(0),
            2 => self.paused.is_some() || done % self.count != self.count - 1,
            3 => self.paused.is_some() || done % self.count < self.count.div_ceil(2),
            _ => done != self.count,
        }
    }

    /// How often OUT rose in the current run up to `now`.
    pub(super) fn rises(&self, now: u64) -> u64 {
        if self.start.is_none() || (self.paused.is_some() && self.is_periodic()) {
            return 0;
        }
        let done = self.elapsed(now);
        match self.mode {
            0 | 1 => u64::from(done >= self.count),
            2 | 3 => done / self.count,
            _ => u64::from(done > self.count),
        }
    }

    /// The tick of the next rising edge of OUT after `now`, or when a waiting count is taken: edges change then.
    pub(super) fn next_rise(&self, now: u64) -> Option<u64> {
        let start = self.start?;
        if self.paused.is_some() {
            return None;
        }
        if let Some(end) = self.next_load() {
            return Some(end);
        }
        let done = now.saturating_sub(start);
        let at = match self.mode {
            0 | 1 => (done < self.count).then_some(self.count)?,
            2 | 3 => (done / self.count + 1) * self.count,
            _ => (done <= self.count).then_some(self.count + 1)?,
        };
        Some(start + at)
    }

    /// The counting element as read: binary or BCD.
    fn value(&self, now: u64) -> u16 {
        let done = self.elapsed(now);
        let modulus = if self.bcd { 10_000 } else { 0x10000 };
        let value = match (self.start, self.mode) {
            (None, _) => self.reload,
            (_, 2) => self.count - done % self.count,
            // Mode 3 counts down by two, twice per period; odd counts begin one lower and reach zero in the high half.
            (_, 3) => {
                let (at, half) = (done % self.count, self.count.div_ceil(2));
                let at = if at < half { at } else { at - half };
                (self.count & !1).saturating_sub(2 * at)
            }
            _ => (self.count + modulus - done % modulus) % modulus,
        };
        let value = (value % modulus) as u16;
        if self.bcd { to_bcd(value) } else { value }
    }

    pub(super) fn latch_count(&mut self, now: u64) {
        if self.latch.is_none() {
            self.latch = Some(self.value(now));
        }
    }

    pub(super) fn latch_status(&mut self, now: u64) {
        if self.status.is_none() {
            let out = u8::from(self.out(now)) << 7;
            let null = u8::from(self.null_count) << 6;
            self.status = Some(out | null | self.access << 4 | self.mode << 1 | u8::from(self.bcd));
        }
    }

    pub(super) fn read(&mut self, now: u64) -> u8 {
        if let Some(status) = self.status.take() {
            return status;
        }
        let value = self.latch.unwrap_or_else(|| self.value(now));
        let [low, high] = value.to_le_bytes();
        let first_of_two = self.access == 3 && !self.read_high;
        if self.access == 3 {
            self.read_high = !self.read_high;
        }
        if !first_of_two {
            self.latch = None;
        }
        if self.access == 2 || (self.access == 3 && !first_of_two) { high } else { low }
    }

    pub(super) fn write(&mut self, value: u8, now: u64) {
        match (self.access, self.write_low.take()) {
            (1, _) => self.load(u16::from(value), now),
            (2, _) => self.load(u16::from(value) << 8, now),
            (_, Some(low)) => self.load(u16::from_le_bytes([low, value]), now),
            (_, None) => {
                self.write_low = Some(value);
                // Mode 0 stops at the first byte of a new count.
                if self.mode == 0 {
                    self.start = None;
                }
            }
        }
    }
}

fn from_bcd(n: u16) -> u64 {
    let digit = |shift: u16| u64::from(n >> shift & 15);
    let value = digit(0) + 10 * digit(4) + 100 * digit(8) + 1000 * digit(12);
    value.clamp(1, 10_000)
}

fn to_bcd(n: u16) -> u16 {
    (n % 10) | (n / 10 % 10) << 4 | (n / 100 % 10) << 8 | (n / 1000 % 10) << 12
}
