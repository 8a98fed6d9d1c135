//! Many requests at once, through the queue, on one qcow2 image.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod common;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use common::*;
use formats::{HostFiles, ImageSpec, open_image};
use graph::{
    Disk, DiskOptions, Executor, NoSecrets, Op, Plain, Queue, Request, WriteFlags, ZeroFlags,
};

#[test]
fn queued_requests_leave_what_sequential_ones_would() {
    let folder = Folder::new("parallel");
    let cases = [
        ("cluster_size=4096", ""),
        ("cluster_size=64k", ""),
        ("extended_l2=on", ""),
        ("cluster_size=4096", ",file.aio=io_uring"),
        ("extended_l2=on", ",file.aio=io_uring,cache.direct=on"),
        ("cluster_size=64k", ",file.aio=native,cache.direct=on"),
    ];
    for (n, (options, how)) in cases.iter().enumerate() {
        let path = folder.path("image.qcow2");
        must("qemu-img", &["create", "-q", "-f", "qcow2", "-o", options, &path, "4M"]);
        let size: u64 = 4 << 20;
        let options = DiskOptions { discard: true, ..DiskOptions::default() };
        let image = format!("driver=qcow2,file.driver=file,file.filename={path}{how}");
        let disk = Arc::new(Disk::new(open_options(&image, true), options));
        let queue = Queue::new(Arc::clone(&disk), Executor::new("io", 8));
        let mut model = vec![0u8; size as usize];
        let mut random = Random(n as u64 + 21);
        let mut now = vec![0; 24_576];
        let (mut at_once, mut plain) = (0, 0);
        let failures = Arc::new(AtomicU32::new(0));
        let wrong = Arc::new(Mutex::new(Vec::new()));
        for round in 0..3000u32 {
            // Direct transfers are plain if they are whole blocks.
            let unit = if round % 2 == 0 { 1 } else { 4096 };
            let at = random.below(size) / unit * unit;
            let len = (random.below(20_000) + 1).next_multiple_of(unit).min(size - at);
            let range = at as usize..(at + len) as usize;
            plain += u32::from(Plain::find(&*disk.node(), at, len, round % 4 < 2).is_some());
            let (op, expected) = match random.below(10) {
                0 => {
                    model[range].fill(0);
                    (Op::WriteZeroes(len, ZeroFlags { unmap: true, fua: false }), None)
                }
                1 => (Op::Flush, None),
                2..=4 if queue.try_read(at, &mut now[..len as usize]) => {
                    // As good as a read that is submitted now: pending changes elsewhere only.
                    assert!(now[..len as usize] == model[range], "round {round}");
                    at_once += 1;
                    continue;
                }
                2..=4 => (Op::Read(vec![0; len as usize]), Some(model[range].to_vec())),
                _ => {
                    let data = vec![round as u8; len as usize];
                    model[range].copy_from_slice(&data);
                    (Op::Write(data, WriteFlags::default()), None)
                }
            };
            let (failures, wrong) = (Arc::clone(&failures), Arc::clone(&wrong));
            queue.submit(Request { offset: at, op }, move |done| {
                if let Err(e) = &done.result {
                    eprintln!("round {round}: {len} bytes at {at}: {e}");
                    failures.fetch_add(1, Ordering::Relaxed);
                }
                if expected.is_some_and(|e| e != done.buf) {
                    wrong.lock().unwrap().push((round, at));
                }
            });
            if round % 64 == 63 {
                queue.drain();
            }
        }
        queue.drain();
        let direct = how.contains("direct");
        assert!(direct || at_once > 100, "only {at_once} reads were possible at once");
        assert!(how.is_empty() == (plain == 0), "{plain} requests were plain with '{how}'");
        assert!(how.is_empty() || plain > 300, "only {plain} requests were plain with '{how}'");
        assert_eq!(failures.load(Ordering::Relaxed), 0, "{how}");
        assert_eq!(*wrong.lock().unwrap(), []);
        assert!(read_all(&*disk.node()) == model);
        drop(queue);
        drop(disk);
        assert_clean(&path);
        must("qemu-img", &["check", "-f", "qcow2", &path]);
    }
}

#[test]
fn a_drain_waits_for_what_the_kernel_has() {
    let folder = Folder::new("drained-flights");
    let path = folder.path("image.raw");
    std::fs::write(&path, vec![0; 1 << 20]).unwrap();
    let name = format!("driver=raw,file.driver=file,file.filename={path},file.aio=io_uring");
    let spec = ImageSpec { name: &name, complete: true, writable: true, ..ImageSpec::default() };
    let opened = open_image(&spec, &HostFiles, &NoSecrets).unwrap();
    let member = opened.edge.target().unwrap();
    let disk = Arc::new(Disk::on(opened.edge, &DiskOptions::default()));
    let queue = Queue::new(Arc::clone(&disk), Executor::new("io", 4));
    let stop = AtomicBool::new(false);
    let content = || std::fs::read(&path).unwrap();
    let mut seen = BTreeSet::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0u64.. {
                let op = Op::Write(round.to_le_bytes().repeat(8192), WriteFlags::default());
                let offset = (round % 16) << 16;
                queue.submit(Request { offset, op }, |done| done.result.unwrap());
                if round % 32 == 0 {
                    queue.drain();
                }
                if stop.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        while seen.len() < 50 {
            let drained = opened.graph.drain(&member);
            let held = content();
            assert!(held == content(), "something was written during a drain");
            seen.insert(held[..8].to_vec());
            drop(drained);
        }
        stop.store(true, Ordering::Relaxed);
    });
    queue.drain();
}
