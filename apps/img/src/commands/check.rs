//! `check`: whether an image's metadata is sound, and its repair.

use crate::args::{Args, NO_SHORT, flag, takes};
use crate::image::{self, ImageArgs, Output};
use crate::json::pretty;
use crate::{Command, Failure, Invocation};
use graph::{CheckReport, Fix};
use serde_json::{Map, Value};

pub(crate) const COMMAND: Command = Command {
    name: "check",
    summary: "Check basic image integrity",
    usage: &[
        "[-f FMT | --image-opts] [-T CACHE_MODE] [-r leaks|all] [-U]",
        "[--output human|json] [--object OBJDEF] FILENAME",
    ],
    options: &[
        flag('h', "help", image::HELP),
        flag('q', "quiet", image::QUIET),
        takes('f', "format", "FMT", image::FORMAT),
        flag(NO_SHORT, "image-opts", image::IMAGE_OPTS),
        takes('T', "cache", "CACHE_MODE", image::CACHE),
        flag('U', "force-share", image::FORCE_SHARE),
        takes(NO_SHORT, "output", "human|json", image::OUTPUT),
        takes('r', "repair", "leaks|all", "repair lost space only, or all that can be repaired"),
        takes(NO_SHORT, "object", "OBJDEF", image::OBJECT),
    ],
    operands: &[("FILENAME", image::FILENAME)],
    run,
};

/// Exit codes: scripts act on them.
mod exit {
    pub const SOUND: u8 = 0;
    pub const CHECK_FAILED: u8 = 1;
    pub const CORRUPT: u8 = 2;
    pub const LEAKS: u8 = 3;
    pub const NOT_SUPPORTED: u8 = 63;
}

fn run(called: &Invocation, args: &Args) -> Result<u8, Failure> {
    let output = Output::parse(called, args)?;
    let image_args = ImageArgs::with_cache(args, "source cache option")?;
    let quiet = args.has("quiet");
    let fix = match args.value("repair") {
        None => Fix::Nothing,
        Some("leaks") => Fix::Leaks,
        Some("all") => Fix::All,
        Some(other) => {
            return Err(
                called.usage(format!("--repair (-r) expects 'leaks' or 'all' not '{other}'"))
            );
        }
    };
    let filename = called.one_operand(args, "Expecting one image file name")?;
    let (format, report) = image_args.check(filename, fix)?;
    let Some(report) = report else {
        let text = "This image format does not support checks";
        return Err(Failure::with_code(text, exit::NOT_SUPPORTED));
    };
    match output {
        Output::Json => print!("{}", pretty(&json(filename, format, &report))),
        Output::Human if quiet => {}
        Output::Human => {
            report.findings.iter().for_each(|line| eprintln!("{line}"));
            print!("{}", human(&report));
        }
    }
    Ok(code(&report))
}

fn code(report: &CheckReport) -> u8 {
    if report.corruptions != 0 {
        exit::CORRUPT
    } else if report.leaks != 0 {
        exit::LEAKS
    } else if report.check_errors != 0 {
        exit::CHECK_FAILED
    } else {
        exit::SOUND
    }
}

fn human(report: &CheckReport) -> String {
    let mut text = String::new();
    if report.corruptions_fixed != 0 || report.leaks_fixed != 0 {
        text.push_str(&format!(
            "The following inconsistencies were found and repaired:\n\n    {} leaked clusters\n    \
             {} corruptions\n\nDouble checking the fixed image now...\n",
            report.leaks_fixed, report.corruptions_fixed
        ));
    }
    text.push_str(&verdict(report));
    let (allocated, total) = (report.allocated_clusters, report.total_clusters);
    if total != 0 && allocated != 0 {
        let percent = |part: u64, of: u64| part as f64 * 100.0 / of as f64;
        text.push_str(&format!(
            "{allocated}/{total} = {:.2}% allocated, {:.2}% fragmented, {:.2}% compressed clusters\n",
            percent(allocated, total),
            percent(report.fragmented_clusters, allocated),
            percent(report.compressed_clusters, allocated),
        ));
    }
    if report.image_end != 0 {
        text.push_str(&format!("Image end offset: {}\n", report.image_end));
    }
    text
}

fn verdict(report: &CheckReport) -> String {
    if report.corruptions == 0 && report.leaks == 0 && report.check_errors == 0 {
        return "No errors were found on the image.\n".to_owned();
    }
    let mut text = String::new();
    if report.corruptions != 0 {
        text.push_str(&format!(
            "\n{} errors were found on the image.\nData may be corrupted, or further writes to the \
             image may corrupt it.\n",
            report.corruptions
        ));
    }
    if report.leaks != 0 {
        text.push_str(&format!(
            "\n{} leaked clusters were found on the image.\nThis means waste of disk space, but no \
             harm to data.\n",
            report.leaks
        ));
    }
    if report.check_errors != 0 {
        text.push_str(&format!(
            "\n{} internal errors have occurred during the check.\n",
            report.check_errors
        ));
    }
    text
}

fn json(filename: &str, format: &str, report: &CheckReport) -> Value {
    let mut map = Map::new();
    let mut put = |key: &str, value: Value| {
        if value != 0 || key == "check-errors" {
            map.insert(key.to_owned(), value);
        }
    };
    put("image-end-offset", report.image_end.into());
    put("compressed-clusters", report.compressed_clusters.into());
    put("total-clusters", report.total_clusters.into());
    put("corruptions", report.corruptions.into());
    put("corruptions-fixed", report.corruptions_fixed.into());
    put("check-errors", report.check_errors.into());
    put("leaks", report.leaks.into());
    put("leaks-fixed", report.leaks_fixed.into());
    put("allocated-clusters", report.allocated_clusters.into());
    put("filename", filename.into());
    put("format", format.into());
    put("fragmented-clusters", report.fragmented_clusters.into());
    Value::Object(map)
}
