//! Differences on Intel's processors: measured on Sapphire Rapids.

use x86::insn::prefix;

use super::known::{AC, END, GP, PF, SS, UD, XM};
use super::{Entry, Verdict, has_mandatory, opcode};

/// Masked moves whose mask is a vector's.
const MASKED: [&str; 4] = ["vmaskmovps", "vmaskmovpd", "vpmaskmovd", "vpmaskmovq"];
const STRINGS: [&str; 5] = ["MOVS", "STOS", "LODS", "CMPS", "SCAS"];
const FAULTS: [u8; 4] = [PF, GP, SS, AC];

/// All of them.
pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        name: "end of a 4 GiB segment",
        verdict: Verdict::Open,
        why: "an operand that begins below FFFFFFFFh and ends above, where the limit is FFFFFFFFh: SDM Vol. 3A, \"Limit Checking\", calls it \
              implementation-specific. Intel's go on, to a #PF mostly; AMD's and we refuse.",
        applies: |k| k.crosses_4_gib() && k.ended(&[PF, AC, END, XM], &[GP, SS]),
    },
    Entry {
        name: "no instruction of ours",
        verdict: Verdict::Open,
        why: "undefined encodings whose last bytes cannot be fetched, or that have more than 15, where hosts fetch first (SDM Vol. 3A, \
              \"Priority Among Concurrent Events\", does not say how much is fetched).",
        applies: |k| {
            const FETCH: u32 = 0x10;
            let is_fetch = k.host.vector == PF && k.host.code & FETCH != 0;
            k.name.is_empty() && k.ours.vector == UD && (is_fetch || k.host.vector == GP)
        },
    },
    Entry {
        name: "extensions that the tables lack",
        verdict: Verdict::Open,
        why: "F2 before SERIALIZE makes XSUSLDTRK of it, F3 before XSAVE PTWRITE, and F2 or F3 before MOVDIR64B ENQCMD or ENQCMDS.",
        applies: |k| {
            let is_it = opcode(k.case.code(), k.case.width).is_some_and(|op| {
                let modrm = op.rest.first().copied().unwrap_or(0);
                match (op.map, op.byte) {
                    (1, 0x01) => modrm == 0xE8,
                    (1, 0xAE) => modrm >> 3 & 7 == 4,
                    (2, 0xF8) => true,
                    _ => false,
                }
            });
            k.name.is_empty() && k.ours.vector == UD && is_it && has_mandatory(k.case.code())
        },
    },
    Entry {
        name: "repeated strings by 32-bit registers in 64-bit code",
        verdict: Verdict::Open,
        why: "with a count of 0, or a fault before the first element, Intel's clear the upper halves of rCX, and of rSI and rDI for MOVS and STOS; \
              AMD's and we leave registers alone that have not moved. The manuals do not say.",
        applies: |k| {
            let is_rep = k.prefixes & (prefix::REP | prefix::REPNE) != 0;
            let is_it = k.is_long() && is_rep && k.prefixes & prefix::ADSIZE != 0;
            is_it
                && k.is(&STRINGS)
                && k.same_but(|o| {
                    for n in [1, 6, 7] {
                        o.gpr[n] &= 0xFFFF_FFFF;
                    }
                })
        },
    },
    Entry {
        name: "flags of a comparison that faults",
        verdict: Verdict::Open,
        why: "SDM Vol. 2, REP: CMPS and SCAS that fault push the flags from before the instruction. AMD's and we push those of the last \
              comparison.",
        applies: |k| {
            let is_rep = k.prefixes & (prefix::REP | prefix::REPNE) != 0;
            is_rep && k.is(&["CMPS", "SCAS"]) && k.host.vector != END && k.same_but(|o| o.flags = 0)
        },
    },
    Entry {
        name: "MMX stores that fault",
        verdict: Verdict::Open,
        why: "Intel's have then entered MMX already: TOP is 0 and all registers are in use. AMD's and we have done nothing.",
        applies: |k| {
            let is_it =
                k.is(&["MOVNTQ", "MOVQ_MMX", "MOVD_MMX"]) && FAULTS.contains(&k.host.vector);
            let is_order = k.ended(&[AC], &[GP, SS]);
            let is_alike = k.same_but(|o| o.fp = None);
            is_it && (is_alike || is_order && k.is_long())
        },
    },
    Entry {
        name: "VCVTPS2PH to memory",
        verdict: Verdict::Open,
        why: "Intel's convert first: flags are in MXCSR, or #XM is raised, when the store faults. AMD's and we check the operand first.",
        applies: |k| {
            let is_it = k.is(&["VCVTPS2PH"]) && FAULTS.contains(&k.ours.vector);
            let is_alike = k.same_but(|o| {
                if let Some(fp) = &mut o.fp {
                    fp.legacy[24..28].fill(0);
                }
            });
            is_it && (k.host.vector == XM || is_alike)
        },
    },
    Entry {
        name: "#AC of half-precision numbers",
        verdict: Verdict::Open,
        why: "SDM Vol. 2, exceptions type 11: VCVTPH2PS and VCVTPS2PH raise none. AMD's do, and so do we.",
        applies: |k| k.is(&["VCVTPH2PS", "VCVTPS2PH"]) && k.ours.vector == AC,
    },
    Entry {
        name: "x87 stores that are stopped by an exception",
        verdict: Verdict::Open,
        why: "with an unmasked exception nothing is stored. Intel's do not look at the operand's place then; AMD's and we do.",
        applies: |k| {
            const STORES: [&str; 5] = ["FST", "FSTP", "FIST", "FISTP", "FISTTP"];
            let is_pending = k.host.fp.as_ref().is_some_and(|fp| fp.legacy[2] & 0x80 != 0);
            let next = k.case.ip.wrapping_add(k.case.len.into());
            let is_done = k.host.vector == END || k.host.ip == next;
            (k.is(&STORES) || k.is(&["FBSTP"]))
                && is_pending
                && is_done
                && FAULTS.contains(&k.ours.vector)
        },
    },
    Entry {
        name: "faults of masked moves",
        verdict: Verdict::Open,
        why: "of elements that fault Intel's report the last byte in that page, and limits and canonical addresses before pages. We report \
              the first element.",
        applies: |k| {
            let is_alike = k.same_but(|o| o.cr2 >>= 12);
            k.is(&MASKED) && (is_alike || k.ended(&[GP, SS], &[PF]) && k.differs_in_fault())
        },
    },
    Entry {
        name: "masked moves around 4 GiB",
        verdict: Verdict::Open,
        why: "elements behind offset FFFFFFFFh lie at the segment's begin for Intel's; AMD's and we refuse them.",
        applies: |k| k.is(&MASKED) && k.ends_above_4_gib() && k.ended(&[END, PF], &[GP, SS]),
    },
    Entry {
        name: "checks of MASKMOV",
        verdict: Verdict::Open,
        why: "MASKMOVDQU and MASKMOVQ: SDM Vol. 2 leaves open what is checked where the mask selects nothing, and MASKMOVQ enters MMX before \
              it faults. Intel's check the whole operand for some masks; we the selected bytes.",
        applies: |k| {
            let is_alike = k.same_but(|o| (o.cr2, o.fp) = (0, None));
            k.is(&["MASKMOVDQU", "MASKMOVQ"])
                && (is_alike || k.ended(&FAULTS, &[END]) || k.ended(&FAULTS, &FAULTS))
        },
    },
    Entry {
        name: "MOVDIR64B with two faults",
        verdict: Verdict::Open,
        why: "a destination that is no line's and a source that cannot be read: Intel's report the source first, we the destination.",
        applies: |k| k.is(&["MOVDIR64B"]) && k.ended(&[PF, SS], &[GP]) && k.differs_in_fault(),
    },
    Entry {
        name: "order of gathers",
        verdict: Verdict::Open,
        why: "which element faults first may decide between two faults.",
        applies: |k| {
            let is_alike = k.same_but(|o| {
                (o.vector, o.code, o.cr2) = (0, 0, 0);
                o.fp = None;
            });
            k.name.contains("GATHER") && is_alike && k.ended(&[GP, SS, PF], &[GP, SS, PF])
        },
    },
    Entry {
        name: "stores before the fault",
        verdict: Verdict::Open,
        why: "an instruction of several stores or register writes that faults half-way: hosts have done the first ones. The manual \
              says the instruction can be restarted, which holds for both; we change nothing.",
        applies: |k| {
            const MANY: [&str; 7] = ["ENTER", "PUSHA", "POPA", "CALLF", "CALL", "FSTP", "FBSTP"];
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
        name: "order of #AC and other faults",
        verdict: Verdict::Open,
        why: "SDM Vol. 3A, \"Priority Among Concurrent Events\", leaves the order of faults of one instruction to the processor. \
              Of operands that are misaligned and not canonical, and of misaligned images, Intel's report #AC.",
        applies: |k| {
            let is_it = k.is_long() || k.is(&["FXSAVE", "FXRSTOR"]);
            is_it && k.ended(&[AC], &[GP, SS]) && k.differs_in_fault()
        },
    },
    Entry {
        name: "#GP and #SS of misaligned state images",
        verdict: Verdict::Open,
        why: "of an image beyond the stack segment that is also misaligned hosts say #GP.",
        applies: |k| k.is(&["FXSAVE", "FXRSTOR"]) && k.ended(&[GP], &[SS]),
    },
    Entry {
        name: "parts of large operands",
        verdict: Verdict::Open,
        why: "an image or an 80-bit number that lies in two pages, or at a segment's end: which part is tried first shows \
              in CR2, or in which of two faults comes.",
        applies: |k| {
            const IMAGES: [&str; 6] =
                ["FXSAVE", "FXRSTOR", "FNSAVE", "FRSTOR", "FNSTENV", "FLDENV"];
            let is_large = k.is(&IMAGES) || k.mem.is_some_and(|m| m.bits == 80);
            is_large && k.ended(&FAULTS, &[PF, GP, SS]) && k.differs_in_fault()
        },
    },
    Entry {
        name: "CALL that cannot push nor jump",
        verdict: Verdict::Open,
        why: "a target that is not canonical or beyond the limit, and a stack that cannot be written: hosts push first.",
        applies: |k| {
            let is_alike = k.same_but(|o| {
                (o.vector, o.code, o.cr2) = (0, 0, 0);
                o.changes = Default::default();
            });
            k.is(&["CALL", "CALLF"]) && is_alike && k.ended(&[PF, SS, AC], &[GP])
        },
    },
];
