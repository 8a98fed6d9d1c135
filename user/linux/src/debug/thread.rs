//! What threads do for a debugger.

use super::seat::TRAP;
use super::signals::to_protocol;
use super::{Debugger, Pace};
use crate::core_file::Sets;
use crate::errno::{Done, Errno};
use crate::signal::Info;
use crate::thread::Thread;
use gdb::{BreakpointKind, Stop, ThreadId, Watched};
use std::sync::Arc;

/// A system call that was made while all threads stood. A debugger has seen the registers of before, and
/// may put them back after it used the thread for something else.
#[derive(Clone, Copy, Debug)]
pub struct Late {
    /// Where its instruction lies.
    at: u64,
    /// Where the program goes on.
    behind: u64,
    done: Done,
}

impl Thread {
    /// The debugger, if there is anything to look at.
    fn debugged(&self) -> Option<Arc<Debugger>> {
        self.debugger.as_ref().filter(|debugger| debugger.is_active()).map(Arc::clone)
    }

    fn id(&self) -> ThreadId {
        ThreadId(self.tid.into())
    }

    /// The thread begins: a debugger finds it from now on.
    pub fn debug_enter(&self) {
        if let Some(debugger) = &self.debugger {
            debugger.enter(self.tid, self.cpu.kicker(), Arc::clone(&self.waiting));
        }
    }

    /// The thread ends.
    pub fn debug_leave(&self) {
        if let Some(debugger) = &self.debugger {
            debugger.leave(self.tid);
        }
    }

    /// Stands as long as a debugger wants it to: how it goes on.
    pub fn debug_attend(&mut self) -> Pace {
        let Some(debugger) = self.debugged() else { return Pace::Run };
        while debugger.holds(self.tid) {
            self.debug_stand(&debugger, None, None);
        }
        debugger.pace(self.tid)
    }

    /// Stands, and takes over the registers that were set: the signal to go on with, and whether
    /// `stop` was told.
    fn debug_stand(
        &mut self,
        debugger: &Debugger,
        stop: Option<Stop>,
        info: Option<Info>,
    ) -> (Option<u32>, bool) {
        let left = (self.cpu.registers(), self.cpu.register_sets(None));
        let resumed = debugger.stand(self.tid, left, stop, info);
        for (number, bytes) in &resumed.changes {
            self.cpu.set_register(*number, bytes);
        }
        if !resumed.changes.is_empty() {
            self.debug_complete();
        }
        (resumed.signal, resumed.told)
    }

    /// One instruction was executed because a debugger wanted it.
    pub fn debug_stepped(&mut self, pace: Pace) {
        let Some(debugger) = self.debugged() else { return };
        let watched = debugger.watched(&self.process.space);
        let watched = watched.map(|address| Watched { kind: BreakpointKind::Write, address });
        if pace == Pace::Step || watched.is_some() {
            let stop = Stop::Signal { thread: self.id(), signal: TRAP, watched };
            self.debug_stand(&debugger, Some(stop), None);
        }
    }

    /// The program met a breakpoint instruction: whether it is the debugger's.
    pub fn debug_breakpoint(&mut self) -> bool {
        let Some(debugger) = self.debugged() else { return false };
        let pc = self.cpu.pc().wrapping_sub(self.process.abi.breakpoint_length);
        if !debugger.has_breakpoint(pc) {
            return false;
        }
        // Whoever is not told now comes here again.
        self.cpu.set_pc(pc);
        let stop = Stop::Signal { thread: self.id(), signal: TRAP, watched: None };
        self.debug_stand(&debugger, Some(stop), None);
        true
    }

    /// A signal is to be delivered: what the debugger makes of it.
    pub fn debug_signal(&mut self, info: Info) -> Option<Info> {
        let Some(debugger) = self.debugged() else { return Some(info) };
        let signal = to_protocol(info.signal());
        let stop = Stop::Signal { thread: self.id(), signal, watched: None };
        loop {
            let (signal, told) = self.debug_stand(&debugger, Some(stop), Some(info));
            match signal {
                _ if !debugger.is_active() => return Some(info),
                _ if !told => {}
                None => return None,
                Some(signal) if signal == info.signal() => return Some(info),
                Some(signal) => return Some(Info::new(signal, libc::SI_USER)),
            }
        }
    }

    /// The program is about to make a system call; its instruction lies `at`.
    pub fn debug_call(&mut self, at: u64) {
        let Some(debugger) = self.debugged() else { return };
        let number = self.cpu.call().number;
        if debugger.catches(number) {
            let stop = Stop::Call { thread: self.id(), number };
            while !self.debug_stand(&debugger, Some(stop), None).1 && debugger.is_active() {}
        }
        let behind = self.cpu.pc();
        self.cpu.set_pc(at);
        let registers = self.cpu.registers();
        self.cpu.set_pc(behind);
        debugger.call(self.tid, registers, true);
    }

    /// The call whose instruction lies `at` was made: what the program gets now, if anything.
    pub fn debug_called(&mut self, at: u64, done: Done) -> Option<Done> {
        let Some(debugger) = self.debugged() else { return Some(done) };
        let broken = debugger.called(self.tid);
        match done {
            // It was to leave the call.
            Err(Errno::EINTR) if broken => return Some(Err(Errno::RESTART)),
            Err(Errno::UNCHANGED | Errno::RESTART) => return Some(done),
            _ if !debugger.holds(self.tid) => return Some(done),
            _ => {}
        }
        self.late = Some(Late { at, behind: self.cpu.pc(), done });
        self.cpu.set_pc(at);
        while debugger.holds(self.tid) {
            self.debug_stand(&debugger, None, None);
        }
        self.debug_complete();
        None
    }

    /// Where a call was made late, the program goes on behind it.
    fn debug_complete(&mut self) {
        if let Some(late) = self.late.filter(|late| late.at == self.cpu.pc()) {
            self.late = None;
            self.cpu.set_pc(late.behind);
            self.come_back(late.at, late.done);
        }
    }

    /// The call's result is in its register.
    pub fn debug_result(&mut self, number: u64) {
        let Some(debugger) = self.debugged() else { return };
        if debugger.catches(number) {
            let stop = Stop::Called { thread: self.id(), number };
            while !self.debug_stand(&debugger, Some(stop), None).1 && debugger.is_active() {}
        }
    }

    /// The process ends by the program's wish.
    pub fn debug_exit(&self, code: i32) {
        if let Some(debugger) = self.debugged() {
            debugger.end(self.tid, self.cpu.registers(), Stop::Exited(code as u8));
        }
    }

    /// All threads stand for a core file: their numbers and registers, this one's first.
    pub fn stand_for_core(&self) -> Vec<(u32, Sets)> {
        let sets = self.cpu.register_sets(None);
        match &self.debugger {
            Some(debugger) => debugger.stand_for_core(self.tid, sets),
            None => vec![(self.tid, sets)],
        }
    }

    /// A process of its own begins with this thread: nobody debugs it.
    pub fn debug_anew(&mut self) {
        self.debugger = Some(Arc::new(Debugger::new(false)));
    }

    /// The process ends by a signal.
    pub fn debug_death(&self, signal: u32) {
        if let Some(debugger) = self.debugged() {
            debugger.end(self.tid, self.cpu.registers(), Stop::Killed(to_protocol(signal)));
        }
    }
}
