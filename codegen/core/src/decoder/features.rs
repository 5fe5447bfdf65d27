//! The `feature` module, `FEATURES` and `CPUS`: what CPUID bits the tables know, and the processor models.

use super::record;
use isa_spec::model::{Cpu, Feature, Isa};
use proc_macro2::{Literal, TokenStream};
use quote::{format_ident, quote};
use std::collections::BTreeSet;

/// Feature names by number: the declared ones, then those that rows ask for without a declaration.
pub(super) fn names(isa: &Isa) -> Vec<String> {
    let mut names: Vec<String> = isa.features.iter().map(|f| f.name.clone()).collect();
    let gates = isa.rows.iter().filter_map(|row| record::gate(row).ok());
    let used: BTreeSet<String> = gates.flat_map(|gate| gate.features).collect();
    let new: Vec<String> = used.into_iter().filter(|name| !names.contains(name)).collect();
    names.extend(new);
    names
}

/// Constants, features and processors as source.
pub(super) fn emit(isa: &Isa) -> Result<TokenStream, String> {
    let names = names(isa);
    if names.len() > 128 {
        return Err(format!("{} CPUID features, but there is room for 128", names.len()));
    }
    let idents = names.iter().map(|name| format_ident!("{}", name.to_uppercase()));
    let shifts = (0..names.len()).map(Literal::usize_unsuffixed);
    let docs = names.iter().map(|name| format!("`cpuid({name})`"));
    let features = isa.features.iter().map(|feature| feature_info(isa, feature));
    let cpus = isa.cpus.iter().map(cpu_info);
    Ok(quote! {
        /// CPUID features: bits of `Features::cpuid`.
        pub mod feature {
            #( #[doc = #docs] pub const #idents: u128 = 1 << #shifts; )*
            /// Their names, by bit number.
            pub const NAMES: &[&str] = &[#(#names),*];
        }
        /// The declared CPUID features, by bit number.
        pub static FEATURES: &[crate::decode::FeatureInfo] = &[#(#features),*];
        /// Processor models, in table order.
        pub static CPUS: &[crate::decode::CpuInfo] = &[#(#cpus),*];
    })
}

/// Is the feature asked for by a row, perhaps only by native ones?
fn has_row(isa: &Isa, name: &str, is_native: bool) -> bool {
    isa.rows.iter().any(|row| {
        let asked = row.attrs.arg("cpuid").unwrap_or_default();
        asked.split(',').any(|n| n.trim() == name) && (!is_native || row.attrs.has("native"))
    })
}

fn feature_info(isa: &Isa, feature: &Feature) -> TokenStream {
    let name = &feature.name;
    let (leaf, sub) = (Literal::u32_unsuffixed(feature.leaf), Literal::u32_unsuffixed(feature.sub));
    let (reg, bit) = (Literal::u8_unsuffixed(feature.reg), Literal::u8_unsuffixed(feature.bit));
    let needs = feature.needs.iter().map(|n| Literal::usize_unsuffixed(*n));
    let exists = feature.system || has_row(isa, name, false);
    let native = feature.host || has_row(isa, name, true);
    quote! {
        crate::decode::FeatureInfo {
            name: #name, leaf: #leaf, sub: #sub, reg: #reg, bit: #bit, needs: &[#(#needs),*], exists: #exists, native: #native
        }
    }
}

fn cpu_info(cpu: &Cpu) -> TokenStream {
    let (name, vendor, brand) = (&cpu.name, &cpu.vendor, &cpu.brand);
    let numbers = [cpu.family, cpu.model, cpu.stepping].map(Literal::u32_unsuffixed);
    let [family, model, stepping] = numbers;
    let level = format_ident!("{}", isa_spec::model::LEVELS[usize::from(cpu.level)]);
    let features = Literal::u128_unsuffixed(cpu.features);
    quote! {
        crate::decode::CpuInfo {
            name: #name, vendor: #vendor, brand: #brand, family: #family, model: #model, stepping: #stepping,
            level: crate::decode::Level::#level, features: #features
        }
    }
}
