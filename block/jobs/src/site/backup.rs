//! `backup`: copies what a node holds at one moment, while it goes on changing.
//!
//! The moment is when the hook is added, with nothing in flight. From then on, before a change reaches
//! the source, the hook copies what the change would destroy, unless that is copied already. Both the
//! job's pieces and those of the hook clear the bits of what they have copied, with the range in hand.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use graph::{
    Access, Blocker, Change, DirtyBits, Drained, Edge, ExtentKind, Graph, Hook, Image, Member,
    Node, OpenError, Permissions, User,
};

use super::bitmaps::Loan;
use super::cover::{Cover, not_made};
use super::mirror::{bytes, clear};
use crate::engine::{
    BUFFER, Fence, Layers, Load, Mishap, Outlook, Piece, Policies, Pump, Sided, Transfer, ZEROES,
    backing, drive,
};
use crate::job::{Bell, Control, Failure, Kind, Meter, Operation, Work};

/// What of the source is copied (`MirrorSyncMode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackupSync {
    /// Everything that the disk shows.
    #[default]
    Full,
    /// What its uppermost layer has.
    Top,
    /// What a bitmap says has changed, which is then cleared.
    Incremental,
    /// What a bitmap says has changed.
    Bitmap,
    /// Only what is about to change.
    None,
}

/// What becomes of the bitmap (`BitmapSyncMode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BitmapMode {
    /// What was copied is cleared if all was.
    OnSuccess,
    /// It stays as it is.
    Never,
    /// What was copied is cleared in any case.
    Always,
}

/// What happens to a change whose copy fails (`OnCbwError`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnCopyError {
    /// The change fails, and the backup goes on.
    #[default]
    BreakGuestWrite,
    /// The backup fails, and the change goes on.
    BreakSnapshot,
}

/// How a backup works.
pub(crate) struct Plan {
    pub sync: BackupSync,
    /// The bitmap with what becomes of it.
    pub bitmap: Option<(Loan, BitmapMode)>,
    /// Requests in flight.
    pub workers: usize,
    /// Bytes per request at most.
    pub chunk: u64,
    pub compress: bool,
    pub policies: Policies,
    pub on_copy_error: OnCopyError,
    /// What the job has copied goes from the source.
    pub discard_source: bool,
    /// Name of the node above the source.
    pub cover: Option<String>,
}

/// The smallest unit that is copied, in bytes.
const SMALLEST: u64 = 64 << 10;

/// The work of a backup.
pub(crate) struct Backup {
    graph: Arc<Graph>,
    source: Arc<Member>,
    plan: Plan,
    hook: Arc<BackupHook>,
    /// Where the job's own requests begin, so that drains of the source wait for them.
    from: Arc<Edge>,
    /// What is above the source.
    cover: Cover,
    succeeded: AtomicBool,
    #[expect(dead_code, reason = "held, not used")]
    blockers: Vec<Blocker>,
}

/// Copies before writes.
struct BackupHook {
    transfer: Transfer,
    target: Arc<Edge>,
    size: u64,
    /// Bytes that are copied together; a power of two.
    cluster: u64,
    /// What is still to be copied.
    todo: Mutex<DirtyBits>,
    fence: Fence,
    on_copy_error: OnCopyError,
    /// A copy has failed and the change went on: the backup is not what the source was.
    broken: Mutex<Option<String>>,
    over: AtomicBool,
    /// Bytes that were copied for changes.
    copied: AtomicU64,
    meter: Mutex<Option<Meter>>,
    bell: OnceLock<Arc<Bell>>,
}

impl BackupHook {
    fn todo(&self) -> MutexGuard<'_, DirtyBits> {
        self.todo.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies what is still to be copied of a range of whole clusters. With `discard` it goes from the
    /// source.
    fn copy(&self, offset: u64, len: u64, discard: bool) -> Sided<()> {
        let _in_hand = self.fence.take(offset, len);
        let (mut at, end) = (offset, (offset + len).min(self.size));
        loop {
            let run = self.todo().next_run(at).filter(|(start, _)| *start < end);
            let Some((start, len)) = run else { return Ok(()) };
            let len = len.min(end - start);
            self.transfer.copy(start, len)?;
            if discard {
                // Before the bit goes: who changes the range waits until then. The source may keep it.
                let _ = self.transfer.source.discard_beside(self, start, len);
            }
            clear(&mut self.todo(), start, len, self.size);
            self.count(len);
            at = start + len;
        }
    }

    fn count(&self, len: u64) {
        match &*self.meter.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(meter) => meter.add_done(len),
            None => drop(self.copied.fetch_add(len, Ordering::Relaxed)),
        }
    }
}

impl Hook for BackupHook {
    fn before(&self, change: &Change, _node: &dyn Node) -> std::io::Result<()> {
        if self.over.load(Ordering::SeqCst) || change.offset >= self.size {
            return Ok(());
        }
        let start = change.offset / self.cluster * self.cluster;
        let end = change.offset.saturating_add(change.len).min(self.size);
        let end = end.next_multiple_of(self.cluster);
        if self.todo().next_run(start).is_none_or(|(first, _)| first >= end) {
            // It may be in hand: whoever has it clears the bit afterwards, so it is not.
            return Ok(());
        }
        match self.copy(start, end - start, false) {
            Ok(()) => Ok(()),
            Err((_, error)) if self.on_copy_error == OnCopyError::BreakSnapshot => {
                let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
                broken.get_or_insert_with(|| graph::host_text(&error));
                if let Some(bell) = self.bell.get() {
                    bell.ring();
                }
                Ok(())
            }
            Err((_, error)) => Err(error),
        }
    }

    fn edges(&self) -> Vec<Arc<Edge>> {
        vec![Arc::clone(&self.target)]
    }
}

impl Backup {
    /// Takes the moment.
    pub fn begin(
        graph: &Arc<Graph>,
        id: &str,
        source: &Arc<Member>,
        target: &Arc<Member>,
        mut plan: Plan,
    ) -> Result<Arc<Self>, OpenError> {
        let user = || User::Job(id.to_owned());
        if plan.discard_source && source.node().read_only() {
            return Err(OpenError::Option("Block node is read-only".to_owned()));
        }
        let (driver, name) = ("copy-before-write", plan.cover.as_deref());
        let cover = Cover::put(graph, id, driver, name, source, Kind::Backup).map_err(not_made)?;
        let write = if plan.discard_source { Access::WRITE } else { Access::NONE };
        let needs = Permissions { taken: Access::READ.with(write), shared: Access::ALL };
        let from = graph.attach(source, user(), needs)?;
        let shared = Access::ALL.without(Access::WRITE.with(Access::RESIZE));
        let to = graph.attach(target, user(), Permissions { taken: Access::WRITE, shared })?;
        let cluster = cluster_of(target);
        let size = source.node().size();
        let node = Arc::clone(&to) as Arc<dyn Node>;
        let todo = DirtyBits::new(cluster.trailing_zeros());
        let hook = Arc::new(BackupHook {
            transfer: Transfer::new(Arc::clone(source), node, true, plan.compress),
            target: to,
            size,
            cluster,
            todo: Mutex::new(todo),
            fence: Fence::default(),
            on_copy_error: plan.on_copy_error,
            broken: Mutex::default(),
            over: AtomicBool::new(false),
            copied: AtomicU64::new(0),
            meter: Mutex::default(),
            bell: OnceLock::new(),
        });
        let reason = "block device is in use by block job: backup";
        let blockers = vec![graph.block(source, reason, &[]), graph.block(target, reason, &[])];
        {
            let _drained: Drained = graph.drain(source);
            let mut todo = hook.todo();
            match (plan.sync, &mut plan.bitmap) {
                (BackupSync::Incremental | BackupSync::Bitmap, Some((loan, _))) => {
                    loan.take().iter().for_each(|(start, len)| todo.set(*start, *len));
                }
                (_, loan) => {
                    if let Some((loan, _)) = loan {
                        loan.take();
                    }
                    todo.set(0, size);
                }
            }
            drop(todo);
            graph.add_hook(source, Arc::clone(&hook) as Arc<dyn Hook>);
        }
        Ok(Arc::new(Self {
            graph: Arc::clone(graph),
            source: Arc::clone(source),
            plan,
            hook,
            from,
            cover,
            succeeded: AtomicBool::new(false),
            blockers,
        }))
    }

    /// Takes out what the uppermost layer does not have. What changes meanwhile has been copied, which
    /// does no harm: it is what was there.
    fn leave_out_lower_layers(&self, job: &Control) -> Result<(), Failure> {
        let layers = Layers::above(&self.source, backing(&self.source).as_ref());
        let (mut at, size) = (0, self.hook.size);
        while at < size {
            if job.wanted() {
                job.checkpoint()?;
            }
            let (kind, len) = layers.status(at, size - at)?;
            if kind == ExtentKind::Unallocated {
                // Whole clusters only.
                clear(&mut self.hook.todo(), at, len, size);
            }
            at += len;
        }
        Ok(())
    }

    fn broken(&self) -> Result<(), Failure> {
        let broken = self.hook.broken.lock().unwrap_or_else(PoisonError::into_inner);
        broken.clone().map_or(Ok(()), |text| Err(Failure::Error(text)))
    }
}

/// The smallest unit in which the target can be written without losing what is beside it.
fn cluster_of(target: &Arc<Member>) -> u64 {
    let cluster = target.node().info().cluster_size.map_or(SMALLEST, u64::from);
    cluster.clamp(SMALLEST, 64 << 20).next_power_of_two()
}

/// What is left to copy.
struct Todo<'a> {
    backup: &'a Backup,
    at: u64,
    layers: Outlook,
    again: Vec<Piece>,
}

impl Load for Todo<'_> {
    fn next(&mut self) -> Result<Option<Piece>, Mishap> {
        if let Some(piece) = self.again.pop() {
            return Ok(Some(piece));
        }
        let hook = &self.backup.hook;
        let run = hook.todo().next_run(self.at).filter(|(start, _)| *start < hook.size);
        let Some((offset, len)) = run else { return Ok(None) };
        let len = len.min(hook.size - offset);
        let (kind, len) = self.layers.status(offset, len).map_err(|error| Mishap {
            piece: Piece { offset, len: len.min(hook.cluster), cost: 0 },
            operation: Operation::Read,
            error,
        })?;
        let data = matches!(kind, ExtentKind::Data | ExtentKind::Compressed);
        let most = if data { self.backup.plan.chunk.max(hook.cluster) } else { ZEROES };
        let first = offset / hook.cluster * hook.cluster;
        let most = (most / hook.cluster).max(1) * hook.cluster;
        let end = (offset + len).next_multiple_of(hook.cluster).min(first + most).min(hook.size);
        self.at = end;
        Ok(Some(Piece {
            offset: first,
            len: end - first,
            cost: if data { end - first } else { 0 },
        }))
    }

    fn again(&mut self, piece: Piece) {
        self.at = self.at.max(piece.offset + piece.len);
        self.again.push(piece);
    }

    fn carry(&self, piece: Piece) -> Box<dyn FnOnce() -> Result<(), Mishap> + Send> {
        let hook = Arc::clone(&self.backup.hook);
        let (from, discard) = (Arc::clone(&self.backup.from), self.backup.plan.discard_source);
        Box::new(move || {
            let _pass = from.hold();
            let copied = hook.copy(piece.offset, piece.len, discard);
            copied.map_err(|(operation, error)| Mishap { piece, operation, error })
        })
    }
}

impl Work for Backup {
    fn run(&self, job: &Control) -> Result<(), Failure> {
        let _ = self.hook.bell.set(Arc::clone(job.bell()));
        if self.plan.sync == BackupSync::Top {
            self.leave_out_lower_layers(job)?;
        }
        {
            let mut meter = self.hook.meter.lock().unwrap_or_else(PoisonError::into_inner);
            job.set_total(bytes(&self.hook.todo(), self.hook.size));
            job.meter().add_done(self.hook.copied.load(Ordering::Relaxed));
            *meter = Some(job.meter());
        }
        if self.plan.sync == BackupSync::None {
            // Changes do all the work, until somebody ends it.
            loop {
                let seen = job.bell().rings();
                job.checkpoint()?;
                self.broken()?;
                job.sleep(seen, None);
            }
        }
        let pump = Pump::new(job, self.plan.workers);
        let layers = Outlook::new(Layers::of(&self.source));
        let mut load = Todo { backup: self, at: 0, layers, again: Vec::new() };
        drive(job, &pump, self.plan.policies, &mut load)?;
        self.broken()?;
        self.hook.over.store(true, Ordering::SeqCst);
        self.hook.target.flush()?;
        Ok(())
    }

    fn commit(&self) {
        self.succeeded.store(true, Ordering::SeqCst);
    }

    fn clean(&self) {
        self.hook.over.store(true, Ordering::SeqCst);
        self.graph.remove_hook(&self.source, &(Arc::clone(&self.hook) as Arc<dyn Hook>));
        self.cover.lift();
        *self.hook.meter.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let Some((loan, mode)) = &self.plan.bitmap else { return };
        let all = self.succeeded.load(Ordering::SeqCst);
        match mode {
            BitmapMode::Never => loan.give_back(None),
            BitmapMode::OnSuccess if !all => loan.give_back(None),
            BitmapMode::OnSuccess => loan.keep(),
            BitmapMode::Always => loan.give_back(Some(&self.hook.todo())),
        }
    }
}

/// The largest request of a backup unless the user says otherwise.
pub(crate) const CHUNK: u64 = BUFFER;

/// Whether the node can store compressed clusters.
pub(crate) fn compresses(target: &Arc<Member>) -> bool {
    target.node().image().and_then(Image::compress).is_some()
}
