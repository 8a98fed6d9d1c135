//! `resize`: changes the length of a disk.

use crate::args::{Args, NO_SHORT, flag, takes};
use crate::image::{self, ImageArgs};
use crate::{Command, Failure, Invocation};
use graph::Preallocation;

pub(crate) const COMMAND: Command = Command {
    name: "resize",
    summary: "Resize the image to the new size",
    usage: &[
        "[-f FMT | --image-opts] [--preallocation PREALLOC] [--shrink]",
        "[--object OBJDEF] [-q] FILENAME [+-]SIZE[bkKMGTPE]",
    ],
    options: &[
        flag('h', "help", image::HELP),
        flag('q', "quiet", image::QUIET),
        takes('f', "format", "FMT", image::FORMAT),
        flag(NO_SHORT, "image-opts", image::IMAGE_OPTS),
        flag(
            NO_SHORT,
            "shrink",
            "allow to make the disk shorter: what is behind its new end is lost",
        ),
        takes(
            NO_SHORT,
            "preallocation",
            "PREALLOC",
            "reserve space for the new part: off, metadata, falloc, full",
        ),
        takes(NO_SHORT, "object", "OBJDEF", image::OBJECT),
    ],
    operands: &[
        ("FILENAME", image::FILENAME),
        ("[+-]SIZE[bkKMGTPE]", "new length, or how much longer or shorter"),
    ],
    run,
};

/// The new length, as it was given.
enum Change {
    To(u64),
    Longer(u64),
    Shorter(u64),
}

fn run(called: &Invocation, args: &Args) -> Result<u8, Failure> {
    let mode = args.value("preallocation").unwrap_or("off");
    let preallocation = Preallocation::named(mode)
        .ok_or_else(|| Failure::new(format!("Invalid preallocation mode '{mode}'")))?;
    let (filename, size) = match args.operands.as_slice() {
        [filename, size] => (filename, size),
        [_, _, _, ..] => return Err(called.usage("Extra argument(s) in command line")),
        _ => return Err(called.usage("Expecting image file name and size")),
    };
    let image_args = ImageArgs::parse(args)?;
    let change = parse(size)?;
    let node = image_args.open(filename, |o| o.writable = true)?;
    let old = node.size();
    let new = match change {
        Change::To(size) => size,
        Change::Longer(bytes) => old.saturating_add(bytes),
        Change::Shorter(bytes) => old.saturating_sub(bytes),
    };
    if new == 0 || new > i64::MAX as u64 {
        return Err(Failure::new("New image size must be positive"));
    }
    if new < old && preallocation != Preallocation::Off {
        return Err(Failure::new("Preallocation can only be used for growing images"));
    }
    if new < old && !args.has("shrink") {
        called.warn("Use the --shrink option to perform a shrink operation.");
        return Err(Failure::new(
            "warning: Shrinking an image will delete all data beyond the shrunken image's end. \
             Before performing such an operation, make sure there is no important data there.",
        ));
    }
    let done = match node.image() {
        Some(image) => image.resize(new, preallocation),
        None => node.truncate(new),
    };
    done.and_then(|()| node.flush()).map_err(|e| Failure::new(graph::host_text(&e)))?;
    if !args.has("quiet") {
        println!("Image resized.");
    }
    Ok(0)
}

fn parse(text: &str) -> Result<Change, Failure> {
    let bytes = |digits| {
        options::parse_size(digits, b'B').map_err(|_| match is_number(digits) {
            true => Failure::new(format!("Value '{digits}' is out of range for parameter 'size'")),
            false => Failure::new(
                "Parameter 'size' expects a non-negative number below 2^64\nOptional suffix k, M, G, T, P or \
                 E means kilo-, mega-, giga-, tera-, peta-\nand exabytes, respectively.",
            ),
        })
    };
    Ok(match (text.strip_prefix('+'), text.strip_prefix('-')) {
        (Some(digits), _) => Change::Longer(bytes(digits)?),
        (_, Some(digits)) => Change::Shorter(bytes(digits)?),
        _ => Change::To(bytes(text)?),
    })
}

/// Digits, and perhaps one letter behind them.
fn is_number(text: &str) -> bool {
    let digits = text.strip_suffix(|c| "bBkKMGTPE".contains(c)).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit())
}
