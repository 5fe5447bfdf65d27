//! Working memory of the evaluator and the passes, kept from block to block.

use crate::opt::PassScratch;

/// Reused vectors: after the first few blocks nothing here allocates any more. One per translating thread.
#[derive(Default, Debug)]
pub struct Scratch {
    /// Value of each temporary during evaluation.
    pub(crate) temps: Vec<u64>,
    /// Index of the op after each label.
    pub(crate) labels: Vec<u32>,
    /// What the passes keep.
    pub(crate) pass: PassScratch,
}

impl Scratch {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }
}
