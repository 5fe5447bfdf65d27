//! The disassembler's text against iced-x86's formatters, on normalised text.
//!
//! Both print the same instruction of the same bytes; what remains is style. [`STYLE`] lists by mnemonic
//! where the two spell differently on purpose; every other text must be equal.

use iced_x86::{
    Code, Decoder, DecoderOptions, Formatter, GasFormatter, Instruction, IntelFormatter,
};
use std::collections::BTreeMap;
use x86::decode::{Features, decode};
use x86::disasm::{Syntax, format};
use x86::insn::{CodeSize, Insn, prefix};

/// Table names whose spelling differs, and why.
const STYLE: &[(&str, &str)] = &[
    ("AAD", "we show base ten"),
    ("AAM", "we show base ten"),
    ("ARPL", "no suffix, as QEMU"),
    ("BOUND", "operands reversed as everywhere else, as QEMU; iced follows an old assembler"),
    ("BSF", "F3 does not make it TZCNT before that existed"),
    ("BSR", "F3 does not make it LZCNT before that existed"),
    ("ENTER", "no suffix, as QEMU"),
    ("ESC", "one mnemonic for every coprocessor opcode: there is no FPU"),
    ("IMUL3", "three operands, also when two are the same"),
    ("LAR", "the source is 16 bits wide"),
    ("LEA", "we show a segment override, though it means nothing"),
    ("LEAVE", "no suffix, as QEMU"),
    ("LLDT", "no suffix"),
    ("LOOP", "no suffix, as QEMU"),
    ("LOOPE", "no suffix, as QEMU"),
    ("LOOPNE", "no suffix, as QEMU"),
    ("LSL", "the source is 16 bits wide"),
    ("LTR", "no suffix"),
    ("MOVSX", "iced spells 16-bit from 16-bit movsxw"),
    ("MOVZX", "iced spells 16-bit from 16-bit movzxw"),
    ("MOV_TO_SEG", "the source is 16 bits wide"),
    ("NOP", "90 is NOP at every operand size"),
    ("NOP_HINT", "one operand, as QEMU"),
    ("SETcc", "no suffix, as QEMU"),
    ("SHL", "the second encoding (/6) is SHL too"),
    ("VERR", "no suffix, as QEMU"),
    ("VERW", "no suffix, as QEMU"),
    ("WAIT", "WAIT, as the manual"),
    ("WBINVD", "F3 does not make it WBNOINVD before that existed"),
    ("XLAT", "no operand, as QEMU"),
    ("ADCX", "no suffix, as binutils"),
    ("ADOX", "no suffix, as binutils"),
    ("CVTPD2DQ", "no length suffix"),
    ("CVTPD2PS", "no length suffix"),
    ("CVTTPD2DQ", "no length suffix"),
    ("FCOM", "aliases have names of their own, and ST(1) is shown"),
    ("FCOMP", "as FCOM"),
    ("FUCOM", "ST(1) is shown"),
    ("FUCOMP", "ST(1) is shown"),
    ("FADDP", "ST(1) is shown"),
    ("FMULP", "ST(1) is shown"),
    ("FSUBP", "ST(1) is shown"),
    ("FSUBRP", "ST(1) is shown"),
    ("FDIVP", "ST(1) is shown"),
    ("FDIVRP", "ST(1) is shown"),
    ("FSTP", "aliases have names of their own"),
    ("FXCH", "aliases have names of their own, and ST(1) is shown"),
    ("FLDCW", "no suffix, as binutils"),
    ("FNSTCW", "no suffix, as binutils"),
    ("FNSTSW", "no suffix, as binutils"),
    ("FLDENV", "no suffix, as binutils"),
    ("FNSTENV", "no suffix, as binutils"),
    ("FNSAVE", "no suffix, as binutils"),
    ("FRSTOR", "no suffix, as binutils"),
    ("MASKMOVQ", "the segment override is not shown"),
    ("MASKMOVDQU", "the segment override is not shown"),
    ("MOVMSKPD", "the result is 32 bits whatever REX.W"),
    ("MOVMSKPS", "as MOVMSKPD"),
    ("PEXTRW", "as MOVMSKPD"),
    ("PINSRW", "as MOVMSKPD"),
    ("PMOVMSKB", "as MOVMSKPD"),
    ("MOVSXD", "movslq at every size, as binutils"),
    ("PCMPESTRI", "the width of the lengths is not shown"),
    ("PCMPESTRM", "the width of the lengths is not shown"),
    ("RDRAND", "a suffix, as QEMU"),
    ("RDSEED", "a suffix, as QEMU"),
    ("MOVDIRI", "no suffix, as binutils"),
];

/// The same for Intel syntax only.
const STYLE_INTEL: &[(&str, &str)] = &[
    ("CALLF", "selector:offset, and no `far`"),
    ("CMPS", "the destination's ES is shown"),
    ("INS", "the destination's ES is shown"),
    ("JMPF", "selector:offset, and no `far`"),
    ("LODS", "the accumulator is shown"),
    ("MOVS", "the destination's ES is shown"),
    ("OUTS", "the port register is shown"),
    ("RETF", "RETF, as the manual"),
    ("RETF_N", "RETF, as the manual"),
    ("SCAS", "the accumulator is shown"),
    ("STOS", "the accumulator is shown"),
    ("BLENDVPD", "XMM0 is shown"),
    ("BLENDVPS", "XMM0 is shown"),
    ("PBLENDVB", "XMM0 is shown"),
    ("LGDT", "the image has ten bytes in 64-bit code"),
    ("LIDT", "as LGDT"),
    ("SGDT", "as LGDT"),
    ("SIDT", "as LGDT"),
    ("PREFETCH", "the operand has no size"),
    ("SYSEXIT", "no suffix"),
    ("SYSRET", "no suffix"),
    ("FADD_M", "ST is not shown beside memory"),
    ("FBLD", "ST is not shown beside memory"),
    ("FBSTP", "ST is not shown beside memory"),
    ("FDIVR_M", "ST is not shown beside memory"),
    ("FDIV_M", "ST is not shown beside memory"),
    ("FIADD", "ST is not shown beside memory"),
    ("FICOM", "ST is not shown beside memory"),
    ("FICOMP", "ST is not shown beside memory"),
    ("FIDIV", "ST is not shown beside memory"),
    ("FIDIVR", "ST is not shown beside memory"),
    ("FILD", "ST is not shown beside memory"),
    ("FIMUL", "ST is not shown beside memory"),
    ("FIST", "ST is not shown beside memory"),
    ("FISTP", "ST is not shown beside memory"),
    ("FISTTP", "ST is not shown beside memory"),
    ("FISUB", "ST is not shown beside memory"),
    ("FISUBR", "ST is not shown beside memory"),
    ("FLD", "ST is not shown beside memory"),
    ("FMUL_M", "ST is not shown beside memory"),
    ("FST", "ST is not shown beside memory"),
    ("FSUBR_M", "ST is not shown beside memory"),
    ("FSUB_M", "ST is not shown beside memory"),
    ("CLFLUSH", "as PREFETCH"),
    ("CLFLUSHOPT", "as PREFETCH"),
    ("CLWB", "as PREFETCH"),
    ("SHA256RNDS2", "XMM0 is shown"),
    ("CLZERO", "rAX is not shown, as binutils"),
    ("MOVDIR64B", "no size of memory that is no number, as binutils"),
];

const PC: u64 = 0x1000;

/// SplitMix64: the same numbers on every run.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }
}

/// One sample: prefixes now and then, half of the opcodes behind 0F.
fn sample(rng: &mut Rng) -> [u8; 15] {
    const PREFIXES: [u8; 10] = [0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF3];
    let mut bytes = [0; 15];
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&rng.next().to_le_bytes()[..chunk.len()]);
    }
    let choice = rng.next();
    let mut at = 0;
    if choice & 0x38 == 0 {
        // A VEX prefix; the top bits make it one outside 64-bit code too.
        bytes[0] = 0xC5;
        bytes[1] |= 0xC0;
        if choice & 0x40 != 0 {
            bytes[0] = 0xC4;
            bytes[1] = bytes[1] & 0xE0 | (1 + (choice >> 8) as u8 % 3);
        }
        return bytes;
    }
    if choice & 3 == 0 {
        bytes[at] = PREFIXES[(choice >> 8) as usize % PREFIXES.len()];
        at += 1;
    }
    if choice & 0x180 == 0 {
        bytes[at] = 0x40 | bytes[at] & 15; // REX in 64-bit code
        at += 1;
    }
    if choice & 4 == 0 {
        bytes[at] = 0x0F;
        if choice & 0x600 == 0 {
            bytes[at + 1] = if choice & 0x800 == 0 { 0x38 } else { 0x3A };
        }
    }
    bytes
}

/// One notation: no spaces, `sel,off` for far pointers, no override of the segment that is used anyway, no comma
/// for an absent index.
fn normalise(text: &str) -> String {
    let text = text
        .replace(' ', "")
        .replace(",)", ")")
        .replace("%es:(%di)", "(%di)")
        .replace("%es:(%edi)", "(%edi)")
        .replace("%es:(%rdi)", "(%rdi)")
        .replace("rex.wl", "l")
        .replace("lcallq*", "lcall*")
        .replace("ljmpq*", "ljmp*");
    let far =
        text.strip_prefix("lcall").or(text.strip_prefix("ljmp")).or(text.strip_prefix("call"));
    if far.is_some() { text.replace(":$", ",$") } else { text }
}

/// Our text, immediates that are shown as negative made unsigned at the operand size.
fn unsigned_immediates(text: &str, insn: &Insn) -> String {
    let mask = u64::MAX >> (64 - u32::from(insn.osz));
    let words = text.split(' ').map(|word| {
        let (dollar, number) = word.strip_prefix('$').map_or(("", word), |number| ("$", number));
        let (number, comma) = number.strip_suffix(',').map_or((number, ""), |number| (number, ","));
        let value = number.strip_prefix("-0x").map(|hex| u64::from_str_radix(hex, 16));
        match value.or_else(|| number.strip_prefix('-').map(|digit| digit.parse())) {
            Some(Ok(value)) => format!("{dollar}{:#x}{comma}", value.wrapping_neg() & mask),
            _ => word.to_owned(),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// iced's text without the prefixes and hints that newer processors or assemblers read into useless bytes.
fn without_hints(text: &str) -> String {
    const HINTS: [&str; 13] = [
        "xacquire ",
        "xrelease ",
        "notrack ",
        "bnd ",
        "data16 ",
        "data32 ",
        "addr16 ",
        "addr32 ",
        ",pt",
        ",pn",
        ".byte 0x66; ",
        "hint-taken ",
        "hint-not-taken ",
    ];
    let text = HINTS.iter().fold(text.to_owned(), |text, hint| text.replace(hint, ""));
    if text.contains("ret") { text.replace("repne ", "").replace("rep ", "") } else { text }
}

/// The same instruction without a segment override that changes nothing: iced does not show those.
fn without_idle_override(insn: &Insn) -> Insn {
    let mut plain = *insn;
    plain.prefixes &= !prefix::SEG;
    let same = (0..insn.info().forms.len()).all(|i| insn.operand(i) == plain.operand(i));
    if same { plain } else { *insn }
}

fn gas() -> GasFormatter {
    let mut formatter = GasFormatter::new();
    numbers(formatter.options_mut());
    formatter.options_mut().set_gas_show_mnemonic_size_suffix(true);
    formatter
}

fn intel() -> IntelFormatter {
    let mut formatter = IntelFormatter::new();
    numbers(formatter.options_mut());
    formatter.options_mut().set_memory_size_options(iced_x86::MemorySizeOptions::Always);
    formatter
}

fn numbers(options: &mut iced_x86::FormatterOptions) {
    options.set_hex_prefix("0x");
    options.set_hex_suffix("");
    options.set_uppercase_hex(false);
    options.set_small_hex_numbers_in_decimal(true);
    options.set_branch_leading_zeros(false);
    options.set_displacement_leading_zeros(false);
    options.set_add_leading_zero_to_hex_numbers(false);
    options.set_show_branch_size(false);
    options.set_signed_memory_displacements(true);
    options.set_rip_relative_addresses(true);
    options.set_use_pseudo_ops(false);
}

/// What one syntax has shown.
#[derive(Default)]
struct Tally {
    compared: u64,
    equal: u64,
    different: BTreeMap<&'static str, (u64, String)>,
}

impl Tally {
    fn compare(&mut self, insn: &Insn, ours: &str, theirs: &str) {
        self.compared += 1;
        if normalise(&unsigned_immediates(ours, insn)) == normalise(&without_hints(theirs)) {
            self.equal += 1;
            return;
        }
        let entry = self.different.entry(insn.info().name).or_insert_with(|| (0, String::new()));
        entry.0 += 1;
        if entry.0 < 6 {
            entry.1 += &format!("\n      {ours:40} | {theirs}");
        }
    }

    /// Prints, and gives the rows that differ without being in the ledgers.
    fn verdict(&self, name: &str, ledgers: &[&[(&str, &str)]]) -> Vec<&'static str> {
        let percent = 100.0 * self.equal as f64 / self.compared as f64;
        println!("{name}: {} of {} texts equal ({percent:.2} %)", self.equal, self.compared);
        for (row, (count, examples)) in &self.different {
            println!("{count:8} {row}{examples}");
        }
        let is_explained = |row: &&&str| {
            ledgers.iter().any(|ledger| ledger.iter().any(|(name, _)| *name == **row))
        };
        self.different.keys().filter(|row| !is_explained(row)).copied().collect()
    }
}

#[test]
fn texts_agree_with_iced() {
    let (mut att_tally, mut intel_tally) = (Tally::default(), Tally::default());
    let (mut gas, mut intel) = (gas(), intel());
    let mut rng = Rng(5);
    for i in 0..600_000 {
        let bytes = sample(&mut rng);
        let sizes = [(CodeSize::Bits16, 16), (CodeSize::Bits32, 32), (CodeSize::Bits64, 64)];
        let (size, bits) = sizes[i % 3];
        let Ok(ours) = decode(&bytes, size, &Features::ALL) else { continue };
        let ours = without_idle_override(&ours);
        let theirs: Instruction = Decoder::with_ip(bits, &bytes, PC, DecoderOptions::NONE).decode();
        if theirs.code() == Code::INVALID || theirs.len() != usize::from(ours.len) {
            continue;
        }
        let mut text = String::new();
        gas.format(&theirs, &mut text);
        att_tally.compare(&ours, &format(&ours, PC, Syntax::Att), &text);
        text.clear();
        intel.format(&theirs, &mut text);
        intel_tally.compare(&ours, &format(&ours, PC, Syntax::Intel), &text);
    }
    let (att, intel) =
        (att_tally.verdict("AT&T", &[STYLE]), intel_tally.verdict("Intel", &[STYLE, STYLE_INTEL]));
    assert!(att.is_empty() && intel.is_empty(), "AT&T {att:?}, Intel {intel:?}");
}
