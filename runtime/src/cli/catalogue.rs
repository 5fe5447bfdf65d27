//! What the command can say about its options: help text, and QEMU options it knows by name but has not got.

use std::fmt::Write;

/// QEMU options that scripts carry and Stele has not got, with what to say beyond "not supported yet".
const NOT_YET: &[(&str, &str)] = &[
    ("enable-kvm", ": Stele translates, it does not virtualise"),
    ("spice", ""),
    ("object", ""),
    ("readconfig", ""),
    ("incoming", ""),
    ("daemonize", ""),
    ("usb", ""),
    ("usbdevice", ""),
    ("virtfs", ""),
    ("sd", ""),
    ("mtdblock", ""),
    ("pflash", ": use -bios"),
    ("blockdev", ": use -drive"),
    ("audio", ""),
    ("soundhw", ""),
    ("acpitable", ""),
    ("numa", ""),
    ("watchdog", ""),
    ("plugin", ""),
    ("trace", ": use -d"),
    ("seed", ""),
    ("g", ""),
    ("win2k-hack", ""),
    ("no-acpi", ""),
    ("no-hpet", ""),
    ("sandbox", ": it can only be off"),
    ("run-with", ""),
    ("global", ""),
    ("set", ""),
    ("mem-path", ""),
    ("mem-prealloc", ""),
    ("overcommit", ": guest memory is taken as it is used"),
    ("singlestep", ": use -d nochain"),
];

/// QEMU options that scripts carry and that change nothing here, with the values for which that is true
/// (empty: none is taken).
const WITHOUT_EFFECT: &[(&str, &[&str])] = &[
    ("no-user-config", &[]),
    ("nodefconfig", &[]),
    ("k", &["*"]),
    ("msg", &["timestamp=off", "timestamp=on"]),
    ("sandbox", &["off"]),
    ("overcommit", &["mem-lock=off", "cpu-pm=off", "mem-lock=off,cpu-pm=off"]),
];

/// Does the option take a value? `None` unless it is one without effect.
pub(super) fn is_without_effect(name: &str) -> Option<bool> {
    let known = WITHOUT_EFFECT.iter().find(|(known, _)| *known == name)?;
    Some(!known.1.is_empty())
}

/// Has it none with this value?
pub(super) fn is_harmless(name: &str, value: &str) -> bool {
    let values = WITHOUT_EFFECT.iter().filter(|(known, _)| *known == name);
    values.flat_map(|(_, values)| *values).any(|known| matches!(*known, "*") || *known == value)
}

/// If `name` is an option of QEMU's that is missing here: the rest of the sentence.
pub(super) fn not_supported(name: &str) -> Option<&'static str> {
    NOT_YET.iter().find(|(known, _)| *known == name).map(|(_, why)| *why)
}

/// `-name VALUE` of one option.
pub(super) fn usage(option: &clap::Arg) -> String {
    let name = option.get_long().unwrap_or_default();
    match option.get_value_names() {
        Some([value, ..]) if option.get_action().takes_values() => format!("-{name} {value}"),
        _ => format!("-{name}"),
    }
}

/// The text of `--help`: true because it is made from the options themselves.
pub(super) fn help(command: &clap::Command) -> String {
    let mut text = String::from(
        "Usage: stele [OPTIONS] [IMAGE]\n       stele demo linux [--arch 64|32] [--disk|--kernel] [-- OPTIONS]\n       stele spec show BYTES | spec list | isa --coverage | completion SHELL | man\n\n\
         An x86 PC, translated by a generated JIT. With no option about the machine itself it runs an\n\
         embedded demo; demo linux fetches Debian's kernel with apt and boots it from a disk it builds\n\
         (cached in target/guests or ~/.cache/stele); -bios bios-256k.bin runs SeaBIOS without a disk.\n",
    );
    let mut heading = None;
    for option in command.get_arguments().filter(|arg| arg.get_long().is_some()) {
        if option.get_help_heading() != heading {
            heading = option.get_help_heading();
            let _ = write!(text, "\n{}:\n", heading.unwrap_or("Other"));
        }
        let about = option.get_help().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(text, "  {:<18} {about}", usage(option));
    }
    let _ = write!(text, "\n{}", notes());
    text
}

/// What there is to know beside the options.
pub(super) fn notes() -> &'static str {
    "Options are spelled as QEMU's, with one dash or two; -k, -msg, -no-user-config, -overcommit\n\
     mem-lock=off and -sandbox off are taken and change nothing.\n\
     On a terminal, and with -nographic, Ctrl-a x quits and Ctrl-a h helps.\n\
     Firmware is SeaBIOS from the Debian package seabios, unless -bios names another.\n\
     Exit codes: 0 power-off or quit, 1 host error, 2 usage, 3 triple fault with -no-reboot,\n\
     isa-debug-exit (v<<1)|1, 128+n signal n.\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn help_names_every_option_and_is_short() {
        let command = crate::cli::Args::command();
        let text = help(&command);
        for option in command.get_arguments().filter_map(clap::Arg::get_long) {
            assert!(text.contains(&format!("  -{option} ")), "{option}");
        }
        assert!(text.lines().count() < 110);
        assert!(text.lines().all(|line| line.len() <= 100));
    }

    #[test]
    fn nothing_is_both_supported_and_not() {
        let command = crate::cli::Args::command();
        for option in command.get_arguments().filter_map(clap::Arg::get_long) {
            assert!(not_supported(option).is_none(), "{option}");
            assert!(is_without_effect(option).is_none(), "{option}");
        }
    }
}
