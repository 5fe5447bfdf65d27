//! The quick ways of delivery and return do exactly what the full ones do, or nothing.

use mem::Size;

use crate::cpu::Cpu;
use crate::interrupt::{Event, Source};
use crate::state::seg;
use crate::testing::long::{self, long};
use crate::testing::{at, cpu, enter_level, gate, poke, protected, sel, set_gate};

/// Low memory, where tables and stacks are.
const LOW: usize = 0x1_0000;

/// A source of numbers.
struct Dice(u64);

impl Dice {
    fn number(&mut self) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.number() as usize % from.len()]
    }
    fn one_in(&mut self, n: u64) -> bool {
        self.number().is_multiple_of(n)
    }
}

fn low_memory(cpu: &Cpu) -> Vec<u8> {
    let mut bytes = vec![0; LOW];
    assert!(cpu.ram.read_bytes(0, &mut bytes));
    bytes
}

/// All that counts afterwards; transfers may be noted or not.
fn outcome(cpu: &Cpu) -> (String, Vec<u8>) {
    let mut state = cpu.state.clone();
    (state.to_system, state.to_user) = Default::default();
    (format!("{state:?} {:?}", cpu.nmi_blocked), low_memory(cpu))
}

/// Does it quickly and fully; true if there is a quick way.
fn both(
    cpu: &mut Cpu,
    quickly: impl Fn(&mut Cpu) -> Option<()>,
    fully: impl Fn(&mut Cpu) -> bool,
) -> bool {
    cpu.sync_mode();
    let (state, memory) = (cpu.state.clone(), low_memory(cpu));
    let restore = |cpu: &mut Cpu| {
        cpu.state = state.clone();
        cpu.ram.write_bytes(0, &memory);
        cpu.sync_mode();
    };
    // The first time the TLB learns the pages, and what the mode that is entered leads to.
    fully(cpu);
    restore(cpu);
    let is_good = fully(cpu);
    let expected = outcome(cpu);
    restore(cpu);
    let before = outcome(cpu);
    let is_quick = quickly(cpu).is_some();
    assert!(is_good || !is_quick, "the full way faults: {before:?}");
    let (state, memory) = outcome(cpu);
    let right = if is_quick { &expected } else { &before };
    assert_eq!(state, right.0, "quick: {is_quick}, before: {}", before.0);
    assert!(memory == right.1);
    restore(cpu);
    is_quick
}

fn deliver_both(cpu: &mut Cpu, dice: &mut Dice) -> bool {
    let sources =
        [Source::External, Source::Exception(None), Source::Exception(Some(6)), Source::Software];
    let event = Event {
        vector: 0x30,
        source: dice.pick(&sources),
        ip: cpu.state.pc,
        flags: cpu.state.eflags(),
    };
    both(cpu, |cpu| cpu.deliver_quickly(&event), |cpu| cpu.deliver_fully(event).is_ok())
}

fn return_both(cpu: &mut Cpu, osz: u32) -> bool {
    let pc = cpu.state.pc;
    both(cpu, |cpu| cpu.return_quickly(osz / 8), |cpu| cpu.return_fully(osz, pc).is_ok())
}

/// Flags as they are met: mostly without the rare ones.
fn some_flags(dice: &mut Dice) -> u32 {
    let rare = dice.pick(&[0, 0, 0, 0, 0x100, 0x4000, 0x4_0000, 0x1_0000, 0x2_0000]);
    (dice.number() as u32 & 0x20_3ED5) | rare
}

/// A word of a table is hurt now and then.
fn maybe_hurt(cpu: &Cpu, dice: &mut Dice, from: u64, words: u64) {
    if dice.one_in(3) {
        let at = from + 8 * (dice.number() % words);
        let old = long::peek8(cpu, at);
        poke(cpu, at, Size::B8, old ^ 1 << (dice.number() % 64));
    }
}

#[test]
fn delivery_in_protected_mode() {
    let (mut dice, mut quick) = (Dice(1), 0);
    for _ in 0..1000 {
        let (mut cpu, _) = protected();
        enter_level(&mut cpu, dice.pick(&[0, 3]));
        cpu.state.set_eflags(some_flags(&mut dice) & !0x2_4000);
        let access = dice.pick(&[0xEE, 0xEF, 0x8E, 0xE6, 0x6E, 0xE5]);
        let code = dice.pick(&[sel::CODE, sel::CODE, sel::CODE, sel::CONFORMING, sel::CODE16, 0]);
        set_gate(&cpu, 0x30, gate(code, 0x5000, access, 0));
        maybe_hurt(&cpu, &mut dice, at::GDT + 8, 5);
        maybe_hurt(&cpu, &mut dice, at::TSS, 2);
        maybe_hurt(&cpu, &mut dice, at::IDT + 0x30 * 8, 1);
        cpu.state.gpr[4] = dice.pick(&[0x9000, 0x9002, 0x9008, 4, 0xFFFF_9000]);
        quick += u32::from(deliver_both(&mut cpu, &mut dice));
    }
    assert!(quick > 20, "{quick}");
}

#[test]
fn delivery_in_long_mode() {
    let (mut dice, mut quick) = (Dice(2), 0);
    for _ in 0..1000 {
        let (mut cpu, _) = long();
        match dice.number() % 4 {
            0 => enter_level(&mut cpu, 3),
            n => long::enter(&mut cpu, if n == 1 { 3 } else { 0 }),
        }
        cpu.state.set_eflags(some_flags(&mut dice) & !0x2_0000);
        let access = dice.pick(&[0xEE, 0xEF, 0x8E, 0xE6, 0x6E]);
        let code = dice.pick(&[long::CODE64, long::CODE64, sel::CODE, long::BAD64, 0]);
        let off = dice.pick(&[0x5000, 0xFFFF_8000_0000_5000, 0x8000_0000_0000]);
        long::set_gate(&cpu, 0x30, code, off, access, dice.pick(&[0, 0, 1, 2]));
        maybe_hurt(&cpu, &mut dice, at::GDT + u64::from(long::CODE64), 3);
        maybe_hurt(&cpu, &mut dice, long::TSS, 6);
        maybe_hurt(&cpu, &mut dice, at::IDT + 0x300, 2);
        cpu.state.gpr[4] = dice.pick(&[0x9000, 0x9004, 0x9009, 0x10, 0x8000_0000_0008]);
        quick += u32::from(deliver_both(&mut cpu, &mut dice));
    }
    assert!(quick > 20, "{quick}");
}

#[test]
fn delivery_and_return_in_real_mode() {
    let (mut dice, mut quick) = (Dice(3), 0);
    for _ in 0..1000 {
        let mut cpu = cpu();
        for n in [seg::CS, seg::SS] {
            cpu.load_segment(seg::SS, 0x100).unwrap();
            cpu.state.seg[usize::from(n)] = cpu.state.seg[usize::from(seg::SS)];
        }
        cpu.state.pc = 0x123;
        cpu.state.set_eflags(some_flags(&mut dice) & !0x2_0000);
        let selector = dice.pick(&[0x100, 0x100, 0x200]);
        poke(&cpu, 0xC0, Size::B4, selector << 16 | dice.number() & 0xFFFF);
        cpu.state.gpr[4] = dice.pick(&[0x1000, 0x1001, 2, 0, 0xFFFA, 0xFFFE, 0x5_2000]);
        quick += u32::from(deliver_both(&mut cpu, &mut dice));
        let frame = [dice.number() & 0xFFFF, selector, some_flags(&mut dice).into()];
        for (i, word) in (0..).zip(frame) {
            let at = 0x1000 + ((cpu.state.gpr[4] + 2 * i) & 0xFFFF);
            poke(&cpu, at, Size::B2, word & 0xFFFF);
        }
        quick += u32::from(return_both(&mut cpu, dice.pick(&[16, 16, 32])));
    }
    assert!(quick > 100, "{quick}");
}

#[test]
fn return_in_protected_mode() {
    let (mut dice, mut quick) = (Dice(4), 0);
    for _ in 0..1000 {
        let (mut cpu, _) = protected();
        enter_level(&mut cpu, dice.pick(&[0, 0, 3]));
        cpu.state.set_eflags(some_flags(&mut dice) & !0x2_4000);
        let outer = [sel::CODE, sel::USER_CODE, sel::USER_CODE, sel::CODE16, 0x3B, sel::CODE | 1];
        let stacks = [sel::DATA, sel::USER_DATA, sel::USER_DATA, sel::DATA16, 0];
        let frame = [
            dice.pick(&[0x5000, 0xFFFF_FFFF]),
            dice.pick(&outer).into(),
            some_flags(&mut dice).into(),
            dice.pick(&[0x7000, 0x1_2345]),
            dice.pick(&stacks).into(),
        ];
        cpu.state.gpr[4] = dice.pick(&[0x9000, 0x9002, 0x9FF0, 0x9FF8]);
        for (i, word) in (0..).zip(frame) {
            poke(&cpu, cpu.state.gpr[4] + 4 * i, Size::B4, word);
        }
        maybe_hurt(&cpu, &mut dice, at::GDT + 8, 4);
        quick += u32::from(return_both(&mut cpu, dice.pick(&[32, 32, 32, 16])));
    }
    assert!(quick > 20, "{quick}");
}

#[test]
fn return_in_long_mode() {
    let (mut dice, mut quick) = (Dice(5), 0);
    for _ in 0..1000 {
        let (mut cpu, _) = long();
        long::enter(&mut cpu, dice.pick(&[0, 0, 3]));
        cpu.state.set_eflags(some_flags(&mut dice) & !0x2_4000);
        let outer = [long::CODE64, long::USER_CODE64, long::USER_CODE64, sel::USER_CODE];
        let stacks = [sel::DATA, long::USER_DATA, long::USER_DATA, 0, 3];
        let frame = [
            dice.pick(&[0x5000, 0x5000, 0xFFFF_8000_0000_5000, 0x8000_0000_0000]),
            dice.pick(&outer).into(),
            some_flags(&mut dice).into(),
            dice.pick(&[0x7000, 0x8000_0000_0001]),
            dice.pick(&stacks).into(),
        ];
        cpu.state.gpr[4] = dice.pick(&[0x9000, 0x9004, 0x9FD8, 0x9FE0]);
        for (i, word) in (0..).zip(frame) {
            poke(&cpu, cpu.state.gpr[4] + 8 * i, Size::B8, word);
        }
        maybe_hurt(&cpu, &mut dice, at::GDT + u64::from(long::CODE64), 3);
        quick += u32::from(return_both(&mut cpu, dice.pick(&[64, 64, 64, 32])));
    }
    assert!(quick > 20, "{quick}");
}
