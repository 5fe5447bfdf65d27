//! Spellings, as QEMU's `-d in_asm` shows them.
use super::*;
use crate::decode::{Features, decode};
use crate::insn::CodeSize::{Bits16, Bits32, Bits64};
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

#[test]
fn vector_operands_have_their_registers() {
    check("660ffcca", Bits32, "paddb %xmm2, %xmm1", "paddb xmm1, xmm2");
    check("0ffc08", Bits32, "paddb (%eax), %mm1", "paddb mm1, qword ptr [eax]");
    check("c5e9fcc8", Bits32, "vpaddb %xmm0, %xmm2, %xmm1", "vpaddb xmm1, xmm2, xmm0");
    check(
        "c5edfc08",
        Bits32,
        "vpaddb (%eax), %ymm2, %ymm1",
        "vpaddb ymm1, ymm2, ymmword ptr [eax]",
    );
    check("660f71d005", Bits32, "psrlw $5, %xmm0", "psrlw xmm0, 5");
    check("c5f171d005", Bits32, "vpsrlw $5, %xmm0, %xmm1", "vpsrlw xmm1, xmm0, 5");
    check("660f3815c8", Bits32, "blendvpd %xmm0, %xmm0, %xmm1", "blendvpd xmm1, xmm0, xmm0");
    check(
        "c4e3714ac230",
        Bits32,
        "vblendvps %xmm3, %xmm2, %xmm1, %xmm0",
        "vblendvps xmm0, xmm1, xmm2, xmm3",
    );
    check("66480f6ec0", Bits64, "movq %rax, %xmm0", "movq xmm0, rax");
    check("450f28ff", Bits64, "movaps %xmm15, %xmm15", "movaps xmm15, xmm15");
}

#[test]
fn stack_registers_and_64_bit_operands() {
    check("d8c1", Bits32, "fadd %st(1), %st", "fadd st, st(1)");
    check("dce9", Bits32, "fsubr %st, %st(1)", "fsub st(1), st");
    check("d9c0", Bits32, "fld %st(0)", "fld st(0)");
    check(
        "48b88877665544332211",
        Bits64,
        "movabsq $0x1122334455667788, %rax",
        "mov rax, 0x1122334455667788",
    );
    check("4c8b0d10000000", Bits64, "movq 0x10(%rip), %r9", "mov r9, qword ptr [rip + 0x10]");
    check("4088f0", Bits64, "movb %sil, %al", "mov al, sil");
    check("ffd0", Bits64, "callq *%rax", "call rax");
    check("e8fdff0000", Bits64, "callq 0x11002", "call 0x11002");
    check("4190", Bits64, "xchgl %eax, %r8d", "xchg r8d, eax");
    check(
        "f348a5",
        Bits64,
        "rep movsq (%rsi), %es:(%rdi)",
        "rep movsq qword ptr es:[rdi], qword ptr [rsi]",
    );
}
