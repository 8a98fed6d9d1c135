//! The part of a virtual processor that other threads reach.
#![expect(unsafe_code, reason = "generated code and other threads share the core's memory")]

use crate::cache::Peer;
use crate::doorbell::{Doorbell, attention};
use crate::settling::Rounds;
use crate::standing::Jump;
use codegen::{Core, JumpEntry, TlbEntry};
use cpu::CpuLink;
use device::LineSink;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Memory of a virtual processor, as generated code sees it.
#[repr(C)]
pub(crate) struct Block<S> {
    pub(crate) core: Core,
    pub(crate) state: S,
}

/// A virtual processor's memory, interrupt lines and parking place.
///
/// Its own thread reaches everything through raw pointers; other threads only the atomics below.
pub(crate) struct Shared<S> {
    block: Place<S>,
    doorbell: Doorbell,
    /// Counts the rounds of the run loop.
    pub(crate) rounds: Rounds,
    /// Host pages that the TLB may let stores to, as bits by hash: whoever translates code from
    /// another page need not look through the TLB. None in a process, which has no TLB.
    stored: Box<[AtomicU64]>,
    /// Whether its thread may be parked; without, asking for attention takes no lock.
    parks: bool,
}

/// A processor's memory. It is mapped rather than allocated: most of it is never touched, and
/// allocators clear what has to be aligned.
struct Place<S>(NonNull<Block<S>>);

impl<S> Place<S> {
    /// Memory in its place; with `tlb`, for code that uses the software TLB.
    fn new(state: S, tlb: bool) -> Self {
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a mapping at an address of the kernel's choice aliases nothing.
        let at = unsafe {
            libc::mmap(std::ptr::null_mut(), size_of::<Block<S>>(), rights, flags, -1, 0)
        };
        let inside = NonNull::new(at.cast::<Block<S>>()).filter(|_| at != libc::MAP_FAILED);
        let Some(inside) = inside else {
            std::alloc::handle_alloc_error(std::alloc::Layout::new::<Block<S>>())
        };
        // SAFETY: the mapping has room for a block, and pages are aligned as it must be.
        let place = unsafe { &raw mut (*inside.as_ptr()).state };
        // SAFETY: as above; there is no state yet that would have to be dropped.
        unsafe { place.write(state) };
        // SAFETY: the core consists of integers, for which zeros are good, and nobody else knows it.
        let core = unsafe { &mut (*inside.as_ptr()).core };
        core.fill(tlb);
        Self(inside)
    }

    fn get(&self) -> *mut Block<S> {
        self.0.as_ptr()
    }
}

impl<S> Drop for Place<S> {
    fn drop(&mut self) {
        // SAFETY: the block was made by `new`, and nobody refers to it any more.
        unsafe { self.0.drop_in_place() };
        // SAFETY: as above; the mapping is as long.
        unsafe { libc::munmap(self.get().cast(), size_of::<Block<S>>()) };
    }
}

/// Words of `Shared::stored`.
const STORED_WORDS: usize = 1024;

// SAFETY: the state is moved in and stays with the processor's thread; other threads touch atomic
// fields only.
unsafe impl<S: Send> Send for Shared<S> {}
// SAFETY: as above.
unsafe impl<S: Send> Sync for Shared<S> {}

impl<S> Shared<S> {
    pub(crate) fn new(state: S, parks: bool) -> Self {
        Self {
            block: Place::new(state, parks),
            doorbell: Doorbell::new(),
            rounds: Rounds::new(),
            stored: (0..if parks { STORED_WORDS } else { 0 }).map(|_| AtomicU64::new(0)).collect(),
            parks,
        }
    }

    fn stored_bit(&self, host_page: u64) -> (&AtomicU64, u64) {
        let page = host_page >> codegen::PAGE_BITS;
        let hash = page ^ page >> 16;
        (&self.stored[(hash >> 6) as usize % STORED_WORDS], 1 << (hash % 64))
    }

    /// The TLB is about to let stores to this host page. Comes before the tag is visible, so that
    /// [`Peer::make_slow`] sees one of the two, or the tag's writer sees that the page has code.
    pub(crate) fn note_stores(&self, host_page: u64) {
        let (word, bit) = self.stored_bit(host_page);
        word.fetch_or(bit, Ordering::SeqCst);
    }

    /// No tag for stores is left in the TLB.
    pub(crate) fn forget_stores(&self) {
        self.stored.iter().for_each(|word| word.store(0, Ordering::SeqCst));
    }

    fn may_store_to(&self, host_page: u64) -> bool {
        let (word, bit) = self.stored_bit(host_page);
        word.load(Ordering::SeqCst) & bit != 0
    }

    /// The block; only the processor's own thread uses more than its atomics.
    pub(crate) fn block(&self) -> *mut Block<S> {
        self.block.get()
    }

    pub(crate) fn attention(&self) -> &AtomicU32 {
        // SAFETY: the block lives as long as `self`, and the field is only used atomically.
        unsafe { &(*self.block.get()).core.attention }
    }

    /// The entry for jumps to `pc`.
    pub(crate) fn jump(&self, pc: u64) -> Jump<'_> {
        let index = Core::jump_index(pc);
        let JumpEntry { pc, code } = &self.jumps()[index];
        Jump { pc, code, none: JumpEntry::invalid(index) }
    }

    pub(crate) fn jumps(&self) -> &[JumpEntry] {
        // SAFETY: as above.
        unsafe { &(*self.block.get()).core.jumps }
    }

    pub(crate) fn tlb(&self, set: usize) -> &[TlbEntry] {
        // SAFETY: as above; all fields of an entry are atomics.
        unsafe { &(*self.block.get()).core.tlb[set & 3] }
    }

    /// Forgets where returns go. For the processor's own thread, in a slow path or outside of
    /// generated code.
    pub(crate) fn forget_returns(&self) {
        // SAFETY: the block lives as long as `self`.
        let core = unsafe { &raw mut (*self.block.get()).core };
        // SAFETY: only the processor's own thread uses the frame, and no reference to it is alive.
        unsafe { (*core).forget_returns() };
    }

    pub(crate) fn lines(&self) -> u64 {
        self.doorbell.lines()
    }

    /// Asks for the run loop's attention, wherever the thread is.
    pub(crate) fn notify(&self, why: u32) {
        match self.parks {
            true => self.doorbell.ring(self.attention(), why),
            false => drop(self.attention().fetch_or(why, Ordering::SeqCst)),
        }
    }
}

impl<S: Send> LineSink for Shared<S> {
    fn set_line(&self, line: u32, level: bool) {
        self.doorbell.set_line(self.attention(), line, level);
    }
}

impl<S: Send> CpuLink for Shared<S> {
    fn kick(&self) {
        self.notify(attention::KICK);
    }

    fn wait(&self) {
        self.doorbell.wait(self.attention());
    }
}

impl<S: Send> memory::MemoryListener for Shared<S> {
    fn map_changed(&self) {
        self.notify(attention::MAP);
    }
}

impl<S: Send> Peer for Shared<S> {
    fn forget_jump(&self, pc: u64) {
        self.jump(pc).withdraw(pc);
    }

    fn make_slow(&self, host_page: u64) -> bool {
        if !self.may_store_to(host_page) {
            return false;
        }
        for entry in (0..isa::MMU_SETS).flat_map(|set| self.tlb(set)) {
            let tag = entry.write.load(Ordering::SeqCst);
            let page = tag & !TlbEntry::SLOW;
            if tag & TlbEntry::SLOW == 0
                && page.wrapping_add(entry.addend.load(Ordering::SeqCst)) == host_page
            {
                let slow = tag | TlbEntry::SLOW;
                // A processor that refills the entry meanwhile looks at the code bit itself.
                let _ = entry.write.compare_exchange(tag, slow, Ordering::SeqCst, Ordering::SeqCst);
            }
        }
        // A unit keeps what it found in an entry beyond the time that the entry is there.
        true
    }

    fn rounds(&self) -> u64 {
        self.rounds.count()
    }

    fn leave(&self) {
        self.notify(attention::LEAVE);
    }
}
