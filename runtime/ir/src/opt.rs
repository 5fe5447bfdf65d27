//! passes
#[derive(Default, Debug)]
pub(crate) struct PassScratch {}
