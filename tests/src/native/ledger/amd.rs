//! Differences on AMD's processors: measured on Zen 5.

use x86::flags;
use x86::insn::prefix;

use super::known::{AC, END, GP, MF, PF, SS, UD};
use super::{Entry, Verdict, opcode};

const FAR: [&str; 8] = ["CALLF", "JMPF", "LOAD_FAR", "IRET", "RETF", "RETF_N", "BOUND", "les"];

/// All of them.
pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        name: "INT1 in a virtual machine",
        verdict: Verdict::Host,
        why: "#DB of INT1 is a trap. Hypervisors that intercept #DB on AMD re-inject it at the instruction itself.",
        applies: |k| k.name == "INT1" && k.same_but(|o| o.ip = 0),
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
        name: "bases of null FS and GS",
        verdict: Verdict::Open,
        why: "AMD's older processors leave the base of FS and GS alone when they become null, later ones clear it and say so (AMD APM Vol. 3, \
              CPUID, Fn8000_0021 EAX: NullSelectClearsBase). Our guest of AMD's does not say so, and leaves it.",
        applies: |k| {
            let is_load = k.is(&["MOV_TO_SEG", "POP_SEG", "LOAD_FAR"]);
            is_load && k.is_long() && k.same_but(|o| o.bases = [0; 2])
        },
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
              the offset first, IRET the flags before CS, and so do we since; what is left has not been measured.",
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
        name: "#AC of vector operands",
        verdict: Verdict::Open,
        why: "SDM Vol. 1, \"Programming with AVX\", Memory Alignment: operands of 16 and 32 bytes raise no #AC. AMD demands 16 bytes of them, and \
              of MOVDIR64B's source, and so do we if the guest's processor is AMD's.",
        applies: |k| {
            let is_wide = k.mem.is_some_and(|m| m.bits >= 128) || k.is(&["MOVDIR64B"]);
            let is_misaligned = k.linear().is_some_and(|lin| lin & 15 != 0);
            k.host.vector == AC && k.case.flags & flags::AC != 0 && is_wide && is_misaligned
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
        why: "hosts report the pending exception first, and so do we since, but for CVTPI2PS and CVTPI2PD, where Intel's do not. What is \
              left has not been measured.",
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
        why: "ENTER reads old frame pointers and pushes in turn. AMD meets a stack that cannot be written at the first push, and so do we \
              since; what is left has not been measured.",
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
