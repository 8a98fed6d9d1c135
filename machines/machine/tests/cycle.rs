//! Pauses, turns and ends are never missed: the shipped `cycle.rs` and `baton.rs`, on the primitives
//! of a model checker. A thread that waits for ever is a deadlock there, and fails the test.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "each model uses its part")]

#[path = "../src/baton.rs"]
mod baton;
#[path = "../src/cycle.rs"]
mod cycle;

/// What the files under test are made of here.
mod primitives {
    pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};
}

use baton::Baton;
use cpu::Exit;
use cycle::{Cycle, Runs, Wakes};
use loom::sync::Arc;
use loom::thread;
use primitives::{Condvar, Mutex};

/// Tries every order of a model with at most `preemptions` preemptions.
fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// What a guest does.
#[derive(Clone, Copy)]
enum Guest {
    /// It goes on for ever.
    Spins,
    /// It waits for interrupts that never come.
    Halts,
}

/// A processor: its bell, and how often it ran.
#[derive(Clone)]
struct Processor {
    guest: Guest,
    bell: Arc<(Mutex<Bell>, Condvar)>,
}

#[derive(Default)]
struct Bell {
    kicked: bool,
    runs: u32,
    running: bool,
}

impl Processor {
    fn new(guest: Guest) -> Self {
        Self { guest, bell: Arc::new((Mutex::new(Bell::default()), Condvar::new())) }
    }

    /// How often it ran, and whether it runs.
    fn runs(&self) -> (u32, bool) {
        let bell = self.bell.0.lock().unwrap();
        (bell.runs, bell.running)
    }
}

impl Runs for Processor {
    fn run(&mut self) -> Exit {
        let mut bell = self.bell.0.lock().unwrap();
        if std::mem::take(&mut bell.kicked) {
            return Exit::Kicked;
        }
        bell.runs += 1;
        if matches!(self.guest, Guest::Halts) {
            return Exit::Halted;
        }
        bell.running = true;
        while !bell.kicked {
            bell = self.bell.1.wait(bell).unwrap();
        }
        (bell.kicked, bell.running) = (false, false);
        Exit::Kicked
    }
}

impl Wakes for Processor {
    fn kick(&self) {
        self.bell.0.lock().unwrap().kicked = true;
        self.bell.1.notify_all();
    }
    fn wait(&self) {
        let mut bell = self.bell.0.lock().unwrap();
        while !bell.kicked {
            bell = self.bell.1.wait(bell).unwrap();
        }
    }
}

type Model = Arc<Cycle<Processor, Processor>>;

fn cycle(guests: &[Guest], single: bool) -> (Model, Vec<Processor>) {
    let all: Vec<_> = guests.iter().map(|guest| Processor::new(*guest)).collect();
    let both = all.iter().map(|one| (one.clone(), one.clone()));
    (Arc::new(Cycle::new(both, single.then(Baton::default))), all)
}

fn start(cycle: &Model) -> Vec<thread::JoinHandle<()>> {
    let spawn = |index| {
        let cycle = Arc::clone(cycle);
        thread::spawn(move || cycle.run_thread(index))
    };
    (0..cycle.len()).map(spawn).collect()
}

/// Pauses a machine at any moment, looks, lets it go on and ends it.
fn paused_at_any_moment(guests: &'static [Guest], single: bool, preemptions: usize) {
    check(preemptions, move || {
        let (cycle, all) = cycle(guests, single);
        let threads = start(&cycle);
        cycle.resume();
        cycle.pause();
        for (index, processor) in all.iter().enumerate() {
            assert!(!processor.runs().1, "a paused processor runs");
            cycle.with_cpu(index, |_| ());
        }
        cycle.resume();
        cycle.end();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_processor_that_spins_stops_at_a_pause_and_ends() {
    paused_at_any_moment(&[Guest::Spins], false, 3);
}

#[test]
fn a_processor_that_halts_stops_at_a_pause_and_ends() {
    paused_at_any_moment(&[Guest::Halts], false, 3);
}

#[test]
fn processors_that_take_turns_stop_at_a_pause_and_end() {
    paused_at_any_moment(&[Guest::Spins, Guest::Spins], true, 2);
    paused_at_any_moment(&[Guest::Spins, Guest::Halts], true, 2);
}

/// Somebody else ends turns until every processor has run.
#[test]
fn everybody_gets_a_turn() {
    for guests in [[Guest::Spins, Guest::Spins], [Guest::Halts, Guest::Spins]] {
        check(2, move || {
            let (cycle, all) = cycle(&guests, true);
            let threads = start(&cycle);
            cycle.resume();
            while all.iter().any(|processor| processor.runs().0 == 0) {
                cycle.end_turn();
                thread::yield_now();
            }
            assert!(all.iter().filter(|processor| processor.runs().1).count() <= 1);
            cycle.end();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }
}

#[test]
fn turns_come_in_the_order_of_asking() {
    check(3, || {
        let (baton, order) = (Arc::new(Baton::default()), Arc::new(Mutex::new(Vec::new())));
        baton.take(0);
        assert_eq!(baton.contended_holder(), None);
        let (other, noted) = (Arc::clone(&baton), Arc::clone(&order));
        let thread = thread::spawn(move || {
            other.take(1);
            noted.lock().unwrap().push(1);
            other.pass();
        });
        while baton.contended_holder() != Some(0) {
            thread::yield_now();
        }
        order.lock().unwrap().push(0);
        baton.pass();
        thread.join().unwrap();
        assert_eq!(*order.lock().unwrap(), [0, 1]);
    });
}
