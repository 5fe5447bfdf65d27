//! Where random programs run: a mode, segments, pages, registers; all from one seed.
//!
//! Linear addresses (in 64-bit mode above one of [`setup::WINDOWS`]): code from [`CODE`] on, data from [`DATA`] on, the stack below [`STACK_TOP`]. With paging some of
//! the data pages are absent, read-only, or another view of the code.

use x86::state::{Segment, XsaveArea};

use crate::{Bench, Rng, setup};

/// First of three pages of code.
pub const CODE: u64 = 0x4000;
/// End of the code pages.
pub const CODE_END: u64 = 0x7000;
/// First of four pages of data.
pub const DATA: u64 = 0x8000;
/// End of the data pages.
pub const DATA_END: u64 = 0xC000;
/// The stack is the page below; the next page down is absent where there is paging.
pub const STACK_TOP: u64 = 0xE000;

/// A mode of the processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Real mode.
    Real,
    /// 32-bit, flat, level 0, no paging.
    Flat,
    /// 32-bit, flat, paging, level 0 or 3.
    Paged,
    /// 32-bit code and stack, segments with bases, limits and types.
    Segmented32,
    /// 16-bit code and stack, likewise.
    Segmented16,
    /// Virtual-8086 mode with paging.
    Vm86,
    /// 64-bit mode, level 0 or 3.
    Long,
    /// 32-bit code in long mode, level 0 or 3. Far jumps may lead to 64-bit code.
    Compatible,
}

/// A mode with everything that a program finds in it.
#[derive(Clone, Debug)]
pub struct World {
    /// The mode.
    pub kind: Kind,
    /// Registers at the start; those above the eighth count in 64-bit mode only.
    pub gpr: [u64; 16],
    /// EFLAGS at the start: arithmetic flags, DF and TF.
    pub flags: u32,
    /// Instruction pointer of the first byte.
    pub start: u64,
    /// Segment registers; in real and virtual-8086 mode the bases only.
    pub segments: [Segment; 6],
    /// What is added to the linear addresses: 0 outside 64-bit mode.
    pub window: u64,
    /// FP and vector registers, and MXCSR and the x87 control word, when programs may use them.
    pub vectors: Option<Box<Vectors>>,
    cpl: u32,
    iopl: u32,
    /// Page-table entries of the linear pages from 0 to [`STACK_TOP`].
    pages: Vec<u32>,
    data: Vec<u8>,
}

/// What a program finds in the FP and vector registers.
#[derive(Clone, Debug)]
pub struct Vectors {
    /// Vector registers.
    ymm: [[u64; 4]; 16],
    /// x87 registers, the low ten bytes of each.
    st: [u128; 8],
    mxcsr: u32,
    fcw: u16,
}

impl Vectors {
    fn new(rng: &mut Rng) -> Self {
        // Mostly everything is masked; what is not ends the program.
        let unmasked = if rng.once_in(8) { rng.draw() as u32 & 0x1F80 } else { 0 };
        let word = |rng: &mut Rng| match rng.below(4) {
            0 => *rng.pick(&[0, 1, 1 << 63, 0x7FF0_0000_0000_0000, 0x7FF8_0000_0000_0001]),
            1 => (rng.below(1000) as f64 / 8.0).to_bits(),
            2 => {
                let half = |rng: &mut Rng| u64::from((rng.below(1000) as f32 / 8.0).to_bits());
                half(rng) << 32 | half(rng)
            }
            _ => rng.draw(),
        };
        Self {
            ymm: std::array::from_fn(|_| std::array::from_fn(|_| word(rng))),
            st: std::array::from_fn(|_| {
                let exponent = *rng.pick(&[0, 0x3FFF, 0x4005, 0xBFFE, 0x7FFF, 0x3C00]);
                u128::from(rng.draw() | u64::from(exponent != 0) << 63) | exponent << 64
            }),
            mxcsr: (0x1F80 & !unmasked)
                | rng.draw() as u32 & if rng.once_in(3) { 0xE040 } else { 0 },
            fcw: if rng.once_in(4) { 0x37F & rng.draw() as u16 | 0x40 } else { 0x37F },
        }
    }

    fn enter(&self, bench: &mut Bench) {
        setup::vectors(bench);
        let s = &mut bench.cpu_mut().state;
        s.ymm = self.ymm;
        s.mxcsr = self.mxcsr;
        s.fpu.set_u16(XsaveArea::FCW, self.fcw);
        for (n, value) in self.st.iter().enumerate() {
            let at = XsaveArea::ST + 16 * n;
            s.fpu.0[at..at + 10].copy_from_slice(&value.to_le_bytes()[..10]);
        }
        s.fpu.0[XsaveArea::FTW] = 0x0F; // half of them in use
        bench.settle();
    }
}

impl World {
    /// A world of a kind.
    pub fn new(kind: Kind, rng: &mut Rng) -> Self {
        let cpl = match kind {
            Kind::Paged | Kind::Long | Kind::Compatible => 3 * (rng.below(2) as u32),
            Kind::Vm86 => 3,
            _ => 0,
        };
        let window = if kind == Kind::Long { *rng.pick(&setup::WINDOWS) } else { 0 };
        let segments = segments(kind, cpl, rng);
        let at = CODE + 16 * rng.below(32) + if rng.once_in(2) { 0xF80 } else { 0x200 };
        let mut world = Self {
            kind,
            gpr: [0; 16],
            flags: rng.draw() as u32 & if rng.once_in(4) { 0xDD5 } else { 0x8D5 },
            start: window + (at.wrapping_sub(segments[1].base) & 0xFFFF_FFFF),
            segments,
            window,
            vectors: rng.once_in(2).then(|| Box::new(Vectors::new(rng))),
            cpl,
            iopl: if rng.once_in(4) { 0 } else { 3 },
            pages: pages(rng),
            data: (0..DATA_END - DATA).map(|_| rng.draw() as u8).collect(),
        };
        world.fill_registers(rng);
        world
    }

    /// Width of code: 16, 32 or 64.
    pub fn bits(&self) -> u32 {
        match self.kind {
            Kind::Real | Kind::Vm86 | Kind::Segmented16 => 16,
            Kind::Flat | Kind::Paged | Kind::Segmented32 | Kind::Compatible => 32,
            Kind::Long => 64,
        }
    }

    /// Offset of a linear address in segment `n`; without the window.
    pub fn offset(&self, n: usize, lin: u64) -> u32 {
        lin.wrapping_sub(self.segments[n].base) as u32
    }

    /// Pointers in EBX, ESI, EDI and EBP, anything in the others; likewise in the eight that follow, but R12.
    fn fill_registers(&mut self, rng: &mut Rng) {
        const EDGES: [u64; 13] = [
            0,
            1,
            0xFFFF_FFFF,
            0x8000_0000,
            0x7FFF_FFFF,
            0x8000,
            0xFF,
            0x10,
            u64::MAX,
            1 << 63,
            u64::MAX >> 1,
            1 << 47,
            1 << 32,
        ];
        let mask = if self.bits() == 64 { u64::MAX } else { 0xFFFF_FFFF };
        for n in [0, 1, 2, 8, 9, 10, 12] {
            self.gpr[n] = mask
                & match rng.below(4) {
                    0 => *rng.pick(&EDGES),
                    1 => rng.below(16),
                    2 => 8 * rng.below(16),
                    _ => rng.draw(),
                };
        }
        for n in [3, 5, 6, 7, 11, 13, 14, 15] {
            let seg = if n == 5 { 2 } else { 3 };
            let lin = if n == 5 && rng.once_in(2) {
                STACK_TOP - 0x80 - 4 * rng.below(64)
            } else {
                DATA + 0x1000 * rng.below(4) + *rng.pick(&[0, 4, 0xFF, 0x800, 0xFFC, 0xFFE, 0xFFF])
            };
            self.gpr[n] = self.window + u64::from(self.offset(seg, lin));
            if self.bits() == 16 {
                // The upper half does not matter to 16-bit addresses; 32-bit ones mostly want it clear.
                let high = if rng.once_in(4) { rng.draw() & 0xFFFF_0000 } else { 0 };
                self.gpr[n] = self.gpr[n] & 0xFFFF | high;
            }
        }
        if self.bits() != 64 {
            self.gpr[8..].fill(0);
        }
        let depth = if rng.once_in(6) { 0xFF8 } else { 0x100 + 2 * rng.below(0x80) };
        self.gpr[4] = self.window + u64::from(self.offset(2, STACK_TOP - depth));
    }

    /// Puts the bench into this world; `code` from the start on, HLT in the rest of the code pages.
    pub fn enter(&self, bench: &mut Bench, code: &[u8]) {
        bench.clear();
        let start = self.start - self.window;
        bench.poke(self.segments[1].base.wrapping_add(start) & 0xFFFF_FFFF, code);
        bench.poke(DATA, &self.data);
        let selectors = self.segments.map(|s| s.selector);
        match self.kind {
            Kind::Real => setup::real(bench, selectors),
            Kind::Vm86 => setup::vm86(bench, selectors, self.iopl),
            Kind::Flat => setup::protected(bench, 0),
            Kind::Paged => setup::protected(bench, self.cpl),
            Kind::Long => setup::long(bench, self.cpl),
            Kind::Compatible => {
                setup::long(bench, self.cpl);
                setup::set_segment(bench, 1, self.segments[1]);
            }
            Kind::Segmented16 | Kind::Segmented32 => {
                setup::protected(bench, 0);
                for (n, segment) in self.segments.iter().enumerate() {
                    setup::set_segment(bench, n, *segment);
                }
            }
        }
        if matches!(self.kind, Kind::Paged | Kind::Vm86 | Kind::Long | Kind::Compatible) {
            self.turn_paging_on(bench);
        }
        if let Some(vectors) = &self.vectors {
            vectors.enter(bench);
        }
        let s = &mut bench.cpu_mut().state;
        s.gpr = self.gpr;
        if self.kind == Kind::Long {
            s.seg[4].base = self.segments[4].base;
            s.seg[5].base = self.segments[5].base;
        }
        s.set_eflags(s.eflags() & !0xDD5 | self.flags);
        s.pc = self.start;
        bench.settle();
    }

    fn turn_paging_on(&self, bench: &mut Bench) {
        let entry = |lin: u64| {
            match self.pages.get((lin >> 12) as usize) {
                Some(entry) => *entry,
                // The lowest MiB stays closed, the system's own pages are the supervisor's.
                None if lin >= setup::at::GDT => lin as u32 | 3,
                None => 0,
            }
        };
        match self.kind {
            Kind::Long | Kind::Compatible => {
                setup::long_paging(bench, |lin| u64::from(entry(lin)));
            }
            _ => setup::paging(bench, entry),
        }
        bench.cpu_mut().state.cr0 |= 1 << 16;
    }
}

/// Entries of the pages up to the stack: code writable or not, data with a view of the code or a gap.
fn pages(rng: &mut Rng) -> Vec<u32> {
    let mut list = vec![0; (STACK_TOP >> 12) as usize];
    let mut set =
        |lin: u64, phys: u64, rights: u32| list[(lin >> 12) as usize] = phys as u32 | rights;
    let code = if rng.once_in(4) { 5 } else { 7 };
    for lin in (CODE..CODE_END).step_by(0x1000) {
        set(lin, lin, code);
    }
    if rng.once_in(8) {
        set(CODE + 0x1000, 0, 0);
    }
    for lin in (DATA..DATA_END).step_by(0x1000) {
        match rng.below(24) {
            0 => set(lin, 0, 0),
            1 => set(lin, lin, 5),
            2 => set(lin, lin, 3),
            3 => set(lin, CODE + 0x1000 * rng.below(2), 7),
            _ => set(lin, lin, 7),
        }
    }
    set(STACK_TOP - 0x1000, STACK_TOP - 0x1000, 7);
    list
}

/// The segments of a kind.
fn segments(kind: Kind, cpl: u32, rng: &mut Rng) -> [Segment; 6] {
    let flat = |selector, attr| Segment { selector, attr, limit: u32::MAX, base: 0 };
    match kind {
        Kind::Real | Kind::Vm86 => {
            let mut segments = [Segment::default(); 6];
            for s in &mut segments {
                let selector = *rng.pick(&[0, 0, 0, 0x10, 0x11, 0x100, 0x3FF]);
                *s =
                    Segment { selector, attr: 0x93, limit: 0xFFFF, base: u64::from(selector) << 4 };
            }
            segments
        }
        Kind::Flat | Kind::Paged | Kind::Long | Kind::Compatible => {
            let (code, data) = if cpl == 0 {
                (setup::sel::CODE, setup::sel::DATA)
            } else {
                (setup::sel::USER_CODE, setup::sel::USER_DATA)
            };
            let dpl = (cpl << 5) as u16;
            let mut segments = [flat(data, 0xC093 | dpl); 6];
            let code = if kind == Kind::Compatible { setup::sel::FREE | cpl as u16 } else { code };
            segments[1] = flat(code, 0xC09B | dpl);
            if kind == Kind::Long {
                for s in &mut segments[4..] {
                    s.base =
                        *rng.pick(&[0, 0, 0x10, 0x123, 0x1000, 0u64.wrapping_sub(0x10), 1 << 46]);
                }
            }
            segments
        }
        Kind::Segmented32 | Kind::Segmented16 => {
            let big = if kind == Kind::Segmented32 { 0x4000 } else { 0 };
            std::array::from_fn(|n| {
                let selector = setup::sel::FREE + 8 * n as u16;
                Segment { selector, ..segment(n, big, rng) }
            })
        }
    }
}

/// A segment of protected mode for register `n`: enough for what lies there, now and then too little.
fn segment(n: usize, big: u16, rng: &mut Rng) -> Segment {
    let base = *rng.pick(&[0, 0, 0x10, 0x123, 0x1000, 0x2008, 0xFFFF_F000]);
    let base = if n == 1 { base & 0x1FFF } else { base };
    // A base near 4 GiB with a small segment would put everything out of reach of 16-bit offsets.
    let base = if big == 0 && base > 0xFFFF { 0x400 } else { base };
    let end = |lin: u64| (lin.wrapping_sub(base) as u32).wrapping_sub(1);
    let (attr, limit) = match n {
        1 => (0x9B | big, end(CODE_END)),
        2 => (0x93 | big, end(STACK_TOP)),
        _ => match rng.below(10) {
            0 => (0x91 | big, end(STACK_TOP)),                    // read-only
            1 => (0x97 | big, end(DATA + 0x800)),                 // expand-down
            2 => (0x9B, end(STACK_TOP)),                          // readable code
            3 => (0x93 | big, end(DATA + 0x1000 * rng.below(4))), // too short for some
            4 => (0x93 | big, end(CODE_END)),
            5 => (0xC093, u32::MAX),
            _ => (0x93 | big, end(STACK_TOP)),
        },
    };
    // Without granularity a limit has 20 bits.
    let is_fine = limit <= 0xF_FFFF;
    let (attr, limit) = if is_fine { (attr, limit) } else { (attr | 0x8000, limit | 0xFFF) };
    Segment { selector: 0, attr, limit, base }
}
