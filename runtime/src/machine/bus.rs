//! The CPU's way to the board, which it shares with the outer loop.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

use mem::{Bus, Ns, Phys, Port, Size};

use crate::board::Board;
use crate::log::Log;
use crate::vcpu::Kicker;

/// What an access can set in motion in the outer loop.
pub(super) struct Link {
    /// Stops the vCPU; set once it exists.
    pub(super) kicker: OnceCell<Kicker>,
    /// The board's deadline the outer loop knows of.
    pub(super) armed: Cell<Ns>,
    /// The user asked for a non-maskable interrupt.
    pub(super) nmi: Cell<bool>,
    /// Interrupts delivered, by vector.
    pub(super) counts: RefCell<Box<[u64; 256]>>,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            kicker: OnceCell::new(),
            armed: Cell::new(0),
            nmi: Cell::new(false),
            counts: RefCell::new(Box::new([0; 256])),
        }
    }
}

/// The board as a [`Bus`].
pub(super) struct SharedBoard {
    pub(super) board: Rc<RefCell<Board>>,
    pub(super) link: Rc<Link>,
    pub(super) log: Rc<Log>,
}

impl SharedBoard {
    /// After an access: does the outer loop have something to do before it expects to?
    fn notice(&self, board: &Board) {
        let is_early = board.next_deadline().is_some_and(|at| at < self.link.armed.get());
        if (is_early || board.has_event())
            && let Some(kicker) = self.link.kicker.get()
        {
            kicker.kick();
        }
    }
}

impl Bus for SharedBoard {
    fn port_in(&mut self, port: Port, size: Size) -> u64 {
        let mut board = self.board.borrow_mut();
        let value = board.port_in(port, size);
        self.notice(&board);
        value
    }

    fn port_in_block(&mut self, port: Port, size: Size, buf: &mut [u8]) -> usize {
        let mut board = self.board.borrow_mut();
        let n = board.port_in_block(port, size, buf);
        self.notice(&board);
        n
    }

    fn port_out_block(&mut self, port: Port, size: Size, bytes: &[u8]) -> usize {
        let mut board = self.board.borrow_mut();
        let n = board.port_out_block(port, size, bytes);
        self.notice(&board);
        n
    }

    fn port_out(&mut self, port: Port, size: Size, value: u64) {
        let mut board = self.board.borrow_mut();
        board.port_out(port, size, value);
        self.notice(&board);
    }

    fn mmio_read(&mut self, at: Phys, size: Size) -> u64 {
        let mut board = self.board.borrow_mut();
        let value = board.mmio_read(at, size);
        self.notice(&board);
        value
    }

    fn mmio_write(&mut self, at: Phys, size: Size, value: u64) {
        let mut board = self.board.borrow_mut();
        board.mmio_write(at, size, value);
        self.notice(&board);
    }

    fn intr(&self) -> bool {
        self.board.borrow().intr()
    }

    fn inta(&mut self) -> u8 {
        let vector = self.board.borrow_mut().inta();
        self.log.hardware_interrupt(vector);
        let count = &mut self.link.counts.borrow_mut()[usize::from(vector)];
        *count = count.wrapping_add(1);
        vector
    }

    fn take_nmi(&mut self) -> bool {
        self.link.nmi.take() || self.board.borrow_mut().take_nmi()
    }

    fn set_apic_base(&mut self, base: u64) {
        self.board.borrow_mut().set_apic_base(base);
    }

    fn apic_read(&mut self, n: u32) -> Option<u64> {
        self.board.borrow_mut().apic_read(n)
    }

    fn apic_write(&mut self, n: u32, value: u64) -> bool {
        let mut board = self.board.borrow_mut();
        let is_written = board.apic_write(n, value);
        self.notice(&board);
        is_written
    }

    fn task_priority(&self) -> u8 {
        self.board.borrow().task_priority()
    }

    fn set_task_priority(&mut self, class: u8) {
        self.board.borrow_mut().set_task_priority(class);
    }

    fn tsc_deadline(&mut self) -> Option<u64> {
        self.board.borrow_mut().tsc_deadline()
    }

    fn set_tsc_deadline(&mut self, at: Option<u64>) {
        let mut board = self.board.borrow_mut();
        board.set_tsc_deadline(at);
        self.notice(&board);
    }

    fn set_ferr(&mut self, is_on: bool) {
        self.board.borrow_mut().set_ferr(is_on);
    }

    fn ignne(&self) -> bool {
        self.board.borrow().ignne()
    }

    fn tsc(&mut self) -> u64 {
        self.board.borrow_mut().tsc()
    }

    fn tsc_map(&self) -> mem::TscMap {
        self.board.borrow().tsc_map()
    }

    fn advance_to(&mut self, now: Ns) {
        self.board.borrow_mut().advance_to(now);
    }

    fn a20(&self) -> bool {
        self.board.borrow().a20()
    }
}
