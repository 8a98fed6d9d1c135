//! `dd`: copies a part of an image.

use crate::args::{Args, NO_SHORT, flag, takes};
use crate::creation::Creation;
use crate::image::{self, ImageArgs};
use crate::{Command, Failure, Invocation, text};
use formats::format_named;
use graph::Node;
use jobs::{Concat, Copy, CopyOptions, Part, Silent};
use std::sync::Arc;

use super::convert::describe_error;

pub(crate) const COMMAND: Command = Command {
    name: "dd",
    summary: "Copy input to output with optional format conversion",
    usage: &[
        "[-f FMT | --image-opts] [-O OUTPUT_FMT] [-U]",
        "[bs=BLOCK_SIZE] [count=BLOCKS] [skip=BLOCKS] if=INPUT of=OUTPUT",
    ],
    options: &[
        flag('h', "help", image::HELP),
        takes('f', "format", "FMT", "format of INPUT"),
        flag(NO_SHORT, "image-opts", "INPUT is a complete image specification"),
        takes('O', "output-format", "OUTPUT_FMT", "format of OUTPUT (raw)"),
        flag('U', "force-share", image::FORCE_SHARE),
        takes(NO_SHORT, "object", "OBJDEF", image::OBJECT),
    ],
    operands: &[
        ("bs=BLOCK_SIZE", "bytes of a block (512)"),
        ("count=BLOCKS", "blocks to copy (all)"),
        ("skip=BLOCKS", "blocks of INPUT to leave out at its beginning"),
        ("if=INPUT", "image to read"),
        ("of=OUTPUT", "image to make"),
    ],
    run,
};

/// The `name=value` operands.
struct Blocks<'a> {
    size: u64,
    count: Option<u64>,
    skip: u64,
    input: &'a str,
    output: &'a str,
}

fn run(called: &Invocation, args: &Args) -> Result<u8, Failure> {
    let blocks = parse(args)?;
    let image_args = ImageArgs::parse(args)?;
    let input = image_args.open(blocks.input, |_| {})?;
    let whole = input.size();
    let start = blocks.skip.saturating_mul(blocks.size).min(whole);
    let wanted = blocks.count.map_or(whole, |count| count.saturating_mul(blocks.size));
    let len = wanted.min(whole - start);
    if blocks.skip.saturating_mul(blocks.size) > whole {
        called.warn(&format!("{}: cannot skip to specified offset", blocks.input));
    }
    let source: Arc<dyn Node> = Arc::new(Concat::new(vec![Part { node: input, start, len }]));
    let format = args.value("output-format").unwrap_or("raw");
    if format_named(format).is_none() {
        return Err(Failure::new("Unknown file format"));
    }
    let mut creation = Creation::new(format)?;
    creation.options_mut().set_number("size", len)?;
    let doing = || format!("{}: error while creating output image of type {format}", blocks.output);
    creation.run(blocks.output, image_args.secrets()).map_err(|f| f.within(doing()))?;
    let mut out_args = image_args.other(Some(format));
    out_args.force_share = false;
    let target = out_args.open(blocks.output, |o| o.writable = true)?;
    let options = CopyOptions { target_is_zero: true, ..CopyOptions::default() };
    Copy::run(&source, &*target, len, &options, &Silent).map_err(describe_error)?;
    target.flush().map_err(|e| Failure::io("error while closing the output", &e))?;
    Ok(0)
}

fn parse(args: &Args) -> Result<Blocks<'_>, Failure> {
    let mut blocks = Blocks { size: 512, count: None, skip: 0, input: "", output: "" };
    for operand in &args.operands {
        let Some((name, value)) = operand.split_once('=') else {
            return Err(Failure::new(format!("unrecognized operand {operand}")));
        };
        match name {
            "bs" => blocks.size = block_size(value)?,
            "count" => blocks.count = Some(text::parse_bytes("count", value)?),
            "skip" => blocks.skip = text::parse_bytes("skip", value)?,
            "if" => blocks.input = value,
            "of" => blocks.output = value,
            _ => return Err(Failure::new(format!("unrecognized operand {name}"))),
        }
    }
    if blocks.input.is_empty() || blocks.output.is_empty() {
        return Err(Failure::new("Must specify both input and output files"));
    }
    Ok(blocks)
}

fn block_size(text: &str) -> Result<u64, Failure> {
    let most = i32::MAX as u64;
    match text::parse_bytes("bs", text)? {
        bytes if (1..=most).contains(&bytes) => Ok(bytes),
        _ => Err(Failure::new(format!("Invalid bs specified. Must be between 1 and {most}."))),
    }
}
