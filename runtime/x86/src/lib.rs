//! The x86 guest: state, decoder and lowering (expanded from the tables), and the architecture's large
//! algorithms: segmentation, paging, interrupts, tasks.

pub mod access;
pub mod cpu;
pub mod cpuid;
mod debug;
pub mod decode;
pub mod disasm;
pub mod dump;
pub mod far;
pub mod fault;
pub mod flags;
mod fpu;
pub mod front;
pub mod guest;
pub mod helpers;
pub mod insn;
pub mod interrupt;
mod lines;
pub mod lower;
pub mod mode;
mod msr;
pub mod paging;
mod quick;
pub mod registers;
pub mod segment;
pub mod simd;
pub mod slow;
mod snapshot;
pub mod stack;
pub mod state;
pub mod strings;
mod syscall;
pub mod system;
pub mod task;
pub mod tlb;
mod vme;
pub mod watch;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
