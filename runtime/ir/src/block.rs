//! A block: the ops of one translated unit and its constant pool.

use crate::{Native, Op, Unit, Val, Width};

/// Ops in program order with their constants. Reused between translations: `clear` keeps the memory.
#[derive(Default, Clone, Debug)]
pub struct Block {
    /// The ops.
    pub ops: Vec<Op>,
    /// The constant pool, 64-bit entries.
    pub pool: Vec<u64>,
    /// Width of each temporary, by number.
    pub temps: Vec<Width>,
    /// Number of labels used.
    pub labels: u32,
    /// Native instructions, by the number in a `Native` op.
    pub natives: Vec<Native>,
    /// The insns it consists of, in order. None if that is not known, or no longer true.
    pub units: Vec<Unit>,
}

impl Block {
    /// Empties it.
    pub fn clear(&mut self) {
        self.ops.clear();
        self.pool.clear();
        self.temps.clear();
        self.labels = 0;
        self.natives.clear();
        self.units.clear();
    }
    /// A constant; equal values share an entry.
    #[inline]
    pub fn constant(&mut self, value: u64) -> Val {
        let n = self.pool.iter().position(|&v| v == value).unwrap_or_else(|| {
            self.pool.push(value);
            self.pool.len() - 1
        });
        Val::pool(n as u16)
    }
    /// A new temporary of width `w`.
    #[inline]
    pub fn temp(&mut self, w: Width) -> Val {
        self.temps.push(w);
        Val::temp((self.temps.len() - 1) as u16)
    }
    /// A new label number.
    #[inline]
    pub fn label(&mut self) -> u32 {
        self.labels += 1;
        self.labels - 1
    }
    /// The native instruction of a `Native` op.
    #[inline]
    pub fn native_of(&self, op: &Op) -> Option<&Native> {
        self.natives.get(op.imm as usize)
    }
    /// The value of a constant operand.
    #[inline]
    pub fn const_of(&self, v: Val) -> Option<u64> {
        v.as_pool().and_then(|n| self.pool.get(usize::from(n)).copied())
    }
    /// Appends an op and returns its result operand.
    #[inline]
    pub fn push(&mut self, op: Op) -> Val {
        self.ops.push(op);
        op.d
    }
}
