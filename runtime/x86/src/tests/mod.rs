//! Unit tests of the machine part, by subject, on tiny memories with hand-made tables.

mod breakpoints;
mod gates;
mod interrupts;
mod long;
mod memory;
mod paging;
mod privilege;
mod quick;
mod real;
mod segments;
mod snapshot;
mod strings;
mod tasks;
mod vm86;
