//! Changing options of an image that exists.
//!
//! Each change is complete in itself and leaves a sound image. Fields of the header change in one write
//! of its first sector. To lower the version, clusters with zero flags get zeroes written first; to
//! change the width of refcounts, a whole new refcount table and its blocks are written behind the
//! end of the file, and the header then names them together with the new width.
//!
//! Changes of version and refcount width leave the open node behind: it only reads from then on.

use std::io;
use std::sync::atomic::Ordering;

use graph::{Amend, ImageOptions, OpenError, Secrets, Sharing, WriteFlags};

use super::codec::table_bytes;
use super::header::{
    AUTOCLEAR_RAW_DATA, COMPATIBLE_LAZY, Header, INCOMPATIBLE_COMPRESSION, INCOMPATIBLE_DATA_FILE,
    INCOMPATIBLE_EXTENDED_L2,
};
use super::meta::put_refcount;
use super::{Qcow2, lock};
use crate::luks::{self, Area, CryptAmend};

/// Work that is reported as done, for each kind of change.
const STEPS: u64 = 4;

impl Amend for Qcow2 {
    fn apply(
        &self,
        options: &ImageOptions,
        force: bool,
        secrets: &dyn Secrets,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), OpenError> {
        let failed = |e| OpenError::host(&self.path, e);
        self.writable(0, 0).map_err(failed)?;
        let wanted = Wanted::parse(options, &self.header())?;
        progress(0, STEPS);
        if options.is_set("encrypt.state") {
            self.amend_slots(options, force, secrets)?;
        }
        if wanted.upgrades {
            self.update_header(|header| header.version = 3).map_err(failed)?;
        }
        progress(1, STEPS);
        if let Some(size) = options.number("size") {
            graph::Image::resize(self, size.next_multiple_of(512), graph::Preallocation::Off)
                .map_err(failed)?;
        }
        self.amend_header(options, &wanted).map_err(failed)?;
        if wanted.downgrades {
            self.remove_zero_flags().map_err(failed)?;
        }
        progress(2, STEPS);
        if let Some(order) = wanted.refcount_order {
            self.change_refcount_width(order).map_err(failed)?;
        }
        progress(3, STEPS);
        if wanted.downgrades {
            self.downgrade().map_err(failed)?;
        }
        if wanted.upgrades {
            self.outdated.store(true, Ordering::Release);
        }
        progress(STEPS, STEPS);
        Ok(())
    }
}

/// Changes beyond single fields.
struct Wanted {
    upgrades: bool,
    downgrades: bool,
    refcount_order: Option<u32>,
}

impl Wanted {
    fn parse(options: &ImageOptions, header: &Header) -> Result<Self, OpenError> {
        let refuse = |text: &str| Err(OpenError::Option(text.to_owned()));
        let version = match options.text("compat") {
            None => header.version,
            Some("0.10" | "v2") => 2,
            Some("1.1" | "v3") => 3,
            Some(other) => return refuse(&format!("Unknown compatibility level {other}")),
        };
        let width = options.number("refcount_bits").unwrap_or(1 << header.refcount_order);
        if !width.is_power_of_two() || width > 64 {
            return refuse("Refcount width must be a power of two and may not exceed 64 bits");
        }
        if version < 3 && width != 16 {
            return refuse(
                "Refcount widths other than 16 bits require compatibility level 1.1 or above (use \
                 compat=1.1 or greater)",
            );
        }
        if version < 3 && options.switch("lazy_refcounts") {
            return refuse(
                "Lazy refcounts only supported with compatibility level 1.1 and above (use \
                 compat=1.1 or greater)",
            );
        }
        if options.is_set("data_file") && !header.external() {
            return refuse("data-file can only be set for images that use an external data file");
        }
        if options.is_set("data_file_raw")
            && options.switch("data_file_raw")
            && header.autoclear & AUTOCLEAR_RAW_DATA == 0
        {
            return refuse("data-file-raw cannot be set on existing images");
        }
        let hard = INCOMPATIBLE_DATA_FILE | INCOMPATIBLE_COMPRESSION | INCOMPATIBLE_EXTENDED_L2;
        if version < header.version && header.incompatible & hard != 0 {
            return refuse("Cannot downgrade an image with incompatible features set");
        }
        if version < header.version && header.snapshots > 0 {
            return refuse("Cannot downgrade an image with internal snapshots");
        }
        let order = width.trailing_zeros();
        Ok(Self {
            upgrades: version > header.version,
            downgrades: version < header.version,
            refcount_order: (order != header.refcount_order).then_some(order),
        })
    }
}

impl Qcow2 {
    fn amend_slots(
        &self,
        options: &ImageOptions,
        force: bool,
        secrets: &dyn Secrets,
    ) -> Result<(), OpenError> {
        let change = CryptAmend::parse(options, "encrypt.", secrets)?;
        let start = self.header().crypt_header.map(|(start, _)| start);
        let (Some(crypt), Some(start)) = (&self.crypt, start) else {
            let text = "Only LUKS encryption options can be amended for qcow2 images";
            return Err(OpenError::Option(text.to_owned()));
        };
        let area = Area { node: &*self.file, start, path: &self.path };
        let passphrase = crypt.passphrase.as_ref().map_or(&[][..], |p| p);
        let header = luks::amend(&area, passphrase, &change, force)?;
        *lock(&crypt.volume) = Some(header);
        Ok(())
    }

    fn amend_header(&self, options: &ImageOptions, wanted: &Wanted) -> io::Result<()> {
        let text = |name: &str| options.text(name).filter(|text| !text.is_empty());
        let lazy = options.is_set("lazy_refcounts");
        let raw = options.is_set("data_file_raw");
        if options.is_set("backing_file") || options.is_set("backing_fmt") {
            let (name, format) = {
                let header = self.header();
                (header.backing_file.clone(), header.backing_format.clone())
            };
            let name =
                if options.is_set("backing_file") { text("backing_file") } else { name.as_deref() };
            let format =
                if options.is_set("backing_fmt") { text("backing_fmt") } else { format.as_deref() };
            graph::Overlay::record_backing(self, name, format)?;
        }
        if !lazy && !raw && !options.is_set("data_file") && !wanted.downgrades {
            return Ok(());
        }
        self.update_header(|header| {
            if lazy || wanted.downgrades {
                header.compatible &= !COMPATIBLE_LAZY;
            }
            if options.switch("lazy_refcounts") {
                header.compatible |= COMPATIBLE_LAZY;
            }
            if raw && !options.switch("data_file_raw") {
                header.autoclear &= !AUTOCLEAR_RAW_DATA;
            }
            if let Some(name) = text("data_file") {
                header.data_file = Some(name.to_owned());
            }
        })
    }

    /// Writes all refcounts anew with another width.
    fn change_refcount_width(&self, order: u32) -> io::Result<()> {
        let _one_at_a_time = lock(&self.changing);
        let _all = self.ranges.lock(0, u64::MAX, Sharing::Exclusive);
        self.write_back()?;
        self.outdated.store(true, Ordering::Release);
        let file = &*self.file;
        let layout = self.layout;
        let per_block = 1u64 << (layout.cluster_bits + 3 - order);
        let mut meta = self.meta();
        let mut used = file.size().div_ceil(layout.cluster);
        while used > 0 && meta.refcount(file, used - 1)? == 0 {
            used -= 1;
        }
        let old = meta.refcount_clusters();
        let (blocks, clusters) = layout.room_for_refcounts(used, per_block);
        let first_block = (used + clusters) * layout.cluster;
        let most = u64::MAX >> (64 - (1u32 << order));
        let plain = WriteFlags::default();
        for block in 0..blocks {
            let mut bytes = vec![0; layout.cluster as usize];
            for within in 0..per_block {
                let cluster = block * per_block + within;
                let count = match cluster {
                    new if (used..used + clusters + blocks).contains(&new) => 1,
                    // The old table and blocks are free as soon as the header names the new ones.
                    old_one if old.contains(&old_one) => 0,
                    other if other < used => meta.refcount(file, other)?,
                    _ => 0,
                };
                if count > most {
                    let text = format!(
                        "Cannot decrease refcount entry width to {} bits: Cluster at offset {:#x} \
                         has a refcount of {count}",
                        1u64 << order,
                        cluster * layout.cluster
                    );
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
                }
                let bits = within << order;
                put_refcount(&mut bytes, (bits / 8) as usize, (bits % 8) as u32, order, count);
            }
            file.write_at(first_block + block * layout.cluster, &bytes, plain)?;
        }
        let mut table: Vec<u64> = (0..blocks).map(|i| first_block + i * layout.cluster).collect();
        table.resize((clusters * layout.cluster / 8) as usize, 0);
        file.write_at(used * layout.cluster, &table_bytes(&table), plain)?;
        drop(meta);
        self.update_header(|header| {
            header.reftable_offset = used * layout.cluster;
            header.reftable_clusters = clusters as u32;
            header.refcount_order = order;
        })
    }

    /// Makes the image do without what version 2 lacks.
    fn remove_zero_flags(&self) -> io::Result<()> {
        let size = self.disk_size();
        let mut at = 0;
        while at < size {
            let extent = graph::Node::block_status(self, at, size - at)?;
            if extent.kind == graph::ExtentKind::Zero {
                self.zero_by_place(at, extent.len)?;
            }
            at += extent.len;
        }
        // Persistent bitmaps need version 3.
        for info in graph::Bitmaps::list(self) {
            graph::Bitmaps::remove(self, &info.name)?;
        }
        self.store_bitmaps()?;
        self.write_back()
    }

    /// Makes the header one of version 2.
    fn downgrade(&self) -> io::Result<()> {
        self.outdated.store(true, Ordering::Release);
        self.update_header(|header| {
            header.version = 2;
            header.incompatible = 0;
            header.compatible = 0;
            header.autoclear = 0;
        })
    }

    /// Turns zero flags of a range into what version 2 has: nothing where nothing shows through,
    /// zeroes that are stored elsewhere.
    fn zero_by_place(&self, from: u64, len: u64) -> io::Result<()> {
        let cluster = self.layout.cluster;
        let size = self.disk_size();
        for guest in (from..from + len).step_by(cluster as usize) {
            let inside = (guest + cluster).min(size) - guest;
            if self.has_backing_at(guest) {
                self.write_data(guest, &vec![0; inside as usize])?;
            } else {
                let _range = self.hold(guest, guest + 1, Sharing::Exclusive);
                self.unmap_in_table(&mut self.meta(), guest, guest + 1, false)?;
            }
            self.commit_if_crowded()?;
        }
        Ok(())
    }
}
