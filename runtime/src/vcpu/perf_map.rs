//! `--perf-map`: the file by which `perf` knows generated code (the kernel's tools/perf/Documentation/jit-interface.txt): a line per
//! stretch of code with its address, size and name, in `/tmp/perf-PID.map`.
//!
//! A block's name is where the guest has it and in which mode, as in `guest-ffffffff81000000-64-cpl0-hot`. A
//! block that takes the place of another after a cache flush is one line more; perf takes the last.

use std::fs::File;
use std::io::{BufWriter, Write};

use jit::Jit;
use x86::mode::Mode;

use super::Vcpu;
use super::cache::{BlockId, Body};

/// The file.
pub(super) struct PerfMap(BufWriter<File>);

impl PerfMap {
    /// Opens this process's file and names the fixed code. A file that cannot be made is worth a warning, not the run.
    pub(super) fn open(jit: &Jit) -> Option<Self> {
        let path = format!("/tmp/perf-{}.map", std::process::id());
        match File::create(&path) {
            Ok(file) => {
                let mut map = Self(BufWriter::new(file));
                for (at, len, name) in jit.fixed_code() {
                    map.add(jit.buf().address(at), len, format_args!("thunk-{name}"));
                }
                Some(map)
            }
            Err(error) => {
                log::warn!("no {path}: {error}");
                None
            }
        }
    }

    fn add(&mut self, at: u64, len: usize, name: std::fmt::Arguments<'_>) {
        // A full disk spoils the profile only.
        let _ = writeln!(self.0, "{at:x} {len:x} {name}");
    }
}

impl Vcpu {
    /// A block was made for linear address `lin`.
    pub(super) fn map_block(&mut self, lin: u64, id: BlockId) {
        let Some(map) = &mut self.perf_map else { return };
        let block = self.core.cache.get(id);
        let (Body::Host(code), Some(jit)) = (&block.body, self.translator.jit()) else { return };
        let mode = block.key.mode;
        let width = match (mode.has(Mode::CODE64), mode.has(Mode::CODE32)) {
            (true, _) => 64,
            (_, true) => 32,
            _ => 16,
        };
        let tier = match (self.core.cache.is_hot(id), mode.has(Mode::PLAIN)) {
            (true, true) => "hot-plain",
            (true, false) => "hot",
            _ => "compact",
        };
        let at = jit.buf().address(code.entry as usize);
        let cpl = mode.cpl();
        map.add(at, code.len as usize, format_args!("guest-{lin:016x}-{width}-cpl{cpl}-{tier}"));
    }
}
