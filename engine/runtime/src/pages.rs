//! Which guest addresses of a process there are, with which rights, and which pages hold code.
//!
//! Guest address + base = host address. A page with translated code that the guest may write is
//! write-protected on the host (guarded): whoever writes there faults, and the code is forgotten
//! first. Pages that are overwritten again and again, and those that change in ways nobody sees, are
//! not guarded; their code is compared whenever it is entered.
#![expect(unsafe_code, reason = "host pages get other rights")]

use isa::MemoryFault;
use memory::PAGE;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::{BitOr, Range};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// What a program may do with a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights(u8);

impl Rights {
    /// Nothing: the page is there, and every access is a fault.
    pub const NONE: Self = Self(0);
    /// Loads.
    pub const READ: Self = Self(1);
    /// Stores.
    pub const WRITE: Self = Self(2);
    /// Fetches. The host never has this right.
    pub const EXECUTE: Self = Self(4);
    /// What it shows may change without a store there: it is shared with other processes or with
    /// other addresses that are written.
    pub const ALIASED: Self = Self(8);

    /// Whether all of `other` are among these.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether an access that wants these is allowed. Hosts cannot let programs execute or write what
    /// they may not read.
    const fn allow(self, wanted: Self) -> bool {
        self.has(wanted) || wanted.0 == Self::READ.0 && self.0 & 7 != 0
    }

    /// `PROT_*` bits of the host page, before it is guarded.
    pub const fn host(self) -> i32 {
        let read = if self.0 & 5 == 0 { 0 } else { libc::PROT_READ };
        let write = if self.has(Self::WRITE) { libc::PROT_READ | libc::PROT_WRITE } else { 0 };
        read | write
    }
}

impl BitOr for Rights {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// An access that cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The first guest address at which it fails.
    pub address: u64,
    /// Why.
    pub kind: MemoryFault,
}

/// Guest addresses with the same rights, as they were at some time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KnownArea {
    start: u64,
    end: u64,
    rights: Rights,
    /// Changes before.
    seen: u64,
}

/// Times that a page's code is overwritten before it is no longer guarded.
const STRIKES: u32 = 32;

/// Host pages with translated code.
#[derive(Default)]
pub(crate) struct Marked {
    all: BTreeSet<u64>,
    guarded: BTreeSet<u64>,
    /// How often the code of a page was overwritten.
    strikes: HashMap<u64, u32>,
}

/// Ranges of guest addresses by their start: end and rights.
type Areas = BTreeMap<u64, (u64, Rights)>;

pub(crate) struct Pages {
    pub(crate) base: u64,
    /// The first guest address that no program has.
    pub(crate) limit: u64,
    areas: RwLock<Areas>,
    /// Counts changes of the areas.
    changes: AtomicU64,
    marked: Mutex<Marked>,
    /// Pages that are guarded.
    guarded: AtomicUsize,
}

impl Pages {
    pub(crate) fn new(base: u64, limit: u64) -> Self {
        let (areas, marked) = (RwLock::default(), Mutex::default());
        let (changes, guarded) = (AtomicU64::new(0), AtomicUsize::new(0));
        Self { base, limit, areas, changes, marked, guarded }
    }

    fn areas(&self) -> RwLockReadGuard<'_, Areas> {
        self.areas.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn marked(&self) -> MutexGuard<'_, Marked> {
        self.marked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The locks, for whoever forks the process.
    pub(crate) fn locked(&self) -> (RwLockWriteGuard<'_, Areas>, MutexGuard<'_, Marked>) {
        (self.areas.write().unwrap_or_else(PoisonError::into_inner), self.marked())
    }

    /// A guest address as programs of this width make it.
    pub(crate) fn wrapped(&self, gva: u64) -> u64 {
        if self.limit == 1 << 32 { gva & 0xffff_ffff } else { gva }
    }

    /// The range that an address is in, and its rights.
    pub(crate) fn area(&self, gva: u64) -> Option<(Range<u64>, Rights)> {
        let areas = self.areas();
        let (start, (end, rights)) = areas.range(..=gva).next_back()?;
        (gva < *end).then_some((*start..*end, *rights))
    }

    /// The area that an address is in, to be asked again and again.
    pub(crate) fn known(&self, gva: u64) -> Option<KnownArea> {
        let seen = self.changes.load(Ordering::SeqCst);
        self.area(gva).map(|(range, rights)| KnownArea {
            start: range.start,
            end: range.end,
            rights,
            seen,
        })
    }

    /// Whether `len` bytes have the rights wanted, as far as an area is known that nothing has changed
    /// since.
    pub(crate) fn allows(&self, known: &KnownArea, (gva, len): (u64, u64), wanted: Rights) -> bool {
        let inside = known.start <= gva && gva < known.end && len <= known.end - gva;
        inside && known.rights.allow(wanted) && known.seen == self.changes.load(Ordering::SeqCst)
    }

    /// Checks that `len` bytes (at least 1) have all of `wanted`, any bit of which will do with `any`.
    pub(crate) fn check(&self, gva: u64, len: u64, wanted: Rights) -> Result<(), Fault> {
        let areas = self.areas();
        let fault = |address, kind| Err(Fault { address, kind });
        let end = match gva.checked_add(len) {
            Some(end) if end <= self.limit => end,
            _ => return fault(gva.max(self.limit), MemoryFault::Unmapped),
        };
        let mut at = gva;
        while at < end {
            let area = areas.range(..=at).next_back().filter(|(_, (end, _))| at < *end);
            let Some((_, (next, rights))) = area else {
                return fault(at, MemoryFault::Unmapped);
            };
            if !rights.allow(wanted) {
                return fault(at, MemoryFault::Protected);
            }
            at = *next;
        }
        Ok(())
    }

    /// Gives pages new rights, or takes them away. No code comes from them.
    pub(crate) fn set(&self, range: Range<u64>, rights: Option<Rights>) {
        let mut areas = self.areas.write().unwrap_or_else(PoisonError::into_inner);
        self.changes.fetch_add(1, Ordering::SeqCst);
        cut(&mut areas, &range);
        let Some(rights) = rights else { return };
        let (mut start, mut end) = (range.start, range.end);
        // Neighbours with the same rights become one.
        if let Some((&before, &(stop, same))) = areas.range(..start).next_back()
            && stop == start
            && same == rights
        {
            start = before;
        }
        if let Some(&(stop, same)) = areas.get(&end)
            && same == rights
        {
            areas.remove(&end);
            end = stop;
        }
        areas.insert(start, (end, rights));
    }

    fn protect(&self, host_page: u64, rights: i32) {
        // SAFETY: a page of the guest's memory, which only guest accesses reach; they can fault.
        unsafe { libc::mprotect(host_page as *mut libc::c_void, PAGE as usize, rights) };
    }

    /// Gives the pages of a range more rights on the host for as long as `act` takes. Under the lock of
    /// the code cache, and no code comes from them.
    pub(crate) fn with_rights<T>(
        &self,
        range: &Range<u64>,
        more: Rights,
        act: impl FnOnce() -> T,
    ) -> T {
        let own = |gva| self.area(gva).map_or(Rights::NONE, |(_, rights)| rights);
        let pages = || range.clone().step_by(PAGE as usize).filter(|gva| !own(*gva).has(more));
        let set = |gva: u64, rights: Rights| {
            self.protect(gva.wrapping_add(self.base), rights.host());
        };
        pages().for_each(|gva| set(gva, own(gva) | more));
        let done = act();
        pages().for_each(|gva| set(gva, own(gva)));
        done
    }

    fn rights_at_host(&self, host: u64) -> Option<Rights> {
        self.area(host.wrapping_sub(self.base)).map(|(_, rights)| rights)
    }

    /// Whether code of a page has to be compared when it is entered. Under the lock of the code cache.
    pub(crate) fn is_compared(&self, host_page: u64) -> bool {
        self.rights_at_host(host_page).is_some_and(|rights| rights.has(Rights::ALIASED))
            || self.marked().strikes.get(&host_page).is_some_and(|strikes| *strikes >= STRIKES)
    }

    /// Whether code of a page that changes is not run: it is guarded, or compared.
    pub(crate) fn sees_changes(&self, host_page: u64) -> bool {
        self.marked().guarded.contains(&host_page) || self.is_compared(host_page)
    }

    /// Code is about to be translated from a page. Under the lock of the code cache.
    pub(crate) fn mark(&self, host_page: u64) {
        let compared = self.is_compared(host_page);
        let rights = self.rights_at_host(host_page).unwrap_or_default();
        let mut marked = self.marked();
        marked.all.insert(host_page);
        if !compared && rights.has(Rights::WRITE) && marked.guarded.insert(host_page) {
            self.guarded.fetch_add(1, Ordering::SeqCst);
            self.protect(host_page, rights.host() & !libc::PROT_WRITE);
        }
    }

    /// No code of a page stands any more; it can be written. Under the lock of the code cache.
    pub(crate) fn clear(&self, host_page: u64) {
        let rights = self.rights_at_host(host_page);
        let mut marked = self.marked();
        marked.all.remove(&host_page);
        if marked.guarded.remove(&host_page) {
            self.guarded.fetch_sub(1, Ordering::SeqCst);
            if let Some(rights) = rights {
                self.protect(host_page, rights.host());
            }
        }
    }

    /// The program has overwritten a page with code. Under the lock of the code cache.
    pub(crate) fn strike(&self, host_page: u64) {
        *self.marked().strikes.entry(host_page).or_default() += 1;
    }

    /// Forgets how often pages were overwritten.
    pub(crate) fn forgive(&self, host: &Range<u64>) {
        self.marked().strikes.retain(|page, _| !host.contains(page));
    }

    /// Pages with code in a range of host addresses; with `guarded`, only those that are guarded.
    pub(crate) fn code_in(&self, host: &Range<u64>, guarded: bool) -> Vec<u64> {
        if guarded && self.guarded.load(Ordering::SeqCst) == 0 || host.is_empty() {
            return Vec::new();
        }
        let marked = self.marked();
        let set = if guarded { &marked.guarded } else { &marked.all };
        set.range(host.start & !(PAGE - 1)..host.end).copied().collect()
    }
}

/// Takes a range out of the areas.
fn cut(areas: &mut Areas, range: &Range<u64>) {
    let touched = areas.range(..range.end).rev().take_while(|(_, (end, _))| *end > range.start);
    let touched: Vec<_> = touched.map(|(start, (end, rights))| (*start, *end, *rights)).collect();
    for (start, end, rights) in touched {
        areas.remove(&start);
        if start < range.start {
            areas.insert(start, (range.start, rights));
        }
        if end > range.end {
            areas.insert(range.end, (end, rights));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_are_cut_and_joined() {
        let pages = Pages::new(0, 1 << 47);
        let rw = Rights::READ | Rights::WRITE;
        pages.set(0x1000..0x5000, Some(rw));
        pages.set(0x2000..0x3000, Some(Rights::READ));
        assert_eq!(pages.area(0x1fff), Some((0x1000..0x2000, rw)));
        assert_eq!(pages.area(0x2fff), Some((0x2000..0x3000, Rights::READ)));
        assert_eq!(pages.area(0x4fff), Some((0x3000..0x5000, rw)));
        pages.set(0x2000..0x3000, Some(rw));
        assert_eq!(pages.area(0x1000), Some((0x1000..0x5000, rw)));
        pages.set(0x0..0x1000, Some(rw));
        pages.set(0x4000..0x9000, None);
        assert_eq!(pages.area(0x3fff), Some((0x0..0x4000, rw)));
        assert_eq!(pages.area(0x4000), None);
    }

    #[test]
    fn checks_name_the_first_address_that_fails() {
        let pages = Pages::new(0, 1 << 32);
        pages.set(0x1000..0x2000, Some(Rights::READ | Rights::WRITE));
        pages.set(0x2000..0x3000, Some(Rights::READ));
        pages.set(0x3000..0x4000, Some(Rights::NONE));
        let fault = |address, kind| Err(Fault { address, kind });
        assert_eq!(pages.check(0x1ff8, 16, Rights::READ), Ok(()));
        assert_eq!(pages.check(0x1ff8, 16, Rights::WRITE), fault(0x2000, MemoryFault::Protected));
        assert_eq!(pages.check(0x2fff, 2, Rights::READ), fault(0x3000, MemoryFault::Protected));
        assert_eq!(pages.check(0x3fff, 9, Rights::NONE), fault(0x4000, MemoryFault::Unmapped));
        assert_eq!(pages.check(0xffc, 8, Rights::READ), fault(0xffc, MemoryFault::Unmapped));
        assert_eq!(
            pages.check(0xffff_ffff, 2, Rights::READ),
            fault(1 << 32, MemoryFault::Unmapped)
        );
    }
}
