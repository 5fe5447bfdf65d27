//! The machine around the translator: command line, board, outer and inner loop, log, console, monitor, demo.

pub mod board;
pub mod boot;
pub mod cli;
pub mod console;
pub mod demo;
pub mod disk;
pub mod exit;
pub mod firmware;
mod gdb;
pub mod log;
pub mod machine;
pub mod monitor;
pub mod snapshot;
pub mod terminal;
pub mod vcpu;
