//! The outer loop: a board, a CPU and the world outside, until the guest or the user ends it.

mod config;

pub use config::{
    Accel, CharTarget, Display, DriveConfig, DriveSource, Firmware, MachineConfig, RtcBase,
};

/// Builds the machine and runs it to its end.
///
/// # Errors
/// The host refused a file, memory or the terminal.
pub fn run(config: MachineConfig) -> anyhow::Result<u8> {
    let _images = crate::firmware::load(&config)?;
    anyhow::bail!("no CPU is linked in yet")
}
