//! Block front end: guest bytes to a block of ops.
//!
//! A block ends at a jump, where the mode may change, after a number of insns, and at the page end; an insn
//! that crosses the page end forms a block of its own. Bytes that cannot run become the fault they raise,
//! at their place. Only a page that is not there is the caller's business, because only it can raise that fault.

use crate::decode::{Features, MAX_LEN, ROWS, decode};
use crate::insn::{CodeSize, DecodeError, Insn};
use crate::lower::{Along, Flow, HAS_ERROR_CODE, Lower, Place, Work, lower_unit, vector};
use crate::mode::Mode;
use ir::{Block, Code, FlagMask};

/// Default for the most insns in a block.
pub const MAX_INSNS: u32 = 64;
const PAGE: u32 = 4096;
/// How many insns [`flags_dead_at`] looks at.
const PEEK_INSNS: usize = 4;

/// Guest code from the block's first byte on.
#[derive(Clone, Copy, Debug)]
pub struct CodeBytes<'a> {
    /// Up to the end of the page.
    pub page: &'a [u8],
    /// The first bytes of the page that follows in linear memory (15 are enough), if it is known to be
    /// executable. May be left out at first: [`BuildError::NeedsNextPage`] asks for it.
    pub next: Option<&'a [u8]>,
}

/// One insn of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InsnInfo {
    /// Page offset of its first byte.
    pub page_off: u16,
    /// Length in bytes.
    pub len: u8,
    /// Row, or [`NO_ROW`] for bytes that raise a fault.
    pub row: u16,
}

/// Row of bytes that are no insn.
pub const NO_ROW: u16 = u16::MAX;

/// What is known about a built block beside its ops.
#[derive(Clone, Debug, Default)]
pub struct BlockInfo {
    /// Its insns in order.
    pub insns: Vec<InsnInfo>,
    /// Guest bytes it was made from, from its first byte on; some in between may not be part of it.
    pub bytes: u32,
    /// Its one insn reaches into the next page.
    pub crosses_page: bool,
    /// It is several turns of a loop.
    pub is_loop: bool,
    /// Page offsets that its `goto_tb` slots lead to.
    pub slots: [Option<u16>; 2],
    /// Page offset and length of immediates that it reads when it runs: it does not rest on these bytes.
    pub live: Vec<(u16, u8)>,
}

impl BlockInfo {
    fn clear(&mut self) {
        self.insns.clear();
        self.bytes = 0;
        self.crosses_page = false;
        self.is_loop = false;
        self.slots = [None; 2];
        self.live.clear();
    }

    fn add(&mut self, at: u32, len: u8, row: u16) {
        self.insns.push(InsnInfo { page_off: at as u16, len, row }); // below 4096
        let first = self.insns.first().map_or(0, |first| u32::from(first.page_off));
        self.bytes = self.bytes.max((at + u32::from(len)).saturating_sub(first));
    }
}

/// Why there is no block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BuildError {
    /// The first insn reaches into the next page, whose bytes were not given: give them, or raise the fault
    /// that fetching them raises.
    NeedsNextPage,
}

/// What of the processor and of the request a block depends on, beside its place.
#[derive(Clone, Copy, Debug)]
pub struct BuildConfig {
    /// What the processor has.
    pub features: Features,
    /// Most insns in the block.
    pub max_insns: u32,
    /// For counted runs: an insn that calls the runtime is the last of its block, so that what it sets off comes right behind it.
    pub counted: bool,
}

/// Bytes that a program keeps changing, and where the host has the code.
#[derive(Clone, Copy, Debug)]
pub struct Changing {
    /// A bit for each byte from the block's first on.
    pub bytes: [u64; 4],
    /// Host address of the block's first byte.
    pub host: u64,
}

impl Changing {
    /// How many bytes there are bits for.
    pub const REACH: u32 = 256;

    /// Host address of the immediate of an insn, `from` bytes from the block's start, if its immediate changes and nothing else.
    fn immediate(&self, insn: &Insn, from: u32) -> Option<u64> {
        let imm = insn.only_immediate()?;
        let imm_from = from + u32::from(insn.len - imm);
        let mut any = false;
        for at in (from..from + u32::from(insn.len)).filter(|&at| at < Self::REACH) {
            let is_changing = self.bytes[at as usize / 64] >> (at % 64) & 1 != 0;
            if is_changing && at < imm_from {
                return None;
            }
            any |= is_changing;
        }
        any.then(|| self.host + u64::from(imm_from))
    }
}

/// Reused memory of [`build`].
#[derive(Default, Debug)]
pub struct Scratch {
    work: Work,
    /// What the next block's program keeps changing: immediates of such bytes are read when they are used.
    pub changing: Option<Changing>,
    /// Page offsets at which blocks end and others begin: where somebody wants to stop.
    pub stops: Option<Box<Offsets>>,
    /// Insns whose names are known are not lowered: whoever wants their ops all the same asks for them ([`Scratch::lower_unit`]).
    pub by_names: bool,
}

impl Scratch {
    /// Lowers unit `number` of the block just built at `place`. False if it was lowered before.
    pub fn lower_unit(&mut self, block: &mut Block, place: Place, number: usize) -> bool {
        block.units.get(number).is_some_and(|unit| unit.ops.is_empty()) && {
            lower_unit(block, &mut self.work, place, number);
            true
        }
    }
}

/// A set of page offsets.
#[derive(Clone, Debug)]
pub struct Offsets([u64; 64]);

impl FromIterator<u32> for Offsets {
    fn from_iter<I: IntoIterator<Item = u32>>(offsets: I) -> Self {
        let mut set = Self([0; 64]);
        for at in offsets.into_iter().filter(|&at| at < PAGE) {
            set.0[at as usize / 64] |= 1 << (at % 64);
        }
        set
    }
}

impl Offsets {
    fn has(&self, at: u32) -> bool {
        self.0.get(at as usize / 64).is_some_and(|word| word >> (at % 64) & 1 != 0)
    }
}

/// Width of code in a mode.
pub const fn code_size(mode: Mode) -> CodeSize {
    if mode.has(Mode::CODE64) {
        CodeSize::Bits64
    } else if mode.has(Mode::CODE32) {
        CodeSize::Bits32
    } else {
        CodeSize::Bits16
    }
}

/// Decodes and lowers the block at `place`.
///
/// # Errors
/// When the first insn needs bytes of a page that was not given.
pub fn build(
    code: &CodeBytes<'_>,
    place: Place,
    config: &BuildConfig,
    scratch: &mut Scratch,
    block: &mut Block,
    info: &mut BlockInfo,
) -> Result<(), BuildError> {
    build_along(code, place, config, scratch, (block, info), None)
}

/// The same for a block that goes on behind direct jumps as `goes_on` says.
///
/// # Errors
/// See [`build`].
pub fn build_along(
    code: &CodeBytes<'_>,
    place: Place,
    config: &BuildConfig,
    scratch: &mut Scratch,
    (block, info): (&mut Block, &mut BlockInfo),
    goes_on: Option<Along<'_>>,
) -> Result<(), BuildError> {
    info.clear();
    let size = code_size(place.mode);
    let max_insns = if place.is_single_step() { 1 } else { config.max_insns.max(1) };
    let changing = scratch.changing;
    let stops = scratch.stops.as_deref();
    let by_names = scratch.by_names && changing.is_none() && goes_on.is_none() && !config.counted;
    let lower = Lower::new(block, &mut scratch.work, place).counted(config.counted);
    let mut lower = lower.along(goes_on).by_names(by_names);
    let mut at = place.page_off;
    let page_rest = PAGE.saturating_sub(at) as usize;
    loop {
        let count = info.insns.len() as u32;
        let rest = code.page.get((at - place.page_off) as usize..).unwrap_or_default();
        let most = if lower.is_loop() { 2 * max_insns } else { max_insns };
        let is_stop = count > 0 && stops.is_some_and(|stops| stops.has(at));
        if count >= most || at >= PAGE || (rest.is_empty() && count > 0) || is_stop {
            lower.end(at);
            break;
        }
        let decoded = match decode(rest, size, &config.features) {
            Err(DecodeError::Truncated) if count > 0 => {
                // What crosses the page's end is never linked to.
                let crosses = (at - place.page_off) as usize + rest.len() >= page_rest;
                if crosses {
                    lower.end_far(at)
                } else {
                    lower.end(at)
                }
                break;
            }
            Err(DecodeError::Truncated) => {
                info.crosses_page = true;
                decode_across(rest, code.next, size, &config.features)?
            }
            decoded => decoded,
        };
        match add_insn(&mut lower, place, at, decoded, changing.as_ref(), info) {
            Flow::End => break,
            Flow::Next => at += info.insns.last().map_or(0, |insn| u32::from(insn.len)),
            Flow::At(next) => at = next,
        }
        if info.crosses_page {
            lower.end(at);
            break;
        }
        if config.counted && lower.calls_out() {
            lower.end(at);
            break;
        }
    }
    lower.close();
    info.is_loop = lower.is_loop();
    if by_names && block.units.is_empty() {
        // Its insns share values with out-of-line parts: all are lowered.
        scratch.by_names = false;
        let built = build_along(code, place, config, scratch, (block, info), goes_on);
        scratch.by_names = true;
        return built;
    }
    note_slots(block, info);
    Ok(())
}

/// Decodes an insn that begins in one page and ends in the next.
fn decode_across(
    rest: &[u8],
    next: Option<&[u8]>,
    size: CodeSize,
    features: &Features,
) -> Result<Result<Insn, DecodeError>, BuildError> {
    let next = next.ok_or(BuildError::NeedsNextPage)?;
    let mut bytes = [0; 2 * MAX_LEN];
    let head = rest.len().min(MAX_LEN);
    let tail = next.len().min(MAX_LEN);
    bytes[..head].copy_from_slice(&rest[..head]);
    bytes[head..head + tail].copy_from_slice(&next[..tail]);
    match decode(&bytes[..head + tail], size, features) {
        Err(DecodeError::Truncated) => Err(BuildError::NeedsNextPage),
        decoded => Ok(decoded),
    }
}

/// Lowers one insn, or what its bytes raise.
fn add_insn(
    lower: &mut Lower<'_>,
    place: Place,
    at: u32,
    decoded: Result<Insn, DecodeError>,
    changing: Option<&Changing>,
    info: &mut BlockInfo,
) -> Flow {
    let len = match &decoded {
        Ok(insn) => insn.len,
        Err(DecodeError::Undefined { len }) => *len,
        Err(DecodeError::TooLong | DecodeError::Truncated) => MAX_LEN as u8,
    };
    let is_inside = is_within_limit(place, at, len);
    match decoded {
        Ok(insn) if is_inside => {
            info.add(at, len, insn.row);
            let Some(host) = changing.and_then(|c| c.immediate(&insn, at - place.page_off)) else {
                return lower.lower(&insn, at);
            };
            let (flow, is_live) = lower.lower_live(&insn, at, host);
            if let (true, Some(imm)) = (is_live, insn.only_immediate()) {
                info.live.push((at as u16 + u16::from(len - imm), imm)); // below 4096
            }
            return flow;
        }
        Err(DecodeError::Undefined { .. }) if is_inside => lower.fault(at, len, vector::UD, 0),
        // Beyond the segment limit, or more than 15 bytes (SDM Vol. 3A, "General Protection Exception").
        _ => lower.fault(at, len, vector::GP | HAS_ERROR_CODE, 0),
    }
    info.add(at, len, NO_ROW);
    Flow::End
}

/// Do these bytes lie within the code segment?
fn is_within_limit(place: Place, at: u32, len: u8) -> bool {
    if place.is_flat() {
        return true;
    }
    let ip = place.ip_base().wrapping_add(u64::from(at)) & 0xFFFF_FFFF;
    ip + u64::from(len.max(1)) - 1 <= u64::from(place.cs_limit)
}

/// Records where the chained ends lead.
fn note_slots(block: &Block, info: &mut BlockInfo) {
    for op in block.ops.iter().filter(|op| op.code == Code::GotoTb) {
        if let Some(slot) = info.slots.get_mut(usize::from(op.x)) {
            *slot = Some(op.imm as u16); // below 4096
        }
    }
}

/// Arithmetic flags that the code at the start of `bytes` certainly overwrites before it reads them and before
/// anything that may fault, leave or touch memory; and which of the bytes say so, a bit each (immediates tell nothing). Looks at a few
/// insns; empty when in doubt.
pub fn flags_dead_at(bytes: &[u8], size: CodeSize, features: &Features) -> (FlagMask, u64) {
    let (mut dead, mut live, mut at, mut looked_at, mut relied_on) = (0, 0, 0, 0, 0);
    for _ in 0..PEEK_INSNS {
        let rest = bytes.get(at..).unwrap_or_default();
        let Ok(insn) = decode(rest, size, features) else { break };
        let row = &ROWS[usize::from(insn.row)];
        live |= row.reads & !dead;
        let len = usize::from(insn.len);
        if may_fault(&insn) || at + len > 64 {
            break;
        }
        let telling = len - usize::from(insn.only_immediate().unwrap_or(0));
        looked_at |= ((1 << telling) - 1) << at;
        at += len;
        if row.writes & !live & !dead != 0 {
            dead |= row.writes & !live;
            relied_on = looked_at;
        }
        if dead | live == FlagMask::ALL.0 {
            break;
        }
    }
    (FlagMask(dead), relied_on)
}

fn may_fault(insn: &Insn) -> bool {
    let row = insn.info();
    if insn.modrm >= 0xC0 { row.may_fault_reg } else { row.may_fault }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: BuildConfig =
        BuildConfig { features: Features::ALL, max_insns: MAX_INSNS, counted: false };

    fn flat(page_off: u32) -> Place {
        let mode = Mode(Mode::PE | Mode::CODE32 | Mode::STACK32 | Mode::FLAT_CS);
        Place { mode, ip: u64::from(page_off), page_off, cs_limit: u32::MAX }
    }

    fn real(ip: u64, page_off: u32) -> Place {
        Place { mode: Mode(0), ip, page_off, cs_limit: 0xFFFF }
    }

    fn run(
        page: &[u8],
        next: Option<&[u8]>,
        place: Place,
    ) -> Result<(String, BlockInfo), BuildError> {
        let (mut block, mut info, mut scratch) =
            (Block::default(), BlockInfo::default(), Scratch::default());
        build(&CodeBytes { page, next }, place, &CONFIG, &mut scratch, &mut block, &mut info)?;
        let errors = ir::verify(&block);
        let text = ir::text::print(&block, &crate::lower::IrNames);
        assert!(errors.is_ok(), "{errors:?}\n{text}");
        Ok((text, info))
    }

    #[test]
    fn a_block_ends_at_a_jump() {
        let (text, info) = run(&[0x40, 0x75, 0xFD, 0x90], None, flat(0x10)).unwrap();
        assert_eq!(info.insns.len(), 2);
        assert_eq!((info.bytes, info.slots), (3, [Some(0x10), Some(0x13)]));
        assert!(text.contains("goto_tb $0x0,$0x10,back"), "{text}");
    }

    fn hot(page: &[u8], place: Place, has_run: &dyn Fn(u32) -> bool) -> (String, BlockInfo) {
        let (mut block, mut info, mut scratch) =
            (Block::default(), BlockInfo::default(), Scratch::default());
        let along = Along { has_run, sides: true, loops: true, reach: 256, max_insns: MAX_INSNS };
        let code = CodeBytes { page, next: None };
        let made = (&mut block, &mut info);
        build_along(&code, place, &CONFIG, &mut scratch, made, Some(along)).unwrap();
        let errors = ir::verify(&block);
        let text = ir::text::print(&block, &crate::lower::IrNames);
        assert!(errors.is_ok(), "{errors:?}\n{text}");
        (text, info)
    }

    #[test]
    fn a_loop_makes_several_turns_in_a_block() {
        // inc eax; jne back to it
        let (text, info) = hot(&[0x40, 0x75, 0xFD, 0x90], flat(0x10), &|_| false);
        assert_eq!((info.insns.len(), info.bytes, info.is_loop), (16, 3, true), "{text}");
        assert_eq!(text.matches("goto_tb $0x3,$0x13").count(), 7, "{text}");
        assert_eq!(text.matches("goto_tb $0x0,$0x10,back").count(), 1, "{text}");
        // A long one makes two.
        let mut long = vec![0x40; 60];
        long.extend([0xEB, 0xC2]);
        let (text, info) = hot(&long, flat(0x10), &|_| false);
        assert_eq!((info.insns.len(), info.bytes), (122, 62), "{text}");
        assert_eq!(text.matches("goto_tb").count(), 1, "{text}");
        // One that begins in the middle is none.
        let (_, info) = hot(&[0x43, 0x40, 0x75, 0xFD, 0x90], flat(0x10), &|_| false);
        assert!(!info.is_loop);
    }

    #[test]
    fn a_block_goes_on_where_code_has_run() {
        // je +1; inc eax; inc ebx; jmp +1; inc eax; inc ecx; ret
        let code = [0x74, 1, 0x40, 0x43, 0xEB, 1, 0x40, 0x41, 0xC3];
        let (text, info) = hot(&code, flat(0x10), &|at| at == 0x13);
        let at: Vec<_> = info.insns.iter().map(|insn| insn.page_off).collect();
        assert_eq!(at, [0x10, 0x13, 0x14, 0x17, 0x18], "{text}");
        assert_eq!(info.bytes, 9);
        assert!(text.contains("jccf ne") && text.contains("goto_tb $0x3,$0x12"), "{text}");
        let (text, info) = hot(&code, flat(0x10), &|at| at == 0x12);
        assert_eq!(info.insns[1].page_off, 0x12);
        assert!(text.contains("jccf e") && text.contains("goto_tb $0x3,$0x13"), "{text}");
    }

    #[test]
    fn a_block_ends_at_the_page_end() {
        let (text, info) = run(&[0x90, 0x40, 0x05, 1], None, flat(4092)).unwrap();
        assert_eq!(info.insns.len(), 2, "{text}");
        assert!(!info.crosses_page);
        assert!(text.contains("goto_ptr") && !text.contains("goto_tb"), "{text}");
    }

    #[test]
    fn an_insn_across_the_page_end_is_a_block_of_its_own() {
        let place = flat(4094);
        assert_eq!(run(&[0x05, 1], None, place).unwrap_err(), BuildError::NeedsNextPage);
        let (text, info) = run(&[0x05, 1], Some(&[2, 3, 4, 0x40]), place).unwrap();
        assert_eq!((info.insns.len(), info.bytes, info.crosses_page), (1, 5, true));
        assert!(
            text.contains("addf_i32 eax,eax,$0x4030201") && text.contains("goto_ptr"),
            "{text}"
        );
    }

    #[test]
    fn wrong_bytes_raise_at_their_place() {
        let (text, info) = run(&[0x40, 0x0F, 0xFF, 0xC0], None, flat(0)).unwrap();
        assert!(text.contains("raise_i32 ud"), "{text}");
        assert_eq!(info.insns.len(), 2);
        let (text, _) = run(&[0x66; 20], None, flat(0)).unwrap();
        assert!(text.contains("raise_i32 gp"), "{text}");
    }

    #[test]
    fn code_beyond_the_limit_raises_gp() {
        let (text, info) = run(&[0x90, 0xB8, 1, 2], None, real(0xFFFD, 0xFFC)).unwrap();
        assert_eq!(info.insns.len(), 2);
        assert!(text.contains("raise_i32 gp"), "{text}");
    }

    #[test]
    fn jumps_wrap_and_are_checked() {
        // jmp short back from 0x0000 wraps to 0xFFFE, which is in another page.
        let (text, _) = run(&[0xEB, 0xFC], None, real(0, 0x40)).unwrap();
        assert!(text.contains("goto_ptr_i32 $0xfffe"), "{text}");
        let place = Place { cs_limit: 0x20, ..real(0, 0x40) };
        let (text, _) = run(&[0xEB, 0x40], None, place).unwrap();
        assert!(text.contains("raise_i32 gp"), "{text}");
    }

    #[test]
    fn immediates_that_change_are_read_when_they_are_used() {
        let code = [0xB8, 1, 0, 0, 0, 0x83, 0xC0, 7, 0xC1, 0xC0, 3, 0xC3];
        let build_with = |bytes: u64| {
            let (mut block, mut info) = (Block::default(), BlockInfo::default());
            let changing = Changing { bytes: [bytes, 0, 0, 0], host: 0x7000 };
            let mut scratch = Scratch { changing: Some(changing), ..Scratch::default() };
            let code = CodeBytes { page: &code, next: None };
            build(&code, flat(0x20), &CONFIG, &mut scratch, &mut block, &mut info).unwrap();
            let errors = ir::verify(&block);
            let text = ir::text::print(&block, &crate::lower::IrNames);
            assert!(errors.is_ok(), "{errors:?}\n{text}");
            (text, info.live)
        };
        let (text, live) = build_with(0b10 | 1 << 7 | 1 << 10);
        assert_eq!(live, [(0x21, 4), (0x27, 1), (0x2A, 1)], "{text}");
        assert_eq!(text.matches("ld_h").count(), 3, "{text}");
        assert!(text.contains("$0x7001") && text.contains("ext8s_i32"), "{text}");
        // An opcode that changes is no immediate.
        let (text, live) = build_with(0b1 | 0b10 | 1 << 7);
        assert_eq!(live, [(0x27, 1)], "{text}");
    }

    #[test]
    fn peeking_stops_at_readers_and_faults() {
        let peek = |bytes: &[u8]| flags_dead_at(bytes, CodeSize::Bits32, &Features::ALL);
        let dead = |bytes: &[u8]| peek(bytes).0;
        assert_eq!(peek(&[0x40, 0x01, 0xD8, 0x01, 0xD8]).1, 7);
        assert_eq!(peek(&[0x05, 1, 2, 3, 4]), (FlagMask::ALL, 1)); // add eax,imm32
        assert_eq!(peek(&[0x11, 0x18]).1, 0);
        assert_eq!(dead(&[0x01, 0xD8]), FlagMask::ALL); // add eax,ebx
        assert_eq!(dead(&[0x89, 0xD8, 0x01, 0xD8]), FlagMask::ALL); // mov, add
        assert_eq!(dead(&[0x40, 0x01, 0xD8]), FlagMask::ALL); // inc, add
        assert_eq!(dead(&[0x11, 0xD8]), FlagMask(63 & !1)); // adc reads CF
        assert_eq!(dead(&[0x01, 0x18]), FlagMask::NONE); // add [eax],ebx may fault
        assert_eq!(dead(&[0xD3, 0xE0]), FlagMask::NONE); // shl eax,cl may keep all
    }
}
