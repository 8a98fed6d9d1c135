//! How jobs end: alone, or as a group that succeeds or fails together.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::job::list::{Entry, Group, Shared, lock};
use crate::job::{Event, Failure, Status, Work};

impl Shared {
    /// The work of a job is over.
    pub(super) fn completed(&self, key: u64, result: Result<(), Failure>) {
        let _finishing = lock(&self.finishing);
        let group = {
            let mut state = self.lock();
            let Some(job) = state.by_key(key) else { return };
            job.live.busy.store(false, Ordering::Relaxed);
            let group = job.group;
            let result = if job.force { Err(Failure::Cancelled) } else { result };
            let others_failed = state.members(group).any(|job| matches!(job.result, Some(Err(_))));
            let result = match result {
                Ok(()) if others_failed => Err(Failure::Cancelled),
                result => result,
            };
            match result {
                Err(failure) => {
                    drop(state);
                    return self.fail(key, failure);
                }
                Ok(()) => {
                    let Some(job) = state.by_key(key) else { return };
                    job.result = Some(Ok(()));
                    self.turn(job, Status::Waiting);
                }
            }
            if state.members(group).any(|job| job.result.is_none()) {
                return;
            }
            let mut by_hand = false;
            for job in state.members(group) {
                self.turn(job, Status::Pending);
                if !job.options.auto_finalize {
                    by_hand = true;
                    if job.kind.is_block_job() {
                        self.tell(Event::Pending { kind: job.kind, id: job.options.id.clone() });
                    }
                }
            }
            if by_hand {
                return;
            }
            group
        };
        self.finalize(group);
    }

    /// A job has failed, and its group with it. The last one to stop aborts them all.
    pub(super) fn fail(&self, key: u64, failure: Failure) {
        let group = {
            let mut state = self.lock();
            let Some(job) = state.by_key(key) else { return };
            job.force |= failure == Failure::Cancelled;
            job.result = Some(Err(failure));
            self.turn(job, Status::Aborting);
            let group = job.group;
            for other in state.members(group).filter(|job| job.key != key) {
                if other.result.is_none() && other.started {
                    other.cancel(true);
                } else if !matches!(other.result, Some(Err(_))) {
                    other.force = true;
                    other.result = Some(Err(Failure::Cancelled));
                    self.turn(other, Status::Aborting);
                }
            }
            if state.members(group).any(|job| job.result.is_none()) {
                return;
            }
            group
        };
        self.abort(group);
    }

    /// The last steps of a group whose jobs have all succeeded.
    pub(super) fn finalize(&self, group: Group) {
        let works = self.works(group);
        let failed = works.iter().find_map(|(key, work)| Some((*key, work.prepare().err()?)));
        if let Some((key, failure)) = failed {
            drop(works);
            return self.fail(key, failure);
        }
        for (key, work) in works {
            work.commit();
            work.clean();
            drop(work);
            self.conclude(key);
        }
    }

    fn abort(&self, group: Group) {
        // Those that were taken along first, then what went wrong.
        let mut works = self.works(group);
        works.reverse();
        works.sort_by_key(|(key, _)| self.lock().by_key(*key).is_some_and(|job| !job.force));
        for (key, work) in works {
            work.abort();
            work.clean();
            drop(work);
            self.conclude(key);
        }
    }

    fn works(&self, group: Group) -> Vec<(u64, Arc<dyn Work>)> {
        let mut state = self.lock();
        state.members(group).filter_map(|job| Some((job.key, job.work.clone()?))).collect()
    }

    fn conclude(&self, key: u64) {
        let mut state = self.lock();
        let Some(job) = state.by_key(key) else { return };
        job.synced = job.work.as_ref().map_or(job.synced, |work| work.actively_synced());
        let work = job.work.take();
        drop(state);
        // Outside of the lock, and before anybody hears of it: with the work go the nodes it held.
        drop(work);
        let mut state = self.lock();
        let Some(job) = state.by_key(key) else { return };
        if job.started && job.kind.is_block_job() {
            self.tell(outcome(job));
        }
        self.turn(job, Status::Concluded);
        let gone = job.options.auto_dismiss || !job.started;
        if gone {
            self.dismiss(&mut state, key);
        }
    }
}

fn outcome(job: &Entry) -> Event {
    match &job.result {
        Some(Err(Failure::Cancelled)) => Event::Cancelled(job.milestone()),
        Some(Err(Failure::Error(text))) => Event::Completed(job.milestone(), Some(text.clone())),
        _ => Event::Completed(job.milestone(), None),
    }
}
