//! Delivery of interrupts and exceptions: real mode, protected-mode gates, double and triple fault.
//!
//! Source: SDM Vol. 2, "INT n/INTO/INT3/INT1"; Vol. 3A, "Interrupt and Exception Handling" and
//! "8086 Emulation".

use crate::cpu::{Cpu, cr0, is_canonical};
use crate::fault::{Fault, IDT, dr6, vector};
use crate::flags;
use crate::segment::{Descriptor, Segment, attr, error_code, is_null, system};
use crate::stack::Frame;
use crate::state::seg;
use crate::task::Reason;

/// Where an event comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    /// A device or NMI.
    External,
    /// An exception with its error code.
    Exception(Option<u32>),
    /// INT n, INT3, INTO: the gate's DPL is checked.
    Software,
    /// INT1: no DPL check, and EXT as for hardware events.
    Icebp,
}

impl Source {
    const fn is_ext(self) -> bool {
        matches!(self, Self::External | Self::Exception(_) | Self::Icebp)
    }
    pub(crate) const fn error_code(self) -> Option<u32> {
        match self {
            Self::Exception(code) => code,
            Self::External | Self::Software | Self::Icebp => None,
        }
    }
}

/// One event under delivery.
#[derive(Clone, Copy)]
pub(crate) struct Event {
    pub(crate) vector: u8,
    pub(crate) source: Source,
    /// Instruction pointer to push.
    pub(crate) ip: u64,
    /// EFLAGS image to push.
    pub(crate) flags: u32,
}

impl Event {
    /// The exception that it is, if it is one, as far as what follows from a second one depends on it.
    const fn exception(self) -> Option<Fault> {
        let Source::Exception(code) = self.source else { return None };
        let (is_coded, code) = match code {
            Some(code) => (0x100, code),
            None => (0, 0),
        };
        Some(Fault::from_raise(is_coded | self.vector as u32, code))
    }
}

/// What the run loop calls.
impl Cpu {
    /// Takes what is due before the next insn, in the order of priority: the #DB of the last insn, an
    /// NMI, an interrupt, an instruction breakpoint. True if something was taken.
    pub fn service(&mut self) -> bool {
        if self.shutdown {
            return false;
        }
        if self.is_shielded() {
            return self.takes_shielded_breakpoint();
        }
        if self.pending_db != 0 && self.take_pending_debug() {
            return true;
        }
        let took = self.state.shadow == 0 && self.take_interrupt();
        if self.has_virtual_interrupt() {
            self.deliver_fault(Fault::gp(0));
            return true;
        }
        took | self.take_code_breakpoint()
    }

    /// The same without interrupts: for the steps of a debugger outside, which stay in the code that it looks at.
    pub fn service_debug(&mut self) -> bool {
        if self.shutdown {
            return false;
        }
        if self.is_shielded() {
            return self.takes_shielded_breakpoint();
        }
        (self.pending_db != 0 && self.take_pending_debug()) || self.take_code_breakpoint()
    }

    /// Did the last insn load SS, so that nothing comes between it and the next one?
    const fn is_shielded(&self) -> bool {
        self.state.shadow != 0 && !self.shadow_is_sti
    }

    /// An instruction breakpoint behind a load of SS: Intel's processors pass over it (SDM Vol. 3, "Masking Exceptions and
    /// Interrupts When Switching Stacks"), AMD's take it and hold off only what is not a fault of the next insn.
    fn takes_shielded_breakpoint(&mut self) -> bool {
        self.caps.is_amd && self.take_code_breakpoint()
    }

    /// Is there something for [`service`](Self::service) to do, or the end, as far as no insn asked to leave for it? Cheap.
    pub fn wants_service(&self) -> bool {
        self.shutdown || (self.state.eflags & flags::IF != 0 && self.bus.intr())
    }

    /// Would [`service`](Self::service) find nothing to do, and does nothing else wait for the run loop?
    pub fn is_quiet(&self) -> bool {
        let s = &self.state;
        let is_asked = s.leave != 0 || s.shadow != 0 || s.halted != 0 || self.pending_db != 0;
        let is_watched = self.ferr || self.breaks_on_code() || self.has_virtual_interrupt();
        !is_asked && !is_watched && !self.wants_service()
    }

    fn take_interrupt(&mut self) -> bool {
        if !self.nmi_blocked && self.bus.take_nmi() {
            self.nmi_blocked = true;
            self.interrupt(vector::NMI);
            return true;
        }
        if self.state.eflags & flags::IF != 0 && self.bus.intr() {
            let n = self.bus.inta();
            self.interrupt(n);
            return true;
        }
        false
    }

    /// Delivers an external interrupt at the current instruction pointer.
    pub fn interrupt(&mut self, n: u8) {
        self.state.halted = 0;
        let event = self.event(n, Source::External, self.state.pc);
        if let Err(fault) = self.deliver(event) {
            self.deliver_fault(fault);
        }
    }

    /// Raises an exception at the instruction pointer in the state, with everything that may
    /// follow from it: double fault, shutdown.
    pub fn deliver_fault(&mut self, fault: Fault) {
        if fault.vector == vector::MF && self.state.cr0 & cr0::NE == 0 {
            // The board turns it into an interrupt; the insn is tried again until that comes.
            return self.drive_ferr(true);
        }
        let mut current = fault;
        self.state.halted = 0;
        if !fault.is_trap {
            // The insn will run again, and hit its data breakpoints again.
            self.pending_db = 0;
            self.watches_hit = 0;
        }
        loop {
            match self.deliver_one(current) {
                Ok(()) => return,
                Err(second) => match current.combine(second) {
                    Some(next) => current = next,
                    None => return self.shut_down(),
                },
            }
        }
    }

    /// Stops the CPU for good: a triple fault.
    pub(crate) fn shut_down(&mut self) {
        self.shutdown = true;
        self.ask_to_leave();
    }

    fn deliver_one(&mut self, fault: Fault) -> Result<(), Fault> {
        if fault.vector == vector::PF {
            self.state.cr2 = fault.info;
        }
        if fault.vector == vector::DB {
            self.set_debug_status(fault.info);
            self.state.dr[7] &= !(1 << 13);
        }
        let mut event = self.event(fault.vector, Source::Exception(fault.code), self.state.pc);
        // All faults, but not instruction breakpoints, ask for the insn to be run without looking at those.
        let is_breakpoint = fault.vector == vector::DB && fault.info & dr6::HITS != 0;
        if !fault.is_trap && !is_breakpoint {
            event.flags |= flags::RF;
        }
        self.deliver(event)
    }

    /// INT n, INT3, INTO and INT1.
    pub(crate) fn software_interrupt(
        &mut self,
        n: u8,
        next: u64,
        source: Source,
    ) -> Result<(), Fault> {
        let event = self.event(n, source, next);
        self.deliver(event)?;
        self.inhibit_step = event.flags & flags::TF != 0;
        Ok(())
    }

    /// Between two iterations of a repeated string insn RF is pushed as 1, so that a breakpoint at the insn is not met again
    /// (SDM Vol. 3B, "Instruction-Breakpoint Exception Condition").
    fn event(&self, vector: u8, source: Source, ip: u64) -> Event {
        let resume = if self.state.repeating != 0 { flags::RF } else { 0 };
        Event { vector, source, ip, flags: self.state.eflags() | resume }
    }

    fn deliver(&mut self, event: Event) -> Result<(), Fault> {
        match self.deliver_quickly(&event) {
            Some(()) => Ok(()),
            None => self.deliver_fully(event),
        }
    }

    #[inline(never)]
    pub(crate) fn deliver_fully(&mut self, event: Event) -> Result<(), Fault> {
        let done = match self.state.cr0 & cr0::PE != 0 {
            true if self.is_long() => self.deliver_long(event),
            true => self.deliver_protected(event),
            false => self.deliver_real(event),
        };
        done.map_err(|f| f.with_ext(event.source.is_ext()))?;
        self.state.shadow = 0;
        self.state.repeating = 0;
        self.sync_mode();
        Ok(())
    }

    /// Through the interrupt vector table.
    fn deliver_real(&mut self, event: Event) -> Result<(), Fault> {
        let index = u32::from(event.vector) * 4;
        if index + 3 > self.state.idtr.limit {
            return Err(Fault::gp((index * 2) | IDT));
        }
        let entry = self.sys_read(self.state.idtr.base.wrapping_add(u64::from(index)), 4)? as u32;
        let (off, selector) = (entry & 0xFFFF, (entry >> 16) as u16);
        let mut frame = self.frame();
        frame.push(2, event.flags & 0xFFFF);
        frame.push(2, self.state.seg[usize::from(seg::CS)].selector);
        frame.push(2, event.ip);
        let off = u64::from(off);
        let segment = self.code_8086(selector, off)?;
        let (_, sp) = self.write_frame(&frame)?;
        self.set_sp(sp);
        self.state.eflags &= !(flags::IF | flags::TF | flags::AC | flags::RF);
        self.jump_8086(segment, off);
        Ok(())
    }

    /// Through the IDT.
    fn deliver_protected(&mut self, event: Event) -> Result<(), Fault> {
        let code = (u32::from(event.vector) * 8) | IDT;
        if u32::from(event.vector) * 8 + 7 > self.state.idtr.limit {
            return Err(Fault::gp(code));
        }
        let at = self.state.idtr.base.wrapping_add(u64::from(event.vector) * 8) & 0xFFFF_FFFF;
        let both = self.sys_read(at, 8)?;
        let gate = Descriptor { low: both as u32, high: (both >> 32) as u32, at };
        use system::{INT_GATE16, INT_GATE32, TASK_GATE, TRAP_GATE16, TRAP_GATE32};
        let is_gate =
            matches!(gate.kind(), TASK_GATE | INT_GATE16 | TRAP_GATE16 | INT_GATE32 | TRAP_GATE32);
        self.check_idt_gate(&gate, is_gate, event, code)?;
        if gate.kind() == TASK_GATE {
            return self.deliver_task(gate.gate_selector(), event);
        }
        self.deliver_gate(&gate, event)
    }

    /// An IDT entry must be a gate of a kind that the mode has, open to software interrupts of this level, and present.
    fn check_idt_gate(
        &self,
        gate: &Descriptor,
        is_gate: bool,
        event: Event,
        code: u32,
    ) -> Result<(), Fault> {
        let is_closed = event.source == Source::Software && gate.dpl() < self.state.cpl;
        if !gate.is_system() || !is_gate || is_closed {
            return Err(Fault::gp(code));
        }
        if gate.is_present() { Ok(()) } else { Err(Fault::np(code)) }
    }

    fn deliver_task(&mut self, selector: u16, event: Event) -> Result<(), Fault> {
        let tss = self.gate_tss(selector)?;
        let reason = Reason::Interrupt {
            flags: event.flags,
            is_ext: event.source.is_ext(),
            exception: event.exception(),
        };
        self.switch_task(selector, tss, reason, event.ip as u32)
    }

    fn deliver_gate(&mut self, gate: &Descriptor, event: Event) -> Result<(), Fault> {
        let selector = gate.gate_selector();
        if is_null(selector) {
            return Err(Fault::gp(0));
        }
        let mut d = self.descriptor_or(selector, Fault::gp)?;
        if !d.is_code() || d.dpl() > self.state.cpl {
            return Err(Fault::gp(error_code(selector)));
        }
        if !d.is_present() {
            return Err(Fault::np(error_code(selector)));
        }
        let is_inner = !d.is_conforming() && d.dpl() < self.state.cpl;
        if self.is_vm86() && !(is_inner && d.dpl() == 0) {
            return Err(Fault::gp(error_code(selector)));
        }
        let bytes = if gate.kind() & 8 != 0 { 4 } else { 2 };
        let cpl = if is_inner { d.dpl() } else { self.state.cpl };
        let mut frame = if is_inner { self.inner_frame(cpl, bytes)? } else { self.frame() };
        frame.push(bytes, event.flags);
        frame.push(bytes, self.state.seg[usize::from(seg::CS)].selector);
        frame.push(bytes, event.ip);
        if let Some(code) = event.source.error_code() {
            frame.push(bytes, code);
        }
        let segment = d.segment(selector);
        self.check_offset(&segment, u64::from(gate.gate_offset()))?;
        self.mark_accessed(&mut d)?;
        let (stack, sp) = self.write_frame(&frame)?;
        let code = Segment { attr: d.attr(), ..segment };
        self.enter_handler(gate, u64::from(gate.gate_offset()), code, cpl);
        self.set_inner_stack(stack, sp, cpl);
        Ok(())
    }

    /// The inner stack with the interrupted stack pointer (and, from virtual-8086 mode, the data
    /// segments) on it.
    fn inner_frame(&mut self, cpl: u32, bytes: u32) -> Result<Frame, Fault> {
        let (stack, sp) = self.inner_stack(cpl)?;
        let mut frame = Frame::new(stack, sp, cpl, error_code(stack.selector));
        if self.is_vm86() {
            for n in [seg::GS, seg::FS, seg::DS, seg::ES] {
                frame.push(bytes, self.state.seg[usize::from(n)].selector);
            }
        }
        frame.push(bytes, self.ss().selector);
        frame.push(bytes, self.state.gpr[4]);
        Ok(frame)
    }

    /// Commits CS:IP and EFLAGS of a handler.
    pub(crate) fn enter_handler(&mut self, gate: &Descriptor, off: u64, code: Segment, cpl: u32) {
        if self.is_vm86() {
            for n in [seg::GS, seg::FS, seg::DS, seg::ES] {
                self.state.seg[usize::from(n)] = Segment::null(0);
            }
        }
        let is_interrupt_gate = gate.kind() & 1 == 0;
        let mut cleared = flags::TF | flags::VM | flags::RF | flags::NT;
        if is_interrupt_gate {
            cleared |= flags::IF;
        }
        self.state.eflags &= !cleared;
        self.set_cs(code, cpl);
        self.state.pc = off;
    }

    /// Pushes an error code on the stack of a task just entered through a task gate.
    pub(crate) fn push_task_error(&mut self, code: u32) -> Result<(), Fault> {
        let bytes = if self.state.tr.attr & 8 != 0 { 4 } else { 2 };
        let mut frame = self.frame();
        frame.push(bytes, code);
        let (_, sp) = self.write_frame(&frame)?;
        self.set_sp(sp);
        Ok(())
    }
}

/// IA-32e mode: 16-byte gates, 64-bit handlers, stacks by IST or level.
impl Cpu {
    fn deliver_long(&mut self, event: Event) -> Result<(), Fault> {
        let code = (u32::from(event.vector) * 8) | IDT;
        let index = u32::from(event.vector) * 16;
        if index + 15 > self.state.idtr.limit {
            return Err(Fault::gp(code));
        }
        let at = self.state.idtr.base.wrapping_add(u64::from(index));
        let both = self.sys_read(at, 8)?;
        let high = self.sys_read(at.wrapping_add(8), 8)? & 0xFFFF_FFFF;
        let gate = Descriptor { low: both as u32, high: (both >> 32) as u32, at };
        let is_gate = matches!(gate.kind(), system::INT_GATE32 | system::TRAP_GATE32);
        self.check_idt_gate(&gate, is_gate, event, code)?;
        self.deliver_gate_64(&gate, u64::from(gate.gate_offset()) | high << 32, event)
    }

    fn deliver_gate_64(&mut self, gate: &Descriptor, off: u64, event: Event) -> Result<(), Fault> {
        let selector = gate.gate_selector();
        if is_null(selector) {
            return Err(Fault::gp(0));
        }
        let mut d = self.descriptor_or(selector, Fault::gp)?;
        if !d.is_code() || d.dpl() > self.state.cpl || !d.is_code64() {
            return Err(Fault::gp(error_code(selector)));
        }
        if !d.is_present() {
            return Err(Fault::np(error_code(selector)));
        }
        let is_inner = !d.is_conforming() && d.dpl() < self.state.cpl;
        let cpl = if is_inner { d.dpl() } else { self.state.cpl };
        let sp = match gate.ist() {
            0 if is_inner => self.inner_sp_64(cpl)?,
            0 => self.state.gpr[4],
            ist => self.tss_field_64(0x1C + 8 * ist)?,
        };
        let stack = if is_inner { Segment::null(cpl as u16) } else { self.ss() };
        let mut frame = Frame::new_64(stack, sp & !15, cpl);
        frame.push(8, self.ss().selector);
        frame.push(8, self.state.gpr[4]);
        frame.push(8, event.flags);
        frame.push(8, self.state.seg[usize::from(seg::CS)].selector);
        frame.push(8, event.ip);
        if let Some(code) = event.source.error_code() {
            frame.push(8, code);
        }
        if !is_canonical(off) {
            return Err(Fault::gp(0));
        }
        self.mark_accessed(&mut d)?;
        let (stack, sp) = self.write_frame(&frame)?;
        let code = Segment { attr: d.attr(), ..d.segment(selector) };
        self.enter_handler(gate, off, code, cpl);
        self.state.seg[usize::from(seg::SS)] = stack;
        self.state.gpr[4] = sp;
        Ok(())
    }
}

/// IRET.
impl Cpu {
    /// IRET in all its forms.
    pub(crate) fn interrupt_return(&mut self, osz: u32, next: u64) -> Result<(), Fault> {
        match self.return_quickly(osz / 8) {
            Some(()) => Ok(()),
            None => self.return_fully(osz, next),
        }
    }

    #[inline(never)]
    pub(crate) fn return_fully(&mut self, osz: u32, next: u64) -> Result<(), Fault> {
        let bytes = osz / 8;
        // By a task switch and with a fault, too (SDM Vol. 3A, "Handling Multiple NMIs").
        if std::mem::take(&mut self.nmi_blocked) {
            self.ask_to_leave(); // another may wait
        }
        if self.is_vm86() && self.state.iopl() != 3 {
            let is_virtual = self.has_virtual_if();
            return if is_virtual { self.return_virtual(osz) } else { Err(Fault::gp(0)) };
        }
        if self.is_protected() && self.state.eflags & flags::NT != 0 {
            if self.is_long() {
                return Err(Fault::gp(0));
            }
            return self.return_task(next as u32);
        }
        let (ip, selector, image) = self.peek_return(bytes, true)?;
        let is_32 = bytes == 4 && !self.is_long();
        if !self.is_protected() {
            let segment = self.code_8086(selector, ip)?;
            let iopl = if self.is_vm86() { 0 } else { flags::IOPL };
            self.set_sp(self.sp().wrapping_add(u64::from(3 * bytes)));
            self.state.set_eflags_masked(image, self.always_popped(bytes) | flags::IF | iopl);
            self.jump_8086(segment, ip);
        } else if image & flags::VM != 0 && is_32 && self.state.cpl == 0 {
            self.return_to_vm86(ip, selector, image)?;
        } else {
            self.return_protected(bytes, ip, selector, image)?;
        }
        if self.has_virtual_interrupt() {
            self.ask_to_leave();
        }
        self.take_resume_flag(bytes, image);
        Ok(())
    }

    /// RF of a popped image: kept only while an instruction breakpoint is armed that it could hold off.
    fn take_resume_flag(&mut self, bytes: u32, image: u32) {
        if bytes >= 4 && image & flags::RF != 0 && self.breaks_on_code() {
            self.state.eflags |= flags::RF;
            self.keep_rf = true;
        }
    }

    fn return_protected(
        &mut self,
        bytes: u32,
        ip: u64,
        selector: u16,
        image: u32,
    ) -> Result<(), Fault> {
        let old_cpl = self.state.cpl;
        let (mut d, segment) = self.return_code(selector)?;
        let level = u32::from(selector & 3);
        let to_64 = self.is_long() && segment.attr & attr::L != 0;
        // 64-bit code always pops SS and the stack pointer.
        let outer = match level == old_cpl && !self.is_code64() {
            true => None,
            false => {
                let (sp, ss) = self.peek_outer(3 * bytes, bytes)?;
                Some((self.outer_stack(ss, level, to_64)?, sp))
            }
        };
        let ip = self.target(&segment, ip)?;
        self.mark_accessed(&mut d)?;
        let mut mask = self.always_popped(bytes);
        if old_cpl <= self.state.iopl() {
            mask |= flags::IF;
        }
        if old_cpl == 0 {
            mask |= flags::IOPL;
            mask |= if bytes >= 4 { flags::VIF | flags::VIP } else { 0 };
        }
        self.state.set_eflags_masked(image, mask);
        let code = Segment { attr: d.attr(), ..segment };
        match outer {
            Some((stack, sp)) => self.enter_outer(code, ip, stack, sp),
            None => {
                self.set_sp(self.sp().wrapping_add(u64::from(3 * bytes)));
                self.set_cs(code, old_cpl);
                self.state.pc = ip;
                self.sync_mode();
            }
        }
        Ok(())
    }

    /// IRET at CPL 0 with VM set in the popped image.
    fn return_to_vm86(&mut self, ip: u64, selector: u16, image: u32) -> Result<(), Fault> {
        let mut popped = [0; 6];
        for (i, slot) in (3..).zip(&mut popped) {
            *slot = self.peek_stack(i, 4)?;
        }
        if ip > 0xFFFF {
            return Err(Fault::gp(0));
        }
        let [sp, ss, es, ds, fs, gs] = popped;
        self.state.set_eflags(image & !flags::RF);
        let list = [
            (seg::CS, u64::from(selector)),
            (seg::SS, ss),
            (seg::ES, es),
            (seg::DS, ds),
            (seg::FS, fs),
            (seg::GS, gs),
        ];
        for (n, selector) in list {
            self.state.seg[usize::from(n)] = Segment::of_8086(selector as u16, attr::VM86);
        }
        self.state.gpr[4] = sp;
        self.state.cpl = 3;
        self.state.pc = ip;
        self.sync_mode();
        Ok(())
    }
}

/// EFLAGS images.
impl Cpu {
    /// EFLAGS bits that IRET and POPF load at any privilege level; RF is apart.
    pub(crate) const fn always_popped(&self, bytes: u32) -> u32 {
        let low = flags::ARITH | flags::TF | flags::DF | flags::NT;
        let id = if self.caps.has_cpuid { flags::ID } else { 0 };
        if bytes >= 4 { low | flags::AC | id } else { low }
    }
}
