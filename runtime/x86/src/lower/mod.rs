//! Lowering: a decoded instruction to IR ops.
//!
//! The functions in [`tables`] are generated from the bodies in `isa-spec/x86`, one per instruction. They
//! call this context, [`Lower`], which builds a small value graph per instruction, stages every write, and at
//! the end emits the ops a good assembler programmer would write: constants folded, flags asked for only
//! where the flags clause says so, results computed straight into their registers. The back end works in one
//! pass and repairs nothing.
//!
//! Order of an instruction's ops (LANGUAGE.md, "Body"): checks, loads and helper calls in the order of the text; then
//! memory, flags, registers; then the jump. What may fault comes before what is visible.

#[allow(dead_code, reason = "the language's builtins, whether or not a row uses them today")]
mod arith;
#[allow(dead_code, reason = "as above")]
mod boolean;
mod emit;
mod finish;
#[allow(dead_code, reason = "as above")]
mod flow;
#[allow(dead_code, reason = "as above")]
mod kinds;
mod leave;
#[allow(dead_code, reason = "as above")]
mod mem;
mod memo;
mod names;
#[allow(dead_code, reason = "as above")]
mod native;
mod node;
mod operand;
mod privilege;
#[allow(dead_code, reason = "as above")]
mod registers;
mod retarget;
mod segment;
mod show;
#[allow(dead_code, reason = "as above")]
mod state;
mod string;
pub mod tables;
#[cfg(test)]
mod tests;

pub use show::{IrNames, insn_text, spec_show};
pub use tables::helpers::{self, Helpers, dispatch};

use crate::insn::{Form, Insn, prefix};
use crate::mode::Mode;
use boolean::B;
use flow::{IfFrame, Jump};
use ir::{Block, Code, Op, Unit, Val, Width};
use mem::MemState;
pub(crate) use native::waits;
use node::{NO, Node};

/// Attributes of a row that lowering acts on: bits of [`LowerRow::attrs`].
pub mod row {
    /// `cpl0`.
    pub const CPL0: u32 = 1;
    /// `iopl`.
    pub const IOPL: u32 = 1 << 1;
    /// `pe`.
    pub const PE: u32 = 1 << 2;
    /// `ends`.
    pub const ENDS: u32 = 1 << 3;
    /// `shadow`.
    pub const SHADOW: u32 = 1 << 4;
    /// `zext_reg`.
    pub const ZEXT_REG: u32 = 1 << 5;
    /// `rep`.
    pub const REP: u32 = 1 << 6;
    /// `repcc`.
    pub const REPCC: u32 = 1 << 7;
    /// `lock`.
    pub const LOCK: u32 = 1 << 11;
    /// `locked`.
    pub const LOCKED: u32 = 1 << 8;
    /// `noaccess`.
    pub const NOACCESS: u32 = 1 << 9;
    /// `vm86(iopl)`.
    pub const VM86_IOPL: u32 = 1 << 10;
}

/// Exception vectors by their names in the manual.
pub mod vector {
    /// Divide error.
    pub const DE: u32 = 0;
    /// Debug.
    pub const DB: u32 = 1;
    /// Breakpoint.
    pub const BP: u32 = 3;
    /// Overflow.
    pub const OF: u32 = 4;
    /// Bound range exceeded.
    pub const BR: u32 = 5;
    /// Invalid opcode.
    pub const UD: u32 = 6;
    /// Device not available.
    pub const NM: u32 = 7;
    /// Invalid TSS.
    pub const TS: u32 = 10;
    /// Segment not present.
    pub const NP: u32 = 11;
    /// Stack fault.
    pub const SS: u32 = 12;
    /// General protection.
    pub const GP: u32 = 13;
    /// Page fault.
    pub const PF: u32 = 14;
    /// x87 error.
    pub const MF: u32 = 16;
    /// Alignment check.
    pub const AC: u32 = 17;
    /// SIMD floating-point exception.
    pub const XM: u32 = 19;
}

/// In `Raise`'s number: the fault has an error code.
pub const HAS_ERROR_CODE: u32 = 0x100;
/// No bulk helper.
pub const NO_HELPER: u32 = u32::MAX;
/// No operand.
pub const NO_OPERAND: u8 = u8::MAX;

/// What lowering needs of a row beside its `RowInfo`.
#[derive(Clone, Copy, Debug)]
pub struct LowerRow {
    /// Bits of module [`row`].
    pub attrs: u32,
    /// Arithmetic flags the instruction writes, undefined ones included (`FlagMask` bits).
    pub written: u8,
    /// Helper called before an iteration of the repeated insn, or [`NO_HELPER`].
    pub bulk: u32,
    /// Operand that holds the bit offset of a memory operand 0 (`bitbase`), or [`NO_OPERAND`].
    pub bit_index: u8,
    /// Forms of the `with` names, numbered after the row's own operands.
    pub with: &'static [Form],
}

/// A helper as the tables declare it.
#[derive(Clone, Copy, Debug)]
pub struct HelperInfo {
    /// Method name.
    pub name: &'static str,
    /// Number of arguments.
    pub args: u8,
    /// Width of the result in bits, 0 = none.
    pub ret: u8,
    /// It may raise a fault.
    pub faults: bool,
    /// It sets the instruction pointer, and modes may have changed.
    pub ends: bool,
    /// It writes guest memory, perhaps the code that runs.
    pub stores: bool,
    /// It neither reads nor writes CPU state.
    pub pure: bool,
}

/// Where a block stands: what its translation may depend on beside the bytes.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Mode of the code.
    pub mode: Mode,
    /// Instruction pointer of the block's first insn. With `FLAT_CS` only its page offset counts.
    pub ip: u64,
    /// Page offset of the block's first insn (of its linear address).
    pub page_off: u32,
    /// CS limit, inclusive; not looked at with `FLAT_CS`.
    pub cs_limit: u32,
}

impl Place {
    /// Instruction pointer of page offset 0 (wrapping).
    pub const fn ip_base(&self) -> u64 {
        self.ip.wrapping_sub(self.page_off as u64)
    }
    /// Is code position-independent here?
    pub const fn is_flat(&self) -> bool {
        self.mode.has(Mode::FLAT_CS)
    }
    /// Must every insn return to the run loop (trap flag, interrupt shadow, breakpoints)?
    pub const fn is_single_step(&self) -> bool {
        self.mode.has(Mode::SINGLE)
    }
}

/// What happens after an insn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// The next insn follows.
    Next,
    /// The block goes on at this page offset.
    At(u32),
    /// The block has ended on every path.
    End,
}

/// Vectors kept from block to block, so that lowering does not allocate.
#[derive(Default, Debug)]
pub struct Work {
    nodes: Vec<Node>,
    pairs: Vec<(B, B)>,
    steps: Vec<finish::Step>,
    ifs: Vec<IfFrame>,
    jumps: Vec<Jump>,
    cc: Vec<(B, u16)>,
    emitted: Vec<u16>,
    colds: Vec<flow::Cold>,
    memo: memo::Memo,
    names: names::Names,
    /// Units of the block that have names, with their insns and where these stand.
    named: Vec<(usize, Insn, u32)>,
}

/// At most this many operands, `with` names included.
const MAX_OPERANDS: usize = 8;
/// At most this many staged writes.
const MAX_WRITES: usize = 12;

/// Where a staged value goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Dest {
    /// A guest register.
    Reg(Val),
    /// Memory operand by number.
    Mem(u8),
    /// Field of the state by its offset.
    State(u32),
}

/// One staged write.
#[derive(Clone, Copy, Debug)]
struct Write {
    dest: Dest,
    w: Width,
    node: u16,
    /// Memory that a branch of the body leaves alone is not touched unless this holds.
    when: B,
}

impl Write {
    const fn new(dest: Dest, w: Width, node: u16) -> Self {
        Self { dest, w, node, when: B::Const(true) }
    }
    fn is_certain(&self) -> bool {
        self.when == B::Const(true)
    }
}

/// Staged writes: at `if`, a snapshot of this is what the branches start from.
#[derive(Clone, Copy, Debug)]
struct Staged {
    writes: [Write; MAX_WRITES],
    count: usize,
    /// Flags assigned by name, those in `flag_mask`; by bit number of `FlagMask`.
    flags: [B; 6],
    flag_mask: u8,
    df: Option<B>,
}

impl Staged {
    const EMPTY: Self = Self {
        writes: [Write::new(Dest::Mem(0), Width::W8, NO); MAX_WRITES],
        count: 0,
        flags: [B::Const(false); 6],
        flag_mask: 0,
        df: None,
    };

    fn list(&self) -> &[Write] {
        &self.writes[..self.count]
    }

    fn find(&self, dest: Dest) -> Option<Write> {
        self.list().iter().find(|w| w.dest == dest).copied()
    }

    fn value(&self, dest: Dest) -> Option<u16> {
        self.find(dest).map(|w| w.node)
    }

    /// A flag assigned by name.
    fn flag(&self, n: usize) -> Option<B> {
        (self.flag_mask >> n & 1 != 0).then(|| self.flags[n])
    }

    fn set_flag(&mut self, n: usize, b: B) {
        self.flag_mask |= 1 << n;
        self.flags[n] = b;
    }

    /// Stages a write; a later write of the same place moves to the end.
    fn put(&mut self, write: Write) {
        let mut kept = 0;
        for n in 0..self.count {
            if self.writes[n].dest != write.dest {
                self.writes[kept] = self.writes[n];
                kept += 1;
            }
        }
        self.count = kept;
        self.append(write);
    }

    /// Adds a write behind the others.
    fn append(&mut self, write: Write) {
        assert!(self.count < MAX_WRITES, "a body stages more writes than any in the tables");
        self.writes[self.count] = write;
        self.count += 1;
    }
}

/// How a block goes on behind direct jumps within its reach.
#[derive(Clone, Copy)]
pub struct Along<'a> {
    /// Has the code at a page offset run before?
    pub has_run: &'a dyn Fn(u32) -> bool,
    /// Behind forward branches that are not taken.
    pub sides: bool,
    /// Where jumps lead, and once more from the block's start where that is a loop.
    pub loops: bool,
    /// Bytes from the block's first on that it may be made from.
    pub reach: u32,
    /// Most insns of a block that is no loop.
    pub max_insns: u32,
}

impl std::fmt::Debug for Along<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Along")
    }
}

/// The lowering context of a block.
#[derive(Debug)]
pub struct Lower<'a> {
    block: &'a mut Block,
    work: &'a mut Work,
    place: Place,
    // ---- the insn under way
    insn: Insn,
    row: &'static LowerRow,
    /// Number of the row's own operands; `with` names follow.
    own_operands: usize,
    width: Width,
    /// Page offset of the insn.
    at: u32,
    /// Condition of the enclosing `if`s.
    pred: B,
    staged: Staged,
    mem: [MemState; MAX_OPERANDS],
    /// What `push` and `pop` have added to the stack pointer.
    sp_delta: i64,
    marks: u8,
    /// Index of the insn's first op.
    first_op: usize,
    /// Label behind a repeated string insn.
    rep_skip: Option<u32>,
    pc_stored: bool,
    /// Moves into registers have been emitted: the peephole has something to look at.
    has_moves: bool,
    /// The insn's place has gone into its ops as a number.
    knows_place: bool,
    is_counted: bool,
    /// Host address of the insn's immediate, when it is read from there each time the insn runs.
    live_imm: Option<u64>,
    /// It has been used.
    reads_live_imm: bool,
    goes_on: Option<Along<'a>>,
    /// Insns whose names are known are not lowered.
    by_names: bool,
    /// Branches that the block goes on behind.
    sides: u8,
    /// Insns so far, this one included, and how many of them came before the loop's current turn.
    insns: u32,
    turn_at: u32,
    /// Times that the block has begun again.
    turns: u8,
    mismatches: u32,
}

/// Things a body or row asks for at its end: bits of `Lower::marks`.
mod mark {
    /// `exit!()`: the helper has set the instruction pointer.
    pub(super) const EXIT: u8 = 1;
    /// `halt!()`.
    pub(super) const HALT: u8 = 2;
    /// `shadow!()`.
    pub(super) const SHADOW: u8 = 4;
    /// A segment load may have changed the mode, or a helper's store the code.
    pub(super) const LEAVE: u8 = 8;
    /// There are stores.
    pub(super) const STORE: u8 = 16;
    /// There are late calls.
    pub(super) const LATE: u8 = 32;
    /// Fields of the state are written.
    pub(super) const STATE: u8 = 64;
    /// `next!()`: the next insn begins a block.
    pub(super) const NEXT: u8 = 128;
}

impl<'a> Lower<'a> {
    /// Starts a block at `place`; `block` is cleared.
    pub fn new(block: &'a mut Block, work: &'a mut Work, place: Place) -> Self {
        block.clear();
        work.colds.clear();
        work.named.clear();
        Self::within(block, work, place)
    }

    /// Goes on with a block.
    fn within(block: &'a mut Block, work: &'a mut Work, place: Place) -> Self {
        Self {
            block,
            work,
            place,
            insn: EMPTY_INSN,
            row: &EMPTY_ROW,
            own_operands: 0,
            width: Width::W32,
            at: place.page_off,
            pred: B::Const(true),
            staged: Staged::EMPTY,
            mem: [MemState::EMPTY; MAX_OPERANDS],
            sp_delta: 0,
            marks: 0,
            first_op: 0,
            rep_skip: None,
            pc_stored: false,
            has_moves: false,
            knows_place: false,
            is_counted: false,
            live_imm: None,
            reads_live_imm: false,
            goes_on: None,
            by_names: false,
            sides: 0,
            insns: 0,
            turn_at: 0,
            turns: 0,
            mismatches: 0,
        }
    }

    /// For counted runs: flags that an insn leaves undefined are the same on every engine, also where processors leave them alone.
    pub fn counted(self, is_counted: bool) -> Self {
        Self { is_counted, ..self }
    }

    /// Goes on behind direct jumps as `goes_on` says.
    pub fn along(self, goes_on: Option<Along<'a>>) -> Self {
        Self { goes_on, ..self }
    }

    /// Insns whose names are known are not lowered, but can be ([`lower_unit`]).
    pub fn by_names(self, by_names: bool) -> Self {
        Self { by_names: by_names && !self.is_counted && self.goes_on.is_none(), ..self }
    }

    /// Lowers one insn that stands at page offset `at`.
    pub fn lower(&mut self, insn: &Insn, at: u32) -> Flow {
        self.insns += 1;
        if self.by_names && self.live_imm.is_none() {
            self.end_unit();
            if let Some(flow) = self.lower_named(insn, at) {
                return flow;
            }
        }
        self.push_unit();
        let known = if self.live_imm.is_none() { self.known(insn, at) } else { None };
        if let Some(flow) = known.as_ref().and_then(|known| self.recall(known)) {
            return flow;
        }
        let before = self.before();
        let flow = self.lower_fresh(insn, at);
        if let Some(known) = known {
            self.remember(&known, &before, flow);
        }
        flow
    }

    fn lower_fresh(&mut self, insn: &Insn, at: u32) -> Flow {
        self.begin(insn, at);
        self.check_privileges();
        if insn.prefixes & (prefix::REP | prefix::REPNE) != 0
            && self.has_attr(row::REP | row::REPCC)
        {
            self.begin_repeat();
        }
        (tables::LOWER[usize::from(insn.info().insn)])(self);
        let flow = self.finish();
        self.retarget();
        flow
    }

    /// Lowers one insn whose immediate is read from host address `host` whenever the insn runs, so that programs may change it. False
    /// comes back with it where the insn has no use for that: then it is as [`lower`](Self::lower) makes it.
    pub fn lower_live(&mut self, insn: &Insn, at: u32, host: u64) -> (Flow, bool) {
        self.live_imm = Some(host);
        let flow = self.lower(insn, at);
        self.live_imm = None;
        (flow, self.reads_live_imm)
    }

    /// Raises a fault at `at` instead of an insn: bytes that do not decode, or lie beyond the limit.
    pub fn fault(&mut self, at: u32, len: u8, what: u32, code: u64) {
        self.at = at;
        self.push_unit();
        self.push_start(at, len, 1);
        self.push_raise(what, code);
    }

    /// Ends the block before the insn at page offset `next`: control goes there.
    pub fn end(&mut self, next: u32) {
        self.push_unit();
        self.push_goto_page(1, i64::from(next), next <= self.place.page_off);
    }

    /// Has the block begun again from its first insn?
    pub fn is_loop(&self) -> bool {
        self.turns != 0
    }

    /// The block ends and the insn at page offset `next` follows, by way of the jump table.
    pub fn end_far(&mut self, next: u32) {
        self.push_unit();
        self.push_goto_far(i64::from(next));
    }

    /// Does the insn just lowered call the runtime?
    pub fn calls_out(&self) -> bool {
        let own = self.block.ops.iter().rev().take_while(|op| op.code != Code::InsnStart);
        own.into_iter().any(|op| op.code == Code::Call)
    }

    /// Emits the out-of-line parts. No insn may follow.
    pub fn close(&mut self) {
        self.emit_colds();
        self.end_unit();
    }

    /// How often a body combined values of different widths: always 0 unless the tables are wrong.
    pub fn mismatches(&self) -> u32 {
        self.mismatches
    }

    fn begin(&mut self, insn: &Insn, at: u32) {
        let work = &mut *self.work;
        work.nodes.clear();
        work.pairs.clear();
        work.steps.clear();
        work.ifs.clear();
        work.jumps.clear();
        work.cc.clear();
        work.emitted.clear();
        self.insn = *insn;
        self.row = &tables::LOWER_ROWS[usize::from(insn.row)];
        self.own_operands = insn.info().forms.len();
        self.width = self.row_width();
        self.at = at;
        self.pred = B::Const(true);
        self.staged.count = 0;
        self.staged.flag_mask = 0;
        self.staged.df = None;
        self.mem = [MemState::EMPTY; MAX_OPERANDS];
        self.sp_delta = 0;
        self.marks = 0;
        self.rep_skip = None;
        self.pc_stored = false;
        self.has_moves = false;
        self.knows_place = false;
        self.reads_live_imm = false;
        self.first_op = self.block.ops.len();
        self.push_start(at, insn.len, 0);
    }

    /// A part of the block begins that shares no temporary with those before.
    fn push_unit(&mut self) {
        self.end_unit();
        if self.goes_on.is_none() {
            self.block.units.push(Unit::anonymous(self.block.ops.len()));
        }
    }

    /// The part that began last ends here, if it has no end yet.
    fn end_unit(&mut self) {
        let here = self.block.ops.len();
        if let Some(last) = self.block.units.last_mut() {
            last.ops.end = last.ops.end.min(here);
        }
    }

    fn push_start(&mut self, at: u32, len: u8, may_fault: u8) {
        let mut op = Op::new(Code::InsnStart, Width::W32);
        op.imm = at;
        op.x = len;
        op.y = may_fault;
        self.block.push(op);
    }

    fn has_attr(&self, bits: u32) -> bool {
        self.row.attrs & bits != 0
    }

    /// `W`.
    fn w(&self) -> Width {
        self.width
    }
    /// `A`.
    fn a(&self) -> Width {
        Width::from_bits(u32::from(self.insn.asz))
    }
    /// `S`.
    fn s(&self) -> Width {
        let mode = self.place.mode;
        if mode.has(Mode::CODE64) {
            Width::W64
        } else if mode.has(Mode::STACK32) {
            Width::W32
        } else {
            Width::W16
        }
    }
    /// `2*W`.
    fn w2(&self) -> Width {
        Width::from_bits(2 * self.width.bits())
    }
    /// Width of an instruction pointer.
    fn ip_width(&self) -> Width {
        if self.place.mode.has(Mode::CODE64) { Width::W64 } else { Width::W32 }
    }
    /// Page offset behind the insn.
    fn next(&self) -> i64 {
        i64::from(self.at) + i64::from(self.insn.len)
    }
}

/// Lowers the insn of unit `number` of a block lowered by names at `place`: its ops come behind all others.
pub fn lower_unit(block: &mut Block, work: &mut Work, place: Place, number: usize) {
    Lower::within(block, work, place).lower_unit(number);
}

static EMPTY_ROW: LowerRow =
    LowerRow { attrs: 0, written: 0, bulk: NO_HELPER, bit_index: NO_OPERAND, with: &[] };

/// What the context holds before its first insn.
const EMPTY_INSN: Insn = Insn {
    row: 0,
    len: 0,
    opcode: 0,
    modrm: 0,
    sib: 0,
    has_sib: false,
    rex: 0,
    vl: 0,
    vvvv: 0,
    seg: 0,
    osz: 32,
    asz: 32,
    prefixes: 0,
    disp: 0,
    imm: 0,
    imm2: 0,
};
