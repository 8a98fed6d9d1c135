//! Linux AIO (io_setup(2), io_submit(2), io_getevents(2)); asynchronous for direct I/O only.
#![expect(unsafe_code, reason = "system calls without a wrapper, which are given addresses")]

use std::io;
use std::os::fd::RawFd;
use std::ptr;

use super::{POLL_IN, Transfer, WOKEN};

/// `IOCB_CMD_*` of linux/aio_abi.h.
const READ: u16 = 0;
const WRITE: u16 = 1;
const POLL: u16 = 5;

/// Most events taken at a time.
const EVENTS: usize = 64;

/// `struct io_event` of linux/aio_abi.h.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Event {
    data: u64,
    object: u64,
    result: i64,
    result2: i64,
}

/// A context of one thread.
pub(super) struct Native {
    context: libc::c_ulong,
    /// What the kernel was not told yet.
    ready: Vec<libc::iocb>,
}

impl Native {
    /// A context with room for `depth` transfers.
    ///
    /// # Errors
    /// As io_setup(2): `WouldBlock` when `/proc/sys/fs/aio-max-nr` is reached.
    pub fn new(depth: u32) -> io::Result<Self> {
        let mut context: libc::c_ulong = 0;
        // SAFETY: the kernel writes one number to `context`, which is zero as it asks.
        let made = unsafe { libc::syscall(libc::SYS_io_setup, depth, &raw mut context) };
        if made == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { context, ready: Vec::new() })
    }

    /// The memory stays valid, and nobody else's, until the token comes back.
    pub fn push(&mut self, transfer: &Transfer) {
        let opcode = if transfer.write { WRITE } else { READ };
        let mut block = block(transfer.token, opcode, transfer.fd);
        block.aio_buf = transfer.address.expose_provenance() as u64;
        block.aio_nbytes = u64::from(transfer.len);
        // An offset beyond the sign is refused by the kernel.
        block.aio_offset = transfer.offset as i64;
        self.ready.push(block);
    }

    /// Watches a descriptor for input, once.
    pub fn push_poll(&mut self, fd: RawFd) {
        let mut block = block(WOKEN, POLL, fd);
        block.aio_buf = u64::from(POLL_IN);
        self.ready.push(block);
    }

    /// Hands over what is ready and, if `wait`, waits for one event.
    ///
    /// # Errors
    /// As io_getevents(2).
    pub fn enter(&mut self, wait: bool, finished: &mut Vec<(u64, i32)>) -> io::Result<()> {
        self.submit(finished)?;
        let least = i64::from(wait && finished.is_empty());
        loop {
            let mut events = [Event::default(); EVENTS];
            // SAFETY: the context is ours; the kernel writes at most as many events as there is room for,
            // and a null timeout waits without end.
            let n = unsafe {
                libc::syscall(
                    libc::SYS_io_getevents,
                    self.context,
                    if finished.is_empty() { least } else { 0 },
                    EVENTS as i64,
                    events.as_mut_ptr(),
                    ptr::null_mut::<libc::timespec>(),
                )
            };
            let n = usize::try_from(n).map_err(|_| io::Error::last_os_error())?;
            // An error is a small negative number, a length below 2^30.
            finished.extend(events.iter().take(n).map(|e| (e.data, e.result as i32)));
            if n < EVENTS {
                return Ok(());
            }
        }
    }

    fn submit(&mut self, finished: &mut Vec<(u64, i32)>) -> io::Result<()> {
        let mut told = 0;
        while told < self.ready.len() {
            let mut list: Vec<*mut libc::iocb> =
                self.ready[told..].iter_mut().map(ptr::from_mut).collect();
            // SAFETY: the list and its blocks are valid during the call, which copies them; `Ring` keeps
            // the memory of a transfer where it is until its event, and its file open.
            let n = unsafe {
                libc::syscall(
                    libc::SYS_io_submit,
                    self.context,
                    list.len() as libc::c_long,
                    list.as_mut_ptr(),
                )
            };
            match usize::try_from(n) {
                Ok(n) if n > 0 => told += n,
                _ => {
                    let error = io::Error::last_os_error();
                    if error.kind() == io::ErrorKind::Interrupted {
                        continue;
                    }
                    // What the kernel says is about the first one.
                    let errno = error.raw_os_error().unwrap_or(libc::EIO);
                    finished.push((self.ready[told].aio_data, -errno));
                    told += 1;
                }
            }
        }
        self.ready.clear();
        Ok(())
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        // SAFETY: the context is ours, and gone afterwards; the call waits for what is in flight.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.context) };
    }
}

fn block(token: u64, opcode: u16, fd: RawFd) -> libc::iocb {
    // SAFETY: a block of numbers, for all of which zero is a value.
    let mut block: libc::iocb = unsafe { std::mem::zeroed() };
    block.aio_data = token;
    block.aio_lio_opcode = opcode;
    // Descriptors are not negative.
    block.aio_fildes = fd as u32;
    block
}
