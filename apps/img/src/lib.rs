//! The image tools: `qemu-img` and `tinamou img` make, convert, check and inspect disk images;
//! `qemu-io` and `tinamou io` send them single requests; `qemu-nbd` and `tinamou nbd` serve them.
//!
//! Each command is a file below `commands/` and a row of [`COMMANDS`]; its options are a table, from
//! which the parser and `--help` come. Output and exit codes follow the reference page "QEMU disk
//! image utility" and the behaviour of QEMU 10.0's binary.

mod args;
mod commands;
mod creation;
mod failure;
mod image;
pub mod io;
mod json;
pub mod nbd;
mod own;
mod progress;
mod snapshots;
mod text;
mod tracing;

pub use args::{Args, NO_SHORT, Opt, flag, takes};
use commands::COMMANDS;
pub use commands::info::image_json;
pub use failure::Failure;
use std::process::ExitCode;

/// One command.
struct Command {
    name: &'static str,
    /// One line for the list of commands.
    summary: &'static str,
    /// Its arguments, line by line.
    usage: &'static [&'static str],
    options: &'static [Opt],
    /// What the operands are: name and meaning.
    operands: &'static [(&'static str, &'static str)],
    /// Runs it; the exit code.
    run: fn(&Invocation, &Args) -> Result<u8, Failure>,
}

impl Command {
    /// Exit code when what it needs cannot be had.
    fn unusable(&self) -> u8 {
        if self.name == "compare" { commands::compare::exit::CANNOT_OPEN } else { 1 }
    }
}

/// How the program was called.
pub(crate) struct Invocation {
    /// `qemu-img`, or `tinamou img`.
    program: String,
    command: &'static str,
}

impl Invocation {
    /// A wrong command line: the text, then where to find help.
    fn usage(&self, text: impl Into<String>) -> Failure {
        Failure::usage(
            format!("{}: {}", self.program, text.into()),
            &format!("{} {}", self.program, self.command),
        )
    }

    /// A line on standard error that ends nothing.
    fn warn(&self, text: &str) {
        eprintln!("{}: {text}", self.program);
    }

    /// Whether this is our own tool, and not QEMU's by its name.
    fn is_own(&self) -> bool {
        own::is_own(&self.program)
    }
}

/// Runs the tool under the name `program` with these arguments.
pub fn run(program: &str, words: &[String]) -> ExitCode {
    match dispatch(program, words) {
        Ok(code) => ExitCode::from(code),
        Err(failure) if own::is_own(program) => {
            eprintln!("{}", own::readable(&failure.line(program)));
            ExitCode::from(failure.code)
        }
        Err(failure) => {
            eprintln!("{}", failure.line(program));
            ExitCode::from(failure.code)
        }
    }
}

/// Options before the command.
static STANDARD: &[Opt] = &[
    flag('h', "help", "display this help and exit"),
    flag('V', "version", "display version info and exit"),
    takes('T', "trace", "TRACE", "specify tracing options"),
];

fn dispatch(program: &str, words: &[String]) -> Result<u8, Failure> {
    let (before, after) = split_at_command(words);
    let standard = Args::parse(program, &[STANDARD], before)?;
    if standard.has("help") {
        print!("{}", overview(program));
        return Ok(0);
    }
    if standard.has("version") {
        println!("{}", version(program));
        return Ok(0);
    }
    for text in standard.values("trace").filter(|text| *text != "help" && *text != "?") {
        tracing::enable(program, text)?.iter().for_each(|line| eprintln!("{line}"));
    }
    if standard.values("trace").any(|text| matches!(text, "help" | "?")) {
        // There are no trace points to be listed.
        return Ok(0);
    }
    let Some((name, rest)) = after.split_first() else {
        return Err(Failure::usage(format!("{program}: Not enough arguments"), program));
    };
    if own::is_own(program) && name == "help" {
        return own::help(program, rest);
    }
    let Some(command) = find(program, name) else {
        let known = options::nearest(name, commands(program).map(|c| c.name));
        let hint = known.map(|n| format!(" (did you mean '{n}'?)")).unwrap_or_default();
        return Err(Failure::usage(format!("{program}: Command not found: {name}{hint}"), program));
    };
    let invocation = Invocation { program: program.to_owned(), command: command.name };
    let tables = [command.options, own::options(program, command)];
    let args = Args::parse(&format!("{program} {name}"), &tables, rest)?;
    if args.has("help") {
        print!("{}", help(program, command));
        return Ok(0);
    }
    // Wrong objects are complained about before anything else.
    args.objects().map_err(|f| f.coded(command.unusable()))?;
    (command.run)(&invocation, &args)
}

/// The commands of the tool called `program`.
fn commands(program: &str) -> impl Iterator<Item = &'static Command> {
    COMMANDS.iter().chain(own::commands(program))
}

fn find(program: &str, name: &str) -> Option<&'static Command> {
    commands(program).find(|command| command.name == name)
}

/// The words before the command's name, and those from it on.
fn split_at_command(words: &[String]) -> (&[String], &[String]) {
    let mut at = 0;
    while let Some(word) = words.get(at) {
        match word.as_str() {
            "-T" | "--trace" => at += 2,
            option if option.starts_with('-') => at += 1,
            _ => break,
        }
    }
    words.split_at(at.min(words.len()))
}

/// The line of `--version`.
pub fn version(program: &str) -> String {
    // Scripts look for "version N" after the program's name to learn what the tool can do.
    format!("{program} version 10.0.0 (tinamou {})", env!("CARGO_PKG_VERSION"))
}

fn overview(program: &str) -> String {
    let mut text = format!(
        "{}\nMakes, converts, checks and inspects disk images.\n\n\
         usage: {program} [standard options] COMMAND [options]\n\nStandard options:\n",
        version(program)
    );
    text.push_str(&option_lines(&[STANDARD]));
    text.push_str(&format!("\nCommands ('{program} COMMAND --help' tells more):\n\n"));
    for command in commands(program) {
        text.push_str(&format!("  {:<9} {}\n", command.name, command.summary));
    }
    text.push_str("\nSupported image formats:\n\n");
    text.push_str(&text::wrapped(&image::format_names(), 78));
    text
}

fn help(program: &str, command: &Command) -> String {
    let mut text = format!("{}.  Usage:\n\n", command.summary);
    for (row, line) in command.usage.iter().enumerate() {
        let start =
            if row == 0 { format!("{program} {}", command.name) } else { String::from("     ") };
        text.push_str(&format!("  {start} {line}\n"));
    }
    text.push_str("\nArguments:\n");
    text.push_str(&option_lines(&[command.options, own::options(program, command)]));
    for (name, meaning) in command.operands {
        text.push_str(&format!("  {name}\n     {meaning}\n"));
    }
    text
}

/// A text for `--help`: these lines, then what each option does.
pub fn usage(head: &str, table: &'static [Opt]) -> String {
    format!("{head}{}", option_lines(&[table]))
}

fn option_lines(tables: &[&'static [Opt]]) -> String {
    let mut text = String::new();
    for opt in args::visible(tables) {
        let short = opt.short.map(|s| format!("-{s}, ")).unwrap_or_default();
        let value = match opt.value {
            Some(value) if opt.optional => format!("[={value}]"),
            Some(value) => format!(" {value}"),
            None => String::new(),
        };
        text.push_str(&format!("  {short}--{}{value}\n     {}\n", opt.long, opt.help));
    }
    text
}
