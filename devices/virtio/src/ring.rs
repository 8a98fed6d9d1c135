//! Virtqueues, split and packed (VIRTIO 1.3, "Split Virtqueues" and "Packed Virtqueues").
//!
//! Everything a driver writes into a ring is checked: a chain that loops, is longer than
//! [`MAX_CHAIN`], nests indirect tables, mixes directions or lies outside memory is an error that
//! stops the queue. Left out: `VIRTIO_F_IN_ORDER`.

use crate::dma::{Dma, Fault, Span};
use state::SavedState;
use std::sync::atomic::{Ordering, fence};

/// Largest queue and longest chain of descriptors.
pub const MAX_CHAIN: u16 = 1024;
/// A vector that delivers nothing.
pub const NO_VECTOR: u16 = 0xffff;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
const PACKED_AVAIL: u16 = 1 << 7;
const PACKED_USED: u16 = 1 << 15;
/// `VIRTQ_AVAIL_F_NO_INTERRUPT`
const NO_INTERRUPT: u16 = 1;
/// Event suppression of packed rings.
const EVENT_ENABLE: u16 = 0;
const EVENT_DISABLE: u16 = 1;
const EVENT_DESC: u16 = 2;

/// A queue's registers and positions: all that is saved of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, SavedState)]
pub struct Ring {
    /// Entries.
    #[n(1)]
    pub size: u16,
    /// The driver has enabled it.
    #[n(2)]
    pub ready: bool,
    /// Descriptor area.
    #[n(3)]
    pub desc: u64,
    /// Driver area: the available ring, or driver event suppression.
    #[n(4)]
    pub driver: u64,
    /// Device area: the used ring, or device event suppression.
    #[n(5)]
    pub device: u64,
    /// MSI-X vector.
    #[n(6)]
    pub vector: u16,
    /// Next entry to take.
    #[n(7)]
    pub next_avail: u16,
    /// Next entry to give back.
    #[n(8)]
    pub next_used: u16,
    /// Packed rings: the driver's wrap counter.
    #[n(9)]
    pub avail_wrap: bool,
    /// Packed rings: the device's wrap counter.
    #[n(10)]
    pub used_wrap: bool,
    /// Entries given back since the driver was last considered for an interrupt.
    #[n(11)]
    pub unsignalled: u16,
    /// Chains taken and not given back.
    #[n(12)]
    pub in_use: u16,
}

/// What the driver and device agreed on about rings.
#[derive(Clone, Copy, Debug, Default)]
pub struct RingFeatures {
    /// Packed layout.
    pub packed: bool,
    /// Event indexes instead of flags.
    pub event_idx: bool,
    /// Indirect tables.
    pub indirect: bool,
    /// Legacy: interrupt when the ring runs empty in any case.
    pub notify_on_empty: bool,
}

/// A driver broke the rules of its ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingError(pub &'static str);

impl From<Fault> for RingError {
    fn from(_: Fault) -> Self {
        Self("it lies outside memory")
    }
}

/// Names a chain that was taken, to give it back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Token {
    /// Head index, or buffer id in a packed ring.
    pub id: u16,
    /// Ring entries it occupies.
    pub entries: u16,
}

/// Buffers that the driver made available together.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    /// How to give it back.
    pub token: Token,
    /// What the device reads.
    pub readable: Vec<Span>,
    /// What the device writes.
    pub writable: Vec<Span>,
}

impl Chain {
    fn add(&mut self, d: &Descriptor) -> Result<(), RingError> {
        let span = Span { at: d.addr, len: d.len };
        if self.readable.len() + self.writable.len() >= usize::from(MAX_CHAIN) {
            return Err(RingError("a chain is too long"));
        }
        if d.flags & WRITE != 0 {
            self.writable.push(span);
        } else if self.writable.is_empty() {
            self.readable.push(span);
        } else {
            return Err(RingError("a readable buffer follows a writable one"));
        }
        Ok(())
    }

    fn check_len(self) -> Result<Self, RingError> {
        let len = crate::dma::total(&self.readable) + crate::dma::total(&self.writable);
        if len > u64::from(u32::MAX) { Err(RingError("a chain exceeds 4 GiB")) } else { Ok(self) }
    }
}

/// One descriptor; `extra` is `next` in a split ring, the buffer id in a packed one.
struct Descriptor {
    addr: u64,
    len: u32,
    flags: u16,
    extra: u16,
}

impl Descriptor {
    fn load(mem: &Dma, at: u64, packed: bool) -> Result<Self, RingError> {
        let mut b = [0; 16];
        mem.read(at, &mut b)?;
        let half = |i: usize| u16::from_le_bytes([b[i], b[i + 1]]);
        let (flags, extra) = if packed { (half(14), half(12)) } else { (half(12), half(14)) };
        let addr = u64::from(half(0))
            | u64::from(half(2)) << 16
            | u64::from(half(4)) << 32
            | u64::from(half(6)) << 48;
        let len = u32::from(half(8)) | u32::from(half(10)) << 16;
        Ok(Self { addr, len, flags, extra })
    }

    /// Entries of the indirect table it names.
    fn table_len(&self) -> Result<u32, RingError> {
        if self.len == 0 || !self.len.is_multiple_of(16) {
            return Err(RingError("an indirect table has a wrong length"));
        }
        if self.len / 16 > u32::from(MAX_CHAIN) {
            return Err(RingError("an indirect table is too long"));
        }
        Ok(self.len / 16)
    }
}

fn offset(base: u64, add: u64) -> Result<u64, RingError> {
    base.checked_add(add).ok_or(RingError("it wraps around the address space"))
}

/// Whether `event` lies in the entries that brought the index from `new - n` to `new`.
fn crossed(event: u16, new: u16, n: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < n
}

impl Ring {
    /// Back to power-on, with the size a driver finds first.
    pub fn reset(&mut self, size: u16) {
        *self =
            Self { size, vector: NO_VECTOR, avail_wrap: true, used_wrap: true, ..Self::default() };
    }

    /// Takes the next chain. When there is none the driver has been asked to notify of the next.
    ///
    /// # Errors
    /// The driver broke a rule.
    pub fn pop(&mut self, mem: &Dma, f: RingFeatures) -> Result<Option<Chain>, RingError> {
        if !self.ready || self.size == 0 || !mem.enabled() {
            return Ok(None);
        }
        if !self.available(mem, f)? {
            self.ask_for_notification(mem, f)?;
            fence(Ordering::SeqCst);
            if !self.available(mem, f)? {
                return Ok(None);
            }
        }
        fence(Ordering::Acquire);
        let chain = if f.packed { self.pop_packed(mem, f)? } else { self.pop_split(mem, f)? };
        self.in_use = self.in_use.saturating_add(1);
        Ok(Some(chain.check_len()?))
    }

    /// Whether a chain is available.
    ///
    /// # Errors
    /// The driver broke a rule.
    pub fn available(&self, mem: &Dma, f: RingFeatures) -> Result<bool, RingError> {
        if !self.ready || self.size == 0 || !mem.enabled() {
            return Ok(false);
        }
        if f.packed {
            let at = offset(self.desc, u64::from(self.next_avail) * 16 + 14)?;
            let flags = mem.load::<u16>(at)?;
            let (avail, used) = (flags & PACKED_AVAIL != 0, flags & PACKED_USED != 0);
            return Ok(avail == self.avail_wrap && used != self.avail_wrap);
        }
        let idx = mem.load::<u16>(offset(self.driver, 2)?)?;
        match idx.wrapping_sub(self.next_avail) {
            n if n > self.size => Err(RingError("the available index ran ahead of the ring")),
            n => Ok(n != 0),
        }
    }

    fn ask_for_notification(&self, mem: &Dma, f: RingFeatures) -> Result<(), RingError> {
        if f.packed {
            if f.event_idx {
                let position = self.next_avail | u16::from(self.avail_wrap) << 15;
                mem.store(self.device, position)?;
            }
            let flags = if f.event_idx { EVENT_DESC } else { EVENT_ENABLE };
            mem.store(offset(self.device, 2)?, flags)?;
        } else if f.event_idx {
            let at = offset(self.device, 4 + 8 * u64::from(self.size))?;
            mem.store(at, self.next_avail)?;
        }
        Ok(())
    }

    fn pop_split(&mut self, mem: &Dma, f: RingFeatures) -> Result<Chain, RingError> {
        let slot = u64::from(self.next_avail % self.size);
        let head = mem.load::<u16>(offset(self.driver, 4 + 2 * slot)?)?;
        self.next_avail = self.next_avail.wrapping_add(1);
        self.chain_at(mem, f, head)
    }

    /// Takes a chain again that was taken before, by its head, from a split ring.
    ///
    /// # Errors
    /// The driver broke a rule.
    pub fn pop_again(&mut self, mem: &Dma, f: RingFeatures, head: u16) -> Result<Chain, RingError> {
        let chain = self.chain_at(mem, f, head)?;
        self.in_use = self.in_use.saturating_add(1);
        chain.check_len()
    }

    /// The chain of a split ring that begins at `head`.
    fn chain_at(&self, mem: &Dma, f: RingFeatures, head: u16) -> Result<Chain, RingError> {
        let mut chain = Chain { token: Token { id: head, entries: 1 }, ..Chain::default() };
        let (mut table, mut limit, mut index, mut indirect) =
            (self.desc, u32::from(self.size), head, false);
        for _ in 0..=MAX_CHAIN {
            if u32::from(index) >= limit {
                return Err(RingError("a descriptor index is outside its table"));
            }
            let d = Descriptor::load(mem, offset(table, u64::from(index) * 16)?, false)?;
            if d.flags & INDIRECT != 0 {
                if indirect || !f.indirect || d.flags & NEXT != 0 {
                    return Err(RingError("an indirect table is not allowed here"));
                }
                (table, limit, index, indirect) = (d.addr, d.table_len()?, 0, true);
                continue;
            }
            chain.add(&d)?;
            if d.flags & NEXT == 0 {
                return Ok(chain);
            }
            index = d.extra;
        }
        Err(RingError("a chain loops"))
    }

    fn pop_packed(&mut self, mem: &Dma, f: RingFeatures) -> Result<Chain, RingError> {
        let mut chain = Chain::default();
        for entries in 1..=self.size {
            let at = offset(self.desc, u64::from(self.next_avail) * 16)?;
            let d = Descriptor::load(mem, at, true)?;
            self.next_avail += 1;
            if self.next_avail >= self.size {
                self.next_avail = 0;
                self.avail_wrap = !self.avail_wrap;
            }
            if d.flags & INDIRECT != 0 {
                if entries != 1 || !f.indirect || d.flags & NEXT != 0 {
                    return Err(RingError("an indirect table is not allowed here"));
                }
                for i in 0..d.table_len()? {
                    let at = offset(d.addr, u64::from(i) * 16)?;
                    let inner = Descriptor::load(mem, at, true)?;
                    if inner.flags & INDIRECT != 0 {
                        return Err(RingError("an indirect table is not allowed here"));
                    }
                    chain.add(&inner)?;
                }
            } else {
                chain.add(&d)?;
            }
            chain.token = Token { id: d.extra, entries };
            if d.flags & NEXT == 0 {
                return Ok(chain);
            }
        }
        Err(RingError("a chain loops"))
    }

    /// Takes back a chain just popped, as if it had not been.
    pub fn unpop(&mut self, token: Token, f: RingFeatures) {
        self.in_use = self.in_use.saturating_sub(1);
        if !f.packed {
            self.next_avail = self.next_avail.wrapping_sub(1);
        } else if self.next_avail >= token.entries {
            self.next_avail -= token.entries;
        } else {
            self.next_avail = (self.next_avail + self.size).saturating_sub(token.entries);
            self.avail_wrap = !self.avail_wrap;
        }
    }

    /// Gives a chain back with `written` bytes in its writable part.
    ///
    /// # Errors
    /// The ring lies outside memory.
    pub fn push(
        &mut self,
        mem: &Dma,
        f: RingFeatures,
        token: Token,
        written: u32,
    ) -> Result<(), RingError> {
        if !self.ready || self.size == 0 {
            return Ok(());
        }
        self.in_use = self.in_use.saturating_sub(1);
        if f.packed {
            let at = offset(self.desc, u64::from(self.next_used) * 16)?;
            mem.store(offset(at, 8)?, written)?;
            mem.store(offset(at, 12)?, token.id)?;
            let wrap = if self.used_wrap { PACKED_AVAIL | PACKED_USED } else { 0 };
            mem.store(offset(at, 14)?, wrap | if written != 0 { WRITE } else { 0 })?;
            self.next_used += token.entries;
            if self.next_used >= self.size {
                self.next_used -= self.size;
                self.used_wrap = !self.used_wrap;
            }
        } else {
            let slot = u64::from(self.next_used % self.size);
            let at = offset(self.device, 4 + 8 * slot)?;
            let entry = u64::from(token.id) | u64::from(written) << 32;
            mem.write(at, &entry.to_le_bytes())?;
            self.next_used = self.next_used.wrapping_add(1);
            mem.store(offset(self.device, 2)?, self.next_used)?;
        }
        self.unsignalled = self.unsignalled.saturating_add(token.entries);
        Ok(())
    }

    /// Whether the driver wants an interrupt for what was given back since the last question.
    ///
    /// # Errors
    /// The ring lies outside memory.
    pub fn wants_interrupt(&mut self, mem: &Dma, f: RingFeatures) -> Result<bool, RingError> {
        let n = std::mem::take(&mut self.unsignalled);
        if n == 0 || !self.ready {
            return Ok(false);
        }
        fence(Ordering::SeqCst);
        if f.packed {
            let flags = mem.load::<u16>(offset(self.driver, 2)?)?;
            return match flags & 3 {
                EVENT_DISABLE => Ok(false),
                EVENT_DESC if f.event_idx => {
                    let event = mem.load::<u16>(self.driver)?;
                    let wrapped = (event >> 15 != 0) != self.used_wrap;
                    let back = if wrapped { self.size } else { 0 };
                    Ok(crossed((event & 0x7fff).wrapping_sub(back), self.next_used, n))
                }
                _ => Ok(true),
            };
        }
        if f.notify_on_empty && self.in_use == 0 && !self.available(mem, f)? {
            return Ok(true);
        }
        if f.event_idx {
            let event = mem.load::<u16>(offset(self.driver, 4 + 2 * u64::from(self.size))?)?;
            return Ok(crossed(event, self.next_used, n));
        }
        Ok(mem.load::<u16>(self.driver)? & NO_INTERRUPT == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_crossed_once() {
        assert!(crossed(4, 5, 1));
        assert!(!crossed(5, 5, 1));
        assert!(!crossed(3, 5, 1));
        assert!(crossed(0xffff, 0, 1));
        assert!(crossed(0xfffe, 2, 4));
    }
}
