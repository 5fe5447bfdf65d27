//! A run from the command line: the machine attached to the user's terminal.

use std::io::{IsTerminal, Write};

use super::{Display, Exit, Machine, MachineConfig, MachineError};
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
        report(&machine);
    }
    Ok(exit.code())
}

/// A Linux kernel without `console=` writes to the VGA card: say so if nobody can see it.
fn hint_console(config: &MachineConfig) {
    let is_serial = config.serial.iter().any(|target| config.is_stdio(target));
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
    let opened = machine.start_hosts(false);
    opened.map_err(|source| MachineError::Line { what: "a character device".into(), source })?;
    let mut raw = None;
    if config.display == Display::Tty {
        raw = Some(Raw::enter(true, false).map_err(MachineError::Terminal)?);
        machine.screen = Some(Screen::new());
        if config.display_monitor {
            machine.add_monitor_over_display();
        }
        console::read_keys(machine.input(), config.escape);
    } else if let Some(escapes) = machine.stdio_escapes() {
        let is_terminal = std::io::stdin().is_terminal();
        if is_terminal && std::io::stderr().is_terminal() && escapes {
            let key = console::key_name(config.escape);
            eprintln!("{key} x quits, {key} h helps");
        }
        if is_terminal {
            let entered = Raw::enter(false, config.stdio_signals);
            raw = Some(entered.map_err(MachineError::Terminal)?);
        }
    }
    machine.start_hosts(true).map_err(MachineError::Terminal)?;
    Ok(raw)
}

/// What the last moments of a triple-faulted guest looked like.
fn report(machine: &Machine) {
    let state = &machine.vcpu().cpu().state;
    let (cs, ip) = (state.seg[1].selector, state.pc);
    let registers = machine.vcpu().cpu().dump();
    let blocks = machine.vcpu().recent_blocks();
    eprintln!("stele: triple fault near {cs:04x}:{ip:08x}, and -no-reboot");
    eprint!(
        "registers:\n{registers}last blocks dispatched (those linked to each other are not seen; -d nochain,exec \
         shows all):\n{blocks}"
    );
}
