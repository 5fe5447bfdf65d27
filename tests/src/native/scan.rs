//! Finds what changed in a page and puts it back.

use super::state::Changes;

/// Adds the 8-byte words of `now` that differ from `before` to `changes`, and restores them.
pub(super) fn page(now: &mut [u8], before: &[u8], lin: u64, changes: &mut Changes) {
    if *now == *before {
        return;
    }
    let words = now.as_chunks_mut::<8>().0.iter_mut().zip(before.as_chunks::<8>().0);
    for (n, (now, before)) in (0..).zip(words) {
        if now != before {
            changes.add(lin + 8 * n, u64::from_le_bytes(*now));
            *now = *before;
        }
    }
}
