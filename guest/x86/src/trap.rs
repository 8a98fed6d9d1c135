//! Exceptions, and how they are taken.
//!
//! In user mode nobody in the guest takes them: they are left in [`State::event`], and the pc is that
//! of the instruction, or after it, as the architecture says. Delivery through the IDT comes with
//! system mode.

use crate::processor::X86;
use crate::state::{State, mode};
use isa::{Access, Cpu, Event, Guest, MemoryFault};

/// Exceptions by vector (SDM volume 3, “Exception and Interrupt Reference”).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exception {
    /// #DE: division by zero, or a quotient too large.
    Divide = 0,
    /// #DB: debug.
    Debug = 1,
    /// #BP: INT3. The pc is behind it.
    Breakpoint = 3,
    /// #OF: INTO. The pc is behind it.
    Overflow = 4,
    /// #BR: BOUND.
    Bound = 5,
    /// #UD: undefined instruction.
    Undefined = 6,
    /// #NM: the x87 unit is not available.
    NotAvailable = 7,
    /// #NP: segment not present.
    NotPresent = 11,
    /// #SS: stack segment.
    Stack = 12,
    /// #GP: general protection.
    Protection = 13,
    /// #PF: page fault.
    Page = 14,
    /// #MF: x87 error.
    X87 = 16,
    /// #AC: misaligned.
    Alignment = 17,
    /// #XM: SSE exception.
    Simd = 19,
}

/// Bit of a page fault's error code, beside the architecture's: there was a page, and its memory is gone.
const BUS: u32 = 1 << 31;

/// The instructions that call a program's kernel, as [`Event::Syscall`] numbers them.
pub mod entry {
    /// `SYSCALL`.
    pub const SYSCALL: u8 = 0;
    /// `INT 80h`.
    pub const INT80: u8 = 1;
    /// `SYSENTER`.
    pub const SYSENTER: u8 = 2;
}

/// Something that ends the run of instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trap {
    /// An exception, its error code if it has one, and for #PF the address.
    Exception(Exception, u32, u64),
    /// A locked operation on misaligned memory.
    SplitLock,
    /// A system call: by which [`entry`], and the address of the instruction. The pc is behind it.
    Syscall(u8, u64),
}

impl Trap {
    /// An exception with error code 0 or none.
    pub const fn new(exception: Exception) -> Self {
        Self::Exception(exception, 0, 0)
    }

    /// #GP with an error code.
    pub const fn protection(error: u32) -> Self {
        Self::Exception(Exception::Protection, error, 0)
    }

    /// As [`State::event`] holds it: what (0: nothing), error code, address.
    pub const fn encode(self) -> [u64; 3] {
        match self {
            Self::Exception(exception, error, address) => {
                [0x100 | exception as u64, error as u64, address]
            }
            Self::Syscall(entry, at) => [0x200 | entry as u64, 0, at],
            Self::SplitLock => [0x100 | Exception::Alignment as u64, 0, 0],
        }
    }

    /// From there.
    pub fn decode([what, error, address]: [u64; 3]) -> Option<Self> {
        match what >> 8 {
            1 => Some(Self::Exception(Exception::from_vector(what as u8)?, error as u32, address)),
            2 => Some(Self::Syscall(what as u8, address)),
            _ => None,
        }
    }

    /// As who plays the operating system sees it.
    pub fn event(self) -> Event {
        use Exception as E;
        let (exception, code, address) = match self {
            Self::Exception(exception, code, address) => (exception, code, address),
            Self::Syscall(entry, at) => return Event::Syscall { entry, at },
            Self::SplitLock => (E::Alignment, 0, 0),
        };
        match exception {
            E::Divide => Event::DivideByZero,
            E::Debug => Event::Step,
            E::Breakpoint => Event::Breakpoint,
            E::Overflow => Event::Overflow,
            E::Bound => Event::Bounds,
            E::Undefined => Event::Illegal,
            E::Page => page_event(code, address),
            _ => Event::Protection { vector: exception as u8, code },
        }
    }
}

/// Error code of a page fault in ring 3 (SDM volume 3, “Page-Fault Exceptions”).
pub(crate) fn page_error(fault: MemoryFault, access: Access) -> u32 {
    let kind = match fault {
        MemoryFault::Protected => 1,
        MemoryFault::Bus => BUS,
        MemoryFault::Unmapped | MemoryFault::Misaligned => 0,
    };
    let access = match access {
        Access::Load => 0,
        Access::Store | Access::Atomic => 2,
        Access::Fetch => 16,
    };
    4 | kind | access
}

fn page_event(code: u32, address: u64) -> Event {
    let access = match code & 18 {
        0 => Access::Load,
        2 => Access::Store,
        _ => Access::Fetch,
    };
    let kind = match code & (BUS | 1) {
        0 => MemoryFault::Unmapped,
        1 => MemoryFault::Protected,
        _ => MemoryFault::Bus,
    };
    Event::Memory { address, access, kind }
}

impl Exception {
    const ALL: [Self; 14] = [
        Self::Divide,
        Self::Debug,
        Self::Breakpoint,
        Self::Overflow,
        Self::Bound,
        Self::Undefined,
        Self::NotAvailable,
        Self::NotPresent,
        Self::Stack,
        Self::Protection,
        Self::Page,
        Self::X87,
        Self::Alignment,
        Self::Simd,
    ];

    /// The exception with this vector.
    pub fn from_vector(vector: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|e| *e as u8 == vector)
    }
}

impl State {
    /// Takes the event that nobody took yet.
    pub fn take_trap(&mut self) -> Option<Trap> {
        Trap::decode(std::mem::take(&mut self.event))
    }
}

/// Takes an exception. Misaligned accesses that fault though nobody asked for alignment checks are those
/// of vectors: #GP; or locked ones.
pub(crate) fn raise(cpu: &mut Cpu<'_, X86>, trap: Trap) {
    let split = std::mem::take(&mut cpu.state.split) != 0;
    let checked = cpu.guest.mode(cpu.state).flags & mode::ALIGN != 0;
    let trap = match trap {
        // Locked operations are done again, piece by piece.
        Trap::SplitLock if !checked && !split => {
            cpu.state.split = 1;
            return;
        }
        Trap::Exception(Exception::Alignment, ..) if !checked => Trap::protection(0),
        trap => trap,
    };
    cpu.state.event = trap.encode();
}
