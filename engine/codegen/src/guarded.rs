//! Accesses to host memory that may not be there: a fault of the host is an error, not the end.
//!
//! Each access is one instruction in a routine of known address. A signal handler that meets a fault
//! there hands it to [`recover`], which makes the routine return the fault. Without such a handler,
//! and on hosts other than x86-64, a fault ends the process as it always does.
#![expect(unsafe_code, reason = "memory that others map and unmap is reached at host addresses")]

use std::ffi::c_void;

/// What the host found wrong with an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostFault {
    /// The page is not mapped or not for this kind of access (SIGSEGV).
    Access,
    /// The page is mapped, but what it showed is gone (SIGBUS).
    Bus,
}

/// A routine's answer: a value, and 0 or the number of the signal.
#[repr(C)]
struct Answer {
    value: u64,
    signal: u64,
}

impl Answer {
    fn result(self) -> Result<u64, HostFault> {
        match self.signal {
            0 => Ok(self.value),
            signal if signal == libc::SIGBUS as u64 => Err(HostFault::Bus),
            _ => Err(HostFault::Access),
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod routines {
    use super::Answer;

    // Leaf routines that leave the stack alone, so that whoever faults can return at once, the signal
    // in rdx. `copy` counts down in rcx; the wide exchange has rbx in r8.
    std::arch::global_asm!(
        ".pushsection .text.tinamou_guarded,\"ax\",@progbits",
        ".balign 16",
        ".irp name, start, load1, load2, load4, load8, store1, store2, store4, store8, swap1, swap2, swap4, swap8, return, end, copy, copied, copy_end, swap16, wide, wide_fault",
        ".globl tinamou_guarded_\\name",
        ".hidden tinamou_guarded_\\name",
        ".endr",
        "tinamou_guarded_start:",
        "tinamou_guarded_load1: xor edx, edx",
        "movzx eax, byte ptr [rdi]",
        "ret",
        "tinamou_guarded_load2: xor edx, edx",
        "movzx eax, word ptr [rdi]",
        "ret",
        "tinamou_guarded_load4: xor edx, edx",
        "mov eax, [rdi]",
        "ret",
        "tinamou_guarded_load8: xor edx, edx",
        "mov rax, [rdi]",
        "ret",
        "tinamou_guarded_store1: xor edx, edx",
        "mov [rdi], sil",
        "ret",
        "tinamou_guarded_store2: xor edx, edx",
        "mov [rdi], si",
        "ret",
        "tinamou_guarded_store4: xor edx, edx",
        "mov [rdi], esi",
        "ret",
        "tinamou_guarded_store8: xor edx, edx",
        "mov [rdi], rsi",
        "ret",
        "tinamou_guarded_swap1: mov rax, rsi",
        "mov rcx, rdx",
        "xor edx, edx",
        "lock cmpxchg [rdi], cl",
        "movzx eax, al",
        "ret",
        "tinamou_guarded_swap2: mov rax, rsi",
        "mov rcx, rdx",
        "xor edx, edx",
        "lock cmpxchg [rdi], cx",
        "movzx eax, ax",
        "ret",
        "tinamou_guarded_swap4: mov eax, esi",
        "mov rcx, rdx",
        "xor edx, edx",
        "lock cmpxchg [rdi], ecx",
        "mov eax, eax",
        "ret",
        "tinamou_guarded_swap8: mov rax, rsi",
        "mov rcx, rdx",
        "xor edx, edx",
        "lock cmpxchg [rdi], rcx",
        "tinamou_guarded_return: ret",
        "tinamou_guarded_end:",
        "tinamou_guarded_copy: mov rcx, rdx",
        "xor edx, edx",
        "rep movsb",
        "tinamou_guarded_copied: mov rax, rcx",
        "ret",
        "tinamou_guarded_copy_end:",
        // rdi: the place; rsi: expected and new value, four words, the first two of which become
        // what was there.
        "tinamou_guarded_swap16: mov r8, rbx",
        "mov rax, [rsi]",
        "mov rdx, [rsi + 8]",
        "mov rbx, [rsi + 16]",
        "mov rcx, [rsi + 24]",
        "tinamou_guarded_wide: lock cmpxchg16b [rdi]",
        "mov rbx, r8",
        "mov [rsi], rax",
        "mov [rsi + 8], rdx",
        "xor edx, edx",
        "ret",
        "tinamou_guarded_wide_fault: mov rbx, r8",
        "ret",
        ".popsection",
    );

    unsafe extern "sysv64" {
        pub(super) safe fn tinamou_guarded_start();
        pub(super) safe fn tinamou_guarded_end();
        pub(super) safe fn tinamou_guarded_return();
        pub(super) safe fn tinamou_guarded_copied();
        pub(super) safe fn tinamou_guarded_copy_end();
        pub(super) safe fn tinamou_guarded_wide();
        pub(super) safe fn tinamou_guarded_wide_fault();
        pub(super) fn tinamou_guarded_load1(at: u64) -> Answer;
        pub(super) fn tinamou_guarded_load2(at: u64) -> Answer;
        pub(super) fn tinamou_guarded_load4(at: u64) -> Answer;
        pub(super) fn tinamou_guarded_load8(at: u64) -> Answer;
        pub(super) fn tinamou_guarded_store1(at: u64, value: u64) -> Answer;
        pub(super) fn tinamou_guarded_store2(at: u64, value: u64) -> Answer;
        pub(super) fn tinamou_guarded_store4(at: u64, value: u64) -> Answer;
        pub(super) fn tinamou_guarded_store8(at: u64, value: u64) -> Answer;
        pub(super) fn tinamou_guarded_swap1(at: u64, expected: u64, new: u64) -> Answer;
        pub(super) fn tinamou_guarded_swap2(at: u64, expected: u64, new: u64) -> Answer;
        pub(super) fn tinamou_guarded_swap4(at: u64, expected: u64, new: u64) -> Answer;
        pub(super) fn tinamou_guarded_swap8(at: u64, expected: u64, new: u64) -> Answer;
        pub(super) fn tinamou_guarded_swap16(at: u64, values: *mut [u64; 4]) -> Answer;
        pub(super) fn tinamou_guarded_copy(to: u64, from: u64, len: u64) -> Answer;
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod routines {
    //! The same without recovery from faults.
    use super::Answer;
    use portable_atomic::AtomicU128;
    use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

    fn done(value: u64) -> Answer {
        Answer { value, signal: 0 }
    }

    macro_rules! sized {
        ($($load:ident $store:ident $swap:ident $t:ty, $atomic:ty;)*) => { $(
            pub(super) unsafe fn $load(at: u64) -> Answer {
                let pointer = at as *mut $t;
                if pointer.is_aligned() {
                    // SAFETY: the caller's promise.
                    let cell = unsafe { <$atomic>::from_ptr(pointer) };
                    return done(<$t>::from_le(cell.load(Ordering::Relaxed)).into());
                }
                // SAFETY: the caller's promise; a byte array needs no alignment.
                let bytes = unsafe { pointer.cast::<[u8; size_of::<$t>()]>().read_volatile() };
                done(<$t>::from_le_bytes(bytes).into())
            }
            pub(super) unsafe fn $store(at: u64, value: u64) -> Answer {
                let pointer = at as *mut $t;
                if pointer.is_aligned() {
                    // SAFETY: the caller's promise.
                    let cell = unsafe { <$atomic>::from_ptr(pointer) };
                    cell.store((value as $t).to_le(), Ordering::Relaxed);
                    return done(0);
                }
                let bytes = (value as $t).to_le_bytes();
                // SAFETY: as above; a byte array needs no alignment.
                unsafe { pointer.cast::<[u8; size_of::<$t>()]>().write_volatile(bytes) };
                done(0)
            }
            pub(super) unsafe fn $swap(at: u64, expected: u64, new: u64) -> Answer {
                // SAFETY: the caller's promise, alignment included.
                let cell = unsafe { <$atomic>::from_ptr(at as *mut $t) };
                let (expected, new) = ((expected as $t).to_le(), (new as $t).to_le());
                let old =
                    cell.compare_exchange(expected, new, Ordering::SeqCst, Ordering::SeqCst);
                done(<$t>::from_le(old.unwrap_or_else(|old| old)).into())
            }
        )* };
    }
    sized! {
        tinamou_guarded_load1 tinamou_guarded_store1 tinamou_guarded_swap1 u8, AtomicU8;
        tinamou_guarded_load2 tinamou_guarded_store2 tinamou_guarded_swap2 u16, AtomicU16;
        tinamou_guarded_load4 tinamou_guarded_store4 tinamou_guarded_swap4 u32, AtomicU32;
        tinamou_guarded_load8 tinamou_guarded_store8 tinamou_guarded_swap8 u64, AtomicU64;
    }

    pub(super) unsafe fn tinamou_guarded_swap16(at: u64, values: *mut [u64; 4]) -> Answer {
        // SAFETY: the caller's own.
        let values = unsafe { &mut *values };
        let wide = |low: u64, high: u64| u128::from(low) | u128::from(high) << 64;
        // SAFETY: the caller's promise, alignment included.
        let cell = unsafe { AtomicU128::from_ptr(at as *mut u128) };
        let (expected, new) =
            (wide(values[0], values[1]).to_le(), wide(values[2], values[3]).to_le());
        let old = cell.compare_exchange(expected, new, Ordering::SeqCst, Ordering::SeqCst);
        let old = u128::from_le(old.unwrap_or_else(|old| old));
        (values[0], values[1]) = (old as u64, (old >> 64) as u64);
        done(0)
    }

    pub(super) unsafe fn tinamou_guarded_copy(to: u64, from: u64, len: u64) -> Answer {
        // SAFETY: the caller's promise.
        unsafe { std::ptr::copy(from as *const u8, to as *mut u8, len as usize) };
        done(0)
    }
}

/// Loads `size` (1, 2, 4, 8) bytes, in one piece when aligned.
///
/// # Errors
/// What the host found wrong.
///
/// # Safety
/// If something of the emulator's own is mapped there, it may be read by anybody at any time.
pub unsafe fn load(at: u64, size: u32) -> Result<u64, HostFault> {
    let routine = match size {
        1 => routines::tinamou_guarded_load1,
        2 => routines::tinamou_guarded_load2,
        4 => routines::tinamou_guarded_load4,
        _ => routines::tinamou_guarded_load8,
    };
    // SAFETY: the caller's promise.
    unsafe { routine(at) }.result()
}

/// Stores the low `size` (1, 2, 4, 8) bytes of a value, in one piece when aligned.
///
/// # Errors
/// What the host found wrong.
///
/// # Safety
/// Nothing of the emulator's own is mapped there.
pub unsafe fn store(at: u64, size: u32, value: u64) -> Result<(), HostFault> {
    let routine = match size {
        1 => routines::tinamou_guarded_store1,
        2 => routines::tinamou_guarded_store2,
        4 => routines::tinamou_guarded_store4,
        _ => routines::tinamou_guarded_store8,
    };
    // SAFETY: the caller's promise.
    unsafe { routine(at, value) }.result().map(drop)
}

/// Atomically replaces a value of `size` (1, 2, 4, 8) bytes if it is as expected: what was there,
/// zero-extended. The operands are, too.
///
/// # Errors
/// What the host found wrong.
///
/// # Safety
/// Nothing of the emulator's own is mapped there; aligned, on hosts other than x86-64.
pub unsafe fn exchange(at: u64, size: u32, expected: u64, new: u64) -> Result<u64, HostFault> {
    let routine = match size {
        1 => routines::tinamou_guarded_swap1,
        2 => routines::tinamou_guarded_swap2,
        4 => routines::tinamou_guarded_swap4,
        _ => routines::tinamou_guarded_swap8,
    };
    // SAFETY: the caller's promise.
    unsafe { routine(at, expected, new) }.result()
}

/// The same with 16 bytes, which are aligned.
///
/// # Errors
/// What the host found wrong.
///
/// # Safety
/// Nothing of the emulator's own is mapped there, and the address is a multiple of 16.
pub unsafe fn exchange_wide(at: u64, expected: u128, new: u128) -> Result<u128, HostFault> {
    let mut values = [expected as u64, (expected >> 64) as u64, new as u64, (new >> 64) as u64];
    // SAFETY: the caller's promise; the values are borrowed for the call.
    unsafe { routines::tinamou_guarded_swap16(at, &raw mut values) }.result()?;
    Ok(u128::from(values[0]) | u128::from(values[1]) << 64)
}

/// Copies bytes forwards.
///
/// # Errors
/// What the host found wrong, and how many bytes were copied before.
///
/// # Safety
/// Nothing of the emulator's own is mapped at `to` but what the caller may write, nor at `from` but
/// what it may read.
pub unsafe fn copy(to: u64, from: u64, len: u64) -> Result<(), (u64, HostFault)> {
    // SAFETY: the caller's promise.
    let answer = unsafe { routines::tinamou_guarded_copy(to, from, len) };
    let done = len - answer.value;
    answer.result().map(drop).map_err(|fault| (done, fault))
}

/// Where the host was when it took a signal, as `context` (of `sigaction(2)`) says.
///
/// # Safety
/// `context` is what the kernel handed to the signal handler that calls.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub unsafe fn interrupted_at(context: *mut c_void) -> u64 {
    // SAFETY: the caller's promise.
    let context = unsafe { &*context.cast::<libc::ucontext_t>() };
    context.uc_mcontext.gregs[libc::REG_RIP as usize].cast_unsigned()
}

/// Makes the interrupted code go on at `pc` with `rax`.
///
/// # Safety
/// As for [`interrupted_at`]; the code at `pc` can go on from there.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub unsafe fn go_on_at(context: *mut c_void, pc: u64, rax: u64) {
    // SAFETY: the caller's promise.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    context.uc_mcontext.gregs[libc::REG_RIP as usize] = pc.cast_signed();
    context.uc_mcontext.gregs[libc::REG_RAX as usize] = rax.cast_signed();
}

/// If the signal came from an access of this module, makes it return the fault; whether it did.
///
/// # Safety
/// As for [`interrupted_at`].
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub unsafe fn recover(context: *mut c_void, signal: i32) -> bool {
    // SAFETY: the caller's promise.
    let pc = unsafe { interrupted_at(context) };
    let at = |label: extern "sysv64" fn()| label as *const () as u64;
    let to =
        if (at(routines::tinamou_guarded_start)..at(routines::tinamou_guarded_end)).contains(&pc) {
            routines::tinamou_guarded_return
        } else if (at(routines::tinamou_guarded_end)..at(routines::tinamou_guarded_copy_end))
            .contains(&pc)
        {
            routines::tinamou_guarded_copied
        } else if pc == at(routines::tinamou_guarded_wide) {
            routines::tinamou_guarded_wide_fault
        } else {
            return false;
        };
    // SAFETY: as above.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    context.uc_mcontext.gregs[libc::REG_RIP as usize] = at(to).cast_signed();
    context.uc_mcontext.gregs[libc::REG_RDX as usize] = signal.into();
    true
}

/// The base of segment gs of the calling thread, for [`Memory::Window`](crate::Memory::Window).
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub fn set_window(base: u64) {
    const ARCH_SET_GS: libc::c_long = 0x1001;
    // SAFETY: nothing on this host uses gs in user space but our generated code.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_GS, base) };
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
mod elsewhere {
    use super::c_void;

    /// Nowhere that anybody knows.
    ///
    /// # Safety
    /// None is needed.
    pub unsafe fn interrupted_at(_: *mut c_void) -> u64 {
        0
    }
    /// Nothing.
    ///
    /// # Safety
    /// None is needed.
    pub unsafe fn go_on_at(_: *mut c_void, _: u64, _: u64) {}
    /// Nothing.
    ///
    /// # Safety
    /// None is needed.
    pub unsafe fn recover(_: *mut c_void, _: i32) -> bool {
        false
    }
    /// Nothing.
    pub fn set_window(_: u64) {}
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub use elsewhere::{go_on_at, interrupted_at, recover, set_window};
