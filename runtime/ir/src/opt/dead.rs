//! Dead code: ops whose results nothing reads.
//!
//! One walk forward counts uses of temporaries, one walk backward removes. A temporary's value is
//! dead if nothing in the block reads it or the same straight-line stretch overwrites it first; a guest
//! register's only if it is overwritten whole before any read and before any point where the guest's state
//! can be observed. An op that is still wanted for its flags loses its result instead (`sub` becomes a
//! compare).

use super::{count_uses, drop_use, register_of, replaces_register};
use crate::{Block, Code, Op, Role, Scratch, Val, Width};

/// Removes dead ops and moves to self. Flag requests count as wanted: run `flag_liveness` first.
pub fn dead_code(block: &mut Block, scratch: &mut Scratch) {
    if !scratch.pass.uses_are_current {
        count_uses(block, scratch);
    }
    scratch.pass.uses_are_current = false;
    let pass = &mut scratch.pass;
    super::reset(&mut pass.overwritten, block.temps.len());
    let keeps_after = pass.flags_after.len() == block.ops.len();
    let mut walk = Walk {
        uses: &mut pass.uses,
        overwritten: &mut pass.overwritten,
        region: 1,
        dead_registers: 0,
        removed_flag_reader: false,
    };
    let mut kept = block.ops.len();
    for n in (0..block.ops.len()).rev() {
        let mut op = block.ops[n];
        if walk.removes(&mut op) {
            continue;
        }
        kept -= 1;
        block.ops[kept] = op;
        if keeps_after && kept != n {
            pass.flags_after[kept] = pass.flags_after[n];
        }
    }
    let changes_flags = walk.removed_flag_reader;
    if kept > 0 {
        block.ops.drain(..kept);
        if keeps_after {
            pass.flags_after.drain(..kept);
        }
    }
    pass.flags_are_current &= keeps_after && !changes_flags;
}

struct Walk<'a> {
    uses: &'a mut [u16],
    /// Region in which an op further on overwrites the temporary before any read.
    overwritten: &'a mut [u32],
    /// Counts straight-line stretches, from 1.
    region: u32,
    /// Registers overwritten whole further on, before any read or observation.
    dead_registers: u16,
    removed_flag_reader: bool,
}

impl Walk<'_> {
    /// Decides about one op, last to first; may take a dead result away from an op that stays.
    fn removes(&mut self, op: &mut Op) -> bool {
        if (op.code.is_pure() || op.code == Code::Putf) && self.drops(op) {
            self.forget(op);
            return true;
        }
        self.keep(op);
        false
    }

    /// Is nothing the op makes wanted? Takes dead results away on the way.
    fn drops(&mut self, op: &mut Op) -> bool {
        if op.code == Code::Mov && op.d == op.a && !(op.w == Width::W32 && op.d.as_gpr().is_some())
        {
            return true;
        }
        let shape = op.code.shape();
        let d_wanted = self.is_wanted(op.d);
        let e_wanted = op.second_result().is_some_and(|e| self.is_wanted(e));
        if !d_wanted && !e_wanted && op.flags_asked().is_empty() {
            return true;
        }
        if !d_wanted && shape.d == Role::Opt {
            op.d = Val::NONE;
        }
        if !e_wanted && shape.e_is_result {
            op.e = Val::NONE;
        }
        false
    }

    fn is_wanted(&self, v: Val) -> bool {
        if let Some(t) = v.as_temp() {
            let t = usize::from(t);
            self.uses.get(t) != Some(&0) && self.overwritten.get(t) != Some(&self.region)
        } else {
            register_of(v).is_some_and(|r| self.dead_registers >> r & 1 == 0)
        }
    }

    fn forget(&mut self, op: &Op) {
        op.for_each_source(|v, _| {
            if let Some(t) = v.as_temp() {
                drop_use(self.uses, t.into());
            }
        });
        self.removed_flag_reader |= !op.flags_read().is_empty();
    }

    /// Accounts for an op that stays, backward: first what it overwrites, then where it may leave to, then
    /// what it reads. A load that faults has not written its register.
    fn keep(&mut self, op: &Op) {
        op.for_each_result(|v, w| {
            if let Some(t) = v.as_temp() {
                if let Some(slot) = self.overwritten.get_mut(usize::from(t)) {
                    *slot = self.region;
                }
            } else if replaces_register(v, w) {
                self.dead_registers |= register_of(v).map_or(0, |r| 1 << r);
            }
        });
        if op.code.is_branch() || op.code == Code::Label {
            self.region += 1;
            self.dead_registers = 0;
        } else if op.exposes_state() || op.is_implicit() {
            self.dead_registers = 0;
        }
        op.for_each_source(|v, _| {
            if let Some(t) = v.as_temp() {
                if let Some(slot) = self.overwritten.get_mut(usize::from(t)) {
                    *slot = 0;
                }
            } else if let Some(r) = register_of(v) {
                self.dead_registers &= !(1 << r);
            }
        });
    }
}
