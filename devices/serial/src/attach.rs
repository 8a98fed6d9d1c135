//! Ties serial ports to character back ends.

use crate::{Ns16550a, SerialBackend};
use chardev::{Event, Port, Sink};
use device::{Shared, Weak};
use std::sync::Arc;

/// A character back end is the host side of a serial port as it is.
impl SerialBackend for Port {
    fn write(&mut self, bytes: &[u8]) -> usize {
        Port::write(self, bytes)
    }

    fn accept_input(&mut self) {
        Port::accept_input(self);
    }
}

/// Input of a back end for a UART.
struct Input(Weak<Ns16550a>);

impl Sink for Input {
    fn receive(&self, bytes: &[u8]) -> usize {
        // Nobody is there to read any more: the input is gone.
        self.0.upgrade().map_or(bytes.len(), |uart| uart.lock().receive(bytes))
    }

    fn event(&self, event: Event) {
        if event == Event::Break
            && let Some(uart) = self.0.upgrade()
        {
            uart.lock().receive_break();
        }
    }

    fn writable(&self) {
        if let Some(uart) = self.0.upgrade() {
            uart.lock().resume_sending();
        }
    }
}

/// Makes `port` the host side of `uart`. Whoever drops the result cuts off its input.
#[must_use]
pub fn attach(uart: &Shared<Ns16550a>, port: &Port) -> Arc<dyn Sink> {
    uart.lock().set_backend(Box::new(port.clone()));
    let input: Arc<dyn Sink> = Arc::new(Input(uart.downgrade()));
    port.attach(&input);
    input
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use chardev::{Backend, Chardevs};
    use device::{MmioDevice, Wire};
    use time::Clock;

    #[test]
    fn output_reaches_the_back_end_and_input_the_port() {
        let chardevs = Chardevs::start(1, |_| {}).unwrap();
        let config = chardev::Config::new("ring", Backend::Ringbuf { size: 64 });
        chardevs.open(&config, &|_| {}).unwrap();
        let port = chardevs.port("ring").unwrap();
        let clock = Clock::manual();
        let uart =
            Ns16550a::new(Config::default(), Wire::default(), &clock, Box::new(crate::Discard));
        let input = attach(&uart, &port);
        b"hi".iter().for_each(|byte| uart.lock().write(0, 1, (*byte).into()));
        assert_eq!(chardevs.read_ring("ring", 64), Some(b"hi".to_vec()));
        assert_eq!(input.receive(b"abc"), 1);
        assert_eq!(uart.lock().read(0, 1), u64::from(b'a'));
        drop(uart);
        assert_eq!(input.receive(b"abc"), 3);
    }
}
