//! Segmentation: descriptors, segment loads, LDTR and TR.
//!
//! Source: SDM Vol. 3A, "Protected-Mode Memory Management"; Vol. 2, MOV, LLDT, LTR.

use crate::cpu::{Cpu, efer, is_canonical};
use crate::fault::Fault;
use crate::state::{Load, seg};

pub use crate::state::Segment;

/// Bits of `Segment::attr`.
pub mod attr {
    /// Accessed.
    pub const A: u16 = 1;
    /// Data: writable. Code: readable.
    pub const RW: u16 = 2;
    /// Data: expand-down. Code: conforming.
    pub const DC: u16 = 4;
    /// Code, not data.
    pub const CODE: u16 = 8;
    /// Code or data, not a system descriptor.
    pub const S: u16 = 0x10;
    /// DPL, two bits from here.
    pub const DPL_SHIFT: u16 = 5;
    /// Present.
    pub const P: u16 = 0x80;
    /// 64-bit code.
    pub const L: u16 = 0x2000;
    /// Default size 32.
    pub const DB: u16 = 0x4000;
    /// Granularity.
    pub const G: u16 = 0x8000;
    /// What the segments have in virtual-8086 mode: writable data, present, DPL 3.
    pub const VM86: u16 = 0xF3;
    /// What a real-mode load gives a segment that had no descriptor.
    pub const REAL: u16 = 0x93;
}

/// Types of system descriptors.
pub(crate) mod system {
    pub(crate) const TSS16: u8 = 1;
    pub(crate) const LDT: u8 = 2;
    pub(crate) const CALL_GATE16: u8 = 4;
    pub(crate) const TASK_GATE: u8 = 5;
    pub(crate) const INT_GATE16: u8 = 6;
    pub(crate) const TRAP_GATE16: u8 = 7;
    pub(crate) const TSS32: u8 = 9;
    /// In IA-32e mode the 64-bit call gate; so with the gates below and the TSS above.
    pub(crate) const CALL_GATE32: u8 = 12;
    pub(crate) const INT_GATE32: u8 = 14;
    pub(crate) const TRAP_GATE32: u8 = 15;
    /// Busy bit of a TSS type.
    pub(crate) const BUSY: u8 = 2;
}

impl Segment {
    /// An expand-down data segment?
    pub const fn is_expand_down(&self) -> bool {
        self.attr & (attr::CODE | attr::DC | attr::S) == attr::DC | attr::S
    }

    /// DPL.
    pub const fn dpl(&self) -> u32 {
        (self.attr >> attr::DPL_SHIFT & 3) as u32
    }

    /// The segment with this selector in real mode (`attr::REAL`) or virtual-8086 mode.
    pub(crate) const fn of_8086(selector: u16, attr: u16) -> Self {
        Self { selector, attr, limit: 0xFFFF, base: (selector as u64) << 4 }
    }

    /// A null segment.
    pub(crate) const fn null(selector: u16) -> Self {
        Self { selector, attr: 0, limit: 0, base: 0 }
    }
}

/// The data segment registers but for SS.
const DATA: [u8; 4] = [seg::ES, seg::DS, seg::FS, seg::GS];

/// Selector without RPL, as it stands in error codes.
pub(crate) const fn error_code(selector: u16) -> u32 {
    (selector & !3) as u32
}

/// Is the selector null?
pub(crate) const fn is_null(selector: u16) -> bool {
    selector & !3 == 0
}

/// RPL of a selector.
pub(crate) const fn rpl(selector: u16) -> u32 {
    (selector & 3) as u32
}

/// Eight descriptor bytes and where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub(crate) low: u32,
    pub(crate) high: u32,
    /// Linear address.
    pub(crate) at: u64,
}

impl Descriptor {
    pub(crate) const fn attr(&self) -> u16 {
        (self.high >> 8) as u16 & 0xF0FF
    }
    /// Type field, four bits.
    pub(crate) const fn kind(&self) -> u8 {
        (self.high >> 8) as u8 & 15
    }
    pub(crate) const fn is_system(&self) -> bool {
        self.attr() & attr::S == 0
    }
    pub(crate) const fn is_present(&self) -> bool {
        self.attr() & attr::P != 0
    }
    pub(crate) const fn dpl(&self) -> u32 {
        self.high >> 13 & 3
    }
    pub(crate) const fn is_code(&self) -> bool {
        self.attr() & (attr::S | attr::CODE) == attr::S | attr::CODE
    }
    /// Code with both L and D set, which no processor accepts in IA-32e mode.
    pub(crate) const fn is_bad_code64(&self) -> bool {
        self.attr() & (attr::L | attr::DB) == attr::L | attr::DB
    }
    /// 64-bit code, for IA-32e mode.
    pub(crate) const fn is_code64(&self) -> bool {
        self.is_code() && self.attr() & (attr::L | attr::DB) == attr::L
    }
    pub(crate) const fn is_conforming(&self) -> bool {
        self.attr() & (attr::S | attr::CODE | attr::DC) == attr::S | attr::CODE | attr::DC
    }
    pub(crate) const fn is_writable_data(&self) -> bool {
        self.attr() & (attr::S | attr::CODE | attr::RW) == attr::S | attr::RW
    }
    /// Data, or code that may be read.
    pub(crate) const fn is_readable(&self) -> bool {
        self.attr() & attr::S != 0 && self.attr() & (attr::CODE | attr::RW) != attr::CODE
    }
    pub(crate) const fn base(&self) -> u64 {
        (self.low >> 16 | (self.high & 0xFF) << 16 | self.high & 0xFF00_0000) as u64
    }
    pub(crate) const fn limit(&self) -> u32 {
        let raw = (self.low & 0xFFFF) | (self.high & 0xF_0000);
        if self.attr() & attr::G != 0 { raw << 12 | 0xFFF } else { raw }
    }
    /// The segment register it makes under this selector.
    pub(crate) const fn segment(&self, selector: u16) -> Segment {
        Segment { selector, attr: self.attr(), limit: self.limit(), base: self.base() }
    }
    /// A gate's target selector.
    pub(crate) const fn gate_selector(&self) -> u16 {
        (self.low >> 16) as u16
    }
    /// A gate's target offset.
    pub(crate) const fn gate_offset(&self) -> u32 {
        let is_32 = self.kind() & 8 != 0;
        (self.low & 0xFFFF) | if is_32 { self.high & 0xFFFF_0000 } else { 0 }
    }
    /// An interrupt gate's stack-table index, in IA-32e mode.
    pub(crate) const fn ist(&self) -> u32 {
        self.high & 7
    }
    /// A call gate's parameter count.
    pub(crate) const fn gate_params(&self) -> u32 {
        self.high & 31
    }
}

/// Reading descriptors.
impl Cpu {
    /// The descriptor of a selector; `None` when it lies outside its table.
    pub(crate) fn descriptor(&mut self, selector: u16) -> Result<Option<Descriptor>, Fault> {
        let (base, limit) = if selector & 4 == 0 {
            (self.state.gdtr.base, self.state.gdtr.limit)
        } else if self.state.ldtr.attr & attr::P != 0 {
            (self.state.ldtr.base, self.state.ldtr.limit)
        } else {
            return Ok(None);
        };
        let index = u64::from(selector & !7);
        if index + 7 > u64::from(limit) {
            return Ok(None);
        }
        let at = base.wrapping_add(index) & self.lin_mask();
        let both = self.sys_read(at, 8)?;
        Ok(Some(Descriptor { low: both as u32, high: (both >> 32) as u32, at }))
    }

    /// The descriptor, or the fault `refuse(selector)`.
    pub(crate) fn descriptor_or(
        &mut self,
        selector: u16,
        refuse: fn(u32) -> Fault,
    ) -> Result<Descriptor, Fault> {
        self.descriptor(selector)?.ok_or(refuse(error_code(selector)))
    }

    /// The second half of a 16-byte system descriptor of IA-32e mode; `None` when it lies outside the
    /// table or its type field is not 0.
    pub(crate) fn upper_half(
        &mut self,
        selector: u16,
        d: &Descriptor,
    ) -> Result<Option<u64>, Fault> {
        let limit = if selector & 4 == 0 { self.state.gdtr.limit } else { self.state.ldtr.limit };
        if u64::from(selector & !7) + 15 > u64::from(limit) {
            return Ok(None);
        }
        let both = self.sys_read(d.at.wrapping_add(8), 8)?;
        Ok((both >> 40 & 0x1F == 0).then_some(both & 0xFFFF_FFFF))
    }

    /// The segment of an LDT or TSS descriptor, with a 64-bit base in IA-32e mode.
    fn system_segment(&mut self, selector: u16, d: &Descriptor) -> Result<Segment, Fault> {
        let mut segment = d.segment(selector);
        if self.is_long() {
            let refusal = Fault::gp(error_code(selector));
            let high = self.upper_half(selector, d)?.ok_or(refusal)?;
            segment.base |= high << 32;
            if !is_canonical(segment.base) {
                return Err(refusal);
            }
        }
        Ok(segment)
    }

    /// Sets the accessed bit in memory and in the copy.
    pub(crate) fn mark_accessed(&mut self, d: &mut Descriptor) -> Result<(), Fault> {
        if d.attr() & (attr::S | attr::A) == attr::S {
            d.high |= 1 << 8;
            self.sys_write(d.at.wrapping_add(5), 1, u64::from(d.high >> 8 & 0xFF))?;
        }
        Ok(())
    }

    /// Sets or clears the busy bit of a TSS descriptor.
    pub(crate) fn set_busy(&mut self, d: &mut Descriptor, is_busy: bool) -> Result<(), Fault> {
        let bit = u32::from(system::BUSY) << 8;
        d.high = if is_busy { d.high | bit } else { d.high & !bit };
        self.sys_write(d.at.wrapping_add(5), 1, u64::from(d.high >> 8 & 0xFF))
    }
}

/// Loading segment registers.
impl Cpu {
    /// Loads a segment register other than CS as MOV, POP and LxS do.
    pub fn load_segment(&mut self, n: u8, selector: u16) -> Result<(), Fault> {
        let segment = if self.is_vm86() {
            Segment::of_8086(selector, attr::VM86)
        } else if !self.is_protected() {
            self.real_segment(n, selector)
        } else if n == seg::SS {
            let cpl = self.state.cpl;
            self.outer_stack(selector, cpl, self.is_code64())?
        } else {
            let known = self.known_data(selector);
            let segment = match known {
                Some(segment) => segment,
                None => self.data_segment(selector, Fault::gp)?,
            };
            Segment { base: self.base_of_null(n, &segment), ..segment }
        };
        self.state.seg[usize::from(n) % seg::COUNT] = segment;
        Ok(())
    }

    /// Notes what the load of a data segment register just found, for generated code of level 0. Its window is in force.
    pub(crate) fn note_load(&mut self, n: usize) {
        if !self.is_protected() || self.is_long() || !DATA.contains(&(n as u8)) {
            return;
        }
        let segment = self.state.seg[n];
        if segment.selector == 0 {
            self.state.loads[n].null_key = Load::KNOWN;
        }
        // A descriptor in RAM, marked as accessed, that is not cut by the end of a page.
        let Some(d) = self.known_descriptor(segment.selector) else { return };
        if d.at & 7 == 0 && d.segment(segment.selector) == segment {
            let load = &mut self.state.loads[n];
            load.key = u32::from(segment.selector) | Load::KNOWN;
            load.at = d.at;
            load.descriptor = u64::from(d.low) | u64::from(d.high) << 32;
            (load.word, load.base) = (segment.word(), segment.base);
            let window = self.state.window[n];
            (load.read_end, load.write_end) = (window.read_end, window.write_end);
        }
    }

    /// After the descriptor table or what a null selector does changed.
    pub(crate) fn forget_loads(&mut self) {
        self.state.loads = Default::default();
    }

    /// The base under a data segment: AMD's processors keep that of FS and GS when they become null.
    const fn base_of_null(&self, n: u8, segment: &Segment) -> u64 {
        let keeps = self.caps.is_amd && self.is_long() && n >= seg::FS;
        if keeps && is_null(segment.selector) {
            return self.state.seg[n as usize % seg::COUNT].base;
        }
        segment.base
    }

    /// The checks of SS for code of level `cpl`, which is 64-bit code or not: that may have a null
    /// selector below level 3.
    pub(crate) fn outer_stack(
        &mut self,
        selector: u16,
        cpl: u32,
        is_64: bool,
    ) -> Result<Segment, Fault> {
        if is_null(selector) && is_64 && cpl != 3 && rpl(selector) == cpl {
            return Ok(Segment::null(selector));
        }
        self.stack_segment(selector, cpl, Fault::gp)
    }

    /// A real-mode load changes selector and base; limit and attributes stay ("unreal" mode).
    pub(crate) const fn real_segment(&self, n: u8, selector: u16) -> Segment {
        let old = self.state.seg[n as usize % seg::COUNT];
        if old.attr & attr::P == 0 {
            return Segment::of_8086(selector, attr::REAL);
        }
        Segment { selector, base: (selector as u64) << 4, ..old }
    }

    /// The checks of a load into DS, ES, FS or GS at the current CPL.
    pub(crate) fn data_segment(
        &mut self,
        selector: u16,
        refuse: fn(u32) -> Fault,
    ) -> Result<Segment, Fault> {
        if is_null(selector) {
            return Ok(Segment::null(selector));
        }
        let code = error_code(selector);
        let mut d = self.descriptor_or(selector, refuse)?;
        let is_open = d.is_conforming() || (rpl(selector).max(self.state.cpl) <= d.dpl());
        if !d.is_readable() || !is_open {
            return Err(refuse(code));
        }
        if !d.is_present() {
            return Err(Fault::np(code));
        }
        self.mark_accessed(&mut d)?;
        Ok(d.segment(selector))
    }

    /// The checks of a load into SS for privilege level `cpl`; `refuse` is #GP or #TS.
    pub(crate) fn stack_segment(
        &mut self,
        selector: u16,
        cpl: u32,
        refuse: fn(u32) -> Fault,
    ) -> Result<Segment, Fault> {
        let code = error_code(selector);
        if is_null(selector) {
            return Err(refuse(0));
        }
        let mut d = self.descriptor_or(selector, refuse)?;
        if rpl(selector) != cpl || d.dpl() != cpl || !d.is_writable_data() {
            return Err(refuse(code));
        }
        if !d.is_present() {
            return Err(Fault::ss(code));
        }
        self.mark_accessed(&mut d)?;
        Ok(d.segment(selector))
    }

    /// Commits CS: the segment with RPL replaced by the new CPL.
    pub(crate) const fn set_cs(&mut self, segment: Segment, cpl: u32) {
        let selector = segment.selector & !3 | cpl as u16;
        self.state.seg[seg::CS as usize] = Segment { selector, ..segment };
        self.state.cpl = cpl;
    }

    /// May the new CPL not use this data segment (returns to outer levels)? Null selectors lose their RPL there, too: SDM Vol. 2,
    /// IRET, has it so, and a Zen 5 does it.
    const fn is_inner(&self, n: u8) -> bool {
        let s = &self.state.seg[n as usize];
        if is_null(s.selector) {
            return s.selector != 0;
        }
        let is_conforming = s.attr & (attr::CODE | attr::DC) == attr::CODE | attr::DC;
        s.attr & attr::P != 0 && !is_conforming && s.dpl() < self.state.cpl
    }

    /// Is there a data segment that the new CPL may not use?
    pub(crate) fn has_inner_segments(&self) -> bool {
        DATA.iter().any(|&n| self.is_inner(n))
    }

    /// Nulls the data segments that the new CPL may not use.
    pub(crate) fn drop_inner_segments(&mut self) {
        for n in DATA {
            if self.is_inner(n) {
                let s = &mut self.state.seg[usize::from(n)];
                let base =
                    if self.state.efer & efer::LMA != 0 && n >= seg::FS { s.base } else { 0 };
                *s = Segment { base, ..Segment::null(0) };
            }
        }
    }

    /// LLDT.
    pub(crate) fn load_ldtr(&mut self, selector: u16) -> Result<(), Fault> {
        if is_null(selector) {
            self.state.ldtr = Segment::null(selector);
            return Ok(());
        }
        self.state.ldtr = self.ldt_segment(selector, Fault::gp, Fault::np)?;
        Ok(())
    }

    /// The checks of an LDT selector.
    pub(crate) fn ldt_segment(
        &mut self,
        selector: u16,
        refuse: fn(u32) -> Fault,
        absent: fn(u32) -> Fault,
    ) -> Result<Segment, Fault> {
        let code = error_code(selector);
        if selector & 4 != 0 {
            return Err(refuse(code));
        }
        let d = self.descriptor_or(selector, refuse)?;
        if !d.is_system() || d.kind() != system::LDT {
            return Err(refuse(code));
        }
        if !d.is_present() {
            return Err(absent(code));
        }
        self.system_segment(selector, &d)
    }

    /// LTR.
    pub(crate) fn load_tr(&mut self, selector: u16) -> Result<(), Fault> {
        let code = error_code(selector);
        if is_null(selector) {
            return Err(Fault::gp(0));
        }
        if selector & 4 != 0 {
            return Err(Fault::gp(code));
        }
        let mut d = self.descriptor_or(selector, Fault::gp)?;
        let is_tss = d.kind() == system::TSS32 || (d.kind() == system::TSS16 && !self.is_long());
        if !d.is_system() || !is_tss {
            return Err(Fault::gp(code));
        }
        if !d.is_present() {
            return Err(Fault::np(code));
        }
        let segment = self.system_segment(selector, &d)?;
        self.set_busy(&mut d, true)?;
        self.state.tr = Segment { attr: d.attr(), ..segment };
        Ok(())
    }
}

/// LAR, LSL, VERR, VERW: questions that never fault on a bad selector.
impl Cpu {
    /// The descriptor if the current CPL and the selector's RPL may see it.
    fn visible(&mut self, selector: u16) -> Result<Option<Descriptor>, Fault> {
        if is_null(selector) {
            return Ok(None);
        }
        let Some(d) = self.descriptor(selector)? else { return Ok(None) };
        let is_open = d.is_conforming() || self.state.cpl.max(rpl(selector)) <= d.dpl();
        Ok(is_open.then_some(d))
    }

    /// LAR: the access rights.
    pub(crate) fn access_rights(&mut self, selector: u16) -> Result<Option<u32>, Fault> {
        let Some(d) = self.visible(selector)? else { return Ok(None) };
        let is_known = match self.is_long() {
            true => self.is_known_long(selector, &d, &[2, 9, 11, 12])?,
            false => !d.is_system() || matches!(d.kind(), 1..=5 | 9 | 11 | 12),
        };
        // The manual leaves bits 16..20 open; processors give the limit's top bits there.
        Ok(is_known.then_some(d.high & 0x00FF_FF00))
    }

    /// Is it code, data, or a whole system descriptor of one of `kinds` of IA-32e mode?
    fn is_known_long(
        &mut self,
        selector: u16,
        d: &Descriptor,
        kinds: &[u8],
    ) -> Result<bool, Fault> {
        if !d.is_system() {
            return Ok(true);
        }
        Ok(kinds.contains(&d.kind()) && self.upper_half(selector, d)?.is_some())
    }

    /// LSL: the limit in bytes.
    pub(crate) fn visible_limit(&mut self, selector: u16) -> Result<Option<u32>, Fault> {
        let Some(d) = self.visible(selector)? else { return Ok(None) };
        let is_known = match self.is_long() {
            true => self.is_known_long(selector, &d, &[2, 9, 11])?,
            false => !d.is_system() || matches!(d.kind(), 1..=3 | 9 | 11),
        };
        Ok(is_known.then_some(d.limit()))
    }

    /// VERR (`!is_write`) and VERW.
    pub(crate) fn verify(&mut self, selector: u16, is_write: bool) -> Result<bool, Fault> {
        let Some(d) = self.visible(selector)? else { return Ok(false) };
        Ok(if is_write { d.is_writable_data() } else { d.is_readable() })
    }
}
