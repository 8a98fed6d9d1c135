//! Serial ports.

mod attach;
mod ns16550a;

pub use attach::attach;
pub use ns16550a::{Config, Endian, Ns16550a};

use device::DeviceClass;

/// The host side of a serial port. Called with the port locked: an implementation must not call
/// the port back, and whoever calls [`Ns16550a::receive`] must not hold a lock that it takes.
pub trait SerialBackend: Send {
    /// Sends bytes and returns how many it took; the port keeps the rest and tries again after
    /// [`Ns16550a::resume_sending`].
    fn write(&mut self, bytes: &[u8]) -> usize;
    /// The port has room for received bytes again.
    fn accept_input(&mut self);
}

/// A back end that swallows all output and never has input.
pub struct Discard;

impl SerialBackend for Discard {
    fn write(&mut self, bytes: &[u8]) -> usize {
        bytes.len()
    }
    fn accept_input(&mut self) {}
}

/// The serial ports there are.
pub static CLASSES: &[&DeviceClass] = &[&ns16550a::CLASS];
