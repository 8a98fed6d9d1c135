//! What a job does, as its list drives it.

use crate::job::{Control, Failure};

/// The doing of one job. It runs once; what is visible to others changes only in [`Work::prepare`]
/// and [`Work::commit`], when all jobs of the group have succeeded.
pub trait Work: Send + Sync {
    /// Does the work, on the job's own thread.
    ///
    /// # Errors
    /// `Cancelled` when `job` says so; else what went wrong.
    fn run(&self, job: &Control) -> Result<(), Failure>;

    /// Does what may still fail of the last step.
    ///
    /// # Errors
    /// What went wrong; the job and its group are then aborted.
    fn prepare(&self) -> Result<(), Failure> {
        Ok(())
    }

    /// Does the rest of the last step.
    fn commit(&self) {}

    /// Undoes what was done: the job failed, was cancelled, or its group was. Also called for a job
    /// that never ran.
    fn abort(&self) {}

    /// Lets go of everything, after either.
    fn clean(&self) {}

    /// Whether the job knows to end when told `complete`.
    fn completes(&self) -> bool {
        false
    }

    /// From now on, changes of the source are in the target before they are acknowledged. Whether the
    /// job can do that.
    fn go_along(&self) -> bool {
        false
    }

    /// Whether it does that already.
    fn goes_along(&self) -> bool {
        false
    }

    /// Whether every write to the source is in the target before it is acknowledged, for jobs that
    /// can do that.
    fn actively_synced(&self) -> Option<bool> {
        None
    }
}
