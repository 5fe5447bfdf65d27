//! A window on memory that somebody else writes, too: the code and data pages as host or guest sees them.
//
// UNSAFETY: the bytes are shared with guest code, so every access goes through a raw pointer.
#![expect(unsafe_code, reason = "reads and writes memory shared with guest code")]

use std::sync::Arc;

use mem::GuestRam;

use super::layout::{BACKING_LEN, CODE, CODE_END, DATA, PAGE, WRITABLE, backing};
use super::state::{Case, Changes, Patch};

/// The [`BACKING_LEN`] bytes of an area.
///
/// Invariant: `base` is the address of as many readable and writable bytes, which outlive the view and which nothing else accesses
/// while one of its methods runs.
pub(super) struct View {
    base: *mut u8,
    _owner: Option<Arc<GuestRam>>,
}

/// What the data pages held before, and the code.
#[derive(Clone)]
pub struct Image {
    /// Data pages.
    pub data: Vec<u8>,
    /// Bytes of code in place: linear address and how many.
    code: (u64, usize, [u8; 16]),
    /// What the patches of the case under way overwrote.
    undo: [Patch; 2],
}

impl Image {
    /// Data pages of these bytes, no code.
    pub fn new(data: Vec<u8>) -> Self {
        assert_eq!(data.len(), super::layout::DATA_LEN, "all data pages, no more");
        Self { data, code: (0, 0, [0; 16]), undo: [Patch::NONE; 2] }
    }
}

const CODE_LEN: usize = (CODE_END - CODE) as usize;
/// INT3: fills the code pages.
pub(super) const INT3: u8 = 0xCC;

impl View {
    /// A view of the bytes at `base`.
    ///
    /// # Safety
    /// The invariant of [`View`] holds for `base`.
    pub(super) unsafe fn new(base: *mut u8) -> Self {
        Self { base, _owner: None }
    }

    /// A view of a guest's memory from offset `at` on.
    pub(super) fn of_guest(ram: &Arc<GuestRam>, at: u64) -> Self {
        assert!(at + BACKING_LEN as u64 <= ram.len() && at.is_multiple_of(PAGE), "inside");
        let base = ram.page_ptr(at).expect("inside");
        Self { base, _owner: Some(ram.clone()) }
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: by the type's invariant; the borrow of `self` keeps others away for as long.
        unsafe { std::slice::from_raw_parts_mut(self.base, BACKING_LEN) }
    }

    /// Fills everything: INT3 in the code pages, the image in the data pages.
    pub(super) fn fill(&mut self, image: &mut Image) {
        image.code = (0, 0, [0; 16]);
        let (code, data) = self.bytes().split_at_mut(CODE_LEN);
        code.fill(INT3);
        data.copy_from_slice(&image.data);
    }

    /// Puts a case's bytes and patches in place. Returns the stretches of code that changed, if any: address and length.
    pub(super) fn install(&mut self, image: &mut Image, case: &Case) -> Option<[(u64, usize); 2]> {
        for (n, patch) in case.patches.iter().enumerate() {
            image.undo[n] = self.patch(image, patch);
        }
        let code = (case.lin(), usize::from(case.len), case.bytes);
        if code == image.code {
            return None;
        }
        let old = std::mem::replace(&mut image.code, code);
        for at in 0..old.1 as u64 {
            self.set_code(old.0.wrapping_add(at), INT3);
        }
        for (at, &byte) in (0..).zip(case.code()) {
            self.set_code(code.0.wrapping_add(at), byte);
        }
        Some([(old.0, old.1), (code.0, code.1)])
    }

    fn set_code(&mut self, lin: u64, byte: u8) {
        if let Some(at) = backing(lin) {
            self.bytes()[at] = byte;
        }
    }

    /// Writes a patch; returns the one that takes it back.
    fn patch(&mut self, image: &mut Image, patch: &Patch) -> Patch {
        let mut undo = *patch;
        for (at, byte) in (0..).zip(&mut undo.bytes[..usize::from(patch.len)]) {
            let lin = patch.at.wrapping_add(at);
            if let Some(place) = backing(lin).filter(|&p| p >= CODE_LEN) {
                self.bytes()[place] = *byte;
                std::mem::swap(&mut image.data[place - CODE_LEN], byte);
            }
        }
        undo
    }

    /// What has changed in the data pages since `install`; it is put back, and the patches with it.
    pub(super) fn collect(&mut self, image: &mut Image) -> Changes {
        let mut changes = Changes::default();
        let data = &mut self.bytes()[CODE_LEN..];
        for page in WRITABLE {
            let range = page * PAGE as usize..(page + 1) * PAGE as usize;
            super::scan::page(
                &mut data[range.clone()],
                &image.data[range.clone()],
                DATA + range.start as u64,
                &mut changes,
            );
        }
        for n in (0..image.undo.len()).rev() {
            let undo = image.undo[n];
            self.patch(image, &undo);
        }
        changes
    }

    /// Are all pages that nothing may write as they were?
    pub(super) fn is_sound(&mut self, image: &Image) -> bool {
        let (start, len, bytes) = image.code;
        let (code, data) = self.bytes().split_at(CODE_LEN);
        let expected = |at: usize| match (CODE + at as u64).wrapping_sub(start) {
            n if n < len as u64 => bytes[n as usize],
            _ => INT3,
        };
        code.iter().enumerate().all(|(at, &byte)| byte == expected(at)) && *data == image.data[..]
    }
}
