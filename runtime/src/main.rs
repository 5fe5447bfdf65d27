//! The `stele` command: everything is in the library, so that tests reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(stele::cli::main(std::env::args_os()))
}
