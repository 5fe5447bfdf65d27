//! A guest for evaluator tests: registers, a little state and memory that faults here and there, and a log of
//! everything that can be observed, with registers and flags at that moment.

use ir::{AccessKind, Block, End, Guest, Native, NativeIo, NativeReg, Scratch, Width, run};

/// What an observer saw.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Event {
    what: &'static str,
    values: Vec<u64>,
    gpr: [u64; 16],
    flags: u32,
}

/// Why evaluation stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    Fault(u64),
    Raise(u32, u64),
    Helper(u32),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct TestGuest {
    pub(crate) gpr: [u64; 16],
    pub(crate) flags: u32,
    pub(crate) env: [u8; 64],
    pub(crate) log: Vec<Event>,
    /// Changes what helpers return and which accesses fault.
    pub(crate) salt: u64,
}

fn mix(v: u64) -> u64 {
    let v = (v ^ v >> 31).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    v ^ v >> 29
}

impl TestGuest {
    pub(crate) fn new(seed: u64) -> Self {
        let gpr = std::array::from_fn(|n| mix(seed.wrapping_add(n as u64 * 77)));
        let env = std::array::from_fn(|n| mix(seed ^ n as u64) as u8);
        let flags = mix(seed ^ 0xF1A6) as u32 & 0x8D5;
        Self { gpr, flags, env, log: Vec::new(), salt: seed }
    }

    fn observe(&mut self, what: &'static str, values: &[u64]) -> u64 {
        let event = Event { what, values: values.to_vec(), gpr: self.gpr, flags: self.flags };
        self.log.push(event);
        values.iter().fold(self.salt, |h, &v| mix(h ^ v))
    }
}

impl Guest for TestGuest {
    type Stop = Stop;
    fn gpr(&self, n: u8) -> u64 {
        self.gpr[usize::from(n)]
    }
    fn set_gpr(&mut self, n: u8, v: u64) {
        self.gpr[usize::from(n)] = v;
    }
    fn flags(&self) -> u32 {
        self.flags
    }
    fn set_flags(&mut self, v: u32) {
        self.flags = v;
    }
    fn ld_env(&self, off: u32, w: Width) -> u64 {
        let mut bytes = [0; 8];
        let at = off as usize;
        let n = w.bytes() as usize;
        bytes[..n].copy_from_slice(&self.env[at..at + n]);
        u64::from_le_bytes(bytes)
    }
    fn st_env(&mut self, off: u32, w: Width, v: u64) {
        let n = w.bytes() as usize;
        self.env[off as usize..][..n].copy_from_slice(&v.to_le_bytes()[..n]);
    }
    fn read_pc(&self, page_off: i32) -> u64 {
        0xFFFF_0000u64.wrapping_add(i64::from(page_off).cast_unsigned())
    }
    fn load(&mut self, seg: u8, off: u64, w: Width) -> Result<u64, Stop> {
        let h = self.observe("load", &[seg.into(), off, w.bytes().into()]);
        if h.is_multiple_of(13) { Err(Stop::Fault(off)) } else { Ok(h & w.mask()) }
    }
    fn store(&mut self, seg: u8, off: u64, w: Width, v: u64) -> Result<(), Stop> {
        let h = self.observe("store", &[seg.into(), off, w.bytes().into(), v]);
        if h.is_multiple_of(13) { Err(Stop::Fault(off)) } else { Ok(()) }
    }
    fn probe(&mut self, seg: u8, off: u64, size: u32, kind: AccessKind) -> Result<u64, Stop> {
        let h = self.observe("probe", &[seg.into(), off, size.into(), kind as u64]);
        if h.is_multiple_of(13) { Err(Stop::Fault(off)) } else { Ok(h) }
    }
    fn ld_ptr(&mut self, p: u64, disp: i32, w: Width) -> u64 {
        mix(p.wrapping_add(i64::from(disp).cast_unsigned()) ^ u64::from(w.bytes())) & w.mask()
    }
    fn st_ptr(&mut self, p: u64, disp: i32, w: Width, v: u64) {
        // Cannot fault: the registers at this moment are nobody's business.
        let values = vec![p, i64::from(disp).cast_unsigned(), w.bytes().into(), v];
        self.log.push(Event { what: "st_ptr", values, gpr: [0; 16], flags: 0 });
    }
    fn call(&mut self, id: u32, args: [u64; 4]) -> Result<u64, Stop> {
        let h = self.observe("call", &[id.into(), args[0], args[1], args[2], args[3]]);
        self.gpr[(h % 16) as usize] ^= h;
        self.flags = (h >> 8) as u32 & 0x8D5;
        if h.is_multiple_of(17) { Err(Stop::Helper(id)) } else { Ok(h) }
    }
    fn simd_enter(&mut self, uses: u8) -> Result<(), Stop> {
        let h = self.observe("simd_enter", &[uses.into()]);
        if h.is_multiple_of(13) { Err(Stop::Fault(uses.into())) } else { Ok(()) }
    }
    fn native(&mut self, native: &Native, io: &mut NativeIo) -> Result<(), Stop> {
        let flags = io.flags & native.reads.eflags();
        let used = |role, v| if native.has(role) { v } else { 0 };
        let mut values = vec![
            native.opcode.into(),
            used(NativeReg::In0, io.gpr[0]),
            used(NativeReg::InOut, io.out),
            flags.into(),
            io.mem.unwrap_or(0),
        ];
        if io.implicit {
            values.extend([self.gpr[0], self.gpr[2]]);
        }
        let h = values.iter().fold(self.salt, |h, &v| mix(h ^ v));
        let traps = native.uses & ir::simd::X87 != 0 || matches!(native.opcode, 0x58 | 0x2F);
        if traps {
            self.observe("native", &values);
            if h.is_multiple_of(13) {
                return Err(Stop::Fault(native.opcode.into()));
            }
        } else {
            self.log.push(Event { what: "native", values, gpr: [0; 16], flags: 0 });
        }
        if io.implicit {
            self.gpr[1] = h >> 9;
        }
        io.out = h;
        io.flags = (h >> 8) as u32 & 0x8D5;
        Ok(())
    }
    fn raise(&mut self, what: u32, code: u64) -> Stop {
        self.observe("raise", &[what.into(), code]);
        Stop::Raise(what, code)
    }
}

/// Runs a block from a seeded state; returns how it ended and the state left.
pub(crate) fn evaluate(block: &Block, seed: u64) -> (End<Stop>, TestGuest) {
    let mut guest = TestGuest::new(seed);
    let end = run(block, &mut guest, &mut Scratch::new());
    (end, guest)
}
