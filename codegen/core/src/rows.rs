//! `ROWS` and the `attr` bits: what the run time knows of a row.
//!
//! The flag columns are derived here once: `writes` is what the body certainly overwrites (so that an
//! earlier value is dead), which may be less than the flags clause says.

use isa_spec::model::{Expr, ExprKind, Form, Isa, Mandatory, Map, Place, Row, Stmt, StmtKind, Sz};
use proc_macro2::{Literal, TokenStream};
use quote::{format_ident, quote};
use std::collections::BTreeSet;

/// All six arithmetic flags.
const ALL_FLAGS: u8 = 63;

/// Attributes of LANGUAGE.md that always have a bit, whether or not a row uses them.
const ATTRIBUTES: &[&str] = &[
    "align", "aligned", "avx", "bitbase", "bulk", "byasz", "control", "cpl0", "cpuid", "d64",
    "ends", "f64", "hint", "host", "i64", "implicit", "iobitmap", "iopl", "lock", "locked",
    "maker", "mmx", "modrm", "mxcsr", "native", "noaccess", "nomod", "norexb", "nowait", "o64",
    "pe", "rep", "repcc", "rexb", "scalar", "shadow", "since", "sse", "undef", "undoc", "vm86",
    "vsib", "wait", "weak", "x87", "zext_reg",
];

/// Attributes that are texts or bindings, not properties.
const NOT_BITS: &[&str] = &["att", "intel", "name", "with"];

/// Attribute names in bit order: those of the language, then others that rows use.
pub(crate) fn attribute_bits(isa: &Isa) -> Result<Vec<String>, String> {
    let used: BTreeSet<&str> = isa
        .rows
        .iter()
        .flat_map(|row| row.attrs.list.iter().map(|(name, _)| name.as_str()))
        .collect();
    let known = ATTRIBUTES.iter().copied();
    let new =
        used.into_iter().filter(|name| !ATTRIBUTES.contains(name) && !NOT_BITS.contains(name));
    let names: Vec<String> = known.chain(new).map(str::to_owned).collect();
    if names.len() > 64 {
        return Err(format!("{} attributes, but there is room for 64", names.len()));
    }
    Ok(names)
}

/// The `attr` module.
pub(crate) fn emit_attributes(names: &[String]) -> TokenStream {
    let idents = names.iter().map(|name| format_ident!("{}", name.to_uppercase()));
    let shifts = (0..names.len()).map(Literal::usize_unsuffixed);
    let docs = names.iter().map(|name| format!("`{name}`"));
    quote! {
        /// Attribute bits of `RowInfo::attrs`, named as in LANGUAGE.md.
        pub mod attr {
            #( #[doc = #docs] pub const #idents: u64 = 1 << #shifts; )*
            /// Their names, by bit number.
            pub const NAMES: &[&str] = &[#(#names),*];
        }
    }
}

/// `ROWS`.
pub(crate) fn emit(isa: &Isa, attributes: &[String]) -> TokenStream {
    let rows = isa.rows.iter().map(|row| emit_row(isa, row, attributes));
    quote! {
        /// What the tables say of each row.
        pub static ROWS: &[crate::insn::RowInfo] = {
            #[allow(unused_imports, reason = "the tables decide which are used")]
            use crate::insn::{Form, RowInfo, Sz};
            &[#(#rows),*]
        };
    }
}

fn emit_row(isa: &Isa, row: &Row, attributes: &[String]) -> TokenStream {
    let insn = &isa.insns[row.insn];
    let index = Literal::usize_unsuffixed(row.insn);
    let (name, mnemonic, opcode) = (&insn.name, &row.mnemonic, &row.opcode.text);
    let file = isa.files.get(usize::from(row.pos.file)).map_or("?", |(file, _)| file);
    let at = format!("{file}:{}", row.pos.line);
    let has = |name: &String| row.attrs.has(name);
    let attrs =
        attributes.iter().enumerate().fold(0, |bits, (i, name)| bits | u64::from(has(name)) << i);
    let attrs = Literal::u64_unsuffixed(attrs);
    let forms = row.forms.iter().map(|form| form_tokens(*form));
    let flags = &insn.flags;
    let reads = Literal::u8_unsuffixed(if flags.reads_cc { ALL_FLAGS } else { flags.read });
    let writes = Literal::u8_unsuffixed(certain_writes(isa, row));
    let undefined = Literal::u8_unsuffixed(flags.undefined);
    let faults_anyway = may_fault(isa, row);
    let has_memory = has_memory_operand(row);
    let faults = faults_anyway || has_memory;
    let simd = Literal::u8_unsuffixed(simd_bits(row));
    let (map, pp) = opcode_space(row);
    quote! {
        RowInfo {
            insn: #index, name: #name, mnemonic: #mnemonic, opcode: #opcode, at: #at, attrs: #attrs, forms: &[#(#forms),*],
            reads: #reads, writes: #writes, undefined: #undefined, may_fault: #faults, may_fault_reg: #faults_anyway,
            simd: #simd, map: #map, pp: #pp
        }
    }
}

/// The FP and vector state a row uses, as bits of `ir::simd`: x87, MMX, SSE, AVX, WAIT.
fn simd_bits(row: &Row) -> u8 {
    let names = ["x87", "mmx", "sse", "avx", "wait"];
    names.iter().enumerate().fold(0, |bits, (n, name)| bits | u8::from(row.attrs.has(name)) << n)
}

/// Opcode map (0 one-byte, 1 0F, 2 0F38, 3 0F3A) and mandatory prefix (0 none, 1 66, 2 F3, 3 F2).
fn opcode_space(row: &Row) -> (u8, u8) {
    let map = match row.opcode.map {
        Map::One => 0,
        Map::M0f => 1,
        Map::M0f38 => 2,
        Map::M0f3a => 3,
    };
    let pp = match row.opcode.prefix {
        Mandatory::Any | Mandatory::Np | Mandatory::Nfx => 0,
        Mandatory::P66 => 1,
        Mandatory::F3 => 2,
        Mandatory::F2 => 3,
    };
    (map, pp)
}

/// A form as the run time spells it.
pub(crate) fn form_tokens(form: Form) -> TokenStream {
    let sized = |name: &str, size| {
        let (name, size) = (format_ident!("{name}"), size_tokens(size));
        quote! { Form::#name(#size) }
    };
    match form {
        Form::E(sz) => sized("E", sz),
        Form::G(sz) => sized("G", sz),
        Form::M(sz) => sized("M", sz),
        Form::MAddr => quote! { Form::MAddr },
        Form::Mp => quote! { Form::Mp },
        Form::Ma => quote! { Form::Ma },
        Form::Ms => quote! { Form::Ms },
        Form::R(sz) => sized("R", sz),
        Form::Z(sz) => sized("Z", sz),
        Form::I(sz) => sized("I", sz),
        Form::Iu(sz) => sized("Iu", sz),
        Form::J(sz) => sized("J", sz),
        Form::O(sz) => sized("O", sz),
        Form::Ap => quote! { Form::Ap },
        Form::Sw => quote! { Form::Sw },
        Form::C => quote! { Form::C },
        Form::D => quote! { Form::D },
        Form::X(sz) => sized("X", sz),
        Form::Y(sz) => sized("Y", sz),
        Form::Reg(number, size) => {
            let (number, size) = (Literal::u8_unsuffixed(number), size_tokens(size));
            quote! { Form::Reg(#number, #size) }
        }
        Form::Seg(number) => {
            let number = Literal::u8_unsuffixed(number);
            quote! { Form::Seg(#number) }
        }
        Form::Lit(value) => {
            let value = Literal::u32_unsuffixed(value);
            quote! { Form::Lit(#value) }
        }
        Form::V(sz) => sized("V", sz),
        Form::H(sz) => sized("H", sz),
        Form::W(sz) => sized("W", sz),
        Form::U(sz) => sized("U", sz),
        Form::L(sz) => sized("L", sz),
        Form::P(sz) => sized("P", sz),
        Form::Q(sz) => sized("Q", sz),
        Form::N(sz) => sized("N", sz),
        Form::B(sz) => sized("B", sz),
        Form::Same => quote! { Form::Same },
        Form::St0 => quote! { Form::St0 },
        Form::StI => quote! { Form::StI },
        Form::Xmm0 => quote! { Form::Xmm0 },
    }
}

fn size_tokens(size: Sz) -> TokenStream {
    match size {
        Sz::B => quote! { Sz::B },
        Sz::W => quote! { Sz::W },
        Sz::D => quote! { Sz::D },
        Sz::Q => quote! { Sz::Q },
        Sz::V => quote! { Sz::V },
        Sz::Z => quote! { Sz::Z },
        Sz::Y => quote! { Sz::Y },
        Sz::T => quote! { Sz::T },
        Sz::Dq => quote! { Sz::Dq },
        Sz::Qq => quote! { Sz::Qq },
        Sz::X => quote! { Sz::X },
    }
}

/// Flags that every execution of the row overwrites.
fn certain_writes(isa: &Isa, row: &Row) -> u8 {
    if row.attrs.has("rep") || row.attrs.has("repcc") {
        return 0; // a count of zero does nothing
    }
    let insn = &isa.insns[row.insn];
    if row.attrs.has("native") {
        return insn.flags.written; // the clause is the truth
    }
    written_by(isa, row, &insn.body) & insn.flags.written
}

fn written_by(isa: &Isa, row: &Row, body: &[Stmt]) -> u8 {
    body.iter().fold(0, |mask, stmt| {
        mask | match &stmt.kind {
            StmtKind::Cc(kind, args) => cc_writes(isa, row, kind, args),
            StmtKind::Assign(Place::Flag(flag), _) => flag & ALL_FLAGS,
            StmtKind::If(_, then, otherwise) => {
                written_by(isa, row, then) & written_by(isa, row, otherwise)
            }
            _ => 0,
        }
    })
}

/// Flags that a `cc = kind(args)` certainly writes; mirrors `ir::Code::can_define`.
fn cc_writes(isa: &Isa, row: &Row, kind: &str, args: &[Expr]) -> u8 {
    const CARRY: u8 = 1;
    const OVERFLOW: u8 = 32;
    match kind {
        "inc" | "dec" => ALL_FLAGS & !CARRY,
        // The other flags stay as they were (`ir::Op::flags_kept`), so they are not certain.
        "bt" | "bts" | "btr" | "btc" => CARRY,
        "mulu" | "muls" | "imul" => CARRY | OVERFLOW,
        "shl" | "shr" | "sar" | "shld" | "shrd" if is_nonzero_count(isa, row, args) => ALL_FLAGS,
        "rol" | "ror" | "rcl" | "rcr" if is_nonzero_count(isa, row, args) => CARRY | OVERFLOW,
        "shl" | "shr" | "sar" | "shld" | "shrd" | "rol" | "ror" | "rcl" | "rcr" => 0,
        "set" | "add" | "adc" | "sub" | "sbb" | "logic" | "neg" | "bsf" | "bsr" => ALL_FLAGS,
        _ => 0,
    }
}

/// Is the count (the last argument) a literal that masks to something, in this row?
fn is_nonzero_count(isa: &Isa, row: &Row, args: &[Expr]) -> bool {
    let count = match args.last().map(|arg| &arg.kind) {
        Some(ExprKind::Int(n)) => *n,
        Some(ExprKind::Name(name)) => {
            let position = isa.insns[row.insn].params.iter().position(|param| param == name);
            match position.and_then(|i| row.forms.get(i)) {
                Some(Form::Lit(n)) => u64::from(*n),
                _ => 0,
            }
        }
        _ => 0,
    };
    count & 31 != 0
}

/// Does the row have a memory operand in some of its encodings?
fn has_memory_operand(row: &Row) -> bool {
    if row.attrs.has("noaccess") {
        return false;
    }
    let is_shared = |form: &Form| form.is_register_or_memory();
    row.forms.iter().chain(row.attrs.with.iter().map(|(_, form)| form)).any(is_shared)
}

/// May the row fault, exit or touch memory even when ModRM selects a register?
fn may_fault(isa: &Isa, row: &Row) -> bool {
    const FAULTING: [&str; 16] = [
        "cpl0", "iopl", "vm86", "iobitmap", "pe", "ends", "shadow", "undef", "rep", "repcc",
        "bulk", // and what asks CR0, CR4 and XCR0
        "x87", "mmx", "sse", "avx", "wait",
    ];
    let accesses = |form: &Form| {
        matches!(
            form,
            Form::M(_)
                | Form::Mp
                | Form::Ma
                | Form::Ms
                | Form::O(_)
                | Form::X(_)
                | Form::Y(_)
                | Form::C
                | Form::D
        )
    };
    let loads_segment = matches!(row.forms.first(), Some(Form::Sw | Form::Seg(_)));
    let forms = row.forms.iter().chain(row.attrs.with.iter().map(|(_, form)| form));
    FAULTING.iter().any(|name| row.attrs.has(name))
        || loads_segment
        || (!row.attrs.has("noaccess") && forms.into_iter().any(accesses))
        || isa.insns[row.insn].body.iter().any(|stmt| stmt_may_fault(isa, stmt))
}

fn stmt_may_fault(isa: &Isa, stmt: &Stmt) -> bool {
    match &stmt.kind {
        StmtKind::Raise(..) | StmtKind::Goto(_) | StmtKind::Mark(_) => true,
        StmtKind::Native(..) => false,
        StmtKind::Let(_, e) | StmtKind::Effect(e) | StmtKind::Assign(_, e) => {
            expr_may_fault(isa, e)
        }
        StmtKind::Cc(_, args) => args.iter().any(|e| expr_may_fault(isa, e)),
        StmtKind::If(c, then, otherwise) => {
            expr_may_fault(isa, c)
                || then.iter().chain(otherwise).any(|stmt| stmt_may_fault(isa, stmt))
        }
    }
}

fn expr_may_fault(isa: &Isa, expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Mem { .. } => true,
        ExprKind::Helper(index, args) => {
            let is_pure =
                isa.helpers.get(*index).is_some_and(|h| h.effects.iter().any(|e| e == "pure"));
            !is_pure || args.iter().any(|e| expr_may_fault(isa, e))
        }
        ExprKind::Call(name, args, _) => {
            matches!(name.as_str(), "push" | "pop" | "load" | "store" | "port_in" | "port_out")
                || args.iter().any(|e| expr_may_fault(isa, e))
        }
        ExprKind::Un(_, e) => expr_may_fault(isa, e),
        ExprKind::Bin(_, a, b) => expr_may_fault(isa, a) || expr_may_fault(isa, b),
        ExprKind::If(c, a, b) => [c, a, b].into_iter().any(|e| expr_may_fault(isa, e)),
        ExprKind::Int(_)
        | ExprKind::Bool(_)
        | ExprKind::Name(_)
        | ExprKind::Reg(..)
        | ExprKind::Seg(_)
        | ExprKind::Flag(_)
        | ExprKind::WidthNum(_)
        | ExprKind::NextIp
        | ExprKind::State(_)
        | ExprKind::Field(..) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn isa(items: &str) -> Isa {
        let files = vec![
            ("x86.isa".to_owned(), "isa x86; use t;".to_owned()),
            ("t.isa".to_owned(), format!("isa x86;\n{items}")),
        ];
        isa_spec::parse_files(files).unwrap_or_else(|errors| panic!("{errors}"))
    }

    #[test]
    fn only_certain_writes_count() {
        let isa = isa(r#"
            /// a
            insn ADD(d, s) flags(o s z a p c) { "01 /r" Ev, Gv; } => { cc = add(d, s); d = d + s; }
            /// b
            insn SHL(d, n) flags(o s z a=? p c) { "D1 /4" Ev, 1; "D3 /4" Ev, CL; } => { cc = shl(d, n); d = d << n; }
            /// c
            insn CLC() flags(c) { "F8" -; } => { cf = false; }
            /// d
            insn SCAS(s) repcc flags(o s z a p c; d) { "AE" Yb; } => { cc = sub(AL, s); }
            /// e
            insn Z(d, s) flags(z c) { "0F BC /r" Gv, Ev; }
                => { if s == 0 { zf = true; cf = true; } else { zf = false; d = s; } }
        "#);
        let writes: Vec<u8> = isa.rows.iter().map(|row| certain_writes(&isa, row)).collect();
        assert_eq!(writes, [63, 63, 0, 1, 0, 8]);
    }

    #[test]
    fn faults_depend_on_the_form() {
        let isa = isa(r#"
            /// a
            insn ADD(d, s) { "01 /r" Ev, Gv; } => { d = d + s; }
            /// b
            insn LEA(d, m) { "8D /r" Gv, M; } => { d = addr(m); }
            /// c
            insn NOP(d) { "0F 1F /0" Ev noaccess; } => { }
            /// d
            insn PUSH(s) { "50+r" Zv; } => { push(s); }
            /// e
            insn MOV(d, s) { "8E /r" Sw, Ew; } => { d = s; }
            /// f
            insn AAM(n) { "D4 ib" Ibu; } => { if n == 0 { raise!(DE); } }
        "#);
        let faults: Vec<(bool, bool)> =
            isa.rows.iter().map(|row| (has_memory_operand(row), may_fault(&isa, row))).collect();
        let expected = [
            (true, false),
            (false, false),
            (false, false),
            (false, true),
            (true, true),
            (false, true),
        ];
        assert_eq!(faults, expected);
    }
}
