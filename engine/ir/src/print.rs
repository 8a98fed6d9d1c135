//! Listings of units (`-d op`).

use crate::{
    Cond, Effects, ExitKind, FloatRules, FpCond, GuestReg, Hint, MemOp, Op, OpKind, Operand,
    RegInfo, Rounding, Unit, Value,
};
use std::fmt::{self, Write};

impl Unit {
    /// The unit as text, with the ISA's register names.
    pub fn listing(&self, regs: &[RegInfo]) -> String {
        self.listing_with(regs, |_| None)
    }

    /// The same with names of helpers, where `helper` knows one.
    pub fn listing_with(
        &self,
        regs: &[RegInfo],
        helper: impl Fn(u16) -> Option<&'static str>,
    ) -> String {
        let mut text = String::new();
        if self.float != FloatRules::default() {
            text.push_str(&format!(" ==== float {}\n", self.float.name()));
        }
        for op in &self.ops {
            let name = if op.kind == OpKind::Call { helper(op.aux) } else { None };
            let _infallible = self.print(op, regs, name, &mut text);
        }
        text
    }

    fn print(
        &self,
        op: &Op,
        regs: &[RegInfo],
        helper: Option<&str>,
        out: &mut String,
    ) -> fmt::Result {
        if op.kind == OpKind::Insn {
            return writeln!(out, " ---- {:#x}, {}", self.as_const(op.a).unwrap_or(0), op.aux);
        }
        out.push_str("    ");
        if !op.dst.is_none() {
            self.operand(op.dst, regs, out)?;
            out.push_str(" = ");
        }
        write!(
            out,
            "{}{}.{}",
            op.kind.name(),
            helper.map_or_else(|| qualifier(op), |name| format!("_{name}")),
            format!("{:?}", op.ty).to_lowercase()
        )?;
        for (i, operand) in op.operands().enumerate() {
            out.push_str(if i == 0 { " " } else { ", " });
            self.operand(operand, regs, out)?;
        }
        out.push('\n');
        Ok(())
    }

    fn operand(&self, operand: Operand, regs: &[RegInfo], out: &mut String) -> fmt::Result {
        match operand.value() {
            Value::None => out.write_str("-"),
            Value::Temp(t) => write!(out, "t{}", t.0),
            Value::Reg(GuestReg(r)) => match regs.get(usize::from(r)) {
                Some(info) => out.write_str(info.name),
                None => write!(out, "r{r}"),
            },
            Value::Const(c) => write!(out, "{:#x}", self.constant(c)),
        }
    }
}

/// What `aux` adds to an operation's name.
fn qualifier(op: &Op) -> String {
    if let Some(form) = op.kind.form() {
        return form.aux.print(op.aux);
    }
    let mem = |m: MemOp| {
        let sign = match m.size() {
            16.. => 'v',
            _ if m.is_signed() => 's',
            _ => 'u',
        };
        let aligned = if m.must_align() { "_aligned" } else { "" };
        let order = if m.is_big_endian() { "_be" } else { "" };
        format!("{sign}{}{aligned}{order}", m.size() * 8)
    };
    match op.kind {
        OpKind::SetCond | OpKind::BranchIf | OpKind::ExitIf => {
            format!("_{}", Cond::from_code(op.aux).name())
        }
        OpKind::FCompare => format!("_{}", FpCond::from_code(op.aux).name()),
        OpKind::Load | OpKind::Store | OpKind::Cas => format!("_{}", mem(op.mem())),
        OpKind::Amo => {
            let amo = crate::AmoOp::from_code(op.aux >> MemOp::BITS);
            format!("{}_{}", amo.name(), mem(op.mem()))
        }
        OpKind::Exit | OpKind::ExitIndirect => format!("_{}", Hint::from_code(op.aux).name()),
        OpKind::ExitLoop => format!("_{}", ExitKind::from_code(op.aux).name()),
        OpKind::Sext | OpKind::Zext | OpKind::ToInt | OpKind::Crc32 | OpKind::Insert => {
            op.aux.to_string()
        }
        OpKind::Call | OpKind::Leaf | OpKind::VCopyIn | OpKind::VCopyOut | OpKind::Label => {
            format!("_{}", op.aux)
        }
        OpKind::VCopySomeIn | OpKind::VCopySomeOut => format!("_{}", op.aux),
        OpKind::FRelate if op.aux != 0 => "_signal".to_owned(),
        kind if kind.effects().has(Effects::FLAGS) || kind == OpKind::FUnbox => float(op),
        _ => String::new(),
    }
}

/// What `aux` adds to a floating-point operation's name: a number that is not zero, a rounding that
/// is not the processor's.
fn float(op: &Op) -> String {
    let mut text = String::new();
    if op.float_aux() != 0 {
        text.push_str(&op.float_aux().to_string());
    }
    if op.rounding() != Rounding::Current {
        text.push('_');
        text.push_str(op.rounding().name());
    }
    text
}
