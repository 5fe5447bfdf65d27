//! Cases from the tables: a row's encodings, prefixes legal and not, and state that takes every path of its body.
//!
//! [`batch`] gives the same cases for the same row, width and seed, whatever other rows there are. Bytes come from
//! [`isa_spec::encode`]; registers are then set so that memory operands lie where the case wants them: in
//! the middle of a page, across two, at a segment's end, nowhere.

use isa_spec::encode::{Options, encode};
use isa_spec::model::{Form, Isa, Row};
use x86::decode::{MemOperand, Operand, decode};
use x86::insn::{CodeSize, Insn, prefix};

use super::guest::features;
use super::layout::{
    AREA, CODE, CODE_END, DATA, DATA_SEGMENTS, PAGE, SELECTORS, STACK, code_selector, segment, sel,
};
use super::ledger::{is_kernels, modrm_at};
use super::state::{Case, Patch, Width};
use super::values;
use super::view::{INT3, Image};
use crate::Rng;

/// Cases with the same bytes: translating them once will do.
pub const SAME_BYTES: usize = 4;
/// Carry, parity, adjust, zero, sign, overflow.
const ARITH: u32 = 0x8D5;
const DF: u32 = 1 << 10;
const AC: u32 = 1 << 18;
const ID: u32 = 1 << 21;

/// Cases of a row, and the memory they run on.
pub struct Batch {
    /// The data pages.
    pub image: Image,
    /// The cases.
    pub cases: Vec<Case>,
}

/// `count` cases of a row in code of a width; none if the row has no encoding there.
pub fn batch(isa: &Isa, row: usize, width: Width, seed: u64, count: usize) -> Batch {
    let data = &isa.rows[row];
    let name = format!("{}/{}", isa.insns[data.insn].name, data.opcode.text);
    let mut rng = Rng::new(hash(&name) ^ hash(&format!("{seed}/{}", width.bits())));
    let image = Image::new(values::image(&mut rng, width));
    let mut maker = Maker { isa, row, data, width, rng };
    let mut cases = Vec::with_capacity(count);
    let mut misses = 0;
    while cases.len() < count && misses < 64 {
        let Some(bytes) = maker.bytes() else {
            misses += 1;
            continue;
        };
        for _ in 0..SAME_BYTES.min(count - cases.len()) {
            cases.push(maker.case(&bytes));
        }
    }
    Batch { image, cases }
}

/// FNV-1a.
fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xCBF2_9CE4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01B3))
}

/// The code size as the decoder names it.
pub const fn code_size(width: Width) -> CodeSize {
    match width {
        Width::W16 => CodeSize::Bits16,
        Width::W32 => CodeSize::Bits32,
        Width::W64 => CodeSize::Bits64,
    }
}

/// Does a row touch floating-point or vector state?
fn uses_fp(row: &Row) -> bool {
    ["x87", "mmx", "sse", "avx", "wait"].iter().any(|attr| row.attrs.has(attr))
}

struct Maker<'a> {
    isa: &'a Isa,
    row: usize,
    data: &'a Row,
    width: Width,
    rng: Rng,
}

impl Maker<'_> {
    /// An encoding of the row, now and then with prefixes it did not ask for.
    fn bytes(&mut self) -> Option<Vec<u8>> {
        let options = self.options();
        let rng = &mut self.rng;
        let encoded = encode(self.isa, self.row, &options, &mut || rng.draw())?;
        let mut bytes = encoded.bytes;
        if self.rng.once_in(6) {
            const PREFIXES: [u8; 11] =
                [0x66, 0x67, 0xF2, 0xF3, 0xF0, 0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65];
            for _ in 0..=self.rng.below(2) {
                bytes.insert(0, *self.rng.pick(&PREFIXES));
            }
            // Too long.
            while self.rng.once_in(24) || bytes.len() == 14 {
                bytes.insert(0, *self.rng.pick(&PREFIXES));
            }
        }
        (bytes.len() <= 16 && !is_kernels(&bytes, self.width)).then_some(bytes)
    }

    fn options(&mut self) -> Options {
        let rng = &mut self.rng;
        let is_near = !rng.once_in(8);
        let mut reach = || *rng.pick(&[0, 0x7F, 0x200, i32::MAX]);
        let disp = -reach()..=reach();
        let indexes = if rng.once_in(2) { 0xFF } else { 0 };
        let pointer = values::code_pointer(rng, self.width) as u32;
        Options {
            registers: if rng.once_in(2) { 0xFF } else { 0xCF },
            memory_forms: true,
            bases: 0xFF,
            high_bases: 0xFF,
            indexes,
            high_indexes: indexes,
            disp,
            absolute: Some((DATA as u32)..=(DATA as u32 + 0x7FFF)),
            rip: Some(0xA000..=0x1_2000),
            jump: if is_near { -0x200..=0x200 } else { i32::MIN..=i32::MAX },
            far: Some((*rng.pick(&SELECTORS), pointer..=pointer)),
            adsize: true,
            lock: true,
            rep: true,
            segments: 0x3F,
            state: 0xFF,
            vector_index: true,
            ..Options::registers_only(self.width.bits())
        }
    }

    /// A state to run the bytes on.
    fn case(&mut self, bytes: &[u8]) -> Case {
        let mut case = Case {
            width: self.width,
            bytes: [INT3; 16], // as what follows the instruction
            len: bytes.len() as u8,
            ip: 0,
            gpr: [0; 16],
            flags: self.flags(),
            seg: self.segments(),
            bases: self.bases(),
            patches: [Patch::NONE; 2],
            fp: None,
            row: None,
        };
        case.bytes[..bytes.len()].copy_from_slice(bytes);
        if uses_fp(self.data) {
            let mut fp = values::state(&mut self.rng);
            if self.data.attrs.has("vsib") && !self.rng.once_in(4) {
                values::make_indexes(&mut self.rng, &mut fp);
            }
            case.fp = Some(Box::new(fp));
        }
        for _ in 0..16 {
            case.ip = self.place(&case);
            let insn = decode(&case.bytes, code_size(self.width), features()).ok();
            case.row = insn.map(|insn| insn.row);
            if !insn.is_some_and(|insn| jumps_into_itself(&insn, &case)) {
                break;
            }
            // Another displacement: the byte before the end is part of it.
            let last = usize::from(case.len) - 1;
            case.bytes[last] = case.bytes[last].wrapping_add(0x20);
        }
        if let Ok(insn) = decode(&case.bytes, code_size(self.width), features()) {
            // A prefix may have made it shorter; what is left over would run, too.
            case.len = case.len.min(insn.len);
        }
        self.registers(&mut case);
        let insn = decode(&case.bytes, code_size(self.width), features()).ok();
        let target = insn.and_then(|insn| self.operands(&mut case, &insn));
        self.patches(&mut case, target);
        case
    }

    fn flags(&mut self) -> u32 {
        let rng = &mut self.rng;
        let df = if rng.once_in(4) { DF } else { 0 };
        let ac = if rng.once_in(16) { AC } else { 0 };
        let id = if rng.once_in(4) { ID } else { 0 };
        rng.draw() as u32 & ARITH | df | ac | id
    }

    fn segments(&mut self) -> [u16; 6] {
        let rng = &mut self.rng;
        let (code, stack, data): (&[u16], &[u16], u16) = match self.width {
            Width::W16 => (
                &[sel::TIGHT16, sel::EXEC_ONLY16],
                &[sel::SHORT16, sel::DOWN16, sel::SHORT32, sel::FLAT, sel::PAGES, sel::ODD],
                sel::DATA16,
            ),
            Width::W32 => (
                &[sel::BASED32, sel::TIGHT32, sel::EXEC_ONLY],
                &[sel::FLAT, sel::SHORT32, sel::DOWN32, sel::PAGES, sel::DATA16, sel::ODD],
                sel::DATA,
            ),
            Width::W64 => {
                let null = |rng: &mut Rng| if rng.once_in(2) { 0 } else { sel::DATA };
                return [null(rng), sel::CODE64, sel::DATA, null(rng), 0, 0];
            }
        };
        let mut list = [data; 6];
        list[1] = if rng.once_in(8) { *rng.pick(code) } else { code_selector(self.width) };
        list[2] = if rng.once_in(5) { *rng.pick(stack) } else { data };
        for n in [0, 3, 4, 5] {
            if rng.once_in(if n < 4 { 4 } else { 2 }) {
                list[n] = *rng.pick(&DATA_SEGMENTS);
            }
        }
        list
    }

    fn bases(&mut self) -> [u64; 2] {
        let rng = &mut self.rng;
        std::array::from_fn(|_| match rng.below(4) {
            0 => 0,
            1 => DATA,
            2 => DATA + rng.below(0x1000),
            _ => 0xFFFF_8000_0000_0000 | rng.draw() >> 20,
        })
    }

    /// Where the instruction stands: mostly alone in 64 bytes, now and then across the code pages or at their end.
    fn place(&mut self, case: &Case) -> u64 {
        let rng = &mut self.rng;
        let len = u64::from(case.len);
        let lin = match rng.below(24) {
            0 => CODE + PAGE - rng.below(len + 1),
            1 => CODE_END - rng.below(len + 2),
            2 => CODE + 0xFF8 + 1 - rng.below(len + 2), // the end of the tight segments
            _ => {
                let slot = rng.below(126);
                CODE + 64 * (slot + slot / 63) + rng.below(16)
            }
        };
        match self.width {
            Width::W64 => lin,
            _ => lin.wrapping_sub(segment(case.seg[1]).base) & 0xFFFF_FFFF,
        }
    }

    fn registers(&mut self, case: &mut Case) {
        let (rng, width) = (&mut self.rng, self.width);
        for n in 0..16 {
            case.gpr[n] = match rng.below(8) {
                0 if n > 0 => case.gpr[rng.below(n as u64) as usize],
                _ => values::register(rng, width),
            };
        }
        for (n, seg) in [(4, 2), (5, 2), (3, 3), (6, 3), (7, 0)] {
            let lin = match n {
                4 | 5 => values::stack_address(rng),
                _ => values::data_address(rng),
            };
            if n == 4 || rng.once_in(2) {
                let old = case.gpr[n];
                case.gpr[n] = offset(case, seg, lin);
                if width == Width::W16 && rng.once_in(4) {
                    case.gpr[n] = case.gpr[n] & 0xFFFF | old & 0xFFFF_0000;
                }
            }
        }
    }

    /// Makes memory operands lead where the case wants them; returns the linear address of one.
    fn operands(&mut self, case: &mut Case, insn: &Insn) -> Option<u64> {
        let row = &self.isa.rows[usize::from(insn.row)];
        let repeats = row.attrs.has("rep") || row.attrs.has("repcc");
        if repeats && insn.prefixes & (prefix::REP | prefix::REPNE) != 0 {
            let count = match self.rng.below(16) {
                0 => values::integer(&mut self.rng),
                1 | 2 => self.rng.below(0x400),
                _ => self.rng.below(12),
            };
            let mask = low(u32::from(insn.asz));
            case.gpr[1] = case.gpr[1] & !mask | count & mask;
        }
        let mut found = None;
        let forms = row.forms.iter().chain(row.attrs.with.iter().map(|(_, form)| form));
        for form in forms {
            match form {
                Form::X(_) => self.string(case, insn, 6, usize::from(insn.segment(3))),
                Form::Y(_) => self.string(case, insn, 7, 0),
                _ => {}
            }
        }
        for n in 0..row.forms.len() {
            if let Operand::Mem(m) = insn.operand(n) {
                let size = u64::from(m.bits / 8).max(1);
                let off = self.target(case, usize::from(m.seg), size)?;
                // A vector index is no general register.
                let index = m.index.filter(|_| !row.attrs.has("vsib"));
                solve(case, insn, &MemOperand { index, ..m }, off);
                found = Some(linear(case, usize::from(m.seg), off));
            }
        }
        found
    }

    fn string(&mut self, case: &mut Case, insn: &Insn, n: usize, seg: usize) {
        if let Some(off) = self.target(case, seg, 4) {
            let mask = low(u32::from(insn.asz));
            case.gpr[n] = case.gpr[n] & !mask | off & mask;
        }
    }

    /// An offset in a segment for an operand of so many bytes.
    fn target(&mut self, case: &Case, seg: usize, size: u64) -> Option<u64> {
        let rng = &mut self.rng;
        let align = if rng.once_in(4) { 1 } else { size.next_power_of_two() };
        let lin = match rng.below(20) {
            0..=9 => {
                let page = *rng.pick(&[0, 1, 3, 7, 0, 1, 3, 7, 2, 5]);
                DATA + page * PAGE + rng.below(PAGE - size) / align * align
            }
            10..=12 => (DATA + PAGE * rng.below(9)).wrapping_sub(rng.below(size + 2)),
            13 => CODE + rng.below(CODE_END - CODE),
            14 => AREA + 0x2_0000 + rng.below(0x1000),
            15 | 16 if self.width != Width::W64 => {
                let limit = u64::from(segment(case.seg[seg]).limit);
                return Some((limit + 2).wrapping_sub(rng.below(size + 3)));
            }
            17 => {
                let edge = *rng.pick(&[0, 0x8000, 0x1_0000, 0x8000_0000, 0x1_0000_0000]);
                return Some(rng.below(4) + edge - rng.below(size + 2).min(edge));
            }
            15 | 16 | 18 if self.width == Width::W64 => {
                const EDGES: [u64; 4] = [1 << 47, 0xFFFF_8000_0000_0000, 0, 1 << 63];
                return Some(rng.pick(&EDGES).wrapping_sub(rng.below(size + 2)));
            }
            _ => return None,
        };
        Some(offset(case, seg, lin))
    }

    fn patches(&mut self, case: &mut Case, target: Option<u64>) {
        if let Some(at) = target
            && !self.rng.once_in(4)
        {
            let bytes = self.operand_bytes(case);
            case.patches[0] = Patch { at, len: 64, bytes };
        }
        if self.rng.once_in(2) {
            let at = linear(case, 2, case.gpr[4]);
            let bytes = self.frame_bytes(case);
            case.patches[1] = Patch { at, len: 40, bytes };
        }
    }

    /// Contents of a memory operand.
    fn operand_bytes(&mut self, case: &Case) -> [u8; 64] {
        let (rng, width) = (&mut self.rng, self.width);
        let size = *rng.pick(&[1usize, 2, 4, 4, 8]);
        let mut bytes = Vec::with_capacity(80);
        match rng.below(8) {
            0 => {
                for n in [0, 2, 3, 1] {
                    bytes.extend(&case.gpr[n].to_le_bytes()[..size]);
                }
            }
            1 => {
                let value = case.gpr[rng.below(8) as usize].to_le_bytes();
                bytes.extend(value[..size].repeat(64 / size));
            }
            2 => {
                bytes.extend(&values::code_pointer(rng, width).to_le_bytes()[..size]);
                bytes.extend(&values::selector(rng).to_le_bytes()[..2]);
            }
            3 => {
                let (significand, exponent) = values::extended(rng);
                bytes.extend(significand.to_le_bytes());
                bytes.extend(exponent.to_le_bytes());
            }
            4 | 5 => {
                while bytes.len() < 64 {
                    bytes.extend(values::vector(rng).map(u64::to_le_bytes).as_flattened());
                }
            }
            _ => {
                while bytes.len() < 32 {
                    bytes.extend(&values::register(rng, width).to_le_bytes()[..size]);
                }
            }
        }
        while bytes.len() < 64 {
            bytes.extend(values::register(rng, width).to_le_bytes());
        }
        std::array::from_fn(|n| bytes[n])
    }

    /// What a return finds on the stack.
    fn frame_bytes(&mut self, case: &Case) -> [u8; 64] {
        let (rng, width) = (&mut self.rng, self.width);
        let size = *rng.pick(&[2usize, 4, 4, 8]);
        let lin = values::stack_address(rng);
        let mut words = [
            values::code_pointer(rng, width),
            u64::from(case.seg[1]),
            rng.draw() & 0x3F_FFFF & if rng.once_in(8) { !0 } else { !0x100 },
            offset(case, 2, lin),
            u64::from(case.seg[2]),
        ];
        if rng.once_in(2) {
            let n = rng.below(5) as usize;
            words[n] = match rng.below(3) {
                0 => values::selector(rng),
                1 => values::code_pointer(rng, width),
                _ => values::register(rng, width),
            };
        }
        let mut bytes = [0; 64];
        for (slot, word) in bytes.chunks_exact_mut(size).zip(words) {
            slot.copy_from_slice(&word.to_le_bytes()[..size]);
        }
        bytes
    }
}

/// All bits of a width.
const fn low(bits: u32) -> u64 {
    if bits >= 64 { u64::MAX } else { (1 << bits) - 1 }
}

/// Base of a segment in a case.
fn base(case: &Case, seg: usize) -> u64 {
    match (case.width, seg) {
        (Width::W64, 4 | 5) => case.bases[seg - 4],
        (Width::W64, _) => 0,
        _ => segment(case.seg[seg]).base,
    }
}

fn offset(case: &Case, seg: usize, lin: u64) -> u64 {
    let off = lin.wrapping_sub(base(case, seg));
    if case.width == Width::W64 { off } else { off & 0xFFFF_FFFF }
}

/// Linear address of an offset.
pub(super) fn linear(case: &Case, seg: usize, off: u64) -> u64 {
    let lin = off.wrapping_add(base(case, seg));
    if case.width == Width::W64 { lin } else { lin & 0xFFFF_FFFF }
}

/// A near jump to a byte of the instruction itself would run what is no instruction, or for ever.
fn jumps_into_itself(insn: &Insn, case: &Case) -> bool {
    (0..insn.info().forms.len()).any(|n| match insn.operand(n) {
        Operand::Rel { disp } => {
            let next = case.ip.wrapping_add(u64::from(insn.len));
            let target = next.wrapping_add(disp.cast_unsigned()) & low(u32::from(insn.osz));
            target.wrapping_sub(case.ip) < u64::from(case.len)
        }
        _ => false,
    })
}

/// Changes registers, or the displacement, so that a memory operand has offset `off`.
fn solve(case: &mut Case, insn: &Insn, m: &MemOperand, off: u64) {
    let mask = low(u32::from(m.asz));
    let put = |slot: &mut u64, value: u64| *slot = *slot & !mask | value & mask;
    let rest = off.wrapping_sub(m.disp.cast_unsigned());
    match (m.base.map(usize::from), m.index.map(usize::from)) {
        (Some(b), Some(i)) if b == i && m.scale == 0 => put(&mut case.gpr[b], rest >> 1),
        (Some(b), Some(i)) if b == i => {
            put(&mut case.gpr[b], rest.wrapping_mul(inverse(1 + (1 << m.scale))));
        }
        (Some(b), index) => {
            let index = index.map_or(0, |i| case.gpr[i] << m.scale);
            put(&mut case.gpr[b], rest.wrapping_sub(index));
        }
        (None, Some(i)) => put(&mut case.gpr[i], rest >> m.scale),
        (None, None) => {
            let next = case.ip.wrapping_add(u64::from(insn.len));
            let disp = if m.rip { off.wrapping_sub(next) } else { off };
            set_displacement(case, disp, m);
        }
    }
}

/// The number whose product with an odd `n` is 1.
const fn inverse(n: u64) -> u64 {
    let mut x = n;
    let mut round = 0;
    while round < 5 {
        x = x.wrapping_mul(2u64.wrapping_sub(n.wrapping_mul(x)));
        round += 1;
    }
    x
}

/// Writes the displacement of an operand that has neither base nor index.
fn set_displacement(case: &mut Case, disp: u64, m: &MemOperand) {
    let bytes = case.bytes;
    let code = &bytes[..usize::from(case.len)];
    let Some(modrm) = modrm_at(code, case.width) else { return };
    let len = if m.asz == 16 { 2 } else { 4 };
    let has_modrm = code[modrm] & 0xC7 == if m.asz == 16 { 6 } else { 5 };
    let has_sib = m.asz != 16 && code[modrm] & 0xC7 == 4;
    let old = m.disp.to_le_bytes();
    let from = match (has_modrm, has_sib) {
        (true, _) => modrm + 1,
        (_, true) => modrm + 2,
        _ => modrm, // moffs
    };
    // Only if the displacement is what stands there.
    if code.get(from..from + len) == Some(&old[..len]) {
        case.bytes[from..from + len].copy_from_slice(&disp.to_le_bytes()[..len]);
    }
}

const _: () = assert!(STACK > DATA);
