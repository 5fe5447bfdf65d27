//! Tells what differs between the host's output and ours.

use super::cases::code_size;
use super::guest::features;
use super::state::{Case, ENDLESS, Fp, Output, Width};
use x86::decode::decode;
use x86::flags;

const GPR: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15",
];
const SEG: [&str; 6] = ["es", "cs", "ss", "ds", "fs", "gs"];

/// Flags that are never compared: IF and IOPL are the systems' own, RF tells how an exception came, not what the program did.
const IGNORED: u32 = flags::IF | flags::IOPL | flags::RF | flags::VM | flags::VIF | flags::VIP;
/// From here on addresses are the kernel's; Linux calls every fault there a violation, to hide what is mapped.
const KERNEL: u64 = 0x7FFF_FFFF_F000;

/// What the instruction leaves undefined, as EFLAGS bits.
fn undefined_flags(case: &Case) -> u32 {
    let insn = decode(&case.bytes, code_size(case.width), features());
    insn.map_or(0, |insn| ir::FlagMask(insn.info().undefined).eflags())
}

/// A line for each difference.
pub fn differences(case: &Case, host: &Output, ours: &Output) -> Vec<String> {
    let mut list = Vec::new();
    if host == ours || host.vector == ENDLESS {
        return list;
    }
    let mut note = |name: &str, want: u64, got: u64| {
        if want != got {
            list.push(format!("{name} {got:#x} instead of {want:#x}"));
        }
    };
    note("vector", host.vector.into(), ours.vector.into());
    if host.vector == ours.vector {
        note("error code", error_code(host).into(), error_code(ours).into());
        note("cr2", host.cr2, ours.cr2);
    }
    let wide = if case.width == Width::W64 && host.seg[1] == case.seg[1] { 16 } else { 8 };
    let mask = if wide == 16 { u64::MAX } else { 0xFFFF_FFFF };
    for (n, name) in GPR.iter().enumerate().take(wide) {
        note(name, host.gpr[n] & mask, ours.gpr[n] & mask);
    }
    note("ip", host.ip & mask, ours.ip & mask);
    let defined = !(IGNORED | undefined_flags(case));
    note("flags", (host.flags & defined).into(), (ours.flags & defined).into());
    for (n, name) in SEG.iter().enumerate() {
        note(name, selector(host, n), selector(ours, n));
    }
    if case.width == Width::W64 {
        note("fs base", host.bases[0], ours.bases[0]);
        note("gs base", host.bases[1], ours.bases[1]);
    }
    if host.changes != ours.changes {
        memory(host, ours, &mut list);
    }
    if let (Some(host), Some(ours)) = (&host.fp, &ours.fp) {
        floating(host, ours, &mut list);
    }
    list
}

/// A selector, without the RPL of null ones: IRET to an outer level clears it on the way out of the host's kernel.
fn selector(output: &Output, n: usize) -> u64 {
    let value = output.seg[n];
    if value < 4 { 0 } else { u64::from(value) }
}

fn error_code(output: &Output) -> u32 {
    const PRESENT: u32 = 1;
    const USER: u32 = 4;
    if output.vector == 14 && output.cr2 >= KERNEL {
        output.code | PRESENT | USER
    } else {
        output.code
    }
}

fn memory(host: &Output, ours: &Output, list: &mut Vec<String>) {
    let (host, ours) = (&host.changes, &ours.changes);
    if host.count != ours.count {
        list.push(format!("{} words of memory changed instead of {}", ours.count, host.count));
    }
    let of = |changes: &super::state::Changes| {
        let shown = (changes.count as usize).min(super::state::LISTED).min(4);
        let words: Vec<String> =
            changes.list[..shown].iter().map(|(at, v)| format!("[{at:x}]={v:016x}")).collect();
        words.join(" ")
    };
    list.push(format!("memory {} instead of {}", of(ours), of(host)));
}

fn floating(host: &Fp, ours: &Fp, list: &mut Vec<String>) {
    let part = |fp: &Fp, at: usize, len: usize| {
        let mut bytes = [0; 16];
        bytes[..len].copy_from_slice(&fp.legacy[at..at + len]);
        u128::from_le_bytes(bytes)
    };
    let mut check = |name: &str, at: usize, len: usize| {
        let (want, got) = (part(host, at, len), part(ours, at, len));
        if want != got {
            list.push(format!("{name} {got:0w$x} instead of {want:0w$x}", w = 2 * len));
        }
    };
    check("fcw", 0, 2);
    check("fsw", 2, 2);
    check("ftw", 4, 1);
    check("mxcsr", 24, 4);
    for n in 0..8 {
        check(&format!("st{n}"), 32 + 16 * n, 10);
    }
    for n in 0..16 {
        check(&format!("xmm{n}"), 160 + 16 * n, 16);
    }
    for n in 0..16 {
        let (want, got) = (host.high[n], ours.high[n]);
        if want != got {
            list.push(format!("ymm{n} high {got:016x?} instead of {want:016x?}"));
        }
    }
}
