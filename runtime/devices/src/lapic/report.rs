//! The local APIC's registers for people: `info lapic`.

use std::fmt::Write as _;

use super::{LVT_COUNT, Lapic};

/// The local vector table's entries in the order of their registers.
const LVT_NAMES: [&str; LVT_COUNT] = ["TIMER", "THERMAL", "PERF", "LINT0", "LINT1", "ERROR"];
const DELIVERY: [&str; 8] = ["fixed", "lowest", "SMI", "3?", "NMI", "INIT", "6?", "ExtINT"];

impl Lapic {
    /// All registers as text.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "base {:#x}, id {}, TPR {:#04x}, LDR {:#010x}, DFR {:#010x}, SVR {:#x}, ESR {:#x}",
            self.base, self.id, self.tpr, self.ldr, self.dfr, self.svr, self.esr
        );
        for (name, lvt) in LVT_NAMES.iter().zip(self.lvt) {
            let masked = if lvt >> 16 & 1 != 0 { ", masked" } else { "" };
            let level = if lvt >> 15 & 1 != 0 { ", level" } else { "" };
            let mode = DELIVERY[(lvt >> 8 & 7) as usize];
            let _ = writeln!(
                text,
                "LVT {name:<8} {lvt:#010x}: vector {:#04x}, {mode}{level}{masked}",
                lvt & 0xff
            );
        }
        let _ = writeln!(
            text,
            "timer: initial count {:#x}, divide {:#x}, deadline {:#x}",
            self.initial, self.divide, self.deadline
        );
        let _ = writeln!(text, "ICR {:#018x}", self.icr);
        text
    }
}
