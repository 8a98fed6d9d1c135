//! Vector operations, on AVX2.
//!
//! A vector is in the low 128 or in all 256 bits of a register; what is above means nothing. Most
//! operations on most lane widths are one instruction of the host, by [`direct`]; the others are
//! composed of a few. Registers 0 and 1 are scratch.

use super::alloc::{Class, Kept};
use super::asm::gpr::{RAX, RBP, RCX};
use super::asm::{Alu, Cc, Map, Mem, Pp, Rm, Vex, Width, Xmm};
use super::lower::Generator;
use super::thunks::{core_disp, core_mem, state_mem};
use super::units;
use crate::CompileError;
use crate::layout::{Consts, Core, Loc, SiteKind, VectorConsts};
use ir::{Cond, Effects, Lane, Op, OpKind, Type};
use std::mem::offset_of;

const X0: Xmm = Xmm(0);
const X1: Xmm = Xmm(1);

pub(super) const fn m0f(opcode: u8) -> Vex {
    Vex::new(Pp::P66, Map::M0F, opcode)
}
pub(super) const fn m38(opcode: u8) -> Vex {
    Vex::new(Pp::P66, Map::M0F38, opcode)
}
pub(super) const fn m3a(opcode: u8) -> Vex {
    Vex::new(Pp::P66, Map::M0F3A, opcode)
}

pub(super) const PADD: [Vex; 4] = [m0f(0xfc), m0f(0xfd), m0f(0xfe), m0f(0xd4)];
pub(super) const PSUB: [Vex; 4] = [m0f(0xf8), m0f(0xf9), m0f(0xfa), m0f(0xfb)];
pub(super) const PCMPEQ: [Vex; 4] = [m0f(0x74), m0f(0x75), m0f(0x76), m38(0x29)];
pub(super) const PCMPGT: [Vex; 4] = [m0f(0x64), m0f(0x65), m0f(0x66), m38(0x37)];
pub(super) const PMAXU: [Vex; 3] = [m0f(0xde), m38(0x3e), m38(0x3f)];
pub(super) const PMINU: [Vex; 3] = [m0f(0xda), m38(0x3a), m38(0x3b)];
pub(super) const PBROADCAST: [Vex; 4] = [m38(0x78), m38(0x79), m38(0x58), m38(0x59)];
pub(super) const PADDUSB: Vex = m0f(0xdc);
pub(super) const PMULLW: Vex = m0f(0xd5);
pub(super) const PMULUDQ: Vex = m0f(0xf4);
pub(super) const PAND: Vex = m0f(0xdb);
pub(super) const PANDN: Vex = m0f(0xdf);
pub(super) const POR: Vex = m0f(0xeb);
pub(super) const PXOR: Vex = m0f(0xef);
pub(super) const PSHUFB: Vex = m38(0x00);
pub(super) const PBLENDVB: Vex = m3a(0x4c);
const PBLENDW: Vex = m3a(0x0e);
const PACKSSWB: Vex = m0f(0x63);
pub(super) const PERMQ: Vex = m3a(0x00).w();
pub(super) const INSERTI128: Vex = m3a(0x38);
pub(super) const EXTRACTI128: Vex = m3a(0x39);

/// A shift; the host has none of bytes, nor the arithmetic one of 64-bit lanes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shift {
    Left,
    Right,
    Arithmetic,
}

impl Shift {
    fn of(kind: OpKind) -> Self {
        match kind {
            OpKind::VShl | OpKind::VShlBy => Self::Left,
            OpKind::VShr | OpKind::VShrBy => Self::Right,
            _ => Self::Arithmetic,
        }
    }

    /// By a count in the low word of a register. Lanes of 16 bits or more.
    fn by_register(self, lane: Lane) -> Vex {
        let base = match self {
            Self::Left => 0xf0,
            Self::Right => 0xd0,
            Self::Arithmetic => 0xe0,
        };
        m0f(base | lane as u8)
    }

    /// By a constant: the instruction, and what goes into its register field.
    fn by_constant(self, lane: Lane) -> (Vex, u8) {
        let number = match self {
            Self::Left => 6,
            Self::Right => 2,
            Self::Arithmetic => 4,
        };
        (m0f(0x70 | lane as u8), number)
    }

    /// By counts in the lanes. Lanes of 32 or 64 bits.
    fn by_lanes(self, lane: Lane) -> Vex {
        let insn = m38(match self {
            Self::Left => 0x47,
            Self::Right => 0x45,
            Self::Arithmetic => 0x46,
        });
        if lane == Lane::B64 { insn.w() } else { insn }
    }
}

/// The instruction for an operation on two vectors, where the host has one.
pub(super) fn direct(kind: OpKind, lane: Lane) -> Option<Vex> {
    let row = match kind {
        OpKind::VAdd => PADD.map(Some),
        OpKind::VSub => PSUB.map(Some),
        OpKind::VMul => [None, Some(PMULLW), Some(m38(0x40)), None],
        OpKind::VMin => [Some(m38(0x38)), Some(m0f(0xea)), Some(m38(0x39)), None],
        OpKind::VMax => [Some(m38(0x3c)), Some(m0f(0xee)), Some(m38(0x3d)), None],
        OpKind::VMinU => [Some(PMINU[0]), Some(PMINU[1]), Some(PMINU[2]), None],
        OpKind::VMaxU => [Some(PMAXU[0]), Some(PMAXU[1]), Some(PMAXU[2]), None],
        OpKind::VAnd => [Some(PAND); 4],
        OpKind::VOr => [Some(POR); 4],
        OpKind::VXor => [Some(PXOR); 4],
        OpKind::VAddSat => [Some(m0f(0xec)), Some(m0f(0xed)), None, None],
        OpKind::VAddSatU => [Some(PADDUSB), Some(m0f(0xdd)), None, None],
        OpKind::VSubSat => [Some(m0f(0xe8)), Some(m0f(0xe9)), None, None],
        OpKind::VSubSatU => [Some(m0f(0xd8)), Some(m0f(0xd9)), None, None],
        OpKind::VAvgU => [Some(m0f(0xe0)), Some(m0f(0xe3)), None, None],
        OpKind::VMulHigh => [None, Some(m0f(0xe5)), None, None],
        OpKind::VMulHighU => [None, Some(m0f(0xe4)), None, None],
        OpKind::VUnpackLow => [m0f(0x60), m0f(0x61), m0f(0x62), m0f(0x6c)].map(Some),
        OpKind::VUnpackHigh => [m0f(0x68), m0f(0x69), m0f(0x6a), m0f(0x6d)].map(Some),
        // The instruction is named by what it packs.
        OpKind::VPack => [Some(PACKSSWB), Some(m0f(0x6b)), None, None],
        OpKind::VPackU => [Some(m0f(0x67)), Some(m38(0x2b)), None, None],
        OpKind::VPairs16 => [Some(m0f(0xf5)); 4],
        OpKind::VPairs8 => [Some(m38(0x04)); 4],
        OpKind::VDistance => [Some(m0f(0xf6)); 4],
        OpKind::VMulLow => [Some(m38(0x28)); 4],
        OpKind::VMulLowU => [Some(PMULUDQ); 4],
        OpKind::VMulRound => [Some(m38(0x0b)); 4],
        OpKind::VShuffleEach => [Some(PSHUFB); 4],
        OpKind::VAesEncrypt => [Some(m38(0xdc)); 4],
        OpKind::VAesEncryptLast => [Some(m38(0xdd)); 4],
        OpKind::VAesDecrypt => [Some(m38(0xde)); 4],
        OpKind::VAesDecryptLast => [Some(m38(0xdf)); 4],
        _ => return None,
    };
    row[lane as usize]
}

/// The instruction for an operation that has a byte, which is the host's immediate.
fn direct_byte(kind: OpKind) -> Option<Vex> {
    let shuffle = |pp| Vex::new(pp, Map::M0F, 0x70);
    Some(match kind {
        OpKind::VPick => shuffle(Pp::P66),
        OpKind::VPickLow => shuffle(Pp::F2),
        OpKind::VPickHigh => shuffle(Pp::F3),
        OpKind::VPickTwo => Vex::new(Pp::None, Map::M0F, 0xc6),
        OpKind::VPickOne => m0f(0xc6),
        OpKind::VAlignEach => m3a(0x0f),
        OpKind::VChoose32 => m3a(0x02),
        OpKind::VChoose16 => PBLENDW,
        OpKind::VPermute64 => PERMQ,
        OpKind::VAesAssist => m3a(0xdf),
        OpKind::VCarryless => m3a(0x44),
        _ => return None,
    })
}

pub(super) fn wide(op: &Op) -> bool {
    op.ty == Type::V256
}

/// Displacement of a constant of vector operations.
pub(super) fn constant_at(offset: usize) -> usize {
    offset_of!(Core, consts) + offset_of!(Consts, vector) + offset
}

pub(super) fn constant(offset: usize) -> Mem {
    core_mem(constant_at(offset))
}

/// The row of a table of constants for a lane width.
pub(super) fn row(offset: usize, index: usize) -> Mem {
    constant(offset + 32 * index)
}

pub(super) fn sign(lane: Lane) -> Mem {
    row(offset_of!(VectorConsts, sign), lane as usize)
}

pub(super) fn low_half(lane: Lane) -> Mem {
    row(offset_of!(VectorConsts, low_half), lane as usize - 1)
}

fn low_bits(count: u8) -> Mem {
    row(offset_of!(VectorConsts, low_bits), count.into())
}

impl Generator<'_> {
    pub(super) fn lower_vector(&mut self, op: &Op) -> Result<(), CompileError> {
        use OpKind as K;
        match op.kind {
            K::VGet => self.vector_get(op),
            K::VPut => self.vector_put(op),
            K::Load => self.vector_load(op),
            K::Store => self.vector_store(op),
            K::VSplat => self.vector_splat(op),
            K::VInsert => self.vector_insert(op),
            K::VExtract => self.vector_extract(op),
            K::VCompare => self.vector_compare(op),
            K::VBlend => self.vector_blend(op),
            K::VToBits => self.vector_to_bits(op),
            K::VFromBits => self.vector_from_bits(op),
            K::VBelow => self.vector_below(op),
            K::VShlBy | K::VShrBy | K::VSarBy => self.vector_shift_by(op),
            K::VRotate => self.vector_rotate(op),
            K::VSplatF => self.vector_splat_float(op),
            K::VExtractF => self.vector_extract_float(op),
            K::VInsertF => self.vector_insert_float(op),
            K::VFromF => self.vector_from_float(op),
            K::VIota | K::VWiden | K::VWidenU | K::VNarrow | K::VShuffle | K::VAlign => {
                self.lower_rearrangement(op)
            }
            K::VExtend | K::VHalf | K::VJoin => self.lower_halves(op),
            K::VPermute32 => {
                let (a, b) = (self.vector(op.a)?, self.vector(op.b)?);
                let d = self.define_vector(op, None)?;
                self.v(op, m38(0x36), d, b, a);
                Ok(())
            }
            K::VTextIndex => self.text_index(op),
            kind if let Some(row) = units::row_of(kind) => self.by_unit(op, row),
            K::VAesMix => self.vector_one(op, m38(0xdb)),
            K::VFRcp => self.vector_one(op, Vex::new(Pp::None, Map::M0F, 0x53)),
            K::VFRsqrt => self.vector_one(op, Vex::new(Pp::None, Map::M0F, 0x52)),
            kind if let Some(insn) = direct_byte(kind) => self.vector_byte(op, insn),
            kind if kind.effects().has(Effects::FLAGS) => self.lower_vector_float(op),
            _ => self.vector_binary(op),
        }
    }

    /// An operation on one vector that is an instruction of the host.
    fn vector_one(&mut self, op: &Op, insn: Vex) -> Result<(), CompileError> {
        let a = self.vector(op.a)?;
        let d = self.define_vector(op, Some(op.a))?;
        self.v(op, insn, d, X0, a);
        Ok(())
    }

    /// An operation with an immediate. Of two operands, alignments have the host's the other way round.
    fn vector_byte(&mut self, op: &Op, insn: Vex) -> Result<(), CompileError> {
        let a = self.vector(op.a)?;
        if op.kind.arity() == 1 {
            let d = self.define_vector(op, Some(op.a))?;
            self.v(op, insn, d, X0, a);
        } else {
            let b = self.vector(op.b)?;
            let d = self.define_vector(op, Some(op.a))?;
            let (x, y) = if op.kind == OpKind::VAlignEach { (b, a) } else { (a, b) };
            self.v(op, insn, d, x, y);
        }
        self.asm.imm8(op.lane_aux() as u8);
        Ok(())
    }

    pub(super) fn v(&mut self, op: &Op, insn: Vex, d: Xmm, a: Xmm, b: impl Into<Rm>) {
        self.asm.v(wide(op), insn, d, a, b);
    }

    pub(super) fn vector_move(&mut self, op: &Op, d: Xmm, a: Xmm) {
        if d != a {
            self.v(op, Vex::new(Pp::None, Map::M0F, 0x28), d, X0, a);
        }
    }

    /// dst = where `mask` has top bits of bytes set `yes`, else `no`
    pub(super) fn blend(&mut self, op: &Op, d: Xmm, mask: Xmm, (yes, no): (Xmm, Xmm)) {
        self.v(op, PBLENDVB, d, no, yes);
        self.asm.imm8(mask.0 << 4);
    }

    pub(super) fn ones(&mut self, op: &Op, d: Xmm) {
        self.v(op, PCMPEQ[2], d, d, d);
    }

    // ---- state and memory ----

    /// Where a vector of the guest is in its state.
    fn vector_state(&self, op: &Op) -> Mem {
        let at = self.unit.as_const(op.a).unwrap_or(u64::MAX);
        state_mem(self.vector_bytes(at, op.ty.bytes() as u64))
    }

    /// Where bytes of the guest's vector registers are in its state.
    pub(super) fn vector_bytes(&self, at: u64, len: u64) -> u32 {
        let region = self.target.vectors;
        let end = at.saturating_add(len);
        assert!(end <= region.len.into(), "front ends name bytes of their vector registers");
        region.offset + at as u32
    }

    fn vector_get(&mut self, op: &Op) -> Result<(), CompileError> {
        let d = self.define_vector(op, None)?;
        if let Some(held) = self.held_vector(op) {
            self.vector_move(op, d, held);
            return Ok(());
        }
        let from = self.vector_state(op);
        self.asm.vector_load(wide(op), d, from);
        Ok(())
    }

    fn vector_put(&mut self, op: &Op) -> Result<(), CompileError> {
        let value = self.vector(op.b)?;
        let to = self.vector_state(op);
        self.asm.vector_store(wide(op), to, value);
        if let Some(held) = self.held_vector(op) {
            self.vector_move(op, held, value);
        }
        Ok(())
    }

    fn vector_load(&mut self, op: &Op) -> Result<(), CompileError> {
        let mem = op.mem();
        let (base, disp) = self.address(op.a, op.b)?;
        let site = self.site(op, SiteKind::Load(mem));
        let d = self.define_vector(op, None)?;
        let reach = self.reach_vector(mem, base, disp, false);
        let at = self.reached(&reach, base, disp);
        self.asm.vector_load(wide(op), d, at);
        self.resume_here(reach, site, d.into(), Kept::Vectors);
        Ok(())
    }

    fn vector_store(&mut self, op: &Op) -> Result<(), CompileError> {
        let mem = op.mem();
        let (base, disp) = self.address(op.a, op.b)?;
        let value = self.vector(op.c)?;
        let site = self.site(op, SiteKind::Store(mem));
        let reach = self.reach_vector(mem, base, disp, true);
        let at = self.reached(&reach, base, disp);
        self.asm.vector_store(wide(op), at, value);
        self.resume_here(reach, site, Loc::None, Kept::Vectors);
        Ok(())
    }

    // ---- integers ----

    fn vector_splat(&mut self, op: &Op) -> Result<(), CompileError> {
        let value = self.unit.as_const(op.a).map(|v| v << (64 - op.lane().bits()));
        if value == Some(0) {
            let d = self.define_vector(op, None)?;
            self.v(op, PXOR, d, d, d);
            return Ok(());
        }
        if value == Some(u64::MAX << (64 - op.lane().bits())) {
            let d = self.define_vector(op, None)?;
            self.ones(op, d);
            return Ok(());
        }
        let a = self.int(op.a)?;
        let d = self.define_vector(op, None)?;
        self.asm.vmovq_from(d, a);
        self.v(op, PBROADCAST[op.lane() as usize], d, X0, d);
        Ok(())
    }

    /// All bits of the lowest lane in each.
    fn vector_splat_float(&mut self, op: &Op) -> Result<(), CompileError> {
        let a = self.float(op.a)?;
        let d = self.define_vector(op, None)?;
        self.v(op, PBROADCAST[op.lane() as usize], d, X0, a);
        Ok(())
    }

    fn vector_extract_float(&mut self, op: &Op) -> Result<(), CompileError> {
        let a = self.vector(op.a)?;
        if op.lane_aux() == 0 && self.take_over(op, Class::Float) {
            return Ok(());
        }
        let d = self.define_float(op, None)?;
        let per_half = 16 / op.lane().bytes() as u16;
        let (half, index) = (op.lane_aux() / per_half, op.lane_aux() % per_half);
        let from = if half == 0 { a } else { X0 };
        if half != 0 {
            self.half(a, half);
        }
        if index == 0 {
            self.asm.vmov(d, from);
        } else {
            // The lane's 32-bit parts, in the lowest places.
            let part = if op.lane() == Lane::B64 { 2 } else { index as u8 };
            self.asm.v(false, m0f(0x70), d, X0, from);
            self.asm.imm8(part | 3 << 2);
        }
        self.defined(op);
        Ok(())
    }

    /// The lowest lane, with zeros above.
    fn vector_from_float(&mut self, op: &Op) -> Result<(), CompileError> {
        let a = self.float(op.a)?;
        let before = (self.at as usize).checked_sub(1).map(|before| self.unit.ops[before]);
        let loaded = before.is_some_and(|load| load.kind == OpKind::Load && load.dst == op.a);
        if loaded && op.ty == Type::V128 && self.take_over(op, Class::Vector) {
            // A load clears what is above.
            return Ok(());
        }
        let d = self.define_vector(op, None)?;
        if op.lane() == Lane::B64 {
            self.asm.v(false, Vex::new(Pp::F3, Map::M0F, 0x7e), d, X0, a);
        } else {
            self.asm.vlowest(d, a);
        }
        Ok(())
    }

    fn vector_insert_float(&mut self, op: &Op) -> Result<(), CompileError> {
        let (a, value) = (self.vector(op.a)?, self.float(op.b)?);
        let d = self.define_vector(op, None)?;
        let per_half = 16 / op.lane().bytes() as u16;
        let (half, index) = (op.lane_aux() / per_half, op.lane_aux() % per_half);
        let (from, to) = if wide(op) { (X0, X0) } else { (a, d) };
        if wide(op) {
            self.half(a, half);
        }
        match (op.lane(), index) {
            (Lane::B64, 0) => self.asm.vscalar(true, 0x10, to, from, value.into()),
            (Lane::B64, _) => self.asm.v(false, m0f(0x14), to, from, value),
            _ => {
                self.asm.v(false, m3a(0x21), to, from, value);
                self.asm.imm8((index as u8) << 4);
            }
        }
        if wide(op) {
            self.v(op, INSERTI128, d, a, X0);
            self.asm.imm8(half as u8);
        }
        Ok(())
    }

    fn vector_insert(&mut self, op: &Op) -> Result<(), CompileError> {
        let (a, value) = (self.vector(op.a)?, self.int(op.b)?);
        let d = self.define_vector(op, None)?;
        let lane = op.lane();
        let insn = [m3a(0x20), m0f(0xc4), m3a(0x22), m3a(0x22).w()][lane as usize];
        let per_half = 16 / lane.bytes() as u16;
        let (half, index) = (op.lane_aux() / per_half, op.lane_aux() % per_half);
        if !wide(op) {
            self.asm.vector(false, insn, d.0, a.0, value.into());
            self.asm.imm8(index as u8);
            return Ok(());
        }
        self.half(a, half);
        self.asm.vector(false, insn, X0.0, X0.0, value.into());
        self.asm.imm8(index as u8);
        self.v(op, INSERTI128, d, a, X0);
        self.asm.imm8(half as u8);
        Ok(())
    }

    /// xmm0 = the low or high half of a 256-bit vector
    pub(super) fn half(&mut self, a: Xmm, half: u16) {
        self.asm.vector(true, EXTRACTI128, a.0, 0, X0.into());
        self.asm.imm8(half as u8);
    }

    fn vector_extract(&mut self, op: &Op) -> Result<(), CompileError> {
        let a = self.vector(op.a)?;
        let d = self.define_int(op, None)?;
        let lane = op.lane();
        let per_half = 16 / lane.bytes() as u16;
        let (half, index) = (op.lane_aux() / per_half, op.lane_aux() % per_half);
        let from = if half == 0 { a } else { X0 };
        if half != 0 {
            self.half(a, half);
        }
        match (lane, index) {
            (Lane::B32, 0) => self.asm.vmovq_to(Width::W32, d, from),
            (Lane::B64, 0) => self.asm.vmovq_to(Width::W64, d, from),
            _ => {
                let insn = [m3a(0x14), m3a(0x15), m3a(0x16), m3a(0x16).w()][lane as usize];
                self.asm.vector(false, insn, from.0, 0, d.into());
                self.asm.imm8(index as u8);
            }
        }
        self.defined(op);
        Ok(())
    }

    // ---- masks ----

    fn vector_blend(&mut self, op: &Op) -> Result<(), CompileError> {
        let (mask, yes, no) = (self.vector(op.a)?, self.vector(op.b)?, self.vector(op.c)?);
        let d = self.define_vector(op, Some(op.a))?;
        self.blend(op, d, mask, (yes, no));
        Ok(())
    }

    fn vector_to_bits(&mut self, op: &Op) -> Result<(), CompileError> {
        let a = self.vector(op.a)?;
        let d = self.define_int(op, None)?;
        let rm = a.into();
        match op.lane() {
            Lane::B8 => self.asm.vector(wide(op), m0f(0xd7), d.0, 0, rm),
            Lane::B16 => {
                // Bytes of the same signs, of both halves side by side.
                self.v(op, PACKSSWB, X0, a, a);
                if wide(op) {
                    self.v(op, PERMQ, X0, X0, X0);
                    self.asm.imm8(0b1000);
                }
                self.asm.vector(false, m0f(0xd7), d.0, 0, X0.into());
                if !wide(op) {
                    self.asm.movzx8(d, d.into());
                }
            }
            Lane::B32 => {
                self.asm.vector(wide(op), Vex::new(Pp::None, Map::M0F, 0x50), d.0, 0, rm);
            }
            Lane::B64 => self.asm.vector(wide(op), m0f(0x50), d.0, 0, rm),
        }
        self.defined(op);
        Ok(())
    }

    fn vector_from_bits(&mut self, op: &Op) -> Result<(), CompileError> {
        let a = self.int(op.a)?;
        let d = self.define_vector(op, None)?;
        let lane = op.lane() as usize;
        self.asm.vmovq_from(X0, a);
        if op.lane() == Lane::B8 {
            self.v(op, PBROADCAST[2], X0, X0, X0);
            self.v(op, PSHUFB, X0, X0, constant(offset_of!(VectorConsts, bit_byte)));
        } else {
            self.v(op, PBROADCAST[lane], X0, X0, X0);
        }
        let bits = row(offset_of!(VectorConsts, lane_bit), lane);
        self.v(op, PAND, X0, X0, bits);
        self.v(op, PCMPEQ[lane], d, X0, bits);
        Ok(())
    }

    /// The vector begins so many lanes before the end of a row of ones.
    fn vector_below(&mut self, op: &Op) -> Result<(), CompileError> {
        let first = self.unit.as_const(op.b).unwrap_or(0);
        let lanes = (op.ty.bytes() / op.lane().bytes()) as u64;
        let ones_end = constant_at(offset_of!(VectorConsts, window)) + 32;
        if let Some(len) = self.unit.as_const(op.a) {
            let count = len.saturating_sub(first).min(lanes) as usize;
            let d = self.define_vector(op, None)?;
            let from = core_mem(ones_end - count * op.lane().bytes());
            self.asm.vector_load(wide(op), d, from);
            return Ok(());
        }
        let len = self.int(op.a)?;
        let d = self.define_vector(op, None)?;
        self.asm.mov(Width::W64, RAX, len);
        if first != 0 {
            self.asm.mov_imm(RCX, 0);
            self.asm.alu_imm(Alu::Sub, Width::W64, RAX.into(), first as i32);
            self.asm.cmov(Cc::B, Width::W64, RAX, RCX.into());
        }
        self.asm.mov_imm(RCX, lanes);
        self.asm.alu(Alu::Cmp, Width::W64, RAX, RCX.into());
        self.asm.cmov(Cc::A, Width::W64, RAX, RCX.into());
        if op.lane() != Lane::B8 {
            self.asm.shift_imm(Width::W32, 4, RAX, op.lane() as u8);
        }
        self.asm.group3(Width::W64, 3, RAX.into());
        self.asm.vector_load(wide(op), d, Mem::indexed(RBP, RAX, core_disp(ones_end)));
        Ok(())
    }

    fn vector_compare(&mut self, op: &Op) -> Result<(), CompileError> {
        let (a, b) = (self.vector(op.a)?, self.vector(op.b)?);
        let d = self.define_vector(op, None)?;
        let lane = op.lane() as usize;
        let cond = Cond::from_code(op.lane_aux());
        let unsigned = matches!(cond, Cond::Ltu | Cond::Geu | Cond::Leu | Cond::Gtu);
        let (mut x, mut y) = (a, b);
        if unsigned && op.lane() == Lane::B64 {
            self.flip_signs(op, (a, b));
            (x, y) = (X0, X1);
        }
        // What holds, or the opposite.
        let opposite = match cond {
            Cond::Eq | Cond::Ne => {
                self.v(op, PCMPEQ[lane], d, x, y);
                cond == Cond::Ne
            }
            Cond::Ltu | Cond::Geu if op.lane() != Lane::B64 => {
                self.v(op, PMAXU[lane], X0, x, y);
                self.v(op, PCMPEQ[lane], d, X0, x);
                cond == Cond::Ltu
            }
            Cond::Leu | Cond::Gtu if op.lane() != Lane::B64 => {
                self.v(op, PMINU[lane], X0, x, y);
                self.v(op, PCMPEQ[lane], d, X0, x);
                cond == Cond::Gtu
            }
            Cond::Gt | Cond::Le | Cond::Gtu | Cond::Leu => {
                self.v(op, PCMPGT[lane], d, x, y);
                matches!(cond, Cond::Le | Cond::Leu)
            }
            Cond::Lt | Cond::Ge | Cond::Ltu | Cond::Geu => {
                self.v(op, PCMPGT[lane], d, y, x);
                matches!(cond, Cond::Ge | Cond::Geu)
            }
        };
        if opposite {
            self.ones(op, X0);
            self.v(op, PXOR, d, d, X0);
        }
        Ok(())
    }

    /// Both scratch registers: 64-bit lanes with their signs flipped, so that signed comparisons are
    /// unsigned ones.
    pub(super) fn flip_signs(&mut self, op: &Op, (a, b): (Xmm, Xmm)) {
        self.v(op, PXOR, X0, a, sign(Lane::B64));
        self.v(op, PXOR, X1, b, sign(Lane::B64));
    }

    // ---- arithmetic ----

    fn vector_binary(&mut self, op: &Op) -> Result<(), CompileError> {
        use OpKind as K;
        let (a, b) = (self.vector(op.a)?, self.vector(op.b)?);
        if let Some(insn) = direct(op.kind, op.lane()) {
            let d = self.define_vector(op, Some(op.a))?;
            self.v(op, insn, d, a, b);
            return Ok(());
        }
        if op.kind == K::VAndNot {
            let d = self.define_vector(op, Some(op.a))?;
            self.v(op, PANDN, d, b, a);
            return Ok(());
        }
        let d = self.define_vector(op, None)?;
        match op.kind {
            K::VMul if op.lane() == Lane::B8 => self.multiply_bytes(op, d, (a, b)),
            K::VMul => self.multiply_words(op, d, (a, b)),
            K::VAddSat | K::VSubSat => self.saturate_signed(op, d, (a, b)),
            K::VAddSatU | K::VSubSatU => self.saturate_unsigned(op, d, (a, b)),
            K::VAvgU => self.average(op, d, (a, b)),
            K::VMulHigh | K::VMulHighU => self.multiply_high_halves(op, d, (a, b))?,
            K::VMin | K::VMax | K::VMinU | K::VMaxU => self.vector_extremum(op, d, (a, b)),
            _ => self.shift_lanes(op, d, (a, b)),
        }
        Ok(())
    }

    /// 64-bit lanes: the products of halves.
    fn multiply_words(&mut self, op: &Op, d: Xmm, (a, b): (Xmm, Xmm)) {
        self.shift_constant(op, Shift::Right, Lane::B64, (X0, a), 32);
        self.v(op, PMULUDQ, X0, X0, b);
        self.shift_constant(op, Shift::Right, Lane::B64, (X1, b), 32);
        self.v(op, PMULUDQ, X1, X1, a);
        self.v(op, PADD[3], X0, X0, X1);
        self.shift_constant(op, Shift::Left, Lane::B64, (X0, X0), 32);
        self.v(op, PMULUDQ, d, a, b);
        self.v(op, PADD[3], d, d, X0);
    }

    /// Even bytes, then odd ones, in 16-bit lanes.
    fn multiply_bytes(&mut self, op: &Op, d: Xmm, (a, b): (Xmm, Xmm)) {
        self.v(op, PMULLW, d, a, b);
        self.v(op, PAND, d, d, low_half(Lane::B16));
        self.shift_constant(op, Shift::Right, Lane::B16, (X0, a), 8);
        self.shift_constant(op, Shift::Right, Lane::B16, (X1, b), 8);
        self.shift_constant(op, Shift::Left, Lane::B16, (X1, X1), 8);
        self.v(op, PMULLW, X0, X0, X1);
        self.v(op, POR, d, d, X0);
    }

    /// Of 64-bit lanes.
    fn vector_extremum(&mut self, op: &Op, d: Xmm, (a, b): (Xmm, Xmm)) {
        let (mut x, mut y) = (a, b);
        if matches!(op.kind, OpKind::VMinU | OpKind::VMaxU) {
            self.flip_signs(op, (a, b));
            (x, y) = (X0, X1);
        }
        self.v(op, PCMPGT[3], X0, x, y);
        let least = matches!(op.kind, OpKind::VMin | OpKind::VMinU);
        self.blend(op, d, X0, if least { (b, a) } else { (a, b) });
    }

    // ---- shifts ----

    /// d = a shifted by a constant below the width of the lane
    pub(super) fn shift_constant(
        &mut self,
        op: &Op,
        shift: Shift,
        lane: Lane,
        (d, a): (Xmm, Xmm),
        n: u8,
    ) {
        match (shift, lane) {
            // Bytes are shifted in pairs, without what goes from one into the other.
            (Shift::Left, Lane::B8) => {
                self.v(op, PAND, d, a, low_bits(8 - n));
                self.shift_constant(op, shift, Lane::B16, (d, d), n);
            }
            (Shift::Right, Lane::B8) => {
                self.shift_constant(op, shift, Lane::B16, (d, a), n);
                self.v(op, PAND, d, d, low_bits(8 - n));
            }
            (Shift::Arithmetic, Lane::B8) => {
                self.shift_constant(op, Shift::Right, lane, (d, a), n);
                let sign = row(offset_of!(VectorConsts, sign_down), n.into());
                self.v(op, PXOR, d, d, sign);
                self.v(op, PSUB[0], d, d, sign);
            }
            (Shift::Arithmetic, Lane::B64) => {
                self.asm.vector_load(wide(op), X1, sign(Lane::B64));
                self.shift_constant(op, Shift::Right, lane, (X1, X1), n);
                self.shift_constant(op, Shift::Right, lane, (d, a), n);
                self.extend_sign(op, d, X1, lane);
            }
            _ => {
                let (insn, number) = shift.by_constant(lane);
                self.v(op, insn, Xmm(number), d, a);
                self.asm.imm8(n);
            }
        }
    }

    /// Extends the sign that is at the bit of `sign` in each lane.
    fn extend_sign(&mut self, op: &Op, d: Xmm, sign: Xmm, lane: Lane) {
        self.v(op, PXOR, d, d, sign);
        self.v(op, PSUB[lane as usize], d, d, sign);
    }

    fn vector_shift_by(&mut self, op: &Op) -> Result<(), CompileError> {
        let (shift, lane) = (Shift::of(op.kind), op.lane());
        let mask = lane.bits() - 1;
        let a = self.vector(op.a)?;
        if let Some(count) = self.unit.as_const(op.b) {
            let d = self.define_vector(op, None)?;
            self.shift_constant(op, shift, lane, (d, a), count as u8 & mask as u8);
            return Ok(());
        }
        let count = self.int(op.b)?;
        let d = self.define_vector(op, None)?;
        self.asm.mov(Width::W32, RAX, count);
        self.asm.alu_imm(Alu::And, Width::W32, RAX.into(), mask.cast_signed());
        self.asm.vmovq_from(X0, RAX);
        match (shift, lane) {
            (_, Lane::B8) => self.shift_bytes_by(op, shift, (d, a)),
            (Shift::Arithmetic, Lane::B64) => {
                let insn = Shift::Right.by_register(lane);
                self.asm.vector_load(wide(op), X1, sign(Lane::B64));
                self.v(op, insn, X1, X1, X0);
                self.v(op, insn, d, a, X0);
                self.extend_sign(op, d, X1, lane);
            }
            _ => self.v(op, shift.by_register(lane), d, a, X0),
        }
        Ok(())
    }

    /// To the left by a constant: one instruction where the host has it, and where whole bytes change
    /// their places.
    fn vector_rotate(&mut self, op: &Op) -> Result<(), CompileError> {
        let (lane, count) = (op.lane(), op.lane_aux() as u8);
        let a = self.vector(op.a)?;
        let d = self.define_vector(op, Some(op.a))?;
        if count == 0 {
            self.vector_move(op, d, a);
        } else if self.target.host.avx512 && lane.bits() >= 32 {
            self.asm.vprol(wide(op), lane == Lane::B64, d, a, count);
        } else if lane == Lane::B32 && count.is_multiple_of(8) {
            let places = row(offset_of!(VectorConsts, rotate), usize::from(count / 8) - 1);
            self.v(op, PSHUFB, d, a, places);
        } else {
            self.shift_constant(op, Shift::Right, lane, (X0, a), lane.bits() as u8 - count);
            self.shift_constant(op, Shift::Left, lane, (d, a), count);
            self.v(op, POR, d, d, X0);
        }
        Ok(())
    }

    /// By the count in eax and in xmm0: in pairs, and what went from one into the other is cleared.
    fn shift_bytes_by(&mut self, op: &Op, shift: Shift, (d, a): (Xmm, Xmm)) {
        let (pair, pp) = match shift {
            Shift::Left => (Shift::Left, Pp::P66),
            _ => (Shift::Right, Pp::F2),
        };
        self.v(op, pair.by_register(Lane::B16), d, a, X0);
        self.asm.mov_imm(RCX, 0xff);
        self.asm.shiftx(pp, Width::W32, RCX, RCX.into(), RAX);
        self.asm.vmovq_from(X1, RCX);
        self.v(op, PBROADCAST[0], X1, X0, X1);
        self.v(op, PAND, d, d, X1);
        if shift == Shift::Arithmetic {
            self.asm.vector_load(wide(op), X1, sign(Lane::B8));
            self.v(op, Shift::Right.by_register(Lane::B16), X1, X1, X0);
            // The bit of a pair's other byte does not reach this one: counts are below eight.
            self.extend_sign(op, d, X1, Lane::B8);
        }
    }

    /// By counts in the lanes, modulo the width.
    fn shift_lanes(&mut self, op: &Op, d: Xmm, (a, b): (Xmm, Xmm)) {
        let (shift, lane) = (Shift::of(op.kind), op.lane());
        if lane == Lane::B8 {
            return self.shift_bytes(op, shift, d, (a, b));
        }
        self.v(op, PAND, X0, b, row(offset_of!(VectorConsts, count), lane as usize));
        match (shift, lane) {
            (_, Lane::B16) => self.shift_halves(op, shift, d, a),
            (Shift::Arithmetic, Lane::B64) => {
                let insn = Shift::Right.by_lanes(lane);
                self.asm.vector_load(wide(op), X1, sign(Lane::B64));
                self.v(op, insn, X1, X1, X0);
                self.v(op, insn, d, a, X0);
                self.extend_sign(op, d, X1, lane);
            }
            _ => self.v(op, shift.by_lanes(lane), d, a, X0),
        }
    }

    /// 16-bit lanes by the counts in xmm0: low and high halves of 32-bit lanes apart.
    fn shift_halves(&mut self, op: &Op, shift: Shift, d: Xmm, a: Xmm) {
        let insn = shift.by_lanes(Lane::B32);
        let half = |g: &mut Self, shift, to| g.shift_constant(op, shift, Lane::B32, to, 16);
        half(self, Shift::Left, (X1, X0));
        half(self, Shift::Right, (X1, X1));
        if shift == Shift::Left {
            self.v(op, insn, d, a, X1);
        } else {
            half(self, Shift::Left, (d, a));
            half(self, shift, (d, d));
            self.v(op, insn, d, d, X1);
        }
        half(self, Shift::Right, (X1, X0));
        if shift == Shift::Left {
            half(self, Shift::Right, (X0, a));
            half(self, Shift::Left, (X0, X0));
            self.v(op, insn, X0, X0, X1);
        } else {
            self.v(op, insn, X0, a, X1);
        }
        self.v(op, PBLENDW, d, d, X0);
        self.asm.imm8(0b1010_1010);
    }

    /// Bytes: by four, two and one where the counts have these bits.
    fn shift_bytes(&mut self, op: &Op, shift: Shift, d: Xmm, (a, b): (Xmm, Xmm)) {
        self.shift_constant(op, Shift::Left, Lane::B16, (X0, b), 5);
        self.vector_move(op, d, a);
        for step in [4, 2, 1] {
            self.shift_constant(op, shift, Lane::B8, (X1, d), step);
            self.blend(op, d, X0, (X1, d));
            if step != 1 {
                self.v(op, PADD[0], X0, X0, X0);
            }
        }
    }
}
