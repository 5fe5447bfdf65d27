//! What the host needs once: the area at its fixed addresses, local descriptors, handlers, the alternate stack, the timer.
//
// UNSAFETY: maps memory at fixed addresses and installs signal handlers.
#![expect(unsafe_code, reason = "system calls")]

use std::arch::asm;
use std::io;
use std::mem::{MaybeUninit, size_of, zeroed};
use std::ptr::{null, null_mut};

use libc::c_void;

use super::{LOAD_NOTHING, SHARED, SIGNALS, entry};
use crate::native::layout::{
    AREA, AREA_LEN, BACKING_LEN, CODE, CODE_END, DATA, DATA_RIGHTS, LOCALS, Local, PAGE, Rights,
};
use crate::native::view::View;

/// Bytes of the alternate stack: frames with AVX-512 take 3 KiB, the handler little.
const STACK_LEN: usize = 1 << 18;
/// Milliseconds between ticks: a case that is seen by two is endless.
const TICK_MS: i64 = 100;

/// Why the oracle cannot run here.
#[derive(Debug)]
pub struct Unavailable {
    /// What is missing.
    pub what: &'static str,
    /// What the system said.
    pub source: Option<io::Error>,
}

impl std::fmt::Display for Unavailable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.source {
            Some(error) => write!(f, "{}: {error}", self.what),
            None => f.write_str(self.what),
        }
    }
}

impl std::error::Error for Unavailable {}

fn failed(what: &'static str) -> Unavailable {
    Unavailable { what, source: Some(io::Error::last_os_error()) }
}

/// The mapped area with everything around it.
pub(super) struct Area {
    pub(super) view: View,
    pub(super) arms: Arms,
}

// SAFETY: used by the one thread that holds the lock.
unsafe impl Send for Area {}

impl Area {
    pub(super) fn new() -> Result<Self, Unavailable> {
        // SAFETY: getauxval only reads.
        let features = unsafe { libc::getauxval(libc::AT_HWCAP2) };
        if features & 2 == 0 {
            return Err(Unavailable { what: "no FSGSBASE for programs", source: None });
        }
        let view = map()?;
        for (n, local) in (1..).zip(&LOCALS) {
            set_local(n, local)?;
        }
        Ok(Self { view, arms: Arms::new()? })
    }
}

/// Maps code and data where the guest sees them, and once more for the handler.
fn map() -> Result<View, Unavailable> {
    // SAFETY: plain system call.
    let file = unsafe { libc::memfd_create(c"oracle".as_ptr(), 0) };
    if file < 0 {
        return Err(failed("no memory file"));
    }
    // SAFETY: `file` is ours.
    if unsafe { libc::ftruncate(file, BACKING_LEN as i64) } != 0 {
        return Err(failed("no room for a memory file"));
    }
    let (none, fixed) = (libc::PROT_NONE, libc::MAP_FIXED_NOREPLACE);
    let reserve = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | fixed;
    place(AREA, AREA_LEN, none, reserve, -1, 0)?;
    let shared = libc::MAP_SHARED | libc::MAP_POPULATE;
    let exec = libc::PROT_READ | libc::PROT_EXEC;
    place(CODE, CODE_END - CODE, exec, shared | libc::MAP_FIXED, file, 0)?;
    for (n, rights) in (0..).zip(DATA_RIGHTS) {
        let prot = match rights {
            Rights::None => continue,
            Rights::Read => libc::PROT_READ,
            Rights::Write => libc::PROT_READ | libc::PROT_WRITE,
        };
        let offset = CODE_END - CODE + n * PAGE;
        place(DATA + n * PAGE, PAGE, prot, shared | libc::MAP_FIXED, file, offset)?;
    }
    let both = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping wherever there is room.
    let alias = unsafe { libc::mmap(null_mut(), BACKING_LEN, both, shared, file, 0) };
    if alias == libc::MAP_FAILED {
        return Err(failed("no second view of the memory file"));
    }
    // SAFETY: the mapping is never taken away, and only the lock's holder makes views of it.
    Ok(unsafe { View::new(alias.cast()) })
}

/// Maps at a fixed address.
fn place(
    lin: u64,
    len: u64,
    prot: i32,
    flags: i32,
    file: i32,
    offset: u64,
) -> Result<(), Unavailable> {
    let at = lin as *mut c_void;
    // SAFETY: the area was free (its reservation may not replace anything), and all else lies in it.
    let got = unsafe { libc::mmap(at, len as usize, prot, flags, file, offset.cast_signed()) };
    if got == at { Ok(()) } else { Err(failed("the oracle's addresses are taken")) }
}

/// Writes an entry of the local descriptor table.
fn set_local(entry: u32, local: &Local) -> Result<(), Unavailable> {
    /// `struct user_desc` of Linux.
    #[repr(C)]
    struct UserDesc {
        entry: u32,
        base: u32,
        limit: u32,
        bits: u32,
    }
    let bits = u32::from(local.big)
        | u32::from(local.contents) << 1
        | u32::from(local.restricted) << 3
        | u32::from(local.pages) << 4
        | u32::from(local.absent) << 5
        | 1 << 6; // AVL
    let desc = UserDesc { entry, base: local.base, limit: local.limit, bits };
    const WRITE: i32 = 0x11;
    let (at, len) = (&raw const desc, size_of::<UserDesc>());
    // SAFETY: the kernel reads `desc` and checks it.
    let result = unsafe { libc::syscall(libc::SYS_modify_ldt, WRITE, at, len) };
    if result == 0 { Ok(()) } else { Err(failed("no local descriptors (modify_ldt)")) }
}

/// Alternate stack, timer, handlers.
pub(super) struct Arms {
    stack: Vec<u8>,
}

/// Handlers and timer are active; ends when dropped.
pub(super) struct Watch {
    old_stack: libc::stack_t,
    timer: Option<libc::timer_t>,
}

impl Arms {
    fn new() -> Result<Self, Unavailable> {
        Ok(Self { stack: vec![0; STACK_LEN] })
    }

    /// Makes this thread's signals end cases of `run`.
    pub(super) fn start(&mut self, run: *mut c_void) -> Watch {
        let low = self.stack.as_ptr() as u64;
        // SAFETY: no batch runs, and the caller holds the lock.
        let link = unsafe { &mut *SHARED.link.get() };
        link.stack = [low, low + STACK_LEN as u64];
        link.run = run;
        link.load = LOAD_NOTHING;
        (link.host_fs, link.host_gs) = own_bases();
        let stack = libc::stack_t {
            ss_sp: self.stack.as_mut_ptr().cast(),
            ss_flags: 0,
            ss_size: STACK_LEN,
        };
        let mut old_stack = MaybeUninit::uninit();
        // SAFETY: the stack lives as long as `self`; `Watch` puts the old one back.
        let result = unsafe { libc::sigaltstack(&raw const stack, old_stack.as_mut_ptr()) };
        assert_eq!(result, 0, "no alternate stack: {}", io::Error::last_os_error());
        install();
        // SAFETY: the call above wrote it.
        Watch { old_stack: unsafe { old_stack.assume_init() }, timer: tick() }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(timer) = self.timer {
            // SAFETY: made by `tick`.
            unsafe { libc::timer_delete(timer) };
        }
        // SAFETY: the thread's own stack of before.
        unsafe { libc::sigaltstack(&raw const self.old_stack, null_mut()) };
    }
}

fn own_bases() -> (u64, u64) {
    let (fs, gs);
    // SAFETY: FSGSBASE is there: `Area::new` checked.
    unsafe { asm!("rdfsbase {}", "rdgsbase {}", out(reg) fs, out(reg) gs) };
    (fs, gs)
}

/// Installs `entry` and remembers what was there, if it was not us.
fn install() {
    // SAFETY: all zeros is a valid sigaction.
    let mut action: libc::sigaction = unsafe { zeroed() };
    action.sa_sigaction = entry as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: writes the mask.
    unsafe { libc::sigfillset(&raw mut action.sa_mask) };
    // SAFETY: the caller holds the lock, and no batch runs.
    let before = unsafe { &mut *SHARED.before.get() };
    for (signal, before) in SIGNALS.iter().zip(before) {
        let mut old = MaybeUninit::uninit();
        // SAFETY: asks for the present handler.
        unsafe { libc::sigaction(*signal, null(), old.as_mut_ptr()) };
        // SAFETY: the call above wrote it.
        let old: libc::sigaction = unsafe { old.assume_init() };
        if old.sa_sigaction != action.sa_sigaction {
            *before = Some(old);
            // SAFETY: `entry` is a handler for all of them.
            unsafe { libc::sigaction(*signal, &raw const action, null_mut()) };
        }
    }
}

/// A timer that sends this thread a SIGALRM now and then.
fn tick() -> Option<libc::timer_t> {
    // SAFETY: all zeros is a valid sigevent.
    let mut event: libc::sigevent = unsafe { zeroed() };
    event.sigev_notify = libc::SIGEV_THREAD_ID;
    event.sigev_signo = libc::SIGALRM;
    // SAFETY: plain system call.
    event.sigev_notify_thread_id = unsafe { libc::gettid() };
    let mut timer = MaybeUninit::uninit();
    // SAFETY: both pointers are good for the call.
    let result =
        unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, timer.as_mut_ptr()) };
    if result != 0 {
        return None;
    }
    // SAFETY: the call above wrote it.
    let timer = unsafe { timer.assume_init() };
    let interval = libc::timespec { tv_sec: 0, tv_nsec: TICK_MS * 1_000_000 };
    let times = libc::itimerspec { it_interval: interval, it_value: interval };
    // SAFETY: the timer was just made.
    unsafe { libc::timer_settime(timer, 0, &raw const times, null_mut()) };
    Some(timer)
}
