//! Exports of kind `vhost-user-blk`: a node as the disk of a machine in another process.

use crate::daemon::{Daemon, io_failed};
use crate::exports::{Export, clear_socket};
use graph::{Disk, DiskOptions, Edge, Executor, Hook, Member};
use options::parse_number;
use qmp::{Arguments, Error};
use rustix::net::{AddressFamily, getsockname};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex, PoisonError};
use vhost::{Server, Teller};
use virtio::blk::{Blk, Config};
use virtio::{RingOptions, VirtioDevice};

/// What drivers are told when they ask for the serial number.
const SERIAL: &str = "vhost_user_blk";
/// Threads that serve one export.
const THREADS: usize = 16;
/// Sectors of a discard, or of zeroes, at most.
const MAX_SECTORS: u32 = 32768;

/// What the export is to be, apart from where.
#[derive(Clone)]
struct Manner {
    queues: u16,
    logical_block: u32,
    options: DiskOptions,
}

struct Lent {
    server: Mutex<Option<Server>>,
    /// Path of a socket of ours, to be removed at the end.
    path: Option<String>,
    graph: Arc<graph::Graph>,
    watched: Option<(Arc<Member>, Arc<dyn Hook>)>,
}

/// Tells the machine when the disk has another length.
struct Lengths(Teller);

impl Hook for Lengths {
    fn resized(&self, _size: u64) {
        self.0.config_changed();
    }
}

impl Export for Lent {
    /// A machine that uses it does not keep it, as with the peer.
    fn close_if_unused(&self) -> bool {
        true
    }

    fn close(&self) {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        if server.is_none() {
            return;
        }
        if let Some((member, hook)) = &self.watched {
            self.graph.remove_hook(member, hook);
        }
        drop(server);
        if let Some(path) = &self.path {
            // Somebody else may have removed it.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Lends the node to whoever connects.
pub(crate) fn open(
    daemon: &Daemon,
    arguments: &Arguments,
    edge: &Arc<Edge>,
) -> Result<Box<dyn Export>, Error> {
    let manner = manner(arguments)?;
    let (listener, path) = listen(&arguments.object("addr"))?;
    let executor = Executor::new("vhost-user-blk", THREADS);
    let below = Arc::clone(edge);
    let device = move || device(&below, &executor, &manner);
    let id = arguments.text("id").to_owned();
    let complain =
        move |text: &str| eprintln!("qemu-storage-daemon: vhost-user export '{id}': {text}");
    let server = Server::start(listener, Box::new(device), Box::new(complain))
        .map_err(|error| io_failed("Failed to start the vhost-user server", &error))?;
    let watched = edge.target().map(|member| {
        let hook: Arc<dyn Hook> = Arc::new(Lengths(server.teller()));
        daemon.graph().add_hook(&member, Arc::clone(&hook));
        (member, hook)
    });
    let graph = Arc::clone(daemon.graph());
    Ok(Box::new(Lent { server: Mutex::new(Some(server)), path, graph, watched }))
}

fn manner(arguments: &Arguments) -> Result<Manner, Error> {
    let block = arguments.size("logical-block-size").unwrap_or(512);
    if !block.is_power_of_two() || !(512..=2 << 20).contains(&block) {
        return Err(Error::new(
            "parameter logical-block-size must be a power of 2 between 512 and 2097152",
        ));
    }
    let queues = arguments.size("num-queues").unwrap_or(1);
    if queues == 0 {
        return Err(Error::new("num-queues must be greater than 0"));
    }
    let options = DiskOptions {
        read_only: arguments.switch("writable") != Some(true),
        write_cache: arguments.switch("writethrough") != Some(true),
        ..DiskOptions::default()
    };
    Ok(Manner { queues: queues as u16, logical_block: block as u32, options })
}

/// The disk for one machine.
fn device(edge: &Arc<Edge>, executor: &Arc<Executor>, manner: &Manner) -> Box<dyn VirtioDevice> {
    let disk = Disk::on(Arc::clone(edge), &manner.options);
    let block = manner.logical_block;
    let config = Config {
        rings: RingOptions { queue_reset: false, ..RingOptions::default() },
        serial: SERIAL.to_owned(),
        num_queues: manner.queues,
        logical_block: block,
        physical_block: block,
        min_io: block,
        opt_io: block,
        discard_granularity: block,
        max_discard_sectors: MAX_SECTORS,
        max_write_zeroes_sectors: MAX_SECTORS,
        seg_max_adjust: false,
        ..Config::new(Arc::new(disk), Arc::clone(executor))
    };
    Box::new(Blk::new(config))
}

/// The socket that machines connect to, and its path if it is to be removed again.
fn listen(address: &Arguments) -> Result<(UnixListener, Option<String>), Error> {
    match address.text("type") {
        "unix" if address.switch("abstract") == Some(true) => {
            Err(Error::not_yet("abstract socket names"))
        }
        "unix" => {
            let path = address.text("path");
            clear_socket(path);
            let listener = UnixListener::bind(path).map_err(|error| match error.kind() {
                io::ErrorKind::InvalidInput => {
                    Error::new(format!("UNIX socket path '{path}' is too long"))
                }
                _ => io_failed(&format!("Failed to bind socket to {path}"), &error),
            })?;
            Ok((listener, Some(path.to_owned())))
        }
        "fd" => Ok((inherited(address.text("str"))?, None)),
        _ => Err(Error::new("Only socket address types 'unix' and 'fd' are supported")),
    }
}

/// A socket that listens already, from whoever started the daemon.
fn inherited(text: &str) -> Result<UnixListener, Error> {
    let number = parse_number(text).and_then(|number| i32::try_from(number).ok());
    let number = number.ok_or_else(|| Error::new(format!("Unable to parse FD number {text}")))?;
    let wrong = || Error::new(format!("File descriptor '{text}' is not a socket"));
    let socket: OwnedFd = host::inherited::adopt(number).map_err(|_| wrong())?;
    match getsockname(&socket) {
        Ok(name) if name.address_family() == AddressFamily::UNIX => Ok(socket.into()),
        _ => Err(wrong()),
    }
}
