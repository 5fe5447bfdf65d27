//! The parser: files to [`Isa`]. Items first, from all files; then shapes are expanded into rows,
//! then bodies are read, so that the order of files does not matter.
//!
//! Structure is read token by token, bodies by syn. Every error is recorded and the work goes on.

mod attr;
mod body;
mod case;
mod cursor;
mod derive;
mod expr;
pub(crate) mod form;
mod item;
mod machine;
mod opcode;

use crate::error::{Diag, Errors, Sink, suggest};
use crate::model::{Attrs, FlagsClause, Insn, Isa, Pos, Row, StmtKind};
use attr::RawAttr;
use cursor::{Cursor, pos_of};
use item::{Items, RawInsn, RawRow, RawShape};
use proc_macro2::TokenStream;
use std::collections::HashMap;
use std::path::Path;

/// Reads the root table of `dir` and every file it lists, parses and checks them.
///
/// The root is named like the folder: `x86/x86.isa`.
pub fn load(dir: &Path) -> Result<Isa, Errors> {
    let folder = short_name(dir);
    let isa = parse_in(&folder, read_files(dir, &folder)?)?;
    crate::check::check_in(&folder, &isa)?;
    Ok(isa)
}

/// Reads and parses the tables of `dir` without the checks.
pub fn load_unchecked(dir: &Path) -> Result<Isa, Errors> {
    let folder = short_name(dir);
    parse_in(&folder, read_files(dir, &folder)?)
}

/// Parses files given as name and text; `use` items are not followed, nothing is checked.
pub fn parse_files(files: Vec<(String, String)>) -> Result<Isa, Errors> {
    parse_in("", files)
}

/// The last two components of a folder, for messages.
fn short_name(dir: &Path) -> String {
    let mut names: Vec<_> = dir.components().rev().take(2).collect();
    names.reverse();
    let names: Vec<_> = names.iter().map(|c| c.as_os_str().to_string_lossy()).collect();
    names.join("/")
}

fn read_files(dir: &Path, folder: &str) -> Result<Vec<(String, String)>, Errors> {
    let stem = dir.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let root = format!("{stem}.isa");
    let mut files = Vec::new();
    let mut sink = Sink::default();
    read_file(dir, root, None, &mut files, &mut sink);
    let mut items = Items::default();
    if let Some((_, text)) = files.first() {
        with_fallback(|| read_items(0, text, &mut items, &mut Sink::default()));
    }
    for (name, pos) in items.uses {
        read_file(dir, format!("{name}.isa"), Some(pos), &mut files, &mut sink);
    }
    sink.finish(folder, &files)?;
    Ok(files)
}

fn read_file(
    dir: &Path,
    name: String,
    listed: Option<Pos>,
    files: &mut Vec<(String, String)>,
    sink: &mut Sink,
) {
    if files.iter().any(|(n, _)| *n == name) {
        return sink.error(listed.unwrap_or_default(), format!("`{name}` is listed twice"));
    }
    match std::fs::read_to_string(dir.join(&name)) {
        Ok(text) => files.push((name, text)),
        Err(error) => {
            sink.error(listed.unwrap_or_default(), format!("cannot read {name}: {error}"))
        }
    }
}

/// Runs with proc_macro2's own lexer, whose spans are true within a proc macro too.
fn with_fallback<T>(work: impl FnOnce() -> T) -> T {
    proc_macro2::fallback::force();
    let result = work();
    proc_macro2::fallback::unforce();
    result
}

fn parse_in(folder: &str, files: Vec<(String, String)>) -> Result<Isa, Errors> {
    let mut sink = Sink::default();
    let mut isa = with_fallback(|| {
        let mut items = Items::default();
        for (n, (_, text)) in files.iter().enumerate() {
            read_items(n as u16, text, &mut items, &mut sink);
        }
        build(items, &mut sink)
    });
    sink.finish(folder, &files)?;
    isa.files = files;
    Ok(isa)
}

fn read_items(file: u16, text: &str, items: &mut Items, sink: &mut Sink) {
    let line = text.lines().count().max(1) as u32;
    let end = Pos { file, line, column: 1 };
    match text.parse::<TokenStream>() {
        Ok(stream) => item::file(&mut Cursor::new(file, stream, end), items, sink),
        Err(error) => {
            let text = "a bracket or string that starts here has no end, or this is no token";
            sink.error(pos_of(file, error.span()), text);
        }
    }
}

fn build(items: Items, sink: &mut Sink) -> Isa {
    let mut isa = Isa { helpers: items.helpers, states: items.states, ..Isa::default() };
    let mut helpers = HashMap::new();
    for (n, helper) in isa.helpers.iter().enumerate() {
        if helpers.insert(helper.name.clone(), (n, helper.args.len())).is_some() {
            sink.error(helper.pos, format!("helper `{}` is declared twice", helper.name));
        }
    }
    for (n, field) in isa.states.iter().enumerate() {
        if isa.states[..n].iter().any(|other| other.name == field.name) {
            sink.error(field.pos, format!("state field `{}` is declared twice", field.name));
        }
    }
    let mut shapes: HashMap<&str, &RawShape> = HashMap::new();
    for shape in &items.shapes {
        if let Some(first) = shapes.insert(&shape.name, shape) {
            let text = format!("shape `{}` is declared twice", shape.name);
            sink.push(Diag::new(shape.pos, text).note(Some(first.pos), "first here"));
        }
    }
    let mut names: HashMap<String, Pos> = HashMap::new();
    for raw in items.insns {
        if let Some(first) = names.insert(raw.name.clone(), raw.pos) {
            let text = format!("insn `{}` is declared twice", raw.name);
            sink.push(Diag::new(raw.pos, text).note(Some(first), "first here"));
        }
        expand(raw, &shapes, &helpers, &mut isa, sink);
    }
    isa.features = machine::features(items.features, sink);
    isa.cpus = machine::cpus(items.cpus, &isa.features, sink);
    isa
}

fn expand(
    raw: RawInsn,
    shapes: &HashMap<&str, &RawShape>,
    helpers: &HashMap<String, (usize, usize)>,
    isa: &mut Isa,
    sink: &mut Sink,
) {
    let insn = isa.insns.len();
    let first_row = isa.rows.len();
    for attr in &raw.attrs {
        if let RawAttr::Shape { name, args, attrs, pos } = attr {
            shape_rows(&raw, insn, (name, args, attrs, *pos), shapes, isa, sink);
        }
    }
    for row in &raw.rows {
        let row = make_row(&raw, insn, row, &[], &[], sink);
        isa.rows.extend(row);
    }
    let shaped = raw.attrs.iter().any(|a| matches!(a, RawAttr::Shape { .. }));
    if !raw.braces && !shaped {
        sink.error(raw.pos, format!("insn `{}` has no rows", raw.name));
    }
    argument_names(&raw, helpers, sink);
    let mut operands = raw.params.clone();
    for row in &isa.rows[first_row..] {
        for (name, _) in &row.attrs.with {
            if !operands.contains(name) {
                operands.push(name.clone());
            }
        }
    }
    let states = &isa.states;
    let mut cx =
        body::BodyCx { file: raw.pos.file, operands, lets: Vec::new(), helpers, states, sink };
    let body = raw.body.as_ref().map(|g| body::body(g, &mut cx)).unwrap_or_default();
    if body.iter().any(|stmt| matches!(stmt.kind, StmtKind::Native(..))) {
        for row in &mut isa.rows[first_row..] {
            row.attrs.list.push(("native".to_string(), String::new()));
        }
    }
    isa.insns.push(Insn {
        flags: flags_of(&raw, sink),
        name: raw.name,
        doc: raw.doc,
        params: raw.params,
        body,
        cases: raw.cases,
        pos: raw.pos,
    });
}

/// Checks that attributes whose argument names an operand or helper name one that exists.
fn argument_names(raw: &RawInsn, helpers: &HashMap<String, (usize, usize)>, sink: &mut Sink) {
    let rows = raw.rows.iter().flat_map(|r| &r.attrs);
    for attr in raw.attrs.iter().chain(rows) {
        let RawAttr::Plain(name, text, pos) = attr else {
            continue;
        };
        match attr::ATTRS.iter().find(|(n, _)| n == name).map(|(_, kind)| kind) {
            Some(attr::Arg::Param) if !raw.params.contains(text) => {
                sink.error(
                    *pos,
                    format!("`{name}({text})`: insn `{}` has no operand `{text}`", raw.name),
                );
            }
            Some(attr::Arg::Helper) if !helpers.contains_key(text) => {
                let near = suggest(text, helpers.keys().map(String::as_str));
                sink.error(*pos, format!("unknown helper `{text}`{near}"));
            }
            _ => {}
        }
    }
}

fn flags_of(raw: &RawInsn, sink: &mut Sink) -> FlagsClause {
    let mut clauses = raw.attrs.iter().filter_map(|a| match a {
        RawAttr::Flags(clause, pos) => Some((*clause, *pos)),
        _ => None,
    });
    let first = clauses.next();
    if let Some((_, pos)) = clauses.next() {
        sink.error(pos, "a second flags clause");
    }
    first.map(|(clause, _)| clause).unwrap_or_default()
}

fn shape_rows(
    raw: &RawInsn,
    insn: usize,
    call: (&str, &[u64], &[RawAttr], Pos),
    shapes: &HashMap<&str, &RawShape>,
    isa: &mut Isa,
    sink: &mut Sink,
) {
    let (name, args, attrs, pos) = call;
    let Some(shape) = shapes.get(name) else {
        let mut all: Vec<&str> = attr::attr_names().collect();
        all.extend(shapes.keys());
        let near = suggest(name, all);
        return sink.error(pos, format!("unknown attribute or shape `{name}`{near}"));
    };
    if shape.params.len() != args.len() {
        let (want, got) = (shape.params.len(), args.len());
        let text = format!("shape `{name}` takes {want} numbers, not {got}");
        return sink.push(Diag::new(pos, text).note(Some(shape.pos), "the shape"));
    }
    let params: Vec<(String, u64)> =
        shape.params.iter().cloned().zip(args.iter().copied()).collect();
    for row in &shape.rows {
        let row = make_row(raw, insn, row, attrs, &params, sink);
        isa.rows.extend(row);
    }
}

fn make_row(
    raw: &RawInsn,
    insn: usize,
    row: &RawRow,
    call_attrs: &[RawAttr],
    params: &[(String, u64)],
    sink: &mut Sink,
) -> Vec<Row> {
    let mut attrs = Attrs::default();
    attr::merge(&mut attrs, &raw.attrs);
    attr::merge(&mut attrs, &row.attrs);
    attr::merge(&mut attrs, call_attrs);
    let opcode = opcode::substitute(&row.text, params)
        .and_then(|text| opcode::parse_opcode(&text, attrs.has("modrm")));
    let opcode = match opcode {
        Ok(opcode) => opcode,
        Err(message) => {
            let diag = Diag::new(row.pos, format!("opcode \"{}\": {message}", row.text));
            sink.push(if params.is_empty() { diag } else { diag.note(Some(raw.pos), "used here") });
            return Vec::new();
        }
    };
    if row.forms.len() != raw.params.len() {
        let (got, want) = (row.forms.len(), raw.params.len());
        let text = format!("row has {got} operand forms, insn `{}` has {want} operands", raw.name);
        sink.push(Diag::new(row.pos, text).note(Some(raw.pos), "the insn"));
        return Vec::new();
    }
    let mnemonic = attrs.arg("name").unwrap_or(&raw.name).to_lowercase();
    let forms = row.forms.clone();
    derive::derived(Row { insn, mnemonic, opcode, forms, attrs, pos: row.pos }, sink)
}
