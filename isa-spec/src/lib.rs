//! The spec language and the tables: parser, typed model and checks.
//!
//! Everything the project knows about an instruction stands in `x86/*.isa`; LANGUAGE.md beside this
//! crate's manifest is the language's reference.
#![forbid(unsafe_code)]

pub mod model;
