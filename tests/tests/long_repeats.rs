//! Repeated moves, fills and comparisons over several pages, whose frames lie elsewhere, twice, or not at all: on every engine they do what
//! one element after the other does, and leave off at the element that faults.

use stele_tests::{Bench, Ending, Engine, Rng, setup};

/// Where the insn stands.
const START: u64 = 0x4000;
/// First page of the region, and how many there are.
const FIRST: u64 = 0x80;
const PAGES: u64 = 24;
const ROUNDS: u32 = 400;
/// Page-table entries: present, accessed, dirty; writable.
const THERE: u64 = 0x61;
const WRITABLE: u64 = 2;
/// Numbers of the registers.
const RAX: usize = 0;
const RCX: usize = 1;
const RBX: usize = 3;
const RSP: usize = 4;
const RSI: usize = 6;
const RDI: usize = 7;

/// The entry of a page of the region: a frame, taken twice by some, read-only or absent.
fn entry(page: u64) -> u64 {
    let n = (page >> 12).wrapping_sub(FIRST);
    if n >= PAGES {
        return page | THERE | WRITABLE;
    }
    match n % 12 {
        11 => 0,
        7 => (FIRST + n) << 12 | THERE,
        // The frame of its neighbour.
        3 => (FIRST + n - 1) << 12 | THERE | WRITABLE,
        // Apart: frames in the other order.
        _ => ((FIRST + n) ^ 4) << 12 | THERE | WRITABLE,
    }
}

/// What it should come to: memory and registers, changed element by element.
struct Model {
    memory: Vec<u8>,
    gpr: [u64; 16],
}

impl Model {
    /// Place in the region's memory of `len` bytes at a linear address, each by itself; `None` if one may not be accessed.
    fn places(at: u64, len: u64, writes: bool) -> Option<Vec<usize>> {
        let place = |at: u64| {
            let entry = entry(at & !0xFFF);
            let may = entry & 1 != 0 && (!writes || entry & WRITABLE != 0);
            let frame = (entry & !0xFFF).checked_sub(FIRST << 12)?;
            may.then_some((frame | at & 0xFFF) as usize)
        };
        (at..at + len).map(place).collect()
    }
    /// Runs it; false if an element faults.
    fn run(&mut self, moves: bool, len: u64) -> bool {
        while self.gpr[RCX] != 0 {
            let bytes = match moves {
                false => self.gpr[RAX].to_le_bytes()[..len as usize].to_vec(),
                true => {
                    let Some(from) = Self::places(self.gpr[RSI], len, false) else { return false };
                    from.into_iter().map(|at| self.memory[at]).collect()
                }
            };
            let Some(to) = Self::places(self.gpr[RDI], len, true) else { return false };
            for (at, byte) in to.into_iter().zip(bytes) {
                self.memory[at] = byte;
            }
            self.gpr[RSI] += if moves { len } else { 0 };
            self.gpr[RDI] += len;
            self.gpr[RCX] -= 1;
        }
        true
    }

    /// Compares until two elements are equal, or not: the last two, if any were, and whether one faults.
    fn compare(
        &mut self,
        has_source: bool,
        until_equal: bool,
        len: u64,
    ) -> (Option<[u64; 2]>, bool) {
        let mut last = None;
        while self.gpr[RCX] != 0 {
            let read = |at: u64| {
                let places = Self::places(at, len, false)?;
                Some(places.into_iter().rev().fold(0, |v, at| v << 8 | u64::from(self.memory[at])))
            };
            let rax = self.gpr[RAX] & u64::MAX >> (64 - 8 * len);
            let source = if has_source { read(self.gpr[RSI]) } else { Some(rax) };
            let (Some(source), Some(other)) = (source, read(self.gpr[RDI])) else {
                return (last, true);
            };
            last = Some([source, other]);
            self.gpr[RSI] += if has_source { len } else { 0 };
            self.gpr[RDI] += len;
            self.gpr[RCX] -= 1;
            if (source == other) == until_equal {
                break;
            }
        }
        (last, false)
    }
}

/// A processor whose pages are those of the region.
fn bench(engine: Engine, insns: &[&[u8]], memory: &[u8]) -> Bench {
    let mut bench = Bench::new(engine);
    bench.clear();
    setup::long(&mut bench, 0);
    setup::long_paging(&mut bench, entry);
    // Faults meet a read-only page only when they are asked to.
    bench.cpu_mut().state.cr0 |= 1 << 16;
    for (n, code) in insns.iter().enumerate() {
        bench.poke(START + 16 * n as u64, code);
    }
    bench.settle();
    bench.poke(FIRST << 12, memory);
    bench
}

/// An address in the region, often near a page's end.
fn place(rng: &mut Rng) -> u64 {
    let page = FIRST + rng.below(PAGES - 6);
    let off = if rng.once_in(2) { rng.below(0x1000) } else { 0x1000 - rng.below(9) };
    (page << 12) + off
}

#[test]
fn many_pages_at_once() {
    // rep movsb, movsw, movsd, movsq; rep stosb, stosw, stosd, stosq
    let insns: [(&[u8], bool, u64); 8] = [
        (&[0xF3, 0xA4, 0xF4], true, 1),
        (&[0x66, 0xF3, 0xA5, 0xF4], true, 2),
        (&[0xF3, 0xA5, 0xF4], true, 4),
        (&[0xF3, 0x48, 0xA5, 0xF4], true, 8),
        (&[0xF3, 0xAA, 0xF4], false, 1),
        (&[0x66, 0xF3, 0xAB, 0xF4], false, 2),
        (&[0xF3, 0xAB, 0xF4], false, 4),
        (&[0xF3, 0x48, 0xAB, 0xF4], false, 8),
    ];
    for engine in Engine::ALL {
        let mut rng = Rng::new(0x5EED);
        let memory: Vec<u8> = (0..PAGES << 12).map(|_| rng.draw() as u8).collect();
        let mut bench = bench(engine, &insns.map(|insn| insn.0), &memory);
        let mut model = Model { memory, gpr: [0; 16] };
        for round in 0..ROUNDS {
            let n = rng.below(8);
            let (_, moves, len) = insns[n as usize];
            let far = 4 * 0x1000 / len;
            let s = &mut bench.cpu_mut().state;
            let count = if rng.once_in(3) { rng.below(40) } else { rng.below(far) };
            (s.gpr[RAX], s.gpr[RCX], s.gpr[RSP]) = (rng.draw(), count, 0x8000);
            (s.gpr[RSI], s.gpr[RDI]) = (place(&mut rng), place(&mut rng));
            if rng.once_in(4) {
                s.gpr[RDI] = s.gpr[RSI] + rng.below(20);
            }
            (s.pc, s.halted) = (START + 16 * n, 0);
            model.gpr = s.gpr;
            let is_done = model.run(moves, len);
            assert_eq!(bench.run(), Ending::Halted);
            let what = format!("{engine:?} round {round}, insn {n}, count {count}");
            let vector = setup::vector_reached(&bench);
            assert_eq!(vector, (!is_done).then_some(14), "{what}");
            let now = &bench.cpu().state.gpr;
            for r in [RCX, RSI, RDI] {
                assert_eq!(now[r], model.gpr[r], "{what}, register {r}");
            }
            let memory = bench.peek(FIRST << 12, (PAGES << 12) as usize);
            assert!(memory == model.memory, "{what}: memory differs");
        }
    }
}

#[test]
fn comparisons_end_where_they_should() {
    // repe cmpsb, repne cmpsd, repe cmpsq; repne scasb, repe scasw, repe scasq; pushfq; pop rbx; hlt
    let insns: [(&[u8], bool, bool, u64); 6] = [
        (&[0xF3, 0xA6, 0x9C, 0x5B, 0xF4], true, false, 1),
        (&[0xF2, 0xA7, 0x9C, 0x5B, 0xF4], true, true, 4),
        (&[0xF3, 0x48, 0xA7, 0x9C, 0x5B, 0xF4], true, false, 8),
        (&[0xF2, 0xAE, 0x9C, 0x5B, 0xF4], false, true, 1),
        (&[0x66, 0xF3, 0xAF, 0x9C, 0x5B, 0xF4], false, false, 2),
        (&[0xF3, 0x48, 0xAF, 0x9C, 0x5B, 0xF4], false, false, 8),
    ];
    for engine in Engine::ALL {
        let mut rng = Rng::new(0xC0DE);
        // Zeros with something now and then.
        let memory: Vec<u8> =
            (0..PAGES << 12).map(|_| u8::from(rng.once_in(3000)) * rng.draw() as u8).collect();
        let mut bench = bench(engine, &insns.map(|insn| insn.0), &memory);
        let mut model = Model { memory, gpr: [0; 16] };
        for round in 0..ROUNDS {
            let n = rng.below(6);
            let (_, has_source, until_equal, len) = insns[n as usize];
            let s = &mut bench.cpu_mut().state;
            let count = if rng.once_in(3) { rng.below(80) } else { rng.below(0x4000 / len) };
            (s.gpr[RAX], s.gpr[RCX], s.gpr[RSP]) = (rng.below(2), count, 0x8000);
            (s.gpr[RSI], s.gpr[RDI]) = (place(&mut rng), place(&mut rng));
            (s.pc, s.halted) = (START + 16 * n, 0);
            model.gpr = s.gpr;
            let (last, faults) = model.compare(has_source, until_equal, len);
            assert_eq!(bench.run(), Ending::Halted);
            let what = format!("{engine:?} round {round}, insn {n}, count {count}");
            let vector = setup::vector_reached(&bench);
            assert_eq!(vector, faults.then_some(14), "{what}");
            let now = &bench.cpu().state.gpr;
            for r in [RCX, RSI, RDI] {
                assert_eq!(now[r], model.gpr[r], "{what}, register {r}");
            }
            let flags = match faults {
                true => {
                    // Behind the error code, RIP and CS.
                    let pushed = bench.peek(now[RSP] + 24, 8);
                    pushed.first_chunk().map_or(0, |&bytes| u64::from_le_bytes(bytes))
                }
                false => now[RBX],
            };
            if let Some([a, b]) = last {
                let (cf, zf) = (flags & 1 != 0, flags >> 6 & 1 != 0);
                assert_eq!((cf, zf), (a < b, a == b), "{what}");
            }
        }
    }
}
