//! Gives others access to nodes.

mod handshake;
mod transmission;

use crate::address::Stream;
use crate::meta::{Context, bitmaps};
use crate::wire::ability;
use crypto::Credentials;
use graph::Node;
use std::io::{self, BufReader};
use std::sync::Arc;
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
        Self { name, description, node, writable, multiple, contexts }
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
        bitmaps(&*self.node).ok_or(io::ErrorKind::NotFound)?.next_dirty(name, 0)?;
        self.contexts.push(Context::Bitmap(name.to_owned()));
        Ok(self)
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

/// What a server offers.
#[derive(Default)]
pub struct Exports {
    list: Vec<Export>,
    /// Clients must use TLS before they are told anything.
    tls: Option<Arc<Credentials>>,
}

impl Exports {
    /// One export or more.
    pub fn new(list: Vec<Export>) -> Self {
        Self { list, tls: None }
    }

    /// Tells nothing to clients that do not use TLS.
    #[must_use]
    pub fn with_tls(self, own: Arc<Credentials>) -> Self {
        Self { tls: Some(own), ..self }
    }

    fn named(&self, name: &str) -> Option<&Export> {
        self.list.iter().find(|export| export.name == name)
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
