//! Mnemonic templates of the disassembler, one per row and syntax.
//!
//! The defaults follow from forms and attributes; `att("…")` and `intel("…")` in the tables say what is
//! otherwise. In a template `%` is the letter of the operand size, `~` of a 32/64-bit operand, `=` of a 16/32-bit one, `#` the
//! condition, `^` of a `zext_reg` row's register (`w` for memory), and `a|b|c` are alternatives for operand
//! sizes 16, 32 and 64.

use isa_spec::model::{ExprKind, Form, Isa, Row, Stmt, StmtKind, Sz};
use proc_macro2::TokenStream;
use quote::quote;

/// The templates as source.
pub fn generate(isa: &Isa) -> Result<TokenStream, String> {
    let att = isa.rows.iter().map(att_template);
    let intel = isa.rows.iter().map(intel_template);
    let indirect = isa.rows.iter().map(|row| is_indirect(isa, row));
    let bitwise = isa.rows.iter().map(|row| isa.insns[row.insn].body.iter().any(is_bitwise));
    let long_index = isa.rows.iter().map(|row| row.attrs.arg("vsib") == Some("qq"));
    Ok(quote! {
        /// Rows whose vector index is 256 bits wide.
        pub(super) static LONG_INDEX: &[bool] = &[#(#long_index),*];
        /// AT&T mnemonic templates, by row.
        pub(super) static ATT: &[&str] = &[#(#att),*];
        /// Intel mnemonic templates, by row.
        pub(super) static INTEL: &[&str] = &[#(#intel),*];
        /// Rows whose AT&T operand takes the `*` of an indirect branch.
        pub(super) static INDIRECT: &[bool] = &[#(#indirect),*];
        /// Rows of bitwise operations, whose immediates are masks.
        pub(super) static BITWISE: &[bool] = &[#(#bitwise),*];
    })
}

/// The row's AT&T template.
pub fn att_template(row: &Row) -> String {
    let text = match row.attrs.arg("att") {
        Some(text) => unquote(text).replace('%', suffix_letter(row)),
        None => format!("{}{}", row.mnemonic, default_suffix(row)),
    };
    with_condition(row, text)
}

/// The row's Intel template.
pub fn intel_template(row: &Row) -> String {
    let text = match row.attrs.arg("intel") {
        Some(text) => unquote(text).to_owned(),
        // Intel's string mnemonics carry the element size; other operands show theirs.
        None if is_string(row) => format!("{}{}", row.mnemonic, suffix_letter(row)),
        None => row.mnemonic.clone(),
    };
    with_condition(row, text)
}

/// Attribute arguments may come as string literals.
fn unquote(text: &str) -> &str {
    text.trim().trim_matches('"')
}

/// `cc` on a `+cc` row becomes the condition's place.
fn with_condition(row: &Row, text: String) -> String {
    match text.find("cc") {
        Some(at) if row.opcode.has_cc => format!("{}#{}", &text[..at], &text[at + 2..]),
        _ => text,
    }
}

fn is_string(row: &Row) -> bool {
    row.forms.iter().any(|form| matches!(form, Form::X(_) | Form::Y(_)))
}

/// AT&T's rule: a suffix when an operand is general register or memory, or the row moves the stack.
fn default_suffix(row: &Row) -> &'static str {
    let is_sized =
        |form: &Form| size_of(*form).is_some() || matches!(form, Form::Ms | Form::Mp | Form::Ma);
    let moves_stack = row.attrs.has("d64") || matches!(row.forms.as_slice(), [Form::Seg(_)]);
    if moves_stack || row.forms.iter().any(is_sized) { suffix_letter(row) } else { "" }
}

/// The letter (or its placeholder) of the row's operation size.
fn suffix_letter(row: &Row) -> &'static str {
    match operation_size(row) {
        Sz::B => "b",
        Sz::W if row.attrs.has("zext_reg") => "^",
        Sz::W => "w",
        Sz::D => "l",
        Sz::Q => "q",
        Sz::V => "%",
        Sz::Z => "=",
        Sz::Y => "~",
        Sz::T | Sz::Dq | Sz::Qq | Sz::X => "",
    }
}

/// The size of the first operand that varies; a fixed register counts only when there is none, the
/// accumulator first (`out dx, al` is a byte operation).
fn operation_size(row: &Row) -> Sz {
    let variable =
        row.forms.iter().find(|form| !matches!(form, Form::Reg(..)) && size_of(**form).is_some());
    let accumulator = row.forms.iter().find(|form| matches!(form, Form::Reg(0 | 16, _)));
    let any = row.forms.iter().find(|form| matches!(form, Form::Reg(..)));
    variable.or(accumulator).or(any).copied().and_then(size_of).unwrap_or(Sz::V)
}

/// Size letter of a general register or memory operand.
const fn size_of(form: Form) -> Option<Sz> {
    match form {
        Form::E(sz)
        | Form::G(sz)
        | Form::M(sz)
        | Form::R(sz)
        | Form::Z(sz)
        | Form::O(sz)
        | Form::X(sz)
        | Form::Y(sz) => Some(sz),
        Form::Reg(_, sz) => Some(sz),
        _ => None,
    }
}

/// Does the row jump to what its only operand holds?
fn is_indirect(isa: &Isa, row: &Row) -> bool {
    match row.forms.as_slice() {
        [Form::Mp] => true,
        [Form::E(_) | Form::M(_) | Form::R(_)] => {
            isa.insns[row.insn].body.iter().any(jumps_to_operand)
        }
        _ => false,
    }
}

fn jumps_to_operand(stmt: &Stmt) -> bool {
    match &stmt.kind {
        StmtKind::Goto(target) => matches!(target.kind, ExprKind::Name(_)),
        StmtKind::If(_, then, otherwise) => then.iter().chain(otherwise).any(jumps_to_operand),
        _ => false,
    }
}

/// Bitwise operations are those that set the flags of one.
fn is_bitwise(stmt: &Stmt) -> bool {
    matches!(&stmt.kind, StmtKind::Cc(kind, _) if kind == "logic")
}
