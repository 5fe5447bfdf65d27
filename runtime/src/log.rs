//! The `-d` log: QEMU's items, QEMU's sections, written to stderr or the `-D` file.
//!
//! This is the guest's log, not the emulator's own messages (those go through the `log` crate). It is asked on hot
//! paths, so [`Log::wants`] is one test when the item is off. A log that cannot be written is given up with one
//! message; it never stops the guest.

mod items;
mod sections;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

pub use items::{Items, help};
pub use sections::{Place, host_code, insn_line};

/// What to log and where, as the command line says.
#[derive(Clone, Debug, Default)]
pub struct LogConfig {
    /// Items to write.
    pub items: Items,
    /// Only code at these guest addresses; empty = everywhere.
    pub ranges: Vec<Range>,
    /// File; `None` = stderr. `%d` in its name stands for the process id.
    pub file: Option<PathBuf>,
}

/// Guest addresses, both ends inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First address.
    pub first: u64,
    /// Last address.
    pub last: u64,
}

/// An open log, shared by everything in one machine.
pub struct Log {
    items: Cell<Items>,
    ranges: Vec<Range>,
    sink: RefCell<Box<dyn Write>>,
    failed: Cell<bool>,
    prologue_done: Cell<bool>,
}

impl Log {
    /// Opens the log.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn open(config: &LogConfig) -> io::Result<Rc<Self>> {
        let sink: Box<dyn Write> = match &config.file {
            Some(path) if !config.items.is_empty() => {
                Box::new(BufWriter::with_capacity(1 << 16, File::create(with_pid(path))?))
            }
            _ => Box::new(BufWriter::new(io::stderr())),
        };
        Ok(Self::new(config.items, config.ranges.clone(), sink))
    }

    /// A log that writes nothing.
    pub fn off() -> Rc<Self> {
        Self::new(Items::default(), Vec::new(), Box::new(io::sink()))
    }

    /// A log of `items` in `ranges` (empty = everywhere) to `sink`.
    pub fn new(items: Items, ranges: Vec<Range>, sink: Box<dyn Write>) -> Rc<Self> {
        Rc::new(Self {
            items: Cell::new(items),
            ranges,
            sink: RefCell::new(sink),
            failed: Cell::new(false),
            prologue_done: Cell::new(false),
        })
    }

    /// The items asked for.
    pub fn items(&self) -> Items {
        self.items.get()
    }

    /// Asks for other items from now on. What is fixed when the machine is built (`nochain`) stays.
    pub fn set_items(&self, items: Items) {
        self.items.set(items);
    }

    /// Writes to this file from now on. `%d` in its name stands for the process id.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn write_to(&self, path: &Path) -> io::Result<()> {
        let file = File::create(with_pid(path))?;
        self.flush();
        *self.sink.borrow_mut() = Box::new(BufWriter::with_capacity(1 << 16, file));
        self.failed.set(false);
        Ok(())
    }

    /// Is `item` asked for, wherever it happens?
    #[inline]
    pub fn has(&self, item: Items) -> bool {
        self.items.get().has(item)
    }

    /// Is `item` asked for, for guest code at linear address `pc`?
    #[inline]
    pub fn wants(&self, item: Items, pc: u64) -> bool {
        self.items.get().has(item) && self.in_range(pc)
    }

    fn in_range(&self, pc: u64) -> bool {
        self.ranges.is_empty() || self.ranges.iter().any(|r| (r.first..=r.last).contains(&pc))
    }

    /// Writes text as it is.
    pub fn write(&self, text: fmt::Arguments<'_>) {
        if self.failed.get() {
            return;
        }
        // A RefCell that is taken means a Display in `text` logs itself: drop the inner text.
        let Ok(mut sink) = self.sink.try_borrow_mut() else { return };
        if let Err(error) = sink.write_fmt(text) {
            self.give_up(&error);
        }
    }

    /// Hands everything written so far to the host.
    pub fn flush(&self) {
        if self.failed.get() {
            return;
        }
        let Ok(mut sink) = self.sink.try_borrow_mut() else { return };
        if let Err(error) = sink.flush() {
            self.give_up(&error);
        }
    }

    fn give_up(&self, error: &io::Error) {
        self.failed.set(true);
        log::error!("log given up: {error}");
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.flush();
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("items", &self.items.get()).finish_non_exhaustive()
    }
}

fn with_pid(path: &Path) -> PathBuf {
    match path.to_str() {
        Some(text) => text.replace("%d", &std::process::id().to_string()).into(),
        None => path.to_owned(),
    }
}

/// Reads `-dfilter`: comma-separated `a+n` (n bytes from a), `a-n` (n bytes before and at a), `a..b`, or one address.
///
/// # Errors
/// The part that is no range.
pub fn parse_ranges(text: &str) -> Result<Vec<Range>, String> {
    text.split(',').map(|part| parse_range(part).ok_or_else(|| part.to_owned())).collect()
}

fn parse_range(part: &str) -> Option<Range> {
    if let Some((first, last)) = part.split_once("..") {
        let (first, last) = (address(first)?, address(last)?);
        return (first <= last).then_some(Range { first, last });
    }
    if let Some((first, len)) = part.split_once('+') {
        let (first, len) = (address(first)?, address(len)?);
        return Some(Range { first, last: first.checked_add(len.checked_sub(1)?)? });
    }
    if let Some((last, len)) = part.split_once('-') {
        let (last, len) = (address(last)?, address(len)?);
        return Some(Range { first: last.saturating_sub(len.checked_sub(1)?), last });
    }
    let first = address(part)?;
    Some(Range { first, last: first })
}

fn address(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let range = |first, last| Some(Range { first, last });
        for (text, expect) in [
            ("0x8000+0x200", range(0x8000, 0x81ff)),
            ("0x1000..0x1fff", range(0x1000, 0x1fff)),
            ("0x1000-0x10", range(0xff1, 0x1000)),
            ("16", range(16, 16)),
            ("5..4", None),
            ("1+0", None),
            ("0xffffffffffffffff+2", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(parse_range(text), expect, "{text}");
        }
        assert_eq!(parse_ranges("1+1,zz"), Err("zz".to_owned()));
    }

    #[test]
    fn filter_applies_to_wants_only() {
        let items = Items::parse("in_asm,int").unwrap();
        let log = Log::new(items, parse_ranges("0x100+0x10").unwrap(), Box::new(io::sink()));
        assert!(log.wants(Items::IN_ASM, 0x10f));
        assert!(!log.wants(Items::IN_ASM, 0x110));
        assert!(!log.wants(Items::OP, 0x100));
        assert!(log.has(Items::INT));
    }

    #[test]
    fn a_full_disk_ends_the_log_only() {
        let Ok(full) = File::options().write(true).open("/dev/full") else { return };
        let log = Log::new(Items::INT, Vec::new(), Box::new(full));
        log.write(format_args!("a"));
        log.write(format_args!("b"));
        assert!(log.failed.get());
    }
}
