//! `map`: where an image's content is.

use crate::args::{Args, NO_SHORT, flag, takes};
use crate::image::{self, ImageArgs, Output};
use crate::{Command, Failure, Invocation, text};
use graph::{ExtentKind, Node, Role};
use jobs::{Status, status_above};
use std::io;
use std::sync::Arc;

pub(crate) const COMMAND: Command = Command {
    name: "map",
    summary: "Dump image metadata",
    usage: &[
        "[-f FMT | --image-opts] [--object OBJDEF] [--output human|json]",
        "[--start-offset OFFSET] [--max-length LENGTH] [-U] FILENAME",
    ],
    options: &[
        flag('h', "help", image::HELP),
        takes('f', "format", "FMT", image::FORMAT),
        flag(NO_SHORT, "image-opts", image::IMAGE_OPTS),
        takes('s', "start-offset", "OFFSET", "first byte of the disk to look at"),
        takes('l', "max-length", "LENGTH", "bytes of the disk to look at, if not all"),
        takes(NO_SHORT, "output", "human|json", image::OUTPUT),
        flag('U', "force-share", image::FORCE_SHARE),
        takes(NO_SHORT, "object", "OBJDEF", image::OBJECT),
    ],
    operands: &[("FILENAME", image::FILENAME)],
    run,
};

/// A range of the disk whose content has one kind of place.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    start: u64,
    length: u64,
    depth: u32,
    /// Some layer says what the range holds.
    present: bool,
    zero: bool,
    data: bool,
    compressed: bool,
    /// Where in its file, if the bytes are there as they are.
    offset: Option<u64>,
    filename: Option<String>,
}

fn run(called: &Invocation, args: &Args) -> Result<u8, Failure> {
    let output = Output::parse(called, args)?;
    let image_args = ImageArgs::parse(args)?;
    let bytes = |option, what| args.value(option).map(|v| text::parse_bytes(what, v)).transpose();
    let start = bytes("start-offset", "start offset")?.unwrap_or(0);
    let most = bytes("max-length", "max length")?;
    let filename = called.one_operand(args, "Expecting one image file name")?;
    let node = image_args.open(filename, |_| {})?;
    let end = most.map_or(node.size(), |most| node.size().min(start.saturating_add(most)));
    let mut printer = Printer { output, started: false };
    printer.begin();
    let mut pending: Option<Entry> = None;
    let mut at = start;
    while at < end {
        let entry = entry_at(&node, at, end - at)
            .map_err(|e| Failure::io("Failed to read image metadata", &e))?;
        at += entry.length;
        pending = match pending {
            Some(last) if continues(&last, &entry) => {
                Some(Entry { length: last.length + entry.length, ..last })
            }
            last => {
                last.map_or(Ok(()), |last| printer.entry(&last))?;
                Some(entry)
            }
        };
    }
    let last = pending.unwrap_or_else(|| nothing(start));
    printer.entry(&last)?;
    printer.end();
    Ok(0)
}

/// What there is behind the end of a disk.
fn nothing(start: u64) -> Entry {
    Entry {
        start,
        length: 0,
        depth: 0,
        present: false,
        zero: false,
        data: false,
        compressed: false,
        offset: None,
        filename: None,
    }
}

fn entry_at(node: &Arc<dyn Node>, start: u64, len: u64) -> io::Result<Entry> {
    let status = status_above(node, None, start, len)?;
    let mut length = status.len;
    let mut zero = matches!(status.kind, ExtentKind::Zero | ExtentKind::Unallocated);
    if status.kind == ExtentKind::Data
        && let Some((len, hole)) = hole_in_file(&status)?
    {
        (length, zero) = (length.min(len), hole);
    }
    let offset = status.extent.host_offset;
    Ok(Entry {
        start,
        length,
        depth: status.depth,
        present: status.extent.kind != ExtentKind::Unallocated,
        zero,
        data: matches!(status.kind, ExtentKind::Data | ExtentKind::Compressed),
        compressed: status.kind == ExtentKind::Compressed,
        offset,
        filename: offset.and_then(|_| stored_in(&*status.node)).map(|file| file.info().filename),
    })
}

/// The child that holds the bytes of allocated clusters.
fn stored_in(node: &dyn Node) -> Option<Arc<dyn Node>> {
    let children = node.children();
    let of = |role| children.iter().find(move |child| child.role == role);
    of(Role::Data).or_else(|| of(Role::File)).map(|child| Arc::clone(&child.node))
}

/// For allocated bytes: how many, and whether they were reserved in the file and never written.
fn hole_in_file(status: &Status) -> io::Result<Option<(u64, bool)>> {
    let Some(at) = status.extent.host_offset else { return Ok(None) };
    let Some(file) = stored_in(&*status.node) else { return Ok(None) };
    if at >= file.size() {
        return Ok(Some((status.len, true)));
    }
    let extent = file.block_status(at, status.len.min(file.size() - at))?;
    Ok(Some((extent.len, extent.kind == ExtentKind::Zero)))
}

/// Whether `next` says of the bytes behind `last` what `last` says of its own.
fn continues(last: &Entry, next: &Entry) -> bool {
    let alike = |e: &Entry| (e.depth, e.present, e.zero, e.data, e.compressed, e.filename.clone());
    alike(last) == alike(next) && last.offset.map(|o| o + last.length) == next.offset
}

struct Printer {
    output: Output,
    started: bool,
}

impl Printer {
    fn begin(&self) {
        match self.output {
            Output::Json => print!("["),
            Output::Human => {
                println!("{:<16}{:<16}{:<16}File", "Offset", "Length", "Mapped to");
            }
        }
    }

    fn entry(&mut self, e: &Entry) -> Result<(), Failure> {
        match self.output {
            Output::Human => self.line(e),
            Output::Json => {
                let between = if std::mem::replace(&mut self.started, true) { ",\n" } else { "" };
                let offset = e.offset.map(|o| format!(", \"offset\": {o}")).unwrap_or_default();
                print!(
                    "{between}{{ \"start\": {}, \"length\": {}, \"depth\": {}, \"present\": {}, \
                     \"zero\": {}, \"data\": {}, \"compressed\": {}{offset}}}",
                    e.start, e.length, e.depth, e.present, e.zero, e.data, e.compressed
                );
                Ok(())
            }
        }
    }

    /// People see what can be found in a file; content that cannot be found so is an error.
    fn line(&self, e: &Entry) -> Result<(), Failure> {
        if !e.data || e.zero {
            return Ok(());
        }
        let (Some(offset), Some(filename)) = (e.offset, &e.filename) else {
            return Err(Failure::new("File contains external, encrypted or compressed clusters."));
        };
        let hex = |n: u64| if n == 0 { "0".to_owned() } else { format!("{n:#x}") };
        println!("{:<16}{:<16}{:<16}{filename}", hex(e.start), hex(e.length), hex(offset));
        Ok(())
    }

    fn end(&self) {
        if matches!(self.output, Output::Json) {
            println!("]");
        }
    }
}
