//! Stand-ins for wires, alarms and memory in the chips' unit tests.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use mem::{Dma, IrqLine, Ns, Phys, Timer};

use crate::{Alarm, BusMaster, Wire};

/// A wire that remembers its level and how often it rose.
#[derive(Clone, Default)]
pub(crate) struct FakeWire(Arc<(AtomicBool, AtomicU64)>);

impl FakeWire {
    pub(crate) fn boxed(&self) -> Wire {
        Box::new(self.clone())
    }
    pub(crate) fn level(&self) -> bool {
        self.0.0.load(Relaxed)
    }
    pub(crate) fn rises(&self) -> u64 {
        self.0.1.load(Relaxed)
    }
}

impl IrqLine for FakeWire {
    fn set(&self, high: bool) {
        if high && !self.0.0.swap(high, Relaxed) {
            self.0.1.fetch_add(1, Relaxed);
        }
        self.0.0.store(high, Relaxed);
    }
}

/// A clock moved by hand, with one alarm.
#[derive(Clone, Default)]
pub(crate) struct FakeTimer(Arc<(AtomicU64, Mutex<Option<Ns>>)>);

impl FakeTimer {
    pub(crate) fn boxed(&self) -> Alarm {
        Box::new(self.clone())
    }
    pub(crate) fn set_now(&self, now: Ns) {
        self.0.0.store(now, Relaxed);
    }
    pub(crate) fn deadline(&self) -> Option<Ns> {
        *self.0.1.lock().unwrap()
    }
    /// Moves the clock to `to`, calling `expired` for each alarm on the way.
    pub(crate) fn run_to(&self, to: Ns, mut expired: impl FnMut()) {
        while let Some(deadline) = self.deadline().filter(|&d| d <= to) {
            *self.0.1.lock().unwrap() = None;
            self.set_now(deadline.max(self.now()));
            expired();
        }
        self.set_now(to);
    }
}

impl Timer for FakeTimer {
    fn now(&self) -> Ns {
        self.0.0.load(Relaxed)
    }
    fn arm(&self, deadline: Option<Ns>) {
        *self.0.1.lock().unwrap() = deadline;
    }
}

/// 64 KiB of memory.
#[derive(Clone)]
pub(crate) struct FakeDma(pub(crate) Arc<Mutex<Vec<u8>>>);

impl FakeDma {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(vec![0; 0x10000])))
    }
    pub(crate) fn boxed(&self) -> BusMaster {
        Box::new(self.clone())
    }
    pub(crate) fn peek(&self, at: usize, n: usize) -> Vec<u8> {
        self.0.lock().unwrap()[at..at + n].to_vec()
    }
    pub(crate) fn poke(&self, at: usize, bytes: &[u8]) {
        self.0.lock().unwrap()[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

impl Dma for FakeDma {
    fn read(&self, at: Phys, buf: &mut [u8]) {
        let mem = self.0.lock().unwrap();
        for (i, byte) in buf.iter_mut().enumerate() {
            *byte = mem.get(at.0 as usize + i).copied().unwrap_or(0xff);
        }
    }
    fn write(&self, at: Phys, buf: &[u8]) {
        let mut mem = self.0.lock().unwrap();
        for (i, byte) in buf.iter().enumerate() {
            if let Some(slot) = mem.get_mut(at.0 as usize + i) {
                *slot = *byte;
            }
        }
    }
}
