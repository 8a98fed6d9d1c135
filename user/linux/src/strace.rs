//! `-strace`: system calls and signals as they happen.

use crate::abi::Call;
use crate::calls::{Entry, int};
use crate::errno::{Done, Errno};
use crate::signal::Info;
use crate::sys;
use crate::thread::Thread;
use std::fmt::Write as _;

/// Names of the bits of a number.
type Names = &'static [(u64, &'static str)];

const RIGHTS: Names = &[(1, "PROT_READ"), (2, "PROT_WRITE"), (4, "PROT_EXEC")];

const MAPPING: Names = &[
    (0x01, "MAP_SHARED"),
    (0x02, "MAP_PRIVATE"),
    (0x20, "MAP_ANONYMOUS"),
    (0x800, "MAP_DENYWRITE"),
    (0x1000, "MAP_EXECUTABLE"),
    (0x10, "MAP_FIXED"),
    (0x100, "MAP_GROWSDOWN"),
    (0x40000, "MAP_HUGETLB"),
    (0x2000, "MAP_LOCKED"),
    (0x10000, "MAP_NONBLOCK"),
    (0x4000, "MAP_NORESERVE"),
    (0x8000, "MAP_POPULATE"),
    (0x20000, "MAP_STACK"),
    (0x10_0000, "MAP_FIXED_NOREPLACE"),
];

const OPENING: Names = &[
    (0o100, "O_CREAT"),
    (0o200, "O_EXCL"),
    (0o400, "O_NOCTTY"),
    (0o1000, "O_TRUNC"),
    (0o2000, "O_APPEND"),
    (0o4000, "O_NONBLOCK"),
    (0o4_010_000, "O_SYNC"),
    (0o10000, "O_DSYNC"),
    (0o20000, "FASYNC"),
    (0o20_200_000, "__O_TMPFILE"),
    (0o200_000, "O_DIRECTORY"),
    (0o400_000, "O_NOFOLLOW"),
    (0o2_000_000, "O_CLOEXEC"),
    (0o40000, "O_DIRECT"),
    (0o1_000_000, "O_NOATIME"),
    (0o100_000, "O_LARGEFILE"),
    (0o10_000_000, "O_PATH"),
];

const ACCESS: Names = &[(1, "X_OK"), (2, "W_OK"), (4, "R_OK")];

const FOLDERS: Names = &[
    (0x100, "AT_SYMLINK_NOFOLLOW"),
    (0x200, "AT_REMOVEDIR"),
    (0x400, "AT_SYMLINK_FOLLOW"),
    (0x800, "AT_NO_AUTOMOUNT"),
    (0x1000, "AT_EMPTY_PATH"),
];

const SIGNALS: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];

fn bits(value: u64, names: Names, empty: &str) -> String {
    let mut left = value;
    let mut parts = Vec::new();
    for (bit, name) in names {
        if left & bit == *bit {
            parts.push((*name).to_owned());
            left &= !bit;
        }
    }
    if left != 0 {
        parts.push(format!("{left:#x}"));
    }
    if parts.is_empty() { empty.to_owned() } else { parts.join("|") }
}

fn signal_name(signal: u64) -> String {
    let name = usize::try_from(signal).ok().and_then(|n| SIGNALS.get(n.checked_sub(1)?));
    name.map_or_else(|| signal.to_string(), |name| (*name).to_owned())
}

/// Calls whose result is an address.
const ADDRESSES: &[&str] = &["brk", "mmap", "mmap2", "mremap", "shmat"];
/// Calls that do not come back.
const FINAL: &[&str] = &["exit", "exit_group"];

impl Thread {
    fn strace_argument(&self, kind: u8, value: u64) -> String {
        let signed = if self.process.abi.wide() { value.cast_signed() } else { int(value).into() };
        match kind {
            b'f' => int(value).to_string(),
            b'd' => signed.to_string(),
            b'D' if int(value) == libc::AT_FDCWD => "AT_FDCWD".to_owned(),
            b'D' => int(value).to_string(),
            b'u' | b'z' => value.to_string(),
            b'o' => format!("0{:o}", value & 0xffff_ffff),
            b's' | b'n' if value == 0 => "NULL".to_owned(),
            b's' | b'n' => match self.process.space.read_path(value) {
                Ok(text) => format!("\"{}\"", String::from_utf8_lossy(&text)),
                Err(_) => format!("{value:#018x}"),
            },
            b'p' | b'w' | b't' | b'T' | b'i' | b'I' if value == 0 => "NULL".to_owned(),
            b'p' | b'w' | b't' | b'T' | b'i' | b'I' => format!("{value:#018x}"),
            b'O' => {
                let access = ["O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE"][(value & 3) as usize];
                match value & 0xffff_fffc {
                    0 => access.to_owned(),
                    flags => format!("{access}|{}", bits(flags, OPENING, "")),
                }
            }
            b'M' => bits(value & 0xffff_ffff, ACCESS, "F_OK"),
            b'P' => bits(value, RIGHTS, "PROT_NONE"),
            b'A' => bits(value, MAPPING, "0"),
            b'R' => bits(value & 0xffff_ffff, FOLDERS, "0"),
            b'S' => signal_name(value & 0xffff_ffff),
            _ if value == 0 => "0".to_owned(),
            _ => format!("{value:#x}"),
        }
    }

    /// Tells of a call before it is made. Whether the line goes on with the result.
    pub fn strace_call(&self, entry: Option<&Entry>, call: &Call) -> bool {
        let mut line = format!("{} ", self.tid);
        let Some(entry) = entry else {
            trace::write(format_args!("{line}Unknown syscall {}", call.number));
            return true;
        };
        let arguments = entry.shape.bytes().zip(call.args);
        let arguments: Vec<String> =
            arguments.map(|(kind, value)| self.strace_argument(kind, value)).collect();
        let _ = write!(line, "{}({})", entry.name, arguments.join(","));
        let last = FINAL.contains(&entry.name);
        if last {
            line.push('\n');
        }
        trace::write(format_args!("{line}"));
        !last
    }

    /// Tells how a call ended.
    pub fn strace_result(&self, entry: Option<&Entry>, _: &Call, begun: bool, done: Done) {
        if !begun {
            return;
        }
        let address = entry.is_some_and(|entry| ADDRESSES.contains(&entry.name));
        let text = match done {
            Ok(value) if address => format!("{value:#018x}"),
            Ok(value) if self.process.abi.wide() => value.cast_signed().to_string(),
            Ok(value) => int(value).to_string(),
            Err(Errno::UNCHANGED) => "? (registers restored)".to_owned(),
            Err(Errno::RESTART) => "? (to be made again)".to_owned(),
            Err(error) => format!("-1 errno={} ({error})", error.0),
        };
        trace::write(format_args!(" = {text}\n"));
    }

    /// Tells of a signal that is delivered.
    pub fn strace_signal(&self, info: &Info) {
        if !self.process.options.strace {
            return;
        }
        let name = signal_name(info.signal().into());
        let code = match info.code() {
            libc::SI_USER => "SI_USER".to_owned(),
            libc::SI_TKILL => "SI_TKILL".to_owned(),
            libc::SI_QUEUE => "SI_QUEUE".to_owned(),
            libc::SI_TIMER => "SI_TIMER".to_owned(),
            0x80 => "SI_KERNEL".to_owned(),
            code => code.to_string(),
        };
        let rest = match info.code() {
            code if code <= 0 => format!("si_pid={}, si_uid={}", info.sender(), info.user()),
            _ if info.signal() == libc::SIGCHLD as u32 => {
                format!("si_pid={}, si_uid={}", info.sender(), info.user())
            }
            _ => format!("si_addr={:#018x}", info.address()),
        };
        trace::write(format_args!("--- {name} {{si_signo={name}, si_code={code}, {rest}}} ---\n"));
    }

    /// Tells of the signal that ends the process.
    pub fn strace_end(&self, signal: u32) {
        if self.process.options.strace {
            let pid = sys::getpid();
            trace::write(format_args!("{pid} +++ killed by {} +++\n", signal_name(signal.into())));
        }
    }
}
