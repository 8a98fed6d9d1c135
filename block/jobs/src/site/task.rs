//! A job that is one piece of work and no block job.

use std::sync::{Mutex, PoisonError};

use crate::job::{Control, Failure, Work};

type Do = Box<dyn FnOnce(&Control) -> Result<(), Failure> + Send>;

/// One piece of work: making an image, changing its options.
pub struct Task(Mutex<Option<Do>>);

impl Task {
    /// What is to be done; it tells `Control` how far it is.
    pub fn new(task: impl FnOnce(&Control) -> Result<(), Failure> + Send + 'static) -> Self {
        Self(Mutex::new(Some(Box::new(task))))
    }
}

impl Work for Task {
    fn run(&self, job: &Control) -> Result<(), Failure> {
        let task = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        task.map_or(Ok(()), |task| task(job))
    }
}
