//! Blocks made for speed beside the vCPU: what is ordered of the second translator, and what becomes of it.
//!
//! A block that has proved hot goes on in compact form until its new form is there. That is installed between blocks, as if it had been
//! made then, if the old block is still found by its key and every byte the new one rests on is what it was when it was ordered.
//! Where all orders are out, the vCPU makes the block itself: both translate then.

use std::thread::available_parallelism;

use ir::opt::Passes;
use jit::{Compiled, Tier};

use super::cache::{BlockId, New};
use super::dormant::{Old, Past, holds};
use super::pipeline::{Order, Outcome, Pipeline};
use super::translate::{place_of, publish};
use super::worker::{Work, Worker};
use super::{Vcpu, far_kind};
use crate::log::Items;

/// Log items that show how blocks are made, where they are made.
const SHOWN: [Items; 5] = [Items::IN_ASM, Items::OP, Items::OP_OPT, Items::OUT_ASM, Items::ROWS];

/// `Beside::patience` when something is ordered.
const PATIENCE: u32 = 32;

/// What the vCPU has ordered.
pub(super) struct Beside {
    worker: Option<Worker>,
    /// Orders that are out.
    out: u32,
    /// Visits of the run loop until they are waited for ([`super::VcpuConfig::lag`]).
    lag: u32,
    /// How often loops that wait for what is out may yet pass by the run loop, each time after some 30 turns.
    patience: u32,
    compiled: Compiled,
    /// No thread is to be started.
    is_off: bool,
}

impl Beside {
    pub(super) fn new(is_on: bool) -> Self {
        let compiled = Compiled::default();
        Self { worker: None, out: 0, lag: 0, patience: 0, compiled, is_off: !is_on }
    }
}

impl Vcpu {
    /// Are blocks ordered at all?
    pub(super) fn translates_beside(config: &super::VcpuConfig) -> bool {
        config.passes.has(Passes::ASYNC)
            && !config.counted
            && config.hot_after.is_some_and(|after| after > 0)
            && config.accel == crate::machine::Accel::Jit
            && (config.lag.is_some() || available_parallelism().is_ok_and(|n| n.get() > 1))
    }

    /// Orders a compact block's hot form; false if it is to be made here and now. A loop that has gone by the run loop for as
    /// long as that takes waits no longer.
    pub(super) fn order_hot(&mut self, id: BlockId, pc: u64, is_loop: bool) -> bool {
        if self.beside.is_off || self.stops.is_some() || SHOWN.iter().any(|&i| self.log.has(i)) {
            return false;
        }
        let block = self.core.cache.get(id);
        if block.is_ordered() {
            self.beside.patience = self.beside.patience.saturating_sub(is_loop.into());
            return self.beside.patience > 0;
        }
        let key = block.key;
        let Some(page) = key.page() else { return false };
        // What its past has taught is not for pages of which copies are made.
        if block.past() != Past::default() || self.core.cache.is_crossing(id) {
            return false;
        }
        let (place, cpu) = (place_of(&self.core.cpu, pc), &self.core.cpu);
        let far = self.core.cache.far(id).map(|_| far_kind(cpu, pc));
        let order = Order { key, place, tier: Tier::Hot, far, keeps_flags: false };
        let Some(mut work) = self.free_work(order) else { return false };
        let cpu = &self.core.cpu;
        // A key's page is one of RAM.
        let _ = cpu.ram.read_bytes(page, &mut work.page);
        work.starts = self.core.cache.starts(page);
        (work.old, work.flushes) = (id, self.stats.flushes);
        work.lin = cpu.lin_pc(pc).0;
        let is_sent = self.beside.worker.as_ref().is_some_and(|worker| worker.send(work));
        if !is_sent {
            self.stop_ordering();
            return false;
        }
        self.core.cache.set_ordered(id, true);
        self.beside.out += 1;
        self.beside.patience = PATIENCE;
        self.beside.lag = self.config.lag.unwrap_or(0);
        true
    }
    /// A free order form; the thread is started when first wanted.
    fn free_work(&mut self, order: Order) -> Option<Box<Work>> {
        if self.beside.worker.is_none() {
            let pipeline = Pipeline::new(self.config.passes, self.translator.pipeline.config);
            let compiler = self.translator.jit()?.compiler();
            match Worker::start(pipeline, compiler, self.kicker.clone()) {
                Ok(worker) => self.beside.worker = Some(worker),
                Err(error) => {
                    log::warn!("no second translator: {error}");
                    self.beside.is_off = true;
                    return None;
                }
            }
        }
        self.beside.worker.as_mut()?.free(order)
    }
    /// The thread has ended, which it never should: all is made here from now on.
    fn stop_ordering(&mut self) {
        log::error!("the second translator has ended; the first goes on alone");
        self.beside = Beside::new(false);
        // No block waits for it any more.
        self.flush_cache();
    }

    /// Installs the blocks that are done.
    #[inline]
    pub(super) fn take_ordered(&mut self) {
        if self.beside.out != 0 {
            self.take_done();
        }
    }
    fn take_done(&mut self) {
        let Some(worker) = &self.beside.worker else { return };
        let waits = match self.config.lag {
            None => false,
            Some(_) if self.beside.lag > 0 => {
                self.beside.lag -= 1;
                return;
            }
            Some(_) => true,
        };
        if !waits && !worker.has_done() {
            return;
        }
        worker.begin_taking();
        while self.beside.out != 0
            && let Some(worker) = &self.beside.worker
        {
            let Some(work) = worker.take(waits) else { break };
            self.beside.out -= 1;
            self.install(&work);
            if let Some(worker) = &mut self.beside.worker {
                worker.give_back(work);
            }
        }
    }

    /// Puts a block where the one it was ordered for is, if nothing has changed.
    fn install(&mut self, work: &Work) {
        self.stats.beside_ns += work.took.as_nanos() as u64;
        let old = work.old;
        if work.flushes != self.stats.flushes {
            self.stats.too_late += 1;
            return;
        }
        self.core.cache.set_ordered(old, false);
        if !self.core.cache.is_live(old) || work.outcome == Outcome::Full || !self.still_holds(work)
        {
            self.stats.too_late += 1;
            if let (true, Some(jit)) = (self.core.cache.is_live(old), self.translator.jit_mut()) {
                // Hot code leads to it by the run loop again, and it is ordered once more.
                self.core.cache.unlink_all(old, jit);
                *self.core.heat_mut(old) = 1;
            }
            return;
        }
        let is_host = matches!(work.outcome, Outcome::Host(_));
        let Some(jit) = self.translator.jit_mut() else { return };
        let mut compiled = std::mem::take(&mut self.beside.compiled);
        if is_host && jit.install(&work.piece, &mut compiled).is_err() {
            self.flush_cache();
            return;
        }
        let new = New {
            host: is_host.then_some(&compiled),
            insns: work.insns,
            len: work.len,
            second: None,
            peeked: work.peeked,
            live: &[],
            bytes: work.bytes(),
            old: Old { live: Some(old), dormant: None, past: Past::default() },
            is_hot: true,
        };
        let jit = self.translator.jit_mut();
        let id = publish(&mut self.core, &mut self.stats, jit, *work.key(), new, 0);
        self.beside.compiled = compiled;
        self.stats.beside += 1;
        self.link_ahead(id);
        self.map_block(work.lin, id);
    }
    /// Are the bytes that a finished block rests on in memory as they were?
    fn still_holds(&self, work: &Work) -> bool {
        let [own, first, other] = work.bytes();
        let behind = [(work.peeked[0], first), (work.peeked[1], other)];
        holds(&self.core.cpu.ram, work.key().phys, own, &[], behind)
    }
}
