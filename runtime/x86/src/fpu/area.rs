//! The x87 part of the XSAVE area in the state, by fields.

use crate::cpu::Cpu;
use crate::fault::Fault;

/// Offsets in the legacy region (SDM Vol. 1, "Format of Legacy Region").
pub(super) mod at {
    pub(crate) const FCW: usize = 0;
    pub(crate) const FSW: usize = 2;
    pub(crate) const FTW: usize = 4;
    pub(crate) const FOP: usize = 6;
    pub(crate) const FIP: usize = 8;
    pub(crate) const FDP: usize = 16;
    pub(crate) const MXCSR: usize = 24;
    pub(crate) const MXCSR_MASK: usize = 28;
    pub(crate) const ST: usize = 32;
    pub(crate) const XMM: usize = 160;
}

/// FCW after FNINIT.
const FCW_INIT: u16 = 0x37F;
/// FCW bits that can be set, and the one that always is.
const FCW_MASK: u16 = 0x1F3F;
const FCW_ONE: u16 = 0x40;
/// FSW: exception flags; the summary bits ES and B.
pub(super) const FSW_EXCEPTIONS: u16 = 0x3F;
const FSW_SUMMARY: u16 = 0x8080;

/// Instruction and operand pointers as the environment has them.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(super) struct Pointers {
    pub ip: u64,
    pub dp: u64,
    pub op: u16,
    pub cs: u16,
    pub ds: u16,
}

/// The x87 state, parked.
impl Cpu {
    fn fpu_word(&self, at: usize) -> u16 {
        let bytes = &self.state.fpu.0;
        u16::from_le_bytes([bytes[at], bytes[at + 1]])
    }

    fn set_fpu_word(&mut self, at: usize, v: u16) {
        self.state.fpu.0[at..at + 2].copy_from_slice(&v.to_le_bytes());
    }

    pub(crate) fn fcw(&self) -> u16 {
        self.fpu_word(at::FCW)
    }

    pub(crate) fn fsw(&self) -> u16 {
        self.fpu_word(at::FSW)
    }

    /// Bit i: physical register i holds something.
    pub(super) fn full_tags(&self) -> u8 {
        self.state.fpu.0[at::FTW]
    }

    /// Control, status and abridged tag word; the summary bits follow from the other two.
    pub(super) fn set_fpu_words(&mut self, fcw: u16, fsw: u16, full: u8) {
        let fcw = fcw & FCW_MASK | FCW_ONE;
        let pending = fsw & !fcw & FSW_EXCEPTIONS != 0;
        let fsw = fsw & !FSW_SUMMARY | if pending { FSW_SUMMARY } else { 0 };
        self.set_fpu_word(at::FCW, fcw);
        self.set_fpu_word(at::FSW, fsw);
        self.state.fpu.0[at::FTW] = full;
        self.state.fpu.0[at::FTW + 1] = 0;
        self.state.fpu.0[512] |= 1;
    }

    pub(super) fn top(&self) -> u8 {
        (self.fsw() >> 11 & 7) as u8
    }

    /// Is an unmasked exception pending?
    pub(super) fn has_x87_error(&self) -> bool {
        self.fsw() & !self.fcw() & FSW_EXCEPTIONS != 0
    }

    /// #MF if an unmasked exception is pending: for waiting instructions that the host does not run.
    pub(super) fn check_pending_x87(&self) -> Result<(), Fault> {
        if self.has_x87_error() && !self.ignores_x87_errors() { Err(Fault::mf()) } else { Ok(()) }
    }

    /// FNINIT. `clear`: the registers too, as XRSTOR's initial state has them.
    pub(super) fn init_x87(&mut self, clear: bool) {
        self.turn(0);
        self.set_fpu_words(FCW_INIT, 0, 0);
        self.set_fpu_pointers(Pointers::default());
        if clear {
            self.state.fpu.0[at::ST..at::XMM].fill(0);
        }
    }

    pub(super) fn fpu_pointers(&self) -> Pointers {
        let s = &self.state;
        Pointers { ip: s.fpu_ip, dp: s.fpu_dp, op: s.fpu_op, cs: s.fpu_cs, ds: s.fpu_ds }
    }

    pub(super) fn set_fpu_pointers(&mut self, p: Pointers) {
        let s = &mut self.state;
        (s.fpu_ip, s.fpu_dp, s.fpu_op, s.fpu_cs, s.fpu_ds) = (p.ip, p.dp, p.op & 0x7FF, p.cs, p.ds);
    }

    /// ST(i), 80 bits.
    pub(crate) fn st(&self, i: usize) -> [u8; 10] {
        let start = at::ST + 16 * (i & 7);
        let mut value = [0; 10];
        value.copy_from_slice(&self.state.fpu.0[start..start + 10]);
        value
    }

    pub(super) fn set_st(&mut self, i: usize, value: &[u8; 10]) {
        let start = at::ST + 16 * (i & 7);
        self.state.fpu.0[start..start + 10].copy_from_slice(value);
        self.state.fpu.0[start + 10..start + 16].fill(0);
    }

    /// The full tag word, two bits per physical register: 0 valid, 1 zero, 2 special, 3 empty.
    pub(crate) fn tag_word(&self) -> u16 {
        let (top, full) = (self.top(), self.full_tags());
        (0..8u8).fold(0, |word, physical| {
            let tag = if full >> physical & 1 == 0 {
                3
            } else {
                class(&self.st(usize::from(physical.wrapping_sub(top) & 7)))
            };
            word | tag << (2 * physical)
        })
    }

    /// The registers stay where they are when TOP is about to change: the area has them counted from TOP.
    pub(super) fn turn(&mut self, top: u8) {
        let by = usize::from(self.top().wrapping_sub(top) & 7);
        if by != 0 {
            let old: [[u8; 10]; 8] = std::array::from_fn(|i| self.st(i));
            for (i, value) in old.iter().enumerate() {
                self.set_st((i + by) & 7, value);
            }
        }
    }

    /// What MMX instructions do on their way: all registers are in use, TOP is 0.
    pub(super) fn enter_mmx(&mut self) {
        self.turn(0);
        let fsw = self.fsw() & !(7 << 11);
        self.set_fpu_words(self.fcw(), fsw, 0xFF);
    }
}

/// The tag of a register's contents.
fn class(value: &[u8; 10]) -> u16 {
    let exponent = u16::from_le_bytes([value[8], value[9]]) & 0x7FFF;
    let significand = &value[..8];
    let is_normal = significand[7] & 0x80 != 0;
    match exponent {
        0 if significand.iter().all(|b| *b == 0) => 1,
        0 | 0x7FFF => 2,
        _ if is_normal => 0,
        _ => 2,
    }
}
