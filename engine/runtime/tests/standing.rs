//! Units that were dropped are jumped to no more, and code that was translated while it was being
//! written is not kept: the shipped `standing.rs` and `settling.rs`, on the primitives of a model
//! checker.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../src/settling.rs"]
mod settling;
#[allow(dead_code, reason = "a short cut that changes nothing")]
#[path = "../src/standing.rs"]
mod standing;

/// What the files under test are made of here.
mod primitives {
    pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
    pub(crate) use loom::sync::{Mutex, MutexGuard};
}

use loom::sync::Arc;
use loom::thread;
use primitives::{AtomicU32, AtomicU64, Mutex, Ordering};
use settling::{Rounds, Settling};
use standing::{Changes, Jump};

/// Tries every order of a model with at most three preemptions.
fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

const PC: u64 = 0x1000;
const NONE: u64 = 2;
const PAGE: u64 = 0x7000;

/// The code cache as far as it matters: the one unit there is, and what one jump cache has.
struct Cache {
    changes: Changes,
    /// The code of the unit for [`PC`], if it stands; the lock of the cache's tables.
    unit: Mutex<Option<u64>>,
    pc: AtomicU64,
    code: AtomicU64,
    /// The guest tells that it wrote its code.
    told: AtomicU32,
}

impl Cache {
    fn new(unit: Option<u64>) -> Arc<Self> {
        Arc::new(Self {
            changes: Changes::new(),
            unit: Mutex::new(unit),
            pc: AtomicU64::new(NONE),
            code: AtomicU64::new(0),
            told: AtomicU32::new(0),
        })
    }

    fn jump(&self) -> Jump<'_> {
        Jump { pc: &self.pc, code: &self.code, none: NONE }
    }

    /// Where a jump of generated code leads.
    fn leads(&self) -> Option<u64> {
        (self.pc.load(Ordering::SeqCst) == PC).then(|| self.code.load(Ordering::Relaxed))
    }

    fn drop_unit(&self) {
        let mut unit = self.unit.lock().unwrap();
        if unit.take().is_some() {
            self.changes.add();
            self.jump().withdraw(PC);
        }
    }
}

#[test]
fn a_unit_that_was_dropped_is_jumped_to_no_more() {
    check(|| {
        let cache = Cache::new(Some(1));
        let own = Arc::clone(&cache);
        let writer = thread::spawn(move || {
            own.drop_unit();
            own.told.store(1, Ordering::Release);
        });
        // The processor: twice, since a second publication may meet the first withdrawal.
        for _ in 0..2 {
            let seen = cache.changes.count();
            let found = *cache.unit.lock().unwrap();
            if let Some(code) = found {
                cache.jump().publish(PC, code, &cache.changes, seen);
            }
            if cache.told.load(Ordering::Acquire) == 1 {
                assert_eq!(cache.leads(), None);
            }
        }
        writer.join().unwrap();
        assert_eq!(cache.leads(), None);
    });
}

#[test]
fn a_unit_made_again_is_found_at_its_new_place() {
    check(|| {
        let cache = Cache::new(Some(1));
        let own = Arc::clone(&cache);
        let writer = thread::spawn(move || {
            own.drop_unit();
            *own.unit.lock().unwrap() = Some(2);
            own.told.store(1, Ordering::Release);
        });
        for _ in 0..2 {
            let seen = cache.changes.count();
            let found = *cache.unit.lock().unwrap();
            if let Some(code) = found {
                cache.jump().publish(PC, code, &cache.changes, seen);
            }
            if cache.told.load(Ordering::Acquire) == 1 {
                assert_ne!(cache.leads(), Some(1));
            }
        }
        writer.join().unwrap();
    });
}

/// A page that one processor writes and another executes.
struct Page {
    /// Its one instruction.
    memory: AtomicU32,
    /// The writer's tag for stores: 1 while they are fast.
    fast: AtomicU32,
    /// What the unit does, if there is one.
    unit: Mutex<Option<u32>>,
    rounds: Rounds,
    settling: Settling<()>,
    told: AtomicU32,
}

impl Page {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            memory: AtomicU32::new(0),
            fast: AtomicU32::new(1),
            unit: Mutex::new(None),
            rounds: Rounds::new(),
            settling: Settling::new(),
            told: AtomicU32::new(0),
        })
    }

    /// The writer's generated code: a store, and a flag that tells of it.
    fn write(&self) {
        let fast = self.fast.load(Ordering::SeqCst) == 1;
        self.memory.store(1, Ordering::Release);
        if !fast {
            *self.unit.lock().unwrap() = None;
        }
        self.told.store(1, Ordering::Release);
        // It comes back to its run loop.
        self.rounds.begin();
    }

    fn settle(&self, fenced: bool) {
        let rounds = |(): &()| Some(self.rounds.count());
        self.settling.settle(fenced, rounds, |_| *self.unit.lock().unwrap() = None);
    }

    /// Runs the unit, made anew if there is none.
    fn execute(&self) -> u32 {
        let mut unit = self.unit.lock().unwrap();
        if let Some(result) = *unit {
            return result;
        }
        let was_fast = self.fast.swap(0, Ordering::SeqCst) == 1;
        let waits = if was_fast { vec![((), self.rounds.count())] } else { Vec::new() };
        self.settling.add(PAGE, waits);
        let result = self.memory.load(Ordering::Acquire);
        *unit = Some(result);
        result
    }
}

#[test]
fn a_fence_shows_what_was_written_while_it_was_translated() {
    check(|| {
        let page = Page::new();
        let own = Arc::clone(&page);
        let writer = thread::spawn(move || own.write());
        // A round of the executing processor, then one with a fence.
        page.settle(false);
        page.execute();
        let told = page.told.load(Ordering::Acquire) == 1;
        page.settle(true);
        let result = page.execute();
        assert!(!told || result == 1, "the code that was executed is stale");
        writer.join().unwrap();
        // It was asked to leave, and comes round once more; nothing stale is left after that, even
        // without a fence.
        page.rounds.begin();
        page.settle(false);
        assert!(page.settling.is_empty());
        assert_eq!(page.execute(), 1);
    });
}
