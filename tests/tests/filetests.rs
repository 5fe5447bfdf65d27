//! Goldens of translation: what a few bytes become on the way to host code, in `filetests/*.txt`.
//!
//! A file begins with lines `# why`, `mode: …`, perhaps `set: reg=value …`, and `bytes: …`; behind it stands what the
//! log shows of the block made from the bytes: the listing, the ops as lowered, the ops after the optimiser, and how
//! many host insns and bytes they take. Read a change as you read code; `UPDATE_EXPECT=1` writes it.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use stele::log::{Items, Log};
use stele_tests::{Bench, Ending, Engine, GPR_NAMES, setup};
use x86::state::Segment;

/// Where the bytes stand.
const START: u64 = 0x4000;
/// What separates the header from the log.
const RULE: &str = "----------------\n";
const HLT: u8 = 0xF4;

/// The log's sink, kept to be read.
#[derive(Clone, Default)]
struct Sink(Rc<RefCell<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The head of a file.
struct Header<'a> {
    text: &'a str,
}

impl<'a> Header<'a> {
    fn field(&self, name: &str) -> Option<&'a str> {
        self.text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    }

    fn bytes(&self) -> Vec<u8> {
        let text = self.field("bytes").expect("a file has a line `bytes:`");
        text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
    }

    fn enter(&self, bench: &mut Bench) {
        bench.clear();
        match self.field("mode") {
            Some("real") => setup::real(bench, [0x20, 0, 0, 0x10, 0, 0]),
            Some("flat16") => setup::flat(bench, 16),
            Some("flat32") => setup::flat(bench, 32),
            Some("flat64") => setup::flat(bench, 64),
            Some("segmented") => {
                setup::flat(bench, 32);
                let small = Segment { selector: 0x40, attr: 0x4093, limit: 0xFFFF, base: 0x1000 };
                setup::set_segment(bench, 3, small);
            }
            mode => panic!("no such mode: {mode:?}"),
        }
        for part in self.field("set").unwrap_or_default().split_whitespace() {
            let (name, value) = part.split_once('=').expect("`set:` has parts like eax=10");
            let n = GPR_NAMES.iter().position(|r| *r == name).expect("a register's name");
            bench.cpu_mut().state.gpr[n] = u64::from_str_radix(value, 16).expect("a number");
        }
        bench.poke(START, &self.bytes());
        bench.poke(START + self.bytes().len() as u64, &[HLT]);
        bench.cpu_mut().state.pc = START;
        bench.settle();
    }

    /// What the log shows of the first block.
    fn log(&self, engine: Engine) -> String {
        let sink = Sink::default();
        let items = Items::parse("in_asm,op,op_opt,out_asm").unwrap();
        let log = Log::new(items, Vec::new(), Box::new(sink.clone()));
        let mut bench = Bench::with_log(engine.config(), log);
        self.enter(&mut bench);
        assert_eq!(bench.run(), Ending::Halted, "the bytes must lead to a HLT");
        drop(bench);
        let text = String::from_utf8(sink.0.borrow().clone()).unwrap();
        text.split(RULE).nth(1).expect("a block was logged").to_owned()
    }

    /// The file as it should be.
    fn expected(&self) -> String {
        let (hot, compact) = (self.log(Engine::HotOptimised), self.log(Engine::CompactOptimised));
        let (block, _) = hot.split_once("OUT: ").expect("there is host code");
        let mut text = format!("{}{RULE}{}", self.text, block.replace(" \n", "\n"));
        let insns = host_insns(&hot);
        let sizes = (size(&hot), size(&compact));
        let _ = writeln!(text, "OUT: {insns} insns, {} bytes, compact {} bytes", sizes.0, sizes.1);
        text
    }
}

/// Host insns of the block, cold code too.
fn host_insns(log: &str) -> usize {
    let (_, host) = log.split_once("OUT: ").expect("there is host code");
    host.lines().filter(|line| line.starts_with("0x")).count()
}

/// Bytes of host code of the block.
fn size(log: &str) -> &str {
    let (_, rest) = log.split_once("OUT: [size=").expect("there is host code");
    rest.split(']').next().unwrap_or_default()
}

fn check(path: &Path) -> Result<(), String> {
    let found = fs::read_to_string(path).unwrap();
    let header = Header { text: found.split(RULE).next().unwrap_or_default() };
    let expected = header.expected();
    if found == expected {
        return Ok(());
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(path, expected).unwrap();
        return Ok(());
    }
    Err(format!("{} should be:\n{expected}", path.display()))
}

#[test]
fn translations_are_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("filetests");
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 40, "only {} files", paths.len());
    let wrong: Vec<String> = paths.iter().filter_map(|path| check(path).err()).collect();
    assert!(wrong.is_empty(), "{}\nUPDATE_EXPECT=1 writes them.", wrong.join("\n"));
}
