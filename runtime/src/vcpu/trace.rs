//! What `-d` shows of the inner loop.

use jit::abi;
use mem::Size;
use x86::decode::ROWS;
use x86::disasm::{self, Syntax};
use x86::fault::Fault;
use x86::front::InsnInfo;
use x86::lower::IrNames;

use super::cache::{BlockId, Body};
use super::{Vcpu, pc_mask};
use crate::log::{Items, Place, insn_line};

/// Rows that the log has named.
#[derive(Debug, Default)]
pub(super) struct Rows(Vec<bool>);

impl Rows {
    /// Adds the rows of a block; returns those that are new.
    fn add(&mut self, insns: &[InsnInfo]) -> Vec<u16> {
        self.0.resize(ROWS.len(), false);
        let mut new = Vec::new();
        for insn in insns {
            // Bytes that are no insn have no row.
            if let Some(seen) = self.0.get_mut(usize::from(insn.row))
                && !std::mem::replace(seen, true)
            {
                new.push(insn.row);
            }
        }
        new
    }
}

impl Vcpu {
    pub(super) fn log_prologue(&mut self) {
        if let Some(jit) = self.translator.jit() {
            self.log.prologue(jit.buf().address(0), jit.prologue());
        }
    }
    /// `IN:`, `OP:` and new rows of the block just lowered.
    pub(super) fn trace_block(&mut self, pc: u64) {
        let lin = self.core.cpu.lin_pc(pc).0;
        if self.log.wants(Items::ROWS, lin) {
            for row in self.rows.add(&self.translator.pipeline.info.insns) {
                let info = &ROWS[usize::from(row)];
                self.log.write(format_args!("row {row} {} {}\n", info.mnemonic, info.opcode));
            }
        }
        if self.log.wants(Items::IN_ASM, lin) {
            let text = self.listing(pc);
            self.log.in_asm(lin, &text);
        }
        if self.log.wants(Items::OP, lin) {
            self.log.op(lin, &ir::text::print(&self.translator.pipeline.block, &IrNames));
        }
    }
    /// `OP after optimization…` and `OUT:` of the block just published.
    pub(super) fn trace_translated(&mut self, pc: u64, id: BlockId) {
        let lin = self.core.cpu.lin_pc(pc).0;
        if self.log.wants(Items::OP_OPT, lin) {
            self.log.op_opt(lin, &ir::text::print(&self.translator.pipeline.block, &IrNames));
        }
        if let (Body::Host(c), Some(jit)) = (&self.core.cache.get(id).body, self.translator.jit())
            && self.log.wants(Items::OUT_ASM, lin)
        {
            self.log.out_asm(
                lin,
                jit.buf().address(c.entry as usize),
                jit.buf().bytes(c.entry as usize, c.len as usize),
            );
        }
    }
    /// One line per insn: address, bytes, text.
    fn listing(&mut self, pc: u64) -> String {
        let mut text = String::new();
        let features = self.core.cpu.model().features();
        let insns = self.translator.pipeline.info.insns.clone();
        let base = pc.wrapping_sub(self.core.cpu.lin_pc(pc).page_offset());
        for insn in insns {
            let ip = base.wrapping_add(u64::from(insn.page_off)) & pc_mask(self.core.cpu.mode());
            let lin = self.core.cpu.lin_pc(ip).0;
            let mut bytes = Vec::new();
            for i in 0..u64::from(insn.len) {
                let at = self.core.cpu.lin_pc(ip.wrapping_add(i));
                let Some(phys) = self.core.cpu.peek_phys(at) else { break };
                bytes.push(self.core.cpu.phys_read(phys, Size::B1) as u8);
            }
            let size = x86::front::code_size(self.core.cpu.mode());
            let what = match x86::decode::decode(&bytes, size, &features) {
                Ok(insn) => disasm::format(&insn, ip, Syntax::Att),
                Err(_) => "(bad)".to_owned(),
            };
            text += &insn_line(lin, &bytes, &what);
        }
        text
    }
    /// `Trace` line and registers of a block about to be entered.
    pub(super) fn trace_exec(&mut self, id: BlockId) {
        if !self.log.has(Items::EXEC) && !self.log.has(Items::CPU) {
            return;
        }
        let cpu = &self.core.cpu;
        let pc = cpu.lin_pc(cpu.state.pc).0;
        let host = match (&self.core.cache.get(id).body, self.translator.jit()) {
            (Body::Host(c), Some(jit)) => jit.buf().address(c.entry as usize),
            _ => 0,
        };
        let cs_base = cpu.state.seg[1].base;
        let flags = u32::from(abi::STATE);
        self.log.trace(Place { host, cs_base, pc, mode: cpu.mode().0, flags });
        if self.log.wants(Items::CPU, pc) {
            self.log.cpu(pc, &cpu.dump());
        }
    }
    /// A fault is about to be delivered.
    pub(super) fn trace_fault(&mut self, fault: Fault) {
        if self.log.has(Items::INT) {
            let cpu = &self.core.cpu;
            let code = fault.code.unwrap_or(0);
            self.log.write(format_args!(
                "v={:02x} e={code:04x} i=0 cpl={} IP={:04x}:{:08x} pc={:08x} SP={:04x}:{:08x} CR2={:08x}\n",
                fault.vector,
                cpu.state.cpl,
                cpu.state.seg[1].selector,
                cpu.state.pc,
                cpu.lin_pc(cpu.state.pc).0,
                cpu.state.seg[2].selector,
                cpu.state.gpr[4],
                if fault.vector == 14 { fault.info } else { cpu.state.cr2 },
            ));
            self.log.write(format_args!("{}", cpu.dump()));
        }
    }
}
