//! What a character back end is, as data.

/// A character back end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Its id; `serial0`, `compat_monitor0` … for implied ones.
    pub id: String,
    /// What it is.
    pub backend: Backend,
    /// Whether several front ends share it, with the escape character to switch between them.
    pub mux: bool,
    /// File that takes a copy of the output.
    pub logfile: Option<String>,
    /// Whether that file is appended to.
    pub logappend: bool,
    /// The option as written, for messages; empty when there was none.
    pub origin: String,
}

impl Config {
    /// A back end of the given kind, without mux and log.
    pub fn new(id: &str, backend: Backend) -> Self {
        let (id, origin) = (id.to_owned(), String::new());
        Self { id, backend, mux: false, logfile: None, logappend: false, origin }
    }
}

/// Kinds of character back ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Swallows output, gives no input.
    Null,
    /// The terminal.
    Stdio {
        /// Whether Ctrl-C and its like stop the emulator instead of reaching the guest.
        signal: bool,
    },
    /// A file.
    File {
        /// Takes the output.
        path: String,
        /// Gives the input.
        input: Option<String>,
        /// Whether `path` is appended to.
        append: bool,
    },
    /// A pair of named pipes `path.in` and `path.out`, or one at `path`.
    Pipe {
        /// Where they are.
        path: String,
    },
    /// A new pseudo-terminal.
    Pty {
        /// Symbolic link to it.
        link: Option<String>,
    },
    /// A stream socket.
    Socket(Socket),
    /// Datagrams.
    Udp {
        /// Where output goes.
        remote: String,
        /// Where input is taken from.
        local: Option<String>,
    },
    /// Memory that keeps the last output.
    Ringbuf {
        /// Its size in bytes, a power of two.
        size: u64,
    },
    /// A serial port of the host.
    Serial {
        /// Its device file.
        path: String,
    },
    /// A parallel port of the host.
    Parallel {
        /// Its device file.
        path: String,
    },
    /// A console in the display's window.
    Console,
}

/// A stream socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Where.
    pub address: SocketAddress,
    /// Whether it listens.
    pub server: bool,
    /// Whether start waits for a client (servers only).
    pub wait: bool,
    /// Whether the telnet protocol is spoken.
    pub telnet: bool,
    /// Whether small writes are sent at once.
    pub nodelay: bool,
    /// Milliseconds between attempts to connect again; 0 for none.
    pub reconnect_ms: u64,
}

/// Address of a stream socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketAddress {
    /// Host and port of TCP.
    Tcp {
        /// Host; empty for any.
        host: String,
        /// Port number or service name.
        port: String,
        /// Highest port to try when listening.
        to: Option<u16>,
    },
    /// Path of a Unix socket.
    Unix {
        /// The path.
        path: String,
        /// Whether it is a name outside the file system.
        is_abstract: bool,
    },
    /// A descriptor that was handed over.
    Fd(String),
}
