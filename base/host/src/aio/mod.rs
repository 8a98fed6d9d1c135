//! Reads and writes of files that the kernel carries out while their thread goes on:
//! io_uring (io_uring(7)) and Linux AIO (io_submit(2)), behind one interface.
//!
//! A [`Ring`] belongs to one thread at a time, which hands requests in and waits for them. It owns
//! their buffers until the kernel has done with them, also when it is dropped: then it waits.

mod native;
mod uring;
mod wake;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use native::Native;
use uring::Uring;
pub use wake::Wake;

/// Transfers that the kernel has at a time; more wait in the ring.
const DEPTH: u32 = 128;
/// Longest transfer the kernel takes at once, in bytes, and still a whole number of blocks.
const LONGEST: usize = 1 << 30;
/// The token of the wait for [`Wake`].
const WOKEN: u64 = u64::MAX;
/// Blocks of direct I/O, in bytes: a read that stops inside one has met the end of the file, and could not
/// go on from there.
const BLOCK: u64 = 4096;
/// Poll for input (`POLLIN`).
const POLL_IN: u32 = libc::POLLIN as u32;

/// An interface of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// Linux AIO.
    Native,
    /// io_uring.
    IoUring,
}

impl Interface {
    /// Whether the kernel lets this process have it.
    ///
    /// # Errors
    /// As the kernel refuses: `PermissionDenied` when it is forbidden, `Unsupported` when it is not there.
    pub fn check(self) -> io::Result<()> {
        Kernel::new(self, 1).map(drop)
    }
}

/// A part of a request: where the bytes `range` of its buffer are in a file.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The file.
    pub file: Arc<File>,
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// Where in the buffer.
    pub range: Range<usize>,
    /// The file is open for direct I/O: the piece begins and ends with a block.
    pub direct: bool,
}

/// A read or write of several pieces, in any order.
#[derive(Debug)]
pub struct Request {
    /// Given back with the answer.
    pub tag: u64,
    /// Whether the buffer goes to the files; else it is filled from there.
    pub write: bool,
    /// The bytes.
    pub buf: Vec<u8>,
    /// What of it is where.
    pub pieces: Vec<Piece>,
}

impl Request {
    /// Carries the request out by blocking calls.
    pub fn block(self) -> Done {
        let Self { tag, write, mut buf, pieces } = self;
        let each = |Piece { file, mut offset, mut range, direct }: Piece| {
            while !range.is_empty() {
                let bytes = buf.get_mut(range.clone()).ok_or(ErrorKind::InvalidInput)?;
                let moved =
                    if write { file.write_at(bytes, offset) } else { file.read_at(bytes, offset) };
                match moved {
                    Ok(0) if write => return Err(ErrorKind::WriteZero.into()),
                    Ok(n) => {
                        range.start += n;
                        offset += n as u64;
                        let ended = n == 0 || direct && !offset.is_multiple_of(BLOCK);
                        if !write && ended {
                            buf[range].fill(0);
                            return Ok(());
                        }
                    }
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    Err(e) => return Err(e),
                }
            }
            Ok(())
        };
        let result = pieces.into_iter().try_for_each(each);
        Done { tag, buf, result }
    }
}

/// The answer to a request.
#[derive(Debug)]
pub struct Done {
    /// That of the request.
    pub tag: u64,
    /// Its buffer; what a file does not have because it is shorter is zero.
    pub buf: Vec<u8>,
    /// How it went.
    pub result: io::Result<()>,
}

/// One transfer as the kernel is asked for it.
struct Transfer {
    token: u64,
    fd: RawFd,
    write: bool,
    address: *mut u8,
    len: u32,
    offset: u64,
}

/// What the kernel is asked for through either interface.
enum Kernel {
    Native(Native),
    IoUring(Box<Uring>),
}

impl Kernel {
    fn new(interface: Interface, depth: u32) -> io::Result<Self> {
        Ok(match interface {
            Interface::Native => Self::Native(Native::new(depth)?),
            Interface::IoUring => Self::IoUring(Box::new(Uring::new(depth)?)),
        })
    }

    fn push(&mut self, transfer: &Transfer) {
        match self {
            Self::Native(native) => native.push(transfer),
            Self::IoUring(uring) => uring.push(transfer),
        }
    }

    fn push_poll(&mut self, fd: RawFd) {
        match self {
            Self::Native(native) => native.push_poll(fd),
            Self::IoUring(uring) => uring.push_poll(fd),
        }
    }

    /// Hands everything over and, if `wait`, waits until something is finished. Pairs of tokens and
    /// results go to `finished`.
    fn enter(&mut self, wait: bool, finished: &mut Vec<(u64, i32)>) -> io::Result<()> {
        match self {
            Self::Native(native) => native.enter(wait, finished),
            Self::IoUring(uring) => uring.enter(wait, finished),
        }
    }
}

/// A piece that is not finished.
struct Part {
    file: Arc<File>,
    offset: u64,
    range: Range<usize>,
    direct: bool,
}

/// A request that is not finished.
struct Flight {
    tag: u64,
    write: bool,
    buf: Vec<u8>,
    parts: Vec<Part>,
    /// How many parts are not finished.
    left: usize,
    error: Option<io::Error>,
}

/// Requests in flight.
pub struct Ring {
    kernel: ManuallyDrop<Kernel>,
    flights: ManuallyDrop<Vec<Option<Flight>>>,
    free: Vec<u32>,
    /// Parts for which the kernel has no room yet, by flight and number.
    backlog: VecDeque<(u32, u32)>,
    /// Transfers that the kernel has.
    held: u32,
    flying: usize,
    wake: Arc<Wake>,
    /// Whether the kernel watches `wake`.
    watched: bool,
    finished: Vec<(u64, i32)>,
    /// Requests without any part.
    empty: Vec<Done>,
}

impl Ring {
    /// A ring for the calling thread.
    ///
    /// # Errors
    /// As [`Interface::check`].
    pub fn new(interface: Interface) -> io::Result<Self> {
        Ok(Self {
            // One more for the wait for a wake.
            kernel: ManuallyDrop::new(Kernel::new(interface, DEPTH + 1)?),
            flights: ManuallyDrop::default(),
            free: Vec::new(),
            backlog: VecDeque::new(),
            held: 0,
            flying: 0,
            wake: Arc::new(Wake::new()?),
            watched: false,
            finished: Vec::new(),
            empty: Vec::new(),
        })
    }

    /// What ends a wait.
    pub fn wake(&self) -> Arc<Wake> {
        Arc::clone(&self.wake)
    }

    /// Requests that were taken and not answered.
    pub fn in_flight(&self) -> usize {
        self.flying
    }

    /// Takes a request; the kernel hears of it with the next [`Ring::wait`].
    pub fn push(&mut self, request: Request) {
        let Request { tag, write, buf, pieces } = request;
        self.flying += 1;
        let len = buf.len();
        let inside = |p: &Piece| p.range.start <= p.range.end && p.range.end <= len;
        let bad = !pieces.iter().all(inside);
        let parts: Vec<Part> = pieces
            .into_iter()
            .filter(|piece| !piece.range.is_empty())
            .map(|Piece { file, offset, range, direct }| Part { file, offset, range, direct })
            .collect();
        if bad || parts.is_empty() {
            let result = if bad { Err(ErrorKind::InvalidInput.into()) } else { Ok(()) };
            self.empty.push(Done { tag, buf, result });
            return;
        }
        let count = parts.len() as u32;
        let flight = Flight { tag, write, buf, left: parts.len(), parts, error: None };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.flights[slot as usize] = Some(flight);
                slot
            }
            None => {
                self.flights.push(Some(flight));
                // Far below 2^32: each has memory of its own.
                (self.flights.len() - 1) as u32
            }
        };
        self.backlog.extend((0..count).map(|part| (slot, part)));
    }

    /// Hands requests to the kernel and waits until at least one is answered, or [`Wake`] says so, or
    /// nothing is in flight. The answers go to `done`.
    ///
    /// # Errors
    /// When the kernel refuses to go on with the ring itself; what is in flight then stays there.
    pub fn wait(&mut self, done: &mut Vec<Done>) -> io::Result<()> {
        let before = done.len();
        self.flying -= self.empty.len();
        done.append(&mut self.empty);
        loop {
            self.hand_over();
            if !self.watched && self.held > 0 {
                self.kernel.push_poll(self.wake.fd());
                self.watched = true;
            }
            let wait = done.len() == before && self.held > 0;
            let mut finished = std::mem::take(&mut self.finished);
            let entered = self.kernel.enter(wait, &mut finished);
            let mut woken = false;
            for (token, result) in finished.drain(..) {
                if token == WOKEN {
                    self.wake.clear();
                    (self.watched, woken) = (false, true);
                } else {
                    self.held -= 1;
                    self.finish(token, result, done);
                }
            }
            self.finished = finished;
            match entered {
                Err(e) if e.kind() != ErrorKind::Interrupted => return Err(e),
                _ => {}
            }
            let idle = self.held == 0 && self.backlog.is_empty();
            if woken || idle || done.len() > before {
                return Ok(());
            }
        }
    }

    /// Gives the kernel as much as it has room for.
    fn hand_over(&mut self) {
        while self.held < DEPTH
            && let Some((slot, number)) = self.backlog.pop_front()
        {
            let Some(Some(flight)) = self.flights.get_mut(slot as usize) else { continue };
            let Some(part) = flight.parts.get(number as usize) else { continue };
            let bytes = &mut flight.buf[part.range.clone()];
            let transfer = Transfer {
                token: u64::from(slot) << 32 | u64::from(number),
                fd: part.file.as_raw_fd(),
                write: flight.write,
                len: bytes.len().min(LONGEST) as u32,
                address: bytes.as_mut_ptr(),
                offset: part.offset,
            };
            // The memory stays with the flight, untouched, until the kernel gives the token back.
            self.kernel.push(&transfer);
            self.held += 1;
        }
    }

    /// The kernel has done with a transfer.
    fn finish(&mut self, token: u64, result: i32, done: &mut Vec<Done>) {
        let (slot, number) = ((token >> 32) as u32, token as u32);
        let Some(place) = self.flights.get_mut(slot as usize) else { return };
        let Some(flight) = place else { return };
        let Some(part) = flight.parts.get_mut(number as usize) else { return };
        let again = match result {
            n if n > 0 => {
                // Never more than was asked for.
                let n = (n as usize).min(part.range.len());
                part.range.start += n;
                part.offset += n as u64;
                let ended = !flight.write && part.direct && !part.offset.is_multiple_of(BLOCK);
                if ended {
                    flight.buf[part.range.clone()].fill(0);
                }
                !ended && !part.range.is_empty()
            }
            0 if flight.write => {
                flight.error = Some(ErrorKind::WriteZero.into());
                false
            }
            // The end of the file.
            0 => {
                flight.buf[part.range.clone()].fill(0);
                false
            }
            n if -n == libc::EINTR || -n == libc::EAGAIN => true,
            n => {
                flight.error.get_or_insert(io::Error::from_raw_os_error(-n));
                false
            }
        };
        if again {
            self.backlog.push_back((slot, number));
            return;
        }
        flight.left -= 1;
        if flight.left == 0
            && let Some(Flight { tag, buf, error, .. }) = place.take()
        {
            self.free.push(slot);
            self.flying -= 1;
            done.push(Done { tag, buf, result: error.map_or(Ok(()), Err) });
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.backlog.clear();
        let mut finished = Vec::new();
        while self.held > 0 {
            let entered = self.kernel.enter(true, &mut finished);
            let transfers = finished.drain(..).filter(|(token, _)| *token != WOKEN).count();
            self.held = self.held.saturating_sub(transfers as u32);
            match entered {
                Err(e) if e.kind() != ErrorKind::Interrupted => break,
                _ => {}
            }
        }
        // Memory that the kernel may still write to is never given to anybody else.
        if self.held == 0 {
            drop(std::mem::take(&mut *self.flights));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Interface; 2] = [Interface::Native, Interface::IoUring];

    fn file(name: &str, bytes: &[u8]) -> Arc<File> {
        let path = std::env::temp_dir().join(format!("host-aio-{name}-{}", std::process::id()));
        let mut options = std::fs::OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        Arc::new(file)
    }

    fn all(ring: &mut Ring) -> Vec<Done> {
        let mut done = Vec::new();
        while ring.in_flight() > 0 {
            ring.wait(&mut done).unwrap();
        }
        done.sort_by_key(|d| d.tag);
        done
    }

    fn piece(file: &Arc<File>, offset: u64, range: Range<usize>) -> Piece {
        Piece { file: Arc::clone(file), offset, range, direct: false }
    }

    #[test]
    fn pieces_go_where_they_belong() {
        for interface in BOTH {
            let mut ring = Ring::new(interface).unwrap();
            let (a, b) = (file("a", &[1; 4096]), file("b", &[2; 4096]));
            let pieces =
                vec![piece(&a, 10, 0..100), piece(&b, 0, 100..300), piece(&a, 4000, 300..500)];
            ring.push(Request { tag: 7, write: false, buf: vec![9; 600], pieces });
            let pieces = vec![piece(&b, 4096, 0..4), piece(&b, 5000, 4..8)];
            ring.push(Request { tag: 8, write: true, buf: b"headtail".to_vec(), pieces });
            let done = all(&mut ring);
            assert!(done.iter().all(|d| d.result.is_ok()), "{done:?}");
            let expected = [&[1; 100][..], &[2; 200], &[1; 96], &[0; 104], &[9; 100]].concat();
            assert_eq!((done[0].tag, &done[0].buf), (7, &expected), "{interface:?}");
            let mut written = [0; 1000];
            assert_eq!(b.read_at(&mut written, 4096).unwrap(), 908);
            assert_eq!((&written[..4], &written[904..908]), (&b"head"[..], &b"tail"[..]));
        }
    }

    #[test]
    fn more_requests_than_the_kernel_takes_at_once_all_finish() {
        for interface in BOTH {
            let mut ring = Ring::new(interface).unwrap();
            let one = file("many", &[]);
            for tag in 0..1000 {
                let pieces = (0..3)
                    .map(|n| piece(&one, tag * 12 + n * 4, n as usize * 4..n as usize * 4 + 4));
                let buf = [(tag as u32).to_le_bytes(); 3].concat();
                ring.push(Request { tag, write: true, buf, pieces: pieces.collect() });
            }
            assert_eq!(all(&mut ring).len(), 1000);
            let mut bytes = vec![0; 12000];
            one.read_exact_at(&mut bytes, 0).unwrap();
            let right = |(i, word): (usize, &[u8])| word == (i as u32 / 3).to_le_bytes();
            assert!(bytes.chunks(4).enumerate().all(right), "{interface:?}");
        }
    }

    #[test]
    fn errors_belong_to_their_request() {
        for interface in BOTH {
            let mut ring = Ring::new(interface).unwrap();
            let good = file("good", &[5; 512]);
            let bad = Arc::new(File::open("/dev/null").unwrap());
            ring.push(Request {
                tag: 0,
                write: true,
                buf: vec![0; 8],
                pieces: vec![piece(&bad, 0, 0..8)],
            });
            ring.push(Request {
                tag: 1,
                write: false,
                buf: vec![0; 8],
                pieces: vec![piece(&good, 0, 0..8)],
            });
            ring.push(Request {
                tag: 2,
                write: false,
                buf: vec![0; 8],
                pieces: vec![piece(&good, 0, 0..9)],
            });
            ring.push(Request { tag: 3, write: false, buf: vec![7; 8], pieces: Vec::new() });
            let done = all(&mut ring);
            assert_eq!(done[0].result.as_ref().unwrap_err().raw_os_error(), Some(libc::EBADF));
            assert_eq!((done[1].result.is_ok(), &done[1].buf), (true, &vec![5; 8]));
            assert_eq!(done[2].result.as_ref().unwrap_err().kind(), ErrorKind::InvalidInput);
            assert_eq!((done[3].result.is_ok(), &done[3].buf), (true, &vec![7; 8]));
        }
    }

    #[test]
    fn a_wake_ends_the_wait_of_another_thread() {
        for interface in BOTH {
            let (pipe, mut other) = io::pipe().unwrap();
            let pipe = Arc::new(File::from(std::os::fd::OwnedFd::from(pipe)));
            let mut ring = Ring::new(interface).unwrap();
            if interface == Interface::Native {
                // Linux AIO would read the pipe at once, in the submission.
                continue;
            }
            let wake = ring.wake();
            ring.push(Request {
                tag: 0,
                write: false,
                buf: vec![0; 1],
                pieces: vec![piece(&pipe, 0, 0..1)],
            });
            let waker = std::thread::spawn(move || wake.wake());
            let mut done = Vec::new();
            ring.wait(&mut done).unwrap();
            assert!(done.is_empty() && ring.in_flight() == 1);
            waker.join().unwrap();
            io::Write::write_all(&mut other, b"x").unwrap();
            ring.wait(&mut done).unwrap();
            assert_eq!(done[0].buf, b"x");
        }
    }
}
