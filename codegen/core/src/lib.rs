//! The generators: the tables' model in, Rust source out.
//!
//! Pure and deterministic: the same tables give the same tokens. Everything is an ordinary library, so
//! that it is tested outside the compiler; crate `codegen` is the proc-macro shell around [`expand`].
//! No generator knows an instruction by its name: what is special about one stands in the tables.
#![forbid(unsafe_code)]

pub mod decoder;
pub mod disasm;
pub mod lowering;
pub mod rows;
mod track;

use isa_spec::model::Isa;
use proc_macro2::TokenStream;
use quote::quote;
use std::path::PathBuf;

/// Which source to generate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    /// Decode tables, rows, attribute bits.
    Decoder,
    /// Mnemonic templates.
    Disasm,
    /// Lowering functions and helpers.
    Lowering,
}

/// The folder of the tables: beside the crate that is being built, whose macro runs, as `track.rs` has it. Where this crate was built is
/// of no use: the checkout may have been moved since.
pub fn tables_dir() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR");
    let here = here.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    [here.as_os_str(), "../../isa-spec/x86".as_ref()].iter().collect()
}

/// Reads the tables and generates. Wrong tables become a `compile_error!` with every message, beside
/// tables without rows, so that the rest of the crate does not add errors of its own.
///
/// The result is text: tokens made here have no place in the caller's source, and re-parsing gives them one.
pub fn expand(output: Output) -> String {
    let folder = tables_dir();
    let loaded = isa_spec::load(&folder);
    // The loader goes back to the compiler's tokens; the two kinds do not mix.
    proc_macro2::fallback::force();
    let tracked = track::include_all(&folder);
    let generated = match loaded {
        Ok(isa) => generate(output, &isa),
        Err(errors) => Err(errors.to_string()),
    };
    let body = generated.unwrap_or_else(|message| {
        let message = format!("the tables are wrong\n{message}");
        let empty = generate(output, &Isa::default()).unwrap_or_default();
        quote! { ::core::compile_error!(#message); #empty }
    });
    quote! { #tracked #body }.to_string()
}

/// Generates from a model.
pub fn generate(output: Output, isa: &Isa) -> Result<TokenStream, String> {
    match output {
        Output::Decoder => decoder::generate(isa),
        Output::Disasm => disasm::generate(isa),
        Output::Lowering => lowering::generate(isa),
    }
}
