//! Faults of the host while generated code or the runtime reach guest memory: a handler of SIGSEGV and
//! SIGBUS for the process, and what it knows of each thread.
#![expect(unsafe_code, reason = "signal handlers change the context they interrupted")]

use crate::cache::CodeCache;
use codegen::guarded;
use std::cell::Cell;
use std::ffi::c_void;
use std::sync::OnceLock;

thread_local! {
    /// The cache whose code this thread is running.
    static RUNNING: Cell<*const CodeCache> = const { Cell::new(std::ptr::null()) };
    /// The base of segment gs that this thread has.
    static WINDOW: Cell<u64> = const { Cell::new(0) };
}

const SIGNALS: [i32; 2] = [libc::SIGSEGV, libc::SIGBUS];

/// What was to be done with the signals before; by their place in [`SIGNALS`].
static BEFORE: OnceLock<[libc::sigaction; 2]> = OnceLock::new();

/// This thread's stay in the code of a process.
pub(crate) struct Running;

impl Running {
    /// From now on, faults in code of `cache` lead to its slow path. It outlives the result.
    pub(crate) fn begin(cache: &CodeCache, window: Option<u64>) -> Self {
        RUNNING.set(std::ptr::from_ref(cache));
        if let Some(base) = window
            && WINDOW.replace(base) != base
        {
            guarded::set_window(base);
        }
        Self
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.set(std::ptr::null());
    }
}

/// In a handler of SIGSEGV or SIGBUS that was set up with `SA_SIGINFO`: if the signal is a fault of an
/// access to guest memory, changes the interrupted context so that the access's slow path serves it.
/// False if it is not: then it is the emulator's own, or was sent by somebody.
///
/// Calls nothing that is not safe in signal handlers, but may wait for other threads that translate.
///
/// # Safety
/// The arguments are those of the handler.
pub unsafe fn handle_fault(signal: i32, info: *mut libc::siginfo_t, context: *mut c_void) -> bool {
    // SAFETY: the kernel handed out a valid structure.
    if unsafe { (*info).si_code } <= 0 {
        return false;
    }
    // SAFETY: the caller's promise.
    if unsafe { guarded::recover(context, signal) } {
        return true;
    }
    let cache = RUNNING.get();
    if cache.is_null() {
        return false;
    }
    // SAFETY: as above.
    let pc = unsafe { guarded::interrupted_at(context) };
    // SAFETY: `Running::begin` was given a reference that is good until the pointer is taken away.
    let Some((to, site)) = unsafe { &*cache }.slow_path_of(pc) else { return false };
    // SAFETY: the thunk expects the site in rax, as at each jump to it.
    unsafe { guarded::go_on_at(context, to, site) };
    true
}

extern "C" fn on_signal(signal: i32, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: these are the arguments of a handler.
    if unsafe { handle_fault(signal, info, context) } {
        return;
    }
    let place = usize::from(signal == SIGNALS[1]);
    let Some(before) = BEFORE.get().map(|all| &all[place]) else { return };
    let handler = before.sa_sigaction;
    if handler == libc::SIG_DFL || handler == libc::SIG_IGN {
        // The instruction faults again and ends the process.
        // SAFETY: the structure is one that the kernel gave out.
        unsafe { libc::sigaction(signal, before, std::ptr::null_mut()) };
    } else if before.sa_flags & libc::SA_SIGINFO != 0 {
        type Handler = extern "C" fn(i32, *mut libc::siginfo_t, *mut c_void);
        // SAFETY: with SA_SIGINFO, handlers are of this type.
        let handler: Handler = unsafe { std::mem::transmute(handler) };
        handler(signal, info, context);
    } else {
        // SAFETY: without it, of this one.
        let handler: extern "C" fn(i32) = unsafe { std::mem::transmute(handler) };
        handler(signal);
    }
}

/// Sets up the process's handlers of SIGSEGV and SIGBUS; those that were there before get what is not
/// a fault of guest memory. Once is enough; who sets up other handlers afterwards calls
/// [`handle_fault`] in them.
pub(crate) fn install() {
    BEFORE.get_or_init(|| {
        SIGNALS.map(|signal| {
            // SAFETY: all zeros is a valid structure: the default action, no flags.
            let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
            // SAFETY: as above.
            let mut before: libc::sigaction = unsafe { std::mem::zeroed() };
            action.sa_sigaction = on_signal as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            // SAFETY: the handler changes nothing but the interrupted context, and only where it knows
            // the code.
            unsafe { libc::sigaction(signal, &raw const action, &raw mut before) };
            before
        })
    });
}
