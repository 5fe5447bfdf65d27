//! Where control leaves the canonical addresses, on every engine: the fault is the jump's own, or that of the fetch
//! behind the last byte.
//!
//! Source: SDM Vol. 1, "Canonical Addressing"; Vol. 2, JMP, CALL, RET, Jcc, exceptions of 64-bit mode.

use stele_tests::{Bench, Ending, Engine, setup};

/// #GP.
const GP: u8 = 13;
/// The last page of the lower half and the first of the upper one; both are mapped by [`setup::long_paging`].
const LAST: u64 = 0x7FFF_FFFF_F000;
const FIRST: u64 = 0xFFFF_8000_0000_0000;
/// Below the lower window's stack, seen through the window at 0.
const STACK: u64 = 0xE000;

/// Runs `code` at a linear address until an exception; what was pushed as instruction pointer, and the stack pointer before.
fn fault_of(engine: Engine, at: u64, code: &[u8], rax: u64) -> (u64, u64) {
    let mut bench = Bench::new(engine);
    bench.clear();
    bench.poke(at & 0x1F_FFFF, code);
    setup::long(&mut bench, 0);
    setup::long_paging(&mut bench, |lin| lin | 0x67);
    let s = &mut bench.cpu_mut().state;
    (s.pc, s.gpr[0], s.gpr[4]) = (at, rax, STACK);
    bench.settle();
    assert_eq!(bench.run(), Ending::Halted, "{engine:?} {at:#x} {code:02x?}");
    assert_eq!(setup::vector_reached(&bench), Some(GP), "{engine:?} {at:#x} {code:02x?}");
    let top = bench.cpu().state.gpr[4];
    let frame = bench.peek(top, 40);
    let word = |n: usize| u64::from_le_bytes(frame[8 * n..8 * n + 8].try_into().unwrap());
    assert_eq!(word(0), 0, "error code");
    (word(1), word(4))
}

/// The fault's instruction pointer is `fault`, on every engine, and the stack is as before.
fn check(at: u64, code: &[u8], rax: u64, fault: u64) {
    for engine in Engine::ALL {
        assert_eq!(fault_of(engine, at, code, rax), (fault, STACK), "{engine:?} {code:02x?}");
    }
}

#[test]
fn a_direct_jump_faults_itself() {
    let at = LAST + 0x800;
    check(at, &[0xE9, 0x00, 0x10, 0, 0], 0, at); // jmp
    check(at, &[0x0F, 0x8B, 0x00, 0x10, 0, 0], 0, at); // jnp, taken
    check(at, &[0xE8, 0x00, 0x10, 0, 0], 0, at); // call
    check(LAST + 0xFF0, &[0xEB, 0x7F], 0, LAST + 0xFF0); // jmp short
    check(FIRST + 8, &[0xEB, 0x80], 0, FIRST + 8);
    check(FIRST + 8, &[0xE2, 0x80], 0, FIRST + 8); // loop
    check(FIRST + 0x100, &[0xE9, 0x00, 0x00, 0x00, 0x80], 0, FIRST + 0x100);
}

#[test]
fn an_indirect_jump_faults_itself() {
    for target in [LAST + 0x1000, FIRST - 1, 0x1234_5678_9ABC_DEF0] {
        check(0x4000, &[0xFF, 0xE0], target, 0x4000); // jmp rax
        check(0x4000, &[0xFF, 0xD0], target, 0x4000); // call rax
    }
    let ret: &[u8] = &[0x50, 0xC3]; // push rax; ret
    for engine in Engine::ALL {
        assert_eq!(fault_of(engine, 0x4000, ret, FIRST - 1), (0x4001, STACK - 8), "{engine:?}");
    }
}

#[test]
fn running_off_the_end_faults_at_the_fetch() {
    check(LAST + 0xFFF, &[0x90], 0, LAST + 0x1000);
    // An insn whose bytes go on behind the last address faults at its own.
    check(LAST + 0xFFE, &[0x66, 0x05], 0, LAST + 0xFFE);
}

#[test]
fn near_the_edge_other_jumps_go_on() {
    for engine in Engine::ALL {
        let mut bench = Bench::new(engine);
        bench.clear();
        // jnp +0x1000, not taken; jmp -0x1000 out of the page; hlt
        bench.poke(0x1F_F800, &[0x0F, 0x8B, 0, 0x10, 0, 0, 0xE9, 0xF5, 0xEF, 0xFF, 0xFF]);
        bench.poke(0x1F_E800, &[0xF4]);
        setup::long(&mut bench, 0);
        setup::long_paging(&mut bench, |lin| lin | 0x67);
        bench.cpu_mut().state.pc = LAST + 0x800;
        bench.cpu_mut().state.set_eflags(4); // PF
        bench.settle();
        assert_eq!(bench.run(), Ending::Halted);
        assert_eq!(bench.cpu().state.pc, LAST - 0x1000 + 0x801, "{engine:?}");
    }
}
