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
use crate::tlb::ViewId;

/// A translated operand: one or two physical pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub(crate) first: u64,
    pub(crate) second: u64,
    /// Bytes in the first piece.
    pub(crate) split: u32,
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
            PageKind::Io => self.bus_read(at, size),
        }
    }

    /// Reads a device, which may change the map by it.
    pub(crate) fn bus_read(&mut self, at: Phys, size: Size) -> u64 {
        let value = self.bus.mmio_read(at, size) & size.mask();
        if self.map.generation() != self.map_generation {
            self.after_bus_access();
        }
        value
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
                self.after_bus_access();
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
        match (span.piece(disp, bytes), Size::from_bytes(bytes.into())) {
            (Some(at), Some(size)) => self.phys_read(at, size),
            _ => (0..bytes).fold(0, |value, i| {
                let byte = self.phys_read(span.byte(disp + i), Size::B1);
                value | byte << (8 * i)
            }),
        }
    }

    /// Writes `bytes` (1, 2, 4, 8) at displacement `disp` of a span.
    pub(crate) fn span_write(&mut self, span: &Span, disp: u32, bytes: u32, value: u64) {
        match (span.piece(disp, bytes), Size::from_bytes(bytes.into())) {
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
    pub(crate) fn plain_ram(
        &self,
        span: &Span,
        disp: u32,
        bytes: u32,
        is_write: bool,
    ) -> Option<u64> {
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
    pub(crate) fn hits_code(&self, span: &Span, bytes: u32) -> bool {
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
    pub(crate) const fn piece(&self, disp: u32, bytes: u32) -> Option<Phys> {
        if disp + bytes <= self.split {
            Some(Phys(self.first + disp as u64))
        } else if disp >= self.split {
            Some(Phys(self.second + (disp - self.split) as u64))
        } else {
            None
        }
    }

    /// Parts of its first `bytes` bytes, each within a page: displacement and size, 1, 2, 4 or 8.
    pub(crate) fn parts(&self, bytes: u32) -> impl Iterator<Item = (u32, u32)> + use<> {
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
            2 | 4 | 8 => bytes as u64,
            10 => 8,
            // Vectors: AMD's processors demand 16 bytes, of 256 bits, too; Intel's do not look (SDM Vol. 1, "Programming with AVX",
            // Memory Alignment).
            16 | 32 if self.caps.is_amd => 16,
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
