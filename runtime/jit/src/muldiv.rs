//! Widening multiplication and division: the host's one-operand forms work on RAX and RDX, which are also guest registers.

use ir::{Code, Op, Val, Width};

use crate::abi::reg;
use crate::asm::Rm;
use crate::compile::{CompileError, Emit};

const RAX: Val = Val::gpr(0);
const RDX: Val = Val::gpr(2);

impl Emit<'_> {
    pub(crate) fn muldiv(&mut self, op: &Op) -> Result<(), CompileError> {
        let n = match op.code {
            Code::Mulu2 => 4,
            Code::Muls2 => 5,
            Code::Divu2 => 6,
            _ => 7,
        };
        let divide = n >= 6;
        if op.w == Width::W8 {
            return self.muldiv8(op, n, divide);
        }
        let flags = !divide;
        // The operand that is not in RAX/RDX, in a register the setup below leaves alone.
        let other = if divide { op.c } else { op.b };
        let mut factor = self.src_reg(other, op.w)?;
        let in_place = op.d == RAX && op.e == RDX;
        let set_up = if divide { op.a == RAX && op.b == RDX } else { op.a == RAX };
        if !(in_place && set_up) && matches!(factor, reg::RAX | reg::RDX) {
            let t = self.take()?;
            self.asm.mov_rr(Width::W64, t, factor);
            factor = t;
        }
        if flags {
            self.before_producer(op)?;
        } else {
            self.clobber()?;
        }
        if in_place && set_up {
            self.asm.group3(n, op.w, Rm::R(factor));
        } else {
            self.muldiv_around(op, n, divide, factor)?;
        }
        if flags { self.after_producer(op) } else { Ok(()) }
    }

    /// Saves RAX and RDX, sets the operands up, and puts results and saved registers where they belong.
    fn muldiv_around(
        &mut self,
        op: &Op,
        n: u8,
        divide: bool,
        factor: u8,
    ) -> Result<(), CompileError> {
        let low = self.src(op.a, op.w)?;
        let high = if divide { Some(self.src(op.b, op.w)?) } else { None };
        let save_a = self.take()?;
        let save_d = self.take()?;
        self.asm.mov_rr(Width::W64, save_a, reg::RAX);
        self.asm.mov_rr(Width::W64, save_d, reg::RDX);
        let moved = |s: crate::compile::Src| match s {
            crate::compile::Src::Reg(reg::RAX) => crate::compile::Src::Reg(save_a),
            crate::compile::Src::Reg(reg::RDX) => crate::compile::Src::Reg(save_d),
            other => other,
        };
        self.move_to(reg::RAX, moved(low), op.w);
        if let Some(high) = high {
            self.move_to(reg::RDX, moved(high), op.w);
        }
        self.asm.group3(n, op.w, Rm::R(factor));
        self.results(op, [(op.d, reg::RAX), (op.e, reg::RDX)], save_a, save_d)
    }

    /// Stores two results that sit in RAX and RDX, and brings back those of the two that are no destination.
    fn results(
        &mut self,
        op: &Op,
        parts: [(Val, u8); 2],
        save_a: u8,
        save_d: u8,
    ) -> Result<(), CompileError> {
        // Swap: the saved guest values return to RAX/RDX, the results move to the scratch registers.
        self.asm.xchg(Width::W64, save_a, reg::RAX);
        self.asm.xchg(Width::W64, save_d, reg::RDX);
        for (d, from) in parts {
            let t = if from == reg::RAX { save_a } else { save_d };
            self.write_back(d, op.w, t)?;
        }
        Ok(())
    }

    /// Byte forms: AX = AL * r, or AL, AH = AX / r.
    fn muldiv8(&mut self, op: &Op, n: u8, divide: bool) -> Result<(), CompileError> {
        let factor = self.copy_of(if divide { op.c } else { op.b }, Width::W8)?;
        let low = self.copy_of(op.a, Width::W8)?;
        let high = if divide { Some(self.copy_of(op.b, Width::W8)?) } else { None };
        if divide {
            self.clobber()?;
        } else {
            self.before_producer(op)?;
        }
        let save = self.take()?;
        self.asm.mov_rr(Width::W64, save, reg::RAX);
        if let Some(high) = high {
            // AX = high:low
            self.asm.mov_rr(Width::W8, reg::RAX, high);
            self.asm.xchg(Width::W8, reg::RAX, 16);
        }
        self.asm.mov_rr(Width::W8, reg::RAX, low);
        self.asm.group3(n, Width::W8, Rm::R(factor));
        self.asm.xchg(Width::W64, save, reg::RAX);
        // save: AL = low/quotient, AH = high/remainder
        let second = factor;
        self.asm.rorx(second, save, 8);
        self.write_back(op.d, Width::W8, save)?;
        self.write_back(op.e, Width::W8, second)?;
        if divide { Ok(()) } else { self.after_producer(op) }
    }
}
