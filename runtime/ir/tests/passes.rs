//! Each pass fires where it should and stays away where it must; input and outcome are ir text.

use ir::opt::{self, ALL_LIVE, LiveAtExit, Passes, UnknownPass};
use ir::text::{NoNames, parse, print};
use ir::{Block, FlagMask, Scratch, verify};

const DEAD_AFTER: LiveAtExit = [FlagMask::NONE; 2];

fn read(text: &str) -> Block {
    let block = parse(text, &NoNames).unwrap_or_else(|e| panic!("{e} in\n{text}"));
    if let Err(errors) = verify(&block) {
        panic!("{errors:#?}\n{text}");
    }
    block
}

/// Runs the passes on `input` and compares texts, white space aside.
fn check_live(passes: Passes, live: LiveAtExit, input: &str, expect: &str) {
    let mut block = read(input);
    opt::optimize(&mut block, &mut Scratch::new(), passes, live);
    assert!(verify(&block).is_ok(), "{}", print(&block, &NoNames));
    let plain = |text: &str| -> Vec<String> {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        text.lines().map(words).filter(|l| !l.is_empty()).collect()
    };
    assert_eq!(plain(&print(&block, &NoNames)), plain(expect));
}

fn check(passes: Passes, input: &str, expect: &str) {
    check_live(passes, ALL_LIVE, input, expect);
}

// ---- flag liveness

#[test]
fn overwritten_flags_are_not_made() {
    check(
        Passes::FLAGS,
        "addf_i32 eax,eax,ebx
         subf_i32 _,eax,$0x5
         goto_tb $0x0,$0x10",
        "add_i32 eax,eax,ebx
         subf_i32 _,eax,$0x5    flags: live cpazso
         goto_tb $0x0,$0x10",
    );
}

#[test]
fn a_consumer_keeps_what_it_reads() {
    check_live(
        Passes::FLAGS,
        DEAD_AFTER,
        "subf_i32 _,eax,$0x5
         setccf_i8 bl,le
         goto_tb $0x0,$0x10",
        "subf_i32 _,eax,$0x5    flags: def zso
         setccf_i8 bl,le
         goto_tb $0x0,$0x10",
    );
}

#[test]
fn a_fault_point_keeps_all() {
    check_live(
        Passes::FLAGS,
        DEAD_AFTER,
        "addf_i32 eax,eax,ebx
         qemu_ld_i32 ecx,esi,ds
         addf_i32 eax,eax,ecx
         goto_tb $0x0,$0x10",
        "addf_i32 eax,eax,ebx   flags: live cpazso
         qemu_ld_i32 ecx,esi,ds
         add_i32 eax,eax,ecx
         goto_tb $0x0,$0x10",
    );
}

#[test]
fn inc_leaves_carry_to_the_op_before() {
    check_live(
        Passes::FLAGS,
        [FlagMask::C, FlagMask::NONE],
        "addf_i32 eax,eax,ebx
         incf_i32 ecx,ecx
         goto_tb $0x0,$0x10",
        "addf_i32 eax,eax,ebx   flags: def c live c
         inc_i32 ecx,ecx
         goto_tb $0x0,$0x10",
    );
}

#[test]
fn a_shift_that_may_do_nothing_keeps_the_flags_before_it() {
    check(
        Passes::FLAGS,
        "subf_i32 _,eax,$0x5
         shlf_i32 edx,edx,cl
         goto_tb $0x0,$0x10",
        "subf_i32 _,eax,$0x5    flags: live cpazso
         shlf_i32 edx,edx,cl    flags: live cpazso
         goto_tb $0x0,$0x10",
    );
    check(
        Passes::FLAGS,
        "subf_i32 _,eax,$0x5
         shlf_i32 edx,edx,$0x3
         goto_tb $0x0,$0x10",
        "sub_i32 _,eax,$0x5
         shlf_i32 edx,edx,$0x3  flags: live cpazso
         goto_tb $0x0,$0x10",
    );
}

#[test]
fn forward_branches_are_exact() {
    check_live(
        Passes::FLAGS,
        [FlagMask::NONE, FlagMask::P],
        "subf_i32 _,eax,$0x5
         jccf ne,$L0
         goto_tb $0x0,$0x10
         set_label $L0
         goto_tb $0x1,$0x20",
        "subf_i32 _,eax,$0x5    flags: def pz live p
         jccf ne,$L0
         goto_tb $0x0,$0x10
         set_label $L0
         goto_tb $0x1,$0x20",
    );
}

#[test]
fn backward_jumps_and_polls_keep_all() {
    check_live(
        Passes::FLAGS,
        DEAD_AFTER,
        "set_label $L0
         decf_i32 ecx,ecx
         brcond_i32 ecx,$0x0,ne,$L0
         goto_tb $0x0,$0x10",
        "set_label $L0
         decf_i32 ecx,ecx       flags: live cpazso
         brcond_i32 ecx,$0x0,ne,$L0
         goto_tb $0x0,$0x10",
    );
    check_live(
        Passes::FLAGS,
        DEAD_AFTER,
        "andf_i32 ecx,ecx,eax
         goto_tb $0x0,$0x10,back",
        "andf_i32 ecx,ecx,eax   flags: live cpazso
         goto_tb $0x0,$0x10,back",
    );
}

#[test]
fn flags_after_says_what_a_plain_op_must_keep() {
    let mut block = read(
        "subf_i32 _,eax,$0x5
         add_i32 esi,esi,$0x4
         setccf_i8 bl,b
         goto_tb $0x0,$0x10",
    );
    let mut scratch = Scratch::new();
    opt::flag_liveness(&mut block, &mut scratch, DEAD_AFTER);
    assert_eq!(scratch.flags_after()[..3], [FlagMask::C, FlagMask::C, FlagMask::NONE]);
}

// ---- constant folding

#[test]
fn known_values_fold() {
    check(
        Passes::FOLD,
        "mov_i32 tmp0,$0x10
         add_i32 tmp1,tmp0,$0x5
         shl_i16 tmp2,tmp1,$0x4
         ext16s_i32 eax,tmp2
         and_i32 ebx,ebx,$0xffffffff
         add_i32 ecx,$0x7,ecx
         xor_i32 edx,edx,edx
         goto_tb $0x0,$0x10",
        "mov_i32 tmp0,$0x10
         mov_i32 tmp1,$0x15
         mov_i16 tmp2,$0x150
         mov_i32 eax,$0x150
         mov_i32 ebx,ebx
         add_i32 ecx,ecx,$0x7
         mov_i32 edx,$0x0
         goto_tb $0x0,$0x10",
    );
}

#[test]
fn known_branches_fold_and_what_they_skip_goes() {
    check(
        Passes::FOLD,
        "brcond_i32 $0x3,$0x3,ne,$L0
         brcond_i8 $0xff,$0x0,lt,$L1
         mov_i32 eax,$0x1
         set_label $L0
         mov_i32 ebx,$0x1
         set_label $L1
         goto_tb $0x0,$0x10",
        "set_label $L1
         goto_tb $0x0,$0x10",
    );
}

#[test]
fn flags_and_labels_stop_folding() {
    let kept = "mov_i32 tmp0,$0x10
         addf_i32 eax,tmp0,$0x5
         brcond_i32 ebx,$0x0,eq,$L0
         mov_i32 tmp0,$0x20
         set_label $L0
         add_i32 ecx,tmp0,$0x1
         adc_i32 edx,$0x1,$0x2
         goto_tb $0x0,$0x10";
    check(Passes::FOLD, kept, kept);
}

// ---- copies

#[test]
fn copies_reach_their_readers() {
    check(
        Passes::COPY.with(Passes::DEAD),
        "mov_i32 tmp0,ebx
         mov_i32 tmp1,tmp0
         add_i8 cl,cl,tmp1
         st_i32 tmp0,env,$0x8
         goto_tb $0x0,$0x10",
        "add_i8 cl,cl,bl
         st_i32 ebx,env,$0x8
         goto_tb $0x0,$0x10",
    );
}

#[test]
fn a_changed_source_is_not_forwarded() {
    let kept = "mov_i32 tmp0,ebx
         mov_i8 bh,$0x0
         add_i32 ecx,ecx,tmp0
         mov_i16 tmp1,dx
         mov_i32 tmp2,edx
         call_i64 $0x7,_
         add_i32 ecx,ecx,tmp2
         st_i16 tmp1,env,$0x8
         goto_tb $0x0,$0x10";
    check(Passes::COPY, kept, kept);
}

#[test]
fn pointers_stay_temporaries() {
    check(
        Passes::COPY,
        "guest_ptr_i64 tmp0,esi,ds,4,rw
         mov_i64 tmp1,tmp0
         mov_i64 rax,tmp0
         ld_h_i32 ecx,tmp0,$0x0
         st_h_i32 ecx,tmp1,$0x0
         goto_tb $0x0,$0x10",
        "guest_ptr_i64 tmp0,esi,ds,4,rw
         mov_i64 tmp1,tmp0
         mov_i64 rax,tmp0
         ld_h_i32 ecx,tmp0,$0x0
         st_h_i32 ecx,tmp0,$0x0
         goto_tb $0x0,$0x10",
    );
}

#[test]
fn results_go_to_their_registers() {
    check(
        Passes::COPY,
        "addf_i32 tmp0,eax,ebx
         mov_i32 eax,tmp0
         mulu2_i8 tmp1,tmp2,cl,dl
         mov_i8 al,tmp1
         mov_i8 ah,tmp2
         qemu_ld_i16 tmp3,esi,ds
         mov_i16 dx,tmp3
         goto_tb $0x0,$0x10",
        "addf_i32 eax,eax,ebx
         mulu2_i8 al,ah,cl,dl
         qemu_ld_i16 dx,esi,ds
         goto_tb $0x0,$0x10",
    );
}

#[test]
fn results_stay_staged_across_faults_and_uses() {
    let kept = "add_i32 tmp0,eax,ebx
         qemu_st_i32 ecx,esi,ds
         mov_i32 eax,tmp0
         add_i32 tmp1,eax,ebx
         mov_i32 tmp2,ecx
         mov_i32 ecx,tmp1
         add_i32 edx,edx,tmp2
         add_i32 tmp3,esi,$0x1
         mov_i16 si,tmp3
         goto_tb $0x0,$0x10";
    check(
        Passes::COPY,
        kept,
        // Only what lies between compute and write without touching the register moves.
        "add_i32 tmp0,eax,ebx
         qemu_st_i32 ecx,esi,ds
         mov_i32 eax,tmp0
         add_i32 tmp1,eax,ebx
         mov_i32 tmp2,ecx
         mov_i32 ecx,tmp1
         add_i32 edx,edx,tmp2
         add_i32 tmp3,esi,$0x1
         mov_i16 si,tmp3
         goto_tb $0x0,$0x10",
    );
}

// ---- dead code

#[test]
fn unused_results_go() {
    check(
        Passes::DEAD,
        "ld_i32 tmp0,env,$0x8
         add_i32 tmp1,tmp0,$0x1
         subf_i32 tmp2,eax,ebx
         mov_i32 ecx,eax
         mov_i32 ecx,ebx
         mov_i16 dx,dx
         bt_i32 eax,$0x3
         goto_tb $0x0,$0x10",
        "subf_i32 _,eax,ebx
         mov_i32 ecx,ebx
         goto_tb $0x0,$0x10",
    );
}

#[test]
fn what_can_be_seen_stays() {
    let kept = "mov_i32 ecx,eax
         qemu_ld_i32 ecx,esi,ds
         mov_i32 edx,eax
         mov_i16 dx,bx
         mov_i32 eax,eax
         mov_i32 tmp0,ebx
         brcond_i32 eax,$0x0,eq,$L0
         mov_i32 tmp0,ecx
         set_label $L0
         mov_i32 ebp,tmp0
         qemu_ld_i32 tmp1,esi,ds
         goto_tb $0x0,$0x10";
    check(Passes::DEAD, kept, kept);
}

// ---- together

#[test]
fn a_lowered_insn_becomes_one_op() {
    check_live(
        Passes::ALL,
        DEAD_AFTER,
        "---- 0000000000000ff0 len=2
         mov_i32 tmp0,eax
         mov_i32 tmp1,$0x5
         addf_i32 tmp2,tmp0,tmp1
         mov_i32 eax,tmp2
         ---- 0000000000000ff2 len=2
         subf_i32 tmp3,eax,ebx
         ---- 0000000000000ff4 len=2
         jccf ne,$L0
         goto_tb $0x0,$0xff6
         set_label $L0
         goto_tb $0x1,$0x10",
        "---- 0000000000000ff0 len=2
         add_i32 eax,eax,$0x5
         ---- 0000000000000ff2 len=2
         subf_i32 _,eax,ebx      flags: def z
         ---- 0000000000000ff4 len=2
         jccf ne,$L0
         goto_tb $0x0,$0xff6
         set_label $L0
         goto_tb $0x1,$0x10",
    );
}

#[test]
fn what_only_a_dead_consumer_wanted_goes_too() {
    check_live(
        Passes::ALL,
        DEAD_AFTER,
        "subf_i32 _,eax,$0x5
         setccf_i8 tmp0,b
         goto_tb $0x0,$0x10",
        "goto_tb $0x0,$0x10",
    );
}

#[test]
fn pass_lists_parse() {
    assert_eq!(Passes::parse("all"), Ok(Passes::ALL));
    assert_eq!(Passes::parse("none"), Ok(Passes::NONE));
    assert_eq!(Passes::parse("flags, dead"), Ok(Passes::FLAGS.with(Passes::DEAD)));
    assert_eq!(Passes::parse("-fold"), Ok(Passes::ALL.without(Passes::FOLD)));
    assert_eq!(Passes::parse("all,-copy"), Ok(Passes::ALL.without(Passes::COPY)));
    assert_eq!(Passes::parse("fast"), Err(UnknownPass("fast".into())));
}

// ---- native instructions

#[test]
fn a_native_instruction_that_may_trap_keeps_all() {
    check_live(
        Passes::FLAGS,
        DEAD_AFTER,
        "addf_i32 eax,eax,ebx
         native_i32 _,_,_,_,66.0f.ef,reg=v1,rm=v2,uses=sse
         subf_i32 _,ecx,ebx
         native_i32 _,_,_,_,0f.58,reg=v1,rm=v2,trap,uses=sse
         goto_tb $0x0,$0x10",
        "add_i32 eax,eax,ebx
         native_i32 _,_,_,_,66.0f.ef,reg=v1,rm=v2,uses=sse
         subf_i32 _,ecx,ebx   flags: live cpazso
         native_i32 _,_,_,_,0f.58,reg=v1,rm=v2,trap,uses=sse
         goto_tb $0x0,$0x10",
    );
}

#[test]
fn a_native_instruction_makes_and_reads_flags() {
    check_live(
        Passes::FLAGS,
        DEAD_AFTER,
        "addf_i32 eax,eax,ebx
         native_i64 rbx,_,rcx,_,66.0f38.w1.f6,reg=inout,rm=in0,reads=c,writes=c
         native_i32 eax,_,ecx,_,f3.0f.b8,reg=out,rm=in0,writes=cpazso
         setccf_i8 dl,e
         goto_tb $0x0,$0x10",
        "addf_i32 eax,eax,ebx   flags: def c
         native_i64 rbx,_,rcx,_,66.0f38.w1.f6,reg=inout,rm=in0,reads=c,writes=c flags: def -
         native_i32 eax,_,ecx,_,f3.0f.b8,reg=out,rm=in0,writes=cpazso flags: def z
         setccf_i8 dl,e
         goto_tb $0x0,$0x10",
    );
}

#[test]
fn implicit_registers_are_read_and_written() {
    check(
        Passes::COPY.with(Passes::DEAD),
        "mov_i64 rcx,rsi
         mov_i64 rax,rbx
         native_i32 _,_,_,_,66.0f3a.61,reg=v1,rm=v2,imm1=0xc,implicit,uses=sse,writes=cpazso
         mov_i64 rdx,rcx
         mov_i64 rax,rsi
         goto_tb $0x0,$0x10",
        "mov_i64 rcx,rsi
         mov_i64 rax,rbx
         native_i32 _,_,_,_,66.0f3a.61,reg=v1,rm=v2,imm1=0xc,implicit,uses=sse,writes=cpazso
         mov_i64 rdx,rcx
         mov_i64 rax,rsi
         goto_tb $0x0,$0x10",
    );
}

#[test]
fn what_is_read_and_written_stays_a_register() {
    check(
        Passes::COPY.with(Passes::DEAD),
        "mov_i64 rbx,rsi
         native_i32 ebx,_,eax,_,f2.0f38.f1,reg=inout,rm=in0
         mov_i64 rcx,rbx
         goto_tb $0x0,$0x10",
        "mov_i64 rbx,rsi
         native_i32 ebx,_,eax,_,f2.0f38.f1,reg=inout,rm=in0
         mov_i64 rcx,rbx
         goto_tb $0x0,$0x10",
    );
}
