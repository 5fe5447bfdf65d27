//! Virtual time: the one place that reads the host's clock, and the chips' alarms.
//!
//! Chips see a time that stands still during one access. With [`ClockKind::Host`] it is read
//! from the host's monotonic clock when it is first looked at after an entry into the board, which most accesses never do; with [`ClockKind::Icount`] it
//! moves only by [`Board::advance_to`](super::Board::advance_to), the same in every run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use devices::Alarm;
use mem::{Ns, Timer, TscMap};
use x86::cpuid::TSC_HZ;

use super::ticks::HostTime;

/// What drives virtual time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClockKind {
    /// The host's monotonic clock.
    Host,
    /// The caller, by instruction count.
    Icount,
}

/// Nanoseconds of a second.
const NS_HZ: u64 = 1_000_000_000;

/// The time-stamp counter at virtual time `ns`.
pub(super) fn tsc_at(ns: Ns) -> u64 {
    if TSC_HZ == NS_HZ {
        return ns;
    }
    (ns / NS_HZ).wrapping_mul(TSC_HZ).wrapping_add(ns % NS_HZ * TSC_HZ / NS_HZ)
}

/// When the time-stamp counter reaches `tsc`.
pub(super) fn ns_of_tsc(tsc: u64) -> Ns {
    if TSC_HZ == NS_HZ {
        return tsc;
    }
    (u128::from(tsc) * u128::from(NS_HZ)).div_ceil(u128::from(TSC_HZ)).min(u128::from(Ns::MAX))
        as Ns
}

/// Virtual time now, shared by the board and the chips' alarms.
#[derive(Debug)]
pub(super) struct Clock {
    now: AtomicU64,
    /// The host's clock is to be read before `now` is looked at.
    is_stale: AtomicBool,
    host: HostTime,
    /// What virtual time is ahead of the host's, wrapping.
    base: AtomicU64,
}

/// A read over PCI takes at least four clocks of 33 MHz (PCI Local Bus Specification 2.1, "Read Transaction": address, turnaround, data,
/// idle).
const PCI_READ_NS: Ns = 120;
/// Looks at the host's clock after which it is not waited for.
const PATIENCE: u32 = 1000;

/// Whether the host's clock drives virtual time now.
#[derive(Debug)]
pub(super) struct Source {
    kind: ClockKind,
    is_running: bool,
    /// When a counter on PCI was last read.
    counter_read: Ns,
}

impl Clock {
    fn new() -> Self {
        let (now, base) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { now, is_stale: AtomicBool::new(false), host: HostTime::new(), base }
    }

    pub(super) fn now(&self) -> Ns {
        if self.is_stale.load(Relaxed) {
            self.is_stale.store(false, Relaxed);
            self.set(self.base.load(Relaxed).wrapping_add(self.host.ns()));
        }
        self.now.load(Relaxed)
    }

    /// Host time now is virtual time `now`.
    fn anchor(&self, now: Ns) {
        self.base.store(now.wrapping_sub(self.host.ns()), Relaxed);
    }

    fn set(&self, now: Ns) {
        // Time never runs backwards.
        self.now.store(now.max(self.now.load(Relaxed)), Relaxed);
    }
}

impl Source {
    pub(super) fn new(kind: ClockKind) -> Self {
        Self { kind, is_running: kind == ClockKind::Host, counter_read: 0 }
    }

    /// A counter on PCI is about to be read: not sooner after the last time than the bus allows. A guest that waits for a counter to move
    /// may have a bound on the number of its reads, which no processor reaches in time; we need 35 ns for one.
    pub(super) fn begin_counter_read(&mut self, clock: &Clock) {
        let last = self.counter_read;
        for _ in 0..PATIENCE {
            let is_too_soon = (last..last.saturating_add(PCI_READ_NS)).contains(&clock.now());
            if !self.is_running || !is_too_soon {
                break;
            }
            std::hint::spin_loop();
            self.refresh(clock);
        }
        self.counter_read = clock.now();
    }

    /// Brings `clock` up to the host's time, when it is next looked at.
    pub(super) fn refresh(&self, clock: &Clock) {
        if self.is_running {
            clock.is_stale.store(true, Relaxed);
        }
    }

    /// How the time-stamp counter follows from the host's, if it does.
    pub(super) fn tsc_map(&self, clock: &Clock) -> TscMap {
        if self.is_running && TSC_HZ == NS_HZ {
            clock.host.map().moved(clock.base.load(Relaxed))
        } else {
            TscMap::default()
        }
    }

    /// Moves an instruction-counted clock; a host clock moves itself.
    pub(super) fn advance_to(&self, clock: &Clock, now: Ns) {
        if self.kind == ClockKind::Icount {
            clock.set(now);
        }
    }

    /// Stops a host clock.
    pub(super) fn pause(&mut self, clock: &Clock) {
        self.refresh(clock);
        clock.now();
        self.is_running = false;
    }

    /// Lets a host clock run on from where virtual time stands.
    pub(super) fn resume(&mut self, clock: &Clock) {
        if self.kind == ClockKind::Host && !self.is_running {
            self.is_running = true;
            clock.anchor(clock.now());
        }
    }

    /// Sets virtual time, also backwards: for loading a saved machine.
    pub(super) fn restore(&mut self, clock: &Clock, now: Ns) {
        clock.is_stale.store(false, Relaxed);
        clock.now.store(now, Relaxed);
        clock.anchor(now);
    }
}

/// Who is called when an alarm goes off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Sleeper {
    Pit,
    Rtc,
    AcpiPm,
    Vga,
    Serial0,
    Serial1,
    Serial2,
    Serial3,
    Lapic,
    Hpet,
}

impl Sleeper {
    pub(super) const ALL: [Self; 10] = [
        Self::Pit,
        Self::Rtc,
        Self::AcpiPm,
        Self::Vga,
        Self::Serial0,
        Self::Serial1,
        Self::Serial2,
        Self::Serial3,
        Self::Lapic,
        Self::Hpet,
    ];
}

const DISARMED: u64 = u64::MAX;

/// All alarms of a board.
#[derive(Debug)]
pub(super) struct Alarms {
    clock: Arc<Clock>,
    deadlines: [AtomicU64; Sleeper::ALL.len()],
    /// The earliest of them.
    first: AtomicU64,
}

impl Alarms {
    pub(super) fn new() -> Arc<Self> {
        let clock = Arc::new(Clock::new());
        let deadlines = std::array::from_fn(|_| AtomicU64::new(DISARMED));
        Arc::new(Self { clock, deadlines, first: AtomicU64::new(DISARMED) })
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The chip's end of an alarm.
    pub(super) fn alarm(self: &Arc<Self>, sleeper: Sleeper) -> Alarm {
        Box::new(Slot { alarms: self.clone(), index: sleeper as usize })
    }

    /// Switches all off.
    pub(super) fn disarm(&self) {
        self.deadlines.iter().for_each(|deadline| deadline.store(DISARMED, Relaxed));
        self.first.store(DISARMED, Relaxed);
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Option<Ns> {
        let first = self.first.load(Relaxed);
        (first != DISARMED).then_some(first)
    }

    fn set(&self, index: usize, at: u64) {
        let old = self.deadlines[index].swap(at, Relaxed);
        let first = self.first.load(Relaxed);
        if at <= first {
            self.first.store(at, Relaxed);
        } else if old == first {
            let all = self.deadlines.iter().map(|d| d.load(Relaxed));
            self.first.store(all.min().unwrap_or(DISARMED), Relaxed);
        }
    }

    /// Disarms and returns the alarm that is due first, if one is due.
    pub(super) fn take_due(&self) -> Option<(Sleeper, Ns)> {
        self.next().filter(|&at| at <= self.clock.now())?;
        let due = |s: &Sleeper| self.deadlines[*s as usize].load(Relaxed);
        let first = Sleeper::ALL.into_iter().min_by_key(due)?;
        let at = due(&first);
        self.set(first as usize, DISARMED);
        Some((first, at))
    }
}

/// One chip's alarm.
struct Slot {
    alarms: Arc<Alarms>,
    index: usize,
}

impl Timer for Slot {
    fn now(&self) -> Ns {
        self.alarms.clock.now()
    }
    fn arm(&self, deadline: Option<Ns>) {
        let at = deadline.unwrap_or(DISARMED).min(DISARMED - u64::from(deadline.is_some()));
        self.alarms.set(self.index, at);
    }
}
