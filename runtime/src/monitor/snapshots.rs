//! Commands for snapshots: `savevm`, `loadvm`, `delvm`, `info snapshots`.

use std::fmt::Write as _;

use super::Call;
use crate::snapshot::{date_text, name_now};

type Answer = Result<String, String>;

/// An error with its causes, in one line.
fn line(error: impl Into<anyhow::Error>) -> String {
    format!("{:#}", error.into())
}

pub(super) fn savevm(call: &mut Call<'_>) -> Answer {
    let name = match call.list()?.as_slice() {
        [] => name_now(),
        [name] => name.clone(),
        _ => return Err(call.usage()),
    };
    call.machine.save_named(&name).map_err(line)?;
    Ok(String::new())
}

pub(super) fn loadvm(call: &mut Call<'_>) -> Answer {
    let [name] = call.exactly()?;
    call.machine.load_named(&name).map_err(line)?;
    Ok(String::new())
}

pub(super) fn delvm(call: &mut Call<'_>) -> Answer {
    let [name] = call.exactly()?;
    call.machine.snapshots().delete(&name).map_err(line)?;
    Ok(String::new())
}

pub(super) fn list(call: &mut Call<'_>) -> Answer {
    let found = call.machine.snapshots().list().map_err(line)?;
    if found.is_empty() {
        return Ok("There is no snapshot available.".to_owned());
    }
    let mut text = format!("{:<24}{:>12}  {:<20} VM CLOCK\n", "TAG", "SIZE", "DATE (UTC)");
    for (name, info) in found {
        let (size, date) = (info.stored >> 10, date_text(info.made_at));
        let (ms, s) = (info.virtual_ns / 1_000_000, info.virtual_ns / 1_000_000_000);
        let clock = format!("{:02}:{:02}:{:02}.{:03}", s / 3600, s / 60 % 60, s % 60, ms % 1000);
        let _ = writeln!(text, "{name:<24}{size:>8} KiB  {date:<20} {clock}");
    }
    Ok(text)
}
