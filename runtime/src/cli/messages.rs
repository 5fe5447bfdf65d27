//! The emulator's own messages (the `log` crate), to stderr.
//!
//! Errors always; warnings with `-d unimp` or `-d guest_errors`; more with the environment variable `STELE_LOG` set
//! to warn, info, debug or trace. The guest's log (`-d`) is another thing: see `crate::log`.

use std::time::Instant;

use log::{LevelFilter, Log, Metadata, Record};

struct Stderr {
    start: Instant,
}

impl Log for Stderr {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let since = self.start.elapsed().as_secs_f64();
        let level = record.level().as_str().to_ascii_lowercase();
        // A carriage return for terminals in raw mode.
        eprintln!("[{since:12.9} {}] {level}: {}\r", record.target(), record.args());
    }

    fn flush(&self) {}
}

/// Sends messages of `level` and above to stderr, for the rest of the process. A second call changes nothing.
pub(super) fn install(level: LevelFilter) {
    let asked = std::env::var("STELE_LOG").ok().and_then(|text| text.parse().ok());
    if log::set_boxed_logger(Box::new(Stderr { start: Instant::now() })).is_ok() {
        log::set_max_level(asked.unwrap_or(level));
    }
}
