//! Control and status registers: access rules and effects (privileged manual, chapter “Control and
//! Status Registers (CSRs)”).
//!
//! The registers are a table ([`table`]): number, what must exist, who may access, how to read and
//! write. On RV32 the upper halves of 64-bit registers are rows that point at the lower half.
//! Which writes end a translation unit is said in `translate/zicsr.rs`.

mod aia;
mod counters;
mod envcfg;
mod interrupts;
mod status;
mod table;

pub(crate) use counters::reset_counters;
pub(crate) use status::{mstatus_value, shown_cause};

use crate::hart::Riscv;
use crate::trap::Trap;
use isa::Cpu;

/// A hart's slow path.
type C<'a, 'b> = &'a mut Cpu<'b, Riscv>;

/// How a register is read and written.
#[derive(Clone, Copy)]
enum Kind {
    /// As wide as integer registers.
    Plain(fn(C<'_, '_>, u16) -> u64, fn(C<'_, '_>, u16, u64)),
    /// 64 bits, of which RV32 sees the lower half.
    Wide(fn(C<'_, '_>, u16) -> u64, fn(C<'_, '_>, u16, u64)),
    /// RV32 only: the upper half of the register with this number less.
    High(u16),
}

/// What an instruction does with a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Use {
    number: u16,
    writes: bool,
}

/// One register or a run of them.
struct Row {
    first: u16,
    last: u16,
    name: &'static str,
    /// Whether the hart has it.
    exists: fn(&Riscv) -> bool,
    /// Whether this access is allowed now, beside what the number says.
    allowed: fn(&Cpu<'_, Riscv>, Use) -> bool,
    kind: Kind,
}

fn find(number: u16) -> Option<&'static Row> {
    let after = table::ROWS.partition_point(|row| row.first <= number);
    let row = table::ROWS.get(after.checked_sub(1)?)?;
    (number <= row.last).then_some(row)
}

/// The row of a register that exists and that the access may use.
fn checked(cpu: &Cpu<'_, Riscv>, used: Use) -> Option<&'static Row> {
    let level = u64::from(used.number >> 8 & 3);
    if cpu.state.privilege.bits() < level || used.writes && used.number >> 10 == 3 {
        return None;
    }
    let row = find(used.number)?;
    let shape_fits = match row.kind {
        Kind::High(_) => cpu.guest.is_rv32(),
        _ => true,
    };
    (shape_fits && (row.exists)(cpu.guest) && (row.allowed)(cpu, used)).then_some(row)
}

fn read(cpu: C<'_, '_>, row: &Row, number: u16) -> u64 {
    match row.kind {
        Kind::Plain(get, _) | Kind::Wide(get, _) => {
            let value = get(cpu, number);
            cpu.guest.value(value)
        }
        Kind::High(less) => match find(number - less).map(|low| low.kind) {
            Some(Kind::Plain(get, _) | Kind::Wide(get, _)) => {
                let value = get(cpu, number - less);
                cpu.guest.value(value >> 32)
            }
            _ => 0,
        },
    }
}

fn write(cpu: C<'_, '_>, row: &Row, number: u16, value: u64) {
    const LOW: u64 = 0xffff_ffff;
    match row.kind {
        Kind::Plain(_, set) => set(cpu, number, value),
        Kind::Wide(get, set) if cpu.guest.is_rv32() => {
            let high = get(cpu, number) & !LOW;
            set(cpu, number, high | value & LOW);
        }
        Kind::Wide(_, set) => set(cpu, number, value),
        Kind::High(less) => {
            if let Some(Kind::Wide(get, set)) = find(number - less).map(|low| low.kind) {
                let low = get(cpu, number - less) & LOW;
                set(cpu, number - less, low | value << 32);
            }
        }
    }
}

/// Executes a CSR instruction whose operand (rs1's value or the immediate) is given; the register's
/// old value.
///
/// # Errors
/// Illegal instruction, with the instruction's bits.
pub(crate) fn execute(cpu: C<'_, '_>, insn: u32, operand: u64) -> Result<u64, Trap> {
    let number = (insn >> 20) as u16;
    let swaps = insn >> 12 & 3 == 1;
    let used = Use { number, writes: swaps || insn >> 15 & 31 != 0 };
    let illegal = Trap::illegal(u64::from(insn));
    let row = checked(cpu, used).ok_or(illegal)?;
    let (value, mask) = match insn >> 12 & 3 {
        _ if !used.writes => (0, 0),
        1 => (operand, u64::MAX),
        2 => (operand, operand),
        _ => (0, operand),
    };
    if let Some(access) = aia::in_one_step(number) {
        let old = access(cpu, used, value, mask).ok_or(illegal)?;
        return Ok(cpu.guest.value(old));
    }
    let discards = swaps && insn >> 7 & 31 == 0;
    let old = if discards { 0 } else { read(cpu, row, number) };
    if used.writes {
        let base = if swaps { old } else { interrupts::for_modify(cpu, number, old) };
        let new = cpu.guest.value(base & !mask | value & mask);
        write(cpu, row, number, new);
    }
    Ok(old)
}

/// Numbers and names of the registers that a hart has.
pub fn names(hart: &Riscv) -> impl Iterator<Item = (u16, &'static str)> {
    let exists =
        |row: &&Row| (row.exists)(hart) && (hart.is_rv32() || !matches!(row.kind, Kind::High(_)));
    table::ROWS.iter().filter(exists).map(|row| (row.first, row.name))
}

#[cfg(test)]
mod tests;
