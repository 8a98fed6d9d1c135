//! User mode: a hart without a machine, whose exceptions are for whoever plays the operating system.
//!
//! What programs find on Linux: floating point and vectors are on, cache blocks may be cleaned,
//! invalidated and zeroed, all counters that the configuration has may be read, `time` counts at
//! 10 MHz. Pointer masking is off.

use crate::hart::{Riscv, Wiring};
use crate::model::{Config, Feature};
use crate::state::{Privilege, State};
use crate::status::{CBCFE, CBIE, CBZE, FS, VS};
use crate::trap::{Exception, Trap};
use isa::{Access, Event, MemoryFault, UserGuest};
use time::{Clock, Counter};

/// Frequency of `time`, in Hz.
const TIMEBASE: u64 = 10_000_000;
/// In [`State::event`]: the page is there. Below it: 1 + the exception's code.
const PROTECTED: u64 = 1 << 32;

impl Riscv {
    /// A hart for programs in user mode.
    pub fn user(config: Config) -> Self {
        let clock = Clock::manual();
        clock.resume();
        let wiring = Wiring { user: true, ..Wiring::new(0, 0, Counter::new(clock, TIMEBASE)) };
        Self { config, wiring }
    }
}

/// The state that a program begins in, but for what its operating system sets.
pub(crate) fn enter(hart: &Riscv, state: &mut State) {
    state.privilege = Privilege::User;
    let floats = if hart.has(Feature::F) { FS } else { 0 };
    let vectors = if hart.has(Feature::Zve32x) { VS } else { 0 };
    state.mstatus |= floats | vectors;
    (state.mcounteren, state.scounteren) = (u32::MAX.into(), u32::MAX.into());
    state.menvcfg |= CBZE | CBCFE | CBIE;
    state.senvcfg |= CBZE | CBCFE | CBIE;
    (state.mstateen, state.sstateen) = ([u64::MAX; 4], [u64::MAX; 4]);
}

/// Keeps an exception until it is asked for.
pub(crate) fn keep(state: &mut State, trap: Trap) {
    let protected = if trap.protected { PROTECTED } else { 0 };
    state.event = (1 + trap.cause as u64) | protected;
    state.event_value = trap.tval;
}

impl UserGuest for Riscv {
    fn take_event(&self, state: &mut State) -> Option<Event> {
        use Exception as E;
        let event = std::mem::take(&mut state.event);
        let value = std::mem::take(&mut state.event_value);
        let cause = E::from_code((event & !PROTECTED).checked_sub(1)?)?;
        let mapped =
            if event & PROTECTED != 0 { MemoryFault::Protected } else { MemoryFault::Unmapped };
        let memory = |access, kind| Event::Memory { address: self.address(value), access, kind };
        Some(match cause {
            E::EcallU | E::EcallS | E::EcallM => {
                let at = state.pc;
                state.pc = self.address(at.wrapping_add(4));
                Event::Syscall { entry: 0, at }
            }
            E::Breakpoint => Event::Breakpoint,
            E::IllegalInstruction | E::SoftwareCheck => Event::Illegal,
            E::FetchMisaligned => memory(Access::Fetch, MemoryFault::Misaligned),
            E::LoadMisaligned => memory(Access::Load, MemoryFault::Misaligned),
            E::StoreMisaligned => memory(Access::Store, MemoryFault::Misaligned),
            E::FetchAccess => memory(Access::Fetch, MemoryFault::Bus),
            E::LoadAccess => memory(Access::Load, MemoryFault::Bus),
            E::StoreAccess => memory(Access::Store, MemoryFault::Bus),
            E::FetchPage => memory(Access::Fetch, mapped),
            E::LoadPage => memory(Access::Load, mapped),
            E::StorePage => memory(Access::Store, mapped),
        })
    }
}
