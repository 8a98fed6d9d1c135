//! Opening back ends.

use crate::channel::{Channel, Output};
use crate::config::{Backend, Config};
use crate::hub::{Entry, Waker};
use crate::mux::Mux;
use crate::source::{Datagrams, Plain, Pty, Silent, Source};
use crate::stream::{self, Stream, plain};
use host::terminal::{Keys, RawTerminal};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

/// Largest ring.
const MAX_RING: u64 = 1 << 30;

type Parts = (Box<dyn Source>, Output, bool);

/// Opens what `config` describes.
pub(crate) fn open(
    config: &Config,
    escape: u8,
    waker: &Arc<Waker>,
    notice: &dyn Fn(&str),
) -> io::Result<Entry> {
    let log =
        config.logfile.as_ref().map(|path| output_file(path, config.logappend)).transpose()?;
    let (source, output, is_open) = parts(config, notice)?;
    let mux = config.mux.then(|| Mux::new(escape));
    let channel = Arc::new(Channel::new(&config.id, output, log, mux, Arc::clone(waker)));
    channel.set_open(is_open, None);
    Ok(Entry { channel, source, pending: VecDeque::new() })
}

fn parts(config: &Config, notice: &dyn Fn(&str)) -> io::Result<Parts> {
    Ok(match &config.backend {
        Backend::Null | Backend::Console => (Box::new(Silent), Output::Nowhere, true),
        Backend::Stdio { signal } => stdio(*signal)?,
        Backend::File { path, input, append } => file(path, input.as_deref(), *append)?,
        Backend::Pipe { path } => pipe(path)?,
        Backend::Pty { link } => pty(&config.id, link.clone(), notice)?,
        Backend::Socket(socket) => {
            (Box::new(Stream::open(socket, notice)?), Output::Nowhere, false)
        }
        Backend::Ringbuf { size } => {
            let size = usize::try_from((*size).min(MAX_RING)).unwrap_or(1 << 30);
            (Box::new(Silent), Output::Ring { bytes: VecDeque::new(), size }, true)
        }
        Backend::Udp { remote, local } => udp(remote, local.as_deref())?,
        Backend::Serial { path } => serial(path)?,
        Backend::Parallel { .. } => {
            let what = describe(&config.backend, true);
            let text = format!("not supported yet: character back end '{what}'");
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
    })
}

fn could_not_open(path: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("Could not open '{path}': {}", plain(error)))
}

fn output_file(path: &str, append: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(append).write(true).truncate(!append);
    options.mode(0o666).open(path).map_err(|e| could_not_open(path, &e))
}

/// The terminal, or whatever standard input and output are.
fn stdio(signal: bool) -> io::Result<Parts> {
    let input = rustix::stdio::stdin().try_clone_to_owned()?;
    let output = rustix::stdio::stdout().try_clone_to_owned()?;
    let keys = if signal { Keys::Signals } else { Keys::Input };
    let terminal = if rustix::termios::isatty(&input) {
        Some(RawTerminal::enter(input.as_fd(), keys)?)
    } else {
        None
    };
    Ok((Box::new(Plain::new(input, terminal)), Output::Shared(Arc::new(output)), true))
}

fn file(path: &str, input: Option<&str>, append: bool) -> io::Result<Parts> {
    let output = output_file(path, append)?;
    let source: Box<dyn Source> = match input {
        Some(path) => {
            let file = File::open(path).map_err(|e| could_not_open(path, &e))?;
            Box::new(Plain::new(file.into(), None))
        }
        None => Box::new(Silent),
    };
    Ok((source, Output::Descriptor(Arc::new(output.into())), true))
}

/// `PATH.in` and `PATH.out`, or `PATH` in both directions.
fn pipe(path: &str) -> io::Result<Parts> {
    let open = |path: &str| -> io::Result<OwnedFd> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(io::Error::from);
        fd.map_err(|e| could_not_open(path, &e))
    };
    let (input, output) = match (open(&format!("{path}.in")), open(&format!("{path}.out"))) {
        (Ok(input), Ok(output)) => (input, output),
        _ => {
            let both = open(path)?;
            (both.try_clone()?, both)
        }
    };
    Ok((Box::new(Plain::new(input, None)), Output::Descriptor(Arc::new(output)), true))
}

fn udp(remote: &str, local: Option<&str>) -> io::Result<Parts> {
    let failed = |what: &str, address: &str, error: io::Error| {
        io::Error::new(error.kind(), format!("Failed to {what} '{address}': {}", plain(&error)))
    };
    let local = local.unwrap_or("0.0.0.0:0");
    let socket = UdpSocket::bind(local).map_err(|e| failed("bind", local, e))?;
    socket.connect(remote).map_err(|e| failed("connect to", remote, e))?;
    socket.set_nonblocking(true)?;
    let fd: Arc<OwnedFd> = Arc::new(socket.into());
    Ok((Box::new(Datagrams(Arc::clone(&fd))), Output::Descriptor(fd), true))
}

/// A serial port of the host, as it is but for line editing, which is off.
fn serial(path: &str) -> io::Result<Parts> {
    let failed = |e: rustix::io::Errno| could_not_open(path, &e.into());
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let output = rustix::fs::open(path, flags, Mode::empty()).map_err(failed)?;
    let mut modes = rustix::termios::tcgetattr(&output).map_err(failed)?;
    modes.make_raw();
    rustix::termios::tcsetattr(&output, rustix::termios::OptionalActions::Now, &modes)
        .map_err(failed)?;
    let input = output.try_clone()?;
    Ok((Box::new(Plain::new(input, None)), Output::Descriptor(Arc::new(output)), true))
}

fn pty(id: &str, link: Option<String>, notice: &dyn Fn(&str)) -> io::Result<Parts> {
    let failed = |e: rustix::io::Errno| {
        io::Error::new(io::Error::from(e).kind(), format!("Failed to create PTY: {e}"))
    };
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).map_err(failed)?;
    grantpt(&master).map_err(failed)?;
    unlockpt(&master).map_err(failed)?;
    let name = ptsname(&master, Vec::new()).map_err(failed)?.to_string_lossy().into_owned();
    // Opened once, so that the master tells from then on whether somebody uses the other side.
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let slave = rustix::fs::open(name.as_str(), flags, Mode::empty()).map_err(failed)?;
    let mut modes = rustix::termios::tcgetattr(&slave).map_err(failed)?;
    modes.make_raw();
    rustix::termios::tcsetattr(&slave, rustix::termios::OptionalActions::Now, &modes)
        .map_err(failed)?;
    rustix::io::ioctl_fionbio(&master, true).map_err(failed)?;
    if let Some(link) = &link {
        std::os::unix::fs::symlink(&name, link).map_err(|e| could_not_open(link, &e))?;
    }
    notice(&format!("char device redirected to {name} (label {id})"));
    Ok((Box::new(Pty::new(Arc::new(master), link)), Output::Nowhere, false))
}

/// A back end as `info chardev` names it.
pub(crate) fn describe(backend: &Backend, open: bool) -> String {
    match backend {
        Backend::Null => "null".into(),
        Backend::Stdio { .. } => "stdio".into(),
        Backend::File { .. } => "file".into(),
        Backend::Pipe { .. } => "pipe".into(),
        Backend::Pty { .. } => "pty".into(),
        Backend::Ringbuf { .. } => "ringbuf".into(),
        Backend::Console => "vc".into(),
        Backend::Socket(socket) => stream::name(socket, open),
        Backend::Udp { remote, .. } => format!("udp:{remote}"),
        Backend::Serial { path } => format!("serial:{path}"),
        Backend::Parallel { path } => format!("parallel:{path}"),
    }
}
