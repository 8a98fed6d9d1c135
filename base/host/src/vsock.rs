//! Sockets between a machine and its host (vsock(7)), which neither the standard library nor rustix addresses.
#![expect(unsafe_code, reason = "addresses of this family have no safe wrapper")]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Callers that the kernel keeps until they are let in.
const BACKLOG: i32 = 128;

/// Connects to a port of the machine or host `cid`.
///
/// # Errors
/// Nobody is there, or the kernel knows no such sockets.
pub fn connect(cid: u32, port: u32) -> io::Result<OwnedFd> {
    let socket = new()?;
    let address = address(cid, port);
    let len = size_of::<libc::sockaddr_vm>() as libc::socklen_t;
    // SAFETY: the descriptor is open, the address is whole and `len` bytes long.
    checked(unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), len) })?;
    Ok(socket)
}

/// Listens at a port under the number `cid`, which must be one of this host or `u32::MAX` for any.
///
/// # Errors
/// The number is not one of this host, the port is in use, or the kernel knows no such sockets.
pub fn listen(cid: u32, port: u32) -> io::Result<OwnedFd> {
    let socket = new()?;
    let address = address(cid, port);
    let len = size_of::<libc::sockaddr_vm>() as libc::socklen_t;
    // SAFETY: as for `connect`.
    checked(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) })?;
    // SAFETY: the descriptor is open.
    checked(unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) })?;
    Ok(socket)
}

fn new() -> io::Result<OwnedFd> {
    // SAFETY: takes three numbers, gives a descriptor or -1.
    let fd = checked(unsafe {
        libc::socket(libc::AF_VSOCK, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0)
    })?;
    // SAFETY: the descriptor is new, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn address(cid: u32, port: u32) -> libc::sockaddr_vm {
    // SAFETY: an address of numbers alone, for which zeroes are good.
    let mut address: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
    address.svm_family = libc::AF_VSOCK as libc::sa_family_t;
    (address.svm_cid, address.svm_port) = (cid, port);
    address
}

fn checked(result: i32) -> io::Result<i32> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    /// A number that is nobody's: neither is there a port to bind, nor anybody to call.
    #[test]
    fn a_stranger_is_refused() {
        assert!(super::listen(77, 1).is_err());
        assert!(super::connect(u32::MAX, 1).is_err());
    }
}
