//! The verifier: what every block must keep to, whoever made it.
//!
//! Operands fit the op's shape and width, temporaries are assigned before use on every path and always with
//! their own width, labels exist once, every path ends in one end op. It may allocate: tests and debug
//! builds call it, the run path does not.

use crate::op::SIDE_SLOT;
use crate::text::{NoNames, OpText};
use crate::{Block, Code, Cond, FlagMask, NativeReg, Op, Role, Val, Width};

/// One thing wrong with a block.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
#[error("op {index} `{op}`: {what}")]
pub struct VerifyError {
    /// Index of the op (the number of ops for "the block has no end").
    pub index: usize,
    /// Its text.
    pub op: String,
    /// What is wrong.
    pub what: String,
}

/// Checks a block; all errors, in op order.
pub fn verify(block: &Block) -> Result<(), Vec<VerifyError>> {
    let mut check = Check { block, errors: Vec::new(), index: 0 };
    check.labels();
    for (index, op) in block.ops.iter().enumerate() {
        check.index = index;
        check.op(op);
    }
    check.paths();
    check.errors.sort_by_key(|e| e.index);
    if check.errors.is_empty() { Ok(()) } else { Err(check.errors) }
}

struct Check<'a> {
    block: &'a Block,
    errors: Vec<VerifyError>,
    index: usize,
}

impl Check<'_> {
    fn fail(&mut self, what: impl Into<String>) {
        let text = self.block.ops.get(self.index).map(|op| {
            let text = OpText { block: self.block, op, names: &NoNames }.to_string();
            text.trim().to_owned()
        });
        let op = text.unwrap_or_default();
        self.errors.push(VerifyError { index: self.index, op, what: what.into() });
    }

    /// Every label is set at most once, every jump has a target.
    fn labels(&mut self) {
        let mut set = vec![0u32; self.block.labels as usize];
        for (index, op) in self.block.ops.iter().enumerate() {
            self.index = index;
            if op.code == Code::Label {
                match set.get_mut(op.imm as usize) {
                    Some(0) => set[op.imm as usize] = 1,
                    Some(_) => self.fail("label set twice"),
                    None => self.fail("label was never made"),
                }
            }
        }
        for (index, op) in self.block.ops.iter().enumerate() {
            self.index = index;
            if op.code.is_branch() && set.get(op.imm as usize) != Some(&1) {
                self.fail("jump to a label that is not set");
            }
        }
    }

    /// One op by itself.
    fn op(&mut self, op: &Op) {
        let shape = op.code.shape();
        self.operand(op, "d", op.d, shape.d, true);
        self.operand(op, "e", op.e, shape.e, shape.e_is_result);
        self.operand(op, "a", op.a, shape.a, false);
        self.operand(op, "b", op.b, shape.b, false);
        self.operand(op, "c", op.c, shape.c, false);
        if op.fdef.0 & !op.can_define().0 != 0 {
            self.fail("asks for flags the op cannot define");
        }
        if let Some(second) = op.second_result()
            && second == op.d
        {
            self.fail("both results go to one place");
        }
        self.code(op);
    }

    /// What only single codes ask for.
    fn code(&mut self, op: &Op) {
        match op.code {
            Code::Brcond | Code::Setcond | Code::Movcond if !is_comparison(op.cond()) => {
                self.fail("no comparison of integers");
            }
            Code::Lea if op.w < Width::W32 || op.x > 3 => self.fail("lea has no such form"),
            Code::Bswap if op.w < Width::W16 => self.fail("bswap needs 16 bits or more"),
            Code::Look if op.w != Width::W64 => self.fail("look needs 64 bits"),
            Code::GotoPtr
                if !op.b.is_none() && (op.w != Width::W64 || op.b.as_temp().is_none()) =>
            {
                self.fail("b is not what look found");
            }
            Code::Ticks if op.w != Width::W64 => self.fail("ticks are 64 bits wide"),
            Code::ReadPc if op.w < Width::W32 => self.fail("read_pc needs 32 or 64 bits"),
            Code::Bt | Code::Bts | Code::Btr | Code::Btc | Code::Bsf | Code::Bsr
                if op.w == Width::W8 =>
            {
                self.fail("needs at least 16 bits");
            }
            Code::Shld | Code::Shrd | Code::Imul if op.w == Width::W8 => {
                self.fail("needs at least 16 bits");
            }
            Code::Extu | Code::Exts if op.x > 3 || Width::from_code(op.x) > op.w => {
                self.fail("extends from a greater width");
            }
            Code::Ld | Code::St | Code::Ptr | Code::Span if op.x >= 6 => {
                self.fail("no such segment")
            }
            Code::Ld | Code::St | Code::Ptr | Code::Span if !(1..=3).contains(&op.y) => {
                self.fail("address size is none of 16, 32, 64");
            }
            Code::Ptr if !(1..=3).contains(&(op.imm >> 8 & 0xFF)) || op.access_bytes() == 0 => {
                self.fail("access kind or size missing");
            }
            Code::GotoTb if op.x > 1 && op.x != SIDE_SLOT => self.fail("slot is neither 0 nor 1"),
            Code::GotoTb if op.imm >= 4096 => self.fail("leaves the page"),
            Code::InsnStart if op.imm >= 4096 => self.fail("begins outside the page"),
            // 0: an insn whose fetch faults.
            Code::InsnStart if op.x > 15 => self.fail("longer than 15 bytes"),
            Code::Span if !(1..=4096).contains(&op.span_bytes()) => {
                self.fail("covers nothing, or more than a page");
            }
            Code::Ptr if op.access_bytes() > 64 => self.fail("covers more than 64 bytes"),
            Code::SimdEnter if op.x == 0 || op.x >= 32 => self.fail("no part of the state"),
            Code::Bulk if op.w < Width::W32 || !op.bulk_compares() && op.y > 3 => {
                self.fail("bulk has no such form")
            }
            Code::Native => self.native(op),
            Code::Putf if op.x & !FlagMask::ALL.0 != 0 || op.fdef.0 & !op.x != 0 => {
                self.fail("flag mask has other bits");
            }
            _ => {}
        }
    }

    /// The native instruction's roles against the op's operands.
    fn native(&mut self, op: &Op) {
        let Some(n) = self.block.native_of(op) else {
            return self.fail("no such native instruction");
        };
        let has = |role| n.has(role);
        let results = [n.reg, n.rm, n.vvvv]
            .iter()
            .filter(|r| matches!(r, NativeReg::Out | NativeReg::InOut))
            .count();
        let wrong = [
            (results > 1, "two general registers written"),
            ((results == 0) != op.d.is_none(), "d and the roles disagree"),
            (has(NativeReg::InOut) != op.reads_result(), "x and the roles disagree"),
            (
                op.reads_result() && op.d.as_gpr().is_none(),
                "what is read and written is no register",
            ),
            (n.has_memory() != (n.mem_bytes != 0), "memory operand without size"),
            (n.has_memory() == op.a.is_none(), "a and the roles disagree"),
            (n.reg == NativeReg::Mem || n.vvvv == NativeReg::Mem, "memory out of place"),
            (has(NativeReg::In0) == op.b.is_none(), "b and the roles disagree"),
            (has(NativeReg::In1) == op.c.is_none(), "c and the roles disagree"),
            (n.imm_len > 2 || n.map > 3 || n.pp > 3 || n.vl > 2, "no such encoding"),
            (n.reads != op.flags_read(), "flags read disagree"),
        ];
        for (_, what) in wrong.into_iter().filter(|(is_wrong, _)| *is_wrong) {
            self.fail(what);
        }
    }

    fn operand(&mut self, op: &Op, slot: &str, v: Val, role: Role, is_result: bool) {
        let w = op.width_of(role);
        if v.is_none() {
            let may_lack = matches!(role, Role::No | Role::Opt | Role::Arg)
                || role == Role::Pointer && op.code == Code::Native;
            if !may_lack {
                self.fail(format!("{slot} is missing"));
            }
            return;
        }
        if role == Role::No {
            return self.fail(format!("{slot} is not an operand of this op"));
        }
        if let Some(t) = v.as_temp() {
            match self.block.temps.get(usize::from(t)) {
                None => self.fail(format!("{slot}: tmp{t} was never made")),
                Some(&own) => self.temp(slot, t, own, w, role, is_result),
            }
        } else if v.as_high().is_some() {
            if w != Width::W8 {
                self.fail(format!("{slot}: a high-byte register at {} bits", w.bits()));
            }
        } else if v.as_pool().is_some() {
            if is_result {
                self.fail(format!("{slot}: a constant as result"));
            } else if self.block.const_of(v).is_none() {
                self.fail(format!("{slot}: no such constant"));
            }
        } else if v.as_gpr().is_none() {
            self.fail(format!("{slot}: no operand has this number"));
        }
        if role == Role::Pointer && v.as_temp().is_none() {
            self.fail("the pointer is not a temporary");
        }
    }

    fn temp(&mut self, slot: &str, t: u16, own: Width, w: Width, role: Role, is_result: bool) {
        if role == Role::Arg {
            if own < Width::W32 {
                self.fail(format!("{slot}: argument tmp{t} has only {} bits", own.bits()));
            }
        } else if is_result && own != w {
            let (own, w) = (own.bits(), w.bits());
            self.fail(format!("{slot}: tmp{t} has {own} bits, assigned {w}"));
        } else if !is_result && own < w {
            let (own, w) = (own.bits(), w.bits());
            self.fail(format!("{slot}: tmp{t} has {own} bits, read at {w}"));
        }
    }
}

/// Which temporaries are surely assigned at a point; `None` = no path known to lead here.
type Assigned = Option<Vec<bool>>;

impl Check<'_> {
    /// Definition before use on every path, one end on every path, no op that nothing leads to.
    fn paths(&mut self) {
        let count = self.block.ops.len();
        let mut labels: Vec<Assigned> = vec![None; self.block.labels as usize];
        // The sets at labels only shrink; a backward jump may need further rounds.
        loop {
            let before = labels.clone();
            self.walk(&mut labels, false);
            if labels == before {
                break;
            }
        }
        let end = self.walk(&mut labels, true);
        if end.is_some() {
            self.index = count;
            self.fail("control runs off the end of the block");
        }
    }

    fn walk(&mut self, labels: &mut [Assigned], report: bool) -> Assigned {
        let block = self.block;
        let mut now: Assigned = Some(vec![false; block.temps.len()]);
        for (index, op) in block.ops.iter().enumerate() {
            self.index = index;
            if op.code == Code::Label {
                if let Some(label) = labels.get_mut(op.imm as usize) {
                    meet(label, &now);
                    now = label.clone();
                }
                continue;
            }
            let Some(assigned) = &mut now else {
                if report && index > 0 && is_terminal(block.ops[index - 1].code) {
                    self.fail("nothing leads here");
                }
                continue;
            };
            if report {
                self.reads(op, assigned);
            }
            op.for_each_result(|v, _| {
                if let Some(slot) = v.as_temp().and_then(|t| assigned.get_mut(usize::from(t))) {
                    *slot = true;
                }
            });
            if op.code.is_branch()
                && let Some(label) = labels.get_mut(op.imm as usize)
            {
                meet(label, &now);
            }
            if is_terminal(op.code) {
                now = None;
            }
        }
        now
    }

    fn reads(&mut self, op: &Op, assigned: &[bool]) {
        let mut unset = Vec::new();
        op.for_each_source(|v, _| {
            if let Some(t) = v.as_temp()
                && assigned.get(usize::from(t)) == Some(&false)
            {
                unset.push(t);
            }
        });
        for t in unset {
            self.fail(format!("tmp{t} is not assigned on every path to here"));
        }
    }
}

fn meet(label: &mut Assigned, now: &Assigned) {
    match (label.as_mut(), now) {
        (_, None) => {}
        (None, Some(now)) => *label = Some(now.clone()),
        (Some(label), Some(now)) => label.iter_mut().zip(now).for_each(|(l, n)| *l &= n),
    }
}

fn is_terminal(code: Code) -> bool {
    code.is_end() || code == Code::Br
}

fn is_comparison(cond: Cond) -> bool {
    !matches!(cond, Cond::O | Cond::No | Cond::S | Cond::Ns | Cond::P | Cond::Np)
}
