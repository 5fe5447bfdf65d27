//! The decoder: bytes to [`Insn`] through dense tables generated from `isa-spec/x86`.
//!
//! Prefixes are scanned by a class table, the opcode selects an entry of its map, and nodes refine the
//! entry by mode, prefix, ModRM or processor until a row is left (`codegen/core/src/decoder` builds and
//! describes them). The row then says which fields follow. Nothing here knows an instruction by name.
//! Rules of SDM Vol. 2A, "Instruction Format", and Vol. 2A, "LOCK—Assert LOCK# Signal Prefix".

mod features;
mod operand;
pub mod tables;

pub use features::{CpuInfo, FeatureInfo, Features, Level, Maker};
pub use operand::{MemOperand, Operand};
pub use tables::{CPUS, FEATURES, ROWS, attr, feature};

use crate::insn::{CodeSize, DecodeError, Insn, prefix};
use tables::{GATES, MAPS, NODES, ROW_BITS, SLOTS, node, row_bit};

/// An instruction has at most this many bytes.
pub const MAX_LEN: usize = 15;

/// Decodes the instruction at the start of `bytes` (which may be longer; 15 bytes are always enough).
pub fn decode(bytes: &[u8], size: CodeSize, features: &Features) -> Result<Insn, DecodeError> {
    let limit = bytes.len().min(MAX_LEN);
    let mut padded = [0; WINDOW];
    let window = bytes.first_chunk().unwrap_or_else(|| {
        padded[..bytes.len()].copy_from_slice(bytes);
        &padded
    });
    let mut cursor = Cursor { window, limit, pos: 0 };
    let mut insn = empty_insn();
    match decode_in(&mut cursor, &mut insn, size, features) {
        _ if cursor.pos > limit => {
            Err(if limit == MAX_LEN { DecodeError::TooLong } else { DecodeError::Truncated })
        }
        true => Ok(insn),
        false => Err(DecodeError::Undefined { len: cursor.pos as u8 }), // at most 15
    }
}

/// Decodes without asking where the bytes end (the caller does, once). False = undefined.
#[inline]
fn decode_in(cursor: &mut Cursor, insn: &mut Insn, size: CodeSize, features: &Features) -> bool {
    let mut opcode = scan_prefixes(cursor, insn, size);
    let mut map = 0;
    if opcode & 0xFE == 0xC4 && (size == CodeSize::Bits64 || cursor.peek() >= 0xC0) {
        let bytes = [opcode, cursor.byte_at(0), cursor.byte_at(1)];
        let Some(vex) = read_vex(bytes, insn.prefixes, insn.rex, size) else {
            // The map number may lie beyond the end.
            cursor.pos += if opcode == 0xC4 { 2 } else { 1 };
            return false;
        };
        cursor.pos += vex.len;
        (insn.rex, insn.vl, insn.vvvv) = (vex.rex, 1 + vex.l, vex.vvvv);
        insn.prefixes |= vex.prefix;
        map = vex.map;
        opcode = cursor.byte();
    } else if opcode == 0x0F {
        opcode = cursor.byte();
        map = 1;
        if opcode == 0x38 || opcode == 0x3A {
            map = 2 + usize::from(opcode >> 1 & 1);
            opcode = cursor.byte();
        }
    }
    insn.opcode = opcode;
    let first = MAPS[map * 256 + usize::from(opcode)];
    let seen = Seen { prefixes: insn.prefixes, rex: insn.rex, vl: insn.vl, modrm: cursor.peek() };
    let entry = select_row::<false>(first, seen, features);
    if entry == 0 {
        // That it is none was read from a ModRM byte, which may lie beyond the end.
        cursor.pos += usize::from(asks_modrm(first, seen, features));
        return false;
    }
    insn.row = entry - 1;
    let bits = ROW_BITS[usize::from(insn.row)];
    set_sizes(insn, bits, size);
    if bits & row_bit::MODRM != 0 {
        insn.modrm = cursor.byte();
        if bits & row_bit::NOMOD == 0 {
            read_address(cursor, insn);
        }
    }
    read_immediates(cursor, insn, bits);
    insn.len = cursor.pos as u8; // fits: the longest form is far below 256
    if insn.vl == 0 {
        return is_legal(insn, bits);
    }
    let is_used = bits & row_bit::VVVV != 0;
    let is_legal = is_used || insn.vvvv == 0;
    if size != CodeSize::Bits64 {
        insn.vvvv &= 7;
    }
    is_legal && (bits & row_bit::VSIB == 0 || is_legal_gather(insn))
}

/// What a VEX prefix says.
struct Vex {
    /// Number of the opcode map among the decoder's.
    map: usize,
    /// Bytes after the first.
    len: usize,
    /// W R X B as in a REX byte.
    rex: u8,
    /// L.
    l: u8,
    vvvv: u8,
    /// The prefix it stands for.
    prefix: u16,
}

/// Reads what follows the first byte of a VEX prefix. SDM Vol. 2A, "The VEX Prefix"; prefixes that VEX stands for may
/// not come before it. By value, so that the caller keeps its instruction in registers.
#[inline(never)]
fn read_vex(bytes: [u8; 3], before: u16, rex: u8, size: CodeSize) -> Option<Vex> {
    const FORBIDDEN: u16 = prefix::LOCK | prefix::REP | prefix::REPNE | prefix::OPSIZE;
    if before & FORBIDDEN != 0 || rex != 0 {
        return None;
    }
    let [first, payload, second] = bytes;
    let (extension, map, last, len) = match first {
        0xC4 => (payload, payload & 0x1F, second, 2),
        _ => (payload | 0x60, 1, payload & 0x7F, 1),
    };
    // R, X and B are stored inverted, from bit 7 down; outside 64-bit code there are eight registers.
    let extension = if size == CodeSize::Bits64 { !extension >> 5 } else { 0 };
    let vex = Vex {
        map: usize::from(map) + 3, // maps 1 to 3 stand behind the four legacy maps
        len,
        rex: 0x40 | extension | last >> 4 & 8,
        l: last >> 2 & 1,
        vvvv: !last >> 3 & 15,
        prefix: [0, prefix::OPSIZE, prefix::REP, prefix::REPNE][usize::from(last & 3)],
    };
    matches!(map, 1..=3).then_some(vex)
}

/// A gather has an index, and its three registers differ.
#[inline]
const fn is_legal_gather(insn: &Insn) -> bool {
    let index = (insn.sib >> 3 & 7) | (insn.rex & 2) << 2;
    let (target, mask) = (insn.modrm_reg(), insn.vvvv);
    insn.has_sib && target != index && target != mask && index != mask
}

const fn empty_insn() -> Insn {
    Insn {
        row: 0,
        len: 0,
        opcode: 0,
        modrm: 0,
        sib: 0,
        has_sib: false,
        rex: 0,
        vl: 0,
        vvvv: 0,
        seg: 0,
        osz: 0,
        asz: 0,
        prefixes: 0,
        disp: 0,
        imm: 0,
        imm2: 0,
    }
}

/// Bytes that reading may touch: 15 prefixes, a VEX prefix and opcode of four bytes, ModRM, SIB, displacement, and two reads of eight
/// bytes for immediates of which the first takes at most eight.
const WINDOW: usize = 15 + 4 + 2 + 4 + 8 + 8;

/// Reading position. Reads beyond the given bytes see other bytes or zeros; that is found out at the end.
struct Cursor<'a> {
    window: &'a [u8; WINDOW],
    /// Bytes that belong to the instruction at most.
    limit: usize,
    pos: usize,
}

impl Cursor<'_> {
    #[inline]
    fn peek(&self) -> u8 {
        self.window[self.pos]
    }

    /// The byte `ahead` of the reading position.
    #[inline]
    fn byte_at(&self, ahead: usize) -> u8 {
        self.window[self.pos + ahead]
    }

    #[inline]
    fn byte(&mut self) -> u8 {
        let byte = self.peek();
        self.pos += 1;
        byte
    }

    /// A little-endian number of `len` bytes (0..=8), zero-extended. No branch: lengths are hard to predict.
    #[inline]
    fn number(&mut self, len: u8) -> u64 {
        let bytes = self.eight_bytes();
        self.pos += usize::from(len);
        bytes & NUMBER_MASK[usize::from(len & 15)]
    }

    /// A little-endian number of `len` bytes (0..=4), sign-extended.
    #[inline]
    fn signed_number(&mut self, len: u8) -> i32 {
        let bytes = self.eight_bytes();
        self.pos += usize::from(len);
        // In two steps, so that a length of 0 leaves nothing.
        let shift = 56 - 8 * u32::from(len & 7);
        ((bytes << 8 << shift).cast_signed() >> 8 >> shift) as i32 // fits: at most 4 bytes
    }

    #[inline]
    fn eight_bytes(&self) -> u64 {
        let rest = self.window.get(self.pos..).unwrap_or_default();
        rest.first_chunk().map_or(0, |chunk| u64::from_le_bytes(*chunk))
    }
}

/// Masks of numbers of 0..=8 bytes.
const NUMBER_MASK: [u64; 16] = {
    let mut masks = [u64::MAX; 16];
    let mut len = 0;
    while len < 8 {
        masks[len] = (1 << (8 * len)) - 1;
        len += 1;
    }
    masks
};

/// Prefix classes of a byte; 0 is no prefix.
mod class {
    pub(super) const OPSIZE: u8 = 1;
    pub(super) const ADSIZE: u8 = 2;
    pub(super) const LOCK: u8 = 3;
    pub(super) const REPNE: u8 = 4;
    pub(super) const REP: u8 = 5;
    pub(super) const REX: u8 = 6;
    /// Plus the segment register's number.
    pub(super) const SEG: u8 = 8;
}

static PREFIX_CLASS: [u8; 256] = prefix_classes();

const fn prefix_classes() -> [u8; 256] {
    let mut table = [0; 256];
    table[0x66] = class::OPSIZE;
    table[0x67] = class::ADSIZE;
    table[0xF0] = class::LOCK;
    table[0xF2] = class::REPNE;
    table[0xF3] = class::REP;
    table[0x26] = class::SEG;
    table[0x2E] = class::SEG + 1;
    table[0x36] = class::SEG + 2;
    table[0x3E] = class::SEG + 3;
    table[0x64] = class::SEG + 4;
    table[0x65] = class::SEG + 5;
    let mut rex = 0x40;
    while rex < 0x50 {
        table[rex] = class::REX;
        rex += 1;
    }
    table
}

/// Reads prefixes into `insn` and returns the first opcode byte. Of each group the last prefix wins; a REX
/// byte counts only right before the opcode.
#[inline]
fn scan_prefixes(cursor: &mut Cursor, insn: &mut Insn, size: CodeSize) -> u8 {
    let is_code64 = size == CodeSize::Bits64;
    if is_code64 {
        insn.prefixes = prefix::CODE64;
    }
    loop {
        let byte = cursor.byte();
        let class = PREFIX_CLASS[usize::from(byte)];
        // More prefixes than an instruction has room for are as good as an opcode: the end check finds them.
        if class == 0 || (class == class::REX && !is_code64) || cursor.pos > cursor.limit {
            return byte;
        }
        insn.rex = 0;
        match class {
            class::OPSIZE => insn.prefixes |= prefix::OPSIZE,
            class::ADSIZE => insn.prefixes |= prefix::ADSIZE,
            class::LOCK => insn.prefixes |= prefix::LOCK,
            class::REPNE => insn.prefixes = insn.prefixes & !prefix::REP | prefix::REPNE,
            class::REP => insn.prefixes = insn.prefixes & !prefix::REPNE | prefix::REP,
            class::REX => insn.rex = byte,
            // In 64-bit mode the overrides of the four flat segments are ignored.
            segment if !is_code64 || segment >= class::SEG + 4 => {
                insn.prefixes |= prefix::SEG;
                insn.seg = segment - class::SEG;
            }
            _ => {}
        }
    }
}

/// What nodes ask for. By value: the address of an [`Insn`] or [`Cursor`] under construction, given away, keeps both
/// out of registers.
#[derive(Clone, Copy)]
struct Seen {
    prefixes: u16,
    rex: u8,
    vl: u8,
    /// The byte behind the opcode.
    modrm: u8,
}

/// Follows nodes from a map's entry to a row's number plus one, or 0; if asked, no further than to a node that looks
/// at ModRM.
#[inline]
fn select_row<const STOP_AT_MODRM: bool>(entry: u16, seen: Seen, features: &Features) -> u16 {
    let mut entry = entry;
    while entry & node::FLAG != 0 {
        let node = NODES[usize::from(entry & !node::FLAG)];
        let base = (node & 0xFFFF) as usize;
        let slot = match node >> 16 {
            node::MODREG | node::RM if STOP_AT_MODRM => break,
            node::MODREG => {
                usize::from(seen.modrm >> 3 & 7) + if seen.modrm >= 0xC0 { 8 } else { 0 }
            }
            node::PREFIX => prefix_slot(seen.prefixes),
            node::RM => usize::from(seen.modrm & 7),
            node::REX_B => usize::from(seen.rex & 1),
            node::VEX_L => usize::from(seen.vl >> 1),
            node::MODE => usize::from(seen.prefixes & prefix::CODE64 != 0),
            node::REX_W => usize::from(seen.rex >> 3 & 1),
            // node::GATE: a gate number, then the entries for open and closed
            _ => 1 + usize::from(!is_open(SLOTS[base], features)),
        };
        entry = SLOTS[base + slot];
    }
    entry
}

/// Does the way from a map's entry look at ModRM?
#[cold]
fn asks_modrm(entry: u16, seen: Seen, features: &Features) -> bool {
    select_row::<true>(entry, seen, features) & node::FLAG != 0
}

/// None, 66, F3, F2: a repeat prefix outranks 66 as a mandatory prefix.
#[inline]
const fn prefix_slot(prefixes: u16) -> usize {
    if prefixes & prefix::REPNE != 0 {
        3
    } else if prefixes & prefix::REP != 0 {
        2
    } else {
        (prefixes & prefix::OPSIZE != 0) as usize
    }
}

/// Does the modelled processor have what this gate asks for?
fn is_open(gate: u16, features: &Features) -> bool {
    let gate = GATES[usize::from(gate)];
    let [maker, level, ..] = gate.to_be_bytes();
    let fits = features.level as u8 >= level && (maker == 0 || features.maker as u8 == maker);
    let has = |feature: u32| feature == 0xFF || features.cpuid >> (feature & 127) & 1 != 0;
    fits && has(gate & 0xFF) && has(gate >> 8 & 0xFF)
}

/// Effective operand and address size, by the size policy of the row's attributes.
#[inline]
fn set_sizes(insn: &mut Insn, bits: u32, size: CodeSize) {
    if bits & row_bit::MANDATORY != 0 {
        insn.prefixes |= prefix::MANDATORY;
    }
    let toggled = insn.prefixes & prefix::OPSIZE != 0 && bits & row_bit::NO_OPSIZE == 0;
    let ad_toggled = insn.prefixes & prefix::ADSIZE != 0;
    (insn.osz, insn.asz) = match size {
        CodeSize::Bits16 => (if toggled { 32 } else { 16 }, if ad_toggled { 32 } else { 16 }),
        CodeSize::Bits32 => (if toggled { 16 } else { 32 }, if ad_toggled { 16 } else { 32 }),
        CodeSize::Bits64 => {
            let osz = if insn.rex & 8 != 0 || bits & row_bit::F64 != 0 {
                64
            } else if toggled {
                16
            } else if bits & row_bit::D64 != 0 {
                64
            } else {
                32
            };
            (osz, if ad_toggled { 32 } else { 64 })
        }
    };
}

/// What follows a ModRM byte: length of the displacement, and [`HAS_SIB`].
type AddressTable = [u8; 256];

const HAS_SIB: u8 = 0x80;

static ADDRESS_16: AddressTable = address_table(2, 6, 8);
static ADDRESS_32: AddressTable = address_table(4, 5, 4);

/// `wide`: bytes of a long displacement; `absolute`, `sib`: the values of rm with that meaning.
const fn address_table(wide: u8, absolute: u8, sib: u8) -> AddressTable {
    let mut table = [0; 256];
    let mut modrm = 0;
    while modrm < 0xC0 {
        let rm = modrm as u8 & 7;
        let disp = match modrm >> 6 {
            0 if rm == absolute => wide,
            0 => 0,
            1 => 1,
            _ => wide,
        };
        table[modrm] = if rm == sib { disp | HAS_SIB } else { disp };
        modrm += 1;
    }
    table
}

/// SIB and displacement of a memory form.
#[inline]
fn read_address(cursor: &mut Cursor, insn: &mut Insn) {
    let table = if insn.asz == 16 { &ADDRESS_16 } else { &ADDRESS_32 };
    let mut disp_len = table[usize::from(insn.modrm)];
    if disp_len & HAS_SIB != 0 {
        insn.sib = cursor.byte();
        insn.has_sib = true;
        let no_base = insn.sib & 7 == 5 && insn.modrm < 0x40;
        disp_len = if no_base { 4 } else { disp_len & !HAS_SIB };
    }
    insn.disp = cursor.signed_number(disp_len);
}

/// Both immediate columns.
#[inline]
fn read_immediates(cursor: &mut Cursor, insn: &mut Insn, bits: u32) {
    let first = bits & 15;
    insn.imm = cursor.number(immediate_len(first, insn));
    let second = if first == row_bit::IMM_PTR { row_bit::IMM_W } else { bits >> 4 & 15 };
    if second != 0 {
        // The generator admits only kinds of at most 32 bits here.
        insn.imm2 = cursor.number(immediate_len(second, insn)) as u32;
    }
}

/// Length in bytes of an immediate column.
#[inline]
fn immediate_len(kind: u32, insn: &Insn) -> u8 {
    IMMEDIATE_LEN[(kind & 15) as usize][usize::from(insn.osz >> 5 & 3)]
        [usize::from(insn.asz >> 5 & 3)]
}

/// By kind, operand size and address size (each divided by 32).
static IMMEDIATE_LEN: [[[u8; 4]; 4]; 16] = {
    const fn by_operand_size(w16: u8, w32: u8, w64: u8) -> [[u8; 4]; 4] {
        [[w16; 4], [w32; 4], [w64; 4], [w64; 4]]
    }
    let mut table = [[[0; 4]; 4]; 16];
    table[row_bit::IMM_B as usize] = by_operand_size(1, 1, 1);
    table[row_bit::IMM_W as usize] = by_operand_size(2, 2, 2);
    table[row_bit::IMM_D as usize] = by_operand_size(4, 4, 4);
    table[row_bit::IMM_Q as usize] = by_operand_size(8, 8, 8);
    table[row_bit::IMM_Z as usize] = by_operand_size(2, 4, 4);
    table[row_bit::IMM_V as usize] = by_operand_size(2, 4, 8);
    table[row_bit::IMM_PTR as usize] = by_operand_size(2, 4, 4);
    table[row_bit::IMM_MOFFS as usize] = [[2, 4, 8, 8]; 4];
    table
};

/// #UD rules that need the whole instruction: LOCK, and registers that do not exist.
#[inline]
fn is_legal(insn: &Insn, bits: u32) -> bool {
    if insn.prefixes & prefix::LOCK != 0 && (bits & row_bit::LOCK == 0 || !insn.is_memory_form()) {
        return false;
    }
    let reg = insn.modrm_reg();
    match bits & row_bit::CHECK_MASK {
        0 => true,
        row_bit::CHECK_SEG_WRITTEN => 0b11_1101 >> (reg & 7) & 1 != 0, // CS is not loaded this way
        row_bit::CHECK_SEG_READ => 0b11_1111 >> (reg & 7) & 1 != 0,
        row_bit::CHECK_CR => 0b1_0001_1101 >> reg & 1 != 0,
        _ => reg < 8, // row_bit::CHECK_DR
    }
}

#[cfg(test)]
mod tests;
