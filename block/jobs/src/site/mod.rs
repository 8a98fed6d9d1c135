//! Block jobs on a graph: what `block-stream`, `block-commit`, `blockdev-mirror` and `blockdev-backup`
//! check and start, and the dirty bitmaps that they work with.
//!
//! Parameters, checks and texts follow the QMP reference (“Block core”) and QEMU 10.0.2.

mod backup;
mod bitmaps;
mod commit;
mod cover;
mod mirror;
mod stream;
mod task;
mod writable;

use std::sync::Arc;

use graph::{Graph, Member, NodeKind, Operation as Use, Role, User};

use self::writable::Writable;
use crate::engine::{Policies, backing};
use crate::job::{Class, Group, JobOptions, Jobs, Kind, OnError, Refusal, Work};

pub use backup::{BackupSync, BitmapMode, OnCopyError};
pub use bitmaps::{BitmapName, Bitmaps, DirtyInfo, Loan, NewBitmap, Saved};
pub use mirror::{CopyMode, MirrorSync};
pub use task::Task;

/// The backing file of a node, without filters on the way.
pub fn backing_of(member: &Arc<Member>) -> Option<Arc<Member>> {
    backing(member)
}

/// A graph with its jobs and bitmaps. One per machine or daemon.
pub struct Site {
    /// The nodes.
    pub graph: Arc<Graph>,
    /// The jobs.
    pub jobs: Jobs,
    /// The named dirty bitmaps.
    pub bitmaps: Arc<Bitmaps>,
}

/// What all jobs are told.
#[derive(Clone, Debug)]
pub struct Common {
    /// Name; by the device without.
    pub id: Option<String>,
    /// Limit in bytes per second; 0 for none.
    pub speed: i64,
    /// Do the last step without being told.
    pub auto_finalize: bool,
    /// Leave the list without being told.
    pub auto_dismiss: bool,
    /// Succeed or fail with others.
    pub group: Option<Group>,
    /// Only make the job; [`Jobs::start`] starts it.
    pub held: bool,
    /// Name of the node above the source while the job is there; made by the graph without.
    pub filter_node_name: Option<String>,
}

impl Default for Common {
    fn default() -> Self {
        Self {
            id: None,
            speed: 0,
            auto_finalize: true,
            auto_dismiss: true,
            group: None,
            held: false,
            filter_node_name: None,
        }
    }
}

/// `blockdev-mirror`.
#[derive(Clone, Debug, Default)]
pub struct MirrorOptions {
    /// Source, by node name.
    pub device: String,
    /// Target, by node name.
    pub target: String,
    /// What is copied first.
    pub sync: MirrorSync,
    /// Node that the target replaces in the end; the source without.
    pub replaces: Option<String>,
    /// Bytes that are noted together; by the target without.
    pub granularity: Option<u32>,
    /// Bytes in flight at most; 0 for the usual.
    pub buf_size: i64,
    /// When the target gets changes.
    pub copy_mode: CopyMode,
    /// Zeroes take no space in the target.
    pub keep_zeroes: bool,
    /// Errors of the source.
    pub on_source_error: OnError,
    /// Errors of the target.
    pub on_target_error: OnError,
}

/// `blockdev-backup`.
#[derive(Clone, Debug, Default)]
pub struct BackupOptions {
    /// Source, by node name.
    pub device: String,
    /// Target, by node name.
    pub target: String,
    /// What is copied.
    pub sync: BackupSync,
    /// Bitmap of the source.
    pub bitmap: Option<String>,
    /// What becomes of the bitmap.
    pub bitmap_mode: Option<BitmapMode>,
    /// Store compressed clusters.
    pub compress: bool,
    /// Errors of the source.
    pub on_source_error: OnError,
    /// Errors of the target.
    pub on_target_error: OnError,
    /// Changes whose copy fails.
    pub on_copy_error: OnCopyError,
    /// Requests in flight (`x-perf.max-workers`).
    pub max_workers: Option<i64>,
    /// Bytes per request, 0 for no limit (`x-perf.max-chunk`).
    pub max_chunk: Option<i64>,
    /// What is copied goes from the source (`discard-source`).
    pub discard_source: bool,
}

/// `block-stream`.
#[derive(Clone, Debug, Default)]
pub struct StreamOptions {
    /// Image that takes content up, by node name.
    pub device: String,
    /// File name of the layer that stays below.
    pub base: Option<String>,
    /// Its node name.
    pub base_node: Option<String>,
    /// Node name of the lowest layer that is taken up.
    pub bottom: Option<String>,
    /// What the image calls its new backing file.
    pub backing_file: Option<String>,
    /// Errors.
    pub on_error: OnError,
}

/// `block-commit`.
#[derive(Clone, Debug, Default)]
pub struct CommitOptions {
    /// The uppermost layer, by node name.
    pub device: String,
    /// File name of the layer to write into; the lowest one without.
    pub base: Option<String>,
    /// Its node name.
    pub base_node: Option<String>,
    /// File name of the uppermost layer to commit; that of the device without.
    pub top: Option<String>,
    /// Its node name.
    pub top_node: Option<String>,
    /// What the overlay calls its new backing file.
    pub backing_file: Option<String>,
    /// Errors.
    pub on_error: OnError,
}

/// Requests that a mirror or backup has in flight unless told otherwise.
const REQUESTS: usize = 16;
/// What each of them is thought to take, in bytes.
const SLICE: i64 = 1 << 20;
/// Most requests in flight, whatever was asked for.
const MOST_REQUESTS: usize = 64;

/// What is said of a node that jobs cannot put something in the place of.
const NO_ROOT: &str = "Need a root block node";

/// Whether only devices and exports use a node.
fn is_root(member: &Member) -> bool {
    member.parents().iter().all(|edge| matches!(edge.user(), User::Device(_)))
}

impl Site {
    /// A graph without jobs.
    pub fn new(graph: Arc<Graph>, jobs: Jobs) -> Self {
        let bitmaps = Bitmaps::new(&graph);
        Self { graph, jobs, bitmaps }
    }

    /// Makes a job and, unless it is held, starts it.
    fn launch(
        &self,
        kind: Kind,
        common: &Common,
        begin: impl FnOnce(&str) -> Result<Arc<dyn Work>, Refusal>,
    ) -> Result<(), Refusal> {
        let id = common.id.clone().unwrap_or_default();
        self.jobs.check_new(&id)?;
        let options = JobOptions {
            id: id.clone(),
            speed: common.speed,
            auto_finalize: common.auto_finalize,
            auto_dismiss: common.auto_dismiss,
        };
        let work = begin(&id)?;
        let made = self.jobs.create(kind, options, common.group, Arc::clone(&work));
        if let Err(refusal) = made {
            work.abort();
            work.clean();
            return Err(refusal);
        }
        drop(work);
        if common.held { Ok(()) } else { self.jobs.start(&id) }
    }

    /// `blockdev-mirror`.
    ///
    /// # Errors
    /// With QEMU's texts.
    pub fn mirror(&self, options: &MirrorOptions, common: &Common) -> Result<(), Refusal> {
        let refuse = |text: &str| Err(Refusal::new(text));
        let source = self.graph.get(&options.device)?;
        if !is_root(&source) {
            return refuse(NO_ROOT);
        }
        let target = self.graph.get(&options.target)?;
        if let Some(granularity) = options.granularity.filter(|g| *g != 0) {
            if !(512..=64 << 20).contains(&granularity) {
                return refuse("Parameter 'granularity' expects a value in range [512B, 64MB]");
            }
            if !granularity.is_power_of_two() {
                return refuse("Parameter 'granularity' expects a power of 2");
            }
        }
        self.check_free(&source, Use::MirrorSource)?;
        self.check_free(&target, Use::MirrorTarget)?;
        if options.buf_size < 0 {
            return refuse("Invalid parameter 'buf-size'");
        }
        if let Some(name) = &options.replaces {
            self.check_replaces(&source, name)?;
        }
        if Arc::ptr_eq(&source, &target) {
            return refuse("Can't mirror node into itself");
        }
        let cluster = target.node().info().cluster_size.unwrap_or(64 << 10);
        let usual = cluster.clamp(4096, 64 << 10);
        let granularity = options.granularity.filter(|g| *g != 0).unwrap_or(usual);
        let slice = SLICE.max(granularity.into());
        let requests = match options.buf_size {
            0 => REQUESTS,
            bytes => usize::try_from(bytes / slice).unwrap_or(REQUESTS).clamp(1, REQUESTS),
        };
        let plan = mirror::Plan {
            sync: options.sync,
            copy_mode: options.copy_mode,
            granularity: granularity.into(),
            requests,
            unmap: !options.keep_zeroes,
            policies: Policies { source: options.on_source_error, target: options.on_target_error },
            replaces: options.replaces.clone(),
            base: None,
            cover: common.filter_node_name.clone(),
        };
        self.launch(Kind::Mirror, common, |id| {
            let (source, target) = (&source, &target);
            let (graph, kind) = (&self.graph, Kind::Mirror);
            let none = Writable::new(graph);
            let work = mirror::Mirror::begin(graph, id, kind, source, target, plan, none)?;
            Ok(work)
        })
    }

    fn check_free(&self, member: &Arc<Member>, operation: Use) -> Result<(), Refusal> {
        Ok(self.graph.check_blocked(member, operation)?)
    }

    /// Only a node that shows what the source does may be replaced by a copy of it.
    fn check_replaces(&self, source: &Arc<Member>, name: &str) -> Result<(), Refusal> {
        let Some(replaced) = self.graph.named(name) else {
            let text = format!("Failed to find node with node-name='{name}'");
            return Err(Refusal::new(text));
        };
        let mut shown = Some(Arc::clone(source));
        while let Some(member) = shown {
            if Arc::ptr_eq(&member, &replaced) || quorum_child(&member, &replaced) {
                return Ok(());
            }
            let is_file = |edge: &Arc<graph::Edge>| *edge.user() == User::Node(Role::File);
            let below = member.children().into_iter().find(is_file);
            shown = below.filter(|_| member.kind() == NodeKind::Filter).and_then(|e| e.target());
        }
        Err(Refusal::new(format!(
            "Cannot replace '{name}' by a node mirrored from '{}', because it cannot be guaranteed \
             that doing so would not lead to an abrupt change of visible data",
            source.name()
        )))
    }

    /// `blockdev-backup`.
    ///
    /// # Errors
    /// With QEMU's texts.
    pub fn backup(&self, options: &BackupOptions, common: &Common) -> Result<(), Refusal> {
        let refuse = |text: &str| Err(Refusal::new(text));
        let source = self.graph.get(&options.device)?;
        let target = self.graph.get(&options.target)?;
        check_bitmap_wanted(options)?;
        let workers = match options.max_workers {
            Some(workers) if !(1..=i64::from(i32::MAX)).contains(&workers) => {
                return refuse("max-workers must be between 1 and 2147483647");
            }
            Some(workers) => usize::try_from(workers).unwrap_or(REQUESTS).min(MOST_REQUESTS),
            None => REQUESTS,
        };
        let chunk = match options.max_chunk.unwrap_or(0) {
            0 => backup::CHUNK,
            bytes => u64::try_from(bytes)
                .map_err(|_| {
                    Refusal::new("max-chunk must be zero (which means no limit) or positive")
                })?
                .min(backup::CHUNK),
        };
        let loan = match &options.bitmap {
            Some(name) => {
                let found = self.bitmaps.borrow(&source, name)?;
                let missing = || Refusal::new(format!("Bitmap '{name}' could not be found"));
                Some((found.ok_or_else(missing)?, backup_bitmap_mode(options)?))
            }
            None => None,
        };
        if Arc::ptr_eq(&source, &target) {
            return refuse("Source and target cannot be the same");
        }
        self.check_free(&source, Use::BackupSource)?;
        self.check_free(&target, Use::BackupTarget)?;
        if options.compress && !backup::compresses(&target) {
            return refuse("Compression is not supported for this drive ");
        }
        if source.node().size() != target.node().size() {
            return refuse("Source and target image have different sizes");
        }
        let plan = backup::Plan {
            sync: options.sync,
            bitmap: loan,
            workers,
            chunk,
            compress: options.compress,
            policies: Policies { source: options.on_source_error, target: options.on_target_error },
            on_copy_error: options.on_copy_error,
            discard_source: options.discard_source,
            cover: common.filter_node_name.clone(),
        };
        self.launch(Kind::Backup, common, |id| {
            let work = backup::Backup::begin(&self.graph, id, &source, &target, plan)?;
            Ok(work)
        })
    }

    /// `block-stream`.
    ///
    /// # Errors
    /// With QEMU's texts.
    pub fn stream(&self, options: &StreamOptions, common: &Common) -> Result<(), Refusal> {
        let refuse = |text: String| Err(Refusal::new(text));
        let both = |a: &str, b: &str| {
            Err(Refusal::new(format!("'{a}' and '{b}' cannot be specified at the same time")))
        };
        match (&options.base, &options.base_node, &options.bottom) {
            (Some(_), Some(_), _) => return both("base", "base-node"),
            (Some(_), _, Some(_)) => return both("base", "bottom"),
            (_, Some(_), Some(_)) => return both("bottom", "base-node"),
            _ => {}
        }
        let device = &options.device;
        let top = self.graph.get(device)?;
        let chain = chain(&top);
        let base = match (&options.base, &options.base_node, &options.bottom) {
            (Some(file), ..) => Some(by_file(&chain, file)?),
            (_, Some(name), _) => {
                let base = self.node_only(name)?;
                if !chain[1..].iter().any(|layer| Arc::ptr_eq(layer, &base)) {
                    return refuse(format!("Node '{name}' is not a backing image of '{device}'"));
                }
                Some(base)
            }
            (.., Some(name)) => {
                let bottom = self.node_only(name)?;
                if !chain.iter().any(|layer| Arc::ptr_eq(layer, &bottom)) {
                    let text = format!("Node '{name}' is not in a chain starting from '{device}'");
                    return refuse(text);
                }
                backing(&bottom)
            }
            _ => None,
        };
        let end = chain.iter().position(|l| base.as_ref().is_some_and(|b| Arc::ptr_eq(l, b)));
        for layer in &chain[..end.unwrap_or(chain.len())] {
            self.check_free(layer, Use::Stream)?;
        }
        if base.is_none() && options.backing_file.is_some() {
            let text = "backing file specified, but streaming the entire chain";
            return refuse(text.to_owned());
        }
        let (name, on_error) = (options.backing_file.clone(), options.on_error);
        self.launch(Kind::Stream, common, |id| {
            let graph = &self.graph;
            let cover = common.filter_node_name.as_deref();
            let work =
                stream::Stream::begin(graph, id, &top, base.as_ref(), name, on_error, cover)?;
            Ok(work)
        })
    }

    /// `block-commit`.
    ///
    /// # Errors
    /// With QEMU's texts.
    pub fn commit(&self, options: &CommitOptions, common: &Common) -> Result<(), Refusal> {
        let refuse = |text: String| Err(Refusal::new(text));
        let device = &options.device;
        let Some(active) = self.graph.named(device) else {
            let text = format!("Device '{device}' not found");
            return Err(Refusal { class: Class::DeviceNotFound, text });
        };
        if !is_root(&active) {
            return refuse(NO_ROOT.to_owned());
        }
        let chain = chain(&active);
        let strange =
            |name: &str| Err(Refusal::new(format!("'{name}' is not in this backing file chain")));
        let top = match (&options.top_node, &options.top) {
            (Some(_), Some(_)) => {
                return refuse("'top-node' and 'top' are mutually exclusive".to_owned());
            }
            (Some(name), _) => {
                let top = self.node_only(name)?;
                if position(&chain, &top).is_none() {
                    return strange(name);
                }
                top
            }
            (_, Some(file)) => by_file(&chain, file)
                .map_err(|_| Refusal::new(format!("Top image file {file} not found")))?,
            _ => Arc::clone(&active),
        };
        let below = &chain[position(&chain, &top).unwrap_or(0)..];
        let base = match (&options.base_node, &options.base) {
            (Some(_), Some(_)) => {
                return refuse("'base-node' and 'base' are mutually exclusive".to_owned());
            }
            (Some(name), _) => {
                let base = self.node_only(name)?;
                if position(below, &base).is_none() {
                    return strange(name);
                }
                base
            }
            (_, Some(file)) => by_file(below, file)?,
            _ => below.last().cloned().unwrap_or_else(|| Arc::clone(&top)),
        };
        if Arc::ptr_eq(&top, &base) {
            return refuse("cannot commit an image into itself".to_owned());
        }
        for layer in &below[..position(below, &base).unwrap_or(0)] {
            self.check_free(layer, Use::CommitSource)?;
        }
        self.check_free(&active, Use::CommitSource)?;
        self.check_free(&base, Use::CommitTarget)?;
        if !Arc::ptr_eq(&top, &active) {
            let (name, on_error) = (options.backing_file.clone(), options.on_error);
            return self.launch(Kind::Commit, common, |id| {
                let (graph, cover) = (&self.graph, common.filter_node_name.as_deref());
                let above = chain[..position(&chain, &top).unwrap_or(0)].to_vec();
                let (top, base) = (Arc::clone(&top), Arc::clone(&base));
                let span = commit::Span { above, top, base };
                let work = commit::Commit::begin(graph, id, &span, name, on_error, cover)?;
                Ok(work)
            });
        }
        if options.backing_file.is_some() {
            let text = "'backing-file' specified, but 'top' is the active layer";
            return refuse(text.to_owned());
        }
        let on_error = options.on_error;
        let plan = mirror::Plan {
            granularity: base
                .node()
                .info()
                .cluster_size
                .unwrap_or(64 << 10)
                .clamp(4096, 64 << 10)
                .into(),
            requests: REQUESTS,
            policies: Policies { source: on_error, target: on_error },
            base: Some(Arc::clone(&base)),
            cover: common.filter_node_name.clone(),
            ..mirror::Plan::default()
        };
        self.launch(Kind::Commit, common, |id| {
            let (graph, kind) = (&self.graph, Kind::Commit);
            let writable = Writable::new(graph);
            writable.add(&base)?;
            commit::resize(&*base.node(), active.node().size())
                .map_err(|error| Refusal::new(graph::host_text(&error)))?;
            let work = mirror::Mirror::begin(graph, id, kind, &active, &base, plan, writable)?;
            Ok(work)
        })
    }

    /// A node that is named as such.
    fn node_only(&self, name: &str) -> Result<Arc<Member>, Refusal> {
        let missing = || Refusal::new(format!("Cannot find device='' nor node-name='{name}'"));
        self.graph.named(name).ok_or_else(missing)
    }

    /// A job that is a single piece of work: `blockdev-create`, `x-blockdev-amend`.
    ///
    /// # Errors
    /// For a name that cannot be.
    pub fn task(&self, kind: Kind, id: &str, task: Task) -> Result<(), Refusal> {
        let by_hand = JobOptions { auto_dismiss: false, ..JobOptions::new(id) };
        self.jobs.check_new(id)?;
        self.jobs.launch(kind, by_hand, Arc::new(task))
    }
}

fn sync_name(sync: BackupSync) -> &'static str {
    match sync {
        BackupSync::Full => "full",
        BackupSync::Top => "top",
        BackupSync::Incremental => "incremental",
        BackupSync::Bitmap => "bitmap",
        BackupSync::None => "none",
    }
}

/// Refuses sync modes that do not fit to whether a bitmap is named, and to its own mode.
fn check_bitmap_wanted(options: &BackupOptions) -> Result<(), Refusal> {
    let refuse = |text: String| Err(Refusal::new(text));
    let name = sync_name(options.sync);
    let by_bitmap = matches!(options.sync, BackupSync::Incremental | BackupSync::Bitmap);
    match (&options.bitmap, options.bitmap_mode) {
        (None, _) if by_bitmap => {
            refuse(format!("must provide a valid bitmap name for '{name}' sync mode"))
        }
        (None, Some(_)) => refuse("Cannot specify bitmap sync mode without a bitmap".to_owned()),
        (Some(_), Some(mode))
            if options.sync == BackupSync::Incremental && mode != BitmapMode::OnSuccess =>
        {
            refuse(format!("Bitmap sync mode must be 'on-success' when using sync mode '{name}'"))
        }
        _ => Ok(()),
    }
}

/// What becomes of the bitmap that is named.
fn backup_bitmap_mode(options: &BackupOptions) -> Result<BitmapMode, Refusal> {
    let refuse = |text: String| Err(Refusal::new(text));
    let (sync, name) = (options.sync, sync_name(options.sync));
    let mode = match (sync, options.bitmap_mode) {
        (BackupSync::Incremental, _) => BitmapMode::OnSuccess,
        (_, Some(mode)) => mode,
        (_, None) => {
            let text = "Bitmap sync mode must be given when providing a bitmap";
            return refuse(text.to_owned());
        }
    };
    if sync == BackupSync::None {
        return refuse(format!("sync mode '{name}' does not produce meaningful bitmap outputs"));
    }
    if mode == BitmapMode::Never && matches!(sync, BackupSync::Full | BackupSync::Top) {
        return refuse(format!(
            "Bitmap sync mode 'never' has no meaningful effect when combined with sync mode '{name}'"
        ));
    }
    Ok(mode)
}

fn quorum_child(member: &Member, wanted: &Arc<Member>) -> bool {
    member.node().info().driver == "quorum"
        && member.children().iter().any(|e| e.target().is_some_and(|t| Arc::ptr_eq(&t, wanted)))
}

/// A disk's layers from the top.
fn chain(top: &Arc<Member>) -> Vec<Arc<Member>> {
    let mut chain = vec![Arc::clone(top)];
    while let Some(next) = chain.last().and_then(backing) {
        chain.push(next);
    }
    chain
}

fn position(chain: &[Arc<Member>], wanted: &Arc<Member>) -> Option<usize> {
    chain.iter().position(|layer| Arc::ptr_eq(layer, wanted))
}

/// The layer below the first with that file name, as it is or as an overlay records it.
fn by_file(chain: &[Arc<Member>], file: &str) -> Result<Arc<Member>, Refusal> {
    let pairs = chain.iter().zip(chain.iter().skip(1));
    let mut named = pairs.filter(|(above, below)| {
        below.node().info().filename == file
            || above.node().info().backing_filename.as_deref() == Some(file)
    });
    let found = named.next().map(|(_, below)| Arc::clone(below));
    found.ok_or_else(|| Refusal::new(format!("Can't find '{file}' in the backing chain")))
}
