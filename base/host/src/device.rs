//! Block devices of the host: what ioctl(2) tells of them and does with them (linux/fs.h, linux/cdrom.h).
#![expect(unsafe_code, reason = "ioctl has no safe wrapper for these")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// `_IO(0x12, 94)`: whether the device is read-only.
const BLKROGET: libc::Ioctl = 0x125e;
/// `_IO(0x12, 119)`: forget a range.
const BLKDISCARD: libc::Ioctl = 0x1277;
/// What the drive has in it.
const CDROM_DRIVE_STATUS: libc::Ioctl = 0x5326;
/// The slot that is meant is the one in use.
const CDSL_CURRENT: libc::c_int = i32::MAX;

/// Whether the kernel refuses writes to the device, however it was opened.
///
/// # Errors
/// As the host reports; it is no block device.
pub fn is_read_only(device: &File) -> io::Result<bool> {
    let mut on: libc::c_int = 0;
    // SAFETY: the descriptor is open for the borrow; the kernel writes one int.
    done(unsafe { libc::ioctl(device.as_raw_fd(), BLKROGET, &raw mut on) })?;
    Ok(on != 0)
}

/// Forgets `len` bytes from `start` on, both whole blocks.
///
/// # Errors
/// `InvalidInput` for parts of blocks, `Unsupported` if the device cannot.
pub fn discard(device: &File, start: u64, len: u64) -> io::Result<()> {
    let range = [start, len];
    // SAFETY: the descriptor is open for the borrow; the kernel reads two numbers.
    done(unsafe { libc::ioctl(device.as_raw_fd(), BLKDISCARD, range.as_ptr()) }).map(drop)
}

/// Whether the device is a drive for CDs, with a disc or without.
pub fn is_cdrom(device: &File) -> bool {
    // SAFETY: the descriptor is open for the borrow; the call takes a number and gives one.
    done(unsafe { libc::ioctl(device.as_raw_fd(), CDROM_DRIVE_STATUS, CDSL_CURRENT) }).is_ok()
}

fn done(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
