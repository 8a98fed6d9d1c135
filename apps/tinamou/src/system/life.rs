//! Whether the machine runs, and why not.

use machine::Machine;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a machine is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It has not run since it was made or reset.
    Prelaunch,
    /// It runs.
    Running,
    /// Somebody stopped it.
    Paused,
    /// The guest switched it off, and `-no-shutdown` keeps it.
    Shutdown,
}

/// The life of a machine. Changed by the control thread only.
pub struct Life {
    phase: Mutex<Phase>,
    /// Whether processors run and time passes at all; neither does under `-accel qtest`.
    moves: bool,
}

impl Life {
    /// A machine that was just made; `moves` says whether it can run by itself.
    pub fn new(moves: bool) -> Self {
        Self { phase: Mutex::new(Phase::Prelaunch), moves }
    }

    fn lock(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As `info status` shows it.
    pub fn status(&self) -> &'static str {
        match *self.lock() {
            Phase::Prelaunch => "paused (prelaunch)",
            Phase::Running => "running",
            Phase::Paused => "paused",
            Phase::Shutdown => "paused (shutdown)",
        }
    }

    /// Lets the machine run.
    ///
    /// # Errors
    /// It was switched off.
    pub fn resume(&self, machine: &Machine) -> Result<(), String> {
        let mut phase = self.lock();
        if *phase == Phase::Shutdown {
            return Err("Resetting the Virtual Machine is required".to_owned());
        }
        *phase = Phase::Running;
        if self.moves {
            machine.resume();
        }
        Ok(())
    }

    /// Stops the machine. Who stops a machine that stands still changes nothing.
    pub fn pause(&self, machine: &Machine, why: Phase) {
        let mut phase = self.lock();
        if *phase == Phase::Running {
            *phase = why;
        }
        if self.moves {
            machine.pause();
        }
    }

    /// Resets the machine, which runs on if it ran.
    pub fn reset(&self, machine: &Machine) {
        machine.reset();
        let mut phase = self.lock();
        if *phase != Phase::Running {
            *phase = Phase::Prelaunch;
        }
    }
}
