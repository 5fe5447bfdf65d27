//! A pending x87 exception comes before the faults of a waiting insn's operand.
//!
//! Generated code checks the operand first; it is the host's own insn that then finds the exception. Processors look for the exception
//! first (measured on Zen 5 and Sapphire Rapids; the manuals do not say). Pending exceptions are rare, and faults are: so it is a
//! fault that is looked at again.

use ir::simd;
use mem::Size;

use crate::access::in_limit;
use crate::cpu::Cpu;
use crate::decode::{MAX_LEN, decode};
use crate::fault::{Fault, vector};
use crate::front::code_size;
use crate::insn::{Form, RowInfo};
use crate::lower::waits;
use crate::state::seg;

/// Does an insn of this row have an x87 or MMX register beside its operand in memory? CVTPI2PS and CVTPI2PD have none, and for them
/// Intel's processors look at the operand first.
fn takes_part(info: &RowInfo) -> bool {
    info.simd & simd::MMX == 0 || info.forms.iter().any(|form| matches!(form, Form::P(_)))
}

impl Cpu {
    /// What is to be delivered when the insn at the instruction pointer has raised `fault`.
    pub fn fault_of_insn(&mut self, fault: Fault) -> Fault {
        let is_operands = matches!(fault.vector, vector::PF | vector::SS | vector::GP | vector::AC);
        let may_be_pending = self.state.fpu_host != 0 || self.has_x87_error();
        if !is_operands || !may_be_pending || !self.is_at_waiting_insn() {
            return fault;
        }
        self.park_fpu();
        self.check_pending_x87().err().unwrap_or(fault)
    }

    /// Does the insn at the instruction pointer, wholly within its segment, look for pending exceptions?
    fn is_at_waiting_insn(&mut self) -> bool {
        let mut bytes = [0; MAX_LEN];
        let mut len = 0;
        for (i, byte) in (0..).zip(&mut bytes) {
            let at = self.peek_phys(self.lin_pc(self.state.pc.wrapping_add(i)));
            let off = at.and_then(|at| self.map.ram_offset(at));
            let Some(value) = off.and_then(|off| self.ram.read(off, Size::B1)) else { break };
            *byte = value as u8; // one byte was read
            len += 1;
        }
        let size = code_size(self.mode());
        let Ok(insn) = decode(&bytes[..len], size, &self.model().features()) else { return false };
        let cs = &self.state.seg[usize::from(seg::CS)];
        let is_within = self.is_code64() || in_limit(cs, self.state.pc, insn.len.into());
        is_within && waits(insn.info()) && takes_part(insn.info())
    }
}
