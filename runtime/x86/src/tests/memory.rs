//! Memory accesses: page crossing, the bus, A20, code pages and the slow paths.

use ir::AccessKind;
use mem::{Access, Lin, Phys, Size, line_mask};

use crate::cpu::Cpu;
use crate::fault::Fault;
use crate::lower::helpers::Helpers;
use crate::slow::Slow;
use crate::testing::{machine, peek4, poke, protected};
use crate::tlb::ViewId;

const DS: u8 = 3;

#[test]
fn accesses_fill_the_tlb() {
    let (mut cpu, _) = protected();
    assert_eq!(cpu.tlb.view(ViewId::Supervisor).read_host(Lin(0x5000)), None);
    poke(&cpu, 0x5004, Size::B4, 0xCAFE_F00D);
    assert_eq!(cpu.slow_load(DS, 0x5004, 4), Ok(Slow::Done(0xCAFE_F00D)));
    let host = cpu.ram.page_ptr(0x5000).unwrap().addr() as u64;
    assert_eq!(cpu.tlb.view(ViewId::Supervisor).read_host(Lin(0x5004)), Some(host + 4));
    assert_eq!(cpu.tlb.view(ViewId::Supervisor).write_host(Lin(0x5004)), Some(host + 4));
    let base = cpu.state.tlb_base;
    assert_eq!(cpu.state.tlb_base, base);
    cpu.invlpg(3, 0x5123);
    assert_eq!(cpu.tlb.view(ViewId::Supervisor).read_host(Lin(0x5004)), None);
}

#[test]
fn mmio_goes_to_the_bus() {
    let (mut cpu, log) = protected();
    assert_eq!(cpu.load(DS, 0xE000_0012, 2), Ok(0x1212));
    cpu.store(DS, 0xE000_0010, 4, 0x1_2345_6789).unwrap();
    assert_eq!(log.borrow().mmio, [(0xE000_0010, 4, 0x2345_6789)]);
    assert_eq!(cpu.tlb.view(ViewId::Supervisor).read_host(Lin(0xE000_0000)), None);
    assert_eq!(cpu.load(DS, 0xE000_0FFE, 4), Ok(0x0100_FFFE));
    assert_eq!(cpu.slow_ptr(DS, 0xE000_0000, 4, (AccessKind::R, false)), Ok(Slow::EvalOne));
}

#[test]
fn rom_reads_but_does_not_write() {
    let (mut cpu, log) = protected();
    cpu.map.map_ram(Phys(0x5000), 0x1000, 0x5000, false);
    assert!(cpu.sync_bus());
    assert_eq!(cpu.slow_store(DS, 0x5000, 4, 7), Ok(Slow::Done(0)));
    assert_eq!(log.borrow().mmio, [(0x5000, 4, 7)]);
    assert_eq!(peek4(&cpu, 0x5000), 0);
    assert!(cpu.tlb.view(ViewId::Supervisor).read_host(Lin(0x5000)).is_some());
    assert!(cpu.tlb.view(ViewId::Supervisor).write_host(Lin(0x5000)).is_none());
    assert_eq!(cpu.slow_ptr(DS, 0x5000, 4, (AccessKind::Rw, false)), Ok(Slow::EvalOne));
    assert!(matches!(cpu.slow_ptr(DS, 0x5000, 4, (AccessKind::R, false)), Ok(Slow::Done(_))));
}

#[test]
fn a20_gate_wraps() {
    let (mut cpu, log) = protected();
    poke(&cpu, 0x10, Size::B1, 0x55);
    poke(&cpu, 0x10_0010, Size::B1, 0xAA);
    assert_eq!(cpu.load(DS, 0x10_0010, 1), Ok(0xAA));
    log.borrow_mut().a20_off = true;
    cpu.port_out(0x92, 1, 0).unwrap();
    assert_eq!(cpu.state.leave, ir::exit::RESYNC + 1);
    assert_eq!(cpu.load(DS, 0x10_0010, 1), Ok(0x55));
    assert_eq!(cpu.load(DS, 0x20_0010, 1), Ok(0));
    assert!(cpu.dump().contains("A20=0"));
}

#[test]
fn stores_over_code_are_recorded() {
    let (mut cpu, _) = protected();
    cpu.store(DS, 0x5000, 4, 0).unwrap();
    cpu.ram.set_code_lines(0x5000, line_mask(0x40, 0x40));
    cpu.protect_code_page(0x5000);
    assert!(cpu.tlb.view(ViewId::Supervisor).write_host(Lin(0x5000)).is_none());
    assert_eq!(cpu.slow_store(DS, 0x503C, 4, 1), Ok(Slow::Done(0)));
    assert_eq!(cpu.slow_store(DS, 0x503D, 4, 2), Ok(Slow::OnCode(0x503D)));
    assert_eq!(peek4(&cpu, 0x503D), 0);
    assert_eq!(cpu.slow_ptr(DS, 0x5044, 1, (AccessKind::W, false)), Ok(Slow::OnCode(0x5044)));
    assert!(matches!(cpu.slow_ptr(DS, 0x5044, 1, (AccessKind::R, false)), Ok(Slow::Done(_))));
    assert!(cpu.smc.is_empty());
    cpu.store(DS, 0x503D, 4, 3).unwrap();
    assert_eq!(cpu.smc, [(0x503D, 4)]);
    assert_eq!(peek4(&cpu, 0x503D), 3);
    cpu.ram.clear_code_lines(0x5000);
    assert_eq!(cpu.slow_store(DS, 0x5044, 4, 1), Ok(Slow::Done(0)));
    assert!(cpu.tlb.view(ViewId::Supervisor).write_host(Lin(0x5000)).is_some());
}

#[test]
fn crossing_store_over_code_is_left_to_the_evaluator() {
    let (mut cpu, _) = protected();
    cpu.ram.set_code_lines(0x6000, 1);
    assert_eq!(cpu.slow_store(DS, 0x5FFE, 4, 0x1122_3344), Ok(Slow::EvalOne));
    cpu.store(DS, 0x5FFE, 4, 0x1122_3344).unwrap();
    assert_eq!(peek4(&cpu, 0x5FFE), 0x1122_3344);
    assert!(!cpu.smc.is_empty());
    assert_eq!(cpu.slow_store(DS, 0x4FFE, 4, 0x5566_7788), Ok(Slow::Done(0)));
    assert_eq!(peek4(&cpu, 0x4FFE), 0x5566_7788);
    assert_eq!(cpu.slow_ptr(DS, 0x4FFE, 4, (AccessKind::Rw, false)), Ok(Slow::EvalOne));
}

#[test]
fn handles_survive_a_few_probes() {
    let (mut cpu, _) = protected();
    poke(&cpu, 0x5000, Size::B8, 0x1122_3344_5566_7788);
    let a = cpu.probe(DS, 0x5000, 8, AccessKind::Rw).unwrap();
    let b = cpu.probe(DS, 0x5FFE, 4, AccessKind::Rw).unwrap();
    assert_eq!(cpu.read_handle(a, 4, 4), 0x1122_3344);
    cpu.write_handle(b, 1, 2, 0xABCD);
    assert_eq!(peek4(&cpu, 0x5FFE), 0x00AB_CD00);
    assert_eq!(cpu.read_handle(b, 0, 4), 0x00AB_CD00);
}

#[test]
fn alignment_check_in_user_mode_only() {
    let (mut cpu, _) = protected();
    cpu.write_cr(0, cpu.state.cr0 | 1 << 18).unwrap();
    cpu.popf(0x4_0000, 32, 32, 0).unwrap();
    assert_eq!(cpu.load(DS, 0x5001, 4), Ok(0));
    crate::testing::enter_level(&mut cpu, 3);
    assert_eq!(cpu.load(DS, 0x5001, 4), Err(Fault::ac()));
    assert_eq!(cpu.load(DS, 0x5001, 1), Ok(0));
    assert_eq!(cpu.view(), ViewId::Closed);
    let vector = |cpu: &Cpu, at| cpu.seg_lin(DS, at, 16, Access::Read).map(|lin| lin.0);
    assert_eq!(vector(&cpu, 0x5004), Ok(0x5004), "Intel does not look");
    cpu.caps.is_amd = true;
    assert_eq!(vector(&cpu, 0x5004), Err(Fault::ac()));
    assert_eq!(vector(&cpu, 0x5010), Ok(0x5010));
}

#[test]
fn device_writes_can_remap() {
    let (mut cpu, _) = machine();
    let old = cpu.map.generation();
    cpu.map.unmap(Phys(0x8000), 0x1000);
    assert_ne!(cpu.map.generation(), old);
    cpu.port_out(0x80, 1, 0).unwrap();
    assert_eq!(cpu.load(DS, 0x8004, 1), Ok(0x04));
}
