//! Values of an insn: nodes of a small graph, folded and shared while it is built, emitted on demand.

use super::Lower;
use ir::{Code, Val, Width};

/// No node.
pub(super) const NO: u16 = u16::MAX;

/// A value in a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum V {
    /// A number without a width of its own: literals, immediates, widths.
    Num(u64),
    /// A node.
    Node(u16),
}

impl Default for V {
    fn default() -> Self {
        Self::Num(0)
    }
}

impl V {
    /// A width as a number.
    pub(crate) fn bits_of(w: Width) -> Self {
        Self::Num(u64::from(w.bits()))
    }
}

/// What a node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// `imm`.
    Const,
    /// General register number `imm` at entry.
    Gpr,
    /// High byte register `imm` at entry.
    High,
    /// An op of this code on `args`.
    Op(Code),
    /// Second result of `args[0]`.
    Second,
    /// The low bits of `args[0]`.
    Trunc,
    /// Instruction pointer at page offset `imm` (signed).
    Pc,
    /// State field at offset `imm`.
    Env,
    /// What stands at host address `imm`, in the insn's own code.
    Code,
    /// Guest memory at offset `args[0]` of segment `x`; address width in `imm & 0xff`, operand + 1 in `imm >> 8`.
    Load,
    /// Result of a helper call.
    Call,
}

/// A node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// Width of the value.
    pub(super) w: Width,
    /// Width of the op (differs for comparisons).
    pub(super) ow: Width,
    /// `Op::x`.
    pub(super) x: u8,
    /// May be cut to a smaller width silently (instruction pointers, selects between literals).
    pub(super) adapts: bool,
    /// Has a `Second` node.
    pub(super) has_second: bool,
    /// Rests on the value of a flag op of `cc` (known from the commits on).
    pub(super) rests_on_cc: bool,
    /// Rests on flags at entry, other than through a flag op (known from the commits on).
    pub(super) rests_on_flags: bool,
    pub(super) imm: u64,
    pub(super) args: [u16; 4],
    /// Where the value is, once emitted.
    pub(super) val: Val,
    /// Second result, once emitted.
    pub(super) second: Val,
}

impl Node {
    pub(super) const fn new(kind: Kind, w: Width) -> Self {
        Self {
            kind,
            w,
            ow: w,
            x: 0,
            adapts: false,
            has_second: false,
            rests_on_cc: false,
            rests_on_flags: false,
            imm: 0,
            args: [NO; 4],
            val: Val::NONE,
            second: Val::NONE,
        }
    }

    fn same(&self, other: &Self) -> bool {
        self.kind == other.kind
            && self.w == other.w
            && self.ow == other.ow
            && self.x == other.x
            && self.imm == other.imm
            && self.args == other.args
    }

    /// Does emitting it read the flags as they are at entry?
    pub(super) fn reads_flags(&self) -> bool {
        match self.kind {
            Kind::Op(code) => {
                matches!(code, Code::Setccf | Code::Cmovf) || !code.always_reads().is_empty()
            }
            _ => false,
        }
    }
}

impl Lower<'_> {
    /// Adds a node, or gives the equal one that is there.
    pub(super) fn node(&mut self, node: Node) -> u16 {
        let is_shared = !matches!(node.kind, Kind::Load | Kind::Call);
        if is_shared && let Some(n) = self.work.nodes.iter().position(|other| other.same(&node)) {
            return n as u16; // a body has few nodes
        }
        self.work.nodes.push(node);
        (self.work.nodes.len() - 1) as u16
    }

    pub(super) fn at_node(&self, n: u16) -> &Node {
        &self.work.nodes[usize::from(n)]
    }

    pub(super) fn const_node(&mut self, value: u64, w: Width) -> u16 {
        let mut node = Node::new(Kind::Const, w);
        node.imm = value & w.mask();
        self.node(node)
    }

    /// The value of a constant node.
    pub(super) fn const_of(&self, n: u16) -> Option<u64> {
        let node = self.at_node(n);
        (node.kind == Kind::Const).then_some(node.imm)
    }

    /// A general register at entry.
    pub(super) fn gpr_node(&mut self, num: u8, w: Width) -> u16 {
        let mut node = Node::new(Kind::Gpr, w);
        node.imm = u64::from(num);
        self.node(node)
    }

    /// A high byte register at entry.
    pub(super) fn high_node(&mut self, num: u8) -> u16 {
        let mut node = Node::new(Kind::High, Width::W8);
        node.imm = u64::from(num);
        self.node(node)
    }

    /// A state field.
    pub(super) fn env_node(&mut self, offset: usize, w: Width) -> u16 {
        let mut node = Node::new(Kind::Env, w);
        node.imm = offset as u64;
        self.node(node)
    }

    /// An op on nodes, shared but not folded.
    pub(super) fn op_node(&mut self, code: Code, w: Width, args: &[u16]) -> u16 {
        let mut node = Node::new(Kind::Op(code), w);
        node.args[..args.len()].copy_from_slice(args);
        self.node(node)
    }

    /// The width both values have; `None` when both are plain numbers.
    pub(super) fn common(&self, a: V, b: V) -> Option<Width> {
        match (a, b) {
            (V::Num(_), V::Num(_)) => None,
            (V::Node(n), V::Num(_)) | (V::Num(_), V::Node(n)) => Some(self.at_node(n).w),
            (V::Node(x), V::Node(y)) => {
                let (x, y) = (self.at_node(x), self.at_node(y));
                Some(if x.adapts { y.w } else { x.w })
            }
        }
    }

    /// The value as a node of width `w`.
    pub(super) fn fit(&mut self, v: V, w: Width) -> u16 {
        match v {
            V::Num(value) => self.const_node(value, w),
            V::Node(n) => {
                let node = *self.at_node(n);
                if node.w == w {
                    return n;
                }
                if !node.adapts {
                    self.mismatches += 1;
                }
                self.resize(n, w)
            }
        }
    }

    /// The value as a node of its own width; a number takes `w`.
    pub(super) fn as_node(&mut self, v: V, w: Width) -> u16 {
        match v {
            V::Num(value) => self.const_node(value, w),
            V::Node(n) => n,
        }
    }

    /// Cuts or zero-extends a node.
    pub(super) fn resize(&mut self, n: u16, w: Width) -> u16 {
        if w < self.at_node(n).w { self.cut(n, w) } else { self.extend(n, w, Code::Extu) }
    }

    /// The low bits of a node.
    pub(super) fn cut(&mut self, n: u16, w: Width) -> u16 {
        let node = *self.at_node(n);
        match node.kind {
            _ if node.w <= w => n,
            Kind::Const => self.const_node(node.imm, w),
            Kind::Gpr => self.gpr_node(node.imm as u8, w),
            Kind::Trunc => self.cut(node.args[0], w),
            Kind::Op(Code::Extu | Code::Exts) if self.at_node(node.args[0]).w >= w => {
                self.cut(node.args[0], w)
            }
            _ => {
                let mut cut = Node::new(Kind::Trunc, w);
                cut.args[0] = n;
                self.node(cut)
            }
        }
    }

    /// Zero- or sign-extends (`Extu`, `Exts`) a node to `w`.
    pub(super) fn extend(&mut self, n: u16, w: Width, code: Code) -> u16 {
        let node = *self.at_node(n);
        if node.w >= w {
            return n;
        }
        if node.kind == Kind::Const {
            let value = if code == Code::Exts { sign_extend(node.imm, node.w) } else { node.imm };
            return self.const_node(value, w);
        }
        // A zero-extended value extends by zeros in either way, from its source.
        if node.kind == Kind::Op(Code::Extu) {
            return self.extend(node.args[0], w, Code::Extu);
        }
        let mut extended = Node::new(Kind::Op(code), w);
        extended.args[0] = n;
        extended.x = node.w as u8;
        self.node(extended)
    }
}

/// The low `w` bits of `value`, sign-extended to 64.
pub(super) fn sign_extend(value: u64, w: Width) -> u64 {
    let shift = 64 - w.bits();
    ((value << shift).cast_signed() >> shift).cast_unsigned()
}
