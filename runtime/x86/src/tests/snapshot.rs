//! Saving and loading the processor.

use mem::StateError;

use crate::testing::protected;

#[test]
fn round_trip_and_every_truncation() {
    let (mut cpu, _) = protected();
    cpu.state.gpr[3] = 0x1234_5678_9abc_def0;
    cpu.state.set_eflags(0x0000_0ED7);
    cpu.state.ymm[15][3] = 99;
    cpu.state.fpu.0[32..42].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    cpu.state.dr[7] = 0x401;
    cpu.nmi_blocked = true;
    cpu.state_loaded();
    let saved = cpu.save_state();
    let (mut other, _) = protected();
    other.load_state(&saved).unwrap();
    other.state_loaded();
    assert_eq!(other.save_state(), saved);
    assert_eq!((other.state_hash(), other.mode()), (cpu.state_hash(), cpu.mode()));
    assert!(other.nmi_blocked && other.breaks_on_code());
    for n in 0..saved.len() {
        assert!(other.load_state(&saved[..n]).is_err(), "{n} bytes");
    }
    assert!(other.load_state(&[&saved[..], &[0]].concat()).is_err());
}

#[test]
fn impossible_registers_are_refused() {
    type Spoil = fn(&mut crate::state::CpuState);
    let cases: [(Spoil, &str); 9] = [
        (|s| s.mxcsr = 0x1_0000, "MXCSR"),
        (|s| s.cr0 = 1 << 31, "CR0"),
        (|s| s.cr4 = 1 << 40, "CR4"),
        (|s| s.efer |= 1 << 10, "EFER"),
        (|s| s.xcr0 = 1 << 9, "XCR0"),
        (|s| s.cpl = 4, "the processor's state"),
        (|s| s.eflags |= crate::flags::VM, "EFLAGS"),
        (|s| s.pc = 1 << 40, "the instruction pointer"),
        (|s| s.seg[3].base = 1 << 50, "a segment base"),
    ];
    for (spoil, what) in cases {
        let (mut cpu, _) = protected();
        spoil(&mut cpu.state);
        let saved = cpu.save_state();
        let (mut other, _) = protected();
        assert_eq!(other.load_state(&saved), Err(StateError::Invalid(what)));
    }
}
