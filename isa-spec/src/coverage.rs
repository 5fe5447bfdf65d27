//! What the tables hold and what they do not: opcode maps with their empty places, and rows by
//! opcode text.

use crate::boxes::{ModRmSet, RowBox};
use crate::check::describe_row;
use crate::model::{Insn, Isa, Map, ModRm};
use std::fmt::Write;

/// How much of an opcode byte has rows, in 16- and 32-bit code.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Filled {
    /// No row.
    #[default]
    Empty,
    /// Rows for some ModRM bytes only.
    Partly,
    /// Every encoding has a row.
    Full,
    /// A prefix or the escape to another map.
    Prefix,
}

/// One opcode byte.
#[derive(Clone, Debug, Default)]
pub struct Slot {
    /// How much is there.
    pub filled: Filled,
    /// Rows, indices into [`Isa::rows`].
    pub rows: Vec<usize>,
    /// `/0`..`/7` without a row: bit n = memory form, bit 8 + n = register form.
    pub missing: u16,
}

/// One opcode map.
#[derive(Clone, Debug)]
pub struct MapCoverage {
    /// Which.
    pub map: Map,
    /// Behind VEX prefixes.
    pub vex: bool,
    /// By opcode byte; 256 of them.
    pub slots: Vec<Slot>,
}

/// Looks at every opcode map.
pub fn coverage(isa: &Isa) -> Vec<MapCoverage> {
    let boxes: Vec<RowBox> = isa.rows.iter().map(RowBox::of).collect();
    let legacy = [Map::One, Map::M0f, Map::M0f38, Map::M0f3a].map(|map| (map, false));
    let vex = [Map::M0f, Map::M0f38, Map::M0f3a].map(|map| (map, true));
    legacy
        .into_iter()
        .chain(vex)
        .map(|(map, vex)| {
            let slots = (0..=255u8).map(|byte| slot(&boxes, (map, vex), byte)).collect();
            MapCoverage { map, vex, slots }
        })
        .collect()
}

fn slot(boxes: &[RowBox], (map, vex): (Map, bool), byte: u8) -> Slot {
    let mut slot = Slot::default();
    // What is there without a prefix; where nothing is, what is there with any.
    let mut claimed = [ModRmSet::default(); 2];
    for (n, b) in boxes.iter().enumerate() {
        let is_here = b.map == map && b.vex == vex && b.first <= byte && byte <= b.last;
        if is_here && b.modes & 1 != 0 {
            slot.rows.push(n);
            let plain = usize::from(b.prefixes & 1 == 0 || vex);
            claimed[plain] = claimed[plain].or(b.modrm);
        }
    }
    let claimed = if claimed[0].is_empty() { claimed[1] } else { claimed[0] };
    let left = ModRmSet::ALL.minus(claimed);
    slot.filled = match (!vex && is_prefix(map, byte), slot.rows.is_empty()) {
        (true, _) => Filled::Prefix,
        (_, true) => Filled::Empty,
        _ if left.is_empty() => Filled::Full,
        _ => Filled::Partly,
    };
    if slot.filled == Filled::Partly {
        for modrm in (0..=255u8).filter(|m| left.has(*m)) {
            let register = if modrm >= 0xC0 { 8 } else { 0 };
            slot.missing |= 1 << ((modrm >> 3 & 7) + register);
        }
    }
    slot
}

fn is_prefix(map: Map, byte: u8) -> bool {
    match map {
        Map::One => {
            matches!(byte, 0x0F | 0x26 | 0x2E | 0x36 | 0x3E | 0x64..=0x67 | 0xF0 | 0xF2 | 0xF3)
        }
        Map::M0f => matches!(byte, 0x38 | 0x3A),
        Map::M0f38 | Map::M0f3a => false,
    }
}

/// Name of a map, as its opcodes begin.
pub fn map_name(map: Map) -> &'static str {
    match map {
        Map::One => "one-byte",
        Map::M0f => "0F",
        Map::M0f38 => "0F 38",
        Map::M0f3a => "0F 3A",
    }
}

/// Draws the maps: a grid of opcode bytes, then what is missing in the partly filled ones.
pub fn render(isa: &Isa) -> String {
    let mut out = String::new();
    for map in coverage(isa) {
        // Writing to a String cannot fail.
        let _ = render_map(isa, &map, &mut out);
    }
    let cases: usize = isa.insns.iter().map(|i| i.cases.len()).sum();
    let (insns, rows) = (isa.insns.len(), isa.rows.len());
    let _ = writeln!(out, "{insns} instructions, {rows} encoding rows, {cases} cases");
    out
}

fn render_map(isa: &Isa, map: &MapCoverage, out: &mut String) -> std::fmt::Result {
    let count = |f: Filled| map.slots.iter().filter(|s| s.filled == f).count();
    let (full, partly, empty) = (count(Filled::Full), count(Filled::Partly), count(Filled::Empty));
    let counts = format!("{full} opcodes full (#), {partly} partly (+), {empty} empty (.)");
    let space = if map.vex { "VEX " } else { "" };
    writeln!(out, "{space}{} map: {counts}, p = prefix or escape", map_name(map.map))?;
    if full + partly == 0 {
        return writeln!(out);
    }
    writeln!(out, "     0 1 2 3 4 5 6 7  8 9 A B C D E F")?;
    for high in 0..16 {
        write!(out, "  {high:X}0")?;
        for low in 0..16 {
            let mark = match map.slots[high * 16 + low].filled {
                Filled::Empty => '.',
                Filled::Partly => '+',
                Filled::Full => '#',
                Filled::Prefix => 'p',
            };
            write!(out, "{} {mark}", if low == 8 { " " } else { "" })?;
        }
        writeln!(out)?;
    }
    for (byte, slot) in map.slots.iter().enumerate().filter(|(_, s)| s.filled == Filled::Partly) {
        let mut names: Vec<&str> = Vec::new();
        for row in slot.rows.iter().filter_map(|n| isa.rows.get(*n)) {
            if !names.contains(&row.mnemonic.as_str()) {
                names.push(&row.mnemonic);
            }
        }
        let memory = digits(slot.missing & 0xFF);
        let register = digits(slot.missing >> 8);
        let escape = if map.map == Map::One { "" } else { map_name(map.map) };
        let opcode = format!("{space}{escape} {byte:02X}");
        let opcode = opcode.trim();
        writeln!(
            out,
            "  {opcode}: {}; no row for memory {memory}, register {register}",
            names.join(" ")
        )?;
    }
    writeln!(out)
}

fn digits(mask: u16) -> String {
    let list: Vec<String> =
        (0..8).filter(|n| mask >> n & 1 != 0).map(|n| format!("/{n}")).collect();
    if list.is_empty() { "-".to_string() } else { list.join(" ") }
}

/// Rows by opcode text (`0F B1`, `F7 /3`, `0F C7 08`) or by mnemonic or insn name.
pub fn find_rows(isa: &Isa, query: &str) -> Vec<usize> {
    let words: Vec<&str> = query.split_whitespace().collect();
    let by_name = |n: &usize| {
        let row = &isa.rows[*n];
        let name = isa.insns.get(row.insn).map_or("", |i| i.name.as_str());
        name.eq_ignore_ascii_case(query.trim()) || row.mnemonic.eq_ignore_ascii_case(query.trim())
    };
    let all = 0..isa.rows.len();
    let found: Vec<usize> = match opcode_query(&words) {
        Some(opcode) => all.clone().filter(|n| opcode.matches(isa, *n)).collect(),
        None => Vec::new(),
    };
    if found.is_empty() { all.filter(by_name).collect() } else { found }
}

struct OpcodeQuery {
    prefixes: u8,
    map: Map,
    byte: Option<u8>,
    modrm: Option<u8>,
    reg: Option<u8>,
}

fn opcode_query(words: &[&str]) -> Option<OpcodeQuery> {
    let hex = |w: &&str| (w.len() == 2).then(|| u8::from_str_radix(w, 16).ok()).flatten();
    let mut q = OpcodeQuery { prefixes: 0xF, map: Map::One, byte: None, modrm: None, reg: None };
    let mut rest = words;
    while let (Some(word), true) = (rest.first(), rest.len() > 1) {
        q.prefixes = match *word {
            "NP" => 1,
            "66" => 2,
            "F3" | "f3" => 4,
            "F2" | "f2" => 8,
            _ => break,
        };
        rest = &rest[1..];
    }
    if let Some(last) = rest.last().and_then(|w| w.strip_prefix('/')) {
        q.reg = Some(last.parse().ok().filter(|n| *n < 8)?);
        rest = &rest[..rest.len() - 1];
    }
    let bytes: Vec<u8> = rest.iter().map(hex).collect::<Option<_>>()?;
    let (map, bytes) = match bytes.as_slice() {
        [0x0F, 0x38, more @ ..] => (Map::M0f38, more),
        [0x0F, 0x3A, more @ ..] => (Map::M0f3a, more),
        [0x0F, more @ ..] => (Map::M0f, more),
        more => (Map::One, more),
    };
    q.map = map;
    q.byte = bytes.first().copied();
    q.modrm = bytes.get(1).copied();
    (q.byte.is_some() || map != Map::One).then_some(q)
}

impl OpcodeQuery {
    fn matches(&self, isa: &Isa, n: usize) -> bool {
        let row = &isa.rows[n];
        let b = RowBox::of(row);
        let modrm = row.opcode.modrm != ModRm::None;
        b.map == self.map
            && b.prefixes & self.prefixes != 0
            && self.byte.is_none_or(|byte| b.first <= byte && byte <= b.last)
            && self.modrm.is_none_or(|m| !modrm || b.modrm.has(m))
            && self
                .reg
                .is_none_or(|reg| modrm && (0..=255u8).any(|m| m >> 3 & 7 == reg && b.modrm.has(m)))
    }
}

/// The rows a query finds, with their sources and the instructions they belong to.
pub fn show(isa: &Isa, query: &str) -> String {
    let mut out = String::new();
    let mut last = None;
    for n in find_rows(isa, query) {
        let row = &isa.rows[n];
        if last != Some(row.insn)
            && let Some(insn) = isa.insns.get(row.insn)
        {
            let _ = writeln!(out, "{}", source(isa, insn));
            last = Some(row.insn);
        }
        let _ = writeln!(out, "row {n}: {}", describe_row(isa, row));
    }
    if out.is_empty() {
        let _ = writeln!(out, "no row for `{query}`");
    }
    out
}

/// The lines of an instruction in its table: doc lines, header, rows and body, without cases.
pub fn source(isa: &Isa, insn: &Insn) -> String {
    let Some((_, text)) = isa.files.get(usize::from(insn.pos.file)) else {
        return String::new();
    };
    let lines: Vec<&str> = text.lines().collect();
    let header = (insn.pos.line as usize).saturating_sub(1).min(lines.len());
    let mut first = header;
    while first > 0 && lines[first - 1].trim_start().starts_with("//") {
        first -= 1;
    }
    let mut out = lines[first..header].join("\n");
    let mut depth = 0i32;
    let mut body = false;
    for line in &lines[header..] {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(line);
        body |= line.contains("=>");
        depth += line.matches('{').count() as i32 - line.matches('}').count() as i32;
        if body && depth == 0 && line.trim_end().ends_with('}') {
            break;
        }
    }
    out
}
