//! The test protocol: drives the devices of a machine whose CPUs do not run.
//!
//! One command a line, one reply a line (`OK …`, `FAIL …`, `ERR …`), and `IRQ raise N` or `IRQ lower
//! N` whenever an intercepted line changes. A [`Session`] turns commands into replies; a [`Server`]
//! puts one on a character back end. Source: "QTest Device Emulation Testing Framework" in QEMU's
//! developer documentation, and replies of QEMU 10.0.2. Where that one aborts (missing or wrong
//! arguments), this one says FAIL and what is wrong.

mod serve;
mod session;

pub use serve::Server;
pub use session::{Outbox, Session};

use std::sync::Arc;

/// Which pins of a device are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pins {
    /// Its inputs.
    In,
    /// Its outputs.
    Out,
}

/// Hears of changes of lines: number and new level.
pub type LineListener = Arc<dyn Fn(u32, bool) + Send + Sync>;

/// The machine as the test protocol sees it. Addresses are guest-physical.
pub trait QtestTarget: Send + Sync {
    /// Whether the guest is big-endian.
    fn is_big_endian(&self) -> bool;

    /// Reads `size` bytes (1, 2, 4 or 8) in one access of the guest's byte order.
    fn load(&self, address: u64, size: u32) -> u64;

    /// Writes `size` bytes in one access of the guest's byte order.
    fn store(&self, address: u64, size: u32, value: u64);

    /// Reads a block, as a device's direct memory access does.
    fn read(&self, address: u64, buffer: &mut [u8]);

    /// Writes a block, as a device's direct memory access does.
    fn write(&self, address: u64, bytes: &[u8]);

    /// Reads an I/O port; all ones where there are none.
    fn port_in(&self, _port: u16, size: u32) -> u32 {
        u32::MAX >> (32 - 8 * size.clamp(1, 4))
    }

    /// Writes an I/O port.
    fn port_out(&self, _port: u16, _size: u32, _value: u32) {}

    /// Tells `listener` of changes of the pins of the device at `path` (those called `name`, or the
    /// unnamed ones). Outputs that are intercepted no longer reach whom they are wired to.
    ///
    /// # Errors
    /// There is no such device, or it has no such pins.
    fn intercept(
        &self,
        path: &str,
        pins: Pins,
        name: Option<&str>,
        listener: LineListener,
    ) -> Result<(), String>;

    /// Sets an input pin of the device at `path`.
    ///
    /// # Errors
    /// There is no such device or pin.
    fn set_line(&self, path: &str, name: &str, number: u32, level: u64) -> Result<(), String>;

    /// The virtual clock, in ns.
    fn now_ns(&self) -> u64;

    /// When the next timer of the virtual clock is due.
    fn next_deadline_ns(&self) -> Option<u64>;

    /// Moves the virtual clock on, running the timers that become due in their order.
    fn advance_to_ns(&self, time: u64);
}

#[cfg(test)]
mod tests;
