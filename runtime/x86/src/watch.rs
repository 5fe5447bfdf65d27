//! Watchpoints of a debugger outside the guest: they use the way of the guest's own data breakpoints (`debug`) and leave
//! DR6, DR7 and everything else that the guest can see alone. What an insn hit is kept until the run loop asks.

use mem::Access;

use crate::cpu::Cpu;

/// Bytes that somebody outside the guest watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Linear address of the first.
    pub first: u64,
    /// And of the last.
    pub last: u64,
    /// Are reads meant?
    pub reads: bool,
    /// Are writes meant?
    pub writes: bool,
}

/// In the bits of hits, the guest's own end here.
const OUTSIDE: u32 = 32;

impl Watch {
    /// Most of them.
    pub const MAX: usize = 32;
}

impl Cpu {
    /// Watches these and nothing else; at most [`Watch::MAX`] count.
    pub fn set_watches(&mut self, watches: &[Watch]) {
        let watches = &watches[..watches.len().min(Watch::MAX)];
        if self.watches != watches {
            self.watches = watches.to_vec();
            self.flush_tlb();
        }
        self.watches_hit = 0;
    }

    /// Which watches were hit since the last call: bit n is the nth.
    pub fn take_watches_hit(&mut self) -> u32 {
        std::mem::take(&mut self.watches_hit)
    }

    /// Is anything watched from outside?
    pub(crate) const fn has_watches(&self) -> bool {
        !self.watches.is_empty()
    }

    /// Which watches these bytes touch, above the bits of the guest's own.
    pub(crate) fn touches_watch(&self, at: u64, bytes: u32, access: Option<Access>) -> u64 {
        let last = at.saturating_add(u64::from(bytes.max(1)) - 1);
        let is_hit = |watch: &Watch| {
            let is_meant = match access {
                Some(Access::Read) => watch.reads,
                Some(Access::Write) => watch.writes,
                Some(Access::Rmw) | None => true,
                Some(Access::Fetch) => false,
            };
            is_meant && at <= watch.last && watch.first <= last
        };
        let hits = self.watches.iter().enumerate().filter(|(_, watch)| is_hit(watch));
        hits.fold(0, |bits, (n, _)| bits | 1 << (OUTSIDE as usize + n))
    }

    /// Takes note of what of these hits is watched from outside; returns the guest's own.
    pub(crate) const fn note_watches(&mut self, hits: u64) -> u64 {
        let outside = (hits >> OUTSIDE) as u32;
        if outside != 0 {
            self.watches_hit |= outside;
            self.ask_to_leave();
        }
        hits & ((1 << OUTSIDE) - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::cpu;

    #[test]
    fn an_access_hits_what_it_touches_and_is_meant() {
        let mut cpu = cpu();
        let watch = |first, last, reads, writes| Watch { first, last, reads, writes };
        cpu.set_watches(&[watch(0x1000, 0x1003, false, true), watch(0x1002, 0x1009, true, false)]);
        let hits = |at, bytes, access| cpu.touches_watch(at, bytes, Some(access)) >> OUTSIDE;
        assert_eq!(hits(0x1003, 1, Access::Write), 1);
        assert_eq!(hits(0x1003, 1, Access::Read), 2);
        assert_eq!(hits(0x1003, 4, Access::Rmw), 3);
        assert_eq!(hits(0xFFF, 1, Access::Rmw), 0);
        assert_eq!(hits(0xFFF, 2, Access::Write), 1);
        assert_eq!(hits(0x1000, 16, Access::Fetch), 0);
        assert_eq!(hits(u64::MAX, 8, Access::Rmw), 0);
        let all = cpu.touches_watch(0x1003, 1, Some(Access::Rmw)) | 5;
        assert_eq!(cpu.note_watches(all), 5);
        assert_eq!((cpu.take_watches_hit(), cpu.take_watches_hit()), (3, 0));
    }
}
