//! Programs that replace this one: of the same architecture by ourselves again, of others that we
//! know likewise, of the host's by the host.

use super::int;
use super::names;
use crate::abi::{self, Abi};
use crate::errno::{Done, Errno};
use crate::proc_files::{self, Shown};
use crate::signal::FAULTS;
use crate::sys;
use crate::thread::Thread;
use elf::program::Flavour;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

type Args = [u64; 6];

/// Most bytes of all arguments and of the environment, each.
const MAX_BYTES: usize = 6 << 20;
/// Scripts that are interpreted by scripts.
const MAX_SCRIPTS: usize = 5;
/// Bytes of a file that tell what it is.
const HEAD: usize = 256;

/// A program and what it is started with.
struct Start {
    path: Vec<u8>,
    argv: Vec<Vec<u8>>,
    envp: Vec<Vec<u8>>,
}

pub fn execve(thread: &mut Thread, args: &Args) -> Done {
    let [path, argv, envp, ..] = *args;
    let path = thread.process.space.read_path(path)?;
    let argv = strings(thread, argv)?;
    let envp = strings(thread, envp)?;
    replace(thread, Start { path, argv, envp })
}

pub fn execveat(thread: &mut Thread, args: &Args) -> Done {
    let [dir, path, argv, envp, flags, _] = *args;
    let (dir, flags) = (int(dir), int(flags));
    if flags & !(libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW) != 0 {
        return Err(Errno::EINVAL);
    }
    let mut path = thread.process.space.read_path(path)?;
    let argv = strings(thread, argv)?;
    let envp = strings(thread, envp)?;
    if path.is_empty() && flags & libc::AT_EMPTY_PATH != 0 {
        // The new program finds the file under a descriptor that stays open.
        let open = sys::call(libc::SYS_dup, [dir as u64, 0, 0, 0, 0, 0])?;
        path = format!("/proc/self/fd/{open}").into_bytes();
    } else if path.is_empty() {
        return Err(Errno::ENOENT);
    } else if !path.starts_with(b"/") && dir != libc::AT_FDCWD {
        path = [format!("/proc/self/fd/{dir}/").as_bytes(), &path].concat();
    }
    let name = CString::new(path.clone()).map_err(|_| Errno::EINVAL)?;
    if flags & libc::AT_SYMLINK_NOFOLLOW != 0 && is_link(&name) {
        return Err(Errno::ELOOP);
    }
    replace(thread, Start { path, argv, envp })
}

fn is_link(name: &CString) -> bool {
    let path = Path::new(OsStr::from_bytes(name.as_bytes()));
    std::fs::symlink_metadata(path).is_ok_and(|about| about.file_type().is_symlink())
}

/// A list of strings that ends with a null pointer.
fn strings(thread: &Thread, at: u64) -> Result<Vec<Vec<u8>>, Errno> {
    let mut list = Vec::new();
    if at == 0 {
        return Ok(list);
    }
    let space = &thread.process.space;
    let word = thread.process.abi.word();
    let mut bytes = 0;
    for n in 0.. {
        let from = at.wrapping_add(n * word);
        let string = match word {
            8 => space.read::<u64>(from)?,
            _ => space.read::<u32>(from)?.into(),
        };
        if string == 0 {
            break;
        }
        let string = space.read_string(string, MAX_BYTES).map_err(|error| match error {
            Errno::ENAMETOOLONG => Errno::E2BIG,
            other => other,
        })?;
        bytes += string.len() + 1 + word as usize;
        if bytes > MAX_BYTES {
            return Err(Errno::E2BIG);
        }
        list.push(string);
    }
    Ok(list)
}

/// What a file is to us.
enum Kind {
    /// A program that we run.
    Ours(&'static Abi),
    /// A script: its interpreter, and an argument for that.
    Script(Vec<u8>, Option<Vec<u8>>),
    /// What the host is to run, or to refuse.
    Host,
}

/// Finds out what a file is; the host's kernel refuses what cannot be executed.
fn kind(path: &Path, ours: &'static Abi) -> Kind {
    let mut head = [0; HEAD];
    let mut len = 0;
    let Ok(mut file) = File::open(path) else { return Kind::Host };
    while len < HEAD {
        match file.read(&mut head[len..]) {
            Ok(0) | Err(_) => break,
            Ok(more) => len += more,
        }
    }
    let head = &head[..len];
    if let Some(flavour) = Flavour::of(head) {
        return match abi::of(&flavour) {
            Some(abi) if !native(&flavour) || abi.name == ours.name => Kind::Ours(abi),
            _ => Kind::Host,
        };
    }
    match script(head) {
        Some((interpreter, argument)) => Kind::Script(interpreter, argument),
        None => Kind::Host,
    }
}

/// Whether the host's processor runs it itself.
fn native(flavour: &Flavour) -> bool {
    flavour.architecture() == Some(std::env::consts::ARCH)
}

/// The line of a script that names its interpreter (Linux, execve(2)).
fn script(head: &[u8]) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
    let line = head.strip_prefix(b"#!")?;
    let end = line.iter().position(|b| *b == b'\n').unwrap_or(line.len());
    let line = line[..end].trim_ascii();
    let end = line.iter().position(|b| b.is_ascii_whitespace()).unwrap_or(line.len());
    let (interpreter, rest) = line.split_at(end);
    let rest = rest.trim_ascii();
    let argument = (!rest.is_empty()).then(|| rest.to_vec());
    (!interpreter.is_empty()).then(|| (interpreter.to_vec(), argument))
}

fn replace(thread: &mut Thread, mut start: Start) -> Done {
    for _ in 0..MAX_SCRIPTS {
        if let Some(Shown::Link(target)) = proc_files::shown(thread, &start.path) {
            start.path = target;
        }
        if let Some(found) = names::with_prefix(thread, &start.path) {
            start.path = found;
        }
        let path = Path::new(OsStr::from_bytes(&start.path));
        let allowed = executable(&start.path);
        match kind(path, thread.process.abi) {
            _ if allowed.is_err() => return allowed,
            Kind::Ours(abi) if thread.process.emulator.is_some() => {
                return by_ourselves(thread, abi, &start);
            }
            Kind::Script(interpreter, argument) => {
                let mut argv = vec![interpreter.clone()];
                argv.extend(argument);
                argv.push(std::mem::replace(&mut start.path, interpreter));
                argv.extend(start.argv.into_iter().skip(1));
                start.argv = argv;
            }
            Kind::Ours(_) | Kind::Host => return by_host(thread, &start),
        }
    }
    Err(Errno::ELOOP)
}

/// What the host says to executing a file.
fn executable(path: &[u8]) -> Done {
    let name = CString::new(path).map_err(|_| Errno::EINVAL)?;
    let (at, mode) = (libc::AT_FDCWD as u64, libc::X_OK as u64);
    let effective = libc::AT_EACCESS as u64;
    sys::call(libc::SYS_faccessat2, [at, name.as_ptr() as u64, mode, effective, 0, 0])
}

/// Strings as the kernel takes them: the list ends with a null pointer.
struct List {
    _strings: Vec<CString>,
    pointers: Vec<u64>,
}

impl List {
    fn new(strings: Vec<Vec<u8>>) -> Result<Self, Errno> {
        let strings: Result<Vec<CString>, _> = strings.into_iter().map(CString::new).collect();
        let strings = strings.map_err(|_| Errno::EINVAL)?;
        let pointers = strings.iter().map(|string| string.as_ptr() as u64).chain([0]).collect();
        Ok(Self { _strings: strings, pointers })
    }

    fn address(&self) -> u64 {
        self.pointers.as_ptr() as u64
    }
}

/// Starts the emulator of an architecture with the program.
fn by_ourselves(thread: &mut Thread, abi: &Abi, start: &Start) -> Done {
    let process = &thread.process;
    let mut argv = vec![format!("qemu-{}", abi.name).into_bytes()];
    if thread.tracee.is_some() {
        argv.push(crate::start::TRACED.as_bytes().to_vec());
    }
    let filters = thread.filters_for_next()?;
    if let Some(fd) = filters {
        argv.extend([crate::start::FILTERED.as_bytes().to_vec(), fd.to_string().into_bytes()]);
    }
    let same = abi.name == process.abi.name;
    let options = process.options.inherited.iter().filter(|_| same);
    argv.extend(options.map(|option| option.as_bytes().to_vec()));
    if let Some(name) = start.argv.first() {
        argv.extend([b"-0".to_vec(), name.clone()]);
    }
    argv.extend([b"--".to_vec(), start.path.clone()]);
    argv.extend(start.argv.iter().skip(1).cloned());
    let argv = List::new(argv)?;
    let envp = List::new(start.envp.clone())?;
    let emulator = process.emulator.as_ref().ok_or(Errno::ENOEXEC)?.as_raw_fd();
    let empty = libc::AT_EMPTY_PATH as u64;
    let args = [emulator as u64, c"".as_ptr() as u64, argv.address(), envp.address(), empty, 0];
    // The next of us finds it under the name that the kernel gives it (see `start::emulator`).
    sys::set_close_on_exec(emulator, false)?;
    let error = hand_over(thread, libc::SYS_execveat, args);
    sys::set_close_on_exec(emulator, true)?;
    if let Some(fd) = filters {
        let _ = sys::call(libc::SYS_close, [fd, 0, 0, 0, 0, 0]);
    }
    error
}

fn by_host(thread: &mut Thread, start: &Start) -> Done {
    if thread.filter_mode() != 0 {
        // Its calls would have other numbers, and nobody would hold them back.
        return Err(Errno::EACCES);
    }
    let path = CString::new(start.path.clone()).map_err(|_| Errno::EINVAL)?;
    let argv = List::new(start.argv.clone())?;
    let envp = List::new(start.envp.clone())?;
    let args = [path.as_ptr() as u64, argv.address(), envp.address(), 0, 0, 0];
    hand_over(thread, libc::SYS_execve, args)
}

/// Executes with the signals as the program has them.
fn hand_over(thread: &mut Thread, number: i64, args: [u64; 6]) -> Done {
    thread.hand_over_ignored();
    sys::set_signal_mask(thread.mask);
    let error = sys::call(number, args);
    // It failed: we go on.
    sys::set_signal_mask(!FAULTS);
    thread.take_back_faults();
    thread.mask_changed = true;
    error
}

#[cfg(test)]
mod tests {
    use super::script;

    #[test]
    fn the_first_line_names_the_interpreter() {
        let text = |line: &[u8]| {
            script(line).map(|(name, argument)| {
                let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
                (text(name), argument.map(text))
            })
        };
        assert_eq!(text(b"#! /bin/sh\necho"), Some(("/bin/sh".into(), None)));
        let env = Some(("/usr/bin/env".into(), Some("-S a b".into())));
        assert_eq!(text(b"#!/usr/bin/env\t-S a b \n"), env);
        assert_eq!(text(b"#!\n"), None);
        assert_eq!(text(b"\x7fELF"), None);
    }
}
