//! Repeated string instructions: the body is one iteration (LANGUAGE.md, "Repeated strings").

use super::node::V;
use super::tables::helpers;
use super::{Dest, Lower, NO_HELPER, Write, row};
use crate::decode::{Operand, attr};
use crate::insn::{Form, prefix};
use crate::mode::Mode;
use crate::state::CpuState;
use crate::strings::UNTIL_EQUAL;
use ir::{Code, Cond, Op, Val, Width};
use std::mem::offset_of;

/// Number of the count register.
const RCX: u8 = 1;
/// Number of the register that holds the port.
const RDX: u8 = 2;
/// Comparisons that are made one by one before the rest is made in bulk: so many eights.
const EIGHTS: u8 = 4;

impl Lower<'_> {
    /// Before the body: leave when the count is 0, and let the bulk helper do what it can.
    pub(super) fn begin_repeat(&mut self) {
        let skip = self.block.label();
        self.rep_skip = Some(skip);
        self.push_port_check();
        if self.compares() {
            self.push_plain_case();
            self.push_count_test(skip);
            let few = self.block.label();
            self.push_few_test(few);
            self.push_bulk_call();
            self.push_label(few);
            // Where it was stored is not on every way.
            self.pc_stored = false;
            return;
        }
        self.push_plain_case();
        self.push_count_test(skip);
        if self.row.bulk != NO_HELPER {
            self.push_bulk_call();
            self.push_count_test(skip);
        }
    }

    /// CMPS and SCAS.
    fn compares(&self) -> bool {
        matches!(self.row.bulk, helpers::BULK_CMPS | helpers::BULK_SCAS)
    }

    /// Comparisons mostly end soon: only those that have gone on for a while are worth being prepared.
    fn push_few_test(&mut self, few: u32) {
        let turns = self.push_turns();
        let mut op = Op::new(Code::Brcond, Width::W64);
        op.x = Cond::B as u8;
        (op.a, op.b) = (turns, self.block.constant(8 * u64::from(EIGHTS)));
        op.imm = few;
        self.block.push(op);
    }

    /// Calls the bulk helper.
    fn push_bulk_call(&mut self) {
        let (args, count) = self.bulk_arguments();
        self.push_own_pc();
        let mut op = Op::new(Code::Call, Width::W64);
        op.imm = self.row.bulk;
        let mut values = [Val::NONE; 3];
        for (value, arg) in values.iter_mut().zip(&args[..count]) {
            *value = self.block.constant(*arg);
        }
        [op.a, op.b, op.c] = values;
        debug_assert_eq!(usize::from(helpers::INFO[self.row.bulk as usize].args), count);
        self.block.push(op);
    }

    /// MOVS, STOS, CMPS and SCAS: all of it at once where that is plain. Counted time counts turns, which are to be the same on every engine;
    /// a step traps behind each.
    fn push_plain_case(&mut self) {
        let is_native = self.a() == self.off_width();
        let compares = self.compares();
        let is_plain = compares || matches!(self.row.bulk, helpers::BULK_MOVS | helpers::BULK_STOS);
        if !is_plain || !is_native || self.is_counted || self.place.is_single_step() {
            return;
        }
        let ([bytes, source, _], count) = self.bulk_arguments();
        let mut op = Op::new(Code::Bulk, self.a());
        op.x = if count == 3 { source as u8 } else { u8::MAX };
        op.y = match compares {
            true => Op::bulk_compare(bytes, bytes & UNTIL_EQUAL != 0, EIGHTS),
            false => bytes.trailing_zeros() as u8,
        };
        op.imm = offset_of!(CpuState, df) as u32;
        self.block.push(op);
    }

    /// INS and OUTS ask for the right to the port before they look at their count: so does Zen 5, the manuals do not say.
    fn push_port_check(&mut self) {
        let mode = self.place.mode;
        let may_lack = mode.has(Mode::VM86) || mode.has(Mode::PE) && mode.cpl() != 0;
        if self.insn.info().attrs & attr::IOBITMAP == 0 || !may_lack {
            return;
        }
        self.push_own_pc();
        let mut op = Op::new(Code::Call, Width::W64);
        op.imm = helpers::MAY_USE_PORT;
        op.a = Val::gpr(RDX);
        op.b = self.block.constant(u64::from(self.width.bits()));
        self.block.push(op);
    }

    /// Bytes per element, the source's segment if there is a source, address size.
    fn bulk_arguments(&self) -> ([u64; 3], usize) {
        let (mut bytes, mut source) = (0, None);
        for i in 0..self.own_operands {
            if let Operand::Str { seg, bits, .. } = self.operand(i) {
                bytes = u64::from(bits) / 8;
                if matches!(self.insn.info().forms[i], Form::X(_)) {
                    source = Some(u64::from(seg));
                }
            }
        }
        if self.has_attr(row::REPCC) && self.insn.prefixes & prefix::REP == 0 {
            bytes |= UNTIL_EQUAL;
        }
        let asz = u64::from(self.insn.asz);
        match source {
            Some(seg) => ([bytes, seg, asz], 3),
            None => ([bytes, asz, 0], 2),
        }
    }

    fn push_count_test(&mut self, skip: u32) {
        let mut op = Op::new(Code::Brcond, self.a());
        op.x = Cond::E as u8;
        op.a = Val::gpr(RCX);
        op.b = self.block.constant(0);
        op.imm = skip;
        self.block.push(op);
    }

    /// Stages the steps of rSI and rDI, and of rCX when repeated.
    pub(super) fn stage_string_steps(&mut self) {
        if !self.has_attr(row::REP | row::REPCC) {
            return;
        }
        for i in 0..self.own_operands {
            if let Operand::Str { reg, bits, .. } = self.operand(i) {
                self.stage_index_step(reg, bits);
            }
        }
        if self.rep_skip.is_some() {
            let w = self.a();
            let (count, one) = (self.gpr_node(RCX, w), self.const_node(1, w));
            let node = self.op_node(Code::Sub, w, &[count, one]);
            self.staged.put(Write::new(Dest::Reg(Val::gpr(RCX)), w, node));
        }
    }

    /// `rSI += df * size`.
    fn stage_index_step(&mut self, reg: u8, bits: u8) {
        let w = self.a();
        let df = self.env_node(offset_of!(CpuState, df), Width::W32);
        let log = u64::from(bits).trailing_zeros() - 3;
        let step = self.shl(V::Node(df), V::Num(u64::from(log)));
        let step = self.fit(step, Width::W32);
        let step =
            if w > Width::W32 { self.extend(step, w, Code::Exts) } else { self.cut(step, w) };
        let index = self.gpr_node(reg, w);
        let node = self.op_node(Code::Add, w, &[index, step]);
        self.staged.put(Write::new(Dest::Reg(Val::gpr(reg)), w, node));
    }

    /// What comes between two iterations pushes RF = 1. Comparisons count them.
    fn push_repeating(&mut self, value: u64) {
        let value = if value != 0 && self.compares() {
            self.push_more_turns()
        } else {
            self.block.constant(value)
        };
        self.push_st_env(offset_of!(CpuState, repeating), Width::W64, value);
    }

    /// How many turns there have been.
    fn push_turns(&mut self) -> Val {
        let turns = self.block.temp(Width::W64);
        let mut op = Op::new(Code::LdEnv, Width::W64);
        (op.d, op.imm) = (turns, offset_of!(CpuState, repeating) as u32);
        self.block.push(op);
        turns
    }

    /// One turn more than there were.
    fn push_more_turns(&mut self) -> Val {
        let (old, new) = (self.push_turns(), self.block.temp(Width::W64));
        let one = self.block.constant(1);
        self.block.push(Op { d: new, a: old, b: one, ..Op::new(Code::Add, Width::W64) });
        new
    }

    /// After the body's commits: stop on ZF or when the count is used up, else do this insn again. So the last iteration completes
    /// the insn: a trap behind it has the next insn's address, as on Zen 5.
    pub(super) fn end_repeat(&mut self, skip: u32) {
        if self.has_attr(row::REPCC) {
            let stop = if self.insn.prefixes & prefix::REP != 0 { Cond::Ne } else { Cond::E };
            let mut op = Op::new(Code::Jccf, self.width);
            op.x = stop as u8;
            op.imm = skip;
            self.block.push(op);
        }
        self.push_count_test(skip);
        self.push_repeating(1);
        let at = i64::from(self.at);
        self.push_goto_page(0, at, true);
        self.push_label(skip);
        self.push_repeating(0);
        let next = self.next();
        self.push_goto_page(1, next, false);
    }
}
