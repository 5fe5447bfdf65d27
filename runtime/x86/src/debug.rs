//! Debug registers: access rules, instruction, data and I/O breakpoints, single steps.
//!
//! Instruction breakpoints are looked for before each insn: while one is armed, blocks are one insn
//! long (`Mode::BREAK`). Data breakpoints keep their pages out of the TLB, so that every access of
//! generated code to them takes the slow path, which hands insns that hit one to the evaluator. What
//! an insn hit waits in `pending_db` until the insn is done.
//! Source: SDM Vol. 3B, "Debug, Branch Profile, TSC, and Intel Resource Director Technology Features".

use mem::{Access, Lin};

use crate::cpu::{Cpu, cr4};
use crate::fault::{Fault, dr6};
use crate::flags;

/// DR7.GD: accesses to debug registers raise #DB.
pub(crate) const DR7_GD: u64 = 1 << 13;
/// Bits of DR6 that software can write.
const DR6_WRITABLE: u64 = 0xE00F;
/// Bits of DR6 that read 1.
const DR6_ONES: u64 = 0xFFFF_0FF0;
/// Bits of DR7 that read 0, and the one that reads 1.
const DR7_ZEROS: u64 = 0xD000;
const DR7_ONES: u64 = 0x400;

/// DR6 holding `v`.
pub(crate) const fn debug_status(v: u64) -> u64 {
    v & DR6_WRITABLE | DR6_ONES
}

/// DR7 holding `v`.
pub(crate) const fn debug_control(v: u64) -> u64 {
    v as u32 as u64 & !DR7_ZEROS | DR7_ONES
}

/// The enabled breakpoints by kind: bit n = DRn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Armed {
    code: u8,
    write: u8,
    /// Reads and writes.
    access: u8,
    io: u8,
}

impl Armed {
    /// What DR7 arms.
    const fn new(dr7: u64, has_io: bool) -> Self {
        let mut armed = Self { code: 0, write: 0, access: 0, io: 0 };
        let mut n = 0;
        while n < 4 {
            if dr7 >> (2 * n) & 3 != 0 {
                let bit = 1 << n;
                match dr7 >> (16 + 4 * n) & 3 {
                    0 => armed.code |= bit,
                    1 => armed.write |= bit,
                    2 if has_io => armed.io |= bit,
                    2 => {}
                    _ => armed.access |= bit,
                }
            }
            n += 1;
        }
        armed
    }

    const fn has_data(self) -> bool {
        self.write | self.access != 0
    }
}

/// Reading and writing.
impl Cpu {
    /// DR4 and DR5 are DR6 and DR7 unless CR4.DE forbids them.
    fn debug_index(&mut self, n: u32) -> Result<usize, Fault> {
        let is_alias = n == 4 || n == 5;
        if n > 7 || (is_alias && self.state.cr4 & cr4::DE != 0) {
            return Err(Fault::ud());
        }
        if self.state.dr[7] & DR7_GD != 0 {
            return Err(Fault::db(dr6::BD));
        }
        Ok((if is_alias { n + 2 } else { n }) as usize)
    }

    pub(crate) fn read_debug(&mut self, n: u32) -> Result<u64, Fault> {
        let i = self.debug_index(n)?;
        Ok(self.state.dr[i])
    }

    pub(crate) fn write_debug(&mut self, n: u32, v: u64) -> Result<(), Fault> {
        let i = self.debug_index(n)?;
        if i >= 6 && v >> 32 != 0 {
            return Err(Fault::gp(0));
        }
        self.state.dr[i] = match i {
            6 => debug_status(v),
            7 => debug_control(v),
            _ => v,
        };
        self.arm_breakpoints(i < 4);
        Ok(())
    }

    /// Brings what DR0 to DR7 imply up to date; `moved` = an address changed.
    pub(crate) fn arm_breakpoints(&mut self, moved: bool) {
        let old = self.armed;
        self.armed = Armed::new(self.state.dr[7], self.state.cr4 & cr4::DE != 0);
        let is_changed = self.armed != old;
        if (is_changed || moved) && (old.has_data() || self.armed.has_data()) {
            self.flush_tlb();
        }
        if is_changed {
            self.forget_transfers();
            self.sync_in_block();
        }
    }
}

/// Breakpoints.
impl Cpu {
    /// First and last byte of breakpoint `n`.
    const fn extent(&self, n: usize) -> (u64, u64) {
        let len = match self.state.dr[7] >> (18 + 4 * n) & 3 {
            0 => 1,
            1 => 2,
            2 => 8,
            _ => 4,
        };
        let first = self.state.dr[n] & !(len - 1);
        (first, first + (len - 1))
    }

    /// Which of the breakpoints `set` touch `bytes` bytes at `at`.
    fn touched(&self, set: u8, at: u64, bytes: u32) -> u64 {
        let last = at.wrapping_add(u64::from(bytes.max(1)) - 1);
        let hit = |n: usize| {
            let (first, end) = self.extent(n);
            at <= end && first <= last
        };
        (0..4).filter(|&n| set >> n & 1 != 0 && hit(n)).fold(0, |bits, n| bits | 1 << n)
    }

    /// Are instruction breakpoints armed?
    pub(crate) const fn breaks_on_code(&self) -> bool {
        self.armed.code != 0
    }

    /// Are data breakpoints armed, or does a debugger outside watch memory?
    pub(crate) const fn watches_data(&self) -> bool {
        self.armed.has_data() || self.has_watches()
    }

    /// Are data or I/O breakpoints armed?
    pub(crate) const fn is_watching(&self) -> bool {
        self.watches_data() || self.armed.io != 0
    }

    /// Is a byte of the page of `lin` watched?
    pub(crate) fn watches_page(&self, lin: Lin) -> bool {
        let set = self.armed.write | self.armed.access;
        let page = lin.page().0;
        (set != 0 && self.touched(set, page, 4096) != 0)
            || (self.has_watches() && self.touches_watch(page, 4096, None) != 0)
    }

    /// Which data breakpoints does the access hit? Those of a debugger outside are above bit 31.
    pub(crate) fn watch_hits(&self, lin: Lin, bytes: u32, access: Access) -> u64 {
        let set = match access {
            Access::Read => self.armed.access,
            Access::Write | Access::Rmw => self.armed.access | self.armed.write,
            Access::Fetch => 0,
        };
        let outside = self.touches_watch(lin.0, bytes, Some(access));
        if set == 0 { outside } else { self.touched(set, lin.0, bytes) | outside }
    }

    /// Notes an access that an insn is about to make.
    #[inline]
    pub(crate) fn watch(&mut self, lin: Lin, bytes: u32, access: Access) {
        if self.watches_data() {
            let hits = self.watch_hits(lin, bytes, access);
            self.note_debug(hits);
        }
    }

    /// Notes a port access.
    pub(crate) fn watch_port(&mut self, port: u16, bytes: u32) {
        if self.armed.io != 0 {
            let hits = self.touched(self.armed.io, u64::from(port), bytes);
            self.note_debug(hits);
        }
    }

    /// Keeps DR6 bits of a #DB that follows the current insn.
    pub(crate) const fn note_debug(&mut self, bits: u64) {
        let bits = self.note_watches(bits);
        if bits != 0 {
            self.pending_db |= bits;
            self.ask_to_leave();
        }
    }

    /// DR6 as a #DB for these reasons leaves it: B0 to B3 say which breakpoints this one is for, the rest stays set until
    /// software clears it. General detect and INT1 are no matter of breakpoints.
    pub(crate) const fn set_debug_status(&mut self, reasons: u64) {
        if reasons & !dr6::BD != 0 {
            self.state.dr[6] &= !dr6::HITS;
        }
        self.state.dr[6] |= reasons;
    }

    /// Delivers the #DB that an insn left behind; true if there was one.
    pub(crate) fn take_pending_debug(&mut self) -> bool {
        let bits = std::mem::take(&mut self.pending_db);
        if bits != 0 {
            self.deliver_fault(Fault::db_trap(bits));
        }
        bits != 0
    }

    /// Raises #DB if the insn at the instruction pointer has a breakpoint and RF does not hold it off.
    pub(crate) fn take_code_breakpoint(&mut self) -> bool {
        if self.armed.code == 0 {
            return false;
        }
        self.insn_pc = self.state.pc;
        if self.state.eflags & flags::RF != 0 {
            return false;
        }
        let hits = self.touched(self.armed.code, self.lin_pc(self.state.pc).0, 1);
        if hits != 0 {
            self.deliver_fault(Fault::db(hits));
        }
        hits != 0
    }

    /// After an insn that ran by itself without a fault: RF lasts for one insn only, which a repeated
    /// string insn that still stands at its place is not done with.
    pub fn finish_insn(&mut self) {
        let is_done = self.insn_pc != self.state.pc;
        if !std::mem::take(&mut self.keep_rf) && is_done {
            self.state.eflags &= !flags::RF;
        }
    }

    /// The #DB trap after an insn that began with TF set, unless the insn held it off: software
    /// interrupts clear TF themselves, and loads of SS shield their successor.
    pub fn finish_step(&mut self) {
        let is_inhibited = std::mem::take(&mut self.inhibit_step);
        if !is_inhibited && (self.state.shadow == 0 || self.shadow_is_sti) {
            let bits = std::mem::take(&mut self.pending_db);
            self.deliver_fault(Fault::db_trap(dr6::BS | bits));
        }
    }
}
