//! The native oracle: one guest instruction on the host's own processor, the same on Stele, everything compared.
//!
//! A [`Case`](state::Case) is the bytes of an instruction and everything it may look at: registers, flags, segments, memory
//! operands. [`host`] runs it under signals at its true linear address, in 64-, 32- or 16-bit code; [`guest`] runs
//! it on an engine of ours, with paging, descriptors and rights alike; [`compare`] tells the two apart. [`cases`] makes
//! cases from the tables, so that a new row is covered by being there. What cannot be compared, and what
//! the manuals leave open, is written in [`ledger`] and nowhere else.

pub mod cases;
pub mod compare;
pub mod guest;
pub mod host;
pub mod layout;
pub mod ledger;
pub mod report;
pub mod run;
mod scan;
pub mod state;
mod values;
mod view;
