//! Virtual interrupts: CR4.VME in virtual-8086 mode, CR4.PVI at level 3 of protected mode, where IOPL keeps programs from IF.
//!
//! CLI, STI, PUSHF, POPF and IRET see VIF in its place (`Mode::VIRTUAL`), and a bitmap in the TSS says which INT n the 8086
//! program's own vector table serves. Source: SDM Vol. 3A, "8086 Emulation", of it "Class 3 - Software Interrupt Handling in
//! Virtual-8086 Mode" and "Protected-Mode Virtual Interrupts"; Vol. 2, the instructions.

use crate::cpu::{Cpu, cr0, cr4};
use crate::fault::Fault;
use crate::flags;
use crate::segment::attr;
use crate::state::seg;

/// Limit of the smallest 32-bit TSS.
const TSS_LIMIT: u32 = 0x67;
/// I/O map base in it.
const IO_MAP_BASE: u64 = 0x66;
/// Bytes of the redirection bitmap, which ends where the I/O map begins.
const BITMAP_BYTES: u32 = 32;

impl Cpu {
    /// Does VIF stand for IF?
    pub(crate) const fn has_virtual_if(&self) -> bool {
        let s = &self.state;
        let bit = if self.is_vm86() { cr4::VME } else { cr4::PVI };
        s.cr0 & cr0::PE != 0 && s.cpl == 3 && s.cr4 & bit != 0 && s.iopl() != 3
    }

    /// An interrupt waits (VIP) and the program lets it in (VIF): #GP(0) before the next insn.
    pub(crate) const fn has_virtual_interrupt(&self) -> bool {
        const BOTH: u32 = flags::VIF | flags::VIP;
        self.state.eflags & BOTH == BOTH && self.has_virtual_if()
    }

    /// CLI and STI.
    pub(crate) fn set_virtual_if(&mut self, is_on: bool) -> Result<(), Fault> {
        if is_on && self.state.eflags & flags::VIP != 0 {
            return Err(Fault::gp(0));
        }
        self.state.eflags &= !flags::VIF;
        self.state.eflags |= if is_on { flags::VIF } else { 0 };
        Ok(())
    }

    /// The image of EFLAGS that programs see: VIF for IF, IOPL 3.
    const fn virtual_image(&self) -> u32 {
        let eflags = self.state.eflags();
        let interrupts = if eflags & flags::VIF != 0 { flags::IF } else { 0 };
        (eflags & !flags::IF | flags::IOPL | interrupts) & 0xFFFF
    }

    /// PUSHF: there is no 32-bit form of it.
    pub(crate) fn virtual_flags(&self, osz: u32) -> Result<u32, Fault> {
        if osz == 16 { Ok(self.virtual_image()) } else { Err(Fault::gp(0)) }
    }

    /// What POPF and IRET do to EFLAGS.
    pub(crate) fn pop_virtual_flags(&mut self, image: u32, osz: u32) -> Result<(), Fault> {
        let is_due = image & flags::IF != 0 && self.state.eflags & flags::VIP != 0;
        if osz != 16 || image & flags::TF != 0 || is_due {
            return Err(Fault::gp(0));
        }
        let interrupts = if image & flags::IF != 0 { flags::VIF } else { 0 };
        let popped = self.always_popped(2) | flags::VIF;
        self.state.set_eflags_masked(image & 0xFFFF | interrupts, popped);
        self.state.eflags &= !flags::RF;
        self.sync_in_block();
        Ok(())
    }

    /// IRET from one 8086 handler to another place of the program.
    pub(crate) fn return_virtual(&mut self, osz: u32) -> Result<(), Fault> {
        let ip = self.peek_stack(0, 2)?;
        let selector = self.peek_stack(1, 2)? as u16;
        let image = self.peek_stack(2, 2)? as u32;
        if osz != 16 {
            return Err(Fault::gp(0));
        }
        let segment = self.code_8086(selector, ip)?;
        self.pop_virtual_flags(image, osz)?;
        self.set_sp(self.sp().wrapping_add(6));
        self.jump_8086(segment, ip);
        Ok(())
    }

    /// INT n in virtual-8086 mode: true if the program's own handler serves it and is entered.
    pub(crate) fn redirect_interrupt(&mut self, n: u8, next: u64) -> Result<bool, Fault> {
        if !self.is_vm86() || self.state.cr4 & cr4::VME == 0 || self.is_trapped(n)? {
            return Ok(false);
        }
        let is_virtual = self.has_virtual_if();
        let entry = self.sys_read(4 * u64::from(n), 4)? as u32;
        let (off, selector) = (u64::from(entry & 0xFFFF), (entry >> 16) as u16);
        let image = if is_virtual { self.virtual_image() } else { self.state.eflags() & 0xFFFF };
        let mut frame = self.frame();
        frame.push(2, image);
        frame.push(2, self.state.seg[usize::from(seg::CS)].selector);
        frame.push(2, next & 0xFFFF);
        let segment = self.code_8086(selector, off)?;
        let (_, sp) = self.write_frame(&frame)?;
        self.set_sp(sp);
        self.inhibit_step = self.state.eflags & flags::TF != 0;
        let interrupts = if is_virtual { flags::VIF } else { flags::IF };
        self.state.eflags &= !(interrupts | flags::TF | flags::RF);
        self.jump_8086(segment, off);
        Ok(true)
    }

    /// Does the bitmap send INT n to the IDT?
    fn is_trapped(&mut self, n: u8) -> Result<bool, Fault> {
        let tr = self.state.tr;
        let is_32 = tr.attr & attr::P != 0 && tr.attr & 8 != 0;
        if !is_32 || tr.limit < TSS_LIMIT {
            return Err(Fault::gp(0));
        }
        let end = self.sys_read(tr.base.wrapping_add(IO_MAP_BASE) & 0xFFFF_FFFF, 2)? as u32;
        let at = end.wrapping_sub(BITMAP_BYTES).wrapping_add(u32::from(n) / 8);
        if at > tr.limit {
            return Err(Fault::gp(0));
        }
        let byte = self.sys_read(tr.base.wrapping_add(u64::from(at)) & 0xFFFF_FFFF, 1)?;
        Ok(byte >> (n % 8) & 1 != 0)
    }
}
