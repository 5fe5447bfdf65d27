//! Host exceptions of native instructions: unmasked floating-point exceptions reach the guest.
//!
//! Generated code runs the guest's FP and vector instructions with the guest's own control words, so what the guest has unmasked
//! traps on the host. The kernel turns that into a signal. The handler looks whether the instruction lies in a registered stretch of
//! generated code; if so it goes on at that stretch's stub for the exception, with the address behind the instruction's first byte pushed, as if
//! the instruction had called the stub. FP state and its status flags are as the hardware left them, because the kernel restores them.
//! Any other signal goes to whoever handled it before.
//!
//! Besides #MF and #XM, #UD and #GP are taken this way, so that an instruction the host refuses faults in the guest and does not end the process.
//! The handlers are process-wide, installed when the first stretch is registered, and hold no state but the list of stretches.
//!
// UNSAFETY: a signal handler that changes the interrupted context.
#![expect(unsafe_code, reason = "a signal handler that changes the interrupted context")]

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use ir::NativeTrap;

use crate::CodeBufError;

/// Where each trap goes on, in the order of [`TRAPS`].
pub(crate) type Stubs = [u64; TRAPS.len()];

/// The traps with their vectors.
pub(crate) const TRAPS: [(NativeTrap, i64); 4] = [
    (NativeTrap::X87, 16),
    (NativeTrap::Simd, 19),
    (NativeTrap::Undefined, 6),
    (NativeTrap::Protection, 13),
];

/// The signals the kernel makes of them.
const SIGNALS: [c_int; 3] = [libc::SIGFPE, libc::SIGILL, libc::SIGSEGV];

/// One stretch of generated code; empty while `end` is 0.
struct Stretch {
    start: AtomicU64,
    end: AtomicU64,
    stubs: [AtomicU64; TRAPS.len()],
}

/// Most stretches at a time.
const MOST: usize = 1024;

static STRETCHES: [Stretch; MOST] = [const {
    Stretch {
        start: AtomicU64::new(0),
        end: AtomicU64::new(0),
        stubs: [const { AtomicU64::new(0) }; TRAPS.len()],
    }
}; MOST];

/// Held while the list changes; the handler only reads.
static CHANGING: Mutex<()> = Mutex::new(());

/// Who handled the signals before.
static PREVIOUS: OnceLock<[libc::sigaction; SIGNALS.len()]> = OnceLock::new();

/// A registered stretch; dropping it takes it off the list.
pub(crate) struct Registration(usize);

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(s) = STRETCHES.get(self.0) {
            s.end.store(0, Ordering::Release);
            s.start.store(0, Ordering::Release);
        }
    }
}

/// Registers generated code at `start..end`, whose traps go on at `stubs`.
///
/// # Errors
/// When there are too many stretches or the handlers cannot be installed.
pub(crate) fn register(start: u64, end: u64, stubs: Stubs) -> Result<Registration, CodeBufError> {
    let _changing = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
    install()?;
    let free = STRETCHES.iter().position(|s| s.start.load(Ordering::Acquire) == 0);
    let (n, s) = free
        .and_then(|n| Some((n, STRETCHES.get(n)?)))
        .ok_or_else(|| CodeBufError::Signals(std::io::Error::other("too many code caches")))?;
    s.start.store(start, Ordering::Release);
    for (slot, stub) in s.stubs.iter().zip(stubs) {
        slot.store(stub, Ordering::Release);
    }
    s.end.store(end, Ordering::Release);
    Ok(Registration(n))
}

fn install() -> Result<(), CodeBufError> {
    if PREVIOUS.get().is_some() {
        return Ok(());
    }
    let failed = || CodeBufError::Signals(std::io::Error::last_os_error());
    // SAFETY: all zeroes is a valid sigaction: default handling, empty mask.
    let mut previous: [libc::sigaction; SIGNALS.len()] = unsafe { std::mem::zeroed() };
    for (signal, old) in SIGNALS.into_iter().zip(&mut previous) {
        // SAFETY: a null new action only reads the old one into valid memory.
        if unsafe { libc::sigaction(signal, std::ptr::null(), old) } != 0 {
            return Err(failed());
        }
    }
    // The handler may run from here on: it must find them.
    let _ = PREVIOUS.set(previous);
    for signal in SIGNALS {
        // SAFETY: as above.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: the handler has the signature SA_SIGINFO asks for and calls only what is safe in signal handlers.
        if unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) } != 0 {
            return Err(failed());
        }
    }
    Ok(())
}

extern "C" fn handler(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes the interrupted context, which nothing else refers to while the handler runs.
    let context_ref = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    if !redirect(&mut context_ref.uc_mcontext.gregs) {
        pass_on(signal, info, context);
    }
}

/// Goes on at the stub if generated code trapped.
fn redirect(gregs: &mut [i64; 23]) -> bool {
    let [rip, rsp, vector] = [libc::REG_RIP, libc::REG_RSP, libc::REG_TRAPNO].map(|n| n as usize);
    let Some(trap) = TRAPS.iter().position(|t| t.1 == gregs[vector]) else { return false };
    let at = gregs[rip].cast_unsigned();
    let stretch = STRETCHES.iter().find(|s| {
        let end = s.end.load(Ordering::Acquire);
        at < end && at >= s.start.load(Ordering::Acquire)
    });
    let Some(stretch) = stretch else { return false };
    gregs[rsp] -= 8;
    let slot = gregs[rsp].cast_unsigned() as *mut u64;
    // SAFETY: generated code keeps the host's stack pointer, uses no red zone, and the handler runs elsewhere or further down:
    // the word below the interrupted stack pointer is free.
    unsafe { slot.write(at.wrapping_add(1)) };
    gregs[rip] = stretch.stubs[trap].load(Ordering::Acquire).cast_signed();
    true
}

/// Calls the handler that was there before; without one the signal takes its default effect.
fn pass_on(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let n = SIGNALS.iter().position(|&s| s == signal);
    let old = n.and_then(|n| PREVIOUS.get()?.get(n));
    match old {
        Some(old) if old.sa_sigaction > 1 && old.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: the action was installed with SA_SIGINFO, so its handler takes these arguments.
            let call: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) =
                unsafe { std::mem::transmute(old.sa_sigaction) };
            call(signal, info, context);
        }
        Some(old) if old.sa_sigaction > 1 => {
            // SAFETY: the action was installed without SA_SIGINFO, so its handler takes the signal number.
            let call: extern "C" fn(c_int) = unsafe { std::mem::transmute(old.sa_sigaction) };
            call(signal);
        }
        _ => {
            // SAFETY: async-signal-safe calls; the signal comes again when the handler returns and ends the process.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
            // SAFETY: as above.
            unsafe { libc::raise(signal) };
        }
    }
}
