//! Commands that change what is in drives: CDs and floppies.

use super::Call;
use crate::machine::Format;

type Answer = Result<String, String>;

pub(super) fn eject(call: &mut Call<'_>) -> Answer {
    let list = call.list()?;
    let (device, force) = match list.as_slice() {
        [device] => (device, false),
        [flag, device] if flag == "-f" => (device, true),
        _ => return Err(call.usage()),
    };
    call.machine.change_medium(device, None, force)?;
    Ok(String::new())
}

pub(super) fn change(call: &mut Call<'_>) -> Answer {
    let list = call.list()?;
    let (device, path, format) = match list.as_slice() {
        [device, path] => (device, path, None),
        [device, path, format] => {
            let format = match format.as_str() {
                "raw" => Format::Raw,
                "qcow2" => Format::Qcow2,
                other => return Err(format!("format {other} is neither raw nor qcow2")),
            };
            (device, path, Some(format))
        }
        _ => return Err(call.usage()),
    };
    call.machine.change_medium(device, Some((path.into(), format)), false)?;
    Ok(String::new())
}
