//! Waits for debuggers, and serves one after the other.

use super::endpoint::{Endpoint, Place};
use super::seat::Debugger;
use super::target::Debuggee;
use crate::process::Process;
use crate::sys;
use gdb::Ended;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;

/// Where debuggers come, open.
pub struct Listener {
    socket: Socket,
    suspend: bool,
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Moves a descriptor out of the program's way.
fn high<T: Into<OwnedFd> + From<OwnedFd>>(socket: T) -> T {
    const HIGH: u64 = 901;
    let fd: OwnedFd = socket.into();
    let command = libc::F_DUPFD_CLOEXEC as u64;
    let args = [fd.as_raw_fd() as u64, command, HIGH, 0, 0, 0];
    match sys::call(libc::SYS_fcntl, args) {
        Ok(number) => OwnedFd::from(sys::take_file(number as i32)).into(),
        Err(_) => fd.into(),
    }
}

impl Listener {
    /// Opens the place.
    ///
    /// # Errors
    /// The text of what the host says.
    pub fn open(endpoint: &Endpoint) -> Result<Self, String> {
        let socket = match &endpoint.place {
            Place::Port(host, port) => TcpListener::bind((host.as_str(), *port))
                .map(|listener| Socket::Tcp(high(listener)))
                .map_err(|error| format!("Failed to bind socket: {}", text(&error))),
            Place::Path(path) => {
                unix(path).map(|listener| Socket::Unix(high(listener))).map_err(|error| {
                    format!("Failed to bind socket to {}: {}", path.display(), text(&error))
                })
            }
        }?;
        Ok(Self { socket, suspend: endpoint.suspend })
    }

    /// Serves debuggers of a process, from a thread of its own.
    ///
    /// # Errors
    /// The host has no more threads.
    pub fn start(self, process: Arc<Process>, debugger: Arc<Debugger>) -> io::Result<()> {
        let number = match &self.socket {
            Socket::Tcp(listener) => listener.as_raw_fd(),
            Socket::Unix(listener) => listener.as_raw_fd(),
        };
        debugger.lock().descriptors.push(number);
        let serve = move || self.serve(&process, &debugger);
        // Signals of the process are for the program's threads.
        let mask = crate::signal::block_all();
        let started = std::thread::Builder::new().name("gdb".to_owned()).spawn(serve);
        sys::set_signal_mask(mask);
        started.map(|_| ())
    }

    fn serve(self, process: &Arc<Process>, debugger: &Arc<Debugger>) {
        let mut target = Debuggee::new(Arc::clone(process), Arc::clone(debugger), self.suspend);
        loop {
            let accepted = match &self.socket {
                Socket::Tcp(listener) => {
                    listener.accept().map(|(stream, _)| Stream::Tcp(high(stream)))
                }
                Socket::Unix(listener) => {
                    listener.accept().map(|(stream, _)| Stream::Unix(high(stream)))
                }
            };
            let ended = match accepted {
                Ok(stream) => connection(stream, &mut target, debugger),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            if target.killed {
                eprintln!("qemu-{}: QEMU: Terminated via GDBstub", process.abi.name);
                sys::exit_group(0);
            }
            if matches!(ended, Ok(Ended::TargetGone)) || ended.is_err() || self.suspend {
                target.released();
                target.over();
                return;
            }
            target.released();
        }
    }
}

fn connection(stream: Stream, target: &mut Debuggee, debugger: &Debugger) -> io::Result<Ended> {
    let number = match &stream {
        Stream::Tcp(stream) => stream.as_raw_fd(),
        Stream::Unix(stream) => stream.as_raw_fd(),
    };
    debugger.lock().descriptors.push(number);
    let ended = match stream {
        Stream::Tcp(stream) => {
            let _ = stream.set_nodelay(true);
            let ended = stream.try_clone().and_then(|from| gdb::serve(target, high(from), &stream));
            let _ = stream.shutdown(std::net::Shutdown::Both);
            ended
        }
        Stream::Unix(stream) => {
            let ended = stream.try_clone().and_then(|from| gdb::serve(target, high(from), &stream));
            let _ = stream.shutdown(std::net::Shutdown::Both);
            ended
        }
    };
    debugger.lock().descriptors.retain(|fd| *fd != number);
    ended
}

/// A socket at a path, in place of one that an earlier process left there.
fn unix(path: &Path) -> io::Result<UnixListener> {
    use std::os::unix::fs::FileTypeExt;
    if std::fs::symlink_metadata(path).is_ok_and(|about| about.file_type().is_socket()) {
        let _ = std::fs::remove_file(path);
    }
    UnixListener::bind(path)
}

fn text(error: &io::Error) -> String {
    crate::errno::Errno::of(error).to_string()
}
