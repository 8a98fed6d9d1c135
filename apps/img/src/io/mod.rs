//! `qemu-io`: single requests to an image, from the command line or a prompt.
//!
//! Commands, their output and exit codes follow the behaviour of QEMU 10.0's `qemu-io`: test suites
//! read them.

mod commands;
mod letters;
mod manner;
mod report;
mod session;
mod transfer;
mod zones;

use crate::Failure;
use crate::args::{Args, NO_SHORT, Opt, flag, takes};
use crate::{image, tracing};
use commands::Outcome;
use manner::Manner;
use session::{OpenOptions, Session};
use std::io::{BufRead, Write};
use std::process::ExitCode;

static OPTIONS: &[Opt] = &[
    takes(NO_SHORT, "object", "OBJDEF", image::OBJECT),
    flag(NO_SHORT, "image-opts", image::IMAGE_OPTS),
    takes('c', "cmd", "STRING", "run this command instead of reading commands from standard input"),
    takes('f', "format", "FMT", image::FORMAT),
    flag('r', "read-only", "open the image for reading only"),
    flag('s', "snapshot", "keep changes in a temporary file"),
    flag('n', "nocache", "the same as -t none"),
    flag('C', "copy-on-read", "keep what is read from backing files"),
    flag('m', "misalign", "use buffers that are not aligned"),
    flag('k', "native-aio", "the same as -i native"),
    takes('i', "aio", "MODE", "threads, native or io_uring"),
    takes('t', "cache", "MODE", image::CACHE),
    takes('d', "discard", "MODE", "what happens to discards: ignore or unmap"),
    takes('T', "trace", "TRACE", "specify tracing options"),
    flag('U', "force-share", image::FORCE_SHARE),
    flag('h', "help", image::HELP),
    flag('V', "version", "display version info and exit"),
];

/// Runs the tool under the name `program` with these arguments.
pub fn run(program: &str, words: &[String]) -> ExitCode {
    match start(program, words) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("{}", failure.line(program));
            ExitCode::from(failure.code)
        }
    }
}

/// Whether every command succeeded.
fn start(program: &str, words: &[String]) -> Result<bool, Failure> {
    let args = Args::parse(program, &[OPTIONS], words)?;
    if args.has("help") {
        print!("{}", help(program));
        return Ok(true);
    }
    if args.has("version") {
        println!("{}", crate::version(program));
        return Ok(true);
    }
    let secrets = args.objects()?;
    let manner = manner(program, &args)?;
    if args.has("image-opts") && args.has("format") {
        return Err(Failure::new("--image-opts and -f are mutually exclusive"));
    }
    let mut session = Session::new(program, secrets);
    if let [filename] = args.operands.as_slice() {
        let options = OpenOptions {
            format: args.value("format").map(str::to_owned),
            complete: args.has("image-opts"),
            manner,
            ..OpenOptions::default()
        };
        session.open(filename, &options)?;
    } else if args.operands.len() > 1 {
        return Err(Failure::usage(format!("{program}: only one file can be given"), program));
    }
    let given: Vec<&str> = args.values("cmd").collect();
    let good = if given.is_empty() { converse(&mut session) } else { obey(&mut session, &given) };
    session.wait_for_all();
    Ok(good)
}

/// How the image is to be opened. What is wrong is told of the first option that is.
fn manner(program: &str, args: &Args) -> Result<Manner, Failure> {
    let mut manner = Manner::default();
    for (name, value) in args.given() {
        if name == "trace" {
            tracing::enable(program, value)?.iter().for_each(|line| eprintln!("{line}"));
        }
        if let Some(letter) = OPTIONS.iter().find(|o| o.long == name).and_then(|o| o.short) {
            manner.set(letter, value)?;
        }
    }
    Ok(manner)
}

/// Runs the commands of the command line; all of them, whatever becomes of one.
fn obey(session: &mut Session, commands: &[&str]) -> bool {
    let mut good = true;
    for command in commands {
        match session.command(command) {
            Outcome::Done => {}
            Outcome::Failed => good = false,
            Outcome::Quit => break,
        }
    }
    good
}

/// Reads commands from standard input.
fn converse(session: &mut Session) -> bool {
    let mut good = true;
    let mut lines = std::io::stdin().lock().lines();
    loop {
        print!("qemu-io> ");
        // Who closed the output does not want to know.
        let _ = std::io::stdout().flush();
        let Some(Ok(line)) = lines.next() else { break };
        match session.command(&line) {
            Outcome::Done => {}
            Outcome::Failed => good = false,
            Outcome::Quit => break,
        }
    }
    good
}

fn help(program: &str) -> String {
    let options = crate::option_lines(&[OPTIONS]);
    format!(
        "Sends single requests to a disk image.\n\nusage: {program} [OPTIONS]… [-c STRING]… [FILE]\n\n\
         {options}\n'{program} -c help' lists the commands.\n"
    )
}
