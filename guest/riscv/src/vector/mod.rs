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

pub(crate) use memory::{load, store};

use crate::decode::Ext;
use crate::hart::Riscv;
use crate::state::VILL;
use crate::trap::Trap;
use isa::Cpu;

type Done = Result<(), Trap>;

/// A vector instruction under execution.
struct Vector<'c, 'g> {
    cpu: &'c mut Cpu<'g, Riscv>,
    word: u32,
    /// Value of the integer register in the place of rs1.
    x: u64,
    /// Bytes of a register.
    vlenb: usize,
    /// log2 of the widest element in bytes.
    elen: i32,
    /// log2 of the selected element width in bytes.
    sew: i32,
    /// log2 of the register group multiplier.
    lmul: i32,
    vl: usize,
    vstart: usize,
}

/// A register group as an operand: its registers and the width of its elements.
#[derive(Clone, Copy)]
struct Group {
    first: usize,
    count: usize,
    /// log2 of the element width in bytes; −1 for a mask.
    eew: i32,
    /// log2 of the multiplier.
    emul: i32,
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
        let vtype = cpu.state.vtype;
        let lmul = vtype as i32 & 7;
        Self {
            word: insn as u32,
            x,
            vlenb: (cpu.guest.config.vlen / 8) as usize,
            elen: (cpu.guest.config.elen / 8).max(1).ilog2() as i32,
            sew: (vtype >> 3) as i32 & 7,
            lmul: if lmul < 4 { lmul } else { lmul - 8 },
            vl: cpu.state.vl as usize,
            vstart: cpu.state.vstart as usize,
            cpu,
        }
    }

    /// An instruction that depends on `vtype`.
    fn typed(cpu: &'c mut Cpu<'g, Riscv>, insn: u64, x: u64) -> Result<Self, Trap> {
        let v = Self::new(cpu, insn, x);
        v.require(v.cpu.state.vtype & VILL == 0)?;
        Ok(v)
    }

    fn illegal(&self) -> Trap {
        Trap::illegal(u64::from(self.word))
    }

    /// Fails with an illegal-instruction exception unless it is allowed.
    fn require(&self, allowed: bool) -> Done {
        if allowed { Ok(()) } else { Err(self.illegal()) }
    }

    // Fields of the instruction.

    fn field(&self, at: u32, bits: u32) -> usize {
        (self.word >> at & ((1 << bits) - 1)) as usize
    }
    fn vd(&self) -> usize {
        self.field(7, 5)
    }
    fn vs1(&self) -> usize {
        self.field(15, 5)
    }
    fn vs2(&self) -> usize {
        self.field(20, 5)
    }
    fn funct3(&self) -> usize {
        self.field(12, 3)
    }
    fn funct6(&self) -> usize {
        self.field(26, 6)
    }
    /// Whether all elements are active.
    fn unmasked(&self) -> bool {
        self.field(25, 1) != 0
    }
    /// Width of elements in bits.
    fn bits(&self) -> u32 {
        8 << self.sew
    }
    /// Most elements of a group.
    fn vlmax(&self) -> usize {
        elements(self.vlenb, self.sew, self.lmul)
    }
    fn has(&self, ext: Ext) -> bool {
        self.cpu.guest.config.ext.has(ext)
    }

    // Operands and the rules for them.

    /// The group with elements of width `eew` that begins at a register.
    fn group(&self, first: usize, eew: i32) -> Result<Group, Trap> {
        let emul = self.lmul + eew - self.sew;
        let count = 1 << emul.clamp(0, 3);
        let fits = (0..=self.elen).contains(&eew) && (-3..=3).contains(&emul);
        self.require(fits && first.is_multiple_of(count))?;
        Ok(Group { first, count, eew, emul })
    }

    /// A register that holds a mask.
    fn mask_register(first: usize) -> Group {
        Group { first, count: 1, eew: -1, emul: 0 }
    }

    /// The destination group; not `v0` where that masks.
    fn dest(&self, eew: i32) -> Result<Group, Trap> {
        self.require(self.unmasked() || self.vd() != 0)?;
        self.group(self.vd(), eew)
    }

    /// A group that is read; not `v0` where that masks, since a register has one element width.
    fn operand(&self, first: usize, eew: i32) -> Result<Group, Trap> {
        self.require(self.unmasked() || first != 0)?;
        self.group(first, eew)
    }

    /// A source group and its overlap with the destination, which must not destroy elements that
    /// are still to be read.
    fn source(&self, dest: Group, first: usize, eew: i32) -> Result<Group, Trap> {
        let source = if dest.eew < 0 { self.group(first, eew) } else { self.operand(first, eew) }?;
        self.require(dest.may_overlap(source))?;
        Ok(source)
    }

    /// Fails if a register is a source in two widths.
    fn apart(&self, a: Group, b: Second) -> Done {
        match b {
            Second::Group(b) => self.require(a.eew == b.eew || !a.overlaps(b)),
            Second::Value(_) => Ok(()),
        }
    }

    /// Whether the second source is a register group.
    fn second_is_group(&self) -> bool {
        self.funct3() < 3
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
            _ => self.second(Self::mask_register(0), self.sew),
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
        if let Some(byte) = self.cpu.state.v.0.get_mut(register * self.vlenb + i / 8) {
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

impl Group {
    fn end(self) -> usize {
        self.first + self.count
    }

    fn overlaps(self, other: Self) -> bool {
        self.first < other.end() && other.first < self.end()
    }

    /// The rule of “Vector Operands” for a destination and a source.
    fn may_overlap(self, source: Self) -> bool {
        if !self.overlaps(source) || self.eew == source.eew {
            return true;
        }
        if self.eew < source.eew {
            self.first == source.first
        } else {
            source.emul >= 0 && self.end() == source.end()
        }
    }
}

/// Elements of a group of registers of `vlenb` bytes.
fn elements(vlenb: usize, sew: i32, lmul: i32) -> usize {
    let one = vlenb >> sew.clamp(0, 7);
    if lmul < 0 { one >> -lmul } else { one << lmul }
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
