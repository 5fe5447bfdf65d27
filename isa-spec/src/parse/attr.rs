//! Attributes: the list of those that exist, their arguments, and the flags clause.

use super::cursor::Cursor;
use super::form;
use crate::error::{Diag, Sink, suggest};
use crate::model::{Attrs, FlagsClause, Form, Pos};
use proc_macro2::{Delimiter, TokenTree};

/// What stands in an attribute's parentheses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arg {
    /// No parentheses.
    None,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Perhaps one word.
    Optional,
    /// One word.
    Word,
    /// A string.
    Text,
    /// The name of an operand param.
    Param,
    /// The name of a helper.
    Helper,
    /// One or two names of features.
    Features,
}

/// Every attribute of LANGUAGE.md but `with` and `flags`.
pub(crate) const ATTRS: &[(&str, Arg)] = &[
    ("lock", Arg::None),
    ("locked", Arg::None),
    ("i64", Arg::None),
    ("o64", Arg::None),
    ("d64", Arg::None),
    ("f64", Arg::None),
    ("cpl0", Arg::None),
    ("iopl", Arg::None),
    ("vm86", Arg::OneOf(&["iopl"])),
    ("iobitmap", Arg::Optional),
    ("pe", Arg::None),
    ("since", Arg::OneOf(&["I186", "I286", "I386", "I486", "P5", "P6"])),
    ("maker", Arg::OneOf(&["intel", "amd"])),
    ("cpuid", Arg::Features),
    ("undoc", Arg::None),
    ("weak", Arg::None),
    ("name", Arg::Word),
    ("att", Arg::Text),
    ("intel", Arg::Text),
    ("byasz", Arg::None),
    ("rep", Arg::None),
    ("repcc", Arg::None),
    ("bulk", Arg::Helper),
    ("ends", Arg::None),
    ("shadow", Arg::None),
    ("nomod", Arg::None),
    ("bitbase", Arg::Param),
    ("noaccess", Arg::None),
    ("zext_reg", Arg::None),
    ("undef", Arg::None),
    ("modrm", Arg::None),
    ("norexb", Arg::None),
    ("rexb", Arg::None),
    ("hint", Arg::None),
    ("host", Arg::Word),
    ("x87", Arg::None),
    ("mmx", Arg::None),
    ("sse", Arg::None),
    ("avx", Arg::None),
    ("wait", Arg::None),
    ("mxcsr", Arg::None),
    ("align", Arg::None),
    ("aligned", Arg::None),
    ("nowait", Arg::None),
    ("control", Arg::None),
    ("vsib", Arg::Optional),
    ("scalar", Arg::None),
    ("implicit", Arg::None),
    ("vex", Arg::Features),
    ("vex256", Arg::Features),
    ("w0", Arg::None),
    ("w1", Arg::None),
];

/// `mmx(F)` by its own name, apart from the bare `mmx`.
pub(crate) const AS_MMX: &str = "mmx(…)";

/// An attribute as written, not yet merged.
#[derive(Clone, Debug)]
pub(crate) enum RawAttr {
    /// Name, argument text, place.
    Plain(String, String, Pos),
    /// `with(name = FORM, …)`.
    With(Vec<(String, Form, Pos)>),
    /// `flags(…)`.
    Flags(FlagsClause, Pos),
    /// A word with arguments that is no attribute: a shape call.
    Shape { name: String, args: Vec<u64>, attrs: Vec<RawAttr>, pos: Pos },
}

/// Reads attributes until something else comes. Errors are recorded; the offending attribute is
/// dropped.
pub(crate) fn attributes(c: &mut Cursor, shapes: bool, sink: &mut Sink) -> Vec<RawAttr> {
    let mut list = Vec::new();
    while let Some(name) = c.peek_word() {
        let pos = c.pos();
        c.next();
        let args = c.eat_group(Delimiter::Parenthesis);
        let args = args.map(|g| Cursor::group(c.file(), &g));
        match attribute(name, pos, args, shapes, sink) {
            Ok(attr) => list.push(attr),
            Err(diag) => sink.push(diag),
        }
    }
    list
}

fn attribute(
    name: String,
    pos: Pos,
    args: Option<Cursor>,
    shapes: bool,
    sink: &mut Sink,
) -> Result<RawAttr, Diag> {
    if name == "with" {
        return with(pos, args);
    }
    if name == "flags" && shapes {
        let mut args =
            args.ok_or_else(|| Diag::new(pos, "`flags` needs a clause: `flags(z c)`"))?;
        return Ok(RawAttr::Flags(flags_clause(&mut args)?, pos));
    }
    if name == "mmx" && args.is_some() {
        let text = argument(&name, pos, Arg::Features, args)?;
        return Ok(RawAttr::Plain(AS_MMX.to_string(), text, pos));
    }
    if let Some((_, kind)) = ATTRS.iter().find(|(n, _)| *n == name) {
        let text = argument(&name, pos, *kind, args)?;
        return Ok(RawAttr::Plain(name, text, pos));
    }
    match args {
        Some(args) if shapes => shape_call(name, pos, args, sink),
        _ => {
            let near = suggest(&name, attr_names());
            Err(Diag::new(pos, format!("unknown attribute `{name}`{near}")))
        }
    }
}

/// Names of all attributes, for suggestions.
pub(crate) fn attr_names() -> impl Iterator<Item = &'static str> {
    ATTRS.iter().map(|(n, _)| *n).chain(["with", "flags"])
}

fn argument(name: &str, pos: Pos, kind: Arg, args: Option<Cursor>) -> Result<String, Diag> {
    let Some(mut c) = args else {
        return match kind {
            Arg::None | Arg::Optional => Ok(String::new()),
            _ => {
                Err(Diag::new(pos, format!("attribute `{name}` needs an argument in parentheses")))
            }
        };
    };
    let text = match kind {
        Arg::None => return Err(Diag::new(pos, format!("attribute `{name}` takes no argument"))),
        Arg::Text => c.string("a string")?.0,
        Arg::OneOf(words) => {
            let (word, at) = c.word("a word")?;
            if !words.contains(&word.as_str()) {
                let list = words.join(" ");
                return Err(Diag::new(at, format!("`{name}({word})`: expected one of {list}")));
            }
            word
        }
        Arg::Features => {
            let mut text = c.word("the name of a feature")?.0;
            if !c.is_empty() {
                c.expect_puncts(",")?;
                text = format!("{text},{}", c.word("the name of a feature")?.0);
            }
            text
        }
        Arg::Optional | Arg::Word | Arg::Param | Arg::Helper => c.word("a word")?.0,
    };
    c.expect_end("`)`")?;
    Ok(text)
}

fn with(pos: Pos, args: Option<Cursor>) -> Result<RawAttr, Diag> {
    let mut c = args.ok_or_else(|| Diag::new(pos, "`with` needs operands: `with(x = AL)`"))?;
    let mut list = Vec::new();
    while !c.is_empty() {
        let (name, at) = c.word("an operand name")?;
        c.expect_puncts("=")?;
        list.push((name, operand_form(&mut c)?, at));
        if !c.is_empty() {
            c.expect_puncts(",")?;
        }
    }
    Ok(RawAttr::With(list))
}

/// Reads one operand form.
pub(crate) fn operand_form(c: &mut Cursor) -> Result<Form, Diag> {
    if let Some(TokenTree::Literal(_)) = c.peek() {
        let pos = c.pos();
        let value = c.int("an operand form")?;
        let value = u32::try_from(value);
        return value.map(Form::Lit).map_err(|_| Diag::new(pos, "literal operand beyond 32 bits"));
    }
    let (name, pos) = c.word("an operand form")?;
    if name == "ST" {
        let mut inner = c.expect_group(Delimiter::Parenthesis, "`(0)` or `(i)`")?;
        let is_top = !inner.at_word("i");
        inner.next();
        inner.expect_end("`)`")?;
        return Ok(if is_top { Form::St0 } else { Form::StI });
    }
    form::form(&name).ok_or_else(|| {
        let near = suggest(&name, form::FORM_NAMES);
        Diag::new(pos, format!("unknown operand form `{name}`{near}"))
    })
}

fn shape_call(name: String, pos: Pos, mut c: Cursor, sink: &mut Sink) -> Result<RawAttr, Diag> {
    let mut args = Vec::new();
    let mut attrs = Vec::new();
    while !c.is_empty() {
        if let Some(TokenTree::Literal(_)) = c.peek() {
            args.push(c.int("a number")?);
        } else {
            attrs.extend(attributes(&mut c, false, sink));
        }
        if !c.is_empty() {
            c.expect_puncts(",")?;
        }
    }
    Ok(RawAttr::Shape { name, args, attrs, pos })
}

/// Bit of a flag letter in `ir::FlagMask` order.
pub(crate) fn flag_letter(letter: &str) -> Option<u8> {
    Some(match letter {
        "c" => 1,
        "p" => 2,
        "a" => 4,
        "z" => 8,
        "s" => 16,
        "o" => 32,
        _ => return None,
    })
}

fn flags_clause(c: &mut Cursor) -> Result<FlagsClause, Diag> {
    let mut clause = FlagsClause { present: true, ..FlagsClause::default() };
    while !c.is_empty() && !c.at_punct(';') {
        let (letter, pos) = c.word("a flag letter (o s z a p c, d i t n, all)")?;
        written_flag(c, &mut clause, &letter, pos)?;
        c.eat_punct(',');
    }
    if c.eat_punct(';') {
        while !c.is_empty() {
            let (letter, pos) = c.word("a flag letter or `cc`")?;
            match (flag_letter(&letter), letter.as_str()) {
                (Some(bit), _) => clause.read |= bit,
                (None, "cc") => clause.reads_cc = true,
                (None, "all") => (clause.read, clause.system_read) = (0x3F, true),
                (None, "d" | "i" | "t" | "n" | "v" | "r") => clause.system_read = true,
                _ => return Err(unknown_flag(&letter, pos)),
            }
            c.eat_punct(',');
        }
    }
    Ok(clause)
}

fn unknown_flag(letter: &str, pos: Pos) -> Diag {
    Diag::new(pos, format!("unknown flag letter `{letter}` (o s z a p c; d i t n v r; all; cc)"))
}

fn written_flag(
    c: &mut Cursor,
    clause: &mut FlagsClause,
    letter: &str,
    pos: Pos,
) -> Result<(), Diag> {
    let Some(bit) = flag_letter(letter) else {
        match letter {
            "all" => (clause.written, clause.system_written) = (0x3F, true),
            "d" | "i" | "t" | "n" | "v" | "r" => clause.system_written = true,
            _ => return Err(unknown_flag(letter, pos)),
        }
        return Ok(());
    };
    if clause.written & bit != 0 {
        return Err(Diag::new(pos, format!("flag `{letter}` stands twice in the clause")));
    }
    clause.written |= bit;
    if !c.eat_punct('=') {
        return Ok(());
    }
    if c.eat_punct('?') {
        clause.undefined |= bit;
        return Ok(());
    }
    match c.int("`0`, `1` or `?`")? {
        0 => clause.zero |= bit,
        1 => clause.one |= bit,
        _ => return Err(Diag::new(pos, format!("`{letter}=`: expected `0`, `1` or `?`"))),
    }
    Ok(())
}

/// Adds `more` to `attrs`; a later attribute replaces an earlier one of the same name.
pub(crate) fn merge(attrs: &mut Attrs, more: &[RawAttr]) {
    for attr in more {
        match attr {
            RawAttr::Plain(name, text, _) => {
                attrs.list.retain(|(n, _)| n != name);
                attrs.list.push((name.clone(), text.clone()));
            }
            RawAttr::With(list) => {
                for (name, form, _) in list {
                    attrs.with.retain(|(n, _)| n != name);
                    attrs.with.push((name.clone(), *form));
                }
            }
            RawAttr::Flags(..) | RawAttr::Shape { .. } => {}
        }
    }
}
