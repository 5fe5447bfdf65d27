//! The tables as Rust source: integer arrays, the rows' descriptions, and the constants both sides use.

use super::features;
use super::record::{self, BITS, Gate};
use super::tree::{FLAG, Kind, Tree};
use crate::rows;
use isa_spec::model::Isa;
use proc_macro2::{Literal, TokenStream};
use quote::{format_ident, quote};

/// All of the decoder's source.
pub(super) fn emit(isa: &Isa, tree: &Tree) -> Result<TokenStream, String> {
    let constants = constants();
    let features = features::emit(isa)?;
    let gates = gate_numbers(isa, &tree.gates)?;
    let attributes = rows::attribute_bits(isa)?;
    let rows = rows::emit(isa, &attributes);
    let attribute_module = rows::emit_attributes(&attributes);
    let records = isa.rows.iter().map(record::bits).collect::<Result<Vec<u32>, String>>()?;
    let maps = array16(
        "MAPS",
        "Entries of the opcode maps: four legacy ones, three of VEX.",
        tree.maps.iter().copied(),
    );
    let slots = array16("SLOTS", "Entries of the nodes.", tree.slots.iter().copied());
    let nodes = array32(
        "NODES",
        "Nodes: kind and base.",
        tree.nodes.iter().map(|(kind, base)| node_number(*kind) << 16 | u32::from(*base)),
    );
    let gates =
        array32("GATES", "Gates: maker, generation and two feature bits.", gates.into_iter());
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
        (Kind::VexL, "VEX_L"),
        (Kind::Prefix, "PREFIX"),
        (Kind::RexW, "REX_W"),
        (Kind::RexB, "REX_B"),
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

/// The gates as numbers: maker, generation, then two features, 0xFF = none.
fn gate_numbers(isa: &Isa, gates: &[Gate]) -> Result<Vec<u32>, String> {
    let names = features::names(isa);
    let number = |gate: &Gate, i: usize| match gate.features.get(i) {
        None => 0xFF,
        Some(feature) => names.iter().position(|n| n == feature).map_or(0xFF, |n| n as u32),
    };
    let one = |gate: &Gate| {
        u32::from_be_bytes([gate.maker, gate.level, 0, 0]) | number(gate, 1) << 8 | number(gate, 0)
    };
    match gates.iter().find(|gate| gate.features.len() > 2) {
        Some(gate) => Err(format!("`cpuid({})`: at most two", gate.features.join(", "))),
        None => Ok(gates.iter().map(one).collect()),
    }
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
