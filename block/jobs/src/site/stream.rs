//! `stream`: brings what layers below an image hold into the image, which then needs them no more.
//!
//! While a piece is copied up, changes of its range wait; changes that are on their way keep it back.
//! What the image has got meanwhile stays.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use graph::{
    Access, Blocker, Change, Edge, ExtentKind, Graph, Hook, Image, Member, Node, Permissions, User,
};

use super::cover::{Cover, not_made};
use super::writable::Writable;
use crate::engine::{
    BUFFER, Fence, Layers, Load, Mishap, Outlook, Piece, Policies, Pump, Sided, Transfer, ZEROES,
    backing, drive,
};
use crate::job::{Control, Failure, Kind, OnError, Operation, Refusal, Work};

/// The work of a stream.
pub(crate) struct Stream {
    graph: Arc<Graph>,
    top: Arc<Member>,
    base: Option<Arc<Member>>,
    /// What the image is to call its new backing file, instead of its name.
    backing_file: Option<String>,
    on_error: OnError,
    /// Until the job is over; it has the node of the top layer.
    hook: Mutex<Option<Arc<StreamHook>>>,
    from: Arc<Edge>,
    /// What is above the top layer.
    cover: Cover,
    /// The first error that was to be ignored.
    ignored: Mutex<Option<String>>,
    blockers: Mutex<Vec<Blocker>>,
    /// The top layer, if it was read-only.
    writable: Writable,
}

struct StreamHook {
    fence: Fence,
    transfer: Transfer,
}

impl Hook for StreamHook {
    fn before(&self, change: &Change, _node: &dyn Node) -> std::io::Result<()> {
        self.fence.change(change);
        Ok(())
    }

    fn after(&self, change: &Change) {
        self.fence.changed(change);
    }
}

impl StreamHook {
    /// Copies what the top does not have of a range.
    fn copy(&self, base: Option<&Arc<Member>>, offset: u64, len: u64) -> Sided<()> {
        let _in_hand = self.fence.take(offset, len);
        let top = &self.transfer.source;
        let (own, below) = split(top, base);
        let (mut at, end) = (offset, offset + len);
        while at < end {
            let (kind, len) = own.status(at, end - at).map_err(|e| (Operation::Read, e))?;
            if kind == ExtentKind::Unallocated {
                let (kind, len) = below.status(at, len).map_err(|e| (Operation::Read, e))?;
                if kind != ExtentKind::Unallocated {
                    self.transfer.copy_layers(&below, at, len)?;
                }
                at += len;
            } else {
                at += len;
            }
        }
        Ok(())
    }
}

/// The top layer, and those between it and `base`.
fn split(top: &Arc<Member>, base: Option<&Arc<Member>>) -> (Layers, Layers) {
    let below = backing(top);
    let between = match &below {
        Some(below) => Layers::above(below, base),
        None => Layers::none(),
    };
    (Layers::above(top, below.as_ref()), between)
}

impl Stream {
    pub fn begin(
        graph: &Arc<Graph>,
        id: &str,
        top: &Arc<Member>,
        base: Option<&Arc<Member>>,
        backing_file: Option<String>,
        on_error: OnError,
        cover: Option<&str>,
    ) -> Result<Arc<Self>, graph::OpenError> {
        let writable = Writable::new(graph);
        writable.add(top)?;
        let cover = Cover::put(graph, id, "copy-on-read", cover, top, Kind::Stream);
        let cover = cover.map_err(not_made)?;
        let taken = Access::READ.with(Access::WRITE_UNCHANGED);
        let needs = Permissions { taken, shared: Access::ALL };
        let from = graph.attach(top, User::Job(id.to_owned()), needs)?;
        let target = top.node();
        let transfer = Transfer::new(Arc::clone(top), target, false, false);
        let hook = Arc::new(StreamHook { fence: Fence::default(), transfer });
        let reason = "block device is in use by block job: stream";
        let (_, between) = split(top, base);
        let blocked = std::iter::once(top).chain(between.members());
        let blockers = blocked.map(|member| graph.block(member, reason, &[])).collect();
        graph.add_hook(top, Arc::clone(&hook) as Arc<dyn Hook>);
        Ok(Arc::new(Self {
            graph: Arc::clone(graph),
            top: Arc::clone(top),
            base: base.cloned(),
            backing_file,
            on_error,
            hook: Mutex::new(Some(hook)),
            from,
            cover,
            ignored: Mutex::default(),
            blockers: Mutex::new(blockers),
            writable,
        }))
    }

    fn hook(&self) -> MutexGuard<'_, Option<Arc<StreamHook>>> {
        self.hook.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The disk from its beginning, and what is to be tried again.
struct Rest<'a> {
    stream: &'a Stream,
    job: &'a Control,
    at: u64,
    own: Outlook,
    below: Outlook,
    again: Vec<Piece>,
}

impl Rest<'_> {
    fn look(&mut self) -> std::io::Result<Option<Piece>> {
        let size = self.stream.top.node().size();
        while self.at < size {
            if self.job.wanted() {
                // The loop looks after it and comes back.
                return Ok(None);
            }
            let (kind, mut len) = self.own.status(self.at, size - self.at)?;
            let mut wanted = ExtentKind::Unallocated;
            if kind == ExtentKind::Unallocated {
                (wanted, len) = self.below.status(self.at, len)?;
            }
            let offset = self.at;
            if wanted == ExtentKind::Unallocated {
                self.at += len;
                self.job.meter().add_done(len);
                continue;
            }
            let data = wanted != ExtentKind::Zero;
            let most = if data { BUFFER } else { ZEROES };
            let len = len.min((offset / most + 1) * most - offset);
            self.at += len;
            return Ok(Some(Piece { offset, len, cost: if data { len } else { 0 } }));
        }
        Ok(None)
    }
}

impl Load for Rest<'_> {
    fn next(&mut self) -> Result<Option<Piece>, Mishap> {
        if let Some(piece) = self.again.pop() {
            return Ok(Some(piece));
        }
        let offset = self.at;
        self.look().map_err(|error| {
            let len = BUFFER.min(self.stream.top.node().size() - offset);
            self.at = offset + len;
            let piece = Piece { offset, len, cost: 0 };
            Mishap { piece, operation: Operation::Read, error }
        })
    }

    fn again(&mut self, piece: Piece) {
        self.again.push(piece);
    }

    fn ignore(&mut self, _piece: Piece, error: &std::io::Error) {
        let mut ignored = self.stream.ignored.lock().unwrap_or_else(PoisonError::into_inner);
        ignored.get_or_insert_with(|| graph::host_text(error));
    }

    fn carry(&self, piece: Piece) -> Box<dyn FnOnce() -> Result<(), Mishap> + Send> {
        let hook = self.stream.hook().clone();
        let (from, base) = (Arc::clone(&self.stream.from), self.stream.base.clone());
        let meter = self.job.meter();
        Box::new(move || {
            let _pass = from.hold();
            let Some(hook) = hook else { return Ok(()) };
            let copied = hook.copy(base.as_ref(), piece.offset, piece.len);
            copied.map_err(|(operation, error)| Mishap { piece, operation, error })?;
            meter.add_done(piece.len);
            Ok(())
        })
    }
}

/// Requests in flight.
const REQUESTS: usize = 8;

impl Work for Stream {
    fn run(&self, job: &Control) -> Result<(), Failure> {
        if backing(&self.top).is_none() {
            return Ok(());
        }
        let size = self.top.node().size();
        job.set_total(size);
        let policies = Policies { source: self.on_error, target: self.on_error };
        let pump = Pump::new(job, REQUESTS);
        let (own, below) = split(&self.top, self.base.as_ref());
        let (own, below) = (Outlook::new(own), Outlook::new(below));
        let mut load = Rest { stream: self, job, at: 0, own, below, again: Vec::new() };
        while load.at < size || !load.again.is_empty() {
            drive(job, &pump, policies, &mut load)?;
        }
        let ignored = self.ignored.lock().unwrap_or_else(PoisonError::into_inner).clone();
        ignored.map_or(Ok(()), |text| Err(Failure::Error(text)))
    }

    fn prepare(&self) -> Result<(), Failure> {
        if backing(&self.top).is_none() {
            return Ok(());
        }
        self.top.node().flush()?;
        record_backing(&self.top, self.base.as_ref(), self.backing_file.as_deref())?;
        self.graph.set_backing(&self.top, self.base.as_ref()).map_err(Refusal::from)?;
        Ok(())
    }

    fn clean(&self) {
        let hook = self.hook().take();
        if let Some(hook) = hook {
            self.graph.remove_hook(&self.top, &(hook as Arc<dyn Hook>));
        }
        self.cover.lift();
        let _ = self.graph.require(&self.from, Permissions::UNUSED);
        self.blockers.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.writable.end();
    }
}

/// Writes into an image what its backing file is from now on.
pub(crate) fn record_backing(
    image: &Arc<Member>,
    backing: Option<&Arc<Member>>,
    name: Option<&str>,
) -> Result<(), Failure> {
    let node = image.node();
    let Some(overlay) = node.image().and_then(Image::overlay) else {
        return Err(Failure::Error("Operation not supported".to_owned()));
    };
    let Some(backing) = backing else { return Ok(overlay.record_backing(None, None)?) };
    let info = backing.node().info();
    let name = name.map_or(info.filename, str::to_owned);
    overlay.record_backing(Some(&name), Some(info.driver))?;
    Ok(())
}
