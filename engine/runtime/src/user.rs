//! Processors of a process's threads.

use crate::doorbell::attention;
use crate::process::ProcessMemory;
use crate::shared::Shared;
use crate::vcpu::Vcpu;
use isa::{Event, UserGuest};
use memory::AddressSpace;
use state::SavedState;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

impl<G: UserGuest> Vcpu<G>
where
    G::State: SavedState,
{
    /// A processor in its reset state for a thread of a process.
    pub fn for_process(guest: Arc<G>, memory: &Arc<ProcessMemory>) -> Self {
        let space = AddressSpace::new("process");
        Self::with(guest, space, Arc::clone(&memory.cache), Some(Arc::clone(memory)))
    }

    /// The memory of its process, if it is a thread of one.
    pub fn memory(&self) -> Option<&Arc<ProcessMemory>> {
        self.process.as_ref()
    }

    /// What made [`VirtualCpu::run`] end with [`Exit::Trap`].
    pub fn take_event(&mut self) -> Option<Event> {
        self.with_guest(|guest, state| guest.take_event(state))
    }

    /// What kicks it out of [`VirtualCpu::run`].
    pub fn kicker(&self) -> Kicker {
        Kicker(Arc::clone(&self.shared) as Arc<dyn Attention>)
    }
}

/// The word that a processor polls.
trait Attention: Send + Sync {
    fn word(&self) -> &AtomicU32;
}

impl<S: Send> Attention for Shared<S> {
    fn word(&self) -> &AtomicU32 {
        self.attention()
    }
}

/// Kicks a processor of a process.
#[derive(Clone)]
pub struct Kicker(Arc<dyn Attention>);

impl Kicker {
    /// Makes `run` end with [`Exit::Kicked`] soon, or at once the next time it is called. One atomic
    /// operation: for signal handlers, too.
    pub fn kick(&self) {
        self.0.word().fetch_or(attention::KICK, Ordering::SeqCst);
    }
}
