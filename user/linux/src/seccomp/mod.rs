//! Filters of system calls (seccomp(2)): the program's own, over its own numbers and architecture. The
//! host's would see our calls.
//!
//! Filters hold back calls, not programs that want to change our memory: they are as strong as the
//! emulator is.

pub mod bpf;

use crate::abi::{self, Call};
use crate::errno::{Done, Errno};
use crate::signal::Info;
use crate::sys;
use crate::thread::Thread;
use bpf::{DATA, Insn, Program};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a filter wants done (Linux, `linux/seccomp.h`).
pub mod action {
    #![allow(missing_docs, reason = "names of the header")]
    pub const KILL_PROCESS: u32 = 0x8000_0000;
    pub const KILL_THREAD: u32 = 0;
    pub const TRAP: u32 = 0x0003_0000;
    pub const ERRNO: u32 = 0x0005_0000;
    pub const USER_NOTIF: u32 = 0x7fc0_0000;
    pub const TRACE: u32 = 0x7ff0_0000;
    pub const LOG: u32 = 0x7ffc_0000;
    pub const ALLOW: u32 = 0x7fff_0000;
    /// Those that are served.
    pub const SERVED: [u32; 7] = [KILL_PROCESS, KILL_THREAD, TRAP, ERRNO, TRACE, LOG, ALLOW];
    /// The bits of the action; the others are data.
    pub const MASK: u32 = 0xffff_0000;
}

/// Instructions of all filters of a thread, and what each filter counts beside its own.
const MOST_ALL: usize = 32768;
const PENALTY: usize = 4;

/// What holds back a thread's calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Four calls are left.
    Strict,
    /// Programs decide, the newest first.
    Filter(Arc<Chain>),
}

/// Filters.
#[derive(Debug, PartialEq, Eq)]
pub struct Chain {
    program: Program,
    before: Option<Arc<Chain>>,
}

impl Chain {
    fn iter(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |chain| chain.before.as_deref())
    }

    /// What is to be done with a call: the strictest of all.
    fn decide(&self, data: &[u8; DATA]) -> u32 {
        let all = self.iter().map(|chain| chain.program.run(data));
        // Of equal ones the newest counts.
        let strength = |value: &u32| (value & action::MASK).cast_signed();
        all.min_by_key(strength).unwrap_or(action::KILL_PROCESS)
    }

    fn cost(&self) -> usize {
        self.iter().map(|chain| chain.program.len() + PENALTY).sum()
    }
}

/// What holds back the calls of a process's threads.
#[derive(Default)]
pub struct Filters {
    active: AtomicBool,
    threads: Mutex<HashMap<u32, Mode>>,
}

impl Filters {
    fn threads(&self) -> MutexGuard<'_, HashMap<u32, Mode>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, tid: u32) -> Option<Mode> {
        if !self.active.load(Ordering::Acquire) {
            return None;
        }
        self.threads().get(&tid).cloned()
    }

    fn set(&self, tid: u32, mode: Mode) {
        self.threads().insert(tid, mode);
        self.active.store(true, Ordering::Release);
    }

    /// A new thread, or the child of a process, is held back as its creator.
    pub fn inherit(&self, from: u32, to: u32) {
        if let Some(mode) = self.get(from) {
            self.set(to, mode);
        }
    }

    /// A thread has ended.
    pub fn forget(&self, tid: u32) {
        if self.active.load(Ordering::Acquire) {
            self.threads().remove(&tid);
        }
    }

    /// In the child of a fork there is this thread only.
    pub fn keep_only(&self, tid: u32) {
        if self.active.load(Ordering::Acquire) {
            self.threads().retain(|other, _| *other == tid);
        }
    }
}

/// Flags of `seccomp`.
mod flag {
    pub(super) const TSYNC: u64 = 1;
    pub(super) const LOG: u64 = 2;
    pub(super) const SPEC_ALLOW: u64 = 4;
    pub(super) const TSYNC_ESRCH: u64 = 16;
}

impl Thread {
    /// The mode as `PR_GET_SECCOMP` tells it.
    pub fn filter_mode(&self) -> u64 {
        match self.process.filters.get(self.tid) {
            None => 0,
            Some(Mode::Strict) => 1,
            Some(Mode::Filter(_)) => 2,
        }
    }

    /// Leaves four calls.
    ///
    /// # Errors
    /// EINVAL: there are filters.
    pub fn filter_strictly(&self) -> Done {
        match self.process.filters.get(self.tid) {
            Some(Mode::Filter(_)) => Err(Errno::EINVAL),
            _ => {
                self.process.filters.set(self.tid, Mode::Strict);
                Ok(0)
            }
        }
    }

    /// Adds the filter of a `struct sock_fprog` at an address.
    ///
    /// # Errors
    /// Those of seccomp(2).
    pub fn add_filter(&self, flags: u64, at: u64) -> Done {
        if flags & !(flag::TSYNC | flag::LOG | flag::SPEC_ALLOW | flag::TSYNC_ESRCH) != 0 {
            return Err(Errno::EINVAL);
        }
        if matches!(self.process.filters.get(self.tid), Some(Mode::Strict)) {
            return Err(Errno::EINVAL);
        }
        let space = &self.process.space;
        let len = space.read::<u32>(at)? as u16;
        let list = match self.process.abi.wide() {
            true => space.read::<u64>(at + 8)?,
            false => space.read::<u32>(at + 4)?.into(),
        };
        if len == 0 || usize::from(len) > bpf::MOST {
            return Err(Errno::EINVAL);
        }
        if !may_filter() {
            return Err(Errno::EACCES);
        }
        let insns: Vec<[u8; 8]> = space.read_list(list, len.into())?;
        let insns: Vec<Insn> = insns.into_iter().map(Insn::read).collect();
        let program = Program::check(&insns).ok_or(Errno::EINVAL)?;
        let before = match self.process.filters.get(self.tid) {
            Some(Mode::Filter(chain)) => Some(chain),
            _ => None,
        };
        let chain = Arc::new(Chain { program, before: before.clone() });
        if chain.cost() > MOST_ALL {
            return Err(Errno::ENOMEM);
        }
        if flags & flag::TSYNC != 0 {
            return self.share_filters(&chain, before.as_ref(), flags);
        }
        self.process.filters.set(self.tid, Mode::Filter(chain));
        Ok(0)
    }

    /// Gives all threads the same filters, if theirs are the beginning of these.
    fn share_filters(&self, chain: &Arc<Chain>, before: Option<&Arc<Chain>>, flags: u64) -> Done {
        let mut threads = self.process.filters.threads();
        let begins = |other: &Mode| match other {
            Mode::Strict => false,
            Mode::Filter(other) => before.is_some_and(|before| {
                before.iter().any(|chain| std::ptr::eq(chain, Arc::as_ptr(other)))
            }),
        };
        let own = self.tid;
        if let Some((tid, _)) = threads.iter().find(|(tid, mode)| **tid != own && !begins(mode)) {
            return if flags & flag::TSYNC_ESRCH != 0 {
                Err(Errno::ESRCH)
            } else {
                Ok((*tid).into())
            };
        }
        for tid in self.process.thread_numbers() {
            threads.insert(tid, Mode::Filter(Arc::clone(chain)));
        }
        drop(threads);
        self.process.filters.set(own, Mode::Filter(Arc::clone(chain)));
        Ok(0)
    }

    /// What filters say to a call: its result, if it is not to be made. A tracer may have changed it.
    pub fn filter(&mut self, call: &mut Call) -> Option<Done> {
        let mut asked = false;
        loop {
            let chain = match self.process.filters.get(self.tid)? {
                Mode::Strict => return self.filter_strict(call),
                Mode::Filter(chain) => chain,
            };
            let answer = chain.decide(&self.describe(call));
            let data = answer & !action::MASK;
            match answer & action::MASK {
                action::ALLOW | action::LOG => return None,
                action::TRACE if asked => return None,
                action::TRACE => {
                    if !self.trace_filter(data.into(), call) {
                        return Some(Err(Errno::ENOSYS));
                    }
                    *call = self.traced_call_now();
                    if call.number as i32 == -1 {
                        return Some(Err(Errno::UNCHANGED));
                    }
                    asked = true;
                }
                action::ERRNO if data == 0 => return Some(Ok(0)),
                action::ERRNO => return Some(Err(Errno(data.min(4095).cast_signed()))),
                action::TRAP => {
                    self.trap_call(call, data);
                    return Some(Err(Errno::UNCHANGED));
                }
                // There is nobody who could be asked.
                action::USER_NOTIF => return Some(Err(Errno::ENOSYS)),
                action::KILL_THREAD if !self.process.has_one_thread() => {
                    self.ended = Some(libc::SIGSYS);
                    return Some(Err(Errno::UNCHANGED));
                }
                _ => self.die(libc::SIGSYS as u32),
            }
        }
    }

    fn filter_strict(&self, call: &Call) -> Option<Done> {
        const LEFT: [&str; 5] = ["read", "write", "exit", "rt_sigreturn", "sigreturn"];
        let name = self.process.calls.get(call.number).map(|entry| entry.name);
        if name.is_some_and(|name| LEFT.contains(&name)) {
            return None;
        }
        self.die(libc::SIGKILL as u32)
    }

    /// `struct seccomp_data`.
    fn describe(&self, call: &Call) -> [u8; DATA] {
        let mut data = [0; DATA];
        data[..4].copy_from_slice(&(call.number as u32).to_le_bytes());
        data[4..8].copy_from_slice(&self.architecture().to_le_bytes());
        data[8..16].copy_from_slice(&self.cpu.pc().to_le_bytes());
        for (place, arg) in data[16..].chunks_exact_mut(8).zip(call.args) {
            place.copy_from_slice(&arg.to_le_bytes());
        }
        data
    }

    fn architecture(&self) -> u32 {
        abi::audit_architecture(self.process.abi.machine.into(), self.process.abi.bits)
    }

    /// The program gets SIGSYS for a call, with its registers as before.
    fn trap_call(&mut self, call: &Call, data: u32) {
        const SYS_SECCOMP: i32 = 1;
        self.cpu.restore_call(call);
        let info = Info::at(libc::SIGSYS as u32, SYS_SECCOMP, self.cpu.pc());
        let (number, arch) = (call.number as i32, self.architecture().cast_signed());
        let info = info.with_words(&[(4, data.cast_signed()), (24, number), (28, arch)]);
        self.force(info);
    }

    // ---- programs that are executed ----

    /// A descriptor for the next program's emulator, with what holds back its calls; `None`: nothing.
    ///
    /// # Errors
    /// The host has no room.
    pub fn filters_for_next(&self) -> Result<Option<u64>, Errno> {
        let Some(mode) = self.process.filters.get(self.tid) else { return Ok(None) };
        let mut bytes = Vec::new();
        if let Mode::Filter(chain) = &mode {
            let chain: Vec<&Chain> = chain.iter().collect();
            for chain in chain.into_iter().rev() {
                bytes.extend_from_slice(&(chain.program.len() as u64).to_le_bytes());
                chain.program.insns().for_each(|insn| bytes.extend_from_slice(&insn.bytes()));
            }
        }
        let fd = sys::call(libc::SYS_memfd_create, [c"filters".as_ptr() as u64, 0, 0, 0, 0, 0])?;
        let args = [fd, bytes.as_ptr() as u64, bytes.len() as u64, 0, 0, 0];
        match sys::call(libc::SYS_pwrite64, args) {
            Ok(done) if done == bytes.len() as u64 => Ok(Some(fd)),
            _ => Err(Errno::ENOMEM),
        }
    }

    /// Takes over what [`Thread::filters_for_next`] left; whether it was whole.
    pub fn take_filters(&self, fd: i32) -> bool {
        use std::io::{Read, Seek};
        let mut file = sys::take_file(fd);
        let mut bytes = Vec::new();
        if file.rewind().is_err() || file.read_to_end(&mut bytes).is_err() {
            return false;
        }
        let (words, []) = bytes.as_chunks::<8>() else { return false };
        let (mut rest, mut chain) = (words, None);
        while let Some((len, behind)) = rest.split_first() {
            let Ok(len) = usize::try_from(u64::from_le_bytes(*len)) else { return false };
            let Some((insns, behind)) = behind.split_at_checked(len) else { return false };
            let insns: Vec<Insn> = insns.iter().map(|bytes| Insn::read(*bytes)).collect();
            let Some(program) = Program::check(&insns) else { return false };
            chain = Some(Arc::new(Chain { program, before: chain }));
            rest = behind;
        }
        let mode = chain.map_or(Mode::Strict, Mode::Filter);
        self.process.filters.set(self.tid, mode);
        true
    }
}

/// Whether this thread may add filters: it gets no new rights, or has the capability.
fn may_filter() -> bool {
    const CAP_SYS_ADMIN: u32 = 21;
    const VERSION_3: u32 = 0x2008_0522;
    let option = libc::PR_GET_NO_NEW_PRIVS as u64;
    if sys::call(libc::SYS_prctl, [option, 0, 0, 0, 0, 0]) == Ok(1) {
        return true;
    }
    // Version and process; effective, permitted and inheritable sets, twice.
    let (mut header, mut sets) = ([VERSION_3, 0], [0u32; 6]);
    let args = [header.as_mut_ptr() as u64, sets.as_mut_ptr() as u64, 0, 0, 0, 0];
    sys::call(libc::SYS_capget, args).is_ok() && sets[0] >> CAP_SYS_ADMIN & 1 != 0
}
