//! `measure`: how large a new image would be.

use crate::args::{Args, NO_SHORT, flag, takes};
use crate::creation::{self, Creation};
use crate::image::{self, ImageArgs, Output};
use crate::json::pretty;
use crate::{Command, Failure, Invocation, text};
use serde_json::{Map, Value};

use super::convert::snapshot;

pub(crate) const COMMAND: Command = Command {
    name: "measure",
    summary: "Calculate file size required for a new image",
    usage: &[
        "[-f FMT | --image-opts] [-o OPTIONS] [-O OUTPUT_FMT]",
        "[--output human|json] [--object OBJDEF] [-l SNAPSHOT] (--size SIZE | FILENAME)",
    ],
    options: &[
        flag('h', "help", image::HELP),
        takes('O', "target-format", "FMT", "format of the new image (raw)"),
        takes('o', "target-options", "OPTIONS", "options of that format"),
        takes('s', "size", "SIZE", "measure for an empty disk of this length"),
        takes('f', "format", "FMT", image::FORMAT),
        flag(NO_SHORT, "image-opts", image::IMAGE_OPTS),
        takes('l', "snapshot", "SNAPSHOT", "measure for this internal snapshot of FILENAME"),
        takes(NO_SHORT, "output", "human|json", image::OUTPUT),
        flag('U', "force-share", image::FORCE_SHARE),
        takes(NO_SHORT, "object", "OBJDEF", image::OBJECT),
    ],
    operands: &[("FILENAME", "image whose content the new one would hold")],
    run,
};

fn run(called: &Invocation, args: &Args) -> Result<u8, Failure> {
    let output = Output::parse(called, args)?;
    let image_args = ImageArgs::parse(args)?;
    let name = args.value("target-format").unwrap_or("raw");
    let texts: Vec<&str> = args.values("target-options").collect();
    if creation::wants_help(&texts) {
        print!("{}", creation::help(name)?);
        return Ok(0);
    }
    let source = match args.operands.as_slice() {
        [] => None,
        [filename] => Some(image_args.open(filename, |_| {})?),
        _ => return Err(Failure::new("At most one filename argument is allowed.")),
    };
    let source = match (source, args.value("snapshot")) {
        (Some(node), Some(wanted)) => Some(snapshot(&*node, wanted)?),
        (None, Some(_)) => {
            return Err(Failure::new(
                "--image-opts, -f, and -l can only be used with a filename argument.",
            ));
        }
        (source, None) => source,
    };
    let size = args.value("size").map(|s| text::parse_bytes("image size", s)).transpose()?;
    match (&source, size) {
        (None, None) => {
            return Err(Failure::new("Either --size N or one filename must be specified."));
        }
        (Some(_), Some(_)) => {
            return Err(Failure::new("--size N cannot be used together with a filename."));
        }
        _ => {}
    }
    let mut creation = Creation::new(name)?;
    for text in texts {
        creation.set_all(text)?;
    }
    let size = size.or(source.as_ref().map(|node| node.size())).unwrap_or(0);
    if !creation.options().is_set("size") {
        creation.options_mut().set_number("size", size)?;
    }
    let measured = creation.format().measure(creation.options(), size, source.as_deref())?;
    let Some(measured) = measured else {
        return Err(Failure::new(format!(
            "Block driver '{name}' does not support size measurement"
        )));
    };
    match output {
        Output::Human => {
            println!("required size: {}", measured.required);
            println!("fully allocated size: {}", measured.fully_allocated);
            if let Some(bytes) = measured.bitmaps {
                println!("bitmaps size: {bytes}");
            }
        }
        Output::Json => {
            let mut map = Map::new();
            if let Some(bytes) = measured.bitmaps {
                map.insert("bitmaps".to_owned(), bytes.into());
            }
            map.insert("required".to_owned(), measured.required.into());
            map.insert("fully-allocated".to_owned(), measured.fully_allocated.into());
            print!("{}", pretty(&Value::Object(map)));
        }
    }
    Ok(0)
}
