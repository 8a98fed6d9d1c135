//! System calls that a signal reaches either before or after, never in between.
//!
//! A thread that looks whether a signal is waiting and then makes a call that blocks would lose
//! the signal that comes between the two. So the look and the call lie in a function whose bounds
//! are known: the handler that interrupts it before the kernel has been entered (or was about to
//! enter it again) moves it to its exit, and the call reads as not having been made.
#![expect(unsafe_code, reason = "a function whose instructions have known places")]

use crate::errno::{Done, Errno};
use std::sync::atomic::AtomicU32;

#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    ".balign 16",
    ".hidden tinamou_syscall, tinamou_syscall_done, tinamou_syscall_interrupted",
    ".globl tinamou_syscall, tinamou_syscall_done, tinamou_syscall_interrupted",
    "tinamou_syscall:",
    // rdi: the flag, rsi: the number, rdx: six arguments.
    "mov r11, rdi",
    "mov rax, rsi",
    "mov rcx, rdx",
    "mov rdi, [rcx]",
    "mov rsi, [rcx + 8]",
    "mov rdx, [rcx + 16]",
    "mov r10, [rcx + 24]",
    "mov r8, [rcx + 32]",
    "mov r9, [rcx + 40]",
    "cmp dword ptr [r11], 0",
    "jne tinamou_syscall_interrupted",
    "syscall",
    "tinamou_syscall_done:",
    "ret",
    "tinamou_syscall_interrupted:",
    "mov rax, -512",
    "ret",
);

#[cfg(target_arch = "x86_64")]
unsafe extern "sysv64" {
    fn tinamou_syscall(flag: *const AtomicU32, number: i64, args: *const [u64; 6]) -> i64;
    fn tinamou_syscall_done();
    fn tinamou_syscall_interrupted();
}

/// Makes a system call unless `waiting` is set; [`Errno::RESTART`] if it was not made.
#[cfg(target_arch = "x86_64")]
pub fn interruptible(waiting: &AtomicU32, number: i64, args: [u64; 6]) -> Done {
    // SAFETY: the references live until the call returns; what the guest's pointers lead to is
    // checked by whoever makes the call.
    match unsafe { tinamou_syscall(waiting, number, &raw const args) } {
        -512 => Err(Errno::RESTART),
        value => Errno::check(value),
    }
}

/// Where a thread interrupted at `pc` has to go on, if that is inside of the function and before
/// the kernel did anything.
#[cfg(target_arch = "x86_64")]
pub fn interrupted_exit(pc: u64) -> Option<u64> {
    let start = tinamou_syscall as *const () as u64;
    let done = tinamou_syscall_done as *const () as u64;
    (start..done).contains(&pc).then_some(tinamou_syscall_interrupted as *const () as u64)
}

/// Without the function: a signal between the look and the call waits for the call's end.
#[cfg(not(target_arch = "x86_64"))]
pub fn interruptible(waiting: &AtomicU32, number: i64, args: [u64; 6]) -> Done {
    match waiting.load(std::sync::atomic::Ordering::SeqCst) {
        0 => super::call(number, args),
        _ => Err(Errno::RESTART),
    }
}

/// There is no such place.
#[cfg(not(target_arch = "x86_64"))]
pub fn interrupted_exit(_pc: u64) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_made_unless_something_waits() {
        let waiting = AtomicU32::new(0);
        let pid = u64::from(std::process::id());
        assert_eq!(interruptible(&waiting, libc::SYS_getpid, [0; 6]), Ok(pid));
        let closed = interruptible(&waiting, libc::SYS_close, [u64::MAX, 0, 0, 0, 0, 0]);
        assert_eq!(closed, Err(Errno::EBADF));
        waiting.store(1, std::sync::atomic::Ordering::SeqCst);
        assert_eq!(interruptible(&waiting, libc::SYS_getpid, [0; 6]), Err(Errno::RESTART));
    }
}
