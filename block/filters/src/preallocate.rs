//! `preallocate`: a file that grows does so in large steps, and gives back what it did not need when
//! it is closed.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use graph::{Node, OpenError, Preallocation, WriteFlags, ZeroFlags};

use crate::passing::{Filter, Passing};

/// How a file grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    /// The length of the file becomes a multiple of this many bytes.
    pub align: u64,
    /// Bytes that are reserved behind a write that makes the file grow.
    pub size: u64,
}

impl Default for Steps {
    fn default() -> Self {
        Self { align: 1 << 20, size: 128 << 20 }
    }
}

/// Where the file ends for those above, and where it really does; `None` before the first write.
#[derive(Clone, Copy, Default)]
struct Ends {
    data: Option<(u64, u64)>,
}

struct Preallocate {
    below: Arc<dyn Node>,
    steps: Steps,
    ends: Mutex<Ends>,
}

/// A node that makes `below` grow in steps.
///
/// # Errors
/// `Option` with QEMU's text for an alignment that is none.
pub fn preallocate(below: Arc<dyn Node>, steps: Steps) -> Result<Arc<dyn Node>, OpenError> {
    if !steps.align.is_multiple_of(graph::SECTOR) {
        let text = "prealloc-align parameter of preallocate filter is not aligned to 512";
        return Err(OpenError::Option(text.to_owned()));
    }
    Ok(Arc::new(Passing(Preallocate { below, steps, ends: Mutex::default() })))
}

impl Preallocate {
    fn ends(&self) -> MutexGuard<'_, Ends> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes room for a write; whether the range was reserved before and still reads as zeroes.
    fn reach(&self, offset: u64, len: u64) -> io::Result<bool> {
        let mut ends = self.ends();
        let (data, file) = *ends.data.get_or_insert_with(|| {
            let size = self.below.size();
            (size, size)
        });
        let end = offset.checked_add(len).ok_or(io::ErrorKind::InvalidInput)?;
        if end <= data {
            return Ok(false);
        }
        let mut file = file;
        if end > file {
            let align = self.steps.align.max(1);
            let wanted = end.saturating_add(self.steps.size);
            let wanted = wanted.checked_next_multiple_of(align).unwrap_or(wanted);
            // Where it cannot be reserved, the write tells whether there is room.
            let reserved = self.below.preallocate(file, wanted - file, Preallocation::Falloc);
            file = if reserved.is_ok() { wanted } else { file };
        }
        ends.data = Some((end, file.max(end)));
        Ok(offset >= data && end <= file)
    }

    /// Gives back what lies behind the data.
    fn give_back(&self) -> io::Result<()> {
        let mut ends = self.ends();
        if let Some((data, file)) = ends.data
            && file > data
        {
            self.below.truncate(data)?;
            ends.data = Some((data, data));
        }
        Ok(())
    }
}

impl Filter for Preallocate {
    fn driver(&self) -> &'static str {
        "preallocate"
    }

    fn below(&self) -> &Arc<dyn Node> {
        &self.below
    }

    fn size(&self) -> u64 {
        let ends = *self.ends();
        ends.data.map_or_else(|| self.below.size(), |(data, _)| data)
    }

    fn write_at(&self, offset: u64, buf: &[u8], flags: WriteFlags) -> io::Result<()> {
        self.reach(offset, buf.len() as u64)?;
        self.below.write_at(offset, buf, flags)
    }

    fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> io::Result<()> {
        if self.reach(offset, len)? {
            return if flags.fua { self.below.flush() } else { Ok(()) };
        }
        self.below.write_zeroes(offset, len, flags)
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.give_back()?;
        let mut ends = self.ends();
        self.below.truncate(size)?;
        ends.data = Some((size, size));
        Ok(())
    }

    fn preallocate(&self, offset: u64, len: u64, how: Preallocation) -> io::Result<()> {
        self.give_back()?;
        let mut ends = self.ends();
        self.below.preallocate(offset, len, how)?;
        let size = self.below.size();
        ends.data = Some((size, size));
        Ok(())
    }

    fn close(&self) {
        // What stays reserved costs room only.
        let _ = self.give_back();
    }
}
