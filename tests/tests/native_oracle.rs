//! Every encoding of the tables against the host's own processor: registers, flags, memory, vector and x87 state, faults.
//!
//! A thousand cases per encoding and code size, dealt out to the engines, from a seed that is printed: `STELE_SEED=n` repeats it,
//! `STELE_CASES=n` makes it longer. The example `oracle` does the same for millions of cases and single rows. On hosts that
//! allow no 32-bit code or no local descriptors the test says so and passes, unless `STELE_REQUIRE_ALL` is set.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use stele_tests::Engine;
use stele_tests::native::run::{Plan, run};
use stele_tests::native::state::Width;

/// Cases per encoding and code size.
const CASES: u64 = 1000;
/// Encodings that the tables had in a code size when this was written, and more by now.
const ENCODINGS: u64 = 1500;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

fn seed() -> u64 {
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
    number("STELE_SEED").unwrap_or_else(clock)
}

#[test]
fn every_encoding_does_what_the_host_does() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../isa-spec/x86");
    let isa = isa_spec::load(&folder).unwrap_or_else(|errors| panic!("{errors}"));
    let plan = Plan {
        seed: seed(),
        per_row: number("STELE_CASES").unwrap_or(CASES) as usize,
        shard: (0, 1),
        widths: Width::ALL.to_vec(),
        row: None,
        engines: vec![Engine::Evaluator, Engine::Compact, Engine::HotOptimised],
        deal: true,
        strict: false,
        threads: std::thread::available_parallelism().map_or(1, |n| n.get()),
        shown: 1,
    };
    println!("seed {}", plan.seed);
    let summary = match run(&isa, &plan) {
        Ok(summary) => summary,
        Err(error) => {
            println!("SKIPPED: the native oracle cannot run here: {error}");
            assert!(std::env::var_os("STELE_REQUIRE_ALL").is_none(), "{error}");
            return;
        }
    };
    for (name, count) in &summary.explained {
        println!("in the ledger: {name}, {count} cases");
    }
    let seconds = summary.time.as_secs_f64();
    println!("{} cases of {} encodings in {seconds:.0} s", summary.cases, summary.encodings);
    let text: Vec<String> = summary
        .differences
        .iter()
        .map(|d| {
            let (bits, lines) = (d.width.bits(), d.lines.join("\n  "));
            format!("{}, {bits}-bit, {:?}: {} cases\n  {lines}", d.row, d.engine, d.count)
        })
        .collect();
    assert!(
        text.is_empty(),
        "seed {}: {} cases differ from the host:\n{}",
        plan.seed,
        summary.failures(),
        text.join("\n")
    );
    let least = Width::ALL.len() as u64 * ENCODINGS;
    assert!(summary.encodings >= least, "only {} encodings have cases", summary.encodings);
}
