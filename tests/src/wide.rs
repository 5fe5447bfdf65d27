//! FP and vector state by the names that `case` lines use.

use x86::state::{CpuState, XsaveArea};

/// Where the bytes of a register are in the state; `None` = no such name.
fn bytes_of<'a>(state: &'a mut CpuState, name: &str) -> Option<Bytes<'a>> {
    let number = |stem: &str| name.strip_prefix(stem)?.parse::<usize>().ok();
    if let Some(n) = number("xmm") {
        return state.ymm.get_mut(n).map(|ymm| Bytes::Words(&mut ymm[..2]));
    }
    if let Some(n) = number("ymm") {
        return state.ymm.get_mut(n).map(|ymm| Bytes::Words(&mut ymm[..]));
    }
    if name == "mxcsr" {
        return Some(Bytes::Mxcsr(&mut state.mxcsr));
    }
    let (at, len) = match (name, number("mm"), number("st")) {
        ("fcw", ..) => (XsaveArea::FCW, 2),
        ("fsw", ..) => (XsaveArea::FSW, 2),
        (_, Some(n @ 0..8), _) => (XsaveArea::ST + 16 * n, 8),
        (_, _, Some(n @ 0..8)) => (XsaveArea::ST + 16 * n, 10),
        _ => return None,
    };
    state.fpu.0.get_mut(at..at + len).map(Bytes::Area)
}

enum Bytes<'a> {
    Words(&'a mut [u64]),
    Area(&'a mut [u8]),
    Mxcsr(&'a mut u32),
}

/// Sets a register; an x87 or MMX register becomes a used one. False = no such name.
pub fn set(state: &mut CpuState, name: &str, value: [u64; 4]) -> bool {
    match bytes_of(state, name) {
        None => return false,
        Some(Bytes::Words(words)) => words.copy_from_slice(&value[..words.len()]),
        Some(Bytes::Mxcsr(mxcsr)) => *mxcsr = value[0] as u32,
        Some(Bytes::Area(bytes)) => {
            let all: Vec<u8> = value.iter().flat_map(|word| word.to_le_bytes()).collect();
            bytes.copy_from_slice(&all[..bytes.len()]);
            let number = name.trim_start_matches(|c: char| !c.is_ascii_digit());
            if let Ok(n) = number.parse::<usize>() {
                let top = usize::from(state.fpu.u16(XsaveArea::FSW) >> 11 & 7);
                // MMX registers are physical ones, ST registers count from the top.
                let physical = if name.starts_with("st") { (n + top) & 7 } else { n };
                state.fpu.0[XsaveArea::FTW] |= 1 << physical;
            }
        }
    }
    true
}

/// The value of a register, low word first; `None` = no such name.
pub fn get(state: &CpuState, name: &str) -> Option<[u64; 4]> {
    let mut state = state.clone();
    let mut value = [0; 4];
    match bytes_of(&mut state, name)? {
        Bytes::Words(words) => value[..words.len()].copy_from_slice(words),
        Bytes::Mxcsr(mxcsr) => value[0] = u64::from(*mxcsr),
        Bytes::Area(bytes) => {
            for (at, byte) in bytes.iter().enumerate() {
                value[at / 8] |= u64::from(*byte) << (at % 8 * 8);
            }
        }
    }
    Some(value)
}
