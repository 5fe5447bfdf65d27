//! Widths of operand forms and rows: what `W` means in a body.

use crate::model::{Form, Row, Sz};

impl Sz {
    /// Bits at operand size `osz`.
    pub fn bits(self, osz: u32) -> u32 {
        match self {
            Sz::B => 8,
            Sz::W => 16,
            Sz::D => 32,
            Sz::Q => 64,
            Sz::V => osz,
            Sz::Z => osz.min(32),
            Sz::Y => osz.max(32),
            Sz::T => 80,
            Sz::Dq | Sz::X => 128,
            Sz::Qq => 256,
        }
    }

    /// Is it a width that bodies calculate with?
    pub fn is_scalar(self) -> bool {
        !matches!(self, Sz::T | Sz::Dq | Sz::Qq | Sz::X)
    }

    /// Does the width follow the operand size?
    pub fn follows_operand_size(self) -> bool {
        matches!(self, Sz::V | Sz::Z)
    }
}

impl Form {
    /// Width of the operand when it is a register or memory form with a size; `None` for
    /// immediates, jumps, addresses, segment and system registers and literals.
    pub fn width(self, osz: u32) -> Option<u32> {
        self.size().filter(|s| s.is_scalar()).map(|s| s.bits(osz))
    }

    /// Size letter of a register or memory form.
    pub fn size(self) -> Option<Sz> {
        match self {
            Form::E(s) | Form::G(s) | Form::M(s) | Form::R(s) | Form::Z(s) | Form::O(s) => Some(s),
            Form::X(s) | Form::Y(s) | Form::Reg(_, s) | Form::B(s) => Some(s),
            Form::V(_) | Form::H(_) | Form::W(_) | Form::U(_) | Form::L(_) | Form::Same => None,
            Form::P(_) | Form::Q(_) | Form::N(_) | Form::St0 | Form::StI | Form::Xmm0 => None,
            Form::MAddr | Form::Mp | Form::Ma | Form::Ms | Form::I(_) | Form::Iu(_) => None,
            Form::J(_) | Form::Ap | Form::Sw | Form::C | Form::D | Form::Seg(_) | Form::Lit(_) => {
                None
            }
        }
    }

    /// Can the operand be memory?
    pub fn may_be_memory(self) -> bool {
        self.is_memory_only() || matches!(self, Form::E(_) | Form::W(_) | Form::Q(_))
    }

    /// Is the operand memory in every encoding?
    pub fn is_memory_only(self) -> bool {
        let image = matches!(self, Form::MAddr | Form::Mp | Form::Ma | Form::Ms);
        image || matches!(self, Form::M(_) | Form::O(_) | Form::X(_) | Form::Y(_))
    }

    /// Does the operand come from ModRM.rm?
    pub fn uses_rm(self) -> bool {
        let image = matches!(self, Form::MAddr | Form::Mp | Form::Ma | Form::Ms);
        image || self.is_register_or_memory() || self.is_rm_register() || matches!(self, Form::M(_))
    }

    /// Is it ModRM.rm, register or memory?
    pub fn is_register_or_memory(self) -> bool {
        matches!(self, Form::E(_) | Form::W(_) | Form::Q(_))
    }

    /// Is it ModRM.rm, register only?
    pub fn is_rm_register(self) -> bool {
        matches!(self, Form::R(_) | Form::U(_) | Form::N(_))
    }

    /// Does the operand come from ModRM.reg?
    pub fn uses_reg(self) -> bool {
        let general = matches!(self, Form::G(_) | Form::Sw | Form::C | Form::D);
        general || matches!(self, Form::V(_) | Form::P(_))
    }

    /// Does the operand come from VEX.vvvv?
    pub fn uses_vvvv(self) -> bool {
        matches!(self, Form::H(_) | Form::B(_))
    }

    /// Is it a vector register (or memory in its place)?
    pub fn is_vector(self) -> bool {
        matches!(self, Form::V(_) | Form::H(_) | Form::W(_) | Form::U(_) | Form::L(_) | Form::Xmm0)
    }

    /// Size letter of any form that has one.
    pub fn any_size(self) -> Option<Sz> {
        match self {
            Form::V(s) | Form::H(s) | Form::W(s) | Form::U(s) | Form::L(s) => Some(s),
            Form::P(s) | Form::Q(s) | Form::N(s) | Form::I(s) | Form::Iu(s) | Form::J(s) => Some(s),
            other => other.size(),
        }
    }

    /// The same form at another size.
    #[must_use]
    pub fn resized(self, size: Sz) -> Form {
        match self {
            Form::V(_) => Form::V(size),
            Form::H(_) => Form::H(size),
            Form::W(_) => Form::W(size),
            Form::U(_) => Form::U(size),
            Form::L(_) => Form::L(size),
            Form::P(_) => Form::P(size),
            Form::Q(_) => Form::Q(size),
            Form::N(_) => Form::N(size),
            Form::M(_) => Form::M(size),
            other => other,
        }
    }
}

impl Row {
    /// `W` of the row's body at operand size `osz`: the width of the first operand that is a
    /// register or memory form with a size, else the operand size. `with` operands do not count.
    pub fn width(&self, osz: u32) -> u32 {
        self.forms.iter().find_map(|f| f.width(osz)).unwrap_or(osz)
    }

    /// Does `W`, or any operand, follow the operand size?
    pub fn follows_operand_size(&self) -> bool {
        let own = self.forms.iter().chain(self.attrs.with.iter().map(|(_, f)| f));
        let sized: Vec<Sz> = own.filter_map(|f| f.size()).collect();
        sized.is_empty() || sized.iter().any(|s| s.follows_operand_size())
    }
}
