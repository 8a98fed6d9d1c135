//! Named dirty bitmaps of nodes.
//!
//! A persistent bitmap lives in the image's format, which notes changes itself and stores it; all
//! others are hooks on the node. Who works with a bitmap borrows it: it is busy until given back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use graph::{BitmapInfo, DirtyBits, DirtyHook, Graph, Hook, Image, Member};

use super::mirror::bytes;
use crate::job::Refusal;

/// Longest name in bytes.
const MAX_NAME: usize = 1023;
/// Granularity where the image suggests none, in bytes.
const USUAL: u64 = 64 << 10;

/// A bitmap as lists show it (`BlockDirtyInfo`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirtyInfo {
    /// Its name.
    pub name: String,
    /// Bytes whose bits are set.
    pub count: u64,
    /// Bytes per bit.
    pub granularity: u64,
    /// Changes set bits.
    pub recording: bool,
    /// Somebody works with it.
    pub busy: bool,
    /// The image stores it.
    pub persistent: bool,
    /// It was not stored properly: its bits mean nothing.
    pub inconsistent: bool,
}

/// A bitmap to be added (`BlockDirtyBitmapAdd`).
#[derive(Clone, Debug, Default)]
pub struct NewBitmap {
    /// Node.
    pub node: String,
    /// Name.
    pub name: String,
    /// Bytes per bit; by the image without.
    pub granularity: Option<u32>,
    /// The image stores it.
    pub persistent: bool,
    /// Changes do not set bits until it is enabled.
    pub disabled: bool,
}

/// A bitmap by its node and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BitmapName {
    /// Node; where it can be left out, that of the command.
    pub node: Option<String>,
    /// Name.
    pub name: String,
}

/// Most bits that are listed one by one: those of 16 TiB in steps of 512 bytes.
const MOST_BITS: u64 = 1 << 35;

/// The named bitmaps of all nodes of a graph.
pub struct Bitmaps {
    graph: Arc<Graph>,
    nodes: Mutex<Vec<OfNode>>,
}

/// Those of one node.
struct OfNode {
    member: Weak<Member>,
    kept: Vec<Kept>,
    /// Names that are borrowed, of either kind.
    busy: Vec<String>,
}

/// A bitmap that we keep.
#[derive(Clone)]
struct Kept {
    name: String,
    granularity: u64,
    hook: Arc<DirtyHook>,
}

/// A bitmap where it is.
#[derive(Clone)]
enum Bitmap {
    Kept(Arc<Member>, Kept),
    Stored(Arc<Member>, BitmapInfo),
}

/// What can be asked of a bitmap only if nobody works with it, …
#[derive(Clone, Copy, PartialEq, Eq)]
enum Want {
    /// … and if its bits mean something.
    Use,
    /// … whatever its bits mean.
    Remove,
}

impl Bitmaps {
    /// No bitmaps but those of images.
    pub fn new(graph: &Arc<Graph>) -> Arc<Self> {
        Arc::new(Self { graph: Arc::clone(graph), nodes: Mutex::default() })
    }

    fn nodes(&self) -> MutexGuard<'_, Vec<OfNode>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of<T>(&self, member: &Arc<Member>, act: impl FnOnce(&mut OfNode) -> T) -> T {
        let mut nodes = self.nodes();
        nodes.retain(|node| node.member.strong_count() > 0);
        let is_it = |node: &OfNode| std::ptr::eq(node.member.as_ptr(), Arc::as_ptr(member));
        let at = nodes.iter().position(is_it).unwrap_or_else(|| {
            let member = Arc::downgrade(member);
            nodes.push(OfNode { member, kept: Vec::new(), busy: Vec::new() });
            nodes.len() - 1
        });
        act(&mut nodes[at])
    }

    /// The bitmaps of a node as `query-named-block-nodes` shows them: newest first.
    pub fn list(&self, member: &Arc<Member>) -> Vec<DirtyInfo> {
        let size = member.node().size();
        let (kept, busy) = self.of(member, |node| (node.kept.clone(), node.busy.clone()));
        let kept = kept.into_iter().map(|kept| Bitmap::Kept(Arc::clone(member), kept));
        let all = stored(member).chain(kept).collect::<Vec<_>>();
        let shown = all.iter().rev().map(|bitmap| DirtyInfo {
            name: bitmap.name().to_owned(),
            count: bytes_of(&bitmap.runs(), size, bitmap.granularity()),
            granularity: bitmap.granularity(),
            recording: bitmap.recording(),
            busy: busy.iter().any(|name| name == bitmap.name()),
            persistent: matches!(bitmap, Bitmap::Stored(..)),
            inconsistent: bitmap.inconsistent(),
        });
        shown.collect()
    }

    /// All bits of a bitmap, sixty-four in a word, however it is used now.
    ///
    /// # Errors
    /// With QEMU's texts.
    pub fn each_word(
        &self,
        node: &str,
        name: &str,
        mut hear: impl FnMut(u64),
    ) -> Result<(), Refusal> {
        let bitmap = self.find_any(node, name)?;
        let granularity = bitmap.granularity();
        let mut bits = DirtyBits::new(granularity.trailing_zeros());
        bitmap.runs().iter().for_each(|(start, len)| bits.set(*start, *len));
        let all = bitmap.member().node().size().div_ceil(granularity);
        if all > MOST_BITS {
            let text = format!("not supported yet: a bitmap of {all} bits");
            return Err(Refusal::new(text));
        }
        (0..all).step_by(64).for_each(|at| hear(bits.word(at)));
        Ok(())
    }

    /// `block-dirty-bitmap-add`.
    ///
    /// # Errors
    /// With QEMU's texts.
    pub fn add(&self, new: &NewBitmap) -> Result<(), Refusal> {
        let refuse = |text: String| Err(Refusal::new(text));
        let member = self.graph.get(&new.node)?;
        if new.name.is_empty() {
            return refuse("Bitmap name cannot be empty".to_owned());
        }
        if new.granularity.is_some_and(|g| g < 512 || !g.is_power_of_two()) {
            return refuse("Granularity must be power of 2 and at least 512".to_owned());
        }
        if new.name.len() > MAX_NAME {
            return refuse(format!("Bitmap name too long: {}", new.name));
        }
        if self.find_in(&member, &new.name).is_some() {
            return refuse(format!("Bitmap already exists: {}", new.name));
        }
        let cluster = member.node().info().cluster_size.map_or(USUAL, u64::from);
        let granularity = new.granularity.map_or(cluster.clamp(4096, USUAL), u64::from);
        if new.persistent {
            let node = member.node();
            let Some(bitmaps) = node.image().and_then(Image::bitmaps) else {
                let text = "Operation not supported";
                return refuse(format!("Can't store persistent bitmaps to {}: {text}", new.node));
            };
            let added = bitmaps.add(&new.name, granularity as u32, !new.disabled);
            return added.map_err(|error| Refusal::new(graph::host_text(&error)));
        }
        let hook = DirtyHook::new(granularity.trailing_zeros());
        hook.enable(!new.disabled);
        let kept = Kept { name: new.name.clone(), granularity, hook: Arc::clone(&hook) };
        self.of(&member, |node| node.kept.push(kept));
        member.name_bitmap(&new.name, &hook);
        self.graph.add_hook(&member, hook);
        Ok(())
    }

    /// `block-dirty-bitmap-remove`.
    ///
    /// # Errors
    /// With QEMU's texts.
    pub fn remove(&self, node: &str, name: &str) -> Result<(), Refusal> {
        match self.find(node, name, Want::Remove)? {
            Bitmap::Kept(member, kept) => {
                self.of(&member, |node| node.kept.retain(|one| one.name != name));
                self.graph.remove_hook(&member, &(kept.hook as Arc<dyn Hook>));
            }
            Bitmap::Stored(member, _) => facet(&member, |bitmaps| bitmaps.remove(name))?,
        }
        Ok(())
    }

    /// `block-dirty-bitmap-clear`. The result gives the bits back to [`Bitmaps::restore`].
    ///
    /// # Errors
    /// With QEMU's texts.
    pub fn clear(&self, node: &str, name: &str) -> Result<Saved, Refusal> {
        let bitmap = self.find(node, name, Want::Use)?;
        let saved = Saved { runs: bitmap.runs(), recording: bitmap.recording(), bitmap };
        saved.bitmap.clear();
        Ok(saved)
    }

    /// `block-dirty-bitmap-enable` and `-disable`.
    ///
    /// # Errors
    /// With QEMU's texts.
    pub fn enable(&self, node: &str, name: &str, on: bool) -> Result<Saved, Refusal> {
        let bitmap = self.find(node, name, Want::Use)?;
        let saved = Saved { runs: Vec::new(), recording: bitmap.recording(), bitmap };
        saved.bitmap.enable(on);
        Ok(saved)
    }

    /// `block-dirty-bitmap-merge`: sets in `target` what is set in any of `sources`.
    ///
    /// # Errors
    /// With QEMU's texts; nothing is changed then.
    pub fn merge(
        &self,
        node: &str,
        target: &str,
        sources: &[BitmapName],
    ) -> Result<Saved, Refusal> {
        let into = self.find(node, target, Want::Use)?;
        let size = into.member().node().size();
        let mut runs = Vec::new();
        for source in sources {
            let node = source.node.as_deref().unwrap_or(node);
            let from = self.find(node, &source.name, Want::Use)?;
            let other = from.member().node().size();
            if other != size {
                return Err(Refusal::new(format!(
                    "Bitmaps are of different sizes (destination size is {size}, source size is \
                     {other}) and can't be merged"
                )));
            }
            runs.extend(from.runs());
        }
        let saved = Saved { runs: into.runs(), recording: into.recording(), bitmap: into };
        for (start, len) in runs {
            saved.bitmap.set(start, len);
        }
        Ok(saved)
    }

    /// Undoes a clear, an enable or a merge, where nothing has changed meanwhile.
    pub fn restore(&self, saved: &Saved) {
        saved.bitmap.clear();
        for (start, len) in &saved.runs {
            saved.bitmap.set(*start, *len);
        }
        saved.bitmap.enable(saved.recording);
    }

    /// Undoes an enable.
    pub fn restore_recording(&self, saved: &Saved) {
        saved.bitmap.enable(saved.recording);
    }

    /// Borrows a bitmap.
    ///
    /// # Errors
    /// With QEMU's texts for one that is busy or inconsistent; `None` where there is none.
    pub fn borrow(
        self: &Arc<Self>,
        member: &Arc<Member>,
        name: &str,
    ) -> Result<Option<Loan>, Refusal> {
        let Some(bitmap) = self.find_in(member, name) else { return Ok(None) };
        self.check(&bitmap, Want::Use)?;
        self.of(member, |node| node.busy.push(name.to_owned()));
        let bitmaps = Arc::clone(self);
        Ok(Some(Loan { bitmaps, bitmap, taken: Mutex::default() }))
    }

    fn find_in(&self, member: &Arc<Member>, name: &str) -> Option<Bitmap> {
        let kept = self.of(member, |node| node.kept.iter().find(|k| k.name == name).cloned());
        let kept = kept.map(|kept| Bitmap::Kept(Arc::clone(member), kept));
        kept.or_else(|| stored(member).find(|bitmap| bitmap.name() == name))
    }

    fn find_any(&self, node: &str, name: &str) -> Result<Bitmap, Refusal> {
        let member = self.graph.named(node);
        let member = member.ok_or_else(|| Refusal::new(format!("Node '{node}' not found")))?;
        self.find_in(&member, name).ok_or_else(|| missing(name))
    }

    fn find(&self, node: &str, name: &str, want: Want) -> Result<Bitmap, Refusal> {
        let bitmap = self.find_any(node, name)?;
        self.check(&bitmap, want)?;
        Ok(bitmap)
    }

    fn check(&self, bitmap: &Bitmap, want: Want) -> Result<(), Refusal> {
        let name = bitmap.name();
        let busy = |node: &mut OfNode| node.busy.iter().any(|busy| busy == name);
        if self.of(bitmap.member(), busy) {
            return Err(Refusal::new(format!(
                "Bitmap '{name}' is currently in use by another operation and cannot be used"
            )));
        }
        if want == Want::Use && bitmap.inconsistent() {
            return Err(Refusal::new(format!(
                "Bitmap '{name}' is inconsistent and cannot be used"
            )));
        }
        Ok(())
    }
}

fn missing(name: &str) -> Refusal {
    Refusal::new(format!("Dirty bitmap '{name}' not found"))
}

/// The bitmaps that the image has.
fn stored(member: &Arc<Member>) -> impl Iterator<Item = Bitmap> {
    let node = member.node();
    let bitmaps = node.image().and_then(Image::bitmaps);
    let list = bitmaps.map(graph::Bitmaps::list).unwrap_or_default();
    let member = Arc::clone(member);
    list.into_iter().map(move |info| Bitmap::Stored(Arc::clone(&member), info))
}

fn facet<T>(
    member: &Arc<Member>,
    act: impl FnOnce(&dyn graph::Bitmaps) -> std::io::Result<T>,
) -> Result<T, Refusal> {
    let node = member.node();
    let bitmaps = node.image().and_then(Image::bitmaps);
    let bitmaps = bitmaps.ok_or_else(|| Refusal::new("Operation not supported"))?;
    act(bitmaps).map_err(|error| Refusal::new(graph::host_text(&error)))
}

impl Bitmap {
    fn member(&self) -> &Arc<Member> {
        let (Self::Kept(member, _) | Self::Stored(member, _)) = self;
        member
    }

    fn name(&self) -> &str {
        match self {
            Self::Kept(_, kept) => &kept.name,
            Self::Stored(_, info) => &info.name,
        }
    }

    fn granularity(&self) -> u64 {
        match self {
            Self::Kept(_, kept) => kept.granularity,
            Self::Stored(_, info) => info.granularity.into(),
        }
    }

    fn recording(&self) -> bool {
        match self {
            Self::Kept(_, kept) => kept.hook.enabled(),
            Self::Stored(_, info) => info.auto && !info.in_use,
        }
    }

    fn inconsistent(&self) -> bool {
        matches!(self, Self::Stored(_, info) if info.in_use)
    }

    /// The first run of set bits at or behind `from`.
    fn next(&self, from: u64) -> std::io::Result<Option<(u64, u64)>> {
        match self {
            Self::Kept(_, kept) => Ok(kept.hook.bits().next_run(from)),
            Self::Stored(member, info) => {
                let node = member.node();
                let bitmaps = node.image().and_then(Image::bitmaps);
                bitmaps.ok_or(std::io::ErrorKind::NotFound)?.next_dirty(&info.name, from)
            }
        }
    }

    /// The set bits as runs of bytes.
    fn runs(&self) -> Vec<(u64, u64)> {
        let size = self.member().node().size();
        let next = |at| self.next(at).ok().flatten();
        let (mut runs, mut at) = (Vec::new(), 0);
        while let Some((start, len)) = next(at).filter(|(start, _)| *start < size) {
            runs.push((start, len.min(size - start)));
            at = start + len;
        }
        runs
    }

    fn set(&self, offset: u64, len: u64) {
        match self {
            Self::Kept(_, kept) => kept.hook.bits().set(offset, len),
            // The image was open for writing when the bitmap was found.
            Self::Stored(member, info) => {
                let _ = facet(member, |bitmaps| bitmaps.set(&info.name, offset, len));
            }
        }
    }

    fn clear(&self) {
        match self {
            Self::Kept(_, kept) => kept.hook.bits().clear(0, u64::MAX),
            Self::Stored(member, info) => {
                let _ = facet(member, |bitmaps| bitmaps.clear(&info.name));
            }
        }
    }

    fn enable(&self, on: bool) {
        match self {
            Self::Kept(_, kept) => kept.hook.enable(on),
            Self::Stored(member, info) => {
                let _ = facet(member, |bitmaps| bitmaps.enable(&info.name, on));
            }
        }
    }
}

/// Bytes that whole bits stand for, on a disk of `size` bytes.
fn bytes_of(runs: &[(u64, u64)], size: u64, granularity: u64) -> u64 {
    let mut bits = DirtyBits::new(granularity.trailing_zeros());
    runs.iter().for_each(|(start, len)| bits.set(*start, *len));
    bytes(&bits, size)
}

/// What a bitmap was before it was changed.
pub struct Saved {
    bitmap: Bitmap,
    runs: Vec<(u64, u64)>,
    recording: bool,
}

/// A bitmap that somebody works with. It is free again when this is dropped.
pub struct Loan {
    bitmaps: Arc<Bitmaps>,
    bitmap: Bitmap,
    /// The bits that were set when they were taken.
    taken: Mutex<Vec<(u64, u64)>>,
}

impl Loan {
    fn taken(&self) -> MutexGuard<'_, Vec<(u64, u64)>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the bits out of the bitmap, which then notes what changes from now on. The caller has
    /// the node drained.
    pub fn take(&self) -> Vec<(u64, u64)> {
        let runs = self.bitmap.runs();
        self.bitmap.clear();
        self.taken().clone_from(&runs);
        runs
    }

    /// The bitmap's name.
    pub fn name(&self) -> &str {
        self.bitmap.name()
    }

    /// The node it belongs to.
    pub fn member(&self) -> &Arc<Member> {
        self.bitmap.member()
    }

    /// Whether changes set bits.
    pub fn recording(&self) -> bool {
        self.bitmap.recording()
    }

    /// The first run of set bits at or behind `from`, as start and length in bytes of the disk.
    ///
    /// # Errors
    /// The image no longer has the bitmap.
    pub fn next_dirty(&self, from: u64) -> std::io::Result<Option<(u64, u64)>> {
        self.bitmap.next(from)
    }

    /// The bits that are set now, as runs of bytes.
    pub fn runs(&self) -> Vec<(u64, u64)> {
        self.bitmap.runs()
    }

    /// Sets bits again: those that were taken, or instead of them those of `left`.
    pub fn give_back(&self, left: Option<&DirtyBits>) {
        let taken = std::mem::take(&mut *self.taken());
        match left {
            None => taken.iter().for_each(|(start, len)| self.bitmap.set(*start, *len)),
            Some(left) => {
                let (mut at, size) = (0, self.bitmap.member().node().size());
                while let Some((start, len)) = left.next_run(at).filter(|(s, _)| *s < size) {
                    self.bitmap.set(start, len.min(size - start));
                    at = start + len;
                }
            }
        }
    }

    /// What was taken is done with.
    pub fn keep(&self) {
        self.taken().clear();
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let name = self.bitmap.name();
        self.bitmaps.of(self.bitmap.member(), |node| {
            if let Some(at) = node.busy.iter().position(|busy| busy == name) {
                node.busy.swap_remove(at);
            }
        });
    }
}
