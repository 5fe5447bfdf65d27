//! Sums of constants: a register that takes one after the other, with nobody to see what is in between, takes their sum at once. Pushes and
//! pops of a span do that to the stack pointer.

use super::register_of;
use crate::{Block, Code, Op, Scratch, Val, Width};

/// What a register was given last: `base` and a constant more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Given {
    /// The op that gave it.
    op: usize,
    base: Val,
    constant: u64,
    w: Width,
}

/// What a register's last op gave it, while nobody has looked.
type Last = [Option<Given>; 16];

/// Joins sums. The ops that become superfluous go.
pub(super) fn sums(block: &mut Block, scratch: &mut Scratch) {
    let mut last: Last = [None; 16];
    let gone = &mut scratch.pass.gone;
    super::reset(gone, block.ops.len());
    let mut any = false;
    for n in 0..block.ops.len() {
        let op = block.ops[n];
        if op.code.is_branch() || op.code == Code::Label || op.exposes_state() || op.is_implicit() {
            last = [None; 16];
            continue;
        }
        let given = given(block, n, &op);
        let before = given.and_then(|(r, given)| {
            let before = last[r].filter(|_| given.base == op.d)?;
            (before.w == given.w).then_some((r, given, before))
        });
        let Some((r, given, before)) = before else {
            op.for_each_source(|v, _| forget(&mut last, register_of(v)));
            note(&mut last, &op, given);
            continue;
        };
        let constant = before.constant.wrapping_add(given.constant) & given.w.mask();
        let b = block.constant(constant);
        let op = &mut block.ops[n];
        (op.code, op.a, op.b) = (Code::Add, before.base, b);
        gone[before.op] = true;
        any = true;
        last[r] = Some(Given { op: n, base: before.base, constant, w: given.w });
    }
    if any {
        let mut n = 0;
        block.ops.retain(|_| {
            n += 1;
            !gone[n - 1]
        });
    }
}

/// The register that an op gives a sum with a constant, or a copy.
fn given(block: &Block, n: usize, op: &Op) -> Option<(usize, Given)> {
    let r = usize::from(op.d.as_gpr()?);
    let is_base = |v: Val| v.as_gpr().is_some() || v.as_temp().is_some();
    if op.w < Width::W32 || !op.flags_asked().is_empty() || !is_base(op.a) {
        return None;
    }
    let constant = match op.code {
        Code::Mov => 0,
        Code::Add => block.const_of(op.b)?,
        Code::Sub => block.const_of(op.b)?.wrapping_neg(),
        _ => return None,
    };
    Some((r, Given { op: n, base: op.a, constant, w: op.w }))
}

fn forget(last: &mut Last, register: Option<usize>) {
    if let Some(slot) = register.and_then(|r| last.get_mut(r)) {
        *slot = None;
    }
}

/// What an op that looks at no such sum changes.
fn note(last: &mut Last, op: &Op, given: Option<(usize, Given)>) {
    op.for_each_result(|v, _| {
        let register = register_of(v);
        for slot in last.iter_mut() {
            let is_base = |given: &Given| {
                given.base == v || register.is_some() && register_of(given.base) == register
            };
            if slot.as_ref().is_some_and(is_base) {
                *slot = None;
            }
        }
        forget(last, register);
    });
    if let Some((r, given)) = given {
        last[r] = Some(given);
    }
}
