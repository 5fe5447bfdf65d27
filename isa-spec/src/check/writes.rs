//! No body writes the same register, operand or flag twice on one path.

use super::describe_row;
use crate::error::{Diag, Sink};
use crate::model::{ExprWidth, Form, Insn, Isa, Place, Pos, Row, Stmt, StmtKind, Sz};

/// Something written: where, what, and how it is called.
#[derive(Clone)]
struct Write {
    what: Target,
    name: String,
    pos: Pos,
}

#[derive(Clone, PartialEq)]
enum Target {
    /// Bytes `mask` (bit 0 = low, bit 1 = high, bit 2 = the rest) of a general register.
    Reg(u8, u8),
    Operand(String),
    Flag(u8),
    State(usize),
    Cc,
}

impl Target {
    fn meets(&self, other: &Target) -> bool {
        match (self, other) {
            (Target::Reg(a, x), Target::Reg(b, y)) => a == b && x & y != 0,
            (a, b) => a == b,
        }
    }
}

/// Checks every insn, with the fixed registers of each row.
pub(super) fn check(isa: &Isa, sink: &mut Sink) {
    for row in &isa.rows {
        if let Some(insn) = isa.insns.get(row.insn) {
            let mut cx = Cx { isa, insn, row, sink };
            cx.path(&insn.body, Vec::new());
        }
    }
}

struct Cx<'a> {
    isa: &'a Isa,
    insn: &'a Insn,
    row: &'a Row,
    sink: &'a mut Sink,
}

impl Cx<'_> {
    fn path(&mut self, body: &[Stmt], mut before: Vec<Write>) -> Vec<Write> {
        for stmt in body {
            match &stmt.kind {
                StmtKind::Assign(place, _) => {
                    let (what, name) = self.target(place);
                    self.add(&mut before, Write { what, name, pos: stmt.pos });
                }
                StmtKind::Cc(..) => {
                    let name = "the flags (`cc`)".to_string();
                    self.add(&mut before, Write { what: Target::Cc, name, pos: stmt.pos });
                }
                StmtKind::If(_, then, other) => {
                    let known = before.len();
                    let a = self.path(then, before.clone());
                    let b = self.path(other, before.clone());
                    before.extend(a.into_iter().skip(known));
                    before.extend(b.into_iter().skip(known));
                }
                _ => {}
            }
        }
        before
    }

    fn add(&mut self, before: &mut Vec<Write>, new: Write) {
        if let Some(old) = before.iter().find(|w| w.what.meets(&new.what)) {
            let text = format!("{} is written twice", new.name);
            let mut diag = Diag::new(new.pos, text).note(Some(old.pos), "first here");
            if new.name != old.name {
                diag = diag.note(None, format!("in row {}", describe_row(self.isa, self.row)));
            }
            self.sink.push(diag);
        }
        before.push(new);
    }

    fn target(&self, place: &Place) -> (Target, String) {
        match place {
            Place::Reg(n, width) => (reg(*n, bits(*width)), "a register".to_string()),
            Place::Flag(bit) => (Target::Flag(*bit), "a flag".to_string()),
            Place::Field(name, field) => {
                let name = format!("{name}.{field}");
                (Target::Operand(name.clone()), format!("`{name}`"))
            }
            Place::State(n) => (Target::State(*n), "a field of the state".to_string()),
            Place::Operand(name) => {
                let what = match self.form(name) {
                    Some(Form::Reg(n, size)) => reg(n, if size == Sz::B { 8 } else { 16 }),
                    _ => Target::Operand(name.clone()),
                };
                (what, format!("`{name}`"))
            }
        }
    }

    fn form(&self, name: &str) -> Option<Form> {
        let own = self.insn.params.iter().zip(&self.row.forms).find(|(n, _)| *n == name);
        let with = self.row.attrs.with.iter().find(|(n, _)| n == name);
        own.map(|(_, f)| *f).or(with.map(|(_, f)| *f))
    }
}

fn bits(width: ExprWidth) -> u32 {
    match width {
        ExprWidth::Bits(bits) => bits,
        _ => 16,
    }
}

fn reg(n: u8, bits: u32) -> Target {
    match (n, bits) {
        (16.., _) => Target::Reg(n - 16, 2),
        (_, 8) => Target::Reg(n, 1),
        _ => Target::Reg(n, 7),
    }
}
