//! Generated from `isa-spec/x86`: lowering functions by instruction, their text, rows, and the helpers.

use super::boolean::B;
use super::mem::Field;
use super::node::V;
use super::{HelperInfo, Lower, LowerRow, NO_HELPER, NO_OPERAND, row, vector};
use crate::insn::{Form, Sz};
use crate::state::field;
use ir::Width;

codegen::lowering!();
