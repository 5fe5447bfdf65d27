//! The flags clause against the body.

use super::{all_exprs, each_stmt};
use crate::builtins;
use crate::error::{Diag, Sink};
use crate::model::{ExprKind, FlagsClause, Insn, Isa, Place, Pos, Stmt, StmtKind};

const DF: u8 = 64;

/// Checks every insn.
pub(super) fn check(isa: &Isa, sink: &mut Sink) {
    // Of native bodies the clause is the truth.
    let is_native = |stmt: &Stmt| matches!(stmt.kind, StmtKind::Native(..));
    for insn in isa.insns.iter().filter(|insn| !insn.body.iter().any(is_native)) {
        let calls = calls_helper(insn);
        written(insn, calls, sink);
        read(insn, calls, sink);
        constants(insn, sink);
    }
}

fn calls_helper(insn: &Insn) -> bool {
    let mut calls = false;
    all_exprs(&insn.body, &mut |e| calls |= matches!(e.kind, ExprKind::Helper(..)));
    calls
}

/// Letters of a flag mask, as in a clause.
fn letters(mask: u8) -> String {
    let all = [(32, "o"), (16, "s"), (8, "z"), (4, "a"), (2, "p"), (1, "c"), (64, "d")];
    let words: Vec<&str> = all.iter().filter(|(b, _)| mask & b != 0).map(|(_, l)| *l).collect();
    words.join(" ")
}

fn clause_mask(clause: &FlagsClause) -> (u8, u8) {
    let df = |on: bool| if on { DF } else { 0 };
    (clause.written | df(clause.system_written), clause.read | df(clause.system_read))
}

fn written(insn: &Insn, calls: bool, sink: &mut Sink) {
    let (clause, _) = clause_mask(&insn.flags);
    let mut may = 0;
    each_stmt(&insn.body, &mut |stmt| {
        let (writes, more) = match &stmt.kind {
            StmtKind::Assign(Place::Flag(bit), _) => (*bit, 0),
            StmtKind::Cc(name, _) => match builtins::kind(name) {
                Some(kind) => (kind.writes, kind.may),
                None => (0, 0),
            },
            _ => (0, 0),
        };
        may |= writes | more;
        let extra = writes & !clause;
        if extra != 0 {
            let text = format!(
                "the body writes flags `{}`, which the flags clause does not name",
                letters(extra)
            );
            sink.push(Diag::new(stmt.pos, text).note(Some(insn.pos), "the insn"));
        }
    });
    let unwritten = insn.flags.written & !insn.flags.undefined & !may;
    if unwritten != 0 && !calls {
        let text = format!(
            "the flags clause says `{}` written, but the body never writes it",
            letters(unwritten)
        );
        sink.error(insn.pos, text);
    }
}

fn read(insn: &Insn, calls: bool, sink: &mut Sink) {
    let (_, clause) = clause_mask(&insn.flags);
    let mut reads: u8 = 0;
    let mut cc = false;
    let mut tell = |mask: u8, pos: Pos| {
        let extra = mask & !clause;
        if extra != 0 {
            let text = format!(
                "the body reads flags `{}`, which the flags clause does not name as read",
                letters(extra)
            );
            sink.push(Diag::new(pos, text).note(Some(insn.pos), "the insn: `flags(…; c)`"));
        }
    };
    let mut cc_pos = None;
    all_exprs(&insn.body, &mut |e| {
        let mask = match &e.kind {
            ExprKind::Flag(bit) => *bit,
            ExprKind::Call(name, _, _) => match name.as_str() {
                "cond" => {
                    cc = true;
                    cc_pos = Some(e.pos);
                    0
                }
                "rcl" | "rcr" => 1,
                "arith_flags" => {
                    // The image holds all six; a body may use some of them.
                    reads |= 0x3F;
                    if clause & 0x3F == 0 { 0x3F } else { 0 }
                }
                _ => 0,
            },
            _ => 0,
        };
        reads |= mask;
        tell(mask, e.pos);
    });
    each_stmt(&insn.body, &mut |stmt| {
        if let StmtKind::Cc(name, _) = &stmt.kind {
            let mask = builtins::kind(name).map_or(0, |k| k.reads);
            reads |= mask;
            tell(mask, stmt.pos);
        }
    });
    let unread = insn.flags.read & !reads;
    if unread != 0 && !calls {
        let text = format!(
            "the flags clause says `{}` read, but the body never reads it",
            letters(unread)
        );
        sink.error(insn.pos, text);
    }
    match (cc, insn.flags.reads_cc) {
        (true, false) => {
            let pos = cc_pos.unwrap_or(insn.pos);
            let text = "the body reads `cond(CC)`, the flags at entry: the flags clause needs `; cc` (`cond_sub(a, b)` asks a - b instead)";
            sink.error(pos, text);
        }
        (false, true) => {
            sink.error(insn.pos, "the flags clause says `cc` read, but the body has no `cond(CC)`");
        }
        _ => {}
    }
}

/// `x=0` and `x=1` hold for every write of the flag.
fn constants(insn: &Insn, sink: &mut Sink) {
    let (zero, one) = (insn.flags.zero, insn.flags.one);
    each_stmt(&insn.body, &mut |stmt| {
        let (mask_zero, mask_one) = match &stmt.kind {
            StmtKind::Assign(Place::Flag(bit), value) => match value.kind {
                ExprKind::Bool(true) => (zero & bit, 0),
                ExprKind::Bool(false) => (0, one & bit),
                _ => (zero & bit, one & bit),
            },
            StmtKind::Cc(name, _) if name == "logic" => (zero & !(1 | 32), one & 0x3F),
            StmtKind::Cc(name, _) => {
                let writes = builtins::kind(name).map_or(0, |k| k.writes);
                (zero & writes, one & writes)
            }
            _ => (0, 0),
        };
        for (mask, value) in [(mask_zero, 0), (mask_one, 1)] {
            if mask != 0 {
                let text = format!(
                    "the flags clause says `{}={value}`, but this may set it otherwise",
                    letters(mask)
                );
                sink.push(Diag::new(stmt.pos, text).note(Some(insn.pos), "the insn"));
            }
        }
    });
}
