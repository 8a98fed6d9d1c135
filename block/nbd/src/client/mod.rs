//! A node whose data is behind a connection.
//!
//! Callers on any number of threads send requests; one of those who wait reads replies, until its own comes, and
//! wakes the others whose answers it met. Requests of queues go through a lane, one thread for all of them. When the connection breaks and reconnecting is allowed, callers make a new one
//! and send their requests again: every request of the protocol may be repeated.

mod connection;
mod handshake;
mod incoming;
mod lane;
mod reply;

use crate::MAX_PAYLOAD;
use crate::address::{Address, Location, Stream};
use crate::wire::{self, ability, command, flag};
use connection::Connection;
use crypto::Credentials;
use graph::{
    Aio, Extent, ExtentKind, Limits, Node, NodeInfo, OpenError, Plain, RangeLocks, Sharing,
    WriteFlags, ZeroFlags, check_range, host_text,
};
use lane::Lane;
use reply::{FirstExtent, Request};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use handshake::list;

/// TLS towards a server.
#[derive(Clone)]
pub struct Tls {
    /// Certificates and keys.
    pub credentials: Arc<Credentials>,
    /// Name that the server's certificate must have, if not that of its host.
    pub hostname: Option<String>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("hostname", &self.hostname).finish_non_exhaustive()
    }
}

/// How a server is to be used.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Writes are refused.
    pub read_only: bool,
    /// A server that only allows reading is used so, instead of being an error.
    pub auto_read_only: bool,
    /// How long requests wait for a broken connection to come back.
    pub reconnect_delay: Duration,
    /// Context to ask for in place of `base:allocation`: a dirty bitmap shows as unallocated ranges.
    pub context: Option<String>,
    /// Everything goes through TLS.
    pub tls: Option<Tls>,
}

/// What a server says of an export.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportInfo {
    /// Its name.
    pub name: String,
    /// A description for people.
    pub description: String,
    /// Its length in bytes.
    pub size: u64,
    /// What it can do, as the protocol's transmission flags.
    pub flags: u16,
    /// Smallest, preferred and largest length of a request in bytes.
    pub block_sizes: (u32, u32, u32),
    /// Names of its metadata contexts.
    pub contexts: Vec<String>,
    /// Requests can have lengths of 64 bits.
    pub extended: bool,
}

/// A node that another process or host serves.
pub struct Client {
    core: Arc<Core>,
    /// Ranges that are being read, changed and written because the server wants larger blocks.
    locks: RangeLocks,
}

/// What the client shares with its lane.
struct Core {
    location: Location,
    options: Options,
    info: ExportInfo,
    link: Mutex<Option<Link>>,
}

/// A connection, and the lane on it when there is one.
struct Link {
    connection: Arc<Connection>,
    lane: Option<Arc<Lane>>,
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(lane) = &self.lane {
            lane.close();
        }
    }
}

impl Core {
    fn link(&self) -> MutexGuard<'_, Option<Link>> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection; a new one if the last one broke.
    fn connection(&self) -> io::Result<Arc<Connection>> {
        let mut link = self.link();
        if let Some(link) = &*link
            && link.connection.works()
        {
            return Ok(Arc::clone(&link.connection));
        }
        if !self.is_patient() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        *link = None;
        let stream = Stream::connect(&self.location.address)?;
        let connection = Connection::over(stream, &self.location, &self.options)?;
        if connection.info().size != self.info.size {
            return Err(wire::broken("the export has another length than before"));
        }
        let connection = Arc::new(connection);
        *link = Some(Link { connection: Arc::clone(&connection), lane: None });
        Ok(connection)
    }

    /// The lane, if requests can leave at once.
    fn lane(self: &Arc<Self>) -> Option<Arc<Lane>> {
        let mut link = self.link();
        let link = link.as_mut().filter(|link| link.connection.works())?;
        if link.lane.is_none() {
            let new = || Lane::new(&link.connection, Arc::downgrade(self));
            link.lane = link.connection.lane(new);
        }
        link.lane.clone()
    }

    /// Whether requests outlive a connection.
    fn is_patient(&self) -> bool {
        !self.options.reconnect_delay.is_zero()
    }

    /// Sends a request, again if the connection breaks and it is before `deadline`; what it reads goes to `buf`.
    fn call_until(
        &self,
        request: &Request<'_>,
        buf: &mut [u8],
        deadline: Instant,
    ) -> io::Result<FirstExtent> {
        loop {
            let failure = match self.connection() {
                Ok(connection) => match connection.call(request, buf) {
                    Err(failure) if !connection.works() => failure,
                    answered => return answered,
                },
                Err(failure) => failure,
            };
            if Instant::now() >= deadline {
                return Err(failure);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Until when a request that begins now may be sent again.
    fn deadline(&self) -> Instant {
        Instant::now() + self.options.reconnect_delay
    }
}

impl Client {
    /// Connects and chooses the export.
    ///
    /// # Errors
    /// No connection, no such export, or one that cannot be written to.
    pub fn open(location: &Location, options: &Options) -> Result<Self, OpenError> {
        let address = &location.address;
        let stream = Stream::connect(address).map_err(|e| address.connect_failure(e))?;
        Self::over(stream, location, options)
    }

    /// Chooses the export on a connection that exists. It cannot come back when it breaks, unless
    /// `location` says from where.
    ///
    /// # Errors
    /// As for [`Client::open`].
    pub fn over(stream: Stream, location: &Location, options: &Options) -> Result<Self, OpenError> {
        let connection = Connection::over(stream, location, options)
            .map_err(|e| OpenError::Option(host_text(&e)))?;
        let info = connection.info().clone();
        let fixed = info.flags & ability::READ_ONLY != 0;
        if fixed && !options.read_only && !options.auto_read_only {
            let text = "request on write denied without write permission".to_owned();
            return Err(OpenError::Option(text));
        }
        let options = Options { read_only: options.read_only || fixed, ..options.clone() };
        let link = Mutex::new(Some(Link { connection: Arc::new(connection), lane: None }));
        let core = Arc::new(Core { location: location.clone(), options, info, link });
        Ok(Self { core, locks: RangeLocks::default() })
    }

    /// What the server said of the export.
    pub fn export(&self) -> &ExportInfo {
        &self.core.info
    }

    fn can(&self, what: u16) -> bool {
        self.core.info.flags & what != 0
    }

    /// Sends a request, again if the connection breaks and there is time; what it reads goes to `buf`.
    fn call(&self, request: &Request<'_>, buf: &mut [u8]) -> io::Result<FirstExtent> {
        self.core.call_until(request, buf, self.core.deadline())
    }

    fn request<'a>(&self, kind: u16, offset: u64, len: u64) -> Request<'a> {
        Request { kind, flags: 0, offset, len, data: &[] }
    }

    /// Longest request with data.
    fn most(&self) -> u64 {
        let (least, _, most) = self.core.info.block_sizes;
        let most = most.min(MAX_PAYLOAD);
        u64::from(most - most % least.max(1)).max(u64::from(least))
    }

    fn least(&self) -> u64 {
        u64::from(self.core.info.block_sizes.0.max(1))
    }

    fn is_aligned(&self, offset: u64, len: u64) -> bool {
        offset.is_multiple_of(self.least()) && len.is_multiple_of(self.least())
    }

    /// The range in whole blocks around another.
    fn around(&self, offset: u64, len: u64) -> (u64, u64) {
        let start = offset - offset % self.least();
        let end = (offset + len).next_multiple_of(self.least()).min(self.core.info.size);
        (start, end - start)
    }

    fn read_aligned(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut at = offset;
        // No piece is longer than a payload.
        for piece in buf.chunks_mut(self.most() as usize) {
            let len = piece.len() as u64;
            self.call(&self.request(command::READ, at, len), piece)?;
            at += len;
        }
        Ok(())
    }

    fn write_aligned(&self, offset: u64, buf: &[u8], fua: bool) -> io::Result<()> {
        let flags = if fua { flag::FUA } else { 0 };
        let mut at = offset;
        for piece in buf.chunks(self.most() as usize) {
            let request = self.request(command::WRITE, at, piece.len() as u64);
            self.call(&Request { flags, data: piece, ..request }, &mut [])?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// Reads whole blocks, puts `buf` into them, and writes them back.
    fn write_within_blocks(&self, offset: u64, buf: &[u8], fua: bool) -> io::Result<()> {
        let (start, len) = self.around(offset, buf.len() as u64);
        let mut blocks = vec![0; len as usize];
        self.read_aligned(start, &mut blocks)?;
        let at = (offset - start) as usize;
        blocks[at..at + buf.len()].copy_from_slice(buf);
        self.write_aligned(start, &blocks, fua)
    }

    fn writable(&self) -> io::Result<()> {
        if self.core.options.read_only {
            Err(io::ErrorKind::ReadOnlyFilesystem.into())
        } else {
            Ok(())
        }
    }

    /// A request about a range without data, in pieces that the header can name.
    fn ranged(&self, kind: u16, flags: u16, offset: u64, len: u64) -> io::Result<()> {
        let most = match self.core.connection()?.is_extended() {
            true => u64::MAX,
            false => u64::from(u32::MAX - u32::MAX % self.core.info.block_sizes.0.max(1)),
        };
        let mut at = offset;
        while at < offset + len {
            let piece = (offset + len - at).min(most);
            self.call(&Request { flags, ..self.request(kind, at, piece) }, &mut [])?;
            at += piece;
        }
        Ok(())
    }
}

impl Node for Client {
    fn size(&self) -> u64 {
        self.core.info.size
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        check_range(offset, buf.len() as u64, self.core.info.size)?;
        if self.is_aligned(offset, buf.len() as u64) {
            return self.read_aligned(offset, buf);
        }
        let (start, len) = self.around(offset, buf.len() as u64);
        let mut blocks = vec![0; len as usize];
        self.read_aligned(start, &mut blocks)?;
        let at = (offset - start) as usize;
        buf.copy_from_slice(&blocks[at..at + buf.len()]);
        Ok(())
    }

    fn plain(&self, offset: u64, len: u64, write: bool, into: &mut Plain) -> bool {
        let core = &self.core;
        let refused = write && core.options.read_only || core.options.tls.is_some();
        let whole = self.is_aligned(offset, len) && (1..=self.most()).contains(&len);
        !refused
            && whole
            && check_range(offset, len, core.info.size).is_ok()
            && core.lane().is_some_and(|lane| into.away(lane, offset))
    }

    fn aio(&self) -> Aio {
        if self.core.options.tls.is_some() { Aio::Threads } else { Aio::Remote }
    }

    fn write_at(&self, offset: u64, buf: &[u8], flags: WriteFlags) -> io::Result<()> {
        self.writable()?;
        check_range(offset, buf.len() as u64, self.core.info.size)?;
        let fua = flags.fua && self.can(ability::FUA);
        if self.is_aligned(offset, buf.len() as u64) {
            self.write_aligned(offset, buf, fua)?;
        } else {
            let (start, len) = self.around(offset, buf.len() as u64);
            let _alone = self.locks.lock(start, start + len, Sharing::Exclusive);
            self.write_within_blocks(offset, buf, fua)?;
        }
        if flags.fua && !fua { self.flush() } else { Ok(()) }
    }

    fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> io::Result<()> {
        self.writable()?;
        check_range(offset, len, self.core.info.size)?;
        if !self.can(ability::WRITE_ZEROES) || !self.is_aligned(offset, len) {
            let zeroes = vec![0; len.min(self.most()) as usize];
            let mut at = offset;
            while at < offset + len {
                let piece = (offset + len - at).min(zeroes.len() as u64);
                let plain = WriteFlags { fua: flags.fua };
                self.write_at(at, &zeroes[..piece as usize], plain)?;
                at += piece;
            }
            return Ok(());
        }
        let fua = flags.fua && self.can(ability::FUA);
        let keep = if flags.unmap { 0 } else { flag::NO_HOLE };
        let bits = keep | if fua { flag::FUA } else { 0 };
        self.ranged(command::WRITE_ZEROES, bits, offset, len)?;
        if flags.fua && !fua { self.flush() } else { Ok(()) }
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.writable()?;
        check_range(offset, len, self.core.info.size)?;
        if !self.can(ability::TRIM) {
            return Ok(());
        }
        // Only whole blocks can be given back.
        let start = offset.next_multiple_of(self.least());
        let end = (offset + len) - (offset + len) % self.least();
        if start < end { self.ranged(command::TRIM, 0, start, end - start) } else { Ok(()) }
    }

    fn flush(&self) -> io::Result<()> {
        if self.can(ability::FLUSH) && !self.core.options.read_only {
            self.call(&self.request(command::FLUSH, 0, 0), &mut [])?;
        }
        Ok(())
    }

    fn block_status(&self, offset: u64, len: u64) -> io::Result<Extent> {
        check_range(offset, len, self.core.info.size)?;
        let connection = self.core.connection()?;
        let most = if connection.is_extended() { u64::MAX } else { u64::from(u32::MAX) / 2 };
        let (start, around) = self.around(offset, len.min(most));
        if !connection.has_context() {
            return Ok(Extent { kind: ExtentKind::Data, len, host_offset: Some(offset) });
        }
        let request = self.request(command::BLOCK_STATUS, start, around);
        let extent = self.call(&Request { flags: flag::ONE_EXTENT, ..request }, &mut [])?;
        let (known, flags) = extent.ok_or_else(|| wire::broken("no extent in an answer"))?;
        let known = known.saturating_sub(offset - start).min(len);
        if known == 0 {
            return Err(wire::broken("an empty extent in an answer"));
        }
        let kind = if self.core.options.context.is_some() {
            // A bitmap: what is dirty is to be copied.
            if flags == 0 { ExtentKind::Unallocated } else { ExtentKind::Data }
        } else if flags & crate::meta::ZERO != 0 {
            ExtentKind::Zero
        } else {
            ExtentKind::Data
        };
        let host_offset = (kind == ExtentKind::Data).then_some(offset);
        Ok(Extent { kind, len: known, host_offset })
    }

    fn read_only(&self) -> bool {
        self.core.options.read_only
    }

    fn limits(&self) -> Limits {
        let (least, preferred, _) = self.core.info.block_sizes;
        Limits {
            request_alignment: least.max(1),
            discard_granularity: preferred.max(512),
            ..Limits::default()
        }
    }

    fn info(&self) -> NodeInfo {
        let export = &self.core.location.export;
        let slash = if export.is_empty() { "" } else { "/" };
        let filename = match &self.core.location.address {
            Address::Unix(name) | Address::Abstract { name, .. } => {
                format!("nbd+unix://{slash}{export}?socket={name}")
            }
            tcp @ Address::Tcp { .. } => format!("nbd://{tcp}{slash}{export}"),
            // There is no shorter name.
            Address::Vsock { cid, port } => described(
                &format!("\"server.cid\": \"{cid}\", \"server.port\": \"{port}\""),
                "vsock",
                export,
            ),
            Address::Handed(number) => {
                described(&format!("\"server.str\": \"{number}\""), "fd", export)
            }
        };
        NodeInfo { driver: "nbd", filename, ..NodeInfo::default() }
    }
}

/// The name of a node that only its options describe.
fn described(server: &str, kind: &str, export: &str) -> String {
    let export = match export {
        "" => String::new(),
        // Quoted as in JSON, for names without control characters.
        name => format!(", \"export\": {name:?}"),
    };
    format!("json:{{{server}, \"driver\": \"nbd\"{export}, \"server.type\": \"{kind}\"}}")
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(link) = self.core.link().take() {
            link.connection.leave();
        }
    }
}
