//! Spans: which accesses share a check, and which must not; input and outcome are ir text.

use ir::opt::{self, ALL_LIVE, Passes, Segments};
use ir::text::{NoNames, parse, print};
use ir::{Scratch, verify};

/// Data and stack are flat; for offsets of 16 bits, code and stack are segments of 64 KiB.
const FLAT: Segments = Segments { flat: 1 << 3 | 1 << 2, short: 1 << 1 | 1 << 2 };

/// The block after the pass, white space tidied, and whether it found spans.
fn spans(text: &str) -> (bool, String) {
    let mut block = parse(text, &NoNames).unwrap_or_else(|e| panic!("{e} in\n{text}"));
    assert!(verify(&block).is_ok(), "{:?}", verify(&block));
    let found = opt::spans(&mut block, &mut Scratch::new(), Passes::NONE, ALL_LIVE, FLAT);
    let text = print(&block, &NoNames);
    assert!(verify(&block).is_ok(), "{:?}\n{text}", verify(&block));
    let again = parse(&text, &NoNames).unwrap_or_else(|e| panic!("{e} in\n{text}"));
    assert_eq!(print(&again, &NoNames), text);
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    (found, text.lines().map(words).filter(|l| !l.is_empty()).collect::<Vec<_>>().join("\n"))
}

fn stays(text: &str) {
    let (found, after) = spans(text);
    assert!(!found, "{after}");
}

#[test]
fn fields_of_a_structure_share_a_check() {
    let (_, text) = spans(
        "---- 0000000000000000 len=4 may_fault
         add_i64 tmp0,rbx,$0x8
         qemu_ld_i64 rax,tmp0,ds,a64
         ---- 0000000000000004 len=4 may_fault
         add_i64 tmp1,rbx,$0x18
         qemu_st_i32 ecx,tmp1,ds,a64
         ---- 0000000000000008 len=4 may_fault
         qemu_ld_i8 dl,rbx,ds,a64
         goto_tb $0x1,$0xc",
    );
    assert_eq!(
        text,
        "---- 0000000000000000 len=4 may_fault
add_i64 tmp0,rbx,$0x8
guest_span_i64 tmp2,rbx,ds,28,rw,a64
ld_h_i64 rax,tmp2,$0x8
---- 0000000000000004 len=4 may_fault
add_i64 tmp1,rbx,$0x18
st_h_i32 ecx,tmp2,$0x18
---- 0000000000000008 len=4 may_fault
ld_h_i8 dl,tmp2,$0x0
goto_tb $0x1,$0xc"
    );
}

#[test]
fn a_moving_base_and_an_index_are_followed() {
    let (found, text) = spans(
        "---- 0000000000000000 len=1 may_fault
         sub_i64 tmp0,rsp,$0x8
         qemu_st_i64 rbx,tmp0,ss,a64
         mov_i64 rsp,tmp0
         ---- 0000000000000001 len=1 may_fault
         sub_i64 tmp1,rsp,$0x8
         qemu_st_i64 rdi,tmp1,ss,a64
         mov_i64 rsp,tmp1
         ---- 0000000000000002 len=4 may_fault
         shl_i64 tmp2,rcx,$0x3
         add_i64 tmp3,rbx,tmp2
         qemu_ld_i64 rax,tmp3,ds,a64
         ---- 0000000000000006 len=4 may_fault
         shl_i64 tmp4,rcx,$0x3
         add_i64 tmp5,rbx,tmp4
         add_i64 tmp6,tmp5,$0x10
         qemu_ld_i64 rdx,tmp6,ds,a64
         goto_tb $0x1,$0xc",
    );
    assert!(found && text.matches("guest_span").count() == 2, "{text}");
    assert!(text.contains("guest_span_i64 tmp8,tmp7,ss,16,rw,a64"), "{text}");
    assert!(text.contains(",tmp3,ds,24,r,a64"), "{text}");
}

#[test]
fn alignment_goes_into_the_check() {
    let native = "qemu";
    let (found, text) = spans(&format!(
        "---- 0000000000000000 len=4 may_fault
         add_i64 tmp0,rbx,$0x14
         {native}_ld_i32 eax,tmp0,ds,a64
         ---- 0000000000000004 len=4 may_fault
         add_i64 tmp1,rbx,$0x20
         guest_ptr_i64 tmp2,tmp1,ds,16,r,aligned,a64
         ld_h_i64 rcx,tmp2,$0x8
         goto_tb $0x1,$0xc"
    ));
    assert!(found && text.contains("ds,32,r,align16,a64"), "{text}");
    assert!(text.contains("ld_h_i64 rcx,tmp4,$0x18"), "{text}");
    // Two that can never both be aligned.
    stays(
        "---- 0000000000000000 len=4 may_fault
         guest_ptr_i64 tmp0,rbx,ds,16,r,aligned,a64
         ld_h_i64 rcx,tmp0,$0x0
         ---- 0000000000000004 len=4 may_fault
         add_i64 tmp1,rbx,$0x8
         guest_ptr_i64 tmp2,tmp1,ds,16,r,aligned,a64
         ld_h_i64 rcx,tmp2,$0x0
         goto_tb $0x1,$0xc",
    );
}

#[test]
fn what_may_differ_shares_nothing() {
    let second = "qemu_ld_i64 rdx,rbx,ds,a64\ngoto_tb $0x1,$0xc";
    let first = "---- 0000000000000000 len=4 may_fault\nqemu_ld_i64 rax,rbx,ds,a64\n";
    let insn = "---- 0000000000000004 len=4 may_fault\n";
    assert!(spans(&format!("{first}{insn}{second}")).0);
    // The base changes, a helper may change the mapping, paths join, another segment is not flat, the bytes lie too far apart.
    for between in [
        "add_i64 rbx,rbx,rcx\n",
        "mov_i32 ebx,ebx\n",
        "mov_i8 bl,$0x4\n",
        "call_i64 $0x3,_\n",
        "jccf ne,$L0\nset_label $L0\n",
        "add_i64 rbx,rbx,$0x1000\n",
    ] {
        stays(&format!("{first}{insn}{between}{second}"));
    }
    stays(&format!("{first}{insn}{}", second.replace("ds", "fs")));
    stays(&format!("{}{insn}{}", first.replace("ds", "fs"), second.replace("ds", "fs")));
    stays(&format!(
        "{first}{insn}{}",
        second.replace("ld_i64 rdx,rbx,ds,a64", "ld_i64 rdx,ebx,ds")
    ));
}

#[test]
fn an_insn_that_has_begun_leads_no_span() {
    // The load may come from a device: the insn must not begin anew behind it.
    stays(
        "---- 0000000000000000 len=2 may_fault
         qemu_ld_i64 tmp0,rbx,ds,a64
         sub_i64 tmp1,rsp,$0x8
         qemu_st_i64 tmp0,tmp1,ss,a64
         ld_i64 tmp2,env,$0x8
         qemu_st_i64 tmp2,rsp,ss,a64
         goto_tb $0x1,$0xc",
    );
}

/// The block after the pass with what memory holds, and how many accesses ask it still.
fn reused(text: &str) -> String {
    let mut block = parse(text, &NoNames).unwrap_or_else(|e| panic!("{e} in\n{text}"));
    opt::spans(&mut block, &mut Scratch::new(), Passes::REUSE, ALL_LIVE, FLAT);
    let text = print(&block, &NoNames);
    assert!(verify(&block).is_ok(), "{:?}\n{text}", verify(&block));
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn what_was_stored_or_loaded_is_not_loaded_again() {
    let text = reused(
        "---- 0000000000000000 len=4 may_fault
         add_i64 tmp0,rbp,$0x8
         qemu_ld_i64 rax,tmp0,ds,a64
         ---- 0000000000000004 len=4 may_fault
         qemu_st_i64 rcx,rbp,ds,a64
         ---- 0000000000000008 len=4 may_fault
         qemu_ld_i64 rdx,rbp,ds,a64
         ---- 000000000000000c len=4 may_fault
         add_i64 tmp1,rbp,$0x8
         qemu_ld_i64 rbx,tmp1,ds,a64
         goto_tb $0x1,$0x10",
    );
    assert!(text.contains("mov_i64 rdx,rcx") && text.contains("mov_i64 rbx,rax"), "{text}");
    assert_eq!(text.matches("guest_span").count(), 1, "{text}");
}

#[test]
fn memory_that_others_may_change_is_asked() {
    let between = |op: &str| {
        reused(&format!(
            "---- 0000000000000000 len=4 may_fault
             qemu_ld_i64 rax,rbp,ds,a64
             ---- 0000000000000004 len=4 may_fault
             {op}
             ---- 0000000000000008 len=4 may_fault
             qemu_ld_i64 rdx,rbp,ds,a64
             goto_tb $0x1,$0xc"
        ))
    };
    // It may be the same place by another name; a device that changes memory when it is read, by an insn that has done something before;
    // half of it; another value now.
    for op in [
        "qemu_st_i64 rcx,rbx,ds,a64",
        "st_i64 rcx,env,$0x8\nqemu_ld_i64 rcx,rbx,ds,a64",
        "qemu_st_i32 ecx,rbp,ds,a64",
        "guest_ptr_i64 tmp0,rbx,ds,8,rw,a64",
        "mov_i64 rax,rcx",
    ] {
        let text = between(op);
        assert!(!text.contains("mov_i64 rdx"), "{op}: {text}");
    }
    assert!(between("mov_i64 rsi,rcx").contains("mov_i64 rdx,rax"));
    // A load that can begin anew has to be one of plain RAM.
    let text = between("qemu_ld_i64 rcx,rbx,ds,a64");
    assert!(text.contains("mov_i64 rdx,rax"), "{text}");
    assert_eq!((text.matches("guest_span").count(), text.matches("qemu_ld").count()), (2, 0));
}

/// The block after the pass with folding.
fn folded(text: &str) -> String {
    let mut block = parse(text, &NoNames).unwrap_or_else(|e| panic!("{e} in\n{text}"));
    let passes = Passes::COPY.with(Passes::FOLD).with(Passes::DEAD).with(Passes::FLAGS);
    opt::spans(&mut block, &mut Scratch::new(), passes, ALL_LIVE, FLAT);
    let text = print(&block, &NoNames);
    assert!(verify(&block).is_ok(), "{:?}\n{text}", verify(&block));
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Two pushes with something in between.
fn pushes(between: &str) -> String {
    folded(&format!(
        "---- 0000000000000000 len=1 may_fault
         sub_i64 tmp0,rsp,$0x8
         qemu_st_i64 rcx,tmp0,ss,a64
         mov_i64 rsp,tmp0
         ---- 0000000000000001 len=1 may_fault
         {between}
         sub_i64 tmp1,rsp,$0x8
         qemu_st_i64 rdx,tmp1,ss,a64
         mov_i64 rsp,tmp1
         ---- 0000000000000002 len=1
         sub_i64 rsp,rsp,$0x20
         goto_tb $0x1,$0x3"
    ))
}

#[test]
fn a_register_takes_the_sum_of_constants_that_nobody_sees() {
    let text = pushes("mov_i64 rsi,rcx");
    assert!(text.contains("add_i64 rsp,tmp0,$0xffffffffffffffd8"), "{text}");
    assert_eq!(text.matches("_i64 rsp,").count(), 1, "{text}");
}

#[test]
fn a_register_that_is_seen_has_its_value() {
    // Read, read in part, and when something may leave.
    for op in ["mov_i64 rsi,rsp", "mov_i16 si,sp", "qemu_ld_i64 rsi,rbx,ds,a64"] {
        let text = pushes(op);
        assert_eq!(text.matches("_i64 rsp,").count(), 2, "{op}: {text}");
    }
    // The base is another value now; a part of the register is written; the flags are wanted.
    for (first, between) in [
        ("add_i64 rsi,rdi,$0x8", "mov_i64 rdi,rdx"),
        ("add_i64 rsi,rdi,$0x8", "mov_i16 si,dx"),
        ("addf_i64 rsi,rdi,$0x8", "setccf_i8 dl,e"),
    ] {
        let text = folded(&format!(
            "---- 0000000000000000 len=1 may_fault
             qemu_ld_i64 rax,rbp,ds,a64
             add_i64 tmp0,rbp,$0x8
             qemu_ld_i64 rcx,tmp0,ds,a64
             ---- 0000000000000001 len=1
             {first}
             ---- 0000000000000002 len=1
             {between}
             ---- 0000000000000003 len=1
             add_i64 rsi,rsi,$0x8
             goto_tb $0x1,$0x4"
        ));
        assert!(text.contains(first), "{between}: {text}");
        assert!(text.contains("add_i64 rsi,rsi,$0x8"), "{between}: {text}");
    }
}

#[test]
fn elements_are_known_by_reloaded_indices() {
    let text = reused(
        "---- 0000000000000000 len=4 may_fault
         qemu_ld_i64 rcx,rbp,ds,a64
         ---- 0000000000000004 len=4 may_fault
         lea_i64 tmp0,rbx,rcx,$0x2,$0x4
         qemu_ld_i64 rcx,tmp0,ds,a64
         ---- 0000000000000008 len=4 may_fault
         qemu_ld_i64 rdx,rbp,ds,a64
         ---- 000000000000000c len=4 may_fault
         lea_i64 tmp1,rbx,rdx,$0x2,$0x4
         qemu_st_i64 rcx,tmp1,ds,a64
         goto_tb $0x1,$0x10",
    );
    assert_eq!(text.matches("guest_span").count(), 2, "{text}");
}

#[test]
fn offsets_of_16_bits_share_a_check() {
    // Two pushes and a pop, in between what goes on in the upper half.
    let (_, text) = spans(
        "---- 0000000000000000 len=2 may_fault
         sub_i16 tmp0,sp,$0x4
         ext16u_i32 tmp1,tmp0
         qemu_st_i32 eax,tmp1,ss,a16
         mov_i16 sp,tmp0
         ---- 0000000000000002 len=2 may_fault
         sub_i16 tmp2,sp,$0x2
         ext16u_i32 tmp3,tmp2
         qemu_st_i16 bx,tmp3,ss,a16
         mov_i16 sp,tmp2
         add_i32 esp,esp,$0x10002
         ---- 0000000000000004 len=2 may_fault
         ext16u_i32 tmp4,sp
         qemu_ld_i32 edx,tmp4,ss,a16
         goto_tb $0x1,$0x6",
    );
    let expected = [
        "add_i16 tmp5,sp,$0xfffa",
        "ext16u_i32 tmp6,tmp5",
        "guest_span_i64 tmp7,tmp6,ss,6,rw,a16",
        "st_h_i32 eax,tmp7,$0x2",
        "st_h_i16 bx,tmp7,$0x0",
        "ld_h_i32 edx,tmp7,$0x2",
    ];
    for line in expected {
        assert!(text.contains(line), "{line} in\n{text}");
    }
}

#[test]
fn offsets_of_16_bits_in_other_segments_and_behind_new_ones_share_nothing() {
    let two = |seg: &str, between: &str| {
        format!(
            "---- 0000000000000000 len=2 may_fault
             ext16u_i32 tmp0,si
             qemu_ld_i16 ax,tmp0,{seg},a16
             {between}
             ---- 0000000000000002 len=2 may_fault
             ext16u_i32 tmp1,si
             qemu_ld_i16 bx,tmp1,{seg},a16
             goto_tb $0x1,$0x4"
        )
    };
    assert!(spans(&two("ss", "")).0);
    stays(&two("ds", ""));
    stays(&two("ss", "st_i64 $0x1000,env,$0x8"));
    stays(&two("ss", "mov_i8 sil,$0x1"));
    // The same register counted with more bits is another address.
    stays(&two("ss", "").replacen(",a16", "", 1));
}
