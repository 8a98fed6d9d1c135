//! The images: every writable format, qcow2 in many shapes.

use crate::tools::{Whose, must};
use std::path::Path;

/// A kind of image.
pub struct Case {
    pub name: &'static str,
    pub format: &'static str,
    /// As behind `-o` of `qemu-img create`.
    pub options: &'static str,
    /// What opens it, up to the name of the secret.
    pub key: &'static str,
    /// Bytes of clusters that are also written compressed; 0 for none.
    pub packs: u64,
    pub snapshots: bool,
    /// It lies over another image with content.
    pub overlay: bool,
    /// The peer fills what was made zero from the image below when it writes beside it.
    pub zeroes_are_lost: bool,
}

const PLAIN: Case = Case {
    name: "",
    format: "qcow2",
    options: "",
    key: "",
    packs: 0,
    snapshots: false,
    overlay: false,
    zeroes_are_lost: false,
};

const fn qcow2(name: &'static str, options: &'static str) -> Case {
    Case { name, options, ..PLAIN }
}

const fn other(name: &'static str, format: &'static str, options: &'static str) -> Case {
    Case { name, format, options, ..PLAIN }
}

const LUKS: &str = "encrypt.format=luks,encrypt.key-secret=abc,encrypt.iter-time=10";
const AES: &str = "encrypt.format=aes,encrypt.key-secret=abc";

pub const CASES: &[Case] = &[
    other("raw", "raw", ""),
    Case { packs: 65536, ..qcow2("qcow2", "") },
    Case { snapshots: true, ..qcow2("qcow2 with snapshots", "cluster_size=4k") },
    Case {
        snapshots: true,
        packs: 4096,
        ..qcow2("qcow2 of version 2", "compat=0.10,cluster_size=4k")
    },
    Case { snapshots: true, ..qcow2("qcow2 extended", "extended_l2=on,cluster_size=32k") },
    Case { packs: 16384, ..qcow2("qcow2 zstd", "compression_type=zstd,cluster_size=16k") },
    qcow2("qcow2 small clusters", "cluster_size=512,refcount_bits=1"),
    qcow2("qcow2 large clusters", "cluster_size=2M,refcount_bits=64"),
    qcow2("qcow2 lazy", "lazy_refcounts=on,preallocation=metadata"),
    qcow2("qcow2 data file", "data_file=data,data_file_raw=on"),
    Case { overlay: true, ..qcow2("qcow2 overlay", "cluster_size=8k") },
    Case { overlay: true, ..qcow2("qcow2 extended overlay", "extended_l2=on") },
    Case {
        key: "encrypt.format=luks,encrypt.key-secret",
        snapshots: true,
        ..qcow2("qcow2 luks", LUKS)
    },
    Case { key: "encrypt.format=aes,encrypt.key-secret", ..qcow2("qcow2 aes", AES) },
    Case { key: "key-secret", ..other("luks", "luks", "key-secret=abc,iter-time=10") },
    other("vmdk", "vmdk", ""),
    other("vmdk flat", "vmdk", "subformat=monolithicFlat"),
    other("vmdk split", "vmdk", "subformat=twoGbMaxExtentSparse,zeroed_grain=on"),
    other("vdi", "vdi", ""),
    other("vdi static", "vdi", "static=on"),
    other("vpc", "vpc", ""),
    other("vpc fixed", "vpc", "subformat=fixed,force_size=on"),
    other("vhdx", "vhdx", "block_size=1M"),
    other("vhdx fixed", "vhdx", "subformat=fixed"),
    other("qed", "qed", "cluster_size=4096,table_size=2"),
    Case { overlay: true, zeroes_are_lost: true, ..other("qed overlay", "qed", "") },
    other("parallels", "parallels", "cluster_size=64k"),
    Case { packs: 4096, ..other("qcow", "qcow", "") },
];

/// What gives tools the secret.
pub const SECRET: [&str; 2] = ["--object", "secret,id=abc,data=cba"];

impl Case {
    /// Makes the image, and the one that it lies on.
    pub fn create(&self, whose: Whose, size: u64, within: &Path) {
        let mut options = self.options.to_owned();
        if self.overlay {
            let bytes: Vec<u8> = (0..size / 8).flat_map(u64::to_le_bytes).collect();
            std::fs::write(within.join("base"), bytes).unwrap();
            options += ",backing_file=base,backing_fmt=raw";
        }
        let size = size.to_string();
        let mut args = vec!["create", "-q", "-f", self.format];
        args.extend(SECRET);
        let options = options.trim_start_matches(',');
        if !options.is_empty() {
            args.extend(["-o", options]);
        }
        args.extend(["image", size.as_str()]);
        must(whose, "qemu-img", &args, within);
    }

    /// The image as `--image-opts` names it.
    pub fn image(&self) -> String {
        let key = if self.key.is_empty() { String::new() } else { format!(",{}=abc", self.key) };
        format!(
            "driver={},file.driver=file,file.filename=image,file.discard=unmap,discard=unmap{key}",
            self.format
        )
    }
}
