//! What filters have in common: what they do not change goes to the node below.

use std::io;
use std::sync::Arc;

use graph::{
    Breakpoints, Child, Event, Extent, ExtentKind, Image, Limits, Node, NodeInfo, Past,
    Preallocation, Role, WriteFlags, ZeroFlags,
};

/// A node that changes a part of what passes through it.
pub(crate) trait Filter: Send + Sync {
    /// The driver's name.
    fn driver(&self) -> &'static str;

    /// The node that gets what passes.
    fn below(&self) -> &Arc<dyn Node>;

    /// The role of that node.
    fn role(&self) -> Role {
        Role::File
    }

    fn size(&self) -> u64 {
        self.below().size()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.below().read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, buf: &[u8], flags: WriteFlags) -> io::Result<()> {
        self.below().write_at(offset, buf, flags)
    }

    fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> io::Result<()> {
        self.below().write_zeroes(offset, len, flags)
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.below().discard(offset, len)
    }

    fn flush(&self) -> io::Result<()> {
        self.below().flush()
    }

    fn block_status(&self, offset: u64, len: u64) -> io::Result<Extent> {
        let extent = self.below().block_status(offset, len)?;
        Ok(passed_on(extent, offset))
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        match self.below().image() {
            Some(image) => image.resize(size, Preallocation::Off),
            None => self.below().truncate(size),
        }
    }

    fn preallocate(&self, offset: u64, len: u64, how: Preallocation) -> io::Result<()> {
        self.below().preallocate(offset, len, how)
    }

    fn read_only(&self) -> bool {
        self.below().read_only()
    }

    fn limits(&self) -> Limits {
        self.below().limits()
    }

    fn children(&self) -> Vec<Child> {
        vec![Child { role: self.role(), node: Arc::clone(self.below()) }]
    }

    /// What to show; without a name of its own, the filter's options are its name.
    fn info(&self) -> NodeInfo {
        let below = self.below().info();
        let filename = format!(
            "json:{{\"driver\": \"{}\", \"{}\": {}}}",
            self.driver(),
            self.role().name(),
            described(&**self.below())
        );
        NodeInfo {
            driver: self.driver(),
            filename,
            cluster_size: below.cluster_size,
            vm_state_offset: below.vm_state_offset,
            ..NodeInfo::default()
        }
    }

    fn event(&self, _event: Event) {}

    fn hasten(&self, _on: bool) {}

    fn past(&self) -> Option<Arc<dyn Past>> {
        None
    }

    fn breakpoints(&self) -> Option<Arc<dyn Breakpoints>> {
        self.below().breakpoints()
    }

    /// Called when nobody uses the node any more.
    fn close(&self) {}
}

/// A filter as a node.
pub(crate) struct Passing<F: Filter>(pub F);

impl<F: Filter> Node for Passing<F> {
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, buf)
    }
    fn write_at(&self, offset: u64, buf: &[u8], flags: WriteFlags) -> io::Result<()> {
        self.0.write_at(offset, buf, flags)
    }
    fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> io::Result<()> {
        self.0.write_zeroes(offset, len, flags)
    }
    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.0.discard(offset, len)
    }
    fn flush(&self) -> io::Result<()> {
        self.0.flush()
    }
    fn block_status(&self, offset: u64, len: u64) -> io::Result<Extent> {
        self.0.block_status(offset, len)
    }
    fn truncate(&self, size: u64) -> io::Result<()> {
        self.0.truncate(size)
    }
    fn preallocate(&self, offset: u64, len: u64, how: Preallocation) -> io::Result<()> {
        self.0.preallocate(offset, len, how)
    }
    fn read_only(&self) -> bool {
        self.0.read_only()
    }
    fn limits(&self) -> Limits {
        self.0.limits()
    }
    fn children(&self) -> Vec<Child> {
        self.0.children()
    }
    fn info(&self) -> NodeInfo {
        self.0.info()
    }
    fn image(&self) -> Option<&dyn Image> {
        Some(self)
    }
    fn event(&self, event: Event) {
        self.0.event(event);
    }
    fn hasten(&self, on: bool) {
        self.0.hasten(on);
    }
    fn past(&self) -> Option<Arc<dyn Past>> {
        self.0.past()
    }
    fn breakpoints(&self) -> Option<Arc<dyn Breakpoints>> {
        self.0.breakpoints()
    }
}

impl<F: Filter> Image for Passing<F> {
    fn resize(&self, size: u64, preallocation: Preallocation) -> io::Result<()> {
        match (preallocation, self.0.below().image()) {
            (Preallocation::Off, _) => self.0.truncate(size),
            (_, Some(image)) => image.resize(size, preallocation),
            (_, None) => {
                let old = self.0.size();
                self.0.preallocate(old, size.saturating_sub(old), preallocation)
            }
        }
    }
}

impl<F: Filter> Drop for Passing<F> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The options of a node as JSON, as far as its information tells them.
pub(crate) fn described(node: &dyn Node) -> String {
    let info = node.info();
    let children: Vec<String> = node
        .children()
        .iter()
        .filter(|child| child.role != Role::Backing)
        .map(|child| format!("\"{}\": {}", child.role.name(), described(&*child.node)))
        .collect();
    let rest = if children.is_empty() {
        format!("\"filename\": \"{}\"", info.filename.replace('\\', "\\\\").replace('"', "\\\""))
    } else {
        children.join(", ")
    };
    format!("{{\"driver\": \"{}\", {rest}}}", info.driver)
}

/// Walks through a range in the pieces that clusters of `unit` bytes make of it: offset and length.
pub(crate) fn pieces(offset: u64, len: u64, unit: u64) -> impl Iterator<Item = (u64, u64)> {
    let end = offset + len;
    let mut at = offset;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let here = at;
        at = (here - here % unit).saturating_add(unit).min(end);
        Some((here, at - here))
    })
}

/// What the host calls a request that cannot be served at all.
pub(crate) fn unsupported() -> io::Error {
    const EOPNOTSUPP: i32 = 95;
    io::Error::from_raw_os_error(EOPNOTSUPP)
}

/// The same for a change of the length.
pub(crate) fn no_resize() -> io::Error {
    let text = "Image format driver does not support resize";
    io::Error::new(io::ErrorKind::Unsupported, text)
}

/// What a filter says of a range, if the node below says `extent` of it.
pub(crate) fn passed_on(extent: Extent, offset: u64) -> Extent {
    let found = extent.kind != ExtentKind::Unallocated;
    Extent { host_offset: found.then_some(offset), ..extent }
}
