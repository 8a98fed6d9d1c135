//! Builds the nodes that options describe: format on protocol, with the backing chain below.

use std::path::Path;
use std::sync::Arc;

use graph::{Child, DetectZeroes, DiskOptions, Node, OpenError, Registry, Role, Secrets};
use protocols::{Access, CacheMode, FileOptions, Locking, Null};

use crate::format::{Format, OpenRequest, Purpose, Reference, format_named};
use crate::gate::{Gate, Reason};
use crate::keys::{Keys, Style};
use crate::{probe, remote};

/// Longest chain of backing files; a longer one is a loop or an attack.
const MAX_CHAIN: u32 = 200;

/// Formats that are known by name and cannot be opened yet.
const WAITING: &[&str] = &["vvfat"];

/// Protocols by name, with whether we can open them.
const PROTOCOLS: &[(&str, bool)] = &[
    ("file", true),
    ("host_device", true),
    ("null-co", true),
    ("null-aio", true),
    ("host_cdrom", false),
    ("nbd", true),
    ("http", false),
    ("https", false),
    ("ftp", false),
    ("ssh", false),
    ("iscsi", false),
    ("rbd", false),
    ("nfs", false),
    ("nvme", false),
    ("json", false),
];

/// Names of `detect-zeroes=`.
pub(crate) const DETECT_ZEROES: &[(&str, DetectZeroes)] =
    &[("off", DetectZeroes::Off), ("on", DetectZeroes::On), ("unmap", DetectZeroes::Unmap)];

/// Names of `discard=` with whether discards take effect.
pub(crate) const DISCARD: &[(&str, bool)] =
    &[("ignore", false), ("off", false), ("unmap", true), ("on", true)];

/// What a node takes over from the one above unless told otherwise.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inherited {
    pub read_only: bool,
    pub auto_read_only: bool,
    pub cache: CacheMode,
    pub discard: bool,
    pub locking: Locking,
    pub share: bool,
    /// An overlay is above: the content and the length must stay as they are.
    pub below_overlay: bool,
    /// What images are opened for.
    pub purpose: Purpose,
    /// Backing files stay closed.
    pub without_backing: bool,
}

/// What an image is opened from.
pub(crate) struct Parts {
    pub file: Arc<dyn Node>,
    pub filename: String,
    pub children: Vec<Child>,
}

/// Opens nodes; one per command-line option.
pub(crate) struct Opener<'a> {
    pub gate: &'a dyn Gate,
    pub registry: &'a mut Registry,
    pub secrets: &'a dyn Secrets,
    /// Lines for standard error.
    pub warnings: Vec<String>,
}

impl Opener<'_> {
    /// Opens the node that `keys` describe; `driver` must be among them.
    pub fn node(
        &mut self,
        mut keys: Keys,
        inherited: &Inherited,
    ) -> Result<(Arc<dyn Node>, DiskOptions), OpenError> {
        let Some(driver) = keys.take("driver") else {
            return Err(OpenError::Option(format!(
                "Parameter '{}' is missing",
                keys.full("driver")
            )));
        };
        let name = keys.take("node-name");
        if let Some(name) = &name {
            self.registry.check_free(name)?;
        }
        let (common, options) = self.common(&mut keys, inherited)?;
        let node = match known(&driver) {
            None => return Err(unknown(&driver, &keys)),
            Some(false) => return Err(not_yet(&driver)),
            Some(true) => self.driver(&driver, keys, &common)?,
        };
        if let Some(name) = name {
            self.registry.insert(&name, Arc::clone(&node), options.clone())?;
        }
        Ok((node, options))
    }

    /// Options that every driver has.
    fn common(
        &mut self,
        keys: &mut Keys,
        inherited: &Inherited,
    ) -> Result<(Inherited, DiskOptions), OpenError> {
        let mut common = inherited.clone();
        if let Some(on) = keys.take_bool("read-only")? {
            common.read_only = on;
        }
        if let Some(on) = keys.take_bool("auto-read-only")? {
            common.auto_read_only = on;
        }
        if let Some(on) = keys.take_bool("cache.direct")? {
            common.cache.direct = on;
        }
        if let Some(on) = keys.take_bool("cache.no-flush")? {
            common.cache.no_flush = on;
        }
        if let Some(on) = keys.take_name("discard", DISCARD)? {
            common.discard = on;
        }
        if keys.take_bool("force-share")? == Some(true) {
            if !common.read_only {
                let text = "force-share=on can only be used with read-only images";
                return Err(OpenError::Option(text.to_owned()));
            }
            common.share = true;
        }
        let detect_zeroes = keys.take_name("detect-zeroes", DETECT_ZEROES)?.unwrap_or_default();
        let options = DiskOptions {
            read_only: common.read_only,
            discard: common.discard,
            detect_zeroes,
            write_cache: true,
        };
        Ok((common, options))
    }

    fn driver(
        &mut self,
        driver: &str,
        mut keys: Keys,
        common: &Inherited,
    ) -> Result<Arc<dyn Node>, OpenError> {
        if let Some(format) = format_named(driver) {
            return self.format(format, keys, common);
        }
        match driver {
            "nbd" => {
                let node = remote::nbd(&mut keys, common, self.gate)?;
                keys.finish(driver)?;
                Ok(node)
            }
            "null-co" | "null-aio" => {
                let size = keys.take_size("size")?.unwrap_or(Null::DEFAULT_SIZE);
                let zeroes = keys.take_bool("read-zeroes")?.unwrap_or(false);
                keys.take_size("latency-ns")?;
                keys.finish(driver)?;
                Ok(Arc::new(Null::new(size, zeroes)))
            }
            _ => self.file(keys, common, Access::RAW_WRITE).map(|(node, _)| node),
        }
    }

    /// A `file` or `host_device` node, and its name.
    fn file(
        &mut self,
        mut keys: Keys,
        common: &Inherited,
        access: Access,
    ) -> Result<(Arc<dyn Node>, String), OpenError> {
        let Some(filename) = keys.take("filename") else {
            return Err(missing(&keys, "filename"));
        };
        let filename = filename.strip_prefix("file:").unwrap_or(&filename).to_owned();
        let locking = [("auto", Locking::Auto), ("on", Locking::Auto), ("off", Locking::Off)];
        let locking = keys.take_name("locking", &locking)?.unwrap_or(common.locking);
        let aio = [("threads", false), ("native", true), ("io_uring", false)];
        if keys.take_name("aio", &aio)? == Some(true) && !common.cache.direct {
            return Err(OpenError::Option(NATIVE_WANTS_DIRECT.to_owned()));
        }
        keys.finish("file")?;
        let access = if common.read_only { access.read_only() } else { access };
        let options = FileOptions {
            filename: filename.clone(),
            read_only: common.read_only,
            auto_read_only: common.auto_read_only,
            cache: common.cache,
            discard: common.discard,
            locking,
            access: if common.share { access.sharing() } else { access },
        };
        Ok((self.gate.open(&options, Reason::Named)?, filename))
    }

    /// The `file` child: a node's name, or options below `file.`. Returns its file name, too.
    fn child(
        &mut self,
        keys: &mut Keys,
        common: &Inherited,
        access: Access,
    ) -> Result<(Arc<dyn Node>, String), OpenError> {
        if let Some(name) = keys.take("file") {
            let node = self.registry.get(&name)?;
            let filename = node.info().filename;
            return Ok((node, filename));
        }
        let Some(mut below) = keys.child("file") else {
            return Err(missing(keys, "file"));
        };
        let driver = below.take("driver").unwrap_or_else(|| "file".to_owned());
        if driver != "file" && driver != "host_device" {
            let pair = ("driver".to_owned(), driver);
            let mut whole = Keys::new([pair], keys.style());
            whole.absorb(below);
            let (node, _) = self.node(whole, common)?;
            let filename = node.info().filename;
            return Ok((node, filename));
        }
        let name = below.take("node-name");
        if let Some(name) = &name {
            self.registry.check_free(name)?;
        }
        let (common, options) = self.common(&mut below, common)?;
        let (node, filename) = self.file(below, &common, access)?;
        if let Some(name) = name {
            self.registry.insert(&name, Arc::clone(&node), options)?;
        }
        Ok((node, filename))
    }

    /// An image: its file, the files it names, and the format on top of them.
    fn format(
        &mut self,
        format: &'static dyn Format,
        mut keys: Keys,
        common: &Inherited,
    ) -> Result<Arc<dyn Node>, OpenError> {
        let Parts { file, filename, children } = self.parts(format, &mut keys, common)?;
        let image = format.open(OpenRequest {
            file,
            path: &filename,
            read_only: common.read_only,
            purpose: common.purpose,
            children,
            discard: common.discard,
            options: &mut keys,
            secrets: self.secrets,
        })?;
        keys.finish(format.name())?;
        Ok(image)
    }

    /// Opens what an image needs to be opened itself.
    pub fn parts(
        &mut self,
        format: &'static dyn Format,
        keys: &mut Keys,
        common: &Inherited,
    ) -> Result<Parts, OpenError> {
        let access = match format.name() {
            "raw" if !common.below_overlay => Access::RAW_WRITE,
            "raw" => Access::FORMAT_READ,
            _ => Access::FORMAT_WRITE,
        };
        let (file, filename) = self.child(keys, common, access)?;
        let mut children = Vec::new();
        let mut replaced = Vec::new();
        if common.without_backing {
            replaced.push(Role::Backing);
        }
        for role in [Role::Backing, Role::Data] {
            let name = role.name();
            let node = match (keys.take(&name), keys.child(&name)) {
                (Some(value), _) if value.is_empty() || value == "null" => None,
                (Some(value), _) => Some(self.registry.get(&value)?),
                (None, Some(below)) if role == Role::Backing => {
                    Some(self.node(below, &backing_state(common))?.0)
                }
                (None, Some(below)) => Some(self.node(below, common)?.0),
                (None, None) => continue,
            };
            replaced.push(role);
            children.extend(node.map(|node| Child { role, node }));
        }
        self.follow(format, &*file, &filename, common, &replaced, 0, &mut children)?;
        Ok(Parts { file, filename, children })
    }

    /// Opens the files that the image in `file` names, except those with a role in `replaced`.
    #[expect(clippy::too_many_arguments, reason = "one recursion with all that it carries")]
    fn follow(
        &mut self,
        format: &'static dyn Format,
        file: &dyn Node,
        filename: &str,
        common: &Inherited,
        replaced: &[Role],
        depth: u32,
        children: &mut Vec<Child>,
    ) -> Result<(), OpenError> {
        for reference in format.references(file, filename)? {
            let role = reference.role;
            if replaced.contains(&role) {
                continue;
            }
            let node = match role {
                Role::Backing => self.backing_of(&reference, filename, common, depth)?,
                _ => self.data_of(&reference, filename, common)?,
            };
            children.push(Child { role, node });
        }
        Ok(())
    }

    /// Opens a file that holds guest data of the image. Its name is a path and nothing else: an
    /// image cannot make us connect to somewhere.
    fn data_of(
        &mut self,
        reference: &Reference,
        filename: &str,
        common: &Inherited,
    ) -> Result<Arc<dyn Node>, OpenError> {
        let access = if common.read_only { Access::FORMAT_READ } else { Access::FORMAT_WRITE };
        let options = FileOptions {
            read_only: common.read_only,
            auto_read_only: common.auto_read_only,
            cache: common.cache,
            discard: common.discard,
            locking: common.locking,
            access: if common.share { access.sharing() } else { access },
            ..FileOptions::new(&beside_path(filename, &reference.name))
        };
        self.gate.open(&options, Reason::Data)
    }

    /// Opens the backing file that an image names.
    fn backing_of(
        &mut self,
        reference: &Reference,
        filename: &str,
        common: &Inherited,
        depth: u32,
    ) -> Result<Arc<dyn Node>, OpenError> {
        if depth >= MAX_CHAIN {
            let why = format!("more than {MAX_CHAIN} backing files; does the chain loop?");
            return Err(OpenError::Image { path: filename.to_owned(), why });
        }
        let path = beside(filename, &reference.name)?;
        let common = backing_state(common);
        match self.chain(&path, reference.format.as_deref(), &common, depth + 1) {
            Ok(node) => Ok(node),
            Err(e) if depth > 0 => Err(e),
            Err(e) => Err(OpenError::Option(format!("Could not open backing file: {e}"))),
        }
    }

    fn chain(
        &mut self,
        path: &str,
        format: Option<&str>,
        common: &Inherited,
        depth: u32,
    ) -> Result<Arc<dyn Node>, OpenError> {
        let options = FileOptions {
            read_only: true,
            cache: common.cache,
            locking: common.locking,
            access: if common.share { Access::FORMAT_READ.sharing() } else { Access::FORMAT_READ },
            ..FileOptions::new(path)
        };
        let file = self.gate.open(&options, Reason::Backing)?;
        let name = match format {
            Some("file" | "host_device") => "raw".to_owned(),
            Some(format) => format.to_owned(),
            None => self.probe(&*file, path)?.to_owned(),
        };
        let Some(format) = format_named(&name) else {
            return Err(match known(&name) {
                Some(_) => not_yet(&name),
                None => OpenError::Option(format!("Unknown driver '{name}'")),
            });
        };
        let mut children = Vec::new();
        self.follow(format, &*file, path, common, &[], depth, &mut children)?;
        format.open(OpenRequest {
            file,
            path,
            read_only: true,
            purpose: common.purpose,
            children,
            discard: false,
            options: &mut Keys::new([], Style::Blockdev),
            secrets: self.secrets,
        })
    }

    /// The format that the content of `file` suggests.
    pub fn probe(&self, file: &dyn Node, path: &str) -> Result<&'static str, OpenError> {
        let mut start = vec![0; file.size().min(probe::PROBE_BYTES as u64) as usize];
        file.read_at(0, &mut start).map_err(|e| OpenError::Host {
            operation: "Could not read image for determining its format".to_owned(),
            source: e,
        })?;
        Ok(probe::format_of(&start, path))
    }
}

fn missing(keys: &Keys, key: &str) -> OpenError {
    OpenError::Option(match keys.style() {
        Style::Blockdev => format!("Parameter '{}' is missing", keys.full(key)),
        Style::Drive => "A block device must be specified for \"file\"".to_owned(),
    })
}

fn unknown(driver: &str, keys: &Keys) -> OpenError {
    OpenError::Option(match keys.style() {
        Style::Drive => format!("Unknown driver '{driver}'"),
        Style::Blockdev => {
            format!("Parameter '{}' does not accept value '{driver}'", keys.full("driver"))
        }
    })
}

/// What `aio=native` needs.
pub(crate) const NATIVE_WANTS_DIRECT: &str =
    "aio=native was specified, but it requires cache.direct=on, which was not specified.";

fn backing_state(common: &Inherited) -> Inherited {
    Inherited {
        read_only: true,
        auto_read_only: false,
        discard: false,
        below_overlay: true,
        ..common.clone()
    }
}

/// Whether a driver of that name exists, and whether we have it.
pub(crate) fn known(driver: &str) -> Option<bool> {
    if format_named(driver).is_some() {
        return Some(true);
    }
    if WAITING.contains(&driver) {
        return Some(false);
    }
    PROTOCOLS.iter().find(|(name, _)| *name == driver).map(|(_, ours)| *ours)
}

pub(crate) fn not_yet(driver: &str) -> OpenError {
    OpenError::NotSupported { path: driver.to_owned(), what: "this block driver".to_owned() }
}

/// Splits `protocol:rest`; a path may contain a colon after its first slash.
pub(crate) fn protocol_of(filename: &str) -> Option<&str> {
    let colon = filename.find(':')?;
    match filename.find('/') {
        Some(slash) if slash < colon => None,
        _ => Some(&filename[..colon]),
    }
}

/// Refuses file names with a protocol that is not `file:`.
pub(crate) fn check_protocol(filename: &str) -> Result<(), OpenError> {
    match protocol_of(filename) {
        None | Some("file") => Ok(()),
        Some(name) if PROTOCOLS.iter().any(|(p, _)| *p == name) => Err(not_yet(name)),
        Some(name) => Err(OpenError::Option(format!("Unknown protocol '{name}'"))),
    }
}

/// The path of a backing file: relative names are relative to the image that has them.
pub(crate) fn beside(image: &str, name: &str) -> Result<String, OpenError> {
    check_protocol(name)?;
    let name = name.strip_prefix("file:").unwrap_or(name);
    Ok(beside_path(image, name))
}

/// The same for a name that is a path whatever it looks like.
fn beside_path(image: &str, name: &str) -> String {
    if name.starts_with('/') {
        return name.to_owned();
    }
    let folder = Path::new(image).parent().unwrap_or(Path::new(""));
    folder.join(name).display().to_string()
}
