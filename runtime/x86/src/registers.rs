//! Registers one by one, for a debugger outside the guest. What cannot be set without the guest's own instructions (control
//! registers, segments of protected mode, the x87 stack) can only be read.

use crate::cpu::{Cpu, cr0, is_canonical};
use crate::flags;
use crate::state::seg;

/// A register, by what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// General register, in the order of the encodings.
    Gpr(u8),
    /// The instruction pointer.
    Pc,
    /// EFLAGS.
    Eflags,
    /// Segment selector: ES CS SS DS FS GS.
    Segment(u8),
    /// x87 stack register, from the top.
    St(u8),
    /// FCW.
    Fcw,
    /// FSW.
    Fsw,
    /// The tag word, two bits a register.
    Ftw,
    /// CS of the last x87 insn.
    FpuCs,
    /// Its instruction pointer.
    FpuIp,
    /// Segment of its operand.
    FpuDs,
    /// Offset of its operand.
    FpuDp,
    /// Its opcode.
    FpuOp,
    /// Vector register, the low half.
    Xmm(u8),
    /// MXCSR.
    Mxcsr,
    /// FS base.
    FsBase,
    /// GS base.
    GsBase,
    /// What SWAPGS brings.
    KernelGsBase,
    /// CR0, CR2, CR3, CR4 or CR8.
    Cr(u8),
    /// EFER.
    Efer,
}

/// 80 bits of an x87 register.
fn wide(bytes: [u8; 10]) -> u128 {
    let mut value = [0; 16];
    value[..10].copy_from_slice(&bytes);
    u128::from_le_bytes(value)
}

impl Cpu {
    /// A register's value. The x87 state must be parked.
    pub fn peek_register(&self, register: Register) -> u128 {
        let s = &self.state;
        let value = match register {
            Register::Gpr(n) => s.gpr[usize::from(n & 15)],
            Register::Pc => s.pc,
            Register::Eflags => s.eflags().into(),
            Register::Segment(n) => s.seg.get(usize::from(n)).map_or(0, |seg| seg.selector.into()),
            Register::St(n) => return wide(self.st(n.into())),
            Register::Fcw => self.fcw().into(),
            Register::Fsw => self.fsw().into(),
            Register::Ftw => self.tag_word().into(),
            Register::FpuCs => s.fpu_cs.into(),
            Register::FpuIp => s.fpu_ip,
            Register::FpuDs => s.fpu_ds.into(),
            Register::FpuDp => s.fpu_dp,
            Register::FpuOp => s.fpu_op.into(),
            Register::Xmm(n) => {
                let [low, high, ..] = s.ymm[usize::from(n & 15)];
                return u128::from(low) | u128::from(high) << 64;
            }
            Register::Mxcsr => s.mxcsr.into(),
            Register::FsBase => s.seg[usize::from(seg::FS)].base,
            Register::GsBase => s.seg[usize::from(seg::GS)].base,
            Register::KernelGsBase => s.kernel_gs_base,
            Register::Cr(0) => s.cr0,
            Register::Cr(2) => s.cr2,
            Register::Cr(3) => s.cr3,
            Register::Cr(4) => s.cr4,
            Register::Cr(8) => self.bus.task_priority().into(),
            Register::Cr(_) => 0,
            Register::Efer => s.efer,
        };
        value.into()
    }

    /// Sets a register; false if it cannot be set, or not to this value. Ask for [`Cpu::state_loaded`] afterwards.
    pub fn poke_register(&mut self, register: Register, value: u128) -> bool {
        if self.peek_register(register) == value {
            return true;
        }
        let low = value as u64;
        match register {
            Register::Gpr(n) => self.state.gpr[usize::from(n & 15)] = low,
            Register::Pc => {
                if self.is_code64() && !is_canonical(low) {
                    return false;
                }
                self.state.pc = if self.is_code64() { low } else { low & 0xFFFF_FFFF };
                self.state.repeating = 0;
                self.state.halted = 0;
            }
            Register::Eflags => {
                // The mode is not a matter of this.
                let kept = self.state.eflags() & flags::VM;
                self.state.set_eflags(low as u32 & !flags::VM & 0x003F_7FD5 | kept | 2);
            }
            Register::Segment(n) => return self.set_real_segment(n, low),
            Register::Xmm(n) => {
                let words = &mut self.state.ymm[usize::from(n & 15)];
                (words[0], words[1]) = (low, (value >> 64) as u64);
                self.state.ready = 0;
            }
            Register::Mxcsr if low & !0xFFFF == 0 => {
                self.state.mxcsr = low as u32;
                self.state.ready = 0;
            }
            Register::FsBase | Register::GsBase | Register::KernelGsBase if !is_canonical(low) => {
                return false;
            }
            Register::FsBase => self.state.seg[usize::from(seg::FS)].base = low,
            Register::GsBase => self.state.seg[usize::from(seg::GS)].base = low,
            Register::KernelGsBase => self.state.kernel_gs_base = low,
            Register::Cr(2) => self.state.cr2 = low,
            _ => return false,
        }
        true
    }

    /// In real mode a selector is all there is to a segment.
    fn set_real_segment(&mut self, n: u8, value: u64) -> bool {
        let is_protected = self.state.cr0 & cr0::PE != 0;
        let Some(segment) = self.state.seg.get_mut(usize::from(n)) else { return false };
        if is_protected || value > 0xFFFF {
            return false;
        }
        segment.selector = value as u16;
        segment.base = value << 4;
        true
    }
}
