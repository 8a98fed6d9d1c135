//! `shrink`: gives back what an image takes on the host and does not need, in place.
//!
//! First, clusters that hold zeroes only become holes; then, where the format can do so, what lies far
//! behind moves to the places that became free, and the file is cut. The disk keeps its length and its
//! content, whenever this is cut off.

use super::info::on_host;
use crate::args::{Args, NO_SHORT, flag, takes};
use crate::image::{self, ImageArgs};
use crate::{Command, Failure, Invocation, text};
use graph::{ExtentKind, Image, Node, ZeroFlags};
use jobs::{Progress, runs};
use std::io;

pub(super) const COMMAND: Command = Command {
    name: "shrink",
    summary: "Give back space that an image does not need, in place",
    usage: &["[-f FMT | --image-opts] [-p] [-q] [--object OBJDEF] FILENAME"],
    options: &[
        flag('h', "help", image::HELP),
        flag('q', "quiet", image::QUIET),
        flag('p', "progress", image::PROGRESS),
        takes('f', "format", "FMT", image::FORMAT),
        flag(NO_SHORT, "image-opts", image::IMAGE_OPTS),
        takes('t', "cache", "CACHE", image::CACHE),
        takes(NO_SHORT, "object", "OBJDEF", image::OBJECT),
    ],
    operands: &[("FILENAME", image::FILENAME)],
    run,
};

/// Bytes looked at a time.
const BUFFER: u64 = 2 << 20;
/// Zeroes shorter than this are left where they are in images without clusters.
const LEAST: u32 = 4096;

fn run(called: &Invocation, args: &Args) -> Result<u8, Failure> {
    let filename = called.one_operand(args, "Expecting one image file name")?;
    let node = ImageArgs::parse(args)?.open(filename, |o| o.writable = true)?;
    let failed = |e: io::Error| Failure::io(filename, &e);
    let (length, allocated) = on_host(&*node);
    let meter = called.meter(args)?;
    let size = node.size();
    punch(&*node, &meter).and_then(|()| node.flush()).map_err(failed)?;
    if let Some(compact) = node.image().and_then(Image::compact) {
        // Counted behind the first part, which is the longer one.
        compact.compact(&mut |_, _| meter.at(size, size)).map_err(failed)?;
        node.flush().map_err(failed)?;
    }
    meter.finish();
    if !args.has("quiet") {
        let after = on_host(&*node);
        println!(
            "{filename}: on the host {} instead of {}; file length {} instead of {}",
            text::size(after.1),
            text::size(allocated),
            text::size(after.0),
            text::size(length)
        );
    }
    Ok(0)
}

/// Makes holes of stored zeroes.
fn punch(node: &dyn Node, progress: &dyn Progress) -> io::Result<()> {
    let size = node.size();
    let unit = node.info().cluster_size.unwrap_or(LEAST).max(LEAST);
    let piece = BUFFER.max(u64::from(unit));
    let mut buf = Vec::new();
    let mut at = 0;
    while at < size {
        progress.at(at, size);
        let extent = node.block_status(at, size - at)?;
        if extent.kind != ExtentKind::Data {
            at += extent.len;
            continue;
        }
        let end = (at / piece + 1).saturating_mul(piece).min(size).min(at + extent.len);
        // At most a piece.
        buf.resize((end - at) as usize, 0);
        node.read_at(at, &mut buf)?;
        // Units begin at multiples of their length on the disk.
        let skip = (at.next_multiple_of(u64::from(unit)) - at).min(end - at) as usize;
        for run in runs(&buf[skip..], unit as usize).iter().filter(|run| run.zero) {
            let (start, len) = (at + (skip + run.start) as u64, run.len as u64);
            node.write_zeroes(start, len, ZeroFlags { unmap: true, fua: false })?;
        }
        at = end;
    }
    progress.at(size, size);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use graph::{Extent, NodeInfo, WriteFlags};
    use std::sync::Mutex;

    /// Bytes that are all stored, and what was made zero.
    struct Disk(Vec<u8>, Mutex<Vec<(u64, u64)>>);

    impl Node for Disk {
        fn size(&self) -> u64 {
            self.0.len() as u64
        }
        fn read_at(&self, at: u64, buf: &mut [u8]) -> io::Result<()> {
            buf.copy_from_slice(&self.0[at as usize..at as usize + buf.len()]);
            Ok(())
        }
        fn write_at(&self, _: u64, _: &[u8], _: WriteFlags) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn write_zeroes(&self, at: u64, len: u64, flags: ZeroFlags) -> io::Result<()> {
            assert!(flags.unmap);
            self.1.lock().expect("no one panics").push((at, len));
            Ok(())
        }
        fn discard(&self, _: u64, _: u64) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
        fn block_status(&self, at: u64, len: u64) -> io::Result<Extent> {
            // Pieces that end anywhere.
            let len = len.min(10_000 - at % 10_000);
            Ok(Extent { kind: ExtentKind::Data, len, host_offset: Some(at) })
        }
        fn read_only(&self) -> bool {
            false
        }
        fn info(&self) -> NodeInfo {
            NodeInfo::default()
        }
    }

    #[test]
    fn only_zeroes_become_holes() {
        let mut bytes = vec![0; 100_000];
        bytes[5000] = 1;
        bytes[50_000..60_000].fill(2);
        let disk = Disk(bytes.clone(), Mutex::default());
        punch(&disk, &jobs::Silent).expect("it can be read");
        let holes = disk.1.into_inner().expect("no one panics");
        assert!(holes.len() > 5 && holes.iter().all(|(at, _)| at % 4096 == 0));
        for (at, len) in holes {
            assert!(bytes[at as usize..(at + len) as usize].iter().all(|byte| *byte == 0));
        }
    }
}
