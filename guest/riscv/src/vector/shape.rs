//! What an instruction and the vector type say: operands, and the rules for them.

use crate::model::Config;
use crate::trap::Trap;

/// An instruction and the vector type that it meets.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    word: u32,
    /// Bytes of a register.
    pub(crate) vlenb: usize,
    /// log2 of the widest element in bytes.
    pub(crate) elen: i32,
    /// log2 of the selected element width in bytes.
    pub(crate) sew: i32,
    /// log2 of the register group multiplier.
    lmul: i32,
}

/// An encoding that is reserved with the present vector type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Illegal(u32);

impl From<Illegal> for Trap {
    fn from(Illegal(word): Illegal) -> Self {
        Self::illegal(u64::from(word))
    }
}

/// A register group as an operand: its registers and the width of its elements.
#[derive(Clone, Copy)]
pub(crate) struct Group {
    pub(crate) first: usize,
    pub(crate) count: usize,
    /// log2 of the element width in bytes; −1 for a mask.
    pub(crate) eew: i32,
    /// log2 of the multiplier.
    pub(crate) emul: i32,
}

impl Shape {
    /// The instruction `word` with a `vtype`.
    pub(crate) fn new(config: &Config, word: u32, vtype: u64) -> Self {
        let lmul = vtype as i32 & 7;
        Self {
            word,
            vlenb: (config.vlen / 8) as usize,
            elen: (config.elen / 8).max(1).ilog2() as i32,
            sew: (vtype >> 3) as i32 & 7,
            lmul: if lmul < 4 { lmul } else { lmul - 8 },
        }
    }

    /// That the instruction is reserved.
    pub(crate) fn illegal(&self) -> Illegal {
        Illegal(self.word)
    }

    /// Fails unless the instruction is allowed.
    pub(crate) fn require(&self, allowed: bool) -> Result<(), Illegal> {
        if allowed { Ok(()) } else { Err(self.illegal()) }
    }

    // Fields of the instruction.

    pub(crate) fn field(&self, at: u32, bits: u32) -> usize {
        (self.word >> at & ((1 << bits) - 1)) as usize
    }
    pub(crate) fn vd(&self) -> usize {
        self.field(7, 5)
    }
    pub(crate) fn vs1(&self) -> usize {
        self.field(15, 5)
    }
    pub(crate) fn vs2(&self) -> usize {
        self.field(20, 5)
    }
    pub(crate) fn funct3(&self) -> usize {
        self.field(12, 3)
    }
    pub(crate) fn funct6(&self) -> usize {
        self.field(26, 6)
    }
    /// Whether all elements are active.
    pub(crate) fn unmasked(&self) -> bool {
        self.field(25, 1) != 0
    }
    /// Width of elements in bits.
    pub(crate) fn bits(&self) -> u32 {
        8 << self.sew
    }
    /// Most elements of a group.
    pub(crate) fn vlmax(&self) -> usize {
        elements(self.vlenb, self.sew, self.lmul)
    }

    // Operands and the rules for them.

    /// The group with elements of width `eew` that begins at a register.
    pub(crate) fn group(&self, first: usize, eew: i32) -> Result<Group, Illegal> {
        let emul = self.lmul + eew - self.sew;
        let count = 1 << emul.clamp(0, 3);
        let fits = (0..=self.elen).contains(&eew) && (-3..=3).contains(&emul);
        self.require(fits && first.is_multiple_of(count))?;
        Ok(Group { first, count, eew, emul })
    }

    /// The destination group; not `v0` where that masks.
    pub(crate) fn dest(&self, eew: i32) -> Result<Group, Illegal> {
        self.require(self.unmasked() || self.vd() != 0)?;
        self.group(self.vd(), eew)
    }

    /// A group that is read; not `v0` where that masks, since a register has one element width.
    pub(crate) fn operand(&self, first: usize, eew: i32) -> Result<Group, Illegal> {
        self.require(self.unmasked() || first != 0)?;
        self.group(first, eew)
    }

    /// A source group and its overlap with the destination, which must not destroy elements that
    /// are still to be read.
    pub(crate) fn source(&self, dest: Group, first: usize, eew: i32) -> Result<Group, Illegal> {
        let source = if dest.eew < 0 { self.group(first, eew) } else { self.operand(first, eew) }?;
        self.require(dest.may_overlap(source))?;
        Ok(source)
    }

    /// Whether the second source is a register group.
    pub(crate) fn second_is_group(&self) -> bool {
        self.funct3() < 3
    }
}

impl Group {
    /// A register that holds a mask.
    pub(crate) fn mask(first: usize) -> Self {
        Self { first, count: 1, eew: -1, emul: 0 }
    }

    pub(crate) fn end(self) -> usize {
        self.first + self.count
    }

    pub(crate) fn overlaps(self, other: Self) -> bool {
        self.first < other.end() && other.first < self.end()
    }

    /// The rule of “Vector Operands” for a destination and a source.
    pub(crate) fn may_overlap(self, source: Self) -> bool {
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
