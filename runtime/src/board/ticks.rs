//! The host's time: its monotonic clock, and its time-stamp counter in place of that where the counter runs at one rate.
//!
//! Asking the host's clock takes some 60 ns, reading the counter 20. Generated code can read the counter, too, so that what it
//! computes and what chips see must be one and the same: a map from ticks to nanoseconds ([`TscMap`]), which holds for a span of ticks.
//! Nothing but the counter decides when the span is over, and the next one begins at the very time where the last is left. So time
//! never jumps, whoever asks.
//! The rate is that of the whole run so far, bent by what the last span was wrong by. The host's clock stays the truth: a counter
//! that stopped or jumped (a host that slept) is noticed at the end of the span, and is learned anew.
// UNSAFETY: RDTSC.
#![expect(unsafe_code, reason = "the host's time-stamp counter")]

use std::arch::x86_64::{__cpuid, _rdtsc};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use mem::{Ns, TscMap};

/// How long the counter is watched before it is believed: two readings of the clock, wrong by less than 100 ns, then tell the rate
/// to some parts in a million.
const LEARNING_NS: Ns = 20_000_000;
/// Longest span.
const SPAN_NS: Ns = 500_000_000;
/// What the counter may be wrong by at the end of a span: this, and a thousandth of the span.
const TOLERANCE_NS: u64 = 200_000;
/// Times that the counter may be found wrong before it is left alone.
const CHANCES: u32 = 8;

/// The host's time since some moment. One thread at a time uses it.
#[derive(Debug)]
pub(super) struct HostTime {
    origin: Instant,
    /// The fields of the map in force.
    map: [AtomicU64; 4],
    learned: Mutex<Learned>,
}

/// What is known of the counter.
#[derive(Debug)]
struct Learned {
    /// Time and counter from which the rate is learned.
    since: (Ns, u64),
    /// No time before this is told any more.
    floor: Ns,
    /// 0: the counter is not to be trusted.
    chances: u32,
}

/// The counter.
fn ticks() -> u64 {
    // SAFETY: every processor with SSE2 has the instruction.
    unsafe { _rdtsc() }
}

/// Does the counter run at the same rate in every state of the processor? (SDM Vol. 3B, "Invariant TSC".)
fn is_invariant() -> bool {
    const POWER_MANAGEMENT: u32 = 0x8000_0007;
    __cpuid(0x8000_0000).eax >= POWER_MANAGEMENT && __cpuid(POWER_MANAGEMENT).edx & 1 << 8 != 0
}

impl HostTime {
    pub(super) fn new() -> Self {
        let chances = if is_invariant() { CHANCES } else { 0 };
        let learned = Mutex::new(Learned { since: (0, ticks()), floor: 0, chances });
        let time = Self { origin: Instant::now(), map: Default::default(), learned };
        time.learned().since = time.both();
        time
    }

    /// Nanoseconds.
    pub(super) fn ns(&self) -> Ns {
        self.map().at(ticks()).unwrap_or_else(|| self.begin_span())
    }

    /// How [`ns`](Self::ns) follows from the counter now.
    pub(super) fn map(&self) -> TscMap {
        let [zero, span, scale, base] = self.map.each_ref().map(|field| field.load(Relaxed));
        TscMap { zero, span, scale, base }
    }

    fn set_map(&self, map: TscMap) {
        let fields = [map.zero, map.span, map.scale, map.base];
        self.map.iter().zip(fields).for_each(|(field, value)| field.store(value, Relaxed));
    }

    fn learned(&self) -> MutexGuard<'_, Learned> {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// By the host's clock.
    fn clock_ns(&self) -> Ns {
        let elapsed = self.origin.elapsed();
        elapsed.as_secs().wrapping_mul(1_000_000_000) + u64::from(elapsed.subsec_nanos())
    }

    /// Clock and counter at one moment: the reading of the clock that took least.
    fn both(&self) -> (Ns, u64) {
        let readings = (0..3).map(|_| {
            let before = ticks();
            let ns = self.clock_ns();
            let took = ticks().wrapping_sub(before);
            (took, (ns, before.wrapping_add(took / 2)))
        });
        readings.min_by_key(|(took, _)| *took).map_or_else(Default::default, |(_, both)| both)
    }

    /// The last span is over, or there is none yet.
    #[cold]
    fn begin_span(&self) -> Ns {
        let mut learned = self.learned();
        if learned.chances == 0 {
            return learned.never_back(self.clock_ns());
        }
        let (ns, zero) = self.both();
        let (origin_ns, origin) = learned.since;
        let run = (ns.saturating_sub(origin_ns), zero.wrapping_sub(origin));
        if run.0 < LEARNING_NS {
            return learned.never_back(ns);
        }
        let old = self.map();
        let mut base = learned.floor.max(ns);
        if old.span != 0 {
            base = old.after(zero.wrapping_sub(old.zero));
            let span_ns = base.wrapping_sub(old.base);
            if base.abs_diff(ns) > TOLERANCE_NS.saturating_add(span_ns / 1000) {
                log::warn!("the host's time-stamp counter jumped: time is by the host's clock");
                self.set_map(TscMap::default());
                // Generated code may have told any time up to the span's end.
                let floor = old.after(old.span);
                let chances = learned.chances - 1;
                *learned = Learned { since: (ns, zero), floor, chances };
                return learned.never_back(ns);
            }
        }
        let map = next_map(run, (ns, zero), base);
        if map.is_none() {
            learned.chances = 0;
        }
        self.set_map(map.unwrap_or_default());
        learned.never_back(base)
    }
}

impl Learned {
    fn never_back(&mut self, ns: Ns) -> Ns {
        self.floor = self.floor.max(ns);
        self.floor
    }
}

/// The map from `zero` on, where time is `base` and should be `ns`, with the rate of a run of so many nanoseconds and ticks. It makes good in
/// one span what time is wrong by. `None` if the counter is too slow for it.
fn next_map(run: (Ns, u64), (ns, zero): (Ns, u64), base: Ns) -> Option<TscMap> {
    let (run_ns, run_ticks) = run;
    // A short run knows its rate badly: the next look comes soon.
    let span_ns = SPAN_NS.min(run_ns);
    let per_tick = |ns: u128| u64::try_from((ns << 64) / u128::from(run_ticks).max(1)).ok();
    let rate = u128::from(per_tick(u128::from(run_ns))?);
    let span = u64::try_from((u128::from(span_ns) << 64) / rate.max(1)).ok()?;
    // At most a thousandth faster or slower.
    let wrong = i128::from(ns.wrapping_sub(base).cast_signed());
    let bend = wrong.clamp(-i128::from(span_ns / 1000), i128::from(span_ns / 1000));
    let scale = rate.cast_signed() + rate.cast_signed() * bend / i128::from(span_ns).max(1);
    let scale = u64::try_from(scale).ok()?;
    Some(TscMap { zero, span, scale, base })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_map_makes_good_what_time_was_wrong_by() {
        // 2.5 GHz for a minute, and 1,000 ns too late.
        let run = (60_000_000_000, 150_000_000_000);
        let map = next_map(run, (61_000_000_000, 777), 60_999_999_000).unwrap();
        assert_eq!((map.zero, map.span, map.base), (777, 1_250_000_000, 60_999_999_000));
        assert_eq!(map.at(777), Some(60_999_999_000));
        assert_eq!(map.at(777 + map.span), None);
        assert_eq!(map.at(776), None);
        let end = map.after(map.span);
        assert!(end.abs_diff(61_500_000_000) < 5, "{end}");
    }

    #[test]
    fn nonsense_makes_no_map_or_a_harmless_one() {
        // A counter slower than a tick per nanosecond, or one that stands.
        assert_eq!(next_map((1_000_000, 1_000), (0, 0), 0), None);
        assert_eq!(next_map((1_000_000, 0), (0, 0), 0), None);
        // An error as long as a run is made good over many spans.
        let map = next_map((1 << 30, 1 << 32), (0, 0), u64::MAX).unwrap();
        assert!(map.after(map.span).wrapping_sub(map.base).abs_diff(SPAN_NS) <= SPAN_NS / 999);
    }

    #[test]
    fn host_time_follows_the_clock_and_never_goes_back() {
        let time = HostTime::new();
        let mut last = 0;
        while time.clock_ns() < 100_000_000 {
            let before = time.clock_ns();
            let ns = time.ns();
            let after = time.clock_ns();
            assert!(ns >= last);
            assert!(ns + 100_000 >= before && ns <= after + 100_000, "{before} {ns} {after}");
            last = ns;
        }
        assert_eq!(time.map().span != 0, is_invariant());
    }

    #[test]
    fn a_counter_that_jumps_is_learned_anew() {
        let time = HostTime::new();
        if !is_invariant() {
            return;
        }
        std::thread::sleep(Duration::from_nanos(LEARNING_NS));
        let first = time.ns();
        let map = time.map();
        assert_ne!(map.span, 0);
        // As if it had been set back: the map's span is far away.
        time.set_map(TscMap { zero: map.zero.wrapping_add(1 << 50), ..map });
        let second = time.ns();
        assert_eq!(time.map().span, 0);
        assert!(second >= first && time.ns() >= second);
        std::thread::sleep(Duration::from_nanos(LEARNING_NS + SPAN_NS));
        assert!(time.ns() >= second);
        assert_ne!(time.map().span, 0);
    }
}
