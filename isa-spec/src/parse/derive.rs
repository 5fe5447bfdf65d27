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

#[cfg(test)]
mod tests {
    use crate::model::Isa;
    use crate::parse::form::form_name;

    fn isa(items: &str) -> Isa {
        let text = format!("isa x86;\n{items}");
        crate::parse_files(vec![("t.isa".to_string(), text)]).unwrap_or_else(|e| panic!("{e}"))
    }

    /// The rows, one line each: mnemonic, opcode, forms, attributes.
    fn rows(row: &str) -> Vec<String> {
        let isa = isa(&format!("/// d.\ninsn X(d, a, b) {{ {row} }} => {{ native!(d; a, b); }}"));
        let line = |row: &crate::model::Row| {
            let forms: Vec<String> = row.forms.iter().map(|f| form_name(*f)).collect();
            let mut attrs: Vec<String> =
                row.attrs.list.iter().map(|(n, a)| format!("{n}{a}")).collect();
            attrs.sort();
            let (name, text) = (&row.mnemonic, &row.opcode.text);
            format!("{name} {text}: {} / {}", forms.join(" "), attrs.join(" "))
        };
        isa.rows.iter().map(line).collect()
    }

    #[test]
    fn one_row_makes_its_mmx_and_vex_forms() {
        let all =
            "\"66 0F FE /r\" Vx, Hx, Wx cpuid(SSE2) mmx(MMX) vex(AVX) vex256(AVX2) align sse;";
        assert_eq!(
            rows(all),
            [
                "x 66 0F FE /r: Vx H Wx / align cpuidSSE2 native sse",
                "x NP 0F FE /r: Pq H Qq / cpuidMMX mmx native",
                "vx VEX.128.66.0F.WIG FE /r: Vx Hx Wx / avx cpuidAVX native pe",
                "vx VEX.256.66.0F.WIG FE /r: Vx Hx Wx / avx cpuidAVX2 native pe",
            ]
        );
    }

    #[test]
    fn scalar_rows_ignore_l_and_rex_w_becomes_vex_w() {
        let scalar = "\"F3 0F 58 /r\" Vx, Hx, Wd cpuid(SSE) vex(AVX) scalar sse mxcsr;";
        assert_eq!(
            rows(scalar)[1],
            "vx VEX.LIG.F3.0F.WIG 58 /r: Vdq Hdq Wd / avx cpuidAVX mxcsr native pe scalar"
        );
        let wide = "\"66 REX.W 0F 3A 22 /r\" Vdq, Hdq, Eq cpuid(SSE4_1) vex(AVX, AES) sse;";
        let lines = rows(wide);
        assert_eq!(
            lines[1],
            "vx VEX.128.66.0F3A.W1 22 /r: Vdq Hdq Eq / avx cpuidAVX,AES native pe"
        );
    }

    #[test]
    fn processors_inherit_and_take_away() {
        let isa = isa("feature A leaf(1) edx(0);\nfeature B leaf(7, 1) ebx(5) needs(A) host;\n\
            feature C leaf(0x80000001) ecx(31) system;\n\
            cpu one vendor(\"AuthenticAMD\") family(15) level(P5) { A }\n\
            cpu two: one name(\"2nd\") model(4) { B C -A }\ncpu most: two { all }");
        let [one, two, most] = &isa.cpus[..] else { panic!("three processors") };
        assert_eq!((one.name.as_str(), one.family, one.level, one.features), ("one", 15, 5, 1));
        assert_eq!((two.name.as_str(), two.family, two.model, two.features), ("2nd", 15, 4, 6));
        assert_eq!((two.vendor.as_str(), most.features), ("AuthenticAMD", 7));
        let b = &isa.features[1];
        assert_eq!((b.leaf, b.sub, b.reg, b.bit, b.host), (7, 1, 1, 5, true));
        assert_eq!(b.needs, [0]);
        assert!(isa.features[2].system);
    }
}
