//! A target of two threads, a few registers and a page of memory.

use gdb::{
    Breakpoint, BreakpointKind, Caught, Description, Feature, Kind, Notifier, Object, Order,
    Refused, Register, Stop, Target, ThreadId, Watched,
};

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Where its memory is.
const BASE: u64 = 0x1000;

/// Each instruction is four bytes long. Those that are zero do nothing; others end the process with
/// their first byte.
pub struct Toy {
    description: Description,
    /// By thread: two registers, the pc, a float.
    registers: [[u64; 4]; 2],
    memory: Vec<u8>,
    breakpoints: Vec<Breakpoint>,
    stopped: Stop,
    notifier: Option<Notifier>,
    caught: Caught,
    /// What was asked last that leaves no other trace.
    pub asked: String,
}

const THREADS: [ThreadId; 2] = [ThreadId(1), ThreadId(0x1f)];

impl Default for Toy {
    fn default() -> Self {
        let register = |name: &str, kind| Register { name: name.to_owned(), bits: 64, kind };
        let feature = |file: &str, name: &str, registers, general| Feature {
            file: file.to_owned(),
            name: name.to_owned(),
            types: String::new(),
            registers,
            general,
        };
        let cpu = vec![
            register("a", Kind::Int),
            register("b", Kind::DataPointer),
            register("pc", Kind::CodePointer),
        ];
        let features = vec![
            feature("cpu.xml", "org.toy.cpu", cpu, true),
            feature("float.xml", "org.toy.float", vec![register("f", Kind::Double)], false),
        ];
        let stopped = Stop::Signal { thread: THREADS[0], signal: 5, watched: None };
        Self {
            description: Description { architecture: "toy".to_owned(), features },
            registers: [[1, 2, BASE, 4], [0x11, 0x12, BASE + 0x100, 0x14]],
            memory: vec![0; 0x1000],
            breakpoints: Vec::new(),
            stopped,
            notifier: None,
            caught: Caught::None,
            asked: String::new(),
        }
    }
}

impl Toy {
    fn row(&mut self, thread: ThreadId) -> Option<&mut [u64; 4]> {
        THREADS.iter().position(|id| *id == thread).map(|row| &mut self.registers[row])
    }

    fn range(&self, address: u64, len: usize) -> Option<std::ops::Range<usize>> {
        let start = usize::try_from(address.checked_sub(BASE)?).ok()?;
        (start < self.memory.len()).then(|| start..start.saturating_add(len).min(self.memory.len()))
    }

    /// Runs one instruction; why the target stops after it, if it does.
    fn step(&mut self, thread: ThreadId) -> Option<Stop> {
        let pc = self.row(thread)?[2];
        let code = self.range(pc, 1).map(|range| self.memory[range.start]);
        match code {
            None => return Some(Stop::Killed(11)),
            Some(0) => {}
            Some(status) => return Some(Stop::Exited(status)),
        }
        let pc = pc + 4;
        self.row(thread)?[2] = pc;
        let met = self.breakpoints.iter().find(|each| each.address == pc)?;
        let watched = match met.kind {
            BreakpointKind::Software | BreakpointKind::Hardware => None,
            kind => Some(Watched { kind, address: pc }),
        };
        Some(Stop::Signal { thread, signal: 5, watched })
    }

    fn run(&mut self, orders: &[Order]) -> Stop {
        // Its first instruction counts as a call.
        match self.caught.clone() {
            Caught::None => {}
            Caught::All => return Stop::Call { thread: THREADS[0], number: 0 },
            Caught::Some(numbers) => {
                return Stop::Call { thread: THREADS[0], number: numbers[0] };
            }
        }
        let order = |thread: ThreadId| {
            orders.iter().find(|order| order.thread.is_none_or(|named| named == thread)).copied()
        };
        // More than its memory has.
        for _ in 0..=self.memory.len() {
            for (thread, order) in THREADS.into_iter().filter_map(|id| Some((id, order(id)?))) {
                if order.signal == 9 {
                    return Stop::Killed(9);
                }
                let stop = self.step(thread);
                let stepped = Stop::Signal { thread, signal: 5, watched: None };
                if let Some(stop) = stop.or(order.step.then_some(stepped)) {
                    return stop;
                }
            }
        }
        Stop::Signal { thread: THREADS[0], signal: 2, watched: None }
    }
}

impl Target for Toy {
    fn attached(&mut self, notifier: Notifier) {
        self.notifier = Some(notifier);
    }
    fn process(&self) -> u64 {
        7
    }
    fn spawned(&self) -> bool {
        true
    }
    fn description(&self) -> &Description {
        &self.description
    }
    fn threads(&self) -> Vec<ThreadId> {
        THREADS.to_vec()
    }
    fn thread_name(&self, thread: ThreadId) -> String {
        format!("thread {}", thread.0)
    }
    fn stopped(&self) -> Stop {
        self.stopped
    }
    fn register(&mut self, thread: ThreadId, number: usize) -> Option<Vec<u8>> {
        // One that is not known now.
        let known = number != 1 || thread == THREADS[0];
        let value = *self.row(thread)?.get(number).filter(|_| known)?;
        Some(value.to_le_bytes().to_vec())
    }
    fn set_register(&mut self, thread: ThreadId, number: usize, bytes: &[u8]) -> bool {
        let value = bytes.try_into().map(u64::from_le_bytes);
        match (self.row(thread).and_then(|row| row.get_mut(number)), value) {
            (Some(place), Ok(value)) => {
                *place = value;
                true
            }
            _ => false,
        }
    }
    fn read(&mut self, _: ThreadId, address: u64, len: usize) -> Option<Vec<u8>> {
        self.range(address, len).map(|range| self.memory[range].to_vec())
    }
    fn write(&mut self, _: ThreadId, address: u64, bytes: &[u8]) -> bool {
        let range = self.range(address, bytes.len()).filter(|range| range.len() == bytes.len());
        range.map(|range| self.memory[range].copy_from_slice(bytes)).is_some()
    }
    fn set_breakpoint(&mut self, breakpoint: Breakpoint) -> Result<(), Refused> {
        match breakpoint {
            Breakpoint { kind: BreakpointKind::Access, .. } => Err(Refused::Unsupported),
            Breakpoint { address, .. } if self.range(address, 1).is_none() => {
                Err(Refused::Failed(14))
            }
            // As many as a test sets.
            _ if self.breakpoints.len() == 64 => Err(Refused::Failed(28)),
            _ => {
                self.breakpoints.push(breakpoint);
                Ok(())
            }
        }
    }
    fn clear_breakpoint(&mut self, breakpoint: Breakpoint) -> Result<(), Refused> {
        let before = self.breakpoints.len();
        self.breakpoints.retain(|each| *each != breakpoint);
        if self.breakpoints.len() < before { Ok(()) } else { Err(Refused::Failed(2)) }
    }
    fn resume(&mut self, orders: &[Order]) {
        self.stopped = self.run(orders);
        if let Some(notifier) = &self.notifier {
            notifier.stopped(self.stopped);
        }
    }
    fn interrupt(&mut self) {}
    fn detach(&mut self) {
        self.asked = "detach".to_owned();
    }
    fn kill(&mut self) {
        self.asked = "kill".to_owned();
    }
    fn object(&mut self, _: ThreadId, object: Object) -> Option<Vec<u8>> {
        match object {
            Object::Auxv => Some(vec![3, 0]),
            Object::ExecFile => Some(b"/bin/toy".to_vec()),
            Object::Siginfo => None,
        }
    }
    fn catch(&mut self, calls: Caught) -> bool {
        self.caught = calls;
        true
    }
    fn open(&mut self, path: &Path) -> io::Result<File> {
        match path == Path::new("/toy") {
            true => File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }
    fn read_link(&mut self, _: &Path) -> io::Result<PathBuf> {
        Ok(PathBuf::from("/fish"))
    }
    fn command(&mut self, line: &str) -> Option<String> {
        (line == "help").then(|| "no help\n".to_owned())
    }
}
