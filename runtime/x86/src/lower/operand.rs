//! Operands of the insn: reading them, staging writes to them.

use super::mem::MemState;
use super::node::{Kind, Node, V};
use super::tables::helpers;
use super::{Dest, Lower, NO_OPERAND, Write, mark, row};
use crate::decode::Operand;
use crate::insn::{Form, Sz};
use crate::state::{CpuState, Segment, seg};
use ir::{Code, Val, Width};
use std::mem::offset_of;

impl Lower<'_> {
    /// Operand `i`: the row's own operands, then the `with` names.
    pub(super) fn operand(&self, i: usize) -> Operand {
        if i < self.own_operands {
            return self.insn.operand(i);
        }
        let form = self.row.with.get(i - self.own_operands).copied().unwrap_or(Form::Lit(0));
        self.insn.bind_form(form)
    }

    /// `W` of this row: the first sized register or memory operand's width, else the operand size.
    pub(super) fn row_width(&self) -> Width {
        let forms = self.insn.info().forms;
        let size = forms.iter().find_map(|form| match *form {
            Form::E(s) | Form::G(s) | Form::M(s) | Form::R(s) | Form::Z(s) | Form::O(s) => Some(s),
            Form::X(s) | Form::Y(s) | Form::Reg(_, s) | Form::B(s) => Some(s),
            Form::V(_) | Form::H(_) | Form::W(_) | Form::U(_) | Form::L(_) | Form::Same => None,
            Form::P(_) | Form::Q(_) | Form::N(_) | Form::St0 | Form::StI | Form::Xmm0 => None,
            Form::MAddr
            | Form::Mp
            | Form::Ma
            | Form::Ms
            | Form::I(_)
            | Form::Iu(_)
            | Form::J(_) => None,
            Form::Ap | Form::Sw | Form::C | Form::D | Form::Seg(_) | Form::Lit(_) => None,
        });
        let size = size.filter(|s| !matches!(s, Sz::T | Sz::Dq | Sz::Qq | Sz::X));
        let bits = size.map_or(u16::from(self.insn.osz), |s| self.insn.size_bits(s));
        Width::from_bits(u32::from(bits))
    }

    /// The operand's value at entry.
    pub(super) fn read(&mut self, i: usize) -> V {
        match self.operand(i) {
            Operand::Reg { num, bits } => {
                V::Node(self.gpr_node(num, Width::from_bits(u32::from(bits))))
            }
            Operand::High { num } => V::Node(self.high_node(num)),
            Operand::Imm { value, bits } => self.immediate(i, value, bits),
            Operand::Mem(_) | Operand::Str { .. } => V::Node(self.load_operand(i)),
            Operand::Rel { disp } => self.branch_target(disp),
            Operand::Far { off, .. } => V::Num(off),
            Operand::Seg(n) => self.selector(n),
            Operand::Cr(n) => self.system_register(helpers::READ_CR, n),
            Operand::Dr(n) => self.system_register(helpers::READ_DR, n),
            // No number: the tables' checks refuse it.
            Operand::Vec { .. } | Operand::Mmx { .. } | Operand::St { .. } => {
                self.mismatches += 1;
                V::Num(0)
            }
        }
    }

    /// An immediate: a number, or what the code holds when the insn runs.
    fn immediate(&mut self, i: usize, value: u64, bits: u8) -> V {
        let form = self.insn.info().forms.get(i);
        let (Some(host), Some(Form::I(_) | Form::Iu(_))) = (self.live_imm, form) else {
            return V::Num(value);
        };
        self.reads_live_imm = true;
        let mut node = Node::new(Kind::Code, Width::from_bits(u32::from(bits)));
        (node.imm, node.adapts) = (host, true);
        let n = self.node(node);
        let is_signed = matches!(form, Some(Form::I(_)));
        let extension = if is_signed { Code::Exts } else { Code::Extu };
        let n = self.extend(n, self.off_width(), extension);
        // Like a number it is cut to what the body wants.
        self.work.nodes[usize::from(n)].adapts = true;
        V::Node(n)
    }

    /// A control or debug register: 64 bits wide in 64-bit code, else 32.
    fn system_register(&mut self, helper: u32, n: u8) -> V {
        let value = self.call(helper, &[V::Num(u64::from(n))]);
        let w = self.off_width();
        self.trunc(value, w)
    }

    /// A fixed register at entry; 16..20 are AH CH DH BH.
    pub(super) fn reg(&mut self, num: u8, w: Width) -> V {
        V::Node(if num >= 16 { self.high_node(num - 16) } else { self.gpr_node(num, w) })
    }

    /// Selector of a segment register.
    pub(super) fn selector(&mut self, num: u8) -> V {
        let offset = offset_of!(CpuState, seg)
            + usize::from(num) * size_of::<Segment>()
            + offset_of!(Segment, selector);
        V::Node(self.env_node(offset, Width::W16))
    }

    /// Stages a write to operand `i`.
    pub(super) fn assign(&mut self, i: usize, v: V) {
        match self.operand(i) {
            Operand::Reg { num, bits } => {
                self.assign_gpr(num, Width::from_bits(u32::from(bits)), v)
            }
            Operand::High { num } => self.stage_reg(Val::high(num), Width::W8, v),
            Operand::Mem(_) | Operand::Str { .. } => {
                let w = self.mem_state(i).w;
                let node = self.fit(v, w);
                self.marks |= mark::STORE;
                self.staged.put(Write::new(Dest::Mem(i as u8), w, node));
            }
            Operand::Seg(n) => {
                self.call_late(helpers::LOAD_SEG, &[V::Num(u64::from(n)), v]);
                self.marks |= mark::LEAVE;
            }
            Operand::Cr(n) => self.call_late(helpers::WRITE_CR, &[V::Num(u64::from(n)), v]),
            Operand::Dr(n) => self.call_late(helpers::WRITE_DR, &[V::Num(u64::from(n)), v]),
            Operand::Imm { .. }
            | Operand::Rel { .. }
            | Operand::Far { .. }
            | Operand::Vec { .. }
            | Operand::Mmx { .. }
            | Operand::St { .. } => {
                self.mismatches += 1; // the tables' checks refuse it
            }
        }
    }

    fn assign_gpr(&mut self, num: u8, w: Width, v: V) {
        let full = Width::from_bits(u32::from(self.insn.osz));
        if self.has_attr(row::ZEXT_REG) && w < full {
            let node = self.fit(v, w);
            let node = self.extend(node, full, Code::Extu);
            self.stage_reg(Val::gpr(num), full, V::Node(node));
        } else {
            self.stage_reg(Val::gpr(num), w, v);
        }
    }

    /// Stages a write to a fixed register; 16..20 are AH CH DH BH.
    pub(super) fn set_reg(&mut self, num: u8, w: Width, v: V) {
        let (reg, w) =
            if num >= 16 { (Val::high(num - 16), Width::W8) } else { (Val::gpr(num), w) };
        self.stage_reg(reg, w, v);
    }

    pub(super) fn stage_reg(&mut self, reg: Val, w: Width, v: V) {
        let node = self.fit(v, w);
        self.staged.put(Write::new(Dest::Reg(reg), w, node));
    }

    /// `seg_of(m)`: segment register number of a memory operand.
    pub(super) fn seg_of(&mut self, i: usize) -> V {
        let seg = self.mem_state(i).seg;
        V::Node(self.const_node(u64::from(seg), Width::W8))
    }

    /// State of memory operand `i`, its address computed at first use.
    pub(super) fn mem_state(&mut self, i: usize) -> MemState {
        if self.mem[i].is_bound() {
            return self.mem[i];
        }
        let mut state = match self.operand(i) {
            Operand::Mem(m) => self.bind_memory(&m),
            Operand::Str { seg, reg, bits } => self.bind_string(seg, reg, bits),
            _ => {
                self.mismatches += 1; // a register where the body wants memory: the tables' checks refuse it
                self.bind_string(seg::DS, 0, 8)
            }
        };
        if i == 0 && self.row.bit_index != NO_OPERAND {
            self.add_bit_offset(&mut state);
        }
        self.mem[i] = state;
        state
    }
}
