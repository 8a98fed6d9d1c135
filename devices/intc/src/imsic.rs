//! RISC-V incoming message-signalled interrupt controller (Advanced Interrupt Architecture 1.0,
//! chapter "Incoming MSI Controller").
//!
//! An [`InterruptFile`] is what a hart sees of it at one privilege level: the hart reaches it
//! through CSRs, everybody else by writing an identity to its page. Files carry their own lock, so
//! that a hart and its interrupters do not wait for other harts.
//!
//! Not modelled: `seteipnum_be`, and delivery from an APLIC through a file (`eidelivery`
//! 0x40000000), both of which the specification leaves out at will.

use device::{
    AccessRules, Bus, Category, DeviceClass, MsiSink, Part, RestoreError, SavedState, Value, Wire,
};
use memory::IoHandler;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Bytes of each file's page. Its first word is `seteipnum_le`: the identity written becomes pending.
pub const PAGE: u64 = 0x1000;

/// Selectors of the indirect registers (`miselect`, `siselect`, `vsiselect`).
const EIDELIVERY: u32 = 0x70;
const EITHRESHOLD: u32 = 0x72;
const EIP0: u32 = 0x80;
const EIE0: u32 = 0xc0;
const LAST: u32 = 0xff;

/// Words of 64 identities.
const WORDS: usize = 32;

/// Everything the guest can observe of a file.
#[derive(Clone, Default, SavedState)]
struct State {
    #[n(1)]
    delivering: bool,
    #[n(2)]
    threshold: u32,
    #[n(3)]
    pending: [u64; WORDS],
    #[n(4)]
    enabled: [u64; WORDS],
}

/// An interrupt file: identities that are pending and enabled, and the line they drive.
pub struct InterruptFile {
    /// Highest identity: one less than a multiple of 64.
    last: u32,
    line: OnceLock<Wire>,
    state: Mutex<State>,
}

impl InterruptFile {
    /// A file of identities 1 to `ids` (63 to 2047, one less than a multiple of 64), tied to
    /// nothing yet.
    pub fn new(ids: u32) -> Arc<Self> {
        let last = (ids.clamp(63, 2047) + 1) / 64 * 64 - 1;
        Arc::new(Self { last, line: OnceLock::new(), state: Mutex::default() })
    }

    /// Ties the file to an external interrupt of its hart; the first call counts. The hart is made
    /// after its files, since it knows them.
    pub fn connect(&self, line: Wire) {
        let _only_the_first_counts = self.line.set(line);
        self.drive(&self.state());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes an identity pending; one that does not exist is ignored.
    pub fn set_pending(&self, id: u32) {
        if id == 0 || id > self.last {
            return;
        }
        let mut state = self.state();
        state.pending[(id / 64) as usize] |= 1 << (id % 64);
        self.drive(&state);
    }

    /// `mtopei`, `stopei` or `vstopei`: the first identity that is pending, enabled and below the
    /// threshold, in both halves; 0 when there is none.
    pub fn top(&self) -> u32 {
        let id = Self::first(&self.state());
        id << 16 | id
    }

    /// What a CSR instruction that writes `mtopei` does: returns [`InterruptFile::top`] and makes
    /// that identity not pending.
    pub fn claim(&self) -> u32 {
        let mut state = self.state();
        let id = Self::first(&state);
        state.pending[(id / 64) as usize] &= !(1 << (id % 64));
        self.drive(&state);
        id << 16 | id
    }

    /// Reads the indirect register `select` and replaces the bits of `mask` by those of `value`
    /// (0 to only read), in one step. `xlen` is the width of the CSR, 32 or 64. `None` when there
    /// is no such register: the hart raises an exception.
    pub fn access(&self, select: u32, xlen: u32, value: u64, mask: u64) -> Option<u64> {
        let mut state = self.state();
        let merge = |old: u64| old & !mask | value & mask;
        let old = match select {
            EIDELIVERY => {
                let old = u64::from(state.delivering);
                state.delivering = merge(old) == 1;
                old
            }
            EITHRESHOLD => {
                let old = u64::from(state.threshold);
                // The field has as many bits as the highest identity.
                state.threshold = merge(old) as u32 & ((self.last + 1).next_power_of_two() - 1);
                old
            }
            EIP0..EIE0 => self.access_bits(&mut state.pending, select - EIP0, xlen, &merge)?,
            EIE0..=LAST => self.access_bits(&mut state.enabled, select - EIE0, xlen, &merge)?,
            0x71 | 0x73..=0x7f => 0,
            _ => return None,
        };
        self.drive(&state);
        Some(old)
    }

    /// Register `n` of an array: 32 identities; on a 64-bit hart only even ones exist, with 64.
    fn access_bits(
        &self,
        words: &mut [u64; WORDS],
        n: u32,
        xlen: u32,
        merge: &dyn Fn(u64) -> u64,
    ) -> Option<u64> {
        if xlen == 64 && n % 2 == 1 {
            return None;
        }
        let word = (n / 2) as usize;
        if word as u32 > self.last / 64 {
            return Some(0);
        }
        let shift = if n % 2 == 1 { 32 } else { 0 };
        let ones = if xlen == 64 { u64::MAX } else { 0xffff_ffff };
        let old = words[word] >> shift & ones;
        let new = merge(old) & ones;
        words[word] = words[word] & !(ones << shift) | new << shift;
        // Identity 0 does not exist.
        words[0] &= !1;
        Some(old)
    }

    fn first(state: &State) -> u32 {
        let both = state.pending.iter().zip(&state.enabled).map(|(p, e)| p & e);
        let first = both.enumerate().find(|(_, bits)| *bits != 0);
        let id = first.map_or(0, |(word, bits)| word as u32 * 64 + bits.trailing_zeros());
        if state.threshold == 0 || id < state.threshold { id } else { 0 }
    }

    fn drive(&self, state: &State) {
        if let Some(line) = self.line.get() {
            line.set(state.delivering && Self::first(state) != 0);
        }
    }

    fn reset(&self) {
        let mut state = self.state();
        *state = State::default();
        self.drive(&state);
    }

    fn set(&self, new: State) {
        let mut state = self.state();
        *state = new;
        self.drive(&state);
    }
}

/// The pages of the interrupt files of one privilege level.
pub struct Imsic {
    files: Vec<Arc<InterruptFile>>,
}

impl Imsic {
    /// Pages for files in the order of their addresses. With guest files, those of a hart follow
    /// its supervisor file.
    pub fn new(files: Vec<Arc<InterruptFile>>) -> Self {
        Self { files }
    }

    /// Bytes that the pages take.
    pub fn len(&self) -> u64 {
        self.files.len() as u64 * PAGE
    }

    /// Whether there are no files.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

#[derive(Default, SavedState)]
struct Saved {
    #[n(1)]
    files: Vec<State>,
}

/// The files lock themselves, so that the pages need no lock.
impl Part for Imsic {
    fn reset(&self) {
        self.files.iter().for_each(|file| file.reset());
    }

    fn save(&self) -> Value {
        Saved { files: self.files.iter().map(|file| file.state().clone()).collect() }.save()
    }

    fn restore(&self, value: &Value) -> Result<(), RestoreError> {
        let mut new = Saved::default();
        new.restore(value)?;
        if new.files.len() != self.files.len() {
            let problem = format!("{} files where {} belong", new.files.len(), self.files.len());
            return Err(RestoreError::new(problem).within("files"));
        }
        self.files.iter().zip(new.files).for_each(|(file, mut state)| {
            state.pending[0] &= !1;
            state.pending[(file.last / 64 + 1) as usize..].fill(0);
            file.set(state);
        });
        Ok(())
    }
}

impl IoHandler for Imsic {
    fn rules(&self) -> AccessRules {
        AccessRules::U32
    }

    fn read(&self, _offset: u64, _size: u32) -> u64 {
        0
    }

    fn write(&self, offset: u64, size: u32, value: u64) {
        match self.files.get((offset / PAGE) as usize) {
            Some(file) if offset.is_multiple_of(PAGE) && size == 4 => {
                file.set_pending(value as u32);
            }
            _ => device::guest_error!("imsic: write of {size} bytes at {offset:#x}"),
        }
    }

    fn message(&self, offset: u64, data: u32) -> bool {
        self.write(offset, 4, data.into());
        true
    }
}

/// Brings messages to the files: what APLICs and PCI devices send to.
#[derive(Default)]
pub struct ImsicRouter {
    /// First address and files of each level.
    levels: Vec<(u64, Vec<Arc<InterruptFile>>)>,
}

impl ImsicRouter {
    /// A router to the files at each of these addresses, a page each.
    pub fn new(levels: Vec<(u64, Vec<Arc<InterruptFile>>)>) -> Arc<Self> {
        Arc::new(Self { levels })
    }
}

impl MsiSink for ImsicRouter {
    fn send(&self, address: u64, data: u32) {
        let file = self.levels.iter().find_map(|(base, files)| {
            files.get(usize::try_from(address.checked_sub(*base)? / PAGE).ok()?)
        });
        match file {
            Some(file) if address.is_multiple_of(PAGE) => file.set_pending(data),
            _ => device::guest_error!("imsic: no interrupt file takes messages at {address:#x}"),
        }
    }
}

/// The row of `riscv.imsic`.
pub static CLASS: DeviceClass = DeviceClass {
    name: "riscv.imsic",
    aliases: &[],
    bus: Bus::System,
    category: Category::Misc,
    description: "RISC-V incoming message-signalled interrupt controller",
    properties: &[],
    saved_version: 1,
};

#[cfg(test)]
mod tests {
    use super::*;
    use device::RecordedLines;

    fn file() -> (Arc<RecordedLines>, Arc<InterruptFile>) {
        let (lines, wire) = RecordedLines::wire();
        let file = InterruptFile::new(255);
        file.connect(wire);
        (lines, file)
    }

    /// Delivering, with everything enabled.
    fn open() -> (Arc<RecordedLines>, Arc<InterruptFile>) {
        let (lines, file) = file();
        file.access(EIDELIVERY, 64, 1, u64::MAX);
        (0..8).step_by(2).for_each(|n| {
            file.access(EIE0 + n, 64, u64::MAX, u64::MAX);
        });
        (lines, file)
    }

    #[test]
    fn the_lowest_identity_comes_first() {
        let (lines, file) = open();
        [200, 70, 0, 256, 5000].into_iter().for_each(|id| file.set_pending(id));
        assert_eq!(lines.take(), [(0, true)]);
        assert_eq!(file.top(), 70 << 16 | 70);
        assert_eq!(file.claim(), 70 << 16 | 70);
        assert_eq!(file.claim(), 200 << 16 | 200);
        assert_eq!(lines.take(), [(0, false)]);
        assert_eq!(file.claim(), 0);
    }

    #[test]
    fn threshold_and_delivery_hide_interrupts() {
        let (lines, file) = open();
        file.set_pending(9);
        file.access(EITHRESHOLD, 64, 9, u64::MAX);
        assert_eq!(file.top(), 0);
        file.access(EITHRESHOLD, 64, 10, u64::MAX);
        assert_eq!(file.top(), 9 << 16 | 9);
        file.access(EIDELIVERY, 64, 0, u64::MAX);
        assert_eq!(lines.take(), [(0, true), (0, false), (0, true), (0, false)]);
        assert_eq!(file.top(), 9 << 16 | 9);
        assert_eq!(file.access(EIDELIVERY, 64, 0x4000_0000, u64::MAX), Some(0));
        assert_eq!(file.access(EIDELIVERY, 64, 0, 0), Some(0));
    }

    #[test]
    fn arrays_have_the_width_of_the_hart() {
        let (_, file) = file();
        assert_eq!(file.access(EIP0, 64, u64::MAX, u64::MAX), Some(0));
        assert_eq!(file.access(EIP0, 64, 0, 0), Some(u64::MAX - 1));
        assert_eq!(file.access(EIP0 + 1, 64, 0, 0), None);
        assert_eq!(file.access(EIP0 + 1, 32, 0, 1), Some(0xffff_ffff));
        assert_eq!(file.access(EIP0, 64, 0, 0), Some(u64::MAX - 1 - (1 << 32)));
        assert_eq!(file.access(EIP0 + 8, 64, u64::MAX, u64::MAX), Some(0));
        assert_eq!(file.access(EIP0 + 8, 64, 0, 0), Some(0));
        assert_eq!(file.access(0x6f, 64, 0, 0), None);
        assert_eq!(file.access(0x100, 64, 0, 0), None);
    }

    #[test]
    fn messages_find_their_page() {
        let (lines, first) = open();
        let (guest_lines, guest) = open();
        let imsic = Imsic::new(vec![first.clone(), guest.clone()]);
        imsic.write(0x1000, 4, 3);
        imsic.write(0x1004, 4, 4);
        imsic.write(0x9000, 4, 4);
        assert_eq!(guest.top(), 3 << 16 | 3);
        let router =
            ImsicRouter::new(vec![(0x2400_0000, vec![]), (0x2800_0000, vec![first, guest])]);
        for address in [0x2800_0000, 0x2400_0000, 0x2800_0008, 0, u64::MAX] {
            router.send(address, 7);
        }
        assert_eq!(lines.take(), [(0, true)]);
        assert_eq!(guest_lines.take(), [(0, true)]);
    }

    #[test]
    fn saves_and_restores_and_survives_random_accesses() {
        let (_, first) = open();
        first.set_pending(77);
        let imsic = Imsic::new(vec![first]);
        let (lines, fresh) = file();
        let fresh = Imsic::new(vec![fresh]);
        fresh.restore(&imsic.save()).unwrap();
        assert_eq!(fresh.save(), imsic.save());
        assert_eq!(lines.take(), [(0, true)]);
        assert!(Imsic::new(vec![]).restore(&imsic.save()).is_err());
        let mut random = device::SeededRandom::new(5);
        for _ in 0..20_000 {
            imsic.write(random.below(0x2000), 4, random.below(300));
            let xlen = if random.below(2) == 0 { 32 } else { 64 };
            let select = random.below(0x110) as u32;
            imsic.files[0].access(select, xlen, random.next_u64(), random.next_u64());
            imsic.files[0].claim();
        }
    }
}
