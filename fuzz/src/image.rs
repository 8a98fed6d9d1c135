//! Disk images: probing, opening, mapping, reading, writing and checking a qcow2 file in memory.
//!
//! What must hold: no panic, no allocation that the file does not back, and reading gives what was
//! written if nothing has failed. The first byte counts the operations; two bytes each at the end
//! of the input say what they do; the image is between.

use crate::bytes::Bytes;
use crate::peer::{self, PASSPHRASE};
use formats::probe::{PROBE_BYTES, format_of};
use formats::qcow2::{Compression, CreateOptions, Options, Qcow2, create};
use graph::{
    Bitmaps, Extent, Fix, Image, Memory, Node, NodeInfo, Preallocation, SnapshotInfo, Snapshots,
    WriteFlags, ZeroFlags,
};
use std::io;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Largest file: writes behind it fail as on a full disk.
const MOST: u64 = 4 << 20;

/// A file in memory that grows, up to a limit.
pub(crate) struct Growing(pub(crate) Memory);

impl Growing {
    fn reach(&self, end: u64) -> io::Result<()> {
        if end > MOST {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if end > self.0.size() { self.0.truncate(end) } else { Ok(()) }
    }
}

impl Node for Growing {
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        // Like a host's file: zeroes behind the end.
        let inside = self.size().saturating_sub(offset).min(buf.len() as u64) as usize;
        buf[inside..].fill(0);
        if inside == 0 { Ok(()) } else { self.0.read_at(offset, &mut buf[..inside]) }
    }
    fn write_at(&self, offset: u64, buf: &[u8], flags: WriteFlags) -> io::Result<()> {
        self.reach(offset.saturating_add(buf.len() as u64))?;
        self.0.write_at(offset, buf, flags)
    }
    fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> io::Result<()> {
        self.reach(offset.saturating_add(len))?;
        self.0.write_zeroes(offset, len, flags)
    }
    fn discard(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
    fn block_status(&self, offset: u64, len: u64) -> io::Result<Extent> {
        self.0.block_status(offset, len)
    }
    fn truncate(&self, size: u64) -> io::Result<()> {
        if size > MOST {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.truncate(size)
    }
    fn read_only(&self) -> bool {
        false
    }
    fn info(&self) -> NodeInfo {
        self.0.info()
    }
}

/// Feeds an image.
pub fn feed(input: &[u8]) {
    let mut start = Bytes(input);
    let wanted = 2 * usize::from(start.byte() % 32);
    let (image, ops) = start.0.split_at(start.0.len().saturating_sub(wanted));
    let _format = format_of(&image[..image.len().min(PROBE_BYTES)], "disk");
    let file: Arc<dyn Node> = Arc::new(Growing(Memory::new(image.to_vec(), false)));
    let sound = match Qcow2::check(&*file, "disk") {
        Ok(report) => report.corruptions == 0,
        Err(_) => false,
    };
    repair(image);
    let data: Arc<dyn Node> = Arc::new(Growing(Memory::new(vec![7; 30_000], false)));
    let outside = Options { data_file: Some(data), ..Options::default() };
    let key = Zeroizing::new(PASSPHRASE.as_bytes().to_vec());
    let locked = Options { passphrase: Some(key), ..Options::default() };
    let disk = Qcow2::open(Arc::clone(&file), "disk", Options::default())
        .or_else(|_| Qcow2::open(Arc::clone(&file), "disk", outside))
        .or_else(|_| Qcow2::open(Arc::clone(&file), "disk", locked));
    let Ok(disk) = disk else { return };
    use_disk(&disk, &mut Bytes(ops), sound);
    drop(disk);
    let report = Qcow2::check(&*file, "disk");
    if sound && let Ok(report) = report {
        assert_eq!(report.corruptions, 0, "a sound image was damaged: {:?}", report.findings);
    }
}

/// Repairs a copy: what was sound stays so.
fn repair(image: &[u8]) {
    let copy: Arc<dyn Node> = Arc::new(Growing(Memory::new(image.to_vec(), false)));
    let Ok(before) = Qcow2::check(&*copy, "copy") else { return };
    if let Ok(after) = Qcow2::check_and_repair(&copy, "copy", Fix::All) {
        assert!(before.corruptions > 0 || after.corruptions == 0, "{before:?}\n{after:?}");
    }
}

/// Changes the structure of an image that can do it: snapshots, bitmaps, length, content.
fn restructure(image: &dyn Image, op: u8, place: u64, size: u64) -> io::Result<()> {
    let missing = || io::Error::from(io::ErrorKind::Unsupported);
    let snapshots = || image.snapshots().ok_or_else(missing);
    let bitmaps = || image.bitmaps().ok_or_else(missing);
    let name = (place % 3).to_string();
    match op >> 4 {
        0 | 1 => {
            snapshots()?.create(&SnapshotInfo { name, icount: Some(place), ..Default::default() })
        }
        2 => snapshots()?.apply(&name),
        3 => snapshots()?.delete(&name),
        4 => snapshots()?.open(&name).and_then(|old| old.read_at(0, &mut [0; 512])),
        5 => bitmaps()?.add(&name, 512 << (place % 8), place.is_multiple_of(2)),
        6 => bitmaps()?.remove(&name),
        7 => bitmaps()?.set(&name, 0, size / 2),
        8 => bitmaps()?.next_dirty(&name, 0).map(|_| ()),
        9 => image.resize(place * 512, Preallocation::Off),
        10 => image.resize(size.saturating_add(place << 12), Preallocation::Metadata),
        11 => image.overlay().ok_or_else(missing)?.make_empty(),
        12 => image.overlay().ok_or_else(missing)?.record_backing(Some(&name), Some("raw")),
        _ => {
            let compress = image.compress().ok_or_else(missing)?;
            let unit = compress.unit();
            let at = (place * 700 / unit * unit).min(size);
            compress.write_compressed(at, &vec![op; unit.min(size - at).min(1 << 16) as usize])
        }
    }
}

/// Runs operations. On a sound image, what is written is read back.
pub(crate) fn use_disk(disk: &dyn Node, ops: &mut Bytes<'_>, sound: bool) {
    let _info = disk.info();
    let mut buffer = vec![0; 3000];
    while !ops.is_empty() {
        let size = disk.size();
        let (op, place) = (ops.byte(), u64::from(ops.byte()));
        // Near the start, near the end, or anywhere between.
        let at = match op >> 4 & 3 {
            0 => place * 512,
            1 => size.saturating_sub(place * 512),
            2 => size / 256 * place,
            _ => (place * 65536).wrapping_sub(700),
        };
        let at = at.min(size);
        let len = [512, 1, 3000, 70000][usize::from(op >> 6)].min(size - at);
        let bytes = len.min(3000) as usize;
        let zero = ZeroFlags { unmap: place % 2 == 0, ..ZeroFlags::default() };
        let _failed = match op % 9 {
            0 => disk.read_at(at, &mut buffer[..bytes]),
            1 | 2 => {
                let data = vec![op ^ place as u8; bytes];
                let written = disk.write_at(at, &data, WriteFlags::default());
                if sound && written.is_ok() && disk.read_at(at, &mut buffer[..bytes]).is_ok() {
                    assert_eq!(buffer[..bytes], data, "at {at}");
                }
                written
            }
            3 => disk.write_zeroes(at, len, zero),
            4 => disk.discard(at, len),
            5 => disk.flush(),
            7 | 8 => disk.image().map_or(Ok(()), |image| restructure(image, op, place, size)),
            _ => disk.block_status(at, size - at).map(|extent| {
                assert!(at == size || extent.len > 0 && extent.len <= size - at);
            }),
        };
    }
}

fn sample(options: &CreateOptions) -> Vec<u8> {
    let file: Arc<dyn Node> = Arc::new(Growing(Memory::new(Vec::new(), false)));
    create(&file, "seed", options).expect("the options are possible");
    let data: Arc<dyn Node> = Arc::new(Growing(Memory::new(Vec::new(), false)));
    let data_file = options.data_file.as_ref().map(|_| data);
    let opening = Options { data_file, ..Options::default() };
    let disk = Qcow2::open(Arc::clone(&file), "seed", opening).expect("it is a good image");
    for at in [0, 5000, 30_000] {
        disk.write_at(at, &[at as u8 + 1; 700], WriteFlags::default()).expect("there is room");
    }
    let unmap = ZeroFlags { unmap: true, ..ZeroFlags::default() };
    disk.write_zeroes(28_000, 10_000, unmap).expect("there is room");
    // Not every kind can have them.
    let info = SnapshotInfo { name: "1".into(), ..SnapshotInfo::default() };
    let _ = Snapshots::create(&disk, &info);
    if options.version > 2 {
        let _ = disk.add("0", 4096, true);
    }
    disk.write_at(4000, &[9; 1000], WriteFlags::default()).expect("there is room");
    drop(disk);
    let mut bytes = vec![0; file.size() as usize];
    file.read_at(0, &mut bytes).expect("it is in memory");
    bytes
}

/// Small images of every kind, with all operations after them.
pub fn seeds() -> Vec<Vec<u8>> {
    let plain = CreateOptions { cluster_size: 512, ..CreateOptions::new(60 << 10) };
    let kinds = [
        plain.clone(),
        CreateOptions { version: 2, ..plain.clone() },
        CreateOptions { refcount_bits: 1, ..plain.clone() },
        CreateOptions { refcount_bits: 64, lazy_refcounts: true, ..plain.clone() },
        CreateOptions { cluster_size: 16384, extended_l2: true, ..plain.clone() },
        CreateOptions { compression: Compression::Zstd, ..plain.clone() },
        CreateOptions { backing_file: Some("base".into()), ..plain.clone() },
        CreateOptions { data_file: Some("data".into()), ..plain.clone() },
        CreateOptions { data_file: Some("data".into()), data_file_raw: true, ..plain },
    ];
    let ops: Vec<u8> = (0..40u8).map(|n| n.wrapping_mul(37)).collect();
    let theirs = peer::images(|format| format == "qcow2").into_iter().map(|(_, image)| image);
    let images = kinds.iter().map(sample).chain(theirs);
    images.map(|image| [&[20][..], &image, &ops].concat()).collect()
}
