//! `repair`: says what is damaged, what a repair would do and what it would cost, and repairs when told to.
//!
//! What would be is not foretold but tried: the repair runs with all that it writes kept in memory.

use crate::args::{Args, NO_SHORT, flag, takes};
use crate::image::{self, ImageArgs};
use crate::{Command, Failure, Invocation, text};
use graph::{CheckReport, Fix};

pub(super) const COMMAND: Command = Command {
    name: "repair",
    summary: "Explain what is damaged in an image, and repair it",
    usage: &["[-f FMT | --image-opts] [--explain] [--leaks] [--apply] [--object OBJDEF] FILENAME"],
    options: &[
        flag('h', "help", image::HELP),
        takes('f', "format", "FMT", image::FORMAT),
        flag(NO_SHORT, "image-opts", image::IMAGE_OPTS),
        flag(NO_SHORT, "explain", "name each place, and what it means; changes nothing"),
        flag(NO_SHORT, "leaks", "only lost space, which never touches what the disk holds"),
        flag(NO_SHORT, "apply", "do it; without, nothing is changed"),
        flag('U', "force-share", image::FORCE_SHARE),
        takes(NO_SHORT, "object", "OBJDEF", image::OBJECT),
    ],
    operands: &[("FILENAME", image::FILENAME)],
    run,
};

/// Exit codes: those of `check`, for the image as it is at the end.
mod exit {
    pub const SOUND: u8 = 0;
    pub const CORRUPT: u8 = 2;
    pub const LEAKS: u8 = 3;
    pub const NOT_SUPPORTED: u8 = 63;
}

/// One kind of damage.
struct Kind {
    /// Words of a finding of this kind.
    words: &'static [&'static str],
    damage: &'static str,
    repair: &'static str,
    lost: &'static str,
}

const NOTHING: &str = "nothing";

/// Kinds of damage; the first whose words are all in a finding is its kind.
const KINDS: &[Kind] = &[
    Kind {
        words: &["Leaked"],
        damage: "space that nothing uses is counted as used",
        repair: "it is counted as free, and can be used again",
        lost: NOTHING,
    },
    Kind {
        words: &["exceeding the end of the file"],
        damage: "tables name places behind the end of the file: it was cut off",
        repair: "none; copy the disk with 'convert --salvage', which puts zeroes there",
        lost: "what was there is gone already",
    },
    Kind {
        words: &["OFLAG_COPIED"],
        damage: "the mark that a cluster may be written in place is wrong",
        repair: "the mark becomes what the count of the cluster's users says",
        lost: NOTHING,
    },
    Kind {
        words: &["refcount block"],
        damage: "the counts of users of clusters are damaged themselves",
        repair: "all counts are made anew, in a new place, from the tables that use the clusters",
        lost: NOTHING,
    },
    Kind {
        words: &["refcount table"],
        damage: "the counts of users of clusters are damaged themselves",
        repair: "all counts are made anew, in a new place, from the tables that use the clusters",
        lost: NOTHING,
    },
    Kind {
        words: &["refcount=", "reference="],
        damage: "clusters have more users than are counted: a write could put something else there",
        repair: "they are counted anew; two users of one cluster share it until one is written",
        lost: "nothing more; what was overwritten before is lost already",
    },
    Kind {
        words: &["L1 entry"],
        damage: "an entry of the first table is impossible: a large part of the disk cannot be read",
        repair: "none: nobody knows what it should be; copy the disk with 'convert --salvage'",
        lost: "that part, unless a backup has it",
    },
    Kind {
        words: &["l2 entry"],
        damage: "an entry of a table is impossible: one cluster of the disk cannot be read",
        repair: "none: nobody knows what it should be; copy the disk with 'convert --salvage'",
        lost: "that cluster, unless a backup has it",
    },
    Kind {
        words: &["L2 entry"],
        damage: "an entry of a table is impossible: one cluster of the disk cannot be read",
        repair: "none: nobody knows what it should be; copy the disk with 'convert --salvage'",
        lost: "that cluster, unless a backup has it",
    },
    Kind {
        words: &["bitmap"],
        damage: "the dirty bitmaps cannot be read",
        repair: "none; 'bitmap --remove' takes them away",
        lost: "what they note: the next incremental backup has to be a full one",
    },
    Kind {
        words: &[],
        damage: "something in the image's tables is wrong",
        repair: "what the format's check can put right",
        lost: NOTHING,
    },
];

fn run(called: &Invocation, args: &Args) -> Result<u8, Failure> {
    let filename = called.one_operand(args, "Expecting one image file name")?;
    if args.has("apply") && args.has("explain") {
        return Err(called.usage("--explain changes nothing: give it without --apply"));
    }
    let image_args = ImageArgs::parse(args)?;
    let fix = if args.has("leaks") { Fix::Leaks } else { Fix::All };
    let (format, found) = image_args.check(filename, Fix::Nothing)?;
    let Some(found) = found else {
        let text = format!("{filename}: images of format {format} have no tables to be repaired");
        return Err(Failure::with_code(text, exit::NOT_SUPPORTED));
    };
    println!("{filename} ({format}): {}", verdict(&found));
    if is_sound(&found) {
        return Ok(exit::SOUND);
    }
    print!("{}", explanation(&found, args.has("explain")));
    let after = if args.has("apply") {
        let report = image_args.check(filename, fix)?.1.unwrap_or_default();
        println!("\nRepaired. Now: {}.", verdict(&report));
        report
    } else {
        rehearse(called, &image_args, filename, fix)?;
        found
    };
    Ok(code(&after))
}

/// Tells what a repair would come to.
fn rehearse(
    called: &Invocation,
    image_args: &ImageArgs,
    filename: &str,
    fix: Fix,
) -> Result<(), Failure> {
    let Some(tried) = image_args.rehearse_repair(filename, fix)? else { return Ok(()) };
    let longer = match tried.longer {
        0 => String::new(),
        bytes => format!(", and make the file {} longer", text::size(bytes)),
    };
    println!(
        "\nA repair would change {} bytes in {} blocks of 4 KiB{longer}. Then: {}.\n\
         Nothing was changed. '{} repair --apply {filename}' does it{}.",
        tried.bytes,
        tried.places,
        verdict(&tried.report),
        called.program,
        if tried.longer > 0 || tried.report.corruptions > 0 { "; make a copy before" } else { "" },
    );
    Ok(())
}

fn is_sound(report: &CheckReport) -> bool {
    report.corruptions == 0 && report.leaks == 0 && report.check_errors == 0
}

fn code(report: &CheckReport) -> u8 {
    match (report.corruptions + report.check_errors, report.leaks) {
        (0, 0) => exit::SOUND,
        (0, _) => exit::LEAKS,
        _ => exit::CORRUPT,
    }
}

fn verdict(report: &CheckReport) -> String {
    let mut words = Vec::new();
    for (count, one, many) in [
        (report.corruptions, "1 damaged entry", "damaged entries"),
        (report.leaks, "1 lost cluster", "lost clusters"),
        (
            report.check_errors,
            "1 place that could not be checked",
            "places that could not be checked",
        ),
    ] {
        match count {
            0 => {}
            1 => words.push(one.to_owned()),
            n => words.push(format!("{n} {many}")),
        }
    }
    if words.is_empty() { "sound".to_owned() } else { words.join(", ") }
}

/// The kinds of damage that were found; with the findings themselves, if they are wanted.
fn explanation(report: &CheckReport, in_full: bool) -> String {
    let mut groups: Vec<(&Kind, Vec<&str>)> = Vec::new();
    for finding in &report.findings {
        let of_kind = |kind: &&Kind| kind.words.iter().all(|word| finding.contains(word));
        let Some(kind) = KINDS.iter().find(of_kind) else { continue };
        match groups.iter_mut().find(|(known, _)| std::ptr::eq(*known, kind)) {
            Some((_, findings)) => findings.push(finding),
            None => groups.push((kind, vec![finding])),
        }
    }
    let mut text = String::new();
    for (kind, findings) in &groups {
        text.push_str(&format!(
            "\n- {} ({} listed).\n  repair: {}\n  lost by it: {}\n",
            kind.damage,
            findings.len(),
            kind.repair,
            kind.lost
        ));
        for finding in findings.iter().filter(|_| in_full) {
            text.push_str(&format!("    {finding}\n"));
        }
    }
    let all = report.corruptions + report.leaks + report.check_errors;
    let listed = report.findings.len() as u64;
    if all > listed {
        text.push_str(&format!("\nOf {all} places, the first {listed} are listed.\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_explained_by_kind() {
        let report = CheckReport {
            leaks: 2,
            corruptions: 1,
            findings: vec![
                "Leaked cluster 5 refcount=1 reference=0".to_owned(),
                "ERROR cluster 7 refcount=0 reference=1".to_owned(),
                "Leaked cluster 6 refcount=1 reference=0".to_owned(),
            ],
            ..CheckReport::default()
        };
        let text = explanation(&report, false);
        assert!(text.contains("counted as used (2 listed)"), "{text}");
        assert!(text.contains("more users than are counted") && !text.contains("cluster 7"));
        assert!(explanation(&report, true).contains("ERROR cluster 7"));
        assert_eq!(verdict(&report), "1 damaged entry, 2 lost clusters");
        assert_eq!(code(&report), exit::CORRUPT);
    }
}
