//! Signals: see [`crate::signal`] for how they come.

use super::int;
use super::time::{Seconds, Timeout};
use crate::errno::{Done, Errno};
use crate::signal::{self, Action, Alternate, FAULTS, INFO_LEN, LAST, UNBLOCKABLE, flags};
use crate::sys::SignalSet;
use crate::thread::Thread;

type Args = [u64; 6];

/// Bytes of a set of signals.
const SET: u64 = 8;

pub fn kill(thread: &mut Thread, args: &Args) -> Done {
    thread.host(libc::SYS_kill, *args)
}

pub fn tkill(thread: &mut Thread, args: &Args) -> Done {
    thread.host(libc::SYS_tkill, *args)
}

pub fn tgkill(thread: &mut Thread, args: &Args) -> Done {
    thread.host(libc::SYS_tgkill, *args)
}

pub fn rt_sigaction(thread: &mut Thread, args: &Args) -> Done {
    let [signal, new, old, len, ..] = *args;
    let signal = int(signal).cast_unsigned();
    if len != SET || signal == 0 || signal > LAST {
        return Err(Errno::EINVAL);
    }
    let space = &thread.process.space;
    let restorer = thread.process.abi.has_restorer;
    let wide = thread.process.abi.wide();
    // Handler, flags, (trampoline), set.
    let words = if restorer { 3 } else { 2 };
    let before = thread.handlers().get(signal);
    if new != 0 {
        let mut fields = [0u64; 3];
        for (n, field) in fields.iter_mut().take(words).enumerate() {
            *field = match wide {
                true => space.read(new + 8 * n as u64)?,
                false => space.read::<u32>(new + 4 * n as u64)?.into(),
            };
        }
        let mask = space.read(new + words as u64 * thread.process.abi.word())?;
        let [handler, given, trampoline] = fields;
        let given = if restorer { given } else { given & !flags::RESTORER };
        let action = Action { handler, flags: given, mask, restorer: trampoline };
        thread.handlers().set(signal, action)?;
    }
    if old != 0 {
        let fields = [before.handler, before.flags, before.restorer];
        for (n, field) in fields.iter().take(words).enumerate() {
            match wide {
                true => space.write(old + 8 * n as u64, *field)?,
                false => space.write(old + 4 * n as u64, *field as u32)?,
            }
        }
        space.write(old + words as u64 * thread.process.abi.word(), before.mask)?;
    }
    Ok(0)
}

pub fn rt_sigprocmask(thread: &mut Thread, args: &Args) -> Done {
    let [how, new, old, len, ..] = *args;
    if len != SET {
        return Err(Errno::EINVAL);
    }
    let before = thread.mask;
    if new != 0 {
        let set: SignalSet = thread.process.space.read(new)?;
        let mask = match int(how) {
            libc::SIG_BLOCK => before | set,
            libc::SIG_UNBLOCK => before & !set,
            libc::SIG_SETMASK => set,
            _ => return Err(Errno::EINVAL),
        };
        if mask & !UNBLOCKABLE != before {
            thread.set_mask(mask);
        }
    }
    if old != 0 {
        thread.process.space.write(old, before)?;
    }
    Ok(0)
}

pub fn rt_sigpending(thread: &mut Thread, args: &Args) -> Done {
    let [to, len, ..] = *args;
    if len > SET {
        return Err(Errno::EINVAL);
    }
    let mut set: SignalSet = 0;
    thread.host(libc::SYS_rt_sigpending, [&raw mut set as u64, SET, 0, 0, 0, 0])?;
    set |= thread.waiting.pending();
    thread.process.space.write_bytes(to, &set.to_le_bytes()[..len as usize])?;
    Ok(0)
}

pub fn rt_sigsuspend(thread: &mut Thread, args: &Args) -> Done {
    let [set, len, ..] = *args;
    if len != SET {
        return Err(Errno::EINVAL);
    }
    let set: SignalSet = thread.process.space.read(set)?;
    let open = thread.waiting.pending() & !set;
    if open != 0 {
        // One was sent that the host cannot hold back: it comes now.
        let kept = thread.mask;
        thread.set_mask(kept & !open);
        return Err(Errno::EINTR);
    }
    let host = set & !FAULTS;
    thread.host(libc::SYS_rt_sigsuspend, [&raw const host as u64, SET, 0, 0, 0, 0])
}

pub fn rt_sigtimedwait(thread: &mut Thread, args: &Args) -> Done {
    timed_wait(thread, args, Seconds::Narrow)
}

pub fn rt_sigtimedwait_time64(thread: &mut Thread, args: &Args) -> Done {
    timed_wait(thread, args, Seconds::Wide)
}

fn timed_wait(thread: &mut Thread, args: &Args, seconds: Seconds) -> Done {
    let [set, to, timeout, len, ..] = *args;
    if len != SET {
        return Err(Errno::EINVAL);
    }
    let space = &thread.process.space;
    let set: SignalSet = space.read(set)?;
    let mut timeout = Timeout::read(thread, timeout, seconds)?;
    let mut info = signal::Info::default();
    let host = [&raw const set as u64, &raw mut info as u64, timeout.pointer(), SET, 0, 0];
    let signal = thread.host(libc::SYS_rt_sigtimedwait, host)?;
    if to != 0 {
        space.write_bytes(to, &info.for_guest(thread.process.abi.wide()))?;
    }
    Ok(signal)
}

/// Reads a siginfo that a program made.
fn read_info(thread: &Thread, at: u64) -> Result<signal::Info, Errno> {
    let mut bytes = [0; INFO_LEN];
    thread.process.space.read_bytes(at, &mut bytes)?;
    if !thread.process.abi.wide() {
        // After the three numbers: process, user, value.
        let narrow = bytes;
        bytes[12..].fill(0);
        bytes[16..28].copy_from_slice(&narrow[12..24]);
    }
    Ok(signal::Info(bytes))
}

pub fn rt_sigqueueinfo(thread: &mut Thread, args: &Args) -> Done {
    let [pid, signal, info, ..] = *args;
    let info = read_info(thread, info)?;
    thread.host(libc::SYS_rt_sigqueueinfo, [pid, signal, &raw const info as u64, 0, 0, 0])
}

pub fn rt_tgsigqueueinfo(thread: &mut Thread, args: &Args) -> Done {
    let [group, tid, signal, info, ..] = *args;
    let info = read_info(thread, info)?;
    let at = &raw const info as u64;
    thread.host(libc::SYS_rt_tgsigqueueinfo, [group, tid, signal, at, 0, 0])
}

pub fn pidfd_send_signal(thread: &mut Thread, args: &Args) -> Done {
    let [fd, signal, info, flags, ..] = *args;
    if info == 0 {
        return thread.host(libc::SYS_pidfd_send_signal, *args);
    }
    let info = read_info(thread, info)?;
    let at = &raw const info as u64;
    thread.host(libc::SYS_pidfd_send_signal, [fd, signal, at, flags, 0, 0])
}

pub fn rt_sigreturn(thread: &mut Thread, _: &Args) -> Done {
    thread.leave_handler()
}

/// `stack_t`: base, flags, length.
pub fn sigaltstack(thread: &mut Thread, args: &Args) -> Done {
    const SS_DISABLE: u64 = 2;
    const SS_AUTODISARM: u64 = 1 << 31;
    const SMALLEST: u64 = 2048;
    let [new, old, ..] = *args;
    let space = &thread.process.space;
    let word = thread.process.abi.word();
    let stack = thread.cpu.stack();
    let before = thread.alternate;
    let read = |at: u64| -> Result<u64, Errno> {
        Ok(if word == 8 { space.read(at)? } else { space.read::<u32>(at)?.into() })
    };
    let mut wanted = None;
    if new != 0 {
        let (base, flags, len) =
            (read(new)?, u64::from(space.read::<u32>(new + word)?), read(new + 2 * word)?);
        if before.len != 0 && before.flags & SS_AUTODISARM == 0 && before.holds(stack) {
            return Err(Errno::EPERM);
        }
        wanted = Some(match flags & !SS_AUTODISARM {
            SS_DISABLE => Alternate::default(),
            0 | 1 if len < SMALLEST => return Err(Errno::ENOMEM),
            0 | 1 => Alternate { base, flags: flags & SS_AUTODISARM, len },
            _ => return Err(Errno::EINVAL),
        });
    }
    if old != 0 {
        let write = |at: u64, value: u64| match word {
            8 => space.write(at, value),
            _ => space.write(at, value as u32),
        };
        write(old, before.base)?;
        space.write(old + word, before.shown(stack) as u32)?;
        write(old + 2 * word, before.len)?;
    }
    if let Some(wanted) = wanted {
        thread.alternate = wanted;
    }
    Ok(0)
}

/// The kernel makes this call for programs that were stopped, and serves it itself.
pub fn restart_syscall(_: &mut Thread, _: &Args) -> Done {
    Err(Errno::EINTR)
}
