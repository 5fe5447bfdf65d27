//! Stopping generated code from another thread.
//!
// UNSAFETY: other threads write one word of the CPU state that generated code reads.
#![expect(unsafe_code, reason = "shares the jump mask with other threads")]

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use x86::tlb::JUMP_MASK;

/// Address of the jump mask; the vCPU clears it when it goes away.
struct Target(Mutex<Option<Word>>, AtomicBool);

#[derive(Clone, Copy)]
struct Word(*mut u32);

// SAFETY: the word is only accessed atomically, and only while `Target` still holds it.
unsafe impl Send for Word {}

/// Makes `Vcpu::run` return soon. Cheap to clone, may outlive the vCPU.
#[derive(Clone)]
pub struct Kicker(Arc<Target>);

impl Kicker {
    /// A kicker for the jump mask of a CPU state that stays where it is until [`Kicker::disconnect`].
    pub(super) fn new(jump_mask: &mut u32) -> Self {
        Self(Arc::new(Target(Mutex::new(Some(Word(jump_mask))), AtomicBool::new(false))))
    }
    /// Asks `run` to return.
    pub fn kick(&self) {
        self.0.1.store(true, Ordering::Release);
        let Ok(word) = self.0.0.lock() else { return };
        if let Some(Word(mask)) = *word {
            // SAFETY: `disconnect` has not been called, so the state is alive; the word is aligned and only accessed atomically.
            unsafe { AtomicU32::from_ptr(mask) }.store(0, Ordering::Release);
        }
    }
    /// Makes the run loop come by, without asking `run` to return.
    pub(super) fn nudge(&self) {
        let Ok(word) = self.0.0.lock() else { return };
        if let Some(Word(mask)) = *word {
            // SAFETY: as in `kick`.
            unsafe { AtomicU32::from_ptr(mask) }.store(0, Ordering::Release);
        }
    }
    /// Sets the mask; was there a kick since the last call? In this order: a kick that comes in between clears it again.
    pub(super) fn take(&self, jump_mask: &mut u32) -> bool {
        // SAFETY: the reference is exclusive among the owners; other threads access the word atomically only.
        unsafe { AtomicU32::from_ptr(jump_mask) }.store(JUMP_MASK, Ordering::SeqCst);
        self.0.1.load(Ordering::Acquire) && self.0.1.swap(false, Ordering::AcqRel)
    }
    /// The state is about to go away.
    pub(super) fn disconnect(&self) {
        if let Ok(mut word) = self.0.0.lock() {
            *word = None;
        }
    }
}

impl std::fmt::Debug for Kicker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kicker")
    }
}
