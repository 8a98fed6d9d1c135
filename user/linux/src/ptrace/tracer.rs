//! The tracing side: what is known of each traced thread, and what its stops on the host mean.

use super::block::{ASK_CODE, Block, MAGIC, SIGNAL, STOP_CODE};
use super::block::{ask, kind, resume};
use super::{event, option, request};
use crate::errno::{Done, Errno};
use crate::signal::{Info, bit};
use crate::sys;
use std::mem::offset_of;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Options that the host gets as they are; it also tells of executions.
const HOST_OPTIONS: u64 = option::FORK
    | option::VFORK
    | option::CLONE
    | option::VFORKDONE
    | option::EXIT
    | option::EXITKILL;
/// Signals that wait for a program that has just been executed.
const MOST_KEPT: usize = 64;

/// What a thread that stands may be asked, and how it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It stopped itself; the kind.
    Itself(u32),
    /// In an event of the host's, with its message.
    Event(u64),
    /// By a stop signal.
    Group,
}

/// A traced thread.
#[derive(Debug)]
pub struct Tracee {
    /// Its number.
    pub tid: i32,
    /// Its process.
    pub tgid: i32,
    /// Whether it takes what is asked of it: not yet between an execution and the first instruction.
    ready: bool,
    /// Whether the host attached it with its creator: it stops itself, and the host's SIGSTOP is for nobody.
    newborn: bool,
    /// Whether the last request was to listen.
    listening: bool,
    /// Its block; 0: not known.
    pub block: u64,
    /// Whether it was attached by `PTRACE_SEIZE`.
    pub seized: bool,
    /// `PTRACE_O_*`.
    pub options: u64,
    /// How it went on last.
    resume: u32,
    /// `None`: it runs.
    pub standing: Option<Standing>,
    /// The signal or event of its stop.
    pub status: u32,
    /// What was asked of it and has not reached it.
    asked: u32,
    /// Signals that came before it was ready.
    kept: Vec<Info>,
}

/// Those of a process.
#[derive(Default)]
pub struct Tracees {
    list: Mutex<Vec<Tracee>>,
    /// Waits that found something that was not asked for.
    pub collected: Mutex<Vec<super::wait::Collected>>,
    active: AtomicBool,
}

/// Makes a request of the host's kernel.
pub fn host(number: u32, tid: i32, address: u64, data: u64) -> Done {
    sys::call(libc::SYS_ptrace, [number.into(), tid as u64, address, data, 0, 0])
}

/// The host's options for those of a program.
pub fn host_options(options: u64) -> u64 {
    options & HOST_OPTIONS | option::EXEC
}

fn file_of(tid: i32, name: &str) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{tid}/{name}")).ok()
}

/// A number in `/proc/TID/status`.
fn field(tid: i32, name: &str, radix: u32) -> Option<u64> {
    let text = file_of(tid, "status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    u64::from_str_radix(line.trim(), radix).ok()
}

/// What an unknown thread is.
enum Nature {
    /// A program that we run.
    Ready,
    /// One that has just been executed.
    Beginning,
    /// One that the host runs.
    Foreign,
}

fn nature(tid: i32) -> Nature {
    let faults = bit(libc::SIGSEGV as u32) | bit(libc::SIGBUS as u32);
    if field(tid, "SigCgt", 16).is_some_and(|caught| caught & faults == faults) {
        return Nature::Ready;
    }
    use std::os::unix::fs::MetadataExt;
    let about = |path: &str| std::fs::metadata(path).ok().map(|m| (m.dev(), m.ino()));
    match (about(&format!("/proc/{tid}/exe")), about("/proc/self/exe")) {
        (Some(one), Some(other)) if one != other => Nature::Foreign,
        _ => Nature::Beginning,
    }
}

impl Tracee {
    fn new(tid: i32, seized: bool, options: u64) -> Self {
        let tgid = field(tid, "Tgid", 10).map_or(tid, |tgid| tgid as i32);
        let (ready, block, resume) = (false, 0, resume::CONT);
        let (standing, status, asked, kept) = (None, 0, 0, Vec::new());
        let newborn = false;
        let listening = false;
        Self {
            tid,
            tgid,
            ready,
            newborn,
            listening,
            block,
            seized,
            options,
            resume,
            standing,
            status,
            asked,
            kept,
        }
    }

    /// Asks it for something while it runs.
    ///
    /// # Errors
    /// It is gone.
    pub fn ask(&mut self, what: u32) -> Done {
        // The host keeps one signal of a kind: this one stands for what was asked before.
        self.asked |= what;
        let info = Info::asking(SIGNAL, ASK_CODE, what.into());
        let at = &raw const info as u64;
        let (tgid, tid) = (self.tgid as u64, self.tid as u64);
        sys::call(libc::SYS_rt_tgsigqueueinfo, [tgid, tid, SIGNAL as u64, at, 0, 0])
    }

    /// Reads from its block.
    ///
    /// # Errors
    /// EIO: there is none, or it is gone.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<(), Errno> {
        if self.block == 0 {
            return Err(Errno::EIO);
        }
        self.read_at(self.block + offset as u64, bytes)
    }

    /// Reads what it may read itself.
    ///
    /// # Errors
    /// EIO: it may not.
    pub fn read_at(&self, at: u64, bytes: &mut [u8]) -> Result<(), Errno> {
        let here = [bytes.as_mut_ptr() as u64, bytes.len() as u64];
        self.transfer(libc::SYS_process_vm_readv, at, here)
    }

    /// Writes to its block.
    ///
    /// # Errors
    /// As [`Tracee::read`].
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), Errno> {
        let here = [bytes.as_ptr() as u64, bytes.len() as u64];
        if self.block == 0 {
            return Err(Errno::EIO);
        }
        self.transfer(libc::SYS_process_vm_writev, self.block + offset as u64, here)
    }

    fn transfer(&self, number: i64, at: u64, here: [u64; 2]) -> Result<(), Errno> {
        let there = [at, here[1]];
        let (here_at, there_at) = (here.as_ptr() as u64, there.as_ptr() as u64);
        let done = sys::call(number, [self.tid as u64, here_at, 1, there_at, 1, 0]);
        if done == Ok(here[1]) { Ok(()) } else { Err(Errno::EIO) }
    }

    /// A number of 32 bits of the block.
    ///
    /// # Errors
    /// As [`Tracee::read`].
    pub fn word(&self, offset: usize) -> Result<u32, Errno> {
        let mut bytes = [0; 4];
        self.read(offset, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// A number of 64 bits of the block.
    ///
    /// # Errors
    /// As [`Tracee::read`].
    pub fn long(&self, offset: usize) -> Result<u64, Errno> {
        let mut bytes = [0; 8];
        self.read(offset, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Tells the host what it is to tell of this one.
    ///
    /// # Errors
    /// Those of the host.
    pub fn set_options(&mut self, options: u64) -> Done {
        let done = host(request::SETOPTIONS, self.tid, 0, host_options(options))?;
        self.options = options;
        let _ = self.write(offset_of!(Block, options), &options.to_le_bytes());
        Ok(done)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// Those of the host.
    pub fn go_on(&mut self, how: u32, signal: u32) -> Done {
        if how != resume::DETACH {
            self.resume = how;
        }
        let words = [1, how, signal];
        let bytes: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
        let _ = self.write(offset_of!(Block, answered), &bytes);
        let _ = self.write(offset_of!(Block, options), &self.options.to_le_bytes());
        let group = self.standing == Some(Standing::Group);
        // To a thread that did not stop itself the host has to give the signal.
        let mut given = if self.block == 0 && !group { signal } else { 0 };
        let itself = matches!(self.standing, Some(Standing::Itself(_)));
        if itself && !self.kept.is_empty() {
            let info = self.kept.remove(0);
            let number = info.signal();
            host(request::SETSIGINFO, self.tid, 0, &raw const info as u64)?;
            given = number;
        }
        self.standing = None;
        let number = if how == resume::DETACH { request::DETACH } else { request::CONT };
        host(number, self.tid, 0, given.into())
    }

    /// It goes on being stopped, but tells what happens.
    pub fn listen(&mut self) {
        (self.standing, self.listening) = (None, true);
    }

    /// Whether it is stopped, but tells what happens.
    pub fn listens(&self) -> bool {
        self.standing.is_none() && self.listening
    }

    fn pass(&self, signal: u32) -> Option<u32> {
        let _ = host(request::CONT, self.tid, 0, signal.into());
        None
    }

    /// It stands for its tracer to see.
    fn shown(&mut self, standing: Standing, status: u32) -> Option<u32> {
        (self.standing, self.status, self.listening) = (Some(standing), status, false);
        Some(status << 8 | 0x7f)
    }

    /// What a stop on the host is to the program that traces: a wait status, or nothing.
    fn stopped(&mut self, status: u32) -> Option<u32> {
        let (signal, event) = (status >> 8 & 0xff, status >> 16);
        if event != 0 {
            return self.event(signal, event);
        }
        let mut info = Info::default();
        if host(request::GETSIGINFO, self.tid, 0, &raw mut info as u64).is_err() {
            return self.shown(Standing::Group, signal);
        }
        match info.code() {
            STOP_CODE if signal == SIGNAL as u32 => return self.stopped_itself(info.value()),
            ASK_CODE => {
                self.asked |= info.value() as u32;
                let words = [(24, std::mem::take(&mut self.asked).cast_signed())];
                let asking = info.with_words(&words);
                let _ = host(request::SETSIGINFO, self.tid, 0, &raw const asking as u64);
                return self.pass(signal);
            }
            _ => {}
        }
        // One that was attached before it was executed: the host tells so by a signal.
        let own = info.code() == libc::SI_USER && info.sender() == self.tid;
        let executed = signal == libc::SIGTRAP as u32 && own;
        if std::mem::take(&mut self.newborn) && signal == libc::SIGSTOP as u32 {
            return self.pass(0);
        }
        if !self.ready || executed {
            match nature(self.tid) {
                Nature::Ready => self.ready = true,
                Nature::Beginning => {
                    (self.ready, self.block) = (false, 0);
                    let _ = self.set_options(self.options);
                    if !executed && self.kept.len() < MOST_KEPT {
                        self.kept.push(info);
                    }
                    return self.pass(0);
                }
                Nature::Foreign => return self.pass(signal),
            }
        }
        if signal == libc::SIGSTOP as u32 && self.word(offset_of!(Block, stopping)) != Ok(1) {
            // It shall stop where its registers are known.
            let words = [(4, info.code()), (16, info.sender()), (20, info.user().cast_signed())];
            let asking = Info::asking(SIGNAL, ASK_CODE, ask::SIGSTOP.into()).with_words(&words);
            let _ = host(request::SETSIGINFO, self.tid, 0, &raw const asking as u64);
            return self.pass(SIGNAL as u32);
        }
        self.pass(signal)
    }

    fn event(&mut self, signal: u32, event: u32) -> Option<u32> {
        let mut message = 0u64;
        let _ = host(request::GETEVENTMSG, self.tid, 0, &raw mut message as u64);
        match event {
            // The thread tells of these itself, when it is out of its own locks.
            event::FORK | event::CLONE => self.pass(0),
            event::EXEC => {
                (self.ready, self.block) = (false, 0);
                self.pass(0)
            }
            // A new thread stops itself soon.
            event::STOP if signal == libc::SIGTRAP as u32 && self.block == 0 => self.pass(0),
            event::STOP if self.seized => self.shown(Standing::Group, signal | event << 8),
            event::STOP => self.shown(Standing::Group, signal),
            _ => self.shown(Standing::Event(message), signal | event << 8),
        }
    }

    fn stopped_itself(&mut self, block: u64) -> Option<u32> {
        self.block = block;
        if self.long(offset_of!(Block, magic)) != Ok(MAGIC) {
            self.block = 0;
            return self.pass(0);
        }
        (self.ready, self.newborn) = (true, false);
        let kind = self.word(offset_of!(Block, kind)).unwrap_or(0);
        let status = self.word(offset_of!(Block, status)).unwrap_or(0);
        let _ = self.write(offset_of!(Block, seized), &u32::from(self.seized).to_le_bytes());
        let trap = libc::SIGTRAP as u32;
        let good = if self.options & option::SYSGOOD != 0 { 0x80 } else { 0 };
        self.standing = Some(Standing::Itself(kind));
        match kind {
            kind::HELLO => self.silently(),
            kind::EXEC if self.options & option::EXEC != 0 => {
                self.shown(Standing::Itself(kind), status)
            }
            kind::EXEC if self.seized => self.silently(),
            kind::EXEC => self.shown(Standing::Itself(kind::SIGNAL), trap),
            kind::ENTRY | kind::EXIT => self.shown(Standing::Itself(kind), trap | good),
            _ => self.shown(Standing::Itself(kind), status),
        }
    }

    fn silently(&mut self) -> Option<u32> {
        let _ = self.go_on(self.resume, 0);
        None
    }
}

impl Tracees {
    /// The list.
    pub fn list(&self) -> MutexGuard<'_, Vec<Tracee>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this process traces, so that its waits are ours to serve.
    pub fn are_some(&self) -> bool {
        self.active.load(Ordering::Relaxed)
    }

    /// From now on waits are ours to serve.
    pub fn activate(&self) {
        self.active.store(true, Ordering::Relaxed);
    }

    /// In the child of a fork, which traces nobody.
    pub fn clear(&self) {
        if self.active.swap(false, Ordering::Relaxed) {
            self.list().clear();
            self.collected.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    /// Takes one in that the host has attached.
    pub fn add(&self, tid: i32, seized: bool, options: u64) {
        self.activate();
        let mut list = self.list();
        list.retain(|tracee| tracee.tid != tid);
        list.push(Tracee::new(tid, seized, options));
    }

    /// A thread has ended.
    pub fn remove(&self, tid: i32) {
        self.list().retain(|tracee| tracee.tid != tid);
    }

    /// What a traced process was started with, by its place in the block's list.
    pub fn started(&self, pid: i32, which: usize) -> Option<Vec<u8>> {
        /// Bytes that are believed.
        const MOST: u64 = 8 << 20;
        let list = self.list();
        let tracee = list.iter().find(|t| (t.tid == pid || t.tgid == pid) && t.block != 0)?;
        let at = offset_of!(Block, started) + 16 * which;
        let (from, len) = (tracee.long(at).ok()?, tracee.long(at + 8).ok()?);
        let mut bytes = vec![0; len.min(MOST) as usize];
        tracee.read_at(from, &mut bytes).ok()?;
        Some(bytes)
    }

    /// Host addresses of a traced process that are the program's: where they begin and how many.
    pub fn window(&self, pid: i32) -> Option<[u64; 2]> {
        let list = self.list();
        let tracee = list.iter().find(|t| (t.tid == pid || t.tgid == pid) && t.block != 0)?;
        Some([
            tracee.long(offset_of!(Block, base)).ok()?,
            tracee.long(offset_of!(Block, limit)).ok()?,
        ])
    }

    /// What a stop of a thread on the host is: `None`: it is not traced; else a wait status or nothing.
    pub fn stopped(&self, tid: i32, status: u32) -> Option<Option<u32>> {
        let mut list = self.list();
        let known = list.iter().position(|tracee| tracee.tid == tid);
        let place = match known {
            Some(place) => place,
            None => {
                let mut info = Info::default();
                let told = host(request::GETSIGINFO, tid, 0, &raw mut info as u64);
                if told == Err(Errno::ESRCH) || told == Err(Errno::EPERM) {
                    return None;
                }
                self.activate();
                let new = adopted(tid, &list);
                list.push(new);
                list.len() - 1
            }
        };
        if status >> 16 == event::EXEC {
            // The others of its process are gone, and it has its number from now on.
            let tgid = list[place].tgid;
            list.retain(|tracee| tracee.tid == tid || tracee.tgid != tgid);
        }
        let tracee = list.iter_mut().find(|tracee| tracee.tid == tid)?;
        Some(tracee.stopped(status))
    }
}

/// One that attached itself, or that the host attached with its parent.
fn adopted(tid: i32, list: &[Tracee]) -> Tracee {
    let mut new = Tracee::new(tid, false, 0);
    let parent = field(tid, "PPid", 10).map_or(0, |pid| pid as i32);
    let of =
        |tgid: i32| list.iter().find(|tracee| tracee.tgid == tgid && tracee.options & 0xe != 0);
    if let Some(creator) = of(new.tgid).or_else(|| of(parent)) {
        (new.seized, new.options) = (creator.seized, creator.options);
        (new.resume, new.newborn) = (creator.resume, true);
    } else {
        let _ = new.set_options(0);
    }
    new
}
