//! The CPU as the evaluator's guest.

use std::mem::offset_of;

use ir::{AccessKind, Native, NativeIo, Width};
use mem::TscMap;

use crate::cpu::Cpu;
use crate::fault::Fault;
use crate::mode::Mode;
use crate::state::{CpuState, Load, Segment, TableReg, Transfer, Window};

impl ir::Guest for Cpu {
    type Stop = Fault;

    fn gpr(&self, n: u8) -> u64 {
        self.state.gpr[usize::from(n & 15)]
    }
    fn set_gpr(&mut self, n: u8, v: u64) {
        self.state.gpr[usize::from(n & 15)] = v;
    }
    fn flags(&self) -> u32 {
        self.state.arith_flags()
    }
    fn set_flags(&mut self, v: u32) {
        self.state.set_arith_flags(v);
    }
    fn ld_env(&self, off: u32, w: Width) -> u64 {
        let place = locate(off as usize);
        debug_assert!(place.is_some(), "FIELDS lacks {off:#x}");
        place.map_or(0, |(f, i, skip)| (f.read)(&self.state, i) >> (8 * skip)) & w.mask()
    }
    fn st_env(&mut self, off: u32, w: Width, v: u64) {
        let place = locate(off as usize);
        debug_assert!(place.is_some(), "FIELDS lacks {off:#x}");
        if let Some((f, i, skip)) = place {
            let mask = w.mask() << (8 * skip);
            let old = (f.read)(&self.state, i);
            (f.write)(&mut self.state, i, old & !mask | v << (8 * skip) & mask);
        }
    }
    fn read_pc(&self, page_off: i32) -> u64 {
        self.state.pc_base.wrapping_add_signed(i64::from(page_off))
    }
    fn load(&mut self, seg: u8, off: u64, w: Width) -> Result<u64, Fault> {
        Self::load(self, seg, off, w.bytes())
    }
    fn store(&mut self, seg: u8, off: u64, w: Width, v: u64) -> Result<(), Fault> {
        Self::store(self, seg, off, w.bytes(), v)
    }
    fn probe(&mut self, seg: u8, off: u64, size: u32, kind: AccessKind) -> Result<u64, Fault> {
        Self::probe(self, seg, off, size, kind)
    }
    fn probe_aligned(
        &mut self,
        seg: u8,
        off: u64,
        size: u32,
        kind: AccessKind,
    ) -> Result<u64, Fault> {
        self.check_operand_alignment(seg, off, size, kind)?;
        Self::probe(self, seg, off, size, kind)
    }
    fn ld_ptr(&mut self, p: u64, disp: i32, w: Width) -> u64 {
        self.read_handle(p, disp, w.bytes())
    }
    fn st_ptr(&mut self, p: u64, disp: i32, w: Width, v: u64) {
        self.write_handle(p, disp, w.bytes(), v);
    }
    fn call(&mut self, id: u32, args: [u64; 4]) -> Result<u64, Fault> {
        crate::lower::helpers::dispatch(self, id, args)
    }
    fn simd_enter(&mut self, uses: u8) -> Result<(), Fault> {
        self.check_simd(uses)
    }
    fn native(&mut self, native: &Native, io: &mut NativeIo) -> Result<(), Fault> {
        self.run_native(native, io)
    }
    fn raise(&mut self, what: u32, code: u64) -> Fault {
        Fault::from_raise(what, code as u32)
    }
    /// Keeps the instruction pointer exact, so that a fault anywhere in a block finds its insn.
    fn insn_start(&mut self, page_off: u32, _len: u8) {
        let pc = self.state.pc_base.wrapping_add(u64::from(page_off));
        self.state.pc = if self.mode().has(Mode::CODE64) { pc } else { pc & 0xFFFF_FFFF };
    }
}

/// One scalar field of the state, or the same field of every element of an array.
struct Field {
    at: usize,
    size: usize,
    stride: usize,
    count: usize,
    read: fn(&CpuState, usize) -> u64,
    write: fn(&mut CpuState, usize, u64),
}

macro_rules! field {
    ($name:ident: $ty:ty) => {
        Field {
            at: offset_of!(CpuState, $name),
            size: size_of::<$ty>(),
            stride: size_of::<$ty>(),
            count: 1,
            read: |s, _| s.$name as u64,
            write: |s, _, v| s.$name = v as $ty,
        }
    };
    ($name:ident[$n:expr]) => {
        Field {
            at: offset_of!(CpuState, $name),
            size: 8,
            stride: 8,
            count: $n,
            read: |s, i| s.$name[i],
            write: |s, i, v| s.$name[i] = v,
        }
    };
    ($name:ident[$n:expr] . $elem:ident . $part:ident: $ty:ty) => {
        Field {
            at: offset_of!(CpuState, $name) + offset_of!($elem, $part),
            size: size_of::<$ty>(),
            stride: size_of::<$elem>(),
            count: $n,
            read: |s, i| s.$name[i].$part as u64,
            write: |s, i, v| s.$name[i].$part = v as $ty,
        }
    };
    ($name:ident . $elem:ident . $part:ident: $ty:ty) => {
        Field {
            at: offset_of!(CpuState, $name) + offset_of!($elem, $part),
            size: size_of::<$ty>(),
            stride: size_of::<$ty>(),
            count: 1,
            read: |s, _| s.$name.$part as u64,
            write: |s, _, v| s.$name.$part = v as $ty,
        }
    };
}

/// Every scalar of the state, the ones that lowered code uses most first.
static FIELDS: &[Field] = &[
    field!(df: i32),
    field!(leave: u32),
    field!(pc: u64),
    field!(shadow: u32),
    field!(repeating: u64),
    field!(eflags: u32),
    field!(gpr[16]),
    field!(cc: u32),
    field!(jump_mask: u32),
    field!(pc_base: u64),
    field!(jump_base: u64),
    field!(tlb_mask: u64),
    field!(watched: u32),
    field!(mode: u32),
    field!(to_system.Transfer.ctx: u64),
    field!(to_system.Transfer.view: u64),
    field!(to_system.Transfer.cs: u64),
    field!(to_system.Transfer.ss: u64),
    field!(to_system.Transfer.mode: u32),
    field!(to_user.Transfer.ctx: u64),
    field!(to_user.Transfer.view: u64),
    field!(to_user.Transfer.cs: u64),
    field!(to_user.Transfer.ss: u64),
    field!(to_user.Transfer.mode: u32),
    field!(lstar: u64),
    field!(sfmask: u64),
    field!(views[2]),
    field!(scratch[2]),
    field!(args[4]),
    field!(meta: u32),
    field!(host_ret: u64),
    field!(tlb_base: u64),
    field!(window[6].Window.base: u64),
    field!(window[6].Window.read_end: u64),
    field!(window[6].Window.write_end: u64),
    field!(cpl: u32),
    // Selector, attributes and limit: bodies write them as one word.
    Field {
        at: offset_of!(CpuState, seg),
        size: 8,
        stride: size_of::<Segment>(),
        count: 6,
        read: |s, i| s.seg[i].word(),
        write: |s, i, v| {
            let segment = &mut s.seg[i];
            (segment.selector, segment.attr, segment.limit) =
                (v as u16, (v >> 16) as u16, (v >> 32) as u32);
        },
    },
    field!(seg[6].Segment.base: u64),
    field!(ldtr.Segment.selector: u16),
    field!(tr.Segment.selector: u16),
    field!(gdtr.TableReg.base: u64),
    field!(gdtr.TableReg.limit: u32),
    field!(idtr.TableReg.base: u64),
    field!(idtr.TableReg.limit: u32),
    field!(loads[6].Load.key: u32),
    field!(loads[6].Load.null_key: u32),
    field!(loads[6].Load.at: u64),
    field!(loads[6].Load.descriptor: u64),
    field!(loads[6].Load.word: u64),
    field!(loads[6].Load.base: u64),
    field!(loads[6].Load.read_end: u64),
    field!(loads[6].Load.write_end: u64),
    field!(sysenter_esp: u64),
    field!(sysenter_eip: u64),
    field!(tsc_aux: u64),
    field!(tsc.TscMap.zero: u64),
    field!(tsc.TscMap.span: u64),
    field!(tsc.TscMap.scale: u64),
    field!(tsc.TscMap.base: u64),
    field!(kernel_gs_base: u64),
    field!(cr0: u64),
    field!(cr2: u64),
    field!(cr3: u64),
    field!(cr4: u64),
    field!(dr[8]),
    field!(efer: u64),
    field!(fault: u32),
    field!(fault_code: u32),
    field!(halted: u32),
    field!(ready: u32),
    field!(mxcsr: u32),
    field!(fpu_host: u32),
    field!(xcr0: u64),
    field!(fpu_ip: u64),
    field!(fpu_dp: u64),
    field!(fpu_op: u16),
    field!(fpu_cs: u16),
    field!(fpu_ds: u16),
];

/// The field that holds byte `off` of the state, its element number, and the byte's place in it.
fn locate(off: usize) -> Option<(&'static Field, usize, usize)> {
    FIELDS.iter().find_map(|f| {
        let rel = off.checked_sub(f.at)?;
        let (i, skip) = (rel / f.stride, rel % f.stride);
        (i < f.count && skip < f.size).then_some((f, i, skip))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::cpu;
    use ir::Guest;

    #[test]
    fn insns_move_the_instruction_pointer() {
        let mut cpu = cpu();
        cpu.state.pc_base = 0xFFFF_F000;
        cpu.insn_start(0x123, 2);
        assert_eq!(cpu.state.pc, 0xFFFF_F123);
        cpu.insn_start(0x1004, 2);
        assert_eq!(cpu.state.pc, 4);
    }

    #[test]
    fn state_fields_by_offset() {
        let mut cpu = cpu();
        for (n, f) in FIELDS.iter().enumerate() {
            for i in 0..f.count {
                let w = Width::from_bits(8 * f.size as u32);
                let v = (0x1122_3344_5566_7700 + n as u64) & w.mask();
                let off = (f.at + i * f.stride) as u32;
                cpu.st_env(off, w, v);
                assert_eq!(cpu.ld_env(off, w), v, "field {n}");
                assert_eq!(cpu.ld_env(off + 1, Width::W8), v >> 8 & 0xFF);
            }
        }
        let selector = offset_of!(CpuState, seg) + 3 * size_of::<Segment>();
        cpu.st_env(selector as u32, Width::W16, 0xABCD);
        assert_eq!(cpu.state.seg[3].selector, 0xABCD);
        cpu.st_env(offset_of!(CpuState, gpr) as u32 + 9, Width::W8, 0x77);
        assert_eq!(cpu.state.gpr[1] >> 8 & 0xFF, 0x77);
    }
}
