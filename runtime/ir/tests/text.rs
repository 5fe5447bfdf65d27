//! The text form and the verifier: spellings, names, and the message for each kind of mistake.

use ir::text::{Names, NoNames, parse, print, print_with_deaths};
use ir::{Code, Val, Width, verify};

struct Few;

impl Names for Few {
    fn env(&self, off: u32) -> Option<&str> {
        (off == 0x40).then_some("cr0")
    }
    fn helper(&self, id: u32) -> Option<&str> {
        (id == 3).then_some("far_jump")
    }
    fn fault(&self, what: u32) -> Option<&str> {
        (what == 13).then_some("#GP")
    }
    fn env_named(&self, name: &str) -> Option<u32> {
        (name == "cr0").then_some(0x40)
    }
    fn helper_named(&self, name: &str) -> Option<u32> {
        (name == "far_jump").then_some(3)
    }
    fn fault_named(&self, name: &str) -> Option<u32> {
        (name == "#GP").then_some(13)
    }
}

/// One op of every kind, as printed.
const EVERYTHING: &str = " ---- 0000000000000ff0 len=3 may_fault
 mov_i8 ah,r8b
 ext8u_i32 tmp0,ah
 ext16s_i64 tmp1,r9w
 bswap_i32 eax,eax
 setcond_i32 tmp2,eax,$0x5,ltu
 movcond_i16 ax,bx,$0x0,cx,dx,gt
 setccf_i8 al,np
 cmovf_i64 rax,rbx,r15,le
 getf_i32 tmp3
 putf_i32 tmp3,cz
 addf_i32 eax,eax,ebx                             flags: def z live cpazso
 subf_i8 _,spl,$0xff
 incf_i16 cx,cx
 shldf_i32 eax,eax,ebx,cl
 mulu2f_i32 eax,edx,eax,ebx
 divs2_i16 ax,dx,ax,dx,cx
 btf_i32 eax,$0x1f
 bsff_i32 eax,ebx,eax
 bsf_i32 eax,ebx,eax
 ctpop_i32 eax,ebx
 ld_i32 tmp4,env,$cr0
 st_i16 ax,env,$0x8
 read_pc_i32 tmp5,$-0x10
 qemu_ld_i8 al,esi,ds
 qemu_ld_i32 eax,tmp4,ss,a16
 qemu_st_i64 rax,rdi,es,a64
 guest_ptr_i64 tmp6,tmp4,gs,4,rw
 guest_ptr_i64 tmp7,tmp4,fs,8,r,lock,a16
 ld_h_i32 tmp8,tmp6,$0x4
 st_h_i32 tmp8,tmp6,$-0x4
 call_i64 far_jump,_
 call_i32 $0x9,eax,tmp4,_,$0x5
 brcond_i32 tmp4,$0x0,eq,$L0
 jccf ne,$L1
 br $L2
 set_label $L0
 raise_i32 #GP,$0x0
 set_label $L1
 goto_tb $0x1,$0xfff,back
 set_label $L2
 brcond_i8 al,ah,ne,$L3
 exit_tb_i32 $0x3,eax
 set_label $L3
 brcond_i8 al,bl,ne,$L4
 goto_ptr_i32 eax
 set_label $L4
 exit_tb_i32 $0x0
";

#[test]
fn every_kind_of_op_round_trips() {
    let block = parse(EVERYTHING, &Few).unwrap();
    verify(&block).unwrap();
    assert_eq!(print(&block, &Few), EVERYTHING);
    assert!(print(&block, &NoNames).contains("ld_i32 tmp4,env,$0x40"));
    assert_eq!(block.ops[1].code, Code::Mov);
    assert_eq!(block.ops[1].d, Val::high(0));
    assert_eq!(block.temps[1], Width::W64);
}

#[test]
fn every_code_has_a_parsable_name() {
    for code in Code::ALL {
        let mut block = ir::Block::default();
        block.push(ir::Op { x: 0, ..ir::Op::new(code, Width::W32) });
        let text = print(&block, &NoNames);
        if let Err(e) = parse(&text, &NoNames) {
            assert!(!e.what.starts_with("unknown op"), "{text}: {e}");
        }
    }
}

#[test]
fn deaths_are_noted() {
    let text = "mov_i32 tmp0,eax
         set_label $L0
         add_i32 tmp1,tmp0,tmp0
         sub_i32 ecx,ecx,tmp1
         brcond_i32 ecx,$0x0,ne,$L0
         goto_tb $0x0,$0x10";
    let noted = print_with_deaths(&parse(text, &NoNames).unwrap(), &NoNames);
    let dead = |n: usize| noted.lines().nth(n).unwrap().split("dead: ").nth(1);
    assert_eq!(dead(2), None, "the loop reads tmp0 again");
    assert_eq!(dead(4), Some("tmp0 tmp1"), "{noted}");
    assert!(parse(&noted, &NoNames).is_ok());
}

fn parse_error(text: &str) -> String {
    parse(text, &NoNames).unwrap_err().to_string()
}

#[test]
fn parse_errors_name_line_and_cause() {
    assert_eq!(parse_error("\n frob_i32 eax,ebx"), "line 2: unknown op `frob_i32`");
    assert_eq!(parse_error("add eax,eax,ebx"), "line 1: `add`: width missing or out of place");
    assert_eq!(parse_error("add_i32 eax,eax"), "line 1: operand missing");
    assert_eq!(parse_error("add_i32 eax,eax,bx"), "line 1: `bx` is no operand of 32 bits");
    assert_eq!(parse_error("add_i32 eax,eax,ebx,ecx"), "line 1: `ecx` is one operand too many");
    assert_eq!(parse_error("jccf eq,$L0"), "line 1: `eq` is no condition here");
    assert_eq!(parse_error("putf_i32 eax,cq"), "line 1: `q` is no flag");
    assert_eq!(parse_error("notf_i32 eax,eax"), "line 1: unknown op `notf_i32`");
}

fn verify_errors(text: &str) -> Vec<String> {
    let block = parse(text, &NoNames).unwrap_or_else(|e| panic!("{e}\n{text}"));
    verify(&block).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn the_verifier_tells_all_at_once() {
    assert_eq!(
        verify_errors(
            "brcond_i32 eax,$0x0,eq,$L0
             mov_i32 tmp0,ebx
             bswap_i8 al,al
             set_label $L0
             add_i32 ecx,ecx,tmp0"
        ),
        [
            "op 2 `bswap_i8 al,al`: bswap needs 16 bits or more",
            "op 4 `add_i32 ecx,ecx,tmp0`: tmp0 is not assigned on every path to here",
            "op 5 ``: control runs off the end of the block",
        ]
    );
}

#[test]
fn the_verifier_checks_widths_labels_and_ends() {
    let cases = [
        ("mov_i16 tmp0,ax\nmov_i32 ebx,tmp0\ngoto_tb $0x0,$0x0", "tmp0 has 16 bits, read at 32"),
        ("mov_i16 tmp0,ax\nmov_i32 tmp0,eax\ngoto_tb $0x0,$0x0", "tmp0 has 16 bits, assigned 32"),
        ("br $L0", "jump to a label that is not set"),
        ("set_label $L0\nset_label $L0\ngoto_tb $0x0,$0x0", "label set twice"),
        ("goto_tb $0x0,$0x0\nmov_i32 eax,ebx", "nothing leads here"),
        ("goto_tb $0x2,$0x0", "slot is neither 0 nor 1"),
        ("goto_tb $0x0,$0x1000", "leaves the page"),
        ("ld_h_i32 eax,rbx,$0x0\ngoto_tb $0x0,$0x0", "the pointer is not a temporary"),
        ("mulu2_i32 eax,eax,ebx,ecx\ngoto_tb $0x0,$0x0", "both results go to one place"),
        ("mov_i32 eax,_\ngoto_tb $0x0,$0x0", "a is missing"),
        ("mov_i32 $0x5,eax\ngoto_tb $0x0,$0x0", "a constant as result"),
        ("bt_i8 al,$0x1\ngoto_tb $0x0,$0x0", "needs at least 16 bits"),
        (
            "incf_i32 eax,eax   flags: def c\ngoto_tb $0x0,$0x0",
            "asks for flags the op cannot define",
        ),
    ];
    for (text, what) in cases {
        let errors = verify_errors(text);
        assert!(errors.iter().any(|e| e.contains(what)), "{text}\n{errors:?} lacks `{what}`");
    }
}
