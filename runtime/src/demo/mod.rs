//! What `stele` can show by itself: the embedded demo, which needs nothing, and Debian, which it fetches.

mod embedded;
pub mod linux;

pub use embedded::{DISK_SIZE, FIRMWARE_SIZE, INTERACTIVE_FILE, disk, firmware};
