//! The opcode column: text as in the manual to [`Opcode`].

use crate::model::{Imm, Mandatory, Map, ModRm, Opcode, Vex, VexL, VexW};

/// Puts a shape's parameter values into an opcode string: `+8n`, `/n` and `{n}` (a byte).
pub(crate) fn substitute(text: &str, params: &[(String, u64)]) -> Result<String, String> {
    let mut words = Vec::new();
    for word in text.split_whitespace() {
        words.push(substitute_word(word, params)?);
    }
    Ok(words.join(" "))
}

fn substitute_word(word: &str, params: &[(String, u64)]) -> Result<String, String> {
    for (name, value) in params {
        if word.strip_prefix('{').and_then(|w| w.strip_suffix('}')) == Some(name) {
            if *value > 0xFF {
                return Err(format!("`{word}`: {name} = {value} is no byte"));
            }
            return Ok(format!("{value:02X}"));
        }
        if word.strip_prefix('/') == Some(name) {
            if *value > 7 {
                return Err(format!("`{word}`: {name} = {value} is no ModRM.reg value (0..7)"));
            }
            return Ok(format!("/{value}"));
        }
        if let Some((byte, rest)) = word.split_once("+8")
            && rest == name
        {
            let base = u64::from(hex_byte(byte)?);
            let sum = base + 8 * value;
            if sum > 0xFF {
                return Err(format!("`{word}` with {name} = {value} leaves one byte"));
            }
            return Ok(format!("{sum:02X}"));
        }
    }
    Ok(word.to_string())
}

fn hex_byte(word: &str) -> Result<u8, String> {
    let hex = word.len() == 2 && word.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'));
    let bad = || format!("`{word}` is no opcode byte (two upper-case hex digits)");
    if hex { u8::from_str_radix(word, 16).map_err(|_| bad()) } else { Err(bad()) }
}

fn is_byte(word: &str) -> bool {
    let head = word.split('+').next().unwrap_or("");
    hex_byte(head).is_ok()
}

/// Takes an opcode string apart; `fixed_modrm` = the row has attribute `modrm`.
pub(crate) fn parse_opcode(text: &str, fixed_modrm: bool) -> Result<Opcode, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut op = Opcode { text: words.join(" "), span: 1, ..Opcode::default() };
    let rest = match words.first().and_then(|word| word.strip_prefix("VEX.")) {
        Some(columns) => {
            vex(columns, &mut op)?;
            &words[1..]
        }
        None => {
            let rest = prefixes(&words, &mut op);
            map(rest, &mut op)
        }
    };
    let Some((first, mut rest)) = rest.split_first() else {
        return Err("an opcode byte is missing".to_string());
    };
    opcode_byte(first, &mut op)?;
    let fpu = op.map == Map::One && (0xD8..=0xDF).contains(&op.byte);
    if let Some((word, after)) = rest.split_first()
        && is_byte(word)
    {
        op.modrm = fixed(word, fpu, fixed_modrm)?;
        rest = after;
    } else if fixed_modrm {
        return Err("attribute `modrm` needs a ModRM byte after the opcode".to_string());
    }
    if let Some((word, after)) = rest.split_first()
        && let Some(slash) = word.strip_prefix('/')
    {
        if op.modrm != ModRm::None {
            return Err(format!("`{word}` after a fixed ModRM byte"));
        }
        op.modrm = match slash {
            "r" => ModRm::Any,
            "0" | "1" | "2" | "3" | "4" | "5" | "6" | "7" => ModRm::Reg(slash.as_bytes()[0] - b'0'),
            _ => return Err(format!("`{word}`: expected `/r` or `/0`..`/7`")),
        };
        rest = after;
    }
    op.imms = rest.iter().map(|w| immediate(w)).collect::<Result<_, _>>()?;
    Ok(op)
}

/// `128.66.0F38.W0`: the columns of a VEX prefix.
fn vex(columns: &str, op: &mut Opcode) -> Result<(), String> {
    let parts: Vec<&str> = columns.split('.').collect();
    let [l, pp, map, w] = parts.as_slice() else {
        return Err(format!("`VEX.{columns}`: expected `VEX.L.pp.map.W`"));
    };
    let l = match *l {
        "128" => VexL::L128,
        "256" => VexL::L256,
        "LIG" => VexL::Lig,
        "LZ" => VexL::Lz,
        _ => return Err(format!("`{l}`: expected 128, 256, LIG or LZ")),
    };
    op.prefix = match *pp {
        "NP" => Mandatory::Np,
        "66" => Mandatory::P66,
        "F3" => Mandatory::F3,
        "F2" => Mandatory::F2,
        _ => return Err(format!("`{pp}`: expected NP, 66, F3 or F2")),
    };
    op.map = match *map {
        "0F" => Map::M0f,
        "0F38" => Map::M0f38,
        "0F3A" => Map::M0f3a,
        _ => return Err(format!("`{map}`: expected 0F, 0F38 or 0F3A")),
    };
    let w = match *w {
        "W0" => VexW::W0,
        "W1" => VexW::W1,
        "WIG" => VexW::Wig,
        _ => return Err(format!("`{w}`: expected W0, W1 or WIG")),
    };
    op.vex = Some(Vex { l, w });
    Ok(())
}

/// The text of a VEX opcode that stands for a legacy one.
pub(super) fn vex_text(op: &Opcode) -> String {
    let Some(vex) = op.vex else { return op.text.clone() };
    let l = match vex.l {
        VexL::L128 => "128",
        VexL::L256 => "256",
        VexL::Lig => "LIG",
        VexL::Lz => "LZ",
    };
    let pp = match op.prefix {
        Mandatory::P66 => "66",
        Mandatory::F3 => "F3",
        Mandatory::F2 => "F2",
        Mandatory::Any | Mandatory::Np | Mandatory::Nfx => "NP",
    };
    let (map, skip) = match op.map {
        Map::One => ("?", 0),
        Map::M0f => ("0F", 1),
        Map::M0f38 => ("0F38", 2),
        Map::M0f3a => ("0F3A", 2),
    };
    let w = match vex.w {
        VexW::W0 => "W0",
        VexW::W1 => "W1",
        VexW::Wig => "WIG",
    };
    let words: Vec<&str> = op.text.split_whitespace().collect();
    let escape = words.iter().position(|word| *word == "0F").unwrap_or(0);
    let rest = words.get(escape + skip..).unwrap_or_default().join(" ");
    format!("VEX.{l}.{pp}.{map}.{w} {rest}")
}

fn prefixes<'a, 'b>(mut words: &'a [&'b str], op: &mut Opcode) -> &'a [&'b str] {
    while let Some((word, rest)) = words.split_first() {
        let followed = rest.first().is_some_and(|w| is_byte(w) || *w == "REX.W");
        match *word {
            "NP" => op.prefix = Mandatory::Np,
            "NFx" => op.prefix = Mandatory::Nfx,
            "66" if followed => op.prefix = Mandatory::P66,
            "F3" if followed => op.prefix = Mandatory::F3,
            "F2" if followed => op.prefix = Mandatory::F2,
            "REX.W" => op.rex_w = true,
            _ => break,
        }
        words = rest;
    }
    words
}

fn map<'a, 'b>(words: &'a [&'b str], op: &mut Opcode) -> &'a [&'b str] {
    let more = |n: usize| words.get(n).is_some_and(|w| is_byte(w));
    let (map, skip) = match (words.first().copied(), words.get(1).copied()) {
        (Some("0F"), Some("38")) if more(2) => (Map::M0f38, 2),
        (Some("0F"), Some("3A")) if more(2) => (Map::M0f3a, 2),
        (Some("0F"), Some(_)) if more(1) => (Map::M0f, 1),
        _ => (Map::One, 0),
    };
    op.map = map;
    &words[skip..]
}

fn opcode_byte(word: &str, op: &mut Opcode) -> Result<(), String> {
    let (byte, plus) = word.split_once('+').unwrap_or((word, ""));
    op.byte = hex_byte(byte)?;
    match plus {
        "" if word.contains('+') => return Err(format!("`{word}`: nothing after `+`")),
        "" => {}
        "r" => op.span = 8,
        "cc" => (op.span, op.has_cc) = (16, true),
        _ => return Err(format!("`{word}`: expected `+r`, `+cc` or, in a shape, `+8n`")),
    }
    if !op.byte.is_multiple_of(op.span) {
        let bits = if op.span == 8 { "three" } else { "four" };
        return Err(format!("`{word}`: the low {bits} bits of the byte must be clear"));
    }
    Ok(())
}

fn fixed(word: &str, fpu: bool, fixed_modrm: bool) -> Result<ModRm, String> {
    let (byte, plus) = word.split_once('+').unwrap_or((word, ""));
    let byte = hex_byte(byte)?;
    match plus {
        "i" if fpu && byte % 8 == 0 => Ok(ModRm::FixedPlus(byte)),
        "" if fixed_modrm || fpu => Ok(ModRm::Fixed(byte)),
        "" => Err(format!("second opcode byte `{word}` needs attribute `modrm`")),
        _ => Err(format!("`{word}`: only `D8`..`DF` rows may use `+i`, on a multiple of 8")),
    }
}

fn immediate(word: &str) -> Result<Imm, String> {
    Ok(match word {
        "ib" | "cb" => Imm::B,
        "iw" | "cw" => Imm::W,
        "id" | "cd" => Imm::D,
        "iq" => Imm::Q,
        "iz" | "cz" => Imm::Z,
        "iv" => Imm::V,
        "cp" => Imm::Ptr,
        "ob" | "ov" => Imm::Moffs,
        "is4" => Imm::Is4,
        _ => {
            return Err(format!(
                "`{word}` is no immediate column (ib iw id iz iv iq cb cz cp ob ov is4)"
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: &Opcode) {
        let got = parse_opcode(text, text == "0F 01 C8").unwrap();
        assert_eq!(got, Opcode { text: text.to_string(), ..expect.clone() });
    }

    #[test]
    fn columns_are_taken_apart() {
        let one = Opcode { span: 1, ..Opcode::default() };
        let two = Opcode { map: Map::M0f, ..one.clone() };
        check("90", &Opcode { byte: 0x90, ..one.clone() });
        check("F3 90", &Opcode { prefix: Mandatory::F3, byte: 0x90, ..one.clone() });
        check("0F B1 /r", &Opcode { byte: 0xB1, modrm: ModRm::Any, ..two.clone() });
        let imms = vec![Imm::B];
        check("80 /7 ib", &Opcode { byte: 0x80, modrm: ModRm::Reg(7), imms, ..one.clone() });
        let imms = vec![Imm::W, Imm::B];
        check("C8 iw ib", &Opcode { byte: 0xC8, imms, ..one.clone() });
        check("50+r", &Opcode { byte: 0x50, span: 8, ..one.clone() });
        let imms = vec![Imm::Z];
        check("0F 80+cc cz", &Opcode { byte: 0x80, span: 16, has_cc: true, imms, ..two.clone() });
        check("0F 01 C8", &Opcode { byte: 1, modrm: ModRm::Fixed(0xC8), ..two.clone() });
        check("D8 C0+i", &Opcode { byte: 0xD8, modrm: ModRm::FixedPlus(0xC0), ..one.clone() });
        let map = Map::M0f38;
        let byte = 0xF0;
        let prefix = Mandatory::F2;
        check("F2 0F 38 F0 /r", &Opcode { prefix, map, byte, modrm: ModRm::Any, ..one.clone() });
        let vex = Some(Vex { l: VexL::L256, w: VexW::W0 });
        let (prefix, imms) = (Mandatory::P66, vec![Imm::Is4]);
        let long = Opcode { prefix, vex, map: Map::M0f3a, modrm: ModRm::Any, ..one.clone() };
        check("VEX.256.66.0F3A.W0 4A /r is4", &Opcode { byte: 0x4A, imms, ..long });
        check("REX.W 0F C7 /1", &Opcode { rex_w: true, byte: 0xC7, modrm: ModRm::Reg(1), ..two });
    }

    #[test]
    fn shape_parameters_are_put_in() {
        let n = |v| [("n".to_string(), v)];
        assert_eq!(substitute("00+8n /r", &n(5)).unwrap(), "28 /r");
        assert_eq!(substitute("80 /n ib", &n(7)).unwrap(), "80 /7 ib");
        assert!(substitute("80 /n ib", &n(8)).is_err());
        assert!(substitute("F8+8n", &n(1)).is_err());
        assert_eq!(substitute("66 0F {n} /r", &n(0xFC)).unwrap(), "66 0F FC /r");
        assert!(substitute("{n}", &n(256)).is_err());
    }
}
