//! A machine as a whole: its parts, its processors' threads, and its life cycle.
//!
//! Boards fill a [`Builder`]; the result runs, pauses, resets, and saves and restores. Devices
//! ask for a reset or the end through [`device::MachineControl`]; the request becomes an
//! [`Event`], on which the control thread acts.

mod baton;
mod cycle;
mod threads;

/// What the handshakes between threads are made of; their tests have a model checker's instead.
mod primitives {
    pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
}

pub use cycle::RunState;

use cpu::{CpuLink, VirtualCpu};
use device::{Cause, MachineControl, Part, RestoreError, Tap, Value};
use memory::{AddressSpace, Gpa};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use threads::Threads;
use time::Clock;

/// What the control thread has to act on.
pub enum Event {
    /// Stop for good, with this exit code.
    Shutdown(Cause, u32),
    /// Reset.
    Reset(Cause),
    /// Something that a monitor wants done.
    Do(Box<dyn FnOnce(&Machine) + Send>),
}

/// Takes requests from devices, signals and monitors; clones feed the same control thread.
#[derive(Clone)]
pub struct Events(Sender<Event>);

impl Events {
    /// A channel for events.
    pub fn channel() -> (Self, Receiver<Event>) {
        let (send, receive) = channel();
        (Self(send), receive)
    }

    /// Hands an event to the control thread; lost when that has ended.
    pub fn send(&self, event: Event) {
        let _ended = self.0.send(event);
    }
}

impl MachineControl for Events {
    fn shutdown(&self, cause: Cause, code: u32) {
        self.send(Event::Shutdown(cause, code));
    }
    fn reset(&self, cause: Cause) {
        self.send(Event::Reset(cause));
    }
}

/// Contents that a reset puts back into memory: firmware, kernel, device tree.
#[derive(Clone, Debug)]
pub struct Rom {
    /// Name shown by `info roms`.
    pub name: String,
    /// First address.
    pub at: Gpa,
    /// Contents.
    pub bytes: Arc<[u8]>,
}

/// Which pins of a device a [`Pins`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Its inputs.
    Inputs,
    /// Its outputs.
    Outputs,
}

/// Pins of a device that tests can listen to and drive.
#[derive(Clone)]
pub struct Pins {
    /// Paths by which the device is known.
    pub paths: Vec<String>,
    /// Which pins.
    pub side: Side,
    /// What they are called; empty for those without a name.
    pub name: &'static str,
    /// Where they can be heard.
    pub tap: Arc<Tap>,
    /// Line of `tap` that each pin is.
    pub lines: Vec<u32>,
}

/// Path of the clock in a saved state.
const CLOCK: &str = "clock";
/// Path of a processor in a saved state, before its number.
const CPU: &str = "/cpu";

/// How processors share host threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Threading {
    /// Each runs when it wants to.
    #[default]
    Multi,
    /// One at a time, in turns.
    Single,
}

/// A machine under construction.
pub struct Builder {
    /// The processors' address space.
    pub space: Arc<AddressSpace>,
    /// The virtual clock.
    pub clock: Clock,
    /// Every device by its path, in the order of reset. A part drives lines of, or sends messages
    /// to, only those before it: interrupt controllers come before their devices.
    pub parts: Vec<(String, Arc<dyn Part>)>,
    /// The processors.
    pub cpus: Vec<Box<dyn VirtualCpu>>,
    /// What a reset loads.
    pub roms: Vec<Rom>,
    /// What tests can listen to.
    pub pins: Vec<Pins>,
    /// How processors share threads.
    pub threading: Threading,
}

impl Builder {
    /// A machine with nothing in it.
    pub fn new(clock: Clock) -> Self {
        Self {
            space: AddressSpace::new("memory"),
            clock,
            parts: Vec::new(),
            cpus: Vec::new(),
            roms: Vec::new(),
            pins: Vec::new(),
            threading: Threading::default(),
        }
    }

    /// Adds a device under a path such as `/serial0`.
    pub fn part(&mut self, path: impl Into<String>, part: impl Part + 'static) {
        self.parts.push((path.into(), Arc::new(part)));
    }

    /// The finished machine, paused and reset.
    ///
    /// # Errors
    /// The host gives no thread.
    pub fn build(self) -> io::Result<Machine> {
        let Self { space, clock, parts, cpus, roms, pins, threading } = self;
        let threads = Threads::start(cpus, threading, &clock)?;
        let machine = Machine { space, clock, parts, roms, pins, threads };
        machine.reset();
        Ok(machine)
    }
}

/// A machine.
pub struct Machine {
    space: Arc<AddressSpace>,
    clock: Clock,
    parts: Vec<(String, Arc<dyn Part>)>,
    roms: Vec<Rom>,
    pins: Vec<Pins>,
    threads: Threads,
}

impl Machine {
    /// The processors' address space.
    pub fn space(&self) -> &Arc<AddressSpace> {
        &self.space
    }

    /// The virtual clock.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// What a reset loads.
    pub fn roms(&self) -> &[Rom] {
        &self.roms
    }

    /// What tests can listen to.
    pub fn pins(&self) -> &[Pins] {
        &self.pins
    }

    /// Paths of all devices.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(|(path, _)| path.as_str())
    }

    /// Whether processors run.
    pub fn run_state(&self) -> RunState {
        self.threads.state()
    }

    /// Number of processors.
    pub fn cpu_count(&self) -> usize {
        self.threads.len()
    }

    /// The part of processor `index` that other threads may hold.
    pub fn link(&self, index: usize) -> Option<Arc<dyn CpuLink>> {
        self.threads.link(index)
    }

    /// The host's number of the thread of processor `index`.
    pub fn thread_id(&self, index: usize) -> Option<u32> {
        self.threads.thread_id(index)
    }

    /// Lets processors and devices run and time pass.
    pub fn resume(&self) {
        self.release();
        self.start();
    }

    /// Stops processors, time and devices. Returns when all have stopped and nothing is in flight:
    /// what is saved from now on belongs together.
    pub fn pause(&self) {
        self.stop();
        self.hold();
    }

    /// Stops devices alone: all of a machine whose processors never ran.
    pub fn hold(&self) {
        self.parts.iter().for_each(|(_, part)| part.hold());
    }

    /// Lets devices go on after [`Machine::hold`].
    pub fn release(&self) {
        self.parts.iter().for_each(|(_, part)| part.release());
    }

    /// Lets processors run and time pass.
    fn start(&self) {
        self.clock.resume();
        self.threads.resume();
    }

    /// Stops processors and time, for a moment in which devices may go on.
    fn stop(&self) {
        self.threads.pause();
        self.clock.pause();
    }

    /// Looks at processor `index`, pausing the machine for the moment if it runs.
    pub fn with_cpu<T>(
        &self,
        index: usize,
        act: impl FnOnce(&mut dyn VirtualCpu) -> T,
    ) -> Option<T> {
        let running = self.run_state() == RunState::Running;
        if running {
            self.stop();
        }
        let result = self.threads.with_cpu(index, act);
        if running {
            self.start();
        }
        result
    }

    /// Back to the state after power-on, running or paused as before.
    pub fn reset(&self) {
        let running = self.run_state() == RunState::Running;
        self.stop();
        self.parts.iter().for_each(|(_, part)| part.reset());
        for rom in &self.roms {
            self.load(rom);
        }
        for index in 0..self.cpu_count() {
            self.threads.with_cpu(index, |cpu| cpu.reset());
        }
        if running {
            self.start();
        }
    }

    /// Puts contents into memory, read-only memory too.
    fn load(&self, rom: &Rom) {
        let mut done = 0usize;
        while done < rom.bytes.len() {
            let at = Gpa(rom.at.0.wrapping_add(done as u64));
            let view = self.space.view();
            let Some(range) = view.find(at) else { return };
            let room = usize::try_from(range.last - at.0).unwrap_or(usize::MAX).saturating_add(1);
            let n = (rom.bytes.len() - done).min(room);
            if let Some((ram, offset)) = self.space.ram_at(at, n as u64, false) {
                let _in_range = ram.write(offset, &rom.bytes[done..done + n]);
            }
            done += n;
        }
    }

    /// Everything that the guest can observe but memory contents, by device. The machine is paused.
    pub fn save(&self) -> Vec<(String, Value)> {
        let mut saved = vec![(CLOCK.to_owned(), Value::Unsigned(self.clock.now_ns().into()))];
        saved.extend(self.parts.iter().map(|(path, part)| (path.clone(), part.save())));
        for index in 0..self.cpu_count() {
            if let Some(value) = self.threads.with_cpu(index, |cpu| cpu.save()) {
                saved.push((format!("{CPU}{index}"), value));
            }
        }
        saved
    }

    /// Takes over what [`Machine::save`] gave, on a paused machine of the same parts.
    ///
    /// Who drives a line is restored before who listens to it: a device that drives its line to
    /// match its state makes the line right for the controller, and what the controller takes
    /// that for is then replaced by what it had saved.
    ///
    /// # Errors
    /// The first device whose state does not fit, with its path. Devices restored before it have
    /// changed.
    pub fn restore(&self, saved: &[(String, Value)]) -> Result<(), RestoreError> {
        let place = |(path, _): &(String, Value)| self.parts.iter().position(|(p, _)| p == path);
        let mut order: Vec<_> = saved.iter().map(|one| (place(one), one)).collect();
        order.sort_by_key(|(place, (path, _))| match place {
            Some(place) => (1, self.parts.len() - place),
            None => (if path == CLOCK { 0 } else { 2 }, 0),
        });
        for (place, (path, value)) in order {
            let restored = match place {
                Some(place) => self.parts[place].1.restore(value),
                None => self.restore_other(path, value),
            };
            restored.map_err(|e| e.within(path))?;
        }
        Ok(())
    }

    /// The clock or a processor.
    fn restore_other(&self, path: &str, value: &Value) -> Result<(), RestoreError> {
        if path == CLOCK {
            self.clock.set_ns(<u64 as state::Saved>::from_value(value)?);
            return Ok(());
        }
        let Some(index) = path.strip_prefix(CPU) else {
            return Err(RestoreError::new("there is no such device"));
        };
        let index = index.parse().unwrap_or(usize::MAX);
        self.threads
            .with_cpu(index, |cpu| cpu.restore(value))
            .unwrap_or_else(|| Err(RestoreError::new("there is no such processor")))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.threads.end();
        self.space.clear();
    }
}
