//! Instructions whose body is `native!`: the op that runs them on the host, from their encoding and their row.
//!
//! Nothing is computed here. The encoding is taken over with general registers and memory renamed; the lists of the body say
//! which operands are written and read. Source of what x87 instructions leave behind: SDM Vol. 1, "x87 FPU Instruction and Data (Operand)
//! Pointers" and "Last Instruction Opcode".

use super::Lower;
use crate::decode::Operand;
use crate::decode::tables::attr;
use crate::insn::{Form, RowInfo, Sz, prefix};
use crate::state::{CpuState, Segment, seg};
use ir::{AccessKind, Code, FlagMask, Native, NativeReg, Op, Val, Width, simd};
use std::mem::offset_of;

/// Parts whose instructions look at pending x87 exceptions.
const WAITING: u8 = simd::X87 | simd::MMX | simd::WAIT;
/// Does an instruction of this row look at them?
pub(crate) const fn waits(info: &RowInfo) -> bool {
    info.simd & WAITING != 0 && info.attrs & attr::NOWAIT == 0
}

/// In `Ptr`'s immediate: must be aligned.
const PTR_ALIGNED: u32 = 1 << 17;
const EMPTY: Native = Native {
    map: 0,
    pp: 0,
    opsize: false,
    lock: false,
    opcode: 0,
    w: false,
    vl: 0,
    reg: NativeReg::None,
    rm: NativeReg::None,
    vvvv: NativeReg::None,
    imm: 0,
    imm_len: 0,
    byte_rm: false,
    reads: FlagMask::NONE,
    uses: 0,
    mem_bytes: 0,
    access: AccessKind::R,
};

/// The place of an operand in the encoding.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Slot {
    Reg,
    Rm,
    Vvvv,
    /// No register field: immediate, implicit, or fixed by the opcode.
    None,
}

const fn slot_of(form: Form) -> Slot {
    match form {
        Form::G(_) | Form::V(_) | Form::P(_) => Slot::Reg,
        Form::H(_) | Form::B(_) => Slot::Vvvv,
        Form::E(_) | Form::M(_) | Form::MAddr | Form::R(_) => Slot::Rm,
        Form::W(_) | Form::U(_) | Form::Q(_) | Form::N(_) => Slot::Rm,
        Form::Mp
        | Form::Ma
        | Form::Ms
        | Form::Z(_)
        | Form::I(_)
        | Form::Iu(_)
        | Form::J(_)
        | Form::O(_)
        | Form::Ap
        | Form::Sw
        | Form::C
        | Form::D
        | Form::X(_)
        | Form::Y(_)
        | Form::Reg(..)
        | Form::Seg(_)
        | Form::Lit(_)
        | Form::L(_)
        | Form::Same
        | Form::St0
        | Form::StI
        | Form::Xmm0 => Slot::None,
    }
}

/// What the operands of a native instruction come to.
struct Operands {
    d: Val,
    /// General registers read.
    sources: [Val; 2],
    count: usize,
    w: Width,
    memory: Option<usize>,
    implicit: bool,
}

impl Lower<'_> {
    /// At the start of every insn that uses FP or vector state: it is available, or the insn faults. A helper finds x87 state where it is, and
    /// looks at pending exceptions if its insn waits for them.
    pub(super) fn simd_enter(&mut self) {
        let info = self.insn.info();
        if info.simd == 0 {
            return;
        }
        let mut op = Op::new(Code::SimdEnter, Width::W32);
        op.x = info.simd;
        op.y = u8::from(info.simd == simd::X87 && info.attrs & attr::NATIVE == 0);
        self.block.push(op);
    }

    /// `native!(written; read)`, by operand numbers.
    pub(super) fn native(&mut self, written: &[usize], read: &[usize]) {
        let info = self.insn.info();
        let mut native = self.encoding(info);
        let operands = self.native_operands(info, &mut native, written, read);
        let mut pointer = Val::NONE;
        if let Some(i) = operands.memory {
            native.access = match (written.contains(&i), read.contains(&i)) {
                (true, true) => AccessKind::Rw,
                (true, false) => AccessKind::W,
                (false, _) => AccessKind::R,
            };
            pointer = self.native_pointer(i, &mut native, info);
        }
        let traps = waits(info) || info.attrs & attr::MXCSR != 0;
        let implicit = operands.implicit || info.attrs & attr::IMPLICIT != 0;
        let writes = FlagMask(self.row.written);
        let mut op = self.native_op(native, operands.w, writes, traps, implicit);
        op.a = pointer;
        op.d = operands.d;
        [op.b, op.c] = operands.sources;
        self.block.push(op);
        if info.simd & simd::X87 != 0 && info.attrs & attr::CONTROL == 0 {
            self.record_x87(operands.memory);
        }
    }

    fn native_op(
        &mut self,
        native: Native,
        w: Width,
        writes: FlagMask,
        traps: bool,
        implicit: bool,
    ) -> Op {
        let number = self.block.natives.len() as u32; // a block has few
        self.block.natives.push(native);
        Op::native(number, &native, w, writes, traps, implicit)
    }

    /// Everything of the encoding but the operands' places.
    fn encoding(&self, info: &RowInfo) -> Native {
        let insn = &self.insn;
        let is_general = |f: &Form| {
            matches!(f, Form::E(_) | Form::G(_) | Form::R(_) | Form::B(_) | Form::M(Sz::Y))
        };
        let by_osz = |f: &Form| matches!(f, Form::E(Sz::V) | Form::G(Sz::V) | Form::R(Sz::V));
        // Outside 64-bit mode W does not widen general registers.
        let is_general = info.attrs & attr::IMPLICIT != 0 || info.forms.iter().any(is_general);
        let w = insn.rex & 8 != 0 && (self.is_code64() || !is_general);
        let mut imm = insn.imm as u16 & 0xFF | (insn.imm2 as u16) << 8;
        let bytes = |f: &&Form| matches!(f, Form::I(Sz::B) | Form::Iu(Sz::B) | Form::L(_));
        if !self.is_code64() && info.forms.iter().any(|f| matches!(f, Form::L(_))) {
            imm &= 0x7F; // eight registers
        }
        let imm_len = info.forms.iter().filter(bytes).count() as u8; // at most 2
        Native {
            map: info.map,
            pp: info.pp,
            opsize: insn.osz == 16 && info.forms.iter().any(by_osz),
            lock: insn.prefixes & prefix::LOCK != 0,
            opcode: insn.opcode,
            w,
            vl: insn.vl,
            imm: if imm_len == 0 { 0 } else { imm },
            imm_len,
            reads: FlagMask(info.reads | if self.is_counted { info.undefined } else { 0 }),
            uses: info.simd,
            ..EMPTY
        }
    }

    /// Puts the operands into their places.
    fn native_operands(
        &mut self,
        info: &RowInfo,
        native: &mut Native,
        written: &[usize],
        read: &[usize],
    ) -> Operands {
        let mut out = Operands {
            d: Val::NONE,
            sources: [Val::NONE; 2],
            count: 0,
            w: Width::W32,
            memory: None,
            implicit: false,
        };
        // The result first: its width is the op's.
        for is_result in [true, false] {
            for (i, &form) in info.forms.iter().enumerate() {
                if written.contains(&i) != is_result {
                    continue;
                }
                let slot = slot_of(form);
                if slot == Slot::None {
                    out.implicit |= matches!(form, Form::Reg(..));
                    continue;
                }
                let role = self.native_role(i, &mut out, is_result, read.contains(&i));
                match slot {
                    Slot::Reg => native.reg = role,
                    Slot::Vvvv => native.vvvv = role,
                    _ => {
                        native.rm = role;
                        native.byte_rm = matches!(
                            self.operand(i),
                            Operand::Reg { bits: 8, .. } | Operand::High { .. }
                        );
                    }
                }
            }
        }
        let has_modrm = native.reg != NativeReg::None
            || native.rm != NativeReg::None
            || info.attrs & attr::MODRM != 0
            || (info.map == 0 && self.insn.opcode & 0xF8 == 0xD8);
        if has_modrm && native.reg == NativeReg::None {
            native.reg = NativeReg::Digit(self.insn.modrm >> 3 & 7);
        }
        if has_modrm && native.rm == NativeReg::None {
            native.rm = NativeReg::Digit(self.insn.modrm & 7);
        }
        out
    }

    /// The role of operand `i`; general registers become operands of the op.
    fn native_role(
        &mut self,
        i: usize,
        out: &mut Operands,
        is_written: bool,
        is_read: bool,
    ) -> NativeReg {
        let (val, w) = match self.operand(i) {
            Operand::Vec { num, .. } | Operand::Mmx { num } => return NativeReg::Vec(num),
            Operand::Mem(_) => {
                out.memory = Some(i);
                return NativeReg::Mem;
            }
            Operand::Reg { num, bits } => (Val::gpr(num), Width::from_bits(u32::from(bits))),
            Operand::High { num } => (self.copied_high(num), Width::W32),
            _ => {
                self.mismatches += 1; // no form of a native row: the tables' checks refuse it
                return NativeReg::None;
            }
        };
        if is_written {
            out.d = val;
            out.w = w;
            return if is_read { NativeReg::InOut } else { NativeReg::Out };
        }
        if out.d.is_none() {
            out.w = out.w.max(w);
        }
        if let Some(slot) = out.sources.get_mut(out.count) {
            *slot = val;
        }
        out.count += 1;
        if out.count == 1 { NativeReg::In0 } else { NativeReg::In1 }
    }

    /// A high-byte register where a REX prefix may be needed: its value in a temporary.
    fn copied_high(&mut self, num: u8) -> Val {
        let mut op = Op::new(Code::Extu, Width::W32);
        op.x = Width::W8 as u8;
        op.a = Val::high(num);
        op.d = self.block.temp(Width::W32);
        self.block.push(op)
    }

    /// The checked pointer of memory operand `i`.
    fn native_pointer(&mut self, i: usize, native: &mut Native, info: &RowInfo) -> Val {
        let Operand::Mem(m) = self.operand(i) else { return Val::NONE };
        let bytes = u32::from(m.bits / 8);
        native.mem_bytes = bytes as u8; // at most 64
        let state = self.mem_state(i);
        let is_legacy = native.vl == 0;
        let aligned = info.attrs & attr::ALIGNED != 0 || is_legacy && info.attrs & attr::ALIGN != 0;
        let mut op = Op::new(Code::Ptr, Width::W64);
        op.a = self.emit(state.off);
        op.d = self.block.temp(Width::W64);
        op.x = state.seg;
        op.y = self.access_width(state.aw) as u8;
        op.imm = bytes | (native.access as u32) << 8;
        if aligned && bytes >= 16 {
            op.imm |= PTR_ALIGNED;
        }
        self.block.push(op)
    }

    /// Instruction and data pointers and opcode of the last x87 insn. They come behind it: one that faults
    /// on an earlier exception leaves those of the earlier one.
    fn record_x87(&mut self, memory: Option<usize>) {
        let at = i64::from(self.at);
        let ip =
            if self.place.is_flat() { self.push_read_pc(at, Width::W64) } else { self.push_pc(at) };
        self.push_st_env(offset_of!(CpuState, fpu_ip), Width::W64, ip);
        let opcode = u64::from(self.insn.opcode & 7) << 8 | u64::from(self.insn.modrm);
        let opcode = self.block.constant(opcode);
        self.push_st_env(offset_of!(CpuState, fpu_op), Width::W16, opcode);
        self.record_selector(seg::CS, offset_of!(CpuState, fpu_cs));
        if let Some(i) = memory {
            let state = self.mem_state(i);
            let mut off = self.emit(state.off);
            if self.off_width() < Width::W64 {
                let mut op = Op::new(Code::Extu, Width::W64);
                op.x = self.off_width() as u8;
                op.a = off;
                op.d = self.block.temp(Width::W64);
                off = self.block.push(op);
            }
            self.push_st_env(offset_of!(CpuState, fpu_dp), Width::W64, off);
            self.record_selector(state.seg, offset_of!(CpuState, fpu_ds));
        }
    }

    fn record_selector(&mut self, number: u8, to: usize) {
        let from = offset_of!(CpuState, seg)
            + usize::from(number) * size_of::<Segment>()
            + offset_of!(Segment, selector);
        let mut op = Op::new(Code::LdEnv, Width::W16);
        op.d = self.block.temp(Width::W16);
        op.imm = from as u32; // an offset into the state
        let selector = self.block.push(op);
        self.push_st_env(to, Width::W16, selector);
    }
}
