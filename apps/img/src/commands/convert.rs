//! `convert`: copies images into another.

use crate::args::{Args, NO_SHORT, flag, takes};
use crate::creation::{self, Creation};
use crate::image::{self, ImageArgs, Objects};
use crate::own::{Checkpoints, Partial};
use crate::{Command, Failure, Invocation, text};
use formats::{HostFiles, format_named};
use graph::{Image, Node, host_text};
use jobs::{Concat, Copy, CopyError, CopyOptions, Part, Side};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

pub(crate) const COMMAND: Command = Command {
    name: "convert",
    summary: "Copy one image to another with optional format conversion",
    usage: &[
        "[-f SRC_FMT | --source-image-opts] [-T SRC_CACHE] [-l SNAPSHOT] [-U]",
        "[-O TGT_FMT] [-o TGT_OPTS | --target-image-opts] [-t TGT_CACHE] [-n [--target-is-zero]]",
        "[-B BACKING_FILENAME [-F BACKING_FMT]] [-c] [-S SIZE] [--bitmaps [--skip-broken-bitmaps]]",
        "[-m NUM] [-W] [-r RATE] [--salvage] [-p] [-q] [--object OBJDEF]",
        "SRC_FILENAME [SRC_FILENAME2 [...]] TGT_FILENAME",
    ],
    options: &[
        flag('h', "help", image::HELP),
        flag('q', "quiet", image::QUIET),
        flag('p', "progress", image::PROGRESS),
        takes('f', "source-format", "SRC_FMT", "format of the sources"),
        flag(NO_SHORT, "source-image-opts", "SRC_FILENAME is a complete image specification"),
        flag(NO_SHORT, "image-opts", "the same"),
        takes(
            'l',
            "source-snapshot",
            "SNAPSHOT",
            "copy this internal snapshot: its id or name, or snapshot.id=ID, snapshot.name=NAME",
        ),
        takes('T', "source-cache", "SRC_CACHE", "cache mode of the sources (writeback)"),
        takes('O', "target-format", "TGT_FMT", "format of the target (raw)"),
        flag(NO_SHORT, "target-image-opts", "TGT_FILENAME is a complete image specification"),
        takes(
            'o',
            "target-options",
            "TGT_OPTS",
            "options of the target's format ('-o help' lists them)",
        ),
        flag('c', "compress", "store the target compressed"),
        takes('t', "target-cache", "TGT_CACHE", "cache mode of the target (unsafe)"),
        takes(
            'B',
            "backing",
            "BACKING_FILENAME",
            "make the target show this image where it holds nothing itself",
        ),
        takes('F', "backing-format", "BACKING_FMT", "format of BACKING_FILENAME"),
        flag('n', "no-create", "the target exists"),
        flag(NO_SHORT, "target-is-zero", "the target that exists reads as zeroes"),
        takes(
            'S',
            "sparse-size",
            "SIZE",
            "zeroes shorter than this are stored as data (4k); 0 reserves space for all",
        ),
        flag(NO_SHORT, "bitmaps", "copy persistent bitmaps, too"),
        flag(NO_SHORT, "skip-broken-bitmaps", "leave out bitmaps that are not consistent"),
        flag('U', "force-share", "open sources that others write to"),
        takes('r', "rate", "RATE", "bytes per second at most"),
        takes('m', "parallel", "NUM", "requests at a time, 1 to 16 (8)"),
        flag('C', "copy-range-offloading", "let the host copy ranges where it can"),
        flag(NO_SHORT, "salvage", "go on where a source cannot be read, with zeroes"),
        flag('W', "oob-writes", "write in any order: faster, and the target may be fragmented"),
        takes(NO_SHORT, "object", "OBJDEF", image::OBJECT),
    ],
    operands: &[
        ("SRC_FILENAME", "source; several follow one another in the target"),
        ("TGT_FILENAME", "target"),
    ],
    run,
};

/// Largest part of a cluster that is written as zeroes rather than left out.
const MOST_FILLED: usize = 64 << 10;

/// What the command line asks for, checked.
struct Plan<'a> {
    sources: &'a [String],
    target: &'a str,
    target_format: &'a str,
    options: CopyOptions,
    secrets: Objects,
}

fn run(called: &Invocation, args: &Args) -> Result<u8, Failure> {
    let format = target_format(called, args);
    let option_texts: Vec<&str> = args.values("target-options").collect();
    if creation::wants_help(&option_texts) {
        let with_file = args.operands.len() > 1;
        let help = if with_file { creation::help_with_file } else { creation::help };
        print!("{}", help(format)?);
        return Ok(0);
    }
    check_combinations(args)?;
    let plan = plan(args, format)?;
    let mut image_args = ImageArgs::with_format(args, args.value("source-format"))?;
    image_args.image_opts = args.has("source-image-opts") || args.has("image-opts");
    image_args.set_cache("source cache option", args.value("source-cache"))?;
    let Sources { whole: source, first } = open_sources(&image_args, &plan, args)?;
    if args.has("bitmaps") && bitmaps(&*first).is_none() {
        return Err(Failure::new("Source lacks bitmap support"));
    }
    let partial = match called.is_own() {
        true => Partial::find(called, args, &image_args, &*source, plan.target)?,
        false => None,
    };
    let target = Target::prepare(args, &plan, &source, &option_texts, partial.as_ref());
    let target = target.inspect_err(|_| {
        if let Some(partial) = &partial {
            partial.give_up(called);
        }
    })?;
    let done = copy(called, args, plan, &source, &target, partial.as_ref())
        .and_then(|()| match args.has("bitmaps") {
            true => copy_bitmaps(called, &*first, &*target.node, args.has("skip-broken-bitmaps")),
            false => Ok(()),
        })
        .and_then(|()| {
            target.node.flush().map_err(|e| Failure::io("error while closing the target", &e))
        });
    match (done, partial) {
        (Ok(()), Some(partial)) => {
            drop(target);
            partial.complete()?;
        }
        (Err(failure), Some(partial)) => {
            drop(target);
            partial.give_up(called);
            return Err(failure);
        }
        (Err(failure), None) => {
            target.discard();
            return Err(failure);
        }
        (Ok(()), None) => {}
    }
    Ok(0)
}

/// The format of the target: as given; else raw, or, with our own face, what the target's name says.
fn target_format<'a>(called: &Invocation, args: &'a Args) -> &'a str {
    const ENDINGS: &[(&str, &str)] =
        &[("img", "raw"), ("iso", "raw"), ("vhd", "vpc"), ("hdd", "parallels")];
    if let Some(format) = args.value("target-format") {
        return format;
    }
    let target = args.operands.last().filter(|_| called.is_own());
    let ending = target.and_then(|name| Path::new(name).extension()?.to_str()).unwrap_or("raw");
    let known = ENDINGS.iter().find(|(known, _)| *known == ending).map(|(_, format)| *format);
    known.or_else(|| format_named(ending).map(|format| format.name())).unwrap_or("raw")
}

fn check_combinations(args: &Args) -> Result<(), Failure> {
    let refuse = |text: &str| Err(Failure::new(text));
    let has = |option| args.has(option);
    if has("no-create") && !args.values("target-options").all(str::is_empty) {
        return refuse("-o has no effect when skipping image creation");
    }
    if has("skip-broken-bitmaps") && !has("bitmaps") {
        return refuse("Use of --skip-broken-bitmaps requires --bitmaps");
    }
    if has("target-is-zero") && !has("no-create") {
        return refuse("--target-is-zero requires use of -n flag");
    }
    if has("target-image-opts") && !has("no-create") {
        return refuse("--target-image-opts requires use of -n flag");
    }
    if args.value("backing").is_some() && args.value("backing-format").is_none() {
        return refuse("Use of backing file requires explicit backing format");
    }
    if has("compress") && has("copy-range-offloading") {
        return refuse("Cannot enable copy offloading when -c is used");
    }
    if has("copy-range-offloading") && has("salvage") {
        return refuse("Cannot use copy offloading in salvaging mode");
    }
    if has("target-image-opts") && args.value("target-format").is_some() {
        return refuse("--image-opts and --format are mutually exclusive");
    }
    if has("copy-range-offloading") && args.value("sparse-size").is_some() {
        return refuse("Cannot enable copy offloading when -S is used");
    }
    if args.operands.len() < 2 {
        return refuse("Must specify image file name");
    }
    Ok(())
}

fn plan<'a>(args: &'a Args, target_format: &'a str) -> Result<Plan<'a>, Failure> {
    let mut options = CopyOptions {
        in_order: !args.has("oob-writes"),
        compress: args.has("compress"),
        salvage: args.has("salvage"),
        ..CopyOptions::default()
    };
    if let Some(text) = args.value("sparse-size") {
        options.min_sparse = sparse_size(text)?;
    }
    if let Some(text) = args.value("parallel") {
        let count = text.parse().ok().filter(|n| (1..=16).contains(n));
        options.workers = count.ok_or_else(|| {
            Failure::new("Invalid number of coroutines specified. Must be between 1 and 16.")
        })?;
    }
    if let Some(text) = args.value("rate") {
        options.rate = text::parse_bytes("rate limit", text)?;
    }
    let Some((target, sources)) = args.operands.split_last() else {
        return Err(Failure::new("Must specify image file name"));
    };
    let secrets = args.objects()?;
    Ok(Plan { sources, target, target_format, options, secrets })
}

/// The value of `-S`: whole sectors, rounded down to a power of two.
fn sparse_size(text: &str) -> Result<usize, Failure> {
    let most = 16 << 20;
    let bytes = text::parse_bytes("buffer size for sparse output", text)?;
    if !bytes.is_multiple_of(graph::SECTOR) || bytes > most {
        return Err(Failure::new(format!(
            "Invalid buffer size for sparse output specified. Valid sizes are multiples of {} up to \
             {most}. Select 0 to disable sparse detection (fully allocates output).",
            graph::SECTOR
        )));
    }
    Ok(if bytes == 0 { 0 } else { 1 << bytes.ilog2() })
}

/// What is copied.
struct Sources {
    /// All of it, as one node.
    whole: Arc<dyn Node>,
    /// The first image itself, whose bitmaps may be wanted.
    first: Arc<dyn Node>,
}

/// Opens the images to be copied.
fn open_sources(image_args: &ImageArgs, plan: &Plan<'_>, args: &Args) -> Result<Sources, Failure> {
    let mut nodes = Vec::new();
    for name in plan.sources {
        nodes.push(image_args.open(name, |_| {})?);
    }
    let first = Arc::clone(&nodes[0]);
    if let Some(wanted) = args.value("source-snapshot") {
        if nodes.len() > 1 {
            return Err(Failure::new("No support for concatenating multiple snapshot"));
        }
        nodes[0] = snapshot(&*first, wanted)?;
    }
    let whole = if nodes.len() == 1 {
        Arc::clone(&nodes[0])
    } else {
        Arc::new(Concat::new(nodes.into_iter().map(Part::whole).collect())) as Arc<dyn Node>
    };
    Ok(Sources { whole, first })
}

/// The id or name in what names a snapshot: itself, or `snapshot.id=ID` or `snapshot.name=NAME`.
fn snapshot_name(wanted: &str) -> Result<&str, Failure> {
    if !wanted.starts_with("snapshot.") {
        return Ok(wanted);
    }
    let mut name = wanted;
    for pair in wanted.split(',') {
        match pair.split_once('=') {
            Some(("snapshot.id" | "snapshot.name", value)) => name = value,
            _ => {
                let key = pair.split('=').next().unwrap_or_default();
                let text = format!("Invalid parameter '{key}'");
                return Err(Failure::new(format!("{text}: what is '{wanted}'?")));
            }
        }
    }
    Ok(name)
}

/// Opens an internal snapshot of an image.
pub(crate) fn snapshot(node: &dyn Node, wanted: &str) -> Result<Arc<dyn Node>, Failure> {
    let name = snapshot_name(wanted)?;
    let failed = |why: &str| Failure::new(format!("Failed to load snapshot: {why}"));
    let snapshots = node.image().and_then(Image::snapshots);
    let snapshots = snapshots.ok_or_else(|| failed("the format has no snapshots"))?;
    snapshots.open(name).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => failed("Can't find snapshot"),
        _ => failed(&host_text(&e)),
    })
}

fn bitmaps(node: &dyn Node) -> Option<&dyn graph::Bitmaps> {
    node.image().and_then(Image::bitmaps)
}

/// Where the copy goes.
struct Target {
    node: Arc<dyn Node>,
    /// The file that was made for it.
    made: Option<String>,
    is_zero: bool,
    /// What the target shows without holding it.
    backing: Option<Arc<dyn Node>>,
}

impl Target {
    fn prepare(
        args: &Args,
        plan: &Plan<'_>,
        source: &Arc<dyn Node>,
        option_texts: &[&str],
        partial: Option<&Partial>,
    ) -> Result<Self, Failure> {
        let path = partial.map_or_else(|| plan.target.to_owned(), Partial::path);
        let existed = Path::new(&path).exists();
        let resumed = partial.is_some_and(|partial| partial.done().is_some());
        let is_zero = args.has("target-is-zero") || !args.has("no-create");
        if !args.has("no-create") && !resumed {
            let creation = describe(args, plan, source, option_texts)?;
            partial.map_or(Ok(()), Partial::begin)?;
            let doing =
                || format!("{}: error while converting {}", plan.target, plan.target_format);
            creation.run(&path, &plan.secrets).map_err(|f| f.within(doing()))?;
        }
        let whole = args.has("target-image-opts");
        let mut image_args = ImageArgs::described(args, Some(plan.target_format), whole)?;
        image_args.force_share = false;
        // Nobody looks at half a copy; but what is said to be copied has to be there.
        let usual = if partial.is_some() { "writeback" } else { "unsafe" };
        image_args.set_cache("cache option", Some(args.value("target-cache").unwrap_or(usual)))?;
        if let Some(partial) = partial.filter(|_| resumed) {
            partial.mend(&image_args)?;
        }
        let node = image_args.open(&path, |o| o.writable = true)?;
        let made = (!existed && !args.has("no-create")).then_some(path);
        let backing = jobs::backing_of(&*node);
        let target = Self { node, made, is_zero: is_zero && backing.is_none(), backing };
        target.check(args, source).inspect_err(|_| target.discard())?;
        Ok(target)
    }

    fn check(&self, args: &Args, source: &Arc<dyn Node>) -> Result<(), Failure> {
        // The peer says so, too, but succeeds.
        if args.has("target-is-zero") && (self.backing.is_some() || args.has("backing")) {
            return Err(Failure::new(
                "Cannot use --target-is-zero when the destination image has a backing file",
            ));
        }
        if self.node.size() < source.size() && args.has("no-create") {
            return Err(Failure::new("output file is smaller than input file"));
        }
        let can_compress = self.node.image().and_then(Image::compress).is_some();
        if args.has("compress") && !can_compress {
            return Err(Failure::new("Compression not supported for this file format"));
        }
        if args.has("bitmaps") && bitmaps(&*self.node).is_none() {
            let driver = self.node.info().driver;
            return Err(Failure::new(format!("Format driver '{driver}' does not support bitmaps")));
        }
        Ok(())
    }

    /// Removes what was made: half a copy under the target's name would be taken for a whole one.
    fn discard(&self) {
        if let Some(path) = &self.made {
            formats::Gate::remove(&HostFiles, path);
        }
    }
}

/// The image to be made, of the source's length.
fn describe(
    args: &Args,
    plan: &Plan<'_>,
    source: &Arc<dyn Node>,
    option_texts: &[&str],
) -> Result<Creation, Failure> {
    let mut creation = Creation::new(plan.target_format)?;
    for text in option_texts {
        creation.set_all(text)?;
    }
    creation.backing(args.value("backing"), args.value("backing-format"))?;
    creation.options_mut().set_number("size", source.size())?;
    if plan.options.compress && creation.options().text("preallocation").is_some_and(|p| p != "off")
    {
        return Err(Failure::new("Compression and preallocation not supported at the same time"));
    }
    let options = creation.options();
    if plan.options.compress
        && (options.switch("encryption") || options.text("encrypt.format").is_some())
    {
        return Err(Failure::new("Compression and encryption not supported at the same time"));
    }
    if options.text("backing_file").is_some() {
        // That it can be opened is seen when the target is.
        creation.size(None, false, &plan.secrets, plan.target)?;
    }
    Ok(creation)
}

fn copy(
    called: &Invocation,
    args: &Args,
    plan: Plan<'_>,
    source: &Arc<dyn Node>,
    target: &Target,
    partial: Option<&Partial>,
) -> Result<(), Failure> {
    let mut options = plan.options;
    let compress = target.node.image().and_then(Image::compress);
    options.compress |= compress.is_some_and(graph::Compress::only);
    options.target_is_zero = target.is_zero;
    if options.min_sparse != 0 {
        // A part of a small cluster that is left out would be filled up in a write of its own; large ones
        // stay sparse in their file.
        let cluster = target.node.info().cluster_size.unwrap_or(0) as usize;
        options.min_sparse = options.min_sparse.max(cluster.min(MOST_FILLED));
    }
    if let Some(base) = &target.backing {
        // The new backing file holds what one below the source does: its own, or, as the user of
        // `-B` promises, a copy of it under another name.
        options.base = shared_layer(source, base).or_else(|| jobs::backing_of(&**source));
        options.leave_unallocated = options.base.is_some();
    }
    let meter = called.meter(args)?;
    let size = source.size().min(target.node.size());
    if let Some(partial) = partial {
        options.start = partial.verified(source, &target.node)?;
    }
    let last = Mutex::new((options.start, Instant::now()));
    let progress = Checkpoints { meter: &meter, target: &*target.node, partial, last };
    let salvaged =
        Copy::run(source, &*target.node, size, &options, &progress).map_err(describe_error)?;
    meter.finish();
    for part in &salvaged {
        called.warn(&format!(
            "warning: error while reading offset {}, {} bytes: {}",
            part.offset, part.len, part.why
        ));
    }
    Ok(())
}

/// The layer of the source's chain that is the file below the target.
fn shared_layer(source: &Arc<dyn Node>, base: &Arc<dyn Node>) -> Option<Arc<dyn Node>> {
    let wanted = std::fs::canonicalize(base.info().filename).ok()?;
    let mut layer = jobs::backing_of(&**source);
    while let Some(node) = layer {
        if std::fs::canonicalize(node.info().filename).ok().as_ref() == Some(&wanted) {
            return Some(node);
        }
        layer = jobs::backing_of(&*node);
    }
    None
}

pub(super) fn describe_error(failure: CopyError) -> Failure {
    let offset = failure.offset;
    let what = match failure.side {
        Side::Source => format!("error while reading at byte {offset}"),
        Side::Status => format!("error while reading block status at offset {offset}"),
        Side::Target => format!("error while writing at byte {offset}"),
        Side::Cancelled => format!("interrupted at byte {offset}"),
    };
    Failure::io(what, &failure.error)
}

/// Copies every bitmap with its granularity and state.
fn copy_bitmaps(
    called: &Invocation,
    source: &dyn Node,
    target: &dyn Node,
    skip_broken: bool,
) -> Result<(), Failure> {
    let (Some(from), Some(to)) = (bitmaps(source), bitmaps(target)) else { return Ok(()) };
    for bitmap in from.list() {
        let name = &bitmap.name;
        if bitmap.in_use && skip_broken {
            called.warn(&format!("warning: Skipping inconsistent bitmap {name}"));
            continue;
        }
        if bitmap.in_use {
            return Err(Failure::new(format!(
                "Cannot copy inconsistent bitmap '{name}': try --skip-broken-bitmaps, or use \
                 'qemu-img bitmap --remove'"
            )));
        }
        let failed = |e| Failure::io(format!("Failed to populate bitmap {name}"), &e);
        // Disabled while it is filled: what is written to the target is not what it noted.
        to.add(name, bitmap.granularity, false).map_err(failed)?;
        let mut at = 0;
        while let Some((start, len)) = from.next_dirty(name, at).map_err(failed)? {
            to.set(name, start, len).map_err(failed)?;
            at = start + len;
        }
        if bitmap.auto {
            to.enable(name, true).map_err(failed)?;
        }
    }
    Ok(())
}
