//! Memory without any cache, for the interpreter: a second opinion on the engine's.

use crate::guest::{TestGuest, TestTrap, WINDOW, WINDOW_LEN};
use ir::{AmoOp, MemOp, VectorBytes};
use isa::{Access, Cpu, Guest, MemoryFault, Services};

/// The window's bytes.
pub(crate) struct Flat {
    pub(crate) bytes: Vec<u8>,
}

const PAGE: u64 = 0x1000;

impl Flat {
    fn byte(&mut self, access: Access, gva: u64) -> Result<&mut u8, TestTrap> {
        let bus = TestGuest::memory_trap(MemoryFault::Bus, access, gva);
        let at = gva.checked_sub(WINDOW).filter(|at| *at < WINDOW_LEN).ok_or(bus)?;
        Ok(&mut self.bytes[at as usize])
    }

    fn get(&mut self, access: Access, mem: MemOp, gva: u64) -> Result<u64, TestTrap> {
        let mut value = 0;
        for i in 0..u64::from(mem.size()) {
            let byte = u64::from(*self.byte(access, gva.wrapping_add(i))?);
            value |= byte << shift(mem, i);
        }
        Ok(value)
    }

    fn put(&mut self, access: Access, mem: MemOp, gva: u64, value: u64) -> Result<(), TestTrap> {
        for i in 0..u64::from(mem.size()) {
            *self.byte(access, gva.wrapping_add(i))? = (value >> shift(mem, i)) as u8;
        }
        Ok(())
    }

    /// An atomic access: aligned, and both rights at once.
    fn update(
        &mut self,
        mem: MemOp,
        gva: u64,
        new: impl FnOnce(u64) -> Option<u64>,
    ) -> Result<u64, TestTrap> {
        let access = Access::Atomic;
        if !gva.is_multiple_of(u64::from(mem.size())) {
            return Err(TestGuest::memory_trap(MemoryFault::Misaligned, access, gva));
        }
        TestGuest::check(access, gva)?;
        let old = self.get(access, mem, gva)?;
        if let Some(new) = new(old) {
            self.put(access, mem, gva, new)?;
        }
        Ok(mem.extend(old))
    }
}

/// Where byte `i` of an access goes in the value.
fn shift(mem: MemOp, i: u64) -> u64 {
    if mem.is_big_endian() { 8 * (u64::from(mem.size()) - 1 - i) } else { 8 * i }
}

/// The bytes at which an access may find another page: its first, and the next page's.
fn pages(gva: u64, mem: MemOp) -> impl Iterator<Item = u64> {
    let last = gva.wrapping_add(u64::from(mem.size()) - 1) & !(PAGE - 1);
    std::iter::once(gva).chain((last != gva & !(PAGE - 1)).then_some(last))
}

fn misaligned(access: Access, mem: MemOp, gva: u64) -> Result<(), TestTrap> {
    match mem.must_align() && !gva.is_multiple_of(u64::from(mem.size())) {
        true => Err(TestGuest::memory_trap(MemoryFault::Misaligned, access, gva)),
        false => Ok(()),
    }
}

type TestCpu<'a> = Cpu<'a, TestGuest>;

impl Services<TestGuest> for Flat {
    fn load(&mut self, _: &mut TestCpu<'_>, _: u8, mem: MemOp, gva: u64) -> Result<u64, TestTrap> {
        misaligned(Access::Load, mem, gva)?;
        for at in pages(gva, mem) {
            TestGuest::check(Access::Load, at)?;
        }
        Ok(mem.extend(self.get(Access::Load, mem, gva)?))
    }
    fn store(
        &mut self,
        _: &mut TestCpu<'_>,
        _: u8,
        mem: MemOp,
        gva: u64,
        value: u64,
    ) -> Result<(), TestTrap> {
        misaligned(Access::Store, mem, gva)?;
        for at in pages(gva, mem) {
            TestGuest::check(Access::Store, at)?;
        }
        self.put(Access::Store, mem, gva, value)
    }
    fn load_vector(
        &mut self,
        _: &mut TestCpu<'_>,
        _: u8,
        mem: MemOp,
        gva: u64,
    ) -> Result<VectorBytes, TestTrap> {
        misaligned(Access::Load, mem, gva)?;
        for at in pages(gva, mem) {
            TestGuest::check(Access::Load, at)?;
        }
        let mut bytes = [0; 32];
        for (i, byte) in (0..mem.size()).zip(&mut bytes) {
            *byte = *self.byte(Access::Load, gva.wrapping_add(i.into()))?;
        }
        Ok(bytes)
    }
    fn store_vector(
        &mut self,
        _: &mut TestCpu<'_>,
        _: u8,
        mem: MemOp,
        gva: u64,
        bytes: &VectorBytes,
    ) -> Result<(), TestTrap> {
        misaligned(Access::Store, mem, gva)?;
        for at in pages(gva, mem) {
            TestGuest::check(Access::Store, at)?;
        }
        for (i, byte) in (0..mem.size()).zip(bytes) {
            *self.byte(Access::Store, gva.wrapping_add(i.into()))? = *byte;
        }
        Ok(())
    }
    fn amo(
        &mut self,
        _: &mut TestCpu<'_>,
        _: u8,
        (op, mem): (AmoOp, MemOp),
        gva: u64,
        value: u64,
    ) -> Result<u64, TestTrap> {
        self.update(mem, gva, |old| Some(op.apply(mem, old, value)))
    }
    fn cas(
        &mut self,
        _: &mut TestCpu<'_>,
        _: u8,
        mem: MemOp,
        gva: u64,
        (expected, new): (u64, u64),
    ) -> Result<u64, TestTrap> {
        let mask = u64::MAX >> (64 - 8 * mem.size());
        self.update(mem, gva, |old| (old == expected & mask).then_some(new))
    }
    fn cas_wide(
        &mut self,
        _: &mut Cpu<'_, TestGuest>,
        _: u8,
        _: u64,
        _: (u128, u128),
    ) -> Result<u128, TestTrap> {
        unreachable!("no operation of the IR is so wide")
    }
    fn probe(
        &mut self,
        _: &mut TestCpu<'_>,
        _: u8,
        access: Access,
        gva: u64,
        _: u32,
    ) -> Result<(), TestTrap> {
        TestGuest::check(access, gva).map(|_| ())
    }
    fn phys_load(&mut self, gpa: u64, size: u32) -> Option<u64> {
        let mem = [MemOp::U8, MemOp::U16, MemOp::U32, MemOp::U64];
        let mem = mem.into_iter().find(|m| m.size() == size)?;
        self.get(Access::Load, mem, gpa).ok()
    }
    fn phys_exchange(&mut self, _: u64, _: u32, _: u64, _: u64) -> Option<u64> {
        None
    }
    fn flush_translations(&mut self, _: isa::Flush) {}
    fn lines(&self) -> u64 {
        0
    }
}
