//! Requests of a queue to a client: all of them in flight together, through one thread.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use graph::{
    Completion, Disk, DiskOptions, Executor, Memory, Node, Op, Plain, Queue, Request, WriteFlags,
};
use nbd::{Address, Client, Export, Exports, Listener, Location, Options, serve};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SIZE: usize = 8 << 20;
/// Longer than what a socket holds.
const LONG: usize = 1 << 20;

fn socket(test: &str) -> Address {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("lane-{test}.sock"));
    let _ = std::fs::remove_file(&path);
    Address::Unix(path.display().to_string())
}

fn exports(node: &Arc<dyn Node>) -> Exports {
    Exports::new(vec![Export::new("", "", Arc::clone(node), true, false)])
}

fn open(address: &Address, options: &Options) -> Arc<Client> {
    let location = Location { address: address.clone(), export: String::new() };
    Arc::new(Client::open(&location, options).unwrap())
}

fn queue(client: &Arc<Client>) -> Queue {
    let node = Arc::clone(client) as Arc<dyn Node>;
    let disk = Disk::new(node, DiskOptions::default());
    Queue::new(Arc::new(disk), Executor::new("test", 4))
}

fn submit(queue: &Queue, offset: usize, op: Op) -> Receiver<Completion> {
    let (tell, told) = channel();
    queue.submit(Request { offset: offset as u64, op }, move |done| tell.send(done).unwrap());
    told
}

fn write(queue: &Queue, offset: usize, byte: u8, len: usize) -> Receiver<Completion> {
    submit(queue, offset, Op::Write(vec![byte; len], WriteFlags::default()))
}

fn read(queue: &Queue, offset: usize, len: usize) -> Receiver<Completion> {
    submit(queue, offset, Op::Read(vec![0xaa; len]))
}

fn expect(told: Receiver<Completion>, byte: u8, len: usize) {
    let done = told.recv().unwrap();
    done.result.unwrap();
    assert!(done.buf.len() == len && done.buf.iter().all(|b| *b == byte), "not {len} of {byte}");
}

#[test]
fn requests_of_a_queue_and_of_callers_share_a_connection() {
    let address = socket("shared");
    let memory = Arc::new(Memory::new(vec![0; SIZE], false));
    let node = Arc::clone(&memory) as Arc<dyn Node>;
    let listener = Listener::bind(&address).unwrap();
    let served = std::thread::spawn(move || serve(&exports(&node), listener.accept()?, None));
    let client = open(&address, &Options::default());
    assert!(Plain::find(&*client, 0, 512, true).is_some(), "nothing goes through the lane");
    let queue = queue(&client);
    // In both directions more than sockets hold: nobody may wait for room without listening.
    let written: Vec<_> = (0..4).map(|n| write(&queue, n * LONG, n as u8 + 1, LONG)).collect();
    let below: Vec<_> = (4..8).map(|n| read(&queue, n * LONG, LONG)).collect();
    std::thread::scope(|scope| {
        for caller in 0..4_usize {
            let client = &client;
            scope.spawn(move || {
                for round in 0..50 {
                    let (at, len) = ((7 * LONG + caller * 1000) as u64, 1000 + round);
                    client.read_at(at, &mut vec![1; len]).unwrap();
                    client.read_at(at, &mut vec![1; 100_000]).unwrap();
                    client.flush().unwrap();
                }
            });
        }
    });
    written.into_iter().zip(1..).for_each(|(told, byte)| expect(told, byte, LONG));
    below.into_iter().for_each(|told| expect(told, 0, LONG));
    let small: Vec<_> = (0..2000).map(|n| read(&queue, n * 2048, 512)).collect();
    for (n, told) in small.into_iter().enumerate() {
        expect(told, (n * 2048 / LONG) as u8 + 1, 512);
    }
    // Behind the end, and through the blocking way.
    assert!(read(&queue, SIZE - 512, 1024).recv().unwrap().result.is_err());
    client.read_at(0, &mut [0; 512]).unwrap();
    queue.drain();
    drop((queue, client));
    served.join().unwrap().unwrap();
    assert_eq!(memory.snapshot()[4 * LONG - 1], 4);
}

/// Requests in flight are sent again on the next connection, and callers that wait, too.
#[test]
fn what_was_in_flight_when_a_connection_broke_is_answered_by_the_next() {
    let address = socket("again");
    let listener = Listener::bind(&address).unwrap();
    let node = Arc::new(Memory::new(vec![9; SIZE], false)) as Arc<dyn Node>;
    let (tell, broken) = channel::<()>();
    let served = std::thread::spawn(move || {
        let first = listener.accept().unwrap();
        let (copy, exports) = (first.duplicate().unwrap(), exports(&node));
        std::thread::scope(|scope| {
            scope.spawn(|| serve(&exports, first, None));
            broken.recv().unwrap();
            copy.shut_down();
            serve(&exports, listener.accept().unwrap(), None).unwrap();
        });
    });
    let patient = Options { reconnect_delay: Duration::from_secs(60), ..Options::default() };
    let client = open(&address, &patient);
    let queue = queue(&client);
    let asked: Vec<_> = (0..200)
        .map(|n| {
            if n == 100 {
                tell.send(()).unwrap();
            }
            read(&queue, n * 4096, 4096)
        })
        .collect();
    client.read_at(0, &mut [0; 512]).unwrap();
    asked.into_iter().for_each(|told| expect(told, 9, 4096));
    queue.drain();
    drop((queue, client));
    served.join().unwrap();
}

#[test]
fn without_patience_all_in_flight_fails_when_the_connection_breaks() {
    let address = socket("fails");
    let listener = Listener::bind(&address).unwrap();
    let node = Arc::new(Memory::new(vec![9; SIZE], false)) as Arc<dyn Node>;
    let kept = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&kept);
    let served = std::thread::spawn(move || {
        let stream = listener.accept().unwrap();
        *keep.lock().unwrap() = Some(stream.duplicate().unwrap());
        let _ = serve(&exports(&node), stream, None);
    });
    let client = open(&address, &Options::default());
    let queue = queue(&client);
    expect(read(&queue, 0, 512), 9, 512);
    kept.lock().unwrap().take().unwrap().shut_down();
    served.join().unwrap();
    for n in 0..10 {
        assert!(read(&queue, n * 512, 512).recv().unwrap().result.is_err());
    }
    assert!(client.read_at(0, &mut [0; 512]).is_err());
}
