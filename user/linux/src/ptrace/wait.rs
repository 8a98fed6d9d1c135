//! Waiting for children of a program that traces: the host's waits, with stops as it is to see them.

use super::request;
use crate::errno::Errno;
use crate::signal::Info;
use crate::thread::Thread;
use std::sync::PoisonError;

/// Words of `struct rusage`.
pub const USAGE: usize = 18;

/// Who is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Anybody.
    Any,
    /// This one.
    One(i32),
    /// Those of a group.
    Group(i32),
}

/// What a wait found.
#[derive(Clone, Copy, Debug)]
pub struct Collected {
    /// The process or thread.
    pub pid: i32,
    /// As `wait4` has it.
    pub status: u32,
    /// What it used.
    pub usage: [u64; USAGE],
    /// Its user.
    pub user: u32,
    /// Its group.
    group: i32,
    /// Whether it is traced.
    pub traced: bool,
}

/// `WIFCONTINUED`.
const CONTINUED: u32 = 0xffff;

impl Collected {
    fn stopped(&self) -> bool {
        self.status & 0xff == 0x7f
    }

    /// `si_code` of SIGCHLD.
    pub fn code(&self) -> i32 {
        match self.status {
            CONTINUED => libc::CLD_CONTINUED,
            _ if self.stopped() && self.traced => libc::CLD_TRAPPED,
            _ if self.stopped() => libc::CLD_STOPPED,
            status if status & 0x7f == 0 => libc::CLD_EXITED,
            status if status & 0x80 != 0 => libc::CLD_DUMPED,
            _ => libc::CLD_KILLED,
        }
    }

    /// `si_status` of SIGCHLD.
    pub fn short_status(&self) -> i32 {
        let status = self.status.cast_signed();
        match self.code() {
            libc::CLD_CONTINUED => libc::SIGCONT,
            libc::CLD_KILLED | libc::CLD_DUMPED => status & 0x7f,
            _ => status >> 8,
        }
    }

    /// The siginfo of `waitid`.
    pub fn info(&self) -> Info {
        let info = Info::new(libc::SIGCHLD as u32, self.code());
        info.with_words(&[(16, self.pid), (20, self.user.cast_signed()), (24, self.short_status())])
    }

    fn is_wanted(&self, who: Who, options: i32) -> bool {
        let kind = match self.code() {
            libc::CLD_CONTINUED => libc::WCONTINUED,
            libc::CLD_STOPPED | libc::CLD_TRAPPED => libc::WSTOPPED,
            _ => libc::WEXITED,
        };
        let one = match who {
            Who::Any => true,
            Who::One(pid) => self.pid == pid,
            Who::Group(group) => self.group == group,
        };
        one && options & kind != 0
    }
}

impl Thread {
    /// Waits with the options of `waitid`: `None` if there is nothing and `WNOHANG` was said.
    ///
    /// # Errors
    /// Those of `waitid`.
    pub fn wait(&mut self, who: Who, options: i32) -> Result<Option<Collected>, Errno> {
        let mut drained = false;
        loop {
            if let Some(found) = self.take_collected(who, options) {
                return Ok(Some(found));
            }
            if drained {
                return Ok(None);
            }
            self.check_children(who)?;
            let hang = options & libc::WNOHANG;
            drained = !self.collect(hang | options & (libc::WSTOPPED | libc::WCONTINUED))?;
        }
    }

    fn take_collected(&self, who: Who, options: i32) -> Option<Collected> {
        let collected = &self.process.tracees.collected;
        let mut list = collected.lock().unwrap_or_else(PoisonError::into_inner);
        let place = list.iter().position(|found| found.is_wanted(who, options))?;
        if options & libc::WNOWAIT != 0 { Some(list[place]) } else { Some(list.remove(place)) }
    }

    /// Whether there is anybody to wait for at all.
    fn check_children(&self, who: Who) -> Result<(), Errno> {
        let (kind, id) = match who {
            Who::Any => (libc::P_ALL, 0),
            Who::One(pid) => (libc::P_PID, pid),
            Who::Group(group) => (libc::P_PGID, group),
        };
        let options = libc::WEXITED | libc::WSTOPPED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
        let mut info = Info::default();
        let args = [kind.into(), id as u64, &raw mut info as u64, options as u64, 0, 0];
        match crate::sys::call(libc::SYS_waitid, args) {
            Err(Errno::ECHILD) => Err(Errno::ECHILD),
            _ => Ok(()),
        }
    }

    /// Takes one answer of the host's and keeps it, if it is one for the program; whether there was one.
    fn collect(&self, options: i32) -> Result<bool, Errno> {
        let (mut status, mut usage) = (0u32, [0u64; USAGE]);
        let options = (options | libc::__WALL) as u64;
        let (to, used) = (&raw mut status as u64, usage.as_mut_ptr() as u64);
        let pid = self.host(libc::SYS_wait4, [u64::MAX, to, options, used, 0, 0])? as i32;
        if pid != 0 {
            self.found(pid, status, usage);
        }
        Ok(pid != 0)
    }

    /// Keeps what the host told.
    pub fn found(&self, pid: i32, status: u32, usage: [u64; USAGE]) {
        let tracees = &self.process.tracees;
        let group = crate::sys::call(libc::SYS_getpgid, [pid as u64, 0, 0, 0, 0, 0]);
        let group = group.map_or(0, |group| group as i32);
        let mut found = Collected { pid, status, usage, user: 0, group, traced: false };
        use std::os::unix::fs::MetadataExt;
        let about = std::fs::metadata(format!("/proc/{pid}"));
        let own = || crate::sys::call(libc::SYS_getuid, [0; 6]).unwrap_or(0) as u32;
        found.user = about.map_or_else(|_| own(), |about| about.uid());
        if found.stopped() {
            match tracees.stopped(pid, status) {
                None => {}
                Some(None) => return,
                Some(Some(status)) => (found.status, found.traced) = (status, true),
            }
        } else if status != CONTINUED {
            tracees.remove(pid);
        }
        let mut list = tracees.collected.lock().unwrap_or_else(PoisonError::into_inner);
        // Who has ended does not stand any more.
        list.retain(|before| before.pid != pid || !before.stopped());
        list.push(found);
    }

    /// Whether a thread of this number that stopped is traced by this process.
    pub fn traces(&self, pid: i32) -> bool {
        let mut info = Info::default();
        let told = super::tracer::host(request::GETSIGINFO, pid, 0, &raw mut info as u64);
        told.is_ok() || told == Err(Errno::EINVAL)
    }
}
