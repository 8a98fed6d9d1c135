//! From a command line to the first instruction.

use crate::abi::{self, Abi};
use crate::core_file;
use crate::debug::{Debugger, Endpoint, Listener};
use crate::errno::Errno;
use crate::load;
use crate::log;
use crate::map::Kind;
use crate::options::{self, Name, Options, Stop};
use crate::process::{Process, Started};
use crate::ptrace::tracee::Tracee;
use crate::signal;
use crate::space::prot;
use crate::stack::{self, Contents};
use crate::sys;
use crate::thread::Thread;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Runs a program of architecture `isa`, called as `called`; `arguments` are without that name.
pub fn run(called: &str, isa: &str, arguments: &[OsString]) -> ExitCode {
    match start(called, isa, arguments) {
        Ok((mut thread, listener)) => {
            if let Some(error) = thread.wait_for_debugger(listener) {
                return refuse(&format!("{called}: no thread for debuggers: {error}\n"), 1);
            }
            sys::birth::close_what_was_closed();
            let code = thread.run();
            thread.end();
            // The process goes on as long as other threads do.
            loop {
                let _ = sys::call(libc::SYS_exit, [code as u64, 0, 0, 0, 0, 0]);
            }
        }
        Err((text, code)) => refuse(&text, code),
    }
}

fn refuse(text: &str, code: u8) -> ExitCode {
    let _ = match code {
        0 => std::io::stdout().write_all(text.as_bytes()),
        _ => std::io::stderr().write_all(text.as_bytes()),
    };
    ExitCode::from(code)
}

/// The option by which a traced program is started: it stops before its first instruction.
pub const TRACED: &str = "-traced-exec";

/// The option, with a descriptor, by which a program with filters is started.
pub const FILTERED: &str = "-seccomp-exec";

/// What an emulator before this one left: whether the program is traced, and filters of its calls.
fn from_before(arguments: &[OsString]) -> (&[OsString], bool, Option<i32>) {
    let (mut rest, mut traced, mut filters) = (arguments, false, None);
    loop {
        match rest {
            [first, behind @ ..] if first == TRACED => (rest, traced) = (behind, true),
            [first, fd, behind @ ..] if first == FILTERED => {
                // What is no number is a descriptor that cannot be read.
                filters = Some(fd.to_str().and_then(|fd| fd.parse().ok()).unwrap_or(i32::MAX));
                rest = behind;
            }
            _ => return (rest, traced, filters),
        }
    }
}

/// What is said instead, and the exit code.
type Refusal = (String, u8);

/// A program's first thread, and where debuggers of it come.
type Ready = (Box<Thread>, Option<Listener>);

fn start(called: &str, isa: &str, arguments: &[OsString]) -> Result<Ready, Refusal> {
    let (arguments, traced, filters) = from_before(arguments);
    let abi = abi::by_name(isa)
        .ok_or_else(|| (format!("{called}: no programs of architecture '{isa}' yet\n"), 1))?;
    let environment: Vec<OsString> = std::env::vars_os()
        .map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat())
        .map(OsString::from_vec)
        .collect();
    let name = Name { program: called, isa };
    let stopped = |stop| match stop {
        Stop::Print(text, code) => (text, code),
        Stop::Models => ((abi.models)(), 0),
        Stop::Help(code) => (String::new(), code),
        Stop::Version => (String::new(), 0),
        Stop::Refuse(text) => (format!("{called}: {text}\n"), 1),
        Stop::Plain(text) => (format!("{text}\n"), 1),
    };
    let mut options = options::parse(name, arguments, &environment).map_err(stopped)?;
    started_by_kernel(&mut options);
    log::configure(&mut options).map_err(stopped)?;
    let endpoint = options.debugger.as_deref();
    let endpoint = endpoint.map(|value| Endpoint::parse(value, sys::getpid())).transpose();
    let endpoint = endpoint.map_err(|text| (format!("{called}: {text}\n"), 1))?;
    if let Some(prefix) = options.prefix.take() {
        // Programs change their folder, and those that they execute look below the same one.
        let whole = std::path::absolute(&prefix).map_or(prefix, PathBuf::into_os_string);
        options.inherited.extend([OsString::from("-L"), whole.clone()]);
        options.prefix = Some(whole);
    }
    if options.prefix.is_none() {
        let default = PathBuf::from(options::default_prefix(isa));
        options.prefix = default.is_dir().then(|| default.into_os_string());
    }
    let machine = (abi.machine_for)(&options).map_err(|text| (format!("{called}: {text}\n"), 1))?;
    let refused = |error: Errno| (format!("{called}: cannot start: {error}\n"), 1);
    let mut process = Process::new(abi, machine, options).map_err(refused)?;
    signal::install_faults();
    process.emulator = emulator();
    let mut thread = begin(abi, process).map_err(|problem| match problem {
        Problem::Load(error) if error.named() => (format!("{called}: {error}\n"), error.code()),
        Problem::Load(error) => (format!("{error}\n"), error.code()),
        Problem::Stack(Errno::E2BIG) => (format!("{called}: {}\n", Errno::E2BIG), 1),
        Problem::Stack(error) => refused(error),
    })?;
    // A core file is ours to write.
    thread.handlers().take(core_file::DUMPING);
    let listener = match endpoint {
        None => None,
        Some(endpoint) => {
            let listener = Listener::open(&endpoint);
            thread.debugger = Some(Arc::new(Debugger::new(endpoint.suspend)));
            Some(listener.map_err(|text| (format!("{called}: {text}\n"), 1))?)
        }
    };
    if filters.is_some_and(|fd| !thread.take_filters(fd)) {
        return Err((format!("{called}: filters of system calls are damaged\n"), 1));
    }
    thread.tracee = traced.then(|| Box::new(Tracee::executed()));
    Ok((Box::new(thread), listener))
}

impl Thread {
    /// Lets debuggers come: what the host says if they cannot.
    fn wait_for_debugger(&self, listener: Option<Listener>) -> Option<std::io::Error> {
        let (listener, debugger) = listener.zip(self.debugger.as_ref())?;
        self.handlers().take(signal::FATAL);
        listener.start(Arc::clone(&self.process), Arc::clone(debugger)).err()
    }
}

/// A program that the kernel started us for (`binfmt_misc`) has the name that it was called by behind
/// its path (flag P), and may be open already (flag O).
fn started_by_kernel(options: &mut Options) {
    const PRESERVE_ARGV0: u64 = 1;
    if sys::auxiliary(stack::at::FLAGS) & PRESERVE_ARGV0 != 0 && !options.arguments.is_empty() {
        options.argv0 = Some(options.arguments.remove(0));
    }
    let opened = sys::auxiliary(stack::at::EXECFD);
    options.opened = i32::try_from(opened).ok().filter(|fd| *fd != 0);
}

enum Problem {
    Load(load::LoadError),
    Stack(Errno),
}

impl From<Errno> for Problem {
    fn from(error: Errno) -> Self {
        Self::Stack(error)
    }
}

/// Our own program, kept open so that it can be started where its name leads elsewhere, with or
/// without `/proc`. Its number is out of the program's way.
fn emulator() -> Option<File> {
    use std::os::unix::fs::OpenOptionsExt;
    const HIGH: u64 = 900;
    /// How the kernel names what was executed by its descriptor.
    const BY_NUMBER: &str = "/dev/fd/";
    let name = sys::own_name();
    // Whoever of us executed us left it open.
    let number = name.strip_prefix(BY_NUMBER).and_then(|number| number.parse().ok());
    let inherited = number.filter(|fd| sys::set_close_on_exec(*fd, true).is_ok());
    if let Some(fd) = inherited {
        return Some(sys::take_file(fd));
    }
    let open = |path: &str| File::options().read(true).custom_flags(libc::O_PATH).open(path).ok();
    let file = open("/proc/self/exe").or_else(|| open(&name))?;
    let command = libc::F_DUPFD_CLOEXEC as u64;
    let moved = sys::call(libc::SYS_fcntl, [file.as_raw_fd() as u64, command, HIGH, 0, 0, 0]);
    Some(moved.map_or(file, |fd| sys::take_file(fd as i32)))
}

/// Loads the program and makes its first thread.
fn begin(abi: &'static Abi, mut process: Process) -> Result<Thread, Problem> {
    let path = Path::new(&process.options.program).to_owned();
    let whole = std::fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
    let prefix = process.options.prefix.as_ref().map(PathBuf::from);
    let stack = stack::allocate(&process.space, process.options.stack_size, false)?;
    offer(&mut process, abi)?;
    let opened = process.options.opened;
    let loaded = load::load(&process.space, abi, (&whole, opened), prefix.as_deref());
    let loaded = loaded.map_err(Problem::Load)?;
    let options = &process.options;
    let first = options.argv0.as_deref().unwrap_or(&options.program);
    let rest = options.arguments.iter().map(OsString::as_os_str);
    let arguments: Vec<Vec<u8>> =
        [first].into_iter().chain(rest).map(|word| word.as_bytes().to_vec()).collect();
    let environment: Vec<Vec<u8>> =
        options.environment.iter().map(|line| line.as_bytes().to_vec()).collect();
    let executable = whole.as_os_str().as_bytes().to_vec();
    let contents = Contents {
        arguments: &arguments,
        environment: &environment,
        executable: &executable,
        random: random(options),
        hwcap: process.machine.hwcap(),
        ids: [libc::SYS_getuid, libc::SYS_geteuid, libc::SYS_getgid, libc::SYS_getegid]
            .map(|number| sys::call(number, [0; 6]).unwrap_or(0)),
        secure: false,
        vdso: [process.sysinfo, process.vdso],
    };
    let filled = stack::fill(&process.space, abi, stack, &loaded, &contents)?;
    let command_line = arguments.iter().flat_map(|word| [&word[..], &[0]].concat()).collect();
    process.started =
        Started { executable, command_line, auxiliary: filled.auxiliary, stack: filled.pointer };
    name_thread(&path);
    let process = Arc::new(process);
    let mut cpu = process.machine.processor();
    cpu.start(loaded.start(), filled.pointer);
    Ok(Thread::first(process, cpu))
}

/// Puts the system's shared object into memory.
fn offer(process: &mut Process, abi: &Abi) -> Result<(), Errno> {
    const ENTRY: &str = "__kernel_vsyscall";
    let library = (abi.vdso)();
    let built = library.build();
    let len = built.image.len() as u64;
    let space = &process.space;
    let at = space.allocate(0, len, prot::READ | prot::WRITE, Kind::Vdso)?;
    space.write_bytes(at, &built.image)?;
    space.mprotect(at, len, (prot::READ | prot::EXEC).into())?;
    let entry = library.functions.iter().position(|function| function.name == Some(ENTRY));
    process.vdso = at;
    process.trampoline = at + built.places.first().copied().unwrap_or(0);
    process.sysinfo = entry.map_or(0, |entry| at + built.places[entry]);
    Ok(())
}

/// Sixteen random bytes, or those that follow from the user's seed.
fn random(options: &Options) -> [u8; 16] {
    let mut bytes = [0; 16];
    match options.seed {
        None => {
            let at = bytes.as_mut_ptr() as u64;
            let _ = sys::call(libc::SYS_getrandom, [at, 16, 0, 0, 0, 0]);
        }
        Some(seed) => {
            let mut state = seed;
            for byte in &mut bytes {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = (state >> 56) as u8;
            }
        }
    }
    bytes
}

/// The thread is called as the program is, for those who list processes.
fn name_thread(path: &Path) {
    let name = path.file_name().map(OsStr::as_bytes).unwrap_or_default();
    let mut text = [0u8; 16];
    let len = name.len().min(15);
    text[..len].copy_from_slice(&name[..len]);
    let set = libc::PR_SET_NAME as u64;
    let _ = sys::call(libc::SYS_prctl, [set, text.as_ptr() as u64, 0, 0, 0, 0]);
}
