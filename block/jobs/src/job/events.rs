//! What listeners hear about jobs, and what the lists show.

use crate::job::{Action, IoStatus, Kind, Operation, Status};

/// Something happened to a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// `JOB_STATUS_CHANGE`.
    Status {
        /// Job.
        id: String,
        /// Its new state.
        status: Status,
    },
    /// `BLOCK_JOB_READY`.
    Ready(Milestone),
    /// `BLOCK_JOB_COMPLETED`, with the error if it failed.
    Completed(Milestone, Option<String>),
    /// `BLOCK_JOB_CANCELLED`.
    Cancelled(Milestone),
    /// `BLOCK_JOB_PENDING`.
    Pending {
        /// What the job does.
        kind: Kind,
        /// Job.
        id: String,
    },
    /// `BLOCK_JOB_ERROR`.
    Error {
        /// Job.
        device: String,
        /// What failed.
        operation: Operation,
        /// What is done about it.
        action: Action,
    },
}

impl Event {
    /// The name in QMP.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Status { .. } => "JOB_STATUS_CHANGE",
            Self::Ready(_) => "BLOCK_JOB_READY",
            Self::Completed(..) => "BLOCK_JOB_COMPLETED",
            Self::Cancelled(_) => "BLOCK_JOB_CANCELLED",
            Self::Pending { .. } => "BLOCK_JOB_PENDING",
            Self::Error { .. } => "BLOCK_JOB_ERROR",
        }
    }
}

/// How far a job was when something happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Milestone {
    /// What the job does.
    pub kind: Kind,
    /// Job.
    pub device: String,
    /// Work in all, in bytes.
    pub len: u64,
    /// Work done, in bytes.
    pub offset: u64,
    /// Limit in bytes per second; 0 for none.
    pub speed: u64,
}

/// Hears about jobs. Called in the order of events with the list of jobs locked: it must not call
/// back, and be quick.
pub trait Listener: Send + Sync {
    /// Something happened.
    fn hear(&self, event: Event);
}

/// Nobody listens.
pub struct Deaf;

impl Listener for Deaf {
    fn hear(&self, _event: Event) {}
}

/// A job as the lists show it: `query-jobs` the upper part, `query-block-jobs` all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobInfo {
    /// Its name.
    pub id: String,
    /// What it does.
    pub kind: Kind,
    /// Where it is in its life.
    pub status: Status,
    /// Work done, in units of its own; bytes for block jobs.
    pub current: u64,
    /// Work in all, likewise.
    pub total: u64,
    /// Why it failed.
    pub error: Option<String>,
    /// It is at work right now.
    pub busy: bool,
    /// Somebody has it paused.
    pub paused: bool,
    /// Limit in bytes per second; 0 for none.
    pub speed: u64,
    /// What its requests have met.
    pub io_status: IoStatus,
    /// It can be completed.
    pub ready: bool,
    /// It does its last step without being told.
    pub auto_finalize: bool,
    /// It leaves without being told.
    pub auto_dismiss: bool,
    /// Whether every write reaches the target before it is acknowledged, for jobs that can do that.
    pub actively_synced: Option<bool>,
}
