//! `map`: where an image's content is.

use crate::args::{Args, NO_SHORT, flag, takes};
use crate::image::{self, ImageArgs, Output};
use crate::{Command, Failure, Invocation, text};
use graph::{ExtentKind, Node};
use jobs::{Store, Stores};
use std::io::{self, BufWriter, Write};
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
#[derive(Clone)]
struct Entry {
    start: u64,
    length: u64,
    depth: u32,
    /// Some layer says what the range holds.
    present: bool,
    zero: bool,
    data: bool,
    compressed: bool,
    /// Where in which file, if the bytes are there as they are.
    place: Option<(u64, Arc<Store>)>,
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
    let mut stores = Stores::default();
    let mut printer = Printer::new(output);
    let mut pending: Option<Entry> = None;
    let mut at = start;
    while at < end {
        let entry = entry_at(&mut stores, &node, at, end - at)
            .map_err(|e| Failure::io("Could not read file metadata", &e))?;
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
        place: None,
    }
}

fn entry_at(stores: &mut Stores, node: &Arc<dyn Node>, start: u64, len: u64) -> io::Result<Entry> {
    let status = stores.status(node, None, start, len)?;
    let held = status.extent.kind;
    Ok(Entry {
        start,
        length: status.len,
        depth: status.depth,
        present: held != ExtentKind::Unallocated,
        zero: matches!(status.kind, ExtentKind::Zero | ExtentKind::Unallocated),
        data: matches!(held, ExtentKind::Data | ExtentKind::Compressed),
        compressed: held == ExtentKind::Compressed,
        place: stores.place(&status),
    })
}

/// Whether `next` says of the bytes behind `last` what `last` says of its own.
fn continues(last: &Entry, next: &Entry) -> bool {
    let alike = |e: &Entry| (e.depth, e.present, e.zero, e.data, e.compressed);
    alike(last) == alike(next)
        && match (&last.place, &next.place) {
            (None, None) => true,
            (Some((a, file)), Some((b, next_file))) => {
                *b == a + last.length && Arc::ptr_eq(file, next_file)
            }
            _ => false,
        }
}

/// Writes entries as they come: a map can be longer than memory should hold.
struct Printer {
    output: Output,
    started: bool,
    to: BufWriter<io::Stdout>,
}

impl Printer {
    fn new(output: Output) -> Self {
        let mut printer = Self { output, started: false, to: BufWriter::new(io::stdout()) };
        printer.put(match output {
            Output::Json => "[".to_owned(),
            Output::Human => format!("{:<16}{:<16}{:<16}File\n", "Offset", "Length", "Mapped to"),
        });
        printer
    }

    fn put(&mut self, text: String) {
        // Who closed the output does not want to know.
        let _ = self.to.write_all(text.as_bytes());
    }

    fn entry(&mut self, e: &Entry) -> Result<(), Failure> {
        match self.output {
            Output::Human => self.line(e),
            Output::Json => {
                let between = if std::mem::replace(&mut self.started, true) { ",\n" } else { "" };
                let offset = e.place.as_ref().map(|(at, _)| format!(", \"offset\": {at}"));
                self.put(format!(
                    "{between}{{ \"start\": {}, \"length\": {}, \"depth\": {}, \"present\": {}, \
                     \"zero\": {}, \"data\": {}, \"compressed\": {}{}}}",
                    e.start,
                    e.length,
                    e.depth,
                    e.present,
                    e.zero,
                    e.data,
                    e.compressed,
                    offset.unwrap_or_default()
                ));
                Ok(())
            }
        }
    }

    /// People see what can be found in a file; content that cannot be found so is an error.
    fn line(&mut self, e: &Entry) -> Result<(), Failure> {
        if !e.data || e.zero {
            return Ok(());
        }
        let Some((offset, store)) = &e.place else {
            return Err(Failure::new("File contains external, encrypted or compressed clusters."));
        };
        let hex = |n: u64| if n == 0 { "0".to_owned() } else { format!("{n:#x}") };
        let (start, length, offset) = (hex(e.start), hex(e.length), hex(*offset));
        self.put(format!("{start:<16}{length:<16}{offset:<16}{}\n", store.filename()));
        Ok(())
    }

    fn end(mut self) {
        if self.output == Output::Json {
            self.put("]\n".to_owned());
        }
    }
}
