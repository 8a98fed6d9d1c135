//! The decoder: prefixes, opcode maps, ModRM, displacements and immediates.
//!
//! The maps are tables made of `spec/*.map`. Sources: Intel SDM volume 2, chapter 2 “Instruction Format”
//! and appendix A; AMD APM volume 3.

mod fetch;
mod table;
mod text;

pub use fetch::{Fault, Fetch, Slice};
pub use table::{Attr, ENTRIES, Entry, Fixed, Isa, Kind, MAPS, Op, Operand, SLOTS, Ty, dispatch};
pub use text::text;

/// The traits that the translator implements, one for each file of maps.
pub mod traits {
    pub use super::table::*;
}

/// Most bytes that an instruction may have.
pub const MAX_LEN: usize = 15;

/// Width of code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 16 bits.
    W16,
    /// 32 bits.
    W32,
    /// 64 bits.
    W64,
}

/// A prefix that repeats string instructions, or selects other ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rep {
    /// None of the two.
    #[default]
    None,
    /// F3.
    F3,
    /// F2.
    F2,
}

/// How an instruction is encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// With prefixes of old.
    #[default]
    Legacy,
    /// VEX.
    Vex,
    /// EVEX.
    Evex,
}

/// An operand in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The base register's number.
    pub base: Option<u8>,
    /// The index register's number; of a vector register in VSIB.
    pub index: Option<u8>,
    /// The index is shifted by this.
    pub scale: u8,
    /// Displacement, from the next instruction's address if `rip`.
    pub disp: i64,
    /// Whether it is relative to the next instruction.
    pub rip: bool,
    /// Number of the segment register, prefixes taken into account.
    pub segment: u8,
}

/// A decoded instruction.
#[derive(Clone, Copy, Debug)]
pub struct Insn {
    /// What the maps say.
    pub entry: &'static Entry,
    /// Width of the code it is in.
    pub width: Width,
    /// Bytes.
    pub len: u8,
    /// Last byte of the opcode.
    pub opcode: u8,
    /// F2 or F3.
    pub rep: Rep,
    /// LOCK.
    pub lock: bool,
    /// A segment prefix, in 64-bit code FS and GS only.
    pub segment: Option<u8>,
    /// Whether there was a REX prefix: byte registers 4 to 7 are then the low ones.
    pub rex: bool,
    /// REX.W, VEX.W, EVEX.W.
    pub w: bool,
    /// Whether there was an operand-size prefix, or VEX's stand-in.
    pub p66: bool,
    /// Operand size in bytes: 2, 4, 8.
    pub size: u8,
    /// Address size in bytes: 2, 4, 8.
    pub address_size: u8,
    /// Register number of ModRM.reg.
    pub reg: u8,
    /// Register number of ModRM.rm, if there is no memory operand; of the opcode if that has one.
    pub rm: u8,
    /// The memory operand of ModRM, or of a direct address.
    pub memory: Option<Memory>,
    /// Immediates in their order, sign-extended as the operand's kind says.
    pub imm: [i64; 2],
    /// How it is encoded.
    pub encoding: Encoding,
    /// Register number of VEX.vvvv.
    pub vvvv: u8,
    /// Vector length in bytes: 16, 32, 64.
    pub vl: u8,
    /// EVEX.b: broadcast, or static rounding.
    pub evex_b: bool,
    /// EVEX.L'L, as rounding mode where that is what it means.
    pub evex_rc: u8,
    /// EVEX.z: lanes that the mask leaves out are zeroed.
    pub zeroing: bool,
    /// EVEX.aaa: the opmask.
    pub mask: u8,
}

/// Why bytes are no instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Undefined.
    Undefined,
    /// More than [`MAX_LEN`] bytes.
    TooLong,
    /// A byte cannot be fetched.
    Fault(Fault),
}

impl From<Fault> for DecodeError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Prefixes, REX among them.
#[derive(Clone, Copy, Default)]
struct Prefixes {
    p66: bool,
    p67: bool,
    rep: Rep,
    lock: bool,
    segment: Option<u8>,
    rex: u8,
    /// Extensions of register numbers beside REX: of reg by 16, of rm by 16, of vvvv by 16.
    high: [u8; 3],
    vvvv: u8,
    length: u8,
    evex: u8,
    w: bool,
    encoding: Encoding,
}

impl Prefixes {
    fn r(&self) -> u8 {
        (self.rex & 4) << 1 | self.high[0]
    }
    fn x(&self) -> u8 {
        (self.rex & 2) << 2
    }
    fn b(&self) -> u8 {
        (self.rex & 1) << 3
    }
}

/// Decodes the instruction that begins where `fetch` is.
///
/// # Errors
/// There is none, or not all of it.
pub fn decode(width: Width, fetch: &mut Fetch<'_>) -> Result<Insn, DecodeError> {
    let mut p = Prefixes::default();
    let opcode = prefixes(width, fetch, &mut p)?;
    let (map, opcode) = opcode_map(width, fetch, &mut p, opcode)?;
    let (first, count, has_modrm) = SLOTS[map][usize::from(opcode)];
    if count == 0 {
        return Err(DecodeError::Undefined);
    }
    let modrm = if has_modrm { Some(fetch.byte()?) } else { None };
    let first = usize::from(first);
    let actual = conditions(width, &p, opcode, modrm);
    let entry = ENTRIES[first..first + usize::from(count)]
        .iter()
        .find(|entry| entry.accepts & actual == actual)
        .ok_or(DecodeError::Undefined)?;
    let mut insn = Insn {
        entry,
        width,
        len: 0,
        opcode,
        rep: p.rep,
        lock: p.lock,
        segment: p.segment,
        rex: p.rex != 0,
        w: p.w,
        p66: p.p66,
        size: operand_size(width, &p, entry),
        address_size: address_size(width, &p),
        reg: modrm.map_or(0, |m| m >> 3 & 7) | p.r(),
        rm: modrm.unwrap_or(opcode) & 7 | p.b() | p.high[1],
        memory: None,
        imm: [0; 2],
        encoding: p.encoding,
        vvvv: p.vvvv | p.high[2],
        vl: 16 << p.length.min(2),
        evex_b: p.evex & 0x10 != 0,
        evex_rc: p.evex >> 5 & 3,
        zeroing: p.evex & 0x80 != 0,
        mask: p.evex & 7,
    };
    // Moves of control and debug registers take any ModRM as of registers.
    let system = |o: &Operand| matches!(o, Operand::Typed(Kind::C | Kind::D, _));
    if let Some(modrm) = modrm
        && modrm < 0xc0
        && !entry.operands.iter().any(system)
    {
        insn.memory = Some(memory(&insn, fetch, &p, modrm)?);
    }
    if entry.operands.iter().any(|o| !insn.fits(o)) {
        return Err(DecodeError::Undefined);
    }
    if p.encoding == Encoding::Evex {
        check_evex(&mut insn, modrm)?;
    }
    // Of EVEX, V' is the index's in VSIB.
    let vsib = entry.operands.iter().any(Operand::is_vsib);
    let vvvv = if vsib { insn.vvvv & 15 } else { insn.vvvv };
    if p.encoding != Encoding::Legacy && vvvv != 0 && !entry.has_vvvv() {
        return Err(DecodeError::Undefined);
    }
    immediates(&mut insn, fetch)?;
    if p.lock && !(entry.has(Attr::Lock) && insn.memory.is_some()) {
        return Err(DecodeError::Undefined);
    }
    insn.len = fetch.len() as u8;
    Ok(insn)
}

/// Reads prefixes up to the first byte of the opcode.
fn prefixes(width: Width, fetch: &mut Fetch<'_>, p: &mut Prefixes) -> Result<u8, DecodeError> {
    loop {
        let byte = fetch.byte()?;
        match byte {
            0x66 => p.p66 = true,
            0x67 => p.p67 = true,
            0xf2 => p.rep = Rep::F2,
            0xf3 => p.rep = Rep::F3,
            0xf0 => p.lock = true,
            0x26 | 0x2e | 0x36 | 0x3e if width == Width::W64 => {}
            0x26 => p.segment = Some(0),
            0x2e => p.segment = Some(1),
            0x36 => p.segment = Some(2),
            0x3e => p.segment = Some(3),
            0x64 => p.segment = Some(4),
            0x65 => p.segment = Some(5),
            0x40..=0x4f if width == Width::W64 => {
                // Counts only right before the opcode.
                p.rex = byte;
                continue;
            }
            _ => {
                p.w = p.rex & 8 != 0;
                return Ok(byte);
            }
        }
        p.rex = 0;
    }
}

/// The map that an opcode is in, and its last byte.
fn opcode_map(
    width: Width,
    fetch: &mut Fetch<'_>,
    p: &mut Prefixes,
    first: u8,
) -> Result<(usize, u8), DecodeError> {
    match first {
        0x0f => match fetch.byte()? {
            0x38 => Ok((2, fetch.byte()?)),
            0x3a => Ok((3, fetch.byte()?)),
            second => Ok((1, second)),
        },
        // Elsewhere than in 64-bit code, LES, LDS and BOUND, whose operand is in memory.
        0xc4 | 0xc5 | 0x62 if width == Width::W64 || fetch.peek()? >= 0xc0 => {
            if p.p66 || p.rep != Rep::None || p.lock || p.rex != 0 {
                return Err(DecodeError::Undefined);
            }
            match first {
                0x62 => evex(width, fetch, p),
                _ => vex(width, fetch, p, first == 0xc4),
            }
        }
        _ => Ok((0, first)),
    }
}

/// What `pp` stands for.
fn simd_prefix(p: &mut Prefixes, pp: u8) {
    match pp & 3 {
        1 => p.p66 = true,
        2 => p.rep = Rep::F3,
        3 => p.rep = Rep::F2,
        _ => {}
    }
}

fn vex(
    width: Width,
    fetch: &mut Fetch<'_>,
    p: &mut Prefixes,
    long: bool,
) -> Result<(usize, u8), DecodeError> {
    p.encoding = Encoding::Vex;
    let first = fetch.byte()?;
    let (map, last) = if long {
        p.rex = !first >> 5 & 7;
        let last = fetch.byte()?;
        p.w = last & 0x80 != 0;
        (first & 0x1f, last)
    } else {
        p.rex = (!first & 0x80) >> 5;
        (1, first)
    };
    p.vvvv = !last >> 3 & 15;
    p.length = last >> 2 & 1;
    simd_prefix(p, last);
    legacy_numbers(width, p);
    match map {
        1..=3 => Ok((3 + usize::from(map), fetch.byte()?)),
        _ => Err(DecodeError::Undefined),
    }
}

/// In code of 32 bits there are eight registers.
fn legacy_numbers(width: Width, p: &mut Prefixes) {
    if width != Width::W64 {
        (p.rex, p.high) = (0, [0; 3]);
        p.vvvv &= 7;
    }
}

fn evex(width: Width, fetch: &mut Fetch<'_>, p: &mut Prefixes) -> Result<(usize, u8), DecodeError> {
    p.encoding = Encoding::Evex;
    let [p0, p1, p2] = [fetch.byte()?, fetch.byte()?, fetch.byte()?];
    if p0 & 8 != 0 || p1 & 4 == 0 {
        return Err(DecodeError::Undefined);
    }
    p.rex = !p0 >> 5 & 7;
    // R' and X extend the registers of ModRM, V' that of vvvv.
    p.high = [!p0 & 0x10, (!p0 & 0x40) >> 2, (!p2 & 8) << 1];
    p.w = p1 & 0x80 != 0;
    p.vvvv = !p1 >> 3 & 15;
    p.length = p2 >> 5 & 3;
    p.evex = p2;
    simd_prefix(p, p1);
    legacy_numbers(width, p);
    let map = match p0 & 7 {
        map @ 1..=3 => 6 + usize::from(map),
        5 => 10,
        6 => 11,
        _ => return Err(DecodeError::Undefined),
    };
    Ok((map, fetch.byte()?))
}

/// What the instruction has of each group of conditions: one bit of each.
fn conditions(width: Width, p: &Prefixes, opcode: u8, modrm: Option<u8>) -> u32 {
    let prefix = match (p.rep, p.p66) {
        (Rep::F3, _) => 4,
        (Rep::F2, _) => 8,
        (Rep::None, true) => 2,
        (Rep::None, false) => 1,
    };
    let w = if p.w { 2 } else { 1 };
    let registers = modrm.is_some_and(|m| m >= 0xc0);
    // With registers, EVEX.b says that L'L is a rounding mode, of 512 bits or of a scalar.
    let rounds = registers && p.evex & 0x10 != 0;
    let length = if rounds { 4 } else { 1 << p.length.min(3) };
    let length = if length == 8 { 0 } else { length };
    let place = if registers { 2 } else { 1 };
    let modrm = modrm.unwrap_or(opcode);
    let long = if width == Width::W64 { 2 } else { 1 };
    let b = if p.rex & 1 != 0 { 2 } else { 1 };
    let bits = prefix | w << 4 | length << 6 | place << 9;
    let bits = bits | 1 << (11 + (modrm >> 3 & 7)) | 1 << (19 + (modrm & 7));
    // A reserved vector length fits nothing.
    let bits = if length == 0 { bits | 1 << 31 } else { bits };
    bits | long << 27 | b << 29
}

fn operand_size(width: Width, p: &Prefixes, entry: &Entry) -> u8 {
    match width {
        Width::W64 if p.w => 8,
        // Of near branches as well (AMD; Intel ignores it there).
        Width::W64 if p.p66 => 2,
        Width::W64 if entry.has(Attr::D64) || entry.has(Attr::F64) => 8,
        Width::W64 => 4,
        Width::W32 if p.p66 => 2,
        Width::W32 => 4,
        Width::W16 if p.p66 => 4,
        Width::W16 => 2,
    }
}

fn address_size(width: Width, p: &Prefixes) -> u8 {
    match (width, p.p67) {
        (Width::W64, false) => 8,
        (Width::W64, true) | (Width::W32, false) | (Width::W16, true) => 4,
        (Width::W32, true) | (Width::W16, false) => 2,
    }
}

/// Bases and indices of 16-bit addresses, by ModRM.rm.
const FORMS16: [(Option<u8>, Option<u8>); 8] = [
    (Some(3), Some(6)),
    (Some(3), Some(7)),
    (Some(5), Some(6)),
    (Some(5), Some(7)),
    (Some(6), None),
    (Some(7), None),
    (Some(5), None),
    (Some(3), None),
];

fn memory(
    insn: &Insn,
    fetch: &mut Fetch<'_>,
    p: &Prefixes,
    modrm: u8,
) -> Result<Memory, DecodeError> {
    let (form, rm) = (modrm >> 6, modrm & 7);
    let mut m = Memory::default();
    let mut disp_bytes = [0, 1, 4][usize::from(form)];
    if insn.address_size == 2 {
        (m.base, m.index) = FORMS16[usize::from(rm)];
        disp_bytes = [0, 1, 2][usize::from(form)];
        if form == 0 && rm == 6 {
            (m.base, disp_bytes) = (None, 2);
        }
    } else if rm == 4 {
        let sib = fetch.byte()?;
        let (index, base) = (sib >> 3 & 7 | p.x(), sib & 7);
        m.scale = sib >> 6;
        let vector = insn.entry.operands.iter().any(Operand::is_vsib);
        m.index = match vector {
            true => Some(index | p.high[2]),
            false => (index != 4).then_some(index),
        };
        if base == 5 && form == 0 {
            disp_bytes = 4;
        } else {
            m.base = Some(base | p.b());
        }
    } else if rm == 5 && form == 0 {
        disp_bytes = 4;
        m.rip = insn.width == Width::W64;
    } else {
        m.base = Some(rm | p.b());
    }
    m.disp = fetch.signed(disp_bytes)?;
    if disp_bytes == 1 && p.encoding == Encoding::Evex {
        m.disp *= i64::from(evex_scale(insn));
    }
    let of_stack = matches!(m.base, Some(4 | 5));
    m.segment = p.segment.unwrap_or(if of_stack { 2 } else { 3 });
    Ok(m)
}

/// What displacements of 8 bits are multiplied by (Intel SDM volume 2, “Compressed Displacement”).
fn evex_scale(insn: &Insn) -> u8 {
    let entry = insn.entry;
    let broadcast = [(Attr::Bcst16, 2), (Attr::Bcst32, 4), (Attr::Bcst64, 8)];
    if insn.evex_b
        && let Some((_, size)) = broadcast.iter().find(|(attr, _)| entry.has(*attr))
    {
        return *size;
    }
    let narrow = [Attr::E8, Attr::E16].iter().any(|attr| entry.has(*attr));
    let element = match insn.w {
        _ if narrow => insn.element(),
        true => 8,
        false => 4,
    };
    let by_type = || entry.operands.iter().find(|o| o.is_memory()).map_or(1, |o| insn.bytes(o));
    let sizes = [
        (Attr::Tfull, insn.vl),
        (Attr::Thalf, insn.vl / 2),
        (Attr::Tmem, insn.vl),
        (Attr::Tscalar, element),
        (Attr::Thalfmem, insn.vl / 2),
        (Attr::Tquartermem, insn.vl / 4),
        (Attr::Teighthmem, insn.vl / 8),
        (Attr::Tmem128, 16),
        (Attr::Tmovddup, if insn.vl == 16 { 8 } else { insn.vl }),
        (Attr::Ttuple2, 2 * element),
        (Attr::Ttuple4, 4 * element),
        (Attr::Ttuple8, 8 * element),
    ];
    sizes.iter().find(|(attr, _)| entry.has(*attr)).map_or_else(by_type, |(_, size)| *size)
}

/// What EVEX may say beside registers.
fn check_evex(insn: &mut Insn, modrm: Option<u8>) -> Result<(), DecodeError> {
    let entry = insn.entry;
    let registers = modrm.is_some_and(|m| m >= 0xc0);
    let broadcasts = [Attr::Bcst16, Attr::Bcst32, Attr::Bcst64].iter().any(|a| entry.has(*a));
    let rounds = entry.has(Attr::Round) || entry.has(Attr::Sae);
    let b_fits = if registers { rounds } else { broadcasts };
    let vsib = entry.operands.iter().any(Operand::is_vsib);
    if vsib && insn.mask == 0 {
        return Err(DecodeError::Undefined);
    }
    let mask_fits = insn.mask == 0 || entry.has(Attr::Mask) || entry.has(Attr::Zero);
    // What is in memory is merged.
    let stores = insn.memory.is_some() && entry.operands.first().is_some_and(Operand::is_memory);
    let zero_fits = !insn.zeroing || entry.has(Attr::Zero) && insn.mask != 0 && !stores;
    if insn.evex_b && !b_fits || !mask_fits || !zero_fits {
        return Err(DecodeError::Undefined);
    }
    if insn.evex_b && registers {
        insn.vl = 64;
    }
    Ok(())
}

fn immediates(insn: &mut Insn, fetch: &mut Fetch<'_>) -> Result<(), DecodeError> {
    let mut count = 0;
    for operand in insn.entry.operands {
        let Operand::Typed(kind, ty) = *operand else { continue };
        let value = match kind {
            Kind::I | Kind::L if ty == Ty::B => i64::from(fetch.byte()?),
            Kind::SI => fetch.signed(1)?,
            Kind::I | Kind::J => fetch.signed(usize::from(insn.bytes(operand)))?,
            Kind::L => i64::from(fetch.byte()?),
            Kind::A => {
                let offset = fetch.unsigned(usize::from(insn.size))?;
                insn.imm[1] = fetch.unsigned(2)?.cast_signed();
                offset.cast_signed()
            }
            Kind::O => {
                let disp = fetch.unsigned(usize::from(insn.address_size))?.cast_signed();
                let segment = insn.segment.unwrap_or(3);
                insn.memory = Some(Memory { disp, segment, ..Memory::default() });
                continue;
            }
            _ => continue,
        };
        if let Some(place) = insn.imm.get_mut(count) {
            *place = value;
        }
        count += 1;
    }
    Ok(())
}

impl Insn {
    /// Bytes of an operand.
    pub fn bytes(&self, operand: &Operand) -> u8 {
        match operand {
            Operand::Typed(_, ty) => self.type_bytes(*ty),
            Operand::Fixed(fixed) => match fixed {
                Fixed::AL | Fixed::CL | Fixed::N1 => 1,
                Fixed::RAX => self.size,
                Fixed::EAX => self.size.min(4),
                Fixed::ST0 => 10,
                Fixed::XMM0 => 16,
                _ => 2,
            },
        }
    }

    fn type_bytes(&self, ty: Ty) -> u8 {
        let wide = if self.w && self.width == Width::W64 { 8 } else { 4 };
        match ty {
            Ty::B => 1,
            Ty::W => 2,
            Ty::D => 4,
            Ty::Q => 8,
            Ty::V => self.size,
            Ty::Z => self.size.min(4),
            Ty::Y => wide,
            Ty::P => self.size + 2,
            Ty::S => {
                if self.width == Width::W64 {
                    10
                } else {
                    6
                }
            }
            Ty::A => 2 * self.size,
            Ty::T => 10,
            Ty::N => 0,
            Ty::Dq => 16,
            Ty::Qq => 32,
            Ty::Oo => 64,
            Ty::X => self.vl,
            Ty::Hx => self.vl / 2,
            Ty::Qx => self.vl / 4,
            Ty::Ex => self.vl / 8,
        }
    }

    /// Whether what is in memory, or is a register, is what the operand wants.
    fn fits(&self, operand: &Operand) -> bool {
        let Operand::Typed(kind, _) = operand else { return true };
        match kind {
            Kind::M => self.memory.is_some(),
            Kind::VSIBx | Kind::VSIBy => self.memory.is_some_and(|m| m.index.is_some()),
            Kind::N | Kind::U | Kind::STi => self.memory.is_none(),
            Kind::G => self.reg < 16,
            Kind::KG => self.reg < 8,
            Kind::KH => self.vvvv < 8,
            _ => true,
        }
    }

    /// Bytes of the lanes that the opmask is for.
    pub fn element(&self) -> u8 {
        let sizes = [(Attr::E8, 1), (Attr::E16, 2), (Attr::E32, 4), (Attr::E64, 8)];
        let by_w = if self.w { 8 } else { 4 };
        sizes.iter().find(|(attr, _)| self.entry.has(*attr)).map_or(by_w, |(_, size)| *size)
    }

    /// Whether its memory operand is one lane for all of a vector.
    pub fn broadcasts(&self) -> bool {
        self.evex_b && self.memory.is_some()
    }
}
