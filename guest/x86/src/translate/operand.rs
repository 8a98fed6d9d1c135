//! Operands: reading and writing registers, memory and immediates of any size.

use super::{Binary, Translator};
use crate::decode::{Fixed, Insn, Kind, Operand as Spec};
use crate::state::{gpr, seg};
use ir::{Builder, Operand};

/// Where an operand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A general register.
    Gpr(u8),
    /// Bits 8 to 15 of a general register.
    High(u8),
    /// Memory, at an address and an offset.
    Memory(Operand, i64),
    /// A selector.
    Segment(u8),
    /// A constant.
    Constant(i64),
}

impl<'u> Translator<'_, 'u> {
    /// Bytes of operand `n`.
    pub(crate) fn size(i: &Insn, n: usize) -> u8 {
        i.entry.operands.get(n).map_or(i.size, |operand| i.bytes(operand))
    }

    /// Where operand `n` is.
    pub(crate) fn place(&mut self, i: &Insn, n: usize) -> Place {
        let Some(operand) = i.entry.operands.get(n) else { return Place::Constant(0) };
        let size = i.bytes(operand);
        let byte = |number: u8| match number {
            4..8 if size == 1 && !i.rex => Place::High(number - 4),
            _ => Place::Gpr(number & 15),
        };
        match *operand {
            Spec::Typed(kind, _) => match kind {
                Kind::E | Kind::M | Kind::R | Kind::O | Kind::W | Kind::Q => match i.memory {
                    Some(_) => {
                        let (base, offset) = self.address(i, size);
                        Place::Memory(base, offset)
                    }
                    None => byte(i.rm),
                },
                Kind::Z => byte(i.rm),
                Kind::G => byte(i.reg),
                Kind::B => Place::Gpr(i.vvvv & 15),
                Kind::S => Place::Segment(i.reg & 7),
                _ => {
                    let before = &i.entry.operands[..n];
                    let immediate = |o: &&Spec| {
                        matches!(o, Spec::Typed(Kind::I | Kind::SI | Kind::J | Kind::L, _))
                    };
                    let count = before.iter().filter(immediate).count();
                    Place::Constant(i.imm[count.min(1)])
                }
            },
            Spec::Fixed(fixed) => match fixed {
                Fixed::AL | Fixed::AX | Fixed::RAX | Fixed::EAX => Place::Gpr(gpr::RAX),
                Fixed::CL => Place::Gpr(gpr::RCX),
                Fixed::DX => Place::Gpr(gpr::RDX),
                Fixed::ES => Place::Segment(seg::ES),
                Fixed::CS => Place::Segment(seg::CS),
                Fixed::SS => Place::Segment(seg::SS),
                Fixed::DS => Place::Segment(seg::DS),
                Fixed::FS => Place::Segment(seg::FS),
                Fixed::GS => Place::Segment(seg::GS),
                Fixed::N1 | Fixed::ST0 | Fixed::XMM0 => Place::Constant(1),
            },
        }
    }

    /// The value at a place, with anything above its size.
    pub(crate) fn get(&mut self, place: Place, size: u8) -> Operand {
        match place {
            Place::Gpr(n) => self.x(n),
            Place::High(n) => {
                let (value, eight) = (self.x(n), self.b.imm(8));
                self.b.shr(value, eight)
            }
            Place::Memory(base, offset) => {
                let mem = self.mem(size);
                self.b.load(mem, base, offset)
            }
            Place::Segment(n) => self.selector(n),
            Place::Constant(value) => self.imm(value),
        }
    }

    /// The value of operand `n`.
    pub(crate) fn read(&mut self, i: &Insn, n: usize) -> Operand {
        let place = self.place(i, n);
        self.get(place, Self::size(i, n))
    }

    /// Writes a value to a place; what can be read there later, which is better than the value.
    pub(crate) fn put(&mut self, place: Place, size: u8, value: Operand) -> Operand {
        match (place, size) {
            (Place::Memory(base, offset), _) => {
                let mem = self.mem(size);
                self.b.store(mem, base, offset, value);
                value
            }
            (Place::Gpr(n), 8) => {
                self.keep(Self::gpr(n), value);
                self.x(n)
            }
            (Place::Gpr(n), 4) => {
                let value = self.zero_extended(value);
                self.keep(Self::gpr(n), value);
                self.x(n)
            }
            (Place::Gpr(n), 1 | 2) => {
                let bits = 8 * u16::from(size);
                let old = self.x(n);
                let whole = self.b.insert(old, value, bits);
                self.keep(Self::gpr(n), whole);
                value
            }
            (Place::High(n), _) => {
                let (low, eight) = (self.b.zext(value, 8), self.b.imm(8));
                let low = self.b.shl(low, eight);
                let keep = self.b.imm(!0xff00);
                let old = self.x(n);
                let old = self.b.and(old, keep);
                let whole = self.b.or(old, low);
                self.keep(Self::gpr(n), whole);
                value
            }
            _ => value,
        }
    }

    /// Writes operand `n`.
    pub(crate) fn write(&mut self, i: &Insn, n: usize, value: Operand) -> Operand {
        let place = self.place(i, n);
        self.put(place, Self::size(i, n), value)
    }

    /// The low 32 bits; nothing to do if the last operation gave no more.
    fn zero_extended(&mut self, value: Operand) -> Operand {
        let last = self.b.unit().ops.last();
        if last.is_some_and(|op| op.dst == value && op.ty == ir::Type::I32) {
            return value;
        }
        self.b.zext(value, 32)
    }

    /// A value zero-extended from its size.
    pub(crate) fn zx(&mut self, value: Operand, size: u8) -> Operand {
        if size == 8 { value } else { self.b.zext(value, 8 * u16::from(size)) }
    }

    /// A value sign-extended from its size.
    pub(crate) fn sx(&mut self, value: Operand, size: u8) -> Operand {
        if size == 8 { value } else { self.b.sext(value, 8 * u16::from(size)) }
    }

    /// An operation in the width of `size`: of 64 bits, or of 32 with anything above the size.
    pub(crate) fn sized(
        &mut self,
        (op, op32): (Binary<'u>, Binary<'u>),
        size: u8,
        x: Operand,
        y: Operand,
    ) -> Operand {
        if size == 8 { op(self.b, x, y) } else { op32(self.b, x, y) }
    }

    pub(crate) fn add_sized(&mut self, size: u8, x: Operand, y: Operand) -> Operand {
        self.sized((Builder::add, Builder::add32), size, x, y)
    }

    pub(crate) fn sub_sized(&mut self, size: u8, x: Operand, y: Operand) -> Operand {
        self.sized((Builder::sub, Builder::sub32), size, x, y)
    }

    /// A segment register's selector.
    pub(crate) fn selector(&mut self, n: u8) -> Operand {
        let what = self.b.imm(u64::from(n));
        self.call(crate::helpers::HelperIndex::SystemRegister, &[what])
    }
}
