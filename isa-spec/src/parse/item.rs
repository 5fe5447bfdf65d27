//! Items of a file: `isa`, `use`, `shape`, `insn`, `helper`, `case`, as written.

use super::attr::{self, RawAttr};
use super::case;
use super::cursor::Cursor;
use super::machine::{self, RawCpu, RawFeature};
use crate::error::{Diag, Sink};
use crate::model::{Case, Form, Helper, Pos, StateField};
use proc_macro2::{Delimiter, Group, TokenTree};

/// An encoding row as written.
#[derive(Clone, Debug)]
pub(crate) struct RawRow {
    pub(crate) text: String,
    pub(crate) forms: Vec<Form>,
    pub(crate) attrs: Vec<RawAttr>,
    pub(crate) pos: Pos,
}

/// A shape.
#[derive(Debug)]
pub(crate) struct RawShape {
    pub(crate) name: String,
    pub(crate) params: Vec<String>,
    pub(crate) rows: Vec<RawRow>,
    pub(crate) pos: Pos,
}

/// An instruction.
#[derive(Debug)]
pub(crate) struct RawInsn {
    pub(crate) name: String,
    pub(crate) doc: String,
    pub(crate) params: Vec<String>,
    pub(crate) attrs: Vec<RawAttr>,
    pub(crate) rows: Vec<RawRow>,
    pub(crate) braces: bool,
    pub(crate) body: Option<Group>,
    pub(crate) cases: Vec<Case>,
    pub(crate) pos: Pos,
}

/// Everything found in the files.
#[derive(Debug, Default)]
pub(crate) struct Items {
    pub(crate) uses: Vec<(String, Pos)>,
    pub(crate) shapes: Vec<RawShape>,
    pub(crate) insns: Vec<RawInsn>,
    pub(crate) helpers: Vec<Helper>,
    pub(crate) states: Vec<StateField>,
    pub(crate) features: Vec<RawFeature>,
    pub(crate) cpus: Vec<RawCpu>,
}

const KEYWORDS: [&str; 9] =
    ["isa", "use", "shape", "insn", "helper", "state", "case", "feature", "cpu"];

/// Reads all items of a file; after an error it goes on at the next item.
pub(crate) fn file(c: &mut Cursor, items: &mut Items, sink: &mut Sink) {
    let first = c.pos();
    if !c.at_word("isa") {
        sink.error(first, "a table file starts with `isa x86;`");
    }
    while !c.is_empty() {
        let doc = doc_lines(c);
        if c.is_empty() {
            break;
        }
        if let Err(diag) = item(c, doc, items, sink) {
            sink.push(diag);
            skip_to_item(c);
        }
    }
}

fn skip_to_item(c: &mut Cursor) {
    let mut boundary = false;
    while let Some(token) = c.peek() {
        if boundary && KEYWORDS.iter().any(|k| c.at_word(k)) || c.at_punct('#') {
            return;
        }
        boundary = match token {
            TokenTree::Punct(p) => p.as_char() == ';',
            TokenTree::Group(g) => g.delimiter() == Delimiter::Brace,
            _ => false,
        };
        c.next();
    }
}

fn doc_lines(c: &mut Cursor) -> String {
    let mut lines: Vec<String> = Vec::new();
    while c.at_punct('#') {
        c.next();
        let Some(group) = c.eat_group(Delimiter::Bracket) else {
            continue;
        };
        let mut inner = Cursor::group(c.file(), &group);
        inner.next();
        inner.next();
        if let Ok((text, _)) = inner.string("a doc line") {
            lines.push(text.trim().to_string());
        }
    }
    lines.join("\n")
}

fn item(c: &mut Cursor, doc: String, items: &mut Items, sink: &mut Sink) -> Result<(), Diag> {
    let word = c.peek_word().unwrap_or_default();
    let start = c.pos();
    match word.as_str() {
        "isa" => {
            c.next();
            let (name, pos) = c.word("`x86`")?;
            c.expect_puncts(";")?;
            if name != "x86" {
                return Err(Diag::new(pos, format!("unknown instruction set `{name}`")));
            }
        }
        "use" => {
            c.next();
            items.uses.push(c.word("a file name")?);
            c.expect_puncts(";")?;
        }
        "shape" => {
            c.next();
            let shape = shape(c, sink)?;
            items.shapes.push(shape);
        }
        "insn" => {
            c.next();
            let insn = insn(c, doc, sink)?;
            items.insns.push(insn);
        }
        "helper" => {
            c.next();
            let helper = helper(c)?;
            items.helpers.push(helper);
        }
        "state" => {
            c.next();
            let (name, pos) = c.word("a field name")?;
            c.expect_puncts(":")?;
            let bits = helper_width(c)?;
            c.expect_puncts(";")?;
            items.states.push(StateField { name, bits, pos });
        }
        "feature" => {
            c.next();
            let feature = machine::feature(c)?;
            items.features.push(feature);
        }
        "cpu" => {
            c.next();
            let cpu = machine::cpu(c)?;
            items.cpus.push(cpu);
        }
        "case" => {
            c.next();
            let case = case::case(c, start)?;
            match items.insns.last_mut().filter(|i| i.pos.file == start.file) {
                Some(insn) => insn.cases.push(case),
                None => return Err(Diag::new(start, "a case follows the insn it belongs to")),
            }
        }
        _ => {
            return Err(c.expected("an item (insn, shape, helper, state, case, feature, cpu, use)"));
        }
    }
    Ok(())
}

fn names(c: &mut Cursor, what: &str) -> Result<Vec<String>, Diag> {
    let mut inner = c.expect_group(Delimiter::Parenthesis, "`(`")?;
    let mut list: Vec<String> = Vec::new();
    while !inner.is_empty() {
        let (name, pos) = inner.word(what)?;
        if list.contains(&name) {
            return Err(Diag::new(pos, format!("`{name}` stands twice")));
        }
        list.push(name);
        if !inner.is_empty() {
            inner.expect_puncts(",")?;
        }
    }
    Ok(list)
}

fn shape(c: &mut Cursor, sink: &mut Sink) -> Result<RawShape, Diag> {
    let (name, pos) = c.word("a shape name")?;
    let params = names(c, "a shape parameter")?;
    let mut inner = c.expect_group(Delimiter::Brace, "`{` and rows")?;
    Ok(RawShape { name, params, rows: rows(&mut inner, sink), pos })
}

fn insn(c: &mut Cursor, doc: String, sink: &mut Sink) -> Result<RawInsn, Diag> {
    let (name, pos) = c.word("an insn name")?;
    let params = names(c, "an operand name")?;
    let attrs = attr::attributes(c, true, sink);
    let mut list = Vec::new();
    let mut braces = false;
    if let Some(group) = c.eat_group(Delimiter::Brace) {
        braces = true;
        list = rows(&mut Cursor::group(c.file(), &group), sink);
    }
    c.expect_puncts("=>")?;
    let Some(body) = c.eat_group(Delimiter::Brace) else {
        return Err(c.expected("the body in braces"));
    };
    let body = Some(body);
    Ok(RawInsn { name, doc, params, attrs, rows: list, braces, body, cases: Vec::new(), pos })
}

fn rows(c: &mut Cursor, sink: &mut Sink) -> Vec<RawRow> {
    let mut list = Vec::new();
    while !c.is_empty() {
        match row(c, sink) {
            Ok(row) => list.push(row),
            Err(diag) => {
                sink.push(diag);
                while !c.is_empty() && !c.eat_punct(';') {
                    c.next();
                }
            }
        }
    }
    list
}

fn row(c: &mut Cursor, sink: &mut Sink) -> Result<RawRow, Diag> {
    let (text, pos) = c.string("an opcode string")?;
    let mut forms = Vec::new();
    if !c.eat_punct('-') {
        loop {
            forms.push(attr::operand_form(c)?);
            if !c.eat_punct(',') {
                break;
            }
        }
    }
    let attrs = attr::attributes(c, false, sink);
    c.expect_puncts(";")?;
    Ok(RawRow { text, forms, attrs, pos })
}

/// Effects a helper may declare.
const EFFECTS: [&str; 5] = ["faults", "ends", "stores", "pure", "flags"];

fn helper(c: &mut Cursor) -> Result<Helper, Diag> {
    let (name, pos) = c.word("a helper name")?;
    let mut inner = c.expect_group(Delimiter::Parenthesis, "`(`")?;
    let mut args = Vec::new();
    while !inner.is_empty() {
        let (arg, _) = inner.word("an argument name")?;
        inner.expect_puncts(":")?;
        args.push((arg, helper_width(&mut inner)?));
        if !inner.is_empty() {
            inner.expect_puncts(",")?;
        }
    }
    let mut ret = None;
    if c.at_punct('-') {
        c.expect_puncts("->")?;
        ret = Some(helper_width(c)?);
    }
    let mut effects = Vec::new();
    while !c.at_punct(';') && !c.is_empty() {
        let (word, at) = c.word("an effect or `;`")?;
        if !EFFECTS.contains(&word.as_str()) {
            let list = EFFECTS.join(" ");
            return Err(Diag::new(at, format!("unknown effect `{word}` (known: {list})")));
        }
        match c.eat_group(Delimiter::Parenthesis) {
            Some(g) => effects.push(format!("{word}({})", g.stream())),
            None => effects.push(word),
        }
    }
    c.expect_puncts(";")?;
    if args.len() > 4 {
        return Err(Diag::new(pos, format!("helper `{name}` has more than four arguments")));
    }
    Ok(Helper { name, args, ret, effects, pos })
}

fn helper_width(c: &mut Cursor) -> Result<u32, Diag> {
    let pos = c.pos();
    match c.int("a width in bits")? {
        n @ (8 | 16 | 32 | 64) => Ok(n as u32),
        n => Err(Diag::new(pos, format!("width {n}: expected 8, 16, 32 or 64"))),
    }
}
