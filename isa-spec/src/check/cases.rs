//! Cases: their bytes are an encoding of the insn they follow.

use super::describe_row;
use crate::error::{Diag, Sink};
use crate::locate::locate_of;
use crate::model::{Case, CaseItem, Insn, Isa};

/// Checks every case.
pub(super) fn check(isa: &Isa, sink: &mut Sink) {
    for (n, insn) in isa.insns.iter().enumerate() {
        for case in &insn.cases {
            bytes(isa, n, insn, case, sink);
            let misplaced = case.inputs.iter().any(|i| matches!(i, CaseItem::Raises(..)));
            if misplaced {
                sink.error(case.pos, "`raises` is an output");
            }
        }
    }
}

fn bytes(isa: &Isa, n: usize, insn: &Insn, case: &Case, sink: &mut Sink) {
    let undefined = |i: &CaseItem| matches!(i, CaseItem::Raises(v, _) if v == "UD");
    let expects_ud = case.outputs.iter().any(undefined);
    match locate_of(case.maker, isa, &case.bytes, case.mode) {
        None if expects_ud => {}
        None => {
            let text = format!("the bytes of this case are no encoding of {}", insn.name);
            sink.error(case.pos, text);
        }
        Some(found) => {
            let row = &isa.rows[found.row];
            if row.insn != n && !expects_ud {
                let text = format!(
                    "the bytes of this case belong to {}, not to {}",
                    describe_row(isa, row),
                    insn.name
                );
                sink.push(Diag::new(case.pos, text).note(Some(row.pos), "that row"));
            } else if found.len != case.bytes.len() && !expects_ud {
                let (len, have) = (found.len, case.bytes.len());
                let text = format!("the insn is {len} bytes long, the case has {have}");
                sink.error(case.pos, text);
            }
        }
    }
}
