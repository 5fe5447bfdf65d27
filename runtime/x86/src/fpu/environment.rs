//! FNSTENV, FLDENV, FNSAVE, FRSTOR, FNINIT.
//!
//! The environment has four layouts (SDM Vol. 1, "Protected Mode x87 FPU State Image in Memory" and "Real Mode …"):
//! 16 or 32 bits by operand size, and in real and virtual-8086 mode linear addresses instead of selectors.

use mem::Access;

use super::Operand;
use super::area::Pointers;
use crate::cpu::{Cpu, cr0};
use crate::fault::Fault;

/// Control, status and tag word, and the pointers.
#[derive(Clone, Copy)]
struct Environment {
    fcw: u16,
    fsw: u16,
    ftw: u16,
    pointers: Pointers,
}

/// The layout.
#[derive(Clone, Copy)]
struct Layout {
    is_16: bool,
    is_real: bool,
}

impl Layout {
    /// Bytes of one of the seven fields.
    const fn field(self) -> usize {
        if self.is_16 { 2 } else { 4 }
    }

    const fn len(self) -> usize {
        7 * self.field()
    }

    /// The seven fields. What the manual reserves is ones beside the first words and zero elsewhere.
    fn fields(self, e: &Environment) -> [u32; 7] {
        let p = &e.pointers;
        let ones = 0xFFFF_0000;
        let words = [e.fcw, e.fsw, e.ftw].map(|w| ones | u32::from(w));
        let (ip, dp) = if self.is_real {
            (linear(p.cs, p.ip), linear(p.ds, p.dp))
        } else {
            (p.ip as u32, p.dp as u32) // a 64-bit pointer is cut
        };
        let [a, b, c, d] = if self.is_real {
            let opcode = u32::from(p.op);
            let high = |lin: u32| lin >> 16 << 12;
            [ones | ip & 0xFFFF, high(ip) | opcode, ones | dp & 0xFFFF, high(dp)]
        } else {
            let selectors = u32::from(p.cs) | u32::from(p.op) << 16;
            [ip, selectors, dp, ones | u32::from(p.ds)]
        };
        [words[0], words[1], words[2], a, b, c, d]
    }

    fn environment(self, f: &[u32; 7]) -> Environment {
        let pointers = if self.is_real {
            let high = |field: u32| (field >> 12 & 0xFFFF) << 16;
            Pointers {
                ip: u64::from(f[3] & 0xFFFF | high(f[4])),
                dp: u64::from(f[5] & 0xFFFF | high(f[6])),
                op: f[4] as u16,
                cs: 0,
                ds: 0,
            }
        } else {
            let op = if self.is_16 { 0 } else { (f[4] >> 16) as u16 };
            let (ip, dp) = (u64::from(f[3]), u64::from(f[5]));
            Pointers { ip, dp, op, cs: f[4] as u16, ds: f[6] as u16 }
        };
        Environment { fcw: f[0] as u16, fsw: f[1] as u16, ftw: f[2] as u16, pointers }
    }

    /// The image; the first `len` bytes count.
    fn store(self, e: &Environment) -> [u8; 28] {
        let mut image = [0; 28];
        for (bytes, field) in image.chunks_exact_mut(self.field()).zip(self.fields(e)) {
            bytes.copy_from_slice(&field.to_le_bytes()[..self.field()]);
        }
        image
    }

    fn load(self, bytes: &[u8]) -> Environment {
        let mut fields = [0; 7];
        for (field, bytes) in fields.iter_mut().zip(bytes.chunks_exact(self.field())) {
            let mut value = [0; 4];
            value[..bytes.len()].copy_from_slice(bytes);
            *field = u32::from_le_bytes(value);
        }
        self.environment(&fields)
    }
}

/// The address that real and virtual-8086 mode store for selector and offset.
fn linear(selector: u16, offset: u64) -> u32 {
    (u32::from(selector) << 4).wrapping_add(offset as u32) // offsets of 16-bit code
}

/// Bytes of the eight registers behind the environment.
const REGISTERS: usize = 80;

impl Cpu {
    fn layout(&self, osz: u64) -> Layout {
        let is_protected = self.state.cr0 & cr0::PE != 0 && !self.is_vm86();
        Layout { is_16: osz == 16, is_real: !is_protected }
    }

    fn environment(&self) -> Environment {
        let (fcw, fsw, ftw) = (self.fcw(), self.fsw(), self.tag_word());
        Environment { fcw, fsw, ftw, pointers: self.fpu_pointers() }
    }

    /// Takes an environment; a register whose tag is not "empty" counts as full.
    fn set_environment(&mut self, e: &Environment) {
        self.turn((e.fsw >> 11 & 7) as u8);
        let full = (0..8).fold(0, |full, i| {
            let is_full = e.ftw >> (2 * i) & 3 != 3;
            full | u8::from(is_full) << i
        });
        self.set_fpu_words(e.fcw, e.fsw, full);
        self.set_fpu_pointers(e.pointers);
    }

    /// The operand of one of these instructions: the environment and `more` bytes. With alignment checking on, its fields
    /// must be aligned.
    fn fpu_operand(
        &mut self,
        seg: u64,
        off: u64,
        layout: Layout,
        more: usize,
        access: Access,
    ) -> Result<Operand, Fault> {
        self.park_fpu();
        let bytes = (layout.len() + more) as u32; // at most 108
        let lin = self.seg_lin(seg as u8, off, bytes, access)?;
        if self.checks_alignment() && lin.0 & (layout.field() as u64 - 1) != 0 {
            return Err(Fault::ac());
        }
        Operand::plain(self, seg, off, bytes, access)
    }

    /// FNINIT.
    pub(crate) fn fpu_init(&mut self) {
        self.park_fpu();
        self.init_x87(false);
    }

    /// FNSTENV: afterwards every exception is masked.
    pub(crate) fn store_environment(&mut self, seg: u64, off: u64, osz: u64) -> Result<(), Fault> {
        let layout = self.layout(osz);
        let operand = self.fpu_operand(seg, off, layout, 0, Access::Write)?;
        let e = self.environment();
        operand.write(self, 0, &layout.store(&e)[..layout.len()]);
        self.set_fpu_words(e.fcw | 0x3F, e.fsw, self.full_tags());
        Ok(())
    }

    /// FLDENV.
    pub(crate) fn load_environment(&mut self, seg: u64, off: u64, osz: u64) -> Result<(), Fault> {
        let layout = self.layout(osz);
        self.park_fpu();
        self.check_pending_x87()?;
        let operand = self.fpu_operand(seg, off, layout, 0, Access::Read)?;
        let mut bytes = [0; 28];
        let bytes = &mut bytes[..layout.len()];
        operand.read(self, 0, bytes);
        self.set_environment(&layout.load(bytes));
        Ok(())
    }

    /// FNSAVE.
    pub(crate) fn save_x87(&mut self, seg: u64, off: u64, osz: u64) -> Result<(), Fault> {
        let layout = self.layout(osz);
        let operand = self.fpu_operand(seg, off, layout, REGISTERS, Access::Write)?;
        let e = self.environment();
        operand.write(self, 0, &layout.store(&e)[..layout.len()]);
        for i in 0..8 {
            let value = self.st(i);
            operand.write(self, layout.len() + 10 * i, &value);
        }
        self.init_x87(false);
        Ok(())
    }

    /// FRSTOR.
    pub(crate) fn restore_x87(&mut self, seg: u64, off: u64, osz: u64) -> Result<(), Fault> {
        let layout = self.layout(osz);
        self.park_fpu();
        self.check_pending_x87()?;
        let operand = self.fpu_operand(seg, off, layout, REGISTERS, Access::Read)?;
        let mut bytes = [0; 28 + REGISTERS];
        let bytes = &mut bytes[..layout.len() + REGISTERS];
        operand.read(self, 0, bytes);
        let (head, registers) = bytes.split_at(layout.len());
        self.set_environment(&layout.load(head));
        for (i, value) in registers.chunks_exact(10).enumerate() {
            if let Ok(value) = value.try_into() {
                self.set_st(i, value);
            }
        }
        Ok(())
    }
}
