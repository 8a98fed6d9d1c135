//! Delivery: frames for handlers, and the end of the process where there is none.

use super::action::{self, DEFAULT, IGNORE, flags, leave_to_host};
use super::{FAULTS, Info, UNBLOCKABLE, bit, fault_info};
use crate::abi::Frame;
use crate::core_file;
use crate::errno::{Done, Errno};
use crate::sys;
use crate::thread::Thread;
use isa::Event;
use std::sync::atomic::Ordering;

/// `ss_flags`: the stack is not used.
const SS_DISABLE: u64 = 2;
/// `ss_flags`: handlers run there now.
const SS_ONSTACK: u64 = 1;
/// `ss_flags`: the stack is given up while a handler runs there.
const SS_AUTODISARM: u64 = 1 << 31;

/// An alternate stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alternate {
    /// Its lowest address.
    pub base: u64,
    /// `SS_AUTODISARM` or `SS_DISABLE`.
    pub flags: u64,
    /// Bytes; 0: there is none.
    pub len: u64,
}

impl Default for Alternate {
    fn default() -> Self {
        Self { base: 0, flags: SS_DISABLE, len: 0 }
    }
}

impl Alternate {
    /// Whether a stack pointer is on it.
    pub fn holds(&self, stack: u64) -> bool {
        stack > self.base && stack - self.base <= self.len
    }

    /// `ss_flags` as a program sees them.
    pub fn shown(&self, stack: u64) -> u64 {
        match () {
            () if self.len == 0 => SS_DISABLE,
            () if self.flags & SS_AUTODISARM == 0 && self.holds(stack) => SS_ONSTACK | self.flags,
            () => self.flags,
        }
    }
}

impl Thread {
    /// Delivers what came, and lets the host deliver more.
    pub fn settle(&mut self) {
        loop {
            self.trace_asked();
            while let Some(info) = self.waiting.take(self.mask) {
                self.mask_changed = true;
                if let Some(info) = self.debug_signal(info) {
                    self.deliver(info);
                }
            }
            self.waiting.flag.store(0, Ordering::Release);
            if std::mem::take(&mut self.mask_changed) {
                sys::set_signal_mask(self.mask & !FAULTS);
            }
            if !self.waiting.some(self.mask) && !self.is_asked() {
                self.trace_settled();
                return;
            }
        }
    }

    /// The program did what a signal answers.
    pub fn fault(&mut self, event: &Event) {
        if (self.process.abi.rescue)(self, event) {
            return;
        }
        let Some(mut info) = fault_info(event, self.cpu.pc()) else { return };
        if *event == Event::Breakpoint && self.process.abi.breakpoints_by_kernel {
            const SI_KERNEL: i32 = 0x80;
            info = Info::new(info.signal(), SI_KERNEL);
        }
        self.force(info);
    }

    /// A signal that cannot be held back.
    pub fn force(&mut self, info: Info) {
        let Some(info) = self.debug_signal(info) else { return };
        let Some(info) = self.trace_signal(info) else { return };
        let signal = info.signal();
        self.strace_signal(&info);
        let handler = self.handlers().get(signal).handler;
        if handler == DEFAULT || handler == IGNORE || self.mask & bit(signal) != 0 {
            self.die_of(&info);
        }
        self.deliver_untraced(info);
    }

    /// Delivers one signal, if the tracer does not mind.
    pub fn deliver(&mut self, info: Info) {
        if let Some(info) = self.trace_signal(info) {
            self.deliver_untraced(info);
        }
    }

    /// Delivers one signal.
    pub fn deliver_untraced(&mut self, info: Info) {
        let signal = info.signal();
        if signal == 0 || signal > super::LAST {
            return;
        }
        let action = self.handlers().get(signal);
        if info.code() <= 0 || FAULTS & bit(signal) == 0 {
            self.strace_signal(&info);
        }
        match action.handler {
            IGNORE => {}
            DEFAULT => self.by_default(&info),
            handler => {
                let saved = self.mask;
                let frame = Frame {
                    signal,
                    info: info.for_guest(self.process.abi.wide()),
                    handler,
                    restorer: match action.flags & flags::RESTORER {
                        0 => self.process.trampoline,
                        _ => action.restorer,
                    },
                    flags: action.flags,
                    mask: saved,
                    stack: self.frame_stack(action.flags),
                    alternate: self.alternate_words(),
                };
                if self.cpu.enter_handler(&self.process.space, &frame).is_err() {
                    return self.no_room(signal);
                }
                if self.alternate.flags & SS_AUTODISARM != 0 {
                    self.alternate = Alternate::default();
                }
                if action.flags & flags::RESETHAND != 0 {
                    self.handlers().forget(signal);
                }
                let own = if action.flags & flags::NODEFER == 0 { bit(signal) } else { 0 };
                self.set_mask(saved | action.mask | own);
                self.trace_handler();
            }
        }
    }

    /// A frame could not be written.
    fn no_room(&mut self, signal: u32) {
        let segv = libc::SIGSEGV as u32;
        const SI_KERNEL: i32 = 0x80;
        if signal == segv || self.mask & bit(segv) != 0 {
            self.die(segv);
        }
        if self.handlers().get(segv).handler <= IGNORE {
            self.die(segv);
        }
        self.deliver(Info::new(segv, SI_KERNEL));
    }

    /// Where a frame goes: below the stack pointer, or at the top of the alternate stack.
    fn frame_stack(&self, action: u64) -> u64 {
        let stack = self.cpu.stack();
        let wanted = action & flags::ONSTACK != 0 && self.alternate.len != 0;
        if wanted && !self.alternate.holds(stack) {
            return self.alternate.base + self.alternate.len;
        }
        stack
    }

    /// The alternate stack as frames hold it.
    fn alternate_words(&self) -> [u64; 3] {
        let Alternate { base, len, .. } = self.alternate;
        [base, self.alternate.shown(self.cpu.stack()), len]
    }

    /// What happens to a signal that came although nobody handles it.
    fn by_default(&mut self, info: &Info) {
        let signal = info.signal();
        let stops = [libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];
        if self.handlers().ignores(signal) {
            return;
        }
        if stops.contains(&signal.cast_signed()) {
            if self.tracee.is_some() {
                return self.group_stop(signal);
            }
            let _ = sys::call(
                libc::SYS_tgkill,
                [sys::getpid().into(), self.tid.into(), libc::SIGSTOP as u64, 0, 0, 0],
            );
            return;
        }
        self.die_of(info);
    }

    /// Ends the process by a signal.
    pub fn die(&self, signal: u32) -> ! {
        const SI_KERNEL: i32 = 0x80;
        self.die_of(&Info::new(signal, SI_KERNEL))
    }

    /// Ends the process by what came with a signal.
    fn die_of(&self, info: &Info) -> ! {
        let signal = info.signal();
        self.strace_end(signal);
        self.debug_death(signal);
        core_file::leave(self, info);
        leave_to_host(signal);
        let to = [sys::getpid().into(), self.tid.into(), signal.into(), 0, 0, 0];
        loop {
            let _ = sys::call(libc::SYS_tgkill, to);
            sys::set_signal_mask(!bit(signal));
        }
    }

    /// Holds back these signals from now on.
    pub fn set_mask(&mut self, mask: u64) {
        self.mask = mask & !UNBLOCKABLE;
        self.mask_changed = true;
    }

    /// `rt_sigreturn`.
    ///
    /// # Errors
    /// Always: there is no result, for the registers are what they were.
    pub fn leave_handler(&mut self) -> Done {
        match self.cpu.leave_handler(&self.process.space) {
            Ok(back) => {
                self.set_mask(back.mask);
                let [base, flags, len] = back.alternate;
                let kept = if flags & SS_DISABLE != 0 { SS_DISABLE } else { flags & SS_AUTODISARM };
                self.alternate = Alternate { base, flags: kept, len };
            }
            Err(_) => self.no_room(libc::SIGSEGV as u32),
        }
        Err(Errno::UNCHANGED)
    }

    /// After a program could not be executed.
    pub fn take_back_faults(&self) {
        super::install_faults();
        if self.tracee.is_some() {
            self.handlers().take_all();
        }
    }

    /// Before a program is executed: the host ignores what this one does.
    pub fn hand_over_ignored(&self) {
        let taken = if self.handlers().are_taken() { !0 } else { FAULTS };
        for signal in (1..=super::LAST).filter(|signal| taken & bit(*signal) != 0) {
            if self.handlers().get(signal).handler == IGNORE {
                action::ignore_on_host(signal);
            }
        }
    }
}
