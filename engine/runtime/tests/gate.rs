//! Code memory is reused only while every processor is outside, and whoever wants that gets it: the
//! shipped `gate.rs` and `doorbell.rs`, on the primitives of a model checker. Processors here run
//! guests that never leave generated code unless they are asked to.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "reasons that no test here gives")]
#[path = "../src/doorbell.rs"]
mod doorbell;
#[allow(dead_code, reason = "forks are not modelled")]
#[path = "../src/gate.rs"]
mod gate;

/// What the files under test are made of here.
mod primitives {
    pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
    pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};
}

use doorbell::{Doorbell, attention};
use gate::Gate;
use loom::sync::{Arc, RwLock};
use loom::thread;
use primitives::{AtomicU32, Ordering};

/// Tries every order of a model with at most `preemptions` preemptions.
fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// Processors, and the code memory they share. Nobody ever waits for its lock: who would have to has
/// found a reader beside a writer.
struct Machine {
    gate: Gate,
    words: Vec<AtomicU32>,
    doorbells: Vec<Doorbell>,
    memory: RwLock<u32>,
}

impl Machine {
    fn new(processors: usize) -> Arc<Self> {
        Arc::new(Self {
            gate: Gate::new(),
            words: (0..processors).map(|_| AtomicU32::new(0)).collect(),
            doorbells: (0..processors).map(|_| Doorbell::new()).collect(),
            memory: RwLock::new(0),
        })
    }

    fn ask(&self, why: u32) {
        self.words.iter().zip(&self.doorbells).for_each(|(word, bell)| bell.ring(word, why));
    }

    fn read(&self) -> u32 {
        *self.memory.try_read().expect("nobody writes")
    }

    /// What a processor does whose cache is full.
    fn flush(&self) {
        let alone = self.gate.close(|| self.ask(attention::LEAVE));
        *self.memory.try_write().expect("nobody is inside") += 1;
        drop(alone);
    }

    /// The run loop of processor `n`, until it is kicked.
    fn run(&self, n: usize) {
        let mut inside = self.gate.enter();
        loop {
            let wanted = Doorbell::take(&self.words[n]);
            if self.gate.is_closing() {
                drop(inside);
                inside = self.gate.enter();
            }
            if wanted & attention::KICK != 0 {
                break;
            }
            // Generated code: it is read, and left when its poll finds a reason.
            while self.words[n].load(Ordering::Relaxed) == 0 {
                self.read();
                thread::yield_now();
            }
        }
        self.read();
        drop(inside);
    }
}

#[test]
fn a_processor_that_loops_for_ever_is_got_out() {
    check(3, || {
        let machine = Machine::new(1);
        let other = Arc::clone(&machine);
        let control = thread::spawn(move || {
            other.flush();
            other.ask(attention::KICK);
        });
        machine.run(0);
        control.join().unwrap();
        assert!(!machine.gate.is_closing());
    });
}

#[test]
fn two_that_empty_the_cache_at_once_both_get_it() {
    check(2, || {
        let machine = Machine::new(1);
        let others = [(); 2].map(|()| {
            let machine = Arc::clone(&machine);
            thread::spawn(move || machine.flush())
        });
        let own = Arc::clone(&machine);
        let processor = thread::spawn(move || own.run(0));
        others.into_iter().for_each(|other| other.join().unwrap());
        machine.ask(attention::KICK);
        processor.join().unwrap();
        assert_eq!(machine.read(), 2);
    });
}

#[test]
fn a_processor_that_finds_the_cache_full_steps_out_first() {
    check(2, || {
        let machine = Machine::new(2);
        let other = Arc::clone(&machine);
        let processor = thread::spawn(move || other.run(1));
        let inside = machine.gate.enter();
        drop(inside);
        machine.flush();
        let inside = machine.gate.enter();
        assert_eq!(machine.read(), 1);
        drop(inside);
        machine.ask(attention::KICK);
        processor.join().unwrap();
    });
}
