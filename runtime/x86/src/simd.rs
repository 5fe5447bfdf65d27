//! FP and vector state: what the control registers permit, and native instructions on the evaluator.
//!
//! The state's vector registers and MXCSR are exact whenever Rust code runs. x87 state may be in the host's FPU (`fpu_host`)
//! until `park_fpu` fetches it. Sources: SDM Vol. 3A, "System Programming for Instruction Set Extensions and Processor Extended States",
//! "Exceptions" of the classes in Vol. 2; Vol. 1, "x87 FPU Exception Conditions".

use ir::{AccessKind, Native, NativeIo, NativeState, NativeTrap, simd};

use crate::access::access_of;
use crate::cpu::{Cpu, cr0, cr4};
use crate::fault::Fault;

/// x87 state in the host's FPU, in any of its roles.
const X87: u8 = simd::X87 | simd::MMX | simd::WAIT;
/// XCR0: SSE and AVX state.
const XCR0_VECTOR: u64 = 6;

impl Cpu {
    /// Parts of FP and vector state that the control registers permit, as bits of `simd`.
    pub fn simd_permitted(&self) -> u8 {
        let s = &self.state;
        let has = |bit| s.cr0 & bit != 0;
        let mut parts = 0;
        if !has(cr0::TS) {
            if !has(cr0::EM) {
                parts |= simd::X87 | simd::MMX;
                if s.cr4 & cr4::OSFXSR != 0 {
                    parts |= simd::SSE;
                }
            }
            if s.cr4 & cr4::OSXSAVE != 0 && s.xcr0 & XCR0_VECTOR == XCR0_VECTOR {
                parts |= simd::AVX;
            }
        }
        if !(has(cr0::TS) && has(cr0::MP)) {
            parts |= simd::WAIT;
        }
        parts
    }

    /// Checks that the parts in `uses` are permitted.
    ///
    /// # Errors
    /// #UD or #NM if one is not.
    pub fn check_simd(&self, uses: u8) -> Result<(), Fault> {
        let refused = uses & !self.simd_permitted();
        if refused == 0 {
            return Ok(());
        }
        let s = &self.state;
        let emulated = s.cr0 & cr0::EM != 0;
        let is_ud = refused & simd::MMX != 0 && emulated
            || refused & simd::SSE != 0 && (emulated || s.cr4 & cr4::OSFXSR == 0)
            || refused & simd::AVX != 0
                && (s.cr4 & cr4::OSXSAVE == 0 || s.xcr0 & XCR0_VECTOR != XCR0_VECTOR);
        Err(if is_ud { Fault::ud() } else { Fault::nm() })
    }

    /// Generated code wants a part: notes what is permitted in the second byte of `ready`, for its thunks.
    ///
    /// # Errors
    /// As [`Cpu::check_simd`].
    pub fn enter_simd(&mut self, uses: u8) -> Result<(), Fault> {
        self.check_simd(uses)?;
        let permitted = u32::from(self.simd_permitted()) << 8;
        self.state.ready = self.state.ready & 0xFF | permitted;
        Ok(())
    }

    /// Brings x87 state from the host's FPU to `state.fpu`, where it is authoritative then.
    pub fn park_fpu(&mut self) {
        if self.state.fpu_host != 0 {
            if let Some(runner) = self.native.as_mut() {
                runner.park(&mut self.state.fpu.0);
            }
            self.state.fpu_host = 0;
        }
        self.state.ready &= !u32::from(X87);
    }

    /// The fault of an exception that a native instruction raised.
    pub fn native_fault(&self, trap: NativeTrap) -> Fault {
        match trap {
            NativeTrap::Simd if self.state.cr4 & cr4::OSXMMEXCPT != 0 => Fault::xm(),
            NativeTrap::Simd | NativeTrap::Undefined => Fault::ud(),
            NativeTrap::X87 => Fault::mf(),
            NativeTrap::Protection => Fault::gp(0),
        }
    }

    /// Runs a native instruction on the state, for the evaluator.
    pub(crate) fn run_native(&mut self, native: &Native, io: &mut NativeIo) -> Result<(), Fault> {
        let is_x87 = native.uses & X87 != 0;
        if is_x87 {
            self.park_fpu();
        }
        let size = io.size.min(64);
        let mut operand = [0; 64];
        // An x87 store that an unmasked exception stops leaves memory alone: what goes back is then what was there.
        let is_read = io.kind != AccessKind::W || is_x87;
        if let Some(handle) = io.mem.filter(|_| is_read) {
            self.each_piece(size, |cpu, at, bytes| {
                let value = cpu.read_handle(handle, at as i32, bytes).to_le_bytes();
                if let Some(to) = operand.get_mut(at as usize..(at + bytes) as usize) {
                    to.copy_from_slice(value.get(..bytes as usize).unwrap_or(&[]));
                }
            });
        }
        let mut done = self.run_on_host(native, io, &mut operand);
        if is_x87 && matches!(done, Err(NativeTrap::X87)) && self.ignores_x87_errors() {
            let held = self.hold_x87_errors();
            done = self.run_on_host(native, io, &mut operand);
            self.restore_x87_errors(held);
        }
        done.map_err(|trap| self.native_fault(trap))?;
        if let Some(handle) = io.mem.filter(|_| io.kind != AccessKind::R) {
            self.each_piece(size, |cpu, at, bytes| {
                let mut value = [0; 8];
                let piece = operand.get(at as usize..(at + bytes) as usize).unwrap_or(&[]);
                value.iter_mut().zip(piece).for_each(|(to, &b)| *to = b);
                cpu.write_handle(handle, at as i32, bytes, u64::from_le_bytes(value));
            });
        }
        Ok(())
    }

    fn run_on_host(
        &mut self,
        native: &Native,
        io: &mut NativeIo,
        operand: &mut [u8; 64],
    ) -> Result<(), NativeTrap> {
        let state = &mut self.state;
        let parts = NativeState {
            gpr: &mut state.gpr,
            ymm: &mut state.ymm,
            mxcsr: &mut state.mxcsr,
            fpu: &mut state.fpu.0,
            operand,
        };
        match self.native.as_mut() {
            Some(runner) => runner.run(native, io, parts),
            None => Err(NativeTrap::Undefined),
        }
    }

    /// #GP(0) if the operand's linear address is not a multiple of its size. That comes before what else is wrong with the
    /// address: a host says #GP, not #SS, of a misaligned operand beyond the stack segment.
    pub fn check_operand_alignment(
        &self,
        seg: u8,
        off: u64,
        size: u32,
        kind: AccessKind,
    ) -> Result<(), Fault> {
        let base = match (self.is_code64(), usize::from(seg)) {
            (true, 0..4) => 0,
            (_, n) => self.state.seg.get(n).map_or(0, |s| s.base),
        };
        if base.wrapping_add(off) & (u64::from(size) - 1) != 0 {
            return Err(Fault::gp(0));
        }
        self.seg_lin(seg, off, size, access_of(kind)).map(|_| ())
    }

    /// Calls `f` with place and size of each piece of an operand: eight bytes, then what is left.
    fn each_piece(&mut self, size: u32, mut f: impl FnMut(&mut Self, u32, u32)) {
        let mut at = 0;
        while at < size {
            let bytes = match size - at {
                8.. => 8,
                4.. => 4,
                2.. => 2,
                _ => 1,
            };
            f(self, at, bytes);
            at += bytes;
        }
    }
}
