//! What monitors list: nodes with all that `query-named-block-nodes` shows, and the graph as
//! `x-debug-query-block-graph` draws it.

use std::sync::Arc;

use crate::{Access, DiskOptions, Edge, Graph, Member, NodeInfo, Role, User};

/// A node as lists show it (`BlockDeviceInfo`).
#[derive(Clone, Debug)]
pub struct NodeFacts {
    /// `node-name`.
    pub name: String,
    /// Whether a monitor or the command line added it.
    pub kept: bool,
    /// Length in bytes (`image.virtual-size`).
    pub size: u64,
    /// Driver, file name and the format's own properties (`image`).
    pub info: NodeInfo,
    /// Whether it cannot be written (`ro`).
    pub read_only: bool,
    /// The policy it was opened with (`detect_zeroes`, `cache`).
    pub options: DiskOptions,
    /// Offset in bytes beyond which a write is told of; 0 is none (`write_threshold`).
    pub write_threshold: u64,
    /// Node below as the backing file, and its file name (`backing_file`).
    pub backing: Option<(String, String)>,
    /// Number of backing files in the chain below (`backing_file_depth` of a device).
    pub backing_depth: u32,
    /// Children by role, with the names of the nodes (`children`).
    pub children: Vec<(String, String)>,
}

/// A box of the drawing (`XDbgBlockGraphNode`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphNode {
    /// Number by which edges refer to it.
    pub id: u64,
    /// What it is.
    pub kind: GraphNodeKind,
    /// Name of the node, the job or the device; may be empty.
    pub name: String,
}

/// What a box of the drawing stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GraphNodeKind {
    /// `block-backend`: a device, an export, a tool.
    Device,
    /// `block-job`.
    Job,
    /// `block-driver`: a node.
    Node,
}

impl GraphNodeKind {
    /// The name in QMP.
    pub fn name(self) -> &'static str {
        match self {
            Self::Device => "block-backend",
            Self::Job => "block-job",
            Self::Node => "block-driver",
        }
    }
}

/// A line of the drawing (`XDbgBlockGraphEdge`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphEdge {
    /// Number of the user.
    pub parent: u64,
    /// Number of the node.
    pub child: u64,
    /// Role: `file`, `backing`, `root`, …
    pub name: String,
    /// What the user does.
    pub perm: Access,
    /// What others may do.
    pub shared_perm: Access,
}

impl Graph {
    /// Every node, the newest first.
    pub fn list(&self) -> Vec<NodeFacts> {
        self.members().iter().rev().map(|member| self.facts(member)).collect()
    }

    /// What lists show of one node.
    pub fn facts(&self, member: &Arc<Member>) -> NodeFacts {
        let node = member.node();
        let mut chain = backing(member);
        let below = chain.clone();
        let mut backing_depth = 0;
        while let Some(member) = chain {
            backing_depth += 1;
            chain = backing(&member);
        }
        let children = member.children();
        let child = |edge: &Arc<Edge>| {
            edge.target().map(|target| (edge.role_text(), target.name().to_owned()))
        };
        let threshold = member.links().threshold.clone();
        NodeFacts {
            name: member.name().to_owned(),
            kept: self.is_kept(member),
            size: node.size(),
            info: node.info(),
            read_only: node.read_only(),
            options: member.options(),
            write_threshold: threshold.map_or(0, |threshold| threshold.get()),
            backing: below.map(|m| (m.name().to_owned(), m.node().info().filename)),
            backing_depth,
            children: children.iter().filter_map(child).collect(),
        }
    }

    /// The nodes and their users, and the edges between them.
    pub fn drawing(&self) -> (Vec<GraphNode>, Vec<GraphEdge>) {
        let members = self.members();
        let (mut nodes, mut edges) = (Vec::new(), Vec::new());
        for (id, member) in (1..).zip(&members) {
            let name = member.name().to_owned();
            nodes.push(GraphNode { id, kind: GraphNodeKind::Node, name });
        }
        let of = |wanted: &Arc<Member>| {
            (1..).zip(&members).find(|(_, member)| Arc::ptr_eq(member, wanted)).map(|(id, _)| id)
        };
        let mut next = members.len() as u64 + 1;
        for (child, member) in (1..).zip(&members) {
            for edge in member.parents() {
                let parent = match (edge.user(), edge.parent()) {
                    (_, Some(parent)) => of(&parent),
                    // A node that is being opened is not in the drawing.
                    (User::Node(_), None) => None,
                    (User::Device(name) | User::Job(name), None) => {
                        let job = matches!(edge.user(), User::Job(_));
                        let kind = if job { GraphNodeKind::Job } else { GraphNodeKind::Device };
                        let known = nodes.iter().find(|n| n.kind == kind && n.name == *name);
                        match known.filter(|_| job) {
                            Some(known) => Some(known.id),
                            None => {
                                nodes.push(GraphNode { id: next, kind, name: name.clone() });
                                next += 1;
                                Some(next - 1)
                            }
                        }
                    }
                };
                let Some(parent) = parent else { continue };
                let (permissions, name) = (edge.permissions(), edge.role_text());
                let (perm, shared_perm) = (permissions.taken, permissions.shared);
                edges.push(GraphEdge { parent, child, name, perm, shared_perm });
            }
        }
        (nodes, edges)
    }
}

/// The backing file of a node.
fn backing(member: &Arc<Member>) -> Option<Arc<Member>> {
    let is_backing = |edge: &Arc<Edge>| *edge.user() == User::Node(Role::Backing);
    member.children().into_iter().find(is_backing)?.target()
}
