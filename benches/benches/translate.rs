//! Translation: ns per guest insn for the front end, the optimiser, and everything from fetch to publish.

use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, criterion_group, criterion_main};
use ir::opt::{Passes, optimize};
use ir::{Block, FlagMask, Scratch};
use stele_benches::kernels::cold_code;
use stele_benches::samples::{Sample, samples};
use stele_benches::{Guest, per_unit};
use x86::decode::Features;
use x86::front::{self, BlockInfo, BuildConfig, CodeBytes, MAX_INSNS};
use x86::insn::CodeSize;
use x86::lower::Place;
use x86::mode::Mode;

/// Time of the stages and insns they were given.
#[derive(Default)]
struct Spent {
    front: Duration,
    optimise: Duration,
    insns: u64,
}

/// A stage's time out of [`Spent`].
type Stage = fn(&Spent) -> Duration;

/// Builds and optimises the blocks of a sample one after another, as if each were entered where the last ended.
fn translate_all(sample: &Sample, spent: &mut Spent) {
    let config = BuildConfig { features: Features::ALL, max_insns: MAX_INSNS, counted: false };
    let (mut work, mut opt) = (front::Scratch::default(), Scratch::new());
    let (mut block, mut info) = (Block::default(), BlockInfo::default());
    for page in sample.bytes.chunks(4096) {
        let mut at = 0;
        while at < page.len() {
            let code = CodeBytes { page: &page[at..], next: Some(&[0; 16]) };
            let start = Instant::now();
            let built =
                front::build(&code, place(sample, at), &config, &mut work, &mut block, &mut info);
            let middle = Instant::now();
            if built.is_err() || info.bytes == 0 {
                break;
            }
            optimize(&mut block, &mut opt, Passes::ALL, [FlagMask::ALL; 2]);
            spent.optimise += middle.elapsed();
            spent.front += middle - start;
            spent.insns += info.insns.len() as u64;
            at += info.bytes as usize;
        }
    }
}

fn place(sample: &Sample, at: usize) -> Place {
    let flat = Mode::FLAT_CS | Mode::FLAT_SS | Mode::FLAT_DS | Mode::FLAT_ES;
    let (bits, cs_limit) = match sample.size {
        CodeSize::Bits16 => (Mode::ALL_64K, 0xFFFF),
        _ => (Mode::PE | Mode::CODE32 | Mode::STACK32 | flat, u32::MAX),
    };
    Place { mode: Mode(bits), ip: at as u64, page_off: at as u32, cs_limit }
}

fn stages(c: &mut Criterion) {
    let stages: [(&str, Stage); 2] =
        [("decode-and-lower", |s| s.front), ("optimise", |s| s.optimise)];
    for sample in samples() {
        let mut group = c.benchmark_group(format!("translate/{}-{:?}", sample.origin, sample.size));
        group.sampling_mode(SamplingMode::Flat);
        for (name, stage) in stages {
            group.bench_function(name, |b| {
                b.iter_custom(|iters| {
                    let mut spent = Spent::default();
                    (0..iters).for_each(|_| translate_all(&sample, &mut spent));
                    per_unit(stage(&spent) * iters as u32, spent.insns)
                });
            });
        }
    }
}

/// Fetch to publish by the translator's own counters, and the whole of running code once.
fn whole(c: &mut Criterion) {
    let mut guest = Guest::with_code(cold_code(), 32);
    let mut group = c.benchmark_group("translate/straight-32");
    group.sampling_mode(SamplingMode::Flat);
    group.bench_function("fetch-to-publish", |b| {
        b.iter_custom(|iters| {
            let before = guest.stats();
            for _ in 0..iters {
                guest.forget();
                guest.run(1);
            }
            let after = guest.stats();
            let spent = Duration::from_nanos(after.translate_ns - before.translate_ns);
            per_unit(spent * iters as u32, after.insns - before.insns)
        });
    });
    group.bench_function("translate-and-run-once", |b| {
        b.iter_custom(|iters| {
            let before = guest.stats().insns;
            let mut spent = Duration::ZERO;
            for _ in 0..iters {
                guest.forget();
                let start = Instant::now();
                guest.run(1);
                spent += start.elapsed();
            }
            per_unit(spent * iters as u32, guest.stats().insns - before)
        });
    });
    group.finish();
    let stats = guest.stats();
    if stats.insns > 0 {
        let bytes = stats.host_bytes as f64 / stats.insns as f64;
        eprintln!("translate/straight-32: {bytes:.1} host bytes per guest insn");
    }
}

criterion_group!(benches, stages, whole);
criterion_main!(benches);
