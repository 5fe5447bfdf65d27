//! What the fuzz targets below `tests/fuzz` do with their bytes. Plain tests replay a small corpus through the same functions.
//!
//! Each panics where something is wrong and returns quietly where the bytes say nothing.

use ir::Block;
use isa_spec::model::Isa;
use x86::decode::{Features, MAX_LEN, decode};
use x86::disasm::{Syntax, format};
use x86::front::{self, BlockInfo, BuildConfig, CodeBytes, MAX_INSNS};
use x86::insn::{CodeSize, DecodeError};
use x86::lower::Place;
use x86::mode::Mode;

use crate::agree::{compare, evaluate};
use crate::native::cases::batch;
use crate::native::compare::differences;
use crate::native::guest::Guest;
use crate::native::host::{Host, Unavailable};
use crate::native::ledger::explain;
use crate::native::report;
use crate::native::state::{ENDLESS, Width};
use crate::world::{Kind, World};
use crate::{Bench, Engine, Rng};

/// Most bytes of code that [`engines`] runs.
const CODE: usize = 96;

/// Decodes, prints and lowers the bytes as code of each size.
pub fn decoder(bytes: &[u8]) {
    for size in [CodeSize::Bits16, CodeSize::Bits32, CodeSize::Bits64] {
        let wrong = |what: &str| panic!("{size:?} {bytes:02x?}: {what}");
        match decode(bytes, size, &Features::ALL) {
            Ok(insn) => {
                let len = usize::from(insn.len);
                if len == 0 || len > MAX_LEN || len > bytes.len() {
                    wrong("length");
                }
                if decode(&bytes[..len], size, &Features::ALL) != Ok(insn) {
                    wrong("rests on what follows it");
                }
                if [Syntax::Att, Syntax::Intel]
                    .map(|s| format(&insn, 0, s))
                    .contains(&String::new())
                {
                    wrong("no text");
                }
            }
            Err(DecodeError::Undefined { len }) if usize::from(len) > MAX_LEN => wrong("length"),
            Err(DecodeError::Truncated) if bytes.len() >= MAX_LEN => wrong("wants more"),
            Err(DecodeError::TooLong) if bytes.len() < MAX_LEN => wrong("too long"),
            Err(_) => {}
        }
    }
    blocks(bytes);
}

/// Builds the block that starts with the bytes, in some modes; its ops must be well-formed.
fn blocks(bytes: &[u8]) {
    let flat = Mode::FLAT_CS | Mode::FLAT_SS | Mode::FLAT_DS | Mode::FLAT_ES;
    let modes = [
        0,
        Mode::PE | Mode::CODE32 | Mode::STACK32 | flat,
        Mode::PE | Mode::CODE32 | 3 << Mode::CPL_SHIFT,
        Mode::PE | Mode::CODE64 | flat | 3 << Mode::CPL_SHIFT,
    ];
    let config = BuildConfig { features: Features::ALL, max_insns: MAX_INSNS, counted: false };
    let (mut scratch, mut block) = (front::Scratch::default(), Block::default());
    let mut info = BlockInfo::default();
    for mode in modes.map(Mode) {
        for page_off in [0x100, 0xFFF] {
            let place = Place { mode, ip: page_off, page_off: page_off as u32, cs_limit: 0xFFFF };
            let (page, next) = bytes.split_at(bytes.len().min(0x1000 - page_off as usize));
            let code = CodeBytes { page, next: (next.len() >= MAX_LEN).then_some(next) };
            if front::build(&code, place, &config, &mut scratch, &mut block, &mut info).is_ok() {
                let errors = ir::verify(&block);
                assert!(errors.is_ok(), "{mode:?} {bytes:02x?}: {errors:?}");
            }
        }
    }
}

/// Runs code on the evaluator and on another engine: one byte chooses the mode and the engine, eight the world, the rest is code.
pub fn engines(bytes: &[u8]) {
    const KINDS: [Kind; 7] = [
        Kind::Real,
        Kind::Flat,
        Kind::Paged,
        Kind::Segmented32,
        Kind::Segmented16,
        Kind::Vm86,
        Kind::Long,
    ];
    let Some((&[choice], rest)) = bytes.split_first_chunk() else { return };
    let Some((seed, code)) = rest.split_first_chunk() else { return };
    let code = &code[..code.len().min(CODE)];
    let choice = usize::from(choice);
    let kind = KINDS[choice % KINDS.len()];
    let (_, others) = Engine::ALL.split_first().expect("the evaluator is first");
    let engine = others[choice / KINDS.len() % others.len()];
    let world = World::new(kind, &mut Rng::new(u64::from_le_bytes(*seed)));
    let mut bench = Bench::new(Engine::Evaluator);
    world.enter(&mut bench, code);
    let Some(reference) = evaluate(&mut bench) else { return };
    let mut bench = Bench::new(engine);
    world.enter(&mut bench, code);
    let ending = bench.run();
    let wrong = compare(&reference, ending, bench.snapshot());
    assert!(wrong.is_empty(), "{kind:?} on {engine:?} {code:02x?}:\n  {}", wrong.join("\n  "));
}

/// The host's processor, the tables, and engines to compare with it.
pub struct HostCheck {
    isa: Isa,
    host: Host,
    guests: [Guest; 2],
}

impl HostCheck {
    /// With the tables in `isa`.
    ///
    /// # Errors
    /// When the host cannot run cases.
    pub fn new(isa: Isa) -> Result<Self, Unavailable> {
        let guests = [Engine::Compact, Engine::HotOptimised].map(Guest::new);
        Ok(Self { isa, host: Host::open()?, guests })
    }

    /// Runs a few cases on the host and the engines: two bytes choose the row, one the code size, eight the case.
    pub fn check(&mut self, bytes: &[u8]) {
        let Some((row, rest)) = bytes.split_first_chunk() else { return };
        let Some((&[width], rest)) = rest.split_first_chunk() else { return };
        let Some((seed, _)) = rest.split_first_chunk() else { return };
        let row = usize::from(u16::from_le_bytes(*row)) % self.isa.rows.len();
        let width = Width::ALL[usize::from(width) % Width::ALL.len()];
        let mut batch = batch(&self.isa, row, width, u64::from_le_bytes(*seed), 4);
        let outputs = self.host.run(&mut batch.image, &batch.cases);
        for guest in &mut self.guests {
            guest.fill(&mut batch.image);
            for (case, host) in batch.cases.iter().zip(&outputs) {
                if host.vector == ENDLESS {
                    continue;
                }
                let ours = guest.run(&mut batch.image, case);
                let list = differences(case, host, &ours);
                assert!(
                    list.is_empty() || explain(case, host, &ours).is_some(),
                    "{} on {:?}\n  {}\n  {}",
                    report::instruction(case),
                    guest.engine(),
                    report::inputs(case),
                    list.join("; ")
                );
            }
        }
    }
}
