//! `vFile`: files of the target, as it sees them, for reading.
//!
//! Source: "Debugging with GDB", appendix "File-I/O Remote Protocol Extension", sections "Host I/O Packets" and
//! "Protocol-specific Representation of Datatypes".

use crate::packet::MAX_PACKET;
use crate::target::Target;
use crate::words::{Words, unhex};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

/// Most files that are open at a time.
const MAX_OPEN: usize = 64;
/// Longest piece of a file: with every byte escaped it must fit into a packet.
const MAX_PIECE: usize = MAX_PACKET / 2 - 32;

/// Errors as this part of the protocol numbers them.
mod errno {
    pub const NOENT: u32 = 2;
    pub const BADF: u32 = 9;
    pub const ACCES: u32 = 13;
    pub const INVAL: u32 = 22;
    pub const MFILE: u32 = 24;
    pub const ROFS: u32 = 30;
    pub const UNKNOWN: u32 = 9999;
}

/// Files that a debugger has opened, by number.
#[derive(Debug, Default)]
pub(crate) struct Files(BTreeMap<u64, File>);

/// A number, and bytes that follow it.
type Outcome = Result<(u64, Option<Vec<u8>>), u32>;

fn number_of(error: &io::Error) -> u32 {
    match error.kind() {
        io::ErrorKind::NotFound => errno::NOENT,
        io::ErrorKind::PermissionDenied => errno::ACCES,
        io::ErrorKind::InvalidInput => errno::INVAL,
        _ => errno::UNKNOWN,
    }
}

impl Files {
    /// The reply to a packet, behind its `vFile:`; `None`: there is no such operation.
    pub fn answer(&mut self, target: &mut dyn Target, mut words: Words<'_>) -> Option<Vec<u8>> {
        let outcome = match words.until(b':') {
            b"open" => self.open(target, words),
            b"close" => self.close(words),
            b"pread" => self.read(words),
            b"fstat" => self.about(words),
            b"readlink" => link(target, words),
            // There is one view of files: the process's.
            b"setfs" => Ok((0, None)),
            b"pwrite" | b"unlink" => Err(errno::ROFS),
            _ => return None,
        };
        Some(match outcome {
            Ok((number, None)) => format!("F{number:x}").into_bytes(),
            Ok((number, Some(bytes))) => [format!("F{number:x};").as_bytes(), &bytes].concat(),
            Err(error) => format!("F-1,{error:x}").into_bytes(),
        })
    }

    fn open(&mut self, target: &mut dyn Target, mut words: Words<'_>) -> Outcome {
        let path = path(words.until(b','))?;
        let (flags, _mode) = words.pair(",").ok_or(errno::INVAL)?;
        if flags != 0 {
            return Err(errno::ROFS);
        }
        let number = (0..MAX_OPEN as u64).find(|number| !self.0.contains_key(number));
        let number = number.ok_or(errno::MFILE)?;
        let file = target.open(&path).map_err(|error| number_of(&error))?;
        self.0.insert(number, file);
        Ok((number, None))
    }

    fn close(&mut self, mut words: Words<'_>) -> Outcome {
        let number = words.number().ok_or(errno::INVAL)?;
        self.0.remove(&number).map(|_| (0, None)).ok_or(errno::BADF)
    }

    fn file(&self, words: &mut Words<'_>) -> Result<&File, u32> {
        let number = words.number().ok_or(errno::INVAL)?;
        self.0.get(&number).ok_or(errno::BADF)
    }

    fn read(&self, mut words: Words<'_>) -> Outcome {
        let file = self.file(&mut words)?;
        let range = if words.take(",") { words.pair(",") } else { None };
        let (len, offset) = range.ok_or(errno::INVAL)?;
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX).min(MAX_PIECE)];
        let done = file.read_at(&mut bytes, offset).map_err(|error| number_of(&error))?;
        bytes.truncate(done);
        Ok((done as u64, Some(bytes)))
    }

    fn about(&self, mut words: Words<'_>) -> Outcome {
        let about = self.file(&mut words)?.metadata().map_err(|error| number_of(&error))?;
        let bytes = stat(&about);
        Ok((bytes.len() as u64, Some(bytes)))
    }
}

fn path(digits: &[u8]) -> Result<PathBuf, u32> {
    unhex(digits).map(|bytes| PathBuf::from(OsString::from_vec(bytes))).ok_or(errno::INVAL)
}

fn link(target: &mut dyn Target, words: Words<'_>) -> Outcome {
    let to = target.read_link(&path(words.0)?).map_err(|error| number_of(&error))?;
    let bytes = to.as_os_str().as_bytes().to_vec();
    Ok((bytes.len() as u64, Some(bytes)))
}

/// `struct stat` of the protocol: most significant bytes first.
fn stat(about: &Metadata) -> Vec<u8> {
    let word = |value: u64| (value as u32).to_be_bytes();
    let mut bytes = Vec::with_capacity(64);
    for value in [about.dev(), about.ino(), about.mode().into(), about.nlink()] {
        bytes.extend(word(value));
    }
    for value in [about.uid().into(), about.gid().into(), about.rdev()] {
        bytes.extend(word(value));
    }
    for value in [about.size(), about.blksize(), about.blocks()] {
        bytes.extend(value.to_be_bytes());
    }
    for value in [about.atime(), about.mtime(), about.ctime()] {
        bytes.extend(word(value.cast_unsigned()));
    }
    bytes
}
