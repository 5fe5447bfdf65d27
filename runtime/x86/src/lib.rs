//! The x86 guest: state, decoder and lowering (expanded from the tables), and the architecture's large
//! algorithms: segmentation, paging, interrupts, tasks.

pub mod insn;
pub mod state;
