//! A front end of vhost-user: messages right, wrong and wild, and rings in memory that it shares.
//!
//! What must hold: no panic, no hang, whatever is in the memory and whenever it changes. Each operation
//! is a byte, and what it takes from the bytes behind it.

use crate::bytes::Bytes;
use graph::{Disk, DiskOptions, Executor, Memory};
use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, OnceLock};
use vhost::{Session, protocol, request};
use virtio::RingOptions;
use virtio::blk::{Blk, Config};

/// Most operations of one input.
const MOST: usize = 200;
/// Bytes of the disk, and of the memory.
const DISK: usize = 64 << 10;
const MEMORY: u64 = 64 << 10;
/// Where the guest and the front end have the memory.
const GUEST: u64 = 0x8000_0000;
const USER: u64 = 0x7000_0000;

/// Operations.
const MESSAGE: u8 = 0;
const WRITE: u8 = 1;
const NOTIFY: u8 = 2;
const SHRINK: u8 = 3;

/// Threads that serve the disk: one, so that requests end in order.
fn executor() -> &'static Arc<Executor> {
    static EXECUTOR: OnceLock<Arc<Executor>> = OnceLock::new();
    EXECUTOR.get_or_init(|| Executor::new("block", 1))
}

/// The memory, which is the same for all inputs, and empty.
fn memory() -> File {
    static FILE: OnceLock<File> = OnceLock::new();
    let opened = || {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(true);
        options.open("memory").expect("the folder can be written to")
    };
    let file = FILE.get_or_init(opened).try_clone().expect("the host has descriptors");
    let emptied = file.set_len(0).and_then(|()| file.set_len(MEMORY));
    emptied.expect("the file can be resized");
    file
}

/// Feeds a session.
pub fn feed(input: &[u8]) {
    let mut bytes = Bytes(input);
    let options = DiskOptions { discard: true, ..DiskOptions::default() };
    let disk = Disk::new(Arc::new(Memory::new(vec![0; DISK], false)), options);
    let config = Config {
        rings: RingOptions { queue_reset: false, ..RingOptions::default() },
        num_queues: 2,
        ..Config::new(Arc::new(disk), Arc::clone(executor()))
    };
    let mut session = Session::new(Box::new(Blk::new(config)));
    let memory = memory();
    for _ in 0..MOST {
        if bytes.is_empty() {
            break;
        }
        match bytes.byte() % 8 {
            SHRINK if bytes.byte() == 0 => {
                // A file that is gone is memory that is gone.
                let _ = memory.set_len(bytes.below(MEMORY));
            }
            WRITE => {
                let (at, len) = (bytes.number(2), bytes.byte());
                let _ = memory.write_all_at(bytes.take(len.into()), at % (MEMORY - 256));
            }
            NOTIFY => session.notify(bytes.byte().into()),
            _ => {
                let (number, flags) = (bytes.byte() & 63, bytes.byte());
                let fds = (0..flags >> 4 & 3)
                    .filter_map(|_| memory.try_clone().ok().map(OwnedFd::from))
                    .collect();
                let len = bytes.byte();
                let flags = u32::from(flags & 15);
                let payload = bytes.take(len.into());
                if session.serve(number.into(), flags, payload, fds).is_err() {
                    break;
                }
            }
        }
        if session.failure().is_some() {
            break;
        }
    }
    session.end();
}

fn message(number: u32, fds: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![MESSAGE, number as u8, 1 | fds << 4, payload.len() as u8];
    bytes.extend_from_slice(payload);
    bytes
}

fn write(at: u16, data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![WRITE];
    bytes.extend(at.to_le_bytes());
    bytes.push(data.len() as u8);
    bytes.extend_from_slice(data);
    bytes
}

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn longs(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn descriptor(number: u16, at: u64, len: u32, flags: u16) -> Vec<u8> {
    let mut bytes = longs(&[GUEST + at]);
    bytes.extend(len.to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    bytes.extend((number + 1).to_le_bytes());
    write(number * 16, &bytes)
}

/// A machine that starts a queue, with or without an account, and asks for something; and questions.
pub fn seeds() -> Vec<Vec<u8>> {
    let features = protocol::FEATURES | 1 << 32 | 1 << 28 | 1 << 13 | 1 << 14 | 1 << 9;
    let region = longs(&[GUEST, MEMORY, USER, 0]);
    let account = |s: &mut Vec<u8>| {
        let description = [longs(&[0x1000, 0xe000]), vec![1, 0, 16, 0, 0, 0, 0, 0]].concat();
        s.extend(message(request::SET_INFLIGHT_FD, 1, &description));
    };
    let machine = |with_account: bool, kind: u32, data: u16| {
        let mut s = message(request::SET_PROTOCOL_FEATURES, 0, &longs(&[protocol::OFFERED]));
        s.extend(message(request::SET_FEATURES, 0, &longs(&[features])));
        s.extend(message(request::SET_MEM_TABLE, 1, &[words(&[1, 0]), region.clone()].concat()));
        if with_account {
            account(&mut s);
        }
        s.extend(message(request::SET_VRING_NUM, 0, &words(&[0, 16])));
        s.extend(message(request::SET_VRING_BASE, 0, &words(&[0, 0])));
        let rings = [words(&[0, 0]), longs(&[USER, USER + 0x2000, USER + 0x1000, 0])].concat();
        s.extend(message(request::SET_VRING_ADDR, 0, &rings));
        s.extend(message(request::SET_VRING_KICK, 1, &longs(&[0])));
        s.extend(message(request::SET_VRING_CALL, 0, &longs(&[0x100])));
        s.extend(message(request::SET_VRING_ENABLE, 0, &words(&[0, 1])));
        s.extend(write(0x3000, &words(&[kind, 0, 1, 0])));
        s.extend(write(0x3010, &[words(&[4, 0, 2, 0]), vec![1; 16]].concat()));
        s.extend(descriptor(0, 0x3000, 16, 1));
        s.extend(descriptor(1, 0x3010, if data == 0 { 16 } else { 512 }, data | 1));
        s.extend(descriptor(2, 0x4000, 1, 2));
        s.extend(write(0x1000, &[0, 0, 1, 0, 0, 0]));
        s.extend([NOTIFY, 0]);
        s.extend(message(request::GET_VRING_BASE, 0, &words(&[0, 0])));
        s
    };
    let questions = [
        message(request::GET_FEATURES, 0, &[]),
        message(request::GET_PROTOCOL_FEATURES, 0, &[]),
        message(request::GET_QUEUE_NUM, 0, &[]),
        message(request::GET_MAX_MEM_SLOTS, 0, &[]),
        message(request::GET_CONFIG, 0, &[words(&[0, 60, 0]), vec![0; 60]].concat()),
        message(request::SET_CONFIG, 0, &[words(&[32, 1, 0]), vec![1]].concat()),
        message(request::GET_INFLIGHT_FD, 0, &[longs(&[0, 0]), vec![2, 0, 16, 0]].concat()),
        message(request::ADD_MEM_REG, 1, &[longs(&[0]), region.clone()].concat()),
        message(request::REM_MEM_REG, 0, &[longs(&[0]), region.clone()].concat()),
        message(request::RESET_DEVICE, 0, &[]),
    ];
    vec![
        machine(false, 0, 2),
        machine(true, 1, 0),
        machine(true, 4, 0),
        machine(false, 13, 0),
        questions.concat(),
    ]
}
