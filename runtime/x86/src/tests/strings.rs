//! Bulk string helpers against element-wise copying, and port permissions.

use mem::Size;

use crate::cpu::Cpu;
use crate::fault::Fault;
use crate::lower::helpers::Helpers;
use crate::testing::{at, enter_level, poke, protected};

const SI: usize = 6;
const DI: usize = 7;

/// Runs REP MOVS by `bulk_movs` alone and compares memory with element-wise copying.
fn check_copy(src: u64, dst: u64, count: u64, bytes: u64, is_down: bool) {
    let (mut cpu, _) = protected();
    let mut model: Vec<u8> = (0..0x4000u32).map(|i| (i * 7 + i / 256) as u8).collect();
    assert!(cpu.ram.write_bytes(0x1_0000, &model));
    cpu.state.df = if is_down { -1 } else { 1 };
    cpu.state.gpr[1] = count;
    cpu.state.gpr[SI] = 0x1_0000 + src;
    cpu.state.gpr[DI] = 0x1_0000 + dst;
    for _ in 0..count {
        if cpu.state.gpr[1] == 0 {
            break;
        }
        cpu.bulk_movs(bytes, 3, 32);
    }
    let done = count - cpu.state.gpr[1];
    for i in 0..done {
        let step = if is_down { (i * bytes).wrapping_neg() } else { i * bytes };
        let (s, d) = (src.wrapping_add(step) as usize, dst.wrapping_add(step) as usize);
        let element = model[s..s + bytes as usize].to_vec();
        model[d..d + bytes as usize].copy_from_slice(&element);
    }
    let mut got = vec![0; model.len()];
    assert!(cpu.ram.read_bytes(0x1_0000, &mut got));
    assert!(got == model, "src {src:#x} dst {dst:#x} count {count} bytes {bytes} down {is_down}");
    let moved = done * bytes;
    let at = |from: u64| {
        let from = 0x1_0000 + from;
        if is_down { from - moved } else { from + moved }
    };
    assert_eq!((cpu.state.gpr[SI], cpu.state.gpr[DI]), (at(src), at(dst)));
    let lies_in_pages = src.is_multiple_of(bytes) && dst.is_multiple_of(bytes);
    assert!(!lies_in_pages || done == count);
}

#[test]
fn copies_of_every_overlap() {
    for bytes in [1, 2, 4] {
        for is_down in [false, true] {
            for distance in [0, 1, 2, 3, 4, 5, 8, 63, 64, 100, 1000] {
                for count in [1, 2, 5, 100, 700] {
                    let base = 0x1800;
                    check_copy(base, base + distance, count, bytes, is_down);
                    check_copy(base + distance, base, count, bytes, is_down);
                }
            }
        }
    }
}

#[test]
fn long_copies_cross_pages() {
    check_copy(0, 0x2000, 0x1F00, 1, false);
    check_copy(0x1FFC, 0x3FFC, 0x700, 4, true);
    check_copy(0x0FFE, 0x2002, 0x700, 2, false);
}

#[test]
fn code_and_faults_are_left_alone() {
    let (mut cpu, _) = protected();
    cpu.ram.set_code_lines(0x6000, 1);
    cpu.state.gpr[1] = 16;
    cpu.state.gpr[SI] = 0x5000;
    cpu.state.gpr[DI] = 0x6000;
    cpu.bulk_movs(4, 3, 32);
    assert_eq!(cpu.state.gpr[1], 16);
    cpu.state.gpr[DI] = 0xE000_0000;
    cpu.bulk_movs(4, 3, 32);
    cpu.bulk_stos(4, 32);
    assert_eq!(cpu.state.gpr[1], 16);
    cpu.load_seg(0, 0).unwrap();
    cpu.state.gpr[DI] = 0x7000;
    cpu.bulk_stos(4, 32);
    assert_eq!((cpu.state.gpr[1], cpu.state.gpr[DI]), (16, 0x7000));
}

#[test]
fn code_is_written_if_much_is_and_it_is_not_that_which_runs() {
    let (mut cpu, _) = protected();
    let fill = |cpu: &mut Cpu, at, count| {
        (cpu.state.gpr[1], cpu.state.gpr[DI]) = (count, at);
        cpu.bulk_stos(4, 32);
        cpu.state.gpr[1] == 0
    };
    for page in [0x6000, 0x7000] {
        cpu.ram.set_code_lines(page, 1 << 32);
    }
    assert!(fill(&mut cpu, 0x6000, 0x200) && fill(&mut cpu, 0x6840, 0x10), "beside it");
    assert!(!fill(&mut cpu, 0x6800, 0x10), "little");
    assert!(!cpu.ram.has_dirty_code());
    // The page that runs, and the one that its last insn may reach into.
    for (pc, may) in [(0x6123, false), (0x5FF8, false), (0x5FF1, true), (0x8000, true)] {
        cpu.state.pc = pc;
        assert_eq!(fill(&mut cpu, 0x6800, 0x80), may, "{pc:x}");
    }
    assert_eq!(cpu.ram.take_dirty_code(), [0x6000]);
    assert!(fill(&mut cpu, 0x6000, 0x800), "over the end of a page");
    assert_eq!(cpu.ram.take_dirty_code(), [0x6000, 0x7000]);
}

#[test]
fn the_limit_stops_a_bulk() {
    let (mut cpu, _) = protected();
    poke(&cpu, at::GDT + 0x90, Size::B8, crate::testing::descriptor(0x1_0000, 0x0F07, 0x93));
    cpu.load_seg(0, 0x90).unwrap();
    cpu.state.gpr[DI] = 0xF00;
    cpu.state.gpr[1] = 9;
    cpu.bulk_stos(1, 32);
    assert_eq!(cpu.state.gpr[1], 9);
    cpu.state.gpr[1] = 8;
    cpu.bulk_stos(1, 32);
    assert_eq!(cpu.state.gpr[1], 0);
}

#[test]
fn fills() {
    let (mut cpu, _) = protected();
    cpu.state.gpr[0] = 0x4433_2211;
    cpu.state.gpr[1] = 0xFFFF_0003;
    cpu.state.gpr[DI] = 0xABCD_5000;
    cpu.bulk_stos(4, 16);
    assert_eq!((cpu.state.gpr[1], cpu.state.gpr[DI]), (0xFFFF_0000, 0xABCD_500C));
    let mut got = [0; 16];
    cpu.ram.read_bytes(0x5000, &mut got);
    assert_eq!(got[..12], [0x11, 0x22, 0x33, 0x44].repeat(3));
    assert_eq!(got[12..], [0; 4]);
    cpu.state.df = -1;
    cpu.state.gpr[1] = 5;
    cpu.state.gpr[DI] = 0x6002;
    for _ in 0..5 {
        cpu.bulk_stos(2, 32);
    }
    assert_eq!((cpu.state.gpr[1], cpu.state.gpr[DI]), (0, 0x5FF8));
    cpu.ram.read_bytes(0x5FFA, &mut got);
    assert_eq!(got[..10], [0x11, 0x22].repeat(5));
}

#[test]
fn ports_in_bulk() {
    let (mut cpu, log) = protected();
    cpu.state.gpr[2] = 0x1F0;
    cpu.state.gpr[1] = 4;
    cpu.state.gpr[DI] = 0x5FFC;
    cpu.bulk_ins(2, 32).unwrap();
    assert_eq!((cpu.state.gpr[1], cpu.state.gpr[DI]), (2, 0x6000));
    assert_eq!(cpu.ram.read(0x5FFC, Size::B4), Some(0x0002_0001));
    cpu.state.gpr[SI] = 0x5FFC;
    cpu.bulk_outs(2, 3, 32).unwrap();
    assert_eq!(log.borrow().ports, [(0x1F0, 2, 1), (0x1F0, 2, 2)]);
}

/// The I/O map of the TSS starts at 0x68; port 0x80 is open, 0x81 closed.
fn with_map() -> Cpu {
    let (mut cpu, _) = protected();
    poke(&cpu, at::TSS + 0x66, Size::B2, 0x68);
    poke(&cpu, at::TSS + 0x68 + 0x10, Size::B2, 0xFFFE);
    poke(&cpu, at::TSS + 0x2068, Size::B1, 0xFF);
    enter_level(&mut cpu, 3);
    cpu
}

#[test]
fn port_permissions() {
    let mut cpu = with_map();
    assert!(cpu.port_in(0x80, 1).is_ok());
    assert_eq!(cpu.port_in(0x81, 1), Err(Fault::gp(0)));
    assert_eq!(cpu.port_in(0x80, 2), Err(Fault::gp(0)));
    assert!(cpu.port_in(0x7E, 2).is_ok());
    assert_eq!(cpu.port_in(0x7F, 4), Err(Fault::gp(0)));
    assert_eq!(cpu.port_out(0xFFFF, 2, 0), Err(Fault::gp(0)));
    cpu.state.gpr[2] = 0x81;
    assert_eq!(cpu.bulk_ins(1, 32), Err(Fault::gp(0)));
    cpu.state.eflags |= 3 << 12;
    assert!(cpu.port_in(0x81, 1).is_ok());
    cpu.state.eflags &= !(3 << 12);
    cpu.state.tr.limit = 0x66;
    assert_eq!(cpu.port_in(0x80, 1), Err(Fault::gp(0)));
}
