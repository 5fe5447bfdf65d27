//! The bytes a row claims, as a box over opcode, prefix class, mode and ModRM: for overlaps,
//! coverage and look-up.

use crate::model::{Mandatory, Map, ModRm, Row, Vex, VexL, VexW};

/// A set of ModRM bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ModRmSet([u64; 4]);

impl ModRmSet {
    /// Every byte.
    pub const ALL: ModRmSet = ModRmSet([u64::MAX; 4]);

    /// The bytes for which `keep` holds.
    pub fn of(keep: impl Fn(u8) -> bool) -> ModRmSet {
        let mut set = ModRmSet::default();
        for byte in 0..=255u8 {
            if keep(byte) {
                set.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
            }
        }
        set
    }

    /// Is this byte in the set?
    pub fn has(self, byte: u8) -> bool {
        self.0[usize::from(byte >> 6)] >> (byte & 63) & 1 != 0
    }

    /// No byte at all?
    pub fn is_empty(self) -> bool {
        self.0 == [0; 4]
    }

    /// Bytes of both.
    #[must_use]
    pub fn and(self, other: ModRmSet) -> ModRmSet {
        ModRmSet(std::array::from_fn(|i| self.0[i] & other.0[i]))
    }

    /// Bytes of either.
    #[must_use]
    pub fn or(self, other: ModRmSet) -> ModRmSet {
        ModRmSet(std::array::from_fn(|i| self.0[i] | other.0[i]))
    }

    /// Bytes of this set that are not in the other.
    #[must_use]
    pub fn minus(self, other: ModRmSet) -> ModRmSet {
        ModRmSet(std::array::from_fn(|i| self.0[i] & !other.0[i]))
    }

    /// A member, if possible one without SIB and displacement.
    pub fn example(self) -> Option<u8> {
        let plain = |b: u8| b >= 0xC0 || (b < 0x40 && !matches!(b & 7, 4..=6));
        let all = || (0..=255u8).filter(|b| self.has(*b));
        all().find(|b| plain(*b)).or_else(|| all().next())
    }
}

/// Prefix classes: bit 0 none of them, 1 = 66, 2 = F3, 3 = F2.
pub const PREFIX_CLASSES: [&str; 4] = ["", "66", "F3", "F2"];
/// Mode classes: bit 0 = 16/32-bit code, 1 = 64-bit with W = 0, 2 = 64-bit with W = 1, 3 = 16/32-bit code with
/// VEX.W = 1.
pub const MODE_CLASSES: u8 = 4;

/// What bytes a row claims.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RowBox {
    /// Opcode map.
    pub map: Map,
    /// First opcode byte.
    pub first: u8,
    /// Last opcode byte.
    pub last: u8,
    /// Set of prefix classes.
    pub prefixes: u8,
    /// Set of mode classes.
    pub modes: u8,
    /// In the VEX space.
    pub vex: bool,
    /// Set of vector lengths: bit 0 = L clear, bit 1 = L set. All for legacy rows.
    pub lengths: u8,
    /// Set: bit 0 = REX.B clear, bit 1 = REX.B set.
    pub rex_b: u8,
    /// Set of ModRM bytes; all for rows without ModRM.
    pub modrm: ModRmSet,
    /// The row gives way to others.
    pub weak: bool,
    /// How particular the row is: each of mandatory prefix and REX.W counts.
    pub rank: u8,
    /// A feature, processor level or maker may switch the row off.
    pub gated: bool,
}

impl RowBox {
    /// The box of a row.
    pub fn of(row: &Row) -> RowBox {
        let op = &row.opcode;
        let prefixes = match op.prefix {
            Mandatory::Any if rep_is_opcode(op.map) => 0b0011,
            Mandatory::Any => 0b1111,
            Mandatory::Np => 0b0001,
            Mandatory::Nfx => 0b0011,
            Mandatory::P66 => 0b0010,
            Mandatory::F3 => 0b0100,
            Mandatory::F2 => 0b1000,
        };
        let modes = match (row.attrs.has("i64"), row.attrs.has("o64"), op.rex_w) {
            (true, _, _) => 0b1001,
            (_, _, true) => 0b0100,
            (_, true, _) => 0b0110,
            _ => 0b1111,
        };
        let (w_modes, lengths) = vex_sets(op.vex);
        RowBox {
            map: op.map,
            first: op.byte,
            last: op.byte.saturating_add(op.span.saturating_sub(1)),
            prefixes,
            modes: modes & w_modes,
            vex: op.vex.is_some(),
            lengths,
            rex_b: match (row.attrs.has("norexb"), row.attrs.has("rexb")) {
                (true, _) => 0b01,
                (_, true) => 0b10,
                _ => 0b11,
            },
            modrm: modrm_set(row),
            weak: row.attrs.has("weak"),
            rank: prefix_rank(op.prefix) + 2 * u8::from(op.rex_w),
            gated: ["cpuid", "since", "maker"].iter().any(|gate| row.attrs.has(gate)),
        }
    }

    /// Do both claim some bytes?
    pub fn meets(&self, other: &RowBox) -> bool {
        self.map == other.map
            && self.vex == other.vex
            && self.lengths & other.lengths != 0
            && self.first <= other.last
            && other.first <= self.last
            && self.prefixes & other.prefixes != 0
            && self.modes & other.modes != 0
            && self.rex_b & other.rex_b != 0
            && !self.modrm.and(other.modrm).is_empty()
    }

    /// Does this row win where both claim the same bytes?
    pub fn beats(&self, other: &RowBox) -> bool {
        if self.weak != other.weak {
            return other.weak;
        }
        self.rank > other.rank && (self.prefixes & !other.prefixes) == 0
    }
}

/// How particular a row is about prefixes.
pub fn prefix_rank(prefix: Mandatory) -> u8 {
    match prefix {
        Mandatory::Any => 0,
        Mandatory::Nfx => 1,
        Mandatory::Np | Mandatory::P66 | Mandatory::F3 | Mandatory::F2 => 2,
    }
}

/// Mode classes and vector lengths that a VEX prefix admits.
fn vex_sets(vex: Option<Vex>) -> (u8, u8) {
    let Some(vex) = vex else { return (0b0111, 0b11) };
    let modes = match vex.w {
        VexW::W0 => 0b0011,
        VexW::W1 => 0b1100,
        VexW::Wig => 0b1111,
    };
    let lengths = match vex.l {
        VexL::L128 | VexL::Lz => 0b01,
        VexL::L256 => 0b10,
        VexL::Lig => 0b11,
    };
    (modes, lengths)
}

/// Are F2 and F3 always part of the opcode in this map? (SDM Vol. 2D, "Three-byte Opcode Map": their columns are empty
/// where no instruction stands; processors raise #UD there.)
pub fn rep_is_opcode(map: Map) -> bool {
    matches!(map, Map::M0f38 | Map::M0f3a)
}

fn modrm_set(row: &Row) -> ModRmSet {
    let rm = row.forms.iter().find(|f| f.uses_rm());
    let nomod = row.attrs.has("nomod");
    let mod_fits = |byte: u8| match rm {
        _ if nomod => true,
        None => true,
        Some(form) if form.is_register_or_memory() => true,
        Some(form) if form.is_rm_register() => byte >= 0xC0,
        Some(_) => byte < 0xC0,
    };
    match row.opcode.modrm {
        ModRm::None => ModRmSet::ALL,
        ModRm::Any => ModRmSet::of(mod_fits),
        ModRm::Reg(n) => ModRmSet::of(|b| b >> 3 & 7 == n && mod_fits(b)),
        ModRm::Fixed(fixed) => ModRmSet::of(|b| b == fixed),
        ModRm::FixedPlus(first) => ModRmSet::of(|b| b & 0xF8 == first),
    }
}

/// Bytes of an opcode map's escape.
pub fn map_bytes(map: Map) -> &'static [u8] {
    match map {
        Map::One => &[],
        Map::M0f => &[0x0F],
        Map::M0f38 => &[0x0F, 0x38],
        Map::M0f3a => &[0x0F, 0x3A],
    }
}
