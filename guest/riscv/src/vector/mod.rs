//! The vector extension: helpers that execute whole instructions on the state.
//!
//! Source: The RISC-V Instruction Set Manual, volume I, 20250508, “V Standard Extension for Vector
//! Operations”. Tail and masked-off elements keep their values, which every policy allows.
//! Encodings that the manual reserves for their registers or element widths are illegal.

mod crypto;
mod fixed;
mod float;
mod integer;
mod mask;
mod memory;
mod permute;
mod reduction;
mod shape;

pub(crate) use memory::{load, store};
pub(crate) use shape::{Group, Illegal, Shape};

use crate::decode::Ext;
use crate::hart::Riscv;
use crate::state::VILL;
use crate::trap::Trap;
use isa::Cpu;
use std::ops::Deref;

type Done = Result<(), Trap>;

/// A vector instruction under execution.
struct Vector<'c, 'g> {
    cpu: &'c mut Cpu<'g, Riscv>,
    shape: Shape,
    /// Value of the integer register in the place of rs1.
    x: u64,
    vl: usize,
    vstart: usize,
}

impl Deref for Vector<'_, '_> {
    type Target = Shape;

    fn deref(&self) -> &Shape {
        &self.shape
    }
}

/// The second source: a group, or one value for all elements.
#[derive(Clone, Copy)]
enum Second {
    Group(Group),
    Value(u64),
}

impl<'c, 'g> Vector<'c, 'g> {
    /// Any instruction.
    fn new(cpu: &'c mut Cpu<'g, Riscv>, insn: u64, x: u64) -> Self {
        let shape = Shape::new(&cpu.guest.config, insn as u32, cpu.state.vtype);
        let (vl, vstart) = (cpu.state.vl as usize, cpu.state.vstart as usize);
        Self { cpu, shape, x, vl, vstart }
    }

    /// An instruction that depends on `vtype`.
    fn typed(cpu: &'c mut Cpu<'g, Riscv>, insn: u64, x: u64) -> Result<Self, Trap> {
        let v = Self::new(cpu, insn, x);
        v.require(v.cpu.state.vtype & VILL == 0)?;
        Ok(v)
    }

    fn illegal(&self) -> Trap {
        self.shape.illegal().into()
    }

    /// Fails with an illegal-instruction exception unless it is allowed.
    fn require(&self, allowed: bool) -> Done {
        if allowed { Ok(()) } else { Err(self.illegal()) }
    }

    fn has(&self, ext: Ext) -> bool {
        self.cpu.guest.config.ext.has(ext)
    }

    /// Fails if a register is a source in two widths.
    fn apart(&self, a: Group, b: Second) -> Done {
        match b {
            Second::Group(b) => self.require(a.eew == b.eew || !a.overlaps(b)),
            Second::Value(_) => Ok(()),
        }
    }

    /// The second source: of width `eew`, or the integer register, or the signed immediate.
    fn second(&self, dest: Group, eew: i32) -> Result<Second, Trap> {
        Ok(match self.funct3() {
            0..3 => Second::Group(self.source(dest, self.vs1(), eew)?),
            3 => Second::Value(((self.vs1() as i64) << 59 >> 59).cast_unsigned()),
            _ => Second::Value(self.x),
        })
    }

    /// The same in the selected width, where `v0` is mask and operand alike.
    fn second_or_mask(&self) -> Result<Second, Trap> {
        match self.funct3() {
            0..3 => Ok(Second::Group(self.group(self.vs1(), self.sew)?)),
            _ => self.second(Group::mask(0), self.sew),
        }
    }

    /// The same with an unsigned immediate.
    fn second_unsigned(&self, dest: Group, eew: i32) -> Result<Second, Trap> {
        match self.funct3() {
            3 => Ok(Second::Value(self.vs1() as u64)),
            _ => self.second(dest, eew),
        }
    }

    // Elements.

    /// Bytes of element `i` of a group.
    fn place(&self, group: Group, i: usize) -> std::ops::Range<usize> {
        let size = 1 << group.eew;
        let at = group.first * self.vlenb + i * size;
        at..at + size
    }

    /// An element, zero-extended; 0 beyond the registers.
    fn get(&self, group: Group, i: usize) -> u64 {
        let bytes = self.cpu.state.v.0.get(self.place(group, i)).unwrap_or_default();
        let mut value = [0; 8];
        value[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(value)
    }

    /// An element, sign-extended.
    fn get_signed(&self, group: Group, i: usize) -> i64 {
        sign_extend(self.get(group, i), group.eew)
    }

    /// Assigns an element the low bits of a value.
    fn set(&mut self, group: Group, i: usize, value: u64) {
        let place = self.place(group, i);
        let size = place.len();
        if let Some(bytes) = self.cpu.state.v.0.get_mut(place) {
            bytes.copy_from_slice(&value.to_le_bytes()[..size]);
        }
    }

    /// Element `i` of the second source in width `eew`, sign-extended.
    fn get_second(&self, second: Second, eew: i32, i: usize) -> i64 {
        match second {
            Second::Group(group) => self.get_signed(group, i),
            Second::Value(value) => sign_extend(value, eew),
        }
    }

    /// Bit `i` of a mask register.
    fn bit(&self, register: usize, i: usize) -> bool {
        let byte = self.cpu.state.v.0.get(register * self.vlenb + i / 8);
        byte.is_some_and(|b| b >> (i % 8) & 1 != 0)
    }

    fn set_bit(&mut self, register: usize, i: usize, value: bool) {
        let at = register * self.vlenb + i / 8;
        if let Some(byte) = self.cpu.state.v.0.get_mut(at) {
            *byte = *byte & !(1 << (i % 8)) | u8::from(value) << (i % 8);
        }
    }

    /// Whether an element takes part.
    fn active(&self, i: usize) -> bool {
        self.unmasked() || self.bit(0, i)
    }

    /// Runs `body` for the active elements from `vstart` on.
    fn each(&mut self, mut body: impl FnMut(&mut Self, usize)) -> Done {
        for i in self.vstart..self.vl {
            if self.active(i) {
                body(self, i);
            }
        }
        Ok(())
    }

    /// Fails unless the instruction begins at element 0.
    fn must_start(&self) -> Done {
        self.require(self.vstart == 0)
    }
}

fn sign_extend(value: u64, eew: i32) -> i64 {
    let unused = 64 - (8 << eew.clamp(0, 3));
    (value << unused).cast_signed() >> unused
}

/// The low bits of a value.
fn zero_extend(value: i64, bits: u32) -> u64 {
    let unused = 64 - bits.clamp(1, 64);
    value.cast_unsigned() << unused >> unused
}

/// `vsetvli`, `vsetivli`, `vsetvl` (instruction, rs1, rs2): the new vector length.
pub(crate) fn configure(cpu: &mut Cpu<'_, Riscv>, [insn, rs1, rs2]: [u64; 3]) -> Result<u64, Trap> {
    let (rd, rs1_field) = (insn >> 7 & 31, insn >> 15 & 31);
    let (vtype, immediate) = match insn >> 30 & 3 {
        0 | 1 => (insn >> 20 & 0x7ff, false),
        3 => (insn >> 20 & 0x3ff, true),
        _ => (rs2, false),
    };
    let state = &mut *cpu.state;
    let avl = match (immediate, rs1_field, rd) {
        (true, length, _) => length,
        (_, 0, 0) => state.vl,
        (_, 0, _) => u64::MAX,
        _ => cpu.guest.address(rs1),
    };
    let vlmax = cpu.guest.vlmax(vtype);
    state.vtype = vlmax.map_or(VILL, |_| vtype);
    state.vl = avl.min(vlmax.unwrap_or(0));
    state.vstart = 0;
    state.vknown = 1;
    Ok(state.vl)
}

/// An integer, fixed-point, mask or permutation instruction (instruction, rs1): for rd.
pub(crate) fn operate(cpu: &mut Cpu<'_, Riscv>, [insn, x, _]: [u64; 3]) -> Result<u64, Trap> {
    let mut v = Vector::typed(cpu, insn, x)?;
    let result = match (v.funct3(), v.funct6()) {
        (0 | 3 | 4, 0x0c | 0x0e | 0x0f) => permute::slides(&mut v),
        (3, 0x27) => permute::move_whole(&mut v),
        (0 | 3 | 4, 0x20..0x24 | 0x27 | 0x2a | 0x2b | 0x2e | 0x2f) => fixed::operate(&mut v),
        (0, 0x30 | 0x31) => reduction::widening(&mut v),
        (0 | 3 | 4, _) => integer::operate(&mut v),
        (2, 0x00..0x08) => reduction::integer(&mut v),
        (2 | 6, 0x08..0x0c) => fixed::average(&mut v),
        (6, 0x0e | 0x0f) => permute::slide_one(&mut v),
        (2 | 6, 0x10) => return mask::unary(&mut v),
        (2, 0x14) => mask::set_first(&mut v),
        (2, 0x17) => permute::compress(&mut v),
        (2, 0x18..0x20) => mask::logical(&mut v),
        (2 | 6, _) => integer::multiply(&mut v),
        _ => Err(v.illegal()),
    };
    result?;
    v.cpu.state.vstart = 0;
    Ok(0)
}

/// A cryptographic instruction (instruction).
pub(crate) fn operate_crypto(
    cpu: &mut Cpu<'_, Riscv>,
    [insn, _, _]: [u64; 3],
) -> Result<u64, Trap> {
    let mut v = Vector::typed(cpu, insn, 0)?;
    crypto::operate(&mut v)?;
    v.cpu.state.vstart = 0;
    Ok(0)
}

/// A floating-point instruction (instruction, the scalar's register): for rd.
pub(crate) fn operate_float(cpu: &mut Cpu<'_, Riscv>, [insn, x, _]: [u64; 3]) -> Result<u64, Trap> {
    let mut v = Vector::typed(cpu, insn, x)?;
    let result = float::operate(&mut v)?;
    v.cpu.state.vstart = 0;
    Ok(result)
}
