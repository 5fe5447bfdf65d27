//! Paging: rights, accessed and dirty bits, large pages, PAE, error codes.

use mem::{Access, Lin, Phys, Size};

use crate::cpu::Cpu;
use crate::fault::Fault;
use crate::lower::helpers::Helpers;
use crate::testing::{peek4, poke, protected};
use crate::tlb::ViewId;

const DIR: u64 = 0x10_0000;
const TABLE: u64 = 0x10_1000;
const DS: u8 = 3;

/// Identity-maps the first 4 MiB as supervisor, with linear page 0x40_0000 -> 0x20_0000 given `pte`.
fn paged(pte: u64) -> Cpu {
    let (mut cpu, _) = protected();
    for i in 0..1024 {
        poke(&cpu, TABLE + 4 * i, Size::B4, i << 12 | 3);
    }
    poke(&cpu, DIR, Size::B4, TABLE | 3);
    poke(&cpu, DIR + 4, Size::B4, 0x10_2000 | 7);
    poke(&cpu, 0x10_2000, Size::B4, 0x20_0000 | pte);
    cpu.write_cr(3, DIR).unwrap();
    cpu.write_cr(0, cpu.state.cr0 | 0x8000_0000).unwrap();
    cpu
}

const PAGE: u64 = 0x40_0000;

fn user_read(cpu: &mut Cpu) -> Result<Phys, Fault> {
    cpu.translate(Lin(PAGE), Access::Read, 3)
}

#[test]
fn accessed_and_dirty() {
    let mut cpu = paged(7);
    assert_eq!(cpu.load(DS, PAGE + 4, 4), Ok(0));
    assert_eq!(peek4(&cpu, 0x10_2000), 0x20_0027);
    assert_eq!(peek4(&cpu, DIR + 4), 0x10_2027);
    assert!(cpu.tlb.view(ViewId::Supervisor).write_host(Lin(PAGE)).is_none());
    cpu.store(DS, PAGE + 4, 4, 9).unwrap();
    assert_eq!(peek4(&cpu, 0x10_2000), 0x20_0067);
    assert!(cpu.tlb.view(ViewId::Supervisor).write_host(Lin(PAGE)).is_some());
    assert_eq!(peek4(&cpu, 0x20_0004), 9);
}

#[test]
fn not_present() {
    let mut cpu = paged(6);
    assert_eq!(cpu.load(DS, PAGE + 8, 4), Err(Fault::pf(PAGE + 8, 0)));
    assert_eq!(cpu.store(DS, PAGE + 8, 4, 0), Err(Fault::pf(PAGE + 8, 2)));
    assert_eq!(cpu.translate(Lin(PAGE), Access::Write, 3), Err(Fault::pf(PAGE, 6)));
    assert_eq!(cpu.load(DS, 0x80_0000, 1), Err(Fault::pf(0x80_0000, 0)));
    assert_eq!(peek4(&cpu, 0x10_2000), 0x20_0006);
}

#[test]
fn supervisor_page() {
    let mut cpu = paged(3);
    assert_eq!(user_read(&mut cpu), Err(Fault::pf(PAGE, 5)));
    assert_eq!(cpu.load(DS, PAGE, 4), Ok(0));
    assert_eq!(user_read(&mut cpu), Err(Fault::pf(PAGE, 5)));
}

#[test]
fn write_protection() {
    let mut cpu = paged(5);
    assert_eq!(user_read(&mut cpu), Ok(Phys(0x20_0000)));
    assert_eq!(cpu.translate(Lin(PAGE), Access::Write, 3), Err(Fault::pf(PAGE, 7)));
    assert_eq!(cpu.store(DS, PAGE, 4, 1), Ok(()));
    cpu.write_cr(0, cpu.state.cr0 | 1 << 16).unwrap();
    assert_eq!(cpu.store(DS, PAGE, 4, 1), Err(Fault::pf(PAGE, 3)));
}

/// Until it is invalidated a translation may be used, but a page fault takes it with it.
#[test]
fn page_fault_invalidates() {
    let mut cpu = paged(0x25);
    let entry = |cpu: &Cpu, value: u64| poke(cpu, 0x10_2000, Size::B4, value);
    assert_eq!(user_read(&mut cpu), Ok(Phys(0x20_0000)));
    assert_eq!(cpu.load(DS, PAGE, 4), Ok(0));
    cpu.enter_jump(PAGE, false, 1, 0);
    entry(&cpu, 0);
    assert_eq!(user_read(&mut cpu), Ok(Phys(0x20_0000)));
    assert_eq!(cpu.store(DS, PAGE, 4, 1), Err(Fault::pf(PAGE, 2)));
    assert_eq!(cpu.tlb.view(ViewId::Supervisor).read_host(Lin(PAGE)), None);
    assert_eq!(cpu.load(DS, PAGE, 4), Err(Fault::pf(PAGE, 0)));
    assert_eq!(user_read(&mut cpu), Err(Fault::pf(PAGE, 4)));
    assert!(cpu.jumps.known(PAGE).is_none());
}

/// A large page goes whole.
#[test]
fn page_fault_invalidates_a_large_page() {
    let mut cpu = paged(7);
    cpu.write_cr(4, 0x10).unwrap();
    poke(&cpu, DIR + 8, Size::B4, 0xE3);
    for page in [0x80_1000, 0x80_2000, 0xBF_F000] {
        cpu.load(DS, page, 1).unwrap();
    }
    poke(&cpu, DIR + 8, Size::B4, 0);
    assert_eq!(cpu.load(DS, 0x80_3000, 1), Err(Fault::pf(0x80_3000, 0)));
    for page in [0x80_1000, 0x80_2000, 0xBF_F000] {
        assert_eq!(cpu.load(DS, page, 1), Err(Fault::pf(page, 0)));
    }
}

#[test]
fn crossing_access_touches_nothing_on_a_fault() {
    let mut cpu = paged(7);
    assert_eq!(cpu.store(DS, PAGE + 0xFFE, 4, u64::MAX), Err(Fault::pf(PAGE + 0x1000, 2)));
    assert_eq!(peek4(&cpu, 0x20_0FFC), 0);
    poke(&cpu, 0x10_2004, Size::B4, 0x30_0007);
    cpu.store(DS, PAGE + 0xFFE, 4, 0x1122_3344).unwrap();
    assert_eq!((peek4(&cpu, 0x20_0FFC), peek4(&cpu, 0x30_0000)), (0x3344_0000, 0x1122));
    assert_eq!(cpu.load(DS, PAGE + 0xFFE, 4), Ok(0x1122_3344));
}

#[test]
fn large_pages_need_pse() {
    let mut cpu = paged(7);
    poke(&cpu, DIR + 8, Size::B4, 0x83);
    assert!(cpu.load(DS, 0x80_1000, 1).is_err());
    cpu.write_cr(4, 0x10).unwrap();
    poke(&cpu, 0x1234, Size::B1, 0x77);
    assert_eq!(cpu.load(DS, 0x80_1234, 1), Ok(0x77));
    assert_eq!(peek4(&cpu, DIR + 8), 0xA3);
    cpu.store(DS, 0x80_1234, 1, 0x78).unwrap();
    assert_eq!(peek4(&cpu, DIR + 8), 0xE3);
    poke(&cpu, DIR + 12, Size::B4, 0x20_0083);
    assert_eq!(cpu.load(DS, 0xC0_0000, 1), Err(Fault::pf(0xC0_0000, 9)));
}

#[test]
fn pae() {
    let mut cpu = paged(7);
    cpu.write_cr(0, 0x11).unwrap();
    poke(&cpu, 0x11_0020, Size::B8, 0x11_1001);
    poke(&cpu, 0x11_1000, Size::B8, 0xE3);
    poke(&cpu, 0x11_1008, Size::B8, 0x11_2003);
    poke(&cpu, 0x11_2000, Size::B8, 0x30_0003);
    poke(&cpu, 0x11_2008, Size::B8, 1 << 40 | 3);
    cpu.write_cr(4, 0x20).unwrap();
    cpu.write_cr(3, 0x11_0020).unwrap();
    cpu.write_cr(0, 0x8000_0011).unwrap();
    poke(&cpu, 0x30_0010, Size::B1, 0x42);
    assert_eq!(cpu.load(DS, 0x20_0010, 1), Ok(0x42));
    assert_eq!(cpu.ram.read(0x11_2000, Size::B8), Some(0x30_0023));
    assert_eq!(cpu.load(DS, 0x20_1000, 1), Err(Fault::pf(0x20_1000, 9)));
    assert_eq!(cpu.load(DS, 0x5000, 4), Ok(0));
    assert_eq!(cpu.load(DS, 0x4000_0000, 1), Err(Fault::pf(0x4000_0000, 0)));
    poke(&cpu, 0x11_0028, Size::B8, 0x11_1003);
    assert_eq!(cpu.write_cr(3, 0x11_0020), Err(Fault::gp(0)));
    assert_eq!(cpu.load(DS, 0x20_0010, 1), Ok(0x42));
}

#[test]
fn the_processor_reads_tables_as_supervisor() {
    let mut cpu = paged(7);
    crate::testing::enter_level(&mut cpu, 3);
    assert_eq!(cpu.load(DS, 0x1000, 1), Err(Fault::pf(0x1000, 5)));
    assert_eq!(cpu.load_seg(3, u64::from(crate::testing::sel::USER_DATA)), Ok(()));
}

#[test]
fn page_faults_set_cr2_and_push_the_code() {
    let mut cpu = paged(6);
    crate::testing::set_gate(&cpu, 14, crate::testing::gate(8, 0x7000, 0x8E, 0));
    let fault = cpu.store(DS, PAGE + 8, 4, 0).unwrap_err();
    cpu.deliver_fault(fault);
    assert_eq!((cpu.state.cr2, cpu.state.pc), (PAGE + 8, 0x7000));
    assert_eq!(peek4(&cpu, cpu.state.gpr[4]), 2);
    assert_eq!(peek4(&cpu, cpu.state.gpr[4] + 4), 0x4000);
    assert_eq!(peek4(&cpu, cpu.state.gpr[4] + 12), 0x1_0002);
}

#[test]
fn peek_changes_nothing() {
    let mut cpu = paged(7);
    assert_eq!(cpu.peek_phys(Lin(PAGE + 5)), Some(Phys(0x20_0005)));
    assert_eq!(cpu.peek_phys(Lin(0x80_0000)), None);
    assert_eq!(peek4(&cpu, 0x10_2000), 0x20_0007);
}

#[test]
fn global_pages_outlive_cr3() {
    let mut cpu = paged(0x107);
    cpu.write_cr(4, 0x80).unwrap();
    assert_eq!((cpu.load(DS, PAGE, 1), cpu.load(DS, 0x5000, 1)), (Ok(0), Ok(0)));
    poke(&cpu, 0x10_2000, Size::B4, 0);
    poke(&cpu, TABLE + 4 * 5, Size::B4, 0);
    cpu.write_cr(3, DIR).unwrap();
    assert_eq!(cpu.load(DS, PAGE, 1), Ok(0));
    assert_eq!(cpu.load(DS, 0x5000, 1), Err(Fault::pf(0x5000, 0)));
    cpu.write_cr(4, 0).unwrap();
    assert_eq!(cpu.load(DS, PAGE, 1), Err(Fault::pf(PAGE, 0)));
}
