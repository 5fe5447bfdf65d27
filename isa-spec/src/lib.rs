//! The spec language and the tables: parser, typed model and checks.
//!
//! Everything the project knows about an instruction stands in `x86/*.isa`; LANGUAGE.md beside this
//! crate's manifest is the language's reference.
#![forbid(unsafe_code)]

pub mod boxes;
pub mod builtins;
pub mod check;
pub mod coverage;
pub mod encode;
pub mod error;
mod locate;
pub mod model;
mod parse;
pub mod reach;
mod width;

pub use coverage::{find_rows, show};
pub use error::{Diag, Errors};
pub use locate::{Located, locate, locate_of};
pub use parse::form::form_name;
pub use parse::{load, load_unchecked, parse_files};
