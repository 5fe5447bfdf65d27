//! Bulk parts of repeated string insns, and port input and output.
//!
//! A bulk helper does as many whole iterations as lie in one page of plain RAM per operand, commits
//! rSI, rDI and rCX, goes on with the next page for a while unless time is counted, and may do nothing: the insn's own iteration then does one step, with all its
//! faults. Overlapping copies give what element-wise copying gives.
//! Source: SDM Vol. 2, "REP", "MOVS", "STOS", "INS", "OUTS"; Vol. 1, "I/O Permission Bit Map".

use mem::{Access, PAGE_SIZE, PageKind, Phys, Port, Size, line_mask};

use crate::access::in_limit;
use crate::cpu::Cpu;
use crate::fault::Fault;
use crate::segment::attr;
use crate::state::seg;

/// Register numbers used by string insns.
const CX: usize = 1;
const SI: usize = 6;
const DI: usize = 7;
/// Bit of a compare's bytes per element: it goes on until two are equal, not while they are.
pub(crate) const UNTIL_EQUAL: u64 = 0x80;
/// Bytes copied at once through a host buffer.
const CHUNK: usize = 512;
/// Pages that are copied or filled at once: for so long interrupts wait.
const PAGES: u32 = 16;

/// What so many bytes that are written at once hold of code is dropped, and all code of their page.
const WORTH_CODE: u64 = 512;
/// From an insn's first byte to its last, at most.
const LONGEST: u64 = 14;

/// One operand of a bulk operation: where its first element lies in guest RAM.
#[derive(Clone, Copy)]
struct Run {
    ram: u64,
    /// Elements from there to the end of the page (or its start, going down).
    elements: u64,
}

/// All value bits of an address size.
const fn address_mask(asz: u32) -> u64 {
    match asz {
        16 => 0xFFFF,
        32 => 0xFFFF_FFFF,
        _ => !0,
    }
}

/// The low `bytes` (1, 2, 4 or 8) of `value`, repeated over eight bytes.
const fn repeated(value: u64, bytes: u64) -> u64 {
    match bytes {
        1 => (value & 0xFF) * 0x0101_0101_0101_0101,
        2 => (value & 0xFFFF) * 0x0001_0001_0001_0001,
        4 => (value & 0xFFFF_FFFF) * 0x0000_0001_0000_0001,
        _ => value,
    }
}

impl Cpu {
    /// The elements at `n:off` that one page of plain RAM holds, at most `count`.
    fn run(
        &mut self,
        n: u8,
        off: u64,
        bytes: u64,
        count: u64,
        access: Access,
        mask: u64,
    ) -> Option<Run> {
        let is_down = self.state.df < 0;
        if self.is_bulk_done {
            return None;
        }
        let lin = self.seg_lin(n, off, bytes as u32, access).ok()?;
        let in_page = lin.page_offset();
        if in_page + bytes > 4096 {
            return None;
        }
        let room = if is_down { in_page / bytes + 1 } else { (4096 - in_page) / bytes };
        let before_wrap = if is_down {
            (off / bytes).saturating_add(1)
        } else {
            (mask - off).saturating_add(1) / bytes
        };
        let elements = count.min(room).min(before_wrap);
        // A step traps after each iteration, and a breakpoint wants to see each access.
        let is_stepped = self.state.eflags & crate::flags::TF != 0;
        if elements == 0 || is_stepped || self.is_watching() {
            return None;
        }
        let last =
            if is_down { off - (elements - 1) * bytes } else { off + (elements - 1) * bytes };
        if !self.is_code64() && !in_limit(&self.state.seg[usize::from(n)], last, bytes as u32) {
            return None;
        }
        let phys = self.translate(lin, access, self.state.cpl).ok()?;
        let PageKind::Ram { off: page, writable } = self.map.lookup(phys) else { return None };
        let len = elements * bytes;
        let low = if is_down { phys.page_offset() + bytes - len } else { phys.page_offset() };
        if access == Access::Write && (!writable || self.keeps_code(page, low, len)) {
            return None;
        }
        Some(Run { ram: page + phys.page_offset(), elements })
    }

    /// Must `len` bytes from `low` on in a page of guest RAM be written one by one, because of code that was translated from them? The code
    /// that runs must not change unseen, and other code of the page goes with that of these bytes, so that few are not worth it.
    fn keeps_code(&mut self, page: u64, low: u64, len: u64) -> bool {
        // In counted time the number of turns must not depend on what is translated; the insn leaves right behind such a write.
        if self.is_counted {
            return self.runs_in(page);
        }
        let lines = self.ram.code_lines(page) & line_mask(low, len);
        lines != 0 && (len < WORTH_CODE || self.runs_in(page))
    }
    /// May the insn lie in this page of guest RAM, or a part of it?
    fn runs_in(&mut self, page: u64) -> bool {
        let pc = self.state.pc;
        [pc, pc.wrapping_add(LONGEST)].into_iter().any(|pc| {
            let at = self.peek_phys(self.lin_pc(pc));
            at.is_some_and(|at| self.map.ram_offset(at.page()) == Some(page))
        })
    }

    /// Moves an index register by `elements` elements, and takes them off rCX.
    fn advance(&mut self, register: usize, elements: u64, bytes: u64, mask: u64) {
        let step = elements.wrapping_mul(bytes);
        let old = self.state.gpr[register];
        let new = match self.state.df < 0 {
            true => old.wrapping_sub(step),
            false => old.wrapping_add(step),
        };
        self.merge(register, new, mask);
    }

    fn count_down(&mut self, elements: u64, mask: u64) {
        let new = self.state.gpr[CX].wrapping_sub(elements);
        self.merge(CX, new, mask);
    }

    /// Writes a register at an address size: 16 bits merge, 32 zero-extend.
    fn merge(&mut self, register: usize, v: u64, mask: u64) {
        let old = self.state.gpr[register];
        let kept = if mask == 0xFFFF { old & !0xFFFF } else { 0 };
        self.state.gpr[register] = kept | v & mask;
    }

    /// REP MOVS.
    pub(crate) fn bulk_copy(&mut self, bytes: u64, segment: u8, asz: u32) {
        self.page_by_page(|cpu| cpu.copy_page(bytes, segment, asz));
    }

    /// Does something for one page after the other while it says that there may be more, and nobody asks for the run loop.
    fn page_by_page(&mut self, mut page: impl FnMut(&mut Self) -> bool) {
        for _ in 0..if self.is_counted { 1 } else { PAGES } {
            if !page(self) || self.state.jump_mask == 0 {
                return;
            }
        }
    }

    fn copy_page(&mut self, bytes: u64, segment: u8, asz: u32) -> bool {
        let mask = address_mask(asz);
        let count = self.state.gpr[CX] & mask;
        let (si, di) = (self.state.gpr[SI] & mask, self.state.gpr[DI] & mask);
        if count == 0 || !matches!(bytes, 1 | 2 | 4 | 8) {
            return false;
        }
        let Some(src) = self.run(segment, si, bytes, count, Access::Read, mask) else {
            return false;
        };
        let Some(dst) = self.run(seg::ES, di, bytes, src.elements, Access::Write, mask) else {
            return false;
        };
        let n = dst.elements;
        self.copy_elements(src.ram, dst.ram, n, bytes);
        self.advance(SI, n, bytes, mask);
        self.advance(DI, n, bytes, mask);
        self.count_down(n, mask);
        n < count
    }

    /// Copies element by element in the direction of DF, in chunks that cannot tell the difference.
    fn copy_elements(&self, src: u64, dst: u64, n: u64, bytes: u64) {
        let is_down = self.state.df < 0;
        // A chunk may be as long as the destination runs ahead of the source; it never runs ahead
        // when it moves away from what is still to be read.
        let ahead = if is_down { src.wrapping_sub(dst) } else { dst.wrapping_sub(src) };
        let is_ahead = ahead != 0 && ahead < n * bytes;
        let most = if is_ahead { ahead / bytes } else { n };
        let low = if is_down { (n - 1) * bytes } else { 0 };
        if self.ram.copy_apart(src.wrapping_sub(low), dst.wrapping_sub(low), n * bytes) {
            return;
        }
        let chunk = most.clamp(1, CHUNK as u64 / bytes);
        let mut buf = [0; CHUNK];
        let mut done = 0;
        while done < n {
            let m = chunk.min(n - done);
            let at = match is_down {
                true => ((done + m - 1) * bytes).wrapping_neg(),
                false => done * bytes,
            };
            let part = &mut buf[..(m * bytes) as usize];
            self.ram.read_bytes(src.wrapping_add(at), part);
            self.ram.write_bytes(dst.wrapping_add(at), part);
            done += m;
        }
    }

    /// REP STOS.
    pub(crate) fn bulk_fill(&mut self, bytes: u64, asz: u32) {
        self.page_by_page(|cpu| cpu.fill_page(bytes, asz));
    }

    fn fill_page(&mut self, bytes: u64, asz: u32) -> bool {
        let mask = address_mask(asz);
        let count = self.state.gpr[CX] & mask;
        let di = self.state.gpr[DI] & mask;
        if count == 0 || !matches!(bytes, 1 | 2 | 4 | 8) {
            return false;
        }
        let Some(dst) = self.run(seg::ES, di, bytes, count, Access::Write, mask) else {
            return false;
        };
        let n = dst.elements;
        let low = match self.state.df < 0 {
            true => dst.ram.wrapping_sub((n - 1) * bytes),
            false => dst.ram,
        };
        self.ram.repeat(low, n * bytes, repeated(self.state.gpr[0], bytes));
        self.advance(DI, n, bytes, mask);
        self.count_down(n, mask);
        n < count
    }

    /// REPE or REPNE CMPS (with a segment), or SCAS: all iterations that the pages allow but the last of them, or the one that ends it: that makes the flags.
    pub(crate) fn bulk_compare(&mut self, bytes: u64, segment: Option<u8>, asz: u32) {
        let (until_equal, bytes) = (bytes & UNTIL_EQUAL != 0, bytes & !UNTIL_EQUAL);
        let mask = address_mask(asz);
        let count = self.state.gpr[CX] & mask;
        let (si, di) = (self.state.gpr[SI] & mask, self.state.gpr[DI] & mask);
        let Some(size) = Size::from_bytes(bytes).filter(|_| count != 0) else { return };
        let source = match segment {
            None => None,
            Some(segment) => match self.run(segment, si, bytes, count, Access::Read, mask) {
                None => return,
                run => run,
            },
        };
        let most = source.map_or(count, |run| run.elements);
        let Some(run) = self.run(seg::ES, di, bytes, most, Access::Read, mask) else { return };
        let other = |i| match source {
            Some(source) => self.ram.read(self.element(source.ram, i, bytes), size),
            None => Some(self.state.gpr[0] & size.mask()),
        };
        let ends = |&i: &u64| {
            let here = self.ram.read(self.element(run.ram, i, bytes), size);
            (here == other(i)) == until_equal
        };
        // The last one makes flags, too: the one behind it may fault.
        let rest = run.elements.saturating_sub(1);
        let n = (0..rest).find(ends).unwrap_or(rest);
        if segment.is_some() {
            self.advance(SI, n, bytes, mask);
        }
        self.advance(DI, n, bytes, mask);
        self.count_down(n, mask);
    }

    /// REP INS.
    pub(crate) fn bulk_input(&mut self, bytes: u64, asz: u32) -> Result<(), Fault> {
        let mask = address_mask(asz);
        let count = self.state.gpr[CX] & mask;
        let di = self.state.gpr[DI] & mask;
        let (port, Some(size)) = (self.state.gpr[2] as u16, port_size(bytes)) else {
            return Ok(());
        };
        self.check_port(port, bytes)?;
        if count == 0 {
            return Ok(());
        }
        let Some(dst) = self.run(seg::ES, di, bytes, count, Access::Write, mask) else {
            return Ok(());
        };
        let generation = self.map.generation();
        let mut done = self.block_input(Port(port), size, &dst);
        while done < dst.elements && self.map.generation() == generation {
            let value = self.bus.port_in(Port(port), size);
            self.ram.write(self.element(dst.ram, done, bytes), size, value);
            done += 1;
        }
        self.advance(DI, done, bytes, mask);
        self.count_down(done, mask);
        self.after_bus_access();
        Ok(())
    }

    /// REP OUTS.
    pub(crate) fn bulk_output(&mut self, bytes: u64, segment: u8, asz: u32) -> Result<(), Fault> {
        let mask = address_mask(asz);
        let count = self.state.gpr[CX] & mask;
        let si = self.state.gpr[SI] & mask;
        let (port, Some(size)) = (self.state.gpr[2] as u16, port_size(bytes)) else {
            return Ok(());
        };
        self.check_port(port, bytes)?;
        if count == 0 {
            return Ok(());
        }
        let Some(src) = self.run(segment, si, bytes, count, Access::Read, mask) else {
            return Ok(());
        };
        let generation = self.map.generation();
        let mut done = self.block_output(Port(port), size, &src);
        while done < src.elements
            && self.map.generation() == generation
            && self.bus.a20() == self.a20()
        {
            let at = self.element(src.ram, done, bytes);
            let value = self.ram.read(at, size).unwrap_or(size.mask());
            self.bus.port_out(Port(port), size, value);
            done += 1;
        }
        self.advance(SI, done, bytes, mask);
        self.count_down(done, mask);
        self.after_bus_access();
        Ok(())
    }

    /// The part of REP INS that the chip has as a block, upwards; how many elements.
    fn block_input(&mut self, port: Port, size: Size, dst: &Run) -> u64 {
        let mut buf = [0; PAGE_SIZE as usize];
        let len = dst.elements.saturating_mul(size.bytes()).min(PAGE_SIZE);
        let mut done = 0;
        while self.state.df >= 0 && done < len {
            let n = self.bus.port_in_block(port, size, &mut buf[..(len - done) as usize]) as u64;
            if n == 0 {
                break;
            }
            self.ram.write_bytes(dst.ram + done, &buf[..n as usize]);
            done += n;
        }
        done / size.bytes()
    }

    /// The part of REP OUTS that the chip takes as a block, upwards; how many elements.
    fn block_output(&mut self, port: Port, size: Size, src: &Run) -> u64 {
        let mut buf = [0; PAGE_SIZE as usize];
        let len = src.elements.saturating_mul(size.bytes()).min(PAGE_SIZE);
        if self.state.df < 0 || !self.ram.read_bytes(src.ram, &mut buf[..len as usize]) {
            return 0;
        }
        let mut done = 0;
        while done < len {
            let n = self.bus.port_out_block(port, size, &buf[done as usize..len as usize]) as u64;
            if n == 0 {
                break;
            }
            done += n;
        }
        done / size.bytes()
    }

    /// Guest RAM offset of element `i` in the direction of DF.
    const fn element(&self, ram: u64, i: u64, bytes: u64) -> u64 {
        let step = i.wrapping_mul(bytes);
        if self.state.df < 0 { ram.wrapping_sub(step) } else { ram.wrapping_add(step) }
    }

    const fn a20(&self) -> bool {
        self.a20_mask & (1 << 20) != 0
    }
}

/// The bus width of a port access of 1, 2 or 4 bytes.
fn port_size(bytes: u64) -> Option<Size> {
    Size::from_bytes(bytes).filter(|&size| size != Size::B8)
}

/// Ports.
impl Cpu {
    /// #GP(0) unless the program may use the ports `port..port + bytes`.
    pub(crate) fn check_port(&mut self, port: u16, bytes: u64) -> Result<(), Fault> {
        let is_free = self.state.cr0 & crate::cpu::cr0::PE == 0
            || (!self.is_vm86() && self.state.cpl <= self.state.iopl());
        if is_free {
            return Ok(());
        }
        let tr = self.state.tr;
        let is_tss32 = tr.attr & (attr::P | 0x1D) == attr::P | 9;
        if !is_tss32 || tr.limit < 103 {
            return Err(Fault::gp(0));
        }
        let map = self.sys_read(tr.base.wrapping_add(102), 2)?;
        let at = map + u64::from(port / 8);
        if at + 1 > u64::from(tr.limit) {
            return Err(Fault::gp(0));
        }
        let bits = self.sys_read(tr.base.wrapping_add(at), 2)? >> (port & 7);
        if bits & ((1 << bytes) - 1) != 0 {
            return Err(Fault::gp(0));
        }
        Ok(())
    }

    /// IN.
    pub(crate) fn input(&mut self, port: u16, bytes: u64) -> Result<u64, Fault> {
        self.check_port(port, bytes)?;
        let Some(size) = port_size(bytes) else { return Err(Fault::ud()) };
        self.watch_port(port, bytes as u32);
        let value = self.bus.port_in(Port(port), size) & size.mask();
        self.after_bus_access();
        Ok(value)
    }

    /// OUT.
    pub(crate) fn output(&mut self, port: u16, bytes: u64, value: u64) -> Result<(), Fault> {
        self.check_port(port, bytes)?;
        let Some(size) = port_size(bytes) else { return Err(Fault::ud()) };
        self.watch_port(port, bytes as u32);
        self.bus.port_out(Port(port), size, value & size.mask());
        self.after_bus_access();
        Ok(())
    }
}

/// Physical byte access for debuggers and loaders.
impl Cpu {
    /// Copies guest-linear memory out without side effects on the guest; false where unmapped.
    pub fn peek(&mut self, lin: u64, buf: &mut [u8]) -> bool {
        for (i, byte) in (0..).zip(buf) {
            let Some(at) = self.peek_phys(mem::Lin(lin.wrapping_add(i))) else { return false };
            let Some(off) = self.map.ram_offset(Phys(at.0)) else { return false };
            *byte = self.ram.read(off, Size::B1).unwrap_or(0xFF) as u8;
        }
        true
    }
}
