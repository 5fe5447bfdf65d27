//! Shifts and rotates. The count is CL or a constant on the host too; other counts go through RCX.

use ir::{Code, Op, Width};

use crate::abi::reg;
use crate::asm::Rm;
use crate::compile::{CompileError, Emit, Src};

fn group(code: Code) -> u8 {
    match code {
        Code::Rol => 0,
        Code::Ror => 1,
        Code::Rcl => 2,
        Code::Rcr => 3,
        Code::Shl => 4,
        Code::Shr => 5,
        _ => 7,
    }
}

impl Emit<'_> {
    pub(crate) fn shift(&mut self, op: &Op) -> Result<(), CompileError> {
        let double = matches!(op.code, Code::Shld | Code::Shrd);
        let count = self.src(if double { op.c } else { op.b }, Width::W8)?;
        if let Src::Reg(n) = count
            && n < 16
            && self.is_plain(op)
        {
            return self.shift_apart(op, n);
        }
        match count {
            Src::Imm(n) => {
                self.shift_by(op, double, Some(n as u8 & if op.w == Width::W64 { 63 } else { 31 }))
            }
            Src::Reg(reg::RCX) => self.shift_by(op, double, None),
            Src::Reg(_) => self.shift_by_other(op, double, count),
        }
    }

    /// Is this a shift whose flags nobody wants, at a width that has a form without flags?
    fn is_plain(&self, op: &Op) -> bool {
        matches!(op.code, Code::Shl | Code::Shr | Code::Sar)
            && op.w >= Width::W32
            && !op.d.is_none()
            && op.fdef.0 & self.live_after() == 0
    }
    /// By the form that takes its count from any register and leaves the flags alone.
    fn shift_apart(&mut self, op: &Op, count: u8) -> Result<(), CompileError> {
        let a = self.src_reg(op.a, op.w)?;
        let d = self.dst(op.d)?;
        self.asm.shift_apart(group(op.code), op.w, d, a, count);
        Ok(())
    }

    /// Count is an immediate or already in CL.
    fn shift_by(&mut self, op: &Op, double: bool, count: Option<u8>) -> Result<(), CompileError> {
        let a = self.src(op.a, op.w)?;
        let filler = if double { self.src_reg(op.b, op.w)? } else { 0 };
        self.before_producer(op)?;
        let there = self.peek_dst(op);
        let direct = Src::Reg(there) == a && !(double && op.d == op.b);
        // Else the result's own register, if it holds neither the count nor what fills.
        let is_needed = (count.is_none() && there == reg::RCX) || (double && there == filler);
        let free = op.w >= Width::W32 && !op.d.is_none() && !is_needed;
        let target = if direct {
            self.dst(op.d)?
        } else if free {
            let d = self.dst(op.d)?;
            self.move_to(d, a, op.w);
            d
        } else {
            let t = self.take()?;
            self.move_to(t, a, op.w);
            t
        };
        if double {
            self.asm.double_shift(op.code == Code::Shld, op.w, target, filler, count);
        } else {
            if let Some(n) = count {
                self.prepare_shift(op, group(op.code), n, Src::Reg(target))?;
            }
            match count {
                Some(n) => self.asm.shift_ri(group(op.code), op.w, Rm::R(target), n),
                None => self.asm.shift_cl(group(op.code), op.w, Rm::R(target)),
            }
        }
        if !(direct || free) {
            self.write_back(op.d, op.w, target)?;
        }
        self.after_producer(op)
    }

    /// The count sits elsewhere: exchange it with RCX around a shift of copies.
    fn shift_by_other(&mut self, op: &Op, double: bool, count: Src) -> Result<(), CompileError> {
        let c = self.take()?;
        self.move_to(c, count, Width::W8);
        let t = self.copy_of(op.a, op.w)?;
        let filler = if double { self.copy_of(op.b, op.w)? } else { 0 };
        self.before_producer(op)?;
        self.asm.xchg(Width::W64, c, reg::RCX);
        if double {
            self.asm.double_shift(op.code == Code::Shld, op.w, t, filler, None);
        } else {
            self.asm.shift_cl(group(op.code), op.w, Rm::R(t));
        }
        self.asm.xchg(Width::W64, c, reg::RCX);
        self.write_back(op.d, op.w, t)?;
        self.after_producer(op)
    }

    /// Host register of `d` if it is already placed, else none of them (255).
    fn peek_dst(&mut self, op: &Op) -> u8 {
        match (op.d.as_gpr(), op.d.as_high(), op.d.as_temp()) {
            (Some(n), _, _) => match crate::abi::PINNED.get(usize::from(n)) {
                Some(&r) => r,
                None => self.regs.kept(n).unwrap_or(255),
            },
            (_, Some(n), _) => 16 + n,
            (_, _, Some(t)) => match self.regs.loc(t) {
                crate::regs::Loc::Reg(r) => r,
                _ => 255,
            },
            _ => 255,
        }
    }
}
