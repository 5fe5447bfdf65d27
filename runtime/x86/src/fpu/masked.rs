//! Moves that touch only some elements in memory: MASKMOVDQU, VMASKMOV, gathers.
//!
//! An element whose mask bit is clear is not accessed at all, so it cannot fault. Masked stores check every element before
//! the first is written; a gather commits element by element (SDM Vol. 2, VPGATHERDD, "the instruction may be
//! suspended").

use mem::{Access, Size};

use crate::access::Span;
use crate::cpu::Cpu;
use crate::fault::Fault;
use crate::state::seg;

/// Vector registers as bytes.
type Bytes = [u8; 32];

fn to_bytes(register: &[u64; 4]) -> Bytes {
    let mut bytes = [0; 32];
    for (bytes, word) in bytes.chunks_exact_mut(8).zip(register) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

fn from_bytes(bytes: &Bytes) -> [u64; 4] {
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = element(bytes);
    }
    words
}

/// A little-endian number of at most eight bytes.
fn element(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, b| value << 8 | u64::from(*b))
}

/// Is the top bit of an element set?
fn is_on(bytes: &[u8]) -> bool {
    bytes.last().is_some_and(|b| b & 0x80 != 0)
}

/// What `pair(a, b)` of the tables says.
#[derive(Clone, Copy)]
struct Pair {
    value: usize,
    mask: usize,
    /// Bytes of the operation.
    len: usize,
}

impl Pair {
    const fn new(pair: u64) -> Self {
        let len = if pair & 0x80 != 0 { 32 } else { 16 };
        Self { value: pair as usize & 15, mask: (pair >> 8) as usize & 15, len }
    }
}

impl Cpu {
    fn vector(&self, n: usize) -> Bytes {
        to_bytes(&self.state.ymm[n & 15])
    }

    fn set_vector(&mut self, n: usize, value: &Bytes) {
        self.state.ymm[n & 15] = from_bytes(value);
    }

    /// Translates one element. Alignment is not checked, not even with alignment checking on.
    fn masked_element(
        &mut self,
        segment: u64,
        off: u64,
        size: usize,
        access: Access,
    ) -> Result<Span, Fault> {
        let lin = self.seg_lin(segment as u8, off, 1, access)?;
        self.seg_lin(segment as u8, off.wrapping_add(size as u64 - 1), 1, access)?;
        let span = self.span(lin, size as u32, access, self.data_view())?;
        self.watch(lin, size as u32, access);
        Ok(span)
    }

    /// The place in guest RAM of `bytes` at `off` of a segment, if generated code would reach it without asking. Nothing watches it then.
    #[inline]
    fn known_ram(&self, segment: u64, off: u64, bytes: usize, access: Access) -> Option<u64> {
        let lin = self.windowed(segment as u8, off, bytes as u32, access)?;
        self.known(lin.0, bytes as u64, self.data_view(), access != Access::Read)
    }

    /// Reads an element of 4 or 8 bytes.
    #[inline]
    fn read_element(&mut self, segment: u64, off: u64, size: usize) -> Result<u64, Fault> {
        if let Some(at) = self.known_ram(segment, off, size, Access::Read)
            && let Some(width) = Size::from_bytes(size as u64)
            && let Some(value) = self.ram.read(at, width)
        {
            return Ok(value);
        }
        let span = self.masked_element(segment, off, size, Access::Read)?;
        Ok(self.span_read(&span, 0, size as u32))
    }

    /// VZEROALL and VZEROUPPER outside 64-bit mode, where eight registers exist.
    pub(crate) fn zero_vectors(&mut self, is_all: bool) {
        for register in &mut self.state.ymm[..8] {
            register[2..].fill(0);
            if is_all {
                register[..2].fill(0);
            }
        }
    }

    /// VMASKMOV, VPMASKMOV from memory.
    pub(crate) fn load_masked(
        &mut self,
        pair: u64,
        size: u64,
        segment: u64,
        off: u64,
    ) -> Result<(), Fault> {
        let (pair, size) = (Pair::new(pair), size.clamp(4, 8) as usize);
        let mask = self.vector(pair.mask);
        let mut result = [0; 32];
        for at in (0..pair.len).step_by(size) {
            if is_on(&mask[at..at + size]) {
                let value = self.read_element(segment, off.wrapping_add(at as u64), size)?;
                result[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
            }
        }
        self.set_vector(pair.value, &result);
        Ok(())
    }

    /// VMASKMOV, VPMASKMOV to memory.
    pub(crate) fn store_masked(
        &mut self,
        pair: u64,
        size: u64,
        segment: u64,
        off: u64,
    ) -> Result<(), Fault> {
        let (pair, size) = (Pair::new(pair), size.clamp(4, 8) as usize);
        let (value, mask) = (self.vector(pair.value), self.vector(pair.mask));
        self.store_elements(&value[..pair.len], &mask, size, segment, off)
    }

    /// Stores the elements of `value` whose mask bit is set, all or none.
    fn store_elements(
        &mut self,
        value: &[u8],
        mask: &[u8],
        size: usize,
        segment: u64,
        off: u64,
    ) -> Result<(), Fault> {
        let elements = || (0..value.len()).step_by(size);
        if let Some(place) = self.known_ram(segment, off, value.len(), Access::Write)
            && let Some(width) = Size::from_bytes(size as u64)
        {
            for at in elements().filter(|&at| is_on(&mask[at..at + size])) {
                self.ram.write_cpu(place + at as u64, width, element(&value[at..at + size]));
            }
            return Ok(());
        }
        let mut spans: [Option<Span>; 16] = [None; 16];
        for (at, span) in elements().zip(&mut spans) {
            if is_on(&mask[at..at + size]) {
                let off = off.wrapping_add(at as u64);
                *span = Some(self.masked_element(segment, off, size, Access::Write)?);
            }
        }
        for (at, span) in elements().zip(&spans) {
            if let Some(span) = span {
                self.span_write(span, 0, size as u32, element(&value[at..at + size]));
            }
        }
        Ok(())
    }

    /// MASKMOVDQU.
    pub(crate) fn store_bytes(
        &mut self,
        value: u64,
        mask: u64,
        segment: u64,
        off: u64,
    ) -> Result<(), Fault> {
        let (value, mask) = (self.vector(value as usize), self.vector(mask as usize));
        self.store_elements(&value[..16], &mask, 1, segment, off)
    }

    /// MASKMOVQ.
    pub(crate) fn store_mmx_bytes(
        &mut self,
        value: u64,
        mask: u64,
        segment: u64,
        off: u64,
    ) -> Result<(), Fault> {
        self.park_fpu();
        self.check_pending_x87()?;
        let before = (self.state.fpu, self.state.fpu_host);
        self.enter_mmx();
        let (value, mask) = (self.st(value as usize), self.st(mask as usize));
        let done = self.store_elements(&value[..8], &mask, 1, segment, off);
        if done.is_err() {
            (self.state.fpu, self.state.fpu_host) = before;
        }
        done
    }

    /// The gathers. One that faults has done the elements before that one: their part of the mask
    /// is clear, the rest of it is expanded, and what lies above the operation is clear, of the
    /// destination once it was written at all (Sapphire Rapids). `index`: as `vsib(m)` of the
    /// tables; `how`: segment, and from bit 8 on bytes of an element, bytes of an index << 4,
    /// bit 0: the indices are in a ymm.
    pub(crate) fn gather_elements(
        &mut self,
        pair: u64,
        index: u64,
        how: u64,
        base: u64,
    ) -> Result<(), Fault> {
        let regs = Pair::new(pair);
        let (index_register, scale) = ((index & 15) as usize, index >> 4 & 3);
        if regs.value == regs.mask || regs.value == index_register || regs.mask == index_register {
            return Err(Fault::ud());
        }
        let (segment, kind) = ((how as u8) % seg::COUNT as u8, how >> 8);
        let (size, index_size) = ((kind & 0xC) as usize, (kind >> 4 & 0xC) as usize);
        let len = if kind & 1 != 0 { 32 } else { regs.len };
        let count = len / size.max(index_size).max(4);
        let indices = self.vector(index_register);
        let mut mask = self.vector(regs.mask);
        for m in mask[..len].chunks_exact_mut(size.max(4)) {
            let ones = if is_on(m) { 0xFF } else { 0 };
            m.fill(ones);
        }
        mask[len..].fill(0);
        let mut value = self.vector(regs.value);
        let mut done = Ok(());
        for i in 0..count {
            let at = i * size;
            if !is_on(&mask[at..at + size]) {
                continue;
            }
            let number = sign_extended(&indices[i * index_size..(i + 1) * index_size]);
            let off = base.wrapping_add(number << scale);
            let off = if index >> 6 == 2 { off } else { off & 0xFFFF_FFFF };
            match self.read_element(segment.into(), off, size) {
                Ok(v) => value[at..at + size].copy_from_slice(&v.to_le_bytes()[..size]),
                Err(fault) => {
                    done = Err(fault);
                    break;
                }
            }
            mask[at..at + size].fill(0);
            value[count * size..].fill(0);
        }
        if done.is_ok() {
            value[count * size..].fill(0);
            mask.fill(0);
        }
        self.set_vector(regs.value, &value);
        self.set_vector(regs.mask, &mask);
        done
    }
}

/// An index of four or eight bytes.
fn sign_extended(bytes: &[u8]) -> u64 {
    match *bytes {
        [a, b, c, d] => i64::from(i32::from_le_bytes([a, b, c, d])).cast_unsigned(),
        _ => element(bytes),
    }
}
