//! What user-mode emulation needs of an ISA: exceptions are not taken by the guest but handed to
//! whoever plays its operating system.

use crate::{Access, FpFlags, Guest, MemoryFault};

/// Why a program in user mode came to a stop.
///
/// The registers are what the operating system would find: the pc is that of the instruction which
/// did it, with nothing of it done, but where something else is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A system call; the pc is behind the instruction.
    Syscall {
        /// Which instruction, where an ISA has several; the usual one is 0.
        entry: u8,
        /// Address of the instruction: who goes on there makes the call again.
        at: u64,
    },
    /// An access to memory that failed, or a fetch.
    Memory {
        /// The first address at which it did.
        address: u64,
        /// What the access was for.
        access: Access,
        /// Why it failed.
        kind: MemoryFault,
    },
    /// An instruction that the processor does not have or that programs may not use.
    Illegal,
    /// An instruction whose use the ISA tells apart from an illegal one, such as a privileged one or
    /// a bad selector on x86: exception `vector` with `code`.
    Protection {
        /// Number of the exception.
        vector: u8,
        /// What goes with it.
        code: u32,
    },
    /// A breakpoint instruction; the pc is where the ISA leaves it, before or behind it.
    Breakpoint,
    /// A single step that the program's own flags asked for has been made.
    Step,
    /// An integer division by zero.
    DivideByZero,
    /// An integer result that does not fit: of a division, or where an instruction asks.
    Overflow,
    /// Bounds that an instruction found violated.
    Bounds,
    /// Floating-point exceptions that the program has unmasked.
    Float {
        /// Those that occurred.
        flags: FpFlags,
    },
}

/// An ISA that can run in user mode: [`Guest::raise`] keeps the exception in the state, and
/// [`Guest::holds_event`] tells of it, so that `run` ends.
///
/// Whoever plays the operating system reads and writes registers by row ([`Guest::reg`],
/// [`Guest::set_reg`]) or by its knowledge of the state, and clones the state for new threads and
/// processes.
pub trait UserGuest: Guest<State: Clone> {
    /// Takes the exception away; `None` if there is none.
    fn take_event(&self, state: &mut Self::State) -> Option<Event>;

    /// Address of the next instruction.
    fn pc(&self, state: &Self::State) -> u64 {
        self.mode(state).pc
    }
}
