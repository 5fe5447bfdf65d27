//! Spans: one check for accesses that lie close together.
//!
//! Where the addresses of accesses differ by constants known here (fields of a structure, a stack frame, pushes), the first is
//! preceded by a `span`, a check of all the bytes that they touch; they themselves become accesses through its pointer. A span
//! that does not hold leaves at the start of its insn, and a translation without spans goes on. Hence it may stand only where
//! its insn has done nothing yet that must not be done twice. What may change a mapping ends all spans: only helpers can.
//!
//! What a block has loaded or stored is remembered (`held`).
//!
//! Offsets of 16 bits are counted modulo 64 KiB, in segments that end there: a span that does not fit in between does not hold.
//!
//! One walk forward finds for each address the *root* it is counted from (a register's or temporary's value that nothing more
//! is known of) and its distance; a second one forms the spans; a third rewrites.

mod held;

use super::sums::sums;
use super::{LiveAtExit, Passes, copies, dead_code, flag_liveness};
use crate::{AccessKind, Block, Code, Op, Scratch, Val, Width};
use held::Memory;

/// Most bytes of a span: it holds only if all of them are in one page.
const LIMIT: u64 = 512;
/// Most accesses looked at in a block.
const MOST: usize = 96;
/// Most sums and products that are recognized as equal.
const MADE: usize = 48;
/// How often spans are formed before memory is no longer asked what it holds.
const ROUNDS: usize = 4;

/// Segments whose accesses may share checks, a bit each.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Segments {
    /// Offsets are linear addresses.
    pub flat: u8,
    /// They begin anywhere and have 64 KiB: for offsets of 16 bits.
    pub short: u8,
}

/// Forms spans of accesses by these segments, and tidies up what they make superfluous. Are there any?
pub fn spans(
    block: &mut Block,
    scratch: &mut Scratch,
    passes: Passes,
    live: LiveAtExit,
    segments: Segments,
) -> bool {
    let mut work = std::mem::take(&mut scratch.pass.spans);
    let found = work.find_and_form(block, passes, segments);
    if found {
        work.rewrite(block);
    }
    scratch.pass.spans = work;
    if !found {
        return false;
    }
    scratch.pass.flags_after.clear();
    scratch.pass.flags_are_current = false;
    scratch.pass.uses_are_current = false;
    if passes.has(Passes::COPY) {
        copies(block, scratch);
        scratch.pass.uses_are_current = true;
    }
    if passes.has(Passes::FOLD) {
        // Each temporary is read as often as before: an op that goes leaves its base to the one it is joined with.
        sums(block, scratch);
    }
    if passes.has(Passes::DEAD) {
        dead_code(block, scratch);
    }
    if passes.has(Passes::FLAGS) {
        flag_liveness(block, scratch, live);
    }
    true
}

/// A value: so much more than its root.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Value {
    root: u32,
    off: u64,
}

/// How a root was made of others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Made {
    Sum(u32, u32),
    Shifted(u32, u8),
    /// The instruction pointer of the page's first byte.
    Page,
    /// 0.
    Zero,
}

#[derive(Clone, Copy, Debug)]
struct Access {
    op: u32,
    /// Which insn it belongs to.
    insn: u32,
    /// Accesses of different stretches share nothing.
    stretch: u32,
    seg: u8,
    at: Value,
    /// A register with the same root, and its distance.
    base: Val,
    base_off: u64,
    size: u8,
    /// log2 of what the address must be a multiple of.
    align: u8,
    writes: bool,
    /// Its insn has done something before it that must not be done twice.
    is_late: bool,
    span: Option<u16>,
}

/// Accesses under one check.
#[derive(Clone, Copy, Debug)]
struct Span {
    first: u16,
    count: u16,
    min: u64,
    bytes: u64,
    align: u8,
    writes: bool,
    /// Its pointer, once it is made.
    pointer: Val,
}

/// Working memory of the pass.
#[derive(Default, Debug)]
pub(crate) struct Work {
    registers: [Value; 16],
    /// With the number of labels before.
    temps: Vec<(u32, Value)>,
    made: Vec<(Made, u32)>,
    roots: u32,
    labels: u32,
    stretch: u32,
    insn: u32,
    is_late: bool,
    width: Option<Width>,
    memory: Memory,
    /// Which access the op under way is, if it is one that can be in a span.
    followed: Option<usize>,
    accesses: Vec<Access>,
    spans: Vec<Span>,
    ops: Vec<Op>,
    /// Pointers that lie in a span: at a distance from its pointer.
    pointers: Vec<Option<(Val, u32)>>,
}

impl Work {
    fn begin(&mut self, block: &Block) {
        (self.roots, self.labels, self.stretch, self.insn) = (0, 0, 0, 0);
        self.is_late = false;
        super::reset(&mut self.temps, block.temps.len());
        self.temps.fill((u32::MAX, Value::default()));
        self.made.clear();
        self.accesses.clear();
        self.spans.clear();
        self.forget_registers();
        let is_access = |op: &&Op| matches!(op.code, Code::Ld | Code::St | Code::Ptr);
        let mut widths = block.ops.iter().filter(is_access).map(|op| Width::from_code(op.y));
        self.width = widths.next();
        self.followed = None;
        self.memory.begin(self.width.map_or(0, Width::mask));
    }
    fn fresh(&mut self) -> Value {
        self.roots += 1;
        Value { root: self.roots, off: 0 }
    }
    fn forget_registers(&mut self) {
        for n in 0..16 {
            self.registers[n] = self.fresh();
        }
    }
    fn root_of(&mut self, made: Made) -> Value {
        if let Some(&(_, root)) = self.made.iter().find(|(known, _)| *known == made) {
            return Value { root, off: 0 };
        }
        let value = self.fresh();
        if self.made.len() < MADE {
            self.made.push((made, value.root));
        }
        value
    }
    fn value(&mut self, block: &Block, v: Val) -> Value {
        if let Some(n) = v.as_gpr() {
            return self.registers[usize::from(n)];
        }
        if let Some(off) = block.const_of(v) {
            let zero = self.root_of(Made::Zero);
            return Value { off, ..zero };
        }
        let fresh = self.fresh();
        let labels = self.labels;
        match v.as_temp().and_then(|t| self.temps.get_mut(usize::from(t))) {
            Some(slot) if slot.0 == labels => slot.1,
            Some(slot) => {
                *slot = (labels, fresh);
                fresh
            }
            None => fresh,
        }
    }
    fn set(&mut self, v: Val, value: Value) {
        let labels = self.labels;
        if let Some(n) = super::register_of(v) {
            self.registers[n & 15] = value;
        } else if let Some(t) = v.as_temp()
            && let Some(slot) = self.temps.get_mut(usize::from(t))
        {
            *slot = (labels, value);
        }
    }

    /// Collects the accesses and forms spans; are there any?
    fn find_and_form(&mut self, block: &Block, passes: Passes, segments: Segments) -> bool {
        self.memory.begin_block(passes.has(Passes::REUSE));
        for round in 0.. {
            self.memory.is_on &= round < ROUNDS;
            self.find(block, segments);
            let found = self.form();
            if found {
                self.form_alone();
            }
            if !found || self.memory.is_sound(&self.accesses) {
                return found;
            }
        }
        false
    }

    /// Collects the accesses.
    fn find(&mut self, block: &Block, segments: Segments) {
        self.begin(block);
        let Some(width) = self.width else { return };
        let is_short = width == Width::W16;
        let allowed = if is_short { segments.short } else { segments.flat };
        // Values are known but for their upper bits.
        self.memory.is_on &= !is_short;
        let mut last = None;
        for (n, op) in block.ops.iter().enumerate() {
            match op.code {
                Code::InsnStart => {
                    // A part out of line names its insn again behind its label, and may have done something.
                    let is_label = n > 0 && block.ops[n - 1].code == Code::Label;
                    self.is_late = is_label && last.is_some_and(|last| op.imm <= last);
                    last = last.max(Some(op.imm));
                    self.insn += 1;
                    continue;
                }
                Code::Label => {
                    self.labels += 1;
                    self.stretch += 1;
                    self.is_late = true;
                    self.made.clear();
                    self.memory.forget();
                    self.forget_registers();
                    continue;
                }
                Code::Ld | Code::St | Code::Ptr => {
                    let before = self.accesses.len();
                    self.access(block, n, op, allowed);
                    self.followed = (self.accesses.len() > before).then_some(before);
                    if op.code != Code::Ld {
                        self.stored(block, op, width);
                    }
                }
                Code::Call => {
                    self.stretch += 1;
                    self.memory.forget();
                }
                // It might be where a segment begins.
                Code::StEnv if is_short => self.stretch += 1,
                Code::StH | Code::Native | Code::Bulk => self.memory.forget(),
                _ => {}
            }
            self.is_late |= matches!(
                op.code,
                Code::Call | Code::StEnv | Code::LdH | Code::StH | Code::Native | Code::Putf
            ) || super::register_of(op.d).is_some();
            self.results(block, op, width);
        }
    }

    fn access(&mut self, block: &Block, n: usize, op: &Op, allowed: u8) {
        let is_short = self.width == Some(Width::W16);
        let is_odd = is_short && op.code == Code::Ptr && op.is_aligned();
        let fits = self.width == Some(Width::from_code(op.y)) && allowed >> op.x & 1 != 0;
        if !fits || is_odd || self.accesses.len() >= MOST {
            self.is_late = true;
            self.memory.forget();
            return;
        }
        let at = self.value(block, op.a);
        let near = self.registers.iter().position(|r| r.root == at.root);
        let (base, base_off) = match near {
            Some(r) => (Val::gpr(r as u8), self.registers[r].off),
            None => (op.a, at.off),
        };
        let (size, align, writes) = match op.code {
            Code::Ptr => {
                let size = op.access_bytes() as u8;
                let align = if op.is_aligned() { size.trailing_zeros() as u8 } else { 0 };
                (size, align, op.access_kind() != AccessKind::R)
            }
            code => (op.w.bytes() as u8, 0, code == Code::St),
        };
        self.accesses.push(Access {
            op: n as u32,
            insn: self.insn,
            stretch: self.stretch,
            seg: op.x,
            at,
            base,
            base_off,
            size,
            align,
            writes,
            is_late: self.is_late,
            span: None,
        });
    }

    /// What an op makes of what.
    fn results(&mut self, block: &Block, op: &Op, width: Width) {
        if op.code == Code::Call || op.is_implicit() {
            self.forget_registers();
        }
        let fresh = self.fresh();
        let known = match op.code {
            Code::Ld => self.loaded(op, fresh),
            // All but the upper bits of a wider result follow from those of what it is made of.
            _ if op.w == width || width == Width::W16 && op.w > width => self.computed(block, op),
            _ => None,
        };
        if !op.d.is_none() && op.code.shape().d != crate::Role::No {
            self.set(op.d, known.unwrap_or(fresh));
        }
        if let Some(e) = op.second_result() {
            let fresh = self.fresh();
            self.set(e, fresh);
        }
    }
    /// What a load, the latest access if it is one that is followed, makes.
    fn loaded(&mut self, op: &Op, fresh: Value) -> Option<Value> {
        let n = self.followed?;
        let access = &self.accesses[n];
        let known = self.memory.load(n, access, op, &self.registers);
        if known.is_none() {
            self.memory.loaded(n, access, op, fresh);
        }
        known
    }
    /// A store or a pointer to be written by changes what memory holds.
    fn stored(&mut self, block: &Block, op: &Op, width: Width) {
        let is_store = op.code == Code::St;
        match self.followed {
            Some(n) if is_store => {
                let value = self.value(block, op.b);
                self.memory.store(n, &self.accesses[n], op, value, op.w == width);
            }
            _ if is_store || op.access_kind() != AccessKind::R => self.memory.forget(),
            _ => {}
        }
    }
    fn computed(&mut self, block: &Block, op: &Op) -> Option<Value> {
        let constant = block.const_of(op.b);
        match op.code {
            Code::Mov => Some(self.value(block, op.a)),
            Code::Extu | Code::Exts
                if op.x == Width::W16 as u8 && self.width == Some(Width::W16) =>
            {
                Some(self.value(block, op.a))
            }
            Code::ReadPc => {
                let page = self.root_of(Made::Page);
                Some(Value { off: i64::from(op.imm.cast_signed()) as u64, ..page })
            }
            Code::Add | Code::Sub if constant.is_some() => {
                let n = constant.unwrap_or(0);
                let n = if op.code == Code::Sub { n.wrapping_neg() } else { n };
                let a = self.value(block, op.a);
                Some(Value { off: a.off.wrapping_add(n), ..a })
            }
            Code::Add => {
                let (a, b) = (self.value(block, op.a), self.value(block, op.b));
                Some(self.sum(a, b))
            }
            Code::Lea => {
                let b = self.value(block, op.b);
                let b = self.shifted(b, op.x & 3);
                let sum = match op.a.is_none() {
                    true => b,
                    false => {
                        let a = self.value(block, op.a);
                        self.sum(a, b)
                    }
                };
                let disp = i64::from(op.imm.cast_signed()) as u64;
                Some(Value { off: sum.off.wrapping_add(disp), ..sum })
            }
            Code::Shl => {
                let count = u8::try_from(constant?).ok().filter(|&n| n < 8)?;
                let a = self.value(block, op.a);
                Some(self.shifted(a, count))
            }
            _ => None,
        }
    }
    fn sum(&mut self, a: Value, b: Value) -> Value {
        let sum = self.root_of(Made::Sum(a.root.min(b.root), a.root.max(b.root)));
        Value { off: a.off.wrapping_add(b.off), ..sum }
    }
    fn shifted(&mut self, a: Value, count: u8) -> Value {
        if count == 0 {
            return a;
        }
        let shifted = self.root_of(Made::Shifted(a.root, count));
        Value { off: a.off << count, ..shifted }
    }
}

impl Work {
    /// The distance from one offset to another, as addresses are counted.
    fn distance(&self, from: u64, to: u64) -> i64 {
        let d = to.wrapping_sub(from);
        match self.width {
            Some(Width::W64) => d as i64,
            Some(Width::W16) => i64::from(d as i16),
            _ => i64::from(d as i32),
        }
    }

    /// Forms the spans; are there any?
    fn form(&mut self) -> bool {
        for n in 0..self.accesses.len() {
            if self.accesses[n].span.is_some() || !self.may_lead(n) {
                continue;
            }
            let id = self.spans.len() as u16;
            let span = self.grow(n, id);
            if span.count > 1 {
                self.spans.push(span);
            } else {
                self.accesses[n].span = None;
            }
        }
        !self.spans.is_empty()
    }
    /// Forms spans of single accesses that stand between a value's coming to memory and its use: they, too, must reach plain RAM then.
    fn form_alone(&mut self) {
        for n in 0..self.memory.uses() {
            let Some((from, to)) = self.memory.between(n, &self.accesses) else { continue };
            if (from..=to).all(|m| self.accesses[m].span.is_some() || self.may_lead(m)) {
                for m in from..=to {
                    if self.accesses[m].span.is_none() {
                        let span = self.grow(m, self.spans.len() as u16);
                        self.spans.push(span);
                    }
                }
            }
        }
    }
    /// Could its insn begin anew when it has come to this access?
    fn may_lead(&self, n: usize) -> bool {
        let access = &self.accesses[n];
        let before = self.accesses[..n].iter().rev().take_while(|a| a.insn == access.insn);
        !access.is_late && before.clone().all(|a| a.span.is_some() && !a.writes)
    }
    /// A span of access `n` and what shares its root.
    fn grow(&mut self, n: usize, id: u16) -> Span {
        let first = self.accesses[n];
        let mut span = Span {
            first: n as u16,
            count: 0,
            min: first.at.off,
            bytes: u64::from(first.size),
            align: first.align,
            writes: false,
            pointer: Val::NONE,
        };
        for m in n..self.accesses.len() {
            let a = self.accesses[m];
            if a.stretch != first.stretch {
                break;
            }
            if a.span.is_some() || a.at.root != first.at.root || a.seg != first.seg {
                continue;
            }
            if let Some(wider) = self.with(&span, &a) {
                span = wider;
                self.accesses[m].span = Some(id);
            }
        }
        span
    }
    /// A span that covers `a`, too, if that can be: the alignments must go together.
    fn with(&self, span: &Span, a: &Access) -> Option<Span> {
        let mut from = self.distance(span.min, a.at.off).min(0);
        let to = self.distance(span.min, a.at.off).checked_add(i64::from(a.size))?;
        let to = to.max(span.bytes as i64);
        if !(-(LIMIT as i64)..=0).contains(&from) {
            return None;
        }
        // Distances from the first byte of a span are multiples of what it is aligned to.
        let unit = |log: u8| (1i64 << log) - 1;
        let align = span.align.max(a.align);
        if span.align > a.align {
            let misfit = self.distance(span.min, a.at.off) & unit(a.align) != 0;
            from &= !unit(span.align);
            if misfit {
                return None;
            }
        } else if a.align > 0 {
            let rest = (self.distance(span.min, a.at.off) - from) & unit(a.align);
            let moved = if rest == 0 { 0 } else { unit(a.align) + 1 - rest };
            if (from - moved) & unit(span.align) != 0 {
                return None;
            }
            from -= moved;
        }
        let bytes = (to - from) as u64;
        (bytes <= LIMIT).then(|| Span {
            count: span.count + 1,
            min: span.min.wrapping_add(from as u64),
            bytes,
            align,
            writes: span.writes || a.writes,
            ..*span
        })
    }

    /// Puts the spans in place.
    fn rewrite(&mut self, block: &mut Block) {
        self.ops.clear();
        super::reset(&mut self.pointers, block.temps.len());
        let mut next = 0;
        for n in 0..block.ops.len() {
            let mut op = block.ops[n];
            let access = self.accesses.get(next).filter(|a| a.op as usize == n).copied();
            if let Some(access) = access {
                next += 1;
                if let Some(id) = access.span.map(usize::from) {
                    if usize::from(self.spans[id].first) == next - 1 {
                        self.lead(block, id, &access, &op);
                    }
                    op = match self.memory.instead(next - 1) {
                        Some(a) => Op { d: op.d, a, ..Op::new(Code::Mov, op.w) },
                        None => self.follow(block, id, &access, &op),
                    };
                }
            } else if matches!(op.code, Code::LdH | Code::StH)
                && let Some((pointer, off)) = self.pointer(op.a)
            {
                op.a = pointer;
                op.imm = op.imm.wrapping_add(off);
            }
            self.ops.push(op);
        }
        std::mem::swap(&mut self.ops, &mut block.ops);
    }
    fn pointer(&self, v: Val) -> Option<(Val, u32)> {
        v.as_temp().and_then(|t| self.pointers.get(usize::from(t)).copied().flatten())
    }
    /// The check, before its first access.
    fn lead(&mut self, block: &mut Block, id: usize, access: &Access, op: &Op) {
        let span = self.spans[id];
        let width = self.width.unwrap_or(Width::W64);
        let mut a = op.a;
        if span.min != access.at.off {
            let by = self.distance(access.base_off, span.min) as u64 & width.mask();
            a = access.base;
            if by != 0 {
                let (d, b) = (block.temp(width), block.constant(by));
                self.ops.push(Op { d, a, b, ..Op::new(Code::Add, width) });
                a = d;
            }
            if width == Width::W16 {
                let d = block.temp(Width::W32);
                self.ops.push(Op { d, a, x: width as u8, ..Op::new(Code::Extu, Width::W32) });
                a = d;
            }
        }
        let pointer = block.temp(Width::W64);
        let kind = if span.writes { AccessKind::Rw } else { AccessKind::R };
        let check = Op::span(pointer, a, span.bytes as u32, kind, span.align.into());
        self.ops.push(Op { x: op.x, y: op.y, ..check });
        self.spans[id].pointer = pointer;
    }
    /// The access through the span's pointer.
    fn follow(&mut self, block: &mut Block, id: usize, access: &Access, op: &Op) -> Op {
        let span = self.spans[id];
        let off = self.distance(span.min, access.at.off) as u32;
        let a = span.pointer;
        match op.code {
            Code::Ld => Op { d: op.d, a, imm: off, ..Op::new(Code::LdH, op.w) },
            Code::St => Op { b: op.b, a, imm: off, ..Op::new(Code::StH, op.w) },
            _ => {
                if let Some(slot) =
                    op.d.as_temp().and_then(|t| self.pointers.get_mut(usize::from(t)))
                {
                    *slot = Some((a, off));
                }
                if off == 0 {
                    return Op { d: op.d, a, ..Op::new(Code::Mov, Width::W64) };
                }
                let b = block.constant(off.into());
                Op { d: op.d, a, b, ..Op::new(Code::Add, Width::W64) }
            }
        }
    }
}
