//! What a monitor does with the nodes of a graph: `blockdev-add` to `block_resize`.
//!
//! Checks and texts are those of qemu-storage-daemon 10.0.2, asked command by command.

use std::sync::Arc;

use graph::{Graph, ImageOptions, Member, OpenError, Operation, Role, Secrets, host_text};

use crate::drive::{add_blockdev, mode_of};
use crate::format::{CreateRequest, FILE_OPTIONS, format_named};
use crate::gate::Gate;

/// Nodes as a monitor manages them.
pub struct Manager<'a> {
    /// The nodes.
    pub graph: &'a Arc<Graph>,
    /// Opens and makes files.
    pub gate: &'a dyn Gate,
    /// Where passphrases come from.
    pub secrets: &'a dyn Secrets,
}

/// `blockdev-snapshot-sync`.
#[derive(Clone, Debug, Default)]
pub struct SnapshotSync {
    /// The node, or the device above it, that gets an overlay.
    pub node: String,
    /// It was called by the name of a node, so that the overlay must have one, too.
    pub by_node_name: bool,
    /// Name of the new node.
    pub snapshot_node_name: Option<String>,
    /// File of the overlay.
    pub snapshot_file: String,
    /// Its format; `qcow2` without.
    pub format: Option<String>,
    /// The file is there and says itself what is below (`mode=existing`).
    pub existing: bool,
}

pub(crate) fn refuse<T>(text: impl Into<String>) -> Result<T, OpenError> {
    Err(OpenError::Option(text.into()))
}

impl Manager<'_> {
    /// `blockdev-add`: opens what `pairs` describe.
    ///
    /// # Errors
    /// With QEMU's words where scripts know them.
    pub fn add(&self, pairs: Vec<(String, String)>) -> Result<Arc<Member>, OpenError> {
        add_blockdev(pairs, self.gate, self.graph, self.secrets)
    }

    /// `blockdev-del`.
    ///
    /// # Errors
    /// See [`Graph::remove`].
    pub fn remove(&self, name: &str) -> Result<(), OpenError> {
        self.graph.remove(name)
    }

    /// `blockdev-snapshot`: puts `overlay`, which was opened without a backing file, on `node`.
    ///
    /// # Errors
    /// `Option` when one of the two does not allow it.
    pub fn snapshot(&self, node: &str, overlay: &str) -> Result<(), OpenError> {
        let below = self.graph.get(node)?;
        self.graph.check_blocked(&below, Operation::ExternalSnapshot)?;
        let above = self.graph.get(overlay)?;
        self.append(&above, &below)
    }

    fn append(&self, above: &Arc<Member>, below: &Arc<Member>) -> Result<(), OpenError> {
        if above.parents().iter().any(|edge| edge.parent().is_none()) {
            return refuse("The overlay is already in use");
        }
        self.graph.check_blocked(above, Operation::ExternalSnapshot)?;
        let is_backing = |edge: &Arc<graph::Edge>| *edge.user() == graph::User::Node(Role::Backing);
        match above.children().into_iter().find(is_backing) {
            None => return refuse("The overlay does not support backing images"),
            Some(edge) if edge.target().is_some() => {
                return refuse("The overlay already has a backing image");
            }
            Some(_) => {}
        }
        if !below.node().read_only() {
            let failed = |source| OpenError::Host {
                operation: format!("Could not flush node '{}'", below.name()),
                source,
            };
            below.node().flush().map_err(failed)?;
        }
        self.graph.append(above, below)
    }

    /// `blockdev-snapshot-sync`: makes an overlay in a new file and puts it on a node. It lives as
    /// long as somebody uses it.
    ///
    /// # Errors
    /// `Option` when the node or the format does not allow it; the host's.
    pub fn snapshot_sync(&self, what: &SnapshotSync) -> Result<(), OpenError> {
        let Some(below) = self.graph.named(&what.node) else {
            let (device, node) =
                if what.by_node_name { ("", &*what.node) } else { (&*what.node, "") };
            return refuse(format!("Cannot find device='{device}' nor node-name='{node}'"));
        };
        self.graph.check_blocked(&below, Operation::ExternalSnapshot)?;
        match &what.snapshot_node_name {
            None if what.by_node_name => return refuse("New overlay node-name missing"),
            Some(name) if self.graph.named(name).is_some() => {
                return refuse("New overlay node-name already in use");
            }
            _ => {}
        }
        let format = what.format.as_deref().unwrap_or("qcow2");
        if !what.existing {
            self.make_overlay(&below, format, &what.snapshot_file)?;
        }
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let mut pairs = vec![
            pair("driver", format),
            pair("file.driver", "file"),
            pair("file.filename", &what.snapshot_file),
            pair("backing", "null"),
        ];
        pairs.extend(what.snapshot_node_name.iter().map(|name| pair("node-name", name)));
        pairs.extend(mode_of(&below.options()));
        let above = crate::drive::open_node(pairs, self.gate, self.graph, self.secrets)?;
        self.append(&above, &below)
    }

    fn make_overlay(&self, below: &Arc<Member>, format: &str, path: &str) -> Result<(), OpenError> {
        let Some(found) = format_named(format) else {
            return refuse(format!("Unknown file format '{format}'"));
        };
        let table = found.create_options();
        let mut options = ImageOptions::new(&[table, FILE_OPTIONS]);
        if !table.iter().any(|row| row.name == "backing_file") {
            return refuse(format!("Backing file not supported for file format '{format}'"));
        }
        let info = below.node().info();
        options.set_number("size", below.node().size())?;
        options.set("backing_file", &info.filename)?;
        if table.iter().any(|row| row.name == "backing_fmt") {
            options.set("backing_fmt", info.driver)?;
        }
        let (gate, secrets) = (self.gate, self.secrets);
        found.create(&CreateRequest { path, options: &options, gate, secrets }).map_err(|error| {
            let text = error.to_string();
            let text = text.strip_prefix(&format!("{path}: ")).unwrap_or(&text).to_owned();
            OpenError::Option(text)
        })
    }

    /// `change-backing-file`: records another backing file in an image of the chain of `device`.
    ///
    /// # Errors
    /// `Option` when the image is not in that chain or has no backing file; the host's.
    pub fn change_backing_file(
        &self,
        device: &str,
        image: &str,
        backing_file: &str,
    ) -> Result<(), OpenError> {
        let top = self.graph.get(device)?;
        let Some(member) = self.graph.named(image) else {
            return refuse(format!("Cannot find device='' nor node-name='{image}'"));
        };
        let Some((below, _)) = self.graph.facts(&member).backing else {
            return refuse("not allowing backing file change on an image without a backing file");
        };
        self.graph.check_blocked(&member, Operation::Change)?;
        let mut at = Some(Arc::clone(&top));
        while let Some(here) = at.take_if(|here| !Arc::ptr_eq(here, &member)) {
            let backing = self.graph.facts(&here).backing;
            at = backing.and_then(|(name, _)| self.graph.named(&name));
        }
        if at.is_none() {
            return refuse(format!("'{device}' and image file are not in the same chain"));
        }
        let format = self.graph.get(&below)?.node().info().driver;
        let drained = self.graph.drain(&member);
        let node = member.node();
        let overlay = node.image().and_then(graph::Image::overlay);
        let done = match overlay {
            Some(overlay) => overlay.record_backing(Some(backing_file), Some(format)),
            None => Err(std::io::ErrorKind::Unsupported.into()),
        };
        drop(drained);
        done.map_err(|source| OpenError::Host {
            operation: format!("Could not change backing file to '{backing_file}'"),
            source,
        })
    }

    /// `x-blockdev-change`: adds a child to a node or takes one away.
    ///
    /// # Errors
    /// As [`Graph::add_child`] and [`Graph::remove_child`].
    pub fn change_children(
        &self,
        parent: &str,
        child: Option<&str>,
        node: Option<&str>,
    ) -> Result<(), OpenError> {
        let member = self.graph.get(parent)?;
        match (child, node) {
            (Some(_), Some(_)) => refuse("The parameters child and node are in conflict"),
            (None, None) => refuse("Either child or node must be specified"),
            (Some(child), None) => self.graph.remove_child(&member, child),
            (None, Some(node)) => match self.graph.named(node) {
                Some(target) => self.graph.add_child(&member, &target),
                None => refuse(format!("Node '{node}' not found")),
            },
        }
    }

    /// `block_resize`: gives the disk of a node `size` bytes.
    ///
    /// # Errors
    /// `Option` for a bad size, a node that is in use otherwise or read-only; the host's.
    pub fn resize(&self, name: &str, size: i64) -> Result<(), OpenError> {
        let member = self.graph.get(name)?;
        let size = match u64::try_from(size) {
            Err(_) => return refuse("Parameter 'size' expects a >0 size"),
            Ok(size) if size % graph::SECTOR != 0 => {
                return refuse("The new size must be a multiple of 512");
            }
            Ok(size) => size,
        };
        self.graph.check_blocked(&member, Operation::Resize)?;
        let needs = graph::Permissions { taken: graph::Access::RESIZE, shared: graph::Access::ALL };
        let edge = self.graph.attach(&member, graph::User::Device(String::new()), needs)?;
        if member.node().read_only() {
            return refuse("Image is read-only");
        }
        let done = self.graph.resize(&member, size);
        drop(edge);
        done.map_err(|error| {
            let fixed = error.kind() == std::io::ErrorKind::Unsupported
                && host_text(&error) == graph::FIXED_LENGTH;
            let text = if fixed {
                "Image format driver does not support resize".to_owned()
            } else {
                host_text(&error)
            };
            OpenError::Option(text)
        })
    }

    /// `block-set-write-threshold`: see [`Graph::set_write_threshold`].
    ///
    /// # Errors
    /// `Option` when there is no such node.
    pub fn set_write_threshold(
        &self,
        name: &str,
        offset: u64,
        tell: impl Fn(u64, u64) + Send + Sync + 'static,
    ) -> Result<(), OpenError> {
        let Some(member) = self.graph.named(name) else {
            return refuse(format!("Device '{name}' not found"));
        };
        self.graph.set_write_threshold(&member, offset, tell);
        Ok(())
    }
}
