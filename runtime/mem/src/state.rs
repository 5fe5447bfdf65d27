//! Saving and loading of the state of chips and CPU: versioned, little endian, fields in a fixed order.
//!
//! A chip names its fields once in [`state_fields!`](crate::state_fields); saving and loading
//! walk the same list, so they cannot disagree. The CPU does the same with its registers. Loaded bytes are untrusted: lengths are checked
//! here, and a chip refuses values its registers could not hold in `check_state`.

use std::collections::VecDeque;

/// Why a saved state was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The bytes end before the state does.
    #[error("saved state is truncated")]
    Truncated,
    /// Bytes are left over.
    #[error("saved state has {0} bytes too many")]
    Trailing(usize),
    /// Another format version.
    #[error("saved state has version {found}, expected {expected}")]
    Version {
        /// The version in the bytes.
        found: u8,
        /// The version this build writes.
        expected: u8,
    },
    /// A value no run of the chip can produce.
    #[error("saved state holds an impossible value for {0}")]
    Invalid(&'static str),
}

/// A chip whose state can be saved and loaded.
pub trait State {
    /// The state as bytes.
    fn save(&self) -> Vec<u8>;
    /// Takes the state from bytes. After an error the chip is in no useful state: reset it.
    fn load(&mut self, bytes: &[u8]) -> Result<(), StateError>;
}

/// One saved value.
pub trait Field {
    /// Appends the value.
    fn put(&self, out: &mut Vec<u8>);
    /// Takes the value from the front of `input`.
    fn take(&mut self, input: &mut &[u8]) -> Result<(), StateError>;
}

/// Implements [`Field`] and [`State`] for a struct: its version, then its saved fields. The type
/// has a method `check_state(&mut self) -> Result<(), StateError>`, run after the fields are read.
#[macro_export]
macro_rules! state_fields {
    ($ty:ty, $version:literal, [$($field:ident),* $(,)?]) => {
        impl $crate::state::Field for $ty {
            fn put(&self, out: &mut Vec<u8>) {
                out.push($version);
                $( $crate::state::Field::put(&self.$field, out); )*
            }
            fn take(&mut self, input: &mut &[u8]) -> Result<(), $crate::StateError> {
                $crate::state::take_version(input, $version)?;
                $( $crate::state::Field::take(&mut self.$field, input)?; )*
                self.check_state()
            }
        }
        impl $crate::State for $ty {
            fn save(&self) -> Vec<u8> {
                let mut out = Vec::new();
                $crate::state::Field::put(self, &mut out);
                out
            }
            fn load(&mut self, bytes: &[u8]) -> Result<(), $crate::StateError> {
                let mut input = bytes;
                $crate::state::Field::take(self, &mut input)?;
                match input.len() {
                    0 => Ok(()),
                    n => Err($crate::StateError::Trailing(n)),
                }
            }
        }
    };
}

/// Takes a version byte and compares it.
pub fn take_version(input: &mut &[u8], expected: u8) -> Result<(), StateError> {
    let mut found = 0u8;
    found.take(input)?;
    if found == expected { Ok(()) } else { Err(StateError::Version { found, expected }) }
}

/// Refuses a state unless `holds`.
pub fn ensure(holds: bool, what: &'static str) -> Result<(), StateError> {
    if holds { Ok(()) } else { Err(StateError::Invalid(what)) }
}

macro_rules! int_field {
    ($($ty:ty),*) => { $(
        impl Field for $ty {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn take(&mut self, input: &mut &[u8]) -> Result<(), StateError> {
                let (bytes, rest) = input.split_first_chunk().ok_or(StateError::Truncated)?;
                *self = <$ty>::from_le_bytes(*bytes);
                *input = rest;
                Ok(())
            }
        }
    )* };
}
int_field!(u8, u16, u32, u64, i64);

impl Field for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn take(&mut self, input: &mut &[u8]) -> Result<(), StateError> {
        let mut byte = 0u8;
        byte.take(input)?;
        ensure(byte < 2, "a flag")?;
        *self = byte == 1;
        Ok(())
    }
}

impl<T: Field, const N: usize> Field for [T; N] {
    fn put(&self, out: &mut Vec<u8>) {
        self.iter().for_each(|item| item.put(out));
    }
    fn take(&mut self, input: &mut &[u8]) -> Result<(), StateError> {
        self.iter_mut().try_for_each(|item| item.take(input))
    }
}

impl<T: Field + Default> Field for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }
    fn take(&mut self, input: &mut &[u8]) -> Result<(), StateError> {
        let mut present = false;
        present.take(input)?;
        *self = None;
        if present {
            let mut value = T::default();
            value.take(input)?;
            *self = Some(value);
        }
        Ok(())
    }
}

impl Field for Vec<u8> {
    fn put(&self, out: &mut Vec<u8>) {
        (self.len() as u32).put(out);
        out.extend_from_slice(self);
    }
    fn take(&mut self, input: &mut &[u8]) -> Result<(), StateError> {
        let mut len = 0u32;
        len.take(input)?;
        let (bytes, rest) = input.split_at_checked(len as usize).ok_or(StateError::Truncated)?;
        *self = bytes.to_vec();
        *input = rest;
        Ok(())
    }
}

impl Field for VecDeque<u8> {
    fn put(&self, out: &mut Vec<u8>) {
        self.iter().copied().collect::<Vec<u8>>().put(out);
    }
    fn take(&mut self, input: &mut &[u8]) -> Result<(), StateError> {
        let mut bytes = Vec::new();
        bytes.take(input)?;
        *self = bytes.into();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default, PartialEq, Debug)]
    struct Chip {
        a: u8,
        b: [u16; 2],
        c: Option<u64>,
        d: Vec<u8>,
        e: bool,
    }
    impl Chip {
        fn check_state(&mut self) -> Result<(), StateError> {
            ensure(self.a < 16, "a")
        }
    }
    state_fields!(Chip, 3, [a, b, c, d, e]);

    #[test]
    fn round_trip_and_refusals() {
        let chip = Chip { a: 7, b: [1, 0x203], c: Some(9), d: vec![1, 2, 3], e: true };
        let bytes = chip.save();
        let mut back = Chip::default();
        back.load(&bytes).unwrap();
        assert_eq!(back, chip);
        for n in 0..bytes.len() {
            assert_eq!(back.load(&bytes[..n]), Err(StateError::Truncated));
        }
        let mut long = bytes.clone();
        long.push(0);
        assert_eq!(back.load(&long), Err(StateError::Trailing(1)));
        let mut bad = bytes.clone();
        bad[1] = 16;
        assert_eq!(back.load(&bad), Err(StateError::Invalid("a")));
        bad[0] = 4;
        assert_eq!(back.load(&bad), Err(StateError::Version { found: 4, expected: 3 }));
    }
}
