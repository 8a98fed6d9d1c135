//! Futexes.

use super::int;
use super::time::{Seconds, Timeout};
use crate::errno::{Done, Errno};
use crate::host;
use crate::thread::Thread;

type Args = [u64; 6];

pub fn futex(thread: &mut Thread, args: &Args) -> Done {
    futex_with(thread, args, Seconds::Narrow)
}

pub fn futex_time64(thread: &mut Thread, args: &Args) -> Done {
    futex_with(thread, args, Seconds::Wide)
}

fn futex_with(thread: &mut Thread, args: &Args, seconds: Seconds) -> Done {
    let [word, operation, value, fourth, second, third] = *args;
    let space = &thread.process.space;
    let command = int(operation) & libc::FUTEX_CMD_MASK;
    let waits = [
        libc::FUTEX_WAIT,
        libc::FUTEX_WAIT_BITSET,
        libc::FUTEX_LOCK_PI,
        libc::FUTEX_LOCK_PI2,
        libc::FUTEX_WAIT_REQUEUE_PI,
    ];
    let two = [
        libc::FUTEX_REQUEUE,
        libc::FUTEX_CMP_REQUEUE,
        libc::FUTEX_WAKE_OP,
        libc::FUTEX_WAIT_REQUEUE_PI,
        libc::FUTEX_CMP_REQUEUE_PI,
    ];
    let word = space.host(word, 4)?;
    // Others may have anything in the register of the second word.
    let second = if two.contains(&command) { space.pointer(second, 4)? } else { 0 };
    // The fourth argument is a time for those that wait, a number for others.
    let waits = waits.contains(&command);
    let mut timeout = Timeout::read(thread, if waits { fourth } else { 0 }, seconds)?;
    let fourth = if waits { timeout.pointer() } else { fourth };
    thread.host(libc::SYS_futex, [word, operation, value, fourth, second, third])
}

/// `struct futex_waitv`.
type WaitV = [u64; 3];

pub fn futex_waitv(thread: &mut Thread, args: &Args) -> Done {
    const MOST: u64 = 128;
    let [list, count, flags, timeout, clock, _] = *args;
    if count == 0 || count > MOST {
        return Err(Errno::EINVAL);
    }
    let space = &thread.process.space;
    let mut waiters: Vec<WaitV> = space.read_list(list, count as usize)?;
    for waiter in &mut waiters {
        waiter[1] = space.host(waiter[1], 4)?;
    }
    let mut timeout = Timeout::read(thread, timeout, Seconds::Wide)?;
    let timeout = timeout.pointer();
    let at = waiters.as_ptr() as u64;
    thread.host(libc::SYS_futex_waitv, [at, count, flags, timeout, clock, 0])
}

/// The list is walked when the thread ends (see [`Thread::release_locks`]).
pub fn set_robust_list(thread: &mut Thread, args: &Args) -> Done {
    if args[1] != 3 * thread.process.abi.word() {
        return Err(Errno::EINVAL);
    }
    thread.robust = [args[0], args[1]];
    Ok(0)
}

pub fn get_robust_list(thread: &mut Thread, args: &Args) -> Done {
    let [tid, head, len, ..] = *args;
    if int(tid) != 0 && int(tid).cast_unsigned() != thread.tid {
        return Err(Errno::EPERM);
    }
    let [list, bytes] = thread.robust;
    write_word(thread, head, list)?;
    write_word(thread, len, bytes)?;
    Ok(0)
}

fn write_word(thread: &Thread, at: u64, value: u64) -> Result<(), Errno> {
    let space = &thread.process.space;
    if thread.process.abi.wide() { space.write(at, value) } else { space.write(at, value as u32) }
}

fn read_word(thread: &Thread, at: u64) -> Result<u64, Errno> {
    let space = &thread.process.space;
    Ok(match thread.process.abi.wide() {
        true => space.read(at)?,
        false => space.read::<u32>(at)?.into(),
    })
}

impl Thread {
    /// At the end of a thread: those who wait for it and for its locks are told.
    pub fn release_locks(&mut self) {
        if self.robust[0] != 0 {
            // What cannot be read ends the list, as in the kernel.
            let _ = self.walk_robust_list();
        }
        if self.clear_tid != 0 && !self.alone {
            let space = &self.process.space;
            if space.write(self.clear_tid, 0u32).is_ok() {
                self.wake(self.clear_tid, 1);
            }
        }
    }

    /// Wakes those who wait for a word, in whatever way they do.
    fn wake(&self, word: u64, count: u64) {
        if let Ok(at) = self.process.space.host(word, 4) {
            let _ = host!(SYS_futex, at, libc::FUTEX_WAKE, count, 0, 0, 0);
        }
    }

    /// Linux, `Documentation/locking/robust-futex-ABI.rst`.
    fn walk_robust_list(&self) -> Result<(), Errno> {
        const MOST: usize = 2048;
        const PRIORITY: u64 = 1;
        let word = self.process.abi.word();
        let head = self.robust[0];
        let offset = read_word(self, head + word)?;
        let pending = read_word(self, head + 2 * word)?;
        let mut entry = read_word(self, head)?;
        // The offset may be negative: sums are as wide as the program's words.
        let mask = if self.process.abi.wide() { u64::MAX } else { u32::MAX.into() };
        let lock_of = |entry: u64| entry.wrapping_add(offset) & mask;
        for _ in 0..MOST {
            if entry & !PRIORITY == head {
                break;
            }
            // The next one is read first: the lock may be taken and freed at once.
            let next = read_word(self, entry & !PRIORITY);
            if entry != pending {
                self.release(lock_of(entry & !PRIORITY))?;
            }
            entry = next?;
        }
        if pending & !PRIORITY != 0 {
            self.release(lock_of(pending & !PRIORITY))?;
        }
        Ok(())
    }

    /// Marks a lock of this thread as one whose owner died.
    fn release(&self, at: u64) -> Result<(), Errno> {
        const OWNER: u32 = 0x3fff_ffff;
        const DIED: u32 = 0x4000_0000;
        const WAITERS: u32 = 0x8000_0000;
        let space = &self.process.space;
        let value: u32 = space.read(at)?;
        if value & OWNER != self.tid {
            return Ok(());
        }
        // Only the owner writes while the lock is held, apart from the bit of those who wait.
        space.write(at, value & WAITERS | DIED)?;
        if value & WAITERS != 0 {
            self.wake(at, 1);
        }
        Ok(())
    }
}
