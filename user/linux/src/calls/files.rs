//! Files: opening, closing, reading and writing, and what `stat` tells.

use super::names::{self, Place};
use super::{int, memory_file, pass};
use crate::errno::{Done, Errno};
use crate::host;
use crate::proc_files::Shown;
use crate::space::Space;
use crate::thread::Thread;
use std::ffi::CString;
use std::os::fd::AsRawFd;

/// Most pieces of a vectored call, as the kernel has it.
const MAX_PIECES: u64 = 1024;

type Args = [u64; 6];

// ---- vectored reading and writing ----

/// A piece of memory as the host's kernel takes it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// Host address.
    pub base: u64,
    /// Bytes.
    pub len: u64,
}

/// Reads a list of pieces.
///
/// # Errors
/// It cannot be read, or is too long.
pub fn pieces(thread: &Thread, at: u64, count: u64) -> Result<Vec<Piece>, Errno> {
    if count > MAX_PIECES {
        return Err(Errno::EINVAL);
    }
    let space = &thread.process.space;
    let wide = thread.process.abi.wide();
    let mut list = Vec::with_capacity(count as usize);
    for n in 0..count {
        let (base, len) = match wide {
            true => {
                let [base, len] = space.read::<[u64; 2]>(at.wrapping_add(n * 16))?;
                (base, len)
            }
            false => {
                let [base, len] = space.read::<[u32; 2]>(at.wrapping_add(n * 8))?;
                (base.into(), len.into())
            }
        };
        if len > i64::MAX as u64 {
            return Err(Errno::EINVAL);
        }
        let base = if len == 0 { 0 } else { space.host(base, len)? };
        list.push(Piece { base, len });
    }
    Ok(list)
}

/// Takes the engine's pages out of what the kernel is to write.
pub fn open_pieces(space: &Space, list: &[Piece]) -> bool {
    let open = |piece: &Piece| space.open_for_kernel(space.guest(piece.base), piece.len);
    list.iter().fold(false, |opened, piece| opened | open(piece))
}

/// A call whose second and third argument are a list of pieces.
pub fn vectored(thread: &mut Thread, number: i64, args: &Args) -> Done {
    let list = pieces(thread, args[1], args[2])?;
    let host = [args[0], list.as_ptr() as u64, args[2], args[3], args[4], args[5]];
    loop {
        let done = thread.host(number, host);
        if done != Err(Errno::EFAULT) || !open_pieces(&thread.process.space, &list) {
            return done;
        }
    }
}

/// The same with an offset, which 32-bit programs give in two halves.
fn vectored_at(thread: &mut Thread, number: i64, args: &Args) -> Done {
    let mut args = *args;
    if !thread.process.abi.wide() {
        (args[3], args[4]) = (halves(args[3], args[4]), 0);
    }
    vectored(thread, number, &args)
}

/// A number of 64 bits from its lower and upper half.
pub fn halves(low: u64, high: u64) -> u64 {
    low & 0xffff_ffff | high << 32
}

pub fn readv(thread: &mut Thread, args: &Args) -> Done {
    vectored(thread, libc::SYS_readv, args)
}

pub fn writev(thread: &mut Thread, args: &Args) -> Done {
    vectored(thread, libc::SYS_writev, args)
}

pub fn vmsplice(thread: &mut Thread, args: &Args) -> Done {
    vectored(thread, libc::SYS_vmsplice, args)
}

pub fn preadv(thread: &mut Thread, args: &Args) -> Done {
    vectored_at(thread, libc::SYS_preadv, args)
}

pub fn pwritev(thread: &mut Thread, args: &Args) -> Done {
    vectored_at(thread, libc::SYS_pwritev, args)
}

pub fn preadv2(thread: &mut Thread, args: &Args) -> Done {
    vectored_at(thread, libc::SYS_preadv2, args)
}

pub fn pwritev2(thread: &mut Thread, args: &Args) -> Done {
    vectored_at(thread, libc::SYS_pwritev2, args)
}

/// The arguments with the offset that follows `n` others in one piece.
fn with_offset(thread: &Thread, args: &Args, n: usize) -> Args {
    let mut args = *args;
    if !thread.process.abi.wide() {
        args[n] = halves(args[n], args[n + 1]);
        args.copy_within(n + 2.., n + 1);
    }
    args
}

pub fn pread64(thread: &mut Thread, args: &Args) -> Done {
    let args = with_offset(thread, args, 3);
    if let Some(done) = memory_file::read(thread, &args) {
        return done;
    }
    pass(thread, libc::SYS_pread64, "fwzu", &args)
}

pub fn pwrite64(thread: &mut Thread, args: &Args) -> Done {
    let args = with_offset(thread, args, 3);
    if let Some(done) = memory_file::write(thread, &args) {
        return done;
    }
    pass(thread, libc::SYS_pwrite64, "fpzu", &args)
}

pub fn truncate64(thread: &mut Thread, args: &Args) -> Done {
    let args = with_offset(thread, args, 1);
    pass(thread, libc::SYS_truncate, "su", &args)
}

pub fn ftruncate64(thread: &mut Thread, args: &Args) -> Done {
    let args = with_offset(thread, args, 1);
    pass(thread, libc::SYS_ftruncate, "fu", &args)
}

pub fn fallocate(thread: &mut Thread, args: &Args) -> Done {
    let args = with_offset(thread, &with_offset(thread, args, 2), 3);
    pass(thread, libc::SYS_fallocate, "fxuu", &args)
}

pub fn fadvise64_64(thread: &mut Thread, args: &Args) -> Done {
    let args = with_offset(thread, &with_offset(thread, args, 1), 2);
    pass(thread, libc::SYS_fadvise64, "fuud", &args)
}

pub fn llseek(thread: &mut Thread, args: &Args) -> Done {
    let [fd, high, low, result, whence, _] = *args;
    let at = host!(SYS_lseek, fd, halves(low, high), whence)?;
    thread.process.space.write(result, at)?;
    Ok(0)
}

// ---- opening and closing ----

pub fn open(thread: &mut Thread, args: &Args) -> Done {
    let [path, flags, mode, ..] = *args;
    let path = thread.process.space.read_path(path)?;
    open_path(thread, libc::AT_FDCWD, path, &Opening { flags, mode, resolve: 0 })
}

pub fn creat(thread: &mut Thread, args: &Args) -> Done {
    let flags = (libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC) as u64;
    open(thread, &[args[0], flags, args[1], 0, 0, 0])
}

pub fn openat(thread: &mut Thread, args: &Args) -> Done {
    let [dir, path, flags, mode, ..] = *args;
    let path = thread.process.space.read_path(path)?;
    open_path(thread, int(dir), path, &Opening { flags: flags & 0xffff_ffff, mode, resolve: 0 })
}

/// `struct open_how`.
#[repr(C)]
struct Opening {
    flags: u64,
    mode: u64,
    resolve: u64,
}

pub fn openat2(thread: &mut Thread, args: &Args) -> Done {
    let [dir, path, how, len, ..] = *args;
    let space = &thread.process.space;
    if len < 24 {
        return Err(Errno::EINVAL);
    }
    if len > 4096 {
        return Err(Errno::E2BIG);
    }
    let mut rest = vec![0; len as usize - 24];
    space.read_bytes(how + 24, &mut rest)?;
    if rest.iter().any(|byte| *byte != 0) {
        return Err(Errno::E2BIG);
    }
    let [flags, mode, resolve] = space.read::<[u64; 3]>(how)?;
    let path = space.read_path(path)?;
    let how = Opening { flags, mode, resolve };
    if resolve == 0 && flags & !0xffff_ffff == 0 {
        // Unknown flags are the kernel's to refuse, which this call does and `openat` does not.
        let place = names::place(thread, path)?;
        return match place {
            Place::Shown(shown) => open_shown(shown, flags),
            Place::Host(name) => open_strictly(thread, dir, &name, &how),
        };
    }
    let name = CString::new(path).map_err(|_| Errno::EINVAL)?;
    open_strictly(thread, dir, &name, &how)
}

fn open_strictly(thread: &Thread, dir: u64, name: &CString, how: &Opening) -> Done {
    let how: *const Opening = how;
    thread.host(libc::SYS_openat2, [dir, name.as_ptr() as u64, how as u64, 24, 0, 0])
}

fn open_path(thread: &Thread, dir: i32, path: Vec<u8>, how: &Opening) -> Done {
    memory_file::is_opened(thread, &path);
    match names::place(thread, path)? {
        Place::Shown(shown) => open_shown(shown, how.flags),
        Place::Host(name) => {
            let (dir, at) = (dir as u64, name.as_ptr() as u64);
            thread.host(libc::SYS_openat, [dir, at, how.flags, how.mode, 0, 0])
        }
    }
}

/// Opens a file that we make up.
fn open_shown(shown: Shown, flags: u64) -> Done {
    match shown {
        Shown::Link(target) => {
            let name = CString::new(target).map_err(|_| Errno::EINVAL)?;
            host!(SYS_openat, libc::AT_FDCWD, name.as_ptr(), flags, 0)
        }
        Shown::File(contents) => {
            let close = flags & libc::O_CLOEXEC as u64 != 0;
            let flags = if close { libc::MFD_CLOEXEC } else { 0 };
            let fd = host!(SYS_memfd_create, c"proc".as_ptr(), flags)?;
            let mut at = 0;
            while at < contents.len() {
                let rest = &contents[at..];
                at += host!(SYS_pwrite64, fd, rest.as_ptr(), rest.len(), at)? as usize;
            }
            Ok(fd)
        }
    }
}

/// Whether a descriptor is ours and not the program's.
fn ours(thread: &Thread, fd: u64) -> bool {
    let emulator = thread.process.emulator.as_ref().map(|file| file.as_raw_fd());
    emulator == Some(int(fd))
}

pub fn close(thread: &mut Thread, args: &Args) -> Done {
    if ours(thread, args[0]) {
        return Err(Errno::EBADF);
    }
    thread.host(libc::SYS_close, *args)
}

pub fn close_range(thread: &mut Thread, args: &Args) -> Done {
    let [first, last, flags, ..] = args.map(|arg| arg & 0xffff_ffff);
    let Some(kept) = thread.process.emulator.as_ref().map(|file| file.as_raw_fd() as u64) else {
        return host!(SYS_close_range, first, last, flags);
    };
    if !(first..=last).contains(&kept) {
        return host!(SYS_close_range, first, last, flags);
    }
    if first < kept {
        host!(SYS_close_range, first, kept - 1, flags)?;
    }
    if kept < last {
        host!(SYS_close_range, kept + 1, last, flags)?;
    }
    Ok(0)
}

pub fn dup2(thread: &mut Thread, args: &Args) -> Done {
    let [from, to, ..] = *args;
    if int(from) == int(to) {
        return host!(SYS_fcntl, from, libc::F_GETFD).map(|_| to);
    }
    dup3(thread, &[from, to, 0, 0, 0, 0])
}

pub fn dup3(thread: &mut Thread, args: &Args) -> Done {
    if ours(thread, args[0]) || ours(thread, args[1]) {
        return Err(Errno::EBADF);
    }
    thread.host(libc::SYS_dup3, *args)
}

pub fn fcntl(thread: &mut Thread, args: &Args) -> Done {
    /// Numbers that 32-bit programs use for locks with 64-bit offsets, and ours.
    const LOCKS: [(i32, i32); 3] = [(12, libc::F_GETLK), (13, libc::F_SETLK), (14, libc::F_SETLKW)];
    const F_SETOWN_EX: i32 = 15;
    const F_GETOWN_EX: i32 = 16;
    const F_HINTS: i32 = 1035;
    const F_LAST_HINT: i32 = 1038;
    let [fd, command, arg, ..] = *args;
    let command = int(command);
    let space = &thread.process.space;
    let number = LOCKS.iter().find(|(guest, _)| *guest == command).map_or(command, |(_, h)| *h);
    match number {
        libc::F_GETLK
        | libc::F_SETLK
        | libc::F_SETLKW
        | libc::F_OFD_GETLK
        | libc::F_OFD_SETLK
        | libc::F_OFD_SETLKW => {
            if !thread.process.abi.wide() {
                return narrow_lock(thread, fd, number, (command, arg));
            }
            let at = space.host(arg, 32)?;
            thread.host(libc::SYS_fcntl, [fd, number as u64, at, 0, 0, 0])
        }
        F_SETOWN_EX | F_GETOWN_EX | F_HINTS..=F_LAST_HINT => {
            // An owner, or a hint of how long data lives.
            let at = space.host(arg, 8)?;
            thread.host(libc::SYS_fcntl, [fd, number as u64, at, 0, 0, 0])
        }
        _ => {
            if ours(thread, fd) {
                return Err(Errno::EBADF);
            }
            thread.host(libc::SYS_fcntl, [fd, number as u64, arg, 0, 0, 0])
        }
    }
}

/// `struct flock` and `struct flock64` of 32-bit programs: type, whence, (padding), start, length,
/// process (Linux, `asm-generic/fcntl.h`).
fn narrow_lock(thread: &Thread, fd: u64, number: i32, (command, at): (i32, u64)) -> Done {
    let space = &thread.process.space;
    let old = command <= libc::F_SETLKW;
    let alignment = if old { 4 } else { thread.process.abi.long_alignment };
    let start = at + 4u64.next_multiple_of(alignment);
    let process = start + if old { 8 } else { 16 };
    let [kind, whence] = space.read::<[u16; 2]>(at)?.map(u64::from);
    let [from, len] = match old {
        true => space.read::<[i32; 2]>(start)?.map(|n| i64::from(n).cast_unsigned()),
        false => space.read(start)?,
    };
    let mut lock = [kind | whence << 16, from, len, space.read::<u32>(process)?.into()];
    thread.host(libc::SYS_fcntl, [fd, number as u64, lock.as_mut_ptr() as u64, 0, 0, 0])?;
    let [first, from, len, holder] = lock;
    space.write(at, [first as u16, (first >> 16) as u16])?;
    match old {
        true => space.write(start, [from as u32, len as u32])?,
        false => space.write(start, [from, len])?,
    }
    space.write(process, holder as u32)?;
    Ok(0)
}

// ---- what is known of files ----

/// `struct stat` of architectures without a history of their own, 64 bits.
fn write_stat(thread: &Thread, at: u64, stat: &libc::stat) -> Result<(), Errno> {
    let layout = thread.process.abi.stat;
    thread.process.space.write_bytes(at, &layout(stat))
}

fn host_stat(number: i64, thread: &Thread, args: Args) -> Result<libc::stat, Errno> {
    let mut stat = crate::layout::zeroed_stat();
    let mut args = args;
    let at = if number == libc::SYS_fstat { 1 } else { 2 };
    args[at] = &raw mut stat as u64;
    thread.host(number, args)?;
    Ok(stat)
}

pub fn fstat(thread: &mut Thread, args: &Args) -> Done {
    let stat = host_stat(libc::SYS_fstat, thread, *args)?;
    write_stat(thread, args[1], &stat)?;
    Ok(0)
}

pub fn newfstatat(thread: &mut Thread, args: &Args) -> Done {
    let [dir, path, at, flags, ..] = *args;
    let space = &thread.process.space;
    let path = if path == 0 { None } else { Some(space.read_path(path)?) };
    let name = match path {
        None => None,
        Some(path) => Some(real_name(thread, path, flags)?),
    };
    let name = name.as_ref().map_or(0, |name| name.as_ptr() as u64);
    let stat = host_stat(libc::SYS_newfstatat, thread, [dir, name, 0, flags, 0, 0])?;
    write_stat(thread, at, &stat)?;
    Ok(0)
}

/// The name on the host of what a path names.
fn real_name(thread: &Thread, path: Vec<u8>, flags: u64) -> Result<CString, Errno> {
    let itself = flags & libc::AT_SYMLINK_NOFOLLOW as u64 != 0;
    let name = match names::place(thread, path.clone())? {
        Place::Host(name) => return Ok(name),
        Place::Shown(Shown::Link(target)) if !itself => target,
        Place::Shown(_) => path,
    };
    CString::new(name).map_err(|_| Errno::EINVAL)
}

pub fn readlinkat(thread: &mut Thread, args: &Args) -> Done {
    let [dir, path, to, len, ..] = *args;
    let space = &thread.process.space;
    let path = space.read_path(path)?;
    if (len as i32) <= 0 {
        return Err(Errno::EINVAL);
    }
    let name = match names::place(thread, path.clone())? {
        Place::Shown(Shown::Link(target)) => {
            let len = target.len().min(len as usize);
            space.write_bytes(to, &target[..len])?;
            return Ok(len as u64);
        }
        Place::Host(name) => name,
        Place::Shown(Shown::File(_)) => CString::new(path).map_err(|_| Errno::EINVAL)?,
    };
    let host = [dir, name.as_ptr() as u64, space.pointer(to, len)?, len, 0, 0];
    thread.host(libc::SYS_readlinkat, host)
}

/// `statfs64` and `fstatfs64` of 32-bit programs.
fn narrow_statfs(thread: &mut Thread, number: i64, args: &Args) -> Done {
    let [what, len, at, ..] = *args;
    let mut about = crate::layout::zeroed_statfs();
    let to = &raw mut about as u64;
    if number == libc::SYS_fstatfs {
        thread.host(number, [what, to, 0, 0, 0, 0])?;
    } else {
        let path = thread.process.space.read_path(what)?;
        let name = real_name(thread, path, 0)?;
        thread.host(number, [name.as_ptr() as u64, to, 0, 0, 0, 0])?;
    }
    let image = crate::layout::narrow_statfs(&about);
    if len < image.len() as u64 {
        return Err(Errno::EINVAL);
    }
    thread.process.space.write_bytes(at, &image)?;
    Ok(0)
}

pub fn statfs64(thread: &mut Thread, args: &Args) -> Done {
    narrow_statfs(thread, libc::SYS_statfs, args)
}

pub fn fstatfs64(thread: &mut Thread, args: &Args) -> Done {
    narrow_statfs(thread, libc::SYS_fstatfs, args)
}
