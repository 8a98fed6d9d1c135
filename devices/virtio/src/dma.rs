//! What a virtio device reaches of guest memory: RAM (and, to read, ROM), never registers.
//!
//! A ring or buffer that lies in another device's registers, or the device's own, is a driver's
//! error: reaching registers under the device's lock could lead back into the same device.

use memory::{AddressSpace, Backing, FlatRange, Gpa, Ram};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The address is not RAM, or the range leaves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// First address that failed.
    pub at: u64,
}

/// A piece of guest memory named by a descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Guest physical address.
    pub at: u64,
    /// Bytes.
    pub len: u32,
}

/// Access to guest RAM, with the switch that a bus has for it.
#[derive(Clone)]
pub struct Dma {
    space: Arc<AddressSpace>,
    mastering: Arc<AtomicBool>,
}

impl Dma {
    /// Access to the RAM of `space` that nothing can switch off.
    pub fn new(space: Arc<AddressSpace>) -> Self {
        Self { space, mastering: Arc::new(AtomicBool::new(true)) }
    }

    /// Access to the RAM of `space` while `mastering` is set (the PCI command register's bit).
    pub fn switched(space: Arc<AddressSpace>, mastering: Arc<AtomicBool>) -> Self {
        Self { space, mastering }
    }

    /// Whether the bus lets the device reach memory now.
    pub fn enabled(&self) -> bool {
        self.mastering.load(Ordering::Acquire)
    }

    /// Calls `each` for every piece of RAM in the range: block, offset in it, bytes done before,
    /// bytes here.
    fn walk(
        &self,
        at: u64,
        len: usize,
        write: bool,
        mut each: impl FnMut(&Arc<Ram>, u64, usize, usize) -> bool,
    ) -> Result<(), Fault> {
        if !self.enabled() {
            return Err(Fault { at });
        }
        let view = self.space.view();
        let mut done = 0;
        while done < len {
            let here = at.checked_add(done as u64).ok_or(Fault { at })?;
            let range = view.find(Gpa(here)).ok_or(Fault { at: here })?;
            let (ram, offset) = ram_of(range, here, write).ok_or(Fault { at: here })?;
            let left = usize::try_from(range.last - here).unwrap_or(usize::MAX).saturating_add(1);
            let n = left.min(len - done);
            if !each(ram, offset, done, n) {
                return Err(Fault { at: here });
            }
            done += n;
        }
        Ok(())
    }

    /// Copies out of guest RAM.
    ///
    /// # Errors
    /// Part of the range is not memory.
    pub fn read(&self, at: u64, buffer: &mut [u8]) -> Result<(), Fault> {
        let len = buffer.len();
        self.walk(at, len, false, |ram, offset, done, n| {
            ram.read(offset, &mut buffer[done..done + n])
        })
    }

    /// Copies into guest RAM.
    ///
    /// # Errors
    /// Part of the range is not RAM.
    pub fn write(&self, at: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.walk(at, bytes.len(), true, |ram, offset, done, n| {
            ram.write(offset, &bytes[done..done + n])
        })
    }

    /// Gives whole pages of RAM back to the host; what is not RAM is left alone.
    pub fn discard(&self, at: u64, len: u64) {
        let len = usize::try_from(len).unwrap_or(0);
        let _ = self.walk(at, len, true, |ram, offset, _, n| ram.discard(offset, n as u64));
    }

    /// Whether all of the range is RAM.
    pub fn holds(&self, at: u64, len: usize) -> bool {
        self.walk(at, len, true, |_, _, _, _| true).is_ok()
    }

    /// Loads a little-endian value in one piece if it is aligned.
    ///
    /// # Errors
    /// It is not in memory.
    pub fn load<T: Word>(&self, at: u64) -> Result<T, Fault> {
        self.one(at, size_of::<T>() as u64, false, |ram, offset| T::load(ram, offset))
    }

    /// Stores a little-endian value in one piece if it is aligned.
    ///
    /// # Errors
    /// It is not in RAM.
    pub fn store<T: Word>(&self, at: u64, value: T) -> Result<(), Fault> {
        self.one(at, size_of::<T>() as u64, true, |ram, offset| {
            value.store(ram, offset).then_some(())
        })
    }

    fn one<R>(
        &self,
        at: u64,
        len: u64,
        write: bool,
        access: impl FnOnce(&Arc<Ram>, u64) -> Option<R>,
    ) -> Result<R, Fault> {
        let fault = Fault { at };
        if !self.enabled() {
            return Err(fault);
        }
        let view = self.space.view();
        let range = view.find(Gpa(at)).ok_or(fault)?;
        if range.last - at < len - 1 {
            return Err(fault);
        }
        let (ram, offset) = ram_of(range, at, write).ok_or(fault)?;
        access(ram, offset).ok_or(fault)
    }
}

fn ram_of(range: &FlatRange, at: u64, write: bool) -> Option<(&Arc<Ram>, u64)> {
    let within = range.offset + (at - range.start);
    match &range.region.backing {
        Backing::Ram { ram, offset } => Some((ram, offset + within)),
        Backing::Rom { ram, offset, .. } if !write => Some((ram, offset + within)),
        _ => None,
    }
}

/// Integers of rings.
pub trait Word: Copy {
    /// Loads from a block.
    fn load(ram: &Ram, offset: u64) -> Option<Self>;
    /// Stores into a block.
    fn store(self, ram: &Ram, offset: u64) -> bool;
}

macro_rules! words {
    ($($t:ty, $load:ident, $store:ident;)*) => { $(
        impl Word for $t {
            fn load(ram: &Ram, offset: u64) -> Option<Self> {
                ram.$load(offset)
            }
            fn store(self, ram: &Ram, offset: u64) -> bool {
                ram.$store(offset, self)
            }
        }
    )* };
}
words! {
    u16, load_u16, store_u16;
    u32, load_u32, store_u32;
    u64, load_u64, store_u64;
}

/// Bytes in all of `spans`.
pub fn total(spans: &[Span]) -> u64 {
    spans.iter().map(|s| u64::from(s.len)).sum()
}

/// The part of `spans` that begins `skip` bytes in and holds at most `len` bytes.
fn window(spans: &[Span], skip: u64, len: u64) -> impl Iterator<Item = Span> {
    let (mut skip, mut left) = (skip, len);
    spans.iter().filter_map(move |span| {
        let all = u64::from(span.len);
        let from = skip.min(all);
        skip -= from;
        let n = (all - from).min(left);
        left -= n;
        (n != 0).then_some(Span { at: span.at.wrapping_add(from), len: n as u32 })
    })
}

impl Dma {
    /// Copies from scattered memory, beginning `skip` bytes in; returns how many bytes were there.
    ///
    /// # Errors
    /// Part of it is not memory.
    pub fn gather(&self, spans: &[Span], skip: u64, buffer: &mut [u8]) -> Result<usize, Fault> {
        let mut done = 0;
        for span in window(spans, skip, buffer.len() as u64) {
            let n = span.len as usize;
            self.read(span.at, &mut buffer[done..done + n])?;
            done += n;
        }
        Ok(done)
    }

    /// Copies into scattered memory, beginning `skip` bytes in; returns how many bytes fitted.
    ///
    /// # Errors
    /// Part of it is not RAM.
    pub fn scatter(&self, spans: &[Span], skip: u64, bytes: &[u8]) -> Result<usize, Fault> {
        let mut done = 0;
        for span in window(spans, skip, bytes.len() as u64) {
            let n = span.len as usize;
            self.write(span.at, &bytes[done..done + n])?;
            done += n;
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_of_spans_skip_and_stop() {
        let spans = [Span { at: 10, len: 4 }, Span { at: 100, len: 4 }, Span { at: 200, len: 4 }];
        let w: Vec<_> = window(&spans, 2, 7).collect();
        let want = [Span { at: 12, len: 2 }, Span { at: 100, len: 4 }, Span { at: 200, len: 1 }];
        assert_eq!(w, want);
        assert_eq!(window(&spans, 12, 7).count(), 0);
        assert_eq!(total(&spans), 12);
    }

    #[test]
    fn registers_and_holes_are_faults() {
        struct Regs;
        impl memory::IoHandler for Regs {
            fn read(&self, _: u64, _: u32) -> u64 {
                panic!("a device reached registers")
            }
            fn write(&self, _: u64, _: u32, _: u64) {
                panic!("a device reached registers")
            }
        }
        let space = AddressSpace::new("memory");
        space.map_ram(0x1000, &Ram::new("ram", 0x1000).unwrap());
        space.map_io("regs", 0x2000, 0x1000, Arc::new(Regs));
        let dma = Dma::new(space);
        assert_eq!(dma.write(0x1ffc, &[1; 8]), Err(Fault { at: 0x2000 }));
        assert_eq!(dma.load::<u16>(0x2000), Err(Fault { at: 0x2000 }));
        assert_eq!(dma.read(u64::MAX, &mut [0; 4]), Err(Fault { at: u64::MAX }));
        assert_eq!(dma.load::<u32>(0x1ffe), Err(Fault { at: 0x1ffe }));
        assert!(dma.holds(0x1000, 0x1000) && !dma.holds(0x1000, 0x1001));
    }
}
