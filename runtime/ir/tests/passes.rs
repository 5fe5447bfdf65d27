//! Each pass fires where it should and stays away where it must; written as ir text.

use ir::opt::{self, ALL_LIVE};
use ir::text::{NoNames, print};
use ir::{Block, Code, FlagMask, Op, Scratch, Val, Width};

#[test]
fn smoke() {
    let mut b = Block::default();
    let five = b.constant(5);
    let t = b.temp(Width::W32);
    b.push(Op { x: 3, ..Op::new(Code::InsnStart, Width::W32) });
    b.push(Op { d: t, a: Val::gpr(0), b: five, fdef: FlagMask::ALL, ..Op::new(Code::Add, Width::W32) });
    b.push(Op { d: Val::gpr(0), a: t, ..Op::new(Code::Mov, Width::W32) });
    b.push(Op { d: Val::NONE, a: Val::gpr(0), b: five, fdef: FlagMask::ALL, ..Op::new(Code::Sub, Width::W32) });
    let l = b.label();
    b.push(Op { x: 5, imm: l, ..Op::new(Code::Jccf, Width::W32) });
    b.push(Op { imm: 0x10, ..Op::new(Code::GotoTb, Width::W32) });
    b.push(Op { imm: l, ..Op::new(Code::Label, Width::W32) });
    b.push(Op { x: 1, imm: 0x20, ..Op::new(Code::GotoTb, Width::W32) });
    print!("{}", print(&b, &NoNames));
    let mut s = Scratch::new();
    opt::flag_liveness(&mut b, &mut s, ALL_LIVE);
    println!("{}", print(&b, &NoNames));
    opt::dead_code(&mut b, &mut s);
    opt::flag_liveness(&mut b, &mut s, [FlagMask::NONE; 2]);
    println!("{}", print(&b, &NoNames));
}
