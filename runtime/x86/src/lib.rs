//! The x86 guest: state, decoder and lowering (expanded from the tables), and the architecture's large
//! algorithms: segmentation, paging, interrupts, tasks.

pub mod decode;
pub mod disasm;
pub mod insn;
pub mod mode;
pub mod state;
