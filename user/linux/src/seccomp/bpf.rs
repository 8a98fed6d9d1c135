//! Programs of the classic Berkeley packet filter, as seccomp has them (seccomp(2); Linux,
//! `linux/bpf_common.h`, `linux/filter.h`): checked once, so that running them ends and reads nothing else
//! than the description of the system call.

/// Bytes of `struct seccomp_data`.
pub const DATA: usize = 64;
/// Instructions of a program.
pub const MOST: usize = 4096;
/// Words of scratch memory.
const SLOTS: usize = 16;

/// An instruction: `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insn {
    /// Operation.
    pub code: u16,
    /// Instructions skipped if true.
    pub yes: u8,
    /// Instructions skipped if false.
    pub no: u8,
    /// The constant.
    pub k: u32,
}

impl Insn {
    /// From its eight bytes.
    pub fn read(bytes: [u8; 8]) -> Self {
        let [code, high, yes, no, a, b, c, d] = bytes;
        Self {
            code: u16::from_le_bytes([code, high]),
            yes,
            no,
            k: u32::from_le_bytes([a, b, c, d]),
        }
    }

    /// Its eight bytes.
    pub fn bytes(self) -> [u8; 8] {
        let ([code, high], [a, b, c, d]) = (self.code.to_le_bytes(), self.k.to_le_bytes());
        [code, high, self.yes, self.no, a, b, c, d]
    }
}

/// What an instruction does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    /// A word of the data.
    Load,
    /// The length of the data, into A.
    LoadLen,
    /// The same, into X.
    LoadLenX,
    Imm,
    ImmX,
    Mem,
    MemX,
    Store,
    StoreX,
    /// Arithmetic by its code's upper half byte; whether with X.
    Alu(u16, bool),
    Jump,
    /// A condition by its code's upper half byte; whether with X.
    Test(u16, bool),
    Return,
    ReturnA,
    ToX,
    ToA,
}

mod alu {
    pub(super) const ADD: u16 = 0x00;
    pub(super) const SUB: u16 = 0x10;
    pub(super) const MUL: u16 = 0x20;
    pub(super) const DIV: u16 = 0x30;
    pub(super) const OR: u16 = 0x40;
    pub(super) const AND: u16 = 0x50;
    pub(super) const LSH: u16 = 0x60;
    pub(super) const RSH: u16 = 0x70;
    pub(super) const NEG: u16 = 0x80;
    pub(super) const XOR: u16 = 0xa0;
}

/// Operations that seccomp has, by their codes.
#[rustfmt::skip]
const OPS: &[(u16, Op)] = &[
    (0x20, Op::Load), (0x80, Op::LoadLen), (0x81, Op::LoadLenX), (0x00, Op::Imm), (0x01, Op::ImmX),
    (0x60, Op::Mem), (0x61, Op::MemX), (0x02, Op::Store), (0x03, Op::StoreX),
    (0x04, Op::Alu(alu::ADD, false)), (0x0c, Op::Alu(alu::ADD, true)),
    (0x14, Op::Alu(alu::SUB, false)), (0x1c, Op::Alu(alu::SUB, true)),
    (0x24, Op::Alu(alu::MUL, false)), (0x2c, Op::Alu(alu::MUL, true)),
    (0x34, Op::Alu(alu::DIV, false)), (0x3c, Op::Alu(alu::DIV, true)),
    (0x44, Op::Alu(alu::OR, false)), (0x4c, Op::Alu(alu::OR, true)),
    (0x54, Op::Alu(alu::AND, false)), (0x5c, Op::Alu(alu::AND, true)),
    (0x64, Op::Alu(alu::LSH, false)), (0x6c, Op::Alu(alu::LSH, true)),
    (0x74, Op::Alu(alu::RSH, false)), (0x7c, Op::Alu(alu::RSH, true)),
    (0x84, Op::Alu(alu::NEG, false)),
    (0xa4, Op::Alu(alu::XOR, false)), (0xac, Op::Alu(alu::XOR, true)),
    (0x05, Op::Jump),
    (0x15, Op::Test(0x10, false)), (0x1d, Op::Test(0x10, true)),
    (0x25, Op::Test(0x20, false)), (0x2d, Op::Test(0x20, true)),
    (0x35, Op::Test(0x30, false)), (0x3d, Op::Test(0x30, true)),
    (0x45, Op::Test(0x40, false)), (0x4d, Op::Test(0x40, true)),
    (0x06, Op::Return), (0x16, Op::ReturnA), (0x07, Op::ToX), (0x87, Op::ToA),
];

fn op(code: u16) -> Option<Op> {
    OPS.iter().find(|(known, _)| *known == code).map(|(_, op)| *op)
}

/// A program that was checked: each jump leads ahead and into it, it ends with a return, and reads no
/// scratch memory that was not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program(Vec<(Op, Insn)>);

impl Program {
    /// Checks a program; `None` if the kernel would refuse it.
    pub fn check(insns: &[Insn]) -> Option<Self> {
        if insns.is_empty() || insns.len() > MOST {
            return None;
        }
        let ops: Option<Vec<(Op, Insn)>> =
            insns.iter().map(|insn| op(insn.code).map(|op| (op, *insn))).collect();
        let ops = ops?;
        // Slots that are written on every way to an instruction; ways lead ahead.
        let mut known = vec![u16::MAX; ops.len()];
        known[0] = 0;
        for (at, (op, insn)) in ops.iter().enumerate() {
            let (mut slots, k) = (known[at], insn.k as usize);
            let left = ops.len() - at - 1;
            let mut reach = |skip: usize, slots: u16| {
                let place = (skip < left).then_some(at + 1 + skip)?;
                known[place] &= slots;
                Some(())
            };
            match op {
                Op::Load if k >= DATA || !k.is_multiple_of(4) => return None,
                Op::Mem | Op::MemX if k >= SLOTS || slots >> k & 1 == 0 => return None,
                Op::Store | Op::StoreX if k >= SLOTS => return None,
                Op::Store | Op::StoreX => slots |= 1 << k,
                Op::Alu(alu::DIV, false) if k == 0 => return None,
                Op::Alu(alu::LSH | alu::RSH, false) if k >= 32 => return None,
                _ => {}
            }
            match op {
                Op::Return | Op::ReturnA => {}
                Op::Jump => reach(k, slots)?,
                Op::Test(..) => {
                    reach(insn.yes.into(), slots)?;
                    reach(insn.no.into(), slots)?;
                }
                _ => reach(0, slots)?,
            }
        }
        matches!(ops.last(), Some((Op::Return | Op::ReturnA, _))).then_some(Self(ops))
    }

    /// Instructions.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// There is always one.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The instructions again.
    pub fn insns(&self) -> impl Iterator<Item = Insn> {
        self.0.iter().map(|(_, insn)| *insn)
    }

    /// What it returns for a call.
    pub fn run(&self, data: &[u8; DATA]) -> u32 {
        let (mut a, mut x, mut memory) = (0u32, 0u32, [0u32; SLOTS]);
        let mut at = 0;
        while let Some((op, insn)) = self.0.get(at) {
            let k = insn.k;
            let slot = k as usize % SLOTS;
            at += 1;
            match *op {
                Op::Load => {
                    let word = data.get(k as usize..).and_then(<[u8]>::first_chunk);
                    a = word.map_or(0, |word| u32::from_le_bytes(*word));
                }
                Op::LoadLen => a = DATA as u32,
                Op::LoadLenX => x = DATA as u32,
                Op::Imm => a = k,
                Op::ImmX => x = k,
                Op::Mem => a = memory[slot],
                Op::MemX => x = memory[slot],
                Op::Store => memory[slot] = a,
                Op::StoreX => memory[slot] = x,
                Op::Alu(kind, with_x) => {
                    let b = if with_x { x } else { k };
                    a = match kind {
                        alu::ADD => a.wrapping_add(b),
                        alu::SUB => a.wrapping_sub(b),
                        alu::MUL => a.wrapping_mul(b),
                        alu::DIV => match a.checked_div(b) {
                            Some(quotient) => quotient,
                            // The program ends.
                            None => return 0,
                        },
                        alu::OR => a | b,
                        alu::AND => a & b,
                        alu::LSH => a.wrapping_shl(b),
                        alu::RSH => a.wrapping_shr(b),
                        alu::XOR => a ^ b,
                        _ => a.wrapping_neg(),
                    };
                }
                Op::Jump => at += k as usize,
                Op::Test(kind, with_x) => {
                    let b = if with_x { x } else { k };
                    let holds = match kind {
                        0x10 => a == b,
                        0x20 => a > b,
                        0x30 => a >= b,
                        _ => a & b != 0,
                    };
                    at += usize::from(if holds { insn.yes } else { insn.no });
                }
                Op::Return => return k,
                Op::ReturnA => return a,
                Op::ToX => x = a,
                Op::ToA => a = x,
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insn(code: u16, yes: u8, no: u8, k: u32) -> Insn {
        Insn { code, yes, no, k }
    }

    #[test]
    fn a_program_decides_by_the_number_of_the_call() {
        let program = Program::check(&[
            insn(0x20, 0, 0, 0),
            insn(0x15, 0, 1, 39),
            insn(0x06, 0, 0, 0x0005_0001),
            insn(0x06, 0, 0, 0x7fff_0000),
        ])
        .unwrap();
        let mut data = [0; DATA];
        assert_eq!(program.run(&data), 0x7fff_0000);
        data[0] = 39;
        assert_eq!(program.run(&data), 0x0005_0001);
    }

    #[test]
    fn what_the_kernel_refuses_is_refused() {
        let good = insn(0x06, 0, 0, 0);
        let bad = [
            vec![],
            vec![insn(0x20, 0, 0, 64), good],
            vec![insn(0x20, 0, 0, 2), good],
            vec![insn(0x28, 0, 0, 0), good],
            vec![insn(0x05, 0, 0, 1), good],
            vec![insn(0x15, 0, 1, 1), good],
            vec![insn(0x60, 0, 0, 3), good],
            vec![insn(0x02, 0, 0, 16), good],
            vec![insn(0x34, 0, 0, 0), good],
            vec![insn(0x64, 0, 0, 32), good],
            vec![insn(0x00, 0, 0, 0)],
            // Memory that is written on one of two ways.
            vec![insn(0x15, 0, 1, 1), insn(0x02, 0, 0, 3), insn(0x60, 0, 0, 3), good],
        ];
        for program in bad {
            assert_eq!(Program::check(&program), None, "{program:?}");
        }
        let written = [insn(0x02, 0, 0, 3), insn(0x60, 0, 0, 3), insn(0x16, 0, 0, 0)];
        assert_eq!(Program::check(&written).map(|program| program.run(&[1; DATA])), Some(0));
    }
}
