//! io_uring: transfers through rings of memory shared with the kernel.
#![expect(unsafe_code, reason = "the kernel is given addresses")]

use std::io;
use std::os::fd::RawFd;

use io_uring::squeue::Entry;
use io_uring::{IoUring, opcode, types};

use super::{POLL_IN, Transfer, WOKEN};

/// A ring of one thread.
pub(super) struct Uring {
    ring: IoUring,
    /// What the kernel was not told yet.
    ready: Vec<Entry>,
}

impl Uring {
    /// A ring with room for `depth` transfers.
    ///
    /// # Errors
    /// As io_uring_setup(2).
    pub fn new(depth: u32) -> io::Result<Self> {
        // Completions are worked off when their thread waits for them, and interrupt nobody (Linux 6.1).
        let best = IoUring::builder()
            .setup_single_issuer()
            .setup_coop_taskrun()
            .setup_defer_taskrun()
            .build(depth);
        let ring = match best {
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => IoUring::new(depth)?,
            other => other?,
        };
        Ok(Self { ring, ready: Vec::new() })
    }

    /// The memory stays valid, and nobody else's, until the token comes back.
    pub fn push(&mut self, transfer: &Transfer) {
        let fd = types::Fd(transfer.fd);
        let (address, len, offset) = (transfer.address, transfer.len, transfer.offset);
        let entry = match transfer.write {
            true => opcode::Write::new(fd, address, len).offset(offset).build(),
            false => opcode::Read::new(fd, address, len).offset(offset).build(),
        };
        self.ready.push(entry.user_data(transfer.token));
    }

    /// Watches a descriptor for input, once.
    pub fn push_poll(&mut self, fd: RawFd) {
        self.ready.push(opcode::PollAdd::new(types::Fd(fd), POLL_IN).build().user_data(WOKEN));
    }

    /// Hands over what is ready and, if `wait`, waits for one completion.
    ///
    /// # Errors
    /// As io_uring_enter(2).
    pub fn enter(&mut self, wait: bool, finished: &mut Vec<(u64, i32)>) -> io::Result<()> {
        let mut told = 0;
        while told < self.ready.len() {
            let mut queue = self.ring.submission();
            for entry in &self.ready[told..] {
                // SAFETY: `Ring` keeps the memory of an entry where it is until its completion, and
                // its file open.
                if unsafe { queue.push(entry) }.is_err() {
                    break;
                }
                told += 1;
            }
            drop(queue);
            if told < self.ready.len() {
                self.ring.submit()?;
            }
        }
        self.ready.clear();
        let entered = self.ring.submit_and_wait(usize::from(wait));
        finished.extend(self.ring.completion().map(|e| (e.user_data(), e.result())));
        match entered {
            // The kernel has no room for more completions: those that are there make some.
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) && !finished.is_empty() => Ok(()),
            other => other.map(drop),
        }
    }
}
