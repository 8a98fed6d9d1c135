//! The virtual processor as the rest of the machine sees it. The translator and KVM stand behind
//! the same two traits; boards, devices and the control plane cannot tell which runs.
//!
//! A [`VirtualCpu`] belongs to its thread. Everybody else holds its [`CpuLink`]: interrupt lines
//! and a kick that is never lost.

use device::LineSink;
pub use state::{RestoreError, Value};
use std::sync::Arc;

/// Why a virtual processor came back from running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It was kicked: whoever did so wants the thread's attention.
    Kicked,
    /// It waits for an interrupt; run it again when [`CpuLink::wait`] returns.
    Halted,
    /// It met a breakpoint or finished a single step.
    Debug,
    /// User mode: the program did something that is for its operating system to handle; the ISA's
    /// state says what.
    Trap,
}

/// What other threads hold of a virtual processor. Its lines are the inputs of the processor, as
/// the ISA numbers them.
pub trait CpuLink: LineSink {
    /// Makes `run` return soon, or at once the next time it is called.
    fn kick(&self);
    /// Blocks until an interrupt line changes or somebody kicks; at once if that has happened
    /// since the processor last looked.
    fn wait(&self);
}

/// One register for `info registers` and the debugger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    /// Name in the ISA's manual.
    pub name: &'static str,
    /// Width in bits.
    pub bits: u32,
    /// Value, zero-extended.
    pub value: u128,
}

/// A virtual processor, owned by the thread that runs it.
pub trait VirtualCpu: Send {
    /// The part that other threads hold.
    fn link(&self) -> Arc<dyn CpuLink>;
    /// Runs guest code until something needs the thread.
    fn run(&mut self) -> Exit;
    /// Executes one instruction (and takes an interrupt before it, if one is due).
    fn step(&mut self) -> Exit;
    /// Back to the state after power-on.
    fn reset(&mut self);
    /// Guest address of the next instruction.
    fn pc(&self) -> u64;
    /// All registers in the order the manual lists them.
    fn registers(&self) -> Vec<Register>;
    /// Sets a register by name; false when there is none or it is read-only.
    fn set_register(&mut self, name: &str, value: u128) -> bool;
    /// Text of `info registers`.
    fn dump(&self) -> String;
    /// What the engine counted, by name (`info jit`).
    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
    /// Guest physical address of a guest virtual one as the debugger sees it: rights ignored, no
    /// accessed or dirty bits set.
    fn debug_translate(&mut self, gva: u64) -> Option<u64>;
    /// Everything a guest can observe.
    fn save(&self) -> Value;
    /// Takes over a saved state.
    ///
    /// # Errors
    /// The first field that does not fit.
    fn restore(&mut self, value: &Value) -> Result<(), RestoreError>;
}
