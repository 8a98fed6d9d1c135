//! What the files below a chain's layers know: clusters that were reserved and never written are zeroes.

use graph::{ExtentKind, Node, Role, Status, status_above};
use std::io;
use std::sync::Arc;

/// The file that holds the clusters of a layer.
pub struct Store {
    layer: Arc<dyn Node>,
    file: Arc<dyn Node>,
    filename: String,
    /// Clusters may have been reserved without being written: the file has to be asked.
    sparse: bool,
}

impl Store {
    fn new(layer: &Arc<dyn Node>) -> Option<Self> {
        let file = file_of(&**layer)?;
        let info = file.info();
        // Asking costs a system call for each answer; a tenth that is missing can be tables' ends. What
        // a raw image says of itself comes from the file already.
        let sparse = info.allocated.is_none_or(|bytes| bytes < file.size() / 10 * 9)
            && layer.info().driver != "raw";
        Some(Self { layer: Arc::clone(layer), file, filename: info.filename, sparse })
    }

    /// The file's name.
    pub fn filename(&self) -> &str {
        &self.filename
    }

    /// How many of the bytes from `at` on share an answer, and whether it is that nothing was ever
    /// written there.
    fn is_hole(&self, at: u64, len: u64) -> io::Result<(u64, bool)> {
        let size = self.file.size();
        if at >= size {
            return Ok((len, true));
        }
        if !self.sparse {
            return Ok((len.min(size - at), false));
        }
        let extent = self.file.block_status(at, len.min(size - at))?;
        Ok((extent.len, extent.kind == ExtentKind::Zero))
    }
}

/// What the child with the content of a node can be to it, in the order in which to look.
const STORED: &[Role] = &[Role::Data, Role::File, Role::Named("image"), Role::Named("raw")];

/// The child that host offsets are in, if there is only one that they can be in.
fn file_of(layer: &dyn Node) -> Option<Arc<dyn Node>> {
    let children = layer.children();
    let mut extents = children.iter().filter(|child| matches!(child.role, Role::Extent(_)));
    let of = |role| children.iter().find(move |child| child.role == role);
    let file = match (extents.next(), extents.next()) {
        (None, _) => STORED.iter().find_map(|role| of(*role)),
        (only, None) => only,
        _ => None,
    };
    file.map(|child| Arc::clone(&child.node))
}

/// The files of the layers that were met so far.
#[derive(Default)]
pub struct Stores(Vec<Arc<Store>>);

impl Stores {
    /// What [`status_above`] says, but for stored clusters that are holes in their file: they are of kind
    /// `Zero`, with the extent of their layer as it is.
    ///
    /// # Errors
    /// As for [`status_above`].
    pub fn status(
        &mut self,
        top: &Arc<dyn Node>,
        base: Option<&Arc<dyn Node>>,
        offset: u64,
        len: u64,
    ) -> io::Result<Status> {
        let status = status_above(top, base, offset, len)?;
        match self.place(&status) {
            Some((at, store)) if status.kind == ExtentKind::Data => {
                let (len, hole) = store.is_hole(at, status.len)?;
                Ok(Status {
                    len,
                    kind: if hole { ExtentKind::Zero } else { status.kind },
                    ..status
                })
            }
            _ => Ok(status),
        }
    }

    /// Where the bytes of a range are, if they are in one file as they are.
    pub fn place(&mut self, status: &Status) -> Option<(u64, Arc<Store>)> {
        let at = status.extent.host_offset?;
        let known = self.0.iter().find(|store| Arc::ptr_eq(&store.layer, &status.node));
        let store = match known {
            Some(known) => Arc::clone(known),
            None => {
                let store = Arc::new(Store::new(&status.node)?);
                self.0.push(Arc::clone(&store));
                store
            }
        };
        Some((at, store))
    }
}
