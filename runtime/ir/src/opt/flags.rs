//! Flag liveness: which flags each op must really make.
//!
//! One walk backward. Two sets travel: `live`, flags some later op reads or that can be observed, and
//! `exposed`, those that can be observed (a fault, a helper, the block's end) before they are overwritten.
//! A producer's `fdef` shrinks to the live part of what it was asked for, `flive` becomes the exposed set
//! behind it. An op that may leave a flag as it was (`Op::flags_kept`) does not end that flag's life.
//! Forward branches are exact: the label's sets are known when the branch is met. Behind a backward branch
//! everything counts as live.

use super::LiveAtExit;
use crate::{Block, Code, FlagMask, Op, Scratch};

/// The two sets at one point.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct State {
    live: FlagMask,
    exposed: FlagMask,
}

impl Default for State {
    fn default() -> Self {
        Self::ALL
    }
}

impl State {
    const ALL: Self = Self { live: FlagMask::ALL, exposed: FlagMask::ALL };

    fn join(self, other: Self) -> Self {
        Self { live: self.live.or(other.live), exposed: self.exposed.or(other.exposed) }
    }
    fn reading(self, flags: FlagMask) -> Self {
        Self { live: self.live.or(flags), ..self }
    }
}

/// What an op is to this pass.
#[derive(Clone, Copy)]
enum Kind {
    Neutral,
    Reads,
    Produces,
    Exposes,
    Label,
    Branch,
    Jump,
    GotoTb,
    Native,
}

const KINDS: [Kind; Code::ALL.len()] = {
    let mut kinds = [Kind::Neutral; Code::ALL.len()];
    let mut n = 0;
    while n < kinds.len() {
        let code = Code::ALL[n];
        kinds[n] = match code {
            Code::Label => Kind::Label,
            Code::Br => Kind::Jump,
            Code::Brcond | Code::Jccf => Kind::Branch,
            Code::GotoTb => Kind::GotoTb,
            Code::Native => Kind::Native,
            Code::Setccf | Code::Cmovf | Code::Getf => Kind::Reads,
            _ if code.exposes_state() => Kind::Exposes,
            _ if !code.can_define().is_empty() => Kind::Produces,
            _ => Kind::Neutral,
        };
        n += 1;
    }
    kinds
};

/// Narrows `fdef`, sets `flive`, and leaves the flags live after each op in `Scratch::flags_after`.
/// `at_exit` are the flags live in the successors of the `goto_tb` slots; a backward one polls for
/// interrupts, so there all are.
pub fn flag_liveness(block: &mut Block, scratch: &mut Scratch, at_exit: LiveAtExit) {
    let Block { ops, pool, labels, .. } = block;
    let pass = &mut scratch.pass;
    super::reset(&mut pass.labels, *labels as usize);
    pass.flags_after.clear();
    pass.flags_after.resize(ops.len(), FlagMask::NONE);
    pass.flags_are_current = true;
    let mut state = State::ALL;
    for (op, after) in ops.iter_mut().zip(&mut pass.flags_after).rev() {
        *after = state.live;
        state = match KINDS[op.code as usize] {
            Kind::Neutral => continue,
            Kind::Produces => produce(op, pool, state),
            Kind::Reads => state.reading(op.flags_read()),
            Kind::Exposes => State::ALL,
            // What it traps on it raises before it writes flags.
            Kind::Native => match (produce(op, pool, state), op.exposes_state()) {
                (_, true) => State::ALL,
                (state, false) => state,
            },
            Kind::GotoTb => exit(op, at_exit),
            Kind::Label => {
                if let Some(label) = pass.labels.get_mut(op.imm as usize) {
                    *label = state;
                }
                continue;
            }
            Kind::Jump => target(&pass.labels, op),
            Kind::Branch => state.join(target(&pass.labels, op)).reading(op.flags_read()),
        };
    }
}

fn produce(op: &mut Op, pool: &[u64], after: State) -> State {
    let asked = op.flags_asked();
    let needed = FlagMask(asked.0 & after.live.0);
    op.fdef = needed;
    op.flive = if needed.is_empty() { FlagMask::NONE } else { after.exposed };
    if op.code == Code::Putf {
        op.x = needed.0;
    }
    let ended = if asked.is_empty() { asked } else { asked.minus(op.flags_kept(pool)) };
    State { live: after.live.minus(ended), exposed: after.exposed.minus(ended) }
        .reading(op.flags_read())
}

fn exit(op: &Op, at_exit: LiveAtExit) -> State {
    let live = match op.y {
        0 => at_exit.get(usize::from(op.x)).copied().unwrap_or(FlagMask::ALL),
        _ => FlagMask::ALL,
    };
    State { live, exposed: live }
}

/// The label's state; a label not met yet lies behind a backward branch and still has the default, all.
fn target(labels: &[State], op: &Op) -> State {
    labels.get(op.imm as usize).copied().unwrap_or(State::ALL)
}
