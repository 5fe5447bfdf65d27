//! The second translator: a thread that makes blocks for speed while the vCPU goes on with what it has.
//!
//! It shares nothing with the vCPU: a [`Work`] goes there with the block's page and comes back with its code. There are a few of them, which
//! go to and fro, so that nothing is allocated and no more blocks wait than are soon done.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jit::{Compiler, Piece};
use x86::front::CodeBytes;

use super::cache::{BlockId, Key};
use super::kick::Kicker;
use super::pages::{Peeked, begins_at};
use super::pipeline::{FETCH, Order, Outcome, PEEK, Pipeline};

/// Blocks that may wait, or be done and not yet taken.
const DEPTH: usize = 64;
/// Waking a thread that waits costs the vCPU about as much as making a block, so the thread looks for work by itself for a while:
/// without a pause, then with pauses that the host gives, and waits for it when there has been none for so many of them.
const TURNS: u32 = 200;
const NAPS: u32 = 40;
const NAP: Duration = Duration::from_micros(20);

/// By how much the thread is nicer than the vCPU's.
const NICE: i32 = 5;

/// One block's way to the thread and back.
pub(super) struct Work {
    pub(super) order: Order,
    /// The block it is to replace.
    pub(super) old: BlockId,
    /// Linear address of its first insn, for the map of `perf`.
    pub(super) lin: u64,
    /// Which blocks that is said of: the cache was flushed so many times.
    pub(super) flushes: u64,
    /// The RAM page when it was asked for.
    pub(super) page: [u8; 0x1000],
    /// Where blocks began in it.
    pub(super) starts: [u64; 64],
    /// What came of it.
    pub(super) outcome: Outcome,
    pub(super) piece: Piece,
    pub(super) insns: u32,
    pub(super) len: u32,
    pub(super) peeked: [Peeked; 2],
    behind: [[u8; PEEK]; 2],
    pub(super) took: Duration,
}

impl Work {
    fn new(order: Order) -> Box<Self> {
        Box::new(Self {
            order,
            old: 0,
            lin: 0,
            flushes: 0,
            page: [0; 0x1000],
            starts: [0; 64],
            outcome: Outcome::Full,
            piece: Piece::default(),
            insns: 0,
            len: 0,
            peeked: Default::default(),
            behind: [[0; PEEK]; 2],
            took: Duration::ZERO,
        })
    }
    pub(super) fn key(&self) -> &Key {
        &self.order.key
    }
    /// The bytes it was made from, then those behind its direct exits.
    pub(super) fn bytes(&self) -> [&[u8]; 3] {
        let from = self.order.place.page_off as usize & 0xFFF;
        let to = (from + (self.len as usize).min(FETCH)).min(0x1000);
        let [first, other] = [0, 1].map(|n| &self.behind[n][..self.peeked[n].reach().min(PEEK)]);
        [&self.page[from..to], first, other]
    }
    /// Makes the block.
    fn make(&mut self, pipeline: &mut Pipeline, compiler: &mut Compiler) {
        let start = Instant::now();
        let passes = pipeline.passes;
        self.outcome = loop {
            match self.attempt(pipeline, compiler) {
                Outcome::Without(less) => pipeline.passes = pipeline.passes.without(less),
                outcome => break outcome,
            }
        };
        pipeline.passes = passes;
        self.insns = pipeline.info.insns.len() as u32;
        self.len = pipeline.info.bytes;
        (self.peeked, self.behind) = (pipeline.peeked, pipeline.behind);
        self.took = start.elapsed();
    }
    fn attempt(&mut self, pipeline: &mut Pipeline, compiler: &mut Compiler) -> Outcome {
        let (page, starts, piece) = (&self.page, &self.starts, &mut self.piece);
        let has_run = |off: u32| begins_at(starts, off);
        let manner = pipeline.manner(&self.order, (false, false), &has_run);
        let from = self.order.place.page_off as usize & 0xFFF;
        let code = CodeBytes { page: &page[from..(from + FETCH).min(0x1000)], next: None };
        if pipeline.lower(&code, self.order.place, manner).is_err() {
            // The block that is to be replaced did not cross its page's end: its bytes have changed.
            return Outcome::Full;
        }
        let peek = |at: usize, bytes: &mut [u8]| {
            let there = page.get(at..at + bytes.len());
            there.inspect(|there| bytes.copy_from_slice(there)).is_some()
        };
        pipeline.finish(&self.order, peek, |request| compiler.compile(request, piece))
    }
}

/// The vCPU's end.
pub(super) struct Worker {
    to: Option<Sender<Box<Work>>>,
    from: Receiver<Box<Work>>,
    is_done: Arc<AtomicBool>,
    idle: Vec<Box<Work>>,
    /// How many there are.
    made: usize,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts the thread; `nudge` makes the vCPU come by.
    ///
    /// # Errors
    /// When the host has no thread to give.
    pub(super) fn start(
        mut pipeline: Pipeline,
        mut compiler: Compiler,
        nudge: Kicker,
    ) -> std::io::Result<Self> {
        let (to, orders) = channel::<Box<Work>>();
        let (done, from) = channel();
        let is_done = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&is_done);
        let thread =
            std::thread::Builder::new().name("translator".to_owned()).spawn(move || {
                // Where processors are scarce the vCPU comes first. Refusal costs only time.
                let _ = rustix::process::nice(NICE);
                while let Some(mut work) = next(&orders) {
                    work.make(&mut pipeline, &mut compiler);
                    if done.send(work).is_err() {
                        return;
                    }
                    if !flag.swap(true, Ordering::AcqRel) {
                        nudge.nudge();
                    }
                }
            })?;
        Ok(Self { to: Some(to), from, is_done, idle: Vec::new(), made: 0, thread: Some(thread) })
    }
    /// One that is free, for this order.
    pub(super) fn free(&mut self, order: Order) -> Option<Box<Work>> {
        if let Some(mut work) = self.idle.pop() {
            work.order = order;
            return Some(work);
        }
        if self.made == DEPTH {
            return None;
        }
        self.made += 1;
        Some(Work::new(order))
    }
    /// Has it made; false if the thread has ended.
    pub(super) fn send(&self, work: Box<Work>) -> bool {
        self.to.as_ref().is_some_and(|to| to.send(work).is_ok())
    }
    /// Are there any that are done?
    pub(super) fn has_done(&self) -> bool {
        self.is_done.load(Ordering::Acquire)
    }
    /// Those that are done are about to be taken: the next is worth another nudge.
    pub(super) fn begin_taking(&self) {
        self.is_done.store(false, Ordering::Release);
    }
    /// One that is done; `wait`: it may take a while.
    pub(super) fn take(&self, wait: bool) -> Option<Box<Work>> {
        if wait { self.from.recv().ok() } else { self.from.try_recv().ok() }
    }
    /// One is free again.
    pub(super) fn give_back(&mut self, work: Box<Work>) {
        self.idle.push(work);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.to = None;
        if let Some(thread) = self.thread.take() {
            // It has said itself why it ended.
            let _ = thread.join();
        }
    }
}

/// The next order; `None` when there will be none.
fn next(orders: &Receiver<Box<Work>>) -> Option<Box<Work>> {
    for turn in 0..TURNS + NAPS {
        match orders.try_recv() {
            Ok(work) => return Some(work),
            Err(TryRecvError::Disconnected) => return None,
            Err(TryRecvError::Empty) if turn < TURNS => std::hint::spin_loop(),
            Err(TryRecvError::Empty) => std::thread::sleep(NAP),
        }
    }
    orders.recv().ok()
}
