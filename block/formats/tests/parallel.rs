//! Many requests at once, through the queue, on one qcow2 image.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod common;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use common::*;
use graph::{Disk, DiskOptions, Executor, Op, Queue, Request, WriteFlags, ZeroFlags};

#[test]
fn queued_requests_leave_what_sequential_ones_would() {
    let folder = Folder::new("parallel");
    for (n, options) in
        ["cluster_size=4096", "cluster_size=64k", "extended_l2=on"].iter().enumerate()
    {
        let path = folder.path("image.qcow2");
        must("qemu-img", &["create", "-q", "-f", "qcow2", "-o", options, &path, "4M"]);
        let size: u64 = 4 << 20;
        let options = DiskOptions { discard: true, ..DiskOptions::default() };
        let disk = Arc::new(Disk::new(Arc::new(open(&path, false, None)), options));
        let queue = Queue::new(Arc::clone(&disk), Executor::new("io", 8));
        let mut model = vec![0u8; size as usize];
        let mut random = Random(n as u64 + 21);
        let mut now = vec![0; 20_000];
        let mut at_once = 0;
        let failures = Arc::new(AtomicU32::new(0));
        let wrong = Arc::new(Mutex::new(Vec::new()));
        for round in 0..3000u32 {
            let at = random.below(size);
            let len = (random.below(20_000) + 1).min(size - at);
            let range = at as usize..(at + len) as usize;
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
                if done.result.is_err() {
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
        assert!(at_once > 100, "only {at_once} reads were possible at once");
        assert_eq!(failures.load(Ordering::Relaxed), 0);
        assert_eq!(*wrong.lock().unwrap(), []);
        assert!(read_all(&*disk.node()) == model);
        drop(queue);
        drop(disk);
        assert_clean(&path);
        must("qemu-img", &["check", "-f", "qcow2", &path]);
    }
}
