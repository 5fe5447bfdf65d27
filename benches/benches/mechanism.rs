//! Loops that each lean on one mechanism of the translator, ns per turn: as a machine runs them, and without the
//! optimiser's passes.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use ir::opt::Passes;
use stele_benches::mechanisms::{LoopGuest, MECHANISMS};
use stele_tests::Engine;

fn mechanisms(c: &mut Criterion) {
    for mechanism in MECHANISMS {
        let mut group = c.benchmark_group(mechanism.name);
        for (name, passes) in [("optimised", Passes::ALL), ("plain", Passes::NONE)] {
            let mut guest = LoopGuest::new(mechanism, Engine::Mixed, passes);
            group.bench_function(name, |b| {
                b.iter_custom(|turns| {
                    let start = std::time::Instant::now();
                    black_box(guest.run(turns));
                    start.elapsed()
                });
            });
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(std::time::Duration::from_millis(500))
        .measurement_time(std::time::Duration::from_secs(1))
        .sample_size(20);
    targets = mechanisms
}
criterion_main!(benches);
