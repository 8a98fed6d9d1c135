//! Interrupts and kicks are never lost: the shipped `doorbell.rs`, on the primitives of a model
//! checker, which tries every order in which threads can meet with at most three preemptions (all
//! orders would take hours). A processor that sleeps for ever is a deadlock there, and fails the
//! test.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "reasons that no test here gives")]
#[path = "../src/doorbell.rs"]
mod doorbell;

/// What the file under test is made of here.
mod primitives {
    pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
    pub(crate) use loom::sync::{Condvar, Mutex};
}

use doorbell::{Doorbell, attention};
use loom::sync::Arc;
use loom::thread;
use primitives::{AtomicU32, Ordering};

/// Tries every order of a model with at most three preemptions.
fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// How a run of a processor ends; the interrupts are those it took.
#[derive(Debug, PartialEq, Eq)]
enum Exit {
    Kicked,
    Halted,
    Interrupted(u64),
}

/// A processor: what other threads reach of it, and whether it is to go on.
struct Processor {
    word: AtomicU32,
    doorbell: Doorbell,
    running: AtomicU32,
}

impl Processor {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            word: AtomicU32::new(0),
            doorbell: Doorbell::new(),
            running: AtomicU32::new(1),
        })
    }

    fn set_line(&self, line: u32, level: bool) {
        self.doorbell.set_line(&self.word, line, level);
    }

    /// What a pause does: changes the state, then kicks.
    fn stop(&self) {
        self.running.store(0, Ordering::SeqCst);
        self.doorbell.ring(&self.word, attention::KICK);
    }

    /// The steps of the run loop that matter, with a guest that does nothing but halt, and takes
    /// interrupts of the `enabled` lines.
    fn run(&self, enabled: u64) -> Exit {
        let wanted = Doorbell::take(&self.word);
        if wanted & attention::KICK != 0 {
            return Exit::Kicked;
        }
        let taken = self.doorbell.lines() & enabled;
        if taken != 0 {
            return Exit::Interrupted(taken);
        }
        // The guest halts; pending interrupts end that at once.
        match self.doorbell.lines() & enabled {
            0 => Exit::Halted,
            _ => self.run(enabled),
        }
    }

    /// The same with a guest that spins: generated code leaves when its poll finds a reason.
    fn spin(&self, enabled: u64) -> Exit {
        loop {
            let wanted = Doorbell::take(&self.word);
            if wanted & attention::KICK != 0 {
                return Exit::Kicked;
            }
            let taken = self.doorbell.lines() & enabled;
            if taken != 0 {
                return Exit::Interrupted(taken);
            }
            while self.word.load(Ordering::Relaxed) == 0 {
                thread::yield_now();
            }
        }
    }

    /// The processor's thread until it takes an interrupt (its lines) or is stopped (0).
    fn thread(&self, enabled: u64) -> u64 {
        while self.running.load(Ordering::SeqCst) != 0 {
            match self.run(enabled) {
                Exit::Interrupted(lines) => return lines,
                Exit::Halted => self.doorbell.wait(&self.word),
                Exit::Kicked => {}
            }
        }
        0
    }
}

/// Starts a thread that does something to a processor.
fn meanwhile(
    processor: &Arc<Processor>,
    act: impl FnOnce(&Processor) + 'static,
) -> thread::JoinHandle<()> {
    let processor = Arc::clone(processor);
    thread::spawn(move || act(&processor))
}

#[test]
fn a_line_that_rises_at_any_moment_wakes_a_halted_processor() {
    check(|| {
        let processor = Processor::new();
        let device = meanwhile(&processor, |p| p.set_line(11, true));
        assert_eq!(processor.thread(1 << 11), 1 << 11);
        device.join().unwrap();
    });
}

#[test]
fn a_line_that_rises_at_any_moment_ends_a_loop_of_the_guest() {
    check(|| {
        let processor = Processor::new();
        let device = meanwhile(&processor, |p| p.set_line(63, true));
        assert_eq!(processor.spin(1 << 63), Exit::Interrupted(1 << 63));
        device.join().unwrap();
    });
}

#[test]
fn a_kick_at_any_moment_stops_a_halted_processor() {
    check(|| {
        let processor = Processor::new();
        let control = meanwhile(&processor, Processor::stop);
        assert_eq!(processor.thread(0), 0);
        control.join().unwrap();
    });
}

#[test]
fn a_kick_taken_together_with_a_line_hides_neither() {
    check(|| {
        let processor = Processor::new();
        let device = meanwhile(&processor, |p| p.set_line(7, true));
        // A turn ends: the processor is kicked, and goes on.
        let turn = meanwhile(&processor, |p| p.doorbell.ring(&p.word, attention::KICK));
        assert_eq!(processor.thread(1 << 7), 1 << 7);
        device.join().unwrap();
        turn.join().unwrap();
    });
}

#[test]
fn a_disabled_line_that_changes_between_check_and_wait_does_not_hide_an_enabled_one() {
    check(|| {
        let processor = Processor::new();
        let noise = meanwhile(&processor, |p| p.set_line(3, false));
        let device = meanwhile(&processor, |p| p.set_line(9, true));
        assert_eq!(processor.thread(1 << 9), 1 << 9);
        noise.join().unwrap();
        device.join().unwrap();
    });
}

#[test]
fn a_line_that_fell_before_the_stop_leaves_the_processor_asleep_until_then() {
    check(|| {
        let processor = Processor::new();
        let device = meanwhile(&processor, |p| {
            p.set_line(5, true);
            p.set_line(5, false);
            p.stop();
        });
        let taken = processor.thread(1 << 5);
        assert!(taken == 0 || taken == 1 << 5);
        device.join().unwrap();
        assert_eq!(processor.doorbell.lines(), 0);
    });
}

#[test]
fn lines_beyond_the_last_are_ignored() {
    check(|| {
        let processor = Processor::new();
        processor.set_line(64, true);
        processor.set_line(u32::MAX, true);
        assert_eq!(processor.doorbell.lines(), 0);
    });
}

/// Says that the other process of a test is this one.
const INNER: &str = "TINAMOU_DOORBELL_INNER";

/// The model finds what it is made for: here the reason is given without a look at the lock, so
/// that it can fall between the check and the sleep. The checker cannot clean up after that, and
/// aborts; hence a process of its own.
#[test]
fn a_ring_without_the_lock_would_be_lost() {
    if std::env::var_os(INNER).is_some() {
        return check(lost_ring);
    }
    let own = std::env::current_exe().expect("a test has a file");
    let output = std::process::Command::new(own)
        .args(["--exact", "a_ring_without_the_lock_would_be_lost", "--nocapture"])
        .env(INNER, "1")
        .env("RUST_BACKTRACE", "0")
        .output()
        .expect("a test can be started");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("deadlock"), "{text}");
}

fn lost_ring() {
    let word = Arc::new(AtomicU32::new(0));
    let bed = Arc::new((primitives::Mutex::new(()), primitives::Condvar::new()));
    let (rung, other) = (Arc::clone(&word), Arc::clone(&bed));
    let device = thread::spawn(move || {
        rung.fetch_or(attention::LINES, Ordering::SeqCst);
        other.1.notify_all();
    });
    let mut guard = bed.0.lock().unwrap();
    while word.load(Ordering::SeqCst) == 0 {
        guard = bed.1.wait(guard).unwrap();
    }
    drop(guard);
    device.join().unwrap();
}
