//! Back ends with front ends that remember what they got.

use crate::*;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

/// A front end that takes at most `room` bytes at a time, and passes on what it gets.
struct Front {
    room: Mutex<usize>,
    got: Sender<Vec<u8>>,
    events: Sender<Event>,
}

impl Sink for Front {
    fn receive(&self, bytes: &[u8]) -> usize {
        let mut room = self.room.lock().unwrap();
        let taken = bytes.len().min(*room);
        *room -= taken;
        if taken > 0 {
            self.got.send(bytes[..taken].to_vec()).unwrap();
        }
        taken
    }

    fn event(&self, event: Event) {
        let _ = self.events.send(event);
    }
}

struct Attached {
    port: Port,
    front: Arc<Front>,
    got: Receiver<Vec<u8>>,
    events: Receiver<Event>,
    _sink: Arc<dyn Sink>,
}

fn attach(chardevs: &Chardevs, id: &str, room: usize) -> Attached {
    let (got_tx, got) = channel();
    let (event_tx, events) = channel();
    let front = Arc::new(Front { room: Mutex::new(room), got: got_tx, events: event_tx });
    let sink: Arc<dyn Sink> = front.clone();
    let port = chardevs.port(id).unwrap();
    port.attach(&sink);
    Attached { port, front, got, events, _sink: sink }
}

impl Attached {
    /// Waits until `count` bytes have come.
    fn receive(&self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < count {
            bytes.extend(self.got.recv().unwrap());
        }
        bytes
    }

    fn give_room(&self, room: usize) {
        *self.front.room.lock().unwrap() = room;
        self.port.accept_input();
    }
}

fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("chardev-test-{}-{name}", std::process::id()))
}

fn open(config: &Config) -> Chardevs {
    let chardevs = Chardevs::start(1, |_| {}).unwrap();
    chardevs.open(config, &|_| {}).unwrap();
    chardevs
}

fn server(path: &std::path::Path, wait: bool) -> Backend {
    Backend::Socket(Socket {
        address: SocketAddress::Unix { path: path.display().to_string(), is_abstract: false },
        server: true,
        wait,
        telnet: false,
        nodelay: false,
        reconnect_ms: 0,
    })
}

#[test]
fn null_swallows_and_a_ring_keeps_the_newest() {
    let chardevs = open(&Config::new("n", Backend::Null));
    chardevs.open(&Config::new("r", Backend::Ringbuf { size: 4 }), &|_| {}).unwrap();
    assert_eq!(chardevs.port("n").unwrap().write(b"abc"), 3);
    let ring = chardevs.port("r").unwrap();
    assert_eq!(ring.write(b"ab") + ring.write(b"cdef"), 6);
    assert_eq!(chardevs.read_ring("r", 3).unwrap(), b"cde");
    assert_eq!(chardevs.read_ring("r", 3).unwrap(), b"f");
    assert!(chardevs.read_ring("n", 3).is_none());
    assert!(chardevs.port("r").is_none(), "without mux there is one front end");
    assert!(chardevs.port("x").is_none());
    assert_eq!(chardevs.list()[1], ("n".into(), "null".into()));
}

#[test]
fn a_file_takes_output_and_gives_input() {
    let (out, input, log) = (scratch("out"), scratch("in"), scratch("log"));
    std::fs::write(&input, b"hello").unwrap();
    std::fs::write(&out, b"old").unwrap();
    let text = |path: &PathBuf| path.display().to_string();
    let backend = Backend::File { path: text(&out), input: Some(text(&input)), append: true };
    let config = Config { logfile: Some(text(&log)), ..Config::new("f", backend) };
    let chardevs = open(&config);
    let front = attach(&chardevs, "f", 3);
    assert_eq!(front.receive(3), b"hel");
    front.give_room(10);
    assert_eq!(front.receive(2), b"lo");
    assert_eq!(front.port.write(b"new"), 3);
    assert_eq!(std::fs::read(&out).unwrap(), b"oldnew");
    assert_eq!(std::fs::read(&log).unwrap(), b"new");
    let missing = Backend::File { path: "/nonexistent/x".into(), input: None, append: false };
    let error = chardevs.open(&Config::new("g", missing), &|_| {}).unwrap_err();
    assert_eq!(error.to_string(), "Could not open '/nonexistent/x': No such file or directory");
    for path in [out, input, log] {
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn a_socket_server_outlives_its_clients_and_holds_back_input() {
    let path = scratch("sock");
    let chardevs = open(&Config::new("s", server(&path, false)));
    let front = attach(&chardevs, "s", 1);
    assert_eq!(front.port.write(b"lost"), 4, "without a client output is swallowed");
    for _ in 0..2 {
        let mut client = UnixStream::connect(&path).unwrap();
        assert_eq!(front.events.recv().unwrap(), Event::Opened);
        front.give_room(1);
        client.write_all(b"abc").unwrap();
        assert_eq!(front.receive(1), b"a");
        front.give_room(5);
        assert_eq!(front.receive(2), b"bc");
        assert_eq!(front.port.write(b"xyz"), 3);
        let mut answer = [0; 3];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"xyz");
        drop(client);
        assert_eq!(front.events.recv().unwrap(), Event::Closed);
    }
    drop(chardevs);
    assert!(!path.exists());
}

#[test]
fn a_full_socket_pushes_back_and_says_when_there_is_room() {
    struct Waiter(Sender<()>, Sender<()>);
    impl Sink for Waiter {
        fn receive(&self, bytes: &[u8]) -> usize {
            bytes.len()
        }
        fn event(&self, _: Event) {
            let _ = self.0.send(());
        }
        fn writable(&self) {
            let _ = self.1.send(());
        }
    }
    let path = scratch("full");
    let chardevs = open(&Config::new("s", server(&path, false)));
    let ((opened_tx, opened), (tx, rx)) = (channel(), channel());
    let sink: Arc<dyn Sink> = Arc::new(Waiter(opened_tx, tx));
    let port = chardevs.port("s").unwrap();
    port.attach(&sink);
    let mut client = UnixStream::connect(&path).unwrap();
    opened.recv().unwrap();
    let block = vec![7; 1 << 16];
    let mut sent = 0;
    loop {
        let count = port.write(&block);
        sent += count;
        if count < block.len() {
            break;
        }
    }
    let mut read = 0;
    let mut buffer = vec![0; 1 << 16];
    while read < sent {
        read += client.read(&mut buffer).unwrap();
    }
    rx.recv().unwrap();
    assert_eq!(port.write(b"more"), 4);
}

#[test]
fn mux_switches_between_front_ends_and_reports_requests() {
    let path = scratch("mux");
    let (tx, requests) = channel();
    let chardevs = Chardevs::start(1, move |request| tx.send(request).unwrap()).unwrap();
    let config = Config { mux: true, ..Config::new("m", server(&path, false)) };
    chardevs.open(&config, &|_| {}).unwrap();
    let monitor = attach(&chardevs, "m", 100);
    let serial = attach(&chardevs, "m", 100);
    let mut client = UnixStream::connect(&path).unwrap();
    client.write_all(b"a\x01\x01b").unwrap();
    assert_eq!(serial.receive(3), b"a\x01b");
    client.write_all(b"\x01cinfo\x01c!").unwrap();
    assert_eq!(monitor.receive(4), b"info");
    assert_eq!(serial.receive(1), b"!");
    client.write_all(b"\x01b\x01h").unwrap();
    let events: Vec<Event> = serial.events.iter().take_while(|e| *e != Event::Break).collect();
    assert_eq!(events, [Event::FocusIn, Event::Opened, Event::FocusOut, Event::FocusIn]);
    let late = Front { room: Mutex::new(0), got: channel().0, events: channel().0 };
    chardevs.port("m").unwrap().attach_behind(&(Arc::new(late) as Arc<dyn Sink>));
    let mut help = [0; 29];
    client.read_exact(&mut help).unwrap();
    assert!(help.starts_with(b"\n\rC-a h    print this help"));
    client.write_all(b"\x01s\x01x").unwrap();
    assert_eq!(requests.recv().unwrap(), Request::SaveDisks);
    assert_eq!(requests.recv().unwrap(), Request::Quit);
}

#[test]
fn a_pseudo_terminal_opens_when_somebody_does() {
    let chardevs = Chardevs::start(1, |_| {}).unwrap();
    let said = Mutex::new(String::new());
    let config = Config::new("p", Backend::Pty { link: None });
    chardevs.open(&config, &|line| said.lock().unwrap().push_str(line)).unwrap();
    let said = said.into_inner().unwrap();
    let name = said.strip_prefix("char device redirected to ").unwrap();
    let name = name.strip_suffix(" (label p)").unwrap();
    let front = attach(&chardevs, "p", 100);
    let mut user = std::fs::OpenOptions::new().read(true).write(true).open(name).unwrap();
    assert_eq!(front.events.recv().unwrap(), Event::Opened);
    user.write_all(b"hi").unwrap();
    assert_eq!(front.receive(2), b"hi");
    assert_eq!(front.port.write(b"ho"), 2);
    let mut answer = [0; 2];
    user.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"ho");
    drop(user);
    assert_eq!(front.events.recv().unwrap(), Event::Closed);
}

#[test]
fn datagrams_go_both_ways() {
    let peer = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let remote = peer.local_addr().unwrap().to_string();
    let backend = Backend::Udp { remote, local: Some("127.0.0.1:0".into()) };
    let chardevs = open(&Config::new("u", backend));
    let front = attach(&chardevs, "u", 100);
    assert_eq!(front.port.write(b"out"), 3);
    let mut buffer = [0; 16];
    let (count, from) = peer.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..count], b"out");
    peer.send_to(b"", from).unwrap();
    peer.send_to(b"in", from).unwrap();
    assert_eq!(front.receive(2), b"in");
}
