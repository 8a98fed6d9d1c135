//! Where a server is, and what a URI says of it.

use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;

use crypto::{Channel, Credentials};
use graph::OpenError;
use host::aio::Wake;
use rustix::event::{PollFd, PollFlags};
use rustix::net::{AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, SocketFlags};

/// Port that the protocol has been given.
pub const DEFAULT_PORT: u16 = 10809;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A host's name or number, and a port.
    Tcp {
        /// Name or number.
        host: String,
        /// Port.
        port: u16,
    },
    /// Path of a socket.
    Unix(String),
    /// Name of a socket that is in no folder.
    Abstract {
        /// The name.
        name: String,
        /// It ends where it ends; else zeroes up to the greatest length are a part of it.
        tight: bool,
    },
    /// A port of a machine or of its host (vsock).
    Vsock {
        /// Number of the machine.
        cid: u32,
        /// Port.
        port: u32,
    },
    /// Number of a descriptor that whoever started the process handed over.
    Handed(String),
}

/// Longest name of a socket in no folder, in bytes.
const MAX_ABSTRACT: usize = 107;

impl Address {
    /// A port of a machine, from the words that users give.
    ///
    /// # Errors
    /// Either is no number, in QEMU's words.
    pub fn vsock(cid: &str, port: &str) -> Result<Self, String> {
        let cid = cid.parse().map_err(|_| format!("Failed to parse cid '{cid}'"))?;
        let port = port.parse().map_err(|_| format!("Failed to parse port '{port}'"))?;
        Ok(Self::Vsock { cid, port })
    }

    /// The path of the socket, if it is in a folder.
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::Unix(path) => Some(path),
            _ => None,
        }
    }

    /// What the host calls it when it cannot be had, in QEMU's words.
    pub fn bind_failure(&self, error: &io::Error) -> String {
        let why = graph::host_text(error);
        match self {
            Self::Vsock { .. } => format!("Failed to bind socket: {why}"),
            Self::Handed(_) => why,
            _ => format!("Failed to bind socket to {self}: {why}"),
        }
    }

    /// What is said when nobody can be reached there, in QEMU's words.
    pub fn connect_failure(&self, source: io::Error) -> OpenError {
        match self {
            Self::Handed(_) => OpenError::Option(graph::host_text(&source)),
            _ => OpenError::Host { operation: format!("Failed to connect to '{self}'"), source },
        }
    }
}

/// The address of a socket that is in no folder.
fn abstract_name(name: &str, tight: bool) -> io::Result<SocketAddr> {
    let mut bytes = name.as_bytes().to_vec();
    if !tight && bytes.len() < MAX_ABSTRACT {
        bytes.resize(MAX_ABSTRACT, 0);
    }
    SocketAddr::from_abstract_name(bytes)
}

/// Takes over a socket that was handed to this process.
fn handed(text: &str) -> io::Result<OwnedFd> {
    let refuse = |text: String| io::Error::new(io::ErrorKind::InvalidInput, text);
    let number: i32 =
        text.parse().map_err(|_| refuse(format!("Unable to parse FD number {text}")))?;
    let adopted = host::inherited::adopt(number).ok();
    let socket = adopted.filter(|fd| rustix::net::sockopt::socket_type(fd).is_ok());
    socket.ok_or_else(|| refuse(format!("File descriptor '{number}' is not a socket")))
}

/// A server and an export of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The server.
    pub address: Address,
    /// Name of the export.
    pub export: String,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(name) | Self::Abstract { name, .. } | Self::Handed(name) => {
                f.write_str(name)
            }
            Self::Vsock { cid, port } => write!(f, "{cid}:{port}"),
        }
    }
}

impl Location {
    /// Reads `nbd://HOST[:PORT]/EXPORT`, `nbd+unix:///EXPORT?socket=PATH`, `nbd+vsock://CID[:PORT]/EXPORT`, and the older
    /// `nbd:HOST:PORT[:exportname=EXPORT]`, `nbd:unix:PATH[:exportname=EXPORT]`.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(rest) = text.strip_prefix("nbd+unix://") {
            return unix_uri(rest);
        }
        if let Some(rest) = text.strip_prefix("nbd+tcp://").or(text.strip_prefix("nbd://")) {
            return tcp_uri(rest);
        }
        if let Some(rest) = text.strip_prefix("nbd+vsock://") {
            return vsock_uri(rest);
        }
        match text.strip_prefix("nbd:") {
            Some(rest) => older_form(rest),
            None => Err(format!("'{text}' names no NBD server")),
        }
    }
}

fn tcp_uri(rest: &str) -> Result<Location, String> {
    let (authority, export) = rest.split_once('/').unwrap_or((rest, ""));
    let address = host_and_port(authority)?;
    Ok(Location { address, export: unescaped(export)? })
}

fn host_and_port(text: &str) -> Result<Address, String> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = port.map_or(Ok(DEFAULT_PORT), str::parse);
    let port = port.map_err(|_| format!("'{text}': the port is no number below 65536"))?;
    let host = if host.is_empty() { "localhost" } else { host };
    Ok(Address::Tcp { host: host.to_owned(), port })
}

fn unix_uri(rest: &str) -> Result<Location, String> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let socket = query.split('&').find_map(|pair| pair.strip_prefix("socket="));
    let socket = socket.ok_or("a nbd+unix URI needs ?socket=PATH")?;
    let export = unescaped(path.strip_prefix('/').unwrap_or(path))?;
    Ok(Location { address: Address::Unix(unescaped(socket)?), export })
}

fn vsock_uri(rest: &str) -> Result<Location, String> {
    let (authority, export) = rest.split_once('/').unwrap_or((rest, ""));
    let default = DEFAULT_PORT.to_string();
    let (cid, port) = authority.split_once(':').unwrap_or((authority, &default));
    Ok(Location { address: Address::vsock(cid, port)?, export: unescaped(export)? })
}

fn older_form(rest: &str) -> Result<Location, String> {
    let (place, export) = match rest.split_once(":exportname=") {
        Some((place, export)) => (place, export),
        None => (rest, ""),
    };
    let address = match place.strip_prefix("unix:") {
        Some(path) => Address::Unix(path.to_owned()),
        None => host_and_port(place)?,
    };
    Ok(Location { address, export: export.to_owned() })
}

/// Text with `%XX` undone.
fn unescaped(text: &str) -> Result<String, String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
        match (digit(rest.next()), digit(rest.next())) {
            // Two digits make a byte.
            (Some(high), Some(low)) => bytes.push((high << 4 | low) as u8),
            _ => return Err(format!("'{text}': % without two digits")),
        }
    }
    String::from_utf8(bytes).map_err(|_| format!("'{text}' is not UTF-8"))
}

/// A connection.
pub enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Through a socket of the host, or of another family: what is done with it is the same.
    Unix(UnixStream),
    /// Through TLS over one of the others.
    Tls(Arc<Channel<Stream>>),
}

/// Bytes that a socket of the host holds until the other side takes them, if the host allows so many: a payload that fits
/// leaves in one go, instead of with a switch between the sides for each part.
const ROOM: usize = 2 << 20;

/// A socket of the host with more room than usual.
fn roomy(stream: UnixStream) -> Stream {
    // Less room is slower and nothing else. Over TCP, the kernel finds out what is right.
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(&stream, ROOM);
    Stream::Unix(stream)
}

impl Stream {
    /// Connects.
    ///
    /// # Errors
    /// Nobody is there.
    pub fn connect(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port))?;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
            Address::Unix(path) => UnixStream::connect(path).map(roomy),
            Address::Abstract { name, tight } => {
                UnixStream::connect_addr(&abstract_name(name, *tight)?).map(roomy)
            }
            Address::Vsock { cid, port } => {
                host::vsock::connect(*cid, *port).map(|socket| Self::Unix(socket.into()))
            }
            Address::Handed(number) => Self::adopted(handed(number)?),
        }
    }

    /// A connection that exists.
    fn adopted(socket: OwnedFd) -> io::Result<Self> {
        match rustix::net::getsockname(&socket)?.address_family() {
            AddressFamily::INET | AddressFamily::INET6 => {
                let stream = TcpStream::from(socket);
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
            _ => Ok(Self::Unix(socket.into())),
        }
    }

    /// The same connection once more.
    ///
    /// # Errors
    /// The host has no more descriptors.
    pub fn duplicate(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(stream) => stream.try_clone().map(Self::Tcp),
            Self::Unix(stream) => stream.try_clone().map(Self::Unix),
            Self::Tls(channel) => Ok(Self::Tls(Arc::clone(channel))),
        }
    }

    /// Goes on through TLS, as the client of a server that has a certificate for `hostname`.
    ///
    /// # Errors
    /// The sides do not trust each other, or the connection breaks.
    pub fn secure_to(&mut self, own: &Credentials, hostname: Option<&str>) -> io::Result<()> {
        *self = Self::Tls(Arc::new(Channel::connect(self.duplicate()?, own, hostname)?));
        Ok(())
    }

    /// Goes on through TLS, as the server.
    ///
    /// # Errors
    /// As for [`Stream::secure_to`].
    pub fn secure_from(&mut self, own: &Credentials) -> io::Result<()> {
        *self = Self::Tls(Arc::new(Channel::accept(self.duplicate()?, own)?));
        Ok(())
    }

    /// Says that nothing more comes, where there are words for it.
    pub fn finish(&self) {
        if let Self::Tls(channel) = self {
            // Who is gone already needs no goodbye.
            let _ = channel.finish();
        }
    }

    /// Ends it for all who hold it.
    pub fn shut_down(&self) {
        // A connection that is gone needs no end.
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
            Self::Tls(channel) => {
                channel.socket().shut_down();
                Ok(())
            }
        };
    }

    /// How long a read may take.
    ///
    /// # Errors
    /// The host cannot limit it.
    pub fn set_patience(&self, limit: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(limit),
            Self::Unix(stream) => stream.set_read_timeout(limit),
            Self::Tls(channel) => channel.socket().set_patience(limit),
        }
    }
}

/// Transfers that do not wait, which TLS has no part in.
impl Stream {
    fn fd(&self) -> io::Result<BorrowedFd<'_>> {
        match self {
            Self::Tcp(stream) => Ok(stream.as_fd()),
            Self::Unix(stream) => Ok(stream.as_fd()),
            Self::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Takes what has come; 0 when nothing more will.
    ///
    /// # Errors
    /// `WouldBlock` when nothing has come yet.
    pub(crate) fn receive_now(&self, buf: &mut [u8]) -> io::Result<usize> {
        let (_, len) = rustix::net::recv(self.fd()?, buf, RecvFlags::DONTWAIT)?;
        Ok(len)
    }

    /// Sends what there is room for; the result says how much that was.
    ///
    /// # Errors
    /// `WouldBlock` when there is no room.
    pub(crate) fn send_now(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let mut no_descriptors = SendAncillaryBuffer::default();
        Ok(rustix::net::sendmsg(self.fd()?, parts, &mut no_descriptors, flags)?)
    }

    /// Waits until something has come, there is room (if `full`), or `wake` is woken.
    ///
    /// # Errors
    /// The host cannot wait.
    pub(crate) fn wait(&self, full: bool, wake: &Wake) -> io::Result<()> {
        let room = if full { PollFlags::OUT } else { PollFlags::empty() };
        let socket = PollFd::from_borrowed_fd(self.fd()?, PollFlags::IN | room);
        let mut both = [socket, PollFd::new(wake, PollFlags::IN)];
        match rustix::event::poll(&mut both, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(failure) => return Err(failure.into()),
        }
        if !both[1].revents().is_empty() {
            wake.clear();
        }
        Ok(())
    }
}

impl crypto::Socket for Stream {
    fn receive(&self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => { stream }.read(buf),
            Self::Unix(stream) => { stream }.read(buf),
            Self::Tls(channel) => channel.read(buf),
        }
    }

    fn send(&self, buf: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => { stream }.write_all(buf),
            Self::Unix(stream) => { stream }.write_all(buf),
            Self::Tls(channel) => Write::write_all(&mut &**channel, buf),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buf),
            Self::Unix(stream) => stream.read(buf),
            Self::Tls(channel) => channel.read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(buf),
            Self::Unix(stream) => stream.write(buf),
            Self::Tls(channel) => channel.write(buf),
        }
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write_vectored(parts),
            Self::Unix(stream) => stream.write_vectored(parts),
            Self::Tls(channel) => {
                channel.write(parts.iter().find(|part| !part.is_empty()).map_or(&[], |part| part))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.flush(),
            Self::Unix(stream) => stream.flush(),
            Self::Tls(_) => Ok(()),
        }
    }
}

/// A place to be called at.
pub enum Listener {
    /// A port.
    Tcp(TcpListener),
    /// A socket of the host.
    Unix(UnixListener),
    /// A port for machines. Shutting such a socket down wakes nobody.
    Vsock(OwnedFd, Wake),
}

impl Listener {
    /// Listens at an address.
    ///
    /// # Errors
    /// The address is in use, or not of this host.
    pub fn bind(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp { host, port } => TcpListener::bind((host.as_str(), *port)).map(Self::Tcp),
            Address::Unix(path) => UnixListener::bind(path).map(Self::Unix),
            Address::Abstract { name, tight } => {
                UnixListener::bind_addr(&abstract_name(name, *tight)?).map(Self::Unix)
            }
            Address::Vsock { cid, port } => {
                Ok(Self::Vsock(host::vsock::listen(*cid, *port)?, Wake::new()?))
            }
            Address::Handed(number) => Self::adopted(handed(number)?),
        }
    }

    /// Makes [`accept`](Self::accept) fail from now on, also where somebody waits in it.
    ///
    /// # Errors
    /// The host has no more descriptors.
    pub fn close(&self) -> io::Result<()> {
        // A socket that listens is shut down as a connection is.
        let shut = match self {
            Self::Tcp(listener) => {
                TcpStream::from(OwnedFd::from(listener.try_clone()?)).shutdown(Shutdown::Both)
            }
            Self::Unix(listener) => {
                UnixStream::from(OwnedFd::from(listener.try_clone()?)).shutdown(Shutdown::Both)
            }
            Self::Vsock(_, wake) => {
                wake.wake();
                Ok(())
            }
        };
        shut.or_else(|e| if e.kind() == io::ErrorKind::NotConnected { Ok(()) } else { Err(e) })
    }

    /// A socket that listens already, from whoever started the process.
    ///
    /// # Errors
    /// It is no socket of a kind that we serve.
    pub fn adopted(socket: OwnedFd) -> io::Result<Self> {
        if !rustix::net::sockopt::socket_acceptconn(&socket)? {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the socket does not listen"));
        }
        match rustix::net::getsockname(&socket)?.address_family() {
            AddressFamily::INET | AddressFamily::INET6 => Ok(Self::Tcp(socket.into())),
            AddressFamily::UNIX => Ok(Self::Unix(socket.into())),
            AddressFamily::VSOCK => Ok(Self::Vsock(socket, Wake::new()?)),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Waits for a caller.
    ///
    /// # Errors
    /// The host has no more descriptors, or the caller is gone.
    pub fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Self::Unix(listener) => listener.accept().map(|(stream, _)| roomy(stream)),
            Self::Vsock(socket, wake) => {
                let mut both =
                    [PollFd::new(socket, PollFlags::IN), PollFd::new(wake, PollFlags::IN)];
                rustix::event::poll(&mut both, None)?;
                if !both[1].revents().is_empty() {
                    return Err(io::ErrorKind::NotConnected.into());
                }
                let stream = rustix::net::accept_with(socket, SocketFlags::CLOEXEC)?;
                Ok(Stream::Unix(stream.into()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16, export: &str) -> Result<Location, String> {
        let address = Address::Tcp { host: host.to_owned(), port };
        Ok(Location { address, export: export.to_owned() })
    }

    fn unix(path: &str, export: &str) -> Result<Location, String> {
        Ok(Location { address: Address::Unix(path.to_owned()), export: export.to_owned() })
    }

    #[test]
    fn uris_and_older_forms() {
        assert_eq!(Location::parse("nbd://host"), tcp("host", DEFAULT_PORT, ""));
        assert_eq!(Location::parse("nbd://host:5/a%20b"), tcp("host", 5, "a b"));
        assert_eq!(Location::parse("nbd://[::1]:5/x"), tcp("::1", 5, "x"));
        assert_eq!(Location::parse("nbd+unix:///x?socket=/tmp/s"), unix("/tmp/s", "x"));
        assert_eq!(Location::parse("nbd:host:5:exportname=x"), tcp("host", 5, "x"));
        assert_eq!(Location::parse("nbd:unix:/tmp/s"), unix("/tmp/s", ""));
        let vsock = |cid, port, export: &str| {
            Ok(Location { address: Address::Vsock { cid, port }, export: export.to_owned() })
        };
        assert_eq!(Location::parse("nbd+vsock://2:7/x"), vsock(2, 7, "x"));
        assert_eq!(Location::parse("nbd+vsock://3"), vsock(3, 10809, ""));
        for wrong in [
            "nbd+vsock://a",
            "nbd+vsock://1:x",
            "nbd://host:x",
            "nbd+unix:///x",
            "nbd://h/%2",
            "http://x",
        ] {
            assert!(Location::parse(wrong).is_err(), "{wrong}");
        }
    }
}
