//! Device trees (Devicetree Specification v0.4): a tree that can be built, changed, read from a
//! blob, written to one, and printed.
//!
//! Names and values keep their order. Blobs are written in version 17 format.

mod blob;
mod print;

pub use blob::ParseError;

/// A device tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// The root node; its name is empty.
    pub root: Node,
    /// Memory that the operating system must not use: address and length of each area.
    pub reserved: Vec<(u64, u64)>,
    /// Physical number of the boot processor.
    pub boot_cpu: u32,
}

/// A node: properties, then children.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Name with unit address, such as `serial@10000000`.
    pub name: String,
    /// Names and values.
    pub properties: Vec<(String, Vec<u8>)>,
    /// Child nodes.
    pub children: Vec<Node>,
}

/// What can be the value of a property.
pub trait PropertyValue {
    /// Its bytes in the tree: numbers are big-endian, texts end with a zero.
    fn bytes(self) -> Vec<u8>;
}

impl PropertyValue for () {
    fn bytes(self) -> Vec<u8> {
        Vec::new()
    }
}

impl PropertyValue for u32 {
    fn bytes(self) -> Vec<u8> {
        self.to_be_bytes().to_vec()
    }
}

impl PropertyValue for u64 {
    fn bytes(self) -> Vec<u8> {
        self.to_be_bytes().to_vec()
    }
}

impl PropertyValue for &str {
    fn bytes(self) -> Vec<u8> {
        [self.as_bytes(), &[0]].concat()
    }
}

impl PropertyValue for &[&str] {
    fn bytes(self) -> Vec<u8> {
        self.iter().flat_map(|text| text.bytes().chain([0])).collect()
    }
}

impl PropertyValue for &[u32] {
    fn bytes(self) -> Vec<u8> {
        self.iter().flat_map(|cell| cell.to_be_bytes()).collect()
    }
}

impl<const N: usize> PropertyValue for [u32; N] {
    fn bytes(self) -> Vec<u8> {
        self.as_slice().bytes()
    }
}

impl<const N: usize> PropertyValue for [u64; N] {
    fn bytes(self) -> Vec<u8> {
        self.iter().flat_map(|cell| cell.to_be_bytes()).collect()
    }
}

impl<const N: usize> PropertyValue for [&str; N] {
    fn bytes(self) -> Vec<u8> {
        self.as_slice().bytes()
    }
}

impl PropertyValue for Vec<u8> {
    fn bytes(self) -> Vec<u8> {
        self
    }
}

impl Node {
    /// An empty node.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// The node with one more property.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl PropertyValue) -> Self {
        self.properties.push((name.into(), value.bytes()));
        self
    }

    /// The node with one more property if there is a value for it.
    #[must_use]
    pub fn with_some(self, name: &str, value: Option<impl PropertyValue>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// The node with one more child.
    #[must_use]
    pub fn child(mut self, node: Node) -> Self {
        self.children.push(node);
        self
    }

    /// The node with more children.
    #[must_use]
    pub fn children(mut self, nodes: impl IntoIterator<Item = Node>) -> Self {
        self.children.extend(nodes);
        self
    }

    /// Bytes of a property.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.properties.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_slice())
    }

    /// A property that is one cell.
    pub fn get_u32(&self, name: &str) -> Option<u32> {
        Some(u32::from_be_bytes(self.get(name)?.try_into().ok()?))
    }

    /// The first text of a property.
    pub fn get_str(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.get(name)?.split(|b| *b == 0).next()?).ok()
    }

    /// Replaces a property; one that is new goes first, as `libfdt` puts it.
    pub fn set(&mut self, name: &str, value: impl PropertyValue) {
        let value = value.bytes();
        match self.properties.iter_mut().find(|(n, _)| n == name) {
            Some((_, old)) => *old = value,
            None => self.properties.insert(0, (name.into(), value)),
        }
    }

    /// Removes a property, if it is there.
    pub fn remove(&mut self, name: &str) {
        self.properties.retain(|(n, _)| n != name);
    }

    /// Whether this is the node that a path calls `name`, with or without the unit address.
    fn is_called(&self, name: &str) -> bool {
        self.name == name || self.name.split('@').next() == Some(name)
    }
}

impl Tree {
    /// A tree with this root.
    pub fn new(root: Node) -> Self {
        Self { root, ..Self::default() }
    }

    /// The node at `path`, such as `/cpus/cpu@0`; unit addresses may be left out.
    pub fn node(&self, path: &str) -> Option<&Node> {
        let mut names = path.split('/').filter(|n| !n.is_empty());
        names.try_fold(&self.root, |node, name| node.children.iter().find(|c| c.is_called(name)))
    }

    /// The node at `path`, to be changed.
    pub fn node_mut(&mut self, path: &str) -> Option<&mut Node> {
        let mut names = path.split('/').filter(|n| !n.is_empty());
        names.try_fold(&mut self.root, |node, name| {
            node.children.iter_mut().find(|c| c.is_called(name))
        })
    }

    /// The node at `path`, made with all nodes above it where it is not there.
    pub fn node_or_new(&mut self, path: &str) -> &mut Node {
        path.split('/').filter(|n| !n.is_empty()).fold(&mut self.root, |node, name| {
            let at = node.children.iter().position(|c| c.is_called(name));
            let at = at.unwrap_or_else(|| {
                node.children.insert(0, Node::new(name));
                0
            });
            &mut node.children[at]
        })
    }

    /// Tells the kernel its command line.
    pub fn set_bootargs(&mut self, text: &str) {
        self.node_or_new("/chosen").set("bootargs", text);
    }

    /// Tells the kernel where its initial RAM disk lies: first address and the one after the last.
    pub fn set_initrd(&mut self, start: u64, end: u64) {
        let chosen = self.node_or_new("/chosen");
        chosen.set("linux,initrd-start", start);
        chosen.set("linux,initrd-end", end);
    }
}

#[cfg(test)]
mod tests;
