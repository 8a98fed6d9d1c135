//! `copy-before-write`: what a write would replace is copied to a target first, so that the old content
//! can still be read; and `snapshot-access`, the node that reads it.
//!
//! Content is copied in clusters, once each. A guest's write holds its clusters until they are copied and
//! marked; a reader of the old content holds them, shared, from looking at the mark to the end of its read
//! of the source. So what the reader gets from the source is what was there before any write.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use graph::{
    Child, DirtyBits, Extent, ExtentKind, Node, NodeInfo, OpenError, Past, RangeLocks, Role,
    Sharing, WriteFlags, ZeroFlags, check_range, is_zero,
};

use crate::passing::{Filter, Passing, no_resize, pieces, unsupported};

/// Smallest cluster in bytes.
const CLUSTER: u64 = 64 << 10;
/// Largest cluster in bytes: it is copied through memory.
const MOST_CLUSTER: u64 = 64 << 20;

/// Whose request fails when old content cannot be copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnCbwError {
    /// The write; the old content stays complete.
    #[default]
    BreakGuestWrite,
    /// Reads of the old content, from then on.
    BreakSnapshot,
}

impl OnCbwError {
    /// Every policy by its name.
    pub const TABLE: &[(&str, Self)] =
        &[("break-guest-write", Self::BreakGuestWrite), ("break-snapshot", Self::BreakSnapshot)];
}

/// How old content is kept.
#[derive(Clone, Default)]
pub struct CbwOptions {
    /// What happens when it cannot be.
    pub on_error: OnCbwError,
    /// How long a copy may take; zero is for ever.
    pub timeout: Duration,
    /// Smallest cluster; a power of two, or zero.
    pub min_cluster: u64,
    /// The ranges that are to be kept, as offset and length; everything without.
    pub only: Option<Vec<(u64, u64)>>,
}

/// Which clusters were copied, and which are of no interest.
struct Marks {
    copied: DirtyBits,
    /// Only these are kept; all without.
    only: Option<DirtyBits>,
    forgotten: DirtyBits,
}

impl Marks {
    fn kept(&self, at: u64) -> bool {
        !self.forgotten.is_set(at) && self.only.as_ref().is_none_or(|only| only.is_set(at))
    }

    fn to_copy(&self, at: u64) -> bool {
        !self.copied.is_set(at) && self.kept(at)
    }
}

struct Shared {
    source: Arc<dyn Node>,
    target: Arc<dyn Node>,
    cluster: u64,
    on_error: OnCbwError,
    timeout: Duration,
    marks: Mutex<Marks>,
    busy: RangeLocks,
    broken: AtomicBool,
}

struct CopyBeforeWrite(Arc<Shared>);

/// A node above `source` that keeps its content of now in `target`.
///
/// # Errors
/// `Option` with QEMU's text for a target that cannot be used or a cluster size that cannot be.
pub fn copy_before_write(
    source: Arc<dyn Node>,
    target: Arc<dyn Node>,
    options: &CbwOptions,
) -> Result<Arc<dyn Node>, OpenError> {
    let refuse = |text: String| Err(OpenError::Option(text));
    let min = options.min_cluster;
    if min != 0 && !min.is_power_of_two() {
        return refuse(
            "Cannot create block-copy-state: min-cluster-size needs to be a power of 2".to_owned(),
        );
    }
    if min > MOST_CLUSTER {
        return refuse(format!(
            "Cannot create block-copy-state: min-cluster-size {min} is too large"
        ));
    }
    if target.read_only() {
        return refuse("Block node is read-only".to_owned());
    }
    let own = target.info().cluster_size.map_or(CLUSTER, u64::from);
    let cluster = own.max(CLUSTER).max(min);
    let size = source.size();
    if target.size() < size {
        return refuse(format!(
            "the target of copy-before-write is smaller ({}) than its source ({size})",
            target.size()
        ));
    }
    let none = DirtyBits::new(cluster.trailing_zeros());
    let only = options.only.as_ref().map(|ranges| {
        let mut only = none.clone();
        ranges.iter().for_each(|(at, len)| only.set(*at, *len));
        only
    });
    let marks = Marks { copied: none.clone(), only, forgotten: none };
    Ok(Arc::new(Passing(CopyBeforeWrite(Arc::new(Shared {
        source,
        target,
        cluster,
        on_error: options.on_error,
        timeout: options.timeout,
        marks: Mutex::new(marks),
        busy: RangeLocks::default(),
        broken: AtomicBool::new(false),
    })))))
}

impl Shared {
    fn marks(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies what a change of the range would replace.
    fn save(&self, offset: u64, len: u64) -> io::Result<()> {
        let end = offset.saturating_add(len).min(self.source.size());
        if offset >= end {
            return Ok(());
        }
        let mut buf = Vec::new();
        for (at, _) in pieces(offset, end - offset, self.cluster) {
            let start = at - at % self.cluster;
            let stop = (start + self.cluster).min(self.source.size());
            if !self.marks().to_copy(start) {
                continue;
            }
            let _alone = self.busy.lock(start, stop, Sharing::Exclusive);
            if !self.marks().to_copy(start) {
                continue;
            }
            buf.resize((stop - start) as usize, 0);
            self.source.read_at(start, &mut buf)?;
            if is_zero(&buf) {
                self.target.write_zeroes(start, stop - start, ZeroFlags::default())?;
            } else {
                self.target.write_at(start, &buf, WriteFlags::default())?;
            }
            self.marks().copied.set(start, stop - start);
        }
        Ok(())
    }

    fn allowed(&self, offset: u64, len: u64) -> io::Result<()> {
        check_range(offset, len, self.source.size())?;
        if self.broken.load(Ordering::Acquire) {
            let text = "the snapshot is broken: old content could not be copied";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        let marks = self.marks();
        if pieces(offset, len, self.cluster).all(|(at, _)| marks.kept(at)) {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "this part of the snapshot is not kept",
        ))
    }
}

impl CopyBeforeWrite {
    /// Copies what a change of the range would replace, in the time that there is.
    fn before(&self, offset: u64, len: u64) -> io::Result<()> {
        let shared = &self.0;
        if shared.broken.load(Ordering::Acquire) {
            return Ok(());
        }
        let saved = if shared.timeout.is_zero() {
            shared.save(offset, len)
        } else {
            let (done, answer) = channel();
            let worker = Arc::clone(shared);
            std::thread::spawn(move || {
                // Nobody listens after the timeout.
                let _ = done.send(worker.save(offset, len));
            });
            match answer.recv_timeout(shared.timeout) {
                Ok(saved) => saved,
                Err(RecvTimeoutError::Timeout) => Err(io::ErrorKind::TimedOut.into()),
                Err(RecvTimeoutError::Disconnected) => Err(io::ErrorKind::BrokenPipe.into()),
            }
        };
        match (saved, shared.on_error) {
            (Err(_), OnCbwError::BreakSnapshot) => {
                shared.broken.store(true, Ordering::Release);
                Ok(())
            }
            (saved, _) => saved,
        }
    }
}

impl Filter for CopyBeforeWrite {
    fn driver(&self) -> &'static str {
        "copy-before-write"
    }

    fn below(&self) -> &Arc<dyn Node> {
        &self.0.source
    }

    fn write_at(&self, offset: u64, buf: &[u8], flags: WriteFlags) -> io::Result<()> {
        self.before(offset, buf.len() as u64)?;
        self.0.source.write_at(offset, buf, flags)
    }

    fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> io::Result<()> {
        self.before(offset, len)?;
        self.0.source.write_zeroes(offset, len, flags)
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.before(offset, len)?;
        self.0.source.discard(offset, len)
    }

    fn truncate(&self, _size: u64) -> io::Result<()> {
        Err(no_resize())
    }

    fn children(&self) -> Vec<Child> {
        vec![
            Child { role: Role::Named("target"), node: Arc::clone(&self.0.target) },
            Child { role: Role::File, node: Arc::clone(&self.0.source) },
        ]
    }

    fn past(&self) -> Option<Arc<dyn Past>> {
        Some(Arc::clone(&self.0) as Arc<dyn Past>)
    }
}

impl Past for Shared {
    fn read_past(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.allowed(offset, buf.len() as u64)?;
        for (at, len) in pieces(offset, buf.len() as u64, self.cluster) {
            let part = &mut buf[(at - offset) as usize..][..len as usize];
            let _held = self.busy.lock(at, at + len, Sharing::Shared);
            let copied = self.marks().copied.is_set(at);
            if copied { self.target.read_at(at, part)? } else { self.source.read_at(at, part)? }
        }
        // Broken meanwhile: then the source may be new.
        self.allowed(offset, buf.len() as u64)
    }

    fn past_status(&self, offset: u64, len: u64) -> io::Result<Extent> {
        check_range(offset, len, self.source.size())?;
        let first = pieces(offset, len, self.cluster).next();
        let Some((at, len)) = first else { return Err(io::ErrorKind::InvalidInput.into()) };
        self.allowed(at, len)?;
        let _held = self.busy.lock(at, at + len, Sharing::Shared);
        let copied = self.marks().copied.is_set(at);
        let node = if copied { &self.target } else { &self.source };
        let status = graph::status_above(node, None, at, len)?;
        let kind = match status.kind {
            ExtentKind::Unallocated => ExtentKind::Zero,
            kind => kind,
        };
        Ok(Extent { kind, len: status.len, host_offset: None })
    }

    fn forget_past(&self, offset: u64, len: u64) -> io::Result<()> {
        self.allowed(offset, len)?;
        let end = offset + len;
        let from = offset.next_multiple_of(self.cluster);
        let to = if end == self.source.size() { end } else { end - end % self.cluster };
        if from >= to {
            return Ok(());
        }
        let _alone = self.busy.lock(from, to, Sharing::Exclusive);
        self.marks().forgotten.set(from, to - from);
        self.target.discard(from, to - from)
    }
}

/// `snapshot-access`: the old content that a `copy-before-write` node keeps, as a node for reading.
struct Access {
    below: Arc<dyn Node>,
}

/// A node that shows what the node below keeps.
pub fn snapshot_access(below: Arc<dyn Node>) -> Arc<dyn Node> {
    Arc::new(Passing(Access { below }))
}

impl Access {
    fn past(&self) -> io::Result<Arc<dyn Past>> {
        self.below.past().ok_or_else(unsupported)
    }
}

impl Filter for Access {
    fn driver(&self) -> &'static str {
        "snapshot-access"
    }

    fn below(&self) -> &Arc<dyn Node> {
        &self.below
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.past()?.read_past(offset, buf)
    }

    fn write_at(&self, _offset: u64, _buf: &[u8], _flags: WriteFlags) -> io::Result<()> {
        Err(unsupported())
    }

    fn write_zeroes(&self, _offset: u64, _len: u64, _flags: ZeroFlags) -> io::Result<()> {
        Err(unsupported())
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        // Who reads a copy of another node has nothing to forget.
        self.past().map_or(Ok(()), |past| past.forget_past(offset, len))
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn block_status(&self, offset: u64, len: u64) -> io::Result<Extent> {
        self.past()?.past_status(offset, len)
    }

    fn truncate(&self, _size: u64) -> io::Result<()> {
        Err(no_resize())
    }

    fn read_only(&self) -> bool {
        false
    }

    fn info(&self) -> NodeInfo {
        let below = self.below.info();
        NodeInfo { driver: "snapshot-access", filename: below.filename, ..NodeInfo::default() }
    }
}
