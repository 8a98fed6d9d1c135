//! `amend`: changes options of an image.

use crate::args::{Args, NO_SHORT, flag, takes};
use crate::creation::{option_lines, set_all, wants_help};
use crate::image::{self, ImageArgs};
use crate::{Command, Failure, Invocation};
use formats::format_named;
use graph::{Image, ImageOptions};
use jobs::Progress;

pub(crate) const COMMAND: Command = Command {
    name: "amend",
    summary: "Update format-specific options of the image",
    usage: &[
        "[-f FMT | --image-opts] [-t CACHE] [--force] [-p] [-q]",
        "[--object OBJDEF] -o OPTIONS FILENAME",
    ],
    options: &[
        flag('h', "help", image::HELP),
        flag('q', "quiet", image::QUIET),
        flag('p', "progress", image::PROGRESS),
        takes('f', "format", "FMT", image::FORMAT),
        flag(NO_SHORT, "image-opts", image::IMAGE_OPTS),
        takes('t', "cache", "CACHE_MODE", image::CACHE),
        flag(NO_SHORT, "force", "allow changes that can lose access to the content"),
        takes('o', "options", "OPTIONS", "options of the format ('-o help' with -f lists them)"),
        takes(NO_SHORT, "object", "OBJDEF", image::OBJECT),
    ],
    operands: &[("FILENAME", image::FILENAME)],
    run,
};

fn run(called: &Invocation, args: &Args) -> Result<u8, Failure> {
    let texts: Vec<&str> = args.values("options").collect();
    if texts.is_empty() {
        return Err(called.usage("Must specify options (-o)"));
    }
    let image_args = ImageArgs::parse(args)?;
    if let (Some(name), true) = (args.value("format"), wants_help(&texts)) {
        let table = format_named(name).map(|f| f.amend_options()).unwrap_or_default();
        if table.is_empty() {
            return Err(cannot(name));
        }
        print!("Amend options for '{name}':\n{}", option_lines(table));
        return Ok(0);
    }
    let filename = called.one_operand(args, "Expecting one image file name")?;
    let node = image_args.open(filename, |o| o.writable = true)?;
    let driver = node.info().driver;
    let amend = node.image().and_then(Image::amend).ok_or_else(|| cannot(driver))?;
    let table = format_named(driver).map(|f| f.amend_options()).unwrap_or_default();
    if wants_help(&texts) {
        print!("Amend options for '{driver}':\n{}", option_lines(table));
        return Ok(0);
    }
    let mut options = ImageOptions::new(&[table]);
    for text in texts {
        set_all(&mut options, text).map_err(|f| explained(f, driver))?;
    }
    if options.is_set("backing_file") || options.is_set("backing_fmt") {
        let text = "Cannot amend the backing file\nYou can use 'qemu-img rebase' instead.";
        return Err(Failure::new(text));
    }
    let meter = called.meter(args)?;
    let report = &mut |done, total| meter.at(done, total);
    amend.apply(&options, args.has("force"), image_args.secrets(), report)?;
    node.flush().map_err(|e| Failure::io(filename, &e))?;
    meter.finish();
    Ok(0)
}

/// Options that only count when an image is made are known, too.
fn explained(failure: Failure, driver: &str) -> Failure {
    let text = failure.to_string();
    let name = text.strip_prefix("Invalid parameter '").and_then(|rest| rest.strip_suffix('\''));
    let table = format_named(driver).map(|format| format.create_options()).unwrap_or_default();
    match name {
        Some(name) if table.iter().any(|row| row.name == name) => {
            failure.followed_by("This option is only supported for image creation")
        }
        _ => failure,
    }
}

fn cannot(driver: &str) -> Failure {
    Failure::new(format!("Format driver '{driver}' does not support option amendment"))
}
