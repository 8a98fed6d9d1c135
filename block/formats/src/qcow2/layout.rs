//! Sizes and bit fields that follow from the header, and the meaning of an L2 entry.

use super::header::Header;

/// The cluster's refcount is exactly one: it may be written in place.
pub(super) const COPIED: u64 = 1 << 63;
/// The entry describes a compressed cluster.
pub(super) const COMPRESSED: u64 = 1 << 62;
/// All bytes read as zeroes (not with extended L2 entries).
const ZERO: u64 = 1;
/// Where the offset is in an L1, L2 or refcount table entry.
pub(super) const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;

/// Where the offset is in a refcount table entry.
pub(super) const BLOCK_OFFSET: u64 = !0x1ff;

/// Constants of an image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// Log2 of the cluster size.
    pub cluster_bits: u32,
    /// Cluster size in bytes.
    pub cluster: u64,
    /// Bytes per L2 entry: 8, or 16 with subclusters.
    pub entry: u64,
    /// Entries of an L2 table.
    pub l2_entries: u64,
    /// Subclusters per cluster: 1 or 32.
    pub subs: u32,
    /// Log2 of the width of a refcount in bits.
    pub refcount_order: u32,
    /// Log2 of the number of refcounts in a refcount block.
    pub block_bits: u32,
    /// Version 3 images have a zero flag.
    pub zero_flag: bool,
    /// Guest clusters are at their guest offset in an external file and have no refcounts.
    pub external: bool,
}

impl Layout {
    pub fn of(header: &Header) -> Self {
        let (cluster, extended) = (1 << header.cluster_bits, header.extended_l2());
        let layout = Self::new(cluster, extended, header.refcount_order, header.version);
        Self { external: header.external(), ..layout }
    }

    /// How many refcount blocks, of `per_block` clusters each, and clusters for their table it takes to
    /// count `used` clusters and themselves, all in a row.
    pub fn room_for_refcounts(&self, used: u64, per_block: u64) -> (u64, u64) {
        let (mut blocks, mut clusters) = (1, 1);
        loop {
            if used + blocks + clusters > blocks * per_block {
                blocks += 1;
            } else if blocks * 8 > clusters * self.cluster {
                clusters += 1;
            } else {
                return (blocks, clusters);
            }
        }
    }

    /// Of an image without an external data file; `cluster` is a power of two.
    pub fn new(cluster: u64, extended_l2: bool, refcount_order: u32, version: u32) -> Self {
        let (entry, subs) = if extended_l2 { (16, 32) } else { (8, 1) };
        let cluster_bits = cluster.trailing_zeros();
        Self {
            cluster_bits,
            cluster,
            entry,
            l2_entries: cluster / entry,
            subs,
            refcount_order,
            block_bits: cluster_bits + 3 - refcount_order,
            zero_flag: version >= 3,
            external: false,
        }
    }

    /// Bytes per subcluster.
    pub fn sub(&self) -> u64 {
        self.cluster / u64::from(self.subs)
    }

    /// Index into the L1 table for a guest offset.
    pub fn l1_index(&self, guest: u64) -> u64 {
        (guest >> self.cluster_bits) / self.l2_entries
    }

    /// Index into the L2 table for a guest offset.
    pub fn l2_index(&self, guest: u64) -> u64 {
        (guest >> self.cluster_bits) % self.l2_entries
    }

    /// The largest refcount.
    pub fn max_refcount(&self) -> u64 {
        u64::MAX >> (64 - (1u32 << self.refcount_order))
    }

    /// The bit mask of all subclusters.
    pub fn all_subs(&self) -> u32 {
        u32::MAX >> (32 - self.subs)
    }

    /// The mask of the subclusters that `[from, to)`, offsets inside a cluster, touches.
    pub fn subs_of(&self, from: u64, to: u64) -> u32 {
        let (first, last) = ((from / self.sub()) as u32, to.div_ceil(self.sub()) as u32);
        let below = |n: u32| if n >= 32 { u32::MAX } else { (1 << n) - 1 };
        below(last) & !below(first)
    }
}

/// The clusters of the refcount table and of refcount blocks that count `used` clusters and
/// themselves.
pub(super) fn refcount_clusters(layout: &Layout, used: u64) -> (u64, u64) {
    let (mut table, mut blocks) = (0, 0);
    loop {
        let more = (used + table + blocks).div_ceil(1 << layout.block_bits);
        let longer = (more * 8).div_ceil(layout.cluster);
        if (longer, more) == (table, blocks) {
            return (table, blocks);
        }
        (table, blocks) = (longer, more);
    }
}

/// Where a compressed cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packed {
    /// First byte in the file.
    pub offset: u64,
    /// Bytes that may belong to it.
    pub len: u64,
}

/// An L2 entry, decoded. Without extended entries there is one subcluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// Host cluster that is allocated for the guest cluster.
    pub host: Option<u64>,
    /// The host cluster belongs to this entry alone.
    pub copied: bool,
    /// The cluster is compressed; everything else is empty then.
    pub packed: Option<Packed>,
    /// Subclusters stored in `host`.
    pub data: u32,
    /// Subclusters that read as zeroes.
    pub zero: u32,
}

impl Entry {
    /// Decodes an entry and, with subclusters, its bitmap.
    pub fn decode(layout: &Layout, entry: u64, bitmap: u64) -> Self {
        if entry & COMPRESSED != 0 {
            return Self { packed: Some(packed(layout, entry)), ..Self::default() };
        }
        // Only the first cluster of an external data file can be at offset zero.
        let somewhere = entry & OFFSET != 0 || (layout.external && entry & COPIED != 0);
        let host = Some(entry & OFFSET).filter(|_| somewhere);
        let copied = entry & COPIED != 0 && host.is_some();
        let (data, zero) = match layout.subs {
            1 => {
                let zero = u32::from(layout.zero_flag && entry & ZERO != 0);
                (u32::from(host.is_some()) & !zero, zero)
            }
            _ => (if host.is_some() { bitmap as u32 } else { 0 }, (bitmap >> 32) as u32),
        };
        Self { host, copied, packed: None, data, zero: zero & !data }
    }

    /// Whether a stored entry says things that exclude each other, of which [`Entry::decode`] leaves out
    /// some: flags or subclusters of a compressed cluster, data without a cluster, data that are zero.
    pub fn contradicts(layout: &Layout, entry: u64, bitmap: u64) -> bool {
        let (data, zero) = (bitmap as u32, (bitmap >> 32) as u32);
        if entry & COMPRESSED != 0 {
            return entry & COPIED != 0 || bitmap != 0;
        }
        let nowhere = entry & OFFSET == 0 && !layout.external;
        layout.subs > 1 && (data & zero != 0 || (nowhere && data != 0))
    }

    /// The entry and its bitmap as stored.
    pub fn encode(&self, layout: &Layout) -> (u64, u64) {
        if let Some(packed) = self.packed {
            return (packed.encode(layout), 0);
        }
        let copied = if self.copied { COPIED } else { 0 };
        let entry = self.host.map_or(0, |host| host | copied);
        match layout.subs {
            1 => (entry | (u64::from(self.zero) * ZERO), 0),
            _ => (entry, (u64::from(self.zero) << 32) | u64::from(self.data)),
        }
    }
}

fn packed(layout: &Layout, entry: u64) -> Packed {
    let shift = packed_shift(layout);
    let offset = entry & ((1 << shift) - 1);
    let sectors = (entry & (COMPRESSED - 1)) >> shift;
    Packed { offset, len: (sectors + 1) * 512 - offset % 512 }
}

/// Bits of the offset in a compressed cluster descriptor.
fn packed_shift(layout: &Layout) -> u32 {
    62 - (layout.cluster_bits - 8)
}

impl Packed {
    fn encode(&self, layout: &Layout) -> u64 {
        let sectors = (self.offset % 512 + self.len - 1) / 512;
        COMPRESSED | sectors << packed_shift(layout) | self.offset
    }

    /// Whether the place can be described: offsets of compressed clusters have fewer bits.
    pub fn fits(&self, layout: &Layout) -> bool {
        self.offset >> packed_shift(layout) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(cluster_bits: u32, subs: u32) -> Layout {
        Layout::new(1 << cluster_bits, subs > 1, 4, 3)
    }

    #[test]
    fn entries_survive_encoding() {
        let l = layout(16, 1);
        for entry in [0, 1, COPIED | 0x50000, COPIED | 0x50001, 0x70000] {
            assert_eq!(Entry::decode(&l, entry, 0).encode(&l), (entry, 0));
        }
        let l = layout(16, 32);
        let bitmap = 0xffff_0000_0000_00ff;
        let e = Entry::decode(&l, COPIED | 0x50000, bitmap);
        assert_eq!((e.data, e.zero), (0xff, 0xffff_0000));
        assert_eq!(e.encode(&l), (COPIED | 0x50000, bitmap));
    }

    #[test]
    fn what_excludes_each_other_is_no_more_in_an_entry_that_was_decoded() {
        let l = layout(16, 32);
        let entries = [
            (COMPRESSED | COPIED | 0x50000, 0),
            (COMPRESSED | 0x50000, 1),
            (0, 3),
            (COPIED | 0x50000, 0xff_0000_00ff),
        ];
        for (entry, bitmap) in entries {
            assert!(Entry::contradicts(&l, entry, bitmap), "{entry:x} {bitmap:x}");
            let (entry, bitmap) = Entry::decode(&l, entry, bitmap).encode(&l);
            assert!(!Entry::contradicts(&l, entry, bitmap), "{entry:x} {bitmap:x}");
        }
        assert!(!Entry::contradicts(&layout(16, 1), 1, 0));
    }

    #[test]
    fn compressed_descriptors_use_the_widths_of_the_cluster_size() {
        let l = layout(16, 1);
        // x = 62 - 8: offset in bits 0..54, additional sectors above.
        let e = Entry::decode(&l, COMPRESSED | 3 << 54 | 0x12345, 0);
        assert_eq!(e.packed, Some(Packed { offset: 0x12345, len: 4 * 512 - 0x145 }));
    }

    #[test]
    fn subcluster_masks_cover_what_is_touched() {
        let l = layout(16, 32);
        assert_eq!(l.subs_of(0, 65536), u32::MAX);
        assert_eq!(l.subs_of(2048, 4096), 2);
        assert_eq!(l.subs_of(2047, 4097), 7);
        assert_eq!(layout(16, 1).subs_of(5, 6), 1);
    }
}
