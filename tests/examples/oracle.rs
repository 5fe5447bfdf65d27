//! Compares Stele with the host's processor: `cargo run --release -p stele-tests --example oracle -- [options]`.
//!
//! Exit code 0: no difference; 1: differences, which are printed; 2: the host does not allow it, or bad options.

use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use stele_tests::Engine;
use stele_tests::native::run::{Plan, Summary, run};
use stele_tests::native::state::Width;

const USAGE: &str = "\
options:
  --per-row N      cases per row and code size (default 1000)
  --cases N        cases in all, instead
  --seed S         seed of all cases (default: from the clock)
  --shard I/N      only every Nth row, starting with the Ith (from 0)
  --mode BITS      16, 32 or 64; may be given again (default: all)
  --row ROW        only rows of this name or mnemonic, or whose opcode column begins so: \"0F B1\"
  --engine NAME    evaluator, compact, hot, compact-optimised, hot-optimised, mixed, beside; may be given again
                   (default: evaluator, compact, hot-optimised)
  --deal yes       deal the cases out to the engines instead of running each on all
  --strict yes     tell known mistakes of ours, too
  --threads N      threads for the engines (default: as many as CPUs)
  --show N         differences told in full per row, code size and engine (default 2)
  --json FILE      write a summary";

struct Options {
    plan: Plan,
    cases: Option<u64>,
    json: Option<String>,
}

fn engine(name: &str) -> Option<Engine> {
    Some(match name {
        "evaluator" => Engine::Evaluator,
        "compact" => Engine::Compact,
        "hot" => Engine::Hot,
        "compact-optimised" => Engine::CompactOptimised,
        "hot-optimised" => Engine::HotOptimised,
        "mixed" => Engine::Mixed,
        "beside" => Engine::Beside,
        _ => return None,
    })
}

fn options() -> Result<Options, String> {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
    let mut plan = Plan {
        seed: clock,
        per_row: 1000,
        shard: (0, 1),
        widths: Vec::new(),
        row: None,
        engines: Vec::new(),
        deal: false,
        strict: false,
        threads: std::thread::available_parallelism().map_or(1, |n| n.get()),
        shown: 2,
    };
    let (mut cases, mut json) = (None, None);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let value = args.next().ok_or_else(|| format!("{arg} needs a value"))?;
        let number = || value.parse::<u64>().map_err(|e| format!("{arg} {value}: {e}"));
        match arg.as_str() {
            "--per-row" => plan.per_row = number()? as usize,
            "--cases" => cases = Some(number()?),
            "--seed" => plan.seed = number()?,
            "--shard" => {
                let parts = value
                    .split_once('/')
                    .and_then(|(i, n)| Some((i.parse::<usize>().ok()?, n.parse::<usize>().ok()?)));
                plan.shard = parts.filter(|(i, n)| i < n).ok_or("--shard wants I/N, I < N")?;
            }
            "--mode" => {
                let width = Width::ALL.into_iter().find(|w| w.bits().to_string() == value);
                plan.widths.push(width.ok_or("--mode wants 16, 32 or 64")?);
            }
            "--row" => plan.row = Some(value),
            "--engine" => {
                plan.engines.push(engine(&value).ok_or_else(|| format!("no engine {value}"))?);
            }
            "--deal" => plan.deal = value == "yes",
            "--strict" => plan.strict = value == "yes",
            "--threads" => plan.threads = number()?.max(1) as usize,
            "--show" => plan.shown = number()? as usize,
            "--json" => json = Some(value),
            _ => return Err(format!("unknown option {arg}")),
        }
    }
    if plan.widths.is_empty() {
        plan.widths = Width::ALL.to_vec();
    }
    if plan.engines.is_empty() {
        plan.engines = vec![Engine::Evaluator, Engine::Compact, Engine::HotOptimised];
    }
    Ok(Options { plan, cases, json })
}

fn print(plan: &Plan, summary: &Summary) {
    for d in &summary.differences {
        println!("{} in {}-bit code on {:?}: {} cases", d.row, d.width.bits(), d.engine, d.count);
        for line in &d.lines {
            println!("  {line}");
        }
    }
    for (name, count) in &summary.explained {
        println!("in the ledger: {name}, {count} cases");
    }
    let rate = |cases: u64, seconds: f64| cases as f64 / seconds.max(1e-9);
    println!(
        "seed {}: {} cases of {} encodings in {:.1} s ({:.0}/s; host alone {:.0}/s), {} differ",
        plan.seed,
        summary.cases,
        summary.encodings,
        summary.time.as_secs_f64(),
        rate(summary.cases, summary.time.as_secs_f64()),
        rate(summary.cases, summary.host_time.as_secs_f64()),
        summary.failures(),
    );
    let vectors: Vec<String> =
        summary.vectors.iter().map(|(vector, n)| format!("{vector}: {n}")).collect();
    println!("by vector: {}", vectors.join(", "));
    if !summary.uncovered.is_empty() {
        println!("not run: {}", summary.uncovered.join(", "));
    }
}

fn json(plan: &Plan, summary: &Summary) -> String {
    let differences: Vec<_> = summary
        .differences
        .iter()
        .map(|d| {
            serde_json::json!({
                "row": d.row, "bits": d.width.bits(), "engine": format!("{:?}", d.engine),
                "count": d.count, "first": d.lines,
            })
        })
        .collect();
    serde_json::json!({
        "seed": plan.seed,
        "shard": [plan.shard.0, plan.shard.1],
        "per_row": plan.per_row,
        "cases": summary.cases,
        "encodings": summary.encodings,
        "seconds": summary.time.as_secs_f64(),
        "host_seconds": summary.host_time.as_secs_f64(),
        "failures": summary.failures(),
        "explained": summary.explained,
        "not_run": summary.uncovered,
        "differences": differences,
    })
    .to_string()
}

fn main() -> ExitCode {
    let mut options = match options() {
        Ok(options) => options,
        Err(what) => {
            eprintln!("oracle: {what}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../isa-spec/x86");
    let isa = match isa_spec::load(&folder) {
        Ok(isa) => isa,
        Err(errors) => {
            eprintln!("{errors}");
            return ExitCode::from(2);
        }
    };
    if let Some(cases) = options.cases {
        let encodings = (isa.rows.len() * options.plan.widths.len()) as u64;
        options.plan.per_row = cases.div_ceil(encodings.max(1)).max(1) as usize;
    }
    println!("seed {}", options.plan.seed);
    let summary = match run(&isa, &options.plan) {
        Ok(summary) => summary,
        Err(error) => {
            eprintln!("oracle: {error}");
            return ExitCode::from(2);
        }
    };
    print(&options.plan, &summary);
    if let Some(file) = &options.json
        && let Err(error) = std::fs::write(file, json(&options.plan, &summary))
    {
        eprintln!("oracle: {file}: {error}");
        return ExitCode::from(2);
    }
    ExitCode::from(u8::from(summary.failures() > 0))
}
