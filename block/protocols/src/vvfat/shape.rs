//! Sizes: of the disk by its kind, and of the parts of its file system.

/// Width of the entries of the allocation table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FatType {
    /// 12 bits.
    Fat12,
    /// 16 bits.
    Fat16,
    /// 32 bits, of which 28 count.
    Fat32,
}

impl FatType {
    /// The type with entries of so many bits.
    pub fn of_bits(bits: u64) -> Option<Self> {
        [Self::Fat12, Self::Fat16, Self::Fat32].into_iter().find(|fat| fat.bits() == bits)
    }

    /// Bits of an entry.
    pub const fn bits(self) -> u64 {
        match self {
            Self::Fat12 => 12,
            Self::Fat16 => 16,
            Self::Fat32 => 32,
        }
    }
}

/// Sizes and places, in sectors unless said otherwise.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub fat: FatType,
    pub floppy: bool,
    pub heads: u16,
    pub track: u16,
    /// The whole disk.
    pub disk: u64,
    /// In front of the file system.
    pub hidden: u64,
    pub cluster: u64,
    /// In front of the first allocation table.
    pub reserved: u64,
    /// Entries of the root directory; 0 where it is a chain of clusters.
    pub root_entries: u64,
    /// An allocation table, of which there are two.
    pub table: u64,
    /// Clusters of data.
    pub clusters: u64,
}

/// Bytes of a directory's entry.
pub(super) const ENTRY: u64 = 32;

impl Shape {
    /// The shape of a disk; those that the peer gives.
    pub fn of(floppy: bool, fat: Option<FatType>) -> Self {
        let fat = fat.unwrap_or(if floppy { FatType::Fat12 } else { FatType::Fat16 });
        // A floppy disk without a type has twice as many sectors on a track.
        let (cylinders, heads, track, cluster) = match (floppy, fat) {
            (true, FatType::Fat12) => (80, 2, 36, 2),
            (true, _) => (80, 2, 36, 1),
            (false, FatType::Fat12) => (64, 16, 63, 16),
            (false, FatType::Fat16) => (1024, 16, 63, 32),
            (false, FatType::Fat32) => (1024, 16, 63, 8),
        };
        let mut shape = Self {
            fat,
            floppy,
            heads,
            track,
            disk: cylinders * u64::from(heads) * u64::from(track),
            hidden: if floppy { 0 } else { track.into() },
            cluster,
            reserved: if fat == FatType::Fat32 { 32 } else { 1 },
            root_entries: if fat == FatType::Fat32 { 0 } else { 512 },
            table: 1,
            clusters: 0,
        };
        // The longer the tables, the fewer clusters they have to count.
        loop {
            let room = shape.volume() - shape.reserved - 2 * shape.table - shape.root();
            shape.clusters = room / cluster;
            let needed = ((shape.clusters + 2) * fat.bits()).div_ceil(8 * 512);
            if needed <= shape.table {
                return shape;
            }
            shape.table = needed;
        }
    }

    /// A floppy disk of the usual density.
    pub fn single_density(mut self) -> Self {
        self.track = 18;
        self.disk = 80 * 2 * 18;
        self.cluster = 1;
        self.table = 9;
        self.clusters = self.volume() - self.reserved - 2 * self.table - self.root();
        self
    }

    /// The file system.
    pub fn volume(&self) -> u64 {
        self.disk - self.hidden
    }

    /// The root directory in front of the clusters.
    pub fn root(&self) -> u64 {
        self.root_entries * ENTRY / 512
    }

    /// Where the first cluster begins on the disk.
    pub fn data(&self) -> u64 {
        self.hidden + self.reserved + 2 * self.table + self.root()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_clusters_is_that_of_the_type() {
        for (floppy, fat, disk) in [
            (false, None, 528_482_304),
            (false, Some(FatType::Fat12), 33_030_144),
            (false, Some(FatType::Fat32), 528_482_304),
            (true, None, 2_949_120),
        ] {
            let shape = Shape::of(floppy, fat);
            assert_eq!(shape.disk * 512, disk);
            let range = match shape.fat {
                FatType::Fat12 => 1..4085,
                FatType::Fat16 => 4085..65525,
                FatType::Fat32 => 65525..0x0fff_fff5,
            };
            assert!(range.contains(&shape.clusters), "{shape:?}");
            assert!(shape.data() + shape.clusters * shape.cluster <= shape.disk);
        }
        assert_eq!(Shape::of(true, Some(FatType::Fat12)).single_density().disk * 512, 1_474_560);
    }
}
