//! Exceptions and interrupts: delegation, entry, return, priorities.

/// Synchronous exceptions, by code (privileged manual, “Machine Cause Register”).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exception {
    /// Instruction address misaligned.
    FetchMisaligned = 0,
    /// Instruction access fault.
    FetchAccess = 1,
    /// Illegal instruction.
    IllegalInstruction = 2,
    /// Breakpoint.
    Breakpoint = 3,
    /// Load address misaligned.
    LoadMisaligned = 4,
    /// Load access fault.
    LoadAccess = 5,
    /// Store or AMO address misaligned.
    StoreMisaligned = 6,
    /// Store or AMO access fault.
    StoreAccess = 7,
    /// Environment call from U-mode.
    EcallU = 8,
    /// Environment call from S-mode.
    EcallS = 9,
    /// Environment call from M-mode.
    EcallM = 11,
    /// Instruction page fault.
    FetchPage = 12,
    /// Load page fault.
    LoadPage = 13,
    /// Store or AMO page fault.
    StorePage = 15,
    /// Software check.
    SoftwareCheck = 18,
}

/// An exception to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trap {
    /// What happened.
    pub cause: Exception,
    /// What goes with it: the address, or the instruction's bits.
    pub tval: u64,
}

impl Trap {
    /// An exception.
    pub const fn new(cause: Exception, tval: u64) -> Self {
        Self { cause, tval }
    }

    /// Illegal instruction with these bits.
    pub const fn illegal(insn: u64) -> Self {
        Self::new(Exception::IllegalInstruction, insn)
    }
}
