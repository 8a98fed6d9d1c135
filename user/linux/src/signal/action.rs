//! What the program wants done with each signal, and the same on the host.
#![expect(unsafe_code, reason = "signal handlers are installed without the C library")]

use super::host::handler_address;
use super::{FAULTS, LAST, UNBLOCKABLE, bit};
use crate::errno::Errno;
use crate::sys::{SignalSet, birth};

/// `SA_*`, the same on every architecture that we have.
pub mod flags {
    /// No signal when a child stops.
    pub const NOCLDSTOP: u64 = 1;
    /// Children leave nothing to wait for.
    pub const NOCLDWAIT: u64 = 2;
    /// The handler gets three arguments.
    pub const SIGINFO: u64 = 4;
    /// The action has a return trampoline of its own.
    pub const RESTORER: u64 = 0x0400_0000;
    /// On the alternate stack.
    pub const ONSTACK: u64 = 0x0800_0000;
    /// Calls that were interrupted are made again.
    pub const RESTART: u64 = 0x1000_0000;
    /// The signal is not held back while its handler runs.
    pub const NODEFER: u64 = 0x4000_0000;
    /// The handler is for one signal.
    pub const RESETHAND: u64 = 0x8000_0000;
}

/// What is to be done with a signal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Action {
    /// The handler; 0 for the default, 1 to ignore.
    pub handler: u64,
    /// `SA_*`.
    pub flags: u64,
    /// Signals held back while it runs.
    pub mask: SignalSet,
    /// The program's own return trampoline.
    pub restorer: u64,
}

/// The default.
pub const DEFAULT: u64 = 0;
/// To ignore.
pub const IGNORE: u64 = 1;

/// The actions of a process.
#[derive(Clone, Debug)]
pub struct Handlers {
    actions: [Action; LAST as usize],
    /// Signals that come to us even if their action is the default.
    taken: SignalSet,
    /// Whether all do, whatever their action is, for a tracer hears of them.
    traced: bool,
}

/// Signals whose default action ends the process, and which can be taken.
pub const FATAL: SignalSet = !(UNBLOCKABLE
    | FAULTS
    | bit(libc::SIGCHLD as u32)
    | bit(libc::SIGCONT as u32)
    | bit(libc::SIGURG as u32)
    | bit(libc::SIGWINCH as u32)
    | bit(libc::SIGTSTP as u32)
    | bit(libc::SIGTTIN as u32)
    | bit(libc::SIGTTOU as u32));

/// `struct kernel_sigaction` of x86-64.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct HostAction {
    handler: u64,
    flags: u64,
    restorer: u64,
    mask: u64,
}

#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    ".balign 16",
    ".hidden tinamou_sigreturn",
    ".globl tinamou_sigreturn",
    "nop",
    "tinamou_sigreturn:",
    "mov rax, 15",
    "syscall",
);

#[cfg(target_arch = "x86_64")]
unsafe extern "sysv64" {
    fn tinamou_sigreturn();
}

fn change(signal: u32, new: Option<&HostAction>) -> Result<HostAction, Errno> {
    let mut old = HostAction::default();
    let new = new.map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: both structures have the kernel's layout and live through the call.
    let done = unsafe {
        libc::syscall(libc::SYS_rt_sigaction, signal, new, &raw mut old, size_of::<SignalSet>())
    };
    if done == 0 { Ok(old) } else { Err(Errno::last()) }
}

impl Handlers {
    /// Those that the process was started with: what it ignores stays ignored.
    pub fn inherited() -> Self {
        let actions = [Action::default(); LAST as usize];
        let mut handlers = Self { actions, taken: 0, traced: false };
        for signal in 1..=LAST {
            let old = change(signal, None).unwrap_or_default();
            // The standard library ignores this one for itself.
            let pipe = signal == libc::SIGPIPE as u32;
            let ignored = if pipe { birth::pipe_was_ignored() } else { old.handler == IGNORE };
            if ignored {
                handlers.actions[signal as usize - 1].handler = IGNORE;
            } else if pipe {
                let _ = change(signal, Some(&HostAction::default()));
            }
        }
        handlers
    }

    /// The action for a signal from 1 to 64.
    pub fn get(&self, signal: u32) -> Action {
        self.actions[signal as usize - 1]
    }

    /// Takes these signals from now on, even if their action is the default.
    pub fn take(&mut self, signals: SignalSet) {
        self.taken |= signals & FATAL;
        for signal in (1..=LAST).filter(|signal| self.taken & bit(*signal) != 0) {
            self.renew(signal);
        }
    }

    /// Changes the action for a signal, here and on the host.
    ///
    /// # Errors
    /// There is no such signal, or it cannot be handled.
    pub fn set(&mut self, signal: u32, action: Action) -> Result<(), Errno> {
        if signal == 0 || signal > LAST || UNBLOCKABLE & bit(signal) != 0 {
            return Err(Errno::EINVAL);
        }
        let action = Action { mask: action.mask & !UNBLOCKABLE, ..action };
        if FAULTS & bit(signal) == 0 {
            self.set_on_host(signal, &action)?;
        }
        self.actions[signal as usize - 1] = action;
        Ok(())
    }

    /// Puts a signal's action on the host again, which the C library has changed: with the first thread
    /// it takes a signal for itself that is the program's as well.
    pub fn renew(&self, signal: u32) {
        // The action was good before.
        let _ = self.set_on_host(signal, &self.get(signal));
    }

    /// From now on every signal has a handler of ours, also those that the program leaves alone.
    pub fn take_all(&mut self) {
        self.traced = true;
        for signal in (1..=LAST).filter(|signal| (FAULTS | UNBLOCKABLE) & bit(*signal) == 0) {
            self.renew(signal);
        }
    }

    /// Whether every signal has a handler of ours.
    pub fn are_taken(&self) -> bool {
        self.traced
    }

    /// Leaves a signal to the host's default, until all are taken again.
    pub fn leave(&self, signal: u32) {
        leave_to_host(signal);
    }

    /// The default action again, after a signal whose handler is for one.
    pub fn forget(&mut self, signal: u32) {
        let action = Action { handler: DEFAULT, ..self.get(signal) };
        // The signal and the action were good before.
        let _ = self.set(signal, action);
    }

    /// The same on the host: our handler where the program has one.
    fn set_on_host(&self, signal: u32, action: &Action) -> Result<(), Errno> {
        let kept = action.flags & (flags::NOCLDSTOP | flags::NOCLDWAIT | flags::RESTART);
        let host = match action.handler {
            DEFAULT | IGNORE if self.traced => {
                let no_children = action.handler == IGNORE && signal == libc::SIGCHLD as u32;
                let more = if no_children { flags::NOCLDWAIT } else { 0 };
                ours(handler_address(), kept | flags::RESTART | more)
            }
            DEFAULT if self.taken & bit(signal) != 0 => ours(handler_address(), flags::RESTART),
            DEFAULT | IGNORE => {
                HostAction { handler: action.handler, flags: kept, ..HostAction::default() }
            }
            _ => ours(handler_address(), kept),
        };
        change(signal, Some(&host)).map(|_| ())
    }

    /// Whether nothing at all happens when the signal comes.
    pub fn ignores(&self, signal: u32) -> bool {
        const QUIET: SignalSet = bit(libc::SIGCHLD as u32)
            | bit(libc::SIGCONT as u32)
            | bit(libc::SIGURG as u32)
            | bit(libc::SIGWINCH as u32);
        match self.get(signal).handler {
            IGNORE => true,
            DEFAULT => QUIET & bit(signal) != 0,
            _ => false,
        }
    }
}

/// An action with a handler of ours, on the thread's alternate stack: translated code has a small
/// one. No other signal comes while it runs.
#[cfg(target_arch = "x86_64")]
fn ours(handler: u64, kept: u64) -> HostAction {
    let restorer = tinamou_sigreturn as *const () as u64;
    let flags = kept | flags::SIGINFO | flags::RESTORER | flags::ONSTACK;
    HostAction { handler, flags, restorer, mask: !FAULTS }
}

#[cfg(not(target_arch = "x86_64"))]
fn ours(handler: u64, kept: u64) -> HostAction {
    let flags = kept | flags::SIGINFO | flags::ONSTACK;
    HostAction { handler, flags, restorer: 0, mask: !FAULTS }
}

/// Installs a handler of ours.
pub(super) fn install(signal: u32, handler: u64) {
    let done = change(signal, Some(&ours(handler, flags::RESTART)));
    done.expect("the signal can be handled");
}

/// Leaves a signal to the host's default from now on, so that it ends the process.
pub(super) fn leave_to_host(signal: u32) {
    let _ = change(signal, Some(&HostAction::default()));
}

/// Ignores a signal on the host, for programs that are executed.
pub(super) fn ignore_on_host(signal: u32) {
    let _ = change(signal, Some(&HostAction { handler: IGNORE, ..HostAction::default() }));
}
