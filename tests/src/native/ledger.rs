//! What is not compared, and why: the one place for it.
//!
//! First what never runs on the host, because the kernel would answer instead of the processor or the answer is the machine's
//! own ([`is_kernels`]). Then differences that are known ([`ENTRIES`]): those that the manuals leave open, or where makers differ,
//! each with what both sides do; and those that are our mistakes and not mended yet, which say so ([`Verdict::Ours`]).

use x86::decode::{MemOperand, Operand, ROWS, decode};
use x86::flags;
use x86::insn::prefix;

use super::cases::code_size;
use super::guest::{features, on_host};
use super::layout::segment;
use super::state::{Case, Output, Width};

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

/// A difference, and what entries ask about it.
pub struct Known<'a> {
    case: &'a Case,
    host: &'a Output,
    ours: &'a Output,
    /// Table name of the instruction, empty if the bytes are none.
    name: &'static str,
    mnemonic: &'static str,
    prefixes: u16,
    rex_w: bool,
    mem: Option<MemOperand>,
}

const UD: u8 = 6;
const END: u8 = 3;
const SS: u8 = 12;
const GP: u8 = 13;
const PF: u8 = 14;
const MF: u8 = 16;
const AC: u8 = 17;

impl<'a> Known<'a> {
    fn new(case: &'a Case, host: &'a Output, ours: &'a Output) -> Self {
        let insn = decode(&case.bytes, code_size(case.width), features()).ok();
        let row = insn.map(|insn| &ROWS[usize::from(insn.row)]);
        let mem = insn.and_then(|insn| {
            (0..insn.info().forms.len()).find_map(|n| match insn.operand(n) {
                Operand::Mem(m) => Some(m),
                _ => None,
            })
        });
        Self {
            case,
            host,
            ours,
            name: row.map_or("", |row| row.name),
            mnemonic: row.map_or("", |row| row.mnemonic),
            prefixes: insn.map_or(0, |insn| insn.prefixes),
            rex_w: insn.is_some_and(|insn| insn.rex & 8 != 0),
            mem,
        }
    }

    fn is(&self, names: &[&str]) -> bool {
        names.contains(&self.mnemonic) || names.contains(&self.name)
    }

    /// The vectors: the host's is of the first list, ours of the second.
    fn ended(&self, host: &[u8], ours: &[u8]) -> bool {
        host.contains(&self.host.vector) && ours.contains(&self.ours.vector)
    }

    fn is_long(&self) -> bool {
        self.case.width == Width::W64
    }

    /// Both fault alike but for what `forget` takes out.
    fn same_but(&self, forget: fn(&mut Output)) -> bool {
        let (mut host, mut ours) = (self.host.clone(), self.ours.clone());
        forget(&mut host);
        forget(&mut ours);
        super::compare::differences(self.case, &host, &ours).is_empty()
    }

    /// Does the effective address, without a segment's base, leave the canonical ones?
    fn has_odd_offset(&self) -> bool {
        let Some(m) = self.mem.filter(|m| m.seg >= 4 && m.asz == 64) else { return false };
        let gpr = |n: Option<u8>| n.map_or(0, |n| self.case.gpr[usize::from(n)]);
        let next = if m.rip { self.case.ip.wrapping_add(self.case.len.into()) } else { 0 };
        let off = gpr(m.base)
            .wrapping_add(gpr(m.index) << m.scale)
            .wrapping_add(m.disp.cast_unsigned())
            .wrapping_add(next);
        let is_odd = |a: u64| (a.cast_signed() << 16 >> 16).cast_unsigned() != a;
        is_odd(off) || is_odd(off.wrapping_add(u64::from(m.bits / 8).max(1) - 1))
    }

    /// Did the host refuse a conditional branch that ends with its segment, where we take it?
    fn is_refused_at_limit(&self) -> bool {
        let last = self.case.ip.wrapping_add(u64::from(self.case.len)).wrapping_sub(1);
        let is_at_end = !self.is_long() && last == u64::from(segment(self.case.seg[1]).limit);
        let is_untouched = (self.host.ip, self.host.code) == (self.case.ip, 0)
            && self.host.gpr[1] as u32 == self.case.gpr[1] as u32;
        is_at_end
            && is_untouched
            && self.is(&["Jcc", "LOOP", "LOOPE", "LOOPNE", "JCXZ"])
            && self.ended(&[GP], &[END, PF])
    }

    fn is_x87_or_mmx(&self) -> bool {
        let first = self.case.code().iter().find(|b| matches!(b, 0xD8..=0xDF | 0x0F));
        first.is_some()
    }
}

const FAR: [&str; 8] = ["CALLF", "JMPF", "LOAD_FAR", "IRET", "RETF", "RETF_N", "BOUND", "les"];

/// All of them.
pub const ENTRIES: [Entry; 28] = [
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
        name: "INT1 in a virtual machine",
        verdict: Verdict::Host,
        why: "#DB of INT1 is a trap. Hypervisors that intercept #DB on AMD re-inject it at the instruction itself.",
        applies: |k| k.name == "INT1" && k.same_but(|o| o.ip = 0),
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
    Entry {
        name: "no instruction of ours",
        verdict: Verdict::Open,
        why: "bytes with a prefix too many that the tables do not have: SSE4a behind F2 and F3, LOCK VERW which AMD executes, \
              undefined encodings whose last bytes cannot be fetched, where hosts fetch first (SDM Vol. 3A, \"Priority Among \
              Concurrent Events\", does not say how much is fetched).",
        applies: |k| k.name.is_empty() && k.ours.vector == UD,
    },
    Entry {
        name: "UD0 and UD1 have no ModRM on AMD",
        verdict: Verdict::Open,
        why: "Intel's newer processors fetch ModRM and operand first; AMD raises #UD by the opcode alone.",
        applies: |k| {
            // With a prefix too many, too: then the bytes are no instruction of ours.
            let is_it = opcode(k.case.code(), k.case.width)
                .is_some_and(|op| op.map == 1 && matches!(op.byte, 0xFF | 0xB9));
            is_it && k.host.vector == UD
        },
    },
    Entry {
        name: "PREFETCH of a register",
        verdict: Verdict::Open,
        why: "0F 0D with a register operand is a NOP on Intel, #UD on AMD.",
        applies: |k| k.name == "NOP_HINT" && k.host.vector == UD,
    },
    Entry {
        name: "F3 before LOOPNE",
        verdict: Verdict::Open,
        why: "reserved use of a prefix: AMD takes F3 E0 for LOOPE.",
        applies: |k| k.is(&["LOOPNE", "LOOPE"]) && k.prefixes & (prefix::REP | prefix::REPNE) != 0,
    },
    Entry {
        name: "conditional branch at the end of a segment",
        verdict: Verdict::Open,
        why: "a taken Jcc, LOOP or JCXZ whose last byte is the code segment's last, and whose target is within the limit, goes \
              there: SDM Vol. 2 has #GP for a target beyond the limit only. AMD goes there, or raises #GP(0) at the branch, \
              with the same bytes and registers: state that programs do not see decides, the branch predictor's, it seems. \
              Measured on Zen 5 by local descriptors, in 16- and 32-bit code: of 90,000 runs each at 4 places, Jcc rel8, Jcc \
              rel32, LOOP, LOOPE and JECXZ arrive 17 to 71 times and fault else; at a random place each time 40 % arrive; a \
              loop of 1000 rounds closed by such a Jcc faults in one of its first 16 rounds, 20,000 times of 20,000. Code \
              warm or flushed, the next byte mapped or not: the same. With one byte more in the segment, with JMP, CALL and \
              RET, or not taken (#GP at the successor) the host always does what the manual says. We always arrive.",
        applies: |k| k.is_refused_at_limit(),
    },
    Entry {
        name: "alignment of SHA operands",
        verdict: Verdict::Open,
        why: "SDM Vol. 2 lists SHA under exceptions type 4, which demands aligned operands; AMD takes any.",
        applies: |k| {
            k.mnemonic.starts_with("sha")
                && k.ours.vector == GP
                && k.mem.is_some_and(|m| m.bits == 128)
        },
    },
    Entry {
        name: "MXCSR.MM",
        verdict: Verdict::Open,
        why: "bit 17 (misaligned exception mask) exists on AMD only; elsewhere loading it is #GP. We follow Intel.",
        applies: |k| k.is(&["LDMXCSR", "FXRSTOR", "XRSTOR"]) && k.ended(&[END, PF, SS, AC], &[GP]),
    },
    Entry {
        name: "near branches with 66 in 64-bit code",
        verdict: Verdict::Open,
        why: "Intel ignores the prefix; AMD truncates the target to 16 bits, and CALL pushes so much. We follow Intel. Its displacement has two \
              bytes less there, too: at a page's end LOCK is found to be wrong before the next page is asked for.",
        applies: |k| {
            const NEAR: [&str; 8] =
                ["CALL", "JMP", "RET", "RET_N", "Jcc", "LOOP", "LOOPE", "LOOPNE"];
            let is_near = k.is(&NEAR) || k.is(&["JCC", "JCXZ", "call", "jmp", "ret"]);
            let code = k.case.code();
            let is_branch = |b: &u8| matches!(b, 0x80..=0x8F | 0xE8 | 0xE9);
            let is_cut = k.name.is_empty() && k.ended(&[UD], &[PF]) && code.iter().any(is_branch);
            k.is_long() && (is_near || is_cut) && code.contains(&0x66)
        },
    },
    Entry {
        name: "far pointers with 64-bit offset",
        verdict: Verdict::Open,
        why: "REX.W makes the offset in memory 64 bits wide on Intel; AMD has 32 at most. We follow Intel.",
        applies: |k| k.is_long() && k.rex_w && k.is(&FAR),
    },
    Entry {
        name: "offsets beyond the canonical ones",
        verdict: Verdict::Open,
        why: "the manuals ask for a canonical linear address; AMD also raises #GP when the offset alone, before FS or GS base \
              is added, is none.",
        applies: |k| {
            {
                // Bit strings and strings have offsets that the operand does not tell.
                let has_base = k.case.code().iter().any(|b| matches!(b, 0x64 | 0x65));
                let is_string =
                    k.is(&["bt", "bts", "btr", "btc", "LODS", "MOVS", "CMPS", "OUTS", "XLAT"]);
                let is_odd = k.has_odd_offset() || has_base && is_string;
                k.is_long() && k.host.vector == GP && k.ours.vector != GP && is_odd
            }
        },
    },
    Entry {
        name: "order of far loads",
        verdict: Verdict::Open,
        why: "which part of a far pointer or frame is read first shows in CR2, or in which of two faults comes. AMD reads \
              the offset first, IRET the flags before CS.",
        applies: |k| {
            k.is(&FAR)
                && (k.same_but(|o| (o.cr2, o.code) = (0, 0))
                    || k.ended(&[PF, SS, GP, 11], &[PF, GP, SS, 11]))
        },
    },
    Entry {
        name: "stores before the fault",
        verdict: Verdict::Open,
        why: "an instruction of several stores or register writes that faults half-way: AMD has done the first ones. The manual \
              says the instruction can be restarted, which holds for both; we change nothing.",
        applies: |k| {
            const MANY: [&str; 12] = [
                "ENTER",
                "PUSHA",
                "POPA",
                "CALLF",
                "CALL",
                "FNSAVE",
                "FNSTENV",
                "FXSAVE",
                "XSAVE",
                "MASKMOVDQU",
                "MASKMOVQ",
                "VMASKMOVPS_STORE",
            ];
            let is_fault = k.host.vector != END && k.host.vector == k.ours.vector;
            k.is(&MANY)
                && is_fault
                && k.same_but(|o| {
                    o.changes = Default::default();
                    o.gpr = [0; 16];
                })
        },
    },
    Entry {
        name: "ARPL without need to write",
        verdict: Verdict::Open,
        why: "AMD reads, and writes only if it has something to change; we ask for write access at once.",
        applies: |k| k.name == "ARPL" && matches!(k.ours.vector, PF | GP | SS),
    },
    Entry {
        name: "mask of an interrupted gather",
        verdict: Verdict::Open,
        why: "the manual expands the mask's elements before the first load; AMD leaves those that were not loaded as they were.",
        applies: |k| {
            let is_it = k.name.contains("GATHER") && k.host.vector != END;
            // Which element faults first may decide between two faults.
            is_it && (k.same_but(|o| o.fp = None) || k.ended(&[GP, SS, PF], &[GP, SS, PF]))
        },
    },
    Entry {
        name: "order of #AC and other faults",
        verdict: Verdict::Open,
        why: "SDM Vol. 3A, \"Priority Among Concurrent Events\", leaves the order of faults of one instruction to the processor. \
              Of operands that are misaligned and also not there, AMD tells the alignment first, mostly.",
        applies: |k| {
            let faults = [PF, GP, SS, MF, 19];
            k.ended(&[AC], &faults) || k.ended(&faults, &[AC])
        },
    },
    Entry {
        name: "#AC of FXSAVE and FXRSTOR",
        verdict: Verdict::Open,
        why: "SDM Vol. 2, FXSAVE: whether a misaligned operand raises #AC or #GP with alignment checking on varies.",
        applies: |k| k.is(&["FXSAVE", "FXRSTOR"]) && k.host.vector == AC,
    },
    Entry {
        name: "order of a pending #MF and faults of the operand",
        verdict: Verdict::Open,
        why: "hosts report the pending exception first. The manual does not say.",
        applies: |k| k.ended(&[MF], &[PF, GP, SS, AC]) && k.is_x87_or_mmx(),
    },
    Entry {
        name: "#GP and #SS of misaligned state images",
        verdict: Verdict::Open,
        why: "of an image beyond the stack segment that is also misaligned hosts say #GP.",
        applies: |k| k.ended(&[GP], &[SS]) && k.mem.is_some_and(|m| m.bits == 0 || m.bits > 256),
    },
    Entry {
        name: "parts of large operands",
        verdict: Verdict::Open,
        why: "an image or an 80-bit number that lies in two pages, or at a segment's end: which part is tried first shows \
              in CR2, or in which of two faults comes.",
        applies: |k| {
            let is_large = k.mem.is_some_and(|m| m.bits == 0 || m.bits == 80 || m.bits > 256);
            let faults = [PF, GP, SS];
            is_large && k.ended(&faults, &faults) && !k.is(&["CLFLUSHOPT", "CLFLUSH"])
        },
    },
    Entry {
        name: "checks of masked stores",
        verdict: Verdict::Open,
        why: "MASKMOVDQU and MASKMOVQ: SDM Vol. 2 leaves open what is checked where the mask selects nothing. AMD checks the \
              whole operand, alignment included, and reports its first byte; we the selected bytes.",
        applies: |k| {
            let faults = [PF, GP, SS, AC];
            k.is(&["MASKMOVDQU", "MASKMOVQ"])
                && (k.ended(&faults, &[END]) || k.ended(&faults, &faults))
        },
    },
    Entry {
        name: "CALL that cannot push nor jump",
        verdict: Verdict::Open,
        why: "a target that is not canonical or beyond the limit, and a stack that cannot be written: AMD pushes first.",
        applies: |k| k.is(&["CALL", "call"]) && k.ended(&[PF, SS, AC], &[GP]),
    },
    Entry {
        name: "order of ENTER",
        verdict: Verdict::Open,
        why: "ENTER reads old frame pointers and pushes in turn. AMD meets a stack that cannot be written at the first push; we \
              read all before we write.",
        applies: |k| k.name == "ENTER" && k.ended(&[PF, SS, AC], &[PF, SS, AC]),
    },
    Entry {
        name: "VEX.W in 32-bit code",
        verdict: Verdict::Open,
        why: "VPINSRD and VPEXTRD with W1 outside 64-bit mode: SDM Vol. 2 says that W is ignored, AMD raises #UD.",
        applies: |k| !k.is_long() && k.rex_w && k.is(&["PINSRD", "PEXTRD"]) && k.host.vector == UD,
    },
    Entry {
        name: "control registers that are none",
        verdict: Verdict::Open,
        why: "MOV to a control register that does not exist: #UD, or #GP since the level is wrong; the order is open.",
        applies: |k| k.is(&["MOV_CR", "MOV_DR"]) && k.ended(&[GP, UD], &[GP, UD]),
    },
];

/// The entry that explains a difference, if one does.
pub fn explain(case: &Case, host: &Output, ours: &Output) -> Option<&'static Entry> {
    let known = Known::new(case, host, ours);
    ENTRIES.iter().find(|entry| (entry.applies)(&known))
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
