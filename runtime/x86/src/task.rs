//! Task switches through 16- and 32-bit TSSes.
//!
//! Up to the commit point a fault leaves everything as it was and belongs to the old task. After it
//! the new task is current and faults are delivered there at once, so that callers see success.
//! Source: SDM Vol. 3A, "Task Management".

use mem::Access;

use crate::cpu::{Cpu, cr0};
use crate::fault::{Fault, dr6};
use crate::flags;
use crate::segment::{Descriptor, Segment, attr, error_code, is_null, rpl, system};
use crate::state::seg;

/// What made the task switch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reason {
    Jump,
    Call,
    Return,
    /// An interrupt or exception: EFLAGS image to save, EXT for faults, and the exception if it is one.
    Interrupt {
        flags: u32,
        is_ext: bool,
        exception: Option<Fault>,
    },
}

/// How deep faults inside task switches may nest before the CPU shuts down.
const MAX_DEPTH: u32 = 4;

/// Offsets of the fields of a TSS.
struct Layout {
    bytes: u32,
    min_limit: u32,
    ip: u64,
    flags: u64,
    gpr: u64,
    seg: u64,
    /// Distance between segment fields, and their number.
    segs: (u64, usize),
    ldt: u64,
}

const TSS32: Layout = Layout {
    bytes: 4,
    min_limit: 0x67,
    ip: 0x20,
    flags: 0x24,
    gpr: 0x28,
    seg: 0x48,
    segs: (4, 6),
    ldt: 0x60,
};
const TSS16: Layout = Layout {
    bytes: 2,
    min_limit: 0x2B,
    ip: 0x0E,
    flags: 0x10,
    gpr: 0x12,
    seg: 0x22,
    segs: (2, 4),
    ldt: 0x2A,
};
/// CR3 in a 32-bit TSS.
const CR3: u64 = 0x1C;
/// The T bit's word in a 32-bit TSS.
const TRAP: u64 = 0x64;

const fn layout(attr: u16) -> &'static Layout {
    if attr & 8 != 0 { &TSS32 } else { &TSS16 }
}

/// The dynamic part of a TSS.
#[derive(Default)]
struct Image {
    cr3: Option<u64>,
    ip: u32,
    flags: u32,
    gpr: [u32; 8],
    seg: [u16; 6],
    ldt: u16,
    has_trap: bool,
}

impl Cpu {
    /// Switches to the task of `tss`, which the caller has found present and of the right type.
    /// `next` is the instruction pointer saved in the old task.
    pub(crate) fn switch_task(
        &mut self,
        selector: u16,
        mut tss: Descriptor,
        reason: Reason,
        next: u32,
    ) -> Result<(), Fault> {
        let code = error_code(selector);
        let new = layout(tss.attr());
        let old = layout(self.state.tr.attr);
        if tss.limit() < new.min_limit {
            return Err(Fault::ts(code));
        }
        if self.state.tr.limit < old.min_limit {
            return Err(Fault::ts(error_code(self.state.tr.selector)));
        }
        self.read_image(tss.base(), new)?;
        let old_tr = self.state.tr;
        let old_descriptor = self.descriptor(old_tr.selector)?;
        self.sys_span(old_tr.base.wrapping_add(old.ip), 0x48, Access::Write)?;
        self.sys_span(tss.base(), 2, Access::Write)?;
        self.sys_span(tss.at, 8, Access::Write)?;

        let mut saved = match reason {
            Reason::Interrupt { flags, .. } => flags,
            Reason::Jump | Reason::Call | Reason::Return => self.state.eflags(),
        };
        if reason == Reason::Return {
            saved &= !flags::NT;
        }
        if matches!(reason, Reason::Jump | Reason::Return)
            && let Some(mut d) = old_descriptor
        {
            self.set_busy(&mut d, false)?;
        }
        self.save_image(old_tr.base, old, saved, next)?;
        // Read after the save: IRET may return to the very task it leaves.
        let mut image = self.read_image(tss.base(), new)?;
        if matches!(reason, Reason::Call | Reason::Interrupt { .. }) {
            self.sys_write(tss.base(), 2, u64::from(old_tr.selector))?;
            image.flags |= flags::NT;
        }
        if reason != Reason::Return {
            self.set_busy(&mut tss, true)?;
        }
        self.state.tr = tss.segment(selector);
        self.state.cr0 |= cr0::TS;
        let is_ext = matches!(reason, Reason::Interrupt { is_ext: true, .. });
        let first = match reason {
            Reason::Interrupt { exception, .. } => exception,
            Reason::Jump | Reason::Call | Reason::Return => None,
        };
        self.commit(&image);
        let done =
            self.load_task_segments(&image).and_then(|()| match first.and_then(|f| f.code) {
                Some(code) => self.push_task_error(code),
                None => Ok(()),
            });
        self.sync_mode();
        match done {
            Err(fault) => self.deliver_nested(first, fault.with_ext(is_ext)),
            Ok(()) if image.has_trap => self.deliver_nested(None, Fault::db_trap(dr6::BT)),
            Ok(()) => {}
        }
        Ok(())
    }

    /// A fault in the new task. If the task is to handle the exception `first`, that one is not delivered before the task runs: with the
    /// fault it makes a double fault or a shutdown, as in front of any other handler.
    fn deliver_nested(&mut self, first: Option<Fault>, fault: Fault) {
        let next = first.map_or(Some(fault), |first| first.combine(fault));
        let Some(fault) = next.filter(|_| self.delivery_depth < MAX_DEPTH) else {
            return self.shut_down();
        };
        self.delivery_depth += 1;
        self.deliver_fault(fault);
        self.delivery_depth -= 1;
    }

    /// IRET with NT set: back along the link in the current TSS.
    pub(crate) fn return_task(&mut self, next: u32) -> Result<(), Fault> {
        let selector = self.sys_read(self.state.tr.base, 2)? as u16;
        let code = error_code(selector);
        if is_null(selector) || selector & 4 != 0 {
            return Err(Fault::ts(code));
        }
        let d = self.descriptor_or(selector, Fault::ts)?;
        let busy = system::BUSY;
        if !d.is_system() || (d.kind() != system::TSS16 | busy && d.kind() != system::TSS32 | busy)
        {
            return Err(Fault::ts(code));
        }
        if !d.is_present() {
            return Err(Fault::np(code));
        }
        self.switch_task(selector, d, Reason::Return, next)
    }

    fn read_image(&mut self, base: u64, l: &Layout) -> Result<Image, Fault> {
        let mut image = Image::default();
        let field = |cpu: &mut Self, at: u64| cpu.sys_read(base.wrapping_add(at), l.bytes);
        image.ip = field(self, l.ip)? as u32;
        image.flags = field(self, l.flags)? as u32;
        for (i, slot) in (0..).zip(&mut image.gpr) {
            *slot = field(self, l.gpr + i * u64::from(l.bytes))? as u32;
        }
        let (step, n) = l.segs;
        for (i, slot) in (0..).zip(&mut image.seg[..n]) {
            *slot = field(self, l.seg + i * step)? as u16;
        }
        image.ldt = field(self, l.ldt)? as u16;
        if l.bytes == 4 {
            image.cr3 = Some(field(self, CR3)?);
            image.has_trap = field(self, TRAP)? & 1 != 0;
        }
        Ok(image)
    }

    fn save_image(&mut self, base: u64, l: &Layout, flags: u32, ip: u32) -> Result<(), Fault> {
        let at = |off: u64| base.wrapping_add(off);
        self.sys_write(at(l.ip), l.bytes, u64::from(ip))?;
        self.sys_write(at(l.flags), l.bytes, u64::from(flags))?;
        for i in 0..8 {
            let value = self.state.gpr[i];
            self.sys_write(at(l.gpr + i as u64 * u64::from(l.bytes)), l.bytes, value)?;
        }
        let (step, n) = l.segs;
        for i in 0..n {
            let selector = u64::from(self.state.seg[i].selector);
            self.sys_write(at(l.seg + i as u64 * step), 2, selector)?;
        }
        Ok(())
    }

    /// Everything of the new task that needs no check. Segments become null until loaded.
    fn commit(&mut self, image: &Image) {
        if let Some(cr3) = image.cr3.filter(|_| self.state.cr0 & cr0::PG != 0) {
            self.load_task_cr3(cr3);
        }
        let s = &mut self.state;
        s.pc = u64::from(image.ip);
        s.set_eflags(image.flags & !flags::RF);
        s.gpr[..8].copy_from_slice(&image.gpr.map(u64::from));
        for (segment, &selector) in s.seg.iter_mut().zip(&image.seg) {
            *segment = Segment::null(selector);
        }
        s.ldtr = Segment::null(image.ldt);
        // The breakpoints that are local to a task.
        s.dr[7] &= !0x155;
        // Until SS is loaded a handler must not use it: at level 3 it gets the stack of its own level.
        s.cpl = 3;
        s.ready = 0;
        self.arm_breakpoints(false);
    }

    /// Loads LDTR and the segment registers of the new task.
    fn load_task_segments(&mut self, image: &Image) -> Result<(), Fault> {
        if !is_null(image.ldt) {
            self.state.ldtr = self.ldt_segment(image.ldt, Fault::ts, Fault::ts)?;
        }
        if self.is_vm86() {
            for (segment, &selector) in self.state.seg.iter_mut().zip(&image.seg) {
                *segment = Segment::of_8086(selector, attr::VM86);
            }
            return self.check_offset(&self.state.seg[usize::from(seg::CS)], u64::from(image.ip));
        }
        let (cs, ss) = (image.seg[usize::from(seg::CS)], usize::from(seg::SS));
        let cpl = rpl(cs);
        self.state.seg[ss] = self.stack_segment(image.seg[ss], cpl, Fault::ts)?;
        self.state.cpl = cpl;
        let code = self.task_code(cs)?;
        self.set_cs(code, cpl);
        for n in [seg::ES, seg::DS, seg::FS, seg::GS].map(usize::from) {
            self.state.seg[n] = self.data_segment(image.seg[n], Fault::ts)?;
        }
        self.check_offset(&code, u64::from(image.ip))
    }

    /// The checks of CS in a TSS.
    fn task_code(&mut self, selector: u16) -> Result<Segment, Fault> {
        let code = error_code(selector);
        if is_null(selector) {
            return Err(Fault::ts(0));
        }
        let mut d = self.descriptor_or(selector, Fault::ts)?;
        let level = rpl(selector);
        let is_allowed = if d.is_conforming() { d.dpl() <= level } else { d.dpl() == level };
        if !d.is_code() || !is_allowed {
            return Err(Fault::ts(code));
        }
        if !d.is_present() {
            return Err(Fault::np(code));
        }
        self.mark_accessed(&mut d)?;
        Ok(d.segment(selector))
    }
}
