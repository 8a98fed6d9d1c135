//! An assembler for the instructions the code generator uses (Intel SDM volume 2, AMD APM
//! volume 3). One function per encoding form; opcodes are parameters or small enums.

/// A general register by its hardware number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gpr(pub u8);

/// An SSE/AVX register by its hardware number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Xmm(pub u8);

#[expect(missing_docs, reason = "the hardware's names")]
pub mod gpr {
    use super::Gpr;
    pub const RAX: Gpr = Gpr(0);
    pub const RCX: Gpr = Gpr(1);
    pub const RDX: Gpr = Gpr(2);
    pub const RBX: Gpr = Gpr(3);
    pub const RSP: Gpr = Gpr(4);
    pub const RBP: Gpr = Gpr(5);
    pub const RSI: Gpr = Gpr(6);
    pub const RDI: Gpr = Gpr(7);
    pub const R8: Gpr = Gpr(8);
    pub const R9: Gpr = Gpr(9);
    pub const R10: Gpr = Gpr(10);
    pub const R11: Gpr = Gpr(11);
    pub const R12: Gpr = Gpr(12);
    pub const R13: Gpr = Gpr(13);
    pub const R14: Gpr = Gpr(14);
    pub const R15: Gpr = Gpr(15);
}

/// A memory operand.
#[derive(Clone, Copy, Debug)]
pub struct Mem {
    base: Gpr,
    index: Option<Gpr>,
    disp: i32,
    /// Whether the base of segment gs is added.
    gs: bool,
}

impl Mem {
    /// [base + disp]
    pub fn base(base: Gpr, disp: i32) -> Self {
        Self { base, index: None, disp, gs: false }
    }
    /// [base + index + disp]
    pub fn indexed(base: Gpr, index: Gpr, disp: i32) -> Self {
        debug_assert!(index != gpr::RSP, "rsp cannot be an index");
        Self { base, index: Some(index), disp, gs: false }
    }
    /// The same in segment gs.
    #[must_use]
    pub fn in_gs(self) -> Self {
        Self { gs: true, ..self }
    }
}

/// The other operand of an instruction that takes a register or memory.
#[derive(Clone, Copy, Debug)]
pub enum Rm {
    /// A general or SSE register.
    Reg(u8),
    /// Memory.
    Mem(Mem),
}

impl From<Gpr> for Rm {
    fn from(r: Gpr) -> Self {
        Self::Reg(r.0)
    }
}
impl From<Xmm> for Rm {
    fn from(r: Xmm) -> Self {
        Self::Reg(r.0)
    }
}
impl From<Mem> for Rm {
    fn from(m: Mem) -> Self {
        Self::Mem(m)
    }
}

/// Width of an integer operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 32 bits; the upper half of a destination register becomes zero.
    W32,
    /// 64 bits.
    W64,
}

impl Width {
    /// The width of an operation on `size` bytes.
    pub fn of(size: u32) -> Self {
        if size == 8 { Self::W64 } else { Self::W32 }
    }

    fn w(self) -> bool {
        self == Self::W64
    }
}

/// The eight classic two-operand operations, by their number in the opcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the hardware's names")]
pub enum Alu {
    Add = 0,
    Or = 1,
    And = 4,
    Sub = 5,
    Xor = 6,
    Cmp = 7,
}

/// Condition codes, by their number in the opcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the hardware's names")]
pub enum Cc {
    O = 0,
    No = 1,
    B = 2,
    Ae = 3,
    E = 4,
    Ne = 5,
    Be = 6,
    A = 7,
    P = 10,
    Np = 11,
    L = 12,
    Ge = 13,
    Le = 14,
    G = 15,
}

impl Cc {
    /// The opposite.
    pub fn negated(self) -> Self {
        match self {
            Self::O => Self::No,
            Self::No => Self::O,
            Self::B => Self::Ae,
            Self::Ae => Self::B,
            Self::E => Self::Ne,
            Self::Ne => Self::E,
            Self::Be => Self::A,
            Self::A => Self::Be,
            Self::P => Self::Np,
            Self::Np => Self::P,
            Self::L => Self::Ge,
            Self::Ge => Self::L,
            Self::Le => Self::G,
            Self::G => Self::Le,
        }
    }
}

/// Mandatory prefix of a VEX instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the prefix bytes")]
pub enum Pp {
    None = 0,
    P66 = 1,
    F3 = 2,
    F2 = 3,
}

/// Opcode map of a VEX instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the map's escape bytes")]
pub enum Map {
    M0F = 1,
    M0F38 = 2,
    M0F3A = 3,
}

/// An EVEX instruction, but for its opcode and operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evex {
    /// Mandatory prefix.
    pub pp: Pp,
    /// Opcode map.
    pub map: Map,
    /// The W bit.
    pub w: bool,
    /// 0 for 128 bits, 1 for 256, 2 for 512.
    pub length: u8,
    /// Opmask register, 0 for none.
    pub mask: u8,
}

/// A VEX instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vex {
    /// Mandatory prefix.
    pub pp: Pp,
    /// Opcode map.
    pub map: Map,
    /// The W bit.
    pub w: bool,
    /// Opcode.
    pub opcode: u8,
}

impl Vex {
    /// An instruction with W clear.
    pub const fn new(pp: Pp, map: Map, opcode: u8) -> Self {
        Self { pp, map, w: false, opcode }
    }
    /// The same with W set.
    #[must_use]
    pub const fn w(self) -> Self {
        Self { w: true, ..self }
    }
}

/// A forward jump whose target is not known yet: offset of its 32-bit displacement.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Patch(pub usize);

/// Machine code under construction.
#[derive(Default)]
pub struct Asm {
    /// The bytes so far.
    pub code: Vec<u8>,
}

impl Asm {
    /// Offset of the next instruction.
    pub fn here(&self) -> usize {
        self.code.len()
    }

    fn byte(&mut self, b: u8) {
        self.code.push(b);
    }

    fn dword(&mut self, v: u32) {
        self.code.extend_from_slice(&v.to_le_bytes());
    }

    /// ModRM, SIB and displacement for register field `reg`.
    fn modrm(&mut self, reg: u8, rm: Rm) {
        self.modrm_with(reg, rm, true);
    }

    /// With `short`, displacements may be a byte: EVEX instructions count those in their own operands.
    fn modrm_with(&mut self, reg: u8, rm: Rm, short: bool) {
        let reg = (reg & 7) << 3;
        match rm {
            Rm::Reg(r) => self.byte(0xc0 | reg | (r & 7)),
            Rm::Mem(Mem { base, index, disp, .. }) => {
                let base_low = base.0 & 7;
                let mode = match disp {
                    0 if base_low != 5 => 0x00,
                    -128..=127 if short => 0x40,
                    _ => 0x80,
                };
                match index {
                    Some(index) => {
                        self.byte(mode | reg | 4);
                        self.byte((index.0 & 7) << 3 | base_low);
                    }
                    None if base_low == 4 => {
                        self.byte(mode | reg | 4);
                        self.byte(0x24);
                    }
                    None => self.byte(mode | reg | base_low),
                }
                match mode {
                    0x40 => self.byte(disp as u8),
                    0x80 => self.dword(disp.cast_unsigned()),
                    _ => {}
                }
            }
        }
    }

    /// (X, B) bits of an operand.
    fn xb(rm: Rm) -> (u8, u8) {
        match rm {
            Rm::Reg(r) => (0, r >> 3),
            Rm::Mem(m) => (m.index.map_or(0, |i| i.0 >> 3), m.base.0 >> 3),
        }
    }

    /// The segment's prefix, if an operand needs it.
    fn segment(&mut self, rm: Rm) {
        if let Rm::Mem(Mem { gs: true, .. }) = rm {
            self.byte(0x65);
        }
    }

    fn rex(&mut self, w: bool, reg: u8, rm: Rm, force: bool) {
        self.segment(rm);
        let (x, b) = Self::xb(rm);
        let rex = 0x40 | u8::from(w) << 3 | (reg >> 3) << 2 | x << 1 | b;
        if rex != 0x40 || force {
            self.byte(rex);
        }
    }

    /// [REX] opcode ModRM.
    fn op(&mut self, w: Width, opcode: &[u8], reg: u8, rm: Rm) {
        self.rex(w.w(), reg, rm, false);
        self.code.extend_from_slice(opcode);
        self.modrm(reg, rm);
    }

    /// An instruction with byte registers: `reg` 4–7 need a REX prefix to be spl…dil.
    fn op8(&mut self, opcode: &[u8], reg: u8, rm: Rm) {
        let low = |r: u8| (4..8).contains(&r);
        let force = low(reg) || matches!(rm, Rm::Reg(r) if low(r));
        self.rex(false, reg, rm, force);
        self.code.extend_from_slice(opcode);
        self.modrm(reg, rm);
    }

    /// mov dst, src; nothing when they are the same 64-bit register.
    pub fn mov(&mut self, w: Width, dst: Gpr, src: Gpr) {
        if dst != src || w == Width::W32 {
            self.op(w, &[0x8b], dst.0, src.into());
        }
    }

    /// The low `size` (1, 2) bytes of dst = those of src; the others stay
    pub fn mov_low(&mut self, size: u32, dst: Gpr, src: Gpr) {
        if size == 1 {
            return self.op8(&[0x8a], dst.0, src.into());
        }
        self.byte(0x66);
        self.op(Width::W32, &[0x8b], dst.0, src.into());
    }

    /// dst = the low `size` (1, 2, 4, 8) bytes of src, extended to 64 bits
    pub fn mov_extended(&mut self, size: u32, signed: bool, dst: Gpr, src: Rm) {
        match (size, signed, src) {
            (1, false, _) => self.movzx8(dst, src),
            (1, true, _) => self.movsx8(dst, src),
            (2, false, _) => self.movzx16(dst, src),
            (2, true, _) => self.movsx16(dst, src),
            (4, true, _) => self.movsxd(dst, src),
            (_, _, Rm::Reg(r)) => self.mov(Width::of(size), dst, Gpr(r)),
            (_, _, Rm::Mem(mem)) => self.load(Width::of(size), dst, mem),
        }
    }

    /// Loads a constant in the shortest form that leaves the flags alone.
    pub fn mov_imm(&mut self, dst: Gpr, v: u64) {
        if let Ok(v) = u32::try_from(v) {
            self.rex(false, 0, dst.into(), false);
            self.byte(0xb8 | dst.0 & 7);
            self.dword(v);
        } else if let Ok(v) = i32::try_from(v.cast_signed()) {
            self.op(Width::W64, &[0xc7], 0, dst.into());
            self.dword(v.cast_unsigned());
        } else {
            self.rex(true, 0, dst.into(), false);
            self.byte(0xb8 | dst.0 & 7);
            self.code.extend_from_slice(&v.to_le_bytes());
        }
    }

    /// mov dst, [mem]
    pub fn load(&mut self, w: Width, dst: Gpr, mem: Mem) {
        self.op(w, &[0x8b], dst.0, mem.into());
    }

    /// mov [mem], src
    pub fn store(&mut self, w: Width, mem: Mem, src: Gpr) {
        self.op(w, &[0x89], src.0, mem.into());
    }

    /// mov byte [mem], src
    pub fn store8(&mut self, mem: Mem, src: Gpr) {
        self.op8(&[0x88], src.0, mem.into());
    }

    /// mov word [mem], src
    pub fn store16(&mut self, mem: Mem, src: Gpr) {
        self.byte(0x66);
        self.op(Width::W32, &[0x89], src.0, mem.into());
    }

    /// mov [mem], imm (sign-extended)
    pub fn store_imm(&mut self, w: Width, mem: Mem, imm: i32) {
        self.op(w, &[0xc7], 0, mem.into());
        self.dword(imm.cast_unsigned());
    }

    /// movzx dst, byte src
    pub fn movzx8(&mut self, dst: Gpr, src: Rm) {
        self.op8(&[0x0f, 0xb6], dst.0, src);
    }

    /// movzx dst, word src
    pub fn movzx16(&mut self, dst: Gpr, src: Rm) {
        self.op(Width::W32, &[0x0f, 0xb7], dst.0, src);
    }

    /// movsx dst, byte src (to 64 bits)
    pub fn movsx8(&mut self, dst: Gpr, src: Rm) {
        self.op(Width::W64, &[0x0f, 0xbe], dst.0, src);
    }

    /// movsx dst, word src (to 64 bits)
    pub fn movsx16(&mut self, dst: Gpr, src: Rm) {
        self.op(Width::W64, &[0x0f, 0xbf], dst.0, src);
    }

    /// movsxd dst, dword src
    pub fn movsxd(&mut self, dst: Gpr, src: Rm) {
        self.op(Width::W64, &[0x63], dst.0, src);
    }

    /// lea dst, [mem]
    pub fn lea(&mut self, w: Width, dst: Gpr, mem: Mem) {
        self.op(w, &[0x8d], dst.0, mem.into());
    }

    /// op dst, src
    pub fn alu(&mut self, op: Alu, w: Width, dst: Gpr, src: Rm) {
        self.op(w, &[(op as u8) << 3 | 3], dst.0, src);
    }

    /// op dst, imm (sign-extended)
    pub fn alu_imm(&mut self, op: Alu, w: Width, dst: Rm, imm: i32) {
        if let Ok(short) = i8::try_from(imm) {
            self.op(w, &[0x83], op as u8, dst);
            self.byte(short.cast_unsigned());
        } else {
            self.op(w, &[0x81], op as u8, dst);
            self.dword(imm.cast_unsigned());
        }
    }

    /// test a, b
    pub fn test(&mut self, w: Width, a: Gpr, b: Gpr) {
        self.op(w, &[0x85], b.0, a.into());
    }

    /// test a (low byte), imm; a below 4
    pub fn test_imm(&mut self, a: Gpr, imm: i32) {
        self.op8(&[0xf6], 0, a.into());
        self.byte(imm as u8);
    }

    /// imul dst, src
    pub fn imul(&mut self, w: Width, dst: Gpr, src: Rm) {
        self.op(w, &[0x0f, 0xaf], dst.0, src);
    }

    /// The one-operand group: 2 not, 3 neg, 4 mul, 5 imul, 6 div, 7 idiv.
    pub fn group3(&mut self, w: Width, number: u8, rm: Rm) {
        self.op(w, &[0xf7], number, rm);
    }

    /// cdq or cqo: sign of rax into rdx.
    pub fn cqo(&mut self, w: Width) {
        if w.w() {
            self.byte(0x48);
        }
        self.byte(0x99);
    }

    /// Shift by a constant: 0 rol, 1 ror, 4 shl, 5 shr, 7 sar.
    pub fn shift_imm(&mut self, w: Width, number: u8, dst: Gpr, count: u8) {
        self.op(w, &[0xc1], number, dst.into());
        self.byte(count);
    }

    /// Shift by cl.
    pub fn shift_cl(&mut self, w: Width, number: u8, dst: Gpr) {
        self.op(w, &[0xd3], number, dst.into());
    }

    /// setcc dst (low byte)
    pub fn setcc(&mut self, cc: Cc, dst: Gpr) {
        self.op8(&[0x0f, 0x90 | cc as u8], 0, dst.into());
    }

    /// cmovcc dst, src
    pub fn cmov(&mut self, cc: Cc, w: Width, dst: Gpr, src: Rm) {
        self.op(w, &[0x0f, 0x40 | cc as u8], dst.0, src);
    }

    /// bswap dst
    pub fn bswap(&mut self, w: Width, dst: Gpr) {
        self.rex(w.w(), 0, dst.into(), false);
        self.byte(0x0f);
        self.byte(0xc8 | dst.0 & 7);
    }

    /// lzcnt (0xbd), tzcnt (0xbc) or popcnt (0xb8).
    pub fn count_bits(&mut self, w: Width, opcode: u8, dst: Gpr, src: Rm) {
        self.byte(0xf3);
        self.op(w, &[0x0f, opcode], dst.0, src);
    }

    /// pdep (F2) or pext (F3) dst, source, mask
    pub fn deposit(&mut self, pp: Pp, w: Width, dst: Gpr, source: Gpr, mask: Rm) {
        self.vex(pp, Map::M0F38, w.w(), 0xf5, dst.0, source.0, mask);
    }

    /// crc32 dst, the low `size` (1, 2, 4, 8) bytes of src
    pub fn crc32(&mut self, size: u32, dst: Gpr, src: Gpr) {
        if size == 2 {
            self.byte(0x66);
        }
        self.byte(0xf2);
        match size {
            1 => self.op8(&[0x0f, 0x38, 0xf0], dst.0, src.into()),
            8 => self.op(Width::W64, &[0x0f, 0x38, 0xf1], dst.0, src.into()),
            _ => self.op(Width::W32, &[0x0f, 0x38, 0xf1], dst.0, src.into()),
        }
    }

    /// An instruction on SHA's state, which keeps what is above 128 bits; some have a byte
    pub fn sha(&mut self, opcode: u8, byte: bool, dst: Xmm, src: Xmm) {
        let map = if byte { 0x3a } else { 0x38 };
        self.op(Width::W32, &[0x0f, map, opcode], dst.0, src.into());
    }

    /// lock xadd, `size` bytes.
    pub fn lock_xadd(&mut self, size: u32, mem: Mem, reg: Gpr) {
        self.locked(size, &[0x0f, 0xc0], mem, reg);
    }

    /// xchg (locks by itself), `size` bytes.
    pub fn xchg(&mut self, size: u32, mem: Mem, reg: Gpr) {
        if size == 2 {
            self.byte(0x66);
        }
        self.sized(size, &[0x86], mem, reg);
    }

    /// lock cmpxchg with rax, `size` bytes.
    pub fn lock_cmpxchg(&mut self, size: u32, mem: Mem, reg: Gpr) {
        self.locked(size, &[0x0f, 0xb0], mem, reg);
    }

    fn locked(&mut self, size: u32, opcode: &[u8], mem: Mem, reg: Gpr) {
        self.byte(0xf0);
        if size == 2 {
            self.byte(0x66);
        }
        self.sized(size, opcode, mem, reg);
    }

    /// An opcode whose low bit tells bytes from wider operands.
    fn sized(&mut self, size: u32, opcode: &[u8], mem: Mem, reg: Gpr) {
        if size == 1 {
            return self.op8(opcode, reg.0, mem.into());
        }
        let mut wide = [0; 2];
        let wide = &mut wide[..opcode.len()];
        wide.copy_from_slice(opcode);
        if let Some(last) = wide.last_mut() {
            *last |= 1;
        }
        self.op(Width::of(size), wide, reg.0, mem.into());
    }

    /// mfence
    pub fn mfence(&mut self) {
        self.code.extend_from_slice(&[0x0f, 0xae, 0xf0]);
    }

    /// push reg
    pub fn push(&mut self, r: Gpr) {
        self.rex(false, 0, r.into(), false);
        self.byte(0x50 | r.0 & 7);
    }

    /// pop reg
    pub fn pop(&mut self, r: Gpr) {
        self.rex(false, 0, r.into(), false);
        self.byte(0x58 | r.0 & 7);
    }

    /// ret
    pub fn ret(&mut self) {
        self.byte(0xc3);
    }

    /// jmp to an address in a register or memory
    pub fn jmp_rm(&mut self, rm: Rm) {
        self.op(Width::W32, &[0xff], 4, rm);
    }

    /// call an address in a register or memory
    pub fn call_rm(&mut self, rm: Rm) {
        self.op(Width::W32, &[0xff], 2, rm);
    }

    /// jcc to a place that [`Asm::bind`] names later
    pub fn jcc(&mut self, cc: Cc) -> Patch {
        self.code.extend_from_slice(&[0x0f, 0x80 | cc as u8]);
        self.hole()
    }

    /// jcc where the condition does not hold
    pub fn jcc_not(&mut self, cc: Cc) -> Patch {
        self.code.extend_from_slice(&[0x0f, 0x80 | cc as u8 ^ 1]);
        self.hole()
    }

    /// jmp to a place that [`Asm::bind`] names later
    pub fn jmp(&mut self) -> Patch {
        self.byte(0xe9);
        self.hole()
    }

    /// jmp whose displacement is 4-byte aligned, so that one store can change it, provided the
    /// code itself is placed on a 16-byte boundary
    pub fn jmp_aligned(&mut self) -> Patch {
        self.align_displacement();
        self.jmp()
    }

    /// call whose displacement is 4-byte aligned likewise
    pub fn call_aligned(&mut self) -> Patch {
        self.align_displacement();
        self.byte(0xe8);
        self.hole()
    }

    /// Puts the displacement of a jump of five bytes that comes next on a 4-byte boundary.
    fn align_displacement(&mut self) {
        while self.here() % 4 != 3 {
            self.byte(0x90);
        }
    }

    /// lea dst, [rip + …] of a place that [`Asm::bind`] names later
    pub fn lea_rip(&mut self, dst: Gpr) -> Patch {
        self.rex(true, dst.0, Rm::Reg(0), false);
        self.byte(0x8d);
        self.byte((dst.0 & 7) << 3 | 5);
        self.hole()
    }

    fn hole(&mut self) -> Patch {
        self.dword(0);
        Patch(self.here() - 4)
    }

    /// Makes a jump go to offset `target`.
    pub fn bind_to(&mut self, patch: Patch, target: usize) {
        let disp = (target as i64 - (patch.0 as i64 + 4)) as i32;
        self.code[patch.0..patch.0 + 4].copy_from_slice(&disp.to_le_bytes());
    }

    /// Makes a jump go here.
    pub fn bind(&mut self, patch: Patch) {
        let here = self.here();
        self.bind_to(patch, here);
    }

    /// A VEX instruction: `reg`, `vvvv` and `rm` as in the manual; scalar or 128-bit (L = 0).
    #[expect(clippy::too_many_arguments, reason = "the fields of the encoding")]
    pub fn vex(&mut self, pp: Pp, map: Map, w: bool, opcode: u8, reg: u8, vvvv: u8, rm: Rm) {
        self.vector(false, Vex { pp, map, w, opcode }, reg, vvvv, rm);
    }

    /// A VEX instruction on 128 bits, or, with `wide`, on 256.
    pub fn vector(&mut self, wide: bool, insn: Vex, reg: u8, vvvv: u8, rm: Rm) {
        let Vex { pp, map, w, opcode } = insn;
        self.segment(rm);
        let l = u8::from(wide) << 2;
        let (x, b) = Self::xb(rm);
        let r = reg >> 3;
        if x == 0 && b == 0 && !w && map == Map::M0F {
            self.byte(0xc5);
            self.byte((r ^ 1) << 7 | (!vvvv & 15) << 3 | l | pp as u8);
        } else {
            self.byte(0xc4);
            self.byte((r ^ 1) << 7 | (x ^ 1) << 6 | (b ^ 1) << 5 | map as u8);
            self.byte(u8::from(w) << 7 | (!vvvv & 15) << 3 | l | pp as u8);
        }
        self.byte(opcode);
        self.modrm(reg, rm);
    }

    /// An EVEX instruction; what its opmask leaves out stays as it is.
    fn evex(&mut self, insn: Evex, opcode: u8, reg: u8, vvvv: u8, rm: Rm) {
        let Evex { pp, map, w, length, mask } = insn;
        self.segment(rm);
        let (x, b) = Self::xb(rm);
        let r = reg >> 3;
        self.byte(0x62);
        self.byte((r ^ 1) << 7 | (x ^ 1) << 6 | (b ^ 1) << 5 | 1 << 4 | map as u8);
        self.byte(u8::from(w) << 7 | (!vvvv & 15) << 3 | 1 << 2 | pp as u8);
        self.byte(length << 5 | 1 << 3 | mask);
        self.byte(opcode);
        self.modrm_with(reg, rm, false);
    }

    /// shlx (66), shrx (F2), sarx (F3): dst = src shifted by count
    pub fn shiftx(&mut self, pp: Pp, w: Width, dst: Gpr, src: Rm, count: Gpr) {
        self.vex(pp, Map::M0F38, w.w(), 0xf7, dst.0, count.0, src);
    }

    /// lahf: the flags in the second byte of rax
    pub fn lahf(&mut self) {
        self.byte(0x9f);
    }

    /// shr dst, 8 of src, whose bits from 16 on do not matter
    pub fn bextr_high_byte(&mut self, dst: Gpr, src: Gpr) {
        self.rorx(Width::W32, dst, src.into(), 8);
    }

    /// rorx dst, src, count
    pub fn rorx(&mut self, w: Width, dst: Gpr, src: Rm, count: u8) {
        self.vex(Pp::F2, Map::M0F3A, w.w(), 0xf0, dst.0, 0, src);
        self.byte(count);
    }

    /// andn dst, not, src: dst = !not & src
    pub fn andn(&mut self, w: Width, dst: Gpr, not: Gpr, src: Rm) {
        self.vex(Pp::None, Map::M0F38, w.w(), 0xf2, dst.0, not.0, src);
    }

    /// vmovsd or vmovss xmm, [mem]
    pub fn vload(&mut self, double: bool, dst: Xmm, mem: Mem) {
        self.vex(scalar(double), Map::M0F, false, 0x10, dst.0, 0, mem.into());
    }

    /// vmovsd or vmovss [mem], xmm
    pub fn vstore(&mut self, double: bool, mem: Mem, src: Xmm) {
        self.vex(scalar(double), Map::M0F, false, 0x11, src.0, 0, mem.into());
    }

    /// vmovaps dst, src; nothing when they are the same
    pub fn vmov(&mut self, dst: Xmm, src: Xmm) {
        if dst != src {
            self.vex(Pp::None, Map::M0F, false, 0x28, dst.0, 0, src.into());
        }
    }

    /// vmovq xmm, gpr
    pub fn vmovq_from(&mut self, dst: Xmm, src: Gpr) {
        self.vex(Pp::P66, Map::M0F, true, 0x6e, dst.0, 0, src.into());
    }

    /// vmovq or vmovd gpr, xmm
    pub fn vmovq_to(&mut self, w: Width, dst: Gpr, src: Xmm) {
        self.vex(Pp::P66, Map::M0F, w.w(), 0x7e, src.0, 0, dst.into());
    }

    /// A scalar operation dst = a op b: 0x58 add, 0x59 mul, 0x5c sub, 0x5e div, 0x51 sqrt (of b),
    /// 0x5a convert to the other width (of b).
    pub fn vscalar(&mut self, double: bool, opcode: u8, dst: Xmm, a: Xmm, b: Rm) {
        self.vex(scalar(double), Map::M0F, false, opcode, dst.0, a.0, b);
    }

    /// vucomisd/ss (0x2e) or vcomisd/ss (0x2f)
    pub fn vcompare(&mut self, double: bool, opcode: u8, a: Xmm, b: Xmm) {
        let pp = if double { Pp::P66 } else { Pp::None };
        self.vex(pp, Map::M0F, false, opcode, a.0, 0, b.into());
    }

    /// vfmadd231 (0xb9), vfmsub231 (0xbb), vfnmadd231 (0xbd), vfnmsub231 (0xbf): dst = ±(a·b)±dst
    pub fn vfma231(&mut self, double: bool, opcode: u8, dst: Xmm, a: Xmm, b: Xmm) {
        self.vex(Pp::P66, Map::M0F38, double, opcode, dst.0, a.0, b.into());
    }

    /// vcvtsi2sd or ss: integer to float; the upper part comes from `upper`
    pub fn vcvt_from_int(&mut self, double: bool, w: Width, dst: Xmm, upper: Xmm, src: Gpr) {
        self.vex(scalar(double), Map::M0F, w.w(), 0x2a, dst.0, upper.0, src.into());
    }

    /// vcvttsd2si (0x2c, truncating) or vcvtsd2si (0x2d), or their ss forms
    pub fn vcvt_to_int(&mut self, double: bool, w: Width, opcode: u8, dst: Gpr, src: Xmm) {
        self.vex(scalar(double), Map::M0F, w.w(), opcode, dst.0, 0, src.into());
    }

    /// vroundsd or vroundss: to an integral value; `mode`: 0 nearest, 1 down, 2 up, 3 towards zero, 4 as
    /// MXCSR says, and 8 to keep quiet about inexact results
    pub fn vround(&mut self, double: bool, dst: Xmm, src: Xmm, mode: u8) {
        let opcode = if double { 0x0b } else { 0x0a };
        self.vex(Pp::P66, Map::M0F3A, false, opcode, dst.0, src.0, src.into());
        self.byte(mode);
    }

    /// vcvtph2ps: four binary16 to single
    pub fn vcvt_from_half(&mut self, dst: Xmm, src: Xmm) {
        self.vex(Pp::P66, Map::M0F38, false, 0x13, dst.0, 0, src.into());
    }

    /// vcvtps2ph: four single to binary16; `mode` as for [`Asm::vround`], up to 4
    pub fn vcvt_to_half(&mut self, dst: Xmm, src: Xmm, mode: u8) {
        self.vex(Pp::P66, Map::M0F3A, false, 0x1d, src.0, 0, dst.into());
        self.byte(mode);
    }

    /// vinsertps dst, src, src: the lowest lane of four, zeros above
    pub fn vlowest(&mut self, dst: Xmm, src: Xmm) {
        self.vex(Pp::P66, Map::M0F3A, false, 0x21, dst.0, src.0, src.into());
        self.byte(0x0e);
    }

    /// vxorps (0x57) or vorps (0x56): all 128 bits
    pub fn vlogic(&mut self, opcode: u8, dst: Xmm, a: Xmm, b: Rm) {
        self.vex(Pp::None, Map::M0F, false, opcode, dst.0, a.0, b);
    }

    /// A vector instruction d = a op b.
    pub fn v(&mut self, wide: bool, insn: Vex, d: Xmm, a: Xmm, b: impl Into<Rm>) {
        self.vector(wide, insn, d.0, a.0, b.into());
    }

    /// vprold or, with `double`, vprolq: lanes rotated to the left by a constant (AVX-512)
    pub fn vprol(&mut self, wide: bool, double: bool, d: Xmm, a: Xmm, count: u8) {
        let length = u8::from(wide);
        let insn = Evex { pp: Pp::P66, map: Map::M0F, w: double, length, mask: 0 };
        self.evex(insn, 0x72, 1, d.0, a.into());
        self.byte(count);
    }

    /// vmovdqu64 zmm, [mem] or, with `store`, the other way (AVX-512)
    pub fn vmov512(&mut self, store: bool, reg: Xmm, mem: Mem) {
        let insn = Evex { pp: Pp::F3, map: Map::M0F, w: true, length: 2, mask: 0 };
        self.evex(insn, if store { 0x7f } else { 0x6f }, reg.0, 0, mem.into());
    }

    /// vmovdqu8 xmm or ymm, [mem], for bytes that k1 has, or, with `store`, the other way (AVX-512)
    pub fn vmov_masked(&mut self, wide: bool, store: bool, reg: Xmm, mem: Mem) {
        let insn = Evex { pp: Pp::F2, map: Map::M0F, w: false, length: u8::from(wide), mask: 1 };
        self.evex(insn, if store { 0x7f } else { 0x6f }, reg.0, 0, mem.into());
    }

    /// k1 = as many ones as the count says, from `ones` in memory; the count is lost (AVX-512)
    pub fn mask_of(&mut self, count: Gpr, ones: Mem) {
        // bzhi, kmovq
        self.vex(Pp::None, Map::M0F38, true, 0xf5, count.0, count.0, ones.into());
        self.vex(Pp::F2, Map::M0F, true, 0x92, 1, 0, Rm::Reg(count.0));
    }

    /// vmovdqu xmm or ymm, [mem]
    pub fn vector_load(&mut self, wide: bool, dst: Xmm, mem: Mem) {
        self.vector(wide, Vex::new(Pp::F3, Map::M0F, 0x6f), dst.0, 0, mem.into());
    }

    /// vmovdqu [mem], xmm or ymm
    pub fn vector_store(&mut self, wide: bool, mem: Mem, src: Xmm) {
        self.vector(wide, Vex::new(Pp::F3, Map::M0F, 0x7f), src.0, 0, mem.into());
    }

    /// An immediate byte at the end of an instruction.
    pub fn imm8(&mut self, value: u8) {
        self.byte(value);
    }

    /// vzeroupper
    pub fn vzeroupper(&mut self) {
        self.code.extend_from_slice(&[0xc5, 0xf8, 0x77]);
    }

    /// vldmxcsr (2) or vstmxcsr (3)
    pub fn mxcsr(&mut self, number: u8, mem: Mem) {
        self.vex(Pp::None, Map::M0F, false, 0xae, number, 0, mem.into());
    }
}

fn scalar(double: bool) -> Pp {
    if double { Pp::F2 } else { Pp::F3 }
}
