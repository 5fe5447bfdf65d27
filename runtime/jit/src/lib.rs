//! The JIT: compiles an IR block to x86-64 host code in one pass.
//!
//! It knows no guest instruction: it sees the IR, a state-layout table ([`StateLayout`]) and two entry points
//! of the runtime ([`Calls`]). Guest registers sit in host registers through all chained code ([`abi`]); the guest's arithmetic
//! flags are the host's flags from producer to consumer; guest memory goes through a software TLB whose base is pinned.

pub mod abi;
mod alu;
mod asked;
mod asm;
mod bulk;
mod code_buf;
mod code_stores;
mod compile;
mod compiler;
mod control;
mod flags;
mod homes;
mod jit;
mod layout;
mod mem_thunk;
mod memory;
mod muldiv;
mod native;
mod recipe;
mod regs;
mod runner;
mod shelf;
mod shift;
mod signal;
mod simd;
mod steps;
mod thunks;
mod trampoline;

pub use code_buf::{CodeBuf, CodeBufError};
pub use compile::{CompileError, Compiled, Exit, Far, InsnMark, Request, Tier};
pub use compiler::{Compiler, Piece};
pub use jit::Jit;
pub use layout::{Calls, CodeLines, SegPolicy, StateLayout, WindowLayout};
pub use memory::{SlowKind, meta_is_aligned, meta_kind, meta_seg, meta_size};
pub use runner::Runner;
