//! The tables of the decoder, generated from `isa-spec/x86` (see `codegen/core/src/decoder`).
//!
//! `ROWS` and the `attr` and `feature` bits are for everyone; the rest is read by the decoder only.

codegen::decoder!();
