//! The tables as Rust source: integer arrays, the rows' descriptions, and the constants both sides use.

use super::record::{self, BITS, Gate};
use super::tree::{FLAG, Kind, Tree};
use crate::rows;
use isa_spec::model::Isa;
use proc_macro2::{Literal, TokenStream};
use quote::{format_ident, quote};
use std::collections::BTreeSet;

/// All of the decoder's source.
pub(super) fn emit(isa: &Isa, tree: &Tree) -> Result<TokenStream, String> {
    let constants = constants();
    let (features, gates) = gates(isa, &tree.gates)?;
    let attributes = rows::attribute_bits(isa)?;
    let rows = rows::emit(isa, &attributes);
    let attribute_module = rows::emit_attributes(&attributes);
    let records = isa.rows.iter().map(record::bits).collect::<Result<Vec<u32>, String>>()?;
    let maps = array16("MAPS", "Entries of the four opcode maps.", tree.maps.iter().copied());
    let slots = array16("SLOTS", "Entries of the nodes.", tree.slots.iter().copied());
    let nodes = array32(
        "NODES",
        "Nodes: kind and base.",
        tree.nodes.iter().map(|(kind, base)| node_number(*kind) << 16 | u32::from(*base)),
    );
    let gates = array16("GATES", "Gates: generation and feature bit.", gates.into_iter());
    let records = array32("ROW_BITS", "Decode records of the rows.", records.into_iter());
    Ok(quote! { #constants #features #attribute_module #maps #nodes #slots #gates #records #rows })
}

/// The number of a node kind in the tables.
const fn node_number(kind: Kind) -> u32 {
    kind as u32
}

fn constants() -> TokenStream {
    let flag = Literal::u16_unsuffixed(FLAG);
    let kinds = [
        (Kind::Mode, "MODE"),
        (Kind::Prefix, "PREFIX"),
        (Kind::RexW, "REX_W"),
        (Kind::ModReg, "MODREG"),
        (Kind::Rm, "RM"),
    ];
    let names = kinds.iter().map(|(_, name)| format_ident!("{name}"));
    let numbers = kinds.iter().map(|(kind, _)| Literal::u32_unsuffixed(node_number(*kind)));
    let bit_names = BITS.iter().map(|(name, _, _)| format_ident!("{name}"));
    let bit_values = BITS.iter().map(|(_, value, _)| Literal::u32_unsuffixed(*value));
    let bit_docs = BITS.iter().map(|(_, _, doc)| doc);
    quote! {
        /// Entries and node kinds.
        pub(super) mod node {
            /// Marks an entry that names a node.
            pub(in super::super) const FLAG: u16 = #flag;
            #( #[doc = "Node kind."] pub(in super::super) const #names: u32 = #numbers; )*
        }
        /// Bits of `ROW_BITS`.
        #[allow(dead_code, reason = "one list for all tables")]
        pub(super) mod row_bit {
            #( #[doc = #bit_docs] pub(in super::super) const #bit_names: u32 = #bit_values; )*
        }
    }
}

/// The `feature` module, and the gates as numbers.
fn gates(isa: &Isa, gates: &[Gate]) -> Result<(TokenStream, Vec<u16>), String> {
    let mut names = BTreeSet::new();
    for row in &isa.rows {
        names.insert(record::gate(row)?.feature);
    }
    names.remove("");
    let names: Vec<String> = names.into_iter().collect();
    if names.len() > 64 {
        return Err(format!("{} CPUID features, but there is room for 64", names.len()));
    }
    let number =
        |feature: &str| names.iter().position(|name| name == feature).map_or(0xFF, |n| n as u16);
    let numbers =
        gates.iter().map(|gate| u16::from(gate.level) << 8 | number(&gate.feature)).collect();
    let idents = names.iter().map(|name| format_ident!("{}", name.to_uppercase()));
    let shifts = (0..names.len()).map(Literal::usize_unsuffixed);
    let docs = names.iter().map(|name| format!("`cpuid({name})`"));
    let module = quote! {
        /// CPUID features that gate rows.
        pub mod feature {
            #( #[doc = #docs] pub const #idents: u64 = 1 << #shifts; )*
            /// Their names, by bit number.
            pub const NAMES: &[&str] = &[#(#names),*];
        }
    };
    Ok((module, numbers))
}

fn array16(name: &str, doc: &str, values: impl ExactSizeIterator<Item = u16>) -> TokenStream {
    let (name, len) = (format_ident!("{name}"), values.len());
    let values = values.map(Literal::u16_unsuffixed);
    quote! { #[doc = #doc] pub(super) static #name: [u16; #len] = [#(#values),*]; }
}

fn array32(name: &str, doc: &str, values: impl ExactSizeIterator<Item = u32>) -> TokenStream {
    let (name, len) = (format_ident!("{name}"), values.len());
    let values = values.map(Literal::u32_unsuffixed);
    quote! { #[doc = #doc] pub(super) static #name: [u32; #len] = [#(#values),*]; }
}
