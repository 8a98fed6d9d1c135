//! A hart with flat memory and no engine, for tests.

use crate::hart::{Riscv, Wiring};
use crate::mmu;
use crate::model::{self, Feature, FeatureSet};
use crate::state::{Privilege, State};
use crate::trap::Trap;
use crate::{csr, helpers_sys};
use ir::{AmoOp, MemOp};
use isa::{Access, Cpu, Guest, Mapping, Services};
use std::collections::HashMap;
use time::{Clock, Counter};

/// Physical memory: 64 MiB from here on.
pub(crate) const RAM: u64 = 0x8000_0000;
const RAM_SIZE: u64 = 64 << 20;

/// Memory, lines, and what was asked of the engine.
#[derive(Default)]
pub(crate) struct Memory {
    bytes: HashMap<u64, u8>,
    pub lines: u64,
    /// Pages that were flushed; `None` stands for all.
    pub flushes: Vec<isa::Flush>,
    /// What another processor stores just before the next exchange: address and value.
    pub race: Option<(u64, u64)>,
}

impl Memory {
    fn has(gpa: u64, size: u32) -> bool {
        gpa.checked_sub(RAM).is_some_and(|at| at <= RAM_SIZE - u64::from(size))
    }
    pub fn get(&self, gpa: u64, size: u32) -> u64 {
        let byte = |i| u64::from(self.bytes.get(&(gpa + i)).copied().unwrap_or(0)) << (8 * i);
        (0..u64::from(size)).map(byte).sum()
    }
    pub fn put(&mut self, gpa: u64, size: u32, value: u64) {
        for i in 0..u64::from(size) {
            self.bytes.insert(gpa + i, (value >> (8 * i)) as u8);
        }
    }
}

impl Services<Riscv> for Memory {
    fn load(&mut self, c: &mut Cpu<'_, Riscv>, mmu: u8, mem: MemOp, gva: u64) -> Result<u64, Trap> {
        let mapping =
            Riscv::translate_address(&mut again(c, self), mmu, Access::Load, gva, mem.size())?;
        Ok(self.get(mapping.gpa, mem.size()))
    }
    fn store(
        &mut self,
        c: &mut Cpu<'_, Riscv>,
        mmu: u8,
        mem: MemOp,
        gva: u64,
        value: u64,
    ) -> Result<(), Trap> {
        let mapping =
            Riscv::translate_address(&mut again(c, self), mmu, Access::Store, gva, mem.size())?;
        self.put(mapping.gpa, mem.size(), value);
        Ok(())
    }
    fn amo(
        &mut self,
        _: &mut Cpu<'_, Riscv>,
        _: u8,
        _: (AmoOp, MemOp),
        _: u64,
        _: u64,
    ) -> Result<u64, Trap> {
        unreachable!("nothing here uses atomics")
    }
    fn cas(
        &mut self,
        _: &mut Cpu<'_, Riscv>,
        _: u8,
        _: MemOp,
        _: u64,
        _: (u64, u64),
    ) -> Result<u64, Trap> {
        unreachable!("nothing here uses atomics")
    }
    fn cas_wide(
        &mut self,
        _: &mut Cpu<'_, Riscv>,
        _: u8,
        _: u64,
        _: (u128, u128),
    ) -> Result<u128, Trap> {
        unreachable!("nothing here uses atomics")
    }
    fn probe(
        &mut self,
        c: &mut Cpu<'_, Riscv>,
        mmu: u8,
        access: Access,
        gva: u64,
        len: u32,
    ) -> Result<(), Trap> {
        Riscv::translate_address(&mut again(c, self), mmu, access, gva, len).map(|_| ())
    }
    fn phys_load(&mut self, gpa: u64, size: u32) -> Option<u64> {
        Self::has(gpa, size).then(|| self.get(gpa, size))
    }
    fn phys_exchange(&mut self, gpa: u64, size: u32, old: u64, new: u64) -> Option<u64> {
        if let Some((at, value)) = self.race.take() {
            self.put(at, size, value);
        }
        let found = self.phys_load(gpa, size)?;
        if found == old {
            self.put(gpa, size, new);
        }
        Some(found)
    }
    fn flush_translations(&mut self, which: isa::Flush) {
        self.flushes.push(which);
    }
    fn lines(&self) -> u64 {
        self.lines
    }
}

fn again<'a>(cpu: &'a mut Cpu<'_, Riscv>, memory: &'a mut Memory) -> Cpu<'a, Riscv> {
    Cpu::new(cpu.guest, cpu.state, memory)
}

/// A hart under test.
pub(crate) struct Bench {
    pub clock: Clock,
    pub hart: Riscv,
    pub state: State,
    pub memory: Memory,
}

impl Bench {
    /// A hart of this model after its reset.
    pub fn new(cpu: &str) -> Self {
        let clock = Clock::manual();
        let counter = Counter::new(clock.clone(), 10_000_000);
        let config = model::parse(cpu).unwrap();
        let hart = Riscv { config, wiring: Wiring::new(0, 0x1000, counter) };
        let state = hart.reset();
        Self { clock, hart, state, memory: Memory::default() }
    }

    /// The same with more features, whether or not their instructions are translated.
    pub fn having(cpu: &str, features: &[Feature]) -> Self {
        let mut bench = Self::new(cpu);
        let set = &mut bench.hart.config.features;
        *set = set.union(FeatureSet::of(features));
        bench
    }

    /// The same in another privilege mode, which may access all physical memory.
    pub fn at(cpu: &str, privilege: Privilege) -> Self {
        let mut bench = Self::new(cpu);
        bench.state.privilege = privilege;
        bench.state.pmpcfg[15] = 0x1f;
        bench.state.pmpaddr[15] = u64::MAX >> 10;
        bench
    }

    pub fn cpu(&mut self) -> Cpu<'_, Riscv> {
        Cpu::new(&self.hart, &mut self.state, &mut self.memory)
    }

    /// Executes `csrrw a0, number, value`.
    pub fn swap(&mut self, number: u16, value: u64) -> Result<u64, Trap> {
        self.access(number, 1, value, 1)
    }

    /// Executes `csrr a0, number`.
    pub fn read(&mut self, number: u16) -> Result<u64, Trap> {
        self.access(number, 2, 0, 0)
    }

    /// Writes, then reads back.
    pub fn written(&mut self, number: u16, value: u64) -> u64 {
        self.swap(number, value).unwrap();
        self.read(number).unwrap()
    }

    /// Executes a CSR instruction: 1 swaps, 2 sets, 3 clears; `rs1` is the operand's register.
    pub fn access(&mut self, number: u16, op: u32, value: u64, rs1: u32) -> Result<u64, Trap> {
        let insn = u32::from(number) << 20 | rs1 << 15 | op << 12 | 10 << 7 | 0x73;
        csr::execute(&mut self.cpu(), insn, value)
    }

    pub fn translate(&mut self, access: Access, gva: u64) -> Result<Mapping, Trap> {
        self.translate_part(access, gva, 1)
    }

    pub fn translate_part(&mut self, access: Access, gva: u64, len: u32) -> Result<Mapping, Trap> {
        let set = mmu::data_set(&self.state);
        Riscv::translate_address(&mut self.cpu(), set, access, gva, len)
    }

    pub fn interrupt(&mut self) -> bool {
        Riscv::interrupt(&mut self.cpu())
    }

    pub fn raise(&mut self, trap: Trap) {
        Riscv::raise(&mut self.cpu(), trap);
    }

    pub fn mret(&mut self) -> Result<u64, Trap> {
        helpers_sys::mret(&mut self.cpu(), [0x3020_0073, 0, 0])
    }

    pub fn sret(&mut self) -> Result<u64, Trap> {
        helpers_sys::sret(&mut self.cpu(), [0x1020_0073, 0, 0])
    }
}
