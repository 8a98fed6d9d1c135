//! The node: reads from what was fetched ahead, and fetches.

use std::io;

use graph::{
    Extent, ExtentKind, Node, NodeInfo, OpenError, WriteFlags, ZeroFlags, check_range, host_text,
};

use crate::ahead::Ahead;
use crate::client::{Client, NO_RANGES, Options};

/// Most bytes of one request.
const PIECE: usize = 4 << 20;
/// Reads up to this length are kept, too: tables are read again.
const SHORT: usize = 128 << 10;

/// An image on a web server.
pub struct Http {
    client: Client,
    driver: &'static str,
    url: String,
    size: u64,
    /// Bytes that are fetched beyond what is read.
    readahead: usize,
    ahead: Ahead,
}

impl Http {
    /// Asks the server for the image's length, and whether it gives parts of it. `driver` is `http` or
    /// `https`.
    ///
    /// # Errors
    /// With QEMU's words where scripts know them.
    pub fn open(driver: &'static str, options: &Options) -> Result<Self, OpenError> {
        let (url, start) = (&options.url, format!("{driver}://"));
        if !url.starts_with(&start) {
            return Err(OpenError::Option(format!(
                "{driver} curl driver cannot handle the URL '{url}' (does not start with '{start}')"
            )));
        }
        let failed = |why: &str| OpenError::Option(format!("CURL: Error opening file: {why}"));
        let client = Client::new(options)?;
        let told = client.head().map_err(|e| failed(&host_text(&e)))?;
        let size = told.size.ok_or_else(|| failed("Server didn't report file size."))?;
        if !told.ranges {
            return Err(failed(NO_RANGES));
        }
        if i64::try_from(size).is_err() {
            return Err(failed("The file is too large."));
        }
        let readahead = options.readahead.min(PIECE as u64) as usize;
        let ahead = Ahead::default();
        Ok(Self { client, driver, url: url.clone(), size, readahead, ahead })
    }

    /// Fetches `buf` and some more.
    fn fetch(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let rest = self.size - offset - buf.len() as u64;
        let more = rest.min(self.readahead as u64) as usize;
        let mut bytes = self.client.fetch(offset, buf.len() + more, self.size)?;
        buf.copy_from_slice(&bytes[..buf.len()]);
        if buf.len() <= SHORT {
            self.ahead.keep(offset, bytes);
        } else {
            self.ahead.keep(offset + buf.len() as u64, bytes.split_off(buf.len()));
        }
        Ok(())
    }
}

fn only_for_reading<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl Node for Http {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        check_range(offset, buf.len() as u64, self.size)?;
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let known = self.ahead.copy(at, &mut buf[done..]);
            done += known;
            if known == 0 {
                let end = buf.len().min(done + PIECE);
                self.fetch(at, &mut buf[done..end])?;
                done = end;
            }
        }
        Ok(())
    }

    fn write_at(&self, _offset: u64, _buf: &[u8], _flags: WriteFlags) -> io::Result<()> {
        only_for_reading()
    }

    fn write_zeroes(&self, _offset: u64, _len: u64, _flags: ZeroFlags) -> io::Result<()> {
        only_for_reading()
    }

    fn discard(&self, _offset: u64, _len: u64) -> io::Result<()> {
        only_for_reading()
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn block_status(&self, offset: u64, len: u64) -> io::Result<Extent> {
        check_range(offset, len, self.size)?;
        Ok(Extent { kind: ExtentKind::Data, len, host_offset: Some(offset) })
    }

    fn read_only(&self) -> bool {
        true
    }

    fn info(&self) -> NodeInfo {
        NodeInfo { driver: self.driver, filename: self.url.clone(), ..NodeInfo::default() }
    }
}
