//! Sockets: messages, and options whose values have addresses or times in them.

use super::files::{Piece, open_pieces, pieces};
use super::time::{self, Seconds};
use super::{int, pass};
use crate::errno::{Done, Errno};
use crate::thread::Thread;

type Args = [u64; 6];

/// `struct msghdr` of the host.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Header {
    name: u64,
    name_len: u64,
    pieces: u64,
    piece_count: u64,
    control: u64,
    control_len: u64,
    flags: u64,
}

/// Most bytes of control messages.
const MAX_CONTROL: u64 = 1 << 20;

/// A message as the host takes it, and what it consists of.
struct Message {
    header: Header,
    pieces: Vec<Piece>,
    control: Vec<u64>,
}

/// Bytes of `struct msghdr`, and of `struct mmsghdr`.
fn header_len(thread: &Thread) -> (u64, u64) {
    if thread.process.abi.wide() { (56, 64) } else { (28, 32) }
}

/// Reads the words of a program's `struct msghdr`.
fn header(thread: &Thread, at: u64) -> Result<[u64; 7], Errno> {
    let space = &thread.process.space;
    match thread.process.abi.wide() {
        true => {
            let mut words: [u64; 7] = space.read(at)?;
            words[1] &= 0xffff_ffff;
            words[6] &= 0xffff_ffff;
            Ok(words)
        }
        false => Ok(space.read::<[u32; 7]>(at)?.map(u64::from)),
    }
}

impl Message {
    fn read(thread: &Thread, at: u64, sends: bool) -> Result<Self, Errno> {
        let [name, name_len, list, count, control, control_len, flags] = header(thread, at)?;
        let space = &thread.process.space;
        let pieces = pieces(thread, list, count).map_err(|error| match error {
            Errno::EINVAL => Errno(libc::EMSGSIZE),
            other => other,
        })?;
        if control_len > MAX_CONTROL {
            return Err(Errno(libc::ENOBUFS));
        }
        let wide = thread.process.abi.wide();
        let has_control = control != 0 && control_len != 0;
        // Headers of control messages are wider on the host than those of 32-bit programs.
        let room = if wide { control_len } else { 2 * control_len + 64 };
        let mut buffer = vec![0u64; if has_control { room.div_ceil(8) as usize } else { 0 }];
        let mut used = if has_control { room } else { 0 };
        if has_control && sends {
            let mut bytes = vec![0; control_len as usize];
            space.read_bytes(control, &mut bytes)?;
            let bytes = if wide { bytes } else { widened(&bytes) };
            used = bytes.len() as u64;
            buffer = words(&bytes);
        }
        let header = Header {
            name: space.pointer(name, name_len)?,
            name_len,
            pieces: 0,
            piece_count: pieces.len() as u64,
            control: 0,
            control_len: used,
            flags,
        };
        Ok(Self { header, pieces, control: buffer })
    }

    /// Address of the header, with addresses of its parts: the value must stay where it is.
    fn settle(&mut self) -> u64 {
        self.header.pieces = self.pieces.as_ptr() as u64;
        let empty = self.header.control_len == 0;
        self.header.control = if empty { 0 } else { self.control.as_mut_ptr() as u64 };
        &raw mut self.header as u64
    }

    /// Tells the program what was received.
    fn write_back(&self, thread: &Thread, at: u64) -> Result<(), Errno> {
        let [.., control, control_room, _] = header(thread, at)?;
        let space = &thread.process.space;
        let bytes: Vec<u8> = self.control.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let len = (self.header.control_len as usize).min(bytes.len());
        let wide = thread.process.abi.wide();
        let mut flags = self.header.flags as u32;
        let control_bytes = if wide { bytes[..len].to_vec() } else { narrowed(&bytes[..len]) };
        let fits = control_bytes.len().min(control_room as usize);
        if fits < control_bytes.len() {
            flags |= libc::MSG_CTRUNC as u32;
        }
        if control != 0 {
            space.write_bytes(control, &control_bytes[..fits])?;
        }
        let name_len = self.header.name_len as u32;
        if wide {
            space.write(at + 8, name_len)?;
            space.write(at + 40, fits as u64)?;
            space.write(at + 48, flags)
        } else {
            space.write(at + 4, name_len)?;
            space.write(at + 20, fits as u32)?;
            space.write(at + 24, flags)
        }
    }
}

fn words(bytes: &[u8]) -> Vec<u64> {
    let word = |chunk: &[u8]| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_ne_bytes(word)
    };
    bytes.chunks(8).map(word).collect()
}

/// Control messages of a 32-bit program with headers of 64 bits.
fn widened(mut bytes: &[u8]) -> Vec<u8> {
    let mut wide = Vec::new();
    while let Some(head) = bytes.first_chunk::<12>() {
        let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let Some(data) = bytes.get(12..len) else { break };
        wide.extend_from_slice(&(data.len() as u64 + 16).to_le_bytes());
        wide.extend_from_slice(&head[4..12]);
        wide.extend_from_slice(data);
        wide.resize(wide.len().next_multiple_of(8), 0);
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or(&[]);
    }
    wide
}

/// Control messages of the host with headers of 32 bits.
fn narrowed(mut bytes: &[u8]) -> Vec<u8> {
    let mut narrow = Vec::new();
    while let Some(head) = bytes.first_chunk::<16>() {
        let len = u64::from_le_bytes([
            head[0], head[1], head[2], head[3], head[4], head[5], head[6], head[7],
        ]);
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let Some(data) = bytes.get(16..len) else { break };
        narrow.extend_from_slice(&(data.len() as u32 + 12).to_le_bytes());
        narrow.extend_from_slice(&head[8..16]);
        narrow.extend_from_slice(data);
        narrow.resize(narrow.len().next_multiple_of(4), 0);
        bytes = bytes.get(len.next_multiple_of(8)..).unwrap_or(&[]);
    }
    narrow
}

pub fn sendmsg(thread: &mut Thread, args: &Args) -> Done {
    let mut message = Message::read(thread, args[1], true)?;
    let at = message.settle();
    thread.host(libc::SYS_sendmsg, [args[0], at, args[2], 0, 0, 0])
}

pub fn recvmsg(thread: &mut Thread, args: &Args) -> Done {
    let mut message = Message::read(thread, args[1], false)?;
    open_pieces(&thread.process.space, &message.pieces);
    let at = message.settle();
    let done = thread.host(libc::SYS_recvmsg, [args[0], at, args[2], 0, 0, 0])?;
    message.write_back(thread, args[1])?;
    Ok(done)
}

pub fn sendmmsg(thread: &mut Thread, args: &Args) -> Done {
    let (len, step) = header_len(thread);
    several(thread, args, |thread, n, fd, flags| {
        let at = args[1].wrapping_add(n * step);
        let done = sendmsg(thread, &[fd, at, flags, 0, 0, 0])?;
        thread.process.space.write(at + len, done as u32)?;
        Ok(flags)
    })
}

pub fn recvmmsg(thread: &mut Thread, args: &Args) -> Done {
    receive_several(thread, args, Seconds::Narrow)
}

pub fn recvmmsg_time64(thread: &mut Thread, args: &Args) -> Done {
    receive_several(thread, args, Seconds::Wide)
}

fn receive_several(thread: &mut Thread, args: &Args, seconds: Seconds) -> Done {
    let (len, step) = header_len(thread);
    let wait_for_one = libc::MSG_WAITFORONE as u64;
    let deadline = match args[4] {
        0 => None,
        at => {
            let [seconds, nanoseconds] = time::read(thread, at, seconds)?;
            let (Ok(seconds), Ok(nanoseconds @ 0..1_000_000_000)) =
                (u64::try_from(seconds), u32::try_from(nanoseconds))
            else {
                return Err(Errno::EINVAL);
            };
            let wait = std::time::Duration::new(seconds, nanoseconds);
            std::time::Instant::now().checked_add(wait)
        }
    };
    several(thread, args, |thread, n, fd, flags| {
        if n > 0 && deadline.is_some_and(|end| std::time::Instant::now() >= end) {
            return Err(Errno::EAGAIN);
        }
        let at = args[1].wrapping_add(n * step);
        let done = recvmsg(thread, &[fd, at, flags & !wait_for_one, 0, 0, 0])?;
        thread.process.space.write(at + len, done as u32)?;
        let more = if flags & wait_for_one != 0 { libc::MSG_DONTWAIT as u64 } else { 0 };
        Ok(flags | more)
    })
}

/// Sends or receives messages until one fails: how many it were, if any. `one` says with which flags
/// the next one goes on.
fn several(
    thread: &mut Thread,
    args: &Args,
    mut one: impl FnMut(&mut Thread, u64, u64, u64) -> Done,
) -> Done {
    const MOST: u64 = 1024;
    let [fd, _, count, mut flags, ..] = *args;
    for n in 0..count.min(MOST) {
        match one(thread, n, fd, flags) {
            Ok(next) => flags = next,
            Err(error) if n == 0 => return Err(error),
            Err(_) => return Ok(n),
        }
    }
    Ok(count.min(MOST))
}

/// Options of the socket level whose value is a time, in words of the program.
const TIMES: [i32; 2] = [libc::SO_RCVTIMEO, libc::SO_SNDTIMEO];
/// The same with 64-bit times, as new 32-bit programs ask for them.
const WIDE_TIMES: [i32; 2] = [66, 67];

pub fn setsockopt(thread: &mut Thread, args: &Args) -> Done {
    let [fd, level, option, value, len, _] = *args;
    let narrow = !thread.process.abi.wide();
    let socket = int(level) == libc::SOL_SOCKET;
    if narrow && socket && int(option) == libc::SO_ATTACH_FILTER {
        let [count, program] = thread.process.space.read::<[u32; 2]>(value)?;
        let filter = [u64::from(count), thread.process.space.host(program.into(), 0)?];
        let at = filter.as_ptr() as u64;
        return thread.host(libc::SYS_setsockopt, [fd, level, option, at, 16, 0]);
    }
    if narrow && socket && TIMES.contains(&int(option)) && len == 8 {
        let [seconds, micros] = thread.process.space.read::<[i32; 2]>(value)?.map(i64::from);
        let time = [seconds, micros];
        let at = time.as_ptr() as u64;
        return thread.host(libc::SYS_setsockopt, [fd, level, option, at, 16, 0]);
    }
    let host = if narrow && socket { host_option(option) } else { option };
    pass(thread, libc::SYS_setsockopt, "fddpz", &[fd, level, host, value, len, 0])
}

/// The number on a 64-bit host of an option with 64-bit times.
fn host_option(option: u64) -> u64 {
    let at = WIDE_TIMES.iter().position(|wide| *wide == int(option));
    at.map_or(option, |n| TIMES[n] as u64)
}

pub fn getsockopt(thread: &mut Thread, args: &Args) -> Done {
    let [fd, level, option, value, len, _] = *args;
    let narrow = !thread.process.abi.wide();
    let socket = int(level) == libc::SOL_SOCKET;
    if narrow && socket && TIMES.contains(&int(option)) {
        let mut time = [0i64; 2];
        let mut size = 16u32;
        let host = [fd, level, option, time.as_mut_ptr() as u64, &raw mut size as u64, 0];
        thread.host(libc::SYS_getsockopt, host)?;
        thread.process.space.write(value, time.map(|part| part as i32))?;
        thread.process.space.write(len, 8u32)?;
        return Ok(0);
    }
    let host = if narrow && socket { host_option(option) } else { option };
    pass(thread, libc::SYS_getsockopt, "fddww", &[fd, level, host, value, len, 0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_messages_keep_their_contents_in_both_widths() {
        let mut narrow = Vec::new();
        narrow.extend_from_slice(&16u32.to_le_bytes());
        narrow.extend_from_slice(&1u32.to_le_bytes());
        narrow.extend_from_slice(&1u32.to_le_bytes());
        narrow.extend_from_slice(&7u32.to_le_bytes());
        let wide = widened(&narrow);
        assert_eq!(wide.len(), 24);
        assert_eq!(wide[..8], 20u64.to_le_bytes());
        assert_eq!(narrowed(&wide), narrow);
        assert!(widened(&[1, 2, 3]).is_empty());
        let lying = u32::MAX.to_le_bytes();
        assert!(widened(&[lying, lying, lying].concat()).is_empty());
    }
}
