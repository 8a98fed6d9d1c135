//! Power cuts in the middle of changes of qcow2 images.
#![allow(dead_code, reason = "each test uses a part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use formats::qcow2::{CreateOptions, Options, Qcow2, create};
use graph::{Node, WriteFlags};

use super::power::*;
use super::{Random, read_all};

pub fn open_over(file: Arc<dyn Node>, backing: Option<Arc<dyn Node>>) -> Qcow2 {
    let options = Options { backing, pass_discards: true, ..Options::default() };
    Qcow2::open(file, "image", options).unwrap()
}

/// A new image.
pub fn fresh(options: &CreateOptions) -> Vec<u8> {
    let file = Volatile::holding(Vec::new());
    let node: Arc<dyn Node> = Arc::clone(&file) as Arc<dyn Node>;
    create(&node, "image", options).unwrap();
    file.forget_log()
}

/// Runs `change` on an image with content and cuts its log after each operation: no image is
/// damaged, and `judge` says whether what an image holds (none if it cannot be read) is right.
pub fn cut_everywhere(
    name: &str,
    image: Vec<u8>,
    change: impl FnOnce(&Qcow2),
    judge: impl Fn(&Qcow2) -> bool,
) {
    cut_over(name, image, None, change, judge);
}

/// The same over a backing file.
pub fn cut_over(
    name: &str,
    image: Vec<u8>,
    backing: Option<Arc<dyn Node>>,
    change: impl FnOnce(&Qcow2),
    judge: impl Fn(&Qcow2) -> bool,
) {
    let file = Volatile::holding(image);
    let start = file.forget_log();
    let disk = open_over(Arc::clone(&file) as Arc<dyn Node>, backing.clone());
    change(&disk);
    drop(disk);
    let log = std::mem::take(&mut file.0.lock().unwrap().1);
    let mut random = Random(3);
    for cut in 0..=log.len() {
        for what in [Survivors::None, Survivors::All, Survivors::Half, Survivors::Few] {
            let left = remains(&start, &log, cut, what, &mut random);
            let image = Volatile::holding(left);
            let report = Qcow2::check(&*image, name).unwrap();
            assert_eq!(report.corruptions, 0, "{name} cut {cut} {what:?}: {:?}", report.findings);
            let disk = open_over(Arc::clone(&image) as Arc<dyn Node>, backing.clone());
            assert!(judge(&disk), "{name} cut {cut} {what:?}: the content is wrong");
            drop(disk);
            let report = Qcow2::check(&*image, name).unwrap();
            assert_eq!(report.corruptions, 0, "{name} cut {cut} {what:?}: {:?}", report.findings);
        }
    }
}

/// An image of `size` bytes with the number of each sector in it.
pub fn numbered(options: &CreateOptions) -> Vec<u8> {
    let file = Volatile::holding(fresh(options));
    let disk = open_over(Arc::clone(&file) as Arc<dyn Node>, None);
    let sectors = options.size / SECTOR as u64;
    let content: Vec<u8> = (1..=sectors).flat_map(|i| i.to_le_bytes().repeat(SECTOR / 8)).collect();
    disk.write_at(0, &content, WriteFlags::default()).unwrap();
    drop(disk);
    file.forget_log()
}

/// Each sector holds its number or, from sector `from` on, zeroes.
pub fn numbers_up_to(disk: &Qcow2, from: usize) -> bool {
    let right = |(i, tag): (usize, u64)| tag == i as u64 + 1 || (i >= from && tag == 0);
    tags(&read_all(disk)).into_iter().enumerate().all(right)
}
