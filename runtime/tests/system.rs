//! The system oracle: records of privileged behaviour run by a bare guest (`tests/system`) on us, on QEMU and on Bochs.
//!
//! Each record runs a few instructions in real, protected, virtual-8086, compatibility or 64-bit mode at some privilege level; the
//! guest catches whatever ends them and prints the state. Our lines are folded into recorded digests; where QEMU and Bochs
//! are installed theirs are compared with ours, and every difference has to be one that `tests/system/ledger.txt`
//! explains. Which rows of the tables the records have is written in `isa-spec/coverage.txt`. UPDATE_EXPECT=1 records both anew; SYSTEM_KEEP=folder keeps all outputs. Needs nasm.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use isa_spec::reach::{Reach, SYSTEM, read_log};

/// A file of `cases/`.
struct Cases {
    name: &'static str,
    /// QEMU survives its records.
    qemu: bool,
    /// Short enough for the evaluator, which takes a millisecond's work a hundred times as long.
    evaluated: bool,
}

/// Seconds after which a peer has to have hung, however busy the host: a run takes some seconds.
const HANG_S: &str = "3600";

/// Where records' code stands (`monitor.asm`, CODE).
const RECORD_CODE: &str = "0x10000+0x2000";

const fn cases(name: &'static str, qemu: bool, evaluated: bool) -> Cases {
    Cases { name, qemu, evaluated }
}

const CASES: &[Cases] = &[
    cases("modes", true, true),
    cases("descriptors", true, false),
    cases("far", true, false),
    cases("far64", true, false),
    cases("paging", true, false),
    cases("canonical", true, false),
    cases("debug", true, true),
    cases("frames", false, true),
    cases("control", true, false),
    cases("reserved", false, false),
    cases("syscall", true, false),
    cases("tasks", true, true),
    cases("vme", true, true),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/system")
}

/// A missing tool: said, and a failure where CI demands everything.
fn skip(what: &str) {
    assert!(std::env::var_os("STELE_REQUIRE_ALL").is_none(), "STELE_REQUIRE_ALL is set: {what}");
    eprintln!("SKIPPED: {what}");
}

fn has(tool: &str, argument: &str) -> bool {
    let run = Command::new(tool).arg(argument).stdin(Stdio::null()).output();
    run.is_ok()
}

fn assemble(name: &str, into: &Path) -> PathBuf {
    let image = into.join(format!("{name}.bin"));
    let status = Command::new("nasm")
        .current_dir(folder())
        .args(["-w-all", "-f", "bin", &format!("-DCASES='cases/{name}.asm'"), "monitor.asm", "-o"])
        .arg(&image)
        .status()
        .expect("nasm was there a moment ago");
    assert!(status.success(), "nasm failed on {name}.asm");
    image
}

fn run_stele(name: &str, accel: &str, image: &Path, into: &Path) -> String {
    let out = into.join(format!("{name}.{accel}"));
    let rows = into.join(format!("{name}.{accel}.rows"));
    let status = Command::new(env!("CARGO_BIN_EXE_stele"))
        .args(["-accel", accel, "-cpu", "max", "-m", "64", "-display", "none", "-serial", "none"])
        .args(["-no-reboot", "-debugcon", &format!("file:{}", out.display())])
        .args(["-device", "isa-debug-exit,iobase=0x501", "-d", "rows", "-dfilter", RECORD_CODE])
        .arg("-D")
        .arg(rows)
        .arg("-bios")
        .arg(image)
        .status()
        .expect("stele starts");
    let text = std::fs::read_to_string(out).unwrap_or_default();
    assert_eq!(status.code(), Some(1), "{name} on {accel} stopped after\n{}", last_line(&text));
    text
}

fn run_qemu(name: &str, image: &Path, into: &Path) -> String {
    let out = into.join(format!("{name}.qemu"));
    let mut qemu = Command::new("timeout");
    qemu.args([HANG_S, "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "64"])
        .args(["-nographic", "-serial", "none", "-monitor", "none", "-no-reboot"])
        .args(["-debugcon", &format!("file:{}", out.display())])
        .args(["-device", "isa-debug-exit,iobase=0x501", "-bios"])
        .arg(image)
        .stdin(Stdio::null());
    qemu.status().expect("QEMU was there a moment ago");
    std::fs::read_to_string(out).unwrap_or_default()
}

fn run_bochs(name: &str, image: &Path, into: &Path) -> String {
    let rc = into.join(format!("{name}.bochsrc"));
    let size = std::fs::metadata(image).expect("just assembled").len();
    // Nothing of the host may decide: without a sound card the drivers other than the dummy abort, and no package that Bochs
    // depends on need bring a VGA BIOS.
    let text = format!(
        "megs: 64\nromimage: file={}, address={:#x}\nvgaromimage: file={}\ncpu: model=corei7_icelake_u, ips=50000000, \
         reset_on_triple_fault=0, ignore_bad_msrs=0\ndisplay_library: rfb, options=\"timeout=0\"\nport_e9_hack: enabled=1\n\
         log: {}\npanic: action=report\nerror: action=ignore\ninfo: action=ignore\nspeaker: enabled=0\nsound: waveoutdrv=dummy\n",
        image.display(),
        (1u64 << 32) - size,
        empty_rom(into).display(),
        into.join(format!("{name}.bochslog")).display(),
    );
    std::fs::write(&rc, text).expect("our own folder");
    let mut bochs = Command::new("timeout");
    bochs.args([HANG_S, "bochs", "-q", "-f"]).arg(rc);
    bochs.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = bochs.spawn().expect("Bochs was there a moment ago");
    // Debian's Bochs starts in its debugger.
    let _ = child.stdin.take().map(|mut stdin| stdin.write_all(b"c\nq\n"));
    let output = child.wait_with_output().expect("Bochs ends");
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().filter(|line| Line::parse(line).is_some() || *line == "Z");
    let records: String = lines.map(|line| format!("{line}\n")).collect();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!records.is_empty(), "Bochs ran no record of {name} ({}):\n{said}", output.status);
    records
}

/// An option ROM that returns at once: the records' firmware calls none, but Bochs does not start without one.
fn empty_rom(into: &Path) -> PathBuf {
    let mut rom = [0; 512];
    // Signature, length in 512 bytes, RETF, and what makes the sum 0.
    rom[..5].copy_from_slice(&[0x55, 0xAA, 1, 0xCB, 0x35]);
    let path = into.join("empty.rom");
    std::fs::write(&path, rom).expect("our own folder");
    path
}

fn last_line(text: &str) -> &str {
    text.lines().last().unwrap_or("nothing")
}

/// One record's outcome.
struct Line<'a> {
    name: &'a str,
    /// Mode and privilege level.
    place: &'a str,
    fields: BTreeMap<&'a str, &'a str>,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let (name, place) = (words.next()?, words.next()?);
        let fields: BTreeMap<_, _> = words.filter_map(|word| word.split_once('=')).collect();
        (place.len() == 2 && fields.contains_key("v")).then_some(Self { name, place, fields })
    }
}

/// Names of the fields in which two lines differ.
fn differences<'a>(ours: &Line<'a>, theirs: &Line<'a>) -> Vec<&'a str> {
    let mut names: Vec<&str> = ours.fields.keys().chain(theirs.fields.keys()).copied().collect();
    names.sort_unstable();
    names.dedup();
    names.retain(|name| ours.fields.get(name) != theirs.fields.get(name));
    names
}

/// A rule of the ledger: `peer | case | mode and level | fields | who is right | why`; `*` stands for any.
struct Rule {
    peer: String,
    case: String,
    place: String,
    fields: String,
}

fn ledger() -> Vec<Rule> {
    let text = std::fs::read_to_string(folder().join("ledger.txt")).expect("the ledger");
    let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let columns: Vec<&str> = line.split('|').map(str::trim).collect();
            let [peer, case, place, fields, right, why] = columns[..] else {
                panic!("ledger: six columns expected: {line}");
            };
            assert!(["us", "peer", "open"].contains(&right) && !why.is_empty(), "ledger: {line}");
            let [peer, case, place, fields] = [peer, case, place, fields].map(str::to_owned);
            Rule { peer, case, place, fields }
        })
        .collect()
}

impl Rule {
    fn explains(&self, peer: &str, ours: &Line<'_>, theirs: &Line<'_>, differing: &[&str]) -> bool {
        let fits = |pattern: &str, text: &str| {
            pattern.split(' ').any(|p| match p.strip_suffix('*') {
                Some(start) => text.starts_with(start),
                None => p == text,
            })
        };
        fits(&self.peer, peer)
            && fits(&self.case, ours.name)
            && fits(&self.place, ours.place)
            && differing.iter().all(|field| {
                fits(&self.fields, field) || (*field == "fl" && self.allows_flags(ours, theirs))
            })
    }
}

impl Rule {
    /// `fl^mask` among the fields, and the flags differ in no other bit?
    fn allows_flags(&self, ours: &Line<'_>, theirs: &Line<'_>) -> bool {
        let number = |text: Option<&&str>| u64::from_str_radix(text.copied().unwrap_or("x"), 16);
        let masks = self.fields.split(' ').filter_map(|field| field.strip_prefix("fl^"));
        let (Ok(a), Ok(b)) = (number(ours.fields.get("fl")), number(theirs.fields.get("fl")))
        else {
            return false;
        };
        masks.filter_map(|mask| u64::from_str_radix(mask, 16).ok()).any(|mask| (a ^ b) & !mask == 0)
    }
}

/// Unexplained differences between our text and a peer's.
fn compare(peer: &str, ours: &str, theirs: &str, rules: &[Rule]) -> Vec<String> {
    let (a, b) = (ours.lines().filter_map(Line::parse), theirs.lines().filter_map(Line::parse));
    let mut unexplained = Vec::new();
    let (mut ours_count, mut theirs_count) = (0, 0);
    for (ours, theirs) in a.zip(b) {
        (ours_count, theirs_count) = (ours_count + 1, theirs_count + 1);
        assert_eq!((ours.name, ours.place), (theirs.name, theirs.place), "records out of step");
        let fields = differences(&ours, &theirs);
        if fields.is_empty()
            || rules.iter().any(|rule| rule.explains(peer, &ours, &theirs, &fields))
        {
            continue;
        }
        let mut text = format!("{peer}: record {ours_count}, {} {}:", ours.name, ours.place);
        for field in fields {
            let value = |line: &Line<'_>| line.fields.get(field).copied().unwrap_or("-").to_owned();
            let _ = write!(text, " {field} {} / {}", value(&ours), value(&theirs));
        }
        unexplained.push(text);
    }
    let all = |text: &str| text.lines().filter(|line| Line::parse(line).is_some()).count();
    if all(ours) != ours_count || all(theirs) != theirs_count {
        unexplained.push(format!("{peer}: {} records here, {} there", all(ours), all(theirs)));
    }
    unexplained
}

/// A line per name and place: how many records, and their digest.
fn digest(text: &str) -> String {
    let mut groups: BTreeMap<String, (u32, u64)> = BTreeMap::new();
    for (line, parsed) in text.lines().filter_map(|line| Some((line, Line::parse(line)?))) {
        let group = groups.entry(format!("{} {}", parsed.name, parsed.place)).or_default();
        group.0 += 1;
        for byte in line.trim_end().bytes() {
            group.1 = (group.1 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
        }
    }
    groups.iter().fold(String::new(), |mut out, (group, (count, hash))| {
        let _ = writeln!(out, "{group} {count} {hash:016x}");
        out
    })
}

fn check_digest(name: &str, text: &str) {
    let golden = folder().join("digests").join(format!("{name}.txt"));
    let got = digest(text);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&golden, got).expect("the digest can be written");
        return;
    }
    let want = std::fs::read_to_string(&golden).expect("a recorded digest");
    let bad: Vec<&str> = got.lines().filter(|l| !want.lines().any(|w| w == *l)).collect();
    assert!(got == want, "{name} differs from what was recorded: {bad:?}");
}

/// Compares the rows that the JIT met in the records' code with what `coverage.txt` says, or writes it anew.
fn check_rows(dir: &Path) {
    let tables = Path::new(env!("CARGO_MANIFEST_DIR")).join("../isa-spec");
    let isa = isa_spec::load(&tables.join("x86")).unwrap_or_else(|errors| panic!("{errors}"));
    let file = tables.join("coverage.txt");
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    let (written, _) = Reach::parse(&isa, &text);
    let mut now = written.clone();
    now.set(SYSTEM, &[]);
    for Cases { name, .. } in CASES {
        let log = std::fs::read_to_string(dir.join(format!("{name}.jit.rows"))).unwrap_or_default();
        let rows = read_log(&isa, &log).unwrap_or_else(|error| panic!("{error}"));
        assert!(!rows.is_empty(), "no rows in the records of {name}");
        now.add(SYSTEM, rows);
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&file, now.to_string()).expect("coverage.txt can be written");
        return;
    }
    let rows = now.differences(&written, SYSTEM);
    assert!(
        rows.is_empty(),
        "isa-spec/coverage.txt is not current: run with UPDATE_EXPECT=1: {rows:#?}"
    );
}

#[test]
fn privileged_behaviour_is_as_recorded_and_as_the_peers_have_it() {
    if !has("nasm", "-v") {
        return skip("nasm is not installed, the system oracle was not run");
    }
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let kept = std::env::var_os("SYSTEM_KEEP").map(PathBuf::from);
    let dir = kept.as_deref().unwrap_or(temporary.path());
    let (qemu, bochs) = (has("qemu-system-x86_64", "-version"), has("bochs", "--help"));
    for (peer, is_there) in [("QEMU", qemu), ("Bochs", bochs)] {
        if !is_there {
            skip(&format!("{peer} is not installed, its records were not compared"));
        }
    }
    let rules = ledger();
    let mut unexplained = Vec::new();
    for &Cases { name, qemu: qemu_survives, evaluated } in CASES {
        let image = assemble(name, dir);
        let ours = run_stele(name, "jit", &image, dir);
        assert!(ours.ends_with("Z\n"), "{name} did not finish: {}", last_line(&ours));
        check_digest(name, &ours);
        if evaluated {
            let evaluator = run_stele(name, "interp", &image, dir);
            assert!(ours == evaluator, "{name}: the JIT and the evaluator differ");
        }
        if qemu && qemu_survives {
            unexplained.extend(compare("qemu", &ours, &run_qemu(name, &image, dir), &rules));
        }
        if bochs {
            unexplained.extend(compare("bochs", &ours, &run_bochs(name, &image, dir), &rules));
        }
    }
    check_rows(dir);
    let some: Vec<&String> = unexplained.iter().take(40).collect();
    assert!(some.is_empty(), "{} differences not in the ledger: {some:#?}", unexplained.len());
}
