//! Widening multiplication and division, and the time-stamp counter: the host's forms work on RAX and RDX, which are also guest registers.

use ir::{Code, Op, Val, Width};

use crate::abi::reg;
use crate::asm::{Mem, Rm, state};
use crate::compile::{CompileError, Emit, Src};

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
        let in_place = op.d == RAX && op.e == RDX;
        if in_place && !divide {
            return self.mul_in_place(op, n);
        }
        // The operand that is not in RAX/RDX, in a register the setup below leaves alone.
        let other = if divide { op.c } else { op.b };
        let mut factor = self.src_reg(other, op.w)?;
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

    /// May a multiplication take what `load` makes as its memory operand?
    pub(crate) fn mul_takes(&self, op: &Op, load: &Op) -> bool {
        let other = if op.b == load.d { op.a } else { op.b };
        matches!(op.code, Code::Mulu2 | Code::Muls2)
            && (op.d, op.e) == (RAX, RDX)
            && op.w == load.w
            && op.w >= Width::W32
            && (op.a == load.d) != (op.b == load.d)
            && self.block.const_of(other).is_none()
    }
    /// A product that goes where the host's does.
    fn mul_in_place(&mut self, op: &Op, n: u8) -> Result<(), CompileError> {
        if let Some(f) = self.fused.take() {
            let other = if op.b == f.val { op.a } else { op.b };
            let other = self.src(other, op.w)?;
            let is_address = f.mem.base == reg::RAX || f.mem.index == Some(reg::RAX);
            let factor = if is_address && other != Src::Reg(reg::RAX) {
                let t = self.take()?;
                self.asm.load(op.w, t, f.mem);
                Rm::R(t)
            } else {
                Rm::M(f.mem)
            };
            self.before_producer(op)?;
            self.move_unless_there(other, op.w)?;
            self.asm.group3(n, op.w, factor);
            self.regs.unhold(f.mem.base);
            self.regs.unhold(f.mem.index.unwrap_or(f.mem.base));
            return self.after_producer(op);
        }
        let (a, b) = if op.b == RAX { (op.b, op.a) } else { (op.a, op.b) };
        let factor = self.src_reg(b, op.w)?;
        let a = self.src(a, op.w)?;
        self.before_producer(op)?;
        self.move_unless_there(a, op.w)?;
        self.asm.group3(n, op.w, Rm::R(factor));
        self.after_producer(op)
    }
    /// RAX, the guest's, becomes `src` at width `w`: what lies above 16 bits stays.
    fn move_unless_there(&mut self, src: Src, w: Width) -> Result<(), CompileError> {
        if src == Src::Reg(reg::RAX) { Ok(()) } else { self.move_into(RAX, reg::RAX, src, w) }
    }

    /// Saves RAX and RDX in the state's argument slots, sets the operands up, moves the results out and brings the two back.
    fn muldiv_around(
        &mut self,
        op: &Op,
        n: u8,
        divide: bool,
        factor: u8,
    ) -> Result<(), CompileError> {
        let low = self.src(op.a, op.w)?;
        let high = if divide { Some(self.src(op.b, op.w)?) } else { None };
        let homes = [state(self.layout.args), state(self.layout.args + 8)];
        self.asm.store(Width::W64, homes[0], reg::RAX);
        self.asm.store(Width::W64, homes[1], reg::RDX);
        match (low, high) {
            (Src::Reg(reg::RDX), Some(Src::Reg(reg::RAX))) => {
                self.asm.xchg(Width::W64, reg::RAX, reg::RDX);
            }
            (_, Some(high @ Src::Reg(reg::RAX))) => {
                self.move_to(reg::RDX, high, op.w);
                self.move_to(reg::RAX, low, op.w);
            }
            (_, high) => {
                self.move_to(reg::RAX, low, op.w);
                if let Some(high) = high {
                    self.move_to(reg::RDX, high, op.w);
                }
            }
        }
        self.asm.group3(n, op.w, Rm::R(factor));
        // The operands are used up: their registers may take the results.
        self.regs.end_sources(self.at, op);
        let (q, r) = (self.take()?, self.take()?);
        self.asm.mov_rr(Width::W64, q, reg::RAX);
        self.asm.mov_rr(Width::W64, r, reg::RDX);
        self.asm.load(Width::W64, reg::RAX, homes[0]);
        self.asm.load(Width::W64, reg::RDX, homes[1]);
        self.settle(op.d, op.w, q)?;
        self.settle(op.e, op.w, r)
    }
    /// The value in scratch register `from` becomes `d`.
    fn settle(&mut self, d: Val, w: Width, from: u8) -> Result<(), CompileError> {
        match d.as_temp() {
            Some(t) if self.regs.may_hold(from) => {
                self.regs.bind(t, from);
                Ok(())
            }
            _ => self.write_back(d, w, from),
        }
    }

    /// The host's RDTSC, which leaves its halves in EAX and EDX. Flags stay.
    pub(crate) fn ticks(&mut self, op: &Op) -> Result<(), CompileError> {
        let (a, d) = (self.take()?, self.take()?);
        let to = self.dst(op.d)?;
        self.asm.mov_rr(Width::W64, a, reg::RAX);
        self.asm.mov_rr(Width::W64, d, reg::RDX);
        self.asm.rdtsc();
        self.asm.rorx64(reg::RDX, reg::RDX, 32);
        self.asm.lea(Width::W64, to, Mem::index(reg::RAX, reg::RDX, 0, 0));
        self.asm.mov_rr(Width::W64, reg::RAX, a);
        self.asm.mov_rr(Width::W64, reg::RDX, d);
        Ok(())
    }

    /// Byte forms: AX = AL * r, or AL, AH = AX / r.
    fn muldiv8(&mut self, op: &Op, n: u8, divide: bool) -> Result<(), CompileError> {
        let factor = self.copy_of(if divide { op.c } else { op.b }, Width::W8)?;
        let low = self.src(op.a, Width::W8)?;
        let high = if divide { self.src(op.b, Width::W8)? } else { Src::Imm(0) };
        let is_there = low == Src::Reg(reg::RAX) && high == Src::Reg(16);
        let copies = if is_there || high == Src::Imm(0) {
            None
        } else {
            Some((self.copy_of(op.a, Width::W8)?, self.copy_of(op.b, Width::W8)?))
        };
        if divide {
            self.clobber()?;
        } else {
            self.before_producer(op)?;
        }
        let save = self.take()?;
        self.asm.mov_rr(Width::W64, save, reg::RAX);
        if let Some((low, high)) = copies {
            // AX = high:low
            self.asm.mov_rr(Width::W8, reg::RAX, high);
            self.asm.xchg(Width::W8, reg::RAX, 16);
            self.asm.mov_rr(Width::W8, reg::RAX, low);
        } else if !is_there {
            self.move_to(reg::RAX, low, Width::W8);
            if divide {
                self.asm.movzx(Width::W8, reg::RAX, Rm::R(reg::RAX));
            }
        }
        self.asm.group3(n, Width::W8, Rm::R(factor));
        self.asm.xchg(Width::W64, save, reg::RAX);
        // save: AL = low/quotient, AH = high/remainder
        let second = factor;
        self.asm.rorx(second, save, 8);
        self.regs.end_sources(self.at, op);
        self.settle(op.d, Width::W8, save)?;
        self.settle(op.e, Width::W8, second)?;
        if divide { Ok(()) } else { self.after_producer(op) }
    }
}
