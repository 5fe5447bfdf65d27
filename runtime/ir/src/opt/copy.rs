//! copy
use crate::{Block, Scratch};
#[derive(Default, Clone, Debug)]
pub(super) struct Copied;
#[derive(Default, Clone, Debug)]
pub(super) struct Definition;
/// copies
pub fn copies(_: &mut Block, _: &mut Scratch) {}
