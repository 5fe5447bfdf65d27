//! The stages of making a block between its bytes and its host code: decode and lower, optimise, assign and emit. What they make depends
//! on what is given here and on nothing else, so that they may run on any thread.

use ir::opt::{Passes, Segments};
use ir::{Block, Code, FlagMask};
use jit::{CompileError, Far, Request, SegPolicy, Tier};
use x86::front::{self, BlockInfo, BuildConfig, BuildError, Changing, CodeBytes};
use x86::lower::{Along, Place};
use x86::mode::Mode;

use super::cache::Key;
use super::pages::Peeked;

/// Most bytes a block is made from.
pub(super) const FETCH: usize = 256;
const _: () = assert!(FETCH == Changing::REACH as usize);
/// Most bytes a block is made from that has not proved hot.
pub(super) const FETCH_COMPACT: usize = 192;
/// Bytes looked at to see which flags a successor kills.
pub(super) const PEEK: usize = 40;

/// What is to be made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    pub(super) key: Key,
    pub(super) place: Place,
    pub(super) tier: Tier,
    /// It is to have an entry for indirect jumps.
    pub(super) far: Option<Far>,
    /// Somebody looks at what lies between blocks: they leave all flags home.
    pub(super) keeps_flags: bool,
}

/// What came of an order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// Host code of this tier.
    Host(Tier),
    /// There is no form: the evaluator runs the block.
    Evaluated,
    /// Again, without these passes: with them there are too few registers.
    Without(Passes),
    /// There is no room for the code.
    Full,
}

/// The stages with their reusable memory.
pub(super) struct Pipeline {
    pub(super) passes: Passes,
    pub(super) config: BuildConfig,
    pub(super) front: front::Scratch,
    pub(super) block: Block,
    pub(super) info: BlockInfo,
    opt: ir::Scratch,
    /// What the block rests on behind its two direct exits.
    pub(super) peeked: [Peeked; 2],
    /// The bytes there.
    pub(super) behind: [[u8; PEEK]; 2],
}

/// How much of a block is lowered, and how.
#[derive(Clone, Copy, Debug)]
pub(super) enum Manner<'a> {
    /// Its first insn.
    Single,
    /// Up to its end; `by_names`: but for insns whose code is kept.
    Straight { by_names: bool },
    /// On behind direct jumps.
    Along(Along<'a>),
}

impl Pipeline {
    pub(super) fn new(passes: Passes, config: BuildConfig) -> Self {
        Self {
            passes,
            config,
            front: front::Scratch::default(),
            block: Block::default(),
            info: BlockInfo::default(),
            opt: ir::Scratch::new(),
            peeked: [Peeked::default(); 2],
            behind: [[0; PEEK]; 2],
        }
    }

    /// How a block is lowered. `changing`: it has immediates that are read when it runs; `shown`: somebody looks at its ops, and wants all.
    pub(super) fn manner<'a>(
        &self,
        order: &Order,
        (changing, shown): (bool, bool),
        has_run: &'a dyn Fn(u32) -> bool,
    ) -> Manner<'a> {
        let (sides, loops) = (self.passes.has(Passes::SIDES), self.passes.has(Passes::LOOPS));
        let goes_on = order.tier == Tier::Hot
            && !order.key.mode.has(Mode::PLAIN)
            && !changing
            && !self.config.counted
            && (sides || loops);
        let (reach, max_insns) = (FETCH as u32, self.config.max_insns);
        if goes_on {
            return Manner::Along(Along { has_run, sides, loops, reach, max_insns });
        }
        let is_kept = order.tier == Tier::Compact && self.passes.has(Passes::KEPT);
        Manner::Straight { by_names: is_kept && !shown }
    }

    /// Decodes and lowers a block: fills `block` and `info`.
    ///
    /// # Errors
    /// When its one insn reaches into the next page.
    pub(super) fn lower(
        &mut self,
        code: &CodeBytes<'_>,
        place: Place,
        manner: Manner<'_>,
    ) -> Result<(), BuildError> {
        let (max_insns, by_names, goes_on) = match manner {
            Manner::Single => (1, false, None),
            Manner::Straight { by_names } => (self.config.max_insns, by_names, None),
            Manner::Along(along) => (self.config.max_insns, false, Some(along)),
        };
        self.front.by_names = by_names;
        let config = BuildConfig { max_insns, ..self.config };
        let made = (&mut self.block, &mut self.info);
        front::build_along(code, place, &config, &mut self.front, made, goes_on)
    }

    /// Optimises what was lowered, and has it compiled by `compile`. `peek` reads bytes of the block's page.
    pub(super) fn finish(
        &mut self,
        order: &Order,
        peek: impl Fn(usize, &mut [u8]) -> bool,
        mut compile: impl FnMut(&Request<'_>) -> Result<(), CompileError>,
    ) -> Outcome {
        let (key, counted) = (&order.key, self.config.counted);
        // Code that has not proved hot is not worth looking at twice.
        let quick = order.tier == Tier::Compact;
        self.peeked = Default::default();
        let exit_flags = match quick || order.keeps_flags {
            true => [FlagMask::ALL; 2],
            false => self.exit_flags(key, peek),
        };
        let passes = if quick { Passes::NONE } else { self.passes };
        ir::opt::optimize(&mut self.block, &mut self.opt, passes, exit_flags);
        let seg = policies(key.mode);
        let wants_spans = !(quick || key.mode.has(Mode::PLAIN | Mode::SINGLE) || counted);
        let has_spans = wants_spans && passes.has(Passes::SPANS) && {
            let of = |policy| (0..6).filter(|&n| seg[n] == policy).fold(0, |mask, n| mask | 1 << n);
            let segments = Segments { flat: of(SegPolicy::Flat), short: of(SegPolicy::Wrap64K) };
            ir::opt::spans(&mut self.block, &mut self.opt, passes, exit_flags, segments)
        };
        let (block, nothing) = (&mut self.block, Block::default());
        let request = Request {
            block: &nothing,
            seg,
            page_offset: order.place.page_off,
            tier: order.tier,
            exit_flags,
            counted,
            far: order.far,
            late_traps: passes.has(Passes::TRAPS) && !counted,
            guesses: passes.has(Passes::GUESS) && !key.mode.has(Mode::CODE64) && key.mode.cpl() < 3,
        };
        let mut tier = order.tier;
        let mut done = compile(&Request { block, ..request });
        while let Err(CompileError::Unlowered(unit)) = done {
            // The compiler does not know this insn's code, or not where flags are as they are here.
            if !self.front.lower_unit(block, order.place, unit) {
                break;
            }
            done = compile(&Request { block, ..request });
        }
        if done.is_err_and(|e| e != CompileError::Full) && self.front.by_names {
            return Outcome::Without(Passes::KEPT);
        }
        if done == Err(CompileError::Registers) {
            // Compact code has fewer registers for temporaries.
            tier = Tier::Hot;
            done = compile(&Request { block, tier, ..request });
        }
        let is_loop = self.info.is_loop && passes.has(Passes::LOOPS);
        match done {
            Ok(()) => Outcome::Host(tier),
            Err(CompileError::Full) => Outcome::Full,
            Err(_) if is_loop => Outcome::Without(Passes::LOOPS),
            Err(_) if has_spans => Outcome::Without(Passes::SPANS),
            Err(_) => Outcome::Evaluated,
        }
    }

    /// Flags live at the direct exits, by a look at what follows them; notes the bytes that this rests on.
    fn exit_flags(&mut self, key: &Key, peek: impl Fn(usize, &mut [u8]) -> bool) -> [FlagMask; 2] {
        let mut live = [FlagMask::ALL; 2];
        if key.page().is_none() {
            return live;
        }
        let size = front::code_size(key.mode);
        for op in self.block.ops.iter().filter(|op| op.code == Code::GotoTb && op.x < 2) {
            let at = op.imm & 0xFFF;
            let ip = key.pc_base.wrapping_add(at);
            let in_limit = u64::from(key.cs_limit) + 1 - u64::from(ip.min(key.cs_limit));
            let mut bytes = [0; PEEK];
            let len = PEEK.min(0x1000 - at as usize).min(in_limit as usize);
            if peek(at as usize, &mut bytes[..len]) {
                let (dead, relied_on) =
                    front::flags_dead_at(&bytes[..len], size, &self.config.features);
                let slot = usize::from(op.x & 1);
                self.peeked[slot] = Peeked { at: at as u16, mask: relied_on };
                self.behind[slot] = bytes;
                live[slot] = FlagMask::ALL.minus(dead);
            }
        }
        live
    }
    /// The bytes behind the direct exits that the block rests on.
    pub(super) fn peeked_bytes(&self) -> [&[u8]; 2] {
        [0, 1].map(|n| &self.behind[n][..self.peeked[n].reach()])
    }
}

/// How each segment is accessed in a mode.
fn policies(mode: Mode) -> [SegPolicy; 6] {
    if mode.has(Mode::CODE64) {
        use SegPolicy::{Base, Flat};
        return [Flat, Flat, Flat, Flat, Base, Base];
    }
    let rest = if mode.has(Mode::ALL_64K) { SegPolicy::Wrap64K } else { SegPolicy::Window };
    let flat = |bit| if mode.has(bit) { SegPolicy::Flat } else { rest };
    [flat(Mode::FLAT_ES), rest, flat(Mode::FLAT_SS), flat(Mode::FLAT_DS), rest, rest]
}

#[cfg(test)]
mod tests {
    use super::*;
    use jit::{Compiler, Jit, Piece};
    use mem::GuestRam;
    use x86::decode::{Features, decode};

    use crate::vcpu::shim;

    /// Numbers that look random.
    struct Numbers(u64);

    impl Numbers {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            self.0 >> 33
        }
        fn pick(&mut self, from: &[u8]) -> u8 {
            from[self.next() as usize % from.len()]
        }
    }

    const CONFIG: BuildConfig =
        BuildConfig { features: Features::ALL, max_insns: 12, counted: false };

    fn pipeline() -> Pipeline {
        Pipeline::new(Passes::ALL, CONFIG)
    }

    /// What a compact block's code is.
    fn made(
        (pipeline, compiler): (&mut Pipeline, &mut Compiler),
        (bytes, at, mode): (&[u8], u32, Mode),
        piece: &mut Piece,
    ) -> Outcome {
        let place = Place { mode, ip: u64::from(at), page_off: at, cs_limit: 0xFFFF };
        let key = Key { phys: u64::from(at), mode, pc_base: 0, cs_limit: u32::MAX };
        let order = Order { key, place, tier: Tier::Compact, far: None, keeps_flags: false };
        loop {
            let manner = pipeline.manner(&order, (false, false), &|_| false);
            let code = CodeBytes { page: bytes, next: Some(&[0; 16]) };
            pipeline.lower(&code, place, manner).unwrap();
            let made = pipeline.finish(&order, |_, _| false, |r| compiler.compile(r, piece));
            let Outcome::Without(less) = made else { return made };
            pipeline.passes = pipeline.passes.without(less);
        }
    }

    /// Some insns that share their heads with other such lists, with displacements and immediates of all sizes.
    fn insns(numbers: &mut Numbers, heads: &[[u8; 4]], mode: Mode) -> Vec<u8> {
        const TELLING: [u8; 12] = [0, 0, 0, 1, 2, 4, 0x1F, 0x20, 0x7F, 0x80, 0xFE, 0xFF];
        let mut code = Vec::new();
        while code.len() < 48 {
            let mut insn = heads[numbers.next() as usize % heads.len()].to_vec();
            insn.extend([0; 12].map(|_: u8| match numbers.next() % 3 {
                0 => numbers.next() as u8,
                _ => numbers.pick(&TELLING),
            }));
            if let Ok(insn_at) = decode(&insn, front::code_size(mode), &CONFIG.features) {
                code.extend(&insn[..usize::from(insn_at.len)]);
            }
        }
        code
    }

    #[test]
    fn code_that_is_kept_is_what_would_be_made() {
        let ram = GuestRam::new(1 << 20).unwrap();
        let jit = Jit::new(1 << 20, shim::layout(&ram), shim::calls()).unwrap();
        let flat = Mode::PE | Mode::FLAT_CS | Mode::FLAT_SS | Mode::FLAT_DS | Mode::FLAT_ES;
        let modes = [
            0,
            Mode::ALL_64K,
            Mode::PE | Mode::CODE32 | Mode::STACK32 | 3 << Mode::CPL_SHIFT,
            flat | Mode::CODE32 | Mode::STACK32,
            flat | Mode::CODE64,
            flat | Mode::CODE64 | 3 << Mode::CPL_SHIFT,
        ];
        let mut numbers = Numbers(1);
        for mode in modes.map(Mode) {
            let (mut keeping, mut compiler) = (pipeline(), jit.compiler());
            for _ in 0..ROUNDS {
                let heads: Vec<_> = (0..24).map(|_| head(&mut numbers)).collect();
                for _ in 0..24 {
                    let code = insns(&mut numbers, &heads, mode);
                    let at = numbers.next() as u32 % 4000;
                    let (mut kept, mut fresh) = (Piece::default(), Piece::default());
                    let with = (&mut keeping, &mut compiler);
                    let is_made = made(with, (&code, at, mode), &mut kept);
                    keeping.passes = Passes::ALL;
                    let with = (&mut pipeline(), &mut jit.compiler());
                    let is_fresh = made(with, (&code, at, mode), &mut fresh);
                    assert_eq!(is_made, is_fresh, "{code:x?}");
                    assert!(kept == fresh, "{mode:?} {at:#x} {code:x?}\n{kept:?}\n{fresh:?}");
                }
            }
        }
    }

    /// How an insn may begin: all opcodes, fewer ModRM bytes.
    fn head(numbers: &mut Numbers) -> [u8; 4] {
        let prefix = numbers.pick(&[0x66, 0x67, 0x48, 0x41, 0x4C, 0xF3, 0x64]);
        let [op, modrm, sib] = [0; 3].map(|_: u8| numbers.next() as u8);
        match numbers.next() % 4 {
            0 => [prefix, op, modrm, sib],
            1 => [0x0F, op, modrm, sib],
            _ => [op, modrm, sib, 0],
        }
    }

    const ROUNDS: usize = 40;
}
