//! Random legal encodings of a row: for differential tests and generated programs.
//!
//! All choices come from the caller's random numbers, so the same numbers give the same bytes.
//! What comes out is checked by [`locate`](crate::locate()): the bytes belong to the row asked
//! for and to no stronger one.

mod address;
mod options;

pub use options::Options;

use crate::boxes::{RowBox, map_bytes};
use crate::locate::{immediate_len, locate};
use crate::model::{Form, Imm, Isa, Mandatory, ModRm, Row, Sz, VexL, VexW};
use std::ops::RangeInclusive;

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
    /// REX byte, or the same bits of a VEX prefix; 0 = none.
    pub rex: u8,
}

/// A random encoding of a row, or `None` when the options do not allow one.
pub fn encode(
    isa: &Isa,
    row: usize,
    options: &Options,
    rng: &mut dyn FnMut() -> u64,
) -> Option<Encoded> {
    let data = isa.rows.get(row)?;
    let is_long_only = data.attrs.has("o64") || data.opcode.rex_w;
    let is_elsewhere =
        if options.mode == 64 { data.attrs.has("i64") } else { is_long_only && options.mode != 64 };
    if is_elsewhere || state_bits(data) & !options.state != 0 {
        return None;
    }
    if data.attrs.has("vsib") && !options.vector_index {
        return None;
    }
    // A weak row, or one with free opcode bits, may hit bytes that belong to another.
    for _ in 0..32 {
        let mut g = Gen { row: data, o: options, rng, rex: 0, is_wide: false, vvvv: 0 };
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

/// FP and vector state a row uses: bits as in [`Options::state`].
pub fn state_bits(row: &Row) -> u8 {
    let names = ["x87", "mmx", "sse", "avx", "wait"];
    names.iter().enumerate().fold(0, |bits, (n, name)| bits | u8::from(row.attrs.has(name)) << n)
}

/// Bits of a REX prefix.
const W: u8 = 8;
const R: u8 = 4;
const X: u8 = 2;
const B: u8 = 1;

struct Gen<'a> {
    row: &'a Row,
    o: &'a Options,
    rng: &'a mut dyn FnMut() -> u64,
    /// W R X B collected so far.
    rex: u8,
    /// May registers 8 to 15 be named? (REX or VEX in 64-bit code.)
    is_wide: bool,
    vvvv: u8,
}

/// The parts of an encoding in which bytes are put together.
struct Parts {
    opcode: u8,
    modrm: Option<u8>,
    tail: Vec<u8>,
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

    fn one_of(&mut self, mask: u16) -> Option<u8> {
        let mask = if self.is_wide { mask } else { mask & 0xFF };
        let list: Vec<u8> = (0..16).filter(|n| mask >> n & 1 != 0).collect();
        let n = self.below(list.len() as u64) as usize;
        list.get(n).copied()
    }

    fn encode(&mut self) -> Option<Encoded> {
        let row = self.row;
        let is_vex = row.opcode.vex.is_some();
        let is_long = self.o.mode == 64;
        let needs_b = row.attrs.has("rexb");
        let needs_rex = row.opcode.rex_w || needs_b;
        let has_rex = is_long && !is_vex && (needs_rex || self.below(2) == 0);
        self.rex |= if needs_b { B } else { 0 };
        self.is_wide = is_long && (is_vex || has_rex);
        if has_rex && (row.opcode.rex_w || self.below(2) == 0) {
            self.rex |= W;
        }
        let takes_66 = matches!(row.opcode.prefix, Mandatory::Any | Mandatory::Nfx);
        // Processors disagree about 66 on near branches in 64-bit code.
        let keeps_size = is_long && row.attrs.has("f64");
        let opsize = self.coin(self.o.opsize && takes_66 && !keeps_size);
        let adsize = self.coin(self.o.adsize && self.addresses());
        let vex_w = self.vex_w();
        if vex_w {
            self.rex |= W;
        }
        let (osz, asz) = (self.operand_size(opsize), self.address_size(adsize));
        if asz == 16 && row.attrs.has("vsib") {
            return None;
        }
        self.vvvv = self.vvvv_register()?;
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
        let parts = Parts { opcode, modrm, tail };
        if is_vex {
            self.vex_bytes(&parts, &mut bytes);
        } else {
            self.legacy_bytes(&parts, has_rex, &mut bytes);
        }
        let rex = if has_rex || is_vex { 0x40 | self.rex } else { 0 };
        let fits = bytes.len() <= 15;
        fits.then_some(Encoded { bytes, osz, asz, locked, repeated: rep, modrm, rex })
    }

    fn legacy_bytes(&self, parts: &Parts, has_rex: bool, bytes: &mut Vec<u8>) {
        match self.row.opcode.prefix {
            Mandatory::Any | Mandatory::Np | Mandatory::Nfx => {}
            Mandatory::P66 => bytes.push(0x66),
            Mandatory::F3 => bytes.push(0xF3),
            Mandatory::F2 => bytes.push(0xF2),
        }
        bytes.extend(has_rex.then_some(0x40 | self.rex));
        bytes.extend_from_slice(map_bytes(self.row.opcode.map));
        bytes.push(parts.opcode);
        bytes.extend(parts.modrm);
        bytes.extend_from_slice(&parts.tail);
    }

    fn vex_bytes(&mut self, parts: &Parts, bytes: &mut Vec<u8>) {
        let l = match self.row.opcode.vex.map(|vex| vex.l) {
            Some(VexL::L256) => 1,
            Some(VexL::Lig) => self.below(2) as u8,
            _ => 0,
        };
        let pp = match self.row.opcode.prefix {
            Mandatory::P66 => 1,
            Mandatory::F3 => 2,
            Mandatory::F2 => 3,
            Mandatory::Any | Mandatory::Np | Mandatory::Nfx => 0,
        };
        let map = map_bytes(self.row.opcode.map);
        let last = (!self.vvvv & 15) << 3 | l << 2 | pp;
        let extension = !self.rex << 5;
        let short = map.len() == 1 && self.rex & (W | X | B) == 0;
        if short && self.below(4) != 0 {
            bytes.extend([0xC5, extension & 0x80 | last]);
        } else {
            let number = match map {
                [_, 0x38] => 2,
                [_, 0x3A] => 3,
                _ => 1,
            };
            bytes.extend([0xC4, extension | number, (self.rex & W) << 4 | last]);
        }
        bytes.push(parts.opcode);
        bytes.extend(parts.modrm);
        bytes.extend_from_slice(&parts.tail);
    }

    /// VEX.W of a VEX row.
    fn vex_w(&mut self) -> bool {
        match self.row.opcode.vex.map(|vex| vex.w) {
            Some(VexW::W1) => true,
            Some(VexW::Wig) => self.below(2) == 0,
            Some(VexW::W0) | None => false,
        }
    }

    fn operand_size(&self, toggled: bool) -> u32 {
        let has = |name| self.row.attrs.has(name);
        match self.o.mode {
            64 if self.rex & W != 0 || has("f64") => 64,
            64 if toggled => 16,
            64 if has("d64") => 64,
            64 => 32,
            mode => [16, 32][usize::from((mode == 32) != toggled)],
        }
    }

    fn address_size(&self, toggled: bool) -> u32 {
        match (self.o.mode, toggled) {
            (64, false) => 64,
            (64, true) | (16, true) | (32, false) => 32,
            _ => 16,
        }
    }

    /// Does the address size matter to this row?
    fn addresses(&self) -> bool {
        let forms = self.row.forms.iter().chain(self.row.attrs.with.iter().map(|(_, f)| f));
        forms.clone().any(|f| f.may_be_memory())
    }

    fn vvvv_register(&mut self) -> Option<u8> {
        match self.row.forms.iter().find(|form| form.uses_vvvv()) {
            None => Some(0),
            Some(Form::B(_)) => self.one_of(self.o.general()),
            Some(_) => self.one_of(self.o.vectors),
        }
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
        let number = self.register(byte)?;
        self.extend(number, B);
        Some(op.byte + (number & 7))
    }

    /// Number of a general register operand, as encoded.
    fn register(&mut self, byte: bool) -> Option<u8> {
        let all = self.o.general();
        if !byte || self.is_wide {
            return self.one_of(all); // with REX or VEX every register has a low byte
        }
        let low = all & 0xF;
        self.one_of(low | low << 4)
    }

    /// Puts bit 3 of a register number into its place of REX.
    fn extend(&mut self, number: u8, bit: u8) {
        if number & 8 != 0 {
            self.rex |= bit;
        }
    }

    /// A register for an operand of this form.
    fn register_of(&mut self, form: Form) -> Option<u8> {
        match form {
            Form::P(_) | Form::Q(_) | Form::N(_) => self.one_of(self.o.vectors & 0xFF),
            _ if form.is_vector() => self.one_of(self.o.vectors),
            _ => self.register(form.size() == Some(Sz::B)),
        }
    }

    fn modrm(&mut self, asz: u32, tail: &mut Vec<u8>) -> Option<Option<u8>> {
        let set = RowBox::of(self.row).modrm;
        let reg = match self.row.opcode.modrm {
            ModRm::None => return Some(None),
            ModRm::Fixed(byte) => return Some(Some(byte)),
            ModRm::FixedPlus(byte) => return Some(Some(byte + self.below(8) as u8)),
            ModRm::Reg(n) => n,
            ModRm::Any => {
                let number = self.reg_field()?;
                self.extend(number, R);
                number & 7
            }
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
                let form = self.row.forms.iter().find(|f| f.uses_rm()).copied();
                let rm = self.register_of(form.unwrap_or(Form::E(Sz::V)))?;
                self.extend(rm, B);
                Some(Some(0xC0 | reg << 3 | rm & 7))
            }
        }
    }

    fn reg_field(&mut self) -> Option<u8> {
        let form = self.row.forms.iter().find(|f| f.uses_reg()).copied();
        match form {
            Some(Form::Sw) => Some(self.below(6) as u8),
            Some(Form::C) => [0u8, 2, 3, 4].get(self.below(4) as usize).copied(),
            Some(Form::D) | None => Some(self.below(8) as u8),
            Some(form) => self.register_of(form),
        }
    }

    fn segment(&mut self, memory: bool) -> Option<u8> {
        let string = |f: &Form| matches!(f, Form::X(_) | Form::O(_));
        let takes = memory || self.row.forms.iter().any(string);
        if !takes || !self.coin(self.o.segments != 0) {
            return None;
        }
        let list: Vec<u8> = (0..6).filter(|n| self.o.segments >> n & 1 != 0).collect();
        let segment = list.get(self.below(list.len() as u64) as usize)?;
        [0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65].get(usize::from(*segment)).copied()
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
            Imm::Is4 => u64::from(self.one_of(self.o.vectors)?) << 4,
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
