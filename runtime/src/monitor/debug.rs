//! Commands about the gdb server.

use super::Call;
use crate::cli;
use crate::console::{CharTarget, Host};
use crate::gdb::Gdb;

type Answer = Result<String, String>;

/// Where `-s` listens.
const DEFAULT: &str = "tcp::1234";

pub(super) fn gdbserver(call: &mut Call<'_>) -> Answer {
    let words = call.list()?;
    let text = match words.as_slice() {
        [] => DEFAULT,
        [one] => one,
        _ => return Err(call.usage()),
    };
    let target = cli::gdb_target("gdbserver", text).map_err(|error| error.to_string())?;
    let told = |error| format!("cannot open {target}: {error}");
    if matches!(target, CharTarget::Stdio) {
        return Err("stdio is for -gdb stdio".to_owned());
    }
    // The old one lets go of its address first.
    call.machine.set_gdb(None);
    let Some(mut host) = Host::open(&target, "gdb", None).map_err(told)? else {
        return Ok("Disabled gdbserver".to_owned());
    };
    let front = host.line().front(true);
    let more = host.announcement();
    host.start(&call.machine.input()).map_err(told)?;
    call.machine.set_gdb(Some((Gdb::new(front), host)));
    Ok(more.unwrap_or_else(|| format!("Waiting for gdb connection on device '{target}'")))
}

pub(super) fn set(call: &mut Call<'_>) -> Answer {
    let [name, value] = call.exactly()?;
    let is_on = match value.as_str() {
        "on" => true,
        "off" => false,
        _ => return Err(call.usage()),
    };
    match name.as_str() {
        "linear-pc" => call.machine.debug_mut().linear_pc = is_on,
        _ => return Err(format!("there is no {name} to set (linear-pc)")),
    }
    Ok(String::new())
}
