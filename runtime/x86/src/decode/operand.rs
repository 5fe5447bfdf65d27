//! Operands of a decoded instruction, bound from the row's forms and the instruction's fields.
//!
//! Lowering and disassembly both go through here, so that each operand letter of LANGUAGE.md has one
//! reading. Nothing is evaluated: a memory operand names its registers, it is not an address.

use super::tables::{ROWS, attr};
use crate::insn::{Form, Insn, RowInfo, Sz, prefix};
use crate::state::seg;

/// One bound operand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operand {
    /// General register 0..16 at 8 (low byte), 16, 32 or 64 bits.
    Reg {
        /// Register number.
        num: u8,
        /// Width in bits.
        bits: u8,
    },
    /// AH CH DH BH (0..4).
    High {
        /// 0..4.
        num: u8,
    },
    /// Memory.
    Mem(MemOperand),
    /// Immediate or literal.
    Imm {
        /// Value, sign-extended to 64 bits (zero-extended for `Iu` forms); truncate to the operation's width.
        value: u64,
        /// Width of the encoded immediate in bits.
        bits: u8,
    },
    /// Near branch: displacement to add to the next instruction's pointer, then truncate to `osz`.
    Rel {
        /// Sign-extended displacement.
        disp: i64,
    },
    /// Far pointer immediate.
    Far {
        /// Selector.
        sel: u16,
        /// Offset (16 or 32 bits, by `osz`).
        off: u64,
    },
    /// XMM or YMM register.
    Vec {
        /// 0..16.
        num: u8,
        /// 128 or 256.
        bits: u16,
    },
    /// MMX register.
    Mmx {
        /// 0..8.
        num: u8,
    },
    /// x87 stack register.
    St {
        /// Distance from the top, 0..8.
        num: u8,
    },
    /// Segment register 0..6.
    Seg(u8),
    /// Control register.
    Cr(u8),
    /// Debug register.
    Dr(u8),
    /// String element.
    Str {
        /// Segment register: ES for a destination, DS or the override for a source.
        seg: u8,
        /// rSI (6) or rDI (7) at `asz` bits.
        reg: u8,
        /// Element width in bits.
        bits: u8,
    },
}

/// A memory operand: `seg:[base + index * 2^scale + disp]`, computed modulo 2^`asz`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemOperand {
    /// Segment register number, override applied.
    pub seg: u8,
    /// Base register.
    pub base: Option<u8>,
    /// Index register.
    pub index: Option<u8>,
    /// Vector register that is the index (`vsib` rows); then `index` is none.
    pub vector_index: Option<u8>,
    /// Shift of the index: 0..=3.
    pub scale: u8,
    /// Base is the next instruction's pointer (64-bit mode).
    pub rip: bool,
    /// Displacement, sign-extended (a moffs offset is zero-extended).
    pub disp: i64,
    /// Width of the data in bits; 0 when the form is an address only. Pairs and descriptor-table images give the
    /// whole: `Mp` 32/48/80, `Ma` 32/64, `Ms` 48/80.
    pub bits: u16,
    /// Address width in bits.
    pub asz: u8,
}

impl Insn {
    /// The row this instruction was decoded by.
    pub fn info(&self) -> &'static RowInfo {
        &ROWS[usize::from(self.row)]
    }

    /// Operand `i` of the row. The row has that many forms, or this is a bug of the caller.
    pub fn operand(&self, i: usize) -> Operand {
        let forms = self.info().forms;
        let second = forms[..i].iter().any(|f| matches!(f, Form::I(_) | Form::Iu(_) | Form::J(_)));
        self.bind(forms[i], second)
    }

    /// Binds a form of this row that is not in its operand list (`with(…)`).
    pub fn bind_form(&self, form: Form) -> Operand {
        self.bind(form, false)
    }

    /// May this instruction fault, exit or touch memory? Sharper than the row's `may_fault`.
    pub fn may_fault(&self) -> bool {
        let info = self.info();
        if self.is_memory_form() { info.may_fault } else { info.may_fault_reg }
    }

    /// Bytes of its immediate, if it has one and only one: they are its last.
    pub fn only_immediate(&self) -> Option<u8> {
        let mut bits = None;
        for form in self.info().forms {
            match *form {
                Form::I(sz) | Form::Iu(sz) if bits.is_none() => bits = Some(self.gpr_bits(sz)),
                Form::I(_) | Form::Iu(_) | Form::J(_) | Form::Ap | Form::O(_) | Form::L(_) => {
                    return None;
                }
                _ => {}
            }
        }
        bits.map(|bits| bits / 8).filter(|bytes| *bytes < self.len)
    }

    /// ModRM.mod.
    pub const fn modrm_mod(&self) -> u8 {
        self.modrm >> 6
    }
    /// ModRM.reg with REX.R.
    pub const fn modrm_reg(&self) -> u8 {
        (self.modrm >> 3 & 7) | (self.rex & 4) << 1
    }
    /// ModRM.rm with REX.B (register form).
    pub const fn modrm_rm(&self) -> u8 {
        (self.modrm & 7) | (self.rex & 1) << 3
    }
    /// Condition code of a `+cc` row.
    pub const fn condition(&self) -> u8 {
        self.opcode & 15
    }
    /// Does the ModRM byte select a memory operand?
    pub const fn is_memory_form(&self) -> bool {
        self.modrm < 0xC0
    }

    /// The segment a memory access uses whose default is `default`.
    pub const fn segment(&self, default: u8) -> u8 {
        if self.prefixes & prefix::SEG != 0 { self.seg } else { default }
    }

    /// Width in bits of an operand-size letter.
    pub const fn size_bits(&self, sz: Sz) -> u16 {
        match sz {
            Sz::B => 8,
            Sz::W => 16,
            Sz::D => 32,
            Sz::Q => 64,
            Sz::V => self.osz as u16,
            Sz::Z => {
                if self.osz == 16 {
                    16
                } else {
                    32
                }
            }
            Sz::Y => {
                if self.osz == 64 {
                    64
                } else {
                    32
                }
            }
            Sz::T => 80,
            Sz::Dq => 128,
            Sz::Qq => 256,
            Sz::X => 128 << (self.vl >> 1),
        }
    }

    /// Width of a size letter that a general register can have.
    const fn gpr_bits(&self, sz: Sz) -> u8 {
        self.size_bits(sz) as u8 // at most 64
    }

    /// A vector register whose size letter is `sz`: sizes below 128 bits speak of memory.
    const fn vector(&self, num: u8, sz: Sz) -> Operand {
        let bits = self.size_bits(sz);
        Operand::Vec { num, bits: if bits < 128 { 128 } else { bits } }
    }

    fn bind(&self, form: Form, second: bool) -> Operand {
        match form {
            Form::E(sz) if !self.is_memory_form() => self.register(self.modrm_rm(), sz),
            Form::E(sz) | Form::M(sz) => self.memory(self.size_bits(sz)),
            Form::G(sz) => self.register(self.modrm_reg(), sz),
            Form::MAddr => self.memory(0),
            Form::Mp => self.memory(u16::from(self.osz) + 16),
            Form::Ma => self.memory(u16::from(self.osz) * 2),
            Form::Ms => self.memory(if self.is_code64() { 80 } else { 48 }),
            Form::R(sz) => self.register(self.modrm_rm(), sz),
            Form::Z(sz) => self.register((self.opcode & 7) | (self.rex & 1) << 3, sz),
            Form::I(sz) => self.immediate(second, self.gpr_bits(sz), true),
            Form::Iu(sz) => self.immediate(second, self.gpr_bits(sz), false),
            Form::J(sz) => Operand::Rel { disp: sign_extend(self.imm, self.gpr_bits(sz)) },
            Form::O(sz) => Operand::Mem(self.moffs(self.size_bits(sz))),
            Form::Ap => Operand::Far { sel: self.imm2 as u16, off: self.imm },
            Form::Sw => Operand::Seg(self.modrm >> 3 & 7),
            Form::C => Operand::Cr(self.modrm_reg()),
            Form::D => Operand::Dr(self.modrm_reg()),
            Form::X(sz) => {
                Operand::Str { seg: self.segment(seg::DS), reg: 6, bits: self.gpr_bits(sz) }
            }
            Form::Y(sz) => Operand::Str { seg: seg::ES, reg: 7, bits: self.gpr_bits(sz) },
            Form::Reg(num @ 16..20, _) => Operand::High { num: num - 16 },
            Form::Reg(num, sz) => Operand::Reg { num, bits: self.gpr_bits(sz) },
            Form::Seg(num) => Operand::Seg(num),
            Form::Lit(value) => Operand::Imm { value: u64::from(value), bits: 8 },
            Form::V(sz) => self.vector(self.modrm_reg(), sz),
            Form::H(sz) => self.vector(self.vvvv, sz),
            Form::W(sz) | Form::U(sz) if !self.is_memory_form() => self.vector(self.modrm_rm(), sz),
            Form::L(sz) => self.vector(self.imm_register(), sz),
            Form::P(_) => Operand::Mmx { num: self.modrm >> 3 & 7 },
            Form::Q(_) | Form::N(_) if !self.is_memory_form() => {
                Operand::Mmx { num: self.modrm & 7 }
            }
            Form::W(sz) | Form::U(sz) | Form::Q(sz) | Form::N(sz) => {
                self.memory(self.size_bits(sz))
            }
            Form::B(sz) => Operand::Reg { num: self.vvvv, bits: self.gpr_bits(sz) },
            Form::Same => self.same_register(),
            Form::St0 => Operand::St { num: 0 },
            Form::StI => Operand::St { num: self.modrm & 7 },
            Form::Xmm0 => Operand::Vec { num: 0, bits: 128 },
        }
    }

    /// The register that a legacy row's first operand other than `Same` names.
    fn same_register(&self) -> Operand {
        let form = self.info().forms.iter().find(|form| **form != Form::Same);
        form.map_or(Operand::Vec { num: 0, bits: 128 }, |form| self.bind(*form, false))
    }

    /// The register in the high half of the immediate byte; eight of them outside 64-bit code.
    const fn imm_register(&self) -> u8 {
        let num = (self.imm >> 4) as u8 & 15;
        if self.is_code64() { num } else { num & 7 }
    }

    /// A register number as encoded: without REX, 8-bit numbers 4..8 are the high bytes.
    const fn register(&self, num: u8, sz: Sz) -> Operand {
        let bits = self.gpr_bits(sz);
        if bits == 8 && self.rex == 0 && num >= 4 && num < 8 {
            Operand::High { num: num - 4 }
        } else {
            Operand::Reg { num, bits }
        }
    }

    fn immediate(&self, second: bool, bits: u8, signed: bool) -> Operand {
        let raw = if second { u64::from(self.imm2) } else { self.imm };
        let value = if signed { sign_extend(raw, bits).cast_unsigned() } else { raw };
        Operand::Imm { value, bits }
    }

    fn moffs(&self, bits: u16) -> MemOperand {
        MemOperand {
            seg: self.segment(seg::DS),
            base: None,
            index: None,
            vector_index: None,
            scale: 0,
            rip: false,
            disp: self.imm.cast_signed(),
            bits,
            asz: self.asz,
        }
    }

    /// The memory operand of ModRM (which must select memory, except in `nomod` rows, that have none).
    fn memory(&self, bits: u16) -> Operand {
        debug_assert!(
            self.is_memory_form() && self.info().attrs & attr::NOMOD == 0,
            "no memory operand"
        );
        let mut m = MemOperand {
            seg: seg::DS,
            base: None,
            index: None,
            vector_index: None,
            scale: 0,
            rip: false,
            disp: i64::from(self.disp),
            bits,
            asz: self.asz,
        };
        if self.asz == 16 {
            self.address16(&mut m);
        } else {
            self.address32(&mut m);
        }
        m.seg = self.segment(m.seg);
        Operand::Mem(m)
    }

    /// SDM Vol. 2A, "16-Bit Addressing Forms with the ModR/M Byte".
    fn address16(&self, m: &mut MemOperand) {
        const BX: u8 = 3;
        const BP: u8 = 5;
        const SI: u8 = 6;
        const DI: u8 = 7;
        let (base, index) = match self.modrm & 7 {
            0 => (Some(BX), Some(SI)),
            1 => (Some(BX), Some(DI)),
            2 => (Some(BP), Some(SI)),
            3 => (Some(BP), Some(DI)),
            4 => (Some(SI), None),
            5 => (Some(DI), None),
            6 if self.modrm_mod() == 0 => (None, None),
            6 => (Some(BP), None),
            _ => (Some(BX), None),
        };
        m.base = base;
        m.index = index;
        if base == Some(BP) {
            m.seg = seg::SS;
        }
    }

    /// SDM Vol. 2A, "32-Bit Addressing Forms with the ModR/M Byte" and "… with the SIB Byte".
    fn address32(&self, m: &mut MemOperand) {
        let no_disp = self.modrm_mod() == 0;
        if !self.has_sib {
            if no_disp && self.modrm & 7 == 5 {
                m.rip = self.is_code64(); // 64-bit mode re-uses the absolute form
                return;
            }
            m.base = Some(self.modrm_rm());
        } else {
            let index = (self.sib >> 3 & 7) | (self.rex & 2) << 2;
            if self.info().attrs & attr::VSIB != 0 {
                m.vector_index = Some(index);
                m.scale = self.sib >> 6;
            } else if index != 4 {
                m.index = Some(index);
                m.scale = self.sib >> 6;
            }
            if !(no_disp && self.sib & 7 == 5) {
                m.base = Some((self.sib & 7) | (self.rex & 1) << 3);
            }
        }
        if matches!(m.base, Some(4 | 5)) {
            m.seg = seg::SS;
        }
    }

    /// Was it decoded in 64-bit mode?
    pub const fn is_code64(&self) -> bool {
        self.prefixes & prefix::CODE64 != 0
    }
}

/// The low `bits` of `value` as a signed number.
const fn sign_extend(value: u64, bits: u8) -> i64 {
    let shift = 64 - bits as u32;
    (value << shift).cast_signed() >> shift
}
