//! Our own face, `tinamou img`: what it has beyond the tool that goes by QEMU's name.
//!
//! Every command of that tool is here, too, with the same options, output and exit codes; on top of them come
//! progress on a terminal without being asked, conversions that go on after they were killed, advice below an
//! error, and commands of our own.

mod advice;
mod examples;
mod info;
mod partial;
mod repair;
mod shrink;

use crate::args::{NO_SHORT, Opt, flag, may_take, takes};
use crate::{Command, Failure};

pub(crate) use advice::readable;
pub(crate) use info::summary;
pub(crate) use partial::{Checkpoints, Partial};

/// Whether the program called so is our own tool.
pub(crate) fn is_own(program: &str) -> bool {
    program.starts_with("tinamou")
}

/// Commands of our own.
static COMMANDS: &[Command] = &[repair::COMMAND, shrink::COMMAND];

/// What the program called so has beyond QEMU's commands.
pub(crate) fn commands(program: &str) -> &'static [Command] {
    if is_own(program) { COMMANDS } else { &[] }
}

const PROGRESS: Opt = may_take(
    'p',
    "progress",
    "bar|json|none",
    "how far it is, on standard error: a bar (on a terminal without being asked, lines elsewhere), or an \
     object of JSON on each line with operation, done, total, percent, elapsed, rate, left, finished",
);

/// For commands that only tell how far they are.
static SHOWN: &[Opt] = &[PROGRESS];

/// For conversions.
static CONVERT: &[Opt] = &[
    PROGRESS,
    flag(NO_SHORT, "restart", "begin anew, where a conversion to this target was interrupted"),
    takes(
        NO_SHORT,
        "checkpoint",
        "SIZE",
        "bytes after which what was copied is made safe, so that a conversion that is killed goes on from \
         there (as many as are copied in two seconds); 0 for never",
    ),
];

/// Options of a command that the program called so has beyond QEMU's.
pub(crate) fn options(program: &str, command: &Command) -> &'static [Opt] {
    let has_progress = || command.options.iter().any(|opt| opt.long == "progress");
    match command.name {
        _ if !is_own(program) => &[],
        "convert" => CONVERT,
        _ if has_progress() => SHOWN,
        _ => &[],
    }
}

/// `help [COMMAND]`
pub(crate) fn help(program: &str, words: &[String]) -> Result<u8, Failure> {
    let Some(name) = words.first() else {
        print!(
            "{}\n'{program} help COMMAND' tells more, with examples.\n",
            crate::overview(program)
        );
        return Ok(0);
    };
    let Some(command) = crate::find(program, name) else {
        let near = options::nearest(name, crate::commands(program).map(|c| c.name));
        let hint = near.map(|n| format!(" (did you mean '{n}'?)")).unwrap_or_default();
        return Err(Failure::new(format!("there is no command '{name}'{hint}")));
    };
    print!("{}", crate::help(program, command));
    let examples = examples::of(command.name);
    if !examples.is_empty() {
        println!("\nExamples:");
        for (line, meaning) in examples {
            println!("  {program} {} {line}\n     {meaning}", command.name);
        }
    }
    Ok(0)
}
