//! The host's side: handlers that note a signal for the thread it comes to.
#![expect(unsafe_code, reason = "signal handlers get raw pointers")]

use super::FAULTS;
use super::info::{INFO_LEN, Info};
use crate::ptrace::block::{ASK_CODE, STOP_CODE};
use crate::sys::{self, SignalSet, interrupted_exit};
use runtime::Kicker;
use std::cell::{Cell, UnsafeCell};
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Room for one signal.
struct Slot {
    full: AtomicU32,
    info: UnsafeCell<Info>,
}

impl Slot {
    const fn new() -> Self {
        Self { full: AtomicU32::new(0), info: UnsafeCell::new(Info([0; INFO_LEN])) }
    }

    fn is_full(&self) -> bool {
        self.full.load(Ordering::Acquire) != 0
    }

    /// Fills it, in a handler; if it is full, the signals are one, as those of a pending set are.
    fn fill(&self, info: Info) {
        if !self.is_full() {
            // SAFETY: the slot is empty; its thread reads it only once it is full, and is the one
            // that this handler interrupts.
            unsafe { *self.info.get() = info };
            self.full.store(1, Ordering::Release);
        }
    }

    fn take(&self) -> Option<Info> {
        if !self.is_full() {
            return None;
        }
        // SAFETY: the slot is full, so no handler touches it.
        let info = unsafe { *self.info.get() };
        self.full.store(0, Ordering::Release);
        Some(info)
    }
}

/// What came for a thread and was not delivered yet.
pub struct Waiting {
    /// Whether the thread has to look before it goes on with the program.
    pub flag: AtomicU32,
    /// A signal. While it is full, every other is held back on the host.
    slot: Slot,
    /// Signals of faults that somebody sent: they cannot be held back on the host.
    sent_faults: [Slot; 2],
    /// What a tracer asked for: bits of [`crate::ptrace::block::ask`].
    pub asked: AtomicU32,
    /// Code, sender and user of a SIGSTOP that it asked for.
    asked_stop: [AtomicU32; 3],
    kick: UnsafeCell<Option<Kicker>>,
}

// SAFETY: cells are used by the thread they belong to and by handlers that interrupt it; the slots'
// flags say whose turn it is.
unsafe impl Sync for Waiting {}
// SAFETY: as above; it is handed to its thread before that thread adopts it.
unsafe impl Send for Waiting {}

thread_local! {
    static MINE: Cell<*const Waiting> = const { Cell::new(std::ptr::null()) };
}

/// The signals of faults, in the order of their slots.
const FAULT_SIGNALS: [i32; 2] = [libc::SIGSEGV, libc::SIGBUS];

impl Default for Waiting {
    fn default() -> Self {
        Self {
            flag: AtomicU32::new(0),
            slot: Slot::new(),
            sent_faults: [Slot::new(), Slot::new()],
            asked: AtomicU32::new(0),
            asked_stop: [const { AtomicU32::new(0) }; 3],
            kick: UnsafeCell::new(None),
        }
    }
}

impl Waiting {
    /// Takes a signal that came and that is not in `mask`, if there is one.
    pub fn take(&self, mask: SignalSet) -> Option<Info> {
        let open = |n: &usize| mask & super::bit(FAULT_SIGNALS[*n].cast_unsigned()) == 0;
        let sent = || (0..2).filter(open).find_map(|n| self.sent_faults[n].take());
        self.slot.take().or_else(sent)
    }

    /// Whether [`Waiting::take`] would find one.
    pub fn some(&self, mask: SignalSet) -> bool {
        let open = |n: usize| mask & super::bit(FAULT_SIGNALS[n].cast_unsigned()) == 0;
        self.slot.is_full() || (0..2).any(|n| open(n) && self.sent_faults[n].is_full())
    }

    /// Signals of faults that were sent and are held back.
    pub fn pending(&self) -> SignalSet {
        let full = (0..2).filter(|n| self.sent_faults[*n].is_full());
        full.map(|n| super::bit(FAULT_SIGNALS[n].cast_unsigned())).sum()
    }

    /// Takes what a tracer asked for, with the siginfo of a SIGSTOP if that is among it.
    pub fn take_asked(&self) -> (u32, Info) {
        let asked = match self.asked.load(Ordering::Acquire) {
            0 => 0,
            _ => self.asked.swap(0, Ordering::AcqRel),
        };
        let [code, sender, user] =
            self.asked_stop.each_ref().map(|word| word.load(Ordering::Acquire).cast_signed());
        let info = Info::new(libc::SIGSTOP as u32, code).with_words(&[(16, sender), (20, user)]);
        (asked, info)
    }

    /// Notes what a tracer asks for, in a handler.
    fn ask(&self, info: &Info) {
        // The code of a SIGSTOP is where error numbers are.
        for (word, at) in self.asked_stop.iter().zip([4, 16, 20]) {
            word.store(info.word_at(at).cast_unsigned(), Ordering::Release);
        }
        self.asked.fetch_or(info.value() as u32, Ordering::AcqRel);
    }

    fn ring(&self) {
        self.flag.store(1, Ordering::Release);
        // SAFETY: the cell was filled before the thread took signals and stays as it is.
        if let Some(kick) = unsafe { &*self.kick.get() } {
            kick.kick();
        }
    }
}

/// What marks a signal of ours, by its address.
static MARK: u8 = 0;

/// Has a thread leave a system call that has not been made, as if a signal had come.
pub fn break_call(tid: u32, waiting: &Waiting) {
    waiting.ring();
    let mut info = Info::new(libc::SIGSEGV as u32, libc::SI_QUEUE);
    info.set_value(&raw const MARK as u64);
    let at = &raw const info as u64;
    let args = [sys::getpid().into(), tid.into(), libc::SIGSEGV as u64, at, 0, 0];
    // A thread that is gone is in no call.
    let _ = sys::call(libc::SYS_rt_tgsigqueueinfo, args);
}

/// Whether a signal is one that [`break_call`] sent.
fn is_ours(info: &Info) -> bool {
    info.code() == libc::SI_QUEUE
        && info.sender() == sys::getpid().cast_signed()
        && info.value() == &raw const MARK as u64
}

/// From now on, signals that come to this thread are noted in `waiting`, and `kick` ends its run.
/// The caller keeps the value as long as the thread takes signals.
pub fn adopt(waiting: &Arc<Waiting>, kick: Kicker) {
    // SAFETY: no handler uses this cell before `MINE` leads to it.
    unsafe { *waiting.kick.get() = Some(kick) };
    MINE.set(Arc::as_ptr(waiting));
}

/// Holds back every signal but those of faults: those held back before.
pub fn block_all() -> SignalSet {
    sys::set_signal_mask(!FAULTS)
}

/// Address of the handler of everything but faults.
pub(super) fn handler_address() -> u64 {
    note as *const () as u64
}

/// Notes a signal, and holds back all others.
extern "C" fn note(signal: i32, info: *const Info, context: *mut c_void) {
    // SAFETY: the kernel passes a whole siginfo.
    let code = unsafe { (*info).code() };
    if code > 0 && [libc::SIGILL, libc::SIGFPE].contains(&signal) {
        // A fault of our own, for the program's are told in other ways: it happens again and ends the process.
        return super::action::leave_to_host(signal.cast_unsigned());
    }
    // SAFETY: the value lives as long as the thread takes signals (see `adopt`).
    if let Some(waiting) = unsafe { MINE.get().as_ref() } {
        // SAFETY: the kernel passes a whole siginfo.
        waiting.slot.fill(unsafe { *info });
        waiting.ring();
    }
    let context = context.cast::<libc::ucontext_t>();
    // SAFETY: the kernel passes a whole context, of whose set it uses the first eight bytes.
    let set = unsafe { &raw mut (*context).uc_sigmask }.cast::<SignalSet>();
    // SAFETY: as above.
    unsafe { *set = !FAULTS };
    leave_call(context);
}

/// Makes a system call that was not entered yet read as not made.
#[cfg(target_arch = "x86_64")]
fn leave_call(context: *mut libc::ucontext_t) {
    // SAFETY: the kernel passed a whole context.
    let pc = unsafe { &mut (*context).uc_mcontext.gregs[libc::REG_RIP as usize] };
    if let Some(exit) = interrupted_exit(pc.cast_unsigned()) {
        *pc = exit.cast_signed();
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn leave_call(_: *mut libc::ucontext_t) {}

/// A fault, or its signal sent by somebody.
extern "C" fn fault(signal: i32, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a whole siginfo.
    let told = unsafe { *info.cast::<Info>() };
    if told.code() == STOP_CODE {
        // A stop that no tracer took.
        return;
    }
    if told.code() == ASK_CODE {
        // SAFETY: as in `note`.
        if let Some(waiting) = unsafe { MINE.get().as_ref() } {
            waiting.ask(&told);
            waiting.ring();
            leave_call(context.cast());
        }
        return;
    }
    // SAFETY: these are the arguments of a handler.
    if unsafe { runtime::handle_fault(signal, info, context) } {
        return;
    }
    // SAFETY: the kernel passes a whole siginfo.
    let sent = unsafe { (*info).si_code } <= 0;
    // SAFETY: as in `note`.
    let waiting = unsafe { MINE.get().as_ref() };
    match waiting {
        // SAFETY: the kernel passes a whole siginfo.
        Some(waiting) if sent && is_ours(unsafe { &*info.cast::<Info>() }) => {
            waiting.ring();
            leave_call(context.cast());
        }
        Some(waiting) if sent => {
            let slot = usize::from(signal == FAULT_SIGNALS[1]);
            // SAFETY: the kernel passes a whole siginfo.
            waiting.sent_faults[slot].fill(unsafe { *info.cast::<Info>() });
            waiting.ring();
            leave_call(context.cast());
        }
        // A fault of our own: the instruction faults again and ends the process.
        _ => super::action::leave_to_host(signal.cast_unsigned()),
    }
}

/// Installs the handlers of faults, in place of the translator's, which they call.
pub fn install_faults() {
    for signal in FAULT_SIGNALS {
        super::action::install(signal.cast_unsigned(), fault as *const () as u64);
    }
}
