//! Builds the nodes that options describe: format on protocol, with the backing chain below.

use std::path::Path;
use std::sync::Arc;

use graph::{DetectZeroes, DiskOptions, Node, OpenError, Registry};
use protocols::{Access, CacheMode, FileOptions, Locking, Null};

use crate::gate::{Gate, Reason};
use crate::keys::{Keys, Style};
use crate::qcow2::{Header, Options, Qcow2};
use crate::{Raw, probe};

/// Longest chain of backing files; a longer one is a loop or an attack.
const MAX_CHAIN: u32 = 200;

/// Formats by name, with whether we can open them.
const FORMATS: &[(&str, bool)] = &[
    ("raw", true),
    ("qcow2", true),
    ("qcow", false),
    ("qed", false),
    ("vmdk", false),
    ("vdi", false),
    ("vpc", false),
    ("vhdx", false),
    ("parallels", false),
    ("luks", false),
    ("bochs", false),
    ("cloop", false),
    ("dmg", false),
    ("vvfat", false),
];

/// Protocols by name, with whether we can open them.
const PROTOCOLS: &[(&str, bool)] = &[
    ("file", true),
    ("host_device", true),
    ("null-co", true),
    ("null-aio", true),
    ("host_cdrom", false),
    ("nbd", false),
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
}

/// Opens nodes; one per command-line option.
pub(crate) struct Opener<'a> {
    pub gate: &'a dyn Gate,
    pub registry: &'a mut Registry,
    pub style: Style,
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
            None => return Err(self.unknown(&driver, &keys)),
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
        match driver {
            "raw" => {
                let offset = keys.take_size("offset", self.style)?;
                let size = keys.take_size("size", self.style)?;
                let access =
                    if common.below_overlay { Access::FORMAT_READ } else { Access::RAW_WRITE };
                let (file, _) = self.child(&mut keys, common, access)?;
                keys.finish(driver, self.style)?;
                Ok(match (offset, size) {
                    (None, None) => Arc::new(Raw::new(file)),
                    _ => Arc::new(Raw::window(file, offset.unwrap_or(0), size)?),
                })
            }
            "qcow2" => self.qcow2(keys, common),
            "null-co" | "null-aio" => {
                let size = keys.take_size("size", self.style)?.unwrap_or(Null::DEFAULT_SIZE);
                let zeroes = keys.take_bool("read-zeroes")?.unwrap_or(false);
                keys.take_size("latency-ns", self.style)?;
                keys.finish(driver, self.style)?;
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
            return Err(self.missing(keys.full("filename")));
        };
        let filename = filename.strip_prefix("file:").unwrap_or(&filename).to_owned();
        let locking = [("auto", Locking::Auto), ("on", Locking::Auto), ("off", Locking::Off)];
        let locking = keys.take_name("locking", &locking)?.unwrap_or(common.locking);
        let aio = [("threads", false), ("native", true), ("io_uring", false)];
        if keys.take_name("aio", &aio)? == Some(true) && !common.cache.direct {
            return Err(OpenError::Option(NATIVE_WANTS_DIRECT.to_owned()));
        }
        keys.finish("file", self.style)?;
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
            return Err(self.missing(keys.full("file")));
        };
        let driver = below.take("driver").unwrap_or_else(|| "file".to_owned());
        if driver != "file" && driver != "host_device" {
            let pair = ("driver".to_owned(), driver);
            let mut whole = Keys::new([pair]);
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

    fn qcow2(&mut self, mut keys: Keys, common: &Inherited) -> Result<Arc<dyn Node>, OpenError> {
        for ignored in TUNING {
            keys.take(ignored);
        }
        for key in
            ["lazy-refcounts", "pass-discard-snapshot", "pass-discard-other", "discard-no-unref"]
        {
            keys.take_bool(key)?;
        }
        let pass = keys.take_bool("pass-discard-request")?.unwrap_or(common.discard);
        let (file, filename) = self.child(&mut keys, common, Access::FORMAT_WRITE)?;
        let backing = match (keys.take("backing"), keys.child("backing")) {
            (Some(name), _) if name.is_empty() || name == "null" => None,
            (Some(name), _) => Some(self.registry.get(&name)?),
            (None, Some(below)) => Some(self.node(below, &backing_state(common))?.0),
            (None, None) => self.backing_of(&*file, &filename, common, 0)?,
        };
        keys.finish("qcow2", self.style)?;
        let read_only = common.read_only;
        let options = Options { read_only, backing, pass_discards: pass };
        Ok(Arc::new(Qcow2::open(file, &filename, options)?))
    }

    /// Opens the backing file that the image in `file` names.
    fn backing_of(
        &mut self,
        file: &dyn Node,
        filename: &str,
        common: &Inherited,
        depth: u32,
    ) -> Result<Option<Arc<dyn Node>>, OpenError> {
        let header = Header::read(file, filename)?;
        let Some(name) = header.backing_file else { return Ok(None) };
        if depth >= MAX_CHAIN {
            let why = format!("more than {MAX_CHAIN} backing files; does the chain loop?");
            return Err(OpenError::Image { path: filename.to_owned(), why });
        }
        let path = beside(filename, &name)?;
        let common = backing_state(common);
        let opened = self.chain(&path, header.backing_format.as_deref(), &common, depth + 1);
        match opened {
            Ok(node) => Ok(Some(node)),
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
        let format = match format {
            Some(format) => format.to_owned(),
            None => self.probe(&*file, path)?.to_owned(),
        };
        match format.as_str() {
            "raw" | "file" | "host_device" => Ok(Arc::new(Raw::new(file))),
            "qcow2" => {
                let backing = self.backing_of(&*file, path, common, depth)?;
                let options = Options { read_only: true, backing, pass_discards: false };
                Ok(Arc::new(Qcow2::open(file, path, options)?))
            }
            other if known(other).is_some() => Err(not_yet(other)),
            other => Err(OpenError::Option(format!("Unknown driver '{other}'"))),
        }
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

    fn missing(&self, key: String) -> OpenError {
        OpenError::Option(match self.style {
            Style::Blockdev => format!("Parameter '{key}' is missing"),
            Style::Drive => "A block device must be specified for \"file\"".to_owned(),
        })
    }

    fn unknown(&self, driver: &str, keys: &Keys) -> OpenError {
        OpenError::Option(match self.style {
            Style::Drive => format!("Unknown driver '{driver}'"),
            Style::Blockdev => {
                format!("Parameter '{}' does not accept value '{driver}'", keys.full("driver"))
            }
        })
    }
}

/// What `aio=native` needs.
pub(crate) const NATIVE_WANTS_DIRECT: &str =
    "aio=native was specified, but it requires cache.direct=on, which was not specified.";

/// Options of qcow2 that tune its caches or its checks; ours need no tuning.
const TUNING: &[&str] = &[
    "cache-size",
    "l2-cache-size",
    "l2-cache-entry-size",
    "refcount-cache-size",
    "cache-clean-interval",
    "overlap-check",
    "overlap-check.template",
];

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
    let mut all = FORMATS.iter().chain(PROTOCOLS);
    all.find(|(name, _)| *name == driver).map(|(_, ours)| *ours)
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
fn beside(image: &str, name: &str) -> Result<String, OpenError> {
    check_protocol(name)?;
    let name = name.strip_prefix("file:").unwrap_or(name);
    if name.starts_with('/') {
        return Ok(name.to_owned());
    }
    let folder = Path::new(image).parent().unwrap_or(Path::new(""));
    Ok(folder.join(name).display().to_string())
}
