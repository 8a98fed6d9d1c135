//! Threads and processes: made and ended.
#![expect(unsafe_code, reason = "processes are forked")]

use super::int;
use crate::errno::{Done, Errno};
use crate::process::Process;
use crate::ptrace::option;
use crate::signal::{self, block_all};
use crate::sys;
use crate::thread::Thread;
use runtime::Side;
use std::ffi::c_void;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};

type Args = [u64; 6];

/// Bytes of the host's stack of a thread.
const STACK: usize = 1 << 20;

/// The signal by which the C library has all threads change their user; it is never sent here.
const LIBRARY_SIGNAL: u32 = 33;

/// Flags of `clone`.
mod flag {
    pub(super) const VM: u64 = libc::CLONE_VM as u64;
    pub(super) const SIGHAND: u64 = libc::CLONE_SIGHAND as u64;
    pub(super) const THREAD: u64 = libc::CLONE_THREAD as u64;
    pub(super) const VFORK: u64 = libc::CLONE_VFORK as u64;
    pub(super) const SETTLS: u64 = libc::CLONE_SETTLS as u64;
    pub(super) const PARENT_SETTID: u64 = libc::CLONE_PARENT_SETTID as u64;
    pub(super) const CHILD_SETTID: u64 = libc::CLONE_CHILD_SETTID as u64;
    pub(super) const CHILD_CLEARTID: u64 = libc::CLONE_CHILD_CLEARTID as u64;
    pub(super) const PIDFD: u64 = libc::CLONE_PIDFD as u64;
    pub(super) const UNTRACED: u64 = libc::CLONE_UNTRACED as u64;
    pub(super) const CLEAR_SIGHAND: u64 = 1 << 32;
    pub(super) const INTO_CGROUP: u64 = 1 << 33;
    /// What a thread has to have in common with the others.
    pub(super) const SHARED: u64 = VM | SIGHAND | THREAD;
}

/// `struct clone_args`: what `clone` and `clone3` ask for.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Wish {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_len: u64,
    cgroup: u64,
}

/// Words of it.
const WISH_WORDS: usize = 11;

pub fn clone(thread: &mut Thread, args: &Args) -> Done {
    const SIGNAL: u64 = 0xff;
    let [flags, stack, parent_tid, fourth, fifth, _] = *args;
    let (child_tid, tls) =
        if thread.process.abi.tls_first { (fifth, fourth) } else { (fourth, fifth) };
    let wish = Wish {
        flags: flags & 0xffff_ffff & !SIGNAL,
        pidfd: parent_tid,
        child_tid,
        parent_tid,
        exit_signal: flags & SIGNAL,
        stack,
        tls,
        ..Wish::default()
    };
    make(thread, &wish)
}

pub fn clone3(thread: &mut Thread, args: &Args) -> Done {
    const LEAST: u64 = 64;
    let [at, len, ..] = *args;
    if len < LEAST {
        return Err(Errno::EINVAL);
    }
    if len > 4096 {
        return Err(Errno::E2BIG);
    }
    let mut bytes = vec![0; len as usize];
    thread.process.space.read_bytes(at, &mut bytes)?;
    let known = (8 * WISH_WORDS).min(bytes.len());
    if bytes[known..].iter().any(|byte| *byte != 0) {
        return Err(Errno::E2BIG);
    }
    let mut words = [0u64; WISH_WORDS];
    for (word, chunk) in words.iter_mut().zip(bytes[..known].chunks_exact(8)) {
        *word = chunk.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    }
    let [flags, pidfd, child_tid, parent_tid, exit_signal, stack, rest @ ..] = words;
    let [stack_size, tls, set_tid, set_tid_len, cgroup] = rest;
    if (stack == 0) != (stack_size == 0) || exit_signal > 64 {
        return Err(Errno::EINVAL);
    }
    let stack = stack.wrapping_add(stack_size);
    #[rustfmt::skip]
    let wish = Wish {
        flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_len, cgroup,
    };
    make(thread, &wish)
}

pub fn fork(thread: &mut Thread, _: &Args) -> Done {
    make(thread, &Wish { exit_signal: libc::SIGCHLD as u64, ..Wish::default() })
}

pub fn vfork(thread: &mut Thread, _: &Args) -> Done {
    let flags = flag::VFORK | flag::VM;
    make(thread, &Wish { flags, exit_signal: libc::SIGCHLD as u64, ..Wish::default() })
}

fn make(thread: &mut Thread, wish: &Wish) -> Done {
    let Wish { flags, .. } = *wish;
    if flags & flag::THREAD != 0 && flags & flag::SIGHAND == 0
        || flags & flag::SIGHAND != 0 && flags & flag::VM == 0
    {
        return Err(Errno::EINVAL);
    }
    if flags & flag::SHARED == flag::SHARED {
        return start_thread(thread, wish);
    }
    if flags & flag::VM != 0 && flags & flag::VFORK != 0 && wish.set_tid_len == 0 {
        return borrow_process(thread, wish);
    }
    fork_process(thread, wish)
}

/// Gives a new thread what the wish says.
fn equip(twin: &mut Thread, wish: &Wish) {
    twin.cpu.set_result(0);
    if wish.stack != 0 {
        twin.cpu.set_stack(wish.stack);
    }
    if wish.flags & flag::SETTLS != 0 {
        twin.cpu.set_tls(wish.tls);
    }
    twin.clear_tid = if wish.flags & flag::CHILD_CLEARTID != 0 { wish.child_tid } else { 0 };
}

/// The child has no handlers where the wish says so.
fn clear_handlers(thread: &Thread, wish: &Wish) {
    if wish.flags & flag::CLEAR_SIGHAND != 0 {
        let mut handlers = thread.handlers();
        for signal in 1..=signal::LAST {
            if handlers.get(signal).handler > 1 {
                handlers.forget(signal);
            }
        }
    }
}

// ---- threads ----

fn start_thread(thread: &mut Thread, wish: &Wish) -> Done {
    let mut twin = thread.twin(false);
    equip(&mut twin, wish);
    let traced = wish.flags & flag::UNTRACED == 0;
    twin.tracee = if traced { thread.child_tracee(option::CLONE) } else { None };
    let process = Arc::clone(&thread.process);
    let births = process.births();
    // The new thread starts with every signal held back, until it can take them.
    block_all();
    thread.mask_changed = true;
    process.threads.fetch_add(1, Ordering::SeqCst);
    let (told, tid) = mpsc::sync_channel(1);
    let creator = thread.tid;
    let wish = *wish;
    let made = std::thread::Builder::new().stack_size(STACK).spawn(move || {
        block_all();
        twin.tid = sys::gettid();
        twin.process.filters.inherit(creator, twin.tid);
        let space = &twin.process.space;
        // As in the kernel, an address that cannot be written changes nothing.
        if wish.flags & flag::PARENT_SETTID != 0 {
            let _ = space.write(wish.parent_tid, twin.tid);
        }
        if wish.flags & flag::CHILD_SETTID != 0 {
            let _ = space.write(wish.child_tid, twin.tid);
        }
        let _ = told.send(twin.tid);
        drop(told);
        twin.run();
        twin.end();
    });
    if made.is_err() {
        process.threads.fetch_sub(1, Ordering::SeqCst);
        return Err(Errno::EAGAIN);
    }
    thread.handlers().renew(LIBRARY_SIGNAL);
    let tid = tid.recv().map_err(|_| Errno::EAGAIN)?;
    drop(births);
    if traced {
        thread.trace_made(false, tid.into());
    }
    Ok(tid.into())
}

impl Thread {
    /// What is left to do when a thread has ended.
    pub fn end(&mut self) {
        block_all();
        let process = Arc::clone(&self.process);
        if process.has_one_thread() {
            self.debug_exit(self.ended.unwrap_or(0));
        }
        self.debug_leave();
        let _births = process.births();
        self.release_locks();
        process.threads.fetch_sub(1, Ordering::SeqCst);
        process.note_thread(self.tid, false);
    }
}

pub fn exit(thread: &mut Thread, args: &Args) -> Done {
    thread.ended = Some(int(args[0]));
    Err(Errno::UNCHANGED)
}

pub fn exit_group(thread: &mut Thread, args: &Args) -> Done {
    thread.debug_exit(int(args[0]));
    sys::exit_group(int(args[0]))
}

pub fn set_tid_address(thread: &mut Thread, args: &Args) -> Done {
    thread.clear_tid = args[0];
    Ok(thread.tid.into())
}

// ---- processes ----

/// Flags that the host's call gets; the others are ours to serve.
const SERVED: u64 = flag::VM
    | flag::SETTLS
    | flag::CHILD_SETTID
    | flag::CHILD_CLEARTID
    | flag::PARENT_SETTID
    | flag::CLEAR_SIGHAND;

fn fork_process(thread: &mut Thread, wish: &Wish) -> Done {
    let process = Arc::clone(&thread.process);
    let host = host_wish(&process, wish)?;
    let births = process.births();
    let mask = block_all();
    thread.mask_changed = true;
    let handlers = thread.handlers();
    let map = process.space.map();
    let asked = thread.waiting.asked.load(Ordering::SeqCst);
    let fork = || {
        process.space.memory().fork(|| {
            let done = if host.flags == 0 && host.exit_signal == libc::SIGCHLD as u64 {
                // The C library's own keeps its allocator usable in the child.
                // SAFETY: this thread holds every lock of ours that the child needs.
                match unsafe { libc::fork() } {
                    -1 => Err(Errno::last()),
                    pid => Ok(i64::from(pid).cast_unsigned()),
                }
            } else {
                let at = &raw const host as u64;
                sys::call(libc::SYS_clone3, [at, size_of::<Wish>() as u64, 0, 0, 0, 0])
            };
            let side = if done == Ok(0) { Side::Child } else { Side::Parent };
            (side, done)
        })
    };
    let forked = match &thread.debugger {
        Some(debugger) => debugger.frozen(fork),
        None => fork(),
    };
    drop((map, handlers, births));
    let _ = mask;
    let pid = forked?;
    let forked = wish.exit_signal == libc::SIGCHLD as u64;
    let traced = wish.flags & flag::UNTRACED == 0;
    if pid == 0 {
        // What a tracer asked of the parent is not for the child; what came since is.
        thread.waiting.asked.fetch_and(!asked, Ordering::SeqCst);
        become_child(thread, wish);
        thread.trace_child(match (traced, forked) {
            (false, _) => 0,
            (true, true) => option::FORK,
            (true, false) => option::CLONE,
        });
        return Ok(0);
    }
    if wish.flags & flag::PARENT_SETTID != 0 {
        let _ = process.space.write(wish.parent_tid, pid as u32);
    }
    if traced {
        thread.trace_made(forked, pid);
    }
    Ok(pid)
}

/// The wish as the host's kernel gets it.
fn host_wish(process: &Process, wish: &Wish) -> Result<Wish, Errno> {
    let flags = wish.flags & !SERVED;
    let pidfd = if flags & flag::PIDFD != 0 { process.space.host(wish.pidfd, 4)? } else { 0 };
    let set_tid = process.space.pointer(wish.set_tid, 4 * wish.set_tid_len.min(32))?;
    let cgroup = if flags & flag::INTO_CGROUP != 0 { wish.cgroup } else { 0 };
    let (exit_signal, set_tid_len) = (wish.exit_signal, wish.set_tid_len);
    Ok(Wish { flags, pidfd, exit_signal, set_tid, set_tid_len, cgroup, ..Wish::default() })
}

/// In the child of a fork, which has this thread only.
fn become_child(thread: &mut Thread, wish: &Wish) {
    if let Some(debugger) = thread.debugger.take() {
        debugger.abandon(&thread.process.space);
    }
    let parent = std::mem::replace(&mut thread.tid, sys::gettid());
    thread.process.filters.inherit(parent, thread.tid);
    thread.process.keep_only(thread.tid);
    thread.debug_anew();
    thread.debug_enter();
    thread.alone = true;
    thread.robust = [0; 2];
    thread.process.threads.store(1, Ordering::SeqCst);
    // What came for the parent is not the child's.
    while thread.waiting.take(0).is_some() {}
    thread.process.tracees.clear();
    let twin: &mut Thread = thread;
    equip(twin, wish);
    if wish.flags & flag::CHILD_SETTID != 0 {
        let _ = thread.process.space.write(wish.child_tid, thread.tid);
    }
    clear_handlers(thread, wish);
}

// ---- children that use the memory of a parent that waits ----

/// What such a child is started with.
struct Borrower {
    twin: Thread,
    parent: u32,
    wish: Wish,
}

/// `vfork`: the child runs on memory of this process, and this thread waits until it has executed
/// another program or ended. As there is one of the two at a time, they share the C library's idea of
/// the thread.
fn borrow_process(thread: &mut Thread, wish: &Wish) -> Done {
    let mut twin = thread.twin(true);
    twin.debug_anew();
    equip(&mut twin, wish);
    let traced = wish.flags & flag::UNTRACED == 0;
    twin.tracee = if traced { thread.child_tracee(option::VFORK) } else { None };
    twin.alternate = thread.alternate;
    let host = host_wish(&thread.process, wish)?;
    block_all();
    thread.mask_changed = true;
    let flags = host.flags | flag::VM | flag::VFORK | host.exit_signal;
    let mut borrower = Borrower { twin, parent: thread.tid, wish: *wish };
    let stack = map_stack()?;
    let argument = (&raw mut borrower).cast::<c_void>();
    let top = (stack + STACK as u64) as *mut c_void;
    let start = || {
        // SAFETY: the stack is the child's alone; the argument outlives it, for this thread goes on
        // when the child is gone or runs another program.
        unsafe { libc::clone(run_borrower, top, flags as i32, argument, host.pidfd) }
    };
    let pid = match &thread.debugger {
        Some(debugger) => {
            debugger.stay_in_call(thread.tid);
            debugger.without_breakpoints(&thread.process.space, start)
        }
        None => start(),
    };
    let done = if pid < 0 { Err(Errno::last()) } else { Ok(i64::from(pid).cast_unsigned()) };
    let _ = sys::call(libc::SYS_munmap, [stack, STACK as u64, 0, 0, 0, 0]);
    // Signals of this host thread are this thread's again.
    signal::adopt(&thread.waiting, thread.cpu.kicker());
    let pid = done?;
    // What it shared with this process it has left.
    thread.process.note_thread(pid as u32, false);
    if wish.flags & flag::PARENT_SETTID != 0 {
        let _ = thread.process.space.write(wish.parent_tid, pid as u32);
    }
    Ok(pid)
}

fn map_stack() -> Done {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let rights = libc::PROT_READ | libc::PROT_WRITE;
    let args = [0, STACK as u64, rights as u64, flags as u64, u64::MAX, 0];
    sys::call(libc::SYS_mmap, args)
}

extern "C" fn run_borrower(argument: *mut c_void) -> i32 {
    // SAFETY: `borrow_process` passes the address of one that outlives this process's stay.
    let borrower = unsafe { &mut *argument.cast::<Borrower>() };
    let Borrower { twin, parent, wish } = borrower;
    twin.tid = sys::gettid();
    twin.process.filters.inherit(*parent, twin.tid);
    twin.alone = true;
    if wish.flags & flag::CHILD_SETTID != 0 {
        let _ = twin.process.space.write(wish.child_tid, twin.tid);
    }
    clear_handlers(twin, wish);
    let code = twin.run();
    sys::exit_group(code)
}
