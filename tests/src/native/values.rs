//! Numbers worth trying: edges, small counts, pointers into the area, selectors, floating-point specials.

use super::layout::{AREA, CODE, CODE_END, DATA, DATA_LEN, PAGE, SELECTORS, STACK};
use super::state::{Fp, Width};
use crate::Rng;

const EDGES: [u64; 26] = [
    0,
    1,
    2,
    3,
    7,
    8,
    0xF,
    0x10,
    0x1F,
    0x20,
    0x3F,
    0x40,
    0x7F,
    0x80,
    0xFF,
    0x100,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x1_0000,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFFF,
    0x1_0000_0000,
    0x7FFF_FFFF_FFFF_FFFF,
    0x8000_0000_0000_0000,
];

/// An integer: an edge or its negative, something small, bits of every density, or anything.
pub(super) fn integer(rng: &mut Rng) -> u64 {
    match rng.below(10) {
        0..=2 => *rng.pick(&EDGES),
        3 => rng.pick(&EDGES).wrapping_neg(),
        4 => rng.pick(&EDGES) ^ *rng.pick(&EDGES),
        5 => rng.below(70),
        6 => rng.draw() & rng.draw() & rng.draw(),
        7 => rng.draw() | rng.draw() | rng.draw(),
        8 => rng.draw() >> rng.below(64),
        _ => rng.draw(),
    }
}

/// A place in the data pages, mostly aligned.
pub(super) fn data_address(rng: &mut Rng) -> u64 {
    let align = *rng.pick(&[1, 2, 4, 8, 16, 32]);
    DATA + rng.below(DATA_LEN as u64) / align * align
}

/// Near the middle of the stack page, mostly.
pub(super) fn stack_address(rng: &mut Rng) -> u64 {
    match rng.below(16) {
        0 => STACK + rng.below(0x30),
        1 => STACK + PAGE - rng.below(0x30),
        2 => data_address(rng),
        3 => STACK + 0x800 + rng.below(0x100),
        _ => STACK + 0x800 + 16 * rng.below(0x10),
    }
}

/// A place in the code pages where nothing but INT3 stands, as a program of this width would name it. The instruction itself is
/// never within the last 16 bytes of 64.
pub(super) fn code_pointer(rng: &mut Rng, width: Width) -> u64 {
    let lin = CODE + rng.below((CODE_END - CODE) / 64) * 64 + 48 + rng.below(12);
    if width == Width::W16 { lin - AREA } else { lin }
}

/// A selector.
pub(super) fn selector(rng: &mut Rng) -> u64 {
    u64::from(*rng.pick(&SELECTORS))
}

/// What a general register may hold.
pub(super) fn register(rng: &mut Rng, width: Width) -> u64 {
    match rng.below(16) {
        0 => data_address(rng),
        1 => code_pointer(rng, width),
        2 => selector(rng) | if rng.once_in(3) { rng.draw() << 16 } else { 0 },
        3 => u64::from(single(rng)),
        4 => double(rng),
        _ => integer(rng),
    }
}

/// A single-precision number.
pub(super) fn single(rng: &mut Rng) -> u32 {
    const SPECIAL: [u32; 22] = [
        0x0000_0000, // 0
        0x3F80_0000, // 1
        0x4000_0000, // 2
        0x3F00_0000, // 1/2
        0x3FC0_0000, // 3/2
        0x4B00_0000, // 2^23
        0x4B7F_FFFF, // 2^24 - 1
        0x4F00_0000, // 2^31
        0x4EFF_FFFF, // largest below
        0x5F00_0000, // 2^63
        0x7F7F_FFFF, // largest
        0x7F80_0000, // infinity
        0x7F80_0001, // signalling NaN
        0x7FA0_0000, // signalling NaN
        0x7FC0_0000, // quiet NaN
        0x7FFF_FFFF, // quiet NaN
        0x0080_0000, // smallest normal
        0x007F_FFFF, // largest denormal
        0x0000_0001, // smallest denormal
        0x0040_0000, // denormal
        0x3F7F_FFFF, // below 1
        0x3F80_0001, // above 1
    ];
    let sign = (rng.draw() as u32) << 31;
    match rng.below(6) {
        0..=2 => *rng.pick(&SPECIAL) ^ sign,
        3 => rng.draw() as u32 & 0x007F_FFFF | (0x70 + rng.below(0x1F) as u32) << 23 | sign,
        4 => ((rng.below(2000) as f32) / 8.0).to_bits() ^ sign,
        _ => rng.draw() as u32,
    }
}

/// A double-precision number.
pub(super) fn double(rng: &mut Rng) -> u64 {
    const SPECIAL: [u64; 22] = [
        0x0000_0000_0000_0000,
        0x3FF0_0000_0000_0000,
        0x4000_0000_0000_0000,
        0x3FE0_0000_0000_0000,
        0x3FF8_0000_0000_0000,
        0x4330_0000_0000_0000,
        0x433F_FFFF_FFFF_FFFF,
        0x41E0_0000_0000_0000,
        0x41DF_FFFF_FFE0_0000,
        0x43E0_0000_0000_0000,
        0x7FEF_FFFF_FFFF_FFFF,
        0x7FF0_0000_0000_0000,
        0x7FF0_0000_0000_0001,
        0x7FF4_0000_0000_0000,
        0x7FF8_0000_0000_0000,
        0x7FFF_FFFF_FFFF_FFFF,
        0x0010_0000_0000_0000,
        0x000F_FFFF_FFFF_FFFF,
        0x0000_0000_0000_0001,
        0x3800_0000_0000_0000,
        0x47EF_FFFF_E000_0000,
        0x3FF0_0000_0000_0001,
    ];
    let sign = rng.draw() << 63;
    match rng.below(6) {
        0..=2 => *rng.pick(&SPECIAL) ^ sign,
        3 => rng.draw() & ((1 << 52) - 1) | (0x3F0 + rng.below(0x1F)) << 52 | sign,
        4 => ((rng.below(2000) as f64) / 8.0).to_bits() ^ sign,
        _ => rng.draw(),
    }
}

/// An 80-bit number: significand, sign and exponent.
pub(super) fn extended(rng: &mut Rng) -> (u64, u16) {
    const TOP: u64 = 1 << 63;
    const SPECIAL: [(u64, u16); 20] = [
        (0, 0),
        (TOP, 0x3FFF),
        (TOP, 0x4000),
        (TOP, 0x3FFE),
        (TOP | TOP >> 1, 0x3FFF),
        (u64::MAX, 0x403E),
        (TOP, 0x403E),
        (TOP, 0x401E),
        (u64::MAX, 0x7FFE),
        (TOP, 0x7FFF),
        (TOP | 1, 0x7FFF),
        (TOP | TOP >> 1, 0x7FFF),
        (u64::MAX, 0x7FFF),
        (TOP, 1),
        (TOP - 1, 0),
        (1, 0),
        (TOP, 0),    // pseudo-denormal
        (1, 0x7FFF), // pseudo-NaN
        (1, 0x4000), // unnormal
        (0, 0x7FFF), // pseudo-infinity
    ];
    let sign = (rng.draw() as u16) << 15;
    let (significand, exponent) = match rng.below(8) {
        0..=2 => *rng.pick(&SPECIAL),
        3 => (rng.draw() | TOP, 0x3FF0 + rng.below(0x20) as u16),
        4 => (rng.draw() | TOP, 0x3FFF + rng.below(0x48) as u16),
        5 => ((rng.below(1000) + 1) << 54 | TOP, 0x3FFF + rng.below(12) as u16),
        6 => (rng.draw() | TOP, rng.below(0x7FFF) as u16),
        _ => (rng.draw(), rng.draw() as u16 & 0x7FFF),
    };
    (significand, exponent | sign)
}

/// Sixteen bytes for a vector register or a memory operand: numbers of one kind, mostly.
pub(super) fn vector(rng: &mut Rng) -> [u64; 2] {
    let kind = rng.below(6);
    std::array::from_fn(|_| match kind {
        0 | 1 => u64::from(single(rng)) | u64::from(single(rng)) << 32,
        2 | 3 => double(rng),
        4 => {
            let n = integer(rng);
            match rng.below(3) {
                0 => n & 0xFF | (n & 0xFF) << 16 | rng.draw() & 0xFF00_0000,
                1 => n & 0xFFFF_FFFF | integer(rng) << 32,
                _ => n,
            }
        }
        _ => rng.draw(),
    })
}

/// Floating-point state of all kinds.
pub(super) fn state(rng: &mut Rng) -> Fp {
    let mut fp = Fp::INIT;
    let put = |fp: &mut Fp, at: usize, bytes: &[u8]| {
        fp.legacy[at..at + bytes.len()].copy_from_slice(bytes);
    };
    if !rng.once_in(3) {
        // Rounding and precision; exceptions unmasked now and then.
        let masks = if rng.once_in(4) { rng.draw() as u16 & 0x3F } else { 0x3F };
        let control = rng.draw() as u16 & 0x0F00 | 0x40 | masks;
        put(&mut fp, 0, &control.to_le_bytes());
    }
    let status = match rng.below(4) {
        0 => 0,
        1 => (rng.below(8) as u16) << 11,
        _ => rng.draw() as u16 & 0x7F7F,
    };
    let control = u16::from_le_bytes([fp.legacy[0], fp.legacy[1]]);
    // Pending exceptions now and then only: all but a few instructions would stop at them.
    let status = if rng.once_in(8) { status } else { status & !(!control & 0x3F) };
    let pending = status & !control & 0x3F != 0;
    let status = if pending { status | 0x8080 } else { status & !0x8080 };
    put(&mut fp, 2, &status.to_le_bytes());
    let tags = match rng.below(4) {
        0 => 0,
        1 => rng.draw() as u8,
        _ => 0xFF,
    };
    fp.legacy[4] = tags;
    for n in 0..8 {
        let (significand, exponent) = extended(rng);
        put(&mut fp, 32 + 16 * n, &significand.to_le_bytes());
        put(&mut fp, 40 + 16 * n, &exponent.to_le_bytes());
    }
    for n in 0..16 {
        let [low, high] = vector(rng);
        put(&mut fp, 160 + 16 * n, &low.to_le_bytes());
        put(&mut fp, 168 + 16 * n, &high.to_le_bytes());
        fp.high[n] = vector(rng);
    }
    if !rng.once_in(3) {
        let masks = if rng.once_in(4) { rng.draw() as u32 & 0x1F80 } else { 0x1F80 };
        let mxcsr = rng.draw() as u32 & 0xE07F | masks;
        put(&mut fp, 24, &mxcsr.to_le_bytes());
    }
    fp
}

/// Small numbers in all vector registers, masks in some: indexes of gathers.
pub(super) fn make_indexes(rng: &mut Rng, fp: &mut Fp) {
    let is_quad = rng.once_in(2);
    let mut small = || {
        let n = (rng.below(0x40) as i64 - 0x20).cast_unsigned();
        let mask = rng.draw() & 0x8000_0000_8000_0000;
        if is_quad { n } else { n & 0xFFFF_FFFF | n << 32 | mask & rng.draw() }
    };
    for n in 0..16 {
        for half in 0..2 {
            let at = 160 + 16 * n + 8 * half;
            fp.legacy[at..at + 8].copy_from_slice(&small().to_le_bytes());
            fp.high[n][half] = small();
        }
    }
    for n in 0..4 {
        // Masks in the lowest ones.
        fp.high[n] = fp.high[n].map(|v| v ^ rng.draw() & 1 << 63);
    }
}

/// Bytes of the data pages.
pub(super) fn image(rng: &mut Rng, width: Width) -> Vec<u8> {
    let mut data = Vec::with_capacity(DATA_LEN);
    while data.len() < DATA_LEN {
        match rng.below(4) {
            0 => data.extend(register(rng, width).to_le_bytes()),
            1 => data.extend((register(rng, width) as u32).to_le_bytes()),
            2 => data.extend(vector(rng).map(u64::to_le_bytes).as_flattened()),
            _ => data.extend(rng.draw().to_le_bytes()),
        }
    }
    data.truncate(DATA_LEN);
    data
}
