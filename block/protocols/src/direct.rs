//! Aligned transfers for files opened with `O_DIRECT`: whole blocks, at most [`ALIGN`] bytes each.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Largest alignment any file system or disk asks for.
const ALIGN: usize = 4096;
/// Bytes moved through the bounce buffer at a time.
const CHUNK: usize = 1 << 20;

/// Memory whose start is aligned for the host.
pub(crate) struct Bounce {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Bounce {
    pub(crate) fn new(len: usize) -> Self {
        let bytes = vec![0; len + ALIGN];
        let start = bytes.as_ptr().align_offset(ALIGN).min(ALIGN);
        Self { bytes, start, len }
    }

    pub(crate) fn get(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}

/// Reads through an aligned buffer; bytes beyond the end of the file are zero.
pub(crate) fn read(file: &File, block: u64, offset: u64, buf: &mut [u8]) -> io::Result<()> {
    let mut bounce = Bounce::new(CHUNK.min(aligned_len(offset, buf.len(), block)));
    let mut done = 0;
    while done < buf.len() {
        let at = offset + done as u64;
        let skip = (at % block) as usize;
        let room = bounce.get();
        let len = (buf.len() - done).min(room.len() - skip);
        let whole = (skip + len).next_multiple_of(block as usize);
        let room = &mut room[..whole];
        fill(file, block, at - skip as u64, room)?;
        buf[done..done + len].copy_from_slice(&room[skip..skip + len]);
        done += len;
    }
    Ok(())
}

/// Writes through an aligned buffer. The caller excludes other writers of the same blocks.
pub(crate) fn write(file: &File, block: u64, offset: u64, buf: &[u8]) -> io::Result<()> {
    let end = offset + buf.len() as u64;
    let before = file.metadata()?.len();
    let mut bounce = Bounce::new(CHUNK.min(aligned_len(offset, buf.len(), block)));
    let mut done = 0;
    while done < buf.len() {
        let at = offset + done as u64;
        let skip = (at % block) as usize;
        let room = bounce.get();
        let len = (buf.len() - done).min(room.len() - skip);
        let whole = (skip + len).next_multiple_of(block as usize);
        let room = &mut room[..whole];
        if skip != 0 || skip + len != whole {
            fill(file, block, at - skip as u64, room)?;
        }
        room[skip..skip + len].copy_from_slice(&buf[done..done + len]);
        file.write_all_at(room, at - skip as u64)?;
        done += len;
    }
    // A block at the end was written whole: cut the file back to what was meant.
    let wanted = before.max(end);
    if file.metadata()?.len() > wanted && file.metadata()?.is_file() {
        file.set_len(wanted)?;
    }
    Ok(())
}

/// Whether a transfer needs no read-modify-write cycle.
pub(crate) fn is_aligned(offset: u64, len: usize, block: u64) -> bool {
    offset.is_multiple_of(block) && (len as u64).is_multiple_of(block)
}

/// The blocks a transfer touches, as a byte range.
pub(crate) fn blocks(offset: u64, len: usize, block: u64) -> (u64, u64) {
    let end = offset.saturating_add(len as u64);
    (offset - offset % block, end.checked_next_multiple_of(block).unwrap_or(u64::MAX))
}

fn aligned_len(offset: u64, len: usize, block: u64) -> usize {
    let (start, end) = blocks(offset, len, block);
    usize::try_from(end - start).unwrap_or(CHUNK)
}

fn fill(file: &File, block: u64, offset: u64, room: &mut [u8]) -> io::Result<()> {
    let mut done = 0;
    while done < room.len() {
        match file.read_at(&mut room[done..], offset + done as u64) {
            Ok(n) => {
                done += n;
                // A short direct read is the end of the file.
                if n == 0 || !(n as u64).is_multiple_of(block) {
                    break;
                }
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    room[done..].fill(0);
    Ok(())
}
