//! Builds the nodes that options describe: format on protocol, with the backing chain below.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use graph::{
    Aio, Child, DetectZeroes, DiskOptions, Edge, Graph, Member, Name, NewMember, Node, NodeKind,
    OpenError, Role, Secrets, User,
};
use protocols::{Access, CacheMode, Driver, FileOptions, Locking, Null};

use crate::format::{Format, OpenRequest, Purpose, Reference, format_named};
use crate::gate::{Gate, Reason};
use crate::image::described_in_json;
use crate::keys::{Keys, Style};
use crate::recipe::{How, ImageRecipe, Kept, NodeRecipe};
use crate::{Raw, folder, probe, remote};

/// Longest chain of backing files; a longer one is a loop or an attack.
const MAX_CHAIN: u32 = 200;

/// Protocols by name, with whether we can open them.
const PROTOCOLS: &[(&str, bool)] = &[
    ("file", true),
    ("host_device", true),
    ("null-co", true),
    ("null-aio", true),
    ("vvfat", true),
    ("host_cdrom", true),
    ("nbd", true),
    ("http", true),
    ("https", true),
    ("ftp", false),
    ("ssh", true),
    ("iscsi", false),
    ("rbd", false),
    ("nfs", false),
    ("nvme", false),
    ("json", false),
];

/// Names of `detect-zeroes=`.
pub const DETECT_ZEROES: &[(&str, DetectZeroes)] =
    &[("off", DetectZeroes::Off), ("on", DetectZeroes::On), ("unmap", DetectZeroes::Unmap)];

/// Names of `discard=` with whether discards take effect.
pub const DISCARD: &[(&str, bool)] =
    &[("ignore", false), ("off", false), ("unmap", true), ("on", true)];

/// What a node takes over from the one above unless told otherwise.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inherited {
    pub read_only: bool,
    pub auto_read_only: bool,
    pub cache: CacheMode,
    /// How requests of files are carried out.
    pub aio: Aio,
    pub discard: bool,
    pub locking: Locking,
    pub share: bool,
    /// What images are opened for.
    pub purpose: Purpose,
    /// Backing files stay closed.
    pub without_backing: bool,
    /// The node is opened for another process to have it; of no child.
    pub inactive: bool,
}

impl Inherited {
    /// What children take over. The node above has decided what becomes of discards.
    pub fn below(&self) -> Self {
        Self { discard: true, inactive: false, ..self.clone() }
    }

    /// The same without a node above.
    pub fn alone(&self) -> Self {
        Self { share: self.share, locking: self.locking, purpose: self.purpose, ..Self::default() }
    }

    /// What a child of that role takes over.
    pub fn for_child(&self, role: Role) -> Self {
        if role == Role::Backing { backing_state(self) } else { self.below() }
    }

    /// The options of a node.
    pub fn options(&self, detect_zeroes: DetectZeroes) -> DiskOptions {
        DiskOptions {
            read_only: self.read_only,
            auto_read_only: self.auto_read_only,
            discard: self.discard,
            detect_zeroes,
            direct: self.cache.direct,
            no_flush: self.cache.no_flush,
            inactive: self.inactive,
            write_cache: true,
        }
    }

    /// Takes over the options that every driver has. The result is not for children.
    ///
    /// # Errors
    /// `Option` for values that cannot be, or not together.
    pub fn take_common(&mut self, keys: &mut Keys) -> Result<DetectZeroes, OpenError> {
        for (key, place) in [
            ("read-only", &mut self.read_only),
            ("auto-read-only", &mut self.auto_read_only),
            ("cache.direct", &mut self.cache.direct),
            ("cache.no-flush", &mut self.cache.no_flush),
        ] {
            *place = keys.take_bool(key)?.unwrap_or(*place);
        }
        self.inactive = keys.take_bool("active")? == Some(false);
        self.discard = keys.take_name("discard", DISCARD)?.unwrap_or(self.discard);
        let detect_zeroes = keys.take_name("detect-zeroes", DETECT_ZEROES)?.unwrap_or_default();
        if detect_zeroes == DetectZeroes::Unmap && !self.discard {
            return Err(OpenError::Option(UNMAP_WANTS_DISCARD.to_owned()));
        }
        Ok(detect_zeroes)
    }

    /// A file that is only read because the node above is may be written when that is.
    pub fn follow_above(&mut self, driver: &str, explicit: bool) {
        self.auto_read_only |= is_file(driver) && self.read_only && !explicit;
    }
}

/// What `detect-zeroes=unmap` needs.
pub const UNMAP_WANTS_DISCARD: &str =
    "setting detect-zeroes to unmap is not allowed without setting discard operation to unmap";

/// Whether nodes of a driver are files of the host.
fn is_file(driver: &str) -> bool {
    Driver::named(driver).is_some()
}

/// What an image is opened from.
pub(crate) struct Parts {
    pub file: Arc<Edge>,
    pub filename: String,
    pub children: Vec<Child>,
    /// All of them, as the graph has them.
    pub edges: Vec<Arc<Edge>>,
}

/// A node that was opened and is not in the graph yet.
pub(crate) struct Made {
    pub node: Arc<dyn Node>,
    pub kind: NodeKind,
    pub edges: Vec<Arc<Edge>>,
    pub how: How,
}

impl Made {
    fn protocol(node: Arc<dyn Node>) -> Self {
        Self { node, kind: NodeKind::Protocol, edges: Vec::new(), how: How::Fixed }
    }
}

/// How a node that was opened is described.
struct Described<'a> {
    driver: &'a str,
    /// Its options, and those of its children.
    given: Vec<(String, String)>,
    style: Style,
    inherited: &'a Inherited,
}

/// What children are opened for.
struct Above<'a> {
    name: &'a Name,
    kind: NodeKind,
    writable: bool,
    inactive: bool,
}

/// Opens nodes; one per command-line option.
pub(crate) struct Opener<'a> {
    pub gate: &'a dyn Gate,
    pub graph: &'a Arc<Graph>,
    pub secrets: &'a dyn Secrets,
    /// Lines for standard error.
    pub warnings: Vec<String>,
    /// The format of the node that is opened next was found out from its content.
    pub guessed: bool,
    /// Nobody said what the file is that is opened next.
    found_out: bool,
    /// What the kernel was found not to have.
    refused: Vec<Aio>,
    /// Who described what is opened now.
    by: By,
}

/// Who describes a node by its options.
#[derive(Clone, Copy)]
struct By {
    /// The user, or an image that names its backing file.
    reason: Reason,
    /// Images above it in its chain.
    depth: u32,
}

impl<'a> Opener<'a> {
    /// An opener of nodes that come into `graph`.
    pub fn new(gate: &'a dyn Gate, graph: &'a Arc<Graph>, secrets: &'a dyn Secrets) -> Self {
        let (warnings, guessed, found_out, refused) = Default::default();
        let by = By { reason: Reason::Named, depth: 0 };
        Self { gate, graph, secrets, warnings, guessed, found_out, refused, by }
    }

    /// Opens the node that `keys` describe; `driver` must be among them.
    pub fn node(
        &mut self,
        mut keys: Keys,
        inherited: &Inherited,
    ) -> Result<Arc<Member>, OpenError> {
        match keys.take("driver") {
            Some(driver) => self.node_of(&driver, keys, inherited, false),
            None => {
                let text = format!("Parameter '{}' is missing", keys.full("driver"));
                Err(OpenError::Option(text))
            }
        }
    }

    /// Opens a node; a child that holds another node's bytes follows that.
    fn node_of(
        &mut self,
        driver: &str,
        mut keys: Keys,
        inherited: &Inherited,
        is_child: bool,
    ) -> Result<Arc<Member>, OpenError> {
        let guessed = std::mem::take(&mut self.guessed) && driver == "raw";
        let name = self.graph.reserve(keys.take("node-name").as_deref())?;
        let (given, style) = (keys.pairs(), keys.style());
        let explicit = keys.has("read-only");
        let mut common = inherited.clone();
        let detect_zeroes = common.take_common(&mut keys)?;
        if is_child {
            common.follow_above(driver, explicit);
        }
        let options = common.options(detect_zeroes);
        if keys.take_bool("force-share")? == Some(true) {
            if !common.read_only {
                let text = "force-share=on can only be used with read-only images";
                return Err(OpenError::Option(text.to_owned()));
            }
            common.share = true;
        }
        let mut made = match known(driver) {
            None => return Err(unknown(driver, &keys)),
            Some(false) => return Err(not_yet(driver)),
            Some(true) => self.driver(driver, keys, &common, &name)?,
        };
        if guessed {
            made.node = Arc::new(Raw::guessed(made.node));
        }
        if let How::Image(recipe) = &mut made.how {
            recipe.guessed = guessed;
        }
        Ok(self.add(name, made, options, Described { driver, given, style, inherited }))
    }

    fn add(
        &self,
        name: Name,
        made: Made,
        options: DiskOptions,
        described: Described<'_>,
    ) -> Arc<Member> {
        let Made { node, kind, edges, how } = made;
        let recipe = NodeRecipe::new(
            described.driver,
            described.given,
            described.style,
            described.inherited.clone(),
            &edges,
            how,
        );
        let member = self.graph.add(NewMember { name, node, kind, options, children: edges });
        member.set_recipe(Arc::new(recipe));
        member
    }

    /// Adds a node that the user did not name, by its file's name.
    fn add_unnamed(
        &self,
        made: Made,
        options: DiskOptions,
        path: &str,
        inherited: &Inherited,
    ) -> Result<Arc<Member>, OpenError> {
        let name = self.graph.reserve(None)?;
        let (given, style) = (vec![("filename".to_owned(), path.to_owned())], Style::Blockdev);
        let driver = made.node.info().driver;
        Ok(self.add(name, made, options, Described { driver, given, style, inherited }))
    }

    fn driver(
        &mut self,
        driver: &str,
        mut keys: Keys,
        common: &Inherited,
        name: &Name,
    ) -> Result<Made, OpenError> {
        if let Some(format) = format_named(driver) {
            return self.format(format, keys, common, name);
        }
        if self.by.reason != Reason::Named {
            check_named_by_image(driver)?;
        }
        if let Some(made) = self.filter(driver, &mut keys, common, name)? {
            return Ok(made);
        }
        match driver {
            driver if remote::is_driver(driver) => {
                // An image names an address and nothing else, no credentials.
                let of_user = self.by.reason == Reason::Named;
                let secrets = if of_user { self.secrets } else { &graph::NoSecrets };
                let node =
                    remote::open(driver, keys, common, (self.gate, self.by.reason), secrets)?;
                Ok(Made::protocol(node))
            }
            "vvfat" => {
                let node = folder::vvfat(&mut keys, common)?;
                keys.finish(driver)?;
                Ok(Made::protocol(node))
            }
            "null-co" | "null-aio" => {
                let size = keys.take_size("size")?.unwrap_or(Null::DEFAULT_SIZE);
                let zeroes = keys.take_bool("read-zeroes")?.unwrap_or(false);
                let latency = Duration::from_nanos(keys.take_size("latency-ns")?.unwrap_or(0));
                keys.finish(driver)?;
                let node = Null::new(size, zeroes).with_latency(latency);
                Ok(Made::protocol(Arc::new(node)))
            }
            _ => {
                let found_out = std::mem::take(&mut self.found_out);
                let driver = Driver::named(driver).filter(|_| !found_out);
                Ok(Made::protocol(self.file(driver, keys, common)?))
            }
        }
    }

    /// A file or device; what it is found to be, if that is not said.
    fn file(
        &mut self,
        driver: Option<Driver>,
        mut keys: Keys,
        common: &Inherited,
    ) -> Result<Arc<dyn Node>, OpenError> {
        let Some(filename) = keys.take("filename") else {
            return Err(missing(&keys, "filename"));
        };
        let named = match driver {
            None => FileOptions::named(&filename),
            Some(_) => FileOptions { driver, ..FileOptions::new(&filename) },
        };
        let locking = [("auto", Locking::Auto), ("on", Locking::Auto), ("off", Locking::Off)];
        let locking = keys.take_name("locking", &locking)?.unwrap_or(common.locking);
        let aio = keys.take_name("aio", Aio::TABLE)?.unwrap_or(common.aio);
        if aio == Aio::Native && !common.cache.direct {
            return Err(OpenError::Option(NATIVE_WANTS_DIRECT.to_owned()));
        }
        // The host's cache is never asked.
        keys.take_bool("x-check-cache-dropped")?;
        keys.finish("file")?;
        let aio = self.possible(aio);
        let options = FileOptions { locking, aio, ..file_options(named, common) };
        self.gate.open(&options, self.by.reason)
    }

    /// What the kernel has of that way to carry out requests; says once if that is threads.
    fn possible(&mut self, wanted: Aio) -> Aio {
        if wanted == Aio::Threads || self.refused.contains(&wanted) {
            return Aio::Threads;
        }
        match wanted.check() {
            Ok(()) => wanted,
            Err(why) => {
                self.gate.note(&why);
                self.refused.push(wanted);
                Aio::Threads
            }
        }
    }

    /// A child: a node's name, or options below `role.`.
    pub fn child(
        &mut self,
        keys: &mut Keys,
        role: &str,
        common: &Inherited,
    ) -> Result<Arc<Member>, OpenError> {
        if let Some(name) = keys.take(role) {
            return self.graph.get(&name);
        }
        let Some(mut below) = keys.child(role) else {
            return Err(missing(keys, role));
        };
        let driver = below.take("driver");
        self.found_out = driver.is_none();
        let driver = driver.unwrap_or_else(|| "file".to_owned());
        self.node_of(&driver, below, &common.below(), true)
    }

    /// An image: its file, the files it names, and the format on top of them.
    fn format(
        &mut self,
        format: &'static dyn Format,
        mut keys: Keys,
        common: &Inherited,
        name: &Name,
    ) -> Result<Made, OpenError> {
        let kind = kind_of(format, &keys);
        let Parts { file, filename, children, edges } =
            self.parts(format, &mut keys, common, name)?;
        let recipe = ImageRecipe {
            format,
            purpose: common.purpose,
            edges: edges.clone(),
            secrets: Kept::of(&keys.pairs(), self.secrets),
            guessed: false,
        };
        let node = format.open(OpenRequest {
            file,
            path: &filename,
            read_only: common.read_only || common.inactive,
            purpose: common.purpose,
            children,
            discard: common.discard,
            options: &mut keys,
            secrets: self.secrets,
        })?;
        keys.finish(format.name())?;
        Ok(Made { node, kind, edges, how: How::Image(recipe) })
    }

    /// Opens what an image that will be called `name` needs to be opened itself.
    pub fn parts(
        &mut self,
        format: &'static dyn Format,
        keys: &mut Keys,
        common: &Inherited,
        name: &Name,
    ) -> Result<Parts, OpenError> {
        let file = self.child(keys, "file", common)?;
        let bytes = file.options();
        let kind = kind_of(format, keys);
        if kind == NodeKind::Format && !common.read_only && bytes.read_only && !bytes.auto_read_only
        {
            return Err(OpenError::Option("Block node is read-only".to_owned()));
        }
        let filename = file.node().info().filename;
        let above = Above { name, kind, writable: !common.read_only, inactive: common.inactive };
        let mut children = Vec::new();
        let mut replaced = Vec::new();
        if common.without_backing {
            replaced.push(Role::Backing);
        }
        for role in [&[Role::Backing, Role::Data], format.children()].concat() {
            let key = role.name();
            let member = match (keys.take(&key), keys.child(&key)) {
                (Some(value), _) if value.is_empty() || value == "null" => None,
                (Some(value), _) => Some(self.graph.get(&value)?),
                (None, Some(below)) if role == Role::Backing => {
                    Some(self.node(below, &backing_state(common))?)
                }
                (None, Some(below)) => Some(self.node(below, &common.below())?),
                (None, None) => continue,
            };
            replaced.push(role);
            children.extend(member.map(|member| (role, member)));
        }
        let depth = self.by.depth;
        self.follow(format, &*file.node(), &filename, common, &replaced, depth, &mut children)?;
        self.edges(format, &above, &file, filename, children)
    }

    /// The edges of an image to its children.
    fn edges(
        &self,
        format: &dyn Format,
        above: &Above<'_>,
        file: &Arc<Member>,
        filename: String,
        children: Vec<(Role, Arc<Member>)>,
    ) -> Result<Parts, OpenError> {
        let Above { name, kind, writable, inactive } = *above;
        let to = |role: Role, target: Option<&Arc<Member>>| {
            if inactive {
                return self.graph.idle_child(name, role, target);
            }
            if let Some(target) = target {
                Graph::check_active(target, &role.name(), name.text())?;
            }
            self.graph.child(name, kind, role, target, writable)
        };
        let file = to(Role::File, Some(file))?;
        let mut edges = vec![Arc::clone(&file)];
        for (role, member) in &children {
            edges.push(to(*role, Some(member))?);
        }
        if format.has_backing() && !children.iter().any(|(role, _)| *role == Role::Backing) {
            // Leads to nothing until the image gets a backing file.
            edges.push(to(Role::Backing, None)?);
        }
        let child = |edge: &Arc<Edge>| match edge.user() {
            User::Node(role) if *role != Role::File => {
                Some(Child { role: *role, node: Arc::clone(edge) as Arc<dyn Node> })
            }
            _ => None,
        };
        let children = edges.iter().filter_map(child).collect();
        Ok(Parts { file, filename, children, edges })
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
        children: &mut Vec<(Role, Arc<Member>)>,
    ) -> Result<(), OpenError> {
        for reference in format.references(file, filename)? {
            let role = reference.role;
            // To look at metadata, the data is not needed.
            let needed = role != Role::Data || common.purpose == Purpose::Use;
            if replaced.contains(&role) || !needed {
                continue;
            }
            let member = match role {
                Role::Backing => self.backing_of(&reference, filename, common, depth)?,
                _ => self.data_of(&reference, filename, common)?,
            };
            children.push((role, member));
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
    ) -> Result<Arc<Member>, OpenError> {
        let path = beside_path(filename, &reference.name);
        let mut below = common.below();
        below.follow_above("file", false);
        let named = FileOptions { aio: self.possible(below.aio), ..FileOptions::new(&path) };
        let node = self.gate.open(&file_options(named, &below), Reason::Data)?;
        let options = below.options(DetectZeroes::Off);
        self.add_unnamed(Made::protocol(node), options, &path, &common.below())
    }

    /// Opens the backing file that an image names.
    fn backing_of(
        &mut self,
        reference: &Reference,
        filename: &str,
        common: &Inherited,
        depth: u32,
    ) -> Result<Arc<Member>, OpenError> {
        if depth >= MAX_CHAIN {
            let why = format!("more than {MAX_CHAIN} backing files; does the chain loop?");
            return Err(OpenError::Image { path: filename.to_owned(), why });
        }
        let path = backing_path(filename, &reference.name)?;
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
    ) -> Result<Arc<Member>, OpenError> {
        if let Some(json) = path.strip_prefix("json:") {
            let before = std::mem::replace(&mut self.by, By { reason: Reason::Backing, depth });
            let opened = self.described_by_image(json, format, common);
            self.by = before;
            return opened;
        }
        // Whoever writes into it, as a commit does, needs to be able to.
        let below = Inherited { read_only: true, auto_read_only: true, ..common.below() };
        let named = FileOptions { aio: self.possible(below.aio), ..FileOptions::named(path) };
        let file = match remote::backing(path, common, self.gate)? {
            Some(node) => node,
            None => self.gate.open(&file_options(named, &below), Reason::Backing)?,
        };
        let options = below.options(DetectZeroes::Off);
        let file = self.add_unnamed(Made::protocol(file), options, path, &common.below())?;
        let driver = match format {
            Some("file" | "host_device" | "host_cdrom") => "raw".to_owned(),
            Some(format) => format.to_owned(),
            None => self.probe(&*file.node(), path)?.to_owned(),
        };
        let Some(format) = format_named(&driver) else {
            return Err(match known(&driver) {
                Some(_) => not_yet(&driver),
                None => OpenError::Option(format!("Unknown driver '{driver}'")),
            });
        };
        let mut children = Vec::new();
        self.follow(format, &*file.node(), path, common, &[], depth, &mut children)?;
        let name = self.graph.reserve(None)?;
        let mut keys = Keys::new([], Style::Blockdev);
        let kind = kind_of(format, &keys);
        let above = Above { name: &name, kind, writable: false, inactive: false };
        let Parts { file, children, edges, .. } =
            self.edges(format, &above, &file, path.to_owned(), children)?;
        let node = format.open(OpenRequest {
            file,
            path,
            read_only: true,
            purpose: common.purpose,
            children,
            discard: common.discard,
            options: &mut keys,
            secrets: self.secrets,
        })?;
        let how = How::Image(ImageRecipe {
            format,
            purpose: common.purpose,
            edges: edges.clone(),
            secrets: Kept::default(),
            guessed: false,
        });
        let made = Made { node, kind, edges, how };
        let options = common.options(DetectZeroes::Off);
        let (driver, given, style) = (&*driver, Vec::new(), Style::Blockdev);
        let described = Described { driver, given, style, inherited: common };
        Ok(self.add(name, made, options, described))
    }

    /// Opens the backing file that an image describes by its options. It cannot say by which rules, and it
    /// cannot name nodes that are there: only files and servers, which the gate may refuse.
    fn described_by_image(
        &mut self,
        json: &str,
        format: Option<&str>,
        common: &Inherited,
    ) -> Result<Arc<Member>, OpenError> {
        let mut pairs = described_in_json(json)?;
        let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
        pairs.retain(|(key, _)| !RULES.contains(&&*last(key)));
        let names = |(key, value): &&(String, String)| {
            ["backing", "data-file", "file"].contains(&&*last(key)) && !value.is_empty()
        };
        if let Some((key, _)) = pairs.iter().find(names) {
            let text = format!("An image cannot name a node of ours as '{key}' of a backing file");
            return Err(OpenError::Option(text));
        }
        let mut keys = Keys::new(pairs, Style::Drive);
        let driver = match (format, keys.take("driver")) {
            (Some(format), _) => format.to_owned(),
            (None, Some(driver)) => driver,
            (None, None) => {
                let file = self.child(&mut keys, "file", common)?;
                let node = file.node();
                let driver = self.probe(&*node, &node.info().filename)?.to_owned();
                let rest = keys.pairs().into_iter();
                let named = ("file".to_owned(), file.name().to_owned());
                keys = Keys::new(rest.chain([named]), Style::Drive);
                return self.node_of(&driver, keys, common, false);
            }
        };
        self.node_of(&driver, keys, common, false)
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

/// Options that say by which rules a node is opened, not what it is.
const RULES: &[&str] = &["node-name", "read-only", "auto-read-only", "force-share", "locking"];

/// Refuses drivers that an image cannot have opened: those that ask no gate.
fn check_named_by_image(driver: &str) -> Result<(), OpenError> {
    let allowed = Driver::named(driver).is_some()
        || remote::is_driver(driver)
        || ["null-co", "null-aio"].contains(&driver);
    if allowed {
        return Ok(());
    }
    let text = format!("An image cannot have a node with the driver '{driver}' opened");
    Err(OpenError::Option(text))
}

/// How a file is opened.
fn file_options(named: FileOptions, common: &Inherited) -> FileOptions {
    FileOptions {
        read_only: common.read_only,
        auto_read_only: common.auto_read_only,
        cache: common.cache,
        locking: common.locking,
        // Its users say what they need when they come.
        access: Access::NONE,
        share: common.share,
        ..named
    }
}

/// What an image of that format, opened with these options, is to its children.
fn kind_of(format: &dyn Format, keys: &Keys) -> NodeKind {
    match format.name() {
        "raw" if keys.has("offset") || keys.has("size") => NodeKind::Part,
        "raw" => NodeKind::Filter,
        _ => NodeKind::Format,
    }
}

pub(crate) fn missing(keys: &Keys, key: &str) -> OpenError {
    OpenError::Option(match keys.style() {
        Style::Blockdev => format!("Parameter '{}' is missing", keys.full(key)),
        Style::Drive => format!("A block device must be specified for \"{key}\""),
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
    Inherited { read_only: true, auto_read_only: false, ..common.below() }
}

/// Whether a driver of that name exists, and whether we have it.
pub(crate) fn known(driver: &str) -> Option<bool> {
    if format_named(driver).is_some() || crate::open_filters::is_filter(driver) {
        return Some(true);
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
        None => Ok(()),
        Some(name) if Driver::named(name).is_some() => Ok(()),
        Some(name) if PROTOCOLS.iter().any(|(p, _)| *p == name) => Err(not_yet(name)),
        Some(name) => Err(OpenError::Option(format!("Unknown protocol '{name}'"))),
    }
}

/// A file that an image names: relative names are relative to the image, names with a protocol are
/// what they are.
pub fn beside(image: &str, name: &str) -> String {
    match protocol_of(name) {
        Some("file") => beside_path(image, &name["file:".len()..]),
        Some(_) => name.to_owned(),
        None => beside_path(image, name),
    }
}

/// The place of a backing file, if it is one that we open.
pub(crate) fn backing_path(image: &str, name: &str) -> Result<String, OpenError> {
    if name.starts_with("json:") {
        return Ok(name.to_owned());
    }
    if !remote::is_remote_name(name) {
        check_protocol(name)?;
    }
    Ok(beside(image, name))
}

/// The same for a name that is a path whatever it looks like.
fn beside_path(image: &str, name: &str) -> String {
    if name.starts_with('/') {
        return name.to_owned();
    }
    let folder = Path::new(image).parent().unwrap_or(Path::new(""));
    folder.join(name).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_names_are_beside_the_image() {
        for (image, name, place) in [
            ("a/b.qcow2", "c", "a/c"),
            ("b.qcow2", "c", "c"),
            ("a/b.qcow2", "/c", "/c"),
            ("a/b.qcow2", "file:c", "a/c"),
            ("a/b.qcow2", "d/e:f", "a/d/e:f"),
            ("a/b", "nbd:x", "nbd:x"),
        ] {
            assert_eq!(beside(image, name), place, "{name} beside {image}");
        }
    }
}
