//! The command line: QEMU's spellings in, a [`MachineConfig`] or one clear line out.
//!
//! `args` turns `-hda x` into what clap reads, `resolve` turns clap's struct into a machine, `words` holds the
//! subcommand-like first words (`spec`, `isa`, `demo` …). Nothing below this module prints or exits.
//!
//! [`MachineConfig`]: crate::machine::MachineConfig

mod args;
mod boot;
mod catalogue;
mod chardevs;
mod cpu;
mod demo;
mod devices;
mod drives;
mod keyval;
mod messages;
mod paper;
mod resolve;
mod suggest;
mod virtio;
mod words;

pub(crate) use chardevs::gdb_target;
pub(crate) use suggest::nearest;

use std::ffi::OsString;
use std::io::Write;

use anyhow::Context;
use log::LevelFilter;

use crate::exit;
use crate::log::Items;

pub use args::Args;
pub use keyval::parse_size;

/// Why the command line leads to no machine.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The command line itself is wrong: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// The host refused something the command line asked for: exit code 1.
    #[error("{0:#}")]
    Host(#[from] anyhow::Error),
    /// Not an error: text was asked for instead of a machine (help, lists). Printed, exit code 0.
    #[error("{0}")]
    Text(String),
}

impl CliError {
    /// A usage error with this text.
    pub fn usage(text: impl Into<String>) -> Self {
        Self::Usage(text.into())
    }
}

/// Runs the command `stele` with these arguments (the first is the program's name); returns its exit code.
pub fn main(args: impl IntoIterator<Item = OsString>) -> u8 {
    let args: Vec<OsString> = args.into_iter().skip(1).collect();
    let result = match args.first().and_then(|word| words::find(word)) {
        Some(word) => words::run(word, &args[1..]),
        None => args::parse(args).and_then(|args| run(&args)),
    };
    match result {
        Ok(code) => code,
        Err(CliError::Text(text)) => {
            // A closed pipe (`stele --help | head -1`) is no failure.
            let _ = std::io::stdout().write_all(text.as_bytes());
            exit::OK
        }
        Err(error) => {
            let line = error.to_string();
            eprintln!("stele: {}", line.trim_end().replace('\n', "; "));
            match error {
                CliError::Usage(_) => exit::USAGE,
                _ => exit::HOST,
            }
        }
    }
}

fn run(args: &Args) -> Result<u8, CliError> {
    let config = resolve::resolve(args)?;
    let is_curious =
        config.log.items.has(Items::UNIMP) || config.log.items.has(Items::GUEST_ERRORS);
    messages::install(if is_curious { LevelFilter::Warn } else { LevelFilter::Error });
    let Some(path) = &args.pidfile else {
        return crate::machine::run(config).map_err(|error| CliError::Host(error.into()));
    };
    std::fs::write(path, format!("{}\n", std::process::id()))
        .with_context(|| format!("cannot write {}", path.display()))?;
    let result = crate::machine::run(config);
    // It may be gone already, which is as well.
    let _ = std::fs::remove_file(path);
    result.map_err(|error| CliError::Host(error.into()))
}
