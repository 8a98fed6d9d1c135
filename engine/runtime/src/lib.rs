//! Runs guest code: the code cache, the software MMU, precise exceptions, and the run loop of a
//! virtual processor.
//!
//! # User mode
//!
//! A process is a [`ProcessMemory`] and a [`Vcpu`] for each thread, on a host thread of its own. Guest
//! memory is host memory at a fixed distance: generated code accesses it without a check, and faults
//! of the host lead to its slow path. Whoever plays the operating system (the personality) drives it:
//!
//! ```no_run
//! # use cpu::{Exit, VirtualCpu};
//! # use isa::{Event, UserGuest};
//! # use runtime::{Options, ProcessMemory, Rights, Vcpu, Width};
//! # use std::sync::Arc;
//! # fn example<G: UserGuest>(guest: Arc<G>, pc: u64) -> std::io::Result<()>
//! # where G::State: state::SavedState {
//! let memory = ProcessMemory::new::<G>(Width::Bits64, Options::default())?;
//! // Host memory comes and goes by `change`, which forgets code and learns the rights; for zeros,
//! // `map` does it all. The host never needs the right to execute: `Rights::host`.
//! let code = memory.map(0, 0x1000, Rights::READ | Rights::WRITE | Rights::EXECUTE)?;
//! // One processor for each thread; a new thread's or a forked one's state is a clone.
//! let mut vcpu = Vcpu::for_process(guest, &memory);
//! G::set_pc(vcpu.state_mut(), pc);
//! // Goes to whoever wants this thread's attention, signal handlers included.
//! let kicker = vcpu.kicker();
//! loop {
//!     match vcpu.run() {
//!         Exit::Trap => match vcpu.take_event() {
//!             // Registers: `G::reg(vcpu.state(), row)`, `G::set_reg(vcpu.state_mut(), row, value)`.
//!             // Buffers: `memory.read`, `memory.write`; before the host's kernel writes to one,
//!             // `memory.prepare_write`.
//!             Some(Event::Syscall { entry: _, at: _ }) => {}
//!             // The state is that before the instruction: deliver a signal, or repair and go on.
//!             Some(Event::Memory { address: _, access: _, kind: _ }) => break,
//!             _ => break,
//!         },
//!         // Somebody kicked: look for signals.
//!         Exit::Kicked => {}
//!         // `step`, or an ISA's wait for interrupts.
//!         Exit::Debug | Exit::Halted => {}
//!     }
//! }
//! # drop((kicker, code));
//! # Ok(()) }
//! ```
//!
//! A fork of the process goes through [`ProcessMemory::fork`]. A personality with handlers of its own
//! for SIGSEGV and SIGBUS calls [`handle_fault`] in them first.
//!
//! Generic over the ISA; what a machine holds is `Box<dyn cpu::VirtualCpu>`. Memory ordering: on
//! hosts with total store order, plain loads and stores of the guest are as strong as any guest
//! ISA's; fences that order a store before a load are full fences.

mod arena;
mod cache;
mod code_page;
mod direct;
mod doorbell;
mod engine;
mod faults;
mod gate;
mod host;
mod log;
mod pages;
mod perf;
mod process;
mod settling;
mod shared;
mod source;
mod standing;
mod user;
mod vcpu;

/// What the handshakes between threads are made of; their tests have a model checker's instead.
mod primitives {
    pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
    pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
}

pub use cache::{CodeCache, Counters, Options};
pub use codegen::x86_64::HostFeatures;
pub use faults::handle_fault;
pub use pages::{Fault, Rights};
pub use process::{ProcessMemory, Side, Width};
pub use user::Kicker;
pub use vcpu::Vcpu;
