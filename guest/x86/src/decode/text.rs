//! Instructions as text, in Intel's order of operands.

use super::{
    DecodeError, Encoding, Fetch, Fixed, Insn, Kind, Memory, Operand, Rep, Ty, Width, decode,
};
use std::fmt::Write;

const BYTES: [&str; 16] = [
    "al", "cl", "dl", "bl", "spl", "bpl", "sil", "dil", "r8b", "r9b", "r10b", "r11b", "r12b",
    "r13b", "r14b", "r15b",
];
const HIGH: [&str; 4] = ["ah", "ch", "dh", "bh"];
const OLD: [&str; 8] = ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di"];
const SEGMENTS: [&str; 8] = ["es", "cs", "ss", "ds", "fs", "gs", "?", "?"];

/// A general register by size in bytes.
fn register(number: u8, size: u8, rex: bool) -> String {
    let n = usize::from(number & 15);
    match (size, n) {
        (1, 4..8) if !rex => HIGH[n - 4].to_owned(),
        (1, _) => BYTES[n].to_owned(),
        (2, 0..8) => OLD[n].to_owned(),
        (2, _) => format!("r{n}w"),
        (4, 0..8) => format!("e{}", OLD[n]),
        (4, _) => format!("r{n}d"),
        (_, 0..8) => format!("r{}", OLD[n]),
        _ => format!("r{n}"),
    }
}

fn vector(number: u8, bytes: u8) -> String {
    let letter = match bytes {
        32 => 'y',
        64 => 'z',
        _ => 'x',
    };
    format!("{letter}mm{number}")
}

/// The instruction at the start of `code`, and its length in bytes.
pub fn text(width: Width, pc: u64, code: &[u8]) -> (String, usize) {
    let mut source = |at: usize| code.get(at).copied();
    let mut fetch = Fetch::new(&mut source);
    match decode(width, &mut fetch) {
        Ok(insn) => (instruction(&insn, pc), usize::from(insn.len)),
        Err(DecodeError::Fault(_)) => (".byte".to_owned(), code.len().max(1)),
        Err(_) => ("(bad)".to_owned(), 1),
    }
}

/// A decoded instruction at `pc`.
pub fn instruction(insn: &Insn, pc: u64) -> String {
    let mut text = String::new();
    if insn.lock {
        text.push_str("lock ");
    }
    let names: Vec<_> = insn.entry.mnemonic.split('|').collect();
    let by_size = match (names.len(), insn.size) {
        (1, _) | (_, 2) => 0,
        (_, 4) => 1,
        _ => names.len() - 1,
    };
    let name = names[by_size.min(names.len() - 1)];
    if is_string(name) && insn.entry.map == 0 {
        match insn.rep {
            Rep::None => {}
            Rep::F3 if name.starts_with("cmps") || name.starts_with("scas") => {
                text.push_str("repe ");
            }
            Rep::F3 => text.push_str("rep "),
            Rep::F2 => text.push_str("repne "),
        }
    }
    let named = name.starts_with(['k', 'v']) || is_bmi(name);
    if insn.encoding != Encoding::Legacy && !named {
        text.push('v');
    }
    text.push_str(name);
    let mut imm = 0;
    for (n, operand) in insn.entry.operands.iter().enumerate() {
        let one = operand_text(insn, operand, &mut imm, pc);
        text.push_str(if n == 0 { " " } else { ", " });
        text.push_str(&one);
        if n == 0 && insn.mask != 0 {
            let _ = write!(text, "{{k{}}}{}", insn.mask, if insn.zeroing { "{z}" } else { "" });
        }
    }
    text
}

fn is_string(name: &str) -> bool {
    ["movs", "cmps", "stos", "lods", "scas", "ins", "outs"]
        .iter()
        .any(|s| name.strip_prefix(s).is_some_and(|rest| matches!(rest, "b" | "w" | "d" | "q")))
}

fn is_bmi(name: &str) -> bool {
    ["andn", "bls", "bzhi", "pext", "pdep", "mulx", "bextr", "shlx", "sarx", "shrx", "rorx"]
        .iter()
        .any(|s| name.starts_with(s))
}

fn operand_text(insn: &Insn, operand: &Operand, imm: &mut usize, pc: u64) -> String {
    let size = insn.bytes(operand);
    let (kind, ty) = match operand {
        Operand::Fixed(fixed) => return fixed_text(insn, *fixed, size),
        Operand::Typed(kind, ty) => (*kind, *ty),
    };
    let mut next_imm = || {
        let value = insn.imm[(*imm).min(1)];
        *imm += 1;
        value
    };
    let memory = || {
        let size = if insn.broadcasts() { 0 } else { size };
        insn.memory.as_ref().map(|m| memory_text(insn, m, size, pc))
    };
    match kind {
        Kind::E | Kind::M | Kind::R => {
            memory().unwrap_or_else(|| register(insn.rm, size, insn.rex))
        }
        Kind::G => register(insn.reg, size, insn.rex),
        Kind::B => register(insn.vvvv, size, true),
        Kind::Z => register(insn.rm, size, insn.rex),
        Kind::V => vector(insn.reg, size),
        Kind::H => vector(insn.vvvv, size),
        Kind::L => vector(next_imm() as u8 >> 4, size),
        Kind::W | Kind::U => memory().unwrap_or_else(|| vector(insn.rm, size)),
        Kind::P => format!("mm{}", insn.reg & 7),
        Kind::Q | Kind::N => memory().unwrap_or_else(|| format!("mm{}", insn.rm & 7)),
        Kind::KG => format!("k{}", insn.reg & 7),
        Kind::KH => format!("k{}", insn.vvvv & 7),
        Kind::KE => memory().unwrap_or_else(|| format!("k{}", insn.rm & 7)),
        Kind::S => SEGMENTS[usize::from(insn.reg & 7)].to_owned(),
        Kind::C => format!("cr{}", insn.reg),
        Kind::D => format!("dr{}", insn.reg),
        Kind::STi => format!("st({})", insn.rm & 7),
        Kind::I | Kind::SI => number(next_imm(), insn, ty),
        Kind::J => {
            let target = pc.wrapping_add(insn.len.into()).wrapping_add_signed(next_imm());
            let target = if insn.width == Width::W64 { target } else { target & 0xffff_ffff };
            format!("{target:#x}")
        }
        Kind::A => format!("{:#x}:{:#x}", insn.imm[1], insn.imm[0]),
        Kind::O | Kind::VSIBx | Kind::VSIBy | Kind::X | Kind::Y => {
            memory().unwrap_or_else(|| "?".to_owned())
        }
    }
}

fn number(value: i64, insn: &Insn, ty: Ty) -> String {
    let bits = match ty {
        Ty::B if insn.entry.operands.len() > 1 => {
            8 * u32::from(insn.bytes(&insn.entry.operands[0]))
        }
        Ty::W => 16,
        _ => 8 * u32::from(insn.size),
    };
    let bits = bits.clamp(8, 64);
    format!("{:#x}", value.cast_unsigned() << (64 - bits) >> (64 - bits))
}

fn fixed_text(insn: &Insn, fixed: Fixed, size: u8) -> String {
    let name = match fixed {
        Fixed::RAX | Fixed::EAX => return register(0, size, true),
        Fixed::AL => "al",
        Fixed::CL => "cl",
        Fixed::AX => "ax",
        Fixed::DX => "dx",
        Fixed::ES => "es",
        Fixed::CS => "cs",
        Fixed::SS => "ss",
        Fixed::DS => "ds",
        Fixed::FS => "fs",
        Fixed::GS => "gs",
        Fixed::N1 => "1",
        Fixed::ST0 => "st",
        Fixed::XMM0 if insn.vl == 32 => "ymm0",
        Fixed::XMM0 => "xmm0",
    };
    name.to_owned()
}

fn memory_text(insn: &Insn, m: &Memory, size: u8, pc: u64) -> String {
    let mut text = String::new();
    let width = match size {
        1 => "byte ",
        2 => "word ",
        4 => "dword ",
        6 => "fword ",
        8 => "qword ",
        10 => "tbyte ",
        16 => "xmmword ",
        32 => "ymmword ",
        64 => "zmmword ",
        _ => "",
    };
    text.push_str(width);
    if let Some(segment) = insn.segment {
        let _ = write!(text, "{}:", SEGMENTS[usize::from(segment)]);
    }
    text.push('[');
    if m.rip {
        let at = pc.wrapping_add(insn.len.into()).wrapping_add_signed(m.disp);
        let _ = write!(text, "rip+{:#x}] # {at:#x}", m.disp);
        return text;
    }
    let mut plus = "";
    if let Some(base) = m.base {
        text.push_str(&register(base, insn.address_size, true));
        plus = "+";
    }
    if let Some(index) = m.index {
        let vsib = insn.entry.operands.iter().any(Operand::is_vsib);
        let index = match vsib {
            true => vector(index, insn.vl),
            false => register(index, insn.address_size, true),
        };
        let _ = write!(text, "{plus}{index}*{}", 1 << m.scale);
        plus = "+";
    }
    match m.disp {
        0 if !plus.is_empty() => {}
        disp if disp < 0 && !plus.is_empty() => {
            let _ = write!(text, "-{:#x}", disp.unsigned_abs());
        }
        disp => {
            let mask = u64::MAX >> (64 - 8 * u32::from(insn.address_size));
            let _ = write!(text, "{plus}{:#x}", disp.cast_unsigned() & mask);
        }
    }
    text.push(']');
    text
}
