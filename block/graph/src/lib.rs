//! The block graph: nodes, the disk a device owns, and the queue that serves it.
//!
//! A [`Node`] is a protocol (a file), a format (qcow2) or a filter; it knows its children and
//! answers blocking calls from any number of threads. A [`Disk`] adds what every device needs
//! whatever lies below: bounds, read-only state, write-cache mode. A [`Queue`] takes requests without blocking, keeps overlapping ones in order, and runs
//! them on an [`Executor`].
//!
//! Decision: nodes block, and parallelism comes from the executor's threads. Several requests of
//! one disk run at the same time; only metadata changes serialise. Requests that come to plain
//! transfers of files go to the kernel through a [`Lane`], if the files say so (`aio=`).

mod activity;
mod bits;
mod disk;
mod drain;
mod edge;
mod edge_facets;
mod error;
mod event;
mod executor;
mod hooks;
mod image;
mod image_options;
mod inbox;
mod lane;
mod lists;
mod lost;
mod member;
mod network;
mod node;
mod past;
mod permissions;
mod plain;
mod policy;
mod queue;
mod ranges;
mod reopen;
mod siblings;
mod statistics;
mod status;
pub mod throttle;

pub use bits::DirtyBits;
pub use disk::{DetectZeroes, Disk, DiskOptions};
pub use drain::Drained;
pub use edge::{Edge, InUse, User};
pub use error::{OpenError, host_text};
pub use event::{Breakpoints, Event};
pub use executor::Executor;
pub use hooks::{Change, ChangeKind, DirtyHook, Hook, WriteThreshold};
pub use image::{
    Amend, BitmapInfo, Bitmaps, CheckReport, Compact, Compress, Fix, Image, Measured, NoSecrets,
    Overlay, Preallocation, Property, Secrets, SnapshotInfo, Snapshots,
};
pub use image_options::{ImageOption, ImageOptions, ValueKind};
pub use inbox::{Inbox, Stay};
pub use lane::Lane;
pub use lists::{GraphEdge, GraphNode, GraphNodeKind, NodeFacts};
pub use member::{Member, Operation};
pub use network::{Blocker, Graph, Name, NewMember, valid_node_name};
pub use node::{
    Child, Extent, ExtentKind, FIXED_LENGTH, Limits, Memory, Node, NodeInfo, Role, SECTOR,
    Siblings, WriteFlags, ZeroFlags, check_range, is_zero,
};
pub use past::Past;
pub use permissions::{Access, NodeKind, Permissions};
pub use plain::{ALIGN, Aio, Answer, Plain, PlainFile, Remote, aligned_start};
pub use policy::Discards;
pub use queue::{Completion, Op, Queue, Request};
pub use ranges::{RangeGuard, RangeHold, RangeLocks, Sharing};
pub use reopen::{Recipe, Reopening};
pub use siblings::Notice;
pub use statistics::{Counters, Statistics};
pub use status::{Status, backing_of, status_above};
