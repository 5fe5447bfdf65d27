//! The local APIC's timer: one-shot, periodic and TSC-deadline.
//!
//! Source: SDM Vol. 3A, "APIC Timer". Nothing counts: the timer remembers when it expires next and
//! derives the current count. It runs at the core crystal clock that CPUID leaf 15h names.

use mem::Ns;

use super::{LVT_MASKED, LVT_TIMER, Lapic};

/// The timer's clock before division, in hertz: one tick a nanosecond.
pub const TIMER_HZ: u64 = 1_000_000_000;

/// Timer modes in LVT bits 18:17.
const MODE_PERIODIC: u32 = 1;
const MODE_DEADLINE: u32 = 2;

impl Lapic {
    fn timer_mode(&self) -> u32 {
        self.lvt[LVT_TIMER] >> 17 & 3
    }

    /// Ticks are 2^shift nanoseconds.
    fn divide_shift(&self) -> u32 {
        let code = self.divide >> 1 & 4 | self.divide & 3;
        (code + 1) & 7
    }

    /// The alarm: the timer may have expired.
    pub fn expired(&mut self) {
        self.sync_timer();
        self.arm();
    }

    /// Lets the timer expire if it is due; expirations missed meanwhile are merged into one.
    pub(super) fn sync_timer(&mut self) {
        let now = self.timer.now();
        let Some(at) = self.next.filter(|&at| at <= now) else { return };
        self.raise(LVT_TIMER);
        let period = u64::from(self.initial) << self.divide_shift();
        self.deadline = 0;
        self.next = match self.timer_mode() == MODE_PERIODIC && period != 0 {
            true => Some(at + ((now - at) / period + 1) * period),
            false => None,
        };
    }

    /// Arms the alarm for the next expiration that can be seen.
    pub(super) fn arm(&self) {
        let is_masked = self.lvt[LVT_TIMER] & LVT_MASKED != 0;
        self.timer.arm(self.next.filter(|_| !is_masked));
    }

    /// The current count register.
    pub(super) fn current_count(&mut self) -> u32 {
        self.sync_timer();
        if self.timer_mode() == MODE_DEADLINE {
            return 0;
        }
        let Some(next) = self.next else { return 0 };
        let left = next.saturating_sub(self.timer.now());
        left.div_ceil(1 << self.divide_shift()).min(u64::from(self.initial)) as u32
    }

    /// Writes the initial count register: starts the timer, or stops it by 0.
    pub(super) fn set_initial_count(&mut self, count: u32) {
        if self.timer_mode() == MODE_DEADLINE {
            return;
        }
        self.sync_timer();
        self.initial = count;
        self.restart(count);
    }

    /// Writes the divide configuration register: the count goes on at the new rate.
    pub(super) fn set_divide(&mut self, value: u32) {
        let count = self.current_count();
        self.divide = value & 0xb;
        if self.timer_mode() != MODE_DEADLINE {
            self.restart(count);
        }
    }

    fn restart(&mut self, count: u32) {
        let ticks = u64::from(count) << self.divide_shift();
        self.next = (count != 0).then(|| self.timer.now().saturating_add(ticks));
        self.arm();
    }

    /// Writes the timer's LVT entry. A change to or from TSC-deadline mode stops the timer.
    pub(super) fn set_timer_lvt(&mut self, entry: u32) {
        self.sync_timer();
        let old = self.timer_mode();
        self.lvt[LVT_TIMER] = entry;
        if (old == MODE_DEADLINE) != (self.timer_mode() == MODE_DEADLINE) {
            (self.next, self.deadline) = (None, 0);
        }
        self.arm();
    }

    /// IA32_TSC_DEADLINE in the bus's count, 0 if the timer is not armed.
    pub fn deadline(&mut self) -> u64 {
        self.sync_timer();
        self.deadline
    }

    /// Writes IA32_TSC_DEADLINE: `value` in the bus's count (0 disarms), which is reached at `at`.
    /// Without effect in other modes.
    pub fn set_deadline(&mut self, value: u64, at: Ns) {
        if self.timer_mode() != MODE_DEADLINE {
            return;
        }
        self.deadline = value;
        self.next = (value != 0).then_some(at);
        self.sync_timer();
        self.arm();
    }
}
