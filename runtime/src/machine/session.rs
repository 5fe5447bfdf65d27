//! A run from the command line: the machine attached to the user's terminal.

use std::io::{IsTerminal, Write};

use super::{CharTarget, Display, Exit, Machine, MachineConfig, MachineError};
use crate::boot::kernel::lacks_console;
use crate::console::{self, Screen};
use crate::terminal::Raw;

/// Builds the machine and runs it to its end; returns the command's exit code.
///
/// # Errors
/// The host refused a file, memory or the terminal.
pub fn run(config: MachineConfig) -> Result<u8, MachineError> {
    let mut machine = Machine::new(&config)?;
    if let Some(name) = &config.loadvm {
        machine.load_named(name)?;
    } else {
        hint_console(&config);
    }
    console::catch_signals(machine.input()).map_err(MachineError::Terminal)?;
    let raw = attach(&mut machine, &config)?;
    let exit = machine.run();
    let flushed = machine.flush();
    drop(raw);
    if config.display == Display::LastScreen {
        // A closed pipe is no failure of the run.
        let _ = std::io::stdout().write_all(machine.screen_text().as_bytes());
    }
    flushed?;
    if exit == Exit::TripleFault {
        let state = &machine.vcpu().cpu().state;
        let (cs, ip) = (state.seg[1].selector, state.pc);
        eprintln!("stele: triple fault near {cs:04x}:{ip:08x}, and -no-reboot");
    }
    Ok(exit.code())
}

/// A Linux kernel without `console=` writes to the VGA card: say so if nobody can see it.
fn hint_console(config: &MachineConfig) {
    let is_serial = config.serial.iter().any(|target| matches!(target, CharTarget::Stdio));
    if config.display != Display::Tty
        && is_serial
        && config.kernel.as_ref().is_some_and(lacks_console)
    {
        eprintln!(
            "stele: the kernel will write to the VGA card, which is not shown: -append \"console=ttyS0\" \
             makes it use the serial port"
        );
    }
}

/// Starts the console threads and puts the terminal into raw mode, as far as the configuration asks.
fn attach(machine: &mut Machine, config: &MachineConfig) -> Result<Option<Raw>, MachineError> {
    let input = machine.input();
    if config.display == Display::Tty {
        let raw = Raw::enter(true).map_err(MachineError::Terminal)?;
        machine.screen = Some(Screen::new());
        console::read_keys(input);
        return Ok(Some(raw));
    }
    let debug = config.debugcon.iter().map(|(_, target)| target);
    if !config.serial.iter().chain(debug).any(|target| matches!(target, CharTarget::Stdio)) {
        return Ok(None);
    }
    let is_terminal = std::io::stdin().is_terminal();
    if is_terminal && std::io::stderr().is_terminal() {
        eprintln!("Ctrl-a x quits, Ctrl-a h helps");
    }
    let raw = is_terminal.then(|| Raw::enter(false)).transpose().map_err(MachineError::Terminal)?;
    machine.stdio.start_output(input.clone());
    machine.stdio.start_input(input, is_terminal || config.nographic);
    Ok(raw)
}
