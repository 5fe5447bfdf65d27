//! Far JMP, CALL and RET: code segments, call gates, task gates and TSSes.
//!
//! In IA-32e mode there are no tasks, call gates have 16 bytes and lead to 64-bit code, and the
//! L bit of the target decides between 64-bit and compatibility mode.
//! Source: SDM Vol. 2, "JMP", "CALL", "RET"; Vol. 3A, "Privilege Checking When Transferring Program
//! Control Between Code Segments".

use crate::cpu::{Cpu, is_canonical};
use crate::fault::Fault;
use crate::segment::{Descriptor, Segment, attr, error_code, is_null, rpl, system};
use crate::stack::Frame;
use crate::state::seg;
use crate::task::Reason;

/// A return address to push: width in bytes, and the instruction pointer.
#[derive(Clone, Copy)]
pub(crate) struct Return {
    pub(crate) bytes: u32,
    pub(crate) ip: u64,
}

/// Masks an offset to the operand size.
const fn offset(off: u64, osz: u32) -> u64 {
    match osz {
        16 => off & 0xFFFF,
        32 => off & 0xFFFF_FFFF,
        _ => off,
    }
}

/// Real and virtual-8086 mode.
impl Cpu {
    /// CS for `selector` in real or virtual-8086 mode, once `off` is within it.
    pub(crate) fn code_8086(&self, selector: u16, off: u64) -> Result<Segment, Fault> {
        let segment = match self.is_vm86() {
            true => Segment::of_8086(selector, attr::VM86),
            false => self.real_segment(seg::CS, selector),
        };
        if off > u64::from(segment.limit) {
            return Err(Fault::gp(0));
        }
        Ok(segment)
    }

    /// Puts CS:IP in force; selectors keep their low bits in real and virtual-8086 mode.
    pub(crate) fn jump_8086(&mut self, segment: Segment, off: u64) {
        self.state.seg[usize::from(seg::CS)] = segment;
        self.state.pc = off;
        self.sync_mode();
    }
}

/// What may be jumped to.
impl Cpu {
    /// #GP(0) when an instruction pointer lies beyond its segment, or is not canonical in 64-bit code.
    pub(crate) const fn check_offset(&self, segment: &Segment, off: u64) -> Result<(), Fault> {
        let is_inside = if self.is_long() && segment.attr & attr::L != 0 {
            is_canonical(off)
        } else {
            off <= segment.limit as u64
        };
        if is_inside { Ok(()) } else { Err(Fault::gp(0)) }
    }

    /// Where a transfer to `off` in a segment leads, if it may. In compatibility mode the instruction pointer has 32 bits: hosts drop the
    /// upper half of a 64-bit operand.
    pub(crate) fn target(&self, segment: &Segment, off: u64) -> Result<u64, Fault> {
        let is_64 = segment.attr & attr::L != 0;
        let off = if self.is_long() && !is_64 { off & 0xFFFF_FFFF } else { off };
        self.check_offset(segment, off).map(|()| off)
    }

    /// The checks of a direct far JMP or CALL to a code segment at the current CPL.
    fn direct_code(&mut self, selector: u16, d: &Descriptor) -> Result<Segment, Fault> {
        let code = error_code(selector);
        let cpl = self.state.cpl;
        let is_allowed = match d.is_conforming() {
            true => d.dpl() <= cpl,
            false => rpl(selector) <= cpl && d.dpl() == cpl,
        };
        if !is_allowed || (self.is_long() && d.is_bad_code64()) {
            return Err(Fault::gp(code));
        }
        if !d.is_present() {
            return Err(Fault::np(code));
        }
        Ok(d.segment(selector))
    }

    /// The checks every gate and TSS of a far JMP or CALL must pass.
    fn check_gate(&self, selector: u16, d: &Descriptor) -> Result<(), Fault> {
        let code = error_code(selector);
        if d.dpl() < self.state.cpl || d.dpl() < rpl(selector) {
            return Err(Fault::gp(code));
        }
        if !d.is_present() {
            return Err(Fault::np(code));
        }
        Ok(())
    }

    /// Is it a gate or available TSS that may be used?
    fn check_system(&self, selector: u16, d: &Descriptor) -> Result<(), Fault> {
        use system::{CALL_GATE16, CALL_GATE32, TASK_GATE, TSS16, TSS32};
        let is_known = match self.is_long() {
            true => d.kind() == CALL_GATE32,
            false => matches!(d.kind(), TSS16 | TSS32 | CALL_GATE16 | CALL_GATE32 | TASK_GATE),
        };
        let is_global = selector & 4 == 0 || !matches!(d.kind(), TSS16 | TSS32);
        if !d.is_system() || !is_known || !is_global {
            return Err(Fault::gp(error_code(selector)));
        }
        self.check_gate(selector, d)
    }

    /// The code segment a call gate leads to: present, code, DPL not above CPL, 64-bit in IA-32e mode.
    fn gate_target(&mut self, gate: &Descriptor) -> Result<Descriptor, Fault> {
        let selector = gate.gate_selector();
        if is_null(selector) {
            return Err(Fault::gp(0));
        }
        let d = self.descriptor_or(selector, Fault::gp)?;
        let is_right_size = !self.is_long() || d.is_code64();
        if !d.is_code() || d.dpl() > self.state.cpl || !is_right_size {
            return Err(Fault::gp(error_code(selector)));
        }
        if !d.is_present() {
            return Err(Fault::np(error_code(selector)));
        }
        Ok(d)
    }

    /// The target offset of a call gate, from both halves in IA-32e mode.
    fn gate_offset(&mut self, selector: u16, gate: &Descriptor) -> Result<u64, Fault> {
        let low = u64::from(gate.gate_offset());
        if !self.is_long() {
            return Ok(low);
        }
        let high = self.upper_half(selector, gate)?;
        Ok(low | high.ok_or(Fault::gp(error_code(selector)))? << 32)
    }

    /// The available TSS that a task gate names.
    pub(crate) fn gate_tss(&mut self, selector: u16) -> Result<Descriptor, Fault> {
        let code = error_code(selector);
        if is_null(selector) || selector & 4 != 0 {
            return Err(Fault::gp(code));
        }
        let d = self.descriptor_or(selector, Fault::gp)?;
        if !d.is_system() || !matches!(d.kind(), system::TSS16 | system::TSS32) {
            return Err(Fault::gp(code));
        }
        if !d.is_present() {
            return Err(Fault::np(code));
        }
        Ok(d)
    }

    /// Puts a code segment in force at the current CPL.
    fn enter_code(&mut self, d: &mut Descriptor, s: Segment, off: u64) -> Result<(), Fault> {
        self.mark_accessed(d)?;
        let cpl = self.state.cpl;
        self.set_cs(Segment { attr: d.attr(), ..s }, cpl);
        self.state.pc = off;
        self.sync_mode();
        Ok(())
    }
}

/// JMP.
impl Cpu {
    /// Far JMP.
    pub(crate) fn jump_far(
        &mut self,
        selector: u16,
        off: u64,
        osz: u32,
        next: u64,
    ) -> Result<(), Fault> {
        let off = offset(off, osz);
        if !self.is_protected() {
            let segment = self.code_8086(selector, off)?;
            self.jump_8086(segment, off);
            return Ok(());
        }
        if is_null(selector) {
            return Err(Fault::gp(0));
        }
        let mut d = self.descriptor_or(selector, Fault::gp)?;
        if d.is_code() {
            let segment = self.direct_code(selector, &d)?;
            let off = self.target(&segment, off)?;
            return self.enter_code(&mut d, segment, off);
        }
        self.check_system(selector, &d)?;
        match d.kind() {
            system::CALL_GATE16 | system::CALL_GATE32 => self.jump_gate(selector, &d),
            system::TASK_GATE => {
                let selector = d.gate_selector();
                let tss = self.gate_tss(selector)?;
                self.switch_task(selector, tss, Reason::Jump, next as u32)
            }
            _ => self.switch_task(selector, d, Reason::Jump, next as u32),
        }
    }

    /// JMP through a call gate: never changes the privilege level.
    fn jump_gate(&mut self, gate_selector: u16, gate: &Descriptor) -> Result<(), Fault> {
        let off = self.gate_offset(gate_selector, gate)?;
        let selector = gate.gate_selector();
        let mut d = self.gate_target(gate)?;
        if !d.is_conforming() && d.dpl() != self.state.cpl {
            return Err(Fault::gp(error_code(selector)));
        }
        let segment = d.segment(selector);
        self.check_offset(&segment, off)?;
        self.enter_code(&mut d, segment, off)
    }
}

/// CALL.
impl Cpu {
    /// Far CALL.
    pub(crate) fn call_far(
        &mut self,
        selector: u16,
        off: u64,
        osz: u32,
        next: u64,
    ) -> Result<(), Fault> {
        let off = offset(off, osz);
        let ret = Return { bytes: osz / 8, ip: next };
        if !self.is_protected() {
            let segment = self.code_8086(selector, off)?;
            self.push_return(ret)?;
            self.jump_8086(segment, off);
            return Ok(());
        }
        if is_null(selector) {
            return Err(Fault::gp(0));
        }
        let mut d = self.descriptor_or(selector, Fault::gp)?;
        if d.is_code() {
            let segment = self.direct_code(selector, &d)?;
            return self.call_code(&mut d, segment, off, ret);
        }
        self.check_system(selector, &d)?;
        match d.kind() {
            system::CALL_GATE16 | system::CALL_GATE32 => self.call_gate(selector, &d, next),
            system::TASK_GATE => {
                let selector = d.gate_selector();
                let tss = self.gate_tss(selector)?;
                self.switch_task(selector, tss, Reason::Call, next as u32)
            }
            _ => self.switch_task(selector, d, Reason::Call, next as u32),
        }
    }

    /// CALL to a code segment at the current level.
    fn call_code(
        &mut self,
        d: &mut Descriptor,
        segment: Segment,
        off: u64,
        ret: Return,
    ) -> Result<(), Fault> {
        // Between 64-bit code and compatibility mode Intel's processors push where the stack pointer leads behind the transfer, AMD's before
        // it (measured).
        let is_64 = match self.is_long() && !self.caps.is_amd {
            true => segment.attr & attr::L != 0,
            false => self.is_code64(),
        };
        let frame = self.return_frame(ret, is_64);
        // Hosts meet a stack that cannot be written before they look at the target.
        let spans = self.check_frame(&frame)?;
        let off = self.target(&segment, off)?;
        self.mark_accessed(d)?;
        self.fill_frame(&frame, &spans);
        self.move_to(&frame);
        self.enter_code(d, segment, off)
    }

    fn return_frame(&self, ret: Return, is_64: bool) -> Frame {
        let mut frame = self.frame_as(is_64);
        frame.push(ret.bytes, self.state.seg[usize::from(seg::CS)].selector);
        frame.push(ret.bytes, ret.ip);
        frame
    }

    fn push_return(&mut self, ret: Return) -> Result<(), Fault> {
        let frame = self.return_frame(ret, false);
        self.write_frame(&frame)?;
        self.move_to(&frame);
        Ok(())
    }

    /// CALL through a call gate.
    fn call_gate(&mut self, gate_selector: u16, gate: &Descriptor, next: u64) -> Result<(), Fault> {
        let off = self.gate_offset(gate_selector, gate)?;
        let mut d = self.gate_target(gate)?;
        let segment = d.segment(gate.gate_selector());
        let is_inner = !d.is_conforming() && d.dpl() != self.state.cpl;
        if self.is_long() {
            return self.call_gate_64(&mut d, segment, off, next, is_inner);
        }
        let bytes = if gate.kind() == system::CALL_GATE32 { 4 } else { 2 };
        let ret = Return { bytes, ip: next };
        if !is_inner {
            return self.call_code(&mut d, segment, off, ret);
        }
        let cpl = d.dpl();
        let (stack, sp) = self.inner_stack(cpl)?;
        let mut frame = Frame::new(stack, sp, cpl, error_code(stack.selector));
        frame.push(bytes, self.ss().selector);
        frame.push(bytes, self.state.gpr[4]);
        for i in (0..gate.gate_params()).rev() {
            let param = self.peek_stack(i, bytes)?;
            frame.push(bytes, param);
        }
        frame.push(bytes, self.state.seg[usize::from(seg::CS)].selector);
        frame.push(bytes, next);
        self.check_offset(&segment, off)?;
        self.mark_accessed(&mut d)?;
        let (stack, sp) = self.write_frame(&frame)?;
        self.set_inner_stack(stack, sp, cpl);
        self.enter_code(&mut d, segment, off)
    }

    /// CALL through a call gate of IA-32e mode: 8-byte pushes, no parameters.
    fn call_gate_64(
        &mut self,
        d: &mut Descriptor,
        segment: Segment,
        off: u64,
        next: u64,
        is_inner: bool,
    ) -> Result<(), Fault> {
        let cpl = if is_inner { d.dpl() } else { self.state.cpl };
        let mut frame = match is_inner {
            true => Frame::new_64(Segment::null(cpl as u16), self.inner_sp_64(cpl)?, cpl),
            false => Frame::new_64(self.ss(), self.state.gpr[4], cpl),
        };
        if is_inner {
            frame.push(8, self.ss().selector);
            frame.push(8, self.state.gpr[4]);
        }
        frame.push(8, self.state.seg[usize::from(seg::CS)].selector);
        frame.push(8, next);
        self.check_offset(&segment, off)?;
        self.mark_accessed(d)?;
        let (stack, sp) = self.write_frame(&frame)?;
        self.state.seg[usize::from(seg::SS)] = stack;
        self.state.cpl = cpl;
        self.state.gpr[4] = sp;
        self.enter_code(d, segment, off)
    }

    /// Commits SS:SP and CPL of an inner level.
    pub(crate) fn set_inner_stack(&mut self, stack: Segment, sp: u64, cpl: u32) {
        self.state.seg[usize::from(seg::SS)] = stack;
        self.state.cpl = cpl;
        self.set_sp(sp);
    }

    /// The stack of level `cpl` from the current TSS, checked.
    pub(crate) fn inner_stack(&mut self, cpl: u32) -> Result<(Segment, u64), Fault> {
        let tr = self.state.tr;
        let is_32 = tr.attr & 8 != 0;
        let (at, bytes) = if is_32 { (cpl * 8 + 4, 4) } else { (cpl * 4 + 2, 2) };
        if at + bytes + 1 > tr.limit {
            return Err(Fault::ts(error_code(tr.selector)));
        }
        let at = tr.base.wrapping_add(u64::from(at));
        let sp = self.sys_read(at, bytes)?;
        let selector = self.sys_read(at.wrapping_add(u64::from(bytes)), 2)? as u16;
        let stack = self.stack_segment(selector, cpl, Fault::ts)?;
        Ok((stack, sp & crate::stack::stack_mask(&stack)))
    }

    /// The stack pointer of level `cpl` from the 64-bit TSS.
    pub(crate) fn inner_sp_64(&mut self, cpl: u32) -> Result<u64, Fault> {
        self.tss_field_64(4 + 8 * cpl)
    }

    /// Eight bytes at `at` in the 64-bit TSS; #TS when beyond its limit.
    pub(crate) fn tss_field_64(&mut self, at: u32) -> Result<u64, Fault> {
        let tr = self.state.tr;
        if at + 7 > tr.limit {
            return Err(Fault::ts(error_code(tr.selector)));
        }
        self.sys_read(tr.base.wrapping_add(u64::from(at)), 8)
    }
}

/// RET.
impl Cpu {
    /// Far RET, releasing `release` bytes of parameters.
    pub(crate) fn return_far(&mut self, osz: u32, release: u32) -> Result<(), Fault> {
        let bytes = osz / 8;
        let (ip, selector, _) = self.peek_return(bytes, false)?;
        let release = u64::from(release);
        let popped = u64::from(2 * bytes);
        if !self.is_protected() {
            let segment = self.code_8086(selector, ip)?;
            self.set_sp(self.sp().wrapping_add(popped + release));
            self.jump_8086(segment, ip);
            return Ok(());
        }
        let (mut d, segment) = self.return_code(selector)?;
        if rpl(selector) == self.state.cpl {
            let ip = self.target(&segment, ip)?;
            self.mark_accessed(&mut d)?;
            self.set_sp(self.sp().wrapping_add(popped + release));
            return self.enter_code(&mut d, segment, ip);
        }
        let (sp, ss) = self.peek_outer(2 * bytes + release as u32, bytes)?;
        let is_64 = self.is_long() && segment.attr & attr::L != 0;
        let stack = self.outer_stack(ss, rpl(selector), is_64)?;
        let ip = self.target(&segment, ip)?;
        self.mark_accessed(&mut d)?;
        let code = Segment { attr: d.attr(), ..segment };
        self.enter_outer(code, ip, stack, sp.wrapping_add(release));
        Ok(())
    }

    /// The checks of a CS selector that RET or IRET popped.
    pub(crate) fn return_code(&mut self, selector: u16) -> Result<(Descriptor, Segment), Fault> {
        let code = error_code(selector);
        if is_null(selector) {
            return Err(Fault::gp(0));
        }
        let d = self.descriptor_or(selector, Fault::gp)?;
        let level = rpl(selector);
        let is_allowed = if d.is_conforming() { d.dpl() <= level } else { d.dpl() == level };
        let is_bad = self.is_long() && d.is_bad_code64();
        if !d.is_code() || level < self.state.cpl || !is_allowed || is_bad {
            return Err(Fault::gp(code));
        }
        if !d.is_present() {
            return Err(Fault::np(code));
        }
        Ok((d, d.segment(selector)))
    }

    /// Commits a return to an outer level.
    pub(crate) fn enter_outer(&mut self, code: Segment, ip: u64, stack: Segment, sp: u64) {
        let cpl = rpl(code.selector);
        self.set_cs(code, cpl);
        self.state.seg[usize::from(seg::SS)] = stack;
        self.set_sp(sp);
        self.drop_inner_segments();
        self.state.pc = ip;
        self.sync_mode();
    }
}
