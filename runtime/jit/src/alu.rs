//! Data movement, arithmetic and conditions.

use ir::{Code, FlagMask, Op, Val, Width};

use crate::asm::{Alu, Mem, Rm, state};
use crate::compile::{CompileError, Emit, Src, legacy_byte};

/// The host's arithmetic group for an op.
pub(crate) fn alu_of(code: Code) -> Option<Alu> {
    Some(match code {
        Code::Add => Alu::Add,
        Code::Sub => Alu::Sub,
        Code::Adc => Alu::Adc,
        Code::Sbb => Alu::Sbb,
        Code::And => Alu::And,
        Code::Or => Alu::Or,
        Code::Xor => Alu::Xor,
        _ => return None,
    })
}

pub(crate) fn commutes(k: Alu) -> bool {
    matches!(k, Alu::Add | Alu::Adc | Alu::And | Alu::Or | Alu::Xor)
}

/// `W32` at least: partial-register writes to scratch registers help nobody.
pub(crate) fn wide(w: Width) -> Width {
    w.max(Width::W32)
}

impl Emit<'_> {
    pub(crate) fn alu(&mut self, op: &Op) -> Result<(), CompileError> {
        if let Some(k) = alu_of(op.code) {
            return self.binary(k, op);
        }
        match op.code {
            Code::Mov => self.mov(op),
            Code::Extu | Code::Exts => self.extend(op),
            Code::Bswap => {
                if op.w >= Width::W32 {
                    let a = self.src(op.a, op.w)?;
                    let d = self.dst(op.d)?;
                    if a != Src::Reg(d) {
                        self.move_to(d, a, op.w);
                    }
                    self.asm.bswap(op.w, d);
                    return Ok(());
                }
                let t = self.copy_of(op.a, op.w)?;
                self.asm.bswap(wide(op.w), t);
                if op.w == Width::W16 {
                    self.asm.rorx(t, t, 16);
                }
                self.write_back(op.d, op.w, t)
            }
            Code::Lea => self.address(op),
            Code::Not | Code::Neg | Code::Inc | Code::Dec => self.unary(op),
            Code::Imul => self.imul(op),
            Code::Bt | Code::Bts | Code::Btr | Code::Btc => self.bit_test(op),
            Code::Bsf | Code::Bsr | Code::Clz | Code::Ctz | Code::Popcnt => self.bit_count(op),
            Code::Setcond => {
                self.clobber()?;
                self.compare(op.w, op.a, op.b)?;
                self.set_byte(op)
            }
            Code::Setccf => {
                self.need_flags()?;
                self.set_byte(op)
            }
            Code::Movcond | Code::Cmovf => self.select(op),
            Code::Getf => self.get_flags(op),
            Code::Putf => self.put_flags(op),
            _ => Err(CompileError::Form(self.at)),
        }
    }

    /// `dst = dst k src` at width `w`, whatever mix of high bytes and REX registers.
    pub(crate) fn alu_into(
        &mut self,
        k: Alu,
        w: Width,
        dst: u8,
        src: Src,
    ) -> Result<(), CompileError> {
        match src {
            Src::Reg(s) if w == Width::W8 && s >= 16 && !legacy_byte(dst) => {
                let t = self.take()?;
                self.asm.rorx(t, s - 16, 8);
                self.asm.alu_rr(k, w, dst, t);
            }
            Src::Reg(s) if w == Width::W8 && dst >= 16 && !legacy_byte(s) => {
                let n = dst - 16;
                self.asm.xchg(Width::W8, n, dst);
                self.asm.alu_rr(k, w, n, s);
                self.asm.xchg(Width::W8, n, dst);
            }
            Src::Reg(s) => self.asm.alu_rr(k, w, dst, s),
            Src::Imm(n) => match i32::try_from(n) {
                Ok(n) => self.asm.alu_ri(k, w, dst, n),
                Err(_) => {
                    let t = self.take()?;
                    self.asm.mov_ri(Width::W64, t, n as u64);
                    self.asm.alu_rr(k, w, dst, t);
                }
            },
        }
        Ok(())
    }

    fn binary(&mut self, k: Alu, op: &Op) -> Result<(), CompileError> {
        if self.sum_fused(op)? {
            return Ok(());
        }
        if let Some(f) = self.fused.take().or_else(|| self.fused_home(k, op)) {
            return self.binary_fused(k, op, f);
        }
        if self.binary_home(k, op)? {
            return Ok(());
        }
        if op.fdef.0 & self.live_after() == 0 && self.lea(k, op)? {
            return Ok(());
        }
        let a = self.src(op.a, op.w)?;
        let b = self.src(op.b, op.w)?;
        self.before_producer(op)?;
        if op.d.is_none() && matches!(k, Alu::Sub | Alu::And) {
            self.compare_only(k, op.w, a, b)?;
        } else {
            let d = if op.d.is_none() { self.take()? } else { self.dst(op.d)? };
            if Src::Reg(d) == a {
                self.alu_into(k, op.w, d, b)?;
            } else if commutes(k) && Src::Reg(d) == b {
                self.alu_into(k, op.w, d, a)?;
            } else if Src::Reg(d) == b || d >= 16 {
                let t = self.take()?;
                self.move_to(t, a, op.w);
                self.alu_into(k, op.w, t, b)?;
                self.write_back(op.d, op.w, t)?;
            } else {
                self.move_into(op.d, d, a, op.w)?;
                self.alu_into(k, op.w, d, b)?;
            }
        }
        self.after_producer(op)
    }

    /// d (not a high byte) = src, merging if `d` is a guest register.
    pub(crate) fn move_into(
        &mut self,
        d: Val,
        r: u8,
        src: Src,
        w: Width,
    ) -> Result<(), CompileError> {
        if d.as_temp().is_none() && w < Width::W32 {
            match src {
                Src::Reg(s) if s >= 16 && !legacy_byte(r) => {
                    let t = self.low_byte(s)?;
                    self.asm.mov_rr(w, r, t);
                }
                Src::Reg(s) => self.asm.mov_rr(w, r, s),
                Src::Imm(n) => self.asm.mov_ri(w, r, n as u64 & w.mask()),
            }
        } else {
            self.move_to(r, src, w);
        }
        Ok(())
    }

    /// Flags of `a - b` or `a & b`, no result.
    fn compare_only(&mut self, k: Alu, w: Width, a: Src, b: Src) -> Result<(), CompileError> {
        let a = match a {
            Src::Imm(_) => {
                let t = self.take()?;
                self.move_to(t, a, w);
                t
            }
            Src::Reg(r) => r,
        };
        if k == Alu::Sub {
            return self.alu_into(Alu::Cmp, w, a, b);
        }
        match b {
            Src::Imm(n) => match i32::try_from(n) {
                Ok(n) => self.asm.test_ri(w, a, n),
                Err(_) => {
                    let t = self.take()?;
                    self.asm.mov_ri(Width::W64, t, n as u64);
                    self.asm.test_rr(w, a, t);
                }
            },
            Src::Reg(b) => {
                let (mut a, mut b) = (a, b);
                if w == Width::W8 && !(legacy_byte(a) && legacy_byte(b)) {
                    (a, b) = (self.low_byte(a)?, self.low_byte(b)?);
                }
                self.asm.test_rr(w, a, b);
            }
        }
        Ok(())
    }
    /// A byte register without the high-byte restriction.
    fn low_byte(&mut self, r: u8) -> Result<u8, CompileError> {
        if r < 16 {
            return Ok(r);
        }
        let t = self.take()?;
        self.asm.rorx(t, r - 16, 8);
        Ok(t)
    }

    /// Flag-free addition by LEA where it is as short or flags must survive.
    fn lea(&mut self, k: Alu, op: &Op) -> Result<bool, CompileError> {
        if op.w < Width::W32 || op.d.is_none() || !matches!(k, Alu::Add | Alu::Sub) {
            return Ok(false);
        }
        let a = self.src(op.a, op.w)?;
        let b = self.src(op.b, op.w)?;
        let mem = match (k, a, b) {
            (Alu::Add, Src::Reg(a), Src::Reg(b)) => Mem::index(a, b, 0, 0),
            (_, Src::Reg(a), Src::Imm(n)) => {
                let n = if k == Alu::Sub { n.wrapping_neg() } else { n };
                let Ok(n) = i32::try_from(n) else { return Ok(false) };
                Mem::base(a, n)
            }
            (Alu::Add, Src::Imm(n), Src::Reg(b)) => {
                let Ok(n) = i32::try_from(n) else { return Ok(false) };
                Mem::base(b, n)
            }
            _ => return Ok(false),
        };
        let d = self.dst(op.d)?;
        self.asm.lea(op.w, d, mem);
        Ok(true)
    }

    /// Base, scaled index and displacement in one instruction.
    fn address(&mut self, op: &Op) -> Result<(), CompileError> {
        let disp = op.imm.cast_signed();
        let mem = if op.a.is_none() {
            Mem::scaled(self.src_reg(op.b, op.w)?, op.x & 3, disp)
        } else {
            let base = self.src_reg(op.a, op.w)?;
            Mem::index(base, self.src_reg(op.b, op.w)?, op.x & 3, disp)
        };
        let d = self.dst(op.d)?;
        self.asm.lea(op.w, d, mem);
        Ok(())
    }

    fn unary(&mut self, op: &Op) -> Result<(), CompileError> {
        let a = self.src(op.a, op.w)?;
        let flags = op.code != Code::Not;
        if flags {
            self.before_producer(op)?;
        }
        let d = self.dst(op.d)?;
        let target = if Src::Reg(d) == a {
            d
        } else if d >= 16 {
            let t = self.take()?;
            self.move_to(t, a, op.w);
            t
        } else {
            self.move_into(op.d, d, a, op.w)?;
            d
        };
        match op.code {
            Code::Not => self.asm.group3(2, op.w, Rm::R(target)),
            Code::Neg => self.asm.group3(3, op.w, Rm::R(target)),
            Code::Inc => self.asm.incdec(0, op.w, Rm::R(target)),
            _ => self.asm.incdec(1, op.w, Rm::R(target)),
        }
        if target != d {
            self.write_back(op.d, op.w, target)?;
        }
        if flags { self.after_producer(op) } else { Ok(()) }
    }

    fn mov(&mut self, op: &Op) -> Result<(), CompileError> {
        if op.d.as_high().is_none()
            && let Some(mem) = self.home_of(op.a)
        {
            return self.load_result(op.d, op.w, mem);
        }
        let a = self.src(op.a, op.w)?;
        if self.mov_home(op, a) {
            return Ok(());
        }
        let d = self.dst(op.d)?;
        match a {
            Src::Reg(s) if op.w == Width::W8 && d >= 16 && !legacy_byte(s) => {
                self.write_high(d - 16, s)
            }
            Src::Reg(s) if d >= 16 => self.asm.mov_rr(op.w, d, s),
            Src::Imm(n) if d >= 16 => self.asm.mov_ri(op.w, d, n as u64),
            _ => self.move_into(op.d, d, a, op.w)?,
        }
        Ok(())
    }

    fn extend(&mut self, op: &Op) -> Result<(), CompileError> {
        let from = Width::from_bits(8 << (op.x & 3));
        let signed = op.code == Code::Exts;
        if let Some(f) = self.fused.take() {
            return self.extend_fused(op, from, signed, f);
        }
        let merges = op.d.as_temp().is_none() && op.w < Width::W32;
        if !merges && let Some(mem) = self.home_of(op.a) {
            let d = self.dst(op.d)?;
            if signed {
                self.asm.movsx(wide(op.w), from, d, Rm::M(mem));
            } else {
                self.asm.movzx(from, d, Rm::M(mem));
            }
            return Ok(());
        }
        let src = match self.src(op.a, from)? {
            Src::Imm(n) => {
                let n = if signed { n as u64 } else { n as u64 & from.mask() };
                let d = self.dst(op.d)?;
                return self.move_into(op.d, d, Src::Imm(n as i64), op.w);
            }
            Src::Reg(r) => r,
        };
        let d = if merges { self.take()? } else { self.dst(op.d)? };
        let src =
            if src >= 16 && (d >= 8 || op.w == Width::W64) { self.low_byte(src)? } else { src };
        if signed {
            self.asm.movsx(wide(op.w), from, d, Rm::R(src));
        } else {
            self.asm.movzx(from, d, Rm::R(src));
        }
        if merges { self.write_back(op.d, op.w, d) } else { Ok(()) }
    }

    fn imul(&mut self, op: &Op) -> Result<(), CompileError> {
        if op.w == Width::W8 {
            return Err(CompileError::Form(self.at));
        }
        let (x, y) = if self.block.const_of(op.a).is_some() { (op.b, op.a) } else { (op.a, op.b) };
        let x = self.src_reg(x, op.w)?;
        let y = self.src(y, op.w)?;
        self.before_producer(op)?;
        let gpr16 = op.w == Width::W16;
        let d = if op.d.is_none() || gpr16 { self.take()? } else { self.dst(op.d)? };
        match y {
            Src::Imm(n) => {
                let n = i32::try_from(n).map_err(|_| CompileError::Form(self.at))?;
                self.asm.imul_rri(op.w, d, x, n);
            }
            Src::Reg(y) if y == d => self.asm.op0f(op.w, 0xAF, d, Rm::R(x)),
            Src::Reg(y) => {
                if d != x {
                    self.asm.mov_rr(wide(op.w), d, x);
                }
                self.asm.op0f(op.w, 0xAF, d, Rm::R(y));
            }
        }
        if gpr16 {
            self.write_back(op.d, op.w, d)?;
        }
        self.after_producer(op)
    }

    fn bit_test(&mut self, op: &Op) -> Result<(), CompileError> {
        if op.w == Width::W8 {
            return Err(CompileError::Form(self.at));
        }
        let n = match op.code {
            Code::Bt => 4,
            Code::Bts => 5,
            Code::Btr => 6,
            _ => 7,
        };
        let bit = self.src(op.b, op.w)?;
        let target =
            if op.code == Code::Bt { self.src_reg(op.a, op.w)? } else { self.copy_of(op.a, op.w)? };
        self.before_producer(op)?;
        match bit {
            Src::Imm(b) => self.asm.bt_ri(n, op.w, target, b as u8),
            Src::Reg(b) => self.asm.op0f(op.w, 0x83 | n << 3, b, Rm::R(target)),
        }
        if op.code != Code::Bt {
            self.write_back(op.d, op.w, target)?;
        }
        self.after_producer(op)
    }

    fn bit_count(&mut self, op: &Op) -> Result<(), CompileError> {
        if op.w == Width::W8 {
            return Err(CompileError::Form(self.at));
        }
        let src = self.src_reg(op.a, op.w)?;
        let scan = matches!(op.code, Code::Bsf | Code::Bsr);
        let direct = !scan && op.w >= Width::W32 && !op.d.is_none();
        let t = if scan {
            self.copy_of(op.b, op.w)?
        } else if direct {
            self.dst(op.d)?
        } else {
            self.take()?
        };
        if scan {
            self.before_producer(op)?;
        } else {
            self.clobber()?;
            self.asm.byte(0xF3);
        }
        let code = match op.code {
            Code::Bsf | Code::Ctz => 0xBC,
            Code::Popcnt => 0xB8,
            _ => 0xBD,
        };
        self.asm.op0f(op.w, code, t, Rm::R(src));
        if !direct {
            self.write_back(op.d, op.w, t)?;
        }
        if scan { self.after_producer(op) } else { Ok(()) }
    }

    /// EFLAGS of a - b, for integer conditions.
    pub(crate) fn compare(&mut self, w: Width, a: Val, b: Val) -> Result<(), CompileError> {
        let a = self.src(a, w)?;
        let b = self.src(b, w)?;
        if let (Src::Reg(r), Src::Imm(0)) = (a, b)
            && r < 16
        {
            self.asm.test_rr(w, r, r);
            return Ok(());
        }
        self.compare_only(Alu::Sub, w, a, b)
    }

    fn set_byte(&mut self, op: &Op) -> Result<(), CompileError> {
        let d = self.dst(op.d)?;
        self.asm.setcc(op.cond(), d);
        Ok(())
    }

    fn select(&mut self, op: &Op) -> Result<(), CompileError> {
        let flags = op.code == Code::Cmovf;
        let (yes, no) = if flags { (op.a, op.b) } else { (op.c, op.e) };
        if flags {
            self.need_flags()?;
        } else {
            self.clobber()?;
        }
        if op.w == Width::W8 || op.d.as_high().is_some() {
            let t = self.copy_of(no, op.w)?;
            let yes = self.src_reg(yes, op.w)?;
            if !flags {
                self.compare(op.w, op.a, op.b)?;
            }
            self.asm.cmov(op.cond(), wide(op.w), t, yes);
            return self.write_back(op.d, op.w, t);
        }
        let in_yes = yes == op.d && no != op.d;
        let (keep, take, cond) =
            if in_yes { (yes, no, op.cond().invert()) } else { (no, yes, op.cond()) };
        let keep = self.src(keep, op.w)?;
        let take = self.src_reg(take, op.w)?;
        if !flags {
            self.compare(op.w, op.a, op.b)?;
        }
        let d = self.dst(op.d)?;
        if keep == Src::Reg(d) {
            self.asm.cmov(cond, op.w, d, take);
            return Ok(());
        }
        // The result's register may hold what is to be taken.
        let t = if d == take { self.take()? } else { d };
        self.move_into(op.d, t, keep, op.w)?;
        self.asm.cmov(cond, op.w, t, take);
        if t == d { Ok(()) } else { self.write_back(op.d, op.w, t) }
    }

    fn get_flags(&mut self, op: &Op) -> Result<(), CompileError> {
        self.bring_home()?;
        self.flags_host = false;
        let t = self.take()?;
        let u = self.take()?;
        self.asm.load(Width::W32, t, state(self.layout.cc));
        self.asm.mov_rr(Width::W32, u, t);
        self.asm.shift_ri(5, Width::W32, Rm::R(t), 8);
        self.asm.alu_ri(Alu::And, Width::W32, t, 0xD5);
        self.asm.alu_ri(Alu::And, Width::W32, u, 1);
        self.asm.shift_ri(4, Width::W32, Rm::R(u), 11);
        self.asm.alu_rr(Alu::Or, Width::W32, t, u);
        self.write_back(op.d, Width::W32, t)
    }

    fn put_flags(&mut self, op: &Op) -> Result<(), CompileError> {
        let mask = FlagMask(op.x & 63);
        if mask != FlagMask::ALL {
            self.bring_home()?;
        }
        self.flags_host = false;
        self.recipe = None;
        let low = (mask.eflags() & 0xD5) as i32;
        let t = self.copy_of(op.a, Width::W32)?;
        let u = self.take()?;
        let home = state(self.layout.cc);
        self.asm.mov_rr(Width::W32, u, t);
        self.asm.alu_ri(Alu::And, Width::W32, t, low);
        self.asm.shift_ri(4, Width::W32, Rm::R(t), 8);
        if mask.meets(FlagMask::O) {
            self.asm.shift_ri(5, Width::W32, Rm::R(u), 11);
            self.asm.alu_ri(Alu::And, Width::W32, u, 1);
            self.asm.alu_rr(Alu::Or, Width::W32, t, u);
        }
        if mask != FlagMask::ALL {
            let gone = low << 8 | i32::from(mask.meets(FlagMask::O));
            self.asm.load(Width::W32, u, home);
            self.asm.alu_ri(Alu::And, Width::W32, u, !gone);
            self.asm.alu_rr(Alu::Or, Width::W32, t, u);
        }
        self.asm.store(Width::W32, home, t);
        self.flags_home = true;
        Ok(())
    }
}
