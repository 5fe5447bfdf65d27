//! The two ways a machine's thread waits: a bell it sleeps on while the CPU is halted, and an alarm thread that
//! kicks the vCPU out of guest code at a deadline.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::vcpu::Kicker;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits on `changed` until it is notified or `until` has come.
fn wait<'a, T>(
    changed: &Condvar,
    guard: MutexGuard<'a, T>,
    until: Option<Instant>,
) -> MutexGuard<'a, T> {
    match until {
        None => changed.wait(guard).unwrap_or_else(PoisonError::into_inner),
        Some(until) => {
            let left = until.saturating_duration_since(Instant::now());
            changed.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0
        }
    }
}

/// A bell: rung by any thread, remembered until somebody waited for it.
#[derive(Debug, Default)]
pub(super) struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    /// Wakes whoever waits, or the next who will.
    pub(super) fn ring(&self) {
        *lock(&self.rung) = true;
        self.changed.notify_all();
    }

    /// Waits until the bell was rung or `until` has come; without `until`, for the bell only.
    pub(super) fn wait(&self, until: Option<Instant>) {
        let mut rung = lock(&self.rung);
        while !*rung && until.is_none_or(|until| Instant::now() < until) {
            rung = wait(&self.changed, rung, until);
        }
        *rung = false;
    }
}

#[derive(Debug, Default)]
struct Times {
    deadline: Option<Instant>,
    /// What the thread sleeps for.
    sleeping: Option<Instant>,
    stop: bool,
}

/// The alarm thread. Dropping it ends the thread.
#[derive(Debug)]
pub(super) struct Alarm {
    shared: Arc<(Mutex<Times>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Alarm {
    /// Starts the thread; it kicks `kicker`.
    pub(super) fn start(kicker: Kicker) -> Self {
        let shared = Arc::new((Mutex::new(Times::default()), Condvar::new()));
        let theirs = shared.clone();
        let thread = std::thread::spawn(move || watch(&theirs, &kicker));
        Self { shared, thread: Some(thread) }
    }

    /// Sets the deadline; one that passed kicks at once.
    pub(super) fn set(&self, deadline: Option<Instant>) {
        let (times, changed) = &*self.shared;
        let mut times = lock(times);
        times.deadline = deadline;
        // A later deadline needs no wake-up: the thread looks again when it wakes for the earlier one.
        let is_earlier = match (deadline, times.sleeping) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(new), Some(old)) => new < old,
        };
        if is_earlier {
            times.sleeping = deadline;
            changed.notify_one();
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        lock(&self.shared.0).stop = true;
        self.shared.1.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; there is nothing to add.
            let _ = thread.join();
        }
    }
}

fn watch(shared: &(Mutex<Times>, Condvar), kicker: &Kicker) {
    let (times, changed) = shared;
    let mut times = lock(times);
    while !times.stop {
        if times.deadline.is_some_and(|at| at <= Instant::now()) {
            times.deadline = None;
            kicker.kick();
        }
        times.sleeping = times.deadline;
        let until = times.deadline;
        times = wait(changed, times, until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_bell_is_remembered() {
        let bell = Bell::default();
        bell.ring();
        bell.wait(None);
        let start = Instant::now();
        bell.wait(Some(start + Duration::from_millis(5)));
        assert!(start.elapsed() >= Duration::from_millis(5));
    }

    #[test]
    fn a_bell_wakes_a_sleeper() {
        let bell = Arc::new(Bell::default());
        let theirs = bell.clone();
        let sleeper = std::thread::spawn(move || theirs.wait(None));
        bell.ring();
        sleeper.join().unwrap();
    }
}
