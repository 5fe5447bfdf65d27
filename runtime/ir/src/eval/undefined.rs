//! What processors do with flags that the manual leaves undefined.

use std::sync::LazyLock;

use crate::{Code, Width};

/// A family of processors that agree on them. `tests/native_alu.rs` measures the host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Undefined {
    /// AMD Zen: shifts set AF; OF of a shift or rotate comes from its result, as for a count of 1; multiplies keep what they do not define.
    Zen,
    /// Intel's Core and Xeon: shifts clear AF; OF is that of the first step of a shift or rotate, but ROL and ROR by a constant other
    /// than 1, and RCL and RCR all the way round, leave it alone; multiplies set SF and PF by the lower half and clear ZF and AF.
    Core,
}

impl Undefined {
    /// The host's, so that evaluated and generated code agree.
    pub fn of_host() -> Self {
        static HOST: LazyLock<Undefined> = LazyLock::new(|| {
            // CPUID 0: the vendor's first four letters are in EBX.
            let vendor = std::arch::x86_64::__cpuid(0).ebx.to_le_bytes();
            if vendor == *b"Genu" { Undefined::Core } else { Undefined::Zen }
        });
        *HOST
    }

    /// Do rotates by a constant leave OF alone where those by a register do not?
    pub(crate) fn tells_constant_rotates(self, code: Code) -> bool {
        self == Self::Core && matches!(code, Code::Rol | Code::Ror)
    }

    /// Does a rotate by a constant, masked and not 0, leave OF alone?
    pub(crate) fn keeps_overflow(self, code: Code, w: Width, count: u64) -> bool {
        let comes_round = || count.is_multiple_of(u64::from(w.bits() + 1));
        match code {
            Code::Rol | Code::Ror => self == Self::Core && count != 1,
            Code::Rcl | Code::Rcr => self == Self::Core && comes_round(),
            _ => false,
        }
    }
}
