//! A vhost-user front end with a driver for virtio-blk: what a virtual machine and its guest do.

use memory::Ram;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use std::io::{IoSlice, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vhost::{Header, flag, protocol, request};

/// How long something may take before the test fails.
const LIMIT: Duration = Duration::from_secs(60);

/// Memory: where the guest, the front end and the file have it.
pub const GUEST: u64 = 0x8000_0000;
pub const USER: u64 = 0x7f00_0000_0000;
pub const OFFSET: u64 = 0x2000;
pub const LEN: u64 = 8 << 20;

/// Entries of a queue.
pub const SIZE: u16 = 16;
/// Room for a queue's rings, and for the buffers of a request.
const QUEUE_ROOM: u64 = 0x1_0000;
const BUFFERS: u64 = 1 << 20;
const BUFFER_ROOM: u64 = 0x2_0000;

/// Types of requests, and feature bits.
pub const IN: u32 = 0;
pub const OUT: u32 = 1;
pub const FLUSH: u32 = 4;
pub const GET_ID: u32 = 8;
pub const DISCARD: u32 = 11;
pub const WRITE_ZEROES: u32 = 13;
pub const VERSION_1: u64 = 1 << 32;
pub const READ_ONLY: u64 = 1 << 5;

/// Bytes of numbers, one after the other.
pub fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// The same for long numbers.
pub fn longs(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Memory of a machine that outlives its connections.
pub struct Machine {
    pub ram: Arc<Ram>,
    pub file: OwnedFd,
}

impl Machine {
    pub fn new() -> Self {
        let file = memfd_create("machine", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, OFFSET + LEN).unwrap();
        Self { ram: Ram::shared("machine", &file, OFFSET + LEN).unwrap(), file }
    }

    fn put(&self, at: u64, bytes: &[u8]) {
        assert!(self.ram.write(OFFSET + at, bytes));
    }

    fn put16(&self, at: u64, value: u16) {
        assert!(self.ram.store_u16(OFFSET + at, value));
    }

    pub fn get16(&self, at: u64) -> u16 {
        self.ram.load_u16(OFFSET + at).unwrap()
    }

    /// Puts a request into the slot of this number: the data of an `OUT` and the like, or room for
    /// what is read. Its chain begins at the descriptor three times the slot.
    pub fn prepare(&self, queue: u16, slot: u16, kind: u32, sector: u64, data: &[u8], room: u32) {
        let buffer = BUFFERS + (u64::from(queue) * 8 + u64::from(slot)) * BUFFER_ROOM;
        let mut header = words(&[kind, 0]);
        header.extend(sector.to_le_bytes());
        self.put(buffer, &header);
        self.put(buffer + 16, data);
        let status = buffer + 16 + data.len().max(room as usize) as u64;
        self.put(status, &[0xff]);
        let first = slot * 3;
        let mut descriptors = vec![(buffer, 16, 0)];
        match (data.len() as u32, room) {
            (0, 0) => {}
            (0, room) => descriptors.push((buffer + 16, room, 2)),
            (len, _) => descriptors.push((buffer + 16, len, 0)),
        }
        descriptors.push((status, 1, 2));
        let last = descriptors.len() - 1;
        for (at, (address, len, flags)) in descriptors.into_iter().enumerate() {
            let (next, more) = (first + at as u16 + 1, u16::from(at != last));
            let mut entry = (GUEST + address).to_le_bytes().to_vec();
            entry.extend(u32::to_le_bytes(len));
            entry.extend(u16::to_le_bytes(flags | more));
            entry.extend(u16::to_le_bytes(next));
            self.put(u64::from(queue) * QUEUE_ROOM + u64::from(first + at as u16) * 16, &entry);
        }
        let avail = u64::from(queue) * QUEUE_ROOM + 0x4000;
        let index = self.get16(avail + 2);
        self.put16(avail + 4 + 2 * u64::from(index % SIZE), first);
        self.put16(avail + 2, index.wrapping_add(1));
    }

    /// Status and data of a request that came back.
    pub fn result(&self, queue: u16, slot: u16, len: usize) -> (u8, Vec<u8>) {
        let buffer = BUFFERS + (u64::from(queue) * 8 + u64::from(slot)) * BUFFER_ROOM;
        let mut bytes = vec![0; len + 1];
        assert!(self.ram.read(OFFSET + buffer + 16, &mut bytes));
        (bytes.pop().unwrap(), bytes)
    }

    /// Requests that were given back.
    pub fn used(&self, queue: u16) -> u16 {
        self.get16(u64::from(queue) * QUEUE_ROOM + 0x8000 + 2)
    }
}

/// A connection.
pub struct Front {
    socket: UnixStream,
    kicks: Vec<OwnedFd>,
    calls: Vec<OwnedFd>,
}

impl Front {
    /// Connects as soon as somebody listens.
    pub fn connect(path: &Path) -> Self {
        // Paths of sockets are short; the folder may be deep.
        let folder = std::fs::File::open(path.parent().unwrap()).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let short = format!("/proc/self/fd/{}/{name}", folder.as_raw_fd());
        let begun = Instant::now();
        let socket = loop {
            match UnixStream::connect(&short) {
                Ok(stream) => break stream,
                Err(error) => assert!(begun.elapsed() < LIMIT, "no socket: {error}"),
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        Self { socket, kicks: Vec::new(), calls: Vec::new() }
    }

    /// Sends a message as it is.
    pub fn send(&self, request: u32, flags: u32, payload: &[u8], fds: &[BorrowedFd<'_>]) {
        let header = Header { request, flags, len: payload.len() as u32 }.bytes();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(fds.is_empty() || control.push(SendAncillaryMessage::ScmRights(fds)));
        let parts = [IoSlice::new(&header), IoSlice::new(payload)];
        let sent = sendmsg(&self.socket, &parts, &mut control, SendFlags::NOSIGNAL).unwrap();
        assert_eq!(sent, header.len() + payload.len());
    }

    /// The next message: its request, payload and descriptors. `None` when the other side has left.
    pub fn receive(&mut self) -> Option<(u32, Vec<u8>, Vec<OwnedFd>)> {
        let mut header = [0; 12];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut header)];
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::WAITALL;
        match recvmsg(&self.socket, &mut parts, &mut control, flags) {
            Ok(got) if got.bytes == 12 => {}
            Ok(_) | Err(rustix::io::Errno::CONNRESET) => return None,
            Err(error) => panic!("{error}"),
        }
        let fds = control.drain().flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => fds.collect::<Vec<_>>(),
            _ => Vec::new(),
        });
        let fds = fds.collect();
        let header = Header::parse(header);
        assert_eq!(header.flags, flag::VERSION | flag::REPLY);
        let mut payload = vec![0; header.len as usize];
        self.socket.read_exact(&mut payload).unwrap();
        Some((header.request, payload, fds))
    }

    /// Asks for something that is answered.
    pub fn ask(&mut self, request: u32, payload: &[u8]) -> (Vec<u8>, Vec<OwnedFd>) {
        self.send(request, flag::VERSION, payload, &[]);
        let (answered, payload, fds) = self.receive().expect("an answer");
        assert_eq!(answered, request);
        (payload, fds)
    }

    /// Asks for a number.
    pub fn number(&mut self, request: u32) -> u64 {
        u64::from_le_bytes(self.ask(request, &[]).0.try_into().unwrap())
    }

    /// Says something, and waits until it was heard.
    pub fn say(&mut self, request: u32, payload: &[u8], fds: &[BorrowedFd<'_>]) {
        self.send(request, flag::VERSION | flag::NEED_REPLY, payload, fds);
        let answer = self.receive().map(|(request, payload, _)| (request, payload));
        assert_eq!(answer, Some((request, longs(&[0]))));
    }

    /// Agrees on all features that both know, and shows the memory.
    pub fn agree(&mut self, machine: &Machine) -> u64 {
        let features = self.number(request::GET_FEATURES);
        let wanted = features & !(1 << 26 | 1 << 29);
        let offered = self.number(request::GET_PROTOCOL_FEATURES);
        let agreed = offered
            & (protocol::MQ | protocol::REPLY_ACK | protocol::CONFIG | protocol::INFLIGHT_SHMFD);
        self.send(request::SET_PROTOCOL_FEATURES, flag::VERSION, &longs(&[agreed]), &[]);
        self.say(request::SET_OWNER, &[], &[]);
        self.say(request::SET_FEATURES, &longs(&[wanted]), &[]);
        let mut table = words(&[1, 0]);
        table.extend(longs(&[GUEST, LEN, USER, OFFSET]));
        self.say(request::SET_MEM_TABLE, &table, &[machine.file.as_fd()]);
        features
    }

    /// Starts the queues, the first from `base`.
    pub fn start(&mut self, queues: u16, base: u16) {
        for queue in 0..queues {
            let at = u32::from(queue);
            self.say(request::SET_VRING_NUM, &words(&[at, SIZE.into()]), &[]);
            let base = if queue == 0 { base } else { 0 };
            self.say(request::SET_VRING_BASE, &words(&[at, base.into()]), &[]);
            let rings = USER + u64::from(queue) * QUEUE_ROOM;
            let mut addresses = words(&[at, 0]);
            addresses.extend(longs(&[rings, rings + 0x8000, rings + 0x4000, 0]));
            self.say(request::SET_VRING_ADDR, &addresses, &[]);
            let [kick, call] = [(); 2].map(|()| eventfd(0, EventfdFlags::CLOEXEC).unwrap());
            let number = longs(&[queue.into()]);
            self.say(request::SET_VRING_KICK, &number, &[kick.as_fd()]);
            self.say(request::SET_VRING_CALL, &number, &[call.as_fd()]);
            self.say(request::SET_VRING_ENABLE, &words(&[at, 1]), &[]);
            self.kicks.truncate(queue.into());
            self.kicks.push(kick);
            self.calls.truncate(queue.into());
            self.calls.push(call);
        }
    }

    /// Stops a queue: its next index.
    pub fn stop(&mut self, queue: u16) -> u16 {
        let (answer, _) = self.ask(request::GET_VRING_BASE, &words(&[queue.into(), 0]));
        u16::from_le_bytes([answer[4], answer[5]])
    }

    pub fn kick(&self, queue: u16) {
        rustix::io::write(&self.kicks[usize::from(queue)], &1u64.to_ne_bytes()).unwrap();
    }

    /// Waits until a queue has given back `used` requests in all.
    pub fn wait(&self, machine: &Machine, queue: u16, used: u16) {
        let call = &self.calls[usize::from(queue)];
        while machine.used(queue) != used {
            let limit = Timespec { tv_sec: LIMIT.as_secs() as i64, tv_nsec: 0 };
            let ready = poll(&mut [PollFd::new(call, PollFlags::IN)], Some(&limit)).unwrap();
            assert_eq!(ready, 1, "no interrupt");
            rustix::io::read(call, &mut [0; 8]).unwrap();
        }
    }

    /// One request from begin to end: its status and what was read.
    pub fn request(
        &self,
        machine: &Machine,
        queue: u16,
        (kind, sector): (u32, u64),
        data: &[u8],
        room: u32,
    ) -> (u8, Vec<u8>) {
        let used = machine.used(queue);
        machine.prepare(queue, 0, kind, sector, data, room);
        self.kick(queue);
        self.wait(machine, queue, used.wrapping_add(1));
        machine.result(queue, 0, data.len().max(room as usize)).clone()
    }
}
