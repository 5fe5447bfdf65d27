//! Random blocks from "genes": each gene makes an op or two, so that a failing block shrinks by dropping genes.

use ir::{AccessKind, Block, Code, FlagMask, Native, NativeReg, Op, Val, Width, simd};

/// Raw material of one step.
pub(crate) type Gene = [u16; 6];

const WIDTHS: [Width; 4] = [Width::W8, Width::W16, Width::W32, Width::W64];
const EDGES: [u64; 12] =
    [0, 1, 2, 3, 5, 8, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF];

const BINARY: [Code; 9] = [
    Code::Add,
    Code::Sub,
    Code::Adc,
    Code::Sbb,
    Code::And,
    Code::Or,
    Code::Xor,
    Code::Add,
    Code::Sub,
];
const UNARY: [Code; 4] = [Code::Not, Code::Neg, Code::Inc, Code::Dec];
const SHIFT: [Code; 7] =
    [Code::Shl, Code::Shr, Code::Sar, Code::Rol, Code::Ror, Code::Rcl, Code::Rcr];
const BITS: [Code; 6] = [Code::Bts, Code::Btr, Code::Btc, Code::Bsf, Code::Bsr, Code::Imul];
const COUNTS: [Code; 3] = [Code::Clz, Code::Ctz, Code::Popcnt];
const WIDE: [Code; 4] = [Code::Mulu2, Code::Muls2, Code::Divu2, Code::Divs2];
const COMPARISONS: [u8; 10] = [2, 3, 4, 5, 6, 7, 12, 13, 14, 15];

/// An open stretch that some path jumps over or repeats.
struct Open {
    label: u32,
    /// Temporaries surely assigned when it opened.
    assigned: Vec<bool>,
    /// Loop counter: the stretch ends by jumping back.
    counter: Option<Val>,
    left: u16,
}

/// Builds a block.
pub(crate) struct Builder {
    pub(crate) block: Block,
    assigned: Vec<bool>,
    pointers: Vec<u16>,
    open: Vec<Open>,
}

/// May the native instruction raise an exception of its own?
pub(crate) fn native_traps(native: &Native) -> bool {
    native.uses & simd::X87 != 0 || matches!(native.opcode, 0x58 | 0x2F)
}

/// A block from genes; it passes `verify`.
pub(crate) fn random_block(genes: &[Gene]) -> Block {
    let mut b = Builder {
        block: Block::default(),
        assigned: Vec::new(),
        pointers: Vec::new(),
        open: Vec::new(),
    };
    b.op(Op { x: 2, imm: 0x100, ..Op::new(Code::InsnStart, Width::W32) });
    for (n, gene) in genes.iter().enumerate() {
        b.step(gene);
        b.close_finished();
        if n == genes.len() - 1 {
            while b.close_one() {}
            b.end(gene);
        }
    }
    if genes.is_empty() {
        b.end(&[0; 6]);
    }
    b.block
}

impl Builder {
    fn op(&mut self, op: Op) {
        let mut results = Vec::new();
        op.for_each_result(|v, _| results.extend(v.as_temp()));
        self.block.push(op);
        for t in results {
            self.assigned[usize::from(t)] = true;
        }
    }

    fn new_temp(&mut self, w: Width) -> Val {
        self.assigned.push(false);
        self.block.temp(w)
    }

    fn constant(&mut self, w: Width, sel: u16) -> Val {
        let n = usize::from(sel >> 3);
        let value =
            if n & 16 == 0 { EDGES[n % EDGES.len()] } else { u64::from(sel) * 0x1_0001_0003 };
        self.block.constant(value & w.mask())
    }

    fn source(&mut self, w: Width, sel: u16) -> Val {
        let pick = usize::from(sel >> 3);
        match sel & 7 {
            0 | 1 => Val::gpr((pick % 5) as u8),
            2 if w == Width::W8 => Val::high((pick % 3) as u8),
            3 => self.constant(w, sel),
            _ => {
                let fits: Vec<u16> = (0..self.assigned.len() as u16)
                    .filter(|&t| self.assigned[usize::from(t)] && !self.pointers.contains(&t))
                    .filter(|&t| self.block.temps[usize::from(t)] >= w)
                    .collect();
                match fits.len() {
                    0 => Val::gpr((pick % 6) as u8),
                    // The newest are the likeliest.
                    n => Val::temp(fits[n - 1 - pick % n.min(4)]),
                }
            }
        }
    }

    fn result(&mut self, w: Width, sel: u16) -> Val {
        let pick = usize::from(sel >> 3);
        match sel & 7 {
            0 | 1 => Val::gpr((pick % 5) as u8),
            2 if w == Width::W8 => Val::high((pick % 3) as u8),
            3 => {
                let same: Vec<u16> = (0..self.assigned.len() as u16)
                    .filter(|&t| self.block.temps[usize::from(t)] == w)
                    .filter(|&t| !self.pointers.contains(&t) && !self.is_counter(t))
                    .collect();
                match same.len() {
                    0 => self.new_temp(w),
                    n => Val::temp(same[pick % n]),
                }
            }
            _ => self.new_temp(w),
        }
    }

    fn is_counter(&self, t: u16) -> bool {
        self.open.iter().any(|o| o.counter == Some(Val::temp(t)))
    }

    fn step(&mut self, gene: &Gene) {
        let [kind, width, r, s1, s2, misc] = *gene;
        let w = WIDTHS[usize::from(width) % 4];
        match kind % 32 {
            0..=6 => self.binary(w, r, s1, s2, misc),
            7 | 8 => {
                let code = UNARY[usize::from(misc) % 4];
                self.alu(code, w, r, [s1, 0, 0], misc);
            }
            9..=11 => {
                let a = self.source(w, s1);
                let b = if misc & 1 == 0 {
                    self.constant(Width::W8, s2)
                } else {
                    self.source(Width::W8, s2)
                };
                self.flagged(Op { a, b, ..Op::new(SHIFT[usize::from(misc >> 3) % 7], w) }, r, misc);
            }
            12 => self.double_shift(w, r, s1, s2, misc),
            13 | 14 => self.bits(w, r, s1, s2, misc),
            15 => self.wide(w, r, s1, s2, misc),
            16 | 17 => self.moves(w, r, s1, s2, misc),
            18 | 19 => self.copy(w, r, s1),
            20 => self.conditions(w, r, s1, s2, misc),
            21 => self.flag_moves(w, r, s1, s2, misc),
            22 => self.state(w, r, s1, misc),
            23 | 24 => self.memory(w, r, s1, s2, misc),
            25 => self.pointer(w, r, s1, s2, misc),
            26 => self.call(r, s1, s2, misc),
            27 => {
                let imm = u32::from(misc & 0xFFF);
                self.op(Op { x: 3, y: 1, imm, ..Op::new(Code::InsnStart, Width::W32) });
            }
            28 | 29 => self.open_if(w, s1, s2, misc),
            30 => self.open_loop(misc),
            31 if misc & 1 == 0 => self.native(w, r, s1, s2, misc),
            _ => self.leave(w, s1, s2, misc),
        }
    }

    fn flags_asked(code: Code, misc: u16) -> FlagMask {
        let all = code.can_define();
        match misc & 7 {
            0..=2 => FlagMask::NONE,
            3 => FlagMask(all.0 & (misc >> 4) as u8),
            _ => all,
        }
    }

    /// Pushes an op with flags and a result that is sometimes discarded.
    fn flagged(&mut self, op: Op, r: u16, misc: u16) {
        let fdef = Self::flags_asked(op.code, misc >> 2);
        let d = if misc.is_multiple_of(11) { Val::NONE } else { self.result(op.d_width(), r) };
        self.op(Op { d, fdef, ..op });
    }

    fn alu(&mut self, code: Code, w: Width, r: u16, s: [u16; 3], misc: u16) {
        let a = self.source(w, s[0]);
        if code == Code::Not {
            let d = self.result(w, r);
            return self.op(Op { d, a, ..Op::new(code, w) });
        }
        self.flagged(Op { a, ..Op::new(code, w) }, r, misc);
    }

    fn binary(&mut self, w: Width, r: u16, s1: u16, s2: u16, misc: u16) {
        let (a, b) = (self.source(w, s1), self.source(w, s2));
        let code = BINARY[usize::from(misc) % BINARY.len()];
        // The usual shape of a lowered insn: compute into a temporary, then write the register.
        if r.is_multiple_of(3) {
            let t = self.new_temp(w);
            let fdef = Self::flags_asked(code, misc);
            self.op(Op { d: t, a, b, fdef, ..Op::new(code, w) });
            let d = self.result(w, r & !3);
            return self.op(Op { d, a: t, ..Op::new(Code::Mov, w) });
        }
        self.flagged(Op { a, b, ..Op::new(code, w) }, r, misc);
    }

    fn double_shift(&mut self, w: Width, r: u16, s1: u16, s2: u16, misc: u16) {
        let w = w.max(Width::W16);
        let (a, b, c) = (self.source(w, s1), self.source(w, s2), self.source(Width::W8, misc));
        let code = if misc & 1 == 0 { Code::Shld } else { Code::Shrd };
        self.flagged(Op { a, b, c, ..Op::new(code, w) }, r, misc);
    }

    fn bits(&mut self, w: Width, r: u16, s1: u16, s2: u16, misc: u16) {
        let w = w.max(Width::W16);
        let (a, b) = (self.source(w, s1), self.source(w, s2));
        match misc % 5 {
            0 => {
                let fdef = Self::flags_asked(Code::Bt, misc >> 3);
                self.op(Op { a, b, fdef, ..Op::new(Code::Bt, w) });
            }
            1 => {
                let d = self.result(w, r);
                self.op(Op { d, a, ..Op::new(COUNTS[usize::from(misc >> 3) % 3], w) });
            }
            _ => {
                let code = BITS[usize::from(misc >> 3) % BITS.len()];
                self.flagged(Op { a, b, ..Op::new(code, w) }, r, misc);
            }
        }
    }

    fn wide(&mut self, w: Width, r: u16, s1: u16, s2: u16, misc: u16) {
        let code = WIDE[usize::from(misc) % 4];
        let (a, b) = (self.source(w, s1), self.source(w, s2));
        let c = if code.shape().c == ir::Role::No { Val::NONE } else { self.source(w, r) };
        let fdef = Self::flags_asked(code, misc >> 3);
        if misc & 128 != 0 && w != Width::W8 {
            // Where the host's own instruction puts them.
            let (d, e) = (Val::gpr(0), Val::gpr(2));
            return self.op(Op { d, e, a, b, c, fdef, ..Op::new(code, w) });
        }
        let (d, e) = (self.new_temp(w), self.new_temp(w));
        self.op(Op { d, e, a, b, c, fdef, ..Op::new(code, w) });
        let low = self.result(w, r);
        self.op(Op { d: low, a: d, ..Op::new(Code::Mov, w) });
        if misc & 64 == 0 {
            let high = if w == Width::W8 { Val::high((r % 4) as u8) } else { Val::gpr(2) };
            self.op(Op { d: high, a: e, ..Op::new(Code::Mov, w) });
        }
    }

    fn moves(&mut self, w: Width, r: u16, s1: u16, s2: u16, misc: u16) {
        let from = WIDTHS[usize::from(misc) % (w as usize + 1)];
        match misc % 8 {
            0 => {
                let w = w.max(Width::W32);
                let (a, d) = (self.source(w, s1), self.result(w, r));
                self.op(Op { d, a, ..Op::new(Code::Bswap, w) });
            }
            1 => {
                let w = w.max(Width::W32);
                let d = self.result(w, r);
                self.op(Op { d, imm: u32::from(s2), ..Op::new(Code::ReadPc, w) });
            }
            2 => {
                let w = w.max(Width::W32);
                let a = if s1 & 7 == 7 { Val::NONE } else { self.source(w, s1) };
                let b = self.source(w, s2);
                let (x, imm) = (s2 as u8 & 3, i32::from(misc.cast_signed() / 9).cast_unsigned());
                let d = self.result(w, r);
                self.op(Op { d, a, b, x, imm, ..Op::new(Code::Lea, w) });
            }
            n => {
                let a = self.source(from, s1);
                let d = self.result(w, r);
                let code = if n & 1 == 0 { Code::Extu } else { Code::Exts };
                self.op(Op { d, a, x: from as u8, ..Op::new(code, w) });
            }
        }
    }

    fn copy(&mut self, w: Width, r: u16, s1: u16) {
        let (a, d) = (self.source(w, s1), self.result(w, r));
        self.op(Op { d, a, ..Op::new(Code::Mov, w) });
    }

    fn conditions(&mut self, w: Width, r: u16, s1: u16, s2: u16, misc: u16) {
        let (a, b) = (self.source(w, s1), self.source(w, s2));
        let x = COMPARISONS[usize::from(misc) % 10];
        if misc & 16 == 0 {
            let d = self.result(Width::W8, r);
            return self.op(Op { d, a, b, x, ..Op::new(Code::Setcond, w) });
        }
        let (c, e) = (self.source(w, s2), self.source(w, misc));
        let d = self.result(w, r);
        self.op(Op { d, a, b, c, e, x, ..Op::new(Code::Movcond, w) });
    }

    fn flag_moves(&mut self, w: Width, r: u16, s1: u16, s2: u16, misc: u16) {
        let x = (misc >> 3) as u8 & 15;
        match misc % 4 {
            0 => {
                let d = self.result(Width::W8, r);
                self.op(Op { d, x, ..Op::new(Code::Setccf, Width::W8) });
            }
            1 => {
                let (a, b) = (self.source(w, s1), self.source(w, s2));
                let d = self.result(w, r);
                self.op(Op { d, a, b, x, ..Op::new(Code::Cmovf, w) });
            }
            2 => {
                let d = self.result(Width::W32, r);
                self.op(Op { d, ..Op::new(Code::Getf, Width::W32) });
            }
            _ => {
                let a = self.source(Width::W32, s1);
                let x = s2 as u8 & 63;
                self.op(Op { a, x, fdef: FlagMask(x), ..Op::new(Code::Putf, Width::W32) });
            }
        }
    }

    fn state(&mut self, w: Width, r: u16, s1: u16, misc: u16) {
        let imm = u32::from(misc >> 1) % 56;
        if misc & 1 == 0 {
            let d = self.result(w, r);
            self.op(Op { d, imm, ..Op::new(Code::LdEnv, w) });
        } else {
            let a = self.source(w, s1);
            self.op(Op { a, imm, ..Op::new(Code::StEnv, w) });
        }
    }

    fn memory(&mut self, w: Width, r: u16, s1: u16, s2: u16, misc: u16) {
        let y = 1 + (misc >> 8) as u8 % 3;
        let x = (misc >> 4) as u8 % 6;
        let at = if y == 3 { Width::W64 } else { Width::W32 };
        let a = self.source(at, s1);
        if misc & 1 == 0 {
            let d = self.result(w, r);
            self.op(Op { d, a, x, y, ..Op::new(Code::Ld, w) });
        } else {
            let b = self.source(w, s2);
            self.op(Op { a, b, x, y, ..Op::new(Code::St, w) });
        }
    }

    /// A checked pointer, a load through it, some arithmetic and a store: read-modify-write.
    fn pointer(&mut self, w: Width, r: u16, s1: u16, s2: u16, misc: u16) {
        let a = self.source(Width::W32, s1);
        let p = self.new_temp(Width::W64);
        self.pointers.extend(p.as_temp());
        let imm = w.bytes() | (1 + u32::from(misc) % 3) << 8 | u32::from(misc >> 5 & 1) << 16;
        self.op(Op { d: p, a, x: 3, y: 2, imm, ..Op::new(Code::Ptr, Width::W64) });
        let v = self.new_temp(w);
        let imm = i32::from(misc as i8).cast_unsigned();
        self.op(Op { d: v, a: p, imm, ..Op::new(Code::LdH, w) });
        let b = self.source(w, s2);
        let sum = self.new_temp(w);
        let fdef = Self::flags_asked(Code::Add, misc);
        self.op(Op { d: sum, a: v, b, fdef, ..Op::new(Code::Add, w) });
        self.op(Op { a: p, b: sum, imm, ..Op::new(Code::StH, w) });
        let d = self.result(w, r);
        self.op(Op { d, a: v, ..Op::new(Code::Mov, w) });
    }

    /// A native instruction of each shape there is. All leave every flag defined that they write.
    fn native(&mut self, w: Width, r: u16, s1: u16, s2: u16, misc: u16) {
        use NativeReg::{Digit, In0, InOut, Mem, Out, Vec};
        let (v1, v2) = (Vec((s1 % 16) as u8), Vec((s2 % 16) as u8));
        let sse = Native { map: 1, uses: simd::SSE, reg: v1, rm: v2, ..Native::default() };
        let avx = Native { vl: 1, uses: simd::AVX, vvvv: Vec((r % 16) as u8), ..sse };
        let all = FlagMask::ALL;
        let general = Native { uses: 0, reg: InOut, rm: In0, ..sse };
        let x87 = Native {
            opcode: 0xD9,
            uses: simd::X87,
            reg: Digit(5),
            rm: Digit(0),
            ..Native::default()
        };
        let memory = |bytes, access| (bytes, access);
        let none = (0, AccessKind::R);
        let wide = w.max(Width::W32);
        let w64 = wide == Width::W64;
        let (native, w, writes, (bytes, access)) = match (misc >> 1) % 16 {
            0 => (Native { opcode: 0x58, ..sse }, Width::W32, FlagMask::NONE, none),
            1 => (Native { pp: 1, opcode: 0xEF, ..sse }, Width::W32, FlagMask::NONE, none),
            2 => {
                (Native { pp: 1, opcode: 0x6E, w: w64, rm: In0, ..sse }, wide, FlagMask::NONE, none)
            }
            3 => {
                (Native { pp: 1, opcode: 0x7E, w: w64, rm: Out, ..sse }, wide, FlagMask::NONE, none)
            }
            4 => (Native { opcode: 0x50, reg: Out, ..sse }, Width::W32, FlagMask::NONE, none),
            5 => {
                let w = w.max(Width::W16);
                let (opsize, w64) = (w == Width::W16, w == Width::W64);
                (Native { pp: 2, opcode: 0xB8, opsize, w: w64, reg: Out, ..general }, w, all, none)
            }
            6 => (Native { opcode: 0x2F, ..sse }, Width::W32, all, none),
            7 => {
                let reads = FlagMask::C;
                (
                    Native { map: 2, pp: 1, opcode: 0xF6, w: w64, reads, ..general },
                    wide,
                    reads,
                    none,
                )
            }
            8 => (
                Native { opcode: 0xFE, pp: 1, rm: Mem, ..avx },
                wide,
                FlagMask::NONE,
                memory(16, AccessKind::R),
            ),
            9 => (
                Native { opcode: 0x11, rm: Mem, ..sse },
                wide,
                FlagMask::NONE,
                memory(16, AccessKind::W),
            ),
            10 => (
                Native { map: 2, pp: 3, opcode: 0xF1, w: w64, ..general },
                wide,
                FlagMask::NONE,
                none,
            ),
            11 => (x87, wide, FlagMask::NONE, none),
            12 => (
                Native { opcode: 0xD8, reg: Digit(0), rm: Digit((r % 8) as u8), ..x87 },
                wide,
                FlagMask::NONE,
                none,
            ),
            13 => (
                Native { opcode: 0xDD, reg: Digit(3), rm: Mem, ..x87 },
                wide,
                FlagMask::NONE,
                memory(8, AccessKind::W),
            ),
            14 => {
                let imm = misc & 0x3F;
                (Native { map: 3, pp: 1, opcode: 0x61, imm, imm_len: 1, ..sse }, wide, all, none)
            }
            _ => (Native { opcode: 0xD4, pp: 1, vl: 2, ..avx }, wide, FlagMask::NONE, none),
        };
        if native.uses != 0 {
            self.op(Op { x: native.uses, ..Op::new(Code::SimdEnter, Width::W32) });
        }
        self.finish_native(Native { mem_bytes: bytes, access, ..native }, w, writes, [r, s1, s2]);
    }

    fn finish_native(&mut self, native: Native, w: Width, writes: FlagMask, [r, s1, s2]: [u16; 3]) {
        let mut op = Op::native(
            self.block.natives.len() as u32,
            &native,
            w,
            writes,
            native_traps(&native),
            native.opcode == 0x61,
        );
        if native.has_memory() {
            op.a = self.new_temp(Width::W64);
            self.pointers.extend(op.a.as_temp());
            let imm = u32::from(native.mem_bytes) | (native.access as u32) << 8;
            let a = self.source(Width::W32, s1);
            self.op(Op { d: op.a, a, x: 3, y: 2, imm, ..Op::new(Code::Ptr, Width::W64) });
        }
        if native.has(NativeReg::In0) {
            op.b = self.source(w, s1);
        }
        if native.has(NativeReg::InOut) {
            op.d = Val::gpr((r % 6) as u8);
        } else if native.has(NativeReg::Out) {
            op.d = self.result(w, r);
        }
        op.fdef = FlagMask(op.fdef.0 & if s2 & 1 == 0 { 63 } else { s2 as u8 >> 1 });
        self.block.natives.push(native);
        self.op(op);
    }

    fn call(&mut self, r: u16, s1: u16, s2: u16, misc: u16) {
        let mut arg =
            |sel: u16| if sel.is_multiple_of(5) { Val::NONE } else { self.source(Width::W64, sel) };
        let (a, b, e) = (arg(s1), arg(s2), arg(misc));
        let narrow: Vec<u16> = (0..self.assigned.len() as u16)
            .filter(|&t| {
                self.assigned[usize::from(t)] && self.block.temps[usize::from(t)] == Width::W32
            })
            .collect();
        let c = narrow.last().map_or(Val::NONE, |&t| Val::temp(t));
        let w = if misc & 2 == 0 { Width::W32 } else { Width::W64 };
        let d = if misc & 4 == 0 { Val::NONE } else { self.result(w, r) };
        self.op(Op { d, a, b, c, e, imm: u32::from(misc % 9), ..Op::new(Code::Call, w) });
    }

    fn branch(&mut self, w: Width, s1: u16, s2: u16, misc: u16, label: u32) {
        if misc & 1 == 0 {
            let (a, b) = (self.source(w, s1), self.source(w, s2));
            let x = COMPARISONS[usize::from(misc >> 3) % 10];
            self.op(Op { a, b, x, imm: label, ..Op::new(Code::Brcond, w) });
        } else {
            let x = (misc >> 3) as u8 & 15;
            self.op(Op { x, imm: label, ..Op::new(Code::Jccf, Width::W32) });
        }
    }

    fn open_if(&mut self, w: Width, s1: u16, s2: u16, misc: u16) {
        let label = self.block.label();
        self.branch(w, s1, s2, misc, label);
        let assigned = self.assigned.clone();
        self.open.push(Open { label, assigned, counter: None, left: 1 + misc % 7 });
    }

    fn open_loop(&mut self, misc: u16) {
        if self.open.len() >= 2 {
            return;
        }
        let counter = self.new_temp(Width::W32);
        let a = self.block.constant(u64::from(1 + misc % 3));
        self.op(Op { d: counter, a, ..Op::new(Code::Mov, Width::W32) });
        let label = self.block.label();
        self.op(Op { imm: label, ..Op::new(Code::Label, Width::W32) });
        let assigned = self.assigned.clone();
        self.open.push(Open { label, assigned, counter: Some(counter), left: 2 + misc % 5 });
    }

    /// A side exit: jump over an end.
    fn leave(&mut self, w: Width, s1: u16, s2: u16, misc: u16) {
        let label = self.block.label();
        self.branch(w, s1, s2, misc, label);
        self.end(&[misc, 0, 0, s1, s2, misc]);
        self.op(Op { imm: label, ..Op::new(Code::Label, Width::W32) });
    }

    fn close_finished(&mut self) {
        for open in &mut self.open {
            open.left = open.left.saturating_sub(1);
        }
        while self.open.last().is_some_and(|o| o.left == 0) {
            self.close_one();
        }
    }

    fn close_one(&mut self) -> bool {
        let Some(open) = self.open.pop() else { return false };
        if let Some(counter) = open.counter {
            let (one, zero) = (self.block.constant(1), self.block.constant(0));
            self.op(Op { d: counter, a: counter, b: one, ..Op::new(Code::Sub, Width::W32) });
            let back = Op {
                a: counter,
                b: zero,
                x: 5,
                imm: open.label,
                ..Op::new(Code::Brcond, Width::W32)
            };
            self.op(back);
        } else {
            self.op(Op { imm: open.label, ..Op::new(Code::Label, Width::W32) });
            for (now, then) in
                self.assigned.iter_mut().zip(open.assigned.iter().chain(std::iter::repeat(&false)))
            {
                *now &= *then;
            }
        }
        true
    }

    fn end(&mut self, gene: &Gene) {
        let [kind, width, _, s1, _, misc] = *gene;
        let w = if width & 1 == 0 { Width::W32 } else { Width::W64 };
        let a = self.source(w, s1);
        let imm = u32::from(misc & 0xFFF);
        let op = match kind % 5 {
            0 | 1 => Op {
                x: (kind >> 4) as u8 & 1,
                y: (kind >> 5) as u8 & 1,
                imm,
                ..Op::new(Code::GotoTb, w)
            },
            2 if kind & 64 != 0 && w == Width::W64 => {
                let d = self.new_temp(w);
                self.op(Op { d, a, imm: imm & 31, ..Op::new(Code::Look, w) });
                Op { a, b: d, ..Op::new(Code::GotoPtr, w) }
            }
            2 => Op { a, ..Op::new(Code::GotoPtr, w) },
            3 => Op { a, imm: imm & 7, ..Op::new(Code::ExitTb, w) },
            _ => Op { a, imm: imm & 31, ..Op::new(Code::Raise, w) },
        };
        self.op(op);
    }
}
