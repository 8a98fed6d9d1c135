//! The list of jobs, and the commands for them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::job::{
    Bell, Class, Clock, Control, Deaf, Event, Failure, HostClock, IoStatus, JobInfo, Kind,
    Listener, Milestone, Refusal, Status, Verb, Work,
};

/// How a job is to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobOptions {
    /// Its name.
    pub id: String,
    /// Limit in bytes per second; 0 for none.
    pub speed: i64,
    /// Do the last step without being told.
    pub auto_finalize: bool,
    /// Leave the list without being told.
    pub auto_dismiss: bool,
}

impl JobOptions {
    /// A job called `id` that needs no attention.
    pub fn new(id: &str) -> Self {
        Self { id: id.to_owned(), speed: 0, auto_finalize: true, auto_dismiss: true }
    }
}

/// Jobs that succeed or fail together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group(pub(super) u64);

/// The jobs of one machine or daemon.
///
/// Dropping it ends them all.
pub struct Jobs {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub state: Mutex<State>,
    /// Some job has another state.
    pub changed: Condvar,
    /// Held by whoever takes jobs through their last steps. Taken before `state`.
    pub finishing: Mutex<()>,
    pub clock: Arc<dyn Clock>,
    listener: Arc<dyn Listener>,
}

#[derive(Default)]
pub(super) struct State {
    /// Oldest first.
    pub jobs: Vec<Entry>,
    next: u64,
    threads: Vec<JoinHandle<()>>,
}

pub(super) struct Entry {
    pub key: u64,
    pub group: Group,
    pub options: JobOptions,
    pub kind: Kind,
    pub status: Status,
    /// Gone when the job is over.
    pub work: Option<Arc<dyn Work>>,
    /// What the work last said of that.
    pub synced: Option<bool>,
    pub live: Arc<Live>,
    pub started: bool,
    /// Reasons to be paused.
    pub pauses: u32,
    /// One of the reasons is the user.
    pub user_paused: bool,
    /// Somebody wants it to end; `force` also where it could end well.
    pub cancelled: bool,
    pub force: bool,
    pub complete: bool,
    pub io_status: IoStatus,
    /// How the work ended.
    pub result: Option<Result<(), Failure>>,
}

/// What is shared with the job's thread without a lock.
#[derive(Default)]
pub(super) struct Live {
    pub bell: Arc<Bell>,
    /// Pause or cancel is wanted.
    pub attention: AtomicBool,
    pub speed: AtomicU64,
    pub current: AtomicU64,
    pub total: AtomicU64,
    pub busy: AtomicBool,
}

impl Entry {
    pub fn milestone(&self) -> Milestone {
        Milestone {
            kind: self.kind,
            device: self.options.id.clone(),
            len: self.live.total.load(Ordering::Relaxed),
            offset: self.live.current.load(Ordering::Relaxed),
            speed: self.live.speed.load(Ordering::Relaxed),
        }
    }

    pub fn ready(&self) -> bool {
        matches!(self.status, Status::Ready | Status::Standby)
    }

    /// Lets the job's thread look at what has changed.
    pub fn nudge(&self) {
        let wanted = self.pauses > 0 || self.force;
        self.live.attention.store(wanted, Ordering::SeqCst);
        self.live.bell.ring();
    }

    pub fn check(&self, verb: Verb) -> Result<(), Refusal> {
        verb.check(&self.options.id, self.status)
    }

    /// Ends the job where it stands.
    pub fn cancel(&mut self, force: bool) {
        if self.user_paused {
            self.user_paused = false;
            self.pauses -= 1;
            self.io_status = IoStatus::Ok;
        }
        self.force |= force || !self.ready();
        self.cancelled = true;
        self.nudge();
    }

    fn info(&self) -> JobInfo {
        let milestone = self.milestone();
        let error = match &self.result {
            Some(Err(failure)) => Some(failure.text().to_owned()),
            _ => None,
        };
        JobInfo {
            id: milestone.device,
            kind: self.kind,
            status: self.status,
            current: milestone.offset,
            total: milestone.len,
            error,
            busy: self.live.busy.load(Ordering::Relaxed),
            paused: self.pauses > 0,
            speed: milestone.speed,
            io_status: self.io_status,
            ready: self.ready(),
            auto_finalize: self.options.auto_finalize,
            auto_dismiss: self.options.auto_dismiss,
            actively_synced: self.work.as_ref().map_or(self.synced, |work| work.actively_synced()),
        }
    }
}

impl Default for Jobs {
    fn default() -> Self {
        Self::new(Arc::new(Deaf), Arc::new(HostClock::default()))
    }
}

impl Jobs {
    /// No jobs yet.
    pub fn new(listener: Arc<dyn Listener>, clock: Arc<dyn Clock>) -> Self {
        let shared = Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            finishing: Mutex::new(()),
            clock,
            listener,
        };
        Self { shared: Arc::new(shared) }
    }

    /// A group of its own for several jobs.
    pub fn group(&self) -> Group {
        let mut state = self.shared.lock();
        state.next += 1;
        Group(state.next)
    }

    /// Refuses a name that no new job can have.
    ///
    /// # Errors
    /// When it is malformed or taken.
    pub fn check_new(&self, id: &str) -> Result<(), Refusal> {
        self.shared.lock().check_new(id)
    }

    /// Adds a job that does nothing yet.
    ///
    /// # Errors
    /// For a name or a speed that cannot be.
    pub fn create(
        &self,
        kind: Kind,
        options: JobOptions,
        group: Option<Group>,
        work: Arc<dyn Work>,
    ) -> Result<(), Refusal> {
        let mut state = self.shared.lock();
        state.check_new(&options.id)?;
        state.next += 1;
        let key = state.next;
        let id = options.id.clone();
        let announce = |status| self.shared.listener.hear(Event::Status { id: id.clone(), status });
        announce(Status::Created);
        let Ok(speed) = u64::try_from(options.speed) else {
            announce(Status::Null);
            return Err(negative_speed());
        };
        let live = Live { speed: AtomicU64::new(speed), ..Live::default() };
        state.jobs.push(Entry {
            key,
            group: group.unwrap_or(Group(key)),
            options,
            kind,
            status: Status::Created,
            synced: work.actively_synced(),
            work: Some(work),
            live: Arc::new(live),
            started: false,
            pauses: 0,
            user_paused: false,
            cancelled: false,
            force: false,
            complete: false,
            io_status: IoStatus::Ok,
            result: None,
        });
        Ok(())
    }

    /// Starts a job that was created, on a thread of its own.
    ///
    /// # Errors
    /// The host has no thread left; the job is then gone.
    pub fn start(&self, id: &str) -> Result<(), Refusal> {
        let mut state = self.shared.lock();
        let Some(entry) = state.jobs.iter_mut().find(|job| job.options.id == id) else {
            return Err(missing());
        };
        if entry.status != Status::Created || entry.result.is_some() {
            return Ok(());
        }
        let Some(work) = entry.work.clone() else { return Ok(()) };
        entry.started = true;
        let key = entry.key;
        let control = Control::new(Arc::clone(&self.shared), key, Arc::clone(&entry.live));
        self.shared.turn(entry, Status::Running);
        let thread = std::thread::Builder::new().name(format!("job {id}"));
        let shared = Arc::clone(&self.shared);
        let spawned = thread.spawn(move || {
            let result = control.checkpoint().and_then(|()| work.run(&control));
            drop((work, control));
            shared.completed(key, result);
        });
        state.threads.retain(|thread| !thread.is_finished());
        match spawned {
            Ok(thread) => {
                state.threads.push(thread);
                Ok(())
            }
            Err(error) => {
                drop(state);
                self.shared.completed(key, Err(error.into()));
                Err(Refusal::new("Could not start a thread for the job"))
            }
        }
    }

    /// Adds a job and starts it.
    ///
    /// # Errors
    /// As [`Jobs::create`] and [`Jobs::start`].
    pub fn launch(
        &self,
        kind: Kind,
        options: JobOptions,
        work: Arc<dyn Work>,
    ) -> Result<(), Refusal> {
        let id = options.id.clone();
        self.create(kind, options, None, work)?;
        self.start(&id)
    }

    /// Takes back a job that was created and not started (`abort` of a transaction).
    pub fn withdraw(&self, id: &str) {
        let key = self.shared.lock().find(id).ok().filter(|job| !job.started).map(|job| job.key);
        if let Some(key) = key {
            self.shared.completed(key, Err(Failure::Cancelled));
        }
    }

    /// `query-jobs`, `query-block-jobs`: newest first.
    pub fn list(&self) -> Vec<JobInfo> {
        self.shared.lock().jobs.iter().rev().map(Entry::info).collect()
    }

    /// The job called `id`, if there is one.
    pub fn info(&self, id: &str) -> Option<JobInfo> {
        self.shared.lock().find(id).ok().map(|job| job.info())
    }

    /// Refuses the name of a job that is no block job.
    ///
    /// # Errors
    /// As `block-job-…` commands do.
    pub fn check_block_job(&self, id: &str) -> Result<(), Refusal> {
        match self.info(id) {
            Some(info) if info.kind.is_block_job() => Ok(()),
            _ => Err(Refusal {
                class: Class::DeviceNotActive,
                text: format!("Block job '{id}' not found"),
            }),
        }
    }

    /// `job-pause`.
    ///
    /// # Errors
    /// In other states, and when it is paused already.
    pub fn pause(&self, id: &str) -> Result<(), Refusal> {
        let mut state = self.shared.lock();
        let job = state.find(id)?;
        job.check(Verb::Pause)?;
        if job.user_paused {
            return Err(Refusal::new("Job is already paused"));
        }
        job.user_paused = true;
        job.pauses += 1;
        job.nudge();
        Ok(())
    }

    /// `job-resume`.
    ///
    /// # Errors
    /// In other states, and when the user has not paused it.
    pub fn resume(&self, id: &str) -> Result<(), Refusal> {
        let mut state = self.shared.lock();
        let job = state.find(id)?;
        if !job.user_paused {
            return Err(Refusal::new("Can't resume a job that was not paused"));
        }
        job.check(Verb::Resume)?;
        job.user_paused = false;
        job.pauses -= 1;
        job.io_status = IoStatus::Ok;
        job.nudge();
        Ok(())
    }

    /// Pauses every job that works, for reasons of our own (an emergency, a migration), beside what users do.
    pub fn pause_all(&self) {
        for job in self.shared.lock().jobs.iter_mut().filter(|job| job.status.working()) {
            job.pauses += 1;
            job.nudge();
        }
    }

    /// Takes back one [`Jobs::pause_all`].
    pub fn resume_all(&self) {
        for job in self.shared.lock().jobs.iter_mut() {
            job.pauses = job.pauses.saturating_sub(1).max(u32::from(job.user_paused));
            job.nudge();
        }
    }

    /// `job-cancel` with `force`; `block-job-cancel` with or without: a job that is ready ends well
    /// without force, and leaves source and target as they are.
    ///
    /// # Errors
    /// In other states.
    pub fn cancel(&self, id: &str, force: bool) -> Result<(), Refusal> {
        let _finishing = {
            let mut state = self.shared.lock();
            let job = state.find(id)?;
            job.check(Verb::Cancel)?;
            if job.status.working() && job.started {
                job.cancel(force);
                return Ok(());
            }
            drop(state);
            lock(&self.shared.finishing)
        };
        // Nobody is at work on it: what follows, follows here.
        let key = {
            let mut state = self.shared.lock();
            let job = state.find(id)?;
            job.check(Verb::Cancel)?;
            job.cancel(force);
            if job.started && job.status.working() {
                return Ok(());
            }
            job.key
        };
        self.shared.fail(key, Failure::Cancelled);
        Ok(())
    }

    /// `block-job-cancel`: refuses without force when the user has the job paused.
    ///
    /// # Errors
    /// As [`Jobs::cancel`].
    pub fn block_job_cancel(&self, id: &str, force: bool) -> Result<(), Refusal> {
        self.check_block_job(id)?;
        if !force && self.shared.lock().find(id)?.user_paused {
            let text = format!("The block job for device '{id}' is currently paused");
            return Err(Refusal::new(text));
        }
        self.cancel(id, force)
    }

    /// `job-complete`: ends a job that is ready.
    ///
    /// # Errors
    /// In other states, and when it is to be cancelled.
    pub fn complete(&self, id: &str) -> Result<(), Refusal> {
        let mut state = self.shared.lock();
        let job = state.find(id)?;
        job.check(Verb::Complete)?;
        if job.cancelled || !job.work.as_ref().is_some_and(|work| work.completes()) {
            let text = format!("The active block job '{id}' cannot be completed");
            return Err(Refusal::new(text));
        }
        job.complete = true;
        job.live.bell.ring();
        Ok(())
    }

    /// `job-finalize`: does the last step of a job and of its group, before it returns.
    ///
    /// # Errors
    /// In other states.
    pub fn finalize(&self, id: &str) -> Result<(), Refusal> {
        let _finishing = lock(&self.shared.finishing);
        let group = {
            let mut state = self.shared.lock();
            let job = state.find(id)?;
            job.check(Verb::Finalize)?;
            job.group
        };
        self.shared.finalize(group);
        Ok(())
    }

    /// `job-dismiss`: forgets a job that is over.
    ///
    /// # Errors
    /// In other states.
    pub fn dismiss(&self, id: &str) -> Result<(), Refusal> {
        let mut state = self.shared.lock();
        let job = state.find(id)?;
        job.check(Verb::Dismiss)?;
        let key = job.key;
        self.shared.dismiss(&mut state, key);
        Ok(())
    }

    /// `block-job-set-speed`: the limit in bytes per second, 0 for none.
    ///
    /// # Errors
    /// In other states; for a negative speed.
    pub fn set_speed(&self, id: &str, speed: i64) -> Result<(), Refusal> {
        let mut state = self.shared.lock();
        let job = state.find(id)?;
        job.check(Verb::SetSpeed)?;
        let speed = u64::try_from(speed).map_err(|_| negative_speed())?;
        job.live.speed.store(speed, Ordering::SeqCst);
        job.live.bell.ring();
        Ok(())
    }

    /// `block-job-change` of a mirror: changes of its source reach the target before they are
    /// acknowledged (`copy-mode=write-blocking`, with `along`), which cannot be taken back.
    ///
    /// # Errors
    /// In other states, and for other jobs.
    pub fn change_copy_mode(&self, id: &str, along: bool) -> Result<(), Refusal> {
        let mut state = self.shared.lock();
        let job = state.find(id)?;
        job.check(Verb::Change)?;
        let work = job.work.clone().filter(|work| work.actively_synced().is_some());
        let Some(work) = work else { return Err(Refusal::new("Job type does not support change")) };
        match along {
            true if work.go_along() => Ok(()),
            true => Err(Refusal::new("Job type does not support change")),
            false if !work.goes_along() => Ok(()),
            false => {
                let text = "Change to copy mode 'background' is not implemented";
                Err(Refusal::new(text))
            }
        }
    }

    /// The clock shows another time.
    pub fn clock_moved(&self) {
        self.shared.lock().jobs.iter().for_each(|job| job.live.bell.ring());
    }

    /// Waits until what `until` asks of the list is so.
    pub fn wait(&self, mut until: impl FnMut(&[JobInfo]) -> bool) {
        let state = self.shared.lock();
        let unlike = |state: &mut State| {
            let list: Vec<JobInfo> = state.jobs.iter().map(Entry::info).collect();
            !until(&list)
        };
        drop(self.shared.changed.wait_while(state, unlike));
    }

    /// Cancels all jobs and waits until none is left at work.
    pub fn shutdown(&self) {
        loop {
            let ids: Vec<String> = {
                let state = self.shared.lock();
                let open = state.jobs.iter().filter(|job| job.check(Verb::Cancel).is_ok());
                open.map(|job| job.options.id.clone()).collect()
            };
            for id in &ids {
                // It may have ended by itself meanwhile.
                let _ = self.cancel(id, true);
            }
            let threads = std::mem::take(&mut self.shared.lock().threads);
            if ids.is_empty() && threads.is_empty() {
                break;
            }
            for thread in threads {
                let _ = thread.join();
            }
        }
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        self.shutdown();
    }
}

fn check_id(id: &str) -> Result<(), Refusal> {
    let mut chars = id.chars();
    let fine = chars.next().is_some_and(|c| c.is_ascii_alphabetic())
        && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'));
    if fine { Ok(()) } else { Err(Refusal::new(format!("Invalid job ID '{id}'"))) }
}

fn negative_speed() -> Refusal {
    Refusal::new("Parameter 'speed' expects a non-negative value")
}

fn missing() -> Refusal {
    Refusal::new("Job not found")
}

impl State {
    pub fn find(&mut self, id: &str) -> Result<&mut Entry, Refusal> {
        self.jobs.iter_mut().find(|job| job.options.id == id).ok_or_else(missing)
    }

    fn check_new(&self, id: &str) -> Result<(), Refusal> {
        check_id(id)?;
        if self.jobs.iter().any(|job| job.options.id == id) {
            return Err(Refusal::new(format!("Job ID '{id}' already in use")));
        }
        Ok(())
    }

    pub fn by_key(&mut self, key: u64) -> Option<&mut Entry> {
        self.jobs.iter_mut().find(|job| job.key == key)
    }

    /// The jobs of a group, oldest first.
    pub fn members(&mut self, group: Group) -> impl Iterator<Item = &mut Entry> {
        self.jobs.iter_mut().filter(move |job| job.group == group)
    }
}

impl Shared {
    pub fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub fn tell(&self, event: Event) {
        self.listener.hear(event);
    }

    /// Takes a job to its next state and tells so.
    pub fn turn(&self, job: &mut Entry, status: Status) {
        if job.status == status {
            return;
        }
        assert!(
            job.status.followers().contains(&status),
            "job '{}' cannot go from {:?} to {status:?}",
            job.options.id,
            job.status
        );
        job.status = status;
        self.tell(Event::Status { id: job.options.id.clone(), status });
        self.changed.notify_all();
    }

    /// Takes a job that is over off the list.
    pub fn dismiss(&self, state: &mut State, key: u64) {
        if let Some(at) = state.jobs.iter().position(|job| job.key == key) {
            let mut entry = state.jobs.remove(at);
            self.turn(&mut entry, Status::Null);
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
