//! What the inner loop counts as it goes. Everything here is counted where generated code has left anyway, or where a block is made: running it costs nothing.

use ir::exit;
use jit::Jit;

use super::shim::FAULT_AT_PC;

/// Exit codes there are.
const CODES: usize = 40;

/// Names of the exit codes.
const EXITS: &[(u32, &str)] = &[
    (exit::NEXT, "next block"),
    (exit::FAULT, "fault"),
    (exit::RESYNC, "mode or mapping changed"),
    (exit::HALT, "halt"),
    (exit::EVAL_ONE, "insn to evaluate"),
    (Jit::LINK, "direct, not linked"),
    (Jit::MISS, "indirect, jump table missed"),
    (Jit::POLL_DIRECT, "interrupt check, direct"),
    (FAULT_AT_PC, "fault of a helper"),
    (Jit::BUDGET, "budget spent"),
];

/// Counters of a run, for `info jit` and the benches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Blocks translated.
    pub blocks: u64,
    /// Of these, for speed.
    pub hot_blocks: u64,
    /// Of these, made by the second translator.
    pub beside: u64,
    /// Blocks it made in vain, because the code had changed.
    pub too_late: u64,
    /// Nanoseconds it took.
    pub beside_ns: u64,
    /// Guest insns translated.
    pub insns: u64,
    /// Of these, for speed.
    pub hot_insns: u64,
    /// Guest bytes translated.
    pub guest_bytes: u64,
    /// Host bytes emitted.
    pub host_bytes: u64,
    /// Nanoseconds spent translating (fetch to publish).
    pub translate_ns: u64,
    /// Of these, for speed.
    pub hot_ns: u64,
    /// Insns run by the evaluator because the fast path did not apply.
    pub evaluated: u64,
    /// Blocks dropped because their bytes were written.
    pub invalidated: u64,
    /// Blocks that came back because their bytes did.
    pub revived: u64,
    /// Times the whole cache was flushed.
    pub flushes: u64,
    /// Times generated code was entered.
    pub entries: u64,
    /// Of these, by the jump table.
    pub known_jumps: u64,
    /// Accesses that took the slow path: loads, stores, others.
    pub slow: [u64; 3],
    /// Pages entered into the TLB, by view (`x86::tlb::ViewId`).
    pub tlb_fills: [u64; 4],
    /// Times generated code came back, by exit code.
    pub(super) exits: [u64; CODES],
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            blocks: 0,
            hot_blocks: 0,
            beside: 0,
            too_late: 0,
            beside_ns: 0,
            insns: 0,
            hot_insns: 0,
            guest_bytes: 0,
            host_bytes: 0,
            translate_ns: 0,
            hot_ns: 0,
            evaluated: 0,
            invalidated: 0,
            revived: 0,
            flushes: 0,
            entries: 0,
            known_jumps: 0,
            slow: [0; 3],
            tlb_fills: [0; 4],
            exits: [0; CODES],
        }
    }
}

impl Stats {
    /// Generated code came back with an exit code.
    pub(super) fn count_exit(&mut self, code: u32) {
        if let Some(n) = self.exits.get_mut(code as usize) {
            *n += 1;
        }
    }

    /// The exits that happened, by cause; those of no other name are exceptions of native instructions.
    pub fn exits(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let named = EXITS.iter().map(|&(code, name)| (name, self.exits[code as usize]));
        let rest = self.exits.iter().sum::<u64>() - named.clone().map(|(_, n)| n).sum::<u64>();
        named.chain([("native exception", rest)]).filter(|&(_, n)| n != 0)
    }

    /// Nanoseconds spent on what is not for speed.
    fn compact_ns(&self) -> u64 {
        self.translate_ns.saturating_sub(self.hot_ns)
    }

    /// The counters by name, in the order of `info jit`.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("blocks translated", self.blocks),
            ("  for speed", self.hot_blocks),
            ("  on another thread", self.beside),
            ("  in vain", self.too_late),
            ("insns translated", self.insns),
            ("  for speed", self.hot_insns),
            ("guest bytes", self.guest_bytes),
            ("host bytes", self.host_bytes),
            ("host bytes per insn", self.host_bytes / self.insns.max(1)),
            ("translation time, ms", self.translate_ns / 1_000_000),
            ("  on another thread", self.beside_ns / 1_000_000),
            ("translation, ns/insn", self.translate_ns / self.insns.max(1)),
            ("  for speed", (self.hot_ns + self.beside_ns) / self.hot_insns.max(1)),
            ("  not for speed", self.compact_ns() / (self.insns - self.hot_insns).max(1)),
            ("insns evaluated", self.evaluated),
            ("blocks invalidated", self.invalidated),
            ("blocks revived", self.revived),
            ("cache flushes", self.flushes),
            ("entries into code", self.entries),
            ("  by the jump table", self.known_jumps),
            ("slow loads", self.slow[0]),
            ("slow stores", self.slow[1]),
            ("slow others", self.slow[2]),
            ("TLB fills, supervisor", self.tlb_fills[0]),
            ("TLB fills, user", self.tlb_fills[1]),
            ("TLB fills, with AC", self.tlb_fills[2]),
        ]
        .into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exits_have_names_and_room() {
        let mut stats = Stats::default();
        assert!(EXITS.iter().all(|&(code, _)| (code as usize) < CODES));
        for code in [Jit::LINK, Jit::MISS, Jit::MISS, 25, u32::MAX] {
            stats.count_exit(code);
        }
        let told: Vec<_> = stats.exits().collect();
        let expect = [
            ("direct, not linked", 1),
            ("indirect, jump table missed", 2),
            ("native exception", 1),
        ];
        assert_eq!(told, expect);
    }
}
