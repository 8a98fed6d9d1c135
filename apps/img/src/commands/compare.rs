//! `compare`: whether two images hold the same.

use crate::args::{Args, NO_SHORT, flag, takes};
use crate::image::{self, ImageArgs};
use crate::{Command, Failure, Invocation};
use graph::{ExtentKind, Node, is_zero};
use jobs::{Progress, Stores};
use std::ops::Range;
use std::sync::Arc;

pub(crate) const COMMAND: Command = Command {
    name: "compare",
    summary: "Check if two images have the same contents",
    usage: &[
        "[--image-opts | [-f FMT] [-F FMT]] [-s]",
        "[-T CACHE] [-U] [--object OBJDEF] FILENAME1 FILENAME2",
    ],
    options: &[
        flag('h', "help", image::HELP),
        flag('q', "quiet", image::QUIET),
        flag('p', "progress", image::PROGRESS),
        takes('f', "a-format", "FMT", "format of FILENAME1"),
        takes('F', "b-format", "FMT", "format of FILENAME2"),
        flag(NO_SHORT, "image-opts", image::IMAGE_OPTS),
        flag('s', "strict", "images of different length differ"),
        takes('T', "cache", "CACHE_MODE", image::CACHE),
        flag('U', "force-share", image::FORCE_SHARE),
        takes(NO_SHORT, "object", "OBJDEF", image::OBJECT),
    ],
    operands: &[("FILENAME1, FILENAME2", "the images")],
    run,
};

/// Exit codes: scripts act on them.
pub(crate) mod exit {
    pub const SAME: u8 = 0;
    pub const DIFFERENT: u8 = 1;
    pub const CANNOT_OPEN: u8 = 2;
    pub const CANNOT_READ: u8 = 4;
}

/// Bytes compared at a time.
const BUFFER: u64 = 2 << 20;

fn run(called: &Invocation, args: &Args) -> Result<u8, Failure> {
    let unopened = |f: Failure| f.coded(exit::CANNOT_OPEN);
    let [a, b] = args.operands.as_slice() else {
        return Err(called.usage("Expecting two image file names"));
    };
    let of = |format| {
        let mut image_args = ImageArgs::with_format(args, args.value(format))?;
        image_args.set_cache("source cache option", args.value("cache"))?;
        Ok(image_args)
    };
    let of = |format| of(format).map_err(unopened);
    let (first, second) = (of("a-format")?, of("b-format")?);
    let quiet = args.has("quiet");
    let say = |text: &str| {
        if !quiet {
            println!("{text}");
        }
    };
    let a = first.open(a, |_| {}).map_err(unopened)?;
    let b = second.open(b, |_| {}).map_err(unopened)?;
    let (shorter, longer) = (a.size().min(b.size()), a.size().max(b.size()));
    if shorter != longer && args.has("strict") {
        say("Strict mode: Image size mismatch!");
        return Ok(exit::DIFFERENT);
    }
    let meter = called.meter(args)?;
    let difference = |range| first_difference(&a, &b, range, &meter);
    let mut found = difference(0..shorter).map_err(|f| f.coded(exit::CANNOT_READ))?;
    if found.is_none() && shorter != longer {
        say("Warning: Image size mismatch!");
        found = difference(shorter..longer).map_err(|f| f.coded(exit::CANNOT_READ))?;
    }
    Ok(match found {
        Some(offset) => {
            say(&format!("Content mismatch at offset {offset}!"));
            meter.end();
            exit::DIFFERENT
        }
        None => {
            meter.finish();
            say("Images are identical.");
            exit::SAME
        }
    })
}

/// What is known of a range without reading it.
struct Known {
    len: u64,
    zero: bool,
}

fn known(
    stores: &mut Stores,
    node: &Arc<dyn Node>,
    offset: u64,
    len: u64,
) -> std::io::Result<Known> {
    if offset >= node.size() {
        return Ok(Known { len, zero: true });
    }
    let status = stores.status(node, None, offset, len.min(node.size() - offset))?;
    let zero = matches!(status.kind, ExtentKind::Zero | ExtentKind::Unallocated);
    Ok(Known { len: status.len, zero })
}

/// The first sector of a range in which the images differ; what is behind the end of the shorter one must be
/// zeroes in the longer one.
pub(crate) fn first_difference(
    a: &Arc<dyn Node>,
    b: &Arc<dyn Node>,
    range: Range<u64>,
    meter: &dyn Progress,
) -> Result<Option<u64>, Failure> {
    let (mut of_a, mut of_b) = (Vec::new(), Vec::new());
    let mut stores = Stores::default();
    let (mut at, end) = (range.start, range.end);
    meter.at(at, end);
    while at < end {
        let failed = |error: std::io::Error| {
            Failure::io(format!("Sector allocation test failed at offset {at}"), &error)
        };
        let in_a = known(&mut stores, a, at, end - at).map_err(failed)?;
        let in_b = known(&mut stores, b, at, end - at).map_err(failed)?;
        let both = in_a.len.min(in_b.len);
        if !(in_a.zero && in_b.zero) {
            let len = both.min(BUFFER);
            read(a, at, len, in_a.zero, &mut of_a)?;
            read(b, at, len, in_b.zero, &mut of_b)?;
            if let Some(sector) = differing_sector(&of_a, &of_b) {
                return Ok(Some(at + sector));
            }
            at += len;
        } else {
            at += both;
        }
        meter.at(at, end);
    }
    Ok(None)
}

/// Reads a range; none of it if it is known to be zeroes.
fn read(
    node: &Arc<dyn Node>,
    offset: u64,
    len: u64,
    zero: bool,
    buf: &mut Vec<u8>,
) -> Result<(), Failure> {
    buf.clear();
    if zero {
        return Ok(());
    }
    buf.resize(len as usize, 0);
    let name = node.info().filename;
    let failed = |e| Failure::io(format!("Error while reading offset {offset} of {name}"), &e);
    node.read_at(offset, buf).map_err(failed)
}

/// The first sector in which the buffers differ; an empty one stands for zeroes.
fn differing_sector(a: &[u8], b: &[u8]) -> Option<u64> {
    const SECTOR: usize = graph::SECTOR as usize;
    let row = match (a.is_empty(), b.is_empty()) {
        (true, _) => b.chunks(SECTOR).position(|sector| !is_zero(sector)),
        (_, true) => a.chunks(SECTOR).position(|sector| !is_zero(sector)),
        _ if a == b => None,
        _ => a.chunks(SECTOR).zip(b.chunks(SECTOR)).position(|(a, b)| a != b),
    };
    row.map(|row| row as u64 * graph::SECTOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_found_by_sector() {
        let mut a = vec![0; 2000];
        let b = a.clone();
        assert_eq!(differing_sector(&a, &b), None);
        assert_eq!(differing_sector(&a, &[]), None);
        a[1999] = 1;
        assert_eq!(differing_sector(&a, &b), Some(1536));
        assert_eq!(differing_sector(&[], &a), Some(1536));
    }
}
