//! `/proc/self/*` and `/proc/cpuinfo` as the program has to see them.

use crate::map::Kind;
use crate::space::prot;
use crate::sys;
use crate::thread::Thread;
use std::fmt::Write as _;

/// What a name in `/proc` stands for.
pub enum Shown {
    /// A link to this file.
    Link(Vec<u8>),
    /// A file with these contents.
    File(Vec<u8>),
}

type Contents = fn(&Thread) -> Option<Vec<u8>>;

/// Files of a process.
const FILES: &[(&str, Contents)] = &[
    ("maps", |thread| Some(maps(thread))),
    ("cmdline", |thread| Some(thread.process.started.command_line.clone())),
    ("auxv", |thread| Some(thread.process.started.auxiliary.clone())),
    ("stat", stat),
];

/// What the program sees under this name, if not what the host has.
pub fn shown(thread: &Thread, path: &[u8]) -> Option<Shown> {
    let rest = std::str::from_utf8(path.strip_prefix(b"/proc/")?).ok()?;
    if rest == "cpuinfo" {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        return thread.process.machine.cpuinfo(count).map(|text| Shown::File(text.into_bytes()));
    }
    let (who, file) = rest.split_once('/')?;
    let file = match file.strip_prefix("task/").and_then(|task| task.split_once('/')) {
        // Times and the like are a thread's own.
        Some((_, file)) if file != "stat" => file,
        _ => file,
    };
    let own = who == "self" || who == "thread-self" || who.parse() == Ok(sys::getpid());
    if !own {
        return who.parse().ok().and_then(|pid| traced(thread, pid, file));
    }
    if file == "exe" {
        return Some(Shown::Link(thread.process.started.executable.clone()));
    }
    let (_, contents) = FILES.iter().find(|(name, _)| *name == file)?;
    contents(thread).map(Shown::File)
}

/// What the program sees of one that it traces.
fn traced(thread: &Thread, pid: i32, file: &str) -> Option<Shown> {
    let tracees = &thread.process.tracees;
    if !tracees.are_some() {
        return None;
    }
    match file {
        "exe" => tracees.started(pid, 0).map(Shown::Link),
        "cmdline" => tracees.started(pid, 1).map(Shown::File),
        "auxv" => tracees.started(pid, 2).map(Shown::File),
        "maps" => {
            let [base, limit] = tracees.window(pid)?;
            let host = std::fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
            Some(Shown::File(window(&host, base, limit)))
        }
        _ => None,
    }
}

/// The lines of the host's maps that are a program's, with its addresses. What it may execute is only
/// readable on the host.
fn window(host: &str, base: u64, limit: u64) -> Vec<u8> {
    let mut text = String::new();
    for line in host.lines() {
        let Some((range, rest)) = line.split_once(' ') else { continue };
        let Some((start, end)) = range.split_once('-') else { continue };
        let number = |text| u64::from_str_radix(text, 16).unwrap_or(0);
        let start = number(start).checked_sub(base).filter(|start| *start < limit);
        let end = number(end).wrapping_sub(base).min(limit);
        if let Some(start) = start {
            let _ = writeln!(text, "{start:08x}-{end:08x} {rest}");
        }
    }
    text.into_bytes()
}

/// The host's line, with what differs.
fn stat(thread: &Thread) -> Option<Vec<u8>> {
    /// Field of the first stack pointer, counted behind the name.
    const START_STACK: usize = 25;
    let line = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (head, fields) = line.rsplit_once(") ")?;
    let mut fields: Vec<String> = fields.trim_end().split(' ').map(str::to_owned).collect();
    *fields.get_mut(START_STACK)? = thread.process.started.stack.to_string();
    Some(format!("{head}) {}\n", fields.join(" ")).into_bytes())
}

/// The host's maps, as far as they are the program's, with its rights.
fn maps(thread: &Thread) -> Vec<u8> {
    let space = &thread.process.space;
    let host = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let map = space.map();
    let mut text = String::new();
    for line in host.lines() {
        let Some((range, rest)) = line.split_once(' ') else { continue };
        let Some((start, end)) = range.split_once('-') else { continue };
        let number = |text| u64::from_str_radix(text, 16).unwrap_or(0);
        let (start, end) = (number(start), number(end));
        let Some(from) = start.checked_sub(space.base).filter(|from| *from < space.limit) else {
            continue;
        };
        let to = (end - space.base).min(space.limit);
        // Rights, offset, device, inode, name.
        let mut fields = rest.splitn(5, ' ');
        let mut field = || fields.next().unwrap_or_default();
        let (_, offset, device, inode, name) = (field(), field(), field(), field(), field());
        for (part, region) in map.parts(&(from..to)) {
            let right = |bit, letter| if region.rights & bit != 0 { letter } else { '-' };
            let rights: String =
                [right(prot::READ, 'r'), right(prot::WRITE, 'w'), right(prot::EXEC, 'x')]
                    .into_iter()
                    .chain([if region.shared { 's' } else { 'p' }])
                    .collect();
            let file = inode != "0";
            let skipped = if file { part.start - from } else { 0 };
            let offset = number(offset) + skipped;
            let name = match region.kind {
                Kind::Other if file => name.trim_start(),
                kind => kind.name().unwrap_or_default(),
            };
            let head = format!(
                "{:08x}-{:08x} {rights} {offset:08x} {device} {inode}",
                part.start, part.end
            );
            let _ = match name {
                "" => writeln!(text, "{head} "),
                name => writeln!(text, "{head:<73}{name}"),
            };
        }
    }
    text.into_bytes()
}
