//! Stele's side: the same case on an engine of ours, at the same linear addresses with the same rights.
//!
//! The processor is in long mode, as the host is; cases run at privilege level 3 in 64-bit or compatibility mode, and every
//! exception ends at a HLT of level 0 (`world`). What the exception frame holds is what the host's kernel would see.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use ir::Undefined;
use isa_spec::model::Maker;
use mem::Size;
use stele::machine::host_cpuid;
use stele::vcpu::{Vcpu, VcpuExit};
use x86::cpuid::Model;
use x86::decode::{FeatureInfo, Features};
use x86::flags;
use x86::state::{CpuState, XsaveArea};

use super::layout::{CODE, CODE_END, segment};
use super::state::{Case, ENDLESS, Fp, Output, SHUTDOWN, Width};
use super::view::{Image, View};
use crate::{Engine, model_of};

mod world;
use world::{BACKING, HANDLERS, STACK0, SYSTEM};

/// The guest's processor: it has all that the tables and this host offer, and does what those of the host's maker do.
fn model() -> Model {
    model_of(match Undefined::of_host() {
        Undefined::Core => Maker::Intel,
        Undefined::Zen => Maker::Amd,
    })
}

/// What it has.
pub fn features() -> &'static Features {
    static FEATURES: OnceLock<Features> = OnceLock::new();
    FEATURES.get_or_init(|| model().features())
}

/// Those of them that the host has too. What the tables model without its help may be missing there.
pub fn on_host() -> &'static Features {
    static FEATURES: OnceLock<Features> = OnceLock::new();
    FEATURES.get_or_init(|| {
        let is_there =
            |f: &FeatureInfo| host_cpuid(f.leaf, f.sub)[usize::from(f.reg & 3)] >> f.bit & 1 != 0;
        let bits = x86::decode::FEATURES.iter().enumerate().filter(|(_, f)| is_there(f));
        let host = bits.fold(0, |bits, (n, _)| bits | 1 << n);
        Features { cpuid: features().cpuid & host, ..*features() }
    })
}

/// One engine with its world.
pub struct Guest {
    vcpu: Vcpu,
    view: View,
    engine: Engine,
    /// Counts up before and after each case.
    progress: Arc<AtomicU64>,
}

impl Guest {
    /// A world on an engine.
    pub fn new(engine: Engine) -> Self {
        let vcpu = world::build(engine.config());
        let view = View::of_guest(&vcpu.cpu().ram, BACKING);
        let guest = Self { vcpu, view, engine, progress: Arc::new(AtomicU64::new(0)) };
        guest.watch();
        guest
    }

    /// Which engine it is.
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// Ends a run that makes no progress for longer than a busy host keeps a thread waiting.
    fn watch(&self) {
        const PATIENCE: Duration = Duration::from_secs(20);
        let (kicker, progress) = (self.vcpu.kicker(), Arc::downgrade(&self.progress));
        thread::spawn(move || {
            let mut last = 0;
            loop {
                thread::sleep(PATIENCE);
                let Some(progress) = progress.upgrade() else { return };
                let now = progress.load(Ordering::Relaxed);
                // Odd: a case is under way.
                if now == last && now & 1 != 0 {
                    kicker.kick();
                }
                last = now;
            }
        });
    }

    /// Takes an image for the cases to come.
    pub fn fill(&mut self, image: &mut Image) {
        self.view.fill(image);
        self.announce(CODE, (CODE_END - CODE) as usize);
    }

    /// Runs a case over the image, which is as before afterwards.
    pub fn run(&mut self, image: &mut Image, case: &Case) -> Output {
        if let Some(stretches) = self.view.install(image, case) {
            for (lin, len) in stretches {
                self.announce(lin, len);
            }
        }
        self.enter(case);
        self.progress.fetch_add(1, Ordering::Relaxed);
        let exit = self.vcpu.run();
        self.progress.fetch_add(1, Ordering::Relaxed);
        let mut output = Output { fp: case.fp.clone(), ..Output::EMPTY };
        self.vcpu.cpu_mut().park_fpu();
        match exit {
            VcpuExit::Halted => self.leave(&mut output),
            VcpuExit::Shutdown => {
                output.vector = SHUTDOWN;
                self.vcpu.cpu_mut().shutdown = false;
            }
            VcpuExit::Kick | VcpuExit::Stop | VcpuExit::Watch(_) => output.vector = ENDLESS,
        }
        output.changes = self.view.collect(image);
        output
    }

    /// Are the pages that no case may write as they were?
    pub fn is_sound(&mut self, image: &Image) -> bool {
        self.view.is_sound(image)
    }

    /// Tells the vCPU that code bytes were written.
    fn announce(&self, lin: u64, len: usize) {
        const CHUNK: u64 = 0x100;
        let end = (lin + len as u64 + 0x40).min(CODE_END);
        let mut from = lin.max(CODE) & !0x3F;
        let ram = &self.vcpu.cpu().ram;
        while from < end {
            let mut bytes = [0; CHUNK as usize];
            let bytes = &mut bytes[..(end - from).min(CHUNK) as usize];
            let at = BACKING + (from - CODE);
            assert!(ram.read_bytes(at, bytes) && ram.write_bytes(at, bytes), "a code page");
            from += CHUNK;
        }
    }

    fn enter(&mut self, case: &Case) {
        let cpu = self.vcpu.cpu_mut();
        let s = &mut cpu.state;
        let mask = if case.width == Width::W64 { u64::MAX } else { 0xFFFF_FFFF };
        for (slot, value) in s.gpr.iter_mut().zip(case.gpr) {
            *slot = value & mask;
        }
        s.seg = case.seg.map(segment);
        if case.width == Width::W64 {
            (s.seg[4].base, s.seg[5].base) = (case.bases[0], case.bases[1]);
        }
        s.set_eflags(case.flags | flags::IF | flags::FIXED);
        s.cpl = 3;
        s.pc = case.ip;
        s.halted = 0;
        s.shadow = 0;
        s.cr2 = 0;
        if let Some(fp) = &case.fp {
            load_fp(s, fp);
        }
        cpu.sync_mode();
    }

    fn peek(&self, lin: u64) -> u64 {
        self.vcpu.cpu().ram.read(lin.wrapping_sub(SYSTEM), Size::B8).unwrap_or(0)
    }

    /// Reads the state back through the exception frame.
    fn leave(&self, output: &mut Output) {
        let s = &self.vcpu.cpu().state;
        let handler = s.pc.wrapping_sub(1).wrapping_sub(SYSTEM + HANDLERS);
        output.vector = if handler & 15 == 0 { (handler >> 4) as u8 } else { 0xFF };
        output.gpr = s.gpr;
        output.seg = s.seg.map(|s| s.selector);
        output.bases = [s.seg[4].base, s.seg[5].base];
        output.cr2 = if output.vector == 14 { s.cr2 } else { 0 };
        let mut sp = s.gpr[4];
        let has_code = SYSTEM + STACK0 == sp.wrapping_add(48);
        let mut pop = || {
            sp = sp.wrapping_add(8);
            self.peek(sp.wrapping_sub(8))
        };
        output.code = if has_code { pop() as u32 } else { 0 };
        output.ip = pop();
        output.seg[1] = pop() as u16;
        output.flags = pop() as u32;
        output.gpr[4] = pop();
        output.seg[2] = pop() as u16;
        if let Some(fp) = &mut output.fp {
            store_fp(s, fp);
        }
    }
}

/// Where the vector registers are in the image of FXSAVE.
const XMM: usize = 160;

fn load_fp(s: &mut CpuState, fp: &Fp) {
    s.fpu = XsaveArea::default();
    s.fpu.0[..XMM].copy_from_slice(&fp.legacy[..XMM]);
    s.fpu.0[24..28].copy_from_slice(&0x1F80u32.to_le_bytes());
    (s.fpu_ip, s.fpu_dp, s.fpu_op, s.fpu_cs, s.fpu_ds) = (0, 0, 0, 0, 0);
    let word = |at: usize| fp.legacy[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
    s.mxcsr = word(24) as u32;
    for (n, ymm) in s.ymm.iter_mut().enumerate() {
        let at = XMM + 16 * n;
        *ymm = [word(at), word(at + 8), fp.high[n][0], fp.high[n][1]];
    }
    (s.fpu_host, s.ready) = (0, 0);
}

fn store_fp(s: &CpuState, fp: &mut Fp) {
    *fp = Fp::INIT;
    fp.legacy[..5].copy_from_slice(&s.fpu.0[..5]);
    fp.legacy[24..28].copy_from_slice(&s.mxcsr.to_le_bytes());
    fp.legacy[32..XMM].copy_from_slice(&s.fpu.0[32..XMM]);
    for (n, ymm) in s.ymm.iter().enumerate() {
        let at = XMM + 16 * n;
        fp.legacy[at..at + 8].copy_from_slice(&ymm[0].to_le_bytes());
        fp.legacy[at + 8..at + 16].copy_from_slice(&ymm[1].to_le_bytes());
        fp.high[n] = [ymm[2], ymm[3]];
    }
}
