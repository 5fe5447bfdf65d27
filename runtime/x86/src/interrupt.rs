//! Delivery of interrupts and exceptions: real mode, protected-mode gates, double and triple fault.
//!
//! Source: SDM Vol. 2, "INT n/INTO/INT3/INT1"; Vol. 3A, "Interrupt and Exception Handling" and
//! "8086 Emulation".

use crate::cpu::Cpu;
use crate::far::check_offset;
use crate::fault::{Fault, IDT, vector};
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
    const fn error_code(self) -> Option<u32> {
        match self {
            Self::Exception(code) => code,
            Self::External | Self::Software | Self::Icebp => None,
        }
    }
}

/// One event under delivery.
#[derive(Clone, Copy)]
struct Event {
    vector: u8,
    source: Source,
    /// Instruction pointer to push.
    ip: u32,
    /// EFLAGS image to push.
    flags: u32,
}

/// What the run loop calls.
impl Cpu {
    /// Takes an NMI or interrupt if one is pending and allowed; true if one was taken.
    pub fn service(&mut self) -> bool {
        if self.state.shadow != 0 || self.shutdown {
            return false;
        }
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
        let event = self.event(n, Source::External, self.state.pc as u32);
        if let Err(fault) = self.deliver(event) {
            self.deliver_fault(fault);
        }
    }

    /// Raises an exception at the instruction pointer in the state, with everything that may
    /// follow from it: double fault, shutdown.
    pub fn deliver_fault(&mut self, fault: Fault) {
        let mut current = fault;
        self.state.halted = 0;
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

    /// The #DB trap after an insn that began with TF set, unless the insn held it off: software
    /// interrupts clear TF themselves, and loads of SS shield their successor.
    pub fn finish_step(&mut self) {
        let is_inhibited = std::mem::take(&mut self.inhibit_step);
        if !is_inhibited && (self.state.shadow == 0 || self.shadow_is_sti) {
            self.deliver_fault(Fault::db_trap(crate::fault::dr6::BS));
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
            self.state.dr[6] |= fault.info;
            self.state.dr[7] &= !(1 << 13);
        }
        let mut event =
            self.event(fault.vector, Source::Exception(fault.code), self.state.pc as u32);
        if !fault.is_trap {
            event.flags |= flags::RF;
        }
        self.deliver(event)
    }

    /// INT n, INT3, INTO and INT1.
    pub(crate) fn software_interrupt(
        &mut self,
        n: u8,
        next: u32,
        source: Source,
    ) -> Result<(), Fault> {
        let event = self.event(n, source, next);
        self.deliver(event)?;
        self.inhibit_step = event.flags & flags::TF != 0;
        Ok(())
    }

    fn event(&self, vector: u8, source: Source, ip: u32) -> Event {
        Event { vector, source, ip, flags: self.state.eflags() }
    }

    fn deliver(&mut self, event: Event) -> Result<(), Fault> {
        let done = match self.state.cr0 & crate::cpu::cr0::PE != 0 {
            true => self.deliver_protected(event),
            false => self.deliver_real(event),
        };
        done.map_err(|f| f.with_ext(event.source.is_ext()))?;
        self.state.shadow = 0;
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
        frame.push(2, u32::from(self.state.seg[usize::from(seg::CS)].selector));
        frame.push(2, event.ip);
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
        if !gate.is_system() || !is_gate {
            return Err(Fault::gp(code));
        }
        if event.source == Source::Software && gate.dpl() < self.state.cpl {
            return Err(Fault::gp(code));
        }
        if !gate.is_present() {
            return Err(Fault::np(code));
        }
        if gate.kind() == TASK_GATE {
            return self.deliver_task(gate.gate_selector(), event);
        }
        self.deliver_gate(&gate, event)
    }

    fn deliver_task(&mut self, selector: u16, event: Event) -> Result<(), Fault> {
        let tss = self.gate_tss(selector)?;
        let reason = Reason::Interrupt {
            flags: event.flags,
            code: event.source.error_code(),
            is_ext: event.source.is_ext(),
        };
        self.switch_task(selector, tss, reason, event.ip)
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
        frame.push(bytes, u32::from(self.state.seg[usize::from(seg::CS)].selector));
        frame.push(bytes, event.ip);
        if let Some(code) = event.source.error_code() {
            frame.push(bytes, code);
        }
        let segment = d.segment(selector);
        check_offset(&segment, gate.gate_offset())?;
        self.mark_accessed(&mut d)?;
        let (stack, sp) = self.write_frame(&frame)?;
        self.enter_handler(gate, Segment { attr: d.attr(), ..segment }, cpl);
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
                frame.push(bytes, u32::from(self.state.seg[usize::from(n)].selector));
            }
        }
        frame.push(bytes, u32::from(self.ss().selector));
        frame.push(bytes, self.state.gpr[4] as u32);
        Ok(frame)
    }

    /// Commits CS:IP and EFLAGS of a handler.
    fn enter_handler(&mut self, gate: &Descriptor, code: Segment, cpl: u32) {
        if self.is_vm86() {
            for n in [seg::GS, seg::FS, seg::DS, seg::ES] {
                self.state.seg[usize::from(n)] = Segment::null(0);
            }
        }
        let is_interrupt_gate = gate.kind() & 1 == 0;
        let mut off = flags::TF | flags::VM | flags::RF | flags::NT;
        if is_interrupt_gate {
            off |= flags::IF;
        }
        self.state.eflags &= !off;
        self.set_cs(code, cpl);
        self.state.pc = u64::from(gate.gate_offset());
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

/// IRET.
impl Cpu {
    /// IRET in all its forms.
    pub(crate) fn interrupt_return(&mut self, osz: u32, next: u32) -> Result<(), Fault> {
        let bytes = osz / 8;
        if self.is_vm86() && self.state.iopl() != 3 {
            return Err(Fault::gp(0));
        }
        if self.is_protected() && self.state.eflags & flags::NT != 0 {
            return self.return_task(next);
        }
        let ip = self.peek_stack(0, bytes)?;
        let selector = self.peek_stack(1, bytes)? as u16;
        let image = self.peek_stack(2, bytes)?;
        if !self.is_protected() {
            let segment = self.code_8086(selector, ip)?;
            let iopl = if self.is_vm86() { 0 } else { flags::IOPL };
            self.set_sp(self.sp().wrapping_add(u64::from(3 * bytes)));
            self.state.set_eflags_masked(image, always_popped(bytes) | flags::IF | iopl);
            self.jump_8086(segment, ip);
        } else if image & flags::VM != 0 && bytes == 4 && self.state.cpl == 0 {
            self.return_to_vm86(ip, selector, image)?;
        } else {
            self.return_protected(bytes, ip, selector, image)?;
        }
        self.nmi_blocked = false;
        Ok(())
    }

    fn return_protected(
        &mut self,
        bytes: u32,
        ip: u32,
        selector: u16,
        image: u32,
    ) -> Result<(), Fault> {
        let old_cpl = self.state.cpl;
        let (mut d, segment) = self.return_code(selector)?;
        let level = u32::from(selector & 3);
        let outer = match level == old_cpl {
            true => None,
            false => {
                let sp = self.peek_stack(3, bytes)?;
                let ss = self.peek_stack(4, bytes)? as u16;
                Some((self.stack_segment(ss, level, Fault::gp)?, sp))
            }
        };
        check_offset(&segment, ip)?;
        self.mark_accessed(&mut d)?;
        let mut mask = always_popped(bytes);
        if old_cpl <= self.state.iopl() {
            mask |= flags::IF;
        }
        if old_cpl == 0 {
            mask |= flags::IOPL;
            mask |= if bytes == 4 { flags::VIF | flags::VIP } else { 0 };
        }
        self.state.set_eflags_masked(image, mask);
        let code = Segment { attr: d.attr(), ..segment };
        match outer {
            Some((stack, sp)) => self.enter_outer(code, ip, stack, u64::from(sp)),
            None => {
                self.set_sp(self.sp().wrapping_add(u64::from(3 * bytes)));
                self.set_cs(code, old_cpl);
                self.state.pc = u64::from(ip);
                self.sync_mode();
            }
        }
        Ok(())
    }

    /// IRET at CPL 0 with VM set in the popped image.
    fn return_to_vm86(&mut self, ip: u32, selector: u16, image: u32) -> Result<(), Fault> {
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
            (seg::CS, u32::from(selector)),
            (seg::SS, ss),
            (seg::ES, es),
            (seg::DS, ds),
            (seg::FS, fs),
            (seg::GS, gs),
        ];
        for (n, selector) in list {
            self.state.seg[usize::from(n)] = Segment::of_8086(selector as u16, attr::VM86);
        }
        self.state.gpr[4] = u64::from(sp);
        self.state.cpl = 3;
        self.state.pc = u64::from(ip);
        self.sync_mode();
        Ok(())
    }
}

/// EFLAGS bits that IRET and POPF load at any privilege level; RF is dropped at once because no
/// instruction breakpoints exist that it could hold off.
pub(crate) const fn always_popped(bytes: u32) -> u32 {
    let low = flags::ARITH | flags::TF | flags::DF | flags::NT;
    if bytes == 4 { low | flags::AC | flags::ID } else { low }
}
