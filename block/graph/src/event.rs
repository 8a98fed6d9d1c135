//! What a driver is about to do, for those who watch it to make it fail there.
//!
//! The names are those of `BlkdebugEvent` in the QMP reference manual. A format tells its file
//! ([`Node::event`](crate::Node::event)) right before the request that the name is about; a filter
//! that injects errors reacts, every other node does nothing.

/// A step of a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// L1 entries are written.
    L1Update,
    /// A larger L1 table gets its place.
    L1GrowAllocTable,
    /// A larger L1 table is written.
    L1GrowWriteTable,
    /// The header is told of a larger L1 table.
    L1GrowActivateTable,
    /// An L2 table is read.
    L2Load,
    /// L2 entries are written.
    L2Update,
    /// An L2 entry of a compressed cluster changes.
    L2UpdateCompressed,
    /// An L2 table that others use is read to be copied.
    L2AllocCowRead,
    /// A new L2 table is written.
    L2AllocWrite,
    /// Guest data is read.
    ReadAio,
    /// The backing file is read.
    ReadBackingAio,
    /// A compressed cluster is read.
    ReadCompressed,
    /// Guest data is written.
    WriteAio,
    /// A compressed cluster is written.
    WriteCompressed,
    /// A machine's state is read.
    VmstateLoad,
    /// A machine's state is written.
    VmstateSave,
    /// What surrounds the data in a new cluster is read.
    CowRead,
    /// What surrounds the data in a new cluster is written.
    CowWrite,
    /// The refcount table is read.
    ReftableLoad,
    /// The refcount table is full.
    ReftableGrow,
    /// Refcount table entries are written.
    ReftableUpdate,
    /// A refcount block is read.
    RefblockLoad,
    /// A whole refcount block is written.
    RefblockUpdate,
    /// A part of a refcount block is written.
    RefblockUpdatePart,
    /// A refcount block is needed.
    RefblockAlloc,
    /// The refcount table learns of a new block.
    RefblockAllocHookup,
    /// A new refcount block is written.
    RefblockAllocWrite,
    /// The blocks of a larger refcount table are written.
    RefblockAllocWriteBlocks,
    /// A larger refcount table is written.
    RefblockAllocWriteTable,
    /// The header is told of a larger refcount table.
    RefblockAllocSwitchTable,
    /// Clusters are allocated.
    ClusterAlloc,
    /// Space for a compressed cluster is allocated.
    ClusterAllocBytes,
    /// Clusters are freed.
    ClusterFree,
    /// Cached metadata is about to be written out.
    FlushToOs,
    /// The file is about to be synced.
    FlushToDisk,
    /// The start of an unaligned write is about to be read.
    PwritevRmwHead,
    /// The start of an unaligned write was read.
    PwritevRmwAfterHead,
    /// The end of an unaligned write is about to be read.
    PwritevRmwTail,
    /// The end of an unaligned write was read.
    PwritevRmwAfterTail,
    /// A node is about to be written.
    Pwritev,
    /// Zeroes are about to be written to a node.
    PwritevZero,
    /// A node was written.
    PwritevDone,
    /// An image is about to be emptied.
    EmptyImagePrepare,
    /// A smaller L1 table is written.
    L1ShrinkWriteTable,
    /// The L2 tables of a smaller disk are freed.
    L1ShrinkFreeL2Clusters,
    /// What was read is about to be kept by copy-on-read.
    CorWrite,
    /// Space for clusters is reserved.
    ClusterAllocSpace,
    /// No event: rules for it are in force from the start.
    None,
}

impl Event {
    /// Every event by its name.
    pub const TABLE: &[(&str, Self)] = &[
        ("l1_update", Self::L1Update),
        ("l1_grow_alloc_table", Self::L1GrowAllocTable),
        ("l1_grow_write_table", Self::L1GrowWriteTable),
        ("l1_grow_activate_table", Self::L1GrowActivateTable),
        ("l2_load", Self::L2Load),
        ("l2_update", Self::L2Update),
        ("l2_update_compressed", Self::L2UpdateCompressed),
        ("l2_alloc_cow_read", Self::L2AllocCowRead),
        ("l2_alloc_write", Self::L2AllocWrite),
        ("read_aio", Self::ReadAio),
        ("read_backing_aio", Self::ReadBackingAio),
        ("read_compressed", Self::ReadCompressed),
        ("write_aio", Self::WriteAio),
        ("write_compressed", Self::WriteCompressed),
        ("vmstate_load", Self::VmstateLoad),
        ("vmstate_save", Self::VmstateSave),
        ("cow_read", Self::CowRead),
        ("cow_write", Self::CowWrite),
        ("reftable_load", Self::ReftableLoad),
        ("reftable_grow", Self::ReftableGrow),
        ("reftable_update", Self::ReftableUpdate),
        ("refblock_load", Self::RefblockLoad),
        ("refblock_update", Self::RefblockUpdate),
        ("refblock_update_part", Self::RefblockUpdatePart),
        ("refblock_alloc", Self::RefblockAlloc),
        ("refblock_alloc_hookup", Self::RefblockAllocHookup),
        ("refblock_alloc_write", Self::RefblockAllocWrite),
        ("refblock_alloc_write_blocks", Self::RefblockAllocWriteBlocks),
        ("refblock_alloc_write_table", Self::RefblockAllocWriteTable),
        ("refblock_alloc_switch_table", Self::RefblockAllocSwitchTable),
        ("cluster_alloc", Self::ClusterAlloc),
        ("cluster_alloc_bytes", Self::ClusterAllocBytes),
        ("cluster_free", Self::ClusterFree),
        ("flush_to_os", Self::FlushToOs),
        ("flush_to_disk", Self::FlushToDisk),
        ("pwritev_rmw_head", Self::PwritevRmwHead),
        ("pwritev_rmw_after_head", Self::PwritevRmwAfterHead),
        ("pwritev_rmw_tail", Self::PwritevRmwTail),
        ("pwritev_rmw_after_tail", Self::PwritevRmwAfterTail),
        ("pwritev", Self::Pwritev),
        ("pwritev_zero", Self::PwritevZero),
        ("pwritev_done", Self::PwritevDone),
        ("empty_image_prepare", Self::EmptyImagePrepare),
        ("l1_shrink_write_table", Self::L1ShrinkWriteTable),
        ("l1_shrink_free_l2_clusters", Self::L1ShrinkFreeL2Clusters),
        ("cor_write", Self::CorWrite),
        ("cluster_alloc_space", Self::ClusterAllocSpace),
        ("none", Self::None),
    ];

    /// The event called `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::TABLE.iter().find(|(n, _)| *n == name).map(|(_, event)| *event)
    }
}

/// Stopping requests where they are: the facet of a node that listens to events.
pub trait Breakpoints: Send + Sync {
    /// The next request that comes to `event` stops there under the name `tag`.
    fn set(&self, event: Event, tag: &str);

    /// Takes back all breakpoints called `tag`, whether there were any, and lets go what others of that
    /// name stopped.
    fn remove(&self, tag: &str) -> bool;

    /// Lets one request that was stopped under the name `tag` go on; whether there was one.
    fn resume(&self, tag: &str) -> bool;

    /// Whether a request is stopped under the name `tag`.
    fn is_stopped(&self, tag: &str) -> bool;

    /// Waits until a request is stopped under the name `tag`.
    fn wait(&self, tag: &str);
}
