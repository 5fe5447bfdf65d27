//! The helpers that the tables declare (`isa-spec/x86/helpers.isa`): thin bindings from 64-bit
//! arguments to the algorithms in the other modules.

use mem::Access;

use crate::cpu::{Cpu, cr0, cr4, is_canonical};
use crate::fault::Fault;
use crate::flags;
use crate::fpu::Save;
use crate::interrupt::Source;
use crate::lower::helpers::Helpers;
use crate::state::{TableReg, seg};

/// Bit 32 of LAR's and LSL's result: the selector was valid.
const VALID: u64 = 1 << 32;

/// A linear address that the processor takes, or #GP(0).
const fn canonical(lin: u64) -> Result<u64, Fault> {
    if is_canonical(lin) { Ok(lin) } else { Err(Fault::gp(0)) }
}

const fn valid(v: Option<u32>) -> u64 {
    match v {
        Some(v) => VALID | v as u64,
        None => 0,
    }
}

impl Helpers for Cpu {
    type Fault = Fault;

    // Far control transfer, interrupts, tasks.
    fn far_jmp(&mut self, sel: u64, off: u64, osz: u64, next: u64) -> Result<(), Fault> {
        self.jump_far(sel as u16, off, osz as u32, next)
    }
    fn far_call(&mut self, sel: u64, off: u64, osz: u64, next: u64) -> Result<(), Fault> {
        self.call_far(sel as u16, off, osz as u32, next)
    }
    fn far_ret(&mut self, osz: u64, release: u64) -> Result<(), Fault> {
        self.return_far(osz as u32, release as u32)
    }
    fn iret(&mut self, osz: u64, next: u64) -> Result<(), Fault> {
        self.interrupt_return(osz as u32, next)
    }
    fn soft_int(&mut self, vector: u64, next: u64, kind: u64) -> Result<(), Fault> {
        if kind == 0 {
            if self.redirect_interrupt(vector as u8, next)? {
                return Ok(());
            }
            self.check_vm86_iopl()?;
        }
        if kind != 3 {
            return self.software_interrupt(vector as u8, next, Source::Software);
        }
        // INT1 is a #DB itself: what a load of SS has left waiting comes with it, not after it.
        let held = std::mem::take(&mut self.pending_db);
        self.set_debug_status(held);
        self.software_interrupt(vector as u8, next, Source::Icebp)
    }
    fn hlt(&mut self, next: u64) {
        self.state.pc = next;
        self.state.halted = 1;
        self.ask_to_leave();
    }
    fn syscall(&mut self, next: u64) -> Result<(), Fault> {
        self.enter_by_syscall(next)
    }
    fn sysret(&mut self, osz: u64) -> Result<(), Fault> {
        self.return_by_sysret(osz as u32)
    }
    fn sysenter(&mut self) -> Result<(), Fault> {
        self.enter_by_sysenter()
    }
    fn sysexit(&mut self, osz: u64) -> Result<(), Fault> {
        self.return_by_sysexit(osz as u32)
    }

    // Segment and system registers.
    fn load_seg(&mut self, seg: u64, sel: u64) -> Result<(), Fault> {
        let n = seg as usize % seg::COUNT;
        self.load_segment(n as u8, sel as u16)?;
        self.sync_segment(n);
        self.note_load(n);
        Ok(())
    }
    fn read_cr(&mut self, n: u64) -> Result<u64, Fault> {
        match n {
            0 => Ok(self.state.cr0),
            2 => Ok(self.state.cr2),
            3 => Ok(self.state.cr3),
            4 => Ok(self.state.cr4),
            8 if self.caps.has_long => Ok(u64::from(self.task_priority())),
            _ => Err(Fault::ud()),
        }
    }
    fn write_cr(&mut self, n: u64, v: u64) -> Result<(), Fault> {
        match n {
            0 => self.write_cr0(v),
            2 => {
                self.state.cr2 = v;
                Ok(())
            }
            3 => self.write_cr3(v),
            4 => self.write_cr4(v),
            8 if self.caps.has_long => self.write_cr8(v),
            _ => Err(Fault::ud()),
        }
    }
    fn read_dr(&mut self, n: u64) -> Result<u64, Fault> {
        self.read_debug(n as u32)
    }
    fn write_dr(&mut self, n: u64, v: u64) -> Result<(), Fault> {
        self.write_debug(n as u32, v)
    }
    fn clts(&mut self) {
        self.clear_task_switched();
    }
    fn lmsw(&mut self, v: u64) {
        self.load_msw(v as u16);
    }
    fn umip(&mut self) -> Result<(), Fault> {
        let is_on = self.state.cr4 & cr4::UMIP != 0;
        if is_on && self.state.cpl != 0 { Err(Fault::gp(0)) } else { Ok(()) }
    }
    fn smsw(&mut self) -> u64 {
        self.state.cr0
    }
    fn lgdt(&mut self, limit: u64, base: u64) -> Result<(), Fault> {
        let base = canonical(base)?;
        self.state.gdtr = TableReg { base, limit: limit as u32 & 0xFFFF, pad: 0 };
        self.forget_loads();
        Ok(())
    }
    fn lidt(&mut self, limit: u64, base: u64) -> Result<(), Fault> {
        let base = canonical(base)?;
        self.state.idtr = TableReg { base, limit: limit as u32 & 0xFFFF, pad: 0 };
        Ok(())
    }
    fn gdt_limit(&mut self) -> u64 {
        u64::from(self.state.gdtr.limit)
    }
    fn gdt_base(&mut self) -> u64 {
        self.state.gdtr.base
    }
    fn idt_limit(&mut self) -> u64 {
        u64::from(self.state.idtr.limit)
    }
    fn idt_base(&mut self) -> u64 {
        self.state.idtr.base
    }
    fn lldt(&mut self, sel: u64) -> Result<(), Fault> {
        self.load_ldtr(sel as u16)
    }
    fn ltr(&mut self, sel: u64) -> Result<(), Fault> {
        self.load_tr(sel as u16)
    }
    fn sldt(&mut self) -> u64 {
        u64::from(self.state.ldtr.selector)
    }
    fn str_(&mut self) -> u64 {
        u64::from(self.state.tr.selector)
    }
    fn lar(&mut self, sel: u64) -> Result<u64, Fault> {
        self.access_rights(sel as u16).map(valid)
    }
    fn lsl(&mut self, sel: u64) -> Result<u64, Fault> {
        self.visible_limit(sel as u16).map(valid)
    }
    fn verr(&mut self, sel: u64) -> Result<u64, Fault> {
        self.verify(sel as u16, false).map(u64::from)
    }
    fn verw(&mut self, sel: u64) -> Result<u64, Fault> {
        self.verify(sel as u16, true).map(u64::from)
    }
    fn invlpg(&mut self, seg: u64, off: u64) {
        self.invalidate_page(seg as u8 % seg::COUNT as u8, off);
    }
    fn invpcid(&mut self, kind: u64, seg: u64, off: u64) -> Result<(), Fault> {
        self.invalidate_context(kind, seg as u8 % seg::COUNT as u8, off)
    }
    /// INVD, WBINVD: there is no cache to write back.
    fn cache_op(&mut self) {}

    // Flags, identification, counters, ports.
    fn popf(&mut self, v: u64, osz: u64, step: u64, next: u64) -> Result<(), Fault> {
        self.pop_flags(v as u32, osz as u32)?;
        self.set_sp(self.sp().wrapping_add(step / 8));
        self.state.pc = next;
        Ok(())
    }
    fn set_vif(&mut self, on: u64) -> Result<(), Fault> {
        self.set_virtual_if(on != 0)
    }
    fn virtual_flags(&mut self, osz: u64) -> Result<u64, Fault> {
        Cpu::virtual_flags(self, osz as u32).map(u64::from)
    }
    fn sti(&mut self, next: u64) {
        self.state.pc = next;
        self.set_interrupt_flag();
    }
    fn cpuid(&mut self) {
        let (leaf, sub) = (self.state.gpr[0] as u32, self.state.gpr[1] as u32);
        let [a, b, c, d] = self.identify(leaf, sub);
        self.state.gpr[0] = u64::from(a);
        self.state.gpr[3] = u64::from(b);
        self.state.gpr[1] = u64::from(c);
        self.state.gpr[2] = u64::from(d);
    }
    fn rdmsr(&mut self, n: u64) -> Result<u64, Fault> {
        self.read_msr(n as u32)
    }
    fn wrmsr(&mut self, n: u64, v: u64) -> Result<(), Fault> {
        self.write_msr(n as u32, v)
    }
    fn rdtsc(&mut self) -> Result<u64, Fault> {
        self.read_tsc()
    }
    fn rdtsc_next(&mut self, next: u64, aux: u64) -> Result<(), Fault> {
        let t = self.read_tsc()?;
        self.state.gpr[0] = t & 0xFFFF_FFFF;
        self.state.gpr[2] = t >> 32;
        if aux != 0 {
            self.state.gpr[1] = self.state.tsc_aux & 0xFFFF_FFFF;
        }
        self.state.pc = next;
        Ok(())
    }
    fn rdpmc(&mut self, n: u64) -> Result<u64, Fault> {
        self.read_pmc(n as u32)
    }
    fn tsc_aux(&mut self) -> u64 {
        self.state.tsc_aux
    }
    /// The address is checked as a load of a byte; rCX holds extensions, of which there are none.
    fn monitor(&mut self, seg: u64, off: u64) -> Result<(), Fault> {
        if self.state.cpl != 0 {
            return Err(Fault::ud());
        }
        if self.state.gpr[1] as u32 != 0 {
            return Err(Fault::gp(0));
        }
        self.load(seg as u8, off, 1).map(|_| ())
    }
    /// Waits for an interrupt when interrupts are on, else ends at once, as an MWAIT may (SDM Vol. 2, MWAIT:
    /// implementation-dependent events); its extensions, which ECX names, are not enumerated.
    fn mwait(&mut self, next: u64) -> Result<(), Fault> {
        if self.state.cpl != 0 {
            return Err(Fault::ud());
        }
        if self.state.gpr[1] as u32 != 0 {
            return Err(Fault::gp(0));
        }
        self.state.pc = next;
        self.state.halted = u32::from(self.state.eflags & flags::IF != 0);
        self.ask_to_leave();
        Ok(())
    }
    fn may_use_port(&mut self, port: u64, bits: u64) -> Result<(), Fault> {
        self.check_port(port as u16, bits / 8)
    }
    fn port_in(&mut self, port: u64, bytes: u64) -> Result<u64, Fault> {
        self.input(port as u16, bytes)
    }
    fn port_out(&mut self, port: u64, bytes: u64, v: u64) -> Result<(), Fault> {
        self.output(port as u16, bytes, v)
    }

    // Stack frames, bulk string parts, coprocessor.
    fn enter(&mut self, size: u64, level: u64, osz: u64) -> Result<(), Fault> {
        self.enter_frame(size, level & 31, osz as u32 / 8)
    }
    fn pusha(&mut self, osz: u64) -> Result<(), Fault> {
        let mut frame = self.frame();
        for value in self.state.gpr[..8].iter().copied() {
            frame.push(osz as u32 / 8, value);
        }
        let (_, sp) = self.write_frame(&frame)?;
        self.set_sp(sp);
        Ok(())
    }
    fn popa(&mut self, osz: u64) -> Result<(), Fault> {
        let bytes = osz as u32 / 8;
        let mut values = [0; 8];
        for (i, value) in (0..).zip(&mut values) {
            *value = self.peek_stack(i, bytes)?;
        }
        for (i, value) in values.into_iter().rev().enumerate() {
            if i != 4 {
                self.set_register(i, bytes, value);
            }
        }
        self.set_sp(self.sp().wrapping_add(u64::from(8 * bytes)));
        Ok(())
    }
    fn bulk_movs(&mut self, bytes: u64, seg: u64, asz: u64) {
        self.bulk_copy(bytes, seg as u8 % seg::COUNT as u8, asz as u32);
    }
    fn bulk_cmps(&mut self, bytes: u64, segment: u64, asz: u64) {
        self.bulk_compare(bytes, Some(segment as u8), asz as u32);
    }
    fn bulk_scas(&mut self, bytes: u64, asz: u64) {
        self.bulk_compare(bytes, None, asz as u32);
    }
    fn bulk_stos(&mut self, bytes: u64, asz: u64) {
        self.bulk_fill(bytes, asz as u32);
    }
    fn bulk_ins(&mut self, bytes: u64, asz: u64) -> Result<(), Fault> {
        self.bulk_input(bytes, asz as u32)
    }
    fn bulk_outs(&mut self, bytes: u64, seg: u64, asz: u64) -> Result<(), Fault> {
        self.bulk_output(bytes, seg as u8 % seg::COUNT as u8, asz as u32)
    }

    // x87, vector and extended state.
    fn ldmxcsr(&mut self, v: u64) -> Result<(), Fault> {
        self.load_mxcsr(v as u32)
    }
    fn stmxcsr(&mut self) -> u64 {
        u64::from(self.state.mxcsr)
    }
    fn fninit(&mut self) {
        self.fpu_init();
    }
    fn fnstenv(&mut self, seg: u64, off: u64, osz: u64) -> Result<(), Fault> {
        self.store_environment(seg, off, osz)
    }
    fn fldenv(&mut self, seg: u64, off: u64, osz: u64) -> Result<(), Fault> {
        self.load_environment(seg, off, osz)
    }
    fn fnsave(&mut self, seg: u64, off: u64, osz: u64) -> Result<(), Fault> {
        self.save_x87(seg, off, osz)
    }
    fn frstor(&mut self, seg: u64, off: u64, osz: u64) -> Result<(), Fault> {
        self.restore_x87(seg, off, osz)
    }
    fn fxsave(&mut self, seg: u64, off: u64, osz: u64) -> Result<(), Fault> {
        self.fx_save(seg, off, osz)
    }
    fn fxrstor(&mut self, seg: u64, off: u64, osz: u64) -> Result<(), Fault> {
        self.fx_restore(seg, off, osz)
    }
    fn xsave(&mut self, seg: u64, off: u64, osz: u64) -> Result<(), Fault> {
        self.x_save(seg, off, osz, Save::Plain)
    }
    fn xsaveopt(&mut self, seg: u64, off: u64, osz: u64) -> Result<(), Fault> {
        self.x_save(seg, off, osz, Save::Optimised)
    }
    fn xsavec(&mut self, seg: u64, off: u64, osz: u64) -> Result<(), Fault> {
        self.x_save(seg, off, osz, Save::Compacted)
    }
    fn xrstor(&mut self, seg: u64, off: u64, osz: u64) -> Result<(), Fault> {
        self.x_restore(seg, off, osz)
    }
    fn xgetbv(&mut self, n: u64) -> Result<u64, Fault> {
        self.read_xcr(n as u32)
    }
    fn xsetbv(&mut self, n: u64, v: u64) -> Result<(), Fault> {
        self.write_xcr(n as u32, v)
    }
    fn mask_load(&mut self, regs: u64, bytes: u64, seg: u64, off: u64) -> Result<(), Fault> {
        self.load_masked(regs, bytes, seg, off)
    }
    fn mask_store(&mut self, regs: u64, bytes: u64, seg: u64, off: u64) -> Result<(), Fault> {
        self.store_masked(regs, bytes, seg, off)
    }
    fn gather(&mut self, regs: u64, index: u64, how: u64, base: u64) -> Result<(), Fault> {
        self.gather_elements(regs, index, how, base)
    }
    fn vzero(&mut self, is_all: u64) {
        self.zero_vectors(is_all != 0);
    }
    fn flush_line(&mut self, seg: u64, off: u64) -> Result<(), Fault> {
        self.flush_operand(seg, off)
    }
    fn clear_line(&mut self, seg: u64, off: u64) -> Result<(), Fault> {
        self.store_empty_line(seg, off)
    }
    fn move_line(&mut self, seg: u64, off: u64, to: u64) -> Result<(), Fault> {
        self.copy_line(seg, off, to)
    }
    fn maskmov_sse(&mut self, value: u64, mask: u64, seg: u64, off: u64) -> Result<(), Fault> {
        self.store_bytes(value, mask, seg, off)
    }
    fn maskmov_mmx(&mut self, value: u64, mask: u64, seg: u64, off: u64) -> Result<(), Fault> {
        self.store_mmx_bytes(value, mask, seg, off)
    }

    /// An escape that no row of the x87 FPU claims. Without a coprocessor it does nothing unless CR0 asks for #NM.
    fn fpu_escape(&mut self) -> Result<(), Fault> {
        if self.caps.has_fpu {
            return Err(Fault::ud());
        }
        if self.state.cr0 & (cr0::EM | cr0::TS) != 0 { Err(Fault::nm()) } else { Ok(()) }
    }
    fn fpu_wait(&mut self) -> Result<(), Fault> {
        let both = cr0::MP | cr0::TS;
        if self.state.cr0 & both == both { Err(Fault::nm()) } else { Ok(()) }
    }
}

impl Cpu {
    /// ENTER (SDM Vol. 2): pushes rBP, `level - 1` outer frame pointers and its own, then makes room.
    fn enter_frame(&mut self, size: u64, level: u64, bytes: u32) -> Result<(), Fault> {
        let mask = self.sp_mask();
        let width = u64::from(bytes);
        // A 16-bit stack pointer leaves the upper half of eSP as it is, in the frame pointer, too.
        let frame_pointer = self.sp().wrapping_sub(width) & mask | self.state.gpr[4] & !mask;
        let mut frame = self.frame();
        frame.push(bytes, self.state.gpr[5]);
        if level > 0 {
            let mut bp = self.state.gpr[5];
            for _ in 1..level {
                // Hosts read and push in turn.
                self.check_push(&frame)?;
                bp = bp.wrapping_sub(width) & mask;
                // Frame pointers are copied one by one: a copy may be copied again.
                let outer = self.load(seg::SS, bp, bytes)?;
                frame.push(bytes, frame.seen(bp, bytes, outer));
            }
            frame.push(bytes, frame_pointer);
        }
        let sp = frame.sp().wrapping_sub(size) & mask;
        // The manual's last step: the new top of the stack must be writable.
        let spans = self.check_frame(&frame)?;
        self.seg_span(seg::SS, sp, bytes, Access::Write)?;
        self.fill_frame(&frame, &spans);
        self.set_register(5, bytes, frame_pointer);
        self.set_sp(sp);
        Ok(())
    }

    /// Writes a general register at 2 (merging), 4 or 8 bytes.
    fn set_register(&mut self, n: usize, bytes: u32, v: u64) {
        let slot = &mut self.state.gpr[n];
        *slot = match bytes {
            2 => *slot & !0xFFFF | v & 0xFFFF,
            4 => v & 0xFFFF_FFFF,
            _ => v,
        };
    }
}
