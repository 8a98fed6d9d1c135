//! `mirror`: keeps another node in step with one that is in use, and puts it into its place.
//!
//! A hook on the source notes what changes, after it has changed. Pieces that are noted are taken off
//! the note first and then copied, so that a change on its way is noted again. In write-blocking mode
//! the hook copies each change before it is acknowledged. At the end the source is drained, what is
//! left is copied, and only then edges turn to the target: no acknowledged write is lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use graph::{
    Access, Blocker, Change, DirtyBits, Drained, Edge, ExtentKind, Graph, Hook, Member, Node,
    Operation as Use, Permissions, User,
};

use super::cover::Cover;
use super::writable::Writable;
use crate::engine::{
    BUFFER, Fence, Layers, Load, Mishap, Outlook, Piece, Policies, Pump, Sided, Transfer, ZEROES,
    backing, drive, reads_zero,
};
use crate::job::{Bell, Control, Failure, Kind, Refusal, Work};

/// What of the source is copied before it is in step (`MirrorSyncMode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MirrorSync {
    /// Everything that the disk shows.
    #[default]
    Full,
    /// What its uppermost layer has.
    Top,
    /// Only what changes from now on.
    None,
}

/// When the target gets what is written to the source (`MirrorCopyMode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CopyMode {
    /// Some time later.
    #[default]
    Background,
    /// Before the write is acknowledged.
    WriteBlocking,
}

/// How a mirror works.
#[derive(Clone, Default)]
pub(crate) struct Plan {
    pub sync: MirrorSync,
    pub copy_mode: CopyMode,
    /// Bytes that are noted together; a power of two.
    pub granularity: u64,
    /// Requests in flight.
    pub requests: usize,
    pub unmap: bool,
    pub policies: Policies,
    /// What the target takes the place of, instead of the source.
    pub replaces: Option<String>,
    /// Layers from this one downwards are in the target already.
    pub base: Option<Arc<Member>>,
    /// Name of the node above the source.
    pub cover: Option<String>,
}

/// How often the noted part of the disk is gone through before the job looks up.
const PASSES: u64 = 4;

/// The work of a mirror, and of a commit of the active layer.
pub(crate) struct Mirror {
    graph: Arc<Graph>,
    source: Arc<Member>,
    target: Arc<Member>,
    kind: Kind,
    plan: Plan,
    hook: Arc<MirrorHook>,
    /// Where the job's own requests begin, so that drains of the source wait for them.
    from: Arc<Edge>,
    /// What is above the source.
    cover: Cover,
    /// The target shall take the source's place.
    pivots: AtomicBool,
    /// Edges were turned to the target, and everything stands still until that is final.
    turned: Mutex<Option<(Arc<Member>, Drained)>>,
    blockers: Mutex<Vec<Blocker>>,
    /// The target, if it was read-only.
    writable: Writable,
}

/// Sees the changes of the source.
struct MirrorHook {
    transfer: Transfer,
    target: Arc<Edge>,
    bits: Mutex<DirtyBits>,
    /// Copies that would overwrite each other.
    fence: Fence,
    /// Changes are copied before they are acknowledged.
    active: AtomicBool,
    /// Both were in step once, so with `active` they are for good.
    synced: AtomicBool,
    /// Nothing is noted any more.
    over: AtomicBool,
    bell: OnceLock<Arc<Bell>>,
}

impl MirrorHook {
    fn bits(&self) -> MutexGuard<'_, DirtyBits> {
        self.bits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn copy(&self, offset: u64, len: u64) -> Sided<()> {
        let _in_hand = self.fence.take(offset, len);
        self.transfer.copy(offset, len)
    }

    fn note(&self, offset: u64, len: u64) {
        self.bits().set(offset, len);
        if let Some(bell) = self.bell.get() {
            bell.ring();
        }
    }
}

impl Hook for MirrorHook {
    fn after(&self, change: &Change) {
        let size = self.transfer.source.node().size();
        let len = change.len.min(size.saturating_sub(change.offset));
        if len == 0 || self.over.load(Ordering::SeqCst) {
            return;
        }
        // What cannot be copied at once is noted, and the job meets the error itself.
        if !self.active.load(Ordering::SeqCst) || self.copy(change.offset, len).is_err() {
            self.synced.store(false, Ordering::SeqCst);
            self.note(change.offset, len);
        }
    }

    fn edges(&self) -> Vec<Arc<Edge>> {
        vec![Arc::clone(&self.target)]
    }
}

impl Mirror {
    /// Begins to note what changes.
    pub fn begin(
        graph: &Arc<Graph>,
        id: &str,
        kind: Kind,
        source: &Arc<Member>,
        target: &Arc<Member>,
        plan: Plan,
        writable: Writable,
    ) -> Result<Arc<Self>, graph::OpenError> {
        let user = || User::Job(id.to_owned());
        let cover = Cover::put(graph, id, "mirror_top", plan.cover.as_deref(), source, kind)?;
        let reader = Permissions { taken: Access::READ, shared: Access::ALL };
        let from = graph.attach(source, user(), reader)?;
        // A commit writes what its users see already.
        let taken = if plan.base.is_some() { Access::WRITE_UNCHANGED } else { Access::WRITE };
        let writer =
            Permissions { taken, shared: Access::ALL.without(Access::WRITE.with(Access::RESIZE)) };
        let writer = if plan.base.is_some() { reader_of_base(writer) } else { writer };
        let to = graph.attach(target, user(), writer)?;
        let node = Arc::clone(&to) as Arc<dyn Node>;
        let hook = Arc::new(MirrorHook {
            transfer: Transfer::new(Arc::clone(source), node, plan.unmap, false),
            target: Arc::clone(&to),
            bits: Mutex::new(DirtyBits::new(plan.granularity.trailing_zeros())),
            fence: Fence::default(),
            active: AtomicBool::new(plan.copy_mode == CopyMode::WriteBlocking),
            synced: AtomicBool::new(false),
            over: AtomicBool::new(false),
            bell: OnceLock::new(),
        });
        let reason = format!("block device is in use by block job: {}", kind.name());
        // The layers of a commit; the target is in use, as is said of it.
        let layers = plan.base.as_ref().map(|base| Layers::above(source, Some(base)));
        let layers = layers.iter().flat_map(Layers::members).filter(|m| !Arc::ptr_eq(m, source));
        let blockers = std::iter::once(graph.block(source, &reason, &[Use::Replace]))
            .chain(layers.map(|layer| graph.block(layer, &reason, &[])))
            .chain([graph.block(target, &reason, &[Use::Replace, Use::Remove])])
            .collect();
        graph.add_hook(source, Arc::clone(&hook) as Arc<dyn Hook>);
        Ok(Arc::new(Self {
            graph: Arc::clone(graph),
            source: Arc::clone(source),
            target: Arc::clone(target),
            kind,
            plan,
            hook,
            from,
            cover,
            pivots: AtomicBool::new(false),
            turned: Mutex::default(),
            blockers: Mutex::new(blockers),
            writable,
        }))
    }

    /// Notes what has to be copied in the first place.
    fn survey(&self, job: &Control) -> Result<(), Failure> {
        let size = self.source.node().size();
        let base = match self.plan.sync {
            MirrorSync::None => return Ok(()),
            MirrorSync::Top => backing(&self.source),
            MirrorSync::Full => self.plan.base.clone(),
        };
        if base.is_none() && !reads_zero(&self.target) {
            self.hook.bits().set(0, size);
            return Ok(());
        }
        let layers = Layers::above(&self.source, base.as_ref());
        let mut at = 0;
        while at < size {
            if job.wanted() {
                job.checkpoint()?;
            }
            let (kind, len) = layers.status(at, size - at)?;
            let holds = match kind {
                ExtentKind::Data | ExtentKind::Compressed => true,
                // Where the target has something else below.
                ExtentKind::Zero => base.is_some(),
                ExtentKind::Unallocated => false,
            };
            if holds {
                self.hook.bits().set(at, len);
            }
            at += len;
        }
        Ok(())
    }

    /// Copies what is noted until nothing is.
    fn catch_up(&self, job: &Control, pump: &Pump, passes: u64) -> Result<(), Failure> {
        let layers = Outlook::new(Layers::of(&self.source));
        let mut load = Noted { mirror: self, job, at: 0, layers, passes };
        drive(job, pump, self.plan.policies, &mut load)
    }

    fn turned(&self) -> MutexGuard<'_, Option<(Arc<Member>, Drained)>> {
        self.turned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn left(&self) -> u64 {
        bytes(&self.hook.bits(), self.source.node().size())
    }

    /// Copies what is left while nothing changes.
    fn finish(&self) -> Result<(), Failure> {
        let size = self.source.node().size();
        loop {
            let run = self.hook.bits().next_run(0);
            let Some((offset, len)) = run.filter(|(offset, _)| *offset < size) else { break };
            let len = len.min(size - offset);
            self.hook.transfer.copy(offset, len).map_err(|(_, error)| error)?;
            clear(&mut self.hook.bits(), offset, len, size);
        }
        self.hook.target.flush()?;
        Ok(())
    }
}

/// What a writer lets others do who use the same node as their backing file.
fn reader_of_base(writer: Permissions) -> Permissions {
    Permissions { taken: writer.taken.with(Access::READ), shared: Access::ALL }
}

/// Bytes with bits set on a disk of `size` bytes.
pub(crate) fn bytes(bits: &DirtyBits, size: u64) -> u64 {
    let (mut at, mut sum) = (0, 0);
    while let Some((start, len)) = bits.next_run(at).filter(|(start, _)| *start < size) {
        sum += len.min(size - start);
        at = start + len;
    }
    sum
}

/// Clears the bits of a range that ends at a bit's edge or with the disk.
pub(crate) fn clear(bits: &mut DirtyBits, offset: u64, len: u64, size: u64) {
    let end = offset + len;
    bits.clear(offset, if end >= size { u64::MAX - offset } else { len });
}

/// The pieces that a mirror has noted.
struct Noted<'a> {
    mirror: &'a Mirror,
    job: &'a Control,
    at: u64,
    layers: Outlook,
    /// How often the disk may still be gone through.
    passes: u64,
}

impl Load for Noted<'_> {
    fn next(&mut self) -> Result<Option<Piece>, Mishap> {
        let mirror = self.mirror;
        let size = mirror.source.node().size();
        let run = {
            let bits = mirror.hook.bits();
            let mut run = bits.next_run(self.at).filter(|(start, _)| *start < size);
            if run.is_none() && self.at != 0 && self.passes > 1 {
                (self.at, self.passes) = (0, self.passes - 1);
                run = bits.next_run(0).filter(|(start, _)| *start < size);
            }
            run
        };
        let Some((offset, len)) = run else { return Ok(None) };
        let len = len.min(size - offset);
        let piece = |len, cost| Piece { offset, len, cost };
        let (kind, len) = match self.layers.status(offset, len) {
            Ok(status) => status,
            Err(error) => {
                let operation = crate::job::Operation::Read;
                return Err(Mishap { piece: piece(len, 0), operation, error });
            }
        };
        let granularity = mirror.plan.granularity;
        let data = matches!(kind, ExtentKind::Data | ExtentKind::Compressed);
        let most = if data { BUFFER.max(granularity) } else { ZEROES.max(granularity) };
        // Whole granules: their bits go as a whole.
        let first = offset / granularity * granularity;
        let end = (offset + len).next_multiple_of(granularity).min(first + most).min(size);
        clear(&mut mirror.hook.bits(), first, end - first, size);
        self.at = end;
        let len = end - offset;
        Ok(Some(piece(len, if data { len } else { 0 })))
    }

    fn again(&mut self, piece: Piece) {
        self.mirror.hook.note(piece.offset, piece.len);
        self.passes += 1;
    }

    fn carry(&self, piece: Piece) -> Box<dyn FnOnce() -> Result<(), Mishap> + Send> {
        let (hook, from) = (Arc::clone(&self.mirror.hook), Arc::clone(&self.mirror.from));
        let progress = self.job.meter();
        Box::new(move || {
            let _pass = from.hold();
            let copied = hook.copy(piece.offset, piece.len);
            copied.map_err(|(operation, error)| Mishap { piece, operation, error })?;
            progress.add_done(piece.len);
            Ok(())
        })
    }
}

impl Work for Mirror {
    fn run(&self, job: &Control) -> Result<(), Failure> {
        let (source, target) = (self.source.node().size(), self.target.node().size());
        if source != target {
            let text = "Source and target image have different sizes";
            return Err(Failure::Error(text.to_owned()));
        }
        let _ = self.hook.bell.set(Arc::clone(job.bell()));
        self.survey(job)?;
        job.set_total(self.left());
        let pump = Pump::new(job, self.plan.requests);
        loop {
            let seen = job.bell().rings();
            job.set_total(job.meter().done() + self.left());
            self.catch_up(job, &pump, PASSES)?;
            let left = self.left();
            job.set_total(job.meter().done() + left);
            if !job.is_ready() && left <= BUFFER * self.plan.requests as u64 {
                self.hook.target.flush()?;
                job.ready();
            }
            if left == 0 && self.goes_along() {
                self.hook.synced.store(true, Ordering::SeqCst);
            }
            job.checkpoint()?;
            let leaves = job.leave();
            if leaves || job.complete() {
                self.pivots.store(!leaves, Ordering::SeqCst);
                // What changes while this runs is copied when the source stands still.
                self.catch_up(job, &pump, 1)?;
                break;
            }
            if left == 0 {
                job.sleep(seen, None);
            }
        }
        job.set_total(job.meter().done());
        if !self.pivots.load(Ordering::SeqCst) {
            // The target is what the source is at this moment.
            let _drained = self.graph.drain(&self.source);
            self.finish()?;
            self.hook.over.store(true, Ordering::SeqCst);
        }
        Ok(())
    }

    fn prepare(&self) -> Result<(), Failure> {
        if !self.pivots.load(Ordering::SeqCst) {
            return Ok(());
        }
        let drained = self.graph.drain(&self.source);
        self.finish()?;
        let replaced = match &self.plan.replaces {
            Some(name) => self.graph.get(name).map_err(Refusal::from)?,
            None => Arc::clone(&self.source),
        };
        self.graph.require(&self.hook.target, Permissions::UNUSED).map_err(Refusal::from)?;
        // Users are to come from the source itself to the target.
        self.cover.lift();
        self.graph.replace(&replaced, &self.target).map_err(Refusal::from)?;
        self.hook.over.store(true, Ordering::SeqCst);
        *self.turned() = Some((replaced, drained));
        Ok(())
    }

    /// What was written stays writable: who has written the source writes it from now on, or may.
    fn commit(&self) {
        self.writable.keep();
    }

    fn abort(&self) {
        self.pivots.store(false, Ordering::SeqCst);
        // Another job of the group failed behind us. Nothing has been written meanwhile.
        if let Some((replaced, _)) = &*self.turned() {
            let _ = self.graph.replace(&self.target, replaced);
        }
    }

    fn clean(&self) {
        self.hook.over.store(true, Ordering::SeqCst);
        self.graph.remove_hook(&self.source, &(Arc::clone(&self.hook) as Arc<dyn Hook>));
        self.turned().take();
        self.cover.lift();
        let _ = self.graph.require(&self.hook.target, Permissions::UNUSED);
        self.blockers.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.writable.end();
    }

    fn completes(&self) -> bool {
        true
    }

    fn go_along(&self) -> bool {
        self.hook.active.store(true, Ordering::SeqCst);
        // What was noted before is still to be copied; then both are in step for good.
        if let Some(bell) = self.hook.bell.get() {
            bell.ring();
        }
        self.kind == Kind::Mirror
    }

    fn goes_along(&self) -> bool {
        self.hook.active.load(Ordering::SeqCst)
    }

    fn actively_synced(&self) -> Option<bool> {
        (self.kind == Kind::Mirror).then(|| self.hook.synced.load(Ordering::SeqCst))
    }
}
