//! Code in a device's memory: what it answers may be something else each time, and no write to it is seen.

use mem::{Bus, Phys, Port, Size};
use stele::log::Log;
use stele_tests::{Bench, Ending, Engine, NullBus, RAM, setup};

const START: u64 = 0x4000;
const ROUNDS: u64 = 300;

/// A page of memory behind RAM that the bus answers for.
struct Store(Vec<u8>);

impl Bus for Store {
    fn mmio_read(&mut self, at: Phys, size: Size) -> u64 {
        let byte = |n: u64| *self.0.get((at.0 - RAM + n) as usize).unwrap_or(&0xFF);
        (0..size.bytes()).fold(0, |value, n| value | u64::from(byte(n)) << (8 * n))
    }
    fn mmio_write(&mut self, at: Phys, size: Size, value: u64) {
        for n in 0..size.bytes() {
            if let Some(byte) = self.0.get_mut((at.0 - RAM + n) as usize) {
                *byte = (value >> (8 * n)) as u8;
            }
        }
    }
    fn port_in(&mut self, at: Port, size: Size) -> u64 {
        NullBus.port_in(at, size)
    }
    fn port_out(&mut self, _: Port, _: Size, _: u64) {}
    fn intr(&self) -> bool {
        false
    }
    fn inta(&mut self) -> u8 {
        0xFF
    }
    fn tsc(&mut self) -> u64 {
        0
    }
    fn a20(&self) -> bool {
        true
    }
}

/// Calls a routine at `routine` (MOV AL, imm; RET) again and again, adds up what it gives, and increments its immediate each time.
#[test]
fn it_is_fetched_anew_whenever_it_runs() {
    let code = [
        0xFF, 0xD7, 0x0F, 0xB6, 0xC0, 0x01,
        0xC3, // again: call edi; movzx eax, al; add ebx, eax
        0xFE, 0x47, 0x01, 0x49, 0x75, 0xF3, 0xF4, // inc byte [edi+1]; dec ecx; jnz again; hlt
    ];
    let want = (0..ROUNDS).map(|n| (5 + n) & 0xFF).sum::<u64>();
    // Within the device's memory, and from the last byte of RAM into it.
    for routine in [RAM, RAM + 0x123, RAM - 1] {
        for engine in Engine::ALL {
            let mut store = vec![0; 0x1000];
            let insns = [0xB0, 5, 0xC3];
            let (in_ram, rest) = insns.split_at((RAM.saturating_sub(routine)) as usize);
            let at = routine.saturating_sub(RAM) as usize;
            store[at..at + rest.len()].copy_from_slice(rest);
            let mut bench = Bench::with_bus(engine.config(), Log::off(), Box::new(Store(store)));
            bench.clear();
            setup::protected(&mut bench, 0);
            bench.poke(START, &code);
            if !in_ram.is_empty() {
                bench.poke(routine, in_ram);
            }
            let s = &mut bench.cpu_mut().state;
            (s.pc, s.gpr[1], s.gpr[3], s.gpr[7]) = (START, ROUNDS, 0, routine);
            bench.settle();
            assert_eq!(bench.run(), Ending::Halted, "{engine:?} {routine:x}");
            assert_eq!(setup::vector_reached(&bench), None, "{engine:?} {routine:x}");
            assert_eq!(bench.cpu().state.gpr[3], want, "{engine:?} {routine:x}");
        }
    }
}
