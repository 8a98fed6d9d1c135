//! Entropy device (VIRTIO 1.3, "Entropy Device").
//!
//! Not modelled: rate limits (`max-bytes`), leak queues.

use crate::core::{Core, RingOptions, VirtioDevice};
use crate::props::{BuildError, Props};
use std::io;
use std::sync::Arc;

/// A source of random bytes.
pub trait RngBackend: Send + Sync {
    /// Fills the buffer.
    ///
    /// # Errors
    /// The source has failed.
    fn fill(&self, buffer: &mut [u8]) -> io::Result<()>;
}

/// `rng-builtin`: the host kernel's random numbers.
pub struct BuiltinRng;

impl RngBackend for BuiltinRng {
    fn fill(&self, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            match rustix::rand::getrandom(&mut *buffer, rustix::rand::GetRandomFlags::empty()) {
                Ok(n) => buffer = &mut buffer[n..],
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }
}

/// Most bytes handed out for one request; a driver asks again for more.
const PIECE: u64 = 16 << 10;
const QUEUE: usize = 0;

/// What the user chooses.
pub struct Config {
    /// Common ring properties.
    pub rings: RingOptions,
    /// Where the bytes come from.
    pub source: Arc<dyn RngBackend>,
}

impl Config {
    /// From properties; without `rng=` the source is the host kernel.
    ///
    /// # Errors
    /// A property is wrong.
    pub fn parse(
        props: &Props<'_>,
        find: impl Fn(&str) -> Option<Arc<dyn RngBackend>>,
    ) -> Result<Self, BuildError> {
        let limit: u64 = props.number("max-bytes")?;
        if limit == 0 || limit > i64::MAX as u64 {
            let text = "'max-bytes' parameter must be positive, and less than 2^63";
            return Err(BuildError::new(text));
        }
        if props.number::<u32>("period")? == 0 {
            return Err(BuildError::new("'period' parameter expects a positive integer"));
        }
        if limit != i64::MAX as u64 {
            return Err(BuildError::new("not supported yet: max-bytes"));
        }
        let source = match props.text("rng") {
            "" => Arc::new(BuiltinRng) as Arc<dyn RngBackend>,
            id => find(id).ok_or_else(|| BuildError::new(format!("Device '{id}' not found")))?,
        };
        Ok(Self { rings: props.ring_options()?, source })
    }
}

/// virtio-rng.
pub struct Rng {
    config: Config,
}

impl Rng {
    /// A device that hands out what its source gives.
    pub fn new(config: Config) -> Self {
        Self { config }
    }
}

impl VirtioDevice for Rng {
    fn name(&self) -> &'static str {
        "virtio-rng-device"
    }
    fn device_id(&self) -> u16 {
        4
    }
    fn ring_options(&self) -> RingOptions {
        self.config.rings
    }
    fn features(&self) -> u64 {
        0
    }
    fn queues(&self) -> Vec<u16> {
        vec![8]
    }

    fn notify(&mut self, core: &mut Core, queue: usize) {
        while let Some(chain) = core.pop(queue) {
            let len = crate::dma::total(&chain.writable).min(PIECE) as usize;
            let mut bytes = vec![0; len];
            if self.config.source.fill(&mut bytes).is_err() {
                bytes.clear();
            }
            match core.mem().scatter(&chain.writable, 0, &bytes) {
                Ok(n) => core.push(queue, chain.token, n as u32),
                Err(_) => return core.fail("a buffer lies outside memory"),
            }
        }
        core.signal(queue);
    }

    fn poll(&mut self, core: &mut Core) {
        self.notify(core, QUEUE);
    }
}
