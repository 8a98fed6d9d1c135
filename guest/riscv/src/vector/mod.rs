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

    /// Where element `i` of a group begins.
    fn place(&self, group: Group, i: usize) -> usize {
        group.first * self.vlenb + (i << group.eew)
    }

    /// An element, zero-extended; 0 beyond the registers.
    fn get(&self, group: Group, i: usize) -> u64 {
        element(&self.cpu.state.v.0, self.place(group, i), group.eew)
    }

    /// An element, sign-extended.
    fn get_signed(&self, group: Group, i: usize) -> i64 {
        sign_extend(self.get(group, i), group.eew)
    }

    /// Assigns an element the low bits of a value.
    fn set(&mut self, group: Group, i: usize, value: u64) {
        let at = self.place(group, i);
        set_element(&mut self.cpu.state.v.0, at, group.eew, value);
    }

    /// Elements from `at` on, sign-extended.
    fn read(&self, group: Group, at: usize, to: &mut [i64]) {
        let place = self.place(group, at);
        let bytes = self.cpu.state.v.0.get(place..).unwrap_or_default();
        match group.eew {
            0 => to.iter_mut().zip(bytes).for_each(|(to, from)| *to = i64::from(*from as i8)),
            1 => fill(to, bytes, |from| i64::from(i16::from_le_bytes(from))),
            2 => fill(to, bytes, |from| i64::from(i32::from_le_bytes(from))),
            _ => fill(to, bytes, i64::from_le_bytes),
        }
    }

    /// Assigns elements from `at` on the low bits of values.
    fn write(&mut self, group: Group, at: usize, from: &[i64]) {
        let place = self.place(group, at);
        let bytes = self.cpu.state.v.0.get_mut(place..).unwrap_or_default();
        match group.eew {
            0 => bytes.iter_mut().zip(from).for_each(|(to, from)| *to = *from as u8),
            1 => spill(bytes, from, |from| (from as u16).to_le_bytes()),
            2 => spill(bytes, from, |from| (from as u32).to_le_bytes()),
            _ => spill(bytes, from, i64::to_le_bytes),
        }
    }

    /// vd[i] = op(vs2[i], second[i], i) for the active elements from `vstart` on, or for `all` of them;
    /// values are sign-extended. Some elements at a time are read before their results are written, which
    /// all overlaps that are allowed bear.
    fn each_of_two(
        &mut self,
        (dest, all): (Group, bool),
        (first, second): (Group, Second),
        mut op: impl FnMut(i64, i64, usize) -> i64,
    ) -> Done {
        const SOME: usize = 64;
        let all = all || self.unmasked();
        let mut at = self.vstart;
        while at < self.vl {
            let len = SOME.min(self.vl - at);
            let (mut a, mut b) = ([0; SOME], [0; SOME]);
            self.read(first, at, &mut a[..len]);
            match second {
                Second::Group(group) => self.read(group, at, &mut b[..len]),
                Second::Value(value) => b = [sign_extend(value, self.sew); SOME],
            }
            if all {
                for (i, (a, b)) in a.iter_mut().zip(b).take(len).enumerate() {
                    *a = op(*a, b, at + i);
                }
                self.write(dest, at, &a[..len]);
            } else {
                for (i, (a, b)) in a.into_iter().zip(b).take(len).enumerate() {
                    if self.bit(0, at + i) {
                        self.set(dest, at + i, op(a, b, at + i).cast_unsigned());
                    }
                }
            }
            at += len;
        }
        Ok(())
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

/// The element at a place, zero-extended.
fn element(bytes: &[u8], at: usize, eew: i32) -> u64 {
    match eew {
        0 => u64::from(u8::from_le_bytes(chunk(bytes, at))),
        1 => u64::from(u16::from_le_bytes(chunk(bytes, at))),
        2 => u64::from(u32::from_le_bytes(chunk(bytes, at))),
        _ => u64::from_le_bytes(chunk(bytes, at)),
    }
}

/// Assigns the element at a place the low bits of a value.
fn set_element(bytes: &mut [u8], at: usize, eew: i32, value: u64) {
    let bytes = bytes.get_mut(at..).unwrap_or_default();
    match eew {
        0 => set_chunk(bytes, [value as u8]),
        1 => set_chunk(bytes, (value as u16).to_le_bytes()),
        2 => set_chunk(bytes, (value as u32).to_le_bytes()),
        _ => set_chunk(bytes, value.to_le_bytes()),
    }
}

/// The bytes of an element; zeros beyond the registers.
fn chunk<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|bytes| bytes.first_chunk()).copied().unwrap_or([0; N])
}

fn set_chunk<const N: usize>(bytes: &mut [u8], value: [u8; N]) {
    if let Some(place) = bytes.first_chunk_mut() {
        *place = value;
    }
}

fn fill<const N: usize>(to: &mut [i64], bytes: &[u8], value: impl Fn([u8; N]) -> i64) {
    to.iter_mut().zip(bytes.as_chunks().0).for_each(|(to, from)| *to = value(*from));
}

fn spill<const N: usize>(bytes: &mut [u8], from: &[i64], value: impl Fn(i64) -> [u8; N]) {
    bytes.as_chunks_mut().0.iter_mut().zip(from).for_each(|(to, from)| *to = value(*from));
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
