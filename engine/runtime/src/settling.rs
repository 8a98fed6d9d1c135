//! Pages that have just become code, while stores to them may still be under way.
//!
//! A store of generated code looks whether its page has code, then stores; a translator marks the
//! page, sends later stores the slow way, and reads. A store that looked before the mark may land
//! after the reading, and nobody would notice. So whoever marks a page notes the processors that
//! could store to it fast, and how many rounds each had begun: when it begins its next round, its
//! stores of before have landed. Until then, the page's units are good for a guest that has not
//! asked for its writes to be seen, and are dropped for one that asks, and once at the end.
//!
//! `tests/standing.rs` compiles this file with the primitives of a model checker.

use crate::primitives::{AtomicU32, AtomicU64, Mutex, MutexGuard, Ordering};
use std::sync::PoisonError;

/// The rounds that a processor's run loop has begun. Generated code runs within one.
pub(crate) struct Rounds(AtomicU64);

impl Rounds {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Begins a round; called by the processor's own thread. Its stores so far come before.
    pub(crate) fn begin(&self) {
        self.0.store(self.0.load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

struct Page<P> {
    number: u64,
    host: u64,
    /// Who may still be storing, and the round that must end first.
    waits: Vec<(P, u64)>,
}

struct List<P> {
    pages: Vec<Page<P>>,
    next: u64,
}

/// Pages whose stores may still be under way; `P` is a processor.
pub(crate) struct Settling<P> {
    list: Mutex<List<P>>,
    /// Pages in the list.
    count: AtomicU32,
}

impl<P> Settling<P> {
    pub(crate) fn new() -> Self {
        let list = List { pages: Vec::new(), next: 0 };
        Self { list: Mutex::new(list), count: AtomicU32::new(0) }
    }

    fn list(&self) -> MutexGuard<'_, List<P>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The page at `host` was marked just now, and its stores sent the slow way: `waits` are the
    /// processors whose stores were fast before, with their rounds since. Comes before the page
    /// is read.
    pub(crate) fn add(&self, host: u64, waits: Vec<(P, u64)>) {
        if waits.is_empty() {
            return;
        }
        let mut list = self.list();
        list.next += 1;
        let number = list.next;
        list.pages.push(Page { number, host, waits });
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether no page is in the list.
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::SeqCst) == 0
    }

    /// Drops, with `drop_page`, the units of pages to which nobody is storing any more; with
    /// `fenced`, where the guest asks to see its writes, those of all in the list. `rounds` tells
    /// those of a processor, or that it is gone.
    pub(crate) fn settle(
        &self,
        fenced: bool,
        rounds: impl Fn(&P) -> Option<u64>,
        drop_page: impl Fn(u64),
    ) {
        let (mut due, mut settled) = (Vec::new(), Vec::new());
        for page in &mut self.list().pages {
            page.waits.retain(|(who, then)| rounds(who) == Some(*then));
            if page.waits.is_empty() {
                settled.push(page.number);
            }
            if fenced || page.waits.is_empty() {
                due.push(page.host);
            }
        }
        due.into_iter().for_each(drop_page);
        if settled.is_empty() {
            return;
        }
        // Only now: a fence elsewhere may not miss a page whose units still stand.
        let mut list = self.list();
        let before = list.pages.len();
        list.pages.retain(|page| !settled.contains(&page.number));
        self.count.fetch_sub((before - list.pages.len()) as u32, Ordering::SeqCst);
    }
}
