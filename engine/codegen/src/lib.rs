//! Host code from IR. The only crate with conditions on the host's architecture.
//!
//! Generated code runs with one register on the [`Core`] of a virtual processor, which the ISA's
//! state struct follows in memory. Everything rare leaves the fast path through a [`Site`], a
//! record of where each operand and each guest register is at that place; one function of the
//! runtime serves them all. Units end in exits, whose [`ExitRecord`]s tell the runtime where
//! control wants to go; direct ones are patched into jumps.

pub mod guarded;
mod layout;
pub mod x86_64;

pub use layout::{
    CLEAN, Consts, Core, DEFERRED, Deferred, ENGINE_FLAGS, ExitRecord, Frame, JUMP_ENTRIES,
    JumpEntry, Loc, PAGE_BITS, RecordKind, SPILLS, Site, SiteKind, TLB_ENTRIES, TlbEntry,
    VECTOR_SPILLS, VectorConsts,
};

use ir::{RegInfo, VectorRegion};
use std::fmt;

/// Why a unit cannot be compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompileError {
    /// More values are alive than there is room for: make the unit shorter.
    TooComplex,
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unit keeps too many values alive")
    }
}

impl std::error::Error for CompileError {}

/// What a unit is compiled for.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// The ISA's registers.
    pub regs: &'a [RegInfo],
    /// Where its vector registers are.
    pub vectors: VectorRegion,
    /// Address at which the code will run; 16-byte aligned.
    pub origin: u64,
    /// Where the thunks are.
    pub thunks: Thunks,
    /// Number of the unit, for its exit records.
    pub unit: u64,
    /// Never link units directly.
    pub no_chain: bool,
    /// What the host has beyond what it must have.
    pub host: x86_64::HostFeatures,
    /// How guest memory is reached.
    pub memory: Memory,
    /// Guest code that may change without anybody noticing: each entry compares it with what was
    /// translated.
    pub compared: Option<Compared<'a>>,
}

/// How generated code reaches guest memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Memory {
    /// Through the software TLB of [`Core`].
    #[default]
    Tlb,
    /// Guest addresses are host addresses. Faults of the host lead to the slow path, by
    /// [`FaultRange`]; so do accesses that are misaligned and may not be.
    Direct,
    /// The same with the base of the host's segment gs added; guest addresses are of 32 bits.
    Window,
}

/// Guest code to compare.
#[derive(Clone, Copy, Debug)]
pub struct Compared<'a> {
    /// What was translated.
    pub code: &'a [u8],
    /// Host address where it was.
    pub host: u64,
}

/// Instructions that may fault on the host, and where control goes on then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultRange {
    /// Offset of the first one.
    pub start: u32,
    /// Offset behind the last one.
    pub end: u32,
    /// Offset of the record that says what they do: its address is to be in `rax`.
    pub site: u32,
    /// Address of the thunk to go to.
    pub thunk: u64,
}

/// Addresses of the code that all units share.
#[derive(Clone, Copy, Debug, Default)]
pub struct Thunks {
    /// Enters generated code: `extern "sysv64" fn(core, code) -> record`.
    pub enter: u64,
    /// Leaves generated code, the record's address in the scratch register.
    pub exit: u64,
    /// Goes to the guest address in the scratch register: a return that did not come from the call
    /// that it came back to.
    pub elsewhere: u64,
    /// Serves a site, integer registers only.
    pub slow: u64,
    /// Serves a site, floating-point registers too.
    pub slow_float: u64,
    /// Serves a site, whole vector registers too.
    pub slow_vector: u64,
}

/// Where things are in compiled code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// Offset of the entry that checks [`Core::flags`] first.
    pub checked_entry: u32,
    /// Offset of the entry for direct jumps.
    pub entry: u32,
    /// Offset of what lies out of line.
    pub tails: u32,
    /// Bytes of code before the records.
    pub code_len: u32,
}
