//! Runs guest code: the code cache, the software MMU, precise exceptions, and the run loop of a
//! virtual processor.
//!
//! Generic over the ISA; what a machine holds is `Box<dyn cpu::VirtualCpu>`. Memory ordering: on
//! hosts with total store order, plain loads and stores of the guest are as strong as any guest
//! ISA's; fences that order a store before a load are full fences.

mod arena;
mod cache;
mod doorbell;
mod engine;
mod gate;
mod log;
mod settling;
mod shared;
mod standing;
mod vcpu;

/// What the handshakes between threads are made of; their tests have a model checker's instead.
mod primitives {
    pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
    pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
}

pub use cache::{CodeCache, Counters, Options};
pub use vcpu::Vcpu;
