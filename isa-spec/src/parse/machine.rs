//! `feature` and `cpu` items: CPUID bits and processor models.

use super::cursor::Cursor;
use crate::error::{Diag, Sink, suggest};
use crate::model::{Cpu, Feature, LEVELS, Pos};
use proc_macro2::Delimiter;
use std::collections::HashMap;

/// A feature as written; the names of `needs` are not resolved.
#[derive(Debug)]
pub(crate) struct RawFeature {
    feature: Feature,
    needs: Vec<(String, Pos)>,
}

/// A processor as written.
#[derive(Debug)]
pub(crate) struct RawCpu {
    ident: String,
    base: Option<(String, Pos)>,
    texts: Vec<(String, String)>,
    numbers: Vec<(String, u32)>,
    /// Added (true) or taken away.
    features: Vec<(bool, String, Pos)>,
    pos: Pos,
}

/// At most this many features: their numbers are bits of a `u128`.
const MOST_FEATURES: usize = 128;

/// Reads a feature after its keyword.
pub(crate) fn feature(c: &mut Cursor) -> Result<RawFeature, Diag> {
    let (name, pos) = c.word("a feature name")?;
    let mut feature = Feature {
        name,
        leaf: 0,
        sub: 0,
        reg: 0,
        bit: 0,
        needs: Vec::new(),
        host: false,
        system: false,
        pos,
    };
    let (word, at) = c.word("`leaf(n)`")?;
    if word != "leaf" {
        return Err(Diag::new(at, "expected `leaf(n)` or `leaf(n, sub)`"));
    }
    let mut inner = c.expect_group(Delimiter::Parenthesis, "`(`")?;
    feature.leaf = number(&mut inner, "a CPUID leaf")?;
    if inner.at_punct(',') {
        inner.expect_puncts(",")?;
        feature.sub = number(&mut inner, "a sub-leaf")?;
    }
    inner.expect_end("`)`")?;
    let (word, at) = c.word("`eax(bit)` … `edx(bit)`")?;
    let registers = ["eax", "ebx", "ecx", "edx"];
    let reg = registers.iter().position(|r| *r == word);
    feature.reg =
        reg.ok_or_else(|| Diag::new(at, format!("`{word}`: expected eax, ebx, ecx or edx")))? as u8;
    let mut inner = c.expect_group(Delimiter::Parenthesis, "`(`")?;
    let at = inner.pos();
    feature.bit = match number(&mut inner, "a bit number")? {
        bit @ 0..32 => bit as u8,
        bit => return Err(Diag::new(at, format!("bit {bit}: a register has bits 0 to 31"))),
    };
    let needs = feature_words(c, &mut feature)?;
    c.expect_puncts(";")?;
    Ok(RawFeature { feature, needs })
}

fn feature_words(c: &mut Cursor, feature: &mut Feature) -> Result<Vec<(String, Pos)>, Diag> {
    let mut needs = Vec::new();
    while !c.at_punct(';') {
        let (word, at) = c.word("`needs(…)`, `host`, `system` or `;`")?;
        match word.as_str() {
            "host" => feature.host = true,
            "system" => feature.system = true,
            "needs" => {
                let mut inner = c.expect_group(Delimiter::Parenthesis, "`(`")?;
                while !inner.is_empty() {
                    needs.push(inner.word("a feature name")?);
                    if !inner.is_empty() {
                        inner.expect_puncts(",")?;
                    }
                }
            }
            _ => return Err(Diag::new(at, format!("`{word}`: expected needs, host or system"))),
        }
    }
    Ok(needs)
}

fn number(c: &mut Cursor, what: &str) -> Result<u32, Diag> {
    let pos = c.pos();
    let value = c.int(what)?;
    u32::try_from(value).map_err(|_| Diag::new(pos, format!("{value:#x} is beyond 32 bits")))
}

/// Reads a processor after its keyword.
pub(crate) fn cpu(c: &mut Cursor) -> Result<RawCpu, Diag> {
    let (ident, pos) = c.word("a processor name")?;
    let mut cpu = RawCpu {
        ident,
        base: None,
        texts: Vec::new(),
        numbers: Vec::new(),
        features: Vec::new(),
        pos,
    };
    if c.eat_punct(':') {
        cpu.base = Some(c.word("the name of a processor above")?);
    }
    while let Some(word) = c.peek_word() {
        let at = c.pos();
        c.next();
        let mut inner = c.expect_group(Delimiter::Parenthesis, "`(`")?;
        match word.as_str() {
            "name" | "vendor" | "brand" => {
                let (text, at) = inner.string("a string")?;
                if word == "vendor" && text.len() != 12 {
                    return Err(Diag::new(at, "a vendor string has 12 characters"));
                }
                cpu.texts.push((word, text));
            }
            "family" | "model" | "stepping" => {
                let value = number(&mut inner, "a number")?;
                cpu.numbers.push((word, value));
            }
            "level" => {
                let (level, at) = inner.word("a generation")?;
                let found = LEVELS.iter().position(|l| *l == level);
                let list = LEVELS.join(" ");
                let found =
                    found.ok_or_else(|| Diag::new(at, format!("`{level}`: one of {list}")))?;
                cpu.numbers.push((word, found as u32));
            }
            _ => {
                let known = ["name", "vendor", "brand", "family", "model", "stepping", "level"];
                let near = suggest(&word, known);
                return Err(Diag::new(at, format!("unknown word `{word}` of a processor{near}")));
            }
        }
        inner.expect_end("`)`")?;
    }
    let mut inner = c.expect_group(Delimiter::Brace, "`{` and features")?;
    while !inner.is_empty() {
        let added = !inner.eat_punct('-');
        let (name, at) = inner.word("a feature name")?;
        cpu.features.push((added, name, at));
        inner.eat_punct(',');
    }
    c.eat_punct(';');
    Ok(cpu)
}

/// Puts numbers in the place of the features' names.
pub(crate) fn features(raw: Vec<RawFeature>, sink: &mut Sink) -> Vec<Feature> {
    let mut numbers: HashMap<String, usize> = HashMap::new();
    for (n, raw) in raw.iter().enumerate() {
        if numbers.insert(raw.feature.name.clone(), n).is_some() {
            let text = format!("feature `{}` is declared twice", raw.feature.name);
            sink.error(raw.feature.pos, text);
        }
    }
    if let Some(raw) = raw.get(MOST_FEATURES) {
        sink.error(raw.feature.pos, format!("more than {MOST_FEATURES} features"));
    }
    let mut list = Vec::new();
    for RawFeature { mut feature, needs } in raw {
        for (name, pos) in needs {
            match numbers.get(&name) {
                Some(n) => feature.needs.push(*n),
                None => unknown(&name, pos, numbers.keys().map(String::as_str), sink),
            }
        }
        list.push(feature);
    }
    list
}

fn unknown<'a>(name: &str, pos: Pos, known: impl Iterator<Item = &'a str>, sink: &mut Sink) {
    let near = suggest(name, known);
    sink.error(pos, format!("unknown feature `{name}`{near}"));
}

/// Resolves bases and features of the processors, in table order.
pub(crate) fn cpus(raw: Vec<RawCpu>, features: &[Feature], sink: &mut Sink) -> Vec<Cpu> {
    let mut list: Vec<(String, Cpu)> = Vec::new();
    for raw in raw {
        if list.iter().any(|(ident, _)| *ident == raw.ident) {
            sink.error(raw.pos, format!("processor `{}` is declared twice", raw.ident));
        }
        let cpu = resolve(&raw, &list, features, sink);
        list.push((raw.ident, cpu));
    }
    list.into_iter().map(|(_, cpu)| cpu).collect()
}

fn resolve(raw: &RawCpu, list: &[(String, Cpu)], features: &[Feature], sink: &mut Sink) -> Cpu {
    let mut cpu = Cpu {
        name: String::new(),
        vendor: "GenuineIntel".to_string(),
        brand: String::new(),
        family: 6,
        model: 0,
        stepping: 0,
        level: (LEVELS.len() - 1) as u8,
        features: 0,
        pos: raw.pos,
    };
    if let Some((base, pos)) = &raw.base {
        match list.iter().find(|(ident, _)| ident == base) {
            Some((_, found)) => cpu = Cpu { pos: raw.pos, ..found.clone() },
            None => {
                let near = suggest(base, list.iter().map(|(ident, _)| ident.as_str()));
                sink.error(*pos, format!("no processor `{base}` above{near}"));
            }
        }
    }
    cpu.name.clone_from(&raw.ident);
    for (word, text) in &raw.texts {
        match word.as_str() {
            "name" => cpu.name.clone_from(text),
            "vendor" => cpu.vendor.clone_from(text),
            _ => cpu.brand.clone_from(text),
        }
    }
    for (word, number) in &raw.numbers {
        match word.as_str() {
            "family" => cpu.family = *number,
            "model" => cpu.model = *number,
            "stepping" => cpu.stepping = *number,
            _ => cpu.level = *number as u8,
        }
    }
    for (added, name, pos) in &raw.features {
        let found = features.iter().position(|f| f.name == *name);
        let bits = match found {
            Some(n) => 1u128.checked_shl(n as u32).unwrap_or(0),
            None if name == "all" => u128::MAX >> (128 - features.len().clamp(1, 128)),
            None => {
                unknown(name, *pos, features.iter().map(|f| f.name.as_str()), sink);
                0
            }
        };
        cpu.features = if *added { cpu.features | bits } else { cpu.features & !bits };
    }
    cpu
}
