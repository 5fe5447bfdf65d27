//! Commands that steer the machine.

use super::Call;
use crate::machine::Exit;

type Answer = Result<String, String>;

const NOTHING: Answer = Ok(String::new());

pub(super) fn quit(call: &mut Call<'_>) -> Answer {
    call.machine.end(Exit::Quit);
    NOTHING
}

pub(super) fn stop(call: &mut Call<'_>) -> Answer {
    call.machine.stop();
    NOTHING
}

pub(super) fn cont(call: &mut Call<'_>) -> Answer {
    call.machine.cont()?;
    NOTHING
}

pub(super) fn system_reset(call: &mut Call<'_>) -> Answer {
    call.machine.press_reset();
    NOTHING
}

pub(super) fn system_powerdown(call: &mut Call<'_>) -> Answer {
    call.machine.press_power();
    NOTHING
}

pub(super) fn nmi(call: &mut Call<'_>) -> Answer {
    call.machine.send_nmi();
    NOTHING
}
