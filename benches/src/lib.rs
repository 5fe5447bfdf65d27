//! What the benches share: loops as guest code and as host code, a bare guest to run them on, and code bytes to
//! decode and translate.
//!
//! Every bench reports nanoseconds per unit (guest insn, or what the kernel says), not per call: see [`per_unit`].

pub mod guest;
pub mod kernels;
pub mod mechanisms;
pub mod samples;

use std::time::Duration;

pub use guest::Guest;
pub use kernels::{KERNELS, Kernel};

/// `total` divided by `units`, so that criterion shows time per unit.
pub fn per_unit(total: Duration, units: u64) -> Duration {
    let ns = total.as_nanos() / u128::from(units.max(1));
    Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guest code and host code of a kernel compute the same; a bench of wrong code would be worth nothing.
    #[test]
    fn kernels_agree_with_the_host() {
        for kernel in KERNELS {
            let mut guest = Guest::new(kernel);
            let mut native = kernels::Native::new(kernel);
            for loops in [1, 1000, 77] {
                let (got, expect) = (guest.run(loops), native.run(loops));
                let mask = if kernel.bits == 16 { 0xFFFF } else { 0xFFFF_FFFF };
                assert_eq!(got & mask, expect & mask, "{} {}", kernel.name, kernel.bits);
            }
            assert_eq!(guest.buffer(), native.buffer(), "{} {}", kernel.name, kernel.bits);
        }
    }
}
