//! Random legal encodings of a row: for differential tests and generated programs.
//!
//! All choices come from the caller's random numbers, so the same numbers give the same bytes.
//! What comes out is checked by [`locate`](crate::locate()): the bytes belong to the row asked
//! for and to no stronger one.

use crate::boxes::{RowBox, map_bytes};
use crate::locate::{immediate_len, locate};
use crate::model::{Form, Imm, Isa, Mandatory, ModRm, Row, Sz};
use std::ops::RangeInclusive;

/// What encodings may contain. Register masks have bit n for register n (eAX eCX eDX eBX eSP eBP
/// eSI eDI).
#[derive(Clone, Debug)]
pub struct Options {
    /// 16- or 32-bit code.
    pub mode: u32,
    /// Registers that may be general register operands; for 8-bit operands bit n stands for both
    /// halves.
    pub registers: u8,
    /// May ModRM.rm name a register?
    pub register_forms: bool,
    /// May ModRM.rm name memory?
    pub memory_forms: bool,
    /// Registers that may be a base.
    pub bases: u8,
    /// Registers that may be an index (never eSP).
    pub indexes: u8,
    /// Displacements beside a base or index.
    pub disp: RangeInclusive<i32>,
    /// Addresses for forms without base and index, and moffs.
    pub absolute: Option<RangeInclusive<u32>>,
    /// Displacements of near jumps.
    pub jump: RangeInclusive<i32>,
    /// Selector and offsets of far pointers in the code; `None` = no such rows.
    pub far: Option<(u16, RangeInclusive<u32>)>,
    /// 66 prefix allowed on rows that take it as operand size.
    pub opsize: bool,
    /// 67 prefix allowed.
    pub adsize: bool,
    /// LOCK allowed where the row permits it and the operand is memory.
    pub lock: bool,
    /// F3/F2 allowed on `rep`/`repcc` rows.
    pub rep: bool,
    /// Segments (bit n for segment n) that may stand as override before memory operands.
    pub segments: u8,
}

impl Options {
    /// Registers only but eSP, no memory, no jumps beyond ±127, no prefixes but 66.
    pub fn registers_only(mode: u32) -> Options {
        Options {
            mode,
            registers: 0xEF,
            register_forms: true,
            memory_forms: false,
            bases: 0,
            indexes: 0,
            disp: 0..=0,
            absolute: None,
            jump: -128..=127,
            far: None,
            opsize: true,
            adsize: false,
            lock: false,
            rep: false,
            segments: 0,
        }
    }

    /// As [`Options::registers_only`], with memory operands at the given bases and displacements,
    /// LOCK and REP.
    pub fn with_memory(mode: u32, bases: u8, disp: RangeInclusive<i32>) -> Options {
        Options {
            memory_forms: true,
            bases,
            disp,
            adsize: true,
            lock: true,
            rep: true,
            ..Options::registers_only(mode)
        }
    }
}

/// An encoding and what it consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Operand size in bits.
    pub osz: u32,
    /// Address size in bits.
    pub asz: u32,
    /// Has a LOCK prefix.
    pub locked: bool,
    /// Has an F2 or F3 prefix.
    pub repeated: bool,
    /// ModRM byte.
    pub modrm: Option<u8>,
}

/// A random encoding of a row, or `None` when the options do not allow one.
pub fn encode(
    isa: &Isa,
    row: usize,
    options: &Options,
    rng: &mut dyn FnMut() -> u64,
) -> Option<Encoded> {
    let data = isa.rows.get(row)?;
    if data.attrs.has("o64") || data.opcode.rex_w {
        return None;
    }
    // A weak row, or one with free opcode bits, may hit bytes that belong to another.
    for _ in 0..32 {
        let mut g = Gen { row: data, o: options, rng };
        if let Some(encoded) = g.encode()
            && let Some(found) = locate(isa, &encoded.bytes, options.mode)
            && found.row == row
            && found.len == encoded.bytes.len()
        {
            return Some(encoded);
        }
    }
    None
}

struct Gen<'a> {
    row: &'a Row,
    o: &'a Options,
    rng: &'a mut dyn FnMut() -> u64,
}

impl Gen<'_> {
    fn below(&mut self, n: u64) -> u64 {
        if n == 0 { 0 } else { (self.rng)() % n }
    }

    fn coin(&mut self, allowed: bool) -> bool {
        allowed && self.below(4) == 0
    }

    fn within(&mut self, range: &RangeInclusive<i32>) -> i32 {
        let (low, high) = (i64::from(*range.start()), i64::from(*range.end()));
        let span = u64::try_from(high - low + 1).unwrap_or(1);
        (low + self.below(span) as i64) as i32
    }

    fn one_of(&mut self, mask: u8) -> Option<u8> {
        let list: Vec<u8> = (0..8).filter(|n| mask >> n & 1 != 0).collect();
        let n = self.below(list.len() as u64) as usize;
        list.get(n).copied()
    }

    fn encode(&mut self) -> Option<Encoded> {
        let row = self.row;
        let opsize = self.coin(self.o.opsize && row.opcode.prefix == Mandatory::Any);
        let adsize = self.coin(self.o.adsize && self.addresses());
        let size = |toggled: bool| if (self.o.mode == 16) != toggled { 16 } else { 32 };
        let (osz, asz) = (size(opsize), size(adsize));
        let mut tail = Vec::new();
        let opcode = self.opcode_byte()?;
        let modrm = self.modrm(asz, &mut tail)?;
        let memory = modrm.is_some_and(|m| m < 0xC0 && !row.attrs.has("nomod"));
        for imm in row.opcode.imms.clone() {
            self.immediate(imm, osz, asz, &mut tail)?;
        }
        let lockable = row.attrs.has("lock") && memory && self.o.lock;
        let locked = self.coin(lockable);
        let repeats = row.attrs.has("rep") || row.attrs.has("repcc");
        let rep = repeats && self.o.rep && self.below(2) == 0;
        let mut bytes = Vec::new();
        bytes.extend(locked.then_some(0xF0));
        bytes.extend(self.segment(memory));
        bytes.extend(opsize.then_some(0x66));
        bytes.extend(adsize.then_some(0x67));
        if rep {
            bytes.push(if self.below(2) == 0 { 0xF3 } else { 0xF2 });
        }
        match row.opcode.prefix {
            Mandatory::Any | Mandatory::Np => {}
            Mandatory::P66 => bytes.push(0x66),
            Mandatory::F3 => bytes.push(0xF3),
            Mandatory::F2 => bytes.push(0xF2),
        }
        bytes.extend_from_slice(map_bytes(row.opcode.map));
        bytes.push(opcode);
        bytes.extend(modrm);
        bytes.extend(tail);
        (bytes.len() <= 15).then_some(Encoded { bytes, osz, asz, locked, repeated: rep, modrm })
    }

    /// Does the address size matter to this row?
    fn addresses(&self) -> bool {
        let forms = self.row.forms.iter().chain(self.row.attrs.with.iter().map(|(_, f)| f));
        forms.clone().any(|f| f.may_be_memory())
    }

    fn opcode_byte(&mut self) -> Option<u8> {
        let op = &self.row.opcode;
        if op.span == 16 {
            return Some(op.byte + self.below(16) as u8);
        }
        if op.span != 8 {
            return Some(op.byte);
        }
        let byte = self.row.forms.contains(&Form::Z(Sz::B));
        Some(op.byte + self.register(byte)?)
    }

    /// Number of a register operand.
    fn register(&mut self, byte: bool) -> Option<u8> {
        if !byte {
            return self.one_of(self.o.registers);
        }
        let low = self.o.registers & 0xF;
        self.one_of(low | low << 4)
    }

    fn byte_sized(&self, pick: impl Fn(&Form) -> bool) -> bool {
        self.row.forms.iter().any(|f| pick(f) && f.size() == Some(Sz::B))
    }

    fn modrm(&mut self, asz: u32, tail: &mut Vec<u8>) -> Option<Option<u8>> {
        let set = RowBox::of(self.row).modrm;
        let reg = match self.row.opcode.modrm {
            ModRm::None => return Some(None),
            ModRm::Fixed(byte) => return Some(Some(byte)),
            ModRm::FixedPlus(byte) => return Some(Some(byte + self.below(8) as u8)),
            ModRm::Reg(n) => n,
            ModRm::Any => self.reg_field()?,
        };
        let memory = (0..0xC0u8).any(|m| m >> 3 & 7 == reg && set.has(m));
        let register = set.has(0xC0 | reg << 3);
        let nomod = self.row.attrs.has("nomod");
        let memory = memory && !nomod && self.memory_allowed();
        let register = register && (self.o.register_forms || nomod);
        match (memory, register) {
            (false, false) => None,
            (true, true) if self.below(2) == 0 => self.memory(reg, asz, tail),
            (true, false) => self.memory(reg, asz, tail),
            _ => {
                let byte = self.byte_sized(|f| f.uses_rm());
                let rm = self.register(byte)?;
                Some(Some(0xC0 | reg << 3 | rm))
            }
        }
    }

    fn memory_allowed(&self) -> bool {
        self.o.memory_forms && (self.o.bases != 0 || self.o.absolute.is_some())
    }

    fn reg_field(&mut self) -> Option<u8> {
        let form = self.row.forms.iter().find(|f| f.uses_reg()).copied();
        match form {
            Some(Form::Sw) => Some(self.below(6) as u8),
            Some(Form::C) => [0u8, 2, 3, 4].get(self.below(4) as usize).copied(),
            Some(Form::D) => Some(self.below(8) as u8),
            Some(_) => {
                let byte = self.byte_sized(|f| f.uses_reg());
                self.register(byte)
            }
            None => Some(self.below(8) as u8),
        }
    }

    fn segment(&mut self, memory: bool) -> Option<u8> {
        let string = |f: &Form| matches!(f, Form::X(_) | Form::O(_));
        let takes = memory || self.row.forms.iter().any(string);
        if !takes || !self.coin(self.o.segments != 0) {
            return None;
        }
        let segment = self.one_of(self.o.segments)?;
        [0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65].get(usize::from(segment)).copied()
    }

    fn memory(&mut self, reg: u8, asz: u32, tail: &mut Vec<u8>) -> Option<Option<u8>> {
        if let Some(range) = self.o.absolute.clone()
            && (self.o.bases == 0 || self.below(4) == 0)
        {
            let (low, high) = (u64::from(*range.start()), u64::from(*range.end()));
            let address = low + self.below(high.saturating_sub(low) + 1);
            let len = asz as usize / 8;
            tail.extend_from_slice(&address.to_le_bytes()[..len]);
            return Some(Some(reg << 3 | if asz == 16 { 6 } else { 5 }));
        }
        if asz == 16 { self.memory16(reg, tail) } else { self.memory32(reg, tail) }
    }

    fn memory16(&mut self, reg: u8, tail: &mut Vec<u8>) -> Option<Option<u8>> {
        /// Base and index of each rm value.
        const PARTS: [(u8, Option<u8>); 8] = [
            (3, Some(6)),
            (3, Some(7)),
            (5, Some(6)),
            (5, Some(7)),
            (6, None),
            (7, None),
            (5, None),
            (3, None),
        ];
        let allowed = |(base, index): &(u8, Option<u8>)| {
            self.o.bases >> base & 1 != 0 && index.is_none_or(|i| self.o.indexes >> i & 1 != 0)
        };
        let mask = PARTS
            .iter()
            .enumerate()
            .filter(|(_, p)| allowed(p))
            .fold(0u8, |mask, (n, _)| mask | 1 << n);
        let rm = self.one_of(mask)?;
        let range = self.o.disp.clone();
        let disp = self.within(&range);
        let mode = match disp {
            0 if rm != 6 => 0,
            -128..=127 => 1,
            _ => 2,
        };
        tail.extend_from_slice(&disp.to_le_bytes()[..mode]);
        Some(Some((mode as u8) << 6 | reg << 3 | rm))
    }

    fn memory32(&mut self, reg: u8, tail: &mut Vec<u8>) -> Option<Option<u8>> {
        let base = self.one_of(self.o.bases)?;
        let indexes = self.o.indexes & !(1 << 4);
        let index = if indexes != 0 && self.below(3) == 0 { self.one_of(indexes) } else { None };
        let sib = base == 4 || index.is_some() || self.below(8) == 0;
        let range = self.o.disp.clone();
        let disp = self.within(&range);
        let mode: u8 = match disp {
            0 if base != 5 => 0,
            -128..=127 => 1,
            _ => 2,
        };
        if sib {
            let scale = if index.is_some() { self.below(4) as u8 } else { 0 };
            tail.push(scale << 6 | index.unwrap_or(4) << 3 | base);
        }
        let len = [0, 1, 4][usize::from(mode)];
        tail.extend_from_slice(&disp.to_le_bytes()[..len]);
        Some(Some(mode << 6 | reg << 3 | if sib { 4 } else { base }))
    }

    fn immediate(&mut self, imm: Imm, osz: u32, asz: u32, tail: &mut Vec<u8>) -> Option<()> {
        let len = immediate_len(imm, osz, asz);
        let jumps = self.row.forms.iter().any(|f| matches!(f, Form::J(_)));
        let value = match imm {
            Imm::Ptr => {
                let (selector, offsets) = self.o.far.clone()?;
                let (low, high) = (u64::from(*offsets.start()), u64::from(*offsets.end()));
                let offset = low + self.below(high.saturating_sub(low) + 1);
                tail.extend_from_slice(&offset.to_le_bytes()[..len - 2]);
                tail.extend_from_slice(&selector.to_le_bytes());
                return Some(());
            }
            Imm::Moffs => {
                let range = self.o.absolute.clone()?;
                let (low, high) = (u64::from(*range.start()), u64::from(*range.end()));
                low + self.below(high.saturating_sub(low) + 1)
            }
            Imm::B | Imm::Z if jumps => {
                let range = self.o.jump.clone();
                let limit = if imm == Imm::B { -128..=127 } else { i32::MIN..=i32::MAX };
                let low = (*range.start()).max(*limit.start());
                let high = (*range.end()).min(*limit.end());
                if low > high {
                    return None;
                }
                i64::from(self.within(&(low..=high))) as u64
            }
            _ => self.plain_immediate(),
        };
        tail.extend_from_slice(&value.to_le_bytes()[..len]);
        Some(())
    }

    /// Often an edge, else anything.
    fn plain_immediate(&mut self) -> u64 {
        const EDGES: [u64; 10] = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0x7FFF_FFFF, u64::MAX];
        if self.below(2) == 0 {
            EDGES[self.below(EDGES.len() as u64) as usize]
        } else {
            (self.rng)()
        }
    }
}
