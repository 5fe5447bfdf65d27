//! Change tracking: the expansion includes every table file, so that an edit rebuilds.
//!
//! The paths are relative to the crate that expands the macro (`runtime/x86`), which keeps host paths out
//! of the build. Files are taken from the folder, not from the parsed model: wrong tables must be tracked too.

use proc_macro2::TokenStream;
use quote::quote;
use std::path::Path;

/// `const _: &[u8] = include_bytes!(…)` for every `.isa` file of the folder, by name.
pub(crate) fn include_all(folder: &Path) -> TokenStream {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.ends_with(".isa"))
        .collect();
    names.sort();
    let paths = names.iter().map(|name| format!("/../../isa-spec/x86/{name}"));
    quote! {
        #( const _: &[u8] = ::core::include_bytes!(::core::concat!(::core::env!("CARGO_MANIFEST_DIR"), #paths)); )*
    }
}
