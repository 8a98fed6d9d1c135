//! The command line and the environment of `qemu-<isa>`: one row per option.
//!
//! Names, texts, checks and exit codes are those of QEMU 10.0.2's user mode.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// What the user wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Folder in which interpreters and libraries are looked for first (`-L`).
    pub prefix: Option<OsString>,
    /// Bytes of the stack (`-s`).
    pub stack_size: u64,
    /// Processor model and its properties (`-cpu`).
    pub cpu: Option<String>,
    /// `argv[0]` of the program, if it is not its name (`-0`).
    pub argv0: Option<OsString>,
    /// Release that `uname` tells (`-r`).
    pub release: Option<OsString>,
    /// Host address of guest address 0 (`-B`).
    pub base: Option<u64>,
    /// Bytes of the guest's address space (`-R`).
    pub reserved: Option<u64>,
    /// Log of system calls (`-strace`).
    pub strace: bool,
    /// Translation units of one instruction (`-one-insn-per-tb`).
    pub single: bool,
    /// Map of translated code for `perf` (`-perfmap`).
    pub perf_map: bool,
    /// Translated code for `perf` (`-jitdump`).
    pub jit_dump: bool,
    /// Seed of random numbers (`-seed`).
    pub seed: Option<u64>,
    /// Items of `-d`, as they were given.
    pub log: Option<String>,
    /// Ranges of `-dfilter`, as they were given.
    pub log_filter: Option<String>,
    /// Name of the log file (`-D`).
    pub log_file: Option<OsString>,
    /// Where a debugger may come (`-g`).
    pub debugger: Option<OsString>,
    /// Options that were accepted and do nothing here, by their names.
    pub without_effect: Vec<&'static str>,
    /// The program's environment.
    pub environment: Vec<OsString>,
    /// The program.
    pub program: OsString,
    /// The program, if the kernel has opened it for us.
    pub opened: Option<i32>,
    /// Its arguments, without its name.
    pub arguments: Vec<OsString>,
    /// The options again, for programs that this one executes.
    pub inherited: Vec<OsString>,
}

/// What else can come of a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// A text on standard output if the exit code is 0, else on standard error.
    Print(String, u8),
    /// The help, and the exit code; [`parse`] makes the text.
    Help(u8),
    /// The version; [`parse`] makes the text.
    Version,
    /// The models of processors that there are.
    Models,
    /// On standard error, after the program's name.
    Refuse(String),
    /// On standard error, as it is.
    Plain(String),
}

/// Default of `-s`.
const STACK_SIZE: u64 = 8 << 20;

/// Which program of that kind this is.
#[derive(Clone, Copy, Debug)]
pub struct Name<'a> {
    /// As it was called.
    pub program: &'a str,
    /// The architecture.
    pub isa: &'a str,
}

type Handler = fn(&mut Options, &OsStr) -> Result<(), Stop>;

/// An option.
struct Row {
    name: &'static str,
    variable: &'static str,
    argument: &'static str,
    help: &'static str,
    set: Handler,
}

const fn row(
    name: &'static str,
    variable: &'static str,
    argument: &'static str,
    help: &'static str,
    set: Handler,
) -> Row {
    Row { name, variable, argument, help, set }
}

/// Every option, in the order of `-h`.
#[rustfmt::skip]
static ROWS: &[Row] = &[
    row("h", "", "", "show this text", |_, _| Err(Stop::Help(0))),
    row("help", "", "", "", |_, _| Err(Stop::Help(0))),
    row("g", "QEMU_GDB", "port", "let a debugger connect to this port or socket before the program starts", |o, v| set(&mut o.debugger, v)),
    row("L", "QEMU_LD_PREFIX", "path", "folder in which dynamic linkers and libraries are looked for first", |o, v| set(&mut o.prefix, v)),
    row("s", "QEMU_STACK_SIZE", "size", "bytes of the first thread's stack, or with k or M", stack_size),
    row("cpu", "QEMU_CPU", "model", "processor model; -cpu help lists them", model),
    row("E", "QEMU_SET_ENV", "var=value", "give the program environment variables", set_variables),
    row("U", "QEMU_UNSET_ENV", "var", "keep environment variables from the program", unset_variables),
    row("0", "QEMU_ARGV0", "argv0", "what the program finds as its own name", |o, v| set(&mut o.argv0, v)),
    row("r", "QEMU_UNAME", "uname", "release of the system that uname tells", |o, v| set(&mut o.release, v)),
    row("B", "QEMU_GUEST_BASE", "address", "host address of the program's address 0", base),
    row("R", "QEMU_RESERVED_VA", "size", "bytes of address space for the program", reserved),
    row("t", "QEMU_RTSIG_MAP", "tsig hsig n[,...]", "n real-time signals of the program from tsig on are the host's from hsig on", signal_map),
    row("d", "QEMU_LOG", "item[,...]", "what to log; -d help lists it", |o, v| { o.log = Some(text(v)); Ok(()) }),
    row("dfilter", "QEMU_DFILTER", "range[,...]", "log code of these addresses only", |o, v| { o.log_filter = Some(text(v)); Ok(()) }),
    row("D", "QEMU_LOG_FILENAME", "logfile", "where the log goes instead of standard error", |o, v| set(&mut o.log_file, v)),
    row("p", "QEMU_PAGESIZE", "pagesize", "without effect: pages are the host's", page_size),
    row("one-insn-per-tb", "QEMU_ONE_INSN_PER_TB", "", "translate one instruction at a time", |o, _| { o.single = true; Ok(()) }),
    row("tb-size", "QEMU_TB_SIZE", "size", "MiB of memory for translated code", tb_size),
    row("strace", "QEMU_STRACE", "", "log system calls and their results", |o, _| { o.strace = true; Ok(()) }),
    row("seed", "QEMU_RAND_SEED", "", "seed of what the program is given as random", seed),
    row("trace", "QEMU_TRACE", "", "trace points", |o, _| ignore(o, "trace")),
    row("version", "QEMU_VERSION", "", "show the version", |_, _| Err(Stop::Version)),
    row("perfmap", "QEMU_PERFMAP", "", "tell perf where translated code is", |o, _| { o.perf_map = true; Ok(()) }),
    row("jitdump", "QEMU_JITDUMP", "", "tell perf what translated code is", |o, _| { o.jit_dump = true; Ok(()) }),
];

impl Row {
    /// Whether a value follows. Two options that take one do not show it in the help.
    fn takes_value(&self) -> bool {
        !self.argument.is_empty() || ["seed", "trace"].contains(&self.name)
    }
}

fn set(field: &mut Option<OsString>, value: &OsStr) -> Result<(), Stop> {
    *field = Some(value.to_owned());
    Ok(())
}

fn text(value: &OsStr) -> String {
    value.to_string_lossy().into_owned()
}

fn ignore(options: &mut Options, name: &'static str) -> Result<(), Stop> {
    options.without_effect.push(name);
    Ok(())
}

fn model(options: &mut Options, value: &OsStr) -> Result<(), Stop> {
    let model = text(value);
    if model == "help" || model == "?" {
        return Err(Stop::Models);
    }
    options.cpu = Some(model);
    Ok(())
}

/// A number as `strtoul` with base 0 reads it, and what follows it.
fn number(text: &str) -> (Option<u64>, &str) {
    let (radix, digits) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(rest) => (16, rest),
        None if text.starts_with('0') => (8, text),
        None => (10, text),
    };
    let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    (u64::from_str_radix(&digits[..end], radix).ok(), &digits[end..])
}

fn stack_size(options: &mut Options, value: &OsStr) -> Result<(), Stop> {
    let value = text(value);
    let (size, suffix) = number(&value);
    let unit = match suffix {
        "" => Some(1),
        "k" | "K" => Some(1 << 10),
        "m" | "M" => Some(1 << 20),
        _ => None,
    };
    let size = size.zip(unit).and_then(|(size, unit)| size.checked_mul(unit));
    options.stack_size = size.unwrap_or(0);
    match size {
        Some(1..) => Ok(()),
        _ => Err(Stop::Help(1)),
    }
}

fn base(options: &mut Options, value: &OsStr) -> Result<(), Stop> {
    let value = number(&text(value)).0.unwrap_or(0);
    if !value.is_multiple_of(4096) {
        return Err(Stop::Plain(format!(
            "Requested guest base {value:#x} does not satisfy host minimum alignment (0x1000)"
        )));
    }
    options.base = Some(value);
    Ok(())
}

fn reserved(options: &mut Options, value: &OsStr) -> Result<(), Stop> {
    let value = text(value);
    let (size, suffix) = number(&value);
    let shift = match suffix.chars().next() {
        None => 0,
        Some('k' | 'K') => 10,
        Some('m' | 'M') => 20,
        Some('g' | 'G') => 30,
        Some(_) => {
            return Err(Stop::Plain(format!("Unrecognised -R size suffix '{suffix}'")));
        }
    };
    let size = size.unwrap_or(0);
    let bytes = size.checked_mul(1 << shift).filter(|_| suffix.len() < 2);
    let bytes = bytes.ok_or_else(|| Stop::Plain("Reserved virtual address too big".to_owned()))?;
    if !bytes.is_multiple_of(4096) {
        return Err(Stop::Plain("Reserved virtual address not aligned mod 4 KiB".to_owned()));
    }
    options.reserved = Some(bytes);
    Ok(())
}

/// `-t`: every signal has its own number here, so the map is only checked.
fn signal_map(options: &mut Options, value: &OsStr) -> Result<(), Stop> {
    let value = text(value);
    let malformed = |what: &str| Stop::Plain(format!("Malformed {what} in QEMU_RTSIG_MAP"));
    for entry in value.split(',') {
        let mut words = entry.split_whitespace();
        for what in ["target signal", "host signal", "signal count"] {
            let word = words.next().ok_or_else(|| malformed(what))?;
            word.parse::<u32>().map_err(|_| malformed(what))?;
        }
    }
    ignore(options, "t")
}

fn page_size(options: &mut Options, value: &OsStr) -> Result<(), Stop> {
    match text(value).parse::<u64>() {
        Ok(size) if size.is_power_of_two() => ignore(options, if size == 4096 { "" } else { "p" }),
        _ => Err(Stop::Refuse("page size must be a power of two".to_owned())),
    }
}

fn tb_size(options: &mut Options, value: &OsStr) -> Result<(), Stop> {
    match number(&text(value)) {
        (Some(_), "") => ignore(options, "tb-size"),
        _ => Err(Stop::Help(1)),
    }
}

fn seed(options: &mut Options, value: &OsStr) -> Result<(), Stop> {
    let value = text(value);
    match number(&value) {
        (Some(seed), "") => options.seed = Some(seed),
        _ => {
            let problem = format!("cannot initialize crypto: Invalid seed number: {value}");
            return Err(Stop::Refuse(problem));
        }
    }
    Ok(())
}

/// Changes several variables, separated by commas.
fn set_variables(options: &mut Options, value: &OsStr) -> Result<(), Stop> {
    for change in value.as_bytes().split(|b| *b == b',').filter(|change| !change.is_empty()) {
        let end = change.iter().position(|b| *b == b'=').ok_or(Stop::Help(1))?;
        remove(&mut options.environment, &change[..end]);
        options.environment.push(OsString::from_vec(change.to_vec()));
    }
    Ok(())
}

fn unset_variables(options: &mut Options, value: &OsStr) -> Result<(), Stop> {
    for name in value.as_bytes().split(|b| *b == b',') {
        if name.contains(&b'=') {
            return Err(Stop::Help(1));
        }
        remove(&mut options.environment, name);
    }
    Ok(())
}

fn remove(environment: &mut Vec<OsString>, name: &[u8]) {
    environment.retain(|line| {
        let rest = line.as_bytes().strip_prefix(name);
        !rest.is_some_and(|rest| rest.starts_with(b"="))
    });
}

/// Reads the environment, then the command line (without the program's name).
///
/// # Errors
/// There is something to print instead of running a program.
pub fn parse(
    name: Name<'_>,
    arguments: &[OsString],
    environment: &[OsString],
) -> Result<Options, Stop> {
    let mut options = Options { stack_size: STACK_SIZE, ..Options::default() };
    options.environment = environment.to_vec();
    let done = read(&mut options, arguments, environment);
    done.map_err(|stop| match stop {
        Stop::Help(code) => Stop::Print(help(name, &options), code),
        Stop::Version => Stop::Print(version(name), 0),
        other => other,
    })?;
    Ok(options)
}

fn read(
    options: &mut Options,
    arguments: &[OsString],
    environment: &[OsString],
) -> Result<(), Stop> {
    let set_in = |variable: &str| {
        let of = |line: &OsString| {
            let rest = line.as_bytes().strip_prefix(variable.as_bytes())?.strip_prefix(b"=")?;
            Some(OsStr::from_bytes(rest).to_owned())
        };
        environment.iter().find_map(of)
    };
    for row in ROWS.iter().filter(|row| !row.variable.is_empty()) {
        if let Some(value) = set_in(row.variable) {
            (row.set)(options, &value)?;
        }
    }
    let mut rest = arguments.iter();
    let program = loop {
        let Some(word) = rest.next() else { break None };
        let bytes = word.as_bytes();
        if bytes == b"--" {
            break rest.next();
        }
        let Some(option) = bytes.strip_prefix(b"-").filter(|option| !option.is_empty()) else {
            break Some(word);
        };
        let option = option.strip_prefix(b"-").unwrap_or(option);
        let Some(row) = ROWS.iter().find(|row| row.name.as_bytes() == option) else {
            let option = String::from_utf8_lossy(option);
            return Err(Stop::Plain(format!("qemu: unknown option '{option}'")));
        };
        let mut value = OsStr::new("");
        options.inherited.push(word.clone());
        if row.takes_value() {
            let missing =
                || Stop::Plain(format!("qemu: missing argument for option '{}'", row.name));
            let word = rest.next().ok_or_else(missing)?;
            options.inherited.push(word.clone());
            value = word;
        }
        (row.set)(options, value)?;
        if ["0", "E", "U", "L", "g"].contains(&row.name) {
            // For this program alone; the next ones get the environment as it is, and the prefix in
            // full.
            options.inherited.truncate(options.inherited.len() - 2);
        }
    };
    let missing = || Stop::Plain("qemu: no user program specified".to_owned());
    options.program = program.ok_or_else(missing)?.clone();
    options.arguments = rest.cloned().collect();
    Ok(())
}

fn version(name: Name<'_>) -> String {
    format!(
        "{}Copyright (c) 2003-2025 Fabrice Bellard and the QEMU Project developers\n",
        first_line(name)
    )
}

/// What scripts look at: the release of the interface that we offer.
fn first_line(name: Name<'_>) -> String {
    format!("qemu-{} version 10.0.2 (Tinamou {})\n", name.isa, env!("CARGO_PKG_VERSION"))
}

/// Text of `-h`.
fn help(name: Name<'_>, options: &Options) -> String {
    let isa = name.isa;
    let mut text = format!(
        "usage: qemu-{isa} [options] program [arguments...]\n\
         Runs a Linux program made for {isa}.\n\n\
         Options, and environment variables that stand for them:\n\n\
         {:<20} {:<20} Description\n",
        "Argument", "Env-variable"
    );
    for row in ROWS {
        let argument = match row.argument {
            "" => format!("-{}", row.name),
            argument => format!("-{} {argument}", row.name),
        };
        let _ = writeln!(text, "{argument:<20} {:<20} {}", row.variable, row.help);
    }
    let prefix = options.prefix.as_ref().map_or_else(|| default_prefix(isa), |p| text_of(p));
    let _ = write!(
        text,
        "\nDefaults:\nQEMU_LD_PREFIX  = {prefix}\nQEMU_STACK_SIZE = {} byte\n\n{EXPLANATION}",
        options.stack_size
    );
    text
}

fn text_of(value: &OsStr) -> String {
    text(value)
}

/// Where interpreters are looked for first unless the user says otherwise.
pub fn default_prefix(isa: &str) -> String {
    format!("/usr/gnemul/qemu-{isa}")
}

const EXPLANATION: &str = "\
-E and -U take several variables with commas between them, and may be given several times; what is said last counts:
    -E LANG=C -E TZ=UTC -U LD_PRELOAD
    -E LANG=C,TZ=UTC -U LD_PRELOAD
    QEMU_SET_ENV=LANG=C,TZ=UTC QEMU_UNSET_ENV=LD_PRELOAD
";
