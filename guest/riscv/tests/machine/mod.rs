//! A hart beside a page of memory, without an engine.

use ir::{AmoOp, MemOp};
use isa::{Access, CodeSource, Cpu, Guest, MemoryFault, Services};
use riscv::decode::{Ext, ExtSet};
use riscv::{Config, Riscv, Trap, Wiring, Xlen};
use time::{Clock, Counter};

/// Address of the code.
pub const START: u64 = 0x1000;
/// Address of the only page of memory.
pub const PAGE: u64 = 0x40000;
/// What its first bytes hold.
const MEMORY: [u64; 4] =
    [0x8091_a2b3_c4d5_e6f7, 0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210, 0x00ff_00ff_7f80_ff01];

/// Memory: one page at [`PAGE`].
pub struct Memory(pub Vec<u8>);

impl Memory {
    pub fn new() -> Self {
        let head = MEMORY.iter().flat_map(|word| word.to_le_bytes());
        Self(head.chain((32..4096).map(|i| (i * 37 + 11) as u8)).collect())
    }

    fn place(access: Access, mem: MemOp, gva: u64) -> Result<usize, Trap> {
        let size = u64::from(mem.size());
        if mem.must_align() && !gva.is_multiple_of(size) {
            return Err(Riscv::memory_trap(MemoryFault::Misaligned, access, gva));
        }
        match gva.checked_sub(PAGE) {
            Some(at) if at + size <= 4096 => Ok(at as usize),
            _ => Err(Riscv::memory_trap(MemoryFault::Bus, access, gva)),
        }
    }

    pub fn get(&self, at: usize, mem: MemOp) -> u64 {
        let bytes = &self.0[at..at + mem.size() as usize];
        mem.extend(bytes.iter().rev().fold(0, |value, b| value << 8 | u64::from(*b)))
    }

    pub fn put(&mut self, at: usize, mem: MemOp, value: u64) {
        let size = mem.size() as usize;
        self.0[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
    }
}

impl Services<Riscv> for Memory {
    fn load(&mut self, _: &mut Cpu<'_, Riscv>, _: u8, mem: MemOp, gva: u64) -> Result<u64, Trap> {
        Ok(self.get(Self::place(Access::Load, mem, gva)?, mem))
    }
    fn store(
        &mut self,
        _: &mut Cpu<'_, Riscv>,
        _: u8,
        mem: MemOp,
        gva: u64,
        value: u64,
    ) -> Result<(), Trap> {
        self.put(Self::place(Access::Store, mem, gva)?, mem, value);
        Ok(())
    }
    fn amo(
        &mut self,
        _: &mut Cpu<'_, Riscv>,
        _: u8,
        (op, mem): (AmoOp, MemOp),
        gva: u64,
        value: u64,
    ) -> Result<u64, Trap> {
        let at = Self::place(Access::Atomic, mem, gva)?;
        let old = self.get(at, mem);
        self.put(at, mem, op.apply(mem, old, value));
        Ok(old)
    }
    fn cas(
        &mut self,
        _: &mut Cpu<'_, Riscv>,
        _: u8,
        mem: MemOp,
        gva: u64,
        (expected, new): (u64, u64),
    ) -> Result<u64, Trap> {
        let at = Self::place(Access::Atomic, mem, gva)?;
        let old = self.get(at, mem);
        if old == mem.extend(expected) {
            self.put(at, mem, new);
        }
        Ok(old)
    }
    fn cas_wide(
        &mut self,
        _: &mut Cpu<'_, Riscv>,
        _: u8,
        gva: u64,
        (expected, new): (u128, u128),
    ) -> Result<u128, Trap> {
        if !gva.is_multiple_of(16) {
            return Err(Riscv::memory_trap(MemoryFault::Misaligned, Access::Atomic, gva));
        }
        let at = Self::place(Access::Atomic, MemOp::U64, gva)?;
        let half = |memory: &Self, at| u128::from(memory.get(at, MemOp::U64));
        let old = half(self, at) | half(self, at + 8) << 64;
        if old == expected {
            self.put(at, MemOp::U64, new as u64);
            self.put(at + 8, MemOp::U64, (new >> 64) as u64);
        }
        Ok(old)
    }
    fn probe(
        &mut self,
        _: &mut Cpu<'_, Riscv>,
        _: u8,
        access: Access,
        gva: u64,
        size: u32,
    ) -> Result<(), Trap> {
        let last = gva + u64::from(size) - 1;
        Self::place(access, MemOp::U8, gva)?;
        Self::place(access, MemOp::U8, last).map(drop)
    }
    fn phys_load(&mut self, _: u64, _: u32) -> Option<u64> {
        None
    }
    fn phys_exchange(&mut self, _: u64, _: u32, _: u64, _: u64) -> Option<u64> {
        None
    }
    fn flush_translations(&mut self, _: isa::Flush) {}
    fn lines(&self) -> u64 {
        0
    }
}

/// Code at [`START`].
pub struct Code(pub Vec<u8>);

impl CodeSource for Code {
    fn halfword(&mut self, gva: u64) -> Option<u16> {
        let at = usize::try_from(gva.checked_sub(START)?).ok()?;
        Some(u16::from_le_bytes([*self.0.get(at)?, *self.0.get(at + 1)?]))
    }
}

/// A hart with every extension, VLEN 128.
pub fn hart(xlen: Xlen) -> Riscv {
    let (model, other) = match xlen {
        Xlen::Rv64 => ("rv64", &[Ext::Rv32, Ext::Zcf][..]),
        Xlen::Rv32 => ("rv32", &[Ext::Rv64][..]),
    };
    let ext = other.iter().fold(ExtSet::all(), |set, e| set.without(*e));
    let config = Config { ext, ..riscv::model::parse(model).expect("a known model") };
    Riscv { config, wiring: Wiring::new(0, START, Counter::new(Clock::manual(), 10_000_000)) }
}
