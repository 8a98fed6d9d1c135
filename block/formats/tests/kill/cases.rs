//! The images that are loaded: every writable format, qcow2 in many shapes.

use std::sync::Arc;

use graph::Node;

use super::common::*;

/// Length of the disks in bytes.
const SIZE: u64 = 6 << 20;

/// A kind of image and what is done to it beside writes, zeroes, discards and flushes.
pub struct Case {
    pub name: &'static str,
    pub format: &'static str,
    /// As behind `-o` of `qemu-img create`.
    pub options: &'static str,
    /// Option with the ID of the secret that opens it.
    pub key: &'static str,
    /// The peer can check the format.
    pub checked: bool,
    /// And repair it.
    pub repaired: bool,
    /// Clusters are also written compressed.
    pub packs: bool,
    /// Snapshots are taken, applied and deleted; by one thread.
    pub snapshots: bool,
    /// A bitmap notes what is written.
    pub bitmap: bool,
    /// It lies over another image with content.
    pub overlay: bool,
    /// It has its data in a file beside it.
    pub data_file: bool,
    /// Options of its file, for writes that the kernel carries out while their threads go on.
    pub aio: &'static str,
}

const PLAIN: Case = Case {
    name: "",
    format: "qcow2",
    options: "",
    key: "",
    checked: true,
    repaired: true,
    packs: false,
    snapshots: false,
    bitmap: false,
    overlay: false,
    data_file: false,
    aio: "",
};

const fn qcow2(name: &'static str, options: &'static str) -> Case {
    Case { name, options, ..PLAIN }
}

const fn other(name: &'static str, format: &'static str, options: &'static str) -> Case {
    Case { name, format, options, ..PLAIN }
}

/// A format without tables that could be checked.
const fn unchecked(name: &'static str, format: &'static str, options: &'static str) -> Case {
    Case { name, format, options, checked: false, repaired: false, ..PLAIN }
}

/// A format that the peer checks and does not repair.
const fn checked(name: &'static str, format: &'static str, options: &'static str) -> Case {
    Case { name, format, options, repaired: false, ..PLAIN }
}

const AES: &str = "encrypt.format=luks,encrypt.key-secret=abc,encrypt.iter-time=10";

pub const CASES: &[Case] = &[
    Case { packs: true, ..qcow2("qcow2", "") },
    Case { packs: true, ..qcow2("qcow2 small clusters", "cluster_size=512,refcount_bits=64") },
    Case { packs: true, ..qcow2("qcow2 extended L2", "extended_l2=on,cluster_size=32k") },
    qcow2("qcow2 refcounts of 1 bit", "cluster_size=4k,refcount_bits=1"),
    Case { packs: true, ..qcow2("qcow2 zstd", "cluster_size=16k,compression_type=zstd") },
    qcow2("qcow2 lazy refcounts", "lazy_refcounts=on,cluster_size=4k"),
    Case { packs: true, ..qcow2("qcow2 version 2", "compat=0.10,cluster_size=4k") },
    Case { data_file: true, ..qcow2("qcow2 data file", "cluster_size=16k") },
    Case { data_file: true, ..qcow2("qcow2 raw data file", "data_file_raw=on") },
    Case { snapshots: true, packs: true, ..qcow2("qcow2 snapshots", "cluster_size=16k") },
    Case {
        snapshots: true,
        ..qcow2("qcow2 snapshots extended L2", "extended_l2=on,cluster_size=16k")
    },
    Case { snapshots: true, ..qcow2("qcow2 snapshots version 2", "compat=0.10,cluster_size=4k") },
    Case { bitmap: true, ..qcow2("qcow2 bitmap", "cluster_size=4k") },
    Case { overlay: true, packs: true, ..qcow2("qcow2 overlay", "cluster_size=8k") },
    Case { overlay: true, ..qcow2("qcow2 overlay extended L2", "extended_l2=on") },
    Case { key: "encrypt.key-secret", ..qcow2("qcow2 luks", AES) },
    Case { key: "key-secret", ..unchecked("luks", "luks", "key-secret=abc,iter-time=10") },
    Case { aio: "file.aio=io_uring", ..qcow2("qcow2 io_uring", "cluster_size=4k") },
    Case {
        aio: "file.aio=io_uring,cache.direct=on",
        ..qcow2("qcow2 io_uring direct", "extended_l2=on")
    },
    Case { aio: "file.aio=native,cache.direct=on", ..qcow2("qcow2 native", "cluster_size=16k") },
    Case { aio: "file.aio=io_uring", ..unchecked("raw io_uring", "raw", "") },
    checked("vmdk", "vmdk", ""),
    checked("vmdk zeroed grains", "vmdk", "zeroed_grain=on"),
    checked("vmdk split", "vmdk", "subformat=twoGbMaxExtentSparse"),
    checked("vmdk flat", "vmdk", "subformat=monolithicFlat"),
    Case { overlay: true, ..checked("vmdk overlay", "vmdk", "") },
    checked("vdi", "vdi", ""),
    checked("vdi static", "vdi", "static=on"),
    unchecked("vpc", "vpc", ""),
    unchecked("vpc fixed", "vpc", "subformat=fixed"),
    other("vhdx", "vhdx", "block_size=1M"),
    other("vhdx fixed", "vhdx", "subformat=fixed"),
    other("qed", "qed", "cluster_size=4096,table_size=2"),
    Case { overlay: true, ..other("qed overlay", "qed", "cluster_size=4096") },
    other("parallels", "parallels", "cluster_size=64k"),
    Case { packs: true, ..unchecked("qcow", "qcow", "") },
    Case { overlay: true, ..unchecked("qcow overlay", "qcow", "") },
    unchecked("raw", "raw", ""),
];

impl Case {
    /// Makes the image, and those beside it.
    pub fn create(&self, path: &str) {
        let mut options = format!("size={SIZE},{}", self.options);
        if self.data_file {
            options += &format!(",data_file={path}.data");
        }
        if self.overlay {
            let base = format!("{path}.base");
            // Some formats lie only over their own kind.
            let format = if self.format == "vmdk" { "vmdk" } else { "raw" };
            create_image(format, &base, &format!("size={SIZE}"));
            let content: Vec<u8> =
                (1..=SIZE / 512).flat_map(|i| i.to_le_bytes().repeat(64)).collect();
            let disk = open_named(&base, format, false);
            disk.write_at(0, &content, graph::WriteFlags::default()).unwrap();
            disk.flush().unwrap();
            options += &format!(",backing_file={base}");
            if self.format == "qcow2" || self.format == "qed" {
                options += &format!(",backing_fmt={format}");
            }
        }
        let made = try_create_with(self.format, path, options.trim_end_matches(','), &Backwards);
        made.unwrap_or_else(|e| panic!("{}: {e}", self.name));
        if self.format == "luks" {
            // What was never written is not zeroes but noise.
            let disk = self.open(path, true);
            disk.write_at(0, &vec![0; SIZE as usize], graph::WriteFlags::default()).unwrap();
        }
    }

    /// The image as `--image-opts` names it.
    pub fn options_of(&self, path: &str) -> String {
        let key = if self.key.is_empty() { String::new() } else { format!(",{}=abc", self.key) };
        format!("driver={},file.driver=file,file.filename={path}{key}", self.format)
    }

    /// What gives the peer the secret.
    pub fn secret(&self) -> [&'static str; 2] {
        ["--object", "secret,id=abc,data=cba"]
    }

    pub fn open(&self, path: &str, writable: bool) -> Arc<dyn Node> {
        let aio = if self.aio.is_empty() { String::new() } else { format!(",{}", self.aio) };
        open_options(&format!("{},discard=unmap{aio}", self.options_of(path)), writable)
    }

    /// How many threads load it.
    pub fn threads(&self) -> u64 {
        if self.snapshots { 1 } else { 2 }
    }
}
