//! Host exceptions of native instructions: unmasked floating-point exceptions reach the guest.
//!
//! Generated code runs the guest's FP and vector instructions with the guest's own control words, so what the guest has unmasked
//! traps on the host. The kernel turns that into a signal. The handler looks whether the instruction lies in a registered stretch of
//! generated code; if so it goes on at that stretch's stub for the exception, with the address behind the instruction's first byte pushed, as if
//! the instruction had called the stub. FP state and its status flags are as the hardware left them, because the kernel restores them.
//! Where registers or flags are not home at an instruction that may raise #XM, the stretch's list of [`Sites`] names cold code of its own,
//! which sees to that and leaves. Any other signal goes to whoever handled it before.
//!
//! Besides #MF and #XM, #UD and #GP are taken this way, so that an instruction the host refuses faults in the guest and does not end the process.
//! The handlers are process-wide, installed when the first stretch is registered, and hold no state but the list of stretches.
//!
// UNSAFETY: a signal handler that changes the interrupted context.
#![expect(unsafe_code, reason = "a signal handler that changes the interrupted context")]

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

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

/// The vector whose traps have sites.
const SITED: i64 = 19;

/// Instructions of a stretch that go on at code of their own when they raise #XM, by ascending offset from its start. Written
/// by the thread that runs the code, read by the handler on the same thread.
pub(crate) struct Sites {
    /// Offset of the instruction in the upper half, of its cold code in the lower.
    list: Box<[AtomicU64]>,
    len: AtomicUsize,
}

impl Sites {
    /// Most sites; the memory is not touched before it is used.
    const MOST: usize = 1 << 17;
    /// Places kept free for one block.
    const ROOM: usize = 1 << 10;

    pub(crate) fn new() -> Arc<Self> {
        let list = std::iter::repeat_with(AtomicU64::default).take(Self::MOST).collect();
        Arc::new(Self { list, len: AtomicUsize::new(0) })
    }
    /// Is there room for the sites of one more block?
    pub(crate) fn has_room(&self) -> bool {
        self.len.load(Ordering::Relaxed) + Self::ROOM <= Self::MOST
    }
    /// Adds a site behind all others; beyond the room nothing is added.
    pub(crate) fn add(&self, site: usize, stub: usize) -> bool {
        let len = self.len.load(Ordering::Relaxed);
        let Some(place) = self.list.get(len) else { return false };
        place.store((site as u64) << 32 | stub as u64 & 0xFFFF_FFFF, Ordering::Release);
        self.len.store(len + 1, Ordering::Release);
        true
    }
    /// Forgets all sites: their code is gone.
    pub(crate) fn clear(&self) {
        self.len.store(0, Ordering::Release);
    }
    /// Where the code of the site at offset `site` is.
    fn find(&self, site: u64) -> Option<u64> {
        let list = self.list.get(..self.len.load(Ordering::Acquire))?;
        let n = list.binary_search_by_key(&site, |s| s.load(Ordering::Acquire) >> 32).ok()?;
        Some(list.get(n)?.load(Ordering::Acquire) & 0xFFFF_FFFF)
    }
}

/// One stretch of generated code; empty while `end` is 0.
struct Stretch {
    start: AtomicU64,
    end: AtomicU64,
    stubs: [AtomicU64; TRAPS.len()],
    sites: AtomicPtr<Sites>,
}

/// Most stretches at a time.
const MOST: usize = 1024;

static STRETCHES: [Stretch; MOST] = [const {
    Stretch {
        start: AtomicU64::new(0),
        end: AtomicU64::new(0),
        stubs: [const { AtomicU64::new(0) }; TRAPS.len()],
        sites: AtomicPtr::new(std::ptr::null_mut()),
    }
}; MOST];

/// Held while the list changes; the handler only reads.
static CHANGING: Mutex<()> = Mutex::new(());

/// Who handled the signals before.
static PREVIOUS: OnceLock<[libc::sigaction; SIGNALS.len()]> = OnceLock::new();

/// A registered stretch, with its sites; dropping it takes it off the list.
pub(crate) struct Registration {
    number: usize,
    _sites: Option<Arc<Sites>>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(s) = STRETCHES.get(self.number) {
            s.end.store(0, Ordering::Release);
            s.sites.store(std::ptr::null_mut(), Ordering::Release);
            s.start.store(0, Ordering::Release);
        }
    }
}

/// Registers generated code at `start..end`, whose traps go on at `stubs`, or at those of `sites`.
///
/// # Errors
/// When there are too many stretches or the handlers cannot be installed.
pub(crate) fn register(
    start: u64,
    end: u64,
    stubs: Stubs,
    sites: Option<Arc<Sites>>,
) -> Result<Registration, CodeBufError> {
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
    let list = sites.as_ref().map_or(std::ptr::null(), Arc::as_ptr);
    s.sites.store(list.cast_mut(), Ordering::Release);
    s.end.store(end, Ordering::Release);
    Ok(Registration { number: n, _sites: sites })
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
    // SAFETY: a registration keeps its sites alive, and code that runs is registered.
    let sites = unsafe { stretch.sites.load(Ordering::Acquire).as_ref() };
    let start = stretch.start.load(Ordering::Acquire);
    if let Some(stub) = sites.filter(|_| TRAPS[trap].1 == SITED).and_then(|s| s.find(at - start)) {
        gregs[rip] = (start + stub).cast_signed();
        return true;
    }
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
