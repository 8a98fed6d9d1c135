//! The facets of the node behind an edge, through the edge.
//!
//! The edge says that it has a facet if the node has it; if another node is there when it is used,
//! the call is refused.

use std::io;
use std::sync::Arc;

use crate::hooks::ChangeKind;
use crate::{
    Amend, BitmapInfo, Bitmaps, Compact, Compress, Edge, Image, ImageOptions, Node, OpenError,
    Overlay, Preallocation, Secrets, SnapshotInfo, Snapshots,
};

fn lacks() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "the node was replaced by one that cannot do this")
}

fn image<T>(
    node: &dyn Node,
    act: impl FnOnce(&dyn Image) -> Option<io::Result<T>>,
) -> io::Result<T> {
    node.image().and_then(act).unwrap_or_else(|| Err(lacks()))
}

impl Edge {
    fn snapshots_do<T>(&self, act: impl FnOnce(&dyn Snapshots) -> io::Result<T>) -> io::Result<T> {
        self.with(|node| image(node, |image| image.snapshots().map(act)))
    }

    fn bitmaps_do<T>(&self, act: impl FnOnce(&dyn Bitmaps) -> io::Result<T>) -> io::Result<T> {
        self.with(|node| image(node, |image| image.bitmaps().map(act)))
    }

    fn overlay_do<T>(&self, act: impl FnOnce(&dyn Overlay) -> io::Result<T>) -> io::Result<T> {
        self.with(|node| image(node, |image| image.overlay().map(act)))
    }
}

impl Image for Edge {
    fn resize(&self, size: u64, preallocation: Preallocation) -> io::Result<()> {
        self.change_size(|node| image(node, |image| Some(image.resize(size, preallocation))))
    }

    fn compress(&self) -> Option<&dyn Compress> {
        self.has(|image| image.compress().is_some()).then_some(self)
    }

    fn snapshots(&self) -> Option<&dyn Snapshots> {
        self.has(|image| image.snapshots().is_some()).then_some(self)
    }

    fn bitmaps(&self) -> Option<&dyn Bitmaps> {
        self.has(|image| image.bitmaps().is_some()).then_some(self)
    }

    fn amend(&self) -> Option<&dyn Amend> {
        self.has(|image| image.amend().is_some()).then_some(self)
    }

    fn compact(&self) -> Option<&dyn Compact> {
        self.has(|image| image.compact().is_some()).then_some(self)
    }

    fn overlay(&self) -> Option<&dyn Overlay> {
        self.has(|image| image.overlay().is_some()).then_some(self)
    }
}

impl Compress for Edge {
    fn unit(&self) -> u64 {
        let unit = self.with(|node| image(node, |image| image.compress().map(|c| Ok(c.unit()))));
        unit.unwrap_or(crate::SECTOR)
    }

    fn only(&self) -> bool {
        let only = self.with(|node| image(node, |image| image.compress().map(|c| Ok(c.only()))));
        only.unwrap_or(false)
    }

    fn write_compressed(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let len = data.len() as u64;
        self.change(ChangeKind::Write, offset, len, |node| {
            image(node, |image| image.compress().map(|c| c.write_compressed(offset, data)))
        })?;
        self.wrote(offset, len);
        Ok(())
    }
}

impl Compact for Edge {
    fn compact(&self, progress: &mut dyn FnMut(u64, u64)) -> io::Result<()> {
        self.with(|node| image(node, |image| image.compact().map(|c| c.compact(progress))))
    }
}

impl Overlay for Edge {
    fn record_backing(&self, name: Option<&str>, format: Option<&str>) -> io::Result<()> {
        self.overlay_do(|overlay| overlay.record_backing(name, format))
    }

    fn make_empty(&self) -> io::Result<()> {
        self.overlay_do(|overlay| overlay.make_empty())
    }
}

impl Snapshots for Edge {
    fn list(&self) -> Vec<SnapshotInfo> {
        self.snapshots_do(|snapshots| Ok(snapshots.list())).unwrap_or_default()
    }

    fn create(&self, info: &SnapshotInfo) -> io::Result<()> {
        self.snapshots_do(|snapshots| snapshots.create(info))
    }

    /// Everything may change: hooks see a change of the whole disk.
    fn apply(&self, id_or_name: &str) -> io::Result<()> {
        let size = self.size();
        self.change(ChangeKind::Write, 0, size, |node| {
            image(node, |image| image.snapshots().map(|s| s.apply(id_or_name)))
        })
    }

    fn delete(&self, id_or_name: &str) -> io::Result<()> {
        self.snapshots_do(|snapshots| snapshots.delete(id_or_name))
    }

    fn open(&self, id_or_name: &str) -> io::Result<Arc<dyn Node>> {
        self.snapshots_do(|snapshots| snapshots.open(id_or_name))
    }

    fn write_vm_state(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.snapshots_do(|snapshots| snapshots.write_vm_state(offset, data))
    }

    fn read_vm_state(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.snapshots_do(|snapshots| snapshots.read_vm_state(offset, buf))
    }
}

impl Bitmaps for Edge {
    fn list(&self) -> Vec<BitmapInfo> {
        self.bitmaps_do(|bitmaps| Ok(bitmaps.list())).unwrap_or_default()
    }

    fn add(&self, name: &str, granularity: u32, enabled: bool) -> io::Result<()> {
        self.bitmaps_do(|bitmaps| bitmaps.add(name, granularity, enabled))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.bitmaps_do(|bitmaps| bitmaps.remove(name))
    }

    fn clear(&self, name: &str) -> io::Result<()> {
        self.bitmaps_do(|bitmaps| bitmaps.clear(name))
    }

    fn enable(&self, name: &str, on: bool) -> io::Result<()> {
        self.bitmaps_do(|bitmaps| bitmaps.enable(name, on))
    }

    fn set(&self, name: &str, offset: u64, len: u64) -> io::Result<()> {
        self.bitmaps_do(|bitmaps| bitmaps.set(name, offset, len))
    }

    fn next_dirty(&self, name: &str, from: u64) -> io::Result<Option<(u64, u64)>> {
        self.bitmaps_do(|bitmaps| bitmaps.next_dirty(name, from))
    }
}

impl Amend for Edge {
    fn apply(
        &self,
        options: &ImageOptions,
        force: bool,
        secrets: &dyn Secrets,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), OpenError> {
        let done = self.with(|node| {
            image(node, |image| {
                image.amend().map(|amend| Ok(amend.apply(options, force, secrets, progress)))
            })
        });
        done.unwrap_or_else(|error| Err(OpenError::Option(error.to_string())))
    }
}
