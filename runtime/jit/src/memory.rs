//! Guest memory: the inline TLB check, the access, and the calls out for what the check does not admit.
//!
//! One unsigned compare decides tag match, page crossing and validity (jit-cost-model, "Recommended inline sequence").
//! Addends are host address minus linear address, so the linear address stays intact for the slow path.

use ir::{AccessKind, Code, Cond, Op, SPAN_SLOT, Val, Width};

use crate::abi::{self, TLB};
use crate::asm::{Alu, Asm, Mem, Rm, state};
use crate::compile::{Bail, CompileError, Emit, Src};
use crate::layout::SegPolicy;
use crate::mem_thunk::{ALIGNED, NO_VALUE, Part, ThunkKey, UNLIMITED};
use crate::recipe::Redo;
use crate::regs::Ahead;
use crate::thunks::Wish;

/// An operand in memory, left to its consumer.
#[derive(Clone, Copy)]
pub(crate) struct Fused {
    /// The operand it is.
    pub(crate) val: Val,
    pub(crate) mem: Mem,
}

/// Cold code to be emitted for one access.
pub(crate) struct SlowSite {
    holes: [usize; 2],
    /// The second look whose branch leads here, too.
    second: Option<usize>,
    back: usize,
    key: ThunkKey,
    /// Constant to be stored.
    imm: Option<i64>,
    /// Page offset of its insn, and how many come behind.
    insn: (u16, u16),
    /// The flags, if they are not home.
    flags: Option<Redo>,
    /// Guest registers to be stored first.
    ahead: Ahead,
    /// Where the code of the insn behind begins and ends, once it is emitted: what is done again for [`SlowKind::SoleWrite`].
    user: Option<(usize, usize)>,
}

/// Kinds in the `meta` word of a slow path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum SlowKind {
    /// Load into `scratch[1]`.
    Load = 0,
    /// Store `scratch[1]`.
    Store = 1,
    /// Pointer for reading.
    PtrRead = 2,
    /// Pointer for writing.
    PtrWrite = 3,
    /// Pointer for reading, of an insn that has no other and uses it once.
    SoleRead = 4,
    /// Pointer for read-modify-write.
    PtrRw = 5,
    /// Store what an insn has written to the state's buffer for want of a pointer.
    StoreBack = 6,
    /// Pointer for writing, of an insn that has no other and uses it once; it looks whether it got the state's buffer.
    SoleWrite = 7,
}

/// The kinds by their numbers.
const KINDS: [SlowKind; 8] = [
    SlowKind::Load,
    SlowKind::Store,
    SlowKind::PtrRead,
    SlowKind::PtrWrite,
    SlowKind::SoleRead,
    SlowKind::PtrRw,
    SlowKind::StoreBack,
    SlowKind::SoleWrite,
];

const _: () = {
    let mut n = 0;
    while n < KINDS.len() {
        assert!(KINDS[n] as usize == n);
        n += 1;
    }
};

impl SlowKind {
    /// What it does to guest memory.
    pub const fn access(self) -> AccessKind {
        match self {
            Self::Load | Self::PtrRead | Self::SoleRead => AccessKind::R,
            Self::Store | Self::PtrWrite | Self::SoleWrite | Self::StoreBack => AccessKind::W,
            Self::PtrRw => AccessKind::Rw,
        }
    }
}

/// The kind in a `meta` word.
pub const fn meta_kind(meta: u32) -> SlowKind {
    KINDS[meta as usize % KINDS.len()]
}
/// Bytes accessed.
pub const fn meta_size(meta: u32) -> u32 {
    meta >> 8 & !(ALIGNED as u32) & 0xFF
}
/// Must the address be a multiple of the size?
pub const fn meta_is_aligned(meta: u32) -> bool {
    meta >> 8 & ALIGNED as u32 != 0
}
/// Segment number.
pub const fn meta_seg(meta: u32) -> u8 {
    (meta >> 16) as u8 & !UNLIMITED
}

/// A checked address: linear in one register, addend in another.
struct Checked {
    lin: u8,
    addend: u8,
    holes: [usize; 2],
    /// See [`SlowSite`].
    second: Option<usize>,
    flags: Option<Redo>,
    /// What was ahead when the check was made.
    ahead: Ahead,
}

/// Cold code for an access whose page is not on the map of those at the usual addend: it looks at the tags.
pub(crate) struct SecondLook {
    hole: usize,
    back: usize,
    /// Of the linear address, of the addend to be found, and free to use.
    lin: u8,
    to: u8,
    index: u8,
    table: i32,
    /// Bytes accessed.
    bytes: i32,
    /// The branch taken where the tags say no, once it is there.
    pub(crate) miss: usize,
}

const NO_HOLE: usize = usize::MAX;

/// The width at which a segment offset is read.
fn offset_width(op: &Op) -> Width {
    if op.y == Width::W64 as u8 { Width::W64 } else { Width::W32 }
}

impl Emit<'_> {
    pub(crate) fn memory(&mut self, op: &Op) -> Result<(), CompileError> {
        match op.code {
            Code::Ld | Code::St | Code::Ptr if !self.hot => self.whole(op),
            Code::Ld => self.ld(op),
            Code::St => self.st(op),
            Code::Ptr => self.ptr(op),
            Code::Span => self.span(op),
            Code::LdH => {
                let p = self.src_reg(op.a, Width::W64)?;
                if let Some(val) = self.fusible(op) {
                    self.regs.hold(p, self.at);
                    self.fused = Some(Fused { val, mem: Mem::base(p, op.imm as i32) });
                    return Ok(());
                }
                self.load_result(op.d, op.w, Mem::base(p, op.imm as i32))
            }
            _ => {
                let p = self.src_reg(op.a, Width::W64)?;
                let mem = Mem::base(p, op.imm as i32);
                let value = self.src(op.b, op.w)?;
                self.store_value(op.w, mem, value)
            }
        }
    }

    /// Compact code: the whole access by a call.
    fn whole(&mut self, op: &Op) -> Result<(), CompileError> {
        if !self.flags_home {
            self.save_flags()?;
        }
        self.flags_host = false;
        let policy = self.policy(op);
        let lin = self.thunk_operand(op.a, offset_width(op))?;
        let high = op.d.as_high();
        let (kind, size, value) = match op.code {
            Code::St => (SlowKind::Store, op.w.bytes() as u8, self.thunk_operand(op.b, op.w)?),
            Code::Ld => {
                let d = if high.is_some() { self.take_temp()? } else { self.dst(op.d)? };
                (SlowKind::Load, op.w.bytes() as u8, d)
            }
            _ => {
                let (kind, size) = self.pointer_shape(op)?;
                (kind, size, self.dst(op.d)?)
            }
        };
        let merge = op.code == Code::Ld && op.d.as_gpr().is_some();
        let is_unlimited = matches!(policy, SegPolicy::Flat | SegPolicy::Base);
        let seg = op.x | if is_unlimited { UNLIMITED } else { 0 };
        let key = ThunkKey { part: Part::Whole(policy), kind, size, seg, lin, value, merge };
        let hole = self.asm.call();
        self.want(Wish::Memory(key), self.start + hole);
        if let Some(n) = high {
            self.write_high(n, value);
        }
        Ok(())
    }
    /// Operand `v` in a register that memory thunks leave alone.
    fn thunk_operand(&mut self, v: Val, w: Width) -> Result<u8, CompileError> {
        match self.src(v, w)? {
            Src::Reg(r) if r < 16 && r != abi::THUNK_LIN && r != abi::THUNK_INDEX => Ok(r),
            other => {
                let t = self.take_temp()?;
                self.move_to(t, other, w);
                Ok(t)
            }
        }
    }
    /// Kind and size of a `Ptr`, in a key's form.
    fn pointer_shape(&self, op: &Op) -> Result<(SlowKind, u8), CompileError> {
        let kind = match op.access_kind() {
            AccessKind::R => SlowKind::PtrRead,
            AccessKind::W => SlowKind::PtrWrite,
            AccessKind::Rw => SlowKind::PtrRw,
        };
        match op.access_bytes() {
            n @ 1..=64 if op.is_aligned() && n.is_power_of_two() => Ok((kind, n as u8 | ALIGNED)),
            n @ 1..=64 if !op.is_aligned() => Ok((kind, n as u8)),
            _ => Err(CompileError::Form(self.at)),
        }
    }

    fn ld(&mut self, op: &Op) -> Result<(), CompileError> {
        let size = op.w.bytes() as u8;
        let c = self.check(op, size, false)?;
        let mem = Mem::index(c.addend, c.lin, 0, 0);
        if let Some(val) = self.fusible(op) {
            // The slow path loads the value to a state slot and points the pair (addend, linear) at it.
            self.slow_site(op, &c, (SlowKind::Load, size), 32 + c.addend, None);
            self.regs.hold(c.lin, self.at);
            self.regs.hold(c.addend, self.at);
            self.fused = Some(Fused { val, mem });
            return Ok(());
        }
        // A high byte goes by way of a scratch register: its own register may hold the address.
        let high = op.d.as_high();
        let d = if high.is_some() { self.take()? } else { self.dst(op.d)? };
        load_to(&mut self.asm, op.w, d, op.d.as_gpr().is_some(), mem);
        self.slow_site(op, &c, (SlowKind::Load, size), d, None);
        if let Some(n) = high {
            self.write_high(n, d);
        }
        Ok(())
    }
    /// Cold code for the access just emitted, which goes on behind it.
    fn slow_site(
        &mut self,
        op: &Op,
        c: &Checked,
        (kind, size): (SlowKind, u8),
        value: u8,
        imm: Option<i64>,
    ) {
        let merge = kind == SlowKind::Load && value < 32 && op.d.as_gpr().is_some();
        let seg = op.x | if c.holes[0] == NO_HOLE { UNLIMITED } else { 0 };
        let key = ThunkKey { part: Part::SlowOnly, kind, size, seg, lin: c.lin, value, merge };
        let back = self.asm.pos();
        let insn = (self.page_offset, self.behind);
        let (holes, second) = (c.holes, c.second);
        let (flags, ahead) = (c.flags, c.ahead);
        let site = SlowSite { holes, second, back, key, imm, insn, flags, ahead, user: None };
        self.lists.slow.push(site);
    }

    /// May the next op take this load as its memory operand?
    fn fusible(&self, op: &Op) -> Option<Val> {
        let t = op.d.as_temp()?;
        let next = self.op_at(self.at + 1)?;
        if matches!(next.code, Code::Extu | Code::Exts) {
            let whole = Width::from_code(next.x) == op.w && next.w > op.w && next.a == op.d;
            return (whole && self.regs.only_use_is(t, self.at + 1)).then_some(op.d);
        }
        if self.mul_takes(next, op) {
            return self.regs.only_use_is(t, self.at + 1).then_some(op.d);
        }
        let k = crate::alu::alu_of(next.code)?;
        let sole =
            self.regs.only_use_is(t, self.at + 1) && next.w == op.w && next.d.as_high().is_none();
        let other = if next.b == op.d { next.a } else { next.b };
        let compare = next.d.is_none() && matches!(k, Alu::Sub | Alu::And);
        let bits = 64 - op.w.bits();
        let constant = (self.block.const_of(other).unwrap_or(0) << bits).cast_signed() >> bits;
        let fits = i32::try_from(constant).is_ok();
        let place = if next.b == op.d { next.a != op.d } else { compare && next.a == op.d && fits };
        // A value that flags are to be made from again must be in a register.
        let is_needed =
            || self.facts.after[self.at + 1].1 != 0 && self.needs_again(self.at + 1, op.d);
        (sole && place && other.as_high().is_none() && !is_needed()).then_some(op.d)
    }

    /// `d = a k [mem]`, or a comparison with memory on either side.
    pub(crate) fn binary_fused(&mut self, k: Alu, op: &Op, f: Fused) -> Result<(), CompileError> {
        let loaded = f.val;
        let (w, mem) = (op.w, f.mem);
        let other = self.src(if op.b == loaded { op.a } else { op.b }, w)?;
        self.before_producer(op)?;
        if op.d.is_none() && matches!(k, Alu::Sub | Alu::And) {
            self.compare_fused(k, w, other, mem, op.a == loaded)?;
        } else {
            let d = if op.d.is_none() { self.take()? } else { self.dst(op.d)? };
            if Src::Reg(d) == other {
                self.asm.alu_rm(k, w, d, mem);
            } else if d == mem.base
                || mem.index == Some(d)
                || op.d.as_gpr().is_some() && w < Width::W32
            {
                let t = self.take()?;
                self.move_to(t, other, w);
                self.asm.alu_rm(k, w, t, mem);
                self.write_back(op.d, w, t)?;
            } else {
                self.move_into(op.d, d, other, w)?;
                self.asm.alu_rm(k, w, d, mem);
            }
        }
        self.regs.unhold(mem.base);
        if let Some(i) = mem.index {
            self.regs.unhold(i);
        }
        self.after_producer(op)
    }
    /// `d` = the extended value at `f`.
    pub(crate) fn extend_fused(
        &mut self,
        op: &Op,
        from: Width,
        signed: bool,
        f: Fused,
    ) -> Result<(), CompileError> {
        let Mem { base, index, .. } = f.mem;
        for r in [Some(base), index].into_iter().flatten() {
            self.regs.unhold(r);
        }
        let d = self.dst(op.d)?;
        let w = if op.d.as_temp().is_some() { op.w.max(Width::W32) } else { op.w };
        if signed {
            self.asm.movsx(w, from, d, Rm::M(f.mem));
        } else if w >= Width::W32 {
            self.asm.movzx(from, d, Rm::M(f.mem));
        } else {
            self.asm.op0f(w, 0xB6, d, Rm::M(f.mem));
        }
        Ok(())
    }
    fn compare_fused(
        &mut self,
        k: Alu,
        w: Width,
        other: Src,
        mem: Mem,
        memory_first: bool,
    ) -> Result<(), CompileError> {
        let k = if k == Alu::Sub { Alu::Cmp } else { k };
        let other = match other {
            Src::Imm(n) if memory_first && k == Alu::Cmp => {
                let n = i32::try_from(n).map_err(|_| CompileError::Form(self.at))?;
                self.asm.alu_mi(k, w, mem, n);
                return Ok(());
            }
            Src::Imm(_) => {
                let t = self.take()?;
                self.move_to(t, other, w);
                t
            }
            Src::Reg(r) => r,
        };
        match (k, memory_first) {
            (Alu::Cmp, true) => self.asm.alu_mr(k, w, mem, other),
            (Alu::Cmp, false) => self.asm.alu_rm(k, w, other, mem),
            _ => self.asm.test_mr(w, mem, other),
        }
        Ok(())
    }

    fn st(&mut self, op: &Op) -> Result<(), CompileError> {
        let mut value = self.src(op.b, op.w)?;
        if let Src::Reg(high @ 16..) = value {
            let t = self.take()?;
            self.asm.rorx(t, high - 16, 8);
            value = Src::Reg(t);
        }
        if let Src::Imm(n) = value
            && i32::try_from(n).is_err()
        {
            value = Src::Reg(self.copy_of(op.b, op.w)?);
        }
        let size = op.w.bytes() as u8;
        let c = self.check(op, size, true)?;
        self.store_value(op.w, Mem::index(c.addend, c.lin, 0, 0), value)?;
        let (value, imm) = match value {
            Src::Reg(r) => (r, None),
            Src::Imm(n) => (NO_VALUE, Some(n)),
        };
        self.slow_site(op, &c, (SlowKind::Store, size), value, imm);
        Ok(())
    }

    fn ptr(&mut self, op: &Op) -> Result<(), CompileError> {
        let (mut kind, size) = self.pointer_shape(op)?;
        let c = self.check(op, size, kind != SlowKind::PtrRead)?;
        if self.native_takes(op).is_some() {
            kind = match kind {
                SlowKind::PtrRead => SlowKind::SoleRead,
                SlowKind::PtrWrite if self.block.ops[self.at + 1].only_stores() => {
                    SlowKind::SoleWrite
                }
                other => other,
            };
            // The slow path makes the addend of its pointer.
            self.slow_site(op, &c, (kind, size), 32 + c.addend, None);
            self.regs.hold(c.lin, self.at);
            self.regs.hold(c.addend, self.at);
            self.fused = Some(Fused { val: op.d, mem: Mem::index(c.addend, c.lin, 0, 0) });
            return Ok(());
        }
        let d = self.dst(op.d)?;
        self.asm.lea(Width::W64, d, Mem::index(c.addend, c.lin, 0, 0));
        self.slow_site(op, &c, (kind, size), d, None);
        Ok(())
    }

    /// The check of all bytes that several accesses share. Flags are home or can be made again, because it may leave.
    fn span(&mut self, op: &Op) -> Result<(), CompileError> {
        self.before_look()?;
        let (bytes, writes) = (op.span_bytes() as i32, op.span_writes());
        let off = self.offset_reg(op, writes)?;
        let d = self.dst(op.d)?;
        let tag = self.take()?;
        let (lin, limit) = self.linear(op, off, (bytes, writes), tag)?;
        let table = if writes { abi::TLB_WRITE } else { 0 };
        let log = op.span_align() as u8;
        let (hole, second) = if self.asks_map(op, writes) && log == 0 {
            let second = self.usual_check(lin, (d, tag), table, bytes);
            self.asm.lea(Width::W64, d, Mem::index(tag, lin, 0, 0));
            (NO_HOLE, Some(second))
        } else {
            let hole = self.tag_check(lin, (d, tag), table, bytes, log);
            self.asm.alu_rr(Alu::Add, Width::W64, d, lin);
            (hole, None)
        };
        let (insn, flags) = ((self.page_offset, self.behind), self.redo()?);
        let (holes, ahead) = ([limit, hole], self.regs.ahead());
        self.lists.bails.push(Bail { holes, second, insn, flags, ahead });
        Ok(())
    }
    /// Where spans that do not hold go: direct exits to the start of their insns.
    pub(crate) fn span_exits(&mut self) {
        let mut bails = std::mem::take(&mut self.lists.bails);
        for bail in bails.drain(..) {
            self.mark(bail.insn.0, bail.insn.1);
            let here = self.asm.pos();
            let second = bail.second.map_or(NO_HOLE, |n| self.lists.seconds[n].miss);
            let holes = bail.holes.into_iter().chain([second]);
            for hole in holes.filter(|&hole| hole != NO_HOLE) {
                self.asm.fix32(hole, here);
            }
            self.store_ahead(bail.ahead);
            if let Some(flags) = &bail.flags {
                self.save_redone(flags);
            }
            self.exit_site(SPAN_SLOT, u32::from(bail.insn.0), false);
        }
        self.lists.bails = bails;
    }

    /// The inline check. Flags are home or can be made again, because the access may fault.
    fn check(&mut self, op: &Op, size: u8, write: bool) -> Result<Checked, CompileError> {
        self.before_look()?;
        // Registers first: taking one may spill another, and a spill behind a check would be missing after the slow path.
        let off = self.offset_reg(op, write)?;
        let index = self.take()?;
        let tag = self.take()?;
        let (lin, limit) = self.linear(op, off, (i32::from(size & !ALIGNED), write), tag)?;
        let table = if write { abi::TLB_WRITE } else { 0 };
        let bytes = size & !ALIGNED;
        let (miss, second, addend) = if self.asks_map(op, write) && size == bytes {
            let second = self.usual_check(lin, (index, tag), table, bytes.into());
            (NO_HOLE, Some(second), tag)
        } else {
            // Address bits below an aligned size become the topmost: none may be set.
            let log = if size == bytes { 0 } else { bytes.trailing_zeros() as u8 };
            (self.tag_check(lin, (index, tag), table, bytes.into(), log), None, index)
        };
        // Where its operands are now: the registers taken above may have been theirs.
        let flags = self.redo()?;
        self.regs.release(if addend == tag { index } else { tag });
        let ahead = self.regs.ahead();
        Ok(Checked { lin, addend, holes: [limit, miss], second, flags, ahead })
    }

    /// Is a page looked for on the map first? It has those of 32-bit addresses. Code in segments often writes right below itself, where
    /// the page that follows is not to be written.
    fn asks_map(&self, op: &Op, write: bool) -> bool {
        self.guesses && op.y != Width::W64 as u8 && (!write || self.policy(op) == SegPolicy::Flat)
    }
    /// The segment offset of an access. Tags tell one beyond 32 bits, a guest register's rest from 64-bit code, but maps do not.
    fn offset_reg(&mut self, op: &Op, write: bool) -> Result<u8, CompileError> {
        if self.asks_map(op, write) && op.a.as_gpr().is_some() {
            return self.copy_of(op.a, Width::W32);
        }
        self.src_reg(op.a, offset_width(op))
    }
    /// The check by tag: the addend comes in `index`. Returns the hole of the branch taken where there is none. `log`: the address must be a
    /// multiple of this power of two.
    fn tag_check(
        &mut self,
        lin: u8,
        (index, tag): (u8, u8),
        table: i32,
        bytes: i32,
        log: u8,
    ) -> usize {
        self.asm.pext_m(Width::W64, index, lin, state(self.layout.tlb_mask));
        self.asm.load(Width::W64, tag, Mem::index(TLB, index, 3, table));
        self.asm.alu_rr(Alu::Xor, Width::W64, tag, lin);
        if log != 0 {
            self.asm.shift_ri(1, Width::W64, Rm::R(tag), log);
        }
        self.asm.alu_ri(Alu::Cmp, Width::W64, tag, (0x1000 - bytes) >> log);
        let miss = self.asm.jcc(Cond::A);
        let entry = Mem::index(TLB, index, 3, table + abi::TLB_READ_ADDEND);
        self.asm.load(Width::W64, index, entry);
        miss
    }

    /// The check by map: are the page, and for more than a byte the next one, entered with the usual addend? That comes in `to`, or what the
    /// tags say in cold code, whose number is returned.
    fn usual_check(&mut self, lin: u8, (index, to): (u8, u8), table: i32, bytes: i32) -> usize {
        let map = if table == 0 { abi::TLB_USUAL_READS } else { abi::TLB_USUAL_WRITES };
        let byte = Mem::index(TLB, index, 0, map);
        self.asm.mov_rr(Width::W32, index, lin);
        self.asm.shift_ri(5, Width::W32, Rm::R(index), 12);
        let hole = if bytes == 1 {
            self.asm.test_mi8(byte, abi::USUAL_HERE);
            self.asm.jcc(Cond::E)
        } else {
            self.asm.alu_mi(Alu::Cmp, Width::W8, byte, (abi::USUAL_HERE | abi::USUAL_NEXT).into());
            self.asm.jcc(Cond::Ne)
        };
        self.asm.load(Width::W64, to, state(self.layout.usual_addend));
        let back = self.asm.pos();
        self.lists.seconds.push(SecondLook {
            hole,
            back,
            lin,
            to,
            index,
            table,
            bytes,
            miss: NO_HOLE,
        });
        self.lists.seconds.len() - 1
    }
    /// The cold code of checks by map.
    pub(crate) fn second_looks(&mut self) {
        for n in 0..self.lists.seconds.len() {
            let SecondLook { hole, back, lin, to, index, table, bytes, .. } = self.lists.seconds[n];
            let here = self.asm.pos();
            self.asm.fix32(hole, here);
            self.lists.seconds[n].miss = self.tag_check(lin, (to, index), table, bytes, 0);
            self.asm.jmp_back(back);
        }
    }

    /// How the op's segment is checked. The wrap check relies on offsets below 64 KiB, which 32-bit addresses need not be.
    fn policy(&self, op: &Op) -> SegPolicy {
        match self.seg.get(usize::from(op.x)).copied().unwrap_or(SegPolicy::Flat) {
            SegPolicy::Wrap64K if op.y != Width::W16 as u8 => SegPolicy::Window,
            policy => policy,
        }
    }

    /// The linear address of offset `off` for an access of (bytes, is a write), after the segment's base and limit as its
    /// policy demands; `t` is free to use.
    fn linear(
        &mut self,
        op: &Op,
        off: u8,
        (size, write): (i32, bool),
        t: u8,
    ) -> Result<(u8, usize), CompileError> {
        let policy = self.policy(op);
        if policy == SegPolicy::Flat {
            return Ok((off, NO_HOLE));
        }
        let window = self.layout.window[usize::from(op.x)];
        let lin = self.take()?;
        self.asm.load(Width::W64, lin, state(window.base));
        let wide = policy == SegPolicy::Base;
        self.asm.alu_rr(Alu::Add, if wide { Width::W64 } else { Width::W32 }, lin, off);
        let hole = match policy {
            SegPolicy::Base => NO_HOLE,
            SegPolicy::Wrap64K if size == 1 => NO_HOLE,
            SegPolicy::Wrap64K => {
                self.asm.alu_ri(Alu::Cmp, Width::W32, off, 0x1_0000 - size);
                self.asm.jcc(Cond::A)
            }
            _ => {
                let end = if write { window.write_end } else { window.read_end };
                self.asm.lea(Width::W64, t, Mem::base(off, size));
                self.asm.alu_rm(Alu::Cmp, Width::W64, t, state(end));
                self.asm.jcc(Cond::A)
            }
        };
        Ok((lin, hole))
    }

    pub(crate) fn load_result(&mut self, d: Val, w: Width, mem: Mem) -> Result<(), CompileError> {
        let merge = d.as_temp().is_none();
        let r = self.dst(d)?;
        load_to(&mut self.asm, w, r, merge, mem);
        Ok(())
    }
    fn store_value(&mut self, w: Width, mem: Mem, value: Src) -> Result<(), CompileError> {
        match value {
            Src::Imm(n) => match i32::try_from(n) {
                Ok(n) => self.asm.store_i(w, mem, n),
                Err(_) => {
                    let t = self.take()?;
                    self.asm.mov_ri(Width::W64, t, n as u64);
                    self.asm.store(w, mem, t);
                }
            },
            Src::Reg(r) if r < 16 => self.asm.store(w, mem, r),
            Src::Reg(high) => {
                let t = self.take()?;
                self.asm.rorx(t, high - 16, 8);
                self.asm.store(w, mem, t);
            }
        }
        Ok(())
    }

    /// State fields and the instruction pointer.
    pub(crate) fn env(&mut self, op: &Op) -> Result<(), CompileError> {
        let field = state(op.imm as i32);
        match op.code {
            Code::LdEnv => self.load_result(op.d, op.w, field),
            Code::StEnv => {
                let value = self.src(op.a, op.w)?;
                if op.imm as i32 == self.layout.tlb_base {
                    // The view in use is pinned, too. No access of this block follows.
                    self.move_to(TLB, value, Width::W64);
                }
                self.store_value(op.w, field, value)
            }
            _ => {
                let d = self.dst(op.d)?;
                self.asm.load(op.w, d, state(self.layout.pc_base));
                if self.by_units {
                    let at = self.asm.lea_far(op.w, d, d, op.imm as i32);
                    self.lists.places.push((at, op.imm));
                } else if op.imm != 0 {
                    self.asm.lea(op.w, d, Mem::base(d, op.imm as i32));
                }
                Ok(())
            }
        }
    }

    /// Notes the code from `from` on, the native instruction at hand, with the slow path of its operand.
    pub(crate) fn note_user(&mut self, from: usize) {
        let here = self.asm.pos();
        if let Some(site) = self.lists.slow.last_mut()
            && site.key.kind == SlowKind::SoleWrite
            && site.user.is_none()
        {
            site.user = Some((from, here));
        }
    }

    /// Behind the slow path of an insn that only stores: if its operand is the state's buffer, the insn is done here, and the buffer stored.
    fn store_back(&mut self, site: &SlowSite) {
        let Some((from, to)) = site.user else { return };
        self.asm.alu_mi(Alu::Cmp, Width::W64, state(self.layout.is_bounced), 0);
        let is_there = self.asm.jcc8(Cond::E);
        self.asm.again(from, to);
        let kind = SlowKind::StoreBack;
        let key = ThunkKey { kind, seg: 0, value: NO_VALUE, ..site.key };
        let hole = self.asm.call();
        self.want(Wish::Memory(key), self.start + hole);
        self.asm.jmp_back(to);
        let here = self.asm.pos();
        self.asm.fix8(is_there, here);
    }

    /// Emits the cold code of all accesses.
    pub(crate) fn slow_paths(&mut self) {
        let mut sites = std::mem::take(&mut self.lists.slow);
        for site in sites.drain(..) {
            self.mark(site.insn.0, site.insn.1);
            let here = self.asm.pos();
            let second = site.second.map_or(NO_HOLE, |n| self.lists.seconds[n].miss);
            let holes = site.holes.into_iter().chain([second]);
            for hole in holes.filter(|&hole| hole != NO_HOLE) {
                self.asm.fix32(hole, here);
            }
            self.store_ahead(site.ahead);
            if let Some(flags) = &site.flags {
                self.save_redone(flags);
            }
            if let Some(n) = site.imm {
                self.asm.store_i(Width::W64, state(self.layout.scratch + 8), n as i32);
            }
            let is_sole_write = site.key.kind == SlowKind::SoleWrite;
            if is_sole_write {
                self.asm.store_i(Width::W64, state(self.layout.is_bounced), 0);
            }
            let hole = self.asm.call();
            self.want(Wish::Memory(site.key), self.start + hole);
            if is_sole_write {
                self.store_back(&site);
            }
            self.asm.jmp_back(site.back);
        }
        self.lists.slow = sites;
        self.lost_looks();
    }
}

/// Loads a result of width `w` into place `d` (16..20 = high byte); `merge` = a guest register that keeps its upper part.
pub(crate) fn load_to(asm: &mut Asm<'_>, w: Width, d: u8, merge: bool, mem: Mem) {
    if d >= 16 {
        let n = d - 16;
        asm.xchg(Width::W8, n, d);
        asm.load(Width::W8, n, mem);
        asm.xchg(Width::W8, n, d);
    } else if w >= Width::W32 || merge {
        asm.load(w, d, mem);
    } else {
        asm.movzx(w, d, Rm::M(mem));
    }
}
