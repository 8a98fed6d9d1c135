//! `null-co`: a disk of zeroes that forgets what is written to it.

use std::io;
use std::time::Duration;

use graph::{Extent, ExtentKind, Node, NodeInfo, WriteFlags, ZeroFlags, check_range};

/// A disk that stores nothing.
pub struct Null {
    size: u64,
    read_zeroes: bool,
    latency: Duration,
}

impl Null {
    /// Length of the disk if the user gives none: 1 GiB.
    pub const DEFAULT_SIZE: u64 = 1 << 30;

    /// A disk of `size` bytes; without `read_zeroes` reads leave the buffer as it is.
    pub fn new(size: u64, read_zeroes: bool) -> Self {
        Self { size, read_zeroes, latency: Duration::ZERO }
    }

    /// The same, and every request takes so long.
    #[must_use]
    pub fn with_latency(self, latency: Duration) -> Self {
        Self { latency, ..self }
    }

    /// Lets a request take its time.
    fn serve(&self, offset: u64, len: u64) -> io::Result<()> {
        check_range(offset, len, self.size)?;
        if !self.latency.is_zero() {
            std::thread::sleep(self.latency);
        }
        Ok(())
    }
}

impl Node for Null {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.serve(offset, buf.len() as u64)?;
        if self.read_zeroes {
            buf.fill(0);
        }
        Ok(())
    }

    fn read_cached(&self, offset: u64, buf: &mut [u8]) -> bool {
        self.latency.is_zero() && self.read_at(offset, buf).is_ok()
    }

    fn write_at(&self, offset: u64, buf: &[u8], _flags: WriteFlags) -> io::Result<()> {
        self.serve(offset, buf.len() as u64)
    }

    fn write_zeroes(&self, offset: u64, len: u64, _flags: ZeroFlags) -> io::Result<()> {
        self.serve(offset, len)
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.serve(offset, len)
    }

    fn flush(&self) -> io::Result<()> {
        self.serve(0, 0)
    }

    fn block_status(&self, offset: u64, len: u64) -> io::Result<Extent> {
        check_range(offset, len, self.size)?;
        let kind = if self.read_zeroes { ExtentKind::Zero } else { ExtentKind::Data };
        Ok(Extent { kind, len, host_offset: Some(offset) })
    }

    fn read_only(&self) -> bool {
        false
    }

    fn info(&self) -> NodeInfo {
        NodeInfo { driver: "null-co", filename: "null-co://".to_owned(), ..NodeInfo::default() }
    }
}
