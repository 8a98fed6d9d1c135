//! The code cache of one machine: compiled units by where they came from.
//!
//! Units are keyed by the host address of the page they were translated from, the guest address
//! and the mode. The lock is held while a unit is made, so that a write to its code either is
//! seen by the translator or invalidates the finished unit. Memory is never reused until the
//! whole cache is emptied, with every processor outside.

use crate::arena::{Arena, Window};
use crate::code_page::{CodePage, code_of, until_store};
use crate::gate::{Gate, Inside};
use crate::log;
use crate::pages::Pages;
use crate::perf::{Perf, Stretch};
use crate::process::Side;
use crate::settling::Settling;
use crate::standing::Changes;
use codegen::x86_64::{Buffers, Generator, HostFeatures, emit_thunks};
use codegen::{Compared, CompileError, Compiled, FaultRange, Target, Thunks};
use ir::{RegInfo, Unit, VectorRegion};
use isa::Mode;
use memory::{CodeWatcher, PAGE};
use opt::Optimiser;
use std::collections::{HashMap, hash_map};
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak,
};
use std::time::Instant;

/// What the cache asks of each processor.
pub(crate) trait Peer: Send + Sync {
    /// Forgets where jumps to this guest address went.
    fn forget_jump(&self, pc: u64);
    /// Sends stores to this host page through the slow path from now on. Whether some went fast
    /// until now.
    fn make_slow(&self, host_page: u64) -> bool;
    /// Rounds that its run loop has begun.
    fn rounds(&self) -> u64;
    /// Leaves generated code soon.
    fn leave(&self);
}

/// Hashes the few words of a key. Keys are addresses that a guest cannot choose freely on the
/// host's side, and a collision costs time only.
#[derive(Clone, Copy, Default)]
pub(crate) struct Words(u64);

type Hasher = std::hash::BuildHasherDefault<Words>;

impl std::hash::Hasher for Words {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 29
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|b| self.write_u64(u64::from(*b)));
    }
    fn write_u8(&mut self, n: u8) {
        self.write_u64(u64::from(n));
    }
    fn write_u32(&mut self, n: u32) {
        self.write_u64(u64::from(n));
    }
    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0.rotate_left(23) ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// Bytes before each unit's code; the first tells whether it stands.
const HEADER: usize = 16;
/// The first byte of a unit that stands.
const VALID: u8 = 1;

/// Name of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// Host address of the page with the first instruction.
    pub(crate) page: u64,
    /// Mode, pc included.
    pub(crate) mode: Mode,
}

/// An exit of a unit that may be patched to go straight to the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkSlot {
    /// Host address of the displacement.
    pub(crate) slot: u64,
    /// Number of the unit.
    pub(crate) from: usize,
    /// [`CodeCache::epoch`] when it was left: code memory is reused in the next.
    pub(crate) epoch: u64,
}

/// What the translator knows of the ISA.
pub(crate) struct Isa {
    /// Its registers.
    pub(crate) regs: &'static [RegInfo],
    /// Where its vector registers are.
    pub(crate) vectors: VectorRegion,
    /// Names of its helpers, for listings.
    pub(crate) helper_name: fn(u16) -> Option<&'static str>,
}

/// A compiled unit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    /// Its number.
    pub(crate) id: usize,
    /// Host address of the entry that checks the mode.
    pub(crate) checked: u64,
    /// Host address of the entry for direct jumps.
    pub(crate) entry: u64,
    /// Host page of the second page, for a unit whose one instruction lies across two.
    pub(crate) second: Option<u64>,
}

struct Entry {
    key: Key,
    found: Found,
    /// Host ranges of its code.
    ranges: [(u64, u64); 2],
    /// What the interpreter runs, if units are not compiled.
    unit: Option<Arc<Unit>>,
    /// Displacements patched to lead here, and where each led before.
    incoming: Vec<(u64, u64)>,
    /// Code that may fault on the host.
    faults: Box<[FaultRange]>,
    valid: bool,
}

/// A page that is marked as one with code, and its units.
struct PageUnits {
    page: CodePage,
    units: Vec<usize>,
}

struct Tables {
    arena: Arena,
    used: usize,
    optimiser: Optimiser,
    buffers: Buffers,
    thunks: Thunks,
    thunks_len: usize,
    units: Vec<Entry>,
    by_key: HashMap<Key, usize, Hasher>,
    by_page: HashMap<u64, PageUnits, Hasher>,
}

/// What the cache did so far (`info jit`).
#[derive(Debug, Default)]
pub struct Counters {
    /// Units compiled.
    pub units: AtomicU64,
    /// Guest instructions compiled.
    pub insns: AtomicU64,
    /// Bytes of host code made.
    pub host_bytes: AtomicU64,
    /// Nanoseconds spent translating.
    pub translate_ns: AtomicU64,
    /// Units invalidated because their code was written.
    pub invalidated: AtomicU64,
    /// Times the whole cache was emptied.
    pub flushes: AtomicU64,
    /// Jumps patched to go straight to their unit.
    pub links: AtomicU64,
    /// Accesses that the software TLB did not know the page of.
    pub tlb_misses: AtomicU64,
}

/// Options of the translator.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes of code memory.
    pub code_bytes: usize,
    /// Instructions per unit at most.
    pub max_insns: u32,
    /// Never link units to each other.
    pub no_chain: bool,
    /// What generated code may use beyond what every host has.
    pub host: HostFeatures,
    /// Write a map for `perf` to /tmp/perf-PID.map.
    pub perf_map: bool,
    /// Write generated code for `perf` to jit-PID.dump.
    pub jit_dump: bool,
    /// Run the IR by the reference interpreter, as it is; nothing is compiled.
    pub interpret: bool,
    /// Optimise units before they are compiled.
    pub optimise: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            code_bytes: 256 << 20,
            max_insns: 64,
            no_chain: false,
            host: HostFeatures::of_host(),
            perf_map: false,
            jit_dump: false,
            interpret: codegen::x86_64::host_supported().is_err(),
            optimise: true,
        }
    }
}

/// The code cache of one machine.
pub struct CodeCache {
    tables: RwLock<Tables>,
    /// The executable side of the arena in the tables.
    window: Window,
    peers: Mutex<Vec<Weak<dyn Peer>>>,
    /// Passed by every processor that may be in generated code.
    gate: Gate,
    /// Pages to which processors may still be storing.
    settling: Settling<Weak<dyn Peer>>,
    /// Counts invalidations and flushes.
    changes: Changes,
    /// Counts flushes.
    epoch: AtomicU64,
    /// The memory of the process whose code it is, if it is one's.
    pages: Option<Arc<Pages>>,
    perf: Perf,
    /// What has been done so far.
    pub counters: Counters,
    /// How it was set up.
    pub options: Options,
}

impl CodeCache {
    /// An empty cache for processors with these registers.
    ///
    /// # Errors
    /// The host gives no code memory.
    pub fn new(regs: &[RegInfo], options: Options) -> io::Result<Arc<Self>> {
        Self::with(regs, options, None)
    }

    /// An empty cache for code in the memory of a process.
    ///
    /// # Errors
    /// The host gives no code memory.
    pub(crate) fn for_process(
        regs: &[RegInfo],
        options: Options,
        pages: Arc<Pages>,
    ) -> io::Result<Arc<Self>> {
        Self::with(regs, options, Some(pages))
    }

    fn with(
        regs: &[RegInfo],
        options: Options,
        pages: Option<Arc<Pages>>,
    ) -> io::Result<Arc<Self>> {
        let (arena, thunks, thunks_len) = match options.interpret {
            true => (Arena::empty(), Thunks::default(), 0),
            false => {
                let mut arena = match pages {
                    Some(_) => Arena::private(options.code_bytes)?,
                    None => Arena::new(options.code_bytes)?,
                };
                let (code, thunks) = emit_thunks(regs, arena.address(0));
                arena.write(0, &code);
                (arena, thunks, code.len().next_multiple_of(64))
            }
        };
        let perf = Perf::open(options.perf_map, options.jit_dump)?;
        let tables = Tables {
            arena,
            used: thunks_len,
            optimiser: Optimiser::default(),
            buffers: Buffers::default(),
            thunks,
            thunks_len,
            units: Vec::new(),
            by_key: HashMap::default(),
            by_page: HashMap::default(),
        };
        Ok(Arc::new(Self {
            window: tables.arena.window(),
            tables: RwLock::new(tables),
            peers: Mutex::default(),
            gate: Gate::new(),
            settling: Settling::new(),
            changes: Changes::new(),
            epoch: AtomicU64::new(0),
            pages,
            perf,
            counters: Counters::default(),
            options,
        }))
    }

    fn read(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Tables> {
        self.tables.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn peers(&self) -> MutexGuard<'_, Vec<Weak<dyn Peer>>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn each_peer(&self, act: impl Fn(&dyn Peer)) {
        self.peers().iter().filter_map(Weak::upgrade).for_each(|p| act(p.as_ref()));
    }

    /// Adds a processor; the result is its number.
    pub(crate) fn join(&self, peer: Weak<dyn Peer>) -> usize {
        let mut peers = self.peers();
        if self.pages.is_some() {
            // Threads come and go.
            peers.retain(|peer| peer.strong_count() != 0);
        }
        peers.push(peer);
        peers.len() - 1
    }

    /// Address of the code that enters units.
    pub(crate) fn enter_thunk(&self) -> u64 {
        self.read().thunks.enter
    }

    /// Counts units dropped, and flushes.
    pub(crate) fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Flushes so far.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// Lets the calling processor into generated code until it drops the guard.
    pub(crate) fn enter(&self) -> Inside<'_> {
        self.gate.enter()
    }

    /// Whether a processor inside should drop its guard for a moment.
    pub(crate) fn is_closing(&self) -> bool {
        self.gate.is_closing()
    }

    /// The unit of this name.
    pub(crate) fn find(&self, key: &Key) -> Option<Found> {
        let tables = self.read();
        tables.by_key.get(key).map(|id| tables.units[*id].found)
    }

    /// Whether a compiled unit of the present epoch still stands.
    pub(crate) fn is_valid(&self, found: &Found) -> bool {
        found.checked != 0 && self.window.marked(found.checked - HEADER as u64) == VALID
    }

    /// Marks a page as one that processor `own` is about to translate code from, if it is not.
    fn mark(&self, tables: &mut Tables, page: &CodePage, own: &dyn Peer) {
        let hash_map::Entry::Vacant(entry) = tables.by_page.entry(page.host()) else { return };
        entry.insert(PageUnits { page: page.clone(), units: Vec::new() });
        page.mark();
        if self.pages.is_some() {
            // From now on stores fault; those before have landed.
            return;
        }
        let mut waits = Vec::new();
        for weak in self.peers().iter() {
            let Some(peer) = weak.upgrade() else { continue };
            if peer.make_slow(page.host()) && !std::ptr::addr_eq(&raw const *peer, own) {
                waits.push((Weak::clone(weak), peer.rounds()));
                peer.leave();
            }
        }
        self.settling.add(page.host(), waits);
    }

    /// Drops units that may have been translated before a store of another processor landed, where
    /// that is decided, or, with `fenced`, wherever it may be so.
    pub(crate) fn settle(&self, fenced: bool) {
        if !self.settling.is_empty() {
            let rounds = |peer: &Weak<dyn Peer>| peer.upgrade().map(|peer| peer.rounds());
            self.settling.settle(fenced, rounds, |host| {
                // The page stays marked: its stores are slow already, and need not settle again.
                let _kept = self.drop_units(&mut self.write(), host, (host, host + PAGE));
            });
        }
    }

    /// Makes a unit for processor `own` that `translate` fills in, of code in the pages given. The
    /// result is `None` when code memory is full: flush and try again.
    pub(crate) fn make(
        &self,
        (own, key): (&dyn Peer, Key),
        unit: &mut Unit,
        isa: &Isa,
        first: &CodePage,
        second: Option<&CodePage>,
        mut translate: impl FnMut(&mut Unit, u32),
    ) -> Option<Found> {
        let start = Instant::now();
        let mut tables = self.write();
        for page in [Some(first), second].into_iter().flatten() {
            self.mark(&mut tables, page, own);
        }
        if self.options.interpret {
            unit.clear();
            translate(unit, self.options.max_insns);
            check(unit, isa);
            return self.keep(&mut tables, (key, unit, first, second), start);
        }
        let mut buffers = std::mem::take(&mut tables.buffers);
        let pages = (first, second);
        let compiled = self.compile(&mut tables, (unit, pages), isa, &mut translate, &mut buffers);
        let (offset, code) = (tables.used + HEADER, &buffers.code);
        if offset + code.len() > tables.arena.len() {
            tables.buffers = buffers;
            return None;
        }
        tables.arena.write(offset - HEADER, &[VALID; HEADER]);
        tables.arena.write(offset, code);
        tables.used = (offset + code.len()).next_multiple_of(16);
        let origin = tables.arena.address(offset);
        let found = Found {
            id: tables.units.len(),
            checked: origin + u64::from(compiled.checked_entry),
            entry: origin + u64::from(compiled.entry),
            second: second.map(CodePage::host),
        };
        tables.insert(key, found, (unit, first, second), (None, &buffers.faults));
        self.count(unit, code.len(), start);
        log::host_code(unit, origin, &compiled, code, &buffers.insns);
        self.tell_perf(origin, code, &buffers.insns);
        tables.buffers = buffers;
        drop(tables);
        Some(found)
    }

    /// Keeps a unit as it is. `None` when what is kept already is as large as code memory would be.
    fn keep(
        &self,
        tables: &mut Tables,
        (key, unit, first, second): (Key, &Unit, &CodePage, Option<&CodePage>),
        start: Instant,
    ) -> Option<Found> {
        let bytes = size_of_val(&*unit.ops) + size_of_val(&*unit.consts) + size_of::<Entry>();
        if tables.used > self.options.code_bytes {
            return None;
        }
        tables.used += bytes;
        let found = Found {
            id: tables.units.len(),
            checked: 0,
            entry: 0,
            second: second.map(CodePage::host),
        };
        let kept = Some(Arc::new(unit.clone()));
        tables.insert(key, found, (unit, first, second), (kept, &[]));
        self.count(unit, 0, start);
        Some(found)
    }

    /// A unit for the interpreter.
    pub(crate) fn unit(&self, found: &Found) -> Option<Arc<Unit>> {
        self.read().units.get(found.id)?.unit.clone()
    }

    /// Translates and compiles, with fewer instructions as long as the generator refuses.
    fn compile(
        &self,
        tables: &mut Tables,
        (unit, (first, second)): (&mut Unit, (&CodePage, Option<&CodePage>)),
        isa: &Isa,
        translate: &mut impl FnMut(&mut Unit, u32),
        buffers: &mut Buffers,
    ) -> Compiled {
        let compared = first.is_compared() || second.is_some_and(CodePage::is_compared);
        let mut max_insns = self.options.max_insns;
        loop {
            unit.clear();
            translate(unit, max_insns);
            if compared && let Some(insns) = until_store(unit) {
                // What follows is compared after the store.
                unit.clear();
                translate(unit, insns);
            }
            let code = compared.then(|| code_of(unit, first, second));
            check(unit, isa);
            if self.options.optimise {
                tables.optimiser.run(unit, isa.regs);
                debug_assert_eq!(unit.verify(), Ok(()), "{}", unit.listing(isa.regs));
                log::ir(trace::Item::OpOpt, "OP after optimization", unit, isa);
            }
            let target = Target {
                regs: isa.regs,
                vectors: isa.vectors,
                origin: tables.arena.address(tables.used + HEADER),
                thunks: tables.thunks,
                unit: tables.units.len() as u64,
                host: self.options.host,
                no_chain: self.options.no_chain || unit.flags & crate::vcpu::SINGLE_STEP != 0,
                memory: match &self.pages {
                    None => codegen::Memory::Tlb,
                    Some(pages) if pages.base == 0 => codegen::Memory::Direct,
                    Some(_) => codegen::Memory::Window,
                },
                compared: code
                    .as_deref()
                    .map(|code| Compared { code, host: first.host() + unit.pc % PAGE }),
            };
            match Generator::compile(unit, target, buffers) {
                Ok(done) => return done,
                Err(CompileError::TooComplex) => {
                    assert!(max_insns > 1, "one instruction fits: {}", unit.listing(isa.regs));
                    max_insns = max_insns.min(unit.insns) / 2;
                    max_insns = max_insns.max(1);
                }
            }
        }
    }

    /// Counts a unit made since `start`, with so many bytes of host code.
    fn count(&self, unit: &Unit, host_bytes: usize, start: Instant) {
        let add = |counter: &AtomicU64, n: u64| counter.fetch_add(n, Ordering::Relaxed);
        add(&self.counters.units, 1);
        add(&self.counters.insns, u64::from(unit.insns));
        add(&self.counters.host_bytes, host_bytes as u64);
        add(&self.counters.translate_ns, start.elapsed().as_nanos() as u64);
    }

    /// Tells profilers of each guest instruction's code; what enters the unit is its first's, what
    /// lies out of line its last's.
    fn tell_perf(&self, origin: u64, code: &[u8], insns: &[(u32, u64)]) {
        if !self.perf.is_wanted() {
            return;
        }
        let ends = insns.iter().skip(1).map(|(at, _)| *at as usize).chain([code.len()]);
        let mut start = 0;
        for (end, (_, pc)) in ends.zip(insns) {
            if let Some(code) = code.get(start..end).filter(|code| !code.is_empty()) {
                self.perf.tell(Stretch { at: origin + start as u64, code, pc: *pc });
            }
            start = end;
        }
    }

    /// Patches the displacement that `exit` names to lead to unit `to`: `seen` is
    /// [`CodeCache::changes`] from before `to` was looked up. Nothing happens if either is gone, or
    /// if an address that both have in common led to two pages meanwhile.
    pub(crate) fn link(&self, exit: LinkSlot, to: &Found, seen: u64) {
        let mut tables = self.write();
        if self.changes.count() != seen || self.epoch() != exit.epoch {
            return;
        }
        let Tables { units, arena, .. } = &mut *tables;
        if self.pages.is_none() && units[exit.from].key.page != units[to.id].key.page {
            return;
        }
        let before = arena_target(arena, exit.slot);
        units[to.id].incoming.push((exit.slot, before));
        arena.patch(exit.slot, to.entry);
        self.counters.links.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether units come from this host page.
    pub(crate) fn has_code(&self, host_page: u64) -> bool {
        self.read().by_page.contains_key(&host_page)
    }

    /// Forgets the units whose code lies in `len` bytes from host address `host` on.
    pub(crate) fn invalidate(&self, host: u64, len: u64) {
        let pages = (host / PAGE)..=(host.saturating_add(len.max(1) - 1) / PAGE);
        {
            let tables = self.read();
            if !pages.clone().any(|p| tables.by_page.contains_key(&(p * PAGE))) {
                return;
            }
        }
        let mut tables = self.write();
        for page in pages {
            self.invalidate_in_page(&mut tables, page * PAGE, host, len);
        }
    }

    fn invalidate_in_page(&self, tables: &mut Tables, page: u64, host: u64, len: u64) {
        let written = (host, host.saturating_add(len));
        if self.drop_units(tables, page, written)
            && let Some(PageUnits { page, .. }) = tables.by_page.remove(&page)
        {
            page.clear();
        }
    }

    /// Drops the units of a page whose code lies in a range of host addresses. Whether the page is
    /// marked and has none left.
    fn drop_units(&self, tables: &mut Tables, page: u64, (first, end): (u64, u64)) -> bool {
        let Tables { arena, units, by_key, by_page, .. } = tables;
        let Some(entry) = by_page.get_mut(&page) else { return false };
        entry.units.retain(|id| {
            let unit = &mut units[*id];
            let hit = |(start, stop): &(u64, u64)| *start < end && first < *stop;
            if unit.valid && !unit.ranges.iter().any(hit) {
                return true;
            }
            if unit.valid {
                unit.valid = false;
                if unit.found.checked != 0 {
                    arena.mark(unit.found.checked - HEADER as u64, 0);
                }
                by_key.remove(&unit.key);
                for (slot, before) in unit.incoming.drain(..) {
                    arena.patch(slot, before);
                }
                self.changes.add();
                self.counters.invalidated.fetch_add(1, Ordering::Relaxed);
                self.each_peer(|p| p.forget_jump(unit.key.mode.pc));
            }
            false
        });
        entry.units.is_empty()
    }

    /// Where a fault of the host at `pc` in generated code goes on, and with what in rax.
    pub(crate) fn slow_path_of(&self, pc: u64) -> Option<(u64, u64)> {
        if !self.window.contains(pc) {
            return None;
        }
        let tables = self.read();
        let after = tables.units.partition_point(|unit| unit.found.checked <= pc);
        let unit = tables.units.get(after.checked_sub(1)?)?;
        let at = pc - unit.found.checked;
        let after = unit.faults.partition_point(|range| u64::from(range.start) <= at);
        let range = unit.faults.get(after.checked_sub(1)?)?;
        let site = unit.found.checked + u64::from(range.site);
        (at < u64::from(range.end)).then_some((range.thunk, site))
    }

    /// Drops a unit whose guest code is not what was translated.
    pub(crate) fn drop_stale(&self, id: usize, epoch: u64) {
        let mut tables = self.write();
        if self.epoch() != epoch {
            return;
        }
        let Some(unit) = tables.units.get(id).filter(|unit| unit.valid) else { return };
        let (page, range) = (unit.key.page, unit.ranges[0]);
        self.drop_units(&mut tables, page, range);
    }

    /// Forgets the code from a range of host addresses, then changes what is there by `act`, while
    /// nobody translates. For memory of a process.
    pub(crate) fn change_code<T>(&self, host: &Range<u64>, act: impl FnOnce() -> T) -> T {
        let Some(pages) = &self.pages else { return act() };
        let mut tables = self.write();
        let dropped = pages.code_in(host, false);
        for page in &dropped {
            self.forget_page(&mut tables, *page);
        }
        pages.forgive(host);
        let done = act();
        drop(tables);
        if !dropped.is_empty() {
            self.each_peer(|peer| peer.leave());
        }
        done
    }

    /// Forgets the code from a range of host addresses where changes are not seen.
    pub(crate) fn forget_unseen(&self, host: &Range<u64>) {
        let Some(pages) = &self.pages else { return };
        let unseen = |page: &u64| !pages.sees_changes(*page);
        if !pages.code_in(host, false).iter().any(unseen) {
            return;
        }
        let mut tables = self.write();
        for page in pages.code_in(host, false).into_iter().filter(unseen) {
            self.forget_page(&mut tables, page);
        }
        drop(tables);
        self.each_peer(|peer| peer.leave());
    }

    /// Forgets the code of guarded pages in a range of host addresses, which can be written then.
    /// Whether there were any.
    pub(crate) fn prepare_write(&self, host: &Range<u64>) -> bool {
        let Some(pages) = &self.pages else { return false };
        if pages.code_in(host, true).is_empty() {
            return false;
        }
        let mut tables = self.write();
        for page in pages.code_in(host, true) {
            pages.strike(page);
            self.forget_page(&mut tables, page);
        }
        drop(tables);
        self.each_peer(|peer| peer.leave());
        true
    }

    fn forget_page(&self, tables: &mut Tables, page: u64) {
        self.drop_units(tables, page, (page, page + PAGE));
        if let Some(PageUnits { page, .. }) = tables.by_page.remove(&page) {
            page.clear();
        }
    }

    /// Forks the process while nothing of this is in use.
    pub(crate) fn fork<T>(&self, fork: impl FnOnce() -> (Side, T)) -> T {
        let tables = self.write();
        let pages = self.pages.as_ref().map(|pages| pages.locked());
        let peers = self.peers();
        let gate = self.gate.hold();
        let (side, done) = fork();
        match side {
            Side::Child => gate.forget_all(&self.gate),
            Side::Parent => drop(gate),
        }
        drop((peers, pages, tables));
        done
    }

    /// Empties the cache. The caller is outside generated code.
    pub(crate) fn flush(&self) {
        let alone = self.gate.close(|| self.each_peer(|p| p.leave()));
        let mut tables = self.write();
        tables.units.clear();
        tables.by_key.clear();
        for (_, PageUnits { page, .. }) in tables.by_page.drain() {
            page.clear();
        }
        tables.used = tables.thunks_len;
        self.changes.add();
        self.epoch.fetch_add(1, Ordering::SeqCst);
        self.counters.flushes.fetch_add(1, Ordering::Relaxed);
        drop(tables);
        drop(alone);
    }

    /// Bytes of code memory in use, and in all.
    pub fn usage(&self) -> (usize, usize) {
        let tables = self.read();
        (tables.used, tables.arena.len())
    }
}

impl CodeWatcher for CodeCache {
    fn code_written(&self, host: u64, len: u64) {
        self.invalidate(host, len);
    }
}

impl Tables {
    fn insert(
        &mut self,
        key: Key,
        found: Found,
        (unit, first, second): (&Unit, &CodePage, Option<&CodePage>),
        (kept, faults): (Option<Arc<Unit>>, &[FaultRange]),
    ) {
        let start = first.host() + unit.pc % PAGE;
        let in_first = u64::from(unit.len).min(PAGE - unit.pc % PAGE);
        let mut ranges = [(start, start + in_first), (0, 0)];
        if let Some(second) = second {
            ranges[1] = (second.host(), second.host() + u64::from(unit.len) - in_first);
        }
        for page in [Some(first), second].into_iter().flatten() {
            let marked = self.by_page.get_mut(&page.host());
            marked.expect("the page was marked before it was read").units.push(found.id);
        }
        let incoming = Vec::new();
        let faults = faults.into();
        self.units.push(Entry { key, found, ranges, unit: kept, incoming, faults, valid: true });
        self.by_key.insert(key, found.id);
    }
}

/// Logs a unit that was just translated, and in debug builds verifies it.
fn check(unit: &Unit, isa: &Isa) {
    debug_assert_eq!(unit.verify(), Ok(()), "{}", unit.listing(isa.regs));
    log::ir(trace::Item::Op, "OP", unit, isa);
}

/// Where the jump whose displacement is at `slot` goes now.
fn arena_target(arena: &Arena, slot: u64) -> u64 {
    let disp = arena.displacement(slot);
    slot.wrapping_add(4).wrapping_add_signed(i64::from(disp))
}
