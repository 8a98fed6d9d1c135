//! What packets mean.

use crate::files::Files;
use crate::packet::MAX_PACKET;
use crate::target::{
    Breakpoint, BreakpointKind, Caught, Object, Order, Refused, Stop, Target, ThreadId,
};
use crate::words::{Named, Words, hex, unhex};

/// Errors of Linux in replies.
mod errno {
    pub const FAULT: u8 = 14;
    pub const INVALID: u8 = 22;
}

/// Longest piece of memory or of a document in a reply: as digits it must fit into a packet.
const MAX_PIECE: usize = MAX_PACKET / 2 - 16;

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// This is sent; nothing in it means that the packet is not known.
    Payload(Vec<u8>),
    /// The target goes on; the reply is sent when it has stopped.
    Running,
    /// This is sent, and the debugger leaves.
    Farewell(Vec<u8>),
}

/// What a debugger has chosen so far.
#[derive(Debug, Default)]
pub struct Session {
    /// Thread whose registers and memory are meant; the first if none.
    general: Option<ThreadId>,
    /// Thread that goes on with `c` and `s`; all if none.
    running: Option<ThreadId>,
    /// Threads are named with their process.
    processes: bool,
    /// Packets are not acknowledged any more.
    quiet: bool,
    /// Threads of a list that did not fit into a reply.
    listed: Vec<ThreadId>,
    /// Files that the debugger has open.
    files: Files,
}

type Answer = Option<Vec<u8>>;

fn ok() -> Answer {
    Some(b"OK".to_vec())
}

fn error(number: u8) -> Answer {
    Some(format!("E{number:02x}").into_bytes())
}

fn text(text: impl Into<String>) -> Answer {
    Some(text.into().into_bytes())
}

fn done(done: bool, otherwise: u8) -> Answer {
    if done { ok() } else { error(otherwise) }
}

impl Session {
    /// Whether packets are not acknowledged any more.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Carries a packet out.
    pub fn handle(&mut self, target: &mut dyn Target, payload: &[u8]) -> Reply {
        let mut words = Words(payload);
        if let Some(orders) = self.orders(target, words) {
            return match orders {
                Ok(orders) => {
                    target.resume(&orders);
                    Reply::Running
                }
                Err(number) => Reply::Payload(error(number).unwrap_or_default()),
            };
        }
        if words.take("vKill") || words.0 == b"k" {
            target.kill();
            return Reply::Farewell(b"OK".to_vec());
        }
        if words.0 == b"D" || words.0.starts_with(b"D;") {
            target.detach();
            return Reply::Farewell(b"OK".to_vec());
        }
        // What is not known is answered by nothing.
        Reply::Payload(self.answer(target, words).unwrap_or_default())
    }

    fn answer(&mut self, target: &mut dyn Target, mut words: Words<'_>) -> Answer {
        let (&kind, rest) = words.0.split_first()?;
        let thread = self.thread(target);
        match kind {
            b'q' => return self.query(target, Words(rest)),
            b'Q' if rest == b"StartNoAckMode" => {
                self.quiet = true;
                return ok();
            }
            b'Q' if rest.starts_with(b"CatchSyscalls:") => {
                return catch(target, Words(&rest[14..]));
            }
            b'v' if words.take("vCont?") => return text("vCont;c;C;s;S"),
            b'v' if words.take("vFile:") => return self.files.answer(target, words),
            b'?' => return Some(self.stop_reply(target, &target.stopped())),
            _ => {}
        }
        let mut words = Words(rest);
        match kind {
            b'H' => self.choose(target, words),
            b'T' => match words.thread()? {
                Named::One(id) => done(target.threads().contains(&id), errno::INVALID),
                _ => error(errno::INVALID),
            },
            b'g' => self.registers(target, thread),
            b'G' => self.set_registers(target, thread, rest),
            b'p' => {
                let number = usize::try_from(words.number()?).ok()?;
                match target.register(thread, number) {
                    Some(bytes) => text(hex(&bytes)),
                    None => error(errno::FAULT),
                }
            }
            b'P' => {
                let number = usize::try_from(words.number()?).ok()?;
                let bytes = unhex(words.0.strip_prefix(b"=")?)?;
                done(target.set_register(thread, number, &bytes), errno::FAULT)
            }
            b'm' => {
                let (address, len) = words.pair(",")?;
                let len = usize::try_from(len).unwrap_or(usize::MAX).min(MAX_PIECE);
                match target.read(thread, address, len) {
                    Some(bytes) => text(hex(&bytes)),
                    None => error(errno::FAULT),
                }
            }
            b'M' | b'X' => {
                let (address, len) = words.pair(",")?;
                let data = words.0.strip_prefix(b":")?;
                let bytes = if kind == b'M' { unhex(data)? } else { data.to_vec() };
                if bytes.len() as u64 != len {
                    return error(errno::INVALID);
                }
                done(bytes.is_empty() || target.write(thread, address, &bytes), errno::FAULT)
            }
            b'Z' | b'z' => breakpoint(target, kind == b'Z', words),
            _ => None,
        }
    }

    /// The thread that packets without a name mean.
    fn thread(&self, target: &dyn Target) -> ThreadId {
        let threads = target.threads();
        let chosen = self.general.filter(|id| threads.contains(id));
        chosen.or(threads.first().copied()).unwrap_or(ThreadId(1))
    }

    fn choose(&mut self, target: &dyn Target, mut words: Words<'_>) -> Answer {
        let (general, running) = (words.take("g"), words.0.starts_with(b"c"));
        if !general && !running {
            return error(errno::INVALID);
        }
        if running {
            words.take("c");
        }
        let id = match words.thread()? {
            Named::One(id) if !target.threads().contains(&id) => return error(errno::INVALID),
            Named::One(id) => Some(id),
            Named::All | Named::Any => None,
        };
        if general {
            self.general = id;
        } else {
            self.running = id;
        }
        ok()
    }

    fn registers(&self, target: &mut dyn Target, thread: ThreadId) -> Answer {
        let widths: Vec<u32> = general(target).collect();
        let values = widths.into_iter().enumerate().map(|(number, bits)| {
            let digits = bits.div_ceil(8) as usize * 2;
            match target.register(thread, number) {
                Some(bytes) => hex(&bytes),
                None => "x".repeat(digits),
            }
        });
        text(values.collect::<String>())
    }

    fn set_registers(&self, target: &mut dyn Target, thread: ThreadId, digits: &[u8]) -> Answer {
        let bytes = unhex(digits)?;
        let widths: Vec<usize> = general(target).map(|bits| bits.div_ceil(8) as usize).collect();
        let mut rest = &bytes[..];
        for (number, width) in widths.into_iter().enumerate() {
            let Some((value, next)) = rest.split_at_checked(width) else { break };
            // Registers that cannot be set keep what they have.
            target.set_register(thread, number, value);
            rest = next;
        }
        ok()
    }

    /// What goes on, if the packet says so; an error of Linux if it says it wrongly.
    fn orders(&self, target: &dyn Target, mut words: Words<'_>) -> Option<Result<Vec<Order>, u8>> {
        if words.take("vCont;") {
            return Some(self.several(words));
        }
        let (&kind, rest) = words.0.split_first()?;
        let mut words = Words(rest);
        let signal = match kind {
            b'c' | b's' => Some(0),
            b'C' | b'S' => words.number().and_then(|signal| u8::try_from(signal).ok()),
            _ => return None,
        };
        // Going on at another address is left to those who set the register.
        let Some(signal) = signal.filter(|_| words.0.is_empty()) else {
            return Some(Err(errno::INVALID));
        };
        let step = matches!(kind, b's' | b'S');
        let (thread, all) = match self.running {
            Some(thread) => (thread, false),
            None => (self.thread(target), true),
        };
        let mut orders = vec![Order { thread: Some(thread), step, signal }];
        if all && !step {
            orders.push(Order { thread: None, step: false, signal: 0 });
        }
        Some(Ok(orders))
    }

    fn several(&self, mut words: Words<'_>) -> Result<Vec<Order>, u8> {
        let mut orders = Vec::new();
        while !words.0.is_empty() {
            let mut word = Words(words.until(b';'));
            let kind = word.0.first().copied().ok_or(errno::INVALID)?;
            word.0 = &word.0[1..];
            let signal = match kind {
                b'c' | b's' => Some(0),
                b'C' | b'S' => word.number().and_then(|signal| u8::try_from(signal).ok()),
                _ => None,
            };
            let signal = signal.ok_or(errno::INVALID)?;
            let thread = match word.take(":").then(|| word.thread()) {
                None | Some(Some(Named::All | Named::Any)) => None,
                Some(Some(Named::One(id))) => Some(id),
                Some(None) => return Err(errno::INVALID),
            };
            if !word.0.is_empty() {
                return Err(errno::INVALID);
            }
            orders.push(Order { thread, step: matches!(kind, b's' | b'S'), signal });
        }
        if orders.is_empty() { Err(errno::INVALID) } else { Ok(orders) }
    }

    fn query(&mut self, target: &mut dyn Target, mut words: Words<'_>) -> Answer {
        if words.take("Supported") {
            let theirs = if words.take(":") { words.0 } else { &[] };
            self.processes =
                theirs.split(|&byte| byte == b';').any(|word| word == b"multiprocess+");
            let processes = if self.processes { ";multiprocess+" } else { "" };
            return text(format!(
                "PacketSize={MAX_PACKET:x};qXfer:features:read+;qXfer:auxv:read+;qXfer:exec-file:read+;\
                 qXfer:siginfo:read+;QStartNoAckMode+;QCatchSyscalls+;swbreak+;hwbreak+;vContSupported+{processes}"
            ));
        }
        if words.take("Xfer:") {
            return self.transfer(target, words);
        }
        if words.take("Attached") {
            return text(if target.spawned() { "0" } else { "1" });
        }
        if words.take("ThreadExtraInfo,") {
            let Named::One(id) = words.thread()? else { return error(errno::INVALID) };
            return text(hex(target.thread_name(id).as_bytes()));
        }
        if words.take("Rcmd,") {
            let line = String::from_utf8(unhex(words.0)?).ok()?;
            return text(hex(target.command(&line)?.as_bytes()));
        }
        match words.0 {
            b"C" => text(format!("QC{}", self.name(target, self.thread(target)))),
            b"fThreadInfo" => {
                self.listed = target.threads();
                self.list(target)
            }
            b"sThreadInfo" => self.list(target),
            _ => None,
        }
    }

    /// The next part of the list of threads.
    fn list(&mut self, target: &dyn Target) -> Answer {
        if self.listed.is_empty() {
            return text("l");
        }
        // A name has two numbers of 64 bits at most.
        let count = self.listed.len().min(MAX_PACKET / 36);
        let rest = self.listed.split_off(count);
        let now = std::mem::replace(&mut self.listed, rest);
        let names: Vec<_> = now.into_iter().map(|id| self.name(target, id)).collect();
        text(format!("m{}", names.join(",")))
    }

    fn transfer(&self, target: &mut dyn Target, mut words: Words<'_>) -> Answer {
        let object = words.until(b':');
        if words.until(b':') != b"read" {
            return None;
        }
        let annex = words.until(b':');
        let (offset, len) = words.pair(",")?;
        let thread = self.thread(target);
        let bytes = match object {
            b"features" => {
                let document = target.description().document(std::str::from_utf8(annex).ok()?);
                document.map(String::into_bytes)
            }
            b"auxv" => target.object(thread, Object::Auxv),
            b"exec-file" => target.object(thread, Object::ExecFile),
            b"siginfo" => target.object(thread, Object::Siginfo),
            _ => return None,
        };
        let Some(bytes) = bytes else { return error(0) };
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let most = usize::try_from(len).unwrap_or(usize::MAX).min(MAX_PIECE);
        let end = start.saturating_add(most).min(bytes.len());
        let mut piece = vec![if end == bytes.len() { b'l' } else { b'm' }];
        piece.extend_from_slice(&bytes[start..end]);
        Some(piece)
    }

    fn name(&self, target: &dyn Target, id: ThreadId) -> String {
        match self.processes {
            true => format!("p{:x}.{:x}", target.process(), id.0),
            false => format!("{:x}", id.0),
        }
    }

    /// What a debugger is told of a stop. The thread that stopped is the one that packets without a name mean from
    /// then on.
    pub fn stopped(&mut self, target: &dyn Target, stop: &Stop) -> Vec<u8> {
        self.general = stop.thread().or(self.general);
        self.stop_reply(target, stop)
    }

    fn stop_reply(&self, target: &dyn Target, stop: &Stop) -> Vec<u8> {
        let process = match self.processes {
            true => format!(";process:{:x}", target.process()),
            false => String::new(),
        };
        let reply = match stop {
            Stop::Signal { thread, signal, watched } => {
                let watched = watched.map_or_else(String::new, |watched| {
                    let kind = match watched.kind {
                        BreakpointKind::Read => "rwatch",
                        BreakpointKind::Access => "awatch",
                        _ => "watch",
                    };
                    format!("{kind}:{:x};", watched.address)
                });
                format!("T{signal:02x}{watched}thread:{};", self.name(target, *thread))
            }
            Stop::Call { thread, number } => {
                format!("T05syscall_entry:{number:x};thread:{};", self.name(target, *thread))
            }
            Stop::Called { thread, number } => {
                format!("T05syscall_return:{number:x};thread:{};", self.name(target, *thread))
            }
            Stop::Exited(status) => format!("W{status:02x}{process}"),
            Stop::Killed(signal) => format!("X{signal:02x}{process}"),
        };
        reply.into_bytes()
    }
}

/// Widths in bits of the registers that are read together.
fn general(target: &dyn Target) -> impl Iterator<Item = u32> {
    let description = target.description();
    description.registers().take(description.general()).map(|register| register.bits)
}

fn breakpoint(target: &mut dyn Target, set: bool, mut words: Words<'_>) -> Answer {
    let kind = usize::try_from(words.number()?).ok()?;
    let kind = *BreakpointKind::ALL.get(kind)?;
    if !words.take(",") {
        return error(errno::INVALID);
    }
    let Some((address, len)) = words.pair(",") else { return error(errno::INVALID) };
    if !words.0.is_empty() {
        // Conditions and commands of the target's own are not offered.
        return error(errno::INVALID);
    }
    let breakpoint = Breakpoint { kind, address, len };
    let result = match set {
        true => target.set_breakpoint(breakpoint),
        false => target.clear_breakpoint(breakpoint),
    };
    match result {
        Ok(()) => ok(),
        Err(Refused::Unsupported) => None,
        Err(Refused::Failed(number)) => error(number),
    }
}

/// `QCatchSyscalls:0`, or `:1` and numbers, none of which means all.
fn catch(target: &mut dyn Target, mut words: Words<'_>) -> Answer {
    let caught = match words.until(b';') {
        b"0" => Caught::None,
        b"1" if words.0.is_empty() => Caught::All,
        b"1" => {
            let mut numbers = Vec::new();
            while !words.0.is_empty() {
                let mut word = Words(words.until(b';'));
                let number = word.number().filter(|_| word.0.is_empty());
                let Some(number) = number else { return error(errno::INVALID) };
                numbers.push(number);
            }
            Caught::Some(numbers)
        }
        _ => return error(errno::INVALID),
    };
    done(target.catch(caught), errno::INVALID)
}
