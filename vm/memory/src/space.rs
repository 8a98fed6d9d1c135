//! Address spaces: regions with priorities, flattened for lookup.

use crate::{BusError, Gpa, Ram};
use arc_swap::{ArcSwap, Guard};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Widths in bytes that a block of registers understands. Wider accesses are split, narrower
/// ones widened (a narrow read takes its bytes from the wider one; a narrow write is passed on
/// as it is, since reading first may have effects).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessRules {
    /// Narrowest read handed to the device: 1, 2, 4 or 8.
    pub min: u32,
    /// Widest access handed to the device: 1, 2, 4 or 8.
    pub max: u32,
}

impl AccessRules {
    /// Any width up to 8 bytes.
    pub const ANY: Self = Self { min: 1, max: 8 };
    /// 32-bit registers only.
    pub const U32: Self = Self { min: 4, max: 4 };
}

/// Registers in an address space. Accesses lie within the region and, split by `rules`, are 1, 2,
/// 4 or 8 bytes wide; they may be misaligned.
pub trait IoHandler: Send + Sync {
    /// Widths the handler takes.
    fn rules(&self) -> AccessRules {
        AccessRules::ANY
    }
    /// Reads `size` bytes at `offset` into the region, little-endian in the low bits.
    fn read(&self, offset: u64, size: u32) -> u64;
    /// Writes the low `size` bytes of `value` at `offset` into the region.
    fn write(&self, offset: u64, size: u32, value: u64);
    /// A message: 32 bits that a device writes to interrupt, with its own lock held. False when
    /// nobody takes it, as is right for all but interrupt controllers: others might wait for that
    /// device.
    fn message(&self, offset: u64, data: u32) -> bool {
        let _ = (offset, data);
        false
    }
}

/// What answers in a region.
#[derive(Clone)]
pub enum Backing {
    /// RAM from `offset` bytes into the block on.
    Ram {
        /// The block.
        ram: Arc<Ram>,
        /// Where in it the region begins, in bytes (page-aligned).
        offset: u64,
    },
    /// Memory that is read and executed like RAM; writes go to the handler, or nowhere.
    Rom {
        /// The block.
        ram: Arc<Ram>,
        /// Where in it the region begins, in bytes (page-aligned).
        offset: u64,
        /// Takes the writes, as flash does with commands.
        writes: Option<Arc<dyn IoHandler>>,
    },
    /// Registers.
    Io(Arc<dyn IoHandler>),
}

/// A range of addresses and what answers there.
#[derive(Clone)]
pub struct Region {
    /// Name shown by `info mtree`.
    pub name: String,
    /// First address.
    pub base: Gpa,
    /// Bytes, at least 1.
    pub len: u64,
    /// Where regions overlap the higher one answers; among equals the one mapped last.
    pub priority: i32,
    /// What answers.
    pub backing: Backing,
}

/// Names a mapped region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RegionId(u64);

/// Learns that the map changed: whoever caches translations forgets them.
pub trait MemoryListener: Send + Sync {
    /// The flat view was replaced.
    fn map_changed(&self);
}

/// A part of the flat view: one region answers in all of it.
pub struct FlatRange {
    /// First address.
    pub start: u64,
    /// Last address.
    pub last: u64,
    /// Offset of `start` within its region.
    pub offset: u64,
    /// The region.
    pub region: Arc<Region>,
}

/// What is where, sorted and free of overlaps. Immutable.
#[derive(Default)]
pub struct FlatView {
    ranges: Vec<FlatRange>,
}

impl FlatView {
    /// The range that answers at `at`.
    pub fn find(&self, at: Gpa) -> Option<&FlatRange> {
        let next = self.ranges.partition_point(|r| r.start <= at.0);
        let range = self.ranges.get(next.checked_sub(1)?)?;
        (at.0 <= range.last).then_some(range)
    }

    /// All ranges in address order.
    pub fn ranges(&self) -> &[FlatRange] {
        &self.ranges
    }

    /// Flattens regions given in ascending order of who wins.
    fn flatten(regions: &[Arc<Region>]) -> Self {
        let mut edges: Vec<u128> = Vec::new();
        for r in regions {
            edges.push(u128::from(r.base.0));
            edges.push(u128::from(r.base.0) + u128::from(r.len));
        }
        edges.sort_unstable();
        edges.dedup();
        let mut ranges: Vec<FlatRange> = Vec::new();
        for edge in edges.windows(2) {
            let (start, last) = (edge[0] as u64, (edge[1] - 1) as u64);
            let holds = |r: &&Arc<Region>| r.base.0 <= start && last - r.base.0 < r.len;
            let Some(region) = regions.iter().rev().find(holds) else { continue };
            match ranges.last_mut() {
                Some(before) if Arc::ptr_eq(&before.region, region) && before.last + 1 == start => {
                    before.last = last;
                }
                _ => ranges.push(FlatRange {
                    start,
                    last,
                    offset: start - region.base.0,
                    region: Arc::clone(region),
                }),
            }
        }
        Self { ranges }
    }
}

/// One address space of a machine.
pub struct AddressSpace {
    name: String,
    map: Mutex<Map>,
    view: ArcSwap<FlatView>,
}

#[derive(Default)]
struct Map {
    regions: Vec<(RegionId, Arc<Region>)>,
    listeners: Vec<Weak<dyn MemoryListener>>,
    next_id: u64,
}

impl AddressSpace {
    /// An empty address space.
    pub fn new(name: &str) -> Arc<Self> {
        let view = ArcSwap::from_pointee(FlatView::default());
        Arc::new(Self { name: name.into(), map: Mutex::default(), view })
    }

    /// Its name, such as `memory`.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn map_lock(&self) -> MutexGuard<'_, Map> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a region. An empty one, or one past the end of the address space, is shortened.
    pub fn map(&self, region: Region) -> RegionId {
        let mut map = self.map_lock();
        map.next_id += 1;
        let id = RegionId(map.next_id);
        let len = region.len.clamp(1, u64::MAX - region.base.0 + u64::from(region.base.0 != 0));
        map.regions.push((id, Arc::new(Region { len, ..region })));
        map.regions.sort_by_key(|(id, r)| (r.priority, id.0));
        self.publish(map);
        id
    }

    /// Adds registers at `base`.
    pub fn map_io(&self, name: &str, base: u64, len: u64, io: Arc<dyn IoHandler>) -> RegionId {
        let backing = Backing::Io(io);
        self.map(Region { name: name.into(), base: Gpa(base), len, priority: 0, backing })
    }

    /// Adds a whole block of RAM at `base`.
    pub fn map_ram(&self, base: u64, ram: &Arc<Ram>) -> RegionId {
        let backing = Backing::Ram { ram: Arc::clone(ram), offset: 0 };
        let (name, len) = (ram.name().into(), ram.len());
        self.map(Region { name, base: Gpa(base), len, priority: 0, backing })
    }

    /// Removes a region; one that is not there is no error.
    pub fn unmap(&self, id: RegionId) {
        let mut map = self.map_lock();
        map.regions.retain(|(other, _)| *other != id);
        self.publish(map);
    }

    /// Removes every region, and with them the handlers, which may refer to this address space: a
    /// machine that is gone would otherwise never be freed.
    pub fn clear(&self) {
        let mut map = self.map_lock();
        // Dropped behind the lock: what a handler does then may ask for it.
        let _gone = std::mem::take(&mut map.regions);
        self.publish(map);
    }

    /// Replaces what answers in a region, as flash does when it leaves its reading mode; there is
    /// no moment when nothing answers. A region that is not there is no error.
    pub fn set_backing(&self, id: RegionId, backing: Backing) {
        let mut map = self.map_lock();
        if let Some((_, region)) = map.regions.iter_mut().find(|(other, _)| *other == id) {
            *region = Arc::new(Region { backing, ..Region::clone(region) });
            self.publish(map);
        }
    }

    /// Tells `listener` of every later change.
    pub fn listen(&self, listener: Weak<dyn MemoryListener>) {
        self.map_lock().listeners.push(listener);
    }

    /// All mapped regions, those that lose first.
    pub fn regions(&self) -> Vec<Arc<Region>> {
        self.map_lock().regions.iter().map(|(_, r)| Arc::clone(r)).collect()
    }

    fn publish(&self, mut map: MutexGuard<'_, Map>) {
        let regions: Vec<_> = map.regions.iter().map(|(_, r)| Arc::clone(r)).collect();
        self.view.store(Arc::new(FlatView::flatten(&regions)));
        map.listeners.retain(|l| l.strong_count() > 0);
        let listeners: Vec<_> = map.listeners.iter().filter_map(Weak::upgrade).collect();
        drop(map);
        listeners.iter().for_each(|l| l.map_changed());
    }

    /// The present view, without a lock.
    pub fn view(&self) -> Guard<Arc<FlatView>> {
        self.view.load()
    }

    /// The RAM (or ROM, unless `write`) that holds all of `len` bytes at `at`, and where in it.
    pub fn ram_at(&self, at: Gpa, len: u64, write: bool) -> Option<(Arc<Ram>, u64)> {
        let view = self.view();
        let range = view.find(at)?;
        if len != 0 && len - 1 > range.last - at.0 {
            return None;
        }
        let within = range.offset + (at.0 - range.start);
        match &range.region.backing {
            Backing::Ram { ram, offset } => Some((Arc::clone(ram), offset + within)),
            Backing::Rom { ram, offset, .. } if !write => Some((Arc::clone(ram), offset + within)),
            _ => None,
        }
    }

    /// Reads bytes, from memory and registers alike.
    ///
    /// # Errors
    /// Nothing answers at some address; the bytes before it have been read.
    pub fn read(&self, at: Gpa, buffer: &mut [u8]) -> Result<(), BusError> {
        let view = self.view();
        let mut done = 0;
        while done < buffer.len() {
            let here = Gpa(at.0.wrapping_add(done as u64));
            let range = view.find(here).ok_or(BusError { at: here })?;
            let left = range.last - here.0;
            let n = (buffer.len() - done)
                .min(usize::try_from(left).unwrap_or(usize::MAX).saturating_add(1));
            range.read(here, &mut buffer[done..done + n]);
            done += n;
        }
        Ok(())
    }

    /// Writes bytes, to memory and registers alike. Writes to plain ROM are dropped.
    ///
    /// # Errors
    /// Nothing answers at some address; the bytes before it have been written.
    pub fn write(&self, at: Gpa, bytes: &[u8]) -> Result<(), BusError> {
        let view = self.view();
        let mut done = 0;
        while done < bytes.len() {
            let here = Gpa(at.0.wrapping_add(done as u64));
            let range = view.find(here).ok_or(BusError { at: here })?;
            let left = range.last - here.0;
            let n = (bytes.len() - done)
                .min(usize::try_from(left).unwrap_or(usize::MAX).saturating_add(1));
            range.write(here, &bytes[done..done + n]);
            done += n;
        }
        Ok(())
    }

    /// Loads `size` (1, 2, 4 or 8) bytes, little-endian, in one piece when aligned and in RAM.
    ///
    /// # Errors
    /// Nothing answers there.
    pub fn load(&self, at: Gpa, size: u32) -> Result<u64, BusError> {
        let view = self.view();
        match view.find(at) {
            Some(range) if range.last - at.0 >= u64::from(size) - 1 => Ok(range.load(at, size)),
            _ => {
                let mut bytes = [0; 8];
                self.read(at, &mut bytes[..size.min(8) as usize])?;
                Ok(u64::from_le_bytes(bytes))
            }
        }
    }

    /// Stores the low `size` (1, 2, 4 or 8) bytes of `value`, little-endian, in one piece when
    /// aligned and in RAM.
    ///
    /// # Errors
    /// Nothing answers there.
    pub fn store(&self, at: Gpa, size: u32, value: u64) -> Result<(), BusError> {
        let view = self.view();
        match view.find(at) {
            Some(range) if range.last - at.0 >= u64::from(size) - 1 => {
                range.store(at, size, value);
                Ok(())
            }
            _ => self.write(at, &value.to_le_bytes()[..size.min(8) as usize]),
        }
    }
}

impl AddressSpace {
    /// Sends a message to `at`, a multiple of four: to RAM, or to registers that take messages.
    ///
    /// # Errors
    /// Nothing there takes it.
    pub fn send(&self, at: Gpa, data: u32) -> Result<(), BusError> {
        let view = self.view();
        let range = view.find(at).filter(|range| range.last - at.0 >= 3);
        let taken = range.is_some_and(|range| match &range.region.backing {
            Backing::Ram { .. } => {
                range.store(at, 4, data.into());
                true
            }
            Backing::Rom { .. } => false,
            Backing::Io(io) => io.message(range.within(at), data),
        });
        if taken { Ok(()) } else { Err(BusError { at }) }
    }
}

impl FlatRange {
    fn within(&self, at: Gpa) -> u64 {
        self.offset + (at.0 - self.start)
    }

    fn read(&self, at: Gpa, buffer: &mut [u8]) {
        let within = self.within(at);
        match &self.region.backing {
            Backing::Ram { ram, offset } | Backing::Rom { ram, offset, .. } => {
                if !ram.read(offset + within, buffer) {
                    buffer.fill(0);
                }
            }
            Backing::Io(io) => {
                for (i, size) in pieces(at.0, buffer.len()) {
                    let value = io_read(io.as_ref(), within + i as u64, size as u32);
                    buffer[i..i + size].copy_from_slice(&value.to_le_bytes()[..size]);
                }
            }
        }
    }

    fn write(&self, at: Gpa, bytes: &[u8]) {
        let within = self.within(at);
        let io = match &self.region.backing {
            Backing::Ram { ram, offset } => {
                let _in_range = ram.write(offset + within, bytes);
                return;
            }
            Backing::Rom { writes, .. } => writes.as_ref(),
            Backing::Io(io) => Some(io),
        };
        let Some(io) = io else { return };
        for (i, size) in pieces(at.0, bytes.len()) {
            let mut value = [0; 8];
            value[..size].copy_from_slice(&bytes[i..i + size]);
            io_write(io.as_ref(), within + i as u64, size as u32, u64::from_le_bytes(value));
        }
    }

    /// Loads `size` bytes that lie in the range.
    pub fn load(&self, at: Gpa, size: u32) -> u64 {
        let within = self.within(at);
        match &self.region.backing {
            Backing::Ram { ram, offset } | Backing::Rom { ram, offset, .. } => {
                let at = offset + within;
                match size {
                    1 => ram.load_u8(at).map(u64::from),
                    2 => ram.load_u16(at).map(u64::from),
                    4 => ram.load_u32(at).map(u64::from),
                    _ => ram.load_u64(at),
                }
                .unwrap_or(0)
            }
            Backing::Io(io) => io_read(io.as_ref(), within, size),
        }
    }

    /// Stores `size` bytes that lie in the range.
    pub fn store(&self, at: Gpa, size: u32, value: u64) {
        let within = self.within(at);
        let io = match &self.region.backing {
            Backing::Ram { ram, offset } => {
                let at = offset + within;
                let _in_range = match size {
                    1 => ram.store_u8(at, value as u8),
                    2 => ram.store_u16(at, value as u16),
                    4 => ram.store_u32(at, value as u32),
                    _ => ram.store_u64(at, value),
                };
                return;
            }
            Backing::Rom { writes, .. } => writes.as_ref(),
            Backing::Io(io) => Some(io),
        };
        if let Some(io) = io {
            io_write(io.as_ref(), within, size, value);
        }
    }
}

/// Cuts a transfer into naturally aligned accesses of at most 8 bytes: offset and size of each.
fn pieces(at: u64, len: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let left = len - done;
        let here = at.wrapping_add(done as u64);
        let size =
            [8, 4, 2, 1].into_iter().find(|s| *s <= left && here.is_multiple_of(*s as u64))?;
        done += size;
        Some((done - size, size))
    })
}

fn io_read(io: &dyn IoHandler, offset: u64, size: u32) -> u64 {
    let rules = io.rules();
    if size > rules.max {
        return (0..size / rules.max).fold(0, |value, i| {
            let part = io.read(offset + u64::from(i * rules.max), rules.max);
            value | (part & mask(rules.max)) << (i * rules.max * 8)
        });
    }
    if size < rules.min {
        let start = offset & !u64::from(rules.min - 1);
        let shift = (offset - start) * 8;
        return io.read(start, rules.min) >> shift & mask(size);
    }
    io.read(offset, size) & mask(size)
}

fn io_write(io: &dyn IoHandler, offset: u64, size: u32, value: u64) {
    let rules = io.rules();
    if size > rules.max {
        for i in 0..size / rules.max {
            let part = value >> (i * rules.max * 8) & mask(rules.max);
            io.write(offset + u64::from(i * rules.max), rules.max, part);
        }
        return;
    }
    io.write(offset, size, value & mask(size));
}

/// The low `size` bytes.
fn mask(size: u32) -> u64 {
    u64::MAX >> (64 - 8 * size.clamp(1, 8))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Answers with the offset in each byte and logs writes.
    struct Echo(AccessRules, Mutex<Vec<(u64, u32, u64)>>);
    impl IoHandler for Echo {
        fn rules(&self) -> AccessRules {
            self.0
        }
        fn read(&self, offset: u64, size: u32) -> u64 {
            (0..u64::from(size)).fold(0, |v, i| v | ((offset + i) & 0xff) << (8 * i))
        }
        fn write(&self, offset: u64, size: u32, value: u64) {
            self.1.lock().unwrap().push((offset, size, value));
        }
    }

    fn space(rules: AccessRules) -> (Arc<AddressSpace>, Arc<Echo>, Arc<Ram>) {
        let space = AddressSpace::new("memory");
        let (echo, ram) =
            (Arc::new(Echo(rules, Mutex::default())), Ram::new("ram", 0x3000).unwrap());
        space.map_ram(0x8000, &ram);
        space.map_io("echo", 0x1000, 0x100, echo.clone());
        (space, echo, ram)
    }

    #[test]
    fn higher_priority_and_later_regions_cover_others() {
        let (space, echo, ram) = space(AccessRules::ANY);
        let over = space.map(Region {
            name: "over".into(),
            base: Gpa(0x9000),
            len: 0x10,
            priority: 1,
            backing: Backing::Io(echo),
        });
        assert_eq!(space.view().ranges().len(), 4);
        assert_eq!(space.load(Gpa(0x9004), 1), Ok(4));
        assert!(ram.store_u32(0x1010, 7));
        assert_eq!(space.load(Gpa(0x9010), 4), Ok(7));
        space.unmap(over);
        assert_eq!(space.load(Gpa(0x9004), 1), Ok(0));
        assert_eq!(space.load(Gpa(0x7fff), 1), Err(BusError { at: Gpa(0x7fff) }));
    }

    #[test]
    fn accesses_are_split_and_widened_by_the_rules() {
        let (space, echo, _ram) = space(AccessRules::U32);
        assert_eq!(space.load(Gpa(0x1008), 8), Ok(0x0f0e_0d0c_0b0a_0908));
        assert_eq!(space.load(Gpa(0x100a), 1), Ok(0x0a));
        space.store(Gpa(0x1010), 8, 0x1_0000_0002).unwrap();
        assert_eq!(*echo.1.lock().unwrap(), [(0x10, 4, 2), (0x14, 4, 1)]);
    }

    #[test]
    fn messages_reach_ram_and_what_takes_them() {
        struct Controller(Mutex<Vec<(u64, u32)>>);
        impl IoHandler for Controller {
            fn read(&self, _offset: u64, _size: u32) -> u64 {
                0
            }
            fn write(&self, _offset: u64, _size: u32, _value: u64) {}
            fn message(&self, offset: u64, data: u32) -> bool {
                self.0.lock().unwrap().push((offset, data));
                true
            }
        }
        let (space, echo, ram) = space(AccessRules::ANY);
        let controller = Arc::new(Controller(Mutex::default()));
        space.map_io("controller", 0x2000, 0x1000, controller.clone());
        for at in [0x9000, 0x2004] {
            assert_eq!(space.send(Gpa(at), 7), Ok(()));
        }
        for at in [0x1000, 0x2ffe, 0xaffe, 0xb000] {
            assert_eq!(space.send(Gpa(at), 7), Err(BusError { at: Gpa(at) }));
        }
        assert_eq!(ram.load_u32(0x1000), Some(7));
        assert_eq!(*controller.0.lock().unwrap(), [(4, 7)]);
        assert!(echo.1.lock().unwrap().is_empty());
    }

    #[test]
    fn a_transfer_may_cross_from_ram_to_nothing() {
        let (space, _echo, _ram) = space(AccessRules::ANY);
        let mut buffer = [0; 8];
        assert_eq!(space.read(Gpa(0xaffc), &mut buffer), Err(BusError { at: Gpa(0xb000) }));
        assert_eq!(space.write(Gpa(0xaffc), &[1; 4]), Ok(()));
        assert!(space.ram_at(Gpa(0xaffc), 4, true).is_some());
        assert!(space.ram_at(Gpa(0xaffc), 5, true).is_none());
    }

    #[test]
    fn regions_at_the_top_of_the_address_space_do_not_wrap() {
        let space = AddressSpace::new("memory");
        let echo = Arc::new(Echo(AccessRules::ANY, Mutex::default()));
        space.map_io("top", u64::MAX - 0xf, 0x100, echo);
        assert_eq!(space.load(Gpa(u64::MAX), 1), Ok(0x0f));
        assert!(space.load(Gpa(0), 1).is_err());
        assert!(space.read(Gpa(u64::MAX), &mut [0; 2]).is_err());
    }

    #[test]
    fn a_region_changes_what_answers_and_keeps_its_place() {
        let (space, echo, ram) = space(AccessRules::ANY);
        let id = space.map_io("flash", 0x8000, 0x1000, echo);
        assert_eq!(space.load(Gpa(0x8004), 1), Ok(4));
        space.set_backing(id, Backing::Rom { ram, offset: 0, writes: None });
        assert_eq!(space.load(Gpa(0x8004), 1), Ok(0));
        assert_eq!(space.view().ranges().len(), 3);
    }

    #[test]
    fn listeners_hear_of_changes_until_they_are_gone() {
        struct Count(AtomicU32);
        impl MemoryListener for Count {
            fn map_changed(&self) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let (space, echo, _ram) = space(AccessRules::ANY);
        let count = Arc::new(Count(AtomicU32::new(0)));
        space.listen(Arc::downgrade(&count) as Weak<dyn MemoryListener>);
        let id = space.map_io("more", 0x2000, 4, echo);
        space.unmap(id);
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
    }
}
