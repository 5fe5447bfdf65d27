//! The host's side: cases run on this very processor, each ended by the signal that its exception becomes.
//!
//! One thread at a time runs a batch. It starts with an INT3 of its own; from then on every exception lands in `entry` on an
//! alternate stack. `on_signal` stores what the kernel saved of the case that ended, writes the next case's registers into the
//! signal frame, and returns straight into it. Behind the last case the frame gets the batch's own registers back.
//! A timer ends cases that go on for ever. Signals of other threads go on to whoever handled them before.
//!
//! What must hold: between `entry` and the handler no thread-local storage is touched before the host's FS base is back, nor after
//! the next case's is in place; and no case executes a system call ([`super::ledger::is_kernels`]).
//
// UNSAFETY: signal handlers, contexts and foreign code are the point of this module.
#![expect(unsafe_code, reason = "runs foreign instructions under signals")]

use std::arch::{asm, naked_asm};
use std::cell::UnsafeCell;
use std::mem::offset_of;
use std::sync::{Mutex, MutexGuard, PoisonError};

use libc::{c_int, c_void, siginfo_t, ucontext_t};

use super::state::{Case, ENDLESS, Fp, Output, Width};
use super::view::{Image, View};

mod setup;
pub use setup::Unavailable;

/// The signals that exceptions become, and the timer's.
const SIGNALS: [c_int; 6] =
    [libc::SIGTRAP, libc::SIGSEGV, libc::SIGILL, libc::SIGFPE, libc::SIGBUS, libc::SIGALRM];

/// Segment registers that signal frames leave out.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Segments {
    /// DS ES FS GS.
    selectors: [u16; 4],
    /// FS, GS.
    bases: [u64; 2],
}

/// `Link::load`: leave the segment registers alone.
const LOAD_NOTHING: u32 = 0;
/// `Link::load`: load selectors, and then bases.
const LOAD_ALL: u32 = 1;
/// `Link::load`: load selectors; bases come from their descriptors.
const LOAD_SELECTORS: u32 = 2;

/// What `entry` and the handler share.
#[repr(C)]
struct Link {
    /// The alternate stack: tells the thread under test from others.
    stack: [u64; 2],
    host_fs: u64,
    host_gs: u64,
    seen: Segments,
    next: Segments,
    /// RFLAGS for the way back: the bits that the kernel does not take from a frame.
    flags: u64,
    load: u32,
    run: *mut c_void,
}

/// The one link, and the handlers before ours.
struct Shared {
    link: UnsafeCell<Link>,
    before: UnsafeCell<[Option<libc::sigaction>; SIGNALS.len()]>,
}

// SAFETY: written by the thread that holds `LOCK` while no batch runs, and by that thread's signal handler while
// one does; other threads' handlers read `link.stack`, which only changes while no foreign code runs, and `before`.
unsafe impl Sync for Shared {}

static SHARED: Shared = Shared {
    link: UnsafeCell::new(Link {
        stack: [0; 2],
        host_fs: 0,
        host_gs: 0,
        seen: Segments { selectors: [0; 4], bases: [0; 2] },
        next: Segments { selectors: [0; 4], bases: [0; 2] },
        flags: 0,
        load: 0,
        run: std::ptr::null_mut(),
    }),
    before: UnsafeCell::new([None; SIGNALS.len()]),
};

static LOCK: Mutex<Option<setup::Area>> = Mutex::new(None);

/// The right to run cases; there is one per process.
pub struct Host {
    guard: MutexGuard<'static, Option<setup::Area>>,
}

/// A batch under way.
struct Run<'a> {
    cases: &'a [Case],
    outputs: &'a mut [Output],
    image: &'a mut Image,
    view: &'a mut View,
    /// The case that runs; `None` before the first.
    index: Option<usize>,
    /// The batch's own registers.
    registers: [i64; 23],
    extended: Vec<u8>,
    /// `index` at the timer's last tick.
    last_tick: Option<usize>,
}

impl Host {
    /// The host, if it allows what the oracle needs.
    ///
    /// # Errors
    /// When it does not: no 32-bit code, no local descriptors, no FSGSBASE …
    pub fn open() -> Result<Self, Unavailable> {
        let mut guard = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
        if guard.is_none() {
            *guard = Some(setup::Area::new()?);
        }
        Ok(Self { guard })
    }

    /// Runs the cases one after the other over the image, which is as before afterwards.
    ///
    /// # Panics
    /// When a case wrote where nothing may be written.
    pub fn run(&mut self, image: &mut Image, cases: &[Case]) -> Vec<Output> {
        let mut outputs = vec![Output::EMPTY; cases.len()];
        for (output, case) in outputs.iter_mut().zip(cases) {
            output.fp = case.fp.clone();
        }
        let area = self.guard.as_mut().expect("opened");
        area.view.fill(image);
        let mut run = Run {
            cases,
            outputs: &mut outputs,
            image,
            view: &mut area.view,
            index: None,
            registers: [0; 23],
            extended: vec![0; 1 << 14],
            last_tick: None,
        };
        if !cases.is_empty() {
            let watch = area.arms.start((&raw mut run).cast());
            // SAFETY: `start` installed the handler, which brings back every register when the last case is over.
            unsafe { asm!("int3") };
            drop(watch);
        }
        assert!(area.view.is_sound(image), "a case wrote to a read-only page");
        outputs
    }
}

/// Where all signals of [`SIGNALS`] arrive.
#[unsafe(naked)]
unsafe extern "C" fn entry() {
    naked_asm!(
        "lea r8, [rip + {shared} + {link}]",
        "cmp rsp, [r8 + {stack}]",
        "jb 9f",
        "cmp rsp, [r8 + {stack} + 8]",
        "jae 9f",
        // A case may have left AC, NT or ID set.
        "push 0x202",
        "popfq",
        "mov word ptr [r8 + {seen}], ds",
        "mov word ptr [r8 + {seen} + 2], es",
        "mov word ptr [r8 + {seen} + 4], fs",
        "mov word ptr [r8 + {seen} + 6], gs",
        "rdfsbase rax",
        "mov [r8 + {seen} + 8], rax",
        "rdgsbase rax",
        "mov [r8 + {seen} + 16], rax",
        "mov rax, [r8 + {host_fs}]",
        "wrfsbase rax",
        "mov rax, [r8 + {host_gs}]",
        "wrgsbase rax",
        "push rbp",
        "mov rbp, rsp",
        "and rsp, -16",
        "mov rcx, r8",
        "call {handler}",
        "mov rsp, rbp",
        "pop rbp",
        "lea r8, [rip + {shared} + {link}]",
        "cmp dword ptr [r8 + {load}], 0",
        "je 8f",
        "mov ds, word ptr [r8 + {next}]",
        "mov es, word ptr [r8 + {next} + 2]",
        "mov fs, word ptr [r8 + {next} + 4]",
        "mov gs, word ptr [r8 + {next} + 6]",
        "cmp dword ptr [r8 + {load}], 1",
        "jne 7f",
        "mov rax, [r8 + {next} + 8]",
        "wrfsbase rax",
        "mov rax, [r8 + {next} + 16]",
        "wrgsbase rax",
        "7:",
        "push qword ptr [r8 + {flags}]",
        "popfq",
        "8:",
        "ret",
        "9:",
        "jmp {foreign}",
        shared = sym SHARED,
        link = const offset_of!(Shared, link),
        stack = const offset_of!(Link, stack),
        seen = const offset_of!(Link, seen),
        next = const offset_of!(Link, next),
        host_fs = const offset_of!(Link, host_fs),
        host_gs = const offset_of!(Link, host_gs),
        flags = const offset_of!(Link, flags),
        load = const offset_of!(Link, load),
        handler = sym on_signal,
        foreign = sym on_foreign,
    )
}

/// A signal of a thread that runs no cases: as if we were not there.
unsafe extern "C" fn on_foreign(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the list is complete before the first handler is installed.
    let before = unsafe { &*SHARED.before.get() };
    let old = SIGNALS.iter().position(|&s| s == signal).and_then(|n| before[n]);
    match old.map_or(libc::SIG_DFL, |old| old.sa_sigaction) {
        libc::SIG_IGN => {}
        libc::SIG_DFL => {
            // SAFETY: gives the signal back its default action; the fault comes again.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        handler => {
            type Handler = unsafe extern "C" fn(c_int, *mut siginfo_t, *mut c_void);
            // SAFETY: the kernel would have called it like this; a handler without SA_SIGINFO ignores the rest.
            let handler = unsafe { std::mem::transmute::<usize, Handler>(handler) };
            // SAFETY: likewise.
            unsafe { handler(signal, info, context) };
        }
    }
}

/// A case ended, or the batch begins, or the timer ticks.
unsafe extern "C" fn on_signal(
    signal: c_int,
    _info: *mut siginfo_t,
    context: *mut ucontext_t,
    link: *mut Link,
) {
    // SAFETY: the kernel's frame; nobody else looks at it while the handler runs.
    let context = unsafe { &mut *context };
    // SAFETY: `entry` passes the one link, which belongs to this thread while a batch runs.
    let link = unsafe { &mut *link };
    // SAFETY: `Host::run` put the batch there, which waits for us to return.
    let run = unsafe { &mut *link.run.cast::<Run<'_>>() };
    let mut frame = Frame::new(context);
    if signal == libc::SIGALRM && !run.is_stuck() {
        // Go on with what was interrupted.
        link.next = link.seen;
        link.load = if frame.is_code64() { LOAD_ALL } else { LOAD_SELECTORS };
        link.flags = frame.flags() & (NT | ID) | 0x202;
        return;
    }
    match run.index {
        None => run.save_own(&frame),
        Some(n) => run.store(n, &mut frame, &link.seen, signal == libc::SIGALRM),
    }
    let next = run.index.map_or(0, |n| n + 1);
    run.index = Some(next);
    match run.cases.get(next) {
        Some(case) => {
            run.view.install(run.image, case);
            frame.load(case);
            link.next.selectors = [case.seg[3], case.seg[0], case.seg[4], case.seg[5]];
            link.next.bases = case.bases;
            link.load = if case.width == Width::W64 { LOAD_ALL } else { LOAD_SELECTORS };
            link.flags = u64::from(case.flags) & (NT | ID) | 0x202;
        }
        None => {
            frame.restore(&run.registers, &run.extended);
            link.next = Segments { selectors: [0; 4], bases: [link.host_fs, link.host_gs] };
            link.load = LOAD_ALL;
            link.flags = 0x202;
        }
    }
}

const NT: u64 = 1 << 14;
const ID: u64 = 1 << 21;

impl Run<'_> {
    /// At a tick: has the case been the same for a whole interval?
    fn is_stuck(&mut self) -> bool {
        let is_stuck = self.index.is_some() && self.last_tick == self.index;
        self.last_tick = self.index;
        is_stuck
    }

    fn save_own(&mut self, frame: &Frame<'_>) {
        self.registers = frame.context.uc_mcontext.gregs;
        let extended = frame.extended();
        self.extended.truncate(extended.len());
        self.extended.copy_from_slice(extended);
    }

    fn store(&mut self, n: usize, frame: &mut Frame<'_>, seen: &Segments, is_endless: bool) {
        let output = &mut self.outputs[n];
        frame.store(output);
        output.seg[3] = seen.selectors[0];
        output.seg[0] = seen.selectors[1];
        output.seg[4] = seen.selectors[2];
        output.seg[5] = seen.selectors[3];
        output.bases = seen.bases;
        output.changes = self.view.collect(self.image);
        if is_endless {
            output.vector = ENDLESS;
        }
    }
}

/// A signal frame.
struct Frame<'a> {
    context: &'a mut ucontext_t,
}

/// Registers of a frame in the order of their numbers.
const NUMBERS: [c_int; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

/// `uc_flags`: the SS of the frame counts, whatever CS.
const STRICT_SS: u64 = 2 | 4;
/// Offset of the kernel's words about the extended area, and of the XSAVE header and the upper halves within it.
const SOFTWARE: usize = 464;
const HEADER: usize = 512;
const HIGH: usize = 576;
/// XSAVE components that cases set: x87, SSE, AVX.
const COMPONENTS: u64 = 7;

impl<'a> Frame<'a> {
    fn new(context: &'a mut ucontext_t) -> Self {
        Self { context }
    }

    fn register(&mut self, n: c_int) -> &mut i64 {
        &mut self.context.uc_mcontext.gregs[n as usize]
    }

    fn get(&self, n: c_int) -> u64 {
        self.context.uc_mcontext.gregs[n as usize].cast_unsigned()
    }

    fn flags(&self) -> u64 {
        self.get(libc::REG_EFL)
    }

    fn is_code64(&self) -> bool {
        self.get(libc::REG_CSGSFS) as u16 == super::layout::sel::CODE64
    }

    /// Bytes of the extended area: the kernel says how many.
    fn extended_len(&self) -> usize {
        const MAGIC: u32 = 0x4650_5853;
        let area = self.context.uc_mcontext.fpregs.cast::<u8>();
        let words = area.wrapping_add(SOFTWARE).cast::<[u32; 5]>();
        // SAFETY: the kernel's frame holds the 512 bytes of FXSAVE in any case, aligned.
        let words = unsafe { *words };
        if words[0] == MAGIC { words[4] as usize } else { HEADER }
    }

    fn extended(&self) -> &[u8] {
        let (area, len) = (self.context.uc_mcontext.fpregs.cast::<u8>(), self.extended_len());
        // SAFETY: the kernel wrote that many bytes there; they stay as long as the frame.
        unsafe { std::slice::from_raw_parts(area, len) }
    }

    fn extended_mut(&mut self) -> &mut [u8] {
        let (area, len) = (self.context.uc_mcontext.fpregs.cast::<u8>(), self.extended_len());
        // SAFETY: as in `extended`, and the frame is ours alone.
        unsafe { std::slice::from_raw_parts_mut(area, len) }
    }

    /// Writes a case's registers.
    fn load(&mut self, case: &Case) {
        for (n, &value) in NUMBERS.iter().zip(&case.gpr) {
            *self.register(*n) = value.cast_signed();
        }
        *self.register(libc::REG_RIP) = case.ip.cast_signed();
        *self.register(libc::REG_EFL) = i64::from(case.flags | 0x202);
        let (cs, ss) = (u64::from(case.seg[1]), u64::from(case.seg[2]));
        *self.register(libc::REG_CSGSFS) = (cs | ss << 48).cast_signed();
        self.context.uc_flags |= STRICT_SS;
        if let Some(fp) = &case.fp {
            self.load_fp(fp);
        }
    }

    fn load_fp(&mut self, fp: &Fp) {
        let area = self.extended_mut();
        area[..SOFTWARE].copy_from_slice(&fp.legacy[..SOFTWARE]);
        if let Some(header) = area.get_mut(HEADER..HIGH + 256) {
            let present = u64::from_le_bytes(header[..8].try_into().unwrap_or([0; 8])) | COMPONENTS;
            header[..8].copy_from_slice(&present.to_le_bytes());
            let slots = header[HIGH - HEADER..].as_chunks_mut::<8>().0;
            for (slot, value) in slots.iter_mut().zip(fp.high.as_flattened()) {
                *slot = value.to_le_bytes();
            }
        }
    }

    /// Reads the registers that a case left.
    fn store(&mut self, output: &mut Output) {
        for (value, &n) in output.gpr.iter_mut().zip(&NUMBERS) {
            *value = self.get(n);
        }
        output.ip = self.get(libc::REG_RIP);
        output.flags = self.flags() as u32;
        let selectors = self.get(libc::REG_CSGSFS);
        (output.seg[1], output.seg[2]) = (selectors as u16, (selectors >> 48) as u16);
        output.vector = self.get(libc::REG_TRAPNO) as u8;
        output.code = self.get(libc::REG_ERR) as u32;
        output.cr2 = if output.vector == 14 { self.get(libc::REG_CR2) } else { 0 };
        if let Some(fp) = &mut output.fp {
            self.store_fp(fp);
        }
    }

    fn store_fp(&self, fp: &mut Fp) {
        let area = self.extended();
        let present = match area.get(HEADER..HEADER + 8) {
            Some(word) => u64::from_le_bytes(word.try_into().unwrap_or([0; 8])),
            None => 3,
        };
        let mxcsr = 24..32;
        let parts = [(1, 0..24), (1, 32..160), (2, 160..416)];
        *fp = Fp::INIT;
        for (bit, range) in parts {
            if present & bit != 0 {
                fp.legacy[range.clone()].copy_from_slice(&area[range]);
            }
        }
        fp.legacy[mxcsr.clone()].copy_from_slice(&area[mxcsr]);
        if present & 4 != 0
            && let Some(high) = area.get(HIGH..HIGH + 256)
        {
            for (value, slot) in fp.high.as_flattened_mut().iter_mut().zip(high.as_chunks().0) {
                *value = u64::from_le_bytes(*slot);
            }
        }
    }

    /// The batch's own registers again.
    fn restore(&mut self, registers: &[i64; 23], extended: &[u8]) {
        self.context.uc_mcontext.gregs = *registers;
        self.context.uc_flags |= STRICT_SS;
        self.extended_mut().copy_from_slice(extended);
    }
}

/// The guest's memory must not move under the handler, and `entry` relies on the layout.
const _: () = assert!(offset_of!(Segments, bases) == 8);
const _: () = assert!(LOAD_ALL == 1 && LOAD_NOTHING == 0);
