//! The helper table: numbers, effects, the `Helpers` trait and its dispatcher.

use isa_spec::model::{Helper, Isa};
use std::fmt::Write as _;

/// `pub mod helpers { … }`.
pub(super) fn module(isa: &Isa) -> String {
    let mut out = String::from(
        "/// Helpers that the tables declare (`helpers.isa`): numbers, effects and the trait that implements them.\n\
         pub mod helpers {\n    use super::HelperInfo;\n",
    );
    for (n, helper) in isa.helpers.iter().enumerate() {
        let _ = writeln!(out, "    /// `{}`.", signature(helper));
        let _ = writeln!(out, "    pub const {}: u32 = {n};", constant(helper));
    }
    out.push_str("    /// All helpers by number.\n    pub static INFO: &[HelperInfo] = &[\n");
    for helper in &isa.helpers {
        let has = |effect: &str| helper.effects.iter().any(|e| e == effect);
        let _ = writeln!(
            out,
            "        HelperInfo {{ name: {:?}, args: {}, ret: {}, faults: {}, ends: {}, stores: {}, pure: {} }},",
            helper.name,
            helper.args.len(),
            helper.ret.unwrap_or(0),
            has("faults"),
            has("ends"),
            has("stores"),
            has("pure"),
        );
    }
    out.push_str("    ];\n");
    out.push_str(&trait_text(isa));
    out.push_str(&dispatch(isa));
    out.push_str("}\n");
    out
}

/// Constant name of a helper's number.
pub(super) fn constant(helper: &Helper) -> String {
    helper.name.trim_end_matches('_').to_uppercase()
}

fn faults(helper: &Helper) -> bool {
    helper.effects.iter().any(|e| e == "faults")
}

fn signature(helper: &Helper) -> String {
    let args: Vec<String> =
        helper.args.iter().map(|(name, bits)| format!("{name}: {bits}")).collect();
    let ret = helper.ret.map(|bits| format!(" -> {bits}")).unwrap_or_default();
    let effects: String = helper.effects.iter().map(|e| format!(" {e}")).collect();
    format!("helper {}({}){ret}{effects}", helper.name, args.join(", "))
}

fn trait_text(isa: &Isa) -> String {
    let mut out = String::from(
        "    /// The Rust side of the helpers. Arguments are zero-extended; results count at their declared width.\n\
         \x20   pub trait Helpers {\n        /// A guest fault.\n        type Fault;\n",
    );
    for helper in &isa.helpers {
        let args: String = helper.args.iter().map(|(name, _)| format!(", {name}: u64")).collect();
        let value = if helper.ret.is_some() { "u64" } else { "()" };
        let result =
            if faults(helper) { format!("Result<{value}, Self::Fault>") } else { value.to_owned() };
        let arrow = if result == "()" { String::new() } else { format!(" -> {result}") };
        let _ = writeln!(out, "        /// `{}`", signature(helper));
        let _ = writeln!(out, "        fn {}(&mut self{args}){arrow};", helper.name);
    }
    out.push_str("    }\n");
    out
}

fn dispatch(isa: &Isa) -> String {
    let mut out = String::from(
        "    /// Calls helper `id`; a helper without a result gives 0. The ids come from generated code.\n\
         \x20   pub fn dispatch<H: Helpers>(h: &mut H, id: u32, args: [u64; 4]) -> Result<u64, H::Fault> {\n\
         \x20       let _ = args;\n        match id {\n",
    );
    for helper in &isa.helpers {
        let args: Vec<String> = (0..helper.args.len()).map(|n| format!("args[{n}]")).collect();
        let call = format!("h.{}({})", helper.name, args.join(", "));
        let arm = match (faults(helper), helper.ret.is_some()) {
            (true, true) => call,
            (true, false) => format!("{call}.map(|()| 0)"),
            (false, true) => format!("Ok({call})"),
            (false, false) => format!("{{ {call}; Ok(0) }}"),
        };
        let _ = writeln!(out, "            {} => {arm},", constant(helper));
    }
    out.push_str("            _ => Ok(0),\n        }\n    }\n");
    out
}
