//! What shells and `man` want to know of the options, made from the options themselves: `stele completion SHELL`, `stele man`.
//!
//! The generators know options with two dashes; users of QEMU type one, so that one is what is written.

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Args, CliError, catalogue};

/// A completion script.
pub(super) fn completion(shell: &str) -> Result<String, CliError> {
    let found: Result<Shell, _> = shell.parse();
    let shell = match found {
        Ok(shell @ (Shell::Bash | Shell::Zsh | Shell::Fish)) => shell,
        _ => return Err(CliError::usage("usage: stele completion bash|zsh|fish")),
    };
    let mut bytes = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "stele", &mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    Ok(match shell {
        // Its name for options of one dash and several letters.
        Shell::Fish => text.replace(" -l ", " -o "),
        _ => one_dash(&text, "-"),
    })
}

/// The manual page, as roff.
pub(super) fn man() -> Result<String, CliError> {
    let about = "an x86 PC, translated by a generated JIT";
    let command = Args::command().about(about).after_help(catalogue::notes());
    let mut bytes = Vec::new();
    let made = clap_mangen::Man::new(command).render(&mut bytes);
    made.map_err(|error| CliError::Host(error.into()))?;
    Ok(one_dash(&String::from_utf8_lossy(&bytes), "\\-"))
}

/// Two dashes before a letter become one.
fn one_dash(text: &str, dash: &str) -> String {
    let two = dash.repeat(2);
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(&two) {
        let (before, behind) = (&rest[..at], &rest[at + two.len()..]);
        out.push_str(before);
        let is_option = behind.starts_with(|c: char| c.is_ascii_alphabetic());
        out.push_str(if is_option { dash } else { &two });
        rest = behind;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_have_one_dash() {
        assert_eq!(one_dash("a --hda -- \"x\" --m", "-"), "a -hda -- \"x\" -m");
        for shell in ["bash", "zsh"] {
            let text = completion(shell).unwrap();
            assert!(text.contains("-snapshot") && !text.contains("--snapshot"), "{text}");
        }
        assert!(completion("fish").unwrap().contains("-o snapshot"));
        assert!(completion("csh").is_err());
        let page = man().unwrap();
        assert!(page.contains("\\-snapshot") && !page.contains("\\-\\-snapshot"), "{page}");
        assert!(page.contains("Exit codes"), "{page}");
    }
}
