//! The common case of delivering an event and of returning from it: between flat 32-bit segments, in 64-bit code, or within one
//! segment of real mode; tables and stack in RAM that the TLB knows, accessed bits set, nothing to trap.
//!
//! Each function here either does all that the full one beside it would do, or says `None` and has changed nothing: then the
//! full one looks again, and finds the fault or the rarer case. So every condition here is one that it accepts,
//! and none of them has to be ordered. Sources are those of `interrupt`.

use mem::{Lin, Size};

use crate::cpu::{Cpu, cr0, cr4, is_canonical};
use crate::flags;
use crate::interrupt::{Event, Source};
use crate::mode::Mode;
use crate::segment::{Descriptor, Segment, attr, is_null, rpl, system};
use crate::state::seg;
use crate::tlb::ViewId;

/// The bits of flat 32-bit code and its stack.
const FLAT_32: u32 = Mode::CODE32 | Mode::STACK32 | Mode::PE | Mode::FLAT_CS | Mode::FLAT_SS;
/// Mode bits that an event clears.
const CLEARED: u32 = Mode::TF | Mode::SHADOW | Mode::VIRTUAL | 3 << Mode::CPL_SHIFT;
/// Words of the largest frame: SS, the stack pointer, EFLAGS, CS, the instruction pointer, an error code.
const MOST_WORDS: usize = 6;

/// What a mode led to when it was last entered.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Level {
    /// The mode.
    mode: u32,
    /// Host address of its jump table; 0: not known.
    base: u64,
}

impl Level {
    /// Forgets it.
    pub(crate) const fn forget(&mut self) {
        self.base = 0;
    }

    /// Does it lead to the jump table at `base`?
    pub(crate) const fn is_of(&self, base: u64) -> bool {
        self.base == base
    }
}

/// Values to push, in the order of the pushes.
struct Words {
    value: [u64; MOST_WORDS],
    len: usize,
}

impl Words {
    const NONE: Self = Self { value: [0; MOST_WORDS], len: 0 };

    fn push(&mut self, value: impl Into<u64>) {
        if let Some(slot) = self.value.get_mut(self.len) {
            *slot = value.into();
            self.len += 1;
        }
    }
}

/// Is it the whole of the 32-bit addresses?
const fn is_flat(s: &Segment) -> bool {
    s.base == 0 && s.limit == u32::MAX && s.attr & attr::DB != 0 && !s.is_expand_down()
}

/// Memory that the TLB knows.
impl Cpu {
    /// The place in guest RAM of `bytes` at `lin`, which do not leave the page.
    #[inline(always)]
    pub(crate) fn known(&self, lin: u64, bytes: u64, view: ViewId, is_write: bool) -> Option<u64> {
        let (lin, view) = (Lin(lin), self.tlb.view(view));
        if lin.page_offset() > 0x1000 - bytes {
            return None;
        }
        let host = if is_write { view.write_host(lin) } else { view.read_host(lin) };
        Some(self.ram.offset_of(host?))
    }

    /// Reads 4 bytes.
    #[inline]
    fn known_u32(&self, lin: u64, view: ViewId) -> Option<u32> {
        let at = self.known(lin, 4, view, false)?;
        self.ram.read(at, Size::B4).map(|v| v as u32)
    }

    /// Reads 8 bytes, which may be those of two fields.
    #[inline(always)]
    fn known_u64(&self, lin: u64, view: ViewId) -> Option<u64> {
        let at = self.known(lin, 8, view, false)?;
        if at & 7 == 0 {
            return self.ram.read(at, Size::B8);
        }
        let (low, high) = (self.ram.read(at, Size::B4)?, self.ram.read(at + 4, Size::B4)?);
        Some(low | high << 32)
    }

    /// The descriptor of a selector in the GDT.
    #[inline(always)]
    pub(crate) fn known_descriptor(&self, selector: u16) -> Option<Descriptor> {
        let index = u64::from(selector & !7);
        let is_inside = index + 7 <= u64::from(self.state.gdtr.limit);
        if is_null(selector) || selector & 4 != 0 || !is_inside {
            return None;
        }
        let at = self.state.gdtr.base.wrapping_add(index) & self.lin_mask();
        let both = self.known_u64(at, ViewId::Supervisor)?;
        Some(Descriptor { low: both as u32, high: (both >> 32) as u32, at })
    }

    /// The code segment of a selector, present and marked as accessed, not conforming.
    #[inline(always)]
    fn known_code(&self, selector: u16) -> Option<Descriptor> {
        const WANTED: u16 = attr::S | attr::CODE | attr::A | attr::P;
        let d = self.known_descriptor(selector)?;
        (d.attr() & (WANTED | attr::DC) == WANTED).then_some(d)
    }

    /// The segment of a selector for DS, ES, FS or GS: data, or code that can be read and is not conforming.
    pub(crate) fn known_data(&self, selector: u16) -> Option<Segment> {
        const WANTED: u16 = attr::S | attr::A | attr::P;
        let d = self.known_descriptor(selector)?;
        let is_plain = d.attr() & WANTED == WANTED && d.is_readable() && !d.is_conforming();
        let is_open = rpl(selector).max(self.state.cpl) <= d.dpl();
        (is_plain && is_open).then(|| d.segment(selector))
    }

    /// The stack segment of a selector for level `cpl`, present and marked as accessed.
    #[inline(always)]
    fn known_stack(&self, selector: u16, cpl: u32) -> Option<Segment> {
        const WANTED: u16 = attr::S | attr::RW | attr::A | attr::P;
        let d = self.known_descriptor(selector)?;
        let is_it = d.attr() & (WANTED | attr::CODE) == WANTED;
        (is_it && d.dpl() == cpl && rpl(selector) == cpl).then(|| d.segment(selector))
    }

    /// Writes a frame of words of 4 or 8 bytes below `sp`; gives the stack pointer then.
    #[inline]
    fn write_words(&self, words: &Words, sp: u64, size: Size, cpl: u32) -> Option<u64> {
        let (bytes, words) = (size.bytes(), words.value.get(..words.len)?);
        let all = bytes * words.len() as u64;
        let low = sp.checked_sub(all)?;
        if low & (bytes - 1) != 0 {
            return None;
        }
        let at = self.known(low, all, self.view_for(cpl), true)?;
        for (word, at) in words.iter().rev().zip((at..).step_by(bytes as usize)) {
            self.ram.write_cpu(at, size, *word);
        }
        Some(low)
    }
}

/// Changes of level.
impl Cpu {
    /// Notes what the mode just synced leads to.
    pub(crate) fn note_level(&mut self) {
        let mode = self.mode();
        if mode.has(Mode::FLAT_CS) {
            let level = Level { mode: mode.0, base: self.state.jump_base };
            self.levels[usize::from(mode.cpl() == 3)] = level;
        }
    }

    /// What `sync_mode` does after CS, SS and the level became those of a fast transfer, which are flat.
    pub(crate) fn sync_flat(&mut self) {
        let old = self.state.mode & !(3 << Mode::CPL_SHIFT);
        let is_rare = self.state.eflags & (flags::TF | flags::VM) != 0
            || self.state.shadow != 0
            || self.state.cr4 & (cr4::VME | cr4::PVI) != 0;
        if !is_rare && self.is_code64() && old == Mode::ALWAYS_64 {
            self.enter_level(old | self.state.cpl << Mode::CPL_SHIFT);
        } else if !is_rare
            && !self.is_code64()
            && old & (FLAT_32 | Mode::SINGLE | Mode::CODE64) == FLAT_32
        {
            self.sync_code_and_stack();
            self.enter_level(old | self.state.cpl << Mode::CPL_SHIFT);
        } else {
            self.sync_mode();
        }
    }

    /// What `sync_mode` does when nothing but the level and flags has changed that windows depend on.
    fn enter_level(&mut self, mode: u32) {
        let has_ac = self.state.eflags & flags::AC != 0;
        let is_user = mode >> Mode::CPL_SHIFT & 3 == 3;
        let level = self.levels[usize::from(is_user)];
        if level.mode != mode || level.base == 0 || (is_user && has_ac) {
            self.sync_derived();
            return;
        }
        self.state.mode = mode;
        self.state.jump_base = level.base;
        self.state.tlb_base = match is_user {
            true => self.tlb.base(ViewId::User),
            false => self.state.views[usize::from(has_ac)],
        };
    }
}

/// Delivery.
impl Cpu {
    /// Delivers an event.
    pub(crate) fn deliver_quickly(&mut self, event: &Event) -> Option<()> {
        if self.state.cr0 & cr0::PE == 0 {
            self.deliver_quickly_real(event)?;
        } else if self.state.eflags & flags::VM != 0 || self.breaks_on_code() {
            return None;
        } else if self.is_long() {
            self.deliver_quickly_64(event)?;
        } else {
            self.deliver_quickly_32(event)?;
        }
        self.state.shadow = 0;
        self.state.repeating = 0;
        Some(())
    }

    /// A gate for interrupts or traps, of 32 bits (in IA-32e mode: of 64), that the event may pass.
    fn is_open(&self, gate: &Descriptor, event: &Event) -> bool {
        let is_gate = matches!(gate.kind(), system::INT_GATE32 | system::TRAP_GATE32);
        let is_closed = event.source == Source::Software && gate.dpl() < self.state.cpl;
        is_gate && gate.is_system() && gate.is_present() && !is_closed
    }

    /// What every frame of protected mode ends in: EFLAGS, CS, the instruction pointer, an error code.
    #[inline(always)]
    fn push_event(&self, event: &Event, words: &mut Words) {
        words.push(event.flags);
        words.push(self.state.seg[usize::from(seg::CS)].selector);
        words.push(event.ip);
        if let Some(code) = event.source.error_code() {
            words.push(code);
        }
    }

    fn deliver_quickly_64(&mut self, event: &Event) -> Option<()> {
        let old_mode = self.state.mode;
        let index = u32::from(event.vector) * 16;
        let is_plain = old_mode & !CLEARED == Mode::ALWAYS_64;
        if !is_plain || index + 15 > self.state.idtr.limit {
            return None;
        }
        let at = self.state.idtr.base.wrapping_add(index.into());
        let both = self.known_u64(at, ViewId::Supervisor)?;
        let high = self.known_u64(at.wrapping_add(8), ViewId::Supervisor)?;
        let gate = Descriptor { low: both as u32, high: (both >> 32) as u32, at };
        let (selector, off) = (gate.gate_selector(), u64::from(gate.gate_offset()) | high << 32);
        let d = self.known_code(selector)?;
        let (old_cpl, cpl) = (self.state.cpl, d.dpl());
        let is_code = self.is_open(&gate, event) && d.is_code64() && cpl <= old_cpl && cpl != 3;
        if !is_code || !is_canonical(off) {
            return None;
        }
        let sp = match gate.ist() {
            0 if cpl == old_cpl => self.state.gpr[4],
            0 => self.known_tss(4 + 8 * cpl)?,
            ist => self.known_tss(0x1C + 8 * ist)?,
        };
        let mut words = Words::NONE;
        words.push(self.ss().selector);
        words.push(self.state.gpr[4]);
        self.push_event(event, &mut words);
        let sp = self.write_words(&words, sp & !15, Size::B8, cpl)?;
        self.enter_handler(&gate, off, d.segment(selector), cpl);
        if cpl != old_cpl {
            self.state.seg[usize::from(seg::SS)] = Segment::null(cpl as u16);
        }
        self.state.gpr[4] = sp;
        self.enter_level(Mode::ALWAYS_64 | cpl << Mode::CPL_SHIFT);
        Some(())
    }

    /// Eight bytes at `at` in the 64-bit TSS.
    fn known_tss(&self, at: u32) -> Option<u64> {
        let tr = &self.state.tr;
        let lin = tr.base.wrapping_add(at.into());
        if at + 7 > tr.limit { None } else { self.known_u64(lin, ViewId::Supervisor) }
    }

    fn deliver_quickly_32(&mut self, event: &Event) -> Option<()> {
        let old_mode = self.state.mode;
        let index = u32::from(event.vector) * 8;
        let is_flat_now = old_mode & (FLAT_32 | Mode::CODE64 | Mode::VM86) == FLAT_32;
        if !is_flat_now || index + 7 > self.state.idtr.limit {
            return None;
        }
        let at = self.state.idtr.base.wrapping_add(index.into()) & 0xFFFF_FFFF;
        let both = self.known_u64(at, ViewId::Supervisor)?;
        let gate = Descriptor { low: both as u32, high: (both >> 32) as u32, at };
        let selector = gate.gate_selector();
        let d = self.known_code(selector)?;
        let code = d.segment(selector);
        let (old_cpl, cpl) = (self.state.cpl, d.dpl());
        let is_code = self.is_open(&gate, event) && cpl <= old_cpl && cpl != 3;
        if !is_code || !is_flat(&code) {
            return None;
        }
        let mut words = Words::NONE;
        let (stack, sp) = match cpl == old_cpl {
            true => (self.ss(), self.state.gpr[4] & 0xFFFF_FFFF),
            false => {
                words.push(self.ss().selector);
                words.push(self.state.gpr[4] & 0xFFFF_FFFF);
                self.known_inner_stack(cpl)?
            }
        };
        self.push_event(event, &mut words);
        let sp = self.write_words(&words, sp, Size::B4, cpl)?;
        self.enter_handler(&gate, u64::from(gate.gate_offset()), code, cpl);
        self.state.seg[usize::from(seg::SS)] = stack;
        self.state.gpr[4] = sp;
        self.sync_code_and_stack();
        self.enter_level(old_mode & !CLEARED | cpl << Mode::CPL_SHIFT);
        Some(())
    }

    /// The flat stack of level `cpl` from the 32-bit TSS.
    fn known_inner_stack(&self, cpl: u32) -> Option<(Segment, u64)> {
        let (tr, at) = (&self.state.tr, cpl * 8 + 4);
        if tr.attr & 8 == 0 || at + 5 > tr.limit {
            return None;
        }
        let at = tr.base.wrapping_add(at.into()) & 0xFFFF_FFFF;
        let sp = self.known_u32(at, ViewId::Supervisor)?;
        let selector = self.known_u32(at.wrapping_add(4) & 0xFFFF_FFFF, ViewId::Supervisor)?;
        let stack = self.known_stack(selector as u16, cpl)?;
        is_flat(&stack).then_some((stack, sp.into()))
    }

    fn deliver_quickly_real(&mut self, event: &Event) -> Option<()> {
        let index = u32::from(event.vector) * 4;
        let (cs, ss) = (self.state.seg[usize::from(seg::CS)], self.ss());
        let sp = self.state.gpr[4] & 0xFFFF;
        let is_plain =
            self.state.mode & (Mode::SINGLE | Mode::STACK32) == 0 && !ss.is_expand_down();
        if index + 3 > self.state.idtr.limit || !is_plain || sp & 1 != 0 || sp < 6 {
            return None;
        }
        let at = self.state.idtr.base.wrapping_add(index.into()) & 0xFFFF_FFFF;
        let entry = self.known_u32(at, ViewId::Supervisor)?;
        let (off, selector) = (entry & 0xFFFF, (entry >> 16) as u16);
        // Within one segment windows, mode and jump table stay.
        if selector != cs.selector || off > cs.limit || sp > u64::from(ss.limit) + 1 {
            return None;
        }
        let lin = ss.base.wrapping_add(sp - 6) & 0xFFFF_FFFF;
        let at = self.known(lin, 6, ViewId::Supervisor, true)?;
        if at & 1 != 0 || cs.base != u64::from(selector) << 4 || cs.attr & attr::P == 0 {
            return None;
        }
        let words = [event.ip, u64::from(cs.selector), u64::from(event.flags)];
        for (word, at) in words.into_iter().zip((at..).step_by(2)) {
            self.ram.write_cpu(at, Size::B2, word & 0xFFFF);
        }
        self.set_sp(sp - 6);
        self.state.eflags &= !(flags::IF | flags::TF | flags::AC | flags::RF);
        self.state.pc = off.into();
        self.state.tlb_base = self.state.views[0];
        Some(())
    }

    /// Windows of CS and SS after these changed.
    fn sync_code_and_stack(&mut self) {
        for n in [seg::CS, seg::SS] {
            self.state.window[usize::from(n)] = self.window_of(usize::from(n));
        }
    }
}

/// IRET.
impl Cpu {
    /// IRET of an operand size of `bytes`.
    pub(crate) fn return_quickly(&mut self, bytes: u32) -> Option<()> {
        let has_virtual = self.state.cr4 & (cr4::VME | cr4::PVI) != 0;
        let is_rare = self.state.eflags & (flags::VM | flags::NT) != 0;
        if has_virtual || is_rare || self.nmi_blocked || self.breaks_on_code() {
            return None;
        }
        match (self.state.cr0 & cr0::PE != 0, bytes) {
            (true, 8) if self.state.mode & !(3 << Mode::CPL_SHIFT) == Mode::ALWAYS_64 => {
                self.return_quickly_64()
            }
            (true, 4) if self.state.mode & (FLAT_32 | Mode::SINGLE | Mode::CODE64) == FLAT_32 => {
                self.return_quickly_32()
            }
            (false, 2) => self.return_quickly_real(),
            _ => None,
        }
    }

    /// The bits of EFLAGS that a return loads.
    const fn returned_flags(&self, bytes: u32) -> u32 {
        let mut mask = self.always_popped(bytes);
        if self.state.cpl <= self.state.iopl() {
            mask |= flags::IF;
        }
        if self.state.cpl == 0 {
            mask |= flags::IOPL | flags::VIF | flags::VIP;
        }
        mask
    }

    /// The code segment to return to, and its level.
    fn known_return(&self, selector: u16) -> Option<(Segment, u32)> {
        let (d, level) = (self.known_code(selector)?, rpl(selector));
        (d.dpl() == level && level >= self.state.cpl).then(|| (d.segment(selector), level))
    }

    fn return_quickly_64(&mut self) -> Option<()> {
        let (sp, view) = (self.state.gpr[4], self.view());
        let at = self.known(sp, 40, view, false)?;
        if at & 7 != 0 {
            return None;
        }
        let mut popped = [0; 5];
        for (slot, at) in popped.iter_mut().zip((at..).step_by(8)) {
            *slot = self.ram.read(at, Size::B8)?;
        }
        let [ip, selector, image, sp, ss] = popped;
        let (image, ss) = (image as u32, ss as u16);
        let (code, level) = self.known_return(selector as u16)?;
        let is_64 = code.attr & (attr::L | attr::DB) == attr::L;
        if !is_64 || image & flags::TF != 0 || !is_canonical(ip) {
            return None;
        }
        let stack = match is_null(ss) {
            true if level != 3 && rpl(ss) == level => Segment::null(ss),
            true => return None,
            false => self.known_stack(ss, level)?,
        };
        self.state.set_eflags_masked(image, self.returned_flags(8));
        self.set_cs(code, level);
        self.state.seg[usize::from(seg::SS)] = stack;
        self.state.gpr[4] = sp;
        self.drop_inner_segments();
        self.state.pc = ip;
        self.enter_level(Mode::ALWAYS_64 | level << Mode::CPL_SHIFT);
        Some(())
    }

    fn return_quickly_32(&mut self) -> Option<()> {
        let (sp, view) = (self.state.gpr[4] & 0xFFFF_FFFF, self.view());
        let at = self.known(sp, 12, view, false)?;
        if at & 3 != 0 {
            return None;
        }
        let ip = self.ram.read(at, Size::B4)?;
        let (code, level) = self.known_return(self.ram.read(at + 4, Size::B4)? as u16)?;
        let image = self.ram.read(at + 8, Size::B4)? as u32;
        if !is_flat(&code) || image & (flags::TF | flags::VM) != 0 {
            return None;
        }
        let (stack, sp) = match level == self.state.cpl {
            true => (self.ss(), sp.wrapping_add(12) & 0xFFFF_FFFF),
            false => {
                let at = self.known(sp, 20, view, false)?;
                let (sp, ss) =
                    (self.ram.read(at + 12, Size::B4)?, self.ram.read(at + 16, Size::B4)?);
                (self.known_stack(ss as u16, level)?, sp)
            }
        };
        if !is_flat(&stack) {
            return None;
        }
        let old = self.state.mode;
        self.state.set_eflags_masked(image, self.returned_flags(4));
        self.set_cs(code, level);
        self.state.seg[usize::from(seg::SS)] = stack;
        self.state.gpr[4] = sp;
        self.state.pc = ip;
        if level != old >> Mode::CPL_SHIFT & 3 && self.has_inner_segments() {
            self.drop_inner_segments();
            self.sync_mode();
            return Some(());
        }
        self.sync_code_and_stack();
        self.enter_level(old & !(3 << Mode::CPL_SHIFT) | level << Mode::CPL_SHIFT);
        Some(())
    }

    /// Within one segment of real mode.
    fn return_quickly_real(&mut self) -> Option<()> {
        let (cs, ss) = (self.state.seg[usize::from(seg::CS)], self.ss());
        let sp = self.state.gpr[4] & 0xFFFF;
        let is_plain = self.state.mode & (Mode::SINGLE | Mode::STACK32) == 0;
        if !is_plain || ss.is_expand_down() || sp + 6 > u64::from(ss.limit).min(0xFFFF) + 1 {
            return None;
        }
        let lin = ss.base.wrapping_add(sp) & 0xFFFF_FFFF;
        let at = self.known(lin, 6, ViewId::Supervisor, false)?;
        if at & 1 != 0 {
            return None;
        }
        let mut popped = [0; 3];
        for (slot, at) in popped.iter_mut().zip((at..).step_by(2)) {
            *slot = self.ram.read(at, Size::B2)? as u32;
        }
        let [ip, selector, image] = popped;
        let is_here = selector == u32::from(cs.selector) && cs.attr & attr::P != 0;
        let is_segment = cs.base == u64::from(cs.selector) << 4 && ip <= cs.limit;
        if !is_here || !is_segment || image & flags::TF != 0 {
            return None;
        }
        self.set_sp(sp + 6);
        let mask = self.always_popped(2) | flags::IF | flags::IOPL;
        self.state.set_eflags_masked(image, mask);
        self.state.pc = ip.into();
        Some(())
    }
}
