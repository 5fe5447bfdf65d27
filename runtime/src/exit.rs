//! Exit codes of the command. They are a promise to scripts; `--help` lists them.

/// The guest switched the machine off, or the user quit.
pub const OK: u8 = 0;
/// The host refused something: a file, a terminal, memory.
pub const HOST: u8 = 1;
/// The command line is wrong.
pub const USAGE: u8 = 2;
/// The guest triple-faulted with `-no-reboot`.
pub const TRIPLE_FAULT: u8 = 3;

/// The code for an `isa-debug-exit` value, as QEMU gives it.
pub const fn debug_exit(value: u32) -> u8 {
    (value << 1 | 1) as u8 // the low byte is what the host's wait() reports
}

/// The code for a signal that ended the run.
pub const fn signal(number: i32) -> u8 {
    (128 + number) as u8 // signals are below 65
}
