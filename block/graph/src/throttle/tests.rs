//! Groups on a clock that is moved by hand.

use super::*;
use std::sync::mpsc::{Receiver, channel};

#[derive(Default)]
struct ByHand(Mutex<Duration>);

impl Clock for ByHand {
    fn now(&self) -> Duration {
        *self.0.lock().expect("no test panics with it")
    }

    fn patience(&self, _left: Duration) -> Option<Duration> {
        None
    }
}

struct Bench {
    clock: Arc<ByHand>,
    group: Arc<Group>,
}

impl Bench {
    fn new(pairs: &[(&str, u64)]) -> Self {
        let mut limits = Limits::default();
        for (name, value) in pairs {
            assert!(limits.set(name, *value), "{name}");
        }
        limits.check().expect("they fit each other");
        let clock = Arc::new(ByHand::default());
        let group = Group::with_clock("g", limits, Arc::clone(&clock) as Arc<dyn Clock>);
        Self { clock, group }
    }

    fn pass(&self, time: Duration) {
        *self.clock.0.lock().expect("no test panics with it") += time;
        self.group.clock_moved();
    }

    /// How many requests go at once, up to `most`.
    fn at_once(&self, member: &Member, bytes: u64, most: usize) -> usize {
        let mut gone = 0;
        while gone < most {
            let mut state = self.group.state();
            state.leak(self.clock.now());
            if state.wait(Direction::Read) > 0.0 {
                break;
            }
            drop(state);
            member.admit(Direction::Read, bytes);
            gone += 1;
        }
        gone
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_second_of_requests_is_the_average() {
    let bench = Bench::new(&[("iops-total", 100)]);
    let member = bench.group.join();
    // A tenth of a second fits into the bucket, and the one that makes it too full goes, too.
    assert_eq!(bench.at_once(&member, 512, 1000), 11);
    let mut gone = 0;
    for _ in 0..100 {
        bench.pass(SECOND / 100);
        gone += bench.at_once(&member, 512, 1000);
    }
    assert_eq!(gone, 100);
}

#[test]
fn a_burst_is_even_and_ends() {
    let rates = [("bps-total", 1000), ("bps-total-max", 10_000), ("bps-total-max-length", 5)];
    let bench = Bench::new(&rates);
    let member = bench.group.join();
    let mut gone = Vec::new();
    for _ in 0..20 {
        gone.push((0..10).fold(0, |sum, _| {
            let now = bench.at_once(&member, 100, 1000);
            bench.pass(SECOND / 10);
            sum + now
        }));
    }
    assert!(gone[..5].iter().all(|n| (99..=112).contains(n)), "{gone:?}");
    assert!(gone[7..].iter().all(|n| (9..=11).contains(n)), "{gone:?}");
}

#[test]
fn large_requests_count_as_several() {
    let bench = Bench::new(&[("iops-total", 100), ("iops-size", 4096)]);
    let member = bench.group.join();
    assert_eq!(bench.at_once(&member, 40960, 1000), 2);
}

#[test]
fn the_other_direction_is_free() {
    let bench = Bench::new(&[("iops-write", 1)]);
    let member = bench.group.join();
    assert_eq!(bench.at_once(&member, 512, 1000), 1000);
}

/// Starts requests of `member` that report their name when they go.
fn start(
    member: Member,
    name: &'static str,
    count: usize,
    out: &std::sync::mpsc::Sender<&'static str>,
) {
    let member = Arc::new(member);
    for _ in 0..count {
        let (member, out) = (Arc::clone(&member), out.clone());
        std::thread::spawn(move || {
            member.admit(Direction::Write, 1);
            let _ = out.send(name);
        });
    }
}

fn next(bench: &Bench, gone: &Receiver<&'static str>) -> &'static str {
    bench.pass(SECOND);
    gone.recv().expect("one more goes")
}

#[test]
fn members_take_turns() {
    let bench = Bench::new(&[("iops-total", 1)]);
    let (out, gone) = channel();
    let (a, b) = (bench.group.join(), bench.group.join());
    a.admit(Direction::Write, 1);
    start(a, "a", 6, &out);
    start(b, "b", 3, &out);
    while bench.group.waiting() < 9 {
        std::thread::yield_now();
    }
    let order: Vec<&str> = (0..9).map(|_| next(&bench, &gone)).collect();
    assert_eq!(order, ["b", "a", "b", "a", "b", "a", "a", "a", "a"]);
}

#[test]
fn who_waits_hears_of_new_limits() {
    let bench = Bench::new(&[("iops-total", 1)]);
    let (out, gone) = channel();
    let a = bench.group.join();
    a.admit(Direction::Write, 1);
    start(a, "a", 1, &out);
    while bench.group.waiting() < 1 {
        std::thread::yield_now();
    }
    bench.group.set_limits(Limits::default());
    assert_eq!(gone.recv(), Ok("a"));
}

#[test]
fn who_is_in_haste_does_not_wait() {
    let bench = Bench::new(&[("iops-total", 1)]);
    let (a, b) = (bench.group.join(), bench.group.join());
    a.admit(Direction::Write, 1);
    a.hasten(true);
    a.admit(Direction::Write, 1);
    a.hasten(false);
    let (out, gone) = channel();
    start(b, "b", 1, &out);
    while bench.group.waiting() < 1 {
        std::thread::yield_now();
    }
    bench.pass(SECOND);
    assert_eq!(bench.group.waiting(), 1, "what went in haste counts");
    assert_eq!(next(&bench, &gone), "b");
}
