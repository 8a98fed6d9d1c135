//! A process as the protocol of debuggers sees it.

use super::seat::{Debugger, INTERRUPT, State, Status};
use crate::process::Process;
use crate::signal::break_call;
use gdb::{
    Breakpoint, BreakpointKind, Caught, Description, Notifier, Object, Order, Refused, Stop,
    Target, ThreadId,
};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A process that is debugged.
pub struct Debuggee {
    process: Arc<Process>,
    debugger: Arc<Debugger>,
    description: Description,
    /// Where each register is among all.
    places: Vec<Range<usize>>,
    /// It was started for the debugger.
    spawned: bool,
    /// The debugger wants it to end.
    pub killed: bool,
}

impl Debuggee {
    /// Puts the parts together.
    pub fn new(process: Arc<Process>, debugger: Arc<Debugger>, spawned: bool) -> Self {
        let description = process.machine.description();
        let mut at = 0;
        let place = |register: &gdb::Register| {
            let begin = at;
            at += register.bits.div_ceil(8) as usize;
            begin..at
        };
        let places = description.registers().map(place).collect();
        Self { process, debugger, description, places, spawned, killed: false }
    }

    /// Where a file of the program is: below the prefix, if it is there.
    fn host_path(&self, path: &Path) -> PathBuf {
        let prefix = self.process.options.prefix.as_ref();
        let below = prefix
            .and_then(|prefix| crate::calls::below(prefix.as_bytes(), path.as_os_str().as_bytes()));
        below.map_or_else(
            || path.to_owned(),
            |path| PathBuf::from(std::ffi::OsStr::from_bytes(&path)),
        )
    }

    /// The thread's seat, once it is one whose registers can be set.
    fn settle(&self, thread: ThreadId) -> Option<std::sync::MutexGuard<'_, State>> {
        let mut state = self.debugger.lock();
        loop {
            let seat = state.seat(thread).ok()?;
            match seat.status {
                Status::Standing => return Some(state),
                Status::Calling(false) => return None,
                Status::Calling(true) if !seat.broken => {
                    seat.broken = true;
                    let tid = u32::try_from(thread.0).ok()?;
                    break_call(tid, &seat.waiting);
                }
                Status::Calling(true) | Status::Running => {}
            }
            state = self.debugger.wait(state);
        }
    }
}

impl Target for Debuggee {
    fn attached(&mut self, notifier: Notifier) {
        let mut state = self.debugger.lock();
        self.debugger.set_active(true);
        (state.attached, state.notifier) = (true, Some(notifier));
        if !state.stopping {
            let first = state.seats.keys().next().copied().unwrap_or_default();
            let thread = ThreadId(first.into());
            state.halt(Stop::Signal { thread, signal: INTERRUPT, watched: None });
            state.untold = false;
            // Nobody has noted who is in a system call.
            for (tid, seat) in &mut state.seats {
                seat.broken = true;
                break_call(*tid, &seat.waiting);
            }
        }
        while !state.all_stand() || state.seats.is_empty() {
            state = self.debugger.wait(state);
        }
    }

    fn process(&self) -> u64 {
        crate::sys::getpid().into()
    }

    fn spawned(&self) -> bool {
        self.spawned
    }

    fn description(&self) -> &Description {
        &self.description
    }

    fn threads(&self) -> Vec<ThreadId> {
        self.debugger.lock().seats.keys().map(|tid| ThreadId((*tid).into())).collect()
    }

    fn thread_name(&self, thread: ThreadId) -> String {
        let name = std::fs::read_to_string(format!("/proc/self/task/{}/comm", thread.0));
        name.unwrap_or_default().trim_end().to_owned()
    }

    fn stopped(&self) -> Stop {
        self.debugger.lock().stop
    }

    fn register(&mut self, thread: ThreadId, number: usize) -> Option<Vec<u8>> {
        let place = self.places.get(number)?.clone();
        self.debugger.lock().seat(thread).ok()?.registers.get(place).map(<[u8]>::to_vec)
    }

    fn set_register(&mut self, thread: ThreadId, number: usize, bytes: &[u8]) -> bool {
        let Some(place) = self.places.get(number).cloned() else { return false };
        let Some(mut state) = self.settle(thread) else { return false };
        let Ok(seat) = state.seat(thread) else { return false };
        let Some(to) = seat.registers.get_mut(place) else { return false };
        if to.len() != bytes.len() {
            return false;
        }
        to.copy_from_slice(bytes);
        seat.changes.retain(|(earlier, _)| *earlier != number);
        seat.changes.push((number, bytes.to_vec()));
        true
    }

    fn read(&mut self, _: ThreadId, address: u64, len: usize) -> Option<Vec<u8>> {
        self.debugger.lock().patches.read(&self.process.space, address, len)
    }

    fn write(&mut self, _: ThreadId, address: u64, bytes: &[u8]) -> bool {
        self.debugger.lock().patches.write(&self.process.space, address, bytes).is_ok()
    }

    fn set_breakpoint(&mut self, breakpoint: Breakpoint) -> Result<(), Refused> {
        let Breakpoint { kind, address, len } = breakpoint;
        let (space, mut state) = (&self.process.space, self.debugger.lock());
        let done = match kind {
            BreakpointKind::Software | BreakpointKind::Hardware => {
                state.patches.set(space, address, (self.process.abi.breakpoint)(len))
            }
            BreakpointKind::Write => state.watches.set(space, address, len),
            BreakpointKind::Read | BreakpointKind::Access => return Err(Refused::Unsupported),
        };
        done.map_err(|error| Refused::Failed(error.0 as u8))
    }

    fn clear_breakpoint(&mut self, breakpoint: Breakpoint) -> Result<(), Refused> {
        let Breakpoint { kind, address, len } = breakpoint;
        let mut state = self.debugger.lock();
        match kind {
            BreakpointKind::Software | BreakpointKind::Hardware => {
                state.patches.clear(&self.process.space, address);
            }
            BreakpointKind::Write => state.watches.clear(address, len),
            BreakpointKind::Read | BreakpointKind::Access => return Err(Refused::Unsupported),
        }
        Ok(())
    }

    fn resume(&mut self, orders: &[Order]) {
        self.debugger.lock().resume(orders);
        self.debugger.notify();
    }

    fn interrupt(&mut self) {
        let mut state = self.debugger.lock();
        if !state.stopping {
            let first = state.seats.keys().next().copied().unwrap_or_default();
            let thread = ThreadId(first.into());
            state.halt(Stop::Signal { thread, signal: INTERRUPT, watched: None });
            state.tell();
        }
    }

    /// It goes on when the debugger has its answer: see [`Debuggee::released`].
    fn detach(&mut self) {}

    fn kill(&mut self) {
        self.killed = true;
    }

    fn object(&mut self, thread: ThreadId, object: Object) -> Option<Vec<u8>> {
        match object {
            Object::Auxv => Some(self.process.started.auxiliary.clone()),
            Object::ExecFile => Some(self.process.started.executable.clone()),
            Object::Siginfo => {
                let info = self.debugger.lock().seat(thread).ok()?.info?;
                Some(info.for_guest(self.process.abi.wide()).to_vec())
            }
        }
    }

    fn catch(&mut self, calls: Caught) -> bool {
        self.debugger.lock().caught = calls;
        true
    }

    fn open(&mut self, path: &Path) -> io::Result<File> {
        File::open(self.host_path(path))
    }

    fn read_link(&mut self, path: &Path) -> io::Result<PathBuf> {
        std::fs::read_link(self.host_path(path))
    }
}

impl Debuggee {
    /// After a connection: nothing of the debugger stays behind.
    pub fn released(&self) {
        let mut state = self.debugger.lock();
        state.release(&self.process.space);
        self.debugger.set_active(false);
        drop(state);
        self.debugger.notify();
    }

    /// Nobody comes any more.
    pub fn over(&self) {
        self.debugger.lock().over = true;
        self.debugger.notify();
    }
}
