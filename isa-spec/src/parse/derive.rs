//! Rows that follow from one row: its MMX and VEX forms (LANGUAGE.md, "Derived rows").

use super::attr::AS_MMX;
use super::opcode;
use crate::error::{Diag, Sink};
use crate::model::{Attrs, Form, Mandatory, Row, Sz, Vex, VexL, VexW};

/// Attributes that only ask for derived rows.
const ASKING: [&str; 5] = [AS_MMX, "vex", "vex256", "w0", "w1"];

/// The row itself and the rows derived from it.
pub(super) fn derived(row: Row, sink: &mut Sink) -> Vec<Row> {
    let asked = row.attrs.clone();
    let mut own = row;
    own.attrs.list.retain(|(name, _)| !ASKING.contains(&name.as_str()));
    let asks = ASKING.iter().any(|name| asked.has(name));
    if own.opcode.vex.is_some() {
        if asks {
            let text = format!("`{}` is a VEX row already", own.opcode.text);
            sink.push(Diag::new(own.pos, text));
        }
        return vec![vex_row(own)];
    }
    let mut list = Vec::new();
    if let Some(feature) = asked.arg(AS_MMX) {
        list.push(mmx(&own, feature));
    }
    for (name, l) in [("vex", VexL::L128), ("vex256", VexL::L256)] {
        let Some(feature) = asked.arg(name) else { continue };
        if matches!(own.opcode.prefix, Mandatory::Any | Mandatory::Nfx) {
            let text = format!("`{name}` needs NP, 66, F3 or F2 in the opcode");
            sink.push(Diag::new(own.pos, text));
        }
        list.push(vex(&own, &asked, feature, l));
    }
    if (asked.has("w0") || asked.has("w1")) && !asked.has("vex") && !asked.has("vex256") {
        sink.push(Diag::new(own.pos, "`w0` and `w1` speak of derived VEX rows: `vex(…)`"));
    }
    own.forms = own.forms.iter().map(|form| legacy(*form)).collect();
    list.insert(0, own);
    list
}

/// A form of a legacy row.
fn legacy(form: Form) -> Form {
    match form {
        Form::H(_) => Form::Same,
        other => other,
    }
}

/// Finishes a VEX row: real and virtual-8086 mode have none, what an insn says of its legacy rows is not meant, and
/// where L is ignored nothing grows with it.
fn vex_row(mut row: Row) -> Row {
    set(&mut row.attrs, "pe", "");
    if row.attrs.has("avx") {
        drop_all(&mut row.attrs, &["sse", "mmx", "align"]);
    }
    if row.opcode.vex.is_some_and(|vex| vex.l == VexL::Lig) {
        let narrow = |form: &Form| match form.any_size() {
            Some(Sz::X) => form.resized(Sz::Dq),
            _ => *form,
        };
        row.forms = row.forms.iter().map(narrow).collect();
    }
    row
}

fn set(attrs: &mut Attrs, name: &str, text: &str) {
    attrs.list.retain(|(n, _)| n != name);
    attrs.list.push((name.to_string(), text.to_string()));
}

fn drop_all(attrs: &mut Attrs, names: &[&str]) {
    attrs.list.retain(|(name, _)| !names.contains(&name.as_str()));
}

fn mmx(own: &Row, feature: &str) -> Row {
    let mut row = own.clone();
    row.opcode.prefix = Mandatory::Np;
    let words = row.opcode.text.strip_prefix("66 ").unwrap_or(&row.opcode.text);
    row.opcode.text = format!("NP {}", words.strip_prefix("NP ").unwrap_or(words));
    let quad = |size: Sz| if matches!(size, Sz::X | Sz::Dq) { Sz::Q } else { size };
    let change = |form: &Form| match *form {
        Form::V(size) => Form::P(quad(size)),
        Form::W(size) => Form::Q(quad(size)),
        Form::U(size) => Form::N(quad(size)),
        Form::M(size) => Form::M(quad(size)),
        other => legacy(other),
    };
    row.forms = row.forms.iter().map(change).collect();
    drop_all(&mut row.attrs, &["sse", "align"]);
    set(&mut row.attrs, "mmx", "");
    set(&mut row.attrs, "cpuid", feature);
    row
}

fn vex(own: &Row, asked: &Attrs, feature: &str, l: VexL) -> Row {
    let mut row = own.clone();
    let w = match (asked.has("w0"), asked.has("w1") || own.opcode.rex_w) {
        (_, true) => VexW::W1,
        (true, _) => VexW::W0,
        _ => VexW::Wig,
    };
    let l = if asked.has("scalar") { VexL::Lig } else { l };
    row.opcode.vex = Some(Vex { l, w });
    row.opcode.text = opcode::vex_text(&row.opcode);
    set(&mut row.attrs, "avx", "");
    set(&mut row.attrs, "cpuid", feature);
    let with_v = |text: &str| {
        let parts: Vec<String> = text.split('|').map(|part| format!("v{part}")).collect();
        parts.join("|")
    };
    for name in ["att", "intel"] {
        if let Some(text) = row.attrs.arg(name).map(with_v) {
            set(&mut row.attrs, name, &text);
        }
    }
    row.mnemonic = format!("v{}", row.mnemonic);
    vex_row(row)
}
