//! Requests in flight, accounted for in memory that outlives this process ("Inflight I/O tracking",
//! split rings): who comes after us does again what we may not have done.
//!
//! Order: a chain is noted before it is served. When it is given back it becomes the last batch, then
//! the used index moves, then its note is removed and the index noted. Who finds another index in the
//! ring than in the notes knows that the last batch was given back.

use crate::session::Violation;
use crate::wire::Fields;
use memory::Ram;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use virtio::Ledger;
use virtio::ring::MAX_CHAIN;

/// Bytes before a queue's descriptors, and of each of these.
const HEAD: u64 = 16;
const STATE: u64 = 16;
/// Offsets in a queue's part.
const VERSION: u64 = 8;
const DESC_NUM: u64 = 10;
const LAST_BATCH: u64 = 12;
const USED: u64 = 14;
/// Offsets in a descriptor's part.
const IN_FLIGHT: u64 = 0;
const NEXT: u64 = 6;
const COUNTER: u64 = 8;

/// Bytes of a queue's part, on cache lines of its own.
fn part(queue_size: u16) -> u64 {
    (HEAD + STATE * u64::from(queue_size)).next_multiple_of(64)
}

/// The memory for all queues.
pub(crate) struct Account {
    ram: Arc<Ram>,
    offset: u64,
    queues: u16,
    queue_size: u16,
}

impl Account {
    /// Bytes of the description in a message, which ends in padding.
    pub const DESCRIPTION: usize = 24;

    /// Reads what a message says of it: length, offset, queues and their size.
    fn described(fields: &mut Fields<'_>) -> (u64, u64, u16, u16) {
        (fields.u64(), fields.u64(), fields.u16(), fields.u16())
    }

    /// Makes the memory that a front end asks for: the description to answer with, and the file.
    pub fn make(fields: &mut Fields<'_>, most: usize) -> Result<(Vec<u8>, OwnedFd), Violation> {
        let (_, _, queues, queue_size) = Self::described(fields);
        if queues == 0 || usize::from(queues) > most || queue_size == 0 || queue_size > MAX_CHAIN {
            return Err(Violation::new("there are no such queues to account for"));
        }
        let len = part(queue_size) * u64::from(queues);
        let failed = |error: rustix::io::Errno| Violation(format!("no memory to account: {error}"));
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = memfd_create("vhost-inflight", flags).map_err(failed)?;
        ftruncate(&file, len).map_err(failed)?;
        let seals = SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        fcntl_add_seals(&file, seals).map_err(failed)?;
        let mut answer = Vec::with_capacity(Self::DESCRIPTION);
        answer.extend(len.to_le_bytes());
        answer.extend(0u64.to_le_bytes());
        answer.extend(queues.to_le_bytes());
        answer.extend(queue_size.to_le_bytes());
        answer.extend([0; 4]);
        Ok((answer, file))
    }

    /// Takes over the memory of an earlier life, or memory just made.
    pub fn adopt(fields: &mut Fields<'_>, most: usize, fd: &OwnedFd) -> Result<Self, Violation> {
        let (len, offset, queues, queue_size) = Self::described(fields);
        let need = part(queue_size) * u64::from(queues);
        let end = offset.checked_add(need);
        let (true, true, true, Some(end)) =
            (usize::from(queues) <= most, queue_size <= MAX_CHAIN, need <= len, end)
        else {
            return Err(Violation::new("memory to account in has a wrong size"));
        };
        let ram = Ram::shared("in flight", fd, end)
            .map_err(|error| Violation(format!("memory to account in: {error}")))?;
        Ok(Self { ram, offset, queues, queue_size })
    }

    /// The account of a queue of `size` entries whose used index is `used`. With it how many chains
    /// were taken and not given back.
    pub fn open(&self, queue: usize, size: u16, used: u16) -> Result<(Book, u16), Violation> {
        if queue >= usize::from(self.queues) || size > self.queue_size {
            return Err(Violation::new("a queue does not fit into the account"));
        }
        let at = self.offset + part(self.queue_size) * queue as u64;
        let mut book =
            Book { ram: Arc::clone(&self.ram), at, size, counter: 0, lost: VecDeque::new() };
        book.set16(VERSION, 1);
        book.set16(DESC_NUM, self.queue_size);
        book.end_batch(used);
        book.find_lost();
        let lost = book.lost.len() as u16;
        Ok((book, lost))
    }
}

/// The account of one queue.
pub(crate) struct Book {
    ram: Arc<Ram>,
    at: u64,
    size: u16,
    /// Number of the next chain.
    counter: u64,
    lost: VecDeque<u16>,
}

impl Book {
    fn get16(&self, offset: u64) -> u16 {
        self.ram.load_u16(self.at + offset).unwrap_or(0)
    }

    fn set16(&self, offset: u64, value: u16) {
        // Inside: the account was measured when it was adopted.
        let _ = self.ram.store_u16(self.at + offset, value);
    }

    fn state(&self, head: u16) -> u64 {
        self.at + HEAD + STATE * u64::from(head)
    }

    fn is_in_flight(&self, head: u16) -> bool {
        self.ram.load_u8(self.state(head) + IN_FLIGHT) == Some(1)
    }

    fn set_in_flight(&self, head: u16, on: bool) {
        let _ = self.ram.store_u8(self.state(head) + IN_FLIGHT, on.into());
    }

    /// Removes the notes of a batch that was given back, if its end was not noted.
    fn end_batch(&self, used: u16) {
        let mut head = self.get16(LAST_BATCH);
        for _ in 0..used.wrapping_sub(self.get16(USED)).min(self.size) {
            if head >= self.size {
                break;
            }
            self.set_in_flight(head, false);
            head = self.ram.load_u16(self.state(head) + NEXT).unwrap_or(u16::MAX);
        }
        self.set16(USED, used);
    }

    /// Lists what is in flight in the order in which it was taken.
    fn find_lost(&mut self) {
        let number = |head: u16| self.ram.load_u64(self.state(head) + COUNTER).unwrap_or(0);
        let mut lost: Vec<(u64, u16)> = (0..self.size)
            .filter(|head| self.is_in_flight(*head))
            .map(|head| (number(head), head))
            .collect();
        lost.sort_unstable();
        self.counter = lost.last().map_or(0, |(number, _)| number.wrapping_add(1));
        self.lost = lost.into_iter().map(|(_, head)| head).collect();
    }
}

impl Ledger for Book {
    fn lost(&mut self) -> Option<u16> {
        self.lost.pop_front()
    }

    fn taken(&mut self, head: u16) {
        if head < self.size {
            let _ = self.ram.store_u64(self.state(head) + COUNTER, self.counter);
            self.counter = self.counter.wrapping_add(1);
            self.set_in_flight(head, true);
        }
    }

    fn giving(&mut self, head: u16) {
        if head < self.size {
            let _ = self.ram.store_u16(self.state(head) + NEXT, self.get16(LAST_BATCH));
            self.set16(LAST_BATCH, head);
        }
    }

    fn given(&mut self, head: u16, used: u16) {
        if head < self.size {
            self.set_in_flight(head, false);
        }
        self.set16(USED, used);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(size: u16) -> Account {
        let mut asked = vec![0; 16];
        asked.extend([1, 0]);
        asked.extend(size.to_le_bytes());
        let (told, file) = Account::make(&mut Fields(&asked), 1).unwrap();
        Account::adopt(&mut Fields(&told), 1, &file).unwrap()
    }

    #[test]
    fn what_was_not_given_back_is_lost_in_order() {
        let account = account(8);
        let (mut book, lost) = account.open(0, 8, 5).unwrap();
        assert_eq!(lost, 0);
        for head in [3, 7, 1, 2] {
            book.taken(head);
        }
        book.giving(7);
        book.given(7, 6);
        drop(book);
        let (mut book, lost) = account.open(0, 8, 6).unwrap();
        assert_eq!(lost, 3);
        assert_eq!(
            [book.lost(), book.lost(), book.lost(), book.lost()],
            [Some(3), Some(1), Some(2), None]
        );
    }

    #[test]
    fn an_end_between_the_index_and_its_note_is_seen() {
        let account = account(4);
        let (mut book, _) = account.open(0, 4, 0).unwrap();
        book.taken(2);
        book.taken(0);
        book.giving(2);
        // The used index went to 1, and the process ended.
        let (_, lost) = account.open(0, 4, 1).unwrap();
        assert_eq!(lost, 1);
        // It ended before.
        let (mut book, _) = account.open(0, 4, 1).unwrap();
        book.giving(0);
        let (mut book, lost) = account.open(0, 4, 1).unwrap();
        assert_eq!((lost, book.lost()), (1, Some(0)));
    }

    #[test]
    fn sizes_are_checked() {
        let account = account(4);
        assert!(account.open(1, 4, 0).is_err());
        assert!(account.open(0, 8, 0).is_err());
        for (queues, size) in [(0u16, 4u16), (2, 4), (1, 0), (1, 2048)] {
            let mut asked = vec![0; 16];
            asked.extend(queues.to_le_bytes());
            asked.extend(size.to_le_bytes());
            assert!(Account::make(&mut Fields(&asked), 1).is_err(), "{queues} {size}");
        }
    }
}
