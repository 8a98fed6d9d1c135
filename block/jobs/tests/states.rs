//! States, verbs and events of jobs, with work that does what the test says.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jobs::job::{
    Action, Clock, Control, Event, Failure, HandClock, HostClock, JobOptions, Jobs, Kind, Listener,
    OnError, Operation, Refusal, Status, Verb, Work,
};

/// What scripted work is told to do next.
enum Step {
    /// Look whether it shall pause or end.
    Check,
    Ready,
    /// A request of so many bytes, as soon as the speed allows.
    Request(u64),
    /// A request fails with this number of the host.
    Fail(OnError, i32),
    /// Wait as a mirror in step does.
    Linger,
    End(Result<(), Failure>),
}

struct Script {
    steps: Mutex<Receiver<Step>>,
    did: Arc<Mutex<Vec<String>>>,
    name: &'static str,
    prepares: Result<(), Failure>,
}

impl Script {
    fn note(&self, what: &str) {
        self.did.lock().unwrap().push(format!("{} {what}", self.name));
    }

    fn linger(job: &Control) -> Result<(), Failure> {
        loop {
            let seen = job.bell().rings();
            job.checkpoint()?;
            if job.leave() || job.complete() {
                return Ok(());
            }
            job.sleep(seen, None);
        }
    }

    fn request(&self, job: &Control, bytes: u64) -> Result<(), Failure> {
        loop {
            let seen = job.bell().rings();
            job.checkpoint()?;
            let Some(delay) = job.delay() else { break };
            job.sleep(seen, Some(delay));
        }
        job.account(bytes);
        job.meter().add_done(bytes);
        self.note("request");
        Ok(())
    }
}

impl Work for Script {
    fn run(&self, job: &Control) -> Result<(), Failure> {
        job.set_total(100);
        // The test has gone: as if cancelled.
        while let Ok(step) = self.steps.lock().unwrap().recv() {
            match step {
                Step::Check => job.checkpoint()?,
                Step::Ready => job.ready(),
                Step::Request(bytes) => self.request(job, bytes)?,
                Step::Linger => return Self::linger(job),
                Step::End(result) => return result,
                Step::Fail(policy, errno) => {
                    let error = std::io::Error::from_raw_os_error(errno);
                    match job.failed(Operation::Write, policy, &error) {
                        Action::Report => return Err(Failure::from(error)),
                        Action::Ignore => {}
                        Action::Stop => job.checkpoint()?,
                    }
                }
            }
        }
        Err(Failure::Cancelled)
    }

    fn prepare(&self) -> Result<(), Failure> {
        self.note("prepare");
        self.prepares.clone()
    }
    fn commit(&self) {
        self.note("commit");
    }
    fn abort(&self) {
        self.note("abort");
    }
    fn clean(&self) {
        self.note("clean");
    }
    fn completes(&self) -> bool {
        true
    }
}

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Listener for Heard {
    fn hear(&self, event: Event) {
        let text = match &event {
            Event::Status { id, status } => format!("{id} {}", status.name()),
            Event::Completed(m, error) => {
                format!(
                    "{} COMPLETED{}",
                    m.device,
                    error.as_ref().map_or(String::new(), |e| format!(": {e}"))
                )
            }
            Event::Ready(m) | Event::Cancelled(m) => {
                format!("{} {}", m.device, event.name().replace("BLOCK_JOB_", ""))
            }
            Event::Pending { id, .. } => format!("{id} PENDING"),
            Event::Error { device, operation, action } => {
                format!("{device} ERROR {} {}", operation.name(), action.name())
            }
        };
        self.0.lock().unwrap().push(text);
    }
}

struct Bench {
    jobs: Jobs,
    heard: Arc<Heard>,
    did: Arc<Mutex<Vec<String>>>,
}

impl Bench {
    fn new() -> Self {
        Self::with(Arc::new(HostClock::default()))
    }

    fn with(clock: Arc<dyn Clock>) -> Self {
        let heard = Arc::new(Heard::default());
        let jobs = Jobs::new(Arc::clone(&heard) as Arc<dyn Listener>, clock);
        Self { jobs, heard, did: Arc::default() }
    }

    fn work(
        &self,
        name: &'static str,
        prepares: Result<(), Failure>,
    ) -> (Sender<Step>, Arc<Script>) {
        let (tell, steps) = channel();
        let did = Arc::clone(&self.did);
        (tell, Arc::new(Script { steps: Mutex::new(steps), did, name, prepares }))
    }

    fn launch(&self, options: JobOptions) -> Sender<Step> {
        let (tell, work) = self.work("j", Ok(()));
        self.jobs.launch(Kind::Mirror, options, work).unwrap();
        tell
    }

    fn until(&self, id: &str, status: Status) {
        self.jobs.wait(|list| list.iter().any(|job| job.id == id && job.status == status));
    }

    fn gone(&self, id: &str) {
        self.jobs.wait(|list| !list.iter().any(|job| job.id == id));
    }

    fn heard(&self) -> Vec<String> {
        std::mem::take(&mut *self.heard.0.lock().unwrap())
    }

    fn did(&self) -> Vec<String> {
        std::mem::take(&mut *self.did.lock().unwrap())
    }
}

fn by_hand(id: &str) -> JobOptions {
    JobOptions { auto_finalize: false, auto_dismiss: false, ..JobOptions::new(id) }
}

fn text(result: Result<(), Refusal>) -> String {
    result.unwrap_err().text
}

#[test]
fn a_job_that_succeeds_by_itself_passes_all_states() {
    let bench = Bench::new();
    let tell = bench.launch(JobOptions::new("j"));
    tell.send(Step::End(Ok(()))).unwrap();
    bench.gone("j");
    bench.jobs.shutdown();
    let heard = ["created", "running", "waiting", "pending", "COMPLETED", "concluded", "null"];
    assert_eq!(bench.heard(), heard.map(|status| format!("j {status}")));
    assert_eq!(bench.did(), ["j prepare", "j commit", "j clean"]);
}

#[test]
fn a_job_by_hand_waits_to_be_finalized_and_dismissed() {
    let bench = Bench::new();
    let tell = bench.launch(by_hand("j"));
    tell.send(Step::Ready).unwrap();
    tell.send(Step::Linger).unwrap();
    bench.until("j", Status::Ready);
    bench.jobs.complete("j").unwrap();
    bench.until("j", Status::Pending);
    assert_eq!(bench.did(), [""; 0], "nothing is visible yet");
    bench.jobs.finalize("j").unwrap();
    assert_eq!(bench.jobs.info("j").unwrap().status, Status::Concluded);
    bench.jobs.dismiss("j").unwrap();
    let heard = [
        "created",
        "running",
        "ready",
        "READY",
        "waiting",
        "pending",
        "PENDING",
        "COMPLETED",
        "concluded",
        "null",
    ];
    assert_eq!(bench.heard(), heard.map(|status| format!("j {status}")));
    assert_eq!(text(bench.jobs.dismiss("j")), "Job not found");
    let refusal = bench.jobs.block_job_cancel("j", false).unwrap_err();
    assert_eq!(
        (refusal.class.name(), &*refusal.text),
        ("DeviceNotActive", "Block job 'j' not found")
    );
}

#[test]
fn pausing_stops_at_the_next_checkpoint_and_resuming_goes_on() {
    let bench = Bench::new();
    let tell = bench.launch(JobOptions::new("j"));
    assert_eq!(text(bench.jobs.resume("j")), "Can't resume a job that was not paused");
    bench.jobs.pause("j").unwrap();
    assert_eq!(text(bench.jobs.pause("j")), "Job is already paused");
    tell.send(Step::Check).unwrap();
    bench.until("j", Status::Paused);
    let text = text(bench.jobs.block_job_cancel("j", false));
    assert_eq!(text, "The block job for device 'j' is currently paused");
    // Two reasons: both have to go.
    bench.jobs.pause_all();
    bench.jobs.resume("j").unwrap();
    assert_eq!(bench.jobs.info("j").unwrap().status, Status::Paused);
    bench.jobs.resume_all();
    bench.until("j", Status::Running);
    tell.send(Step::Ready).unwrap();
    bench.until("j", Status::Ready);
    bench.jobs.pause("j").unwrap();
    tell.send(Step::Check).unwrap();
    bench.until("j", Status::Standby);
    bench.jobs.resume("j").unwrap();
    bench.until("j", Status::Ready);
    tell.send(Step::End(Ok(()))).unwrap();
    bench.gone("j");
}

#[test]
fn a_ready_job_ends_well_when_cancelled_without_force_only() {
    for (force, last) in [(false, "j COMPLETED"), (true, "j CANCELLED")] {
        let bench = Bench::new();
        let tell = bench.launch(by_hand("j"));
        tell.send(Step::Ready).unwrap();
        tell.send(Step::Linger).unwrap();
        bench.until("j", Status::Ready);
        bench.jobs.cancel("j", force).unwrap();
        if !force {
            bench.until("j", Status::Pending);
            bench.jobs.finalize("j").unwrap();
        }
        bench.until("j", Status::Concluded);
        let error = force.then(|| "Operation canceled".to_owned());
        assert_eq!(bench.jobs.info("j").unwrap().error, error);
        let heard = bench.heard();
        assert_eq!(heard[heard.len() - 2..], [last, "j concluded"]);
        let ends = if force {
            ["j abort", "j clean"].as_slice()
        } else {
            &["j prepare", "j commit", "j clean"]
        };
        assert_eq!(bench.did(), ends);
    }
}

#[test]
fn errors_are_reported_ignored_or_stop_the_job() {
    const EACCES: i32 = 13;
    const ENOSPC: i32 = 28;
    let bench = Bench::new();
    let tell = bench.launch(JobOptions { auto_dismiss: false, ..JobOptions::new("j") });
    tell.send(Step::Fail(OnError::Ignore, EACCES)).unwrap();
    tell.send(Step::Fail(OnError::Enospc, ENOSPC)).unwrap();
    bench.until("j", Status::Paused);
    let info = bench.jobs.info("j").unwrap();
    assert_eq!((info.io_status.name(), info.paused), ("nospace", true));
    bench.jobs.resume("j").unwrap();
    assert_eq!(bench.jobs.info("j").unwrap().io_status.name(), "ok");
    bench.until("j", Status::Running);
    tell.send(Step::Fail(OnError::Stop, EACCES)).unwrap();
    bench.until("j", Status::Paused);
    assert_eq!(bench.jobs.info("j").unwrap().io_status.name(), "failed");
    bench.jobs.resume("j").unwrap();
    tell.send(Step::Fail(OnError::Enospc, EACCES)).unwrap();
    bench.until("j", Status::Concluded);
    assert_eq!(bench.jobs.info("j").unwrap().error.as_deref(), Some("Permission denied"));
    let heard = bench.heard();
    let errors: Vec<&String> = heard.iter().filter(|e| e.contains("ERROR")).collect();
    let actions = ["ignore", "stop", "stop", "report"];
    assert_eq!(errors, actions.map(|a| format!("j ERROR write {a}")).iter().collect::<Vec<_>>());
    assert_eq!(heard[heard.len() - 2], "j COMPLETED: Permission denied");
}

#[test]
fn jobs_of_a_group_succeed_together_or_not_at_all() {
    let failure = || Failure::Error("no".to_owned());
    // How the second ends, and how its preparation does; what is done in the end.
    type End = Result<(), Failure>;
    let cases: [(End, End, &[&str]); 3] = [
        (Ok(()), Ok(()), &["a prepare", "b prepare", "a commit", "a clean", "b commit", "b clean"]),
        (Err(failure()), Ok(()), &["a abort", "a clean", "b abort", "b clean"]),
        (
            Ok(()),
            Err(failure()),
            &["a prepare", "b prepare", "a abort", "a clean", "b abort", "b clean"],
        ),
    ];
    for (ends, prepares, done) in cases {
        let bench = Bench::new();
        let group = Some(bench.jobs.group());
        let (tell_a, a) = bench.work("a", Ok(()));
        let (tell_b, b) = bench.work("b", prepares);
        bench.jobs.create(Kind::Backup, JobOptions::new("a"), group, a).unwrap();
        bench.jobs.create(Kind::Backup, JobOptions::new("b"), group, b).unwrap();
        bench.jobs.start("a").unwrap();
        bench.jobs.start("b").unwrap();
        tell_a.send(Step::End(Ok(()))).unwrap();
        bench.until("a", Status::Waiting);
        assert_eq!(bench.did(), [""; 0]);
        tell_b.send(Step::End(ends)).unwrap();
        bench.gone("a");
        bench.gone("b");
        bench.jobs.shutdown();
        assert_eq!(bench.did(), done);
    }
}

#[test]
fn who_fails_takes_along_those_that_still_work() {
    let bench = Bench::new();
    let group = Some(bench.jobs.group());
    let (tell_a, a) = bench.work("a", Ok(()));
    let (tell_b, b) = bench.work("b", Ok(()));
    bench.jobs.create(Kind::Backup, JobOptions::new("a"), group, a).unwrap();
    bench.jobs.create(Kind::Backup, JobOptions::new("b"), group, b).unwrap();
    bench.jobs.start("a").unwrap();
    bench.jobs.start("b").unwrap();
    tell_b.send(Step::Linger).unwrap();
    bench.heard();
    tell_a.send(Step::End(Err(Failure::Error("no".to_owned())))).unwrap();
    bench.gone("a");
    bench.jobs.shutdown();
    let order = [
        "a aborting",
        "b aborting",
        "b CANCELLED",
        "b concluded",
        "b null",
        "a COMPLETED: no",
        "a concluded",
        "a null",
    ];
    assert_eq!(bench.heard(), order);
}

#[test]
fn a_job_that_never_started_leaves_without_a_trace() {
    let bench = Bench::new();
    let (_tell, work) = bench.work("j", Ok(()));
    bench.jobs.create(Kind::Backup, by_hand("j"), None, work).unwrap();
    bench.jobs.withdraw("j");
    assert_eq!(bench.heard(), ["j created", "j aborting", "j concluded", "j null"]);
    assert_eq!(bench.did(), ["j abort", "j clean"]);
    let (_tell, work) = bench.work("j", Ok(()));
    let wrong = JobOptions { speed: -1, ..by_hand("j") };
    let text = text(bench.jobs.create(Kind::Backup, wrong, None, work));
    assert_eq!(text, "Parameter 'speed' expects a non-negative value");
    assert_eq!(bench.heard(), ["j created", "j null"]);
}

#[test]
fn names_are_checked_and_unique() {
    let bench = Bench::new();
    let _tell = bench.launch(JobOptions::new("j"));
    for (id, why) in [
        ("j", "Job ID 'j' already in use"),
        ("", "Invalid job ID ''"),
        ("0 j", "Invalid job ID '0 j'"),
    ] {
        let (_tell, work) = bench.work("j", Ok(()));
        assert_eq!(text(bench.jobs.launch(Kind::Stream, JobOptions::new(id), work)), why);
    }
}

#[test]
fn the_speed_is_kept_by_the_clock_and_can_change() {
    let clock = Arc::new(HandClock::default());
    let bench = Bench::with(Arc::clone(&clock) as Arc<dyn Clock>);
    let tell = bench.launch(JobOptions { speed: 1000, ..JobOptions::new("j") });
    let asleep = || {
        while bench.jobs.info("j").unwrap().busy {
            std::thread::yield_now();
        }
    };
    tell.send(Step::Request(2000)).unwrap();
    tell.send(Step::Request(2000)).unwrap();
    asleep();
    assert_eq!(bench.jobs.info("j").unwrap().current, 2000);
    clock.advance(Duration::from_millis(1999));
    bench.jobs.clock_moved();
    asleep();
    assert_eq!(bench.jobs.info("j").unwrap().current, 2000);
    clock.advance(Duration::from_millis(1));
    bench.jobs.clock_moved();
    tell.send(Step::Request(1)).unwrap();
    tell.send(Step::Ready).unwrap();
    // The third waits two seconds more, unless there is no limit any longer.
    bench.jobs.set_speed("j", 0).unwrap();
    bench.until("j", Status::Ready);
    assert_eq!(bench.jobs.info("j").unwrap().current, 4001);
    assert!(bench.jobs.set_speed("j", -1).is_err());
}

/// Every verb in every state that a job can be held in is accepted or refused as the table says, and
/// whatever was asked of it before, a job ends when the list does.
#[test]
fn every_sequence_of_verbs_follows_the_table() {
    const VERBS: [Verb; 6] =
        [Verb::Pause, Verb::Resume, Verb::Cancel, Verb::Complete, Verb::Finalize, Verb::Dismiss];
    let settled = |bench: &Bench| {
        // Where a job has nothing to do any more it sleeps or is over.
        loop {
            match bench.jobs.info("j") {
                Some(job) if job.status == Status::Waiting || job.status == Status::Aborting => {}
                Some(job) if job.busy => {}
                job => return job,
            }
            std::thread::yield_now();
        }
    };
    for number in 0..VERBS.len().pow(4) {
        let bench = Bench::new();
        let tell = bench.launch(by_hand("j"));
        tell.send(Step::Ready).unwrap();
        tell.send(Step::Linger).unwrap();
        bench.until("j", Status::Ready);
        for place in 0..4 {
            let verb = VERBS[number / VERBS.len().pow(place) % VERBS.len()];
            let Some(before) = settled(&bench) else { break };
            let result = match verb {
                Verb::Pause => bench.jobs.pause("j"),
                Verb::Resume => bench.jobs.resume("j"),
                Verb::Cancel => bench.jobs.cancel("j", place % 2 == 0),
                Verb::Complete => bench.jobs.complete("j"),
                Verb::Finalize => bench.jobs.finalize("j"),
                _ => bench.jobs.dismiss("j"),
            };
            if !verb.allowed_in().contains(&before.status) {
                assert!(result.is_err(), "{number}: {verb:?} in {before:?}");
            } else if !matches!(verb, Verb::Pause | Verb::Resume | Verb::Complete) {
                assert_eq!(result, Ok(()), "{number}: {verb:?} in {before:?}");
            }
        }
        bench.jobs.shutdown();
        let did = bench.did();
        assert_eq!(did.last().map(String::as_str), Some("j clean"), "{number}");
        assert_eq!(did.iter().filter(|d| *d == "j commit" || *d == "j abort").count(), 1);
    }
}

/// Work that goes on until somebody ends it, and is ready from the tenth round on.
struct Busy;

impl Work for Busy {
    fn run(&self, job: &Control) -> Result<(), Failure> {
        for round in 0.. {
            let seen = job.bell().rings();
            job.checkpoint()?;
            if round == 10 {
                job.ready();
            }
            if job.is_ready() {
                if job.leave() || job.complete() {
                    break;
                }
                job.sleep(seen, None);
            }
        }
        Ok(())
    }

    fn completes(&self) -> bool {
        true
    }
}

/// Clients that know nothing of each other never bring a job into a state that cannot be, and the list
/// always comes to its end.
#[test]
fn verbs_from_several_clients_at_once_do_no_harm() {
    for round in 0..60_u64 {
        let bench = Bench::new();
        let group = (round % 2 == 0).then(|| bench.jobs.group());
        for id in ["a", "b"] {
            let options = JobOptions { auto_finalize: round % 3 != 0, ..JobOptions::new(id) };
            bench.jobs.create(Kind::Mirror, options, group, Arc::new(Busy)).unwrap();
            bench.jobs.start(id).unwrap();
        }
        std::thread::scope(|scope| {
            for client in 0..3_u64 {
                let jobs = &bench.jobs;
                scope.spawn(move || {
                    let mut state = round * 3 + client + 1;
                    for _ in 0..40 {
                        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        let id = if state >> 40 & 1 == 0 { "a" } else { "b" };
                        // Most are refused: what counts is that they all return.
                        let _ = match state >> 33 & 7 {
                            0 | 1 => jobs.pause(id),
                            2 | 3 => jobs.resume(id),
                            4 => jobs.complete(id),
                            5 => jobs.finalize(id),
                            6 => jobs.set_speed(id, 1 << 20),
                            _ => jobs.block_job_cancel(id, state >> 50 & 1 == 0),
                        };
                        jobs.list();
                    }
                });
            }
        });
        bench.jobs.shutdown();
        assert!(bench.jobs.list().iter().all(|job| job.status == Status::Concluded));
        let heard = bench.heard();
        for id in ["a", "b"] {
            let ends = [format!("{id} COMPLETED"), format!("{id} CANCELLED")];
            let count = heard.iter().filter(|event| ends.contains(event)).count();
            assert_eq!(count, 1, "round {round}: {heard:?}");
        }
    }
}
