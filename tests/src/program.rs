//! Random programs, one row of the tables after the other.
//!
//! Jumps lead a little forward or back, stores may hit the program itself, and everything ends at a HLT sooner or
//! later, if only behind an exception. An insn that leaves flags undefined is mostly followed by one that defines them,
//! so that few programs depend on undefined flags; those that do are for the caller to find out.

use isa_spec::encode::{Options, encode, state_bits};
use isa_spec::model::{Form, Insn, Isa, Row};

use crate::world::{CODE, CODE_END, DATA, DATA_END, Kind, World};
use crate::{Rng, setup};

/// HLT.
const HLT: u8 = 0xF4;
/// How often a program runs through, if it has a loop around it.
const ROUNDS: u32 = 4;

/// Insns that give another result each time.
pub const FICKLE: [&str; 2] = ["RDRAND", "RDSEED"];

/// Rows sorted by how often they should come.
#[derive(Debug)]
pub struct Rows {
    /// Rows of each instruction that does something to registers, flags and memory.
    common: Vec<Vec<usize>>,
    /// Likewise, those that use FP or vector state.
    vector: Vec<Vec<usize>>,
    /// Rows of the others: privileged, mode-changing, raising.
    rare: Vec<Vec<usize>>,
}

impl Rows {
    /// Sorts the tables' rows.
    pub fn new(isa: &Isa) -> Self {
        let of = |n: usize| -> Vec<usize> {
            (0..isa.rows.len()).filter(|&r| isa.rows[r].insn == n).collect()
        };
        let (rare, common): (Vec<_>, Vec<_>) = (0..isa.insns.len())
            .filter(|n| !FICKLE.contains(&isa.insns[*n].name.as_str()))
            .map(|n| (is_rare(&isa.insns[n], &isa.rows[of(n)[0]]), of(n)))
            .partition(|(is_rare, _)| *is_rare);
        let strip = |list: Vec<(bool, Vec<usize>)>| -> Vec<Vec<usize>> {
            list.into_iter().map(|(_, rows)| rows).collect()
        };
        let (vector, common) = strip(common)
            .into_iter()
            .partition(|rows| rows.iter().all(|r| state_bits(&isa.rows[*r]) != 0));
        Self { common, vector, rare: strip(rare) }
    }
}

/// Ends, changes modes, is privileged, or raises more often than not.
fn is_rare(insn: &Insn, row: &Row) -> bool {
    const ATTRS: [&str; 8] = ["ends", "cpl0", "pe", "undef", "iobitmap", "iopl", "shadow", "vm86"];
    ATTRS.iter().any(|attr| row.attrs.has(attr))
        || insn.flags.written == 63 && insn.flags.read == 63 && insn.flags.system_written
        || row.forms.iter().any(|f| matches!(f, Form::Sw | Form::Seg(_) | Form::Mp | Form::Ap))
        || matches!(
            insn.name.as_str(),
            "HLT" | "RDPMC" | "INT3" | "INT1" | "RET" | "RET_N" | "BOUND" | "BOUND_AMD"
        )
}

/// A generator at work.
pub struct Generator<'a> {
    isa: &'a Isa,
    rows: &'a Rows,
    world: &'a World,
    rng: &'a mut Rng,
    code: Vec<u8>,
}

impl<'a> Generator<'a> {
    /// A generator for programs in a world.
    pub fn new(isa: &'a Isa, rows: &'a Rows, world: &'a World, rng: &'a mut Rng) -> Self {
        Self { isa, rows, world, rng, code: Vec::new() }
    }

    /// A program of about `len` insns.
    pub fn program(mut self, len: u64) -> Vec<u8> {
        let counter = self.counter();
        let has_loop = self.rng.once_in(3);
        if has_loop {
            self.set_counter(counter);
        }
        let top = self.code.len();
        let mut calls = Vec::new();
        for _ in 0..len {
            if self.rng.once_in(12) {
                calls.push(self.call());
            } else {
                self.step();
            }
        }
        if has_loop {
            self.count_down(counter, top);
        }
        self.code.push(HLT);
        if !calls.is_empty() {
            self.subroutine(&calls);
        }
        self.code
    }

    /// An insn, and mostly what makes its flags defined again.
    fn step(&mut self) {
        let row = self.choose();
        let options = self.options();
        let mut draw = || self.rng.draw();
        let Some(encoded) = encode(self.isa, row, &options, &mut draw) else { return };
        self.code.extend(&encoded.bytes);
        let insn = &self.isa.insns[self.isa.rows[row].insn];
        if insn.flags.undefined != 0 && !self.rng.once_in(8) {
            if self.rng.once_in(3) {
                self.code.extend([0x89, 0xC0 | (self.rng.draw() as u8 & 7)]); // mov reg, eax
            }
            self.code.extend([0x3C, self.rng.draw() as u8]); // cmp al, imm
        }
    }

    fn choose(&mut self) -> usize {
        // In real mode most of the rare ones go well.
        let list = if self.rng.once_in(if self.world.kind == Kind::Real { 12 } else { 40 }) {
            &self.rows.rare
        } else if self.world.vectors.is_some() && self.rng.once_in(2) {
            &self.rows.vector
        } else {
            &self.rows.common
        };
        let insn = self.rng.pick(list);
        *self.rng.pick(insn)
    }

    /// What the next insn may consist of.
    fn options(&mut self) -> Options {
        let rng = &mut *self.rng;
        let bases = 0b1110_1000;
        let (first, end) = if rng.once_in(8) { (CODE, CODE_END) } else { (DATA, DATA_END) };
        let low = self.world.offset(3, first);
        let absolute = low..=low.wrapping_add((end - first - 1) as u32).max(low);
        let is_long = self.world.kind == Kind::Long;
        let here = self.world.start - self.world.window + self.code.len() as u64;
        let rip = (first as i32 - here as i32)..=(end as i32 - here as i32);
        let has_index = rng.once_in(8);
        Options {
            mode: self.world.bits(),
            registers: *rng.pick(&[0b0000_0111, 0b0000_0111, 0b0000_0111, 0b1110_1111, 0xFF]),
            high_registers: *rng.pick(&[0b0001_0111, 0b0001_0111, 0b0001_0111, 0xFF]),
            register_forms: true,
            memory_forms: true,
            bases,
            high_bases: 0b1110_1000,
            indexes: if self.world.bits() == 16 {
                0b1100_0000
            } else if has_index {
                0b0000_0111
            } else {
                0
            },
            high_indexes: if has_index { 0b0001_0111 } else { 0 },
            disp: if rng.once_in(8) { -0x1000..=0x1000 } else { -0x20..=0x20 },
            absolute: (self.world.window == 0).then_some(absolute),
            rip: is_long.then_some(rip),
            jump: if rng.once_in(6) { -24..=40 } else { 0..=12 },
            far: Some((*rng.pick(&[0, setup::sel::CODE, setup::sel::FREE + 8]), 0x4000..=0x6FFF)),
            opsize: true,
            adsize: rng.once_in(if is_long { 12 } else { 2 }),
            lock: true,
            rep: true,
            segments: if rng.once_in(3) { 0b11_1101 } else { 0 },
            state: if self.world.vectors.is_some() { 0x1F } else { 0 },
            vectors: *rng.pick(&[0b11, 0b111, 0x8181, 0xFFFF]),
            vector_index: true,
        }
    }

    /// Address of the loop's counter, an offset in DS.
    fn counter(&self) -> u32 {
        self.world.offset(3, DATA + 0xFE0)
    }

    /// Bytes of a displacement or immediate: at most four.
    fn word_len(&self) -> usize {
        self.world.bits().min(32) as usize / 8
    }

    /// `word` as an address or an immediate of the code's width.
    fn push_word(&mut self, word: u32) {
        let len = self.word_len();
        self.code.extend(&word.to_le_bytes()[..len]);
    }

    /// ModRM of an absolute address beside `reg`; `behind` bytes of the insn follow.
    fn push_absolute(&mut self, reg: u8, address: u32, behind: usize) {
        self.code.push(reg << 3 | if self.world.bits() == 16 { 6 } else { 5 });
        let next = self.world.start + (self.code.len() + 4 + behind) as u64;
        let is_relative = self.world.bits() == 64;
        self.push_word(if is_relative { address.wrapping_sub(next as u32) } else { address });
    }

    /// mov word [counter], ROUNDS
    fn set_counter(&mut self, counter: u32) {
        self.code.push(0xC7);
        self.push_absolute(0, counter, self.word_len());
        self.push_word(ROUNDS);
    }

    /// dec word [counter]; jnz top
    fn count_down(&mut self, counter: u32, top: usize) {
        self.code.push(0xFF);
        self.push_absolute(1, counter, 0);
        self.code.extend([0x0F, 0x85]);
        let next = self.code.len() + self.word_len();
        self.push_word((top as u32).wrapping_sub(next as u32));
    }

    /// call, target to be filled in: where its displacement stands.
    fn call(&mut self) -> usize {
        self.code.push(0xE8);
        let at = self.code.len();
        self.push_word(0);
        at
    }

    /// A few insns and RET; all calls lead here.
    fn subroutine(&mut self, calls: &[usize]) {
        let target = self.code.len();
        let len = self.word_len();
        for &at in calls {
            let rel = (target - at - len) as u32;
            self.code[at..at + len].copy_from_slice(&rel.to_le_bytes()[..len]);
        }
        for _ in 0..self.rng.below(4) {
            self.step();
        }
        self.code.push(0xC3);
    }
}
