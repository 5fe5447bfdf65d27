//! Decoding: ns per insn over firmware code, beside iced-x86 on the same bytes.

use std::hint::black_box;
use std::time::Instant;

use criterion::{Criterion, SamplingMode, criterion_group, criterion_main};
use iced_x86::{Decoder, DecoderOptions, Instruction};
use stele_benches::per_unit;
use stele_benches::samples::{Sample, samples, sweep};
use x86::insn::CodeSize;

/// One way of decoding a sample from end to end.
type Sweep = fn(&Sample) -> u64;

fn sweep_iced(sample: &Sample) -> u64 {
    let bits = if sample.size == CodeSize::Bits16 { 16 } else { 32 };
    let mut decoder = Decoder::new(bits, &sample.bytes, DecoderOptions::NONE);
    let (mut insn, mut insns, mut at) = (Instruction::default(), 0, 0);
    while at < sample.bytes.len() {
        let Ok(()) = decoder.set_position(at) else { break };
        decoder.decode_out(&mut insn);
        insns += u64::from(!insn.is_invalid());
        at += if insn.is_invalid() { 1 } else { insn.len() };
    }
    insns
}

fn decode(c: &mut Criterion) {
    for sample in samples() {
        let mut group = c.benchmark_group(format!("decode/{}-{:?}", sample.origin, sample.size));
        let ways: [(&str, Sweep); 2] = [("stele", sweep), ("iced-x86", sweep_iced)];
        group.sampling_mode(SamplingMode::Flat);
        for (name, way) in ways {
            group.bench_function(name, |b| {
                b.iter_custom(|iters| {
                    // One iteration = one sweep; what is reported is the time of one insn.
                    let start = Instant::now();
                    let insns: u64 = (0..iters).map(|_| way(black_box(&sample))).sum();
                    per_unit(start.elapsed() * iters as u32, insns)
                });
            });
        }
    }
}

criterion_group!(benches, decode);
criterion_main!(benches);
