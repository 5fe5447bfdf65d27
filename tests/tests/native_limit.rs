//! Near branches that end where their code segment does, on the host and on ours: the ledger's entry "conditional branch at the end of
//! a segment", and that nothing beside it differs.
//!
//! Each branch runs some hundred times, since AMD's processors do not always do the same with a conditional one.

use std::path::Path;

use stele_tests::Engine;
use stele_tests::native::cases::batch;
use stele_tests::native::compare::differences;
use stele_tests::native::guest::Guest;
use stele_tests::native::host::Host;
use stele_tests::native::layout::{STACK, segment, sel};
use stele_tests::native::ledger::explain;
use stele_tests::native::state::{Case, Patch, Width};

const ENTRY: &str = "conditional branch at the end of a segment";
/// Times that each branch runs.
const ROUNDS: usize = 300;
const ZF: u32 = 0x40;
const BP: u8 = 3;
const GP: u8 = 13;

/// A branch; all of them go 20h bytes back from their end.
struct Branch {
    name: &'static str,
    /// Its bytes, in 16-bit and in 32-bit code.
    bytes: [&'static [u8]; 2],
    ecx: u64,
    is_conditional: bool,
    is_taken: bool,
}

const fn branch(name: &'static str, bytes: [&'static [u8]; 2], ecx: u64) -> Branch {
    Branch { name, bytes, ecx, is_conditional: true, is_taken: true }
}

const JZ: &[u8] = &[0x74, 0xE0];
const JNZ: &[u8] = &[0x75, 0xE0];
const JZ_LONG: [&[u8]; 2] = [&[0x0F, 0x84, 0xE0, 0xFF], &[0x0F, 0x84, 0xE0, 0xFF, 0xFF, 0xFF]];
const JMP: &[u8] = &[0xEB, 0xE0];
const CALL: [&[u8]; 2] = [&[0xE8, 0xE0, 0xFF], &[0xE8, 0xE0, 0xFF, 0xFF, 0xFF]];
const LOOP: &[u8] = &[0xE2, 0xE0];
const JCXZ: &[u8] = &[0xE3, 0xE0];

/// All run with ZF set.
const BRANCHES: [Branch; 9] = [
    branch("JZ rel8", [JZ; 2], 5),
    branch("JZ rel16/32", JZ_LONG, 5),
    branch("LOOP", [LOOP; 2], 5),
    branch("JCXZ", [JCXZ; 2], 0),
    Branch { is_taken: false, ..branch("JNZ rel8, not taken", [JNZ; 2], 5) },
    Branch { is_taken: false, ..branch("LOOP, not taken", [LOOP; 2], 1) },
    Branch { is_taken: false, ..branch("JCXZ, not taken", [JCXZ; 2], 5) },
    Branch { is_conditional: false, ..branch("JMP rel8", [JMP; 2], 5) },
    Branch { is_conditional: false, ..branch("CALL", CALL, 5) },
];

impl Branch {
    /// The branch with `room` bytes of the segment behind it.
    fn case(&self, width: Width, room: u64) -> Case {
        let (n, code, data) = match width {
            Width::W16 => (0, sel::TIGHT16, sel::DATA16),
            _ => (1, sel::TIGHT32, sel::DATA),
        };
        let bytes = self.bytes[n];
        let mut case = Case {
            width,
            bytes: [0; 16],
            len: bytes.len() as u8,
            ip: u64::from(segment(code).limit) + 1 - room - bytes.len() as u64,
            gpr: [0; 16],
            flags: ZF,
            seg: [data, code, data, data, 0, 0],
            bases: [0; 2],
            patches: [Patch::NONE; 2],
            fp: None,
            row: None,
        };
        case.bytes[..bytes.len()].copy_from_slice(bytes);
        case.gpr[1] = self.ecx;
        case.gpr[4] = STACK + 0x800 - segment(data).base;
        case
    }

    /// Vector and pushed IP of the manual: INT3 at the target, or #GP at the first byte that cannot be fetched.
    fn ending(&self, case: &Case, room: u64) -> (u8, u64) {
        let next = case.ip + u64::from(case.len);
        match (self.is_taken, room) {
            (true, _) => (BP, next - 0x20 + 1),
            (false, 0) => (GP, next),
            (false, _) => (BP, next + 1),
        }
    }
}

#[test]
fn only_taken_conditional_branches_at_the_limit_differ() {
    let mut host = match Host::open() {
        Ok(host) => host,
        Err(error) => {
            println!("SKIPPED: the native oracle cannot run here: {error}");
            assert!(std::env::var_os("STELE_REQUIRE_ALL").is_none(), "{error}");
            return;
        }
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../isa-spec/x86");
    let isa = isa_spec::load(&folder).unwrap_or_else(|errors| panic!("{errors}"));
    let mut image = batch(&isa, 0, Width::W32, 1, 1).image;
    let mut guests = [Engine::Evaluator, Engine::HotOptimised].map(Guest::new);
    for width in [Width::W16, Width::W32] {
        for (branch, room) in BRANCHES.iter().flat_map(|b| [(b, 0), (b, 1)]) {
            let case = branch.case(width, room);
            let what = format!("{}, {}-bit code, room {room}", branch.name, width.bits());
            let outputs = host.run(&mut image, &vec![case.clone(); ROUNDS]);
            let mut refused = 0;
            for guest in &mut guests {
                guest.fill(&mut image);
                let ours = guest.run(&mut image, &case);
                assert_eq!((ours.vector, ours.ip), branch.ending(&case, room), "{what}: ours");
                refused = 0;
                for host in &outputs {
                    let list = differences(&case, host, &ours);
                    if list.is_empty() {
                        continue;
                    }
                    let entry = explain(&case, host, &ours).map(|entry| entry.name);
                    let is_it = branch.is_conditional && branch.is_taken && room == 0;
                    assert!(is_it && entry == Some(ENTRY), "{what}: {}", list.join("; "));
                    refused += 1;
                }
            }
            println!("{what}: the host refuses {refused} of {ROUNDS}");
        }
    }
}
