//! Names: operand forms, registers, segment registers, flags.

use crate::model::{ExprWidth, Form, Sz};

/// 8-bit registers by number; 16..20 are the high halves.
pub(crate) const REG8: [(&str, u8); 8] =
    [("AL", 0), ("CL", 1), ("DL", 2), ("BL", 3), ("AH", 16), ("CH", 17), ("DH", 18), ("BH", 19)];
/// General registers without width letter, by number.
pub(crate) const REG_STEM: [&str; 8] = ["AX", "CX", "DX", "BX", "SP", "BP", "SI", "DI"];
/// Segment registers by number.
pub(crate) const SEGS: [&str; 6] = ["ES", "CS", "SS", "DS", "FS", "GS"];
/// Flags as the bodies name them, with their bits (`ir::FlagMask`, DF = 64).
pub(crate) const FLAGS: [(&str, u8); 7] =
    [("cf", 1), ("pf", 2), ("af", 4), ("zf", 8), ("sf", 16), ("of", 32), ("df", 64)];

/// General form names that are not register names or literals; see [`vector_form`] for the others.
pub(crate) const FORM_NAMES: [&str; 46] = [
    "Eb", "Ew", "Ed", "Eq", "Ev", "Ey", "Gb", "Gw", "Gd", "Gv", "Gy", "Mb", "Mw", "Md", "Mq", "Mv",
    "M", "Mp", "Ma", "Ms", "Rw", "Rd", "Rv", "Ry", "Zb", "Zw", "Zv", "Ib", "Iw", "Id", "Iz", "Iv",
    "Ibu", "Iwu", "Jb", "Jz", "Ob", "Ov", "Ap", "Sw", "Cy", "Dy", "Xb", "Xw", "Xv", "Yb",
];
const MORE_FORMS: [&str; 13] =
    ["Ez", "My", "Yw", "Yv", "Xd", "Yd", "Zd", "Xz", "Yz", "Rq", "Xq", "Yq", "Gq"];

/// FP and vector forms: a letter and a size.
fn vector_form(name: &str) -> Option<Form> {
    if name == "XMM0" {
        return Some(Form::Xmm0);
    }
    let (letter, size) = name.split_at_checked(1)?;
    let size = match size {
        "b" => Sz::B,
        "w" => Sz::W,
        "d" => Sz::D,
        "q" => Sz::Q,
        "y" => Sz::Y,
        "t" => Sz::T,
        "dq" => Sz::Dq,
        "qq" => Sz::Qq,
        "x" => Sz::X,
        _ => return None,
    };
    Some(match letter {
        "V" => Form::V(size),
        "H" => Form::H(size),
        "W" => Form::W(size),
        "U" => Form::U(size),
        "L" => Form::L(size),
        "P" => Form::P(size),
        "Q" => Form::Q(size),
        "N" => Form::N(size),
        "B" if matches!(size, Sz::Y | Sz::D | Sz::Q) => Form::B(size),
        "M" if !size.is_scalar() => Form::M(size),
        _ => return None,
    })
}

/// Number of a segment register.
pub(crate) fn seg(name: &str) -> Option<u8> {
    SEGS.iter().position(|s| *s == name).map(|n| n as u8)
}

/// Register by name: `AL`, `AH`, `AX`, `EAX`, `RAX` fixed; `rAX` at operand size.
pub(crate) fn reg(name: &str) -> Option<(u8, ExprWidth)> {
    if let Some((_, n)) = REG8.iter().find(|(r, _)| *r == name) {
        return Some((*n, ExprWidth::Bits(8)));
    }
    if name == "R11" {
        return Some((11, ExprWidth::Bits(64)));
    }
    let stem = |s: &str| REG_STEM.iter().position(|r| *r == s).map(|n| n as u8);
    if let Some(n) = stem(name) {
        return Some((n, ExprWidth::Bits(16)));
    }
    let (letter, rest) = name.split_at_checked(1)?;
    let n = stem(rest)?;
    match letter {
        "E" => Some((n, ExprWidth::Bits(32))),
        "R" => Some((n, ExprWidth::Bits(64))),
        "r" => Some((n, ExprWidth::W)),
        _ => None,
    }
}

/// Operand form by name.
pub(crate) fn form(name: &str) -> Option<Form> {
    if let Some(n) = seg(name) {
        return Some(Form::Seg(n));
    }
    if let Some((n, width)) = reg(name) {
        let size = match width {
            ExprWidth::Bits(8) => Sz::B,
            ExprWidth::Bits(16) => Sz::W,
            ExprWidth::Bits(32) => Sz::D,
            ExprWidth::Bits(_) => Sz::Q,
            _ => Sz::V,
        };
        return Some(Form::Reg(n, size));
    }
    // 16 or 32 bits, never 64: the manual's letter of the port instructions.
    if let Some(stem) = name.strip_prefix('e')
        && let Some(n) = REG_STEM.iter().position(|r| *r == stem)
    {
        return Some(Form::Reg(n as u8, Sz::Z));
    }
    if !FORM_NAMES.contains(&name) && !MORE_FORMS.contains(&name) {
        return vector_form(name);
    }
    match name {
        "M" => return Some(Form::MAddr),
        "Mp" => return Some(Form::Mp),
        "Ma" => return Some(Form::Ma),
        "Ms" => return Some(Form::Ms),
        "Ap" => return Some(Form::Ap),
        "Sw" => return Some(Form::Sw),
        "Cy" => return Some(Form::C),
        "Dy" => return Some(Form::D),
        "Ibu" => return Some(Form::Iu(Sz::B)),
        "Iwu" => return Some(Form::Iu(Sz::W)),
        _ => {}
    }
    let (letter, size) = name.split_at_checked(1)?;
    let size = match size {
        "b" => Sz::B,
        "w" => Sz::W,
        "d" => Sz::D,
        "q" => Sz::Q,
        "v" => Sz::V,
        "z" => Sz::Z,
        "y" => Sz::Y,
        _ => return None,
    };
    Some(match letter {
        "E" => Form::E(size),
        "G" => Form::G(size),
        "M" => Form::M(size),
        "R" => Form::R(size),
        "Z" => Form::Z(size),
        "I" => Form::I(size),
        "J" => Form::J(size),
        "O" => Form::O(size),
        "X" => Form::X(size),
        "Y" => Form::Y(size),
        _ => return None,
    })
}

/// Names a form as the tables write it.
pub fn form_name(form: Form) -> String {
    let letter = |l: char, s: Sz| format!("{l}{}", size_letters(s));
    match form {
        Form::E(s) => letter('E', s),
        Form::G(s) => letter('G', s),
        Form::M(s) => letter('M', s),
        Form::MAddr => "M".into(),
        Form::Mp => "Mp".into(),
        Form::Ma => "Ma".into(),
        Form::Ms => "Ms".into(),
        Form::R(s) => letter('R', s),
        Form::Z(s) => letter('Z', s),
        Form::I(s) => letter('I', s),
        Form::Iu(s) => letter('I', s) + "u",
        Form::J(s) => letter('J', s),
        Form::O(s) => letter('O', s),
        Form::Ap => "Ap".into(),
        Form::Sw => "Sw".into(),
        Form::C => "Cy".into(),
        Form::D => "Dy".into(),
        Form::X(s) => letter('X', s),
        Form::Y(s) => letter('Y', s),
        Form::Reg(n, s) => reg_name(n, s),
        Form::Seg(n) => SEGS.get(usize::from(n)).copied().unwrap_or("?").into(),
        Form::Lit(v) => v.to_string(),
        Form::V(s) => letter('V', s),
        Form::H(s) => letter('H', s),
        Form::W(s) => letter('W', s),
        Form::U(s) => letter('U', s),
        Form::L(s) => letter('L', s),
        Form::P(s) => letter('P', s),
        Form::Q(s) => letter('Q', s),
        Form::N(s) => letter('N', s),
        Form::B(s) => letter('B', s),
        Form::Same => "H".into(),
        Form::St0 => "ST(0)".into(),
        Form::StI => "ST(i)".into(),
        Form::Xmm0 => "XMM0".into(),
    }
}

fn size_letters(size: Sz) -> &'static str {
    match size {
        Sz::B => "b",
        Sz::W => "w",
        Sz::D => "d",
        Sz::Q => "q",
        Sz::V => "v",
        Sz::Z => "z",
        Sz::Y => "y",
        Sz::T => "t",
        Sz::Dq => "dq",
        Sz::Qq => "qq",
        Sz::X => "x",
    }
}

/// Names a register at a size: `AL`, `EAX`, `rAX`.
pub(crate) fn reg_name(n: u8, size: Sz) -> String {
    let stem = REG_STEM.get(usize::from(n)).copied().unwrap_or("?");
    match size {
        Sz::B => REG8.iter().find(|(_, r)| *r == n).map_or("?", |(name, _)| *name).into(),
        Sz::W => stem.into(),
        Sz::D => format!("E{stem}"),
        Sz::Q => format!("R{stem}"),
        Sz::Z => format!("e{stem}"),
        Sz::V | Sz::Y | Sz::T | Sz::Dq | Sz::Qq | Sz::X => format!("r{stem}"),
    }
}
