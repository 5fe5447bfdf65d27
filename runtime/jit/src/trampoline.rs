//! Into generated code and back.
//!
// UNSAFETY: calls an address as a function; the only place that does.
#![expect(unsafe_code, reason = "enters generated code")]

/// Calls the prologue at `prologue` with (state, load stub, target); returns the exit code.
///
/// # Safety
/// `prologue` is the address of the emitted prologue, `stub` of the emitted load stub, `target` of a block's far entry;
/// `state` is the live guest state. Generated code keeps the System V ABI's callee-saved registers and stack.
pub(crate) unsafe fn enter(prologue: u64, state: *mut u8, stub: u64, target: u64) -> u32 {
    // SAFETY: the caller vouches that the prologue stands there and takes these arguments.
    let run: unsafe extern "C" fn(*mut u8, u64, u64) -> u32 =
        unsafe { std::mem::transmute(prologue) };
    // SAFETY: same contract.
    unsafe { run(state, stub, target) }
}
