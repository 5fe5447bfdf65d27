//! Differences as text: one line holds what one needs to see a case again.

use std::fmt::Write as _;

use x86::decode::decode;
use x86::disasm::{Syntax, format};

use super::cases::code_size;
use super::guest::features;
use super::state::{Case, Output, Width};

/// The instruction: bytes and text.
pub fn instruction(case: &Case) -> String {
    let bytes: Vec<String> = case.code().iter().map(|b| format!("{b:02x}")).collect();
    let text = match decode(&case.bytes, code_size(case.width), features()) {
        Ok(insn) => format(&insn, case.ip, Syntax::Intel),
        Err(_) => "(no instruction)".to_owned(),
    };
    format!("{} {}", bytes.join(" "), text)
}

/// Registers, flags, segments and memory that a case begins with.
pub fn inputs(case: &Case) -> String {
    let mut text = format!("ip={:x} fl={:x}", case.ip, case.flags);
    let shown = if case.width == Width::W64 { 16 } else { 8 };
    let mask = if shown == 16 { u64::MAX } else { 0xFFFF_FFFF };
    let values: Vec<String> = case.gpr[..shown].iter().map(|g| format!("{:x}", g & mask)).collect();
    let _ = write!(text, " gpr={}", values.join(","));
    let selectors: Vec<String> = case.seg.iter().map(|s| format!("{s:x}")).collect();
    let _ = write!(text, " seg={}", selectors.join(","));
    if case.width == Width::W64 {
        let _ = write!(text, " fs={:x} gs={:x}", case.bases[0], case.bases[1]);
    }
    for patch in case.patches.iter().filter(|p| p.len != 0) {
        let bytes: Vec<String> = patch.bytes[..usize::from(patch.len).min(16)]
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        let _ = write!(text, " [{:x}]={}", patch.at, bytes.join(""));
    }
    if let Some(fp) = &case.fp {
        let word = |at: usize| u16::from_le_bytes([fp.legacy[at], fp.legacy[at + 1]]);
        let _ = write!(text, " fcw={:x} fsw={:x} mxcsr={:x}", word(0), word(2), word(24));
    }
    text
}

/// How a case ended, in short.
pub fn ending(output: &Output) -> String {
    let name = match output.vector {
        0 => "#DE",
        1 => "#DB",
        3 => "end",
        4 => "#OF",
        5 => "#BR",
        6 => "#UD",
        7 => "#NM",
        11 => "#NP",
        12 => "#SS",
        13 => "#GP",
        14 => "#PF",
        16 => "#MF",
        17 => "#AC",
        19 => "#XM",
        super::state::ENDLESS => "endless",
        super::state::SHUTDOWN => "shutdown",
        _ => "?",
    };
    format!("{name}({:x}) at {:x} fl={:x}", output.code, output.ip, output.flags)
}
