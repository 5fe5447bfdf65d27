//! The slow paths of generated code: accesses that its checks did not let through. Segment, page and breakpoint checks, then memory or
//! the bus, then the TLB entry for the next time.

use ir::AccessKind;
use mem::{Access, Lin, PageKind, Phys, Size, line_mask};

use crate::access::{Span, access_of};
use crate::cpu::Cpu;
use crate::fault::Fault;
use crate::tlb::right;

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

impl Cpu {
    /// A load that missed the fast path.
    pub fn slow_load(&mut self, n: u8, off: u64, bytes: u32) -> Result<Slow, Fault> {
        if let (Some((_, at)), Some(size)) =
            (self.known_operand(n, off, bytes, Access::Read), Size::from_bytes(bytes.into()))
        {
            return Ok(self.load_known(at, size));
        }
        let lin = self.seg_lin(n, off, bytes, Access::Read)?;
        if let (true, Some(size)) = (self.is_simple(lin, bytes), Size::from_bytes(bytes.into())) {
            let at = self.translate_in(lin, Access::Read, self.data_view())?;
            return Ok(self.load_known(at, size));
        }
        let span = self.span(lin, bytes, Access::Read, self.data_view())?;
        if self.watches_data() && self.watch_hits(lin, bytes, Access::Read) != 0 {
            return Ok(Slow::EvalOne);
        }
        let is_ram = self.plain_ram(&span, 0, bytes, false).is_some();
        if !is_ram && (self.is_counted || self.is_delicate(&span)) {
            return Ok(Slow::EvalOne);
        }
        Ok(Slow::Done(self.span_read(&span, 0, bytes)))
    }

    /// A store that missed the fast path. Over translated code nothing is done.
    pub fn slow_store(&mut self, n: u8, off: u64, bytes: u32, value: u64) -> Result<Slow, Fault> {
        if let (Some((lin, at)), Some(size)) =
            (self.known_operand(n, off, bytes, Access::Write), Size::from_bytes(bytes.into()))
        {
            return Ok(self.store_known(lin, at, size, value));
        }
        let lin = self.seg_lin(n, off, bytes, Access::Write)?;
        if let (true, Some(size)) = (self.is_simple(lin, bytes), Size::from_bytes(bytes.into())) {
            let at = self.translate_in(lin, Access::Write, self.data_view())?;
            return Ok(self.store_known(lin, at, size, value));
        }
        let span = self.span(lin, bytes, Access::Write, self.data_view())?;
        if self.watches_data() && self.watch_hits(lin, bytes, Access::Write) != 0 {
            return Ok(Slow::EvalOne);
        }
        match self.plain_ram(&span, 0, bytes, true) {
            Some(at) => {
                self.refill(lin, Phys(span.first).page());
                if let Some(size) = Size::from_bytes(bytes.into()) {
                    self.ram.write_cpu(at, size, value & size.mask());
                }
            }
            None if self.hits_code(&span, bytes) => return Ok(self.on_code(&span, bytes)),
            None if self.is_counted || self.is_delicate(&span) => return Ok(Slow::EvalOne),
            None => self.span_write(&span, 0, bytes, value),
        }
        Ok(Slow::Done(0))
    }

    /// The linear address of an operand that the segment's window lets through, as it does in generated code.
    #[inline]
    pub(crate) fn windowed(&self, n: u8, off: u64, bytes: u32, access: Access) -> Option<Lin> {
        let window = self.state.window.get(usize::from(n))?;
        let end = if access == Access::Read { window.read_end } else { window.write_end };
        let mask = if self.is_code64() { u64::MAX } else { 0xFFFF_FFFF };
        let is_within = off.checked_add(u64::from(bytes)).is_some_and(|to| to <= end);
        is_within.then_some(Lin(window.base.wrapping_add(off) & mask))
    }

    /// Where an operand is of which the segment's window and the TLB say all there is to know: within one page, and nobody watches
    /// or counts. Registers of devices are found so, which no entry of generated code leads to.
    #[inline]
    fn known_operand(&self, n: u8, off: u64, bytes: u32, access: Access) -> Option<(Lin, Phys)> {
        let lin = self.windowed(n, off, bytes, access)?;
        let need = if access == Access::Read { right::R } else { right::W };
        let is_whole = lin.page_offset() + u64::from(bytes) <= 4096;
        if !is_whole || self.is_counted || self.watches_data() || self.checks_alignment() {
            return None;
        }
        Some((lin, self.tlb.recall(lin, need, self.data_view())?))
    }

    /// Is an operand within one page, and does nobody watch or count?
    fn is_simple(&self, lin: Lin, bytes: u32) -> bool {
        let is_whole = lin.page_offset() + u64::from(bytes) <= 4096;
        is_whole && !self.is_counted && !self.watches_data()
    }

    /// The host address of an operand where it is known to be, if that is plain RAM.
    fn pointer_known(&mut self, lin: Lin, at: Phys, bytes: u32, kind: AccessKind) -> Option<u64> {
        let PageKind::Ram { off, writable } = self.map.lookup(at) else { return None };
        if kind != AccessKind::R {
            let lines = self.ram.code_lines(off);
            if !writable || lines & line_mask(at.page_offset(), bytes.into()) != 0 {
                return None;
            }
            if lines == 0 || !self.tlb.view(self.data_view()).may_write(lin) {
                self.refill(lin, at.page());
            }
        }
        let host = self.ram.page_ptr(off)?;
        Some((host.addr() as u64 & !0xFFF) | at.page_offset())
    }

    /// A load from where an operand is known to be.
    fn load_known(&mut self, at: Phys, size: Size) -> Slow {
        match self.map.lookup(at) {
            PageKind::Ram { off, .. } => {
                let value = self.ram.read(off + at.page_offset(), size);
                Slow::Done(value.unwrap_or(size.mask()))
            }
            PageKind::Io if self.map.is_delicate(at) => Slow::EvalOne,
            PageKind::Io => Slow::Done(self.bus_read(at, size)),
        }
    }

    /// May accesses to these bytes change the map? Then others of the block must not go by what was checked before, as those of spans do.
    fn is_delicate(&self, span: &Span) -> bool {
        self.map.is_delicate(Phys(span.first)) || self.map.is_delicate(Phys(span.second))
    }

    /// A store to where an operand is known to be.
    fn store_known(&mut self, lin: Lin, at: Phys, size: Size, value: u64) -> Slow {
        let value = value & size.mask();
        let PageKind::Ram { off, writable: true } = self.map.lookup(at) else {
            if self.map.is_delicate(at) {
                return Slow::EvalOne;
            }
            self.bus.mmio_write(at, size, value);
            self.after_bus_access();
            return Slow::Done(0);
        };
        let to = off + at.page_offset();
        let lines = self.ram.code_lines(off);
        if lines & line_mask(at.page_offset(), size.bytes()) != 0 {
            return Slow::OnCode(to);
        }
        if lines == 0 || !self.tlb.view(self.data_view()).may_write(lin) {
            self.refill(lin, at.page());
        }
        self.ram.write_cpu(to, size, value);
        Slow::Done(0)
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
        if self.is_simple(lin, bytes) {
            let at = self.translate_in(lin, access_of(kind), self.data_view())?;
            if let Some(host) = self.pointer_known(lin, at, bytes, kind) {
                return Ok(Slow::Done(host));
            }
        }
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
            if !is_write && bytes > 8 && !self.is_counted && !self.is_delicate(&span) {
                return Ok(Slow::Done(self.bounce(&span, bytes)));
            }
            return Ok(self.on_code(&span, bytes));
        };
        if is_write {
            self.refill(lin, Phys(span.first).page());
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
    fn refill(&mut self, lin: Lin, page: Phys) {
        let view = self.data_view();
        if self.tlb.view(view).write_host(lin).is_none() {
            // The access is a permitted write, so nothing can be wrong with reads.
            self.enter_tlb(lin, page, right::R | right::W, view);
        }
    }
}
