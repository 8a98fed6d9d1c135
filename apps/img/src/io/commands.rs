//! The commands of the prompt.

use super::letters::Letters;
use super::manner::Manner;
use super::report::bytes;
use super::session::{OpenOptions, Session};
use super::{transfer, zones};
use crate::image::cache_mode;
use crate::{Failure, text};
use graph::{Breakpoints, Child, Event, ExtentKind, Node, Preallocation, Role, host_text};
use options::{Grammar, List};
use std::sync::Arc;
use std::time::Duration;

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    Failed,
    Quit,
}

/// Why a command was not done, and where that is said.
pub(super) enum Refusal {
    /// On standard output.
    Printed(String),
    /// On standard error, after the program's name.
    Error(String),
    /// On standard error, as it is.
    Plain(String),
    /// On standard output: how the command is used.
    Usage,
    /// Nowhere: the exit code tells.
    Silent,
}

impl Refusal {
    pub fn new(text: impl Into<String>) -> Self {
        Self::Printed(text.into())
    }

    pub fn error(text: impl Into<String>) -> Self {
        Self::Error(text.into())
    }

    /// Says it.
    pub fn say(self) {
        match self {
            Self::Printed(text) => println!("{text}"),
            Self::Error(text) => eprintln!("qemu-io: {text}"),
            Self::Plain(text) => eprintln!("{text}"),
            Self::Usage | Self::Silent => {}
        }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Error(failure.to_string())
    }
}

fn nothing_open() -> Refusal {
    Refusal::Plain("no file open, try 'help open'".to_owned())
}

pub(super) type Done = Result<(), Refusal>;

/// One command.
pub(super) struct Command {
    pub name: &'static str,
    /// Other names.
    aliases: &'static [&'static str],
    /// Its options and arguments.
    pub usage: &'static str,
    pub help: &'static str,
    /// Letters of its options, for [`Letters::parse`].
    letters: &'static str,
    /// Fewest and most arguments.
    arguments: (usize, usize),
    /// Whether an image must be open.
    needs_image: bool,
    /// Whether the image must be writable.
    writes: bool,
    run: fn(&mut Session, &Letters<'_>) -> Done,
}

const MANY: usize = usize::MAX;

/// Every command, in alphabetical order.
pub(super) static COMMANDS: &[Command] = &[
    row("aio_flush", &[], "", "waits for all requests that were begun", ("", 0, 0), aio_flush),
    row(
        "aio_read",
        &[],
        "[-Ciqrv] [-P pattern] off len [len..]",
        "begins to read bytes",
        ("CP:iqrv", 2, MANY),
        transfer::aio_read,
    ),
    writing(row(
        "aio_write",
        &[],
        "[-Cfiqruz] [-P pattern] off len [len..]",
        "begins to write bytes",
        ("CfiP:qruz", 2, MANY),
        transfer::aio_write,
    )),
    row(
        "alloc",
        &[],
        "offset [count]",
        "tells how much of a range is allocated in the file",
        ("", 1, 2),
        alloc,
    ),
    row(
        "break",
        &[],
        "event tag",
        "stops the next request at an event, under a tag",
        ("", 2, 2),
        set_break,
    ),
    writing(row(
        "discard",
        &["d"],
        "[-Cq] off len",
        "discards bytes",
        ("Cq", 2, 2),
        transfer::discard,
    )),
    row("flush", &["f"], "", "makes all that was written stable", ("", 0, 0), flush),
    row("info", &["i"], "", "tells about the image", ("", 0, 0), info),
    row("length", &["l"], "", "tells the length of the disk", ("", 0, 0), length),
    row("map", &[], "", "tells which parts are allocated in the file", ("", 0, 0), map),
    row(
        "read",
        &["r"],
        "[-abCqrv] [-P pattern [-s off] [-l len]] off len",
        "reads bytes",
        ("abCl:pP:qrs:v", 2, 2),
        transfer::read,
    ),
    row(
        "readv",
        &["rv"],
        "[-Cqrv] [-P pattern] off len [len..]",
        "reads bytes into several buffers",
        ("CP:qrv", 2, MANY),
        transfer::readv,
    ),
    row("remove_break", &[], "tag", "takes a breakpoint back", ("", 1, 1), remove_break),
    row(
        "reopen",
        &[],
        "[(-r|-w)] [-c cache] [-o options]",
        "opens the image again in another way",
        ("c:o:rw", 0, 0),
        reopen,
    ),
    row("resume", &[], "tag", "lets the request stopped under a tag go on", ("", 1, 1), resume),
    writing(row(
        "truncate",
        &["t"],
        "[-m prealloc_mode] off",
        "changes the length of the disk",
        ("m:", 1, 1),
        truncate,
    )),
    row("wait_break", &[], "tag", "waits until a request is stopped", ("", 1, 1), wait_break),
    writing(row(
        "write",
        &["w"],
        "[-bcCfnqruz] [-P pattern | -s source_file] off len",
        "writes bytes",
        ("bcCfnpP:qrs:uz", 2, 2),
        transfer::write,
    )),
    writing(row(
        "writev",
        &["wv"],
        "[-Cfqr] [-P pattern] off len [len..]",
        "writes bytes from several buffers",
        ("CfqrP:", 2, MANY),
        transfer::writev,
    )),
    row(
        "zone_append",
        &["zap"],
        "offset len [len..]",
        "writes to the end of a zone",
        ("", 3, 4),
        zones::append,
    ),
    row("zone_close", &["zc"], "offset len", "closes zones", ("", 2, 2), zones::close),
    row("zone_finish", &["zf"], "offset len", "marks zones as full", ("", 2, 2), zones::finish),
    row("zone_open", &["zo"], "offset len", "opens zones", ("", 2, 2), zones::open),
    row("zone_report", &["zrp"], "offset number", "tells about zones", ("", 2, 2), zones::report),
    row("zone_reset", &["zrs"], "offset len", "empties zones", ("", 2, 2), zones::reset),
    Command {
        needs_image: false,
        ..row("abort", &[], "", "ends as a crash does", ("", 0, 0), abort)
    },
    row("close", &["c"], "", "closes the image", ("", 0, 0), close),
    Command {
        needs_image: false,
        ..row(
            "open",
            &["o"],
            "[-rsCnkU] [-t cache] [-d discard] [-i aio] [-o options] [path]",
            "opens an image",
            ("Crsnko:t:d:i:U", 0, 1),
            open,
        )
    },
    Command {
        needs_image: false,
        ..row("sigraise", &[], "signal", "sends a signal to this process", ("", 1, 1), sigraise)
    },
    Command { needs_image: false, ..row("sleep", &[], "milliseconds", "waits", ("", 1, 1), sleep) },
];

const fn row(
    name: &'static str,
    aliases: &'static [&'static str],
    usage: &'static str,
    help: &'static str,
    (letters, least, most): (&'static str, usize, usize),
    run: fn(&mut Session, &Letters<'_>) -> Done,
) -> Command {
    Command {
        name,
        aliases,
        usage,
        help,
        letters,
        arguments: (least, most),
        needs_image: true,
        writes: false,
        run,
    }
}

/// The same command, for images that can be written.
const fn writing(command: Command) -> Command {
    Command { writes: true, ..command }
}

/// Runs the command called `name`.
pub(super) fn run(session: &mut Session, name: &str, words: &[&str]) -> Outcome {
    match name {
        "quit" | "q" => return Outcome::Quit,
        "help" | "h" | "?" => return help(words.first().copied()),
        _ => {}
    }
    let found = COMMANDS.iter().find(|c| c.name == name || c.aliases.contains(&name));
    let done = match found {
        Some(command) => invoke(session, command, name, words),
        None => Err(Refusal::Plain(format!("command \"{name}\" not found"))),
    };
    match (done, found) {
        (Ok(()), _) => Outcome::Done,
        (Err(Refusal::Usage), Some(command)) => {
            println!("{}", line(name, command));
            Outcome::Failed
        }
        (Err(refusal), _) => {
            refusal.say();
            Outcome::Failed
        }
    }
}

/// Runs a command that was called by this name.
fn invoke(session: &mut Session, command: &Command, name: &str, words: &[&str]) -> Done {
    if command.needs_image && session.opened().is_none() {
        return Err(nothing_open());
    }
    let (least, most) = command.arguments;
    let with_letters = !command.letters.is_empty();
    let few = || {
        let expected = match (least, most) {
            (least, _) if with_letters => format!("at least {least} arguments"),
            (least, MANY) => format!("at least {least} arguments"),
            (least, most) if least == most => format!("{least} arguments"),
            (least, most) => format!("between {least} and {most} arguments"),
        };
        let given = words.len();
        Refusal::Plain(format!("bad argument count {given} to {name}, expected {expected}"))
    };
    // Options count here, too.
    if words.len() < least {
        return Err(few());
    }
    if command.writes && image(session)?.read_only() {
        return Err(Refusal::error("Block node is read-only"));
    }
    let letters = Letters::parse(command.letters, words).map_err(|complaint| {
        eprintln!("{name}: {complaint}");
        Refusal::Usage
    })?;
    match (least..=most).contains(&letters.arguments.len()) {
        true => (command.run)(session, &letters),
        false if with_letters => Err(Refusal::Usage),
        false => Err(few()),
    }
}

/// How a command that was called by this name is used, and what it does.
fn line(name: &str, command: &Command) -> String {
    let usage =
        if command.usage.is_empty() { String::new() } else { format!(" {}", command.usage) };
    format!("{name}{usage} -- {}", command.help)
}

fn help(about: Option<&str>) -> Outcome {
    let Some(name) = about else {
        COMMANDS.iter().for_each(|command| println!("{}", line(command.name, command)));
        println!("help [command] -- help for one or all commands\nquit -- exit the program");
        println!("\nUse 'help commandname' for extended help.");
        return Outcome::Done;
    };
    match COMMANDS.iter().find(|c| c.name == name || c.aliases.contains(&name)) {
        Some(command) => {
            println!("{}", line(name, command));
            Outcome::Done
        }
        None => {
            println!("command {name} not found");
            Outcome::Failed
        }
    }
}

/// The image that is open; commands that need one are not run without.
pub(super) fn image(session: &Session) -> Result<Arc<dyn Node>, Refusal> {
    let opened = session.opened().ok_or_else(nothing_open)?;
    Ok(Arc::clone(&opened.node))
}

/// The same without the filter of `-C`.
fn plain_image(session: &Session) -> Result<Arc<dyn Node>, Refusal> {
    let opened = session.opened().ok_or_else(nothing_open)?;
    Ok(Arc::clone(&opened.image))
}

/// A number of bytes, with a suffix.
pub(super) fn number(word: &str) -> Result<u64, Refusal> {
    text::parse_bytes("number", word).map_err(|_| not_numeric(word))
}

fn not_numeric(word: &str) -> Refusal {
    let why = "non-numeric argument, or extraneous/unrecognized suffix";
    Refusal::new(format!("Parsing error: {why} -- {word}"))
}

fn aio_flush(session: &mut Session, _: &Letters<'_>) -> Done {
    session.wait_for_all();
    Ok(())
}

fn flush(session: &mut Session, _: &Letters<'_>) -> Done {
    // The peer says nothing, either; the exit code does.
    image(session)?.flush().map_err(|_| Refusal::Silent)
}

/// The node that holds what a node shows.
fn stored_below(node: &dyn Node) -> Option<Arc<dyn Node>> {
    let stored = |child: &Child| child.role == Role::File || child.role == Role::Named("image");
    node.children().into_iter().find(stored).map(|child| child.node)
}

/// The topmost node of the image that stops requests.
fn breakpoints(session: &Session) -> Result<Option<Arc<dyn Breakpoints>>, Refusal> {
    let below = |node: &Arc<dyn Node>| stored_below(&**node);
    let mut nodes = std::iter::successors(Some(plain_image(session)?), below);
    Ok(nodes.find_map(|node| node.breakpoints()))
}

pub(super) const UNSUPPORTED: &str = "Operation not supported";
const NOT_FOUND: &str = "No such file or directory";

fn set_break(session: &mut Session, letters: &Letters<'_>) -> Done {
    let failed = |why| Refusal::new(format!("Could not set breakpoint: {why}"));
    let stops = breakpoints(session)?.ok_or_else(|| failed(UNSUPPORTED))?;
    let event = Event::named(letters.arguments[0]).ok_or_else(|| failed(NOT_FOUND))?;
    stops.set(event, letters.arguments[1]);
    Ok(())
}

fn remove_break(session: &mut Session, letters: &Letters<'_>) -> Done {
    let tag = letters.arguments[0];
    let failed = |why| Refusal::new(format!("Could not remove breakpoint {tag}: {why}"));
    let stops = breakpoints(session)?.ok_or_else(|| failed(UNSUPPORTED))?;
    if stops.remove(tag) { Ok(()) } else { Err(failed(NOT_FOUND)) }
}

fn resume(session: &mut Session, letters: &Letters<'_>) -> Done {
    let failed = |why| Refusal::new(format!("Could not resume request: {why}"));
    let stops = breakpoints(session)?.ok_or_else(|| failed(UNSUPPORTED))?;
    if stops.resume(letters.arguments[0]) { Ok(()) } else { Err(failed(NOT_FOUND)) }
}

fn wait_break(session: &mut Session, letters: &Letters<'_>) -> Done {
    if let Some(stops) = breakpoints(session)? {
        stops.wait(letters.arguments[0]);
    }
    Ok(())
}

fn length(session: &mut Session, _: &Letters<'_>) -> Done {
    println!("{}", bytes(image(session)?.size() as f64));
    Ok(())
}

fn truncate(session: &mut Session, letters: &Letters<'_>) -> Done {
    let mode = letters.value('m').unwrap_or("off");
    let preallocation = Preallocation::named(mode)
        .ok_or_else(|| Refusal::error(format!("Invalid preallocation mode '{mode}'")))?;
    let size = number(letters.arguments[0])?;
    let node = image(session)?;
    let done = match node.image() {
        Some(image) => image.resize(size, preallocation),
        None => node.truncate(size),
    };
    done.map_err(|e| Refusal::error(host_text(&e)))
}

/// Whether bytes are stored in the image itself, for so many bytes.
fn allocated(node: &dyn Node, at: u64, len: u64) -> Result<(bool, u64), Refusal> {
    let failed =
        |e: std::io::Error| Refusal::new(format!("is_allocated failed: {}", host_text(&e)));
    let extent = node.block_status(at, len).map_err(failed)?;
    Ok((extent.kind != ExtentKind::Unallocated, extent.len))
}

fn alloc(session: &mut Session, letters: &Letters<'_>) -> Done {
    let start = number(letters.arguments[0])?;
    let count = letters.arguments.get(1).map_or(Ok(512), |word| number(word))?;
    let node = image(session)?;
    let end = node.size().min(start.saturating_add(count));
    let (mut at, mut sum) = (start, 0);
    while at < end {
        let (here, len) = allocated(&*node, at, end - at)?;
        sum += if here { len } else { 0 };
        at += len;
    }
    println!("{sum}/{count} bytes allocated at offset {}", bytes(start as f64));
    Ok(())
}

fn map(session: &mut Session, _: &Letters<'_>) -> Done {
    let node = image(session)?;
    let size = node.size();
    let mut at = 0;
    while at < size {
        let start = at;
        let (here, len) = allocated(&*node, at, size - at)?;
        at += len;
        while at < size {
            let (next, len) = allocated(&*node, at, size - at)?;
            if next != here {
                break;
            }
            at += len;
        }
        let (len, not) = (at - start, if here { "    allocated" } else { "not allocated" });
        let (length, place) = (bytes(len as f64), bytes(start as f64));
        println!("{length} ({len:#x}) bytes {not} at offset {place} ({start:#x})");
    }
    Ok(())
}

/// Drivers whose images do not tell how they are divided.
const UNTOLD: &[&str] = &["bochs", "cloop", "dmg", "parallels"];

/// The cluster size of an image, and where it keeps states of virtual machines; what lies in a file as it
/// is has neither.
fn division(node: &dyn Node) -> Option<(u32, u64)> {
    let info = node.info();
    match (info.driver, info.cluster_size) {
        (driver, _) if UNTOLD.contains(&driver) => None,
        (_, Some(size)) => Some((size, info.vm_state_offset)),
        ("file" | "host_device", None) => Some((0, 0)),
        _ => stored_below(node).and_then(|below| division(&*below)),
    }
}

fn info(session: &mut Session, _: &Letters<'_>) -> Done {
    let node = plain_image(session)?;
    let info = node.info();
    println!("format name: {}", info.driver);
    // The peer says nothing more, either; the exit code does.
    let (cluster, state) = division(&*node).ok_or(Refusal::Silent)?;
    println!("cluster size: {}", bytes(f64::from(cluster)));
    println!("vm state offset: {}", bytes(state as f64));
    if !info.specific.is_empty() {
        print!(
            "Format specific information:\n{}",
            crate::commands::info::properties(&info.specific)
        );
    }
    Ok(())
}

fn abort(_: &mut Session, _: &Letters<'_>) -> Done {
    std::process::abort()
}

fn close(session: &mut Session, _: &Letters<'_>) -> Done {
    session.close();
    Ok(())
}

fn open(session: &mut Session, letters: &Letters<'_>) -> Done {
    if session.opened().is_some() {
        return Err(Refusal::error("file open already, try 'help close'"));
    }
    let mut manner = Manner::default();
    letters.given().try_for_each(|(letter, value)| manner.set(letter, value))?;
    let driver = letters.given().filter(|(l, _)| *l == 'o').map(|(_, options)| options).collect();
    let options = OpenOptions { manner, driver, ..OpenOptions::default() };
    let path = letters.arguments.first().copied().unwrap_or_default();
    Ok(session.open(path, &options)?)
}

fn reopen(session: &mut Session, letters: &Letters<'_>) -> Done {
    let (reads, writes) = (letters.has('r'), letters.has('w'));
    if reads && writes {
        return Err(Refusal::error("Only one -r/-w option may be given"));
    }
    let mode = letters.value('c').map(|mode| cache_mode("cache option", Some(mode)));
    let mode = mode.transpose()?;
    let mut changes = Vec::new();
    for (_, text) in letters.given().filter(|(letter, _)| *letter == 'o') {
        let list = List::parse(text, Grammar::BARE).map_err(|e| Refusal::error(e.to_string()))?;
        changes.extend(list.into_pairs());
    }
    let has = |key: &str| changes.iter().any(|(known, _)| known == key);
    if (reads || writes) && has("read-only") {
        return Err(Refusal::error("Cannot set both -r/-w and 'read-only'"));
    }
    if mode.is_some() && (has("cache.direct") || has("cache.no-flush")) {
        return Err(Refusal::error("Cannot set both -c and the cache options"));
    }
    let access = (reads || writes).then_some(writes);
    Ok(session.reopen(changes, access, mode)?)
}

fn sleep(_: &mut Session, letters: &Letters<'_>) -> Done {
    let word = letters.arguments[0];
    let ms = word.parse().map_err(|_| Refusal::new(format!("{word} is not a valid number")))?;
    std::thread::sleep(Duration::from_millis(ms));
    Ok(())
}

fn sigraise(_: &mut Session, letters: &Letters<'_>) -> Done {
    let word = letters.arguments[0];
    let signal = word.parse().map_err(|_| not_numeric(word))?;
    host::signals::raise(signal)
        .map_err(|e| Refusal::new(format!("kill failed: {}", host_text(&e))))
}
