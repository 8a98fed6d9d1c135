//! A node as a file: what each request of the kernel does.
//!
//! Data is never kept in the kernel's cache: others may write to the node, too.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use graph::{ExtentKind, Node, Preallocation, WriteFlags, ZeroFlags, status_above};

use crate::wire::{Answer, Fields, Header, OUT_HEADER, ROOT, errno, opcode};

/// Most bytes of one request's data.
pub const MOST: usize = 1 << 20;
/// Pages of that.
const MOST_PAGES: u16 = (MOST / 4096) as u16;
/// Version of the protocol.
const VERSION: (u32, u32) = (7, 31);
/// Reads and writes in parallel, `max_pages` is in the answer.
const WANTED: u32 = 1 | 1 << 5 | 1 << 15 | 1 << 22;
/// The kernel passes requests on as they are.
const DIRECT_IO: u32 = 1;

/// What others may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Writing.
    pub writable: bool,
    /// Writing behind the end, which makes the disk larger.
    pub growable: bool,
}

/// Mode, owner and group as the kernel shows them.
#[derive(Clone, Copy)]
struct Access {
    mode: u32,
    uid: u32,
    gid: u32,
}

/// The file that shows a node.
pub struct File {
    node: Arc<dyn Node>,
    rules: Rules,
    access: Mutex<Access>,
    /// Held shared by requests for data, alone by those that change the length.
    length: RwLock<()>,
    opened: AtomicU64,
}

type Done = Result<Answer, i32>;

impl File {
    /// A file for `node` that belongs to a user and a group.
    pub fn new(node: Arc<dyn Node>, rules: Rules, (uid, gid): (u32, u32)) -> Self {
        let mode = 0o100_000 | if rules.writable { 0o600 } else { 0o400 };
        Self {
            node,
            rules,
            access: Mutex::new(Access { mode, uid, gid }),
            length: RwLock::default(),
            opened: AtomicU64::new(0),
        }
    }

    /// How often it is open.
    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::Acquire)
    }

    /// Makes everything written stable.
    ///
    /// # Errors
    /// The node's.
    pub fn flush(&self) -> io::Result<()> {
        if self.rules.writable { self.node.flush() } else { Ok(()) }
    }

    /// The message that answers a request; `None` if none is expected.
    pub fn serve(&self, request: &[u8]) -> Option<Vec<u8>> {
        let (header, fields) = Header::parse(request)?;
        let answer = match header.opcode {
            opcode::FORGET | opcode::BATCH_FORGET | opcode::INTERRUPT => return None,
            opcode::INIT => self.init(fields),
            opcode::DESTROY => Ok(Answer::default()),
            _ if header.node != ROOT => Err(errno::ENOTDIR),
            opcode::GETATTR => Ok(self.attributes()),
            opcode::SETATTR => self.set_attributes(fields),
            opcode::OPEN => {
                self.opened.fetch_add(1, Ordering::AcqRel);
                Ok(Answer::default().u64s(&[0]).u32s(&[DIRECT_IO, 0]))
            }
            opcode::RELEASE => {
                let less = |n: u64| Some(n.saturating_sub(1));
                let _before = self.opened.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
                Ok(Answer::default())
            }
            opcode::READ => self.read(fields),
            opcode::WRITE => self.write(fields),
            opcode::FSYNC | opcode::FLUSH => self.flush().map(|()| Answer::default()).map_err(code),
            opcode::STATFS => Ok(self.statistics()),
            opcode::FALLOCATE => self.allocate(fields),
            opcode::LSEEK => self.seek(fields),
            _ => Err(errno::ENOSYS),
        };
        Some(Answer::message(header.unique, answer))
    }

    fn access(&self) -> MutexGuard<'_, Access> {
        self.access.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn init(&self, mut fields: Fields<'_>) -> Done {
        let mut next = || fields.u32().ok_or(errno::EINVAL);
        let (major, minor, read_ahead, offered) = (next()?, next()?, next()?, next()?);
        if major > VERSION.0 {
            // The kernel asks again with ours.
            return Ok(Answer::default().u32s(&[VERSION.0, VERSION.1]));
        }
        if major < VERSION.0 || minor < VERSION.1 {
            return Err(errno::EINVAL);
        }
        let answer = Answer::default().u32s(&[VERSION.0, VERSION.1, read_ahead, offered & WANTED]);
        let answer = answer.u16s(&[64, 48]).u32s(&[MOST as u32, 1]);
        Ok(answer.u16s(&[MOST_PAGES, 0]).u32s(&[0; 8]))
    }

    fn attributes(&self) -> Answer {
        let size = self.node.size();
        let blocks = self.node.info().allocated.unwrap_or(size).div_ceil(512);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (seconds, nanos) = (now.as_secs(), now.subsec_nanos());
        let Access { mode, uid, gid } = *self.access();
        // Valid for no time: others change the length.
        let answer = Answer::default().u64s(&[0, 0]).u64s(&[ROOT, size, blocks]);
        let answer = answer.u64s(&[seconds; 3]).u32s(&[nanos; 3]);
        answer.u32s(&[mode, 1, uid, gid, 0, 1, 0])
    }

    fn set_attributes(&self, mut fields: Fields<'_>) -> Done {
        const MODE: u32 = 1;
        const USER: u32 = 2;
        const GROUP: u32 = 4;
        const SIZE: u32 = 8;
        let bad = errno::EINVAL;
        let what = fields.u32().ok_or(bad)?;
        fields.skip(12).ok_or(bad)?;
        let size = fields.u64().ok_or(bad)?;
        fields.skip(44).ok_or(bad)?;
        let mode = fields.u32().ok_or(bad)?;
        fields.skip(4).ok_or(bad)?;
        let (uid, gid) = (fields.u32().ok_or(bad)?, fields.u32().ok_or(bad)?);
        if what & SIZE != 0 {
            self.may_write()?;
            let _alone = self.length.write().unwrap_or_else(PoisonError::into_inner);
            self.resize(size, Preallocation::Off)?;
        }
        let mut access = self.access();
        if what & MODE != 0 {
            if mode & 0o222 != 0 && !self.rules.writable {
                return Err(errno::EROFS);
            }
            access.mode = 0o100_000 | mode & 0o777;
        }
        if what & USER != 0 {
            access.uid = uid;
        }
        if what & GROUP != 0 {
            access.gid = gid;
        }
        drop(access);
        Ok(self.attributes())
    }

    fn may_write(&self) -> Result<(), i32> {
        if self.rules.writable { Ok(()) } else { Err(errno::EACCES) }
    }

    fn resize(&self, size: u64, preallocation: Preallocation) -> Result<(), i32> {
        if size > i64::MAX as u64 {
            return Err(errno::EFBIG);
        }
        let done = match self.node.image() {
            Some(image) => image.resize(size, preallocation),
            None => self.node.truncate(size),
        };
        done.map_err(code)
    }

    fn read(&self, mut fields: Fields<'_>) -> Done {
        let bad = errno::EINVAL;
        fields.skip(8).ok_or(bad)?;
        let (offset, len) = (fields.u64().ok_or(bad)?, fields.u32().ok_or(bad)?);
        let _held = self.length.read().unwrap_or_else(PoisonError::into_inner);
        let left = self.node.size().saturating_sub(offset);
        let len = u64::from(len).min(MOST as u64).min(left) as usize;
        let mut buf = vec![0; len];
        self.node.read_at(offset, &mut buf).map_err(code)?;
        Ok(Answer(buf))
    }

    fn write(&self, mut fields: Fields<'_>) -> Done {
        let bad = errno::EINVAL;
        fields.skip(8).ok_or(bad)?;
        let (offset, len) = (fields.u64().ok_or(bad)?, fields.u32().ok_or(bad)?);
        fields.skip(20).ok_or(bad)?;
        let data = fields.0.get(..len as usize).ok_or(bad)?;
        self.may_write()?;
        let end = offset.checked_add(data.len() as u64).ok_or(errno::EFBIG)?;
        if end > self.node.size() && self.rules.growable {
            let _alone = self.length.write().unwrap_or_else(PoisonError::into_inner);
            if end > self.node.size() {
                self.resize(end, Preallocation::Off)?;
            }
        }
        let _held = self.length.read().unwrap_or_else(PoisonError::into_inner);
        let left = self.node.size().saturating_sub(offset);
        if left == 0 && !data.is_empty() {
            return Err(errno::ENOSPC);
        }
        let data = &data[..(data.len() as u64).min(left) as usize];
        self.node.write_at(offset, data, WriteFlags::default()).map_err(code)?;
        Ok(Answer::default().u32s(&[data.len() as u32, 0]))
    }

    fn statistics(&self) -> Answer {
        let blocks = self.node.size().div_ceil(512);
        Answer::default().u64s(&[blocks, 0, 0, 1, 0]).u32s(&[512, 255, 512, 0]).u32s(&[0; 6])
    }

    fn allocate(&self, mut fields: Fields<'_>) -> Done {
        const KEEP_SIZE: u32 = 1;
        const PUNCH_HOLE: u32 = 2;
        const ZERO_RANGE: u32 = 0x10;
        let bad = errno::EINVAL;
        fields.skip(8).ok_or(bad)?;
        let (offset, len) = (fields.u64().ok_or(bad)?, fields.u64().ok_or(bad)?);
        let mode = fields.u32().ok_or(bad)?;
        self.may_write()?;
        let end = offset.checked_add(len).filter(|end| *end <= i64::MAX as u64);
        let end = end.ok_or(errno::EFBIG)?;
        if mode & !(KEEP_SIZE | PUNCH_HOLE | ZERO_RANGE) != 0
            || (mode & KEEP_SIZE != 0) && mode == KEEP_SIZE
        {
            return Err(errno::EOPNOTSUPP);
        }
        let size = self.node.size();
        if mode & KEEP_SIZE == 0 && end > size {
            if !self.rules.growable && mode != 0 {
                return Err(errno::EOPNOTSUPP);
            }
            let _alone = self.length.write().unwrap_or_else(PoisonError::into_inner);
            let how = if mode == 0 { Preallocation::Falloc } else { Preallocation::Off };
            self.resize(end, how)?;
        } else if mode == 0 {
            return Err(errno::EOPNOTSUPP);
        }
        if mode != 0 {
            let _held = self.length.read().unwrap_or_else(PoisonError::into_inner);
            let end = end.min(self.node.size());
            let flags = ZeroFlags { fua: false, unmap: mode & PUNCH_HOLE != 0 };
            if offset < end {
                self.node.write_zeroes(offset, end - offset, flags).map_err(code)?;
            }
        }
        Ok(Answer::default())
    }

    /// `SEEK_DATA` and `SEEK_HOLE`; the kernel does the others.
    fn seek(&self, mut fields: Fields<'_>) -> Done {
        const DATA: u32 = 3;
        const HOLE: u32 = 4;
        let bad = errno::EINVAL;
        fields.skip(8).ok_or(bad)?;
        let (mut at, whence) = (fields.u64().ok_or(bad)?, fields.u32().ok_or(bad)?);
        if whence != DATA && whence != HOLE {
            return Err(bad);
        }
        let _held = self.length.read().unwrap_or_else(PoisonError::into_inner);
        let size = self.node.size();
        if at >= size {
            return Err(errno::ENXIO);
        }
        while at < size {
            let status = status_above(&self.node, None, at, size - at).map_err(code)?;
            let zero = matches!(status.kind, ExtentKind::Zero | ExtentKind::Unallocated);
            if zero == (whence == HOLE) {
                return Ok(Answer::default().u64s(&[at]));
            }
            at += status.len;
        }
        // There is always a hole behind the end.
        if whence == HOLE { Ok(Answer::default().u64s(&[size])) } else { Err(errno::ENXIO) }
    }
}

/// The number of an error.
fn code(error: io::Error) -> i32 {
    error.raw_os_error().unwrap_or(match error.kind() {
        io::ErrorKind::StorageFull => errno::ENOSPC,
        io::ErrorKind::Unsupported => errno::EOPNOTSUPP,
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => errno::EROFS,
        io::ErrorKind::InvalidInput => errno::EINVAL,
        _ => errno::EIO,
    })
}

/// Bytes of the largest message in either direction.
pub const MESSAGE: usize = MOST + 4096 + OUT_HEADER;
