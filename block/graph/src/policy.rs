//! What the options of a member make of requests to its node, whoever sends them.
//!
//! Observed with QEMU 10.0: `detect-zeroes` and `discard` belong to a node and hold for its devices,
//! exports and jobs and for the nodes above it alike; so does the offset up to which it was written.

use std::io;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{
    Aio, Breakpoints, Child, DetectZeroes, DiskOptions, Event, Extent, Image, Limits, Node,
    NodeInfo, OpenError, Past, Permissions, Plain, Preallocation, Siblings, WriteFlags, ZeroFlags,
    is_zero,
};

/// Options of a member in a form that requests can look at.
pub(crate) struct Policy {
    options: Mutex<DiskOptions>,
    flags: AtomicU8,
    /// End of the furthest write, in bytes.
    highest: AtomicU64,
    discards: [AtomicU64; 3],
}

/// Discards that a node was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Discards {
    /// Requests that succeeded.
    pub ok: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Bytes of those that succeeded.
    pub bytes: u64,
}

const READ_ONLY: u8 = 1;
const DISCARD: u8 = 2;
const DETECT: u8 = 4;
const UNMAP: u8 = 8;
const INACTIVE: u8 = 16;

impl Policy {
    pub fn new(options: DiskOptions) -> Arc<Self> {
        let flags = AtomicU8::new(flags(&options));
        let (options, highest) = (Mutex::new(options), AtomicU64::new(0));
        Arc::new(Self { options, flags, highest, discards: Default::default() })
    }

    fn locked(&self) -> MutexGuard<'_, DiskOptions> {
        self.options.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn options(&self) -> DiskOptions {
        self.locked().clone()
    }

    pub fn set(&self, options: DiskOptions) {
        let mut slot = self.locked();
        self.flags.store(flags(&options), Ordering::Release);
        *slot = options;
    }

    /// End of the furthest write so far, in bytes.
    pub fn highest(&self) -> u64 {
        self.highest.load(Ordering::Relaxed)
    }

    /// Takes note of a write.
    pub fn wrote(&self, offset: u64, len: u64) {
        let end = offset.saturating_add(len);
        if end > self.highest.load(Ordering::Relaxed) {
            self.highest.fetch_max(end, Ordering::Relaxed);
        }
    }

    /// Discards so far.
    pub fn discarded(&self) -> Discards {
        let [ok, failed, bytes] = &self.discards;
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Discards { ok: get(ok), failed: get(failed), bytes: get(bytes) }
    }

    fn count_discard(&self, good: bool, len: u64) {
        let [ok, failed, bytes] = &self.discards;
        if good { ok } else { failed }.fetch_add(1, Ordering::Relaxed);
        bytes.fetch_add(if good { len } else { 0 }, Ordering::Relaxed);
    }

    pub fn discards(&self) -> bool {
        self.has(DISCARD)
    }

    fn has(&self, flag: u8) -> bool {
        self.flags.load(Ordering::Acquire) & flag != 0
    }

    /// Refuses what an inactive node cannot know or do.
    fn active(&self) -> io::Result<()> {
        const EPERM: i32 = 1;
        match self.has(INACTIVE) {
            true => Err(io::Error::from_raw_os_error(EPERM)),
            false => Ok(()),
        }
    }

    fn writable(&self) -> io::Result<()> {
        self.active()?;
        match self.has(READ_ONLY) {
            true => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
            false => Ok(()),
        }
    }
}

fn flags(options: &DiskOptions) -> u8 {
    let bit = |on: bool, flag| if on { flag } else { 0 };
    // A file that may change is what it is: see `Node::permit`.
    bit(options.read_only && !options.auto_read_only, READ_ONLY)
        | bit(options.inactive, INACTIVE)
        | bit(options.discard, DISCARD)
        | bit(options.detect_zeroes != DetectZeroes::Off, DETECT)
        | bit(options.detect_zeroes == DetectZeroes::Unmap, UNMAP)
}

/// A node under the options of its member.
pub(crate) struct Governed {
    pub node: Arc<dyn Node>,
    pub policy: Arc<Policy>,
}

impl Node for Governed {
    fn size(&self) -> u64 {
        self.node.size()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.node.read_at(offset, buf)
    }

    fn read_cached(&self, offset: u64, buf: &mut [u8]) -> bool {
        self.node.read_cached(offset, buf)
    }

    /// Whether a write is one of zeroes is not seen here.
    fn plain(&self, offset: u64, len: u64, write: bool, into: &mut Plain) -> bool {
        let looked_at = write && self.policy.has(READ_ONLY | DETECT | INACTIVE);
        let found = !looked_at && self.node.plain(offset, len, write, into);
        if found && write {
            self.policy.wrote(offset, len);
        }
        found
    }

    fn aio(&self) -> Aio {
        self.node.aio()
    }

    fn write_at(&self, offset: u64, buf: &[u8], flags: WriteFlags) -> io::Result<()> {
        self.policy.writable()?;
        if self.policy.has(DETECT) && is_zero(buf) {
            let zeroes = ZeroFlags { fua: flags.fua, unmap: self.policy.has(UNMAP) };
            return self.write_zeroes(offset, buf.len() as u64, zeroes);
        }
        self.node.write_at(offset, buf, flags)?;
        self.policy.wrote(offset, buf.len() as u64);
        Ok(())
    }

    fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> io::Result<()> {
        self.policy.writable()?;
        let unmap = flags.unmap && self.policy.discards();
        self.node.write_zeroes(offset, len, ZeroFlags { unmap, ..flags })?;
        self.policy.wrote(offset, len);
        Ok(())
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.policy.writable()?;
        if !self.policy.discards() {
            return Ok(());
        }
        let done = self.node.discard(offset, len);
        self.policy.count_discard(done.is_ok(), len);
        done
    }

    fn flush(&self) -> io::Result<()> {
        self.node.flush()
    }

    fn block_status(&self, offset: u64, len: u64) -> io::Result<Extent> {
        self.policy.active()?;
        self.node.block_status(offset, len)
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.policy.writable()?;
        self.node.truncate(size)
    }

    fn preallocate(&self, offset: u64, len: u64, how: Preallocation) -> io::Result<()> {
        self.policy.writable()?;
        self.node.preallocate(offset, len, how)
    }

    fn read_only(&self) -> bool {
        // An image that is inactive is open to be read only, and its users do not see that.
        self.policy.has(READ_ONLY) || (!self.policy.has(INACTIVE) && self.node.read_only())
    }

    fn limits(&self) -> Limits {
        self.node.limits()
    }

    fn children(&self) -> Vec<Child> {
        self.node.children()
    }

    fn info(&self) -> NodeInfo {
        self.node.info()
    }

    fn present(&self) -> bool {
        self.node.present()
    }

    fn is_part(&self) -> bool {
        self.node.is_part()
    }

    fn permit(&self, users: Permissions) -> Result<(), OpenError> {
        self.node.permit(users)
    }

    fn adjust(&self, options: &DiskOptions) -> Result<(), OpenError> {
        self.node.adjust(options)
    }

    fn hasten(&self, on: bool) {
        self.node.hasten(on);
    }

    fn image(&self) -> Option<&dyn Image> {
        self.node.image()
    }

    fn event(&self, event: Event) {
        self.node.event(event);
    }

    fn past(&self) -> Option<Arc<dyn Past>> {
        self.node.past()
    }

    fn siblings(&self) -> Option<&dyn Siblings> {
        self.node.siblings()
    }

    fn breakpoints(&self) -> Option<Arc<dyn Breakpoints>> {
        self.node.breakpoints()
    }
}
