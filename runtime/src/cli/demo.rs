//! The word `demo`: `demo linux …` and `demo --write DIR`.

use std::ffi::OsString;
use std::path::Path;

use anyhow::Context;
use guests::Arch;

use super::{CliError, args};
use crate::demo::linux::{Request, Start};
use crate::{demo, exit};

const USAGE: &str = "usage: stele demo linux [--arch 64|32] [--disk|--kernel] [-- OPTIONS] | \
                     stele demo --write DIR";

/// Runs `demo` with the arguments that follow it.
pub(super) fn run(words: &[OsString]) -> Result<u8, CliError> {
    let texts: Vec<&str> = words.iter().map(|word| word.to_str().unwrap_or_default()).collect();
    match texts.as_slice() {
        ["linux", rest @ ..] => {
            let (request, own) = parse(rest)?;
            linux(request, &words[words.len() - own..])
        }
        ["--write", dir] => write(Path::new(dir)),
        _ => Err(CliError::usage(USAGE)),
    }
}

/// What is asked for, and how many words of the end are options of the machine.
fn parse(words: &[&str]) -> Result<(Request, usize), CliError> {
    let mut request = Request::default();
    let mut rest = words.iter();
    while let Some(&word) = rest.next() {
        // One dash or two, as everywhere.
        match word.strip_prefix('-').map(|name| name.trim_start_matches('-')) {
            Some("") if word == "--" => return Ok((request, rest.len())),
            Some("disk") => request.start = Start::Disk,
            Some("kernel") => request.start = Start::Kernel,
            Some("arch") => request.arch = arch(rest.next().copied())?,
            _ => return Err(CliError::usage(format!("demo linux: what is '{word}'? {USAGE}"))),
        }
    }
    Ok((request, 0))
}

fn arch(word: Option<&str>) -> Result<Arch, CliError> {
    match word {
        Some("64" | "amd64" | "x86_64") => Ok(Arch::Amd64),
        Some("32" | "i386") => Ok(Arch::I386),
        _ => Err(CliError::usage("demo linux: --arch is 64 or 32")),
    }
}

fn linux(request: Request, own: &[OsString]) -> Result<u8, CliError> {
    // Wrong options are told before anything is fetched.
    args::parse(own.to_vec())?;
    let options = demo::linux::options(request).map_err(|error| {
        anyhow::anyhow!(
            "demo linux: {error}; it fetches Debian packages with apt, once. Without it: stele disk.img, \
             or stele -kernel vmlinuz -initrd initrd -append console=ttyS0"
        )
    })?;
    let words = options.into_iter().map(OsString::from).chain(own.iter().cloned());
    super::run(&args::parse(words.collect())?)
}

fn write(dir: &Path) -> Result<u8, CliError> {
    for (name, bytes) in [("demo.bin", demo::firmware()), ("demo.img", demo::disk())] {
        let path = dir.join(name);
        std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(exit::OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read() {
        let disk64 = Request::default();
        let kernel32 = Request { arch: Arch::I386, start: Start::Kernel };
        for (words, request, own) in [
            (&[][..], disk64, 0),
            (&["--arch", "32", "-kernel"], kernel32, 0),
            (&["--disk", "--", "-m", "64"], disk64, 2),
            (&["--"], disk64, 0),
        ] {
            assert_eq!(parse(words).unwrap(), (request, own), "{words:?}");
        }
        for words in [&["--arch"][..], &["--arch", "16"], &["linux"], &["-x"], &["-"]] {
            assert!(matches!(parse(words), Err(CliError::Usage(_))), "{words:?}");
        }
    }
}
