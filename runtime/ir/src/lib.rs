//! The intermediate representation: TCG-style ops between the guest's tables and the host's code.
//!
//! Names and text form are TCG's where TCG has the op (`add_i32`, `brcond_i32`, `goto_tb` …). Added,
//! because host and guest are the same architecture: ops that define the guest's arithmetic flags
//! (`f` before the width: `addf_i32`), ops that consume them (`jccf`, `setccf`, `cmovf`, `adcf`), guest memory
//! through a checked pointer (`guest_ptr`), and sub-register operands (`al`, `ah`, `ax`).
//!
//! This crate knows no guest instruction and no host encoding.
#![forbid(unsafe_code)]

mod block;
mod cond;
mod eval;
mod native;
mod op;
pub mod opt;
mod scratch;
mod shape;
pub mod text;
pub mod unit;
mod verify;

pub use block::Block;
pub use cond::{Cond, FlagMask};
pub use eval::{Alu, End, Guest, Undefined, alu, compare, run};
pub use native::{Native, NativeIo, NativeReg, NativeRunner, NativeState, NativeTrap, simd};
pub use op::{AccessKind, Code, Op, SIDE_SLOT, SPAN_SLOT, Val, Width, exit};
pub use scratch::Scratch;
pub use shape::{Role, Shape};
pub use unit::Unit;
pub use verify::{VerifyError, verify};
