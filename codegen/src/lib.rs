//! Proc-macro shell around `codegen-core`: nothing here but the calls.
//!
//! The tables are read from disk by the macro, so the macros take no input. Everything before the final
//! parse runs on proc-macro2's fallback tokens, which know true positions in the tables.

use codegen_core::Output;
use proc_macro::TokenStream;

/// Decode tables, `ROWS`, attribute and feature bits.
#[proc_macro]
pub fn decoder(_input: TokenStream) -> TokenStream {
    expand(Output::Decoder)
}

/// Mnemonic templates of the disassembler.
#[proc_macro]
pub fn disasm(_input: TokenStream) -> TokenStream {
    expand(Output::Disasm)
}

/// Lowering functions by instruction, what they need of each row, and the helper table.
#[proc_macro]
pub fn lowering(_input: TokenStream) -> TokenStream {
    expand(Output::Lowering)
}

fn expand(output: Output) -> TokenStream {
    proc_macro2::fallback::force();
    let text = codegen_core::expand(output);
    proc_macro2::fallback::unforce();
    text.parse().expect("a generator emitted text that does not lex")
}
