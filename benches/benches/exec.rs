//! Execution: the same loop as guest code on the JIT and as host code, ns per unit (insn, or `rep` insn).

use std::hint::black_box;
use std::time::Instant;

use criterion::{
    BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime,
};
use stele_benches::kernels::Native;
use stele_benches::{Guest, KERNELS, Kernel, per_unit};

/// Most turns in one call.
const CHUNK: u64 = 1 << 31;

fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    kernel: &Kernel,
    mut run: impl FnMut(u32) -> u64,
) {
    group.bench_function(name, |b| {
        // One iteration is one turn of the loop; what is reported is the time of one unit.
        b.iter_custom(|iters| {
            let mut left = iters;
            let start = Instant::now();
            while left > 0 {
                let turns = left.min(CHUNK);
                black_box(run(turns as u32)); // fits: CHUNK does
                left -= turns;
            }
            per_unit(start.elapsed(), kernel.units)
        });
    });
}

fn exec(c: &mut Criterion) {
    for kernel in KERNELS {
        let mut group = c.benchmark_group(format!("exec/{}-{}", kernel.name, kernel.bits));
        let mut guest = Guest::new(kernel);
        measure(&mut group, "stele", kernel, |turns| guest.run(turns));
        let mut native = Native::new(kernel);
        measure(&mut group, "native", kernel, |turns| native.run(turns));
    }
}

criterion_group!(benches, exec);
criterion_main!(benches);
