//! What a device is: state that resets and is saved, registers, wires, and a row in a table.
//!
//! Handlers take `&mut self` under the device's own lock and run to completion. They touch guest
//! RAM directly and other devices only through wires. A wire's listener runs at once, inside the
//! handler, so that levels can never be seen out of order; therefore listeners (interrupt
//! controllers, processors, the machine's reset line) only lock themselves, never a device that
//! drives them. See `docs/decisions/0002-wires-notify-at-once.md`.

mod bench;
mod class;
mod control;
mod msi;
mod registers;
mod wire;

pub use bench::{RecordedControl, SeededRandom, assert_saves_and_restores, hammer_registers};
pub use class::{Bus, Category, DeviceClass, Property};
pub use control::{Cause, MachineControl};
pub use memory::AccessRules;
pub use msi::{MsiSink, RecordedMessages};
pub use state::{RestoreError, SavedState, Value};
pub use trace::guest_error;
pub use wire::{Fan, LineEar, LineSink, OrGate, RecordedLines, Tap, Wire};

use memory::IoHandler;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A device: whatever has state that a guest can observe.
pub trait Device: Send {
    /// Back to the state after power-on; wires are driven to match.
    fn reset(&mut self);
    /// Everything the guest can observe.
    fn save(&self) -> Value;
    /// Takes over a saved state and drives wires and timers to match.
    ///
    /// # Errors
    /// The first field that does not fit; the device is unchanged then.
    fn restore(&mut self, value: &Value) -> Result<(), RestoreError>;
    /// See [`Part::hold`].
    fn hold(&mut self) {}
    /// See [`Part::release`].
    fn release(&mut self) {}
}

/// A device with a block of registers in an address space.
pub trait MmioDevice: Device {
    /// Widths the handlers take; the address space splits and widens the rest.
    fn rules(&self) -> AccessRules {
        AccessRules::U32
    }
    /// Reads `size` bytes at `offset`; called for reserved offsets too.
    fn read(&mut self, offset: u64, size: u32) -> u64;
    /// Writes the low `size` bytes of `value` at `offset`; called for reserved offsets too.
    fn write(&mut self, offset: u64, size: u32, value: u64);
}

/// A device with numbered input lines: an interrupt controller. Its [`Shared`] form is a
/// [`LineSink`], under the rules that hold for those.
pub trait LineDevice: Send {
    /// Input `line` now has this level. Lines that do not exist are ignored.
    fn set_line(&mut self, line: u32, level: bool);
}

/// A device in its lock, shared by the address space, timers, back ends and the machine.
pub struct Shared<D>(Arc<Mutex<D>>);

impl<D> Shared<D> {
    /// Puts `device` into its lock.
    pub fn new(device: D) -> Self {
        Self(Arc::new(Mutex::new(device)))
    }

    /// Puts a device into its lock that needs a handle on itself, for its timers.
    pub fn new_cyclic(build: impl FnOnce(Weak<D>) -> D) -> Self {
        Self(Arc::new_cyclic(|weak| Mutex::new(build(Weak(std::sync::Weak::clone(weak))))))
    }

    /// Locks the device. A handler that panicked leaves a state that is still safe to use.
    pub fn lock(&self) -> MutexGuard<'_, D> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A handle that does not keep the device alive, for its own timers and back ends.
    pub fn downgrade(&self) -> Weak<D> {
        Weak(Arc::downgrade(&self.0))
    }
}

impl<D> Clone for Shared<D> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// A handle on a device that does not keep it alive.
pub struct Weak<D>(std::sync::Weak<Mutex<D>>);

impl<D> Weak<D> {
    /// A handle on nothing.
    pub fn new() -> Self {
        Self(std::sync::Weak::new())
    }

    /// The device, if it is still there.
    pub fn upgrade(&self) -> Option<Shared<D>> {
        self.0.upgrade().map(Shared)
    }
}

impl<D> Default for Weak<D> {
    fn default() -> Self {
        Self::new()
    }
}

impl<D> Clone for Weak<D> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<D: MmioDevice> IoHandler for Shared<D> {
    fn rules(&self) -> AccessRules {
        self.lock().rules()
    }
    fn read(&self, offset: u64, size: u32) -> u64 {
        self.lock().read(offset, size)
    }
    fn write(&self, offset: u64, size: u32, value: u64) {
        self.lock().write(offset, size, value);
    }
}

impl<D: LineDevice> LineSink for Shared<D> {
    fn set_line(&self, line: u32, level: bool) {
        self.lock().set_line(line, level);
    }
}

/// What the machine keeps of each device to reset, save and restore it.
pub trait Part: Send + Sync {
    /// See [`Device::reset`].
    fn reset(&self);
    /// See [`Device::save`].
    fn save(&self) -> Value;
    /// See [`Device::restore`].
    ///
    /// # Errors
    /// The first field that does not fit.
    fn restore(&self, value: &Value) -> Result<(), RestoreError>;
    /// The machine stands still. Returns when nothing is in flight; what back ends bring from now
    /// on waits for [`Part::release`], so that states saved one after the other belong together.
    fn hold(&self) {}
    /// The machine goes on.
    fn release(&self) {}
}

impl<D: Device> Part for Shared<D> {
    fn reset(&self) {
        self.lock().reset();
    }
    fn save(&self) -> Value {
        self.lock().save()
    }
    fn restore(&self, value: &Value) -> Result<(), RestoreError> {
        self.lock().restore(value)
    }
    fn hold(&self) {
        self.lock().hold();
    }
    fn release(&self) {
        self.lock().release();
    }
}
