//! Rows that claim the same bytes, and rows that no bytes reach.

use super::describe_row;
use crate::boxes::{MODE_CLASSES, ModRmSet, PREFIX_CLASSES, RowBox, map_bytes};
use crate::error::{Diag, Sink};
use crate::model::{Isa, Map, ModRm};
use std::collections::{BTreeMap, BTreeSet};

/// Checks all rows against each other, by opcode byte.
pub(super) fn check(isa: &Isa, sink: &mut Sink) {
    let boxes: Vec<RowBox> = isa.rows.iter().map(RowBox::of).collect();
    let mut buckets: BTreeMap<(Map, u8), Vec<usize>> = BTreeMap::new();
    for (n, b) in boxes.iter().enumerate() {
        for byte in b.first..=b.last {
            buckets.entry((b.map, byte)).or_default().push(n);
        }
    }
    let mut told = BTreeSet::new();
    for ((_, byte), rows) in &buckets {
        for (i, &a) in rows.iter().enumerate() {
            for &b in &rows[i + 1..] {
                if boxes[a].meets(&boxes[b])
                    && !boxes[a].beats(&boxes[b])
                    && !boxes[b].beats(&boxes[a])
                    && told.insert((a, b))
                {
                    sink.push(overlap(isa, &boxes, a, b, *byte));
                }
            }
        }
    }
    for n in 0..boxes.len() {
        unreachable(isa, &boxes, n, &buckets, sink);
    }
}

fn overlap(isa: &Isa, boxes: &[RowBox], a: usize, b: usize, byte: u8) -> Diag {
    let (first, second) = (&isa.rows[a], &isa.rows[b]);
    let bytes = example(isa, boxes, a, b, byte);
    let long = boxes[a].modes & boxes[b].modes & 1 == 0;
    let mode = if long { " in 64-bit mode" } else { "" };
    let text = format!(
        "`{bytes}`{mode} matches {} and {}",
        describe_row(isa, first),
        describe_row(isa, second)
    );
    let mut diag = Diag::new(second.pos, text).note(Some(first.pos), "the other row");
    let near = |n: usize| isa.insns.get(isa.rows[n].insn);
    if let (Some(x), Some(y)) = (near(a), near(b))
        && first.pos == second.pos
    {
        diag = diag.note(Some(x.pos), "used here").note(Some(y.pos), "and here");
    }
    diag.note(None, "a mandatory prefix, or `weak` on the row that gives way, decides between them")
}

/// One byte string that both rows claim.
fn example(isa: &Isa, boxes: &[RowBox], a: usize, b: usize, byte: u8) -> String {
    if boxes[a].vex {
        return format!("VEX … {byte:02X}");
    }
    let mut words: Vec<String> = Vec::new();
    let classes = boxes[a].prefixes & boxes[b].prefixes;
    let prefix = PREFIX_CLASSES[classes.trailing_zeros().min(3) as usize];
    if !prefix.is_empty() {
        words.push(prefix.to_string());
    }
    if boxes[a].modes & boxes[b].modes == 0b100 {
        words.push("48".to_string());
    }
    let escape = map_bytes(boxes[a].map).iter().copied();
    words.extend(escape.chain([byte]).map(|b| format!("{b:02X}")));
    let has_modrm = |n: usize| isa.rows[n].opcode.modrm != ModRm::None;
    if has_modrm(a) || has_modrm(b) {
        let both: ModRmSet = boxes[a].modrm.and(boxes[b].modrm);
        words.extend(both.example().map(|m| format!("{m:02X}")));
    }
    words.join(" ")
}

/// Tells of a row all whose bytes go to stronger rows that are always on.
fn unreachable(
    isa: &Isa,
    boxes: &[RowBox],
    n: usize,
    buckets: &BTreeMap<(Map, u8), Vec<usize>>,
    sink: &mut Sink,
) {
    let own = &boxes[n];
    let mut winners = BTreeSet::new();
    for byte in own.first..=own.last {
        let Some(rows) = buckets.get(&(own.map, byte)) else {
            return;
        };
        let stronger: Vec<usize> =
            rows.iter().copied().filter(|&m| !boxes[m].gated && boxes[m].beats(own)).collect();
        let stronger: Vec<usize> = stronger
            .into_iter()
            .filter(|&m| {
                let row = &boxes[m];
                row.vex == own.vex && own.lengths & !row.lengths == 0 && own.rex_b & !row.rex_b == 0
            })
            .collect();
        for prefix in (0..4).map(|b| 1 << b).filter(|b| own.prefixes & b != 0) {
            for mode in (0..MODE_CLASSES).map(|b| 1 << b).filter(|b| own.modes & b != 0) {
                let mut left = own.modrm;
                for &m in &stronger {
                    if boxes[m].prefixes & prefix != 0 && boxes[m].modes & mode != 0 {
                        left = left.minus(boxes[m].modrm);
                        winners.insert(m);
                    }
                }
                if !left.is_empty() {
                    return;
                }
            }
        }
    }
    let row = &isa.rows[n];
    let text = format!("no bytes reach {}", describe_row(isa, row));
    let mut diag = Diag::new(row.pos, text);
    for m in winners {
        let text = format!("{} wins", describe_row(isa, &isa.rows[m]));
        diag = diag.note(Some(isa.rows[m].pos), text);
    }
    sink.push(diag);
}
