//! `measure`: how large a new image would be.

use crate::args::{Args, NO_SHORT, flag, takes};
use crate::creation::{self, Creation};
use crate::image::{self, ImageArgs, Output};
use crate::json::pretty;
use crate::{Command, Failure, Invocation, text};
use formats::{Content, MeasureRequest};
use graph::ExtentKind;
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
        takes(NO_SHORT, "size", "SIZE", "measure for an empty disk of this length"),
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
    let size = args.value("size").map(|s| text::parse_bytes("image size", s)).transpose()?;
    let filename = match args.operands.as_slice() {
        [] => None,
        [filename] => Some(filename),
        _ => return Err(Failure::new("At most one filename argument is allowed.")),
    };
    let about_source = ["image-opts", "format", "snapshot"];
    match (filename, size) {
        (None, _) if about_source.into_iter().any(|option| args.has(option)) => {
            return Err(Failure::new("--image-opts, -f, and -l require a filename argument."));
        }
        (None, None) => {
            return Err(Failure::new("Either --size N or one filename must be specified."));
        }
        (Some(_), Some(_)) => {
            return Err(Failure::new("--size N cannot be used together with a filename."));
        }
        _ => {}
    }
    if creation::wants_help(&texts) {
        print!("{}", creation::help(name)?);
        return Ok(0);
    }
    let source = filename.map(|filename| image_args.open(filename, |_| {})).transpose()?;
    let bitmaps =
        source.as_ref().and_then(|node| node.image()?.bitmaps()).map(|facet| facet.list());
    let source = match (source, args.value("snapshot")) {
        (Some(node), Some(wanted)) => Some(snapshot(&*node, wanted)?),
        (source, _) => source,
    };
    let mut creation = Creation::new(name)?;
    for text in texts {
        creation.set_all(text).map_err(|failure| {
            called.warn(&failure.to_string());
            Failure::new(format!("Invalid options for file format '{name}'"))
        })?;
    }
    let size = size.or(source.as_ref().map(|node| node.size())).unwrap_or(0);
    let data = |offset| {
        let Some(node) = &source else { return Ok((false, size)) };
        let status = jobs::status_above(node, None, offset, size - offset)?;
        let holds = matches!(status.kind, ExtentKind::Data | ExtentKind::Compressed);
        Ok((holds, status.len))
    };
    let content = source.as_ref().map(|_| Content { data: &data, bitmaps });
    let request = MeasureRequest {
        options: creation.options(),
        size,
        content: content.as_ref(),
        secrets: image_args.secrets(),
    };
    let measured = creation.format().measure(&request)?;
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
