//! Requests fail exactly where rules say, and stop where breakpoints are.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io;
use std::sync::Arc;

use filters::blkdebug::{Pretended, Rules};
use graph::{Event, Memory, Node, WriteFlags, ZeroFlags};

const DISK: usize = 1 << 20;

fn on_disk(rules: &str) -> Arc<dyn Node> {
    let disk = Arc::new(Memory::new(vec![0; DISK], false));
    filters::blkdebug(disk, "rules", Rules::parse(rules).unwrap(), Pretended::default()).unwrap()
}

fn read(node: &dyn Node, offset: u64, len: usize) -> io::Result<()> {
    node.read_at(offset, &mut vec![0; len])
}

fn write(node: &dyn Node, offset: u64, len: usize) -> io::Result<()> {
    node.write_at(offset, &vec![1; len], WriteFlags::default())
}

fn code(result: io::Result<()>) -> i32 {
    result.map_or_else(|e| e.raw_os_error().unwrap(), |()| 0)
}

#[test]
fn a_sector_fails_whoever_touches_it() {
    let node = on_disk("[inject-error]\nevent = \"none\"\nsector = \"4\"\nerrno = \"28\"\n");
    assert_eq!(code(read(&*node, 0, 512)), 0);
    assert_eq!(code(read(&*node, 1024, 1024)), 0, "it ends where the sector begins");
    assert_eq!(code(read(&*node, 1024, 1025)), 28);
    assert_eq!(code(write(&*node, 2048, 512)), 28);
    assert_eq!(code(node.write_zeroes(0, DISK as u64, ZeroFlags::default())), 28);
    assert_eq!(code(node.discard(2048, 512)), 28);
    assert_eq!(code(write(&*node, 2560, 512)), 0);
    assert_eq!(code(node.flush()), 0, "a flush touches no sector");
    assert!(node.block_status(0, DISK as u64).is_ok(), "asking is no request");
}

#[test]
fn an_event_puts_its_rules_in_force_once() {
    let node = on_disk("[inject-error]\nevent = \"read_aio\"\nonce = \"on\"\n");
    assert_eq!(code(read(&*node, 0, 512)), 0, "no event yet");
    node.event(Event::L2Load);
    assert_eq!(code(read(&*node, 0, 512)), 0, "another event");
    node.event(Event::ReadAio);
    assert_eq!(code(read(&*node, 0, 512)), 5);
    assert_eq!(code(read(&*node, 0, 512)), 0);
    node.event(Event::ReadAio);
    assert_eq!(code(read(&*node, 0, 512)), 0, "it is over");
    let node = on_disk("[inject-error]\nevent = \"read_aio\"\n");
    node.event(Event::ReadAio);
    assert_eq!(code(write(&*node, 0, 512)), 5, "whatever comes next");
}

#[test]
fn states_choose_among_rules() {
    let node = on_disk(
        "[set-state]\nevent = \"write_aio\"\nstate = \"1\"\nnew_state = \"2\"\n\n\
         [inject-error]\nevent = \"read_aio\"\nstate = \"2\"\niotype = \"read\"\n",
    );
    node.event(Event::ReadAio);
    assert_eq!(code(read(&*node, 0, 512)), 0);
    node.event(Event::WriteAio);
    node.event(Event::ReadAio);
    assert_eq!(code(write(&*node, 0, 512)), 0, "only reads fail");
    assert_eq!(code(read(&*node, 0, 512)), 5);
    assert_eq!(code(read(&*node, 0, 512)), 5, "until another rule is in force");
}

#[test]
fn a_failed_flush_is_tried_again() {
    let node =
        on_disk("[inject-error]\nevent = \"flush_to_disk\"\niotype = \"flush\"\nonce = \"on\"\n");
    node.event(Event::FlushToDisk);
    assert_eq!(code(node.flush()), 0, "nothing was written");
    assert_eq!(code(write(&*node, 0, 512)), 0);
    node.event(Event::FlushToDisk);
    assert_eq!(code(node.flush()), 5);
    node.event(Event::L1Update);
    assert_eq!(code(node.flush()), 0);
}

#[test]
fn limits_must_fit_each_other() {
    let with = |pretended| {
        let disk = Arc::new(Memory::new(vec![0; DISK], false));
        filters::blkdebug(disk, "", Rules::default(), pretended).map(|node| node.limits())
    };
    let limits = with(Pretended { align: 4096, ..Pretended::default() }).unwrap();
    assert_eq!(limits.request_alignment, 4096);
    for bad in [
        Pretended { align: 3, ..Pretended::default() },
        Pretended { align: 4096, max_transfer: 512, ..Pretended::default() },
        Pretended { max_discard: 512, opt_discard: 4096, ..Pretended::default() },
    ] {
        let text = with(bad).unwrap_err().to_string();
        assert!(text.starts_with("Cannot meet constraints with "), "{text}");
    }
}

#[test]
fn a_request_stops_at_a_breakpoint_and_goes_on() {
    let node = on_disk("");
    let stops = node.breakpoints().unwrap();
    stops.set(Event::Pwritev, "a");
    stops.set(Event::Pwritev, "b");
    let writer = Arc::clone(&node);
    let thread = std::thread::spawn(move || write(&*writer, 0, 512));
    stops.wait("b");
    assert!(stops.is_stopped("a"), "at all of them");
    let mut byte = [0];
    node.read_at(0, &mut byte).unwrap();
    assert_eq!(byte, [0], "others go on, and nothing is written yet");
    assert!(stops.resume("b") && !stops.resume("b"));
    assert!(!stops.remove("a"), "it has been hit");
    thread.join().unwrap().unwrap();
    node.read_at(0, &mut byte).unwrap();
    assert_eq!(byte, [1]);
    assert_eq!(code(write(&*node, 0, 512)), 0, "a breakpoint stops one request");
}

#[test]
fn nobody_stays_stopped_when_the_node_goes() {
    let node = on_disk("");
    let stops = node.breakpoints().unwrap();
    stops.set(Event::ReadAio, "a");
    assert!(stops.remove("a"));
    node.event(Event::ReadAio);
}
