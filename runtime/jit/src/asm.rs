//! The emission cursor and a small raw encoder: host instructions into the writable view of the cache.
//!
//! Registers 0..16 are the host's; 16..20 are AH CH DH BH (8-bit ops only, never together with a REX prefix). Source of
//! the encodings: SDM Vol. 2, "Instruction Format".

use dynasmrt::{AssemblyOffset, DynasmApi};
use ir::{Cond, Width};

use crate::abi;

/// In the place of a base register: there is none. (Its low three bits are those that say so.)
const NO_BASE: u8 = 0x25;

/// A memory operand `[base + index << scale + disp]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mem {
    pub(crate) base: u8,
    pub(crate) index: Option<u8>,
    pub(crate) scale: u8,
    pub(crate) disp: i32,
}

impl Mem {
    pub(crate) const fn base(base: u8, disp: i32) -> Self {
        Self { base, index: None, scale: 0, disp }
    }
    /// Without a base register.
    pub(crate) const fn scaled(index: u8, scale: u8, disp: i32) -> Self {
        Self { base: NO_BASE, index: Some(index), scale, disp }
    }
    pub(crate) const fn index(base: u8, index: u8, scale: u8, disp: i32) -> Self {
        Self { base, index: Some(index), scale, disp }
    }
}

/// The field at byte `offset` of the guest CPU's state.
pub(crate) const fn state(offset: i32) -> Mem {
    Mem::base(abi::STATE, offset - abi::STATE_BIAS)
}

/// ModRM.rm operand.
#[derive(Clone, Copy)]
pub(crate) enum Rm {
    R(u8),
    M(Mem),
}

/// Arithmetic group by its /n (also opcode bits 3..6).
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Alu {
    Add,
    Or,
    Adc,
    Sbb,
    And,
    Sub,
    Xor,
    Cmp,
}

/// Writes instructions one behind another; past the end it only counts, and `overflowed` says so.
pub(crate) struct Asm<'a> {
    buf: &'a mut [u8],
    pos: usize,
    /// Places that reach fixed code of the cache, by cache offset: kept for code that is to be moved.
    outward: Option<&'a mut Vec<u32>>,
    /// Where such places are that were filled last, with their targets, and how many there have been.
    pub(crate) filled: [(usize, usize); FILLED],
    pub(crate) fills: usize,
}

/// How many of the places filled last are known.
pub(crate) const FILLED: usize = 4;

impl Extend<u8> for Asm<'_> {
    fn extend<T: IntoIterator<Item = u8>>(&mut self, iter: T) {
        for b in iter {
            self.byte(b);
        }
    }
}

impl<'b> Extend<&'b u8> for Asm<'_> {
    fn extend<T: IntoIterator<Item = &'b u8>>(&mut self, iter: T) {
        self.extend(iter.into_iter().copied());
    }
}

impl DynasmApi for Asm<'_> {
    fn offset(&self) -> AssemblyOffset {
        AssemblyOffset(self.pos)
    }
    fn push(&mut self, byte: u8) {
        self.byte(byte);
    }
    fn align(&mut self, alignment: usize, with: u8) {
        while !self.pos.is_multiple_of(alignment) {
            self.byte(with);
        }
    }
}

impl<'a> Asm<'a> {
    pub(crate) fn new(buf: &'a mut [u8]) -> Self {
        Self::behind(buf, 0)
    }
    /// Goes on at `pos`.
    pub(crate) fn behind(buf: &'a mut [u8], pos: usize) -> Self {
        Self { buf, pos, outward: None, filled: [(0, 0); FILLED], fills: 0 }
    }
    /// Notes what reaches fixed code of the cache.
    pub(crate) fn noting(self, outward: Option<&'a mut Vec<u32>>) -> Self {
        Self { outward, ..self }
    }
    pub(crate) fn pos(&self) -> usize {
        self.pos
    }
    pub(crate) fn overflowed(&self) -> bool {
        self.pos > self.buf.len()
    }
    #[inline]
    pub(crate) fn byte(&mut self, b: u8) {
        if let Some(slot) = self.buf.get_mut(self.pos) {
            *slot = b;
        }
        self.pos += 1;
    }
    #[inline]
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        if let Some(slot) = self.buf.get_mut(self.pos..self.pos + bytes.len()) {
            slot.copy_from_slice(bytes);
        }
        self.pos += bytes.len();
    }
    /// Emits what stands from `from` to `to` once more.
    pub(crate) fn again(&mut self, from: usize, to: usize) {
        if to <= self.buf.len() && self.pos + (to - from) <= self.buf.len() {
            self.buf.copy_within(from..to, self.pos);
        }
        self.pos += to - from;
    }
    pub(crate) fn dword(&mut self, v: i32) {
        self.bytes(&v.to_le_bytes());
    }
    /// Overwrites the rel32 at `at` to reach `target` (both offsets in this buffer).
    pub(crate) fn fix32(&mut self, at: usize, target: usize) {
        let rel = (target as i64 - (at as i64 + 4)) as i32;
        if let Some(slot) = self.buf.get_mut(at..at + 4) {
            slot.copy_from_slice(&rel.to_le_bytes());
        }
    }
    /// Overwrites the rel32 at `at` to reach offset `target` of the cache, this buffer starting at offset `start` of it.
    pub(crate) fn fix_cache(&mut self, at: usize, start: usize, target: usize) {
        let rel = (target as i64 - (start as i64 + at as i64 + 4)) as i32;
        if let Some(outward) = &mut self.outward {
            outward.push((start + at) as u32);
        }
        self.filled[self.fills % FILLED] = (at, target);
        self.fills += 1;
        if let Some(slot) = self.buf.get_mut(at..at + 4) {
            slot.copy_from_slice(&rel.to_le_bytes());
        }
    }
    /// Overwrites the rel8 at `at` to reach `target`.
    pub(crate) fn fix8(&mut self, at: usize, target: usize) {
        let rel = target as i64 - (at as i64 + 1);
        debug_assert!(i8::try_from(rel).is_ok(), "short jump out of range");
        if let Some(slot) = self.buf.get_mut(at) {
            *slot = rel as u8;
        }
    }

    /// The general form: `[66] [REX] [0F] op modrm [sib] [disp]`. `byte_regs`: bit 0 = reg, bit 1 = rm is an 8-bit register.
    /// Made without branches, because there is no telling what comes next.
    #[inline]
    fn enc(&mut self, w: Width, map0f: bool, op: u8, reg: u8, rm: Rm, byte_regs: u8) {
        match rm {
            Rm::R(r) => self.enc_register(w, map0f, op, reg, r, byte_regs),
            Rm::M(m) => self.enc_memory(w, map0f, op, reg, m, byte_regs),
        }
    }
    #[inline(never)]
    fn enc_register(&mut self, w: Width, map0f: bool, op: u8, reg: u8, rm: u8, byte_regs: u8) {
        let rex = extension(reg) << 2 | extension(rm);
        let force = byte_regs & needs_rex(reg) | byte_regs >> 1 & needs_rex(rm);
        let (head, len) = prefixes(w, rex, force, map0f);
        debug_assert!((reg | rm) < 16 || (rex | force) == 0, "high byte register with REX");
        let modrm = 0xC0 | low_bits(reg) << 3 | low_bits(rm);
        self.word(head | (u64::from(op) | u64::from(modrm) << 8) << len, len / 8 + 2);
    }
    #[inline(never)]
    fn enc_memory(&mut self, w: Width, map0f: bool, op: u8, reg: u8, m: Mem, byte_regs: u8) {
        let index = m.index.unwrap_or(4);
        let rex = extension(reg) << 2 | extension(index) << 1 | extension(m.base);
        let (head, len) = prefixes(w, rex, byte_regs & needs_rex(reg), map0f);
        debug_assert!(reg < 16 || rex == 0, "high byte register with REX");
        let base = m.base & 7;
        let has_sib = m.index.is_some() | (base == 4);
        let is_short = m.disp as i8 as i32 == m.disp;
        let has_disp = (m.disp != 0) | (base == 5);
        let (mode, disp_len) = match (has_disp, is_short) {
            _ if m.base == NO_BASE => (0, 4),
            (false, _) => (0, 0),
            (true, true) => (0x40, 1),
            (true, false) => (0x80, 4),
        };
        let modrm = mode | low_bits(reg) << 3 | if has_sib { 4 } else { base };
        let sib = m.scale << 6 | (index & 7) << 3 | base;
        let sib = if has_sib { sib } else { 0 };
        let tail = u64::from(op) | u64::from(modrm) << 8 | u64::from(sib) << 16;
        self.word(head | tail << len, len / 8 + 2 + u32::from(has_sib));
        self.word(u64::from(m.disp.cast_unsigned()), disp_len);
    }
    /// The low `len` bytes of `bytes`. Writes eight, of which the rest is overwritten by what follows.
    #[inline]
    fn word(&mut self, bytes: u64, len: u32) {
        if let Some(slot) = self.buf.get_mut(self.pos..self.pos + 8) {
            slot.copy_from_slice(&bytes.to_le_bytes());
        }
        self.pos += len as usize;
    }
    /// How many places that reach fixed code are noted.
    pub(crate) fn noted(&self) -> usize {
        self.outward.as_ref().map_or(0, |outward| outward.len())
    }
    /// Goes back to `pos`, where so many were noted.
    pub(crate) fn rewind(&mut self, pos: usize, noted: usize) {
        self.pos = pos;
        if let Some(outward) = &mut self.outward {
            outward.truncate(noted);
        }
    }
    /// What was written from `from` on.
    pub(crate) fn since(&self, from: usize) -> &[u8] {
        self.buf.get(from..self.pos).unwrap_or(&[])
    }
    /// The first `len` of these bytes. Writes all, of which the rest is overwritten by what follows.
    #[inline]
    pub(crate) fn chunk<const N: usize>(&mut self, bytes: &[u8; N], len: usize) {
        if let Some(slot) = self.buf.get_mut(self.pos..self.pos + N) {
            slot.copy_from_slice(bytes);
            self.pos += len;
        } else {
            self.bytes(&bytes[..len]);
        }
    }
    /// `lea dst, [base + disp]` whose displacement takes four bytes whatever it is; returns where they are.
    pub(crate) fn lea_far(&mut self, w: Width, dst: u8, base: u8, disp: i32) -> usize {
        let wide = u8::from(w == Width::W64) << 3;
        self.bytes(&[0x40 | wide | (dst >> 3) << 2 | base >> 3, 0x8D]);
        self.byte(0x80 | (dst & 7) << 3 | base & 7);
        if base & 7 == 4 {
            self.byte(0x24);
        }
        let at = self.pos;
        self.dword(disp);
        at
    }
    /// Writes the bytes at `at` anew.
    pub(crate) fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(slot) = self.buf.get_mut(at..at + bytes.len()) {
            slot.copy_from_slice(bytes);
        }
    }
    #[inline]
    fn bytes_n(&mut self, out: &[u8; 16], n: usize) {
        if let Some(slot) = self.buf.get_mut(self.pos..self.pos + 16) {
            slot.copy_from_slice(out);
        }
        self.pos += n;
    }

    pub(crate) fn alu_rr(&mut self, op: Alu, w: Width, dst: u8, src: u8) {
        let byte = if w == Width::W8 { 0 } else { 1 };
        self.enc(w, false, (op as u8) << 3 | byte, src, Rm::R(dst), if byte == 0 { 3 } else { 0 });
    }
    pub(crate) fn alu_rm(&mut self, op: Alu, w: Width, dst: u8, src: Mem) {
        let byte = if w == Width::W8 { 2 } else { 3 };
        self.enc(w, false, (op as u8) << 3 | byte, dst, Rm::M(src), u8::from(w == Width::W8));
    }
    pub(crate) fn alu_mr(&mut self, op: Alu, w: Width, dst: Mem, src: u8) {
        let byte = u8::from(w != Width::W8);
        self.enc(w, false, (op as u8) << 3 | byte, src, Rm::M(dst), u8::from(w == Width::W8));
    }
    pub(crate) fn alu_ri(&mut self, op: Alu, w: Width, dst: u8, imm: i32) {
        self.alu_imm(op, w, Rm::R(dst), imm);
    }
    pub(crate) fn alu_mi(&mut self, op: Alu, w: Width, dst: Mem, imm: i32) {
        self.alu_imm(op, w, Rm::M(dst), imm);
    }
    fn alu_imm(&mut self, op: Alu, w: Width, dst: Rm, imm: i32) {
        if w == Width::W8 {
            self.enc(w, false, 0x80, op as u8, dst, 2);
            self.byte(imm as u8);
        } else if i8::try_from(imm).is_ok() || (w == Width::W16 && i8::try_from(imm as i16).is_ok())
        {
            self.enc(w, false, 0x83, op as u8, dst, 0);
            self.byte(imm as u8);
        } else {
            self.enc(w, false, 0x81, op as u8, dst, 0);
            self.imm(w, imm);
        }
    }
    fn imm(&mut self, w: Width, imm: i32) {
        match w {
            Width::W8 => self.byte(imm as u8),
            Width::W16 => self.bytes(&(imm as i16).to_le_bytes()),
            Width::W32 | Width::W64 => self.dword(imm),
        }
    }
    pub(crate) fn test_rr(&mut self, w: Width, a: u8, b: u8) {
        let byte = u8::from(w != Width::W8);
        self.enc(w, false, 0x84 | byte, b, Rm::R(a), if byte == 0 { 3 } else { 0 });
    }
    pub(crate) fn test_mr(&mut self, w: Width, a: Mem, b: u8) {
        let byte = u8::from(w != Width::W8);
        self.enc(w, false, 0x84 | byte, b, Rm::M(a), 1 - byte);
    }
    pub(crate) fn test_ri(&mut self, w: Width, a: u8, imm: i32) {
        let byte = u8::from(w != Width::W8);
        self.enc(w, false, 0xF6 | byte, 0, Rm::R(a), 2 * (1 - byte));
        self.imm(w, imm);
    }
    /// `test byte [mem], imm`
    pub(crate) fn test_mi8(&mut self, mem: Mem, imm: u8) {
        self.enc(Width::W8, false, 0xF6, 0, Rm::M(mem), 2);
        self.byte(imm);
    }
    pub(crate) fn push_reg(&mut self, r: u8) {
        self.bytes(&[0x40 | r >> 3, 0x50 | r & 7]);
    }
    pub(crate) fn pop_reg(&mut self, r: u8) {
        self.bytes(&[0x40 | r >> 3, 0x58 | r & 7]);
    }
    pub(crate) fn mov_rr(&mut self, w: Width, dst: u8, src: u8) {
        let byte = u8::from(w != Width::W8);
        self.enc(w, false, 0x88 | byte, src, Rm::R(dst), if byte == 0 { 3 } else { 0 });
    }
    pub(crate) fn mov_ri(&mut self, w: Width, dst: u8, imm: u64) {
        match w {
            Width::W8 => {
                self.enc(w, false, 0xC6, 0, Rm::R(dst), 2);
                self.byte(imm as u8);
            }
            Width::W16 => {
                self.enc(w, false, 0xC7, 0, Rm::R(dst), 0);
                self.imm(w, imm as i32);
            }
            Width::W64 if imm > u64::from(u32::MAX) => {
                if i64::from(imm as i32) as u64 == imm {
                    self.enc(w, false, 0xC7, 0, Rm::R(dst), 0);
                    self.dword(imm as i32);
                } else {
                    self.bytes(&[0x48 | dst >> 3, 0xB8 | dst & 7]);
                    self.bytes(&imm.to_le_bytes());
                }
            }
            Width::W32 | Width::W64 => {
                if dst >= 8 {
                    self.byte(0x41);
                }
                self.byte(0xB8 | dst & 7);
                self.dword(imm as i32);
            }
        }
    }
    pub(crate) fn load(&mut self, w: Width, dst: u8, src: Mem) {
        let byte = u8::from(w != Width::W8);
        self.enc(w, false, 0x8A | byte, dst, Rm::M(src), 1 - byte);
    }
    pub(crate) fn store(&mut self, w: Width, dst: Mem, src: u8) {
        let byte = u8::from(w != Width::W8);
        self.enc(w, false, 0x88 | byte, src, Rm::M(dst), 1 - byte);
    }
    pub(crate) fn store_i(&mut self, w: Width, dst: Mem, imm: i32) {
        let byte = u8::from(w != Width::W8);
        self.enc(w, false, 0xC6 | byte, 0, Rm::M(dst), 0);
        self.imm(w, imm);
    }
    /// dst (at least 32 bits) = zero-extended src of width `from`.
    pub(crate) fn movzx(&mut self, from: Width, dst: u8, src: Rm) {
        match from {
            Width::W8 => self.enc(Width::W32, true, 0xB6, dst, src, 2),
            Width::W16 => self.enc(Width::W32, true, 0xB7, dst, src, 0),
            Width::W32 => self.enc(Width::W32, false, 0x8B, dst, src, 0),
            Width::W64 => self.enc(Width::W64, false, 0x8B, dst, src, 0),
        }
    }
    /// dst (width `to`, 16 and up) = sign-extended src of width `from`.
    pub(crate) fn movsx(&mut self, to: Width, from: Width, dst: u8, src: Rm) {
        match from {
            Width::W8 => self.enc(to, true, 0xBE, dst, src, 2),
            Width::W16 => self.enc(to, true, 0xBF, dst, src, 0),
            Width::W32 => self.enc(to, false, 0x63, dst, src, 0),
            Width::W64 => self.enc(to, false, 0x8B, dst, src, 0),
        }
    }
    pub(crate) fn lea(&mut self, w: Width, dst: u8, m: Mem) {
        self.enc(w, false, 0x8D, dst, Rm::M(m), 0);
    }
    /// F6/F7 group: 2 not, 3 neg, 4 mul, 5 imul, 6 div, 7 idiv.
    pub(crate) fn group3(&mut self, n: u8, w: Width, rm: Rm) {
        let byte = u8::from(w != Width::W8);
        self.enc(w, false, 0xF6 | byte, n, rm, 2 * (1 - byte));
    }
    /// FE/FF group: 0 inc, 1 dec.
    pub(crate) fn incdec(&mut self, n: u8, w: Width, rm: Rm) {
        let byte = u8::from(w != Width::W8);
        self.enc(w, false, 0xFE | byte, n, rm, 2 * (1 - byte));
    }
    /// Shift group: 0 rol 1 ror 2 rcl 3 rcr 4 shl 5 shr 7 sar, by an immediate.
    pub(crate) fn shift_ri(&mut self, n: u8, w: Width, rm: Rm, count: u8) {
        let byte = u8::from(w != Width::W8);
        if count == 1 {
            self.enc(w, false, 0xD0 | byte, n, rm, 2 * (1 - byte));
        } else {
            self.enc(w, false, 0xC0 | byte, n, rm, 2 * (1 - byte));
            self.byte(count);
        }
    }
    /// Shift group by CL.
    pub(crate) fn shift_cl(&mut self, n: u8, w: Width, rm: Rm) {
        let byte = u8::from(w != Width::W8);
        self.enc(w, false, 0xD2 | byte, n, rm, 2 * (1 - byte));
    }
    /// SHLD (left) or SHRD, by an immediate or CL.
    pub(crate) fn double_shift(
        &mut self,
        left: bool,
        w: Width,
        dst: u8,
        src: u8,
        count: Option<u8>,
    ) {
        let op = if left { 0xA4 } else { 0xAC };
        match count {
            Some(n) => {
                self.enc(w, true, op, src, Rm::R(dst), 0);
                self.byte(n);
            }
            None => self.enc(w, true, op + 1, src, Rm::R(dst), 0),
        }
    }
    /// Two-byte opcode `0F op /r` with a register destination.
    pub(crate) fn op0f(&mut self, w: Width, op: u8, reg: u8, rm: Rm) {
        self.enc(w, true, op, reg, rm, 0);
    }
    /// BT group on a register: 4 bt 5 bts 6 btr 7 btc, immediate index.
    pub(crate) fn bt_ri(&mut self, n: u8, w: Width, rm: u8, bit: u8) {
        self.enc(w, true, 0xBA, n, Rm::R(rm), 0);
        self.byte(bit);
    }
    /// CF = one bit of a doubleword in memory.
    pub(crate) fn bt_mi(&mut self, m: Mem, bit: u8) {
        self.enc(Width::W32, true, 0xBA, 4, Rm::M(m), 0);
        self.byte(bit);
    }
    pub(crate) fn imul_rri(&mut self, w: Width, dst: u8, src: u8, imm: i32) {
        if i8::try_from(imm).is_ok() {
            self.enc(w, false, 0x6B, dst, Rm::R(src), 0);
            self.byte(imm as u8);
        } else {
            self.enc(w, false, 0x69, dst, Rm::R(src), 0);
            self.imm(w, imm);
        }
    }
    pub(crate) fn setcc(&mut self, cond: Cond, dst: u8) {
        self.enc(Width::W8, true, 0x90 | cond as u8, 0, Rm::R(dst), 2);
    }
    pub(crate) fn setcc_m(&mut self, cond: Cond, m: Mem) {
        self.enc(Width::W8, true, 0x90 + cond as u8, 0, Rm::M(m), 0);
    }
    pub(crate) fn cmov(&mut self, cond: Cond, w: Width, dst: u8, src: u8) {
        self.enc(w, true, 0x40 | cond as u8, dst, Rm::R(src), 0);
    }
    pub(crate) fn bswap(&mut self, w: Width, r: u8) {
        let rex = if w == Width::W64 { 0x48 } else { 0x40 } | r >> 3;
        if rex != 0x40 {
            self.byte(rex);
        }
        self.bytes(&[0x0F, 0xC8 | r & 7]);
    }
    pub(crate) fn xchg(&mut self, w: Width, a: u8, b: u8) {
        let byte = u8::from(w != Width::W8);
        self.enc(w, false, 0x86 | byte, a, Rm::R(b), if byte == 0 { 3 } else { 0 });
    }
    /// BMI2 `pext dst, src, [mem]` at 32 or 64 bits.
    pub(crate) fn pext_m(&mut self, w: Width, dst: u8, src: u8, mask: Mem) {
        // VEX.LZ.F3.0F38.W0/W1 F5 /r
        let rxb = !((dst >> 3) << 7 | mask.base >> 3 << 5) & 0xA0 | 0x40;
        let wide = u8::from(w == Width::W64) << 7;
        self.bytes(&[0xC4, rxb | 2, wide | (!src & 15) << 3 | 2, 0xF5]);
        let mut out = [0u8; 16];
        let n = modrm_mem(&mut out, 0, dst & 7, mask.base & 7, None, mask);
        self.bytes_n(&out, n);
    }
    /// BMI2 `rorx dst, src, count` at 32 bits: a rotate that leaves the flags alone.
    pub(crate) fn rorx(&mut self, dst: u8, src: u8, count: u8) {
        // VEX.LZ.F2.0F3A.W0 F0 /r ib
        let rxb = !((dst >> 3) << 7 | src >> 3 << 5) & 0xA0 | 0x40;
        self.bytes(&[0xC4, rxb | 3, 0x7B, 0xF0, 0xC0 | (dst & 7) << 3 | src & 7, count]);
    }
    /// The same at 64 bits.
    pub(crate) fn rorx64(&mut self, dst: u8, src: u8, count: u8) {
        let rxb = !((dst >> 3) << 7 | src >> 3 << 5) & 0xA0 | 0x40;
        self.bytes(&[0xC4, rxb | 3, 0xFB, 0xF0, 0xC0 | (dst & 7) << 3 | src & 7, count]);
    }
    pub(crate) fn rdtsc(&mut self) {
        self.bytes(&[0x0F, 0x31]);
    }
    /// BMI2 `shlx`, `shrx`, `sarx` (by their number in the shift group) `dst, src, count`: leaves the flags alone.
    pub(crate) fn shift_apart(&mut self, n: u8, w: Width, dst: u8, src: u8, count: u8) {
        // VEX.LZ.66/F2/F3.0F38.W F7 /r
        let pp = match n {
            4 => 1,
            5 => 3,
            _ => 2,
        };
        let rxb = !((dst >> 3) << 7 | src >> 3 << 5) & 0xA0 | 0x40;
        let wide = if w == Width::W64 { 0x80 } else { 0 };
        self.bytes(&[
            0xC4,
            rxb | 2,
            wide | (!count & 15) << 3 | pp,
            0xF7,
            0xC0 | (dst & 7) << 3 | src & 7,
        ]);
    }
    /// `jcc rel32` with a hole; returns the hole's offset.
    pub(crate) fn jcc(&mut self, cond: Cond) -> usize {
        self.bytes(&[0x0F, 0x80 | cond as u8, 0, 0, 0, 0]);
        self.pos - 4
    }
    /// `jcc rel8` with a hole.
    pub(crate) fn jcc8(&mut self, cond: Cond) -> usize {
        self.bytes(&[0x70 | cond as u8, 0]);
        self.pos - 1
    }
    /// `jmp rel32` with a hole.
    pub(crate) fn jmp(&mut self) -> usize {
        self.bytes(&[0xE9, 0, 0, 0, 0]);
        self.pos - 4
    }
    /// `jmp` to a known offset of this buffer, short where it reaches.
    pub(crate) fn jmp_back(&mut self, target: usize) {
        let rel = target as i64 - (self.pos as i64 + 2);
        if let Ok(short) = i8::try_from(rel) {
            self.bytes(&[0xEB, short as u8]);
        } else {
            let hole = self.jmp();
            self.fix32(hole, target);
        }
    }
    /// `call rel32` with a hole.
    pub(crate) fn call(&mut self) -> usize {
        self.bytes(&[0xE8, 0, 0, 0, 0]);
        self.pos - 4
    }
    pub(crate) fn jmp_m(&mut self, m: Mem) {
        self.enc(Width::W32, false, 0xFF, 4, Rm::M(m), 0);
    }
    pub(crate) fn jmp_r(&mut self, r: u8) {
        self.enc(Width::W32, false, 0xFF, 4, Rm::R(r), 0);
    }
    /// `lea r, [rip + rel32]` with a hole.
    pub(crate) fn lea_rip(&mut self, r: u8) -> usize {
        self.bytes(&[0x48 | r >> 3 << 2, 0x8D, (r & 7) << 3 | 5, 0, 0, 0, 0]);
        self.pos() - 4
    }
    /// A repeated string instruction of elements of width `w`: with `prefix`, its opcode that for bytes.
    pub(crate) fn repeated(&mut self, prefix: u8, opcode: u8, w: Width) {
        let op = opcode | u8::from(w != Width::W8);
        if w == Width::W16 {
            self.byte(0x66);
        }
        self.byte(prefix);
        if w == Width::W64 {
            self.byte(0x48);
        }
        self.byte(op);
    }
    pub(crate) fn lahf(&mut self) {
        self.byte(0x9F);
    }
    pub(crate) fn sahf(&mut self) {
        self.byte(0x9E);
    }
}

/// Bit 3 of a register number; 16..20 are the high bytes.
#[inline]
const fn extension(r: u8) -> u8 {
    r >> 3 & 1
}
/// The number's place in ModRM: AH CH DH BH are 4..8.
#[inline]
const fn low_bits(r: u8) -> u8 {
    (r & 7) | r >> 4 << 2
}
/// 1 for the registers that are high bytes without a REX prefix.
#[inline]
const fn needs_rex(r: u8) -> u8 {
    (r >> 2 == 1) as u8
}
/// `[66] [REX] [0F]` from the lowest byte on, and their length in bits.
#[inline]
fn prefixes(w: Width, rex: u8, force: u8, map0f: bool) -> (u64, u32) {
    let rex = rex | u8::from(w == Width::W64) << 3;
    let mut len = u32::from(w == Width::W16) * 8;
    let mut head = if w == Width::W16 { 0x66 } else { 0 };
    let has_rex = (rex != 0) | (force & 1 != 0);
    head |= (if has_rex { u64::from(0x40 | rex) } else { 0 }) << len;
    len += u32::from(has_rex) * 8;
    head |= (if map0f { 0x0F } else { 0 }) << len;
    (head, len + u32::from(map0f) * 8)
}

/// ModRM, SIB and displacement of a memory operand; returns the new length.
#[inline]
pub(crate) fn modrm_mem(
    out: &mut [u8; 16],
    mut n: usize,
    reg: u8,
    base: u8,
    index: Option<u8>,
    m: Mem,
) -> usize {
    let short = i8::try_from(m.disp).is_ok();
    let mode = if m.disp == 0 && base != 5 {
        0
    } else if short {
        0x40
    } else {
        0x80
    };
    if let Some(i) = index {
        out[n] = mode | reg << 3 | 4;
        out[n + 1] = m.scale << 6 | i << 3 | base;
        n += 2;
    } else if base == 4 {
        out[n] = mode | reg << 3 | 4;
        out[n + 1] = 0x24;
        n += 2;
    } else {
        out[n] = mode | reg << 3 | base;
        n += 1;
    }
    if mode == 0x40 {
        out[n] = m.disp as u8;
        n += 1;
    } else if mode == 0x80 {
        out[n..n + 4].copy_from_slice(&m.disp.to_le_bytes());
        n += 4;
    }
    n
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(emit: impl FnOnce(&mut Asm<'_>), expect: &[u8]) {
        let mut buf = [0; 64];
        let mut asm = Asm::new(&mut buf);
        emit(&mut asm);
        let n = asm.pos();
        assert_eq!(&buf[..n], expect, "{:02x?}", &buf[..n]);
    }

    #[test]
    fn encodings() {
        check(|a| a.alu_rr(Alu::Add, Width::W32, 0, 3), &[0x01, 0xD8]);
        check(|a| a.alu_rr(Alu::Add, Width::W8, 16, 3), &[0x00, 0xDC]);
        check(|a| a.alu_ri(Alu::Cmp, Width::W32, 15, 5), &[0x41, 0x83, 0xFF, 5]);
        check(|a| a.mov_rr(Width::W8, 6, 0), &[0x40, 0x88, 0xC6]);
        check(|a| a.load(Width::W32, 8, Mem::base(14, 16)), &[0x45, 0x8B, 0x46, 16]);
        check(
            |a| a.pext_m(Width::W64, 9, 8, Mem::base(14, 32)),
            &[0xC4, 0x42, 0xBA, 0xF5, 0x4E, 32],
        );
        check(|a| a.shift_apart(4, Width::W32, 0, 3, 1), &[0xC4, 0xE2, 0x71, 0xF7, 0xC3]);
        check(|a| a.shift_apart(5, Width::W64, 9, 10, 8), &[0xC4, 0x42, 0xBB, 0xF7, 0xCA]);
        check(|a| a.lea(Width::W64, 8, Mem::scaled(1, 3, 16)), &[0x4C, 0x8D, 4, 0xCD, 16, 0, 0, 0]);
        check(|a| a.rorx(9, 0, 8), &[0xC4, 0x63, 0x7B, 0xF0, 0xC8, 8]);
        check(|a| a.rorx64(2, 2, 32), &[0xC4, 0xE3, 0xFB, 0xF0, 0xD2, 32]);
        check(
            |a| a.alu_rm(Alu::Xor, Width::W64, 8, Mem::index(13, 9, 3, 0)),
            &[0x4F, 0x33, 0x44, 0xCD, 0],
        );
    }
}
