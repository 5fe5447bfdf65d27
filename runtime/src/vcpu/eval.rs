//! The evaluator as an engine: one insn at a time, or a block the JIT has no form for.

use ir::{End, exit};
use x86::fault::Fault;
use x86::mode::Mode;

use super::Vcpu;
use super::cache::{BlockId, Body};

impl Vcpu {
    /// Runs the insn at the instruction pointer on the evaluator and delivers what it raises.
    pub(super) fn evaluate_one(&mut self) {
        let mode = self.core.cpu.mode();
        if self.core.cpu.take_shadow() {
            self.core.cpu.sync_mode();
        }
        self.core.faulted = false;
        let pc = self.core.cpu.state.pc;
        let block = match self.translator.build(&mut self.core.cpu, pc, true) {
            Ok(_) => std::mem::take(&mut self.translator.block),
            Err(fault) => return self.deliver(fault),
        };
        self.run_ir(&block, pc);
        self.translator.block = block;
        if mode.has(Mode::TF) && !self.core.faulted {
            self.core.cpu.finish_step();
        }
    }

    /// Runs a translated block on the evaluator.
    pub(super) fn evaluate_block(&mut self, id: BlockId) {
        let Body::Ir(block) = &self.core.cache.get(id).body else { return };
        let block = block.clone();
        self.core.faulted = false;
        let pc = self.core.cpu.state.pc;
        self.stats.evaluated += 1;
        self.run_ir(&block, pc);
    }

    fn run_ir(&mut self, block: &ir::Block, pc: u64) {
        let cpu = &mut self.core.cpu;
        let page_off = cpu.lin_pc(pc).page_offset();
        cpu.state.pc_base = pc.wrapping_sub(page_off) & 0xFFFF_FFFF;
        let end = ir::run(block, cpu, &mut self.scratch);
        match end {
            End::GotoTb { page_off, .. } => {
                self.core.cpu.state.pc = self.pc_in_page(u64::from(page_off));
            }
            End::GotoPtr(pc) => self.core.cpu.state.pc = pc & 0xFFFF_FFFF,
            End::Exit { code, pc } => {
                if let Some(pc) = pc {
                    self.core.cpu.state.pc = pc & 0xFFFF_FFFF;
                }
                debug_assert_ne!(code, exit::FAULT, "faults end by Stop");
            }
            End::Stop(fault) => self.stop(fault),
        }
    }
    /// A fault ended evaluation: the instruction pointer is that of the insn it began at, unless a helper moved it.
    fn stop(&mut self, fault: Fault) {
        self.deliver(fault);
    }
}
