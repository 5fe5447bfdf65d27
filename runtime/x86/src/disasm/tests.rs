//! Spellings, as QEMU's `-d in_asm` shows them.
use super::*;
use crate::decode::{Features, decode};
use crate::insn::CodeSize::{Bits16, Bits32};
use crate::insn::{CodeSize, Insn};

fn insn(hex: &str, size: CodeSize) -> Insn {
    let digits = |i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap();
    let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(digits).collect();
    let insn =
        decode(&bytes, size, &Features::ALL).unwrap_or_else(|error| panic!("{hex}: {error:?}"));
    assert_eq!(usize::from(insn.len), bytes.len(), "{hex}");
    insn
}

#[track_caller]
fn check(hex: &str, size: CodeSize, att: &str, intel: &str) {
    let insn = insn(hex, size);
    let one_space =
        |text: String| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
    assert_eq!(one_space(format(&insn, 0x1000, Syntax::Att)), att, "{hex}");
    assert_eq!(one_space(format(&insn, 0x1000, Syntax::Intel)), intel, "{hex}");
}

#[test]
fn mnemonics_are_padded_to_nine_columns() {
    let text = |hex, size| format(&insn(hex, size), 0xFFF0, Syntax::Att);
    assert_eq!(text("ea5be000f0", Bits16), "ljmpw    $0xf000:$0xe05b");
    assert_eq!(text("2e66833ec86100", Bits16), "cmpl     $0, %cs:0x61c8");
    assert_eq!(text("fa", Bits16), "cli");
}

#[test]
fn immediates_are_signed_only_when_extended() {
    check("83f8f0", Bits32, "cmpl $-0x10, %eax", "cmp eax, -0x10");
    check("04ff", Bits32, "addb $0xff, %al", "add al, 0xff");
    check("05ffffffff", Bits32, "addl $0xffffffff, %eax", "add eax, 0xffffffff");
    check("83e0f0", Bits32, "andl $0xfffffff0, %eax", "and eax, 0xfffffff0");
    check("6aff", Bits32, "pushl $-1", "push -1");
    check("cd10", Bits16, "int $0x10", "int 0x10");
}

#[test]
fn addresses_name_their_registers() {
    check("8b45f8", Bits32, "movl -8(%ebp), %eax", "mov eax, dword ptr [ebp - 8]");
    check(
        "8b448510",
        Bits32,
        "movl 0x10(%ebp, %eax, 4), %eax",
        "mov eax, dword ptr [ebp + eax*4 + 0x10]",
    );
    check("8b042c", Bits32, "movl (%esp, %ebp), %eax", "mov eax, dword ptr [esp + ebp]");
    check("8b042500000000", Bits32, "movl 0, %eax", "mov eax, dword ptr [0]");
    check("8b042d10000000", Bits32, "movl 0x10(, %ebp), %eax", "mov eax, dword ptr [ebp*1 + 0x10]");
    check("8b0e34f2", Bits16, "movw 0xf234, %cx", "mov cx, word ptr [0xf234]");
    check("8b42f0", Bits16, "movw -0x10(%bp, %si), %ax", "mov ax, word ptr [bp + si - 0x10]");
    check("26a1f0ff", Bits16, "movw %es:0xfff0, %ax", "mov ax, word ptr es:[0xfff0]");
    check("678b00", Bits16, "movw (%eax), %ax", "mov ax, word ptr [eax]");
}

#[test]
fn branches_show_targets() {
    check("0f8536f0", Bits16, "jne 0x3a", "jne 0x3a");
    check("e8fdff0000", Bits32, "calll 0x11002", "call 0x11002");
    check("66e9fdff", Bits32, "jmp 0x1001", "jmp 0x1001");
    check("ffd0", Bits32, "calll *%eax", "call eax");
    check("ff20", Bits32, "jmpl *(%eax)", "jmp dword ptr [eax]");
    check("ff28", Bits32, "ljmpl *(%eax)", "jmp fword ptr [eax]");
    check("e3fe", Bits16, "jcxz 0x1000", "jcxz 0x1000");
    check("67e3fd", Bits16, "jecxz 0x1000", "jecxz 0x1000");
}

#[test]
fn strings_show_segments_and_repeats() {
    check(
        "f3a4",
        Bits32,
        "rep movsb (%esi), %es:(%edi)",
        "rep movsb byte ptr es:[edi], byte ptr [esi]",
    );
    check("26a5", Bits16, "movsw %es:(%si), %es:(%di)", "movsw word ptr es:[di], word ptr es:[si]");
    check("f2ae", Bits32, "repne scasb %es:(%edi), %al", "repne scasb al, byte ptr es:[edi]");
    check(
        "f3a7",
        Bits32,
        "repe cmpsl %es:(%edi), (%esi)",
        "repe cmpsd dword ptr [esi], dword ptr es:[edi]",
    );
    check("6e", Bits32, "outsb (%esi), %dx", "outsb dx, byte ptr [esi]");
}

#[test]
fn sizes_choose_names() {
    check("98", Bits16, "cbtw", "cbw");
    check("98", Bits32, "cwtl", "cwde");
    check("99", Bits32, "cltd", "cdq");
    check("0fb6c1", Bits32, "movzbl %cl, %eax", "movzx eax, cl");
    check("0fbf01", Bits32, "movswl (%ecx), %eax", "movsx eax, word ptr [ecx]");
    check("9c", Bits32, "pushfl", "pushfd");
    check("60", Bits16, "pushaw", "pusha");
    check("8cd8", Bits32, "movl %ds, %eax", "mov eax, ds");
    check("8cda", Bits16, "movw %ds, %dx", "mov dx, ds");
    check("1e", Bits32, "pushl %ds", "push ds");
    check("0f0110", Bits16, "lgdtw (%bx, %si)", "lgdt fword ptr [bx + si]");
    check("ee", Bits32, "outb %al, %dx", "out dx, al");
    check("e571", Bits32, "inl $0x71, %eax", "in eax, 0x71");
    check("f00fb10e", Bits32, "lock cmpxchgl %ecx, (%esi)", "lock cmpxchg dword ptr [esi], ecx");
    check("0f94c4", Bits32, "sete %ah", "sete ah");
    check("0f44c1", Bits32, "cmovel %ecx, %eax", "cmove eax, ecx");
}
