//! `-cpu MODEL[,+FEATURE][,-FEATURE][,FEATURE=on|off][,vendor=…][,family=N]…`.

use std::fmt::Write as _;

use x86::cpuid::{FeatureError, HostCpuid, IDENTITY_KEYS, Model};

use super::{Args, CliError, suggest};
use crate::machine::{MachineConfig, host_cpuid};

/// Switches that say how a virtual processor is made up from the host's: the same with either value here.
const SETTLED: [&str; 6] =
    ["check", "migratable", "host-phys-bits", "host-cache-info", "l3-cache", "kvm"];

/// Sets the processor model.
pub(super) fn cpu(args: &Args, config: &mut MachineConfig) -> Result<(), CliError> {
    let Some(text) = &args.cpu else { return Ok(()) };
    if matches!(text.as_str(), "help" | "?") {
        return Err(CliError::Text(help()));
    }
    let mut parts = text.split(',');
    let name = parts.next().unwrap_or_default();
    // Without virtualisation the host's own model is all that can be offered.
    let known = if name == "host" { "max" } else { name };
    config.cpu = Model::named(known, Some(host_cpuid)).ok_or_else(|| no_model(name))?;
    for part in parts.filter(|part| !part.is_empty()) {
        if let Some((key, value)) = part.split_once('=')
            && IDENTITY_KEYS.contains(&key)
        {
            config
                .cpu
                .set_identity(key, value)
                .map_err(|must| CliError::usage(format!("-cpu: {key}={value} must be {must}")))?;
            continue;
        }
        let (feature, is_on) = switch(part)?;
        if SETTLED.contains(&feature) {
            continue;
        }
        if feature == "enforce" {
            enforce(&config.cpu, is_on)?;
            continue;
        }
        config
            .cpu
            .set(feature, is_on, Some(host_cpuid))
            .map_err(|error| refusal(feature, error))?;
    }
    if let Some(note) = note(&config.cpu, host_cpuid) {
        eprintln!("stele: {note}");
    }
    Ok(())
}

/// What the user should know: another host would have more of the model.
fn note(model: &Model, host: HostCpuid) -> Option<String> {
    let lacking: Vec<&str> = model.lacking(Some(host)).collect();
    let names = lacking.join(" ").to_ascii_lowercase();
    (!names.is_empty())
        .then(|| format!("-cpu: {} is without what this host lacks: {names}", model.name()))
}

/// `enforce`: the model is all there or the machine does not start.
fn enforce(model: &Model, is_on: bool) -> Result<(), CliError> {
    let missing: Vec<&str> = model.missing(Some(host_cpuid)).filter(|_| is_on).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let (name, missing) = (model.name(), missing.join(" ").to_ascii_lowercase());
    Err(CliError::usage(format!("-cpu: {name} is not all there on this host: {missing}")))
}

/// A feature and whether it is wanted.
fn switch(part: &str) -> Result<(&str, bool), CliError> {
    if let Some(name) = part.strip_prefix('+') {
        return Ok((name, true));
    }
    if let Some(name) = part.strip_prefix('-') {
        return Ok((name, false));
    }
    match part.split_once('=') {
        None => Ok((part, true)),
        Some((name, "on" | "yes" | "true")) => Ok((name, true)),
        Some((name, "off" | "no" | "false")) => Ok((name, false)),
        Some((name, value)) => {
            Err(CliError::usage(format!("-cpu: {name} is on or off, not {value}")))
        }
    }
}

fn no_model(name: &str) -> CliError {
    let names: Vec<&str> = Model::list().map(|(name, _)| name).collect();
    CliError::usage(format!("-cpu: no model {name} (known: {})", names.join(" ")))
}

fn refusal(name: &str, error: FeatureError) -> CliError {
    CliError::usage(match error {
        FeatureError::Unknown => {
            let near = suggest::nearest(name, Model::all_features());
            let hint = near.map_or(String::new(), |near| {
                format!(", did you mean {}?", near.to_ascii_lowercase())
            });
            format!("-cpu: no feature {name}{hint}")
        }
        FeatureError::NotOffered => {
            format!("-cpu: {name} cannot be had: this host or this version lacks it")
        }
    })
}

/// The models with their features, and all features.
fn help() -> String {
    let mut text = String::from("Models:\n");
    for (name, brand) in Model::list() {
        let default = if name == "max" { " (default)" } else { "" };
        let _ = writeln!(text, "  {name:<18} {brand}{default}");
    }
    let _ = writeln!(text, "\nFeatures, switched by ,+NAME and ,-NAME:");
    let mut line = String::new();
    for name in Model::max(Some(host_cpuid)).feature_names() {
        if line.len() + name.len() > 76 {
            let _ = writeln!(text, " {line}");
            line.clear();
        }
        let _ = write!(line, " {}", name.to_ascii_lowercase());
    }
    let _ = writeln!(text, " {line}");
    let _ = writeln!(text, "\nIdentity: ,{}=VALUE", IDENTITY_KEYS.join("= ,"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_says_what_the_host_takes_from_it() {
        // All there is, but no AVX.
        let host: HostCpuid = |leaf, _| {
            let mut all = [u32::MAX; 4];
            if leaf == 1 {
                all[2] &= !(1 << 28);
            }
            all
        };
        let named = |name| Model::named(name, Some(host)).unwrap();
        let said = note(&named("SandyBridge"), host).unwrap();
        assert!(said.starts_with("-cpu: SandyBridge ") && said.ends_with(": avx"), "{said}");
        let (mut without, max) = (named("SandyBridge"), named("max"));
        without.set("avx", false, Some(host)).unwrap();
        assert_eq!([without, max].map(|model| note(&model, host)), [None, None]);
    }
}
