//! `commit` of a layer that is not the uppermost one: moves what it and the layers below it hold into
//! one further below, and takes them out of the chain.
//!
//! Nobody changes these layers, and the one that is written shows nothing that they do not hide.

use std::sync::{Arc, Mutex, PoisonError};

use graph::{
    Access, Blocker, Edge, ExtentKind, Graph, Image, Member, Node, Operation as Use, Permissions,
    Preallocation, Role, User,
};

use super::cover::Cover;
use super::stream::record_backing;
use super::writable::Writable;
use crate::engine::{
    BUFFER, Layers, Load, Mishap, Outlook, Piece, Policies, Pump, Transfer, ZEROES, drive,
};
use crate::job::{Control, Failure, Kind, OnError, Operation, Refusal, Work};

/// The work of a commit.
pub(crate) struct Commit {
    graph: Arc<Graph>,
    top: Arc<Member>,
    base: Arc<Member>,
    backing_file: Option<String>,
    on_error: OnError,
    transfer: Arc<Transfer>,
    from: Arc<Edge>,
    into: Arc<Edge>,
    /// What the job has of the active layer: nothing but that others see it in use.
    #[expect(dead_code, reason = "held, not used")]
    active: Option<Arc<Edge>>,
    /// What is above the top layer.
    cover: Cover,
    blockers: Mutex<Vec<Blocker>>,
    /// The base and overlays that were read-only.
    writable: Writable,
}

/// The layers that a commit is about.
pub(crate) struct Span {
    /// Those above the uppermost one that is committed.
    pub above: Vec<Arc<Member>>,
    /// That one.
    pub top: Arc<Member>,
    /// The one that is written.
    pub base: Arc<Member>,
}

impl Commit {
    pub fn begin(
        graph: &Arc<Graph>,
        id: &str,
        span: &Span,
        backing_file: Option<String>,
        on_error: OnError,
        cover: Option<&str>,
    ) -> Result<Arc<Self>, graph::OpenError> {
        let Span { above, top, base } = span;
        let writable = Writable::new(graph);
        writable.add(base)?;
        let cover = Cover::put(graph, id, "commit_top", cover, top, Kind::Commit)?;
        let user = || User::Job(id.to_owned());
        let reader = Permissions { taken: Access::READ, shared: Access::ALL };
        let from = graph.attach(top, user(), reader)?;
        let taken = Access::READ.with(Access::WRITE_UNCHANGED);
        let into = graph.attach(base, user(), Permissions { taken, shared: Access::ALL })?;
        let active = above.first().map(|active| graph.attach(active, user(), Permissions::UNUSED));
        let active = active.transpose()?;
        let reason = "block device is in use by block job: commit";
        let layers = Layers::above(top, Some(base));
        let blocked = layers.members().iter().chain([base]);
        let blockers = blocked.map(|member| graph.block(member, reason, &[]));
        // The overlay is opened again when it gets another backing file.
        let above = above.iter().map(|member| graph.block(member, reason, &[Use::Reopen]));
        let blockers = Mutex::new(blockers.chain(above).collect());
        let node = Arc::clone(&into) as Arc<dyn Node>;
        let transfer = Arc::new(Transfer::new(Arc::clone(top), node, false, false));
        Ok(Arc::new(Self {
            graph: Arc::clone(graph),
            top: Arc::clone(top),
            base: Arc::clone(base),
            backing_file,
            on_error,
            transfer,
            from,
            into,
            active,
            cover,
            blockers,
            writable,
        }))
    }

    /// The images whose backing file the top is.
    fn overlays(&self) -> Vec<Arc<Member>> {
        overlays(&self.top)
    }
}

/// The images whose backing file a node is, seen through filters.
pub(crate) fn overlays(member: &Arc<Member>) -> Vec<Arc<Member>> {
    let (mut waiting, mut found) = (vec![Arc::clone(member)], Vec::new());
    while let Some(member) = waiting.pop() {
        for edge in member.parents() {
            match (edge.user(), edge.parent()) {
                (User::Node(Role::Backing), Some(parent)) => found.push(parent),
                (User::Node(Role::File), Some(parent)) if is_filter(&parent) => {
                    waiting.push(parent);
                }
                _ => {}
            }
        }
    }
    found
}

fn is_filter(member: &Member) -> bool {
    member.kind() == graph::NodeKind::Filter
}

/// Gives a node the length of another one.
pub(crate) fn resize(node: &dyn Node, size: u64) -> std::io::Result<()> {
    match node.image() {
        _ if node.size() == size => Ok(()),
        Some(image) => Image::resize(image, size, Preallocation::Off),
        None => node.truncate(size),
    }
}

/// The chain from its beginning, and what is to be tried again.
struct Rest<'a> {
    commit: &'a Commit,
    job: &'a Control,
    at: u64,
    layers: Outlook,
    again: Vec<Piece>,
}

impl Load for Rest<'_> {
    fn next(&mut self) -> Result<Option<Piece>, Mishap> {
        if let Some(piece) = self.again.pop() {
            return Ok(Some(piece));
        }
        let size = self.commit.top.node().size();
        while self.at < size && !self.job.wanted() {
            let offset = self.at;
            let (kind, len) = self.layers.status(offset, size - offset).map_err(|error| {
                let len = BUFFER.min(size - offset);
                self.at += len;
                Mishap { piece: Piece { offset, len, cost: 0 }, operation: Operation::Read, error }
            })?;
            if kind == ExtentKind::Unallocated {
                self.at += len;
                self.job.meter().add_done(len);
                continue;
            }
            let data = kind != ExtentKind::Zero;
            let most = if data { BUFFER } else { ZEROES };
            let len = len.min((offset / most + 1) * most - offset);
            self.at += len;
            return Ok(Some(Piece { offset, len, cost: if data { len } else { 0 } }));
        }
        Ok(None)
    }

    fn again(&mut self, piece: Piece) {
        self.again.push(piece);
    }

    fn carry(&self, piece: Piece) -> Box<dyn FnOnce() -> Result<(), Mishap> + Send> {
        let (transfer, from) = (Arc::clone(&self.commit.transfer), Arc::clone(&self.commit.from));
        let (base, meter) = (Arc::clone(&self.commit.base), self.job.meter());
        Box::new(move || {
            let _pass = from.hold();
            let layers = Layers::above(&transfer.source, Some(&base));
            let (mut at, end) = (piece.offset, piece.offset + piece.len);
            let failed = |(operation, error)| Mishap { piece, operation, error };
            while at < end {
                let status = layers.status(at, end - at);
                let (kind, len) = status.map_err(|e| failed((Operation::Read, e)))?;
                if kind != ExtentKind::Unallocated {
                    transfer.copy_layers(&layers, at, len).map_err(failed)?;
                }
                at += len;
            }
            meter.add_done(piece.len);
            Ok(())
        })
    }
}

/// Requests in flight.
const REQUESTS: usize = 8;

impl Work for Commit {
    fn run(&self, job: &Control) -> Result<(), Failure> {
        let size = self.top.node().size();
        job.set_total(size);
        if self.base.node().size() < size {
            resize(&*self.into, size)?;
        }
        let pump = Pump::new(job, REQUESTS);
        let policies = Policies { source: self.on_error, target: self.on_error };
        let layers = Outlook::new(Layers::above(&self.top, Some(&self.base)));
        let mut load = Rest { commit: self, job, at: 0, layers, again: Vec::new() };
        while load.at < size || !load.again.is_empty() {
            drive(job, &pump, policies, &mut load)?;
        }
        self.into.flush()?;
        Ok(())
    }

    fn prepare(&self) -> Result<(), Failure> {
        self.cover.lift();
        for overlay in self.overlays() {
            self.writable.add(&overlay).map_err(Refusal::from)?;
            record_backing(&overlay, Some(&self.base), self.backing_file.as_deref())?;
            self.graph.set_backing(&overlay, Some(&self.base)).map_err(Refusal::from)?;
        }
        Ok(())
    }

    fn clean(&self) {
        self.cover.lift();
        // They would refuse that the base is opened again.
        let _ = self.graph.require(&self.into, Permissions::UNUSED);
        self.blockers.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.writable.end();
    }
}
