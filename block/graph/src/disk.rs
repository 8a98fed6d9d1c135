//! A disk: a node together with what its user needs.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::{
    Edge, Limits, Member, Node, OpenError, Permissions, Plain, Statistics, User, WriteFlags,
    ZeroFlags, check_range,
};

/// What to do with a write of nothing but zeroes (`detect-zeroes=`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DetectZeroes {
    /// Write them.
    #[default]
    Off,
    /// Turn them into a write-zeroes request.
    On,
    /// Likewise, and allow the space to be given back.
    Unmap,
}

/// The policy of a node and of the disk on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskOptions {
    /// Writes are refused.
    pub read_only: bool,
    /// With `read_only`: only as long as nobody writes.
    pub auto_read_only: bool,
    /// Discards reach the image (`discard=unmap`); else they do nothing.
    pub discard: bool,
    /// What happens to writes of zeroes.
    pub detect_zeroes: DetectZeroes,
    /// The host's page cache is bypassed.
    pub direct: bool,
    /// Flushes do not wait for the host's disks.
    pub no_flush: bool,
    /// The node belongs to another process for a while: see [`Graph::deactivate`].
    ///
    /// [`Graph::deactivate`]: crate::Graph::deactivate
    pub inactive: bool,
    /// A volatile write cache is shown to the guest; without it every write is stable when done.
    /// The disk's alone: nodes do not look at it.
    pub write_cache: bool,
}

impl Default for DiskOptions {
    fn default() -> Self {
        Self {
            read_only: false,
            auto_read_only: false,
            discard: false,
            detect_zeroes: DetectZeroes::Off,
            direct: false,
            no_flush: false,
            inactive: false,
            write_cache: true,
        }
    }
}

/// What a device owns: the edge to a node, bounds and a write cache. All calls may come from any thread.
pub struct Disk {
    edge: Arc<Edge>,
    read_only: bool,
    write_cache: AtomicBool,
    statistics: Statistics,
}

impl Disk {
    /// A disk on top of a node that is in no graph.
    pub fn new(node: Arc<dyn Node>, options: DiskOptions) -> Self {
        let member = Member::anonymous(node, options.clone());
        let user = User::Device(String::new());
        Self::on(Edge::new(user, Some(&member), Permissions::UNUSED), &options)
    }

    /// A disk that is the user of `edge`. Of the options, those of the disk itself count: the node has
    /// its own.
    pub fn on(edge: Arc<Edge>, options: &DiskOptions) -> Self {
        let write_cache = AtomicBool::new(options.write_cache);
        Self { edge, read_only: options.read_only, write_cache, statistics: Statistics::default() }
    }

    /// The edge to the node below.
    pub fn edge(&self) -> &Arc<Edge> {
        &self.edge
    }

    /// What is below, whatever that is at the time of a call.
    pub fn node(&self) -> Arc<dyn Node> {
        Arc::clone(&self.edge) as Arc<dyn Node>
    }

    /// Puts the disk on another node, of the same length and in no graph, once nothing works with the
    /// one below.
    pub fn replace_node(&self, node: Arc<dyn Node>) {
        let options = self.edge.target().map(|member| member.options()).unwrap_or_default();
        self.edge.turn(Some(&Member::anonymous(node, options)));
    }

    /// What it was asked to do so far.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Length in bytes; a guest sees whole sectors of it.
    pub fn size(&self) -> u64 {
        self.edge.size()
    }

    /// Whether writes are refused.
    pub fn read_only(&self) -> bool {
        self.read_only || self.edge.read_only()
    }

    /// For a device that cannot work with a read-only disk.
    ///
    /// # Errors
    /// `Option` with QEMU's text when the image cannot be written; not when the user chose so.
    pub fn require_writable(&self) -> Result<(), OpenError> {
        if self.edge.read_only() && !self.read_only {
            return Err(OpenError::Option("Block node is read-only".to_owned()));
        }
        Ok(())
    }

    /// Whether discards have an effect.
    pub fn discards(&self) -> bool {
        self.edge.discards()
    }

    /// Block sizes to show to the guest.
    pub fn limits(&self) -> Limits {
        self.edge.limits()
    }

    /// Whether a volatile write cache is in use.
    pub fn write_cache(&self) -> bool {
        self.write_cache.load(Ordering::Relaxed)
    }

    /// Turns the volatile write cache on or off, as guests may (virtio `writeback`, SCSI `WCE`).
    pub fn set_write_cache(&self, on: bool) {
        self.write_cache.store(on, Ordering::Relaxed);
    }

    /// Reads inside the disk.
    ///
    /// # Errors
    /// `InvalidInput` outside the disk, else the node's.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let len = buf.len() as u64;
        check_range(offset, len, self.size())?;
        self.statistics.reads.count(len, || self.edge.read_at(offset, buf), io::Result::is_ok)
    }

    /// Reads if that needs no waiting; `false` if it does, or if the range is bad.
    pub fn read_cached(&self, offset: u64, buf: &mut [u8]) -> bool {
        let len = buf.len() as u64;
        check_range(offset, len, self.size()).is_ok()
            && self.statistics.reads.count(len, || self.edge.read_cached(offset, buf), |done| *done)
    }

    /// Writes inside the disk.
    ///
    /// # Errors
    /// As [`Disk::read_at`]; `PermissionDenied` on a read-only disk.
    pub fn write_at(&self, offset: u64, buf: &[u8], flags: WriteFlags) -> io::Result<()> {
        self.writable(offset, buf.len() as u64)?;
        let fua = flags.fua || !self.write_cache();
        let act = || self.edge.write_at(offset, buf, WriteFlags { fua });
        self.statistics.writes.count(buf.len() as u64, act, io::Result::is_ok)
    }

    /// Makes a range inside the disk read as zeroes.
    ///
    /// # Errors
    /// As [`Disk::write_at`].
    pub fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> io::Result<()> {
        self.writable(offset, len)?;
        let fua = flags.fua || !self.write_cache();
        let act = || self.edge.write_zeroes(offset, len, ZeroFlags { fua, ..flags });
        self.statistics.writes.count(len, act, io::Result::is_ok)
    }

    /// Forgets a range inside the disk, if discards have an effect on its node.
    ///
    /// # Errors
    /// As [`Disk::write_at`].
    pub fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.writable(offset, len)?;
        self.edge.discard(offset, len)
    }

    /// Where the bytes of a read are, if it is a plain one.
    pub(crate) fn plain_read(&self, offset: u64, len: u64) -> Option<Plain> {
        check_range(offset, len, self.size()).ok()?;
        Plain::find(&*self.edge, offset, len, false)
    }

    /// Where the bytes of a write go, if it is a plain one.
    pub(crate) fn plain_write(&self, offset: u64, len: u64, flags: WriteFlags) -> Option<Plain> {
        self.writable(offset, len).ok()?;
        if flags.fua || !self.write_cache() {
            return None;
        }
        Plain::find(&*self.edge, offset, len, true)
    }

    /// Makes everything completed before the call stable.
    ///
    /// # Errors
    /// The node's.
    pub fn flush(&self) -> io::Result<()> {
        if self.read_only() {
            return Ok(());
        }
        self.statistics.flushes.count(0, || self.edge.flush(), io::Result::is_ok)
    }

    fn writable(&self, offset: u64, len: u64) -> io::Result<()> {
        check_range(offset, len, self.size())?;
        if self.read_only() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the disk is read-only"));
        }
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Nobody is left to tell; what a guest cared for it has flushed.
        if let Some(member) = self.edge.target().filter(|_| !self.read_only()) {
            // Not held back by a drain: who drains may be the one who takes the disk away.
            let _ = member.node().flush();
        }
    }
}
