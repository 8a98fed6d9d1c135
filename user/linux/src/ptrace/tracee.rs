//! The traced side: a thread that stops for its tracer where its registers are known.

use super::block::{Block, MAGIC, SET_BYTES, SETS, SIGNAL, STOP_CODE, Shared, WRITTEN};
use super::block::{ask, kind, resume};
use super::{event, option};
use crate::abi::Call;
use crate::calls;
use crate::errno::{Done, Errno};
use crate::signal::{self, Info, bit};
use crate::sys;
use crate::thread::Thread;
use std::sync::atomic::Ordering;

/// Bit of [`Block::changed`]: the mask of signals.
const MASK_CHANGED: u32 = 1 << 31;
/// What a call reads as that is to be made again: `ERESTARTSYS`.
const RESTART: i64 = -512;
/// `si_code` after a step over a call or into a handler.
const TRAP_BRKPT: i32 = 1;

/// What a traced thread keeps.
#[derive(Default)]
pub struct Tracee {
    block: Shared,
    /// The stop that it begins with.
    first: Option<u32>,
    /// The number of the system call that it is in.
    call: Option<u64>,
    /// A call that a signal interrupted, and where its instruction is: to be made again if nobody
    /// hears of the signal.
    interrupted: Option<(Call, u64)>,
}

impl Tracee {
    /// One that was attached, by `PTRACE_SEIZE` or else.
    pub fn new(seized: bool) -> Self {
        let mut tracee = Self::default();
        tracee.block.get_mut().seized = seized.into();
        tracee
    }

    /// One whose program has just been executed.
    pub fn executed() -> Self {
        Self { first: Some(kind::EXEC), ..Self::default() }
    }

    /// That of such a child.
    fn child(&self, option: u64) -> Option<Self> {
        let block = self.block.get();
        if block.options & option == 0 {
            return None;
        }
        let mut child = Self { first: Some(kind::CHILD), ..Self::default() };
        let new = child.block.get_mut();
        (new.options, new.seized, new.resume) = (block.options, block.seized, block.resume);
        Some(child)
    }

    fn resume(&self) -> u32 {
        self.block.get().resume
    }

    /// Writes down how the thread stands.
    fn publish(&mut self, thread: &Thread) {
        let (call, space) = (self.call, &thread.process.space);
        let sets = thread.cpu.register_sets(call);
        let block = self.block.get_mut();
        (block.magic, block.base, block.limit) = (MAGIC, space.base, space.limit);
        (block.machine, block.bits) = (thread.process.abi.machine.into(), thread.process.abi.bits);
        block.place = [thread.cpu.pc(), thread.cpu.stack()];
        let started = &thread.process.started;
        let files = [&started.executable, &started.command_line, &started.auxiliary];
        block.started = files.map(|bytes| [bytes.as_ptr() as u64, bytes.len() as u64]);
        block.mask = thread.mask;
        (block.answered, block.changed, block.signal, block.written_count) = (0, 0, 0, 0);
        block.sets = [[0; 2]; SETS];
        let mut at = 0;
        for (place, (note, bytes)) in block.sets.iter_mut().zip(sets) {
            let end = at + bytes.len();
            if end > SET_BYTES {
                break;
            }
            block.bytes[at..end].copy_from_slice(&bytes);
            *place = [note, bytes.len() as u32];
            at = end;
        }
    }

    /// Takes over what the tracer changed.
    fn accept(&mut self, thread: &mut Thread) {
        let block = self.block.get();
        let mut at = 0;
        for (n, [note, len]) in block.sets.into_iter().enumerate() {
            let end = (at + len as usize).min(SET_BYTES);
            if len != 0 && block.changed >> n & 1 != 0 {
                let number = thread.cpu.set_register_set(note, &block.bytes[at..end]);
                self.call = number.or(self.call);
            }
            at = end;
        }
        if block.changed & MASK_CHANGED != 0 {
            thread.set_mask(block.mask);
        }
        let memory = thread.process.space.memory();
        match block.written_count as usize {
            count @ 0..=WRITTEN => {
                block.written[..count].iter().for_each(|[at, len]| memory.forget_code(*at, *len));
            }
            _ => memory.forget_code(0, thread.process.space.limit),
        }
        let step = block.resume == resume::STEP;
        thread.cpu.set_step(step);
    }
}

impl Thread {
    /// From now on every signal comes to us, and stops are told.
    pub fn become_traced(&mut self, seized: bool) {
        if self.tracee.is_none() {
            self.tracee = Some(Box::new(Tracee::new(seized)));
        }
        self.handlers().take_all();
    }

    /// What a child begins with that the host attaches to this thread's tracer, if it does by this option.
    pub fn child_tracee(&self, option: u64) -> Option<Box<Tracee>> {
        self.tracee.as_ref()?.child(option).map(Box::new)
    }

    /// Stops for the tracer: the signal to go on with; `None`: nobody traces.
    fn stand(&mut self, kind: u32, status: u32, fill: impl FnOnce(&mut Block)) -> Option<u32> {
        let mut tracee = self.tracee.take()?;
        tracee.publish(self);
        let block = tracee.block.get_mut();
        (block.kind, block.status) = (kind, status);
        if status >> 8 != 0 {
            let code = (status & 0xffff).cast_signed();
            block.info = Info::new(libc::SIGTRAP as u32, code).0;
        }
        fill(block);
        let info = Info::asking(SIGNAL, STOP_CODE, tracee.block.address());
        let to = [sys::getpid().into(), self.tid.into(), SIGNAL as u64, &raw const info as u64];
        let [process, thread, number, info] = to;
        let _ = sys::call(libc::SYS_rt_tgsigqueueinfo, [process, thread, number, info, 0, 0]);
        if tracee.block.get().answered == 0 {
            // The signal came to our own handler: the tracer has gone.
            self.cpu.set_step(false);
            return None;
        }
        tracee.accept(self);
        let signal = tracee.block.get().signal;
        if tracee.resume() != resume::DETACH {
            self.tracee = Some(tracee);
        }
        Some(signal)
    }

    fn stepping(&self) -> bool {
        self.tracee.as_ref().is_some_and(|tracee| tracee.resume() == resume::STEP)
    }

    /// Stops where a thread or a program begins, if it is traced.
    pub fn trace_begin(&mut self) {
        let Some(tracee) = self.tracee.as_mut() else { return };
        let Some(first) = tracee.first.take() else { return };
        let seized = tracee.block.get().seized != 0;
        let trap = libc::SIGTRAP as u32;
        if first == kind::EXEC {
            self.handlers().take_all();
            let message = self.tid.into();
            self.stand(first, trap | event::EXEC << 8, |block| block.message = message);
            self.trace_exit(0);
            return;
        }
        let status = if seized { trap | event::STOP << 8 } else { libc::SIGSTOP as u32 };
        self.stand(first, status, |block| {
            if !seized {
                block.info = Info::new(status, libc::SI_USER).0;
            }
        });
    }

    /// Does what the tracer asked for while the program ran.
    pub fn trace_asked(&mut self) {
        let (asked, info) = self.waiting.take_asked();
        if asked == 0 {
            return;
        }
        // Whoever asks has attached this thread, or it asked for that itself.
        self.become_traced(asked & (ask::SIGSTOP | ask::INTERRUPT) == 0);
        if asked & ask::HELLO != 0 {
            self.stand(kind::HELLO, 0, |_| {});
        }
        if asked & ask::SIGSTOP != 0 {
            self.deliver(info);
        }
        if asked & ask::INTERRUPT != 0 {
            let status = libc::SIGTRAP as u32 | event::STOP << 8;
            self.stand(kind::INTERRUPT, status, |_| {});
        }
    }

    /// A signal is about to be delivered: what the tracer makes of it.
    pub fn trace_signal(&mut self, info: Info) -> Option<Info> {
        if self.tracee.is_none() {
            return Some(info);
        }
        let stood = self.stand(kind::SIGNAL, info.signal(), |block| block.info = info.0);
        match stood {
            None => Some(info),
            Some(0) => None,
            Some(signal) => {
                let changed = self.tracee.as_ref().map_or(info, |t| Info(t.block.get().info));
                Some(if changed.signal() == signal {
                    changed
                } else {
                    Info::new(signal, libc::SI_USER)
                })
            }
        }
    }

    /// A handler has been entered.
    pub fn trace_handler(&mut self) {
        let Some(tracee) = self.tracee.as_mut() else { return };
        tracee.interrupted = None;
        if self.stepping() {
            self.trace_step();
        }
    }

    fn trace_step(&mut self) {
        let trap = libc::SIGTRAP as u32;
        let info = Info::at(trap, TRAP_BRKPT, self.cpu.pc());
        if let Some(info) = self.trace_signal(info) {
            self.deliver_untraced(info);
        }
    }

    /// After signals have been looked at: a call that was interrupted for nothing is made again.
    pub fn trace_settled(&mut self) {
        let again = self.tracee.as_mut().and_then(|tracee| tracee.interrupted.take());
        if let Some((call, at)) = again {
            self.cpu.restore_call(&call);
            self.cpu.set_pc(at);
        }
    }

    /// A new process or thread was made by this one.
    pub fn trace_made(&mut self, forked: bool, pid: u64) {
        let (wanted, event) = match forked {
            true => (option::FORK, event::FORK),
            false => (option::CLONE, event::CLONE),
        };
        let Some(tracee) = &self.tracee else { return };
        if tracee.block.get().options & wanted != 0 {
            let status = libc::SIGTRAP as u32 | event << 8;
            self.stand(kind::EVENT, status, |block| block.message = pid);
        }
    }

    /// A filter wants the tracer to decide about a call; whether there is one.
    pub fn trace_filter(&mut self, data: u64, call: &Call) -> bool {
        let Some(tracee) = &self.tracee else { return false };
        if tracee.block.get().options & option::SECCOMP == 0 {
            return false;
        }
        let status = libc::SIGTRAP as u32 | event::SECCOMP << 8;
        let Call { number, args: [a, b, c, d, e, f] } = *call;
        let stood = self.stand(kind::EVENT, status, |block| {
            block.message = data;
            block.call = [number, a, b, c, d, e, f];
        });
        stood.is_some()
    }

    /// The call that a stop before it has left to be made.
    pub fn traced_call_now(&self) -> Call {
        let number = self.tracee.as_ref().and_then(|tracee| tracee.call);
        let call = self.cpu.call();
        Call { number: number.unwrap_or(call.number), ..call }
    }

    /// What is to become of the tracing in the child of a fork.
    pub fn trace_child(&mut self, option: u64) {
        self.tracee = self.child_tracee(option);
    }

    /// A stop signal takes effect, with the tracer told of it.
    pub fn group_stop(&mut self, signal: u32) {
        let Some(mut tracee) = self.tracee.take() else { return };
        tracee.publish(self);
        tracee.block.get_mut().stopping = 1;
        self.handlers().leave(signal);
        let to = [sys::getpid().into(), self.tid.into(), signal.into(), 0, 0, 0];
        let _ = sys::call(libc::SYS_tgkill, to);
        sys::set_signal_mask(!signal::FAULTS & !bit(signal));
        self.mask_changed = true;
        self.handlers().take_all();
        tracee.block.get_mut().stopping = 0;
        tracee.accept(self);
        self.tracee = Some(tracee);
    }

    /// Serves a system call of a traced program, whose instruction lies `at`.
    pub fn traced_call(&mut self, at: u64) {
        let mut call = self.cpu.call();
        let before = call;
        self.set_traced_call(Some(call.number));
        self.cpu.begin_call();
        if self.tracee.as_ref().is_some_and(|tracee| tracee.resume() == resume::SYSCALL) {
            let Call { number, args: [a, b, c, d, e, f] } = call;
            self.stand(kind::ENTRY, libc::SIGTRAP as u32, |block| {
                block.call = [number, a, b, c, d, e, f];
            });
            call = self.traced_call_now();
            if call.number as i32 == -1 {
                // The tracer wants no call; the result is what it has put into its register.
                self.trace_exit(self.cpu.result());
                self.set_traced_call(None);
                return;
            }
        }
        if let Some(mut tracee) = self.tracee.take() {
            // Stops within the call show this.
            tracee.publish(self);
            self.tracee = Some(tracee);
        }
        let done = calls::dispatch(self, &call);
        self.come_back(at, done);
        if self.tracee.as_ref().is_some_and(|tracee| tracee.first.is_some()) {
            // This is the child of a fork.
            self.set_traced_call(None);
            return self.trace_begin();
        }
        self.after_call(done, &before, at);
        self.set_traced_call(None);
        if self.stepping() {
            self.trace_step();
        }
    }

    fn set_traced_call(&mut self, number: Option<u64>) {
        if let Some(tracee) = self.tracee.as_mut() {
            tracee.call = number;
        }
    }

    fn after_call(&mut self, done: Done, call: &Call, at: u64) {
        match done {
            Err(Errno::RESTART) => {
                let behind = self.cpu.result();
                self.cpu.set_result(RESTART.cast_unsigned());
                self.trace_exit(RESTART);
                self.cpu.set_result(behind.cast_unsigned());
                self.cpu.restore_call(call);
                self.cpu.set_pc(at);
            }
            Err(Errno::EINTR) => {
                self.trace_exit(-i64::from(libc::EINTR));
                if let Some(tracee) = self.tracee.as_mut() {
                    tracee.interrupted = Some((*call, at));
                }
            }
            _ => self.trace_exit(self.cpu.result()),
        }
    }

    /// Stops behind a call, if the tracer wants that.
    fn trace_exit(&mut self, result: i64) {
        if self.tracee.as_ref().is_some_and(|tracee| tracee.resume() == resume::SYSCALL) {
            let failed = (-4095..0).contains(&result);
            self.stand(kind::EXIT, libc::SIGTRAP as u32, |block| {
                block.call = [result.cast_unsigned(), failed.into(), 0, 0, 0, 0, 0];
            });
        }
    }

    /// Whether something was asked that has not been looked at.
    pub fn is_asked(&self) -> bool {
        self.waiting.asked.load(Ordering::Acquire) != 0
    }
}
