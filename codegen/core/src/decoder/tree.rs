//! From rows to nodes: bucket the rows by map and opcode, then split each bucket by one property after
//! another until one row is left.

use super::record::{self, Gate};
use isa_spec::boxes::{prefix_rank, rep_is_opcode};
use isa_spec::model::{Isa, Mandatory, Map, ModRm, Row, VexL, VexW};
use std::collections::BTreeMap;

/// Marks an entry that names a node.
pub(super) const FLAG: u16 = 0x8000;

/// Properties that select a slot, in the order in which they are tried.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Kind {
    /// 16/32-bit code, 64-bit code.
    Mode,
    /// VEX.L.
    VexL,
    /// None, 66, F3, F2.
    Prefix,
    /// REX.W or VEX.W.
    RexW,
    /// REX.B, in rows where it selects another instruction.
    RexB,
    /// ModRM.reg with a memory form (0..8), with a register form (8..16).
    ModReg,
    /// ModRM.rm.
    Rm,
    /// Gate number, entry if open, entry if closed.
    Gate,
}

impl Kind {
    const SPLITS: [Self; 7] =
        [Self::Mode, Self::VexL, Self::Prefix, Self::RexW, Self::RexB, Self::ModReg, Self::Rm];

    const fn slots(self) -> u16 {
        match self {
            Self::Mode | Self::VexL | Self::RexW | Self::RexB => 2,
            Self::Prefix => 4,
            Self::ModReg => 16,
            Self::Rm => 8,
            Self::Gate => 3,
        }
    }
}

/// The finished tables.
#[derive(Default, Debug)]
pub(super) struct Tree {
    /// Four legacy maps and three VEX maps of 256 entries.
    pub(super) maps: Vec<u16>,
    /// Nodes.
    pub(super) nodes: Vec<(Kind, u16)>,
    /// Entries of the nodes.
    pub(super) slots: Vec<u16>,
    /// Gates.
    pub(super) gates: Vec<Gate>,
    shared: BTreeMap<(Kind, Vec<u16>), u16>,
}

impl Tree {
    /// Builds the tables of all rows.
    pub(super) fn build(isa: &Isa) -> Result<Self, String> {
        if isa.rows.len() >= usize::from(FLAG) - 1 {
            return Err(format!("{} rows do not fit the decoder's entries", isa.rows.len()));
        }
        let mut tree = Self::default();
        let legacy = [Map::One, Map::M0f, Map::M0f38, Map::M0f3a].map(|map| (map, false));
        let vex = [Map::M0f, Map::M0f38, Map::M0f3a].map(|map| (map, true));
        for (map, is_vex) in legacy.into_iter().chain(vex) {
            for opcode in 0..=255 {
                let is_there = |&i: &usize| {
                    let row = &isa.rows[i];
                    row.opcode.vex.is_some() == is_vex && claims(row, map, opcode)
                };
                let bucket: Vec<usize> = (0..isa.rows.len()).filter(is_there).collect();
                let entry = tree.split(isa, &bucket, &Kind::SPLITS)?;
                tree.maps.push(entry);
            }
        }
        Ok(tree)
    }

    /// The entry for rows that agree on every property before `kinds`.
    fn split(&mut self, isa: &Isa, rows: &[usize], kinds: &[Kind]) -> Result<u16, String> {
        if rows.is_empty() {
            return Ok(0);
        }
        let Some((&kind, rest)) = kinds.split_first() else { return self.choose(isa, rows) };
        let accepts = |i: &usize, slot| accepts(&isa.rows[*i], kind, slot);
        let all = 0..kind.slots();
        if rows.iter().all(|i| all.clone().all(|slot| accepts(i, slot))) {
            return self.split(isa, rows, rest);
        }
        let mut entries = Vec::new();
        for slot in all {
            let matching: Vec<usize> = rows.iter().copied().filter(|i| accepts(i, slot)).collect();
            entries.push(self.split(isa, &matching, rest)?);
        }
        self.node(kind, entries)
    }

    /// Rows that claim the same bytes: strong before weak, a mandatory prefix before none, then table
    /// order. A gated row hands on to the next when its gate is closed.
    fn choose(&mut self, isa: &Isa, rows: &[usize]) -> Result<u16, String> {
        let mut order = rows.to_vec();
        order.sort_by_key(|&i| {
            let row = &isa.rows[i];
            (
                row.attrs.has("weak"),
                !row.opcode.rex_w,
                u8::MAX - prefix_rank(row.opcode.prefix),
                !is_fixed(row.opcode.modrm),
                i,
            )
        });
        let mut chain = Vec::new();
        let mut entry = 0;
        for i in order {
            let gate = record::gate(&isa.rows[i])?;
            if gate == Gate::default() {
                entry = i as u16 + 1; // fits: checked in `build`
                break;
            }
            chain.push((gate, i as u16 + 1));
        }
        for (gate, open) in chain.into_iter().rev() {
            let number = self.gates.iter().position(|g| *g == gate).unwrap_or_else(|| {
                self.gates.push(gate);
                self.gates.len() - 1
            });
            entry = self.node(Kind::Gate, vec![number as u16, open, entry])?;
        }
        Ok(entry)
    }

    fn node(&mut self, kind: Kind, entries: Vec<u16>) -> Result<u16, String> {
        if kind != Kind::Gate && entries.iter().all(|e| *e == entries[0]) {
            return Ok(entries[0]);
        }
        if let Some(entry) = self.shared.get(&(kind, entries.clone())) {
            return Ok(*entry);
        }
        let too_many = |_| "the decoder's node table is full".to_owned();
        let base = u16::try_from(self.slots.len()).map_err(too_many)?;
        let index = u16::try_from(self.nodes.len()).map_err(too_many)?;
        if index >= FLAG {
            return Err("the decoder's node table is full".to_owned());
        }
        self.nodes.push((kind, base));
        self.slots.extend(&entries);
        self.shared.insert((kind, entries), FLAG | index);
        Ok(FLAG | index)
    }
}

const fn is_fixed(modrm: ModRm) -> bool {
    matches!(modrm, ModRm::Fixed(_) | ModRm::FixedPlus(_))
}

fn claims(row: &Row, map: Map, opcode: u8) -> bool {
    let first = row.opcode.byte;
    row.opcode.map == map
        && opcode >= first
        && u16::from(opcode) < u16::from(first) + u16::from(row.opcode.span.max(1))
}

/// May the bytes of this row have `slot` for this property?
fn accepts(row: &Row, kind: Kind, slot: u16) -> bool {
    match kind {
        Kind::Mode => {
            let is_long_only = row.attrs.has("o64") || (row.opcode.rex_w && slot == 0);
            if slot == 0 { !is_long_only } else { !row.attrs.has("i64") }
        }
        Kind::VexL => match row.opcode.vex.map(|vex| vex.l) {
            None | Some(VexL::Lig) => true,
            Some(VexL::L128 | VexL::Lz) => slot == 0,
            Some(VexL::L256) => slot == 1,
        },
        Kind::Prefix => match row.opcode.prefix {
            Mandatory::Any => slot < 2 || !rep_is_opcode(row.opcode.map),
            Mandatory::Np => slot == 0,
            Mandatory::Nfx => slot < 2,
            Mandatory::P66 => slot == 1,
            Mandatory::F3 => slot == 2,
            Mandatory::F2 => slot == 3,
        },
        Kind::RexW => match row.opcode.vex.map(|vex| vex.w) {
            Some(VexW::W0) => slot == 0,
            Some(VexW::W1) => slot == 1,
            Some(VexW::Wig) => true,
            None => slot == 1 || !row.opcode.rex_w,
        },
        Kind::RexB => !row.attrs.has(if slot == 0 { "rexb" } else { "norexb" }),
        Kind::ModReg => accepts_modreg(row, slot),
        Kind::Rm => match row.opcode.modrm {
            ModRm::Fixed(byte) => u16::from(byte & 7) == slot,
            _ => true,
        },
        Kind::Gate => true,
    }
}

fn accepts_modreg(row: &Row, slot: u16) -> bool {
    let (is_register, reg) = (slot >= 8, slot & 7);
    let reg_matches = match row.opcode.modrm {
        ModRm::None | ModRm::Any => true,
        ModRm::Reg(n) => u16::from(n) == reg,
        ModRm::Fixed(byte) | ModRm::FixedPlus(byte) => {
            u16::from(byte >> 3 & 7) == reg && is_register == (byte >= 0xC0)
        }
    };
    reg_matches
        && if is_register { record::admits_register(row) } else { record::admits_memory(row) }
}
