//! The NBD server of the daemon, and exports through it.

use crate::bitmaps::named;
use crate::daemon::{Answer, Daemon, done, io_failed, lock, refusal};
use crate::exports::{Export, clear_socket};
use crypto::{Credentials, Endpoint};
use graph::{Edge, Node};
use jobs::site::{BitmapName, Loan, backing_of};
use nbd::{Address, Exports, Listener, Reception, Stream};
use qmp::{Arguments, Error};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a client may take to choose, unless told otherwise, in seconds.
const HANDSHAKE_LIMIT: u64 = 10;

/// The server.
pub(crate) struct NbdServer {
    shared: Arc<Shared>,
    reception: Arc<Reception>,
    thread: Option<JoinHandle<()>>,
    /// Path of a socket of ours, to be removed at the end.
    path: Option<String>,
}

struct Shared {
    exports: Mutex<Vec<Arc<nbd::Export>>>,
    tls: Option<Arc<Credentials>>,
    limit: Option<Duration>,
}

/// `nbd-server-start`, whose address has its parts in `data`.
pub(crate) fn start_legacy(daemon: &Daemon, arguments: &Arguments) -> Answer {
    let address = arguments.object("addr");
    start(daemon, arguments, address.text("type"), &address.object("data"))
}

/// `--nbd-server`, whose address is flat.
pub(crate) fn start_flat(daemon: &Daemon, arguments: &Arguments) -> Answer {
    let address = arguments.object("addr");
    start(daemon, arguments, address.text("type"), &address)
}

fn start(daemon: &Daemon, arguments: &Arguments, kind: &str, parts: &Arguments) -> Answer {
    let mut server = lock(&daemon.exports.server);
    if server.is_some() {
        return Err(Error::new("NBD server already running"));
    }
    let address = address(kind, parts)?;
    let tls = match arguments.text_if("tls-creds") {
        Some(id) => Some(daemon.objects.tls(id, Endpoint::Server)?),
        None => None,
    };
    if arguments.text_if("tls-authz").is_some() {
        return Err(Error::not_yet("'tls-authz'"));
    }
    let seconds = arguments.size("handshake-max-seconds").unwrap_or(HANDSHAKE_LIMIT);
    let shared = Arc::new(Shared {
        exports: Mutex::default(),
        tls,
        limit: (seconds != 0).then(|| Duration::from_secs(seconds)),
    });
    let most = arguments.size("max-connections").unwrap_or(100);
    *server = Some(NbdServer::listen(&address, shared, most)?);
    done()
}

pub(crate) fn stop(daemon: &Daemon, _: &Arguments) -> Answer {
    let server = lock(&daemon.exports.server).take();
    let server = server.ok_or_else(|| Error::new("NBD server not running"))?;
    daemon.exports.close_kind(daemon, "nbd");
    drop(server);
    done()
}

fn address(kind: &str, parts: &Arguments) -> Result<Address, Error> {
    match kind {
        "inet" => {
            let port = parts.text("port");
            let number = port.parse().map_err(|_| {
                let host = parts.text("host");
                Error::new(format!("address resolution failed for {host}:{port}: Servname not supported for ai_socktype"))
            })?;
            Ok(Address::Tcp { host: parts.text("host").to_owned(), port: number })
        }
        "unix" if parts.switch("abstract") == Some(true) => {
            let tight = parts.switch("tight").unwrap_or(true);
            Ok(Address::Abstract { name: parts.text("path").to_owned(), tight })
        }
        "unix" => Ok(Address::Unix(parts.text("path").to_owned())),
        "vsock" => Address::vsock(parts.text("cid"), parts.text("port")).map_err(Error::new),
        "fd" => Ok(Address::Handed(parts.text("str").to_owned())),
        _ => Err(Error::not_yet(&format!("address type '{kind}'"))),
    }
}

impl NbdServer {
    fn listen(address: &Address, shared: Arc<Shared>, most: u64) -> Result<Self, Error> {
        let path = address.path().map(str::to_owned);
        if let Some(path) = &path {
            clear_socket(path);
        }
        let listener = Listener::bind(address).map_err(|e| Error::new(address.bind_failure(&e)))?;
        let reception = Arc::new(Reception::new(listener, most));
        let (theirs, serving) = (Arc::clone(&shared), Arc::clone(&reception));
        let thread = std::thread::Builder::new().name("nbd-server".into());
        let thread = thread
            .spawn(move || serving.run(&|stream| theirs.serve(stream)))
            .map_err(|error| io_failed("Failed to start the NBD server", &error))?;
        Ok(Self { shared, reception, thread: Some(thread), path })
    }
}

impl Drop for NbdServer {
    fn drop(&mut self) {
        if self.reception.stop().is_ok()
            && let Some(thread) = self.thread.take()
        {
            // A thread that panicked said so itself.
            let _ = thread.join();
        }
        if let Some(path) = &self.path {
            // Somebody else may have removed it.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Shared {
    fn serve(&self, stream: Stream) {
        let mut exports = Exports::of(lock(&self.exports).clone());
        if let Some(own) = &self.tls {
            exports = exports.with_tls(Arc::clone(own));
        }
        // A client that breaks the protocol or the connection harms only itself.
        let _ = nbd::serve(&exports, stream, self.limit);
    }
}

/// An export through the server.
struct Offered {
    shared: Arc<Shared>,
    export: Arc<nbd::Export>,
}

/// Opens an export of kind `nbd`.
pub(crate) fn open(
    daemon: &Daemon,
    arguments: &Arguments,
    edge: &Arc<Edge>,
) -> Result<Box<dyn Export>, Error> {
    let server = lock(&daemon.exports.server);
    let server = server.as_ref().ok_or_else(|| Error::new("NBD server not running"))?;
    let name = arguments.text_if("name").unwrap_or(arguments.text("node-name"));
    if name.len() > 4096 {
        return Err(Error::new(format!("export name '{name}' too long")));
    }
    let mut exports = lock(&server.shared.exports);
    if exports.iter().any(|export| export.name() == name) {
        return Err(Error::new(format!("NBD server already has export named '{name}'")));
    }
    let description = arguments.text("description");
    if description.len() > 4096 {
        return Err(Error::new(format!("description '{description}' too long")));
    }
    let writable = arguments.switch("writable").unwrap_or(false);
    let node = Arc::clone(edge) as Arc<dyn Node>;
    let mut export = nbd::Export::new(name, description, node, writable, true);
    if arguments.switch("allocation-depth") == Some(true) {
        export = export.with_allocation_depth();
    }
    let mut lent: Vec<Loan> = Vec::new();
    for bitmap in arguments.list("bitmaps").iter().map(named) {
        let again = |loan: &Loan| loan.name() == bitmap.name;
        if !lent.iter().any(again) {
            lent.push(lend(daemon, edge, &bitmap, writable)?);
        }
    }
    let export = lent.into_iter().fold(export, nbd::Export::with_borrowed);
    let export = Arc::new(export);
    exports.push(Arc::clone(&export));
    Ok(Box::new(Offered { shared: Arc::clone(&server.shared), export }))
}

/// A bitmap that an export shows: of the node that is named with it, else of the exported node or of
/// one that it lies on.
fn lend(
    daemon: &Daemon,
    edge: &Arc<Edge>,
    bitmap: &BitmapName,
    writable: bool,
) -> Result<Loan, Error> {
    let (bitmaps, name) = (&daemon.site.bitmaps, &bitmap.name);
    let loan = match &bitmap.node {
        Some(node) => {
            let missing = || Error::new(format!("Node '{node}' not found"));
            let member = daemon.graph().named(node).ok_or_else(missing)?;
            let missing = || Error::new(format!("Dirty bitmap '{name}' not found"));
            bitmaps.borrow(&member, name).map_err(refusal)?.ok_or_else(missing)?
        }
        None => {
            let mut at = edge.target();
            loop {
                let missing = || Error::new(format!("Bitmap '{name}' is not found"));
                let member = at.ok_or_else(missing)?;
                if let Some(loan) = bitmaps.borrow(&member, name).map_err(refusal)? {
                    break loan;
                }
                at = backing_of(&member);
            }
        }
    };
    if !writable && loan.recording() && !loan.member().node().read_only() {
        let text = format!("Enabled bitmap '{name}' incompatible with readonly export");
        return Err(Error::new(text));
    }
    Ok(loan)
}

impl Offered {
    fn withdraw(&self) {
        lock(&self.shared.exports).retain(|export| !Arc::ptr_eq(export, &self.export));
    }
}

impl Export for Offered {
    fn close_if_unused(&self) -> bool {
        let closed = self.export.close_if_unused();
        if closed {
            self.withdraw();
        }
        closed
    }

    fn close(&self) {
        self.withdraw();
        self.export.disconnect();
    }
}
