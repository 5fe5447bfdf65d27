//! What is not compared, and why: the one place for it.
//!
//! First what never runs on the host, because the kernel would answer instead of the processor or the answer is the machine's
//! own ([`is_kernels`]). Then differences that are known ([`Entry`]): those that the manuals leave open, or where makers differ,
//! each with what both sides do; and those that are our mistakes and not mended yet, which say so ([`Verdict::Ours`]). Each file has
//! those of one maker's hosts, `any` those of all; on a host of the other maker they excuse nothing.

use ir::Undefined;

use super::state::{Case, Output, Width};

mod amd;
mod any;
mod intel;
mod known;

pub use known::Known;

/// Whose business a difference is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The manuals allow both, or AMD's and Intel's differ and we follow the other one.
    Open,
    /// The host is a virtual machine, or its system shows.
    Host,
    /// We are wrong.
    Ours,
}

/// A known difference.
pub struct Entry {
    /// A word for it.
    pub name: &'static str,
    /// Who is right.
    pub verdict: Verdict,
    /// What the manuals say, what hosts do, what we do.
    pub why: &'static str,
    /// Is this difference it?
    pub applies: fn(&Known<'_>) -> bool,
}

/// The entry that explains a difference, if one does.
pub fn explain(case: &Case, host: &Output, ours: &Output) -> Option<&'static Entry> {
    let known = Known::new(case, host, ours);
    any::ENTRIES.iter().chain(of_host()).find(|entry| (entry.applies)(&known))
}

/// The entries of the host's maker.
fn of_host() -> &'static [Entry] {
    match Undefined::of_host() {
        Undefined::Core => intel::ENTRIES,
        Undefined::Zen => amd::ENTRIES,
    }
}

/// An instruction's opcode, behind its prefixes.
struct Opcode<'a> {
    /// 0 for one-byte opcodes, else the escape as the manual numbers maps: 1 for 0F, 2 for 0F 38, 3 for 0F 3A.
    map: u8,
    byte: u8,
    /// What follows the opcode: ModRM first, if there is one.
    rest: &'a [u8],
}

/// Takes bytes apart as far as the opcode, VEX included.
fn opcode(bytes: &[u8], width: Width) -> Option<Opcode<'_>> {
    let mut rest = bytes;
    loop {
        match rest {
            [0x66 | 0x67 | 0xF0 | 0xF2 | 0xF3 | 0x26 | 0x2E | 0x36 | 0x3E | 0x64 | 0x65, ..] => {
                rest = &rest[1..];
            }
            [0x40..=0x4F, ..] if width == Width::W64 => rest = &rest[1..],
            _ => break,
        }
    }
    let is_vex = |second: u8| width == Width::W64 || second >= 0xC0;
    Some(match rest {
        [0xC5, second, byte, rest @ ..] if is_vex(*second) => Opcode { map: 1, byte: *byte, rest },
        [0xC4, second, _, byte, rest @ ..] if is_vex(*second) => {
            Opcode { map: second & 31, byte: *byte, rest }
        }
        [0x0F, 0x38, byte, rest @ ..] => Opcode { map: 2, byte: *byte, rest },
        [0x0F, 0x3A, byte, rest @ ..] => Opcode { map: 3, byte: *byte, rest },
        [0x0F, byte, rest @ ..] => Opcode { map: 1, byte: *byte, rest },
        [byte, rest @ ..] => Opcode { map: 0, byte: *byte, rest },
        [] => return None,
    })
}

/// Place of the ModRM byte, if the instruction has one.
pub(super) fn modrm_at(bytes: &[u8], width: Width) -> Option<usize> {
    let op = opcode(bytes, width)?;
    (!op.rest.is_empty()).then(|| bytes.len() - op.rest.len())
}

/// Must these bytes not run on the host? System calls, what the kernel emulates, what asks the machine.
pub fn is_kernels(bytes: &[u8], width: Width) -> bool {
    let Some(op) = opcode(bytes, width) else { return true };
    let modrm = op.rest.first().copied().unwrap_or(0);
    let (is_memory, reg) = (modrm < 0xC0, modrm >> 3 & 7);
    match (op.map, op.byte) {
        // INT 80h; and CCh bytes behind it are no concern.
        (0, 0xCD) => modrm == 0x80,
        // SYSCALL, SYSENTER, SYSEXIT, SYSRET.
        (1, 0x05 | 0x34 | 0x35 | 0x07) => true,
        // CPUID, RDTSC, RDPMC.
        (1, 0xA2 | 0x31 | 0x33) => true,
        // SLDT, STR: emulated under UMIP.
        (1, 0x00) => reg < 2,
        // SGDT, SIDT, SMSW: likewise.
        (1, 0x01) if is_memory => matches!(reg, 0 | 1 | 4),
        // VMCALL and VMMCALL go to the hypervisor, XGETBV and RDTSCP ask the machine, MONITORX, MWAITX, RDPRU …
        (1, 0x01) => {
            matches!(reg, 0 | 4)
                || matches!(modrm, 0xD0 | 0xD5..=0xDF | 0xEE | 0xEF | 0xF9..=0xFB | 0xFD..=0xFF)
        }
        // RDRAND, RDSEED, RDPID.
        (1, 0xC7) => !is_memory && reg >= 6,
        // UMONITOR, TPAUSE, UMWAIT; INCSSP.
        (1, 0xAE) if !is_memory => reg == 6 && has_mandatory(bytes) || reg == 5 && has_rep(bytes),
        // RDSSP is a NOP without shadow stacks: nothing to fear. GETSEC.
        (1, 0x37) => true,
        // XBEGIN, XABORT.
        (0, 0xC7 | 0xC6) => modrm == 0xF8,
        _ => false,
    }
}

fn has_mandatory(bytes: &[u8]) -> bool {
    bytes.iter().take_while(|b| **b != 0x0F).any(|b| matches!(b, 0x66 | 0xF2 | 0xF3))
}

fn has_rep(bytes: &[u8]) -> bool {
    bytes.iter().take_while(|b| **b != 0x0F).any(|b| *b == 0xF3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_calls_never_run() {
        for bytes in
            [&[0xCD, 0x80][..], &[0x66, 0x0F, 0x05], &[0xF3, 0x0F, 0x34], &[0x48, 0x0F, 0x05]]
        {
            assert!(is_kernels(bytes, Width::W64), "{bytes:x?}");
        }
        assert!(!is_kernels(&[0xCD, 0x81], Width::W32));
        assert!(!is_kernels(&[0x48, 0x01, 0x05], Width::W32));
    }
}
