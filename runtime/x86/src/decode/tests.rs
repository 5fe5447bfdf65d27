//! Rules of the decoder that no table row can state.
use super::*;

fn one(bytes: &[u8], size: CodeSize) -> Result<Insn, DecodeError> {
    decode(bytes, size, &Features::ALL)
}

#[test]
fn a_short_slice_is_truncated_and_a_long_one_too_long() {
    assert_eq!(one(&[], CodeSize::Bits32), Err(DecodeError::Truncated));
    assert_eq!(one(&[0x66; 14], CodeSize::Bits32), Err(DecodeError::Truncated));
    assert_eq!(one(&[0x66; 15], CodeSize::Bits32), Err(DecodeError::TooLong));
    assert_eq!(one(&[0x66; 40], CodeSize::Bits32), Err(DecodeError::TooLong));
}

#[test]
fn the_last_prefix_of_a_group_wins() {
    let insn = one(&[0x2E, 0x65, 0xF2, 0xF3, 0xA4], CodeSize::Bits32).unwrap();
    assert_eq!(insn.prefixes, prefix::SEG | prefix::REP);
    assert_eq!((insn.seg, insn.len), (5, 5));
}
