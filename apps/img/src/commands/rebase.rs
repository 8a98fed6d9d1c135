//! `rebase`: puts an image on top of another backing file.
//!
//! What the image does not hold itself is compared between the old backing chain and the new one;
//! where they differ, the old content is written into the image before the new name is.

use crate::args::{Args, NO_SHORT, flag, takes};
use crate::image::{self, ImageArgs};
use crate::progress::Meter;
use crate::{Command, Failure, Invocation};
use formats::format_named;
use graph::{
    Compress, ExtentKind, Image, Node, Overlay, WriteFlags, ZeroFlags, host_text, is_zero,
};
use jobs::{Progress, Run, backing_of, status_above};
use protocols::CacheMode;
use std::sync::Arc;

pub(crate) const COMMAND: Command = Command {
    name: "rebase",
    summary: "Change backing file of the image",
    usage: &[
        "[-f FMT | --image-opts] [-t CACHE] [-q] [-U] [-p]",
        "[-b BACKING_FILENAME [-F BACKING_FMT] [-T BACKING_CACHE]] [-u]",
        "[--object OBJDEF] [-c] FILENAME",
    ],
    options: &[
        flag('h', "help", image::HELP),
        flag('q', "quiet", image::QUIET),
        flag('p', "progress", image::PROGRESS),
        takes('f', "format", "FMT", image::FORMAT),
        flag(NO_SHORT, "image-opts", image::IMAGE_OPTS),
        takes('t', "cache", "CACHE", image::CACHE),
        takes('b', "backing", "BACKING_FILENAME", "the new backing file; \"\" for none"),
        takes('F', "backing-format", "BACKING_FMT", "format of BACKING_FILENAME"),
        takes('T', "backing-cache", "CACHE", "cache mode of the backing files (writeback)"),
        flag('u', "backing-unsafe", "change the name only: the content must be the same"),
        flag('c', "compress", "store compressed what must be copied"),
        flag('U', "force-share", image::FORCE_SHARE),
        takes(NO_SHORT, "object", "OBJDEF", image::OBJECT),
    ],
    operands: &[("FILENAME", image::FILENAME)],
    run,
};

/// Bytes compared at a time.
const BUFFER: u64 = 2 << 20;

fn run(called: &Invocation, args: &Args) -> Result<u8, Failure> {
    let filename = called.one_operand(args, "Expecting one image file name")?;
    let renamed_only = args.has("backing-unsafe");
    if args.value("backing").is_none() && !renamed_only {
        return Err(called.usage("Must specify backing file (-b) or use unsafe mode (-u)"));
    }
    let image_args = ImageArgs::parse(args)?;
    let backing_cache = image::cache_mode("source cache option", args.value("backing-cache"))?;
    let name = args.value("backing").filter(|name| !name.is_empty());
    let format = args.value("backing-format");
    if let Some(unknown) = format.filter(|format| format_named(format).is_none()) {
        return Err(Failure::new(format!("Invalid format name: '{unknown}'")));
    }
    let meter = called.meter(args)?;
    let node = image_args.open(filename, |o| {
        o.writable = true;
        o.without_backing = renamed_only;
    })?;
    let new = match name {
        Some(name) if !renamed_only => {
            Some(open_new(&image_args, filename, (name, format), backing_cache)?)
        }
        _ => None,
    };
    if name.is_some() && format.is_none() {
        return Err(cannot_change(name, "backing format must be specified"));
    }
    let compress = node.image().and_then(Image::compress).filter(|_| args.has("compress"));
    if args.has("compress") && compress.is_none() {
        return Err(Failure::new("Compression not supported for this file format"));
    }
    let overlay = node.image().and_then(Image::overlay);
    let overlay = overlay.ok_or_else(|| cannot_change(name, "Operation not supported"))?;
    if !renamed_only {
        let buffers = Default::default();
        Rebase { node: &node, new, compress, meter: &meter, buffers }.copy_differences()?;
        node.flush().map_err(|e| Failure::io(filename, &e))?;
    }
    record(overlay, &*node, name, format)?;
    meter.finish();
    Ok(0)
}

fn record(
    overlay: &dyn Overlay,
    node: &dyn Node,
    name: Option<&str>,
    format: Option<&str>,
) -> Result<(), Failure> {
    let done = overlay.record_backing(name, format).and_then(|()| node.flush());
    done.map_err(|e| cannot_change(name, &host_text(&e)))
}

fn cannot_change(name: Option<&str>, why: &str) -> Failure {
    let name = name.unwrap_or_default();
    Failure::new(format!("Could not change the backing file to '{name}': {why}"))
}

fn open_new(
    image_args: &ImageArgs,
    filename: &str,
    (name, format): (&str, Option<&str>),
    cache: CacheMode,
) -> Result<Arc<dyn Node>, Failure> {
    let opener = image_args.other(format);
    let full = formats::beside(filename, name);
    opener.open(&full, |o| o.cache = cache).map_err(|f| f.reopening(&full))
}

/// Copies what the image would show differently on its new backing file.
struct Rebase<'a> {
    node: &'a Arc<dyn Node>,
    new: Option<Arc<dyn Node>>,
    compress: Option<&'a dyn Compress>,
    meter: &'a Meter,
    /// What a piece shows before and after.
    buffers: (Vec<u8>, Vec<u8>),
}

impl Rebase<'_> {
    fn copy_differences(&mut self) -> Result<(), Failure> {
        let Some(old) = backing_of(&**self.node) else {
            return self.hide_new();
        };
        let size = self.node.size();
        let mut at = 0;
        self.meter.at(0, size);
        while at < size {
            let extent = self.node.block_status(at, size - at).map_err(|e| reading(at, &e))?;
            let mut len = extent.len;
            if extent.kind == ExtentKind::Unallocated {
                let known = self.same_without_reading(&old, at, len)?;
                len = known.unwrap_or_else(|| self.piece(at, len));
                if known.is_none() {
                    self.compare(Some(&old), at, len)?;
                }
            }
            at += len;
            self.meter.at(at, size);
        }
        Ok(())
    }

    /// An image without a backing file shows zeroes where it holds nothing, and must go on to do so.
    fn hide_new(&mut self) -> Result<(), Failure> {
        let size = self.node.size();
        let mut at = 0;
        while at < size && self.new.is_some() {
            let extent = self.node.block_status(at, size - at).map_err(|e| reading(at, &e))?;
            let mut len = extent.len;
            if extent.kind == ExtentKind::Unallocated {
                len = self.piece(at, len);
                self.compare(None, at, len)?;
            }
            at += len;
            self.meter.at(at, size);
        }
        Ok(())
    }

    /// A piece that ends where a unit of compression does.
    fn piece(&self, at: u64, len: u64) -> u64 {
        let unit = self.compress.map_or(BUFFER, Compress::unit);
        len.min((at / unit + 1) * unit - at)
    }

    /// Bytes from `at` on that are zeroes in both chains.
    fn same_without_reading(
        &self,
        old: &Arc<dyn Node>,
        at: u64,
        len: u64,
    ) -> Result<Option<u64>, Failure> {
        let old_zero = zero_at(old, at, len)?;
        let new_zero = self.new.as_ref().map_or(Ok(Some(len)), |new| zero_at(new, at, len))?;
        Ok(old_zero.zip(new_zero).map(|(old, new)| old.min(new)))
    }

    fn compare(&mut self, old: Option<&Arc<dyn Node>>, at: u64, len: u64) -> Result<(), Failure> {
        let (mut before, mut after) = std::mem::take(&mut self.buffers);
        let read = read(old, at, len, &mut before)
            .and_then(|()| read(self.new.as_ref(), at, len, &mut after));
        let done = read.and_then(|()| self.copy(at, &before, &after));
        self.buffers = (before, after);
        done
    }

    /// Writes what the image showed before where it would show something else after.
    fn copy(&self, at: u64, before: &[u8], after: &[u8]) -> Result<(), Failure> {
        let len = before.len() as u64;
        if before == after {
            return Ok(());
        }
        let failed = |e| Failure::io("error while writing to COW image", &e);
        let unit = self.compress.map_or(0, Compress::unit);
        if let Some(compress) = self.compress
            && at.is_multiple_of(unit)
            && (len == unit || at + len == self.node.size())
        {
            return compress.write_compressed(at, before).map_err(failed);
        }
        for Run { start, len, zero } in differences(before, after) {
            let offset = at + start as u64;
            let done = if zero {
                self.node.write_zeroes(offset, len as u64, ZeroFlags::default())
            } else {
                self.node.write_at(offset, &before[start..start + len], WriteFlags::default())
            };
            done.map_err(failed)?;
        }
        Ok(())
    }
}

/// Where the buffers differ, in runs of zeroes and of data of the first: what is equal may stay in the
/// backing file.
fn differences(before: &[u8], after: &[u8]) -> Vec<Run> {
    const STEP: usize = 4096;
    let mut found: Vec<Run> = Vec::new();
    for (row, (b, a)) in before.chunks(STEP).zip(after.chunks(STEP)).enumerate() {
        if b == a {
            continue;
        }
        let (start, zero) = (row * STEP, is_zero(b));
        match found.last_mut() {
            Some(last) if last.zero == zero && last.start + last.len == start => {
                last.len += b.len()
            }
            _ => found.push(Run { start, len: b.len(), zero }),
        }
    }
    found
}

fn reading(at: u64, error: &std::io::Error) -> Failure {
    Failure::io(format!("error while reading image metadata at offset {at}"), error)
}

/// Bytes from `at` on that a chain knows to be zeroes; what is behind its end is.
fn zero_at(node: &Arc<dyn Node>, at: u64, len: u64) -> Result<Option<u64>, Failure> {
    if at >= node.size() {
        return Ok(Some(len));
    }
    let status = status_above(node, None, at, len.min(node.size() - at));
    let status = status.map_err(|e| reading(at, &e))?;
    let zero = matches!(status.kind, ExtentKind::Zero | ExtentKind::Unallocated);
    Ok(zero.then_some(status.len))
}

/// Reads what a chain shows, with zeroes behind its end.
fn read(node: Option<&Arc<dyn Node>>, at: u64, len: u64, buf: &mut Vec<u8>) -> Result<(), Failure> {
    // Pieces are at most a buffer, or a unit of compression, long.
    buf.resize(len as usize, 0);
    let inside = match node {
        Some(node) if at < node.size() => len.min(node.size() - at) as usize,
        _ => 0,
    };
    let (shown, behind) = buf.split_at_mut(inside);
    behind.fill(0);
    if let (Some(node), true) = (node, inside != 0) {
        let failed = |e| Failure::io("error while reading from the backing file", &e);
        node.read_at(at, shown).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_written_in_runs() {
        let mut before = vec![1; 5 * 4096 + 100];
        before[3 * 4096..4 * 4096].fill(0);
        let mut after = before.clone();
        after[4096] = 2;
        after[3 * 4096 - 1] = 2;
        after[3 * 4096] = 2;
        *after.last_mut().expect("it is long") = 2;
        let found: Vec<_> =
            differences(&before, &after).iter().map(|r| (r.start, r.len, r.zero)).collect();
        assert_eq!(found, [(4096, 8192, false), (12288, 4096, true), (20480, 100, false)]);
        assert!(differences(&before, &before).is_empty());
    }
}
