//! Saving and loading the processor: all that a guest can see of it, and what is under way between
//! two instructions.
//!
//! Registers are listed once. A field of [`CpuState`] or [`Cpu`] is either in the list or named as
//! derived: one that is in neither does not compile. Loaded bytes are untrusted, so what no
//! processor of this model can hold is refused, and generated code's own words are made anew.
//! Source of the rules: SDM Vol. 3A, "System Architecture Overview", "Processor Management and
//! Initialization".

use mem::StateError;
use mem::state::{Field, ensure, take_version};

use crate::cpu::{Cpu, cr0, cr4, efer, is_canonical};
use crate::debug::{debug_control, debug_status};
use crate::flags;
use crate::state::{CpuState, Segment, TableReg, XsaveArea};

const VERSION: u8 = 2;
/// Bytes of x87 control, status and tag word.
const WORDS: usize = 6;
/// Bytes of ST0 to ST7.
const REGISTERS: usize = 128;

/// Field-wise saving for plain structs.
macro_rules! fields {
    ($ty:ty: $($field:ident)*; $($derived:ident)*) => {
        impl Field for $ty {
            fn put(&self, out: &mut Vec<u8>) {
                let Self { $($field,)* $($derived: _,)* } = self;
                $( $field.put(out); )*
            }
            fn take(&mut self, input: &mut &[u8]) -> Result<(), StateError> {
                $( self.$field.take(input)?; )*
                Ok(())
            }
        }
    };
}

fields!(Segment: selector attr limit base;);
fields!(TableReg: base limit; pad);
// `cc`, `df` and `eflags` are saved as EFLAGS; `fpu` without what XSAVE leaves to others.
fields!(
    CpuState:
    gpr pc cpl seg ldtr tr gdtr idtr cr0 cr2 cr3 cr4 dr efer shadow halted repeating mxcsr xcr0
    fpu_ip fpu_dp fpu_op fpu_cs fpu_ds star lstar cstar sfmask kernel_gs_base
    sysenter_cs sysenter_esp sysenter_eip tsc_aux pat apic_base misc_enable ymm;
    cc df eflags jump_mask watched mode tsc loads to_system to_user views pc_base jump_base tlb_mask usual_addend leave scratch
    args meta ready host_ret tlb_base
    window fault fault_code budget ahead fpu_host fpu_pad bounce is_bounced fpu
);

impl Cpu {
    /// The parts of the CPU outside [`CpuState`], in their order.
    fn put_rest(&self, out: &mut Vec<u8>) {
        let Self {
            shutdown,
            nmi_blocked,
            inhibit_step,
            keep_rf,
            insn_pc,
            pending_db,
            shadow_is_sti,
            pdpte,
            msr,
            ferr,
            // What follows from these, from the machine around, or is over between instructions.
            state: _,
            ram: _,
            map: _,
            bus: _,
            tlb: _,
            tlb_fills: _,
            smc: _,
            native: _,
            is_counted: _,
            is_bulk_done: _,
            armed: _,
            caps: _,
            model: _,
            a20_mask: _,
            handles: _,
            split: _,
            delivery_depth: _,
            watches: _,
            watches_hit: _,
            map_generation: _,
            jumps: _,
            has_local_code: _,
            levels: _,
        } = self;
        for flag in [shutdown, nmi_blocked, inhibit_step, keep_rf, shadow_is_sti, ferr] {
            flag.put(out);
        }
        insn_pc.put(out);
        pending_db.put(out);
        pdpte.put(out);
        msr.put(out);
    }

    fn take_rest(&mut self, input: &mut &[u8]) -> Result<(), StateError> {
        for flag in [
            &mut self.shutdown,
            &mut self.nmi_blocked,
            &mut self.inhibit_step,
            &mut self.keep_rf,
            &mut self.shadow_is_sti,
            &mut self.ferr,
        ] {
            flag.take(input)?;
        }
        self.insn_pc.take(input)?;
        self.pending_db.take(input)?;
        self.pdpte.take(input)?;
        self.msr.take(input)
    }

    /// Refuses registers that no processor of this model can hold.
    fn check_registers(&self, s: &CpuState) -> Result<(), StateError> {
        let has = |reg: u64, bits: u64| reg & bits == bits;
        let is_long = has(s.efer, efer::LMA);
        let is_vm86 = s.eflags & flags::VM != 0;
        let code64 = is_long && s.seg[1].attr & crate::segment::attr::L != 0;
        ensure(s.cpl < 4 && s.shadow < 2 && s.halted < 2, "the processor's state")?;
        ensure(!has(s.cr0, cr0::PG) || has(s.cr0, cr0::PE), "CR0")?;
        ensure(s.cr0 >> 32 == 0, "CR0")?;
        ensure(s.cr4 & !self.caps.cr4 == 0, "CR4")?;
        ensure(s.efer & !(self.caps.efer | efer::LMA) == 0, "EFER")?;
        ensure(is_long == (has(s.efer, efer::LME) && has(s.cr0, cr0::PG)), "EFER")?;
        ensure(!is_long || (self.caps.has_long && has(s.cr4, cr4::PAE)), "EFER")?;
        ensure(s.xcr0 & !(self.caps.xcr0 | 1) == 0, "XCR0")?;
        ensure(s.mxcsr >> 16 == 0, "MXCSR")?;
        ensure(!is_vm86 || (has(s.cr0, cr0::PE) && !is_long && s.cpl == 3), "EFLAGS")?;
        ensure(has(s.cr0, cr0::PE) || s.cpl == 0, "CPL")?;
        let pc_ok = if code64 { is_canonical(s.pc) } else { s.pc >> 32 == 0 };
        ensure(pc_ok, "the instruction pointer")?;
        ensure(s.seg[..4].iter().all(|seg| seg.base >> 32 == 0), "a segment base")
    }
}

impl Cpu {
    /// The processor's state as bytes. Not to be called while the processor runs.
    pub fn save_state(&self) -> Vec<u8> {
        let s = &self.state;
        debug_assert_eq!(s.fpu_host, 0, "x87 state is parked between runs");
        let mut out = vec![VERSION];
        Field::put(s, &mut out);
        s.eflags().put(&mut out);
        let fpu = &s.fpu.0;
        out.extend_from_slice(&fpu[..WORDS]);
        out.extend_from_slice(&fpu[XsaveArea::ST..XsaveArea::ST + REGISTERS]);
        out.push(fpu[XsaveArea::XSTATE_BV] & 1);
        self.put_rest(&mut out);
        out
    }

    /// Takes the state from bytes. [`Cpu::state_loaded`] must be called once the machine around is
    /// loaded, too.
    ///
    /// # Errors
    /// These are no registers of such a processor. What was loaded so far stays: reset it, or load
    /// another state.
    pub fn load_state(&mut self, bytes: &[u8]) -> Result<(), StateError> {
        let input = &mut &*bytes;
        take_version(input, VERSION)?;
        let mut s = CpuState {
            tlb_mask: self.tlb.mask(),
            usual_addend: self.tlb.usual(),
            ..CpuState::default()
        };
        Field::take(&mut s, input)?;
        let mut eflags = 0u32;
        eflags.take(input)?;
        s.set_eflags(eflags);
        let (mut head, mut regs, mut used) = ([0u8; WORDS], [0u8; REGISTERS], 0u8);
        head.take(input)?;
        regs.take(input)?;
        used.take(input)?;
        s.fpu.0[..WORDS].copy_from_slice(&head);
        s.fpu.0[XsaveArea::ST..XsaveArea::ST + REGISTERS].copy_from_slice(&regs);
        s.fpu.0[XsaveArea::XSTATE_BV] = used & 1;
        s.dr[6] = debug_status(s.dr[6]);
        s.dr[7] = debug_control(s.dr[7]);
        self.check_registers(&s)?;
        self.take_rest(input)?;
        ensure(self.pending_db >> 16 == 0, "DR6")?;
        ensure(input.is_empty(), "the processor's length")?;
        // Other threads own `jump_mask`: it is never stored to here as a plain word of a new state.
        s.jump_mask = self.state.jump_mask;
        self.state = s;
        Ok(())
    }

    /// After loading the CPU, memory or the board: everything derived is made anew.
    pub fn state_loaded(&mut self) {
        self.smc.clear();
        self.delivery_depth = 0;
        self.arm_breakpoints(true);
        self.sync_bus();
        self.flush_tlb();
        self.sync_mode();
        self.state.leave = 0;
    }
}
