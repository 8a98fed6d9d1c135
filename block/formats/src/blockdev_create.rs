//! `blockdev-create`, `x-blockdev-amend` and targets of `drive-mirror`: images made and changed through
//! nodes of the graph.
//!
//! Source: `BlockdevCreateOptions`, `BlockdevAmendOptions` in the "QEMU QMP Reference Manual". A format
//! makes the image as for the tools; its gate knows nothing but the nodes that were named.

use std::sync::Arc;

use graph::{
    Access, Edge, Graph, Image, ImageOptions, Member, Node, OpenError, Permissions, Preallocation,
    Secrets, User,
};
use protocols::FileOptions;

use crate::format::{CreateRequest, FILE_OPTIONS, format_named};
use crate::gate::{Gate, NewFile, Reason};
use crate::keys::{Keys, Style};
use crate::open::{Inherited, Opener};

/// Makes an image: `pairs` are the members of `BlockdevCreateOptions` with dotted keys, `driver` among
/// them.
///
/// # Errors
/// With QEMU's words where scripts know them.
pub fn create_blockdev(
    pairs: Vec<(String, String)>,
    gate: &dyn Gate,
    graph: &Arc<Graph>,
    secrets: &dyn Secrets,
) -> Result<(), OpenError> {
    let mut keys = Keys::new(pairs, Style::Blockdev);
    let driver = keys.take("driver").unwrap_or_default();
    if driver == "file" {
        return create_file(keys, gate);
    }
    let format = format_named(&driver).filter(|format| !format.create_options().is_empty());
    // A raw image is its file.
    let Some(format) = format.filter(|format| format.name() != "raw") else {
        let text = format!("Driver '{driver}' does not support blockdev-create");
        return Err(OpenError::Option(text));
    };
    let mut options = ImageOptions::new(&[format.create_options(), FILE_OPTIONS]);
    let mut opener = Opener::new(gate, graph, secrets);
    let mut nodes = NodeGate { files: Vec::new() };
    let path = nodes.add(&mut opener, &mut keys, "file")?.unwrap_or_default();
    if let Some(data) = nodes.add(&mut opener, &mut keys, "data-file")? {
        options.set("data_file", &data)?;
    }
    for (key, value) in keys.into_pairs() {
        let (name, value) = option_of(&options, &driver, &key, value)?;
        options.set(&name, &value)?;
    }
    let size = options.number("size").unwrap_or(0);
    if !size.is_multiple_of(graph::SECTOR) {
        let text = "Image size must be a multiple of 512 bytes";
        return Err(OpenError::Option(text.to_owned()));
    }
    format.create(&CreateRequest { path: &path, options: &options, gate: &nodes, secrets })
}

/// A file of the host.
fn create_file(mut keys: Keys, gate: &dyn Gate) -> Result<(), OpenError> {
    let path = keys.take("filename").unwrap_or_default();
    let size = keys.take_size("size")?.unwrap_or(0);
    let preallocation = keys.take_name("preallocation", Preallocation::TABLE)?.unwrap_or_default();
    let nocow = keys.take_bool("nocow")?.unwrap_or(false);
    keys.take_size("extent-size-hint")?;
    keys.finish("file")?;
    gate.create(&path, &NewFile { size, preallocation, nocow }).map(drop)
}

/// What the tools call an option that QMP calls `key`.
fn option_of(
    options: &ImageOptions,
    driver: &str,
    key: &str,
    value: String,
) -> Result<(String, String), OpenError> {
    if key == "version" {
        let compat = if value == "v2" { "0.10" } else { "1.1" };
        return Ok(("compat".to_owned(), compat.to_owned()));
    }
    if (driver, key) == ("vdi", "preallocation") {
        let all = if value == "metadata" { "on" } else { "off" };
        return Ok(("static".to_owned(), all.to_owned()));
    }
    let known = |name: &str| options.table().iter().any(|row| row.name == name);
    let name = if known(key) { key.to_owned() } else { key.replace('-', "_") };
    if !known(&name) {
        let what = format!("option '{key}' of blockdev-create");
        return Err(OpenError::NotSupported { path: driver.to_owned(), what });
    }
    Ok((name, value))
}

/// Has the files that were named as nodes, and nothing else.
struct NodeGate {
    files: Vec<(String, Arc<Edge>)>,
}

impl NodeGate {
    /// Takes the node called `key`, by name or by its own options; what the image calls it.
    fn add(
        &mut self,
        opener: &mut Opener<'_>,
        keys: &mut Keys,
        key: &str,
    ) -> Result<Option<String>, OpenError> {
        let member = match (keys.take(key), keys.child(key)) {
            (Some(name), _) => opener.graph.get(&name)?,
            (None, Some(options)) => opener.node(options, &Inherited::default())?,
            (None, None) => return Ok(None),
        };
        let taken = Access::WRITE.with(Access::RESIZE);
        let shared = Access::ALL.without(taken);
        let user = User::Device(String::new());
        let edge = opener.graph.attach(&member, user, Permissions { taken, shared })?;
        let name = member.node().info().filename;
        self.files.push((name.clone(), edge));
        Ok(Some(name))
    }

    fn file(&self, path: &str) -> Result<&Arc<Edge>, OpenError> {
        let found = self.files.iter().find(|(name, _)| name == path);
        let refuse = || OpenError::NotSupported {
            path: path.to_owned(),
            what: "an image of several files made by blockdev-create".to_owned(),
        };
        found.map(|(_, edge)| edge).ok_or_else(refuse)
    }
}

impl Gate for NodeGate {
    fn open(&self, options: &FileOptions, _reason: Reason) -> Result<Arc<dyn Node>, OpenError> {
        self.file(&options.filename).map(|edge| Arc::clone(edge) as Arc<dyn Node>)
    }

    fn temporary(&self) -> Result<Arc<dyn Node>, OpenError> {
        Err(OpenError::Option("no temporary files here".to_owned()))
    }

    fn create(&self, path: &str, new: &NewFile) -> Result<Arc<dyn Node>, OpenError> {
        let edge = self.file(path)?;
        let emptied = edge.truncate(0);
        let sized = emptied.and_then(|()| edge.preallocate(0, new.size, new.preallocation));
        let failed = |source| OpenError::Host {
            operation: format!("{path}: Could not resize '{path}'"),
            source,
        };
        sized.map_err(failed)?;
        Ok(Arc::clone(edge) as Arc<dyn Node>)
    }

    /// The node is there before and stays: nobody removes it on failure.
    fn exists(&self, _path: &str) -> bool {
        true
    }

    fn remove(&self, _path: &str) {}
}

/// Changes options of an open image: `pairs` are the members of `BlockdevAmendOptions` with dotted keys.
///
/// # Errors
/// With QEMU's words where scripts know them.
pub fn amend_blockdev(
    member: &Arc<Member>,
    pairs: Vec<(String, String)>,
    force: bool,
    secrets: &dyn Secrets,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), OpenError> {
    let node = member.node();
    let driver = node.info().driver;
    let mut keys = Keys::new(pairs, Style::Blockdev);
    keys.take("driver");
    // It only says what the other members are.
    keys.take("encrypt.format");
    let amend = node.image().and_then(Image::amend);
    let (Some(format), Some(amend)) = (format_named(driver), amend) else {
        let text = format!("Driver '{driver}' does not support x-blockdev-amend");
        return Err(OpenError::Option(text));
    };
    let mut options = ImageOptions::new(&[format.amend_options()]);
    for (key, value) in keys.into_pairs() {
        if key.starts_with("encrypt.") && !node.info().encrypted {
            let text = "image is not encrypted, can't amend";
            return Err(OpenError::Option(text.to_owned()));
        }
        let (name, value) = option_of(&options, driver, &key, value)?;
        options.set(&name, &value)?;
    }
    amend.apply(&options, force, secrets, progress)
}

/// The image that `drive-mirror` and `drive-backup` write to.
pub struct Target<'a> {
    /// File name.
    pub path: &'a str,
    /// Format; that of the file's content without, if it is there already.
    pub format: Option<&'a str>,
    /// The file is there and stays as it is; else it is made.
    pub existing: bool,
    /// Length of the disk in bytes.
    pub size: u64,
    /// Backing file of a new image, with its format.
    pub backing: Option<(String, &'static str)>,
    /// Name of the node.
    pub node_name: Option<&'a str>,
}

/// Makes such an image, unless it is there already, and opens it. What it lies on stays closed.
///
/// # Errors
/// With QEMU's words where scripts know them.
pub fn open_target(
    target: &Target<'_>,
    gate: &dyn Gate,
    graph: &Arc<Graph>,
    secrets: &dyn Secrets,
) -> Result<Arc<Member>, OpenError> {
    let mut opener = Opener::new(gate, graph, secrets);
    let driver = match target.format {
        Some(format) => format,
        None => opener.guess(target.path, protocols::CacheMode::default())?,
    };
    let Some(format) = format_named(driver) else {
        return Err(OpenError::Option(format!("Unknown driver '{driver}'")));
    };
    if !target.existing {
        let mut options = ImageOptions::new(&[format.create_options(), FILE_OPTIONS]);
        options.set_number("size", target.size)?;
        if let Some((name, driver)) = &target.backing {
            options.set("backing_file", name)?;
            options.set("backing_fmt", driver)?;
        }
        format.create(&CreateRequest { path: target.path, options: &options, gate, secrets })?;
    }
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let mut pairs = vec![
        pair("driver", driver),
        pair("discard", "unmap"),
        pair("file.driver", "file"),
        pair("file.filename", target.path),
    ];
    pairs.extend(target.node_name.map(|name| pair("node-name", name)));
    let inherited = Inherited { without_backing: true, ..Inherited::default() };
    opener.node(Keys::new(pairs, Style::Blockdev), &inherited)
}
