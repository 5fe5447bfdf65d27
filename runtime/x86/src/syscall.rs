//! Fast system calls: SYSCALL, SYSRET, SYSENTER, SYSEXIT.
//!
//! Intel's processors have SYSCALL and SYSRET in 64-bit code only; AMD's have them everywhere, but
//! SYSENTER and SYSEXIT not in IA-32e mode. The segments are made, not read from the tables.
//! Source: SDM Vol. 2 and AMD APM Vol. 3, each "SYSCALL", "SYSRET", "SYSENTER", "SYSEXIT".

use crate::cpu::{Cpu, cr0, cr4, efer, is_canonical};
use crate::fault::Fault;
use crate::flags;
use crate::mode::Mode;
use crate::segment::{Segment, attr};
use crate::state::{Transfer, seg};
use crate::tlb::ViewId;

/// EFLAGS bits that SYSRET takes from R11.
const SYSRET_FLAGS: u32 = 0x003C_7FD7;

/// Register numbers.
const CX: usize = 1;
const DX: usize = 2;
const SP: usize = 4;
const R11: usize = 11;

/// Flat code for a privilege level.
const fn flat_code(selector: u16, cpl: u16, is_64: bool) -> Segment {
    let size = if is_64 { attr::L } else { attr::DB };
    let attr = attr::P | attr::S | attr::CODE | attr::RW | attr::A | attr::G | size;
    Segment { selector, attr: attr | cpl << attr::DPL_SHIFT, limit: u32::MAX, base: 0 }
}

/// A flat stack for a privilege level.
const fn flat_stack(selector: u16, cpl: u16) -> Segment {
    let attr = attr::P | attr::S | attr::RW | attr::A | attr::G | attr::DB;
    Segment { selector, attr: attr | cpl << attr::DPL_SHIFT, limit: u32::MAX, base: 0 }
}

impl Cpu {
    /// Puts the segments and level of a fast transfer in force. Inlined, so that the segments are made where they belong: a copy of one
    /// just written in parts waits for them.
    #[inline(always)]
    fn enter_flat(&mut self, code: Segment, stack: Segment, pc: u64) {
        self.state.cpl = u32::from(code.attr >> attr::DPL_SHIFT & 3);
        self.state.seg[usize::from(seg::CS)] = code;
        self.state.seg[usize::from(seg::SS)] = stack;
        self.state.pc = pc;
        self.sync_flat();
    }

    /// May SYSCALL and SYSRET run here?
    const fn check_syscall(&self) -> Result<(), Fault> {
        let is_known = self.is_code64() || (self.caps.is_amd && self.is_protected());
        if !is_known || self.state.efer & efer::SCE == 0 {
            return Err(Fault::ud());
        }
        Ok(())
    }

    /// Where SYSCALL or SYSRET would lead has just been entered: what the transfer puts in force is kept, if it is a plain
    /// one between 64-bit code, for generated code to do it.
    pub(crate) fn note_transfer(&mut self) {
        if !self.is_long() {
            return self.note_sysenter();
        }
        let s = &mut self.state;
        let has_pvi = s.cr4 & cr4::PVI != 0; // then the mode hangs on IOPL, too
        if s.mode & !(3 << Mode::CPL_SHIFT) != Mode::ALWAYS_64 || self.caps.is_amd || has_pvi {
            return;
        }
        let (transfer, cs, ss, view) = match s.cpl {
            0 => {
                let selector = (s.star >> 32) as u16 & !3;
                let ss = flat_stack(selector.wrapping_add(8), 0);
                (&mut s.to_system, flat_code(selector, 0, true), ss, s.views[0])
            }
            3 => {
                let selector = (s.star >> 48) as u16;
                let (cs, ss) = (selector.wrapping_add(16) | 3, selector.wrapping_add(8) | 3);
                let view = self.tlb.base(ViewId::User);
                (&mut s.to_user, flat_code(cs, 3, true), flat_stack(ss, 3), view)
            }
            _ => return,
        };
        // With AC masked SYSCALL enters the plain view.
        let is_plain = s.efer & efer::SCE != 0 && s.sfmask as u32 & flags::AC != 0;
        let ctx = if is_plain { s.jump_base } else { 0 };
        *transfer = Transfer { ctx, view, cs: cs.word(), ss: ss.word(), mode: s.mode, pad: 0 };
    }

    /// The same for SYSENTER and SYSEXIT between flat 32-bit code.
    fn note_sysenter(&mut self) {
        const FLAT: u32 = Mode::CODE32 | Mode::STACK32 | Mode::PE | Mode::FLAT_CS | Mode::FLAT_SS;
        const MATTER: u32 = FLAT | Mode::SINGLE | Mode::VM86 | Mode::VIRTUAL;
        let s = &mut self.state;
        let selector = s.sysenter_cs as u16 & !3;
        let has_virtual = s.cr4 & (cr4::VME | cr4::PVI) != 0;
        if s.mode & MATTER != FLAT || has_virtual || selector == 0 {
            return;
        }
        let (transfer, selector, view) = match s.cpl {
            0 => (&mut s.to_system, selector, s.views[0]),
            3 => {
                let view = self.tlb.base(ViewId::User);
                (&mut s.to_user, selector.wrapping_add(16) | 3, view)
            }
            _ => return,
        };
        let cs = flat_code(selector, s.cpl as u16, false);
        let ss = flat_stack(selector.wrapping_add(8), s.cpl as u16);
        let (ctx, mode) = (s.jump_base, s.mode);
        *transfer = Transfer { ctx, view, cs: cs.word(), ss: ss.word(), mode, pad: 0 };
    }

    /// After anything changed that a noted transfer rests on.
    pub(crate) const fn forget_transfers(&mut self) {
        self.state.to_system.ctx = 0;
        self.state.to_user.ctx = 0;
        self.levels[0].forget();
        self.levels[1].forget();
    }

    /// SYSCALL.
    pub(crate) fn enter_by_syscall(&mut self, next: u64) -> Result<(), Fault> {
        self.check_syscall()?;
        let s = &mut self.state;
        let selector = (s.star >> 32) as u16 & !3;
        let stack = flat_stack(selector.wrapping_add(8), 0);
        let old = s.eflags();
        if s.efer & efer::LMA == 0 {
            s.gpr[CX] = next & 0xFFFF_FFFF;
            s.eflags &= !(flags::VM | flags::IF | flags::RF);
            let pc = s.star & 0xFFFF_FFFF;
            self.enter_flat(flat_code(selector, 0, false), stack, pc);
            return Ok(());
        }
        s.gpr[CX] = next;
        s.gpr[R11] = u64::from(old & !flags::RF);
        s.set_eflags(old & !(s.sfmask as u32) & !flags::RF);
        // The trap of a step that began with TF set goes with TF.
        self.inhibit_step = old & flags::TF != 0 && self.state.eflags & flags::TF == 0;
        let pc = if self.is_code64() { self.state.lstar } else { self.state.cstar };
        self.enter_flat(flat_code(selector, 0, true), stack, pc);
        Ok(())
    }

    /// SYSRET.
    pub(crate) fn return_by_sysret(&mut self, osz: u32) -> Result<(), Fault> {
        self.check_syscall()?;
        if self.state.cpl != 0 {
            return Err(Fault::gp(0));
        }
        let (rip, selector) = (self.state.gpr[CX], (self.state.star >> 48) as u16);
        let is_64 = self.is_code64() && osz == 64;
        if is_64 && !is_canonical(rip) && !self.caps.is_amd {
            return Err(Fault::gp(0));
        }
        let old_tf = self.state.eflags & flags::TF;
        if self.is_long() {
            let image = self.state.gpr[R11] as u32 & SYSRET_FLAGS;
            self.state.set_eflags(image);
        } else {
            self.state.eflags |= flags::IF;
        }
        let base = if is_64 { selector.wrapping_add(16) } else { selector };
        let stack_selector = selector.wrapping_add(8) | 3;
        // AMD's processors leave what SS had apart from the selector.
        let stack = match self.caps.is_amd {
            true => Segment { selector: stack_selector, ..self.ss() },
            false => flat_stack(stack_selector, 3),
        };
        let pc = if is_64 { rip } else { rip & 0xFFFF_FFFF };
        self.enter_flat(flat_code(base | 3, 3, is_64), stack, pc);
        if old_tf == 0 && self.state.eflags & flags::TF != 0 {
            // TF as it is afterwards decides: the debugger of the program sees the call as one step.
            self.note_debug(crate::fault::dr6::BS);
        }
        Ok(())
    }

    /// The code selector of SYSENTER and SYSEXIT, if they can run here.
    fn sysenter_selector(&self) -> Result<u16, Fault> {
        if self.caps.is_amd && self.is_long() {
            return Err(Fault::ud());
        }
        let selector = self.state.sysenter_cs as u16 & !3;
        if self.state.cr0 & cr0::PE == 0 || selector == 0 {
            return Err(Fault::gp(0));
        }
        Ok(selector)
    }

    /// SYSENTER.
    pub(crate) fn enter_by_sysenter(&mut self) -> Result<(), Fault> {
        let selector = self.sysenter_selector()?;
        let is_long = self.is_long();
        let mask = self.lin_mask();
        let s = &mut self.state;
        s.eflags &= !(flags::VM | flags::IF | flags::RF);
        s.gpr[SP] = s.sysenter_esp & mask;
        let pc = s.sysenter_eip & mask;
        let stack = flat_stack(selector.wrapping_add(8), 0);
        self.enter_flat(flat_code(selector, 0, is_long), stack, pc);
        Ok(())
    }

    /// SYSEXIT.
    pub(crate) fn return_by_sysexit(&mut self, osz: u32) -> Result<(), Fault> {
        let selector = self.sysenter_selector()?;
        if self.state.cpl != 0 {
            return Err(Fault::gp(0));
        }
        let is_64 = osz == 64;
        let mask = if is_64 { !0 } else { 0xFFFF_FFFF };
        let (rip, rsp) = (self.state.gpr[DX] & mask, self.state.gpr[CX] & mask);
        if is_64 && !(is_canonical(rip) && is_canonical(rsp)) {
            return Err(Fault::gp(0));
        }
        let base = selector.wrapping_add(if is_64 { 32 } else { 16 });
        self.state.gpr[SP] = rsp;
        let stack = flat_stack(base.wrapping_add(8) | 3, 3);
        self.enter_flat(flat_code(base | 3, 3, is_64), stack, rip);
        Ok(())
    }
}
