//! `create`: makes an image.

use crate::args::{Args, NO_SHORT, flag, takes};
use crate::creation::{self, Creation};
use crate::image;
use crate::{Command, Failure, Invocation, text};

pub(crate) const COMMAND: Command = Command {
    name: "create",
    summary: "Create and format new image file",
    usage: &[
        "[-f FMT] [-o FMT_OPTS] [-b BACKING_FILENAME [-F BACKING_FMT]]",
        "[--object OBJDEF] [-u] FILENAME [SIZE[bkKMGTPE]]",
    ],
    options: &[
        flag('h', "help", image::HELP),
        flag('q', "quiet", image::QUIET),
        takes('f', "format", "FMT", "format of the new image (raw)"),
        takes('o', "options", "FMT_OPTS", "options of the format ('-o help' lists them)"),
        takes(
            'b',
            "backing",
            "BACKING_FILENAME",
            "image that the new one shows where it holds nothing itself",
        ),
        takes('F', "backing-format", "BACKING_FMT", "format of BACKING_FILENAME"),
        flag('u', "backing-unsafe", "do not open BACKING_FILENAME"),
        takes(NO_SHORT, "object", "OBJDEF", image::OBJECT),
    ],
    operands: &[
        ("FILENAME", "file to make; one that exists is overwritten"),
        (
            "SIZE",
            "length of the disk; that of BACKING_FILENAME if there is one and no SIZE is given",
        ),
    ],
    run,
};

fn run(called: &Invocation, args: &Args) -> Result<u8, Failure> {
    let format = args.value("format").unwrap_or("raw");
    let option_texts: Vec<&str> = args.values("options").collect();
    if creation::wants_help(&option_texts) {
        let text = match args.operands.first() {
            Some(_) => creation::help_with_file(format)?,
            None => creation::help(format)?,
        };
        print!("{text}");
        return Ok(0);
    }
    let Some((filename, rest)) = args.operands.split_first() else {
        return Err(called.usage("Expecting image file name"));
    };
    let secrets = args.objects()?;
    let size = rest.first().map(|size| text::parse_bytes("image size", size)).transpose()?;
    if let Some(extra) = rest.get(1) {
        return Err(called.usage(format!("Unexpected argument: {extra}")));
    }
    let mut creation = Creation::new(format).map_err(|f| f.within(filename))?;
    for text in option_texts {
        creation.set_all(text).map_err(|f| f.within(filename))?;
    }
    creation
        .backing(args.value("backing"), args.value("backing-format"))
        .map_err(|f| f.within(filename))?;
    creation
        .size(size, !args.has("backing-unsafe"), &secrets, filename)
        .map_err(|f| f.within(filename))?;
    if !args.has("quiet") {
        println!("{}", creation.announcement(filename));
    }
    creation.run(filename, &secrets).map_err(|f| f.within(filename))?;
    Ok(0)
}
