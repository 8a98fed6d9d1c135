//! Stream sockets: clients and servers, TCP and Unix.

use crate::channel::{Channel, Output};
use crate::config::{Socket, SocketAddress};
use crate::source::{Input, Source};
use crate::telnet::{GREETING, Telnet};
use rustix::net::{SocketFlags, accept_with};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A socket back end: waiting for its other side, or connected.
pub(crate) struct Stream {
    socket: Socket,
    listener: Option<OwnedFd>,
    connection: Option<Arc<OwnedFd>>,
    telnet: Option<Telnet>,
    retry_at: Option<Instant>,
    /// A connection made while opening, not announced yet.
    fresh: bool,
    /// Path of a Unix socket of ours, to be removed at the end.
    made: Option<String>,
}

impl Stream {
    /// Listens or connects.
    pub fn open(socket: &Socket, notice: &dyn Fn(&str)) -> io::Result<Self> {
        let mut stream = Self {
            socket: socket.clone(),
            listener: None,
            connection: None,
            telnet: None,
            retry_at: None,
            fresh: false,
            made: None,
        };
        if socket.server {
            stream.listener = Some(listen(&socket.address)?);
            if let SocketAddress::Unix { path, is_abstract: false } = &socket.address {
                stream.made = Some(path.clone());
            }
            if socket.wait {
                notice(&format!("info: QEMU waiting for connection on: {}", name(socket, false)));
                stream.accept()?;
            }
            return Ok(stream);
        }
        match connect(&socket.address) {
            Ok(fd) => stream.take(fd)?,
            Err(_) if socket.reconnect_ms > 0 => stream.retry_at = Some(stream.next_try()),
            Err(error) => return Err(error),
        }
        Ok(stream)
    }

    fn next_try(&self) -> Instant {
        Instant::now() + Duration::from_millis(self.socket.reconnect_ms.clamp(1, 86_400_000))
    }

    fn accept(&mut self) -> io::Result<()> {
        let Some(listener) = &self.listener else { return Ok(()) };
        let fd = loop {
            match accept_with(listener, SocketFlags::CLOEXEC) {
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => {}
                other => break other?,
            }
        };
        self.take(fd)
    }

    /// Makes `fd` the connection.
    fn take(&mut self, fd: OwnedFd) -> io::Result<()> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        if self.socket.nodelay && matches!(self.socket.address, SocketAddress::Tcp { .. }) {
            // A socket that was handed over may be no TCP one; then there is nothing to set.
            let _ = rustix::net::sockopt::set_tcp_nodelay(&fd, true);
        }
        self.telnet = self.socket.telnet.then(Telnet::default);
        if self.telnet.is_some() {
            let _ = rustix::io::write(&fd, GREETING);
        }
        self.connection = Some(Arc::new(fd));
        self.fresh = true;
        Ok(())
    }

    fn announce(&mut self, channel: &Channel) {
        if !std::mem::take(&mut self.fresh) {
            return;
        }
        if let Some(fd) = &self.connection {
            channel.set_open(true, Some(Output::Descriptor(Arc::clone(fd))));
        }
    }

    fn closed(&mut self, channel: &Channel) {
        self.connection = None;
        channel.set_open(false, Some(Output::Nowhere));
        if !self.socket.server && self.socket.reconnect_ms > 0 {
            self.retry_at = Some(self.next_try());
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(path) = &self.made {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Source for Stream {
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match &self.connection {
            Some(fd) => Some(fd.as_fd()),
            None => self.listener.as_ref().map(AsFd::as_fd),
        }
    }

    fn always(&self) -> bool {
        self.connection.is_none()
    }

    fn read(&mut self, channel: &Channel, buffer: &mut [u8]) -> Input {
        let Some(fd) = &self.connection else {
            if self.accept().is_ok() {
                self.announce(channel);
            }
            return Input::Nothing;
        };
        match rustix::io::read(&**fd, &mut *buffer) {
            Ok(count) if count > 0 => match &mut self.telnet {
                None => Input::Data(count),
                Some(telnet) => match telnet.filter(&mut buffer[..count]) {
                    (kept, true) => Input::Break(kept),
                    (kept, false) => Input::Data(kept),
                },
            },
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Input::Nothing,
            _ => {
                self.closed(channel);
                Input::Nothing
            }
        }
    }

    fn due(&self) -> Option<Instant> {
        if self.fresh { Some(Instant::now()) } else { self.retry_at }
    }

    fn tick(&mut self, channel: &Channel) {
        if self.retry_at.take().is_some() {
            match connect(&self.socket.address).and_then(|fd| self.take(fd)) {
                Ok(()) => {}
                Err(_) => self.retry_at = Some(self.next_try()),
            }
        }
        self.announce(channel);
    }
}

fn listen(address: &SocketAddress) -> io::Result<OwnedFd> {
    let failed = |what: &str, error: io::Error| {
        io::Error::new(error.kind(), format!("Failed to {what}: {}", plain(&error)))
    };
    match address {
        SocketAddress::Tcp { host, port, to } => {
            let host = if host.is_empty() { "0.0.0.0" } else { host };
            let first: u16 = port.parse().map_err(|_| bad_port(port))?;
            let last = to.unwrap_or(first).max(first);
            let mut error = None;
            for port in first..=last {
                match TcpListener::bind((host, port)) {
                    Ok(listener) => return Ok(listener.into()),
                    Err(e) => error = Some(e),
                }
            }
            let error = error.unwrap_or_else(|| bad_port(port));
            Err(failed(&format!("bind socket to {host}:{port}"), error))
        }
        SocketAddress::Unix { path, is_abstract: true } => {
            let name = SocketAddr::from_abstract_name(path)?;
            let listener = UnixListener::bind_addr(&name);
            Ok(listener.map_err(|e| failed(&format!("bind socket to {path}"), e))?.into())
        }
        SocketAddress::Unix { path, is_abstract: false } => {
            // A socket that an earlier run left behind is in the way; anything else is not ours.
            if std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket()) {
                let _ = std::fs::remove_file(path);
            }
            let listener = UnixListener::bind(path);
            Ok(listener.map_err(|e| failed(&format!("bind socket to {path}"), e))?.into())
        }
        SocketAddress::Fd(number) => adopt(number),
    }
}

fn connect(address: &SocketAddress) -> io::Result<OwnedFd> {
    let failed = |to: &str, error: io::Error| {
        io::Error::new(error.kind(), format!("Failed to connect to '{to}': {}", plain(&error)))
    };
    match address {
        SocketAddress::Tcp { host, port, .. } => {
            let number: u16 = port.parse().map_err(|_| bad_port(port))?;
            let host = if host.is_empty() { "localhost" } else { host };
            let stream = TcpStream::connect((host, number));
            Ok(stream.map_err(|e| failed(&format!("{host}:{port}"), e))?.into())
        }
        SocketAddress::Unix { path, is_abstract: true } => {
            let name = SocketAddr::from_abstract_name(path)?;
            Ok(UnixStream::connect_addr(&name).map_err(|e| failed(path, e))?.into())
        }
        SocketAddress::Unix { path, is_abstract: false } => {
            Ok(UnixStream::connect(path).map_err(|e| failed(path, e))?.into())
        }
        SocketAddress::Fd(number) => adopt(number),
    }
}

fn adopt(number: &str) -> io::Result<OwnedFd> {
    let invalid = || {
        io::Error::new(io::ErrorKind::InvalidInput, format!("Unable to parse FD number {number}"))
    };
    host::inherited::adopt(number.parse().map_err(|_| invalid())?)
}

fn bad_port(port: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("port '{port}' is no number from 0 to 65535"),
    )
}

/// An error's text without "(os error N)".
pub(crate) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// A socket as `info chardev` names it.
pub(crate) fn name(socket: &Socket, open: bool) -> String {
    let state = if open { "" } else { "disconnected:" };
    let protocol = if socket.telnet { "telnet" } else { "tcp" };
    let server = if socket.server { ",server=on" } else { "" };
    match &socket.address {
        SocketAddress::Tcp { host, port, .. } => {
            let host = if host.is_empty() { "0.0.0.0" } else { host };
            format!("{state}{protocol}:{host}:{port}{server}")
        }
        SocketAddress::Unix { path, .. } => format!("{state}unix:{path}{server}"),
        SocketAddress::Fd(number) => format!("{state}fd:{number}{server}"),
    }
}
