//! The evaluator as an engine: one insn at a time, or a block the JIT has no form for.

use ir::{End, exit};

use super::cache::{BlockId, Body};
use super::pipeline::Manner;
use super::{Vcpu, pc_mask};
use x86::mode::Mode;

impl Vcpu {
    /// Runs the insn at the instruction pointer on the evaluator and delivers what it raises, single-step trap included.
    pub(super) fn evaluate_one(&mut self) {
        let mode = self.core.cpu.mode();
        self.evaluate_insn();
        self.core.cpu.settle_ferr();
        self.core.counter.spend(1);
        self.after_step(mode);
    }

    /// Runs insns on the evaluator until something may have to be served between two of them.
    pub(super) fn evaluate_run(&mut self) {
        loop {
            self.evaluate_one();
            let cpu = &self.core.cpu;
            let is_quiet = cpu.is_quiet()
                && cpu.state.jump_mask != 0
                && !cpu.mode().has(Mode::SINGLE)
                && self.stops.is_none();
            if !is_quiet {
                return;
            }
        }
    }

    /// The same without the single-step trap. Returns the page offset behind the insn, if it was built.
    pub(super) fn evaluate_insn(&mut self) -> Option<u32> {
        if self.core.cpu.take_shadow() {
            self.core.cpu.sync_mode();
        }
        self.core.faulted = false;
        self.core.cpu.state.watched = 1;
        let cpu = &mut self.core.cpu;
        let pc = cpu.state.pc;
        let key = match self.translator.key(cpu, pc) {
            Ok(key) => key,
            Err(fault) => {
                self.deliver(fault);
                return None;
            }
        };
        if let Some(known) = self.memo.take(&key, &self.core.cpu.ram) {
            self.run_ir(known.block(), pc);
            let end = known.end();
            self.memo.put(known);
            return Some(end);
        }
        let block = match self.translator.build(&mut self.core.cpu, pc, Manner::Single, None) {
            Ok(_) => std::mem::take(&mut self.translator.pipeline.block),
            Err(fault) => {
                self.deliver(fault);
                return None;
            }
        };
        let insn = self.translator.pipeline.info.insns.first().copied();
        if let Some(insn) = insn {
            self.memo.add(key, insn.len, &block, &self.core.cpu.ram);
        }
        self.run_ir(&block, pc);
        self.translator.pipeline.block = block;
        let insn = insn?;
        Some(u32::from(insn.page_off) + u32::from(insn.len))
    }

    /// Runs a block that has no host form insn by insn, as far as each goes on to the next and none wrote code or changed the
    /// mode. In one go all the same: flags that the block overwrites before anything can see them may be missing at its start.
    pub(super) fn evaluate_block(&mut self, id: BlockId) {
        let Body::Evaluated { insns } = self.core.cache.get(id).body else { return };
        // Counted blocks keep all flags at their exits, so that each insn may stand alone.
        let insns = if self.config.counted { 1 } else { insns };
        if self.config.counted && !self.core.counter.has_left() {
            return;
        }
        self.tell_time();
        for _ in 0..insns {
            self.core.counter.spend(1);
            self.stats.evaluated += 1;
            let next = self.evaluate_insn().map(|at| self.pc_in_page(u64::from(at)));
            let cpu = &self.core.cpu;
            let is_over = self.core.faulted || cpu.state.leave != 0 || !cpu.smc.is_empty();
            if is_over || next != Some(cpu.state.pc) {
                return;
            }
        }
    }

    fn run_ir(&mut self, block: &ir::Block, pc: u64) {
        let cpu = &mut self.core.cpu;
        let page_off = cpu.lin_pc(pc).page_offset();
        let mask = pc_mask(cpu.mode());
        cpu.state.pc_base = pc.wrapping_sub(page_off) & mask;
        let end = ir::run(block, cpu, &mut self.scratch);
        match end {
            End::GotoTb { page_off, .. } => {
                self.core.cpu.state.pc = self.pc_in_page(u64::from(page_off));
            }
            End::GotoPtr(pc) => self.core.cpu.state.pc = pc & mask,
            End::Exit { code, pc } => {
                if let Some(pc) = pc {
                    self.core.cpu.state.pc = pc & mask;
                }
                debug_assert_ne!(code, exit::FAULT, "faults end by Stop");
            }
            End::Stop(fault) => self.deliver_of_insn(fault),
        }
    }
}
