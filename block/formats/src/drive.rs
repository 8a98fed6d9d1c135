//! `-drive` and `-blockdev`: from options to a disk.
//!
//! Decision: `-drive` is translated to the dotted keys of `-blockdev` and both are opened by the
//! same code; only the words of complaints differ.

use std::sync::Arc;

use graph::{
    Aio, DetectZeroes, Disk, DiskOptions, Graph, Member, NewMember, Node, NodeKind, OpenError,
    Permissions, Role, Secrets, User, throttle,
};
use protocols::{CacheMode, File, Locking};

use crate::gate::Gate;
use crate::image::described_in_json;
use crate::keys::{Keys, Style};
use crate::open::{DETECT_ZEROES, DISCARD, Inherited, NATIVE_WANTS_DIRECT, Opener, known, not_yet};
use crate::qcow2::{self, CreateOptions, Qcow2};
use crate::remote;

/// The keys of `-drive` that concern the image. Those about the device (`if`, `index`, `unit`,
/// `media`, `id`, `werror`, …) are the caller's.
#[derive(Clone, Debug, Default)]
pub struct DriveOptions {
    /// Image; an empty drive without.
    pub file: Option<String>,
    /// Format; guessed from the content without, with a warning and restrictions if it is raw.
    pub format: Option<String>,
    /// Writes are refused. `None` is off, but a file that only allows reading is opened so.
    pub read_only: Option<bool>,
    /// Cache mode.
    pub cache: CacheMode,
    /// How requests of its files are carried out, unless these say otherwise.
    pub aio: Aio,
    /// Discards take effect.
    pub discard: bool,
    /// What happens to writes of zeroes.
    pub detect_zeroes: DetectZeroes,
    /// Writes go to a temporary overlay that is gone at the end.
    pub snapshot: bool,
    /// What is read from backing files is kept in the image.
    pub copy_on_read: bool,
    /// The group whose limits hold for its requests.
    pub throttle: Option<Arc<throttle::Group>>,
    /// Everything else, handed to the drivers (`file.locking`, `l2-cache-size`, …).
    pub other: Vec<(String, String)>,
}

impl DriveOptions {
    /// Takes the keys of an image out of `pairs`.
    ///
    /// # Errors
    /// `Option` with QEMU's text for a value that cannot be.
    pub fn parse(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Self, OpenError> {
        let mut keys = Keys::new(pairs, Style::Drive);
        let refuse = |text: &str| OpenError::Option(text.to_owned());
        let mut options = Self {
            file: keys.take("file").filter(|f| !f.is_empty()),
            format: keys.take_any(&["format", "driver"]),
            read_only: match keys.take("readonly") {
                Some(value) => Keys::new([("read-only".to_owned(), value)], Style::Drive)
                    .take_bool("read-only")?,
                None => keys.take_bool("read-only")?,
            },
            snapshot: keys.take_bool("snapshot")?.unwrap_or(false),
            ..Self::default()
        };
        if let Some(mode) = keys.take("cache") {
            options.cache =
                CacheMode::named(&mode).ok_or_else(|| refuse("invalid cache option"))?;
        }
        for (key, place) in [
            ("cache.writeback", &mut options.cache.writeback),
            ("cache.direct", &mut options.cache.direct),
            ("cache.no-flush", &mut options.cache.no_flush),
        ] {
            *place = keys.take_bool(key)?.unwrap_or(*place);
        }
        if let Some(name) = keys.take("aio") {
            options.aio = Aio::named(&name).ok_or_else(|| refuse("invalid aio option"))?;
        }
        if options.aio == Aio::Native && !options.cache.direct {
            return Err(refuse(NATIVE_WANTS_DIRECT));
        }
        if let Some(mode) = keys.take("discard") {
            let found = DISCARD.iter().find(|(name, _)| *name == mode);
            options.discard = found.ok_or_else(|| refuse("Invalid discard option"))?.1;
        }
        if let Some(mode) = keys.take("detect-zeroes") {
            let found = DETECT_ZEROES.iter().find(|(name, _)| *name == mode);
            let text = format!("invalid parameter value: {mode}");
            options.detect_zeroes = found.ok_or(OpenError::Option(text))?.1;
        }
        options.other = keys.into_pairs();
        Ok(options)
    }
}

/// An opened drive.
pub struct Opened {
    /// The disk for the device.
    pub disk: Disk,
    /// Lines for standard error, without the program's name.
    pub warnings: Vec<String>,
    /// With `snapshot=on`: the file of the image that takes the writes.
    pub overlay: Option<Arc<dyn Node>>,
}

/// Opens what a `-drive` names.
///
/// # Errors
/// With QEMU's words where scripts know them.
pub fn open_drive(
    options: &DriveOptions,
    gate: &dyn Gate,
    graph: &Arc<Graph>,
    secrets: &dyn Secrets,
) -> Result<Opened, OpenError> {
    let mut opener = Opener::new(gate, graph, secrets);
    let read_only = options.read_only == Some(true);
    let inherited = Inherited {
        read_only: read_only || options.snapshot,
        auto_read_only: options.read_only.is_none(),
        aio: options.aio,
        cache: options.cache,
        discard: options.discard,
        locking: Locking::Auto,
        share: false,
        ..Inherited::default()
    };
    let mut member = opener.drive(options, &inherited)?;
    let mut file = None;
    if options.snapshot {
        let empty = gate.temporary()?;
        qcow2::create(&empty, OVERLAY, &CreateOptions::new(member.node().size()))?;
        member = snapshot_of(&member, &empty, graph, options)?;
        file = Some(empty);
    }
    let writable = !member.node().read_only();
    if options.copy_on_read {
        member = filter(&member, graph, writable, |below| filters::copy_on_read(below, None))?;
    }
    if let Some(group) = &options.throttle {
        let limited = |below| Ok(filters::throttle(below, group));
        member = filter(&member, graph, writable, limited)?;
    }
    let write_cache = options.cache.writeback;
    let policy = DiskOptions { read_only, write_cache, ..member.options() };
    let read = read_only || member.node().read_only();
    let permissions = if read { Permissions::READER } else { Permissions::WRITER };
    let edge = graph.attach(&member, User::Device(String::new()), permissions)?;
    Ok(Opened { disk: Disk::on(edge, &policy), warnings: opener.warnings, overlay: file })
}

/// Puts a filter above a node.
fn filter(
    below: &Arc<Member>,
    graph: &Arc<Graph>,
    writable: bool,
    make: impl FnOnce(Arc<dyn Node>) -> Result<Arc<dyn Node>, OpenError>,
) -> Result<Arc<Member>, OpenError> {
    let (name, kind) = (graph.reserve(None)?, NodeKind::Filter);
    let edge = graph.child(&name, kind, Role::File, Some(below), writable)?;
    let node = make(Arc::clone(&edge) as Arc<dyn Node>)?;
    let options = below.options();
    Ok(graph.add(NewMember { name, node, kind, options, children: vec![edge] }))
}

/// Adds the image of `snapshot=on` in `file` on top of `below`.
fn snapshot_of(
    below: &Arc<Member>,
    file: &Arc<dyn Node>,
    graph: &Arc<Graph>,
    drive: &DriveOptions,
) -> Result<Arc<Member>, OpenError> {
    let add = |name, node, kind, children, options| {
        graph.add(NewMember { name, node, kind, options, children })
    };
    let whatever = DiskOptions { discard: true, ..DiskOptions::default() };
    let policy = DiskOptions {
        discard: drive.discard,
        detect_zeroes: drive.detect_zeroes,
        ..DiskOptions::default()
    };
    let (name, bytes) = (graph.reserve(None)?, Arc::clone(file));
    let file = add(name, bytes, NodeKind::Protocol, Vec::new(), whatever);
    let name = graph.reserve(None)?;
    let child = |role, target| graph.child(&name, NodeKind::Format, role, Some(target), true);
    let (file, below) = (child(Role::File, &file)?, child(Role::Backing, below)?);
    let backing = Arc::clone(&below) as Arc<dyn Node>;
    let node = overlay(&(Arc::clone(&file) as Arc<dyn Node>), Some(backing))?;
    Ok(add(name, node, NodeKind::Format, vec![file, below], policy))
}

/// Opens what a `-blockdev` describes and adds it to the graph under its `node-name`.
///
/// # Errors
/// With QEMU's words where scripts know them.
pub fn add_blockdev(
    pairs: impl IntoIterator<Item = (String, String)>,
    gate: &dyn Gate,
    graph: &Arc<Graph>,
    secrets: &dyn Secrets,
) -> Result<Arc<Member>, OpenError> {
    let pairs: Vec<_> = pairs.into_iter().collect();
    let has = |key: &str| pairs.iter().any(|(k, _)| k == key);
    if has("driver") && !has("node-name") {
        let text = "'node-name' must be specified for the root node";
        return Err(OpenError::Option(text.to_owned()));
    }
    let member = open_node(pairs, gate, graph, secrets)?;
    graph.keep(&member);
    Ok(member)
}

/// Opens a node that lives as long as somebody uses it.
pub(crate) fn open_node(
    pairs: Vec<(String, String)>,
    gate: &dyn Gate,
    graph: &Arc<Graph>,
    secrets: &dyn Secrets,
) -> Result<Arc<Member>, OpenError> {
    let keys = Keys::new(pairs, Style::Blockdev);
    Opener::new(gate, graph, secrets).node(keys, &Inherited::default())
}

/// The options of an overlay that are those of the node below it.
pub(crate) fn mode_of(options: &DiskOptions) -> Vec<(String, String)> {
    let unmap = options.discard.then(|| ("discard".to_owned(), "unmap".to_owned()));
    unmap.into_iter().collect()
}

/// `detect-zeroes` as an option of a node.
pub(crate) fn detecting(mode: DetectZeroes) -> Option<(String, String)> {
    let (name, _) = DETECT_ZEROES.iter().find(|(_, known)| *known == mode)?;
    (mode != DetectZeroes::Off).then(|| ("detect-zeroes".to_owned(), (*name).to_owned()))
}

impl Opener<'_> {
    fn drive(
        &mut self,
        options: &DriveOptions,
        inherited: &Inherited,
    ) -> Result<Arc<Member>, OpenError> {
        let mut pairs = options.other.clone();
        let mut format = options.format.clone();
        if let Some(file) = &options.file {
            if file.starts_with("null-co://") || file.starts_with("null-aio://") {
                pairs.push(("file.driver".to_owned(), "null-co".to_owned()));
            } else if let Some(json) = file.strip_prefix("json:") {
                let explicit = |key: &str| pairs.iter().any(|(k, _)| k == key);
                let given = described_in_json(json)?;
                let (driver, rest): (Vec<_>, Vec<_>) = given
                    .into_iter()
                    .filter(|(key, _)| !explicit(key))
                    .partition(|(key, _)| key == "driver");
                format = format.or(driver.into_iter().next().map(|(_, driver)| driver));
                pairs.extend(rest);
            } else {
                pairs.extend(remote::pairs_of(file)?);
            }
        }
        if let Some(format) = &format {
            match known(format) {
                Some(true) => {}
                Some(false) => return Err(not_yet(format)),
                None => return Err(OpenError::Option(format!("Unknown driver '{format}'"))),
            }
        }
        let filename = pairs.iter().find(|(k, _)| k == "file.filename").map(|(_, v)| v.clone());
        let named = pairs.iter().any(|(k, _)| k == "file.driver");
        let format = match (&format, filename) {
            (Some(format), _) => format.clone(),
            (None, _) if remote::is_remote(&pairs) => self.guess_remote(&pairs)?.to_owned(),
            (None, None) if named => "raw".to_owned(),
            (None, None) => {
                let text = "A block device must be specified for \"file\"";
                return Err(OpenError::Option(text.to_owned()));
            }
            (None, Some(filename)) => {
                let format = self.guess(&filename, inherited.cache)?;
                if format == "raw" && !inherited.read_only {
                    self.warn_of_guess(&filename);
                    self.guessed = true;
                }
                format.to_owned()
            }
        };
        pairs.push(("driver".to_owned(), format));
        pairs.extend(detecting(options.detect_zeroes));
        self.node(Keys::new(pairs, Style::Drive), inherited)
    }
}

/// Creates a qcow2 image as a file of the host, emptying a file of that name unless it is in use.
/// If it cannot be completed, no half image is left.
///
/// # Errors
/// Impossible options, or what the host reports.
pub fn create_qcow2(path: &str, options: &CreateOptions) -> Result<(), OpenError> {
    let existed = std::path::Path::new(path).exists();
    let file: Arc<dyn Node> = Arc::new(File::create(path, 0)?);
    qcow2::create(&file, path, options).inspect_err(|_| {
        if !existed {
            let _ = std::fs::remove_file(path);
        }
    })
}

/// What messages call the image of `snapshot=on`.
const OVERLAY: &str = "temporary overlay";

/// Opens the image that takes the writes of a drive with `snapshot=on`, on what it lies on, or for
/// itself: what it does not have is unallocated then.
///
/// # Errors
/// The file cannot be read.
pub fn overlay(
    file: &Arc<dyn Node>,
    backing: Option<Arc<dyn Node>>,
) -> Result<Arc<dyn Node>, OpenError> {
    let options = qcow2::Options { backing, pass_discards: true, ..qcow2::Options::default() };
    Ok(Arc::new(Qcow2::open(Arc::clone(file), OVERLAY, options)?))
}
