//! Loops that each lean on one mechanism of the translator: TLB, jumps, system calls, self-modifying code
//! (`mechanisms.s`).
//!
// UNSAFETY: reads images between linker symbols.
#![expect(unsafe_code, reason = "global_asm! emits the images")]

use std::arch::global_asm;

use ir::opt::Passes;
use stele_tests::setup::{self, WINDOWS, at};
use stele_tests::{Bench, Ending, Engine};
use x86::flags;

global_asm!(include_str!("mechanisms.s"));

/// Bytes of a loop's image.
const IMAGE: usize = 0x1800;
/// Where it is put.
const CODE: u64 = 0x8000;
/// The loops' buffer.
const DATA: u64 = 0x2_0000;
/// An address above the memory, without a page.
const ABSENT: u64 = stele_tests::RAM;
/// The stack at level 0, and with the same top at level 3.
const STACK: u64 = 0x7000;
/// `swapgs`-less system call: back at once.
const SYSRETQ: [u8; 3] = [0x48, 0x0F, 0x07];
/// Where SYSCALL goes.
const SYSTEM: u64 = 0xC000;
/// `add rsp, 8; add qword ptr [rsp], 3; iretq`: goes on behind an insn of three bytes that faulted.
const SKIP: [u8; 11] = [0x48, 0x83, 0xC4, 0x08, 0x48, 0x83, 0x04, 0x24, 0x03, 0x48, 0xCF];
/// The vector of page faults.
const PF: u64 = 14;
/// IA32_STAR: level 0 by the selectors 8 and 16, level 3 by 24 (code) and 16.
const STAR: u64 = 8 << 48 | 8 << 32;
/// EFER.SCE.
const EFER_SCE: u64 = 1;

/// One loop.
#[derive(Clone, Copy)]
pub struct Mechanism {
    /// Subject and name, as in `memory/span`.
    pub name: &'static str,
    code: &'static [u8; IMAGE],
}

macro_rules! mechanisms {
    ($($name:literal $image:ident;)*) => {
        unsafe extern "C" {
            $(static $image: [u8; IMAGE];)*
        }

        /// All loops.
        pub static MECHANISMS: &[Mechanism] = &[$(Mechanism {
            name: $name,
            // SAFETY: `mechanisms.s` defines the symbol as exactly IMAGE bytes of read-only data.
            code: unsafe { &$image },
        }),*];
    };
}

mechanisms! {
    "memory/span" stele_mechanism_span;
    "memory/stack" stele_mechanism_stack;
    "memory/pages" stele_mechanism_pages;
    "memory/alias" stele_mechanism_alias;
    "tlb/refill" stele_mechanism_refill;
    "tlb/cr3" stele_mechanism_cr3;
    "superblock/inner" stele_mechanism_inner;
    "superblock/sides" stele_mechanism_sides;
    "jump/cross-page" stele_mechanism_cross_page;
    "jump/call-same" stele_mechanism_call_same;
    "jump/call-four" stele_mechanism_call_four;
    "jump/call-deep" stele_mechanism_call_deep;
    "system/int" stele_mechanism_int;
    "system/syscall" stele_mechanism_syscall;
    "system/page-fault" stele_mechanism_page_fault;
    "system/port" stele_mechanism_port;
    "system/rdtsc" stele_mechanism_rdtsc;
    "system/cli-sti" stele_mechanism_cli_sti;
    "system/pushf-popf" stele_mechanism_pushf_popf;
    "smc/patch" stele_mechanism_patch;
    "smc/beside" stele_mechanism_beside;
    "smc/revive" stele_mechanism_revive;
    "string/cmps" stele_mechanism_cmps;
    "string/scas" stele_mechanism_scas;
}

/// A 64-bit guest with one of the loops.
pub struct LoopGuest {
    bench: Bench,
}

impl LoopGuest {
    /// A guest about to run the loop on `engine`, with these optimiser passes if it has any.
    pub fn new(mechanism: &Mechanism, engine: Engine, passes: Passes) -> Self {
        let mut config = engine.config();
        if config.passes != Passes::NONE {
            config.passes = passes;
        }
        let mut bench = Bench::with_config(config);
        bench.clear();
        setup::long(&mut bench, 0);
        setup::long_paging(&mut bench, |lin| lin | 0x67);
        bench.poke(CODE, mechanism.code);
        bench.poke(SYSTEM, &SYSRETQ);
        bench.poke(at::HANDLERS + 16 * PF, &SKIP);
        let s = &mut bench.cpu_mut().state;
        (s.star, s.lstar) = (STAR, SYSTEM);
        s.efer |= EFER_SCE;
        bench.settle();
        Self { bench }
    }

    /// Runs the loop for `turns` (at least 1); returns RAX and RDX.
    ///
    /// # Panics
    /// When the guest does anything but halt.
    pub fn run(&mut self, turns: u64) -> [u64; 2] {
        let s = &mut self.bench.cpu_mut().state;
        s.gpr = [0; 16];
        (s.gpr[3], s.gpr[4], s.gpr[6]) = (ABSENT, STACK, DATA);
        (s.gpr[12], s.gpr[13]) = (turns.max(1), WINDOWS[2] + DATA);
        (s.pc, s.halted) = (CODE, 0);
        s.set_eflags(flags::FIXED);
        assert_eq!(self.bench.run(), Ending::Halted);
        let s = &self.bench.cpu().state;
        [s.gpr[0], s.gpr[2]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bench of code that goes astray would be worth nothing: every engine counts the turns down and computes the same.
    #[test]
    fn engines_agree() {
        for mechanism in MECHANISMS.iter().filter(|m| m.name != "system/rdtsc") {
            let results = Engine::ALL.map(|engine| {
                let mut guest = LoopGuest::new(mechanism, engine, Passes::ALL);
                let results = [1, 300].map(|turns| guest.run(turns));
                assert_eq!(guest.bench.cpu().state.gpr[12], 0, "{} {engine:?}", mechanism.name);
                results
            });
            assert!(results.iter().all(|r| *r == results[0]), "{}: {results:X?}", mechanism.name);
        }
    }
}
