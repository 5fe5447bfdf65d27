//! By which entry each page of guest RAM may be written. A page that comes to hold translated code loses its write entries; most pages have
//! one at most, and to look for others would be to look at every slot in use.

use super::{SLOTS, SPACES, ViewId};

/// A write entry: slot, view and address space (its place among those kept; 0 for the view that all share).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Writer {
    pub(super) slot: usize,
    pub(super) view: ViewId,
    pub(super) space: usize,
}

/// What is known of a page's write entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Known {
    /// There is none.
    None,
    /// At most this one.
    One(Writer),
    /// Any.
    Many,
}

/// A word for each page of guest RAM.
pub(super) struct Writers {
    words: Vec<u32>,
    /// Above the writer in words: one of another age is [`NONE`]. Should the ages come round again, it is a writer that is no more: others make them
    /// many, and who takes it for one looks there in vain.
    age: u32,
}

const NONE: u32 = 0;
/// Instead of a writer.
const MANY: u32 = WRITER;

/// Bits of a word: slot, view, address space (counted from 1), age.
const SLOT_BITS: u32 = 14;
const VIEW_BITS: u32 = 2;
const SPACE_BITS: u32 = 4;
const WRITER: u32 = (1 << (SLOT_BITS + VIEW_BITS + SPACE_BITS)) - 1;

const _: () = assert!(SLOTS == 1 << SLOT_BITS && SPACES + 1 < 1 << SPACE_BITS);

impl Writers {
    /// For so many pages.
    pub(super) fn new(pages: usize) -> Self {
        Self { words: vec![NONE; pages], age: 0 }
    }

    /// All write entries are forgotten.
    pub(super) const fn forget_all(&mut self) {
        self.age = self.age.wrapping_add(WRITER + 1);
    }

    /// What is known of a page, and where it stands. Of one that is no page of guest RAM nothing is.
    fn word(&mut self, page: u64) -> Option<(u32, &mut u32)> {
        let word = self.words.get_mut(usize::try_from(page).ok()?)?;
        Some((if *word & !WRITER == self.age { *word & WRITER } else { NONE }, word))
    }

    /// A write entry of a page is made.
    pub(super) fn note(&mut self, page: u64, writer: Writer) {
        let (this, age) = (word_of(writer), self.age);
        if let Some((known, word)) = self.word(page)
            && known != this
        {
            *word = age | if known == NONE { this } else { MANY };
        }
    }

    /// What is known of a page, whose write entries all go.
    pub(super) fn take(&mut self, page: u64) -> Known {
        let Some((known, word)) = self.word(page) else { return Known::Many };
        *word = NONE;
        match known {
            NONE => Known::None,
            MANY => Known::Many,
            known => Known::One(writer_of(known)),
        }
    }
}

/// Never [`NONE`] or [`MANY`]: there are few address spaces.
const fn word_of(writer: Writer) -> u32 {
    let above = (writer.space as u32 + 1) << VIEW_BITS | writer.view as u32;
    above << SLOT_BITS | writer.slot as u32
}

const fn writer_of(word: u32) -> Writer {
    let view = match word >> SLOT_BITS & 3 {
        0 => ViewId::Supervisor,
        1 => ViewId::User,
        2 => ViewId::SupervisorAc,
        _ => ViewId::Closed,
    };
    let slot = word as usize % SLOTS;
    // One was added, and the word is not `NONE`.
    let space = ((word >> (SLOT_BITS + VIEW_BITS)) as usize).saturating_sub(1);
    Writer { slot, view, space }
}

#[cfg(test)]
mod tests {
    use mem::{Lin, Phys};

    use super::super::{HostPage, Page, Tlb, right};
    use super::{Known, ViewId, Writer, Writers};

    #[test]
    fn one_is_known_and_more_are_not() {
        let mut writers = Writers::new(4);
        let views = [ViewId::Supervisor, ViewId::User, ViewId::SupervisorAc];
        for (slot, space, view) in [(0, 0, views[0]), (16383, 7, views[1]), (5, 3, views[2])] {
            let writer = Writer { slot, view, space };
            assert_eq!(writers.take(3), Known::None);
            writers.note(3, writer);
            writers.note(3, writer);
            assert_eq!(writers.take(3), Known::One(writer));
            writers.note(3, writer);
            writers.note(3, Writer { slot: 1, ..writer });
            writers.note(3, writer);
            assert_eq!(writers.take(3), Known::Many);
            writers.forget_all();
            assert_eq!(writers.take(2), Known::None);
            writers.note(4, writer);
            assert_eq!((writers.take(4), writers.take(u64::MAX)), (Known::Many, Known::Many));
        }
    }

    /// However pages are entered, evicted and flushed in whatever space, none may be written in any once it holds code.
    #[test]
    fn pages_with_code_are_written_by_nobody() {
        const PAGES: u64 = 64;
        let mut tlb = Tlb::new(PAGES as usize);
        let mut seed = 1u64;
        let mut random = |n: u64| {
            seed = seed.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
            (seed >> 33) % n
        };
        let host = |number: u64| HostPage { at: 0x7000_0000 + (number << 12), number };
        // Where each page is mapped: 3,000 linear pages, of which some share slots.
        let place = |lin: u64| lin % PAGES;
        let mut code = 0u64;
        for _ in 0..60_000 {
            let (lin, pcid) = (random(3000), random(12) as u16);
            match random(50) {
                0 => tlb.enter_space(pcid, random(4) != 0),
                1 => tlb.flush_page(Lin(lin << 12)),
                2 if random(20) == 0 => tlb.flush(pcid),
                3 if random(20) == 0 => tlb.flush_local(),
                4 => _ = tlb.adapt(),
                5 | 6 => {
                    tlb.protect(host(place(lin)));
                    code |= 1 << place(lin);
                }
                7 | 8 => code &= !(1 << place(lin)),
                n => {
                    let view =
                        [ViewId::Supervisor, ViewId::User, ViewId::SupervisorAc][n as usize % 3];
                    let (shift, is_global) = (12, n % 2 == 0);
                    let rights = right::R | right::W;
                    tlb.remember(
                        Lin(lin << 12),
                        Page { phys: Phys(0), rights, shift, is_global },
                        view,
                    );
                    match code >> place(lin) & 1 {
                        0 => tlb.enter_write(Lin(lin << 12), host(place(lin)), view),
                        _ => tlb.enter_code(Lin(lin << 12), host(place(lin)).at, view),
                    }
                }
            }
            let lin = random(3000);
            for view in [ViewId::Supervisor, ViewId::User, ViewId::SupervisorAc] {
                let is_written = tlb.view(view).write_host(Lin(lin << 12)).is_some();
                assert!(!is_written || code >> place(lin) & 1 == 0, "page {}", place(lin));
            }
        }
    }
}
