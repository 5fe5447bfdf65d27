//! What a run of the vCPU looks like to a person: its counters, and the blocks that led to where it is.

use std::cmp::Reverse;
use std::fmt::Write as _;

use x86::lower::helpers;

use super::Vcpu;

/// Blocks remembered.
const RECENT: usize = 32;
/// Helpers that `info jit` names.
const HELPERS_TOLD: usize = 20;

/// The blocks dispatched last. Those that generated code went on to by itself are not seen: the hot path pays nothing.
#[derive(Debug)]
pub(super) struct Recent {
    /// CS selector, instruction pointer.
    ring: [(u16, u64); RECENT],
    next: usize,
}

impl Default for Recent {
    fn default() -> Self {
        Self { ring: [(0, 0); RECENT], next: 0 }
    }
}

impl Recent {
    /// A block is about to be entered.
    pub(super) fn note(&mut self, cs: u16, pc: u64) {
        self.ring[self.next % RECENT] = (cs, pc);
        self.next = self.next.wrapping_add(1);
    }
}

impl Vcpu {
    /// The blocks dispatched last, the latest at the end: CS and instruction pointer of each.
    pub fn recent_blocks(&self) -> String {
        let (ring, next) = (self.recent.ring, self.recent.next);
        let mut text = String::new();
        for n in 0..RECENT.min(next) {
            let (cs, pc) = ring[(next - RECENT.min(next) + n) % RECENT];
            let _ = writeln!(text, "{cs:04x}:{pc:016x}");
        }
        text
    }

    /// The counters as text.
    pub fn describe(&self) -> String {
        let mut text = match self.translator.jit() {
            Some(jit) => {
                let (used, all) = (jit.buf().used() >> 10, jit.buf().capacity() >> 10);
                format!("code cache            {used} KiB of {all} KiB\n")
            }
            None => "evaluator, no code cache\n".to_owned(),
        };
        let stats = self.stats();
        for (name, value) in stats.named() {
            let _ = writeln!(text, "{name:<21} {value}");
        }
        text += "exits by cause:\n";
        for (name, value) in stats.exits() {
            let _ = writeln!(text, "  {name:<28} {value}");
        }
        text += "helpers called most:\n";
        let calls = self.core.helper_calls.iter().zip(helpers::INFO);
        let mut calls: Vec<_> = calls.filter(|&(&n, _)| n != 0).collect();
        calls.sort_by_key(|&(&n, _)| Reverse(n));
        for (n, helper) in calls.into_iter().take(HELPERS_TOLD) {
            let _ = writeln!(text, "  {:<28} {n}", helper.name);
        }
        text
    }
}
