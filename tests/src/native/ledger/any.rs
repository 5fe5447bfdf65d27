//! Differences on every host.

use x86::decode::decode;
use x86::flags;

use crate::native::cases::code_size;
use crate::native::guest::on_host;

use super::known::{END, UD};
use super::{Entry, Verdict};

/// All of them.
pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        name: "per-CPU segment",
        verdict: Verdict::Host,
        why: "selector 78h is a data segment of the kernel's whose limit is the number of the CPU: LSL tells, LAR and VERR \
              see it, loads of it succeed. Stele's table has no such entry.",
        applies: |k| {
            let is_it = |selector: u16| selector & 0xFFFC == 0x78;
            let asks = k.is(&["lar", "lsl", "verr", "verw"]);
            let sees = asks
                && k.host.vector == k.ours.vector
                && (k.host.flags ^ k.ours.flags) & flags::ZF != 0;
            sees || is_it(k.ours.code as u16) || k.host.seg.into_iter().any(is_it)
        },
    },
    Entry {
        name: "states the host has more of",
        verdict: Verdict::Host,
        why: "XSAVE and its like handle the components set in XCR0: hosts have AVX-512 and protection keys; MXCSR_MASK has \
              bit 17 (misaligned SSE) on AMD.",
        applies: |k| {
            let is_xsave = k.is(&["XSAVE", "XSAVEC", "XSAVEOPT", "XRSTOR"]);
            is_xsave || k.is(&["FXSAVE"]) && k.ended(&[END], &[END])
        },
    },
    Entry {
        name: "no instruction of the host's",
        verdict: Verdict::Host,
        why: "an extension that the tables model without the host's help, and that its CPUID does not show.",
        applies: |k| {
            let has = decode(&k.case.bytes, code_size(k.case.width), on_host());
            k.host.vector == UD && !k.name.is_empty() && has.is_err()
        },
    },
];
