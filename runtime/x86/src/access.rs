//! Guest memory as the architecture sees it: segment checks, translation, then RAM or the bus.
//!
//! An access that crosses a page has both pages translated before anything is touched; one that
//! reaches the bus across a page is split into bytes. Stores over translated code are noted in
//! `Cpu::smc`. Source: SDM Vol. 3A, "Protection" and "Segment Limit Checking".

use ir::AccessKind;
use mem::{Access, Lin, PageKind, Phys, Size, line_mask};

use crate::cpu::{Cpu, cr0, is_canonical};
use crate::fault::Fault;
use crate::flags;
use crate::segment::{Segment, attr};
use crate::state::seg;
use crate::tlb::{ViewId, right};

/// A translated operand: one or two physical pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    first: u64,
    second: u64,
    /// Bytes in the first piece.
    split: u32,
}

/// The result of a slow path of generated code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slow {
    /// Done; the value or host address, 0 for a store.
    Done(u64),
    /// Nothing was done: the insn must be run by the evaluator.
    EvalOne,
    /// Nothing was done: a write to writable RAM at this offset, in lines that hold translated code.
    OnCode(u64),
}

/// The bus access that fits `bytes` (1, 2, 4 or 8).
const fn size_of_bytes(bytes: u32) -> Option<Size> {
    match bytes {
        1 => Some(Size::B1),
        2 => Some(Size::B2),
        4 => Some(Size::B4),
        8 => Some(Size::B8),
        _ => None,
    }
}

/// The `mem` name of an IR access kind.
pub(crate) const fn access_of(kind: AccessKind) -> Access {
    match kind {
        AccessKind::R => Access::Read,
        AccessKind::W => Access::Write,
        AccessKind::Rw => Access::Rmw,
    }
}

/// Physical memory.
impl Cpu {
    /// Reads within one page.
    pub fn phys_read(&mut self, at: Phys, size: Size) -> u64 {
        match self.map.lookup(at) {
            PageKind::Ram { off, .. } => {
                self.ram.read(off + at.page_offset(), size).unwrap_or(size.mask())
            }
            PageKind::Io => self.bus.mmio_read(at, size) & size.mask(),
        }
    }

    /// Writes within one page.
    pub fn phys_write(&mut self, at: Phys, size: Size, value: u64) {
        match self.map.lookup(at) {
            PageKind::Ram { off, writable: true } => {
                let lines = self.ram.code_lines(off);
                if lines != 0 && lines & line_mask(at.page_offset(), size.bytes()) != 0 {
                    self.note_code_write(off + at.page_offset(), size.bytes());
                }
                self.ram.write_cpu(off + at.page_offset(), size, value & size.mask());
            }
            PageKind::Ram { writable: false, .. } | PageKind::Io => {
                self.bus.mmio_write(at, size, value & size.mask());
                self.after_bus_write();
            }
        }
    }

    /// Records that `len` bytes in lines with translated code were overwritten at RAM offset `off`.
    fn note_code_write(&mut self, off: u64, len: u64) {
        self.smc.push((off, len));
        self.ask_to_leave();
    }
}

/// Translated operands.
impl Cpu {
    /// Translates `bytes` at `lin` for `access` in a view.
    pub(crate) fn span(
        &mut self,
        lin: Lin,
        bytes: u32,
        access: Access,
        view: ViewId,
    ) -> Result<Span, Fault> {
        let mask = self.lin_mask();
        let lin = Lin(lin.0 & mask);
        let first = self.translate_in(lin, access, view)?;
        let room = 4096 - lin.page_offset() as u32;
        if bytes <= room {
            return Ok(Span { first: first.0, second: 0, split: bytes });
        }
        let next = Lin(lin.page().add(4096).0 & mask);
        let second = self.translate_in(next, access, view)?;
        Ok(Span { first: first.0, second: second.0, split: room })
    }

    /// Reads `bytes` (1, 2, 4, 8) at displacement `disp` of a span.
    pub(crate) fn span_read(&mut self, span: &Span, disp: u32, bytes: u32) -> u64 {
        match (span.piece(disp, bytes), size_of_bytes(bytes)) {
            (Some(at), Some(size)) => self.phys_read(at, size),
            _ => (0..bytes).fold(0, |value, i| {
                let byte = self.phys_read(span.byte(disp + i), Size::B1);
                value | byte << (8 * i)
            }),
        }
    }

    /// Writes `bytes` (1, 2, 4, 8) at displacement `disp` of a span.
    pub(crate) fn span_write(&mut self, span: &Span, disp: u32, bytes: u32, value: u64) {
        match (span.piece(disp, bytes), size_of_bytes(bytes)) {
            (Some(at), Some(size)) => self.phys_write(at, size, value),
            _ => {
                for i in 0..bytes {
                    self.phys_write(span.byte(disp + i), Size::B1, value >> (8 * i) & 0xFF);
                }
            }
        }
    }

    /// Fills `to` from displacement `disp` of a span on, if that is plain RAM in one page.
    pub(crate) fn span_read_bytes(&self, span: &Span, disp: u32, to: &mut [u8]) -> bool {
        let at = self.plain_ram(span, disp, to.len() as u32, false);
        at.is_some_and(|at| self.ram.read_bytes(at, to))
    }

    /// Writes `from` at displacement `disp` of a span, if that is plain RAM in one page and no code is under it.
    pub(crate) fn span_write_bytes(&self, span: &Span, disp: u32, from: &[u8]) -> bool {
        let at = self.plain_ram(span, disp, from.len() as u32, true);
        at.is_some_and(|at| self.ram.write_bytes(at, from))
    }

    /// Are these bytes of the span writable RAM without code under it, or (`!is_write`) readable RAM, in one page?
    /// Gives their offset in guest RAM.
    fn plain_ram(&self, span: &Span, disp: u32, bytes: u32, is_write: bool) -> Option<u64> {
        let at = span.piece(disp, bytes)?;
        let PageKind::Ram { off, writable } = self.map.lookup(at) else { return None };
        if is_write {
            let hit = self.ram.code_lines(off) & line_mask(at.page_offset(), u64::from(bytes));
            if !writable || hit != 0 {
                return None;
            }
        }
        Some(off + at.page_offset())
    }

    /// Would writing the span change translated code?
    fn hits_code(&self, span: &Span, bytes: u32) -> bool {
        let pieces =
            [(span.first, span.split.min(bytes)), (span.second, bytes - span.split.min(bytes))];
        pieces.iter().any(|&(at, n)| match self.map.lookup(Phys(at)) {
            PageKind::Ram { off, writable: true } if n != 0 => {
                self.ram.code_lines(off) & line_mask(Phys(at).page_offset(), u64::from(n)) != 0
            }
            _ => false,
        })
    }
}

impl Span {
    /// The physical address of `bytes` at `disp` when they lie in one piece.
    const fn piece(&self, disp: u32, bytes: u32) -> Option<Phys> {
        if disp + bytes <= self.split {
            Some(Phys(self.first + disp as u64))
        } else if disp >= self.split {
            Some(Phys(self.second + (disp - self.split) as u64))
        } else {
            None
        }
    }

    /// Parts of its first `bytes` bytes, each within a page: displacement and size, 1, 2, 4 or 8.
    fn parts(&self, bytes: u32) -> impl Iterator<Item = (u32, u32)> + use<> {
        let split = self.split;
        let mut at = 0;
        std::iter::from_fn(move || {
            let end = if at < split { split.min(bytes) } else { bytes };
            let size = 1 << (end - at).min(8).checked_ilog2()?;
            at += size;
            Some((at - size, size))
        })
    }

    const fn byte(&self, disp: u32) -> Phys {
        if disp < self.split {
            Phys(self.first + disp as u64)
        } else {
            Phys(self.second + (disp - self.split) as u64)
        }
    }
}

/// Linear accesses of the processor itself (descriptor tables, TSS): always as supervisor.
impl Cpu {
    /// Translates as supervisor; #GP(0) when not canonical.
    pub(crate) fn sys_span(&mut self, lin: u64, bytes: u32, access: Access) -> Result<Span, Fault> {
        if self.is_long() && !is_canonical_span(lin, bytes) {
            return Err(Fault::gp(0));
        }
        self.span(Lin(lin), bytes, access, ViewId::Supervisor)
    }

    /// Reads 1, 2, 4 or 8 bytes as supervisor.
    pub(crate) fn sys_read(&mut self, lin: u64, bytes: u32) -> Result<u64, Fault> {
        let span = self.sys_span(lin, bytes, Access::Read)?;
        Ok(self.span_read(&span, 0, bytes))
    }

    /// Writes 1, 2, 4 or 8 bytes as supervisor.
    pub(crate) fn sys_write(&mut self, lin: u64, bytes: u32, value: u64) -> Result<(), Fault> {
        let span = self.sys_span(lin, bytes, Access::Write)?;
        self.span_write(&span, 0, bytes, value);
        Ok(())
    }
}

/// Accesses through a segment.
impl Cpu {
    /// Checks `bytes` at offset `off` of a segment and gives their linear address.
    pub(crate) fn seg_lin(
        &self,
        n: u8,
        off: u64,
        bytes: u32,
        access: Access,
    ) -> Result<Lin, Fault> {
        let s = &self.state.seg[usize::from(n) % seg::COUNT];
        let refuse = if n == seg::SS { Fault::ss(0) } else { Fault::gp(0) };
        if self.is_code64() {
            let base = if n >= seg::FS { s.base } else { 0 };
            let lin = base.wrapping_add(off);
            if !is_canonical_span(lin, bytes) {
                return Err(refuse);
            }
            return self.aligned(Lin(lin), bytes);
        }
        if self.is_protected() && !may_access(s, access) {
            return Err(refuse);
        }
        if !in_limit(s, off, bytes) {
            return Err(refuse);
        }
        self.aligned(Lin(s.base.wrapping_add(off) & 0xFFFF_FFFF), bytes)
    }

    /// The alignment check of an operand (SDM Vol. 3A, "Alignment Check Exception": Alignment Requirements by Data Type).
    const fn aligned(&self, lin: Lin, bytes: u32) -> Result<Lin, Fault> {
        let align = match bytes {
            2 | 4 | 8 | 16 => bytes as u64,
            // Hosts demand no more of 256 bits; the manual's table ends before them.
            32 => 16,
            10 => 8,
            _ => 1,
        };
        if self.checks_alignment() && lin.0 & (align - 1) != 0 {
            return Err(Fault::ac());
        }
        Ok(lin)
    }

    /// Is alignment checking on (CR0.AM, EFLAGS.AC, CPL 3)?
    pub(crate) const fn checks_alignment(&self) -> bool {
        self.state.cpl == 3 && self.state.cr0 & cr0::AM != 0 && self.state.eflags & flags::AC != 0
    }

    /// Checks and translates an operand.
    pub(crate) fn seg_span(
        &mut self,
        n: u8,
        off: u64,
        bytes: u32,
        access: Access,
    ) -> Result<Span, Fault> {
        let lin = self.seg_lin(n, off, bytes, access)?;
        let span = self.span(lin, bytes, access, self.data_view())?;
        self.watch(lin, bytes, access);
        Ok(span)
    }

    /// Loads 1, 2, 4 or 8 bytes.
    pub fn load(&mut self, n: u8, off: u64, bytes: u32) -> Result<u64, Fault> {
        let span = self.seg_span(n, off, bytes, Access::Read)?;
        Ok(self.span_read(&span, 0, bytes))
    }

    /// Stores 1, 2, 4 or 8 bytes.
    pub fn store(&mut self, n: u8, off: u64, bytes: u32, value: u64) -> Result<(), Fault> {
        let span = self.seg_span(n, off, bytes, Access::Write)?;
        self.span_write(&span, 0, bytes, value);
        Ok(())
    }

    /// Checks an operand and keeps its translation; the handle is good for the 15 next probes.
    pub fn probe(&mut self, n: u8, off: u64, bytes: u32, kind: AccessKind) -> Result<u64, Fault> {
        let span = self.seg_span(n, off, bytes, access_of(kind))?;
        Ok(self.handles.keep(span))
    }

    /// Reads through a handle of [`Cpu::probe`].
    pub fn read_handle(&mut self, handle: u64, disp: i32, bytes: u32) -> u64 {
        let span = self.handles.span(handle);
        self.span_read(&span, disp.cast_unsigned() & 0xFFF, bytes)
    }

    /// Writes through a handle of [`Cpu::probe`].
    pub fn write_handle(&mut self, handle: u64, disp: i32, bytes: u32, value: u64) {
        let span = self.handles.span(handle);
        self.span_write(&span, disp.cast_unsigned() & 0xFFF, bytes, value);
    }
}

/// Slow paths of generated code: full checks, then the TLB entry for the next time.
impl Cpu {
    /// A load that missed the fast path.
    pub fn slow_load(&mut self, n: u8, off: u64, bytes: u32) -> Result<Slow, Fault> {
        let lin = self.seg_lin(n, off, bytes, Access::Read)?;
        let span = self.span(lin, bytes, Access::Read, self.data_view())?;
        if self.watches_data() && self.watch_hits(lin, bytes, Access::Read) != 0 {
            return Ok(Slow::EvalOne);
        }
        if self.is_counted && self.plain_ram(&span, 0, bytes, false).is_none() {
            return Ok(Slow::EvalOne);
        }
        Ok(Slow::Done(self.span_read(&span, 0, bytes)))
    }

    /// A store that missed the fast path. Over translated code nothing is done.
    pub fn slow_store(&mut self, n: u8, off: u64, bytes: u32, value: u64) -> Result<Slow, Fault> {
        let lin = self.seg_lin(n, off, bytes, Access::Write)?;
        let span = self.span(lin, bytes, Access::Write, self.data_view())?;
        if self.watches_data() && self.watch_hits(lin, bytes, Access::Write) != 0 {
            return Ok(Slow::EvalOne);
        }
        match self.plain_ram(&span, 0, bytes, true) {
            Some(at) => {
                self.refill(lin, &span);
                if let Some(size) = size_of_bytes(bytes) {
                    self.ram.write_cpu(at, size, value & size.mask());
                }
            }
            None if self.hits_code(&span, bytes) => return Ok(self.on_code(&span, bytes)),
            None if self.is_counted => return Ok(Slow::EvalOne),
            None => self.span_write(&span, 0, bytes, value),
        }
        Ok(Slow::Done(0))
    }

    /// A checked host address for `bytes` at `off`; `EvalOne` when they are not plain RAM. Vectors to be read are copied to the
    /// state's buffer then: an insn reads one at most. `is_sole`: the insn has no other operand in memory, and what it writes is
    /// written whole, by one who looks whether it went to the buffer and has it stored ([`Cpu::store_back`]); then all that lie in plain RAM of two pages
    /// go by the buffer.
    pub fn slow_ptr(
        &mut self,
        n: u8,
        off: u64,
        bytes: u32,
        (kind, is_sole): (AccessKind, bool),
    ) -> Result<Slow, Fault> {
        let lin = self.seg_lin(n, off, bytes, access_of(kind))?;
        let span = self.span(lin, bytes, access_of(kind), self.data_view())?;
        if self.watches_data() && self.watch_hits(lin, bytes, access_of(kind)) != 0 {
            return Ok(Slow::EvalOne);
        }
        let is_write = kind != AccessKind::R;
        let Some(at) = self.plain_ram(&span, 0, bytes, is_write) else {
            if is_sole && self.is_plain_in_two(&span, bytes, is_write) {
                self.state.is_bounced = is_write.into();
                self.split = span;
                return Ok(Slow::Done(self.bounce(&span, bytes)));
            }
            if !is_write && bytes > 8 && !self.is_counted {
                return Ok(Slow::Done(self.bounce(&span, bytes)));
            }
            return Ok(self.on_code(&span, bytes));
        };
        if is_write {
            self.refill(lin, &span);
        }
        Ok(match self.ram.page_ptr(at) {
            Some(p) => Slow::Done((p.addr() as u64 & !0xFFF) | (at & 0xFFF)),
            None => Slow::EvalOne,
        })
    }

    /// Do these bytes lie in two pages of RAM, which may be written (`is_write`) without changing code?
    fn is_plain_in_two(&self, span: &Span, bytes: u32, is_write: bool) -> bool {
        let is_plain = |at, n| self.plain_ram(span, at, n, is_write).is_some();
        let split = span.split;
        split < bytes && is_plain(0, split) && is_plain(split, bytes - split)
    }

    /// Stores the first `bytes` of the state's buffer to where [`Cpu::slow_ptr`] took them to be.
    pub fn store_back(&mut self, bytes: u32) {
        let span = self.split;
        for (at, size) in span.parts(bytes) {
            let mut word = [0; 8];
            let from = self.state.bounce.0.get(at as usize..(at + size) as usize);
            from.into_iter().for_each(|from| word[..from.len()].copy_from_slice(from));
            self.span_write(&span, at, size, u64::from_le_bytes(word));
        }
    }

    /// Copies an operand of up to 64 bytes to the state's buffer; gives its host address.
    fn bounce(&mut self, span: &Span, bytes: u32) -> u64 {
        for (at, size) in span.parts(bytes) {
            let word = self.span_read(span, at, size).to_le_bytes();
            let to = self.state.bounce.0.get_mut(at as usize..(at + size) as usize);
            to.into_iter().for_each(|to| to.copy_from_slice(&word[..to.len()]));
        }
        (&raw mut self.state.bounce).expose_provenance() as u64
    }

    /// The answer for a span that is not plain RAM to write.
    fn on_code(&self, span: &Span, bytes: u32) -> Slow {
        match span.piece(0, bytes).map(|at| (at, self.map.lookup(at))) {
            Some((at, PageKind::Ram { off, writable: true })) => {
                Slow::OnCode(off + at.page_offset())
            }
            _ => Slow::EvalOne,
        }
    }

    /// Enters the write entry of a page whose code has gone since it was translated.
    fn refill(&mut self, lin: Lin, span: &Span) {
        let view = self.data_view();
        if self.tlb.view(view).write_host(lin).is_none() {
            // The access is a permitted write, so nothing can be wrong with reads.
            self.enter_tlb(lin, Phys(span.first).page(), right::R | right::W, view);
        }
    }
}

/// Are all of `bytes` bytes at `lin` canonical? Behind the last address comes the first, as on processors.
pub(crate) const fn is_canonical_span(lin: u64, bytes: u32) -> bool {
    let last = lin.wrapping_add(bytes.saturating_sub(1) as u64);
    is_canonical(lin) && is_canonical(last)
}

/// May a protected-mode segment be accessed so?
pub(crate) const fn may_access(s: &Segment, access: Access) -> bool {
    if s.attr & attr::P == 0 || s.attr & attr::S == 0 {
        return false;
    }
    let is_code = s.attr & attr::CODE != 0;
    let has_rw = s.attr & attr::RW != 0;
    match access {
        Access::Read => !is_code || has_rw,
        Access::Write | Access::Rmw => !is_code && has_rw,
        Access::Fetch => true,
    }
}

/// Are `bytes` at `off` within the limit?
pub(crate) const fn in_limit(s: &Segment, off: u64, bytes: u32) -> bool {
    let end = off.saturating_add(bytes as u64);
    if s.is_expand_down() {
        let top = if s.attr & attr::DB != 0 { 1 << 32 } else { 0x1_0000 };
        off > s.limit as u64 && end <= top
    } else {
        end <= s.limit as u64 + 1
    }
}

/// The latest probed operands.
#[derive(Default)]
pub(crate) struct Handles {
    spans: [Span; 16],
    next: usize,
}

impl Handles {
    fn keep(&mut self, span: Span) -> u64 {
        self.next = (self.next + 1) % self.spans.len();
        self.spans[self.next] = span;
        self.next as u64
    }

    fn span(&self, handle: u64) -> Span {
        self.spans[handle as usize % self.spans.len()]
    }
}
