//! The protocol without gdb: what a peer may send, in whole, in part, and out of its mind.

use std::borrow::Cow;

use super::*;
use crate::console::Line;
use crate::demo;
use crate::machine::{Firmware, MachineConfig};

struct Bench {
    machine: Machine,
    gdb: Gdb,
    line: Line,
}

impl Bench {
    /// The demo's firmware, at its first instruction, with a peer.
    fn new() -> Self {
        let config = MachineConfig {
            ram_bytes: 16 << 20,
            firmware: Firmware::Image(Cow::Borrowed(demo::firmware())),
            icount_shift: Some(6),
            ..MachineConfig::default()
        };
        let machine = Machine::new(&config).unwrap();
        let line = Line::new("gdb", false);
        let gdb = Gdb::new(line.front(true));
        let mut bench = Self { machine, gdb, line };
        bench.connect();
        bench
    }

    fn connect(&mut self) {
        self.line.set_peer(true);
        self.gdb.poll(&mut self.machine);
    }

    fn disconnect(&mut self) {
        self.line.set_peer(false);
        self.gdb.poll(&mut self.machine);
    }

    fn send(&mut self, bytes: &[u8]) {
        let items: Vec<Received> = bytes.iter().map(|&byte| Received::Byte(byte)).collect();
        for piece in items.chunks(1024) {
            assert!(self.line.feed(piece, || true));
            self.gdb.poll(&mut self.machine);
        }
    }

    /// What came back so far.
    fn answers(&mut self) -> String {
        // Something is there, or the line would wait.
        self.line.print("!");
        let mut bytes = Vec::new();
        assert!(self.line.take_output(&mut bytes));
        String::from_utf8_lossy(&bytes).trim_end_matches('!').to_owned()
    }

    /// The answer to one packet, unpacked.
    #[track_caller]
    fn ask(&mut self, text: &str) -> String {
        self.send(&packet(text));
        let answer = self.answers();
        let (_, body) = answer.rsplit_once('$').unwrap_or_else(|| panic!("{text}: {answer}"));
        self.send(b"+");
        unrun(body.split_once('#').unwrap().0)
    }
}

fn packet(text: &str) -> Vec<u8> {
    let sum = text.bytes().fold(0u8, u8::wrapping_add);
    format!("${text}#{sum:02x}").into_bytes()
}

/// Undoes run-length encoding.
fn unrun(text: &str) -> String {
    let (mut out, mut chars) = (String::new(), text.chars());
    while let Some(c) = chars.next() {
        match c {
            '*' => {
                let count = chars.next().unwrap() as u32 - 29;
                let last = out.chars().last().unwrap();
                out.extend((0..count).map(|_| last));
            }
            c => out.push(c),
        }
    }
    out
}

#[test]
fn registers_and_memory() {
    let mut bench = Bench::new();
    assert!(bench.machine.is_stopped(), "who connects stops the machine");
    assert_eq!(&bench.ask("?")[1..3], "05");
    let all = bench.ask("g");
    assert_eq!(all.len(), 2 * arch::TABLE.iter().map(|row| row.1).sum::<usize>());
    assert_eq!(&all[16 * 16..16 * 17], "f0ff000000000000", "rip");
    assert_eq!(bench.ask("p10"), "f0ff000000000000");
    assert_eq!(bench.ask("P0=8877665544332211"), "OK");
    assert_eq!(bench.ask("p0"), "8877665544332211");
    assert_eq!(bench.machine.vcpu().cpu().state.gpr[0], 0x1122_3344_5566_7788);
    // What has no single instruction to set it cannot be set.
    assert!(bench.ask("P3c=0000000000000000").starts_with('E'));
    assert!(bench.ask("P0=00").starts_with('E'));
    assert_eq!(bench.ask("M9000,4:01020304"), "OK");
    assert_eq!(bench.ask("m9000,4"), "01020304");
    // ROM can be read; nothing can be where nothing is.
    assert!(bench.ask("Mffff0,1:00").starts_with('E'));
    assert_eq!(bench.ask("mffff0,1").len(), 2);
    assert!(bench.ask("mfee00000,4").starts_with('E'));
    // A piece that ends where memory does.
    assert_eq!(bench.ask("mfffffe,8").len(), 4);
}

#[test]
fn steps_and_monitor() {
    let mut bench = Bench::new();
    let start = bench.machine.vcpu().cpu().lin_pc(bench.machine.vcpu().cpu().state.pc).0;
    assert!(bench.ask("vCont;s:1").contains("05"));
    let cpu = bench.machine.vcpu().cpu();
    assert_ne!(cpu.lin_pc(cpu.state.pc).0, start);
    assert_eq!(cpu.state.eflags() & 0x100, 0);
    let hex: String = "info status".bytes().map(|byte| format!("{byte:02x}")).collect();
    bench.send(&packet(&format!("qRcmd,{hex}")));
    let told: String = "paused".bytes().map(|byte| format!("{byte:02x}")).collect();
    assert!(unrun(&bench.answers()).contains(&told));
}

/// What a session is made of.
const SESSION: &[&str] = &[
    "qSupported:multiprocess+;swbreak+;hwbreak+;xmlRegisters=i386",
    "vMustReplyEmpty",
    "QStartNoAckMode",
    "Hg0",
    "qXfer:features:read:target.xml:0,ffb",
    "qTStatus",
    "?",
    "qfThreadInfo",
    "g",
    "Z0,7c00,1",
    "Z1,ffffffff81000000,1",
    "Z2,9000,4",
    "X9000,2:ab",
    "p1",
    "m0,40",
    "z0,7c00,1",
    "vCont?",
    "vCont;s:1",
];

#[test]
fn a_peer_may_leave_at_any_byte() {
    let bytes: Vec<u8> = SESSION.iter().flat_map(|text| packet(text)).collect();
    let mut bench = Bench::new();
    bench.disconnect();
    for end in 0..bytes.len() {
        bench.connect();
        assert!(bench.machine.is_stopped());
        bench.send(&bytes[..end]);
        bench.disconnect();
        assert!(!bench.machine.is_stopped(), "{end}: it goes on as it did before");
        assert!(bench.machine.debug().breakpoints.is_empty());
        assert!(bench.machine.debug().watches.is_empty());
    }
    // One that takes the place of another begins anew.
    bench.connect();
    bench.send(&packet(SESSION[9]));
    bench.disconnect();
    bench.connect();
    assert_eq!(&bench.ask("?")[1..3], "05");
}

#[test]
fn nonsense_ends_nothing_but_itself() {
    let mut bench = Bench::new();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let interesting = b"$#}*{:;,+-\x03mMgGpPzZqQvXk?0123456789abcdefHTD";
    for _ in 0..2000 {
        let mut bytes = match random() % 3 {
            // A packet of the session with a few other bytes.
            0 => {
                let mut text = SESSION[random() as usize % SESSION.len()].as_bytes().to_vec();
                for _ in 0..random() % 4 {
                    let at = random() as usize % text.len();
                    text[at] = interesting[random() as usize % interesting.len()];
                }
                packet(&String::from_utf8_lossy(&text))
            }
            1 => {
                let length = random() as usize % 40;
                let byte = |_| interesting[random() as usize % interesting.len()];
                packet(&String::from_utf8_lossy(&(0..length).map(byte).collect::<Vec<_>>()))
            }
            _ => (0..random() % 60).map(|_| random() as u8).collect(),
        };
        // No kill: that would be no nonsense.
        bytes.retain(|byte| *byte != b'k');
        bench.send(&bytes);
        assert!(!bench.machine.is_ending());
        if random() % 64 == 0 {
            bench.disconnect();
            bench.connect();
        }
    }
    bench.send(&packet(&"z".repeat(100_000)));
    bench.disconnect();
    bench.connect();
    assert_eq!(&bench.ask("?")[1..3], "05");
    assert_eq!(bench.ask("p1").len(), 16);
    bench.send(&packet("k"));
    assert!(bench.machine.is_ending());
}
