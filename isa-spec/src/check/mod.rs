//! Checks of the whole table.

use crate::error::{Errors, Sink};
use crate::model::Isa;

/// Checks the tables.
pub fn check(isa: &Isa) -> Result<(), Errors> {
    check_in("", isa)
}

/// Checks the tables; `folder` is shown before file names.
pub(crate) fn check_in(folder: &str, isa: &Isa) -> Result<(), Errors> {
    Sink::default().finish(folder, &isa.files)
}
