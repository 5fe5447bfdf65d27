//! 32-bit supervisor code that reads and writes over the end of a page while what lies behind it changes: another frame, one of another
//! address space, code. Generated code looks for such pages on maps, whose entries must go whenever the tags' go.

use stele_tests::{Bench, Ending, Engine, setup};

const START: u64 = 0x4000;
/// The page that changes, and the frame it lies in at times.
const PAGE: u64 = 0x2_1000;
const FRAME: u64 = 0x2_5000;
/// Tables of the second address space.
const OTHER: u64 = 0x10_0000;
const ROUNDS: u32 = 300;
/// CR4.PGE; page-table entries: present, writable, accessed, dirty; global.
const PGE: u64 = 1 << 7;
const RW: u32 = 0x63;
const GLOBAL: u32 = 0x100;

/// Touches some pages that are mapped to themselves, so that this is usual; then goes round: accesses at ESI, and `switch`.
fn program(switch: &[u8]) -> Vec<u8> {
    let mut code = vec![0xBF, 0, 0, 3, 0]; // mov edi, 30000h
    code.extend([0x8B, 0x07, 0x81, 0xC7, 0, 0x10, 0, 0]); // touch: mov eax, [edi]; add edi, 1000h
    code.extend([0x81, 0xFF, 0, 0, 4, 0, 0x72, 0xF0]); // cmp edi, 40000h; jb touch
    let again = code.len();
    code.extend([0x8B, 0x06, 0x01, 0xC3, 0x89, 0x1E]); // again: mov eax, [esi]; add ebx, eax; mov [esi], ebx
    code.extend([0x01, 0x5E, 0x10, 0x0F, 0xB6, 0x46, 0x03]); // add [esi+16], ebx; movzx eax, byte [esi+3]
    code.extend([0x01, 0xC3, 0x00, 0x5E, 0x07, 0x31, 0xEE]); // add ebx, eax; add [esi+7], bl; xor esi, ebp
    code.extend(switch);
    code.extend([0x49, 0x0F, 0x85]); // dec ecx; jnz again
    let back = again as i32 - code.len() as i32 - 4;
    code.extend(back.to_le_bytes());
    code.push(0xF4); // hlt
    code
}

/// What all that came to: registers, and the memory that may have been written.
fn outcome(engine: Engine, switch: &[u8], global: u32, at: [u32; 2], edx: u64) -> (u64, Vec<u8>) {
    let mut bench = Bench::new(engine);
    bench.clear();
    setup::protected(&mut bench, 0);
    setup::paging(&mut bench, |page| page as u32 | RW | global);
    let tables = bench.peek(setup::at::PAGES, 0x2000);
    bench.poke(OTHER, &tables);
    bench.poke(OTHER, &(OTHER as u32 + 0x1007).to_le_bytes());
    bench.poke(pte_of(OTHER), &(FRAME as u32 | RW).to_le_bytes());
    for frame in [PAGE - 0x1000, PAGE, FRAME] {
        let bytes: Vec<u8> = (0..0x1000u64).map(|n| ((n * 7) ^ (frame >> 12)) as u8).collect();
        bench.poke(frame, &bytes);
        bench.poke(frame + 0x800, &[0x83, 0xC3, (frame >> 12) as u8, 0xC3]); // add ebx, n; ret
    }
    bench.poke(START, &program(switch));
    let s = &mut bench.cpu_mut().state;
    s.cr4 |= PGE;
    (s.pc, s.gpr[1], s.gpr[2], s.gpr[6]) = (START, ROUNDS.into(), edx, at[0].into());
    s.gpr[5] = (at[0] ^ at[1]).into();
    bench.settle();
    assert_eq!(bench.run(), Ending::Halted, "{engine:?}");
    assert_eq!(setup::vector_reached(&bench), None, "{engine:?}");
    let memory = [PAGE - 0x1000, PAGE, FRAME].map(|frame| bench.peek(frame, 0x1000)).concat();
    (bench.cpu().state.gpr[3], memory)
}

/// The page's entry in the tables at `root`.
const fn pte_of(root: u64) -> u64 {
    root + 0x1000 + 4 * (PAGE >> 12)
}

fn agree(switch: &[u8], edx: u64) {
    let (across, within, behind) = (PAGE as u32 - 3, PAGE as u32 - 0x700, PAGE as u32);
    for at in [[across; 2], [across, within], [within, across], [behind, across]] {
        for global in [0, GLOBAL] {
            let want = outcome(Engine::Evaluator, switch, global, at, edx);
            for engine in Engine::ALL {
                let have = outcome(engine, switch, global, at, edx);
                assert_eq!(have.0, want.0, "{engine:?} {global:x} {at:x?}");
                assert!(have.1 == want.1, "{engine:?} {global:x} {at:x?}: memory");
            }
        }
    }
}

/// xor [pte], edx; invlpg [PAGE]
fn invlpg() -> Vec<u8> {
    let mut switch = vec![0x31, 0x15];
    switch.extend((pte_of(setup::at::PAGES) as u32).to_le_bytes());
    switch.extend([0x0F, 0x01, 0x3D]);
    switch.extend((PAGE as u32).to_le_bytes());
    switch
}

/// call PAGE+800h, from where `from` bytes of the switch come before it
fn call(from: usize) -> Vec<u8> {
    let at = START + program(&[]).len() as u64 - 8 + from as u64;
    let mut call = vec![0xE8];
    call.extend(((PAGE + 0x800 - at - 5) as u32).to_le_bytes());
    call
}

#[test]
fn nothing_changes() {
    agree(&[], 0);
}

#[test]
fn another_frame() {
    agree(&invlpg(), PAGE ^ FRAME);
}

#[test]
fn the_dirty_bit_goes() {
    agree(&invlpg(), 0x40);
}

#[test]
fn code_behind_the_end() {
    agree(&call(0), 0);
}

#[test]
fn code_behind_the_end_in_another_frame() {
    let mut switch = invlpg();
    switch.extend(call(switch.len()));
    agree(&switch, PAGE ^ FRAME);
}

/// Where all pages are global, nothing but the page's own entry tells the two address spaces apart.
#[test]
fn another_address_space() {
    // mov eax, cr3; xor eax, edx; mov cr3, eax
    let switch = [0x0F, 0x20, 0xD8, 0x31, 0xD0, 0x0F, 0x22, 0xD8];
    agree(&switch, setup::at::PAGES ^ OTHER);
}
