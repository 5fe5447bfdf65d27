//! Whole runs: every row in every width, the host on this thread, engines of ours on others.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use isa_spec::model::Isa;

use super::cases::{Batch, SAME_BYTES, batch};
use super::compare::differences;
use super::guest::Guest;
use super::host::{Host, Unavailable};
use super::ledger::{Verdict, explain};
use super::report;
use super::state::{ENDLESS, Output, Width};
use crate::Engine;

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Seed of all cases.
    pub seed: u64,
    /// Cases per row and width.
    pub per_row: usize,
    /// This part of how many: rows are dealt out.
    pub shard: (usize, usize),
    /// Code sizes.
    pub widths: Vec<Width>,
    /// Only rows of this name, mnemonic, or whose opcode column begins like this.
    pub row: Option<String>,
    /// Engines.
    pub engines: Vec<Engine>,
    /// Deal the cases out to the engines instead of running each on all.
    pub deal: bool,
    /// Tell our own known mistakes, too, instead of counting them.
    pub strict: bool,
    /// Threads for the engines.
    pub threads: usize,
    /// Differences told in full per row, width and engine.
    pub shown: usize,
}

/// One row in one width on one engine that differs.
#[derive(Clone, Debug)]
pub struct Difference {
    /// Row: name and opcode column.
    pub row: String,
    /// Code size.
    pub width: Width,
    /// Engine.
    pub engine: Engine,
    /// Cases that differ.
    pub count: u64,
    /// The first of them.
    pub lines: Vec<String>,
}

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Cases run on the host.
    pub cases: u64,
    /// Of these, how many ended in each vector.
    pub vectors: BTreeMap<u8, u64>,
    /// Rows and widths with cases.
    pub encodings: u64,
    /// Rows that no width has a case for, because the kernel would answer or the tables forbid the encoding.
    pub uncovered: Vec<String>,
    /// Differences, in no order.
    pub differences: Vec<Difference>,
    /// Differences that the ledger explains, by entry.
    pub explained: BTreeMap<&'static str, u64>,
    /// Time on the host, in the signal handler and between.
    pub host_time: Duration,
    /// Time in all.
    pub time: Duration,
}

impl Summary {
    /// Cases that differ and that nothing explains.
    pub fn failures(&self) -> u64 {
        self.differences.iter().map(|d| d.count).sum()
    }
}

/// A batch that the host has run.
struct Work {
    row: String,
    width: Width,
    batch: Batch,
    outputs: Vec<Output>,
}

type Shared = Arc<Mutex<Summary>>;

/// Runs a plan over the tables.
///
/// # Errors
/// When the host cannot run cases.
pub fn run(isa: &Isa, plan: &Plan) -> Result<Summary, Unavailable> {
    let start = Instant::now();
    let mut host = Host::open()?;
    let summary: Shared = Arc::default();
    let (sender, receiver) = sync_channel::<Work>(2 * plan.threads);
    let receiver = Arc::new(Mutex::new(receiver));
    thread::scope(|scope| {
        for _ in 0..plan.threads {
            let (receiver, summary) = (receiver.clone(), summary.clone());
            scope.spawn(move || work(&receiver, &summary, plan));
        }
        drive(isa, plan, &mut host, &sender, &summary);
        drop(sender);
    });
    let mut summary = summary.lock().unwrap_or_else(PoisonError::into_inner).clone();
    summary.differences.sort_by(|a, b| (&a.row, a.width).cmp(&(&b.row, b.width)));
    summary.time = start.elapsed();
    Ok(summary)
}

/// Makes the batches and runs them on the host.
fn drive(isa: &Isa, plan: &Plan, host: &mut Host, sender: &SyncSender<Work>, summary: &Shared) {
    for (n, row) in isa.rows.iter().enumerate() {
        let insn = &isa.insns[row.insn];
        let is_wanted = plan.row.as_ref().is_none_or(|want| {
            insn.name.eq_ignore_ascii_case(want)
                || row.mnemonic.eq_ignore_ascii_case(want)
                || row.opcode.text.starts_with(want.as_str())
        });
        if !is_wanted || n % plan.shard.1 != plan.shard.0 {
            continue;
        }
        let name = format!("{} {:?}", insn.name, row.opcode.text);
        let mut is_covered = false;
        for &width in &plan.widths {
            let mut batch = batch(isa, n, width, plan.seed, plan.per_row);
            if batch.cases.is_empty() {
                continue;
            }
            is_covered = true;
            let start = Instant::now();
            let outputs = host.run(&mut batch.image, &batch.cases);
            let taken = start.elapsed();
            note(summary, &outputs, taken);
            let work = Work { row: name.clone(), width, batch, outputs };
            if sender.send(work).is_err() {
                return; // all workers have panicked; the scope says why
            }
        }
        if !is_covered {
            summary.lock().unwrap_or_else(PoisonError::into_inner).uncovered.push(name);
        }
    }
}

fn note(summary: &Shared, outputs: &[Output], taken: Duration) {
    let mut summary = summary.lock().unwrap_or_else(PoisonError::into_inner);
    summary.cases += outputs.len() as u64;
    summary.encodings += 1;
    summary.host_time += taken;
    for output in outputs {
        *summary.vectors.entry(output.vector).or_default() += 1;
    }
}

/// A thread of engines.
fn work(receiver: &Mutex<Receiver<Work>>, summary: &Shared, plan: &Plan) {
    let mut guests: Vec<Guest> = plan.engines.iter().map(|&engine| Guest::new(engine)).collect();
    loop {
        let next = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(mut work) = next else { return };
        let all = guests.len();
        for (turn, guest) in guests.iter_mut().enumerate() {
            let turn = plan.deal.then_some((turn, all));
            let (found, explained) = check(guest, &mut work, plan, turn);
            let mut summary = summary.lock().unwrap_or_else(PoisonError::into_inner);
            summary.differences.extend(found);
            for name in explained {
                *summary.explained.entry(name).or_default() += 1;
            }
        }
    }
}

/// Runs a batch on an engine, or of every so many cases with the same bytes those whose turn it is.
fn check(
    guest: &mut Guest,
    work: &mut Work,
    plan: &Plan,
    turn: Option<(usize, usize)>,
) -> (Option<Difference>, Vec<&'static str>) {
    let Batch { image, cases } = &mut work.batch;
    guest.fill(image);
    let (mut count, mut lines, mut explained) = (0, Vec::new(), Vec::new());
    for (n, (case, host)) in cases.iter().zip(&work.outputs).enumerate() {
        let is_next = turn.is_none_or(|(turn, all)| n / SAME_BYTES % all == turn);
        if host.vector == ENDLESS || !is_next {
            continue;
        }
        let ours = guest.run(image, case);
        let list = differences(case, host, &ours);
        if list.is_empty() {
            continue;
        }
        if let Some(entry) = explain(case, host, &ours)
            && !(plan.strict && entry.verdict == Verdict::Ours)
        {
            explained.push(entry.name);
            continue;
        }
        count += 1;
        if lines.len() < plan.shown {
            lines.push(format!(
                "#{n} {}\n    {}\n    host {}, {:?} {}: {}",
                report::instruction(case),
                report::inputs(case),
                report::ending(host),
                guest.engine(),
                report::ending(&ours),
                list.join("; "),
            ));
        }
    }
    if !guest.is_sound(image) {
        count += 1;
        lines.push("a page that nothing may write was written".to_owned());
    }
    let (row, width, engine) = (work.row.clone(), work.width, guest.engine());
    let found = (count > 0).then_some(Difference { row, width, engine, count, lines });
    (found, explained)
}
