//! Units from their listings, for tests: the reverse of [`Unit::listing`].

use crate::{
    AmoOp, Cond, Const, Effects, ExitKind, FloatRules, FpCond, GuestReg, Hint, MemOp, Op, OpKind,
    Operand, RegInfo, Rounding, Temp, Type, Unit, Value,
};
use std::fmt;

/// A line that is no operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Number of the line, from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.problem)
    }
}

impl std::error::Error for ParseError {}

impl Unit {
    /// A unit from its listing. It lies where its first instruction does; lines that are empty or
    /// begin with `#` say nothing. Whether it keeps the rules is [`Unit::verify`]'s to say.
    ///
    /// # Errors
    /// The first line that is no operation.
    pub fn parse(text: &str, regs: &[RegInfo]) -> Result<Self, ParseError> {
        let mut unit = Self::default();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                let fail = |problem| ParseError { line: index + 1, problem };
                unit.parse_line(line, regs).map_err(fail)?;
            }
        }
        Ok(unit)
    }

    fn parse_line(&mut self, line: &str, regs: &[RegInfo]) -> Result<(), String> {
        if let Some(insn) = line.strip_prefix("---- ") {
            return self.parse_insn(insn);
        }
        if let Some(name) = line.strip_prefix("==== float ") {
            let rules = FloatRules::ALL.iter().find(|rules| rules.name() == name);
            self.float = *rules.ok_or_else(|| format!("`{name}` are no rules"))?;
            return Ok(());
        }
        let (dst, rest) = line.split_once(" = ").unwrap_or(("-", line));
        let (head, operands) = rest.split_once(' ').unwrap_or((rest, ""));
        let (name, ty) = head.split_once('.').ok_or_else(|| format!("`{head}` lacks a type"))?;
        let ty = type_of(ty).ok_or_else(|| format!("`{ty}` is no type"))?;
        let (kind, aux) = kind_of(name).ok_or_else(|| format!("`{name}` is no operation"))?;
        let dst = self.parse_operand(dst, regs)?;
        let mut args = [Operand::NONE; 3];
        let words = operands.split(',').map(str::trim).filter(|word| !word.is_empty());
        let mut count = 0;
        for word in words {
            let place = args.get_mut(count).ok_or("too many operands")?;
            *place = self.parse_operand(word, regs)?;
            count += 1;
        }
        if count != kind.arity() {
            return Err(format!("{} takes {} operands", kind.name(), kind.arity()));
        }
        if kind == OpKind::Label {
            self.labels = self.labels.max(aux.saturating_add(1));
        }
        let [a, b, c] = args;
        self.ops.push(Op { kind, ty, aux, dst, a, b, c });
        Ok(())
    }

    fn parse_insn(&mut self, text: &str) -> Result<(), String> {
        let (pc, len) =
            text.split_once(", ").ok_or("an instruction has an address and a length")?;
        let (pc, len) = (number(pc)?, number(len)?);
        if self.insns == 0 {
            self.pc = pc;
        }
        self.insns += 1;
        self.len = (pc.wrapping_sub(self.pc) as u32).wrapping_add(len as u32);
        let a = self.parse_const(pc);
        let (kind, ty, none) = (OpKind::Insn, Type::I64, Operand::NONE);
        self.ops.push(Op { kind, ty, aux: len as u16, dst: none, a, b: none, c: none });
        Ok(())
    }

    fn parse_const(&mut self, value: u64) -> Operand {
        self.consts.push(value);
        Const(self.consts.len() as u32 - 1).into()
    }

    fn parse_operand(&mut self, word: &str, regs: &[RegInfo]) -> Result<Operand, String> {
        if word == "-" {
            return Ok(Operand::NONE);
        }
        if let Some(row) = regs.iter().position(|r| r.name == word) {
            return Ok(GuestReg(row as u8).into());
        }
        if let Some(index) = word.strip_prefix('t').and_then(|n| n.parse().ok()) {
            let temp = Operand::from(Temp(index));
            if temp.value() != Value::Temp(Temp(index)) || index > MAX_TEMP {
                return Err(format!("`{word}` is one temporary too many"));
            }
            self.temps = self.temps.max(index + 1);
            return Ok(temp);
        }
        let value = number(word).map_err(|_| format!("`{word}` is no operand"))?;
        Ok(self.parse_const(value))
    }
}

/// No unit has more; a listing must not make us reserve memory for them.
const MAX_TEMP: u32 = 0xffff;

fn number(word: &str) -> Result<u64, String> {
    let value = match word.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => word.parse(),
    };
    value.map_err(|e| format!("`{word}`: {e}"))
}

fn type_of(word: &str) -> Option<Type> {
    Type::ALL.iter().copied().find(|ty| format!("{ty:?}").eq_ignore_ascii_case(word))
}

/// The operation and its `aux`: of all that fit, the one with the longest name.
fn kind_of(word: &str) -> Option<(OpKind, u16)> {
    let fit = |kind: &OpKind| {
        let rest = word.strip_prefix(kind.name())?;
        Some((*kind, aux_of(*kind, rest)?))
    };
    OpKind::ALL.iter().filter_map(fit).max_by_key(|(kind, _)| kind.name().len())
}

/// `aux`, from what it adds to an operation's name.
fn aux_of(kind: OpKind, text: &str) -> Option<u16> {
    macro_rules! code {
        ($t:ty, $name:expr) => {{
            let name = $name;
            <$t>::ALL.iter().position(|v| v.name() == name).map(|code| code as u16)
        }};
    }
    if let Some(form) = kind.form() {
        return form.aux.parse(text);
    }
    let bare = text.strip_prefix('_');
    match kind {
        OpKind::SetCond | OpKind::BranchIf | OpKind::ExitIf => code!(Cond, bare?),
        OpKind::FCompare => code!(FpCond, bare?),
        OpKind::FRelate => match text {
            "" => Some(0),
            "_signal" => Some(1),
            _ => None,
        },
        OpKind::Exit | OpKind::ExitIndirect => code!(Hint, bare?),
        OpKind::ExitLoop => code!(ExitKind, bare?),
        OpKind::Load | OpKind::Store | OpKind::Cas => Some(mem_of(bare?)?.code()),
        OpKind::Amo => {
            let (amo, mem) = text.split_once('_')?;
            Some(mem_of(mem)?.code() | code!(AmoOp, amo)? << MemOp::BITS)
        }
        OpKind::Sext | OpKind::Zext | OpKind::ToInt | OpKind::Crc32 | OpKind::Insert => {
            text.parse().ok()
        }
        OpKind::Call | OpKind::Leaf | OpKind::VCopyIn | OpKind::VCopyOut | OpKind::Label => {
            bare?.parse().ok()
        }
        OpKind::VCopySomeIn | OpKind::VCopySomeOut => bare?.parse().ok(),
        kind if kind.effects().has(Effects::FLAGS) || kind == OpKind::FUnbox => {
            let (number, rounding) = text.split_once('_').unwrap_or((text, "cur"));
            let number: u8 = if number.is_empty() { 0 } else { number.parse().ok()? };
            Some(u16::from(number) | code!(Rounding, rounding)? << Rounding::SHIFT)
        }
        _ => text.is_empty().then_some(0),
    }
}

fn mem_of(text: &str) -> Option<MemOp> {
    let (text, big) = text.strip_suffix("_be").map_or((text, false), |t| (t, true));
    let (text, aligned) = text.strip_suffix("_aligned").map_or((text, false), |t| (t, true));
    let mem = match text {
        "u8" => MemOp::U8,
        "u16" => MemOp::U16,
        "u32" => MemOp::U32,
        "u64" => MemOp::U64,
        "s8" => MemOp::S8,
        "s16" => MemOp::S16,
        "s32" => MemOp::S32,
        "v128" => MemOp::V128,
        "v256" => MemOp::V256,
        _ => return None,
    };
    let mem = if aligned { mem.aligned() } else { mem };
    Some(if big { mem.big_endian() } else { mem })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> ParseError {
        Unit::parse(text, &[]).unwrap_err()
    }

    #[test]
    fn a_listing_comes_back() {
        let text = concat!(
            " ---- 0x1000, 4\n",
            "    t0 = load_s16_aligned_be.i64 0x10, 0x8\n",
            "    branchif_ltu.i32 t0, 0x5, 0x0\n",
            "    t1 = amoadd_u32.i64 0x20, t0\n",
            "    r3 = ftoint32_rtz.f64 r40\n",
            "    call_7.i64 t1, 0x0, 0x0\n",
            "    label_0.i64\n",
            "    exitloop_halt.i64 0x1004\n",
        );
        let info = |name| RegInfo { name, class: crate::RegClass::Int, offset: 0, pin: 0 };
        let mut regs = vec![info("other"); 41];
        (regs[3].name, regs[40].name) = ("r3", "r40");
        let unit = Unit::parse(text, &regs).unwrap();
        assert_eq!(unit.verify(), Ok(()));
        assert_eq!((unit.pc, unit.len, unit.insns), (0x1000, 4, 1));
        assert_eq!((unit.temps, unit.labels), (2, 1));
        assert_eq!(unit.listing(&regs), text);
    }

    #[test]
    fn what_is_no_operation_is_named() {
        let said = |text| problem(text).to_string();
        assert_eq!(said("\nadd.i64 0x1"), "line 2: add takes 2 operands");
        assert_eq!(said("addd.i64 0x1, 0x2"), "line 1: `addd` is no operation");
        assert_eq!(said("add.i65 0x1, 0x2"), "line 1: `i65` is no type");
        assert_eq!(said("t0 = mov.i64 t99999999"), "line 1: `t99999999` is one temporary too many");
        assert_eq!(said("load_s64.i64 0x1, 0x2"), "line 1: `load_s64` is no operation");
        assert_eq!(said("mov.i64 x1"), "line 1: `x1` is no operand");
    }
}
