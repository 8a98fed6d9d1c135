//! What a traced thread and its tracer tell each other: a block of the thread's memory, which the
//! tracer reads and writes while the thread stands.
#![expect(unsafe_code, reason = "a block that another process writes to")]

use crate::signal::INFO_LEN;
use std::cell::UnsafeCell;

/// The first word of a block: changes with its layout.
pub const MAGIC: u64 = 0x7469_6e61_6d6f_7501;
/// The signal that stops and asks; it is open on the host at all times.
pub const SIGNAL: i32 = libc::SIGBUS;
/// `si_code` of a signal by which a thread stops itself; its value is the address of the block.
pub const STOP_CODE: i32 = -0x5471;
/// `si_code` of a signal by which the tracer asks for a stop; its value is one of [`ask`].
pub const ASK_CODE: i32 = -0x5472;

/// What a tracer asks a running thread for.
pub mod ask {
    /// To become a traced one.
    pub const HELLO: u32 = 1;
    /// To take SIGSTOP, whose code, sender and user come with it.
    pub const SIGSTOP: u32 = 2;
    /// To stop as `PTRACE_INTERRUPT` has it.
    pub const INTERRUPT: u32 = 4;
}

/// Why a thread stopped itself.
pub mod kind {
    /// For nobody but the tracer's emulator.
    pub const HELLO: u32 = 1;
    /// Before a signal is delivered.
    pub const SIGNAL: u32 = 2;
    /// Before a system call.
    pub const ENTRY: u32 = 3;
    /// After it.
    pub const EXIT: u32 = 4;
    /// An event; the message is in the block.
    pub const EVENT: u32 = 5;
    /// Another program has been loaded.
    pub const EXEC: u32 = 6;
    /// A new thread or process begins.
    pub const CHILD: u32 = 7;
    /// It was asked to.
    pub const INTERRUPT: u32 = 8;
}

/// How a thread goes on.
pub mod resume {
    /// To the next signal or event.
    pub const CONT: u32 = 0;
    /// To the next system call, too.
    pub const SYSCALL: u32 = 1;
    /// For one instruction.
    pub const STEP: u32 = 2;
    /// Nobody traces it any more.
    pub const DETACH: u32 = 3;
}

/// Register sets in a block.
pub const SETS: usize = 6;
/// Bytes of all of them.
pub const SET_BYTES: usize = 12 << 10;
/// Ranges of memory that the tracer has written; more are told as one that is everything.
pub const WRITTEN: usize = 32;

/// The block.
#[repr(C)]
#[derive(Clone)]
pub struct Block {
    /// [`MAGIC`].
    pub magic: u64,
    /// Host address of guest address 0.
    pub base: u64,
    /// Guest addresses end here.
    pub limit: u64,
    /// ELF machine number.
    pub machine: u32,
    /// Bits of an address.
    pub bits: u32,
    /// One of [`kind`].
    pub kind: u32,
    /// Signal of the wait status, with the event's number in bits 8 up.
    pub status: u32,
    /// What the event is about.
    pub message: u64,
    /// Whether a stop signal takes effect now.
    pub stopping: u32,
    /// Whether it is attached by `PTRACE_SEIZE`, or an own thread's child that is.
    pub seized: u32,
    /// Address of the next instruction, and the stack.
    pub place: [u64; 2],
    /// Number and arguments of a call that is entered; or result, and whether it is an error.
    pub call: [u64; 7],
    /// Signals that the thread holds back.
    pub mask: u64,
    /// `siginfo_t`, as the host has it.
    pub info: [u8; INFO_LEN],
    /// Host addresses and lengths of the program's name, its arguments, its auxiliary vector.
    pub started: [[u64; 2]; 3],
    /// Kinds and lengths of register sets, which lie in `bytes` one behind the other.
    pub sets: [[u32; 2]; SETS],
    /// Their contents.
    pub bytes: [u8; SET_BYTES],
    // ---- from the tracer ----
    /// That the stop was seen, and this is its answer.
    pub answered: u32,
    /// One of [`resume`].
    pub resume: u32,
    /// The signal to go on with.
    pub signal: u32,
    /// Bits of register sets that were written; bit 31: the mask.
    pub changed: u32,
    /// `PTRACE_O_*`.
    pub options: u64,
    /// Ranges in `written` that count.
    pub written_count: u64,
    /// Guest addresses and lengths of what was written.
    pub written: [[u64; 2]; WRITTEN],
}

/// A block in its place.
pub struct Shared(Box<UnsafeCell<Block>>);

// SAFETY: its thread uses it, and another process while the thread stands.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Default for Shared {
    fn default() -> Self {
        // SAFETY: zeros are a value: there are numbers only.
        let mut block: Block = unsafe { std::mem::zeroed() };
        block.magic = MAGIC;
        Self(Box::new(UnsafeCell::new(block)))
    }
}

impl Shared {
    /// Its address, for the tracer.
    pub fn address(&self) -> u64 {
        self.0.get() as u64
    }

    /// What is in it; the tracer changes it only while the thread is in [`super::tracee`]'s stop.
    pub fn get(&self) -> &Block {
        // SAFETY: the other process writes only while this thread waits in the kernel, with its address.
        unsafe { &*self.0.get() }
    }

    /// The same, to be written.
    pub fn get_mut(&mut self) -> &mut Block {
        self.0.get_mut()
    }
}
