//! The states of a job, and what may be asked of it in each.
//!
//! Names and meaning follow `JobStatus` and `JobVerb` of the QMP reference (“Background jobs”).

use crate::job::Refusal;

/// Where a job is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Made, not started.
    Created,
    /// At work.
    Running,
    /// Stopped for a while.
    Paused,
    /// Source and target are in step, and stay so until somebody ends the job.
    Ready,
    /// Ready, and stopped for a while.
    Standby,
    /// Done; other jobs of its group are not.
    Waiting,
    /// Done and waiting for `job-finalize`.
    Pending,
    /// Failed or cancelled, and cleaning up.
    Aborting,
    /// Over; kept until somebody has seen it.
    Concluded,
    /// No longer there.
    Null,
}

impl Status {
    /// The name in QMP.
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Ready => "ready",
            Self::Standby => "standby",
            Self::Waiting => "waiting",
            Self::Pending => "pending",
            Self::Aborting => "aborting",
            Self::Concluded => "concluded",
            Self::Null => "null",
        }
    }

    /// The states that may follow.
    pub(crate) fn followers(self) -> &'static [Self] {
        use Status::*;
        match self {
            Created => &[Running, Aborting, Null],
            Running => &[Paused, Ready, Waiting, Aborting],
            Paused => &[Running, Aborting],
            Ready => &[Standby, Waiting, Aborting],
            Standby => &[Ready, Aborting],
            Waiting => &[Pending, Aborting],
            Pending => &[Aborting, Concluded],
            Aborting => &[Concluded],
            Concluded => &[Null],
            Null => &[],
        }
    }

    /// Whether the job's work is still to do.
    pub(crate) fn working(self) -> bool {
        use Status::*;
        matches!(self, Created | Running | Paused | Ready | Standby)
    }
}

/// What may be asked of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// End early.
    Cancel,
    /// Stop for a while.
    Pause,
    /// Go on.
    Resume,
    /// Another rate limit.
    SetSpeed,
    /// End a job that is ready.
    Complete,
    /// Do the last, visible step.
    Finalize,
    /// Forget.
    Dismiss,
    /// Change options.
    Change,
}

impl Verb {
    /// The name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::SetSpeed => "set-speed",
            Self::Complete => "complete",
            Self::Finalize => "finalize",
            Self::Dismiss => "dismiss",
            Self::Change => "change",
        }
    }

    /// The states in which a job can do that.
    pub fn allowed_in(self) -> &'static [Status] {
        use Status::*;
        match self {
            Self::Cancel => &[Created, Running, Paused, Ready, Standby, Waiting, Pending],
            Self::Pause | Self::Resume | Self::SetSpeed | Self::Change => {
                &[Created, Running, Paused, Ready, Standby]
            }
            Self::Complete => &[Ready, Standby],
            Self::Finalize => &[Pending],
            Self::Dismiss => &[Concluded],
        }
    }

    /// Refuses what a job called `id` cannot do in `status`.
    ///
    /// # Errors
    /// With QEMU's text.
    pub(crate) fn check(self, id: &str, status: Status) -> Result<(), Refusal> {
        if self.allowed_in().contains(&status) {
            return Ok(());
        }
        let (status, verb) = (status.name(), self.name());
        Err(Refusal::new(format!(
            "Job '{id}' in state '{status}' cannot accept command verb '{verb}'"
        )))
    }
}

/// What a job does (`JobType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Moves what layers of a chain hold into one below them.
    Commit,
    /// Moves what layers below an image hold into it.
    Stream,
    /// Keeps another node in step.
    Mirror,
    /// Copies what a node held at one moment.
    Backup,
    /// Makes an image.
    Create,
    /// Changes an image's options.
    Amend,
}

impl Kind {
    /// The name in QMP.
    pub fn name(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Stream => "stream",
            Self::Mirror => "mirror",
            Self::Backup => "backup",
            Self::Create => "create",
            Self::Amend => "amend",
        }
    }

    /// Whether `block-job-…` commands and `BLOCK_JOB_…` events know such jobs.
    pub fn is_block_job(self) -> bool {
        !matches!(self, Self::Create | Self::Amend)
    }
}
