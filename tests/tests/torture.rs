//! Generated code where translators go wrong: code that changes under itself, operands that half exist, strings that are
//! interrupted, exceptions of FP and vector instructions. Every engine, with the result said beforehand.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use mem::{Bus, GuestRam, Phys, Port, Size};
use stele::log::Log;
use stele::vcpu::{Stretch, VcpuExit};
use stele_tests::setup::{self, TIMER_VECTOR};
use stele_tests::{Bench, Ending, Engine};
use x86::state::XsaveArea;

const CODE: u64 = 0x5000;
const TURNS: u32 = 100;
/// Present, writable, accessed, dirty.
const PAGE: u32 = 0x67;

/// A device that stores what is written to its port into memory, as a bus master; and an interrupt that can be raised.
#[derive(Clone, Default)]
struct Device {
    ram: Rc<RefCell<Option<Arc<GuestRam>>>>,
    target: u64,
    is_raised: Rc<Cell<bool>>,
    taken: Rc<Cell<u32>>,
}

impl Bus for Device {
    fn port_in(&mut self, _: Port, size: Size) -> u64 {
        size.mask()
    }
    fn port_out(&mut self, _: Port, size: Size, value: u64) {
        let bytes = value.to_le_bytes();
        if let Some(ram) = &*self.ram.borrow() {
            ram.write_bytes(self.target, &bytes[..size.bytes() as usize]);
        }
    }
    fn mmio_read(&mut self, _: Phys, size: Size) -> u64 {
        size.mask()
    }
    fn mmio_write(&mut self, _: Phys, _: Size, _: u64) {}
    fn intr(&self) -> bool {
        self.is_raised.get()
    }
    fn inta(&mut self) -> u8 {
        self.is_raised.set(false);
        self.taken.set(self.taken.get() + 1);
        TIMER_VECTOR
    }
    fn tsc(&mut self) -> u64 {
        0
    }
    fn a20(&self) -> bool {
        true
    }
}

fn start(bench: &mut Bench, code: &[u8]) {
    bench.poke(CODE, code);
    bench.cpu_mut().state.pc = CODE;
    bench.settle();
}

fn on_every_engine(test: impl Fn(&mut Bench, Engine)) {
    for engine in Engine::ALL {
        let mut bench = Bench::new(engine);
        bench.clear();
        test(&mut bench, engine);
    }
}

#[test]
fn code_changes_through_another_address_of_its_page() {
    let code = [
        &[0xB9][..], // mov ecx, TURNS
        &TURNS.to_le_bytes(),
        &[0xB8, 1, 0, 0, 0],                // 05: mov eax, 1
        &[0x01, 0xC2],                      // 0A: add edx, eax
        &[0x83, 0x05, 0x06, 0x90, 0, 0, 1], // 0C: add dword [0x9006], 1: the number at 06
        &[0x89, 0x0D, 0x1A, 0x90, 0, 0],    // 13: mov [0x901A], ecx: that of the next insn
        &[0xB8, 0, 0, 0, 0],                // 19: mov eax, 0
        &[0x01, 0xC2, 0x49, 0x75, 0xE2],    // 1E: add edx, eax; dec ecx; jnz 05
        &[0xF4],
    ]
    .concat();
    on_every_engine(|bench, engine| {
        setup::protected(bench, 0);
        setup::paging(bench, |at| if at == 0x9000 { CODE as u32 | PAGE } else { at as u32 | PAGE });
        start(bench, &code);
        assert_eq!(bench.run(), Ending::Halted);
        assert_eq!(bench.cpu().state.gpr[2], u64::from(TURNS * (TURNS + 1)), "{engine:?}");
    });
}

#[test]
fn code_changes_its_numbers_without_end() {
    let at = |offset: u64| (CODE as u32 + offset as u32).to_le_bytes();
    let code = [
        &[0xB9][..], // mov ecx, TURNS
        &TURNS.to_le_bytes(),
        &[0xB8, 1, 0, 0, 0],       // 05: mov eax, 1
        &[0xC1, 0xC0, 0],          // 0A: rol eax, 0
        &[0x81, 0xF0, 0, 0, 0, 0], // 0D: xor eax, 0
        &[0x01, 0xC2, 0x88, 0x0D], // 13: add edx, eax; mov [count], cl
        &at(0x0C),
        &[0x89, 0x0D], // 1B: mov [number], ecx
        &at(0x0F),
        &[0x49, 0x75, 0xE1, 0xF4], // 21: dec ecx; jnz 05; hlt
    ]
    .concat();
    let (mut expect, mut count, mut number) = (0u32, 0, 0);
    for turn in (1..=TURNS).rev() {
        expect = expect.wrapping_add(1u32.rotate_left(count) ^ number);
        (count, number) = (turn, turn);
    }
    on_every_engine(|bench, engine| {
        setup::protected(bench, 0);
        start(bench, &code);
        assert_eq!(bench.run(), Ending::Halted);
        assert_eq!(bench.cpu().state.gpr[2], u64::from(expect), "{engine:?}");
    });
}

#[test]
fn code_changes_to_and_fro() {
    let code = [
        &[0xB9][..], // mov ecx, TURNS
        &TURNS.to_le_bytes(),
        &[0x40, 0x89, 0xCB],                // 05: inc eax; mov ebx, ecx
        &[0x83, 0xE3, 3, 0xC1, 0xE3, 2],    // 08: and ebx, 3; shl ebx, 2
        &[0x83, 0xE3, 8, 0x83, 0xC3, 0x40], // 0E: and ebx, 8; add ebx, 0x40
        &[0x88, 0x1D],                      // 14: mov [05], bl: inc or dec
        &(CODE as u32 + 5).to_le_bytes(),
        &[0x49, 0x75, 0xE8, 0xF4], // 1A: dec ecx; jnz 05; hlt
    ]
    .concat();
    let (mut expect, mut step) = (0u32, 1u32);
    for turn in (1..=TURNS).rev() {
        expect = expect.wrapping_add(step);
        step = if turn & 2 == 0 { 1 } else { u32::MAX };
    }
    on_every_engine(|bench, engine| {
        setup::protected(bench, 0);
        start(bench, &code);
        assert_eq!(bench.run(), Ending::Halted);
        assert_eq!(bench.cpu().state.gpr[0], u64::from(expect), "{engine:?}");
    });
}

#[test]
fn a_device_changes_code() {
    let code = [
        &[0xB9][..], // mov ecx, TURNS
        &TURNS.to_le_bytes(),
        &[0xB0, 0],                // 05: mov al, 0
        &[0x0F, 0xB6, 0xD8],       // 07: movzx ebx, al
        &[0x01, 0xDA, 0x88, 0xC8], // 0A: add edx, ebx; mov al, cl
        &[0xE6, 0x80],             // 0E: out 80h, al: the number at 06
        &[0x49, 0x75, 0xF2, 0xF4], // 10: dec ecx; jnz 05; hlt
    ]
    .concat();
    for engine in Engine::ALL {
        let device = Device { target: CODE + 6, ..Device::default() };
        let mut bench = Bench::with_bus(engine.config(), Log::off(), Box::new(device.clone()));
        bench.clear();
        *device.ram.borrow_mut() = Some(bench.cpu().ram.clone());
        setup::protected(&mut bench, 0);
        start(&mut bench, &code);
        assert_eq!(bench.run(), Ending::Halted);
        assert_eq!(bench.cpu().state.gpr[2], u64::from(TURNS * (TURNS + 1) / 2 - 1), "{engine:?}");
    }
}

/// Instructions that read and write the bytes from 0x7FFE (0x7FFC for the longer one) on.
const CROSSING: [(&str, &[u8]); 11] = [
    ("add", &[0x81, 0x05, 0xFE, 0x7F, 0, 0, 0x78, 0x56, 0x34, 0x12]),
    ("adc", &[0x83, 0x15, 0xFE, 0x7F, 0, 0, 1]),
    ("inc", &[0xFF, 0x05, 0xFE, 0x7F, 0, 0]),
    ("rol", &[0xD1, 0x05, 0xFE, 0x7F, 0, 0]),
    ("shld", &[0x0F, 0xA4, 0x05, 0xFE, 0x7F, 0, 0, 4]),
    ("bts", &[0x0F, 0xAB, 0x05, 0xFE, 0x7F, 0, 0]),
    ("xchg", &[0x87, 0x05, 0xFE, 0x7F, 0, 0]),
    ("lock xadd", &[0xF0, 0x0F, 0xC1, 0x05, 0xFE, 0x7F, 0, 0]),
    ("lock cmpxchg", &[0xF0, 0x0F, 0xB1, 0x0D, 0xFE, 0x7F, 0, 0]),
    ("cmpxchg8b", &[0x0F, 0xC7, 0x0D, 0xFC, 0x7F, 0, 0]),
    ("pop", &[0x8F, 0x05, 0xFE, 0x7F, 0, 0]),
];

#[test]
fn a_missing_second_half_leaves_no_trace() {
    const FIRST: [u8; 4] = [0x11, 0x22, 0x33, 0x44];
    on_every_engine(|bench, engine| {
        for (name, code) in CROSSING {
            // Not there, and there but not writable.
            for (entry, error) in [(0x8000, 2), (0x8000 | PAGE & !2, 3)] {
                bench.clear();
                setup::protected(bench, 0);
                setup::paging(bench, |at| if at == 0x8000 { entry } else { at as u32 | PAGE });
                bench.poke(0x7FFC, &FIRST);
                let s = &mut bench.cpu_mut().state;
                s.cr0 |= 1 << 16;
                s.gpr[..4].copy_from_slice(&[3, 4, 5, 6]);
                s.set_eflags(s.eflags() | 0x8D5);
                start(bench, code);
                let before = bench.cpu().state.gpr;
                assert_eq!(bench.run(), Ending::Halted);
                let s = &bench.cpu().state;
                let what = format!("{name} on {engine:?}");
                assert_eq!(setup::vector_reached(bench), Some(14), "{what}");
                assert_eq!((s.cr2, bench.peek(0x7FFC, 4)), (0x8000, FIRST.to_vec()), "{what}");
                let frame = bench.peek(s.gpr[4], 16);
                assert_eq!(frame[0], error, "{what}");
                assert_eq!(frame[4..8], (CODE as u32).to_le_bytes(), "{what}");
                assert_eq!(u16::from_le_bytes([frame[12], frame[13]]) & 0x8D5, 0x8D5, "{what}");
                let mut after = s.gpr;
                after[4] += 16;
                assert_eq!(after, before, "{what}");
            }
        }
    });
}

#[test]
fn interrupted_strings_go_on() {
    let code = [
        &[0xFC, 0xB9, 0x88, 0x13, 0, 0][..],         // cld; mov ecx, 5000
        &[0xBE, 0x01, 0, 2, 0, 0xBF, 0x03, 0, 3, 0], // mov esi, 0x20001; mov edi, 0x30003
        &[0xF3, 0xA4],                               // rep movsb
        &[0xB9, 0x88, 0x13, 0, 0, 0xBE, 0x01, 0, 2, 0], // mov ecx, 5000; mov esi, 0x20001
        &[0xBF, 0x03, 0, 3, 0, 0xF3, 0xA6],          // mov edi, 0x30003; repe cmpsb
        &[0x0F, 0x94, 0xC3, 0x89, 0xCD],             // sete bl; mov ebp, ecx
        &[0xB9, 0x10, 0x27, 0, 0, 0xB0, 0x77],       // mov ecx, 10000; mov al, 0x77
        &[0xBF, 0x03, 0, 3, 0, 0xF2, 0xAE, 0xF4],    // mov edi, 0x30003; repne scasb; hlt
    ]
    .concat();
    let data: Vec<u8> = (0..5000u32).map(|n| (n % 119) as u8).collect();
    for engine in Engine::ALL {
        let device = Device::default();
        let mut config = engine.config();
        config.counted = true;
        let mut bench = Bench::with_bus(config, Log::off(), Box::new(device.clone()));
        bench.clear();
        setup::protected(&mut bench, 0);
        bench.poke(0x20001, &data);
        bench.poke(0x30003 + 6000, &[0x77]);
        let s = &mut bench.cpu_mut().state;
        s.set_eflags(s.eflags() | 1 << 9);
        start(&mut bench, &code);
        let stretch = Stretch { insns: 7, ..Stretch::default() };
        while bench.vcpu.run_counted(stretch).0 != Some(VcpuExit::Halted) {
            device.is_raised.set(true);
        }
        let s = &bench.cpu().state;
        assert_eq!(bench.peek(0x30003, 5000), data, "{engine:?}");
        assert_eq!((s.gpr[3] & 0xFF, s.gpr[5], s.gpr[6]), (1, 0, 0x20001 + 5000), "{engine:?}");
        assert_eq!((s.gpr[1], s.gpr[7]), (10000 - 6001, 0x30003 + 6001), "{engine:?}");
        assert!(device.taken.get() > 1000, "{} interrupts on {engine:?}", device.taken.get());
    }
}

#[test]
fn a_vector_exception_is_exact() {
    // inc eax; divps xmm0, xmm1; inc eax
    let code = [0x40, 0x0F, 0x5E, 0xC1, 0x40, 0xF4];
    on_every_engine(|bench, engine| {
        setup::protected(bench, 0);
        setup::vectors(bench);
        let one = u64::from(1f32.to_bits()) * 0x1_0000_0001;
        let s = &mut bench.cpu_mut().state;
        (s.ymm[0], s.ymm[1]) = ([one, one, 5, 6], [one, 0, 7, 8]);
        s.mxcsr = 0x1F80 & !(1 << 9);
        start(bench, &code);
        assert_eq!(bench.run(), Ending::Halted);
        let s = &bench.cpu().state;
        assert_eq!(setup::vector_reached(bench), Some(19), "{engine:?}");
        assert_eq!((s.gpr[0], s.ymm[0], s.mxcsr), (1, [one, one, 5, 6], 0x1D84), "{engine:?}");
        assert_eq!(bench.peek(s.gpr[4], 4), (CODE as u32 + 1).to_le_bytes(), "{engine:?}");
    });
}

#[test]
fn an_x87_exception_waits_for_the_next_instruction() {
    // fld1; fldz; fdivp; inc eax; fwait; inc eax; hlt
    let code = [0xD9, 0xE8, 0xD9, 0xEE, 0xDE, 0xF9, 0x40, 0x9B, 0x40, 0xF4];
    on_every_engine(|bench, engine| {
        setup::protected(bench, 0);
        setup::vectors(bench);
        // Division by zero unmasked, an empty stack.
        let fpu = &mut bench.cpu_mut().state.fpu;
        fpu.set_u16(XsaveArea::FCW, 0x37B);
        fpu.set_u16(XsaveArea::FTW, 0);
        start(bench, &code);
        assert_eq!(bench.run(), Ending::Halted);
        let s = &bench.cpu().state;
        assert_eq!(setup::vector_reached(bench), Some(16), "{engine:?}");
        assert_eq!((s.gpr[0], s.fpu_ip), (1, CODE + 4), "{engine:?}");
        // The divisor and the dividend still stand there, and ES and ZE are set.
        assert_eq!(s.fpu.u16(XsaveArea::FSW) & 0xB884, 0xB084, "{engine:?}");
        assert_eq!(bench.peek(s.gpr[4], 4), (CODE as u32 + 7).to_le_bytes(), "{engine:?}");
    });
}
