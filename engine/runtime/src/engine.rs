//! Memory as one virtual processor sees it: address translations, accesses, code pages.
use crate::cache::CodeCache;
use crate::code_page::{CodePage, CodePlace};
use crate::doorbell::attention;
use crate::host::{exchange_host, read_host, read_run, update_host, write_host, write_run};
use crate::pages::{KnownArea, Pages};
use crate::shared::Shared;
use codegen::guarded::HostFault;
use codegen::{Core, JumpEntry, TlbEntry};
use ir::{AmoOp, MemOp};
use isa::{Access, Cpu, Flush, Guest, Mapping, MemoryFault, Services};
use memory::{AddressSpace, Backing, FlatView, Gpa, PAGE, Ram};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Pages of code whose translation is remembered.
const CODE_PAGES: usize = 64;

/// A range of guest physical addresses in one block of RAM.
struct Window {
    start: u64,
    last: u64,
    /// Host address of the byte at `start`.
    host: u64,
}

/// A page of code in use.
#[derive(Clone)]
struct KnownCode {
    gva_page: u64,
    flags: u32,
    page: CodePage,
}

/// Entries of a cache that were filled since it was last emptied, so that emptying costs what
/// filling did; and which of them hold in every address space.
#[derive(Default)]
struct Used {
    entries: Vec<u16>,
    /// Too many to list.
    many: bool,
    /// One bit for each entry, grown as needed.
    global: Vec<u64>,
}

impl Used {
    const MOST: usize = 512;

    /// Entry `index` was filled, when it was empty or, unless `fresh`, not.
    fn add(&mut self, index: usize, fresh: bool, global: bool) {
        if fresh {
            if self.entries.len() < Self::MOST {
                self.entries.push(index as u16);
            } else {
                self.many = true;
            }
        }
        let (word, bit) = (index / 64, 1 << (index % 64));
        if self.global.len() <= word {
            self.global.resize(word + 1, 0);
        }
        if global {
            self.global[word] |= bit;
        } else {
            self.global[word] &= !bit;
        }
    }

    fn is_global(&self, index: usize) -> bool {
        self.global.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 != 0)
    }

    /// Calls `empty` for every entry that may be filled; with `local`, only for those that do not
    /// hold in every address space.
    fn clear(&mut self, len: usize, local: bool, empty: impl Fn(usize)) {
        if self.many {
            let all = 0..len;
            all.filter(|index| !local || !self.is_global(*index)).for_each(&empty);
            if local {
                return;
            }
        }
        let entries = std::mem::take(&mut self.entries);
        let (kept, gone): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|index| local && self.is_global(usize::from(*index)));
        gone.into_iter().for_each(|index| empty(usize::from(index)));
        self.entries = kept;
        if !local {
            self.many = false;
        }
    }
}

/// Pages larger than 4 KiB that are cached in pieces: forgetting one piece forgets all.
#[derive(Default)]
struct LargePages {
    ranges: Vec<(u64, u64)>,
    /// Too many to list.
    many: bool,
}

impl LargePages {
    const MOST: usize = 64;

    fn add(&mut self, gva: u64, span: u64) {
        let first = gva & !(span - 1);
        let range = (first, first.wrapping_add(span - 1));
        if self.ranges.contains(&range) {
        } else if self.ranges.len() < Self::MOST {
            self.ranges.push(range);
        } else {
            self.many = true;
        }
    }

    fn may_have(&self, gva: u64) -> bool {
        self.many || self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&gva))
    }
}

/// A set of pages that may answer yes for one it does not have.
struct PageSet([u64; 512]);

impl Default for PageSet {
    fn default() -> Self {
        Self([0; 512])
    }
}

impl PageSet {
    fn bit(gva: u64) -> (usize, u64) {
        let page = gva / PAGE;
        let hash = page ^ page >> 15 ^ page >> 30;
        ((hash >> 6) as usize % 512, 1 << (hash % 64))
    }

    fn add(&mut self, gva: u64) {
        let (word, bit) = Self::bit(gva);
        self.0[word] |= bit;
    }

    fn may_have(&self, gva: u64) -> bool {
        let (word, bit) = Self::bit(gva);
        self.0[word] & bit != 0
    }
}

/// How often it was forgotten where code is.
#[derive(Clone, Copy, Default)]
pub(crate) struct Generation {
    /// Everywhere.
    all: u64,
    /// In this address space alone, or everywhere.
    local: u64,
}

impl Generation {
    /// Whether what was known in generation `then` still holds.
    pub(crate) fn keeps(self, then: Self, global: bool) -> bool {
        self.all == then.all && (global || self.local == then.local)
    }
}

/// Where an access goes.
pub(crate) enum Place {
    /// Host memory. With `slow`, code was translated from the page.
    Host { at: u64, slow: bool },
    /// Registers, or nothing at all.
    Io(u64),
}

/// What a virtual processor needs of the machine, and its caches of it.
pub(crate) struct Engine<G: Guest> {
    pub(crate) shared: Arc<Shared<G::State>>,
    pub(crate) space: Arc<AddressSpace>,
    pub(crate) cache: Arc<CodeCache>,
    /// The memory of the process, in user mode; there is no address translation then, and nothing in
    /// the address space.
    pub(crate) process: Option<Arc<Pages>>,
    /// Where in that memory the last access went.
    pub(crate) area: Cell<Option<KnownArea>>,
    /// Keeps every block alive that a TLB entry may still point into.
    rams: Vec<Arc<Ram>>,
    code: Vec<Option<KnownCode>>,
    /// Pages of guest addresses at which code is remembered.
    jump_pages: PageSet,
    /// Counts how often it was forgotten where code is.
    code_generation: Generation,
    /// Large pages in the TLB or the code pages.
    large: LargePages,
    /// The memory map when it was last looked at.
    view: Arc<FlatView>,
    /// The RAM that a physical load last hit.
    window: Option<Window>,
    /// Entries filled since they were last emptied.
    jumps_used: Used,
    sets_used: [Used; isa::MMU_SETS],
    /// Times that an access was not in the software TLB.
    pub(crate) tlb_misses: u64,
    /// Times that all translations of addresses were forgotten, or those of one page.
    pub(crate) flushes: u64,
    pub(crate) page_flushes: u64,
}

impl<G: Guest> Engine<G> {
    pub(crate) fn new(
        shared: Arc<Shared<G::State>>,
        space: Arc<AddressSpace>,
        cache: Arc<CodeCache>,
        process: Option<Arc<Pages>>,
    ) -> Self {
        let view = Arc::clone(&space.view());
        Self {
            shared,
            space,
            cache,
            process,
            area: Cell::new(None),
            rams: Vec::new(),
            code: vec![None; CODE_PAGES],
            jump_pages: PageSet::default(),
            code_generation: Generation::default(),
            large: LargePages::default(),
            view,
            window: None,
            jumps_used: Used::default(),
            sets_used: Default::default(),
            tlb_misses: 0,
            flushes: 0,
            page_flushes: 0,
        }
    }

    fn entry(&self, mmu: u8, gva: u64) -> &TlbEntry {
        &self.shared.tlb(usize::from(mmu))[Core::tlb_index(gva)]
    }

    /// See [`Engine::forget_code`].
    pub(crate) fn code_generation(&self) -> Generation {
        self.code_generation
    }

    /// The memory map, which this processor may have changed a moment ago.
    fn view(&mut self) -> Arc<FlatView> {
        if self.shared.attention().load(Ordering::SeqCst) & attention::MAP != 0 {
            self.follow_map();
        }
        Arc::clone(&self.view)
    }

    /// Takes over a changed memory map.
    pub(crate) fn follow_map(&mut self) {
        self.view = Arc::clone(&self.space.view());
        self.window = None;
    }

    /// Forgets all translations of addresses.
    pub(crate) fn flush_all(&mut self) {
        self.large = LargePages::default();
        self.flush(false);
        self.shared.forget_stores();
    }

    /// Forgets all translations of addresses, or, with `local`, those that do not hold in every
    /// address space.
    fn flush(&mut self, local: bool) {
        self.flushes += 1;
        for (set, used) in self.sets_used.iter_mut().enumerate() {
            let entries = self.shared.tlb(set);
            used.clear(entries.len(), local, |index| {
                entries[index].read.store(TlbEntry::INVALID, Ordering::Relaxed);
                entries[index].write.store(TlbEntry::INVALID, Ordering::Relaxed);
            });
        }
        self.forget(local);
    }

    /// Forgets where code is: which unit a jump leads to depends on address translation too.
    pub(crate) fn forget_code(&mut self) {
        self.forget(false);
    }

    fn forget(&mut self, local: bool) {
        for known in &mut self.code {
            known.take_if(|known| !(local && known.page.global));
        }
        self.code_generation.local += 1;
        if !local {
            self.code_generation.all += 1;
            self.jump_pages = PageSet::default();
        }
        self.shared.forget_returns();
        let jumps = self.shared.jumps();
        self.jumps_used.clear(jumps.len(), local, |index| {
            jumps[index].pc.store(JumpEntry::invalid(index), Ordering::Relaxed);
        });
    }

    fn flush_page(&mut self, gva: u64) {
        if self.large.may_have(gva) {
            return self.flush_all();
        }
        self.page_flushes += 1;
        let page = gva & !(PAGE - 1);
        for set in 0..isa::MMU_SETS as u8 {
            let entry = self.entry(set, gva);
            for tag in [&entry.read, &entry.write] {
                if tag.load(Ordering::Relaxed) & !TlbEntry::SLOW == page {
                    tag.store(TlbEntry::INVALID, Ordering::Relaxed);
                }
            }
        }
        let slot = (page / PAGE) as usize % CODE_PAGES;
        self.code[slot].take_if(|known| known.gva_page == page);
        // A unit at the very end of the page before may reach into this one.
        if self.jump_pages.may_have(page) || self.jump_pages.may_have(page.wrapping_sub(PAGE)) {
            self.forget_code();
        }
    }

    /// The processor remembers something about code at `pc`.
    pub(crate) fn note_code(&mut self, pc: u64) {
        self.jump_pages.add(pc);
    }

    /// Remembers that jumps to `pc` lead to `code`, which was looked up after `seen` changes.
    pub(crate) fn remember_jump(&mut self, pc: u64, code: u64, global: bool, seen: u64) {
        let (jump, index) = (self.shared.jump(pc), Core::jump_index(pc));
        if jump.leads_to(pc, code) {
            return;
        }
        let fresh = jump.pc.load(Ordering::Relaxed) == jump.none;
        self.jumps_used.add(index, fresh, global);
        jump.publish(pc, code, self.cache.changes(), seen);
    }

    /// The page of RAM or ROM that holds the halfword of code at `gva`.
    pub(crate) fn code_page(
        &mut self,
        guest: &G,
        state: &mut G::State,
        (mmu, flags): (u8, u32),
        gva: u64,
    ) -> Result<CodePage, G::Trap> {
        if let Some(pages) = &self.process {
            return self.process_page(pages, gva);
        }
        let gva_page = gva & !(PAGE - 1);
        let slot = (gva_page / PAGE) as usize % CODE_PAGES;
        if let Some(known) = &self.code[slot]
            && known.gva_page == gva_page
            && known.flags == flags
        {
            return Ok(known.page.clone());
        }
        let mapping = {
            let mut cpu = Cpu::new(guest, state, self);
            G::translate_address(&mut cpu, mmu, Access::Fetch, gva, 2)?
        };
        let Some((ram, offset)) = self.page_of(mapping.gpa) else {
            return Err(G::memory_trap(MemoryFault::Bus, Access::Fetch, gva));
        };
        ram.watch_code(Arc::downgrade(&self.cache) as std::sync::Weak<dyn memory::CodeWatcher>);
        if mapping.span > PAGE {
            self.large.add(gva, mapping.span);
        }
        let whole = mapping.whole_page;
        let place = CodePlace::Ram(ram, offset);
        let page = CodePage { place, global: mapping.global, whole };
        if whole {
            self.code[slot] = Some(KnownCode { gva_page, flags, page: page.clone() });
        }
        Ok(page)
    }

    /// The RAM or ROM that the page of `gpa` is in: all of it, or all but registers that lie in
    /// front of it elsewhere in the page.
    fn page_of(&self, gpa: u64) -> Option<(Arc<Ram>, u64)> {
        let page = gpa & !(PAGE - 1);
        if let Some((ram, offset)) = self.space.ram_at(Gpa(page), PAGE, false) {
            return offset.is_multiple_of(PAGE).then_some((ram, offset));
        }
        let (ram, offset) = self.space.ram_at(Gpa(gpa), 1, false)?;
        let start = offset.checked_sub(gpa - page)?;
        let fits = start.is_multiple_of(PAGE) && start.checked_add(PAGE)? <= ram.len();
        let same = |at: u64| match self.space.ram_at(Gpa(at), 1, false) {
            Some((other, offset)) => Arc::ptr_eq(&other, &ram) && offset == start + (at - page),
            None => true,
        };
        let view = self.space.view();
        let starts = view.ranges().iter().map(|r| r.start.max(page));
        (fits && starts.filter(|at| at & !(PAGE - 1) == page).all(same)).then_some((ram, start))
    }

    /// Finds where an access to `len` bytes that do not cross a page goes, and remembers it.
    fn place(
        &mut self,
        cpu: &mut Cpu<'_, G>,
        mmu: u8,
        access: Access,
        (gva, len): (u64, u32),
    ) -> Result<Place, G::Trap> {
        if let Some(pages) = &self.process {
            return self.process_place(pages, access, (gva, len));
        }
        let entry = self.entry(mmu, gva);
        let tag = if access == Access::Load { &entry.read } else { &entry.write };
        let tag = tag.load(Ordering::Relaxed);
        if tag & !TlbEntry::SLOW == gva & !(PAGE - 1) {
            let at = gva.wrapping_add(entry.addend.load(Ordering::Relaxed));
            return Ok(Place::Host { at, slow: tag & TlbEntry::SLOW != 0 });
        }
        self.tlb_misses += 1;
        let mapping = {
            let mut cpu = Cpu::new(cpu.guest, cpu.state, self);
            G::translate_address(&mut cpu, mmu, access, gva, len)?
        };
        Ok(self.resolve(mmu, access, gva, &mapping))
    }

    fn resolve(&mut self, mmu: u8, access: Access, gva: u64, mapping: &Mapping) -> Place {
        let view = self.view();
        let gpa_page = mapping.gpa & !(PAGE - 1);
        let Some(range) = view.find(Gpa(mapping.gpa)) else { return Place::Io(mapping.gpa) };
        let (ram, offset, writable) = match &range.region.backing {
            Backing::Ram { ram, offset } => (ram, offset, true),
            Backing::Rom { ram, offset, .. } if access == Access::Load => (ram, offset, false),
            _ => return Place::Io(mapping.gpa),
        };
        let within = offset + range.offset + (mapping.gpa - range.start);
        let at = ram.host_address() + within;
        let whole = range.start <= gpa_page && gpa_page + (PAGE - 1) <= range.last;
        let page_offset = within & !(PAGE - 1);
        let cacheable = whole && mapping.whole_page && at % PAGE == gva % PAGE;
        if cacheable {
            if !self.rams.iter().any(|r| Arc::ptr_eq(r, ram)) {
                self.rams.push(Arc::clone(ram));
            }
            let fresh = self.entry(mmu, gva).read.load(Ordering::Relaxed) == TlbEntry::INVALID;
            self.sets_used[usize::from(mmu & 3)].add(Core::tlb_index(gva), fresh, mapping.global);
            if mapping.span > PAGE {
                self.large.add(gva, mapping.span);
            }
            let page = gva & !(PAGE - 1);
            let entry = self.entry(mmu, gva);
            // Tags are invalid while the addend changes: other threads look at stores' tags.
            entry.write.store(TlbEntry::INVALID, Ordering::SeqCst);
            entry.addend.store(at.wrapping_sub(gva), Ordering::SeqCst);
            entry.gpa.store(gpa_page, Ordering::Relaxed);
            entry.read.store(if mapping.read { page } else { TlbEntry::INVALID }, Ordering::SeqCst);
            if mapping.write && writable {
                self.shared.note_stores(at & !(PAGE - 1));
                entry.write.store(page, Ordering::SeqCst);
                // Looked at after the tag is visible: whoever marks the page as code from now on
                // finds the tag.
                if ram.has_code(page_offset) {
                    entry.write.store(page | TlbEntry::SLOW, Ordering::SeqCst);
                }
            }
        }
        // Without a tag, nobody who marks the page learns of the store that follows.
        let slow = access != Access::Load && (!cacheable || ram.has_code(page_offset));
        Place::Host { at, slow }
    }

    /// After a store to a page with translated code.
    fn code_stored(&mut self, mmu: u8, gva: u64, at: u64, size: u32) {
        self.cache.invalidate(at, u64::from(size));
        let host_page = at & !(PAGE - 1);
        let entry = self.entry(mmu, gva);
        let page = gva & !(PAGE - 1);
        if entry.write.load(Ordering::SeqCst) == page | TlbEntry::SLOW
            && !self.cache.has_code(host_page)
        {
            entry.write.store(page, Ordering::SeqCst);
            if self.cache.has_code(host_page) {
                entry.write.store(page | TlbEntry::SLOW, Ordering::SeqCst);
            }
        }
    }

    fn load_within(
        &mut self,
        cpu: &mut Cpu<'_, G>,
        mmu: u8,
        size: u32,
        gva: u64,
    ) -> Result<u64, G::Trap> {
        let mut tries = 0;
        loop {
            match self.place(cpu, mmu, Access::Load, (gva, size))? {
                Place::Host { at, .. } => match read_host(at, size) {
                    Ok(value) => return Ok(value),
                    Err(fault) => self.host_trap((Access::Load, gva), fault, &mut tries)?,
                },
                Place::Io(gpa) => {
                    return self
                        .space
                        .load(Gpa(gpa), size)
                        .map_err(|_| G::memory_trap(MemoryFault::Bus, Access::Load, gva));
                }
            }
        }
    }

    fn store_within(
        &mut self,
        cpu: &mut Cpu<'_, G>,
        mmu: u8,
        size: u32,
        gva: u64,
        value: u64,
    ) -> Result<(), G::Trap> {
        let mut tries = 0;
        loop {
            match self.place(cpu, mmu, Access::Store, (gva, size))? {
                Place::Host { at, slow } => match write_host(at, size, value) {
                    Ok(()) => {
                        if slow {
                            self.code_stored(mmu, gva, at, size);
                        }
                        return Ok(());
                    }
                    Err(fault) => self.host_trap((Access::Store, gva), fault, &mut tries)?,
                },
                Place::Io(gpa) => {
                    return self
                        .space
                        .store(Gpa(gpa), size, value)
                        .map_err(|_| G::memory_trap(MemoryFault::Bus, Access::Store, gva));
                }
            }
        }
    }

    /// An atomic update of memory: `update` gives the new value for an old one, or nothing to
    /// leave it. The old value, zero-extended.
    fn update(
        &mut self,
        cpu: &mut Cpu<'_, G>,
        mmu: u8,
        size: u32,
        gva: u64,
        update: impl Fn(u64) -> Option<u64>,
    ) -> Result<u64, G::Trap> {
        self.atomic(cpu, mmu, (gva, size), |at| update_host(at, size, &update))
    }

    /// Something atomic to RAM at `gva`: `act` gets its host address, which is as aligned as it
    /// must be.
    fn atomic<T>(
        &mut self,
        cpu: &mut Cpu<'_, G>,
        mmu: u8,
        (gva, size): (u64, u32),
        act: impl Fn(u64) -> Result<T, HostFault>,
    ) -> Result<T, G::Trap> {
        if !gva.is_multiple_of(u64::from(size)) {
            return Err(G::memory_trap(MemoryFault::Misaligned, Access::Atomic, gva));
        }
        let mut tries = 0;
        loop {
            match self.place(cpu, mmu, Access::Atomic, (gva, size))? {
                Place::Host { at, slow } if at.is_multiple_of(u64::from(size)) => match act(at) {
                    Ok(old) => {
                        if slow {
                            self.code_stored(mmu, gva, at, size);
                        }
                        return Ok(old);
                    }
                    Err(fault) => self.host_trap((Access::Atomic, gva), fault, &mut tries)?,
                },
                _ => return Err(G::memory_trap(MemoryFault::Bus, Access::Atomic, gva)),
            }
        }
    }
}

fn crosses_page(gva: u64, size: u32) -> bool {
    gva % PAGE + u64::from(size) > PAGE
}

/// The parts of an access in the page it begins in and in the next: address and length.
fn parts(gva: u64, size: u32) -> [(u64, u32); 2] {
    let first = size.min((PAGE - gva % PAGE) as u32);
    [(gva, first), (gva.wrapping_add(u64::from(first)), size - first)]
}

fn big_endian(mem: MemOp, value: u64) -> u64 {
    match mem.is_big_endian() {
        true => value.swap_bytes() >> (64 - 8 * mem.size()),
        false => value,
    }
}

impl<G: Guest> Services<G> for Engine<G> {
    fn load(
        &mut self,
        cpu: &mut Cpu<'_, G>,
        mmu: u8,
        mem: MemOp,
        gva: u64,
    ) -> Result<u64, G::Trap> {
        let size = mem.size();
        if mem.must_align() && !gva.is_multiple_of(u64::from(size)) {
            return Err(G::memory_trap(MemoryFault::Misaligned, Access::Load, gva));
        }
        let value = if crosses_page(gva, size) {
            for part in parts(gva, size) {
                self.place(cpu, mmu, Access::Load, part)?;
            }
            let mut value = 0;
            for i in 0..size {
                let byte = self.load_within(cpu, mmu, 1, gva.wrapping_add(u64::from(i)))?;
                value |= byte << (8 * i);
            }
            value
        } else {
            self.load_within(cpu, mmu, size, gva)?
        };
        Ok(mem.extend(big_endian(mem, value)))
    }

    fn store(
        &mut self,
        cpu: &mut Cpu<'_, G>,
        mmu: u8,
        mem: MemOp,
        gva: u64,
        value: u64,
    ) -> Result<(), G::Trap> {
        let size = mem.size();
        if mem.must_align() && !gva.is_multiple_of(u64::from(size)) {
            return Err(G::memory_trap(MemoryFault::Misaligned, Access::Store, gva));
        }
        let value = big_endian(mem, value);
        if !crosses_page(gva, size) {
            return self.store_within(cpu, mmu, size, gva, value);
        }
        // Both pages must take the store before a byte is written.
        for part in parts(gva, size) {
            self.place(cpu, mmu, Access::Store, part)?;
        }
        for i in 0..size {
            let byte = value >> (8 * i) & 0xff;
            self.store_within(cpu, mmu, 1, gva.wrapping_add(u64::from(i)), byte)?;
        }
        Ok(())
    }

    fn amo(
        &mut self,
        cpu: &mut Cpu<'_, G>,
        mmu: u8,
        (op, mem): (AmoOp, MemOp),
        gva: u64,
        value: u64,
    ) -> Result<u64, G::Trap> {
        let apply = |old| op.apply(mem, big_endian(mem, old), value);
        let old =
            self.update(cpu, mmu, mem.size(), gva, |old| Some(big_endian(mem, apply(old))))?;
        Ok(mem.extend(big_endian(mem, old)))
    }

    fn cas(
        &mut self,
        cpu: &mut Cpu<'_, G>,
        mmu: u8,
        mem: MemOp,
        gva: u64,
        (expected, new): (u64, u64),
    ) -> Result<u64, G::Trap> {
        let mask = u64::MAX >> (64 - 8 * mem.size());
        let swap = |old| (big_endian(mem, old) == expected & mask).then(|| big_endian(mem, new));
        let old = self.update(cpu, mmu, mem.size(), gva, swap)?;
        Ok(mem.extend(big_endian(mem, old)))
    }

    fn cas_wide(
        &mut self,
        cpu: &mut Cpu<'_, G>,
        mmu: u8,
        gva: u64,
        (expected, new): (u128, u128),
    ) -> Result<u128, G::Trap> {
        self.atomic(cpu, mmu, (gva, 16), |at| exchange_host(at, expected, new))
    }

    fn probe(
        &mut self,
        cpu: &mut Cpu<'_, G>,
        mmu: u8,
        access: Access,
        gva: u64,
        size: u32,
    ) -> Result<(), G::Trap> {
        for (at, len) in parts(gva, size).into_iter().filter(|(_, len)| *len != 0) {
            if let (Access::Fetch, Some(pages)) = (access, &self.process) {
                self.process_page(pages, at)?;
            } else if access == Access::Fetch {
                let mut cpu = Cpu::new(cpu.guest, cpu.state, self);
                let mapping = G::translate_address(&mut cpu, mmu, access, at, len)?;
                if self.page_of(mapping.gpa).is_none() {
                    return Err(G::memory_trap(MemoryFault::Bus, access, at));
                }
            } else if let Place::Io(gpa) = self.place(cpu, mmu, access, (at, len))?
                && self.space.view().find(Gpa(gpa)).is_none()
            {
                return Err(G::memory_trap(MemoryFault::Bus, access, at));
            }
        }
        Ok(())
    }

    fn load_run(
        &mut self,
        cpu: &mut Cpu<'_, G>,
        mmu: u8,
        mem: MemOp,
        gva: u64,
        bytes: &mut [u8],
    ) -> Result<(), (usize, G::Trap)> {
        let size = mem.size() as usize;
        let mut done = 0;
        while done < bytes.len() {
            let at = gva.wrapping_add(done as u64);
            let within = run_within(at, size, bytes.len() - done);
            let place = match within {
                0 => None,
                len => self.place(cpu, mmu, Access::Load, (at, len as u32)).ok(),
            };
            let here = &mut bytes[done..];
            let len = match place {
                Some(Place::Host { at, .. })
                    if !mem.is_big_endian() && read_run(at, size, &mut here[..within]).is_ok() =>
                {
                    within
                }
                // One element across two pages, registers, or what faults somewhere.
                _ => {
                    let value = self.load(cpu, mmu, mem, at).map_err(|trap| (done, trap))?;
                    here[..size].copy_from_slice(&value.to_le_bytes()[..size]);
                    size
                }
            };
            done += len;
        }
        Ok(())
    }

    fn store_run(
        &mut self,
        cpu: &mut Cpu<'_, G>,
        mmu: u8,
        mem: MemOp,
        gva: u64,
        bytes: &[u8],
    ) -> Result<(), (usize, G::Trap)> {
        let size = mem.size() as usize;
        let mut done = 0;
        while done < bytes.len() {
            let at = gva.wrapping_add(done as u64);
            let within = run_within(at, size, bytes.len() - done);
            let place = match within {
                0 => None,
                len => self.place(cpu, mmu, Access::Store, (at, len as u32)).ok(),
            };
            let here = &bytes[done..];
            let len = match place {
                Some(Place::Host { at: host, slow })
                    if !mem.is_big_endian() && write_run(host, size, &here[..within]).is_ok() =>
                {
                    if slow {
                        self.code_stored(mmu, at, host, within as u32);
                    }
                    within
                }
                // One element across two pages, registers, or what faults somewhere.
                _ => {
                    let mut value = [0; 8];
                    value[..size].copy_from_slice(&here[..size]);
                    let value = u64::from_le_bytes(value);
                    self.store(cpu, mmu, mem, at, value).map_err(|trap| (done, trap))?;
                    size
                }
            };
            done += len;
        }
        Ok(())
    }

    fn phys_load(&mut self, gpa: u64, size: u32) -> Option<u64> {
        let size64 = u64::from(size);
        if let Some(w) = &self.window
            && gpa >= w.start
            && gpa.checked_add(size64 - 1)? <= w.last
            && self.shared.attention().load(Ordering::SeqCst) & attention::MAP == 0
        {
            return read_host(w.host + (gpa - w.start), size).ok();
        }
        let view = self.view();
        let range = view.find(Gpa(gpa))?;
        if let Backing::Ram { ram, offset } = &range.region.backing {
            if !self.rams.iter().any(|r| Arc::ptr_eq(r, ram)) {
                self.rams.push(Arc::clone(ram));
            }
            let host = ram.host_address() + offset + range.offset;
            self.window = Some(Window { start: range.start, last: range.last, host });
        }
        self.space.load(Gpa(gpa), size).ok()
    }

    fn phys_exchange(&mut self, gpa: u64, size: u32, old: u64, new: u64) -> Option<u64> {
        let (ram, offset) = self.space.ram_at(Gpa(gpa), u64::from(size), true)?;
        match size {
            4 => ram.exchange_u32(offset, old as u32, new as u32).map(u64::from),
            _ => ram.exchange_u64(offset, old, new),
        }
    }

    fn zero(&mut self, cpu: &mut Cpu<'_, G>, mmu: u8, gva: u64, len: u32) -> Result<(), G::Trap> {
        match self.place(cpu, mmu, Access::Store, (gva, len))? {
            Place::Host { at, slow } => {
                let zeros = [0; PAGE as usize];
                let zeros = zeros.get(..len as usize).unwrap_or(&zeros);
                if write_run(at, 8, zeros).is_err() {
                    let mut each = 0..u64::from(len);
                    return each.try_for_each(|offset| {
                        self.store_within(cpu, mmu, 1, gva.wrapping_add(offset), 0)
                    });
                }
                if slow {
                    self.code_stored(mmu, gva, at, len);
                }
                Ok(())
            }
            Place::Io(gpa) => (0..u64::from(len)).try_for_each(|offset| {
                let stored = self.space.store(Gpa(gpa + offset), 1, 0);
                stored.map_err(|_| G::memory_trap(MemoryFault::Bus, Access::Store, gva + offset))
            }),
        }
    }

    fn flush_translations(&mut self, which: Flush) {
        match which {
            Flush::All => self.flush_all(),
            Flush::Local => self.flush(true),
            Flush::Page(gva) => self.flush_page(gva),
        }
    }

    fn lines(&self) -> u64 {
        self.shared.lines()
    }
}

/// Bytes of whole elements of `size` bytes that lie in the page of `gva`, `len` at most.
fn run_within(gva: u64, size: usize, len: usize) -> usize {
    let page = (PAGE - gva % PAGE) as usize;
    page.min(len) / size * size
}
