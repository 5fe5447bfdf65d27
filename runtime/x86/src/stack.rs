//! Stack frames pushed by far calls, interrupts and ENTER: every slot is checked and translated
//! before the first is written, so that a fault leaves the stack as it was.

use mem::{Access, Lin};

use crate::access::{Span, in_limit, is_canonical_span};
use crate::cpu::Cpu;
use crate::fault::Fault;
use crate::segment::{Segment, attr};
use crate::state::seg;

/// The most slots a frame can have: 31 parameters of a call gate, SS:ESP and CS:EIP.
const MAX_SLOTS: usize = 40;

#[derive(Clone, Copy, Default)]
struct Slot {
    off: u64,
    value: u64,
    bytes: u32,
}

/// Values to push, in order, on a stack that may not be the current one.
pub(crate) struct Frame {
    segment: Segment,
    sp: u64,
    /// The address bits of `sp`.
    mask: u64,
    cpl: u32,
    /// Error code of the #SS that a limit violation raises.
    code: u32,
    /// It is not the current stack: its segment was checked when it was loaded.
    is_new: bool,
    /// A stack of 64-bit mode: no segment, canonical addresses.
    is_64: bool,
    slots: [Slot; MAX_SLOTS],
    len: usize,
}

impl Frame {
    /// A frame on stack `segment:sp`, written at privilege level `cpl`.
    pub(crate) fn new(segment: Segment, sp: u64, cpl: u32, code: u32) -> Self {
        let slots = [Slot::default(); MAX_SLOTS];
        let mask = stack_mask(&segment);
        Self { segment, sp, mask, cpl, code, is_new: true, is_64: false, slots, len: 0 }
    }

    /// A frame for 64-bit code at `sp`; SS becomes `segment`.
    pub(crate) fn new_64(segment: Segment, sp: u64, cpl: u32) -> Self {
        Self { mask: !0, is_64: true, ..Self::new(segment, sp, cpl, 0) }
    }

    /// The stack pointer after the pushes so far.
    pub(crate) const fn sp(&self) -> u64 {
        self.sp
    }

    /// What `bytes` bytes at `off` are once the frame is written; `memory` is there now.
    pub(crate) fn seen(&self, off: u64, bytes: u32, memory: u64) -> u64 {
        let mut image = memory.to_le_bytes();
        for slot in &self.slots[..self.len] {
            for (i, byte) in (0..u64::from(bytes)).zip(&mut image) {
                let at = (off.wrapping_add(i) & self.mask).wrapping_sub(slot.off);
                if at < u64::from(slot.bytes) {
                    *byte = (slot.value >> (8 * at)) as u8; // one byte of it
                }
            }
        }
        u64::from_le_bytes(image)
    }

    /// Adds a value of `bytes` bytes.
    pub(crate) fn push(&mut self, bytes: u32, value: impl Into<u64>) {
        self.sp = self.sp.wrapping_sub(u64::from(bytes)) & self.mask;
        if let Some(slot) = self.slots.get_mut(self.len) {
            *slot = Slot { off: self.sp, value: value.into(), bytes };
            self.len += 1;
        }
    }
}

/// The address bits of a stack pointer.
pub(crate) const fn stack_mask(segment: &Segment) -> u64 {
    if segment.attr & attr::DB != 0 { 0xFFFF_FFFF } else { 0xFFFF }
}

impl Cpu {
    /// SS.
    pub(crate) const fn ss(&self) -> Segment {
        self.state.seg[seg::SS as usize]
    }

    /// The address bits of the current stack pointer.
    pub(crate) const fn sp_mask(&self) -> u64 {
        if self.is_code64() { !0 } else { stack_mask(&self.ss()) }
    }

    /// The stack pointer at the stack's width.
    pub(crate) const fn sp(&self) -> u64 {
        self.state.gpr[4] & self.sp_mask()
    }

    /// Sets the stack pointer at the width of the stack in SS.
    pub(crate) const fn set_sp(&mut self, sp: u64) {
        self.set_sp_in(sp, self.sp_mask());
    }

    const fn set_sp_in(&mut self, sp: u64, mask: u64) {
        self.state.gpr[4] = match mask {
            0xFFFF => self.state.gpr[4] & !0xFFFF | sp & 0xFFFF,
            _ => sp & mask,
        };
    }

    /// An empty frame on the current stack.
    pub(crate) fn frame(&self) -> Frame {
        self.frame_as(self.is_code64())
    }

    /// The same as 64-bit code has it or not.
    pub(crate) fn frame_as(&self, is_64: bool) -> Frame {
        let mask = if is_64 { !0 } else { stack_mask(&self.ss()) };
        let frame = Frame::new(self.ss(), self.state.gpr[4] & mask, self.state.cpl, 0);
        Frame { mask, is_64, is_new: false, ..frame }
    }

    /// Sets the stack pointer to the end of a frame on the current stack.
    pub(crate) const fn move_to(&mut self, frame: &Frame) {
        self.set_sp_in(frame.sp, frame.mask);
    }

    /// Writes a frame: all of it or nothing. The caller sets SS and SP to what this returns.
    pub(crate) fn write_frame(&mut self, frame: &Frame) -> Result<(Segment, u64), Fault> {
        let spans = self.check_frame(frame)?;
        self.fill_frame(frame, &spans);
        Ok((frame.segment, frame.sp))
    }

    /// Checks and translates the slots of a frame in the order of the pushes. Data breakpoints that they hit are noted: a fault that the
    /// caller finds later forgets them.
    pub(crate) fn check_frame(&mut self, frame: &Frame) -> Result<[Span; MAX_SLOTS], Fault> {
        let slots = &frame.slots[..frame.len];
        let mut hits = 0;
        let mut spans = [Span::default(); MAX_SLOTS];
        for (slot, span) in slots.iter().zip(&mut spans) {
            let lin;
            (lin, *span) = self.check_slot(frame, slot)?;
            if self.watches_data() {
                hits |= self.watch_hits(lin, slot.bytes, Access::Write);
            }
        }
        self.note_debug(hits);
        Ok(spans)
    }

    /// Checks the slot that was pushed last, for those that read before they go on.
    pub(crate) fn check_push(&mut self, frame: &Frame) -> Result<(), Fault> {
        let last = frame.slots[..frame.len].last();
        last.map_or(Ok(()), |slot| self.check_slot(frame, slot).map(drop))
    }

    fn check_slot(&mut self, frame: &Frame, slot: &Slot) -> Result<(Lin, Span), Fault> {
        let is_segmented = !frame.is_64 && !frame.is_new && self.is_protected();
        if is_segmented && !writable(&frame.segment) {
            return Err(Fault::ss(0));
        }
        let lin = match frame.is_64 {
            true if is_canonical_span(slot.off, slot.bytes) => slot.off,
            false if in_limit(&frame.segment, slot.off, slot.bytes) => {
                frame.segment.base.wrapping_add(slot.off) & 0xFFFF_FFFF
            }
            true | false => return Err(Fault::ss(frame.code)),
        };
        let is_aligning = frame.cpl == 3 && self.checks_alignment();
        if is_aligning && lin & u64::from(slot.bytes.saturating_sub(1)) != 0 {
            return Err(Fault::ac());
        }
        let view = self.view_for(frame.cpl);
        let span = self.span(Lin(lin), slot.bytes, Access::Write, view)?;
        Ok((Lin(lin), span))
    }

    /// Writes the slots of a frame that [`Cpu::check_frame`] admitted.
    pub(crate) fn fill_frame(&mut self, frame: &Frame, spans: &[Span; MAX_SLOTS]) {
        for (slot, span) in frame.slots[..frame.len].iter().zip(spans) {
            self.span_write(span, 0, slot.bytes, slot.value);
        }
    }

    /// Reads stack slot `index` of `bytes` bytes above the stack pointer.
    pub(crate) fn peek_stack(&mut self, index: u32, bytes: u32) -> Result<u64, Fault> {
        self.peek_stack_at(u64::from(index * bytes), bytes)
    }

    /// Reads the selector in the slot of `bytes` bytes at `disp` above the stack pointer: Intel's processors read no more of it, AMD's all of the slot.
    pub(crate) fn peek_selector(&mut self, disp: u32, bytes: u32) -> Result<u16, Fault> {
        let bytes = if self.caps.is_amd { bytes } else { 2 };
        self.peek_stack_at(disp.into(), bytes).map(|v| v as u16)
    }

    /// What RET and IRET pop first: instruction pointer, CS and, if it `has_flags`, EFLAGS, in slots of `bytes` bytes. Intel's processors read
    /// the last one first, AMD's the instruction pointer, then EFLAGS (measured).
    pub(crate) fn peek_return(
        &mut self,
        bytes: u32,
        has_flags: bool,
    ) -> Result<(u64, u16, u32), Fault> {
        let is_amd = self.caps.is_amd;
        let mut ip = if is_amd { self.peek_stack(0, bytes)? } else { 0 };
        let image = if has_flags { self.peek_stack(2, bytes)? as u32 } else { 0 };
        let selector = self.peek_selector(bytes, bytes)?;
        if !is_amd {
            ip = self.peek_stack(0, bytes)?;
        }
        Ok((ip, selector, image))
    }

    /// Stack pointer and SS that RET and IRET pop from slots of `bytes` bytes, in that order in memory. Intel's processors read SS first
    /// (measured).
    pub(crate) fn peek_outer(&mut self, disp: u32, bytes: u32) -> Result<(u64, u16), Fault> {
        if self.caps.is_amd {
            let sp = self.peek_stack_at(disp.into(), bytes)?;
            return Ok((sp, self.peek_selector(disp + bytes, bytes)?));
        }
        let ss = self.peek_selector(disp + bytes, bytes)?;
        Ok((self.peek_stack_at(disp.into(), bytes)?, ss))
    }

    /// Reads `bytes` bytes at `disp` above the stack pointer.
    pub(crate) fn peek_stack_at(&mut self, disp: u64, bytes: u32) -> Result<u64, Fault> {
        let off = self.sp().wrapping_add(disp) & self.sp_mask();
        self.load(seg::SS, off, bytes)
    }
}

const fn writable(s: &Segment) -> bool {
    crate::access::may_access(s, Access::Write)
}
