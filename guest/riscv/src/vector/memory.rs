//! Loads and stores: unit-stride, strided, indexed, segments, whole registers, masks,
//! fault-only-first.
//!
//! Elements are accessed one after the other, in order; a fault leaves its element in `vstart`.

use super::{Group, Vector, element, set_element};
use crate::hart::Riscv;
use crate::mmu;
use crate::state::{VILL, VLENB_MAX};
use crate::trap::Trap;
use ir::MemOp;
use isa::Cpu;
use std::ops::Range;

/// How an instruction forms addresses.
#[derive(Clone, Copy)]
enum Addressing {
    /// Distance between elements in bytes.
    Stride(u64),
    /// Offsets in a register group.
    Indexed(Group),
}

/// What an instruction accesses.
struct Transfer {
    addressing: Addressing,
    /// The group of the first field.
    data: Group,
    /// Fields of a segment.
    fields: usize,
    /// Elements of a field.
    count: usize,
    /// Only the first element may fault.
    fault_only_first: bool,
}

/// Bytes of the largest register group.
const MOST_BYTES: usize = 8 * VLENB_MAX;

const MEM: [MemOp; 4] = [MemOp::U8, MemOp::U16, MemOp::U32, MemOp::U64];

/// A load (instruction, base, rs2): by how many elements `vl` is less than before.
pub(crate) fn load(cpu: &mut Cpu<'_, Riscv>, [insn, base, rs2]: [u64; 3]) -> Result<u64, Trap> {
    run(cpu, insn, base, rs2, true)
}

/// A store (instruction, base, rs2).
pub(crate) fn store(cpu: &mut Cpu<'_, Riscv>, [insn, base, rs2]: [u64; 3]) -> Result<u64, Trap> {
    run(cpu, insn, base, rs2, false)
}

fn run(cpu: &mut Cpu<'_, Riscv>, insn: u64, base: u64, rs2: u64, loads: bool) -> Result<u64, Trap> {
    let mut v = Vector::new(cpu, insn, base);
    let transfer = v.transfer(rs2, loads)?;
    let set = mmu::data_set(v.cpu.state);
    let mem = MEM[transfer.data.eew.clamp(0, 3) as usize];
    if let Some((at, place)) = v.run_of(&transfer) {
        let moved = match transfer.fields {
            1 if v.unmasked() => v.move_run(set, mem, at, place, loads),
            1 => v.move_active(set, mem, (at, place), loads),
            _ => v.move_segments(set, mem, at, &transfer, loads),
        };
        return v.end_of_run(moved, &transfer);
    }
    for i in v.vstart..transfer.count {
        if !v.active(i) {
            continue;
        }
        for field in 0..transfer.fields {
            if let Err(trap) = v.element(&transfer, set, mem, (i, field), loads) {
                if transfer.fault_only_first && i > 0 {
                    v.cpu.state.vl = i as u64;
                    v.cpu.state.vstart = 0;
                    return Ok((v.vl - i) as u64);
                }
                v.cpu.state.vstart = i as u64;
                return Err(trap);
            }
        }
    }
    v.cpu.state.vstart = 0;
    Ok(0)
}

impl Vector<'_, '_> {
    /// The address and the bytes of the registers, of the first field, of a transfer that has all its
    /// elements one after the other in memory.
    fn run_of(&self, transfer: &Transfer) -> Option<(u64, Range<usize>)> {
        let data = transfer.data;
        let size = 1_usize << data.eew.clamp(0, 3);
        let step = (transfer.fields * size) as u64;
        let packed = matches!(transfer.addressing, Addressing::Stride(stride) if stride == step);
        let count = transfer.count.checked_sub(self.vstart)?;
        let at = self.cpu.guest.address(self.x.wrapping_add(self.vstart as u64 * step));
        // Addresses do not wrap.
        let last = at.checked_add(count as u64 * step)?;
        let fits = packed && (transfer.fields == 1 || self.unmasked());
        let start = data.first * self.vlenb + self.vstart * size;
        let place = start..start + count * size;
        (fits && self.cpu.guest.address(last) == last).then_some((at, place))
    }

    /// Moves the bytes between memory and the registers; on a fault, how many elements were before it.
    fn move_run(
        &mut self,
        set: u8,
        mem: MemOp,
        at: u64,
        place: Range<usize>,
        loads: bool,
    ) -> Result<(), (usize, Trap)> {
        let mut buffer = [0; MOST_BYTES];
        let fault = |(done, trap)| (done / mem.size() as usize, trap);
        let Some(bytes) = buffer.get_mut(..place.len()) else { return Ok(()) };
        let Some(registers) = self.cpu.state.v.0.get_mut(place.clone()) else { return Ok(()) };
        if !loads {
            bytes.copy_from_slice(registers);
            return self.cpu.store_run(set, mem, at, bytes).map_err(fault);
        }
        let loaded = self.cpu.load_run(set, mem, at, bytes);
        let done = loaded.as_ref().map_or_else(|(done, _)| *done, |()| bytes.len());
        self.cpu.state.v.0[place][..done].copy_from_slice(&bytes[..done]);
        loaded.map_err(fault)
    }

    /// [`Vector::move_run`] of what the mask has.
    fn move_active(
        &mut self,
        set: u8,
        mem: MemOp,
        (at, place): (u64, Range<usize>),
        loads: bool,
    ) -> Result<(), (usize, Trap)> {
        let size = mem.size() as usize;
        let (first, count) = (self.vstart, place.len() / size);
        let mut i = 0;
        while i < count {
            let off = (i..count).find(|i| !self.active(first + i)).unwrap_or(count);
            if i < off {
                let (from, to) = (i * size, off * size);
                let here = place.start + from..place.start + to;
                let moved = self.move_run(set, mem, at + from as u64, here, loads);
                moved.map_err(|(done, trap)| (i + done, trap))?;
            }
            i = off + 1;
        }
        Ok(())
    }

    /// Moves whole segments, one after the other; on a fault, how many were before it.
    fn move_segments(
        &mut self,
        set: u8,
        mem: MemOp,
        at: u64,
        transfer: &Transfer,
        loads: bool,
    ) -> Result<(), (usize, Trap)> {
        let (size, fields) = (mem.size() as usize, transfer.fields);
        let count = transfer.count - self.vstart;
        let mut buffer = [0; MOST_BYTES];
        let Some(bytes) = buffer.get_mut(..count * fields * size) else { return Ok(()) };
        let data = transfer.data;
        let whole = |(done, trap)| (done / (fields * size), trap);
        let group = |field| Group { first: data.first + field * data.count, ..data };
        if loads {
            let loaded = self.cpu.load_run(set, mem, at, bytes).map_err(whole);
            let done = loaded.as_ref().map_or_else(|(done, _)| *done, |()| count);
            for field in 0..fields {
                for i in 0..done {
                    let value = element(bytes, (i * fields + field) * size, data.eew);
                    self.set(group(field), self.vstart + i, value);
                }
            }
            return loaded;
        }
        for field in 0..fields {
            for i in 0..count {
                let value = self.get(group(field), self.vstart + i);
                set_element(bytes, (i * fields + field) * size, data.eew, value);
            }
        }
        self.cpu.store_run(set, mem, at, bytes).map_err(whole)
    }

    fn end_of_run(
        &mut self,
        moved: Result<(), (usize, Trap)>,
        transfer: &Transfer,
    ) -> Result<u64, Trap> {
        let first = self.vstart;
        self.cpu.state.vstart = 0;
        match moved {
            Ok(()) => Ok(0),
            Err((done, _)) if transfer.fault_only_first && first + done > 0 => {
                self.cpu.state.vl = (first + done) as u64;
                Ok((self.vl - first - done) as u64)
            }
            Err((done, trap)) => {
                self.cpu.state.vstart = (first + done) as u64;
                Err(trap)
            }
        }
    }

    fn element(
        &mut self,
        transfer: &Transfer,
        set: u8,
        mem: MemOp,
        (i, field): (usize, usize),
        loads: bool,
    ) -> Result<(), Trap> {
        let data = transfer.data;
        let offset = match transfer.addressing {
            Addressing::Stride(stride) => (i as u64).wrapping_mul(stride),
            Addressing::Indexed(group) => self.get(group, i),
        };
        let within = (field as u64) << data.eew;
        let at = self.x.wrapping_add(offset).wrapping_add(within);
        let at = self.cpu.guest.address(at);
        let group = Group { first: data.first + field * data.count, ..data };
        if loads {
            let value = self.cpu.load(set, mem, at)?;
            self.set(group, i, value);
        } else {
            let value = self.get(group, i);
            self.cpu.store(set, mem, at, value)?;
        }
        Ok(())
    }

    /// Width of elements that the instruction encodes.
    fn width(&self) -> i32 {
        match self.funct3() {
            0 => 0,
            wide => wide as i32 - 4,
        }
    }

    /// Takes the instruction apart and checks it.
    fn transfer(&mut self, rs2: u64, loads: bool) -> Result<Transfer, Trap> {
        let (eew, fields) = (self.width(), self.field(29, 3) + 1);
        let vill = self.cpu.state.vtype & VILL != 0;
        let packed = Addressing::Stride((fields as u64) << eew);
        match (self.field(26, 2), self.vs2()) {
            (0, 0x08) => self.whole(eew, fields),
            (0, 0x0b) => {
                self.require(!vill)?;
                let data = Group { first: self.vd(), count: 1, eew: 0, emul: 0 };
                let (addressing, count) = (Addressing::Stride(1), self.vl.div_ceil(8));
                Ok(Transfer { addressing, data, fields: 1, count, fault_only_first: false })
            }
            (0, sumop) => {
                self.require(!vill)?;
                let fault_only_first = sumop == 0x10 && loads;
                self.segments(packed, eew, fields, fault_only_first, loads)
            }
            (2, _) => {
                self.require(!vill)?;
                self.segments(Addressing::Stride(rs2), eew, fields, false, loads)
            }
            (_, vs2) => {
                self.require(!vill)?;
                let index = self.operand(vs2, eew)?;
                let addressing = Addressing::Indexed(index);
                let transfer = self.segments(addressing, self.sew, fields, false, loads)?;
                let data = transfer.data;
                let all = Group { count: data.count * fields, ..data };
                // Loads of segments must leave the indices alone altogether.
                self.require(match (loads, fields) {
                    (false, _) => {
                        self.operand(data.first, data.eew)?;
                        data.eew == index.eew || !data.overlaps(index)
                    }
                    (true, 1) => data.may_overlap(index),
                    (true, _) => !all.overlaps(index),
                })?;
                Ok(transfer)
            }
        }
    }

    fn segments(
        &self,
        addressing: Addressing,
        eew: i32,
        fields: usize,
        fault_only_first: bool,
        loads: bool,
    ) -> Result<Transfer, Trap> {
        let data = if loads { self.dest(eew)? } else { self.group(self.vd(), eew)? };
        let registers = data.count * fields;
        self.require(registers <= 8 && data.first + registers <= 32)?;
        Ok(Transfer { addressing, data, fields, count: self.vl, fault_only_first })
    }

    /// Whole registers, whatever `vtype` and `vl` are.
    fn whole(&self, eew: i32, registers: usize) -> Result<Transfer, Trap> {
        let first = self.vd();
        let aligned = registers.is_power_of_two() && first.is_multiple_of(registers);
        self.require(aligned && eew <= self.elen)?;
        let data = Group { first, count: registers, eew, emul: 0 };
        let count = (registers * self.vlenb) >> eew.clamp(0, 3);
        let addressing = Addressing::Stride(1 << eew);
        Ok(Transfer { addressing, data, fields: 1, count, fault_only_first: false })
    }
}
