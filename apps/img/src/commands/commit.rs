//! `commit`: writes what an image holds into the image below it.

use crate::args::{Args, NO_SHORT, flag, takes};
use crate::image::{self, ImageArgs};
use crate::progress::Meter;
use crate::{Command, Failure, Invocation, text};
use formats::Purpose;
use graph::{Image, Node, Preallocation};
use jobs::{Copy, CopyOptions, Stack, backing_of};
use std::sync::Arc;

use super::convert::describe_error;

pub(crate) const COMMAND: Command = Command {
    name: "commit",
    summary: "Commit image to its backing file",
    usage: &[
        "[-f FMT | --image-opts] [-t CACHE_MODE] [-b BASE_IMG] [-d]",
        "[-r RATE] [--object OBJDEF] FILENAME",
    ],
    options: &[
        flag('h', "help", image::HELP),
        flag('q', "quiet", image::QUIET),
        flag('p', "progress", image::PROGRESS),
        takes('f', "format", "FMT", image::FORMAT),
        flag(NO_SHORT, "image-opts", image::IMAGE_OPTS),
        takes('t', "cache", "CACHE_MODE", image::CACHE),
        flag('d', "drop", "do not empty FILENAME afterwards"),
        takes(
            'b',
            "base",
            "BASE_IMG",
            "image of the backing chain to write into, instead of the next one (implies --drop)",
        ),
        takes('r', "rate", "RATE", "bytes per second at most"),
        takes(NO_SHORT, "object", "OBJDEF", image::OBJECT),
    ],
    operands: &[("FILENAME", image::FILENAME)],
    run,
};

/// A layer of a chain, by what opens it again.
struct Layer {
    filename: String,
    format: &'static str,
}

fn run(called: &Invocation, args: &Args) -> Result<u8, Failure> {
    let image_args = ImageArgs::parse(args)?;
    let rate = args.value("rate").map(|r| text::parse_bytes("rate limit", r)).transpose()?;
    let filename = called.one_operand(args, "Expecting one image file name")?;
    let empty = !args.has("drop") && args.value("base").is_none();
    // What cannot be written is refused before its chain is looked at.
    drop(image_args.open(filename, |o| (o.writable, o.without_backing) = (true, true))?);
    let (upper, base) = layers(&image_args, filename, args.value("base"))?;
    let top = image_args.open(filename, |o| (o.writable, o.without_backing) = (empty, true))?;
    let mut stack = vec![Arc::clone(&top)];
    for layer in &upper {
        let opener = image_args.other(Some(layer.format));
        stack.push(opener.open(&layer.filename, |o| o.without_backing = true)?);
    }
    let opener = image_args.other(Some(base.format));
    let base = opener.open(&base.filename, |o| o.writable = true)?;
    let meter = called.meter(args)?;
    commit(stack, &*base, rate.unwrap_or(0), &meter)?;
    if empty {
        make_empty(&*top)?;
    }
    meter.finish();
    if !args.has("quiet") {
        println!("Image committed.");
    }
    Ok(0)
}

/// The layers between the image and the one to write into, and that one.
fn layers(
    image_args: &ImageArgs,
    filename: &str,
    wanted: Option<&str>,
) -> Result<(Vec<Layer>, Layer), Failure> {
    let top = image_args.open(filename, |o| o.purpose = Purpose::Info)?;
    let mut between = Vec::new();
    let mut next = backing_of(&*top);
    if next.is_none() {
        return Err(Failure::new("Image does not have a backing file"));
    }
    while let Some(node) = next {
        let info = node.info();
        let layer = Layer { filename: info.filename, format: info.driver };
        if wanted.is_none_or(|name| same_file(name, filename, &layer.filename)) {
            return Ok((between, layer));
        }
        between.push(layer);
        next = backing_of(&*node);
    }
    let wanted = wanted.unwrap_or_default();
    let text = format!("Did not find '{wanted}' in the backing chain of '{filename}'");
    Err(Failure::new(text))
}

/// Whether a name given by the user means this layer: as it is, or as the image would name it.
fn same_file(name: &str, image: &str, layer: &str) -> bool {
    let path = |name: &str| std::fs::canonicalize(name).ok();
    let layer = path(layer);
    layer.is_some() && (path(name) == layer || path(&formats::beside(image, name)) == layer)
}

fn commit(
    stack: Vec<Arc<dyn Node>>,
    base: &dyn Node,
    rate: u64,
    meter: &Meter,
) -> Result<(), Failure> {
    let source: Arc<dyn Node> = Arc::new(Stack::new(stack));
    let size = source.size();
    if size > base.size() {
        let grown = match base.image() {
            Some(image) => image.resize(size, Preallocation::Off),
            None => base.truncate(size),
        };
        grown.map_err(|e| Failure::io("Could not make the backing file longer", &e))?;
    }
    let options = CopyOptions { leave_unallocated: true, rate, ..CopyOptions::default() };
    Copy::run(&source, base, size, &options, meter).map_err(describe_error)?;
    base.flush().map_err(|e| Failure::io("Could not flush the backing file", &e))
}

/// Gives back what the image holds, if its format can. Only after the base was flushed: before, it
/// is the only copy.
fn make_empty(top: &dyn Node) -> Result<(), Failure> {
    let Some(overlay) = top.image().and_then(Image::overlay) else { return Ok(()) };
    match overlay.make_empty().and_then(|()| top.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::Unsupported => {
            Err(Failure::io("Could not empty the image", &e))
        }
        _ => Ok(()),
    }
}
