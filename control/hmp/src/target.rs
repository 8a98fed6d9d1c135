//! The machine as a monitor sees it.

use crate::Topic;

/// Something the machine is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// End the emulator.
    Quit,
    /// Stop the CPUs.
    Stop,
    /// Let them run.
    Continue,
    /// Reset the machine.
    Reset,
    /// Press the power button.
    PowerDown,
    /// Write what snapshots of a drive hold back to its image; of all with `all`.
    Commit(String),
    /// Hold the line of a character back end.
    SendBreak(String),
    /// Log these items from now on: comma-separated as after `-d`, or `none`.
    Log(String),
    /// Log to this file from now on.
    LogFile(String),
}

/// Which addresses are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// Guest-physical ones.
    Physical,
    /// Guest-virtual ones of a CPU, as it translates them now.
    Virtual {
        /// Number of the CPU.
        cpu: usize,
    },
}

/// What `info` asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InfoRequest {
    /// About what.
    pub topic: Topic,
    /// The monitor's CPU, or the one named.
    pub cpu: usize,
    /// Options such as `f` of `-f`.
    pub flags: Vec<char>,
    /// The argument that was given.
    pub argument: Option<String>,
}

impl InfoRequest {
    /// Whether the option `flag` was given.
    pub fn has(&self, flag: char) -> bool {
        self.flags.contains(&flag)
    }
}

/// The machine. Methods are called in the thread that serves the monitor's back end; they take
/// locks of the machine as they need and return soon.
pub trait MonitorTarget: Send + Sync {
    /// Does something.
    ///
    /// # Errors
    /// It cannot be done, and why.
    fn act(&self, action: Action) -> Result<(), String>;

    /// Whether the machine runs, as `info status` shows it: `running`, `paused`,
    /// `paused (prelaunch)` ….
    fn status(&self) -> String;

    /// How many CPUs there are.
    fn cpus(&self) -> usize;

    /// Value of a register, by any of its names.
    fn register(&self, cpu: usize, name: &str) -> Option<u64>;

    /// Fills `buffer` from guest memory without side effects.
    ///
    /// # Errors
    /// Some of it is not there.
    fn read_memory(&self, space: Space, address: u64, buffer: &mut [u8]) -> Result<(), Unmapped>;

    /// The guest-physical address behind a guest-virtual one.
    fn translate(&self, cpu: usize, address: u64) -> Option<u64>;

    /// Length and text (encoding, mnemonic, operands) of the instruction at the start of `bytes`.
    fn disassemble(&self, cpu: usize, address: u64, bytes: &[u8]) -> Option<(usize, String)>;

    /// Text for `info`, lines ended by `\n`.
    ///
    /// # Errors
    /// There is nothing to show, and why (`not supported yet: …`).
    fn info(&self, request: &InfoRequest) -> Result<String, String>;

    /// Takes up to `most` bytes that the ring of a character back end keeps.
    fn read_ring(&self, id: &str, most: usize) -> Option<Vec<u8>>;
}

/// Memory that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unmapped;
