//! `bitmap`: changes the persistent dirty bitmaps of an image.

use crate::args::{Args, NO_SHORT, flag, takes};
use crate::image::{self, ImageArgs};
use crate::{Command, Failure, Invocation, text};
use graph::{Bitmaps, Image, Node, host_text};
use std::io;
use std::sync::Arc;

pub(crate) const COMMAND: Command = Command {
    name: "bitmap",
    summary: "Perform modifications of the persistent bitmap in the image",
    usage: &[
        "(--merge SOURCE | --add | --remove | --clear | --enable | --disable)…",
        "[-f FMT | --image-opts] [-b SRC_FILENAME [-F SOURCE_FMT]] [-g SIZE] [--object OBJDEF]",
        "FILENAME BITMAP",
    ],
    options: &[
        flag('h', "help", image::HELP),
        takes('f', "format", "FMT", image::FORMAT),
        flag(NO_SHORT, "image-opts", image::IMAGE_OPTS),
        flag(NO_SHORT, "add", "make BITMAP; it notes what is written from then on"),
        takes('g', "granularity", "SIZE", "bytes of the disk for each bit of a new bitmap"),
        flag(NO_SHORT, "remove", "remove BITMAP"),
        flag(NO_SHORT, "clear", "clear BITMAP"),
        flag(NO_SHORT, "enable", "let BITMAP note what is written"),
        flag(NO_SHORT, "disable", "let BITMAP stay as it is"),
        takes(NO_SHORT, "merge", "SOURCE", "set the bits of BITMAP that are set in bitmap SOURCE"),
        takes('b', "source-file", "SRC_FILENAME", "image that has SOURCE, if not FILENAME"),
        takes('F', "source-format", "SRC_FMT", "format of SRC_FILENAME"),
        takes(NO_SHORT, "object", "OBJDEF", image::OBJECT),
    ],
    operands: &[("FILENAME", image::FILENAME), ("BITMAP", "name of the bitmap")],
    run,
};

/// Options that are operations, in the order given.
const OPERATIONS: [&str; 6] = ["add", "remove", "clear", "enable", "disable", "merge"];

fn run(called: &Invocation, args: &Args) -> Result<u8, Failure> {
    let operations: Vec<(&str, &str)> =
        args.given().filter(|(option, _)| OPERATIONS.contains(option)).collect();
    if operations.is_empty() {
        return Err(Failure::new(
            "Need at least one of --add, --remove, --clear, --enable, --disable, or --merge",
        ));
    }
    let [filename, name] = args.operands.as_slice() else {
        return Err(called.usage("Expecting filename and bitmap name"));
    };
    let image_args = ImageArgs::parse(args)?;
    let granularity = granularity(args)?;
    if args.value("source-format").is_some() && args.value("source-file").is_none() {
        return Err(Failure::new("-F only supported with -b"));
    }
    let node = image_args.open(filename, |o| o.writable = true)?;
    let source = args
        .value("source-file")
        .map(|file| image_args.other(args.value("source-format")).open(file, |_| {}));
    let source = source.transpose()?;
    for (operation, value) in operations {
        let from = source.as_ref().unwrap_or(&node);
        perform(operation, (&node, name), (from, value), granularity).map_err(|why| {
            Failure::new(format!("Operation {operation} on bitmap {name} failed: {why}"))
        })?;
    }
    node.flush().map_err(|e| Failure::io(filename, &e))?;
    Ok(0)
}

fn granularity(args: &Args) -> Result<u32, Failure> {
    let Some(text) = args.value("granularity") else { return Ok(0) };
    if !args.has("add") {
        return Err(Failure::new("granularity only supported with --add"));
    }
    let bytes = text::parse_bytes("granularity", text)?;
    u32::try_from(bytes)
        .map_err(|_| Failure::new(format!("Invalid granularity specified: '{text}'.")))
}

/// A bitmap: the image that keeps it, and its name.
type Named<'a> = (&'a Arc<dyn Node>, &'a str);

/// Does one operation; `from` is what is merged. The error is in words.
fn perform(
    operation: &str,
    (node, name): Named<'_>,
    from: Named<'_>,
    granularity: u32,
) -> Result<(), String> {
    let Some(bitmaps) = facet(&**node) else {
        return Err(match operation {
            "add" => {
                let file = node.info().filename;
                format!("Can't store persistent bitmaps to {file}: Operation not supported")
            }
            _ => missing(name),
        });
    };
    let done = match operation {
        "add" => bitmaps.add(name, granularity, true),
        "remove" => bitmaps.remove(name),
        "clear" => bitmaps.clear(name),
        "enable" => bitmaps.enable(name, true),
        "disable" => bitmaps.enable(name, false),
        _ => return merge(from, (node, name)),
    };
    done.map_err(|e| in_words(&e, name))
}

fn facet(node: &dyn Node) -> Option<&dyn Bitmaps> {
    node.image().and_then(Image::bitmaps)
}

fn missing(name: &str) -> String {
    format!("Dirty bitmap '{name}' not found")
}

fn in_words(error: &io::Error, name: &str) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => missing(name),
        _ => host_text(error),
    }
}

/// The facet of an image that has the bitmap.
fn keeping<'a>(node: &'a Arc<dyn Node>, name: &str) -> Result<&'a dyn Bitmaps, String> {
    facet(&**node)
        .filter(|bitmaps| bitmaps.list().iter().any(|bitmap| bitmap.name == name))
        .ok_or_else(|| missing(name))
}

fn merge((from, source): Named<'_>, (to, name): Named<'_>) -> Result<(), String> {
    let bitmaps = keeping(to, name)?;
    let others = keeping(from, source)?;
    let (size, other) = (to.size(), from.size());
    if size != other {
        return Err(format!(
            "Bitmaps are of different sizes (destination size is {size}, source size is {other}) and \
             can't be merged"
        ));
    }
    let mut at = 0;
    while let Some((start, len)) =
        others.next_dirty(source, at).map_err(|e| in_words(&e, source))?
    {
        bitmaps.set(name, start, len).map_err(|e| in_words(&e, name))?;
        at = start + len;
    }
    Ok(())
}
