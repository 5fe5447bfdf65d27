//! What bodies of helper rows ask of vector operands: register numbers and the fields of a vector index.
//!
//! All of it is known while lowering; the helper does the work on `CpuState`.

use super::Lower;
use super::node::V;
use crate::decode::Operand;
use ir::Width;

impl Lower<'_> {
    /// `num(x)`: number of a vector, MMX or x87 register.
    pub(super) fn num(&mut self, i: usize) -> V {
        let number = self.register_code(i) & 0x7F;
        V::Node(self.const_node(number, Width::W8))
    }

    /// `pair(a, b)`: number of a in bits 0..7, 7 set when it is 256 bits wide; number of b from bit 8 on.
    pub(super) fn num_pair(&mut self, a: usize, b: usize) -> V {
        let code = self.register_code(a) | (self.register_code(b) & 0x7F) << 8;
        V::Node(self.const_node(code, Width::W16))
    }

    /// `vsib(m)`: index register, scale << 4, address size / 32 << 6.
    pub(super) fn vsib(&mut self, i: usize) -> V {
        let code = match self.operand(i) {
            Operand::Mem(m) => {
                let index = u64::from(m.vector_index.unwrap_or(0));
                index | u64::from(m.scale) << 4 | u64::from(m.asz / 32) << 6
            }
            _ => 0,
        };
        V::Node(self.const_node(code, Width::W16))
    }

    /// `seg_num(SEG)`: that segment register's number, or the override's.
    pub(super) fn seg_num(&mut self, segment: u8) -> V {
        let segment = self.insn.segment(segment);
        V::Node(self.const_node(u64::from(segment), Width::W8))
    }

    fn register_code(&mut self, i: usize) -> u64 {
        match self.operand(i) {
            Operand::Vec { num, bits } => u64::from(num) | u64::from(bits == 256) << 7,
            Operand::Mmx { num } | Operand::St { num } => u64::from(num),
            _ => {
                self.mismatches += 1; // the tables' checks refuse it
                0
            }
        }
    }
}
