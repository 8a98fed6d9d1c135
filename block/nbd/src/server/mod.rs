//! Gives others access to nodes.

mod handshake;
mod reception;
mod transmission;

pub use reception::Reception;

use crate::address::Stream;
use crate::meta::{Context, bitmaps};
use crate::wire::ability;
use crypto::Credentials;
use graph::Node;
use jobs::site::Loan;
use std::collections::BTreeMap;
use std::io::{self, BufReader};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A node that is offered.
pub struct Export {
    name: String,
    description: String,
    node: Arc<dyn Node>,
    writable: bool,
    /// Several clients at a time see each other's writes, flushed ones at the latest.
    multiple: bool,
    contexts: Vec<Context>,
    /// What is asked about ranges, and where the export begins in it.
    whole: (Arc<dyn Node>, u64),
    clients: Mutex<Clients>,
    left: Condvar,
}

/// Clients that chose an export.
#[derive(Default)]
struct Clients {
    connections: BTreeMap<u64, Stream>,
    next: u64,
    /// No more are taken.
    closed: bool,
}

impl Export {
    /// Offers a node under a name; for reading only unless `writable`, and to several clients at a
    /// time if `multiple`.
    pub fn new(
        name: &str,
        description: &str,
        node: Arc<dyn Node>,
        writable: bool,
        multiple: bool,
    ) -> Self {
        let writable = writable && !node.read_only();
        let (name, description) = (name.to_owned(), description.to_owned());
        let contexts = vec![Context::Allocation];
        let (clients, left) = Default::default();
        let whole = (Arc::clone(&node), 0);
        Self { name, description, node, writable, multiple, contexts, whole, clients, left }
    }

    /// The export is a part of an image: ranges are looked up there, from `start` on. A window onto an
    /// image cannot tell what comes from the image's backing file.
    #[must_use]
    pub fn within(self, image: Arc<dyn Node>, start: u64) -> Self {
        Self { whole: (image, start), ..self }
    }

    /// What a context knows from `offset` on.
    fn extent(&self, context: &Context, offset: u64, len: u64) -> io::Result<(u64, u64)> {
        let (image, start) = &self.whole;
        context.extent(image, start + offset, len)
    }

    /// Tells which layer of a backing chain has each range (`qemu:allocation-depth`).
    #[must_use]
    pub fn with_allocation_depth(mut self) -> Self {
        self.contexts.push(Context::Depth);
        self
    }

    /// Tells which ranges a dirty bitmap has noted (`qemu:dirty-bitmap:NAME`).
    ///
    /// # Errors
    /// `NotFound` if the image has no such bitmap, `InvalidData` if its bits mean nothing.
    pub fn with_bitmap(mut self, name: &str) -> io::Result<Self> {
        bitmaps(&*self.whole.0).ok_or(io::ErrorKind::NotFound)?.next_dirty(name, 0)?;
        self.contexts.push(Context::Bitmap(name.to_owned()));
        Ok(self)
    }

    /// The same of a bitmap that is lent for as long as the export exists.
    #[must_use]
    pub fn with_borrowed(mut self, bitmap: Loan) -> Self {
        self.contexts.push(Context::Borrowed(Arc::new(bitmap)));
        self
    }

    /// The name that clients ask for.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its length in bytes.
    pub fn size(&self) -> u64 {
        self.node.size()
    }

    /// The flags of transmission, which say what clients can do.
    pub fn flags(&self) -> u16 {
        self.abilities()
    }

    /// Serves a client that has this export already and knows simple replies only, as the kernel's.
    ///
    /// # Errors
    /// The connection broke, or the client does not keep to the protocol.
    pub fn serve_kernel(&self, mut stream: Stream) -> io::Result<()> {
        let agreed = handshake::Agreed::without_negotiation(self, &stream)?;
        let to = stream.duplicate()?;
        let done = transmission::run(&agreed, BufReader::with_capacity(64 << 10, &mut stream), to);
        stream.shut_down();
        done
    }

    fn clients(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes no more clients, unless there are some now; whether it does.
    pub fn close_if_unused(&self) -> bool {
        let mut clients = self.clients();
        clients.closed |= clients.connections.is_empty();
        clients.closed
    }

    /// Takes no more clients, sends those away that are there, and waits until their last requests
    /// are done.
    pub fn disconnect(&self) {
        let mut clients = self.clients();
        clients.closed = true;
        clients.connections.values().for_each(Stream::shut_down);
        while !clients.connections.is_empty() {
            clients = self.left.wait(clients).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Notes a client, until the result is dropped.
    fn enter(&self, stream: &Stream) -> io::Result<Client<'_>> {
        let mut clients = self.clients();
        if clients.closed {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the export is gone"));
        }
        let number = clients.next;
        clients.next += 1;
        clients.connections.insert(number, stream.duplicate()?);
        Ok(Client { export: self, number })
    }

    /// What clients are told that they can do.
    fn abilities(&self) -> u16 {
        let always = ability::HAS_FLAGS | ability::FLUSH | ability::FUA | ability::CACHE;
        let writing =
            if self.writable { ability::TRIM | ability::WRITE_ZEROES } else { ability::READ_ONLY };
        let multiple = if self.multiple { ability::MULTIPLE } else { 0 };
        always | writing | multiple
    }
}

/// A client that chose an export.
struct Client<'a> {
    export: &'a Export,
    number: u64,
}

impl Drop for Client<'_> {
    fn drop(&mut self) {
        self.export.clients().connections.remove(&self.number);
        self.export.left.notify_all();
    }
}

/// What a server offers.
#[derive(Default)]
pub struct Exports {
    list: Vec<Arc<Export>>,
    /// Clients must use TLS before they are told anything.
    tls: Option<Arc<Credentials>>,
}

impl Exports {
    /// One export or more.
    pub fn new(list: Vec<Export>) -> Self {
        Self::of(list.into_iter().map(Arc::new).collect())
    }

    /// Exports that others know, too.
    pub fn of(list: Vec<Arc<Export>>) -> Self {
        Self { list, tls: None }
    }

    /// Tells nothing to clients that do not use TLS.
    #[must_use]
    pub fn with_tls(self, own: Arc<Credentials>) -> Self {
        Self { tls: Some(own), ..self }
    }

    fn named(&self, name: &str) -> Option<&Export> {
        self.list.iter().find(|export| export.name == name).map(|export| &**export)
    }
}

/// Serves one client until it leaves. It must have chosen an export within `limit`.
///
/// # Errors
/// The connection broke, or the client does not keep to the protocol.
pub fn serve(exports: &Exports, mut stream: Stream, limit: Option<Duration>) -> io::Result<()> {
    stream.set_patience(limit)?;
    let Some(agreed) = handshake::run(exports, &mut stream)? else { return Ok(()) };
    let to = stream.duplicate()?;
    stream.set_patience(None)?;
    let done = transmission::run(&agreed, BufReader::with_capacity(64 << 10, &mut stream), to);
    stream.shut_down();
    done
}
