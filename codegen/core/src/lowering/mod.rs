//! Lowering generator: one small Rust function per instruction body, and the tables beside them.
//!
//! A body is transliterated statement by statement into calls on the lowering context (`x86::lower::Lower`):
//! `d = d + s` becomes a read of each operand, an `add` and an `assign`. The context stages writes, folds what is
//! static (width, immediates, mode) and emits the ops, so the generator stays a syntax walk that knows no
//! instruction. Source: LANGUAGE.md of crate `isa-spec`.
//!
//! The output is text, laid out to be read: `stele spec show` prints a function as it stands here.

mod body;
mod expr;
mod helpers;
#[cfg(test)]
mod tests;

use isa_spec::model::{Form, Insn, Isa, Row, Sz};
use proc_macro2::TokenStream;
use std::fmt::Write as _;

pub use body::function;

/// Generates the module: `LOWER`, `TEXT`, `LOWER_ROWS`, the functions and `helpers`.
pub fn generate(isa: &Isa) -> Result<TokenStream, String> {
    let text = source(isa)?;
    text.parse().map_err(|e| format!("generated lowering does not lex: {e}"))
}

/// The generated module as readable source text.
pub fn source(isa: &Isa) -> Result<String, String> {
    let mut out = String::new();
    let mut table = String::from(
        "/// Lowering functions by instruction number (`RowInfo::insn`).\n\
         pub static LOWER: &[fn(&mut Lower<'_>)] = &[\n",
    );
    let mut texts = String::from(
        "/// Source text of the lowering functions, by instruction number.\n\
         pub static TEXT: &[&str] = &[\n",
    );
    let mut sources = String::from(
        "/// The tables' text of each instruction, by instruction number.\n\
         pub static SOURCE: &[&str] = &[\n",
    );
    for insn in &isa.insns {
        let _ = writeln!(sources, "    {:?},", table_text(isa, insn));
        let text = function(isa, insn)?;
        let _ = writeln!(table, "    {},", function_name(insn));
        let _ = writeln!(texts, "    {text:?},");
        out.push_str(&text);
        out.push('\n');
    }
    out.push_str(&table);
    out.push_str("];\n");
    out.push_str(&texts);
    out.push_str("];\n");
    out.push_str(&sources);
    out.push_str("];\n");
    out.push_str(&rows(isa)?);
    out.push_str(&helpers::module(isa));
    Ok(out)
}

/// Name of an instruction's lowering function.
pub fn function_name(insn: &Insn) -> String {
    let name: String = insn
        .name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' })
        .collect();
    format!("lower_{name}")
}

/// The table lines of an instruction: from its doc lines to the next item or case.
fn table_text(isa: &Isa, insn: &Insn) -> String {
    let Some((_, text)) = isa.files.get(usize::from(insn.pos.file)) else { return String::new() };
    let lines: Vec<&str> = text.lines().collect();
    let at = (insn.pos.line as usize).saturating_sub(1).min(lines.len());
    let docs = lines[..at].iter().rev().take_while(|line| line.starts_with("//")).count();
    let starts_item = |line: &&&str| {
        ["///", "insn ", "case ", "shape ", "helper "]
            .iter()
            .any(|start| line.trim_start().starts_with(start))
    };
    let more = lines[at..].iter().skip(1).take_while(|line| !starts_item(line)).count();
    let end = (at + 1 + more).min(lines.len());
    lines[at - docs..end].join("\n").trim_end().to_owned() + "\n"
}

/// Names bound by `with` in any row of the instruction, in order of first appearance: they follow the operand
/// parameters as operand numbers.
pub(crate) fn with_names(isa: &Isa, insn: &Insn) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (name, _) in rows_of(isa, insn).flat_map(|row| &row.attrs.with) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

/// Rows of an instruction.
fn rows_of<'a>(isa: &'a Isa, insn: &Insn) -> impl Iterator<Item = &'a Row> {
    let index = isa.insns.iter().position(|i| i.name == insn.name);
    isa.rows.iter().filter(move |row| Some(row.insn) == index)
}

/// Attributes that lowering acts on, as bits of `LowerRow::attrs`; the names are constants of module
/// `x86::lower::row`.
const ATTRS: &[(&str, &str)] = &[
    ("cpl0", "CPL0"),
    ("iopl", "IOPL"),
    ("pe", "PE"),
    ("ends", "ENDS"),
    ("shadow", "SHADOW"),
    ("zext_reg", "ZEXT_REG"),
    ("rep", "REP"),
    ("repcc", "REPCC"),
    ("lock", "LOCK"),
    ("locked", "LOCKED"),
    ("noaccess", "NOACCESS"),
];

fn rows(isa: &Isa) -> Result<String, String> {
    let mut out = String::from(
        "/// What lowering needs of each row beside its `RowInfo`.\n\
         pub static LOWER_ROWS: &[LowerRow] = &[\n",
    );
    for row in &isa.rows {
        let insn = &isa.insns[row.insn];
        let mut attrs: Vec<String> = ATTRS
            .iter()
            .filter(|(name, _)| row.attrs.has(name))
            .map(|(_, constant)| format!("row::{constant}"))
            .collect();
        if row.attrs.arg("vm86").is_some_and(|a| a.trim() == "iopl") {
            attrs.push("row::VM86_IOPL".into());
        }
        if attrs.is_empty() {
            attrs.push("0".into());
        }
        let bulk = match row.attrs.arg("bulk") {
            None => "NO_HELPER".to_owned(),
            Some(name) => helper_number(isa, name.trim())?.to_string(),
        };
        let bit_index = match row.attrs.arg("bitbase") {
            None => "NO_OPERAND".to_owned(),
            Some(name) => operand_number(insn, name.trim())?.to_string(),
        };
        let with: Vec<String> = with_names(isa, insn)
            .iter()
            .map(|name| {
                row.attrs.with.iter().find(|(n, _)| n == name).map_or(Form::Lit(0), |w| w.1)
            })
            .map(form)
            .collect();
        let _ = writeln!(
            out,
            "    LowerRow {{ attrs: {}, written: {}, bulk: {bulk}, bit_index: {bit_index}, with: &[{}] }},",
            attrs.join(" | "),
            insn.flags.written & 63,
            with.join(", "),
        );
    }
    out.push_str("];\n");
    Ok(out)
}

fn helper_number(isa: &Isa, name: &str) -> Result<usize, String> {
    let found = isa.helpers.iter().position(|h| h.name == name);
    found.ok_or_else(|| format!("`bulk({name})` names no helper"))
}

fn operand_number(insn: &Insn, name: &str) -> Result<usize, String> {
    let found = insn.params.iter().position(|p| p == name);
    found.ok_or_else(|| format!("{}: `bitbase({name})` names no operand", insn.name))
}

/// A form as an expression of the run time's `Form`.
fn form(form: Form) -> String {
    let sized = |name: &str, sz: Sz| format!("Form::{name}(Sz::{sz:?})");
    match form {
        Form::E(s) => sized("E", s),
        Form::G(s) => sized("G", s),
        Form::M(s) => sized("M", s),
        Form::R(s) => sized("R", s),
        Form::Z(s) => sized("Z", s),
        Form::I(s) => sized("I", s),
        Form::Iu(s) => sized("Iu", s),
        Form::J(s) => sized("J", s),
        Form::O(s) => sized("O", s),
        Form::X(s) => sized("X", s),
        Form::Y(s) => sized("Y", s),
        Form::Reg(n, s) => format!("Form::Reg({n}, Sz::{s:?})"),
        Form::Seg(n) => format!("Form::Seg({n})"),
        Form::Lit(v) => format!("Form::Lit({v})"),
        Form::V(s) => sized("V", s),
        Form::H(s) => sized("H", s),
        Form::W(s) => sized("W", s),
        Form::U(s) => sized("U", s),
        Form::L(s) => sized("L", s),
        Form::P(s) => sized("P", s),
        Form::Q(s) => sized("Q", s),
        Form::N(s) => sized("N", s),
        Form::B(s) => sized("B", s),
        Form::Same | Form::St0 | Form::StI | Form::Xmm0 => format!("Form::{form:?}"),
        Form::MAddr | Form::Mp | Form::Ma | Form::Ms | Form::Ap | Form::Sw | Form::C | Form::D => {
            format!("Form::{form:?}")
        }
    }
}
