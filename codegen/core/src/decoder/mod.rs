//! Decode tables from the rows: opcode maps (four legacy, three of VEX) of dense entries, refined by small nodes.
//!
//! An entry is a `u16`: 0 = undefined, n = row n - 1, or `node::FLAG` with the index of a node. A node
//! is `kind << 16 | base`: the kind says which property of the bytes selects one of the entries from
//! `SLOTS[base]` on. Equal nodes are shared. Dense arrays decode in a few loads and compile in no time.

mod emit;
mod features;
mod record;
mod tree;

use isa_spec::model::Isa;
use proc_macro2::TokenStream;

/// The decoder's tables as source.
pub fn generate(isa: &Isa) -> Result<TokenStream, String> {
    let tree = tree::Tree::build(isa)?;
    emit::emit(isa, &tree)
}

#[cfg(test)]
mod tests;
