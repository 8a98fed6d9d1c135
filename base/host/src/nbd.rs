//! The kernel's client of network block devices (`linux/nbd.h`): a device `/dev/nbdN` whose requests go
//! through a socket of this process.
#![expect(unsafe_code, reason = "ioctl has no safe wrapper for these")]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

const SET_SOCK: libc::Ioctl = 0xab00;
const SET_BLKSIZE: libc::Ioctl = 0xab01;
const DO_IT: libc::Ioctl = 0xab03;
const CLEAR_SOCK: libc::Ioctl = 0xab04;
const CLEAR_QUE: libc::Ioctl = 0xab05;
const SET_SIZE_BLOCKS: libc::Ioctl = 0xab07;
const DISCONNECT: libc::Ioctl = 0xab08;
const SET_FLAGS: libc::Ioctl = 0xab0a;
/// `BLKROSET` of linux/fs.h.
const BLKROSET: libc::Ioctl = 0x125d;

/// Bit of the flags of transmission: the server does not take writes.
const READ_ONLY: u16 = 1 << 1;

/// Lets the kernel's device use a socket on which transmission has begun.
///
/// # Errors
/// `InvalidInput` or `Unsupported` where the file is no such device, `ResourceBusy` where it is in use.
pub fn set_socket(device: &File, socket: impl AsFd) -> io::Result<()> {
    call(device, SET_SOCK, socket.as_fd().as_raw_fd() as libc::c_ulong)
}

/// Says what the device is like: `blocks` blocks of `block` bytes, and the flags of transmission.
///
/// # Errors
/// As the host reports.
pub fn set_shape(device: &File, block: u32, blocks: u64, flags: u16) -> io::Result<()> {
    let number = |n: u64| {
        libc::c_ulong::try_from(n).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))
    };
    call(device, SET_BLKSIZE, libc::c_ulong::from(block))?;
    call(device, SET_SIZE_BLOCKS, number(blocks)?)?;
    // Kernels before 2.6.38 have no flags.
    match call(device, SET_FLAGS, libc::c_ulong::from(flags)) {
        Err(e) if e.raw_os_error() == Some(libc::ENOTTY) => {}
        other => other?,
    }
    let read_only = libc::c_int::from(flags & READ_ONLY != 0);
    // SAFETY: the descriptor is open for the borrow; the kernel reads one int.
    done(unsafe { libc::ioctl(device.as_raw_fd(), BLKROSET, &raw const read_only) })
}

/// Serves the device: returns when it is disconnected.
///
/// # Errors
/// The connection broke.
pub fn run(device: &File) -> io::Result<()> {
    let served = call(device, DO_IT, 0);
    let _ = call(device, CLEAR_QUE, 0);
    let _ = call(device, CLEAR_SOCK, 0);
    match served {
        // Somebody disconnected it, as it should be.
        Err(e) if e.raw_os_error() == Some(libc::EPIPE) => Ok(()),
        other => other,
    }
}

/// Disconnects the device; succeeds whatever it is.
pub fn disconnect(device: &File) {
    for request in [CLEAR_QUE, DISCONNECT, CLEAR_SOCK] {
        // What is not connected, or is no such device, is disconnected.
        let _ = call(device, request, 0);
    }
}

fn call(device: &File, request: libc::Ioctl, argument: libc::c_ulong) -> io::Result<()> {
    // SAFETY: the descriptor is open for the borrow; these requests take a number, not an address.
    done(unsafe { libc::ioctl(device.as_raw_fd(), request, argument) })
}

fn done(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
