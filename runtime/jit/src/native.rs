//! Native instructions: the guest's opcode encoded again, with host registers and a host address in place of the guest's.
//!
//! Source of the encodings: SDM Vol. 2, "Instruction Format" and "Intel AVX Instruction Format".

use ir::{Block, Code, Native, NativeReg, Op, Val, Width, simd};

use crate::asm::{Asm, Mem, Rm, modrm_mem};
use crate::compile::{CompileError, Emit};
use crate::memory::Fused;
use crate::recipe::Redo;
use crate::regs::Ahead;

/// Host registers and memory of the operands that are renamed.
#[derive(Clone, Copy)]
pub(crate) struct Places {
    /// `Out` and `InOut`.
    pub(crate) out: u8,
    /// `In0`.
    pub(crate) in0: u8,
    /// `In1`.
    pub(crate) in1: u8,
    /// `Mem`.
    pub(crate) mem: Mem,
}

impl Places {
    /// The number encoded for an operand.
    const fn number(&self, r: NativeReg) -> u8 {
        match r {
            NativeReg::None | NativeReg::Mem => 0,
            NativeReg::Digit(n) | NativeReg::Vec(n) => n & 15,
            NativeReg::Out | NativeReg::InOut => self.out,
            NativeReg::In0 => self.in0,
            NativeReg::In1 => self.in1,
        }
    }
}

/// Encodes `n`.
pub(crate) fn encode(asm: &mut Asm<'_>, n: &Native, places: &Places) {
    let reg = places.number(n.reg);
    let rm = match n.rm {
        NativeReg::Mem => Rm::M(places.mem),
        r => Rm::R(places.number(r)),
    };
    let (b, x) = match rm {
        Rm::R(r) => (r >> 3, 0),
        Rm::M(m) => (m.base >> 3, m.index.map_or(0, |i| i >> 3)),
    };
    let rxb = (reg >> 3) << 2 | x << 1 | b;
    if n.vl == 0 {
        legacy_opening(asm, n, rxb, rm);
    } else {
        vex_opening(asm, n, rxb, places.number(n.vvvv));
    }
    asm.byte(n.opcode);
    let has_modrm = n.reg != NativeReg::None || n.rm != NativeReg::None;
    match rm {
        _ if !has_modrm => {}
        Rm::R(r) => asm.byte(0xC0 | (reg & 7) << 3 | r & 7),
        Rm::M(m) => {
            let mut out = [0; 16];
            let index = m.index.map(|i| i & 7);
            let len = modrm_mem(&mut out, 0, reg & 7, m.base & 7, index, m);
            asm.bytes(out.get(..len).unwrap_or(&[]));
        }
    }
    let imm = n.imm.to_le_bytes();
    asm.bytes(imm.get(..usize::from(n.imm_len)).unwrap_or(&[]));
}

/// Prefixes, REX and opcode map of a legacy encoding.
fn legacy_opening(asm: &mut Asm<'_>, n: &Native, rxb: u8, rm: Rm) {
    if n.lock {
        asm.byte(0xF0);
    }
    if n.opsize {
        asm.byte(0x66);
    }
    match n.pp {
        1 => asm.byte(0x66),
        2 => asm.byte(0xF3),
        3 => asm.byte(0xF2),
        _ => {}
    }
    let is_byte = n.byte_rm && matches!(rm, Rm::R(4..8));
    if rxb != 0 || n.w || is_byte {
        asm.byte(0x40 | u8::from(n.w) << 3 | rxb);
    }
    match n.map {
        1 => asm.byte(0x0F),
        2 => asm.bytes(&[0x0F, 0x38]),
        3 => asm.bytes(&[0x0F, 0x3A]),
        _ => {}
    }
}

/// VEX prefix, two bytes where they do.
fn vex_opening(asm: &mut Asm<'_>, n: &Native, rxb: u8, vvvv: u8) {
    let low = (!vvvv & 15) << 3 | u8::from(n.vl == 2) << 2 | n.pp & 3;
    if rxb & 3 == 0 && !n.w && n.map == 1 {
        asm.bytes(&[0xC5, u8::from(rxb & 4 == 0) << 7 | low]);
    } else {
        asm.bytes(&[0xC4, (!rxb & 7) << 5 | n.map, u8::from(n.w) << 7 | low]);
    }
}

/// May what must be home when this instruction traps be brought there then? Only where #XM is all it can raise.
pub(crate) fn traps_late(block: &Block, op: &Op) -> bool {
    let others = simd::X87 | simd::MMX | simd::WAIT;
    !op.is_implicit() && block.native_of(op).is_some_and(|n| n.uses & others == 0)
}

/// An instruction that has cold code of its own for when it traps.
pub(crate) struct TrapSite {
    /// Where it stands, from the block's start.
    pub(crate) at: usize,
    /// Its cold code, once it is emitted.
    pub(crate) stub: usize,
    flags: TrapFlags,
    /// Guest registers to be stored.
    ahead: Ahead,
    /// Page offset of its insn, and how many come behind.
    insn: (u16, u16),
}

/// Where the flags are when an instruction traps.
enum TrapFlags {
    Home,
    Host,
    Redo(Redo),
}

impl Emit<'_> {
    /// The cold code of native instructions that may trap while state is not home.
    pub(crate) fn trap_stubs(&mut self) {
        let mut traps = std::mem::take(&mut self.lists.traps);
        for site in &mut traps {
            self.mark(site.insn.0, site.insn.1);
            site.stub = self.asm.pos();
            self.store_ahead(site.ahead);
            match &site.flags {
                TrapFlags::Home => {}
                TrapFlags::Host => {
                    let hole = self.asm.call();
                    self.asm.fix_cache(hole, self.start, self.thunks.save_flags);
                }
                TrapFlags::Redo(redo) => self.save_redone(redo),
            }
            let hole = self.asm.call();
            self.asm.fix_cache(hole, self.start, self.thunks.trap_simd());
        }
        self.lists.traps = traps;
    }
    /// Before an instruction that may trap: notes what its trap has to bring home; `host`: EFLAGS hold the flags.
    fn trap_site(&mut self, host: bool) -> Result<(), CompileError> {
        let ahead = self.regs.ahead();
        let flags = match self.redo()? {
            _ if self.flags_home => TrapFlags::Home,
            _ if host => TrapFlags::Host,
            Some(redo) => TrapFlags::Redo(redo),
            None => return Err(CompileError::Form(self.at)),
        };
        if !matches!(flags, TrapFlags::Home) || self.regs.is_any_ahead() {
            let insn = (self.page_offset, self.behind);
            self.lists.traps.push(TrapSite { at: self.asm.pos(), stub: 0, flags, ahead, insn });
        }
        Ok(())
    }
    /// Does the op leave what it may expose to its trap?
    pub(crate) fn is_late_trap(&self, op: &Op) -> bool {
        self.late_traps && op.code == Code::Native && traps_late(self.block, op)
    }
    /// A native instruction.
    pub(crate) fn native(&mut self, op: &Op) -> Result<(), CompileError> {
        let Some(&n) = self.block.native_of(op) else { return Err(CompileError::Form(self.at)) };
        let is_late = op.exposes_state() && self.is_late_trap(op);
        if op.is_implicit() || op.exposes_state() && !is_late {
            self.flags_home_if(63)?;
        }
        let host = self.flags_host;
        let mut places = Places { out: 0, in0: 0, in1: 0, mem: Mem::base(0, 0) };
        let fused = self.fused.take();
        if let Some(fused) = fused {
            places.mem = fused.mem;
        } else if !op.a.is_none() {
            places.mem = Mem::base(self.src_reg(op.a, Width::W64)?, 0);
        }
        if !op.b.is_none() {
            places.in0 = self.src_reg(op.b, op.w)?;
        }
        if !op.c.is_none() {
            places.in1 = self.src_reg(op.c, op.w)?;
        }
        if op.reads_result() {
            self.src(op.d, Width::W64)?;
        }
        if !op.d.is_none() {
            places.out = self.native_result(op.d)?;
        }
        let writes_flags = !op.can_define().is_empty();
        if writes_flags {
            self.before_producer(op)?;
        } else if !op.flags_read().is_empty() {
            self.need_flags()?;
        }
        if is_late {
            self.trap_site(host)?;
        }
        let from = self.asm.pos();
        encode(&mut self.asm, &n, &places);
        self.note_user(from);
        if let Some(f) = fused {
            self.regs.unhold(f.mem.base);
            if let Some(i) = f.mem.index {
                self.regs.unhold(i);
            }
        }
        if let Some(high) = op.d.as_high() {
            self.write_high(high, places.out);
        }
        if writes_flags { self.after_producer(op) } else { Ok(()) }
    }
    /// A place in a span, left to the native instruction that alone wants it.
    pub(crate) fn sum_fused(&mut self, op: &Op) -> Result<bool, CompileError> {
        let is_sum = op.code == Code::Add && op.w == Width::W64 && op.fdef.is_empty();
        if !is_sum || op.a.as_temp().is_none() || self.native_takes(op).is_none() {
            return Ok(false);
        }
        let off = self.block.const_of(op.b).and_then(|n| i32::try_from(n.cast_signed()).ok());
        let Some(off) = off else { return Ok(false) };
        let p = self.src_reg(op.a, Width::W64)?;
        self.regs.hold(p, self.at);
        self.fused = Some(Fused { val: op.d, mem: Mem::base(p, off) });
        Ok(true)
    }
    /// Does a native instruction follow that is the only user of this pointer, so that it may take base and offset as they are?
    pub(crate) fn native_takes(&self, op: &Op) -> Option<u16> {
        let t = op.d.as_temp()?;
        let next = self.op_at(self.at + 1)?;
        let sole = next.code == Code::Native && next.a == op.d;
        (sole && self.regs.only_use_is(t, self.at + 1)).then_some(t)
    }
    /// Host register for a result: its own, or for a high byte one to copy from.
    fn native_result(&mut self, d: Val) -> Result<u8, CompileError> {
        if d.as_high().is_some() { self.take() } else { self.dst(d) }
    }
}
